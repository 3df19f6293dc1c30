//! Streams: what the exchange sends over `/trade-api/ws/v2`.
//!
//! [`session`] is pure: a client's commands and the engine's events go in, frames come out, one
//! session for each connection. [`wire`] writes the messages, [`shard`] splits a channel over
//! several connections. [`hub`] keeps the sessions and their bounded queues, and plays faults;
//! [`shell`] is the sockets, [`product`] what differs between event contracts and perpetual futures.
//! With the feature `ui`, `journal` keeps who was told of what.

pub(crate) mod faults;
pub(crate) mod hub;
#[cfg(feature = "ui")]
pub(crate) mod journal;
pub(crate) mod product;
pub(crate) mod session;
mod shard;
pub(crate) mod shell;
mod wire;

/// The path of the streams, as it is signed.
pub const STREAM_PATH: &str = "/trade-api/ws/v2";

/// The path of the streams of perpetual futures, as it is signed.
#[cfg(feature = "perps")]
pub const PERPS_STREAM_PATH: &str = "/trade-api/ws/v2/margin";
