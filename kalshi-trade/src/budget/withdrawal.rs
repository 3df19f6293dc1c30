//! Ends the wait of a request before it is sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Withdraws a request that was given to a client and has not been sent: it waits for its tokens, or
/// for another attempt. Clones speak of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Withdrawal(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    is_set: AtomicBool,
    set: Notify,
}

impl Withdrawal {
    /// Withdraws it. What was sent is not called back.
    pub(crate) fn withdraw(&self) {
        self.0.is_set.store(true, Ordering::Release);
        self.0.set.notify_waiters();
    }

    fn is_withdrawn(&self) -> bool {
        self.0.is_set.load(Ordering::Acquire)
    }

    async fn withdrawn(&self) {
        loop {
            // It is notified of everything from here on.
            let set = self.0.set.notified();
            if self.is_withdrawn() {
                return;
            }
            set.await;
        }
    }
}

/// The limits of a request that is not to be sent late: no attempt of it begins after a time, or once
/// everything in it is withdrawn.
#[derive(Clone, Debug)]
pub(crate) struct SendLimit {
    by: Option<Instant>,
    /// One for each order of the request.
    withdrawals: Arc<[Withdrawal]>,
}

impl SendLimit {
    /// Returns the limits of a request for these orders, which begins within that time.
    pub(crate) fn new(within: Option<Duration>, withdrawals: impl Into<Arc<[Withdrawal]>>) -> Self {
        let by = within.and_then(|within| Instant::now().checked_add(within));
        Self { by, withdrawals: withdrawals.into() }
    }

    /// Returns the time that is left, if it is limited.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.by.map(|by| by.saturating_duration_since(Instant::now()))
    }

    /// Reports whether no attempt begins any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_withdrawn() || self.by.is_some_and(|by| Instant::now() > by)
    }

    /// Reports whether everything in the request is withdrawn.
    pub(crate) fn is_withdrawn(&self) -> bool {
        !self.withdrawals.is_empty() && self.withdrawals.iter().all(Withdrawal::is_withdrawn)
    }

    /// Waits until everything in the request is withdrawn.
    pub(crate) async fn withdrawn(&self) {
        if self.withdrawals.is_empty() {
            return std::future::pending().await;
        }
        for withdrawal in self.withdrawals.iter() {
            withdrawal.withdrawn().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_request_is_withdrawn_when_everything_in_it_is() {
        let (first, second) = (Withdrawal::default(), Withdrawal::default());
        let limit = SendLimit::new(None, [first.clone(), second.clone()]);
        let mut withdrawn = Box::pin(limit.withdrawn());
        assert_eq!(withdrawn.as_mut().now_or_never(), None);
        second.withdraw();
        second.withdraw();
        assert_eq!(withdrawn.as_mut().now_or_never(), None);
        assert!(!limit.is_withdrawn() && !limit.is_over());
        first.withdraw();
        assert_eq!(withdrawn.now_or_never(), Some(()));
        assert!(limit.is_withdrawn() && limit.is_over());
        assert_eq!(limit.withdrawn().now_or_never(), Some(()));
        // One of nothing is not withdrawn by that.
        let nothing = SendLimit::new(None, []);
        assert!(!nothing.is_withdrawn());
        assert_eq!(nothing.withdrawn().now_or_never(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_late_does_not_begin() {
        let limit = SendLimit::new(Some(Duration::from_millis(20)), [Withdrawal::default()]);
        assert_eq!(limit.left(), Some(Duration::from_millis(20)));
        tokio::time::advance(Duration::from_millis(20)).await;
        assert!(!limit.is_over(), "at its last moment it may still go");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(limit.is_over());
        assert_eq!(limit.left(), Some(Duration::ZERO));
        assert_eq!(SendLimit::new(None, []).left(), None);
    }
}
