//! Retries against the simulator's faults.

use std::{sync::Arc, time::Duration};

use kalshi_sdk::{
    Client, ClientBuilder, Effect, Environment, ErrorKind, OperationId,
    auth::{OffsetClock, SystemClock},
};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketPlan, Role};
use kalshi_trade::{
    budget::{Budget, WithBudget as _},
    retry::Retry,
};
use tokio::net::TcpListener;

use crate::support::{TICKER, order};

/// Returns a retry layer without pauses.
fn retry() -> Retry {
    Retry::builder().with_first_pause(Duration::ZERO).build()
}

async fn exchange() -> Exchange {
    let exchange = Exchange::start().await.unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    exchange
}

fn builder(exchange: &Exchange) -> ClientBuilder {
    Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
}

fn client(exchange: &Exchange) -> Client {
    builder(exchange).with_middleware(retry()).build().unwrap()
}

fn fault(exchange: &Exchange, kind: FaultKind, operation: OperationId, times: u64) {
    let fault = Fault::builder(kind).with_operation(operation).with_times(times).build();
    exchange.faults().add(fault).unwrap();
}

fn sent(exchange: &Exchange, operation: OperationId) -> usize {
    let is_one = |operation: OperationId| {
        exchange.requests().iter().filter(|one| one.operation == operation.as_str()).count()
    };
    is_one(operation)
}

#[tokio::test]
async fn a_read_is_retried_after_whatever_may_pass() {
    let exchange = exchange().await;
    for kind in [
        FaultKind::status(503),
        FaultKind::status(500),
        FaultKind::status(408),
        FaultKind::TooManyRequests,
        FaultKind::ResetBefore,
        FaultKind::ResetAfter,
    ] {
        fault(&exchange, kind, OperationId::GetPositions, 2);
        client(&exchange).get_positions().send().await.unwrap();
        exchange.faults().assert_all_hit();
    }
}

#[tokio::test]
async fn a_read_is_tried_three_times() {
    let exchange = exchange().await;
    fault(&exchange, FaultKind::status(503), OperationId::GetPositions, 10);
    let error = client(&exchange).get_positions().send().await.unwrap_err();
    assert_eq!(error.attempts(), 3);
}

#[tokio::test]
async fn a_refusal_is_not_retried() {
    let exchange = exchange().await;
    for status in [400, 403, 404, 409, 501] {
        exchange.faults().clear();
        fault(&exchange, FaultKind::status(status), OperationId::GetPositions, 10);
        let error = client(&exchange).get_positions().send().await.unwrap_err();
        assert_eq!(error.attempts(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_write_that_may_have_been_carried_out_is_given_back_as_unknown() {
    for (kind, there) in [
        (FaultKind::status(503), 0),
        (FaultKind::status(408), 0),
        (FaultKind::ResetBefore, 0),
        (FaultKind::ResetAfter, 1),
    ] {
        let exchange = exchange().await;
        fault(&exchange, kind, OperationId::CreateOrderV2, 1);
        let client = client(&exchange);
        let error = client.create_order_v2().body(order("mine")).send().await.unwrap_err();
        assert_eq!((error.attempts(), error.effect()), (1, Effect::Unknown), "{kind:?}");
        let orders = client.get_orders().send().await.unwrap();
        assert_eq!(orders.orders.len(), there, "{kind:?}");
    }
}

#[tokio::test]
async fn a_write_is_retried_where_nothing_was_carried_out() {
    let exchange = exchange().await;
    fault(&exchange, FaultKind::TooManyRequests, OperationId::CreateOrderV2, 2);
    let client = client(&exchange);
    client.create_order_v2().body(order("mine")).send().await.unwrap();
    exchange.faults().assert_all_hit();
    assert_eq!(client.get_orders().send().await.unwrap().orders.len(), 1);
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_tried_again_for_writes_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let exchange = exchange().await;
    let nowhere = Environment::Custom(format!("http://{address}/trade-api/v2"));
    let client =
        builder(&exchange).with_environment(nowhere).with_middleware(retry()).build().unwrap();
    let error = client.create_order_v2().body(order("mine")).send().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Connect, Effect::NotSent));
    assert_eq!(error.attempts(), 3);
}

#[tokio::test]
async fn a_429_that_the_budget_has_waited_for_is_not_waited_for_again() {
    let exchange = exchange().await;
    fault(&exchange, FaultKind::TooManyRequests, OperationId::CreateOrderV2, 100);
    let budget = Budget::builder().with_requeues(1).build();
    let client = builder(&exchange).with_middleware(retry()).with_budget(&budget).build().unwrap();
    let error = client.create_order_v2().body(order("mine")).send().await.unwrap_err();
    assert!(error.is_rate_limited());
    assert_eq!((error.attempts(), error.effect()), (2, Effect::Rejected));
}

#[tokio::test]
async fn what_the_budget_refuses_is_not_retried() {
    let exchange = exchange().await;
    let budget = Budget::new();
    let client = builder(&exchange).with_middleware(retry()).with_budget(&budget).build().unwrap();
    let orders: Vec<_> =
        (0..200).map(|index| serde_json::json!({"order_id": index.to_string()})).collect();
    let batch = serde_json::from_value::<kalshi_sdk::types::BatchCancelOrdersV2Request>(
        serde_json::json!({"orders": orders}),
    );
    let error = client.batch_cancel_orders_v2().body(batch.unwrap()).send().await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::InvalidRequest, 0));
}

#[tokio::test]
async fn a_clock_that_is_off_is_corrected_once_and_only_if_asked_for() {
    let exchange = exchange().await;
    exchange.clock().set_member_skew(90_000);
    let error = client(&exchange).get_positions().send().await.unwrap_err();
    assert!(error.is_unauthorized());
    assert_eq!(error.attempts(), 1);
    let clock = Arc::new(OffsetClock::new(SystemClock));
    let retry = Retry::builder().with_clock_correction(clock.clone()).build();
    let client =
        builder(&exchange).with_clock(clock.clone()).with_middleware(retry).build().unwrap();
    client.create_order_v2().body(order("mine")).send().await.unwrap();
    let off = clock.offset().as_millis();
    assert!((80_000..100_000).contains(&off), "{off}");
    // A 401 for another reason is given back.
    fault(&exchange, FaultKind::status(401), OperationId::GetPositions, 10);
    let error = client.get_positions().send().await.unwrap_err();
    assert_eq!(error.attempts(), 1);
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_whatever_its_attempts_do() {
    let exchange = exchange().await;
    let slow = FaultKind::latency(Duration::from_secs(3_600));
    fault(&exchange, slow, OperationId::GetPositions, 10);
    let retry = Retry::builder().with_deadline(Duration::from_millis(50)).build();
    let client = builder(&exchange).with_middleware(retry).build().unwrap();
    let error = client.get_positions().send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(sent(&exchange, OperationId::GetPositions), error.attempts() as usize);
}

#[tokio::test]
async fn a_deadline_includes_the_wait_for_tokens() {
    use kalshi_sdk::operation::Lane;
    use kalshi_trade::budget::{BucketKey, Charge, Class, Pool, RequestOptions};

    let exchange = exchange().await;
    let budget = Budget::new();
    let reads = BucketKey::new(Lane::EventContracts, Pool::Read);
    let options = RequestOptions::new().with_class(Class::Emergency);
    let permit = budget.acquire(Charge::single(reads, 600), options).await.unwrap();
    let retry = Retry::builder().with_deadline(Duration::from_millis(40)).build();
    let client = builder(&exchange).with_middleware(retry).with_budget(&budget).build().unwrap();
    // Ten tokens come in 50 ms at best.
    let error = client.get_positions().send().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotSent));
    assert_eq!(error.attempts(), 0);
    drop(permit);
}
