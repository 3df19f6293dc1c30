//! The state that the records of a journal add up to. Pure.

use std::collections::BTreeMap;

use kalshi_types::UnixMillis;

use super::{ChangeIntent, ClientOrderId, Intent, OwnIds, Record, Session, Settlement};

/// The most sessions that are remembered to have placed orders. The oldest are forgotten first.
const MAX_PAST: usize = 10_000;

/// The state that the records of a journal add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    session: Option<Session>,
    unsettled: BTreeMap<ClientOrderId, Unsettled>,
    settled: BTreeMap<ClientOrderId, Settled>,
    /// The sessions that have placed orders, and their random bits.
    past: BTreeMap<u32, u64>,
    changes: BTreeMap<u64, UnsettledChange>,
    /// The highest number of a change.
    last_change: u64,
    /// The number of changes that are settled and still in the journal.
    settled_changes: usize,
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

/// The outcome of an intent, and the hash of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settled {
    hash: u64,
    settlement: Settlement,
}

impl History {
    /// Adds a record.
    ///
    /// # Errors
    ///
    /// The reason why the record does not follow from those before it. Nothing was added.
    pub fn apply(&mut self, record: &Record) -> Result<(), &'static str> {
        self.check(record)?;
        match record {
            Record::Opened(session) => self.session = Some(*session),
            Record::Intent { intent, at } => {
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
            Record::Settled { id, settlement, .. } => {
                let unsettled = self.unsettled.remove(id).map(|unsettled| unsettled.intent.hash());
                let settled = self.settled.get(id).map(|settled| settled.hash);
                if let Some(hash) = unsettled.or(settled) {
                    let settled = Settled { hash, settlement: settlement.clone() };
                    self.settled.insert(id.clone(), settled);
                }
            }
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
        }
        Ok(())
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
        }
        Ok(())
    }

    /// Returns the last opening.
    pub fn session(&self) -> Option<Session> {
        self.session
    }

    /// Returns the intents whose outcome is not known, by their ids.
    pub fn unsettled(&self) -> impl ExactSizeIterator<Item = &Unsettled> {
        self.unsettled.values()
    }

    /// Returns the outcome of an intent, if it is known and has not been compacted away.
    pub fn settlement(&self, id: &str) -> Option<&Settlement> {
        self.settled.get(id).map(|settled| &settled.settlement)
    }

    /// Returns the ids of the orders that the exchange accepted, as far as they have not been
    /// compacted away.
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

    /// Returns a number that no open change has.
    pub fn next_change(&self) -> u64 {
        self.last_change.saturating_add(1)
    }

    /// Returns the number of intents that are settled and still in the journal.
    pub fn settled_count(&self) -> usize {
        self.settled.len()
    }

    /// Returns the number of changes of orders that are settled and still in the journal.
    pub fn settled_change_count(&self) -> usize {
        self.settled_changes
    }

    fn hash_of(&self, id: &ClientOrderId) -> Option<u64> {
        let unsettled = self.unsettled.get(id).map(|unsettled| unsettled.intent.hash());
        unsettled.or_else(|| self.settled.get(id).map(|settled| settled.hash))
    }

    /// Forgets what is settled.
    pub(super) fn forget_settled(&mut self) {
        self.settled.clear();
        self.settled_changes = 0;
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
