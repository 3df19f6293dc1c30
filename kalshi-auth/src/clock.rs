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
/// The exchange refuses a request whose time is off by more than a few seconds
/// (`header_timestamp_expired`). An [`OffsetClock`] corrects the clock of a machine that is off.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the time now.
    fn now(&self) -> UnixMillis;

    /// Returns the time now without any correction: that of the machine, from which the offset of
    /// the exchange's clock is counted.
    fn uncorrected(&self) -> UnixMillis {
        self.now()
    }
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

    fn uncorrected(&self) -> UnixMillis {
        C::uncorrected(self)
    }
}

/// The difference between the exchange's clock and that of the machine, in milliseconds.
///
/// Above zero if the exchange is ahead. Learned from the `Date` header of an answer, which has whole
/// seconds, it is right to within about a second.
///
/// # Examples
///
/// ```
/// use kalshi_auth::{ClockOffset, UnixMillis};
///
/// let machine = UnixMillis::from_millis(1_795_000_000_000);
/// let exchange = UnixMillis::from_millis(1_795_000_002_000);
/// assert_eq!(ClockOffset::between(machine, exchange).as_millis(), 2_000);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClockOffset(i64);

impl ClockOffset {
    /// No difference.
    pub const ZERO: Self = Self(0);

    /// Returns an offset of milliseconds; above zero if the exchange is ahead.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the offset between two readings of the same moment.
    pub const fn between(machine: UnixMillis, exchange: UnixMillis) -> Self {
        Self(exchange.as_millis().saturating_sub(machine.as_millis()))
    }

    /// Returns the milliseconds; above zero if the exchange is ahead.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the size of the offset, whichever clock is ahead.
    pub const fn abs(self) -> Duration {
        Duration::from_millis(self.0.unsigned_abs())
    }
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+} ms", self.0)
    }
}

/// A clock that corrects another one by an offset, which is zero until it is set.
///
/// ```
/// use std::sync::Arc;
///
/// use kalshi_auth::{Clock, ClockOffset, ManualClock, OffsetClock, UnixMillis};
///
/// let machine = ManualClock::at(UnixMillis::from_millis(60_000));
/// let clock = OffsetClock::new(machine);
/// clock.set_offset(ClockOffset::from_millis(-1_500));
/// assert_eq!(clock.now(), UnixMillis::from_millis(58_500));
/// assert_eq!(clock.uncorrected(), UnixMillis::from_millis(60_000));
/// ```
#[derive(Debug, Default)]
pub struct OffsetClock<C = SystemClock> {
    clock: C,
    offset: AtomicI64,
}

impl<C: Clock> OffsetClock<C> {
    /// Returns a clock that corrects `clock`, by nothing yet.
    pub const fn new(clock: C) -> Self {
        Self { clock, offset: AtomicI64::new(0) }
    }

    /// Sets the offset, in place of the one before. Setting the same offset twice changes nothing.
    pub fn set_offset(&self, offset: ClockOffset) {
        self.offset.store(offset.0, Ordering::SeqCst);
    }

    /// Returns the offset.
    pub fn offset(&self) -> ClockOffset {
        ClockOffset(self.offset.load(Ordering::SeqCst))
    }
}

impl<C: Clock> Clock for OffsetClock<C> {
    fn now(&self) -> UnixMillis {
        let millis = self.clock.now().as_millis().saturating_add(self.offset().0);
        UnixMillis::from_millis(millis)
    }

    fn uncorrected(&self) -> UnixMillis {
        self.clock.uncorrected()
    }
}
