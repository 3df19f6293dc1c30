//! What waits between the task that reads the connection and the consumer. Bounded, and nothing is
//! dropped without a mark in its place.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

use crate::{event::Event, generated::Channel, machine::Lane, subscription::Overflow};

/// Events that are no messages. A consumer that leaves so many of them has stopped consuming.
const MAX_CONTROL: usize = 4_096;

/// Messages that belong to no subscription.
const MAX_STRAY: usize = 4_096;

pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// There may be room, or a wish for snapshots.
    pub(crate) changed: Notify,
}

struct Inner {
    entries: VecDeque<Entry>,
    /// The position of the first entry; positions only grow.
    first: u64,
    control: usize,
    /// The stray messages, and then the subscriptions.
    lanes: Vec<LaneState>,
    holes: usize,
    waker: Option<Waker>,
    lagged: Vec<usize>,
    /// Somebody waits for room.
    blocked: bool,
    closed: bool,
}

enum Entry {
    Control(Event),
    Message(usize, Event),
    /// Here messages were dropped.
    Dropped(usize, u64),
    Hole,
}

struct LaneState {
    channel: Option<Channel>,
    overflow: Overflow,
    capacity: usize,
    /// Where its messages are.
    positions: VecDeque<u64>,
    /// Where its mark is.
    mark: Option<u64>,
}

/// What became of an event.
#[derive(Debug)]
pub(crate) enum Pushed {
    Done,
    /// There is no room now.
    Full(Event),
    /// There is no room, and the subscription is to end.
    Failed,
}

impl Queue {
    pub(crate) fn new() -> Self {
        let stray = LaneState::new(None, Overflow::DropOldest, MAX_STRAY);
        let inner = Inner {
            entries: VecDeque::new(),
            first: 0,
            control: 0,
            lanes: vec![stray],
            holes: 0,
            waker: None,
            lagged: Vec::new(),
            blocked: false,
            closed: false,
        };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// Prepares the lane of a subscription.
    pub(crate) fn lane(&self, slot: usize, channel: Channel, overflow: Overflow, capacity: usize) {
        let mut inner = self.lock();
        match inner.lanes.get_mut(slot + 1) {
            // Messages of the one before it may still wait.
            Some(lane) => {
                lane.channel = Some(channel);
                lane.overflow = overflow;
                lane.capacity = capacity;
            }
            None => inner.lanes.push(LaneState::new(Some(channel), overflow, capacity)),
        }
    }

    /// Puts an event behind the others, if there is room.
    pub(crate) fn push(&self, lane: Lane, event: Event) -> Pushed {
        let mut inner = self.lock();
        let pushed = inner.push(lane, event);
        inner.blocked = matches!(pushed, Pushed::Full(_));
        let waker = if matches!(pushed, Pushed::Done) { inner.waker.take() } else { None };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        pushed
    }

    /// Puts the last event behind the others, whether or not there is room.
    pub(crate) fn close(&self, last: Event) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        inner.control += 1;
        inner.entries.push_back(Entry::Control(last));
        inner.closed = true;
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next event; `None` after the last.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut inner = self.lock();
        let event = inner.pop();
        if event.is_none() && !inner.closed {
            if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                inner.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        // The other side is woken only for a reason.
        let waited_for = inner.blocked || !inner.lagged.is_empty();
        drop(inner);
        if waited_for {
            self.changed.notify_one();
        }
        Poll::Ready(event)
    }

    /// The subscriptions whose marks the consumer has seen since the last call.
    pub(crate) fn take_lagged(&self) -> Vec<usize> {
        std::mem::take(&mut self.lock().lagged)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; if something did, the queue is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, lane: Lane, event: Event) -> Pushed {
        let index = match lane {
            Lane::Control => {
                if self.control >= MAX_CONTROL {
                    return Pushed::Full(event);
                }
                self.control += 1;
                self.entries.push_back(Entry::Control(event));
                return Pushed::Done;
            }
            Lane::Stray => 0,
            Lane::Slot(slot) => slot + 1,
        };
        let next = self.first + self.entries.len() as u64;
        let Some(lane) = self.lanes.get_mut(index) else { return Pushed::Failed };
        let mut dropped = None;
        if lane.positions.len() >= lane.capacity {
            match lane.overflow {
                Overflow::Block => return Pushed::Full(event),
                Overflow::Fail => return Pushed::Failed,
                Overflow::DropOldest => {
                    dropped = lane.positions.pop_front().map(|oldest| (oldest, lane.mark));
                    if let Some((oldest, None)) = dropped {
                        lane.mark = Some(oldest);
                    }
                }
            }
        }
        lane.positions.push_back(next);
        self.entries.push_back(Entry::Message(index, event));
        match dropped {
            Some((oldest, Some(mark))) => {
                self.set(oldest, Entry::Hole);
                self.holes += 1;
                if let Some(Entry::Dropped(_, count)) = self.get(mark) {
                    *count += 1;
                }
            }
            Some((oldest, None)) => self.set(oldest, Entry::Dropped(index, 1)),
            None => {}
        }
        if self.holes > 1_024 && self.holes > self.entries.len() / 2 {
            self.compact();
        }
        Pushed::Done
    }

    fn pop(&mut self) -> Option<Event> {
        loop {
            let entry = self.entries.pop_front()?;
            self.first += 1;
            match entry {
                Entry::Hole => self.holes -= 1,
                Entry::Control(event) => {
                    self.control -= 1;
                    return Some(event);
                }
                Entry::Message(index, event) => {
                    if let Some(lane) = self.lanes.get_mut(index) {
                        lane.positions.pop_front();
                    }
                    return Some(event);
                }
                Entry::Dropped(index, dropped) => {
                    let channel = self.lanes.get_mut(index).and_then(|lane| {
                        lane.mark = None;
                        lane.channel.clone()
                    });
                    if let Some(slot) = index.checked_sub(1)
                        && !self.lagged.contains(&slot)
                    {
                        self.lagged.push(slot);
                    }
                    return Some(Event::Lagged { channel, dropped });
                }
            }
        }
    }

    fn get(&mut self, position: u64) -> Option<&mut Entry> {
        let at = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(at)
    }

    fn set(&mut self, position: u64, entry: Entry) {
        if let Some(place) = self.get(position) {
            *place = entry;
        }
    }

    /// Closes the holes.
    fn compact(&mut self) {
        self.entries.retain(|entry| !matches!(entry, Entry::Hole));
        self.holes = 0;
        for lane in &mut self.lanes {
            lane.positions.clear();
            lane.mark = None;
        }
        for (position, entry) in (self.first..).zip(&self.entries) {
            match entry {
                Entry::Message(index, _) => {
                    if let Some(lane) = self.lanes.get_mut(*index) {
                        lane.positions.push_back(position);
                    }
                }
                Entry::Dropped(index, _) => {
                    if let Some(lane) = self.lanes.get_mut(*index) {
                        lane.mark = Some(position);
                    }
                }
                Entry::Control(_) | Entry::Hole => {}
            }
        }
    }
}

impl LaneState {
    fn new(channel: Option<Channel>, overflow: Overflow, capacity: usize) -> Self {
        Self { channel, overflow, capacity, positions: VecDeque::new(), mark: None }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn event(number: u64) -> Event {
        Event::Lagged { channel: Some(Channel::Fill), dropped: number }
    }

    /// The numbers that come out, and the marks as (channel, how many).
    fn drain(queue: &Queue) -> Vec<(Option<Channel>, u64)> {
        let mut found = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Event::Lagged { channel, dropped })) = queue.poll(&mut cx) {
            found.push((channel, dropped));
        }
        found
    }

    #[test]
    fn the_oldest_make_room_and_a_mark_stands_in_their_place() {
        let queue = Queue::new();
        queue.lane(0, Channel::Ticker, Overflow::DropOldest, 3);
        queue.lane(1, Channel::Trade, Overflow::Block, 100);
        let fill = Some(Channel::Fill);
        for number in 0..5_000 {
            assert!(matches!(queue.push(Lane::Slot(0), event(number)), Pushed::Done));
            if number % 1_000 == 0 {
                assert!(matches!(queue.push(Lane::Slot(1), event(number)), Pushed::Done));
            }
        }
        let expected = [
            (Some(Channel::Ticker), 4_997),
            (fill.clone(), 0),
            (fill.clone(), 1_000),
            (fill.clone(), 2_000),
            (fill.clone(), 3_000),
            (fill.clone(), 4_000),
            (fill.clone(), 4_997),
            (fill.clone(), 4_998),
            (fill, 4_999),
        ];
        assert!(queue.lock().entries.len() < 2_500, "holes do not pile up");
        assert_eq!(drain(&queue), expected);
        assert_eq!(queue.take_lagged(), [0]);
        assert!(queue.take_lagged().is_empty());
    }

    #[test]
    fn a_full_lane_blocks_or_fails_as_it_is_told() {
        let queue = Queue::new();
        queue.lane(0, Channel::Ticker, Overflow::Block, 1);
        queue.lane(1, Channel::Trade, Overflow::Fail, 1);
        for slot in [0, 1] {
            assert!(matches!(queue.push(Lane::Slot(slot), event(1)), Pushed::Done));
        }
        assert!(matches!(queue.push(Lane::Slot(0), event(2)), Pushed::Full(_)));
        assert!(matches!(queue.push(Lane::Slot(1), event(2)), Pushed::Failed));
        assert_eq!(drain(&queue).len(), 2);
        assert!(matches!(queue.push(Lane::Slot(0), event(2)), Pushed::Done));
    }

    #[test]
    fn events_that_are_no_messages_are_never_dropped() {
        let queue = Queue::new();
        for number in 0..MAX_CONTROL as u64 {
            assert!(matches!(queue.push(Lane::Control, event(number)), Pushed::Done));
        }
        assert!(matches!(queue.push(Lane::Control, event(0)), Pushed::Full(_)));
        assert_eq!(drain(&queue).len(), MAX_CONTROL);
        queue.close(event(0));
        assert_eq!(drain(&queue).len(), 1);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(queue.poll(&mut cx), Poll::Ready(None)));
    }
}
