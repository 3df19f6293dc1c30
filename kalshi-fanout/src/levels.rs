//! The hash of a book, and a book as a frame of the exchange.

use kalshi_types::PriceLevel;
use kalshi_ws::{OrderBook, Outcome};
use serde::Serialize;

/// The FNV-1a hash of nothing.
pub(crate) const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// Continues an FNV-1a hash by further bytes.
pub(crate) fn fnv(hash: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(hash, step)
}

/// Returns the hash of the levels of a book: FNV-1a over side, price in micros and contracts in
/// hundredths, the bids for YES first, best first. The same in every program and version.
pub fn hash_levels(book: &OrderBook) -> u64 {
    let mut hash = FNV;
    let mut add = |side: u8, level: PriceLevel| {
        let price = level.price.as_micros().to_le_bytes();
        let count = level.count.as_hundredths().to_le_bytes();
        hash = fnv(hash, std::iter::once(side).chain(price).chain(count));
    };
    book.bids(Outcome::Yes).for_each(|level| add(0, level));
    book.asks(Outcome::Yes).for_each(|level| add(1, level));
    hash
}

#[derive(Serialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    msg: Snapshot<'a>,
}

#[derive(Serialize)]
struct Snapshot<'a> {
    market_ticker: &'a str,
    market_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<i64>,
    yes_dollars_fp: Vec<PriceLevel>,
    no_dollars_fp: Vec<PriceLevel>,
}

/// Writes a book as an `orderbook_snapshot`, with prices of YES on both sides.
pub(crate) fn snapshot_frame(
    ticker: &str,
    id: &str,
    clock: Option<i64>,
    book: &OrderBook,
) -> Option<String> {
    let msg = Snapshot {
        market_ticker: ticker,
        market_id: id,
        clock,
        yes_dollars_fp: book.bids(Outcome::Yes).collect(),
        no_dollars_fp: book.asks(Outcome::Yes).collect(),
    };
    serde_json::to_string(&Frame { kind: "orderbook_snapshot", msg }).ok()
}
