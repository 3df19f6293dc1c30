//! Times that travel as integers.
//!
//! The suffix `_ts` does not tell the unit: the exchange sends seconds, milliseconds and RFC 3339
//! text under it. So the unit is in the type.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ParseError, ParseErrorKind, Quantity};

macro_rules! unix_time {
    ($(#[$meta:meta])* $name:ident, $unit:literal, $from:ident, $as:ident, $chrono_from:expr, $chrono_to:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(i64);

        impl $name {
            /// 1970-01-01T00:00:00Z.
            pub const EPOCH: Self = Self(0);

            #[doc = concat!("Returns the time from ", $unit, " since 1970-01-01T00:00:00Z; negative before it.")]
            pub const fn $from(value: i64) -> Self {
                Self(value)
            }

            #[doc = concat!("Returns the ", $unit, " since 1970-01-01T00:00:00Z.")]
            pub const fn $as(self) -> i64 {
                self.0
            }
        }

        impl From<i64> for $name {
            fn from(value: i64) -> Self {
                Self(value)
            }
        }

        impl From<$name> for i64 {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        /// Reads the text that the type prints, and no other: no `+`, no zeros in front, no blanks.
        impl std::str::FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                match integer(text) {
                    Ok(value) => Ok(Self(value)),
                    Err(kind) => Err(ParseError::new(Quantity::$name, kind)),
                }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = ParseError;

            fn try_from(text: &str) -> Result<Self, ParseError> {
                text.parse()
            }
        }

        // Not as a newtype: a query serializer takes integers, and no newtypes.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_i64(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                i64::deserialize(deserializer).map(Self)
            }
        }

        #[cfg(feature = "chrono")]
        impl From<chrono::DateTime<chrono::Utc>> for $name {
            /// Cuts off what is finer than the unit, towards the past.
            fn from(time: chrono::DateTime<chrono::Utc>) -> Self {
                Self($chrono_from(&time))
            }
        }

        #[cfg(feature = "chrono")]
        impl $name {
            /// Returns the point in time, or `None` beyond the years that chrono can hold.
            pub fn to_datetime(self) -> Option<chrono::DateTime<chrono::Utc>> {
                chrono::DateTime::$chrono_to(self.0)
            }
        }
    };
}

unix_time!(
    /// A time in whole seconds since 1970-01-01T00:00:00Z.
    UnixSeconds,
    "whole seconds",
    from_seconds,
    as_seconds,
    chrono::DateTime::<chrono::Utc>::timestamp,
    from_timestamp_secs
);

unix_time!(
    /// A time in milliseconds since 1970-01-01T00:00:00Z: that of signatures, streams and orders.
    ///
    /// Printed, it is the text of the header `KALSHI-ACCESS-TIMESTAMP` and of the text that is
    /// signed. Parsing accepts only that text, so that what was read prints back unchanged.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use kalshi_types::UnixMillis;
    ///
    /// let time: UnixMillis = "1703123456789".parse()?;
    /// assert_eq!(time.as_millis(), 1_703_123_456_789);
    /// assert_eq!(time.saturating_add(Duration::from_secs(1)).to_string(), "1703123457789");
    /// assert!("01703123456789".parse::<UnixMillis>().is_err());
    /// # Ok::<(), kalshi_types::ParseError>(())
    /// ```
    UnixMillis,
    "milliseconds",
    from_millis,
    as_millis,
    chrono::DateTime::<chrono::Utc>::timestamp_millis,
    from_timestamp_millis
);

impl UnixMillis {
    /// Returns the time between the two, whichever is the earlier.
    pub const fn abs_diff(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }

    /// Returns the time later by `duration`, or the latest time there is if that is out of range.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns the time earlier by `duration`, or the earliest time there is if that is out of
    /// range.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Returns the time as that of the operating system, or `None` if that cannot hold it.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let from_epoch = Duration::from_millis(self.0.unsigned_abs());
        if self.0 < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(from_epoch)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(from_epoch)
        }
    }
}

impl From<SystemTime> for UnixMillis {
    /// Cuts off what is finer than a millisecond, towards the past.
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Self(millis(since)),
            Err(before) => {
                let before = before.duration();
                let part = i64::from(!before.subsec_nanos().is_multiple_of(1_000_000));
                Self(millis(before).saturating_add(part).saturating_neg())
            }
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads an integer that is spelled in the one way in which it would be printed.
fn integer(text: &str) -> Result<i64, ParseErrorKind> {
    /// The length of `i64::MIN`.
    const MAX_LEN: usize = 20;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let sign = text.len() - digits.len();
    if text.len() > 64 {
        return Err(ParseErrorKind::TooLong);
    }
    if let Some(position) = digits.bytes().position(|byte| !byte.is_ascii_digit()) {
        return Err(ParseErrorKind::InvalidCharacter { position: sign + position });
    }
    if digits.is_empty() {
        return Err(ParseErrorKind::Empty);
    }
    if digits.starts_with('0') && (digits.len() > 1 || sign > 0) {
        return Err(ParseErrorKind::InvalidCharacter { position: 0 });
    }
    if text.len() > MAX_LEN {
        return Err(ParseErrorKind::OutOfRange);
    }
    text.parse().map_err(|_| ParseErrorKind::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_travel_as_plain_integers() {
        let time: UnixSeconds = serde_json::from_str("1700000000").unwrap();
        assert_eq!(time.as_seconds(), 1_700_000_000);
        assert_eq!(serde_json::to_string(&time).unwrap(), "1700000000");
        assert_eq!(serde_urlencoded::to_string([("t", time)]).unwrap(), "t=1700000000");
        assert!(serde_json::from_str::<UnixSeconds>("\"2024-01-01T00:00:00Z\"").is_err());
    }

    #[test]
    fn a_time_prints_as_it_was_read() {
        for text in ["0", "1", "-1", "1703123456789", "9223372036854775807", "-9223372036854775808"]
        {
            assert_eq!(text.parse::<UnixMillis>().unwrap().to_string(), text);
            assert_eq!(text.parse::<UnixSeconds>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_time_that_would_print_differently_is_refused() {
        for text in [
            "",
            "-",
            "00",
            "01",
            "-0",
            "-01",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "१",
            "--1",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551615",
        ] {
            assert!(text.parse::<UnixMillis>().is_err(), "{text:?}");
        }
        let error = "2024-01-01".parse::<UnixMillis>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "time in milliseconds since 1970 has an invalid character at byte 4"
        );
    }

    #[test]
    fn times_of_the_system_are_cut_towards_the_past() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_micros(1_500);
        assert_eq!(UnixMillis::from(before), UnixMillis::from_millis(-2));
        let exactly = SystemTime::UNIX_EPOCH - Duration::from_millis(2);
        assert_eq!(UnixMillis::from(exactly), UnixMillis::from_millis(-2));
        let after = SystemTime::UNIX_EPOCH + Duration::from_micros(1_500);
        assert_eq!(UnixMillis::from(after), UnixMillis::from_millis(1));
        assert_eq!(UnixMillis::from_millis(-2).to_system_time(), Some(exactly));
    }

    #[test]
    fn arithmetic_on_times_stops_at_the_ends() {
        let (early, late) = (UnixMillis::from_millis(i64::MIN), UnixMillis::from_millis(i64::MAX));
        assert_eq!(late.saturating_add(Duration::MAX), late);
        assert_eq!(early.saturating_sub(Duration::MAX), early);
        assert_eq!(early.abs_diff(late), Duration::from_millis(u64::MAX));
        let (a, b) = (UnixMillis::from_millis(10), UnixMillis::from_millis(25));
        assert_eq!(
            (a.abs_diff(b), b.abs_diff(a)),
            (Duration::from_millis(15), Duration::from_millis(15))
        );
    }

    #[cfg(feature = "chrono")]
    #[test]
    fn conversions_cut_towards_the_past() {
        let before_epoch = chrono::DateTime::from_timestamp_millis(-1).unwrap();
        assert_eq!(UnixSeconds::from(before_epoch).as_seconds(), -1);
        assert_eq!(UnixMillis::from(before_epoch).to_datetime(), Some(before_epoch));
        assert_eq!(UnixSeconds::from_seconds(i64::MAX).to_datetime(), None);
    }
}
