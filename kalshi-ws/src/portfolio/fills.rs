//! The fills that are known, so that each counts once, wherever it comes from.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use kalshi_types::UnixMillis;

use super::records::FillRecord;

/// A trade and an order: one trade fills two orders when both are yours.
type Key = (String, String);

/// Known fills in the order in which they came, the first forgotten first.
#[derive(Debug)]
pub(super) struct FillHistory {
    known: HashSet<Arc<Key>>,
    /// Each with its time, or one that is not before it.
    arrivals: VecDeque<(Arc<Key>, UnixMillis)>,
    capacity: usize,
    /// The latest time of those that were forgotten.
    forgotten_until: Option<UnixMillis>,
}

impl FillHistory {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            known: HashSet::new(),
            arrivals: VecDeque::new(),
            capacity: capacity.max(1),
            forgotten_until: None,
        }
    }

    /// Handles a fill from the stream, which happened at that time at the latest, and reports
    /// whether it is new.
    ///
    /// The stream does not tell fills of long ago, so one that is not known is new even where the
    /// history does not reach back.
    pub(super) fn take_live(&mut self, fill: &FillRecord, at: UnixMillis) -> bool {
        self.insert(fill, at)
    }

    /// Handles what was read and returns the fills that had been missed, and those that are too
    /// old to tell.
    pub(super) fn take_read(
        &mut self,
        mut fills: Vec<FillRecord>,
        now: UnixMillis,
    ) -> (Vec<FillRecord>, Vec<FillRecord>) {
        fills.sort_by_key(|fill| fill.ts_ms);
        // What these fills make the history forget, they do not fall victim to themselves.
        let forgotten_until = self.forgotten_until;
        let mut seen = HashSet::new();
        let (mut missed, mut too_old) = (Vec::new(), Vec::new());
        for fill in fills {
            // One that moved to the archive meanwhile is there twice.
            if !seen.insert(key(&fill)) || self.known.contains(&key(&fill)) {
                continue;
            }
            if forgotten_until.is_some_and(|until| fill.ts_ms.is_none_or(|ts| ts <= until)) {
                too_old.push(fill);
                continue;
            }
            self.insert(&fill, fill.ts_ms.unwrap_or(now));
            missed.push(fill);
        }
        (missed, too_old)
    }

    fn insert(&mut self, fill: &FillRecord, at: UnixMillis) -> bool {
        let key = Arc::new(key(fill));
        if !self.known.insert(Arc::clone(&key)) {
            return false;
        }
        self.arrivals.push_back((key, at));
        if self.arrivals.len() > self.capacity
            && let Some((key, at)) = self.arrivals.pop_front()
        {
            self.known.remove(&key);
            self.forgotten_until = self.forgotten_until.max(Some(at));
        }
        true
    }
}

fn key(fill: &FillRecord) -> Key {
    (fill.trade_id.clone(), fill.order_id.clone())
}
