//! How a stream is set up. Nothing here connects, reads a file or starts anything.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use http::Uri;
use kalshi_auth::{Clock, Credentials, Environment, Service, SystemClock, is_loopback};
use kalshi_types::UnixMillis;

use crate::{
    error::{ConnectError, ConnectErrorKind},
    machine::Limits,
};

/// How long to wait between attempts: twice as long after each, and up to half of it at random.
#[derive(Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    random: Arc<dyn Fn() -> u32 + Send + Sync>,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        // Each hasher of the standard library starts from keys of its own, drawn at random.
        let keys = RandomState::new();
        let count = std::sync::atomic::AtomicU64::new(0);
        let random = move || {
            let next = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // The lower half is as random as all of it.
            u32::try_from(keys.hash_one(next) & u64::from(u32::MAX)).unwrap_or_default()
        };
        Self { first, longest, random: Arc::new(random) }
    }

    /// Takes its random numbers from here, evenly spread over all of `u32`.
    pub fn with_random(self, random: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        Self { random: Arc::new(random), ..self }
    }

    /// How long to wait before the attempt after so many failed ones.
    pub fn delay(&self, failed: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failed.saturating_sub(1).min(20));
        let full = self.first.saturating_mul(factor).min(self.longest);
        let nanos = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        let spread = u128::from(nanos / 2) * u128::from((self.random)()) / u128::from(u32::MAX);
        full.saturating_sub(Duration::from_nanos(u64::try_from(spread).unwrap_or_default()))
    }

    pub(crate) const fn longest(&self) -> Duration {
        self.longest
    }
}

impl Default for Backoff {
    /// From a quarter of a second to half a minute.
    fn default() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(30))
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff")
            .field("first", &self.first)
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}

/// Sees every frame of a stream as it goes over the wire, for recordings.
///
/// It is called in the task that reads the connection, and must not wait for anything.
pub trait Tap: Send {
    /// A frame arrived.
    fn received(&mut self, at: UnixMillis, text: &str);

    /// A frame is sent.
    fn sent(&mut self, at: UnixMillis, text: &str) {
        let _ = (at, text);
    }

    /// There is a connection.
    fn connected(&mut self, at: UnixMillis) {
        let _ = at;
    }

    /// The connection is lost.
    fn disconnected(&mut self, at: UnixMillis, reason: &str) {
        let _ = (at, reason);
    }
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

    /// Shows every frame to a recorder.
    pub fn with_tap(self, tap: impl Tap + 'static) -> Self {
        Self { tap: Some(Box::new(tap)), ..self }
    }

    /// The URL, if credentials may be sent to it.
    pub(crate) fn checked_url(&self) -> Result<Uri, ConnectError> {
        let refused = |text: String| ConnectError::new(ConnectErrorKind::Config, text);
        let uri = self
            .environment
            .checked_url(Service::Streams)
            .map_err(|error| refused(error.to_string()))?;
        let open = uri.scheme_str() == Some("ws");
        if open && !uri.host().is_some_and(is_loopback) {
            return Err(refused(
                "the URL of the streams must be wss:// unless it is of this machine".to_owned(),
            ));
        }
        Ok(uri)
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
