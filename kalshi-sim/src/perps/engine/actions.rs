//! Corporate actions: dividends, spin-offs, splits, changes of a ticker, final settlements.
//!
//! An action is announced with the time at which it is carried out. Dividends and spin-offs move
//! cash from shorts to longs. The others halt the market first: its orders are canceled, and it
//! trades again after a pause with the next `market_version`; a final settlement closes it.
//!
//! A split multiplies counts and divides marks. Where a position would not come out whole, the counts
//! of all positions are rounded so that longs and shorts stay equal, those with the largest
//! remainders up; what a position gains or loses by that is booked as traded at the mark. This is a
//! model: the exchange does not publish its rounding.

use chrono::NaiveDate;
use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        amount::{SaturatingArithmetic, cost},
        ids::{ActionId, MarketId},
        types::{Event, Reason, Refusal, Subaccount, Time},
    },
    perps::engine::{
        Perps, PerpsEvent, Timer, WalletKey,
        amount::{credited, divide_down, micros, negated},
        ledger::ActionPayment,
        markets::{Mark, Market},
    },
};

/// The pause after a halt, in milliseconds.
const PAUSE_MILLIS: i64 = 60_000;
/// More notices than a test has; a limit, so that memory has one.
const MAX_ACTIONS: usize = 10_000;

/// The terms of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Terms {
    CashDividend {
        per_contract: Dollars,
        ex_date: NaiveDate,
    },
    SpecialDividend {
        per_contract: Dollars,
        ex_date: NaiveDate,
    },
    SpinOff {
        per_contract: Dollars,
        ex_date: NaiveDate,
    },
    /// `new` contracts for `old`.
    Split {
        old: u32,
        new: u32,
        ex_date: NaiveDate,
    },
    FinalSettlement {
        per_contract: Dollars,
        reason: String,
    },
    TickerChange {
        old: String,
        new: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ActionStatus {
    Scheduled,
    Cancelled,
    Applied,
    Lapsed,
}

impl ActionStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Cancelled => "cancelled",
            Self::Applied => "applied",
            Self::Lapsed => "lapsed",
        }
    }
}

/// An action to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewAction {
    pub(crate) ticker: String,
    pub(crate) terms: Terms,
    pub(crate) at: Time,
}

/// A notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Action {
    pub(crate) id: ActionId,
    pub(crate) market: MarketId,
    /// The ticker when it was announced, or the old one of a change.
    pub(crate) ticker: String,
    pub(crate) terms: Terms,
    pub(crate) status: ActionStatus,
    pub(crate) at: Time,
    pub(crate) updated: Time,
    /// The settlement marks before and after it, of a split.
    pub(crate) marks: Option<(Dollars, Dollars)>,
}

impl Action {
    /// Returns what the action did to a position: its counts before and after, what was paid for it,
    /// and all cash that moved.
    fn payment(
        &self,
        subaccount: Subaccount,
        at: Time,
        (before, after): (Count, Count),
        (paid, cash): (Dollars, Dollars),
    ) -> ActionPayment {
        let (action, market) = (self.id, self.market);
        ActionPayment { action, market, subaccount, at, before, after, paid, cash }
    }
}

impl Perps {
    /// Returns the notices, the oldest first.
    pub(crate) fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// Announces an action; one that is due already is carried out at once.
    pub(crate) fn announce(&mut self, new: NewAction, now: Time) -> Result<ActionId, Refusal> {
        let id = self.command(now, |engine| {
            let market = engine.market_by_ticker(&new.ticker)?;
            if market.closed {
                return Err(Refusal::invalid("market_closed", "the market is closed"));
            }
            if engine.actions.len() >= MAX_ACTIONS {
                return Err(Refusal::parameters("there are 10,000 notices already"));
            }
            engine.check_terms(market, &new.terms)?;
            let number = u64::try_from(engine.actions.len()).unwrap_or(u64::MAX).saturating_add(1);
            let (id, market) = (ActionId(number), market.id);
            let (at, updated) = (new.at.max(engine.now), engine.now);
            engine.actions.push(Action {
                id,
                market,
                ticker: new.ticker,
                terms: new.terms,
                status: ActionStatus::Scheduled,
                at,
                updated,
                marks: None,
            });
            engine.schedule(at, Timer::Act(id));
            Ok(id)
        })?;
        self.advance(now);
        Ok(id)
    }

    /// Calls an action off that is to come.
    pub(crate) fn call_off(&mut self, id: ActionId, now: Time) -> Result<(), Refusal> {
        self.advance(now);
        let now = self.now;
        let action = self
            .actions
            .get_mut(id.index())
            .filter(|action| action.status == ActionStatus::Scheduled)
            .ok_or_else(|| Refusal::not_found("no such action is to come"))?;
        action.status = ActionStatus::Cancelled;
        action.updated = now;
        Ok(())
    }

    fn check_terms(&self, market: &Market, terms: &Terms) -> Result<(), Refusal> {
        let is_payable = |amount: &Dollars| {
            amount.to_centi_cents().is_some()
                && cost(*amount, market.open_interest) <= super::amount::MAX_NOTIONAL
        };
        let fits = match terms {
            Terms::CashDividend { per_contract, .. }
            | Terms::SpecialDividend { per_contract, .. }
            | Terms::SpinOff { per_contract, .. }
            | Terms::FinalSettlement { per_contract, .. } => {
                !per_contract.is_negative() && is_payable(per_contract)
            }
            Terms::Split { old, new, .. } => (1..=1_000).contains(old) && (1..=1_000).contains(new),
            Terms::TickerChange { old, new } => {
                *old == market.ticker && !new.is_empty() && !self.tickers.contains_key(new)
            }
        };
        if fits { Ok(()) } else { Err(Refusal::parameters("the terms are out of range")) }
    }

    /// Carries an action out that is due.
    pub(super) fn act(&mut self, id: ActionId) {
        let Some(action) = self.actions.get(id.index()).cloned() else { return };
        if action.status != ActionStatus::Scheduled {
            return;
        }
        let open = self.market(action.market).filter(|market| !market.closed).cloned();
        // Tickers may have been taken, and counts may have grown, since it was announced.
        let applies = open.is_some_and(|market| self.check_terms(&market, &action.terms).is_ok());
        let mark =
            |engine: &Self| engine.market(action.market).map(|market| market.settlement_mark.price);
        let before = mark(self);
        if applies {
            // First, so that no reader meets a new ticker before it is told of the change.
            self.events.push(PerpsEvent::Action(id));
            self.apply(&action);
        }
        let marks = before.zip(mark(self));
        let now = self.now;
        if let Some(action) = self.actions.get_mut(id.index()) {
            action.status = if applies { ActionStatus::Applied } else { ActionStatus::Lapsed };
            action.updated = now;
            action.marks = marks.filter(|_| applies);
        }
    }

    fn apply(&mut self, action: &Action) {
        let id = action.market;
        match &action.terms {
            Terms::CashDividend { per_contract, .. }
            | Terms::SpecialDividend { per_contract, .. }
            | Terms::SpinOff { per_contract, .. } => self.pay_dividend(action, *per_contract),
            Terms::Split { old, new, .. } => {
                self.halt(id);
                self.split(action, *old, *new);
                self.drop_triggers(id);
                self.marked(id);
            }
            Terms::TickerChange { old, new } => {
                self.halt(id);
                self.tickers.remove(old);
                self.tickers.insert(new.clone(), id);
                if let Some(market) = self.market_mut(id) {
                    market.ticker.clone_from(new);
                }
                self.note_event(Event::Ticker { market: id });
            }
            Terms::FinalSettlement { per_contract, .. } => {
                self.cancel_market(id, false, Reason::CloseCancel);
                self.settle_finally(action, *per_contract);
                self.note_event(Event::Ticker { market: id });
            }
        }
    }

    /// Halts a market, cancels its orders, and lets it trade again after a pause.
    fn halt(&mut self, id: MarketId) {
        if let Some(market) = self.market_mut(id) {
            market.halts.corporate_action = true;
        }
        self.cancel_market(id, false, Reason::HaltCancel);
        let at = Time::from_millis(self.now.as_millis().saturating_add(PAUSE_MILLIS));
        self.schedule(at, Timer::Resume(id));
    }

    /// Lets a market trade again, as another version.
    pub(super) fn resume(&mut self, id: MarketId) {
        // A second halt lasts until its own end.
        if self.timers.values().any(|timer| *timer == Timer::Resume(id)) {
            return;
        }
        if let Some(market) = self.market_mut(id) {
            market.halts.corporate_action = false;
            market.version = market.version.saturating_add(1);
        }
    }

    /// Credits longs and charges shorts.
    fn pay_dividend(&mut self, action: &Action, per_contract: Dollars) {
        let (id, at) = (action.market, self.now);
        let mut left_over = Dollars::ZERO;
        for (account, found) in &mut self.accounts {
            self.history.note_account(*account, found);
            for (subaccount, wallet) in &mut found.wallets {
                let Some(position) = wallet.positions.get(&id) else { continue };
                let parts = i128::from(position.count.as_hundredths())
                    * i128::from(per_contract.as_micros());
                let amount = credited(parts, 100);
                wallet.cash = wallet.cash.saturating_add(amount);
                left_over = left_over.saturating_add(negated(amount));
                let count = position.count;
                let row = action.payment(*subaccount, at, (count, count), (amount, amount));
                found.action_payments.push(row);
                self.suspects.insert((*account, *subaccount));
            }
        }
        self.insurance = self.insurance.saturating_add(left_over);
    }

    /// Closes all positions at a price, and the market with them.
    fn settle_finally(&mut self, action: &Action, price: Dollars) {
        let (id, at) = (action.market, self.now);
        for (account, found) in &mut self.accounts {
            self.history.note_account(*account, found);
            for (subaccount, wallet) in &mut found.wallets {
                let Some(position) = wallet.positions.remove(&id) else { continue };
                let profit = position.profit(price);
                wallet.cash = wallet.cash.saturating_add(profit);
                let counts = (position.count, Count::ZERO);
                let row = action.payment(*subaccount, at, counts, (Dollars::ZERO, profit));
                found.action_payments.push(row);
                let key = (*account, *subaccount);
                self.suspects.insert(key);
                self.moved.insert((key, id));
            }
        }
        if let Some(market) = self.market_mut(id) {
            market.closed = true;
            market.open_interest = Count::ZERO;
            if price.is_positive() {
                market.settlement_mark = Mark { price, at };
                market.liquidation_mark = Mark { price, at };
            }
        }
    }

    fn split(&mut self, action: &Action, old: u32, new: u32) {
        let (id, at) = (action.market, self.now);
        let Some(market) = self.market_mut(id) else { return };
        let (old, new) = (i128::from(old), i128::from(new));
        let unit = if market.fractional { 1 } else { 100 };
        // A mark has four decimals at most, and is above zero.
        let divided = |price: Dollars| {
            let exact = divide_down(i128::from(price.as_micros()) * old, new);
            micros((divide_down(exact, 100) * 100).max(100))
        };
        market.settlement_mark.price = divided(market.settlement_mark.price);
        market.liquidation_mark.price = divided(market.liquidation_mark.price);
        market.last_price = market.last_price.map(divided);
        if let Some(reference) = &mut market.reference {
            reference.price = divided(reference.price);
        }
        let mark = market.settlement_mark.price;
        let before: Vec<(WalletKey, Count)> = self
            .accounts
            .iter()
            .flat_map(|(account, found)| {
                found.wallets.iter().filter_map(move |(number, wallet)| {
                    let position = wallet.positions.get(&id)?;
                    Some(((*account, *number), position.count))
                })
            })
            .collect();
        let mut left_over = Dollars::ZERO;
        let mut open_interest = Count::ZERO;
        for (key, count, exact) in rounded(&before, old, new, unit) {
            open_interest = open_interest.saturating_add(count.max(Count::ZERO));
            let Some(account) = self.noted_account(key.0) else { continue };
            let Some(wallet) = account.wallets.get_mut(&key.1) else { continue };
            let Some(position) = wallet.positions.get_mut(&id) else { continue };
            let held = position.count;
            // What rounding adds is bought at the mark, what it takes is sold.
            let added = i128::from(count.as_hundredths()) * old - exact;
            let paid = micros(divide_down(added * i128::from(mark.as_micros()), old * 100));
            position.count = count;
            position.cost = position.cost.saturating_add(paid);
            left_over = left_over.saturating_add(paid);
            let mut cash = Dollars::ZERO;
            if count.is_zero() {
                cash = negated(position.cost);
                wallet.cash = wallet.cash.saturating_add(cash);
                wallet.positions.remove(&id);
            }
            let row = action.payment(key.1, at, (held, count), (Dollars::ZERO, cash));
            account.action_payments.push(row);
            self.moved.insert((key, id));
        }
        // The costs of all positions have to cancel out again.
        self.insurance = self.insurance.saturating_add(left_over);
        if let Some(market) = self.market_mut(id) {
            market.open_interest = open_interest;
            market.note_premium(at);
        }
    }
}

/// Multiplies counts by `new ÷ old` and rounds them to units, so that their sum stays zero: all are
/// rounded down, and as many units as are missing go to those with the largest remainders. Returns
/// each with the exact product in parts of `old`.
fn rounded(
    counts: &[(WalletKey, Count)],
    old: i128,
    new: i128,
    unit: i128,
) -> Vec<(WalletKey, Count, i128)> {
    let mut rows: Vec<(WalletKey, i128, i128, i128)> = counts
        .iter()
        .map(|(key, count)| {
            let exact = i128::from(count.as_hundredths()) * new;
            let units = exact.div_euclid(old * unit);
            (*key, units, exact.rem_euclid(old * unit), exact)
        })
        .collect();
    let missing: i128 = -rows.iter().map(|(_, units, _, _)| units).sum::<i128>();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| rows.get(*row).map(|(key, _, rest, _)| (-rest, *key)));
    for row in order.into_iter().take(usize::try_from(missing).unwrap_or(0)) {
        if let Some((_, units, _, _)) = rows.get_mut(row) {
            *units += 1;
        }
    }
    rows.into_iter()
        .map(|(key, units, _, exact)| {
            let hundredths = i64::try_from(units * unit).unwrap_or(i64::MAX);
            (key, Count::from_hundredths(hundredths), exact)
        })
        .collect()
}
