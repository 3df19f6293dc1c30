//! The journal of orders: what is about to be sent, written down before it is.
//!
//! A process may die at any moment between sending an order and hearing of it. The next one finds
//! the order's id and body in the journal, and looks for it before it places anything else. The
//! journal knows nothing of the exchange; it has no secrets; and what it cannot write is not sent.
//! Amends, decreases and cancels are written down in the same way, and so are exit triggers. With the feature `perps` one
//! journal holds orders of both products, and no client order id is used twice in it; a build without
//! the feature does not open a journal in which one of perpetual futures is not settled.
//!
//! Compacting forgets what is settled, but not which client order ids were given out: an order that
//! was accepted long ago and still rests is known to be yours by its id. It happens when a journal is
//! opened, and while it is open whenever some ten megabytes are settled, so that neither the file nor
//! the memory grows with the orders of a session.
//!
//! | what dies | [`Durability::Process`] | [`Durability::Disk`] |
//! |---|---|---|
//! | the process | every record is there | every record is there |
//! | the machine | the last seconds may be missing | every record is there |

use std::fmt;

mod error;
mod file;
mod history;
mod intent;
mod memory;
#[cfg(test)]
mod properties;
mod record;
mod trigger;

#[cfg(not(feature = "perps"))]
pub(crate) use self::intent::Product;
#[cfg(feature = "perps")]
pub(crate) use self::trigger::MAX_TRIGGER_ID;
pub use self::{
    error::{JournalError, JournalErrorKind},
    file::{Durability, FileJournal, FileJournalBuilder},
    history::{History, Unsettled, UnsettledChange},
    intent::{
        ChangeIntent, ClientOrderId, ClientOrderIds, Intent, KnownOrder, OrderChange, OwnIds,
        Session,
    },
    memory::MemoryJournal,
    record::{ChangeSettlement, Record, Settlement},
};
#[cfg(feature = "perps")]
pub use self::{
    history::UnsettledTrigger,
    intent::Product,
    trigger::{TriggerIntent, TriggerSettlement},
};

/// An append-only journal of orders.
///
/// A record counts when [`commit`](Self::commit) has returned for it: only then may what it speaks
/// of be sent.
pub trait Journal: fmt::Debug + Send + Sync {
    /// Appends a record, in order. On return it survives the death of the process.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Invalid`] if the record does not follow from those before it: it was not
    /// written, and the journal goes on. After any other error nothing more is taken until the
    /// journal is opened again, and what the record speaks of must not be sent.
    fn append(&self, record: &Record) -> Result<Appended, JournalError>;

    /// Waits until a record is as durable as the journal promises. It may block for the time of a
    /// disk write, if [`commit_blocks`](Self::commit_blocks); those who wait share one.
    ///
    /// # Errors
    ///
    /// Whether the record survives is not known, so what it speaks of must not be sent. Nothing
    /// more is taken until the journal is opened again.
    fn commit(&self, appended: Appended) -> Result<(), JournalError>;

    /// Reports whether [`commit`](Self::commit) may block.
    fn commit_blocks(&self) -> bool;

    /// Returns the present opening.
    fn session(&self) -> Session;

    /// Returns a copy of what the records add up to.
    fn history(&self) -> History;

    /// Returns the client order ids of the orders of the journal: see [`History::own_ids`].
    fn own_ids(&self) -> OwnIds {
        self.history().own_ids()
    }

    /// Reports whether so much is settled that [`rewrite`](Self::rewrite) should be called. Never,
    /// unless it is implemented.
    fn is_rewrite_due(&self) -> bool {
        false
    }

    /// Frees the room of what was settled long ago. What is open, and the outcomes that
    /// [`History`] remembers, stay. It may block for the time of several disk writes, while
    /// [`append`](Self::append) goes on.
    ///
    /// The placements call it, on a thread of its own, when [it is due](Self::is_rewrite_due).
    ///
    /// # Errors
    ///
    /// The journal goes on as it was, unless its next [`append`](Self::append) says otherwise.
    fn rewrite(&self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// The place of a record in its journal, from [`Journal::append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a record counts when it is committed"]
pub struct Appended(u64);

impl Appended {
    /// Returns the place of a record by its number, for other implementations of [`Journal`].
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number of the record.
    pub const fn number(self) -> u64 {
        self.0
    }
}
