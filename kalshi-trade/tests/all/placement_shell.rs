//! Placements over sockets, against the simulator and its faults.

use std::time::Duration;

use kalshi_sdk::{OperationId, auth::Clock, types::Order};
use kalshi_sim::{Fault, FaultKind, Lag, Role};
use kalshi_trade::{
    journal::{Journal, MemoryJournal, Settlement},
    placement::{PlaceError, Placement, PlacementState, Placements, WithdrawnCause},
};
use kalshi_ws::{Config, Connection, Environment, Event, Subscription};
use tokio::runtime::Runtime;

use crate::support::Setup;

/// Somewhat more than the window of a signature.
const WINDOW: Duration = Duration::from_secs(62);

impl Setup {
    fn fault_create(&self, kind: FaultKind) {
        self.fault(OperationId::CreateOrderV2, kind);
    }

    fn creates(&self) -> usize {
        self.requests("create_order_v2")
    }

    /// Returns the orders with the id, as the exchange has them.
    async fn orders(&self, placement: &Placement) -> Vec<Order> {
        self.exchange.set_lag(Lag::none());
        let orders = self.client.get_orders().ticker(&*self.ticker).all().await.unwrap();
        let id = placement.id().as_str();
        orders.into_iter().filter(|order| order.client_order_id == id).collect()
    }

    /// Checks that the order was accepted, and that there is one.
    async fn assert_accepted(&self, placement: &Placement) {
        let orders = self.orders(placement).await;
        assert_eq!(orders.len(), 1);
        let order_id = orders[0].order_id.clone();
        assert_eq!(placement.outcome().await, PlacementState::Accepted { order_id });
    }

    /// Waits until the outcome is in the journal.
    async fn settlement(&self, placement: &Placement) -> Settlement {
        loop {
            if let Some(settlement) = self.journal.history().settlement(placement.id().as_str()) {
                return settlement.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn wait_for(placement: &Placement, is_there: impl Fn(&PlacementState) -> bool) {
    while !is_there(&placement.state()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_order_is_placed_once_and_is_in_the_journal() {
    let setup = Setup::new().await;
    let placement = setup.placements().place(setup.bid("1.00")).unwrap();
    let PlacementState::Accepted { order_id } = placement.outcome().await else {
        panic!("{:?}", placement.state())
    };
    assert_eq!(setup.settlement(&placement).await, Settlement::Accepted { order_id });
    setup.assert_accepted(&placement).await;
    assert_eq!(setup.creates(), 1);
}

#[tokio::test]
async fn an_order_whose_answer_is_lost_is_found_and_not_sent_again() {
    for kind in [FaultKind::ResetAfter, FaultKind::TruncatedBody, FaultKind::Duplicate] {
        let setup = Setup::new().await;
        setup.exchange.set_lag(Lag::none().with_reads(Duration::from_millis(400)));
        setup.fault_create(kind);
        let placement = setup.placements().place(setup.bid("1.00")).unwrap();
        placement.outcome().await;
        setup.assert_accepted(&placement).await;
        assert_eq!(setup.creates(), 1, "{kind:?}");
        setup.exchange.faults().assert_all_hit();
    }
}

#[tokio::test]
async fn an_order_that_never_arrived_is_given_up_after_the_window_and_not_before() {
    for kind in [FaultKind::ResetBefore, FaultKind::status(503), FaultKind::status(408)] {
        let setup = Setup::new().await;
        setup.fault_create(kind);
        let placements = setup.placements();
        let placement = placements.place(setup.bid("1.00")).unwrap();
        wait_for(&placement, |state| *state == PlacementState::Settling).await;
        setup.advance(Duration::from_secs(30));
        // Lists without it have been read since.
        let lists = || {
            let requests = setup.exchange.requests();
            requests.iter().filter(|request| request.operation == "get_orders").count()
        };
        let before = lists();
        while lists() < before + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(placement.state(), PlacementState::Settling, "{kind:?}");
        setup.advance(WINDOW);
        assert_eq!(placement.outcome().await, PlacementState::GivenUp, "{kind:?}");
        assert_eq!(setup.settlement(&placement).await, Settlement::GivenUp);
        assert_eq!((setup.orders(&placement).await.len(), setup.creates()), (0, 1));
    }
}

#[tokio::test]
async fn an_order_that_is_carried_out_late_is_found() {
    let setup = Setup::new().await;
    setup.fault_create(FaultKind::late(Duration::from_secs(30)));
    let placement = setup.placements().place(setup.bid("1.00")).unwrap();
    wait_for(&placement, |state| *state == PlacementState::Settling).await;
    setup.advance(Duration::from_secs(31));
    placement.outcome().await;
    setup.assert_accepted(&placement).await;
    assert_eq!(setup.creates(), 1);
}

#[tokio::test]
async fn a_rate_limit_is_waited_for() {
    let setup = Setup::new().await;
    setup.fault_create(FaultKind::TooManyRequests);
    let placements = setup.placements();
    let placement = placements.place_within(setup.bid("1.00"), Duration::from_secs(60)).unwrap();
    placement.outcome().await;
    setup.assert_accepted(&placement).await;
    assert_eq!(setup.creates(), 2);
}

#[tokio::test]
async fn an_order_that_the_exchange_refuses_is_refused() {
    let setup = Setup::new().await;
    let mut order = setup.bid("1.00");
    order.count = "0.00".parse().unwrap();
    let placement = setup.placements().place(order).unwrap();
    let PlacementState::Refused(refusal) = placement.outcome().await else {
        panic!("{:?}", placement.state())
    };
    assert_eq!(refusal.status, 400);
    assert_eq!(setup.settlement(&placement).await, Settlement::Refused { status: 400 });
}

#[tokio::test]
async fn a_full_disk_sends_nothing() {
    let setup = Setup::new().await;
    setup.journal.set_full(true);
    let placements = setup.placements();
    for _ in 0..2 {
        let placement = placements.place(setup.bid("1.00")).unwrap();
        let withdrawn = PlacementState::Withdrawn(WithdrawnCause::Journal);
        assert_eq!(placement.outcome().await, withdrawn);
        // There is room again, but the journal has to be opened anew.
        setup.journal.set_full(false);
    }
    assert_eq!(setup.creates(), 0);
}

#[tokio::test]
async fn an_order_goes_on_when_its_handle_is_dropped() {
    let setup = Setup::new().await;
    setup.fault_create(FaultKind::ResetAfter);
    let placements = setup.placements();
    drop(placements.place(setup.bid("1.00")).unwrap());
    drop(placements);
    while setup.journal.history().settled_count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let orders = setup.client.get_orders().ticker(&*setup.ticker).all().await.unwrap();
    let ours = orders.iter().find(|order| order.client_order_id.starts_with("kt-")).unwrap();
    let settlement = setup.journal.history().settlement(&ours.client_order_id).cloned();
    let order_id = ours.order_id.clone();
    assert_eq!(settlement, Some(Settlement::Accepted { order_id }));
}

#[tokio::test]
async fn an_id_of_the_callers_is_refused() {
    let setup = Setup::new().await;
    let mut order = setup.bid("1.00");
    order.client_order_id = Some("mine".to_owned());
    let error = setup.placements().place(order).unwrap_err();
    assert!(matches!(error, PlaceError::HasClientOrderId));
}

#[tokio::test]
async fn a_message_of_the_stream_settles_without_any_read() {
    let setup = Setup::new().await;
    let config = Config::builder()
        .with_environment(Environment::Custom(setup.exchange.stream_url()))
        .with_credentials(setup.exchange.credentials(Role::Trader).unwrap().clone())
        .build()
        .unwrap();
    let mut connection = Connection::connect(config).await.unwrap();
    connection.handle().subscribe(Subscription::user_orders()).unwrap();
    while !matches!(connection.next().await, Some(Event::Subscribed { .. })) {}
    let failing =
        Fault::builder(FaultKind::status(500)).with_operation(OperationId::GetOrders).build();
    setup.exchange.faults().add(failing).unwrap();
    setup.fault_create(FaultKind::ResetAfter);
    let placements = setup.placements();
    let placement = placements.place(setup.bid("1.00")).unwrap();
    let outcome = placement.outcome();
    tokio::pin!(outcome);
    let state = loop {
        tokio::select! {
            state = &mut outcome => break state,
            event = connection.next() => placements.observe(&event.unwrap()),
        }
    };
    assert!(matches!(state, PlacementState::Accepted { .. }));
    setup.exchange.faults().clear();
    setup.assert_accepted(&placement).await;
}

#[test]
fn a_restart_settles_first_and_takes_orders_then() {
    let runtime = Runtime::new().unwrap();
    let setup = runtime.block_on(Setup::new());
    // Carried out, and answered when nobody waits any more.
    setup.fault_create(FaultKind::latency(Duration::from_secs(30)));
    let dying = Runtime::new().unwrap();
    let placement = dying.block_on(async {
        let placement = setup.placements().place(setup.bid("1.00")).unwrap();
        wait_for(&placement, |state| *state == PlacementState::Sent { attempt: 1 }).await;
        while setup.creates() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        placement
    });
    dying.shutdown_timeout(Duration::from_secs(10));
    // Nothing more is heard of it there.
    assert_eq!(placement.state(), PlacementState::Sent { attempt: 1 });

    setup.journal.reopen(2, setup.clock.now()).unwrap();
    // It cannot be settled before it has been looked at here.
    let unreadable = Fault::builder(FaultKind::status(500)).with_operation(OperationId::GetOrders);
    setup.exchange.faults().add(unreadable.build()).unwrap();
    runtime.block_on(async {
        let placements = setup.placements();
        assert_eq!(placements.restored().len(), 1);
        let restored = placements.restored()[0].clone();
        assert_eq!(restored.id(), placement.id());
        let error = placements.place(setup.bid("1.00")).unwrap_err();
        assert!(matches!(error, PlaceError::Restoring(1)));
        setup.exchange.faults().clear();
        placements.ready().await;
        setup.assert_accepted(&restored).await;
        let next = placements.place(setup.bid("1.00")).unwrap();
        next.outcome().await;
        setup.assert_accepted(&next).await;
        assert_ne!(next.id(), restored.id());
    });
}

#[tokio::test]
async fn an_identified_order_keeps_its_id_and_is_placed_once_for_it() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let mut order = setup.bid("1.00");
    let within = Duration::from_secs(1);
    let error = placements.place_identified(order.clone(), within).unwrap_err();
    assert!(matches!(error, PlaceError::Invalid(_)), "{error}");
    order.client_order_id = Some("chosen-1".to_owned());
    let placement = placements.place_identified(order.clone(), within).unwrap();
    assert_eq!(placement.id().as_str(), "chosen-1");
    placement.outcome().await;
    setup.assert_accepted(&placement).await;

    // Another journal, as after a restart elsewhere: the same id is the same order.
    let again = MemoryJournal::new(2, setup.clock.now());
    let elsewhere = Placements::builder(setup.client.clone(), again).start().unwrap();
    let second = elsewhere.place_identified(order, within).unwrap();
    second.outcome().await;
    setup.assert_accepted(&second).await;
    assert_eq!(setup.creates(), 2);
}

#[tokio::test]
async fn of_orders_with_the_same_id_at_the_same_time_one_is_taken() {
    let setup = Setup::new().await;
    setup.fault_create(FaultKind::latency(Duration::from_millis(300)));
    let placements = setup.placements();
    let mut order = setup.bid("1.00");
    order.client_order_id = Some("chosen-2".to_owned());
    let taken = std::thread::scope(|scope| {
        let place = || placements.place_identified(order.clone(), Duration::from_secs(5));
        let all: Vec<_> = (0..8).map(|_| scope.spawn(place)).collect();
        let all = all.into_iter().map(|one| one.join().unwrap());
        all.filter_map(Result::ok).collect::<Vec<_>>()
    });
    assert_eq!(taken.len(), 1);
    assert_eq!(placements.open().len(), 1);
    taken[0].outcome().await;
    setup.assert_accepted(&taken[0]).await;
    assert_eq!(setup.creates(), 1);
}
