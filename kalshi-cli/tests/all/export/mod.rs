//! `kalshi export`: whole lists, exact, and gone on with after an interruption.

use kalshi_sdk::OperationId;
use kalshi_sim::{Fault, FaultKind};
use serde_json::Value;

use crate::support::Setup;

/// Returns the values of a field of each line.
fn field(ndjson: &str, name: &str) -> Vec<String> {
    let line = |line| serde_json::from_str::<Value>(line).unwrap();
    ndjson.lines().map(|text| line(text)[name].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn trades_and_fills_are_live_and_archived_and_none_comes_twice() {
    let setup = Setup::new().await;
    for (kind, id, live, archived) in [
        ("trades", "trade_id", "get_trades", "get_trades_historical"),
        ("fills", "fill_id", "get_fills", "get_fills_historical"),
    ] {
        let ran = setup.run(&["export", kind, "--format", "ndjson", "--to", "+1h"]).await;
        assert_eq!(ran.code, 0, "{ran:#?}");
        let ids = field(&ran.stdout, id);
        // Nothing but the sum: no progress where no person looks.
        assert_eq!(ran.stderr, format!("{} rows\n", ids.len()));
        let mut expected = Vec::new();
        for operation in [live, archived] {
            let list = ["api", operation, "-p", "limit=1000", "--all", "-o", "ndjson"];
            expected.extend(field(&setup.run(&list).await.ok(), id));
        }
        let sorted = |ids: &[String]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        let mut once = sorted(&expected);
        once.dedup();
        assert!(once.len() > 1, "{kind}");
        assert_eq!(sorted(&ids), once, "{kind}");
        // CSV has the same rows and a header, whatever fields a row has.
        let csv = setup.run(&["export", kind, "--to", "+1h", "-q"]).await;
        assert_eq!((csv.code, csv.stderr.as_str()), (0, ""));
        let mut lines = csv.stdout.lines();
        let header = lines.next().unwrap();
        let at = header.split(',').position(|name| name == id).unwrap();
        let column: Vec<&str> = lines.map(|line| line.split(',').nth(at).unwrap()).collect();
        assert_eq!(column, ids, "{header}");
        let first: Value = serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
        let known: Vec<&str> = header.split(',').collect();
        // Old names of fields are in NDJSON only.
        let old = ["taker_side", "side", "action", "market_ticker", "ts"];
        for (name, value) in first.as_object().unwrap() {
            assert!(known.contains(&name.as_str()) || old.contains(&name.as_str()), "{name}");
            assert!(!value.is_f64(), "{name} is a float");
        }
    }
}

#[tokio::test]
async fn an_export_that_was_interrupted_goes_on_in_its_file() {
    let setup = Setup::new().await;
    let path = |name: &str| setup.folder.path().join(name).to_str().unwrap().to_owned();
    let (whole, file) = (path("whole.csv"), path("trades.csv"));
    let until = ["--to", "2030-01-01T00:00:00Z"];
    let export =
        |file: &str| [&["export", "trades", "--file", file][..], &until].concat().join(" ");
    let run = async |line: &str| setup.run(&line.split(' ').collect::<Vec<_>>()).await;
    run(&export(&whole)).await.ok();
    let expected = std::fs::read_to_string(&whole).unwrap();

    let fault = Fault::builder(FaultKind::Status { status: 500, html: false });
    let fault = fault.with_operation(OperationId::GetTradesHistorical).build();
    setup.exchange.faults().add(fault).unwrap();
    let ran = run(&export(&file)).await;
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("the same command goes on"), "{ran:#?}");
    let part = format!("{file}.part");
    let begun = std::fs::read_to_string(&part).unwrap();
    assert!(begun.lines().count() > 1 && begun.len() < expected.len(), "the live rows");
    assert!(!std::path::Path::new(&file).exists());
    setup.exchange.faults().clear();
    // What was written after the last checkpoint is cut off, and comes again.
    std::fs::write(&part, format!("{begun}half a r")).unwrap();
    // Another export does not go on in the file.
    let other = run(&format!("{} --format ndjson", export(&file))).await;
    assert!(other.code == 2 && other.stderr.contains("of another export"), "{other:#?}");

    run(&export(&file)).await.ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    for end in [".part", ".part.json"] {
        assert!(!std::path::Path::new(&format!("{file}{end}")).exists(), "{end}");
    }
    // A file that is there is not written over.
    let from = setup.exchange.requests().len();
    let again = run(&export(&file)).await;
    assert!(again.code == 2 && again.stderr.contains("exists"), "{again:#?}");
    assert_eq!(setup.asked(from), [""; 0]);
}

#[tokio::test]
async fn candles_and_books_are_written_with_every_digit() {
    let setup = Setup::new().await;
    let trades = setup.run(&["market", "trades", "--limit", "1", "-o", "json"]).await.json();
    let ticker = trades["trades"][0]["ticker"].as_str().unwrap();
    let span = ["--from", "2d", "--to", "+1h", "--format", "ndjson"];
    let candles = setup.run(&[&["export", "candles", ticker][..], &span].concat()).await.ok();
    let rows: Vec<Value> =
        candles.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!rows.is_empty());
    let ends: Vec<i64> = rows.iter().map(|row| row["end_period_ts"].as_i64().unwrap()).collect();
    assert!(ends.is_sorted_by(|a, b| a < b), "{ends:?}");
    assert!(rows[0]["volume_fp"].is_string() && rows[0]["ticker"] == ticker, "{}", rows[0]);
    let open = ["api", "get_markets", "-p", "status=open", "-p", "limit=1"];
    let open = setup.run(&open).await.json()["markets"][0].clone();
    let book = ["export", "book", open["ticker"].as_str().unwrap(), "-q"];
    let book = setup.run(&book).await.ok();
    let best = |side: &str| {
        let line = book.lines().find(|line| line.contains(&format!(",{side},1,"))).unwrap();
        line.split(',').nth(4).unwrap().to_owned()
    };
    assert_eq!(best("bid"), open["yes_bid_dollars"], "{book}");
    assert_eq!(best("ask"), open["yes_ask_dollars"], "{book}");
    let ran = setup.run(&["export", "trades", "--from", "1h", "--to", "2h"]).await;
    assert!(ran.code == 2 && ran.stderr.contains("not before"), "{ran:#?}");
}

#[cfg(feature = "parquet")]
mod parquet {
    use std::{
        collections::BTreeMap,
        fs::{self, File},
        path::{Path, PathBuf},
        process::Stdio,
    };

    use ::parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::Field,
    };
    use kalshi_sdk::{
        Count, Dollars, UnixMillis,
        streams::{Books, DisconnectReason, Outcome, PriceConvention, Replay, Tap as _},
    };
    use kalshi_ws::recording::{RecordedEvent, Recorder, Recording};
    use serde_json::json;

    use super::*;
    use crate::support::{Folder, Ran, bare, finish};

    mod compact;

    /// The values of a row as text, decimals with all their digits; nothing for null.
    type Row = BTreeMap<String, String>;

    fn text(field: &Field) -> Option<String> {
        Some(match field {
            Field::Null => return None,
            Field::Bool(flag) => flag.to_string(),
            Field::Long(number) | Field::TimestampMicros(number) => number.to_string(),
            Field::Str(text) => text.clone(),
            Field::Decimal(decimal) => {
                let digits = i64::from_be_bytes(decimal.data().try_into().unwrap());
                assert_eq!(decimal.precision(), 18);
                match decimal.scale() {
                    6 => Dollars::from_micros(digits).to_string(),
                    2 => Count::from_hundredths(digits).to_string(),
                    other => panic!("{other}"),
                }
            }
            other => panic!("{other:?}"),
        })
    }

    fn read(path: &Path) -> Vec<Row> {
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let row = |row: ::parquet::record::Row| {
            let fields = row.get_column_iter();
            fields.filter_map(|(name, field)| Some((name.clone(), text(field)?))).collect()
        };
        reader.get_row_iter(None).unwrap().map(|found| row(found.unwrap())).collect()
    }

    fn metadata(path: &Path) -> BTreeMap<String, String> {
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
        pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap())).collect()
    }

    #[tokio::test]
    async fn csv_ndjson_and_parquet_have_the_same_values_to_the_last_digit() {
        let setup = Setup::new().await;
        let trades = setup.run(&["market", "trades", "--limit", "1", "-o", "json"]).await.json();
        let ticker = trades["trades"][0]["ticker"].as_str().unwrap();
        let open = ["api", "get_markets", "-p", "status=open", "-p", "limit=1"];
        let open = setup.run(&open).await.json()["markets"][0].clone();
        let until = ["--to", "2030-01-01T00:00:00Z"];
        // The same for each of the three.
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let (begin, end) = ((now - 172_800).to_string(), (now + 3_600).to_string());
        let span = ["--from", &begin, "--to", &end];
        for (kind, arguments, times) in [
            ("trades", &until[..], &[("exch_ts", "created_time")][..]),
            ("fills", &until, &[("exch_ts", "created_time")]),
            ("candles", &[&[ticker][..], &span].concat(), &[("end_ts", "end_period_ts")]),
            // Its time is that of the command.
            ("book", &[open["ticker"].as_str().unwrap()], &[]),
        ] {
            let path = |end: &str| setup.folder.path().join(format!("{kind}.{end}"));
            for format in ["csv", "ndjson", "parquet"] {
                let path = path(format);
                let to = ["--format", format, "--file", path.to_str().unwrap()];
                let line = [&["export", kind][..], arguments, &to].concat();
                setup.run(&line).await.ok();
                for end in [".part", ".part.json", ".tmp"] {
                    let mut left = path.as_os_str().to_owned();
                    left.push(end);
                    assert!(!PathBuf::from(left).exists(), "{kind} {end}");
                }
            }
            let rows = read(&path("parquet"));
            let ndjson = fs::read_to_string(path("ndjson")).unwrap();
            let csv = fs::read_to_string(path("csv")).unwrap();
            assert!(!rows.is_empty(), "{kind}");
            assert_eq!(rows.len(), ndjson.lines().count(), "{kind}");
            assert_eq!(rows.len() + 1, csv.lines().count(), "{kind}");
            let columns: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
            for ((row, line), cells) in rows.iter().zip(ndjson.lines()).zip(csv.lines().skip(1)) {
                let json: Value = serde_json::from_str(line).unwrap();
                let cells: Vec<&str> = cells.split(',').collect();
                compare(kind, row, &json, &columns.iter().copied().zip(cells).collect(), times);
            }
            let about = metadata(&path("parquet"));
            assert_eq!(about["kalshi.schema_version"], "1");
            assert_eq!(about["kalshi.document_version"], kalshi_sdk::SPEC_VERSION);
            assert!(about["kalshi.source"].contains(kind), "{about:?}");
        }
    }

    /// Compares a row of Parquet with the same one of NDJSON and of CSV.
    fn compare(
        kind: &str,
        row: &Row,
        json: &Value,
        csv: &BTreeMap<&str, &str>,
        times: &[(&str, &str)],
    ) {
        let mut compared = 0;
        for (column, value) in row {
            let member = match column.as_str() {
                "count" | "volume" | "open_interest" => format!("{column}_fp"),
                "price" => "yes_price_dollars".to_owned(),
                "fee" => "fee_cost".to_owned(),
                "outcome" | "taker_outcome" => format!("{column}_side"),
                "is_block" => "is_block_trade".to_owned(),
                "subaccount" => "subaccount_number".to_owned(),
                "shard" => "exchange_index".to_owned(),
                "level_no" => "level".to_owned(),
                name => match times.iter().find(|(time, _)| *time == name) {
                    Some((_, member)) => (*member).to_owned(),
                    None => name.to_owned(),
                },
            };
            let dollars = format!("{member}_dollars");
            let member = if json.get(&dollars).is_some() { dollars } else { member };
            let Some(expected) = json.get(&member) else {
                let extra = ["series", "source", "flags", "recv_ts"];
                assert!(extra.contains(&column.as_str()), "{kind} {column}");
                continue;
            };
            let expected =
                expected.as_str().map_or_else(|| expected.to_string(), ToOwned::to_owned);
            assert_eq!(csv[member.as_str()], expected, "{kind} {column}");
            let is_time = times.iter().any(|(time, _)| time == column);
            let expected = match (is_time, expected.parse::<i64>()) {
                (true, Ok(seconds)) => (seconds * 1_000_000).to_string(),
                (true, Err(_)) => {
                    let time = chrono::DateTime::parse_from_rfc3339(&expected).unwrap();
                    time.timestamp_micros().to_string()
                }
                _ if member.ends_with("_dollars") || column == "fee" => {
                    expected.parse::<Dollars>().unwrap().to_string()
                }
                _ if member.ends_with("_fp") => expected.parse::<Count>().unwrap().to_string(),
                _ => expected,
            };
            assert_eq!(*value, expected, "{kind} {column}");
            compared += 1;
        }
        assert!(compared >= 5, "{kind} {row:?}");
    }

    #[tokio::test]
    async fn an_interrupted_export_to_parquet_goes_on_and_needs_a_file() {
        let setup = Setup::new().await;
        let path = |name: &str| setup.folder.path().join(name).to_str().unwrap().to_owned();
        let export = async |file: &str| {
            let to = ["--to", "2030-01-01T00:00:00Z", "--format", "parquet", "--file", file];
            setup.run(&[&["export", "trades"][..], &to].concat()).await
        };
        let (whole, file) = (path("whole.parquet"), path("trades.parquet"));
        export(&whole).await.ok();
        let fault = Fault::builder(FaultKind::Status { status: 500, html: false });
        let fault = fault.with_operation(OperationId::GetTradesHistorical).build();
        setup.exchange.faults().add(fault).unwrap();
        let ran = export(&file).await;
        assert!(ran.code == 1 && ran.stderr.contains("the same command goes on"), "{ran:#?}");
        assert!(!Path::new(&file).exists());
        setup.exchange.faults().clear();
        // It was killed while it made the file, too.
        fs::write(format!("{file}.tmp"), "PAR1 and no more").unwrap();
        export(&file).await.ok();
        assert_eq!(read(Path::new(&file)), read(Path::new(&whole)));
        assert_eq!(fs::read(&file).unwrap(), fs::read(&whole).unwrap());
        let from = setup.exchange.requests().len();
        let none = setup.run(&["export", "trades", "--format", "parquet"]).await;
        assert!(none.code == 2 && none.stderr.contains("--file"), "{none:#?}");
        assert_eq!(setup.asked(from), [""; 0]);
    }

    const TICKERS: [&str; 3] =
        ["KXBTC-26DEC31-T100000", "KXHIGHNY-26NOV25-B60", "KXFED-27JAN-T3.75"];

    /// 2026-11-25T13:40:00Z.
    const BEGIN: i64 = 1_795_614_000_000;

    /// Numbers that are always the same.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }
    }

    /// An exchange that sends what is recorded.
    struct Sender {
        recorder: Recorder,
        random: Random,
        at: i64,
        /// The numbers of the subscriptions and of their next messages.
        sids: [i64; 3],
        seqs: [i64; 3],
        /// By market, whether it is a bid, and price in tenths of a cent: hundredths of contracts.
        books: BTreeMap<(usize, bool, i64), i64>,
        trades: u64,
    }

    impl Sender {
        fn send(&mut self, text: &str) {
            self.recorder.received(UnixMillis::from_millis(self.at), text);
        }

        fn seq(&mut self, channel: usize) -> i64 {
            self.seqs[channel] += 1;
            self.seqs[channel]
        }

        fn connect(&mut self) {
            self.recorder.connected(UnixMillis::from_millis(self.at));
            self.seqs = [0; 3];
            for (at, channel) in ["orderbook_delta", "trade", "ticker"].iter().enumerate() {
                self.sids[at] += 3;
                let sid = self.sids[at];
                self.send(&format!(
                    r#"{{"id":{},"type":"subscribed","msg":{{"channel":"{channel}","sid":{sid}}}}}"#,
                    at + 1
                ));
            }
            (0..TICKERS.len()).for_each(|market| self.snapshot(market));
        }

        fn snapshot(&mut self, market: usize) {
            let levels = |side: bool| -> Vec<[String; 2]> {
                let books = self.books.iter().filter(|(key, _)| key.0 == market && key.1 == side);
                books.map(|((_, _, price), count)| [dollars(*price), count_text(*count)]).collect()
            };
            let frame = json!({
                "type": "orderbook_snapshot", "sid": self.sids[0], "seq": self.seqs[0] + 1,
                "msg": {
                    "market_ticker": TICKERS[market], "market_id": "m",
                    "yes_dollars_fp": levels(true), "no_dollars_fp": levels(false),
                },
            });
            self.seq(0);
            self.send(&frame.to_string());
        }

        /// Takes a market out of the subscription of books, and adds it again.
        fn take_out_for_a_while(&mut self, market: usize) {
            for (id, action) in [(8, "delete_markets"), (9, "add_markets")] {
                let sid = self.sids[0];
                let params =
                    json!({"sids": [sid], "action": action, "market_tickers": [TICKERS[market]]});
                let command = json!({"id": id, "cmd": "update_subscription", "params": params});
                self.recorder.sent(UnixMillis::from_millis(self.at), &command.to_string());
                self.at += 40;
                let seq = self.seq(0);
                self.send(&json!({"id": id, "type": "ok", "sid": sid, "seq": seq}).to_string());
                self.at += 40;
            }
            self.snapshot(market);
        }

        /// Changes a level of a book: bids are below 0.5, asks above.
        fn delta(&mut self) {
            let market = usize::try_from(self.random.below(3)).unwrap();
            let is_bid = self.random.below(2) == 0;
            let away = i64::try_from(self.random.below(12)).unwrap() + 1;
            let price = if is_bid { 500 - away } else { 500 + away };
            let level = self.books.entry((market, is_bid, price)).or_default();
            let change = match self.random.below(3) {
                0 if *level > 0 => -*level,
                1 if *level > 100 => -100,
                _ => i64::try_from(self.random.below(100_000)).unwrap() + 1,
            };
            *level += change;
            if *level == 0 {
                self.books.remove(&(market, is_bid, price));
            }
            let frame = json!({
                "type": "orderbook_delta", "sid": self.sids[0], "seq": self.seqs[0] + 1,
                "msg": {
                    "market_ticker": TICKERS[market], "market_id": "m",
                    "price_dollars": dollars(price), "delta_fp": count_text(change),
                    "side": if is_bid { "yes" } else { "no" }, "ts_ms": self.at - 3,
                },
            });
            self.seq(0);
            self.send(&frame.to_string());
        }

        fn trade(&mut self) {
            self.trades += 1;
            let market = usize::try_from(self.random.below(3)).unwrap();
            let price = i64::try_from(self.random.below(998)).unwrap() + 1;
            let count = i64::try_from(self.random.below(1_000_000)).unwrap() + 1;
            let frame = json!({
                "type": "trade", "sid": self.sids[1], "seq": self.seqs[1] + 1,
                "msg": {
                    "trade_id": format!("trade-{}", self.trades),
                    "market_ticker": TICKERS[market], "yes_price_dollars": dollars(price),
                    "no_price_dollars": dollars(1_000 - price), "count_fp": count_text(count),
                    "taker_outcome_side": "yes", "taker_book_side": "bid", "taker_side": "yes",
                    "is_block_trade": false, "ts": self.at / 1_000, "ts_ms": self.at - 2,
                },
            });
            self.seq(1);
            self.send(&frame.to_string());
        }

        fn ticker(&mut self) {
            let market = usize::try_from(self.random.below(3)).unwrap();
            let frame = json!({
                "type": "ticker", "sid": self.sids[2],
                "msg": {
                    "market_ticker": TICKERS[market], "market_id": "m", "price_dollars": "0.5010",
                    "last_trade_size_fp": "1.25", "yes_bid_dollars": "0.4990",
                    "yes_bid_size_fp": "3.00", "yes_ask_dollars": "0.5010",
                    "yes_ask_size_fp": "4.00", "volume_fp": "1000.25",
                    "open_interest_fp": "99.75", "dollar_volume": 500, "dollar_open_interest": 50,
                    "ts": self.at / 1_000, "ts_ms": self.at - 1,
                    "time": "2026-11-25T14:00:00Z",
                },
            });
            self.send(&frame.to_string());
        }
    }

    fn dollars(tenths: i64) -> String {
        Dollars::from_micros(tenths * 1_000).to_string()
    }

    fn count_text(hundredths: i64) -> String {
        Count::from_hundredths(hundredths).to_string()
    }

    /// Records messages of more than three hours, with a sequence gap, a lost connection and
    /// snapshots, in several files.
    fn record(folder: &Path, steps: u32) {
        let recorder = Recorder::builder(folder, "stream").with_host("production");
        let recorder = recorder.with_bytes_per_file(u64::from(steps) * 60);
        let (recorder, writer) = recorder.start().unwrap();
        let random = Random(0x9e37_79b9_7f4a_7c15);
        let mut sender = Sender {
            recorder,
            random,
            at: BEGIN,
            sids: [1, 2, 3],
            seqs: [0; 3],
            books: BTreeMap::new(),
            trades: 0,
        };
        sender.connect();
        for step in 1..=steps {
            // No two messages have the same time.
            let apart = 3 * 3_600_000 / u64::from(steps);
            sender.at += i64::try_from(sender.random.below(2 * apart)).unwrap() + 1;
            match step {
                _ if step == steps / 4 => {
                    // A message is lost, and every book has to come again.
                    sender.seq(0);
                    sender.delta();
                    for market in 0..TICKERS.len() {
                        sender.at += 40;
                        sender.snapshot(market);
                    }
                }
                _ if step == steps / 2 => {
                    let at = UnixMillis::from_millis(sender.at);
                    sender.recorder.disconnected(at, "reset by peer");
                    sender.at += 2_000;
                    sender.connect();
                }
                _ if step == steps / 4 * 3 => sender.take_out_for_a_while(2),
                _ if step % 97 == 0 => sender.snapshot(1),
                _ => match sender.random.below(10) {
                    0..2 => sender.trade(),
                    2 => sender.ticker(),
                    _ => sender.delta(),
                },
            }
        }
        drop(sender);
        writer.finish().unwrap();
    }

    /// A book, best first: prices and counts of the bids, and of the asks.
    type Book = [Vec<(String, String)>; 2];

    /// Returns the books after each line, as a connection would have had them, and the time of the
    /// line. `None` for a book that cannot be read.
    fn replayed(folder: &Path) -> Vec<(i64, BTreeMap<&'static str, Option<Book>>)> {
        let mut replay = Replay::new(PriceConvention::Yes);
        let mut books = Books::new();
        let mut moments = Vec::new();
        for line in Recording::open(folder, "stream").unwrap() {
            let line = line.unwrap();
            match line.event {
                RecordedEvent::Received(text) => {
                    replay.frame(&text, line.at, |event| {
                        books.apply(&event);
                    });
                }
                RecordedEvent::Sent(text) => {
                    replay.sent(&text, |event| {
                        books.apply(&event);
                    });
                }
                RecordedEvent::Disconnected(reason) => {
                    let reason = DisconnectReason::Failed(reason);
                    replay.disconnected(reason, |event| {
                        books.apply(&event);
                    });
                }
                _ => {}
            }
            let side = |levels: &mut dyn Iterator<Item = kalshi_sdk::PriceLevel>| {
                levels.map(|level| (level.price.to_string(), level.count.to_string())).collect()
            };
            let book = |ticker| {
                let book = books.get(ticker)?;
                let bids = side(&mut book.bids(Outcome::Yes));
                Some([bids, side(&mut book.asks(Outcome::Yes))])
            };
            moments.push((line.at.as_millis(), TICKERS.map(|name| (name, book(name))).into()));
        }
        moments
    }

    fn export(folder: &Folder, from: &Path, into: &Path) -> Ran {
        finish(&mut command(folder, from, into))
    }

    fn command(folder: &Folder, from: &Path, into: &Path) -> std::process::Command {
        let words = ["export", "recording", from.to_str().unwrap()];
        bare(folder, &[&words[..], &["--into", into.to_str().unwrap()]].concat())
    }

    /// Returns all files below a folder, by their paths in it.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(folder).unwrap().to_owned();
                    // A file may get another name meanwhile.
                    files.insert(name, fs::read(path).unwrap_or_default());
                }
            }
        }
        files
    }

    /// Returns the rows of a table, by their files.
    fn table(into: &Path, name: &str) -> BTreeMap<PathBuf, Vec<Row>> {
        let part = format!("table={name}/");
        let found = files(into).into_keys().filter(|path| path.to_str().unwrap().contains(&part));
        found.map(|path| (path.clone(), read(&into.join(path)))).collect()
    }

    /// Returns a book as the rows of an hour have it after a line.
    fn rebuilt(rows: &[&Row], line: i64) -> Option<Book> {
        let number = |row: &Row, name: &str| row[name].parse::<i64>().unwrap();
        let before = || rows.iter().filter(|row| number(row, "line") <= line);
        let start = before().rfind(|row| ["snapshot", "clear"].contains(&row["kind"].as_str()))?;
        if start["kind"] == "clear" {
            return None;
        }
        let mut sides = [BTreeMap::new(), BTreeMap::new()];
        for row in before().filter(|row| number(row, "n") > number(start, "n")) {
            let price: Dollars = row["price"].parse().unwrap();
            let side = &mut sides[usize::from(row["side"] == "ask")];
            side.insert(price, row["level_after"].clone());
        }
        let [bids, asks] = sides;
        let level = |(price, count): (Dollars, String)| {
            (count.parse::<Count>().unwrap() != Count::ZERO).then(|| (price.to_string(), count))
        };
        Some([
            bids.into_iter().rev().filter_map(level).collect(),
            asks.into_iter().filter_map(level).collect(),
        ])
    }

    #[test]
    fn the_rows_of_a_recording_give_the_books_of_its_replay_at_every_moment() {
        let folder = Folder::new();
        let (from, into) = (folder.path().join("recording"), folder.path().join("history"));
        record(&from, 1_500);
        assert!(fs::read_dir(&from).unwrap().count() > 2, "several files");
        export(&folder, &from, &into).ok();
        let moments = replayed(&from);
        let deltas = table(&into, "book_deltas");
        assert_eq!(deltas.len(), 4, "13, 14, 15 and 16 o'clock: {:?}", deltas.keys());
        let mut random = Random(7);
        let (mut read, mut unreadable) = (0, 0);
        let mut lines: Vec<usize> = (0..250)
            .map(|_| usize::try_from(random.below(moments.len() as u64)).unwrap())
            .collect();
        // The gap, the lost connection and the market that was taken out, line by line.
        let voids = |at: &usize| moments[*at].1.values().any(Option::is_none);
        lines.extend((0..moments.len()).filter(voids));
        let mut all: Vec<&Row> = deltas.values().flatten().collect();
        all.sort_by_key(|row| row["n"].parse::<i64>().unwrap());
        let numbers: Vec<i64> = all.iter().map(|row| row["n"].parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(1..=i64::try_from(numbers.len()).unwrap()));
        let mut hours: BTreeMap<(i64, &str), Vec<&Row>> = BTreeMap::new();
        for row in all {
            let hour = row["recv_ts"].parse::<i64>().unwrap() / 3_600_000_000;
            hours.entry((hour, &row["ticker"])).or_default().push(row);
        }
        for at in lines {
            let (time, books) = &moments[at];
            for (ticker, expected) in books {
                // The hour alone is enough.
                let hour = time / 3_600_000;
                let rows = hours.get(&(hour, ticker)).map(Vec::as_slice).unwrap_or_default();
                let line = i64::try_from(at + 1).unwrap();
                assert_eq!(rebuilt(rows, line), *expected, "{ticker} after line {line}");
                *(if expected.is_some() { &mut read } else { &mut unreadable }) += 1;
            }
        }
        assert!(read > 500 && unreadable > 5, "{read} {unreadable}");
        check_tables(&into, &from);
    }

    /// Checks the tables beside that of changes.
    fn check_tables(into: &Path, from: &Path) {
        let mut trades = Vec::new();
        let mut tickers = 0;
        for line in Recording::open(from, "stream").unwrap() {
            let RecordedEvent::Received(text) = line.unwrap().event else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            match frame["type"].as_str().unwrap() {
                "trade" => trades.push(frame["msg"].clone()),
                "ticker" => tickers += 1,
                _ => {}
            }
        }
        let mut rows: Vec<Row> = table(into, "trades").into_values().flatten().collect();
        rows.sort_by_key(|row| row["line"].parse::<i64>().unwrap());
        assert_eq!(rows.len(), trades.len());
        for (row, trade) in rows.iter().zip(&trades) {
            for (column, member) in [
                ("trade_id", "trade_id"),
                ("ticker", "market_ticker"),
                ("yes_price", "yes_price_dollars"),
                ("no_price", "no_price_dollars"),
                ("count", "count_fp"),
                ("taker_book_side", "taker_book_side"),
            ] {
                assert_eq!(row[column], trade[member].as_str().unwrap(), "{column}");
            }
            assert_eq!(row["exch_ts"], format!("{}000", trade["ts_ms"]));
        }
        let ticker: Vec<Row> = table(into, "ticker").into_values().flatten().collect();
        assert_eq!(ticker.len(), tickers);
        assert!(ticker.iter().all(|row| row["volume"] == "1000.25" && row["last_count"] == "1.25"));
        let gaps: Vec<Row> = table(into, "gaps").into_values().flatten().collect();
        let of = |reason: &str| gaps.iter().filter(|row| row["reason"].contains(reason)).count();
        assert_eq!(of("messages are missing"), 1, "{gaps:?}");
        assert_eq!(of("reset by peer"), 3, "one for each channel: {gaps:?}");
        for gap in &gaps {
            let time = |name: &str| gap[name].parse::<i64>().unwrap();
            assert!(time("from_ts") < time("to_ts"), "{gap:?}");
        }
        // Whole books are those that changes lead to.
        let deltas: Vec<Row> = table(into, "book_deltas").into_values().flatten().collect();
        for rows in table(into, "book_snapshots").into_values() {
            for row in rows {
                let first: i64 = row["n"].parse().unwrap();
                let is = |delta: &&Row| {
                    let n: i64 = delta["n"].parse().unwrap();
                    n > first && delta["side"] == row["side"] && delta["price"] == row["price"]
                };
                let mut levels = deltas.iter().filter(|delta| {
                    delta["line"] == row["line"]
                        && delta["ticker"] == row["ticker"]
                        && delta["kind"] == "snapshot_level"
                });
                if row["level_no"] == "0" {
                    // A book without levels.
                    assert!(levels.next().is_none() && !row.contains_key("side"), "{row:?}");
                    continue;
                }
                assert_eq!(levels.find(is).unwrap()["level_after"], row["count"]);
            }
        }
    }

    #[test]
    fn an_export_that_fails_or_is_killed_anywhere_and_runs_again_gives_the_same_bytes() {
        let folder = Folder::new();
        let (from, whole) = (folder.path().join("recording"), folder.path().join("whole"));
        record(&from, 400);
        export(&folder, &from, &whole).ok();
        let expected = files(&whole);
        assert!(expected.len() > 12, "{:?}", expected.keys());
        assert!(expected.keys().all(|name| name.extension().is_some_and(|end| end != "tmp")));
        let into = folder.path().join("history");
        // Each time the disk refuses another file, when it is begun or when it gets its name.
        for (at, name) in expected.keys().enumerate().filter(|(at, _)| at % 3 == 0) {
            let mut fails = into.join(name).into_os_string();
            if at % 2 == 0 {
                fails.push(".tmp");
            }
            let fails = PathBuf::from(fails);
            let _ = fs::remove_file(&fails);
            fs::create_dir_all(fails.join("in the way")).unwrap();
            let ran = export(&folder, &from, &into);
            assert_eq!(ran.code, 1, "{}: {ran:#?}", fails.display());
            fs::remove_dir_all(&fails).unwrap();
        }
        // Killed, wherever it is then.
        for seen in [1, 5, 9] {
            for name in expected.keys() {
                let _ = fs::remove_file(into.join(name));
            }
            let mut command = command(&folder, &from, &into);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            while files(&into).len() < seen && child.try_wait().unwrap().is_none() {
                std::thread::yield_now();
            }
            let _ = child.kill();
            child.wait().unwrap();
        }
        let torn = expected.keys().find(|name| name.to_str().unwrap().contains("trades")).unwrap();
        fs::write(into.join(torn), "PAR1 and no more").unwrap();
        let _ = fs::remove_file(into.join(format!("stream-{BEGIN}.json")));
        export(&folder, &from, &into).ok();
        let found = files(&into);
        assert!(found == expected, "{:?} and {:?}", found.keys(), expected.keys());
        let again = export(&folder, &from, &into);
        assert!(again.stderr.contains("nothing has changed"), "{again:#?}");
        // A file that is gone comes back.
        fs::remove_file(into.join(torn)).unwrap();
        export(&folder, &from, &into).ok();
        assert!(files(&into).contains_key(torn));
    }

    #[test]
    fn a_recording_that_ends_in_the_middle_has_a_gap_and_one_that_grows_keeps_its_hours() {
        let folder = Folder::new();
        let (from, whole) = (folder.path().join("recording"), folder.path().join("whole"));
        record(&from, 400);
        export(&folder, &from, &whole).ok();
        let expected = files(&whole);
        let last = fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
        let bytes = fs::read(&last).unwrap();
        fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
        let into = folder.path().join("history");
        export(&folder, &from, &into).ok();
        let gaps: Vec<Row> = table(&into, "gaps").into_values().flatten().collect();
        let ends = gaps.iter().filter(|gap| gap["reason"].contains("ends in the middle"));
        let ends: Vec<&Row> = ends.collect();
        assert_eq!(ends.len(), 3, "{gaps:?}");
        assert!(ends.iter().all(|gap| !gap.contains_key("to_ts")), "nothing came after it");
        let short = files(&into);
        assert!(short != expected);
        // The hours that were over are the same in both.
        let early = |name: &&PathBuf| name.to_str().unwrap().contains("hour=13");
        assert!(short.keys().any(|name| early(&name)));
        for name in short.keys().filter(early) {
            assert!(short[name] == expected[name], "{}", name.display());
        }
        fs::write(&last, &bytes).unwrap();
        export(&folder, &from, &into).ok();
        assert!(files(&into) == expected);
        let none = export(&folder, folder.path(), &into);
        assert!(none.code == 1 && none.stderr.contains("no recording"), "{none:#?}");
    }

    /// Runs the queries of `PARQUET.md` in `DuckDB` and Polars: `tools/parquet-clients.sh` names the Python.
    #[tokio::test]
    #[ignore = "needs Python with DuckDB and Polars: tools/parquet-clients.sh"]
    async fn duckdb_and_polars_answer_the_queries_of_the_page() {
        let setup = Setup::new().await;
        let home = setup.folder.path();
        let (from, into) = (home.join("recording"), home.join("history"));
        record(&from, 6_000);
        export(&setup.folder, &from, &into).ok();
        compact::compact(&setup.folder, &into, &home.join("days")).ok();
        let file = home.join("trades.parquet");
        let to = ["--to", "2030-01-01T00:00:00Z", "--file", file.to_str().unwrap()];
        setup.run(&[&["export", "trades", "--format", "parquet"][..], &to].concat()).await.ok();
        let sums = |rows: &[Row]| {
            let mut sums: BTreeMap<String, [i128; 3]> = BTreeMap::new();
            for row in rows {
                let price: Dollars = row["yes_price"].parse().unwrap();
                let count: Count = row["count"].parse().unwrap();
                let sum = sums.entry(row["ticker"].clone()).or_default();
                let (price, count) =
                    (i128::from(price.as_micros()), i128::from(count.as_hundredths()));
                // Of dollars, a hundredth of a millionth.
                *sum = [sum[0] + 1, sum[1] + count, sum[2] + price * count];
            }
            let text = sums.into_iter().map(|(ticker, sum)| (ticker, sum.map(|n| n.to_string())));
            text.collect::<BTreeMap<_, _>>()
        };
        let trades: Vec<Row> = table(&into, "trades").into_values().flatten().collect();
        let moments = replayed(&from);
        let mut random = Random(11);
        let mut books = Vec::new();
        let page = 1_795_617_000_000; // 2026-11-25T14:30:00Z
        for turn in 0..25 {
            let at = usize::try_from(random.below(moments.len() as u64 - 1)).unwrap();
            let time = if turn == 0 { page } else { moments[at].0.max(BEGIN + 60_000) };
            let place = moments.partition_point(|(at, _)| *at <= time) - 1;
            let book = moments[place].1[TICKERS[0]].as_ref();
            books.push(json!({ "at": time, "book": book }));
        }
        let gaps: usize = table(&into, "gaps").values().map(Vec::len).sum();
        let expected = json!({
            "recorded": sums(&trades), "exported": sums(&read(&file)), "books": books, "gaps": gaps,
        });
        fs::write(home.join("expected.json"), expected.to_string()).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut python = std::process::Command::new(std::env::var_os("KALSHI_PYTHON").unwrap());
        python.arg(folder.join("tests/python/queries.py")).arg(folder.join("PARQUET.md"));
        let ran = finish(python.current_dir(home));
        assert_eq!(ran.code, 0, "{ran:#?}");
        assert!(ran.stdout.contains("25 books"), "{ran:#?}");
    }
}
