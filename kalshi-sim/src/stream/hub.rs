//! The sessions of all connections, and a bounded queue of frames for each.
//!
//! Events become frames while the state is locked, so that a snapshot and the changes after it fit
//! together. A reader that is too slow loses its subscription and is told so; nobody waits for it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    engine::ids::AccountId,
    random::Random,
    state::State,
    stream::{
        faults::{Dice, Fate, StreamFaults},
        session::{Frame, Session},
    },
};

/// Data frames that wait for a slow reader before its subscription ends, unless set.
pub(crate) const DEFAULT_CAPACITY: usize = 100_000;
/// Answers that wait; a client that sends commands and reads nothing is cut off.
const MAX_ANSWERS: usize = 50_000;

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
    capacity: usize,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    queue: Arc<Queue>,
    dice: Dice,
    /// A message that changes place with the next one.
    swapped: Option<Frame>,
}

/// What is to be sent over one connection.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Queued>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Queued {
    frames: VecDeque<(String, Duration)>,
    data: usize,
    state: Line,
}

/// How a connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Line {
    #[default]
    Up,
    /// Nothing is sent and nothing is read any more, but it stays open.
    Silent,
    /// To be cut without a word.
    Cut,
}

/// What the sender of a connection does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Send(String, Duration),
    Silent,
    Cut,
}

impl Hub {
    pub(crate) fn new(faults: StreamFaults, capacity: usize) -> Self {
        Self { inner: Mutex::new(Inner { entries: BTreeMap::new(), last: 0, faults, capacity }) }
    }

    pub(crate) fn connect(&self, account: AccountId) -> (u64, Arc<Queue>) {
        let mut inner = self.lock();
        inner.last += 1;
        let id = inner.last;
        let faults = &inner.faults;
        let session = Session::new(account, faults.data_before_ack, faults.replies_take_no_number);
        let queue = Arc::new(Queue::default());
        let entry = Entry {
            session,
            queue: Arc::clone(&queue),
            dice: Dice::new(faults, id),
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
        let Some(entry) = inner.entries.get_mut(&id) else { return };
        let mut frames = Vec::new();
        entry.session.receive(text, state, &mut frames);
        for frame in frames {
            entry.push(frame, &inner.faults, inner.capacity);
        }
    }

    /// Tells everybody what has happened since the last call.
    pub(crate) fn publish(&self, state: &mut State) {
        let events = state.engine.take_events();
        if events.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut frames = Vec::new();
        for entry in inner.entries.values_mut() {
            for event in &events {
                entry.session.publish(event, state, &mut frames);
                for frame in frames.drain(..) {
                    entry.push(frame, &inner.faults, inner.capacity);
                }
            }
        }
    }

    /// Sends the values of indices and underlyings, which nothing in the engine makes.
    pub(crate) fn tick(&self, state: &State, fast: bool) {
        let second = state.engine.now().as_millis().div_euclid(1_000);
        let value = |name: &str| {
            let name = name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
            let mut random = Random::new(name ^ second.unsigned_abs());
            let base = 1_000 + name % 90_000;
            format!("{base}.{:08}", random.below(100_000_000))
        };
        let mut inner = self.lock();
        let inner = &mut *inner;
        for entry in inner.entries.values_mut() {
            for frame in entry.session.tick(&value, state, fast) {
                entry.push(frame, &inner.faults, inner.capacity);
            }
        }
    }

    pub(crate) fn set_faults(&self, faults: StreamFaults) {
        let mut inner = self.lock();
        for (id, entry) in &mut inner.entries {
            entry.dice = Dice::new(&faults, *id);
        }
        inner.faults = faults;
    }

    /// Brings every connection to this state.
    pub(crate) fn turn_all(&self, line: Line) {
        let mut inner = self.lock();
        for entry in inner.entries.values() {
            entry.queue.turn(line);
        }
        if line == Line::Cut {
            inner.entries.clear();
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn push(&mut self, frame: Frame, faults: &StreamFaults, capacity: usize) {
        let Some(sid) = frame.data_of else {
            return self.queue.answer(frame.text, faults.ack_delay);
        };
        match self.dice.roll(faults) {
            Fate::Dropped => {}
            Fate::Doubled => {
                self.send(sid, frame.text.clone(), capacity);
                self.send(sid, frame.text, capacity);
            }
            Fate::Swapped if self.swapped.is_none() => self.swapped = Some(frame),
            Fate::Sent | Fate::Swapped => {
                self.send(sid, frame.text, capacity);
                if let Some(Frame { text, data_of: Some(sid) }) = self.swapped.take() {
                    self.send(sid, text, capacity);
                }
            }
        }
    }

    fn send(&mut self, sid: u64, text: String, capacity: usize) {
        if !self.queue.data(text, capacity)
            && let Some(frame) = self.session.overflow(sid)
        {
            self.queue.answer(frame.text, Duration::ZERO);
        }
    }
}

impl Queue {
    /// Waits for what to do next.
    pub(crate) async fn next(&self) -> Next {
        loop {
            {
                let mut queued = self.lock();
                match queued.state {
                    Line::Silent => return Next::Silent,
                    Line::Cut => return Next::Cut,
                    Line::Up => {}
                }
                if let Some((text, delay)) = queued.frames.pop_front() {
                    queued.data = queued.data.saturating_sub(1);
                    return Next::Send(text, delay);
                }
            }
            self.notify.notified().await;
        }
    }

    pub(crate) fn line(&self) -> Line {
        self.lock().state
    }

    fn turn(&self, line: Line) {
        self.lock().state = line;
        self.notify.notify_one();
    }

    /// Queues an answer to a command.
    fn answer(&self, text: String, delay: Duration) {
        let mut queued = self.lock();
        if queued.frames.len() >= queued.data.saturating_add(MAX_ANSWERS) {
            queued.state = Line::Cut;
        } else {
            queued.frames.push_back((text, delay));
        }
        drop(queued);
        self.notify.notify_one();
    }

    /// Queues a message; false if there is no room.
    fn data(&self, text: String, capacity: usize) -> bool {
        let mut queued = self.lock();
        if queued.data >= capacity {
            return false;
        }
        queued.data += 1;
        queued.frames.push_back((text, Duration::ZERO));
        drop(queued);
        self.notify.notify_one();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
