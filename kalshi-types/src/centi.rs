//! The integer units of the clearing house and of some transfers: hundredths of a cent, and
//! hundredths of a contract.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Count, Dollars, exact::ArithmeticError};

macro_rules! units {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Returns the amount of this number of units.
            pub const fn from_units(units: i64) -> Self {
                Self(units)
            }

            /// Returns the number of units.
            pub const fn as_units(self) -> i64 {
                self.0
            }
        }

        impl From<i64> for $name {
            fn from(units: i64) -> Self {
                Self(units)
            }
        }

        impl From<$name> for i64 {
            fn from(amount: $name) -> Self {
                amount.0
            }
        }

        /// Prints the number of units, as it stands on the wire.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

units! {
    /// Money in hundredths of a cent: 10,000 are a dollar.
    ///
    /// On the wire a JSON integer. It covers a hundred times the range of [`Dollars`], so that
    /// [`to_dollars`](Self::to_dollars) is checked.
    ///
    /// ```
    /// use kalshi_types::{CentiCents, Dollars};
    ///
    /// let pnl = CentiCents::from_units(-12_345);
    /// assert_eq!(pnl.to_dollars(), "-1.2345".parse().ok());
    /// let dollars: Dollars = "0.00005".parse()?;
    /// assert!(CentiCents::try_from(dollars).is_err(), "half a unit");
    /// # Ok::<(), kalshi_types::ParseError>(())
    /// ```
    CentiCents
}

units! {
    /// Contracts in hundredths: 100 are a contract.
    ///
    /// On the wire a JSON integer. [`Count`] has the same unit, so that no conversion can fail.
    ///
    /// ```
    /// use kalshi_types::{CentiCount, Count};
    ///
    /// let quantity = CentiCount::from_units(-1_050);
    /// assert_eq!(quantity.to_count().to_string(), "-10.50");
    /// # let _: Count = quantity.into();
    /// ```
    CentiCount
}

impl CentiCents {
    /// Returns the amount as dollars, or `None` if it is out of their range, which is about nine
    /// trillion.
    pub const fn to_dollars(self) -> Option<Dollars> {
        Dollars::from_centi_cents(self.0)
    }
}

impl TryFrom<CentiCents> for Dollars {
    type Error = ArithmeticError;

    fn try_from(amount: CentiCents) -> Result<Self, ArithmeticError> {
        amount.to_dollars().ok_or(ArithmeticError::OutOfRange)
    }
}

/// Fails for an amount that is no whole number of hundredths of a cent.
impl TryFrom<Dollars> for CentiCents {
    type Error = ArithmeticError;

    fn try_from(amount: Dollars) -> Result<Self, ArithmeticError> {
        amount.to_centi_cents().map(Self).ok_or(ArithmeticError::Inexact)
    }
}

impl CentiCount {
    /// Returns the contracts.
    pub const fn to_count(self) -> Count {
        Count::from_hundredths(self.0)
    }
}

impl From<CentiCount> for Count {
    fn from(count: CentiCount) -> Self {
        count.to_count()
    }
}

impl From<Count> for CentiCount {
    fn from(count: Count) -> Self {
        Self(count.as_hundredths())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number near an edge: of the range, of what dollars hold, and of zero.
    fn edges() -> impl Iterator<Item = i64> {
        let of_dollars = i64::MAX / 100;
        [i64::MIN, -of_dollars, 0, of_dollars, i64::MAX]
            .into_iter()
            .flat_map(|edge| (-300..=300).filter_map(move |step: i64| edge.checked_add(step)))
    }

    #[test]
    fn centi_cents_become_dollars_and_back_or_are_out_of_range_at_every_edge() {
        let (mut inside, mut outside) = (0, 0);
        for units in edges() {
            let amount = CentiCents::from_units(units);
            if let Some(dollars) = amount.to_dollars() {
                assert_eq!(i128::from(dollars.as_micros()), i128::from(units) * 100);
                assert_eq!(CentiCents::try_from(dollars), Ok(amount));
                inside += 1;
            } else {
                assert!(i64::try_from(i128::from(units) * 100).is_err(), "{units}");
                assert_eq!(Dollars::try_from(amount), Err(ArithmeticError::OutOfRange));
                outside += 1;
            }
        }
        assert!(inside > 600 && outside > 600, "{inside} {outside}");
    }

    #[test]
    fn dollars_become_centi_cents_only_without_a_rest() {
        for micros in edges() {
            let dollars = Dollars::from_micros(micros);
            let expected = if micros % 100 == 0 {
                Ok(CentiCents::from_units(micros / 100))
            } else {
                Err(ArithmeticError::Inexact)
            };
            assert_eq!(CentiCents::try_from(dollars), expected, "{micros}");
        }
    }

    #[test]
    fn centi_counts_are_counts_at_every_edge() {
        for units in edges() {
            let quantity = CentiCount::from_units(units);
            assert_eq!(quantity.to_count().as_hundredths(), units);
            assert_eq!(CentiCount::from(Count::from(quantity)), quantity);
        }
    }

    #[test]
    fn the_wire_form_is_an_integer() {
        for units in edges() {
            let text = units.to_string();
            let cents: CentiCents = serde_json::from_str(&text).unwrap();
            let count: CentiCount = serde_json::from_str(&text).unwrap();
            assert_eq!((cents.as_units(), count.as_units()), (units, units));
            assert_eq!(serde_json::to_string(&cents).unwrap(), text);
            assert_eq!((cents.to_string(), count.to_string()), (text.clone(), text));
        }
        for wrong in ["9223372036854775808", "1.5", "\"1\"", "null", "1e3"] {
            assert!(serde_json::from_str::<CentiCents>(wrong).is_err(), "{wrong}");
            assert!(serde_json::from_str::<CentiCount>(wrong).is_err(), "{wrong}");
        }
    }
}
