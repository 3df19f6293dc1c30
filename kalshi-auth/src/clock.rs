//! Time as an argument. Only [`SystemClock`] reads the clock of the machine.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use kalshi_types::UnixMillis;

/// The source of the time that a [`Signer`](crate::Signer) signs with.
///
/// The exchange refuses a request whose time is off by more than a few seconds. A client that
/// learns the offset of its machine's clock, from the `Date` header of a response for example, can
/// correct for it with a clock of its own.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the time now.
    fn now(&self) -> UnixMillis;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that stands still until it is set, for tests and simulations.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use kalshi_auth::{Clock, ManualClock, UnixMillis};
///
/// let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(1_000)));
/// clock.advance(Duration::from_millis(5));
/// assert_eq!(clock.now(), UnixMillis::from_millis(1_005));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock at the edge")]
    fn now(&self) -> UnixMillis {
        SystemTime::now().into()
    }
}

impl ManualClock {
    /// Returns a clock that stands at `time`.
    pub const fn at(time: UnixMillis) -> Self {
        Self(AtomicI64::new(time.as_millis()))
    }

    /// Sets the time, forwards or backwards.
    pub fn set(&self, time: UnixMillis) {
        self.0.store(time.as_millis(), Ordering::SeqCst);
    }

    /// Moves the time forwards; it stops at the latest time there is.
    pub fn advance(&self, by: Duration) {
        let later = |millis| Some(UnixMillis::from_millis(millis).saturating_add(by).as_millis());
        // The closure never refuses, so there is no error to report.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> UnixMillis {
        C::now(self)
    }
}
