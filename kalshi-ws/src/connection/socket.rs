//! The socket of a connection, and how it is made: TCP, TLS, the signed upgrade.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{StreamExt as _, future::poll_fn, stream::FuturesUnordered};
use http::{HeaderMap, Uri, header::RETRY_AFTER};
use kalshi_auth::Signer;
use rustls::{crypto::SecureRandom, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    select,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    client_async,
    tungstenite::{self, client::IntoClientRequest},
};

use super::{
    framing::{self, FrameError, FrameReader, Incoming},
    proxy::Proxy,
};
use crate::{
    config::Config,
    error::{ConnectError, ConnectErrorKind},
    product::Product,
};

/// Bytes in both directions, encrypted or (on this machine) not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// The bytes of commands that are put on the wire at a time.
const WRITE_AT_ONCE: usize = 64 << 10;

/// The close code of an end that is meant.
const NORMAL: u16 = 1000;

/// An open WebSocket.
pub(crate) struct Socket {
    wire: Box<dyn Wire>,
    frames: FrameReader,
    random: &'static dyn SecureRandom,
    out: Vec<u8>,
    /// The part of `out` that is on the wire.
    written: usize,
    is_flushed: bool,
    /// The ping that is to be answered; of several the last, as RFC 6455 allows.
    ping: Option<Vec<u8>>,
    goodbye: Goodbye,
}

/// The state of this end's close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    None,
    /// It is to be written, with this code.
    Due(Option<u16>),
    Written,
}

/// The end of the server's answer to the handshake.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

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
    random: &'static dyn SecureRandom,
    time_limit: Duration,
    max_bytes: usize,
}

impl Connector {
    /// Checks the configuration; does nothing else.
    pub(crate) fn new(config: &Config<impl Product>) -> Result<Self, ConnectError> {
        let uri = config.checked_url()?;
        let proxy = config.proxy_for(&uri)?;
        let signer = Signer::new(config.credentials.clone(), Arc::clone(&config.settings.clock));
        let failed = |error: rustls::Error| {
            ConnectError::new(ConnectErrorKind::Config, "could not set up TLS").with_source(error)
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let random = provider.secure_random;
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
            random,
            time_limit: config.settings.connect_timeout,
            max_bytes: config.settings.max_frame_bytes,
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
        let connected = client_async(request, Upgrade::new(wire)).await;
        let (upgraded, _) = connected.map_err(handshake_failed)?;
        let Upgrade { wire, rest, .. } = upgraded.into_inner();
        Ok(Socket {
            wire,
            frames: FrameReader::new(self.max_bytes, &rest),
            random: self.random,
            out: Vec::new(),
            written: 0,
            is_flushed: true,
            ping: None,
            goodbye: Goodbye::None,
        })
    }
}

impl Socket {
    /// Returns what was read and is whole; `None` if more has to be [read](Self::poll_read) first.
    /// Pings and close frames are answered with the next [`poll_write`](Self::poll_write).
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Incoming<'_>>, FrameError> {
        let next = self.frames.next();
        match &next {
            Ok(None | Some(Incoming::Text(_) | Incoming::Binary(_) | Incoming::Pong)) => {}
            Ok(Some(Incoming::Ping(payload))) => self.ping = Some(payload.to_vec()),
            Ok(Some(Incoming::Close(close))) => {
                if self.goodbye == Goodbye::None {
                    self.goodbye = Goodbye::Due(close.map(|(code, _)| code));
                }
            }
            Err(error) => {
                if self.goodbye == Goodbye::None {
                    self.goodbye = Goodbye::Due(Some(error.close_code()));
                }
            }
        }
        next
    }

    /// Reports whether [`next`](Self::next) may return something although nothing more is read.
    pub(crate) fn has_more(&self) -> bool {
        !self.frames.is_drained()
    }

    /// Reads what is there. The end of the connection is an error.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = ReadBuf::new(self.frames.room());
        ready!(Pin::new(&mut self.wire).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        self.frames.filled(read);
        Poll::Ready(if read > 0 {
            Ok(())
        } else {
            let why = "the connection ended without a close frame";
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
        })
    }

    /// Writes the commands, and the answers to pings. Pending until all is on the wire.
    pub(crate) fn poll_write(
        &mut self,
        commands: &mut VecDeque<String>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(rest @ [_, ..]) = self.out.get(self.written..) {
                let written = ready!(Pin::new(&mut self.wire).poll_write(cx, rest))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += written;
                self.is_flushed = false;
                continue;
            }
            self.out.clear();
            self.written = 0;
            self.refill(commands)?;
            if self.out.is_empty() {
                break;
            }
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.wire).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Prepares what is to be written next.
    fn refill(&mut self, commands: &mut VecDeque<String>) -> io::Result<()> {
        if self.goodbye == Goodbye::Written {
            return Ok(());
        }
        if let Some(payload) = self.ping.take() {
            self.append(framing::PONG, &payload)?;
        }
        while self.out.len() < WRITE_AT_ONCE
            && let Some(command) = commands.pop_front()
        {
            self.append(framing::TEXT, command.as_bytes())?;
        }
        if let Goodbye::Due(code) = self.goodbye
            && commands.is_empty()
        {
            let code = code.map(u16::to_be_bytes);
            self.append(framing::CLOSE, code.as_ref().map_or(&[], |code| code))?;
            self.goodbye = Goodbye::Written;
        }
        Ok(())
    }

    fn append(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut mask = [0; 4];
        self.random
            .fill(&mut mask)
            .map_err(|_| io::Error::other("no random numbers for a mask"))?;
        framing::write(&mut self.out, opcode, payload, mask);
        Ok(())
    }

    /// Reports whether a close frame is to be written.
    pub(crate) fn owes_goodbye(&self) -> bool {
        matches!(self.goodbye, Goodbye::Due(_))
    }

    /// Closes this end, and waits until the peer has closed its own.
    pub(crate) async fn finish(&mut self) {
        if self.goodbye == Goodbye::None {
            self.goodbye = Goodbye::Due(Some(NORMAL));
        }
        poll_fn(|cx| {
            // A peer that does not read before it has written would wait forever.
            let mut commands = VecDeque::new();
            let mut is_over = matches!(self.poll_write(&mut commands, cx), Poll::Ready(Err(_)));
            while !is_over {
                self.frames.discard();
                is_over = ready!(self.poll_read(cx)).is_err();
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// The wire during the handshake: what the server sends behind its answer is kept.
struct Upgrade {
    wire: Box<dyn Wire>,
    /// The answer, as far as it has come.
    head: Vec<u8>,
    is_over: bool,
    /// The bytes behind it.
    rest: Vec<u8>,
}

impl Upgrade {
    fn new(wire: Box<dyn Wire>) -> Self {
        Self { wire, head: Vec::new(), is_over: false, rest: Vec::new() }
    }
}

impl AsyncRead for Upgrade {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        ready!(Pin::new(&mut self.wire).poll_read(cx, room))?;
        let read = room.filled().get(before..).unwrap_or_default();
        if self.is_over {
            self.rest.extend_from_slice(read);
            room.set_filled(before);
            return Poll::Ready(Ok(()));
        }
        let searched = self.head.len().saturating_sub(END_OF_HEAD.len() - 1);
        self.head.extend_from_slice(read);
        let unsearched = self.head.get(searched..).unwrap_or_default();
        let end = unsearched.windows(END_OF_HEAD.len()).position(|bytes| bytes == END_OF_HEAD);
        if let Some(end) = end
            && self.head.starts_with(b"HTTP/1.1 101")
        {
            let end = searched + end + END_OF_HEAD.len();
            self.rest = self.head.split_off(end);
            self.is_over = true;
            room.set_filled(room.filled().len() - self.rest.len());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgrade {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
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

    use tokio::net::{TcpListener, TcpSocket};

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
        // A port that is taken, and on which nothing listens.
        let taken = TcpSocket::new_v4().unwrap();
        taken.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let dead = taken.local_addr().unwrap();
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = race(vec![dead, alive.local_addr().unwrap()]).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), alive.local_addr().unwrap());
        assert!(race(vec![dead]).await.is_err());
        assert_eq!(race(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
