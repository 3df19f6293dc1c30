//! Cash and positions of perpetual futures.
//!
//! A position has a cost: what was paid for it, or below zero what was received. Opening moves no
//! cash, closing moves the difference between the price and the cost of what is closed. So the
//! cash of all members, less the cost of all positions, plus fees and the insurance fund, is what
//! was paid in, whatever the prices are and however a cost is divided.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        amount::{SaturatingArithmetic, cost, share},
        ids::{ActionId, MarketId, OrderId, TradeId},
        types::{Side, Subaccount, Time},
    },
    perps::engine::{
        amount::{Rate, negated, opposite, size},
        orders::Source,
    },
};

/// A member.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    /// The member may trade.
    pub(crate) enabled: bool,
    /// By the number of the subaccount; 0, the primary, is always there.
    pub(crate) wallets: BTreeMap<Subaccount, Wallet>,
    /// Every order, oldest first.
    pub(crate) orders: Vec<OrderId>,
    pub(crate) resting: BTreeSet<OrderId>,
    pub(crate) client_order_ids: BTreeMap<Box<str>, OrderId>,
    pub(crate) fills: Vec<Fill>,
    pub(crate) funding: Vec<FundingPayment>,
    /// Cash that came from outside of the ledger or went there, oldest first.
    #[serde(default)]
    pub(crate) movements: Vec<CashMovement>,
    /// The changes of its positions by corporate actions, oldest first.
    #[serde(default)]
    pub(crate) action_payments: Vec<ActionPayment>,
    /// Ids of transfers between subaccounts that were made.
    pub(crate) transfers: BTreeSet<String>,
    /// What its positions and orders in one market may be worth, by its clearing member.
    pub(crate) notional_limit: Option<Dollars>,
    pub(crate) caps: Caps,
}

/// The caps of a clearing member on the initial margin of a subtrader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caps {
    pub(crate) by_market: BTreeMap<MarketId, Dollars>,
    pub(crate) by_class: BTreeMap<super::markets::AssetClass, Dollars>,
    /// Orders in an asset class without a cap are refused.
    pub(crate) required: bool,
}

/// The cash and the positions of a subaccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wallet {
    pub(crate) cash: Dollars,
    /// Without those that are flat.
    pub(crate) positions: BTreeMap<MarketId, Position>,
    /// What rests, without markets in which nothing does.
    pub(crate) open: BTreeMap<MarketId, OpenOrders>,
}

/// A position: long above zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) count: Count,
    /// What was paid for it; below zero what was received.
    pub(crate) cost: Dollars,
    /// Fees since it was opened.
    pub(crate) fees: Dollars,
}

/// The sums of the orders of a subaccount that rest in a market.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenOrders {
    pub(crate) bid_count: Count,
    /// Price × count.
    pub(crate) bid_value: Dollars,
    pub(crate) ask_count: Count,
    pub(crate) ask_value: Dollars,
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
    /// The mean entry price of the position before it; zero if there was none.
    pub(crate) entry_price: Dollars,
    pub(crate) realized: Dollars,
    /// The position after it.
    pub(crate) position: Count,
    pub(crate) source: Source,
    pub(crate) at: Time,
}

/// The funding of one position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FundingPayment {
    pub(crate) market: MarketId,
    pub(crate) subaccount: Subaccount,
    pub(crate) at: Time,
    pub(crate) rate: Rate,
    pub(crate) mark: Dollars,
    pub(crate) count: Count,
    /// Received; below zero paid.
    pub(crate) amount: Dollars,
}

/// The cause of a movement of cash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CashCause {
    /// Paid in or out: a deposit, a transfer between products.
    Transfer,
    /// The insurance fund took what the member owed.
    Insurance,
    /// The clearing house has booked it itself.
    Clearing,
}

/// Cash that came from outside of the ledger, or below zero went there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CashMovement {
    pub(crate) at: Time,
    pub(crate) amount: Dollars,
    pub(crate) cause: CashCause,
}

/// The result of a corporate action for a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActionPayment {
    pub(crate) action: ActionId,
    pub(crate) market: MarketId,
    pub(crate) subaccount: Subaccount,
    pub(crate) at: Time,
    pub(crate) before: Count,
    pub(crate) after: Count,
    /// Received for a dividend or a spin-off; below zero paid.
    pub(crate) paid: Dollars,
    /// All cash that moved: with what a position that ended has realized.
    pub(crate) cash: Dollars,
}

/// The result of a trade for a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Booked {
    pub(crate) entry_price: Dollars,
    pub(crate) realized: Dollars,
    pub(crate) before: Count,
    pub(crate) after: Count,
}

impl Account {
    pub(crate) fn opened() -> Self {
        Self { enabled: true, wallets: BTreeMap::from([(0, Wallet::default())]), ..Self::default() }
    }
}

impl Wallet {
    pub(crate) fn position(&self, market: MarketId) -> Position {
        self.positions.get(&market).copied().unwrap_or_default()
    }

    pub(crate) fn open(&self, market: MarketId) -> OpenOrders {
        self.open.get(&market).copied().unwrap_or_default()
    }

    /// Books a trade: closes what there is on the other side, and opens the rest. The cost of what
    /// is closed is its share of the position's, cut towards zero; the last contract takes all that
    /// is left.
    pub(crate) fn book(
        &mut self,
        market: MarketId,
        side: Side,
        price: Dollars,
        count: Count,
        fee: Dollars,
    ) -> Booked {
        let position = self.positions.entry(market).or_default();
        let before = position.count;
        let entry_price = position.entry_price();
        let signed = if side == Side::Bid { count } else { opposite(count) };
        let closes = before.is_positive() != signed.is_positive() && !before.is_zero();
        let closing = if closes { size(before).min(count) } else { Count::ZERO };
        let removed = share(position.cost, closing, size(before));
        let closed_at = cost(price, closing);
        // Those who were long sell, those who were short buy back.
        let received = if before.is_positive() { closed_at } else { negated(closed_at) };
        let realized =
            if closing.is_zero() { Dollars::ZERO } else { received.saturating_sub(removed) };
        position.cost = position.cost.saturating_sub(removed);
        let opened = cost(price, count.saturating_sub(closing));
        position.cost =
            position.cost.saturating_add(if side == Side::Bid { opened } else { negated(opened) });
        position.count = before.saturating_add(signed);
        let flipped = closing == size(before) && !position.count.is_zero() && !before.is_zero();
        position.fees = if flipped { fee } else { position.fees.saturating_add(fee) };
        let after = position.count;
        if after.is_zero() {
            self.positions.remove(&market);
        }
        self.cash = self.cash.saturating_add(realized).saturating_sub(fee);
        Booked { entry_price, realized, before, after }
    }

    /// Returns the worth of the positions and orders of subaccounts in a market.
    pub(super) fn usage<'a>(
        wallets: impl Iterator<Item = &'a Self>,
        market: MarketId,
        mark: Dollars,
    ) -> Dollars {
        wallets.fold(Dollars::ZERO, |sum, wallet| {
            let position = wallet.position(market).count;
            let (bids, asks) = wallet.open(market).opening(position);
            sum.saturating_add(cost(mark, size(position))).saturating_add(bids.max(asks))
        })
    }

    /// Adds to what rests, or takes away from it if the count is below zero.
    pub(crate) fn add_open(&mut self, market: MarketId, side: Side, price: Dollars, count: Count) {
        let open = self.open.entry(market).or_default();
        open.add(side, price, count);
        if *open == OpenOrders::default() {
            self.open.remove(&market);
        }
    }
}

impl OpenOrders {
    pub(crate) fn add(&mut self, side: Side, price: Dollars, count: Count) {
        let (counts, values) = match side {
            Side::Bid => (&mut self.bid_count, &mut self.bid_value),
            Side::Ask => (&mut self.ask_count, &mut self.ask_value),
        };
        *counts = counts.saturating_add(count);
        *values = values.saturating_add(cost(price, count));
    }

    /// Returns the value of what would open or enlarge a position, by side: what only closes is left
    /// out, as a share of the whole, rounded up.
    pub(crate) fn opening(self, position: Count) -> (Dollars, Dollars) {
        let opens = |count: Count, value: Dollars, closable: Count| {
            let opening = count.saturating_sub(closable.max(Count::ZERO)).max(Count::ZERO);
            super::amount::part_up(
                value,
                i128::from(opening.as_hundredths()),
                i128::from(count.as_hundredths()),
            )
        };
        (
            opens(self.bid_count, self.bid_value, opposite(position)),
            opens(self.ask_count, self.ask_value, position),
        )
    }
}

impl Position {
    /// Returns the mean price at which it was opened, in whole 10⁻⁴ dollars, cut; zero if it is
    /// flat.
    pub(crate) fn entry_price(self) -> Dollars {
        let (paid, count) =
            (i128::from(self.cost.as_micros()), i128::from(self.count.as_hundredths()));
        if count == 0 {
            return Dollars::ZERO;
        }
        super::amount::micros(paid * 100 / count / 100 * 100)
    }

    /// Returns the profit at a price.
    pub(crate) fn profit(self, price: Dollars) -> Dollars {
        cost(price, self.count).saturating_sub(self.cost)
    }

    /// Returns what an order of a side could close.
    pub(crate) fn closable(self, side: Side) -> Count {
        let closable = match side {
            Side::Bid => opposite(self.count),
            Side::Ask => self.count,
        };
        closable.max(Count::ZERO)
    }

    /// Returns the side that closes it.
    pub(crate) fn closing_side(self) -> Side {
        if self.count.is_positive() { Side::Ask } else { Side::Bid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKET: MarketId = MarketId(1);

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn count(text: &str) -> Count {
        text.parse().unwrap()
    }

    #[test]
    fn closing_realizes_the_difference_to_the_cost_and_leaves_the_rest_at_its_price() {
        let mut wallet = Wallet::default();
        let mut trade = |side, price: &str, size: &str| {
            let booked = wallet.book(MARKET, side, dollars(price), count(size), Dollars::ZERO);
            (booked.realized, wallet.position(MARKET), wallet.cash)
        };
        assert_eq!(trade(Side::Bid, "10", "3").0, Dollars::ZERO);
        let (_, position, _) = trade(Side::Bid, "13", "1");
        assert_eq!((position.count, position.entry_price()), (count("4"), dollars("10.75")));
        let (realized, position, cash) = trade(Side::Ask, "12", "2");
        assert_eq!((realized, cash), (dollars("2.5"), dollars("2.5")));
        assert_eq!((position.count, position.entry_price()), (count("2"), dollars("10.75")));
        // Through zero: closes two, opens three short.
        let (realized, position, _) = trade(Side::Ask, "9", "5");
        assert_eq!(realized, dollars("-3.5"));
        assert_eq!((position.count, position.cost), (count("-3"), dollars("-27")));
        let (realized, position, cash) = trade(Side::Bid, "8", "3");
        assert_eq!((realized, cash), (dollars("3"), dollars("2")));
        assert_eq!(position, Position::default());
    }

    #[test]
    fn a_cost_that_does_not_divide_is_realized_as_a_whole_in_the_end() {
        let mut wallet = Wallet::default();
        let bids = [("1.0001", "1"), ("1.0002", "1"), ("1.0000", "1")];
        for (price, size) in bids {
            wallet.book(MARKET, Side::Bid, dollars(price), count(size), Dollars::ZERO);
        }
        for _ in 0..3 {
            wallet.book(MARKET, Side::Ask, dollars("2"), count("1"), Dollars::ZERO);
        }
        assert_eq!(wallet.cash, dollars("2.9997"));
    }

    #[test]
    fn orders_that_only_close_open_nothing() {
        let mut open = OpenOrders::default();
        open.add(Side::Ask, dollars("10"), count("5"));
        open.add(Side::Bid, dollars("9"), count("4"));
        assert_eq!(open.opening(count("5")), (dollars("36"), Dollars::ZERO));
        assert_eq!(open.opening(count("2")), (dollars("36"), dollars("30")));
        assert_eq!(open.opening(count("-3")), (dollars("9"), dollars("50")));
    }
}
