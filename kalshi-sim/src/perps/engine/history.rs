//! The perpetual futures that members read while reads trail: accounts, orders, and the marks by
//! which positions are valued, as they all were at one moment.

use std::collections::BTreeMap;

use kalshi_types::Dollars;

use crate::{
    engine::{
        history::{History, Shown, until},
        ids::{AccountId, MarketId, OrderId},
        types::{Order, Refusal, Subaccount, Time},
    },
    perps::engine::{
        Perps, WalletKey,
        ledger::{Account, Fill, FundingPayment, Wallet},
        margin::{Marks, Standing},
        markets::Market,
    },
};

/// The recent past of perpetual futures.
pub(super) type PerpsHistory = History<Key, Before>;

/// A thing that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Account(AccountId),
    Order(OrderId),
    Market(MarketId),
}

/// The value of a thing before a change.
#[derive(Clone, Debug)]
pub(super) enum Before {
    Account(Head),
    /// `None` before there was one.
    Order(Option<Box<Order>>),
    Market(MarketHead),
}

/// The parts of an account that its member reads, with lists by their length.
#[derive(Clone, Debug)]
pub(super) struct Head {
    wallets: BTreeMap<Subaccount, Wallet>,
    orders: usize,
    fills: usize,
    funding: usize,
}

/// The parts of a market that reads of an account show.
#[derive(Clone, Debug)]
pub(super) struct MarketHead {
    ticker: String,
    settlement_mark: Dollars,
    liquidation_mark: Dollars,
}

impl PerpsHistory {
    pub(super) fn note_account(&mut self, id: AccountId, account: &Account) {
        self.note(Key::Account(id), || {
            Before::Account(Head {
                wallets: account.wallets.clone(),
                orders: account.orders.len(),
                fills: account.fills.len(),
                funding: account.funding.len(),
            })
        });
    }

    /// Notes an order before a change, or `None` if this change creates it.
    pub(super) fn note_order(&mut self, id: OrderId, order: Option<&Order>) {
        self.note(Key::Order(id), || Before::Order(order.cloned().map(Box::new)));
    }

    pub(super) fn note_market(&mut self, market: &Market) {
        self.note(Key::Market(market.id), || {
            Before::Market(MarketHead {
                ticker: market.ticker.clone(),
                settlement_mark: market.settlement_mark.price,
                liquidation_mark: market.liquidation_mark.price,
            })
        });
    }
}

impl Perps {
    /// Writes changes down from now on, so that reads can trail. `shown` is how far they have been.
    pub(crate) fn start_history(&mut self, shown: Time) {
        self.history.start(shown);
    }

    /// Ends that, and forgets what has been written down.
    pub(crate) fn stop_history(&mut self) {
        self.history.stop();
    }

    /// Forgets what was before `time`.
    pub(crate) fn forget_history(&mut self, time: Time) {
        self.history.forget(time);
    }

    /// Returns what members read when they see everything that happened up to `time`, or
    /// everything.
    pub(crate) fn view(&self, time: Option<Time>) -> View<'_> {
        View { engine: self, shown: self.history.shown(time) }
    }
}

/// The state that members read at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    engine: &'a Perps,
    shown: Shown,
}

/// An account as its member reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountView<'a> {
    account: &'a Account,
    /// `None`: as it is.
    head: Option<&'a Head>,
}

impl<'a> View<'a> {
    /// Returns the time up to which everything is readable; `None` stands for the present.
    pub(crate) fn as_of(self) -> Option<Time> {
        self.shown.as_of()
    }

    /// Returns the engine, for what never changes and what does not trail.
    pub(crate) fn engine(self) -> &'a Perps {
        self.engine
    }

    /// Returns an account. One that has just been opened is readable at once, and empty.
    pub(crate) fn account(self, id: AccountId) -> Result<AccountView<'a>, Refusal> {
        let account = self.engine.account(id)?;
        let head = match self.before(Key::Account(id)) {
            Some(Before::Account(head)) => Some(head),
            _ => None,
        };
        Ok(AccountView { account, head })
    }

    /// Returns an order as it was; `None` also if it was not there yet.
    pub(crate) fn order(self, id: OrderId) -> Option<&'a Order> {
        match self.before(Key::Order(id)) {
            Some(Before::Order(order)) => order.as_deref(),
            _ => self.engine.order(id),
        }
    }

    /// Returns the ticker of a market; empty if there is none.
    pub(crate) fn ticker(self, id: MarketId) -> &'a str {
        match self.before(Key::Market(id)) {
            Some(Before::Market(head)) => &head.ticker,
            _ => self.engine.market(id).map_or("", |market| &market.ticker),
        }
    }

    /// Returns a mark of a market.
    pub(crate) fn mark(self, market: &Market, marks: Marks) -> Dollars {
        match (self.before(Key::Market(market.id)), marks) {
            (Some(Before::Market(head)), Marks::Settlement) => head.settlement_mark,
            (Some(Before::Market(head)), Marks::Liquidation) => head.liquidation_mark,
            _ => marks.of(market),
        }
    }

    /// Adds up what a subaccount has and needs.
    pub(crate) fn standing(self, wallet: &Wallet, marks: Marks) -> Standing {
        self.engine.standing_at(wallet, |market| self.mark(market, marks))
    }

    /// Returns the mark at which a position would be liquidated if everything else stayed as it is;
    /// `None` if no mark above zero does that.
    pub(crate) fn liquidation_price(self, wallet: &Wallet, id: MarketId) -> Option<Dollars> {
        self.engine.liquidation_price_at(wallet, id, |market| self.mark(market, Marks::Liquidation))
    }

    /// Returns what may be taken out of a subaccount.
    pub(crate) fn withdrawable(self, (account, subaccount): WalletKey) -> Dollars {
        let account = self.account(account).ok();
        let wallet = account.and_then(|account| account.wallets().get(&subaccount));
        wallet.map_or(Dollars::ZERO, |wallet| {
            self.standing(wallet, Marks::Settlement).withdrawable(wallet)
        })
    }

    /// Returns the worth of the positions and orders of a member in a market.
    pub(crate) fn usage(self, account: AccountId, market: &Market) -> Dollars {
        self.account(account).map_or(Dollars::ZERO, |account| {
            account.usage(market.id, self.mark(market, Marks::Settlement))
        })
    }

    /// Returns what a thing was before the first of its changes that is not readable.
    fn before(self, key: Key) -> Option<&'a Before> {
        self.engine.history.before(key, self.shown)
    }
}

impl<'a> AccountView<'a> {
    /// Returns its subaccounts by their numbers.
    pub(crate) fn wallets(self) -> &'a BTreeMap<Subaccount, Wallet> {
        self.head.map_or(&self.account.wallets, |head| &head.wallets)
    }

    /// Returns the ids of its orders, oldest first.
    pub(crate) fn orders(self) -> &'a [OrderId] {
        until(&self.account.orders, self.head.map(|head| head.orders))
    }

    /// Returns its fills, oldest first.
    pub(crate) fn fills(self) -> &'a [Fill] {
        until(&self.account.fills, self.head.map(|head| head.fills))
    }

    /// Returns its funding, oldest first.
    pub(crate) fn funding(self) -> &'a [FundingPayment] {
        until(&self.account.funding, self.head.map(|head| head.funding))
    }

    fn usage(self, market: MarketId, mark: Dollars) -> Dollars {
        Wallet::usage(self.wallets().values(), market, mark)
    }
}
