//! The order that closes a position.

use kalshi_sdk::types::{CreateOrderV2Request, SelfTradePreventionType, TimeInForce};
use kalshi_types::{BookSide, Count, Dollars};

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

impl Closing<'_> {
    /// Returns the order that closes the position as far as the book allows it: immediate or cancel,
    /// and reduce-only, so that it cannot open one on the other side, whatever happened to the
    /// position meanwhile. `None` if there is no position, or if its count is out of range.
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
        if self.position.is_zero() {
            return None;
        }
        let side = if self.position.is_positive() { BookSide::Ask } else { BookSide::Bid };
        CreateOrderV2Request::builder()
            .ticker(self.ticker)
            .side(side)
            .count(self.position.checked_abs()?)
            .price(self.worst)
            .time_in_force(TimeInForce::ImmediateOrCancel)
            .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
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
    fn nothing_is_closed_where_nothing_is_held() {
        assert_eq!(closing(Count::ZERO).order(), None);
        assert_eq!(closing(Count::from_hundredths(i64::MIN)).order(), None);
    }
}
