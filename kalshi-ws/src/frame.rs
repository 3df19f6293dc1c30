//! From the text of a frame to what it says.
//!
//! Reads the `type` first and then decodes `msg` straight into its message. Nothing is refused and
//! nothing is dropped: a type that this version does not know is kept whole, and so is what does
//! not decode, with the reason.

use std::{borrow::Cow, collections::HashMap};

use foldhash::fast::RandomState;
use kalshi_types::UnixMillis;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    generated::{
        Payload,
        types::{
            ErrorResponse, ListSubscriptionsResponseItem, MarketSide, OkResponse,
            SubscribedResponse,
        },
    },
    message::{Delta, Market, Message, ServerError, Sid},
    scan::{Scanned, scan},
};

/// Markets that deltas share. The exchange allows 500,000 per session; beyond this number every
/// delta brings its own.
pub(crate) const MAX_MARKETS: usize = 1_000_000;

/// What one frame says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Frame {
    /// A message of a channel.
    Message(Message),
    /// A subscription exists from here on.
    Subscribed {
        /// The command that asked for it.
        id: Option<i64>,
        /// The name of the channel.
        channel: String,
        /// Its number.
        sid: Sid,
    },
    /// A subscription is over because the command asked for that.
    Unsubscribed {
        /// The command.
        id: Option<i64>,
        /// The subscription.
        sid: Sid,
        /// Its number within the subscription.
        seq: Option<i64>,
    },
    /// A command was carried out.
    Done {
        /// The command.
        id: Option<i64>,
        /// The subscription that it was about.
        sid: Option<Sid>,
        /// Its number within the subscription.
        seq: Option<i64>,
        /// The markets of the subscription after it, when the exchange lists them.
        markets: OkResponse,
    },
    /// The subscriptions of the connection.
    Subscriptions {
        /// The command that asked for them.
        id: Option<i64>,
        /// Channel and number of each.
        list: Vec<ListSubscriptionsResponseItem>,
    },
    /// A command was refused, or a subscription failed.
    Error {
        /// The command that was refused.
        id: Option<i64>,
        /// The subscription, when the exchange names it.
        sid: Option<Sid>,
        /// What the exchange says.
        error: ServerError,
    },
    /// A type of message that this version does not know.
    Unknown(Unknown),
    /// A frame that does not decode.
    Malformed(Malformed),
}

/// A message of a type that this version does not know, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unknown {
    /// Its `type`.
    pub kind: String,
    /// The subscription that it belongs to.
    pub sid: Option<Sid>,
    /// Its number within the subscription.
    pub seq: Option<i64>,
    /// The frame.
    pub raw: String,
}

/// A frame that does not decode, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Malformed {
    /// Its `type`, if that much could be read.
    pub kind: Option<String>,
    /// The subscription that it belongs to, if that much could be read.
    pub sid: Option<Sid>,
    /// Its number within the subscription, if that much could be read.
    pub seq: Option<i64>,
    /// What is wrong with it.
    pub error: String,
    /// The frame.
    pub raw: String,
}

/// Reads frames. It remembers the names of markets, so that deltas can share them.
#[derive(Debug, Default)]
pub struct Decoder {
    markets: HashMap<Box<str>, Market, RandomState>,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one frame, which arrived at the time.
    #[inline]
    pub fn decode(&mut self, text: &str, received: UnixMillis) -> Frame {
        match scan(text) {
            Some(scanned) => Frame::Message(self.message(&scanned, received)),
            None => self.decode_any(text, received),
        }
    }

    /// Reads one frame without the short way for deltas. The result is the same, later.
    pub fn decode_any(&mut self, text: &str, received: UnixMillis) -> Frame {
        match read(text, received) {
            Ok(Frame::Message(Message {
                payload: Payload::OrderbookDelta(mut delta),
                sid,
                seq,
                id,
                sent,
                received,
            })) => {
                delta.market = self.market(delta.market.ticker(), delta.market.id());
                let payload = Payload::OrderbookDelta(delta);
                Frame::Message(Message { sid, seq, id, sent, received, payload })
            }
            Ok(frame) => frame,
            Err(malformed) => Frame::Malformed(*malformed),
        }
    }

    #[inline]
    fn message(&mut self, scanned: &Scanned<'_>, received: UnixMillis) -> Message {
        let market = self.market(scanned.market_ticker, scanned.market_id);
        let payload = Payload::OrderbookDelta(Delta {
            market,
            price_dollars: scanned.price,
            delta_fp: scanned.delta,
            side: if scanned.yes { MarketSide::Yes } else { MarketSide::No },
            ts_ms: Some(UnixMillis::from(scanned.ts_ms)),
            own: None,
        });
        Message {
            sid: Some(scanned.sid),
            seq: Some(scanned.seq),
            id: None,
            sent: scanned.sent.map(UnixMillis::from),
            received,
            payload,
        }
    }

    /// The market that the deltas of these names share.
    #[inline]
    fn market(&mut self, ticker: &str, id: &str) -> Market {
        if let Some(market) = self.markets.get(ticker)
            && market.id() == id
        {
            return market.clone();
        }
        self.new_market(ticker, id)
    }

    #[cold]
    fn new_market(&mut self, ticker: &str, id: &str) -> Market {
        let slot = match self.markets.get(ticker) {
            Some(market) => market.slot(),
            None => self.markets.len(),
        };
        if slot >= MAX_MARKETS {
            return Market::new(ticker, id, u32::MAX);
        }
        let market = Market::new(ticker, id, u32::try_from(slot).unwrap_or(u32::MAX));
        self.markets.insert(ticker.into(), market.clone());
        market
    }
}

/// What is around every message.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    id: Option<i64>,
    sid: Option<Sid>,
    seq: Option<i64>,
    sending_ts_ms: Option<UnixMillis>,
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
}

/// Any frame, by the general decoder.
fn read(text: &str, received: UnixMillis) -> Result<Frame, Box<Malformed>> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
        Box::new(Malformed {
            kind: None,
            sid: None,
            seq: None,
            error: error.to_string(),
            raw: text.to_owned(),
        })
    })?;
    let Envelope { kind, id, sid, seq, sending_ts_ms: sent, msg } = envelope;
    // 0 counts as no id.
    let id = id.filter(|id| *id != 0);
    let malformed = |error: &dyn std::fmt::Display| {
        Box::new(Malformed {
            kind: Some(kind.clone().into_owned()),
            sid,
            seq,
            error: error.to_string(),
            raw: text.to_owned(),
        })
    };
    let body = msg.map_or("null", RawValue::get);
    Ok(match &*kind {
        "subscribed" => {
            let SubscribedResponse { channel, sid } =
                serde_json::from_str(body).map_err(|error| malformed(&error))?;
            Frame::Subscribed { id, channel, sid }
        }
        "unsubscribed" => match sid {
            Some(sid) => Frame::Unsubscribed { id, sid, seq },
            None => return Err(malformed(&"`sid` is missing")),
        },
        // Two replies have this type, told apart by what they carry.
        "ok" if body.starts_with('[') => {
            let list = serde_json::from_str(body).map_err(|error| malformed(&error))?;
            Frame::Subscriptions { id, list }
        }
        "ok" => {
            let markets: Option<OkResponse> =
                serde_json::from_str(body).map_err(|error| malformed(&error))?;
            Frame::Done { id, sid, seq, markets: markets.unwrap_or_default() }
        }
        "error" => {
            let error: ErrorResponse =
                serde_json::from_str(body).map_err(|error| malformed(&error))?;
            let ErrorResponse { code, msg: message, market_ticker, .. } = error;
            Frame::Error { id, sid, error: ServerError { code, message, market_ticker } }
        }
        name => match Payload::read(name, body) {
            Some(Ok(payload)) => Frame::Message(Message { sid, seq, id, sent, received, payload }),
            Some(Err(error)) => return Err(malformed(&error)),
            None => {
                Frame::Unknown(Unknown { kind: kind.into_owned(), sid, seq, raw: text.to_owned() })
            }
        },
    })
}
