//! The sessions of all connections, and a bounded queue of frames for each.
//!
//! Events become frames while the state is locked, so that a snapshot and the changes after it fit
//! together. A reader that is too slow loses its subscription and is told so; nobody waits for it.
//! What answers a command has no limit of its own, but while much of it waits, no command is read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

#[cfg(feature = "ui")]
use crate::stream::{
    journal::{Journal, Sent},
    session::SubscriptionView,
};
use crate::{
    engine::{ids::AccountId, principal::Principal},
    lag::Lag,
    random::Random,
    state::State,
    stream::{
        faults::{Dice, Ending, Fate, StreamFaults},
        product::{self, Product},
        session::{Frame, Session},
    },
};

/// Messages that wait for a slow reader before its subscription ends, unless set.
pub(crate) const DEFAULT_CAPACITY: usize = 100_000;
/// The same in bytes.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Answers that wait; a client that gets more by one command is cut off.
const MAX_ANSWERS: usize = 50_000;
/// Bytes that wait, from which on no command is read: a client that does not read is not served.
const COMMAND_PAUSE_BYTES: usize = 256 * 1024;
/// The room that an empty queue keeps, in frames.
const KEPT_ROOM: usize = 1_024;

/// All connections.
#[derive(Debug)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: BTreeMap<u64, Entry>,
    last: u64,
    faults: StreamFaults,
    /// Faults of single members, in place of those of all members.
    own_faults: BTreeMap<AccountId, StreamFaults>,
    /// The time until which handshakes are refused, for all members or for one.
    down: BTreeMap<Option<AccountId>, Instant>,
    capacity: usize,
    /// The number of connections of each member, with the handshakes under way.
    admitted: BTreeMap<AccountId, usize>,
    /// The time of the engine as it was seen last.
    now: i64,
    /// The delay of streams.
    lag: Lag,
    #[cfg(feature = "ui")]
    journal: Journal,
}

#[derive(Debug)]
struct Entry {
    #[cfg(feature = "ui")]
    id: u64,
    account: AccountId,
    session: Session,
    queue: Arc<Queue>,
    faults: StreamFaults,
    dice: Dice,
    /// A message that changes place with the next one.
    swapped: Option<Frame>,
}

/// The frames to be sent over one connection.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Queued>,
    notify: Notify,
    cut: Notify,
}

#[derive(Debug, Default)]
struct Queued {
    frames: VecDeque<Queuing>,
    /// The bytes of all of them.
    bytes: usize,
    /// The number of messages among them, answers aside, and their bytes.
    messages: usize,
    message_bytes: usize,
    /// The time up to which frames may go; `None` if streams do not trail.
    arrived: Option<i64>,
    state: LinkState,
}

#[derive(Debug)]
struct Queuing {
    text: String,
    delay: Duration,
    /// Counts against what a slow reader may leave unread.
    is_message: bool,
    /// The time of the engine when it was made.
    at: i64,
}

/// The messages that wait for the readers of streams: see [`StreamControl::backlog`].
///
/// [`StreamControl::backlog`]: crate::StreamControl::backlog
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamBacklog {
    /// The frames that wait on all connections.
    pub frames: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The bytes that wait on the connection with the most.
    pub most_bytes: usize,
    /// The connections whose commands are not read at present, because too much waits for them.
    pub paused: usize,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LinkState {
    #[default]
    Up,
    /// Nothing is sent and nothing is read any more, but it stays open.
    Silent,
    /// To be cut without a word.
    Cut,
}

/// A connection as the page shows it.
#[cfg(feature = "ui")]
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) account: AccountId,
    pub(crate) state: LinkState,
    /// The frames that wait for the reader, and their bytes.
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
    /// The age of the oldest of them, in milliseconds of the engine.
    pub(crate) trails_by: i64,
    pub(crate) takes_commands: bool,
    pub(crate) subscriptions: Vec<SubscriptionView>,
}

/// The next action of a connection's sender.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Send(String, Duration),
    Silent,
    Cut,
}

impl Hub {
    pub(crate) fn new(faults: StreamFaults, capacity: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: BTreeMap::new(),
                last: 0,
                faults,
                own_faults: BTreeMap::new(),
                down: BTreeMap::new(),
                capacity,
                admitted: BTreeMap::new(),
                now: 0,
                lag: Lag::none(),
                #[cfg(feature = "ui")]
                journal: Journal::default(),
            }),
        }
    }

    /// Reports whether a member's handshakes are refused at present.
    pub(crate) fn is_down(&self, account: AccountId) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.down.retain(|_, until| *until > now);
        inner.down.contains_key(&None) || inner.down.contains_key(&Some(account))
    }

    /// Takes one more connection of a member, unless there are `limit`. Each that was taken must
    /// [leave](Self::leave) once.
    pub(crate) fn admit(&self, account: AccountId, limit: usize) -> bool {
        let mut inner = self.lock();
        let connections = inner.admitted.entry(account).or_default();
        let is_free = *connections < limit;
        *connections += usize::from(is_free);
        is_free
    }

    /// Gives up a connection of a member.
    pub(crate) fn leave(&self, account: AccountId) {
        let mut inner = self.lock();
        let left =
            inner.admitted.get(&account).map_or(0, |connections| connections.saturating_sub(1));
        if left == 0 {
            inner.admitted.remove(&account);
        } else {
            inner.admitted.insert(account, left);
        }
    }

    pub(crate) fn connect(&self, caller: Principal, product: Product) -> (u64, Arc<Queue>) {
        let account = caller.account;
        let mut inner = self.lock();
        inner.last += 1;
        let id = inner.last;
        let faults = inner.own_faults.get(&account).unwrap_or(&inner.faults).clone();
        let session = Session::new(caller, product, faults.clone());
        let queue = Arc::new(Queue::default());
        queue.release(inner.lag.streamed(inner.now));
        let dice = Dice::new(&faults, id);
        let entry = Entry {
            #[cfg(feature = "ui")]
            id,
            account,
            session,
            queue: Arc::clone(&queue),
            faults,
            dice,
            swapped: None,
        };
        inner.entries.insert(id, entry);
        (id, queue)
    }

    pub(crate) fn disconnect(&self, id: u64) {
        self.lock().entries.remove(&id);
    }

    /// Carries out a client's command. The state must be locked by the caller.
    pub(crate) fn receive(&self, id: u64, text: &str, state: &State) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let now = state.engine.now().as_millis();
        inner.now = now;
        let Some(entry) = inner.entries.get_mut(&id) else { return };
        let mut frames = Vec::new();
        entry.session.receive(text, state, &mut frames);
        for frame in frames {
            // It was asked for: see `COMMAND_PAUSE_BYTES`.
            entry.push(frame, None, now);
        }
        entry.queue.release(inner.lag.streamed(now));
    }

    /// Publishes to all connections what has happened since the last call.
    pub(crate) fn publish(&self, state: &mut State) {
        let events = product::take_events(state);
        let now = state.engine.now().as_millis();
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.now = now;
        if inner.lag.streamed(now).is_some() {
            inner.release();
        }
        if events.is_empty() {
            return;
        }
        #[cfg(feature = "ui")]
        inner.journal.add(events.iter().filter_map(product::AnyEvent::of_events), state, inner.lag);
        let mut frames = Vec::new();
        for entry in inner.entries.values_mut() {
            #[cfg(feature = "ui")]
            inner.journal.rewind();
            for event in &events {
                entry.session.publish(event, state, &mut frames);
                #[cfg(feature = "ui")]
                if event.of_events().is_some() {
                    inner.journal.next_event(entry.messages(&frames));
                }
                for frame in frames.drain(..) {
                    entry.push(frame, Some(inner.capacity), now);
                }
            }
        }
    }

    /// Sends what time makes due and the engine does not tell: the values of indices and underlyings,
    /// and what was held back.
    pub(crate) fn tick(&self, state: &State, fast: bool) {
        let now = state.engine.now().as_millis();
        let second = now.div_euclid(1_000);
        let value = |name: &str| index_value(name, second);
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.now = now;
        for entry in inner.entries.values_mut() {
            for frame in entry.session.tick(&value, state, fast) {
                entry.push(frame, Some(inner.capacity), now);
            }
        }
    }

    /// Sets the faults of one member, or those of all members.
    pub(crate) fn set_faults(&self, of: Option<AccountId>, faults: StreamFaults) {
        let mut inner = self.lock();
        for (id, entry) in inner.entries.iter_mut().filter(|(_, entry)| entry.is_of(of)) {
            entry.dice = Dice::new(&faults, *id);
            entry.faults = faults.clone();
        }
        if let Some(account) = of {
            inner.own_faults.insert(account, faults);
        } else {
            inner.own_faults.clear();
            inner.faults = faults;
        }
    }

    /// Sets how far streams trail.
    pub(crate) fn set_lag(&self, lag: Lag) {
        let mut inner = self.lock();
        inner.lag = lag;
        inner.release();
    }

    pub(crate) fn lag(&self) -> Lag {
        self.lock().lag
    }

    /// Returns what waits for readers.
    pub(crate) fn backlog(&self) -> StreamBacklog {
        let mut backlog = StreamBacklog::default();
        for entry in self.lock().entries.values() {
            let queued = entry.queue.lock();
            backlog.frames = backlog.frames.saturating_add(queued.frames.len());
            backlog.bytes = backlog.bytes.saturating_add(queued.bytes);
            backlog.most_bytes = backlog.most_bytes.max(queued.bytes);
            backlog.paused += usize::from(!queued.takes_commands());
        }
        backlog
    }

    /// Brings the connections of one member, or all of them, to this state.
    pub(crate) fn set_link_state(&self, of: Option<AccountId>, line: LinkState) {
        let mut inner = self.lock();
        for entry in inner.entries.values().filter(|entry| entry.is_of(of)) {
            entry.queue.set_link_state(line);
        }
        if line == LinkState::Cut {
            inner.entries.retain(|_, entry| !entry.is_of(of));
        }
    }

    /// Cuts the connections of one member, or all of them, and refuses new ones for a time.
    pub(crate) fn restart(&self, of: Option<AccountId>, down_for: Duration) {
        let until = Instant::now().checked_add(down_for);
        if let Some(until) = until {
            self.lock().down.insert(of, until);
        }
        self.set_link_state(of, LinkState::Cut);
    }

    /// Ends the subscriptions of one member, or all of them, with an error.
    pub(crate) fn end(&self, of: Option<AccountId>, ending: Ending) {
        let mut inner = self.lock();
        let now = inner.now;
        for entry in inner.entries.values_mut().filter(|entry| entry.is_of(of)) {
            for frame in entry.session.end_all(ending, now) {
                entry.queue.answer(frame.text, Duration::ZERO, now);
            }
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.lock().entries.len()
    }

    /// Notes who does what happens from now on: a request, or none. The state must be locked by the
    /// caller until it is published.
    #[cfg(feature = "ui")]
    pub(crate) fn note_cause(&self, state: &State, request: Option<u64>) {
        self.lock().journal.note_cause(request, state.engine.pending_events());
    }

    /// Begins to keep a journal.
    #[cfg(feature = "ui")]
    pub(crate) fn start_journal(&self) {
        self.lock().journal.start();
    }

    /// Reads the journal.
    #[cfg(feature = "ui")]
    pub(crate) fn read_journal<T>(&self, read: impl FnOnce(&Journal) -> T) -> T {
        read(&self.lock().journal)
    }

    /// Returns the connections and their subscriptions.
    #[cfg(feature = "ui")]
    pub(crate) fn links(&self) -> Vec<Link> {
        let inner = self.lock();
        let links = inner.entries.values().map(|entry| {
            let queued = entry.queue.lock();
            Link {
                id: entry.id,
                account: entry.account,
                state: queued.state,
                frames: queued.frames.len(),
                bytes: queued.bytes,
                trails_by: queued
                    .frames
                    .front()
                    .map_or(0, |frame| inner.now.saturating_sub(frame.at)),
                takes_commands: queued.takes_commands(),
                subscriptions: entry.session.subscriptions(),
            }
        });
        links.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the value of an index or an underlying in a second.
pub(crate) fn index_value(name: &str, second: i64) -> String {
    let name =
        name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut random = Random::new(name ^ second.unsigned_abs());
    let base = 1_000 + name % 90_000;
    format!("{base}.{:08}", random.below(100_000_000))
}

impl Inner {
    /// Lets go what has been on its way long enough.
    fn release(&self) {
        let arrived = self.lag.streamed(self.now);
        for entry in self.entries.values() {
            entry.queue.release(arrived);
        }
    }
}

impl Entry {
    /// Returns what the journal keeps of frames.
    #[cfg(feature = "ui")]
    fn messages(&self, frames: &[Frame]) -> impl Iterator<Item = Sent> {
        frames.iter().filter_map(|frame| {
            let sid = frame.data_of?;
            let (channel, seq) = self.session.channel(sid)?;
            Some(Sent { connection: self.id, account: self.account, sid, channel, seq })
        })
    }

    fn is_of(&self, member: Option<AccountId>) -> bool {
        member.is_none_or(|account| account == self.account)
    }

    /// Queues a frame; `capacity` is the number of messages that may wait, `None` for those that
    /// the client has asked for.
    fn push(&mut self, frame: Frame, capacity: Option<usize>, now: i64) {
        let Some(sid) = frame.data_of else {
            return self.queue.answer(frame.text, self.faults.ack_delay, now);
        };
        match self.dice.roll(&self.faults) {
            Fate::Dropped => {}
            Fate::Doubled => {
                self.send(sid, frame.text.clone(), capacity, now);
                self.send(sid, frame.text, capacity, now);
            }
            Fate::Swapped if self.swapped.is_none() => self.swapped = Some(frame),
            Fate::Sent | Fate::Swapped => {
                self.send(sid, frame.text, capacity, now);
                if let Some(Frame { text, data_of: Some(sid) }) = self.swapped.take() {
                    self.send(sid, text, capacity, now);
                }
            }
        }
    }

    fn send(&mut self, sid: u64, text: String, capacity: Option<usize>, now: i64) {
        if !self.queue.data(text, capacity, now)
            && let Some(frame) = self.session.overflow(sid, now)
        {
            self.queue.answer(frame.text, Duration::ZERO, now);
        }
    }
}

impl Queued {
    fn takes_commands(&self) -> bool {
        self.bytes < COMMAND_PAUSE_BYTES
    }

    fn push(&mut self, frame: Queuing) {
        self.bytes = self.bytes.saturating_add(frame.text.len());
        if frame.is_message {
            self.messages += 1;
            self.message_bytes = self.message_bytes.saturating_add(frame.text.len());
        }
        self.frames.push_back(frame);
    }

    /// Takes the next frame that may go.
    fn pop(&mut self) -> Option<Queuing> {
        let next = self.frames.front()?;
        if self.arrived.is_some_and(|arrived| next.at > arrived) {
            return None;
        }
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.text.len());
        if frame.is_message {
            self.messages = self.messages.saturating_sub(1);
            self.message_bytes = self.message_bytes.saturating_sub(frame.text.len());
        }
        if self.frames.is_empty() && self.frames.capacity() > KEPT_ROOM {
            self.frames.shrink_to(KEPT_ROOM);
        }
        Some(frame)
    }
}

impl Queue {
    /// Waits for what to do next.
    pub(crate) async fn next(&self) -> Next {
        loop {
            {
                let mut queued = self.lock();
                match queued.state {
                    LinkState::Silent => return Next::Silent,
                    LinkState::Cut => return Next::Cut,
                    LinkState::Up => {}
                }
                if let Some(frame) = queued.pop() {
                    return Next::Send(frame.text, frame.delay);
                }
            }
            self.notify.notified().await;
        }
    }

    /// Waits until the connection is to be cut.
    pub(crate) async fn is_cut(&self) {
        while self.link_state() != LinkState::Cut {
            self.cut.notified().await;
        }
    }

    /// Reports whether the client's commands are read: not while much waits for it.
    pub(crate) fn takes_commands(&self) -> bool {
        self.lock().takes_commands()
    }

    pub(crate) fn link_state(&self) -> LinkState {
        self.lock().state
    }

    fn set_link_state(&self, line: LinkState) {
        self.lock().state = line;
        self.notify.notify_one();
        self.cut.notify_one();
    }

    /// Queues an answer to a command.
    fn answer(&self, text: String, delay: Duration, at: i64) {
        let mut queued = self.lock();
        let is_full = queued.frames.len() >= queued.messages.saturating_add(MAX_ANSWERS);
        if is_full {
            queued.state = LinkState::Cut;
        } else {
            queued.push(Queuing { text, delay, is_message: false, at });
        }
        drop(queued);
        self.notify.notify_one();
        if is_full {
            self.cut.notify_one();
        }
    }

    /// Queues a message; false if there is no room.
    fn data(&self, text: String, capacity: Option<usize>, at: i64) -> bool {
        let mut queued = self.lock();
        let is_message = capacity.is_some();
        let has_room = capacity.is_none_or(|capacity| {
            queued.messages < capacity && queued.message_bytes < MAX_MESSAGE_BYTES
        });
        if !has_room {
            return false;
        }
        queued.push(Queuing { text, delay: Duration::ZERO, is_message, at });
        drop(queued);
        self.notify.notify_one();
        true
    }

    /// Lets frames go that were made up to a time; `None` stands for all of them.
    fn release(&self, arrived: Option<i64>) {
        let mut queued = self.lock();
        if queued.arrived == arrived {
            return;
        }
        queued.arrived = arrived;
        let is_waiting = !queued.frames.is_empty();
        drop(queued);
        if is_waiting {
            self.notify.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
