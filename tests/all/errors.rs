//! Failures: every answer that is no success, and every way for an answer not to come. Each
//! becomes the one error, which tells whether the request may have been carried out.

use std::{
    error::Error as _,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use httpmock::MockServer;
use kalshi_sdk::{
    Client, Effect, Error, ErrorKind,
    request::Complete,
    types::{BookSide, CreateOrderV2Request},
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::{
    Answer, BASE, Server, always, builder, client, credentials, shared, whole_text,
};

/// The contents of an error: status, code, message, details.
type Said<'a> = (Option<u16>, Option<&'a str>, Option<&'a str>, Option<&'a str>);

fn said(error: &Error) -> Said<'_> {
    (error.status().map(|s| s.as_u16()), error.code(), error.message(), error.details())
}

fn order() -> Complete<CreateOrderV2Request> {
    CreateOrderV2Request::builder()
        .ticker("KXBTC-25")
        .side(BookSide::Bid)
        .count("1.00")
        .price("0.5600")
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type("taker_at_cross")
        .client_order_id("mine-1")
}

/// Places an order, and gives back why it failed.
async fn place(client: &Client) -> Error {
    client.create_order_v2().body(order()).send().await.expect_err("the order went through")
}

async fn failed(answer: Answer) -> Error {
    let server = always(answer).await;
    let error = place(&client(&server.url())).await;
    assert_eq!(server.requests().len(), 1, "a failed request is not sent again by itself");
    error
}

/// Returns the bodies of errors that have been seen, and what they say.
fn shapes() -> Vec<(String, [Option<&'static str>; 3])> {
    let (code, message, details) = (Some("invalid_parameters"), Some("no such side"), Some("side"));
    vec![
        (
            json!({"code": code, "message": message, "details": details}).to_string(),
            [code, message, details],
        ),
        (
            json!({"error": {"code": code, "message": message, "details": details, "service": "x"}})
                .to_string(),
            [code, message, details],
        ),
        (
            json!({"error": "too many requests"}).to_string(),
            [None, Some("too many requests"), None],
        ),
        (json!({"msg": "no upstream"}).to_string(), [None, Some("no upstream"), None]),
        (json!({"code": code, "message": null, "details": ""}).to_string(), [code, None, None]),
        (
            json!({"error": {"code": 7, "details": {"leg": "A"}}}).to_string(),
            [Some("7"), None, Some(r#"{"leg":"A"}"#)],
        ),
        (json!({"exchange_active": false, "trading_active": false}).to_string(), [None; 3]),
        ("<html><head><title>Bad Gateway</title></head></html>".to_owned(), [None; 3]),
        (String::new(), [None; 3]),
        ("upstream connect error".to_owned(), [None; 3]),
        ("{\"code\":".to_owned(), [None; 3]),
        ("null".to_owned(), [None; 3]),
        ("[{\"code\":\"x\"}]".to_owned(), [None; 3]),
    ]
}

#[tokio::test]
async fn every_status_with_every_shape_of_body_becomes_one_error() {
    let (next, answer) = shared(Mutex::new(Answer::new(200, "")));
    let server = Server::start(move |_| answer.lock().unwrap().clone()).await;
    let client = client(&server.url());
    for status in [400, 401, 403, 404, 409, 410, 408, 418, 429, 499, 500, 502, 503, 504] {
        for (body, [code, message, details]) in shapes() {
            *next.lock().unwrap() = Answer::new(status, body.clone());
            let error = place(&client).await;
            assert_eq!(said(&error), (Some(status), code, message, details), "{status} {body}");
            assert_eq!(error.kind(), ErrorKind::Api, "{status} {body}");
            // What a proxy answers after it passed the request on says nothing of the exchange.
            let is_refusal = status < 500 && !matches!(status, 408 | 418 | 499);
            let effect = if is_refusal { Effect::Rejected } else { Effect::Unknown };
            assert_eq!(error.effect(), effect, "{status} {body}");
            assert_eq!(error.attempts(), 1);
            assert_eq!(error.operation_id(), Some("create_order_v2"));
            assert_eq!(error.excerpt().unwrap_or_default(), body);
            assert_eq!(error.json_path(), None);
            let is = [
                (401, error.is_unauthorized()),
                (403, error.is_forbidden()),
                (404, error.is_not_found()),
                (409, error.is_conflict()),
                (429, error.is_rate_limited()),
            ];
            for (which, is) in is {
                assert_eq!(is, which == status, "{which} of {status}");
            }
            assert!(!error.is_decode() && !error.is_timeout() && !error.is_auth());
        }
    }
}

#[tokio::test]
async fn a_public_operation_fails_with_the_same_error() {
    let server = always(Answer::new(404, r#"{"error":{"code":"not_found"}}"#)).await;
    let client = builder(&server.url()).build().unwrap();
    let error = client.get_market().ticker("KXNONE").send().await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!((error.code(), error.effect()), (Some("not_found"), Effect::Rejected));
    // The market and the base URL are what is wrong most often.
    let shown =
        format!("get_market /markets/KXNONE: 404 Not Found: not_found (base URL {})", server.url());
    assert_eq!(error.to_string(), shown);
    assert_eq!(error.path(), Some("/markets/KXNONE"));
    assert_eq!(error.base_url(), Some(server.url().as_str()));
}

#[tokio::test]
async fn ten_megabytes_of_html_become_a_short_error() {
    let html = format!("<html>{}</html>", "<p>\nSorry</p>".repeat(800_000));
    assert!(html.len() > 10_000_000);
    let error = failed(Answer::new(502, html)).await;
    assert_eq!(said(&error), (Some(502), None, None, None));
    assert_eq!(error.effect(), Effect::Unknown);
    assert!(error.excerpt().unwrap().starts_with("<html><p> Sorry</p><p>"));
    assert!(whole_text(&error).len() < 4_000);
}

#[tokio::test]
async fn a_long_message_is_cut() {
    let body = json!({"code": "x".repeat(100_000), "message": "é".repeat(200_000)}).to_string();
    let error = failed(Answer::new(400, body)).await;
    assert_eq!(error.message().unwrap().chars().count(), 1_001);
    assert!(error.code().unwrap().len() < 1_010);
    assert!(whole_text(&error).len() < 20_000);
}

#[tokio::test]
async fn d3_an_error_body_is_read_to_a_mebibyte_and_its_known_fields_only() {
    // The code stands before the end of what is read, the message goes beyond it.
    let body = json!({"code": "too_long", "message": "x".repeat(3 << 20)}).to_string();
    for status in [400, 502] {
        let error = failed(Answer::new(status, body.clone())).await;
        assert_eq!((error.code(), error.message()), (Some("too_long"), None));
        assert_eq!(error.status().unwrap().as_u16(), status);
    }
    // Numbers without end: nothing is built of them, and what is behind the limit is not waited
    // for.
    let zeros = format!("{{\"code\":\"zeros\",\"a\":[0{}", ",0".repeat(1 << 20));
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-length: 1000000000000\r\n\r\n";
    let error = failed(Answer::Hang(format!("{head}{zeros}").into())).await;
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Api, Effect::Rejected), "{error:?}");
    assert_eq!(error.code(), Some("zeros"));
}

#[tokio::test]
async fn a5_an_error_within_a_success_is_unknown_however_long() {
    for padding in ["", &"x".repeat(20_000)] {
        let body = json!({
            "error": {"code": "deprecated_v1_order_endpoint", "message": "use V2"},
            "padding": padding,
        });
        for status in [200, 201] {
            let error = failed(Answer::new(status, body.to_string())).await;
            assert_eq!(
                said(&error),
                (Some(status), Some("deprecated_v1_order_endpoint"), Some("use V2"), None)
            );
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Api, Effect::Unknown));
        }
        // An operation without a body to decode must not take it for done, either.
        let server = always(Answer::new(200, body.to_string())).await;
        let error = client(&server.url()).cancel_all_orders().send().await.unwrap_err();
        assert_eq!(error.code(), Some("deprecated_v1_order_endpoint"));
        assert_eq!(error.effect(), Effect::Unknown);
    }
}

#[tokio::test]
async fn an_error_for_one_item_of_a_batch_is_no_error_of_the_call() {
    let body = json!({"orders": [
        {"error": {"code": "invalid_order_size", "message": "no"}, "order_id": "", "reduced_by": "0.00"},
        {"error": null, "order_id": "1", "reduced_by": "2.00"},
    ]});
    let server = always(Answer::json(&body)).await;
    let request = serde_json::from_value::<kalshi_sdk::types::BatchCancelOrdersV2Request>(
        json!({"orders": [{"order_id": "0"}, {"order_id": "1"}]}),
    );
    let client = client(&server.url());
    let answer = client.batch_cancel_orders_v2().body(request.unwrap()).send().await.unwrap();
    let error = answer.orders[0].error.as_ref().unwrap();
    assert_eq!(error.code.as_deref(), Some("invalid_order_size"));
    assert!(answer.orders[1].error.is_none());
}

#[tokio::test]
async fn a_refused_connection_means_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = place(&client(&format!("http://{address}{BASE}"))).await;
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Connect, Effect::NotSent));
    assert_eq!(error.attempts(), 1);
    assert_eq!(error.to_string(), format!("create_order_v2: could not connect to {address}"));
    assert_eq!(error.status(), None);
    assert!(error.source().is_some());
}

#[cfg(any(feature = "native-tls", feature = "rustls"))]
#[tokio::test]
async fn a_peer_that_does_not_speak_tls_means_that_nothing_was_sent() {
    let server = always(Answer::Close(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())).await;
    let error = place(&client(&server.url().replace("http://", "https://"))).await;
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Connect, Effect::NotSent), "{error:?}");
    assert!(server.requests().is_empty());
}

/// Returns a client that waits for a short time only.
fn impatient(server: &Server) -> Client {
    let builder = builder(&server.url()).with_credentials(credentials());
    builder.with_timeout(Duration::from_millis(300)).build().unwrap()
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_leaves_the_effect_unknown() {
    let beginnings = [
        "",
        "HTTP/1.1 201 Created\r\ncontent-le",
        "HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{\"order_id\":",
    ];
    for begins in beginnings {
        let server = always(Answer::Hang(begins.into())).await;
        let error = place(&impatient(&server)).await;
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Timeout, Effect::Unknown),
            "{begins}"
        );
        assert!(error.is_timeout());
        assert_eq!(error.to_string(), "create_order_v2: no complete response arrived in time");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_mock_that_is_too_slow_times_out_as_well() {
    let server = MockServer::start_async().await;
    let mock = server.mock_async(|when, then| {
        when.method(httpmock::Method::GET).path(format!("{BASE}/exchange/status"));
        then.status(200).delay(Duration::from_secs(3)).body("{}");
    });
    let mock = mock.await;
    let client =
        builder(&server.url(BASE)).with_timeout(Duration::from_millis(300)).build().unwrap();
    let error = client.get_exchange_status().send().await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(error.effect(), Effect::Unknown);
    mock.assert_calls_async(1).await;
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_the_effect_unknown() {
    let head = "HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n";
    let chunked = "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n";
    let breaks = [
        Answer::Reset(Vec::new()),
        Answer::Reset(head.into()),
        Answer::Reset(format!("{head}{{\"order_id\":").into()),
        Answer::Close(Vec::new()),
        Answer::Close(b"HTTP/1.1 201 Crea".to_vec()),
        Answer::Close(head.into()),
        Answer::Close(format!("{head}{{}}").into()),
        Answer::Close(format!("{chunked}5\r\n{{\"a\"").into()),
        Answer::Close(format!("{chunked}2\r\n{{}}\r\n").into()),
        Answer::Close(format!("{chunked}zz\r\n").into()),
        Answer::Close(b"220 mail.example ESMTP\r\n".to_vec()),
    ];
    for answer in breaks {
        let error = failed(answer.clone()).await;
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Transport, Effect::Unknown),
            "{answer:?}: {error:?}"
        );
        let shown = "create_order_v2: the connection was lost before the response ended";
        assert_eq!(error.to_string(), shown);
        assert!(error.source().is_some());
    }
}

#[tokio::test]
async fn a_write_on_a_connection_that_was_used_before_is_not_sent_twice() {
    let (count, counted) = shared(AtomicUsize::new(0));
    let server = Server::start(move |_| {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::new(200, r#"{"error":{"code":"x"}}"#),
            // The server has read the whole order, and the connection breaks.
            _ => Answer::Close(Vec::new()),
        }
    })
    .await;
    let client = client(&server.url());
    place(&client).await;
    let error = place(&client).await;
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Transport, Effect::Unknown),
        "{error:?}"
    );
    assert_eq!(counted.load(Ordering::SeqCst), 2);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_refusal_stays_one_if_its_explanation_is_cut_off() {
    let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 500\r\n\r\n{\"code\":";
    let error = failed(Answer::Close(answer.into())).await;
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Api, Effect::Rejected), "{error:?}");
    assert_eq!(error.status().unwrap(), 400);
    let answer = answer.replace("400 Bad Request", "503 Service Unavailable");
    let error = failed(Answer::Close(answer.into())).await;
    assert_eq!(error.effect(), Effect::Unknown, "{error:?}");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_announced_or_not() {
    let body = json!({"api_keys": [], "filler": "x".repeat(5_000)}).to_string();
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    // No length at all: the body ends with the connection.
    let open = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
    // A length that lies is refused before anything of the body has come.
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 1152921504606846976\r\n\r\n";
    let answers = [
        (Answer::new(200, body.clone()), true),
        (Answer::Close(chunked.into()), true),
        (Answer::Close(open.into()), true),
        (Answer::Hang(announced.into()), false),
    ];
    for (answer, fits) in answers {
        let server = always(answer.clone()).await;
        let limited = |bytes| {
            let builder = builder(&server.url()).with_credentials(credentials());
            builder.with_max_response_bytes(bytes).build().unwrap()
        };
        let error = limited(body.len() - 1).get_api_keys().send().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::TooLarge, Effect::Unknown),
            "{error:?}"
        );
        assert_eq!(error.status().unwrap(), 200);
        let shown = format!(
            "get_api_keys: the response is larger than {} bytes, see with_max_response_bytes",
            body.len() - 1
        );
        assert_eq!(error.to_string(), shown);
        if fits {
            limited(body.len()).get_api_keys().send().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_refusal_over_the_limit_is_still_a_refusal() {
    for (status, effect) in
        [(400, Effect::Rejected), (429, Effect::Rejected), (502, Effect::Unknown)]
    {
        let server = always(Answer::new(status, "x".repeat(5_000))).await;
        let builder = builder(&server.url()).with_credentials(credentials());
        let error = place(&builder.with_max_response_bytes(1_000).build().unwrap()).await;
        assert_eq!(error.effect(), effect, "{error:?}");
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert_eq!(error.is_rate_limited(), status == 429);
    }
}

#[tokio::test]
async fn a_success_without_content_is_a_success() {
    let server = always(Answer::new(204, "")).await;
    let client = client(&server.url());
    let answer = client.delete_api_key().api_key("a952").send().await.unwrap();
    assert_eq!(answer.status(), 204);
    client.cancel_all_orders().send().await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_other_host_sees_nothing() {
    let other = always(Answer::new(200, r#"{"api_keys":[]}"#)).await;
    for status in [301, 302, 303, 307, 308] {
        let places =
            [other.url(), format!("{BASE}/api_keys/"), "https://example.invalid/".to_owned()];
        for place in places {
            let server = always(Answer::new(status, "").with_header("location", &place)).await;
            let error = client(&server.url()).get_api_keys().send().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Redirect, "{error:?}");
            // A 303 says that something was done, and a 302 may say so.
            let elsewhere = matches!(status, 301 | 307 | 308);
            let effect = if elsewhere { Effect::Rejected } else { Effect::Unknown };
            assert_eq!(error.effect(), effect, "{status}");
            assert_eq!(error.status().unwrap().as_u16(), status);
            assert_eq!(server.requests().len(), 1);
        }
        // Neither is that of a public operation, or of a raw request, or of a write.
        let server = always(Answer::new(status, "").with_header("location", &other.url())).await;
        let client = client(&server.url());
        let kinds = [
            client.get_markets().send().await.unwrap_err().kind(),
            client.raw(http::Method::GET, "/x").send_empty().await.unwrap_err().kind(),
            place(&client).await.kind(),
            client.cancel_all_orders().send().await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Redirect; 4]);
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn an_answer_that_is_neither_success_nor_error_is_an_error() {
    for status in [300, 304, 399, 600, 999] {
        let server = always(Answer::new(status, r#"{"api_keys":[]}"#)).await;
        let error = client(&server.url()).get_api_keys().send().await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert_eq!(error.effect(), Effect::Unknown, "nobody knows what {status} means");
    }
}

#[tokio::test]
async fn the_time_to_wait_is_read_from_the_answer() {
    let cases = [
        ("7", Some(7)),
        (" 120 ", Some(120)),
        ("0", Some(0)),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        // D4: a wait that would overflow a clock is a day.
        ("99999999999999999999", Some(86_400)),
        ("18446744073709551615", Some(86_400)),
        ("86401", Some(86_400)),
    ];
    for (text, seconds) in cases {
        let answer = Answer::new(429, r#"{"error":"too many requests"}"#);
        let error = failed(answer.with_header("Retry-After", text)).await;
        assert!(error.is_rate_limited());
        assert_eq!(error.retry_after(), seconds.map(Duration::from_secs), "{text}");
    }
    assert_eq!(failed(Answer::new(429, "")).await.retry_after(), None);
}

#[tokio::test]
async fn the_id_of_the_request_is_kept_for_support() {
    let answer = Answer::new(500, "").with_header("X-Request-Id", "abc-1");
    assert_eq!(failed(answer).await.request_id(), Some("abc-1"));
    let answer = Answer::new(502, "").with_header("x-amz-cf-id", "cf==");
    assert_eq!(failed(answer).await.request_id(), Some("cf=="));
    assert_eq!(failed(Answer::new(500, "")).await.request_id(), None);
}

#[tokio::test]
async fn an_error_reads_as_one_line_and_its_cause_stands_below() {
    let texts = [
        (
            Answer::new(
                400,
                r#"{"error":{"code":"invalid_parameters","message":"bad side","details":"side"}}"#,
            ),
            "create_order_v2: 400 Bad Request: invalid_parameters, bad side, side",
        ),
        (
            Answer::new(429, r#"{"error":"too many requests"}"#),
            "create_order_v2: 429 Too Many Requests: too many requests",
        ),
        (
            Answer::new(502, "<html>\n<h1>Bad</h1>"),
            "create_order_v2: 502 Bad Gateway; the body begins with \"<html> <h1>Bad</h1>\"",
        ),
        (Answer::new(503, ""), "create_order_v2: 503 Service Unavailable"),
        (
            Answer::new(307, "").with_header("location", "https://elsewhere.invalid/secret"),
            "create_order_v2: 307 Temporary Redirect",
        ),
    ];
    for (answer, text) in texts {
        let error = failed(answer).await;
        assert_eq!(error.to_string(), text);
        assert!(error.source().is_none(), "{error:?}");
    }
    let error = failed(Answer::new(201, r#"{"order_id":7}"#)).await;
    assert_eq!(
        error.to_string(),
        "create_order_v2: 201 Created, but the body is not as documented at `order_id`; \
         the body begins with \"{\\\"order_id\\\":7}\""
    );
    assert_eq!(
        error.source().unwrap().to_string(),
        "invalid type: integer `7`, expected a string at line 1 column 13"
    );
    let error = failed(Answer::new(404, r#"{"code":"not_found"}"#)).await;
    assert_eq!(
        format!("{error:?}").replace(error.base_url().unwrap(), "BASE"),
        "Error { kind: Api, effect: Rejected, operation: \"create_order_v2\", code: \"not_found\", \
         excerpt: \"{\\\"code\\\":\\\"not_found\\\"}\", path: \"/portfolio/events/orders\", \
         base_url: \"BASE\", status: 404, attempts: 1 }"
    );
}

#[tokio::test]
async fn no_error_shows_a_signature_or_a_query() {
    let hang = always(Answer::Hang(Vec::new())).await;
    let reset = always(Answer::Reset(Vec::new())).await;
    for (server, client) in [(&hang, impatient(&hang)), (&reset, client(&reset.url()))] {
        let error = client.get_orders().ticker("an-id-to-look-for").send().await.unwrap_err();
        let text = whole_text(&error);
        let request = server.request();
        assert!(!text.contains(request.header("kalshi-access-signature").unwrap()), "{text}");
        assert!(!text.contains("an-id-to-look-for"), "{text}");
        // The path is shown: it names the order.
        assert_eq!(error.path(), Some("/portfolio/orders"));
    }
}

#[test]
fn an_error_is_small_and_can_cross_threads() {
    fn check<T: Send + Sync + 'static>() -> usize {
        size_of::<T>()
    }
    fn is_error<T: std::error::Error>() {}
    is_error::<Error>();
    assert_eq!(check::<Error>(), size_of::<usize>());
    // The client, and what its requests are given.
    assert_eq!(check::<Client>(), 2 * size_of::<usize>());
}

#[tokio::test]
async fn calls_can_be_spawned_from_many_tasks() {
    let server = always(Answer::new(200, r#"{"api_keys":[]}"#)).await;
    let client = client(&server.url());
    let calls = (0..20).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.get_api_keys().send().await.map(|_| ()) })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert_eq!(server.requests().len(), 20);
}
