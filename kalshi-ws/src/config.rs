//! How a stream is set up. Nothing here connects, reads a file or starts anything.

use std::{env, fmt, sync::Arc, time::Duration};

use http::Uri;
use kalshi_auth::{Clock, Credentials, SystemClock, Timestamp};

use crate::{
    connection::{backoff::Backoff, proxy::Proxy},
    error::{ConnectError, ConnectErrorKind},
    session::Limits,
};

/// Where the streams of the exchange are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// Real money.
    Production,
    /// Mock money.
    Demo,
    /// Any other URL, such as `ws://127.0.0.1:8080/trade-api/ws/v2`.
    Custom(String),
}

impl Environment {
    /// Reads `KALSHI_ENV`: `production`, `demo`, the base URL of a REST API (see
    /// [`of_rest_url`](Self::of_rest_url)), or the URL of the streams.
    ///
    /// # Errors
    ///
    /// [`ConnectErrorKind::Config`] when the variable is missing or is something else.
    pub fn from_env() -> Result<Self, ConnectError> {
        let text = env::var("KALSHI_ENV").unwrap_or_default();
        if text == "production" {
            return Ok(Self::Production);
        }
        if text == "demo" {
            return Ok(Self::Demo);
        }
        if text.starts_with("ws://") || text.starts_with("wss://") {
            return Ok(Self::Custom(text));
        }
        Self::of_rest_url(&text).ok_or_else(|| {
            ConnectError::new(
                ConnectErrorKind::Config,
                "KALSHI_ENV must be `production`, `demo` or a URL",
            )
        })
    }

    /// Where the streams are that belong to the base URL of a REST API, such as
    /// `https://external-api.demo.kalshi.co/trade-api/v2`: on hosts of their own for production and
    /// demo, on the same host for any other. `None` if the URL does not begin with `http://` or
    /// `https://`.
    ///
    /// ```
    /// use kalshi_ws::Environment;
    ///
    /// let url = |rest| Environment::of_rest_url(rest).map(|streams| streams.url().to_owned());
    /// let local = "ws://127.0.0.1:8080/trade-api/ws/v2";
    /// assert_eq!(url("http://127.0.0.1:8080/trade-api/v2/").as_deref(), Some(local));
    /// let demo = "wss://external-api-ws.demo.kalshi.co/trade-api/ws/v2";
    /// assert_eq!(url("https://external-api.demo.kalshi.co/trade-api/v2").as_deref(), Some(demo));
    /// assert_eq!(url("ftp://127.0.0.1"), None);
    /// ```
    pub fn of_rest_url(url: &str) -> Option<Self> {
        let url = url.trim_end_matches('/');
        match url {
            "https://external-api.kalshi.com/trade-api/v2" => return Some(Self::Production),
            "https://external-api.demo.kalshi.co/trade-api/v2" => return Some(Self::Demo),
            _ => {}
        }
        let (scheme, rest) = url.split_once("://")?;
        let scheme = match scheme {
            "http" => "ws",
            "https" => "wss",
            _ => return None,
        };
        let rest = rest.strip_suffix("/trade-api/v2").unwrap_or(rest);
        Some(Self::Custom(format!("{scheme}://{rest}/trade-api/ws/v2")))
    }

    /// The URL of the streams.
    pub fn url(&self) -> &str {
        match self {
            Self::Production => "wss://external-api-ws.kalshi.com/trade-api/ws/v2",
            Self::Demo => "wss://external-api-ws.demo.kalshi.co/trade-api/ws/v2",
            Self::Custom(url) => url,
        }
    }
}

/// Sees every frame of a stream as it goes over the wire, for recordings.
///
/// It is called in the task that reads the connection, and must not wait for anything.
pub trait Tap: Send {
    /// A frame arrived.
    fn received(&mut self, at: Timestamp, text: &str);

    /// A frame is sent.
    fn sent(&mut self, at: Timestamp, text: &str) {
        let _ = (at, text);
    }

    /// There is a connection.
    fn connected(&mut self, at: Timestamp) {
        let _ = at;
    }

    /// The connection is lost.
    fn disconnected(&mut self, at: Timestamp, reason: &str) {
        let _ = (at, reason);
    }
}

/// Where the proxy is named.
#[derive(Clone)]
pub(crate) enum ProxyChoice {
    FromEnv,
    None,
    Url(String),
}

/// How a stream is set up.
pub struct Config {
    pub(crate) environment: Environment,
    pub(crate) credentials: Credentials,
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
    pub(crate) tap: Option<Box<dyn Tap>>,
}

impl Config {
    /// The usual settings. Every connection needs credentials, also for public channels.
    pub fn new(environment: Environment, credentials: Credentials) -> Self {
        Self {
            environment,
            credentials,
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
            tap: None,
        }
    }

    /// Takes the time of signatures and of arrivals from here.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Gives up an attempt to connect after so long; 10 s unless said otherwise.
    pub fn with_connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// Gives up the connection if a command is not answered for so long; 10 s unless said
    /// otherwise.
    pub fn with_command_timeout(self, command_timeout: Duration) -> Self {
        Self { command_timeout, ..self }
    }

    /// Asks for snapshots of order books again after so long without one; 5 s unless said
    /// otherwise, and longer each time.
    pub fn with_snapshot_timeout(self, snapshot_timeout: Duration) -> Self {
        Self { snapshot_timeout, ..self }
    }

    /// Gives up a connection on which nothing comes for so long, not even a ping; 30 s unless said
    /// otherwise. The exchange pings every 10 s.
    pub fn with_stale_after(self, stale_after: Duration) -> Self {
        Self { stale_after, ..self }
    }

    /// How long to wait between attempts.
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Ends the stream after so many failed attempts in a row; never unless said otherwise.
    pub fn with_max_attempts(self, max_attempts: u32) -> Self {
        Self { max_attempts: Some(max_attempts), ..self }
    }

    /// Refuses larger frames, and with them the connection; 64 MiB unless said otherwise, as the
    /// exchange has it.
    pub fn with_max_frame_bytes(self, max_frame_bytes: usize) -> Self {
        Self { max_frame_bytes, ..self }
    }

    /// Splits longer lists of markets into several commands; 1,000 unless said otherwise.
    pub fn with_items_per_command(self, items_per_command: usize) -> Self {
        Self { items_per_command, ..self }
    }

    /// Sets the bytes of frames that may wait for the consumer, for each channel; 256 MiB by default.
    /// When they are used up, the channel's [`Overflow`](crate::Overflow) applies.
    pub fn with_queue_bytes(self, queue_bytes: usize) -> Self {
        Self { queue_bytes, ..self }
    }

    /// Connects through an HTTP proxy, such as `http://user:password@proxy.example:8080`.
    ///
    /// By default the environment names it: `HTTPS_PROXY` or `ALL_PROXY` (or their names in lower
    /// case), except for the hosts of `NO_PROXY`. A proxy that is not of `http://` is refused when
    /// connecting. This machine is always connected to without one.
    pub fn with_proxy(self, url: impl Into<String>) -> Self {
        Self { proxy: ProxyChoice::Url(url.into()), ..self }
    }

    /// Connects without a proxy, whatever the environment says.
    pub fn with_no_proxy(self) -> Self {
        Self { proxy: ProxyChoice::None, ..self }
    }

    /// Shows every frame to a recorder.
    pub fn with_tap(self, tap: impl Tap + 'static) -> Self {
        Self { tap: Some(Box::new(tap)), ..self }
    }

    /// The proxy for a URL.
    pub(crate) fn proxy_for(&self, uri: &Uri) -> Result<Option<Proxy>, ConnectError> {
        let host = uri.host().unwrap_or_default();
        if is_loopback(host) {
            return Ok(None);
        }
        match &self.proxy {
            ProxyChoice::None => Ok(None),
            ProxyChoice::Url(url) => Proxy::parse(url).map(Some),
            ProxyChoice::FromEnv => Proxy::from_vars(host, |name| env::var(name).ok()),
        }
    }

    /// The URL, if credentials may be sent to it.
    pub(crate) fn checked_url(&self) -> Result<Uri, ConnectError> {
        let text = self.environment.url();
        let bad = |why: &str| {
            ConnectError::new(ConnectErrorKind::Config, format!("the URL of the streams {why}"))
        };
        let uri: Uri = text.parse().map_err(|error| bad("is none").with_source(error))?;
        let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("must not hold a user name or password"));
        }
        match uri.scheme_str() {
            Some("wss") => Ok(uri),
            Some("ws") if is_loopback(authority.host()) => Ok(uri),
            Some("ws") => Err(bad("must be wss:// unless it is of this machine")),
            _ => Err(bad("must start with wss://")),
        }
    }

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

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("environment", &self.environment)
            .field("credentials", &self.credentials)
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

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
