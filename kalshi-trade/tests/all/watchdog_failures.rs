//! Cancellations whose requests fail, hang or panic, against an exchange that is a layer of the
//! client, in virtual time; and the same of a whole watchdog.

use std::{
    collections::BTreeSet,
    fmt,
    future::pending,
    panic::resume_unwind,
    sync::{Arc, Mutex},
    time::Duration,
};

use kalshi_auth::{Credentials, KeyType, server::KeyPair};
use kalshi_sdk::{
    Client, Environment, OperationId,
    middleware::{self, Extensions, Middleware, Next, Request, Response, async_trait},
};
use kalshi_sim::{Fault, FaultKind, Role};
use kalshi_trade::watchdog::{
    CancelEvent, Heartbeat, Patience, Products, Scope, cancel_until_quiet,
};
use serde_json::{Value, json};

use crate::watchdog::{TOKEN, exchange, place, resting, wait_until, watchdog};

/// The fate of a request.
enum Reply {
    Answer(u16, Value),
    Hang,
    Panic,
}

/// Method, path with query, and body of a request come to a reply.
type Answers = dyn Fn(&str, &str, &Value) -> Reply + Send + Sync;

#[derive(Clone)]
struct Exchange(Arc<Answers>);

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

#[async_trait]
impl Middleware for Exchange {
    async fn handle(
        &self,
        request: Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> middleware::Result<Response> {
        let url = request.url();
        let path = url.path().strip_prefix("/trade-api/v2").unwrap();
        let target = format!("{path}?{}", url.query().unwrap_or_default());
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let body = serde_json::from_slice(body).unwrap_or_default();
        let reply = (self.0)(request.method().as_str(), &target, &body);
        match reply {
            Reply::Answer(status, body) => {
                let body = if body.is_null() { String::new() } else { body.to_string() };
                let response = http::Response::builder().status(status).body(body).unwrap();
                Ok(Response::from(response))
            }
            Reply::Hang => pending().await,
            // Without the message that a panic prints.
            Reply::Panic => resume_unwind(Box::new("a layer")),
        }
    }
}

/// Cancels at an exchange until nothing rests, and returns what was reported.
async fn cancel(
    scope: Scope,
    exchange: impl Fn(&str, &str, &Value) -> Reply + Send + Sync + 'static,
) -> Vec<String> {
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let client = Client::builder()
        .with_environment(Environment::Custom("http://127.0.0.1:9/trade-api/v2".to_owned()))
        .with_credentials(Credentials::from_pem("key", pair.private_key_pem()).unwrap())
        .with_middleware(Exchange(Arc::new(exchange)))
        .build()
        .unwrap();
    let mut events = Vec::new();
    let report = |event: CancelEvent<'_>| {
        events.push(match event {
            CancelEvent::Failed(error) if error.is_row() => "row".to_owned(),
            CancelEvent::Failed(error) => format!("failed {}", error.status().unwrap().as_u16()),
            event => format!("{event:?}"),
        });
        // It is reported to all the same.
        resume_unwind(Box::new("a report"));
    };
    cancel_until_quiet(&client, &scope, Products::default(), Patience::default(), report).await;
    events
}

fn row(id: &str) -> Value {
    json!({
        "order_id": id, "user_id": "u", "client_order_id": id, "ticker": "KXDOG-1-A",
        "status": "resting", "book_side": "bid", "outcome_side": "yes", "type": "limit",
        "yes_price_dollars": "0.40", "no_price_dollars": "0.60", "initial_count_fp": "1.00",
        "fill_count_fp": "0.00", "remaining_count_fp": "1.00", "taker_fill_cost_dollars": "0",
        "maker_fill_cost_dollars": "0", "taker_fees_dollars": "0", "maker_fees_dollars": "0",
    })
}

fn page(rows: &[Value], cursor: &str) -> Reply {
    Reply::Answer(200, json!({ "orders": rows, "cursor": cursor }))
}

/// The ids that a batch is to cancel.
fn batch(body: &Value) -> Vec<String> {
    let orders = body["orders"].as_array().unwrap();
    orders.iter().map(|order| order["order_id"].as_str().unwrap().to_owned()).collect()
}

fn canceled(ids: &[String]) -> Reply {
    let orders = ids.iter().map(|id| json!({ "order_id": id, "reduced_by": "1.00" }));
    Reply::Answer(200, json!({ "orders": orders.collect::<Vec<_>>() }))
}

fn quiet_at_the_end_only(events: &[String]) {
    assert_eq!(events.last().unwrap(), "Quiet");
    assert_eq!(events.iter().filter(|event| *event == "Quiet").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_comes_while_lists_fail_is_canceled() {
    // Nothing can be listed until the order that came late is out.
    let state = Mutex::new((0, true));
    let events = cancel(Scope::All, move |method, _, _| {
        let mut state = state.lock().unwrap();
        if method == "DELETE" {
            state.0 += 1;
            // It comes after the first cancel.
            state.1 = state.0 < 2;
            return Reply::Answer(204, Value::Null);
        }
        if state.1 { Reply::Answer(429, json!({})) } else { page(&[], "") }
    });
    let events = events.await;
    assert_eq!(events, ["Requested", "failed 429", "Requested", "Quiet"]);
}

#[tokio::test(start_paused = true)]
async fn what_can_be_read_is_canceled_though_the_list_is_incomplete() {
    for (scope, fails) in [("row", "a row"), ("page", "the second page")] {
        let rest: BTreeSet<String> = (10..60).map(|number| format!("mm1-{number}")).collect();
        let rest = Arc::new(Mutex::new(rest));
        let rests = Arc::clone(&rest);
        let lists = Mutex::new(0);
        let events = cancel(Scope::Prefix("mm1-".to_owned()), move |method, target, body| {
            let mut rest = rests.lock().unwrap();
            if method == "DELETE" {
                let ids = batch(body);
                for id in &ids {
                    rest.remove(id);
                }
                return canceled(&ids);
            }
            let mut lists = lists.lock().unwrap();
            let is_second = target.contains("cursor=2");
            *lists += u32::from(!is_second);
            let mut rows: Vec<Value> = rest.iter().map(|id| row(id)).collect();
            let rows_after = rows.split_off(rows.len() / 2);
            match (is_second, *lists <= 3, scope) {
                (true, true, "page") => Reply::Answer(500, json!({})),
                (true, ..) => page(&rows_after, ""),
                (false, true, "row") => {
                    rows.insert(0, json!({ "order_id": "unreadable" }));
                    page(&rows, "2")
                }
                _ => page(&rows, "2"),
            }
        });
        let events = events.await;
        assert!(rest.lock().unwrap().is_empty(), "{fails}: {events:?}");
        let failed = if scope == "row" { "row" } else { "failed 500" };
        assert_eq!(events.iter().filter(|event| *event == failed).count(), 3, "{events:?}");
        // Before any list was complete.
        let first = events.iter().position(|event| event == "Requested").unwrap();
        let last = events.iter().rposition(|event| event == failed).unwrap();
        assert!(first < last, "{events:?}");
        quiet_at_the_end_only(&events);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_does_not_keep_the_others() {
    let rest: BTreeSet<String> = (10..70).map(|number| format!("mm1-{number}")).collect();
    let state = Arc::new(Mutex::new((rest, 0)));
    let exchange = Arc::clone(&state);
    let events = cancel(Scope::Prefix("mm1-".to_owned()), move |method, _, body| {
        let (rest, failures) = &mut *exchange.lock().unwrap();
        if method == "GET" {
            let rows: Vec<Value> = rest.iter().map(|id| row(id)).collect();
            return page(&rows, "");
        }
        let ids = batch(body);
        // The batch with the first order, as long as there is another.
        if ids.iter().any(|id| id == "mm1-10") && rest.len() > 20 {
            *failures += 1;
            return Reply::Answer(503, json!({}));
        }
        for id in &ids {
            rest.remove(id);
        }
        canceled(&ids)
    });
    let events = events.await;
    assert_eq!(state.lock().unwrap().1, 1, "{events:?}");
    assert_eq!(
        events,
        ["Resting(60)", "Requested", "failed 503", "Resting(20)", "Requested", "Quiet"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_or_panics_is_repeated() {
    for (is_hanging, event) in [(true, "Unanswered"), (false, "Panicked")] {
        for method_that_fails in ["DELETE", "GET"] {
            let failures = Mutex::new(0);
            let events = cancel(Scope::Subaccount(3), move |method, target, _| {
                assert!(target.contains("subaccount=3"), "{target}");
                let mut failures = failures.lock().unwrap();
                if method == method_that_fails && *failures < 2 {
                    *failures += 1;
                    return if is_hanging { Reply::Hang } else { Reply::Panic };
                }
                if method == "DELETE" { Reply::Answer(204, Value::Null) } else { page(&[], "") }
            });
            let events = events.await;
            assert_eq!(events.iter().filter(|one| *one == event).count(), 2, "{events:?}");
            quiet_at_the_end_only(&events);
        }
    }
}

#[tokio::test]
async fn programs_that_die_one_after_another_do_not_keep_orders_alive() {
    let (exchange, client) = exchange().await;
    let (builder, _) = watchdog(&client, Scope::Prefix("mm1-".to_owned()));
    let watchdog = builder.bind(0).await.unwrap();
    let (address, armed) = (watchdog.address(), watchdog.armed());
    tokio::spawn(watchdog.run());
    place(&client, "mm1-one").await;
    let order = client.get_orders().status("resting").all().await.unwrap().remove(0);
    // A list takes longer than the next death.
    let late = Fault::builder(FaultKind::Latency { millis: 400 });
    let late = late.with_operation(OperationId::GetOrders).build();
    exchange.faults().add(late).unwrap();
    let crashes = tokio::spawn(async move {
        loop {
            let silence = Duration::from_secs(60);
            drop(Heartbeat::connect(address, TOKEN, silence).await.unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    wait_until("it is canceled", async || {
        let order = client.get_order().order_id(&*order.order_id).send().await.unwrap();
        order.order.status.as_str() == "canceled"
    })
    .await;
    assert!(!crashes.is_finished());
    crashes.abort();
    exchange.faults().clear();
    wait_until("it is over", async || armed.get() == 0).await;
}

#[tokio::test]
async fn orders_are_canceled_though_the_hook_of_the_client_panics() {
    let (exchange, client) = exchange().await;
    let hooked = Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
        .on_call(|_| resume_unwind(Box::new("a hook")))
        .build()
        .unwrap();
    let (builder, _) = watchdog(&hooked, Scope::All);
    let watchdog = builder.bind(0).await.unwrap();
    let (address, armed) = (watchdog.address(), watchdog.armed());
    let running = tokio::spawn(watchdog.run());
    let heartbeat = Heartbeat::connect(address, TOKEN, Duration::from_secs(60)).await.unwrap();
    place(&client, "one").await;
    drop(heartbeat);
    wait_until("it is over", async || armed.get() == 0).await;
    assert!(resting(&client).await.is_empty());
    assert!(!running.is_finished());
}
