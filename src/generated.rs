//! The generated half: the only door to it, and the only place with lint allowances.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::str_to_string,
    clippy::missing_errors_doc,
    clippy::large_futures,
    deprecated,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    unused_mut,
    reason = "progenitor's output, which nobody edits"
)]

include!(concat!(env!("OUT_DIR"), "/generated.rs"));

/// The same of the perps API.
#[cfg(feature = "perps")]
pub mod perps {
    include!(concat!(env!("OUT_DIR"), "/perps_generated.rs"));

    /// The other half, for servers.
    #[cfg(feature = "server")]
    pub mod server {
        include!(concat!(env!("OUT_DIR"), "/perps_handlers.rs"));
    }
}

/// The same of the Klear API.
#[cfg(feature = "klear")]
pub mod klear {
    include!(concat!(env!("OUT_DIR"), "/klear_generated.rs"));

    /// The other half, for servers.
    #[cfg(feature = "server")]
    pub mod server {
        include!(concat!(env!("OUT_DIR"), "/klear_handlers.rs"));
    }
}

/// The other half, for servers: a trait with one method for each operation.
#[cfg(feature = "server")]
pub mod server {
    include!(concat!(env!("OUT_DIR"), "/handlers.rs"));
}
