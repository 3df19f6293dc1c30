//! Client for the Kalshi Trade API, generated from the exchange's OpenAPI document.
//!
//! Kalshi is an exchange of yes/no contracts, priced in dollars between 0 and 1. [`Client`] has a
//! method for each of its operations; [`builder`] has what the methods give back, [`types`] what
//! goes in and comes out.
//!
//! The [`guide`] has a page for each thing to do, with examples that run offline, and pages for
//! those who come from [Python](guide::coming_from_python), from
//! [other crates](guide::coming_from_kalshi_trade_rs) or from
//! [plain reqwest](guide::coming_from_reqwest).
//!
//! Streams, perpetual futures and the clearing members' API are [features](guide::features), off
//! by default.
//!
//! # First call
//!
//! ```no_run
//! use kalshi_sdk::{Client, Credentials, Environment};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder()
//!     .with_environment(Environment::Demo)
//!     .with_credentials(Credentials::from_env()?)
//!     .build()?;
//! let balance = client.get_balance().send().await?;
//! println!("{} dollars", balance.balance_dollars);
//! # Ok(())
//! # }
//! ```
//!
//! [`Credentials::from_env`] reads `KALSHI_API_KEY_ID`, and `KALSHI_PRIVATE_KEY` (PEM text) or
//! `KALSHI_PRIVATE_KEY_PATH`. Public operations work without credentials; a private one fails
//! before anything is sent.
//!
//! # Requests
//!
//! A body is built field by field. A required field that is forgotten does not compile; what can be
//! known only at run time (a parameter that is missing, a price that does not parse) is refused by
//! `send` before anything is sent, all of it in one error.
//!
//! ```
//! use kalshi_sdk::types::{
//!     BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce,
//! };
//!
//! let order = CreateOrderV2Request::builder()
//!     .ticker("KXHIGHNY-26NOV23-T60")
//!     .side(BookSide::Bid)
//!     .count("10.00")
//!     .price("0.5600")
//!     .time_in_force(TimeInForce::GoodTillCanceled)
//!     .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
//! ```
//!
//! Setters take whatever converts (`"0.5600"` or a [`Dollars`]), and those of optional fields an
//! `Option`, too. The page of each request ([`builder`]) lists its parameters and has an example;
//! [`Client`] has its methods by task.
//!
//! # Lists
//!
//! Every operation with a cursor has `stream()` for the rows of all pages, `pages()` for the pages
//! themselves, and `all()` for all rows or an error. The streams fetch as far as they are read and
//! end with an error if the server repeats a cursor.
//!
//! ```no_run
//! # async fn run(client: kalshi_sdk::Client) -> Result<(), kalshi_sdk::Error> {
//! let mut fills = client.get_fills().min_ts(1_790_000_000).stream();
//! while let Some(fill) = fills.next().await.transpose()? {
//!     println!("{} {} at {}", fill.ticker, fill.count_fp, fill.yes_price_dollars);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! They end at a cutoff, and what is older is elsewhere: see [`guide::lists`].
//!
//! # Numbers
//!
//! Prices and money are [`Dollars`] (10⁻⁶ USD), contract counts are [`Count`] (10⁻² contracts):
//! integers inside, so that nothing is rounded. A market's own `price_ranges` say which prices it
//! takes; [`PriceGrid`] snaps to them.
//!
//! # Values that the server adds
//!
//! Enums are open: a value that this version does not know arrives as `Unknown` with its text, and
//! goes back unchanged. Unknown fields are ignored, a null list is an empty one, and a label that is
//! missing (a text, a flag) reads as nothing. An id, a price or a count that is missing is an error
//! of its row that says where: a made-up price would cost money.
//!
//! # When a write fails
//!
//! ```no_run
//! use kalshi_sdk::{Client, Effect, types};
//!
//! # async fn run(client: Client, order: types::CreateOrderV2Request) {
//! match client.create_order_v2().body(order).send().await {
//!     Ok(order) => println!("order {}", order.order_id),
//!     // An earlier request with this client_order_id was carried out.
//!     Err(error) if error.is_conflict() => println!("it is there already: {error}"),
//!     Err(error) => match error.effect() {
//!         Effect::NotSent | Effect::Rejected => println!("nothing happened: {error}"),
//!         // The order may be in the book: look for its client_order_id before retrying.
//!         _ => println!("reconcile first: {error}"),
//!     },
//! }
//! # }
//! ```
//!
//! [`guide::orders`] has the rules that this follows, [`guide::errors`] what each error means, and
//! [`guide::troubleshooting`] the causes of 401, 403, 409 and 429.
//!
//! # What it refuses to do
//!
//! - It does not retry, limit its rate or follow redirects by itself. Add a layer of your own (see
//!   [`middleware`]), or those of the crate `kalshi-trade`; signing stays below them.
//! - It sends credentials to the configured origin only, and shows them nowhere.
//! - It checks no order before the exchange does: what cannot be sent is refused, what may be
//!   refused is sent.

#[cfg(feature = "streams")]
mod account;
mod attempts;
mod call;
mod client;
mod documented;
mod drift;
mod error;
mod error_body;
mod generated;
pub mod guide;
mod json_place;
#[cfg(feature = "klear")]
pub mod klear;
#[doc(alias = "retry")]
#[doc(alias = "logging")]
#[doc(alias = "tracing")]
#[doc(alias = "layer")]
pub mod middleware;
pub mod operation;
mod pagination;
#[cfg(feature = "perps")]
pub mod perps;
mod raw;
pub mod request;
mod request_draft;
mod transport;
mod values;

pub use kalshi_auth::{self as auth, Credentials, Environment};
pub use kalshi_types::{
    self, ArithmeticError, BookSide, Count, Decimal, Dollars, Exact, PriceGrid, PriceLevel,
    Rounding, UnixMillis, UnixSeconds,
};
/// Streams, order books and the view of the own account: the crate `kalshi-ws`.
///
/// The page [`guide::streams`] says how they go together with a [`Client`].
#[cfg(feature = "streams")]
pub use kalshi_ws as streams;
pub use progenitor_client::ResponseValue;

/// The types of requests and responses.
///
/// A type that requests carry is built: it has a `builder()`. One that only responses carry has
/// none. A test reads such a value from JSON, as the client does, and may change its fields:
///
/// ```
/// use kalshi_sdk::types::MarketPosition;
///
/// let json = r#"{
///     "ticker": "KXHIGHNY-26NOV23-T60",
///     "total_traded_dollars": "5.600000",
///     "position_fp": "10.00",
///     "market_exposure_dollars": "5.600000",
///     "realized_pnl_dollars": "0.000000",
///     "fees_paid_dollars": "0.070000",
///     "last_updated_ts": "2026-11-23T14:00:00Z"
/// }"#;
/// let mut position: MarketPosition = serde_json::from_str(json)?;
/// position.position_fp = "-3.00".parse()?;
/// assert!(position.position_fp.is_negative());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub use crate::generated::types;

/// For servers, such as a simulator: a trait that answers every operation.
#[cfg(feature = "server")]
#[doc(hidden)]
pub use crate::generated::server;
pub use crate::{
    call::{CallOutcome, CallReport},
    client::{
        Client, ClientBuilder, DEFAULT_CONNECT_TIMEOUT, DEFAULT_MAX_RESPONSE_BYTES, DEFAULT_TIMEOUT,
    },
    drift::{DEFAULT_DRIFT_INTERVAL, Drift, DriftKind},
    error::{Effect, Error, ErrorKind, FailedRow},
    generated::{SPEC_VERSION, builder},
    operation::{OPERATIONS, Operation, OperationId},
    pagination::{Pages, Rows},
    raw::RawRequest,
    request::InvalidFields,
    values::{CommaSeparated, CommaSeparatedError, SecretText},
};

pub(crate) use kalshi_types::builder::{builder_value, builder_value_optional};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[expect(missing_debug_implementations, reason = "exists for its documentation only")]
pub struct ReadmeDoctests;
