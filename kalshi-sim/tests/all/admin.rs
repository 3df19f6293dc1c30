//! The admin API: it says what it can do, and no page in a browser can use it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use kalshi_sdk::types::GetMarketsStatus;
use kalshi_sim::{CorporateAction, Exchange, MarketPlan, PerpsMarketPlan, Role};
use kalshi_types::{Count, Dollars};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const PERP: &str = "KXSIMCOINPERP";

async fn exchange() -> Exchange {
    let exchange = Exchange::builder().with_admin_port(0).start().await.unwrap();
    exchange.markets().list(MarketPlan::new("KXADMIN-26-A", 86_400)).unwrap();
    exchange
}

/// Returns the method and the path of each row of the list, with its example.
async fn listed(exchange: &Exchange) -> Vec<(String, String, Option<String>)> {
    let answer = reqwest::get(exchange.admin_url().unwrap()).await.unwrap();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let rows = body["routes"].as_array().unwrap().iter().map(|row| {
        assert!(row["does"].as_str().unwrap().ends_with('.'), "{row}");
        let text = |key: &str| row[key].as_str().map(str::to_owned);
        (text("method").unwrap(), text("path").unwrap(), text("example"))
    });
    rows.collect()
}

/// Sends a request with these headers as they are, and returns the status.
async fn status(exchange: &Exchange, method: &str, path: &str, headers: &[&str]) -> u16 {
    let address = exchange.admin_url().unwrap().replace("http://", "");
    let mut stream = TcpStream::connect(&*address).await.unwrap();
    let mut lines = headers.to_vec();
    lines.extend(["Content-Length: 0", "Connection: close", "\r\n"]);
    let request = format!("{method} {path} HTTP/1.1\r\n{}", lines.join("\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_root_lists_what_can_be_done_and_each_example_works() {
    let exchange = exchange().await;
    let routes = listed(&exchange).await;
    assert!(routes.len() > 30, "{routes:?}");
    let client = exchange.client(Role::Trader).unwrap();
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await.unwrap();
    let (ticker, event) = (open.markets[0].ticker.clone(), open.markets[0].event_ticker.clone());
    let key_id = exchange.credentials(Role::Trader).unwrap().key_id().to_owned();
    let day = Duration::from_secs(86_400);
    let dividend = CorporateAction::CashDividend { per_contract: Dollars::ONE };
    let action = exchange.perps().announce(PERP, dividend, day).unwrap();
    let http = reqwest::Client::new();
    for (method, path, example) in routes {
        let ticker = if path.starts_with("/perps/") { PERP } else { &ticker };
        let path = path.replace("{ticker}", ticker).replace("{event_ticker}", &event);
        let path = path.replace("{index}", "0").replace("{id}", &action);
        let url = format!("{}{path}", exchange.admin_url().unwrap());
        let mut request = http.request(method.parse().unwrap(), url);
        if let Some(example) = example {
            let body = example.replace('…', &key_id);
            serde_json::from_str::<Value>(&body).expect("the example is JSON");
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        // A market that is determined cannot be paused, for instance: the request is understood.
        assert!([200, 409].contains(&status), "{method} {path}: {status} {text}");
    }
    // The lists in the documentation of the crate and of the API are the same.
    let documented = include_str!("../../src/lib.rs");
    for (method, path, _) in listed(&exchange).await {
        let is_there = documented.lines().any(|line| {
            line.starts_with("//! |") && line.contains(&method) && line.contains(&path)
        });
        assert!(is_there, "the crate's documentation has no {method} {path}");
    }
}

#[tokio::test]
async fn a_foreign_name_that_points_here_is_refused_on_every_route() {
    let exchange = exchange().await;
    let here = exchange.admin_url().unwrap().replace("http://", "");
    let port = here.rsplit(':').next().unwrap();
    let before = exchange.clock().now();
    for (method, path, _) in listed(&exchange).await {
        for host in [
            &["Host: evil.example"][..],
            &["Host: localhost.evil.example"],
            &["Host: 127.0.0.1.evil.example"],
            &["Host: 10.0.0.1"],
            &["Host: "],
            &["Host: 127.0.0.1", "Host: evil.example"],
        ] {
            let said = status(&exchange, &method, &path, host).await;
            assert!([400, 403].contains(&said), "{method} {path} {host:?}: {said}");
        }
    }
    assert_eq!(status(&exchange, "GET", "/elsewhere", &["Host: evil.example"]).await, 403);
    for host in [
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
    ] {
        assert_eq!(status(&exchange, "GET", "/clock", &[&format!("Host: {host}")]).await, 200);
        assert_eq!(status(&exchange, "GET", "/nowhere", &[&format!("Host: {host}")]).await, 404);
    }
    assert!(exchange.clock().now() - before < chrono::Duration::minutes(10), "it was advanced");
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_on_every_route() {
    let exchange = exchange().await;
    let here = exchange.admin_url().unwrap().replace("http://", "");
    let host = format!("Host: {here}");
    for (method, path, _) in listed(&exchange).await {
        for foreign in [
            "Origin: https://evil.example",
            "Origin: null",
            "Origin: http://127.0.0.1:1",
            "Origin: http://localhost",
            "Origin: ",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ] {
            let said = status(&exchange, &method, &path, &[&host, foreign]).await;
            assert_eq!(said, 403, "{method} {path} {foreign}");
        }
    }
    // The page that the API itself would serve, and what no page sends.
    for own in [&*format!("Origin: http://{here}"), "Sec-Fetch-Site: same-origin", "X: y"] {
        assert_eq!(status(&exchange, "GET", "/clock", &[&host, own]).await, 200, "{own}");
        assert_eq!(status(&exchange, "POST", "/clock/freeze", &[&host, own]).await, 200, "{own}");
    }
    let answer = reqwest::Client::new()
        .post(format!("http://{here}/clock/advance"))
        .header("content-type", "application/json")
        .header("origin", "https://evil.example")
        .body(json!({"seconds": 1}).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 403);
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert!(body["error"]["message"].as_str().unwrap().contains("Origin"), "{body}");
}

/// Sends a request to the admin API. Returns the status and the body.
async fn admin(exchange: &Exchange, method: &str, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}{path}", exchange.admin_url().unwrap());
    let request = reqwest::Client::new().request(method.parse().unwrap(), url);
    let request = if body.is_null() {
        request
    } else {
        request.header("content-type", "application/json").body(body.to_string())
    };
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

#[tokio::test]
async fn an_operator_runs_perpetual_futures_over_http() {
    let exchange = exchange().await;
    exchange.clock().freeze();
    let client = exchange.client(Role::Trader).unwrap();
    let key_id = exchange.credentials(Role::Trader).unwrap().key_id().to_owned();
    let done = async |method: &str, path: &str, body: Value| {
        let (status, body) = admin(&exchange, method, path, body).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    };
    let market = async |ticker: &str| {
        let read = client.perps().get_margin_market().ticker(ticker).send().await.unwrap();
        serde_json::to_value(&read.into_inner().market).unwrap()
    };
    let plan = json!({
        "ticker": "KXLATERPERP", "reference": "50000.00", "contract_size_millionths": 1_000,
        "asset_class": "Metals", "fractional_trading_enabled": true,
    });
    let read: PerpsMarketPlan = serde_json::from_value(plan.clone()).unwrap();
    let unset = PerpsMarketPlan::new("KXLATERPERP", "50000.00".parse().unwrap());
    assert_eq!(read.maintenance_margin_millionths, unset.maintenance_margin_millionths);
    done("POST", "/perps/markets", plan).await;
    let listed = market("KXLATERPERP").await;
    assert_eq!(
        (&listed["asset_class"], &listed["fractional_trading_enabled"]),
        (&json!("Metals"), &json!(true))
    );
    assert_eq!(listed["settlement_mark_price"]["price"], "50.0000");

    let marks = format!("/perps/markets/{PERP}/marks");
    done("POST", &marks, json!({"settlement_mark": "70.00", "reference": "70000.00"})).await;
    done("POST", &marks, json!({"liquidation_mark": "69.00", "reference": null})).await;
    let after = market(PERP).await;
    assert_eq!(after["settlement_mark_price"]["price"], "70.0000");
    assert_eq!(after["liquidation_mark_price"]["price"], "69.0000");
    assert!(after["reference_price"].is_null(), "{after}");

    done("POST", &format!("/perps/markets/{PERP}/pause"), Value::Null).await;
    assert_eq!(market(PERP).await["status"], "inactive");
    done("POST", &format!("/perps/markets/{PERP}/resume"), Value::Null).await;
    assert_eq!(market(PERP).await["status"], "active");
    done("POST", "/perps/trading", json!({"active": false})).await;
    assert_eq!(done("GET", "/perps", Value::Null).await["trading_active"], false);
    done("POST", "/perps/trading", json!({"active": true})).await;
    let carried_out = done("POST", "/perps/traders", json!({"commands": 700})).await;
    assert!(carried_out["carried_out"].as_u64().unwrap() > 300, "{carried_out}");

    let equity = async || {
        let read = client.perps().get_margin_balance().send().await.unwrap().into_inner();
        read.subaccount_balances[0].account_equity
    };
    let before = equity().await;
    let deposit = json!({"key_id": key_id, "amount_dollars": "12.50"});
    done("POST", "/perps/deposits", deposit).await;
    assert_eq!(equity().await.checked_sub(before), Some("12.50".parse().unwrap()));
    let enabled = async || {
        let read = client.perps().get_margin_enabled().send().await.unwrap();
        read.into_inner().enabled
    };
    for is_enabled in [false, true] {
        let body = json!({"key_id": key_id, "enabled": is_enabled});
        done("POST", "/perps/members", body).await;
        assert_eq!(enabled().await, is_enabled);
    }

    let next = done("GET", "/perps", Value::Null).await["next_funding_time"].clone();
    assert_eq!(done("POST", "/perps/fund", Value::Null).await["now"], next);
    let rates = client.perps().get_margin_historical_funding_rates().ticker(PERP);
    let rates = rates.send().await.unwrap().into_inner().funding_rates;
    assert_eq!(serde_json::to_value(rates[0].funding_time).unwrap(), next);

    let actions = format!("/perps/markets/{PERP}/actions");
    let later = json!({"action": {"type": "spin_off", "per_contract": "1"}, "in_seconds": 60});
    let id = done("POST", &actions, later).await["id"].as_str().unwrap().to_owned();
    done("DELETE", &format!("/perps/actions/{id}"), Value::Null).await;
    assert_eq!(
        admin(&exchange, "DELETE", &format!("/perps/actions/{id}"), Value::Null).await.0,
        404
    );
    let split = json!({"action": {"type": "stock_split", "old": 1, "new": 2}});
    done("POST", &actions, split).await;
    let halted = market(PERP).await;
    assert_eq!(halted["settlement_mark_price"]["price"], "35.0000");
    assert_eq!(halted["status"], "inactive");
    exchange.audit().unwrap();
}

#[tokio::test]
async fn what_is_out_of_range_in_perpetual_futures_is_refused_in_plain_words() {
    let exchange = exchange().await;
    let key_id = exchange.credentials(Role::Trader).unwrap().key_id().to_owned();
    let marks = format!("/perps/markets/{PERP}/marks");
    let actions = format!("/perps/markets/{PERP}/actions");
    let action = |action: Value| json!({"action": action});
    for (path, body, status, words) in [
        (&*marks, json!({}), 400, "name settlement_mark"),
        (&marks, json!({"settlement_mark": "0"}), 400, "above zero"),
        (&marks, json!({"settlement_mark": "-1.00"}), 400, "above zero"),
        (&marks, json!({"liquidation_mark": "1.00001"}), 400, "four decimals"),
        (&marks, json!({"reference": "90000000000.00"}), 400, "a mark"),
        (&marks, json!({"settlement_mark": 70.5}), 400, "settlement_mark"),
        (&marks, json!({"mark": "70.00"}), 400, "unknown field"),
        ("/perps/markets/KXNONE/marks", json!({"settlement_mark": "1.00"}), 404, "not found"),
        ("/perps/markets/KXNONE/pause", Value::Null, 404, "not found"),
        ("/perps/markets", json!({"ticker": "lower", "reference": "1.00"}), 400, "capital letters"),
        ("/perps/markets", json!({"ticker": PERP, "reference": "1.00"}), 409, "there is a market"),
        (
            "/perps/markets",
            json!({"ticker": "KXA", "reference": "1.00", "tick_size": "0"}),
            400,
            "out of range",
        ),
        ("/perps/traders", json!({"commands": 100_001}), 400, "100,000 at most"),
        ("/perps/traders", json!({"commands": -1}), 400, "commands"),
        (
            "/perps/deposits",
            json!({"key_id": "another", "amount_dollars": "1.00"}),
            400,
            "no such key",
        ),
        (
            "/perps/deposits",
            json!({"key_id": key_id, "amount_dollars": "-1.00"}),
            400,
            "out of range",
        ),
        (&actions, action(json!({"type": "stock_split", "old": 0, "new": 2})), 400, "out of range"),
        (&actions, action(json!({"type": "ticker_change", "new": "a b"})), 400, "capital letters"),
        (&actions, action(json!({"type": "merger"})), 400, "merger"),
        (
            &actions,
            json!({
                "action": {"type": "cash_dividend", "per_contract": "1.00"},
                "in_seconds": u64::MAX,
            }),
            400,
            "too late",
        ),
    ] {
        let (found, answer) = admin(&exchange, "POST", path, body.clone()).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{path} {body}: {answer}");
        assert!(message.contains(words), "{path} {body}: {message}");
    }
    let none = Count::ZERO;
    assert_eq!(exchange.perps().position(Role::Trader, PERP), Some(none));
    exchange.audit().unwrap();
}
