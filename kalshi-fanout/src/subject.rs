//! Subjects: where a message goes on the bus.
//!
//! A subject is made of tokens with dots between them, and a ticker may hold dots. So `.` is written
//! `_d` and `_` is written `__`, which can be reverted: no two tickers share a subject.

use std::fmt;

use thiserror::Error;

/// The first two tokens of every subject: the name and the version of this protocol.
const ROOT: &str = "kx.v1";

/// The longest token that is taken, in bytes before it is escaped.
pub const MAX_TOKEN: usize = 128;

/// A part of a subject that cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// A token is empty.
    #[error("a token of a subject is empty")]
    Empty,
    /// A token is longer than [`MAX_TOKEN`].
    #[error("a token of a subject has {length} bytes, the most are {MAX_TOKEN}")]
    TooLong {
        /// The number of bytes.
        length: usize,
    },
    /// A character that is no letter, no digit, and none of `-`, `_` and `.`.
    #[error(
        "a token of a subject has the character {character:?}: letters, digits, `-`, `_` and `.` are allowed"
    )]
    Forbidden {
        /// The character.
        character: char,
    },
    /// A `_` that is followed by neither `_` nor `d`.
    #[error("a token of a subject has `_` before neither `_` nor `d`")]
    InvalidEscape,
    /// The subject is not of this protocol.
    #[error("the subject does not begin with `{ROOT}`")]
    Foreign,
}

/// Writes a token so that it holds no dot.
///
/// # Errors
///
/// The text is empty, too long, or holds a character that tickers do not have.
///
/// # Examples
///
/// ```
/// use kalshi_fanout::subject::{escape, unescape};
///
/// assert_eq!(escape("KXBTC-25.5")?, "KXBTC-25_d5");
/// assert_eq!(unescape("KXBTC-25_d5")?, "KXBTC-25.5");
/// # Ok::<(), kalshi_fanout::subject::SubjectError>(())
/// ```
pub fn escape(token: &str) -> Result<String, SubjectError> {
    check_length(token.len(), MAX_TOKEN)?;
    let mut escaped = String::with_capacity(token.len() + 4);
    for character in token.chars() {
        match character {
            '.' => escaped.push_str("_d"),
            '_' => escaped.push_str("__"),
            '-' => escaped.push('-'),
            other if other.is_ascii_alphanumeric() => escaped.push(other),
            character => return Err(SubjectError::Forbidden { character }),
        }
    }
    Ok(escaped)
}

/// Reads a token that [`escape`] wrote.
///
/// # Errors
///
/// The text is empty or too long, holds a character that [`escape`] does not write, or a `_` that
/// begins no escape.
pub fn unescape(token: &str) -> Result<String, SubjectError> {
    check_length(token.len(), 2 * MAX_TOKEN)?;
    let mut text = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        match character {
            '_' => match characters.next() {
                Some('_') => text.push('_'),
                Some('d') => text.push('.'),
                _ => return Err(SubjectError::InvalidEscape),
            },
            '-' => text.push('-'),
            other if other.is_ascii_alphanumeric() => text.push(other),
            character => return Err(SubjectError::Forbidden { character }),
        }
    }
    check_length(text.len(), MAX_TOKEN)?;
    Ok(text)
}

const fn check_length(length: usize, most: usize) -> Result<(), SubjectError> {
    match length {
        0 => Err(SubjectError::Empty),
        length if length > most => Err(SubjectError::TooLong { length }),
        _ => Ok(()),
    }
}

/// The kind of data on a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Changes of an order book.
    Book,
    /// Trades.
    Trade,
    /// Best prices and totals.
    Ticker,
    /// The life of a market or an event.
    Status,
    /// Fills of your account.
    Fill,
    /// Orders of your account.
    Order,
    /// Positions of your account.
    Position,
}

impl Kind {
    /// Every kind of market data.
    pub const ALL: [Self; 4] = [Self::Book, Self::Trade, Self::Ticker, Self::Status];

    /// Every kind of data of your account: private, and not published unless that is requested.
    pub const OWN: [Self; 3] = [Self::Fill, Self::Order, Self::Position];

    /// Reports whether it is of your account.
    pub const fn is_own(self) -> bool {
        matches!(self, Self::Fill | Self::Order | Self::Position)
    }

    /// Returns the token of the kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Book => "book",
            Self::Trade => "trade",
            Self::Ticker => "ticker",
            Self::Status => "status",
            Self::Fill => "fill",
            Self::Order => "order",
            Self::Position => "position",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The subject of a message, read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// Market data: `kx.v1.{env}.md.{shard}.{kind}.{series}.{ticker}`.
    Data {
        /// The shard of the ticker.
        shard: u16,
        /// The kind.
        kind: Kind,
        /// The ticker of a market, or that of an event.
        ticker: String,
    },
    /// The last whole order book of a market: `kx.v1.{env}.snap.{ticker}`.
    Snapshot {
        /// The ticker.
        ticker: String,
    },
    /// Data of your account: `kx.v1.{env}.own.{account}.{kind}`.
    Own {
        /// The kind.
        kind: Kind,
        /// The name of the account.
        account: String,
    },
    /// The reports of a publisher about itself: `kx.v1.{env}.ctl.{publisher}`.
    Control {
        /// The id of the publisher.
        publisher: String,
    },
}

/// Writes and reads the subjects of one environment.
///
/// # Examples
///
/// ```
/// use kalshi_fanout::subject::{Kind, Subject, Subjects};
///
/// let subjects = Subjects::new("demo", 4)?;
/// let text = subjects.data(Kind::Book, "KXBTC-25.5")?;
/// assert!(text.ends_with(".book.KXBTC.KXBTC-25_d5"));
/// let Subject::Data { ticker, .. } = subjects.parse(&text)? else { panic!() };
/// assert_eq!(ticker, "KXBTC-25.5");
/// # Ok::<(), kalshi_fanout::subject::SubjectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    /// With its dot at the end.
    prefix: String,
    shards: u16,
}

impl Subjects {
    /// Returns the subjects of an environment, such as `production` or `demo`, whose data is split
    /// into a number of shards; 0 counts as 1.
    ///
    /// # Errors
    ///
    /// The name of the environment is no token; see [`escape`].
    pub fn new(environment: &str, shards: u16) -> Result<Self, SubjectError> {
        Ok(Self { prefix: format!("{ROOT}.{}.", escape(environment)?), shards: shards.max(1) })
    }

    /// Returns the shard of a ticker: the same in every program and version.
    pub fn shard(&self, ticker: &str) -> u16 {
        let hash = ticker.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        u16::try_from(hash % u64::from(self.shards)).unwrap_or_default()
    }

    /// Returns the subject of market data, or of data of your account: then the name of the account
    /// is in place of the ticker.
    ///
    /// # Errors
    ///
    /// The ticker is no token; see [`escape`].
    pub fn data(&self, kind: Kind, ticker: &str) -> Result<String, SubjectError> {
        if kind.is_own() {
            return Ok(format!("{}own.{}.{kind}", self.prefix, escape(ticker)?));
        }
        let series = ticker.split('-').next().filter(|series| !series.is_empty());
        let (series, escaped) = (escape(series.unwrap_or(ticker))?, escape(ticker)?);
        Ok(format!("{}md.{}.{kind}.{series}.{escaped}", self.prefix, self.shard(ticker)))
    }

    /// Returns the subject of the last whole book of a market.
    ///
    /// # Errors
    ///
    /// The ticker is no token; see [`escape`].
    pub fn snapshot(&self, ticker: &str) -> Result<String, SubjectError> {
        Ok(format!("{}snap.{}", self.prefix, escape(ticker)?))
    }

    /// Returns the subject of what a publisher says of itself.
    ///
    /// # Errors
    ///
    /// The id is no token; see [`escape`].
    pub fn control(&self, publisher: &str) -> Result<String, SubjectError> {
        Ok(format!("{}ctl.{}", self.prefix, escape(publisher)?))
    }

    /// Returns the subject of requests for a reading of your account. It is of no stream, and
    /// [`parse`](Self::parse) takes it as foreign.
    ///
    /// # Errors
    ///
    /// The name of the account is no token; see [`escape`].
    pub fn account_requests(&self, account: &str) -> Result<String, SubjectError> {
        Ok(format!("{}ask.{}", self.prefix, escape(account)?))
    }

    /// Returns the pattern of the control messages of all publishers.
    pub fn all_control(&self) -> String {
        format!("{}ctl.*", self.prefix)
    }

    /// Reads a subject.
    ///
    /// # Errors
    ///
    /// It is of another environment or protocol, or a token is invalid.
    pub fn parse(&self, subject: &str) -> Result<Subject, SubjectError> {
        let rest = subject.strip_prefix(&*self.prefix).ok_or(SubjectError::Foreign)?;
        let mut tokens = rest.split('.');
        let mut next = || tokens.next().ok_or(SubjectError::Foreign);
        let parsed = match next()? {
            "md" => {
                let shard = next()?.parse().map_err(|_| SubjectError::Foreign)?;
                let kind = next()?;
                let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
                next()?;
                let ticker = unescape(next()?)?;
                Subject::Data { shard, kind: kind.ok_or(SubjectError::Foreign)?, ticker }
            }
            "own" => {
                let account = unescape(next()?)?;
                let kind = next()?;
                let kind = Kind::OWN.into_iter().find(|known| known.as_str() == kind);
                Subject::Own { kind: kind.ok_or(SubjectError::Foreign)?, account }
            }
            "snap" => Subject::Snapshot { ticker: unescape(next()?)? },
            "ctl" => Subject::Control { publisher: unescape(next()?)? },
            _ => return Err(SubjectError::Foreign),
        };
        if tokens.next().is_some() { Err(SubjectError::Foreign) } else { Ok(parsed) }
    }
}

/// Reports whether a subject is one of a pattern, in which `*` stands for one token.
pub fn matches(pattern: &str, subject: &str) -> bool {
    let (mut wanted, mut tokens) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_ticker_is_read_as_it_was_written(ticker in "[A-Z0-9._-]{1,60}", shards in 0_u16..9) {
            let subjects = Subjects::new("demo", shards).unwrap();
            let escaped = escape(&ticker).unwrap();
            prop_assert!(!escaped.contains('.'));
            prop_assert_eq!(unescape(&escaped).unwrap(), ticker.clone());
            let snapshot = subjects.snapshot(&ticker).unwrap();
            prop_assert_eq!(
                subjects.parse(&snapshot).unwrap(),
                Subject::Snapshot { ticker: ticker.clone() }
            );
            for kind in Kind::ALL {
                let text = subjects.data(kind, &ticker).unwrap();
                let shard = subjects.shard(&ticker);
                prop_assert!(shard < shards.max(1));
                let read = subjects.parse(&text).unwrap();
                prop_assert_eq!(read, Subject::Data { shard, kind, ticker: ticker.clone() });
            }
            for kind in Kind::OWN {
                let text = subjects.data(kind, &ticker).unwrap();
                let read = subjects.parse(&text).unwrap();
                prop_assert_eq!(read, Subject::Own { kind, account: ticker.clone() });
            }
        }

        #[test]
        fn two_tickers_never_share_a_token(one in "[A._d-]{1,8}", other in "[A._d-]{1,8}") {
            prop_assert_eq!(one == other, escape(&one) == escape(&other));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,300}") {
            let subjects = Subjects::new("demo", 1).unwrap();
            let _ = subjects.parse(&text);
            if let Ok(token) = unescape(&text) {
                prop_assert_eq!(escape(&token).unwrap(), text);
            }
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        assert_eq!(escape(""), Err(SubjectError::Empty));
        assert_eq!(escape("A*"), Err(SubjectError::Forbidden { character: '*' }));
        assert_eq!(escape(&"A".repeat(129)), Err(SubjectError::TooLong { length: 129 }));
        assert_eq!(unescape("A_"), Err(SubjectError::InvalidEscape));
        let subjects = Subjects::new("demo", 1).unwrap();
        for foreign in ["kx.v1.production.snap.A", "kx.v1.demo.md.0.fill.A.A", "kx.v1.demo.ctl.a.b"]
        {
            assert_eq!(subjects.parse(foreign), Err(SubjectError::Foreign), "{foreign}");
        }
    }

    #[test]
    fn a_star_stands_for_one_token() {
        assert!(matches("a.*.c", "a.b.c"));
        assert!(!matches("a.*", "a.b.c"));
        assert!(!matches("a.*.c", "a.b"));
    }
}
