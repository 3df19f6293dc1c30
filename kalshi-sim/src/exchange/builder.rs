use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use kalshi_auth::{
    Clock, Credentials, KeyType, SystemClock,
    server::{KeyPair, PublicKey},
};
use tokio::{net::TcpListener, sync::oneshot};

#[cfg(feature = "perps")]
use crate::exchange::klear;
use crate::{
    BASE_PATH,
    clock::at,
    exchange::{Exchange, StartError},
    faults::{Fault, Faults},
    fixtures::catalog::{OPEN_EVENTS, STRIKES},
    http::{admin, connection, server},
    lag::Lag,
    role::Role,
    rules::Rules,
    shared::Shared,
    state::{Start, State, limits::Tier, snapshot},
    stream::{
        faults::StreamFaults,
        hub::{DEFAULT_CAPACITY, Hub},
        shell,
    },
};
#[cfg(feature = "ui")]
use crate::{
    exchange::hold,
    http::ui::{self, Ui},
};

/// More traders than one engine could serve.
const MAX_TRADERS: usize = 1_000;

/// Builds an [`Exchange`].
#[derive(Debug)]
#[must_use = "call `start`"]
pub struct ExchangeBuilder {
    port: u16,
    admin_port: Option<u16>,
    state_file: Option<PathBuf>,
    seed: u64,
    markets: u32,
    traders: usize,
    tier: Tier,
    faults: Vec<Fault>,
    lag: Lag,
    rules: Rules,
    clock: Option<Arc<dyn Clock>>,
    keys: Vec<(Role, String, PublicKey)>,
    stream_faults: StreamFaults,
    stream_capacity: Option<usize>,
    request_time: Duration,
}

impl Default for ExchangeBuilder {
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
            lag: Lag::none(),
            rules: Rules::default(),
            clock: None,
            keys: Vec::new(),
            stream_faults: StreamFaults::default(),
            stream_capacity: None,
            request_time: connection::HEAD_TIME,
        }
    }
}

impl ExchangeBuilder {
    /// Sets a file with the state of an exchange: loaded if it is there, else the exchange starts
    /// anew. [`Exchange::save`] writes it.
    pub fn with_state_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.state_file = Some(file.into());
        self
    }

    /// Sets the port on 127.0.0.1; any free one unless set.
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the seed that the markets are made from; 0 unless set.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Serves the admin API on a port of its own; 0 takes any free one. Off unless set. With the
    /// feature `ui`, the page of `Exchange::ui_url` is there, too.
    pub fn with_admin_port(mut self, port: u16) -> Self {
        self.admin_port = Some(port);
        self
    }

    /// Returns the builder with an admin API, on any port unless one is set.
    #[cfg(feature = "ui")]
    pub(super) fn with_ui(mut self) -> Self {
        self.admin_port = Some(self.admin_port.unwrap_or(0));
        self
    }

    /// Sets how many markets are open at the start, up to the next dozen; 60 unless set, 12,000 at
    /// most.
    pub fn with_markets(mut self, markets: u32) -> Self {
        self.markets = markets;
        self
    }

    /// Sets how many simulated traders keep the markets going; none unless set. Each sends about a
    /// dozen commands a second.
    pub fn with_traders(mut self, traders: usize) -> Self {
        self.traders = traders;
        self
    }

    /// Sets the usage level of every account; no limit unless set.
    pub fn with_tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// Adds a fault from the start; see [`FaultControl::add`](crate::FaultControl::add).
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Sets how far what members read trails what the exchange did, from the start; nothing unless
    /// set. See [`Exchange::set_lag`].
    pub fn with_lag(mut self, lag: Lag) -> Self {
        self.lag = lag;
        self
    }

    /// Sets how the exchange decides what its documents leave open; the safer way unless set.
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Sets the clock of the exchange; the system's unless set. Signatures are checked against it,
    /// so give clients the same: then a request that is held up on its way grows too old.
    /// [`ClockControl::advance`](crate::ClockControl::advance) moves the exchange's own time only,
    /// which no signature is checked against.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Adds a key of your own for the member of a role; then no other keys are made.
    pub fn with_key(
        mut self,
        role: Role,
        key_id: impl Into<String>,
        public_key: PublicKey,
    ) -> Self {
        self.keys.push((role, key_id.into(), public_key));
        self
    }

    /// Sets what goes wrong with the streams from the start; nothing unless set.
    pub fn with_stream_faults(mut self, faults: StreamFaults) -> Self {
        self.stream_faults = faults;
        self
    }

    /// Sets how many messages wait for a slow reader before its subscription ends with error 25;
    /// 100,000 unless set.
    pub fn with_stream_capacity(mut self, messages: usize) -> Self {
        self.stream_capacity = Some(messages);
        self
    }

    /// Sets the time in which a request must arrive, a minute unless set: its connection is closed
    /// if the head comes late, and the answer is 408 if the body does. A connection that sends no
    /// request in this time is closed, too.
    pub fn with_request_time(mut self, time: Duration) -> Self {
        self.request_time = time;
        self
    }

    /// Starts it. With the feature `ui` it reads `KALSHI_SIM_HOLD` from the environment: see the
    /// documentation of the crate.
    ///
    /// # Errors
    ///
    /// [`StartError`]: no port, no random numbers for the key, a state that could not be loaded, or a
    /// fault of an unknown key.
    pub async fn start(self) -> Result<Exchange, StartError> {
        #[cfg(feature = "ui")]
        if hold::is_wanted() {
            return hold::start(self).await;
        }
        self.start_here().await
    }

    /// Starts it with its tasks on the runtime of the caller.
    pub(super) async fn start_here(self) -> Result<Exchange, StartError> {
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let mut state = match self.state_file.filter(|file| file.exists()) {
            Some(file) => snapshot::load(&file)
                .map_err(|error| StartError::State { file, source: Box::new(error) })?,
            None => State::new(Start {
                seed: self.seed,
                at: at(clock.as_ref()),
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
        for fault in self.faults {
            if let Some(key_id) = fault.key_id.as_ref().filter(|id| state.keys.get(id).is_none()) {
                return Err(StartError::Fault { key_id: key_id.clone() });
            }
            faults.add(fault);
        }
        let port = self.port;
        let listen = |source| StartError::Listen { port, source };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let streams =
            Hub::new(self.stream_faults, self.stream_capacity.unwrap_or(DEFAULT_CAPACITY));
        #[cfg(feature = "perps")]
        let klear_tokens = klear::open(&mut state, address).map_err(StartError::Key)?;
        let shared = Arc::new(Shared::new(state, faults, clock, streams, self.request_time));
        shared.set_rules(self.rules);
        shared.set_lag(self.lag);
        let router = server::router(&shared);
        let (stop, stopped) = oneshot::channel::<()>();
        let served =
            connection::serve(listener, router, Arc::clone(&shared), self.request_time, stopped);
        let task = tokio::spawn(served);
        let base_url = format!("http://{address}{BASE_PATH}");
        let time = shell::keep_time(Arc::clone(&shared));
        #[cfg(feature = "ui")]
        let ui = match self.admin_port {
            None => None,
            Some(_) => Some(Arc::new(Ui::new(&shared, &base_url).map_err(StartError::Key)?)),
        };
        let admin = match self.admin_port {
            None => None,
            Some(port) => {
                let listen = |source| StartError::Listen { port, source };
                let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(listen)?;
                let address = listener.local_addr().map_err(listen)?;
                let router = admin::router(&shared);
                #[cfg(feature = "ui")]
                let router = router.merge(ui.clone().map(ui::router).unwrap_or_default());
                let router = admin::guarded(router);
                let serve = async move { axum::serve(listener, router).await };
                Some((address, tokio::spawn(serve)))
            }
        };
        let stop = Some(stop);
        Ok(Exchange {
            address,
            base_url,
            admin,
            credentials,
            shared,
            stop,
            task,
            time,
            #[cfg(feature = "perps")]
            klear_tokens,
            #[cfg(feature = "ui")]
            ui,
            #[cfg(feature = "ui")]
            held: None,
        })
    }
}
