//! Reconciles a view with what REST knows, and tells when the view is current after it.

use std::{collections::VecDeque, future::Future, time::Duration};

use kalshi_types::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{
    CLOCK_TOLERANCE, Portfolio,
    records::{FillRecord, OrderRecord, PositionRecord},
};

/// The overlap of a read of fills with the one before: the time of a fill and the time that reads
/// are complete up to may come from different clocks.
const OVERLAP: Duration = Duration::from_secs(60);

/// The number of marks kept while the reads are behind all of them.
const MAX_MARKS: usize = 64;

/// The state of an account over REST, as far as a view needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AccountSnapshot {
    /// The time, by the exchange's clock, that everything here is complete up to. It may have
    /// newer things, too.
    pub as_of: UnixMillis,
    /// The fills since the time that was asked for, in any order.
    pub fills: Vec<FillRecord>,
    /// All orders that rest.
    pub orders: Vec<OrderRecord>,
    /// All positions that are not zero.
    pub positions: Vec<PositionRecord>,
}

/// A source that a view is reconciled from: the REST API, through a client for it.
///
/// The client of `kalshi-sdk` is one, with its feature `streams`.
pub trait AccountSource {
    /// The reason for which it could not be read.
    type Error;

    /// Returns the time, by the exchange's clock, that a read which begins now is complete up to:
    /// the exchange's reads trail its matching engine.
    fn fetch_as_of(&self) -> impl Future<Output = Result<UnixMillis, Self::Error>> + Send;

    /// Returns the fills since a time (all of them if there is none), the orders that rest, and the
    /// positions that are not zero, every page of each. A fill may be among them twice.
    ///
    /// [`AccountSnapshot::as_of`] is asked for first. Fills are read last: what changed an order or
    /// a position must be among them.
    fn fetch_account(
        &self,
        fills_since: Option<UnixMillis>,
    ) -> impl Future<Output = Result<AccountSnapshot, Self::Error>> + Send;
}

/// A reconciliation that has begun, from [`Portfolio::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a reconciliation that is not finished changes nothing"]
pub struct Reconciliation {
    losses: u64,
    fills_since: Option<UnixMillis>,
}

/// The result of a reconciliation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// The fills that had been missed. They are found once, whether or not the view is current
    /// after it.
    pub missed: Vec<FillRecord>,
    /// Fills that are too old to tell whether they were known, since the view has forgotten later
    /// ones ([`Portfolio::with_fill_history`]). They do not count.
    pub too_old: Vec<FillRecord>,
    /// The orders that ended without a message. One of them comes back if a message or the next
    /// read has it resting after all.
    pub closed: Vec<OrderRecord>,
    /// The state of the view afterwards: current, or the reason why not.
    pub status: ReconcileStatus,
}

/// The state of a view after a reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReconcileStatus {
    /// It did.
    Current,
    /// The reads are older than the last loss or confirmation, or than the reads before them. Of
    /// what was read, only fills were taken in.
    Behind {
        /// The time to wait before the next attempt.
        retry_after: Duration,
    },
    /// Not all three subscriptions had been confirmed when it began.
    NotSubscribed,
    /// Something was lost after it began. Of what was read, only fills were taken in.
    Interrupted,
}

/// A moment at which a reconciliation began: what happened up to it had been taken in, or was known
/// to be lost.
#[derive(Clone, Copy, Debug)]
struct Mark {
    step: u64,
    /// Not before the moment, by the exchange's clock.
    at: UnixMillis,
    is_subscribed: bool,
}

/// The moments since the last loss, oldest first. Reads that are newer than one of them have
/// everything that happened before it.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<Mark>);

impl Portfolio {
    /// Reads the account from the source, unless the reads are still behind, and takes it in.
    ///
    /// [`Reconciled::status`] says whether the view is current after it. It is not as long as the
    /// source's reads are behind the last loss; then wait for [`Reconciled::retry_after`] and
    /// reconcile again.
    ///
    /// # Errors
    ///
    /// The source could not be read. The view is as it was.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the view as it was.
    pub async fn reconcile<S: AccountSource>(
        &mut self,
        source: &S,
    ) -> Result<Reconciled, S::Error> {
        let begun = self.begin();
        // A question is cheaper than all pages of the account.
        if self.is_subscribed() {
            let as_of = source.fetch_as_of().await?;
            self.compare_clock(as_of);
            if let Some(status) = self.behind(as_of) {
                return Ok(Reconciled::new(status));
            }
        }
        let snapshot = source.fetch_account(begun.fills_since()).await?;
        Ok(self.finish(begun, snapshot))
    }

    /// Begins a reconciliation whose reading is done elsewhere, while events go on being applied.
    ///
    /// All three subscriptions must have been confirmed before: what happens between a read and a
    /// confirmation would be missed, and the view would not be current.
    pub fn begin(&mut self) -> Reconciliation {
        let now = self.now_at_exchange();
        self.marks.push(Mark { step: self.step, at: now, is_subscribed: self.is_subscribed() });
        let since = self.complete_until.map(|complete| complete.saturating_sub(OVERLAP));
        Reconciliation { losses: self.losses, fills_since: since.or(self.fills_from) }
    }

    /// Handles what was read since [`begin`](Self::begin).
    ///
    /// Fills are always taken in. Orders and positions are if the reads have all that was applied
    /// before some reconciliation began; what the stream said since then outweighs them.
    pub fn finish(&mut self, begun: Reconciliation, snapshot: AccountSnapshot) -> Reconciled {
        let AccountSnapshot { as_of, fills, orders, positions } = snapshot;
        self.compare_clock(as_of);
        let now = self.now_at_exchange();
        let mut found = Reconciled::new(ReconcileStatus::Interrupted);
        (found.missed, found.too_old) = self.fills.take_read(fills, now);
        if begun.losses != self.losses {
            return found;
        }
        let mark = self.marks.before(as_of).filter(|_| !self.is_older_read(as_of));
        if let Some(mark) = mark {
            found.closed = self.orders.take_read(orders, mark.step);
            self.positions.take_read(positions, as_of, mark.step);
            self.read_as_of = Some(as_of);
        }
        if mark.is_some_and(|mark| mark.is_subscribed) {
            self.marks.forget_before(as_of);
            self.is_current = true;
            self.complete_until = Some(as_of);
            found.status = ReconcileStatus::Current;
        } else {
            found.status = self.behind(as_of).unwrap_or(ReconcileStatus::NotSubscribed);
        }
        found
    }

    /// Compares the clock with a time that the exchange's has reached. One that is behind by more than
    /// its tolerance would make reads look newer than they are.
    fn compare_clock(&mut self, reached: UnixMillis) {
        let now = self.clock.now();
        let behind = if reached > now { reached.abs_diff(now) } else { Duration::ZERO };
        // Two clocks that are right differ by milliseconds.
        let allowed = self.clock_tolerance.max(CLOCK_TOLERANCE);
        if behind > allowed && behind > self.clock_behind {
            tracing::warn!(?behind, "the clock is behind the exchange's");
            // The marks were made with what was known then.
            self.marks.postpone(behind.saturating_sub(self.clock_behind));
            self.clock_behind = behind;
        }
    }

    /// Returns how far reads of that time are behind what they must have, if they are.
    fn behind(&self, as_of: UnixMillis) -> Option<ReconcileStatus> {
        let subscribed = self.marks.0.iter().find(|mark| mark.is_subscribed);
        // Reads must be later than the mark: of its own millisecond they may have a part.
        let needed = subscribed.map(|mark| mark.at.as_millis().saturating_add(1));
        let needed = needed.max(self.read_as_of.map(UnixMillis::as_millis))?;
        let missing = needed.saturating_sub(as_of.as_millis());
        let missing = u64::try_from(missing).ok().filter(|missing| *missing > 0)?;
        Some(ReconcileStatus::Behind { retry_after: Duration::from_millis(missing) })
    }

    /// Reports whether a read is older than the one before it: not every server is equally far.
    fn is_older_read(&self, as_of: UnixMillis) -> bool {
        self.read_as_of.is_some_and(|before| as_of < before)
    }
}

impl Marks {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn push(&mut self, mut mark: Mark) {
        if let Some(last) = self.0.back() {
            if last.step == mark.step && last.is_subscribed == mark.is_subscribed {
                // The earlier one says the same, and is reached sooner.
                return;
            }
            mark.at = mark.at.max(last.at);
        }
        if self.0.len() >= MAX_MARKS {
            // The oldest is the first that reads reach.
            self.0.remove(1);
        }
        self.0.push_back(mark);
    }

    fn postpone(&mut self, by: Duration) {
        for mark in &mut self.0 {
            mark.at = mark.at.saturating_add(by);
        }
    }

    /// Returns the newest mark that reads of that time have everything of.
    fn before(&self, as_of: UnixMillis) -> Option<Mark> {
        self.0.iter().rev().find(|mark| mark.at < as_of).copied()
    }

    /// Forgets all marks before that one.
    fn forget_before(&mut self, as_of: UnixMillis) {
        while self.0.get(1).is_some_and(|next| next.at < as_of) {
            self.0.pop_front();
        }
    }
}

impl AccountSnapshot {
    /// Returns a snapshot of an account with nothing in it, complete up to the time.
    pub const fn new(as_of: UnixMillis) -> Self {
        Self { as_of, fills: Vec::new(), orders: Vec::new(), positions: Vec::new() }
    }
}

impl Reconciliation {
    /// Returns the time from which on fills must be read; all of them if there is none.
    ///
    /// Every fill before it is known: it is the time of the last reads that made the view current,
    /// less a minute. Nothing that arrives since moves it, so a read from there finds everything
    /// that was missed, whatever came later.
    pub const fn fills_since(&self) -> Option<UnixMillis> {
        self.fills_since
    }
}

impl Reconciled {
    const fn new(status: ReconcileStatus) -> Self {
        Self { missed: Vec::new(), too_old: Vec::new(), closed: Vec::new(), status }
    }

    /// Reports whether the view was current after it.
    pub fn is_current(&self) -> bool {
        self.status == ReconcileStatus::Current
    }

    /// Returns how long to wait before the next attempt, if the reads were behind.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.status {
            ReconcileStatus::Behind { retry_after } => Some(retry_after),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_forgotten_up_to_the_newest_one_that_reads_have_everything_of() {
        let mut marks = Marks::default();
        for at in [10, 20, 30] {
            let at_exchange = UnixMillis::from_millis(at);
            marks.push(Mark { step: at.unsigned_abs(), at: at_exchange, is_subscribed: true });
        }
        for (as_of, first) in [(5, 10), (11, 10), (20, 10), (21, 20), (100, 30)] {
            marks.forget_before(UnixMillis::from_millis(as_of));
            assert_eq!(marks.0.front().map(|mark| mark.at.as_millis()), Some(first), "{as_of}");
        }
    }
}
