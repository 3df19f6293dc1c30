//! Decodes the text of a frame.
//!
//! Reads the envelope field by field, then `msg` straight into its message. A field of the envelope
//! that cannot be read never hides the others. Nothing is refused and nothing is dropped: a type
//! that this version does not know is kept whole, and so is a frame that does not decode, with the
//! reason.

use std::{
    borrow::{Borrow, Cow},
    collections::HashSet,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
};

use foldhash::fast::RandomState;
use kalshi_types::UnixMillis;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    message::{Market, Message, ServerError, Sid},
    scan::{Enveloped, Scanned, envelope},
};
use crate::{
    generated::types::{ListSubscriptionsResponseItem, SubscribedResponse},
    product::{EventContracts, Product},
};

/// The number of markets whose names deltas share. The exchange allows 500,000 in a session; beyond
/// this number every delta brings its own.
pub(crate) const MAX_MARKETS: usize = 1_000_000;

/// The content of one frame.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Frame<P: Product = EventContracts> {
    /// A message of a channel.
    Message(Message<P>),
    /// A subscription exists from here on.
    Subscribed {
        /// The command that requested it.
        id: Option<i64>,
        /// The name of the channel.
        channel: String,
        /// The number of the subscription.
        sid: Sid,
        /// The time at which the exchange queued it to the network.
        sent: Option<UnixMillis>,
    },
    /// A subscription ended because a command requested it.
    Unsubscribed {
        /// The command.
        id: Option<i64>,
        /// The subscription.
        sid: Sid,
        /// The sequence number of the reply within the subscription.
        seq: Option<i64>,
        /// The time at which the exchange queued it to the network.
        sent: Option<UnixMillis>,
    },
    /// A command was carried out.
    Done {
        /// The command.
        id: Option<i64>,
        /// The subscription that the command changed.
        sid: Option<Sid>,
        /// The sequence number of the reply within the subscription.
        seq: Option<i64>,
        /// The items of the subscription after the command, when the exchange lists them.
        items: SubscribedItems,
        /// The time at which the exchange queued it to the network.
        sent: Option<UnixMillis>,
    },
    /// The subscriptions of the connection.
    Subscriptions {
        /// The command that requested them.
        id: Option<i64>,
        /// Channel and number of each.
        list: Vec<ListSubscriptionsResponseItem>,
        /// The time at which the exchange queued it to the network.
        sent: Option<UnixMillis>,
    },
    /// A command was refused, or a subscription failed.
    Error {
        /// The command that was refused.
        id: Option<i64>,
        /// The subscription, when the exchange names it.
        sid: Option<Sid>,
        /// The sequence number of the error within the subscription.
        seq: Option<i64>,
        /// The error.
        error: ServerError,
        /// The time at which the exchange queued it to the network.
        sent: Option<UnixMillis>,
    },
    /// A message of a type that this version does not know.
    Unknown(Unknown),
    /// A frame that does not decode.
    Malformed(Malformed),
}

/// The items of a subscription, as an `ok` reply lists them. Lists that the reply leaves out are
/// empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct SubscribedItems {
    /// Tickers of markets.
    #[serde(deserialize_with = "kalshi_types::wire::null_as_default")]
    pub market_tickers: Vec<String>,
    /// Ids of markets.
    #[serde(deserialize_with = "kalshi_types::wire::null_as_default")]
    pub market_ids: Vec<String>,
    /// Names of CF Benchmarks indices.
    #[serde(deserialize_with = "kalshi_types::wire::null_as_default")]
    pub index_ids: Vec<String>,
    /// Names of Pyth underlyings.
    #[serde(deserialize_with = "kalshi_types::wire::null_as_default")]
    pub underlying_tickers: Vec<String>,
}

/// A message of a type that this version does not know, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unknown {
    /// Its `type`.
    pub kind: String,
    /// The subscription that it belongs to.
    pub sid: Option<Sid>,
    /// Its sequence number within the subscription.
    pub seq: Option<i64>,
    /// The time at which the exchange queued it to the network.
    pub sent: Option<UnixMillis>,
    /// The frame.
    pub raw: String,
}

/// A frame that does not decode, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Malformed {
    /// Its `type`, if that can be read.
    pub kind: Option<String>,
    /// The subscription that it belongs to, if that can be read.
    pub sid: Option<Sid>,
    /// Its sequence number within the subscription, if that can be read.
    pub seq: Option<i64>,
    /// The time at which the exchange queued it to the network, if that can be read.
    pub sent: Option<UnixMillis>,
    /// The reason.
    pub error: String,
    /// The frame.
    pub raw: String,
}

/// Decodes frames. It remembers the names of markets, so that the deltas of a market share them.
#[derive(Debug, Default)]
pub struct Decoder<P: Product = EventContracts> {
    markets: HashSet<ByTicker, RandomState>,
    /// Places of markets that were forgotten.
    free: Vec<u32>,
    product: PhantomData<P>,
}

/// A market that is found by its ticker.
#[derive(Debug)]
struct ByTicker(Market);

impl Borrow<[u8]> for ByTicker {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.0.ticker_bytes()
    }
}

impl Hash for ByTicker {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.ticker_bytes().hash(state);
    }
}

impl PartialEq for ByTicker {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.ticker_bytes() == other.0.ticker_bytes()
    }
}

impl Eq for ByTicker {}

impl<P: Product> Decoder<P> {
    /// Returns a decoder that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes one frame, which arrived at `received`.
    #[inline]
    pub fn decode(&mut self, text: &str, received: UnixMillis) -> Frame<P> {
        match P::scan(text) {
            Some(scanned) => Frame::Message(self.message(&scanned, received)),
            None => self.decode_any(text, received),
        }
    }

    /// Decodes one frame without the fast path for deltas. The result is the same, later.
    pub fn decode_any(&mut self, text: &str, received: UnixMillis) -> Frame<P> {
        let frame = match read_once(text, received) {
            Some(message) => Ok(Frame::Message(message)),
            None => read(text, received),
        };
        match frame {
            Ok(mut frame) => {
                if let Frame::Message(message) = &mut frame
                    && let Some(market) = P::delta_market(&mut message.payload)
                {
                    *market = self.market(market.ticker(), market.id());
                }
                frame
            }
            Err(malformed) => Frame::Malformed(*malformed),
        }
    }

    /// Returns the message of a delta that was scanned.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a message is large: it is made where it will be")]
    pub(crate) fn message(&mut self, scanned: &Scanned<'_>, received: UnixMillis) -> Message<P> {
        let market = self.market(scanned.market_ticker, scanned.market_id);
        let payload = P::scanned(market, scanned);
        Message {
            sid: Some(scanned.sid),
            seq: Some(scanned.seq),
            id: None,
            sent: scanned.sent.map(UnixMillis::from),
            received,
            payload,
        }
    }

    /// Returns the market that the deltas of these names share.
    #[inline]
    fn market(&mut self, ticker: &str, id: &str) -> Market {
        if let Some(ByTicker(market)) = self.markets.get(ticker.as_bytes())
            && market.id_bytes() == id.as_bytes()
        {
            return market.clone();
        }
        self.new_market(ticker, id)
    }

    #[cold]
    fn new_market(&mut self, ticker: &str, id: &str) -> Market {
        let slot = match self.markets.get(ticker.as_bytes()) {
            // The same ticker with another id: the place is the same, the names are not.
            Some(ByTicker(market)) => u32::try_from(market.slot()).ok(),
            None if self.markets.len() >= MAX_MARKETS => None,
            None => self.free.pop().or_else(|| u32::try_from(self.markets.len()).ok()),
        };
        let Some(slot) = slot else { return Market::new(ticker, id, u32::MAX) };
        let market = Market::new(ticker, id, slot);
        self.markets.replace(ByTicker(market.clone()));
        market
    }

    /// Forgets the names of these markets. The next delta of one of them brings its names again.
    pub fn forget<T: AsRef<str>>(&mut self, tickers: impl IntoIterator<Item = T>) {
        for ticker in tickers {
            if let Some(ByTicker(market)) = self.markets.take(ticker.as_ref().as_bytes())
                && let Ok(slot) = u32::try_from(market.slot())
            {
                self.free.push(slot);
            }
        }
    }

    /// Forgets the names of all markets.
    pub fn clear(&mut self) {
        self.markets.clear();
        self.free.clear();
    }
}

/// The fields around every message, as far as they can be read.
#[derive(Default)]
struct Envelope<'a> {
    kind: Option<Cow<'a, str>>,
    id: Option<i64>,
    sid: Option<Sid>,
    seq: Option<i64>,
    sending_ts_ms: Option<UnixMillis>,
    msg: Option<&'a RawValue>,
    /// `sid` or `seq` is there and is not a number.
    is_misplaced: bool,
}

/// Fills an envelope. What was read before an error stays.
struct Fill<'e, 'a>(&'e mut Envelope<'a>);

impl<'a> DeserializeSeed<'a> for Fill<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Fill<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let envelope = self.0;
        let mut seen = 0_u8;
        // A field that stands there twice says two things: neither can be relied on.
        let mut once = |field: u8| {
            let is_new = seen & (1 << field) == 0;
            seen |= 1 << field;
            if is_new { Ok(()) } else { Err("a field stands there twice") }
        };
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "type" => {
                    once(0).map_err(M::Error::custom)?;
                    let kind: &RawValue = map.next_value()?;
                    let kind: Text<'a> =
                        serde_json::from_str(kind.get()).map_err(M::Error::custom)?;
                    envelope.kind = Some(kind.0);
                }
                "id" => {
                    once(1).map_err(M::Error::custom)?;
                    envelope.id = number(map.next_value()?);
                }
                "sid" => {
                    if once(2).is_err() {
                        envelope.sid = None;
                        return Err(M::Error::custom("`sid` stands there twice"));
                    }
                    let raw: &RawValue = map.next_value()?;
                    envelope.sid = number(raw);
                    envelope.is_misplaced |= envelope.sid.is_none() && raw.get() != "null";
                }
                "seq" => {
                    if once(3).is_err() {
                        envelope.seq = None;
                        return Err(M::Error::custom("`seq` stands there twice"));
                    }
                    let raw: &RawValue = map.next_value()?;
                    envelope.seq = number(raw);
                    envelope.is_misplaced |= envelope.seq.is_none() && raw.get() != "null";
                }
                "sending_ts_ms" => {
                    once(4).map_err(M::Error::custom)?;
                    envelope.sending_ts_ms = number(map.next_value()?).map(UnixMillis::from);
                }
                "msg" => {
                    once(5).map_err(M::Error::custom)?;
                    envelope.msg = Some(map.next_value()?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A text, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Parses a whole number; `None` for anything else.
fn number(raw: &RawValue) -> Option<i64> {
    serde_json::from_str(raw.get()).ok()
}

/// The body of an `error`.
#[derive(Deserialize)]
struct ErrorBody {
    code: i64,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    market_ticker: Option<String>,
    #[serde(default, deserialize_with = "kalshi_types::wire::null_as_default")]
    market_tickers: Vec<String>,
}

/// Decodes a message in the documented layout without looking at its body twice; `None` for what is
/// unusual, and for what does not decode.
fn read_once<P: Product>(text: &str, received: UnixMillis) -> Option<Message<P>> {
    let Enveloped { kind, id, sid, seq, sent, msg } = envelope(text)?;
    // If there were more behind the message, this would not be one value.
    let payload = P::read(kind, msg)?.ok()?;
    // 0 counts as no id.
    let id = id.filter(|id| *id != 0);
    Some(Message { sid, seq, id, sent: sent.map(UnixMillis::from), received, payload })
}

/// Decodes any frame, by the general decoder.
fn read<P: Product>(text: &str, received: UnixMillis) -> Result<Frame<P>, Box<Malformed>> {
    let mut envelope = Envelope::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let filled = Fill(&mut envelope).deserialize(&mut json).and_then(|()| json.end());
    let Envelope { kind, id, sid, seq, sending_ts_ms: sent, msg, is_misplaced } = envelope;
    // 0 counts as no id.
    let id = id.filter(|id| *id != 0);
    let malformed = |error: &dyn fmt::Display| {
        Box::new(Malformed {
            kind: kind.as_deref().map(str::to_owned),
            sid,
            seq,
            sent,
            error: error.to_string(),
            raw: text.to_owned(),
        })
    };
    filled.map_err(|error| malformed(&error))?;
    let Some(name) = kind.as_deref() else { return Err(malformed(&"`type` is missing")) };
    let body = msg.map_or("null", RawValue::get);
    Ok(match name {
        "subscribed" => {
            let SubscribedResponse { channel, sid } =
                serde_json::from_str(body).map_err(|error| malformed(&error))?;
            Frame::Subscribed { id, channel, sid, sent }
        }
        "unsubscribed" => match sid {
            Some(sid) => Frame::Unsubscribed { id, sid, seq, sent },
            None => return Err(malformed(&"`sid` is missing")),
        },
        // Two replies have this type, told apart by what they carry.
        "ok" if body.starts_with('[') => {
            let list = serde_json::from_str(body).map_err(|error| malformed(&error))?;
            Frame::Subscriptions { id, list, sent }
        }
        "ok" => {
            let items: Option<SubscribedItems> =
                serde_json::from_str(body).map_err(|error| malformed(&error))?;
            Frame::Done { id, sid, seq, items: items.unwrap_or_default(), sent }
        }
        "error" => {
            let body: ErrorBody = serde_json::from_str(body).map_err(|error| malformed(&error))?;
            let ErrorBody { code, msg, market_ticker, market_tickers } = body;
            let message = msg.unwrap_or_default();
            let error = ServerError { code, message, market_ticker, market_tickers };
            Frame::Error { id, sid, seq, error, sent }
        }
        name => match P::read(name, body) {
            Some(Ok(payload)) => Frame::Message(Message { sid, seq, id, sent, received, payload }),
            Some(Err(error)) => return Err(malformed(&error)),
            // Its place cannot be told, and it may be of any subscription.
            None if is_misplaced => return Err(malformed(&"`sid` or `seq` is not a number")),
            None => {
                let kind = name.to_owned();
                Frame::Unknown(Unknown { kind, sid, seq, sent, raw: text.to_owned() })
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    const NOW: UnixMillis = UnixMillis::from_millis(1);

    const BODIES: [(&str, &str); 5] = [
        (
            "event_fee_update",
            r#"{"event_ticker":"E","fee_type_override":null,"fee_multiplier_override":null}"#,
        ),
        ("order_group_updates", r#"{"event_type":"reset","order_group_id":"g","ts_ms":5}"#),
        (
            "pyth_value",
            r#"{"underlying_ticker":"M","value_usd":"1.5","source_ts_ms":1,"received_at":2}"#,
        ),
        (
            "orderbook_snapshot",
            r#"{"market_ticker":"A","market_id":"a","clock":1,"yes_dollars_fp":[["0.40","1.00"]]}"#,
        ),
        (
            "orderbook_delta",
            r#"{"market_ticker":"A","market_id":"a","price_dollars":"0.40","delta_fp":"1","side":"no","ts_ms":4,"subaccount":1}"#,
        ),
    ];

    /// Generates a field of the envelope, mostly a valid one.
    fn field(name: &'static str) -> impl Strategy<Value = String> {
        let value = prop_oneof![
            6 => (0..2_000_000_000_000_i64).prop_map(|number| number.to_string()),
            1 => select(vec!["-3", "1.5", "null", "\"4\"", "007", "1e3", "{}", ""]).prop_map(str::to_owned),
        ];
        prop_oneof![
            3 => value.prop_map(move |value| format!(",\"{name}\":{value}")),
            2 => Just(String::new()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn what_is_read_once_is_what_the_general_decoder_reads(
            (kind, body) in select(BODIES.to_vec()),
            id in field("id"),
            sid in field("sid"),
            seq in field("seq"),
            sent in field("sending_ts_ms"),
            after in prop_oneof![
                4 => Just(String::new()),
                1 => field("seq"),
                1 => select(vec!["}", "{", ",", " ", "\n", ",\"x\":{}", ",\"msg\":{}"]).prop_map(str::to_owned),
            ],
            end in select(vec!["", "\n", " ", "}"]),
            cut in 0..30_usize,
        ) {
            let mut frame =
                format!(r#"{{"type":"{kind}"{id}{sid}{seq}{sent},"msg":{body}{after}}}{end}"#);
            frame.truncate(frame.len() - if cut < 4 { cut } else { 0 });
            let general = read::<EventContracts>(&frame, NOW);
            match (read_once(&frame, NOW), general) {
                (Some(once), Ok(Frame::Message(message))) => prop_assert_eq!(once, message),
                (Some(once), other) => panic!("{once:?}, and {other:?}"),
                // It is not sure of anything unusual, and of nothing else.
                (None, general) => {
                    let is_plain = |field: &String| field.is_empty() || field[1..].split(':').nth(1).is_some_and(|value| {
                        value == "0" || !value.starts_with('0') && value.parse::<u64>().is_ok()
                    });
                    let plain = after.is_empty() && [&id, &sid, &seq, &sent].into_iter().all(is_plain);
                    prop_assert!(!plain || general.is_err() || end == " ", "{frame}");
                }
            }
        }
    }
}
