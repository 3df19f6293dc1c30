//! The one error of the crate. It holds no key material, and no text that could not be read.

use std::{borrow::Cow, error, fmt, io};

/// The reason why a key was refused or a request was not signed.
///
/// Nothing was sent: all errors of this crate come before the request leaves.
///
/// The message says what was found and what to do about it. It holds no key bytes and no PEM text.
#[derive(Debug)]
pub struct AuthError {
    kind: AuthErrorKind,
    message: Cow<'static, str>,
    source: Option<io::Error>,
}

/// The kinds of errors that a program may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthErrorKind {
    /// There are no credentials, and the request needs some.
    MissingCredentials,
    /// The environment variables contradict each other, or one is missing.
    Environment,
    /// The environment of the exchange is missing, or its URL is invalid.
    InvalidEnvironment,
    /// The key id is not the id of an API key.
    KeyId,
    /// The key file cannot be read.
    KeyFile,
    /// The text is not a PEM file with one key, or the key in it is damaged.
    MalformedKey,
    /// The text is a key, or something like it, but not one that can sign for the exchange.
    UnsupportedKey,
    /// The text is not an origin that credentials may go to.
    InvalidOrigin,
    /// The request goes to a host that the credentials are not for.
    ForeignOrigin,
    /// The method, path or time cannot be signed.
    InvalidRequest,
    /// The cryptographic library failed.
    Signing,
    /// There was no signature within the time limit: too many requests wait for theirs.
    TimedOut,
    /// The signature is not one of the text by the key.
    BadSignature,
}

impl AuthError {
    pub(crate) fn new(kind: AuthErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn with_source(mut self, source: io::Error) -> Self {
        self.source = Some(source);
        self
    }

    /// Adds the place that the key came from.
    pub(crate) fn in_place(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message).into();
        self
    }

    /// Returns the kind of the error.
    pub const fn kind(&self) -> AuthErrorKind {
        self.kind
    }

    /// Reports whether there are no credentials at all.
    ///
    /// # Troubleshooting
    ///
    /// Set `KALSHI_API_KEY_ID`, and `KALSHI_PRIVATE_KEY` or `KALSHI_PRIVATE_KEY_PATH`, or give
    /// [`Credentials`](crate::Credentials) to the client. A program that can also work without
    /// them asks this of the error of [`Credentials::from_env`](crate::Credentials::from_env).
    pub const fn is_missing_credentials(&self) -> bool {
        matches!(self.kind, AuthErrorKind::MissingCredentials)
    }

    /// Reports whether credentials were given, but cannot be used as they are.
    ///
    /// # Troubleshooting
    ///
    /// The message names the file or variable, what was found in it, and the command that makes
    /// it right.
    pub const fn is_unusable_credentials(&self) -> bool {
        matches!(
            self.kind,
            AuthErrorKind::Environment
                | AuthErrorKind::KeyId
                | AuthErrorKind::KeyFile
                | AuthErrorKind::MalformedKey
                | AuthErrorKind::UnsupportedKey
        )
    }

    /// Reports whether the request goes to a host that the credentials are not for.
    ///
    /// # Troubleshooting
    ///
    /// The client was built for another environment, or the request was made by hand with another
    /// host. The keys of production and demo are separate.
    pub const fn is_foreign_origin(&self) -> bool {
        matches!(self.kind, AuthErrorKind::ForeignOrigin)
    }

    /// Reports whether a signature did not match.
    pub const fn is_bad_signature(&self) -> bool {
        matches!(self.kind, AuthErrorKind::BadSignature)
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for AuthError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
