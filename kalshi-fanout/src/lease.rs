//! The lease that decides which of several publishers publishes.
//!
//! Pure. One entry of a store with compare-and-set: holder and term. A holder renews it; another
//! publisher takes it over once it has watched the entry stay the same for longer than the lease
//! lasts, so that no clocks have to agree.

use std::time::Duration;

use kalshi_types::UnixMillis;
use serde::{Deserialize, Serialize};

/// The entry of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseEntry {
    /// The id of the holder; empty when the lease was given up.
    pub holder: String,
    /// The term: later ones are higher, also after the store has lost its contents.
    pub term: u64,
}

/// A request to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseRequest {
    /// Read the entry, and call [`Lease::read`].
    Read,
    /// Write the entry if its revision is `expected` (`None`: if there is no entry), and call
    /// [`Lease::written`].
    Write {
        /// The entry.
        entry: LeaseEntry,
        /// The revision that the store must have.
        expected: Option<u64>,
    },
}

/// The end of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseWrite {
    /// The entry was written and has this revision.
    Written(u64),
    /// The entry has another revision.
    Conflict,
    /// It is not known whether the entry was written.
    Unknown,
}

/// The lease of one publisher.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_fanout::{Lease, LeaseRequest, LeaseWrite};
/// use kalshi_types::UnixMillis;
///
/// let (now, wall) = (Duration::ZERO, UnixMillis::from_millis(1_000));
/// let mut lease = Lease::new("a");
/// assert_eq!(lease.next(true, now), Some(LeaseRequest::Read));
/// lease.read(None, wall, now);
/// assert!(matches!(lease.next(true, now), Some(LeaseRequest::Write { .. })));
/// lease.written(LeaseWrite::Written(1));
/// assert_eq!(lease.held(now), Some((1_000, Duration::from_secs(10))));
/// ```
#[derive(Clone, Debug)]
pub struct Lease {
    id: String,
    ttl: Duration,
    renew: Duration,
    held: Option<Held>,
    /// The entry as it was seen last, and since when it has been the same.
    seen: Option<(LeaseEntry, u64, Duration)>,
    /// The write that is under way, and when it was sent.
    sent: Option<(LeaseEntry, Duration)>,
    /// A write whose end is not known.
    unknown: Option<(LeaseEntry, Duration)>,
    /// The write that is to be made next.
    next_write: Option<(LeaseEntry, Option<u64>)>,
    is_reading: bool,
    due: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    term: u64,
    revision: u64,
    until: Duration,
}

impl Lease {
    /// Returns a lease that lasts for 10 seconds and is renewed every 3. The id is one that no other
    /// publisher has, and no earlier run of this one.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ttl: Duration::from_secs(10),
            renew: Duration::from_secs(3),
            held: None,
            seen: None,
            sent: None,
            unknown: None,
            next_write: None,
            is_reading: false,
            due: Duration::ZERO,
        }
    }

    /// Sets the time that the lease lasts, at least 10 ms; it is renewed after three tenths of it.
    ///
    /// The same for all publishers, and shorter than the silence that followers take for an end
    /// ([`FollowerConfig::stale_after`](crate::FollowerConfig)).
    #[must_use]
    pub fn with_duration(mut self, duration: Duration) -> Self {
        self.ttl = duration.max(Duration::from_millis(10));
        self.renew = self.ttl * 3 / 10;
        self
    }

    /// Returns the term and the end of the lease; `None` while another publisher may hold it.
    pub fn held(&self, now: Duration) -> Option<(u64, Duration)> {
        let held = self.held.filter(|held| now < held.until)?;
        Some((held.term, held.until))
    }

    /// Reports whether nothing is held and no write is under way.
    pub const fn is_idle(&self) -> bool {
        self.held.is_none() && self.sent.is_none()
    }

    /// Returns the next request to the store. `is_able` says whether this publisher could publish:
    /// if not, a lease that it holds is given up.
    pub fn next(&mut self, is_able: bool, now: Duration) -> Option<LeaseRequest> {
        if let Some((_, at)) = &self.sent
            && now.saturating_sub(*at) >= self.renew
        {
            // No answer came.
            self.written(LeaseWrite::Unknown);
        }
        if self.sent.is_some() {
            return None;
        }
        if self.held.is_some_and(|held| now >= held.until) {
            self.held = None;
        }
        if let Some((entry, expected)) = self.next_write.take() {
            if is_able {
                self.sent = Some((entry.clone(), now));
                return Some(LeaseRequest::Write { entry, expected });
            }
            return None;
        }
        if let Some(held) = self.held
            && !is_able
        {
            self.held = None;
            let entry = LeaseEntry { holder: String::new(), term: held.term };
            self.sent = Some((entry.clone(), now));
            return Some(LeaseRequest::Write { entry, expected: Some(held.revision) });
        }
        if now < self.due {
            return None;
        }
        self.due = now.saturating_add(self.renew);
        match self.held {
            Some(held) if self.unknown.is_none() => {
                let entry = LeaseEntry { holder: self.id.clone(), term: held.term };
                self.sent = Some((entry.clone(), now));
                Some(LeaseRequest::Write { entry, expected: Some(held.revision) })
            }
            _ => {
                self.is_reading = true;
                Some(LeaseRequest::Read)
            }
        }
    }

    /// Takes the entry of the store and its revision; `None` for an empty store.
    pub fn read(&mut self, entry: Option<(LeaseEntry, u64)>, wall: UnixMillis, now: Duration) {
        if !std::mem::take(&mut self.is_reading) {
            return;
        }
        let unknown = self.unknown.take();
        let wall = u64::try_from(wall.as_millis()).unwrap_or_default();
        let Some((entry, revision)) = entry else {
            // The store has lost it. A holder goes on to the end of its time, and no longer.
            let last = self.seen.as_ref().map_or(0, |(entry, ..)| entry.term);
            if self.held.is_none() {
                self.take_over(last, wall, None);
            }
            return;
        };
        if let Some((sent, at)) = unknown
            && sent == entry
            && entry.holder == self.id
        {
            // The write of an unknown end was made.
            let until = at.saturating_add(self.ttl);
            self.held = Some(Held { term: entry.term, revision, until });
            self.seen = Some((entry, revision, now));
            return;
        }
        self.held = None;
        let since = match &self.seen {
            Some((seen, before, since)) if *before == revision && *seen == entry => *since,
            _ => now,
        };
        let is_over = now.saturating_sub(since) > self.ttl + self.renew || entry.holder.is_empty();
        if is_over {
            self.take_over(entry.term, wall, Some(revision));
        }
        self.seen = Some((entry, revision, since));
    }

    /// Takes the end of a write.
    pub fn written(&mut self, end: LeaseWrite) {
        let Some((entry, at)) = self.sent.take() else { return };
        match end {
            LeaseWrite::Written(revision) if entry.holder == self.id => {
                let until = at.saturating_add(self.ttl);
                self.held = Some(Held { term: entry.term, revision, until });
                self.seen = Some((entry, revision, at));
            }
            LeaseWrite::Written(_) => {}
            LeaseWrite::Conflict => {
                self.held = None;
                self.due = Duration::ZERO;
            }
            LeaseWrite::Unknown => self.unknown = Some((entry, at)),
        }
    }

    fn take_over(&mut self, last: u64, wall: u64, expected: Option<u64>) {
        // By the time of day, so that it is later although the store forgot the last one.
        let term = wall.max(last.saturating_add(1));
        self.next_write = Some((LeaseEntry { holder: self.id.clone(), term }, expected));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: UnixMillis = UnixMillis::from_millis(5);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn acquired(id: &str, now: Duration) -> (Lease, LeaseEntry) {
        let mut lease = Lease::new(id);
        assert_eq!(lease.next(true, now), Some(LeaseRequest::Read));
        lease.read(None, WALL, now);
        let Some(LeaseRequest::Write { entry, expected: None }) = lease.next(true, now) else {
            panic!("it is free")
        };
        lease.written(LeaseWrite::Written(1));
        (lease, entry)
    }

    #[test]
    fn a_lease_that_is_not_renewed_is_taken_over_after_its_end() {
        let (leader, entry) = acquired("a", seconds(0));
        let mut other = Lease::new("b");
        let mut took_over = None;
        for now in (0..30).map(seconds) {
            match other.next(true, now) {
                Some(LeaseRequest::Read) => other.read(Some((entry.clone(), 1)), WALL, now),
                Some(LeaseRequest::Write { entry, expected }) => {
                    assert_eq!((expected, entry.term), (Some(1), 6));
                    other.written(LeaseWrite::Written(2));
                    took_over = Some(now);
                    break;
                }
                None => {}
            }
        }
        let took_over = took_over.unwrap();
        assert!(took_over > seconds(10));
        assert_eq!(leader.held(took_over), None);
        assert!(other.held(took_over).is_some());
    }

    #[test]
    fn a_renewal_without_an_answer_is_looked_up() {
        let (mut lease, entry) = acquired("a", seconds(0));
        assert!(matches!(lease.next(true, seconds(3)), Some(LeaseRequest::Write { .. })));
        // No answer.
        assert_eq!(lease.next(true, seconds(6)), Some(LeaseRequest::Read));
        lease.read(Some((entry, 2)), WALL, seconds(6));
        assert_eq!(lease.held(seconds(12)), Some((5, seconds(13))));
    }

    #[test]
    fn one_that_cannot_publish_gives_it_up() {
        let (mut lease, _) = acquired("a", seconds(0));
        let Some(LeaseRequest::Write { entry, expected }) = lease.next(false, seconds(1)) else {
            panic!("it holds the lease")
        };
        assert_eq!((&*entry.holder, expected), ("", Some(1)));
        assert_eq!(lease.held(seconds(1)), None);
    }

    #[test]
    fn a_conflict_ends_it() {
        let (mut lease, _) = acquired("a", seconds(0));
        assert!(lease.next(true, seconds(3)).is_some());
        lease.written(LeaseWrite::Conflict);
        assert_eq!(lease.held(seconds(3)), None);
    }
}
