//! Readers of fields for generated types, for `#[serde(deserialize_with)]`.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IntoDeserializer as _},
};

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

/// Returns the value of a label that the exchange left out: the empty text, which an open enum
/// holds as `Unset` or `Unknown`.
///
/// For `#[serde(default)]` beside [`null_as_unset`].
pub fn unset<T: for<'a> From<&'a str>>() -> T {
    T::from("")
}

/// Reads null as [`unset`].
///
/// # Errors
///
/// A value that is neither null nor of the type.
pub fn null_as_unset<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: for<'a> From<&'a str> + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_else(unset))
}

/// Reads a list of lists; null is an empty list at both levels.
///
/// # Errors
///
/// A value that is not of the type.
pub fn lists_in_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let lists = Option::<Vec<Option<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(lists.into_iter().map(Option::unwrap_or_default).collect())
}

/// Reads a map of lists or maps; null is an empty one at both levels, and its key is kept.
///
/// # Errors
///
/// A value that is not of the type.
pub fn lists_in_map<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let lists = Option::<BTreeMap<String, Option<T>>>::deserialize(deserializer)?;
    let lists = lists.unwrap_or_default();
    Ok(lists.into_iter().map(|(key, list)| (key, list.unwrap_or_default())).collect())
}

/// Reads a map; null is an empty one, and a key whose value is null is an absent key.
///
/// # Errors
///
/// A value that is not of the type.
pub fn map_without_nulls<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let values = Option::<BTreeMap<String, Option<T>>>::deserialize(deserializer)?;
    let values = values.unwrap_or_default().into_iter();
    Ok(values.filter_map(|(key, value)| Some((key, value?))).collect())
}

/// Reads a number that may be missing: null and the empty text are `None`.
///
/// The exchange sends `""` for a price that does not exist.
///
/// # Errors
///
/// A value that is neither null, nor the empty text, nor of the type.
pub fn blank_as_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_option(Blank(PhantomData))
}

/// Visits the option, and then what is inside it.
struct Blank<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Blank<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal number as text, the empty text, or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.is_empty() { Ok(None) } else { T::deserialize(text.into_deserializer()).map(Some) }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(Some)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(Some)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(Some)
    }
}

#[cfg(feature = "chrono")]
pub use self::times::{date_time, date_time_optional};

#[cfg(feature = "chrono")]
mod times {
    use std::fmt;

    use chrono::{DateTime, NaiveDate, Utc};
    use serde::{Deserializer, de};

    use crate::text::digits;

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

    /// Reads like [`date_time`]; null is `None`.
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

    /// Parses `YYYY-MM-DDTHH:MM:SSZ` with up to nine decimals of a second. Anything else is left to
    /// the general reader, a leap second too.
    fn in_utc(text: &[u8]) -> Option<DateTime<Utc>> {
        #[rustfmt::skip]
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, rest @ ..] =
            text
        else {
            return None;
        };
        let nanos = match *rest {
            [b'Z'] => 0,
            // Microseconds are what the exchange sends.
            [b'.', f1, f2, f3, f4, f5, f6, b'Z'] => digits([f1, f2, f3, f4, f5, f6])? * 1_000,
            [b'.', ref decimals @ .., b'Z'] if (1..=9).contains(&decimals.len()) => {
                let value =
                    decimals.iter().try_fold(0, |sum, digit| Some(sum * 10 + digits([*digit])?))?;
                value * 10_u64.pow(9 - u32::try_from(decimals.len()).ok()?)
            }
            _ => return None,
        };
        let year = i32::from(pair(*y1, *y2)?) * 100 + i32::from(pair(*y3, *y4)?);
        let (month, day) = (pair(*m1, *m2)?.into(), pair(*d1, *d2)?.into());
        let (hour, minute, second) =
            (pair(*h1, *h2)?.into(), pair(*n1, *n2)?.into(), pair(*s1, *s2)?.into());
        let time = NaiveDate::from_ymd_opt(year, month, day)?.and_hms_nano_opt(
            hour,
            minute,
            second,
            u32::try_from(nanos).ok()?,
        )?;
        Some(time.and_utc())
    }

    /// Returns the value of two digits.
    fn pair(tens: u8, ones: u8) -> Option<u8> {
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        (tens <= 9 && ones <= 9).then(|| tens * 10 + ones)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Dollars;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Row {
        #[serde(default = "unset", deserialize_with = "null_as_unset")]
        title: String,
        #[serde(default, deserialize_with = "lists_in_list")]
        candles: Vec<Vec<u8>>,
        #[serde(default, deserialize_with = "lists_in_map")]
        tags: BTreeMap<String, Vec<String>>,
        #[serde(default, deserialize_with = "map_without_nulls")]
        ids: BTreeMap<String, String>,
        #[serde(default, deserialize_with = "blank_as_none")]
        price: Option<Dollars>,
    }

    fn read(value: &serde_json::Value) -> Result<Row, serde_json::Error> {
        serde_json::from_str(&value.to_string())
    }

    #[test]
    fn nothing_and_null_and_nested_null_read_as_empty() {
        let nothing = read(&json!({})).unwrap();
        let nulls =
            json!({"title": null, "candles": null, "tags": null, "ids": null, "price": null});
        assert_eq!(read(&nulls).unwrap(), nothing);
        assert_eq!((nothing.title.as_str(), nothing.price), ("", None));
        let nested = read(&json!({
            "candles": [[1], null],
            "tags": {"Sports": ["a"], "Elections": null},
            "ids": {"a": "b", "c": null},
            "price": "",
        }))
        .unwrap();
        assert_eq!(nested.candles, [vec![1], vec![]]);
        assert_eq!(nested.tags["Sports"], ["a"]);
        assert!(nested.tags["Elections"].is_empty());
        assert_eq!(nested.ids.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(nested.price, None);
    }

    #[test]
    fn what_is_there_is_read_as_strictly_as_before() {
        assert_eq!(
            read(&json!({"price": "0.56"})).unwrap().price,
            Some(Dollars::from_micros(560_000))
        );
        assert_eq!(
            read(&json!({"price": 1})).unwrap().price,
            Some(Dollars::from_micros(1_000_000))
        );
        for wrong in [
            json!({"price": " "}),
            json!({"price": 0.56}),
            json!({"price": "cheap"}),
            json!({"price": []}),
            json!({"price": true}),
            json!({"title": 7}),
            json!({"tags": {"a": "b"}}),
            json!({"candles": [["x"]]}),
            json!({"ids": {"a": 1}}),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
