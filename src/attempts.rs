//! Records what each attempt of a call came to, whoever made it.
//!
//! A retry layer sits above signing and sends a request several times within one call. What the
//! last attempt came to says nothing about the others: the first may have been carried out. So a
//! layer below all others writes down every attempt, and an error speaks of the worst.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Extensions, Method};
use http_body::{Frame, SizeHint};
use reqwest::{Body, Request, Response};
use reqwest_middleware::{Middleware, Next};

use crate::error::{Effect, effect_of_failure, effect_of_status};

/// The attempts of one call. Clones share the record, as the extensions of a request do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts(Arc<Record>);

#[derive(Debug, Default)]
struct Record {
    started: AtomicU32,
    settled: AtomicU32,
    /// [`severity`] of the worst that is settled.
    worst: AtomicU8,
}

impl Attempts {
    fn start(&self) -> u32 {
        self.0.started.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    fn settle(&self, effect: Effect) {
        self.0.worst.fetch_max(severity(effect), Ordering::AcqRel);
        self.0.settled.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns how many attempts were made.
    pub(crate) fn count(&self) -> u32 {
        self.0.started.load(Ordering::Acquire)
    }

    /// Returns the worst that an attempt came to. One that was dropped on its way is unknown.
    pub(crate) fn worst(&self) -> Effect {
        if self.0.settled.load(Ordering::Acquire) < self.count() {
            return Effect::Unknown;
        }
        match self.0.worst.load(Ordering::Acquire) {
            0 => Effect::NotSent,
            1 => Effect::Rejected,
            _ => Effect::Unknown,
        }
    }
}

fn severity(effect: Effect) -> u8 {
    match effect {
        Effect::NotSent => 0,
        Effect::Rejected => 1,
        Effect::Unknown => 2,
    }
}

/// Returns the worse of two effects.
pub(crate) fn worse(a: Effect, b: Effect) -> Effect {
    if severity(a) < severity(b) { b } else { a }
}

/// The innermost layer: sees each attempt as it goes to the HTTP client.
#[derive(Debug)]
pub(crate) struct AttemptRecorder {
    /// True if the HTTP client is the caller's. It may have a retry policy of its own, below this
    /// layer, which reqwest does not tell; so the bodies of writes that it gets can be sent once.
    is_foreign_client: bool,
}

impl AttemptRecorder {
    pub(crate) fn new(is_foreign_client: bool) -> Self {
        Self { is_foreign_client }
    }
}

/// A layer dropped the extensions of the call.
#[derive(Debug)]
struct ExtensionsDropped;

impl fmt::Display for ExtensionsDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a middleware layer did not hand on the extensions of the call, in which its attempts \
             are recorded: call `next.run(request, extensions)` with those it was given",
        )
    }
}

impl std::error::Error for ExtensionsDropped {}

#[async_trait::async_trait]
impl Middleware for AttemptRecorder {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let Some(attempts) = extensions.get::<Attempts>().cloned() else {
            return Err(reqwest_middleware::Error::middleware(ExtensionsDropped));
        };
        if self.is_foreign_client && !is_read(request.method()) {
            send_once(&mut request);
        }
        let attempt = attempts.start();
        tracing::trace!(attempt, "sending");
        let result = next.run(request, extensions).await;
        attempts.settle(match &result {
            Ok(response) => effect_of_status(response.status()),
            Err(reqwest_middleware::Error::Reqwest(error)) => effect_of_failure(error),
            Err(reqwest_middleware::Error::Middleware(_)) => Effect::Unknown,
        });
        result
    }
}

/// Reports whether a method only reads.
pub(crate) fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Gives the request a body that cannot be cloned, which is what a retry policy would do.
fn send_once(request: &mut Request) {
    let body = match request.body().map(Body::as_bytes) {
        None => Bytes::new(),
        Some(Some(bytes)) => Bytes::copy_from_slice(bytes),
        // A stream of the caller's layers: it cannot be cloned as it is.
        Some(None) => return,
    };
    *request.body_mut() = Some(Body::wrap(Once(body)));
}

/// Bytes that are sent once. On the wire they look as they would otherwise.
struct Once(Bytes);

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let bytes = std::mem::take(&mut self.0);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_all_attempts_counts_in_any_order() {
        let all = [Effect::NotSent, Effect::Rejected, Effect::Unknown];
        for first in all {
            for second in all {
                let attempts = Attempts::default();
                for effect in [first, second] {
                    attempts.start();
                    attempts.settle(effect);
                }
                assert_eq!(attempts.count(), 2);
                assert_eq!(attempts.worst(), worse(first, second));
                assert_eq!(worse(first, second), worse(second, first));
            }
        }
    }

    #[test]
    fn an_attempt_that_did_not_end_is_unknown() {
        let attempts = Attempts::default();
        assert_eq!((attempts.count(), attempts.worst()), (0, Effect::NotSent));
        attempts.start();
        attempts.start();
        attempts.settle(Effect::Rejected);
        assert_eq!((attempts.count(), attempts.worst()), (2, Effect::Unknown));
    }

    #[test]
    fn a_body_that_is_sent_once_cannot_be_cloned_and_keeps_its_length() {
        let http = reqwest::Client::new();
        let mut request = http.post("http://localhost/").body("order").build().unwrap();
        send_once(&mut request);
        assert!(request.try_clone().is_none());
        let body = http_body::Body::size_hint(request.body().unwrap());
        assert_eq!(body.exact(), Some(5));
        let mut request = http.delete("http://localhost/").build().unwrap();
        send_once(&mut request);
        assert!(request.try_clone().is_none());
        assert!(http_body::Body::is_end_stream(request.body().unwrap()));
    }
}
