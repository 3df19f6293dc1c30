//! The link between the task of an order, or of a change, and its handles: the last state, and the
//! inputs of the task.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

use super::shell::lock;

/// The state and the inputs that a task shares with its handles.
#[derive(Debug)]
pub(super) struct Link<S, I> {
    shared: Mutex<Shared<S, I>>,
    /// Notifies all who wait for the outcome.
    outcome: Notify,
    /// Notifies the task.
    input: Notify,
    /// Reports whether nothing better than a state is to be waited for.
    is_outcome: fn(&S) -> bool,
}

#[derive(Debug)]
struct Shared<S, I> {
    state: S,
    inputs: VecDeque<I>,
    has_ended: bool,
}

impl<S: Clone + PartialEq, I> Link<S, I> {
    /// Returns the link of a task that is in that state.
    pub(super) fn new(state: S, is_outcome: fn(&S) -> bool) -> Arc<Self> {
        let shared = Shared { state, inputs: VecDeque::new(), has_ended: false };
        let shared = Mutex::new(shared);
        Arc::new(Self { shared, outcome: Notify::new(), input: Notify::new(), is_outcome })
    }

    fn lock(&self) -> MutexGuard<'_, Shared<S, I>> {
        lock(&self.shared)
    }

    /// Returns the last state.
    pub(super) fn state(&self) -> S {
        self.lock().state.clone()
    }

    /// Reports what holds of the last state.
    pub(super) fn is(&self, holds: impl FnOnce(&S) -> bool) -> bool {
        holds(&self.lock().state)
    }

    /// Reports whether the task has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    /// Waits for an outcome, or for the end of the task, and returns the last state.
    pub(super) async fn outcome(&self) -> S {
        loop {
            // It is notified of everything from here on.
            let notified = self.outcome.notified();
            {
                let shared = self.lock();
                if shared.has_ended || (self.is_outcome)(&shared.state) {
                    return shared.state.clone();
                }
            }
            notified.await;
        }
    }

    /// Tells the task something, unless it has ended.
    pub(super) fn tell(&self, input: I) {
        let mut shared = self.lock();
        if shared.has_ended {
            return;
        }
        shared.inputs.push_back(input);
        drop(shared);
        self.input.notify_one();
    }

    /// Returns what the task was told and has not taken in yet, if there is anything.
    pub(super) fn try_recv(&self) -> Option<I> {
        self.lock().inputs.pop_front()
    }

    /// Waits for what the task is told next. Only the task waits here.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn recv(&self) -> I {
        loop {
            if let Some(input) = self.try_recv() {
                return input;
            }
            self.input.notified().await;
        }
    }

    /// Makes a state known. Reports whether it is another than before.
    pub(super) fn publish(&self, state: &S) -> bool {
        let mut shared = self.lock();
        if shared.state == *state {
            return false;
        }
        shared.state.clone_from(state);
        drop(shared);
        if (self.is_outcome)(state) {
            self.outcome.notify_waiters();
        }
        true
    }
}

/// The task's end of a [`Link`]: dropped, the task has ended.
#[derive(Debug)]
pub(super) struct TaskEnd<S, I>(pub(super) Arc<Link<S, I>>);

impl<S, I> Drop for TaskEnd<S, I> {
    fn drop(&mut self) {
        let mut shared = lock(&self.0.shared);
        shared.has_ended = true;
        shared.inputs.clear();
        drop(shared);
        self.0.outcome.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn link() -> Arc<Link<u8, char>> {
        Link::new(0, |state| *state >= 10)
    }

    #[test]
    fn those_who_wait_are_woken_by_an_outcome_and_by_nothing_less() {
        let link = link();
        let (mut first, mut second) = (Box::pin(link.outcome()), Box::pin(link.outcome()));
        assert_eq!((first.as_mut().now_or_never(), second.as_mut().now_or_never()), (None, None));
        assert!(link.publish(&1) && !link.publish(&1));
        assert_eq!(first.as_mut().now_or_never(), None);
        assert!(link.publish(&10));
        assert_eq!((first.now_or_never(), second.now_or_never()), (Some(10), Some(10)));
        assert_eq!(link.outcome().now_or_never(), Some(10));
        assert!(link.is(|state| *state == 10) && link.state() == 10);
    }

    #[test]
    fn those_who_wait_are_woken_by_the_end_of_the_task_and_it_is_told_nothing_more() {
        let link = link();
        let end = TaskEnd(Arc::clone(&link));
        let mut outcome = Box::pin(link.outcome());
        assert_eq!(outcome.as_mut().now_or_never(), None);
        link.publish(&3);
        link.tell('a');
        drop(end);
        assert_eq!(outcome.now_or_never(), Some(3));
        link.tell('b');
        assert_eq!(link.recv().now_or_never(), None);
    }

    #[test]
    fn what_a_task_is_told_comes_in_order_and_wakes_it() {
        let link = link();
        let mut recv = Box::pin(link.recv());
        assert_eq!(recv.as_mut().now_or_never(), None);
        link.tell('a');
        link.tell('b');
        // One that is dropped loses nothing.
        drop(Box::pin(link.recv()));
        assert_eq!(recv.now_or_never(), Some('a'));
        assert_eq!((link.recv().now_or_never(), link.recv().now_or_never()), (Some('b'), None));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_waiter_misses_an_outcome_or_an_end_whatever_the_moment() {
        for round in 0..1_000 {
            let link = link();
            let end = TaskEnd(Arc::clone(&link));
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let link = Arc::clone(&link);
                    tokio::spawn(async move { link.outcome().await })
                })
                .collect();
            let teller = Arc::clone(&link);
            let tell = tokio::spawn(async move {
                for input in ['a', 'b', 'c', 'd'] {
                    teller.tell(input);
                }
            });
            let task = tokio::spawn(async move {
                end.0.publish(&3);
                if round % 2 == 0 {
                    end.0.publish(&10);
                }
                drop(end);
            });
            let expected = if round % 2 == 0 { 10 } else { 3 };
            for waiter in waiters {
                assert_eq!(waiter.await.unwrap(), expected);
            }
            task.await.unwrap();
            tell.await.unwrap();
            // What came too late is not kept for ever.
            assert_eq!((link.state(), link.try_recv()), (expected, None));
        }
    }

    #[test]
    fn a_state_is_known_before_those_who_wait_for_it_are_woken() {
        let link = link();
        let mut outcome = Box::pin(link.outcome());
        assert_eq!(outcome.as_mut().now_or_never(), None);
        link.publish(&10);
        // The task goes on to another state before the waiter runs: it gets the last one.
        link.publish(&11);
        assert_eq!((link.state(), outcome.now_or_never()), (11, Some(11)));
        // One that was made before, and is asked for the first time now.
        let late = link.outcome();
        link.publish(&12);
        assert_eq!(late.now_or_never(), Some(12));
    }

    #[tokio::test]
    async fn a_task_on_another_thread_hears_everything() {
        let link = link();
        let task = Arc::clone(&link);
        let hear = async move {
            let end = TaskEnd(task);
            for expected in ('a'..='z').cycle().take(1_000) {
                assert_eq!(end.0.recv().await, expected);
            }
            end.0.publish(&10);
        };
        let teller = Arc::clone(&link);
        let tell = std::thread::spawn(move || {
            for input in ('a'..='z').cycle().take(1_000) {
                teller.tell(input);
            }
        });
        tokio::spawn(hear);
        assert_eq!(link.outcome().await, 10);
        tell.join().unwrap();
    }
}
