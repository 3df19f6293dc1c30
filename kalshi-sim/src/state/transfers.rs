//! Transfers of cash, and its automatic allocation over the shards. The ledger keeps the money
//! itself; this module keeps the record of transfers and targets.
//!
//! A transfer between subaccounts of one shard is done when it is answered. One between shards or
//! instances is only accepted then. It takes up to three steps, each through the primary of a shard:
//! none of them is undone when a later one fails, and the money stays where it has come to. No word
//! for a failure is documented, so such a transfer is pending for ever.

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
/// The time from the acceptance of a transfer to its first step, and from each step to the next, in
/// milliseconds. The exchange does not say how long it takes.
const STEP_MILLIS: i64 = 250;
/// Balances of direct members move in steps of this.
const STEP: Dollars = Dollars::from_micros(100);

/// The record of transfers, and the targets of accounts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transfers {
    rows: Vec<Transfer>,
    /// Ids that accounts have given to transfers that were accepted.
    used: BTreeMap<AccountId, BTreeSet<(Namespace, String)>>,
    /// The transfers that have a step to take, by the time of it.
    pending: BTreeSet<(Time, TransferId)>,
    /// Cash on the exchange of margined contracts: all of it without the feature `perps`, with it
    /// what is on its way.
    margined: BTreeMap<(AccountId, Shard), Dollars>,
    targets: BTreeMap<AccountId, Targets>,
}

/// The scope in which a client's id must be unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Namespace {
    /// Transfers between subaccounts.
    Subaccounts,
    /// Transfers from one shard of an instance.
    From(Instance, Shard),
}

/// A transfer that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) id: TransferId,
    pub(crate) account: AccountId,
    pub(crate) from: End,
    pub(crate) to: End,
    pub(crate) amount: Dollars,
    /// The id that the client gave it.
    pub(crate) client_id: Option<String>,
    /// Between subaccounts of one shard; listed with those alone.
    pub(crate) is_internal: bool,
    pub(crate) at: Time,
    /// The steps that were taken.
    steps: usize,
}

impl Transfer {
    /// Reports whether the money has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        self.steps + 1 >= self.path().len()
    }

    /// Returns the places that the money passes, both ends included: from a numbered subaccount
    /// first to the primary of its shard, and into one from the primary of the other.
    fn path(&self) -> Vec<End> {
        let primary = |end: End| End { subaccount: 0, ..end };
        let mut path = vec![self.from];
        if !self.is_internal {
            path.extend([primary(self.from), primary(self.to)]);
        }
        path.push(self.to);
        path.dedup();
        path
    }
}

/// A transfer to make.
#[derive(Clone, Debug)]
pub(crate) struct NewTransfer {
    pub(crate) account: AccountId,
    pub(crate) from: End,
    pub(crate) to: End,
    pub(crate) amount: Dollars,
    pub(crate) client_id: Option<String>,
}

/// One end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) instance: Instance,
    pub(crate) subaccount: Subaccount,
    pub(crate) shard: Shard,
}

/// An exchange of its own, with cash of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// Lets time pass for the engine: takes the steps of transfers that fall due, and spreads cash at
    /// every full ten seconds.
    pub(crate) fn advance(&mut self, engine: &mut Engine, now: Time) {
        let mut tick = if self.targets.is_empty() {
            i64::MAX
        } else {
            next_tick(engine.now().as_millis().saturating_add(1))
        };
        loop {
            let step = self.pending.first().map_or(i64::MAX, |(due, _)| due.as_millis());
            let next = step.min(tick);
            if next > now.as_millis() || next == i64::MAX {
                break;
            }
            engine.advance(Time::from_millis(next));
            if step <= tick {
                self.step(engine);
                if tick != i64::MAX {
                    // Cash has moved, so the next tick has something to do.
                    tick = next_tick(step);
                }
            } else {
                self.rebalance(engine);
                // Until something falls due nothing changes, so the ticks before it do nothing.
                let due = engine.next_due().map_or(i64::MAX, Time::as_millis);
                tick = next_tick(due.min(now.as_millis()).max(tick.saturating_add(1)));
            }
        }
        engine.advance(now);
    }

    /// Moves cash between subaccounts of a shard, and records it. An id that has been used is
    /// refused.
    pub(crate) fn transfer(
        &mut self,
        engine: &mut Engine,
        new: NewTransfer,
        now: Time,
    ) -> Result<TransferId, Refusal> {
        let id = new.client_id.clone().map(|id| (Namespace::Subaccounts, id.to_ascii_lowercase()));
        self.check(engine, &new, id.as_ref())?;
        let (from, to) = (new.from.place(), new.to.place());
        engine.ledger.transfer(new.account, from, to, new.amount, now)?;
        Ok(self.record(new, id, true, now))
    }

    /// Accepts a transfer between shards or instances: its steps follow. Inside a shard it is one
    /// between subaccounts, and done at once.
    pub(crate) fn accept(
        &mut self,
        engine: &mut Engine,
        new: NewTransfer,
        now: Time,
    ) -> Result<TransferId, Refusal> {
        let numbered = new.from.subaccount > 0 || new.to.subaccount > 0;
        if new.client_id.is_some() && numbered {
            return Err(Refusal::parameters(
                "client_transfer_id goes with transfers between primary accounts only",
            ));
        }
        let both = |instance| new.from.instance == instance && new.to.instance == instance;
        if both(Instance::EventContract) && new.from.shard == new.to.shard {
            return self.transfer(engine, new, now);
        }
        let namespace = Namespace::From(new.from.instance, new.from.shard);
        let id = new.client_id.clone().map(|id| (namespace, id.to_ascii_lowercase()));
        self.check(engine, &new, id.as_ref())?;
        let there = match new.from.instance {
            Instance::EventContract => {
                let (subaccount, shard) = new.from.place();
                engine.ledger.balance(new.account, subaccount, shard).free()
            }
            Instance::Margined => self.margined(new.account, new.from.shard),
        };
        if there < new.amount {
            return Err(too_low());
        }
        let id = self.record(new, id, false, now);
        self.pending.insert((after_step(now), id));
        Ok(id)
    }

    /// Checks a new transfer by itself.
    fn check(
        &self,
        engine: &Engine,
        new: &NewTransfer,
        id: Option<&(Namespace, String)>,
    ) -> Result<(), Refusal> {
        let used = self.used.get(&new.account);
        if id.is_some_and(|id| used.is_some_and(|used| used.contains(id))) {
            return Err(Refusal::conflict(
                "transfer_already_exists",
                "there is a transfer with this client transfer id",
            ));
        }
        if !new.amount.is_positive() {
            return Err(Refusal::parameters("the amount must be above zero"));
        }
        if new.from == new.to {
            return Err(Refusal::parameters("the money is there already"));
        }
        [new.from, new.to].into_iter().try_for_each(|end| reachable(engine, new.account, end))
    }

    fn record(
        &mut self,
        new: NewTransfer,
        used: Option<(Namespace, String)>,
        is_internal: bool,
        at: Time,
    ) -> TransferId {
        let NewTransfer { account, from, to, amount, client_id } = new;
        if let Some(used) = used {
            self.used.entry(account).or_default().insert(used);
        }
        let number = u64::try_from(self.rows.len()).unwrap_or(u64::MAX).saturating_add(1);
        let (id, steps) = (TransferId(number), usize::from(is_internal));
        self.rows.push(Transfer {
            id,
            account,
            from,
            to,
            amount,
            client_id,
            is_internal,
            at,
            steps,
        });
        id
    }

    /// Takes the step that is due first. One that cannot be taken ends the transfer.
    fn step(&mut self, engine: &mut Engine) {
        let Some((due, id)) = self.pending.pop_first() else { return };
        let Some(transfer) = self.rows.get(id.index()).cloned() else { return };
        let path = transfer.path();
        let (Some(from), Some(to)) = (path.get(transfer.steps), path.get(transfer.steps + 1))
        else {
            return;
        };
        if self.carry(engine, transfer.account, (*from, *to), transfer.amount, due).is_err() {
            return;
        }
        if let Some(transfer) = self.rows.get_mut(id.index()) {
            transfer.steps += 1;
            if !transfer.is_complete() {
                self.pending.insert((after_step(due), id));
            }
        }
    }

    /// Moves money from one place to another, in one piece or not at all.
    fn carry(
        &mut self,
        engine: &mut Engine,
        account: AccountId,
        (from, to): (End, End),
        amount: Dollars,
        now: Time,
    ) -> Result<(), Refusal> {
        for end in [from, to] {
            reachable(engine, account, end)?;
        }
        match (from.instance, to.instance) {
            (Instance::EventContract, Instance::EventContract) => {
                engine.ledger.transfer(account, from.place(), to.place(), amount, now)?;
            }
            (Instance::EventContract, Instance::Margined) => {
                let out = Dollars::ZERO.saturating_sub(amount);
                engine.ledger.adjust_cash(account, from.subaccount, from.shard, out, now)?;
                self.add(account, to.shard, amount);
            }
            (Instance::Margined, instance) => {
                if self.margined(account, from.shard) < amount {
                    return Err(too_low());
                }
                if instance == Instance::EventContract {
                    engine.ledger.adjust_cash(account, to.subaccount, to.shard, amount, now)?;
                } else {
                    self.add(account, to.shard, amount);
                }
                self.add(account, from.shard, Dollars::ZERO.saturating_sub(amount));
            }
        }
        Ok(())
    }

    /// Returns an account's transfers of one kind, the newest first.
    pub(crate) fn transfers(
        &self,
        account: AccountId,
        is_internal: bool,
    ) -> impl Iterator<Item = &Transfer> {
        self.rows.iter().rev().filter(move |transfer| {
            transfer.account == account && transfer.is_internal == is_internal
        })
    }

    /// Returns one of an account's transfers.
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

    /// Returns the time of the next step of a transfer.
    #[cfg(feature = "perps")]
    pub(crate) fn next_step(&self) -> Option<Time> {
        self.pending.first().map(|(due, _)| *due)
    }

    /// Takes the cash that has come to the exchange of margined contracts, or was put here for a
    /// transfer that was not accepted. What a pending transfer is about to move stays.
    #[cfg(feature = "perps")]
    pub(crate) fn take_arrived(&mut self) -> Vec<(AccountId, Dollars)> {
        let mut leaving: BTreeMap<(AccountId, Shard), Dollars> = BTreeMap::new();
        let pending = self.pending.iter().filter_map(|(_, id)| self.rows.get(id.index()));
        for transfer in pending.filter(|one| one.steps == 0) {
            if transfer.from.instance == Instance::Margined {
                let sum = leaving.entry((transfer.account, transfer.from.shard)).or_default();
                *sum = sum.saturating_add(transfer.amount);
            }
        }
        let mut arrived = Vec::new();
        for ((account, shard), held) in &mut self.margined {
            let stays = leaving.get(&(*account, *shard)).copied().unwrap_or_default();
            let free = held.saturating_sub(stays);
            if free.is_positive() {
                *held = stays;
                arrived.push((*account, free));
            }
        }
        arrived
    }

    /// Puts cash of the exchange of margined contracts on its way.
    #[cfg(feature = "perps")]
    pub(crate) fn put_margined(&mut self, account: AccountId, shard: Shard, amount: Dollars) {
        self.add(account, shard, amount);
    }

    /// Returns cash of an account on the exchange of margined contracts.
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

impl End {
    /// Returns its place in the ledger of event contracts.
    fn place(self) -> (Subaccount, Shard) {
        (self.subaccount, self.shard)
    }
}

fn too_low() -> Refusal {
    Refusal::invalid("insufficient_balance", "the available balance is too low")
}

/// Returns the time of the step that follows.
fn after_step(time: Time) -> Time {
    Time::from_millis(time.as_millis().saturating_add(STEP_MILLIS))
}

/// Checks that an end of a transfer exists and is not paused.
fn reachable(engine: &Engine, account: AccountId, end: End) -> Result<(), Refusal> {
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

/// Returns the first tick at a time or after it.
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

    fn end(subaccount: Subaccount, shard: Shard) -> End {
        End { instance: Instance::EventContract, subaccount, shard }
    }

    fn new(account: AccountId, from: End, to: End, amount: &str) -> NewTransfer {
        NewTransfer { account, from, to, amount: dollars(amount), client_id: None }
    }

    fn at(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    /// Returns cash of a subaccount on a shard.
    fn held(engine: &Engine, account: AccountId, place: (Subaccount, Shard)) -> Dollars {
        engine.ledger.balance(account, place.0, place.1).cash
    }

    fn without_targets() -> (Transfers, Engine, AccountId) {
        let (_, mut engine, account) = set_up(&[]);
        for shard in [0, 2] {
            engine.ledger.provision(account, shard, at(1_000)).unwrap();
        }
        engine.ledger.deposit(account, 1, 0, dollars("50"), at(1_000)).unwrap();
        (Transfers::default(), engine, account)
    }

    #[test]
    fn c10_a_transfer_is_accepted_first_and_done_later_step_by_step() {
        let (mut transfers, mut engine, account) = without_targets();
        let id = transfers
            .accept(&mut engine, new(account, end(1, 0), end(1, 2), "30"), at(1_000))
            .unwrap();
        let row = |transfers: &Transfers| transfers.one(account, id).unwrap().clone();
        let places = [(1, 0), (0, 0), (0, 2), (1, 2)];
        let cash = |engine: &Engine| places.map(|place| held(engine, account, place));
        assert_eq!(cash(&engine), ["50", "100", "10", "0"].map(dollars));
        for (now, expected) in [
            (1_249, ["50", "100", "10", "0"]),
            (1_250, ["20", "130", "10", "0"]),
            (1_500, ["20", "100", "40", "0"]),
        ] {
            transfers.advance(&mut engine, at(now));
            assert_eq!(cash(&engine), expected.map(dollars), "{now}");
            assert!(!row(&transfers).is_complete());
            engine.audit().unwrap();
        }
        transfers.advance(&mut engine, at(1_750));
        assert_eq!(cash(&engine), ["20", "100", "10", "30"].map(dollars));
        assert!(row(&transfers).is_complete() && transfers.pending.is_empty());
        // Between primaries it is one step.
        let id = transfers
            .accept(&mut engine, new(account, end(0, 0), end(0, 2), "1"), at(2_000))
            .unwrap();
        transfers.advance(&mut engine, at(2_250));
        assert!(transfers.one(account, id).unwrap().is_complete());
        engine.audit().unwrap();
    }

    #[test]
    fn c10_a_step_that_fails_leaves_the_money_where_it_is_and_the_transfer_pending() {
        let (mut transfers, mut engine, account) = without_targets();
        let id = transfers
            .accept(&mut engine, new(account, end(1, 0), end(1, 2), "30"), at(1_000))
            .unwrap();
        transfers.advance(&mut engine, at(1_300));
        engine.set_shard(2, false, false, at(1_300));
        transfers.advance(&mut engine, at(10_000));
        engine.set_shard(2, true, true, at(10_000));
        transfers.advance(&mut engine, at(100_000));
        // In the primary of the shard that it comes from.
        assert_eq!(held(&engine, account, (1, 0)), dollars("20"));
        assert_eq!(held(&engine, account, (0, 0)), dollars("130"));
        assert!(!transfers.one(account, id).unwrap().is_complete());
        // What has been spent meanwhile is not moved, either.
        let late = transfers
            .accept(&mut engine, new(account, end(0, 0), end(0, 2), "130"), at(100_000))
            .unwrap();
        let out = dollars("-100");
        engine.ledger.adjust_cash(account, 0, 0, out, at(100_001)).unwrap();
        transfers.advance(&mut engine, at(200_000));
        assert_eq!(held(&engine, account, (0, 0)), dollars("30"));
        assert!(!transfers.one(account, late).unwrap().is_complete());
        engine.audit().unwrap();
    }

    #[test]
    fn c10_an_id_is_used_once_for_each_source_and_between_primaries_only() {
        let (mut transfers, mut engine, account) = without_targets();
        let mut send = |from: End, to: End, id: &str| {
            let client_id = Some(id.to_owned());
            let new = NewTransfer { client_id, ..new(account, from, to, "1") };
            transfers.accept(&mut engine, new, at(1_000)).map_err(|refusal| refusal.code)
        };
        let again = Err("transfer_already_exists");
        send(end(0, 0), end(0, 2), "aa").unwrap();
        assert_eq!(send(end(0, 0), end(0, 1), "AA"), again, "the case does not matter");
        send(end(0, 2), end(0, 0), "aa").unwrap();
        let margined = End { instance: Instance::Margined, ..end(0, 0) };
        assert_eq!(send(end(0, 0), margined, "aa"), again);
        send(end(0, 0), margined, "bb").unwrap();
        for (from, to) in [(end(1, 0), end(0, 2)), (end(0, 0), end(1, 2)), (end(1, 0), end(0, 0))] {
            assert_eq!(send(from, to, "cc"), Err("invalid_parameters"));
        }
        assert_eq!(transfers.rows[0].client_id.as_deref(), Some("aa"));
    }

    #[test]
    fn c10_within_a_shard_it_is_a_transfer_between_subaccounts_and_done_at_once() {
        let (mut transfers, mut engine, account) = without_targets();
        let id = transfers
            .accept(&mut engine, new(account, end(1, 0), end(0, 0), "30"), at(1_000))
            .unwrap();
        assert_eq!(held(&engine, account, (0, 0)), dollars("130"));
        assert!(transfers.one(account, id).is_none());
        let listed: Vec<TransferId> =
            transfers.transfers(account, true).map(|row| row.id).collect();
        assert_eq!(listed, [id]);
        assert_eq!(transfers.transfers(account, false).count(), 0);
    }

    #[test]
    fn c10_money_moves_to_the_margined_exchange_and_back() {
        let (mut transfers, mut engine, account) = without_targets();
        let margined = End { instance: Instance::Margined, ..end(0, 0) };
        transfers.accept(&mut engine, new(account, end(0, 0), margined, "40"), at(1_000)).unwrap();
        let back = new(account, margined, end(0, 2), "40");
        assert!(transfers.accept(&mut engine, back.clone(), at(1_000)).is_err(), "not there yet");
        transfers.advance(&mut engine, at(1_250));
        assert_eq!(held(&engine, account, (0, 0)), dollars("60"));
        transfers.accept(&mut engine, back, at(1_250)).unwrap();
        transfers.advance(&mut engine, at(1_500));
        assert_eq!(held(&engine, account, (0, 2)), dollars("50"));
        engine.audit().unwrap();
    }

    #[test]
    fn c10_what_arrives_is_spread_at_the_next_tick() {
        let (mut transfers, mut engine, account) = set_up(&[(0, 50), (2, 50)]);
        transfers.advance(&mut engine, at(20_000));
        let spread = cash(&engine, account);
        transfers
            .accept(&mut engine, new(account, end(0, 0), end(0, 3), "10"), at(20_000))
            .unwrap();
        transfers.advance(&mut engine, at(29_999));
        assert_eq!(cash(&engine, account)[3], dollars("10"));
        // One call over many ticks, and the step in between.
        transfers.accept(&mut engine, new(account, end(0, 2), end(0, 1), "5"), at(29_999)).unwrap();
        transfers.advance(&mut engine, at(1_000_000_000));
        assert_eq!(cash(&engine, account), spread);
        engine.audit().unwrap();
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
