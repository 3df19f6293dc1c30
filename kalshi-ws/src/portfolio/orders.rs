//! The orders that rest, none of which goes back to an older state.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
};

use kalshi_types::{Count, UnixMillis};

use super::{Held, records::OrderRecord};
use crate::types::UserOrderStatus;

/// The orders that rest, and those that are over.
#[derive(Debug)]
pub(super) struct Orders {
    resting: HashMap<String, Held<OrderRecord>>,
    /// An older message must not bring one of these back.
    over: BoundedMap<String, Over>,
}

#[derive(Clone, Copy, Debug)]
struct Over {
    version: Version,
    /// True if its own state says so. An order that a read merely left out may rest all the same: a
    /// list may move while its pages are read.
    is_confirmed: bool,
}

/// The key that tells the newer of two states of an order: two may carry the same millisecond.
type Version = (Option<UnixMillis>, Count);

impl Orders {
    pub(super) fn new(capacity: usize) -> Self {
        Self { resting: HashMap::new(), over: BoundedMap::new(capacity) }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &OrderRecord> {
        self.resting.values().map(|held| &held.value)
    }

    pub(super) fn get(&self, order_id: &str) -> Option<&OrderRecord> {
        self.resting.get(order_id).map(|held| &held.value)
    }

    /// Takes in a state of an order, and reports whether it is not older than the known one. Step 0
    /// is for states that were read.
    pub(super) fn take(&mut self, order: OrderRecord, step: u64) -> bool {
        let over = self.over.map.get(&order.order_id);
        let held = self.resting.get(&order.order_id);
        let known = held.map(|held| version(&held.value)).or(over.map(|over| over.version));
        // Without times, the later message is believed, but an order that is over stays so.
        let is_older = known.is_some_and(|known| is_before(version(&order), known));
        // One that a read left out had said this much already.
        let is_repeated = step > 0
            && over.is_some_and(|over| order.updated.is_some() && over.version == version(&order));
        if is_older || is_repeated || over.is_some_and(|over| over.is_confirmed) {
            return false;
        }
        if order.status == UserOrderStatus::Resting || order.status.is_unknown() {
            // A message that comes again does not show that the order still rests.
            let repeated = held.filter(|held| order.updated.is_some() && held.value == order);
            let step = repeated.map_or(step, |held| held.step);
            self.over.remove(&order.order_id);
            self.resting.insert(order.order_id.clone(), Held { value: order, step });
        } else {
            self.resting.remove(&order.order_id);
            let over = Over { version: version(&order), is_confirmed: true };
            self.over.insert(order.order_id, over);
        }
        true
    }

    /// Takes in all orders that rest, as they were after every message up to the step, and returns
    /// those that are over without a message having said so.
    pub(super) fn take_read(&mut self, orders: Vec<OrderRecord>, step: u64) -> Vec<OrderRecord> {
        let read: HashSet<String> = orders.iter().map(|order| order.order_id.clone()).collect();
        for order in orders {
            // What the stream said after that step outweighs what was read, unless that is newer.
            let is_superseded = self.resting.get(&order.order_id).is_some_and(|held| {
                held.step > step && !is_before(version(&held.value), version(&order))
            });
            if !is_superseded {
                self.take(order, 0);
            }
        }
        let (kept, gone): (HashMap<_, _>, HashMap<_, _>) = std::mem::take(&mut self.resting)
            .into_iter()
            .partition(|(id, held)| held.step > step || read.contains(id));
        self.resting = kept;
        let mut closed = Vec::new();
        for (id, held) in gone {
            self.over.insert(id, Over { version: version(&held.value), is_confirmed: false });
            closed.push(held.value);
        }
        closed.sort_by(|a, b| a.order_id.cmp(&b.order_id));
        closed
    }
}

fn version(order: &OrderRecord) -> Version {
    (order.updated, order.filled)
}

/// Reports whether one state is known to be before the other.
fn is_before((updated, filled): Version, (other_updated, other_filled): Version) -> bool {
    match (updated, other_updated) {
        (Some(updated), Some(other)) => {
            updated < other || updated == other && filled < other_filled
        }
        _ => false,
    }
}

/// A map that forgets what came first.
#[derive(Debug)]
struct BoundedMap<K, V> {
    map: HashMap<K, V>,
    arrivals: VecDeque<K>,
    capacity: usize,
}

impl<K: Clone + Eq + Hash, V> BoundedMap<K, V> {
    fn new(capacity: usize) -> Self {
        Self { map: HashMap::new(), arrivals: VecDeque::new(), capacity: capacity.max(1) }
    }

    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_none() {
            self.arrivals.push_back(key);
        }
        if self.arrivals.len() > self.capacity
            && let Some(key) = self.arrivals.pop_front()
        {
            self.map.remove(&key);
        }
    }

    fn remove(&mut self, key: &K) {
        if self.map.remove(key).is_some() {
            self.arrivals.retain(|other| other != key);
        }
    }
}
