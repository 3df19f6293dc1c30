//! The signed text and the three headers. Pure: the time is an argument, nothing is sent.

use std::{fmt, fmt::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use kalshi_types::UnixMillis;

use crate::{
    backend::MAX_SIGNATURE,
    clock::Clock,
    credentials::Credentials,
    error::{AuthError, AuthErrorKind},
};

/// `KALSHI-ACCESS-KEY`: the id of the API key.
pub const ACCESS_KEY: HeaderName = HeaderName::from_static("kalshi-access-key");
/// `KALSHI-ACCESS-SIGNATURE`: the signature in Base64.
pub const ACCESS_SIGNATURE: HeaderName = HeaderName::from_static("kalshi-access-signature");
/// `KALSHI-ACCESS-TIMESTAMP`: the time of the signature in milliseconds.
pub const ACCESS_TIMESTAMP: HeaderName = HeaderName::from_static("kalshi-access-timestamp");

/// The three headers of one request.
///
/// They hold for one method, one path and a few seconds. A retry needs new ones.
#[derive(Clone)]
pub struct SignedHeaders {
    key: HeaderValue,
    signature: HeaderValue,
    timestamp: HeaderValue,
}

/// Credentials and a clock: what a client signs with.
///
/// Cheap to clone. Signing takes no lock, so clones can sign at the same time.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use kalshi_auth::{Credentials, Signer, SystemClock};
///
/// let signer = Signer::new(Credentials::from_env()?, Arc::new(SystemClock));
/// let handshake = signer.sign("GET", "/trade-api/ws/v2")?;
/// # Ok::<(), kalshi_auth::AuthError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Signer {
    credentials: Credentials,
    clock: Arc<dyn Clock>,
}

/// Signs a request: method, path and time, but neither host, query nor body.
///
/// The path is the one that goes over the wire: from the root, `/trade-api/v2` included, and
/// percent-encoded. It is cut at the first `?`. The method is put into upper case.
///
/// An RSA signature is salted, so that it differs from call to call, and takes a quarter of a
/// millisecond to two milliseconds of processor time.
/// An Ed25519 signature takes some ten microseconds.
///
/// # Errors
/// [`AuthErrorKind::InvalidRequest`] if the method is not a word, or if the path does not start at
/// the root or holds what cannot be in a path on the wire (spaces, fragments, anything but ASCII), or
/// if the time is before 1970.
/// [`AuthErrorKind::Signing`] if the system has no random numbers to give.
pub fn sign(
    credentials: &Credentials,
    method: &str,
    path: &str,
    timestamp: UnixMillis,
) -> Result<SignedHeaders, AuthError> {
    let path = without_query(path);
    check_method(method)?;
    check_path(path)?;
    check_time(timestamp)?;

    let (text, digits) = text_and_digits(method, path, timestamp);
    let mut signature = [0; MAX_SIGNATURE];
    let signature = credentials.private_key().sign(text.as_bytes(), &mut signature)?;
    let mut signature = visible(STANDARD.encode(signature))?;
    signature.set_sensitive(true);
    let timestamp = visible(text.get(..digits).unwrap_or_default())?;
    Ok(SignedHeaders { key: credentials.key_id_header().clone(), signature, timestamp })
}

/// The text that is signed: `timestamp + METHOD + path`, the path cut at the first `?`.
///
/// [`sign`] needs no help with it. It is here for those who check signatures, or who sign with a key
/// that this crate never sees.
///
/// ```
/// use kalshi_auth::{UnixMillis, signing_text};
///
/// let time = UnixMillis::from_millis(1_703_123_456_789);
/// let text = signing_text("get", "/trade-api/v2/portfolio/orders?limit=5", time);
/// assert_eq!(text, "1703123456789GET/trade-api/v2/portfolio/orders");
/// ```
pub fn signing_text(method: &str, path: &str, timestamp: UnixMillis) -> String {
    text_and_digits(method, without_query(path), timestamp).0
}

impl SignedHeaders {
    /// The value of [`ACCESS_KEY`].
    pub const fn key(&self) -> &HeaderValue {
        &self.key
    }

    /// The value of [`ACCESS_SIGNATURE`], marked as sensitive.
    pub const fn signature(&self) -> &HeaderValue {
        &self.signature
    }

    /// The value of [`ACCESS_TIMESTAMP`].
    pub const fn timestamp(&self) -> &HeaderValue {
        &self.timestamp
    }

    /// Puts the three headers into a map, in place of any that were there.
    pub fn insert_into(self, headers: &mut HeaderMap) {
        headers.reserve(3);
        for (name, value) in self {
            headers.insert(name, value);
        }
    }
}

impl IntoIterator for SignedHeaders {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = std::array::IntoIter<(HeaderName, HeaderValue), 3>;

    fn into_iter(self) -> Self::IntoIter {
        [
            (ACCESS_KEY, self.key),
            (ACCESS_SIGNATURE, self.signature),
            (ACCESS_TIMESTAMP, self.timestamp),
        ]
        .into_iter()
    }
}

impl fmt::Debug for SignedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedHeaders")
            .field("key", &self.key)
            .field("signature", &"** redacted **")
            .field("timestamp", &self.timestamp)
            .finish()
    }
}

impl Signer {
    /// A signer that takes the time from the clock.
    pub fn new(credentials: Credentials, clock: Arc<dyn Clock>) -> Self {
        Self { credentials, clock }
    }

    /// What it signs with.
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What it takes the time from.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Signs a request as of now. See [`sign`].
    ///
    /// # Errors
    /// As [`sign`].
    pub fn sign(&self, method: &str, path: &str) -> Result<SignedHeaders, AuthError> {
        sign(&self.credentials, method, path, self.clock.now())
    }
}

fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// The text, and how many digits the timestamp at its start has.
fn text_and_digits(method: &str, path: &str, timestamp: UnixMillis) -> (String, usize) {
    const MAX_DIGITS: usize = 20;
    let mut text = String::with_capacity(MAX_DIGITS + method.len() + path.len());
    // Writing into a String cannot fail.
    let _ = write!(text, "{timestamp}");
    let digits = text.len();
    text.push_str(method);
    // The digits in front of it have no case.
    text.make_ascii_uppercase();
    text.push_str(path);
    (text, digits)
}

fn check_method(method: &str) -> Result<(), AuthError> {
    if !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Ok(());
    }
    Err(AuthError::new(
        AuthErrorKind::InvalidRequest,
        "the method of a request is a word of letters, such as GET",
    ))
}

fn check_path(path: &str) -> Result<(), AuthError> {
    let is_on_the_wire = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    let problem = if !path.starts_with('/') {
        "the path to sign must start with `/`: it is the path alone, without scheme and host"
    } else if path.bytes().all(is_on_the_wire) {
        return Ok(());
    } else if path.contains('#') {
        "the path to sign holds a `#`: a fragment is not sent, and elsewhere `#` is sent as %23"
    } else {
        "the path to sign must be percent-encoded, as it is sent"
    };
    Err(AuthError::new(AuthErrorKind::InvalidRequest, problem))
}

fn check_time(timestamp: UnixMillis) -> Result<(), AuthError> {
    if timestamp >= UnixMillis::EPOCH {
        return Ok(());
    }
    Err(AuthError::new(AuthErrorKind::InvalidRequest, "the clock stands before 1970"))
}

/// A header value of text that is visible ASCII by construction.
fn visible(text: impl TryInto<HeaderValue>) -> Result<HeaderValue, AuthError> {
    text.try_into()
        .map_err(|_| AuthError::new(AuthErrorKind::Signing, "the signature is not a header value"))
}
