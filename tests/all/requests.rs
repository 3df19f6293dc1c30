//! The requests as sent: paths, bodies, signatures, middleware, and no key in sight.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::Extensions;
use kalshi_sdk::{
    Client, Credentials, Effect, Error, ErrorKind, OPERATIONS, Operation,
    auth::{KeyType, ManualClock, UnixMillis, server::KeyPair},
    operation::{Access, Body, Place},
    request::Complete,
    types::{
        ApiKeyScope, BookSide, CreateApiKeyRequest, CreateOrderGroupRequest, CreateOrderV2Request,
        GenerateApiKeyRequest, OrderStatus, PositionCountFilter, QuoteStatus, RfqStatus,
        SelfTradePreventionType,
    },
};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestRunner},
};
use reqwest_middleware::{Middleware, Next};
use serde_json::{Value, json};

use crate::{
    support::{
        Answer, BASE, Document, Fill, Generator, KEY_ID, Request, Server, always, assert_no_key,
        builder, call, client, credentials, keys, operation, pieces, shared, whole_text,
    },
    table::Case,
};

const ORDER: &str = r#"{"order_id":"1","fill_count":"0.00","remaining_count":"1.00","ts_ms":1}"#;

fn order() -> Complete<CreateOrderV2Request> {
    CreateOrderV2Request::builder()
        .ticker("KXBTC-25")
        .side(BookSide::Bid)
        .count("1")
        .price("0.56")
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type(SelfTradePreventionType::Maker)
}

/// Returns a success of `get_order`.
fn one_order() -> Value {
    let schema = Document::get().success(operation("get_order")).1.unwrap();
    Generator::response(Document::get(), Fill::Least, 1).sample(schema).value
}

/// Fails unless the request carries a valid signature of the pair over exactly these.
fn assert_signed(request: &Request, pair: &KeyPair, method: &str, path: &str) {
    let time = request.header("kalshi-access-timestamp").expect("a timestamp").parse().unwrap();
    let signature = request.header("kalshi-access-signature").expect("a signature");
    pair.public_key().verify_request(method, path, time, signature).unwrap();
}

// Paths.

#[tokio::test]
async fn an_id_passes_through_the_path_unharmed_and_is_signed_as_sent() {
    let ids = [
        ("plain-1", "plain-1"),
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        ("..\\..\\x", "..%5C..%5Cx"),
        ("../../exchange/status", "..%2F..%2Fexchange%2Fstatus"),
        ("100%", "100%25"),
        ("%2F", "%252F"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
        ("a b", "a%20b"),
        (" ", "%20"),
        ("é日🎲", "%C3%A9%E6%97%A5%F0%9F%8E%B2"),
        ("a?b=c&d", "a%3Fb=c&d"),
        ("a#b", "a%23b"),
        ("a\nb\r\t\0", "a%0Ab%0D%09%00"),
        ("a;b:c@d+e,f", "a;b:c@d+e,f"),
        ("http://evil.example", "http:%2F%2Fevil.example"),
    ];
    let server = always(Answer::json(&one_order())).await;
    let client = client(&server.url());
    for (id, encoded) in ids {
        client.get_order().order_id(id).send().await.unwrap();
        let request = server.last();
        assert_eq!(request.target, format!("{BASE}/portfolio/orders/{encoded}"), "{id:?}");
        assert_eq!(request.segments(), ["portfolio", "orders", id]);
        assert_signed(&request, keys(), "GET", &request.target);
    }
    assert_eq!(server.requests().len(), ids.len());
}

#[test]
fn any_text_at_all_arrives_as_the_id_that_it_was() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(always(Answer::json(&one_order())));
    let client = client(&server.url());
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let ids = proptest::string::string_regex("(?s).{1,12}").unwrap();
    let ids = ids.prop_filter("refused", |id| !matches!(id.as_str(), "." | ".."));
    TestRunner::new(config)
        .run(&ids, |id| {
            let request = client.get_order().order_id(id.as_str());
            runtime.block_on(request.send()).unwrap();
            let request = server.last();
            assert_eq!(request.segments(), ["portfolio", "orders", &id]);
            assert_signed(&request, keys(), "GET", request.path());
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_path_parameter_that_would_name_another_resource_is_refused_before_anything_is_sent() {
    let server = always(Answer::new(200, "{}")).await;
    let client = client(&server.url());
    let mut tried = 0;
    for operation in OPERATIONS {
        for parameter in operation.parameters.iter().filter(|p| p.place == Place::Path) {
            for text in ["", ".", ".."] {
                let mut case = Case::new(operation, 1);
                case.parameters.insert(parameter.name.to_owned(), text.to_owned());
                let error = call(&client, operation, &case.parameters, case.body)
                    .await
                    .expect_err(&format!("{operation} with {:?}={text:?}", parameter.name));
                assert_eq!(
                    (error.kind(), error.effect()),
                    (ErrorKind::InvalidRequest, Effect::NotSent),
                    "{operation}"
                );
                let shown = error.to_string();
                let expected =
                    format!("{}: the path parameter `{}` is", operation.id, parameter.name);
                // A parameter that is a word of Rust has another name there.
                assert!(shown.starts_with(&expected) || parameter.name == "type", "{shown}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "only {tried}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_required_parameter_that_is_missing_is_named_before_anything_is_sent() {
    let server = always(Answer::new(200, "{}")).await;
    let client = client(&server.url());
    let mut tried = 0;
    for operation in OPERATIONS {
        for parameter in operation.parameters.iter().filter(|p| p.required) {
            let mut case = Case::new(operation, 0);
            case.parameters.remove(parameter.name);
            let error = call(&client, operation, &case.parameters, case.body)
                .await
                .expect_err(&format!("{operation} without `{}`", parameter.name));
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error:?}");
            assert_eq!(error.effect(), Effect::NotSent);
            assert!(error.to_string().contains(parameter.name), "{error}");
            tried += 1;
        }
    }
    assert!(tried > 40, "only {tried}");
    assert_eq!(server.connections(), 0);
}

// Credentials.

#[tokio::test]
async fn a_private_operation_without_credentials_sends_nothing_and_says_what_to_set() {
    let server = always(Answer::new(200, "{}")).await;
    let client = builder(&server.url()).build().unwrap();
    for operation in OPERATIONS.iter().filter(|o| o.access == Access::Signed) {
        let case = Case::new(operation, 1);
        let error = call(&client, operation, &case.parameters, case.body)
            .await
            .expect_err(&operation.to_string());
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Auth, Effect::NotSent), "{error:?}");
        assert!(error.is_auth());
        let shown = error.to_string();
        for part in [operation.id, "was not sent", "KALSHI_API_KEY_ID", "KALSHI_PRIVATE_KEY"] {
            assert!(shown.contains(part), "{part} is not in: {shown}");
        }
    }
    let error = client.raw(http::Method::GET, "/portfolio/balance").send_empty().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_public_operation_needs_no_credentials_and_never_sends_any() {
    let server = always(Answer::new(200, r#"{"markets":[],"cursor":""}"#)).await;
    for client in [builder(&server.url()).build().unwrap(), client(&server.url())] {
        client.get_markets().send().await.unwrap();
        client.raw(http::Method::GET, "/markets").public().send_empty().await.unwrap();
    }
    assert_eq!(server.requests().len(), 4);
    assert!(server.requests().iter().all(|request| !request.is_signed()));
}

#[tokio::test]
async fn two_clients_with_different_credentials_do_not_mix() {
    let server = always(Answer::new(200, r#"{"api_keys":[]}"#)).await;
    let pairs: Vec<_> = (0..2).map(|_| KeyPair::generate(KeyType::Ed25519).unwrap()).collect();
    let mut calls = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        let key_id = format!("key-{index}");
        let credentials = Credentials::from_pem(&key_id, pair.private_key_pem()).unwrap();
        let client = builder(&server.url()).with_credentials(credentials).build().unwrap();
        assert_eq!(client.credentials().unwrap().key_id(), key_id);
        for _ in 0..10 {
            let client = client.clone();
            calls.push(tokio::spawn(async move { client.get_api_keys().send().await.map(drop) }));
        }
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let requests = server.requests();
    for (index, pair) in pairs.iter().enumerate() {
        let key_id = format!("key-{index}");
        let own = requests.iter().filter(|r| r.header("kalshi-access-key") == Some(&key_id));
        let own: Vec<_> = own.collect();
        assert_eq!(own.len(), 10);
        for request in own {
            assert_signed(request, pair, "GET", request.path());
        }
    }
}

#[tokio::test]
async fn an_rsa_key_signs_too() {
    let pair = KeyPair::generate(KeyType::Rsa).unwrap();
    let server = always(Answer::new(200, r#"{"api_keys":[]}"#)).await;
    let credentials = Credentials::from_pem("rsa-1", pair.private_key_pem()).unwrap();
    let client = builder(&server.url()).with_credentials(credentials).build().unwrap();
    client.get_api_keys().fcm_subtrader_id("x").send().await.unwrap();
    let request = server.request();
    assert_eq!(request.header("kalshi-access-key"), Some("rsa-1"));
    assert_signed(&request, &pair, "GET", &format!("{BASE}/api_keys"));
    assert!(!format!("{client:?}").contains("RSA PRIVATE"));
    assert_no_key(&format!("{client:?} {:?}", client.get_api_keys()), pair.private_key_pem());
}

#[test]
fn credentials_over_plain_http_to_another_machine_must_be_asked_for() {
    let url = "http://exchange.example/trade-api/v2";
    let error = builder(url).with_credentials(credentials()).build().unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Config, Effect::NotSent));
    assert!(error.to_string().contains("https"), "{error}");
    builder(url).with_credentials(credentials()).with_plain_http().build().unwrap();
    builder(url).build().unwrap();
    let url = "https://exchange.example/x/trade-api/v2";
    builder(url).with_credentials(credentials()).build().unwrap();
}

// Queries and bodies.

#[tokio::test]
async fn what_is_left_out_is_not_sent() {
    let server = Server::start(|request| match request.path().strip_prefix(BASE) {
        Some("/portfolio/events/orders") => Answer::new(201, ORDER),
        _ => Answer::new(200, r#"{"orders":[],"cursor":""}"#),
    })
    .await;
    let client = client(&server.url());

    client.create_order_v2().body(order()).send().await.unwrap();
    let request = server.last();
    assert_eq!(
        request.json(),
        json!({
            "ticker": "KXBTC-25",
            "side": "bid",
            "count": "1.00",
            "price": "0.5600",
            "time_in_force": "good_till_canceled",
            "self_trade_prevention_type": "maker",
        })
    );
    assert_eq!(request.target, format!("{BASE}/portfolio/events/orders"));

    client.get_orders().send().await.unwrap();
    assert_eq!(server.last().target, format!("{BASE}/portfolio/orders"));
    assert_eq!(server.last().body, b"");

    // A zero and an empty text are something.
    client.get_orders().subaccount(0).cursor("").send().await.unwrap();
    let mut query = server.last().query();
    query.sort();
    assert_eq!(
        query,
        [("cursor".to_owned(), String::new()), ("subaccount".to_owned(), "0".to_owned())]
    );
    client.create_order_v2().body(order().subaccount(0)).send().await.unwrap();
    assert_eq!(server.last().json()["subaccount"], 0);
}

#[tokio::test]
async fn the_signature_leaves_the_query_out() {
    let server = always(Answer::new(200, r#"{"orders":[],"cursor":""}"#)).await;
    let client = client(&server.url());
    client.get_orders().ticker("KX?A/B").limit(5).send().await.unwrap();
    let request = server.request();
    assert!(request.target.contains('?'), "{}", request.target);
    assert_signed(&request, keys(), "GET", &format!("{BASE}/portfolio/orders"));
    // And over the path from the root, not from the base URL.
    let time = request.header("kalshi-access-timestamp").unwrap().parse().unwrap();
    let signature = request.header("kalshi-access-signature").unwrap();
    let verify = |path| keys().public_key().verify_request("GET", path, time, signature);
    verify("/portfolio/orders").unwrap_err();
    verify("/trade-api/v2/portfolio/orders/").unwrap_err();
}

/// Returns the operations whose body may be left out.
fn with_optional_body() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().filter(|operation| operation.body == Body::Optional)
}

async fn sends_an_empty_object(operation: &'static Operation) {
    let schema = Document::get().success(operation).1;
    let answer = schema.map_or_else(String::new, |schema| {
        Generator::response(Document::get(), Fill::Least, 1).sample(schema).value.to_string()
    });
    let server = always(Answer::new(operation.success, answer)).await;
    let case = Case::new(operation, 1);
    call(&client(&server.url()), operation, &case.parameters, None)
        .await
        .unwrap_or_else(|error| panic!("{operation}: {error:?}"));
    let request = server.request();
    assert_eq!(request.body, b"{}", "{operation}");
    assert_eq!(request.header("content-type"), Some("application/json"), "{operation}");
}

#[tokio::test]
async fn a_body_whose_fields_may_all_be_left_out_is_sent_as_an_empty_object() {
    let mut tried = 0;
    for operation in with_optional_body() {
        if Document::get().is_empty_object(Document::get().body(operation).unwrap().0) {
            continue;
        }
        sends_an_empty_object(operation).await;
        tried += 1;
    }
    assert!(tried > 1, "only {tried}");
}

#[tokio::test]
async fn a_body_without_fields_need_not_be_given() {
    for operation in with_optional_body() {
        sends_an_empty_object(operation).await;
    }
}

#[tokio::test]
async fn c8_whatever_is_missing_or_invalid_is_named_at_once_in_one_wording() {
    let server = always(Answer::new(201, ORDER)).await;
    let client = client(&server.url());
    let cases = [
        (client.create_order_v2(), "`body` is missing", ""),
        (client.create_order_v2().body(order().price("0.1234567")), "`body`: `price`:", ""),
        (client.create_order_v2().body(order().price("fifty cents")), "`body`: `price`:", ""),
        (client.create_order_v2().body(order().count("1.005").price("x")), "`count`:", "`price`:"),
    ];
    for (request, field, other) in cases {
        let error = request.send().await.expect_err(field);
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::InvalidRequest, Effect::NotSent),
            "{error:?}"
        );
        assert_eq!(error.operation_id(), Some("create_order_v2"));
        let text = error.to_string();
        assert!(
            text.contains(field) && text.contains(other),
            "{field} or {other} is not in: {text}"
        );
    }
    let error = client.amend_order_v2().subaccount(1).send().await.unwrap_err();
    assert_eq!(error.to_string(), "amend_order_v2: `order_id` is missing; `body` is missing");
    let request = client.get_market_candlesticks().ticker("A").start_ts("yesterday");
    let text = request.send().await.unwrap_err().to_string();
    for part in [
        "`series_ticker` is missing",
        "`start_ts`: ",
        "`end_ts` is missing",
        "`period_interval` is missing",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn every_required_parameter_and_body_is_named_when_it_is_missing() {
    let server = always(Answer::new(200, "{}")).await;
    let client = client(&server.url());
    let mut tried = 0;
    for operation in OPERATIONS {
        let mut required: Vec<&str> =
            operation.parameters.iter().filter(|p| p.required).map(|p| p.name).collect();
        if operation.body == Body::Required {
            required.push("body");
        }
        if required.is_empty() {
            continue;
        }
        tried += 1;
        let error = call(&client, operation, &BTreeMap::new(), None).await.expect_err(operation.id);
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{operation}: {error}");
        for name in required {
            let said = error.to_string();
            let name = if name == "type" { "type_" } else { name };
            assert!(said.contains(&format!("`{name}` is missing")), "{name} is not in: {said}");
        }
    }
    assert!(tried > 40, "only {tried}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn optional_parameters_and_fields_take_an_option_or_a_bare_value() {
    let server = always(Answer::new(201, ORDER)).await;
    let client = client(&server.url());
    let (some, none) = (Some("mine-1"), None::<String>);
    let order = order().client_order_id(some).order_group_id(none).post_only(true);
    client.create_order_v2().body(order).send().await.unwrap();
    let sent = server.last().json();
    assert_eq!((&sent["client_order_id"], sent.get("order_group_id")), (&"mine-1".into(), None));
    assert_eq!(sent["post_only"], true);
    let server = always(Answer::new(200, r#"{"orders":[],"cursor":""}"#)).await;
    let client = self::client(&server.url());
    let (limit, ticker) = (Some(5), None::<&str>);
    client.get_orders().limit(limit).ticker(ticker).subaccount(0).send().await.unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(server.last().query(), [pair("limit", "5"), pair("subaccount", "0")]);
}

#[tokio::test]
async fn c5_filters_take_the_enums_that_come_back_and_any_text() {
    let server = always(Answer::new(200, r#"{"orders":[],"cursor":""}"#)).await;
    let client = client(&server.url());
    client.get_orders().status(OrderStatus::Resting).send().await.unwrap();
    assert_eq!(server.last().query(), [("status".to_owned(), "resting".to_owned())]);
    client.get_fcm_orders().status(OrderStatus::Executed).send().await.unwrap();
    assert_eq!(server.last().query(), [("status".to_owned(), "executed".to_owned())]);
    client.get_orders().status("a new one").send().await.unwrap();
    assert_eq!(server.last().query(), [("status".to_owned(), "a new one".to_owned())]);
    let server = always(Answer::new(200, r#"{"market_positions":[],"event_positions":[]}"#)).await;
    let client = self::client(&server.url());
    let both = [PositionCountFilter::Position, PositionCountFilter::TotalTraded];
    client.get_positions().count_filter(both).send().await.unwrap();
    assert_eq!(
        server.last().query(),
        [("count_filter".to_owned(), "position,total_traded".to_owned())]
    );
    // One type for the filter and for what comes back.
    let _: fn(kalshi_sdk::types::Quote) -> QuoteStatus = |quote| quote.status;
    let _: fn(kalshi_sdk::types::Rfq) -> RfqStatus = |rfq| rfq.status;
    let _ = client.get_quotes().status(QuoteStatus::Open);
    let _ = client.get_rfqs().status(RfqStatus::Open);
}

#[tokio::test]
async fn a_list_joined_by_commas_refuses_what_would_arrive_as_another_list() {
    let server = always(Answer::new(200, r#"{"markets":[],"cursor":""}"#)).await;
    let client = client(&server.url());
    let bad: [(Vec<&str>, &str); 4] = [
        (vec!["A,B"], "comma"),
        (vec!["A", "B,"], "comma"),
        (vec!["A", ""], "empty"),
        (vec![], "empty"),
    ];
    for (items, why) in bad {
        let error = client.get_markets().tickers(items.clone()).send().await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::NotSent));
        let shown = error.to_string();
        assert!(shown.contains("tickers") && shown.contains(why), "{items:?}: {shown}");
    }
    assert_eq!(server.connections(), 0);
    client.get_markets().tickers(["A", "B&c=d", "é"]).send().await.unwrap();
    assert_eq!(server.last().query(), [("tickers".to_owned(), "A,B&c=d,é".to_owned())]);
}

#[tokio::test]
async fn a_list_that_repeats_its_key_keeps_items_with_commas_whole() {
    let server = always(Answer::new(200, r#"{"orderbooks":[]}"#)).await;
    let client = client(&server.url());
    client
        .get_market_orderbooks()
        .tickers(vec!["A,B".to_owned(), "C".to_owned()])
        .send()
        .await
        .unwrap();
    let pair = |value: &str| ("tickers".to_owned(), value.to_owned());
    assert_eq!(server.last().query(), [pair("A,B"), pair("C")]);
}

#[tokio::test]
async fn an_empty_list_of_scopes_is_not_taken_for_every_scope() {
    let server = always(Answer::new(201, r#"{"api_key_id":"a","private_key":"p"}"#)).await;
    let client = client(&server.url());
    let none = Vec::<ApiKeyScope>::new;
    let create = CreateApiKeyRequest::builder().name("bot").public_key("p").scopes(none());
    client.create_api_key().body(create).send().await.unwrap();
    assert_eq!(server.last().json()["scopes"], json!([]));
    let generate = GenerateApiKeyRequest::builder().name("bot").scopes(none());
    client.generate_api_key().body(generate).send().await.unwrap();
    assert_eq!(server.last().json()["scopes"], json!([]));
}

#[tokio::test]
async fn settings_of_the_client_reach_the_wire() {
    let server = always(Answer::new(200, r#"{"markets":[],"cursor":""}"#)).await;
    let client =
        builder(&format!("{}/", server.url())).with_user_agent("my-bot/1.0").build().unwrap();
    assert_eq!(client.base_url(), server.url());
    client.get_markets().send().await.unwrap();
    assert_eq!(server.last().header("user-agent"), Some("my-bot/1.0"));
    assert_eq!(server.last().header("accept"), Some("application/json"));
    assert_eq!(server.last().target, format!("{BASE}/markets"));

    let own = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("own/2")
        .build()
        .unwrap();
    let client = builder(&server.url()).with_http_client(own).build().unwrap();
    client.get_markets().send().await.unwrap();
    assert_eq!(server.last().header("user-agent"), Some("own/2"));
}

// Middleware.

/// Sends again what may be sent again, and lets the clock go on meanwhile.
struct Retry {
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Middleware for Retry {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        loop {
            let attempt = request.try_clone().expect("the body is in memory");
            assert!(attempt.headers().keys().all(|name| !name.as_str().starts_with("kalshi")));
            let response = next.clone().run(attempt, extensions).await?;
            self.clock.advance(Duration::from_millis(1_500));
            if response.status() != 429 {
                return Ok(response);
            }
        }
    }
}

#[tokio::test]
async fn each_attempt_of_a_retry_has_a_timestamp_and_a_signature_of_its_own() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Answer::new(429, r#"{"error":"too many requests"}"#),
        _ => Answer::new(201, ORDER),
    })
    .await;
    let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(1_700_000_000_000)));
    let client = builder(&server.url())
        .with_credentials(credentials())
        .with_clock(Arc::clone(&clock) as _)
        .with_middleware(Retry { clock })
        .build()
        .unwrap();
    client.create_order_v2().body(order()).send().await.unwrap();

    let requests = server.requests();
    let times: Vec<_> =
        requests.iter().map(|r| r.header("kalshi-access-timestamp").unwrap()).collect();
    assert_eq!(times, ["1700000000000", "1700000001500", "1700000003000"]);
    let mut signatures: Vec<_> =
        requests.iter().map(|r| r.header("kalshi-access-signature").unwrap()).collect();
    signatures.dedup();
    assert_eq!(signatures.len(), 3);
    for request in &requests {
        assert_signed(request, keys(), "POST", &format!("{BASE}/portfolio/events/orders"));
        assert_eq!(request.body, requests[0].body);
    }
}

/// Does something to each request, and to nothing else.
struct Each<F>(F);

#[async_trait]
impl<F> Middleware for Each<F>
where
    F: Fn(&mut reqwest::Request, &mut Extensions) + Send + Sync + 'static,
{
    async fn handle(
        &self,
        mut request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        (self.0)(&mut request, extensions);
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn middleware_sees_which_operation_it_is_in_the_order_it_was_added() {
    let server = always(Answer::new(200, r#"{"markets":[],"cursor":""}"#)).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let layer = |name: &'static str| {
        let seen = Arc::clone(&seen);
        Each(move |_: &mut reqwest::Request, extensions: &mut Extensions| {
            let operation = extensions.get::<&'static Operation>().expect("the operation");
            seen.lock().unwrap().push((name, operation.id, operation.retry));
        })
    };
    let client = builder(&server.url())
        .with_middleware(layer("outer"))
        .with_middleware(layer("inner"))
        .build()
        .unwrap();
    client.get_markets().send().await.unwrap();
    client.raw(http::Method::GET, "/markets").public().send_empty().await.unwrap();
    let seen: Vec<_> = seen.lock().unwrap().iter().map(|(name, id, _)| (*name, *id)).collect();
    assert_eq!(
        seen,
        [("outer", "get_markets"), ("inner", "get_markets"), ("outer", "raw"), ("inner", "raw")]
    );
}

#[tokio::test]
async fn middleware_cannot_carry_a_signature_to_another_host() {
    let home = always(Answer::new(200, r#"{"api_keys":[]}"#)).await;
    let other = always(Answer::new(200, r#"{"api_keys":[]}"#)).await;
    let port = reqwest::Url::parse(&other.url()).unwrap().port();
    let elsewhere = Each(move |request: &mut reqwest::Request, _: &mut Extensions| {
        request.url_mut().set_port(port).unwrap();
    });
    let client = builder(&home.url())
        .with_credentials(credentials())
        .with_middleware(elsewhere)
        .build()
        .unwrap();
    let error = client.get_api_keys().send().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Auth, Effect::NotSent), "{error:?}");
    assert_eq!((home.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn signature_headers_that_middleware_put_in_are_replaced_or_removed() {
    let server = always(Answer::new(200, r#"{"api_keys":[],"markets":[],"cursor":""}"#)).await;
    let forge = Each(|request: &mut reqwest::Request, _: &mut Extensions| {
        for name in ["kalshi-access-key", "kalshi-access-signature", "kalshi-access-timestamp"] {
            request.headers_mut().append(name, "forged".parse().unwrap());
        }
    });
    let client = builder(&server.url())
        .with_credentials(credentials())
        .with_middleware(forge)
        .build()
        .unwrap();
    client.get_api_keys().send().await.unwrap();
    let request = server.last();
    assert_eq!(request.header("kalshi-access-key"), Some(KEY_ID));
    assert_signed(&request, keys(), "GET", request.path());
    client.get_markets().send().await.unwrap();
    assert!(!server.last().is_signed());
}

#[tokio::test]
async fn a_failure_of_middleware_is_told_from_one_of_the_exchange() {
    #[derive(Debug)]
    struct Broken;
    #[async_trait]
    impl Middleware for Broken {
        async fn handle(
            &self,
            _: reqwest::Request,
            _: &mut Extensions,
            _: Next<'_>,
        ) -> reqwest_middleware::Result<reqwest::Response> {
            Err(reqwest_middleware::Error::middleware(std::io::Error::other("out of budget")))
        }
    }
    let server = always(Answer::new(200, "{}")).await;
    let client = builder(&server.url()).with_middleware(Broken).build().unwrap();
    let error = client.get_markets().send().await.unwrap_err();
    // Whether it had sent something before it failed, nobody can tell.
    // No attempt had gone out.
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Middleware, Effect::NotSent));
    assert_eq!(error.attempts(), 0);
    assert!(whole_text(&error).contains("out of budget"));
}

// Raw requests.

#[tokio::test]
async fn a_raw_request_is_signed_sent_and_decoded_like_an_operation() {
    let server = always(Answer::new(200, r#"{"data":{"payload":[1,"2"]}}"#)).await;
    let client = client(&server.url());
    let answer = client
        .raw(http::Method::POST, "/cfbenchmarks/a%2Fb")
        .query(&[("from", "1 2"), ("to", "é")])
        .json(&json!({"x": null}))
        .send::<Value>()
        .await
        .unwrap();
    assert_eq!(answer.into_inner(), json!({"data": {"payload": [1, "2"]}}));
    let request = server.request();
    assert_eq!(request.method, "POST");
    assert_eq!(request.path(), format!("{BASE}/cfbenchmarks/a%2Fb"));
    assert_eq!(
        request.query(),
        [("from".to_owned(), "1 2".to_owned()), ("to".to_owned(), "é".to_owned())]
    );
    assert_eq!(request.json(), json!({"x": null}));
    assert_signed(&request, keys(), "POST", request.path());
}

#[tokio::test]
async fn a_raw_request_fails_with_the_same_error() {
    let server = always(Answer::new(403, r#"{"error":{"code":"forbidden"}}"#)).await;
    let client = client(&server.url());
    let error = client.raw(http::Method::DELETE, "/new/thing").send_empty().await.unwrap_err();
    assert!(error.is_forbidden());
    assert_eq!((error.code(), error.operation_id()), (Some("forbidden"), Some("raw")));
    for path in ["", "portfolio", "//evil.example/x", "/a/../b", "/a?b", "/a\\b", "/a\n"] {
        let error = client.raw(http::Method::GET, path).send_empty().await.expect_err(path);
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::NotSent));
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_raw_request_of_an_operation_has_its_name_and_its_access() {
    let text = r#"{"trading_active":true,"exchange_active":true,"price":0.070,"balance":1,"portfolio_value":1,"updated_ts":1,"balance_dollars":"0.01","balance_breakdown":null}"#;
    let server = always(Answer::new(200, text)).await;
    let client = client(&server.url());
    let of = |operation: &'static Operation, path: &str| {
        client.raw(operation.method.clone(), path).operation(operation)
    };
    let status = of(operation("get_exchange_status"), "/exchange/status");
    // Not signed, and not a byte of it is changed.
    assert_eq!(status.send_text().await.unwrap().into_inner(), text);
    assert!(server.request().header("kalshi-access-key").is_none());
    let balance = of(operation("get_balance"), "/portfolio/balance");
    balance.send_text().await.unwrap();
    let request = server.last();
    assert_signed(&request, keys(), "GET", request.path());

    let server = always(Answer::new(503, r#"{"code":"down"}"#)).await;
    let client = self::client(&server.url());
    let create = operation("create_order_v2");
    let error = client.raw(create.method.clone(), create.path).operation(create).json(&json!({}));
    let error = error.send_text().await.unwrap_err();
    assert_eq!((error.operation_id(), error.effect()), (Some("create_order_v2"), Effect::Unknown));
}

#[tokio::test]
async fn a_raw_text_is_json_that_is_no_error_or_nothing() {
    for body in ["", "{}", "[1]", " {\"orders\":[]} "] {
        let server = always(Answer::new(200, body)).await;
        let text = client(&server.url()).raw(http::Method::GET, "/x").send_text().await.unwrap();
        assert_eq!(text.into_inner(), body);
    }
    for body in ["<html>", "{", "{\"error\":\"no\"}", "{\"code\":\"no\"}"] {
        let server = always(Answer::new(200, body)).await;
        let raw = client(&server.url()).raw(http::Method::POST, "/x");
        let error = raw.send_text().await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{body}");
    }
}

/// Returns what a failure comes to.
fn verdict(error: &kalshi_sdk::Error) -> (ErrorKind, Effect, Option<String>) {
    (error.kind(), error.effect(), error.json_path().map(str::to_owned))
}

#[tokio::test]
async fn a_raw_text_of_an_operation_is_a_success_where_that_of_its_method_is() {
    for body in [
        "",
        "{}",
        "null",
        "[]",
        "<html>",
        r#"{"order_group_id":"#,
        r#"{"order_group_id":null,"subaccount":0}"#,
        r#"{"order_group_id":"g","subaccount":0,"error":{"code":"no"}}"#,
        r#"{"code":"no"}"#,
        r#"{"message":"no"}"#,
        r#"{"order_group_id":"g","subaccount":0,"exchange_index":0} {}"#,
        r#"{"order_group_id":"g","subaccount":0,"message":"yes"}"#,
        r#"{"order_group_id":"g","subaccount":0}"#,
    ] {
        let server = always(Answer::new(201, body)).await;
        let client = client(&server.url());
        let limit = CreateOrderGroupRequest::builder().contracts_limit(1);
        let typed = client.create_order_group().body(limit).send().await.map(|_| ());
        let create = operation("create_order_group");
        let raw = || {
            let request = client.raw(create.method.clone(), create.path).operation(create);
            request.json(&json!({"contracts_limit": 1}))
        };
        let text = raw().send_text().await.map(|text| assert_eq!(text.into_inner(), body));
        assert_eq!(text.as_ref().map_err(verdict), typed.as_ref().map_err(verdict), "{body}");
        let value = raw().send::<Value>().await.map(|_| ());
        assert_eq!(value.as_ref().map_err(verdict), typed.as_ref().map_err(verdict), "{body}");
    }
    // And where nothing is documented.
    for body in ["", "{}", r#"{"new":1}"#, "OK", r#"{"code":"no"}"#] {
        let server = always(Answer::new(200, body)).await;
        let client = client(&server.url());
        let typed = client.cancel_all_orders().send().await.map(|_| ());
        let cancel = operation("cancel_all_orders");
        let raw = client.raw(cancel.method.clone(), cancel.path).operation(cancel);
        let text = raw.send_text().await.map(|_| ());
        assert_eq!(text.as_ref().map_err(verdict), typed.as_ref().map_err(verdict), "{body}");
    }
}

#[tokio::test]
async fn a_raw_text_that_lacks_a_required_field_is_no_success_of_any_operation() {
    let (next, answers) = shared(Mutex::new(json!({})));
    let server = Server::start(move |_| Answer::json(&answers.lock().unwrap())).await;
    let client = client(&server.url());
    let mut seen = 0;
    for operation in OPERATIONS {
        let Some(schema) = Document::get().success(operation).1 else { continue };
        let sample = Generator::response(Document::get(), Fill::Least, 7).sample(schema);
        let (sample, required) = (sample.value, sample.required);
        let send = async |body: Value| {
            *next.lock().unwrap() = body;
            let path = operation.path.replace(['{', '}'], "");
            let raw = client.raw(operation.method.clone(), &path).operation(operation);
            raw.send_text().await.map(|_| ())
        };
        send(sample.clone()).await.unwrap_or_else(|error| panic!("{operation}: {error}"));
        for required in &required {
            // No cursor is the end of a list.
            let is_cursor = operation.pagination.is_some_and(|list| list.cursor == required.name);
            if !required.holder.is_empty() || required.is_label || is_cursor {
                continue;
            }
            let mut without = sample.clone();
            without.as_object_mut().unwrap().remove(&required.name);
            let error = send(without).await.expect_err(operation.id);
            let path = Some(required.name.as_str());
            assert_eq!((error.kind(), error.json_path()), (ErrorKind::Decode, path), "{operation}");
            assert_eq!(error.effect(), Effect::Unknown);
            seen += 1;
        }
    }
    assert!(seen > 70, "{seen}");
}

// Nothing secret is printed.

#[tokio::test]
async fn no_debug_text_shows_any_of_the_key() {
    let pem = keys().private_key_pem();
    let server = always(Answer::new(500, "")).await;
    let builder = || builder(&server.url()).with_credentials(credentials());
    let client = builder().build().unwrap();
    let error = client.get_api_keys().send().await.unwrap_err();
    let mut texts = vec![
        format!("{:?} {:#?}", builder(), builder()),
        format!("{client:?} {client:#?}"),
        format!("{:?}", credentials()),
        format!("{:?}", client.credentials()),
        format!("{:?}", keys()),
        format!("{:?}", client.create_order_v2().body(order())),
        format!("{:?}", client.get_order().order_id("1")),
        format!("{:?}", client.get_markets().stream()),
        format!("{:?}", client.raw(http::Method::GET, "/x")),
        whole_text(&error),
    ];
    for broken in [pem.replace("END", "ENF"), pem[..pem.len() / 2].to_owned(), pem.repeat(2)] {
        texts.push(whole_text(&Credentials::from_pem(KEY_ID, &broken).unwrap_err()));
        // A key in the place of the id is a mistake that is easily made.
        texts.push(whole_text(&Credentials::from_pem(pem, KEY_ID).unwrap_err()));
    }
    for text in texts {
        for piece in pieces(pem) {
            // The words of the label may well be in advice.
            let label = piece == "PRIVATE KEY";
            assert!(label || !text.contains(&piece), "{piece:?} of the key stands in: {text}");
        }
    }
    assert_eq!(
        format!("{client:?}"),
        format!(
            "Client {{ base_url: \"{}\", credentials: Some(Credentials {{ key_id: \"{KEY_ID}\", \
             key_type: Ed25519, private_key: \"** redacted **\" }}), .. }}",
            server.url()
        )
    );
}

#[test]
fn the_presets_go_to_the_hosts_of_their_environment() {
    let url = |client: Result<Client, Error>| client.unwrap().base_url().to_owned();
    assert_eq!(
        url(Client::production(credentials())),
        "https://external-api.kalshi.com/trade-api/v2"
    );
    assert_eq!(
        url(Client::demo(credentials())),
        "https://external-api.demo.kalshi.co/trade-api/v2"
    );
}
