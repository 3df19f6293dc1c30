//! The event contracts that members read: accounts, positions, orders, and the prices by which
//! positions are valued.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::Dollars;

use crate::engine::{
    Account, Engine, Market, Payment, Position,
    history::{History, Shown, until},
    ids::{AccountId, MarketId, OrderId},
    ledger::Balance,
    types::{Fill, MarketResult, Order, OrderStatus, Settlement, Shard, Subaccount, Time},
};

/// The recent past of event contracts.
pub(crate) type EventHistory = History<Key, Before>;

/// A thing that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Account(AccountId),
    Position(AccountId, MarketId, Subaccount),
    Order(OrderId),
    Market(MarketId),
}

/// The value of a thing before a change.
#[derive(Clone, Debug)]
pub(crate) enum Before {
    Account(Head),
    /// `None` before there was one; the same for orders.
    Position(Option<Position>),
    Order(Option<Box<Order>>),
    Market(Valuation),
}

/// The parts of an account but its positions, with lists by their length.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    cash: BTreeMap<(Subaccount, Shard), Balance>,
    updated: Time,
    orders: usize,
    fills: usize,
    settlements: usize,
    payments: usize,
}

/// The value of a contract of a market in a portfolio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Valuation {
    result: Option<MarketResult>,
    last_price: Option<Dollars>,
}

impl EventHistory {
    pub(in crate::engine) fn note_account(&mut self, id: AccountId, account: Option<&Account>) {
        if let Some(account) = account {
            self.note(Key::Account(id), || Before::Account(Head::of(account)));
        }
    }

    pub(in crate::engine) fn note_position(
        &mut self,
        id: AccountId,
        market: MarketId,
        subaccount: Subaccount,
        position: Option<&Position>,
    ) {
        let key = Key::Position(id, market, subaccount);
        self.note(key, || Before::Position(position.cloned()));
    }

    /// Records the order before a change, or `None` if this change creates it.
    pub(in crate::engine) fn note_order(&mut self, id: OrderId, order: Option<&Order>) {
        self.note(Key::Order(id), || Before::Order(order.cloned().map(Box::new)));
    }

    pub(in crate::engine) fn note_market(&mut self, market: Option<&Market>) {
        if let Some(market) = market {
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
        View { engine: self, shown: self.ledger.history.shown(time) }
    }
}

/// The state that members read at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    engine: &'a Engine,
    shown: Shown,
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
        self.shown.as_of()
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
        self.engine.ledger.history.before(key, self.shown)
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
        if view.view.shown.is_present() {
            return Box::new(account.resting.iter().filter_map(move |id| view.view.order(*id)));
        }
        // One that rested then and does not now has changed since.
        let changed = view.view.engine.ledger.history.changed().filter_map(|key| match key {
            Key::Order(id) => Some(id),
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
