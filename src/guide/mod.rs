//! The guide: one page for each thing that a user wants to do.
//!
//! Every example is compiled and run against the exchange of `kalshi-sim`, which starts inside the
//! process: no page needs an account, a key or the network.
//!
//! | to do | page |
//! |---|---|
//! | make the first call | [`first_call`] |
//! | choose an environment, load a key, replace it | [`keys`] |
//! | find markets, read a book | [`markets`] |
//! | count money and contracts, stay on the price grid | [`money`] |
//! | read long lists, and what is older than they are | [`lists`] |
//! | place, change and cancel orders safely | [`orders`] |
//! | stop, restart, cancel on exit, close a position | [`shutdown`] |
//! | read cash, positions and fills | [`portfolio`] |
//! | ask for quotes, or make them | [`rfqs`] |
//! | decide what to do about an error | [`errors`] |
//! | find out why it is 401, 403, 404, 409, 410 or 429 | [`troubleshooting`] |
//! | stay below the rate limits | [`limits`] |
//! | log calls | [`logs`] |
//! | count and time calls | [`metrics`] |
//! | set proxies, TLS and time limits | [`network`] |
//! | call from code that is not asynchronous | [`blocking`] |
//! | follow the exchange live | [`streams`] |
//! | trade perpetual futures | `perps`, with the feature of that name |
//! | clear them | `klear`, with the feature of that name |
//! | test a bot offline | [`testing`] |
//! | keep up with a moving API | [`staying_current`] |
//! | choose features, know the MSRV | [`features`] |
//!
//! Coming from [the official Python SDK](coming_from_python), from [kalshi-trade-rs or
//! kalshi-fast-rs](coming_from_kalshi_trade_rs), or from [plain reqwest](coming_from_reqwest)?
//! Each has a table of calls, and a list of what means something else here.

#[doc = include_str!("first_call.md")]
#[doc(alias = "quickstart")]
#[doc(alias = "hello world")]
pub mod first_call {}

#[doc = include_str!("keys.md")]
#[doc(alias = "authentication")]
#[doc(alias = "private key")]
#[doc(alias = "PEM")]
#[doc(alias = "signing")]
#[doc(alias = "credentials")]
pub mod keys {}

#[doc = include_str!("markets.md")]
#[doc(alias = "order book")]
pub mod markets {}

#[doc = include_str!("money.md")]
#[doc(alias = "round")]
#[doc(alias = "rounding")]
#[doc(alias = "decimal")]
#[doc(alias = "tick size")]
#[doc(alias = "fee")]
pub mod money {}

#[doc = include_str!("lists.md")]
#[doc(alias = "pagination")]
#[doc(alias = "cursor")]
#[doc(alias = "archive")]
#[doc(alias = "backfill")]
pub mod lists {}

#[doc = include_str!("orders.md")]
#[doc(alias = "place order")]
#[doc(alias = "cancel all")]
#[doc(alias = "idempotency")]
#[doc(alias = "duplicate order")]
pub mod orders {}

#[doc = include_str!("shutdown.md")]
#[doc(alias = "restart")]
#[doc(alias = "cancel on exit")]
#[doc(alias = "close position")]
#[doc(alias = "kill switch")]
pub mod shutdown {}

#[doc = include_str!("portfolio.md")]
#[doc(alias = "positions")]
#[doc(alias = "pnl")]
#[doc(alias = "balance")]
pub mod portfolio {}

#[doc = include_str!("rfqs.md")]
pub mod rfqs {}

#[doc = include_str!("errors.md")]
#[doc(alias = "retry")]
#[doc(alias = "backoff")]
#[doc(alias = "timeout")]
#[doc(alias = "ambiguous failure")]
pub mod errors {}

#[doc = include_str!("troubleshooting.md")]
#[doc(alias = "401")]
#[doc(alias = "403")]
#[doc(alias = "409")]
#[doc(alias = "429")]
pub mod troubleshooting {}

#[doc = include_str!("limits.md")]
#[doc(alias = "rate limit")]
#[doc(alias = "token bucket")]
#[doc(alias = "throttle")]
pub mod limits {}

#[doc = include_str!("logs.md")]
#[doc(alias = "logging")]
#[doc(alias = "tracing")]
pub mod logs {}

#[doc = include_str!("metrics.md")]
#[doc(alias = "prometheus")]
#[doc(alias = "latency")]
pub mod metrics {}

#[doc = include_str!("network.md")]
#[doc(alias = "proxy")]
#[doc(alias = "TLS")]
#[doc(alias = "certificate")]
#[doc(alias = "connection pool")]
pub mod network {}

#[doc = include_str!("blocking.md")]
#[doc(alias = "synchronous")]
#[doc(alias = "block_on")]
pub mod blocking {}

#[doc = include_str!("streams.md")]
#[doc(alias = "websocket")]
#[doc(alias = "live data")]
pub mod streams {}

#[cfg(feature = "perps")]
#[doc = include_str!("perps.md")]
#[doc(alias = "perpetual futures")]
#[doc(alias = "margin")]
#[doc(alias = "leverage")]
#[doc(alias = "funding rate")]
#[doc(alias = "liquidation")]
pub mod perps {}

#[cfg(feature = "klear")]
#[doc = include_str!("klear.md")]
#[doc(alias = "clearing")]
#[doc(alias = "settlement")]
pub mod klear {}

#[doc = include_str!("testing.md")]
#[doc(alias = "mock")]
#[doc(alias = "simulator")]
#[doc(alias = "paper trading")]
#[doc(alias = "fault injection")]
pub mod testing {}

#[doc = include_str!("staying_current.md")]
#[doc(alias = "changelog")]
#[doc(alias = "deprecation")]
pub mod staying_current {}

#[doc = include_str!("features.md")]
#[doc(alias = "feature")]
#[doc(alias = "MSRV")]
#[doc(alias = "minimum supported Rust version")]
#[doc(alias = "platform")]
pub mod features {}

#[doc = include_str!("coming_from_python.md")]
pub mod coming_from_python {}

#[doc = include_str!("coming_from_kalshi_trade_rs.md")]
pub mod coming_from_kalshi_trade_rs {}

#[doc = include_str!("coming_from_reqwest.md")]
pub mod coming_from_reqwest {}
