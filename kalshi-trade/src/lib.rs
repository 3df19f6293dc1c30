//! Orders on the Kalshi exchange, over `kalshi-sdk` and `kalshi-ws`: what every strategy needs and
//! none should write itself.
//!
//! Every request to place an order can end without an answer. Then the order exists, or does not,
//! or will in a minute; and taking one for the other places it twice, or leaves it unattended.
//!
//! - [`budget`] sends requests within the rate limits, the urgent ones first; [`retry`] repeats what
//!   is safe to repeat. Each is one line for a client that exists.
//! - [`journal`] writes down what is about to be sent, before it is; [`placement`] finds out what
//!   became of it, by evidence and never by a timer; [`orders`] keeps what is known of each order,
//!   and what is wanted of it; [`trading`] joins them with the streams of the account.
//! - [`risk`] refuses orders above ceilings that nothing lifts by accident; [`watchdog`] cancels the
//!   orders of a program that dies; [`group`] is the brake that the exchange pulls; [`pause`] knows
//!   when it takes no orders, and [`shard`] where they go.
//! - [`direction`], [`tick`], [`fees`], [`close`] and [`quoting`] are the small parts: sides, prices
//!   that a market takes, exact fees, the order that closes a position, a quote that follows a
//!   price.
//! - [`history`] and [`candles`] read live and archived rows as one list.
//!
//! The decisions are pure state machines: no clock, no socket and no randomness of their own. The
//! [`guide`] has what can go wrong, where it shows, and what to do then.
//!
//! # Examples
//!
//! A client within its rate limits, and an order that is known at its end to exist or not:
//!
//! ```
//! use kalshi_sdk::{
//!     Client,
//!     types::{
//!         BookSide, CreateOrderV2Request, GetMarketsStatus,
//!         SelfTradePreventionType, TimeInForce,
//!     },
//! };
//! use kalshi_trade::{
//!     budget::{Budget, WithBudget as _},
//!     journal::FileJournal,
//!     placement::{PlacementState, Placements},
//!     retry::Retry,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let exchange = kalshi_sim::Exchange::start().await?;
//! # let environment = exchange.environment();
//! # let credentials = exchange.credentials(kalshi_sim::Role::Trader).ok_or("no key")?.clone();
//! # let path = std::env::temp_dir().join(format!("kalshi-trade-front-{}", std::process::id()));
//! let client = Client::builder()
//!     .with_environment(environment)
//!     .with_credentials(credentials)
//!     .with_middleware(Retry::default())
//!     .with_budget(&Budget::new())
//!     .build()?;
//! let open = client.get_markets().status(GetMarketsStatus::Open).limit(1);
//! let ticker = open.send().await?.markets[0].ticker.clone();
//! let order = CreateOrderV2Request::builder()
//!     .ticker(ticker)
//!     .side(BookSide::Bid)
//!     .count("1.00")
//!     .price("0.0100")
//!     .time_in_force(TimeInForce::GoodTillCanceled)
//!     .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
//!     .try_into()?;
//! let journal = FileJournal::builder(&path).open()?;
//! let placements = Placements::builder(client, journal).start()?;
//! match placements.place(order)?.outcome().await {
//!     PlacementState::Accepted { order_id, .. } => println!("accepted: {order_id}"),
//!     PlacementState::Refused(refusal) => println!("refused: {:?}", refusal.code),
//!     other => println!("see the guide: {other:?}"),
//! }
//! # drop(placements);
//! # std::fs::remove_file(&path)?;
//! # std::fs::remove_file(format!("{}.lock", path.display()))?;
//! # Ok(())
//! # }
//! ```

mod agreement;
pub mod budget;
mod cancels;
pub mod candles;
pub mod close;
pub mod direction;
mod expiry;
pub mod fees;
pub mod group;
mod guard;
pub mod history;
pub mod journal;
pub mod orders;
pub mod pause;
pub mod placement;
pub mod quoting;
pub mod retry;
pub mod risk;
pub mod shard;
pub mod tick;
pub mod trading;
pub mod watchdog;

#[doc = include_str!("guide.md")]
pub mod guide {}

/// The README's examples run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[expect(missing_debug_implementations, reason = "exists for its documentation only")]
pub struct ReadmeDoctests;
