//! The API of the clearing house, for clearing members and futures commission merchants:
//! [`Klear::builder`].
//!
//! Another host and another way in than the Trade API: a bearer token in place of signatures. What
//! this crate does with requests, answers and errors is the same.
//!
//! Money is [`CentiCents`] (hundredths of a cent) and quantities are [`CentiCount`] where the document
//! has integers, and [`Dollars`](crate::Dollars) and [`Count`](crate::Count) where it has text. The
//! links of reports and the private keys that it generates are [`SecretText`](crate::SecretText).
//!
//! ```no_run
//! use kalshi_sdk::{Environment, klear::Klear};
//!
//! # async fn run(admin_user_id: &str, access_token: &str) -> Result<(), kalshi_sdk::Error> {
//! let klear = Klear::builder()
//!     .with_environment(Environment::Demo)
//!     .with_token(admin_user_id, access_token)
//!     .build()?;
//! let balance = klear.get_settlement_balance().send().await?;
//! println!("{:?} dollars", balance.balance_available_centicents.to_dollars());
//! # Ok(())
//! # }
//! ```
//!
//! The page [`guide::klear`](crate::guide::klear) has the rest.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderValue, Method, header::AUTHORIZATION};
use kalshi_auth::{Clock, Environment, Origin, Service};
use zeroize::Zeroizing;

use crate::{
    CallReport, Client, ClientBuilder, Drift, Error, ErrorKind, Operation, RawRequest, generated,
    middleware::{self, Extensions, Middleware, Next, NotSent, Request, Response, async_trait},
};

#[cfg(feature = "server")]
#[doc(hidden)]
pub use crate::generated::klear::server;
pub use crate::generated::klear::{OperationId, SPEC_VERSION, builder, types};
pub use kalshi_types::{CentiCents, CentiCount};

/// Every operation of the Klear API, in the order of its paths.
pub static OPERATIONS: &[Operation] = &generated::klear::OPERATIONS;

/// A client of the Klear API, with one method for each operation.
///
/// Cheap to clone; clones share connections and the token. Neither [`Debug`] nor any error shows the
/// token.
///
/// | to do | methods |
/// |---|---|
/// | obligations | [`get_active_margin_obligations`](Self::get_active_margin_obligations), [`get_obligation_history`](Self::get_obligation_history), [`get_obligation_settlement_details`](Self::get_obligation_settlement_details), [`get_obligation_maintenance_margin_details`](Self::get_obligation_maintenance_margin_details), [`get_obligation_funding_payments`](Self::get_obligation_funding_payments), [`get_obligation_corporate_action_payments`](Self::get_obligation_corporate_action_payments) |
/// | estimates | [`get_settlement_estimate_by_asset_class`](Self::get_settlement_estimate_by_asset_class), [`get_funding_estimate_by_asset_class`](Self::get_funding_estimate_by_asset_class), [`estimate_portfolio_maintenance_margin`](Self::estimate_portfolio_maintenance_margin), [`get_maintenance_margin_metadata`](Self::get_maintenance_margin_metadata) |
/// | funding, prices | [`get_member_funding_payments`](Self::get_member_funding_payments), [`get_margin_funding_schedule`](Self::get_margin_funding_schedule), [`get_settlement_prices`](Self::get_settlement_prices) |
/// | cash | [`get_settlement_balance`](Self::get_settlement_balance), [`get_settlement_balance_history`](Self::get_settlement_balance_history), [`get_guaranty_fund_balance`](Self::get_guaranty_fund_balance), [`withdraw_settlement_balance`](Self::withdraw_settlement_balance), [`get_settlement_balance_withdrawal`](Self::get_settlement_balance_withdrawal) |
/// | reports | [`get_margin_reports`](Self::get_margin_reports), [`get_large_trader_positions`](Self::get_large_trader_positions) |
/// | FCM members | [`get_margin_subtrader_groups`](Self::get_margin_subtrader_groups), [`create_margin_subtrader_group`](Self::create_margin_subtrader_group), [`update_margin_subtrader_group`](Self::update_margin_subtrader_group), [`delete_margin_subtrader_group`](Self::delete_margin_subtrader_group), [`list_margin_fcm_api_keys`](Self::list_margin_fcm_api_keys), [`create_margin_fcm_api_key`](Self::create_margin_fcm_api_key), [`generate_margin_fcm_api_key`](Self::generate_margin_fcm_api_key), [`delete_margin_fcm_api_key`](Self::delete_margin_fcm_api_key) |
#[derive(Clone)]
pub struct Klear {
    client: Client,
}

impl Klear {
    /// Returns a builder.
    pub fn builder() -> KlearBuilder {
        KlearBuilder::default()
    }

    /// Returns the environment that the client was built for.
    pub fn environment(&self) -> &Environment {
        self.client.environment()
    }

    /// Returns the base URL, without a slash at the end.
    pub fn base_url(&self) -> &str {
        self.client.base_url()
    }

    /// Returns a client that puts a value into the extensions of each request: see
    /// [`Client::with_extension`].
    #[must_use]
    pub fn with_extension<T: Clone + Send + Sync + 'static>(&self, value: T) -> Self {
        Self { client: self.client.with_extension(value) }
    }

    /// Returns a builder of a request to any path below the base URL, with the token: as
    /// [`Client::raw`], for what this version does not know. Whatever the request says of its
    /// access, the token goes with it.
    pub fn raw(&self, method: Method, path: &str) -> RawRequest {
        self.client.raw(method, path).bearer()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Klear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Klear").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}

/// The builder of a [`Klear`].
///
/// The environment and the token must be set; everything else has a default, that of
/// [`ClientBuilder`].
#[derive(Default)]
#[must_use = "call `build`"]
pub struct KlearBuilder {
    settings: ClientBuilder,
    token: Option<(String, Zeroizing<String>)>,
}

/// Hands settings on to the builder of the Trade API's client.
macro_rules! settings {
    ($($(#[$docs:meta])* $name:ident($($value:ident: $type:ty)?);)*) => {
        impl KlearBuilder {
            $(
                $(#[$docs])*
                pub fn $name(mut self $(, $value: $type)?) -> Self {
                    self.settings = self.settings.$name($($value)?);
                    self
                }
            )*
        }
    };
}

settings! {
    /// Sets the environment. There is no default: production moves real money.
    with_environment(environment: Environment);
    /// Sets the clock that drift is timed by: see [`ClientBuilder::with_clock`].
    with_clock(clock: Arc<dyn Clock>);
    /// Sets an HTTP client of your own: see [`ClientBuilder::with_http_client`].
    with_http_client(client: reqwest::Client);
    /// Sets the time limit for a call: see [`ClientBuilder::with_timeout`].
    with_timeout(timeout: Duration);
    /// Sets the time limit for connecting: see [`ClientBuilder::with_connect_timeout`].
    with_connect_timeout(timeout: Duration);
    /// Sets a proxy for every request: see [`ClientBuilder::with_proxy`].
    with_proxy(proxy: reqwest::Proxy);
    /// Sets the `User-Agent`: see [`ClientBuilder::with_user_agent`].
    with_user_agent(user_agent: impl Into<String>);
    /// Adds a layer around every request, above the one that adds the token: see
    /// [`ClientBuilder::with_middleware`].
    with_middleware(middleware: impl Middleware);
    /// Sets the size limit of a response body: see [`ClientBuilder::with_max_response_bytes`].
    with_max_response_bytes(bytes: usize);
    /// Sends the token to another machine over plain HTTP, too, where an eavesdropper can read it. On
    /// this machine plain HTTP needs no permission.
    with_plain_http();
    /// Checks every success for what this version does not know: see [`ClientBuilder::on_drift`].
    on_drift(observer: impl Fn(&Drift) + Send + Sync + 'static);
    /// Sets the interval in which repeated drift is suppressed.
    with_drift_interval(interval: Duration);
    /// Reports each call when it ends: see [`ClientBuilder::on_call`].
    on_call(hook: impl Fn(&CallReport) + Send + Sync + 'static);
}

impl KlearBuilder {
    /// Sets the bearer token: the id of the administrator and the token that belongs to it.
    ///
    /// The token is a secret. It goes to the configured origin only, is shown nowhere, and is wiped
    /// from memory when the last clone of the client is dropped; copies that the HTTP stack makes of a
    /// header are not.
    pub fn with_token(
        mut self,
        admin_user_id: impl Into<String>,
        access_token: impl Into<String>,
    ) -> Self {
        self.token = Some((admin_user_id.into(), Zeroizing::new(access_token.into())));
        self
    }

    /// Builds the client. Sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`]: no token, or one that is empty or cannot stand in a header; and what
    /// [`ClientBuilder::build`] refuses, for the path `/klear-api/v1`.
    pub fn build(self) -> Result<Klear, Error> {
        let Some((id, token)) = self.token else {
            return Err(Error::config("no token: call with_token(admin_user_id, access_token)"));
        };
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_plain(&id) || id.contains(':') {
            return Err(Error::config(
                "the id of the administrator is empty or has a colon, a blank or another character \
                 that cannot stand in a header",
            ));
        }
        if !is_plain(&token) {
            return Err(Error::config(
                "the access token is empty or has a blank or another character that cannot stand in \
                 a header",
            ));
        }
        let value = Zeroizing::new(format!("Bearer {id}:{}", token.as_str()));
        let authenticate = Box::new(move |origin: Option<Origin>| -> Arc<dyn Middleware> {
            Arc::new(BearerLayer { value, origin })
        });
        let client = self.settings.build_for(Service::Klear, Some(authenticate))?;
        Ok(Klear { client })
    }
}

impl fmt::Debug for KlearBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlearBuilder")
            .field("settings", &self.settings)
            .field("token", &self.token.as_ref().map(|_| "** redacted **"))
            .finish()
    }
}

/// Adds the token to each attempt of a request, for the origin that the client was built for.
struct BearerLayer {
    value: Zeroizing<String>,
    origin: Option<Origin>,
}

#[async_trait]
impl Middleware for BearerLayer {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> middleware::Result<Response> {
        let not_sent = |why| middleware::Error::middleware(NotSent::new(ErrorKind::Auth, why));
        if !self.origin.as_ref().is_some_and(|origin| origin.contains(request.url())) {
            return Err(not_sent("the request goes to a host that the token is not for"));
        }
        let mut value = HeaderValue::from_str(&self.value)
            .map_err(|_| not_sent("the token cannot stand in a header"))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        next.run(request, extensions).await
    }
}

impl OperationId {
    /// Returns the operation of a table entry; `None` for one of another API.
    pub fn of(operation: &Operation) -> Option<Self> {
        Self::all().find(|id| id.operation() == operation)
    }
}
