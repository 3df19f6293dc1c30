//! A million deltas over fifty markets of one subscription: read, and put into books.
//!
//! `cargo bench -p kalshi-ws --bench book`. The numbers are in `README.md`. The baseline is what a
//! good programmer writes in an afternoon: serde with borrowed texts, and an array as the book.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to its user")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

use std::{collections::HashMap, fmt::Write as _, hint::black_box, time::Instant};

use criterion::{Criterion, Throughput, criterion_group};
use kalshi_types::UnixMillis;
use kalshi_ws::{BookChange, Books, Decoder, Event, Frame, PriceConvention, Replay};
use serde::Deserialize;

const FRAMES: usize = 1_000_000;
const MARKETS: usize = 50;
const NOW: UnixMillis = UnixMillis::from_millis(1_700_000_000_000);

struct Frames {
    /// The confirmation, and a snapshot of each market.
    start: Vec<String>,
    deltas: Vec<String>,
}

/// Deltas that never empty a level below zero, from a generator that is always the same.
fn frames() -> Frames {
    let ticker = |market: usize| format!("KXBTCD-25NOV2312-T{}.99", 91_000 + market * 250);
    let id = |market: usize| format!("9b0f6b43-5b68-4f9f-9f02-9a2d1b8a{market:04}");
    let mut start = vec![
        r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":2}}"#.to_owned(),
    ];
    for market in 0..MARKETS {
        let side = |from: usize| {
            let mut levels = String::new();
            for tick in from..from + 40 {
                let comma = if tick == from { "" } else { "," };
                // Writing into a String cannot fail.
                let _ = write!(levels, "{comma}[\"0.{tick:02}00\",\"1000000.00\"]");
            }
            levels
        };
        start.push(format!(
            r#"{{"type":"orderbook_snapshot","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"{}","yes_dollars_fp":[{}],"no_dollars_fp":[{}]}}}}"#,
            market + 1,
            ticker(market),
            id(market),
            side(5),
            side(50),
        ));
    }
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let deltas = (0..FRAMES).map(|number| {
        let market = usize::try_from(random(MARKETS as u64)).unwrap();
        let yes = random(2) == 0;
        // Near the best price, where most changes happen; one in eight comes to a new level.
        let tick = if yes { 44 - random(10) } else { 50 + random(10) };
        let fine = if random(8) == 0 { 50 } else { 0 };
        let count = 1 + random(400);
        let sign = if fine == 0 && random(2) == 0 { "-" } else { "" };
        format!(
            r#"{{"type":"orderbook_delta","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"{}","price_dollars":"0.{tick:02}{fine:02}","delta_fp":"{sign}{count}.00","side":"{}","ts":"2025-11-23T12:00:00Z","ts_ms":{}}}}}"#,
            MARKETS + 1 + number,
            ticker(market),
            id(market),
            if yes { "yes" } else { "no" },
            1_763_899_200_000_u64 + number as u64,
        )
    });
    Frames { start, deltas: deltas.collect() }
}

/// The baseline.
mod baseline {
    use super::{Deserialize, HashMap};

    #[derive(Deserialize)]
    pub(super) struct Envelope<'a> {
        #[serde(rename = "type")]
        pub(super) kind: &'a str,
        pub(super) sid: u64,
        pub(super) seq: u64,
        #[serde(borrow)]
        pub(super) msg: Delta<'a>,
    }

    #[derive(Deserialize)]
    pub(super) struct Delta<'a> {
        pub(super) market_ticker: &'a str,
        pub(super) price_dollars: &'a str,
        #[serde(rename = "delta_fp")]
        pub(super) count: &'a str,
        pub(super) side: &'a str,
    }

    /// Hundredths of contracts by price in 10^-4 dollars, for each side.
    pub(super) struct Book(pub(super) [Vec<i64>; 2]);

    pub(super) type Books = HashMap<String, Book>;

    /// Parses a decimal in units of 10^-`DECIMALS`.
    pub(super) fn fixed<const DECIMALS: usize>(text: &str) -> Option<i64> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > DECIMALS {
            return None;
        }
        let mut value: i64 = whole.parse().ok()?;
        for at in 0..DECIMALS {
            let digit = fraction.as_bytes().get(at).map_or(0, |byte| byte.wrapping_sub(b'0'));
            if digit > 9 {
                return None;
            }
            value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
        }
        Some(if negative { -value } else { value })
    }

    pub(super) fn apply(books: &mut Books, last: &mut u64, frame: &[u8]) -> Option<()> {
        let envelope: Envelope<'_> = serde_json::from_slice(frame).ok()?;
        if envelope.kind != "orderbook_delta" || envelope.sid != 2 || envelope.seq != *last + 1 {
            return None;
        }
        *last = envelope.seq;
        let price = usize::try_from(fixed::<4>(envelope.msg.price_dollars)?).ok()?;
        let delta = fixed::<2>(envelope.msg.count)?;
        let side = usize::from(envelope.msg.side == "no");
        let level = books.get_mut(envelope.msg.market_ticker)?.0[side].get_mut(price)?;
        *level = level.checked_add(delta).filter(|level| *level >= 0)?;
        Some(())
    }
}

fn baseline_books(frames: &Frames) -> baseline::Books {
    let mut decoder = Decoder::new();
    let mut books = baseline::Books::new();
    for frame in &frames.start {
        let Frame::Message(message) = decoder.decode(frame, NOW) else { continue };
        let kalshi_ws::Payload::OrderbookSnapshot(snapshot) = message.payload else { continue };
        let mut book = baseline::Book([vec![0; 10_001], vec![0; 10_001]]);
        for (side, levels) in [&snapshot.yes_dollars_fp, &snapshot.no_dollars_fp].iter().enumerate()
        {
            for level in *levels {
                let price = usize::try_from(level.price.as_micros() / 100).unwrap();
                book.0[side][price] = level.count.as_hundredths();
            }
        }
        books.insert(snapshot.market_ticker.clone(), book);
    }
    books
}

/// Returns a replay and its books, after the snapshots.
fn started(frames: &Frames) -> (Replay, Books) {
    let (mut replay, mut books) = (Replay::new(PriceConvention::Yes), Books::new());
    for frame in &frames.start {
        play(&mut replay, &mut books, frame);
    }
    assert_eq!(books.iter().count(), MARKETS);
    (replay, books)
}

fn play(replay: &mut Replay, books: &mut Books, frame: &str) -> BookChange {
    let mut change = BookChange::None;
    replay.frame(frame, NOW, |event| change = books.apply(&event));
    change
}

fn bench(criterion: &mut Criterion) {
    let frames = frames();
    let bytes: usize = frames.deltas.iter().map(String::len).sum();
    println!("{} frames of {} bytes on average", FRAMES, bytes / FRAMES);
    let mut group = criterion.benchmark_group("a million deltas");
    group.sample_size(10).throughput(Throughput::Elements(FRAMES as u64));

    group.bench_function("baseline: parse", |bencher| {
        bencher.iter(|| {
            for frame in &frames.deltas {
                let envelope: baseline::Envelope<'_> =
                    serde_json::from_slice(frame.as_bytes()).unwrap();
                black_box(envelope.msg.count);
            }
        });
    });
    group.bench_function("baseline: parse and apply", |bencher| {
        bencher.iter_batched_ref(
            || (baseline_books(&frames), MARKETS as u64),
            |(books, last)| {
                for frame in &frames.deltas {
                    baseline::apply(books, last, frame.as_bytes()).unwrap();
                }
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.bench_function("decode, the short way", |bencher| {
        let mut decoder = Decoder::new();
        bencher.iter(|| {
            for frame in &frames.deltas {
                black_box(decoder.decode(frame, NOW));
            }
        });
    });
    group.bench_function("decode, the general way", |bencher| {
        let mut decoder = Decoder::new();
        bencher.iter(|| {
            for frame in &frames.deltas {
                black_box(decoder.decode_any(frame, NOW));
            }
        });
    });
    group.bench_function("decode and apply", |bencher| {
        bencher.iter_batched_ref(
            || (Decoder::new(), started(&frames).1),
            |(decoder, books)| {
                for frame in &frames.deltas {
                    let Frame::Message(message) = decoder.decode(frame, NOW) else { panic!() };
                    assert_eq!(books.apply(&Event::Message(message)), BookChange::Updated);
                }
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.bench_function("decode, check the sequence, apply", |bencher| {
        bencher.iter_batched_ref(
            || started(&frames),
            |(replay, books)| {
                for frame in &frames.deltas {
                    assert_eq!(play(replay, books, frame), BookChange::Updated);
                }
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
    same_books(&frames);
    side_by_side(&frames);
    latencies(&frames);
}

/// Checks that both ways end with the same books.
fn same_books(frames: &Frames) {
    let (mut replay, mut books) = started(frames);
    let (mut others, mut last) = (baseline_books(frames), MARKETS as u64);
    for frame in &frames.deltas {
        play(&mut replay, &mut books, frame);
        baseline::apply(&mut others, &mut last, frame.as_bytes()).unwrap();
    }
    for (ticker, book) in books.iter() {
        let other = &others[ticker].0;
        let levels = |side: usize| other[side].iter().filter(|count| **count > 0).count();
        assert_eq!(book.bids(kalshi_ws::Outcome::Yes).len(), levels(0));
        assert_eq!(book.asks(kalshi_ws::Outcome::Yes).len(), levels(1));
        for level in book.bids(kalshi_ws::Outcome::Yes) {
            let price = usize::try_from(level.price.as_micros() / 100).unwrap();
            assert_eq!(other[0][price], level.count.as_hundredths());
        }
    }
    println!("both end with the same books");
}

/// Measures the ways in turn, a thousand frames at a time, and prints the median of each: other
/// programs on the machine disturb all of them alike.
fn side_by_side(frames: &Frames) {
    let (mut others, mut last) = (baseline_books(frames), MARKETS as u64);
    let (mut decoder, mut books) = (Decoder::new(), started(frames).1);
    let (mut replay, mut replayed) = started(frames);
    let mut parse_only = Decoder::new();
    let mut times: [Vec<u128>; 4] = Default::default();
    for slice in frames.deltas.chunks(1_000) {
        let start = Instant::now();
        for frame in slice {
            baseline::apply(&mut others, &mut last, frame.as_bytes()).unwrap();
        }
        times[0].push(start.elapsed().as_nanos());
        let start = Instant::now();
        for frame in slice {
            black_box(parse_only.decode(frame, NOW));
        }
        times[1].push(start.elapsed().as_nanos());
        let start = Instant::now();
        for frame in slice {
            let Frame::Message(message) = decoder.decode(frame, NOW) else { panic!() };
            assert_eq!(books.apply(&Event::Message(message)), BookChange::Updated);
        }
        times[2].push(start.elapsed().as_nanos());
        let start = Instant::now();
        for frame in slice {
            assert_eq!(play(&mut replay, &mut replayed, frame), BookChange::Updated);
        }
        times[3].push(start.elapsed().as_nanos());
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    let names = ["baseline", "decode", "decode and apply", "decode, check, apply"];
    for (name, median) in names.iter().zip(medians) {
        let percent = median * 100 / medians[0];
        println!("in turns, {name}: {} ns a frame, {percent} % of the baseline", median / 1_000);
    }
}

/// Measures single deltas, clock included.
fn latencies(frames: &Frames) {
    let (mut replay, mut books) = started(frames);
    let mut decoder = Decoder::new();
    let mut whole = Vec::with_capacity(FRAMES);
    for frame in &frames.deltas {
        let start = Instant::now();
        play(&mut replay, &mut books, frame);
        whole.push(start.elapsed().as_nanos());
    }
    let mut books = started(frames).1;
    let mut apply = Vec::with_capacity(FRAMES);
    for frame in &frames.deltas {
        let Frame::Message(message) = decoder.decode(frame, NOW) else { panic!() };
        let event = Event::Message(message);
        let start = Instant::now();
        black_box(books.apply(&event));
        apply.push(start.elapsed().as_nanos());
    }
    for (name, mut times) in [("apply", apply), ("decode, check, apply", whole)] {
        times.sort_unstable();
        let at = |thousandth: usize| times[times.len() * thousandth / 1_000];
        println!("{name}, one at a time, ns: p50 {}, p99 {}, p99.9 {}", at(500), at(990), at(999));
    }
}

criterion_group!(benches, bench);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
