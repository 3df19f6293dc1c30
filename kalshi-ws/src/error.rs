//! The errors of connecting, and of commands.

use std::{error::Error as _, fmt, time::Duration};

use kalshi_auth::AuthError;
use thiserror::Error;

/// An error of connecting: there is no connection.
///
/// Neither a key nor a signature is ever part of it.
#[derive(Debug)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kind of a [`ConnectError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The configuration cannot work.
    Config,
    /// The handshake could not be signed.
    Auth,
    /// The exchange refused the handshake, with this status. 401 and 403 are about the key.
    Rejected(u16),
    /// The network, or TLS, failed.
    Network,
    /// It took too long.
    Timeout,
    /// The peer does not speak the protocol.
    Protocol,
    /// Connections were made, and none of them held.
    Unstable,
    /// The task of the connection ended: a clock, a tap or a source of random numbers panicked, or
    /// the runtime was shut down.
    TaskEnded,
}

impl ConnectError {
    pub(crate) fn new(kind: ConnectErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// Returns the kind of the error.
    pub const fn kind(&self) -> ConnectErrorKind {
        self.kind
    }

    /// Returns the time that the exchange asks to wait before the next attempt.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Reports whether the exchange refused the key: with 401 or 403.
    pub const fn is_key_refused(&self) -> bool {
        matches!(self.kind, ConnectErrorKind::Rejected(401 | 403))
    }

    /// Reports whether another attempt with the same configuration may succeed.
    pub const fn is_transient(&self) -> bool {
        match self.kind {
            ConnectErrorKind::Config | ConnectErrorKind::Auth | ConnectErrorKind::TaskEnded => {
                false
            }
            ConnectErrorKind::Rejected(status) => status >= 500 || status == 429,
            _ => true,
        }
    }

    /// Returns the text of the error and of its causes.
    pub(crate) fn full(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<AuthError> for ConnectError {
    fn from(error: AuthError) -> Self {
        Self::new(ConnectErrorKind::Auth, "could not sign the handshake").with_source(error)
    }
}

/// An error of a command, which was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The connection is closed for good.
    #[error("the connection is closed")]
    Closed,
    /// Too many commands are waiting for the connection; this one was not taken.
    #[error("too many commands are waiting")]
    Busy,
    /// There was no connection, or it was lost before the answer.
    #[error("the connection was lost before the answer came")]
    Disconnected,
    /// The exchange did not answer in time.
    #[error("the exchange did not answer in time")]
    TimedOut,
    /// The exchange refused it.
    #[error("the exchange refused the command")]
    Refused(#[source] crate::ServerError),
    /// The command is invalid.
    #[error("{0}")]
    Invalid(&'static str),
}
