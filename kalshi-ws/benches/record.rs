//! A recording of many changes of books: written by a [`Recorder`], and read back.
//!
//! `cargo bench -p kalshi-ws --bench record --features recorder`. Behind `--` may stand a folder, in
//! which the recording is left (`kalshi export recording` makes tables of it), the number of changes
//! and how many are received in a second: `-- folder 10000000 150000`. The numbers are in `README.md`.
//!
//! By their times, the changes are spread evenly over four hours.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to its user")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

use std::{
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use kalshi_types::UnixMillis;
use kalshi_ws::{
    Tap as _,
    recording::{RecordedEvent, Recorder, Recording},
};

const MARKETS: u64 = 50;
const NAME: &str = "stream";
/// 26 October 2026, 12:00 UTC.
const START: i64 = 1_793_016_000_000;
const HOURS: i64 = 4;
/// The changes between two looks at the pace.
const AT_ONCE: u64 = 1_000;

fn ticker(market: u64) -> String {
    format!("KXBTCD-26OCT2612-T{}.99", 91_000 + market * 250)
}

fn market_id(market: u64) -> String {
    format!("9b0f6b43-5b68-4f9f-9f02-9a2d1b8a{market:04}")
}

fn snapshot(market: u64) -> String {
    let side = |from: u64| {
        let levels = (from..from + 40).map(|tick| format!(r#"["0.{tick:02}00","1000000.00"]"#));
        levels.collect::<Vec<_>>().join(",")
    };
    format!(
        r#"{{"type":"orderbook_snapshot","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"{}","clock":1,"yes_dollars_fp":[{}],"no_dollars_fp":[{}]}}}}"#,
        market + 1,
        ticker(market),
        market_id(market),
        side(5),
        side(50),
    )
}

/// Changes near the best prices that never empty a level below zero, always the same.
struct Deltas {
    state: u64,
    number: u64,
}

impl Deltas {
    fn random(&mut self, below: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn next(&mut self, at: i64) -> String {
        let market = self.random(MARKETS);
        let (side, tick) = match self.random(2) {
            0 => ("yes", 44 - self.random(10)),
            _ => ("no", 50 + self.random(10)),
        };
        // One in eight comes to a level between two others.
        let fine = if self.random(8) == 0 { 50 } else { 0 };
        let sign = if fine == 0 && self.random(2) == 0 { "-" } else { "" };
        let count = 1 + self.random(400);
        self.number += 1;
        format!(
            r#"{{"type":"orderbook_delta","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"{}","clock":{},"price_dollars":"0.{tick:02}{fine:02}","delta_fp":"{sign}{count}.00","side":"{side}","ts":"2026-10-26T12:00:00.000000Z","ts_ms":{at}}}}}"#,
            MARKETS + self.number,
            ticker(market),
            market_id(market),
            1 + self.number,
        )
    }
}

fn write(folder: &Path, changes: u64, rate: u64) {
    let (mut recorder, writer) = Recorder::builder(folder, NAME).start().unwrap();
    let start = UnixMillis::from_millis(START);
    let tickers = (0..MARKETS).map(|market| format!("{:?}", ticker(market)));
    let tickers = tickers.collect::<Vec<_>>().join(",");
    recorder.connected(start);
    recorder.sent(
        start,
        &format!(
            r#"{{"id":1,"cmd":"subscribe","params":{{"channels":["orderbook_delta"],"market_tickers":[{tickers}],"use_yes_price":true}}}}"#
        ),
    );
    recorder.received(
        start,
        r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":2}}"#,
    );
    for market in 0..MARKETS {
        recorder.received(start, &snapshot(market));
    }
    let mut deltas = Deltas { state: 1, number: 0 };
    let span = i128::from(HOURS * 3_600_000 - 1);
    let (began, mut bytes) = (Instant::now(), 0_u64);
    for number in 0..changes {
        if number % AT_ONCE == 0 {
            let due = Duration::from_nanos(number * 1_000_000_000 / rate);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let at = i64::try_from(span * i128::from(number) / i128::from(changes)).unwrap();
        let at = START + at;
        let frame = deltas.next(at);
        bytes += frame.len() as u64;
        recorder.received(UnixMillis::from_millis(at), &frame);
    }
    drop(recorder);
    writer.finish().unwrap();
    let files = fs::read_dir(folder).unwrap();
    let size: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    println!(
        "written: {changes} changes of {} bytes in {:.1} s, {} bytes each in the files",
        bytes / changes,
        began.elapsed().as_secs_f64(),
        size / changes,
    );
}

fn read(folder: &Path) {
    let began = Instant::now();
    let (mut received, mut lost) = (0_u64, 0);
    for line in Recording::open(folder, NAME).unwrap() {
        match line.unwrap().event {
            RecordedEvent::Received(_) => received += 1,
            RecordedEvent::Lost(lines) => lost += lines,
            _ => {}
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("read: {received} lines in {seconds:.1} s, {lost} were lost in writing");
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|given| given != "--bench").collect();
    let number = |at: usize, otherwise: u64| {
        arguments.get(at).map_or(otherwise, |given| given.parse().expect("a number"))
    };
    let (changes, rate) = (number(1, 1_000_000), number(2, 150_000));
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("record");
    let folder = arguments.first().map_or(temporary.as_path(), Path::new);
    write(folder, changes, rate);
    read(folder);
    if arguments.is_empty() {
        fs::remove_dir_all(folder).unwrap();
    }
}
