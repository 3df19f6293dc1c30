//! The queue between the task that reads the connection and the consumer. Bounded in messages and in
//! bytes, and nothing is dropped without a mark in its place.

use std::{
    collections::VecDeque,
    ops::Deref,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

use super::sync::{Guard, Lock};
use crate::{
    error::{ConnectError, ConnectErrorKind},
    event::Event,
    product::{EventContracts, Product},
    session::Lane,
    subscription::Overflow,
};

/// The number of events that are no messages. A consumer that leaves so many has stopped consuming.
const MAX_CONTROL: usize = 4_096;

/// The number of messages that belong to no subscription.
const MAX_UNMATCHED: usize = 4_096;

/// The number of events that the consumer takes at a time: as many as the reader reads.
const BATCH: usize = 64;

pub(crate) struct Queue<P: Product = EventContracts> {
    inner: Lock<Inner<P>>,
    /// There may be room, or the consumer has seen that messages were dropped.
    pub(crate) changed: Notify,
    /// The bytes that each lane may hold.
    max_bytes: usize,
}

struct Inner<P: Product> {
    entries: VecDeque<Entry<P>>,
    /// The position of the first entry; positions only grow.
    first: u64,
    control: usize,
    /// The unmatched messages, and then the channels.
    lanes: Vec<LaneState<P>>,
    holes: usize,
    dropped: u64,
    waker: Option<Waker>,
    lagged: Vec<usize>,
    /// The lane that has to be half empty before the reader goes on.
    blocked: Option<Blocked>,
    is_closed: bool,
}

#[derive(Clone, Copy)]
enum Blocked {
    Control,
    Lane(usize),
}

/// A place of the queue. What is on its way into the queue and what the consumer has taken out of it
/// are lists of the same type, so that they can change places with it as a whole.
#[derive(Debug)]
pub(crate) enum Entry<P: Product = EventContracts> {
    Waiting(Staged<P>),
    /// Here messages of a lane were dropped.
    Dropped(usize, u64),
    Hole,
}

/// The events that the consumer has taken out of the queue.
#[derive(Debug, Default)]
pub(crate) struct Taken<P: Product = EventContracts>(VecDeque<Entry<P>>);

impl<P: Product> Taken<P> {
    /// Takes the next event.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Event<P>> {
        loop {
            if let Entry::Waiting(staged) = self.0.pop_front()? {
                return Some(staged.event);
            }
        }
    }
}

struct LaneState<P: Product> {
    channel: Option<P::Channel>,
    overflow: Overflow,
    capacity: usize,
    /// Its messages that wait.
    messages: usize,
    bytes: usize,
    /// The position from which on its oldest message is found.
    oldest: u64,
    /// The position of its mark.
    mark: Option<u64>,
    /// The consumer had time and did not use it: messages are dropped until it has caught up.
    is_behind: bool,
}

/// An event on its way into the queue.
#[derive(Debug)]
pub(crate) struct Staged<P: Product = EventContracts> {
    pub(crate) lane: Lane,
    pub(crate) event: Event<P>,
    /// The bytes of the frame that it came from.
    pub(crate) bytes: usize,
}

impl<P: Product> From<Staged<P>> for Entry<P> {
    #[inline]
    fn from(staged: Staged<P>) -> Self {
        Self::Waiting(staged)
    }
}

impl<P: Product> Entry<P> {
    /// Reports whether it is an event of the lane.
    pub(crate) fn is_of(&self, lane: Lane) -> bool {
        matches!(self, Self::Waiting(staged) if staged.lane == lane)
    }
}

/// The result of pushing staged events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Done,
    /// There is no room now. A lane that drops its oldest messages will do so once the consumer has
    /// been given time; the other ones wait.
    Full {
        drops: Option<usize>,
    },
    /// There is no room for the first one, and its subscription is to end.
    Failed(usize),
}

/// The reason for which an event was not taken.
enum Refused {
    Full {
        drops: Option<usize>,
    },
    Failed(usize),
    /// Its lane drops messages, and those before it have to be in their places first.
    Again,
}

/// The queue, which is closed also when the task panics or is dropped before it ran.
pub(crate) struct Closer<P: Product = EventContracts>(pub(crate) Arc<Queue<P>>);

impl<P: Product> Deref for Closer<P> {
    type Target = Queue<P>;

    fn deref(&self) -> &Queue<P> {
        &self.0
    }
}

impl<P: Product> Drop for Closer<P> {
    fn drop(&mut self) {
        let error = ConnectError::new(
            ConnectErrorKind::TaskEnded,
            "the task of the connection ended before the connection was closed",
        );
        self.0.close(Event::Closed { error: Some(Arc::new(error)) });
    }
}

impl<P: Product> Queue<P> {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let unmatched = LaneState::new(None, Overflow::DropOldest, MAX_UNMATCHED);
        let inner = Inner {
            entries: VecDeque::new(),
            first: 0,
            control: 0,
            lanes: vec![unmatched],
            holes: 0,
            dropped: 0,
            waker: None,
            lagged: Vec::new(),
            blocked: None,
            is_closed: false,
        };
        Self { inner: Lock::new(inner), changed: Notify::new(), max_bytes }
    }

    /// Prepares the lane of a subscription.
    pub(crate) fn lane(
        &self,
        lane: usize,
        channel: P::Channel,
        overflow: Overflow,
        capacity: usize,
    ) {
        let mut inner = self.lock();
        match inner.lanes.get_mut(lane + 1) {
            // Messages of the subscription before it may still wait.
            Some(lane) => {
                lane.channel = Some(channel);
                lane.overflow = overflow;
                lane.capacity = capacity;
            }
            None => inner.lanes.push(LaneState::new(Some(channel), overflow, capacity)),
        }
    }

    /// Puts events behind the others, in order, as far as there is room.
    pub(crate) fn push_all(&self, staged: &mut VecDeque<Entry<P>>) -> Pushed {
        let mut inner = self.lock();
        let before = staged.len();
        let refused = loop {
            match inner.push_some(staged, self.max_bytes) {
                Some(Refused::Again) => {}
                refused => break refused,
            }
        };
        let waker = if staged.len() < before { inner.waker.take() } else { None };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        match refused {
            None | Some(Refused::Again) => Pushed::Done,
            Some(Refused::Full { drops }) => Pushed::Full { drops },
            Some(Refused::Failed(lane)) => Pushed::Failed(lane),
        }
    }

    /// Makes a lane drop its oldest messages until the consumer has caught up.
    pub(crate) fn drop_oldest(&self, lane: usize) {
        let mut inner = self.lock();
        if let Some(lane) = inner.lanes.get_mut(lane) {
            lane.is_behind = true;
        }
    }

    /// Appends the last event. The first one that does so says it.
    pub(crate) fn close(&self, last: Event<P>) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.is_closed, true) {
            return;
        }
        inner.control += 1;
        let lane = Lane::Control;
        inner.entries.push_back(Entry::Waiting(Staged { lane, event: last, bytes: 0 }));
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the next events, at least one; `None` if there will be none.
    pub(crate) fn poll(&self, taken: &mut Taken<P>, cx: &mut Context<'_>) -> Poll<Option<()>> {
        let mut inner = self.lock();
        if !inner.take(&mut taken.0) {
            if inner.is_closed {
                return Poll::Ready(None);
            }
            if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                inner.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        // The reader is woken for a reason only.
        let has_room = inner.blocked.is_some_and(|blocked| inner.has_room(blocked, self.max_bytes));
        if has_room {
            inner.blocked = None;
        }
        let is_awaited = has_room || !inner.lagged.is_empty();
        drop(inner);
        if is_awaited {
            self.changed.notify_one();
        }
        Poll::Ready(Some(()))
    }

    /// Returns the subscriptions whose marks the consumer has seen since the last call.
    pub(crate) fn take_lagged(&self) -> Vec<usize> {
        std::mem::take(&mut self.lock().lagged)
    }

    /// Returns the number of events that wait, and of messages that were dropped since the last
    /// call.
    pub(crate) fn depth(&self) -> (usize, u64) {
        let mut inner = self.lock();
        (inner.entries.len() - inner.holes, std::mem::take(&mut inner.dropped))
    }

    #[inline]
    fn lock(&self) -> Guard<'_, Inner<P>> {
        self.inner.lock()
    }
}

impl<P: Product> Inner<P> {
    /// Takes events as far as there is room.
    fn push_some(&mut self, staged: &mut VecDeque<Entry<P>>, max_bytes: usize) -> Option<Refused> {
        let mut admitted = 0;
        let mut refused = None;
        for next in staged.iter() {
            let admission = match next {
                Entry::Waiting(next) => self.admit(next, admitted, max_bytes),
                Entry::Dropped(..) | Entry::Hole => Ok(()),
            };
            match admission {
                Ok(()) => admitted += 1,
                Err(why) => {
                    refused = Some(why);
                    break;
                }
            }
        }
        // All at once: a message is large, and moved as seldom as possible.
        if self.entries.is_empty() && admitted == staged.len() {
            std::mem::swap(&mut self.entries, staged);
        } else {
            self.entries.extend(staged.drain(..admitted));
        }
        if let Some(Refused::Failed(_)) = refused {
            staged.pop_front();
        }
        self.compact_if_sparse();
        refused
    }

    /// Makes room for an event that follows `admitted` others, and counts it; or says why there is
    /// none.
    #[inline]
    fn admit(
        &mut self,
        staged: &Staged<P>,
        admitted: usize,
        max_bytes: usize,
    ) -> Result<(), Refused> {
        let Some(index) = index(staged.lane) else {
            if self.control >= MAX_CONTROL {
                self.blocked = Some(Blocked::Control);
                return Err(Refused::Full { drops: None });
            }
            self.control += 1;
            return Ok(());
        };
        let Some(lane) = self.lanes.get_mut(index) else {
            return Err(Refused::Failed(index.saturating_sub(1)));
        };
        if lane.is_full(staged.bytes, max_bytes) {
            self.make_room(index, staged.bytes, admitted, max_bytes)?;
        }
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.bytes += staged.bytes;
            lane.messages += 1;
        }
        Ok(())
    }

    /// Makes room in a lane that is full, as its policy says.
    #[cold]
    fn make_room(
        &mut self,
        index: usize,
        bytes: usize,
        admitted: usize,
        max_bytes: usize,
    ) -> Result<(), Refused> {
        while let Some(lane) = self.lanes.get_mut(index)
            && lane.is_full(bytes, max_bytes)
        {
            let waits = |drops| {
                let blocked = Some(Blocked::Lane(index));
                (blocked, Err(Refused::Full { drops }))
            };
            let (blocked, refused) = match lane.overflow {
                Overflow::Block => waits(None),
                Overflow::Fail => return Err(Refused::Failed(index.saturating_sub(1))),
                Overflow::DropOldest if !lane.is_behind => waits(Some(index)),
                // Those that were admitted with it are not in their places yet: first those go in.
                Overflow::DropOldest if admitted > 0 => return Err(Refused::Again),
                Overflow::DropOldest => {
                    if !self.drop_one(index) {
                        return Ok(());
                    }
                    continue;
                }
            };
            self.blocked = blocked;
            return refused;
        }
        Ok(())
    }

    /// Drops the oldest message of a lane and leaves a mark; reports whether there was one.
    fn drop_one(&mut self, index: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(index) else { return false };
        let from = lane.oldest.max(self.first);
        let skip = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        let is_ours = |entry: &Entry<P>| match entry {
            Entry::Waiting(staged) => self::index(staged.lane) == Some(index),
            Entry::Dropped(..) | Entry::Hole => false,
        };
        let found = (from..).zip(self.entries.iter_mut().skip(skip)).find(|(_, e)| is_ours(e));
        let Some((oldest, place)) = found else { return false };
        self.dropped += 1;
        lane.oldest = oldest + 1;
        lane.messages -= 1;
        let mark = *lane.mark.get_or_insert(oldest);
        let left = if mark == oldest { Entry::Dropped(index, 1) } else { Entry::Hole };
        if let Entry::Waiting(staged) = std::mem::replace(place, left) {
            lane.bytes -= staged.bytes;
        }
        if mark != oldest {
            self.holes += 1;
            let at = usize::try_from(mark - self.first).ok();
            if let Some(Entry::Dropped(_, count)) = at.and_then(|at| self.entries.get_mut(at)) {
                *count += 1;
            }
        }
        true
    }

    /// Moves entries behind those in `taken`, and reports whether there is an event among them.
    #[inline]
    fn take(&mut self, taken: &mut VecDeque<Entry<P>>) -> bool {
        let mut has_event = false;
        while !has_event && !self.entries.is_empty() {
            let count = self.entries.len().min(BATCH);
            for at in 0..count {
                has_event |= self.release(at);
            }
            self.first += count as u64;
            // A message is large, and moved as seldom as possible.
            if count == self.entries.len() && taken.is_empty() {
                std::mem::swap(&mut self.entries, taken);
            } else {
                taken.extend(self.entries.drain(..count));
            }
        }
        has_event
    }

    /// Counts out the entry at this place, makes an event of it if it is a mark, and reports whether
    /// it is an event now.
    #[inline]
    fn release(&mut self, at: usize) -> bool {
        let Some(entry) = self.entries.get_mut(at) else { return false };
        match entry {
            Entry::Hole => {
                self.holes -= 1;
                return false;
            }
            Entry::Waiting(Staged { lane, bytes, .. }) => match index(*lane) {
                None => self.control -= 1,
                Some(index) => {
                    if let Some(lane) = self.lanes.get_mut(index) {
                        lane.messages -= 1;
                        lane.bytes -= *bytes;
                        lane.is_behind &= lane.messages > lane.capacity / 2;
                    }
                }
            },
            Entry::Dropped(index, dropped) => {
                let (index, dropped) = (*index, *dropped);
                let channel = self.lanes.get_mut(index).and_then(|lane| {
                    lane.mark = None;
                    lane.channel.clone()
                });
                let event = Event::Lagged { channel, dropped };
                *entry = Entry::Waiting(Staged { lane: Lane::Control, event, bytes: 0 });
                if let Some(lane) = index.checked_sub(1)
                    && !self.lagged.contains(&lane)
                {
                    self.lagged.push(lane);
                }
            }
        }
        true
    }

    /// Reports whether the reader, which waits for room, is worth waking: half is free.
    fn has_room(&self, blocked: Blocked, max_bytes: usize) -> bool {
        match blocked {
            Blocked::Control => self.control <= MAX_CONTROL / 2,
            Blocked::Lane(index) => self.lanes.get(index).is_none_or(|lane| {
                lane.messages <= lane.capacity / 2 && lane.bytes <= max_bytes / 2
            }),
        }
    }

    /// Closes the holes, if they are many.
    fn compact_if_sparse(&mut self) {
        if self.holes <= 1_024 || self.holes <= self.entries.len() / 2 {
            return;
        }
        self.entries.retain(|entry| !matches!(entry, Entry::Hole));
        self.holes = 0;
        for lane in &mut self.lanes {
            lane.oldest = self.first;
            lane.mark = None;
        }
        for (position, entry) in (self.first..).zip(&self.entries) {
            if let Entry::Dropped(index, _) = entry
                && let Some(lane) = self.lanes.get_mut(*index)
            {
                lane.mark = Some(position);
            }
        }
    }
}

/// Returns the place of a lane; `None` for events that are no messages.
#[inline]
const fn index(lane: Lane) -> Option<usize> {
    match lane {
        Lane::Control => None,
        Lane::Unmatched => Some(0),
        Lane::Channel(lane) => Some(lane + 1),
    }
}

impl<P: Product> LaneState<P> {
    fn new(channel: Option<P::Channel>, overflow: Overflow, capacity: usize) -> Self {
        Self {
            channel,
            overflow,
            capacity,
            messages: 0,
            bytes: 0,
            oldest: 0,
            mark: None,
            is_behind: false,
        }
    }

    /// Reports whether a message of `bytes` bytes has no place. One message always has.
    #[inline]
    fn is_full(&self, bytes: usize, max_bytes: usize) -> bool {
        let is_over = self.bytes.saturating_add(bytes) > max_bytes;
        self.messages >= self.capacity.max(1) || is_over && self.messages > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Channel;

    const BYTES: usize = 100;

    fn event(number: u64) -> Event {
        Event::Lagged { channel: Some(Channel::Fill), dropped: number }
    }

    fn push(queue: &Queue, lane: Lane, number: u64) -> Pushed {
        let staged = Staged { lane, event: event(number), bytes: BYTES };
        queue.push_all(&mut VecDeque::from([staged.into()]))
    }

    /// Pushes to a lane whose consumer has had its time.
    fn push_late(queue: &Queue, lane: usize, number: u64) {
        queue.drop_oldest(lane + 1);
        assert_eq!(push(queue, Lane::Channel(lane), number), Pushed::Done);
    }

    /// Returns the numbers that come out, and the marks as (channel, count).
    fn drain(queue: &Queue) -> Vec<(Option<Channel>, u64)> {
        let mut found = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = Taken::default();
        while let Poll::Ready(Some(())) = queue.poll(&mut taken, &mut cx) {
            while let Some(event) = taken.pop() {
                let Event::Lagged { channel, dropped } = event else { panic!("{event:?}") };
                found.push((channel, dropped));
            }
        }
        found
    }

    #[test]
    fn the_oldest_make_room_and_a_mark_stands_in_their_place() {
        let queue = Queue::new(usize::MAX);
        queue.lane(0, Channel::Ticker, Overflow::DropOldest, 3);
        queue.lane(1, Channel::Trade, Overflow::Block, 100);
        let fill = Some(Channel::Fill);
        for number in 0..5_000 {
            push_late(&queue, 0, number);
            if number % 1_000 == 0 {
                assert_eq!(push(&queue, Lane::Channel(1), number), Pushed::Done);
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
        assert_eq!(queue.depth(), (expected.len(), 4_997));
        assert_eq!(queue.depth(), (expected.len(), 0));
        assert_eq!(drain(&queue), expected);
        assert_eq!(queue.take_lagged(), [0]);
        assert!(queue.take_lagged().is_empty());
        let inner = queue.lock();
        assert!(inner.lanes.iter().all(|lane| lane.bytes == 0 && lane.messages == 0));
    }

    #[test]
    fn a_full_lane_waits_or_fails_as_its_policy_says() {
        let queue = Queue::new(usize::MAX);
        queue.lane(0, Channel::Ticker, Overflow::Block, 1);
        queue.lane(1, Channel::Trade, Overflow::Fail, 1);
        queue.lane(2, Channel::Fill, Overflow::DropOldest, 1);
        for lane in 0..3 {
            assert_eq!(push(&queue, Lane::Channel(lane), 1), Pushed::Done);
        }
        assert_eq!(push(&queue, Lane::Channel(0), 2), Pushed::Full { drops: None });
        assert_eq!(push(&queue, Lane::Channel(1), 2), Pushed::Failed(1));
        // The consumer is given time, then the oldest goes.
        assert_eq!(push(&queue, Lane::Channel(2), 2), Pushed::Full { drops: Some(3) });
        push_late(&queue, 2, 2);
        assert_eq!(push(&queue, Lane::Channel(2), 3), Pushed::Done);
        assert_eq!(drain(&queue).len(), 4);
        // It has caught up: it is given time again.
        assert_eq!(push(&queue, Lane::Channel(2), 4), Pushed::Done);
        assert_eq!(push(&queue, Lane::Channel(2), 5), Pushed::Full { drops: Some(3) });
        assert_eq!(push(&queue, Lane::Channel(0), 2), Pushed::Done);
    }

    #[test]
    fn c6_a_lane_is_bounded_in_bytes_and_one_message_always_fits() {
        let queue = Queue::new(BYTES * 3 + 1);
        queue.lane(0, Channel::Ticker, Overflow::DropOldest, 1_000);
        for number in 0..10 {
            push_late(&queue, 0, number);
        }
        let fill = Some(Channel::Fill);
        let expected =
            [(Some(Channel::Ticker), 7), (fill.clone(), 7), (fill.clone(), 8), (fill, 9)];
        assert_eq!(drain(&queue), expected);
        let queue = Queue::new(BYTES * 3);
        queue.lane(0, Channel::Ticker, Overflow::Block, 1_000);
        for number in 0..3 {
            assert_eq!(push(&queue, Lane::Channel(0), number), Pushed::Done);
        }
        assert_eq!(push(&queue, Lane::Channel(0), 3), Pushed::Full { drops: None });
        let queue = Queue::new(BYTES / 2);
        queue.lane(0, Channel::Ticker, Overflow::Block, 1_000);
        assert_eq!(push(&queue, Lane::Channel(0), 1), Pushed::Done);
        assert_eq!(push(&queue, Lane::Channel(0), 2), Pushed::Full { drops: None });
        assert_eq!(drain(&queue).len(), 1);
        assert_eq!(push(&queue, Lane::Channel(0), 2), Pushed::Done);
    }

    #[test]
    fn events_that_are_no_messages_are_never_dropped() {
        let queue = Queue::new(usize::MAX);
        for number in 0..MAX_CONTROL as u64 {
            assert_eq!(push(&queue, Lane::Control, number), Pushed::Done);
        }
        assert_eq!(push(&queue, Lane::Control, 0), Pushed::Full { drops: None });
        assert_eq!(drain(&queue).len(), MAX_CONTROL);
        for number in 0..MAX_CONTROL as u64 {
            assert_eq!(push(&queue, Lane::Control, number), Pushed::Done);
        }
        assert_eq!(drain(&queue).len(), MAX_CONTROL);
        queue.close(event(0));
        queue.close(event(1));
        assert_eq!(drain(&queue).len(), 1);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(queue.poll(&mut Taken::default(), &mut cx), Poll::Ready(None)));
    }

    fn pushes(queue: &Queue, lane: Lane, numbers: std::ops::Range<u64>) -> Pushed {
        let staged = numbers.map(|number| Staged { lane, event: event(number), bytes: BYTES });
        queue.push_all(&mut staged.map(Entry::from).collect())
    }

    /// Lets the consumer take as many events as it takes at a time.
    fn take(queue: &Queue) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(queue.poll(&mut Taken::default(), &mut cx).is_ready());
    }

    /// Reports whether the reader has been woken since the last call.
    fn is_woken(queue: &Queue) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        std::pin::pin!(queue.changed.notified()).poll(&mut cx).is_ready()
    }

    #[test]
    fn an_event_is_of_its_own_lane_and_of_no_other() {
        let lanes = [Lane::Control, Lane::Unmatched, Lane::Channel(0), Lane::Channel(1)];
        for of in lanes {
            let entry = Entry::from(Staged { lane: of, event: event(0), bytes: BYTES });
            for lane in lanes {
                assert_eq!(entry.is_of(lane), lane == of, "{lane:?}");
                let [dropped, hole]: [Entry; 2] = [Entry::Dropped(2, 1), Entry::Hole];
                assert!(!dropped.is_of(lane) && !hole.is_of(lane));
            }
        }
    }

    #[test]
    fn what_is_pushed_at_once_makes_room_for_itself_too() {
        let queue = Queue::new(usize::MAX);
        queue.lane(0, Channel::Ticker, Overflow::DropOldest, 2);
        queue.drop_oldest(1);
        // Twice, so that the positions of the first ten are behind.
        for _ in 0..2 {
            assert_eq!(pushes(&queue, Lane::Channel(0), 0..10), Pushed::Done);
            let fill = Some(Channel::Fill);
            assert_eq!(drain(&queue), [(Some(Channel::Ticker), 8), (fill.clone(), 8), (fill, 9)]);
            queue.drop_oldest(1);
        }
    }

    #[test]
    fn a_large_message_takes_the_place_of_several() {
        let queue = Queue::new(BYTES * 3);
        queue.lane(0, Channel::Ticker, Overflow::DropOldest, 1_000);
        assert_eq!(pushes(&queue, Lane::Channel(0), 0..3), Pushed::Done);
        queue.drop_oldest(1);
        let staged = Staged { lane: Lane::Channel(0), event: event(3), bytes: BYTES * 3 };
        assert_eq!(queue.push_all(&mut VecDeque::from([staged.into()])), Pushed::Done);
        assert_eq!(drain(&queue), [(Some(Channel::Ticker), 3), (Some(Channel::Fill), 3)]);
        assert_eq!(push(&queue, Lane::Channel(0), 4), Pushed::Done);
        assert_eq!(drain(&queue).len(), 1);
        assert_eq!(queue.lock().lanes[1].bytes, 0);
    }

    #[test]
    fn a_consumer_has_caught_up_when_half_is_free() {
        let queue = Queue::new(usize::MAX);
        queue.lane(0, Channel::Ticker, Overflow::DropOldest, 200);
        let lane = Lane::Channel(0);
        assert_eq!(pushes(&queue, lane, 0..200), Pushed::Done);
        queue.drop_oldest(1);
        // 136 are left: its oldest are still dropped.
        take(&queue);
        assert_eq!(pushes(&queue, lane, 200..265), Pushed::Done);
        assert_eq!(queue.depth().1, 1);
        // 73 are left: it is given time again.
        take(&queue);
        take(&queue);
        assert_eq!(pushes(&queue, lane, 265..392), Pushed::Done);
        assert_eq!(push(&queue, lane, 392), Pushed::Full { drops: Some(1) });
    }

    #[test]
    fn the_reader_is_woken_when_half_is_free_and_for_marks() {
        let (few, many) = (BYTES * 200, usize::MAX);
        let (lane, control) = (Lane::Channel(0), Lane::Control);
        for (max_bytes, capacity, lane, full, takes) in [
            (many, 200, lane, 200, 2),
            (few, 1_000, lane, 200, 2),
            (many, 200, control, MAX_CONTROL as u64, 32),
        ] {
            let queue = Queue::new(max_bytes);
            queue.lane(0, Channel::Ticker, Overflow::Block, capacity);
            assert_eq!(pushes(&queue, lane, 0..full), Pushed::Done);
            assert_eq!(push(&queue, lane, full), Pushed::Full { drops: None });
            for taken in 1..=takes {
                take(&queue);
                assert_eq!(is_woken(&queue), taken == takes, "{taken} of {takes}");
            }
            // Once.
            take(&queue);
            assert!(!is_woken(&queue));
        }
        let queue = Queue::new(usize::MAX);
        queue.lane(0, Channel::Ticker, Overflow::DropOldest, 1);
        assert_eq!(push(&queue, lane, 0), Pushed::Done);
        take(&queue);
        assert!(!is_woken(&queue));
        push_late(&queue, 0, 1);
        push_late(&queue, 0, 2);
        take(&queue);
        assert!(is_woken(&queue));
    }
}
