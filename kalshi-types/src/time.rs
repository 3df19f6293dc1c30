//! Times that travel as integers.
//!
//! The suffix `_ts` does not tell the unit: the exchange sends seconds, milliseconds and RFC 3339
//! text under it. So the unit is in the type.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! unix_time {
    ($(#[$meta:meta])* $name:ident, $unit:literal, $from:ident, $as:ident, $chrono_from:expr, $chrono_to:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(i64);

        impl $name {
            #[doc = concat!("From ", $unit, " since 1970-01-01T00:00:00Z; negative before it.")]
            pub const fn $from(value: i64) -> Self {
                Self(value)
            }

            #[doc = concat!("The ", $unit, " since 1970-01-01T00:00:00Z.")]
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

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = std::num::ParseIntError;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
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
            /// What is finer than the unit is cut off, towards the past.
            fn from(time: chrono::DateTime<chrono::Utc>) -> Self {
                Self($chrono_from(&time))
            }
        }

        #[cfg(feature = "chrono")]
        impl $name {
            /// The point in time; `None` beyond the years that chrono can hold.
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
    /// A time in milliseconds since 1970-01-01T00:00:00Z.
    UnixMillis,
    "milliseconds",
    from_millis,
    as_millis,
    chrono::DateTime::<chrono::Utc>::timestamp_millis,
    from_timestamp_millis
);

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

    #[cfg(feature = "chrono")]
    #[test]
    fn conversions_cut_towards_the_past() {
        let before_epoch = chrono::DateTime::from_timestamp_millis(-1).unwrap();
        assert_eq!(UnixSeconds::from(before_epoch).as_seconds(), -1);
        assert_eq!(UnixMillis::from(before_epoch).to_datetime(), Some(before_epoch));
        assert_eq!(UnixSeconds::from_seconds(i64::MAX).to_datetime(), None);
    }
}
