//! Pages of lists, also of those that grow while a client reads them.
//!
//! A cursor names the last row that was sent, not a position: rows that come or go elsewhere move
//! nothing, and no row is sent twice.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::http::{query::Query, response::Response};

/// The way in which a list is cut into pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    /// The name of the list in its cursors; one of another list is refused.
    list: &'static str,
    /// The parameter that gives the rows of a page; `None` if there is no such parameter.
    parameter: Option<&'static str>,
    /// The rows of a page unless the parameter says otherwise; `None` if it is required.
    default: Option<usize>,
    max: usize,
    /// Accepts 0, as the default. The exchange documents that 0 is allowed, not its effect.
    zero: bool,
}

impl Paging {
    /// Returns a paging by `limit`.
    pub(crate) fn new(list: &'static str, default: usize, max: usize) -> Self {
        Self { list, parameter: Some("limit"), default: Some(default), max, zero: false }
    }

    /// Accepts 0 rows, which stands for the default.
    pub(crate) fn with_zero(self) -> Self {
        Self { zero: true, ..self }
    }

    /// Reads the rows of a page from another parameter.
    pub(crate) fn with_parameter(self, name: &'static str) -> Self {
        Self { parameter: Some(name), ..self }
    }

    /// Sets that pages have one size only.
    pub(crate) fn without_parameter(self) -> Self {
        Self { parameter: None, ..self }
    }

    /// Refuses a request that does not say how many rows it wants.
    pub(crate) fn with_required_limit(self) -> Self {
        Self { default: None, ..self }
    }

    fn limit(&self, query: &Query) -> Result<usize, Response> {
        let Self { parameter, default, max, .. } = *self;
        let Some(name) = parameter else { return Ok(default.unwrap_or(max)) };
        match (query.integer(name)?.map(usize::try_from), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(Response::bad_request(&format!("{name} is required"))),
            (Some(Ok(0)), Some(default)) if self.zero => Ok(default),
            (Some(Ok(limit)), _) if (1..=max).contains(&limit) => Ok(limit),
            (Some(_), _) => Err(Response::bad_request(&format!("{name} must be 1 to {max}"))),
        }
    }
}

impl Query {
    /// Returns the next page of rows that come in ascending order of their keys, and the cursor of
    /// the page after it, which is empty at the end. The key of a row never changes.
    pub(crate) fn page<T>(
        &self,
        paging: Paging,
        rows: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> u64,
    ) -> Result<(Vec<T>, String), Response> {
        let limit = paging.limit(self)?;
        let after =
            match self.get("cursor") {
                None => None,
                Some(cursor) => Some(read(paging.list, cursor).ok_or_else(|| {
                    Response::bad_request("the cursor does not belong to this list")
                })?),
            };
        let mut rows =
            rows.into_iter().skip_while(|row| after.is_some_and(|after| key(row) <= after));
        let page: Vec<T> = rows.by_ref().take(limit).collect();
        let next = match (page.last(), rows.next()) {
            (Some(last), Some(_)) => write(paging.list, key(last)),
            _ => String::new(),
        };
        Ok((page, next))
    }

    /// Returns the next page of rows that never change, with their position as their key.
    pub(crate) fn page_of_fixed<T>(
        &self,
        paging: Paging,
        rows: impl IntoIterator<Item = T>,
    ) -> Result<(Vec<T>, String), Response> {
        let (page, next) = self.page(paging, (0_u64..).zip(rows), |(position, _)| *position)?;
        Ok((page.into_iter().map(|(_, row)| row).collect(), next))
    }
}

/// Returns the key by which the newest rows come first.
pub(crate) fn newest(number: u64) -> u64 {
    !number
}

/// Returns the same for a position in a list.
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

    fn numbers() -> Paging {
        Paging::new("numbers", 3, 10)
    }

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
            let (page, cursor) = query.page(numbers(), rows, |n| newest(*n)).unwrap();
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
        let first = query(&[]).page(numbers(), 1..=6_u64, |n| *n).unwrap();
        assert_eq!(first.0, [1, 2, 3]);
        let rows = [1_u64, 2, 4, 5, 6];
        let next = query(&[("cursor", &first.1)]).page(numbers(), rows, |n| *n).unwrap();
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
            let refused = query(&[pair]).page(numbers(), 1..=9_u64, |n| *n).unwrap_err();
            assert_eq!(refused.status, 400, "{pair:?}");
        }
        let zero = query(&[("limit", "0")]);
        let page = zero.page(numbers().with_zero(), 1..=9_u64, |n| *n).unwrap().0;
        assert_eq!(page.len(), 3);
    }

    #[test]
    fn pages_of_a_fixed_list_cover_it_once_and_end_with_an_empty_cursor() {
        let mut read = Vec::new();
        let mut next = String::new();
        loop {
            let query = query(&[("page_size", "3"), ("limit", "1"), ("cursor", &next)]);
            let paging = numbers().with_parameter("page_size");
            let (page, cursor) = query.page_of_fixed(paging, 0..8).unwrap();
            read.extend(page);
            if cursor.is_empty() {
                break;
            }
            next = cursor;
        }
        assert_eq!(read, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_required_limit_is_asked_for_and_a_fixed_one_cannot_be_changed() {
        let required = numbers().with_required_limit();
        assert_eq!(query(&[]).page_of_fixed(required, 0..8).unwrap_err().status, 400);
        assert_eq!(query(&[("limit", "4")]).page_of_fixed(required, 0..8).unwrap().0.len(), 4);
        let fixed = numbers().without_parameter();
        assert_eq!(query(&[("limit", "4")]).page_of_fixed(fixed, 0..8).unwrap().0.len(), 3);
    }
}
