//! Properties of the handle that cannot be seen from outside: streams that are closed, the order of reads, and a
//! clock that is set back.

use std::sync::atomic::{AtomicI64, Ordering};

use kalshi_sdk::types::{BookSide, SelfTradePreventionType};
use kalshi_sim::{Exchange, MarketPlan, Role};

use super::*;
use crate::journal::MemoryJournal;

const TICKER: &str = "KXTEST-26-A";

fn bid() -> CreateOrderV2Request {
    CreateOrderV2Request::builder()
        .ticker(TICKER)
        .side(BookSide::Bid)
        .price("0.0100")
        .count("1.00")
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .build()
        .unwrap()
}

/// The machine's clock, moved by some milliseconds.
#[derive(Debug, Default)]
struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> UnixMillis {
        let by = self.0.load(Ordering::SeqCst);
        UnixMillis::from_millis(SystemClock.now().as_millis() + by)
    }
}

async fn exchange() -> Exchange {
    let exchange = Exchange::start().await.unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    exchange
}

async fn start(exchange: &Exchange, clock: Option<Arc<dyn Clock>>) -> Trading {
    let client = exchange.client(Role::Trader).unwrap();
    let journal = MemoryJournal::new(1, UnixMillis::EPOCH);
    let mut builder = Trading::builder(client, journal).unwrap();
    if let Some(clock) = clock {
        builder = builder.with_clock(clock);
    }
    let mut trading = builder.start().await.unwrap();
    while !trading.is_current() {
        trading.next().await.unwrap();
    }
    trading
}

/// Places an order, and waits until it is known to rest.
async fn rest(trading: &mut Trading) -> OrderKey {
    let placement = trading.place(bid(), Duration::from_secs(60)).unwrap();
    let id = placement.id().as_str().to_owned();
    loop {
        let key = trading.orders.by_client_order_id(&id);
        let order = key.and_then(|key| trading.orders.get(key));
        if let Some(key) = key.filter(|_| order.is_some_and(|one| one.life() == Life::Resting)) {
            return key;
        }
        trading.next().await.unwrap();
    }
}

async fn resting_there(exchange: &Exchange) -> usize {
    let client = exchange.client(Role::Trader).unwrap();
    client.get_orders().status("resting").all().await.unwrap().len()
}

#[tokio::test]
async fn an_exit_goes_on_without_the_streams() {
    let exchange = exchange().await;
    let mut trading = start(&exchange, None).await;
    rest(&mut trading).await;
    // One that the streams have not shown.
    trading.place(bid(), Duration::from_secs(60)).unwrap().outcome().await;
    trading.connection.close().await;
    while trading.next().await.is_some() {}
    assert_eq!(resting_there(&exchange).await, 2);
    // Well before the account would be read by itself.
    let exited = trading.exit(RECONCILE_EVERY / 2).await;
    assert!(exited.is_clean(), "{exited:?}");
    assert_eq!(resting_there(&exchange).await, 0);
    let over = exited.events.iter().filter(|event| matches!(event, OrderEvent::Over { .. }));
    assert_eq!(over.count(), 2, "{exited:?}");
}

#[tokio::test]
async fn a_read_that_fails_does_not_hold_the_others_up() {
    let exchange = exchange().await;
    let mut trading = start(&exchange, None).await;
    let (first, second) = (rest(&mut trading).await, rest(&mut trading).await);
    assert!(first < second);
    let failed = || client_error(&exchange);
    let now = trading.clock.now();
    let ago = |millis| now.saturating_sub(Duration::from_millis(millis));
    for key in [first, second] {
        trading.orders.set_intent(key, OrderIntent::Cancel, false).unwrap();
    }
    trading.reads.insert(first, (Read::Order, ago(1)));
    trading.reads.insert(second, (Read::Order, ago(2)));
    assert_eq!(trading.due_read(now), Some((second, Read::Order)), "the oldest goes first");
    trading.reads.insert(first, (Read::Order, ago(3)));
    drop(trading.begin(now).unwrap());
    // While it is on its way, it is not due, however long it takes.
    assert_eq!(trading.due_read(now), Some((second, Read::Order)));
    trading.take_done(Done::Order(first, Err(failed().await)));
    let (_, again) = trading.reads[&first];
    assert!(again >= now.saturating_add(RETRY_AFTER) && again < ON_ITS_WAY, "{again}");
    assert_eq!(trading.due_read(now), Some((second, Read::Order)));
    // One that is asked for while it is on its way is made again.
    drop(trading.begin(now).unwrap());
    trading.reads.insert(second, (Read::Order, now));
    trading.take_done(Done::Order(second, Err(failed().await)));
    assert_eq!(trading.due_read(now), Some((second, Read::Order)));
}

async fn client_error(exchange: &Exchange) -> Error {
    let client = exchange.client(Role::Trader).unwrap();
    client.get_order().order_id("none").send().await.unwrap_err()
}

#[tokio::test]
async fn a_clock_that_is_set_back_puts_off_no_read() {
    let exchange = exchange().await;
    let began = SystemClock.now();
    let clock = Arc::new(Moved::default());
    let mut trading = start(&exchange, Some(clock.clone())).await;
    let key = rest(&mut trading).await;
    trading.reads.insert(key, (Read::Order, began.saturating_add(RETRY_AFTER)));
    clock.0.store(-3_600_000, Ordering::SeqCst);
    let now = clock.now();
    trading.follow_clock(now);
    assert!(trading.reconcile_at <= now.saturating_add(RECONCILE_EVERY));
    assert!(trading.reads[&key].1 <= now.saturating_add(RETRY_AFTER));
    let status_at = trading.pauses.next_at();
    assert!(status_at.is_some_and(|at| at <= now.saturating_add(STATUS_EVERY)), "{status_at:?}");
}

#[test]
fn a_cancel_whose_task_has_ended_with_its_runtime_is_unknown() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let (mut trading, key) = first.block_on(async {
        let exchange = exchange().await;
        let mut trading = start(&exchange, None).await;
        let key = rest(&mut trading).await;
        (trading, key)
    });
    drop(first);
    let canceled = second.block_on(trading.cancel(key)).unwrap();
    assert!(matches!(canceled, Canceled::Unknown(None)), "{canceled:?}");
}
