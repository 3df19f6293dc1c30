//! The settings of a connection. Nothing here connects, reads a file or starts anything.

use std::{env, fmt, sync::Arc, time::Duration};

use http::Uri;
use kalshi_auth::{Clock, Credentials, Environment, SystemClock, is_loopback};
use kalshi_types::UnixMillis;

use crate::{
    connection::{backoff::Backoff, proxy::Proxy},
    error::{ConnectError, ConnectErrorKind},
    metrics::Metrics,
    product::{EventContracts, Product},
    session::Limits,
};

/// Sees every frame of a connection as it goes over the wire, for recordings.
///
/// It is called in the task that reads the connection, and must not wait for anything.
pub trait Tap: Send {
    /// Handles a frame that arrived.
    fn received(&mut self, at: UnixMillis, text: &str);

    /// Handles a frame that is sent.
    fn sent(&mut self, at: UnixMillis, text: &str) {
        let _ = (at, text);
    }

    /// Handles a new connection.
    fn connected(&mut self, at: UnixMillis) {
        let _ = at;
    }

    /// Handles the loss of the connection.
    fn disconnected(&mut self, at: UnixMillis, reason: &str) {
        let _ = (at, reason);
    }
}

/// The source of the proxy.
#[derive(Clone)]
pub(crate) enum ProxyChoice {
    FromEnv,
    None,
    Url(String),
}

/// The settings of a connection, from [`Config::builder`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_auth::{Credentials, KeyType, server::KeyPair};
/// use kalshi_ws::{Backoff, Config, Environment};
///
/// let pair = KeyPair::generate(KeyType::Ed25519)?;
/// let config = Config::builder()
///     .with_environment(Environment::Demo)
///     .with_credentials(Credentials::from_pem("an-id", pair.private_key_pem())?)
///     .with_backoff(Backoff::new(Duration::from_millis(250), Duration::from_secs(30)))
///     .with_stale_after(Duration::from_secs(20))
///     .build()?;
/// # let _ = config;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Config<P: Product = EventContracts> {
    pub(crate) environment: Environment,
    pub(crate) credentials: Credentials,
    pub(crate) settings: Settings<P>,
}

/// Builds the settings of a connection.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use kalshi_auth::Credentials;
/// use kalshi_ws::{Config, Environment};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::builder()
///     .with_environment(Environment::Demo)
///     .with_credentials(Credentials::from_env()?)
///     .with_stale_after(Duration::from_secs(25))
///     .with_max_attempts(20)
///     .build()?;
/// # Ok(())
/// # }
/// ```
pub struct ConfigBuilder<P: Product = EventContracts> {
    environment: Option<Environment>,
    credentials: Option<Credentials>,
    settings: Settings<P>,
}

impl<P: Product> Default for ConfigBuilder<P> {
    fn default() -> Self {
        Self { environment: None, credentials: None, settings: Settings::default() }
    }
}

/// The settings that have a default.
pub(crate) struct Settings<P: Product = EventContracts> {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) snapshot_timeout: Duration,
    pub(crate) stale_after: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) max_frame_bytes: usize,
    pub(crate) items_per_command: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) proxy: ProxyChoice,
    pub(crate) keeps_books: bool,
    pub(crate) tap: Option<Box<dyn Tap>>,
    pub(crate) metrics: Option<Box<dyn Metrics<P>>>,
}

impl<P: Product> Default for Settings<P> {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            connect_timeout: Duration::from_secs(10),
            command_timeout: Duration::from_secs(10),
            snapshot_timeout: Duration::from_secs(5),
            stale_after: Duration::from_secs(30),
            backoff: Backoff::default(),
            max_attempts: None,
            max_frame_bytes: 64 << 20,
            items_per_command: 1_000,
            queue_bytes: 256 << 20,
            proxy: ProxyChoice::FromEnv,
            keeps_books: true,
            tap: None,
            metrics: None,
        }
    }
}

impl<P: Product> ConfigBuilder<P> {
    /// Sets the environment. There is no default: production moves real money.
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Sets the credentials. Every connection needs them, also for public channels.
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Takes the time of signatures and of arrivals from here.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Sets the time limit of an attempt to connect; 10 s by default.
    pub fn with_connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.settings.connect_timeout = connect_timeout;
        self
    }

    /// Sets the time limit of a command; 10 s by default. When a command that changes a subscription is
    /// not answered in time, the connection is given up; a query is reported as
    /// [`Event::Unanswered`](crate::Event::Unanswered).
    pub fn with_command_timeout(mut self, command_timeout: Duration) -> Self {
        self.settings.command_timeout = command_timeout;
        self
    }

    /// Sets the time after which a snapshot that has not come is requested again; 5 s by default, and
    /// longer each time.
    pub fn with_snapshot_timeout(mut self, snapshot_timeout: Duration) -> Self {
        self.settings.snapshot_timeout = snapshot_timeout;
        self
    }

    /// Sets the time after which a connection on which nothing comes, not even a ping, is given up;
    /// 30 s by default. The exchange pings every 10 s. A machine that was asleep for that long has
    /// lost the connection, too.
    pub fn with_stale_after(mut self, stale_after: Duration) -> Self {
        self.settings.stale_after = stale_after;
        self
    }

    /// Sets the pauses between attempts to connect, to subscribe, and to get snapshots. A connection
    /// that has held for the longest of them starts anew.
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Ends the connection for good after `max_attempts` failed attempts in a row; by default it never
    /// does. An attempt that connects and does not hold has failed.
    ///
    /// A key that is refused with 401 or 403 ends it after three attempts in any case.
    pub fn with_max_attempts(mut self, max_attempts: u32) -> Self {
        self.settings.max_attempts = Some(max_attempts);
        self
    }

    /// Refuses larger frames, and with them the connection; 64 MiB by default, the limit of the
    /// exchange.
    pub fn with_max_frame_bytes(mut self, max_frame_bytes: usize) -> Self {
        self.settings.max_frame_bytes = max_frame_bytes;
        self
    }

    /// Splits longer lists of markets into several commands; 1,000 items by default.
    pub fn with_items_per_command(mut self, items_per_command: usize) -> Self {
        self.settings.items_per_command = items_per_command;
        self
    }

    /// Sets the bytes of frames that may wait for the consumer, for each channel; 256 MiB by default.
    /// When they are used up, the channel's [`Overflow`](crate::Overflow) applies.
    pub fn with_queue_bytes(mut self, queue_bytes: usize) -> Self {
        self.settings.queue_bytes = queue_bytes;
        self
    }

    /// Connects through an HTTP proxy, such as `http://user:password@proxy.example:8080`.
    ///
    /// By default the environment names it: `HTTPS_PROXY` or `ALL_PROXY` (or their names in lower
    /// case), except for the hosts of `NO_PROXY`. A proxy that is not of `http://` is refused when
    /// connecting. This machine is always connected to without one.
    pub fn with_proxy(mut self, url: impl Into<String>) -> Self {
        self.settings.proxy = ProxyChoice::Url(url.into());
        self
    }

    /// Connects without a proxy, whatever the environment says.
    pub fn with_no_proxy(mut self) -> Self {
        self.settings.proxy = ProxyChoice::None;
        self
    }

    /// Keeps no order books in the connection: for consumers that hand the events on, and apply them
    /// to [`Books`](crate::Books) elsewhere.
    pub fn without_books(mut self) -> Self {
        self.settings.keeps_books = false;
        self
    }

    /// Shows every frame to a recorder.
    pub fn with_tap(mut self, tap: impl Tap + 'static) -> Self {
        self.settings.tap = Some(Box::new(tap));
        self
    }

    /// Shows what the connection does to `metrics`.
    pub fn with_metrics(mut self, metrics: impl Metrics<P> + 'static) -> Self {
        self.settings.metrics = Some(Box::new(metrics));
        self
    }

    /// Builds the settings. Connects to nothing.
    ///
    /// # Errors
    ///
    /// [`ConnectErrorKind::Config`]: no environment or no credentials, a URL that credentials must not
    /// be sent to, or a proxy that cannot be used.
    pub fn build(self) -> Result<Config<P>, ConnectError> {
        let missing = |what| ConnectError::new(ConnectErrorKind::Config, what);
        let environment = self.environment.ok_or_else(|| {
            missing("no environment: call with_environment(Environment::Demo) or another")
        })?;
        let credentials = self.credentials.ok_or_else(|| {
            missing("no credentials: call with_credentials, also for public data")
        })?;
        let config = Config { environment, credentials, settings: self.settings };
        let uri = config.checked_url()?;
        config.proxy_for(&uri)?;
        Ok(config)
    }
}

impl<P: Product> Config<P> {
    /// Returns a builder.
    pub fn builder() -> ConfigBuilder<P> {
        ConfigBuilder::default()
    }

    /// Returns the proxy for a URL.
    pub(crate) fn proxy_for(&self, uri: &Uri) -> Result<Option<Proxy>, ConnectError> {
        let host = uri.host().unwrap_or_default();
        if is_loopback(host) {
            return Ok(None);
        }
        match &self.settings.proxy {
            ProxyChoice::None => Ok(None),
            ProxyChoice::Url(url) => Proxy::parse(url).map(Some),
            ProxyChoice::FromEnv => Proxy::from_vars(host, |name| env::var(name).ok()),
        }
    }

    /// Returns the URL, if credentials may be sent to it.
    pub(crate) fn checked_url(&self) -> Result<Uri, ConnectError> {
        let refused = |text: String| ConnectError::new(ConnectErrorKind::Config, text);
        let uri =
            self.environment.checked_url(P::SERVICE).map_err(|error| refused(error.to_string()))?;
        let open = uri.scheme_str() == Some("ws");
        if open && !uri.host().is_some_and(is_loopback) {
            return Err(refused(
                "the URL of the streams must be wss:// unless it is of this machine".to_owned(),
            ));
        }
        Ok(uri)
    }
}

impl<P: Product> Settings<P> {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            command_timeout: self.command_timeout,
            snapshot_timeout: self.snapshot_timeout,
            stale_after: self.stale_after,
            backoff: self.backoff.clone(),
            items_per_command: self.items_per_command,
        }
    }
}

impl<P: Product> fmt::Debug for Config<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("environment", &self.environment)
            .field("credentials", &self.credentials)
            .field("settings", &self.settings)
            .finish()
    }
}

impl<P: Product> fmt::Debug for ConfigBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigBuilder")
            .field("environment", &self.environment)
            .field("credentials", &self.credentials)
            .field("settings", &self.settings)
            .finish()
    }
}

impl<P: Product> fmt::Debug for Settings<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("connect_timeout", &self.connect_timeout)
            .field("command_timeout", &self.command_timeout)
            .field("snapshot_timeout", &self.snapshot_timeout)
            .field("stale_after", &self.stale_after)
            .field("backoff", &self.backoff)
            .field("max_attempts", &self.max_attempts)
            .field("max_frame_bytes", &self.max_frame_bytes)
            .field("items_per_command", &self.items_per_command)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use kalshi_auth::{KeyType, server::KeyPair};

    use super::*;

    #[test]
    fn what_has_no_default_must_be_given() {
        let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
        let credentials = Credentials::from_pem("key-id", pair.private_key_pem()).unwrap();
        let with_key = || Config::<EventContracts>::builder().with_credentials(credentials.clone());
        let demo = || Config::<EventContracts>::builder().with_environment(Environment::Demo);
        for (builder, what) in [
            (with_key(), "with_environment"),
            (demo(), "with_credentials"),
            (
                with_key().with_environment(Environment::Custom("ws://1.2.3.4/".to_owned())),
                "wss://",
            ),
            (demo().with_credentials(credentials.clone()).with_proxy("ftp://proxy"), "proxy"),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.kind(), ConnectErrorKind::Config);
            assert!(error.to_string().contains(what), "{error}");
        }
        let config = with_key().with_environment(Environment::Demo).build().unwrap();
        assert!(!format!("{config:?}").contains("PRIVATE"));
    }
}
