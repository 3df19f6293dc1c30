//! The words of the engine: sides, orders, commands' arguments, events and refusals.

use std::borrow::Cow;

use kalshi_types::{Count, Dollars, PriceRange, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::engine::{
    fees::Fees,
    ids::{AccountId, BatchId, BatchQuoteId, GroupId, MarketId, OrderId, QuoteId, RfqId, TradeId},
};

/// A time of the matching engine.
pub(crate) type Time = UnixMillis;
/// 0 is the primary one, 1 to 63 are numbered.
pub(crate) type Subaccount = u8;
/// An exchange shard, on the wire `exchange_index`.
pub(crate) type Shard = u8;

/// Names a position, and the balance that pays for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PositionKey {
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) market: MarketId,
    pub(crate) shard: Shard,
}

/// The side of the one YES book of a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Side {
    /// Buys YES, or sells NO.
    Bid,
    /// Sells YES, or buys NO.
    Ask,
}

impl Side {
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Bid => Self::Ask,
            Self::Ask => Self::Bid,
        }
    }

    /// Returns `bid` or `ask`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bid => "bid",
            Self::Ask => "ask",
        }
    }

    /// Returns the leg that gains: `yes` or `no`.
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Self::Bid => "yes",
            Self::Ask => "no",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "bid" => Some(Self::Bid),
            "ask" => Some(Self::Ask),
            _ => None,
        }
    }

    /// Reports whether an order of this side at `limit` trades with the other side at `price`.
    pub(crate) fn crosses(self, limit: Dollars, price: Dollars) -> bool {
        match self {
            Self::Bid => limit >= price,
            Self::Ask => limit <= price,
        }
    }

    /// Returns the cost of a contract of this side at a YES price.
    pub(crate) fn leg_price(self, price: Dollars) -> Dollars {
        match self {
            Self::Bid => price,
            Self::Ask => crate::engine::amount::other_leg(price),
        }
    }
}

/// The time for which an order may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TimeInForce {
    /// Until it is canceled, or expires.
    GoodTillCanceled,
    /// Not at all: what does not trade at once is canceled.
    ImmediateOrCancel,
    /// Not at all: it trades as a whole or not.
    FillOrKill,
}

impl TimeInForce {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "good_till_canceled" => Some(Self::GoodTillCanceled),
            "immediate_or_cancel" => Some(Self::ImmediateOrCancel),
            "fill_or_kill" => Some(Self::FillOrKill),
            _ => None,
        }
    }
}

/// The choice of the order that ends when an account would trade with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SelfTrade {
    /// The incoming order stops, and its rest is canceled.
    TakerAtCross,
    /// The resting order is canceled, the incoming one goes on.
    Maker,
}

impl SelfTrade {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TakerAtCross => "taker_at_cross",
            Self::Maker => "maker",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::TakerAtCross, Self::Maker].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The status of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OrderStatus {
    Resting,
    Canceled,
    Executed,
}

impl OrderStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Resting => "resting",
            Self::Canceled => "canceled",
            Self::Executed => "executed",
        }
    }
}

/// The reason of the last change of an order, in the words of the exchange's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    /// Placed, or canceled by its owner.
    None,
    Decrease,
    Amend,
    Trade,
    SelfTradeCancel,
    ExpiryCancel,
    PostOnlyCrossCancel,
    ReduceOnlyCancel,
    OrderGroupCancel,
    PauseCancel,
    CloseCancel,
    ImmediateOrCancel,
    /// The margin did not suffice.
    #[cfg(feature = "perps")]
    MarginCancel,
    /// The market was halted.
    #[cfg(feature = "perps")]
    HaltCancel,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Decrease => "Decrease",
            Self::Amend => "Amend",
            Self::Trade => "Trade",
            Self::SelfTradeCancel => "SelfTradeCancel",
            Self::ExpiryCancel => "ExpiryCancel",
            Self::PostOnlyCrossCancel => "PostOnlyCrossCancel",
            Self::ReduceOnlyCancel => "ReduceOnlyCancel",
            Self::OrderGroupCancel => "OrderGroupCancel",
            Self::PauseCancel => "PauseCancel",
            Self::CloseCancel => "CloseCancel",
            Self::ImmediateOrCancel => "IocCancel",
            #[cfg(feature = "perps")]
            Self::MarginCancel => "MarginCancel",
            #[cfg(feature = "perps")]
            Self::HaltCancel => "HaltCancel",
        }
    }
}

/// A new order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewOrder {
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) ticker: String,
    pub(crate) side: Side,
    /// Of the YES leg.
    pub(crate) price: Dollars,
    pub(crate) count: Count,
    pub(crate) time_in_force: TimeInForce,
    pub(crate) self_trade: SelfTrade,
    pub(crate) client_order_id: Option<String>,
    pub(crate) expires: Option<Time>,
    pub(crate) post_only: bool,
    pub(crate) reduce_only: bool,
    pub(crate) cancel_on_pause: bool,
    pub(crate) group: Option<GroupId>,
    pub(crate) route: Route,
}

impl NewOrder {
    /// Returns an order of the primary subaccount that rests until it is filled, without anything
    /// that is optional.
    pub(crate) fn resting(
        account: AccountId,
        ticker: String,
        side: Side,
        price: Dollars,
        count: Count,
    ) -> Self {
        Self {
            account,
            subaccount: 0,
            ticker,
            side,
            price,
            count,
            time_in_force: TimeInForce::GoodTillCanceled,
            self_trade: SelfTrade::Maker,
            client_order_id: None,
            expires: None,
            post_only: false,
            reduce_only: false,
            cancel_on_pause: false,
            group: None,
            route: Route::default(),
        }
    }
}

/// The shard that a request names: none, one, or −1 for "by the ticker".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) exchange_index: Option<i64>,
    /// `market_ticker` of requests that name an order by its id alone.
    pub(crate) ticker: Option<String>,
}

/// A change of an order's price or size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Amend {
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) order: OrderId,
    pub(crate) ticker: String,
    pub(crate) side: Side,
    pub(crate) price: Dollars,
    /// The new total: what has been filled and what shall rest.
    pub(crate) count: Count,
    pub(crate) client_order_id: Option<String>,
    pub(crate) updated_client_order_id: Option<String>,
    /// `None` keeps the expiration, `Some(None)` clears it.
    #[expect(clippy::option_option, reason = "left alone, cleared and set are three things")]
    pub(crate) expires: Option<Option<Time>>,
    pub(crate) route: Route,
}

/// By how much, or to what, an order's rest is decreased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decrease {
    By(Count),
    To(Count),
}

/// The result of placing or amending an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) order: OrderId,
    /// The contracts that this request has traded.
    pub(crate) filled: Count,
    /// The contracts that rest now.
    pub(crate) remaining: Count,
    /// Sum of price × count of this request's trades, of the YES leg.
    pub(crate) value: Dollars,
    /// Sum of this request's fees.
    pub(crate) fees: Dollars,
    /// The reason for which nothing is left, if it was not traded.
    pub(crate) reason: Reason,
}

/// One order, from its entry on. There are millions of these, so what most do without is beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: OrderId,
    pub(crate) account: AccountId,
    pub(crate) market: MarketId,
    pub(crate) subaccount: Subaccount,
    pub(crate) side: Side,
    pub(crate) status: OrderStatus,
    pub(crate) self_trade: SelfTrade,
    pub(crate) post_only: bool,
    pub(crate) cancel_on_pause: bool,
    pub(crate) reason: Reason,
    pub(crate) price: Dollars,
    /// The total that was last asked for.
    pub(crate) initial: Count,
    pub(crate) filled: Count,
    /// The resting contracts; zero once canceled or executed.
    pub(crate) remaining: Count,
    /// The rank in the queue of its price, lowest first.
    pub(crate) queue_priority: u64,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    /// `None` is all at its default.
    extras: Option<Box<OrderExtras>>,
}

/// The part of an order that has traded, or that its owner has given more than a price and a size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderExtras {
    pub(crate) client_order_id: Option<Box<str>>,
    pub(crate) expires: Option<Time>,
    pub(crate) group: Option<GroupId>,
    pub(crate) taker_cost: Dollars,
    pub(crate) maker_cost: Dollars,
    pub(crate) taker_fees: Dollars,
    pub(crate) maker_fees: Dollars,
    /// The part that rounding has taken and not yet given back.
    pub(crate) rounding: Dollars,
}

impl OrderExtras {
    const NONE: Self = Self {
        client_order_id: None,
        expires: None,
        group: None,
        taker_cost: Dollars::ZERO,
        maker_cost: Dollars::ZERO,
        taker_fees: Dollars::ZERO,
        maker_fees: Dollars::ZERO,
        rounding: Dollars::ZERO,
    };
}

impl Order {
    /// Returns an order as it is entered: nothing of it is open yet.
    pub(crate) fn entered(
        id: OrderId,
        new: &NewOrder,
        market: MarketId,
        count: Count,
        now: Time,
    ) -> Self {
        let mut order = Self {
            id,
            account: new.account,
            market,
            subaccount: new.subaccount,
            side: new.side,
            status: OrderStatus::Canceled,
            self_trade: new.self_trade,
            post_only: new.post_only,
            cancel_on_pause: new.cancel_on_pause,
            reason: Reason::None,
            price: new.price,
            initial: count,
            filled: Count::ZERO,
            remaining: Count::ZERO,
            queue_priority: 0,
            created: now,
            updated: now,
            extras: None,
        };
        if new.client_order_id.is_some() || new.expires.is_some() || new.group.is_some() {
            let extras = order.extras_mut();
            extras.client_order_id = new.client_order_id.as_deref().map(Box::from);
            extras.expires = new.expires;
            extras.group = new.group;
        }
        order
    }

    /// Returns a copy without the extras, which costs no allocation.
    pub(crate) fn bare(&self) -> Self {
        let Self { id, account, market, subaccount, side, status, self_trade, .. } = *self;
        let Self { post_only, cancel_on_pause, reason, price, .. } = *self;
        let Self { initial, filled, remaining, queue_priority, created, updated, .. } = *self;
        Self {
            id,
            account,
            market,
            subaccount,
            side,
            status,
            self_trade,
            post_only,
            cancel_on_pause,
            reason,
            price,
            initial,
            filled,
            remaining,
            queue_priority,
            created,
            updated,
            extras: None,
        }
    }

    pub(crate) fn extras(&self) -> &OrderExtras {
        static NONE: OrderExtras = OrderExtras::NONE;
        self.extras.as_deref().unwrap_or(&NONE)
    }

    pub(crate) fn extras_mut(&mut self) -> &mut OrderExtras {
        self.extras.get_or_insert_with(|| Box::new(OrderExtras::NONE))
    }
}

/// One trade of the public tape. The resting order's price counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trade {
    pub(crate) id: TradeId,
    pub(crate) market: MarketId,
    pub(crate) price: Dollars,
    pub(crate) count: Count,
    pub(crate) taker_side: Side,
    pub(crate) block: bool,
    pub(crate) at: Time,
}

/// One party's side of a trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fill {
    pub(crate) trade: TradeId,
    pub(crate) order: OrderId,
    pub(crate) market: MarketId,
    pub(crate) subaccount: Subaccount,
    pub(crate) side: Side,
    pub(crate) price: Dollars,
    pub(crate) count: Count,
    pub(crate) taker: bool,
    pub(crate) fee: Dollars,
    /// The signed position after it.
    pub(crate) position: Count,
    pub(crate) at: Time,
}

/// One market's settlement for one subaccount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settlement {
    pub(crate) market: MarketId,
    pub(crate) subaccount: Subaccount,
    pub(crate) result: MarketResult,
    pub(crate) yes: Count,
    pub(crate) yes_cost: Dollars,
    pub(crate) no: Count,
    pub(crate) no_cost: Dollars,
    /// The payout.
    pub(crate) revenue: Dollars,
    pub(crate) fee: Dollars,
    pub(crate) at: Time,
}

/// The result of a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MarketResult {
    Yes,
    No,
    /// Each YES contract pays this much, each NO contract the rest of a dollar.
    Scalar(Dollars),
}

impl MarketResult {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Scalar(_) => "scalar",
        }
    }

    /// Returns what a YES contract pays.
    pub(crate) fn value(self) -> Dollars {
        match self {
            Self::Yes => Dollars::ONE,
            Self::No => Dollars::ZERO,
            Self::Scalar(value) => value,
        }
    }
}

/// The status of a market, in the words of its reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MarketStatus {
    Initialized,
    Active,
    Inactive,
    Closed,
    Determined,
    Disputed,
    Amended,
    Finalized,
}

impl MarketStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Initialized => "initialized",
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Closed => "closed",
            Self::Determined => "determined",
            Self::Disputed => "disputed",
            Self::Amended => "amended",
            Self::Finalized => "finalized",
        }
    }

    /// Returns the word of the status filter.
    pub(crate) fn filter(self) -> &'static str {
        match self {
            Self::Initialized => "unopened",
            Self::Active => "open",
            Self::Inactive => "paused",
            Self::Closed | Self::Determined | Self::Disputed | Self::Amended => "closed",
            Self::Finalized => "settled",
        }
    }
}

/// A market to list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NewMarket {
    pub(crate) ticker: String,
    pub(crate) event_ticker: String,
    pub(crate) series_ticker: String,
    pub(crate) shard: Shard,
    pub(crate) structure: String,
    pub(crate) ranges: Vec<PriceRange>,
    pub(crate) fees: Fees,
    pub(crate) opens: Time,
    pub(crate) closes: Time,
    /// From determination to payment.
    pub(crate) settlement_timer_seconds: u32,
}

/// An event for the streams. The state after the command has the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A level of the book has changed by `delta`, through `order`.
    Level {
        market: MarketId,
        side: Side,
        price: Dollars,
        delta: Count,
        order: OrderId,
        /// The number of the action that changed it.
        clock: u64,
    },
    /// The best prices, the last trade or a total has changed.
    Ticker {
        market: MarketId,
    },
    Trade {
        trade: TradeId,
    },
    /// The `fill`-th fill of the account, counted from 0.
    Fill {
        account: AccountId,
        fill: usize,
    },
    Order {
        account: AccountId,
        order: OrderId,
        reason: Reason,
    },
    Position {
        account: AccountId,
        subaccount: Subaccount,
        market: MarketId,
    },
    Group {
        account: AccountId,
        subaccount: Subaccount,
        group: GroupId,
        change: GroupChange,
    },
    Market {
        market: MarketId,
        change: MarketChange,
    },
    /// The fees of an event have changed; `None` if an override was taken back.
    FeeOverride {
        event_ticker: Box<str>,
        fees: Option<Fees>,
    },
    Rfq {
        rfq: RfqId,
        created: bool,
    },
    Quote {
        quote: QuoteId,
        change: QuoteChange,
    },
    Batch {
        batch: BatchId,
        change: BatchChange,
    },
    BatchQuote {
        quote: BatchQuoteId,
        change: QuoteChange,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupChange {
    Created,
    Triggered,
    Reset,
    Deleted,
    LimitUpdated,
}

impl GroupChange {
    /// Returns the word of the streams.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Triggered => "triggered",
            Self::Reset => "reset",
            Self::Deleted => "deleted",
            Self::LimitUpdated => "limit_updated",
        }
    }
}

/// The events of a market's life that streams publish; opening and closing by time are silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarketChange {
    Created,
    Activated,
    Deactivated,
    CloseDateUpdated,
    Determined,
    Settled,
    PriceLevelStructureUpdated,
    MetadataUpdated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuoteChange {
    Created,
    Accepted,
    Executed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchChange {
    Created,
    BestQuotes,
    Executed,
    Deleted,
}

/// The reason for which a command was not carried out. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// The machine-readable word of the exchange.
    pub(crate) code: &'static str,
    pub(crate) message: Cow<'static, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    Invalid,
    NotFound,
    Conflict,
    Unavailable,
}

impl Refusal {
    pub(crate) fn invalid(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RefusalKind::Invalid, code, message: message.into() }
    }

    pub(crate) fn parameters(message: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid("invalid_parameters", message)
    }

    pub(crate) fn not_found(what: &'static str) -> Self {
        Self { kind: RefusalKind::NotFound, code: "not_found", message: what.into() }
    }

    pub(crate) fn conflict(code: &'static str, message: &'static str) -> Self {
        Self { kind: RefusalKind::Conflict, code, message: message.into() }
    }

    pub(crate) fn unavailable(code: &'static str, message: &'static str) -> Self {
        Self { kind: RefusalKind::Unavailable, code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_order_without_trades_and_texts_takes_less_than_a_hundred_bytes() {
        // Itself, and its place in the list of its account.
        assert!(size_of::<Order>() + size_of::<OrderId>() <= 100, "{}", size_of::<Order>());
    }
}
