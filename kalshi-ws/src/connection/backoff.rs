//! Pauses between attempts.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The pause between attempts: twice as long after each, less up to half of it at random.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_ws::Backoff;
///
/// let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// assert!(backoff.delay(3) <= Duration::from_millis(400));
/// assert!(backoff.delay(3) >= Duration::from_millis(200));
/// ```
#[derive(Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    random: Arc<dyn Fn() -> u32 + Send + Sync>,
}

impl Backoff {
    /// Returns pauses from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        // Each hasher of the standard library starts from keys of its own, drawn at random.
        let keys = RandomState::new();
        let count = AtomicU64::new(0);
        let random = move || {
            let next = count.fetch_add(1, Ordering::Relaxed);
            // The lower half is as random as all of it.
            u32::try_from(keys.hash_one(next) & u64::from(u32::MAX)).unwrap_or_default()
        };
        Self { first, longest, random: Arc::new(random) }
    }

    /// Takes its random numbers from `random`, which are evenly spread over all of `u32`.
    pub fn with_random(self, random: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        Self { random: Arc::new(random), ..self }
    }

    /// Returns the pause before the next attempt, after `failed` failed ones.
    pub fn delay(&self, failed: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failed.saturating_sub(1).min(20));
        let full = self.first.saturating_mul(factor).min(self.longest);
        let nanos = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        let spread = u128::from(nanos / 2) * u128::from((self.random)()) / u128::from(u32::MAX);
        full.saturating_sub(Duration::from_nanos(u64::try_from(spread).unwrap_or_default()))
    }

    pub(crate) const fn longest(&self) -> Duration {
        self.longest
    }
}

impl Default for Backoff {
    /// Returns pauses from a quarter of a second to half a minute.
    fn default() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(30))
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff")
            .field("first", &self.first)
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}
