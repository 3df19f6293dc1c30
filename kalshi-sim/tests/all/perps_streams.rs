//! The streams of perpetual futures: the messages of everything that can happen, validated against
//! the published document, and commands that are answered as those of event contracts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt as _;
use kalshi_auth::{SystemClock, sign};
use kalshi_sim::{CorporateAction, Ending, Exchange, PERPS_STREAM_PATH, Role, STREAM_PATH, Target};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::{
    perps_conformance::{steps, walker},
    stream_conformance::{Document, collect, holes},
    streams::{Socket, send},
};

const TICKER: &str = "KXSIMCOINPERP";

pub(crate) async fn connect(exchange: &Exchange, role: Role) -> Socket {
    let credentials = exchange.credentials(role).expect("every role has a key");
    let url = exchange.perps().stream_url();
    let mut request = url.into_client_request().expect("a URL");
    let now = kalshi_auth::Clock::now(&SystemClock);
    let signed = sign(credentials, "GET", PERPS_STREAM_PATH, now).expect("it signs");
    signed.insert_into(request.headers_mut());
    connect_async(request).await.expect("it connects").0
}

/// Subscribes to everything, and collects it until the connection ends.
async fn listen(exchange: &Exchange, role: Role) -> JoinHandle<Vec<Value>> {
    let mut socket = connect(exchange, role).await;
    let whole = ["trade", "fill", "user_orders", "order_group_updates", "corporate_actions"];
    let tickers = json!([TICKER, "KXSIMSHAREPERP"]);
    for (number, (cmd, params)) in [
        ("subscribe", json!({"channels": ["orderbook_delta"], "market_tickers": tickers})),
        ("subscribe", json!({"channels": ["ticker"], "send_initial_snapshot": true})),
        ("subscribe", json!({"channels": whole})),
        // Of the other product.
        ("subscribe", json!({"channels": ["market_positions"]})),
        ("subscribe", json!({"channels": ["orderbook_delta"], "market_ticker": "KXNO"})),
        ("subscribe", json!({"channels": ["orderbook_delta"]})),
        (
            "update_subscription",
            json!({
                "sid": 1, "action": "add_markets", "market_ticker": "KXSIMMETALPERP",
            }),
        ),
        (
            "update_subscription",
            json!({
                "sid": 1, "action": "get_snapshot", "market_ticker": TICKER,
            }),
        ),
        ("update_subscription", json!({"sid": 1, "action": "dance"})),
        ("list_subscriptions", json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        send(&mut socket, &json!({"id": number + 1, "cmd": cmd, "params": params})).await;
    }
    if role == Role::Maker {
        // The trades, which have a number of their own by then or not.
        let gone = json!({"id": 11, "cmd": "unsubscribe", "params": {"sids": [3]}});
        send(&mut socket, &gone).await;
    }
    tokio::spawn(collect(socket))
}

#[tokio::test]
async fn everything_that_happens_in_perps_is_told_as_published() {
    let document = Document::of(include_str!("../../../perps_asyncapi.yaml"));
    let mut walker = walker().await;
    let mut listening = Vec::new();
    for role in [Role::Trader, Role::Maker] {
        listening.push(listen(&walker.exchange, role).await);
    }
    for step in &steps() {
        walker.take(step).await;
    }
    let perps = walker.exchange.perps();
    perps.set_mark(TICKER, "63.00".parse().expect("dollars")).expect("it is there");
    // The actions of the walker are a day away; one of them is the end of the market.
    walker.exchange.clock().advance(Duration::from_secs(100_000)).expect("it moves");
    let halt = CorporateAction::StockSplit { old: 1, new: 2 };
    perps.announce(TICKER, halt, Duration::ZERO).expect("it is announced");
    // Tickers are merged to one a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let streams = walker.exchange.streams();
    streams.end_subscriptions(Target::All, Ending::ChannelError).expect("they are there");
    tokio::time::sleep(Duration::from_millis(100)).await;
    streams.cut(Target::All).expect("they are there");

    let (mut told, mut actions, mut wrong) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for task in listening {
        let frames = timeout(Duration::from_secs(10), task).await.expect("it ends").expect("read");
        assert_eq!(holes(&frames), Vec::<String>::new());
        for frame in frames {
            let kind = frame["type"].as_str().unwrap_or_default().to_owned();
            if let Err(difference) = document.check(&frame) {
                // One of each kind is enough to read.
                wrong.entry(kind.clone()).or_insert(difference);
            }
            if let Some(action) = frame["msg"]["corporate_action"]["type"].as_str() {
                actions.insert(action.to_owned());
            }
            told.insert(kind);
        }
    }
    let wrong: Vec<String> = wrong.into_values().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let published: BTreeSet<String> = document.0.into_keys().collect();
    let never: Vec<&String> = published.difference(&told).collect();
    assert!(never.is_empty(), "never sent: {never:?}");
    let expected = ["final_settlement", "stock_split", "ticker_change"];
    assert!(actions.iter().eq(expected), "{actions:?}");
}

#[tokio::test]
async fn a_handshake_needs_a_key_that_has_signed_its_path() {
    let exchange = Exchange::start().await.expect("it starts");
    let request = || exchange.perps().stream_url().into_client_request().expect("a URL");
    let credentials = exchange.credentials(Role::Trader).expect("every role has a key");
    let now = kalshi_auth::Clock::now(&SystemClock);
    let mut of_events = request();
    let signed = sign(credentials, "GET", STREAM_PATH, now).expect("it signs");
    signed.insert_into(of_events.headers_mut());
    for refused in [request(), of_events] {
        match connect_async(refused).await.map(drop) {
            Err(Error::Http(response)) => assert_eq!(response.status(), 401),
            other => panic!("{other:?}"),
        }
    }
}

/// Reads frames until one of a type.
async fn until(socket: &mut Socket, kind: &str) -> Value {
    let read = async {
        loop {
            let message = socket.next().await.expect("it is connected").expect("it is sound");
            if let Message::Text(text) = message {
                let frame: Value = serde_json::from_str(&text).expect("it is JSON");
                if frame["type"] == kind {
                    return frame;
                }
            }
        }
    };
    timeout(Duration::from_secs(10), read).await.unwrap_or_else(|_| panic!("no {kind} comes"))
}

#[tokio::test]
async fn tickers_of_a_market_are_merged_to_one_a_second() {
    let exchange = Exchange::start().await.expect("it starts");
    exchange.clock().freeze();
    let mut socket = connect(&exchange, Role::Trader).await;
    let params = json!({"channels": ["ticker"], "market_ticker": TICKER});
    send(&mut socket, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
    until(&mut socket, "subscribed").await;
    let set = |price: &str| {
        exchange.perps().set_mark(TICKER, price.parse().expect("dollars")).expect("it is there");
    };
    for price in ["60.00", "61.00", "62.00"] {
        set(price);
    }
    let mark = |frame: &Value| frame["msg"]["settlement_mark_price"]["price"].clone();
    assert_eq!(mark(&until(&mut socket, "ticker").await), "60.0000");
    exchange.clock().advance(Duration::from_secs(1)).expect("it moves");
    assert_eq!(mark(&until(&mut socket, "ticker").await), "62.0000", "61 was merged with it");
    // Funding changes no price, and is told all the same: the next one is eight hours later.
    let next = |frame: &Value| frame["msg"]["funding_rate"]["next_funding_time_ms"].as_i64();
    let params = json!({"channels": ["ticker"], "market_ticker": TICKER});
    let mut other = connect(&exchange, Role::Maker).await;
    send(&mut other, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
    until(&mut other, "subscribed").await;
    set("62.00");
    let before = next(&until(&mut other, "ticker").await).expect("there is a premium");
    let away = before - exchange.clock().now().timestamp_millis();
    let away = Duration::from_millis(u64::try_from(away).expect("it is to come"));
    exchange.clock().advance(away).expect("it moves");
    let after = next(&until(&mut other, "ticker").await).expect("there is a premium");
    assert!((7..=9).contains(&((after - before) / 3_600_000)), "{before} {after}");
    socket.close(None).await.expect("it closes");
}

#[tokio::test]
async fn a_filter_follows_a_change_of_the_ticker_and_the_products_do_not_mix() {
    let exchange = Exchange::start().await.expect("it starts");
    let mut socket = connect(&exchange, Role::Trader).await;
    // The book last: with its snapshot both subscriptions are there.
    for (id, channel) in [(1, "corporate_actions"), (2, "orderbook_delta")] {
        let params = json!({"channels": [channel], "market_ticker": TICKER});
        send(&mut socket, &json!({"id": id, "cmd": "subscribe", "params": params})).await;
    }
    let snapshot = until(&mut socket, "orderbook_snapshot").await;
    assert_eq!(snapshot["msg"]["bid"].as_array().map(Vec::len), Some(10));
    let new = "KXOTHERPERP".to_owned();
    exchange
        .perps()
        .announce(TICKER, CorporateAction::TickerChange { new }, Duration::ZERO)
        .expect("it is announced");
    let change = until(&mut socket, "corporate_actions_delta").await;
    let terms = json!({"old_ticker": TICKER, "new_ticker": "KXOTHERPERP"});
    assert_eq!(change["msg"]["corporate_action"]["ticker_change"], terms);
    let snapshot = json!({"sid": 2, "action": "get_snapshot", "market_ticker": "KXOTHERPERP"});
    let command = json!({"id": 3, "cmd": "update_subscription", "params": snapshot});
    send(&mut socket, &command).await;
    let empty = until(&mut socket, "orderbook_snapshot").await;
    assert_eq!(empty["msg"], json!({"market_ticker": "KXOTHERPERP"}), "the halt has canceled all");
    // Event contracts are not there, and neither are perpetual futures on the other endpoint.
    let client = exchange.client(Role::Trader).expect("it is sound");
    let events = client.get_markets().status("open").limit(1).send().await.expect("markets");
    let params = json!({"channels": ["trade"], "market_ticker": events.markets[0].ticker});
    send(&mut socket, &json!({"id": 4, "cmd": "subscribe", "params": params})).await;
    assert_eq!(until(&mut socket, "error").await["msg"]["code"], 11);
    let now = kalshi_auth::Clock::now(&SystemClock);
    let mut other =
        crate::streams::connect_as(&exchange, Role::Trader, now).await.expect("it connects");
    let params = json!({"channels": ["corporate_actions"]});
    send(&mut other, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
    assert_eq!(until(&mut other, "error").await["msg"]["code"], 8);
    let params = json!({"channels": ["trade"], "market_ticker": "KXOTHERPERP"});
    send(&mut other, &json!({"id": 2, "cmd": "subscribe", "params": params})).await;
    assert_eq!(until(&mut other, "error").await["msg"]["code"], 11);
}
