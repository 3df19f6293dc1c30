//! A bus inside of one process, in virtual time and with faults.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::fast::RandomState;
use kalshi_types::UnixMillis;

use super::{Bus, BusEvent};
use crate::{
    envelope::BusMessage,
    lease::{LeaseEntry, LeaseRequest, LeaseWrite},
    subject::matches,
};

/// The faults of a [`MemoryBroker`]. One in this many messages meets each; 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// A message is taken and not delivered to a subscriber.
    pub drop: u64,
    /// A message is delivered twice to a subscriber.
    pub duplicate: u64,
    /// A message is delivered before the one ahead of it.
    pub reorder: u64,
    /// A message is refused.
    pub refuse: u64,
    /// A message is taken, and the acknowledgement is lost.
    pub unacknowledged: u64,
    /// The longest time that a delivery takes.
    pub delay: Duration,
}

/// A broker inside of one process: subscriptions, a log, the last message of each subject, and the
/// lease. For tests, and for followers that share a process with their publisher.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_fanout::{BusMessage, bus::{Bus, BusEvent, MemoryBroker}};
///
/// let broker = MemoryBroker::new(1);
/// let (mut one, mut other) = (broker.client(), broker.client());
/// other.subscribe("a.*");
/// let message = BusMessage { subject: "a.b".to_owned(), headers: Vec::new(), payload: "1".into() };
/// one.publish(7, message.clone(), Duration::ZERO);
/// assert_eq!(other.next(Duration::ZERO), Some(BusEvent::Message(message)));
/// assert_eq!(one.next(Duration::ZERO), Some(BusEvent::Acknowledged(7)));
/// ```
#[derive(Clone, Debug)]
pub struct MemoryBroker(Arc<Mutex<State>>);

/// A client of a [`MemoryBroker`].
#[derive(Debug)]
pub struct MemoryBus {
    broker: MemoryBroker,
    client: usize,
}

#[derive(Debug)]
struct State {
    random: u64,
    faults: Faults,
    clients: Vec<Client>,
    /// Clients by pattern.
    subscriptions: HashMap<String, Vec<usize>, RandomState>,
    /// The subscribers of a subject, once they are known.
    subscribers: HashMap<String, Vec<usize>, RandomState>,
    log: HashMap<String, VecDeque<BusMessage>, RandomState>,
    log_limit: usize,
    last: HashMap<String, BusMessage, RandomState>,
    lease: Option<(LeaseEntry, u64)>,
    revision: u64,
}

#[derive(Debug, Default)]
struct Client {
    inbox: VecDeque<(Duration, BusEvent)>,
    is_partitioned: bool,
}

impl MemoryBroker {
    /// Returns a broker without faults. The seed decides those that are set later.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: seed,
            faults: Faults::default(),
            clients: Vec::new(),
            subscriptions: HashMap::default(),
            subscribers: HashMap::default(),
            log: HashMap::default(),
            log_limit: 2_000,
            last: HashMap::default(),
            lease: None,
            revision: 0,
        })))
    }

    /// Returns a new client.
    pub fn client(&self) -> MemoryBus {
        let mut state = self.state();
        state.clients.push(Client::default());
        let client = state.clients.len() - 1;
        drop(state);
        MemoryBus { broker: self.clone(), client }
    }

    /// Sets the faults from here on.
    pub fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// Keeps this number of messages of each subject in the log.
    pub fn trim_log(&self, limit: usize) {
        let mut state = self.state();
        state.log_limit = limit;
        for log in state.log.values_mut() {
            let excess = log.len().saturating_sub(limit);
            log.drain(..excess);
        }
    }

    /// Restarts the broker without its memory: the log, the last messages, the lease and everything
    /// under way are gone, and every client is told that its connection was lost.
    pub fn wipe(&self, now: Duration) {
        let mut state = self.state();
        state.log.clear();
        state.last.clear();
        state.lease = None;
        for client in &mut state.clients {
            client.inbox.clear();
            client.inbox.push_back((now, BusEvent::Lost));
        }
    }

    /// Cuts a client off: what it sends is lost, and nothing reaches it.
    pub fn partition(&self, bus: &MemoryBus) {
        self.partition_client(bus.client);
    }

    /// Cuts the client of this number off, counted from 0 in the order of their making.
    pub fn partition_client(&self, client: usize) {
        if let Some(client) = self.state().clients.get_mut(client) {
            client.is_partitioned = true;
        }
    }

    /// Connects the client of this number again, which is told that messages may be missing.
    pub fn heal_client(&self, client: usize, now: Duration) {
        if let Some(client) = self.state().clients.get_mut(client)
            && std::mem::take(&mut client.is_partitioned)
        {
            client.inbox.push_back((now, BusEvent::Lost));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryBus {
    /// Returns the number of this client.
    pub const fn number(&self) -> usize {
        self.client
    }

    fn answer(&self, now: Duration, event: BusEvent) {
        self.broker.state().deliver(self.client, now, event, false);
    }

    fn is_cut(&self) -> bool {
        self.broker.state().clients.get(self.client).is_none_or(|client| client.is_partitioned)
    }
}

impl State {
    fn one_in(&mut self, odds: u64) -> bool {
        odds != 0 && self.below(odds) == 0
    }

    /// The generator `SplitMix64`.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn deliver(&mut self, client: usize, now: Duration, event: BusEvent, is_reordered: bool) {
        let most = u64::try_from(self.faults.delay.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(if most == 0 { 0 } else { self.below(most) });
        let Some(client) = self.clients.get_mut(client).filter(|client| !client.is_partitioned)
        else {
            return;
        };
        let before = client.inbox.back().map_or(Duration::ZERO, |(at, _)| *at);
        client.inbox.push_back((now.saturating_add(delay).max(before), event));
        if is_reordered && let [.., one, other] = client.inbox.make_contiguous() {
            std::mem::swap(&mut one.1, &mut other.1);
        }
    }

    fn publish(&mut self, message: &BusMessage, now: Duration) {
        if message.subject.contains(".snap.") {
            self.last.insert(message.subject.clone(), message.clone());
        } else if message.subject.contains(".md.") {
            let limit = self.log_limit;
            let log = self.log.entry(message.subject.clone()).or_default();
            log.push_back(message.clone());
            let excess = log.len().saturating_sub(limit);
            log.drain(..excess);
        }
        let Some(subscribers) = self.subscribers.get(&message.subject).cloned() else {
            let of = self.subscriptions.iter();
            let mut found: Vec<usize> = of
                .filter(|(pattern, _)| matches(pattern, &message.subject))
                .flat_map(|(_, clients)| clients.iter().copied())
                .collect();
            found.sort_unstable();
            found.dedup();
            self.subscribers.insert(message.subject.clone(), found);
            return self.publish_known(message, now);
        };
        self.publish_to(&subscribers, message, now);
    }

    fn publish_known(&mut self, message: &BusMessage, now: Duration) {
        let subscribers = self.subscribers.get(&message.subject).cloned().unwrap_or_default();
        self.publish_to(&subscribers, message, now);
    }

    fn publish_to(&mut self, subscribers: &[usize], message: &BusMessage, now: Duration) {
        let faults = self.faults;
        for &client in subscribers {
            if self.one_in(faults.drop) {
                continue;
            }
            let is_reordered = self.one_in(faults.reorder);
            self.deliver(client, now, BusEvent::Message(message.clone()), is_reordered);
            if self.one_in(faults.duplicate) {
                self.deliver(client, now, BusEvent::Message(message.clone()), false);
            }
        }
    }
}

impl Bus for MemoryBus {
    fn publish(&mut self, token: u64, message: BusMessage, now: Duration) {
        if self.is_cut() {
            return;
        }
        let mut state = self.broker.state();
        let faults = state.faults;
        if state.one_in(faults.refuse) {
            state.deliver(self.client, now, BusEvent::Failed(token), false);
            return;
        }
        state.publish(&message, now);
        if !state.one_in(faults.unacknowledged) {
            state.deliver(self.client, now, BusEvent::Acknowledged(token), false);
        }
    }

    fn subscribe(&mut self, pattern: &str) {
        let mut state = self.broker.state();
        state.subscribers.clear();
        let clients = state.subscriptions.entry(pattern.to_owned()).or_default();
        if !clients.contains(&self.client) {
            clients.push(self.client);
        }
    }

    fn last(&mut self, subject: &str, now: Duration) {
        if self.is_cut() {
            return;
        }
        let last = self.broker.state().last.get(subject).cloned();
        self.answer(now, BusEvent::Last(last));
    }

    fn log(&mut self, ticker: &str, pattern: &str, _since: UnixMillis, now: Duration) {
        if self.is_cut() {
            return;
        }
        let mut state = self.broker.state();
        let logs = state.log.iter().filter(|(subject, _)| matches(pattern, subject));
        let logged: Vec<BusMessage> = logs.flat_map(|(_, log)| log.iter().cloned()).collect();
        for message in logged {
            state.deliver(self.client, now, BusEvent::Logged(message), false);
        }
        state.deliver(self.client, now, BusEvent::LogEnd(ticker.to_owned()), false);
    }

    fn lease(&mut self, request: LeaseRequest, now: Duration) {
        if self.is_cut() {
            return;
        }
        let mut state = self.broker.state();
        let answer = match request {
            LeaseRequest::Read => BusEvent::LeaseRead(state.lease.clone()),
            LeaseRequest::Write { entry, expected } => {
                let found = state.lease.as_ref().map(|(_, revision)| *revision);
                if found == expected {
                    state.revision += 1;
                    let revision = state.revision;
                    state.lease = Some((entry, revision));
                    BusEvent::LeaseWritten(LeaseWrite::Written(revision))
                } else {
                    BusEvent::LeaseWritten(LeaseWrite::Conflict)
                }
            }
        };
        state.deliver(self.client, now, answer, false);
    }

    fn next(&mut self, now: Duration) -> Option<BusEvent> {
        let mut state = self.broker.state();
        let client = state.clients.get_mut(self.client)?;
        let is_due = client.inbox.front().is_some_and(|(at, _)| *at <= now);
        is_due.then(|| client.inbox.pop_front().map(|(_, event)| event)).flatten()
    }
}
