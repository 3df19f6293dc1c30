//! The recent past of what members read: the values of things before each of the latest changes.
//!
//! Nothing is written down while it is off. While it is on, the first change of a thing in an
//! action of an engine notes what it was before; lists that only grow are noted by their length.
//! So the state of any moment since then can be read exactly, and what is older than that is
//! dropped. Which things there are is the engine's part: that of event contracts is in [`account`],
//! that of perpetual futures is beside their engine.

mod account;

use std::collections::{BTreeMap, VecDeque};

pub(crate) use self::account::{AccountView, EventHistory, View};
use crate::engine::types::Time;

/// The number of changes that are kept. When there are more, reads trail by less than they shall.
const MAX_CHANGES: usize = 200_000;

#[derive(Clone, Debug)]
struct Change<K, B> {
    key: K,
    before: B,
    at: Time,
    action: u64,
}

/// The latest changes, oldest first: of things named by a `K`, each with its value before the change,
/// a `B`.
#[derive(Clone, Debug)]
pub(crate) struct History<K, B> {
    is_on: bool,
    changes: VecDeque<Change<K, B>>,
    /// The number of the oldest change; numbers count up for ever.
    first: u64,
    /// The numbers of the changes of each thing.
    by_key: BTreeMap<K, VecDeque<u64>>,
    /// Of the action that is carried out.
    at: Time,
    action: u64,
    /// Everything up to here is readable at any time: it has been read already, or was not noted.
    floor: Horizon,
}

// By hand: a thing and its value need no default.
impl<K, B> Default for History<K, B> {
    fn default() -> Self {
        Self {
            is_on: false,
            changes: VecDeque::new(),
            first: 0,
            by_key: BTreeMap::new(),
            at: Time::default(),
            action: 0,
            floor: Horizon::default(),
        }
    }
}

/// The actions that reads show: every one up to a time, and those up to a number. Actions are
/// numbered in the order of their times, so the visible ones are always the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    time: Time,
    action: u64,
    /// The time of that action.
    action_at: Time,
}

impl Default for Horizon {
    fn default() -> Self {
        let never = Time::from_millis(i64::MIN);
        Self { time: never, action: 0, action_at: never }
    }
}

impl Horizon {
    fn shows<K, B>(self, change: &Change<K, B>) -> bool {
        change.at <= self.time || change.action <= self.action
    }

    /// Returns the time up to which everything is readable.
    pub(crate) fn as_of(self) -> Time {
        // More may come in the millisecond of that action.
        let before = self.action_at.as_millis().saturating_sub(1);
        self.time.max(Time::from_millis(before))
    }
}

/// The part of a history that a read shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    /// `None`: everything.
    horizon: Option<Horizon>,
    /// The number of the first change that is not readable yet.
    hidden: u64,
}

impl Shown {
    /// Returns the time up to which everything is readable; `None` stands for the present.
    pub(crate) fn as_of(self) -> Option<Time> {
        self.horizon.map(Horizon::as_of)
    }

    /// Reports whether the read shows everything.
    pub(crate) fn is_present(self) -> bool {
        self.horizon.is_none()
    }
}

impl<K: Copy + Ord, B> History<K, B> {
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Notes the time and the number of the action that begins.
    pub(crate) fn begin(&mut self, at: Time, action: u64) {
        self.at = at;
        self.action = action;
    }

    /// Starts to write changes down, from the next action on. `shown` is how far reads have been.
    pub(crate) fn start(&mut self, shown: Time) {
        if self.is_on {
            self.floor.time = self.floor.time.max(shown);
        } else {
            let (action, action_at) = (self.action, self.at);
            *self = Self { is_on: true, at: self.at, action, ..Self::default() };
            self.floor = Horizon { action, action_at, ..Horizon::default() };
        }
    }

    /// Ends that, and forgets what has been written down.
    pub(crate) fn stop(&mut self) {
        *self = Self { at: self.at, action: self.action, ..Self::default() };
    }

    /// Drops the changes that no read needs once everything up to `time` is readable.
    pub(crate) fn forget(&mut self, time: Time) {
        let horizon = self.horizon(time);
        while self.changes.front().is_some_and(|change| horizon.shows(change)) {
            self.drop_oldest();
        }
    }

    fn horizon(&self, time: Time) -> Horizon {
        Horizon { time: self.floor.time.max(time), ..self.floor }
    }

    fn drop_oldest(&mut self) -> Option<Change<K, B>> {
        let change = self.changes.pop_front()?;
        self.first += 1;
        if let Some(numbers) = self.by_key.get_mut(&change.key) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_key.remove(&change.key);
            }
        }
        Some(change)
    }

    /// Notes what a thing was before its first change in an action, while it is on.
    pub(crate) fn note(&mut self, key: K, before: impl FnOnce() -> B) {
        if !self.is_on {
            return;
        }
        let last = self.by_key.get(&key).and_then(VecDeque::back);
        let is_noted = last
            .and_then(|number| self.changes.get(index(number.checked_sub(self.first)?)))
            .is_some_and(|change| change.action == self.action);
        if is_noted {
            return;
        }
        let number = self.first + u64::try_from(self.changes.len()).unwrap_or(u64::MAX);
        let change = Change { key, before: before(), at: self.at, action: self.action };
        self.changes.push_back(change);
        self.by_key.entry(key).or_default().push_back(number);
        while self.changes.len() > MAX_CHANGES {
            let Some(dropped) = self.drop_oldest() else { break };
            self.floor.action = dropped.action;
            self.floor.action_at = dropped.at;
        }
    }

    /// Returns what a read shows that sees everything up to a time, or everything.
    pub(crate) fn shown(&self, time: Option<Time>) -> Shown {
        let horizon = time.filter(|_| self.is_on).map(|time| self.horizon(time));
        let hidden = horizon.map_or(u64::MAX, |horizon| {
            let shown = self.changes.partition_point(|change| horizon.shows(change));
            self.first + u64::try_from(shown).unwrap_or(u64::MAX)
        });
        Shown { horizon, hidden }
    }

    /// Returns what a thing was before the first of its changes that a read does not show; `None` if
    /// it shows the thing as it is.
    pub(crate) fn before(&self, key: K, shown: Shown) -> Option<&B> {
        let numbers = self.by_key.get(&key)?;
        let number = numbers.get(numbers.partition_point(|number| *number < shown.hidden))?;
        let change = self.changes.get(index(number.checked_sub(self.first)?))?;
        Some(&change.before)
    }

    /// Returns the things that have changed of late.
    pub(crate) fn changed(&self) -> impl Iterator<Item = K> {
        self.by_key.keys().copied()
    }
}

/// Returns the first rows of a list that only grows; `None` stands for all of them.
pub(crate) fn until<T>(rows: &[T], length: Option<usize>) -> &[T] {
    length.and_then(|length| rows.get(..length)).unwrap_or(rows)
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_history_shows_more_and_says_so() {
        let mut history = History::<u64, ()>::default();
        let at = |millis: u64| Time::from_millis(i64::try_from(millis).unwrap());
        history.begin(at(1_000), 1);
        history.note(0, || panic!("it is off"));
        history.start(at(1_000));
        let horizon = history.horizon(at(0));
        assert_eq!(horizon.as_of(), at(999), "more may come in that millisecond");
        let most = u64::try_from(MAX_CHANGES).unwrap();
        for number in 0..most + 10 {
            history.begin(at(2_000 + number), 2 + number);
            history.note(number, || ());
            // A second change in the same action is not one more.
            history.note(number, || panic!("it is noted"));
        }
        assert_eq!(history.changes.len(), MAX_CHANGES);
        assert_eq!(history.by_key.len(), MAX_CHANGES);
        // The first ten are readable, although they are later than the horizon asks for.
        assert_eq!(history.horizon(at(0)).as_of(), at(2_008));
        assert!(history.changes.iter().all(|change| !history.horizon(at(0)).shows(change)));
        // What is readable by its time is forgotten.
        history.forget(at(2_000 + most));
        assert_eq!(history.changes.len(), 9);
        history.forget(at(2_000 + 2 * most));
        assert!(history.changes.is_empty() && history.by_key.is_empty());
    }
}
