//! The recent past of what members read: the values of accounts, positions, orders and prices before
//! each of the latest changes.
//!
//! Nothing is written down while it is off. While it is on, the first change of a thing in an
//! action of the engine notes what it was before; lists that only grow are noted by their length.
//! So the account of any moment since then can be read exactly, and what is older than that is
//! dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kalshi_types::Dollars;

use crate::engine::{
    Account, Engine, Market, Payment, Position,
    ids::{AccountId, MarketId, OrderId},
    ledger::Balance,
    types::{Fill, MarketResult, Order, OrderStatus, Settlement, Shard, Subaccount, Time},
};

/// The number of changes that are kept. When there are more, reads trail by less than they shall.
const MAX_CHANGES: usize = 200_000;

/// A thing that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Account(AccountId),
    Position(AccountId, MarketId, Subaccount),
    Order(OrderId),
    Market(MarketId),
}

/// The value of a thing before a change.
#[derive(Clone, Debug)]
enum Before {
    Account(Head),
    /// `None` before there was one; the same for orders.
    Position(Option<Position>),
    Order(Option<Box<Order>>),
    Market(Valuation),
}

/// The parts of an account but its positions, with lists by their length.
#[derive(Clone, Debug)]
struct Head {
    cash: BTreeMap<(Subaccount, Shard), Balance>,
    updated: Time,
    orders: usize,
    fills: usize,
    settlements: usize,
    payments: usize,
}

/// The value of a contract of a market in a portfolio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Valuation {
    result: Option<MarketResult>,
    last_price: Option<Dollars>,
}

#[derive(Clone, Debug)]
struct Change {
    key: Key,
    before: Before,
    at: Time,
    action: u64,
}

/// The latest changes, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    is_on: bool,
    changes: VecDeque<Change>,
    /// The number of the oldest change; numbers count up for ever.
    first: u64,
    /// The numbers of the changes of each thing.
    by_key: BTreeMap<Key, VecDeque<u64>>,
    /// Of the action that is carried out.
    at: Time,
    action: u64,
    /// Everything up to here is readable at any time: it has been read already, or was not noted.
    floor: Horizon,
}

/// The actions that reads show: every one up to a time, and those up to a number. Actions are
/// numbered in the order of their times, so the visible ones are always the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    time: Time,
    action: u64,
    /// The time of that action.
    action_at: Time,
}

impl Default for Horizon {
    fn default() -> Self {
        let never = Time::from_millis(i64::MIN);
        Self { time: never, action: 0, action_at: never }
    }
}

impl Horizon {
    fn shows(self, change: &Change) -> bool {
        change.at <= self.time || change.action <= self.action
    }

    /// Returns the time up to which everything is readable.
    fn as_of(self) -> Time {
        // More may come in the millisecond of that action.
        let before = self.action_at.as_millis().saturating_sub(1);
        self.time.max(Time::from_millis(before))
    }
}

impl History {
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Notes the time and the number of the action that begins.
    pub(super) fn begin(&mut self, at: Time, action: u64) {
        self.at = at;
        self.action = action;
    }

    /// Starts to write changes down, from the next action on. `shown` is how far reads have been.
    fn start(&mut self, shown: Time) {
        if self.is_on {
            self.floor.time = self.floor.time.max(shown);
        } else {
            let (action, action_at) = (self.action, self.at);
            *self = Self { is_on: true, at: self.at, action, ..Self::default() };
            self.floor = Horizon { action, action_at, ..Horizon::default() };
        }
    }

    fn stop(&mut self) {
        *self = Self { at: self.at, action: self.action, ..Self::default() };
    }

    /// Drops the changes that no read needs once everything up to `time` is readable.
    fn forget(&mut self, time: Time) {
        let horizon = self.horizon(time);
        while self.changes.front().is_some_and(|change| horizon.shows(change)) {
            self.drop_oldest();
        }
    }

    fn horizon(&self, time: Time) -> Horizon {
        Horizon { time: self.floor.time.max(time), ..self.floor }
    }

    fn drop_oldest(&mut self) -> Option<Change> {
        let change = self.changes.pop_front()?;
        self.first += 1;
        if let Some(numbers) = self.by_key.get_mut(&change.key) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_key.remove(&change.key);
            }
        }
        Some(change)
    }

    /// Notes what a thing was before its first change in an action.
    fn note(&mut self, key: Key, before: impl FnOnce() -> Before) {
        let last = self.by_key.get(&key).and_then(VecDeque::back);
        let is_noted = last
            .and_then(|number| self.changes.get(index(number.checked_sub(self.first)?)))
            .is_some_and(|change| change.action == self.action);
        if is_noted {
            return;
        }
        let number = self.first + u64::try_from(self.changes.len()).unwrap_or(u64::MAX);
        let change = Change { key, before: before(), at: self.at, action: self.action };
        self.changes.push_back(change);
        self.by_key.entry(key).or_default().push_back(number);
        while self.changes.len() > MAX_CHANGES {
            let Some(dropped) = self.drop_oldest() else { break };
            self.floor.action = dropped.action;
            self.floor.action_at = dropped.at;
        }
    }

    pub(super) fn note_account(&mut self, id: AccountId, account: Option<&Account>) {
        if let Some(account) = account.filter(|_| self.is_on) {
            self.note(Key::Account(id), || Before::Account(Head::of(account)));
        }
    }

    pub(super) fn note_position(
        &mut self,
        id: AccountId,
        market: MarketId,
        subaccount: Subaccount,
        position: Option<&Position>,
    ) {
        if self.is_on {
            let key = Key::Position(id, market, subaccount);
            self.note(key, || Before::Position(position.cloned()));
        }
    }

    /// Records the order before a change, or `None` if this change creates it.
    pub(super) fn note_order(&mut self, id: OrderId, order: Option<&Order>) {
        if self.is_on {
            self.note(Key::Order(id), || Before::Order(order.cloned().map(Box::new)));
        }
    }

    pub(super) fn note_market(&mut self, market: Option<&Market>) {
        if let Some(market) = market.filter(|_| self.is_on) {
            self.note(Key::Market(market.id), || Before::Market(Valuation::of(market)));
        }
    }
}

impl Head {
    fn of(account: &Account) -> Self {
        Self {
            cash: account.cash.clone(),
            updated: account.updated,
            orders: account.orders.len(),
            fills: account.fills.len(),
            settlements: account.settlements.len(),
            payments: account.payments.len(),
        }
    }
}

impl Valuation {
    fn of(market: &Market) -> Self {
        Self { result: market.result, last_price: market.last_price }
    }
}

impl Engine {
    /// Writes changes down from now on, so that reads can trail. `shown` is how far they have been.
    pub(crate) fn start_history(&mut self, shown: Time) {
        self.ledger.history.start(shown);
    }

    /// Ends that, and forgets what has been written down.
    pub(crate) fn stop_history(&mut self) {
        self.ledger.history.stop();
    }

    /// Forgets what was before `time`.
    pub(crate) fn forget_history(&mut self, time: Time) {
        self.ledger.history.forget(time);
    }

    /// Returns what members read when they see everything that happened up to `time`, or
    /// everything.
    pub(crate) fn view(&self, time: Option<Time>) -> View<'_> {
        let history = &self.ledger.history;
        let horizon = time.filter(|_| history.is_on).map(|time| history.horizon(time));
        let hidden = horizon.map_or(u64::MAX, |horizon| {
            let shown = history.changes.partition_point(|change| horizon.shows(change));
            history.first + u64::try_from(shown).unwrap_or(u64::MAX)
        });
        View { engine: self, horizon, hidden }
    }
}

/// The state that members read at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    engine: &'a Engine,
    horizon: Option<Horizon>,
    /// The number of the first change that is not readable yet.
    hidden: u64,
}

/// An account as its member reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountView<'a> {
    view: View<'a>,
    id: AccountId,
    account: &'a Account,
    /// `None`: as it is.
    head: Option<&'a Head>,
}

impl<'a> View<'a> {
    /// Returns the time up to which everything is readable; `None` stands for the present.
    pub(crate) fn as_of(&self) -> Option<Time> {
        self.horizon.map(Horizon::as_of)
    }

    /// Returns an account. One that has just been opened is readable at once, and empty.
    pub(crate) fn account(&self, id: AccountId) -> Option<AccountView<'a>> {
        let account = self.engine.ledger.account(id)?;
        let head = match self.before(Key::Account(id)) {
            Some(Before::Account(head)) => Some(head),
            _ => None,
        };
        Some(AccountView { view: *self, id, account, head })
    }

    /// Returns an order as it was; `None` also if it was not there yet.
    pub(crate) fn order(&self, id: OrderId) -> Option<&'a Order> {
        match self.before(Key::Order(id)) {
            Some(Before::Order(order)) => order.as_deref(),
            _ => self.engine.order(id),
        }
    }

    /// Returns the value of a YES contract in a portfolio: the result, else the last price. The
    /// price that the exchange takes is not documented.
    pub(crate) fn value(&self, market: MarketId) -> Dollars {
        let valuation = match self.before(Key::Market(market)) {
            Some(Before::Market(valuation)) => Some(*valuation),
            _ => self.engine.market(market).map(Valuation::of),
        };
        valuation
            .and_then(|one| one.result.map(MarketResult::value).or(one.last_price))
            .unwrap_or(Dollars::ZERO)
    }

    /// Returns what a thing was before the first of its changes that is not readable.
    fn before(&self, key: Key) -> Option<&'a Before> {
        let history = &self.engine.ledger.history;
        let numbers = history.by_key.get(&key)?;
        let number = numbers.get(numbers.partition_point(|number| *number < self.hidden))?;
        let change = history.changes.get(index(number.checked_sub(history.first)?))?;
        Some(&change.before)
    }
}

impl<'a> AccountView<'a> {
    pub(crate) fn cash(&self) -> &'a BTreeMap<(Subaccount, Shard), Balance> {
        self.head.map_or(&self.account.cash, |head| &head.cash)
    }

    /// Returns the time of its last change.
    pub(crate) fn updated(&self) -> Time {
        self.head.map_or(self.account.updated, |head| head.updated)
    }

    /// Returns the ids of its orders, oldest first.
    pub(crate) fn orders(&self) -> &'a [OrderId] {
        until(&self.account.orders, self.head.map(|head| head.orders))
    }

    /// Returns its resting orders, oldest first.
    pub(crate) fn resting(&self) -> Box<dyn DoubleEndedIterator<Item = &'a Order> + 'a> {
        let (view, account) = (*self, self.account);
        if view.view.horizon.is_none() {
            return Box::new(account.resting.iter().filter_map(move |id| view.view.order(*id)));
        }
        // One that rested then and does not now has changed since.
        let changed = view.view.engine.ledger.history.by_key.keys().filter_map(|key| match key {
            Key::Order(id) => Some(*id),
            _ => None,
        });
        let ids: BTreeSet<OrderId> = account.resting.iter().copied().chain(changed).collect();
        let orders = ids.into_iter().filter_map(move |id| view.view.order(id));
        let rests = |order: &&Order| order.status == OrderStatus::Resting;
        Box::new(orders.filter(rests).filter(move |order| order.account == view.id))
    }

    /// Returns its fills, oldest first.
    pub(crate) fn fills(&self) -> &'a [Fill] {
        until(&self.account.fills, self.head.map(|head| head.fills))
    }

    /// Returns its settlements, oldest first.
    pub(crate) fn settlements(&self) -> &'a [Settlement] {
        until(&self.account.settlements, self.head.map(|head| head.settlements))
    }

    /// Returns its payments, oldest first.
    pub(crate) fn payments(&self) -> &'a [Payment] {
        until(&self.account.payments, self.head.map(|head| head.payments))
    }

    /// Returns its positions by market and subaccount. Those that were closed are among them.
    pub(crate) fn positions(
        &self,
    ) -> impl Iterator<Item = ((MarketId, Subaccount), &'a Position)> + use<'a> {
        let (view, id) = (self.view, self.id);
        self.account.positions.iter().filter_map(move |((market, subaccount), position)| {
            let position = match view.before(Key::Position(id, *market, *subaccount)) {
                Some(Before::Position(before)) => before.as_ref()?,
                _ => position,
            };
            Some(((*market, *subaccount), position))
        })
    }
}

/// Returns the first rows of a list that only grows; `None` stands for all of them.
fn until<T>(rows: &[T], length: Option<usize>) -> &[T] {
    length.and_then(|length| rows.get(..length)).unwrap_or(rows)
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_history_shows_more_and_says_so() {
        let mut history = History::default();
        let at = |millis: u64| Time::from_millis(i64::try_from(millis).unwrap());
        history.begin(at(1_000), 1);
        history.start(at(1_000));
        let horizon = history.horizon(at(0));
        assert_eq!(horizon.as_of(), at(999), "more may come in that millisecond");
        let most = u64::try_from(MAX_CHANGES).unwrap();
        for number in 0..most + 10 {
            history.begin(at(2_000 + number), 2 + number);
            history.note_order(OrderId(number), None);
            // A second change in the same action is not one more.
            history.note_order(OrderId(number), None);
        }
        assert_eq!(history.changes.len(), MAX_CHANGES);
        assert_eq!(history.by_key.len(), MAX_CHANGES);
        // The first ten are readable, although they are later than the horizon asks for.
        assert_eq!(history.horizon(at(0)).as_of(), at(2_008));
        assert!(history.changes.iter().all(|change| !history.horizon(at(0)).shows(change)));
        // What is readable by its time is forgotten.
        history.forget(at(2_000 + most));
        assert_eq!(history.changes.len(), 9);
        history.forget(at(2_000 + 2 * most));
        assert!(history.changes.is_empty() && history.by_key.is_empty());
    }
}
