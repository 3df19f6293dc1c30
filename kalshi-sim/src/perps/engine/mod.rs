//! The engine of perpetual futures: a pure state machine beside that of event contracts. Commands and
//! the time go in; replies and refusals come out, and events are left to be taken.
//!
//! Matching and order groups are those of event contracts. Margin, funding and liquidation follow the
//! parameters that the exchange publishes by formulas of our own: a model, and not the exchange's
//! formulas, which are not published. What is decided so is said where it is decided.
//!
//! No sockets, no clock, no randomness, no floats.

pub(crate) mod actions;
pub(crate) mod amount;
mod audit;
pub(crate) mod funding;
pub(crate) mod history;
pub(crate) mod ledger;
pub(crate) mod margin;
pub(crate) mod markets;
pub(crate) mod orders;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod triggers;

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::Dollars;
use serde::{Deserialize, Serialize};

use self::{
    actions::Action,
    funding::{FundingRate, next_funding},
    history::PerpsHistory,
    ledger::{Account, CashCause, CashMovement, Wallet},
    margin::Parameters,
    markets::Market,
    orders::Source,
    triggers::Trigger,
};
use crate::engine::{
    Group,
    amount::{MAX_CASH, SaturatingArithmetic},
    ids::{AccountId, ActionId, GroupId, MarketId, OrderId, TradeId, TriggerId},
    log::Log,
    matching::Matching as _,
    types::{Event, Order, Refusal, Subaccount, Time, Trade},
};

/// A subaccount of a member.
pub(crate) type WalletKey = (AccountId, Subaccount);

/// The last subaccount that there can be.
pub(crate) const LAST_SUBACCOUNT: Subaccount = 63;

/// Something that falls due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Timer {
    Expire(OrderId),
    Fund,
    /// Carries a corporate action out.
    Act(ActionId),
    /// Lets a market trade again after one.
    Resume(MarketId),
}

/// An event for the streams. The state after the command has the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PerpsEvent {
    /// Of the matching, which knows no product.
    Matched(Event),
    /// A corporate action was carried out.
    Action(ActionId),
}

/// The books and the money of perpetual futures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Perps {
    markets: Vec<Market>,
    /// By the ticker of today.
    tickers: BTreeMap<String, MarketId>,
    orders: Log<Order>,
    /// Of the orders that the exchange has placed itself.
    sources: BTreeMap<OrderId, Source>,
    trades: Vec<Trade>,
    accounts: BTreeMap<AccountId, Account>,
    groups: BTreeMap<GroupId, Group>,
    last_group: u64,
    last_queue_priority: u64,
    triggers: BTreeMap<TriggerId, Trigger>,
    last_trigger: u64,
    actions: Vec<Action>,
    funding_rates: Vec<FundingRate>,
    pub(crate) parameters: Parameters,
    /// Off during a pause: nothing is traded, cancels still go.
    trading_paused: bool,
    /// What was paid in, less what was paid out.
    paid_in: Dollars,
    pub(crate) fee_revenue: Dollars,
    /// What rounding leaves over and what losses beyond the equity of a member take. Below zero, the
    /// exchange has lent it.
    pub(crate) insurance: Dollars,
    timers: BTreeMap<(Time, u64), Timer>,
    last_timer: u64,
    now: Time,
    /// The number of the action that is carried out: a command, or what fell due.
    #[serde(default)]
    action: u64,
    /// The state before the latest changes, for reads that trail.
    #[serde(skip)]
    history: PerpsHistory,
    #[serde(skip)]
    events: Vec<PerpsEvent>,
    /// The wallets whose margin is to be looked at.
    #[serde(skip)]
    suspects: BTreeSet<WalletKey>,
    /// The wallets that are to be liquidated as soon as the books allow it.
    distressed: BTreeSet<WalletKey>,
    /// The positions that have changed, and those to which an order belongs that has.
    #[serde(skip)]
    moved: BTreeSet<(WalletKey, MarketId)>,
    /// The markets whose marks have changed.
    #[serde(skip)]
    remarked: BTreeSet<MarketId>,
}

impl Perps {
    /// Returns an exchange without markets and members.
    pub(crate) fn new(now: Time) -> Self {
        let mut perps = Self { now, ..Self::default() };
        if let Some(next) = next_funding(now) {
            perps.schedule(next, Timer::Fund);
        }
        perps
    }

    /// Lets time pass: expires orders, pays funding, carries corporate actions out. Time that goes
    /// backwards stands still.
    pub(crate) fn advance(&mut self, now: Time) {
        self.begin_action();
        while let Some(entry) = self.timers.first_entry() {
            let (due, _) = *entry.key();
            if due > now {
                break;
            }
            let timer = entry.remove();
            self.now = self.now.max(due);
            self.begin_action();
            match timer {
                Timer::Expire(order) => self.expire(order),
                Timer::Fund => self.fund(),
                Timer::Act(action) => self.act(action),
                Timer::Resume(market) => self.resume(market),
            }
            self.settle();
        }
        self.now = self.now.max(now);
        self.begin_action();
    }

    fn begin_action(&mut self) {
        self.action += 1;
        self.history.begin(self.now, self.action);
    }

    /// Returns the time at which something falls due next.
    #[cfg(test)]
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Carries a command out, and what follows from it: liquidations and exit triggers.
    fn command<T>(
        &mut self,
        now: Time,
        command: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.advance(now);
        let result = command(self);
        self.settle();
        result
    }

    /// Looks at margins and triggers until nothing follows from anything. It ends: each round trades
    /// against what rests, or ends a trigger.
    fn settle(&mut self) {
        let mut first = true;
        while first
            || !(self.suspects.is_empty() && self.moved.is_empty() && self.remarked.is_empty())
        {
            if first {
                self.suspects.extend(self.distressed.iter().copied());
                first = false;
            }
            self.check_margins();
            self.check_triggers();
        }
    }

    /// Takes the events since the last call, oldest first.
    pub(crate) fn take_events(&mut self) -> Vec<PerpsEvent> {
        std::mem::take(&mut self.events)
    }

    /// Returns the time of the last command.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn markets(&self) -> &[Market] {
        &self.markets
    }

    pub(crate) fn market(&self, id: MarketId) -> Option<&Market> {
        self.markets.get(id.index())
    }

    fn market_mut(&mut self, id: MarketId) -> Option<&mut Market> {
        let market = self.markets.get_mut(id.index())?;
        self.history.note_market(market);
        Some(market)
    }

    pub(crate) fn market_by_ticker(&self, ticker: &str) -> Result<&Market, Refusal> {
        let found = self.tickers.get(ticker).and_then(|id| self.market(*id));
        found.ok_or_else(|| Refusal::not_found("market not found"))
    }

    fn market_by_ticker_mut(&mut self, ticker: &str) -> Result<&mut Market, Refusal> {
        let found = self.tickers.get(ticker).copied();
        found
            .and_then(|id| self.market_mut(id))
            .ok_or_else(|| Refusal::not_found("market not found"))
    }

    pub(crate) fn order(&self, id: OrderId) -> Option<&Order> {
        self.orders.get(id.index())
    }

    pub(crate) fn source(&self, order: OrderId) -> Source {
        self.sources.get(&order).copied().unwrap_or(Source::User)
    }

    pub(crate) fn trade(&self, id: TradeId) -> Option<&Trade> {
        self.trades.get(id.index())
    }

    /// Returns all trades, the oldest first.
    pub(crate) fn trades(&self) -> &[Trade] {
        &self.trades
    }

    pub(crate) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub(crate) fn account(&self, id: AccountId) -> Result<&Account, Refusal> {
        self.accounts.get(&id).ok_or_else(|| Refusal::not_found("no such account"))
    }

    pub(crate) fn account_mut(&mut self, id: AccountId) -> Result<&mut Account, Refusal> {
        self.noted_account(id).ok_or_else(|| Refusal::not_found("no such account"))
    }

    pub(crate) fn wallet(&self, (account, subaccount): WalletKey) -> Option<&Wallet> {
        self.accounts.get(&account)?.wallets.get(&subaccount)
    }

    fn wallet_mut(&mut self, (account, subaccount): WalletKey) -> Option<&mut Wallet> {
        self.noted_account(account)?.wallets.get_mut(&subaccount)
    }

    /// Returns an account that is about to change.
    fn noted_account(&mut self, id: AccountId) -> Option<&mut Account> {
        let account = self.accounts.get_mut(&id)?;
        self.history.note_account(id, account);
        Some(account)
    }

    pub(crate) fn is_trading(&self) -> bool {
        !self.trading_paused
    }

    /// Pauses trading in all markets, or lets it go on.
    pub(crate) fn set_trading(&mut self, trading: bool, now: Time) {
        self.advance(now);
        self.trading_paused = !trading;
        if !trading {
            for market in self.markets.iter().map(|market| market.id).collect::<Vec<_>>() {
                self.cancel_market(market, true, crate::engine::types::Reason::PauseCancel);
            }
        }
        self.settle();
    }

    /// Opens the account of a member, unless there is one.
    pub(crate) fn open_account(&mut self, id: AccountId) {
        self.accounts.entry(id).or_insert_with(Account::opened);
    }

    /// Opens the next subaccount of a member.
    pub(crate) fn open_subaccount(&mut self, id: AccountId) -> Result<Subaccount, Refusal> {
        let account = self.account_mut(id)?;
        let last = account.wallets.last_key_value().map_or(0, |(number, _)| *number);
        if last >= LAST_SUBACCOUNT {
            return Err(Refusal::invalid("too_many_subaccounts", "there are 63 already"));
        }
        account.wallets.insert(last + 1, Wallet::default());
        Ok(last + 1)
    }

    /// Pays cash into the primary subaccount of a member.
    pub(crate) fn deposit(
        &mut self,
        id: AccountId,
        amount: Dollars,
        now: Time,
    ) -> Result<(), Refusal> {
        self.pay_in(id, amount, CashCause::Transfer, now)
    }

    /// Pays cash into the primary subaccount of a member, for a cause.
    pub(crate) fn pay_in(
        &mut self,
        id: AccountId,
        amount: Dollars,
        cause: CashCause,
        now: Time,
    ) -> Result<(), Refusal> {
        self.command(now, |engine| {
            let at = engine.now;
            let account = engine.account_mut(id)?;
            let wallet = account.wallets.entry(0).or_default();
            let sum = wallet.cash.saturating_add(amount);
            if !amount.is_positive() || sum > MAX_CASH {
                return Err(Refusal::parameters("the amount is out of range"));
            }
            wallet.cash = sum;
            account.movements.push(CashMovement { at, amount, cause });
            engine.paid_in = engine.paid_in.saturating_add(amount);
            engine.suspects.insert((id, 0));
            Ok(())
        })
    }

    /// Returns what may be taken out of a subaccount: cash that no position and no order needs.
    /// Unrealized profits are not paid out.
    pub(crate) fn withdrawable(&self, key: WalletKey) -> Dollars {
        let Some(wallet) = self.wallet(key) else { return Dollars::ZERO };
        self.standing(wallet, margin::Marks::Settlement).withdrawable(wallet)
    }

    /// Takes cash out of the primary subaccount of a member.
    pub(crate) fn withdraw(
        &mut self,
        id: AccountId,
        amount: Dollars,
        now: Time,
    ) -> Result<(), Refusal> {
        self.pay_out(id, amount, CashCause::Transfer, now)
    }

    /// Takes cash out of the primary subaccount of a member, for a cause.
    pub(crate) fn pay_out(
        &mut self,
        id: AccountId,
        amount: Dollars,
        cause: CashCause,
        now: Time,
    ) -> Result<(), Refusal> {
        self.command(now, |engine| {
            if !amount.is_positive() || amount > engine.withdrawable((id, 0)) {
                return Err(too_low());
            }
            let at = engine.now;
            let account = engine.account_mut(id)?;
            let wallet = account.wallets.entry(0).or_default();
            wallet.cash = wallet.cash.saturating_sub(amount);
            account.movements.push(CashMovement { at, amount: amount::negated(amount), cause });
            engine.paid_in = engine.paid_in.saturating_sub(amount);
            Ok(())
        })
    }

    /// Moves cash between subaccounts of a member. A transfer with an id that was made before moves
    /// nothing a second time.
    pub(crate) fn transfer(
        &mut self,
        id: AccountId,
        (from, to): (Subaccount, Subaccount),
        amount: Dollars,
        client_id: &str,
        now: Time,
    ) -> Result<(), Refusal> {
        self.command(now, |engine| {
            let account = engine.account(id)?;
            if account.transfers.contains(client_id) {
                return Ok(());
            }
            if !amount.is_positive() || from == to {
                return Err(Refusal::parameters(
                    "a transfer is of more than nothing, between two subaccounts",
                ));
            }
            if [from, to].iter().any(|number| !account.wallets.contains_key(number)) {
                return Err(Refusal::not_found("there is no such subaccount"));
            }
            if amount > engine.withdrawable((id, from)) {
                return Err(too_low());
            }
            for (number, change) in [(from, amount::negated(amount)), (to, amount)] {
                if let Some(wallet) = engine.wallet_mut((id, number)) {
                    wallet.cash = wallet.cash.saturating_add(change);
                }
                engine.suspects.insert((id, number));
            }
            engine.account_mut(id)?.transfers.insert(client_id.to_owned());
            Ok(())
        })
    }

    /// Notes that the marks of a market have changed.
    fn marked(&mut self, market: MarketId) {
        self.remarked.insert(market);
        self.note_event(Event::Ticker { market });
        let holders = self.accounts.iter().flat_map(|(id, account)| {
            let holds = move |(number, wallet): (&Subaccount, &Wallet)| {
                wallet.positions.contains_key(&market).then_some((*id, *number))
            };
            account.wallets.iter().filter_map(holds)
        });
        self.suspects.extend(holders);
    }

    fn schedule(&mut self, at: Time, timer: Timer) {
        self.last_timer += 1;
        self.timers.insert((at, self.last_timer), timer);
    }

    /// Keeps an event of the matching, and notes what follows from it.
    fn note_event(&mut self, event: Event) {
        if let Event::Order { order, .. } = event
            && let Some(order) = self.order(order)
        {
            let key = ((order.account, order.subaccount), order.market);
            self.moved.insert(key);
        }
        self.events.push(PerpsEvent::Matched(event));
    }
}

fn too_low() -> Refusal {
    Refusal::invalid("insufficient_balance", "the available balance is too low")
}
