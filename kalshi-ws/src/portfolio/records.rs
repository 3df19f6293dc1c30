//! The records of a view: fills, orders and positions, in the same form from the stream and from
//! REST.

use kalshi_types::{Count, Dollars, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::types::{self, BookSide, MarketSide, UserOrderStatus};

/// A fill of one of your orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillRecord {
    /// The trade that the fill is a part of.
    pub trade_id: String,
    /// The order that was filled.
    pub order_id: String,
    /// Your own id of the order, if it has one; only the stream carries it.
    pub client_order_id: Option<String>,
    /// The market.
    pub market_ticker: String,
    /// The subaccount; `None` for the primary one.
    pub subaccount: Option<i64>,
    /// The outcome that the fill is a position in.
    pub outcome_side: MarketSide,
    /// The side of the book that the order was on.
    pub book_side: BookSide,
    /// The price of YES, in dollars per contract.
    pub yes_price: Dollars,
    /// The number of contracts.
    pub count: Count,
    /// The fee, in dollars.
    pub fee: Dollars,
    /// True if the order took liquidity.
    pub is_taker: bool,
    /// The time of the fill in milliseconds, if it is known.
    pub ts_ms: Option<UnixMillis>,
    /// The position in the market after the fill, negative for NO; only the stream carries it.
    pub position_after: Option<Count>,
}

/// One of your orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// The exchange's id of the order.
    pub order_id: String,
    /// Your own id of the order; empty if it has none.
    pub client_order_id: String,
    /// The market.
    pub market_ticker: String,
    /// The subaccount; `None` for the primary one.
    pub subaccount: Option<i64>,
    /// The state of the order.
    pub status: UserOrderStatus,
    /// The outcome that a fill is a position in.
    pub outcome_side: MarketSide,
    /// The side of the book.
    pub book_side: BookSide,
    /// The price of YES, in dollars per contract.
    pub yes_price: Dollars,
    /// The contracts that the order began with.
    pub initial: Count,
    /// The contracts that are left.
    pub remaining: Count,
    /// The contracts that were filled.
    pub filled: Count,
    /// The time of the last change in milliseconds, if it is known.
    pub updated: Option<UnixMillis>,
}

/// Your position in one market.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionRecord {
    /// The market.
    pub market_ticker: String,
    /// The subaccount; `None` for the primary one.
    pub subaccount: Option<i64>,
    /// The contracts: of YES when positive, of NO when negative.
    pub count: Count,
    /// The cost of the contracts, in dollars.
    pub cost: Option<Dollars>,
    /// The realized profit in dollars; a loss when negative.
    pub realized_pnl: Option<Dollars>,
    /// The fees that were paid, in dollars.
    pub fees: Option<Dollars>,
}

impl FillRecord {
    /// Returns the position before the fill, if the fill says enough to compute it.
    pub(super) fn position_before(&self) -> Option<Count> {
        let after = self.position_after?;
        match self.outcome_side {
            MarketSide::Yes => after.checked_sub(self.count),
            MarketSide::No => after.checked_add(self.count),
            MarketSide::Unknown(_) => None,
        }
    }
}

impl From<&types::Fill> for FillRecord {
    fn from(fill: &types::Fill) -> Self {
        Self {
            trade_id: fill.trade_id.clone(),
            order_id: fill.order_id.clone(),
            client_order_id: fill.client_order_id.clone(),
            market_ticker: fill.market_ticker.clone(),
            subaccount: main_is_none(fill.subaccount),
            outcome_side: fill.outcome_side.clone(),
            book_side: fill.book_side.clone(),
            yes_price: fill.yes_price_dollars,
            count: fill.count_fp,
            fee: fill.fee_cost,
            is_taker: fill.is_taker,
            ts_ms: fill.ts_ms,
            position_after: Some(fill.post_position_fp),
        }
    }
}

impl From<&types::UserOrder> for OrderRecord {
    fn from(order: &types::UserOrder) -> Self {
        Self {
            order_id: order.order_id.clone(),
            client_order_id: order.client_order_id.clone(),
            market_ticker: order.ticker.clone(),
            subaccount: main_is_none(order.subaccount_number),
            status: order.status.clone(),
            outcome_side: order.outcome_side.clone(),
            book_side: order.book_side.clone(),
            yes_price: order.yes_price_dollars,
            initial: order.initial_count_fp,
            remaining: order.remaining_count_fp,
            filled: order.fill_count_fp,
            updated: order.last_updated_ts_ms.or(order.created_ts_ms),
        }
    }
}

impl From<&types::MarketPosition> for PositionRecord {
    fn from(position: &types::MarketPosition) -> Self {
        Self {
            market_ticker: position.market_ticker.clone(),
            subaccount: main_is_none(position.subaccount),
            count: position.position_fp,
            cost: Some(position.position_cost_dollars),
            realized_pnl: Some(position.realized_pnl_dollars),
            fees: Some(position.fees_paid_dollars),
        }
    }
}

/// Returns the number of a subaccount, `None` for the primary one: the exchange leaves it out, or
/// calls it 0.
pub(super) fn main_is_none(subaccount: Option<i64>) -> Option<i64> {
    subaccount.filter(|number| *number != 0)
}
