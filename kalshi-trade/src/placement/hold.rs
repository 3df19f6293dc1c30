//! The parts of a task that are the same for orders and for changes: what it holds of what all tasks
//! share, and how it goes on after a panic.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::FutureExt as _;
use kalshi_types::UnixMillis;
use tokio::time::Instant;

use super::{pauses, shell::Shared};

/// The longest sleep. A clock may step, and the machine may be suspended.
const MAX_SLEEP: Duration = Duration::from_millis(250);

/// The hold that a task has of what all tasks share, the journal among it.
pub(super) struct Hold {
    shared: Option<Arc<Shared>>,
    weak: Weak<Shared>,
}

impl Hold {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Some(Arc::clone(shared)), weak: Arc::downgrade(shared) }
    }

    /// Returns what is shared, and holds it from here on; `None` if it was let go and no handle is
    /// left.
    pub(super) fn get(&mut self) -> Option<Arc<Shared>> {
        if self.shared.is_none() {
            self.shared = self.weak.upgrade().filter(|shared| shared.has_handle());
        }
        self.shared.clone()
    }

    /// Lets it go until it is needed again: the last handle closes the journal.
    pub(super) fn let_go(&mut self) {
        self.shared = None;
    }
}

/// A task that can go on after a panic.
pub(super) trait Resume: Send {
    /// Does what the machine says until nothing is left to do.
    fn run(&mut self, hold: &mut Hold) -> impl Future<Output = ()> + Send;

    /// Takes in that what was being done was cut off: it may have been done or not.
    fn interrupt(&mut self, shared: Option<&Shared>);
}

/// Runs a task to its end. After a panic, of a layer of the client, the clock or the journal, it goes on
/// from its machine, after a pause that grows.
pub(super) async fn drive(mut task: impl Resume, hold: &mut Hold) {
    let mut panics = 0_u32;
    while AssertUnwindSafe(task.run(hold)).catch_unwind().await.is_err() {
        tracing::error!(
            panics,
            "the task of an order was cut off by a panic of the client's layers, the clock or the \
             journal: it goes on after a pause"
        );
        task.interrupt(hold.get().as_deref());
        tokio::time::sleep(pauses::after_panic(panics)).await;
        panics = panics.saturating_add(1);
    }
}

/// Returns what the request on its way comes to, once; waits for good without a request.
pub(super) async fn next<F: Future>(mut pending: Pin<&mut Option<F>>) -> F::Output {
    let Some(request) = pending.as_mut().as_pin_mut() else {
        return std::future::pending().await;
    };
    let input = request.await;
    pending.set(None);
    input
}

/// The end of the time in which something may be sent, by a clock that does not step. Without one it
/// may be sent at any time.
#[derive(Debug, Default)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// Returns the end of a time from now on.
    pub(super) fn within(time: Duration) -> Self {
        Self(Instant::now().checked_add(time))
    }

    /// Returns the time that is left, if it is limited.
    pub(super) fn left(&self) -> Option<Duration> {
        self.0.map(|by| by.saturating_duration_since(Instant::now()))
    }

    /// Returns a time, or what is left if that is shorter.
    pub(super) fn cut(&self, time: Duration) -> Duration {
        self.left().map_or(time, |left| left.min(time))
    }

    /// Reports whether it has passed, once.
    pub(super) fn pass(&mut self) -> bool {
        self.0.take_if(|by| *by <= Instant::now()).is_some()
    }
}

/// Waits for a time, and no longer than until the clock is to be looked at again; for good without one.
pub(super) async fn sleep(left: Option<Duration>) {
    let Some(left) = left else { return std::future::pending().await };
    tokio::time::sleep(left.min(MAX_SLEEP)).await;
}

/// Returns the time that is left until then.
pub(super) fn left(at: UnixMillis, now: UnixMillis) -> Duration {
    if at > now { at.abs_diff(now) } else { Duration::ZERO }
}
