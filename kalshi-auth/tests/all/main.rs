//! One binary for all tests of the crate.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod clock;
mod credentials;
mod debug;
#[cfg(feature = "exchange")]
mod exchange;
mod helpers;
mod keys;
#[cfg(feature = "middleware")]
mod middleware;
#[cfg(feature = "middleware")]
mod origin;
mod robustness;
mod sign_example;
mod signing;
mod vectors;
