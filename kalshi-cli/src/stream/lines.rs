//! Frames as lines of NDJSON: data as it came over the wire, and what is missing as lines of its own.
//! Pure: the order of the lines is that of the frames.

use kalshi_sdk::{
    UnixMillis,
    streams::{DisconnectReason, Event, PriceConvention, Replay},
};

use kalshi_ws::recording::RecordingHeader;

use crate::json::Json;

/// Turns frames into lines.
pub(super) struct Lines {
    replay: Replay,
    /// The start of the recording that the frames are of, from the header of its files.
    started: Option<UnixMillis>,
    printed: Vec<String>,
}

impl Lines {
    pub(super) fn new() -> Self {
        // Frames are printed as they came: their prices are not read here.
        let replay = Replay::new(PriceConvention::Yes);
        Self { replay, started: None, printed: Vec::new() }
    }

    /// Returns the lines of the beginning of a file: none if it continues the recording before it.
    pub(super) fn header(&mut self, header: &RecordingHeader) -> Vec<String> {
        match self.started.replace(header.started) {
            Some(before) if before != header.started => {
                self.disconnected("another recording begins")
            }
            _ => Vec::new(),
        }
    }

    /// Returns the lines of a frame: none for the answer to a command.
    pub(super) fn frame(&mut self, text: &str, at: UnixMillis) -> Vec<String> {
        let lines = &mut self.printed;
        self.replay.frame(text, at, |event| lines.extend(line(&event, text)));
        std::mem::take(lines)
    }

    /// Returns the lines of a connection that was lost.
    pub(super) fn disconnected(&mut self, reason: &str) -> Vec<String> {
        let lines = &mut self.printed;
        let lost = DisconnectReason::Failed(reason.to_owned());
        // What follows from it is said by the line below.
        self.replay.disconnected(lost, |_| {});
        lines.push(object("disconnected", [("reason", Json::text(reason))]));
        std::mem::take(lines)
    }
}

/// Returns the line of a connection that was made.
pub(super) fn connected() -> String {
    object("connected", [])
}

/// Returns the line of messages that are missing because the reader of the output is too slow.
pub(super) fn lagged(dropped: u64) -> String {
    object("gap", [("cause", Json::text("too slow")), ("dropped", Json::number(dropped))])
}

fn object<const N: usize>(kind: &str, members: [(&str, Json); N]) -> String {
    let kind = ("type", Json::text(kind));
    Json::object(std::iter::once(kind).chain(members)).to_string()
}

fn list(items: &[String]) -> Json {
    Json::List(items.iter().map(Json::text).collect())
}

fn line(event: &Event, text: &str) -> Option<String> {
    let channel = |channel: &dyn ToString| ("channel", Json::text(channel.to_string()));
    let number = |number: Option<i64>| number.map_or(Json::Null, Json::number);
    Some(match event {
        Event::Message(_) | Event::Unmatched(_) | Event::Unknown(_) => one_line(text),
        Event::Gap { channel: name, sid, expected, received } => object(
            "gap",
            [
                channel(name),
                ("sid", Json::number(sid)),
                ("expected", number(*expected)),
                ("received", number(*received)),
            ],
        ),
        Event::Resynced { channel: name, sid } => {
            object("resynced", [channel(name), ("sid", Json::number(sid))])
        }
        Event::Overdue { channel: name, items, .. } => {
            object("gap", [channel(name), ("overdue", list(items))])
        }
        Event::Terminated { channel: name, .. } => object("terminated", [channel(name)]),
        Event::Malformed(_) => object("gap", [("malformed", Json::text(text))]),
        Event::ServerError(_) => object("error", [("text", Json::text(text))]),
        _ => return None,
    })
}

/// Returns a JSON text on one line.
fn one_line(text: &str) -> String {
    let text = text.trim();
    if !text.contains(['\n', '\r']) {
        return text.to_owned();
    }
    // Line ends within JSON become blanks; what is no JSON is quoted.
    match Json::parse(text) {
        Ok(json) => json.to_string(),
        Err(_) => object("gap", [("malformed", Json::text(text))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMillis = UnixMillis::EPOCH;
    const SUBSCRIBED: &str = r#"{"id":1,"type":"subscribed","msg":{"channel":"trade","sid":1}}"#;

    fn trade(seq: i64) -> String {
        format!(
            r#"{{"type":"trade","sid":1,"seq":{seq},"msg":{{"trade_id":"t{seq}","market_ticker":"A","yes_price_dollars":"0.3600","no_price_dollars":"0.6400","count_fp":"1.00","taker_outcome_side":"yes","taker_book_side":"bid","taker_side":"yes","is_block_trade":false,"ts":1,"ts_ms":1000}}}}"#
        )
    }

    #[test]
    fn data_is_as_it_came_and_a_gap_is_a_line_before_it() {
        let mut lines = Lines::new();
        assert_eq!(lines.frame(SUBSCRIBED, AT), [""; 0]);
        assert_eq!(lines.frame(&trade(1), AT), [trade(1)]);
        let after = lines.frame(&trade(4), AT);
        assert_eq!(
            after,
            [r#"{"type":"gap","channel":"trade","sid":1,"expected":2,"received":4}"#, &trade(4)]
        );
    }

    #[test]
    fn a_frame_of_several_lines_is_one_and_one_that_does_not_read_is_a_gap() {
        let mut lines = Lines::new();
        lines.frame(SUBSCRIBED, AT);
        let text = trade(1).replace(",\"msg\"", ",\n\"msg\"");
        assert_eq!(lines.frame(&text, AT), [trade(1)]);
        for line in lines.frame("{\"type\":\"trade\",\"sid\":1,\"seq\":2,\"ms", AT) {
            assert!(line.starts_with(r#"{"type":"gap""#), "{line}");
        }
    }

    #[test]
    fn a_lost_connection_is_one_line() {
        let mut lines = Lines::new();
        lines.frame(SUBSCRIBED, AT);
        assert_eq!(
            lines.disconnected("reset \"by\" peer"),
            [r#"{"type":"disconnected","reason":"reset \"by\" peer"}"#]
        );
        assert_eq!(lagged(3), r#"{"type":"gap","cause":"too slow","dropped":3}"#);
    }
}
