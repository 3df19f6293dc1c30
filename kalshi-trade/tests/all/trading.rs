//! The handle over the simulator: orders, streams and reads, with faults and lag.

use std::{collections::BTreeSet, time::Duration};

use kalshi_sdk::{Client, Environment, ErrorKind, OperationId, types::BookSide};
use kalshi_sim::{Exchange, Fault, FaultKind, Lag, Role};
use kalshi_trade::{
    journal::{Journal, MemoryJournal},
    orders::{IntentError, Life, ManagedOrder, OrderEvent, OrderKey, OverReason},
    placement::{PlaceError, PlacementState},
    trading::{Canceled, Trading},
};
use kalshi_types::{Count, Dollars, UnixMillis};

use crate::support::limit as order;

const WITHIN: Duration = Duration::from_secs(120);

async fn ticker(client: &Client) -> String {
    let markets = client.get_markets().status("open").limit(1).send().await.unwrap();
    markets.markets[0].ticker.clone()
}

pub(crate) fn fault(exchange: &Exchange, operation: OperationId, kind: FaultKind, one_in: u64) {
    let fault = Fault::builder(kind).with_operation(operation).with_one_in(one_in).build();
    exchange.faults().add(fault).unwrap();
}

async fn start(exchange: &Exchange, journal: MemoryJournal) -> Trading {
    let client = exchange.client(Role::Trader).unwrap();
    let mut trading = Trading::builder(client, journal).unwrap().start().await.unwrap();
    while !trading.is_current() {
        trading.next().await.unwrap();
    }
    trading
}

pub(crate) fn journal() -> MemoryJournal {
    MemoryJournal::new(1, UnixMillis::EPOCH)
}

/// Waits until the orders are as wanted.
pub(crate) async fn wait(
    trading: &mut Trading,
    is_there: impl Fn(&Trading) -> bool,
) -> Vec<OrderEvent> {
    let mut events = Vec::new();
    while !is_there(trading) {
        events.extend(trading.next().await.unwrap());
    }
    events
}

/// Returns the ids of what rests, foreign orders included.
fn resting(trading: &Trading) -> BTreeSet<String> {
    let orders = trading.orders().iter().map(|(_, order)| order);
    let resting = orders.filter(|order| order.life() == Life::Resting);
    resting.filter_map(|order| order.order_id().map(str::to_owned)).collect()
}

/// Returns the ids of what rests at the exchange.
pub(crate) async fn resting_there(exchange: &Exchange) -> BTreeSet<String> {
    exchange.faults().clear();
    exchange.set_lag(Lag::none());
    let client = exchange.client(Role::Trader).unwrap();
    let orders = client.get_orders().status("resting").all().await.unwrap();
    orders.into_iter().map(|order| order.order_id).collect()
}

#[tokio::test]
async fn orders_are_those_of_the_engine_under_faults_and_lag() {
    let exchange = Exchange::start().await.unwrap();
    let journal = journal();
    let mut trading = start(&exchange, journal.clone()).await;
    let client = exchange.client(Role::Trader).unwrap();
    let ticker = ticker(&client).await;
    let millis = Duration::from_millis;
    exchange.set_lag(Lag::none().with_reads(millis(100)..=millis(400)).with_streams(millis(50)));
    fault(&exchange, OperationId::CreateOrderV2, FaultKind::ResetAfter, 4);
    fault(&exchange, OperationId::CreateOrderV2, FaultKind::TooManyRequests, 5);
    fault(&exchange, OperationId::CreateOrderV2, FaultKind::Duplicate, 3);
    fault(&exchange, OperationId::CancelOrderV2, FaultKind::ResetAfter, 3);
    fault(&exchange, OperationId::GetOrders, FaultKind::status(503), 4);
    let mut placed = Vec::new();
    for number in 0..12 {
        let order = order(&ticker, BookSide::Bid, "0.0100", "1.00");
        placed.push(trading.place(order, WITHIN).unwrap());
        if number == 6 {
            // What comes meanwhile is missed by the stream.
            exchange.streams().cut(Role::Trader).unwrap();
        }
    }
    let own = |trading: &Trading, life: Life| {
        let orders = trading.orders().iter();
        orders.filter(|(_, order)| order.is_own() && order.life() == life).count()
    };
    wait(&mut trading, |trading| own(trading, Life::Resting) == 12).await;
    let keys: Vec<OrderKey> = trading.orders().own_open().map(|(key, _)| key).collect();
    for key in keys.iter().take(6) {
        let canceled = trading.cancel(*key).await.unwrap();
        let is_expected = matches!(canceled, Canceled::Accepted | Canceled::Unknown(_));
        assert!(is_expected, "{canceled:?}");
    }
    let is_over = |trading: &Trading| {
        let orders = trading.orders().iter();
        let over = orders.filter(|(_, order)| order.is_own() && order.is_closed());
        over.count() == 6 && trading.is_current()
    };
    wait(&mut trading, is_over).await;
    assert_eq!(own(&trading, Life::Resting), 6);
    assert_eq!(resting(&trading), resting_there(&exchange).await);
    // One order for each, and each is settled.
    let all = client.get_orders().ticker(&*ticker).all().await.unwrap();
    for placement in &placed {
        let id = placement.id().as_str();
        assert_eq!(all.iter().filter(|order| order.client_order_id == id).count(), 1);
        assert!(matches!(placement.outcome().await, PlacementState::Accepted { .. }));
    }
    assert_eq!(journal.history().unsettled().len(), 0);
}

#[tokio::test]
async fn fills_are_told_once_and_the_end_after_them() {
    let exchange = Exchange::start().await.unwrap();
    let mut trading = start(&exchange, journal()).await;
    let client = exchange.client(Role::Trader).unwrap();
    let ticker = ticker(&client).await;
    let maker = exchange.client(Role::Maker).unwrap();
    let ask = order(&ticker, BookSide::Ask, "0.9900", "2.00");
    maker.create_order_v2().body(ask).send().await.unwrap();
    let placement = trading.place(order(&ticker, BookSide::Bid, "0.9900", "2.00"), WITHIN).unwrap();
    let id = placement.id().as_str().to_owned();
    let is_closed = |trading: &Trading| {
        let key = trading.orders().by_client_order_id(&id);
        key.and_then(|key| trading.orders().get(key)).is_some_and(ManagedOrder::is_closed)
    };
    let events = wait(&mut trading, is_closed).await;
    let key = trading.orders().by_client_order_id(&id).unwrap();
    let told: i64 = events
        .iter()
        .filter_map(|event| match event {
            OrderEvent::Filled { order, count, .. } if *order == key => Some(count.as_hundredths()),
            _ => None,
        })
        .sum();
    let order = trading.orders().get(key).unwrap();
    assert_eq!(Count::from_hundredths(told), order.filled());
    assert_eq!(order.filled(), "2.00".parse().unwrap());
    let there = client.get_order().order_id(order.order_id().unwrap()).send().await.unwrap();
    assert_eq!(order.filled(), there.order.fill_count_fp);
    let is_over = |event: &&OrderEvent| matches!(event, OrderEvent::Over { .. });
    let over: Vec<_> = events.iter().filter(is_over).collect();
    assert_eq!(over, [&OrderEvent::Over { order: key, reason: OverReason::Executed }]);
}

#[tokio::test]
async fn a_foreign_order_is_seen_and_is_not_canceled() {
    let exchange = Exchange::start().await.unwrap();
    let mut trading = start(&exchange, journal()).await;
    let client = exchange.client(Role::Trader).unwrap();
    let ticker = ticker(&client).await;
    let body = order(&ticker, BookSide::Bid, "0.0100", "3.00");
    let answer = client.create_order_v2().body(body).send().await.unwrap();
    let order_id = answer.order_id.clone();
    let is_seen = |trading: &Trading| trading.orders().by_order_id(&order_id).is_some();
    let events = wait(&mut trading, is_seen).await;
    let key = trading.orders().by_order_id(&order_id).unwrap();
    assert!(events.contains(&OrderEvent::Foreign { order: key }));
    assert_eq!(trading.cancel(key).await.unwrap_err(), IntentError::Foreign);
    let (price, count): (Dollars, Count) = ("0.01".parse().unwrap(), "3".parse().unwrap());
    let mut found = trading.orders().resting_in(&ticker);
    assert!(found.any(|order| order.yes_price == price && order.count == count));
}

#[tokio::test]
async fn a_new_handle_finds_what_an_old_one_left() {
    let exchange = Exchange::start().await.unwrap();
    let journal = journal();
    let mut trading = start(&exchange, journal.clone()).await;
    let ticker = ticker(&exchange.client(Role::Trader).unwrap()).await;
    let placement = trading.place(order(&ticker, BookSide::Bid, "0.0100", "1.00"), WITHIN).unwrap();
    placement.outcome().await;
    drop(trading);
    let mut trading = start(&exchange, journal).await;
    let key = trading.orders().by_client_order_id(placement.id().as_str()).unwrap();
    assert_eq!(trading.orders().get(key).unwrap().life(), Life::Resting);
    assert!(trading.orders().own_open().any(|(own, _)| own == key));
    // Somebody cancels it elsewhere.
    let order_id = trading.orders().get(key).unwrap().order_id().unwrap().to_owned();
    let client = exchange.client(Role::Trader).unwrap();
    client.cancel_order_v2().order_id(order_id).market_ticker(ticker).send().await.unwrap();
    let events = wait(&mut trading, |trading| trading.orders().get(key).unwrap().is_closed()).await;
    assert!(events.contains(&OrderEvent::Over { order: key, reason: OverReason::Canceled }));
}

#[test]
fn a_client_without_credentials_gives_out_no_handle() {
    let client = Client::builder().with_environment(Environment::Demo).build().unwrap();
    let error = Trading::builder(client, journal()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn an_exit_leaves_no_order_that_was_placed_here() {
    let exchange = Exchange::start().await.unwrap();
    let mut trading = start(&exchange, journal()).await;
    let client = exchange.client(Role::Trader).unwrap();
    let ticker = ticker(&client).await;
    let by_hand = order(&ticker, BookSide::Bid, "0.0200", "1.00");
    let by_hand = client.create_order_v2().body(by_hand).send().await.unwrap().order_id.clone();
    let millis = Duration::from_millis;
    exchange.set_lag(Lag::none().with_reads(millis(50)..=millis(200)).with_streams(millis(50)));
    fault(&exchange, OperationId::CreateOrderV2, FaultKind::ResetAfter, 4);
    // Answers are lost, and requests fail: each is repeated.
    for kind in [FaultKind::ResetAfter, FaultKind::status(503), FaultKind::TooManyRequests] {
        let fault = Fault::builder(kind).with_operation(OperationId::BatchCancelOrdersV2);
        exchange.faults().add(fault.with_times(1).build()).unwrap();
    }
    for _ in 0..25 {
        let bid = order(&ticker, BookSide::Bid, "0.0100", "1.00");
        trading.place(bid, WITHIN).unwrap();
    }
    let exited = trading.exit(WITHIN).await;
    assert!(exited.is_clean(), "{exited:?}");
    let refused = trading.place(order(&ticker, BookSide::Bid, "0.0100", "1.00"), WITHIN);
    assert!(matches!(refused, Err(PlaceError::Exiting)));
    assert_eq!(resting_there(&exchange).await, BTreeSet::from([by_hand.clone()]));
    let foreign: Vec<_> = exited.foreign.iter().map(|key| trading.orders().get(*key)).collect();
    let foreign: Vec<_> =
        foreign.into_iter().flatten().filter_map(ManagedOrder::order_id).collect();
    assert_eq!(foreign, [by_hand]);
}

#[tokio::test]
async fn an_exit_without_time_says_what_it_leaves() {
    let exchange = Exchange::start().await.unwrap();
    let mut trading = start(&exchange, journal()).await;
    let client = exchange.client(Role::Trader).unwrap();
    let ticker = ticker(&client).await;
    trading.place(order(&ticker, BookSide::Bid, "0.0100", "1.00"), WITHIN).unwrap();
    wait(&mut trading, |trading| resting(trading).len() == 1).await;
    // No cancel comes through, in a batch or by itself.
    fault(&exchange, OperationId::BatchCancelOrdersV2, FaultKind::status(503), 1);
    fault(&exchange, OperationId::CancelOrderV2, FaultKind::status(503), 1);
    let exited = trading.exit(Duration::from_millis(300)).await;
    assert!(!exited.is_clean());
    assert_eq!(exited.resting.len(), 1);
    exchange.faults().clear();
    assert!(trading.exit(WITHIN).await.is_clean(), "it can be called again");
    assert!(resting_there(&exchange).await.is_empty());
}

/// A loop with a timer drops the future of `next` again and again.
#[tokio::test]
async fn what_is_read_goes_on_though_next_is_dropped() {
    let exchange = Exchange::start().await.unwrap();
    // Each read takes longer than the future lives.
    let slow = Fault::builder(FaultKind::latency(Duration::from_millis(100)));
    exchange.faults().add(slow.build()).unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let mut trading = Trading::builder(client, journal()).unwrap().start().await.unwrap();
    let mut dropped = 0;
    while !trading.is_current() {
        dropped += u32::from(
            tokio::time::timeout(Duration::from_millis(10), trading.next()).await.is_err(),
        );
        assert!(dropped < 6_000, "a minute has passed");
    }
    assert!(dropped > 5, "{dropped}");
}
