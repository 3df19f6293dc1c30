//! The order that closes a position.
//!
//! [`Trading::close`](crate::trading::Trading::close) sends as many as it takes.

use kalshi_sdk::types::{CreateOrderV2Request, SelfTradePreventionType, TimeInForce};
use kalshi_types::{BookSide, Count, Dollars};

use crate::{orders::OrderEvent, placement::Refusal};

/// The result of [`Trading::close`](crate::trading::Trading::close).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosedPosition {
    /// The contracts that were closed.
    pub filled: Count,
    /// The position that is left as far as is known: above zero for YES, below for NO.
    pub left: Count,
    /// The reason for which it ended.
    pub end: CloseEnd,
    /// The events of the meantime: take them in as those of [`next`](crate::trading::Trading::next).
    pub events: Vec<OrderEvent>,
}

/// The reason for which closing a position ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseEnd {
    /// Nothing is held any more.
    Flat,
    /// The book has nothing more at the worst price that is accepted, or better. Try again later, or
    /// with another price.
    Price,
    /// The time is over. A slice whose outcome is unknown goes on being settled.
    Time,
    /// The exchange refused a slice. Fix the cause.
    Refused(Refusal),
    /// The streams are closed for good: build another handle.
    Disconnected,
}

impl Default for ClosedPosition {
    fn default() -> Self {
        Self { filled: Count::ZERO, left: Count::ZERO, end: CloseEnd::Time, events: Vec::new() }
    }
}

impl ClosedPosition {
    pub(crate) fn ended(self, end: CloseEnd) -> Self {
        Self { end, ..self }
    }
}

/// A position, and the worst price at which it is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "what a caller knows of a position; built by literals"
)]
pub struct Closing<'a> {
    /// The ticker of the market.
    pub ticker: &'a str,
    /// The position, as `position_fp` has it: above zero for YES, below zero for NO.
    pub position: Count,
    /// The worst **YES** price that is accepted, in dollars: the lowest at which YES is sold, the
    /// highest at which it is bought to close NO.
    pub worst: Dollars,
    /// The shard of the market.
    pub exchange_index: i64,
    /// The subaccount that holds it, 0 to 63.
    pub subaccount: u8,
    /// The client order id.
    pub client_order_id: &'a str,
}

/// The plan by which [`Trading::close`](crate::trading::Trading::close) closes a position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what a caller decides; built by literals")]
pub struct ClosePlan<'a> {
    /// The ticker of the market.
    pub ticker: &'a str,
    /// The worst **YES** price that is accepted, in dollars: the lowest at which YES is sold, the
    /// highest at which it is bought to close NO.
    pub worst: Dollars,
    /// The most contracts of one order. A small slice shows less, and takes more requests.
    pub slice: Count,
    /// The shard of the market.
    pub exchange_index: i64,
    /// The subaccount that holds the position, 0 to 63.
    pub subaccount: u8,
}

impl ClosePlan<'_> {
    /// Returns the order that closes a part of a position, without a client order id.
    pub(crate) fn order(&self, position: Count) -> Option<CreateOrderV2Request> {
        let count = position.checked_abs()?.min(self.slice);
        if !count.is_positive() {
            return None;
        }
        let closing = Closing {
            ticker: self.ticker,
            position: if position.is_positive() { count } else { count.checked_neg()? },
            worst: self.worst,
            exchange_index: self.exchange_index,
            subaccount: self.subaccount,
            client_order_id: "",
        };
        let mut order = closing.order()?;
        order.client_order_id = None;
        Some(order)
    }
}

impl Closing<'_> {
    /// Returns the order that closes the position as far as the book allows it: immediate or cancel,
    /// and reduce-only, so that it cannot open one on the other side, whatever happened to the
    /// position meanwhile. Resting orders of yours that it meets are canceled. `None` if there is no
    /// position, or if its count is out of range.
    ///
    /// What the book does not take stays open: look at the position again and repeat it, with
    /// another price or later.
    ///
    /// # Examples
    ///
    /// ```
    /// use kalshi_sdk::types::{BookSide, TimeInForce};
    /// use kalshi_trade::close::Closing;
    ///
    /// let closing = Closing {
    ///     ticker: "KXA-1",
    ///     position: "-12.50".parse()?,
    ///     worst: "0.61".parse()?,
    ///     exchange_index: 0,
    ///     subaccount: 0,
    ///     client_order_id: "close-1",
    /// };
    /// let order = closing.order().ok_or("no position")?;
    /// // NO is closed by buying YES.
    /// assert_eq!((order.side, order.count), (BookSide::Bid, "12.50".parse()?));
    /// assert_eq!(order.reduce_only, Some(true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn order(&self) -> Option<CreateOrderV2Request> {
        let count = self.position.checked_abs()?;
        if count.is_zero() {
            return None;
        }
        let side = if self.position.is_positive() { BookSide::Ask } else { BookSide::Bid };
        CreateOrderV2Request::builder()
            .ticker(self.ticker)
            .side(side)
            .count(count)
            .price(self.worst)
            .time_in_force(TimeInForce::ImmediateOrCancel)
            .self_trade_prevention_type(SelfTradePreventionType::Maker)
            .reduce_only(true)
            .client_order_id(self.client_order_id)
            .exchange_index(self.exchange_index)
            .subaccount(i64::from(self.subaccount))
            .try_into()
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing(position: Count) -> Closing<'static> {
        Closing {
            ticker: "M",
            position,
            worst: Dollars::CENT,
            exchange_index: 0,
            subaccount: 3,
            client_order_id: "c",
        }
    }

    #[test]
    fn yes_is_sold_and_no_is_closed_by_buying_yes() {
        let long = closing("3".parse().unwrap()).order().unwrap();
        assert_eq!((long.side, long.count), (BookSide::Ask, "3".parse().unwrap()));
        let short = closing("-3".parse().unwrap()).order().unwrap();
        assert_eq!((short.side, short.count), (BookSide::Bid, "3".parse().unwrap()));
        assert_eq!(short.subaccount, Some(3));
        assert_eq!(short.time_in_force, TimeInForce::ImmediateOrCancel);
    }

    #[test]
    fn a_slice_is_never_more_than_is_held() {
        let count = |position: &str, slice: &str| {
            let plan = ClosePlan {
                ticker: "M",
                worst: Dollars::CENT,
                slice: slice.parse().unwrap(),
                exchange_index: 2,
                subaccount: 0,
            };
            let order = plan.order(position.parse().unwrap())?;
            assert_eq!((order.reduce_only, &order.client_order_id), (Some(true), &None));
            Some((order.side, order.count.to_string()))
        };
        assert_eq!(count("9", "4"), Some((BookSide::Ask, "4.00".to_owned())));
        assert_eq!(count("-9", "4"), Some((BookSide::Bid, "4.00".to_owned())));
        assert_eq!(count("-0.50", "4"), Some((BookSide::Bid, "0.50".to_owned())));
        assert_eq!((count("9", "0"), count("9", "-1"), count("0", "4")), (None, None, None));
    }

    #[test]
    fn nothing_is_closed_where_nothing_is_held() {
        assert_eq!(closing(Count::ZERO).order(), None);
        assert_eq!(closing(Count::from_hundredths(i64::MIN)).order(), None);
    }
}
