//! Reads that trail what the exchange did, and streams that are ahead of them or behind.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use kalshi_sdk::{
    Client, Count, OperationId, UnixMillis,
    request::Complete,
    types::{BookSide, CreateOrderV2Request, OrderStatus},
};
use kalshi_sim::{Exchange, Fault, FaultKind, Lag, MarketPlan, Role};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    status,
    streams::{Socket, connect_as, now, send},
};

const TICKER: &str = "KXLAG-26-A";

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Returns an exchange whose time stands still unless it is moved.
async fn frozen(lag: Lag) -> (Exchange, Client) {
    let exchange = Exchange::builder().with_lag(lag).start().await.unwrap();
    exchange.clock().freeze();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    exchange.clock().advance(Duration::from_secs(5)).unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    (exchange, client)
}

fn order(side: BookSide, price: &str, count: &str) -> Complete<CreateOrderV2Request> {
    CreateOrderV2Request::builder()
        .ticker(TICKER)
        .side(side)
        .price(price)
        .count(count)
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type("maker")
}

async fn place(client: &Client, side: BookSide, price: &str, count: &str) -> (String, UnixMillis) {
    let placed = client.create_order_v2().body(order(side, price, count)).send().await.unwrap();
    let placed = placed.into_inner();
    (placed.order_id, placed.ts_ms)
}

async fn as_of(client: &Client) -> DateTime<Utc> {
    client.get_user_data_timestamp().send().await.unwrap().as_of_time
}

/// Returns the signed position in the market.
async fn position(client: &Client) -> Count {
    let read = client.get_positions().ticker(TICKER).send().await.unwrap().into_inner();
    read.market_positions.first().map_or(Count::ZERO, |position| position.position_fp)
}

#[tokio::test]
async fn an_order_answers_404_until_reads_have_caught_up() {
    let (exchange, client) = frozen(Lag::realistic()).await;
    let maker = exchange.client(Role::Maker).unwrap();
    place(&maker, BookSide::Ask, "0.40", "4.00").await;
    exchange.clock().advance(Duration::from_secs(1)).unwrap();
    let before = client.get_balance().send().await.unwrap().into_inner();
    let (id, at) = place(&client, BookSide::Bid, "0.40", "10.00").await;
    let placed = exchange.clock().now();
    assert_eq!(at.as_millis(), placed.timestamp_millis());
    for moved in [0, 100, 149] {
        exchange.clock().advance(millis(moved)).unwrap();
        assert!(as_of(&client).await < placed, "after {moved} ms");
        assert_eq!(status(&client.get_order().order_id(&*id).send().await.unwrap_err()), 404);
        for filter in [None, Some(OrderStatus::Resting)] {
            let mut list = client.get_orders().ticker(TICKER);
            if let Some(filter) = filter {
                list = list.status(filter);
            }
            assert!(list.send().await.unwrap().orders.is_empty());
        }
        assert!(client.get_fills().ticker(TICKER).send().await.unwrap().fills.is_empty());
        assert_eq!(position(&client).await, Count::ZERO);
        assert_eq!(client.get_balance().send().await.unwrap().into_inner(), before);
    }
    // The public does not trail, nor do the engine's answers.
    let market = client.get_market().ticker(TICKER).send().await.unwrap().into_inner().market;
    assert_eq!(market.yes_bid_size_fp, "6.00".parse::<Count>().unwrap());
    assert_eq!(market.volume_fp, "4.00".parse::<Count>().unwrap());
    let canceled = client.cancel_order_v2().order_id(&*id).market_ticker(TICKER).send().await;
    assert_eq!(canceled.unwrap().reduced_by, "6.00".parse().unwrap());

    exchange.clock().advance(millis(101)).unwrap();
    assert!(as_of(&client).await >= placed);
    // What happened 249 ms after it is not readable.
    let read = client.get_order().order_id(&*id).send().await.unwrap().into_inner().order;
    assert_eq!(read.status, OrderStatus::Resting);
    assert_eq!(read.fill_count_fp, "4.00".parse().unwrap());
    assert_eq!(position(&client).await, "4.00".parse().unwrap());
    exchange.clock().advance(millis(350)).unwrap();
    let read = client.get_order().order_id(&*id).send().await.unwrap().into_inner().order;
    assert_eq!(read.status, OrderStatus::Canceled);
    exchange.audit().unwrap();
}

/// Runs a bot that wants to hold ten contracts: each turn it reads its position and buys what is
/// missing. `settle` is what it does between its order and its next turn.
async fn bot(
    client: &Client,
    turns: usize,
    mut settle: impl AsyncFnMut(UnixMillis),
) -> Result<(), kalshi_sdk::Error> {
    let wanted: Count = "10.00".parse().expect("it is a count");
    for _ in 0..turns {
        let missing = wanted.checked_sub(position(client).await).unwrap_or(Count::ZERO);
        if !missing.is_positive() {
            continue;
        }
        let order = CreateOrderV2Request::builder()
            .ticker(TICKER)
            .side(BookSide::Bid)
            .price("0.60")
            .count(missing)
            .time_in_force("immediate_or_cancel")
            .self_trade_prevention_type("taker_at_cross");
        let placed = client.create_order_v2().body(order).send().await?;
        settle(placed.ts_ms).await;
    }
    Ok(())
}

/// Returns what the bot holds in the end, on an exchange that has enough for it.
async fn held_by_bot(lag: Lag, waits: bool) -> Count {
    let (exchange, client) = frozen(lag).await;
    let maker = exchange.client(Role::Maker).unwrap();
    place(&maker, BookSide::Ask, "0.50", "500.00").await;
    exchange.clock().advance(Duration::from_secs(5)).unwrap();
    let settle = async |placed: UnixMillis| {
        exchange.clock().advance(millis(20)).unwrap();
        // Reads are complete up to that time, so they have the order.
        while waits && UnixMillis::from(as_of(&client).await) < placed {
            exchange.clock().advance(millis(20)).unwrap();
        }
    };
    bot(&client, 5, settle).await.unwrap();
    exchange.clock().advance(Duration::from_secs(5)).unwrap();
    exchange.audit().unwrap();
    position(&client).await
}

#[tokio::test]
async fn a_bot_that_does_not_wait_for_reads_buys_too_much_and_one_that_waits_does_not() {
    let count = |text: &str| text.parse::<Count>().unwrap();
    // Without lag the flaw does not show.
    assert_eq!(held_by_bot(Lag::none(), false).await, count("10.00"));
    for lag in [Lag::realistic(), "300".parse().unwrap(), "60-2000".parse().unwrap()] {
        let held = held_by_bot(lag, false).await;
        assert!(held >= count("20.00"), "it held {held} with {lag:?}");
        assert_eq!(held_by_bot(lag, true).await, count("10.00"), "{lag:?}");
    }
}

async fn text(socket: &mut Socket) -> Value {
    loop {
        let message = timeout(Duration::from_secs(30), socket.next()).await.expect("it comes");
        if let Message::Text(text) = message.expect("it is open").expect("it is sound") {
            return serde_json::from_str(&text).expect("it is JSON");
        }
    }
}

async fn subscribe(socket: &mut Socket) {
    let params = json!({"channels": ["user_orders"]});
    send(socket, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
}

#[tokio::test]
async fn streams_are_ahead_of_reads_or_behind_them() {
    // Ahead: the message about the order comes while it cannot be read.
    let (exchange, client) = frozen(Lag::none().with_reads(millis(300))).await;
    let mut socket = connect_as(&exchange, Role::Trader, now()).await.unwrap();
    subscribe(&mut socket).await;
    assert_eq!(text(&mut socket).await["type"], "subscribed");
    let (id, _) = place(&client, BookSide::Bid, "0.10", "1.00").await;
    let told = text(&mut socket).await;
    assert_eq!((&told["type"], &told["msg"]["order_id"]), (&json!("user_order"), &json!(id)));
    assert_eq!(status(&client.get_order().order_id(&*id).send().await.unwrap_err()), 404);

    // Behind: the order can be read, and the message about it is still on its way.
    let lag = Lag::none().with_reads(millis(100)).with_streams(millis(1_000));
    let (exchange, client) = frozen(lag).await;
    let mut socket = connect_as(&exchange, Role::Trader, now()).await.unwrap();
    subscribe(&mut socket).await;
    while exchange.streams().backlog().frames == 0 {
        tokio::task::yield_now().await;
    }
    exchange.clock().advance(millis(1_000)).unwrap();
    assert_eq!(text(&mut socket).await["type"], "subscribed");
    let (first, _) = place(&client, BookSide::Bid, "0.10", "1.00").await;
    exchange.clock().advance(millis(500)).unwrap();
    let (second, _) = place(&client, BookSide::Bid, "0.11", "1.00").await;
    client.get_order().order_id(&*first).send().await.unwrap();
    assert_eq!(exchange.streams().backlog().frames, 2, "both wait");
    exchange.clock().advance(millis(500)).unwrap();
    assert_eq!(text(&mut socket).await["msg"]["order_id"], first);
    assert_eq!(exchange.streams().backlog().frames, 1, "the second waits");
    exchange.clock().advance(millis(500)).unwrap();
    assert_eq!(text(&mut socket).await["msg"]["order_id"], second);
    // Without lag nothing is held back.
    place(&client, BookSide::Bid, "0.12", "1.00").await;
    exchange.set_lag(Lag::none());
    assert_eq!(text(&mut socket).await["type"], "user_order");
}

/// Everything that one run of commands answers and shows.
async fn transcript(seed: u64) -> Vec<String> {
    let lag = "50-900".parse::<Lag>().unwrap().with_seed(seed);
    let start = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
    let clock = kalshi_auth::ManualClock::at(UnixMillis::from(start));
    let exchange = Exchange::builder()
        .with_seed(seed)
        .with_lag(lag)
        .with_clock(std::sync::Arc::new(clock))
        .with_fault(Fault::builder(FaultKind::late(millis(700))).with_one_in(5).build())
        .with_fault(Fault::builder(FaultKind::status(503)).with_one_in(9).build())
        .start()
        .await
        .unwrap();
    exchange.clock().freeze();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    let [trader, maker] = [Role::Trader, Role::Maker].map(|role| {
        let credentials = exchange.credentials(role).unwrap().clone();
        let clock = kalshi_auth::ManualClock::at(UnixMillis::from(start));
        Client::builder()
            .with_environment(exchange.environment())
            .with_credentials(credentials)
            .with_clock(std::sync::Arc::new(clock))
            .build()
            .unwrap()
    });
    let mut said = Vec::new();
    for turn in 0..40_u32 {
        let (client, side) =
            if turn % 2 == 0 { (&trader, BookSide::Bid) } else { (&maker, BookSide::Ask) };
        let price = ["0.48", "0.49", "0.50", "0.51", "0.52"][(turn % 5) as usize];
        let placed = client.create_order_v2().body(order(side, price, "3.00")).send().await;
        said.push(match placed {
            Ok(placed) => format!("{:?}", placed.into_inner()),
            Err(error) => format!("{error}"),
        });
        exchange.clock().advance(millis(u64::from(turn) * 13 % 400)).unwrap();
        let fills = trader.get_fills().ticker(TICKER).send().await;
        said.push(fills.map_or_else(|error| error.to_string(), |fills| format!("{fills:?}")));
        let orders = maker.get_orders().send().await;
        said.push(orders.map_or_else(|error| error.to_string(), |orders| format!("{orders:?}")));
        let time = trader.get_user_data_timestamp().send().await;
        said.push(time.map_or_else(|error| error.to_string(), |time| format!("{time:?}")));
    }
    exchange.audit().unwrap();
    said
}

#[tokio::test]
async fn a_run_is_repeated_exactly_by_its_seed_lag_and_faults_included() {
    let first = transcript(11).await;
    assert!(first.iter().any(|line| line.contains("504")), "nothing was late");
    for (place, (first, again)) in first.iter().zip(transcript(11).await).enumerate() {
        assert_eq!(*first, again, "line {place}");
    }
    assert!(first != transcript(12).await, "another seed gives the same");
}

#[tokio::test]
async fn the_lag_is_set_by_the_handle_and_by_the_admin_api() {
    let exchange = Exchange::builder().with_admin_port(0).start().await.unwrap();
    exchange.clock().freeze();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    assert_eq!(exchange.lag(), Lag::none());
    assert_eq!(as_of(&client).await, exchange.clock().now());
    let url = format!("{}/lag", exchange.admin_url().unwrap());
    let http = reqwest::Client::new();
    let tell = async |body: Value| {
        let request = http.post(&url).header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap().status().as_u16()
    };
    let there: Value =
        serde_json::from_str(&http.get(&url).send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(there, json!({"reads_millis": [0, 0], "streams_millis": [0, 0], "seed": 0}));
    assert_eq!(tell(json!({"profile": "realistic"})).await, 200);
    assert_eq!(exchange.lag(), Lag::realistic());
    let (id, _) = place(&client, BookSide::Bid, "0.10", "1.00").await;
    assert_eq!(status(&client.get_order().order_id(&*id).send().await.unwrap_err()), 404);
    assert_eq!(tell(json!({"profile": "none"})).await, 200);
    client.get_order().order_id(&*id).send().await.unwrap();
    let settings = json!({"reads_millis": [5, 7], "streams_millis": 9, "seed": 3});
    assert_eq!(tell(settings).await, 200);
    let set = Lag::none().with_reads(millis(5)..=millis(7)).with_streams(millis(9)).with_seed(3);
    assert_eq!(exchange.lag(), set);
    for wrong in
        [json!({"profile": "huge"}), json!({"read_millis": 3}), json!({"reads_millis": -1})]
    {
        assert_eq!(tell(wrong).await, 400);
    }
    // A fault of reads and lag go together.
    let once = Fault::builder(FaultKind::TooManyRequests).with_operation(OperationId::GetOrder);
    exchange.faults().add(once.with_times(1).build()).unwrap();
    assert_eq!(status(&client.get_order().order_id(&*id).send().await.unwrap_err()), 429);
    exchange.faults().assert_all_hit();
}
