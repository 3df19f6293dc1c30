//! What a channel sends, once it has been read.

use std::{borrow::Cow, fmt, sync::Arc};

use kalshi_auth::Timestamp;
use kalshi_types::{Count, Dollars, UnixMillis};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::generated::{Channel, Payload, types::MarketSide};

/// The number that the exchange gives a subscription; it holds for one connection.
pub type Sid = i64;

/// A message of a channel.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// The subscription that it belongs to.
    pub sid: Option<Sid>,
    /// Its number within the subscription, on the channels that count.
    pub seq: Option<i64>,
    /// The command that it answers, if it answers one.
    pub id: Option<i64>,
    /// When the exchange queued it to the network.
    pub sent: Option<UnixMillis>,
    /// When this machine read it, by the clock of the configuration.
    pub received: Timestamp,
    /// What it carries.
    pub payload: Payload,
}

/// One type of message, as the document describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageKind {
    /// The value of `type` on the wire.
    pub name: &'static str,
    /// The channels that send it.
    pub channels: &'static [Channel],
    /// Whether it carries a sequence number, so that a loss shows.
    pub sequenced: bool,
}

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
    /// because this crate always asks for that.
    pub price_dollars: Dollars,
    /// How many contracts come to the level, or leave it when negative.
    pub delta_fp: Count,
    /// The side of the resting orders: `yes` for bids, `no` for asks in terms of YES.
    pub side: MarketSide,
    /// The number of the newest change of this market's book that the message holds. The same on
    /// every connection; several deltas may share one, and numbers are skipped. `None` on frames
    /// from before October 2026.
    pub clock: Option<i64>,
    /// When it happened, in milliseconds since 1970.
    pub ts_ms: Option<UnixMillis>,
    /// What is said of changes by the caller's own orders alone.
    pub own: Option<Box<OwnChange>>,
}

/// What is said of a change by one of the caller's own orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnChange {
    /// The name that the caller gave to the order.
    pub client_order_id: Option<String>,
    /// The subaccount, when the order named one.
    pub subaccount: Option<i64>,
    /// Why the order changed, when the exchange says so.
    pub last_update_reason: Option<String>,
}

/// A market as deltas name it: cheap to clone, and equal to itself at a glance.
#[derive(Clone)]
pub struct Market(Arc<Names>);

struct Names {
    ticker: Box<str>,
    id: Box<str>,
    /// Its place among the markets of its decoder.
    slot: u32,
}

impl Market {
    pub(crate) fn new(ticker: &str, id: &str, slot: u32) -> Self {
        Self(Arc::new(Names { ticker: ticker.into(), id: id.into(), slot }))
    }

    /// The ticker.
    pub fn ticker(&self) -> &str {
        &self.0.ticker
    }

    /// The id, a UUID.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Where whoever keeps something for each market of one decoder may look first.
    pub(crate) fn slot(&self) -> usize {
        self.0.slot as usize
    }

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
    /// The exchange failed. Documented no longer.
    pub const INTERNAL: i64 = 17;
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
        matches!(self.code, Self::CHANNEL_ERROR | Self::INTERNAL | Self::BUFFER_OVERFLOW)
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
        !matches!(self.code, 1..=9 | 12 | 13 | 15 | 19..=24 | Self::MARKET_LIMIT | 28)
    }

    /// The markets that the exchange names.
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
    /// The market that the message is about, for the messages that are about one.
    pub fn market_ticker(&self) -> Option<&str> {
        Some(match self {
            Self::Fill(fill) => &fill.market_ticker,
            Self::MarketLifecycleV2(market) | Self::MultivariateMarketLifecycle(market) => {
                &market.market_ticker
            }
            Self::MarketPosition(position) => &position.market_ticker,
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

    /// What the document says of this type of message.
    pub fn message_kind(&self) -> Option<&'static MessageKind> {
        message_kind(self.kind())
    }
}

/// What the document says of a type of message.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_reason: Option<String>,
}

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let ts_ms = wire.ts_ms.or_else(|| {
            let time: chrono::DateTime<chrono::Utc> = wire.ts.as_deref()?.parse().ok()?;
            Some(UnixMillis::from(time.timestamp_millis()))
        });
        let own = OwnChange {
            client_order_id: wire.client_order_id,
            subaccount: wire.subaccount,
            last_update_reason: wire.last_update_reason,
        };
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
            last_update_reason: own.last_update_reason,
        }
        .serialize(serializer)
    }
}
