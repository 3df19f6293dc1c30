//! Placements under a budget: what waits for its tokens can be withdrawn, and is not sent late.

use std::time::Duration;

use kalshi_sdk::{Client, operation::Lane, types::BookSide};
use kalshi_sim::{Exchange, MarketPlan, Role, Tier};
use kalshi_trade::{
    budget::{BucketKey, Budget, Charge, Class, Permit, Pool, RequestOptions, WithBudget as _},
    journal::{Journal as _, MemoryJournal, OrderChange},
    orders::{Life, OrderEvent, OrderKey, OverReason},
    placement::{ChangeState, ChangeTarget, PlacementState, Placements, WithdrawnCause},
    retry::Retry,
    trading::{Canceled, Trading},
};
use kalshi_types::{Count, Dollars, UnixMillis};
use tokio::time::sleep;

use crate::support::{TICKER, limit};

const WRITES: BucketKey = BucketKey::new(Lane::EventContracts, Pool::Write);
const WITHIN: Duration = Duration::from_secs(60);
const WITHDRAWN: PlacementState = PlacementState::Withdrawn(WithdrawnCause::Caller);

/// An exchange, and a client whose budget waits as long as it takes.
struct Setup {
    exchange: Exchange,
    budget: Budget,
    client: Client,
    journal: MemoryJournal,
}

impl Setup {
    async fn new() -> Self {
        let exchange = Exchange::builder().with_tier(Tier::Basic).start().await.unwrap();
        exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
        let patience = Duration::from_secs(600);
        let budget = Budget::builder().with_write_deadline(patience).with_deadline(patience);
        let budget = budget.build();
        let client = Client::builder()
            .with_environment(exchange.environment())
            .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
            // A layer that repeats does not repeat what was withdrawn.
            .with_middleware(Retry::default())
            .with_budget(&budget)
            .build()
            .unwrap();
        let journal = MemoryJournal::new(1, UnixMillis::EPOCH);
        Self { exchange, budget, client, journal }
    }

    fn placements(&self) -> Placements {
        Placements::builder(self.client.clone(), self.journal.clone()).start().unwrap()
    }

    /// Takes all tokens for writes until the permit is dropped.
    async fn take_all(&self) -> Permit {
        while self.budget.available(WRITES) < 100 {
            sleep(Duration::from_millis(5)).await;
        }
        let options = RequestOptions::new().with_class(Class::Emergency);
        self.budget.acquire(Charge::single(WRITES, 100), options).await.unwrap()
    }

    /// Waits until so many requests wait for their tokens.
    async fn waiting(&self, requests: usize) {
        while self.budget.waiting() < requests {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn requests(&self, operation: &str) -> usize {
        let requests = self.exchange.requests();
        requests.iter().filter(|request| request.operation == operation).count()
    }
}

fn bid() -> kalshi_sdk::types::CreateOrderV2Request {
    let mut order = limit(TICKER, BookSide::Bid, "0.0100", "10.00");
    order.exchange_index = Some(0.into());
    order
}

fn to_two_cents() -> OrderChange {
    OrderChange::Amend {
        side: BookSide::Bid,
        yes_price: Dollars::from_cents(2).unwrap(),
        total: Count::from_contracts(10).unwrap(),
        expires: None,
    }
}

#[tokio::test]
async fn an_order_that_is_withdrawn_while_it_waits_for_its_tokens_is_never_sent() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let permit = setup.take_all().await;
    let placement = placements.place_within(bid(), WITHIN).unwrap();
    setup.waiting(1).await;
    assert_eq!(placement.state(), PlacementState::Sent { attempt: 1 });
    placement.withdraw();
    assert_eq!(placement.outcome().await, WITHDRAWN);
    assert_eq!(setup.budget.waiting(), 0);
    drop(permit);
    assert_eq!(
        (setup.requests("create_order_v2"), setup.journal.history().unsettled().len()),
        (0, 0)
    );
}

#[tokio::test]
async fn an_order_is_not_sent_after_its_time_however_long_the_queue_is() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let permit = setup.take_all().await;
    let late = placements.place_within(bid(), Duration::from_millis(30)).unwrap();
    let patient = placements.place_within(bid(), WITHIN).unwrap();
    sleep(Duration::from_millis(50)).await;
    drop(permit);
    assert_eq!(late.outcome().await, PlacementState::Withdrawn(WithdrawnCause::Deadline));
    assert!(matches!(patient.outcome().await, PlacementState::Accepted { .. }));
    assert_eq!(setup.requests("create_order_v2"), 1);
}

#[tokio::test]
async fn a_batch_leaves_the_queue_when_all_of_it_is_withdrawn() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let permit = setup.take_all().await;
    let gone = placements.place_all([bid(), bid()], WITHIN).unwrap();
    let kept = placements.place_all([bid(), bid()], WITHIN).unwrap();
    setup.waiting(2).await;
    for placement in &gone {
        assert_eq!(placement.state(), PlacementState::Sent { attempt: 1 });
        placement.withdraw();
    }
    kept[0].withdraw();
    for placement in &gone {
        assert_eq!(placement.outcome().await, WITHDRAWN);
    }
    assert_eq!(setup.budget.waiting(), 1);
    drop(permit);
    // One of the others is wanted: both are sent.
    for placement in &kept {
        assert!(matches!(placement.outcome().await, PlacementState::Accepted { .. }));
    }
    let sent = setup.requests("batch_create_orders_v2");
    assert_eq!((sent, setup.requests("create_order_v2")), (1, 0));
}

#[tokio::test]
async fn a_change_that_is_withdrawn_while_it_waits_for_its_tokens_is_never_sent() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let placement = placements.place_within(bid(), WITHIN).unwrap();
    let PlacementState::Accepted { order_id } = placement.outcome().await else {
        panic!("{:?}", placement.state())
    };
    let target = ChangeTarget::new(order_id, TICKER).with_exchange_index(Some(0));
    let permit = setup.take_all().await;
    let withdrawn = ChangeState::Withdrawn(WithdrawnCause::Caller);
    for change in [to_two_cents(), OrderChange::Cancel] {
        let change = placements.change(target.clone(), change, WITHIN).unwrap();
        setup.waiting(1).await;
        change.withdraw();
        assert_eq!(change.outcome().await, withdrawn);
        assert_eq!(setup.budget.waiting(), 0);
    }
    let late = placements.change(target, to_two_cents(), Duration::from_millis(30)).unwrap();
    sleep(Duration::from_millis(50)).await;
    drop(permit);
    assert_eq!(late.outcome().await, ChangeState::Withdrawn(WithdrawnCause::Deadline));
    assert_eq!((setup.requests("amend_order_v2"), setup.requests("cancel_order_v2")), (0, 0));
}

/// Starts a handle whose one order rests.
async fn resting(setup: &Setup) -> (Trading, OrderKey) {
    let builder = Trading::builder(setup.client.clone(), setup.journal.clone()).unwrap();
    let mut trading = builder.with_budget(&setup.budget).start().await.unwrap();
    while !trading.is_current() {
        trading.next().await.unwrap();
    }
    trading.place(bid(), WITHIN).unwrap();
    loop {
        for event in trading.next().await.unwrap() {
            if let OrderEvent::Resting { order } = event {
                return (trading, order);
            }
        }
    }
}

#[tokio::test]
async fn a_cancel_takes_what_waits_out_of_the_queue_and_goes_first() {
    let setup = Setup::new().await;
    let (mut trading, key) = resting(&setup).await;
    let permit = setup.take_all().await;
    let placement = trading.place(bid(), WITHIN).unwrap();
    let change =
        trading.amend(key, "0.02".parse().unwrap(), "10".parse().unwrap(), WITHIN).unwrap();
    setup.waiting(2).await;
    // The manager has heard of it.
    while trading.orders().by_client_order_id(placement.id().as_str()).is_none() {
        trading.next().await.unwrap();
    }
    let unsent = trading.orders().by_client_order_id(placement.id().as_str()).unwrap();
    assert!(matches!(trading.cancel(unsent).await.unwrap(), Canceled::Withdrawn));
    assert_eq!(placement.outcome().await, WITHDRAWN);
    let (canceled, ()) = tokio::join!(trading.cancel(key), async {
        assert_eq!(change.outcome().await, ChangeState::Withdrawn(WithdrawnCause::Caller));
        drop(permit);
    });
    assert!(matches!(canceled.unwrap(), Canceled::Accepted));
    let is_over =
        |trading: &Trading, key| matches!(trading.orders().get(key).unwrap().life(), Life::Over(_));
    while !is_over(&trading, key) || !is_over(&trading, unsent) {
        trading.next().await.unwrap();
    }
    assert_eq!(trading.orders().get(unsent).unwrap().life(), Life::Over(OverReason::NotPlaced));
    assert_eq!((setup.requests("create_order_v2"), setup.requests("amend_order_v2")), (1, 0));
}

#[tokio::test]
async fn an_exit_sends_nothing_of_what_waits_but_cancels() {
    let setup = Setup::new().await;
    let (mut trading, key) = resting(&setup).await;
    let permit = setup.take_all().await;
    let mut placed = vec![trading.place(bid(), WITHIN).unwrap()];
    placed.extend(trading.place_all([bid(), bid()], WITHIN).unwrap());
    let change =
        trading.amend(key, "0.02".parse().unwrap(), "10".parse().unwrap(), WITHIN).unwrap();
    setup.waiting(3).await;
    let (exited, ()) = tokio::join!(trading.exit(WITHIN), async {
        for placement in &placed {
            assert_eq!(placement.outcome().await, WITHDRAWN);
        }
        assert_eq!(change.outcome().await, ChangeState::Withdrawn(WithdrawnCause::Caller));
        // The cancel is the only one that is left.
        while setup.budget.waiting() != 1 {
            sleep(Duration::from_millis(1)).await;
        }
        drop(permit);
    });
    assert!(exited.is_clean(), "{exited:?}");
    let sent = ["create_order_v2", "batch_create_orders_v2", "amend_order_v2"];
    assert_eq!(sent.map(|operation| setup.requests(operation)), [1, 0, 0]);
}

#[tokio::test]
async fn tokens_are_kept_for_the_cancels_of_the_orders_that_are_open() {
    let setup = Setup::new().await;
    let (mut trading, _) = resting(&setup).await;
    // The capacity less two, and two more for each open order.
    let room = async || {
        let options = RequestOptions::new().with_class(Class::Normal);
        let charge = Charge::single(WRITES, 100);
        let refused = setup.budget.acquire(charge, options).await.unwrap_err();
        refused.to_string()
    };
    let one = room().await;
    assert!(one.contains("room for 96"), "{one}");
    for _ in 0..3 {
        trading.place(bid(), WITHIN).unwrap();
    }
    while trading.orders().own_open().count() < 4 {
        trading.next().await.unwrap();
    }
    let four = room().await;
    assert!(four.contains("room for 90"), "{four}");
    assert!(trading.exit(WITHIN).await.is_clean());
    let none = room().await;
    assert!(none.contains("room for 98"), "{none}");
}
