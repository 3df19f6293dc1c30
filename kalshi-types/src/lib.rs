//! Exact money, contract counts, times and price grids of the Kalshi exchange.
//!
//! - [`Dollars`] is an amount of money or a price, in units of 10^-6 USD.
//! - [`Count`] is a number of contracts, in units of 10^-2 contracts.
//! - [`Decimal`] is a number without a unit: a fee multiplier, a rate, a strike.
//! - [`Exact`] is the result of `+`, `-` and `*` on money and counts, and [`Rounding`] the way in
//!   which a product with a decimal is rounded.
//! - [`PriceGrid`] says which prices a market accepts, and finds the nearest ones.
//! - [`BookSide`], [`PriceLevel`], [`UnixSeconds`], [`UnixMillis`], [`open_enum!`] and [`wire`] are
//!   what else the generated types of all surfaces share.
//!
//! The numbers are exact. A text that a type cannot hold is refused rather than rounded, an overflow
//! is an error, and there is no floating point.
//!
//! ```
//! use kalshi_types::{Count, Dollars};
//!
//! let price: Dollars = "0.5600".parse()?;
//! let count: Count = "10.00".parse()?;
//! let cost = (price * count).get()?;
//! assert_eq!(cost, "5.60".parse()?);
//!
//! let total: Dollars = (cost + Dollars::CENT).get()?;
//! assert_eq!(total.to_string(), "5.6100");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is not here
//!
//! - No type of its own for prices. Whether an amount is a price depends on the market, and a
//!   [`PriceGrid`] is what knows. A `Price` would have to be converted in nearly every formula
//!   (cost, profit, fee, complement) and could promise no more than "between zero and one".
//! - No operator that panics or wraps. `+`, `-` and `*` return an [`Exact`], which is checked once at
//!   the end; `checked_add` and its siblings return an `Option` at each step.
//! - No fees: they are a matter of rules that change, not of numbers.
//! - No input or output, and no knowledge of endpoints.
//!
//! # Features
//!
//! - `centi-units`: the integer units of some interfaces, `CentiCents` and `CentiCount`. Off by default.
//! - `chrono`: conversions of [`UnixSeconds`] and [`UnixMillis`] to and from `chrono::DateTime`, and
//!   reading RFC 3339 times. Off by default.
//! - `rust_decimal`: conversions of [`Dollars`] and [`Count`] to and from `rust_decimal::Decimal`.
//!   Off by default.

#![warn(clippy::float_arithmetic)]

#[macro_use]
mod quantity;
#[macro_use]
mod open_enum;
#[doc(hidden)]
pub mod builder;
#[cfg(feature = "centi-units")]
mod centi;
mod count;
mod decimal;
mod dollars;
mod error;
mod exact;
mod grid;
mod level;
#[cfg(feature = "rust_decimal")]
mod rust_decimal;
mod side;
mod text;
mod time;
pub mod wire;

#[cfg(feature = "centi-units")]
pub use crate::centi::{CentiCents, CentiCount};
pub use crate::{
    count::Count,
    decimal::{Decimal, Rounding},
    dollars::Dollars,
    error::{ParseError, ParseErrorKind},
    exact::{ArithmeticError, Exact},
    grid::{GridError, GridErrorKind, PriceError, PriceGrid, PriceRange, Ticks},
    level::PriceLevel,
    side::BookSide,
    time::{UnixMillis, UnixSeconds},
};

/// Used by the macros of this crate.
#[doc(hidden)]
pub mod __private {
    pub use serde;

    pub use crate::open_enum::FromText;
}

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[expect(missing_debug_implementations, reason = "exists for its documentation only")]
pub struct ReadmeDoctests;
