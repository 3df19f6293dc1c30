//! Streams of the Kalshi exchange, and order books that are right or say that they are not.
//!
//! - [`Connection`] comes back after each loss: it signs a new handshake and requests its
//!   subscriptions again. Every loss is an [`Event`] among the messages.
//! - [`Subscription`] is what is desired of one channel; [`ConnectionHandle`] changes it on a running
//!   connection.
//! - [`Books`] keeps the order books. One can be read only while everything that the exchange sent
//!   for it is known to have arrived.
//! - [`RedundantFeed`] is several connections as one: what one of them loses, the others cover.
//! - [`Portfolio`] keeps your fills, orders and positions, and is reconciled with REST.
//! - [`Decoder`] turns the text of a frame into what it says. It loses nothing: a message of a type
//!   that it does not know is kept whole.
//!
//! The messages are generated from the `AsyncAPI` document of the exchange, with the exact numbers and
//! open enums of `kalshi-types`.
//!
//! The [`guide`] has what can be lost, where it shows, and what to do then.
//!
//! # Examples
//!
//! The best prices of a market, as of each change. The exchange is `kalshi-sim` here; with a key of
//! the real one, the environment is [`Environment::Demo`] and the credentials are
//! `Credentials::from_env()?` of `kalshi-auth`.
//!
//! ```
//! use kalshi_sim::{Exchange, Role};
//! use kalshi_ws::{Config, Connection, Environment, Event, Outcome, Subscription};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let exchange = Exchange::builder().with_traders(200).start().await?;
//! let open = exchange.client(Role::Trader)?.get_markets().status("open").limit(1).send().await?;
//! let ticker = &open.markets[0].ticker;
//!
//! let config = Config::builder()
//!     .with_environment(Environment::Custom(exchange.stream_url()))
//!     .with_credentials(exchange.credentials(Role::Trader).ok_or("no keys")?.clone())
//!     .build()?;
//! let mut connection = Connection::connect(config).await?;
//! connection.handle().subscribe(Subscription::orderbook([ticker]))?;
//! let mut changes = 0;
//! while let Some(event) = connection.next().await {
//!     match (&event, connection.books().get(ticker)) {
//!         (Event::Message(_), Some(book)) => {
//!             println!("{:?} {:?}", book.best_bid(Outcome::Yes), book.best_ask(Outcome::Yes));
//!             changes += 1;
//!         }
//!         // A loss among them: the book cannot be read until it has been repaired.
//!         (other, _) => println!("{other:?}"),
//!     }
//!     if changes == 10 {
//!         break;
//!     }
//! }
//! connection.close().await;
//! # assert_eq!(changes, 10);
//! # Ok(())
//! # }
//! ```
//!
//! # What it refuses to do
//!
//! - It never hands out a book that may be wrong, and never drops a message without an event in its
//!   place.
//! - It never sends credentials over an unencrypted connection to another machine.
//! - Nothing is started by a constructor: only [`Connection::connect`] connects and spawns a task.
//!
//! # Features
//!
//! - `perps`: the streams of perpetual futures, in the module `perps`. Off by default.
//! - `recorder`: recordings of a stream, compressed with gzip. Off by default.

mod book;
mod config;
mod connection;
mod error;
mod event;
mod feeds;
mod generated;
#[doc = include_str!("guide.md")]
pub mod guide {}
mod metrics;
#[cfg(feature = "perps")]
pub mod perps;
mod portfolio;
pub mod product;
mod protocol;
#[cfg(test)]
mod random;
#[cfg(feature = "recorder")]
pub mod recording;
mod replay;
mod session;
mod subscription;

/// The environments of the exchange: production, demo, or another URL.
pub use kalshi_auth::Environment;

pub use crate::{
    book::{BookChange, BookError, BookState, FillEstimate, OrderBook, Outcome, RestingOrder},
    config::Tap,
    connection::backoff::Backoff,
    error::{CommandError, ConnectError, ConnectErrorKind},
    event::{DisconnectReason, Refusal, TerminationReason, UncoveredCause},
    feeds::{MergeMetrics, Merger, RedundantFeed, SnapshotRequest},
    generated::{Channel, MESSAGE_KINDS, Payload, SPEC_VERSION, types},
    metrics::{Batch, Metrics},
    portfolio::{
        AccountSnapshot, AccountSource, FillRecord, OrderRecord, Portfolio, PortfolioChange,
        PositionRecord, ReconcileStatus, Reconciled, Reconciliation,
    },
    product::EventContracts,
    protocol::{
        frame::{Malformed, SubscribedItems, Unknown},
        message::{Delta, Market, MessageKind, OwnChange, ServerError, Sid},
    },
    replay::{PriceConvention, Replay},
    subscription::{DEFAULT_CAPACITY, Overflow},
};

/// A connection to the streams of event contracts.
pub type Connection = product::Connection<EventContracts>;
/// Sends requests to a running connection.
pub type ConnectionHandle = product::ConnectionHandle<EventContracts>;
/// The settings of a connection, from [`Config::builder`].
pub type Config = product::Config<EventContracts>;
/// Builds the settings of a connection.
pub type ConfigBuilder = product::ConfigBuilder<EventContracts>;
/// An event of a connection, in order.
pub type Event = product::Event<EventContracts>;
/// A message of a channel.
pub type Message = product::Message<EventContracts>;
/// The content of one frame.
pub type Frame = product::Frame<EventContracts>;
/// Decodes frames. It remembers the names of markets, so that the deltas of a market share them.
pub type Decoder = product::Decoder<EventContracts>;
/// The order books of one connection.
pub type Books = product::Books<EventContracts>;
/// A subscription to one channel, as the consumer desires it.
pub type Subscription = product::Subscription<EventContracts>;

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[expect(missing_debug_implementations, reason = "exists for its documentation only")]
pub struct ReadmeDoctests;
