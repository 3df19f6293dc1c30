//! Orders on the Kalshi exchange, over `kalshi-sdk` and `kalshi-ws`.
//!
//! - [`budget`] sends requests within the rate limits, the urgent ones first.

pub mod budget;
