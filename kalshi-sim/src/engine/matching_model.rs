//! Matching for a product that is not event contracts, beside a plain list of orders: prices far
//! above a dollar, no complement, and reduce-only orders that may also be fill-or-kill. Whatever
//! orders, amendments and groups come, trades, queues and what is held are those of the list.
//!
//! 10,000 commands a run; `KALSHI_SIM_COMMANDS` asks for more, `KALSHI_SIM_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars};

use crate::{
    engine::{
        amount::{SaturatingArithmetic, cost},
        book::Book,
        fees::Charged,
        groups::{Group, OrderGroups, WINDOW_MILLIS},
        ids::{AccountId, GroupId, MarketId, OrderId},
        matching::Matching,
        random_run::setting,
        types::{
            Amend, Decrease, Event, Executed, NewOrder, Order, OrderStatus, Reason, Refusal, Route,
            SelfTrade, Shard, Side, Subaccount, Time, TimeInForce,
        },
    },
    random::Random,
};

const MARKET: MarketId = MarketId(1);
const START: i64 = 1_790_000_000_000;
const MEMBERS: u32 = 5;

/// A trade: the order that came, the one that rested, and what they agreed on.
type Print = (OrderId, OrderId, Dollars, Count);

/// A product with one market. Who buys pays who sells; each resting order holds what it would cost.
#[derive(Default)]
struct Plain {
    now: i64,
    orders: Vec<Order>,
    book: Book,
    resting: BTreeMap<AccountId, BTreeSet<OrderId>>,
    cash: BTreeMap<AccountId, Dollars>,
    held: BTreeMap<AccountId, Dollars>,
    positions: BTreeMap<AccountId, Count>,
    groups: BTreeMap<GroupId, Group>,
    last_group: u64,
    last_queue_priority: u64,
    expiries: BTreeSet<(Time, OrderId)>,
    prints: Vec<Print>,
    /// The levels that the events add up to.
    levels: BTreeMap<(Side, Dollars), Count>,
}

impl Plain {
    fn place(&mut self, new: &NewOrder) -> Result<Executed, Refusal> {
        self.check_lifetime(new)?;
        let id = OrderId(u64::try_from(self.orders.len()).unwrap() + 1);
        let position = self.positions.get(&new.account).copied().unwrap_or_default();
        let reducible = match new.side {
            Side::Bid => Count::ZERO.saturating_sub(position),
            Side::Ask => position,
        };
        let count =
            if new.reduce_only { new.count.min(reducible.max(Count::ZERO)) } else { new.count };
        self.orders.push(Order::entered(id, new, MARKET, count, self.time()));
        self.check_price(&self.orders[self.orders.len() - 1], new.price)
            .inspect_err(|_| drop(self.orders.pop()))?;
        Ok(self.execute(new, id, count))
    }

    fn move_money(&mut self, id: OrderId, price: Dollars, count: Count, taker: bool) {
        let order = self.find_order(id).unwrap();
        let (account, side) = (order.account, order.side);
        let paid = cost(price, count);
        let cash = self.cash.entry(account).or_default();
        let position = self.positions.entry(account).or_default();
        match side {
            Side::Bid => {
                *cash = cash.saturating_sub(paid);
                *position = position.saturating_add(count);
            }
            Side::Ask => {
                *cash = cash.saturating_add(paid);
                *position = position.saturating_sub(count);
            }
        }
        let free = Charged { fee: Dollars::ZERO, rounding: Dollars::ZERO };
        self.record_fill(id, count, paid, free, taker);
    }
}

impl Matching for Plain {
    const REDUCE_ONLY: (&'static [TimeInForce], &'static str) = (
        &[TimeInForce::ImmediateOrCancel, TimeInForce::FillOrKill],
        "reduce_only goes with immediate_or_cancel and fill_or_kill only",
    );

    fn pass_time(&mut self, now: Time) {
        self.now = now.as_millis();
        while let Some((due, order)) = self.expiries.first().copied()
            && due <= now
        {
            self.expiries.pop_first();
            self.expire(order);
        }
    }

    fn time(&self) -> Time {
        Time::from_millis(self.now)
    }

    fn find_order(&self, id: OrderId) -> Option<&Order> {
        self.orders.get(id.index())
    }

    fn find_order_mut(&mut self, id: OrderId) -> Option<&mut Order> {
        self.orders.get_mut(id.index())
    }

    fn book(&self, market: MarketId) -> Option<&Book> {
        (market == MARKET).then_some(&self.book)
    }

    fn book_mut(&mut self, market: MarketId) -> Option<&mut Book> {
        (market == MARKET).then_some(&mut self.book)
    }

    fn resting_mut(&mut self, account: AccountId) -> Option<&mut BTreeSet<OrderId>> {
        Some(self.resting.entry(account).or_default())
    }

    fn touch_account(&mut self, _: AccountId, _: Time) {}

    fn take_queue_priority(&mut self) -> u64 {
        self.last_queue_priority += 1;
        self.last_queue_priority
    }

    fn publish(&mut self, _: Event) {}

    fn publish_level(&mut self, order: &Order, delta: Count) {
        let level = self.levels.entry((order.side, order.price)).or_default();
        *level = level.saturating_add(delta);
        self.levels.retain(|_, count| !count.is_zero());
    }

    fn publish_ticker(&mut self, _: MarketId) {}

    fn schedule_expiry(&mut self, order: OrderId, at: Time) {
        self.expiries.insert((at, order));
    }

    fn rename(&mut self, order: &Order, client_order_id: &str) {
        let order = self.find_order_mut(order.id).unwrap();
        order.extras_mut().client_order_id = Some(Box::from(client_order_id));
    }

    fn check_tradable(&self, _: MarketId) -> Result<(), Refusal> {
        Ok(())
    }

    fn check_reachable(&self, _: MarketId) -> Result<(), Refusal> {
        Ok(())
    }

    fn check_price(&self, _: &Order, price: Dollars) -> Result<(), Refusal> {
        if price.is_positive() && price.floor_to(Dollars::CENT) == Some(price) {
            Ok(())
        } else {
            Err(Refusal::invalid("invalid_price", "the price is not a whole number of cents"))
        }
    }

    fn check_unused(&self, _: AccountId, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn check_affordable(&mut self, _: &Order, _: Dollars, _: Count) -> Result<(), Refusal> {
        Ok(())
    }

    fn check_account(&self, _: AccountId) -> Result<(), Refusal> {
        Ok(())
    }

    fn is_provisioned(&self, _: AccountId, _: Subaccount, _: Shard) -> bool {
        true
    }

    fn hold(&mut self, order: &Order) {
        let held = self.held.entry(order.account).or_default();
        *held = held.saturating_add(cost(order.price, order.remaining));
    }

    fn release(&mut self, order: &Order, count: Count) {
        let held = self.held.entry(order.account).or_default();
        *held = held.saturating_sub(cost(order.price, count));
    }

    fn trade_orders(
        &mut self,
        taker: OrderId,
        maker: &Order,
        price: Dollars,
        count: Count,
    ) -> Dollars {
        self.prints.push((taker, maker.id, price, count));
        self.move_money(maker.id, price, count, false);
        self.move_money(taker, price, count, true);
        Dollars::ZERO
    }

    fn order_groups(&self) -> &BTreeMap<GroupId, Group> {
        &self.groups
    }

    fn order_groups_mut(&mut self) -> &mut BTreeMap<GroupId, Group> {
        &mut self.groups
    }

    fn take_group_id(&mut self) -> GroupId {
        self.last_group += 1;
        GroupId(self.last_group)
    }
}

/// An order of the plain list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    id: OrderId,
    account: AccountId,
    side: Side,
    price: Dollars,
    left: Count,
    filled: Count,
    post_only: bool,
    self_trade: SelfTrade,
    expires: Option<i64>,
    group: Option<GroupId>,
}

/// A group of the plain list.
#[derive(Default)]
struct Limited {
    limit: Count,
    triggered: bool,
    matched: Vec<(i64, Count)>,
}

/// Resting orders, the oldest in its queue first, and nothing that makes anything fast.
#[derive(Default)]
struct List {
    rows: Vec<Row>,
    groups: BTreeMap<GroupId, Limited>,
    prints: Vec<Print>,
}

impl List {
    /// Returns the orders that one trades with, the first to trade first.
    fn facing(&self, order: &Row) -> Vec<Row> {
        let mut facing: Vec<Row> = self
            .rows
            .iter()
            .filter(|row| row.side != order.side && order.side.crosses(order.price, row.price))
            .copied()
            .collect();
        // Stable: the older of two at one price stays first.
        facing.sort_by_key(|row| match order.side {
            Side::Bid => row.price.as_micros(),
            Side::Ask => -row.price.as_micros(),
        });
        facing
    }

    fn remove(&mut self, id: OrderId) -> Option<Row> {
        let at = self.rows.iter().position(|row| row.id == id)?;
        Some(self.rows.remove(at))
    }

    fn count_group(&mut self, group: Option<GroupId>, count: Count, now: i64) {
        let Some((id, group)) = group.and_then(|id| Some((id, self.groups.get_mut(&id)?))) else {
            return;
        };
        group.matched.push((now, count));
        let recent = group.matched.iter().filter(|(at, _)| at + WINDOW_MILLIS > now);
        let sum = recent.fold(Count::ZERO, |sum, (_, count)| sum.saturating_add(*count));
        if sum > group.limit {
            group.triggered = true;
            self.rows.retain(|row| row.group != Some(id));
        }
    }

    /// Trades an order, and lets its rest rest if it may.
    fn enter(&mut self, mut order: Row, time_in_force: TimeInForce, now: i64) {
        if order.left.is_zero() || (order.post_only && !self.facing(&order).is_empty()) {
            return;
        }
        if time_in_force == TimeInForce::FillOrKill {
            let (mut found, mut own) = (Count::ZERO, false);
            for row in self.facing(&order) {
                if found >= order.left {
                    break;
                }
                own |= row.account == order.account;
                found = found.saturating_add(row.left);
            }
            if !own && found < order.left {
                return;
            }
        }
        let mut ended = false;
        while let Some(maker) = self.facing(&order).first().copied()
            && order.left.is_positive()
        {
            if maker.account == order.account {
                if order.self_trade == SelfTrade::TakerAtCross {
                    ended = true;
                    break;
                }
                self.remove(maker.id);
                continue;
            }
            let count = order.left.min(maker.left);
            self.prints.push((order.id, maker.id, maker.price, count));
            order.left = order.left.saturating_sub(count);
            order.filled = order.filled.saturating_add(count);
            let row = self.rows.iter_mut().find(|row| row.id == maker.id).unwrap();
            row.left = row.left.saturating_sub(count);
            row.filled = row.filled.saturating_add(count);
            self.rows.retain(|row| row.left.is_positive());
            self.count_group(maker.group, count, now);
            self.count_group(order.group, count, now);
            if order.group.is_some_and(|group| self.groups[&group].triggered) {
                ended = true;
                break;
            }
        }
        let stays = time_in_force == TimeInForce::GoodTillCanceled;
        if stays && !ended && order.left.is_positive() {
            self.rows.push(order);
        }
    }
}

struct Run {
    random: Random,
    plain: Plain,
    list: List,
    now: i64,
    seen: BTreeMap<&'static str, u64>,
}

impl Run {
    fn count(&mut self) -> Count {
        Count::from_hundredths(i64::try_from(self.random.below(900)).unwrap() + 1)
    }

    fn price(&mut self) -> Dollars {
        // Around 97,000 dollars; now and then between two cents.
        let cents = 9_700_000 + i64::try_from(self.random.below(12)).unwrap();
        let off = if self.random.below(30) == 0 { 5_000 } else { 0 };
        Dollars::from_micros(cents * 10_000 + off)
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn place(&mut self) {
        let account = AccountId(u32::try_from(self.random.below(MEMBERS.into())).unwrap() + 1);
        let side = if self.random.below(2) == 0 { Side::Bid } else { Side::Ask };
        let (price, count) = (self.price(), self.count());
        let mut new = NewOrder::resting(account, "PLAIN".to_owned(), side, price, count);
        new.time_in_force = match self.random.below(6) {
            0 => TimeInForce::ImmediateOrCancel,
            1 => TimeInForce::FillOrKill,
            _ => TimeInForce::GoodTillCanceled,
        };
        let waits = new.time_in_force == TimeInForce::GoodTillCanceled;
        new.post_only = self.random.below(8) == 0;
        new.reduce_only = self.random.below(if waits { 40 } else { 2 }) == 0;
        if self.random.below(2) == 0 {
            new.self_trade = SelfTrade::TakerAtCross;
        }
        if waits && self.random.below(6) == 0 {
            new.expires = Some(Time::from_millis(self.now + 900));
        }
        let own: Vec<GroupId> = self
            .plain
            .groups
            .values()
            .filter(|group| group.account == account && !group.triggered)
            .map(|group| group.id)
            .collect();
        new.group = own.last().copied().filter(|_| self.random.below(2) == 0);
        let held = self.plain.positions.get(&account).copied().unwrap_or_default();
        let result = self.plain.place(&new);
        let off_tick = price.as_micros() % 10_000 != 0;
        let wrong = (new.reduce_only && waits) || (new.post_only && !waits) || off_tick;
        assert_eq!(result.is_err(), wrong, "{new:?}: {result:?}");
        let Ok(done) = result else { return self.note("refused") };
        let reduces = match side {
            Side::Bid => Count::ZERO.saturating_sub(held),
            Side::Ask => held,
        };
        let left = if new.reduce_only { count.min(reduces.max(Count::ZERO)) } else { count };
        let row = Row {
            id: done.order,
            account,
            side,
            price,
            left,
            filled: Count::ZERO,
            post_only: new.post_only,
            self_trade: new.self_trade,
            expires: new.expires.map(Time::as_millis),
            group: new.group,
        };
        self.list.enter(row, new.time_in_force, self.now);
        if new.reduce_only {
            assert!(done.filled <= left, "{new:?}: {done:?}");
            self.note("reduced");
        }
        self.note(match done.reason {
            Reason::None => "placed",
            Reason::SelfTradeCancel => "self trade",
            Reason::PostOnlyCrossCancel => "post only",
            Reason::OrderGroupCancel => "group",
            _ => "ended",
        });
    }

    fn change(&mut self) {
        let length = u64::try_from(self.list.rows.len()).unwrap();
        if length == 0 {
            return;
        }
        let row = self.list.rows[usize::try_from(self.random.below(length)).unwrap()];
        let order = self.plain.find_order(row.id).unwrap().clone();
        match self.random.below(4) {
            0 => {
                assert_eq!(self.plain.cancel_order(&order), Ok(row.left));
                self.list.remove(row.id);
                self.note("canceled");
            }
            1 => {
                let by = self.count();
                let result = self.plain.decrease_order(&order, Decrease::By(by));
                let left = row.left.saturating_sub(by);
                if left.is_negative() {
                    assert_eq!(result.unwrap_err().code, "invalid_order_size");
                    return;
                }
                assert_eq!(result, Ok(left));
                self.list.rows.iter_mut().find(|other| other.id == row.id).unwrap().left = left;
                self.list.rows.retain(|row| row.left.is_positive());
                self.note("decreased");
            }
            _ => {
                let price = if self.random.below(2) == 0 { row.price } else { self.price() };
                let total = match self.random.below(4) {
                    0 => row.filled,
                    1 => row.filled.saturating_add(row.left),
                    _ => row.filled.saturating_add(self.count()),
                };
                let amend = Amend {
                    account: row.account,
                    subaccount: 0,
                    order: row.id,
                    ticker: "PLAIN".to_owned(),
                    side: row.side,
                    price,
                    count: total,
                    client_order_id: None,
                    updated_client_order_id: None,
                    expires: None,
                    route: Route::default(),
                };
                let result = self.plain.amend_order(&order, &amend);
                if price.as_micros() % 10_000 != 0 {
                    assert_eq!(result.unwrap_err().code, "invalid_price");
                    return;
                }
                result.unwrap();
                let left = total.saturating_sub(row.filled);
                if left.is_zero() {
                    self.list.remove(row.id);
                } else if price != row.price || left > row.left {
                    self.list.remove(row.id);
                    let moved = Row { price, left, ..row };
                    self.list.enter(moved, TimeInForce::GoodTillCanceled, self.now);
                    self.note("moved");
                } else {
                    self.list.rows.iter_mut().find(|other| other.id == row.id).unwrap().left = left;
                }
            }
        }
    }

    fn group(&mut self) {
        let account = AccountId(u32::try_from(self.random.below(MEMBERS.into())).unwrap() + 1);
        let now = Time::from_millis(self.now);
        let limit = Count::from_contracts(i64::try_from(self.random.below(12)).unwrap() + 1);
        let limit = limit.unwrap();
        let own = self.plain.groups.values().find(|group| group.account == account);
        let Some(id) = own.map(|group| group.id) else {
            let id = self.plain.create_group(account, 0, 0, limit, now).unwrap();
            self.list.groups.insert(id, Limited { limit, ..Limited::default() });
            return;
        };
        match self.random.below(3) {
            0 => {
                self.plain.delete_group(account, id, 0, 0, now).unwrap();
                self.list.groups.remove(&id);
                self.list.rows.retain(|row| row.group != Some(id));
            }
            1 => {
                self.plain.trigger_group(account, id, 0, 0, now).unwrap();
                self.list.groups.get_mut(&id).unwrap().triggered = true;
                self.list.rows.retain(|row| row.group != Some(id));
            }
            _ => {
                self.plain.reset_group(account, id, 0, 0, now).unwrap();
                let group = self.list.groups.get_mut(&id).unwrap();
                (group.triggered, group.matched) = (false, Vec::new());
            }
        }
    }

    fn step(&mut self) {
        self.now += i64::try_from(self.random.below(400)).unwrap();
        self.plain.pass_time(Time::from_millis(self.now));
        let now = self.now;
        self.list.rows.retain(|row| row.expires.is_none_or(|expires| expires > now));
        match self.random.below(20) {
            0 => self.group(),
            1..7 => self.change(),
            _ => self.place(),
        }
        self.compare();
    }

    fn compare(&mut self) {
        assert_eq!(self.plain.prints, self.list.prints);
        self.plain.prints.clear();
        self.list.prints.clear();
        let mut held: BTreeMap<AccountId, Dollars> = BTreeMap::new();
        let mut levels: BTreeMap<(Side, Dollars), Count> = BTreeMap::new();
        for row in &self.list.rows {
            let order = self.plain.find_order(row.id).unwrap();
            assert_eq!(order.status, OrderStatus::Resting);
            assert_eq!((order.remaining, order.filled), (row.left, row.filled), "{row:?}");
            let sum = held.entry(row.account).or_default();
            *sum = sum.saturating_add(cost(row.price, row.left));
            let level = levels.entry((row.side, row.price)).or_default();
            *level = level.saturating_add(row.left);
        }
        assert_eq!(self.plain.levels, levels);
        for side in [Side::Bid, Side::Ask] {
            let queue: Vec<OrderId> =
                self.plain.book.orders(side).map(|(_, order, _)| order).collect();
            // What would trade with an order at any price is the whole side.
            let limit = match side {
                Side::Bid => Dollars::CENT,
                Side::Ask => Dollars::MAX,
            };
            let any = Row { side: side.opposite(), price: limit, ..EVERYTHING };
            let listed: Vec<OrderId> = self.list.facing(&any).iter().map(|row| row.id).collect();
            assert_eq!(queue, listed);
        }
        self.plain.held.retain(|_, held| !held.is_zero());
        assert_eq!(self.plain.held, held);
        for (id, group) in &self.list.groups {
            assert_eq!(self.plain.groups[id].triggered, group.triggered);
        }
        let resting: usize = self.plain.resting.values().map(BTreeSet::len).sum();
        assert_eq!(resting, self.list.rows.len());
        let cash = self.plain.cash.values().map(|cash| cash.as_micros());
        assert_eq!(cash.sum::<i64>(), 0, "who buys pays who sells");
        let contracts = self.plain.positions.values().map(|count| count.as_hundredths());
        assert_eq!(contracts.sum::<i64>(), 0, "each contract has two parties");
    }
}

const EVERYTHING: Row = Row {
    id: OrderId(0),
    account: AccountId(0),
    side: Side::Bid,
    price: Dollars::ZERO,
    left: Count::ZERO,
    filled: Count::ZERO,
    post_only: false,
    self_trade: SelfTrade::Maker,
    expires: None,
    group: None,
};

#[test]
fn another_product_matches_as_a_plain_list_of_orders_does() {
    let mut run = Run {
        random: Random::new(setting("KALSHI_SIM_SEED", 9)),
        plain: Plain::default(),
        list: List::default(),
        now: START,
        seen: BTreeMap::new(),
    };
    for _ in 0..setting("KALSHI_SIM_COMMANDS", 10_000) {
        run.step();
    }
    for what in [
        "placed",
        "refused",
        "reduced",
        "self trade",
        "post only",
        "group",
        "ended",
        "canceled",
        "decreased",
        "moved",
    ] {
        assert!(run.seen.contains_key(what), "no {what}: {:?}", run.seen);
    }
}
