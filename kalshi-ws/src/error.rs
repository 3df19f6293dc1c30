//! What can go wrong before a stream runs, and with commands to it.

use std::{error::Error as _, fmt};

use kalshi_auth::AuthError;
use thiserror::Error;

/// Why there is no connection.
///
/// Neither a key nor a signature is ever part of it.
#[derive(Debug)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What kind of thing went wrong.
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
    /// What answered does not speak the protocol.
    Protocol,
}

impl ConnectError {
    pub(crate) fn new(kind: ConnectErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of thing went wrong.
    pub const fn kind(&self) -> ConnectErrorKind {
        self.kind
    }

    /// Whether another attempt with the same configuration may succeed.
    pub const fn is_transient(&self) -> bool {
        match self.kind {
            ConnectErrorKind::Config | ConnectErrorKind::Auth => false,
            ConnectErrorKind::Rejected(status) => status >= 500 || status == 429,
            _ => true,
        }
    }

    /// The words of the error and of its causes.
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

/// Why a command was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The stream is over.
    #[error("the stream is closed")]
    Closed,
    /// Too many commands wait for the connection already; nothing was asked for.
    #[error("too many commands are waiting")]
    Busy,
    /// There was no connection, or it was lost before the answer.
    #[error("the connection was lost before the answer came")]
    Disconnected,
    /// The exchange refused it.
    #[error("the exchange refused the command")]
    Refused(#[source] crate::ServerError),
    /// The command makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
}
