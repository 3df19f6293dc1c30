//! The exchange's end of a connection, played by the test step by step.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use kalshi_auth::{
    Credentials, KeyType,
    server::{KeyPair, PublicKey},
};
use kalshi_ws::{Backoff, Config, ConfigBuilder, Connection, Environment, product};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};

/// Nothing here takes longer, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A listener whose connections the test answers.
pub(crate) struct Exchange {
    pub(crate) url: String,
    peers: mpsc::UnboundedReceiver<Peer>,
    /// The status that the next handshakes are refused with.
    refusals: Arc<Mutex<Vec<u16>>>,
    /// The signatures of the handshakes.
    pub(crate) signatures: Arc<Mutex<Vec<String>>>,
    /// Their paths.
    pub(crate) paths: Arc<Mutex<Vec<String>>>,
    pub(crate) credentials: Credentials,
}

/// One connection, seen from the exchange.
pub(crate) struct Peer(WebSocketStream<Box<dyn Transport>>);

/// A connection under the WebSocket, encrypted or not.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

impl Exchange {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts an exchange whose connections are encrypted, at `localhost`.
    pub(crate) async fn start_encrypted(tls: TlsAcceptor) -> Self {
        Self::start_with(Some(tls)).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
        let credentials = Credentials::from_pem("key-id", pair.private_key_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = match tls {
            None => format!("ws://{address}/trade-api/ws/v2"),
            Some(_) => format!("wss://localhost:{}/trade-api/ws/v2", address.port()),
        };
        let (sender, peers) = mpsc::unbounded_channel();
        let refusals = Arc::new(Mutex::new(Vec::<u16>::new()));
        let signatures = Arc::new(Mutex::new(Vec::new()));
        let (refuse, signed) = (Arc::clone(&refusals), Arc::clone(&signatures));
        let key = pair.public_key().clone();
        let paths = Arc::new(Mutex::new(Vec::new()));
        let walked = Arc::clone(&paths);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
                let check = |request: &Request, response: Response| {
                    let signature = verified(&key, request);
                    signed.lock().unwrap().push(signature);
                    walked.lock().unwrap().push(request.uri().path().to_owned());
                    match refuse.lock().unwrap().pop() {
                        None => Ok(response),
                        Some(status) => {
                            let mut refusal = ErrorResponse::new(Some("not now".to_owned()));
                            *refusal.status_mut() = status.try_into().unwrap();
                            Err(refusal)
                        }
                    }
                };
                let transport: Box<dyn Transport> = match &tls {
                    None => Box::new(tcp),
                    Some(tls) => match tls.accept(tcp).await {
                        Ok(encrypted) => Box::new(encrypted),
                        // The client does not trust the certificate.
                        Err(_) => continue,
                    },
                };
                if let Ok(socket) = accept_hdr_async(transport, check).await
                    && sender.send(Peer(socket)).is_err()
                {
                    return;
                }
            }
        });
        Self { url, peers, refusals, signatures, paths, credentials }
    }

    /// Refuses the next handshakes with this status.
    pub(crate) fn refuse(&self, times: usize, status: u16) {
        self.refusals.lock().unwrap().extend(vec![status; times]);
    }

    /// Returns a configuration for this exchange with short waits.
    pub(crate) fn config(&self) -> ConfigBuilder {
        self.config_at(&self.url)
    }

    /// Returns a configuration for this exchange at another address.
    pub(crate) fn config_at(&self, url: &str) -> ConfigBuilder {
        let millis = Duration::from_millis;
        Config::builder()
            .with_environment(Environment::Custom(url.to_owned()))
            .with_credentials(self.credentials.clone())
            .with_backoff(Backoff::new(millis(5), millis(40)))
    }

    /// Returns a stream and the exchange's end of it.
    pub(crate) async fn connect(&mut self, config: ConfigBuilder) -> (Connection, Peer) {
        let stream = Connection::connect(config.build().unwrap()).await.unwrap();
        (stream, self.peer().await)
    }

    /// Returns the next connection.
    pub(crate) async fn peer(&mut self) -> Peer {
        timeout(PATIENCE, self.peers.recv()).await.expect("no connection").unwrap()
    }

    /// Returns the next connection, if there is one already.
    pub(crate) fn peer_now(&mut self) -> Option<Peer> {
        self.peers.try_recv().ok()
    }
}

impl Peer {
    /// Returns the next command.
    pub(crate) async fn command(&mut self) -> Value {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect("no command");
            match message.expect("the connection ended").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(_) => panic!("closed"),
                _ => {}
            }
        }
    }

    /// Returns the next command, if one comes soon.
    pub(crate) async fn command_soon(&mut self) -> Option<Value> {
        timeout(Duration::from_millis(600), self.command()).await.ok()
    }

    /// Waits for the close frame.
    pub(crate) async fn closed(&mut self) {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect("not closed");
            match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn send(&mut self, frame: impl ToString) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub(crate) async fn send_binary(&mut self, bytes: &'static [u8]) {
        self.0.send(Message::binary(bytes)).await.unwrap();
    }

    pub(crate) async fn ping(&mut self) {
        self.0.send(Message::Ping("heartbeat".into())).await.unwrap();
    }

    /// Waits until the client has read all that was sent.
    pub(crate) async fn all_read(&mut self) {
        self.ping().await;
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("no pong") {
                Some(Ok(Message::Pong(_))) => return,
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends a frame without waiting for the network.
    pub(crate) async fn feed(&mut self, frame: String) {
        self.0.feed(Message::text(frame)).await.unwrap();
    }

    pub(crate) async fn flush(&mut self) {
        self.0.flush().await.unwrap();
    }

    /// Sends a close frame, and leaves the connection as it is.
    pub(crate) async fn say_goodbye(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "restart".into() };
        self.0.send(Message::Close(Some(frame))).await.unwrap();
    }

    pub(crate) async fn close(mut self) {
        // The client may be gone already.
        let _ = self.0.close(None).await;
    }

    /// Answers the next command, a `subscribe`, with this sid, and gives it back.
    pub(crate) async fn subscribed(&mut self, sid: i64) -> Value {
        let command = self.command().await;
        assert_eq!(command["cmd"], "subscribe", "{command}");
        let channel = &command["params"]["channels"][0];
        let msg = json!({"channel": channel, "sid": sid});
        self.send(json!({"id": command["id"], "type": "subscribed", "msg": msg})).await;
        command
    }

    /// Answers a command with an error.
    pub(crate) async fn refuse(&mut self, command: &Value, error: Value) {
        self.send(json!({"id": command["id"], "type": "error", "msg": error})).await;
    }

    /// Answers a command with `ok`.
    pub(crate) async fn ok(&mut self, command: &Value, sid: i64) {
        self.send(json!({"id": command["id"], "type": "ok", "sid": sid})).await;
    }

    pub(crate) async fn snapshot(&mut self, sid: i64, seq: i64, ticker: &str, bid: &str) {
        self.send(snapshot(sid, seq, ticker, bid)).await;
    }

    pub(crate) async fn delta(&mut self, sid: i64, seq: i64, ticker: &str, count: &str) {
        self.send(delta(sid, seq, ticker, count)).await;
    }
}

/// Returns a snapshot with one bid of ten contracts.
pub(crate) fn snapshot(sid: i64, seq: i64, ticker: &str, bid: &str) -> String {
    format!(
        r#"{{"type":"orderbook_snapshot","sid":{sid},"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"m","yes_dollars_fp":[["{bid}","10.00"]]}}}}"#
    )
}

/// Returns a change of the bid at 0.40.
pub(crate) fn delta(sid: i64, seq: i64, ticker: &str, count: &str) -> String {
    format!(
        r#"{{"type":"orderbook_delta","sid":{sid},"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"m","price_dollars":"0.4000","delta_fp":"{count}","side":"yes","ts_ms":{seq}}}}}"#
    )
}

/// Returns the next event of a stream.
pub(crate) async fn next<P: product::Product>(
    stream: &mut product::Connection<P>,
) -> product::Event<P> {
    timeout(PATIENCE, stream.next()).await.expect("no event").expect("the stream is over")
}

/// The next event, which must be of this kind.
macro_rules! expect_event {
    ($stream:expr, $pattern:pat $(if $guard:expr)? $(=> $value:expr)?) => {
        match $crate::exchange::next(&mut $stream).await {
            $pattern $(if $guard)? => { $($value)? }
            other => panic!("expected {}, got {other:?}", stringify!($pattern)),
        }
    };
}
pub(crate) use expect_event;

/// Returns the signature of a handshake, which must be right.
fn verified(key: &PublicKey, request: &Request) -> String {
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("kalshi-access-key"), "key-id");
    let signature = header("kalshi-access-signature");
    let timestamp = header("kalshi-access-timestamp").parse().unwrap();
    key.verify_request("GET", request.uri().path(), timestamp, &signature).unwrap();
    signature
}
