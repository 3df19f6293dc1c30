//! The operations, one module per family of the operation table.
//!
//! Each has one function, `handle`: the state and a checked request go in, an answer comes out.

pub(crate) mod account;
pub(crate) mod api_keys;
pub(crate) mod communications;
pub(crate) mod events;
pub(crate) mod exchange;
pub(crate) mod market;
pub(crate) mod order_groups;
pub(crate) mod orders;
pub(crate) mod portfolio;
