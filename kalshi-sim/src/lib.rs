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
//! With the feature `perps` it plays perpetual futures, too: every operation of their document and
//! their streams, on an engine of their own with the same matching. `Exchange::perps` sets marks,
//! announces corporate actions, pauses markets, and lets members in. A member starts with $10,000
//! there. Three markets have traded for three days, with orders on both sides. Margin and liquidation
//! follow the parameters that the exchange publishes by a model of the simulator's own, because the
//! formulas are not published; all positions of a subaccount are margined together, and an exit
//! trigger of an isolated position is one of the primary's.
//!
//! The clearing house of perpetual futures comes with it, with every operation of its document at
//! `/klear-api/v1`: `Exchange::klear` has a client and a bearer token for each role. It settles at
//! midnight in New York and reads the ledger; how it computes obligations, balances and margins is a
//! model, which `KlearControl` and the guide of `kalshi-sdk` describe. Its reads do not trail.
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
//! operation or a key that does not exist is refused with 400.
//!
//! | Request | Body |
//! |---|---|
//! | `GET /` | lists all of these, each with a line and an example |
//! | `GET /clock` | |
//! | `POST /clock/freeze` | |
//! | `POST /clock/resume` | |
//! | `POST /clock/advance` | `{"seconds": 60}` or `{"millis": 60}` |
//! | `POST /clock/member_skew` | `{"millis": 5000}`: see [`ClockControl::set_member_skew`] |
//! | `POST /markets` | [`MarketPlan`]: `{"ticker": "KXA-1", "closes_in_seconds": 3600}` |
//! | `POST /markets/{ticker}/determine` | `{"result": "yes"}`, `"no"`, or `"scalar"` with `"value": "0.25"` |
//! | `POST /markets/{ticker}/dispute` | |
//! | `POST /markets/{ticker}/pause` | |
//! | `POST /markets/{ticker}/resume` | |
//! | `POST /markets/{ticker}/close` | `{"in_seconds": 60}` |
//! | `POST /markets/{ticker}/metadata` | `{"yes_sub_title": "Above 50"}` |
//! | `POST /markets/{ticker}/grid` | `{"price_level_structure": "deci_cent", "price_ranges": […]}` |
//! | `POST /events/{event_ticker}/fee` | `{"fee_type": "quadratic", "fee_multiplier": "0.5", "in_seconds": 60}`; without `fee_type` an override is taken back |
//! | `POST /shards/{index}` | `{"exchange_active": true, "trading_active": false}` |
//! | `POST /deposits` | `{"key_id": "…", "amount_dollars": "10.00", "exchange_index": 0}` |
//! | `POST /tiers` | `{"key_id": "…", "tier": "basic"}` |
//! | `GET /faults` | the faults with their hits |
//! | `POST /faults` | [`Fault`]: `{"fault": {"kind": "reset_after"}, "operation": "create_order_v2", "times": 1}` |
//! | `DELETE /faults` | |
//! | `GET /lag` | |
//! | `POST /lag` | `{"profile": "realistic"}`, or [`Lag`]: `{"reads_millis": [200, 400], "streams_millis": 0, "seed": 1}` |
//! | `GET /rules` | |
//! | `POST /rules` | [`Rules`]: `{"reuse_client_order_ids": true}` |
//! | `GET /streams` | the connections, and what waits for their readers |
//! | `POST /stream_faults` | [`StreamFaults`]: `{"drop_one_in": 100}` |
//! | `POST /streams/cut` | |
//! | `POST /streams/silence` | |
//! | `POST /streams/restart` | `{"down_for_millis": 500}` |
//! | `POST /streams/end` | [`Ending`]: `{"ending": "channel_error"}` |
//! | `GET /requests` | |
//! | `GET /audit` | |
//!
//! With the feature `perps`, also:
//!
//! | Request | Body |
//! |---|---|
//! | `GET /perps` | |
//! | `POST /perps/markets` | `PerpsMarketPlan`: `{"ticker": "KXAPERP", "reference": "50000.00", "contract_size_millionths": 1000}` |
//! | `POST /perps/markets/{ticker}/marks` | `{"settlement_mark": "64.00", "liquidation_mark": "64.00", "reference": "64000.00"}`, or some of them; `"reference": null` takes it away |
//! | `POST /perps/markets/{ticker}/pause` | |
//! | `POST /perps/markets/{ticker}/resume` | |
//! | `POST /perps/markets/{ticker}/actions` | `CorporateAction`: `{"action": {"type": "stock_split", "old": 1, "new": 2}, "in_seconds": 60}`; the answer has the `id` |
//! | `DELETE /perps/actions/{id}` | |
//! | `POST /perps/trading` | `{"active": false}` |
//! | `POST /perps/fund` | moves the time to the next funding |
//! | `POST /perps/deposits` | `{"key_id": "…", "amount_dollars": "10.00"}` |
//! | `POST /perps/members` | `{"key_id": "…", "enabled": false}` |
//! | `POST /perps/traders` | `{"commands": 100}`, 100,000 at most |
//!
//! Only programs on this machine are answered, and no page of others in a browser: a request must
//! name this machine as its `Host`, and one with an `Origin` must have been made by the admin API
//! itself.
//!
//! # The page
//!
//! With the feature `ui` the admin port has a page that shows the exchange: `Exchange::ui_url`,
//! `Exchange::open_ui`, `kalshi-sim --open`. What it shows is read from the state ten times a second
//! at most, as values, and nothing that it does changes a run: the same commands give the same state
//! with a page and without. It asks for the token of its address. With `KALSHI_SIM_HOLD=1` in the
//! environment, an exchange serves a page on threads of its own, and when a test panics it stays open
//! until Enter is pressed.
//!
//! # Reads that trail, and requests that are late
//!
//! By default everything is readable at once, which the exchange does not promise. With a [`Lag`]
//! ([`ExchangeBuilder::with_lag`], `kalshi-sim --lag realistic`) orders, fills, positions,
//! settlements and balances are shown as they were a moment ago, and
//! `GET /exchange/user_data_timestamp` says when. [`FaultKind::Late`] and
//! [`FaultKind::Overtaken`] carry a request out after its answer said that it timed out. A program
//! that passes its tests with both has learned to wait.
//!
//! # What is not known
//!
//! Where the exchange's documents are silent, or contradict each other, [`Rules`] decide. By
//! default they do what is safer to test against: what passes then, passes either way.
//!
//! | Rule | By default | With the rule |
//! |---|---|---|
//! | [`reuse_client_order_ids`](Rules::reuse_client_order_ids) | a client order id is used up for ever | it is free again when its order is over |
//! | [`cancel_all_again_after`](Rules::cancel_all_again_after) | a cancel-all takes what rests when it comes | it comes once more within the next minute |
//! | [`longest_salt`](Rules::longest_salt) | RSA signatures have a salt of 32 bytes | the longest possible one is taken, too |
//! | [`empty_objects`](Rules::empty_objects) | answers without a documented body are empty | they are `{}` |
//! | [`ignore_unknown_fields`](Rules::ignore_unknown_fields) | an unknown field of a body is refused | it is ignored |
//! | [`lenient_numbers`](Rules::lenient_numbers) | numbers in another form than documented are refused | `+1`, `.5`, `5.` and `00.50` are taken |
//! | [`subtrader_keys_read`](Rules::subtrader_keys_read) | a key that is bound to a subtrader may use no operation | it may read what is its subtrader's |
//!
//! # What it refuses to do
//!
//! It binds 127.0.0.1 and nothing else. Its state is a pure machine: sockets and the clock are a
//! shell around it. Bodies over 1 MiB are refused before they are sent, requests that stop in the
//! middle end after a minute, and the log of requests keeps the last 1,000.
//!
//! A stream client that asks for more than it reads is not served until it reads: while 256 KiB
//! wait for it, its commands are left unread. Messages that wait for a slow reader end its
//! subscription with error 25 when there are 4 MiB or 100,000 of them. What breaks the protocol of
//! the streams is answered by a close frame: 1002, 1007 or 1009.
//!
//! Requests are read strictly: bodies that are no objects are refused, and by the default
//! [`Rules`] unknown fields, prices without two to four decimals and counts with more than two, so
//! that what passes here is in the documented form. The removed writes below `/portfolio/orders`
//! answer 410.
//!
//! What the exchange does not document is decided here by what is safest to test against, and said
//! where it is decided. Not played: collateral returned across the markets of an event (its formula
//! is not published), the announced settlement floors, and fees of the type `flat`, which are zero.
//! What is passed on to CF Benchmarks has a payload of the simulator's own. The streams send every
//! message that the published document describes.

mod any_operation;
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
mod lag;
#[cfg(feature = "perps")]
mod perps;
mod random;
mod role;
mod rules;
mod shared;
mod state;
mod stream;
mod wire;

pub use crate::{
    control::{ControlError, EventFee, FeeFormula, MarketOutcome, MarketPlan},
    exchange::{
        ClockControl, Exchange, ExchangeBuilder, FaultControl, MarketControl, MemberControl,
        StartError, StreamControl, Target,
    },
    faults::{Fault, FaultBuilder, FaultKind, FaultReport},
    lag::{Lag, LagRange, ParseLagError},
    role::{DEFAULT_KEY_ID, Role},
    rules::Rules,
    shared::RequestRecord,
    state::limits::Tier,
    stream::{
        STREAM_PATH,
        faults::{Ending, StreamFaults},
        hub::StreamBacklog,
    },
};
#[cfg(feature = "perps")]
pub use crate::{
    exchange::{KlearControl, KlearToken, PerpsControl},
    perps::control::{CorporateAction, PerpsAssetClass, PerpsMarketPlan},
    stream::PERPS_STREAM_PATH,
};

/// The path below which the API is served.
pub const BASE_PATH: &str = "/trade-api/v2";

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[expect(missing_debug_implementations, reason = "exists for its documentation only")]
pub struct ReadmeDoctests;
