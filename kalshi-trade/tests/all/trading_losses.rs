//! Losses that nothing reports, and orders beside others whose outcome is unknown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use kalshi_sdk::{Client, OperationId, auth::Clock, types::BookSide};
use kalshi_sim::{Exchange, FaultKind, MarketPlan, Role, StreamFaults};
use kalshi_trade::{
    journal::MemoryJournal,
    orders::{Life, OrderKey},
    placement::{PlaceError, PlacementState},
    trading::{Trading, UnsettledPolicy},
};
use kalshi_types::{Count, UnixMillis};
use tokio::time::timeout;

use crate::{
    support::{TICKER, limit},
    trading::{fault, journal, wait},
};

const WITHIN: Duration = Duration::from_secs(600);

/// A clock that stands still unless it is moved.
#[derive(Debug)]
struct Still(AtomicI64);

impl Clock for Still {
    fn now(&self) -> UnixMillis {
        UnixMillis::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_fill_that_is_lost_in_silence_is_found_by_the_position_and_not_a_minute_later() {
    let clock = Arc::new(Still(AtomicI64::new(1_795_000_000_000)));
    let shared = || Arc::clone(&clock) as Arc<dyn Clock>;
    let exchange = Exchange::builder().with_clock(shared()).start().await.unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 864_000)).unwrap();
    let client = |role| {
        Client::builder()
            .with_environment(exchange.environment())
            .with_credentials(exchange.credentials(role).unwrap().clone())
            .with_clock(shared())
            .build()
            .unwrap()
    };
    let journal = MemoryJournal::new(1, clock.now());
    let builder = Trading::builder(client(Role::Trader), journal).unwrap();
    let mut trading = builder.with_clock(shared()).start().await.unwrap();
    // Each step is a twentieth of a second of the clock.
    let step = async |trading: &mut Trading| {
        clock.0.fetch_add(50, Ordering::SeqCst);
        let _ = timeout(Duration::from_millis(5), trading.next()).await;
    };
    while !trading.is_current() {
        step(&mut trading).await;
    }
    let bid = limit(TICKER, BookSide::Bid, "0.9000", "100.00");
    let placement = trading.place(bid, WITHIN).unwrap();
    let key = |trading: &Trading| trading.orders().by_client_order_id(placement.id().as_str());
    let order = |trading: &Trading| {
        let order = key(trading).and_then(|key: OrderKey| trading.orders().get(key));
        order.map(|order| (order.life(), order.filled()))
    };
    while order(&trading).is_none_or(|(life, _)| life != Life::Resting) {
        step(&mut trading).await;
    }
    let read = || {
        let requests = exchange.requests();
        requests.iter().filter(|request| request.operation == "get_positions").count()
    };
    let (began, reads) = (clock.now(), read());
    let trader = client(Role::Maker);
    let sell = async || {
        let ask = limit(TICKER, BookSide::Ask, "0.9000", "1.00");
        trader.create_order_v2().body(ask).send().await.unwrap();
    };
    // Some of these fills get lost; the position of the last one is not.
    let mut faults = StreamFaults::default();
    (faults.seed, faults.drop_one_in) = (7, 2);
    exchange.streams().set_faults(Role::Trader, faults).unwrap();
    for _ in 0..8 {
        sell().await;
        step(&mut trading).await;
    }
    for _ in 0..4 {
        step(&mut trading).await;
    }
    exchange.streams().set_faults(Role::Trader, StreamFaults::default()).unwrap();
    let known = order(&trading).unwrap().1;
    assert!(known < Count::from_contracts(8).unwrap(), "none was lost");
    sell().await;
    let all = Count::from_contracts(9).unwrap();
    while order(&trading).unwrap().1 < all {
        step(&mut trading).await;
        let passed = clock.now().abs_diff(began);
        assert!(passed < Duration::from_secs(50), "{:?} of {all}", order(&trading));
    }
    assert_eq!(order(&trading).unwrap(), (Life::Resting, all));
    assert!(read() > reads, "the account was read for it");
}

#[tokio::test]
async fn beside_an_order_whose_outcome_is_unknown_none_is_placed_if_that_is_wanted() {
    for policy in [UnsettledPolicy::Hold, UnsettledPolicy::Warn, UnsettledPolicy::Ignore] {
        let exchange = Exchange::start().await.unwrap();
        exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
        let builder = Trading::builder(exchange.client(Role::Trader).unwrap(), journal()).unwrap();
        let mut trading = builder.with_unsettled_policy(policy).start().await.unwrap();
        wait(&mut trading, Trading::is_current).await;
        // It never arrives, which takes a minute to prove.
        fault(&exchange, OperationId::CreateOrderV2, FaultKind::ResetBefore, 1);
        let bid = || limit(TICKER, BookSide::Bid, "0.0100", "1.00");
        let lost = trading.place(bid(), WITHIN).unwrap();
        while lost.state() != PlacementState::Settling {
            let _ = timeout(Duration::from_millis(5), trading.next()).await;
        }
        exchange.faults().clear();
        let beside = trading.place(bid(), WITHIN);
        let batch = trading.place_all([bid()], WITHIN);
        if policy == UnsettledPolicy::Hold {
            for refused in [beside.map(|_| ()), batch.map(|_| ())] {
                let is_named =
                    matches!(&refused, Err(PlaceError::Unsettled(id)) if id == lost.id().as_str());
                assert!(is_named, "{refused:?}");
            }
        } else {
            assert!(matches!(beside.unwrap().outcome().await, PlacementState::Accepted { .. }));
            batch.unwrap();
        }
        // The other side and what gets out of a position are not held back by it.
        let ask = limit(TICKER, BookSide::Ask, "0.9900", "1.00");
        trading.place(ask, WITHIN).unwrap();
        let mut reducing = bid();
        reducing.reduce_only = Some(true);
        reducing.time_in_force = kalshi_sdk::types::TimeInForce::ImmediateOrCancel;
        trading.place(reducing, WITHIN).unwrap();
    }
}
