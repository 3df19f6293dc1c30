//! The settings of the bus. Only [`NatsConfig::connect`] connects.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use kalshi_auth::is_loopback;
use tokio::sync::mpsc;

use super::NatsError;

/// The pause before the first attempt to connect again; it doubles to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The time between two pings. Without an answer to three of them the connection is given up.
const PING: Duration = Duration::from_secs(2);

/// The settings of a connection to NATS.
///
/// # Examples
///
/// ```
/// use kalshi_fanout::nats::NatsConfig;
///
/// let config = NatsConfig::new("nats://10.0.0.1:4222", "production")
///     .with_server("nats://10.0.0.2:4222")
///     .with_user("follower", "a password");
/// assert!(!format!("{config:?}").contains("a password"));
/// ```
#[derive(Clone)]
pub struct NatsConfig {
    servers: Vec<String>,
    environment: String,
    login: Login,
    root_certificates: Vec<PathBuf>,
    client_certificate: Option<(PathBuf, PathBuf)>,
    requires_tls: bool,
    connect_timeout: Duration,
    pub(super) queue: usize,
    pub(super) streams: StreamSettings,
}

#[derive(Clone)]
enum Login {
    Anonymous,
    User(String, String),
    Token(String),
}

/// The limits of the streams that a publisher makes. They are for streams that are missing: one that
/// exists keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamSettings {
    /// The time for which the log keeps messages; 48 hours by default.
    pub retention: Duration,
    /// The bytes that the log keeps, beyond which the oldest messages go; 8 GiB by default. The
    /// broker must have this much storage.
    pub max_bytes: u64,
    /// The number of servers of a cluster that keep each message, 1 to 5; 1 by default.
    pub replicas: usize,
    /// Keeps messages in memory instead of files.
    pub in_memory: bool,
    /// Makes a further stream, of fills, orders and positions of your accounts. A publisher that has
    /// an [account](crate::PublisherConfig::account) needs it.
    pub has_accounts: bool,
    /// The time for which that stream keeps messages; 7 days by default.
    pub account_retention: Duration,
    /// The bytes that it keeps, beyond which the oldest messages go; 512 MiB by default.
    pub account_max_bytes: u64,
}

impl Default for StreamSettings {
    fn default() -> Self {
        let retention = Duration::from_secs(48 * 3_600);
        Self {
            retention,
            max_bytes: 8 << 30,
            replicas: 1,
            in_memory: false,
            has_accounts: false,
            account_retention: Duration::from_secs(7 * 24 * 3_600),
            account_max_bytes: 512 << 20,
        }
    }
}

impl NatsConfig {
    /// Returns the settings for a server, such as `nats://localhost:4222` or `tls://nats.example`,
    /// and an environment, such as `production` or `demo`, as publishers and followers name it.
    pub fn new(server: impl Into<String>, environment: impl Into<String>) -> Self {
        Self {
            servers: vec![server.into()],
            environment: environment.into(),
            login: Login::Anonymous,
            root_certificates: Vec::new(),
            client_certificate: None,
            requires_tls: false,
            connect_timeout: Duration::from_secs(5),
            queue: 16_384,
            streams: StreamSettings::default(),
        }
    }

    /// Adds a further server of the cluster.
    #[must_use]
    pub fn with_server(mut self, server: impl Into<String>) -> Self {
        self.servers.push(server.into());
        self
    }

    /// Logs in by user name and password. Requires TLS, unless all servers are on this machine.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Login::User(name.into(), password.into());
        self
    }

    /// Logs in by a token. Requires TLS, unless all servers are on this machine.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.login = Login::Token(token.into());
        self
    }

    /// Requires TLS. A server of `tls://` requires it anyway.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.requires_tls = true;
        self
    }

    /// Trusts the certificates of a PEM file besides those of the operating system.
    #[must_use]
    pub fn with_root_certificates(mut self, path: impl Into<PathBuf>) -> Self {
        self.root_certificates.push(path.into());
        self
    }

    /// Shows a certificate to the server, from PEM files of the certificate and its key.
    #[must_use]
    pub fn with_client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Sets the time that one attempt to connect may take; 5 seconds by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the number of messages that may wait for a slow follower: of all subscriptions together,
    /// and then of each by itself; 16,384 by default. Those beyond are dropped, which is a loss like
    /// any other. 0 counts as 1.
    #[must_use]
    pub fn with_queue(mut self, messages: usize) -> Self {
        self.queue = messages.max(1);
        self
    }

    /// Sets the limits of the streams that a publisher makes.
    #[must_use]
    pub fn with_streams(mut self, streams: StreamSettings) -> Self {
        self.streams = streams;
        self
    }

    pub(super) fn environment(&self) -> &str {
        &self.environment
    }

    #[cfg(feature = "budget")]
    pub(super) const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Returns hosts and ports, without what a URL may hold besides.
    pub(super) fn hosts(&self) -> String {
        let hosts = self.servers.iter().map(|server| match server.parse::<ServerAddr>() {
            Ok(address) => format!("{}:{}", address.host(), address.port()),
            Err(_) => "an invalid URL".to_owned(),
        });
        hosts.collect::<Vec<_>>().join(", ")
    }

    fn addresses(&self) -> Result<Vec<ServerAddr>, NatsError> {
        let invalid = |reason: String| NatsError::Config { reason };
        let addresses = self.servers.iter().map(|server| {
            // The text is in no error: it may hold a password.
            let address: ServerAddr = server
                .parse()
                .map_err(|_| invalid("a server is no URL: nats://HOST:PORT is one".to_owned()))?;
            if address.has_user_pass() {
                let host = address.host();
                return Err(invalid(format!(
                    "the URL of {host} has a user name: call with_user or with_token"
                )));
            }
            Ok(address)
        });
        addresses.collect()
    }

    /// Connects. The events of the connection go to `events`.
    pub(super) async fn connect(&self, events: mpsc::Sender<()>) -> Result<Client, NatsError> {
        let addresses = self.addresses()?;
        let is_local = addresses.iter().all(|address| is_loopback(address.host()));
        let has_secret = !matches!(self.login, Login::Anonymous);
        let mut options = ConnectOptions::new()
            .name("kalshi-fanout")
            .require_tls(self.requires_tls || has_secret && !is_local)
            .connection_timeout(self.connect_timeout)
            .ping_interval(PING)
            .subscription_capacity(self.queue)
            // Every subject is one that this crate has written.
            .skip_subject_validation(true)
            .max_reconnects(None)
            .reconnect_delay_callback(|attempts| {
                let doublings = u32::try_from(attempts.min(8)).unwrap_or(8);
                FIRST_PAUSE.saturating_mul(1 << doublings).min(MAX_PAUSE)
            })
            .event_callback(move |event| {
                match &event {
                    Event::Connected => tracing::info!("connected to NATS"),
                    Event::SlowConsumer(_) => tracing::debug!("a subscription dropped a message"),
                    event => tracing::warn!(%event, "the connection to NATS"),
                }
                // It only wakes the task that looks at the connection, which looks anyway.
                let _ = events.try_send(());
                std::future::ready(())
            });
        options = match &self.login {
            Login::Anonymous => options,
            Login::User(name, password) => {
                options.user_and_password(name.clone(), password.clone())
            }
            Login::Token(token) => options.token(token.clone()),
        };
        for path in &self.root_certificates {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.client_certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        let client = options.connect(addresses).await;
        client.map_err(|error| NatsError::Connect {
            servers: self.hosts(),
            reason: error.to_string(),
        })
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("servers", &self.hosts())
            .field("environment", &self.environment)
            .field("requires_tls", &self.requires_tls)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_text() {
        let config = NatsConfig::new("nats://user:secret@host", "demo").with_token("secret");
        assert!(!format!("{config:?}").contains("secret"));
        let error = config.addresses().unwrap_err().to_string();
        assert!(error.contains("with_user") && !error.contains("secret"), "{error}");
        let invalid = NatsConfig::new("nats://user:secret@[", "demo");
        let error = invalid.addresses().unwrap_err().to_string();
        assert!(!error.contains("secret") && !format!("{invalid:?}").contains("secret"), "{error}");
    }
}
