//! The common part of dollars and counts, written once: checked arithmetic and the wire form. The
//! operators are in `exact`.

/// Implements the common part for a newtype of `i64`.
///
/// `decimals` is how many decimals the type holds, `at_least` how many of them are always printed.
macro_rules! quantity {
    (
        $name:ident, decimals: $decimals:literal, at_least: $at_least:literal,
        expecting: $expecting:literal, float: $float:literal $(,)?
    ) => {
        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// The smallest value.
            pub const MIN: Self = Self(i64::MIN);

            /// The largest value.
            pub const MAX: Self = Self(i64::MAX);

            /// Returns the sum, or `None` when it is out of range.
            #[must_use = "the sum is returned, not stored"]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(units) => Some(Self(units)),
                    None => None,
                }
            }

            /// Returns the difference, or `None` when it is out of range.
            #[must_use = "the difference is returned, not stored"]
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(units) => Some(Self(units)),
                    None => None,
                }
            }

            /// Returns the product with an integer, or `None` when it is out of range.
            #[must_use = "the product is returned, not stored"]
            pub const fn checked_mul(self, factor: i64) -> Option<Self> {
                match self.0.checked_mul(factor) {
                    Some(units) => Some(Self(units)),
                    None => None,
                }
            }

            /// Returns the value with the other sign, or `None` for [`MIN`](Self::MIN).
            #[must_use = "the negated value is returned, not stored"]
            pub const fn checked_neg(self) -> Option<Self> {
                match self.0.checked_neg() {
                    Some(units) => Some(Self(units)),
                    None => None,
                }
            }

            /// Returns the value without its sign, or `None` for [`MIN`](Self::MIN).
            #[must_use = "the absolute value is returned, not stored"]
            pub const fn checked_abs(self) -> Option<Self> {
                match self.0.checked_abs() {
                    Some(units) => Some(Self(units)),
                    None => None,
                }
            }

            /// Reports whether this is zero.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// Reports whether this is above zero.
            pub const fn is_positive(self) -> bool {
                self.0 > 0
            }

            /// Reports whether this is below zero.
            pub const fn is_negative(self) -> bool {
                self.0 < 0
            }
        }

        /// Prints the wire form. Width, fill, alignment, `+` and `0` are honored; a precision is
        /// ignored, since honoring it would round.
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let text = $crate::text::Text::new::<$decimals, $at_least>(self.0);
                f.pad_integral(self.0 >= 0, "", text.unsigned())
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let text = $crate::text::Text::new::<$decimals, $at_least>(self.0);
                f.write_str(concat!(stringify!($name), "("))?;
                f.write_str(text.as_str())?;
                f.write_str(")")
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::error::ParseError;

            #[inline]
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match $crate::text::parse::<$decimals>(text.as_bytes()) {
                    Ok(units) => Ok(Self(units)),
                    Err(kind) => {
                        Err($crate::error::ParseError::new($crate::error::Quantity::$name, kind))
                    }
                }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $crate::error::ParseError;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl TryFrom<&String> for $name {
            type Error = $crate::error::ParseError;

            fn try_from(text: &String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::error::ParseError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        /// `None` when the total is out of range; the order of the items and the size of the
        /// subtotals do not matter.
        impl ::std::iter::Sum<$name> for Option<$name> {
            fn sum<I: Iterator<Item = $name>>(items: I) -> Self {
                // It takes 2^64 items to overflow an i128.
                let total = items.fold(0_i128, |total, item| total + i128::from(item.0));
                i64::try_from(total).ok().map($name)
            }
        }

        /// `None` when the total is out of range; the order of the items and the size of the
        /// subtotals do not matter.
        impl<'a> ::std::iter::Sum<&'a $name> for Option<$name> {
            fn sum<I: Iterator<Item = &'a $name>>(items: I) -> Self {
                items.copied().sum()
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = $crate::text::Text::new::<$decimals, $at_least>(self.0);
                serializer.serialize_str(text.as_str())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            #[inline]
            fn deserialize<D: ::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                struct Visitor;

                impl ::serde::de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str($expecting)
                    }

                    #[inline]
                    fn visit_str<E: ::serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_i64<E: ::serde::de::Error>(self, whole: i64) -> Result<$name, E> {
                        match $name::ONE.checked_mul(whole) {
                            Some(value) => Ok(value),
                            None => Err(E::custom($crate::error::ParseError::new(
                                $crate::error::Quantity::$name,
                                $crate::error::ParseErrorKind::OutOfRange,
                            ))),
                        }
                    }

                    fn visit_u64<E: ::serde::de::Error>(self, whole: u64) -> Result<$name, E> {
                        // Every u64 above i64::MAX is out of range, as is i64::MAX itself.
                        self.visit_i64(i64::try_from(whole).unwrap_or(i64::MAX))
                    }

                    fn visit_f64<E: ::serde::de::Error>(self, _: f64) -> Result<$name, E> {
                        Err(E::custom($float))
                    }
                }

                // A format that does not describe itself cannot offer a choice of types.
                if deserializer.is_human_readable() {
                    deserializer.deserialize_any(Visitor)
                } else {
                    deserializer.deserialize_str(Visitor)
                }
            }
        }
    };
}
