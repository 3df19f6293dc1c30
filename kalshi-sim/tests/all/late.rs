//! The worst case: requests that are carried out when nobody expects it any more, ids and orders
//! that come back, clocks that are wrong.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{sync::Arc, time::Duration};

use kalshi_auth::{ManualClock, UnixMillis};
use kalshi_sdk::{
    Client, Effect, Error, OperationId,
    types::{BookSide, CreateOrderV2Request},
};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketPlan, Role, Rules};
use serde_json::{Value, json};

use crate::status;

const TICKER: &str = "KXLATE-26-A";

/// Returns an exchange whose time stands still unless it is moved.
async fn frozen() -> (Exchange, Client) {
    let exchange = Exchange::start().await.unwrap();
    exchange.clock().freeze();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    (exchange, client)
}

async fn place(client: &Client, id: &str) -> Result<String, Error> {
    let order = CreateOrderV2Request::builder()
        .ticker(TICKER)
        .side(BookSide::Bid)
        .price("0.10")
        .count("1.00")
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type("maker")
        .client_order_id(id);
    Ok(client.create_order_v2().body(order).send().await?.into_inner().order_id)
}

async fn resting(client: &Client) -> Vec<String> {
    let orders = client.get_orders().ticker(TICKER).status("resting").send().await.unwrap();
    orders.into_inner().orders.into_iter().map(|order| order.client_order_id).collect()
}

fn once(kind: FaultKind, operation: OperationId) -> Fault {
    Fault::builder(kind).with_operation(operation).with_times(1).build()
}

#[tokio::test]
async fn a_request_is_carried_out_after_its_answer_said_that_it_timed_out() {
    let (exchange, client) = frozen().await;
    let late = FaultKind::late(Duration::from_secs(2));
    exchange.faults().add(once(late, OperationId::CreateOrderV2)).unwrap();
    let error = place(&client, "a").await.unwrap_err();
    assert_eq!((status(&error), error.effect()), (504, Effect::Unknown));
    for moved in [0, 1_000, 999] {
        exchange.clock().advance(Duration::from_millis(moved)).unwrap();
        assert!(resting(&client).await.is_empty());
    }
    exchange.clock().advance(Duration::from_millis(1)).unwrap();
    assert_eq!(resting(&client).await, ["a"]);
    // It was done at its time, not when somebody looked.
    let orders = client.get_orders().ticker(TICKER).send().await.unwrap().into_inner().orders;
    assert_eq!(orders[0].created_time, Some(exchange.clock().now()));
    exchange.faults().assert_all_hit();
    // With the connection cut instead of an answer, it is done all the same.
    exchange.faults().clear();
    exchange.faults().add(once(late, OperationId::CreateOrderV2)).unwrap();
    exchange.faults().add(once(FaultKind::ResetAfter, OperationId::CreateOrderV2)).unwrap();
    let error = place(&client, "b").await.unwrap_err();
    assert_eq!((status(&error), error.effect()), (0, Effect::Unknown));
    exchange.clock().advance(Duration::from_secs(60)).unwrap();
    assert_eq!(resting(&client).await, ["b", "a"]);
    let second = exchange.clock().now() - chrono::Duration::seconds(58);
    let orders = client.get_orders().ticker(TICKER).send().await.unwrap().into_inner().orders;
    assert_eq!(orders[0].created_time, Some(second));
    exchange.audit().unwrap();
}

#[tokio::test]
async fn a_late_request_whose_key_is_gone_by_then_is_not_carried_out() {
    let (exchange, client) = frozen().await;
    let credentials = crate::registered(&exchange, "short", kalshi_auth::KeyType::Ed25519);
    let other = crate::client_with(&exchange, credentials);
    let late = FaultKind::late(Duration::from_secs(2));
    exchange.faults().add(once(late, OperationId::CreateOrderV2)).unwrap();
    assert_eq!(status(&place(&other, "a").await.unwrap_err()), 504);
    client.delete_api_key().api_key("short").send().await.unwrap();
    exchange.clock().advance(Duration::from_secs(2)).unwrap();
    assert!(resting(&client).await.is_empty());
}

#[tokio::test]
async fn a_request_is_overtaken_by_a_later_one_of_the_same_client() {
    let (exchange, client) = frozen().await;
    let overtaken = FaultKind::overtaken_by(OperationId::CancelAllOrders);
    exchange.faults().add(once(overtaken, OperationId::CreateOrderV2)).unwrap();
    assert_eq!(status(&place(&client, "a").await.unwrap_err()), 504);
    // Neither another operation nor another client overtakes it.
    assert!(resting(&client).await.is_empty());
    exchange.client(Role::Maker).unwrap().cancel_all_orders().send().await.unwrap();
    assert!(resting(&client).await.is_empty());
    // The client cleans up, and the order comes after that.
    client.cancel_all_orders().send().await.unwrap();
    assert_eq!(resting(&client).await, ["a"]);
    exchange.clock().advance(Duration::from_secs(3_600)).unwrap();
    assert_eq!(resting(&client).await, ["a"], "it was carried out once");
    // By any request, if none is named: the look is in vain.
    let overtaken = FaultKind::Overtaken { by: None };
    exchange.faults().add(once(overtaken, OperationId::CreateOrderV2)).unwrap();
    assert_eq!(status(&place(&client, "b").await.unwrap_err()), 504);
    assert_eq!(resting(&client).await, ["a"]);
    assert_eq!(resting(&client).await, ["b", "a"]);
}

#[tokio::test]
async fn what_waits_when_the_exchange_stops_is_never_carried_out() {
    let (exchange, client) = frozen().await;
    let folder = std::env::temp_dir().join(format!("kalshi-sim-late-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("state");
    place(&client, "rests").await.unwrap();
    for kind in [
        FaultKind::late(Duration::from_secs(2)),
        FaultKind::overtaken_by(OperationId::CancelAllOrders),
    ] {
        exchange.faults().add(once(kind, OperationId::CreateOrderV2)).unwrap();
        let error = place(&client, &format!("{kind:?}")).await.unwrap_err();
        assert_eq!((status(&error), error.effect()), (504, Effect::Unknown));
    }
    exchange.faults().assert_all_hit();
    exchange.save(&file).unwrap();
    let credentials = exchange.credentials(Role::Trader).unwrap().clone();
    exchange.stop().await.unwrap();

    // A key of one's own keeps the saved ones as they are.
    let pair = kalshi_auth::server::KeyPair::generate(kalshi_auth::KeyType::Ed25519).unwrap();
    let loaded = Exchange::builder()
        .with_state_file(&file)
        .with_key(Role::Maker, "another", pair.public_key().clone())
        .start()
        .await
        .unwrap();
    let client = crate::client_with(&loaded, credentials);
    loaded.clock().freeze();
    // The time of the first passes, and the request comes after which the second was due.
    loaded.clock().advance(Duration::from_secs(3_600)).unwrap();
    assert_eq!(resting(&client).await, ["rests"]);
    client.cancel_all_orders().send().await.unwrap();
    loaded.clock().advance(Duration::from_secs(3_600)).unwrap();
    assert!(resting(&client).await.is_empty());
    let all = client.get_orders().ticker(TICKER).send().await.unwrap().into_inner().orders;
    assert_eq!(all.len(), 1);
    loaded.audit().unwrap();
    drop(loaded);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn late_faults_are_set_over_the_admin_api() {
    let exchange = Exchange::builder().with_admin_port(0).start().await.unwrap();
    let url = format!("{}/faults", exchange.admin_url().unwrap());
    let http = reqwest::Client::new();
    let tell = async |body: Value| {
        let request = http.post(&url).header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(tell(json!({"fault": {"kind": "late", "millis": 5}})).await, 200);
    assert_eq!(tell(json!({"fault": {"kind": "overtaken"}})).await, 200);
    let by = json!({"fault": {"kind": "overtaken", "by": "cancel_all_orders"}});
    assert_eq!(tell(by).await, 200);
    assert_eq!(tell(json!({"fault": {"kind": "overtaken", "by": "cancel_all"}})).await, 400);
    let kinds: Vec<FaultKind> =
        exchange.faults().reports().iter().map(|report| report.fault.fault).collect();
    assert_eq!(
        kinds,
        [
            FaultKind::late(Duration::from_millis(5)),
            FaultKind::Overtaken { by: None },
            FaultKind::overtaken_by(OperationId::CancelAllOrders),
        ],
    );
}

#[tokio::test]
async fn orders_of_the_minute_after_a_cancel_all_are_caught_if_the_rules_say_so() {
    let (exchange, client) = frozen().await;
    place(&client, "a").await.unwrap();
    client.cancel_all_orders().send().await.unwrap();
    place(&client, "b").await.unwrap();
    exchange.clock().advance(Duration::from_secs(61)).unwrap();
    assert_eq!(resting(&client).await, ["b"], "not by default");

    let mut rules = Rules::default();
    rules.cancel_all_again_after = Some(Duration::from_secs(40));
    exchange.set_rules(rules);
    client.cancel_all_orders().send().await.unwrap();
    assert!(resting(&client).await.is_empty());
    let maker = exchange.client(Role::Maker).unwrap();
    exchange.clock().advance(Duration::from_secs(39)).unwrap();
    place(&client, "c").await.unwrap();
    place(&maker, "d").await.unwrap();
    assert_eq!(resting(&client).await, ["c"]);
    exchange.clock().advance(Duration::from_secs(1)).unwrap();
    assert!(resting(&client).await.is_empty());
    let orders = client.get_orders().ticker(TICKER).send().await.unwrap().into_inner().orders;
    assert_eq!(orders[0].last_update_time, Some(exchange.clock().now()));
    assert_eq!(resting(&maker).await, ["d"], "others keep theirs");
    place(&client, "e").await.unwrap();
    exchange.clock().advance(Duration::from_secs(60)).unwrap();
    assert_eq!(resting(&client).await, ["e"], "once");
}

#[tokio::test]
async fn whether_a_client_order_id_is_free_again_is_a_rule() {
    let (exchange, client) = frozen().await;
    let id = place(&client, "a").await.unwrap();
    client.cancel_order_v2().order_id(&*id).market_ticker(TICKER).send().await.unwrap();
    assert_eq!(status(&place(&client, "a").await.unwrap_err()), 409, "never, by default");
    let mut rules = Rules::default();
    rules.reuse_client_order_ids = true;
    exchange.set_rules(rules);
    let again = place(&client, "a").await.unwrap();
    assert_ne!(again, id);
    assert_eq!(status(&place(&client, "a").await.unwrap_err()), 409, "it rests");
    exchange.set_rules(Rules::default());
    client.cancel_order_v2().order_id(&*again).market_ticker(TICKER).send().await.unwrap();
    assert_eq!(status(&place(&client, "a").await.unwrap_err()), 409);
}

#[tokio::test]
async fn a_client_whose_clock_is_wrong_finds_out_by_the_date_of_the_answer() {
    let exchange = Exchange::builder().with_admin_port(0).start().await.unwrap();
    let credentials = exchange.credentials(Role::Trader).unwrap().clone();
    let own = std::sync::Arc::new(kalshi_auth::ManualClock::at(crate::streams::now()));
    let client = Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(credentials)
        .with_clock(std::sync::Arc::<kalshi_auth::ManualClock>::clone(&own))
        .build()
        .unwrap();
    let date = async || {
        let url = format!("{}/exchange/status", exchange.base_url());
        let response = reqwest::get(url).await.unwrap();
        let date = response.headers()["date"].to_str().unwrap().to_owned();
        chrono::DateTime::parse_from_rfc2822(&date).unwrap().timestamp_millis()
    };
    client.get_balance().send().await.unwrap();
    let before = exchange.clock().now();
    for skew in [90_000, -90_000, 40_000_000] {
        exchange.clock().set_member_skew(skew);
        let error = client.get_balance().send().await.unwrap_err();
        assert_eq!(status(&error), 401);
        assert_eq!(error.code(), Some("header_timestamp_expired"));
        // By the second, and a little that the test takes.
        let found = date().await - own_millis(&own);
        assert!((skew - 1_000..skew + 30_000).contains(&found), "{found}");
        let right = client_at(&exchange, own_millis(&own) + found);
        right.get_balance().send().await.unwrap();
    }
    // The exchange's own time has not moved by that.
    assert!(exchange.clock().now() - before < chrono::Duration::minutes(5));
    let url = format!("{}/clock/member_skew", exchange.admin_url().unwrap());
    let request = reqwest::Client::new().post(url).header("content-type", "application/json");
    assert_eq!(request.body(r#"{"millis": 0}"#).send().await.unwrap().status(), 200);
    client.get_balance().send().await.unwrap();
}

fn own_millis(clock: &kalshi_auth::ManualClock) -> i64 {
    kalshi_auth::Clock::now(clock).as_millis()
}

fn client_at(exchange: &Exchange, millis: i64) -> Client {
    let clock = kalshi_auth::ManualClock::at(UnixMillis::from_millis(millis));
    Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
        .with_clock(std::sync::Arc::new(clock))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_signature_ages_by_the_clock_that_the_exchange_was_given() {
    let clocks =
        [(); 2].map(|()| Arc::new(ManualClock::at(UnixMillis::from_millis(1_795_000_000_000))));
    let [theirs, ours] = clocks.clone();
    let exchange = Exchange::builder().with_clock(theirs.clone()).start().await.unwrap();
    let client = Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
        .with_clock(ours.clone())
        .build()
        .unwrap();
    client.get_balance().send().await.unwrap();
    // Moved by hand, only the exchange's own time goes on: a client need not know.
    exchange.clock().advance(Duration::from_secs(3_600)).unwrap();
    client.get_balance().send().await.unwrap();
    theirs.advance(Duration::from_secs(30));
    client.get_balance().send().await.unwrap();
    theirs.advance(Duration::from_millis(1));
    let error = client.get_balance().send().await.unwrap_err();
    assert_eq!((status(&error), error.code()), (401, Some("header_timestamp_expired")));
    ours.advance(Duration::from_millis(1));
    client.get_balance().send().await.unwrap();
}
