//! Cursors into streams.
//!
//! A stream fetches a page when the rows of the one before are used up, never ahead: a list of a
//! million rows costs no more than the caller takes of it.

use std::{
    collections::HashSet,
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// A request for one page of a list. Implemented by generated code.
pub(crate) trait List: Clone + Send + Sized {
    /// One page.
    type Page: DeserializeOwned + Send + Sync + 'static;
    /// One row.
    type Row: DeserializeOwned + Send;

    /// Returns the same request for the page after a cursor.
    fn after(self, cursor: &str) -> Self;

    /// Fetches the page.
    fn fetch(self) -> impl Future<Output = Result<Self::Page, Error>> + Send;

    /// Fetches the rows of the page, one by one if it does not decode as a whole.
    fn fetch_rows(self) -> impl Future<Output = Result<Fetched<Self>, Error>> + Send;

    /// Returns the cursor of the page after this one, as the server gave it.
    fn cursor(page: &Self::Page) -> Option<&str>;

    /// Returns the rows of a page.
    fn rows(page: Self::Page) -> Vec<Self::Row>;
}

/// A page for the sake of its rows.
pub(crate) enum Fetched<L: List> {
    /// One that decodes as a whole.
    Page(L::Page),
    /// The rows of one that does not, and its cursor.
    Rows(Vec<Result<L::Row, Error>>, Option<String>),
}

impl<L: List> Fetched<L> {
    fn cursor(&self) -> Option<&str> {
        match self {
            Self::Page(page) => L::cursor(page),
            Self::Rows(_, cursor) => cursor.as_deref(),
        }
    }
}

/// The rows of a list, page after page. See the `stream` of the request that made it.
///
/// A row that does not decode is an `Err` for which [`Error::is_row`] is true, and the rows after it
/// follow. Any other error ends the stream.
#[must_use = "a stream does nothing until it is polled"]
pub struct Rows<'a, T>(Box<dyn Source<T> + 'a>);

/// The pages of a list. See the `pages` of the request that made it.
#[must_use = "a stream does nothing until it is polled"]
pub struct Pages<'a, T>(Box<dyn Source<T> + 'a>);

/// A source of rows or pages, behind the streams.
trait Source<T>: Send {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Error>>>;

    fn resume(&mut self) -> bool;

    fn skip(&mut self) -> bool;
}

macro_rules! stream_type {
    ($name:ident, $item:literal, $errors:literal) => {
        impl<T> $name<'_, T> {
            #[doc = concat!("Returns the next ", $item, "; `None` at the end, and after an error")]
            /// that ended the stream.
            ///
            /// # Errors
            ///
            #[doc = $errors]
            ///
            /// # Cancellation
            ///
            /// Dropping the future keeps the stream where it was: the page in flight goes on with
            /// the next call.
            pub async fn next(&mut self) -> Option<Result<T, Error>> {
                std::future::poll_fn(|context| self.0.poll(context)).await
            }

            #[doc = concat!("Collects every ", $item, " that is left: all of them, or an error.")]
            ///
            /// # Errors
            ///
            /// The first error, also of a single row; what was collected until then is dropped.
            pub async fn try_collect(mut self) -> Result<Vec<T>, Error> {
                let mut all = Vec::new();
                while let Some(item) = self.next().await {
                    all.push(item?);
                }
                Ok(all)
            }

            /// Continues after an error that ended the stream: the page that failed is requested
            /// again by the next call. Returns whether there was one.
            ///
            /// A repeated cursor cannot be continued from.
            pub fn resume(&mut self) -> bool {
                self.0.resume()
            }

            /// Continues after an error that ended the stream with the page **after** the one that
            /// failed. Returns whether that was possible: the cursor of the failed page must have
            /// been readable although the page was not.
            ///
            /// The rows of the failed page are then missing from what the stream yields.
            pub fn skip(&mut self) -> bool {
                self.0.skip()
            }
        }

        impl<T> Stream for $name<'_, T> {
            type Item = Result<T, Error>;

            fn poll_next(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<Option<Self::Item>> {
                self.0.poll(context)
            }
        }

        impl<T> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

stream_type!(
    Rows,
    "row",
    "A row that does not decode ([`Error::is_row`]); the rows after it follow. A page that cannot \
     be fetched; nothing comes after that until [`resume`](Self::resume) or [`skip`](Self::skip)."
);
stream_type!(
    Pages,
    "page",
    "A page that cannot be fetched or does not decode; nothing comes after that until \
     [`resume`](Self::resume) or [`skip`](Self::skip)."
);

/// Returns every page, from the requested one.
pub(crate) fn pages<'a, L: List + 'a>(request: L) -> Pages<'a, L::Page> {
    Pages(Box::new(Fetcher::new(request, |request: L| Box::pin(request.fetch()), L::cursor)))
}

/// Returns every row of every page.
pub(crate) fn rows<'a, L: List + 'a>(request: L) -> Rows<'a, L::Row> {
    let fetch = |request: L| -> Fetching<'a, Fetched<L>> { Box::pin(request.fetch_rows()) };
    let pages = Fetcher::new(request, fetch, Fetched::<L>::cursor);
    Rows(Box::new(RowSource::<'a, L> { pages, left: Left::Whole(Vec::new().into_iter()) }))
}

type Fetching<'a, O> = Pin<Box<dyn Future<Output = Result<O, Error>> + Send + 'a>>;

/// Follows the cursors of a list.
struct Fetcher<'a, L, O> {
    /// The request of the caller, with all its filters.
    request: L,
    fetch: fn(L) -> Fetching<'a, O>,
    cursor: fn(&O) -> Option<&str>,
    /// The request for the next page; `None` once the list has ended.
    next: Option<L>,
    /// The page in flight, and its request.
    running: Option<(L, Fetching<'a, O>)>,
    /// The request of the page that failed, and the cursor of the page after it.
    failed: Option<(L, Option<String>)>,
    seen: Seen,
    /// Pages that were fetched.
    count: u64,
}

impl<'a, L: List, O> Fetcher<'a, L, O> {
    fn new(request: L, fetch: fn(L) -> Fetching<'a, O>, cursor: fn(&O) -> Option<&str>) -> Self {
        Self {
            next: Some(request.clone()),
            request,
            fetch,
            cursor,
            running: None,
            failed: None,
            seen: Seen::default(),
            count: 0,
        }
    }

    /// Makes the page after a cursor the next one.
    fn go_on(&mut self, cursor: Option<&str>) -> Result<(), Error> {
        // The end is an empty cursor, or none.
        let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) else { return Ok(()) };
        if !self.seen.insert(cursor) {
            return Err(Error::cursor_loop(cursor));
        }
        self.next = Some(self.request.clone().after(cursor));
        Ok(())
    }
}

impl<L: List, O: Send> Source<O> for Fetcher<'_, L, O> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<O, Error>>> {
        if self.running.is_none() {
            let Some(next) = self.next.take() else { return Poll::Ready(None) };
            let page = (self.fetch)(next.clone());
            self.running = Some((next, page));
        }
        let Some((_, page)) = &mut self.running else { return Poll::Ready(None) };
        let page = ready!(page.as_mut().poll(context));
        let Some((request, _)) = self.running.take() else { return Poll::Ready(None) };
        Poll::Ready(Some(match page {
            Ok(page) => {
                self.count = self.count.saturating_add(1);
                let cursor = (self.cursor)(&page).map(str::to_owned);
                self.go_on(cursor.as_deref()).map(|()| page)
            }
            Err(error) => {
                self.failed = Some((request, error.next_cursor().map(str::to_owned)));
                Err(error)
            }
        }))
    }

    fn resume(&mut self) -> bool {
        let Some((request, _)) = self.failed.take() else { return false };
        self.next = Some(request);
        true
    }

    fn skip(&mut self) -> bool {
        let Some((_, Some(cursor))) = &self.failed else { return false };
        let cursor = cursor.clone();
        if self.go_on(Some(&cursor)).is_err() || self.next.is_none() {
            return false;
        }
        self.failed = None;
        self.count = self.count.saturating_add(1);
        true
    }
}

/// The rows of one page that are left.
enum Left<T> {
    Whole(std::vec::IntoIter<T>),
    OneByOne(std::vec::IntoIter<Result<T, Error>>),
}

struct RowSource<'a, L: List> {
    pages: Fetcher<'a, L, Fetched<L>>,
    left: Left<L::Row>,
}

impl<L: List> Source<L::Row> for RowSource<'_, L> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<L::Row, Error>>> {
        loop {
            let row = match &mut self.left {
                Left::Whole(rows) => rows.next().map(Ok),
                Left::OneByOne(rows) => rows.next(),
            };
            if let Some(row) = row {
                let page = self.pages.count;
                return Poll::Ready(Some(row.map_err(|error| error.on_page(page))));
            }
            // A page without rows but with a cursor is not the end.
            self.left = match ready!(self.pages.poll(context)) {
                Some(Ok(Fetched::Page(page))) => Left::Whole(L::rows(page).into_iter()),
                Some(Ok(Fetched::Rows(rows, _))) => Left::OneByOne(rows.into_iter()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
        }
    }

    fn resume(&mut self) -> bool {
        self.pages.resume()
    }

    fn skip(&mut self) -> bool {
        self.pages.skip()
    }
}

/// The cursors that a list has given, as 64-bit hashes: a list may be long, and its cursors too.
#[derive(Default)]
struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Seen {
    /// Reports whether the cursor is new, and remembers it.
    fn insert(&mut self, cursor: &str) -> bool {
        self.hashes.insert(self.hasher.hash_one(cursor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// Gives the cursors of a script, one page after the other.
    #[derive(Clone)]
    struct Script {
        cursors: &'static [&'static str],
        at: usize,
    }

    impl List for Script {
        type Page = (usize, String);
        type Row = usize;

        fn after(mut self, cursor: &str) -> Self {
            self.at = cursor.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            self
        }

        async fn fetch(self) -> Result<Self::Page, Error> {
            Ok((self.at, self.cursors[self.at].to_owned()))
        }

        async fn fetch_rows(self) -> Result<Fetched<Self>, Error> {
            self.fetch().await.map(Fetched::Page)
        }

        fn cursor(page: &Self::Page) -> Option<&str> {
            Some(&page.1)
        }

        fn rows(page: Self::Page) -> Vec<usize> {
            // The second page is empty.
            if page.0 == 1 { Vec::new() } else { vec![10 * page.0, 10 * page.0 + 1] }
        }
    }

    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut future = Box::pin(future);
        match future.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("a script never waits"),
        }
    }

    #[test]
    fn rows_go_on_over_an_empty_page_and_end_at_an_empty_cursor() {
        let script = Script { cursors: &["x-1", "x-2", ""], at: 0 };
        assert_eq!(ready(rows(script).try_collect()).unwrap(), [0, 1, 20, 21]);
    }

    #[test]
    fn a_cursor_that_comes_again_ends_the_list_with_an_error() {
        let script = Script { cursors: &["x-1", "x-2", "x-1"], at: 0 };
        let mut rows = rows(script);
        let mut got = Vec::new();
        let error = ready(async {
            loop {
                match rows.next().await {
                    Some(Ok(row)) => got.push(row),
                    Some(Err(error)) => break error,
                    None => panic!("it must not end quietly"),
                }
            }
        });
        assert_eq!((got, error.kind()), (vec![0, 1], ErrorKind::CursorLoop));
        assert!(ready(rows.next()).is_none());
        assert!(!rows.resume() && !rows.skip());
    }
}
