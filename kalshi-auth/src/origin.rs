//! The hosts that credentials may go to.

use std::{fmt, str::FromStr};

use reqwest::Url;

use crate::{
    environment::is_loopback,
    error::{AuthError, AuthErrorKind},
};

/// Scheme, host and port: a place that credentials may go to.
///
/// Made from any URL of the place; the rest of the URL is left out. Plain HTTP is for this machine
/// only, where nobody listens in, unless it is asked for by [`Origin::insecure`].
///
/// ```
/// use kalshi_auth::Origin;
///
/// let origin: Origin = "https://external-api.kalshi.com/trade-api/v2".parse()?;
/// assert_eq!(origin.to_string(), "https://external-api.kalshi.com");
/// assert!("http://127.0.0.1:8080".parse::<Origin>().is_ok());
/// assert!("http://external-api.kalshi.com".parse::<Origin>().is_err());
/// # Ok::<(), kalshi_auth::AuthError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of a URL.
    ///
    /// # Errors
    /// [`AuthErrorKind::InvalidOrigin`] if the URL is not one of HTTPS, or of HTTP on this machine.
    pub fn new(url: &Url) -> Result<Self, AuthError> {
        let origin = Self::insecure(url)?;
        if origin.scheme == "https" || url.host_str().is_some_and(is_loopback) {
            return Ok(origin);
        }
        Err(invalid("the headers would go over plain HTTP to another machine; use https"))
    }

    /// The origin of a URL, which may be one of plain HTTP to another machine.
    ///
    /// Whoever listens in can repeat a request for as long as its timestamp is valid.
    ///
    /// # Errors
    /// [`AuthErrorKind::InvalidOrigin`] if the URL is not one of HTTPS or HTTP.
    pub fn insecure(url: &Url) -> Result<Self, AuthError> {
        match (url.scheme(), url.host_str(), url.port_or_known_default()) {
            (scheme @ ("https" | "http"), Some(host), Some(port)) => {
                Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), port })
            }
            _ => Err(invalid("the URL of the exchange must start with https:// and a host")),
        }
    }

    /// Whether a URL is of this origin.
    pub fn contains(&self, url: &Url) -> bool {
        url.host_str() == Some(&self.host)
            && url.scheme() == self.scheme
            && url.port_or_known_default() == Some(self.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        match (scheme.as_str(), port) {
            ("https", 443) | ("http", 80) => write!(f, "{scheme}://{host}"),
            _ => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl FromStr for Origin {
    type Err = AuthError;

    fn from_str(text: &str) -> Result<Self, AuthError> {
        match text.parse() {
            Ok(url) => Self::new(&url),
            Err(_) => Err(invalid("the text is not a URL")),
        }
    }
}

impl TryFrom<&str> for Origin {
    type Error = AuthError;

    fn try_from(text: &str) -> Result<Self, AuthError> {
        text.parse()
    }
}

fn invalid(message: &'static str) -> AuthError {
    AuthError::new(AuthErrorKind::InvalidOrigin, message)
}
