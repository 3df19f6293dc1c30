//! The delay of reads and streams behind the exchange. Pure: the distance depends on the time and
//! the seed alone, so a run is repeated exactly.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// The time for which a random distance stays the same, in milliseconds.
const SLOT: i64 = 100;
/// The longest distance, in milliseconds.
const LONGEST: u32 = 60_000;

/// The delay of reads and streams behind the matching engine, as on the exchange. The default is
/// [`none`](Self::none).
///
/// While reads trail, orders, fills, positions, settlements, payments and balances are shown as
/// they all were at one moment of the past: an order that has just been placed answers 404, what
/// it has traded is in no position yet. `GET /exchange/user_data_timestamp` says which moment that
/// is: everything that happened up to `as_of_time` is readable. It never goes back. Answers to
/// writes are those of the engine and never trail, nor do the books, trades and markets that are
/// public, queue positions, order groups, quotes and transfers.
///
/// The same goes for perpetual futures: orders, fills, positions, balances, margins, what is used of
/// notional limits and funding that was paid are those of the same moment. Exit triggers do not
/// trail.
///
/// While streams trail, a connection carries everything later by that much, answers to its
/// commands as well as messages, in their order; pings are not late.
///
/// Time is that of the exchange: while its clock is frozen, nothing more becomes readable.
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_sim::Lag;
///
/// let millis = Duration::from_millis;
/// let lag = Lag::none().with_reads(millis(200)..=millis(400)).with_streams(millis(50));
/// assert_eq!("200-400".parse(), Ok(lag.with_streams(Duration::ZERO)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct Lag {
    #[serde(rename = "reads_millis")]
    reads: LagRange,
    #[serde(rename = "streams_millis")]
    streams: LagRange,
    seed: u64,
}

/// A distance, or the range of one that varies, in whole milliseconds: up to a minute. One of less
/// than a millisecond, but not of zero, is a millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Millis", into = "(u32, u32)")]
pub struct LagRange {
    min: u32,
    max: u32,
}

/// A range in JSON: a number, or two.
#[derive(Deserialize)]
#[serde(untagged)]
enum Millis {
    Fixed(u32),
    Range((u32, u32)),
}

impl From<Millis> for LagRange {
    fn from(millis: Millis) -> Self {
        match millis {
            Millis::Fixed(millis) => Self::new(millis, millis),
            Millis::Range((min, max)) => Self::new(min, max),
        }
    }
}

impl From<LagRange> for (u32, u32) {
    fn from(range: LagRange) -> Self {
        (range.min, range.max)
    }
}

impl From<Duration> for LagRange {
    fn from(by: Duration) -> Self {
        Self::from(by..=by)
    }
}

impl From<RangeInclusive<Duration>> for LagRange {
    fn from(range: RangeInclusive<Duration>) -> Self {
        let millis =
            |by: &Duration| u32::try_from(by.as_nanos().div_ceil(1_000_000)).unwrap_or(LONGEST);
        Self::new(millis(range.start()), millis(range.end()))
    }
}

impl LagRange {
    fn new(min: u32, max: u32) -> Self {
        let max = max.max(min).min(LONGEST);
        // What happens in the millisecond of a read is never readable: more may come in it.
        Self { min: min.max(1).min(max), max }
    }

    pub(crate) fn is_zero(self) -> bool {
        self.max == 0
    }

    /// Returns the time up to which what happened has arrived at `now`, both in milliseconds. It
    /// never goes back as `now` goes on.
    pub(crate) fn arrived(self, seed: u64, now: i64) -> i64 {
        let (min, max) = (i64::from(self.min), i64::from(self.max));
        if min == max {
            return now.saturating_sub(max);
        }
        let mut arrived = now.saturating_sub(max);
        let mut slot = now.div_euclid(SLOT);
        // The latest moment of each slot has come the furthest; an early slot with a short distance
        // may have come further than the present one.
        loop {
            let latest = slot.saturating_add(1).saturating_mul(SLOT).saturating_sub(1).min(now);
            if latest.saturating_sub(min) <= arrived {
                return arrived;
            }
            let dice = Random::new(seed ^ slot.unsigned_abs().wrapping_mul(0x9e37_79b9)).next();
            let span = u64::from(self.max - self.min).saturating_add(1);
            let distance = min.saturating_add(i64::try_from(dice % span).unwrap_or(0));
            arrived = arrived.max(latest.saturating_sub(distance));
            slot = slot.saturating_sub(1);
        }
    }
}

impl Lag {
    /// Returns no lag: everything is readable at once.
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns the lag that was seen at the exchange: on its demo environment, a read of an order
    /// answered 404 for some 0.3 s after the answer that named it. How much that varies, and how
    /// late streams are, is not known: reads trail by 0.25 to 0.35 s here, streams by nothing.
    pub fn realistic() -> Self {
        let millis = Duration::from_millis;
        Self::none().with_reads(millis(250)..=millis(350))
    }

    /// Sets how far reads trail, fixed or in a range; up to a minute.
    pub fn with_reads(self, by: impl Into<LagRange>) -> Self {
        Self { reads: by.into(), ..self }
    }

    /// Sets how far streams trail, fixed or in a range; up to a minute. They are ahead of reads if
    /// that is less, and behind them if it is more.
    pub fn with_streams(self, by: impl Into<LagRange>) -> Self {
        Self { streams: by.into(), ..self }
    }

    /// Sets what the dice of ranges start with; 0 unless set.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Returns the time up to which what happened is readable at `now`, both in milliseconds;
    /// `None` if reads do not trail.
    pub(crate) fn readable(self, now: i64) -> Option<i64> {
        (!self.reads.is_zero()).then(|| self.reads.arrived(self.seed, now))
    }

    /// Returns the same for streams.
    pub(crate) fn streamed(self, now: i64) -> Option<i64> {
        (!self.streams.is_zero()).then(|| self.streams.arrived(!self.seed, now))
    }
}

/// A text that names no lag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseLagError(());

impl fmt::Display for ParseLagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a lag is `none`, `realistic`, milliseconds like `300`, or a range like `200-400`; that \
             of streams follows a slash: `300/1000`",
        )
    }
}

impl std::error::Error for ParseLagError {}

/// `none`, `realistic`, or how far reads trail in milliseconds: `300`, `200-400`. What follows a
/// slash is how far streams trail: `300/1000`.
impl FromStr for Lag {
    type Err = ParseLagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::none()),
            "realistic" => Ok(Self::realistic()),
            _ => {
                let (reads, streams) = text.split_once('/').unwrap_or((text, "0"));
                Ok(Self::none().with_reads(range(reads)?).with_streams(range(streams)?))
            }
        }
    }
}

/// Reads `300` or `200-400`.
fn range(text: &str) -> Result<LagRange, ParseLagError> {
    let millis = |text: &str| text.parse::<u32>().map_err(|_| ParseLagError(()));
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    let (min, max) = (millis(min)?, millis(max)?);
    if min > max || max > LONGEST {
        return Err(ParseLagError(()));
    }
    Ok(LagRange::new(min, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_lag_is_the_same_at_every_time() {
        let lag = Lag::none().with_reads(Duration::from_millis(300));
        for now in [0, 1, 99, 100, 1_790_000_000_123] {
            assert_eq!(lag.readable(now), Some(now - 300));
            assert_eq!(lag.streamed(now), None);
            assert_eq!(Lag::none().readable(now), None);
        }
    }

    #[test]
    fn a_random_lag_stays_in_its_range_never_goes_back_and_is_repeated_by_its_seed() {
        for (min, max) in [(1, 2), (250, 350), (1, 60_000), (100, 101)] {
            let range = LagRange::new(min, max);
            let start = 1_790_000_000_000;
            let arrived: Vec<i64> =
                (0..3_000).map(|step| range.arrived(7, start + step * 7)).collect();
            assert!(arrived.is_sorted(), "{min}-{max}");
            let distances: Vec<i64> =
                arrived.iter().zip(0..).map(|(at, step)| start + step * 7 - at).collect();
            let within = i64::from(min)..=i64::from(max);
            assert!(distances.iter().all(|distance| within.contains(distance)), "{min}-{max}");
            assert!(distances.iter().any(|distance| *distance != distances[0]));
            let again: Vec<i64> =
                (0..3_000).map(|step| range.arrived(7, start + step * 7)).collect();
            assert_eq!(arrived, again);
            let other = (0..3_000).map(|step| range.arrived(8, start + step * 7));
            assert!(!other.eq(arrived));
        }
    }

    #[test]
    fn what_has_arrived_is_the_most_of_all_earlier_moments() {
        // The plain definition: a moment has come as far as its slot says, and what had arrived
        // before stays.
        let range = LagRange::new(20, 900);
        let mut most = i64::MIN;
        for now in 1_790_000_000_000..1_790_000_006_000_i64 {
            let slot = now.div_euclid(SLOT).unsigned_abs();
            let dice = Random::new(5 ^ slot.wrapping_mul(0x9e37_79b9)).next();
            most = most.max(now - 20 - i64::try_from(dice % 881).unwrap());
            // By then every slot that matters has been seen.
            if now >= 1_790_000_001_000 {
                assert_eq!(range.arrived(5, now), most, "{now}");
            }
        }
    }

    #[test]
    fn a_lag_is_read_from_text_and_json() {
        assert_eq!("realistic".parse(), Ok(Lag::realistic()));
        assert_eq!("none".parse(), Ok(Lag::none()));
        let fixed = Lag::none().with_reads(Duration::from_millis(300));
        assert_eq!("300".parse(), Ok(fixed));
        assert_eq!(serde_json::from_str::<Lag>(r#"{"reads_millis":300}"#).unwrap(), fixed);
        let text = serde_json::to_string(&Lag::realistic().with_seed(4)).unwrap();
        assert_eq!(text, r#"{"reads_millis":[250,350],"streams_millis":[0,0],"seed":4}"#);
        assert_eq!(serde_json::from_str::<Lag>(&text).unwrap(), Lag::realistic().with_seed(4));
        let late = Duration::from_secs(1);
        assert_eq!("300/1000".parse(), Ok(fixed.with_streams(late)));
        assert_eq!("0/500-1000".parse(), Ok(Lag::none().with_streams(late / 2..=late)));
        for text in ["", "x", "400-200", "1-", "-1", "60001", "300/", "/300", "1/2/3"] {
            assert!(text.parse::<Lag>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Lag>(r#"{"read_millis":300}"#).is_err());
    }
}
