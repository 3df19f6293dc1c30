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
//! Every operation of the table. Orders, groups, requests for quotes, block trades, the portfolio
//! and the subtraders of an FCM go to one matching engine with exact money; markets, books, trades,
//! candlesticks and settlements are read from it, those of the archive as well: the engine has lived
//! through them with a clock in the past. Milestones and live data, structured targets, incentives
//! and the like are made from the seed and agree with each other. The streams of [`STREAM_PATH`]
//! send what the engine does.
//!
//! A member starts with $10,000 on each shard, without orders or positions. The first one has a
//! history: its archived orders and fills, its settlements, deposits and withdrawals add up to that
//! cash. What is older than the cutoffs of `get_historical_cutoff`, which stay where they are, is
//! in the archive alone; settlements never leave the live tier. A subtrader starts with $10,000 on
//! each shard, too.
//!
//! Members are asked for by [`Role`]. Requests are limited by [`Tier`], which is
//! [`Unlimited`](Tier::Unlimited) unless a test is about that.
//!
//! # What can be done to it
//!
//! [`Exchange`] has a handle for each of its parts: [`clock`](Exchange::clock) moves time,
//! [`markets`](Exchange::markets) lists, pauses, closes and determines markets,
//! [`members`](Exchange::members) pays money in and adds keys. [`faults`](Exchange::faults) makes
//! requests late, fail, break off or arrive twice: a [`Fault`] names its operation by
//! [`OperationId`](kalshi_sdk::OperationId), so that a misspelt one does not compile, and counts
//! its hits. [`streams`](Exchange::streams) does the like to streams. The admin API
//! ([`ExchangeBuilder::with_admin_port`]) does the same for programs in other languages.
//! [`Exchange::save`] writes the whole state to one file.
//!
//! ```
//! use kalshi_sdk::OperationId;
//! use kalshi_sim::{Exchange, Fault, FaultKind, Role};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let exchange = Exchange::start().await?;
//! let client = exchange.client(Role::Trader)?;
//! let once = Fault::builder(FaultKind::TooManyRequests)
//!     .with_operation(OperationId::GetBalance)
//!     .with_times(1)
//!     .build();
//! exchange.faults().add(once)?;
//! assert!(client.get_balance().send().await.is_err_and(|error| error.is_rate_limited()));
//! assert!(client.get_balance().send().await.is_ok());
//! exchange.faults().assert_all_hit();
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```
//!
//! # The admin API
//!
//! JSON bodies; an answer of 200 says that it is done, any other has the exchange's error body. An
//! operation or a key that does not exist is refused with 400. `GET /faults` also has the hits of
//! each fault.
//!
//! | Request | Body |
//! |---|---|
//! | `GET /clock`, `POST /clock/freeze`, `POST /clock/resume` | |
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
//! Requests are read strictly: unknown fields, bodies that are no objects, prices without two to
//! four decimals and counts with more than two are refused, so that what passes here is in the
//! documented form. The removed writes below `/portfolio/orders` answer 410.
//!
//! What the exchange does not document is decided here by what is safest to test against, and said
//! where it is decided. Not played: collateral returned across the markets of an event (its formula
//! is not published), the announced settlement floors, fees of the type `flat`, which are zero, and
//! changes of fees while it runs. The streams send every message that the published document
//! describes but `event_fee_update`.

mod api;
mod auth;
mod clock;
#[cfg(test)]
mod contract;
mod control;
mod engine;
mod exchange;
mod faults;
mod fixtures;
mod http;
mod random;
mod role;
mod shared;
mod state;
mod stream;
mod wire;

pub use crate::{
    control::{ControlError, MarketOutcome, MarketPlan},
    exchange::{
        ClockControl, Exchange, ExchangeBuilder, FaultControl, MarketControl, MemberControl,
        StartError, StreamControl, Target,
    },
    faults::{Fault, FaultBuilder, FaultKind, FaultReport},
    role::{DEFAULT_KEY_ID, Role},
    shared::RequestRecord,
    state::limits::Tier,
    stream::{
        STREAM_PATH,
        faults::{Ending, StreamFaults},
    },
};

/// The path below which the API is served.
pub const BASE_PATH: &str = "/trade-api/v2";
