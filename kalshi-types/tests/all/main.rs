//! One binary for all tests of the crate.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod arithmetic;
#[cfg(feature = "rust_decimal")]
mod decimal;
mod grid;
mod model;
mod parse;
mod print;
mod wire;

use kalshi_types::{Count, Dollars};

fn dollars(text: &str) -> Dollars {
    text.parse().unwrap()
}

fn count(text: &str) -> Count {
    text.parse().unwrap()
}
