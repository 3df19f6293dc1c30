//! The handshake: TCP, TLS, the signed upgrade.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::{HeaderMap, Uri, header::RETRY_AFTER};
use kalshi_auth::Signer;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    select,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, protocol::WebSocketConfig},
};

use super::proxy::Proxy;
use crate::{
    config::Config,
    error::{ConnectError, ConnectErrorKind},
};

/// Bytes in both directions, encrypted or (on this machine) not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Wire>>;

/// The time after which the next address of a host is tried beside the ones before it.
const STAGGER: Duration = Duration::from_millis(250);

/// The longest wait that a refusal may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// The longest part of a refusal that is shown.
const MAX_EXCERPT: usize = 200;

/// Makes connections, one after the other.
pub(crate) struct Connector {
    uri: Uri,
    proxy: Option<Proxy>,
    signer: Signer,
    tls: TlsConnector,
    time_limit: Duration,
    max_bytes: usize,
}

impl Connector {
    /// Checks the configuration; does nothing else.
    pub(crate) fn new(config: &Config) -> Result<Self, ConnectError> {
        let uri = config.checked_url()?;
        let proxy = config.proxy_for(&uri)?;
        let signer = Signer::new(config.credentials.clone(), Arc::clone(&config.clock));
        let failed = |error: rustls::Error| {
            ConnectError::new(ConnectErrorKind::Config, "could not set up TLS").with_source(error)
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(failed)?
            .with_no_client_auth();
        Ok(Self {
            uri,
            proxy,
            signer,
            tls: TlsConnector::from(Arc::new(tls)),
            time_limit: config.connect_timeout,
            max_bytes: config.max_frame_bytes,
        })
    }

    /// Returns the host that is connected to.
    pub(crate) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// Makes a connection, with a signature of its own.
    pub(crate) async fn connect(&self) -> Result<Socket, ConnectError> {
        timeout(self.time_limit, Box::pin(self.attempt())).await.unwrap_or_else(|_| {
            Err(ConnectError::new(
                ConnectErrorKind::Timeout,
                "could not connect within the time limit",
            ))
        })
    }

    async fn attempt(&self) -> Result<Socket, ConnectError> {
        let (keys, path) = (self.signer.clone(), self.uri.path().to_owned());
        // An RSA signature takes up to two milliseconds: not on the thread that reads other sockets.
        let signed = spawn_blocking(move || keys.sign("GET", &path)).await.map_err(|error| {
            ConnectError::new(ConnectErrorKind::Auth, "could not sign the handshake")
                .with_source(error)
        })??;
        let mut request = self.uri.clone().into_client_request().map_err(handshake_failed)?;
        signed.insert_into(request.headers_mut());

        let host = self.uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let encrypted = self.uri.scheme_str() == Some("wss");
        let port = self.uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let mut tcp = match &self.proxy {
            Some(proxy) => reach(&proxy.host, proxy.port).await?,
            None => reach(host, port).await?,
        };
        if let Some(proxy) = &self.proxy {
            proxy.tunnel(&mut tcp, host, port).await?;
        }
        let wire: Box<dyn Wire> = if encrypted {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| {
                ConnectError::new(ConnectErrorKind::Config, "the host is no name for TLS")
                    .with_source(error)
            })?;
            let tls = self.tls.connect(name, tcp).await;
            Box::new(tls.map_err(|error| network("TLS failed".to_owned(), error))?)
        } else {
            Box::new(tcp)
        };
        let settings = WebSocketConfig::default()
            .max_message_size(Some(self.max_bytes))
            .max_frame_size(Some(self.max_bytes));
        let connected = client_async_with_config(request, wire, Some(settings)).await;
        let (socket, _) = connected.map_err(handshake_failed)?;
        Ok(socket)
    }
}

fn network(what: String, error: io::Error) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Network, what).with_source(error)
}

/// Connects to the first of a host's addresses that answers.
async fn reach(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let failed = |error| network(format!("could not connect to {host}:{port}"), error);
    let addresses = lookup_host((host, port)).await.map_err(failed)?;
    let tcp = race(in_turns(addresses)).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    Ok(tcp)
}

/// Sorts addresses so that the two families take turns, the one of the first address first.
fn in_turns(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<SocketAddr> = addresses.into_iter().collect();
    let first = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut one, mut other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first);
    one.reverse();
    other.reverse();
    let mut sorted = Vec::new();
    while !one.is_empty() || !other.is_empty() {
        sorted.extend(one.pop());
        sorted.extend(other.pop());
    }
    sorted
}

/// Tries the addresses one after the other, each a moment after the one before or when all before it
/// have failed, and takes the first connection.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        match addresses.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => return Err(error),
            None => {}
        }
        let is_last = addresses.len() == 0;
        select! {
            Some(connected) = attempts.next() => match connected {
                Ok(tcp) => return Ok(tcp),
                Err(failed) => error = failed,
            },
            () = sleep(STAGGER), if !is_last => {}
        }
    }
}

/// Reads `Retry-After`, if it is a number of seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

fn handshake_failed(error: tungstenite::Error) -> ConnectError {
    match error {
        tungstenite::Error::Http(response) => {
            let status = response.status().as_u16();
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(body);
            let excerpt: String =
                body.chars().filter(|c| !c.is_control()).take(MAX_EXCERPT).collect();
            let retry_after = retry_after(response.headers());
            ConnectError::new(
                ConnectErrorKind::Rejected(status),
                format!("the exchange refused the handshake with {status}: {excerpt:?}"),
            )
            .with_retry_after(retry_after)
        }
        tungstenite::Error::Io(error) => {
            ConnectError::new(ConnectErrorKind::Network, "the handshake was cut off")
                .with_source(error)
        }
        error => {
            ConnectError::new(ConnectErrorKind::Protocol, "the handshake failed").with_source(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn c6_the_families_of_addresses_take_turns() {
        let v4 = |n| SocketAddr::from((Ipv4Addr::LOCALHOST, n));
        let v6 = |n| SocketAddr::from((Ipv6Addr::LOCALHOST, n));
        assert_eq!(in_turns([v6(1), v6(2), v6(3), v4(4)]), [v6(1), v4(4), v6(2), v6(3)]);
        assert_eq!(in_turns([v4(1), v6(2)]), [v4(1), v6(2)]);
        assert!(in_turns([]).is_empty());
    }

    #[tokio::test]
    async fn c6_an_address_that_refuses_does_not_keep_from_the_next() {
        // A port that was free a moment ago.
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = race(vec![dead, alive.local_addr().unwrap()]).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), alive.local_addr().unwrap());
        assert!(race(vec![dead]).await.is_err());
        assert_eq!(race(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
