//! The client and how it is set up.

use std::{fmt, sync::Arc, time::Duration};

use kalshi_auth::{
    Clock, Credentials, Environment, Origin, Service, Signer, SigningMiddleware, SystemClock,
};
use reqwest_middleware::{ClientWithMiddleware, Middleware};

use crate::{
    drift::{DEFAULT_DRIFT_INTERVAL, Drift, Observer, OnDrift},
    error::Error,
};

/// How long a connection may take to come about, unless set otherwise.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take from connecting to the last byte, unless set otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How large an answer may be, unless set otherwise. The list of all series is tens of megabytes.
pub const DEFAULT_MAX_RESPONSE_BYTES: usize = 256 * 1024 * 1024;

/// A client of the Trade API: one method for each operation.
///
/// The methods stand in the order of the exchange's paths. To find the one for a purpose, start at the
/// [`guide`](crate::guide), or search the table of [`OPERATIONS`](crate::OPERATIONS) by its tags.
///
/// Cheap to clone; clones share connections and credentials. Neither [`Debug`] nor any error shows
/// the private key.
///
/// ```no_run
/// # async fn run() -> Result<(), kalshi_sdk::Error> {
/// use kalshi_sdk::{Client, Environment};
///
/// let client = Client::builder().with_environment(Environment::Demo).build()?;
/// let page = client.get_markets().limit(10).send().await?;
/// for market in &page.markets {
///     println!("{} {}", market.ticker, market.yes_bid_dollars);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    environment: Environment,
    base_url: String,
    http: reqwest::Client,
    stack: ClientWithMiddleware,
    credentials: Option<Credentials>,
    max_response_bytes: usize,
    drift: Option<Observer>,
}

impl Client {
    /// Starts to set up a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A client of the production environment: real money.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`].
    pub fn production(credentials: Credentials) -> Result<Self, Error> {
        Self::builder()
            .with_environment(Environment::Production)
            .with_credentials(credentials)
            .build()
    }

    /// A client of the demo environment: mock money. Its keys are made on the demo site.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`].
    pub fn demo(credentials: Credentials) -> Result<Self, Error> {
        Self::builder().with_environment(Environment::Demo).with_credentials(credentials).build()
    }

    /// Returns the environment that the client was built for.
    pub fn environment(&self) -> &Environment {
        &self.0.environment
    }

    /// Returns the base URL, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// The credentials that sign private requests, if there are any.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.0.credentials.as_ref()
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    pub(crate) fn stack(&self) -> &ClientWithMiddleware {
        &self.0.stack
    }

    pub(crate) fn max_response_bytes(&self) -> usize {
        self.0.max_response_bytes
    }

    pub(crate) fn drift(&self) -> Option<&Observer> {
        self.0.drift.as_ref()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.0.base_url)
            .field("credentials", &self.0.credentials)
            .finish_non_exhaustive()
    }
}

/// Sets up a [`Client`].
///
/// The environment must be named; everything else has a default. Nothing connects, spawns or reads
/// the process's environment until a request is sent.
#[derive(Default)]
#[must_use = "call `build`"]
pub struct ClientBuilder {
    environment: Option<Environment>,
    credentials: Option<Credentials>,
    clock: Option<Arc<dyn Clock>>,
    http_client: Option<reqwest::Client>,
    timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    proxy: Option<reqwest::Proxy>,
    user_agent: Option<String>,
    middleware: Vec<Arc<dyn Middleware>>,
    max_response_bytes: Option<usize>,
    plain_http: bool,
    on_drift: Option<OnDrift>,
    drift_interval: Option<Duration>,
}

impl ClientBuilder {
    /// Where the exchange is. There is no default: production moves real money.
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// What signs private requests. Without it the public operations work.
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Where timestamps come from, instead of the system's clock. The exchange refuses a timestamp
    /// that is off by more than a few seconds.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Your own HTTP client, for its pool, TLS, DNS or socket settings.
    ///
    /// It must not follow redirects (`redirect(reqwest::redirect::Policy::none())`): reqwest would
    /// carry the signature headers to whichever host it is sent to. [`build`](Self::build) refuses
    /// one that does. Timeouts, proxy and user agent are then yours to set on it.
    pub fn with_http_client(mut self, client: reqwest::Client) -> Self {
        self.http_client = Some(client);
        self
    }

    /// How long a call may take from connecting to the last byte: [`DEFAULT_TIMEOUT`] unless set.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long a connection may take to come about: [`DEFAULT_CONNECT_TIMEOUT`] unless set.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// A proxy for every request. Without one the `HTTPS_PROXY` family of variables applies.
    pub fn with_proxy(mut self, proxy: reqwest::Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// The `User-Agent`: the name and version of this crate unless set.
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = Some(user_agent.into());
        self
    }

    /// A layer around every request, such as retries or metrics; the first one added is outermost.
    ///
    /// Signing stays innermost, so each attempt of a retry gets a new timestamp and signature. The
    /// layer finds the `&'static Operation` in the request's extensions: retry only what its
    /// [`retry`](crate::Operation::retry) allows.
    pub fn with_middleware(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Arc::new(middleware));
        self
    }

    /// How large an answer may be: [`DEFAULT_MAX_RESPONSE_BYTES`] unless set.
    pub fn with_max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = Some(bytes);
        self
    }

    /// Signs requests that go to another machine over plain HTTP, too.
    ///
    /// Whoever listens in can repeat such a request while its timestamp is fresh. On this machine
    /// (`127.0.0.1`, `localhost`) plain HTTP needs no permission.
    pub fn with_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Looks at every success for what this version of the crate does not know: unknown fields,
    /// unknown values of enums, required fields that are missing. Each is handed to `observer`, and
    /// logged as a warning, once per operation, place and interval.
    ///
    /// Without it nothing is looked at. With it each answer is read a second time, on the task that
    /// made the call: `observer` should return at once.
    pub fn on_drift(mut self, observer: impl Fn(&Drift) + Send + Sync + 'static) -> Self {
        self.on_drift = Some(Box::new(observer));
        self
    }

    /// How long the same drift stays unsaid: [`DEFAULT_DRIFT_INTERVAL`] unless set.
    pub fn with_drift_interval(mut self, interval: Duration) -> Self {
        self.drift_interval = Some(interval);
        self
    }

    /// Makes the client. Sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): no environment, a base URL that is none or
    /// (with credentials) of plain HTTP to another machine, a client of your own that follows
    /// redirects, or settings that such a client makes void.
    pub fn build(self) -> Result<Client, Error> {
        let Some(environment) = &self.environment else {
            return Err(Error::config(
                "no environment: call with_environment(Environment::Demo) or another",
            ));
        };
        let url = checked_url(environment)?;
        let http = match &self.http_client {
            Some(client) => self.checked(client)?,
            None => self.own_client()?,
        };
        let mut stack = reqwest_middleware::ClientBuilder::new(http.clone());
        for layer in self.middleware {
            stack = stack.with_arc(layer);
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let origin = match &self.credentials {
            None => None,
            Some(_) if self.plain_http => Some(Origin::insecure(&url)),
            Some(_) => Some(Origin::new(&url)),
        };
        let origin = origin.transpose().map_err(|error| Error::config(error.to_string()))?;
        let interval = self.drift_interval.unwrap_or(DEFAULT_DRIFT_INTERVAL);
        let drift = self.on_drift.map(|on_drift| Observer::new(on_drift, interval, clock.clone()));
        let signer = self.credentials.clone().map(|credentials| Signer::new(credentials, clock));
        let signing = SigningMiddleware::new(signer, origin);
        Ok(Client(Arc::new(Inner {
            base_url: environment.rest_url().into_owned(),
            environment: environment.clone(),
            http,
            stack: stack.with(signing).build(),
            credentials: self.credentials,
            max_response_bytes: self.max_response_bytes.unwrap_or(DEFAULT_MAX_RESPONSE_BYTES),
            drift,
        })))
    }

    fn own_client(&self) -> Result<reqwest::Client, Error> {
        let user_agent = self.user_agent.as_deref().unwrap_or(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ));
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT))
            .timeout(self.timeout.unwrap_or(DEFAULT_TIMEOUT))
            .tcp_nodelay(true)
            .user_agent(user_agent);
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder.build().map_err(|error| {
            Error::config(format!("the HTTP client cannot be made: {}", error.without_url()))
        })
    }

    /// Takes a client of the caller's if it follows no redirect.
    fn checked(&self, client: &reqwest::Client) -> Result<reqwest::Client, Error> {
        let void = [
            ("with_timeout", self.timeout.is_some()),
            ("with_connect_timeout", self.connect_timeout.is_some()),
            ("with_proxy", self.proxy.is_some()),
            ("with_user_agent", self.user_agent.is_some()),
        ];
        if let Some((setting, _)) = void.iter().find(|(_, set)| *set) {
            return Err(Error::config(format!(
                "{setting} has no effect on a client of your own: set it on that client"
            )));
        }
        // reqwest tells its policy nowhere else. Should the form of this text change, every client
        // is refused, and the test of this function fails.
        if !format!("{client:?}").contains("Policy(None)") {
            return Err(Error::config(
                "the HTTP client follows redirects, which would carry signatures to other hosts: \
                 build it with redirect(reqwest::redirect::Policy::none())",
            ));
        }
        Ok(client.clone())
    }
}

fn checked_url(environment: &Environment) -> Result<reqwest::Url, Error> {
    environment.checked_url(Service::Rest).map_err(|error| Error::config(error.to_string()))?;
    let text = environment.rest_url();
    reqwest::Url::parse(&text)
        .map_err(|error| Error::config(format!("the base URL {text:?} is invalid: {error}")))
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("environment", &self.environment)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ClientBuilder {
        Client::builder().with_environment(Environment::Demo)
    }

    #[test]
    fn a_client_that_follows_redirects_is_refused() {
        let error = builder().with_http_client(reqwest::Client::new()).build().unwrap_err();
        assert!(
            error.to_string().contains("redirect(reqwest::redirect::Policy::none())"),
            "{error}"
        );
        let strict = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        builder().with_http_client(strict.build().unwrap()).build().unwrap();
    }

    #[test]
    fn a_setting_that_would_have_no_effect_is_refused() {
        let strict = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let own = builder().with_http_client(strict.build().unwrap());
        let error = own.with_timeout(Duration::from_secs(1)).build().unwrap_err();
        assert!(error.to_string().starts_with("with_timeout has no effect"), "{error}");
    }

    #[test]
    fn an_environment_must_be_named() {
        assert!(Client::builder().build().unwrap_err().to_string().contains("with_environment"));
    }
}
