//! Arithmetic of margin: whole micro-dollars, whole hundredths of a contract, and rates in parts of
//! a trillion. Every division says in which direction it rounds.

use std::fmt;

use kalshi_types::{Count, Decimal, Dollars};
use serde::{Deserialize, Serialize};

use crate::engine::amount::SaturatingArithmetic;

/// The step in which fees, funding and dividends move cash: 10⁻⁴ dollars.
pub(crate) const STEP: i128 = 100;
/// The most that an order, or a position at its mark, may be worth: ten billion dollars.
pub(crate) const MAX_NOTIONAL: Dollars = Dollars::from_micros(10_000_000_000_000_000);
/// The highest price: ten million dollars.
pub(crate) const MAX_PRICE: Dollars = Dollars::from_micros(10_000_000_000_000);

/// A fraction in parts of 10¹²: a funding rate or a premium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Rate(i64);

impl Rate {
    pub(crate) const ZERO: Self = Self(0);
    /// The parts of one.
    pub(crate) const ONE: i128 = 1_000_000_000_000;
    /// A thousand, in either direction: the most that is kept.
    const MOST: i64 = 1_000_000_000_000_000;

    /// Returns a rate of so many parts of 10¹², cut at a thousand.
    pub(crate) fn new(parts: i128) -> Self {
        let most = i128::from(Self::MOST);
        Self(i64::try_from(parts.clamp(-most, most)).unwrap_or_default())
    }

    pub(crate) fn parts(self) -> i128 {
        i128::from(self.0)
    }

    /// Returns it as an exact decimal number.
    pub(crate) fn decimal(self) -> Decimal {
        Decimal::new(self.parts(), 12).unwrap_or_default()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.decimal().fmt(f)
    }
}

pub(crate) fn negated(amount: Dollars) -> Dollars {
    Dollars::ZERO.saturating_sub(amount)
}

pub(crate) fn opposite(count: Count) -> Count {
    Count::ZERO.saturating_sub(count)
}

/// Returns a count without its sign.
pub(crate) fn size(count: Count) -> Count {
    count.checked_abs().unwrap_or(Count::MAX)
}

/// Returns an amount of micro-dollars; the end of the range if it is beyond.
pub(crate) fn micros(amount: i128) -> Dollars {
    Dollars::from_micros(i64::try_from(amount).unwrap_or(if amount < 0 {
        i64::MIN
    } else {
        i64::MAX
    }))
}

/// Returns `amount × numerator ÷ denominator`, rounded up; 0 if the denominator is.
pub(crate) fn part_up(amount: Dollars, numerator: i128, denominator: i128) -> Dollars {
    let product = i128::from(amount.as_micros()).saturating_mul(numerator);
    micros(divide_up(product, denominator))
}

/// Returns a quotient, rounded up; 0 if the divisor is.
pub(crate) fn divide_up(number: i128, by: i128) -> i128 {
    if by == 0 { 0 } else { -(-number).div_euclid(by) }
}

/// Returns a quotient, rounded down; 0 if the divisor is.
pub(crate) fn divide_down(number: i128, by: i128) -> i128 {
    if by == 0 { 0 } else { number.div_euclid(by) }
}

/// Returns the cash that a member gets of an amount in parts of a micro-dollar: whole steps of 10⁻⁴
/// dollars, rounded down, so that a payer pays the next step. What is cut off goes to the insurance
/// fund.
pub(crate) fn credited(parts: i128, parts_of_a_micro: i128) -> Dollars {
    micros(divide_down(parts, parts_of_a_micro.saturating_mul(STEP)).saturating_mul(STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisions_round_as_they_say_on_both_sides_of_zero() {
        for (number, by, down, up) in [
            (7, 2, 3, 4),
            (-7, 2, -4, -3),
            (8, 2, 4, 4),
            (-8, 2, -4, -4),
            (1, 100, 0, 1),
            (-1, 100, -1, 0),
            (5, 0, 0, 0),
        ] {
            assert_eq!(
                (divide_down(number, by), divide_up(number, by)),
                (down, up),
                "{number}/{by}"
            );
        }
        assert_eq!(credited(1_999_999, 100), Dollars::from_micros(19_900));
        assert_eq!(credited(-1, 100), Dollars::from_micros(-100), "who pays, pays a whole step");
        assert_eq!(micros(i128::MAX), Dollars::MAX);
    }

    #[test]
    fn a_rate_prints_as_the_decimal_that_it_is() {
        assert_eq!(Rate::new(100_000_000).to_string(), "0.0001");
        assert_eq!(Rate::new(-12_500_000_000).to_string(), "-0.0125");
        assert_eq!(Rate::new(i128::MAX).to_string(), "1000");
    }
}
