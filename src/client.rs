//! The client and its builder.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::DateTime;
use http::{Extensions, HeaderMap, HeaderValue};

use kalshi_auth::{
    Clock, ClockOffset, Credentials, Environment, Origin, Service, Signer, SigningMiddleware,
    SystemClock, UnixMillis, is_loopback,
};
use reqwest_middleware::{ClientWithMiddleware, Middleware};

use crate::{
    attempts::AttemptRecorder,
    call::{CallReport, OnCall},
    drift::{DEFAULT_DRIFT_INTERVAL, Drift, Observer, OnDrift},
    error::Error,
};

/// The time limit for connecting, unless set otherwise.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for a call, from the wait for a signature to the last byte, unless set otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The size limit of a response body, unless set otherwise. The list of all series has tens of
/// megabytes.
pub const DEFAULT_MAX_RESPONSE_BYTES: usize = 256 * 1024 * 1024;

/// A client of the Trade API, with one method for each operation.
///
/// Each method returns a request: set its parameters in any order, then `send` it. Lists have
/// `stream` and `pages`, too. The [`guide`](crate::guide) shows how the methods go together;
/// [`OPERATIONS`](crate::OPERATIONS) has them as data.
///
/// | to do | methods |
/// |---|---|
/// | find markets | [`get_series_list`](Self::get_series_list), [`get_series`](Self::get_series), [`get_events`](Self::get_events), [`get_event`](Self::get_event), [`get_event_metadata`](Self::get_event_metadata), [`get_markets`](Self::get_markets), [`get_market`](Self::get_market), [`get_multivariate_events`](Self::get_multivariate_events) |
/// | search | [`get_tags_for_series_categories`](Self::get_tags_for_series_categories), [`get_filters_for_sports`](Self::get_filters_for_sports), [`get_milestones`](Self::get_milestones), [`get_milestone`](Self::get_milestone), [`get_structured_targets`](Self::get_structured_targets), [`get_structured_target`](Self::get_structured_target) |
/// | order books, trades, candles | [`get_market_orderbook`](Self::get_market_orderbook), [`get_market_orderbooks`](Self::get_market_orderbooks), [`get_trades`](Self::get_trades), [`get_market_candlesticks`](Self::get_market_candlesticks), [`batch_get_market_candlesticks`](Self::batch_get_market_candlesticks), [`get_market_candlesticks_by_event`](Self::get_market_candlesticks_by_event), [`get_event_forecast_percentiles_history`](Self::get_event_forecast_percentiles_history) |
/// | what an event is about, live | [`get_live_data_by_milestone`](Self::get_live_data_by_milestone), [`get_live_datas`](Self::get_live_datas), [`get_event_live_data`](Self::get_event_live_data), [`get_live_data`](Self::get_live_data), [`get_game_stats`](Self::get_game_stats), [`get_weather_index`](Self::get_weather_index), [`get_weather_index_calibrations`](Self::get_weather_index_calibrations) |
/// | place and change orders | [`create_order_v2`](Self::create_order_v2), [`batch_create_orders_v2`](Self::batch_create_orders_v2), [`amend_order_v2`](Self::amend_order_v2), [`decrease_order_v2`](Self::decrease_order_v2) |
/// | cancel orders | [`cancel_order_v2`](Self::cancel_order_v2), [`batch_cancel_orders_v2`](Self::batch_cancel_orders_v2), [`cancel_all_orders`](Self::cancel_all_orders) |
/// | look orders up | [`get_orders`](Self::get_orders), [`get_order`](Self::get_order), [`get_order_queue_position`](Self::get_order_queue_position), [`get_order_queue_positions`](Self::get_order_queue_positions) |
/// | limit what orders can do | [`create_order_group`](Self::create_order_group), [`get_order_groups`](Self::get_order_groups), [`get_order_group`](Self::get_order_group), [`update_order_group_limit`](Self::update_order_group_limit), [`trigger_order_group`](Self::trigger_order_group), [`reset_order_group`](Self::reset_order_group), [`delete_order_group`](Self::delete_order_group) |
/// | cash, positions, fills, settlements | [`get_balance`](Self::get_balance), [`get_positions`](Self::get_positions), [`get_fills`](Self::get_fills), [`get_settlements`](Self::get_settlements), [`get_deposits`](Self::get_deposits), [`get_withdrawals`](Self::get_withdrawals), [`get_portfolio_resting_order_total_value`](Self::get_portfolio_resting_order_total_value) |
/// | subaccounts | [`create_subaccount`](Self::create_subaccount), [`get_subaccount_balances`](Self::get_subaccount_balances), [`apply_subaccount_transfer`](Self::apply_subaccount_transfer), [`get_subaccount_transfers`](Self::get_subaccount_transfers), [`get_subaccount_netting`](Self::get_subaccount_netting), [`update_subaccount_netting`](Self::update_subaccount_netting) |
/// | cash between shards and exchanges | [`intra_exchange_instance_transfer`](Self::intra_exchange_instance_transfer), [`get_intra_exchange_instance_transfers`](Self::get_intra_exchange_instance_transfers), [`get_intra_exchange_instance_transfer`](Self::get_intra_exchange_instance_transfer), [`get_target_balance_allocation`](Self::get_target_balance_allocation), [`set_target_balance_allocation`](Self::set_target_balance_allocation) |
/// | ask for quotes | [`create_rfq`](Self::create_rfq), [`get_rfqs`](Self::get_rfqs), [`get_rfq`](Self::get_rfq), [`delete_rfq`](Self::delete_rfq), [`accept_rfq_quote`](Self::accept_rfq_quote), [`get_communications_id`](Self::get_communications_id) |
/// | make quotes | [`create_quote`](Self::create_quote), [`get_quotes`](Self::get_quotes), [`get_rfq_quote`](Self::get_rfq_quote), [`delete_rfq_quote`](Self::delete_rfq_quote), [`confirm_rfq_quote`](Self::confirm_rfq_quote) |
/// | ask for many quotes at once | [`create_rfq_batch`](Self::create_rfq_batch), [`get_rfq_batches`](Self::get_rfq_batches), [`get_rfq_batch`](Self::get_rfq_batch), [`delete_rfq_batch`](Self::delete_rfq_batch), [`get_rfq_batch_best_quotes`](Self::get_rfq_batch_best_quotes), [`accept_rfq_batch`](Self::accept_rfq_batch), [`get_rfq_batch_quotes`](Self::get_rfq_batch_quotes), [`create_rfq_batch_quote`](Self::create_rfq_batch_quote), [`delete_rfq_batch_quote`](Self::delete_rfq_batch_quote), [`confirm_rfq_batch_quote`](Self::confirm_rfq_batch_quote) |
/// | block trades | [`propose_block_trade`](Self::propose_block_trade), [`get_block_trade_proposals`](Self::get_block_trade_proposals), [`accept_block_trade_proposal`](Self::accept_block_trade_proposal) |
/// | combo markets | [`get_multivariate_event_collections`](Self::get_multivariate_event_collections), [`get_multivariate_event_collection`](Self::get_multivariate_event_collection), [`create_market_in_multivariate_event_collection`](Self::create_market_in_multivariate_event_collection) |
/// | the archive | [`get_historical_cutoff`](Self::get_historical_cutoff), [`get_historical_markets`](Self::get_historical_markets), [`get_historical_market`](Self::get_historical_market), [`get_market_candlesticks_historical`](Self::get_market_candlesticks_historical), [`get_trades_historical`](Self::get_trades_historical), [`get_fills_historical`](Self::get_fills_historical), [`get_historical_orders`](Self::get_historical_orders), [`get_historical_positions`](Self::get_historical_positions) |
/// | status of the exchange | [`get_exchange_status`](Self::get_exchange_status), [`get_exchange_schedule`](Self::get_exchange_schedule), [`get_user_data_timestamp`](Self::get_user_data_timestamp) |
/// | fees and rewards | [`get_series_fee_changes`](Self::get_series_fee_changes), [`get_event_fee_changes`](Self::get_event_fee_changes), [`get_incentive_programs`](Self::get_incentive_programs) |
/// | rate limits | [`get_account_api_limits`](Self::get_account_api_limits), [`get_account_endpoint_costs`](Self::get_account_endpoint_costs), [`get_account_api_usage_level_volume_progress`](Self::get_account_api_usage_level_volume_progress), [`upgrade_account_api_usage_level`](Self::upgrade_account_api_usage_level) |
/// | API keys | [`get_api_keys`](Self::get_api_keys), [`create_api_key`](Self::create_api_key), [`generate_api_key`](Self::generate_api_key), [`delete_api_key`](Self::delete_api_key) |
/// | FCM members | [`get_fcm_fills`](Self::get_fcm_fills), [`get_fcm_orders`](Self::get_fcm_orders), [`get_fcm_positions`](Self::get_fcm_positions), [`create_fcm_position_transfer`](Self::create_fcm_position_transfer), [`list_fcm_subtraders`](Self::list_fcm_subtraders), [`create_fcm_subtrader`](Self::create_fcm_subtrader), [`get_fcm_subtrader_blocked_categories`](Self::get_fcm_subtrader_blocked_categories), [`update_fcm_subtrader_blocked_categories`](Self::update_fcm_subtrader_blocked_categories), [`delete_fcm_event_contract_daily_cap`](Self::delete_fcm_event_contract_daily_cap), [`get_fcm_event_contract_daily_cap`](Self::get_fcm_event_contract_daily_cap), [`update_fcm_event_contract_daily_cap`](Self::update_fcm_event_contract_daily_cap) |
/// | anything else | [`raw`](Self::raw) |
///
/// Cheap to clone; clones share connections and credentials. Neither [`Debug`] nor any error shows
/// the private key.
///
/// ```no_run
/// # async fn run() -> Result<(), kalshi_sdk::Error> {
/// use kalshi_sdk::{Client, Environment};
///
/// let client = Client::builder().with_environment(Environment::Demo).build()?;
/// let page = client.get_markets().limit(10).send().await?;
/// for market in &page.markets {
///     println!("{} {}", market.ticker, market.yes_bid_dollars);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// What each request starts with: see [`Client::with_extension`].
    extensions: Extensions,
}

struct Inner {
    environment: Environment,
    clock: Arc<dyn Clock>,
    /// The `Date` of the last response, and the machine's time when it came.
    server_date: Mutex<Option<(HeaderValue, UnixMillis)>>,
    base_url: String,
    http: reqwest::Client,
    stack: ClientWithMiddleware,
    credentials: Option<Credentials>,
    max_response_bytes: usize,
    /// The length of the last large success that was not announced, and somewhat more.
    length_of_last: AtomicUsize,
    drift: Option<Observer>,
    on_call: Option<OnCall>,
    /// The same as `base_url`, parsed.
    base: reqwest::Url,
}

impl Client {
    /// Returns a builder.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Returns a client of the production environment: real money.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`].
    pub fn production(credentials: Credentials) -> Result<Self, Error> {
        Self::builder()
            .with_environment(Environment::Production)
            .with_credentials(credentials)
            .build()
    }

    /// Returns a client of the demo environment: mock money. Its keys are made on the demo site.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`].
    pub fn demo(credentials: Credentials) -> Result<Self, Error> {
        Self::builder().with_environment(Environment::Demo).with_credentials(credentials).build()
    }

    /// Returns the environment that the client was built for.
    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// Returns the base URL, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.inner.base_url
    }

    /// Returns the credentials that sign private requests, if there are any.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.inner.credentials.as_ref()
    }

    /// Returns a client that puts a value into the extensions of each request, for the layers of
    /// [`ClientBuilder::with_middleware`]: the strategy that a request is from, or its deadline.
    ///
    /// It shares connections, layers and credentials with this client. A second value of a type
    /// replaces the first.
    ///
    /// ```
    /// # fn main() -> Result<(), kalshi_sdk::Error> {
    /// use kalshi_sdk::{Client, Environment};
    ///
    /// #[derive(Clone)]
    /// struct Strategy(&'static str);
    ///
    /// let client = Client::builder().with_environment(Environment::Demo).build()?;
    /// // A layer finds it by `extensions.get::<Strategy>()`.
    /// let quoting = client.with_extension(Strategy("quoting"));
    /// # let _ = quoting;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_extension<T: Clone + Send + Sync + 'static>(&self, value: T) -> Self {
        let mut client = self.clone();
        client.extensions.insert(value);
        client
    }

    /// Returns what the extensions of a request start with.
    pub(crate) fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Returns the difference between the exchange's clock and that of the machine, as of the last
    /// response that had a `Date` header. `None` before there was one.
    ///
    /// The header has whole seconds, so that the offset is right to within about a second. Nothing is
    /// corrected by itself: hand the offset to an [`OffsetClock`](crate::auth::OffsetClock). It is
    /// counted from the uncorrected clock, so that setting it again changes nothing.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    ///
    /// use kalshi_sdk::{
    ///     Client, Credentials, Environment,
    ///     auth::{OffsetClock, SystemClock},
    /// };
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let clock = Arc::new(OffsetClock::new(SystemClock));
    /// let client = Client::builder()
    ///     .with_environment(Environment::Demo)
    ///     .with_credentials(Credentials::from_env()?)
    ///     .with_clock(clock.clone())
    ///     .build()?;
    /// let mut balance = client.get_balance().send().await;
    /// if let Err(error) = &balance
    ///     && error.code() == Some("header_timestamp_expired")
    ///     && let Some(offset) = client.clock_offset()
    /// {
    ///     eprintln!("the clock of this machine is off by {offset}");
    ///     clock.set_offset(offset);
    ///     balance = client.get_balance().send().await;
    /// }
    /// println!("{}", balance?.balance_dollars);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        let (date, machine) = self.server_date().clone()?;
        let date = DateTime::parse_from_rfc2822(date.to_str().ok()?).ok()?;
        // It was cut off to a whole second, half a second ago on average.
        let exchange = UnixMillis::from(date.to_utc()).saturating_add(Duration::from_millis(500));
        Some(ClockOffset::between(machine, exchange))
    }

    /// Keeps the `Date` of a response for [`clock_offset`](Self::clock_offset).
    pub(crate) fn note_server_date(&self, headers: &HeaderMap) {
        if let Some(date) = headers.get(http::header::DATE) {
            let now = self.inner.clock.uncorrected();
            *self.server_date() = Some((date.clone(), now));
        }
    }

    fn server_date(&self) -> std::sync::MutexGuard<'_, Option<(HeaderValue, UnixMillis)>> {
        // It is written in one step, so that a panic leaves it whole.
        self.inner.server_date.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    pub(crate) fn stack(&self) -> &ClientWithMiddleware {
        &self.inner.stack
    }

    pub(crate) fn max_response_bytes(&self) -> usize {
        self.inner.max_response_bytes
    }

    /// Returns the path of the base URL, without a slash at the end.
    pub(crate) fn base_path(&self) -> &str {
        self.inner.base.path().trim_end_matches('/')
    }

    /// Returns the base URL, parsed.
    pub(crate) fn base(&self) -> &reqwest::Url {
        &self.inner.base
    }

    /// Returns the length that [`note_length`](Self::note_length) was last told; `None` before.
    pub(crate) fn length_of_last(&self) -> Option<usize> {
        match self.inner.length_of_last.load(Ordering::Relaxed) {
            0 => None,
            length => Some(length),
        }
    }

    /// Notes the length that the next large response of unknown length may have.
    pub(crate) fn note_length(&self, length: usize) {
        self.inner.length_of_last.store(length, Ordering::Relaxed);
    }

    pub(crate) fn on_call(&self) -> Option<&OnCall> {
        self.inner.on_call.as_ref()
    }

    pub(crate) fn drift(&self) -> Option<&Observer> {
        self.inner.drift.as_ref()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.inner.base_url)
            .field("credentials", &self.inner.credentials)
            .finish_non_exhaustive()
    }
}

/// The builder of a [`Client`].
///
/// The environment must be named; everything else has a default. Nothing connects, spawns or reads
/// the process's environment until a request is sent.
///
/// # Proxies
///
/// A client that this builder makes goes through the proxies of the variables `HTTPS_PROXY` and
/// `HTTP_PROXY`, with one exception: a request to this machine (`127.0.0.1`, `localhost`) goes through
/// no proxy, unless one was set by [`with_proxy`](Self::with_proxy). It may be plain HTTP, and a proxy
/// would see its signature. An HTTP client of your own is taken as it is: give it `no_proxy()` for this
/// machine.
#[derive(Default)]
#[must_use = "call `build`"]
pub struct ClientBuilder {
    environment: Option<Environment>,
    credentials: Option<Credentials>,
    clock: Option<Arc<dyn Clock>>,
    http_client: Option<reqwest::Client>,
    timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    proxy: Option<reqwest::Proxy>,
    user_agent: Option<String>,
    middleware: Vec<Arc<dyn Middleware>>,
    max_response_bytes: Option<usize>,
    plain_http: bool,
    on_drift: Option<OnDrift>,
    drift_interval: Option<Duration>,
    on_call: Option<OnCall>,
}

/// Makes the layer that lets requests in at an origin.
pub(crate) type Authenticate = Box<dyn FnOnce(Option<Origin>) -> Arc<dyn Middleware>>;

impl ClientBuilder {
    /// Sets the environment. There is no default: production moves real money.
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Sets the credentials that sign private requests. Without them the public operations work.
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sets the clock that timestamps come from, in place of the system's. The exchange refuses a
    /// timestamp that is off by more than a few seconds: see [`Client::clock_offset`].
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Sets an HTTP client of your own, for its pool, TLS, DNS or socket settings.
    ///
    /// A retry policy of its own (`reqwest::ClientBuilder::retry`) has no effect on writes: their
    /// bodies can be sent once, so that no attempt is hidden from [`Error::effect`].
    ///
    /// It must not follow redirects (`redirect(reqwest::redirect::Policy::none())`): reqwest would
    /// carry the signature headers to any host that it is sent to. [`build`](Self::build) refuses one
    /// that does. Timeouts, proxy and user agent are then yours to set on it. Its timeout starts when
    /// a request is signed, so that the wait for an RSA signature comes on top.
    ///
    /// Its proxies cannot be seen from here: set `no_proxy()` on it for an exchange on this machine.
    pub fn with_http_client(mut self, client: reqwest::Client) -> Self {
        self.http_client = Some(client);
        self
    }

    /// Sets the time limit for a call, from the wait for a signature to the last byte:
    /// [`DEFAULT_TIMEOUT`] unless set.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the time limit for connecting: [`DEFAULT_CONNECT_TIMEOUT`] unless set.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Sets a proxy for every request, also one to this machine. Without one the variables
    /// `HTTPS_PROXY` and `HTTP_PROXY` apply, save for this machine.
    pub fn with_proxy(mut self, proxy: reqwest::Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// Sets the `User-Agent`: the name and version of this crate unless set.
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = Some(user_agent.into());
        self
    }

    /// Adds a layer around every request, such as retries or metrics; the first one added is
    /// outermost.
    ///
    /// Signing stays innermost, so each attempt of a retry gets a new timestamp and signature. The
    /// layer finds the `&'static Operation` in the request's extensions: retry only what its
    /// [`retry`](crate::Operation::retry) allows. The module [`middleware`](crate::middleware) has
    /// what a layer is made of, and an example.
    pub fn with_middleware(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Arc::new(middleware));
        self
    }

    /// Sets the size limit of a response body: [`DEFAULT_MAX_RESPONSE_BYTES`] unless set.
    pub fn with_max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = Some(bytes);
        self
    }

    /// Signs requests that go to another machine over plain HTTP, too.
    ///
    /// An eavesdropper can repeat such a request while its timestamp is fresh. On this machine
    /// (`127.0.0.1`, `localhost`) plain HTTP needs no permission.
    pub fn with_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Checks every success for what this version of the crate does not know: unknown fields, unknown
    /// values of enums, required fields that are missing. Each is handed to `observer`, and logged as a
    /// warning, once per operation, JSON path and interval.
    ///
    /// Without it nothing is checked. With it each response is read a second time, on the task that
    /// made the call: `observer` should return at once. If it panics, that is logged and the call goes
    /// on.
    pub fn on_drift(mut self, observer: impl Fn(&Drift) + Send + Sync + 'static) -> Self {
        self.on_drift = Some(Box::new(observer));
        self
    }

    /// Sets the interval in which repeated drift is suppressed: [`DEFAULT_DRIFT_INTERVAL`] unless set.
    pub fn with_drift_interval(mut self, interval: Duration) -> Self {
        self.drift_interval = Some(interval);
        self
    }

    /// Reports each call when it ends, for metrics: operation, attempts, status, bytes, duration and
    /// outcome. Calls whose future is dropped are reported as canceled.
    ///
    /// The hook runs on the task of the call: it should return at once. If it panics, that is logged
    /// and the call returns its result. Without a hook no time is measured.
    ///
    /// ```
    /// # fn main() -> Result<(), kalshi_sdk::Error> {
    /// use kalshi_sdk::{CallOutcome, Client, Environment};
    ///
    /// let client = Client::builder()
    ///     .with_environment(Environment::Demo)
    ///     .on_call(|call| {
    ///         let failed = call.outcome != CallOutcome::Success;
    ///         println!("{} {:?} failed={failed}", call.operation.id, call.duration);
    ///     })
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_call(mut self, hook: impl Fn(&CallReport) + Send + Sync + 'static) -> Self {
        self.on_call = Some(Box::new(hook));
        self
    }

    /// Builds the client. Sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): no environment; a base URL that is invalid,
    /// lacks the path `/trade-api/v2` or (with credentials) is of plain HTTP to another machine; an
    /// HTTP client of your own that follows redirects, or settings that are ignored with one.
    pub fn build(self) -> Result<Client, Error> {
        self.build_for(Service::Rest, None)
    }

    /// Builds a client of a service, whose requests are let in by another layer than signing if there
    /// is one.
    pub(crate) fn build_for(
        self,
        service: Service,
        authenticate: Option<Authenticate>,
    ) -> Result<Client, Error> {
        let Some(environment) = &self.environment else {
            return Err(Error::config(
                "no environment: call with_environment(Environment::Demo) or another",
            ));
        };
        let url = checked_url(environment, service)?;
        let http = match &self.http_client {
            Some(client) => self.checked(client)?,
            None => self.own_client(&url)?,
        };
        let mut stack = reqwest_middleware::ClientBuilder::new(http.clone());
        for layer in self.middleware {
            stack = stack.with_arc(layer);
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let is_private = self.credentials.is_some() || authenticate.is_some();
        let of = if self.plain_http { Origin::insecure } else { Origin::new };
        let origin = is_private.then(|| of(&url)).transpose();
        let origin = origin.map_err(|error| Error::config(error.to_string()))?;
        let interval = self.drift_interval.unwrap_or(DEFAULT_DRIFT_INTERVAL);
        let drift = self.on_drift.map(|on_drift| Observer::new(on_drift, interval, clock.clone()));
        let signer = self
            .credentials
            .clone()
            .map(|credentials| Signer::new(credentials, Arc::clone(&clock)));
        let signing = |origin| -> Arc<dyn Middleware> {
            let mut signing = SigningMiddleware::new(signer, origin);
            if self.http_client.is_none() {
                signing = signing.with_time_limit(self.timeout.unwrap_or(DEFAULT_TIMEOUT));
            }
            Arc::new(signing)
        };
        let access = match authenticate {
            Some(authenticate) => authenticate(origin),
            None => signing(origin),
        };
        let recorder = AttemptRecorder::new(self.http_client.is_some());
        let inner = Inner {
            base_url: environment.url(service).into_owned(),
            environment: environment.clone(),
            clock,
            server_date: Mutex::default(),
            http,
            stack: stack.with_arc(access).with(recorder).build(),
            credentials: self.credentials,
            max_response_bytes: self.max_response_bytes.unwrap_or(DEFAULT_MAX_RESPONSE_BYTES),
            length_of_last: AtomicUsize::new(0),
            drift,
            on_call: self.on_call,
            base: url,
        };
        Ok(Client { inner: Arc::new(inner), extensions: Extensions::new() })
    }

    fn own_client(&self, url: &reqwest::Url) -> Result<reqwest::Client, Error> {
        let user_agent = self.user_agent.as_deref().unwrap_or(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ));
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT))
            .timeout(self.timeout.unwrap_or(DEFAULT_TIMEOUT))
            .tcp_nodelay(true)
            .user_agent(user_agent);
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        } else if url.host_str().is_some_and(is_loopback) {
            builder = builder.no_proxy();
        }
        #[cfg(feature = "http2")]
        {
            // A connection that died in silence would take every request with it: HTTP/2 has one
            // for all. The exchange answers pings.
            builder = builder
                .http2_keep_alive_interval(Duration::from_secs(20))
                .http2_keep_alive_timeout(Duration::from_secs(10))
                .http2_keep_alive_while_idle(true);
        }
        builder.build().map_err(|error| {
            Error::config(format!("could not build the HTTP client: {}", error.without_url()))
        })
    }

    /// Accepts a client of the caller's if it follows no redirects.
    fn checked(&self, client: &reqwest::Client) -> Result<reqwest::Client, Error> {
        let ignored = [
            ("with_timeout", self.timeout.is_some()),
            ("with_connect_timeout", self.connect_timeout.is_some()),
            ("with_proxy", self.proxy.is_some()),
            ("with_user_agent", self.user_agent.is_some()),
        ];
        if let Some((setting, _)) = ignored.iter().find(|(_, set)| *set) {
            return Err(Error::config(format!(
                "{setting} is ignored with a custom client: set it on that client"
            )));
        }
        if !follows_no_redirects(client) {
            return Err(Error::config(
                "the HTTP client follows redirects, which would carry signatures to other hosts: \
                 build it with redirect(reqwest::redirect::Policy::none())",
            ));
        }
        Ok(client.clone())
    }
}

/// Reports whether a client is known to follow no redirects.
///
/// reqwest tells its policy nowhere but in its debug output. There it is a field of the client
/// itself: nested fields are further to the right, and a header or user agent that has such a line in
/// it is printed with its line ends escaped. Should the form of this text change, every client is
/// refused, and the tests of this module fail.
fn follows_no_redirects(client: &reqwest::Client) -> bool {
    const FIELD: &str = "    redirect_policy: ";
    let printed = format!("{client:#?}");
    let mut policies = printed.lines().filter_map(|line| line.strip_prefix(FIELD));
    policies.next() == Some("\"Policy(None)\",") && policies.next().is_none()
}

fn checked_url(environment: &Environment, service: Service) -> Result<reqwest::Url, Error> {
    environment.checked_url(service).map_err(|error| Error::config(error.to_string()))?;
    let text = environment.url(service);
    reqwest::Url::parse(&text)
        .map_err(|error| Error::config(format!("the base URL {text:?} is invalid: {error}")))
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("environment", &self.environment)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ClientBuilder {
        Client::builder().with_environment(Environment::Demo)
    }

    #[test]
    fn a_client_that_follows_redirects_is_refused() {
        let error = builder().with_http_client(reqwest::Client::new()).build().unwrap_err();
        assert!(
            error.to_string().contains("redirect(reqwest::redirect::Policy::none())"),
            "{error}"
        );
        let strict = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        builder().with_http_client(strict.build().unwrap()).build().unwrap();
    }

    #[test]
    fn d4_text_in_headers_does_not_pass_for_a_redirect_policy() {
        let mut headers = HeaderMap::new();
        for text in [
            "Policy(None)",
            "redirect_policy: \"Policy(None)\",",
            "    redirect_policy: \"Policy(None)\",",
        ] {
            headers.append("x-note", HeaderValue::from_str(text).unwrap());
        }
        let custom = reqwest::redirect::Policy::custom(|attempt| match attempt.previous().len() {
            0..3 => attempt.follow(),
            _ => attempt.stop(),
        });
        let following = || reqwest::Client::builder().default_headers(headers.clone());
        for (client, policy) in [
            (following().user_agent("redirect_policy: \"Policy(None)\","), "the default"),
            (following().redirect(reqwest::redirect::Policy::limited(1)), "limited"),
            (following().redirect(custom), "custom"),
        ] {
            let client = client.build().unwrap();
            assert!(format!("{client:?}").contains("Policy(None)"));
            assert!(builder().with_http_client(client).build().is_err(), "{policy}");
        }
        let strict = following().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        builder().with_http_client(strict).build().unwrap();
    }

    #[test]
    fn a_setting_that_would_have_no_effect_is_refused() {
        let strict = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let own = builder().with_http_client(strict.build().unwrap());
        let error = own.with_timeout(Duration::from_secs(1)).build().unwrap_err();
        assert!(error.to_string().starts_with("with_timeout is ignored"), "{error}");
    }

    #[test]
    fn an_environment_must_be_named() {
        assert!(Client::builder().build().unwrap_err().to_string().contains("with_environment"));
    }
}
