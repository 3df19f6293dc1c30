//! The positions, which come from two channels and from REST.
//!
//! Each message about a position has all of it, but no time. A fill has its time and the count
//! after it, and may come late. So a fill sets the count only where it is known to be newer than
//! what set it before; otherwise the message about the position, which follows every fill, sets it.

use std::collections::BTreeMap;

use kalshi_types::{Count, UnixMillis};

use super::{
    Held,
    records::{FillRecord, PositionRecord, main_is_none},
};

/// A market and a subaccount.
type Key = (String, Option<i64>);

#[derive(Debug, Default)]
pub(super) struct Positions {
    held: BTreeMap<Key, Held<Position>>,
    /// The time that the last read is complete up to.
    read_as_of: Option<UnixMillis>,
}

#[derive(Debug)]
struct Position {
    record: PositionRecord,
    set_by: SetBy,
    /// The time of the newest fill in the market, whether or not it set the count.
    newest_fill: Option<UnixMillis>,
}

/// The source of a position's count.
#[derive(Clone, Copy, Debug)]
enum SetBy {
    Read,
    Fill,
    /// A message about the position, with the time at which it was sent.
    Message(Option<UnixMillis>),
}

impl Positions {
    pub(super) fn iter(&self) -> impl Iterator<Item = &PositionRecord> {
        self.held.values().map(|held| &held.value.record)
    }

    pub(super) fn count(&self, ticker: &str, subaccount: Option<i64>) -> Count {
        let key = (ticker.to_owned(), main_is_none(subaccount));
        self.held.get(&key).map_or(Count::ZERO, |held| held.value.record.count)
    }

    /// Takes in a message about a position. They come in order.
    pub(super) fn take(&mut self, record: PositionRecord, sent: Option<UnixMillis>, step: u64) {
        let key = key(&record);
        let newest_fill = self.held.get(&key).and_then(|held| held.value.newest_fill);
        let position = Position { record, set_by: SetBy::Message(sent), newest_fill };
        self.held.insert(key, Held { value: position, step });
    }

    /// Takes in a fill that was not known before.
    pub(super) fn take_fill(&mut self, fill: &FillRecord, step: u64) {
        let Some(after) = fill.position_after else { return };
        let key = (fill.market_ticker.clone(), fill.subaccount);
        let before = fill.position_before();
        // What was read has every fill up to its time.
        let is_after_read = match (fill.ts_ms, self.read_as_of) {
            (Some(ts), Some(as_of)) => ts > as_of,
            (_, None) => true,
            (None, Some(_)) => before.is_some_and(|before| before == self.count(&key.0, key.1)),
        };
        let Some(held) = self.held.get_mut(&key) else {
            if is_after_read {
                let record = PositionRecord {
                    market_ticker: fill.market_ticker.clone(),
                    subaccount: fill.subaccount,
                    count: after,
                    cost: None,
                    realized_pnl: None,
                    fees: None,
                };
                let position = Position { record, set_by: SetBy::Fill, newest_fill: fill.ts_ms };
                self.held.insert(key, Held { value: position, step });
            }
            return;
        };
        let position = &mut held.value;
        let continues = before == Some(position.record.count);
        let is_newer = match (fill.ts_ms, position.newest_fill) {
            (Some(ts), Some(newest)) => ts > newest,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let is_as_new = fill.ts_ms.is_none() || fill.ts_ms == position.newest_fill;
        let is_next = match position.set_by {
            SetBy::Read | SetBy::Fill => is_newer || is_as_new && continues,
            SetBy::Message(sent) => {
                let is_after = sent.zip(fill.ts_ms).is_some_and(|(sent, ts)| ts > sent);
                is_newer && is_after && continues
            }
        };
        position.newest_fill = position.newest_fill.max(fill.ts_ms);
        if is_after_read && is_next {
            position.record.count = after;
            position.set_by = SetBy::Fill;
            held.step = step;
        }
    }

    /// Takes in all positions that are not zero, as they were after every message up to the step.
    pub(super) fn take_read(
        &mut self,
        positions: Vec<PositionRecord>,
        as_of: UnixMillis,
        step: u64,
    ) {
        self.read_as_of = Some(as_of);
        self.held.retain(|_, held| held.step > step);
        for record in positions {
            self.held.entry(key(&record)).or_insert_with(|| {
                let set_by = SetBy::Read;
                Held { value: Position { record, set_by, newest_fill: None }, step: 0 }
            });
        }
    }
}

fn key(record: &PositionRecord) -> Key {
    (record.market_ticker.clone(), main_is_none(record.subaccount))
}
