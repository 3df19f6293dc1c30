//! The parts of a layer of your own, for
//! [`ClientBuilder::with_middleware`](crate::ClientBuilder::with_middleware).
//!
//! A layer sees every request before it is signed, and every response before it is read. It finds
//! the operation in the extensions, and may send a request more than once: each attempt is signed
//! anew. The trait is that of the crate `reqwest-middleware`, whose ready-made layers fit, too; to
//! implement it, `async_trait` is here as well.
//!
//! ```
//! use std::time::Instant;
//!
//! use kalshi_sdk::{
//!     Operation,
//!     middleware::{Extensions, Middleware, Next, Request, Response, Result, async_trait},
//! };
//!
//! /// Prints how long each call takes.
//! struct Timing;
//!
//! #[async_trait]
//! impl Middleware for Timing {
//!     async fn handle(
//!         &self,
//!         request: Request,
//!         extensions: &mut Extensions,
//!         next: Next<'_>,
//!     ) -> Result<Response> {
//!         let operation = extensions.get::<&'static Operation>().map_or("?", |o| o.id);
//!         let start = Instant::now();
//!         let response = next.run(request, extensions).await;
//!         println!("{operation} took {:?}", start.elapsed());
//!         response
//!     }
//! }
//!
//! # async fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let exchange = kalshi_sim::Exchange::start().await?;
//! let client = kalshi_sdk::Client::builder()
//!     .with_environment(exchange.environment())
//!     .with_middleware(Timing)
//!     .build()?;
//! client.get_exchange_status().send().await?;
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
//! ```
//!
//! A layer that retries must ask [`Operation::retry`](crate::Operation::retry) first: a write that
//! was carried out once may be carried out twice. The example `retry_layer` is one.

use std::{error::Error as StdError, fmt, time::Duration};

use kalshi_auth::AuthError;
use kalshi_types::UnixMillis;

pub use async_trait::async_trait;
pub use http::Extensions;
pub use reqwest::{Request, Response};
pub use reqwest_middleware::{Error, Middleware, Next, Result};

use crate::error::{self, Effect, ErrorKind, effect_of_failure, effect_of_status};

/// The error of a layer that did not send a request.
///
/// A layer returns it as `Error::middleware(NotSent::new(…))`. The caller of the operation then gets
/// an [`Error`](crate::Error) of the given kind; its effect is [`Effect::NotSent`], unless a layer
/// above had sent the request before.
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_sdk::{ErrorKind, middleware::{Error, NotSent}};
///
/// let refusal = NotSent::new(ErrorKind::Timeout, "the queue is too long")
///     .with_retry_after(Duration::from_millis(20));
/// let error = Error::middleware(refusal);
/// # let _ = error;
/// ```
#[derive(Debug)]
pub struct NotSent {
    kind: ErrorKind,
    retry_after: Option<Duration>,
    source: Box<dyn StdError + Send + Sync>,
}

impl NotSent {
    /// Returns the error of a request that was not sent, for a reason.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, retry_after: None, source: source.into() }
    }

    /// Sets the time after which a retry would be sent; it becomes
    /// [`Error::retry_after`](crate::Error::retry_after), which ends at a day.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn into_parts(
        self,
    ) -> (ErrorKind, Option<Duration>, Box<dyn StdError + Send + Sync>) {
        (self.kind, self.retry_after, self.source)
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not sent")
    }
}

impl StdError for NotSent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

/// Returns the server's time, from the `Date` header of a response, in whole seconds.
pub fn server_date(response: &Response) -> Option<UnixMillis> {
    error::server_date(response.headers())
}

/// Returns the effect of one attempt, as [`Error::effect`](crate::Error::effect) counts it: what the
/// layers below made of the request. A success is [`Effect::Unknown`], as its body may say that it
/// failed.
///
/// An error of a layer below that is neither a [`NotSent`] nor one of signing is
/// [`Effect::Unknown`]: that layer may have sent the request.
pub fn effect(result: &Result<Response>) -> Effect {
    match result {
        Ok(response) => effect_of_status(response.status()),
        Err(Error::Reqwest(error)) => effect_of_failure(error),
        Err(Error::Middleware(error)) => {
            if error.is::<AuthError>() || error.is::<NotSent>() {
                Effect::NotSent
            } else {
                Effect::Unknown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OperationId, error};

    #[test]
    fn what_a_layer_did_not_send_has_no_effect_and_its_own_kind() {
        let refusal = || {
            NotSent::new(ErrorKind::Timeout, "the queue is too long")
                .with_retry_after(Duration::from_millis(20))
        };
        assert_eq!(effect(&Err(Error::middleware(refusal()))), Effect::NotSent);
        let operation = OperationId::CreateOrderV2.operation();
        let error = error::Error::held_back(operation, refusal());
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotSent));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(20)));
        let text = "create_order_v2: the request was not sent: the queue is too long";
        assert_eq!(error.to_string(), text);
        let endless = NotSent::new(ErrorKind::Timeout, "never").with_retry_after(Duration::MAX);
        let day = Duration::from_secs(86_400);
        assert_eq!(error::Error::held_back(operation, endless).retry_after(), Some(day));
    }

    #[test]
    fn an_error_of_another_layer_may_have_been_sent() {
        let error = Error::middleware(std::io::Error::other("a layer with a client of its own"));
        assert_eq!(effect(&Err(error)), Effect::Unknown);
    }

    #[test]
    fn an_answer_has_the_effect_of_its_status_and_the_servers_date() {
        for (status, expected) in [
            (200, Effect::Unknown),
            (400, Effect::Rejected),
            (408, Effect::Unknown),
            (429, Effect::Rejected),
            (503, Effect::Unknown),
        ] {
            let answer = http::Response::builder()
                .status(status)
                .header("date", "Thu, 01 Jan 1970 00:01:00 GMT")
                .body("")
                .unwrap();
            let answer = Ok(Response::from(answer));
            assert_eq!(effect(&answer), expected, "{status}");
            let date = server_date(answer.as_ref().unwrap());
            assert_eq!(date, Some(UnixMillis::from_millis(60_000)));
        }
    }
}
