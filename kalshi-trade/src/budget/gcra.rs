//! One token bucket: pure, in whole nanoseconds, with the time as an argument.
//!
//! The state is one number, the time at which the bucket will be full again, so that it can sit in
//! a file or in a message. It has no clock and no lock of its own.

use thiserror::Error;

/// Nanoseconds since a start that the owner of a bucket has fixed.
pub type Nanos = u64;

const SECOND: u128 = 1_000_000_000;

/// The longest time to a full bucket that a process with other limits may have written: no bucket of the
/// exchange takes longer to fill.
const FAR: Nanos = 5 * SECOND_NANOS;

const SECOND_NANOS: Nanos = 1_000_000_000;

/// The greatest refill rate and capacity that a [`Limit`] accepts.
const MAX_TOKENS: u64 = 1_000_000_000;

/// The refill rate and the capacity of a bucket.
///
/// # Examples
///
/// ```
/// use kalshi_trade::budget::{Gcra, Limit};
///
/// let limit = Limit::new(100, 300)?;
/// let mut bucket = Gcra::full();
/// assert!((0..30).all(|_| bucket.try_take(0, 10, 0, limit).is_ok()));
/// // The thirty-first has to wait until ten tokens are refilled: a tenth of a second.
/// assert_eq!(bucket.try_take(0, 10, 0, limit), Err(Some(100_000_000)));
/// assert_eq!(bucket.try_take(100_000_000, 10, 0, limit), Ok(()));
/// # Ok::<(), kalshi_trade::budget::InvalidLimit>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    refill: u64,
    capacity: u64,
}

/// A refill rate or capacity that no bucket can have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "a bucket of {capacity} tokens that refills at {refill} a second is invalid: both are between 1 \
     and {MAX_TOKENS}"
)]
pub struct InvalidLimit {
    /// Tokens a second.
    pub refill: u64,
    /// Tokens.
    pub capacity: u64,
}

impl Limit {
    /// Returns the limit of a bucket that refills at `refill` tokens a second up to `capacity`.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`]: one of them is 0 or above a billion.
    pub const fn new(refill: u64, capacity: u64) -> Result<Self, InvalidLimit> {
        if refill == 0 || capacity == 0 || refill > MAX_TOKENS || capacity > MAX_TOKENS {
            return Err(InvalidLimit { refill, capacity });
        }
        Ok(Self { refill, capacity })
    }

    /// Returns a limit of the built-in tables, whose numbers are in range.
    pub(crate) const fn known(refill: u64, capacity: u64) -> Self {
        assert!(refill > 0 && capacity > 0 && refill <= MAX_TOKENS && capacity <= MAX_TOKENS);
        Self { refill, capacity }
    }

    /// Returns the refill rate, in tokens a second.
    pub const fn refill(self) -> u64 {
        self.refill
    }

    /// Returns the capacity, in tokens.
    pub const fn capacity(self) -> u64 {
        self.capacity
    }

    /// Returns the time in which `tokens` are refilled, rounded up.
    pub fn time_of(self, tokens: u64) -> Nanos {
        let nanos = (u128::from(tokens) * SECOND).div_ceil(u128::from(self.refill));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Returns the tokens that are refilled within a time, rounded down.
    pub fn tokens_in(self, nanos: Nanos) -> u64 {
        let tokens = u128::from(nanos) * u128::from(self.refill) / SECOND;
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }

    /// Returns the time in which an empty bucket fills.
    pub fn fill_time(self) -> Nanos {
        self.time_of(self.capacity)
    }
}

/// A token bucket by the generic cell rate algorithm: the time at which it will be full again.
///
/// # Examples
///
/// See [`Limit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gcra(Nanos);

impl Gcra {
    /// Returns a full bucket.
    pub const fn full() -> Self {
        Self(0)
    }

    /// Returns an empty bucket.
    pub fn empty(now: Nanos, limit: Limit) -> Self {
        Self(now.saturating_add(limit.fill_time()))
    }

    /// Returns the bucket with a state that [`state`](Self::state) returned.
    pub const fn from_state(state: Nanos) -> Self {
        Self(state)
    }

    /// Returns the whole state: the time at which the bucket will be full again.
    pub const fn state(self) -> Nanos {
        self.0
    }

    /// Returns the time until the bucket is full.
    ///
    /// It is never more than an empty bucket takes: a state that is further ahead was written before
    /// the clock was set back, and counts as empty.
    pub fn debt(self, now: Nanos, limit: Limit) -> Nanos {
        self.0.saturating_sub(now).min(limit.fill_time())
    }

    /// Makes a bucket an empty one whose state is so far ahead that it was written before the clock was
    /// set back. The state has to be kept, also where nothing is taken: otherwise the bucket stays empty
    /// until the old time comes again.
    ///
    /// A state that is up to 5 s ahead is left alone. It may be that of a process that knows other
    /// limits.
    pub fn repair(&mut self, now: Nanos, limit: Limit) {
        if self.0.saturating_sub(now) > limit.fill_time().max(FAR) {
            *self = Self::empty(now, limit);
        }
    }

    /// Returns the whole tokens that are in the bucket.
    pub fn available(self, now: Nanos, limit: Limit) -> u64 {
        limit.tokens_in(limit.fill_time().saturating_sub(self.debt(now, limit)))
    }

    /// Takes `cost` tokens, if `reserve` tokens are left then.
    ///
    /// # Errors
    ///
    /// The time to wait; `None` if `cost` and `reserve` are more than the bucket holds.
    pub fn try_take(
        &mut self,
        now: Nanos,
        cost: u64,
        reserve: u64,
        limit: Limit,
    ) -> Result<(), Option<Nanos>> {
        match self.wait(now, cost, reserve, limit) {
            Some(0) => {
                self.take(now, cost, limit);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Returns the time until `cost` tokens can be taken with `reserve` tokens left; `None` if they
    /// are more than the bucket holds.
    pub fn wait(self, now: Nanos, cost: u64, reserve: u64, limit: Limit) -> Option<Nanos> {
        let wanted = cost.saturating_add(reserve);
        if wanted > limit.capacity {
            return None;
        }
        // Rounding up on one side and down on the other never admits what is not there.
        let room = limit.fill_time().saturating_sub(limit.time_of(wanted));
        Some(self.debt(now, limit).saturating_sub(room))
    }

    /// Takes `cost` tokens, whether they are there or not. No debt is more than an empty bucket plus
    /// this cost.
    pub fn take(&mut self, now: Nanos, cost: u64, limit: Limit) {
        let full_at = now.saturating_add(self.debt(now, limit));
        self.0 = full_at.saturating_add(limit.time_of(cost));
    }

    /// Converts the bucket from one limit to another: it keeps the tokens that were taken from it, and
    /// owes no more than an empty one.
    pub fn rescale(&mut self, now: Nanos, from: Limit, to: Limit) {
        if from == to {
            self.0 = self.0.min(now.saturating_add(to.fill_time()));
            return;
        }
        let debt = u128::from(self.debt(now, from));
        let debt = (debt * u128::from(from.refill)).div_ceil(u128::from(to.refill));
        let debt = u64::try_from(debt).unwrap_or(u64::MAX).min(to.fill_time());
        self.0 = now.saturating_add(debt);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A bucket as the exchange describes it, in exact fractions: billionths of a token.
    struct Naive {
        content: u128,
        at: Nanos,
    }

    impl Naive {
        fn full(limit: Limit) -> Self {
            Self { content: u128::from(limit.capacity) * SECOND, at: 0 }
        }

        fn refill(&mut self, now: Nanos, limit: Limit) {
            let passed = u128::from(now.saturating_sub(self.at));
            let full = u128::from(limit.capacity) * SECOND;
            self.content = (self.content + passed * u128::from(limit.refill)).min(full);
            self.at = self.at.max(now);
        }

        fn admit(&mut self, now: Nanos, cost: u64, limit: Limit) -> bool {
            self.refill(now, limit);
            let cost = u128::from(cost) * SECOND;
            let is_admitted = cost <= self.content;
            if is_admitted {
                self.content -= cost;
            }
            is_admitted
        }
    }

    fn limits() -> impl Strategy<Value = Limit> {
        (1_u64..20_000, 1_u64..40_000).prop_map(|(rate, size)| Limit::new(rate, size).unwrap())
    }

    proptest! {
        #[test]
        fn whatever_is_admitted_is_in_the_exact_bucket(
            limit in limits(),
            requests in proptest::collection::vec((0_u64..200_000_000, 1_u64..300), 1..200),
        ) {
            let (mut bucket, mut naive) = (Gcra::full(), Naive::full(limit));
            let mut now = 0;
            for (pause, cost) in requests {
                now += pause;
                if bucket.try_take(now, cost, 0, limit).is_ok() {
                    prop_assert!(naive.admit(now, cost, limit), "{cost} at {now}");
                }
            }
        }

        #[test]
        fn what_the_exact_bucket_has_is_admitted_within_a_microsecond(
            limit in limits(),
            requests in proptest::collection::vec((0_u64..200_000_000, 1_u64..300), 1..200),
        ) {
            // Both see the same requests; each rounds up by less than a nanosecond.
            let (mut bucket, mut naive) = (Gcra::full(), Naive::full(limit));
            let mut now = 0;
            for (pause, cost) in requests {
                now += pause;
                if naive.admit(now, cost, limit) {
                    let wait = bucket.wait(now, cost, 0, limit);
                    prop_assert!(wait.is_some_and(|wait| wait < 1_000), "{wait:?} for {cost}");
                    bucket.take(now, cost, limit);
                }
            }
        }

        #[test]
        fn the_wait_that_is_named_is_enough_and_not_too_long(
            limit in limits(), cost in 1_u64..300, reserve in 0_u64..100, used in 0_u64..40_000,
        ) {
            let mut bucket = Gcra::full();
            bucket.take(5, used % (limit.capacity + 1), limit);
            match bucket.wait(5, cost, reserve, limit) {
                None => prop_assert!(cost + reserve > limit.capacity),
                Some(0) => prop_assert!(bucket.try_take(5, cost, reserve, limit).is_ok()),
                Some(wait) => {
                    let mut early = bucket;
                    prop_assert!(early.try_take(5 + wait - 1, cost, reserve, limit).is_err());
                    prop_assert!(bucket.try_take(5 + wait, cost, reserve, limit).is_ok());
                }
            }
        }

        #[test]
        fn a_clock_that_steps_back_costs_one_bucket_at_most(
            limit in limits(), ahead in 0_u64..u64::MAX / 2, cost in 1_u64..300,
        ) {
            let mut bucket = Gcra::full();
            bucket.take(ahead, cost, limit);
            prop_assert!(bucket.debt(0, limit) <= limit.fill_time());
            let wait = bucket.wait(0, 1, 0, limit);
            prop_assert!(wait.is_some_and(|wait| wait <= limit.fill_time()));
            // It fills from then on, by both ways in which it is kept.
            let mut converted = bucket;
            converted.rescale(0, limit, limit);
            bucket.repair(0, limit);
            let full_at = limit.fill_time();
            prop_assert_eq!(converted.available(full_at, limit), limit.capacity);
            let full_at = full_at.max(FAR);
            prop_assert_eq!(bucket.available(full_at, limit), limit.capacity);
        }

        #[test]
        fn a_bucket_of_this_clock_is_not_repaired(
            limit in limits(), used in 0_u64..40_000, now in 0_u64..u64::MAX / 2,
        ) {
            let mut bucket = Gcra::full();
            bucket.take(now, used % (limit.capacity + 1), limit);
            let before = bucket;
            bucket.repair(now, limit);
            prop_assert_eq!(bucket, before);
        }

        #[test]
        fn a_new_rate_keeps_what_was_taken(from in limits(), to in limits(), used in 0_u64..300) {
            let mut bucket = Gcra::full();
            bucket.take(0, used, from);
            let before = from.tokens_in(bucket.debt(0, from));
            bucket.rescale(0, from, to);
            let after = to.tokens_in(bucket.debt(0, to));
            let kept = before.min(to.capacity);
            prop_assert!(after >= kept.saturating_sub(1) && after <= kept + 2, "{before} {after}");
        }

        #[test]
        fn no_input_overflows(state: u64, now: u64, cost: u64, reserve: u64) {
            let limit = Limit::new(1, 1_000_000_000).unwrap();
            let mut bucket = Gcra::from_state(state);
            bucket.take(now, cost, limit);
            let _ = bucket.try_take(now, cost, reserve, limit);
            bucket.rescale(now, limit, Limit::new(1_000_000_000, 1).unwrap());
            prop_assert!(bucket.available(now, limit) <= limit.capacity);
        }
    }

    #[test]
    fn a_limit_without_tokens_is_refused() {
        for (refill, capacity) in [(0, 1), (1, 0), (MAX_TOKENS + 1, 1), (1, u64::MAX)] {
            assert_eq!(Limit::new(refill, capacity), Err(InvalidLimit { refill, capacity }));
        }
    }

    #[test]
    fn fractions_are_never_counted_on() {
        let limit = Limit::new(3, 3).unwrap();
        // A third of a second is more than 333,333,333 ns.
        assert_eq!([limit.time_of(1), limit.time_of(3)], [333_333_334, 1_000_000_000]);
        assert_eq!([333_333_333, 333_333_334].map(|time| limit.tokens_in(time)), [0, 1]);
        // What is owed at one rate is owed at another.
        let faster = Limit::new(7, 7).unwrap();
        let mut bucket = Gcra::from_state(1);
        bucket.rescale(0, limit, faster);
        assert_eq!(bucket.debt(0, faster), 1, "3/7 ns are not forgotten");
    }

    #[test]
    fn an_empty_bucket_refills_at_its_rate() {
        let limit = Limit::new(200, 600).unwrap();
        let bucket = Gcra::empty(7, limit);
        assert_eq!(bucket.available(7, limit), 0);
        assert_eq!(bucket.available(7 + 50_000_000, limit), 10);
        assert_eq!(bucket.available(7 + 3_000_000_000, limit), 600);
        assert_eq!(Gcra::from_state(bucket.state()), bucket);
    }
}
