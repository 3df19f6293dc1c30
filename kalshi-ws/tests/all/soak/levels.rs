//! Books as plain numbers, and the random choices of a soak.

use std::collections::BTreeMap;

use serde_json::Value;

/// A book by side (bids or not) and price in micros, with hundredths of contracts. The price of an
/// event contract is that of YES.
pub(super) type Levels = BTreeMap<(bool, i64), i64>;

/// A change of a book: its clock (0 where there is none), its side and price, and what it adds.
pub(super) type Change = (i64, bool, i64, i64);

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % bound
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

const fn mix(mut mixed: u64) -> u64 {
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns one level as a number; a book is the sum of its levels, whatever their order.
pub(super) fn mark(is_bid: bool, price: i64, count: i64) -> u64 {
    mix(price.unsigned_abs() ^ mix(count.unsigned_abs() ^ u64::from(is_bid) << 63))
}

/// Returns the sum of the levels of a book.
pub(super) fn sum(levels: &Levels) -> u64 {
    let marks = levels.iter().map(|((is_bid, price), count)| mark(*is_bid, *price, *count));
    marks.fold(0, u64::wrapping_add)
}

/// Parses a number with `places` decimals, as on the wire. Nothing here is this project's code.
pub(super) fn decimal(text: &Value, places: usize) -> i64 {
    let text = text.as_str().unwrap();
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    assert!(rest.len() <= places, "{text}");
    format!("{whole}{rest:0<places$}").parse().unwrap()
}
