//! Enums that the server owns, open at the end.

/// Declares an enum of text values that stays open: a value that is not listed is kept whole in
/// `Unknown`, prints back unchanged, and never fails the message that it arrived in.
///
/// A clone copies no text, and a value compares with another value as well as with text.
///
/// For generated code; the items it makes are documented there.
///
/// ```
/// kalshi_types::open_enum! {
///     /// Which side of the book.
///     pub enum Side {
///         /// Buys.
///         Bid = "bid",
///         /// Sells.
///         Ask = "ask",
///     }
/// }
///
/// let side: Side = "bid".into();
/// assert_eq!(side, Side::Bid);
/// assert!(side == "bid");
///
/// let new: Side = "midpoint".into();
/// assert_eq!(new, Side::Unknown("midpoint".into()));
/// assert_eq!(new.to_string(), "midpoint");
/// ```
#[macro_export]
macro_rules! open_enum {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $wire:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// A value that this version of the crate does not know, as the server sent it.
            Unknown(::std::sync::Arc<str>),
        }

        impl $name {
            /// The values that this version knows, as they are on the wire.
            pub const KNOWN: &'static [&'static str] = &[$($wire),*];

            /// Returns the value as it is on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $wire,)*
                    Self::Unknown(value) => value,
                }
            }

            /// Reports whether the value is not one of [`KNOWN`](Self::KNOWN).
            pub fn is_unknown(&self) -> bool {
                ::std::matches!(self, Self::Unknown(_))
            }
        }

        impl ::std::convert::From<&str> for $name {
            fn from(value: &str) -> Self {
                match value {
                    $($wire => Self::$variant,)*
                    other => Self::Unknown(other.into()),
                }
            }
        }

        impl ::std::convert::From<::std::string::String> for $name {
            fn from(value: ::std::string::String) -> Self {
                Self::from(value.as_str())
            }
        }

        impl ::std::convert::From<&::std::string::String> for $name {
            fn from(value: &::std::string::String) -> Self {
                Self::from(value.as_str())
            }
        }

        impl ::std::convert::From<&$name> for $name {
            fn from(value: &$name) -> Self {
                value.clone()
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = ::std::convert::Infallible;

            fn from_str(value: &str) -> ::std::result::Result<Self, Self::Err> {
                ::std::result::Result::Ok(Self::from(value))
            }
        }

        impl ::std::convert::AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl ::std::cmp::PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl ::std::cmp::PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl ::std::cmp::PartialEq<$name> for str {
            fn eq(&self, other: &$name) -> bool {
                self == other.as_str()
            }
        }

        impl ::std::cmp::PartialEq<$name> for &str {
            fn eq(&self, other: &$name) -> bool {
                *self == other.as_str()
            }
        }

        // So that a reference, as an iterator gives it, compares with a known value.
        impl ::std::cmp::PartialEq<$name> for &$name {
            fn eq(&self, other: &$name) -> bool {
                **self == *other
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl $crate::__private::serde::Serialize for $name {
            fn serialize<S: $crate::__private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> $crate::__private::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::__private::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                deserializer.deserialize_str($crate::__private::FromText(::std::marker::PhantomData))
            }
        }
    };
}

/// Reads text into whatever can be made from it, without a copy.
#[derive(Debug)]
#[doc(hidden)]
pub struct FromText<T>(pub std::marker::PhantomData<T>);

impl<T: for<'a> From<&'a str>> serde::de::Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E>(self, value: &str) -> Result<T, E> {
        Ok(T::from(value))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    open_enum! {
        /// Test.
        pub enum Result3 {
            /// Yes.
            Yes = "yes",
            /// None yet.
            Unset = "",
        }
    }

    #[test]
    fn known_and_unknown_values_round_trip_through_json() {
        for text in [r#""yes""#, r#""""#, r#""write::brand_new""#, r#""with \"quotes\"""#] {
            let value: Result3 = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
        }
        assert!(serde_json::from_str::<Result3>("1").is_err());
        assert!(serde_json::from_str::<Result3>("null").is_err());
    }

    #[test]
    fn only_values_outside_the_list_are_unknown() {
        assert!(!Result3::from("yes").is_unknown());
        assert!(Result3::from("Yes").is_unknown());
        assert_eq!(Result3::KNOWN, ["yes", ""]);
    }

    #[test]
    fn newcomer_6_a_value_compares_with_values_and_text_by_value_and_by_reference() {
        let values = [Result3::from("yes"), Result3::from("new")];
        assert!(values[0] == Result3::Yes && values[0] == "yes" && "yes" == values[0]);
        assert!(values[1] == "new" && *"new" == values[1] && values[1] != Result3::Yes);
        let yes = values.iter().filter(|value| *value == Result3::Yes).count();
        assert_eq!(yes, 1);
    }

    #[test]
    fn newcomer_6_a_clone_of_an_unknown_value_shares_its_text() {
        let value = Result3::from("new");
        match (&value, &value.clone()) {
            (Result3::Unknown(a), Result3::Unknown(b)) => assert!(Arc::ptr_eq(a, b)),
            _ => panic!("{value} is not one of the list"),
        }
    }
}
