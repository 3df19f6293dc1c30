//! Sums of money and contracts.
//!
//! What an account can hold and what an order can ask for is bounded ([`MAX_CASH`], [`MAX_COUNT`]),
//! far below the range of the types, so no sum here can leave it. Should one all the same, it
//! stops at the end of the range: wrong in a test that then fails, instead of a panic.

use kalshi_types::{Count, Dollars};

/// The most money that an account may be given: a billion dollars.
pub(crate) const MAX_CASH: Dollars = Dollars::from_micros(1_000_000_000_000_000);
/// The largest order, and the largest sum of one account's resting orders: 100 million contracts.
pub(crate) const MAX_COUNT: Count = Count::from_hundredths(10_000_000_000);

/// Arithmetic that stops at the end of the range, for sums that are bounded elsewhere.
pub(crate) trait SaturatingArithmetic: Copy + Ord {
    /// Returns the sum, or the largest or smallest value that there is.
    fn saturating_add(self, other: Self) -> Self;
    /// Returns the difference, or the largest or smallest value that there is.
    fn saturating_sub(self, other: Self) -> Self;
}

impl SaturatingArithmetic for Dollars {
    fn saturating_add(self, other: Self) -> Self {
        Self::from_micros(self.as_micros().saturating_add(other.as_micros()))
    }

    fn saturating_sub(self, other: Self) -> Self {
        Self::from_micros(self.as_micros().saturating_sub(other.as_micros()))
    }
}

impl SaturatingArithmetic for Count {
    fn saturating_add(self, other: Self) -> Self {
        Self::from_hundredths(self.as_hundredths().saturating_add(other.as_hundredths()))
    }

    fn saturating_sub(self, other: Self) -> Self {
        Self::from_hundredths(self.as_hundredths().saturating_sub(other.as_hundredths()))
    }
}

/// Returns price times count. Prices have four decimals here and counts two, so the product is
/// exact.
pub(crate) fn cost(price: Dollars, count: Count) -> Dollars {
    scaled(price, count.as_hundredths(), Count::ONE.as_hundredths())
}

/// Returns what the contracts pay if each pays a dollar.
pub(crate) fn payout(count: Count) -> Dollars {
    cost(Dollars::ONE, count)
}

/// Returns the price of the opposite leg.
pub(crate) fn other_leg(price: Dollars) -> Dollars {
    Dollars::ONE.saturating_sub(price)
}

/// Returns `amount × part ÷ whole`, cut towards zero; 0 if the whole is.
pub(crate) fn share(amount: Dollars, part: Count, whole: Count) -> Dollars {
    scaled(amount, part.as_hundredths(), whole.as_hundredths())
}

fn scaled(amount: Dollars, part: i64, whole: i64) -> Dollars {
    if whole == 0 {
        return Dollars::ZERO;
    }
    // Nearly always small enough for the division that is fast.
    if let Some(product) = amount.as_micros().checked_mul(part) {
        return Dollars::from_micros(product / whole);
    }
    let exact = i128::from(amount.as_micros()) * i128::from(part) / i128::from(whole);
    Dollars::from_micros(i64::try_from(exact).unwrap_or(if exact < 0 {
        i64::MIN
    } else {
        i64::MAX
    }))
}
