//! HTTP proxies: who names one, and how a connection is made through it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Uri;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::error::{ConnectError, ConnectErrorKind};

/// The longest answer of a proxy that is read.
const MAX_ANSWER: usize = 16 << 10;

/// An HTTP proxy.
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of `Proxy-Authorization`, if there is one.
    authorization: Option<String>,
}

impl Proxy {
    /// Reads the URL of a proxy.
    pub(crate) fn parse(url: &str) -> Result<Self, ConnectError> {
        // The URL may hold a password: it is not shown.
        let bad = |why: &str| {
            ConnectError::new(ConnectErrorKind::Config, format!("the URL of the proxy {why}"))
        };
        let uri: Uri =
            if url.contains("://") { url.parse() } else { format!("http://{url}").parse() }
                .map_err(|_| bad("is invalid"))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("must start with http://: other proxies are not supported"));
        }
        let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| decoded(user));
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(bad("has no host"));
        }
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authorization: user.map(|user| format!("Basic {}", STANDARD.encode(user))),
        })
    }

    /// Returns the proxy that the environment names for an encrypted connection to a host.
    pub(crate) fn from_vars(
        host: &str,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ConnectError> {
        let first = |names: [&str; 2]| {
            names.into_iter().filter_map(&var).find(|value| !value.trim().is_empty())
        };
        let exceptions = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        if is_excepted(host, &exceptions) {
            return Ok(None);
        }
        let named =
            first(["HTTPS_PROXY", "https_proxy"]).or_else(|| first(["ALL_PROXY", "all_proxy"]));
        named.map(|url| Self::parse(url.trim())).transpose()
    }

    /// Makes the proxy connect to a host.
    pub(crate) async fn tunnel(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        host: &str,
        port: u16,
    ) -> Result<(), ConnectError> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let cut_off = |error| {
            ConnectError::new(ConnectErrorKind::Network, "the proxy broke off").with_source(error)
        };
        stream.write_all(request.as_bytes()).await.map_err(cut_off)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            // Byte by byte: what follows belongs to the host.
            let byte = stream.read_u8().await.map_err(cut_off)?;
            answer.push(byte);
            if answer.len() > MAX_ANSWER {
                let why = "the proxy does not speak HTTP";
                return Err(ConnectError::new(ConnectErrorKind::Protocol, why));
            }
        }
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
        let status: Option<u16> = words.next().and_then(|word| word.parse().ok());
        match status.filter(|_| is_http) {
            Some(200..=299) => Ok(()),
            Some(status) => Err(ConnectError::new(
                ConnectErrorKind::Network,
                format!("the proxy refused to connect to {host}:{port} with {status}"),
            )),
            None => {
                let why = "the proxy does not speak HTTP";
                Err(ConnectError::new(ConnectErrorKind::Protocol, why))
            }
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Reports whether a host is among those of `NO_PROXY`: names with all below them, or `*`.
fn is_excepted(host: &str, exceptions: &str) -> bool {
    let host = host.to_ascii_lowercase();
    exceptions.split(',').map(|name| name.trim().to_ascii_lowercase()).any(|name| {
        let name = name.split_once(':').map_or(name.as_str(), |(name, _)| name);
        let name = name.trim_start_matches("*.").trim_start_matches('.');
        name == "*"
            || !name.is_empty()
                && host
                    .strip_suffix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Decodes `%41` to `A`. Bytes, because a password need not be UTF-8.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.first_chunk::<2>().filter(|_| *first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: &str, vars: &[(&str, &str)]) -> Option<(String, u16)> {
        let var = |name: &str| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Proxy::from_vars(host, var).unwrap().map(|proxy| (proxy.host, proxy.port))
    }

    #[test]
    fn c6_the_environment_names_the_proxy_and_its_exceptions() {
        let host = "external-api-ws.kalshi.com";
        let proxy = Some(("proxy.example".to_owned(), 8080));
        assert_eq!(named(host, &[]), None);
        assert_eq!(named(host, &[("HTTPS_PROXY", "")]), None);
        assert_eq!(named(host, &[("HTTPS_PROXY", "http://proxy.example:8080")]), proxy);
        assert_eq!(named(host, &[("all_proxy", "proxy.example:8080")]), proxy);
        for (exceptions, is_excepted) in [
            ("*", true),
            ("kalshi.com", true),
            (".kalshi.com", true),
            ("a.example, *.kalshi.com", true),
            ("external-api-ws.kalshi.com:443", true),
            ("alshi.com", false),
            ("kalshi.co", false),
            (" , ", false),
        ] {
            let vars = [("ALL_PROXY", "http://proxy.example:8080"), ("no_proxy", exceptions)];
            assert_eq!(named(host, &vars).is_none(), is_excepted, "{exceptions}");
        }
    }

    #[test]
    fn c6_a_proxy_that_is_not_supported_is_refused_and_no_password_is_shown() {
        for url in
            ["socks5://me:secret@host", "https://me:secret@host", "http://", "http://me:secret@"]
        {
            let error = Proxy::parse(url).unwrap_err();
            assert_eq!(error.kind(), ConnectErrorKind::Config, "{url}");
            assert!(!format!("{error:?}").contains("secret"));
        }
        let proxy = Proxy::parse("http://me:s%40cret@host:1").unwrap();
        assert!(!format!("{proxy:?}").contains("cret"));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6c0BjcmV0"));
    }

    async fn tunnel(answer: &str) -> (Result<(), ConnectError>, String) {
        let (mut near, mut far) = tokio::io::duplex(MAX_ANSWER * 2);
        far.write_all(answer.as_bytes()).await.unwrap();
        let result = Proxy::parse("http://me:it@host").unwrap().tunnel(&mut near, "::1", 443).await;
        drop(near);
        let mut request = String::new();
        far.read_to_string(&mut request).await.unwrap();
        (result, request)
    }

    #[tokio::test]
    async fn c6_a_proxy_connects_or_says_why_not() {
        let (result, request) = tunnel("HTTP/1.1 200 OK\r\nX: y\r\n\r\n").await;
        assert!(result.is_ok());
        assert!(request.starts_with("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"));
        assert!(request.contains("Proxy-Authorization: Basic bWU6aXQ=\r\n"));
        let long = "x".repeat(MAX_ANSWER + 1);
        for (answer, kind) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ConnectErrorKind::Network),
            ("SSH-2.0\r\n\r\n", ConnectErrorKind::Protocol),
            (long.as_str(), ConnectErrorKind::Protocol),
        ] {
            assert_eq!(tunnel(answer).await.0.unwrap_err().kind(), kind);
        }
    }
}
