//! Messages as frames of the exchange.

use kalshi_types::UnixMillis;
use kalshi_ws::{Delta, Message, Payload};
use serde::Serialize;

/// Writes a message as a frame of the exchange, with the fields that this version knows; `None` for a
/// message that no publisher publishes.
///
/// # Examples
///
/// ```
/// use kalshi_fanout::write_frame;
/// use kalshi_types::UnixMillis;
/// use kalshi_ws::{Decoder, Frame};
///
/// let text = r#"{"type":"event_fee_update","sid":1,"seq":1,"msg":{"event_ticker":"E","fee_type_override":null,"fee_multiplier_override":null}}"#;
/// let Frame::Message(message) = Decoder::new().decode(text, UnixMillis::EPOCH) else { panic!() };
/// assert!(write_frame(&message).is_some_and(|frame| frame.contains(r#""event_ticker":"E""#)));
/// ```
pub fn write_frame(message: &Message) -> Option<String> {
    written(message, None)
}

/// Writes the frame of a message, with another change in place of its own.
pub(crate) fn written(message: &Message, public: Option<&Delta>) -> Option<String> {
    fn of<T: Serialize>(message: &Message, msg: &T) -> Option<String> {
        #[derive(Serialize)]
        struct Frame<'a, T> {
            #[serde(rename = "type")]
            kind: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            sid: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            seq: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            sending_ts_ms: Option<UnixMillis>,
            msg: &'a T,
        }
        let (sid, seq, sending_ts_ms) = (message.sid, message.seq, message.sent);
        let kind = message.payload.kind();
        serde_json::to_string(&Frame { kind, sid, seq, sending_ts_ms, msg }).ok()
    }
    match &message.payload {
        Payload::OrderbookDelta(delta) => of(message, public.unwrap_or(delta)),
        Payload::OrderbookSnapshot(snapshot) => of(message, snapshot),
        Payload::Trade(trade) => of(message, trade),
        Payload::Ticker(ticker) => of(message, ticker),
        Payload::MarketLifecycleV2(market) => of(message, market),
        Payload::MarketMetadataUpdated(market) => of(message, market),
        Payload::MultivariateMarketLifecycle(market) => of(message, market),
        Payload::EventLifecycle(event) => of(message, event),
        Payload::EventFeeUpdate(event) => of(message, event),
        Payload::Fill(fill) => of(message, fill),
        Payload::UserOrder(order) => of(message, order),
        Payload::MarketPosition(position) => of(message, position),
        _ => None,
    }
}
