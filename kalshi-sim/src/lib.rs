//! The Kalshi exchange in a process, for tests, examples and offline work.
//!
//! ```
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let exchange = kalshi_sim::Exchange::start().await?;
//! let client = exchange.client(kalshi_sim::Role::Trader)?;
//! let mut markets = client.get_markets().stream();
//! let market = markets.next().await.ok_or("there are markets")??;
//! println!("{} {}", market.ticker, market.yes_bid_dollars);
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```
//!
//! It speaks HTTP on this machine, so a client in any language can be pointed at it; the program
//! `kalshi-sim` is the same thing for the command line. Signatures, clock and scopes are checked as
//! the exchange checks them.
//!
//! # What it plays
//!
//! Every operation of the table. Orders, groups, requests for quotes, block trades and the portfolio
//! go to one matching engine with exact money; markets, books, trades, candlesticks and settlements
//! are read from it. Milestones and live data, structured targets, incentives, FCM subtraders, the
//! archive and the like are made up from the seed and agree with each other. The streams of
//! [`STREAM_PATH`] tell what the engine does.
//!
//! Members are asked for by [`Role`]. Requests are limited by [`Tier`], which is
//! [`Unlimited`](Tier::Unlimited) unless a test is about that.
//!
//! # What can be done to it
//!
//! [`Exchange`] moves time, lists, pauses, closes and determines markets, and pays money in; the
//! admin API ([`Builder::with_admin_port`]) does the same for programs in other languages. A
//! [`Fault`] makes requests late, fail, break off or arrive twice; [`StreamFaults`] do the like to
//! streams. [`Exchange::save`] writes the whole state to one file.
//!
//! ```
//! use kalshi_sim::{Exchange, Fault, FaultKind, Role};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let exchange = Exchange::start().await?;
//! let client = exchange.client(Role::Trader)?;
//! exchange.add_fault(Fault::new(FaultKind::TooManyRequests).on("get_balance").times(1));
//! assert!(client.get_balance().send().await.is_err_and(|error| error.is_rate_limited()));
//! assert!(client.get_balance().send().await.is_ok());
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```
//!
//! # The admin API
//!
//! JSON bodies; an answer of 200 says that it is done, any other has the exchange's error body.
//!
//! | Request | Body |
//! |---|---|
//! | `GET /clock`, `POST /clock/freeze`, `POST /clock/run` | |
//! | `POST /clock/advance` | `{"seconds": 60}` or `{"millis": 60}` |
//! | `POST /markets` | [`MarketPlan`]: `{"ticker": "KXA-1", "closes_in_seconds": 3600}` |
//! | `POST /markets/{ticker}/determine` | `{"result": "yes"}`, `"no"`, or `"scalar"` with `"value": "0.25"` |
//! | `POST /markets/{ticker}/dispute`, `/pause`, `/resume` | |
//! | `POST /markets/{ticker}/close` | `{"in_seconds": 60}` |
//! | `POST /markets/{ticker}/metadata` | `{"yes_sub_title": "Above 50"}` |
//! | `POST /markets/{ticker}/grid` | `{"price_level_structure": "deci_cent", "price_ranges": […]}` |
//! | `POST /shards/{index}` | `{"exchange_active": true, "trading_active": false}` |
//! | `POST /deposits` | `{"key_id": "…", "amount_dollars": "10.00", "exchange_index": 0}` |
//! | `POST /tiers` | `{"key_id": "…", "tier": "basic"}` |
//! | `GET`, `POST`, `DELETE /faults` | [`Fault`]: `{"fault": {"kind": "reset_after"}, "operation": "create_order_v2", "times": 1}` |
//! | `POST /stream_faults` | [`StreamFaults`]: `{"drop_one_in": 100}` |
//! | `POST /streams/cut`, `/streams/silence` | |
//! | `POST /streams/restart` | `{"down_for_millis": 500}` |
//! | `POST /streams/end` | [`Ending`]: `{"ending": "channel_error"}` |
//! | `GET /requests`, `GET /audit` | |
//!
//! # What it refuses to do
//!
//! It binds 127.0.0.1 and nothing else. Its state is a pure machine: sockets and the clock are a
//! shell around it. Bodies over 1 MiB are refused, and the log of requests keeps the last 1,000.
//!
//! What the exchange does not document is decided here by what is safest to test against, and said
//! where it is decided. Not played: collateral returned across the markets of an event (its formula
//! is not published), the announced settlement floors, fees of the type `flat`, which are zero, and
//! changes of fees while it runs. The streams send every message that the published document
//! describes but `event_fee_update`.

mod admin;
mod catalogue;
mod clock;
mod control;
mod engine;
mod exchange;
mod families;
mod faults;
mod gate;
mod keys;
mod limits;
mod line;
mod operations;
mod pages;
mod query;
mod random;
mod reply;
mod request;
mod seeding;
mod server;
mod snapshot;
mod state;
mod stream;
mod traders;
mod treasury;
mod trouble;

#[cfg(test)]
#[path = "../tests/all/contract.rs"]
mod contract;

pub use crate::{
    control::{ControlError, MarketOutcome, MarketPlan},
    exchange::{Builder, DEFAULT_KEY_ID, Exchange, Role, Seen, StartError},
    faults::{Fault, FaultKind},
    limits::Tier,
    stream::{
        STREAM_PATH,
        faults::{Ending, StreamFaults},
    },
};

/// The path below which the API is served.
pub const BASE_PATH: &str = "/trade-api/v2";
