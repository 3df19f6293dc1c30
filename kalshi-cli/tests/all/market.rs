//! `kalshi market`, `kalshi event` and `kalshi series`. Their output is pinned: the exchange of a
//! seed and a clock is always the same.

use std::sync::Arc;

use kalshi_auth::{ManualClock, UnixMillis};
use kalshi_sim::{Exchange, Role};
use serde_json::{Value, json};

use crate::support::{Ran, Setup, pinned, run};

/// Monday, 23 November 2026, 14:00 UTC.
const NOW: i64 = 1_795_442_400_000;

async fn at_a_fixed_time() -> Setup {
    let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(NOW)));
    Setup::with(Exchange::builder().with_clock(clock), Role::Trader).await
}

async fn public(setup: &Setup, arguments: &[&str]) -> Ran {
    run(setup.public(arguments)).await
}

async fn first(setup: &Setup) -> Value {
    let page =
        public(setup, &["api", "get_markets", "-p", "limit=1", "-p", "status=open"]).await.json();
    page["markets"][0].clone()
}

#[tokio::test]
async fn a_list_is_a_table_of_what_people_look_for() {
    let setup = at_a_fixed_time().await;
    let fields = "ticker,status,yes_bid_dollars,yes_ask_dollars,volume_fp";
    let ran =
        public(&setup, &["market", "list", "--status", "open", "--limit", "3", "--fields", fields])
            .await;
    assert_eq!(ran.stderr, "3 rows; there are more: --limit or --all\n");
    pinned("market_list.txt", &ran.ok());
    let columns = public(&setup, &["market", "list", "--limit", "1"]).await.ok();
    assert!(columns.starts_with("ticker "), "{columns}");
    let quiet = public(&setup, &["market", "list", "--limit", "3", "--quiet"]).await;
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
}

#[tokio::test]
async fn rows_are_as_on_the_wire() {
    let setup = at_a_fixed_time().await;
    let wire = public(&setup, &["api", "get_markets", "-p", "limit=1000"]).await.json();
    let list = public(&setup, &["market", "list", "--all", "-o", "json"]).await.json();
    assert_eq!(list["markets"], wire["markets"]);
    let ticker = wire["markets"][7]["ticker"].as_str().unwrap();
    let market = public(&setup, &["market", "get", ticker, "-o", "json"]).await.json();
    assert_eq!(market, wire["markets"][7]);
    // Money is text, with the zeros that the exchange wrote.
    assert!(market["yes_bid_dollars"].is_string());
}

#[tokio::test]
async fn a_limit_is_kept_over_pages() {
    let setup = Setup::with(Exchange::builder().with_markets(1_212), Role::Trader).await;
    let list = public(&setup, &["market", "list", "--limit", "1100", "-o", "json"]).await.json();
    assert_eq!(list["markets"].as_array().unwrap().len(), 1_100);
    let queries: Vec<String> =
        setup.exchange.requests().iter().map(|request| request.query.clone()).collect();
    assert_eq!(queries.len(), 2, "{queries:?}");
    assert!(queries[0].contains("limit=1000") && queries[1].contains("limit=100"), "{queries:?}");
    // The cursor of the document goes on where it ended.
    let cursor = list["cursor"].as_str().unwrap();
    let rest = ["market", "list", "--all", "--cursor", cursor, "-o", "json"];
    let rest = public(&setup, &rest).await.json();
    let whole = public(&setup, &["api", "get_markets", "-p", "limit=1000", "--all"]).await.json();
    let rows = |document: &Value| document["markets"].as_array().unwrap().clone();
    assert_eq!([rows(&list), rows(&rest)].concat(), rows(&whole));
}

#[tokio::test]
async fn filters_reach_the_exchange() {
    let setup = at_a_fixed_time().await;
    let market = first(&setup).await;
    let (ticker, event) =
        (market["ticker"].as_str().unwrap(), market["event_ticker"].as_str().unwrap());
    let before = setup.exchange.requests().len();
    let list = [
        "market",
        "list",
        "--event",
        event,
        "--tickers",
        ticker,
        "--closes-after",
        "1790000000",
        "--closes-before",
        "2030-01-01T00:00:00Z",
        "-o",
        "json",
    ];
    assert_eq!(public(&setup, &list).await.json()["markets"].as_array().unwrap().len(), 1);
    let query = setup.exchange.requests()[before].query.clone();
    let open = public(&setup, &["market", "list", "--status", "open", "-o", "json"]).await.json();
    assert!(open["markets"].as_array().unwrap().iter().all(|market| market["status"] == "active"));
    for part in ["event_ticker=", "tickers=", "min_close_ts=1790000000", "max_close_ts=1893456000"]
    {
        assert!(query.contains(part), "{query}");
    }
}

#[tokio::test]
async fn a_book_shows_bids_of_no_as_asks_of_yes() {
    let setup = at_a_fixed_time().await;
    let market = first(&setup).await;
    let ticker = market["ticker"].as_str().unwrap();
    let table = public(&setup, &["market", "book", ticker, "--depth", "3"]).await.ok();
    pinned("market_book.txt", &table);
    let book = public(&setup, &["market", "book", ticker, "-o", "json"]).await.json();
    assert!(book["yes_dollars"].is_array() && book["no_dollars"].is_array(), "{book}");
    let best = table.lines().nth(1).unwrap();
    for side in ["yes_bid_dollars", "yes_ask_dollars"] {
        assert!(best.contains(market[side].as_str().unwrap()), "{best} {}", market[side]);
    }
}

#[tokio::test]
async fn trades_and_candles_of_a_market_are_listed() {
    let setup = at_a_fixed_time().await;
    let trades = public(&setup, &["market", "trades", "--limit", "5", "-o", "json"]).await.json();
    let trades = trades["trades"].as_array().unwrap().clone();
    assert!(!trades.is_empty());
    let ticker = trades[0]["ticker"].as_str().unwrap();
    let of_it = public(&setup, &["market", "trades", ticker, "-o", "ndjson"]).await.ok();
    for line in of_it.lines() {
        let trade: Value = serde_json::from_str(line).unwrap();
        assert_eq!(trade["ticker"], ticker);
    }
    let span = ["--since", "2026-11-22T14:00:00Z", "--until", "2026-11-23T14:00:00Z"];
    let candles = [&["market", "candles", ticker, "-o", "json"][..], &span].concat();
    let candles = public(&setup, &candles).await.json();
    let candles = candles["candlesticks"].as_array().unwrap().clone();
    assert!(!candles.is_empty() && candles[0]["volume_fp"].is_string(), "{candles:?}");
    let market = public(&setup, &["market", "get", ticker, "-o", "json"]).await.json();
    let event = market["event_ticker"].as_str().unwrap();
    let candles = [&["event", "candles", event, "-o", "json"][..], &span].concat();
    let candles = public(&setup, &candles).await.json();
    let rows = candles["candlesticks"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["market_ticker"] == ticker), "{candles}");
}

#[tokio::test]
async fn a_market_of_the_archive_is_found() {
    let setup = at_a_fixed_time().await;
    let old = public(&setup, &["api", "get_historical_markets", "-p", "limit=1"]).await.json();
    let ticker = old["markets"][0]["ticker"].as_str().unwrap();
    let from = setup.exchange.requests().len();
    let market = public(&setup, &["market", "get", ticker, "-o", "json"]).await.json();
    assert_eq!(market, old["markets"][0]);
    assert_eq!(setup.asked(from), ["get_market", "get_historical_market"]);
}

#[tokio::test]
async fn words_find_markets() {
    let setup = at_a_fixed_time().await;
    let market = first(&setup).await;
    let title = market["title"].as_str().unwrap();
    let word = title.split_whitespace().next().unwrap().to_uppercase();
    let ticker = market["ticker"].as_str().unwrap();
    let found = public(&setup, &["market", "find", &word, ticker, "-o", "json"]).await.json();
    let found = found["markets"].as_array().unwrap().clone();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["ticker"], ticker);
    let none = public(&setup, &["market", "find", "no such words anywhere"]).await;
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), (0, "", "no rows\n"));
}

#[tokio::test]
async fn events_and_series_are_shown() {
    let setup = at_a_fixed_time().await;
    let market = first(&setup).await;
    let event = market["event_ticker"].as_str().unwrap();
    let json = public(&setup, &["event", "get", event, "-o", "json"]).await.json();
    assert_eq!(json["event_ticker"], event);
    assert!(!json["markets"].as_array().unwrap().is_empty());
    let table = public(&setup, &["event", "get", event]).await.ok();
    assert!(table.starts_with("event_ticker") && table.contains("yes_bid_dollars"), "{table}");
    let series = json["series_ticker"].as_str().unwrap();
    let list = ["event", "list", "--series", series, "--status", "open", "-o", "json"];
    let list = public(&setup, &list).await.json();
    assert!(
        list["events"].as_array().unwrap().iter().all(|event| event["series_ticker"] == series)
    );
    let shown = public(&setup, &["series", "get", series, "-o", "json"]).await.json();
    assert_eq!(shown["ticker"], series);
    let category = shown["category"].as_str().unwrap();
    let all = public(&setup, &["series", "list", "--category", category, "-o", "json"]).await;
    assert!(all.json()["series"].as_array().unwrap().iter().any(|one| one["ticker"] == series));
}

#[tokio::test]
async fn fields_that_no_row_has_are_named() {
    let setup = at_a_fixed_time().await;
    let ran = public(
        &setup,
        &["market", "list", "--limit", "1", "--fields", "ticker,tickr", "-o", "ndjson", "-q"],
    )
    .await;
    let row: Value = serde_json::from_str(ran.stdout.trim()).unwrap();
    assert_eq!(row["tickr"], json!(null));
    let ran = public(&setup, &["market", "list", "--limit", "1", "--fields", "ticker,tickr"]).await;
    assert!(ran.stderr.contains("no row has a field \"tickr\""), "{ran:#?}");
}

#[tokio::test]
async fn each_request_is_shown_if_that_is_asked_for() {
    let setup = at_a_fixed_time().await;
    let ran = public(&setup, &["market", "list", "--limit", "1", "-q", "-v", "-o", "csv"]).await;
    assert!(ran.stderr.starts_with("get_markets 200 "), "{ran:#?}");
    assert_eq!(ran.stdout.lines().count(), 2);
}

#[tokio::test]
async fn the_prices_of_markets_are_watched() {
    let setup = Setup::new().await;
    let markets = setup.run(&["market", "list", "--status", "open", "-o", "json"]).await.json();
    let ticker = markets["markets"][0]["ticker"].as_str().unwrap();
    let watched = setup.run(&["market", "watch", ticker, "--count", "2"]).await.ok();
    let last: serde_json::Value = serde_json::from_str(watched.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["msg"]["market_ticker"]), (&"ticker".into(), &ticker.into()));
    assert_eq!(setup.run(&["market", "watch"]).await.code, 2);
}
