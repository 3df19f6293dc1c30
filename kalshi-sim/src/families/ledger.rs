//! What fills make of a position: net contracts, cost, profit. Exact: micro-dollars throughout.

use chrono::{DateTime, Utc};
use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One dollar in 10⁻⁴ dollars, the unit of prices here.
pub(crate) const ONE: i64 = 10_000;

/// The position of one account in one market.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// Hundredths of a contract; YES is positive.
    pub(crate) position: i64,
    /// What the open position cost, micro-dollars.
    pub(crate) cost: i64,
    /// Money spent so far, micro-dollars.
    pub(crate) traded: i64,
    /// Contracts traded so far, hundredths.
    pub(crate) shares: i64,
    pub(crate) realized: i64,
    pub(crate) fees: i64,
    pub(crate) updated: Option<DateTime<Utc>>,
}

impl Holding {
    /// Books a fill of `count` hundredths (YES is positive) at a YES price in 10⁻⁴ dollars.
    pub(crate) fn fill(&mut self, count: i64, yes_price: i64, fee: i64, at: DateTime<Utc>) {
        self.fees += fee;
        self.shares += count.abs();
        self.updated = Some(at);
        if self.position.signum() * count.signum() < 0 {
            let closing = count.abs().min(self.position.abs());
            let price = side_price(self.position, yes_price);
            self.close(closing, price);
            let opening = count.abs() - closing;
            self.open(opening * count.signum(), yes_price);
        } else {
            self.open(count, yes_price);
        }
    }

    /// Pays the market out: `value` is what a YES contract is worth, in 10⁻⁴ dollars.
    pub(crate) fn settle(&mut self, value: i64, at: DateTime<Utc>) {
        let price = side_price(self.position, value);
        self.close(self.position.abs(), price);
        self.updated = Some(at);
    }

    /// A row of the positions lists.
    pub(crate) fn wire(&self, ticker: &str, exchange_index: i64, start: DateTime<Utc>) -> Value {
        json!({
            "ticker": ticker,
            "exchange_index": exchange_index,
            "total_traded_dollars": Dollars::from_micros(self.traded),
            "position_fp": Count::from_hundredths(self.position),
            "market_exposure_dollars": Dollars::from_micros(self.cost),
            "realized_pnl_dollars": Dollars::from_micros(self.realized),
            "fees_paid_dollars": Dollars::from_micros(self.fees),
            "last_updated_ts": self.updated.unwrap_or(start),
        })
    }

    fn open(&mut self, count: i64, yes_price: i64) {
        let cost = count.abs() * side_price(count, yes_price);
        self.position += count;
        self.cost += cost;
        self.traded += cost;
    }

    /// Closes part of the position at a price of the side that is held.
    fn close(&mut self, closing: i64, price: i64) {
        let held = self.position.abs();
        if held == 0 {
            return;
        }
        let part = i128::from(self.cost) * i128::from(closing) / i128::from(held);
        let released = i64::try_from(part).unwrap_or(self.cost);
        self.cost -= released;
        self.realized += closing * price - released;
        self.position -= closing * self.position.signum();
    }
}

/// A row of the event positions: the sum over the markets of one event.
pub(crate) fn event_wire<'a>(event: &str, rows: impl Iterator<Item = &'a Holding>) -> Value {
    let sum = rows.fold(Holding::default(), |mut sum, row| {
        sum.cost += row.cost;
        sum.traded += row.traded;
        sum.shares += row.shares;
        sum.realized += row.realized;
        sum.fees += row.fees;
        sum
    });
    json!({
        "event_ticker": event,
        "total_cost_dollars": Dollars::from_micros(sum.traded),
        "total_cost_shares_fp": Count::from_hundredths(sum.shares),
        "event_exposure_dollars": Dollars::from_micros(sum.cost),
        "realized_pnl_dollars": Dollars::from_micros(sum.realized),
        "fees_paid_dollars": Dollars::from_micros(sum.fees),
    })
}

/// The taker's fee of the quadratic schedule in micro-dollars: 0.07 × C × P × (1 − P), rounded up
/// to 10⁻⁴ dollars.
pub(crate) fn taker_fee(count: i64, price: i64) -> i64 {
    let exact = 7 * i128::from(count) * i128::from(price) * i128::from(ONE - price);
    i64::try_from((exact + 99_999_999) / 100_000_000 * 100).unwrap_or(i64::MAX)
}

/// The price of the side that a signed count stands for.
fn side_price(count: i64, yes_price: i64) -> i64 {
    if count < 0 { ONE - yes_price } else { yes_price }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buying_twice_and_selling_part_keeps_the_average_cost() {
        let at = DateTime::<Utc>::MIN_UTC;
        let mut holding = Holding::default();
        holding.fill(1_000, 4_000, 0, at);
        holding.fill(1_000, 6_000, 0, at);
        assert_eq!((holding.position, holding.cost), (2_000, 10_000_000));
        holding.fill(-500, 7_000, 0, at);
        assert_eq!((holding.position, holding.cost), (1_500, 7_500_000));
        assert_eq!(holding.realized, 500 * 7_000 - 2_500_000);
    }

    #[test]
    fn selling_more_than_held_turns_into_a_no_position_which_settles() {
        let at = DateTime::<Utc>::MIN_UTC;
        let mut holding = Holding::default();
        holding.fill(1_000, 4_000, 0, at);
        holding.fill(-1_500, 5_000, 0, at);
        assert_eq!((holding.position, holding.cost), (-500, 500 * 5_000));
        assert_eq!(holding.realized, 1_000 * 1_000);
        holding.settle(0, at);
        assert_eq!((holding.position, holding.cost), (0, 0));
        assert_eq!(holding.realized, 1_000 * 1_000 + 500 * 5_000);
        assert_eq!(holding.shares, 2_500);
    }

    #[test]
    fn fees_follow_the_schedule_and_round_up() {
        // 0.07 × 100 × 0.5 × 0.5 = 1.75 dollars.
        assert_eq!(taker_fee(10_000, 5_000), 1_750_000);
        // 0.07 × 0.01 × 0.01 × 0.99 = 0.00000693 dollars.
        assert_eq!(taker_fee(1, 100), 100);
    }
}
