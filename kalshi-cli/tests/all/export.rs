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
