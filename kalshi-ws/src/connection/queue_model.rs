//! The queue under many orders of events: a task that fills it, a consumer that empties it, the end
//! of either at any moment.
//!
//! The rules: below the capacity nothing is lost and nothing comes twice; a mark stands for exactly
//! the messages that would have been in its place; a waiting side is woken (shuttle reports a
//! deadlock otherwise); a task that dies ends the consumer's stream.

use std::{
    collections::VecDeque,
    future::poll_fn,
    iter,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use shuttle::{
    future::block_on,
    rand::{Rng as _, thread_rng},
    thread,
};

use super::{
    queue::{Closer, Pushed, Queue, Staged, Taken},
    sync::simulated,
};
use crate::{
    error::ConnectErrorKind, event::Event, generated::Channel, session::Lane,
    subscription::Overflow,
};

/// The places of each lane.
const CAPACITY: usize = 2;

/// The bytes of a message.
const BYTES: usize = 10;

static LANES: [(Lane, Option<Channel>, Overflow); 3] = [
    (Lane::Channel(0), Some(Channel::Ticker), Overflow::Block),
    (Lane::Channel(1), Some(Channel::Trade), Overflow::DropOldest),
    (Lane::Control, None, Overflow::Block),
];

/// Returns a numbered event; its channel tells the lane it went through.
fn event(lane: usize, number: u64) -> Event {
    Event::Gap {
        channel: LANES[lane].1.clone().unwrap_or(Channel::Fill),
        sid: i64::try_from(lane).unwrap(),
        expected: None,
        received: i64::try_from(number).ok(),
    }
}

/// The producer's record of what it pushed.
struct Produced {
    /// The lane of each event, in order.
    lanes: Vec<usize>,
    /// It was told that the consumer has seen a mark.
    was_told: bool,
}

/// The way in which the producer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It closes the queue.
    Closed,
    /// It dies.
    Died,
}

/// Puts events into the queue as the task of a connection does.
fn produce(queue: Closer, events: u64, ending: Ending) -> Produced {
    let mut produced = Produced { lanes: Vec::new(), was_told: false };
    let mut staged = VecDeque::new();
    let mut number = 0;
    while number < events {
        for _ in 0..thread_rng().gen_range(1..=3_u64).min(events - number) {
            let lane = thread_rng().gen_range(0..LANES.len());
            let event = event(lane, number);
            staged.push_back(Staged { lane: LANES[lane].0, event, bytes: BYTES }.into());
            produced.lanes.push(lane);
            number += 1;
        }
        while !staged.is_empty() {
            match queue.push_all(&mut staged) {
                Pushed::Done => {}
                Pushed::Failed(lane) => panic!("lane {lane} does not fail"),
                // The consumer has had its time, or gets it.
                Pushed::Full { drops: Some(lane) } if thread_rng().gen_bool(0.5) => {
                    queue.drop_oldest(lane);
                }
                Pushed::Full { .. } => block_on(queue.changed.notified()),
            }
            produced.was_told |= !queue.take_lagged().is_empty();
        }
    }
    if ending == Ending::Closed {
        queue.close(Event::Closed { error: None });
    }
    drop(queue);
    produced
}

/// Takes everything out of the queue.
fn consume(queue: &Queue) -> Vec<Event> {
    let mut found = Vec::new();
    let mut taken = Taken::default();
    loop {
        if thread_rng().gen_bool(0.2) {
            // A future that is dropped: what it had taken stays, and its waker is of no use.
            let mut cx = Context::from_waker(Waker::noop());
            let _ = queue.poll(&mut taken, &mut cx);
        }
        let before = found.len();
        found.extend(iter::from_fn(|| taken.pop()));
        if found.len() == before {
            let mut next = pin!(poll_fn(|cx| queue.poll(&mut taken, cx)));
            if block_on(next.as_mut()).is_none() {
                return found;
            }
        }
    }
}

/// Checks what came out against what went in.
fn check(produced: &Produced, found: &[Event], capacity: usize, ending: Ending) {
    let (last, found) = found.split_last().expect("the end is an event");
    match (last, ending) {
        (Event::Closed { error: None }, Ending::Closed) => {}
        (Event::Closed { error: Some(error) }, Ending::Died) => {
            assert_eq!(error.kind(), ConnectErrorKind::TaskEnded);
        }
        other => panic!("{other:?}"),
    }
    // The numbers of each lane, as they went in.
    let mut due: Vec<VecDeque<u64>> = vec![VecDeque::new(); LANES.len()];
    for (number, lane) in (0..).zip(&produced.lanes) {
        due[*lane].push_back(number);
    }
    let mut newest = None;
    let mut marks = 0;
    for event in found {
        match event {
            Event::Gap { sid, received: Some(number), .. } => {
                let lane = usize::try_from(*sid).unwrap();
                let number = u64::try_from(*number).unwrap();
                assert_eq!(due[lane].pop_front(), Some(number), "lane {lane}");
                assert!(newest.replace(number) < Some(number), "{number} is out of order");
            }
            Event::Lagged { channel: Some(Channel::Trade), dropped } => {
                marks += 1;
                for _ in 0..*dropped {
                    assert!(due[1].pop_front().is_some(), "dropped, and never there");
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(due.iter().all(VecDeque::is_empty), "lost without a mark: {due:?}");
    let of_lane = produced.lanes.iter().filter(|lane| **lane == 1).count();
    assert!(marks == 0 || of_lane > capacity, "dropped below the capacity");
    assert!(!produced.was_told || marks > 0, "told of a mark that is not there");
}

fn queue(max_bytes: usize) -> Arc<Queue> {
    let queue = Arc::new(Queue::new(max_bytes));
    for (lane, channel, overflow) in LANES.clone() {
        if let (Lane::Channel(lane), Some(channel)) = (lane, channel) {
            queue.lane(lane, channel, overflow, CAPACITY);
        }
    }
    queue
}

/// Runs one execution: `events` events, and the end.
fn run(events: u64, max_bytes: usize, ending: Ending) {
    let queue = queue(max_bytes);
    let closer = Closer(Arc::clone(&queue));
    let task = thread::spawn(move || produce(closer, events, ending));
    let found = consume(&queue);
    let produced = task.join().unwrap();
    let capacity = CAPACITY.min(max_bytes / BYTES);
    check(&produced, &found, capacity, ending);
    // A mark that the consumer has seen is told, at the latest now.
    let has_marks = found.iter().any(|event| matches!(event, Event::Lagged { .. }));
    assert_eq!(produced.was_told || !queue.take_lagged().is_empty(), has_marks);
    assert_eq!(queue.depth().0, 0);
}

#[test]
fn whatever_the_order_of_events_nothing_is_lost_repeated_or_left_waiting() {
    for ending in [Ending::Closed, Ending::Died] {
        for max_bytes in [usize::MAX, BYTES] {
            simulated(|| {
                shuttle::check_random(move || run(14, max_bytes, ending), 250);
                shuttle::check_pct(move || run(14, max_bytes, ending), 100, 3);
            });
        }
    }
}

#[test]
fn a_few_events_are_right_in_the_first_of_all_orders() {
    // One after the other instead of at random.
    for ending in [Ending::Closed, Ending::Died] {
        let run = move || {
            let queue = queue(usize::MAX);
            let closer = Closer(Arc::clone(&queue));
            let task = thread::spawn(move || {
                for number in 0..3 {
                    let staged = Staged { lane: LANES[0].0, event: event(0, number), bytes: BYTES };
                    let mut staged = VecDeque::from([staged.into()]);
                    while closer.push_all(&mut staged) != Pushed::Done {
                        block_on(closer.changed.notified());
                    }
                }
                if ending == Ending::Closed {
                    closer.close(Event::Closed { error: None });
                }
            });
            let mut found = Vec::new();
            let mut taken = Taken::default();
            while block_on(poll_fn(|cx| queue.poll(&mut taken, cx))).is_some() {
                found.extend(iter::from_fn(|| taken.pop()));
            }
            task.join().unwrap();
            let produced = Produced { lanes: vec![0; 3], was_told: false };
            check(&produced, &found, CAPACITY, ending);
        };
        simulated(|| shuttle::check_dfs(run, Some(2_000)));
    }
}

#[test]
fn c2_a_producer_that_never_ran_ends_the_consumer_all_the_same() {
    simulated(|| {
        shuttle::check_random(
            || {
                let queue = queue(usize::MAX);
                let closer = Closer(Arc::clone(&queue));
                let dropped = thread::spawn(move || drop(closer));
                let found = consume(&queue);
                assert!(
                    matches!(found.as_slice(), [Event::Closed { error: Some(_) }]),
                    "{found:?}"
                );
                let mut cx = Context::from_waker(Waker::noop());
                let after = queue.poll(&mut Taken::default(), &mut cx);
                assert!(matches!(after, Poll::Ready(None)));
                dropped.join().unwrap();
            },
            200,
        );
    });
}
