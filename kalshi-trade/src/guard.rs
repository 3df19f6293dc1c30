//! The ceilings of a [`Trading`](crate::trading::Trading): what every order, fill and position of the
//! account comes to in a [`RiskLedger`].
//!
//! Pure: what was read and what happened go in.

use std::{
    collections::{HashMap, HashSet},
    slice,
};

use kalshi_sdk::types::{BookSide, CreateOrderV2Request, FeeType};
use kalshi_types::{Count, Dollars, UnixMillis};
use kalshi_ws::{AccountSnapshot, FillRecord, OrderRecord};

use crate::{
    fees::{FeeSchedule, Precision},
    orders::{Life, ManagedOrder, OrderIntent, OrderKey},
    risk::{Ceilings, CeilingsError, OrderRisk, RiskError, RiskLedger},
};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Fills this close to the start may come again by the streams and reads.
const REPEATED: std::time::Duration = std::time::Duration::from_secs(300);

/// Measures orders against ceilings.
#[derive(Debug)]
pub(crate) struct Guard {
    ledger: RiskLedger,
    fees: FeeSchedule,
    /// The names of orders in the ledger.
    names: HashMap<OrderKey, String>,
    /// The names of orders that the first read had, until the manager has seen them.
    unseen: HashSet<String>,
    /// The fills that the first read had, by order and trade.
    counted: HashSet<(String, String)>,
}

/// Returns the schedule that is taken where none is given: that of most series.
pub(crate) fn usual_fees() -> Option<FeeSchedule> {
    FeeSchedule::new(FeeType::Quadratic, "1".parse().ok()?).ok()
}

/// Returns the beginning of the day (UTC).
pub(crate) fn day_start(now: UnixMillis) -> UnixMillis {
    let millis = now.as_millis();
    UnixMillis::from_millis(millis.saturating_sub(millis.rem_euclid(DAY_MS)))
}

impl Guard {
    pub(crate) fn new(ceilings: Ceilings, fees: FeeSchedule) -> Self {
        Self {
            ledger: RiskLedger::new(ceilings),
            fees,
            names: HashMap::new(),
            unseen: HashSet::new(),
            counted: HashSet::new(),
        }
    }

    pub(crate) fn ledger(&self) -> &RiskLedger {
        &self.ledger
    }

    pub(crate) fn tighten(&mut self, to: Ceilings) -> Result<(), CeilingsError> {
        self.ledger.tighten(to)
    }

    /// Takes in the account as it was read before the first order: positions, the fills of the day,
    /// and what rests. `began` is the time at which the read began.
    pub(crate) fn restore(&mut self, began: UnixMillis, account: &AccountSnapshot) {
        for position in &account.positions {
            let zero = Dollars::ZERO;
            self.ledger.record_position(
                &position.market_ticker,
                position.count,
                position.cost.unwrap_or(zero),
                position.realized_pnl.unwrap_or(zero),
                position.fees.unwrap_or(zero),
            );
        }
        let today = day_start(began);
        for fill in &account.fills {
            let is_after = |time| fill.ts_ms.is_none_or(|at| at >= time);
            if !is_after(today) {
                continue;
            }
            let risk = risk_of_fill(fill);
            // The positions are complete up to that time, and may have more: what is later counts if
            // that is the worse.
            let is_worse =
                self.ledger.market_loss_with(&risk) > self.ledger.market_loss(&fill.market_ticker);
            let recorded = if is_after(account.as_of) && is_worse {
                self.ledger.record_fill(began, &risk)
            } else {
                self.ledger.record_spent(began, &risk)
            };
            warn(recorded, "a fill");
            if is_after(began.saturating_sub(REPEATED)) {
                self.counted.insert((fill.order_id.clone(), fill.trade_id.clone()));
            }
        }
        for order in &account.orders {
            let name = name_of(slice::from_ref(&order.client_order_id), Some(&order.order_id));
            let Some(name) = name else { continue };
            self.hold(
                began,
                &name,
                &order.market_ticker,
                &order.book_side,
                order.yes_price,
                order.remaining,
            );
            self.unseen.insert(name);
        }
    }

    /// Counts an order of an earlier session among those of the last minute.
    pub(crate) fn restore_order(&mut self, at: UnixMillis) {
        self.ledger.record_order(at);
    }

    /// Holds an order of an earlier session whose outcome is unknown, with its full size.
    pub(crate) fn restore_unknown(&mut self, now: UnixMillis, id: &str, body: &str) {
        match serde_json::from_str::<CreateOrderV2Request>(body) {
            Ok(order) => {
                self.hold(now, id, &order.ticker, &order.side, order.price, order.count);
            }
            Err(error) => tracing::warn!(%error, id, "an order of the journal was not measured"),
        }
    }

    /// Takes in that the manager knows all that rests: what the first read had and is gone since
    /// frees its size.
    pub(crate) fn is_complete(&mut self) {
        for name in std::mem::take(&mut self.unseen) {
            if !self.names.values().any(|known| *known == name) {
                let _ = self.ledger.close(&name);
            }
        }
    }

    /// Measures an order. One that can only reduce a position is let through: no ceiling keeps the
    /// account in a position.
    pub(crate) fn check(
        &mut self,
        now: UnixMillis,
        order: &CreateOrderV2Request,
    ) -> Result<(), RiskError> {
        if is_reducing(order) {
            return Ok(());
        }
        let fee = self.worst_fee(order.price, order.count)?;
        self.ledger.check(now, &risk_of("", order, fee))
    }

    /// Measures several orders, each with those before it.
    pub(crate) fn check_all(
        &self,
        now: UnixMillis,
        orders: &[CreateOrderV2Request],
    ) -> Result<(), RiskError> {
        let mut ledger = self.ledger.clone();
        for (number, order) in orders.iter().enumerate() {
            if is_reducing(order) {
                ledger.record_order(now);
                continue;
            }
            let fee = self.worst_fee(order.price, order.count)?;
            // No client order id of this crate begins like that.
            ledger.reserve(now, &risk_of(&format!("#{number}"), order, fee))?;
        }
        Ok(())
    }

    /// Reserves an order that was measured, under its client order id.
    pub(crate) fn reserve(&mut self, now: UnixMillis, id: &str, order: &CreateOrderV2Request) {
        if is_reducing(order) {
            self.ledger.record_order(now);
            return;
        }
        let reserved = self
            .worst_fee(order.price, order.count)
            .and_then(|fee| self.ledger.reserve(now, &risk_of(id, order, fee)));
        warn(reserved, "an order");
    }

    /// Measures another price and total of an order, before it is amended.
    pub(crate) fn check_change(
        &mut self,
        now: UnixMillis,
        key: OrderKey,
        order: &ManagedOrder,
        yes_price: Dollars,
        total: Count,
    ) -> Result<(), RiskError> {
        let (Some(record), Some(name)) = (order.record(), self.names.get(&key).cloned()) else {
            return Ok(());
        };
        let open = left(total, order.filled());
        let fee = self.worst_fee(yes_price, open)?;
        let risk = OrderRisk {
            id: &name,
            market: &record.market_ticker,
            side: record.book_side.clone(),
            price: yes_price,
            count: open,
            fee,
        };
        self.ledger.check_change(now, &risk)
    }

    /// Takes in a fill that was not known yet.
    pub(crate) fn fill(&mut self, now: UnixMillis, fill: &FillRecord) {
        if self.counted.remove(&(fill.order_id.clone(), fill.trade_id.clone())) {
            return;
        }
        warn(self.ledger.record_fill(now, &risk_of_fill(fill)), "a fill");
    }

    /// Takes in what an order is now.
    pub(crate) fn sync(&mut self, now: UnixMillis, key: OrderKey, order: &ManagedOrder) {
        let Some(name) = name_of(order.client_order_ids(), order.order_id()) else { return };
        let name = self.names.entry(key).or_insert(name).clone();
        self.unseen.remove(&name);
        if order.is_closed() {
            self.names.remove(&key);
            let _ = self.ledger.close(&name);
            return;
        }
        // Without a state it counts with its full size, as it was reserved.
        let Some(record) = order.record() else { return };
        let (price, open) = open_of(record, order);
        self.hold(now, &name, &record.market_ticker, &record.book_side, price, open);
    }

    /// Takes in that an order is known under another key from now on.
    pub(crate) fn identified(&mut self, was: OrderKey) {
        if let Some(name) = self.names.remove(&was) {
            let _ = self.ledger.close(&name);
        }
    }

    fn hold(
        &mut self,
        now: UnixMillis,
        name: &str,
        market: &str,
        side: &BookSide,
        price: Dollars,
        count: Count,
    ) {
        let held = self.worst_fee(price, count).and_then(|fee| {
            let side = side.clone();
            self.ledger.hold(now, &OrderRisk { id: name, market, side, price, count, fee })
        });
        warn(held, "an order");
    }

    fn worst_fee(&self, price: Dollars, count: Count) -> Result<Dollars, RiskError> {
        if count.is_zero() {
            return Ok(Dollars::ZERO);
        }
        self.fees
            .worst_fee(price, count, Precision::Intermediated, 1)
            .map_err(|error| RiskError::Invalid(format!("no fee: {error}")))
    }
}

/// Reports whether the exchange lets an order reduce a position only.
fn is_reducing(order: &CreateOrderV2Request) -> bool {
    order.reduce_only == Some(true)
}

/// Returns what may still be filled of an order, at the price that costs more while a change is
/// pending. Fills that are not known yet are in it, although the exchange has taken them off.
fn open_of(record: &OrderRecord, order: &ManagedOrder) -> (Dollars, Count) {
    if matches!(order.life(), Life::Over(_)) {
        return (record.yes_price, left(order.reported_filled(), order.filled()));
    }
    let total = record.filled.checked_add(record.remaining).unwrap_or(record.initial);
    let open = left(total, order.filled());
    let OrderIntent::Amend { yes_price, total } = order.intent() else {
        return (record.yes_price, open);
    };
    let is_dearer = match record.book_side {
        BookSide::Bid => yes_price > record.yes_price,
        _ => yes_price < record.yes_price,
    };
    let price = if is_dearer { yes_price } else { record.yes_price };
    (price, open.max(left(total, order.filled())))
}

/// Returns what is left of a total; none where more was filled.
fn left(total: Count, filled: Count) -> Count {
    total.checked_sub(filled).filter(|left| !left.is_negative()).unwrap_or(Count::ZERO)
}

fn name_of(client_order_ids: &[String], order_id: Option<&str>) -> Option<String> {
    let client = client_order_ids.iter().find(|id| !id.is_empty()).cloned();
    // No client order id of this crate begins like that.
    client.or_else(|| order_id.map(|id| format!("@{id}")))
}

fn risk_of<'a>(id: &'a str, order: &'a CreateOrderV2Request, fee: Dollars) -> OrderRisk<'a> {
    OrderRisk {
        id,
        market: &order.ticker,
        side: order.side.clone(),
        price: order.price,
        count: order.count,
        fee,
    }
}

fn risk_of_fill(fill: &FillRecord) -> OrderRisk<'_> {
    OrderRisk {
        id: "",
        market: &fill.market_ticker,
        side: fill.book_side.clone(),
        price: fill.yes_price,
        count: fill.count,
        fee: fill.fee,
    }
}

fn warn(result: Result<(), RiskError>, what: &str) {
    if let Err(error) = result {
        tracing::warn!(%error, "the ceilings do not count {what}");
    }
}

#[cfg(test)]
mod tests {
    use kalshi_ws::{
        PositionRecord,
        types::{MarketSide, UserOrderStatus},
    };

    use super::*;
    use crate::{
        orders::OrderManager,
        placement::PlacementState,
        risk::{Ceiling, Ceilings},
    };

    fn usd(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn count(text: &str) -> Count {
        text.parse().unwrap()
    }

    fn at(ms: i64) -> UnixMillis {
        UnixMillis::from_millis(ms)
    }

    /// A guard whose fees are those of fills alone.
    fn guard(market: &str) -> Guard {
        let ceilings = Ceilings::builder()
            .with_order_cost(Ceiling::Unlimited)
            .with_market_loss(Ceiling::AtMost(usd(market)))
            .with_day_cost(Ceiling::Unlimited)
            .with_orders_per_minute(Ceiling::Unlimited);
        let mut guard = Guard::new(ceilings.build().unwrap(), usual_fees().unwrap());
        guard.fees = FeeSchedule::new(FeeType::Quadratic, "0".parse().unwrap()).unwrap();
        guard
    }

    fn fill(trade: &str, ms: i64) -> FillRecord {
        FillRecord {
            trade_id: trade.to_owned(),
            order_id: "1".to_owned(),
            client_order_id: None,
            market_ticker: "M".to_owned(),
            subaccount: None,
            outcome_side: MarketSide::Yes,
            book_side: BookSide::Bid,
            yes_price: usd("0.50"),
            count: count("10"),
            fee: usd("0.10"),
            is_taker: true,
            ts_ms: Some(at(ms)),
            position_after: None,
        }
    }

    fn record(price: &str, remaining: &str, updated: i64) -> OrderRecord {
        OrderRecord {
            order_id: "1".to_owned(),
            client_order_id: "a".to_owned(),
            market_ticker: "M".to_owned(),
            subaccount: None,
            status: UserOrderStatus::Resting,
            outcome_side: MarketSide::Yes,
            book_side: BookSide::Bid,
            yes_price: usd(price),
            initial: count("10"),
            remaining: count(remaining),
            filled: Count::ZERO,
            updated: Some(at(updated)),
        }
    }

    #[test]
    fn what_the_first_read_had_counts_once_and_on_its_day() {
        let day = 20_000 * DAY_MS;
        let mut guard = guard("100");
        let mut account = AccountSnapshot::new(at(day + 5_000));
        // One of the day before, one of today that the position has, and one that it may not have.
        account.fills =
            vec![fill("old", day - 1), fill("held", day + 1_000), fill("new", day + 6_000)];
        account.positions = vec![PositionRecord {
            market_ticker: "M".to_owned(),
            subaccount: None,
            count: count("20"),
            cost: Some(usd("10")),
            realized_pnl: None,
            fees: Some(usd("0.20")),
        }];
        guard.restore(at(day + 7_000), &account);
        assert_eq!(guard.ledger().day_cost(), usd("10.20"));
        assert_eq!(guard.ledger().market_loss("M"), usd("15.30"));
        // The streams say them again, and another.
        for trade in ["held", "new"] {
            guard.fill(at(day + 8_000), &fill(trade, day + 6_000));
        }
        assert_eq!(guard.ledger().day_cost(), usd("10.20"));
        guard.fill(at(day + 8_000), &fill("another", day + 8_000));
        assert_eq!(guard.ledger().day_cost(), usd("15.30"));
    }

    #[test]
    fn an_order_that_is_gone_before_it_was_seen_frees_its_size() {
        let mut guard = guard("100");
        let mut account = AccountSnapshot::new(at(0));
        let gone = OrderRecord { client_order_id: String::new(), ..record("0.30", "10", 0) };
        account.orders = vec![record("0.50", "10", 0), gone];
        guard.restore(at(0), &account);
        assert_eq!(guard.ledger().market_loss("M"), usd("8.02"));
        let mut orders = OrderManager::new();
        orders.apply_order(record("0.50", "10", 0));
        let key = orders.by_client_order_id("a").unwrap();
        guard.sync(at(1), key, orders.get(key).unwrap());
        guard.is_complete();
        assert_eq!(guard.ledger().market_loss("M"), usd("5.01"));
    }

    #[test]
    fn an_order_that_is_being_amended_counts_with_the_worse_of_both() {
        let mut guard = guard("8");
        let mut orders = OrderManager::new();
        orders.apply_placement("a", &PlacementState::Accepted { order_id: "1".to_owned() });
        orders.apply_order(record("0.50", "10", 1));
        let key = orders.by_client_order_id("a").unwrap();
        guard.sync(at(1), key, orders.get(key).unwrap());
        let loss = |guard: &Guard| guard.ledger().market_loss("M");
        assert_eq!(loss(&guard), usd("5.01"));
        let to = |price: &str, total: &str| (usd(price), count(total));
        let (yes_price, total) = to("0.60", "14");
        let known = orders.get(key).unwrap();
        assert!(guard.check_change(at(1), key, known, yes_price, total).is_err());
        let (yes_price, total) = to("0.60", "12");
        guard.check_change(at(1), key, known, yes_price, total).unwrap();
        orders.set_intent(key, OrderIntent::Amend { yes_price, total }, false).unwrap();
        guard.sync(at(1), key, orders.get(key).unwrap());
        assert_eq!(loss(&guard), usd("7.21"));
        // A part was filled: it counts as a fill, and the rest as open.
        orders.apply_fill(&fill("t", 2));
        guard.fill(at(2), &fill("t", 2));
        guard.sync(at(2), key, orders.get(key).unwrap());
        assert_eq!(loss(&guard), usd("6.31"));
    }
}
