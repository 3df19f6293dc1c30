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

/// The other half, for servers: a trait with one method for each operation.
#[cfg(feature = "server")]
pub mod server {
    include!(concat!(env!("OUT_DIR"), "/handlers.rs"));
}
