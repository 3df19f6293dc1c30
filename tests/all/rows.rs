//! A row that does not decode costs itself and nothing else; a label costs not even its row. What
//! concludes from absence gets all rows or an error.

use kalshi_sdk::{
    Client, Effect, Error, ErrorKind,
    types::{MarketResult, MarketSettlementBoundsType},
};
use serde_json::{Value, json};

use crate::support::{Answer, Document, Fill, Generator, Server, always, client, operation};

/// Returns the success of an operation with every field, two items in each list.
fn whole(id: &str) -> Value {
    let schema = Document::get().success(operation(id)).1.unwrap();
    Generator::response(Document::get(), Fill::Most, 5).sample(schema).value
}

fn market(ticker: &str) -> Value {
    let mut market = whole("get_markets")["markets"][0].clone();
    market["ticker"] = json!(ticker);
    market
}

/// Serves pages by cursor; the first has none.
async fn pages(pages: Vec<(&'static str, Value)>) -> Server {
    Server::start(move |request| {
        let cursor = request.query().into_iter().find(|(name, _)| name == "cursor");
        let cursor = cursor.map(|(_, cursor)| cursor).unwrap_or_default();
        match pages.iter().find(|(at, _)| *at == cursor) {
            Some((_, Value::String(text))) => Answer::new(200, text.clone()),
            Some((_, page)) => Answer::json(page),
            None => Answer::new(400, r#"{"code":"invalid_cursor"}"#),
        }
    })
    .await
}

/// Returns a server of the pages `[A, B with an empty count, C]`, then `[D]`.
async fn odd() -> Server {
    let mut b = market("B");
    b["yes_ask_size_fp"] = json!("");
    pages(vec![
        ("", json!({"markets": [market("A"), b, market("C")], "cursor": "next"})),
        ("next", json!({"markets": [market("D")], "cursor": ""})),
    ])
    .await
}

async fn collected(client: &Client) -> Vec<Result<String, Error>> {
    let mut rows = client.get_markets().stream();
    let mut all = Vec::new();
    while let Some(row) = rows.next().await {
        all.push(row.map(|market| market.ticker));
    }
    all
}

#[tokio::test]
async fn recordings_3_an_odd_row_costs_itself_and_neither_its_page_nor_the_list() {
    let server = odd().await;
    let rows = collected(&client(&server.url())).await;
    let tickers: Vec<_> = rows.iter().map(|row| row.as_deref().unwrap_or("-")).collect();
    assert_eq!(tickers, ["A", "-", "C", "D"]);
    let error = rows[1].as_ref().unwrap_err();
    assert!(error.is_row() && error.is_decode());
    assert_eq!(error.operation_id(), Some("get_markets"));
    assert_eq!(error.json_path(), Some("markets[1].yes_ask_size_fp"));
    assert_eq!(error.status().unwrap(), 200);
    let row = error.row().unwrap();
    assert_eq!((row.page, row.index), (1, 1));
    let raw: Value = serde_json::from_str(row.raw.as_deref().unwrap()).unwrap();
    assert_eq!(raw["ticker"], "B");
    let shown = error.to_string();
    assert!(shown.contains("get_markets") && shown.contains("markets[1].yes_ask_size_fp"));
}

#[tokio::test]
async fn the_page_of_an_odd_row_is_counted() {
    let mut odd = market("D");
    odd["ticker"] = Value::Null;
    let server = pages(vec![
        ("", json!({"markets": [market("A")], "cursor": "1"})),
        ("1", json!({"markets": [], "cursor": "2"})),
        ("2", json!({"markets": [odd, null], "cursor": ""})),
    ])
    .await;
    let rows = collected(&client(&server.url())).await;
    let places: Vec<_> = rows
        .iter()
        .filter_map(|row| row.as_ref().err())
        .map(|error| (error.row().unwrap().page, error.json_path().unwrap()))
        .collect();
    assert_eq!(places, [(3, "markets[0].ticker"), (3, "markets[1]")]);
}

#[tokio::test]
async fn all_or_nothing_is_one_call() {
    let server = odd().await;
    let client = client(&server.url());
    for error in [
        client.get_markets().all().await.unwrap_err(),
        client.get_markets().stream().try_collect().await.unwrap_err(),
        client.get_markets().pages().try_collect().await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Decode, Effect::Unknown));
        assert_eq!(error.json_path(), Some("markets[1].yes_ask_size_fp"));
    }
    let server = pages(vec![("", json!({"markets": [market("A")], "cursor": ""}))]).await;
    let client = crate::support::client(&server.url());
    assert_eq!(client.get_markets().all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn pages_go_on_from_an_error_at_the_same_page_or_at_the_next() {
    let server = odd().await;
    let client = client(&server.url());
    let mut pages = client.get_markets().pages();
    assert!(!pages.resume(), "nothing has failed yet");
    assert_eq!(pages.next().await.unwrap().unwrap_err().kind(), ErrorKind::Decode);
    assert!(pages.next().await.is_none(), "an error ends the list");
    // The same page fails again, and there is one after it.
    assert!(pages.resume());
    assert!(pages.next().await.unwrap().is_err());
    assert!(pages.skip());
    assert!(!pages.skip() && !pages.resume());
    let page = pages.next().await.unwrap().unwrap();
    assert_eq!(page.markets[0].ticker, "D");
    assert!(pages.next().await.is_none());
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn rows_go_on_from_a_page_that_could_not_be_fetched() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let first = json!({"markets": [market("A")], "cursor": "next"});
    let second = json!({"markets": [market("B")], "cursor": ""});
    let server = Server::start(move |request| {
        match (
            request.target.contains("cursor"),
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
        ) {
            (false, _) => Answer::json(&first),
            (true, 1) => Answer::new(503, ""),
            (true, _) => Answer::json(&second),
        }
    })
    .await;
    let client = client(&server.url());
    let mut rows = client.get_markets().limit(1).stream();
    assert_eq!(rows.next().await.unwrap().unwrap().ticker, "A");
    let error = rows.next().await.unwrap().unwrap_err();
    assert!(!error.is_row());
    assert!(rows.next().await.is_none());
    assert!(!rows.skip(), "nobody knows where the page after it begins");
    assert!(rows.resume());
    assert_eq!(rows.next().await.unwrap().unwrap().ticker, "B");
    assert!(rows.next().await.is_none());
    let queries: Vec<_> = server.requests().iter().map(crate::support::Request::query).collect();
    assert_eq!(queries[1], queries[2], "the page that failed, with its filters");
}

#[tokio::test]
async fn a_page_that_is_none_is_an_error_of_the_call() {
    let row = market("A").to_string();
    for body in [
        "<html>".to_owned(),
        String::new(),
        "[]".to_owned(),
        r#"{"cursor":""}"#.to_owned(),
        r#"{"markets":{},"cursor":""}"#.to_owned(),
        r#"{"markets":[{}],"cursor":7}"#.to_owned(),
        // Cut off, something behind it, and two lists of which one would be lost.
        format!(r#"{{"markets":[{{}},{row}"#),
        format!(r#"{{"markets":[{{}},{row}],"cursor":""}} x"#),
        format!(r#"{{"markets":[{{}}],"markets":[{row}],"cursor":""}}"#),
        r#"{"error":{"code":"x"},"markets":[{}]}"#.to_owned(),
    ] {
        let server = always(Answer::new(200, body.clone())).await;
        let rows = collected(&client(&server.url())).await;
        assert_eq!(rows.len(), 1, "{body}");
        let error = rows[0].as_ref().unwrap_err();
        assert!(!error.is_row(), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn what_stands_beside_the_rows_costs_no_row() {
    let mut page = whole("get_positions");
    page["event_positions"][0]["event_ticker"] = json!(7);
    page["cursor"] = json!("");
    let server = always(Answer::json(&page)).await;
    let client = client(&server.url());
    assert_eq!(client.get_positions().all().await.unwrap().len(), 2);
    let error = client.get_positions().pages().try_collect().await.unwrap_err();
    assert_eq!(error.json_path(), Some("event_positions[0].event_ticker"));
}

#[tokio::test]
async fn a_raw_row_is_kept_up_to_its_limit() {
    let mut row = market("A");
    row["ticker"] = json!(["é".repeat(100_000)]);
    let server = always(Answer::json(&json!({"markets": [row], "cursor": ""}))).await;
    let rows = collected(&client(&server.url())).await;
    let row = rows[0].as_ref().unwrap_err().row().unwrap();
    let kept = row.raw.as_ref().unwrap().len();
    assert!((60_000..=64 * 1024).contains(&kept), "{kept}");
    assert!(format!("{:?}", rows[0]).len() < 10_000, "a log does not want it");
}

#[tokio::test]
async fn a_reconciliation_reads_no_list_with_a_hole() {
    use kalshi_sdk::streams::AccountSource as _;
    let mut position = whole("get_positions")["market_positions"][0].clone();
    position["position_fp"] = json!("");
    let balance = json!({"subaccount_number": 0, "exchange_index": 0, "balance": "1.00",
                         "updated_ts": 0});
    let server = Server::start(move |request| {
        let last = request.path().rsplit('/').next().unwrap_or_default();
        Answer::json(&match last {
            "balances" => json!({"subaccount_balances": [balance]}),
            "user_data_timestamp" => json!({"as_of_time": "2026-01-01T00:00:00Z"}),
            "positions" => {
                json!({"market_positions": [position], "event_positions": [], "cursor": ""})
            }
            name => json!({name: [], "cursor": ""}),
        })
    })
    .await;
    let error = client(&server.url()).fetch_account(None).await.unwrap_err();
    assert_eq!(error.json_path(), Some("market_positions[0].position_fp"));
}

// The shapes of recordings, with values of our own.

#[tokio::test]
async fn recordings_a_market_without_its_labels_decodes() {
    let labels = [
        "settlement_bounds_type",
        "price_level_structure",
        "result",
        "rules_primary",
        "rules_secondary",
        "yes_sub_title",
        "no_sub_title",
        "can_close_early",
        "expiration_value",
    ];
    for nothing in [None, Some(Value::Null)] {
        let mut bare = market("A");
        for label in labels {
            match &nothing {
                None => drop(bare.as_object_mut().unwrap().remove(label).unwrap()),
                Some(null) => bare[label] = null.clone(),
            }
        }
        let server = always(Answer::json(&json!({"markets": [bare], "cursor": ""}))).await;
        let page = client(&server.url()).get_markets().send().await.unwrap();
        let market = &page.markets[0];
        assert_eq!(market.result, MarketResult::Unset);
        assert_eq!(
            market.settlement_bounds_type,
            MarketSettlementBoundsType::Unknown(String::new().into()),
            "not `default`: nothing was said"
        );
        assert_eq!((market.rules_primary.as_str(), market.can_close_early), ("", None));
    }
}

#[tokio::test]
async fn recordings_rows_without_their_shard_decode() {
    let without = |id: &str, list: &str| {
        let mut page = whole(id);
        page["cursor"] = json!("");
        let rows = page[list].as_array_mut().unwrap();
        rows[0].as_object_mut().unwrap().remove("exchange_index").unwrap();
        rows[1]["exchange_index"] = json!(2);
        page
    };
    let server = always(Answer::json(&without("get_fills", "fills"))).await;
    let fills = client(&server.url()).get_fills().all().await.unwrap();
    let shards: Vec<_> = fills.iter().map(|fill| fill.exchange_index.clone().map(|s| *s)).collect();
    assert_eq!(shards, [None, Some(2)]);
    let server = always(Answer::json(&without("get_positions", "market_positions"))).await;
    let positions = client(&server.url()).get_positions().all().await.unwrap();
    assert_eq!(positions[0].exchange_index, None);
    let server = always(Answer::json(&without("get_settlements", "settlements"))).await;
    let settlements = client(&server.url()).get_settlements().all().await.unwrap();
    assert_eq!(settlements[0].exchange_index, None);
}

#[tokio::test]
async fn recordings_a_trade_without_its_block_flag_decodes() {
    let mut page = whole("get_trades");
    page["cursor"] = json!("");
    page["trades"][0].as_object_mut().unwrap().remove("is_block_trade").unwrap();
    page["trades"][1]["is_block_trade"] = json!(true);
    let server = always(Answer::json(&page)).await;
    let trades = client(&server.url()).get_trades().all().await.unwrap();
    assert_eq!((trades[0].is_block_trade, trades[1].is_block_trade), (None, Some(true)));
}

#[tokio::test]
async fn recordings_a_collection_without_its_grid_label_decodes() {
    let mut page = whole("get_multivariate_event_collections");
    page["cursor"] = json!("");
    let rows = page["multivariate_contracts"].as_array_mut().unwrap();
    rows[0].as_object_mut().unwrap().remove("price_level_structure").unwrap();
    let server = always(Answer::json(&page)).await;
    let client = client(&server.url());
    let rows = client.get_multivariate_event_collections().all().await.unwrap();
    assert_eq!((rows.len(), rows[0].price_level_structure.as_str()), (2, ""));
}

#[tokio::test]
async fn recordings_a_null_list_inside_a_map_is_an_empty_list() {
    let body = json!({"tags_by_categories": {"Sports": ["a"], "Elections": null}});
    let server = always(Answer::json(&body)).await;
    let tags = client(&server.url()).get_tags_for_series_categories().send().await.unwrap();
    assert_eq!(tags.tags_by_categories["Sports"], ["a"]);
    assert!(tags.tags_by_categories["Elections"].is_empty());
}

#[tokio::test]
async fn recordings_a_candle_without_its_parts_decodes() {
    let mut body = whole("get_market_candlesticks");
    for part in ["price", "yes_bid", "yes_ask"] {
        body["candlesticks"][0][part] = Value::Null;
        body["candlesticks"][1].as_object_mut().unwrap().remove(part).unwrap();
    }
    let server = always(Answer::json(&body)).await;
    let request = client(&server.url());
    let request = request.get_market_candlesticks().series_ticker("S").ticker("A");
    let candles = request.start_ts(0).end_ts(60).period_interval(60).send().await.unwrap();
    for candle in &candles.candlesticks {
        assert_eq!(candle.price.close_dollars, None);
        assert!(candle.yes_bid.is_none() && candle.yes_ask.is_none());
    }
}

#[tokio::test]
async fn an_empty_text_for_a_price_that_need_not_be_there_is_none() {
    let mut row = market("A");
    row["settlement_value_dollars"] = json!("");
    let server = always(Answer::json(&json!({"markets": [row], "cursor": ""}))).await;
    let page = client(&server.url()).get_markets().send().await.unwrap();
    assert_eq!(page.markets[0].settlement_value_dollars, None);
    // One that must be there is not guessed.
    let mut row = market("A");
    row["yes_bid_dollars"] = json!("");
    let server = always(Answer::json(&json!({"markets": [row], "cursor": ""}))).await;
    let error = client(&server.url()).get_markets().send().await.unwrap_err();
    assert_eq!(error.json_path(), Some("markets[0].yes_bid_dollars"));
}

#[tokio::test]
async fn recordings_whole_cents_instead_of_dollars_are_refused() {
    let mut row = market("A");
    let fields = row.as_object_mut().unwrap();
    fields.retain(|name, _| !name.ends_with("_dollars"));
    fields.insert("yes_bid".to_owned(), json!(56));
    let server = always(Answer::json(&json!({"markets": [row], "cursor": ""}))).await;
    let rows = collected(&client(&server.url())).await;
    assert!(rows[0].as_ref().unwrap_err().is_row());
}
