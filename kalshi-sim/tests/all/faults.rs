//! Faults on demand, limits, and the commands of the exchange itself.

use std::time::{Duration, Instant};

use kalshi_sdk::{
    Client, Effect, Error, OperationId,
    types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketOutcome, MarketPlan, Role, Tier};
use kalshi_types::Dollars;
use serde_json::{Value, json};

use crate::status;

async fn place(
    client: &Client,
    ticker: &str,
    side: BookSide,
    price: &str,
    id: &str,
) -> Result<String, Error> {
    let order = CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side)
        .price(price)
        .count("10.00")
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::Maker)
        .client_order_id(id);
    Ok(client.create_order_v2().body(order).send().await?.into_inner().order_id)
}

async fn resting(client: &Client, ticker: &str) -> usize {
    let orders = client.get_orders().ticker(ticker).status("resting").send().await;
    orders.expect("it answers").orders.len()
}

async fn exchange() -> (Exchange, Client) {
    let exchange = Exchange::start().await.expect("it starts");
    exchange.markets().list(MarketPlan::new("KXTEST-26-A", 86_400)).expect("it is listed");
    let client = exchange.client(Role::Trader).expect("it can be built");
    (exchange, client)
}

#[tokio::test]
async fn a_cut_connection_leaves_the_effect_unknown_whether_the_order_is_there_or_not() {
    for (kind, there) in [(FaultKind::ResetBefore, 0), (FaultKind::ResetAfter, 1)] {
        let (exchange, client) = exchange().await;
        exchange
            .faults()
            .add(
                Fault::builder(kind)
                    .with_operation(OperationId::CreateOrderV2)
                    .with_times(1)
                    .build(),
            )
            .unwrap();
        let error = place(&client, "KXTEST-26-A", BookSide::Bid, "0.10", "a").await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{kind:?} {error}");
        assert_eq!(resting(&client, "KXTEST-26-A").await, there, "{kind:?}");
        // The same client order id sent again cannot place a second one.
        let again = place(&client, "KXTEST-26-A", BookSide::Bid, "0.10", "a").await;
        assert_eq!(again.is_err(), there == 1);
        assert_eq!(resting(&client, "KXTEST-26-A").await, 1);
    }
}

#[tokio::test]
async fn statuses_pages_of_html_and_429_come_as_asked() {
    let (exchange, client) = exchange().await;
    for code in [500, 502, 503, 504] {
        for html in [false, true] {
            exchange
                .faults()
                .add(Fault::builder(FaultKind::Status { status: code, html }).with_times(1).build())
                .unwrap();
            let error = client.get_balance().send().await.unwrap_err();
            assert_eq!(status(&error), code, "{html}");
        }
    }
    exchange
        .faults()
        .add(
            Fault::builder(FaultKind::TooManyRequests)
                .with_operation(OperationId::GetBalance)
                .with_times(1)
                .build(),
        )
        .unwrap();
    let error = client.get_balance().send().await.unwrap_err();
    assert!(error.is_rate_limited() && error.effect() != Effect::Unknown, "{error}");
    client.get_balance().send().await.expect("the faults are over");
}

#[tokio::test]
async fn answers_are_late_slow_or_cut_short() {
    let (exchange, client) = exchange().await;
    let late = Fault::builder(FaultKind::latency(Duration::from_millis(200))).with_times(1);
    exchange.faults().add(late.with_operation(OperationId::GetBalance).build()).unwrap();
    let began = Instant::now();
    client.get_balance().send().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200));
    exchange
        .faults()
        .add(Fault::builder(FaultKind::SlowBody { millis: 20 }).with_times(1).build())
        .unwrap();
    let began = Instant::now();
    client.get_balance().send().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(100));
    exchange.faults().add(Fault::builder(FaultKind::TruncatedBody).with_times(1).build()).unwrap();
    let error = client.get_balance().send().await.unwrap_err();
    assert!(error.status().is_none() || error.is_decode() || !error.to_string().is_empty());
    exchange.faults().clear();
    client.get_balance().send().await.unwrap();
}

#[tokio::test]
async fn a_request_delivered_twice_is_carried_out_twice_unless_its_id_is_its_own() {
    let (exchange, client) = exchange().await;
    exchange
        .faults()
        .add(
            Fault::builder(FaultKind::Duplicate).with_operation(OperationId::CreateOrderV2).build(),
        )
        .unwrap();
    place(&client, "KXTEST-26-A", BookSide::Bid, "0.10", "once").await.unwrap();
    assert_eq!(resting(&client, "KXTEST-26-A").await, 1, "the client order id keeps it single");
    exchange
        .faults()
        .add(
            Fault::builder(FaultKind::Duplicate)
                .with_operation(OperationId::CreateOrderGroup)
                .build(),
        )
        .unwrap();
    let group = json!({"contracts_limit": 10});
    let path = "/portfolio/order_groups/create";
    client.raw(http::Method::POST, path).json(&group).send::<Value>().await.unwrap();
    let groups = client.get_order_groups().send().await.unwrap();
    assert_eq!(groups.order_groups.len(), 2);
}

#[tokio::test]
async fn a_tier_lets_so_many_through_and_the_rest_is_429_and_not_done() {
    let exchange = Exchange::builder().with_tier(Tier::Basic).start().await.unwrap();
    exchange.clock().freeze();
    let client = exchange.client(Role::Trader).unwrap();
    let (mut passed, mut limited) = (0, 0);
    for _ in 0..70 {
        match client.get_positions().send().await {
            Ok(_) => passed += 1,
            Err(error) => {
                assert!(error.is_rate_limited(), "{error}");
                limited += 1;
            }
        }
    }
    assert_eq!((passed, limited), (60, 10), "600 tokens, 10 for each");
    exchange.clock().advance(Duration::from_millis(50)).unwrap();
    client.get_positions().send().await.expect("ten tokens have come back");
    let error = client.get_account_api_limits().send().await.unwrap_err();
    assert!(error.is_rate_limited());
    exchange.clock().advance(Duration::from_secs(5)).unwrap();
    let limits = client.get_account_api_limits().send().await.unwrap();
    assert_eq!(limits.read.refill_rate, 200);
    let other = exchange.client(Role::Maker).unwrap();
    other.get_positions().send().await.expect("another member has buckets of its own");
    // The balance takes none of them, and has one a second of its own.
    client.get_balance().send().await.expect("it has a bucket for itself");
    assert!(client.get_balance().send().await.unwrap_err().is_rate_limited());
}

#[tokio::test]
async fn two_members_trade_and_are_paid_when_the_market_is_determined() {
    let (exchange, client) = exchange().await;
    let other = exchange.client(Role::Maker).unwrap();
    let ticker = "KXTEST-26-A";
    place(&other, ticker, BookSide::Ask, "0.40", "offer").await.unwrap();
    let taken = place(&client, ticker, BookSide::Bid, "0.40", "take").await.unwrap();
    let fills = client.get_fills().order_id(&*taken).send().await.unwrap().into_inner().fills;
    assert_eq!(fills.len(), 1);
    let before = client.get_balance().send().await.unwrap().balance_dollars;
    exchange.markets().determine(ticker, MarketOutcome::Scalar("0.25".parse().unwrap())).unwrap();
    let settlements = async || {
        let request = client.get_settlements().ticker(ticker);
        request.send().await.unwrap().into_inner().settlements
    };
    assert!(settlements().await.is_empty());
    exchange.clock().advance(Duration::from_secs(1_800)).unwrap();
    let settlements = settlements().await;
    assert_eq!(settlements.len(), 1);
    let after = client.get_balance().send().await.unwrap().balance_dollars;
    assert_eq!(after.checked_sub(before), Some("2.50".parse::<Dollars>().unwrap()));
    assert_eq!(
        exchange.markets().determine(ticker, MarketOutcome::Yes).unwrap_err().code(),
        "market_finalized"
    );
    exchange.audit().unwrap();
}

#[tokio::test]
async fn a_reader_may_read_and_no_more() {
    let (exchange, _) = exchange().await;
    let reader = exchange.client(Role::Reader).unwrap();
    reader.get_balance().send().await.unwrap();
    let refused = place(&reader, "KXTEST-26-A", BookSide::Bid, "0.10", "x").await.unwrap_err();
    assert_eq!(status(&refused), 403);
    let fcm = exchange.client(Role::FcmMember).unwrap();
    fcm.list_fcm_subtraders().send().await.unwrap();
}

#[tokio::test]
async fn the_admin_api_does_what_the_handle_does() {
    let exchange = Exchange::builder().with_admin_port(0).start().await.unwrap();
    let admin = exchange.admin_url().unwrap();
    let http = reqwest::Client::new();
    let tell = async |path: &str, body: Value| {
        let request =
            http.post(format!("{admin}{path}")).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str::<Value>(&text).unwrap_or_default())
    };
    let plan = json!({"ticker": "KXADMIN-1", "closes_in_seconds": 60});
    assert_eq!(tell("/markets", plan.clone()).await.0, 200);
    assert_eq!(tell("/markets", plan).await.0, 409);
    let client = exchange.client(Role::Trader).unwrap();
    let status_of = async || {
        client.get_market().ticker("KXADMIN-1").send().await.unwrap().market.status.to_string()
    };
    assert_eq!(status_of().await, "active");
    assert_eq!(tell("/markets/KXADMIN-1/pause", json!({})).await.0, 200);
    assert_eq!(status_of().await, "inactive");
    assert_eq!(tell("/markets/KXADMIN-1/resume", json!({})).await.0, 200);
    assert_eq!(tell("/clock/freeze", json!({})).await.0, 200);
    let frozen = exchange.clock().now();
    assert_eq!(tell("/clock/advance", json!({"seconds": 61})).await.0, 200);
    assert_eq!(exchange.clock().now() - frozen, chrono::Duration::seconds(61));
    assert_eq!(status_of().await, "closed");
    assert_eq!(tell("/clock/resume", json!({})).await.0, 200);
    assert_eq!(tell("/markets/KXADMIN-1/determine", json!({"result": "maybe"})).await.0, 400);
    assert_eq!(tell("/markets/KXADMIN-1/determine", json!({"result": "yes"})).await.0, 200);
    assert_eq!(tell("/markets/KXADMIN-1/dispute", json!({})).await.0, 200);
    assert_eq!(status_of().await, "disputed");
    assert_eq!(tell("/markets/NONE/determine", json!({"result": "yes"})).await.0, 404);
    let before = client.get_balance().send().await.unwrap().balance_dollars;
    let key_id = exchange.credentials(Role::Trader).unwrap().key_id();
    let money = json!({"key_id": key_id, "amount_dollars": "12.3456"});
    assert_eq!(tell("/deposits", money).await.0, 200);
    let after = client.get_balance().send().await.unwrap().balance_dollars;
    assert_eq!(after.checked_sub(before), Some("12.3456".parse::<Dollars>().unwrap()));
    let pause = json!({"exchange_active": true, "trading_active": false});
    assert_eq!(tell("/shards/0", pause).await.0, 200);
    assert!(!client.get_exchange_status().send().await.unwrap().trading_active);
    let fault = json!({"fault": {"kind": "status", "status": 503}, "times": 1});
    assert_eq!(tell("/faults", fault).await.0, 200);
    assert_eq!(status(&client.get_balance().send().await.unwrap_err()), 503);
    assert_eq!(tell("/tiers", json!({"key_id": key_id, "tier": "basic"})).await.0, 200);
    assert_eq!(tell("/faults", json!({"falt": 1})).await.0, 400);
    let audit = http.get(format!("{admin}/audit")).send().await.unwrap();
    assert_eq!(audit.status(), 200);
    let log = http.get(format!("{admin}/requests")).send().await.unwrap().text().await.unwrap();
    assert!(log.contains("get_exchange_status"));
}

#[tokio::test]
async fn traders_keep_the_markets_going_and_everything_adds_up() {
    let exchange = Exchange::builder().with_traders(10).with_markets(12).start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let newest =
        async || client.get_trades().limit(1).send().await.unwrap().trades[0].trade_id.clone();
    let before = newest().await;
    let done = exchange.markets().run_traders(20_000);
    assert!(done > 10_000, "{done}");
    assert_ne!(newest().await, before);
    exchange.audit().unwrap();
}

#[tokio::test]
async fn an_exchange_is_saved_and_goes_on_from_its_file() {
    let file = std::env::temp_dir().join(format!("kalshi-sim-{}.state", std::process::id()));
    let (exchange, client) = exchange().await;
    place(&client, "KXTEST-26-A", BookSide::Bid, "0.10", "kept").await.unwrap();
    let trader = exchange.credentials(Role::Trader).unwrap().clone();
    let orders = client.get_orders().send().await.unwrap().into_inner().orders;
    let balance = client.get_balance().send().await.unwrap().balance_dollars;
    exchange.save(&file).unwrap();
    exchange.stop().await.unwrap();

    let pair = kalshi_auth::server::KeyPair::generate(kalshi_auth::KeyType::Ed25519).unwrap();
    let again = Exchange::builder()
        .with_state_file(&file)
        // A key of one's own keeps the saved ones as they are.
        .with_key(Role::Maker, "another", pair.public_key().clone())
        .start()
        .await
        .unwrap();
    let client = crate::client_with(&again, trader);
    assert_eq!(client.get_orders().send().await.unwrap().orders, orders);
    assert_eq!(client.get_balance().send().await.unwrap().balance_dollars, balance);
    let twice = place(&client, "KXTEST-26-A", BookSide::Bid, "0.10", "kept").await;
    assert_eq!(status(&twice.unwrap_err()), 409);
    again.audit().unwrap();

    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&file, bytes).unwrap();
    let damaged = Exchange::builder().with_state_file(&file).start().await;
    let error = damaged.map(drop).unwrap_err();
    assert!(error.to_string().starts_with("cannot load"), "{error}");
    std::fs::write(&file, "something else").unwrap();
    assert!(Exchange::builder().with_state_file(&file).start().await.is_err());
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn idle_connections_keep_nobody_from_being_served() {
    let (exchange, client) = exchange().await;
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(tokio::net::TcpStream::connect(exchange.address()).await.unwrap());
    }
    client.get_balance().send().await.unwrap();
    drop(idle);
    client.get_balance().send().await.unwrap();
}

#[tokio::test]
async fn every_fault_counts_its_hits_and_one_that_never_hits_is_reported() {
    let (exchange, client) = exchange().await;
    let fault = Fault::builder(FaultKind::status(503)).with_operation(OperationId::GetBalance);
    exchange.faults().add(fault.with_role(Role::Trader).with_times(2).build()).unwrap();
    let other = Fault::builder(FaultKind::status(500)).with_operation(OperationId::GetOrders);
    exchange.faults().add(other.build()).unwrap();
    let hits = || exchange.faults().reports().iter().map(|report| report.hits).collect::<Vec<_>>();
    let complaint = || {
        let check = std::panic::AssertUnwindSafe(|| exchange.faults().assert_all_hit());
        let panic = std::panic::catch_unwind(check).err()?;
        panic.downcast_ref::<String>().cloned()
    };
    assert_eq!(hits(), [0, 0]);
    client.get_balance().send().await.unwrap_err();
    assert_eq!(hits(), [1, 0]);
    // Half of the first and nothing of the second.
    let missed = complaint().unwrap();
    assert!(missed.contains("GetBalance") && missed.contains("GetOrders"), "{missed}");
    client.get_balance().send().await.unwrap_err();
    client.get_balance().send().await.unwrap();
    let missed = complaint().unwrap();
    assert!(!missed.contains("GetBalance") && missed.contains("GetOrders"), "{missed}");
    client.get_orders().send().await.unwrap_err();
    assert_eq!(hits(), [2, 1]);
    exchange.faults().assert_all_hit();
    exchange.faults().clear();
    assert_eq!(exchange.faults().reports(), []);
}

#[tokio::test]
async fn a_fault_on_an_operation_or_a_key_that_does_not_exist_is_refused() {
    let unknown = Fault::builder(FaultKind::TooManyRequests).with_key_id("unknown-key").build();
    let started = Exchange::builder().with_fault(unknown.clone()).start().await;
    assert!(started.unwrap_err().to_string().contains("unknown-key"));
    let exchange = Exchange::builder().with_admin_port(0).start().await.unwrap();
    assert_eq!(exchange.faults().add(unknown).unwrap_err().code(), "invalid_parameters");
    let url = format!("{}/faults", exchange.admin_url().unwrap());
    let http = reqwest::Client::new();
    let tell = async |body: Value| {
        let request = http.post(&url).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let fault = json!({"kind": "reset_after"});
    let (status, text) = tell(json!({"fault": fault, "operation": "create_order"})).await;
    assert_eq!(status, 400);
    assert!(text.contains("create_order_v2"), "it names the nearest: {text}");
    assert_eq!(tell(json!({"fault": fault, "key_id": "unknown-key"})).await.0, 400);
    assert_eq!(tell(json!({"fault": fault, "key": "a"})).await.0, 400);
    assert_eq!(exchange.faults().reports(), []);
    assert_eq!(tell(json!({"fault": fault, "operation": "create_order_v2"})).await.0, 200);
    let listed = http.get(&url).send().await.unwrap().text().await.unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let row = &listed["faults"][0];
    assert_eq!((&row["operation"], &row["hits"]), (&json!("create_order_v2"), &json!(0)));
}
