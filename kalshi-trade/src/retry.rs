//! Retries by effect: what may have been carried out is not sent again.
//!
//! | | reads ([`Safe`]) | writes with a key, other writes |
//! |---|---|---|
//! | no connection could be made | retry | retry |
//! | 429 | retry | retry |
//! | 401 while the clock is off | corrected and retried once, if asked for | the same, unless a [placement](crate::placement) sends a time of expiry |
//! | any other refusal (4xx) | no | no |
//! | 408, 5xx, a timeout, a lost connection | retry | **no**: its effect is unknown |
//! | 2xx, also with an error in it | no | no |
//!
//! A write whose effect is unknown is given back with [`Effect::Unknown`]: read the state back. With
//! the key of an order a retry is refused if the first was carried out, but whether it was is not in
//! that answer.
//!
//! An order or an amend of a placement with a time of expiry is not retried after a correction of the
//! clock: if the time was reckoned by the clock as it was, the order would rest for too long. It is
//! refused, with 401; the clock is right for the next one.
//!
//! A body that breaks off after a 2xx is read above all layers: that is not retried here.
//!
//! [`Safe`]: kalshi_sdk::operation::RetrySafety::Safe

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use kalshi_sdk::{
    Effect, Operation, UnixMillis,
    auth::{Clock, ClockOffset, OffsetClock},
    middleware::{
        self, Error, Extensions, Middleware, Next, Request, Response, Result, async_trait,
    },
    operation::{Lane, RetrySafety},
};
use tokio::time::{Instant, sleep};

use crate::budget::{
    layer::{CallDeadline, RateLimitHandled, end_by},
    withdrawal::SendLimit,
};

/// The attempts of a call, unless set.
pub const DEFAULT_ATTEMPTS: u32 = 3;

/// The longest pause before the second attempt, unless set. It doubles with each.
pub const DEFAULT_FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause, unless set.
pub const DEFAULT_MAX_PAUSE: Duration = Duration::from_secs(2);

/// The tokens of a quota of retries.
const QUOTA: u32 = 500;

/// What a retry takes from the quota; after a 429 the exchange is well, and it takes less.
const RETRY_COST: u32 = 14;
const RATE_LIMITED_COST: u32 = 5;

/// Clients have one host, or a few.
const MAX_QUOTAS: usize = 64;

/// A clock is off if it is by more than this: the `Date` header has whole seconds.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// A layer that retries what is safe to retry. See the [module](self).
///
/// Retries have a quota for each host and lane, so that they do not add to the load of a host that is
/// down: each takes from it, each success gives some back.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_sdk::{Client, OperationId};
/// use kalshi_sim::{Exchange, Fault, FaultKind, Role};
/// use kalshi_trade::{
///     budget::{Budget, WithBudget as _},
///     retry::Retry,
/// };
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let exchange = Exchange::start().await?;
/// exchange.faults().add(
///     Fault::builder(FaultKind::status(503))
///         .with_operation(OperationId::GetPositions)
///         .with_times(1)
///         .build(),
/// )?;
/// let client = Client::builder()
///     .with_environment(exchange.environment())
///     .with_credentials(exchange.credentials(Role::Trader).ok_or("no key")?.clone())
///     // Above the budget, so that each attempt pays.
///     .with_middleware(Retry::builder().with_deadline(Duration::from_secs(10)).build())
///     .with_budget(&Budget::new())
///     .build()?;
/// client.get_positions().send().await?;
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
/// ```
#[derive(Clone)]
pub struct Retry(Arc<Inner>);

struct Inner {
    attempts: u32,
    first_pause: Duration,
    max_pause: Duration,
    deadline: Option<Duration>,
    correct: Option<Correct>,
    quotas: Mutex<HashMap<(String, Lane), Quota>>,
}

/// Marks a request whose body has a time that may be reckoned by the clock that signs it. After a
/// correction of the clock it is not sent as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReckonedTime;

/// Sets a clock by the server's time; false if it was right.
type Correct = Box<dyn Fn(UnixMillis) -> bool + Send + Sync>;

/// The builder of a [`Retry`].
#[must_use = "call `build`"]
pub struct RetryBuilder {
    attempts: u32,
    first_pause: Duration,
    max_pause: Duration,
    deadline: Option<Duration>,
    correct: Option<Correct>,
}

impl RetryBuilder {
    /// Sets the attempts of a call, the first one included: [`DEFAULT_ATTEMPTS`] unless set.
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Sets the longest pause before the second attempt, which doubles with each:
    /// [`DEFAULT_FIRST_PAUSE`] unless set. A pause is between nothing and its longest, evenly.
    pub fn with_first_pause(mut self, pause: Duration) -> Self {
        self.first_pause = pause;
        self
    }

    /// Sets the longest pause: [`DEFAULT_MAX_PAUSE`] unless set.
    pub fn with_max_pause(mut self, pause: Duration) -> Self {
        self.max_pause = pause;
        self
    }

    /// Sets the time limit of a whole call, its waits for tokens and its pauses included; none unless
    /// set. An attempt that is under way at that time ends with a timeout.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Corrects a clock by the `Date` of a 401 if that says that it is off, and retries once, unless the
    /// request may have a time that was reckoned by the clock as it was: see the [module](self). Give it
    /// the clock that the client signs with.
    pub fn with_clock_correction<C: Clock + 'static>(mut self, clock: Arc<OffsetClock<C>>) -> Self {
        self.correct = Some(Box::new(move |date| {
            // It was cut off to a whole second, half a second ago on average.
            let exchange = date.saturating_add(Duration::from_millis(500));
            let offset = ClockOffset::between(clock.uncorrected(), exchange);
            let off = offset.as_millis().abs_diff(clock.offset().as_millis());
            let is_off = Duration::from_millis(off) > CLOCK_TOLERANCE;
            if is_off {
                clock.set_offset(offset);
            }
            is_off
        }));
        self
    }

    /// Builds the layer.
    pub fn build(self) -> Retry {
        let Self { attempts, first_pause, max_pause, deadline, correct } = self;
        let quotas = Mutex::default();
        Retry(Arc::new(Inner { attempts, first_pause, max_pause, deadline, correct, quotas }))
    }
}

impl fmt::Debug for RetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBuilder").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("attempts", &self.0.attempts).finish_non_exhaustive()
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::builder().build()
    }
}

impl Retry {
    /// Returns a builder.
    pub fn builder() -> RetryBuilder {
        RetryBuilder {
            attempts: DEFAULT_ATTEMPTS,
            first_pause: DEFAULT_FIRST_PAUSE,
            max_pause: DEFAULT_MAX_PAUSE,
            deadline: None,
            correct: None,
        }
    }
}

/// What an attempt came to, as far as a retry depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// A success, or an answer that another attempt would not change.
    Final,
    /// No connection could be made.
    NotConnected,
    /// 429.
    RateLimited,
    /// 401: the clock may be off.
    Unauthorized,
    /// It may have been carried out, and the cause may pass.
    Unknown,
}

impl Attempt {
    fn of(result: &Result<Response>) -> Self {
        match result {
            Ok(response) => Self::of_status(response.status()),
            // That of another layer is its own business: it may have retried already.
            Err(Error::Middleware(_)) => Self::Final,
            Err(Error::Reqwest(error)) if error.is_builder() => Self::Final,
            Err(Error::Reqwest(_)) => match middleware::effect(result) {
                Effect::NotSent => Self::NotConnected,
                _ => Self::Unknown,
            },
        }
    }

    fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            429 => Self::RateLimited,
            401 => Self::Unauthorized,
            // 501 and 505 would be answered again.
            408 | 499 | 500 | 502..=504 | 506..=599 => Self::Unknown,
            _ => Self::Final,
        }
    }

    /// Reports whether an operation may be sent again after this.
    fn permits(self, safety: RetrySafety) -> bool {
        match self {
            Self::Final => false,
            Self::NotConnected | Self::RateLimited | Self::Unauthorized => true,
            Self::Unknown => safety == RetrySafety::Safe,
        }
    }

    fn cost(self) -> u32 {
        match self {
            Self::RateLimited => RATE_LIMITED_COST,
            _ => RETRY_COST,
        }
    }
}

/// Retries that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota(u32);

impl Quota {
    fn take(&mut self, cost: u32) -> bool {
        let left = self.0.checked_sub(cost);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    fn give(&mut self, tokens: u32) {
        self.0 = self.0.saturating_add(tokens).min(QUOTA);
    }
}

/// Waits, and reports whether another attempt may begin then.
async fn has_waited(limit: Option<&SendLimit>, wait: Duration) -> bool {
    let Some(limit) = limit else {
        sleep(wait).await;
        return true;
    };
    tokio::select! {
        biased;
        () = limit.withdrawn() => {}
        () = sleep(wait) => {}
    }
    !limit.is_over()
}

/// Returns the pause before a retry, the first one being 0: an even share of its longest.
fn pause(retry: u32, random: u64, first: Duration, max: Duration) -> Duration {
    let longest = first.saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX)).min(max);
    let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    let share = u128::from(nanos) * u128::from(random) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(share).unwrap_or(nanos))
}

impl Inner {
    fn with_quota<T>(&self, key: &(String, Lane), change: impl FnOnce(&mut Quota) -> T) -> T {
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        if quotas.len() >= MAX_QUOTAS && !quotas.contains_key(key) {
            quotas.clear();
        }
        change(quotas.entry(key.clone()).or_insert(Quota(QUOTA)))
    }

    /// Returns the pause before the next attempt; `None` if there is none.
    fn next(
        &self,
        attempt: Attempt,
        safety: RetrySafety,
        retry: u32,
        quota: &(String, Lane),
    ) -> Option<Duration> {
        if retry.saturating_add(1) >= self.attempts || !attempt.permits(safety) {
            return None;
        }
        if !self.with_quota(quota, |quota| quota.take(attempt.cost())) {
            tracing::warn!(host = quota.0, "too many retries: this call makes no more");
            return None;
        }
        // Without randomness the pause is its longest.
        let random = getrandom::u64().unwrap_or(u64::MAX);
        Some(pause(retry, random, self.first_pause, self.max_pause))
    }
}

#[async_trait]
impl Middleware for Retry {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let inner = &*self.0;
        // A request without an operation is not one of kalshi-sdk: nothing is known about it.
        let Some(operation) = extensions.get::<&'static Operation>().copied() else {
            return next.run(request, extensions).await;
        };
        let end = inner.deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        if let Some(end) = end {
            extensions.insert(CallDeadline(end));
        }
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let quota = (host, operation.cost.lane);
        let (mut retries, mut spent, mut is_corrected) = (0, 0, false);
        loop {
            if let Some(end) = end {
                end_by(&mut request, end);
            }
            // A body that is a stream cannot be sent twice; kalshi-sdk makes none.
            let again = request.try_clone();
            extensions.remove::<RateLimitHandled>();
            let result = next.clone().run(request, extensions).await;
            let attempt = Attempt::of(&result);
            if let Ok(response) = &result
                && response.status().is_success()
            {
                inner.with_quota(&quota, |quota| quota.give(spent.max(1)));
            }
            let Some(again) = again else { return result };
            let wait = match attempt {
                Attempt::Unauthorized => {
                    let date = result.as_ref().ok().and_then(middleware::server_date);
                    let correct = inner.correct.as_ref().filter(|_| !is_corrected);
                    is_corrected = date.zip(correct).is_some_and(|(date, correct)| correct(date));
                    let may_repeat = extensions.get::<ReckonedTime>().is_none();
                    (is_corrected && may_repeat).then_some(Duration::ZERO)
                }
                Attempt::RateLimited if extensions.get::<RateLimitHandled>().is_some() => None,
                _ => {
                    let wait = inner.next(attempt, operation.retry, retries, &quota);
                    retries += 1;
                    spent = attempt.cost();
                    wait
                }
            };
            let Some(wait) = wait else { return result };
            let begins = Instant::now().checked_add(wait);
            if end.is_some_and(|end| begins.is_none_or(|begins| begins >= end)) {
                return result;
            }
            tracing::debug!(operation = operation.id, ?attempt, ?wait, "retrying");
            if !has_waited(extensions.get::<SendLimit>(), wait).await {
                return result;
            }
            request = again;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFETIES: [RetrySafety; 3] =
        [RetrySafety::Safe, RetrySafety::WithKey("client_order_id"), RetrySafety::Reconcile];

    #[test]
    fn what_may_have_been_carried_out_is_retried_for_reads_only() {
        for (attempt, permitted) in [
            (Attempt::Final, [false, false, false]),
            (Attempt::NotConnected, [true, true, true]),
            (Attempt::RateLimited, [true, true, true]),
            (Attempt::Unknown, [true, false, false]),
        ] {
            assert_eq!(SAFETIES.map(|safety| attempt.permits(safety)), permitted, "{attempt:?}");
        }
    }

    #[test]
    fn no_success_and_no_refusal_is_retried() {
        for status in 100..600 {
            let attempt = Attempt::of_status(StatusCode::from_u16(status).unwrap());
            let expected = match status {
                429 => Attempt::RateLimited,
                401 => Attempt::Unauthorized,
                501 | 505 => Attempt::Final,
                408 | 499 | 500.. => Attempt::Unknown,
                _ => Attempt::Final,
            };
            assert_eq!(attempt, expected, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_withdrawn_or_late_is_not_retried() {
        use crate::budget::withdrawal::Withdrawal;

        let second = Duration::from_secs(1);
        assert!(has_waited(None, second).await);
        let withdrawal = Withdrawal::default();
        let limit = |within| SendLimit::new(within, [withdrawal.clone()]);
        assert!(has_waited(Some(&limit(None)), second).await);
        assert!(has_waited(Some(&limit(Some(2 * second))), second).await);
        assert!(!has_waited(Some(&limit(Some(second / 2))), second).await);
        let began = Instant::now();
        let (withdrawn, ()) = tokio::join!(
            async { has_waited(Some(&limit(None)), Duration::from_secs(3_600)).await },
            async { withdrawal.withdraw() },
        );
        assert!(!withdrawn && began.elapsed() < second);
    }

    #[test]
    fn pauses_double_up_to_their_longest() {
        let (first, max) = (DEFAULT_FIRST_PAUSE, DEFAULT_MAX_PAUSE);
        let longest: Vec<u128> =
            (0..8).map(|retry| pause(retry, u64::MAX, first, max).as_millis()).collect();
        assert_eq!(longest, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(pause(3, 0, first, max), Duration::ZERO);
        assert_eq!(pause(3, u64::MAX / 2, first, max).as_millis(), 199);
        assert_eq!(pause(u32::MAX, u64::MAX, Duration::MAX, max), max);
        assert!(pause(0, u64::MAX, Duration::MAX, Duration::MAX) > Duration::from_secs(1));
    }

    #[test]
    fn a_quota_ends_and_comes_back_with_successes() {
        let mut quota = Quota(QUOTA);
        let retries = (0..1_000).take_while(|_| quota.take(RETRY_COST)).count();
        assert_eq!(retries, 35);
        assert_eq!(quota, Quota(10));
        assert!(quota.take(RATE_LIMITED_COST));
        quota.give(9);
        assert!(quota.take(RETRY_COST));
        quota.give(u32::MAX);
        assert_eq!(quota, Quota(QUOTA));
    }

    #[test]
    fn quotas_are_bounded_and_kept_by_host_and_lane() {
        let retry = Retry::default();
        let key = |host: &str, lane| (host.to_owned(), lane);
        let (events, perps) = (key("a", Lane::EventContracts), key("a", Lane::Perpetuals));
        retry.0.with_quota(&events, |quota| quota.take(QUOTA));
        assert_eq!(retry.0.with_quota(&events, |quota| *quota), Quota(0));
        assert_eq!(retry.0.with_quota(&perps, |quota| *quota), Quota(QUOTA));
        for host in 0..1_000 {
            retry.0.with_quota(&key(&host.to_string(), Lane::EventContracts), |_| ());
        }
        assert!(retry.0.quotas.lock().unwrap().len() <= MAX_QUOTAS);
    }
}
