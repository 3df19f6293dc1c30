//! The envelope of a message: headers beside a payload that stays as the exchange sent it.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use kalshi_types::UnixMillis;
use thiserror::Error;

use crate::subject::{escape, unescape};

/// The longest header value that is read, in bytes.
pub const MAX_HEADER: usize = 320;

/// The most headers that are read; others than ours may be among them.
pub const MAX_HEADERS: usize = 64;

/// A message as the bus carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusMessage {
    /// The subject.
    pub subject: String,
    /// Names and values of the headers.
    pub headers: Vec<(String, String)>,
    /// The payload: a frame of the exchange, byte for byte, unless the flags say otherwise.
    pub payload: Bytes,
}

/// An id of one connection of one publisher.
///
/// Epochs are ordered: a later term is that of a later leader, and a later number is a later
/// connection of the same leader. A message of an earlier epoch than one already seen is that of a
/// leader which has been replaced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// The term of the lease under which the publisher leads.
    pub term: u64,
    /// The number of the connection within the term, from 1.
    pub number: u64,
    /// The id of the publisher.
    pub publisher: String,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let publisher = escape(&self.publisher).map_err(|_| fmt::Error)?;
        write!(f, "{}-{}-{publisher}", self.term, self.number)
    }
}

impl FromStr for Epoch {
    type Err = EnvelopeError;

    fn from_str(text: &str) -> Result<Self, EnvelopeError> {
        let invalid = || EnvelopeError::Invalid { header: EPOCH };
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().ok_or_else(invalid);
        let (term, number) = (number(EPOCH, next()?)?, number(EPOCH, next()?)?);
        let publisher = unescape(next()?).map_err(|_| invalid())?;
        Ok(Self { term, number, publisher })
    }
}

/// The flags of a message. Bits that this version does not know are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    /// The payload is a whole order book.
    pub const SNAPSHOT: Self = Self(1);
    /// The last message of an event of the exchange.
    pub const LAST: Self = Self(2);
    /// The publisher's book was not valid when this came: it repairs no book.
    pub const MAYBE_BAD: Self = Self(4);
    /// Messages before this one are missing. There is no payload.
    pub const RESET: Self = Self(8);
    /// The payload was rewritten without what is private to the publisher's account.
    pub const REDACTED: Self = Self(16);

    /// Nothing new: the number is that of the last message on the subject. There is no payload.
    pub const ALIVE: Self = Self(32);

    /// Reports whether all of the other's bits are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the bits of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The headers of a message.
///
/// # Examples
///
/// ```
/// use kalshi_fanout::{Envelope, Epoch, Flags};
/// use kalshi_types::UnixMillis;
///
/// let envelope = Envelope {
///     epoch: Epoch { term: 7, number: 1, publisher: "a".to_owned() },
///     n: 3,
///     seq: Some(90),
///     sid: Some(1),
///     received: UnixMillis::from_millis(1_700_000_000_000),
///     flags: Flags::default(),
///     hash: None,
/// };
/// let headers = envelope.to_headers();
/// let read = Envelope::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
/// assert_eq!(read, envelope);
/// # Ok::<(), kalshi_fanout::EnvelopeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The epoch, `Kx-Epoch`.
    pub epoch: Epoch,
    /// The number of the message on its subject in this epoch, from 1, `Kx-N`. A snapshot has that
    /// of the last message which it includes.
    pub n: u64,
    /// The exchange's sequence number, `Kx-Seq`.
    pub seq: Option<i64>,
    /// The exchange's number of the subscription, `Kx-Sid`.
    pub sid: Option<i64>,
    /// The time at which the publisher received the frame, `Kx-Recv`: nanoseconds on the wire, and
    /// whole milliseconds here.
    pub received: UnixMillis,
    /// The flags, `Kx-Flags`.
    pub flags: Flags,
    /// The hash of the levels of a snapshot, `Kx-Hash`.
    pub hash: Option<u64>,
}

const EPOCH: &str = "Kx-Epoch";
const N: &str = "Kx-N";
const SEQ: &str = "Kx-Seq";
const SID: &str = "Kx-Sid";
const RECV: &str = "Kx-Recv";
const FLAGS: &str = "Kx-Flags";
const HASH: &str = "Kx-Hash";

/// The header by which NATS recognizes a message that is published twice.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";

const NANOS: i64 = 1_000_000;

/// A header that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// A header is missing.
    #[error("the header {header} is missing")]
    Missing {
        /// The name.
        header: &'static str,
    },
    /// A header stands there twice.
    #[error("the header {header} stands there twice")]
    Repeated {
        /// The name.
        header: &'static str,
    },
    /// A header does not read.
    #[error("the header {header} does not read")]
    Invalid {
        /// The name.
        header: &'static str,
    },
    /// There are more headers than [`MAX_HEADERS`].
    #[error("the message has more than {MAX_HEADERS} headers")]
    TooMany,
}

impl Envelope {
    /// Returns the envelope of a message that comes from no frame of the exchange.
    pub(crate) const fn without_frame(
        epoch: Epoch,
        n: u64,
        received: UnixMillis,
        flags: Flags,
    ) -> Self {
        Self { epoch, n, seq: None, sid: None, received, flags, hash: None }
    }

    /// Writes the headers.
    pub fn to_headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::with_capacity(8);
        let mut push = |name: &str, value: String| headers.push((name.to_owned(), value));
        push(EPOCH, self.epoch.to_string());
        push(N, self.n.to_string());
        if let Some(seq) = self.seq {
            push(SEQ, seq.to_string());
        }
        if let Some(sid) = self.sid {
            push(SID, sid.to_string());
        }
        push(RECV, self.received.as_millis().saturating_mul(NANOS).to_string());
        push(FLAGS, self.flags.0.to_string());
        if let Some(hash) = self.hash {
            push(HASH, format!("{hash:016x}"));
        }
        headers
    }

    /// Reads the headers. Headers of other names are left alone.
    ///
    /// # Errors
    ///
    /// One that is needed is missing, one stands there twice, is too long or does not read, or there
    /// are more than [`MAX_HEADERS`].
    pub fn from_headers<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, EnvelopeError> {
        const NAMES: [&str; 7] = [EPOCH, N, SEQ, SID, RECV, FLAGS, HASH];
        let mut values = [None; NAMES.len()];
        for (count, (name, value)) in headers.into_iter().enumerate() {
            if count >= MAX_HEADERS {
                return Err(EnvelopeError::TooMany);
            }
            for (known, place) in NAMES.iter().copied().zip(&mut values) {
                if !known.eq_ignore_ascii_case(name) {
                    continue;
                }
                if value.len() > MAX_HEADER {
                    return Err(EnvelopeError::Invalid { header: known });
                }
                if place.replace(value).is_some() {
                    return Err(EnvelopeError::Repeated { header: known });
                }
            }
        }
        let [epoch, n, seq, sid, received, flags, hash] = values;
        let missing = |header| EnvelopeError::Missing { header };
        let nanos: i64 = number(RECV, received.ok_or_else(|| missing(RECV))?)?;
        let hash = hash.map(|text| {
            u64::from_str_radix(text, 16).map_err(|_| EnvelopeError::Invalid { header: HASH })
        });
        Ok(Self {
            epoch: epoch.ok_or_else(|| missing(EPOCH))?.parse()?,
            n: number(N, n.ok_or_else(|| missing(N))?)?,
            seq: seq.map(|text| number(SEQ, text)).transpose()?,
            sid: sid.map(|text| number(SID, text)).transpose()?,
            received: UnixMillis::from_millis(nanos.div_euclid(NANOS)),
            flags: Flags(number(FLAGS, flags.ok_or_else(|| missing(FLAGS))?)?),
            hash: hash.transpose()?,
        })
    }
}

fn number<T: FromStr>(header: &'static str, text: &str) -> Result<T, EnvelopeError> {
    text.parse().map_err(|_| EnvelopeError::Invalid { header })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(headers: &[(String, String)]) -> Result<Envelope, EnvelopeError> {
        Envelope::from_headers(headers.iter().map(|(name, value)| (&**name, &**value)))
    }

    proptest! {
        #[test]
        fn headers_are_read_as_they_were_written(
            (term, number, n, flags) in any::<(u64, u64, u64, u32)>(),
            publisher in "[a-z0-9._-]{1,20}",
            (seq, sid, hash) in any::<(Option<i64>, Option<i64>, Option<u64>)>(),
            millis in 0..4_000_000_000_000_i64,
        ) {
            let epoch = Epoch { term, number, publisher };
            let received = UnixMillis::from_millis(millis);
            let envelope = Envelope { epoch, n, seq, sid, received, flags: Flags(flags), hash };
            prop_assert_eq!(read(&envelope.to_headers()), Ok(envelope));
        }

        #[test]
        fn any_header_is_read_or_refused(
            headers in prop::collection::vec(
                (prop::sample::select(vec!["Kx-Epoch", "Kx-N", "Kx-Recv", "Kx-Flags", "X"]), ".{0,40}"),
                0..80,
            ),
        ) {
            let headers: Vec<_> =
                headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let _ = read(&headers);
        }
    }

    #[test]
    fn errors_name_the_header() {
        let epoch = Epoch { term: 1, number: 1, publisher: "a".to_owned() };
        let envelope = Envelope {
            epoch,
            n: 1,
            seq: None,
            sid: None,
            received: UnixMillis::EPOCH,
            flags: Flags::RESET,
            hash: None,
        };
        let headers = envelope.to_headers();
        let mut changed = headers.clone();
        changed.remove(1);
        assert_eq!(read(&changed), Err(EnvelopeError::Missing { header: "Kx-N" }));
        changed = headers.clone();
        changed.push(("kx-n".to_owned(), "1".to_owned()));
        assert_eq!(read(&changed), Err(EnvelopeError::Repeated { header: "Kx-N" }));
        changed = headers.clone();
        changed[0].1 = "1-1".to_owned();
        assert_eq!(read(&changed), Err(EnvelopeError::Invalid { header: "Kx-Epoch" }));
        changed = headers;
        changed.extend((0..MAX_HEADERS).map(|_| ("Other".to_owned(), String::new())));
        assert_eq!(read(&changed), Err(EnvelopeError::TooMany));
    }

    #[test]
    fn a_later_leader_and_a_later_connection_are_later() {
        let epoch = |term, number| Epoch { term, number, publisher: "a".to_owned() };
        assert!(epoch(1, 9) < epoch(2, 1));
        assert!(epoch(1, 1) < epoch(1, 2));
    }
}
