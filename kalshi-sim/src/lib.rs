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
//! Orders, order groups and the portfolio on a matching engine; made-up series, events and markets
//! with order books, trades and candlesticks; the API keys, exchange status and schedule, account
//! limits and token costs; and around them what needs no matching: milestones with their live data,
//! structured targets, incentives, fee changes, forecasts, combo collections, FCM subtraders, and an
//! archive. The communications are left: they answer 501.
//!
//! # What it refuses to do
//!
//! It binds 127.0.0.1 and nothing else. Its state is a pure machine: sockets and the clock are a
//! shell around it. Bodies over 1 MiB are refused, and the log of requests keeps the last 1,000.

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
    stream::{STREAM_PATH, faults::StreamFaults},
};

/// The path below which the API is served.
pub const BASE_PATH: &str = "/trade-api/v2";
