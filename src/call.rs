//! The outcome of one call: for metrics and logs.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use tracing::{Span, field::Empty};

use crate::{
    attempts::Attempts,
    error::{Effect, Error, ErrorKind},
    operation::Operation,
};

/// One call that has ended, for [`ClientBuilder::on_call`](crate::ClientBuilder::on_call).
///
/// It holds names and numbers only: no path parameter, no header, no part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallReport {
    /// The operation.
    pub operation: &'static Operation,
    /// The attempts that went to the HTTP client; more than one if a layer retried.
    pub attempts: u32,
    /// The status of the last response, if one came.
    pub status: Option<StatusCode>,
    /// The bytes of the body that were read, after decompression.
    pub bytes: usize,
    /// The time from calling `send` to the decoded value or the error, waits of layers included.
    pub duration: Duration,
    /// Outcome of the call.
    pub outcome: CallOutcome,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallOutcome {
    /// The call returned the documented value.
    Success,
    /// The call returned an error.
    #[non_exhaustive]
    Failure {
        /// Kind of the failure.
        kind: ErrorKind,
        /// Effect of the request: whether it may have been carried out.
        effect: Effect,
    },
    /// The future was dropped. Like [`Effect::Unknown`] for a write that had an attempt.
    Canceled,
}

/// The hook of a caller.
pub(crate) type OnCall = Box<dyn Fn(&CallReport) + Send + Sync>;

/// Calls a function of the caller's. If it panics, that is logged and goes no further: the call has an
/// answer to return, or is dropped by another panic, beside which a second one ends the process.
pub(crate) fn guarded(hook: &'static str, function: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(function)).is_err() {
        tracing::error!(hook, "a function given to the client panicked");
    }
}

/// Watches one call, and reports it when it ends, also by being dropped.
pub(crate) struct Watch<'a> {
    operation: &'static Operation,
    on_call: Option<&'a OnCall>,
    span: Span,
    attempts: Attempts,
    /// `None` where neither a subscriber nor a hook wants to know.
    started: Option<Instant>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) bytes: usize,
    outcome: CallOutcome,
}

impl<'a> Watch<'a> {
    pub(crate) fn start(
        operation: &'static Operation,
        method: &Method,
        attempts: Attempts,
        on_call: Option<&'a OnCall>,
    ) -> Self {
        let span = tracing::debug_span!(
            "call",
            operation = operation.id,
            method = method.as_str(),
            attempts = Empty,
            status = Empty,
            bytes = Empty,
            duration_us = Empty,
            error = Empty,
            effect = Empty,
        );
        let started = (on_call.is_some() || !span.is_disabled()).then(Instant::now);
        Self {
            operation,
            on_call,
            span,
            attempts,
            started,
            status: None,
            bytes: 0,
            outcome: CallOutcome::Canceled,
        }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Ends the call.
    pub(crate) fn end<T>(mut self, result: &Result<T, Error>) {
        self.outcome = match result {
            Ok(_) => CallOutcome::Success,
            Err(error) => CallOutcome::Failure { kind: error.kind(), effect: error.effect() },
        };
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let Some(started) = self.started else { return };
        let duration = started.elapsed();
        let attempts = self.attempts.count();
        let span = &self.span;
        span.record("attempts", attempts);
        span.record("bytes", self.bytes);
        span.record("duration_us", u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        if let Some(status) = self.status {
            span.record("status", status.as_u16());
        }
        match self.outcome {
            CallOutcome::Success => {}
            CallOutcome::Failure { kind, effect } => {
                span.record("error", tracing::field::debug(kind));
                span.record("effect", tracing::field::debug(effect));
            }
            CallOutcome::Canceled => {
                span.record("error", "Canceled");
            }
        }
        span.in_scope(|| tracing::debug!("call ended"));
        if let Some(on_call) = self.on_call {
            let report = CallReport {
                operation: self.operation,
                attempts,
                status: self.status,
                bytes: self.bytes,
                duration,
                outcome: self.outcome,
            };
            guarded("on_call", || on_call(&report));
        }
    }
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("operation", &self.operation.id).finish_non_exhaustive()
    }
}
