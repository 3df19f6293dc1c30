//! Readers of fields for generated types, for `#[serde(deserialize_with)]`.

use serde::{Deserialize, Deserializer};

/// Reads null as the default, which is empty for a list or a map.
///
/// The exchange sends null for an empty list.
///
/// # Errors
///
/// A value that is neither null nor of the type.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(feature = "chrono")]
pub use self::times::{date_time, date_time_optional};

#[cfg(feature = "chrono")]
mod times {
    use std::fmt;

    use chrono::{DateTime, NaiveDate, Utc};
    use serde::{Deserializer, de};

    /// Reads a time in RFC 3339.
    ///
    /// Exactly what chrono's own reader accepts; the one layout that the exchange sends
    /// (`2026-01-31T23:59:59.123456Z`) takes a shorter way.
    ///
    /// # Errors
    ///
    /// A value that is no text or no RFC 3339 time.
    pub fn date_time<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<DateTime<Utc>, D::Error> {
        deserializer.deserialize_str(Time)
    }

    /// Like [`date_time`]; null is `None`.
    ///
    /// # Errors
    ///
    /// As with [`date_time`].
    pub fn date_time_optional<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        deserializer.deserialize_option(OptionalTime)
    }

    struct Time;

    impl de::Visitor<'_> for Time {
        type Value = DateTime<Utc>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time in RFC 3339")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<DateTime<Utc>, E> {
            match in_utc(text.as_bytes()) {
                Some(time) => Ok(time),
                None => {
                    text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
        }
    }

    struct OptionalTime;

    impl<'de> de::Visitor<'de> for OptionalTime {
        type Value = Option<DateTime<Utc>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time in RFC 3339, or null")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
            inner.deserialize_str(Time).map(Some)
        }
    }

    /// `YYYY-MM-DDTHH:MM:SSZ` with up to nine decimals of a second. Anything else is left to the
    /// general reader, a leap second too.
    fn in_utc(text: &[u8]) -> Option<DateTime<Utc>> {
        let number = |from: usize, to: usize| {
            text.get(from..to)?.iter().try_fold(0_u32, |sum, byte| {
                byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'))
            })
        };
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if separators.iter().any(|(at, byte)| text.get(*at) != Some(byte)) {
            return None;
        }
        let nanos = match text.get(19..)? {
            [b'Z'] => 0,
            [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
                let value = number(20, 20 + digits.len())?;
                value * 10_u32.pow(9 - u32::try_from(digits.len()).ok()?)
            }
            _ => return None,
        };
        let year = i32::try_from(number(0, 4)?).ok()?;
        let date = NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?;
        let time =
            date.and_hms_nano_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, nanos)?;
        Some(time.and_utc())
    }

    #[cfg(test)]
    mod tests {
        use proptest::prelude::*;

        use super::*;

        #[test]
        fn the_short_way_is_taken_for_what_the_exchange_sends() {
            for text in
                ["2026-01-31T23:59:59Z", "2026-01-31T23:59:59.1Z", "2026-01-31T23:59:59.123456789Z"]
            {
                assert_eq!(in_utc(text.as_bytes()), Some(text.parse().unwrap()), "{text}");
            }
        }

        proptest! {
            #[test]
            fn the_short_way_never_differs_from_chrono(text in "[0-9]{4}-[0-1][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,11})?(Z|z|\\+01:00)?") {
                if let Some(time) = in_utc(text.as_bytes()) {
                    prop_assert_eq!(Ok(time), text.parse::<DateTime<Utc>>());
                }
            }

            #[test]
            fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
                let _ = in_utc(&bytes);
            }
        }
    }
}
