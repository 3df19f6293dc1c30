use std::{error, fmt};

/// The reason why a text, or a decimal of another type, is not a [`Dollars`](crate::Dollars), a
/// [`Count`](crate::Count) or a time.
///
/// The message names the quantity and the reason, and does not repeat the text, which may be long
/// and is known to the caller.
///
/// ```
/// use kalshi_types::{Dollars, ParseErrorKind};
///
/// let error = "0.56x".parse::<Dollars>().unwrap_err();
/// assert_eq!(error.kind(), ParseErrorKind::InvalidCharacter { position: 4 });
/// assert_eq!(error.to_string(), "dollar amount has an invalid character at byte 4");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParseError {
    quantity: Quantity,
    kind: ParseErrorKind,
}

/// The fault of a text, or of a decimal of another type.
///
/// When several things are wrong, the first in the order of this list is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The text is longer than 64 bytes. The longest canonical text has 21.
    TooLong,
    /// A byte is neither a digit, nor a leading sign, nor the first decimal point.
    InvalidCharacter {
        /// The offset of the first such byte.
        position: usize,
    },
    /// There is no digit: the text is empty, or holds only a sign or a point.
    Empty,
    /// There are digits other than zero after the last decimal that the type can hold.
    TooManyDecimals,
    /// The value does not fit the type.
    OutOfRange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Quantity {
    Dollars,
    Count,
    Decimal,
    UnixSeconds,
    UnixMillis,
}

impl ParseError {
    pub(crate) const fn new(quantity: Quantity, kind: ParseErrorKind) -> Self {
        Self { quantity, kind }
    }

    /// Returns what is wrong.
    pub const fn kind(&self) -> ParseErrorKind {
        self.kind
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quantity, kind } = self;
        match kind {
            ParseErrorKind::TooLong => write!(f, "{quantity} is longer than 64 bytes"),
            ParseErrorKind::InvalidCharacter { position } => {
                write!(f, "{quantity} has an invalid character at byte {position}")
            }
            ParseErrorKind::Empty => write!(f, "{quantity} has no digits"),
            ParseErrorKind::TooManyDecimals => {
                write!(f, "{quantity} has more than {} decimals", quantity.decimals())
            }
            ParseErrorKind::OutOfRange => write!(f, "{quantity} is out of range"),
        }
    }
}

impl error::Error for ParseError {}

impl Quantity {
    const fn decimals(self) -> u32 {
        match self {
            Self::Dollars => 6,
            Self::Count => 2,
            Self::Decimal => 36,
            Self::UnixSeconds | Self::UnixMillis => 0,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dollars => "dollar amount",
            Self::Count => "contract count",
            Self::Decimal => "decimal",
            Self::UnixSeconds => "time in seconds since 1970",
            Self::UnixMillis => "time in milliseconds since 1970",
        })
    }
}
