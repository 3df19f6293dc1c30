//! Query parameters and pages.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};

use crate::reply::Reply;

/// The query of a request, decoded, in its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The first value of a key; an empty one counts as absent.
    pub(crate) fn get<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.all(key).next()
    }

    /// Every value of a repeated key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, value)| name == key && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// A list joined by commas.
    pub(crate) fn list<'a>(&'a self, key: &'a str) -> Option<Vec<&'a str>> {
        Some(self.get(key)?.split(',').collect())
    }

    pub(crate) fn flag(&self, key: &str) -> Result<bool, Reply> {
        match self.get(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Reply::bad_request(&format!("{key} must be true or false"))),
        }
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, Reply> {
        self.get(key)
            .map(|text| {
                text.parse()
                    .map_err(|_| Reply::bad_request(&format!("{key} must be a whole number")))
            })
            .transpose()
    }

    /// A whole number that must be there.
    pub(crate) fn required_integer(&self, key: &str) -> Result<i64, Reply> {
        self.integer(key)?.ok_or_else(|| Reply::bad_request(&format!("{key} is required")))
    }

    /// One word of a list.
    pub(crate) fn word<'a>(
        &'a self,
        key: &'a str,
        words: &[&str],
    ) -> Result<Option<&'a str>, Reply> {
        match self.get(key) {
            Some(word) if !words.contains(&word) => {
                Err(Reply::bad_request(&format!("{key} must be one of {}", words.join(", "))))
            }
            word => Ok(word),
        }
    }

    /// A moment as RFC 3339 text.
    pub(crate) fn moment(&self, key: &str) -> Result<Option<DateTime<Utc>>, Reply> {
        self.get(key)
            .map(|text| {
                DateTime::parse_from_rfc3339(text)
                    .map(|moment| moment.to_utc())
                    .map_err(|_| Reply::bad_request(&format!("{key} must be an RFC 3339 time")))
            })
            .transpose()
    }

    /// The number of a subaccount; nothing means that none was named.
    pub(crate) fn subaccount(&self) -> Result<Option<i64>, Reply> {
        match self.integer("subaccount")? {
            Some(number) if !(0..=63).contains(&number) => {
                Err(Reply::bad_request("subaccount must be 0 to 63"))
            }
            number => Ok(number),
        }
    }

    /// Cuts one page out of the rows. Gives it and the cursor of the next one, empty at the end.
    pub(crate) fn page<T>(
        &self,
        rows: Vec<T>,
        default: usize,
        max: usize,
    ) -> Result<(Vec<T>, String), Reply> {
        self.page_by(rows, Paging::new(default, max))
    }

    /// The same for lists that page in another way.
    pub(crate) fn page_by<T>(
        &self,
        rows: Vec<T>,
        paging: Paging,
    ) -> Result<(Vec<T>, String), Reply> {
        let Paging { key, default, max, zero } = paging;
        let limit = match (self.integer(key)?, default) {
            (None, Some(default)) => default,
            (None, None) => return Err(Reply::bad_request(&format!("{key} is required"))),
            // What 0 means is not documented; here it asks for the default.
            (Some(0), Some(default)) if zero => default,
            (Some(limit), _) => match usize::try_from(limit) {
                Ok(limit) if (1..=max).contains(&limit) => limit,
                _ => return Err(Reply::bad_request(&format!("{key} must be 1 to {max}"))),
            },
        };
        let start = match self.get("cursor") {
            None => 0,
            Some(cursor) => position(cursor)
                .filter(|start| *start <= rows.len())
                .ok_or_else(|| Reply::bad_request("the cursor is none of this list"))?,
        };
        let end = rows.len().min(start.saturating_add(limit));
        let next = if end < rows.len() { cursor(end) } else { String::new() };
        Ok((rows.into_iter().skip(start).take(end - start).collect(), next))
    }
}

/// How a list pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    /// The name of the parameter that gives the rows of a page.
    pub(crate) key: &'static str,
    /// Rows of a page where none are asked for; nothing if the parameter is required.
    pub(crate) default: Option<usize>,
    pub(crate) max: usize,
    /// Whether 0 is accepted.
    pub(crate) zero: bool,
}

impl Paging {
    pub(crate) fn new(default: usize, max: usize) -> Self {
        Self { key: "limit", default: Some(default), max, zero: false }
    }
}

fn cursor(position: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("row:{position}"))
}

fn position(cursor: &str) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    String::from_utf8(bytes).ok()?.strip_prefix("row:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn pages_cover_the_list_once_and_end_with_an_empty_cursor() {
        let mut seen = Vec::new();
        let mut next = String::new();
        loop {
            let (page, cursor) = query(&[("limit", "3"), ("cursor", &next)])
                .page((0..8).collect(), 100, 1_000)
                .unwrap();
            seen.extend(page);
            if cursor.is_empty() {
                break;
            }
            next = cursor;
        }
        assert_eq!(seen, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn limits_and_cursors_that_make_no_sense_are_refused() {
        for pairs in [
            [("limit", "0")],
            [("limit", "-1")],
            [("limit", "1001")],
            [("limit", "x")],
            [("limit", "99999999999999999999")],
            [("cursor", "%%")],
            [("cursor", "cm93OjE4NDQ2NzQ0MDczNzA5NTUxNjE1")],
        ] {
            assert_eq!(query(&pairs).page(vec![1, 2], 100, 1_000).unwrap_err().status, 400);
        }
    }
}
