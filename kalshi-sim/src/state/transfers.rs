//! Transfers of cash, and its automatic allocation over the shards. The ledger keeps the money
//! itself; this module keeps the record of transfers and targets.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::Dollars;
use serde::{Deserialize, Serialize};

use crate::engine::{
    Account, Engine,
    amount::{SaturatingArithmetic, cost},
    ids::{AccountId, TransferId},
    types::{Refusal, Shard, Subaccount, Time},
};

/// The time between two rebalancings of cash, in milliseconds.
const REBALANCE_MILLIS: i64 = 10_000;
/// Balances of direct members move in steps of this.
const STEP: Dollars = Dollars::from_micros(100);

/// The record of transfers, and the targets of accounts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transfers {
    rows: Vec<Transfer>,
    /// Ids that accounts have given to transfers which took place.
    used: BTreeMap<AccountId, BTreeSet<String>>,
    /// Cash on the exchange of margined contracts, which is not played beyond that.
    margined: BTreeMap<(AccountId, Shard), Dollars>,
    targets: BTreeMap<AccountId, Targets>,
}

/// A transfer that took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) id: TransferId,
    pub(crate) account: AccountId,
    pub(crate) from: End,
    pub(crate) to: End,
    pub(crate) amount: Dollars,
    /// Between subaccounts of one shard, by the operation for that; not between instances.
    pub(crate) is_internal: bool,
    pub(crate) at: Time,
}

/// One end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) instance: Instance,
    pub(crate) subaccount: Subaccount,
    pub(crate) shard: Shard,
}

/// An exchange of its own, with cash of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Instance {
    EventContract,
    Margined,
}

impl Instance {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::EventContract => "event_contract",
            Self::Margined => "margined",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::EventContract, Self::Margined].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The desired allocation of an account's cash over the shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Targets {
    /// Percent by shard, together 100.
    pub(crate) shares: Vec<(Shard, u8)>,
    pub(crate) reservation: Reservation,
}

/// The part of the cash that resting orders reserve before it is compared with the targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reservation {
    /// Nothing.
    None,
    /// As much as the largest of them.
    Max,
    /// All that is held for them.
    #[default]
    Sum,
}

impl Reservation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Max => "max",
            Self::Sum => "sum",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Max, Self::Sum].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Transfers {
    /// Lets time pass for the engine, and spreads cash at every full ten seconds.
    pub(crate) fn advance(&mut self, engine: &mut Engine, now: Time) {
        if !self.targets.is_empty() {
            let mut tick = next_tick(engine.now().as_millis().saturating_add(1));
            while tick <= now.as_millis() {
                engine.advance(Time::from_millis(tick));
                self.rebalance(engine);
                // Until something falls due nothing changes, so the ticks before it do nothing.
                let due = engine.next_due().map_or(i64::MAX, Time::as_millis);
                tick = next_tick(due.min(now.as_millis()).max(tick.saturating_add(1)));
            }
        }
        engine.advance(now);
    }

    /// Carries a transfer out and records it. A client's id that has been used is refused.
    pub(crate) fn transfer(
        &mut self,
        engine: &mut Engine,
        transfer: Transfer,
        client_id: Option<&str>,
    ) -> Result<TransferId, Refusal> {
        let Transfer { account, from, to, amount, at, .. } = transfer;
        let client_id = client_id.map(str::to_ascii_lowercase);
        let used = self.used.get(&account);
        if client_id.as_ref().is_some_and(|id| used.is_some_and(|used| used.contains(id))) {
            return Err(Refusal::conflict(
                "transfer_already_exists",
                "there is a transfer with this client transfer id",
            ));
        }
        if !amount.is_positive() {
            return Err(Refusal::parameters("the amount must be above zero"));
        }
        if from == to {
            return Err(Refusal::parameters("the money is there already"));
        }
        for end in [from, to] {
            check(engine, account, end)?;
        }
        match (from.instance, to.instance) {
            (Instance::EventContract, Instance::EventContract) => {
                let (from, to) = ((from.subaccount, from.shard), (to.subaccount, to.shard));
                engine.ledger.transfer(account, from, to, amount, at)?;
            }
            (Instance::EventContract, Instance::Margined) => {
                let out = Dollars::ZERO.saturating_sub(amount);
                engine.ledger.adjust_cash(account, from.subaccount, from.shard, out, at)?;
                self.add(account, to.shard, amount);
            }
            (Instance::Margined, instance) => {
                if self.margined(account, from.shard) < amount {
                    return Err(Refusal::invalid(
                        "insufficient_balance",
                        "the available balance is too low",
                    ));
                }
                if instance == Instance::EventContract {
                    engine.ledger.adjust_cash(account, to.subaccount, to.shard, amount, at)?;
                } else {
                    self.add(account, to.shard, amount);
                }
                self.add(account, from.shard, Dollars::ZERO.saturating_sub(amount));
            }
        }
        let number = u64::try_from(self.rows.len()).unwrap_or(u64::MAX).saturating_add(1);
        let id = TransferId(number);
        self.rows.push(Transfer { id, ..transfer });
        if let Some(client_id) = client_id {
            self.used.entry(account).or_default().insert(client_id);
        }
        Ok(id)
    }

    /// An account's transfers of one kind, the newest first.
    pub(crate) fn transfers(
        &self,
        account: AccountId,
        is_internal: bool,
    ) -> impl Iterator<Item = &Transfer> {
        self.rows.iter().rev().filter(move |transfer| {
            transfer.account == account && transfer.is_internal == is_internal
        })
    }

    /// One of them.
    pub(crate) fn one(&self, account: AccountId, id: TransferId) -> Option<&Transfer> {
        let found = self.rows.get(id.index())?;
        (found.account == account && !found.is_internal).then_some(found)
    }

    pub(crate) fn targets(&self, account: AccountId) -> Option<&Targets> {
        self.targets.get(&account)
    }

    /// Sets an account's targets; none of them switches the spreading off.
    pub(crate) fn set_targets(&mut self, account: AccountId, targets: Targets) {
        if targets.shares.is_empty() {
            self.targets.remove(&account);
        } else {
            self.targets.insert(account, targets);
        }
    }

    /// Cash of an account on the exchange of margined contracts.
    fn margined(&self, account: AccountId, shard: Shard) -> Dollars {
        self.margined.get(&(account, shard)).copied().unwrap_or_default()
    }

    fn add(&mut self, account: AccountId, shard: Shard, amount: Dollars) {
        let there = self.margined.entry((account, shard)).or_default();
        *there = there.saturating_add(amount);
    }

    fn rebalance(&self, engine: &mut Engine) {
        for (account, targets) in &self.targets {
            let moves = engine
                .ledger
                .account(*account)
                .map(|held| moves(engine, held, targets))
                .unwrap_or_default();
            let now = engine.now();
            for (from, to, amount) in moves {
                // What is moved is free, so it is not refused.
                let _ = engine.ledger.transfer(*account, (0, from), (0, to), amount, now);
            }
        }
    }
}

/// Checks that an end of a transfer exists and is not paused.
fn check(engine: &Engine, account: AccountId, end: End) -> Result<(), Refusal> {
    if end.instance == Instance::Margined {
        return Ok(());
    }
    if !engine.ledger.provisioned(account, end.subaccount, end.shard) {
        return Err(Refusal::parameters("there is no such subaccount on this shard"));
    }
    if !engine.shard(end.shard).exchange_active {
        return Err(Refusal::unavailable("EXCHANGE_PAUSED", "the exchange is paused"));
    }
    Ok(())
}

/// Returns what must be moved between the shards of the primary to meet the targets, as far as it
/// is free.
///
/// Targets are whole steps; what they leave over belongs to the first shard of the list, so a
/// second look finds nothing to do.
fn moves(engine: &Engine, account: &Account, targets: &Targets) -> Vec<(Shard, Shard, Dollars)> {
    let mut shards: BTreeMap<Shard, (Dollars, Dollars)> = BTreeMap::new();
    for ((_, shard), balance) in account.cash.iter().filter(|((number, _), _)| *number == 0) {
        let counted = match targets.reservation {
            Reservation::None => balance.cash,
            Reservation::Sum => balance.free(),
            Reservation::Max => balance.cash.saturating_sub(largest(engine, account, *shard)),
        };
        shards.insert(*shard, (counted, balance.free()));
    }
    for (shard, _) in &targets.shares {
        shards.entry(*shard).or_default();
    }
    if shards.keys().any(|shard| !engine.shard(*shard).exchange_active) {
        return Vec::new();
    }
    let total =
        shards.values().fold(Dollars::ZERO, |sum, (counted, _)| sum.saturating_add(*counted));
    if !total.is_positive() {
        return Vec::new();
    }
    let mut wanted: BTreeMap<Shard, Dollars> = BTreeMap::new();
    let mut left = total;
    for (shard, percent) in &targets.shares {
        let share = i128::from(total.as_micros()) * i128::from(*percent) / 100;
        let share = Dollars::from_micros(i64::try_from(share).unwrap_or(i64::MAX));
        let share = share.floor_to(STEP).unwrap_or(share);
        left = left.saturating_sub(share);
        wanted.insert(*shard, share);
    }
    let first = targets.shares.iter().find(|(_, percent)| *percent > 0);
    if let Some(share) = first.and_then(|(shard, _)| wanted.get_mut(shard)) {
        *share = share.saturating_add(left);
    }
    let (mut givers, mut takers) = (Vec::new(), Vec::new());
    for (shard, (counted, free)) in shards {
        let over = counted.saturating_sub(wanted.get(&shard).copied().unwrap_or_default());
        if over.is_positive() {
            givers.push((shard, over.min(free).max(Dollars::ZERO)));
        } else {
            takers.push((shard, Dollars::ZERO.saturating_sub(over)));
        }
    }
    let mut moves = Vec::new();
    let mut takers = takers.into_iter();
    let mut taker = takers.next();
    for (from, mut over) in givers {
        while let Some((to, short)) = taker
            && over.is_positive()
        {
            let amount = over.min(short);
            if amount.is_positive() {
                moves.push((from, to, amount));
            }
            over = over.saturating_sub(amount);
            taker = if amount == short {
                takers.next()
            } else {
                Some((to, short.saturating_sub(amount)))
            };
        }
    }
    moves
}

/// Returns the cost of the largest of the primary's resting orders on a shard.
fn largest(engine: &Engine, account: &Account, shard: Shard) -> Dollars {
    account
        .resting
        .iter()
        .filter_map(|id| engine.order(*id))
        .filter(|order| order.subaccount == 0)
        .filter(|order| engine.market(order.market).is_some_and(|market| market.shard == shard))
        .map(|order| cost(order.side.leg_price(order.price), order.remaining))
        .max()
        .unwrap_or(Dollars::ZERO)
}

/// The first tick at a time or after it.
fn next_tick(millis: i64) -> i64 {
    let past = millis.rem_euclid(REBALANCE_MILLIS);
    if past == 0 { millis } else { millis.saturating_add(REBALANCE_MILLIS - past) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn cash(engine: &Engine, account: AccountId) -> Vec<Dollars> {
        (0..4).map(|shard| engine.ledger.balance(account, 0, shard).cash).collect()
    }

    fn set_up(shares: &[(Shard, u8)]) -> (Transfers, Engine, AccountId) {
        let mut engine = Engine::default();
        let account = engine.ledger.open(true);
        let start = Time::from_millis(1_000);
        engine.advance(start);
        for (shard, amount) in [(0, "100"), (1, "0.0301"), (2, "10")] {
            engine.ledger.deposit(account, 0, shard, dollars(amount), start).unwrap();
        }
        let mut transfers = Transfers::default();
        let reservation = Reservation::Sum;
        transfers.set_targets(account, Targets { shares: shares.to_vec(), reservation });
        (transfers, engine, account)
    }

    #[test]
    fn cash_is_spread_at_the_next_full_ten_seconds_and_not_before() {
        let (mut transfers, mut engine, account) = set_up(&[(0, 33), (3, 67)]);
        let before = cash(&engine, account);
        transfers.advance(&mut engine, Time::from_millis(9_999));
        assert_eq!(cash(&engine, account), before);
        transfers.advance(&mut engine, Time::from_millis(10_000));
        let after = cash(&engine, account);
        assert_eq!(after, ["36.31", "0", "0", "73.7201"].map(dollars));
        engine.audit().unwrap();
        // It is done; a year of ticks changes nothing and takes no time.
        transfers.advance(&mut engine, Time::from_millis(31_536_000_000));
        assert_eq!(cash(&engine, account), after);
    }

    #[test]
    fn nothing_moves_while_a_shard_is_paused_or_once_it_is_switched_off() {
        let (mut transfers, mut engine, account) = set_up(&[(1, 100)]);
        let before = cash(&engine, account);
        engine.set_shard(1, false, false, Time::from_millis(2_000));
        transfers.advance(&mut engine, Time::from_millis(20_000));
        assert_eq!(cash(&engine, account), before);
        engine.set_shard(1, true, true, Time::from_millis(21_000));
        let none = Targets { shares: Vec::new(), reservation: Reservation::Sum };
        transfers.set_targets(account, none);
        transfers.advance(&mut engine, Time::from_millis(40_000));
        assert_eq!(cash(&engine, account), before);
        assert_eq!(transfers.targets(account), None);
    }
}
