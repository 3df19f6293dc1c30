//! Sums that cannot go wrong in silence: the operators of money and counts, with a check at the
//! end.

use std::{
    error, fmt,
    iter::Sum,
    marker::PhantomData,
    ops::{Add, AddAssign, Mul, Neg, Sub, SubAssign},
};

use crate::{count::Count, dollars::Dollars};

/// The result of `+`, `-` and `*` on [`Dollars`] or [`Count`]s, which is exact or an error.
///
/// Intermediate results may be larger than the type can hold. [`get`](Self::get) checks the end
/// result: nothing wraps, nothing saturates, nothing rounds. Once a step has failed, so has
/// everything that is computed from it.
///
/// Builders take an `Exact` in place of the type itself.
///
/// ```
/// use kalshi_types::{Count, Dollars, Exact};
///
/// let price: Dollars = "0.5600".parse()?;
/// let count: Count = "10.00".parse()?;
/// let fee: Dollars = "0.1725".parse()?;
///
/// let cost: Dollars = (price * count + fee).get()?;
/// assert_eq!(cost.to_string(), "5.7725");
///
/// let mut total = Exact::ZERO;
/// for fee in [fee, fee, fee] {
///     total += fee;
/// }
/// assert_eq!(total.get()?, [fee, fee, fee].iter().sum::<Exact<Dollars>>().get()?);
///
/// assert!((Dollars::MAX + Dollars::CENT).get().is_err());
/// assert_eq!((Dollars::MAX + Dollars::CENT - Dollars::CENT).get()?, Dollars::MAX);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "call `get`"]
pub struct Exact<T> {
    units: Result<i128, ArithmeticError>,
    of: PhantomData<T>,
}

/// The reason why a computation on [`Dollars`] or [`Count`]s has no exact result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ArithmeticError {
    /// The result does not fit the type.
    OutOfRange,
    /// The result has more decimals than the type can hold. Use a method that rounds and says how.
    Inexact,
    /// The divisor or the step is not above zero.
    NotPositive,
}

impl fmt::Display for ArithmeticError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "the result of the computation is out of range",
            Self::Inexact => {
                "the result of the computation has more decimals than its type can hold: round it"
            }
            Self::NotPositive => "the step to round to must be above zero",
        })
    }
}

impl error::Error for ArithmeticError {}

impl<T> Clone for Exact<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Exact<T> {}

impl<T> PartialEq for Exact<T> {
    fn eq(&self, other: &Self) -> bool {
        self.units == other.units
    }
}

impl<T> Eq for Exact<T> {}

impl<T> Exact<T> {
    /// Zero, the start of a sum.
    pub const ZERO: Self = Self::of(Ok(0));

    const fn of(units: Result<i128, ArithmeticError>) -> Self {
        Self { units, of: PhantomData }
    }

    fn with(self, other: Self, compute: fn(i128, i128) -> Option<i128>) -> Self {
        Self::of(match (self.units, other.units) {
            (Ok(a), Ok(b)) => compute(a, b).ok_or(ArithmeticError::OutOfRange),
            (Err(error), _) | (_, Err(error)) => Err(error),
        })
    }

    fn units(self) -> Result<i64, ArithmeticError> {
        i64::try_from(self.units?).map_err(|_| ArithmeticError::OutOfRange)
    }
}

impl<T> Default for Exact<T> {
    fn default() -> Self {
        Self::ZERO
    }
}

impl<T> Add for Exact<T> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, i128::checked_add)
    }
}

impl<T> Sub for Exact<T> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(other, i128::checked_sub)
    }
}

impl<T> Neg for Exact<T> {
    type Output = Self;

    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

impl<T> Mul<i64> for Exact<T> {
    type Output = Self;

    fn mul(self, factor: i64) -> Self {
        self.with(Self::of(Ok(i128::from(factor))), i128::checked_mul)
    }
}

impl<T> Sum for Exact<T> {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Add::add)
    }
}

/// The price of one contract times a number of contracts.
impl Mul<Count> for Dollars {
    type Output = Exact<Dollars>;

    fn mul(self, count: Count) -> Exact<Dollars> {
        // Of two i64, so that it fits.
        let product = i128::from(self.as_micros()) * i128::from(count.as_hundredths());
        Exact::of(if product % 100 == 0 {
            Ok(product / 100)
        } else {
            Err(ArithmeticError::Inexact)
        })
    }
}

/// The price of one contract times a number of contracts.
impl Mul<Dollars> for Count {
    type Output = Exact<Dollars>;

    fn mul(self, price: Dollars) -> Exact<Dollars> {
        price * self
    }
}

macro_rules! operators {
    ($name:ident, $from:ident, $as:ident) => {
        impl Exact<$name> {
            /// Returns the result.
            ///
            /// # Errors
            ///
            /// [`ArithmeticError::OutOfRange`] if it does not fit the type, or the error of the
            /// first step that had no exact result.
            pub fn get(self) -> Result<$name, ArithmeticError> {
                self.units().map($name::$from)
            }
        }

        impl From<$name> for Exact<$name> {
            fn from(value: $name) -> Self {
                Self::of(Ok(i128::from(value.$as())))
            }
        }

        impl From<&$name> for Exact<$name> {
            fn from(value: &$name) -> Self {
                Self::from(*value)
            }
        }

        impl TryFrom<Exact<$name>> for $name {
            type Error = ArithmeticError;

            fn try_from(result: Exact<$name>) -> Result<Self, ArithmeticError> {
                result.get()
            }
        }

        impl PartialEq<$name> for Exact<$name> {
            fn eq(&self, other: &$name) -> bool {
                *self == Self::from(*other)
            }
        }

        impl Neg for $name {
            type Output = Exact<$name>;

            fn neg(self) -> Exact<$name> {
                -Exact::from(self)
            }
        }

        impl Mul<i64> for $name {
            type Output = Exact<$name>;

            fn mul(self, factor: i64) -> Exact<$name> {
                Exact::from(self) * factor
            }
        }

        operators!(@binary $name, Add, add);
        operators!(@binary $name, Sub, sub);
        operators!(@assign $name, AddAssign, add_assign, Add, add);
        operators!(@assign $name, SubAssign, sub_assign, Sub, sub);

        impl Sum<$name> for Exact<$name> {
            fn sum<I: Iterator<Item = $name>>(items: I) -> Self {
                items.map(Self::from).sum()
            }
        }

        impl<'a> Sum<&'a $name> for Exact<$name> {
            fn sum<I: Iterator<Item = &'a $name>>(items: I) -> Self {
                items.map(Self::from).sum()
            }
        }

        impl Sum<$name> for Result<$name, ArithmeticError> {
            fn sum<I: Iterator<Item = $name>>(items: I) -> Self {
                items.sum::<Exact<$name>>().get()
            }
        }

        impl<'a> Sum<&'a $name> for Result<$name, ArithmeticError> {
            fn sum<I: Iterator<Item = &'a $name>>(items: I) -> Self {
                items.sum::<Exact<$name>>().get()
            }
        }

        /// Prints the result, or the error.
        impl fmt::Display for Exact<$name> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.get() {
                    Ok(value) => value.fmt(f),
                    Err(error) => error.fmt(f),
                }
            }
        }

        impl fmt::Debug for Exact<$name> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple("Exact").field(&self.get()).finish()
            }
        }
    };
    (@binary $name:ident, $Op:ident, $op:ident) => {
        impl $Op for $name {
            type Output = Exact<$name>;

            fn $op(self, other: $name) -> Exact<$name> {
                $Op::$op(Exact::from(self), Exact::from(other))
            }
        }

        impl $Op<$name> for Exact<$name> {
            type Output = Exact<$name>;

            fn $op(self, other: $name) -> Exact<$name> {
                $Op::$op(self, Exact::from(other))
            }
        }

        impl $Op<Exact<$name>> for $name {
            type Output = Exact<$name>;

            fn $op(self, other: Exact<$name>) -> Exact<$name> {
                $Op::$op(Exact::from(self), other)
            }
        }
    };
    (@assign $name:ident, $Assign:ident, $assign:ident, $Op:ident, $op:ident) => {
        impl $Assign for Exact<$name> {
            fn $assign(&mut self, other: Self) {
                *self = $Op::$op(*self, other);
            }
        }

        impl $Assign<$name> for Exact<$name> {
            fn $assign(&mut self, other: $name) {
                *self = $Op::$op(*self, other);
            }
        }
    };
}

operators!(Dollars, from_micros, as_micros);
operators!(Count, from_hundredths, as_hundredths);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn newcomer_14_money_adds_with_operators_and_an_overflow_is_an_error() {
        let (a, b) = (Dollars::from_micros(3), Dollars::from_micros(4));
        assert_eq!((a + b - Dollars::ONE).get(), Ok(Dollars::from_micros(7 - 1_000_000)));
        assert_eq!([a, b].iter().sum::<Result<Dollars, _>>(), Ok(Dollars::from_micros(7)));
        assert_eq!((-Dollars::MIN).get(), Err(ArithmeticError::OutOfRange));
        assert_eq!((Dollars::MAX + Dollars::MAX - Dollars::MAX).get(), Ok(Dollars::MAX));
        assert_eq!(Dollars::try_from(Dollars::MAX + a), Err(ArithmeticError::OutOfRange));
        assert_eq!((Count::ONE + Count::ONE * 2).get(), Ok(Count::from_hundredths(300)));
    }

    #[test]
    fn a_result_that_no_integer_holds_stays_an_error() {
        let mut value = Exact::from(Dollars::MAX);
        for _ in 0..70 {
            value += value;
        }
        assert_eq!((value - value).get(), Err(ArithmeticError::OutOfRange));
        assert_eq!((value * -1).get(), Err(ArithmeticError::OutOfRange));
    }

    #[test]
    fn a_product_with_too_many_decimals_is_an_error_and_not_rounded() {
        let price = Dollars::from_micros(330_101);
        let cost = price * Count::from_hundredths(3);
        assert_eq!(cost.get(), Err(ArithmeticError::Inexact));
        assert_eq!((cost + Dollars::ONE).get(), Err(ArithmeticError::Inexact));
        assert_eq!(cost.to_string(), ArithmeticError::Inexact.to_string());
        assert_eq!(format!("{:?}", Exact::from(Dollars::ONE)), "Exact(Ok(Dollars(1.0000)))");
    }

    proptest! {
        #[test]
        fn operators_agree_with_checked_methods(a: i64, b: i64, factor: i64) {
            let (x, y) = (Dollars::from_micros(a), Dollars::from_micros(b));
            prop_assert_eq!((x + y).get().ok(), x.checked_add(y));
            prop_assert_eq!((x - y).get().ok(), x.checked_sub(y));
            prop_assert_eq!((x * factor).get().ok(), x.checked_mul(factor));
            prop_assert_eq!((-x).get().ok(), x.checked_neg());
            let count = Count::from_hundredths(b);
            prop_assert_eq!((x * count).get().ok(), x.checked_mul_count(count));
            prop_assert_eq!(x * count, count * x);
        }

        #[test]
        fn a_sum_is_that_of_large_integers(units in prop::collection::vec(any::<i64>(), 0..50)) {
            let total: i128 = units.iter().copied().map(i128::from).sum();
            let sum: Result<Dollars, _> = units.iter().copied().map(Dollars::from_micros).sum();
            prop_assert_eq!(sum.ok(), i64::try_from(total).ok().map(Dollars::from_micros));
        }
    }
}
