//! `kalshi perps order`: placed once, settled, changed, canceled.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use crate::{
    stub::{Answer, Request, Stub},
    support::run_without_reader,
};

/// An exchange with one market.
#[derive(Default)]
struct Exchange {
    orders: Mutex<Vec<Value>>,
    /// The answer to the next writes is lost, although they are carried out.
    loses_answers: AtomicBool,
    /// Reads do not show orders.
    is_blind: AtomicBool,
    /// The market has changed since it was read.
    has_changed: AtomicBool,
    /// Changes of orders are not carried out.
    forgets_changes: AtomicBool,
    /// Orders fill as soon as they are changed.
    fills_changed: AtomicBool,
    /// Cancels are refused.
    refuses_cancels: AtomicBool,
}

impl Exchange {
    /// Changes an order.
    fn change(&self, order: &mut Value, is_amend: bool, body: &Value) {
        if self.forgets_changes.load(Ordering::SeqCst) {
            // It stays as it is.
        } else if is_amend {
            order["price"] = body["price"].clone();
            order["remaining_count"] = body["count"].clone();
        } else {
            order["remaining_count"] = body["reduce_to"].clone();
        }
        if self.fills_changed.load(Ordering::SeqCst) {
            order["fill_count"] = order["remaining_count"].take();
            order["remaining_count"] = json!("0.00");
            order["last_update_reason"] = json!("Trade");
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let target = request.target.strip_prefix("/trade-api/v2").unwrap_or(&request.target);
        let path = target.split('?').next().unwrap_or_default();
        let mut orders = self.orders.lock().unwrap();
        let is_blind = self.is_blind.load(Ordering::SeqCst);
        let answer = match (request.method.as_str(), path) {
            ("GET", "/margin/exchange/status") => {
                (200, json!({"exchange_active": true, "trading_active": true}))
            }
            ("GET", "/margin/markets/KXBTCPERP") => (200, json!({ "market": market() })),
            ("GET", "/margin/markets/KXBTCPERP/orderbook") => (
                200,
                json!({"orderbook": {
                    "bids": [["29999.0000", "1.00"]], "asks": [["30001.0000", "4.00"]],
                }}),
            ),
            ("GET", "/margin/fee_tiers") => (
                200,
                json!({
                    "maker_fee_rates": {"KXBTCPERP": 0.0001}, "taker_fee_rates": {"KXBTCPERP": 0.0002},
                }),
            ),
            ("GET", "/margin/positions") => (200, json!({"positions": []})),
            ("GET", "/exchange/user_data_timestamp") => {
                (200, json!({"as_of_time": "2026-01-01T00:00:00Z"}))
            }
            ("GET", "/margin/orders") => {
                let mut shown = if is_blind { Vec::new() } else { orders.clone() };
                shown.retain(|order| {
                    !target.contains("status=resting") || order["remaining_count"] != "0.00"
                });
                (200, json!({ "orders": shown, "cursor": "" }))
            }
            ("POST", "/margin/orders") if self.has_changed.load(Ordering::SeqCst) => {
                (409, json!({"code": "market_version_mismatch", "message": "changed"}))
            }
            ("POST", "/margin/orders")
                if orders
                    .iter()
                    .any(|order| order["client_order_id"] == request.json()["client_order_id"]) =>
            {
                (409, json!({"code": "order_already_exists", "message": "the id is in use"}))
            }
            ("POST", "/margin/orders") => {
                let body = request.json();
                let order_id = format!("o-{}", orders.len() + 1);
                orders.push(json!({
                    "order_id": order_id, "user_id": "u", "client_order_id": body["client_order_id"],
                    "ticker": body["ticker"], "side": body["side"], "price": body["price"],
                    "fill_count": "0.00", "remaining_count": body["count"],
                    "last_update_reason": "Amend",
                }));
                (
                    201,
                    json!({ "order_id": order_id, "client_order_id": body["client_order_id"],
                    "fill_count": "0.00", "remaining_count": body["count"] }),
                )
            }
            ("POST", path) if path.ends_with("/amend") || path.ends_with("/decrease") => {
                let id = path.split('/').nth(3).unwrap_or_default();
                let order = orders.iter_mut().find(|order| order["order_id"] == id).unwrap();
                self.change(order, path.ends_with("/amend"), &request.json());
                (200, json!({"order_id": id, "remaining_count": order["remaining_count"]}))
            }
            ("DELETE", _) if self.refuses_cancels.load(Ordering::SeqCst) => {
                (400, json!({"code": "invalid", "message": "no"}))
            }
            ("DELETE", "/margin/orders") => {
                for order in orders.iter_mut() {
                    order["remaining_count"] = json!("0.00");
                }
                (204, Value::Null)
            }
            (method, path) => {
                let id = path.strip_prefix("/margin/orders/").unwrap_or_default();
                let found = orders.iter_mut().find(|order| order["order_id"] == id);
                match found.filter(|_| method == "DELETE" || !is_blind) {
                    Some(order) if method == "DELETE" => {
                        order["remaining_count"] = json!("0.00");
                        order["last_update_reason"] = json!("Decrease");
                        (200, json!({ "order_id": id, "reduced_by": "2.00" }))
                    }
                    Some(order) => (200, json!({ "order": order })),
                    None => (404, json!({"code": "not_found", "message": "no"})),
                }
            }
        };
        let is_lost = request.method != "GET" && self.loses_answers.load(Ordering::SeqCst);
        let (status, body) = answer;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        (!is_lost).then_some((status, body))
    }
}

fn market() -> Value {
    json!({
        "ticker": "KXBTCPERP", "market_id": "m-1", "status": "active", "exchange_index": 0,
        "tick_size": "0.25", "fractional_trading_enabled": false, "market_version": 3,
        "contract_size": "1", "underlying_multiplier": "1", "halt_sources": [],
        "funding_cap": 0, "funding_deadband": 0, "funding_limit_unit": "percentage",
        "funding_invalid_premium_handling": "dampen",
    })
}

async fn start() -> (Arc<Exchange>, Stub) {
    let exchange = Arc::<Exchange>::default();
    let of_stub = Arc::clone(&exchange);
    let stub = Stub::start(move |request| of_stub.answer(request)).await;
    (exchange, stub)
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

fn writes(requests: &[Request]) -> Vec<&Request> {
    requests.iter().filter(|request| request.method != "GET").collect()
}

const BID: &str = "perps order bid KXBTCPERP 2 @ 30000.25 -o json";

#[tokio::test]
async fn an_order_is_shown_sent_once_and_printed_as_the_exchange_has_it() {
    let (_, stub) = start().await;
    let (ran, requests) = stub.run(&words(&format!("{BID} --dry-run"))).await;
    let shown = ran.json();
    assert_eq!((writes(&requests).len(), &shown["body"]["market_version"]), (0, &json!(3)));
    assert_eq!(shown["preview"]["value"], "60000.5000");
    assert_eq!(shown["preview"]["fee"], "12.0001");
    let (ran, requests) = stub.run(&words(BID)).await;
    assert!(ran.stderr.contains("buy 2.00 × 30000.2500"), "{ran:?}");
    assert_eq!(ran.json()["order_id"], "o-1");
    let sent = writes(&requests);
    assert_eq!(sent.len(), 1);
    let body = sent[0].json();
    assert_eq!((&body["side"], &body["price"]), (&json!("bid"), &json!("30000.2500")));
    assert!(body["client_order_id"].as_str().unwrap().starts_with("cli-"));
    // The same id places no second order: it is the first one, or the failure says that it is another.
    let same = "perps order ask KXBTCPERP 1 @ 30002.00 --client-id same -o json";
    for _ in 0..2 {
        let (ran, _) = stub.run(&words(same)).await;
        assert_eq!(ran.json()["order_id"], "o-2");
    }
    let (ran, _) = stub.run(&words(&same.replace("30002.00", "30003.00"))).await;
    let failure = ran.failure(1);
    assert!(failure["message"].as_str().unwrap().contains("which this is not"), "{failure}");
}

#[tokio::test]
async fn what_does_not_fit_or_costs_too_much_or_is_not_confirmed_is_not_sent() {
    let (_, stub) = start().await;
    for text in [
        "perps order bid KXBTCPERP 2 @ 30000.30",
        "perps order bid KXBTCPERP 1.5 @ 30000.25",
        "perps order bid KXBTCPERP 2 @ 30000.25 --reduce-only",
        "perps order bid KXBTCPERP 2 @ 30000.25 --tif ioc --post-only",
        // A cent less than price × count and the fee.
        "perps order bid KXBTCPERP 2 @ 30000.25 --max-cost 60012.49",
        "perps order bid KXBTCPERP 2 @ 30000.25 --ask",
    ] {
        let (ran, requests) = stub.run(&words(text)).await;
        assert_eq!((ran.code, writes(&requests).len()), (2, 0), "{text}: {ran:?}");
    }
    let (ran, _) = stub.run(&words(&format!("{BID} --max-cost 60012.51"))).await;
    assert_eq!(ran.json()["order_id"], "o-1");
}

#[tokio::test]
async fn a_lost_answer_is_settled_and_nothing_is_placed_beside_it() {
    let (exchange, stub) = start().await;
    exchange.loses_answers.store(true, Ordering::SeqCst);
    let (ran, requests) = stub.run(&words(BID)).await;
    assert_eq!(ran.json()["order_id"], "o-1");
    assert_eq!(writes(&requests).len(), 1);

    exchange.is_blind.store(true, Ordering::SeqCst);
    let unknown = format!("{BID} --client-id lost-1 --settle-within 1s");
    let (ran, requests) = stub.run(&words(&unknown)).await;
    let failure = ran.failure(6);
    assert_eq!(failure["operation"], "create_margin_order");
    assert_eq!(failure["next"], "kalshi perps order settle lost-1");
    assert_eq!(writes(&requests).len(), 1);
    // It may exist: nothing is placed in its stead.
    let (ran, requests) = stub.run(&words(BID)).await;
    assert_eq!((ran.code, writes(&requests).len()), (6, 0), "{ran:?}");
    exchange.is_blind.store(false, Ordering::SeqCst);
    exchange.loses_answers.store(false, Ordering::SeqCst);
    let (ran, requests) = stub.run(&words("perps order settle lost-1 -o json")).await;
    assert_eq!(ran.json()["order_id"], "o-2");
    assert!(writes(&requests).is_empty());
    let (ran, requests) = stub.run(&words(BID)).await;
    assert_eq!((ran.json()["order_id"].as_str(), writes(&requests).len()), (Some("o-3"), 1));
    let (ran, _) = stub.run(&words("perps order settle no-such-id -o json")).await;
    assert_eq!(ran.code, 6, "{ran:?}");
}

#[tokio::test]
async fn an_order_for_another_version_of_the_market_is_refused_and_not_sent_again() {
    let (exchange, stub) = start().await;
    exchange.has_changed.store(true, Ordering::SeqCst);
    let (ran, requests) = stub.run(&words(BID)).await;
    let failure = ran.failure(1);
    assert_eq!(
        (&failure["code"], &failure["status"]),
        (&json!("market_version_mismatch"), &json!(409))
    );
    assert!(failure["next"].as_str().unwrap().contains("perps market get KXBTCPERP"), "{failure}");
    assert_eq!(writes(&requests).len(), 1);
}

#[tokio::test]
async fn a_cancel_is_done_when_the_order_says_so() {
    let (exchange, stub) = start().await;
    for _ in 0..2 {
        stub.run(&words(BID)).await.0.ok();
    }
    let (ran, _) = stub.run(&words("perps order cancel o-1 -o json")).await;
    assert_eq!(ran.json()["orders"][0]["result"], "canceled");
    exchange.loses_answers.store(true, Ordering::SeqCst);
    let (ran, requests) = stub.run(&words("perps order cancel o-2 -o json")).await;
    assert_eq!(ran.json()["orders"][0]["result"], "over");
    assert_eq!(writes(&requests).len(), 1);
    exchange.is_blind.store(true, Ordering::SeqCst);
    let (ran, _) = stub.run(&words("perps order cancel o-2")).await;
    assert_eq!(ran.code, 6, "{ran:?}");
    let (ran, requests) = stub.run(&words("perps order cancel o-2 --dry-run")).await;
    ran.ok();
    assert!(requests.is_empty());
}

#[tokio::test]
async fn an_order_is_amended_as_it_was_shown_and_printed_as_the_exchange_has_it() {
    let (_, stub) = start().await;
    stub.run(&words(BID)).await.0.ok();
    let amend = "perps order amend o-1 --price 30000.50 --count 3 -o json";
    let (ran, requests) = stub.run(&words(&format!("{amend} --dry-run"))).await;
    let shown = ran.json();
    assert_eq!(writes(&requests).len(), 0);
    assert!(shown["url"].as_str().unwrap().ends_with("/margin/orders/o-1/amend"), "{shown}");
    assert_eq!(shown["preview"]["value"], "90001.5000");
    let body = json!({
        "ticker": "KXBTCPERP", "side": "bid", "price": "30000.5000", "count": "3.00",
    });
    assert_eq!(shown["body"], body);
    let (ran, requests) = stub.run(&words(amend)).await;
    assert!(ran.stderr.contains("2.00 × 30000.2500 → 3.00 × 30000.5000"), "{ran:?}");
    assert_eq!(ran.json()["price"], "30000.5000");
    let sent = writes(&requests);
    assert_eq!((sent.len(), sent[0].json()), (1, body));
    for text in [
        "perps order amend o-1",
        "perps order amend o-1 --price 30000.30",
        "perps order amend o-1 --price 0",
        "perps order amend o-1 --count 1.5",
        "perps order amend o-1 --price 30000.25 --max-cost 90000",
        "perps order amend o-1 --price 30000.25 --ask",
        "perps order decrease o-1",
        "perps order decrease o-1 --by 1 --to 1",
        "perps order decrease o-1 --by 4",
        "perps order decrease o-1 --to 3",
        "perps order decrease o-1 --to 1.5",
        "perps order decrease o-1 --to 1 --ask",
    ] {
        let (ran, requests) = stub.run(&words(text)).await;
        assert_eq!((ran.code, writes(&requests).len()), (2, 0), "{text}: {ran:?}");
    }
    let (ran, requests) =
        stub.run(&words("perps order decrease o-1 --by 1 --dry-run -o json")).await;
    assert_eq!((writes(&requests).len(), &ran.json()["body"]), (0, &json!({"reduce_to": "2.00"})));
    let (ran, requests) = stub.run(&words("perps order decrease o-1 --by 1 -o json")).await;
    assert_eq!(ran.json()["remaining_count"], "2.00");
    assert_eq!(writes(&requests)[0].json(), json!({"reduce_to": "2.00"}));
    // What is over is not changed.
    let (ran, _) = stub.run(&words("perps order decrease o-1 --to 0 -o json")).await;
    assert_eq!(ran.json()["remaining_count"], "0.00");
    for text in ["perps order amend o-1 --price 30000.25", "perps order decrease o-1 --to 0"] {
        let (ran, requests) = stub.run(&words(text)).await;
        assert_eq!((ran.code, writes(&requests).len()), (1, 0), "{text}: {ran:?}");
    }
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_read_back_and_sent_once() {
    let (exchange, stub) = start().await;
    stub.run(&words(BID)).await.0.ok();
    exchange.loses_answers.store(true, Ordering::SeqCst);
    for (text, field, value) in [
        ("perps order amend o-1 --price 30001 -o json", "price", "30001.0000"),
        ("perps order decrease o-1 --to 1 -o json", "remaining_count", "1.00"),
    ] {
        let (ran, requests) = stub.run(&words(text)).await;
        assert_eq!(ran.json()[field], value);
        assert_eq!(writes(&requests).len(), 1, "{text}");
    }
    // The order does not show the change: its outcome is not known.
    exchange.forgets_changes.store(true, Ordering::SeqCst);
    let (ran, requests) = stub.run(&words("perps order amend o-1 --price 30002 -o json")).await;
    let failure = ran.failure(6);
    assert_eq!(failure["operation"], "amend_margin_order");
    assert_eq!(failure["next"], "kalshi perps order get o-1");
    assert_eq!(writes(&requests).len(), 1);
}

#[tokio::test]
async fn an_order_that_ended_by_itself_is_no_proof_of_a_change() {
    let (exchange, stub) = start().await;
    exchange.fills_changed.store(true, Ordering::SeqCst);
    let mut number = 0;
    for is_forgotten in [false, true] {
        for change in ["amend {} --price 30001", "amend {} --count 1", "decrease {} --to 1"] {
            exchange.loses_answers.store(false, Ordering::SeqCst);
            stub.run(&words(BID)).await.0.ok();
            number += 1;
            exchange.loses_answers.store(true, Ordering::SeqCst);
            exchange.forgets_changes.store(is_forgotten, Ordering::SeqCst);
            let id = format!("o-{number}");
            let text = format!("perps order {} -o json", change.replace("{}", &id));
            let (ran, requests) = stub.run(&words(&text)).await;
            assert_eq!(writes(&requests).len(), 1, "{text}");
            if !is_forgotten {
                assert_eq!(ran.json()["remaining_count"], "0.00", "{text}");
                continue;
            }
            let failure = ran.failure(6);
            assert_eq!(failure["effect"], "unknown");
            assert_eq!(failure["next"], format!("kalshi perps order get {id}"));
            let message = failure["message"].as_str().unwrap();
            assert!(message.contains("whether the change came first is not known"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_cancel_without_an_answer_fails_also_when_nothing_reads_its_result() {
    let (exchange, stub) = start().await;
    stub.run(&words(BID)).await.0.ok();
    exchange.loses_answers.store(true, Ordering::SeqCst);
    exchange.is_blind.store(true, Ordering::SeqCst);
    let ran = run_without_reader(stub.command(&words("perps order cancel o-1"))).await;
    assert_eq!(ran.code, 6, "{ran:?}");
    // A cancel that succeeds ends quietly.
    exchange.is_blind.store(false, Ordering::SeqCst);
    let ran = run_without_reader(stub.command(&words("perps order cancel o-1"))).await;
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test]
async fn each_order_that_is_not_canceled_says_why() {
    let (exchange, stub) = start().await;
    for _ in 0..3 {
        stub.run(&words(BID)).await.0.ok();
    }
    exchange.refuses_cancels.store(true, Ordering::SeqCst);
    let (ran, _) = stub.run(&words("perps order cancel o-1 o-2 -q -o json")).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let text = &ran.stdout;
    let rows: Value = serde_json::Deserializer::from_str(text).into_iter().next().unwrap().unwrap();
    let error = &rows["orders"][1]["error"];
    assert_eq!(
        (&error["category"], &error["effect"], &error["operation"]),
        (&json!("rejected"), &json!("rejected"), &json!("cancel_margin_order"))
    );
    exchange.refuses_cancels.store(false, Ordering::SeqCst);
    exchange.loses_answers.store(true, Ordering::SeqCst);
    exchange.is_blind.store(true, Ordering::SeqCst);
    let (ran, _) = stub.run(&words("perps order cancel o-3 -q")).await;
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.stdout.contains("unknown_outcome"), "{ran:?}");
}

#[tokio::test]
async fn cancel_all_cancels_the_orders_that_it_says() {
    let (exchange, stub) = start().await;
    for id in ["cli-1", "cli-2", "another"] {
        stub.run(&words(&format!("{BID} --client-id {id}"))).await.0.ok();
    }
    let all = "perps order cancel-all -o json";
    for (options, code) in [(" --ask", 2), (" --dry-run", 0), (" --mine --dry-run", 0)] {
        let (ran, requests) = stub.run(&words(&format!("{all}{options}"))).await;
        assert_eq!((ran.code, writes(&requests).len()), (code, 0), "{options}: {ran:?}");
        assert!(ran.stderr.contains("orders of event contracts stay"), "{ran:?}");
    }
    let (ran, _) = stub.run(&words(&format!("{all} --subaccount 2 --dry-run"))).await;
    let request = ran.json();
    assert_eq!(request["method"], "DELETE");
    assert!(request["url"].as_str().unwrap().ends_with("/margin/orders?subaccount=2"), "{request}");
    // By their ids orders are canceled in one subaccount only.
    let (ran, requests) = stub.run(&words(&format!("{all} --mine --market KXBTCPERP"))).await;
    for part in ["status=resting", "ticker=KXBTCPERP", "subaccount=0"] {
        assert!(requests[0].target.contains(part), "{requests:?}");
    }
    assert!(
        ran.stderr.contains("2 resting orders of perpetual futures of subaccount 0"),
        "{ran:?}"
    );
    let rows = ran.json();
    let sent: Vec<_> = writes(&requests).iter().map(|request| request.line()).collect();
    let path = "DELETE /trade-api/v2/margin/orders";
    assert_eq!(
        sent,
        [format!("{path}/o-1"), format!("{path}/o-2")].map(|line| line + "?subaccount=0")
    );
    assert_eq!(rows["orders"][1]["ticker"], "KXBTCPERP");
    let (ran, requests) = stub.run(&words(all)).await;
    assert!(ran.stderr.contains("1 resting orders of perpetual futures of every"), "{ran:?}");
    assert_eq!(ran.json(), json!({"result": "canceled", "resting_before": 1}));
    assert_eq!(writes(&requests)[0].line(), path);
    exchange.loses_answers.store(true, Ordering::SeqCst);
    let (ran, requests) = stub.run(&words(all)).await;
    let failure = ran.failure(6);
    assert_eq!(failure["operation"], "cancel_all_margin_orders");
    assert_eq!(writes(&requests).len(), 1);
}
