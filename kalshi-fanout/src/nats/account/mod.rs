//! One reading of the account for many processes: a server that reads REST, and a source that asks
//! it.

mod server;
mod wire;

use std::{fmt, time::Duration};

use async_nats::{Client, StatusCode, connection::State as ConnectionState};
use futures_util::StreamExt as _;
use kalshi_types::UnixMillis;
use kalshi_ws::{AccountSnapshot, AccountSource};
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};

pub use self::server::AccountServer;
use self::wire::{Answer, Assembly, Query, invalid};
use super::{NatsConfig, NatsError};
use crate::subject::{SubjectError, Subjects};

/// The messages that a connection must be able to queue: more than the pieces of an answer.
const QUEUE: usize = 1_024;

/// The time by which fills are read earlier than they were asked for: the time of a fill may be cut to
/// the second.
const WHOLE_SECOND: Duration = Duration::from_secs(1);

/// An account that could not be read through an [`AccountServer`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccountError {
    /// There is no connection to the broker.
    #[error("there is no connection to NATS")]
    Disconnected,
    /// No server is there for the account.
    #[error("no server answers on {subject}: is one running for this account?")]
    NoServer {
        /// The subject of the requests.
        subject: String,
    },
    /// No whole answer came in time.
    #[error("no whole answer came within {timeout:?}")]
    Timeout {
        /// The time that it could take.
        timeout: Duration,
    },
    /// The server could not read the account.
    #[error("the server could not read the account: {reason}")]
    Source {
        /// The error of its source.
        reason: String,
    },
    /// The server refused the request, for example because it has another version.
    #[error("the server refused the request: {reason}")]
    Refused {
        /// The reason.
        reason: String,
    },
    /// The answer is of another version.
    #[error("the answer is of version {version}: this program reads version {}", wire::VERSION)]
    Version {
        /// The version of the answer.
        version: u16,
    },
    /// The answer is not whole, or does not read.
    #[error("the answer is invalid: {reason}")]
    Invalid {
        /// The reason, without any of the account.
        reason: String,
    },
}

/// A source of the account for a process without a key: it asks an [`AccountServer`].
///
/// Requests that come together share one reading. A reading always begins after the request for it, so
/// a snapshot is as new as one that was read directly.
///
/// An answer comes whole or is an error. It has at most 64 MiB. Every request has a time limit, 30
/// seconds by default.
///
/// Dropping it closes the connection.
///
/// # Examples
///
/// ```no_run
/// use kalshi_fanout::nats::{NatsAccount, NatsConfig};
/// use kalshi_ws::Portfolio;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = NatsConfig::new("nats://localhost:4222", "demo");
/// let account = NatsAccount::connect(config, "main").await?;
/// let mut portfolio = Portfolio::new();
/// // The events of a follower go to the view, too.
/// let found = portfolio.reconcile(&account).await?;
/// println!("{:?}", found.status);
/// # Ok(())
/// # }
/// ```
pub struct NatsAccount {
    client: Client,
    subject: String,
    timeout: Duration,
}

impl NatsAccount {
    /// Connects, for an account by the name that its server and its publisher have for it.
    ///
    /// # Errors
    ///
    /// The settings or the name are invalid, or there is no connection within the time of the
    /// settings.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the connection.
    pub async fn connect(config: NatsConfig, account: &str) -> Result<Self, NatsError> {
        let (client, subject) = connect(config, account).await?;
        Ok(Self { client, subject, timeout: Duration::from_secs(30) })
    }

    /// Sets the time that a request may take, with the reading that it may have to wait for; 30 seconds
    /// by default.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Reports whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == ConnectionState::Connected
    }

    async fn ask(&self, query: Query) -> Result<Answer, AccountError> {
        if !self.is_connected() {
            return Err(AccountError::Disconnected);
        }
        let answered = timeout(self.timeout, self.answer(query)).await;
        match answered.unwrap_or(Err(AccountError::Timeout { timeout: self.timeout }))? {
            Answer::Failed(reason) => Err(AccountError::Source { reason }),
            Answer::Refused(reason) => Err(AccountError::Refused { reason }),
            answer => Ok(answer),
        }
    }

    async fn answer(&self, query: Query) -> Result<Answer, AccountError> {
        let request = wire::write_request(query)?;
        let inbox = self.client.new_inbox();
        let subscribed = self.client.subscribe(inbox.clone()).await;
        let mut pieces = subscribed.map_err(|_| AccountError::Disconnected)?;
        let sent = self.client.publish_with_reply(self.subject.clone(), inbox, request).await;
        sent.map_err(|_| AccountError::Disconnected)?;
        let mut assembly = Assembly::default();
        while let Some(piece) = pieces.next().await {
            if piece.status == Some(StatusCode::NO_RESPONDERS) {
                return Err(AccountError::NoServer { subject: self.subject.clone() });
            }
            if let Some(answer) = assembly.take(&piece.payload)? {
                return Ok(answer);
            }
        }
        Err(AccountError::Disconnected)
    }
}

/// # Errors
///
/// [`AccountError`]: no connection, no server, no whole answer in time, or the error of the server's
/// source.
///
/// # Cancellation
///
/// Dropping the future drops the answer. It has no effect on the account.
impl AccountSource for NatsAccount {
    type Error = AccountError;

    async fn fetch_as_of(&self) -> Result<UnixMillis, AccountError> {
        match self.ask(Query::AsOf).await? {
            Answer::AsOf(as_of) => Ok(as_of),
            _ => Err(invalid("it is of another request".to_owned())),
        }
    }

    async fn fetch_account(
        &self,
        fills_since: Option<UnixMillis>,
    ) -> Result<AccountSnapshot, AccountError> {
        match self.ask(Query::Account { fills_since }).await? {
            Answer::Account(mut snapshot) => {
                // Another process may have asked for earlier ones.
                if let Some(since) = fills_since.map(|since| since.saturating_sub(WHOLE_SECOND)) {
                    snapshot.fills.retain(|fill| fill.ts_ms.is_none_or(|ts| ts >= since));
                }
                Ok(snapshot)
            }
            _ => Err(invalid("it is of another request".to_owned())),
        }
    }
}

impl fmt::Debug for NatsAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsAccount")
            .field("subject", &self.subject)
            .field("timeout", &self.timeout)
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// Returns a connection, and the subject of the requests.
async fn connect(mut config: NatsConfig, account: &str) -> Result<(Client, String), NatsError> {
    let invalid = |name: &str, error: SubjectError| NatsError::Config {
        reason: format!("{name:?}: {error}"),
    };
    let environment = config.environment();
    let subjects = Subjects::new(environment, 1).map_err(|error| invalid(environment, error))?;
    let subject = subjects.account_requests(account).map_err(|error| invalid(account, error))?;
    config.queue = config.queue.max(QUEUE);
    // The connection is looked at before each request.
    let (events, _) = mpsc::channel(1);
    Ok((config.connect(events).await?, subject))
}
