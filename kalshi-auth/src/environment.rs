//! The environments of the exchange: the one table of hosts, and which of them are this machine.

use std::{borrow::Cow, env, ffi::OsString, fmt, net::IpAddr, str::FromStr};

use http::Uri;

use crate::error::{AuthError, AuthErrorKind};

/// The environment variable that [`Environment::from_env`] reads.
pub const ENVIRONMENT_VAR: &str = "KALSHI_ENV";

/// An environment of the exchange: production with real money, demo with mock money, or another
/// URL.
///
/// Keys, accounts and data of one environment mean nothing in another; a key used in the wrong one
/// answers 401 `NOT_FOUND`.
///
/// ```
/// use kalshi_auth::{Environment, Service};
///
/// let demo: Environment = "demo".parse()?;
/// assert_eq!(demo, Environment::Demo);
/// assert_eq!(demo.url(Service::Rest), "https://external-api.demo.kalshi.co/trade-api/v2");
///
/// // One URL is enough: the other services are on the same host.
/// let local: Environment = "http://127.0.0.1:8080/trade-api/v2".parse()?;
/// assert_eq!(local.url(Service::Streams), "ws://127.0.0.1:8080/trade-api/ws/v2");
/// # Ok::<(), kalshi_auth::AuthError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// Real money, on the hosts for API clients.
    Production,
    /// Mock money, on the hosts for API clients. Its domain ends in `.co`.
    Demo,
    /// Any other place: a private link, the simulator, a proxy.
    ///
    /// The URL of one service, its path included, such as `http://127.0.0.1:8080/trade-api/v2` or
    /// `ws://127.0.0.1:8080/trade-api/ws/v2`. It is used as it is for that service;
    /// [`url`](Self::url) says how those of the others follow from it.
    Custom(String),
}

/// A service of the exchange that has a URL of its own in each [`Environment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Service {
    /// The Trade API over REST.
    Rest,
    /// The streams of the Trade API, over WebSocket.
    Streams,
    /// The API of perpetual futures over REST.
    PerpsRest,
    /// The streams of perpetual futures, over WebSocket.
    PerpsStreams,
    /// The API of the clearing house, over REST. It takes no signature but a bearer token.
    Klear,
}

struct Hosts {
    service: Service,
    production: &'static str,
    demo: &'static str,
    path: &'static str,
}

/// Every host that this workspace knows.
static HOSTS: [Hosts; 5] = [
    Hosts {
        service: Service::Rest,
        production: "https://external-api.kalshi.com/trade-api/v2",
        demo: "https://external-api.demo.kalshi.co/trade-api/v2",
        path: "/trade-api/v2",
    },
    Hosts {
        service: Service::Streams,
        production: "wss://external-api-ws.kalshi.com/trade-api/ws/v2",
        demo: "wss://external-api-ws.demo.kalshi.co/trade-api/ws/v2",
        path: "/trade-api/ws/v2",
    },
    Hosts {
        service: Service::PerpsRest,
        production: "https://external-api.kalshi.com/trade-api/v2/margin",
        demo: "https://external-api.demo.kalshi.co/trade-api/v2/margin",
        path: "/trade-api/v2/margin",
    },
    Hosts {
        service: Service::PerpsStreams,
        production: "wss://external-api-margin-ws.kalshi.com/trade-api/ws/v2/margin",
        demo: "wss://external-api-margin-ws.demo.kalshi.co/trade-api/ws/v2/margin",
        path: "/trade-api/ws/v2/margin",
    },
    Hosts {
        service: Service::Klear,
        production: "https://api.klear.kalshi.com/klear-api/v1",
        demo: "https://demo-api.kalshi.co/klear-api/v1",
        path: "/klear-api/v1",
    },
];

impl Service {
    /// Every service.
    pub const ALL: [Self; 5] =
        [Self::Rest, Self::Streams, Self::PerpsRest, Self::PerpsStreams, Self::Klear];

    /// Returns the path at the end of the service's URL, such as `/trade-api/v2`.
    pub const fn path(self) -> &'static str {
        self.hosts().path
    }

    /// Reports whether the service is one of WebSocket; the others are of HTTP.
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Streams | Self::PerpsStreams)
    }

    const fn hosts(self) -> &'static Hosts {
        // The order of the table, which a test holds to.
        match self {
            Self::Rest => &HOSTS[0],
            Self::Streams => &HOSTS[1],
            Self::PerpsRest => &HOSTS[2],
            Self::PerpsStreams => &HOSTS[3],
            Self::Klear => &HOSTS[4],
        }
    }
}

impl Environment {
    /// Reads the environment variable `KALSHI_ENV`: `production`, `demo`, or the URL of a service.
    ///
    /// # Errors
    ///
    /// [`AuthErrorKind::InvalidEnvironment`] if the variable is missing or is something else.
    pub fn from_env() -> Result<Self, AuthError> {
        Self::from_vars(|name| env::var_os(name))
    }

    /// Does the same as [`from_env`](Self::from_env), with the variables of another source, such as
    /// the profile of a configuration file.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, AuthError> {
        match variable(ENVIRONMENT_VAR) {
            Some(value) => match value.to_str() {
                Some(text) => {
                    text.parse().map_err(|error: AuthError| error.in_place(ENVIRONMENT_VAR))
                }
                None => Err(invalid("the value is not text").in_place(ENVIRONMENT_VAR)),
            },
            None => Err(invalid(
                "KALSHI_ENV is not set; it must be `production`, `demo` or the URL of the API",
            )),
        }
    }

    /// Returns the URL of a service, without a slash at the end.
    ///
    /// For [`Custom`](Self::Custom), the URL itself if it is one of that service. Otherwise what
    /// follows from it: the service's own host if it is a URL of production or demo, else the same
    /// host with the service's path in place of the other's. The scheme becomes that of the service
    /// (`http` and `ws`, `https` and `wss`).
    pub fn url(&self, service: Service) -> Cow<'_, str> {
        let hosts = service.hosts();
        match self {
            Self::Production => Cow::Borrowed(hosts.production),
            Self::Demo => Cow::Borrowed(hosts.demo),
            Self::Custom(url) => custom_url(url, service),
        }
    }

    /// Returns the base URL of the Trade API over REST, without a slash at the end.
    pub fn rest_url(&self) -> Cow<'_, str> {
        self.url(Service::Rest)
    }

    /// Returns the URL of the streams of the Trade API.
    pub fn streams_url(&self) -> Cow<'_, str> {
        self.url(Service::Streams)
    }

    /// Returns the URL of a service, checked: it has the right scheme and a host, its path ends as
    /// that of the service over REST, and there is neither user name, password, query nor fragment
    /// in it.
    ///
    /// # Errors
    ///
    /// [`AuthErrorKind::InvalidEnvironment`], with what to write instead. No user name or password
    /// is repeated.
    pub fn checked_url(&self, service: Service) -> Result<Uri, AuthError> {
        let url = self.url(service);
        let (secure, plain) = if service.is_stream() { ("wss", "ws") } else { ("https", "http") };
        let authority = url.split_once("://").map_or("", |(_, rest)| rest);
        if authority.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')) {
            return Err(invalid("the base URL must not hold a user name or password"));
        }
        let bad = |why: String| invalid(format!("the base URL {url:?} {why}"));
        let uri: Uri = url.parse().map_err(|error| bad(format!("is invalid: {error}")))?;
        if !uri.scheme_str().is_some_and(|scheme| scheme == secure || scheme == plain) {
            return Err(bad(format!(
                "must start with {secure}:// (or {plain}:// for this machine)"
            )));
        }
        let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
            return Err(bad("has no host".to_owned()));
        };
        if uri.port_u16().is_none() && uri.authority().is_some_and(|all| all.as_str() != host) {
            return Err(bad("has a port that is not a number below 65536".to_owned()));
        }
        if url.contains(['?', '#']) {
            return Err(bad("must have neither query nor fragment".to_owned()));
        }
        // The exchange's path is part of what is signed, so that no other can work.
        if !service.is_stream() && !uri.path().ends_with(service.path()) {
            let path = service.path();
            let place = url.trim_end_matches('/');
            return Err(bad(match uri.path() {
                "/" => format!("has no path: write {:?}", format!("{place}{path}")),
                _ => format!("does not end with {path}, the path of the API"),
            }));
        }
        Ok(uri)
    }
}

impl fmt::Display for Environment {
    /// Prints what [`FromStr`] reads: `production`, `demo` or the URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Demo => "demo",
            Self::Custom(url) => url,
        })
    }
}

impl FromStr for Environment {
    type Err = AuthError;

    /// Reads `production`, `demo`, or the URL of a service.
    fn from_str(text: &str) -> Result<Self, AuthError> {
        match text {
            "production" => Ok(Self::Production),
            "demo" => Ok(Self::Demo),
            url if ["http://", "https://", "ws://", "wss://"]
                .iter()
                .any(|s| url.starts_with(s)) =>
            {
                Ok(Self::Custom(url.to_owned()))
            }
            // Not repeated: it may be anything, a key included.
            _ => Err(invalid("an environment is `production`, `demo` or the URL of the API")),
        }
    }
}

impl TryFrom<&str> for Environment {
    type Error = AuthError;

    fn try_from(text: &str) -> Result<Self, AuthError> {
        text.parse()
    }
}

/// Reports whether a host, as it stands in a URL, is this machine: `localhost`, or an address that
/// leads back, brackets and IPv4 within IPv6 included.
///
/// The one rule of the workspace: only to such a host credentials may go unencrypted.
///
/// ```
/// use kalshi_auth::is_loopback;
///
/// for host in ["localhost", "127.0.0.1", "[::1]", "::ffff:127.0.0.1"] {
///     assert!(is_loopback(host), "{host}");
/// }
/// assert!(!is_loopback("localhost.example.com"));
/// ```
pub fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn custom_url(url: &str, service: Service) -> Cow<'_, str> {
    let url = url.trim_end_matches('/');
    if let Some(hosts) = HOSTS.iter().find(|hosts| hosts.production == url || hosts.demo == url) {
        let own = service.hosts();
        return Cow::Borrowed(if hosts.demo == url { own.demo } else { own.production });
    }
    let Some((scheme, rest)) = url.split_once("://") else { return Cow::Borrowed(url) };
    let other = HOSTS.iter().find(|hosts| rest.ends_with(hosts.path));
    let (is_stream, wanted) = match (scheme, service.is_stream()) {
        ("http", stream) => (false, if stream { "ws" } else { "http" }),
        ("https", stream) => (false, if stream { "wss" } else { "https" }),
        ("ws", stream) => (true, if stream { "ws" } else { "http" }),
        ("wss", stream) => (true, if stream { "wss" } else { "https" }),
        _ => return Cow::Borrowed(url),
    };
    match other {
        Some(hosts) if hosts.service == service && is_stream == service.is_stream() => {
            Cow::Borrowed(url)
        }
        None if is_stream == service.is_stream() => Cow::Borrowed(url),
        _ => {
            let rest = other.and_then(|hosts| rest.strip_suffix(hosts.path)).unwrap_or(rest);
            Cow::Owned(format!("{wanted}://{rest}{}", service.path()))
        }
    }
}

fn invalid(message: impl Into<Cow<'static, str>>) -> AuthError {
    AuthError::new(AuthErrorKind::InvalidEnvironment, message)
}
