//! Exact money, contract counts and price grids of the Kalshi exchange.

#![warn(clippy::float_arithmetic)]

#[macro_use]
mod quantity;
mod count;
mod dollars;
mod error;
mod text;

pub use crate::{
    count::Count,
    dollars::Dollars,
    error::{ParseError, ParseErrorKind},
};
