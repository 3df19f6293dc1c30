//! HTTP. [`request`], [`response`], [`query`], [`paging`] and [`lenient`] are plain values, which every layer
//! above the engine uses; the other modules are the sockets, the top of the crate.

pub(crate) mod admin;
pub(crate) mod connection;
pub(crate) mod fault_injection;
pub(crate) mod lenient;
pub(crate) mod paging;
pub(crate) mod query;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod server;
#[cfg(feature = "ui")]
pub(crate) mod ui;
