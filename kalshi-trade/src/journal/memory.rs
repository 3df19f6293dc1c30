//! A journal in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kalshi_types::UnixMillis;

use super::{Appended, History, Journal, JournalError, JournalErrorKind, Record, Session};

/// A journal in memory: for tests, and for those who accept that a dead process leaves no trace of
/// what it sent.
///
/// Clones share it, so a test keeps one over a restart.
///
/// # Examples
///
/// ```
/// use kalshi_trade::journal::{Journal, MemoryJournal};
/// use kalshi_types::UnixMillis;
///
/// let journal = MemoryJournal::new(7, UnixMillis::EPOCH);
/// let restarted = journal.clone();
/// restarted.reopen(8, UnixMillis::from_millis(1_000))?;
/// assert_eq!(journal.session().number, 2);
/// # Ok::<(), kalshi_trade::journal::JournalError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryJournal(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    history: History,
    session: Session,
    written: u64,
    is_full: bool,
    is_poisoned: bool,
}

impl MemoryJournal {
    /// Returns a new journal, opened once, with the random bits and the time of its opening.
    pub fn new(nonce: u64, now: UnixMillis) -> Self {
        let session = Session { number: 1, nonce, opened: now };
        let mut history = History::default();
        // The first opening follows from nothing.
        let _ = history.apply(&Record::Opened(session));
        let state = State { history, session, written: 0, is_full: false, is_poisoned: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Begins the next session, as opening a file again would.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Invalid`] after more than four billion openings.
    pub fn reopen(&self, nonce: u64, now: UnixMillis) -> Result<(), JournalError> {
        let mut state = self.lock();
        let number = state.session.number.saturating_add(1);
        let session = Session { number, nonce, opened: now };
        let opened = state.history.apply(&Record::Opened(session));
        opened.map_err(|why| JournalError::new(JournalErrorKind::Invalid, why))?;
        state.session = session;
        state.is_poisoned = false;
        Ok(())
    }

    /// Makes every append fail, or none, as a full disk would.
    pub fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for MemoryJournal {
    fn append(&self, record: &Record) -> Result<Appended, JournalError> {
        let mut state = self.lock();
        if state.is_poisoned {
            return Err(JournalError::poisoned());
        }
        if state.is_full {
            state.is_poisoned = true;
            return Err(JournalError::new(JournalErrorKind::Io, "the journal is set to be full"));
        }
        let applied = state.history.apply(record);
        applied.map_err(|why| JournalError::new(JournalErrorKind::Invalid, why))?;
        state.written = state.written.saturating_add(1);
        Ok(Appended::new(state.written))
    }

    fn commit(&self, _: Appended) -> Result<(), JournalError> {
        Ok(())
    }

    fn commit_blocks(&self) -> bool {
        false
    }

    fn session(&self) -> Session {
        self.lock().session
    }

    fn history(&self) -> History {
        self.lock().history.clone()
    }
}
