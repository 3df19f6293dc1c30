//! Exact money, contract counts and price grids of the Kalshi exchange.
//!
//! - [`Dollars`] is an amount of money or a price, in units of 10^-6 USD.
//! - [`Count`] is a number of contracts, in units of 10^-2 contracts.
//! - [`PriceGrid`] says which prices a market accepts, and finds the nearest ones.
//! - [`BookSide`], [`PriceLevel`], [`UnixSeconds`], [`UnixMillis`], [`open_enum!`] and [`wire`] are what else the
//!   generated types of all surfaces share.
//!
//! The numbers are exact. A text that a type cannot hold is refused rather than rounded, arithmetic
//! answers `None` rather than overflow, and there is no floating point.
//!
//! ```
//! use kalshi_types::{Count, Dollars};
//!
//! let price: Dollars = "0.5600".parse()?;
//! let count: Count = "10.00".parse()?;
//! let cost = price.checked_mul_count(count);
//! assert_eq!(cost, Some("5.60".parse()?));
//!
//! let total: Option<Dollars> = [price, Dollars::CENT].iter().sum();
//! assert_eq!(total, Some("0.57".parse()?));
//! # Ok::<(), kalshi_types::ParseError>(())
//! ```
//!
//! # What is not here
//!
//! - No type of its own for prices. Whether an amount is a price depends on the market, and a
//!   [`PriceGrid`] is what knows. A `Price` would have to be converted in nearly every formula
//!   (cost, profit, fee, complement) and could promise no more than "between zero and one".
//! - No `+`, `-` or `*`. The standard operators panic or wrap on overflow, depending on how the
//!   program was built. Use `checked_add` and its siblings, and `sum` for many items.
//! - No fees: they are a matter of rules that change, not of numbers.
//! - No input or output, and no knowledge of endpoints.
//!
//! # Features
//!
//! - `chrono`: conversions of [`UnixSeconds`] and [`UnixMillis`] to and from `chrono::DateTime`, and
//!   reading RFC 3339 times. Off by default.
//! - `rust_decimal`: conversions to and from `rust_decimal::Decimal`. Off by default.

#![warn(clippy::float_arithmetic)]

#[macro_use]
mod quantity;
#[macro_use]
mod open_enum;
#[doc(hidden)]
pub mod builder;
mod count;
#[cfg(feature = "rust_decimal")]
mod decimal;
mod dollars;
mod error;
mod grid;
mod level;
mod side;
mod text;
mod time;
pub mod wire;

pub use crate::{
    count::Count,
    dollars::Dollars,
    error::{ParseError, ParseErrorKind},
    grid::{GridError, GridErrorKind, PriceGrid, PriceRange, Ticks},
    level::PriceLevel,
    side::BookSide,
    time::{UnixMillis, UnixSeconds},
};

/// For the macros of this crate.
#[doc(hidden)]
pub mod __private {
    pub use serde;

    pub use crate::open_enum::FromText;
}
