//! What a client is built with, and what it learns about clocks.

use std::{
    env,
    process::Command,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use kalshi_sdk::{
    Effect, ErrorKind, UnixMillis,
    auth::{
        Clock, ClockOffset, Credentials, KeyType, ManualClock, OffsetClock, SystemClock,
        server::KeyPair,
    },
};

use crate::support::{Answer, Server, always, builder, client, credentials};

const MARKETS: &str = r#"{"markets":[],"cursor":""}"#;

/// Names the exchange for the process that the test below starts.
const EXCHANGE_VAR: &str = "KALSHI_TEST_PROXIED_EXCHANGE";

#[tokio::test]
async fn d1_a_request_to_this_machine_goes_through_no_proxy_of_the_environment() {
    // The variables of a process are its own, so the requests are made by another one.
    if let Ok(url) = env::var(EXCHANGE_VAR) {
        client(&url).get_markets().send().await.unwrap();
        let elsewhere = builder("http://exchange.invalid/trade-api/v2");
        elsewhere.build().unwrap().get_markets().send().await.unwrap();
        return;
    }
    let exchange = always(Answer::new(200, MARKETS)).await;
    let proxy = always(Answer::new(200, MARKETS)).await;
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "client::d1_a_request_to_this_machine_goes_through_no_proxy_of_the_environment",
        ])
        .env(EXCHANGE_VAR, exchange.url())
        .env("HTTP_PROXY", proxy.url())
        .env("http_proxy", proxy.url())
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env_remove("REQUEST_METHOD");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    assert_eq!(exchange.requests().len(), 1);
    // What goes elsewhere does go through it.
    let targets: Vec<_> = proxy.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["http://exchange.invalid/trade-api/v2/markets"]);
}

#[tokio::test]
async fn d1_a_proxy_that_was_set_is_used_for_this_machine_too() {
    let proxy = always(Answer::new(200, MARKETS)).await;
    let url = "http://127.0.0.1:1/trade-api/v2";
    let client = builder(url).with_proxy(reqwest::Proxy::http(proxy.url()).unwrap());
    client.build().unwrap().get_markets().send().await.unwrap();
    assert_eq!(proxy.last().target, format!("{url}/markets"));
}

#[test]
fn newcomer_12_a_base_url_without_its_path_is_refused_when_the_client_is_built() {
    let error = builder("http://127.0.0.1:8080").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("has no path: add \"/trade-api/v2\""), "{error}");
}

/// Returns an exchange that accepts no signature before a time, and says what time it is.
async fn exchange(at: i64, date: &'static str) -> Server {
    Server::start(move |request| {
        let time = request.header("kalshi-access-timestamp").map_or("0", |text| text);
        let answer = if time.parse::<i64>().unwrap().abs_diff(at) > 5_000 {
            Answer::new(401, r#"{"error":{"code":"header_timestamp_expired","message":"no"}}"#)
        } else {
            Answer::new(200, r#"{"api_keys":[]}"#)
        };
        answer.with_header("date", date)
    })
    .await
}

#[tokio::test]
async fn the_offset_of_the_clock_comes_from_the_date_of_a_response_and_is_applied_where_asked() {
    let server = exchange(784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT").await;
    let machine = ManualClock::at(UnixMillis::from_millis(784_111_777_500 + 60_000));
    let clock = Arc::new(OffsetClock::new(machine));
    let client = builder(&server.url())
        .with_credentials(credentials())
        .with_clock(clock.clone())
        .build()
        .unwrap();
    assert_eq!(client.clock_offset(), None);
    // Once for each of two tasks that learn of it at the same time: the offset is set, not added.
    for _ in 0..2 {
        clock.set_offset(ClockOffset::ZERO);
        let error = client.get_api_keys().send().await.unwrap_err();
        assert_eq!(error.code(), Some("header_timestamp_expired"));
        assert_eq!(client.clock_offset(), Some(ClockOffset::from_millis(-60_000)));
    }
    for _ in 0..2 {
        clock.set_offset(client.clock_offset().unwrap());
        client.get_api_keys().send().await.unwrap();
        assert_eq!(client.clock_offset(), Some(ClockOffset::from_millis(-60_000)));
    }
}

/// A clock that stands until it is released: no signature is made before.
#[derive(Debug)]
struct HeldClock(Mutex<bool>, Condvar);

impl Clock for HeldClock {
    fn now(&self) -> UnixMillis {
        let held = self.1.wait_while(self.0.lock().unwrap(), |held| *held).unwrap();
        drop(held);
        SystemClock.now()
    }
}

#[tokio::test]
async fn a_request_that_is_not_signed_in_time_is_a_timeout_and_was_not_sent() {
    let server = always(Answer::new(200, r#"{"api_keys":[]}"#)).await;
    let clock = Arc::new(HeldClock(Mutex::new(true), Condvar::new()));
    // An Ed25519 signature is made in place and waits for nobody.
    let pair = KeyPair::generate(KeyType::Rsa).unwrap();
    let client = builder(&server.url())
        .with_credentials(Credentials::from_pem("rsa-1", pair.private_key_pem()).unwrap())
        .with_clock(clock.clone())
        .with_timeout(Duration::from_millis(1))
        .build()
        .unwrap();
    let error = client.get_api_keys().send().await.unwrap_err();
    *clock.0.lock().unwrap() = false;
    clock.1.notify_all();
    assert!(error.is_timeout() && !error.is_auth(), "{error:?}");
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotSent));
    assert!(error.to_string().contains("timed out before it was signed"), "{error}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_date_that_is_none_gives_no_offset() {
    for date in ["", "yesterday", "2026-11-25T00:00:00Z"] {
        let answer = Answer::new(200, MARKETS).with_header("date", date);
        let client = client(&always(answer).await.url());
        client.get_markets().send().await.unwrap();
        assert_eq!(client.clock_offset(), None, "{date:?}");
    }
}
