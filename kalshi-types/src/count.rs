/// A number of contracts: the size of an order, a trade or a position, or a change of one.
///
/// The unit is 10^-2 contracts, the finest that the exchange trades, and the range is that of an
/// `i64`. Arithmetic is checked and exact: `+`, `-` and `*` return an [`Exact`](crate::Exact).
///
/// # Text
///
/// The wire form is a decimal string. It is printed with exactly two decimals. It is read like
/// [`Dollars`](crate::Dollars), but with at most two decimals other than zero.
///
/// ```
/// use kalshi_types::Count;
///
/// let count: Count = "10".parse()?;
/// assert_eq!(count, Count::from_hundredths(1_000));
/// assert_eq!(count.to_string(), "10.00");
/// assert!("10.005".parse::<Count>().is_err());
/// # Ok::<(), kalshi_types::ParseError>(())
/// ```
///
/// # Serde
///
/// Serializes as a string. Deserializes from a string, or from an integer, which means whole
/// contracts. A number with a fraction is refused, as for [`Dollars`](crate::Dollars).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(i64);

impl Count {
    /// One contract.
    pub const ONE: Self = Self(100);

    /// Returns a number of 10^-2 contracts, the "centi-counts" of some integer fields. Every value
    /// is possible.
    pub const fn from_hundredths(hundredths: i64) -> Self {
        Self(hundredths)
    }

    /// Returns the number of 10^-2 contracts.
    pub const fn as_hundredths(self) -> i64 {
        self.0
    }

    /// Returns a number of whole contracts, or `None` when it is out of range.
    pub const fn from_contracts(contracts: i64) -> Option<Self> {
        Self::ONE.checked_mul(contracts)
    }

    /// Returns the number of contracts, or `None` when it is not a whole number.
    pub const fn to_contracts(self) -> Option<i64> {
        if self.0 % Self::ONE.0 == 0 { Some(self.0 / Self::ONE.0) } else { None }
    }
}

quantity!(
    Count,
    decimals: 2,
    at_least: 2,
    expecting: "a contract count as a string, such as \"10.00\"",
    float: "contract count is a number with a fraction, which a binary float cannot hold exactly; \
            expected a string",
);
