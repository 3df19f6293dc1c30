//! Trades and fills on several feeds: each once, by its id.
//!
//! They have no clock, so a loss of one feed counts as covered only between two messages that a
//! witness brought as well: the last one before the loss, and one after it. The witness must have
//! lost nothing in between. Until then the loss is open; when no witness is left, it is uncovered.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::MAX_FEEDS;

/// The number of ids that are kept of the messages after a loss.
const MAX_AFTER: usize = 1_024;

type Key = Arc<str>;

/// Sets of feeds, one bit each.
type Feeds = u8;

const _: () = assert!(MAX_FEEDS <= Feeds::BITS as usize);

/// The messages of one channel.
pub(super) struct Keyed {
    /// The number of ids that are remembered.
    window: usize,
    /// The generation in which each feed brought a message; 0 for none.
    seen: HashMap<Key, [u32; MAX_FEEDS], RandomState>,
    order: VecDeque<Key>,
    feeds: Vec<Feed>,
}

struct Feed {
    /// The channel is subscribed to.
    is_live: bool,
    /// Each loss begins another one.
    generation: u32,
    /// The last message of this generation.
    last: Option<Key>,
    open: Option<Open>,
    /// The window has lost messages that this feed has not brought: what it brings now may be older
    /// than the window.
    is_behind: bool,
}

/// A loss that is neither covered nor uncovered yet.
struct Open {
    last: Key,
    /// The feeds that have lost nothing since.
    witnesses: Feeds,
    /// Those that brought the last message before the loss.
    proven: Feeds,
    /// Messages that the feed brought after the loss.
    after: HashSet<Key, RandomState>,
}

/// The meaning of a message or a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// No feed brought the message before.
    pub(super) is_new: bool,
    /// Losses that are covered now.
    pub(super) covered: u64,
    /// A loss is uncovered.
    pub(super) is_uncovered: bool,
}

const fn bit(feed: usize) -> Feeds {
    1 << feed
}

impl Keyed {
    pub(super) fn new(feeds: usize, window: usize) -> Self {
        let feed =
            || Feed { is_live: false, generation: 1, last: None, open: None, is_behind: false };
        Self {
            window: window.max(1),
            seen: HashMap::default(),
            order: VecDeque::new(),
            feeds: std::iter::repeat_with(feed).take(feeds.min(MAX_FEEDS)).collect(),
        }
    }

    pub(super) fn set_window(&mut self, window: usize) {
        self.window = window.max(1);
    }

    /// Takes in that a feed has a subscription.
    pub(super) fn subscribed(&mut self, feed: usize) {
        if let Some(feed) = self.feeds.get_mut(feed) {
            feed.is_live = true;
        }
    }

    /// Takes in that the caller gave up the channel on a feed: nothing more is due.
    pub(super) fn unsubscribed(&mut self, feed: usize) -> Verdict {
        let verdict = self.lose_as_witness(feed);
        if let Some(feed) = self.feeds.get_mut(feed) {
            feed.is_live = false;
            feed.generation = feed.generation.wrapping_add(1).max(1);
            feed.last = None;
            feed.open = None;
        }
        verdict
    }

    /// Takes in that a feed may have lost messages, and with them perhaps its subscription.
    pub(super) fn lost(&mut self, feed: usize, is_over: bool) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(state) = self.feeds.get_mut(feed) else { return verdict };
        if !state.is_live {
            return verdict;
        }
        state.is_live = !is_over;
        state.generation = state.generation.wrapping_add(1).max(1);
        let last = state.last.take();
        if let Some(open) = &mut state.open {
            open.after.clear();
        } else {
            let mut open =
                last.map(|last| Open { last, witnesses: 0, proven: 0, after: HashSet::default() });
            if let Some(open) = &mut open {
                let seen = self.seen.get(&open.last);
                for (other, witness) in self.feeds.iter().enumerate() {
                    if other == feed || !witness.is_live {
                        continue;
                    }
                    open.witnesses |= bit(other);
                    let brought = seen.and_then(|seen| seen.get(other));
                    if brought == Some(&witness.generation) {
                        open.proven |= bit(other);
                    }
                }
            }
            open = open.filter(|open| open.witnesses != 0);
            verdict.is_uncovered = open.is_none();
            if let Some(state) = self.feeds.get_mut(feed) {
                state.open = open;
            }
        }
        verdict.is_uncovered |= self.lose_as_witness(feed).is_uncovered;
        if verdict.is_uncovered {
            self.restart();
        }
        verdict
    }

    /// Takes a feed that has lost something out of the witnesses of the others.
    fn lose_as_witness(&mut self, feed: usize) -> Verdict {
        let mut verdict = Verdict::default();
        for other in &mut self.feeds {
            if let Some(open) = &mut other.open {
                open.witnesses &= !bit(feed);
                if open.witnesses == 0 {
                    other.open = None;
                    verdict.is_uncovered = true;
                }
            }
        }
        verdict
    }

    /// Starts anew after an uncovered loss: nothing that a feed brings is taken for older than the
    /// window.
    fn restart(&mut self) {
        for feed in &mut self.feeds {
            feed.is_behind = false;
        }
    }

    /// Takes in a message.
    pub(super) fn bring(&mut self, feed: usize, key: &str) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(generation) = self.feeds.get(feed).map(|state| state.generation) else {
            return verdict;
        };
        let known = self.seen.get_key_value(key).map(|(key, seen)| (Arc::clone(key), *seen));
        let (is_new, (key, before)) =
            (known.is_none(), known.unwrap_or_else(|| (key.into(), [0; MAX_FEEDS])));
        self.witness(feed, &key, &before, &mut verdict);
        let are_others_live =
            self.feeds.iter().enumerate().any(|(other, state)| other != feed && state.is_live);
        if let Some(state) = self.feeds.get_mut(feed) {
            if !is_new || !are_others_live || verdict.is_uncovered {
                state.is_behind = false;
            }
            if state.is_behind {
                // If it is no older than the window, another feed is still to bring it.
                return verdict;
            }
            state.last = Some(Arc::clone(&key));
        }
        verdict.is_new = is_new;
        let mut seen = before;
        if let Some(mark) = seen.get_mut(feed) {
            *mark = generation;
        }
        self.resolve(feed, &key, &seen, &mut verdict);
        self.seen.insert(Arc::clone(&key), seen);
        if is_new {
            self.order.push_back(key);
        }
        if verdict.is_uncovered {
            self.restart();
        }
        while self.order.len() > self.window {
            self.forget_oldest();
        }
        verdict
    }

    /// Compares the message with the losses of the other feeds.
    fn witness(
        &mut self,
        feed: usize,
        key: &Key,
        before: &[u32; MAX_FEEDS],
        verdict: &mut Verdict,
    ) {
        for (other, state) in self.feeds.iter_mut().enumerate() {
            let Some(open) = &mut state.open else { continue };
            if other == feed || open.witnesses & bit(feed) == 0 {
                continue;
            }
            if *key == open.last {
                open.proven |= bit(feed);
            }
            if open.proven & bit(feed) != 0 {
                if open.after.contains(key) {
                    state.open = None;
                    verdict.covered += 1;
                }
                continue;
            }
            // It has not come to the last message before the loss, or began after it.
            let brought = before.get(other).copied().unwrap_or_default();
            if brought == 0 || brought == state.generation {
                open.witnesses &= !bit(feed);
                if open.witnesses == 0 {
                    state.open = None;
                    verdict.is_uncovered = true;
                }
            }
        }
    }

    /// Compares the message, which came after a loss of this feed, with what the witnesses brought.
    fn resolve(&mut self, feed: usize, key: &Key, seen: &[u32; MAX_FEEDS], verdict: &mut Verdict) {
        let mut brought: Feeds = 0;
        for (other, (state, mark)) in self.feeds.iter().zip(seen).enumerate() {
            if other != feed && *mark == state.generation {
                brought |= bit(other);
            }
        }
        let Some(state) = self.feeds.get_mut(feed).filter(|state| state.is_live) else { return };
        let Some(open) = &mut state.open else { return };
        if open.witnesses & open.proven & brought != 0 {
            state.open = None;
            verdict.covered += 1;
        } else if open.after.len() < MAX_AFTER {
            open.after.insert(Arc::clone(key));
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.order.pop_front() else { return };
        let Some(seen) = self.seen.remove(&oldest) else { return };
        for (state, mark) in self.feeds.iter_mut().zip(seen) {
            if state.is_live && mark == 0 {
                state.is_behind = true;
            }
        }
    }
}
