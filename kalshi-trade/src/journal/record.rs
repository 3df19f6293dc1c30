//! The records of a journal and their lines.
//!
//! A line is the CRC-32 of its JSON in eight hexadecimal digits, a blank, the JSON, and a line feed,
//! which JSON does not contain. So a change of any one byte shows.

use kalshi_types::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{ChangeIntent, ClientOrderId, Intent, Session, intent::MAX_BODY};

/// The first line of a file.
pub(super) const HEADER: &str = r#"{"kind":"kalshi-trade journal","version":1}"#;

/// The longest line, in bytes: each byte of a body takes two at most when it is escaped, as a body
/// is JSON and so has no control characters, and the rest is short.
pub(super) const MAX_LINE: usize = 2 * MAX_BODY + 1024;

/// The digits of the CRC and the blank.
const CRC_LENGTH: usize = 9;

/// A record of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// The journal was opened.
    Opened(Session),
    /// An order is about to be sent for the first time.
    Intent {
        /// The order.
        intent: Intent,
        /// The time before it is sent.
        at: UnixMillis,
    },
    /// An order is about to be sent again.
    Sending {
        /// The order.
        id: ClientOrderId,
        /// Counts its sendings, the first included: from 2.
        attempt: u32,
        /// The time before it is sent.
        at: UnixMillis,
    },
    /// The outcome of an order is known.
    Settled {
        /// The order.
        id: ClientOrderId,
        /// The outcome.
        settlement: Settlement,
        /// The time at which it became known.
        at: UnixMillis,
    },
    /// A session has placed orders, whose records were compacted away. They may rest all the same.
    Past {
        /// The number of the session.
        number: u32,
        /// Its 64 random bits.
        nonce: u64,
    },
    /// A change of an order is about to be sent, for the first time or again.
    Change {
        /// The change.
        intent: ChangeIntent,
        /// The time before it is sent for the first time.
        at: UnixMillis,
    },
    /// The outcome of a change is known.
    ChangeSettled {
        /// The number of the change.
        number: u64,
        /// The outcome.
        settlement: ChangeSettlement,
        /// The time at which it became known.
        at: UnixMillis,
    },
}

/// The known outcome of a change of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ChangeSettlement {
    /// The order was as wanted.
    Reached,
    /// The order is over, by a cancel, its fills or the exchange: nothing changes it any more.
    Over,
    /// The exchange refused the change, and the order was as before.
    Refused {
        /// The status of the answer.
        status: u16,
    },
    /// The change cannot be carried out any more, and the order rested otherwise than wanted.
    NotReached,
    /// Nothing was sent that could have been carried out.
    Withdrawn,
}

/// The known outcome of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Settlement {
    /// The exchange has the order. Follow it by its id.
    Accepted {
        /// The exchange's id of the order.
        order_id: String,
    },
    /// The exchange refused the order and has nothing of it. Fix the cause before placing another.
    Refused {
        /// The status of the answer.
        status: u16,
    },
    /// The order was sent, is proven not to exist, and is not sent again. It is safe to place
    /// another.
    GivenUp,
    /// Nothing was sent that could have been carried out. It is safe to place another.
    Withdrawn,
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Opened { number: u32, nonce: u64, opened: UnixMillis },
    Intent { body: String, hash: u64, at: UnixMillis },
    Sending { id: ClientOrderId, attempt: u32, at: UnixMillis },
    Settled { id: ClientOrderId, settlement: Settlement, at: UnixMillis },
    Past { number: u32, nonce: u64 },
    Change { intent: ChangeIntent, at: UnixMillis },
    ChangeSettled { number: u64, settlement: ChangeSettlement, at: UnixMillis },
}

impl Record {
    /// Returns the line, or `None` if it would be longer than a line may be.
    pub(super) fn to_line(&self) -> Option<String> {
        let line = match self.clone() {
            Self::Opened(Session { number, nonce, opened }) => {
                Line::Opened { number, nonce, opened }
            }
            Self::Intent { intent, at } => {
                Line::Intent { hash: intent.hash(), body: intent.body().to_owned(), at }
            }
            Self::Sending { id, attempt, at } => Line::Sending { id, attempt, at },
            Self::Settled { id, settlement, at } => Line::Settled { id, settlement, at },
            Self::Past { number, nonce } => Line::Past { number, nonce },
            Self::Change { intent, at } => Line::Change { intent, at },
            Self::ChangeSettled { number, settlement, at } => {
                Line::ChangeSettled { number, settlement, at }
            }
        };
        frame(&serde_json::to_string(&line).ok()?)
    }

    /// Reads what is framed in a line.
    pub(super) fn from_json(json: &str) -> Result<Self, String> {
        Ok(match serde_json::from_str(json).map_err(|error| error.to_string())? {
            Line::Opened { number, nonce, opened } => {
                Self::Opened(Session { number, nonce, opened })
            }
            Line::Intent { body, hash, at } => {
                let intent = Intent::new(body).map_err(|error| error.to_string())?;
                if intent.hash() != hash {
                    return Err("the body of an order does not have its hash".to_owned());
                }
                Self::Intent { intent, at }
            }
            Line::Sending { id, attempt, at } => Self::Sending { id, attempt, at },
            Line::Settled { id, settlement, at } => Self::Settled { id, settlement, at },
            Line::Past { number, nonce } => Self::Past { number, nonce },
            Line::Change { intent, at } => Self::Change { intent, at },
            Line::ChangeSettled { number, settlement, at } => {
                Self::ChangeSettled { number, settlement, at }
            }
        })
    }
}

/// Returns the line of a JSON text, with its line feed; `None` if it is too long.
pub(super) fn frame(json: &str) -> Option<String> {
    let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
    (line.len() <= MAX_LINE).then_some(line)
}

/// Returns the JSON text of a line without its line feed; `None` if the line is damaged.
pub(super) fn unframe(line: &[u8]) -> Option<&str> {
    let (crc, json) = line.split_at_checked(CRC_LENGTH)?;
    let json = std::str::from_utf8(json).ok()?;
    let expected = format!("{:08x} ", crc32fast::hash(json.as_bytes()));
    (crc == expected.as_bytes()).then_some(json)
}
