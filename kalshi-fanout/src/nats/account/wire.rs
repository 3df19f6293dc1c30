//! Requests for the account and their answers, as bytes. An answer goes in pieces.

use bytes::Bytes;
use kalshi_types::UnixMillis;
use kalshi_ws::AccountSnapshot;
use serde::{Deserialize, Serialize};

use super::AccountError;
use crate::levels::{FNV, fnv};

/// The version of requests and answers.
pub(super) const VERSION: u16 = 1;

/// The bytes of a piece without its header.
const PIECE: usize = 256 * 1_024 - HEADER;

/// Version, number of the piece, number of pieces, length and hash of the whole answer.
const HEADER: usize = 2 + 4 + 4 + 4 + 8;

/// The bytes of a whole answer.
const MAX_ANSWER: usize = 64 << 20;

/// The bytes of a request.
const MAX_REQUEST: usize = 1_024;

/// The characters of an error's text.
const MAX_REASON: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Query {
    AsOf,
    Account { fills_since: Option<UnixMillis> },
}

#[derive(Serialize, Deserialize)]
struct Request {
    version: u16,
    query: Query,
}

#[derive(Deserialize)]
struct Version {
    version: u16,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    AsOf(UnixMillis),
    Account(AccountSnapshot),
    /// The source could not be read.
    Failed(String),
    /// The request is invalid.
    Refused(String),
}

pub(super) fn write_request(query: Query) -> Result<Bytes, AccountError> {
    let written = serde_json::to_vec(&Request { version: VERSION, query });
    written.map(Bytes::from).map_err(|error| invalid(error.to_string()))
}

/// Reads a request, or returns the reason for which it is refused.
pub(super) fn read_request(bytes: &[u8]) -> Result<Query, String> {
    if bytes.len() > MAX_REQUEST {
        return Err(format!("it has {} bytes: the most are {MAX_REQUEST}", bytes.len()));
    }
    let does_not_read = |error: serde_json::Error| format!("it does not read: {error}");
    let Version { version } = serde_json::from_slice(bytes).map_err(does_not_read)?;
    if version != VERSION {
        return Err(format!("it is of version {version}: the server reads version {VERSION}"));
    }
    serde_json::from_slice(bytes).map(|request: Request| request.query).map_err(does_not_read)
}

/// Returns an answer that the source could not be read.
pub(super) fn failed(reason: &str) -> Answer {
    Answer::Failed(reason.chars().take(MAX_REASON).collect())
}

/// Returns the pieces of an answer; of an error if it is too large.
pub(super) fn write_answer(answer: &Answer) -> Vec<Bytes> {
    let reason = match serde_json::to_vec(answer) {
        Ok(body) if body.len() <= MAX_ANSWER => return split(&body),
        Ok(body) => format!("the account takes {} bytes: the most are {MAX_ANSWER}", body.len()),
        Err(error) => format!("the account could not be written: {error}"),
    };
    // A short text.
    serde_json::to_vec(&failed(&reason)).map(|body| split(&body)).unwrap_or_default()
}

fn split(body: &[u8]) -> Vec<Bytes> {
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let hash = fnv(FNV, body.iter().copied()).to_be_bytes();
    let (count, length) = (number(body.len().div_ceil(PIECE)), number(body.len()));
    let piece = |(at, part): (usize, &[u8])| {
        let at = number(at);
        [&VERSION.to_be_bytes()[..], &at, &count, &length, &hash, part].concat().into()
    };
    body.chunks(PIECE).enumerate().map(piece).collect()
}

/// The number of pieces, the length and the hash of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Whole {
    count: u32,
    length: u32,
    hash: u64,
}

/// An answer of which pieces are missing. A broker keeps the order of the messages of a server, so a
/// piece that is not the next one means that others were lost, or came twice.
#[derive(Default)]
pub(super) struct Assembly {
    whole: Option<Whole>,
    next: u32,
    body: Vec<u8>,
}

impl Assembly {
    /// Takes the next piece, and returns the answer if it was the last one.
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Result<Option<Answer>, AccountError> {
        let short = || invalid("a piece is too short".to_owned());
        let version = u16::from_be_bytes(field(&mut piece).ok_or_else(short)?);
        if version != VERSION {
            return Err(AccountError::Version { version });
        }
        let number = u32::from_be_bytes(field(&mut piece).ok_or_else(short)?);
        let count = u32::from_be_bytes(field(&mut piece).ok_or_else(short)?);
        let length = u32::from_be_bytes(field(&mut piece).ok_or_else(short)?);
        let hash = u64::from_be_bytes(field(&mut piece).ok_or_else(short)?);
        let whole = Whole { count, length, hash };
        if *self.whole.get_or_insert(whole) != whole {
            return Err(invalid("a piece is of another answer".to_owned()));
        }
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > MAX_ANSWER {
            return Err(invalid(format!("it has {length} bytes: the most are {MAX_ANSWER}")));
        }
        if number != self.next {
            let next = self.next;
            return Err(invalid(format!("piece {number} came instead of piece {next}")));
        }
        self.next += 1;
        self.body.extend_from_slice(piece);
        if self.body.len() > size || number >= count {
            return Err(invalid("it has more bytes or pieces than it says".to_owned()));
        }
        if self.next < count {
            return Ok(None);
        }
        if self.body.len() != size || fnv(FNV, self.body.iter().copied()) != hash {
            return Err(invalid("its hash or its length is another one".to_owned()));
        }
        // The text of the error could quote the account.
        let answer = serde_json::from_slice(&self.body).map_err(|error| {
            invalid(format!("it does not read at {}:{}", error.line(), error.column()))
        });
        answer.map(Some)
    }
}

fn field<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*field)
}

pub(super) const fn invalid(reason: String) -> AccountError {
    AccountError::Invalid { reason }
}

#[cfg(test)]
mod tests {
    use kalshi_types::{Count, Dollars};
    use kalshi_ws::{FillRecord, OrderRecord, PositionRecord};
    use proptest::prelude::*;

    use super::*;

    fn millis() -> impl Strategy<Value = UnixMillis> {
        (0..4_000_000_000_000_i64).prop_map(UnixMillis::from_millis)
    }

    fn dollars() -> impl Strategy<Value = Dollars> {
        (-1_000_000_000_000..1_000_000_000_000_i64).prop_map(Dollars::from_micros)
    }

    fn count() -> impl Strategy<Value = Count> {
        (-1_000_000_000..1_000_000_000_i64).prop_map(Count::from_hundredths)
    }

    /// A value of an open enum, known or not.
    fn label() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("yes".to_owned()),
            Just("bid".to_owned()),
            Just("resting".to_owned()),
            "[a-z_]{0,12}"
        ]
    }

    prop_compose! {
        fn fill()(
            ids in any::<[String; 3]>(),
            (own, subaccount, is_taker) in any::<(Option<String>, Option<i64>, bool)>(),
            (outcome, book) in (label(), label()),
            (price, fee, count) in (dollars(), dollars(), count()),
            ts_ms in prop::option::of(millis()),
            position_after in prop::option::of(count()),
        ) -> FillRecord {
            let [trade_id, order_id, market_ticker] = ids;
            FillRecord {
                trade_id, order_id, market_ticker, client_order_id: own, subaccount,
                outcome_side: outcome.as_str().into(), book_side: book.as_str().into(),
                yes_price: price, count, fee, is_taker, ts_ms, position_after,
            }
        }
    }

    prop_compose! {
        fn order()(
            ids in any::<[String; 3]>(),
            subaccount in any::<Option<i64>>(),
            (status, outcome, book) in (label(), label(), label()),
            yes_price in dollars(),
            (initial, remaining, filled) in (count(), count(), count()),
            updated in prop::option::of(millis()),
        ) -> OrderRecord {
            let [order_id, client_order_id, market_ticker] = ids;
            OrderRecord {
                order_id, client_order_id, market_ticker, subaccount,
                status: status.as_str().into(), outcome_side: outcome.as_str().into(),
                book_side: book.as_str().into(), yes_price, initial, remaining, filled, updated,
            }
        }
    }

    prop_compose! {
        fn position()(
            market_ticker in any::<String>(),
            subaccount in any::<Option<i64>>(),
            count in count(),
            amounts in prop::array::uniform3(prop::option::of(dollars())),
        ) -> PositionRecord {
            let [cost, realized_pnl, fees] = amounts;
            PositionRecord { market_ticker, subaccount, count, cost, realized_pnl, fees }
        }
    }

    fn read(pieces: &[Bytes]) -> Result<Option<Answer>, AccountError> {
        let mut assembly = Assembly::default();
        pieces.iter().try_fold(None, |_, piece| assembly.take(piece))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_account_is_read_as_it_was_written(
            as_of in millis(),
            fills in prop::collection::vec(fill(), 0..4),
            orders in prop::collection::vec(order(), 0..4),
            positions in prop::collection::vec(position(), 0..4),
        ) {
            let mut snapshot = AccountSnapshot::new(as_of);
            (snapshot.fills, snapshot.orders, snapshot.positions) = (fills, orders, positions);
            let answer = Answer::Account(snapshot);
            prop_assert_eq!(read(&write_answer(&answer)).unwrap(), Some(answer));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_request(&bytes);
            let mut assembly = Assembly::default();
            prop_assert!(!matches!(assembly.take(&bytes), Ok(Some(_))));
        }
    }

    #[test]
    fn a_piece_that_is_lost_doubled_foreign_or_changed_is_an_error() {
        let text = |character: &str| Answer::Refused(character.repeat(3 * PIECE));
        let (pieces, other) = (write_answer(&text("a")), write_answer(&text("b")));
        assert_eq!(pieces.len(), 4);
        assert!(pieces.iter().all(|piece| piece.len() <= 256 * 1_024));
        assert_eq!(read(&pieces).unwrap(), Some(text("a")));
        assert_eq!(read(&pieces[..3]).unwrap(), None);
        for at in 0..4 {
            let mut lost = pieces.clone();
            lost.remove(at);
            // Without the last one nothing is whole.
            assert!(at == 3 || read(&lost).is_err());
            let mut doubled = pieces.clone();
            doubled.insert(at, pieces[at].clone());
            assert!(at == 3 || read(&doubled).is_err());
            let mut foreign = pieces.clone();
            foreign[at] = other[at].clone();
            assert!(read(&foreign).is_err());
            let mut changed = pieces.clone();
            let mut bytes = changed[at].to_vec();
            bytes[HEADER + 5] ^= 1;
            changed[at] = bytes.into();
            assert!(read(&changed).is_err());
        }
    }

    #[test]
    fn another_version_is_refused() {
        let query = Query::Account { fills_since: Some(UnixMillis::from_millis(5)) };
        let request = write_request(query).unwrap();
        assert_eq!(read_request(&request), Ok(query));
        let request = String::from_utf8(request.to_vec()).unwrap();
        let refused = read_request(request.replace(":1,", ":2,").as_bytes()).unwrap_err();
        assert!(refused.contains("version 2"), "{refused}");
        let mut piece = write_answer(&failed("x"))[0].to_vec();
        piece[1] = 2;
        let refused = Assembly::default().take(&piece);
        assert!(matches!(refused, Err(AccountError::Version { version: 2 })));
    }
}
