//! The desired state of the exchange's channels: one subscription for each channel.
//!
//! A connection has one subscription of a channel at most: the exchange merges a second one into
//! the first. So the channel is the name of the subscription, and markets are added to it or taken
//! out. It outlives the connection.

use std::collections::BTreeSet;

use crate::{
    error::CommandError,
    generated::Channel,
    product::{EventContracts, Product},
};

/// The default number of messages of one channel that may wait for the consumer.
pub const DEFAULT_CAPACITY: usize = 16_384;

/// The policy for messages of a channel that come faster than they are consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection is not read until there is room. Nothing is dropped here, but all channels
    /// wait, pings stay unanswered, and the exchange ends what it cannot send for long (its code
    /// 25). For consumers that are slow for a moment only.
    Block,
    /// The consumer is given half a second to make room. Then the oldest messages of the channel
    /// are dropped until it has caught up, and [`Event::Lagged`](crate::Event::Lagged) stands where
    /// they were. Order books are void there, and get new snapshots.
    #[default]
    DropOldest,
    /// The subscription ends, with [`Event::Terminated`](crate::Event::Terminated) after the
    /// messages that are waiting. It is not requested anew.
    Fail,
}

/// A subscription to one channel, as the consumer desires it.
///
/// # Examples
///
/// ```
/// use kalshi_ws::{Overflow, Subscription};
///
/// let books = Subscription::orderbook(["KXBTC-25", "KXETH-25"]);
/// let fills = Subscription::fills().with_overflow(Overflow::Block);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription<P: Product = EventContracts> {
    pub(crate) channel: P::Channel,
    pub(crate) items: BTreeSet<String>,
    pub(crate) options: Options,
    pub(crate) overflow: Overflow,
    pub(crate) capacity: usize,
}

/// Further parameters of `subscribe`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub(crate) initial_snapshot: bool,
    pub(crate) own_only: bool,
    pub(crate) shard: Option<(u32, u32)>,
}

/// The kind of the items of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Markets,
    Indices,
    Underlyings,
}

impl<P: Product> Subscription<P> {
    /// Returns a subscription to a channel as a whole; for the channels that have markets, see the
    /// other constructors.
    pub fn channel(channel: impl Into<P::Channel>) -> Self {
        Self {
            channel: channel.into(),
            items: BTreeSet::new(),
            options: Options::default(),
            overflow: Overflow::default(),
            capacity: DEFAULT_CAPACITY,
        }
    }
}

impl Subscription {
    /// Returns a subscription to the order books of these markets, at least one. Prices are those of
    /// YES on both sides. Numbered: a loss is an [`Event::Gap`](crate::Event::Gap).
    pub fn orderbook<T: Into<String>>(tickers: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::OrderbookDelta).with_items(tickers)
    }

    /// Returns a subscription to the tickers of these markets; of all markets when none is named.
    /// They carry no numbers, so a loss inside a connection does not show; the next message of a
    /// market has everything again.
    pub fn ticker<T: Into<String>>(tickers: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::Ticker).with_items(tickers)
    }

    /// Returns a subscription to the trades of these markets; of all markets when none is named.
    /// Numbered: a loss is an [`Event::Gap`](crate::Event::Gap), and the trades are read back over
    /// REST.
    pub fn trades<T: Into<String>>(tickers: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::Trade).with_items(tickers)
    }

    /// Returns a subscription to your fills in all markets. They carry no numbers, so a loss inside a
    /// connection does not show: [`Portfolio`](crate::Portfolio) reconciles them with REST.
    pub fn fills() -> Self {
        Self::channel(Channel::Fill)
    }

    /// Returns a subscription to your orders in all markets. They carry no numbers, so a loss inside
    /// a connection does not show: [`Portfolio`](crate::Portfolio) reconciles them with REST.
    pub fn user_orders() -> Self {
        Self::channel(Channel::UserOrders)
    }

    /// Returns a subscription to your positions in all markets. They carry no numbers, so a loss
    /// inside a connection does not show: [`Portfolio`](crate::Portfolio) reconciles them with REST.
    pub fn market_positions() -> Self {
        Self::channel(Channel::MarketPositions)
    }

    /// Returns a subscription to your order groups. Numbered.
    pub fn order_groups() -> Self {
        Self::channel(Channel::OrderGroupUpdates)
    }

    /// Returns a subscription to the life of markets and events: creation, results, fees. Numbered.
    pub fn lifecycle() -> Self {
        Self::channel(Channel::MarketLifecycleV2)
    }

    /// Returns a subscription to the life of combo markets. Numbered.
    pub fn multivariate_lifecycle() -> Self {
        Self::channel(Channel::MultivariateMarketLifecycle)
    }

    /// Returns a subscription to requests for quotes, single and in batches, and to quotes. Numbered.
    pub fn communications() -> Self {
        Self::channel(Channel::Communications)
    }

    /// Returns a subscription to values of CF Benchmarks indices, about once a second; `all` stands
    /// for all of them.
    pub fn cfbenchmarks<T: Into<String>>(index_ids: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::CfbenchmarksValue).with_items(index_ids)
    }

    /// Returns a subscription to values of CF Benchmarks indices, five times a second.
    pub fn cfbenchmarks_5hz<T: Into<String>>(index_ids: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::CfbenchmarksValue5hz).with_items(index_ids)
    }

    /// Returns a subscription to values of Pyth; `all` stands for all underlyings.
    pub fn pyth<T: Into<String>>(underlyings: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::PythValue).with_items(underlyings)
    }

    /// Makes the communications channel send your own requests for quotes only. Quotes are not
    /// affected.
    pub fn with_own_only(mut self) -> Self {
        self.options.own_only = true;
        self
    }

    /// Makes the communications channel send the part `key` of `factor` parts, so that several
    /// connections can share the load. It has nothing to do with the shards of the exchange.
    pub fn with_shard(mut self, key: u32, factor: u32) -> Self {
        self.options.shard = Some((key, factor));
        self
    }
}

impl<P: Product> Subscription<P> {
    /// Adds markets (or indices, or underlyings).
    pub fn with_items<T: Into<String>>(mut self, items: impl IntoIterator<Item = T>) -> Self {
        self.items.extend(items.into_iter().map(Into::into));
        self
    }

    /// Sets the policy for a consumer that is too slow for this channel.
    pub fn with_overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    /// Sets the number of messages of this channel that may wait for the consumer, at least one.
    /// Order books have room for two messages a market, if that is more.
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Makes the ticker channel send one message for each market at once.
    pub fn with_initial_snapshot(mut self) -> Self {
        self.options.initial_snapshot = true;
        self
    }

    /// Returns the channel.
    pub fn for_channel(&self) -> &P::Channel {
        &self.channel
    }

    pub(crate) fn check(&self) -> Result<(), CommandError> {
        if self.items.is_empty() && needs_items::<P>(&self.channel) {
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
pub(crate) fn needs_items<P: Product>(channel: &P::Channel) -> bool {
    P::is_book(channel)
}

/// Returns the kind of the items of the channel.
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
