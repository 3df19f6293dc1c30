//! Time as an argument. Only [`SystemClock`] reads the clock of the machine.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::error::{AuthError, AuthErrorKind};

/// A time in milliseconds since 1970-01-01T00:00:00Z, as the exchange counts it.
///
/// Printed, it is the text of the header and of the signed text. Parsing accepts only that text, so
/// that what was read prints back unchanged.
///
/// ```
/// use kalshi_auth::Timestamp;
///
/// let timestamp: Timestamp = "1703123456789".parse()?;
/// assert_eq!(timestamp.as_millis(), 1_703_123_456_789);
/// assert!("01703123456789".parse::<Timestamp>().is_err());
/// # Ok::<(), kalshi_auth::AuthError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// Where a [`Signer`](crate::Signer) takes the time from.
///
/// The exchange refuses a request whose time is off by more than a few seconds. A client that
/// learns the offset of its machine's clock, from the `Date` header of a response say, can correct
/// for it with a clock of its own.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that stands still until it is set, for tests and simulations.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use kalshi_auth::{Clock, ManualClock, Timestamp};
///
/// let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000)));
/// clock.advance(Duration::from_millis(5));
/// assert_eq!(clock.now(), Timestamp::from_millis(1_005));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl Timestamp {
    /// From milliseconds since 1970-01-01T00:00:00Z.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The milliseconds since 1970-01-01T00:00:00Z.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time between the two, whichever is the earlier.
    pub const fn abs_diff(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = AuthError;

    fn from_str(text: &str) -> Result<Self, AuthError> {
        let canonical = text.bytes().all(|byte| byte.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'));
        match text.parse() {
            Ok(millis) if canonical => Ok(Self(millis)),
            _ => Err(AuthError::new(
                AuthErrorKind::InvalidRequest,
                "a timestamp is a number of milliseconds since 1970, in decimal digits",
            )),
        }
    }
}

impl TryFrom<&str> for Timestamp {
    type Error = AuthError;

    fn try_from(text: &str) -> Result<Self, AuthError> {
        text.parse()
    }
}

impl From<SystemTime> for Timestamp {
    /// A time before 1970 becomes 1970.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock at the edge")]
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

impl ManualClock {
    /// A clock that stands at the time.
    pub const fn at(time: Timestamp) -> Self {
        Self(AtomicU64::new(time.0))
    }

    /// Sets the time, forwards or backwards.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.0, Ordering::SeqCst);
    }

    /// Moves the time forwards.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        C::now(self)
    }
}
