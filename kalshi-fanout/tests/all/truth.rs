//! The exchange of the chaos tests: books that change at random, and the frames that say so.

use std::{collections::BTreeMap, env};

use kalshi_ws::{OrderBook, Outcome};

pub(crate) const SUBSCRIBED: &str =
    r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#;

/// The generator `SplitMix64`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % bound
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub(crate) fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

fn mix(mut mixed: u64) -> u64 {
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A book as a number: the sum of its levels, in cents and hundredths of contracts.
fn mark(is_bid: bool, cents: i64, hundredths: i64) -> u64 {
    mix(cents.unsigned_abs() ^ mix(hundredths.unsigned_abs() ^ u64::from(is_bid) << 63))
}

pub(crate) fn shown(book: &OrderBook) -> u64 {
    let bids = book.bids(Outcome::Yes).map(|level| (true, level));
    let levels = bids.chain(book.asks(Outcome::Yes).map(|level| (false, level)));
    levels.fold(0, |sum: u64, (is_bid, level)| {
        let cents = level.price.to_cents().unwrap();
        sum.wrapping_add(mark(is_bid, cents, level.count.as_hundredths()))
    })
}

pub(crate) fn ticker(market: usize) -> String {
    // Two that a bad escape would mix up are among them.
    match market {
        0 => "KX-A.D".to_owned(),
        1 => "KX-A_D".to_owned(),
        market => format!("KX-{market}"),
    }
}

/// The exchange's own book, kept without code of this workspace.
#[derive(Default)]
pub(crate) struct Book {
    levels: BTreeMap<(bool, i64), i64>,
    pub(crate) sum: u64,
}

impl Book {
    /// Returns the snapshot as the exchange sends it.
    pub(crate) fn snapshot(&self, ticker: &str, seq: u64) -> String {
        let side = |wanted: bool| {
            let levels = self.levels.iter().filter(|((bid, _), _)| *bid == wanted);
            let levels = levels.map(|((_, cents), count)| {
                format!("[\"0.{cents:02}\",\"{}.{:02}\"]", count / 100, count % 100)
            });
            levels.collect::<Vec<_>>().join(",")
        };
        let (bids, asks) = (side(true), side(false));
        format!(
            r#"{{"type":"orderbook_snapshot","sid":1,"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"id","yes_dollars_fp":[{bids}],"no_dollars_fp":[{asks}]}}}}"#
        )
    }
}

/// A change of one level.
pub(crate) struct Change {
    is_bid: bool,
    cents: i64,
    delta: i64,
}

impl Change {
    /// Makes a change, and applies it to the book.
    pub(crate) fn random(random: &mut Random, book: &mut Book) -> Self {
        let is_bid = random.one_in(2);
        let cents = if is_bid { 40 } else { 50 } + i64::try_from(random.below(10)).unwrap();
        let grow = 1 + i64::try_from(random.below(500)).unwrap();
        let before = book.levels.get(&(is_bid, cents)).copied().unwrap_or_default();
        let delta = if before > 0 && grow % 2 == 0 {
            if random.one_in(3) { -before } else { -grow.min(before) }
        } else {
            grow
        };
        let after = before + delta;
        if before > 0 {
            book.sum = book.sum.wrapping_sub(mark(is_bid, cents, before));
        }
        if after > 0 {
            book.sum = book.sum.wrapping_add(mark(is_bid, cents, after));
            book.levels.insert((is_bid, cents), after);
        } else {
            book.levels.remove(&(is_bid, cents));
        }
        Self { is_bid, cents, delta }
    }

    /// Returns the delta as the exchange sends it.
    pub(crate) fn frame(&self, ticker: &str, seq: u64) -> String {
        let Self { is_bid, cents, delta } = self;
        let side = if *is_bid { "yes" } else { "no" };
        let (sign, contracts) = (if *delta < 0 { "-" } else { "" }, delta.abs());
        format!(
            r#"{{"type":"orderbook_delta","sid":1,"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"id","price_dollars":"0.{cents:02}","delta_fp":"{sign}{}.{:02}","side":"{side}","ts_ms":1}}}}"#,
            contracts / 100,
            contracts % 100
        )
    }
}

/// Returns the number of an environment variable.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}
