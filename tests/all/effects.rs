//! The effect of a request: every operation, every status, every shape of body,
//! at the first attempt and after one whose fate is unknown.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::{Extensions, Method};
use kalshi_sdk::{
    CallOutcome, CallReport, Client, Effect, Error, ErrorKind, OPERATIONS, Operation,
    ResponseValue,
    request::Complete,
    types::{
        BatchCancelOrdersV2Response, BatchCreateOrdersV2Request, BatchCreateOrdersV2Response,
        BookSide, CreateOrderV2Request, CreateOrderV2Response,
    },
};
use reqwest::{Request as HttpRequest, Response as HttpResponse};
use reqwest_middleware::{Middleware, Next};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::{
    support::{
        Answer, BASE, Document, Server, always, builder, call, client, credentials, operation,
        shared, whole_text,
    },
    table::Case,
};

/// The statuses that say that nothing was done.
const REFUSALS: [u16; 18] =
    [301, 307, 308, 400, 401, 403, 404, 405, 409, 410, 411, 413, 414, 415, 422, 425, 429, 431];

const STATUSES: [u16; 26] = [
    200, 201, 202, 301, 302, 303, 307, 400, 401, 403, 404, 408, 409, 410, 418, 422, 423, 425, 429,
    431, 460, 499, 500, 502, 503, 504,
];

const BLANK: [&str; 2] = ["", "{}"];

fn bodies() -> Vec<String> {
    let said = json!({"code": "unavailable", "message": "it did not run", "details": "x"});
    vec![
        BLANK[0].to_owned(),
        BLANK[1].to_owned(),
        "<html><body>please log in to the proxy</body></html>".to_owned(),
        said.to_string(),
        json!({"error": said}).to_string(),
        json!({"error": "too many requests"}).to_string(),
        json!({"msg": "upstream unavailable"}).to_string(),
        "{\"code\":\"unavailable\",\"mess".to_owned(),
    ]
}

fn effect_of(status: u16) -> Effect {
    if REFUSALS.contains(&status) { Effect::Rejected } else { Effect::Unknown }
}

/// Reports whether an operation may succeed with a body.
fn may_succeed(operation: &Operation, status: u16, body: &str) -> bool {
    if !(200..300).contains(&status) {
        return false;
    }
    match Document::get().success(operation).1 {
        None => BLANK.contains(&body),
        Some(schema) => body == "{}" && !Document::get().requires_something(schema),
    }
}

/// Sends each request twice and gives back the second answer, as a retry layer would.
struct Twice;

#[async_trait]
impl Middleware for Twice {
    async fn handle(
        &self,
        request: HttpRequest,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<HttpResponse> {
        let again = request.try_clone().expect("the body is in memory");
        let _ = next.clone().run(request, extensions).await;
        next.run(again, extensions).await
    }
}

/// Returns a server that gives the answers in turn, over and over.
async fn in_turn(answers: Vec<Answer>) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| answers[count.fetch_add(1, Ordering::SeqCst) % answers.len()].clone())
        .await
}

fn twice(url: &str) -> Client {
    builder(url).with_credentials(credentials()).with_middleware(Twice).build().unwrap()
}

#[tokio::test]
async fn every_operation_with_every_status_and_body_says_what_may_have_happened() {
    let (next, answer) = shared(Mutex::new(Answer::new(200, "")));
    let server =
        Server::start(move |_| answer.lock().unwrap_or_else(PoisonError::into_inner).clone()).await;
    let client = client(&server.url());
    let bodies = bodies();
    let long = json!({"error": {"code": "long", "message": "x".repeat(200_000)}}).to_string();
    let mut tried = 0_usize;
    for operation in OPERATIONS {
        let case = Case::new(operation, 1);
        for (index, status) in STATUSES.into_iter().chain([operation.success]).enumerate() {
            let mut chosen: Vec<&String> = bodies.iter().collect();
            if operation.method == Method::GET {
                // Reads come to no harm: some of the bodies for each status, all over all statuses.
                chosen = (0..3).map(|n| &bodies[(index * 3 + n) % bodies.len()]).collect();
            }
            if matches!(status, 200 | 400 | 502) {
                chosen.push(&long);
            }
            for body in chosen {
                if status == 204 && !body.is_empty() {
                    continue;
                }
                *next.lock().unwrap() = Answer::new(status, body.clone());
                let result = call(&client, operation, &case.parameters, case.body.clone()).await;
                let what = format!("{operation}, {status}, {:?}", &body[..body.len().min(60)]);
                tried += 1;
                if may_succeed(operation, status, body) {
                    result.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                    continue;
                }
                let error = result.expect_err(&what);
                assert_eq!(error.effect(), effect_of(status), "{what}: {error:?}");
                assert_eq!(error.attempts(), 1, "{what}");
                assert_eq!(error.status().unwrap().as_u16(), status, "{what}");
                assert!(whole_text(&error).len() < 20_000, "{what}");
            }
        }
    }
    assert!(tried > 10_000, "{tried}");
}

#[tokio::test]
async fn after_an_unknown_attempt_nothing_but_a_success_is_known() {
    let (next, answer) = shared(Mutex::new(Answer::new(200, "")));
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        // The first attempt of each call is lost behind a gateway.
        if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return Answer::new(504, "");
        }
        answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    })
    .await;
    let client = twice(&server.url());
    let bodies = bodies();
    for operation in OPERATIONS {
        let case = Case::new(operation, 1);
        for (index, status) in STATUSES.into_iter().enumerate() {
            let body = &bodies[index % bodies.len()];
            *next.lock().unwrap() = Answer::new(status, body.clone());
            let result = call(&client, operation, &case.parameters, case.body.clone()).await;
            let what = format!("{operation}, {status}, {body:?}");
            if may_succeed(operation, status, body) {
                result.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                continue;
            }
            let error = result.expect_err(&what);
            assert_eq!(error.effect(), Effect::Unknown, "{what}: {error:?}");
            assert_eq!(error.attempts(), 2, "{what}");
        }
    }
}

fn order(id: &str) -> Complete<CreateOrderV2Request> {
    CreateOrderV2Request::builder()
        .ticker("KXBTC-25")
        .side(BookSide::Bid)
        .count("1.00")
        .price("0.5600")
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type("taker_at_cross")
        .client_order_id(id)
}

async fn place(client: &Client) -> Result<CreateOrderV2Response, Error> {
    client.create_order_v2().body(order("mine")).send().await.map(ResponseValue::into_inner)
}

#[tokio::test]
async fn a2_the_effect_is_the_worst_of_all_attempts() {
    let lost = || Answer::Close(Vec::new());
    let refused = |status| Answer::new(status, r#"{"error":{"code":"x"}}"#);
    let cases = [
        (vec![lost(), refused(429)], ErrorKind::Api, Effect::Unknown),
        (vec![lost(), refused(409)], ErrorKind::Api, Effect::Unknown),
        (vec![refused(408), refused(400)], ErrorKind::Api, Effect::Unknown),
        (vec![Answer::new(200, "not an order"), refused(400)], ErrorKind::Api, Effect::Unknown),
        (vec![refused(429), refused(429)], ErrorKind::Api, Effect::Rejected),
        (vec![refused(429), lost()], ErrorKind::Transport, Effect::Unknown),
    ];
    for (answers, kind, effect) in cases {
        let what = format!("{answers:?}");
        let server = in_turn(answers).await;
        let error = place(&twice(&server.url())).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, effect), "{what}: {error:?}");
        assert_eq!(error.attempts(), 2, "{what}");
        let shown = error.to_string();
        let warns = shown.contains("one of 2 attempts may have been carried out");
        assert_eq!(warns, effect == Effect::Unknown, "{shown}");
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn a2_a_refused_connection_does_not_hide_the_attempt_before_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{BASE}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Nobody listens any more by the time that the connection is closed.
        drop(listener);
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let error = place(&twice(&url)).await.unwrap_err();
    server.await.unwrap();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Connect, Effect::Unknown), "{error:?}");
    // Where every attempt was refused, nothing was sent.
    let error = place(&twice(&url)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Connect, Effect::NotSent), "{error:?}");
    assert_eq!(error.attempts(), 2);
}

/// Gives up after a moment, and says so with an error of its own.
struct Impatient;

#[async_trait]
impl Middleware for Impatient {
    async fn handle(
        &self,
        request: HttpRequest,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<HttpResponse> {
        match tokio::time::timeout(Duration::from_millis(200), next.run(request, extensions)).await
        {
            Ok(result) => result,
            Err(late) => Err(reqwest_middleware::Error::middleware(late)),
        }
    }
}

#[tokio::test]
async fn a2_an_attempt_that_a_layer_gave_up_is_unknown() {
    let server = always(Answer::Hang(Vec::new())).await;
    let client = builder(&server.url()).with_credentials(credentials());
    let client = client.with_middleware(Impatient).build().unwrap();
    let error = place(&client).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Middleware, Effect::Unknown));
    assert_eq!(error.attempts(), 1);
}

/// Sends the request with extensions of its own.
struct Forgetful;

#[async_trait]
impl Middleware for Forgetful {
    async fn handle(
        &self,
        request: HttpRequest,
        _: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<HttpResponse> {
        next.run(request, &mut Extensions::new()).await
    }
}

#[tokio::test]
async fn a2_a_layer_that_hides_its_attempts_is_refused() {
    let server = always(Answer::new(201, "{}")).await;
    let client = builder(&server.url()).with_credentials(credentials());
    let client = client.with_middleware(Forgetful).build().unwrap();
    let error = place(&client).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Middleware, Effect::NotSent));
    assert!(whole_text(&error).contains("did not hand on the extensions"), "{error:?}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a2_the_retry_policy_of_a_client_of_the_callers_sends_no_write_twice() {
    let server = in_turn(vec![Answer::new(503, "")]).await;
    let policy = reqwest::retry::for_host("127.0.0.1")
        .no_budget()
        .max_retries_per_request(2)
        .classify_fn(|attempt| {
            if attempt.status() == Some(http::StatusCode::SERVICE_UNAVAILABLE) {
                attempt.retryable()
            } else {
                attempt.success()
            }
        });
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(policy)
        .build()
        .unwrap();
    let client = builder(&server.url()).with_credentials(credentials()).with_http_client(http);
    let client = client.build().unwrap();
    let error = place(&client).await.unwrap_err();
    assert_eq!((error.effect(), error.attempts()), (Effect::Unknown, 1), "{error:?}");
    assert_eq!(server.requests().len(), 1, "a body");
    let sent = server.last();
    assert_eq!(sent.header("content-length"), Some(sent.body.len().to_string().as_str()));
    assert_eq!(sent.json()["client_order_id"], "mine");
    client.cancel_all_orders().send().await.unwrap_err();
    assert_eq!(server.requests().len(), 2, "no body");
    assert!(server.last().body.is_empty());
    // A read is the policy's to repeat.
    client.get_balance().send().await.unwrap_err();
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a3_an_error_in_any_shape_is_no_empty_list() {
    let said = json!({"code": "unavailable", "message": "upstream"});
    let long = json!({"error": {"code": "unavailable", "message": "x".repeat(8_000)}});
    let bodies = [json!({"msg": "upstream unavailable"}), said, long];
    let ids = [
        "get_orders",
        "get_positions",
        "get_fills",
        "get_subaccount_balances",
        "get_order_groups",
        "get_structured_targets",
    ];
    for id in ids {
        for body in &bodies {
            let server = always(Answer::json(body)).await;
            let case = Case::new(operation(id), 1);
            let lists = client(&server.url());
            let result = call(&lists, operation(id), &case.parameters, case.body.clone()).await;
            let error = result.expect_err(id);
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Api, Effect::Unknown), "{id}");
            assert!(error.message().is_some(), "{id}: {error:?}");
        }
    }
    // The rows of a list end with the error, and not as if there were none.
    let server = always(Answer::json(&bodies[0])).await;
    let lists = client(&server.url());
    assert!(!lists.get_orders().all().await.unwrap_err().is_row());
    // A list that need not be there is empty without one.
    let server = always(Answer::json(&json!({}))).await;
    let client = crate::support::client(&server.url());
    assert!(client.get_order_groups().send().await.unwrap().order_groups.is_empty());
    assert!(client.get_structured_targets().send().await.unwrap().structured_targets.is_empty());
}

async fn batch(reply: &Value) -> Result<BatchCreateOrdersV2Response, Error> {
    let server = always(Answer::new(201, reply.to_string())).await;
    let orders: Vec<CreateOrderV2Request> =
        ["a", "b", "c"].map(|id| order(id).try_into().unwrap()).to_vec();
    let request = BatchCreateOrdersV2Request::builder().orders(orders);
    let client = client(&server.url());
    client.batch_create_orders_v2().body(request).send().await.map(ResponseValue::into_inner)
}

fn item(id: &str) -> Value {
    json!({"client_order_id": id, "order_id": format!("o-{id}"), "fill_count": "0.00",
           "remaining_count": "1.00", "ts_ms": 1})
}

#[tokio::test]
async fn a3_a_reply_to_a_batch_has_an_item_for_each_or_says_what_is_missing() {
    let refused = json!({"error": {"code": "invalid_order_size", "message": "no"}});
    let whole = batch(&json!({"orders": [item("a"), refused, item("c")]})).await.unwrap();
    assert_eq!(whole.orders.len(), 3);
    for (orders, text) in [
        (json!([]), "the reply has 0 orders for 3 that were sent"),
        (json!(null), "the reply has 0 orders for 3 that were sent"),
        (json!([item("a"), item("c")]), "the reply has 2 orders for 3 that were sent"),
        (
            json!([item("a"), item("b"), item("c"), item("d")]),
            "the reply has 4 orders for 3 that were sent",
        ),
        (
            json!([item("a"), item("c"), item("b")]),
            "orders[1] of the reply is for the client_order_id \"c\", not \"b\"",
        ),
    ] {
        let error = batch(&json!({"orders": orders})).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Decode, Effect::Unknown));
        assert!(error.to_string().contains(text), "{error}");
        // What there is can be looked at.
        let value = error.value::<BatchCreateOrdersV2Response>().unwrap();
        assert_eq!(value.orders.len(), orders.as_array().map_or(0, Vec::len));
        assert!(error.value::<BatchCancelOrdersV2Response>().is_none());
    }
}

#[tokio::test]
async fn a5_an_error_beside_a_value_is_unknown_and_the_value_is_handed_out() {
    let error = json!({"code": "partial_failure", "message": "some"});
    let reply = json!({"orders": [item("a"), item("b"), item("c")], "error": error});
    let failed = batch(&reply).await.unwrap_err();
    assert_eq!((failed.kind(), failed.effect()), (ErrorKind::Api, Effect::Unknown));
    assert_eq!(failed.code(), Some("partial_failure"));
    assert_eq!(failed.value::<BatchCreateOrdersV2Response>().unwrap().orders.len(), 3);
    // However long the reply is.
    let mut long = item("mine");
    long["error"] = error;
    long["padding"] = json!("x".repeat(100_000));
    let server = always(Answer::new(201, long.to_string())).await;
    let failed = place(&client(&server.url())).await.unwrap_err();
    assert_eq!((failed.kind(), failed.effect()), (ErrorKind::Api, Effect::Unknown));
    assert_eq!(failed.value::<CreateOrderV2Response>().unwrap().order_id, "o-mine");
    assert!(!format!("{failed:?}").contains("remaining_count:"), "{failed:?}");
}

#[tokio::test]
async fn a5_408_on_a_write_is_unknown() {
    for status in [408, 423, 460, 499, 418, 402, 451] {
        let server = always(Answer::new(status, "")).await;
        let error = place(&client(&server.url())).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{status}");
    }
}

#[tokio::test]
async fn a4_done_is_said_by_an_empty_body_and_by_nothing_else() {
    let html = "<html>please log in to the proxy</html>";
    let said = json!({"code": "unavailable", "message": "cancel did not run"}).to_string();
    for (status, body, kind) in [
        (200, html, Some(ErrorKind::Decode)),
        (200, &said, Some(ErrorKind::Api)),
        (200, "OK", Some(ErrorKind::Decode)),
        (202, "null", Some(ErrorKind::Decode)),
        (204, "", None),
        (200, "", None),
        (202, " {} ", None),
    ] {
        let server = always(Answer::new(status, body)).await;
        let result = client(&server.url()).cancel_all_orders().send().await;
        let failed = result.as_ref().err().map(|error| (error.kind(), error.effect()));
        assert_eq!(failed, kind.map(|kind| (kind, Effect::Unknown)), "{status} {body}");
    }
    // A raw request takes any JSON, and no page of a proxy.
    for (body, is_done) in
        [("", true), ("{\"a\":1}", true), ("[]", true), (html, false), (&said, false)]
    {
        let server = always(Answer::new(200, body)).await;
        let raw = client(&server.url()).raw(Method::POST, "/brand/new");
        assert_eq!(raw.send_empty().await.is_ok(), is_done, "{body}");
    }
}

/// Returns the operations whose success is an object without fields that must be there.
fn open() -> BTreeSet<&'static str> {
    let document = Document::get();
    let open = OPERATIONS.iter().filter(|operation| {
        let schema = document.success(operation).1;
        operation.method != Method::GET && schema.is_some_and(|s| !document.requires_something(s))
    });
    open.map(|operation| operation.id).collect()
}

#[tokio::test]
async fn a3_a_success_without_fields_is_an_object_without_an_error() {
    let open = open();
    for id in ["trigger_order_group", "delete_order_group", "apply_subaccount_transfer"] {
        assert!(open.contains(id), "{id} is not in {open:?}");
    }
    for id in open {
        let operation = operation(id);
        let case = Case::new(operation, 1);
        for (body, is_success) in [
            ("{}", true),
            (r#"{"brand_new":1,"error":null}"#, true),
            (r#"{"error":"no"}"#, false),
            (r#"{"error":{}}"#, false),
            (r#"{"code":"x"}"#, false),
            (r#"{"message":"x"}"#, false),
            (r#"{"msg":"x"}"#, false),
            ("[]", false),
            ("\"OK\"", false),
            ("null", false),
            ("", false),
            ("<html>", false),
        ] {
            let server = always(Answer::new(operation.success, body)).await;
            let server = client(&server.url());
            let result = call(&server, operation, &case.parameters, case.body.clone()).await;
            match result {
                Ok(_) => assert!(is_success, "{id} took {body} for a success"),
                Err(error) => {
                    assert!(!is_success, "{id} with {body}: {error:?}");
                    assert_eq!(error.effect(), Effect::Unknown, "{id} with {body}");
                }
            }
        }
    }
}

#[tokio::test]
async fn d4_an_error_has_the_time_of_the_server() {
    let answer = Answer::new(401, r#"{"error":{"code":"header_timestamp_expired"}}"#)
        .with_header("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let server = always(answer).await;
    let error = client(&server.url()).get_balance().send().await.unwrap_err();
    assert_eq!(error.server_date().unwrap().as_millis(), 784_111_777_000);
    let shown = error.to_string();
    assert!(shown.ends_with(&format!("(base URL {})", server.url())), "{shown}");
}

#[tokio::test]
async fn newcomer_12_an_error_points_at_a_price_in_cents_and_at_a_base_url_without_its_path() {
    let server = always(Answer::new(400, r#"{"error":{"code":"invalid_parameters"}}"#)).await;
    let client = client(&server.url());
    let cents = order("mine").price("56");
    let error = client.create_order_v2().body(cents).send().await.unwrap_err();
    let shown = error.to_string();
    let hint = "the price 56 is not below 1: prices are dollars, \"0.56\" is 56 cents";
    assert!(shown.contains(hint), "{shown}");
    let error = place(&client).await.unwrap_err();
    assert!(!error.to_string().contains("prices are dollars"), "{error}");

    // A base URL without its path would answer 404 to everything: it is refused when the client is
    // built, and the error says what to add.
    let bare = server.url().replace(BASE, "");
    let error = builder(&bare).build().unwrap_err();
    assert!(error.to_string().contains(&format!("add {BASE:?} to it")), "{error}");
}

#[tokio::test]
async fn each_call_is_reported_once_when_it_ends() {
    let (into, reports) = shared(Mutex::new(Vec::<CallReport>::new()));
    let server = in_turn(vec![
        Answer::new(429, ""),
        Answer::new(200, r#"{"api_keys":[]}"#),
        Answer::new(503, ""),
        Answer::new(503, ""),
        Answer::Hang(Vec::new()),
    ])
    .await;
    let client = builder(&server.url())
        .with_credentials(credentials())
        .with_middleware(Twice)
        .on_call(move |report| into.lock().unwrap().push(report.clone()))
        .build()
        .unwrap();
    client.get_api_keys().send().await.unwrap();
    client.cancel_all_orders().send().await.unwrap_err();
    let canceled = client.get_balance().send();
    tokio::time::timeout(Duration::from_millis(200), canceled).await.unwrap_err();

    let reports = reports.lock().unwrap();
    let seen: Vec<_> = reports
        .iter()
        .map(|r| (r.operation.id, r.attempts, r.status.map(|s| s.as_u16()), r.bytes))
        .collect();
    assert_eq!(
        seen,
        [
            ("get_api_keys", 2, Some(200), 15),
            ("cancel_all_orders", 2, Some(503), 0),
            ("get_balance", 1, None, 0),
        ]
    );
    assert_eq!(reports[0].outcome, CallOutcome::Success);
    let CallOutcome::Failure { kind, effect, .. } = reports[1].outcome else {
        panic!("{:?}", reports[1])
    };
    assert_eq!((kind, effect), (ErrorKind::Api, Effect::Unknown));
    assert_eq!(reports[2].outcome, CallOutcome::Canceled);
    assert!(reports[2].duration > Duration::ZERO);
}

mod spans {
    //! A subscriber that keeps the fields of spans, by name.

    use std::{
        collections::BTreeMap,
        fmt,
        sync::{Arc, Mutex},
    };

    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span::{Attributes, Id, Record},
    };

    pub(super) type Fields = BTreeMap<String, String>;

    #[derive(Clone, Default)]
    pub(super) struct Spans(pub(super) Arc<Mutex<Vec<(&'static str, Fields)>>>);

    struct Into<'a>(&'a mut Fields);

    impl Visit for Into<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.insert(field.name().to_owned(), format!("{value:?}"));
        }
    }

    impl Subscriber for Spans {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("kalshi_sdk")
        }

        fn new_span(&self, attributes: &Attributes<'_>) -> Id {
            let mut fields = Fields::new();
            attributes.record(&mut Into(&mut fields));
            let mut spans = self.0.lock().unwrap();
            spans.push((attributes.metadata().name(), fields));
            Id::from_u64(spans.len() as u64)
        }

        fn record(&self, span: &Id, values: &Record<'_>) {
            let index = usize::try_from(span.into_u64()).unwrap() - 1;
            values.record(&mut Into(&mut self.0.lock().unwrap()[index].1));
        }

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }
}

#[tokio::test]
async fn a_call_is_one_span_with_the_documented_fields() {
    let server = in_turn(vec![Answer::new(200, r#"{"api_keys":[]}"#), Answer::new(503, "")]).await;
    let client = client(&server.url());
    let spans = spans::Spans::default();
    let guard = tracing::subscriber::set_default(spans.clone());
    client.get_api_keys().send().await.unwrap();
    client.cancel_all_orders().send().await.unwrap_err();
    drop(guard);
    let spans = spans.0.lock().unwrap();
    assert_eq!(spans.len(), 2, "{spans:?}");
    let field = |index: usize, name: &str| {
        let (span, fields): &(&str, spans::Fields) = &spans[index];
        assert_eq!(*span, "call");
        fields.get(name).map(String::as_str)
    };
    assert_eq!(field(0, "operation"), Some("\"get_api_keys\""));
    assert_eq!(field(0, "method"), Some("\"GET\""));
    assert_eq!(field(0, "attempts"), Some("1"));
    assert_eq!(field(0, "status"), Some("200"));
    assert_eq!(field(0, "bytes"), Some("15"));
    assert!(field(0, "duration_us").is_some_and(|us| us.parse::<u64>().is_ok()));
    assert_eq!((field(0, "error"), field(0, "effect")), (None, None));
    assert_eq!((field(1, "error"), field(1, "effect")), (Some("Api"), Some("Unknown")));
}
