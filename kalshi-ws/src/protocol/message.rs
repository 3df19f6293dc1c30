//! The messages of channels, decoded.

use std::{borrow::Cow, fmt, sync::Arc};

use kalshi_types::{Count, Dollars, UnixMillis};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    generated::{Channel, Payload, types::MarketSide},
    product::{EventContracts, Product},
};

/// The number that the exchange gives a subscription; it holds for one connection.
pub type Sid = i64;

/// A message of a channel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Message<P: Product = EventContracts> {
    /// The subscription that it belongs to.
    pub sid: Option<Sid>,
    /// Its sequence number within the subscription, on the channels that have them.
    pub seq: Option<i64>,
    /// The command that it answers, if it answers one.
    pub id: Option<i64>,
    /// The time at which the exchange queued it to the network.
    pub sent: Option<UnixMillis>,
    /// The time at which this machine read it, by the clock of the configuration.
    pub received: UnixMillis,
    /// The content.
    pub payload: P::Payload,
}

impl<P: Product> Message<P> {
    /// Returns the milliseconds from the time of sending to the time of reading. Negative where the
    /// clocks of the exchange and of this machine differ.
    ///
    /// ```
    /// use kalshi_types::UnixMillis;
    /// use kalshi_ws::{Decoder, Frame};
    ///
    /// let frame = r#"{"type":"event_fee_update","sid":1,"seq":1,"sending_ts_ms":1700000000000,"msg":{"event_ticker":"E","fee_type_override":null,"fee_multiplier_override":null}}"#;
    /// let read = UnixMillis::from_millis(1_700_000_000_042);
    /// let Frame::Message(message) = Decoder::new().decode(frame, read) else { panic!() };
    /// assert_eq!(message.lag_millis(), Some(42));
    /// ```
    pub fn lag_millis(&self) -> Option<i64> {
        self.received.as_millis().checked_sub(self.sent?.as_millis())
    }

    /// Returns the clock of the market's book, for snapshots and deltas: see [`Payload::clock`].
    /// Always `None` on the streams of perpetual futures, whose books have none.
    #[inline]
    pub fn clock(&self) -> Option<i64> {
        P::clock(&self.payload)
    }
}

/// One type of message, as the document describes it.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageKind<C: 'static = Channel> {
    /// The value of `type` on the wire.
    pub name: &'static str,
    /// The channels that send it.
    pub channels: &'static [C],
    /// True if it carries a sequence number, so that a loss is noticed.
    pub sequenced: bool,
}

impl<C> Clone for MessageKind<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for MessageKind<C> {}

/// A change of one level of an order book, the `orderbook_delta` message.
///
/// Written by hand, because it arrives more often than all other messages together: it is small, and
/// its market is shared with the deltas before it, so that reading one allocates nothing. The
/// deprecated `ts` of the wire is not kept; it fills in for `ts_ms` where that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delta {
    /// The market.
    pub market: Market,
    /// The price of the level, in dollars per contract. On either side it is the price of YES,
    /// because this crate always requests that.
    pub price_dollars: Dollars,
    /// The contracts that are added to the level, or leave it when negative.
    pub delta_fp: Count,
    /// The side of the resting orders: `yes` for bids, `no` for asks in terms of YES.
    pub side: MarketSide,
    /// The number of the newest change of this market's book that the message holds. The same on
    /// every connection; several deltas may share one, and numbers are skipped. `None` on frames
    /// from before October 2026.
    pub clock: Option<i64>,
    /// The time of the change, in milliseconds since 1970.
    pub ts_ms: Option<UnixMillis>,
    /// Details of a change by one of your own orders.
    pub own: Option<Box<OwnChange>>,
}

/// Details of a change by one of your own orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnChange {
    /// The client order id.
    pub client_order_id: Option<String>,
    /// The subaccount, when the order named one.
    pub subaccount: Option<i64>,
}

/// A market as deltas name it. Cheap to clone, and compared by address first.
#[derive(Clone)]
pub struct Market(Arc<Names>);

struct Names {
    /// Its place among the markets of its decoder.
    slot: u32,
    ticker_length: u32,
    text: Text,
}

/// The ticker, and behind it the id. In the same piece as the rest if it is not too long: with many
/// markets each piece is a wait for memory.
enum Text {
    Short(u8, [u8; Self::SHORT]),
    Long(Box<[u8]>),
}

impl Text {
    /// An id has 36 bytes, and a ticker seldom more than 50.
    const SHORT: usize = 95;

    fn new(text: &[u8]) -> Self {
        let mut bytes = [0; Self::SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(part), Ok(length)) => {
                part.copy_from_slice(text);
                Self::Short(length, bytes)
            }
            _ => Self::Long(text.into()),
        }
    }
}

impl Market {
    pub(crate) fn new(ticker: &str, id: &str, slot: u32) -> Self {
        // A frame is far shorter than that.
        let ticker_length = u32::try_from(ticker.len()).unwrap_or(u32::MAX);
        let text = Text::new([ticker, id].concat().as_bytes());
        Self(Arc::new(Names { slot, ticker_length, text }))
    }

    /// Returns the ticker.
    pub fn ticker(&self) -> &str {
        str::from_utf8(self.ticker_bytes()).unwrap_or_default()
    }

    /// Returns the id, a UUID.
    pub fn id(&self) -> &str {
        str::from_utf8(self.id_bytes()).unwrap_or_default()
    }

    /// Returns the ticker without checking again that it is text.
    #[inline]
    pub(crate) fn ticker_bytes(&self) -> &[u8] {
        self.bytes().get(..self.0.ticker_length as usize).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn id_bytes(&self) -> &[u8] {
        self.bytes().get(self.0.ticker_length as usize..).unwrap_or_default()
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match &self.0.text {
            Text::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Text::Long(bytes) => bytes,
        }
    }

    /// Returns the place among the markets of the decoder, for tables of one entry a market.
    #[inline]
    pub(crate) fn slot(&self) -> usize {
        self.0.slot as usize
    }

    #[inline]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl PartialEq for Market {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.ticker() == other.ticker() && self.id() == other.id()
    }
}

impl Eq for Market {}

impl fmt::Debug for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Market").field("ticker", &self.ticker()).field("id", &self.id()).finish()
    }
}

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ticker())
    }
}

/// An error of the exchange: it refused a command, or ended a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerError {
    /// The code; [`is_terminal`](Self::is_terminal) reports those that end a subscription. New ones
    /// come.
    pub code: i64,
    /// The message of the exchange.
    pub message: String,
    /// The market that is at fault, when the exchange names one.
    pub market_ticker: Option<String>,
    /// The markets that are at fault, when the exchange names several.
    pub market_tickers: Vec<String>,
}

impl ServerError {
    /// The exchange does not know the subscription.
    pub const UNKNOWN_SUBSCRIPTION: i64 = 7;
    /// The subscription's channel failed at the exchange.
    pub const CHANNEL_ERROR: i64 = 10;
    /// The exchange did not carry out a command in time.
    pub const COMMAND_TIMEOUT: i64 = 18;
    /// The subscription was cut off because the client read too slowly.
    pub const BUFFER_OVERFLOW: i64 = 25;
    /// The subscription has as many markets as it may have.
    pub const MARKET_LIMIT: i64 = 26;
    /// Too many commands for one subscription.
    pub const TOO_MANY_COMMANDS: i64 = 27;

    /// Reports whether the subscription is dead and must be made anew.
    pub fn is_terminal(&self) -> bool {
        matches!(self.code, Self::CHANNEL_ERROR | Self::BUFFER_OVERFLOW)
    }

    /// Reports whether the same command may succeed later.
    pub fn is_transient(&self) -> bool {
        self.is_terminal() || matches!(self.code, Self::COMMAND_TIMEOUT | Self::TOO_MANY_COMMANDS)
    }

    /// Reports whether the subscription of the command is gone: it failed, or the exchange does not
    /// know it any more.
    pub(crate) fn ends_subscription(&self) -> bool {
        self.is_terminal() || self.code == Self::UNKNOWN_SUBSCRIPTION
    }

    /// Reports whether one of the items of a command may be at fault, rather than the command.
    pub(crate) fn may_be_about_an_item(&self) -> bool {
        let is_about_command =
            matches!(self.code, 1..=9 | 12 | 13 | 15 | 19..=24 | Self::MARKET_LIMIT | 28);
        !is_about_command && !self.is_transient()
    }

    /// Returns the markets that the exchange names.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        self.market_tickers.iter().chain(&self.market_ticker).map(String::as_str)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}: {}", self.code, self.message)?;
        for (number, ticker) in self.named().enumerate() {
            f.write_str(if number == 0 { " (" } else { ", " })?;
            f.write_str(ticker)?;
        }
        f.write_str(if self.named().next().is_some() { ")" } else { "" })
    }
}

impl std::error::Error for ServerError {}

impl Payload {
    /// Returns the market that the message is about, for the messages that are about one.
    pub fn market_ticker(&self) -> Option<&str> {
        Some(match self {
            Self::Fill(fill) => &fill.market_ticker,
            Self::MarketLifecycleV2(market) => &market.market_ticker,
            Self::MarketMetadataUpdated(market) => &market.market_ticker,
            Self::MarketPosition(position) => &position.market_ticker,
            Self::MultivariateMarketLifecycle(market) => &market.market_ticker,
            Self::OrderbookDelta(delta) => delta.market.ticker(),
            Self::OrderbookSnapshot(snapshot) => &snapshot.market_ticker,
            Self::QuoteAccepted(quote) => &quote.market_ticker,
            Self::QuoteCreated(quote) => &quote.market_ticker,
            Self::QuoteExecuted(quote) => &quote.market_ticker,
            Self::RfqCreated(rfq) => &rfq.market_ticker,
            Self::RfqDeleted(rfq) => &rfq.market_ticker,
            Self::Ticker(ticker) => &ticker.market_ticker,
            Self::Trade(trade) => &trade.market_ticker,
            Self::UserOrder(order) => &order.ticker,
            _ => return None,
        })
    }

    /// Returns the exchange's number of the newest change of the market's book that the message
    /// holds, for snapshots and deltas.
    ///
    /// It is the same on every connection, so it tells which of two books of a market is newer. It
    /// does not compare between markets, skips numbers (a gap shows in
    /// [`Message::seq`](crate::Message::seq) only), and may go back in the exchange's maintenance.
    /// Several deltas of one action share it, in the same order on every connection. `None` on
    /// frames from before October 2026.
    #[inline]
    pub fn clock(&self) -> Option<i64> {
        match self {
            Self::OrderbookDelta(delta) => delta.clock,
            Self::OrderbookSnapshot(snapshot) => snapshot.clock,
            _ => None,
        }
    }

    /// Returns the properties of this type of message, as the document has them.
    pub fn message_kind(&self) -> Option<&'static MessageKind> {
        message_kind(self.kind())
    }
}

/// Returns the properties of a type of message, as the document has them.
pub(crate) fn message_kind(name: &str) -> Option<&'static MessageKind> {
    crate::MESSAGE_KINDS.iter().find(|kind| kind.name == name)
}

/// A delta as it is on the wire.
#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    market_ticker: Cow<'a, str>,
    #[serde(borrow)]
    market_id: Cow<'a, str>,
    price_dollars: Dollars,
    delta_fp: Count,
    side: MarketSide,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts_ms: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_order_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subaccount: Option<i64>,
}

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let ts_ms = wire.ts_ms.or_else(|| {
            let time: chrono::DateTime<chrono::Utc> = wire.ts.as_deref()?.parse().ok()?;
            Some(UnixMillis::from(time.timestamp_millis()))
        });
        let own = OwnChange { client_order_id: wire.client_order_id, subaccount: wire.subaccount };
        Ok(Self {
            // Its decoder knows better.
            market: Market::new(&wire.market_ticker, &wire.market_id, u32::MAX),
            price_dollars: wire.price_dollars,
            delta_fp: wire.delta_fp,
            side: wire.side,
            clock: wire.clock,
            ts_ms,
            own: (own != OwnChange::default()).then(|| Box::new(own)),
        })
    }
}

impl Serialize for Delta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = self.own.as_deref().cloned().unwrap_or_default();
        Wire {
            market_ticker: self.market.ticker().into(),
            market_id: self.market.id().into(),
            price_dollars: self.price_dollars,
            delta_fp: self.delta_fp,
            side: self.side.clone(),
            clock: self.clock,
            ts_ms: self.ts_ms,
            ts: None,
            client_order_id: own.client_order_id,
            subaccount: own.subaccount,
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_market_has_its_names_whatever_their_length() {
        for length in [0, 1, 50, 59, 60, 95, 96, 255, 256, 70_000] {
            let (ticker, id) = ("é".repeat(length / 2), "9b0f6b43-5b68-4f9f-9f02-9a2d1b8ac1a1");
            let market = Market::new(&ticker, id, 7);
            assert_eq!((market.ticker(), market.id()), (&*ticker, id));
            assert_eq!(market, Market::new(&ticker, id, 8));
            assert_ne!(market, Market::new(&format!("{ticker}9"), &id[1..], 7));
            let (none, all) = (Market::new(&ticker, "", 0), Market::new("", &ticker, 0));
            assert_eq!((none.id(), all.ticker(), all.id()), ("", "", &*ticker));
        }
    }
}
