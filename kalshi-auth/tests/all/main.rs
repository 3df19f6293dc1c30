//! One binary for all tests of the crate.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod clock;
mod credentials;
mod debug;
mod environment;
mod helpers;
mod keys;
#[cfg(feature = "middleware")]
mod middleware;
#[cfg(feature = "middleware")]
mod origin;
mod robustness;
#[cfg(feature = "server")]
mod server;
mod sign_example;
mod signing;
mod vectors;
