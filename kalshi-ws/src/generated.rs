//! The generated half: the only door to it, and the only place with lint allowances.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::str_to_string,
    clippy::missing_errors_doc,
    deprecated,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    unused_mut,
    reason = "typify's output, which nobody edits"
)]

include!(concat!(env!("OUT_DIR"), "/generated.rs"));

/// The same of the streams of perpetual futures.
#[cfg(feature = "perps")]
pub mod perps {
    include!(concat!(env!("OUT_DIR"), "/perps_generated.rs"));
}
