//! The budget as a layer of any client.

use std::time::Duration;

use http::StatusCode;
use kalshi_sdk::{
    ClientBuilder, Effect, ErrorKind, Operation,
    middleware::{
        self, Error, Extensions, Middleware, Next, NotSent, Request, Response, Result, async_trait,
    },
};
use tokio::time::Instant;

use crate::budget::{
    cost::RequestParts,
    scheduler::{Class, Completion, Refusal},
    shell::{Budget, Permit, RequestOptions},
    withdrawal::SendLimit,
};

/// The layer of a [`Budget`]: see [`Budget::layer`].
///
/// A request that is answered with 429 was not carried out: it goes back to the head of its queue,
/// whatever its operation is, up to the number of times that the budget was built with.
#[derive(Clone, Debug)]
pub struct BudgetLayer {
    budget: Budget,
}

/// The end of a whole call, which a layer above has set: no attempt begins after it, and one that
/// has begun ends by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallDeadline(pub(crate) Instant);

/// Says to the layers above that a 429 was waited for and sent again here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimitHandled;

impl BudgetLayer {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget }
    }
}

/// Adds the layer of a [`Budget`] to a client.
pub trait WithBudget {
    /// Makes every signed request wait for its tokens.
    ///
    /// A layer that retries has to be added before, so that it is above.
    fn with_budget(self, budget: &Budget) -> Self;
}

impl WithBudget for ClientBuilder {
    fn with_budget(self, budget: &Budget) -> Self {
        self.with_middleware(budget.layer())
    }
}

#[async_trait]
impl Middleware for BudgetLayer {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        // A request without an operation is not one of kalshi-sdk: nothing is known about it.
        let Some(operation) = extensions.get::<&'static Operation>().copied() else {
            return next.run(request, extensions).await;
        };
        let parts = RequestParts {
            method: request.method(),
            path: request.url().path(),
            query: request.url().query().unwrap_or_default(),
            body: request.body().and_then(|body| body.as_bytes()).unwrap_or_default(),
        };
        let Some(charge) = self.budget.charge(operation, &parts) else {
            return next.run(request, extensions).await;
        };
        let mut options = extensions.get::<RequestOptions>().cloned().unwrap_or_default();
        let class = options.class().unwrap_or_else(|| Class::of(operation));
        options = options.with_class(class);
        let end = extensions.get::<CallDeadline>().map(|deadline| deadline.0);
        if let Some(end) = end {
            options.end_within(end.saturating_duration_since(Instant::now()));
        }
        let limit = extensions.get::<SendLimit>().cloned();
        if let Some(left) = limit.as_ref().and_then(SendLimit::left) {
            options.end_within(left);
        }
        let limit = limit.as_ref();
        let acquired = self.budget.acquire(charge, options);
        let mut permit = unless_withdrawn(limit, acquired).await.map_err(refused)?;
        let mut requeues = self.budget.0.requeues;
        loop {
            if let Some(end) = end {
                end_by(&mut request, end);
            }
            let again = if requeues > 0 { request.try_clone() } else { None };
            let result = next.clone().run(request, extensions).await;
            let is_limited = matches!(
                &result, Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS
            );
            if !is_limited {
                let completion = match middleware::effect(&result) {
                    Effect::NotSent => Completion::NotSent,
                    _ => Completion::Sent,
                };
                permit.complete(completion).await;
                return result;
            }
            tracing::warn!(operation = operation.id, "answered with 429: the budget is empty");
            extensions.insert(RateLimitHandled);
            let Some(again) = again else {
                permit.complete(Completion::RateLimited).await;
                return result;
            };
            requeues -= 1;
            match unless_withdrawn(limit, permit.requeue()).await {
                Ok(renewed) => (permit, request) = (renewed, again),
                // What the exchange said is what there is to say.
                Err(_) => return result,
            }
        }
    }
}

/// Waits for the tokens of a request, unless it is withdrawn: then what it waited for is dropped, and
/// nothing is taken.
async fn unless_withdrawn(
    limit: Option<&SendLimit>,
    acquired: impl Future<Output = std::result::Result<Permit, Refusal>>,
) -> std::result::Result<Permit, Refusal> {
    let Some(limit) = limit else { return acquired.await };
    let permit = tokio::select! {
        biased;
        () = limit.withdrawn() => return Err(Refusal::Withdrawn),
        permit = acquired => permit?,
    };
    if limit.is_withdrawn() {
        permit.complete(Completion::NotSent).await;
        return Err(Refusal::Withdrawn);
    }
    Ok(permit)
}

/// Limits the time of an attempt to what is left of its call.
pub(crate) fn end_by(request: &mut Request, end: Instant) {
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let timeout = request.timeout().map_or(left, |timeout| left.min(*timeout));
    *request.timeout_mut() = Some(timeout);
}

/// Returns the error of a request that got no tokens.
fn refused(refusal: Refusal) -> Error {
    let (kind, wait) = match &refusal {
        Refusal::TooLarge { .. } => (ErrorKind::InvalidRequest, None),
        Refusal::TooLate { wait } => (ErrorKind::Timeout, Some(*wait)),
        _ => (ErrorKind::Middleware, None),
    };
    let error = NotSent::new(kind, refusal);
    Error::middleware(match wait {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    })
}
