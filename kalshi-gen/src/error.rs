//! One error for everything that can be wrong with a document: where, and what.

use std::fmt;

use serde_json::Value;

/// A fault in a document, and its place.
///
/// The place is a JSON pointer (RFC 6901) such as `/paths/~1markets/get/responses`, or a line and
/// column where the text is not YAML at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pointer: String,
    message: String,
}

/// The result of every step of the generator.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }

    /// Returns the same at another place.
    pub(crate) fn moved(self, pointer: String) -> Self {
        Self { pointer, ..self }
    }

    /// Returns the same at the nearest place upwards that the document has: a part that is missing
    /// has none.
    pub(crate) fn at_a_place_of(mut self, document: &Value) -> Self {
        while document.pointer(&self.pointer).is_none() {
            let parent = self.pointer.rfind('/').unwrap_or(0);
            self.pointer.truncate(parent);
        }
        self
    }

    /// Returns the place in the document, as a JSON pointer; `line L column C` where the text is no
    /// YAML.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Returns what is wrong there, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pointer of the whole document is the empty string.
        let place = if self.pointer.is_empty() { "/" } else { &self.pointer };
        // One line, whatever an underlying message holds.
        let message: Vec<&str> = self.message.split_whitespace().collect();
        write!(f, "{place}: {}", message.join(" "))
    }
}

impl std::error::Error for Error {}

/// Stops with an [`Error`] at a place.
macro_rules! refuse {
    ($pointer:expr, $($message:tt)+) => {
        return Err($crate::error::Error::new($pointer, format!($($message)+)))
    };
}
pub(crate) use refuse;
