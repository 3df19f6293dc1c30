//! The rate budget: every request waits for its tokens here instead of being answered with 429.
//!
//! The exchange gives an account token buckets: one for reads, one for writes, one for the writes of
//! each shard above 0, and one for the balance; each lane (event contracts, perpetuals) has its own.
//! A request whose tokens are not there is answered with 429 and was not carried out. A [`Budget`]
//! knows what each request costs and which buckets pay, and sends it when they can:
//!
//! - **In order of urgency.** A cancel goes before a create, whatever waits ([`Class`]); creates
//!   leave a reserve for cancels ([`Budget::set_open_orders`]), and no more of them are on their way
//!   at once than there are places, of which a cancel needs none
//!   ([`BudgetBuilder::with_max_in_flight`]). Strategies share evenly ([`Owner`]).
//! - **In time or not at all.** A create whose tokens come in more than a second fails at once, with
//!   the wait in [`Error::retry_after`](kalshi_sdk::Error::retry_after): a late order is a wrong
//!   order. See [`RequestOptions::with_deadline`].
//! - **Withdrawn while it waits.** [`Budget::withdraw`] takes back an order that was not sent yet.
//! - **By the exchange's own numbers.** [`Budget::learn`] fetches them;
//!   [`Budget::keep_learning`] keeps them current.
//! - **For all processes of a machine.** [`LockFile`] keeps the buckets in a file.
//!
//! ```
//! use kalshi_sdk::{Client, ErrorKind};
//! use kalshi_sim::{Exchange, Role, Tier};
//! use kalshi_trade::budget::{Budget, WithBudget as _};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let exchange = Exchange::builder().with_tier(Tier::Basic).start().await?;
//! let budget = Budget::new();
//! let client = Client::builder()
//!     .with_environment(exchange.environment())
//!     .with_credentials(exchange.credentials(Role::Trader).ok_or("no key")?.clone())
//!     .with_budget(&budget)
//!     .build()?;
//! let learning = budget.keep_learning(&client);
//! for _ in 0..70 {
//!     // 60 of them empty the bucket; the others wait for 50 ms each.
//!     client.get_positions().send().await?;
//! }
//! # drop(learning);
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
//! ```
//!
//! # What it cannot know
//!
//! FIX sessions, programs without it and processes on other machines draw from the same buckets. An
//! answer of 429 then empties the bucket here, too; the request goes back to the head of its queue,
//! and for a minute half of the burst is used. [`BudgetBuilder::with_margin`] leaves them room.
//!
//! A request that names neither its shard nor a market is not routed and costs one bucket. One that
//! names its market only draws from every shard's: name the shard (`exchange_index`).

mod backend;
mod cost;
mod driver;
mod gcra;
pub(crate) mod layer;
mod learn;
mod lock_file;
#[cfg(test)]
mod model;
mod scheduler;
mod shell;
pub(crate) mod withdrawal;

pub use backend::{Backend, BackendError, Grant, MemoryBackend, take_slice};
pub use cost::{BatchCharge, BucketKey, Charge, CostTable, DEFAULT_SHARDS, Pool, RequestParts};
pub use gcra::{Gcra, InvalidLimit, Limit, Nanos};
pub use layer::{BudgetLayer, WithBudget};
pub use learn::{LEARN_INTERVAL, Learning};
pub use lock_file::LockFile;
pub use scheduler::{
    Class, Completion, DEFAULT_MAX_IN_FLIGHT, DEFAULT_MAX_WAITING, Demand, LaneLimits, Owner,
    Refusal, Scheduler, Slice, Ticket, Verdicts,
};
pub use shell::{
    Budget, BudgetBuilder, DEFAULT_DEADLINE, DEFAULT_REQUEUES, DEFAULT_WRITE_DEADLINE, Permit,
    RequestOptions,
};
