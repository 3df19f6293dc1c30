//! The cost of the number of markets to a change of a book, and of messages of other channels.
//!
//! `cargo bench -p kalshi-ws --bench spread`. The numbers are in `README.md`.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to its user")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

use std::{hint::black_box, time::Instant};

use kalshi_types::UnixMillis;
use kalshi_ws::{BookChange, Books, Decoder, Frame, PriceConvention, Replay};
use serde::Deserialize;

const FRAMES: usize = 200_000;
const NOW: UnixMillis = UnixMillis::from_millis(1_793_016_000_000);

fn ticker(market: usize) -> String {
    format!("KXBTCD-26OCT2612-T{:06}.99", market * 25)
}

/// Changes of the books of this many markets, drawn evenly, in the order in which they are applied.
struct Spread {
    replay: Replay,
    books: Books,
    deltas: Vec<String>,
    times: Vec<u128>,
}

impl Spread {
    fn new(markets: usize) -> Self {
        let (mut replay, mut books) = (Replay::new(PriceConvention::Yes), Books::new());
        let mut play = |frame: &str| {
            replay.frame(frame, NOW, |event| {
                books.apply(&event);
            });
        };
        play(r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":2}}"#);
        let id = |market: usize| format!("9b0f6b43-5b68-4f9f-9f02-9a2d1b{market:06}");
        let side = |from: usize| -> String {
            let levels = (from..from + 10).map(|tick| format!(r#"["0.{tick:02}00","1000000.00"]"#));
            levels.collect::<Vec<_>>().join(",")
        };
        let (bids, asks) = (side(35), side(50));
        for market in 0..markets {
            play(&format!(
                r#"{{"type":"orderbook_snapshot","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"{}","clock":1,"yes_dollars_fp":[{bids}],"no_dollars_fp":[{asks}]}}}}"#,
                market + 1,
                ticker(market),
                id(market),
            ));
        }
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut deltas = Vec::new();
        // Each once, so that its name is known.
        for number in 0..markets + FRAMES {
            let market = if number < markets { number } else { random(markets) };
            let is_bid = random(2) == 0;
            let tick = if is_bid { 44 - random(10) } else { 50 + random(10) };
            let frame = format!(
                r#"{{"type":"orderbook_delta","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"{}","clock":{},"price_dollars":"0.{tick:02}00","delta_fp":"{}.00","side":"{}","ts":"2026-10-26T12:00:00.000Z","ts_ms":1793016000000}}}}"#,
                markets + 1 + number,
                ticker(market),
                id(market),
                2 + number,
                1 + random(9),
                if is_bid { "yes" } else { "no" },
            );
            if number < markets {
                play(&frame);
            } else {
                deltas.push(frame);
            }
        }
        Self { replay, books, deltas, times: Vec::new() }
    }

    fn turn(&mut self, from: usize, to: usize) {
        let start = Instant::now();
        for frame in &self.deltas[from..to] {
            let mut change = BookChange::None;
            self.replay.frame(frame, NOW, |event| change = self.books.apply(&event));
            assert_eq!(change, BookChange::Updated);
        }
        self.times.push(start.elapsed().as_nanos() / (to - from) as u128);
    }
}

/// A trade as a plain struct, with its texts owned.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only read")]
struct PlainFrame {
    #[serde(rename = "type")]
    kind: String,
    sid: i64,
    seq: i64,
    sending_ts_ms: i64,
    msg: PlainTrade,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only read")]
struct PlainTrade {
    trade_id: String,
    market_ticker: String,
    yes_price_dollars: kalshi_types::Dollars,
    no_price_dollars: kalshi_types::Dollars,
    count_fp: kalshi_types::Count,
    taker_side: String,
    taker_outcome_side: String,
    taker_book_side: String,
    is_block_trade: bool,
    ts: i64,
    ts_ms: i64,
}

fn trades() {
    let frames: Vec<String> = (0..10_000)
        .map(|number| {
            format!(
                r#"{{"type":"trade","sid":11,"seq":{number},"sending_ts_ms":1793016000001,"msg":{{"trade_id":"d91bc706-ee49-470d-82d8-11418bda6fed","market_ticker":"{}","yes_price_dollars":"0.3600","no_price_dollars":"0.6400","count_fp":"136.00","taker_side":"no","taker_outcome_side":"no","taker_book_side":"ask","is_block_trade":false,"ts":1793016000,"ts_ms":1793016000000}}}}"#,
                ticker(number)
            )
        })
        .collect();
    let mut decoder = Decoder::new();
    let mut times: [Vec<u128>; 2] = Default::default();
    for _ in 0..30 {
        for slice in frames.chunks(1_000) {
            let start = Instant::now();
            for frame in slice {
                black_box(serde_json::from_str::<PlainFrame>(frame).unwrap());
            }
            times[0].push(start.elapsed().as_nanos());
            let start = Instant::now();
            for frame in slice {
                let frame = decoder.decode(frame, NOW);
                assert!(matches!(black_box(frame), Frame::Message(_)));
            }
            times[1].push(start.elapsed().as_nanos());
        }
    }
    for (name, times) in ["a plain struct", "decode"].into_iter().zip(times) {
        println!("a trade, {name}: {} ns", median(times) / 1_000);
    }
}

fn median(mut values: Vec<u128>) -> u128 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn main() {
    trades();
    let numbers = [50, 1_000, 10_000, 100_000];
    let mut spreads = numbers.map(Spread::new);
    for from in (0..FRAMES).step_by(1_000) {
        for spread in &mut spreads {
            spread.turn(from, from + 1_000);
        }
    }
    for (markets, spread) in numbers.into_iter().zip(spreads) {
        println!("{markets} markets drawn evenly: {} ns a delta", median(spread.times));
    }
}
