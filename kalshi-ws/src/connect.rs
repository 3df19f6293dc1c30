//! The handshake: TCP, TLS, the signed upgrade.

use std::{sync::Arc, time::Duration};

use http::Uri;
use kalshi_auth::Signer;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, protocol::WebSocketConfig},
};

use crate::{
    config::Config,
    error::{ConnectError, ConnectErrorKind},
};

/// Bytes in both directions, encrypted or (on this machine) not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Wire>>;

/// The longest part of a refusal that is shown.
const MAX_EXCERPT: usize = 200;

/// What one attempt after the other needs.
pub(crate) struct Connector {
    uri: Uri,
    signer: Signer,
    tls: TlsConnector,
    time_limit: Duration,
    max_bytes: usize,
}

impl Connector {
    /// Checks the configuration; does nothing else.
    pub(crate) fn new(config: &Config) -> Result<Self, ConnectError> {
        let uri = config.checked_url()?;
        let signer = Signer::new(config.credentials.clone(), Arc::clone(&config.clock));
        let failed = |error: rustls::Error| {
            ConnectError::new(ConnectErrorKind::Config, "TLS cannot be set up").with_source(error)
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(failed)?
            .with_no_client_auth();
        Ok(Self {
            uri,
            signer,
            tls: TlsConnector::from(Arc::new(tls)),
            time_limit: config.connect_timeout,
            max_bytes: config.max_frame_bytes,
        })
    }

    /// Makes a connection, with a signature of its own.
    pub(crate) async fn connect(&self) -> Result<Socket, ConnectError> {
        timeout(self.time_limit, Box::pin(self.attempt())).await.unwrap_or_else(|_| {
            Err(ConnectError::new(
                ConnectErrorKind::Timeout,
                "no connection to the exchange within the time limit",
            ))
        })
    }

    async fn attempt(&self) -> Result<Socket, ConnectError> {
        let signed = self.signer.sign("GET", self.uri.path())?;
        let mut request = self.uri.clone().into_client_request().map_err(handshake_failed)?;
        signed.insert_into(request.headers_mut());

        let network = |what: &str, error: std::io::Error| {
            ConnectError::new(ConnectErrorKind::Network, what).with_source(error)
        };
        let host = self.uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let encrypted = self.uri.scheme_str() == Some("wss");
        let port = self.uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let tcp = TcpStream::connect((host, port))
            .await
            .map_err(|error| network("the exchange cannot be reached", error))?;
        tcp.set_nodelay(true).map_err(|error| network("the socket cannot be set up", error))?;
        let wire: Box<dyn Wire> = if encrypted {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| {
                ConnectError::new(ConnectErrorKind::Config, "the host has no name for TLS")
                    .with_source(error)
            })?;
            let tls = self.tls.connect(name, tcp).await;
            Box::new(tls.map_err(|error| network("TLS failed", error))?)
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

fn handshake_failed(error: tungstenite::Error) -> ConnectError {
    match error {
        tungstenite::Error::Http(response) => {
            let status = response.status().as_u16();
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(body);
            let excerpt: String =
                body.chars().filter(|c| !c.is_control()).take(MAX_EXCERPT).collect();
            ConnectError::new(
                ConnectErrorKind::Rejected(status),
                format!("the exchange refused the handshake with {status}: {excerpt:?}"),
            )
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
