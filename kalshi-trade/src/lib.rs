//! Orders on the Kalshi exchange, over `kalshi-sdk` and `kalshi-ws`.
//!
//! - [`budget`] sends requests within the rate limits, the urgent ones first.
//! - [`retry`] repeats what is safe to repeat.

pub mod budget;
pub mod candles;
pub mod close;
pub mod direction;
pub mod fees;
pub mod history;
pub mod pause;
pub mod quoting;
pub mod retry;
pub mod risk;
pub mod tick;
pub mod watchdog;

/// The README's examples run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[expect(missing_debug_implementations, reason = "exists for its documentation only")]
pub struct ReadmeDoctests;
