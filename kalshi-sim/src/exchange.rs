//! An exchange to hold in the hand: started, asked, gone when dropped.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use http::Method;
use kalshi_auth::{
    AuthError, Clock, Credentials, KeyType, SystemClock,
    server::{KeyPair, PublicKey},
};
use kalshi_sdk::{Client, Environment};
use kalshi_types::{Dollars, PriceRange};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    BASE_PATH, admin,
    catalogue::{OPEN_EVENTS, STRIKES},
    control::{ControlError, MarketOutcome, MarketPlan},
    engine::{ids::AccountId, types::Refusal},
    faults::{Fault, Faults},
    limits::Tier,
    line::{Cutter, Lines},
    server::{self, Shared},
    snapshot,
    state::{Start, State},
    stream::{
        self, STREAM_PATH,
        faults::{Ending, StreamFaults},
        hub::{DEFAULT_CAPACITY, Hub, Line},
    },
};

/// The id of the key that every exchange starts with, unless it is given keys.
pub const DEFAULT_KEY_ID: &str = "00000000-0000-4000-8000-000000000000";

/// More traders than one engine could serve.
const MAX_TRADERS: usize = 1_000;

/// A running exchange. It stops when dropped.
///
/// ```
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let exchange = kalshi_sim::Exchange::start().await?;
/// let client = exchange.client(kalshi_sim::Role::Trader)?;
/// let balance = client.get_balance().send().await?;
/// assert!(balance.balance_dollars.is_positive());
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
/// ```
pub struct Exchange {
    address: SocketAddr,
    base_url: String,
    admin: Option<(SocketAddr, JoinHandle<io::Result<()>>)>,
    credentials: BTreeMap<Role, Credentials>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
    time: JoinHandle<()>,
}

/// Who a client is. Every role has a key of its own, and its member the same money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// The first member, with the scopes `read` and `write`: 10,000 dollars on each shard.
    Trader,
    /// Another member, for trades between two: as much money, the same scopes.
    Maker,
    /// The first member with a key that may only read.
    Reader,
    /// The first member as a futures commission merchant, for the operations of that family.
    FcmMember,
}

impl Role {
    const ALL: [Self; 4] = [Self::Trader, Self::Maker, Self::Reader, Self::FcmMember];

    fn key_id(self) -> String {
        let number = Self::ALL.iter().position(|role| *role == self).unwrap_or(0);
        format!("{}{number}", &DEFAULT_KEY_ID[..DEFAULT_KEY_ID.len() - 1])
    }
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
    /// The state could not be loaded.
    #[error("cannot load {}", file.display())]
    State {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
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

    /// Credentials of a role; `None` if the exchange was started with keys of your own.
    pub fn credentials(&self, role: Role) -> Option<&Credentials> {
        self.credentials.get(&role)
    }

    /// A client in a role; without credentials if the exchange was started with keys of your own.
    ///
    /// # Errors
    ///
    /// As [`kalshi_sdk::ClientBuilder::build`].
    pub fn client(&self, role: Role) -> Result<Client, kalshi_sdk::Error> {
        let mut builder = Client::builder().with_environment(self.environment());
        if let Some(credentials) = self.credentials(role) {
            builder = builder.with_credentials(credentials.clone());
        }
        builder.build()
    }

    /// The base URL of the admin API, if it was asked for: `http://127.0.0.1:PORT`.
    pub fn admin_url(&self) -> Option<String> {
        self.admin.as_ref().map(|(address, _)| format!("http://{address}"))
    }

    /// Stops the exchange's time. Signatures are still checked against the real one.
    pub fn freeze(&self) {
        self.shared.clock.freeze();
    }

    /// Lets the exchange's time run on from where it stands.
    pub fn run(&self) {
        self.shared.clock.run();
    }

    /// Moves the exchange's time forwards, and lets happen what falls due.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn advance(&self, by: Duration) -> Result<(), ControlError> {
        self.shared.advance(by)
    }

    /// The exchange's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.shared.now()
    }

    /// Lists a market; it opens at once.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the ticker is taken or is none.
    pub fn list_market(&self, plan: MarketPlan) -> Result<(), ControlError> {
        self.shared.list(plan)
    }

    /// Sets a market's result. It is paid out after its settlement timer: see
    /// [`advance`](Self::advance).
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, it is settled, or the value is not 0 to 1 dollar.
    pub fn determine(&self, ticker: &str, outcome: MarketOutcome) -> Result<(), ControlError> {
        self.shared.determine(ticker, outcome)
    }

    /// Disputes a determined market: nothing is paid until it is determined again.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or it is not determined.
    pub fn dispute(&self, ticker: &str) -> Result<(), ControlError> {
        self.shared.dispute(ticker)
    }

    /// Pauses a market: its orders stay, new ones are refused.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or it is not active.
    pub fn pause_market(&self, ticker: &str) -> Result<(), ControlError> {
        self.shared.pause(ticker, true)
    }

    /// Ends a market's pause, which cancels all its orders.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or it is not paused.
    pub fn resume_market(&self, ticker: &str) -> Result<(), ControlError> {
        self.shared.pause(ticker, false)
    }

    /// Moves a market's close to so many seconds from now.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or it is determined.
    pub fn close_market_in(&self, ticker: &str, seconds: i64) -> Result<(), ControlError> {
        self.shared.close_in(ticker, seconds)
    }

    /// Changes the text that says what YES means in a market.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market.
    pub fn set_yes_sub_title(&self, ticker: &str, text: &str) -> Result<(), ControlError> {
        self.shared.set_yes_sub_title(ticker, text)
    }

    /// Gives a market another price grid.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or the bands are no grid.
    pub fn set_grid(
        &self,
        ticker: &str,
        structure: &str,
        ranges: Vec<PriceRange>,
    ) -> Result<(), ControlError> {
        self.shared.set_grid(ticker, structure, ranges)
    }

    /// Begins or ends a pause of one shard: of trading, or of everything.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn set_shard(
        &self,
        exchange_index: u8,
        exchange_active: bool,
        trading_active: bool,
    ) -> Result<(), ControlError> {
        self.shared.set_shard(exchange_index, exchange_active, trading_active)
    }

    /// Pays money into the primary subaccount of a role's member, on one shard.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such role, or more than a billion dollars.
    pub fn deposit(
        &self,
        role: Role,
        exchange_index: u8,
        amount: Dollars,
    ) -> Result<(), ControlError> {
        self.shared.deposit(self.account(role)?, exchange_index, amount)
    }

    /// Adds a fault.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.faults().add(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.faults().set(Vec::new());
    }

    /// Lets the simulated traders of [`Builder::with_traders`] send so many commands at once.
    /// Gives how many the engine carried out.
    pub fn churn(&self, commands: u64) -> u64 {
        self.shared.churn(commands)
    }

    /// Writes the whole state to a file, for [`Builder::with_state_file`]. A file that is there is
    /// replaced when the new one is complete.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn save(&self, file: impl AsRef<Path>) -> io::Result<()> {
        snapshot::save(&self.shared.state(), file.as_ref())
    }

    /// Adds everything up: cash, collateral, contracts, books.
    ///
    /// # Errors
    ///
    /// What does not add up, in words.
    pub fn audit(&self) -> Result<(), String> {
        self.shared.audit()
    }

    /// Registers a key with the scopes `read` and `write`, from the PEM text of its public half.
    ///
    /// # Errors
    ///
    /// A text that is no public key the exchange would take.
    pub fn add_key(&self, key_id: &str, public_key_pem: &str) -> Result<(), AuthError> {
        let public_key = PublicKey::from_pem(public_key_pem)?;
        self.shared.state().add_key(Role::Trader, key_id.to_owned(), public_key);
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

    /// What goes wrong with everybody's streams from now on.
    pub fn set_stream_faults(&self, faults: StreamFaults) {
        self.shared.streams.set_faults(None, faults);
    }

    /// What goes wrong with the streams of a role's member from now on, and with nobody else's: for
    /// a sound observer beside the client under test. [`set_stream_faults`](Self::set_stream_faults)
    /// ends the exception.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is nobody in this role.
    pub fn set_stream_faults_of(
        &self,
        role: Role,
        faults: StreamFaults,
    ) -> Result<(), ControlError> {
        self.shared.streams.set_faults(Some(self.account(role)?), faults);
        Ok(())
    }

    /// Cuts every stream connection without a word, as a restart of the server does.
    pub fn cut_streams(&self) {
        self.shared.streams.turn(None, Line::Cut);
    }

    /// The same for the connections of a role's member.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is nobody in this role.
    pub fn cut_streams_of(&self, role: Role) -> Result<(), ControlError> {
        self.shared.streams.turn(Some(self.account(role)?), Line::Cut);
        Ok(())
    }

    /// Leaves every stream connection open and silent: nothing is sent, not even a ping, and
    /// nothing is read. [`cut_streams`](Self::cut_streams) ends that.
    pub fn silence_streams(&self) {
        self.shared.streams.turn(None, Line::Silent);
    }

    /// The same for the connections of a role's member.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is nobody in this role.
    pub fn silence_streams_of(&self, role: Role) -> Result<(), ControlError> {
        self.shared.streams.turn(Some(self.account(role)?), Line::Silent);
        Ok(())
    }

    /// Cuts every stream connection and refuses new ones with status 503 for a time.
    pub fn restart_streams(&self, down_for: Duration) {
        self.shared.streams.restart(None, down_for);
    }

    /// The same for the connections of a role's member.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is nobody in this role.
    pub fn restart_streams_of(&self, role: Role, down_for: Duration) -> Result<(), ControlError> {
        self.shared.streams.restart(Some(self.account(role)?), down_for);
        Ok(())
    }

    /// Ends every subscription of every stream with an error. The connections live on.
    pub fn end_subscriptions(&self, ending: Ending) {
        self.shared.streams.end(None, ending);
    }

    /// The same for the streams of a role's member.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is nobody in this role.
    pub fn end_subscriptions_of(&self, role: Role, ending: Ending) -> Result<(), ControlError> {
        self.shared.streams.end(Some(self.account(role)?), ending);
        Ok(())
    }

    /// The member of a role.
    fn account(&self, role: Role) -> Result<AccountId, ControlError> {
        let account = self
            .credentials(role)
            .and_then(|credentials| self.shared.account_of(credentials.key_id()));
        Ok(account.ok_or_else(|| Refusal::not_found("there is nobody in this role"))?)
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
        if let Some((_, task)) = &self.admin {
            task.abort();
        }
        self.shared.streams.turn(None, Line::Cut);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Sets up an [`Exchange`].
#[derive(Debug)]
#[must_use = "call `start`"]
pub struct Builder {
    port: u16,
    admin_port: Option<u16>,
    state_file: Option<PathBuf>,
    seed: u64,
    markets: u32,
    traders: usize,
    tier: Tier,
    faults: Vec<Fault>,
    clock: Option<Arc<dyn Clock>>,
    keys: Vec<(Role, String, PublicKey)>,
    stream_faults: StreamFaults,
    stream_capacity: Option<usize>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            port: 0,
            admin_port: None,
            state_file: None,
            seed: 0,
            markets: STRIKES * OPEN_EVENTS,
            traders: 0,
            tier: Tier::default(),
            faults: Vec::new(),
            clock: None,
            keys: Vec::new(),
            stream_faults: StreamFaults::default(),
            stream_capacity: None,
        }
    }
}

impl Builder {
    /// A file with the state of an exchange: loaded if it is there, else the exchange starts anew.
    /// [`Exchange::save`] writes it.
    pub fn with_state_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.state_file = Some(file.into());
        self
    }

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

    /// Serves the admin API on a port of its own; 0 takes any free one. Off unless set.
    pub fn with_admin_port(mut self, port: u16) -> Self {
        self.admin_port = Some(port);
        self
    }

    /// How many markets are open at the start, up to the next dozen; 60 unless set, 12,000 at most.
    pub fn with_markets(mut self, markets: u32) -> Self {
        self.markets = markets;
        self
    }

    /// How many simulated traders keep the markets going; none unless set. Each sends about a dozen
    /// commands a second.
    pub fn with_traders(mut self, traders: usize) -> Self {
        self.traders = traders;
        self
    }

    /// The usage level of every account; no limit unless set.
    pub fn with_tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// A fault from the start; see [`Exchange::add_fault`].
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// The time of the exchange; the system's unless set.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// A key of your own for the member of a role; then no other keys are made.
    pub fn with_key(
        mut self,
        role: Role,
        key_id: impl Into<String>,
        public_key: PublicKey,
    ) -> Self {
        self.keys.push((role, key_id.into(), public_key));
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
        let mut state = match self.state_file.filter(|file| file.exists()) {
            Some(file) => snapshot::load(&file)
                .map_err(|error| StartError::State { file, source: Box::new(error) })?,
            None => State::new(Start {
                seed: self.seed,
                at: server::at(clock.as_ref()),
                strikes: self.markets.clamp(1, 12_000).div_ceil(OPEN_EVENTS),
                traders: self.traders.min(MAX_TRADERS),
                tier: self.tier,
            }),
        };
        let mut credentials = BTreeMap::new();
        if self.keys.is_empty() {
            for role in Role::ALL {
                let pair = KeyPair::generate(KeyType::Ed25519).map_err(StartError::Key)?;
                let made = Credentials::from_pem(role.key_id(), pair.private_key_pem());
                credentials.insert(role, made.map_err(StartError::Key)?);
                state.add_key(role, role.key_id(), pair.public_key().clone());
            }
        }
        for (role, id, public_key) in self.keys {
            state.add_key(role, id, public_key);
        }
        let mut faults = Faults::new(self.seed);
        faults.set(self.faults);
        let port = self.port;
        let listen = |source| StartError::Listen { port, source };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let streams =
            Hub::new(self.stream_faults, self.stream_capacity.unwrap_or(DEFAULT_CAPACITY));
        let shared = Arc::new(Shared::new(state, faults, clock, streams));
        let router = server::router(&shared);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let wait = async {
                // A sender that was dropped means the same.
                let _ = stopped.await;
            };
            let service = router.into_make_service_with_connect_info::<Cutter>();
            axum::serve(Lines(listener), service).with_graceful_shutdown(wait).await
        });
        let base_url = format!("http://{address}{BASE_PATH}");
        let time = stream::shell::keep_time(Arc::clone(&shared));
        let admin = match self.admin_port {
            None => None,
            Some(port) => {
                let listen = |source| StartError::Listen { port, source };
                let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(listen)?;
                let address = listener.local_addr().map_err(listen)?;
                let router = admin::router(&shared);
                let serve = async move { axum::serve(listener, router).await };
                Some((address, tokio::spawn(serve)))
            }
        };
        let stop = Some(stop);
        Ok(Exchange { address, base_url, admin, credentials, shared, stop, task, time })
    }
}
