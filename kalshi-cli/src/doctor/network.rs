//! The way to the exchange: proxies, name, TCP and TLS, each by itself.

use std::{
    env, fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kalshi_sdk::auth::{Environment, Service};
use rustls::{
    DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{certificate::issuer, report::Check};

/// The variables that name a proxy, in upper and lower case.
const PROXIES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];

/// The place of a service.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

impl Place {
    pub(super) fn of(environment: &Environment, service: Service) -> Result<Self, String> {
        let uri = environment.checked_url(service).map_err(|error| error.to_string())?;
        let is_tls = matches!(uri.scheme_str(), Some("https" | "wss"));
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { host, port, is_tls })
    }
}

/// Checks the variables that name a proxy. They apply to every other program, too.
pub(super) fn proxies(variable: impl Fn(&str) -> Option<String>) -> Check {
    const NAME: &str = "proxy";
    let mut found = Vec::new();
    for name in PROXIES {
        for name in [name.to_owned(), name.to_ascii_lowercase()] {
            if let Some(url) = variable(&name).filter(|url| !url.is_empty()) {
                found.push(format!("{name} = {}", shown(&url)));
            }
        }
    }
    if found.is_empty() {
        return Check::ok(NAME, "no variable names one");
    }
    Check::warn(
        NAME,
        format!("requests may go by a proxy: {}", found.join(", ")),
        "unset the variables, or add the exchange's host to NO_PROXY, if that is not wanted",
    )
}

/// Returns the URL of a proxy without the user and the password in it.
fn shown(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
    let is_host = |text: &str| {
        !text.is_empty()
            && text.len() <= 255
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b))
    };
    match (is_host(host), user) {
        (true, None) => host.to_owned(),
        (true, Some(_)) => format!("{host} (with a user, not shown)"),
        (false, _) => "something that is no URL, not shown".to_owned(),
    }
}

/// Returns a variable of the process.
pub(super) fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Looks the name up.
pub(super) async fn dns(place: &Place, limit: Duration) -> (Check, Vec<std::net::SocketAddr>) {
    const NAME: &str = "dns";
    let begun = Instant::now();
    let found = timeout(limit, lookup_host((&*place.host, place.port))).await;
    let remedy = "check the name in --env, and the DNS servers of this machine";
    let check = match found {
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.collect();
            if let Some(first) = addresses.first() {
                let text = match addresses.len() {
                    1 => format!("{} is {}", place.host, first.ip()),
                    n => format!("{} is {} and {} more", place.host, first.ip(), n - 1),
                };
                return (Check::ok(NAME, text).took(begun.elapsed()), addresses);
            }
            Check::fail(NAME, format!("{} has no address", place.host), remedy)
        }
        Ok(Err(error)) => {
            Check::fail(NAME, format!("{} cannot be looked up: {error}", place.host), remedy)
        }
        Err(_) => Check::fail(
            NAME,
            format!("no answer about {} within {} s", place.host, limit.as_secs()),
            remedy,
        ),
    };
    (check.took(begun.elapsed()), Vec::new())
}

/// Connects to the first address that takes it.
pub(super) async fn tcp(
    place: &Place,
    addresses: &[std::net::SocketAddr],
    limit: Duration,
) -> (Check, Option<TcpStream>) {
    const NAME: &str = "tcp";
    let begun = Instant::now();
    let connected = timeout(limit, TcpStream::connect(addresses)).await;
    let remedy = "check that a firewall or a VPN lets connections to this host and port out";
    let (check, socket) = match connected {
        Ok(Ok(socket)) => {
            let text = match socket.peer_addr() {
                Ok(address) => format!("connected to {address}"),
                Err(_) => format!("connected to port {}", place.port),
            };
            (Check::ok(NAME, text), Some(socket))
        }
        Ok(Err(error)) => {
            (Check::fail(NAME, format!("{}:{}: {error}", place.host, place.port), remedy), None)
        }
        Err(_) => (
            Check::fail(
                NAME,
                format!(
                    "{}:{} did not answer within {} s",
                    place.host,
                    place.port,
                    limit.as_secs()
                ),
                remedy,
            ),
            None,
        ),
    };
    (check.took(begun.elapsed()), socket)
}

/// Greets the host by TLS, and names who issued its certificate: where that is a proxy that reads
/// along, it shows.
pub(super) async fn tls(
    place: &Place,
    socket: TcpStream,
    limit: Duration,
) -> (Check, Option<TlsStream<TcpStream>>) {
    const NAME: &str = "tls";
    let begun = Instant::now();
    let (connector, seen) = match connector() {
        Ok(made) => made,
        Err(error) => {
            let text = format!("this machine's certificates cannot be used: {error}");
            let remedy = "install the package of CA certificates (ca-certificates)";
            return (Check::fail(NAME, text, remedy), None);
        }
    };
    let Ok(name) = ServerName::try_from(place.host.clone()) else {
        let text = format!("{} is no name that a certificate can have", place.host);
        return (Check::fail(NAME, text, "correct the host in --env"), None);
    };
    let greeted = timeout(limit, connector.connect(name, socket)).await;
    let issued = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let by = issued.map(|issuer| format!(", issued by {issuer}")).unwrap_or_default();
    let (check, stream) = match greeted {
        Ok(Ok(stream)) => {
            let version = stream.get_ref().1.protocol_version();
            let version = version.map(|version| format!("{version:?}")).unwrap_or_default();
            (Check::ok(NAME, format!("{version} with {}{by}", place.host)), Some(stream))
        }
        Ok(Err(error)) if error.to_string().contains("certificate") => (
            Check::fail(
                NAME,
                format!("the certificate of {} is not trusted{by}: {error}", place.host),
                "if that is a proxy of your network, add its root certificate to this machine's; \
                 else do not go on",
            ),
            None,
        ),
        Ok(Err(error)) => (
            Check::fail(
                NAME,
                format!("no TLS with {}: {error}", place.host),
                "check that the port is one of HTTPS, and that no firewall cuts it",
            ),
            None,
        ),
        Err(_) => (
            Check::fail(
                NAME,
                format!("{} did not answer within {} s", place.host, limit.as_secs()),
                "check that the port is one of HTTPS, and that no firewall cuts it",
            ),
            None,
        ),
    };
    (check.took(begun.elapsed()), stream)
}

type Seen = Arc<Mutex<Option<String>>>;

fn connector() -> Result<(TlsConnector, Seen), TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let seen = Seen::default();
    let inner = Verifier::new(Arc::clone(&provider))?;
    let verifier = Witness { inner, seen: Arc::clone(&seen) };
    let config = rustls::ClientConfig::builder_with_provider(provider as Arc<CryptoProvider>)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), seen))
}

/// The platform's verifier, and what the certificate says of its issuer. It trusts nothing that the
/// platform does not.
struct Witness {
    inner: Verifier,
    seen: Seen,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = issuer(end_entity);
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Level;

    #[test]
    fn proxies_are_named_without_their_passwords() {
        assert_eq!(proxies(|_| None).level, Level::Ok);
        let set = |url: &'static str| {
            proxies(move |name| (name == "https_proxy").then(|| url.to_owned()))
        };
        let check = set("http://user:canary-password@proxy.example:8080/");
        assert_eq!(check.level, Level::Warn);
        assert!(check.text.contains("https_proxy = proxy.example:8080"), "{}", check.text);
        assert!(!check.text.contains("canary"), "{}", check.text);
        assert!(set("proxy:3128").text.contains("proxy:3128"));
        for url in ["http://a b/", "\u{1b}[31m", "http://us@er:canary@[x y]"] {
            assert!(set(url).text.contains("not shown"), "{url}");
        }
    }
}
