//! `kalshi market watch`: the best prices of markets, in rows that are rewritten in place at a
//! terminal, and as NDJSON elsewhere.

use std::time::Duration;

use clap::Args;
use kalshi_sdk::{
    Count, Dollars, OperationId,
    auth::{Clock as _, SystemClock},
    streams::{Channel, Event, Payload, Subscription},
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{Stream, at, check, connect, subscribe};
use crate::{
    args::{Format, duration},
    chart::terminal_size,
    context::Context,
    failure::{Failure, Outcome},
    output::{self, safe},
};

/// The operations that it uses.
pub(crate) const OPERATIONS: [OperationId; 1] = [OperationId::GetMarkets];

/// The time between two drawings.
const FRAME: Duration = Duration::from_millis(100);

/// Shows the best prices of markets as they change: rows at a terminal, NDJSON elsewhere.
#[derive(Args)]
pub(crate) struct Watch {
    /// The tickers of the markets.
    #[arg(required = true, value_name = "TICKER")]
    tickers: Vec<String>,
    /// End after this number of lines of NDJSON.
    #[arg(long, value_name = "LINES")]
    count: Option<u64>,
    /// End after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    span: Option<Duration>,
}

impl Watch {
    /// Shows them until the time is over, or Ctrl-C.
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        if matches!(context.output.format, Format::Json | Format::Csv) {
            return Err(Failure::usage("this is a table at a terminal, and NDJSON elsewhere"));
        }
        let rows = self.rows(context).await?;
        let terminal = terminal_size().filter(|_| context.output.is_table());
        let Some((_, height)) = terminal else {
            let mut lines = Stream::tickers(self.tickers, self.count);
            lines.span = self.span;
            return lines.run(context).await;
        };
        let config = context.stream_config().await?.without_books();
        let mut connection = connect(config).await?;
        let tickers: Vec<&str> = rows.iter().map(|row| row.ticker.as_str()).collect();
        let subscription = Subscription::channel(Channel::Ticker)
            .with_items(tickers.iter().map(|ticker| (*ticker).to_owned()))
            .with_initial_snapshot();
        subscribe(&connection, subscription)?;
        let mut board =
            Board { environment: context.target.in_words(), link: Link::Connecting, rows };
        // The line of the status and that of the names, and one for the cursor.
        let hidden = (board.rows.len() + 3).saturating_sub(usize::from(height));
        if hidden > 0 {
            let text = format!("{hidden} of the markets do not fit on this terminal");
            return Err(Failure::usage(text).with_next("fewer tickers, or -o ndjson"));
        }
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let until = self.span.map(|span| Instant::now() + span);
        let (mut drawn, mut second, mut is_changed) = (0, 0, true);
        loop {
            tokio::select! {
                event = connection.next() => {
                    let now = SystemClock.now().as_millis();
                    is_changed |= event.as_ref().is_some_and(|event| board.take(event, now));
                    check(event)?;
                }
                _ = frames.tick() => {
                    let now = SystemClock.now().as_millis();
                    if is_changed || now / 1_000 != second {
                        let width = terminal_size().map_or(80, |(width, _)| usize::from(width));
                        let lines = board.lines(now, width, context.output.has_color());
                        output::print(&in_place(&lines, drawn))?;
                        (drawn, second, is_changed) = (lines.len(), now / 1_000, false);
                    }
                }
                () = at(until) => return Ok(()),
            }
        }
    }

    /// Reads the markets as they stand, in the order in which they are named.
    async fn rows(&self, context: &Context) -> Outcome<Vec<Row>> {
        let client = context.public_client().await?;
        let failed = crate::order::failed(OperationId::GetMarkets);
        let now = SystemClock.now().as_millis();
        let mut found = client.get_markets().tickers(&*self.tickers).all().await.map_err(failed)?;
        let mut rows = Vec::new();
        for ticker in &self.tickers {
            let place = found.iter().position(|market| market.ticker == *ticker);
            let Some(place) = place else {
                if rows.iter().any(|row: &Row| row.ticker == *ticker) {
                    continue;
                }
                return Err(Failure::usage(format!("there is no market {ticker}")));
            };
            let market = found.swap_remove(place);
            rows.push(Row {
                ticker: market.ticker,
                quote: Quote {
                    bid: (market.yes_bid_dollars, market.yes_bid_size_fp),
                    ask: (market.yes_ask_dollars, market.yes_ask_size_fp),
                    last: market.last_price_dollars,
                    volume: market.volume_fp,
                },
                is_up: None,
                at: now,
                is_stale: false,
            });
        }
        Ok(rows)
    }
}

/// Returns lines that take the place of as many as were drawn before.
fn in_place(lines: &[String], drawn: usize) -> String {
    let mut text = if drawn > 0 { format!("\u{1b}[{drawn}A") } else { String::new() };
    for line in lines {
        text.push_str("\r\u{1b}[2K");
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The best prices of a market for YES. A side without orders has the price of its edge, and a count
/// of zero.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Quote {
    bid: (Dollars, Count),
    ask: (Dollars, Count),
    last: Dollars,
    volume: Count,
}

#[derive(Debug)]
struct Row {
    ticker: String,
    quote: Quote,
    /// The direction of the last change of the last price.
    is_up: Option<bool>,
    /// The time when the exchange last said so, in milliseconds since 1970.
    at: i64,
    /// True if something newer may have been missed.
    is_stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Connecting,
    Live,
    Lost,
}

/// The rows, and the state of the stream. Pure: the time is an argument.
#[derive(Debug)]
struct Board {
    environment: String,
    link: Link,
    rows: Vec<Row>,
}

impl Board {
    /// Takes in an event, and reports whether what is shown changed.
    fn take(&mut self, event: &Event, now: i64) -> bool {
        match event {
            Event::Message(message) => {
                let Payload::Ticker(tick) = &message.payload else { return false };
                let row = self.rows.iter_mut().find(|row| row.ticker == tick.market_ticker);
                let Some(row) = row else { return false };
                let before = row.quote.last;
                row.quote = Quote {
                    bid: (tick.yes_bid_dollars, tick.yes_bid_size_fp),
                    ask: (tick.yes_ask_dollars, tick.yes_ask_size_fp),
                    last: tick.price_dollars,
                    volume: tick.volume_fp,
                };
                if row.quote.last != before {
                    row.is_up = Some(row.quote.last > before);
                }
                row.at = now;
                row.is_stale = false;
            }
            Event::Subscribed { .. } => self.link = Link::Live,
            Event::Disconnected { .. } | Event::Stale { .. } | Event::Terminated { .. } => {
                self.link = Link::Lost;
                self.mark_stale();
            }
            Event::Reconnected { .. } => self.link = Link::Connecting,
            // Of which market something is missing is not known.
            Event::Gap { .. } | Event::Lagged { .. } | Event::Overdue { .. } => self.mark_stale(),
            _ => return false,
        }
        true
    }

    fn mark_stale(&mut self) {
        for row in &mut self.rows {
            row.is_stale = true;
        }
    }

    /// Returns the lines of a terminal of a width: none is longer.
    fn lines(&self, now: i64, width: usize, has_color: bool) -> Vec<String> {
        let paint = |code: &str, text: &str| {
            if has_color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        // Nine columns of numbers, and what they leave for the name.
        let has_volume = width >= 72;
        let numbers = if has_volume { 62 } else { 51 };
        let name = width.saturating_sub(numbers).clamp(8, 40);
        let (mark, word, code) = match self.link {
            Link::Connecting => ("○", "connecting", "33"),
            Link::Live => ("●", "live", "32"),
            Link::Lost => ("○", "lost", "31"),
        };
        let status = fit(&format!("{mark} {word}  {}", safe(&self.environment)), width, false);
        let volume = |text: &str| if has_volume { fit(text, 11, true) } else { String::new() };
        let names = format!(
            "{}{}{}{}{}{}{}{}",
            fit("market", name, false),
            fit("count", 8, true),
            fit("bid", 8, true),
            fit("ask", 8, true),
            fit("count", 8, true),
            fit("last", 9, true),
            volume("volume"),
            fit("age", 10, true),
        );
        let mut lines = vec![paint(code, status.trim_end()), paint("1", &cut(&names, width))];
        for row in &self.rows {
            let side = |(price, count): (Dollars, Count)| {
                if count.is_zero() {
                    (String::new(), String::new())
                } else {
                    (price.to_string(), whole(count))
                }
            };
            let ((bid, bid_count), (ask, ask_count)) = (side(row.quote.bid), side(row.quote.ask));
            let last = if row.quote.last.is_positive() {
                let mark = row.is_up.map_or(" ", |is_up| if is_up { "▲" } else { "▼" });
                format!("{mark} {}", row.quote.last)
            } else {
                String::new()
            };
            let age = age(now.saturating_sub(row.at));
            let age = if row.is_stale { format!("stale {age}") } else { age };
            let (left, right) = (
                format!(
                    "{}{}{}{}{}",
                    fit(&safe(&row.ticker), name, false),
                    fit(&bid_count, 8, true),
                    fit(&bid, 8, true),
                    fit(&ask, 8, true),
                    fit(&ask_count, 8, true),
                ),
                format!("{}{}", volume(&whole(row.quote.volume)), fit(&age, 10, true)),
            );
            let last = fit(&last, 9, true);
            // A terminal that is narrower than any row has no colors: they would be cut.
            let line = format!("{left}{last}{right}");
            lines.push(if line.width() > width {
                cut(&line, width)
            } else if row.is_stale {
                paint("2", &line)
            } else {
                let code = match row.is_up {
                    Some(true) => "32",
                    Some(false) => "31",
                    None => "0",
                };
                format!("{left}{}{right}", paint(code, &last))
            });
        }
        lines
    }
}

/// Returns a count without zeros at its end.
fn whole(count: Count) -> String {
    let text = count.to_string();
    text.strip_suffix(".00").map_or_else(|| text.clone(), str::to_owned)
}

/// Returns a time of milliseconds in the unit that says enough.
fn age(millis: i64) -> String {
    match millis.max(0) / 1_000 {
        seconds @ ..=99 => format!("{seconds}s"),
        seconds @ 100..=5_999 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3_600),
    }
}

/// Returns the beginning of a text that fits a width; what is cut shows.
fn cut(text: &str, to: usize) -> String {
    if text.width() <= to {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        if out.width() + c.width().unwrap_or(0) + 1 > to {
            break;
        }
        out.push(c);
    }
    out.push_str(if to > 0 { "…" } else { "" });
    out
}

/// Cuts or pads a text to a width; one that is flush right keeps a blank before it.
fn fit(text: &str, to: usize, is_right: bool) -> String {
    let text = cut(text, if is_right { to.saturating_sub(1) } else { to });
    let pad = " ".repeat(to.saturating_sub(text.width()));
    if is_right { format!("{pad}{text}") } else { format!("{text}{pad}") }
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::{
        UnixMillis,
        streams::{DisconnectReason, PriceConvention, Replay},
    };

    use super::*;

    fn quote(bid: &str, last: &str) -> Quote {
        let count = |text: &str| text.parse().unwrap();
        Quote {
            bid: (bid.parse().unwrap(), count("120")),
            ask: ("0.5700".parse().unwrap(), count("12.5")),
            last: last.parse().unwrap(),
            volume: count("18250"),
        }
    }

    fn board() -> Board {
        let row = |ticker: &str| Row {
            ticker: ticker.to_owned(),
            quote: quote("0.5500", "0.5600"),
            is_up: None,
            at: 1_000,
            is_stale: false,
        };
        let rows = vec![row("KXA"), row("KXHIGHNY-26NOV27-B62-BETWEEN-THEM-ALL")];
        Board { environment: "demo (mock money)".to_owned(), link: Link::Connecting, rows }
    }

    /// Plays frames to a board, and returns what it takes in.
    fn play(board: &mut Board, frames: &[&str], now: i64) {
        let mut replay = Replay::new(PriceConvention::Yes);
        for frame in frames {
            replay.frame(frame, UnixMillis::EPOCH, |event| {
                board.take(&event, now);
            });
        }
    }

    const SUBSCRIBED: &str = r#"{"id":1,"type":"subscribed","msg":{"channel":"ticker","sid":1}}"#;

    fn tick(price: &str) -> String {
        format!(
            r#"{{"type":"ticker","sid":1,"msg":{{"market_ticker":"KXA","market_id":"m","price_dollars":"{price}","yes_bid_dollars":"0.5800","yes_ask_dollars":"0.6000","volume_fp":"18260.00","open_interest_fp":"1.00","dollar_volume":1,"dollar_open_interest":1,"yes_bid_size_fp":"7.00","yes_ask_size_fp":"0.00","last_trade_size_fp":"1.00","ts":1,"ts_ms":1000,"time":"1970-01-01T00:00:01Z"}}}}"#
        )
    }

    #[test]
    fn a_message_changes_its_row_alone_and_says_where_the_price_went() {
        let mut board = board();
        play(&mut board, &[SUBSCRIBED, &tick("0.5900")], 9_000);
        assert_eq!(board.link, Link::Live);
        assert_eq!((board.rows[0].is_up, board.rows[0].at), (Some(true), 9_000));
        assert_eq!((board.rows[1].is_up, board.rows[1].at), (None, 1_000));
        let lines = board.lines(12_000, 91, false);
        assert_eq!(
            lines,
            [
                "● live  demo (mock money)",
                "market                          count     bid     ask   count     last     volume       age",
                "KXA                                 7  0.5800                 ▲ 0.5900      18260        3s",
                "KXHIGHNY-26NOV27-B62-BETWEEN…     120  0.5500  0.5700   12.50   0.5600      18250       11s",
            ]
        );
    }

    #[test]
    fn what_may_be_missing_is_stale_until_the_next_message_of_its_market() {
        let mut board = board();
        play(&mut board, &[SUBSCRIBED, &tick("0.5900")], 9_000);
        let lost = Event::Disconnected { reason: DisconnectReason::Silent };
        assert!(board.take(&lost, 10_000));
        assert_eq!(board.link, Link::Lost);
        for line in &board.lines(12_000, 91, false)[2..] {
            assert!(line.contains("stale"), "{line}");
        }
        play(&mut board, &[SUBSCRIBED, &tick("0.5800")], 13_000);
        let lines = board.lines(13_000, 91, false);
        assert!(!lines[2].contains("stale") && lines[2].contains('▼'), "{lines:?}");
        assert!(lines[3].contains("stale 12s"), "{lines:?}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_color_is_none() {
        let mut board = board();
        board.rows[0].ticker = "\u{1b}[2J漢字".to_owned();
        for width in [0, 1, 20, 57, 58, 60, 71, 72, 80, 100, 200] {
            for line in board.lines(99_000_000, width, false) {
                assert!(line.width() <= width, "{width}: {line}");
                assert!(!line.contains('\u{1b}'), "{line}");
            }
        }
        assert!(board.lines(0, 80, true)[0].starts_with("\u{1b}[33m"));
    }

    #[test]
    fn lines_are_drawn_over_those_before() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(in_place(&lines, 0), "\r\u{1b}[2Ka\n\r\u{1b}[2Kb\n");
        assert!(in_place(&lines, 2).starts_with("\u{1b}[2A\r"));
    }
}
