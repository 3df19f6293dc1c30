//! Values that parameters and responses have.

use std::fmt;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize as _, Zeroizing};

/// A list that is sent as one text joined by commas, such as the `tickers` of `get_markets`.
///
/// ```
/// use kalshi_sdk::CommaSeparated;
///
/// let one: CommaSeparated = "KXBTC-25".try_into()?;
/// let two = CommaSeparated::try_from(["KXBTC-25", "KXETH-25"])?;
/// assert_eq!(two.to_string(), "KXBTC-25,KXETH-25");
/// assert!(CommaSeparated::try_from(["a,b"]).is_err());
/// # Ok::<(), kalshi_sdk::CommaSeparatedError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommaSeparated(String);

/// The reason why a list cannot be joined by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommaSeparatedError {
    /// The list has no items: the exchange would read that as no filter at all.
    Empty,
    /// An item is empty.
    EmptyItem,
    /// An item has a comma in it and would arrive as two.
    Comma(String),
}

impl fmt::Display for CommaSeparatedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the list is empty, which would mean no filter"),
            Self::EmptyItem => f.write_str("an item of the list is empty"),
            Self::Comma(item) => write!(f, "the item {item:?} has a comma in it"),
        }
    }
}

impl std::error::Error for CommaSeparatedError {}

impl CommaSeparated {
    fn join<T: AsRef<str>>(
        items: impl IntoIterator<Item = T>,
    ) -> Result<Self, CommaSeparatedError> {
        let mut text = String::new();
        let mut first = true;
        for item in items {
            let item = item.as_ref();
            if item.is_empty() {
                return Err(CommaSeparatedError::EmptyItem);
            }
            if item.contains(',') {
                return Err(CommaSeparatedError::Comma(item.to_owned()));
            }
            if !first {
                text.push(',');
            }
            first = false;
            text.push_str(item);
        }
        if first { Err(CommaSeparatedError::Empty) } else { Ok(Self(text)) }
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
    type Error = CommaSeparatedError;

    /// Accepts one item, or a text that is already joined.
    fn try_from(text: &str) -> Result<Self, CommaSeparatedError> {
        if text.is_empty() { Err(CommaSeparatedError::Empty) } else { Self::join(text.split(',')) }
    }
}

impl std::str::FromStr for CommaSeparated {
    type Err = CommaSeparatedError;

    fn from_str(text: &str) -> Result<Self, CommaSeparatedError> {
        Self::try_from(text)
    }
}

impl TryFrom<String> for CommaSeparated {
    type Error = CommaSeparatedError;

    fn try_from(text: String) -> Result<Self, CommaSeparatedError> {
        Self::try_from(text.as_str())
    }
}

impl<T: AsRef<str>> TryFrom<Vec<T>> for CommaSeparated {
    type Error = CommaSeparatedError;

    fn try_from(items: Vec<T>) -> Result<Self, CommaSeparatedError> {
        Self::join(items)
    }
}

impl<T: AsRef<str>> TryFrom<&[T]> for CommaSeparated {
    type Error = CommaSeparatedError;

    fn try_from(items: &[T]) -> Result<Self, CommaSeparatedError> {
        Self::join(items)
    }
}

impl<T: AsRef<str>, const N: usize> TryFrom<[T; N]> for CommaSeparated {
    type Error = CommaSeparatedError;

    fn try_from(items: [T; N]) -> Result<Self, CommaSeparatedError> {
        Self::join(items)
    }
}

/// A text that the exchange shows once, such as a new private key.
///
/// Neither `Debug` nor an error shows it; it is wiped from memory when dropped, and so is the body of
/// the response that it came in. Buffers of the JSON reader, of TLS and of the system are not.
/// `Serialize` does write it out: that is how to store it.
///
/// ```
/// use kalshi_sdk::SecretText;
///
/// let secret = SecretText::from("-----BEGIN PRIVATE KEY-----");
/// assert_eq!(format!("{secret:?}"), "** redacted **");
/// assert!(secret.expose().starts_with("-----BEGIN"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Returns the text itself.
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

/// Overwrites a body that held a secret, unless a part of it is still in use elsewhere.
pub(crate) fn wipe(body: Bytes) {
    drop(overwritten(body));
}

fn overwritten(body: Bytes) -> Option<BytesMut> {
    let mut body = body.try_into_mut().ok()?;
    body.as_mut().zeroize();
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_a_body_that_held_a_secret_is_overwritten_in_place() {
        let mut body = BytesMut::with_capacity(64);
        for piece in ["-----BEGIN", " PRIVATE KEY-----"] {
            body.extend_from_slice(piece.as_bytes());
        }
        let place = body.as_ptr();
        let body = overwritten(body.freeze()).expect("it has one owner");
        assert_eq!(body.as_ptr(), place);
        assert_eq!(body, [0; 27][..]);
    }

    #[test]
    fn d4_a_body_is_overwritten_with_and_without_room_behind_it() {
        for room in [0, 5] {
            let mut body = Vec::with_capacity(27 + room);
            body.extend_from_slice(b"-----BEGIN PRIVATE KEY-----");
            let place = body.as_ptr();
            let body = overwritten(body.into()).expect("it has one owner");
            assert_eq!(body.as_ptr(), place);
            assert_eq!(body, [0; 27][..]);
        }
    }

    #[test]
    fn a_list_of_one_and_a_joined_text_are_the_same() {
        let joined = CommaSeparated::try_from("A,B").unwrap();
        assert_eq!(joined, CommaSeparated::try_from(vec!["A", "B"]).unwrap());
        assert_eq!(CommaSeparated::try_from("A,,B"), Err(CommaSeparatedError::EmptyItem));
        assert_eq!(CommaSeparated::try_from(Vec::<&str>::new()), Err(CommaSeparatedError::Empty));
        assert_eq!(
            CommaSeparated::try_from(["A,B"]),
            Err(CommaSeparatedError::Comma("A,B".to_owned()))
        );
    }

    #[test]
    fn a_secret_text_does_not_print() {
        let secret = SecretText::from("-----BEGIN PRIVATE KEY-----");
        assert_eq!(format!("{secret:?}"), "** redacted **");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"-----BEGIN PRIVATE KEY-----\"");
    }
}
