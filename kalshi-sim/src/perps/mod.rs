//! Perpetual futures: an engine, its operations and its control of their own, beside those of event
//! contracts. What both products share is used from there: matching, order groups, books, requests,
//! signatures.

pub(crate) mod api;
pub(crate) mod control;
pub(crate) mod engine;
mod fixtures;
pub(crate) mod klear;
pub(crate) mod messages;
pub(crate) mod state;
pub(crate) mod wire;
