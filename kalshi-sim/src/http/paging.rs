//! Pages of lists that grow while somebody reads them.
//!
//! A cursor names the last row that was given, not a position: rows that come or go elsewhere move
//! nothing, and no row is given twice.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kalshi_types::UnixMillis;

use crate::{engine::types::Shard, query::Query, reply::Reply};

/// How a list is cut into pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages {
    /// What a cursor is of; one of another list is refused.
    pub(crate) list: &'static str,
    /// Rows of a page unless `limit` says otherwise.
    pub(crate) default: usize,
    pub(crate) max: usize,
    /// Whether `limit=0` is taken, and means the default. What the exchange does with it is not
    /// documented, only that it is allowed.
    pub(crate) zero: bool,
}

impl Pages {
    pub(crate) fn new(list: &'static str, default: usize, max: usize) -> Self {
        Self { list, default, max, zero: false }
    }

    /// The same, with `limit=0` allowed.
    pub(crate) fn with_zero(self) -> Self {
        Self { zero: true, ..self }
    }

    fn limit(&self, query: &Query) -> Result<usize, Reply> {
        let max = self.max;
        match query.integer("limit")?.map(usize::try_from) {
            None => Ok(self.default),
            Some(Ok(0)) if self.zero => Ok(self.default),
            Some(Ok(limit)) if (1..=max).contains(&limit) => Ok(limit),
            Some(_) => Err(Reply::bad_request(&format!("limit must be 1 to {max}"))),
        }
    }
}

/// A span of time, both ends included. Whether the exchange includes them is not documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    min: Option<i64>,
    max: Option<i64>,
}

impl Span {
    /// Whether one end is given at least.
    pub(crate) fn is_given(self) -> bool {
        self.min.is_some() || self.max.is_some()
    }

    /// Whether a time lies in it, by the second.
    pub(crate) fn holds(self, time: UnixMillis) -> bool {
        let seconds = seconds(time);
        self.min.is_none_or(|min| seconds >= min) && self.max.is_none_or(|max| seconds <= max)
    }
}

/// A time in whole seconds.
pub(crate) fn seconds(time: UnixMillis) -> i64 {
    time.as_millis().div_euclid(1_000)
}

/// From a time on.
impl From<Option<i64>> for Span {
    fn from(min: Option<i64>) -> Self {
        Self { min, max: None }
    }
}

impl Query {
    /// The next page of rows that come in ascending order of their keys; a key is a row's for
    /// ever. Gives the cursor of the page after it, too, which is empty at the end.
    pub(crate) fn page_after<T>(
        &self,
        pages: Pages,
        rows: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> u64,
    ) -> Result<(Vec<T>, String), Reply> {
        let limit = pages.limit(self)?;
        let after = match self.get("cursor") {
            None => None,
            Some(cursor) => Some(
                read(pages.list, cursor)
                    .ok_or_else(|| Reply::bad_request("the cursor is none of this list"))?,
            ),
        };
        let mut rows =
            rows.into_iter().skip_while(|row| after.is_some_and(|after| key(row) <= after));
        let page: Vec<T> = rows.by_ref().take(limit).collect();
        let next = match (page.last(), rows.next()) {
            (Some(last), Some(_)) => write(pages.list, key(last)),
            _ => String::new(),
        };
        Ok((page, next))
    }

    /// A span of two times in unix seconds.
    pub(crate) fn span(&self, min: &str, max: &str) -> Result<Span, Reply> {
        Ok(Span { min: self.integer(min)?, max: self.integer(max)? })
    }

    /// A list joined by commas with a greatest length.
    pub(crate) fn list_of<'a>(
        &'a self,
        key: &'a str,
        most: usize,
    ) -> Result<Option<Vec<&'a str>>, Reply> {
        match self.list(key) {
            Some(list) if list.len() > most => {
                Err(Reply::bad_request(&format!("{key} must name {most} at most")))
            }
            list => Ok(list),
        }
    }

    /// The shard of a read: one of them, or all.
    pub(crate) fn shard(&self) -> Result<Option<Shard>, Reply> {
        self.integer("exchange_index")?
            .map(|index| {
                Shard::try_from(index)
                    .ok()
                    .filter(|index| *index <= 100)
                    .ok_or_else(|| Reply::bad_request("exchange_index must be 0 to 100"))
            })
            .transpose()
    }
}

/// The key by which the newest rows come first.
pub(crate) fn newest(number: u64) -> u64 {
    !number
}

/// The same for a place in a list.
pub(crate) fn newest_at(index: usize) -> u64 {
    newest(u64::try_from(index).unwrap_or(u64::MAX))
}

fn write(list: &str, key: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}:{key}"))
}

fn read(list: &str, cursor: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    String::from_utf8(bytes).ok()?.strip_prefix(list)?.strip_prefix(':')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Pages = Pages { list: "numbers", default: 3, max: 10, zero: false };

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn rows_that_come_while_one_reads_are_neither_doubled_nor_lost() {
        let mut top = 10_u64;
        let mut next = String::new();
        let mut seen = Vec::new();
        loop {
            let rows = (1..=top).rev();
            let query = query(&[("cursor", &next)]);
            let (page, cursor) = query.page_after(NUMBERS, rows, |n| newest(*n)).unwrap();
            seen.extend(page);
            // One more at the front after each page.
            top += 1;
            if cursor.is_empty() {
                break;
            }
            next = cursor;
        }
        assert_eq!(seen, (1..=10).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_row_that_has_gone_still_marks_its_place() {
        let first = query(&[]).page_after(NUMBERS, 1..=6_u64, |n| *n).unwrap();
        assert_eq!(first.0, [1, 2, 3]);
        let rows = [1_u64, 2, 4, 5, 6];
        let next = query(&[("cursor", &first.1)]).page_after(NUMBERS, rows, |n| *n).unwrap();
        assert_eq!((next.0, next.1.as_str()), (vec![4, 5, 6], ""));
    }

    #[test]
    fn limits_and_cursors_that_make_no_sense_are_refused() {
        let other = write("letters", 1);
        for pair in [
            ("limit", "0"),
            ("limit", "-1"),
            ("limit", "11"),
            ("limit", "x"),
            ("limit", "99999999999999999999"),
            ("cursor", "%%"),
            ("cursor", &other),
            ("cursor", "bnVtYmVyczotMQ"),
        ] {
            let refused = query(&[pair]).page_after(NUMBERS, 1..=9_u64, |n| *n).unwrap_err();
            assert_eq!(refused.status, 400, "{pair:?}");
        }
        let zero = query(&[("limit", "0")]);
        let page = zero.page_after(NUMBERS.with_zero(), 1..=9_u64, |n| *n).unwrap().0;
        assert_eq!(page.len(), 3);
    }
}
