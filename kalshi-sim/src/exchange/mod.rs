//! The handle of a running exchange. It borrows out a handle for each of its parts.

mod builder;
mod clock;
mod faults;
#[cfg(feature = "ui")]
mod hold;
#[cfg(feature = "perps")]
mod klear;
mod markets;
mod members;
#[cfg(feature = "perps")]
mod perps;
mod streams;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use kalshi_auth::{AuthError, Credentials};
use kalshi_sdk::{Client, Environment};
use tokio::{sync::oneshot, task::JoinHandle};

pub use self::{
    builder::ExchangeBuilder, clock::ClockControl, faults::FaultControl, markets::MarketControl,
    members::MemberControl, streams::StreamControl,
};
#[cfg(feature = "perps")]
pub use self::{
    klear::{KlearControl, KlearToken},
    perps::PerpsControl,
};
#[cfg(feature = "ui")]
use crate::http::ui::Ui;
use crate::{
    control::ControlError,
    engine::{ids::AccountId, types::Refusal},
    lag::Lag,
    role::Role,
    rules::Rules,
    shared::{RequestRecord, Shared},
    state::snapshot,
    stream::{STREAM_PATH, hub::LinkState},
};

/// The members that a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Everybody.
    All,
    /// The member of a role.
    Member(Role),
}

impl From<Role> for Target {
    fn from(role: Role) -> Self {
        Self::Member(role)
    }
}

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
    task: JoinHandle<()>,
    time: JoinHandle<()>,
    /// Of the administrators that may ask the clearing house.
    #[cfg(feature = "perps")]
    klear_tokens: BTreeMap<Role, KlearToken>,
    #[cfg(feature = "ui")]
    ui: Option<Arc<Ui>>,
    /// The threads of an exchange that a failing test leaves open.
    #[cfg(feature = "ui")]
    held: Option<hold::Held>,
}

/// The reason for which an exchange did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The port is taken, or may not be used.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port asked for; 0 stands for any.
        port: u16,
        /// The error of the system.
        source: io::Error,
    },
    /// The state could not be loaded.
    #[error("cannot load {}", file.display())]
    State {
        /// The file.
        file: PathBuf,
        /// The error in it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A fault names a key that the exchange does not know.
    #[error("a fault names the key {key_id}, which the exchange does not know")]
    Fault {
        /// The key.
        key_id: String,
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

    /// Returns a builder.
    pub fn builder() -> ExchangeBuilder {
        ExchangeBuilder::default()
    }

    /// Returns the handle of its time.
    pub fn clock(&self) -> ClockControl<'_> {
        ClockControl { exchange: self }
    }

    /// Returns the handle of its markets.
    pub fn markets(&self) -> MarketControl<'_> {
        MarketControl { exchange: self }
    }

    /// Returns the handle of the faults that hit requests.
    pub fn faults(&self) -> FaultControl<'_> {
        FaultControl { exchange: self }
    }

    /// Returns the handle of its stream connections.
    pub fn streams(&self) -> StreamControl<'_> {
        StreamControl { exchange: self }
    }

    /// Returns the handle of its members.
    pub fn members(&self) -> MemberControl<'_> {
        MemberControl { exchange: self }
    }

    /// Returns the handle of perpetual futures.
    #[cfg(feature = "perps")]
    pub fn perps(&self) -> PerpsControl<'_> {
        PerpsControl { exchange: self }
    }

    /// Returns the handle of the clearing house of perpetual futures.
    #[cfg(feature = "perps")]
    pub fn klear(&self) -> KlearControl<'_> {
        KlearControl { exchange: self }
    }

    /// Sets how far what members read trails what the exchange did, from now on. What has been
    /// readable stays so: reads stand still until they are that far behind.
    pub fn set_lag(&self, lag: Lag) {
        self.shared.set_lag(lag);
    }

    /// Returns how far what members read trails what the exchange did.
    pub fn lag(&self) -> Lag {
        self.shared.streams.lag()
    }

    /// Sets how the exchange decides what its documents leave open, from now on.
    pub fn set_rules(&self, rules: Rules) {
        self.shared.set_rules(rules);
    }

    /// Returns how the exchange decides what its documents leave open.
    pub fn rules(&self) -> Rules {
        self.shared.state().rules()
    }

    /// Returns the base URL for clients: `http://127.0.0.1:PORT/trade-api/v2`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Returns the address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the base URL for [`kalshi_sdk::ClientBuilder::with_environment`].
    pub fn environment(&self) -> Environment {
        Environment::Custom(self.base_url.clone())
    }

    /// Returns the credentials of a role; `None` if the exchange was started with keys of your own.
    pub fn credentials(&self, role: Role) -> Option<&Credentials> {
        self.credentials.get(&role)
    }

    /// Returns a client in a role; without credentials if the exchange was started with keys of
    /// your own.
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

    /// Returns the base URL of the admin API, if it was asked for: `http://127.0.0.1:PORT`.
    pub fn admin_url(&self) -> Option<String> {
        self.admin.as_ref().map(|(address, _)| format!("http://{address}"))
    }

    /// Returns the address of the page that shows this exchange, if the admin API was asked for:
    /// `http://127.0.0.1:PORT/ui/#TOKEN`. With it one can do to this exchange what the admin API
    /// can, and place orders as its members.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let exchange = kalshi_sim::Exchange::builder().with_admin_port(0).start().await?;
    /// if let Some(url) = exchange.ui_url() {
    ///     println!("watch it at {url}");
    /// }
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    #[cfg(feature = "ui")]
    pub fn ui_url(&self) -> Option<String> {
        let (admin, ui) = (self.admin_url()?, self.ui.as_ref()?);
        Some(format!("{admin}/ui/#{}", ui.token()))
    }

    /// Opens the page in the browser of the user: with the program that the environment variable
    /// `BROWSER` names, or else with that of the system.
    ///
    /// # Errors
    ///
    /// The error of the system if the program could not be started; [`io::ErrorKind::NotFound`] as
    /// well if there is no page, for [`ui_url`](Self::ui_url) is `None`.
    #[cfg(feature = "ui")]
    pub fn open_ui(&self) -> io::Result<()> {
        let url = self.ui_url().ok_or(io::ErrorKind::NotFound)?;
        hold::open(&url)
    }

    /// Writes the whole state to a file, for [`ExchangeBuilder::with_state_file`]. A file that is
    /// there is replaced when the new one is complete. Faults, and the requests that wait to be
    /// carried out after their answers, are not in it: to a client these have timed out, and then
    /// were never carried out.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn save(&self, file: impl AsRef<Path>) -> io::Result<()> {
        snapshot::save(&self.shared.state(), file.as_ref())
    }

    /// Adds everything up: cash, collateral, contracts, books.
    ///
    /// # Errors
    ///
    /// A description of the first sum that does not add up.
    pub fn audit(&self) -> Result<(), String> {
        self.shared.audit()
    }

    /// Returns the last requests to known operations, oldest first; at most 1,000.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.log().iter().cloned().collect()
    }

    /// Returns the URL of the streams: `ws://127.0.0.1:PORT/trade-api/ws/v2`.
    pub fn stream_url(&self) -> String {
        format!("ws://{}{STREAM_PATH}", self.address)
    }

    /// Returns the account of a target; `None` stands for all of them.
    fn accounts(&self, target: impl Into<Target>) -> Result<Option<AccountId>, ControlError> {
        match target.into() {
            Target::All => Ok(None),
            Target::Member(role) => self.account(role).map(Some),
        }
    }

    /// Returns the account of a role's member.
    fn account(&self, role: Role) -> Result<AccountId, ControlError> {
        let account = self
            .credentials(role)
            .and_then(|credentials| self.shared.account_of(credentials.key_id()));
        Ok(account.ok_or_else(|| Refusal::not_found("the exchange has no member in this role"))?)
    }

    /// Stops and waits until the last connection is closed. Requests that wait to be carried out
    /// after their answers ([`FaultKind::Late`](crate::FaultKind::Late)) are not carried out any
    /// more.
    ///
    /// # Errors
    ///
    /// The error that ended serving.
    pub async fn stop(mut self) -> io::Result<()> {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone if it has stopped by itself.
            let _ = stop.send(());
        }
        (&mut self.task).await.map_err(io::Error::other)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        #[cfg(feature = "ui")]
        if self.held.is_some() && std::thread::panicking() {
            hold::wait(self);
        }
        self.task.abort();
        self.time.abort();
        if let Some((_, task)) = &self.admin {
            task.abort();
        }
        self.shared.streams.set_link_state(None, LinkState::Cut);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}
