//! Order books that wait for a snapshot, and when to request one.
//!
//! All requests of a subscription share one budget: the first goes out at once, each further one
//! waits longer, and only a success that lasts starts again. While the exchange still answers a
//! request there is no other one.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::after;
use crate::connection::backoff::Backoff;

/// The shortest pause between two requests.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// The shortest time for which all books must have been settled to count as a success.
const LASTING: Duration = Duration::from_secs(1);

/// The order books of a subscription that wait for a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Resync {
    waiting: BTreeSet<String>,
    /// Markets whose snapshots are on their way.
    outstanding: BTreeSet<String>,
    /// The time by which the next of them must have come.
    deadline: Option<Instant>,
    /// No request before that.
    earliest: Option<Instant>,
    /// Requests since the last success that lasted.
    requests: u32,
    /// The pause that the last request has to be followed by.
    pause: Duration,
    /// Since when no market waits.
    settled: Option<Instant>,
    /// The markets wait because something was lost.
    is_resyncing: bool,
}

impl Resync {
    /// Notes that the exchange sends snapshots of these markets by itself.
    pub(crate) fn expect(
        &mut self,
        items: impl IntoIterator<Item = String>,
        now: Instant,
        timeout: Duration,
    ) {
        for item in items {
            self.outstanding.insert(item.clone());
            self.waiting.insert(item);
        }
        if !self.outstanding.is_empty() {
            self.unsettle(now);
            self.deadline = Some(after(now, timeout));
        }
    }

    /// Notes that the books of these markets cannot be relied on any more.
    pub(crate) fn lose(&mut self, items: impl IntoIterator<Item = String>, now: Instant) {
        self.waiting.extend(items);
        if !self.waiting.is_empty() {
            self.unsettle(now);
            self.is_resyncing = true;
        }
    }

    fn unsettle(&mut self, now: Instant) {
        if let Some(since) = self.settled.take() {
            let lasting = LASTING.max(self.pause.saturating_mul(4));
            if now.saturating_duration_since(since) >= lasting {
                self.requests = 0;
                self.pause = Duration::ZERO;
                self.earliest = None;
            }
        }
    }

    /// Takes the snapshot of a market, if that market waits.
    pub(crate) fn arrived(&mut self, ticker: &str, now: Instant, timeout: Duration) -> bool {
        self.answered(ticker, now, timeout);
        self.waiting.remove(ticker)
    }

    fn answered(&mut self, ticker: &str, now: Instant, timeout: Duration) {
        if self.outstanding.remove(ticker) {
            let left = !self.outstanding.is_empty();
            self.deadline = left.then(|| after(now, self.patience(timeout)));
        }
    }

    /// Reports whether a market waits for a snapshot.
    pub(crate) fn is_waiting_for(&self, ticker: &str) -> bool {
        self.waiting.contains(ticker)
    }

    /// Stops waiting for a market.
    pub(crate) fn forget(&mut self, ticker: &str) {
        self.waiting.remove(ticker);
        self.outstanding.remove(ticker);
        if self.outstanding.is_empty() {
            self.deadline = None;
        }
    }

    /// Notes that a request for these markets was refused: no snapshot is on its way.
    pub(crate) fn refused<'a>(&mut self, items: impl IntoIterator<Item = &'a String>) {
        for item in items {
            self.outstanding.remove(item);
        }
        if self.outstanding.is_empty() {
            self.deadline = None;
        }
    }

    /// Reports, once, that no market waits any more: whether it was because of a loss.
    pub(crate) fn settle(&mut self, now: Instant) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        self.settled.get_or_insert(now);
        std::mem::take(&mut self.is_resyncing)
    }

    /// Takes the first snapshots that are overdue, if they are awaited for the first time.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<Vec<String>> {
        if self.deadline.is_none_or(|at| at > now) {
            return None;
        }
        self.deadline = None;
        let late = std::mem::take(&mut self.outstanding);
        // Those that wait because of a loss have been reported already.
        (!self.is_resyncing).then(|| late.into_iter().collect())
    }

    /// Takes the markets whose snapshots are to be requested now, if it is time for that.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        timeout: Duration,
        backoff: &Backoff,
    ) -> Option<Vec<String>> {
        let is_due = !self.waiting.is_empty()
            && self.outstanding.is_empty()
            && self.earliest.is_none_or(|at| at <= now);
        if !is_due {
            return None;
        }
        self.requests = self.requests.saturating_add(1);
        self.pause = backoff.delay(self.requests).max(SHORTEST_PAUSE);
        self.earliest = Some(after(now, self.pause));
        self.deadline = Some(after(now, self.patience(timeout)));
        self.outstanding.clone_from(&self.waiting);
        Some(self.waiting.iter().cloned().collect())
    }

    /// Returns the time for which an answer is awaited: longer after each request in vain.
    fn patience(&self, timeout: Duration) -> Duration {
        timeout.saturating_mul(1 << self.requests.saturating_sub(1).min(5))
    }

    /// Forgets all markets, because the subscription ended. The budget stays.
    pub(crate) fn clear(&mut self, now: Instant) {
        self.waiting.clear();
        self.outstanding.clear();
        self.deadline = None;
        self.is_resyncing = false;
        self.settled.get_or_insert(now);
    }

    /// Reports whether no market waits for a snapshot.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }
}
