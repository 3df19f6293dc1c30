//! Values that parameters take, and how builders take them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A list that travels as one text joined by commas, such as the `tickers` of `get_markets`.
///
/// ```
/// use kalshi_sdk::CommaSeparated;
///
/// let one: CommaSeparated = "KXBTC-25".try_into()?;
/// let two = CommaSeparated::try_from(["KXBTC-25", "KXETH-25"])?;
/// assert_eq!(two.to_string(), "KXBTC-25,KXETH-25");
/// assert!(CommaSeparated::try_from(["a,b"]).is_err());
/// # Ok::<(), kalshi_sdk::InvalidList>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommaSeparated(String);

/// Why a list cannot travel joined by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidList {
    /// The list has no items: the exchange would read that as no filter at all.
    Empty,
    /// An item is empty.
    EmptyItem,
    /// An item has a comma in it and would arrive as two.
    Comma(String),
}

impl fmt::Display for InvalidList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the list is empty, which would mean no filter"),
            Self::EmptyItem => f.write_str("an item of the list is empty"),
            Self::Comma(item) => write!(f, "the item {item:?} has a comma in it"),
        }
    }
}

impl std::error::Error for InvalidList {}

impl CommaSeparated {
    fn join<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Result<Self, InvalidList> {
        let mut text = String::new();
        let mut first = true;
        for item in items {
            let item = item.as_ref();
            if item.is_empty() {
                return Err(InvalidList::EmptyItem);
            }
            if item.contains(',') {
                return Err(InvalidList::Comma(item.to_owned()));
            }
            if !first {
                text.push(',');
            }
            first = false;
            text.push_str(item);
        }
        if first { Err(InvalidList::Empty) } else { Ok(Self(text)) }
    }
}

impl fmt::Display for CommaSeparated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for CommaSeparated {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl TryFrom<&str> for CommaSeparated {
    type Error = InvalidList;

    /// Takes one item, or a text that is already joined.
    fn try_from(text: &str) -> Result<Self, InvalidList> {
        if text.is_empty() { Err(InvalidList::Empty) } else { Self::join(text.split(',')) }
    }
}

impl std::str::FromStr for CommaSeparated {
    type Err = InvalidList;

    fn from_str(text: &str) -> Result<Self, InvalidList> {
        Self::try_from(text)
    }
}

impl TryFrom<String> for CommaSeparated {
    type Error = InvalidList;

    fn try_from(text: String) -> Result<Self, InvalidList> {
        Self::try_from(text.as_str())
    }
}

impl<T: AsRef<str>> TryFrom<Vec<T>> for CommaSeparated {
    type Error = InvalidList;

    fn try_from(items: Vec<T>) -> Result<Self, InvalidList> {
        Self::join(items)
    }
}

impl<T: AsRef<str>> TryFrom<&[T]> for CommaSeparated {
    type Error = InvalidList;

    fn try_from(items: &[T]) -> Result<Self, InvalidList> {
        Self::join(items)
    }
}

impl<T: AsRef<str>, const N: usize> TryFrom<[T; N]> for CommaSeparated {
    type Error = InvalidList;

    fn try_from(items: [T; N]) -> Result<Self, InvalidList> {
        Self::join(items)
    }
}

/// What a builder keeps of a value: itself, or why it does not fit. `send` reports the latter.
pub(crate) fn builder_value<T, V>(name: &str, value: V) -> Result<T, String>
where
    V: TryInto<T>,
    V::Error: fmt::Display,
{
    value.try_into().map_err(|error| format!("`{name}`: {error}"))
}

/// The same for a value that may be left out.
pub(crate) fn builder_value_optional<T, V>(name: &str, value: V) -> Result<Option<T>, String>
where
    V: TryInto<T>,
    V::Error: fmt::Display,
{
    builder_value(name, value).map(Some)
}

/// A text that the exchange shows once, such as a new private key.
///
/// Neither `Debug` nor an error shows it; it is wiped from memory when dropped. `Serialize` does
/// write it out: that is how to store it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("** redacted **")
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_one_and_a_joined_text_are_the_same() {
        let joined = CommaSeparated::try_from("A,B").unwrap();
        assert_eq!(joined, CommaSeparated::try_from(vec!["A", "B"]).unwrap());
        assert_eq!(CommaSeparated::try_from("A,,B"), Err(InvalidList::EmptyItem));
        assert_eq!(CommaSeparated::try_from(Vec::<&str>::new()), Err(InvalidList::Empty));
        assert_eq!(CommaSeparated::try_from(["A,B"]), Err(InvalidList::Comma("A,B".to_owned())));
    }

    #[test]
    fn a_secret_text_does_not_print() {
        let secret = SecretText::from("-----BEGIN PRIVATE KEY-----");
        assert_eq!(format!("{secret:?}"), "** redacted **");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"-----BEGIN PRIVATE KEY-----\"");
    }
}
