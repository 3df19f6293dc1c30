//! The records of a journal and their lines.
//!
//! A line is the CRC-32 of its JSON in eight hexadecimal digits, a blank, the JSON, and a line feed,
//! which JSON does not contain. So a change of any one byte shows.

use std::io::Write as _;

use kalshi_types::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{
    ChangeIntent, ClientOrderId, Intent, Product, Session,
    intent::MAX_BODY,
    trigger::{TriggerIntent, TriggerSettlement},
};

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
    /// An exit trigger is about to be sent, for the first time or again.
    Trigger {
        /// The trigger.
        intent: TriggerIntent,
        /// The time before it is sent.
        at: UnixMillis,
    },
    /// The outcome of an exit trigger is known.
    TriggerSettled {
        /// Its `client_trigger_id`.
        id: String,
        /// The outcome.
        settlement: TriggerSettlement,
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

/// A record as it is read.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Opened {
        number: u32,
        nonce: u64,
        opened: UnixMillis,
    },
    Intent {
        body: String,
        hash: u64,
        at: UnixMillis,
        #[serde(default)]
        product: Product,
    },
    Sending {
        id: ClientOrderId,
        attempt: u32,
        at: UnixMillis,
    },
    Settled {
        id: ClientOrderId,
        settlement: Settlement,
        at: UnixMillis,
    },
    Past {
        number: u32,
        nonce: u64,
    },
    Change {
        intent: ChangeIntent,
        at: UnixMillis,
    },
    ChangeSettled {
        number: u64,
        settlement: ChangeSettlement,
        at: UnixMillis,
    },
    Trigger {
        intent: TriggerIntent,
        at: UnixMillis,
    },
    TriggerSettled {
        id: String,
        settlement: TriggerSettlement,
        at: UnixMillis,
    },
}

/// A record as it is written: the same members.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum LineRef<'a> {
    Opened {
        number: u32,
        nonce: u64,
        opened: UnixMillis,
    },
    Intent {
        body: &'a str,
        hash: u64,
        at: UnixMillis,
        #[serde(skip_serializing_if = "Product::is_event_contracts")]
        product: Product,
    },
    Sending {
        id: &'a ClientOrderId,
        attempt: u32,
        at: UnixMillis,
    },
    Settled {
        id: &'a ClientOrderId,
        settlement: &'a Settlement,
        at: UnixMillis,
    },
    Past {
        number: u32,
        nonce: u64,
    },
    Change {
        intent: &'a ChangeIntent,
        at: UnixMillis,
    },
    ChangeSettled {
        number: u64,
        settlement: ChangeSettlement,
        at: UnixMillis,
    },
    Trigger {
        intent: &'a TriggerIntent,
        at: UnixMillis,
    },
    TriggerSettled {
        id: &'a str,
        settlement: &'a TriggerSettlement,
        at: UnixMillis,
    },
}

impl<'a> From<&'a Record> for LineRef<'a> {
    fn from(record: &'a Record) -> Self {
        match record {
            Record::Opened(Session { number, nonce, opened }) => {
                Self::Opened { number: *number, nonce: *nonce, opened: *opened }
            }
            Record::Intent { intent, at } => Self::Intent {
                body: intent.body(),
                hash: intent.hash(),
                at: *at,
                product: intent.product(),
            },
            Record::Sending { id, attempt, at } => Self::Sending { id, attempt: *attempt, at: *at },
            Record::Settled { id, settlement, at } => Self::Settled { id, settlement, at: *at },
            Record::Past { number, nonce } => Self::Past { number: *number, nonce: *nonce },
            Record::Change { intent, at } => Self::Change { intent, at: *at },
            Record::ChangeSettled { number, settlement, at } => {
                Self::ChangeSettled { number: *number, settlement: *settlement, at: *at }
            }
            Record::Trigger { intent, at } => Self::Trigger { intent, at: *at },
            Record::TriggerSettled { id, settlement, at } => {
                Self::TriggerSettled { id, settlement, at: *at }
            }
        }
    }
}

impl Record {
    /// Appends the line to a text; `None` if it would be longer than a line may be, and what the
    /// text has then behind its old end is of no use.
    pub(super) fn append_line(&self, text: &mut Vec<u8>) -> Option<()> {
        let begin = text.len();
        text.extend_from_slice(&[b' '; CRC_LENGTH]);
        let is_written = match self {
            Self::Intent { intent, at } => append_intent(text, intent, *at),
            _ => false,
        };
        if !is_written {
            serde_json::to_writer(&mut *text, &LineRef::from(self)).ok()?;
        }
        let (crc, json) = text.get_mut(begin..)?.split_at_mut_checked(CRC_LENGTH)?;
        let digits = crc_digits(json);
        crc.get_mut(..digits.len())?.copy_from_slice(&digits);
        text.push(b'\n');
        (text.len().saturating_sub(begin) <= MAX_LINE).then_some(())
    }

    /// Reads what is framed in a line.
    pub(super) fn from_json(json: &str) -> Result<Self, String> {
        Ok(match serde_json::from_str(json).map_err(|error| error.to_string())? {
            Line::Opened { number, nonce, opened } => {
                Self::Opened(Session { number, nonce, opened })
            }
            Line::Intent { body, hash, at, product } => {
                let intent = Intent::of(product, body).map_err(|error| error.to_string())?;
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
            Line::Trigger { intent, at } => Self::Trigger { intent, at },
            Line::TriggerSettled { id, settlement, at } => {
                Self::TriggerSettled { id, settlement, at }
            }
        })
    }
}

/// Appends the JSON of an intent, as serde does. It is the longest of all records and in the way of
/// every order, and its body is text that has little to escape. Returns whether it did: not with
/// control characters, which the body of a request does not have.
fn append_intent(text: &mut Vec<u8>, intent: &Intent, at: UnixMillis) -> bool {
    let body = intent.body().as_bytes();
    if body.iter().any(|byte| *byte < b' ') {
        return false;
    }
    text.reserve(body.len().saturating_mul(2).saturating_add(128));
    text.extend_from_slice(br#"{"kind":"intent","body":""#);
    for byte in body {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    let product: &[u8] = match intent.product() {
        Product::EventContracts => b"}",
        Product::Perps => br#","product":"perps"}"#,
    };
    let is_written = write!(text, r#"","hash":{},"at":{}"#, intent.hash(), at.as_millis()).is_ok();
    text.extend_from_slice(product);
    is_written
}

/// Returns the CRC-32 of a JSON text in hexadecimal digits.
fn crc_digits(json: &[u8]) -> [u8; 8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = crc32fast::hash(json).to_be_bytes().into_iter();
    let mut digits = [0; 8];
    for pair in digits.chunks_exact_mut(2) {
        let byte = usize::from(bytes.next().unwrap_or_default());
        pair.copy_from_slice(&[DIGITS[byte >> 4], DIGITS[byte & 0xf]]);
    }
    digits
}

/// Returns the line of a JSON text, with its line feed.
pub(super) fn frame(json: &str) -> String {
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
}

/// Returns the JSON text of a line without its line feed; `None` if the line is damaged.
pub(super) fn unframe(line: &[u8]) -> Option<&str> {
    let (crc, json) = line.split_at_checked(CRC_LENGTH)?;
    let (digits, blank) = crc.split_last_chunk::<1>()?;
    let is_whole = *digits == crc_digits(json) && blank == b" ";
    if !is_whole {
        return None;
    }
    std::str::from_utf8(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_written_as_serde_writes_it() {
        let at = UnixMillis::from_millis(-7);
        for body in [
            r#"{"client_order_id":"a-1","ticker":"T","side":"bid"}"#,
            r#"{"client_order_id":"a\\\"1","ticker":"T\u00e9\\ \n é 🦀","side":"ask"}"#,
            "{\"client_order_id\":\"a\",\n\t\"ticker\":\"T\u{7f}\",\"side\":\"bid\"}\r\n",
        ] {
            for product in [Product::EventContracts, Product::Perps] {
                let intent = Intent::of(product, body).unwrap();
                let record = Record::Intent { intent, at };
                let mut line = b"before".to_vec();
                record.append_line(&mut line).unwrap();
                let json = serde_json::to_string(&LineRef::from(&record)).unwrap();
                assert_eq!(Record::from_json(&json), Ok(record));
                let expected = frame(&json);
                assert_eq!(String::from_utf8(line).unwrap(), format!("before{expected}"));
            }
            let record = Record::Intent { intent: Intent::new(body).unwrap(), at };
            let expected = frame(&serde_json::to_string(&LineRef::from(&record)).unwrap());
            let json = unframe(expected.trim_end_matches('\n').as_bytes()).unwrap();
            assert_eq!(Record::from_json(json).unwrap(), record);
        }
    }

    #[test]
    fn the_digits_of_a_checksum_are_those_of_format() {
        for text in ["", "a", HEADER, "0123456789"] {
            let expected = format!("{:08x}", crc32fast::hash(text.as_bytes()));
            assert_eq!(crc_digits(text.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        let order_id = "o".repeat(MAX_LINE);
        let settlement = Settlement::Accepted { order_id };
        let at = UnixMillis::EPOCH;
        let record = Record::Settled { id: "a-1".parse().unwrap(), settlement, at };
        assert_eq!(record.append_line(&mut Vec::new()), None);
    }
}
