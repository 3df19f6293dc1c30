//! The state that the records of a journal add up to. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kalshi_types::UnixMillis;

use super::{
    ChangeIntent, ClientOrderId, Intent, OwnIds, Product, Record, Session, Settlement,
    trigger::TriggerIntent,
};

/// The most sessions that are remembered to have placed orders. The oldest are forgotten first.
const MAX_PAST: usize = 10_000;

/// The most outcomes of intents that are remembered. The oldest are forgotten first.
const MAX_SETTLED: usize = 2_000;

/// The state that the records of a journal add up to.
///
/// It is bounded however many orders a session places: of those that are settled it has the last
/// 2,000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    session: Option<Session>,
    unsettled: BTreeMap<ClientOrderId, Unsettled>,
    settled: HashMap<ClientOrderId, Settled>,
    /// The keys of `settled`, from the oldest.
    by_age: VecDeque<ClientOrderId>,
    /// The number of intents that are settled and still in the journal.
    settled_intents: usize,
    /// The sessions that have placed orders, and their random bits.
    past: BTreeMap<u32, u64>,
    changes: BTreeMap<u64, UnsettledChange>,
    /// The highest number of a change.
    pub(super) last_change: u64,
    /// The number of changes that are settled and still in the journal.
    settled_changes: usize,
    /// By their `client_trigger_id`.
    triggers: BTreeMap<String, UnsettledTrigger>,
    /// The number of exit triggers that are settled and still in the journal.
    settled_triggers: usize,
}

/// An exit trigger of which it is not known whether it was set: its request has been sent, or was
/// about to be.
#[cfg_attr(not(feature = "perps"), expect(unreachable_pub, reason = "there is no other product"))]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsettledTrigger {
    /// The trigger.
    pub intent: TriggerIntent,
    /// The time before it was sent for the first time.
    pub first_sent: UnixMillis,
}

/// A change of an order whose outcome is not known: it has been sent, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsettledChange {
    /// The change.
    pub intent: ChangeIntent,
    /// The time before it was sent for the first time.
    pub first_sent: UnixMillis,
}

/// An intent whose outcome is not known: it has been sent, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsettled {
    /// The order.
    pub intent: Intent,
    /// The time before it was sent for the first time.
    pub first_sent: UnixMillis,
    /// The number of times that it was sent, or was about to be.
    pub attempts: u32,
    /// The time before it was sent for the last time.
    pub last_sent: UnixMillis,
}

/// An intent and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settled {
    intent: Intent,
    first_sent: UnixMillis,
    settlement: Settlement,
    /// The time at which the outcome became known.
    at: UnixMillis,
}

/// The numbers of what is settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct SettledCounts {
    /// Intents that are in the journal.
    pub(super) intents: usize,
    /// Those that are remembered.
    remembered: usize,
    /// Changes that are in the journal.
    pub(super) changes: usize,
    /// Exit triggers that are in the journal.
    triggers: usize,
}

impl SettledCounts {
    /// Returns the number of those in the journal that nothing needs any more.
    pub(super) fn stale(&self) -> usize {
        let others = self.changes.saturating_add(self.triggers);
        self.intents.saturating_sub(self.remembered).saturating_add(others)
    }
}

impl History {
    /// Adds a record.
    ///
    /// # Errors
    ///
    /// The reason why the record does not follow from those before it. Nothing was added.
    pub fn apply(&mut self, record: &Record) -> Result<(), &'static str> {
        self.check(record)?;
        self.add(record);
        self.forget_oldest();
        Ok(())
    }

    /// Adds a record that was [checked](Self::check), and forgets nothing.
    pub(super) fn add(&mut self, record: &Record) {
        match record {
            Record::Opened(session) => self.session = Some(*session),
            Record::Intent { intent, at } => {
                // Only in a file, which has what was forgotten when the id was used again.
                if self.settled.remove(intent.id()).is_some() {
                    self.by_age.retain(|id| id != intent.id());
                }
                let unsettled = Unsettled {
                    intent: intent.clone(),
                    first_sent: *at,
                    attempts: 1,
                    last_sent: *at,
                };
                self.unsettled.insert(intent.id().clone(), unsettled);
                if let Some(session) = self.session {
                    self.remember(session.number, session.nonce);
                }
            }
            Record::Sending { id, attempt, at } => {
                if let Some(unsettled) = self.unsettled.get_mut(id) {
                    unsettled.attempts = *attempt;
                    unsettled.last_sent = *at;
                }
            }
            Record::Settled { id, settlement, at } => self.settle(id, settlement, *at),
            Record::Past { number, nonce } => self.remember(*number, *nonce),
            Record::Change { intent, at } => {
                let change = UnsettledChange { intent: intent.clone(), first_sent: *at };
                self.changes.insert(intent.number, change);
                self.last_change = self.last_change.max(intent.number);
            }
            Record::ChangeSettled { number, .. } => {
                self.changes.remove(number);
                self.settled_changes = self.settled_changes.saturating_add(1);
            }
            Record::Trigger { intent, at } => {
                let open = || UnsettledTrigger { intent: intent.clone(), first_sent: *at };
                self.triggers.entry(intent.id.clone()).or_insert_with(open);
            }
            Record::TriggerSettled { id, .. } => {
                self.triggers.remove(id);
                self.settled_triggers = self.settled_triggers.saturating_add(1);
            }
        }
    }

    fn settle(&mut self, id: &ClientOrderId, settlement: &Settlement, at: UnixMillis) {
        let Some(Unsettled { intent, first_sent, .. }) = self.unsettled.remove(id) else {
            if let Some(settled) = self.settled.get_mut(id) {
                settled.settlement.clone_from(settlement);
                settled.at = at;
            }
            return;
        };
        let id = intent.id().clone();
        let settled = Settled { intent, first_sent, settlement: settlement.clone(), at };
        self.settled.insert(id.clone(), settled);
        self.by_age.push_back(id);
        self.settled_intents = self.settled_intents.saturating_add(1);
    }

    /// Forgets the outcomes beyond the last 2,000.
    pub(super) fn forget_oldest(&mut self) {
        while self.by_age.len() > MAX_SETTLED
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.settled.remove(&oldest);
        }
    }

    /// Checks that a record follows from those before it.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn check(&self, record: &Record) -> Result<(), &'static str> {
        match record {
            Record::Opened(session) => {
                let before = self.session.map_or(0, |session| session.number);
                if session.number <= before {
                    return Err("the number of an opening is not above the one before");
                }
            }
            Record::Intent { intent, .. } => {
                if let Some(hash) = self.hash_of(intent.id()) {
                    return Err(if hash == intent.hash() {
                        "the client order id was recorded before"
                    } else {
                        "the client order id was used for another order"
                    });
                }
            }
            Record::Sending { id, attempt, .. } => {
                let unsettled = self.unsettled.get(id).ok_or("no open intent has this id")?;
                if *attempt <= unsettled.attempts {
                    return Err("the number of a sending is not above the one before");
                }
            }
            // What was settled is settled anew when evidence contradicts it.
            Record::Settled { id, .. } => {
                self.hash_of(id).ok_or("no intent has this id")?;
            }
            Record::Past { number, nonce } => {
                if self.past.get(number).is_some_and(|known| known != nonce) {
                    return Err("two sessions have the same number");
                }
            }
            Record::Change { intent, .. } => {
                if self.changes.contains_key(&intent.number) {
                    return Err("the number of a change is in use");
                }
            }
            Record::ChangeSettled { number, .. } => {
                self.changes.get(number).ok_or("no open change has this number")?;
            }
            Record::Trigger { intent, .. } => {
                intent.check()?;
                // The same one is sent again.
                if self.triggers.get(&intent.id).is_some_and(|open| open.intent != *intent) {
                    return Err("the client trigger id is that of another trigger");
                }
            }
            Record::TriggerSettled { id, .. } => {
                self.triggers.get(id).ok_or("no open trigger has this id")?;
            }
        }
        Ok(())
    }

    /// Checks that a record of a file follows from those before it: what was written there was checked
    /// when it was, by a history that had forgotten what is far behind it.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub(super) fn check_line(&self, record: &Record) -> Result<(), &'static str> {
        match record {
            Record::Intent { intent, .. } if !self.unsettled.contains_key(intent.id()) => Ok(()),
            _ => self.check(record),
        }
    }

    /// Returns the last opening.
    pub fn session(&self) -> Option<Session> {
        self.session
    }

    /// Returns the intents whose outcome is not known, by their ids.
    pub fn unsettled(&self) -> impl ExactSizeIterator<Item = &Unsettled> {
        self.unsettled.values()
    }

    /// Returns the outcome of an intent, if it is known, has not been compacted away, and is among the
    /// last 2,000.
    pub fn settlement(&self, id: &str) -> Option<&Settlement> {
        self.settled.get(id).map(|settled| &settled.settlement)
    }

    /// Returns the ids of the orders that the exchange accepted, in no order, as far as
    /// [`settlement`](Self::settlement) knows them.
    pub fn accepted(&self) -> impl Iterator<Item = &ClientOrderId> {
        let is_accepted =
            |settled: &Settled| matches!(settled.settlement, Settlement::Accepted { .. });
        self.settled.iter().filter(move |(_, settled)| is_accepted(settled)).map(|(id, _)| id)
    }

    /// Returns the client order ids of the orders of the journal, compacted away or not. Those of the
    /// last 10,000 sessions that have placed any are known.
    pub fn own_ids(&self) -> OwnIds {
        let mut own = OwnIds::default();
        let past = self.past.iter();
        let past = past.map(|(number, nonce)| Session {
            number: *number,
            nonce: *nonce,
            opened: UnixMillis::EPOCH,
        });
        for session in past.chain(self.session) {
            own.add_session(&session);
        }
        let ids = self.unsettled.keys().chain(self.settled.keys());
        own.extend(ids.map(|id| id.as_str().to_owned()));
        own
    }

    /// Returns the changes of orders whose outcome is not known.
    pub fn unsettled_changes(&self) -> impl ExactSizeIterator<Item = &UnsettledChange> {
        self.changes.values()
    }

    /// Returns the exit triggers of which it is not known whether they were set.
    #[cfg(feature = "perps")]
    pub fn unsettled_triggers(&self) -> impl ExactSizeIterator<Item = &UnsettledTrigger> {
        self.triggers.values()
    }

    /// Returns the number of exit triggers that are settled and still in the journal.
    pub(super) fn settled_trigger_count(&self) -> usize {
        self.settled_triggers
    }

    /// Reports whether an order, a change or an exit trigger is not settled that this build can do nothing about.
    pub(super) fn has_unsupported(&self, is_supported: fn(Product) -> bool) -> bool {
        let intents = self.unsettled.values().map(|unsettled| unsettled.intent.product());
        let changes = self.changes.values().map(|change| change.intent.product);
        let triggers = self.triggers.values().map(|_| Product::Perps);
        intents.chain(changes).chain(triggers).any(|product| !is_supported(product))
    }

    /// Returns a number that no open change has.
    pub fn next_change(&self) -> u64 {
        self.last_change.saturating_add(1)
    }

    /// Returns the number of intents that are settled and still in the journal.
    pub fn settled_count(&self) -> usize {
        self.settled_intents
    }

    /// Returns the number of changes of orders that are settled and still in the journal.
    pub fn settled_change_count(&self) -> usize {
        self.settled_changes
    }

    fn hash_of(&self, id: &ClientOrderId) -> Option<u64> {
        let unsettled = self.unsettled.get(id).map(|unsettled| unsettled.intent.hash());
        unsettled.or_else(|| self.settled.get(id).map(|settled| settled.intent.hash()))
    }

    /// Forgets what is settled.
    pub(super) fn forget_settled(&mut self) {
        self.settled.clear();
        self.by_age.clear();
        self.settled_intents = 0;
        self.settled_changes = 0;
        self.settled_triggers = 0;
    }

    /// Takes in that the journal has lost the records of what was settled and is not remembered, as of
    /// a state before.
    pub(super) fn forget_records(&mut self, before: &SettledCounts) {
        let intents = before.intents.saturating_sub(before.remembered);
        self.settled_intents = self.settled_intents.saturating_sub(intents);
        self.settled_changes = self.settled_changes.saturating_sub(before.changes);
        self.settled_triggers = self.settled_triggers.saturating_sub(before.triggers);
    }

    /// Returns the numbers of what is settled.
    pub(super) fn settled_counts(&self) -> SettledCounts {
        SettledCounts {
            intents: self.settled_intents,
            remembered: self.settled.len(),
            changes: self.settled_changes,
            triggers: self.settled_triggers,
        }
    }

    /// Returns the records of the outcomes that are remembered, to be written behind the others.
    pub(super) fn remembered(&self) -> Vec<Record> {
        let settled = self.by_age.iter().filter_map(|id| self.settled.get(id));
        let records = settled.flat_map(|Settled { intent, first_sent, settlement, at }| {
            let id = intent.id().clone();
            let settlement = settlement.clone();
            [
                Record::Intent { intent: intent.clone(), at: *first_sent },
                Record::Settled { id, settlement, at: *at },
            ]
        });
        records.collect()
    }

    /// Returns the records that add up to this state without what is settled.
    pub(super) fn compacted(&self) -> Vec<Record> {
        let past = self.past.iter();
        let past = past.map(|(number, nonce)| Record::Past { number: *number, nonce: *nonce });
        let mut records: Vec<Record> = past.collect();
        records.extend(self.session.map(Record::Opened));
        for unsettled in self.unsettled.values() {
            let Unsettled { intent, first_sent, attempts, last_sent } = unsettled.clone();
            let id = intent.id().clone();
            records.push(Record::Intent { intent, at: first_sent });
            if attempts > 1 {
                records.push(Record::Sending { id, attempt: attempts, at: last_sent });
            }
        }
        for UnsettledChange { intent, first_sent } in self.changes.values() {
            records.push(Record::Change { intent: intent.clone(), at: *first_sent });
        }
        for UnsettledTrigger { intent, first_sent } in self.triggers.values() {
            records.push(Record::Trigger { intent: intent.clone(), at: *first_sent });
        }
        records
    }

    /// Remembers that a session has placed orders.
    fn remember(&mut self, number: u32, nonce: u64) {
        self.past.insert(number, nonce);
        while self.past.len() > MAX_PAST {
            self.past.pop_first();
        }
    }
}
