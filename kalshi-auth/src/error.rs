//! The one error of the crate. It never repeats key material, nor what it could not read.

use std::{borrow::Cow, error, fmt, io};

/// Why a key was refused or a request was not signed.
///
/// Whatever the kind, nothing was sent: all errors of this crate come before the request leaves.
///
/// The message says what was found and what to do about it. It holds no key bytes and no PEM text.
#[derive(Debug)]
pub struct AuthError {
    kind: AuthErrorKind,
    message: Cow<'static, str>,
    source: Option<io::Error>,
}

/// What went wrong, in kinds that a program may want to tell apart.
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

    /// Says where the key came from.
    pub(crate) fn in_place(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message).into();
        self
    }

    /// What went wrong.
    pub const fn kind(&self) -> AuthErrorKind {
        self.kind
    }

    /// Whether there are no credentials at all.
    ///
    /// # Troubleshooting
    ///
    /// Set `KALSHI_API_KEY_ID`, and `KALSHI_PRIVATE_KEY` or `KALSHI_PRIVATE_KEY_PATH`, or give
    /// [`Credentials`](crate::Credentials) to the client. A program that can also work without
    /// them asks this of the error of [`Credentials::from_env`](crate::Credentials::from_env).
    pub const fn is_missing_credentials(&self) -> bool {
        matches!(self.kind, AuthErrorKind::MissingCredentials)
    }

    /// Whether credentials were given, but cannot be used as they are.
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

    /// Whether the request goes to a host that the credentials are not for.
    ///
    /// # Troubleshooting
    ///
    /// The client was built for another environment, or the request was made by hand with another
    /// host. The keys of production and demo are separate.
    pub const fn is_foreign_origin(&self) -> bool {
        matches!(self.kind, AuthErrorKind::ForeignOrigin)
    }

    /// Whether a signature did not match.
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
