//! The streams over real sockets: the handshake, the frames, and what can go wrong.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use kalshi_auth::{Credentials, UnixMillis, sign};
use kalshi_sdk::types::{
    AcceptRfqBatchRequest, ApiKeyType, CreateOrderGroupRequest, CreateOrderV2Request,
    CreateRfqBatchQuoteRequest, GenerateApiKeyRequest,
};
use kalshi_sim::{Ending, Exchange, Role, STREAM_PATH, StreamFaults, Target};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

const SOON: Duration = Duration::from_secs(5);

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) fn now() -> UnixMillis {
    kalshi_auth::Clock::now(&kalshi_auth::SystemClock)
}

async fn connect(exchange: &Exchange, at: UnixMillis) -> Result<Socket, Error> {
    connect_as(exchange, Role::Trader, at).await
}

pub(crate) async fn connect_as(
    exchange: &Exchange,
    role: Role,
    at: UnixMillis,
) -> Result<Socket, Error> {
    let credentials = exchange.credentials(role).expect("every role has a key");
    connect_with(exchange, credentials, at).await
}

async fn connect_with(
    exchange: &Exchange,
    credentials: &Credentials,
    at: UnixMillis,
) -> Result<Socket, Error> {
    let mut request = exchange.stream_url().into_client_request()?;
    let signed = sign(credentials, "GET", STREAM_PATH, at).expect("it signs");
    signed.insert_into(request.headers_mut());
    connect_async(request).await.map(|(socket, _)| socket)
}

pub(crate) async fn send(socket: &mut Socket, command: &Value) {
    socket.send(Message::text(command.to_string())).await.expect("it is connected");
}

pub(crate) async fn frame(socket: &mut Socket) -> Value {
    loop {
        let message = timeout(SOON, socket.next()).await.expect("a frame comes soon");
        match message.expect("it is connected").expect("it is sound") {
            Message::Text(text) => return serde_json::from_str(&text).expect("it is JSON"),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn open_ticker(exchange: &Exchange) -> String {
    let client = exchange.client(Role::Trader).expect("it can be built");
    let markets = client.get_markets().status("open").limit(1).send().await.expect("it answers");
    markets.markets[0].ticker.clone()
}

#[tokio::test]
async fn a_handshake_needs_a_sound_signature() {
    let exchange = Exchange::start().await.unwrap();
    let unsigned = connect_async(exchange.stream_url()).await.map(drop).unwrap_err();
    let old = connect(&exchange, UnixMillis::from_millis(now().as_millis() - 600_000)).await;
    for error in [unsigned, old.map(drop).unwrap_err()] {
        match error {
            Error::Http(response) => assert_eq!(response.status(), 401),
            other => panic!("{other}"),
        }
    }
    assert!(connect(&exchange, now()).await.is_ok());
}

#[tokio::test]
async fn a_subscriber_gets_an_acknowledgement_and_a_snapshot() {
    let exchange = Exchange::start().await.unwrap();
    let ticker = open_ticker(&exchange).await;
    let mut socket = connect(&exchange, now()).await.unwrap();
    send(
        &mut socket,
        &json!({"id": 1, "cmd": "subscribe", "params":
        {"channels": ["orderbook_delta"], "market_ticker": ticker, "use_yes_price": true}}),
    )
    .await;
    let ack = frame(&mut socket).await;
    assert_eq!((&ack["type"], &ack["id"]), (&json!("subscribed"), &json!(1)));
    let snapshot = frame(&mut socket).await;
    assert_eq!(snapshot["type"], "orderbook_snapshot");
    assert_eq!(snapshot["msg"]["market_ticker"], ticker);
    let client = exchange.client(Role::Trader).unwrap();
    let book = client.get_market_orderbook().ticker(&*ticker).send().await.unwrap();
    assert_eq!(
        snapshot["msg"]["yes_dollars_fp"].as_array().unwrap().len(),
        book.orderbook_fp.yes_dollars.len()
    );
    send(&mut socket, &json!({"id": 2, "cmd": "nonsense"})).await;
    assert_eq!(frame(&mut socket).await["msg"]["code"], 5);
    assert_eq!(exchange.streams().connections(), 1);
}

#[tokio::test]
async fn faults_delay_answers_and_put_data_first() {
    let mut faults = StreamFaults::default();
    faults.data_before_ack = true;
    faults.ack_delay = Duration::from_millis(150);
    let exchange = Exchange::builder().with_stream_faults(faults).start().await.unwrap();
    let ticker = open_ticker(&exchange).await;
    let mut socket = connect(&exchange, now()).await.unwrap();
    let began = std::time::Instant::now();
    send(
        &mut socket,
        &json!({"id": 1, "cmd": "subscribe", "params":
        {"channels": ["orderbook_delta"], "market_ticker": ticker}}),
    )
    .await;
    assert_eq!(frame(&mut socket).await["type"], "orderbook_snapshot");
    assert_eq!(frame(&mut socket).await["type"], "subscribed");
    assert!(began.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_lost_message_leaves_a_hole_in_the_sequence() {
    let exchange = Exchange::start().await.unwrap();
    let ticker = open_ticker(&exchange).await;
    let mut faults = StreamFaults::default();
    faults.drop_one_in = 1;
    let mut socket = connect(&exchange, now()).await.unwrap();
    send(
        &mut socket,
        &json!({"id": 1, "cmd": "subscribe", "params":
        {"channels": ["orderbook_delta"], "market_ticker": ticker}}),
    )
    .await;
    frame(&mut socket).await;
    assert_eq!(frame(&mut socket).await["seq"], 1);
    let again = json!({"id": 2, "cmd": "update_subscription", "params":
        {"sid": 1, "action": "get_snapshot", "market_ticker": ticker}});
    exchange.streams().set_faults(Target::All, faults).unwrap();
    send(&mut socket, &again).await;
    // An answer to a command is never lost, so when it comes the snapshot before it is gone.
    send(&mut socket, &json!({"id": 3, "cmd": "list_subscriptions"})).await;
    assert_eq!(frame(&mut socket).await["id"], 3);
    exchange.streams().set_faults(Target::All, StreamFaults::default()).unwrap();
    send(&mut socket, &again).await;
    assert_eq!(frame(&mut socket).await["seq"], 3, "number two was lost");
}

#[tokio::test]
async fn connections_fall_silent_and_are_cut_on_demand() {
    let exchange = Exchange::start().await.unwrap();
    let mut socket = connect(&exchange, now()).await.unwrap();
    send(&mut socket, &json!({"id": 1, "cmd": "list_subscriptions"})).await;
    frame(&mut socket).await;
    exchange.streams().silence(Target::All).unwrap();
    send(&mut socket, &json!({"id": 2, "cmd": "list_subscriptions"})).await;
    assert!(timeout(Duration::from_millis(300), socket.next()).await.is_err(), "nothing comes");
    exchange.streams().cut(Target::All).unwrap();
    let end = timeout(SOON, socket.next()).await.expect("the end comes soon");
    assert!(!matches!(end, Some(Ok(Message::Text(_)))));
    assert!(connect(&exchange, now()).await.is_ok(), "a new connection is taken");
}

async fn subscribe(socket: &mut Socket, ticker: &str) -> Value {
    let params = json!({"channels": ["orderbook_delta"], "market_ticker": ticker});
    send(socket, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
    let ack = frame(socket).await;
    assert_eq!(frame(socket).await["type"], "orderbook_snapshot");
    ack["msg"]["sid"].clone()
}

#[tokio::test]
async fn subscriptions_end_with_an_error_and_can_be_made_anew() {
    let exchange = Exchange::start().await.unwrap();
    let ticker = open_ticker(&exchange).await;
    let mut socket = connect(&exchange, now()).await.unwrap();
    for (ending, code) in [(Ending::ChannelError, 10), (Ending::BufferOverflow, 25)] {
        let sid = subscribe(&mut socket, &ticker).await;
        exchange.streams().end_subscriptions(Target::All, ending).unwrap();
        let end = frame(&mut socket).await;
        assert_eq!(
            (&end["type"], &end["sid"], &end["msg"]["code"]),
            (&json!("error"), &sid, &json!(code))
        );
        send(&mut socket, &json!({"id": 2, "cmd": "list_subscriptions"})).await;
        assert_eq!(frame(&mut socket).await["msg"], json!([]));
        let late = json!({"sid": sid, "action": "get_snapshot", "market_ticker": ticker});
        send(&mut socket, &json!({"id": 3, "cmd": "update_subscription", "params": late})).await;
        assert_eq!(frame(&mut socket).await["msg"]["code"], 7);
    }
}

#[tokio::test]
async fn s22_a_member_has_two_hundred_connections() {
    let exchange = Exchange::start().await.unwrap();
    let mut sockets = Vec::new();
    for _ in 0..200 {
        sockets.push(connect(&exchange, now()).await.unwrap());
    }
    match connect(&exchange, now()).await.map(drop) {
        Err(Error::Http(response)) => assert_eq!(response.status(), 429),
        other => panic!("{other:?}"),
    }
    // Those of another member are another count.
    assert!(connect_as(&exchange, Role::Maker, now()).await.is_ok());
    drop(sockets.pop());
    let began = std::time::Instant::now();
    while connect(&exchange, now()).await.is_err() {
        assert!(began.elapsed() < SOON, "a place never becomes free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Clock, price and count of the deltas, and the clock of the snapshot before them.
async fn deltas(socket: &mut Socket) -> (u64, Vec<(u64, String, String)>) {
    let mut deltas = Vec::new();
    let mut first = 0;
    while deltas.len() < 200 {
        let frame = frame(socket).await;
        let msg = &frame["msg"];
        let clock = msg["clock"].as_u64().expect("books have clocks");
        if frame["type"] == "orderbook_snapshot" {
            first = clock;
        } else {
            let text = |key: &str| msg[key].as_str().expect("it is text").to_owned();
            deltas.push((clock, text("price_dollars"), text("delta_fp")));
        }
    }
    (first, deltas)
}

#[tokio::test]
async fn a2_a_clock_is_the_same_on_every_connection() {
    let exchange = Exchange::builder().with_traders(50).start().await.unwrap();
    let ticker = open_ticker(&exchange).await;
    let mut seen = Vec::new();
    let mut sockets = Vec::new();
    for role in [Role::Trader, Role::Maker] {
        let mut socket = connect_as(&exchange, role, now()).await.unwrap();
        let params = json!({"channels": ["orderbook_delta"], "market_ticker": ticker});
        send(&mut socket, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
        assert_eq!(frame(&mut socket).await["type"], "subscribed");
        sockets.push(socket);
    }
    exchange.markets().run_traders(20_000);
    for socket in &mut sockets {
        seen.push(deltas(socket).await);
    }
    // What both have in whole: from the later snapshot to the earlier end.
    let from = seen.iter().map(|(first, _)| *first).max().unwrap();
    let to = seen.iter().map(|(_, deltas)| deltas[deltas.len() - 1].0).min().unwrap();
    for (first, deltas) in &mut seen {
        assert!(deltas.is_sorted_by_key(|(clock, ..)| *clock));
        assert!(deltas[0].0 > *first);
        deltas.retain(|(clock, ..)| *clock > from && *clock < to);
    }
    assert!(seen[0].1.len() > 50, "{from} to {to}");
    assert_eq!(seen[0].1, seen[1].1);
}

#[tokio::test]
async fn a11_a_batch_is_announced_quoted_and_executed() {
    let exchange = Exchange::start().await.unwrap();
    let [asks, maker] = [Role::Trader, Role::Maker].map(|role| exchange.client(role).unwrap());
    let body = crate::communications::batch(&asks, "mine").await;
    let mut sockets = Vec::new();
    for role in [Role::Trader, Role::Maker] {
        let mut socket = connect_as(&exchange, role, now()).await.unwrap();
        let params = json!({"channels": ["communications"]});
        send(&mut socket, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
        frame(&mut socket).await;
        sockets.push(socket);
    }
    let made = asks.create_rfq_batch().body(body).send().await.unwrap().into_inner().rfq_batch;
    let rows = |price: &str| -> Vec<Value> {
        let rfqs = made.rfqs.iter();
        rfqs.map(|rfq| json!({"rfq_id": rfq.id, "yes_bid": price, "no_bid": "0.1000"})).collect()
    };
    let quote = json!({"quotes": rows("0.2000"), "rest_remainder": false});
    let quote: CreateRfqBatchQuoteRequest = serde_json::from_value(quote).unwrap();
    let offer = maker.create_rfq_batch_quote().rfq_batch_id(&*made.id).body(quote);
    let batch_quote = offer.send().await.unwrap().into_inner().id;
    let limits: Vec<Value> =
        made.rfqs.iter().map(|rfq| json!({"rfq_id": rfq.id, "bid_dollars": "0.2000"})).collect();
    let accept = json!({"accepted_side": "yes", "min_bids": limits});
    let accept: AcceptRfqBatchRequest = serde_json::from_value(accept).unwrap();
    asks.accept_rfq_batch().rfq_batch_id(&*made.id).body(accept).send().await.unwrap();
    let confirm = maker.confirm_rfq_batch_quote().rfq_batch_id(&*made.id);
    confirm.batch_quote_id(&*batch_quote).send().await.unwrap();
    exchange.clock().advance(Duration::from_secs(20)).unwrap();

    for (at, socket) in sockets.iter_mut().enumerate() {
        send(socket, &json!({"id": 2, "cmd": "list_subscriptions"})).await;
        let mut frames = Vec::new();
        loop {
            let frame = frame(socket).await;
            if frame["id"] == 2 {
                break;
            }
            assert_eq!(frame["seq"], frames.len() + 1, "{frame}");
            frames.push(frame);
        }
        let kinds: Vec<&str> = frames.iter().filter_map(|frame| frame["type"].as_str()).collect();
        let created = &frames[0]["msg"];
        assert_eq!(created["id"], made.id);
        assert_eq!(created["rfqs"].as_array().unwrap().len(), 2);
        if at == 0 {
            assert_eq!(kinds.first(), Some(&"rfq_batch_created"));
            assert_eq!(kinds.iter().filter(|kind| **kind == "quote_executed").count(), 2);
            assert_eq!(kinds.last(), Some(&"rfq_batch_executed"), "after its executions");
            let best = frames.iter().filter(|frame| frame["type"] == "rfq_batch_best_quotes");
            let versions: Vec<u64> =
                best.map(|frame| frame["msg"]["version"].as_u64().unwrap()).collect();
            assert!(!versions.is_empty() && versions.is_sorted());
            let end = &frames[frames.len() - 1]["msg"];
            assert_eq!(
                (&end["close_reason"], &end["client_batch_id"]),
                (&json!("executed"), &json!("mine"))
            );
        } else {
            assert_eq!(
                kinds,
                [
                    "rfq_batch_created",
                    "batch_quote_created",
                    "batch_quote_accepted",
                    "quote_executed",
                    "quote_executed",
                    "batch_quote_executed",
                ]
            );
            for frame in &frames[1..3] {
                assert_eq!(frame["msg"]["batch_quote_id"], batch_quote);
                assert_eq!(frame["msg"]["quotes"].as_array().unwrap().len(), 2);
            }
            assert_eq!(frames[2]["msg"]["quotes"][0]["contracts_accepted_fp"], "3.00");
            assert_eq!(frames[4]["msg"]["rfq_batch_id"], made.id);
        }
    }
}

#[tokio::test]
async fn a_restart_cuts_and_refuses_for_a_while() {
    let exchange = Exchange::start().await.unwrap();
    let mut socket = connect(&exchange, now()).await.unwrap();
    exchange.streams().restart(Target::All, Duration::from_millis(300)).unwrap();
    let end = timeout(SOON, socket.next()).await.expect("the end comes soon");
    assert!(!matches!(end, Some(Ok(Message::Text(_)))));
    match connect(&exchange, now()).await.map(drop) {
        Err(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
    let began = std::time::Instant::now();
    while connect(&exchange, now()).await.is_err() {
        assert!(began.elapsed() < SOON, "it never comes back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn trouble_for_one_member_leaves_the_others_alone() {
    let exchange = Exchange::start().await.unwrap();
    let ticker = open_ticker(&exchange).await;
    let mut theirs = connect_as(&exchange, Role::Maker, now()).await.unwrap();
    subscribe(&mut theirs, &ticker).await;
    let mut faults = StreamFaults::default();
    faults.drop_one_in = 1;
    exchange.streams().set_faults(Role::Trader, faults).unwrap();
    exchange.streams().end_subscriptions(Role::Trader, Ending::ChannelError).unwrap();
    exchange.streams().silence(Role::Trader).unwrap();
    exchange.streams().cut(Role::Trader).unwrap();
    exchange.streams().restart(Role::Trader, Duration::from_secs(60)).unwrap();
    assert!(connect(&exchange, now()).await.is_err());
    let again = json!({"sid": 1, "action": "get_snapshot", "market_ticker": ticker});
    send(&mut theirs, &json!({"id": 2, "cmd": "update_subscription", "params": again})).await;
    assert_eq!(frame(&mut theirs).await["type"], "orderbook_snapshot");
    assert!(connect_as(&exchange, Role::Maker, now()).await.is_ok());
}

#[tokio::test]
async fn a_key_bound_to_a_subaccount_hears_nothing_of_the_others() {
    let exchange = Exchange::start().await.unwrap();
    let ticker = open_ticker(&exchange).await;
    let owner = exchange.client(Role::Trader).unwrap();
    let new =
        GenerateApiKeyRequest::builder().name("bound").key_type(ApiKeyType::Ed25519).subaccount(5);
    let made = owner.generate_api_key().body(new).send().await.unwrap().into_inner();
    let bound = Credentials::from_pem(&made.api_key_id, made.private_key.expose()).unwrap();
    let mut sockets = [
        connect(&exchange, now()).await.unwrap(),
        connect_with(&exchange, &bound, now()).await.unwrap(),
    ];
    for socket in &mut sockets {
        subscribe(socket, &ticker).await;
        let own = json!({"channels": ["user_orders", "order_group_updates"]});
        send(socket, &json!({"id": 2, "cmd": "subscribe", "params": own})).await;
        frame(socket).await;
        frame(socket).await;
    }
    let group = CreateOrderGroupRequest::builder().contracts_limit(10);
    owner.create_order_group().body(group).send().await.unwrap();
    let order = CreateOrderV2Request::builder()
        .ticker(&*ticker)
        .side("bid")
        .price("0.0100")
        .count("1.00")
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type("maker")
        .client_order_id("mine");
    owner.create_order_v2().body(order).send().await.unwrap();
    for (socket, is_owner) in sockets.iter_mut().zip([true, false]) {
        send(socket, &json!({"id": 3, "cmd": "list_subscriptions"})).await;
        let (mut kinds, mut names) = (Vec::new(), Vec::new());
        loop {
            let frame = frame(socket).await;
            if frame["id"] == 3 {
                break;
            }
            kinds.push(frame["type"].as_str().unwrap().to_owned());
            names.push(frame["msg"]["client_order_id"].clone());
        }
        kinds.sort();
        if is_owner {
            assert_eq!(kinds, ["order_group_updates", "orderbook_delta", "user_order"]);
            assert_eq!(names.iter().filter(|name| **name == "mine").count(), 2);
        } else {
            assert_eq!(kinds, ["orderbook_delta"]);
            assert_eq!(names, [Value::Null]);
        }
    }
}
