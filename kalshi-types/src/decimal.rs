//! Exact decimals: rates, multipliers, strikes.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    count::Count,
    dollars::Dollars,
    error::{ParseError, ParseErrorKind, Quantity},
    exact::ArithmeticError,
};

/// The most decimals. 10^36 fits an i128 with room for one digit.
const MAX_DECIMALS: u32 = 36;

/// An exact decimal without a unit: a fee multiplier, a rate, a strike.
///
/// It has at most 36 decimals, and its digits fit an `i128`. Values that are equal have one form:
/// `1.50` is `1.5`.
///
/// ```
/// use kalshi_types::{Decimal, Dollars, Rounding};
///
/// let multiplier: Decimal = "0.5".parse()?;
/// let rate: Decimal = "0.07".parse()?;
/// let rate = rate.checked_mul(multiplier).ok_or("out of range")?;
/// assert_eq!(rate.to_string(), "0.035");
///
/// let notional: Dollars = "12.3456".parse()?;
/// assert_eq!(notional.mul_rounded(rate, Rounding::Ceil)?.to_string(), "0.432096");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Serde
///
/// Deserializes from a JSON number or from text, and serializes as a number. A number with a
/// fraction reaches this type as a binary float. It is read as the shortest decimal that stands for
/// that float, which is the text that was sent, as long as that had at most 15 significant digits;
/// all rates of the exchange have fewer. A value that no float stands for exactly is refused when
/// serializing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// Not a multiple of ten unless there are no decimals.
    digits: i128,
    decimals: u32,
}

/// The direction in which a result is rounded that lies between two possible ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rounding {
    /// Down, towards minus infinity: −1.5 becomes −2.
    Floor,
    /// Up, towards plus infinity: −1.5 becomes −1.
    Ceil,
    /// Towards zero: cuts off.
    TowardZero,
    /// Away from zero.
    AwayFromZero,
    /// To the nearest, and from the middle to the even one.
    HalfEven,
    /// To the nearest, and from the middle away from zero.
    HalfAwayFromZero,
}

impl Rounding {
    /// Divides by a number above zero.
    pub(crate) fn divide(self, number: i128, by: i128) -> i128 {
        let (down, rest) = (number.div_euclid(by), number.rem_euclid(by));
        if rest == 0 {
            return down;
        }
        let up = match self {
            Self::Floor => false,
            Self::Ceil => true,
            Self::TowardZero => number < 0,
            Self::AwayFromZero => number > 0,
            // Neither side can overflow: `rest` is below `by`.
            Self::HalfEven | Self::HalfAwayFromZero => match rest.cmp(&(by - rest)) {
                Ordering::Less => false,
                Ordering::Greater => true,
                Ordering::Equal if self == Self::HalfEven => down % 2 != 0,
                Ordering::Equal => number > 0,
            },
        };
        // It was not divided without rest, so there is room above.
        if up { down + 1 } else { down }
    }
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { digits: 0, decimals: 0 };

    /// One.
    pub const ONE: Self = Self { digits: 1, decimals: 0 };

    /// Returns `digits` divided by ten to the power of `decimals`, or `None` if it has more than 36
    /// decimals.
    ///
    /// ```
    /// use kalshi_types::Decimal;
    ///
    /// assert_eq!(Decimal::new(175, 4), "0.0175".parse().ok());
    /// ```
    pub const fn new(mut digits: i128, mut decimals: u32) -> Option<Self> {
        if digits == 0 {
            return Some(Self::ZERO);
        }
        while decimals > 0 && digits % 10 == 0 {
            digits /= 10;
            decimals -= 1;
        }
        if decimals > MAX_DECIMALS { None } else { Some(Self { digits, decimals }) }
    }

    /// Returns the digits, without trailing zeros behind the point: 175 for `0.0175`.
    pub const fn digits(self) -> i128 {
        self.digits
    }

    /// Returns the number of digits behind the point: 4 for `0.0175`.
    pub const fn decimals(self) -> u32 {
        self.decimals
    }

    /// Reports whether this is zero.
    pub const fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// Returns the exact product, or `None` if it is out of range or has more than 36 decimals.
    #[must_use = "the product is returned, not stored"]
    pub const fn checked_mul(self, factor: Self) -> Option<Self> {
        match self.digits.checked_mul(factor.digits) {
            Some(digits) => Self::new(digits, self.decimals + factor.decimals),
            None => None,
        }
    }

    /// Returns the exact sum, or `None` if it is out of range.
    #[must_use = "the sum is returned, not stored"]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let decimals = self.decimals.max(other.decimals);
        let sum = self.in_units(decimals)?.checked_add(other.in_units(decimals)?)?;
        Self::new(sum, decimals)
    }

    /// Returns the exact difference, or `None` if it is out of range.
    #[must_use = "the difference is returned, not stored"]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let decimals = self.decimals.max(other.decimals);
        let difference = self.in_units(decimals)?.checked_sub(other.in_units(decimals)?)?;
        Self::new(difference, decimals)
    }

    /// Returns the amount as dollars, rounded to 10^-6 USD.
    ///
    /// For formulas of several factors: multiply as decimals, and round once at the end.
    ///
    /// ```
    /// use kalshi_types::{Count, Decimal, Dollars, Rounding};
    ///
    /// // A taker's fee: rate × count × price × (1 − price).
    /// let (rate, price): (Decimal, Dollars) = ("0.07".parse()?, "0.55".parse()?);
    /// let count: Count = "0.21".parse()?;
    /// let fee = [count.into(), price.into(), (Dollars::ONE - price).get()?.into()]
    ///     .into_iter()
    ///     .try_fold(rate, Decimal::checked_mul)
    ///     .ok_or("out of range")?;
    /// assert_eq!(fee.to_string(), "0.00363825");
    /// assert_eq!(fee.to_dollars(Rounding::Ceil)?.to_string(), "0.003639");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ArithmeticError::OutOfRange`].
    pub fn to_dollars(self, rounding: Rounding) -> Result<Dollars, ArithmeticError> {
        self.rounded(6, rounding).map(Dollars::from_micros)
    }

    /// Returns the number as contracts, rounded to 10^-2 contracts.
    ///
    /// # Errors
    ///
    /// [`ArithmeticError::OutOfRange`].
    pub fn to_count(self, rounding: Rounding) -> Result<Count, ArithmeticError> {
        self.rounded(2, rounding).map(Count::from_hundredths)
    }

    fn rounded(self, decimals: u32, rounding: Rounding) -> Result<i64, ArithmeticError> {
        let units = if self.decimals <= decimals {
            self.in_units(decimals).ok_or(ArithmeticError::OutOfRange)?
        } else {
            // 10 to the 36th at most.
            rounding.divide(self.digits, 10_i128.pow(self.decimals - decimals))
        };
        i64::try_from(units).map_err(|_| ArithmeticError::OutOfRange)
    }

    /// Returns the number of units of `10^-decimals`, of which there are at least as many decimals.
    fn in_units(self, decimals: u32) -> Option<i128> {
        self.digits.checked_mul(10_i128.checked_pow(decimals.checked_sub(self.decimals)?)?)
    }

    fn parse(text: &str) -> Result<Self, ParseErrorKind> {
        if text.len() > 64 {
            return Err(ParseErrorKind::TooLong);
        }
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent),
            None => (text, "0"),
        };
        let (mut digits, mut decimals, mut any) = (0_i128, None::<i32>, false);
        for (position, byte) in number.bytes().enumerate() {
            match byte {
                b'-' | b'+' if position == 0 => {}
                b'.' if decimals.is_none() => decimals = Some(0),
                b'0'..=b'9' => {
                    any = true;
                    let digit = i128::from(byte - b'0');
                    digits = digits
                        .checked_mul(10)
                        .and_then(|digits| digits.checked_add(digit))
                        .ok_or(ParseErrorKind::OutOfRange)?;
                    decimals = decimals.map(|decimals| decimals + 1);
                }
                _ => return Err(ParseErrorKind::InvalidCharacter { position }),
            }
        }
        if !any {
            return Err(ParseErrorKind::Empty);
        }
        let exponent: i32 = exponent
            .parse()
            .map_err(|_| ParseErrorKind::InvalidCharacter { position: number.len() })?;
        if number.starts_with('-') {
            digits = -digits;
        }
        // At most 64, so that nothing overflows but what is refused anyway.
        match decimals.unwrap_or(0).saturating_sub(exponent) {
            _ if digits == 0 => Ok(Self::ZERO),
            decimals if decimals >= 0 => {
                Self::new(digits, decimals.unsigned_abs()).ok_or(ParseErrorKind::TooManyDecimals)
            }
            zeros => 10_i128
                .checked_pow(zeros.unsigned_abs())
                .and_then(|factor| digits.checked_mul(factor))
                .and_then(|digits| Self::new(digits, 0))
                .ok_or(ParseErrorKind::OutOfRange),
        }
    }
}

impl Dollars {
    /// Returns the product with a decimal, rounded to 10^-6 USD.
    ///
    /// # Errors
    ///
    /// [`ArithmeticError::OutOfRange`].
    pub fn mul_rounded(self, factor: Decimal, rounding: Rounding) -> Result<Self, ArithmeticError> {
        let product = i128::from(self.as_micros())
            .checked_mul(factor.digits)
            .ok_or(ArithmeticError::OutOfRange)?;
        let micros = rounding.divide(product, 10_i128.pow(factor.decimals));
        i64::try_from(micros).map(Self::from_micros).map_err(|_| ArithmeticError::OutOfRange)
    }

    /// Returns the nearest multiple of `step` in the direction of the rounding, such as whole cents
    /// for [`Dollars::CENT`].
    ///
    /// ```
    /// use kalshi_types::{Dollars, Rounding};
    ///
    /// let fee: Dollars = "0.0850".parse()?;
    /// assert_eq!(fee.round_to(Dollars::CENT, Rounding::HalfEven)?, "0.08".parse()?);
    /// assert_eq!(fee.round_to(Dollars::CENT, Rounding::Ceil)?, "0.09".parse()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ArithmeticError::NotPositive`] if the step is not above zero,
    /// [`ArithmeticError::OutOfRange`] if the result is out of range.
    pub fn round_to(self, step: Self, rounding: Rounding) -> Result<Self, ArithmeticError> {
        if step <= Self::ZERO {
            return Err(ArithmeticError::NotPositive);
        }
        let step = i128::from(step.as_micros());
        // Of two numbers below 2^64, so that it fits.
        let micros = rounding.divide(i128::from(self.as_micros()), step) * step;
        i64::try_from(micros).map(Self::from_micros).map_err(|_| ArithmeticError::OutOfRange)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let decimals = self.decimals.max(other.decimals);
        match (self.in_units(decimals), other.in_units(decimals)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // Only one is brought to finer units, and it is the one that is too large for them.
            (None, _) => self.digits.cmp(&0),
            (_, None) => 0.cmp(&other.digits),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The amount in dollars.
impl From<Dollars> for Decimal {
    fn from(dollars: Dollars) -> Self {
        let digits = i128::from(dollars.as_micros());
        Self::new(digits, 6).unwrap_or_default()
    }
}

/// The number of contracts.
impl From<Count> for Decimal {
    fn from(count: Count) -> Self {
        let digits = i128::from(count.as_hundredths());
        Self::new(digits, 2).unwrap_or_default()
    }
}

impl From<i64> for Decimal {
    fn from(whole: i64) -> Self {
        Self { digits: i128::from(whole), decimals: 0 }
    }
}

/// Prints all decimals, and no exponent.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits.unsigned_abs().to_string();
        let decimals = usize::try_from(self.decimals).unwrap_or(usize::MAX);
        let text = if decimals == 0 {
            digits
        } else {
            let padded = format!("{digits:0>width$}", width = decimals + 1);
            let (whole, fraction) = padded.split_at(padded.len() - decimals);
            format!("{whole}.{fraction}")
        };
        f.pad_integral(self.digits >= 0, "", &text)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decimal({self})")
    }
}

/// Reads an optional sign, digits with an optional point, and optionally an exponent (`1e-3`), in at
/// most 64 bytes.
impl FromStr for Decimal {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text).map_err(|kind| ParseError::new(Quantity::Decimal, kind))
    }
}

impl TryFrom<&str> for Decimal {
    type Error = ParseError;

    fn try_from(text: &str) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;

        if self.decimals == 0
            && let Ok(whole) = i64::try_from(self.digits)
        {
            return serializer.serialize_i64(whole);
        }
        match self.to_string().parse::<f64>() {
            Ok(float) if float_text(float).parse() == Ok(*self) => serializer.serialize_f64(float),
            _ => Err(S::Error::custom(format!("{self} has too many digits for a JSON number"))),
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Decimal, E> {
                Ok(whole.into())
            }

            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Decimal, E> {
                Ok(Decimal { digits: whole.into(), decimals: 0 })
            }

            fn visit_f64<E: de::Error>(self, float: f64) -> Result<Decimal, E> {
                if let Some(short) = short_decimal(float) {
                    return Ok(short);
                }
                float_text(float).parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Returns the shortest decimal that stands for a float, if it has at most 6 decimals and 15
/// digits: no two decimals of so few digits stand for one float.
#[expect(
    clippy::cast_possible_truncation,
    clippy::float_arithmetic,
    clippy::float_cmp,
    reason = "a whole number below 10^15, and the check that it stands for this very float"
)]
fn short_decimal(float: f64) -> Option<Decimal> {
    let mut power = 1.0;
    for decimals in 0..=6 {
        let digits = (float * power).round();
        if digits.abs() >= 1e15 {
            return None;
        }
        // Both are exact, so the quotient is the float nearest to the decimal.
        if digits / power == float {
            return Decimal::new(i128::from(digits as i64), decimals);
        }
        power *= 10.0;
    }
    None
}

/// Returns the shortest decimal that stands for a float.
fn float_text(float: f64) -> String {
    format!("{float:e}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn a_short_float_reads_as_its_text_does(
            digits in -999_999_999_999_999_i64..=999_999_999_999_999,
            decimals in 0_u32..=9,
        ) {
            let exact = Decimal::new(digits.into(), decimals).unwrap();
            let float: f64 = exact.to_string().parse().unwrap();
            prop_assert_eq!(float_text(float).parse(), Ok(exact));
            if let Some(short) = short_decimal(float) {
                prop_assert_eq!(short, exact);
            }
            let json = serde_json::to_string(&exact).unwrap();
            prop_assert_eq!(serde_json::from_str::<Decimal>(&json).unwrap(), exact);
        }

        #[test]
        fn any_float_reads_as_its_text_does(float in any::<f64>()) {
            if let Some(short) = short_decimal(float) {
                prop_assert_eq!(float_text(float).parse(), Ok(short));
            }
        }
    }

    #[test]
    fn newcomer_3_a_fee_multiplier_is_read_from_json_exactly() {
        for (json, text) in [
            ("0.07", "0.07"),
            ("1", "1"),
            ("0", "0"),
            ("0.5", "0.5"),
            ("1.0", "1"),
            ("1e-3", "0.001"),
            ("0.0175", "0.0175"),
            ("-2.5e2", "-250"),
            ("65000.5", "65000.5"),
            ("\"0.1\"", "0.1"),
            ("1e-20", "0.00000000000000000001"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            let value: Decimal = serde_json::from_str(json).unwrap();
            assert_eq!(value.to_string(), text, "{json}");
        }
        for json in ["1e300", "1e-300", "null", "\"\"", "\"x\"", "true"] {
            assert!(serde_json::from_str::<Decimal>(json).is_err(), "{json}");
        }
        for text in ["0.07", "1", "-250", "0.0175", "65000.5"] {
            assert_eq!(serde_json::to_string(&decimal(text)).unwrap(), text);
        }
        assert!(serde_json::to_string(&decimal("0.12345678901234567890123")).is_err());
    }

    #[test]
    fn every_rounding_goes_its_own_way() {
        use Rounding::{AwayFromZero, Ceil, Floor, HalfAwayFromZero, HalfEven, TowardZero};

        let rounded =
            |text: &str, rounding| decimal(text).to_count(rounding).unwrap().as_hundredths();
        for (text, results) in [
            //          Floor, Ceil, TowardZero, AwayFromZero, HalfEven, HalfAwayFromZero
            ("0.015", [1, 2, 1, 2, 2, 2]),
            ("0.025", [2, 3, 2, 3, 2, 3]),
            ("-0.015", [-2, -1, -1, -2, -2, -2]),
            ("-0.025", [-3, -2, -2, -3, -2, -3]),
            ("0.0251", [2, 3, 2, 3, 3, 3]),
            ("-0.0249", [-3, -2, -2, -3, -2, -2]),
            ("0.02", [2; 6]),
            ("-0.02", [-2; 6]),
        ] {
            let all = [Floor, Ceil, TowardZero, AwayFromZero, HalfEven, HalfAwayFromZero];
            assert_eq!(all.map(|rounding| rounded(text, rounding)), results, "{text}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_an_error() {
        let huge = Decimal::new(i128::MAX, 0).unwrap();
        assert_eq!(huge.checked_mul(decimal("10")), None);
        assert_eq!(huge.checked_add(Decimal::ONE), None);
        assert_eq!(huge.to_dollars(Rounding::Floor), Err(ArithmeticError::OutOfRange));
        assert_eq!(
            Dollars::MAX.mul_rounded(huge, Rounding::Floor),
            Err(ArithmeticError::OutOfRange)
        );
        assert_eq!(
            Dollars::MAX.mul_rounded(decimal("1.1"), Rounding::Floor),
            Err(ArithmeticError::OutOfRange)
        );
        assert_eq!(
            Dollars::MAX.round_to(Dollars::CENT, Rounding::Ceil),
            Err(ArithmeticError::OutOfRange)
        );
        assert_eq!(
            Dollars::ONE.round_to(Dollars::ZERO, Rounding::Ceil),
            Err(ArithmeticError::NotPositive)
        );
        assert_eq!(Decimal::new(1, 37), None);
        let least = Decimal::new(i128::MIN, 36).unwrap();
        assert_eq!(least.to_dollars(Rounding::Floor).unwrap().to_string(), "-170.141184");
        assert!(least.to_string().starts_with("-170.14118346"));
    }

    #[test]
    fn decimals_are_ordered_by_value() {
        let sorted = ["-1e37", "-2", "-1.5", "-1e-36", "0", "1e-36", "0.1", "1", "1.01", "1e37"];
        for (index, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                assert_eq!(decimal(a).cmp(&decimal(b)), index.cmp(&other), "{a} {b}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_decimal_prints_as_it_was_read(digits: i64, decimals in 0_u32..=36) {
            let value = Decimal::new(digits.into(), decimals).unwrap();
            prop_assert_eq!(value.to_string().parse(), Ok(value));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[-+]?[0-9]{0,45}(\\.[0-9]{0,45})?([eE][-+0-9]{0,12})?|.{0,70}") {
            let _ = text.parse::<Decimal>();
        }

        #[test]
        fn a_json_number_of_fifteen_digits_is_read_as_it_was_written(
            digits in 0_i64..1_000_000_000_000_000, decimals in 0_u32..20,
        ) {
            let value = Decimal::new(digits.into(), decimals).unwrap();
            prop_assert_eq!(serde_json::from_str::<Decimal>(&value.to_string()).unwrap(), value);
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Decimal>(&text).unwrap(), value);
        }

        #[test]
        fn a_rounded_product_is_less_than_a_unit_from_the_exact_one(
            micros: i64, digits in -1_000_000_000_i64..1_000_000_000, decimals in 9_u32..18,
        ) {
            let factor = Decimal::new(digits.into(), decimals).unwrap();
            let scale = 10_i128.pow(factor.decimals());
            let exact = i128::from(micros) * factor.digits();
            for rounding in [Rounding::Floor, Rounding::Ceil, Rounding::TowardZero,
                Rounding::AwayFromZero, Rounding::HalfEven, Rounding::HalfAwayFromZero] {
                let result = Dollars::from_micros(micros).mul_rounded(factor, rounding).unwrap();
                let off = i128::from(result.as_micros()) * scale - exact;
                prop_assert!(off.abs() < scale);
                match rounding {
                    Rounding::Floor => prop_assert!(off <= 0),
                    Rounding::Ceil => prop_assert!(off >= 0),
                    Rounding::TowardZero => prop_assert!(off * exact.signum() <= 0),
                    Rounding::AwayFromZero => prop_assert!(off * exact.signum() >= 0),
                    _ => prop_assert!(off.abs() * 2 <= scale),
                }
            }
        }
    }
}
