//! What a consumer wants from the exchange: one subscription for each channel.
//!
//! A connection has one subscription of a channel at most: the exchange merges a second one into
//! the first. So the channel is the name of the subscription, and markets are added to it or taken
//! out. The wish outlives the connection.

use std::collections::BTreeSet;

use crate::{error::CommandError, generated::Channel};

/// How many messages of one channel may wait for the consumer, unless said otherwise.
pub const DEFAULT_CAPACITY: usize = 16_384;

/// What happens when the messages of a channel come faster than they are consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection is not read until there is room. Nothing is dropped here, but all channels
    /// wait, pings stay unanswered, and the exchange ends what it cannot send for long (its code
    /// 25). For consumers that are slow for a moment only.
    Block,
    /// The oldest messages of the channel make room, and [`Event::Lagged`](crate::Event::Lagged)
    /// stands where they were. Order books are void there, and get new snapshots.
    #[default]
    DropOldest,
    /// The subscription ends, with [`Event::Terminated`](crate::Event::Terminated) after the messages that
    /// are waiting. It is not made anew.
    Fail,
}

/// A wish for the messages of one channel.
///
/// ```
/// use kalshi_ws::{Overflow, Subscription};
///
/// let books = Subscription::orderbook(["KXBTC-25", "KXETH-25"]);
/// let fills = Subscription::fills().with_overflow(Overflow::Block);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub(crate) channel: Channel,
    pub(crate) items: BTreeSet<String>,
    pub(crate) options: Options,
    pub(crate) overflow: Overflow,
    pub(crate) capacity: usize,
}

/// What else the exchange is told, when it is asked for a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) initial_snapshot: bool,
    pub(crate) own_only: bool,
    pub(crate) shard: Option<(u32, u32)>,
}

/// What the items of a channel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Markets,
    Indices,
    Underlyings,
}

impl Subscription {
    /// A channel as a whole; for the channels that have markets, see the other constructors.
    pub fn channel(channel: impl Into<Channel>) -> Self {
        Self {
            channel: channel.into(),
            items: BTreeSet::new(),
            options: Options::default(),
            overflow: Overflow::default(),
            capacity: DEFAULT_CAPACITY,
        }
    }

    /// The order books of these markets. Prices are those of YES on both sides.
    pub fn orderbook<T: Into<String>>(tickers: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::OrderbookDelta).with_items(tickers)
    }

    /// The tickers of these markets; of all of them when there are none.
    pub fn ticker<T: Into<String>>(tickers: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::Ticker).with_items(tickers)
    }

    /// The trades of these markets; of all of them when there are none.
    pub fn trades<T: Into<String>>(tickers: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::Trade).with_items(tickers)
    }

    /// The caller's own fills in all markets.
    pub fn fills() -> Self {
        Self::channel(Channel::Fill)
    }

    /// The caller's own orders in all markets.
    pub fn user_orders() -> Self {
        Self::channel(Channel::UserOrders)
    }

    /// The caller's own positions in all markets.
    pub fn market_positions() -> Self {
        Self::channel(Channel::MarketPositions)
    }

    /// The caller's own order groups.
    pub fn order_groups() -> Self {
        Self::channel(Channel::OrderGroupUpdates)
    }

    /// What happens to markets and events: opening, closing, results, fees.
    pub fn lifecycle() -> Self {
        Self::channel(Channel::MarketLifecycleV2)
    }

    /// The same for combo markets.
    pub fn multivariate_lifecycle() -> Self {
        Self::channel(Channel::MultivariateMarketLifecycle)
    }

    /// Requests for quotes, and quotes.
    pub fn communications() -> Self {
        Self::channel(Channel::Communications)
    }

    /// Values of CF Benchmarks indices, about once a second; `all` stands for all of them.
    pub fn cfbenchmarks<T: Into<String>>(index_ids: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::CfbenchmarksValue).with_items(index_ids)
    }

    /// The same, five times a second.
    pub fn cfbenchmarks_5hz<T: Into<String>>(index_ids: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::CfbenchmarksValue5hz).with_items(index_ids)
    }

    /// Values of Pyth; `all` stands for all underlyings.
    pub fn pyth<T: Into<String>>(underlyings: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::PythValue).with_items(underlyings)
    }

    /// Adds markets (or indices, or underlyings) to the wish.
    pub fn with_items<T: Into<String>>(mut self, items: impl IntoIterator<Item = T>) -> Self {
        self.items.extend(items.into_iter().map(Into::into));
        self
    }

    /// What happens when the consumer is too slow for this channel.
    pub fn with_overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    /// How many messages of this channel may wait for the consumer, at least one.
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Has the ticker channel send one message for each market at once.
    pub fn with_initial_snapshot(mut self) -> Self {
        self.options.initial_snapshot = true;
        self
    }

    /// Has the communications channel send what the caller takes part in, and nothing else.
    pub fn with_own_only(mut self) -> Self {
        self.options.own_only = true;
        self
    }

    /// Has the communications channel send the part `key` of `factor` parts, so that several
    /// connections can share the load. It has nothing to do with the shards of the exchange.
    pub fn with_shard(mut self, key: u32, factor: u32) -> Self {
        self.options.shard = Some((key, factor));
        self
    }

    /// The channel that it is for.
    pub fn for_channel(&self) -> &Channel {
        &self.channel
    }

    pub(crate) fn check(&self) -> Result<(), CommandError> {
        if self.items.is_empty() && needs_items(&self.channel) {
            return Err(CommandError::Invalid(
                "order books need markets: name at least one ticker",
            ));
        }
        if let Some((key, factor)) = self.options.shard
            && (factor == 0 || factor > 100 || key >= factor)
        {
            return Err(CommandError::Invalid(
                "a shard has a factor from 1 to 100 and a key below it",
            ));
        }
        if self.capacity == 0 {
            return Err(CommandError::Invalid("the capacity of a channel is at least 1"));
        }
        check_items(&self.items)
    }
}

/// Reports whether the channel must not be subscribed to without items.
pub(crate) fn needs_items(channel: &Channel) -> bool {
    *channel == Channel::OrderbookDelta
}

/// What the items of the channel are called on the wire.
pub(crate) fn item_kind(channel: &Channel) -> ItemKind {
    match channel {
        Channel::CfbenchmarksValue | Channel::CfbenchmarksValue5hz => ItemKind::Indices,
        Channel::PythValue => ItemKind::Underlyings,
        _ => ItemKind::Markets,
    }
}

pub(crate) fn check_items<'a>(
    items: impl IntoIterator<Item = &'a String>,
) -> Result<(), CommandError> {
    if items.into_iter().any(String::is_empty) {
        return Err(CommandError::Invalid("a ticker or id is empty"));
    }
    Ok(())
}
