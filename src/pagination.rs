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
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::stream;

use crate::error::Error;

/// A request for one page of a list. Implemented by generated code.
pub(crate) trait List: Clone + Send {
    /// One page.
    type Page: Send;
    /// One row.
    type Row: Send;

    /// The same request for the page after a cursor.
    fn after(self, cursor: &str) -> Self;

    /// Fetches the page.
    fn fetch(self) -> impl Future<Output = Result<Self::Page, Error>> + Send;

    /// The cursor of the page after this one, as the server gave it.
    fn cursor(page: &Self::Page) -> Option<&str>;

    /// The rows of a page.
    fn rows(page: Self::Page) -> Vec<Self::Row>;
}

/// The rows of a list, page after page. See the `stream` of the request that made it.
#[must_use = "a stream does nothing until it is polled"]
pub struct Rows<'a, T>(Inner<'a, T>);

/// The pages of a list. See the `pages` of the request that made it.
#[must_use = "a stream does nothing until it is polled"]
pub struct Pages<'a, T>(Inner<'a, T>);

type Inner<'a, T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send + 'a>>;

macro_rules! stream_type {
    ($name:ident, $what:literal) => {
        impl<T> $name<'_, T> {
            #[doc = concat!("The next ", $what, "; `None` at the end, and after an error.")]
            ///
            /// # Errors
            ///
            /// Whatever fetching the page answered; nothing comes after it.
            ///
            /// # Cancellation
            ///
            /// Dropping the future keeps the stream where it was: the page under way goes on with
            /// the next call.
            pub async fn next(&mut self) -> Option<Result<T, Error>> {
                std::future::poll_fn(|context| self.0.as_mut().poll_next(context)).await
            }

            #[doc = concat!("Collects every ", $what, " that is left.")]
            ///
            /// # Errors
            ///
            /// The first error; what was collected until then is dropped.
            pub async fn try_collect(mut self) -> Result<Vec<T>, Error> {
                let mut all = Vec::new();
                while let Some(item) = self.next().await {
                    all.push(item?);
                }
                Ok(all)
            }
        }

        impl<T> Stream for $name<'_, T> {
            type Item = Result<T, Error>;

            fn poll_next(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<Option<Self::Item>> {
                self.0.as_mut().poll_next(context)
            }
        }

        impl<T> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

stream_type!(Rows, "row");
stream_type!(Pages, "page");

/// Every page, from the one that the request asks for.
pub(crate) fn pages<'a, L: List + 'a>(request: L) -> Pages<'a, L::Page> {
    struct State<L> {
        request: L,
        /// `None` once the list has ended.
        next: Option<L>,
        seen: Seen,
    }
    let state = State { next: Some(request.clone()), request, seen: Seen::default() };
    Pages(Box::pin(stream::try_unfold(state, |mut state| async move {
        let Some(next) = state.next.take() else { return Ok(None) };
        let page = next.fetch().await?;
        // The end is an empty cursor, or none.
        if let Some(cursor) = L::cursor(&page).filter(|cursor| !cursor.is_empty()) {
            if !state.seen.insert(cursor) {
                return Err(Error::cursor_loop(cursor));
            }
            state.next = Some(state.request.clone().after(cursor));
        }
        Ok(Some((page, state)))
    })))
}

/// Every row of every page.
pub(crate) fn rows<'a, L: List + 'a>(request: L) -> Rows<'a, L::Row> {
    struct State<'a, L: List> {
        pages: Pages<'a, L::Page>,
        rows: std::vec::IntoIter<L::Row>,
    }
    let state: State<'a, L> = State { pages: pages(request), rows: Vec::new().into_iter() };
    Rows(Box::pin(stream::try_unfold(state, |mut state| async move {
        loop {
            if let Some(row) = state.rows.next() {
                return Ok(Some((row, state)));
            }
            match state.pages.next().await {
                // A page without rows but with a cursor is not the end.
                Some(page) => state.rows = L::rows(page?).into_iter(),
                None => return Ok(None),
            }
        }
    })))
}

/// The cursors that a list has given, as 64-bit hashes: a list may be long, and its cursors too.
#[derive(Default)]
struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Seen {
    /// Whether the cursor is new.
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
        type Page = (usize, &'static str);
        type Row = usize;

        fn after(mut self, cursor: &str) -> Self {
            self.at = cursor.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            self
        }

        async fn fetch(self) -> Result<Self::Page, Error> {
            Ok((self.at, self.cursors[self.at]))
        }

        fn cursor(page: &Self::Page) -> Option<&str> {
            Some(page.1)
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
    }
}
