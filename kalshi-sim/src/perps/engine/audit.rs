//! Adds everything up: money, contracts, books, and the sums that are kept.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars};

use crate::{
    engine::{
        amount::SaturatingArithmetic,
        ids::OrderId,
        types::{OrderStatus, Side},
    },
    perps::engine::{Perps, amount::negated, ledger::OpenOrders},
};

impl Perps {
    /// Checks that nothing is lost and nothing is made: the cash of all members less the cost of their
    /// positions, with fees and the insurance fund, is what was paid in; longs and shorts of a market
    /// are equal; the books hold what rests.
    ///
    /// # Errors
    ///
    /// A description of the first sum that does not add up.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let mut money = self.fee_revenue.saturating_add(self.insurance);
        let mut longs: BTreeMap<_, (Count, Count)> = BTreeMap::new();
        let mut resting: BTreeMap<_, OpenOrders> = BTreeMap::new();
        for (id, account) in &self.accounts {
            for (number, wallet) in &account.wallets {
                money = money.saturating_add(wallet.cash);
                for (market, position) in &wallet.positions {
                    if position.count.is_zero() {
                        return Err(format!("{id} {number}: a flat position is kept"));
                    }
                    money = money.saturating_add(negated(position.cost));
                    let (sum, long) = longs.entry(*market).or_default();
                    *sum = sum.saturating_add(position.count);
                    *long = long.saturating_add(position.count.max(Count::ZERO));
                }
            }
            for order in &account.resting {
                let order = self.order(*order).ok_or("an order that rests is unknown")?;
                let key = (order.account, order.subaccount, order.market);
                resting.entry(key).or_default().add(order.side, order.price, order.remaining);
            }
        }
        if money != self.paid_in {
            return Err(format!("{money} instead of the {} that was paid in", self.paid_in));
        }
        for market in &self.markets {
            let (sum, long) = longs.get(&market.id).copied().unwrap_or_default();
            if !sum.is_zero() || long != market.open_interest {
                return Err(format!(
                    "{}: {sum} of longs and shorts are left over, {long} long, open interest {}",
                    market.ticker, market.open_interest
                ));
            }
            self.audit_book(market)?;
        }
        for (id, account) in &self.accounts {
            for (number, wallet) in &account.wallets {
                for market in &self.markets {
                    let rests = resting.get(&(*id, *number, market.id)).copied();
                    if wallet.open(market.id) != rests.unwrap_or_default() {
                        return Err(format!(
                            "{id} {number} in {}: {:?} instead of {rests:?}",
                            market.ticker,
                            wallet.open(market.id)
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn audit_book(&self, market: &super::markets::Market) -> Result<(), String> {
        if let (Some(bid), Some(ask)) = (market.bid(), market.ask())
            && bid.price >= ask.price
        {
            return Err(format!("{}: the book is crossed", market.ticker));
        }
        for side in [Side::Bid, Side::Ask] {
            let rows: Vec<(Dollars, OrderId, Count)> = market.book.orders(side).collect();
            for (price, id, count) in &rows {
                let fits = self.order(*id).is_some_and(|order| {
                    order.status == OrderStatus::Resting
                        && (order.price, order.remaining, order.side) == (*price, *count, side)
                        && order.market == market.id
                });
                if !fits {
                    return Err(format!("{}: {id} is in the book as it is not", market.ticker));
                }
            }
            let rests = self.accounts.values().flat_map(|account| &account.resting);
            let rests = rests.filter_map(|id| self.order(*id));
            let rests = rests.filter(|order| order.market == market.id && order.side == side);
            if rests.count() != rows.len() {
                return Err(format!("{}: an order that rests is not in the book", market.ticker));
            }
        }
        Ok(())
    }
}
