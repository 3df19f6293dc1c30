//! The scheduler with a clock, and the tasks that drive it while requests wait.
//!
//! A future of a caller holds nothing that others need: a strategy may poll one once and keep it. In
//! each runtime in which requests wait, a task has the timer and asks the back end. A runtime may stand
//! still, or be dropped: those that wait in another have a task of their own.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    runtime::{self, Handle},
    sync::{Notify, oneshot},
    time::{Instant, Sleep, sleep, timeout},
};

use crate::budget::{
    backend::{Backend, BackendError, Grant},
    cost::CostTable,
    gcra::Nanos,
    scheduler::{ANSWER_TIME, Completion, Refusal, Scheduler, Slice, Ticket},
};

pub(super) struct Inner {
    pub(super) start: Instant,
    pub(super) state: Mutex<State>,
    pub(super) backend: Option<Arc<dyn Backend>>,
    /// Notified when an answer was 429: the limits may differ from those that were learned.
    pub(super) stale: Notify,
    #[cfg(feature = "perps")]
    pub(super) learns_perps: bool,
    pub(super) write_deadline: Duration,
    pub(super) deadline: Duration,
    pub(super) requeues: u32,
}

pub(super) struct State {
    pub(super) scheduler: Scheduler,
    pub(super) costs: CostTable,
    waiters: HashMap<Ticket, oneshot::Sender<Result<(), Refusal>>>,
    /// The runtimes in which a task drives the scheduler, and what notifies it that its time may have
    /// changed.
    drivers: Vec<(runtime::Id, Arc<Notify>)>,
}

impl State {
    pub(super) fn new(scheduler: Scheduler, costs: CostTable) -> Self {
        Self { scheduler, costs, waiters: HashMap::new(), drivers: Vec::new() }
    }

    /// Runs the scheduler, and gives its verdicts to those that wait for them.
    fn run(&mut self, now: Nanos) {
        for (ticket, verdict) in self.scheduler.run(now) {
            self.notify(ticket, verdict);
        }
    }

    /// Does the same, and returns the verdict on a request that is not waited for yet.
    fn run_for(&mut self, now: Nanos, own: Ticket) -> Option<Result<(), Refusal>> {
        let mut found = None;
        for (ticket, verdict) in self.scheduler.run(now) {
            if ticket == own {
                found = Some(verdict);
            } else {
                self.notify(ticket, verdict);
            }
        }
        found
    }

    pub(super) fn notify(&mut self, ticket: Ticket, verdict: Result<(), Refusal>) {
        if let Some(waiter) = self.waiters.remove(&ticket) {
            // One that has gone gives back what it got: see `Waiting`.
            let _ = waiter.send(verdict);
        }
    }

    fn notify_drivers(&self) {
        for (_, changed) in &self.drivers {
            changed.notify_one();
        }
    }
}

pub(super) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Inner {
    pub(super) fn now(&self) -> Nanos {
        nanos(self.start.elapsed())
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // The scheduler does not panic; were it to, its counts would still be those of a moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the scheduler, and notifies the drivers.
    pub(super) fn run(&self, state: &mut State) {
        state.run(self.now());
        state.notify_drivers();
    }

    /// Runs the scheduler, notifies the drivers, and returns the verdict on a request that is not waited
    /// for yet.
    pub(super) fn run_for(&self, state: &mut State, ticket: Ticket) -> Option<Result<(), Refusal>> {
        let verdict = state.run_for(self.now(), ticket);
        state.notify_drivers();
        verdict
    }

    /// Begins a request that was granted.
    pub(super) fn claim(&self, state: &mut State, ticket: Ticket) {
        state.scheduler.claim(ticket);
        // It was in the way of others.
        if state.scheduler.waiting() > 0 {
            self.run(state);
        }
    }

    /// Begins to wait for the verdict on a request that was submitted.
    pub(super) fn wait(self: &Arc<Self>, state: &mut State, ticket: Ticket) -> Waiting {
        let (sender, receiver) = oneshot::channel();
        state.waiters.insert(ticket, sender);
        Waiting { inner: Arc::clone(self), ticket, receiver, is_done: false }
    }

    /// Takes the next slice that requests lack, and begins to ask the back end for it.
    fn next_question(self: &Arc<Self>) -> Option<Question> {
        let backend = Arc::clone(self.backend.as_ref()?);
        let slice = self.state().scheduler.wanted()?;
        let asking = Asking { inner: Arc::downgrade(self), slice: Some(slice) };
        Some(Question { answer: Box::pin(async move { backend.take(&slice).await }), asking })
    }

    /// Makes sure that a task of this runtime drives the scheduler while requests wait.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with its timer.
    fn keep_driven(self: &Arc<Self>) {
        let runtime = Handle::current();
        let id = runtime.id();
        let is_needed = |state: &State| {
            state.scheduler.waiting() > 0 && state.drivers.iter().all(|(driven, _)| *driven != id)
        };
        if !is_needed(&self.state()) {
            return;
        }
        // Here, not in the task: a runtime without a timer panics where it is seen.
        let timer = Box::pin(sleep(Duration::ZERO));
        let changed = Arc::new(Notify::new());
        {
            let mut state = self.state();
            // Another thread of the runtime may have been faster.
            if !is_needed(&state) {
                return;
            }
            state.drivers.push((id, Arc::clone(&changed)));
        }
        let driver = Driver { inner: Arc::downgrade(self), changed };
        // Without the lock: a runtime that shuts down drops the task at once.
        runtime.spawn(driver.run(timer));
    }
}

/// A question to the back end, and what is done with its answer.
struct Question {
    answer: Pin<Box<dyn Future<Output = Result<Grant, BackendError>> + Send>>,
    asking: Asking,
}

impl Question {
    /// Takes the answer that is there at once, as that of a file or of a memory, or waits for it in a
    /// task.
    fn ask(mut self) {
        match self.answer.as_mut().now_or_never() {
            Some(answer) => self.asking.end(answer),
            None => self.spawn(),
        }
    }

    /// Waits for the answer in a task of its own: nothing else waits for it, or for a back end that
    /// panics.
    fn spawn(self) {
        tokio::spawn(async move {
            let limit = Duration::from_nanos(ANSWER_TIME);
            let answer = timeout(limit, self.answer).await;
            self.asking.end(answer.unwrap_or_else(|_| {
                Err(BackendError::new(format!("it has not answered for {limit:?}")))
            }));
        });
    }
}

/// The task of one runtime that drives the scheduler while requests wait.
struct Driver {
    inner: Weak<Inner>,
    changed: Arc<Notify>,
}

impl Driver {
    async fn run(self, mut timer: Pin<Box<Sleep>>) {
        loop {
            let wake = {
                let Some(inner) = self.inner.upgrade() else { return };
                let wake = {
                    let mut state = inner.state();
                    state.run(inner.now());
                    if state.scheduler.waiting() == 0 {
                        // In one step: the next one that waits finds no driver, and begins one.
                        self.leave(&mut state);
                        return;
                    }
                    state.scheduler.next_wake()
                };
                while let Some(question) = inner.next_question() {
                    question.spawn();
                }
                wake.and_then(|wake| inner.start.checked_add(Duration::from_nanos(wake)))
            };
            if let Some(wake) = wake {
                timer.as_mut().reset(wake);
            }
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = &mut timer, if wake.is_some() => {}
            }
        }
    }

    fn leave(&self, state: &mut State) {
        state.drivers.retain(|(_, changed)| !Arc::ptr_eq(changed, &self.changed));
    }
}

impl Drop for Driver {
    /// Its runtime may have been dropped.
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            self.leave(&mut inner.state());
        }
    }
}

/// A question to the back end; dropped, it is abandoned.
struct Asking {
    inner: Weak<Inner>,
    slice: Option<Slice>,
}

impl Asking {
    fn end(mut self, answer: Result<Grant, BackendError>) {
        let (Some(slice), Some(inner)) = (self.slice.take(), self.inner.upgrade()) else { return };
        let now = inner.now();
        let mut state = inner.state();
        match answer {
            Ok(Grant::Tokens(tokens)) => state.scheduler.slice_granted(&slice, tokens),
            Ok(Grant::Wait(wait)) => {
                state.scheduler.slice_denied(&slice, now.saturating_add(wait));
            }
            Err(error) => {
                tracing::warn!(%error, bucket = %slice.key, "the shared budget cannot be used");
                for (ticket, verdict) in
                    state.scheduler.slice_failed(now, &slice, &error.to_string())
                {
                    state.notify(ticket, verdict);
                }
            }
        }
        inner.run(&mut state);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let (Some(slice), Some(inner)) = (&self.slice, self.inner.upgrade()) {
            let mut state = inner.state();
            state.scheduler.slice_abandoned(slice);
            inner.run(&mut state);
        }
    }
}

/// A request that waits for its verdict; dropped, it leaves the queue.
pub(super) struct Waiting {
    inner: Arc<Inner>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Result<(), Refusal>>,
    is_done: bool,
}

impl Waiting {
    /// Claims what was granted, and returns the ticket, which the caller has to end from now on.
    pub(super) fn done(mut self) -> Ticket {
        self.is_done = true;
        self.inner.claim(&mut self.inner.state(), self.ticket);
        self.ticket
    }

    /// Waits for the verdict.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with its timer.
    pub(super) async fn verdict(&mut self) -> Result<(), Refusal> {
        while let Some(question) = self.inner.next_question() {
            question.ask();
        }
        poll_fn(|context| {
            if let Poll::Ready(verdict) = self.receiver.poll_unpin(context) {
                // A sender is dropped only with the budget, which this request holds.
                return Poll::Ready(verdict.unwrap_or(Err(Refusal::Withdrawn)));
            }
            // With each call: the future may have been moved to another runtime.
            self.inner.keep_driven();
            Poll::Pending
        })
        .await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut state = self.inner.state();
        state.waiters.remove(&self.ticket);
        if state.scheduler.withdraw(self.ticket) {
            if state.scheduler.waiting() == 0 {
                // The next request need not wait for answers that this one did not get.
                state.scheduler.abandon_slices();
            }
        } else {
            // It was granted, and is not used. One that was refused has nothing to end.
            let now = self.inner.now();
            state.scheduler.complete(now, self.ticket, Completion::NotSent);
        }
        self.inner.run(&mut state);
    }
}
