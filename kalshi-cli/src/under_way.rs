//! The writes whose outcomes are not known yet, for what Ctrl-C says.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Method;
use kalshi_sdk::{
    Effect, Operation,
    middleware::{Extensions, Middleware, Next, Request, Response, Result, async_trait, effect},
};

use crate::failure::{Category, Failure};

static WRITES: Mutex<Writes> = Mutex::new(Writes::new());

/// The writes of this process.
#[derive(Debug)]
struct Writes {
    last: u64,
    /// Those under way by their numbers, with the command that finds out what became of each.
    open: Vec<(u64, Option<String>)>,
    /// True if an earlier one may have been carried out.
    may_be_done: bool,
}

impl Writes {
    const fn new() -> Self {
        Self { last: 0, open: Vec::new(), may_be_done: false }
    }

    fn begin(&mut self, next: Option<String>) -> u64 {
        self.last += 1;
        self.open.push((self.last, next));
        self.last
    }

    fn end(&mut self, number: u64) {
        self.open.retain(|(open, _)| *open != number);
    }

    fn interrupted(&self) -> Failure {
        let message = if !self.open.is_empty() {
            "interrupted while the outcome of a request is not known: it may be carried out"
        } else if self.may_be_done {
            "interrupted after a request was sent: it may have been carried out"
        } else {
            return Failure::new(Category::Interrupted, "interrupted");
        };
        let next = self.open.iter().find_map(|(_, next)| next.clone());
        let next = next.unwrap_or_else(|| "read the state back before sending it again".to_owned());
        let mut failure = Failure::new(Category::Interrupted, message).with_next(next);
        failure.effect = Effect::Unknown;
        failure
    }
}

fn writes() -> MutexGuard<'static, Writes> {
    WRITES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The mark of a write whose outcome is not known. Dropped once it is.
#[derive(Debug)]
pub(crate) struct UnderWay(u64);

impl UnderWay {
    /// Marks a write, with the command that finds out what became of it.
    pub(crate) fn new(next: impl Into<String>) -> Self {
        Self(writes().begin(Some(next.into())))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        writes().end(self.0);
    }
}

/// The layer of every client of a command. Marks each write from before it is sent until its answer
/// begins.
#[derive(Debug)]
pub(crate) struct MarkWrites;

#[async_trait]
impl Middleware for MarkWrites {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let only_reads = |operation: &&Operation| operation.only_reads();
        let is_read = extensions.get::<&'static Operation>().is_some_and(only_reads);
        if is_read || request.method() == Method::GET {
            return next.run(request, extensions).await;
        }
        let mark = UnderWay(writes().begin(None));
        let result = next.run(request, extensions).await;
        if effect(&result) == Effect::Unknown {
            writes().may_be_done = true;
        }
        drop(mark);
        result
    }
}

/// Returns the failure of a command that Ctrl-C ended. Call it before the command is dropped: that
/// ends its marks.
pub(crate) fn interrupted() -> Failure {
    writes().interrupted()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_is_as_bad_as_the_worst_write() {
        let mut writes = Writes::new();
        assert_eq!(writes.interrupted().effect, Effect::NotSent);
        let (a, b) = (writes.begin(None), writes.begin(Some("kalshi order get a".to_owned())));
        let failure = writes.interrupted();
        assert_eq!(failure.effect, Effect::Unknown);
        assert_eq!(failure.next.as_deref(), Some("kalshi order get a"));
        writes.end(b);
        assert!(writes.interrupted().next.unwrap().contains("read the state back"));
        // Both were refused.
        writes.end(a);
        assert_eq!(writes.interrupted().effect, Effect::NotSent);
        writes.may_be_done = true;
        let failure = writes.interrupted();
        assert_eq!((failure.effect, failure.category), (Effect::Unknown, Category::Interrupted));
    }
}
