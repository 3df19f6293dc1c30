//! The hosts of every surface.

use std::env;

use crate::error::Error;

/// Where the exchange is: production with real money, demo with mock money, or any other place.
///
/// Keys, accounts and data of one environment mean nothing in another; a key used in the wrong one
/// answers 401 `NOT_FOUND`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// Real money, on the hosts for API clients.
    Production,
    /// Mock money, on the hosts for API clients. Its domain ends in `.co`.
    Demo,
    /// Any other base URL: a private link, the embedded exchange, a proxy. It includes the path,
    /// as in `http://127.0.0.1:8080/trade-api/v2`.
    Custom(String),
}

impl Environment {
    /// Reads `KALSHI_ENV`: `production`, `demo`, or a base URL.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the variable is missing or is something else.
    pub fn from_env() -> Result<Self, Error> {
        match env::var("KALSHI_ENV") {
            Ok(text) if text == "production" => Ok(Self::Production),
            Ok(text) if text == "demo" => Ok(Self::Demo),
            Ok(text) if text.starts_with("http://") || text.starts_with("https://") => {
                Ok(Self::Custom(text))
            }
            Ok(text) => Err(Error::config(format!(
                "KALSHI_ENV is {text:?}; it must be `production`, `demo` or a base URL"
            ))),
            Err(_) => Err(Error::config(
                "KALSHI_ENV is not set; it must be `production`, `demo` or a base URL",
            )),
        }
    }

    /// The base URL of the REST API, without a slash at the end.
    pub fn rest_url(&self) -> &str {
        match self {
            Self::Production => "https://external-api.kalshi.com/trade-api/v2",
            Self::Demo => "https://external-api.demo.kalshi.co/trade-api/v2",
            Self::Custom(url) => url.trim_end_matches('/'),
        }
    }

    /// The URL of the WebSocket API; `None` where only a REST URL is known.
    pub fn websocket_url(&self) -> Option<&'static str> {
        match self {
            Self::Production => Some("wss://external-api-ws.kalshi.com/trade-api/ws/v2"),
            Self::Demo => Some("wss://external-api-ws.demo.kalshi.co/trade-api/ws/v2"),
            Self::Custom(_) => None,
        }
    }

    /// The base URL of the perpetual-futures API; `None` where only a REST URL is known.
    pub fn perps_url(&self) -> Option<&'static str> {
        match self {
            Self::Production => Some("https://external-api.kalshi.com/trade-api/v2/margin"),
            Self::Demo => Some("https://external-api.demo.kalshi.co/trade-api/v2/margin"),
            Self::Custom(_) => None,
        }
    }

    /// The WebSocket URL of the perpetual-futures API; `None` where only a REST URL is known.
    pub fn perps_websocket_url(&self) -> Option<&'static str> {
        match self {
            Self::Production => {
                Some("wss://external-api-margin-ws.kalshi.com/trade-api/ws/v2/margin")
            }
            Self::Demo => {
                Some("wss://external-api-margin-ws.demo.kalshi.co/trade-api/ws/v2/margin")
            }
            Self::Custom(_) => None,
        }
    }

    /// Checks the base URL and gives it back parsed.
    pub(crate) fn checked_url(&self) -> Result<reqwest::Url, Error> {
        let text = self.rest_url();
        let bad = |why: &str| Error::config(format!("the base URL {text:?} {why}"));
        let url = reqwest::Url::parse(text).map_err(|error| bad(&format!("is none: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("must start with https:// (or http://)"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::config("the base URL must not hold a user name or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("must have neither query nor fragment"));
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_base_url_with_parts_that_do_not_belong_is_refused() {
        for url in ["ftp://host/x", "nonsense", "https://host/x?y=1", "https://host/x#y"] {
            let error = Environment::Custom(url.to_owned()).checked_url().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        }
        let secret = Environment::Custom("https://me:hunter2@host/".to_owned());
        assert!(!secret.checked_url().unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn a_slash_at_the_end_is_left_out() {
        let url = Environment::Custom("http://127.0.0.1:1/trade-api/v2/".to_owned());
        assert_eq!(url.rest_url(), "http://127.0.0.1:1/trade-api/v2");
    }
}
