//! The middleware: signs each attempt of a request, for the hosts that it was given.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Extensions, HeaderMap, HeaderName};
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next};

use crate::{
    credentials::missing_credentials,
    error::{AuthError, AuthErrorKind},
    key::KeyType,
    origin::Origin,
    signing::{SignedHeaders, Signer},
};

/// The policy that says whether a request is signed.
///
/// Put it into the [`Extensions`] of the request. A request without it is taken as [`Required`], so
/// that forgetting it shows at once.
///
/// [`Required`]: SigningPolicy::Required
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SigningPolicy {
    /// The request is signed. Without credentials it fails before anything is sent.
    #[default]
    Required,
    /// The request is signed if there are credentials, and sent without otherwise.
    ///
    /// For operations that show more if they are signed.
    Optional,
    /// The request is sent without signature, to any host.
    ///
    /// For public operations: signed, they would count against the account's rate limits.
    Never,
}

/// Signs the requests of a `reqwest-middleware` client.
///
/// It belongs at the end of the stack, below whatever retries: an attempt that is sent again then
/// has a timestamp and a signature of its own.
///
/// - A request is signed if its [`SigningPolicy`] says so, as it is sent: path in percent-encoding,
///   without the query.
/// - It is signed for the [`Origin`]s given, and refused for any other.
/// - `KALSHI-ACCESS-*` headers that it already has are removed, also from requests that are not
///   signed.
///
/// An RSA signature takes a fraction of a millisecond to two of processor time. It is made on a
/// thread of its own, of which there are as many as processors but one, so that the async worker
/// goes on with its other work. An Ed25519 signature takes less than moving it would, and is made
/// in place.
///
/// **Let the client follow no redirects** (`reqwest::redirect::Policy::none()`). They are followed
/// below all middleware, and `reqwest` takes `Authorization` from a request to another host, but not
/// these headers.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use kalshi_auth::{Credentials, Origin, Signer, SigningMiddleware, SystemClock};
///
/// # fn build() -> Result<(), Box<dyn std::error::Error>> {
/// let signer = Signer::new(Credentials::from_env()?, Arc::new(SystemClock));
/// let origin: Origin = "https://external-api.kalshi.com".parse()?;
/// let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
/// let client = reqwest_middleware::ClientBuilder::new(http)
///     .with(SigningMiddleware::new(Some(signer), [origin]))
///     .build();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// What it refuses is a `reqwest_middleware::Error::Middleware` that downcasts to [`AuthError`]. It
/// means that nothing was sent.
#[derive(Clone, Debug)]
pub struct SigningMiddleware {
    signer: Option<Signer>,
    origins: Arc<[Origin]>,
    time_limit: Option<Duration>,
}

impl SigningMiddleware {
    /// Returns a middleware that signs with the signer, if there is one, for the origins.
    pub fn new(signer: Option<Signer>, origins: impl IntoIterator<Item = Origin>) -> Self {
        Self { signer, origins: origins.into_iter().collect(), time_limit: None }
    }

    /// Limits the time for a signature and the request together, for each attempt.
    ///
    /// Give it the timeout of the HTTP client, which otherwise starts only after the signature. What
    /// is left after the signature becomes the timeout of the request. A request that has a timeout
    /// of its own keeps to that. It needs a Tokio runtime with its timer.
    ///
    /// Requests wait for their signatures if many are made at once: a processor makes some thousand
    /// RSA signatures a second.
    pub fn with_time_limit(self, limit: Duration) -> Self {
        Self { time_limit: Some(limit), ..self }
    }

    async fn headers(
        &self,
        request: &mut Request,
        policy: SigningPolicy,
    ) -> Result<Option<SignedHeaders>, AuthError> {
        let signer = match (policy, &self.signer) {
            (SigningPolicy::Never, _) | (SigningPolicy::Optional, None) => return Ok(None),
            (SigningPolicy::Required, None) => return Err(missing_credentials()),
            (SigningPolicy::Required | SigningPolicy::Optional, Some(signer)) => signer,
        };
        let url = request.url();
        if !self.origins.iter().any(|origin| origin.contains(url)) {
            return Err(foreign_origin(url));
        }
        let limit = request.timeout().copied().or(self.time_limit);
        let (method, path) = (request.method().as_str(), url.path());
        let (headers, left) = match (signer.credentials().key_type(), limit) {
            (KeyType::Rsa, Some(limit)) => {
                let start = Instant::now();
                let headers = tokio::time::timeout(limit, signer.sign_async(method, path))
                    .await
                    .map_err(|_| timed_out(limit))?;
                let left = limit.checked_sub(start.elapsed()).ok_or_else(|| timed_out(limit))?;
                (headers?, Some(left))
            }
            _ => (signer.sign_async(method, path).await?, None),
        };
        if let Some(left) = left {
            *request.timeout_mut() = Some(left);
        }
        Ok(Some(headers))
    }
}

#[async_trait::async_trait]
impl Middleware for SigningMiddleware {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        remove_access_headers(request.headers_mut());
        let policy = extensions.get().copied().unwrap_or_default();
        if let Some(signed) = self.headers(&mut request, policy).await.map_err(Error::middleware)? {
            signed.insert_into(request.headers_mut());
        }
        next.run(request, extensions).await
    }
}

fn timed_out(limit: Duration) -> AuthError {
    AuthError::new(
        AuthErrorKind::TimedOut,
        format!("there was no signature within {limit:?}: too many requests wait for theirs"),
    )
}

fn remove_access_headers(headers: &mut HeaderMap) {
    let is_ours = |name: &&HeaderName| name.as_str().starts_with("kalshi-access-");
    while let Some(name) = headers.keys().find(is_ours).cloned() {
        headers.remove(name);
    }
}

fn foreign_origin(url: &reqwest::Url) -> AuthError {
    let place = Origin::insecure(url).map_or_else(|_| url.scheme().to_owned(), |o| o.to_string());
    AuthError::new(
        AuthErrorKind::ForeignOrigin,
        format!("the request goes to {place}, which the credentials are not for"),
    )
}
