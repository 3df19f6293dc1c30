//! `kalshi perps`: reads and triggers.

use serde_json::{Value, json};

use crate::stub::{Request, Stub};

fn market() -> Value {
    json!({"ticker": "KXBTCPERP", "status": "active", "bid": "30000.2500", "ask": "30000.5000",
        "price": "30000.2500", "tick_size": "0.2500", "volume_24h": "7.00", "market_version": 3})
}

/// Answers the reads with what stands in the documents, and a cursor after the first page of orders.
fn answer(request: &Request) -> (u16, String) {
    let target = request.target.strip_prefix("/trade-api/v2").unwrap_or(&request.target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = match path {
        "/margin/markets" => json!({ "markets": [market()] }),
        "/margin/markets/KXBTCPERP" => json!({ "market": market() }),
        "/margin/markets/KXBTCPERP/orderbook" => json!({ "orderbook": {
            "bids": [["29999.0000", "1.00"], ["30000.2500", "2.00"]],
            "asks": [["30001.0000", "4.00"], ["30000.5000", "3.00"]],
        } }),
        "/margin/markets/KXBTCPERP/candlesticks" => json!({ "candlesticks": [
            {"end_period_ts": 1_790_000_000, "price": {"open": "1.0000", "high": null, "low": "1.0000",
                "close": "2.0000"}, "volume": "3.00", "open_interest": "4.00"},
        ], "ticker": "KXBTCPERP" }),
        "/margin/trades" => json!({ "trades": [
            {"created_time": "2026-11-27T00:00:00Z", "ticker": "KXBTCPERP", "taker_side": "bid",
                "count": "1.00", "price": "30000.2500", "trade_id": "t-1"},
        ], "cursor": "" }),
        "/margin/orders" if query.contains("cursor=next") => {
            json!({ "orders": [{"order_id": "o-2", "fill_count": "0.00"}], "cursor": "" })
        }
        "/margin/orders" => {
            json!({ "orders": [{"order_id": "o-1", "fill_count": "0.00"}], "cursor": "next" })
        }
        "/margin/balance" => json!({ "settled_funds": "12.34", "subaccount_balances": [{
            "subaccount": 0, "account_equity": "9.00", "position_value": "1.00",
            "initial_margin": "2.00", "maintenance_margin": "1.00",
            "available_balance": if query.ends_with("true") { "7.00" } else { "0.00" },
            "resting_orders_margin": if query.ends_with("true") { "1.50" } else { "0.00" },
        }] }),
        "/margin/positions" => json!({ "positions": [
            {"market_ticker": "KXBTCPERP", "position": "-2.00", "entry_price": "30000.0000"},
        ] }),
        "/margin/fills" => json!({ "fills": [], "cursor": "" }),
        "/margin/risk" => json!({ "account_leverage": 1.25, "total_maintenance_margin": "1.00",
            "total_position_notional": "60000.00", "positions": [] }),
        "/margin/enabled" => json!({ "enabled": true }),
        "/margin/funding_history" => json!({ "funding_history": [
            {"market_ticker": "KXBTCPERP", "funding_amount": "-0.0100", "funding_rate": 0.0001},
        ] }),
        "/margin/order_groups/create" => json!({ "order_group_id": "g-1", "subaccount": 0 }),
        _ => return (404, r#"{"code":"not_found","message":"no"}"#.to_owned()),
    };
    (200, body.to_string())
}

#[tokio::test]
async fn reads_ask_what_their_words_say_and_print_what_comes() {
    let stub = Stub::start(|request| Some(answer(request))).await;
    for (words, line, part) in [
        ("market list --status active", "GET /margin/markets?status=active", "30000.2500"),
        ("market get KXBTCPERP", "GET /margin/markets/KXBTCPERP", "market_version"),
        (
            "market book KXBTCPERP --depth 5 --tick 0.25",
            "GET /margin/markets/KXBTCPERP/orderbook?depth=5&aggregation_tick_size=0.2500",
            "2.00  30000.2500  30000.5000       3.00",
        ),
        (
            "market candles KXBTCPERP --period 1m --since 1790000000 --until 1790000060",
            "GET /margin/markets/KXBTCPERP/candlesticks?start_ts=1790000000&end_ts=1790000060&period_interval=1",
            "1790000000",
        ),
        ("market trades KXBTCPERP --limit 2", "GET /margin/trades?ticker=KXBTCPERP&limit=2", "bid"),
        (
            "order list --limit 1 --status resting",
            "GET /margin/orders?status=resting&limit=1",
            "o-1",
        ),
        ("portfolio positions", "GET /margin/positions", "-2.00"),
        ("risk account", "GET /margin/risk", ""),
        ("enabled", "GET /margin/enabled", "true"),
        (
            "funding history --from 2026-10-01 --to 2026-10-31",
            "GET /margin/funding_history?start_date=2026-10-01&end_date=2026-10-31",
            "-0.0100",
        ),
        ("api get_margin_enabled", "GET /margin/enabled", "true"),
        ("api GET /margin/markets/KXBTCPERP", "GET /margin/markets/KXBTCPERP", "30000.2500"),
    ] {
        let words: Vec<&str> = std::iter::once("perps").chain(words.split(' ')).collect();
        let (ran, requests) = stub.run(&words).await;
        let output = ran.ok();
        assert!(output.contains(part), "{words:?}: {output}");
        let lines: Vec<_> = requests.iter().map(Request::line).collect();
        assert_eq!(lines, [line.replacen("/margin", "/trade-api/v2/margin", 1)], "{words:?}");
        // Public reads are not signed, so that they count against no limit.
        let is_public = line.contains("/markets") || line.contains("/trades");
        assert_eq!(requests[0].header("kalshi-access-signature").is_none(), is_public, "{words:?}");
    }
    let (ran, requests) = stub.run(&["perps", "order", "list", "--all", "-o", "json"]).await;
    assert_eq!(ran.json()["orders"].as_array().unwrap().len(), 2);
    assert!(
        requests[1].target.contains("cursor=next") && requests[1].target.contains("limit=10000")
    );
}

#[tokio::test]
async fn zeros_of_a_balance_that_was_not_computed_are_not_shown() {
    let stub = Stub::start(|request| Some(answer(request))).await;
    let words = ["perps", "portfolio", "balance", "-o", "json"];
    let (ran, requests) = stub.run(&words).await;
    let balance = ran.json();
    assert_eq!(balance["settled_funds"], "12.34");
    assert_eq!(balance["subaccount_balances"][0]["account_equity"], "9.00");
    for name in ["available_balance", "resting_orders_margin"] {
        assert!(balance["subaccount_balances"][0].get(name).is_none(), "{name}");
    }
    assert!(requests[0].target.ends_with("?compute_available_balance=false"));
    let (ran, requests) = stub.run(&[&words[..], &["--available"]].concat()).await;
    assert_eq!(ran.json()["subaccount_balances"][0]["available_balance"], "7.00");
    assert!(requests[0].target.ends_with("?compute_available_balance=true"));
    let (ran, _) = stub.run(&words[..3]).await;
    assert!(ran.stderr.contains("settled funds: 12.34 dollars"), "{ran:?}");
    assert!(!ran.ok().contains("available_balance"));
}

fn trigger(request: &Value) -> Value {
    let mut trigger = json!({
        "id": "x-1", "ticker": "KXBTCPERP", "kind": request["kind"], "status": "active",
        "count": "0.00", "filled_count": "0.00",
        "created_time": "2026-11-27T00:00:00Z", "updated_time": "2026-11-27T00:00:00Z",
    });
    for (name, value) in request.as_object().unwrap() {
        trigger[name] = value.clone();
    }
    trigger
}

#[tokio::test]
async fn a_trigger_that_was_set_before_is_no_success() {
    let stub = Stub::start(|request| {
        let mut trigger = trigger(&request.json());
        // A repeated id: the first trigger, whatever it was.
        match trigger["client_trigger_id"].as_str() {
            Some("used") => trigger["stop_loss_price"] = json!("1.0000"),
            Some("over") => trigger["status"] = json!("canceled"),
            Some("dim") => trigger["status"] = json!("unknown"),
            Some("new") => trigger["status"] = json!("a_state_of_later"),
            _ => {}
        }
        Some((200, trigger.to_string()))
    })
    .await;
    let words = "perps trigger set KXBTCPERP --stop-loss 29000 --count 2 -o json";
    let words: Vec<&str> = words.split(' ').collect();
    let (ran, requests) = stub.run(&words).await;
    assert_eq!(ran.json()["stop_loss_price"], "29000.0000");
    let body = requests[0].json();
    assert_eq!((&body["kind"], &body["count"]), (&json!("bracket"), &json!("2.00")));
    let id = body["client_trigger_id"].as_str().unwrap();
    assert!((1..=64).contains(&id.len()), "{id}");
    assert!(requests[0].line().starts_with("PUT /trade-api/v2/margin/cross/positions/KXBTCPERP/"));
    for (id, part, code) in [
        ("used", "the id was used before", 1),
        ("over", "is canceled", 1),
        ("dim", "whether it can fire is not known", 6),
        ("new", "whether it can fire is not known", 6),
    ] {
        let (ran, _) = stub.run(&[&words[..], &["--client-id", id]].concat()).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains(part), "{ran:?}");
        assert!(ran.stderr.contains("next: kalshi perps trigger list KXBTCPERP"), "{ran:?}");
    }
    // Nothing is sent of what the exchange documents to refuse.
    for words in [
        "perps trigger set T",
        "perps trigger set T --stop-loss 0",
        "perps trigger set T --stop-loss 1 --trail-bps 5",
        "perps trigger set T --trail-bps 10000",
        "perps trigger set T --trail-bps 5 --anchor o-1",
        "perps trigger set T --stop-loss 1 --count 1.5",
        "perps trigger set T --stop-loss 1 --client-id a",
        "perps trigger set T --stop-loss 1 --isolated --subaccount 1",
        "perps trigger update T x-1",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let (ran, requests) = stub.run(&words).await;
        assert_eq!((ran.code, requests.len()), (2, 0), "{words:?}: {ran:?}");
    }
}

#[tokio::test]
async fn a_trigger_without_a_readable_answer_is_of_unknown_outcome_and_its_id_is_told() {
    let set = "perps trigger set KXBTCPERP --stop-loss 29000 -q -o json";
    let update = "perps trigger update KXBTCPERP x-1 --stop-loss 29000 -q -o json";
    let list = "kalshi perps trigger list KXBTCPERP";
    for answer in [None, Some("{}"), Some("no JSON")] {
        let stub = Stub::start(move |_| answer.map(|body| (200, body.to_owned()))).await;
        for (text, next) in [
            (format!("{set} --count 2"), None),
            (format!("{set} --anchor o-1 --client-id my-1"), Some("with --client-id my-1, which")),
            (format!("{set} --subaccount 3"), Some("trigger list KXBTCPERP --subaccount 3")),
            (update.to_owned(), Some(list)),
        ] {
            let words: Vec<&str> = text.split(' ').collect();
            let (ran, requests) = stub.run(&words).await;
            assert_eq!((ran.code, requests.len()), (6, 1), "{text}: {ran:?}");
            // The answer stands before the failure.
            let documents = serde_json::Deserializer::from_str(&ran.stdout).into_iter::<Value>();
            let failure = documents.last().unwrap().unwrap()["error"].take();
            assert_eq!(failure["effect"], "unknown", "{text}");
            let own_id = &requests[0].json()["client_trigger_id"];
            let id = format!("with --client-id {}, which", own_id.as_str().unwrap_or_default());
            let found = failure["next"].as_str().unwrap();
            assert!(found.contains(next.unwrap_or(&id)), "{text}: {failure}");
        }
    }
}

#[tokio::test]
async fn a_trigger_that_is_not_as_it_was_changed_is_no_success() {
    for (change, code) in [
        (json!({}), 0),
        (json!({"status": "filled"}), 1),
        (json!({"stop_loss_price": "1.0000"}), 6),
        (json!({"id": "x-2"}), 6),
        (json!({"status": "unknown"}), 6),
    ] {
        let stub = Stub::start(move |request| {
            let mut trigger = trigger(&request.json());
            trigger["kind"] = json!("bracket");
            for (name, value) in change.as_object().unwrap() {
                trigger[name] = value.clone();
            }
            Some((200, trigger.to_string()))
        })
        .await;
        let words = "perps trigger update KXBTCPERP x-1 --stop-loss 29000";
        let words: Vec<&str> = words.split(' ').collect();
        let (ran, _) = stub.run(&words).await;
        assert_eq!(ran.code, code, "{ran:?}");
    }
}

#[tokio::test]
async fn a_write_is_shown_with_dry_run_and_its_lost_answer_is_an_unknown_outcome() {
    let stub = Stub::start(|_| None).await;
    let words = ["perps", "trigger", "cancel", "KXBTCPERP", "x-1", "-o", "json"];
    let (ran, requests) = stub.run(&words).await;
    assert_eq!(ran.failure(6)["operation"], "delete_cross_margin_exit_trigger_by_id");
    assert!(requests[0].line().ends_with("/margin/cross/positions/KXBTCPERP/exit_trigger/x-1"));
    let (ran, requests) = stub.run(&[&words[..], &["--dry-run"]].concat()).await;
    assert_eq!((ran.json()["method"].as_str(), requests.len()), (Some("DELETE"), 0));
}

#[tokio::test]
async fn a_group_is_found_in_its_subaccount() {
    // With what the documents require of any of the answers.
    let answer = json!({
        "order_group_id": "g", "subaccount": 3, "is_auto_cancel_enabled": true, "orders": [],
        "order_groups": [],
    });
    let stub = Stub::start(move |_| Some((200, answer.to_string()))).await;
    let at = "--subaccount 3";
    let index = "--exchange-index 2";
    let limit = json!({"contracts_limit_fp": "20.00"});
    let made = json!({"contracts_limit_fp": "10.00", "subaccount": 3, "exchange_index": 2});
    for (text, perps, events, body) in [
        ("list", "?subaccount=3", "?subaccount=3", Value::Null),
        ("get g", "/g?subaccount=3", "/g?subaccount=3", Value::Null),
        ("create 10", "/create", "/create", made),
        ("limit g 20", "/g/limit?subaccount=3", "/g/limit?subaccount=3&exchange_index=2", limit),
        ("reset g", "/g/reset?subaccount=3", "/g/reset?subaccount=3&exchange_index=2", json!({})),
        (
            "trigger g",
            "/g/trigger?subaccount=3",
            "/g/trigger?subaccount=3&exchange_index=2",
            json!({}),
        ),
        ("delete g", "/g?subaccount=3", "/g?subaccount=3&exchange_index=2", Value::Null),
    ] {
        let is_write = body != Value::Null || text == "delete g";
        for (product, path, end) in [
            ("perps group", "/margin/order_groups", perps),
            ("group", "/portfolio/order_groups", events),
        ] {
            let has_index = is_write && (product == "group" || text == "create 10");
            let index = if has_index { index } else { "" };
            let text = format!("{product} {text} {at} {index}");
            let words: Vec<&str> = text.split_whitespace().collect();
            let (ran, requests) = stub.run(&words).await;
            ran.ok();
            assert_eq!(requests[0].target, format!("/trade-api/v2{path}{end}"), "{text}");
            if !requests[0].body.is_empty() {
                assert_eq!(requests[0].json(), body, "{text}");
            }
        }
    }
    // Groups of this product are found without it.
    let (ran, requests) =
        stub.run(&["perps", "group", "reset", "g", "--exchange-index", "2"]).await;
    assert_eq!((ran.code, requests.len()), (2, 0), "{ran:?}");
}

#[tokio::test]
async fn a_ceiling_of_the_profile_holds_for_orders_of_this_product() {
    let stub = Stub::start(|_| Some((201, "{}".to_owned()))).await;
    stub.folder.file("config.toml", "[profiles.default]\nmax_order_cost = \"5.00\"\n");
    let body = json!({"ticker": "T", "client_order_id": "a", "side": "bid", "count": "1.00",
        "price": "2.00", "time_in_force": "good_till_canceled",
        "self_trade_prevention_type": "taker_at_cross"});
    let words = ["perps", "api", "create_margin_order", "--body", &body.to_string()];
    let (ran, requests) = stub.run(&words).await;
    let failure = ran.failure(2);
    assert!(failure["message"].as_str().unwrap().contains("$5.00"));
    assert_eq!(failure["next"], "kalshi perps order, or a profile without max_order_cost");
    assert!(requests.is_empty());
    let (ran, requests) = stub.run(&["perps", "api", "POST", "/margin/new", "--body", "{}"]).await;
    let failure = ran.failure(2);
    assert!(failure["message"].as_str().unwrap().starts_with("POST /margin/new: "), "{failure}");
    assert!(requests.is_empty());
}

#[tokio::test]
async fn what_to_do_next_is_of_this_product() {
    for (status, code, exit, next) in [
        (429, "too_many_requests", 5, "wait a moment; kalshi perps limits"),
        (503, "TRADING_PAUSED", 7, "kalshi perps status"),
        (403, "forbidden", 4, "kalshi perps enabled"),
    ] {
        let body = json!({"code": code, "message": "no"}).to_string();
        let stub = Stub::start(move |_| Some((status, body.clone()))).await;
        for words in [
            &["perps", "portfolio", "positions", "-o", "json"][..],
            &["perps", "api", "GET", "/margin/new", "-o", "json"],
        ] {
            let (ran, _) = stub.run(words).await;
            let failure = ran.failure(exit);
            assert!(failure["next"].as_str().unwrap().contains(next), "{words:?}: {failure}");
            assert_ne!(failure["operation"], "get_exchange_status");
        }
    }
}
