//! Query parameters.

use chrono::{DateTime, Utc};
use kalshi_types::UnixMillis;

use crate::{engine::types::Shard, http::response::Response, wire::seconds};

/// The query of a request, decoded, in its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// Returns the first value of a key; an empty one counts as absent.
    pub(crate) fn get<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.all(key).next()
    }

    /// Returns every value of a repeated key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, value)| name == key && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Returns a list joined by commas.
    pub(crate) fn list<'a>(&'a self, key: &'a str) -> Option<Vec<&'a str>> {
        Some(self.get(key)?.split(',').collect())
    }

    pub(crate) fn flag(&self, key: &str) -> Result<bool, Response> {
        match self.get(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Response::bad_request(&format!("{key} must be true or false"))),
        }
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, Response> {
        self.get(key)
            .map(|text| {
                text.parse()
                    .map_err(|_| Response::bad_request(&format!("{key} must be a whole number")))
            })
            .transpose()
    }

    /// Returns a whole number that must be there.
    pub(crate) fn required_integer(&self, key: &str) -> Result<i64, Response> {
        self.integer(key)?.ok_or_else(|| Response::bad_request(&format!("{key} is required")))
    }

    /// Returns a text that must be there.
    #[cfg(feature = "perps")]
    pub(crate) fn required<'a>(&'a self, key: &'a str) -> Result<&'a str, Response> {
        self.get(key).ok_or_else(|| Response::bad_request(&format!("{key} is required")))
    }

    /// Returns a day.
    #[cfg(feature = "perps")]
    pub(crate) fn day(&self, key: &str) -> Result<Option<chrono::NaiveDate>, Response> {
        let day = self.get(key).map(|text| {
            let wrong = |_| Response::bad_request(&format!("{key} must be a day like 2026-10-31"));
            text.parse().map_err(wrong)
        });
        day.transpose()
    }

    /// Returns one word of a list.
    pub(crate) fn word<'a>(
        &'a self,
        key: &'a str,
        words: &[&str],
    ) -> Result<Option<&'a str>, Response> {
        match self.get(key) {
            Some(word) if !words.contains(&word) => {
                Err(Response::bad_request(&format!("{key} must be one of {}", words.join(", "))))
            }
            word => Ok(word),
        }
    }

    /// Returns a moment given as RFC 3339 text.
    pub(crate) fn moment(&self, key: &str) -> Result<Option<DateTime<Utc>>, Response> {
        self.get(key)
            .map(|text| {
                DateTime::parse_from_rfc3339(text)
                    .map(|moment| moment.to_utc())
                    .map_err(|_| Response::bad_request(&format!("{key} must be an RFC 3339 time")))
            })
            .transpose()
    }

    /// Returns a span between two times in unix seconds.
    pub(crate) fn span(&self, min: &str, max: &str) -> Result<Span, Response> {
        Ok(Span { min: self.integer(min)?, max: self.integer(max)? })
    }

    /// Returns a list joined by commas, of `most` entries at most.
    pub(crate) fn list_of<'a>(
        &'a self,
        key: &'a str,
        most: usize,
    ) -> Result<Option<Vec<&'a str>>, Response> {
        match self.list(key) {
            Some(list) if list.len() > most => {
                Err(Response::bad_request(&format!("{key} must name {most} at most")))
            }
            list => Ok(list),
        }
    }

    /// Returns the shard of a read; `None` stands for all of them.
    pub(crate) fn shard(&self) -> Result<Option<Shard>, Response> {
        self.integer("exchange_index")?
            .map(|index| {
                Shard::try_from(index)
                    .ok()
                    .filter(|index| *index <= 100)
                    .ok_or_else(|| Response::bad_request("exchange_index must be 0 to 100"))
            })
            .transpose()
    }
}

/// A span of time, both ends included. Whether the exchange includes them is not documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    min: Option<i64>,
    max: Option<i64>,
}

impl Span {
    /// Reports whether at least one end is given.
    pub(crate) fn is_given(self) -> bool {
        self.min.is_some() || self.max.is_some()
    }

    /// Reports whether a time lies in it, by the second.
    pub(crate) fn holds(self, time: UnixMillis) -> bool {
        let seconds = seconds(time);
        self.min.is_none_or(|min| seconds >= min) && self.max.is_none_or(|max| seconds <= max)
    }
}

impl From<Option<i64>> for Span {
    fn from(min: Option<i64>) -> Self {
        Self { min, max: None }
    }
}
