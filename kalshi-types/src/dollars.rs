use crate::count::Count;

/// An amount of US dollars: a price, a balance, a fee, a profit or loss.
///
/// The unit is 10^-6 USD, the finest that the exchange uses, and the range is that of an `i64`:
/// about ±9.2 trillion dollars. Arithmetic is checked and exact: `+`, `-` and `*` return an
/// [`Exact`](crate::Exact), and nothing rounds unless its name says so.
///
/// Setters of builders take text as well: write `.price("0.56")`. (`.price("0.56".parse()?)` does not
/// compile, because the setter takes several types and the compiler cannot tell which is meant.)
///
/// # Text
///
/// The wire form is a decimal string. It is printed with at least four and at most six decimals.
/// It is read as an optional sign (`-` or `+`), digits, and optionally a point and more digits, at
/// most 64 bytes; there must be a digit before or after the point. More than six decimals are
/// accepted only if the rest are zeros. Spaces, exponents, separators and currency signs are not
/// accepted.
///
/// ```
/// use kalshi_types::Dollars;
///
/// let price: Dollars = "0.56".parse()?;
/// assert_eq!(price, Dollars::from_micros(560_000));
/// assert_eq!(price.to_string(), "0.5600");
/// assert_eq!("-0.560001".parse::<Dollars>()?.to_string(), "-0.560001");
/// assert!("0.5600001".parse::<Dollars>().is_err());
/// # Ok::<(), kalshi_types::ParseError>(())
/// ```
///
/// # Serde
///
/// Serializes as a string. Deserializes from a string, or from an integer, which means whole
/// dollars. A number with a fraction is refused: it reaches us as a binary float, and what it was
/// before can only be guessed.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dollars(i64);

impl Dollars {
    /// One dollar, the payout of a winning contract.
    pub const ONE: Self = Self(1_000_000);

    /// One cent.
    pub const CENT: Self = Self(10_000);

    /// Returns an amount of 10^-6 USD. Every value is possible.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the amount in 10^-6 USD.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns an amount of 10^-4 USD, the "centi-cents" of some integer fields, or `None` when it is
    /// out of range.
    pub const fn from_centi_cents(centi_cents: i64) -> Option<Self> {
        Self(100).checked_mul(centi_cents)
    }

    /// Returns an amount of cents, or `None` when it is out of range.
    pub const fn from_cents(cents: i64) -> Option<Self> {
        Self::CENT.checked_mul(cents)
    }

    /// Returns an amount of whole dollars, or `None` when it is out of range.
    pub const fn from_dollars(dollars: i64) -> Option<Self> {
        Self::ONE.checked_mul(dollars)
    }

    /// Returns the amount in 10^-4 USD, or `None` when it is not a whole number of those.
    pub const fn to_centi_cents(self) -> Option<i64> {
        self.in_units_of(100)
    }

    /// Returns the amount in cents, or `None` when it is not a whole number of cents.
    pub const fn to_cents(self) -> Option<i64> {
        self.in_units_of(Self::CENT.0)
    }

    /// Returns the largest multiple of `step` that is not above this amount, towards minus infinity.
    /// `None` when the step is not above zero, or the result is out of range.
    ///
    /// ```
    /// use kalshi_types::Dollars;
    ///
    /// let change: Dollars = "-0.0585".parse()?;
    /// assert_eq!(change.floor_to(Dollars::CENT), Some("-0.06".parse()?));
    /// # Ok::<(), kalshi_types::ParseError>(())
    /// ```
    #[must_use = "the rounded amount is returned, not stored"]
    pub const fn floor_to(self, step: Self) -> Option<Self> {
        if step.0 <= 0 {
            return None;
        }
        self.checked_sub(Self(self.0.rem_euclid(step.0)))
    }

    /// Returns the smallest multiple of `step` that is not below this amount, towards plus infinity.
    /// `None` when the step is not above zero, or the result is out of range.
    ///
    /// ```
    /// use kalshi_types::Dollars;
    ///
    /// let fee: Dollars = "0.008425".parse()?;
    /// assert_eq!(fee.ceil_to(Dollars::from_micros(100)), Some("0.0085".parse()?));
    /// # Ok::<(), kalshi_types::ParseError>(())
    /// ```
    #[must_use = "the rounded amount is returned, not stored"]
    pub const fn ceil_to(self, step: Self) -> Option<Self> {
        if step.0 <= 0 {
            return None;
        }
        match self.0.rem_euclid(step.0) {
            0 => Some(self),
            above => self.checked_add(Self(step.0 - above)),
        }
    }

    /// Returns the price of the other side: one dollar less this amount. `None` when it is out of
    /// range, which no price between zero and one is.
    ///
    /// ```
    /// use kalshi_types::Dollars;
    ///
    /// let no: Dollars = "0.4400".parse()?;
    /// assert_eq!(no.complement(), Some("0.5600".parse()?));
    /// # Ok::<(), kalshi_types::ParseError>(())
    /// ```
    #[must_use = "the complement is returned, not stored"]
    pub const fn complement(self) -> Option<Self> {
        Self::ONE.checked_sub(self)
    }

    /// Returns the cost of `count` contracts at this price. `None` when the product is out of range or
    /// is not a whole number of 10^-6 USD; it is never rounded.
    ///
    /// A price of at most four decimals has an exact product with every count.
    ///
    /// ```
    /// use kalshi_types::{Count, Dollars};
    ///
    /// let price: Dollars = "0.3301".parse()?;
    /// let count: Count = "0.03".parse()?;
    /// assert_eq!(price.checked_mul_count(count), Some("0.009903".parse()?));
    ///
    /// let finer: Dollars = "0.330101".parse()?;
    /// assert_eq!(finer.checked_mul_count(count), None);
    /// # Ok::<(), kalshi_types::ParseError>(())
    /// ```
    #[must_use = "the product is returned, not stored"]
    pub fn checked_mul_count(self, count: Count) -> Option<Self> {
        let product = i128::from(self.0) * i128::from(count.as_hundredths());
        if product % 100 != 0 {
            return None;
        }
        i64::try_from(product / 100).ok().map(Self)
    }

    const fn in_units_of(self, unit: i64) -> Option<i64> {
        if self.0 % unit == 0 { Some(self.0 / unit) } else { None }
    }
}

quantity!(
    Dollars,
    decimals: 6,
    at_least: 4,
    expecting: "a dollar amount as a string, such as \"0.5600\"",
    float: "dollar amount is a number with a fraction, which a binary float cannot hold exactly; \
            expected a string",
);
