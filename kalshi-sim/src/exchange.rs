//! An exchange to hold in the hand: started, asked, gone when dropped.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use http::Method;
use kalshi_auth::{
    AuthError, Clock, Credentials, KeyType, SystemClock,
    exchange::{KeyPair, PublicKey},
};
use kalshi_sdk::{Client, Environment};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    BASE_PATH,
    server::{self, Shared},
    state::State,
    stream::{
        self, STREAM_PATH,
        faults::StreamFaults,
        hub::{DEFAULT_CAPACITY, Hub, Line},
    },
};

/// The id of the key that every exchange starts with, unless it is given keys.
pub const DEFAULT_KEY_ID: &str = "00000000-0000-4000-8000-000000000000";

/// A running exchange. It stops when dropped.
///
/// ```
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let exchange = kalshi_sim::Exchange::start().await?;
/// let client = exchange.client()?;
/// let keys = client.get_api_keys().send().await?;
/// assert_eq!(keys.api_keys.len(), 1);
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
/// ```
pub struct Exchange {
    address: SocketAddr,
    base_url: String,
    credentials: Option<Credentials>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
    time: JoinHandle<()>,
}

/// A request that the exchange has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The operation, for instance `get_markets`.
    pub operation: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path as it came over the wire, encoded.
    pub path: String,
    /// The query as it came over the wire, encoded; empty if there was none.
    pub query: String,
    /// Whether it had a signature.
    pub signed: bool,
}

/// Why an exchange did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The port is taken, or may not be used.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port asked for; 0 stands for any.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The first key could not be made.
    #[error("cannot make a key pair")]
    Key(#[source] AuthError),
}

impl Exchange {
    /// Starts an exchange on any free port, with one key and the markets of seed 0.
    ///
    /// # Errors
    ///
    /// [`StartError`]: no port, or no random numbers for the key.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// Starts to set up an exchange.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The base URL for clients: `http://127.0.0.1:PORT/trade-api/v2`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same for [`kalshi_sdk::ClientBuilder::with_environment`].
    pub fn environment(&self) -> Environment {
        Environment::Custom(self.base_url.clone())
    }

    /// Credentials of the first key; `None` if the exchange was started with keys of your own.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// A client with the first key, or without one.
    ///
    /// # Errors
    ///
    /// As [`kalshi_sdk::ClientBuilder::build`].
    pub fn client(&self) -> Result<Client, kalshi_sdk::Error> {
        let mut builder = Client::builder().with_environment(self.environment());
        if let Some(credentials) = &self.credentials {
            builder = builder.with_credentials(credentials.clone());
        }
        builder.build()
    }

    /// Registers a key with the scopes `read` and `write`, from the PEM text of its public half.
    ///
    /// # Errors
    ///
    /// A text that is no public key the exchange would take.
    pub fn add_key(&self, key_id: &str, public_key_pem: &str) -> Result<(), AuthError> {
        let public_key = PublicKey::from_pem(public_key_pem)?;
        let mut state = self.shared.state();
        let account = state.first_account;
        state.keys.insert(account, key_id.to_owned(), key_id.to_owned(), public_key);
        Ok(())
    }

    /// The last requests to known operations, oldest first; at most 1,000.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.log().iter().cloned().collect()
    }

    /// The URL of the streams: `ws://127.0.0.1:PORT/trade-api/ws/v2`.
    pub fn stream_url(&self) -> String {
        format!("ws://{}{STREAM_PATH}", self.address)
    }

    /// How many stream connections are open.
    pub fn stream_connections(&self) -> usize {
        self.shared.streams.connections()
    }

    /// What goes wrong with the streams from now on.
    pub fn set_stream_faults(&self, faults: StreamFaults) {
        self.shared.streams.set_faults(faults);
    }

    /// Cuts every stream connection without a word, as a restart of the server does.
    pub fn cut_streams(&self) {
        self.shared.streams.turn_all(Line::Cut);
    }

    /// Leaves every stream connection open and silent: nothing is sent, not even a ping, and
    /// nothing is read. [`cut_streams`](Self::cut_streams) ends that.
    pub fn silence_streams(&self) {
        self.shared.streams.turn_all(Line::Silent);
    }

    /// Stops and waits until the last connection is closed.
    ///
    /// # Errors
    ///
    /// What went wrong while it served.
    pub async fn stop(mut self) -> io::Result<()> {
        if let Some(stop) = self.stop.take() {
            // Nobody listens any more if it has stopped by itself.
            let _ = stop.send(());
        }
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.task.abort();
        self.time.abort();
        self.shared.streams.turn_all(Line::Cut);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Sets up an [`Exchange`].
#[derive(Debug, Default)]
#[must_use = "call `start`"]
pub struct Builder {
    port: u16,
    seed: u64,
    clock: Option<Arc<dyn Clock>>,
    keys: Vec<(String, PublicKey)>,
    stream_faults: StreamFaults,
    stream_capacity: Option<usize>,
}

impl Builder {
    /// The port on 127.0.0.1; any free one unless set.
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// What the markets are made from; 0 unless set.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The time of the exchange; the system's unless set.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// A key of your own, with the scopes `read` and `write`; then no first key is made.
    pub fn with_key(mut self, key_id: impl Into<String>, public_key: PublicKey) -> Self {
        self.keys.push((key_id.into(), public_key));
        self
    }

    /// What goes wrong with the streams from the start; nothing unless set.
    pub fn with_stream_faults(mut self, faults: StreamFaults) -> Self {
        self.stream_faults = faults;
        self
    }

    /// How many messages wait for a slow reader before its subscription ends with error 25;
    /// 100,000 unless set.
    pub fn with_stream_capacity(mut self, messages: usize) -> Self {
        self.stream_capacity = Some(messages);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// [`StartError`]: no port, or no random numbers for the key.
    pub async fn start(self) -> Result<Exchange, StartError> {
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let mut state = State::new(self.seed, server::at(clock.as_ref()));
        let account = state.first_account;
        let mut credentials = None;
        if self.keys.is_empty() {
            let pair = KeyPair::generate(KeyType::Ed25519).map_err(StartError::Key)?;
            let made = Credentials::from_pem(DEFAULT_KEY_ID, pair.private_key_pem());
            credentials = Some(made.map_err(StartError::Key)?);
            let public_key = pair.public_key().clone();
            state.keys.insert(
                account,
                DEFAULT_KEY_ID.to_owned(),
                "first key".to_owned(),
                public_key,
            );
        }
        for (id, public_key) in self.keys {
            state.keys.insert(account, id.clone(), id, public_key);
        }
        let port = self.port;
        let listen = |source| StartError::Listen { port, source };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let streams =
            Hub::new(self.stream_faults, self.stream_capacity.unwrap_or(DEFAULT_CAPACITY));
        let shared = Arc::new(Shared::new(state, clock, streams));
        let router = server::router(&shared);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let wait = async {
                // A sender that was dropped means the same.
                let _ = stopped.await;
            };
            axum::serve(listener, router).with_graceful_shutdown(wait).await
        });
        let base_url = format!("http://{address}{BASE_PATH}");
        let time = stream::shell::keep_time(Arc::clone(&shared));
        Ok(Exchange { address, base_url, credentials, shared, stop: Some(stop), task, time })
    }
}
