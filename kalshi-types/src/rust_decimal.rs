//! Conversions to and from [`Decimal`], behind the feature `rust_decimal`.

use ::rust_decimal::Decimal;

use crate::{
    count::Count,
    dollars::Dollars,
    error::{ParseError, ParseErrorKind, Quantity},
};

/// Exact, with six decimals.
impl From<Dollars> for Decimal {
    fn from(dollars: Dollars) -> Self {
        Self::new(dollars.as_micros(), 6)
    }
}

/// Exact, with two decimals.
impl From<Count> for Decimal {
    fn from(count: Count) -> Self {
        Self::new(count.as_hundredths(), 2)
    }
}

/// Exact: fails rather than round.
impl TryFrom<Decimal> for Dollars {
    type Error = ParseError;

    fn try_from(decimal: Decimal) -> Result<Self, ParseError> {
        match units(decimal, 6) {
            Ok(micros) => Ok(Self::from_micros(micros)),
            Err(kind) => Err(ParseError::new(Quantity::Dollars, kind)),
        }
    }
}

/// Exact: fails rather than round.
impl TryFrom<Decimal> for Count {
    type Error = ParseError;

    fn try_from(decimal: Decimal) -> Result<Self, ParseError> {
        match units(decimal, 2) {
            Ok(hundredths) => Ok(Self::from_hundredths(hundredths)),
            Err(kind) => Err(ParseError::new(Quantity::Count, kind)),
        }
    }
}

/// Returns the number of units of `10^-decimals`.
fn units(decimal: Decimal, decimals: u32) -> Result<i64, ParseErrorKind> {
    // 96 bits and at most 28 decimals, so that neither power nor product overflows an i128.
    let mantissa = decimal.mantissa();
    let scale = decimal.scale();
    let units = if scale <= decimals {
        mantissa.saturating_mul(10_i128.saturating_pow(decimals - scale))
    } else {
        let excess = 10_i128.saturating_pow(scale - decimals);
        if mantissa % excess != 0 {
            return Err(ParseErrorKind::TooManyDecimals);
        }
        mantissa / excess
    };
    i64::try_from(units).map_err(|_| ParseErrorKind::OutOfRange)
}
