//! Buckets that several budgets share: of several processes, or of several parts of one.
//!
//! A budget takes slices, the tokens of 20 ms of refill or those of its next request if that is
//! more, so that at most one of them is lost when a process dies.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use kalshi_sdk::{auth::Clock, middleware::async_trait};
use thiserror::Error;
use tokio::time::Instant;

use crate::budget::{
    cost::BucketKey,
    gcra::{Gcra, Limit, Nanos},
    scheduler::Slice,
};

/// A place where several budgets keep their buckets.
///
/// An implementation keeps one [`Gcra`] for each [`BucketKey`] and changes it atomically:
/// [`take_slice`] is what happens in between, and what it leaves is kept, also where it grants nothing.
/// Its time has to be the same for all that share it.
///
/// An answer that takes longer than 2 s counts as an error.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Takes tokens from a bucket.
    ///
    /// # Errors
    ///
    /// [`BackendError`]: the place could not be asked. No tokens were taken, or they are lost: at
    /// most one slice.
    ///
    /// # Cancellation
    ///
    /// A dropped future may have taken its slice, which is then lost.
    async fn take(&self, slice: &Slice) -> Result<Grant, BackendError>;

    /// Empties a bucket, after a 429: the others are to wait, too.
    ///
    /// # Errors
    ///
    /// [`BackendError`]: the place could not be asked.
    async fn drain(&self, key: BucketKey, limit: Limit) -> Result<(), BackendError>;
}

/// The answer of a [`Backend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grant {
    /// The tokens that were taken: [`Slice::most`] or [`Slice::least`].
    Tokens(u64),
    /// None before this time has passed.
    Wait(Nanos),
}

/// A back end that could not be asked.
#[derive(Debug, Error)]
#[error("{text}")]
pub struct BackendError {
    text: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl BackendError {
    /// Returns an error that says what failed.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), source: None }
    }

    /// Sets the cause.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Takes a slice from a bucket, as a [`Backend`] does in one atomic step.
///
/// Keep the bucket, also where nothing is granted: a state of before the clock was set back is
/// [repaired](Gcra::repair) first.
///
/// # Examples
///
/// ```
/// use kalshi_sdk::operation::Lane;
/// use kalshi_trade::budget::{
///     BucketKey, Charge, Class, Demand, Gcra, Grant, Pool, Scheduler, take_slice,
/// };
///
/// let mut scheduler = Scheduler::new().with_shared_buckets();
/// let reads = BucketKey::new(Lane::EventContracts, Pool::Read);
/// scheduler.submit(0, Demand::new(Charge::single(reads, 10), Class::Normal))?;
/// scheduler.run(0);
/// let slice = scheduler.wanted().unwrap();
/// let mut bucket = Gcra::full();
/// assert_eq!(take_slice(&mut bucket, 0, &slice), Grant::Tokens(10));
/// # Ok::<(), kalshi_trade::budget::Refusal>(())
/// ```
pub fn take_slice(bucket: &mut Gcra, now: Nanos, slice: &Slice) -> Grant {
    bucket.repair(now, slice.limit);
    for tokens in [slice.most, slice.least] {
        if bucket.try_take(now, tokens, slice.reserve, slice.limit).is_ok() {
            return Grant::Tokens(tokens);
        }
    }
    match bucket.wait(now, slice.least, slice.reserve, slice.limit) {
        Some(wait) => Grant::Wait(wait),
        // It is more than the bucket holds, as its limit has changed: the scheduler sees that, too.
        None => Grant::Wait(slice.limit.fill_time()),
    }
}

/// Returns a clock's time, in nanoseconds since 1970.
pub(crate) fn wall_nanos(clock: &dyn Clock) -> Nanos {
    u64::try_from(clock.now().as_millis()).unwrap_or(0).saturating_mul(1_000_000)
}

/// Buckets in memory, for several budgets of one process.
///
/// A budget that is cloned shares its buckets anyway; this is for budgets that must not share their
/// queues, and for tests. Their time is that since they were made, which no setting of the machine's
/// clock changes.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use kalshi_trade::budget::{Budget, MemoryBackend};
///
/// let shared = Arc::new(MemoryBackend::new());
/// let first = Budget::builder().with_backend(shared.clone()).build();
/// let second = Budget::builder().with_backend(shared).build();
/// # let _ = (first, second);
/// ```
#[derive(Debug)]
pub struct MemoryBackend {
    start: Instant,
    /// The clock, where it is not the time since the start.
    clock: Option<Arc<dyn Clock>>,
    buckets: Mutex<HashMap<BucketKey, Gcra>>,
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBackend {
    /// Returns full buckets.
    pub fn new() -> Self {
        Self { start: Instant::now(), clock: None, buckets: Mutex::default() }
    }

    /// Sets the clock: the time since the buckets were made unless set.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    fn with_bucket<T>(&self, key: BucketKey, change: impl FnOnce(&mut Gcra, Nanos) -> T) -> T {
        let now = match &self.clock {
            Some(clock) => wall_nanos(clock.as_ref()),
            None => u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        };
        // A bucket is changed in one step, so that a panic leaves it whole.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        change(buckets.entry(key).or_default(), now)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn take(&self, slice: &Slice) -> Result<Grant, BackendError> {
        Ok(self.with_bucket(slice.key, |bucket, now| take_slice(bucket, now, slice)))
    }

    async fn drain(&self, key: BucketKey, limit: Limit) -> Result<(), BackendError> {
        self.with_bucket(key, |bucket, now| *bucket = Gcra::empty(now, limit));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kalshi_sdk::{UnixMillis, auth::ManualClock, operation::Lane};

    use super::*;
    use crate::budget::Pool;

    fn slice() -> Slice {
        Slice {
            key: BucketKey::new(Lane::EventContracts, Pool::Write),
            least: 10,
            most: 30,
            reserve: 20,
            limit: Limit::known(100, 100),
            is_urgent: false,
        }
    }

    #[test]
    fn a_slice_is_what_there_is_above_the_reserve_and_the_wait_is_for_the_least() {
        let mut bucket = Gcra::full();
        let taken = [(); 5].map(|()| take_slice(&mut bucket, 0, &slice()));
        let tokens = [30, 30, 10, 10].map(Grant::Tokens);
        assert_eq!(taken[..4], tokens);
        assert_eq!(taken[4], Grant::Wait(100_000_000));
        assert_eq!(bucket.available(0, slice().limit), 20);
    }

    #[tokio::test]
    async fn buckets_in_memory_are_emptied_for_all() {
        let clock = ManualClock::at(UnixMillis::from_millis(1_795_000_000_000));
        let buckets = MemoryBackend::new().with_clock(Arc::new(clock));
        assert_eq!(buckets.take(&slice()).await.unwrap(), Grant::Tokens(30));
        buckets.drain(slice().key, slice().limit).await.unwrap();
        assert_eq!(buckets.take(&slice()).await.unwrap(), Grant::Wait(300_000_000));
    }

    #[tokio::test(start_paused = true)]
    async fn buckets_in_memory_fill_with_the_time_that_passes() {
        let buckets = MemoryBackend::new();
        buckets.drain(slice().key, slice().limit).await.unwrap();
        assert_eq!(buckets.take(&slice()).await.unwrap(), Grant::Wait(300_000_000));
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(buckets.take(&slice()).await.unwrap(), Grant::Tokens(10));
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_empties_a_bucket_in_memory_and_no_more() {
        let start = UnixMillis::from_millis(1_795_000_000_000);
        let clock = Arc::new(ManualClock::at(start));
        let buckets = MemoryBackend::new().with_clock(clock.clone());
        assert_eq!(buckets.take(&slice()).await.unwrap(), Grant::Tokens(30));
        clock.set(start.saturating_sub(Duration::from_secs(3_600)));
        assert_eq!(buckets.take(&slice()).await.unwrap(), Grant::Wait(300_000_000));
        clock.advance(Duration::from_millis(300));
        assert_eq!(buckets.take(&slice()).await.unwrap(), Grant::Tokens(10));
    }
}
