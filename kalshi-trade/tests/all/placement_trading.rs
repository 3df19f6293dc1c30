//! The handle over the simulator: orders that are changed, batches, and orders of earlier sessions.

use std::{path::PathBuf, time::Duration};

use kalshi_sdk::{
    OperationId,
    types::{BookSide, CreateOrderV2Request},
};
use kalshi_sim::{Exchange, Fault, FaultKind, Role};
use kalshi_trade::{
    journal::{FileJournal, Journal, MemoryJournal},
    orders::{IntentError, Life, OrderEvent, OrderIntent, OrderKey, OverReason},
    placement::{ChangeState, PlacementState},
    trading::{Canceled, Trading},
};
use kalshi_types::{Count, Dollars, UnixMillis};
use tokio::runtime::Runtime;

use crate::support::{limit, open_market};

const WITHIN: Duration = Duration::from_secs(120);

async fn order(exchange: &Exchange) -> CreateOrderV2Request {
    let client = exchange.client(Role::Trader).unwrap();
    limit(&open_market(&client).await, BookSide::Bid, "0.0100", "10.00")
}

async fn start(exchange: &Exchange, journal: impl Journal + 'static) -> (Trading, Vec<OrderEvent>) {
    let client = exchange.client(Role::Trader).unwrap();
    let mut trading = Trading::builder(client, journal).unwrap().start().await.unwrap();
    let events = wait(&mut trading, |trading, _| trading.is_current()).await;
    (trading, events)
}

fn journal() -> MemoryJournal {
    MemoryJournal::new(1, UnixMillis::EPOCH)
}

async fn wait(
    trading: &mut Trading,
    is_there: impl Fn(&Trading, &[OrderEvent]) -> bool,
) -> Vec<OrderEvent> {
    let mut events = Vec::new();
    while !is_there(trading, &events) {
        events.extend(trading.next().await.unwrap());
    }
    events
}

/// Places an order, and returns its key when it rests.
async fn resting(exchange: &Exchange, trading: &mut Trading) -> OrderKey {
    let placement = trading.place(order(exchange).await, WITHIN).unwrap();
    let id = placement.id().as_str().to_owned();
    let key = |trading: &Trading| {
        let key = trading.orders().by_client_order_id(&id)?;
        (trading.orders().get(key)?.life() == Life::Resting).then_some(key)
    };
    wait(trading, |trading, _| key(trading).is_some()).await;
    key(trading).unwrap()
}

fn fault(exchange: &Exchange, operation: OperationId, kind: FaultKind) {
    let fault = Fault::builder(kind).with_operation(operation).with_times(1).build();
    exchange.faults().add(fault).unwrap();
}

fn has_ended(events: &[OrderEvent], key: OrderKey) -> Option<bool> {
    events.iter().find_map(|event| match event {
        OrderEvent::IntentEnded { order, is_reached, .. } if *order == key => Some(*is_reached),
        _ => None,
    })
}

fn is_over(trading: &Trading, key: OrderKey) -> bool {
    let life = trading.orders().get(key).unwrap().life();
    matches!(life, Life::Over(OverReason::Canceled | OverReason::Gone))
}

#[tokio::test]
async fn a_change_ends_by_an_event_also_when_its_answer_is_lost() {
    let exchange = Exchange::start().await.unwrap();
    let (mut trading, _) = start(&exchange, journal()).await;
    let key = resting(&exchange, &mut trading).await;
    for is_lost in [false, true] {
        if is_lost {
            fault(&exchange, OperationId::AmendOrderV2, FaultKind::ResetAfter);
        }
        let price = Dollars::from_cents(if is_lost { 3 } else { 2 }).unwrap();
        let total = Count::from_contracts(8).unwrap();
        let change = trading.amend(key, price, total, WITHIN).unwrap();
        let again = trading.decrease(key, total, WITHIN).unwrap_err();
        assert_eq!(again, IntentError::Pending);
        let ended = |_: &Trading, events: &[OrderEvent]| has_ended(events, key).is_some();
        let events = wait(&mut trading, ended).await;
        assert_eq!(has_ended(&events, key), Some(true));
        assert_eq!(change.outcome().await, ChangeState::Reached);
        let record = trading.orders().get(key).unwrap().record().unwrap();
        assert_eq!((record.yes_price, record.remaining), (price, total));
    }
    let left = Count::from_contracts(2).unwrap();
    trading.decrease(key, left, WITHIN).unwrap();
    let is_left = |trading: &Trading, _: &[OrderEvent]| {
        trading.orders().get(key).unwrap().remaining() == left
    };
    wait(&mut trading, is_left).await;
    exchange.faults().assert_all_hit();
}

#[tokio::test]
async fn a_change_that_is_refused_leaves_the_order_as_it_is() {
    let exchange = Exchange::start().await.unwrap();
    let (mut trading, _) = start(&exchange, journal()).await;
    let key = resting(&exchange, &mut trading).await;
    // It has no more than that already, which ends the intent as well.
    let change = trading.decrease(key, Count::from_contracts(11).unwrap(), WITHIN).unwrap();
    assert!(matches!(change.outcome().await, ChangeState::Refused(_)));
    wait(&mut trading, |trading, _| {
        trading.orders().get(key).unwrap().intent() == OrderIntent::None
    })
    .await;
    // The next is taken.
    trading.decrease(key, Count::from_contracts(1).unwrap(), WITHIN).unwrap();
}

#[tokio::test]
async fn a_cancel_goes_on_by_itself_until_the_order_is_over() {
    let exchange = Exchange::start().await.unwrap();
    let (mut trading, _) = start(&exchange, journal()).await;
    let key = resting(&exchange, &mut trading).await;
    let lost = Fault::builder(FaultKind::ResetBefore).with_operation(OperationId::CancelOrderV2);
    exchange.faults().add(lost.with_times(2).build()).unwrap();
    let canceled = trading.cancel(key).await.unwrap();
    assert!(matches!(canceled, Canceled::Unknown(_)), "{canceled:?}");
    wait(&mut trading, |trading, _| is_over(trading, key)).await;
    exchange.faults().assert_all_hit();
}

#[tokio::test]
async fn a_batch_is_followed_order_by_order() {
    let exchange = Exchange::start().await.unwrap();
    let (mut trading, _) = start(&exchange, journal()).await;
    let orders = [order(&exchange).await, order(&exchange).await, order(&exchange).await];
    let placed = trading.place_all(orders, WITHIN).unwrap();
    for placement in &placed {
        assert!(matches!(placement.outcome().await, PlacementState::Accepted { .. }));
    }
    let are_there = |trading: &Trading, _: &[OrderEvent]| {
        placed.iter().all(|placement| {
            let key = trading.orders().by_client_order_id(placement.id().as_str());
            let order = key.and_then(|key| trading.orders().get(key));
            order.is_some_and(|order| order.is_own() && order.life() == Life::Resting)
        })
    };
    wait(&mut trading, are_there).await;
    assert!(trading.exit(WITHIN).await.is_clean());
}

struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn an_order_that_was_compacted_away_and_rests_is_no_foreign_order() {
    let name = format!("kalshi-trade-placement-{}", std::process::id());
    let files = Files(std::env::temp_dir().join(name));
    std::fs::create_dir_all(&files.0).unwrap();
    let path = files.0.join("journal");
    let exchange = Exchange::start().await.unwrap();
    let (mut trading, _) = start(&exchange, FileJournal::builder(&path).open().unwrap()).await;
    let key = resting(&exchange, &mut trading).await;
    let order_id = trading.orders().get(key).unwrap().order_id().unwrap().to_owned();
    while !trading.placements().open().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(trading);
    for _ in 0..2 {
        let journal = FileJournal::builder(&path).open().unwrap();
        journal.compact().unwrap();
        assert_eq!(journal.history().settled_count(), 0);
        let (mut trading, events) = start(&exchange, journal).await;
        let key = trading.orders().by_order_id(&order_id).unwrap();
        assert!(trading.orders().get(key).unwrap().is_own());
        assert!(!events.contains(&OrderEvent::Foreign { order: key }));
        // So it is changed as one's own, too.
        let total = Count::from_contracts(10).unwrap();
        let price = Dollars::from_cents(2).unwrap();
        let change = trading.amend(key, price, total, WITHIN).unwrap();
        assert_eq!(change.outcome().await, ChangeState::Reached);
        while !trading.placements().open_changes().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[test]
fn an_order_that_was_to_be_out_is_canceled_by_the_next_session() {
    let runtime = Runtime::new().unwrap();
    let exchange = runtime.block_on(Exchange::start()).unwrap();
    let journal = journal();
    let dying = Runtime::new().unwrap();
    let order_id = dying.block_on(async {
        let (mut trading, _) = start(&exchange, journal.clone()).await;
        let key = resting(&exchange, &mut trading).await;
        let lost =
            Fault::builder(FaultKind::ResetBefore).with_operation(OperationId::CancelOrderV2);
        exchange.faults().add(lost.build()).unwrap();
        let canceled = trading.cancel(key).await.unwrap();
        assert!(matches!(canceled, Canceled::Unknown(_)));
        trading.orders().get(key).unwrap().order_id().unwrap().to_owned()
    });
    dying.shutdown_timeout(Duration::from_secs(10));
    exchange.faults().clear();
    journal.reopen(2, UnixMillis::EPOCH).unwrap();
    runtime.block_on(async {
        let (mut trading, _) = start(&exchange, journal).await;
        // Nothing is asked for here.
        wait(&mut trading, |trading, _| {
            let key = trading.orders().by_order_id(&order_id);
            key.is_none_or(|key| is_over(trading, key))
        })
        .await;
        let restored = trading.placements().restored_changes();
        assert_eq!(restored.len(), 1);
        assert_eq!(restored[0].outcome().await, ChangeState::Reached);
        let client = exchange.client(Role::Trader).unwrap();
        let order = client.get_order().order_id(order_id).send().await.unwrap().into_inner().order;
        assert_eq!(order.status.as_str(), "canceled");
    });
}
