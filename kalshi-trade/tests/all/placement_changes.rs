//! Amends, decreases, cancels and batches: the rules of a change one by one, and all of it over
//! sockets, against the simulator and its faults.

use std::time::Duration;

use kalshi_sdk::{
    OperationId,
    auth::Clock,
    types::{BookSide, Order},
};
use kalshi_sim::{Fault, FaultKind, Lag};
use kalshi_trade::{
    journal::{ChangeIntent, ChangeSettlement, Journal, KnownOrder, OrderChange, Record},
    placement::{
        Change, ChangeAnswer, ChangeError, ChangeInput, ChangeMachine, ChangeState, ChangeStep,
        ChangeTarget, ChangeTimes, OrderView, PlacementConfig, PlacementState, Placements, Refusal,
        UndecidedCause, WithdrawnCause,
    },
};
use kalshi_types::{Count, Dollars, UnixMillis};
use tokio::runtime::Runtime;

use crate::support::Setup;

/// Somewhat more than the window of a signature.
const WINDOW: Duration = Duration::from_secs(62);

/// A second after the window of a request that was signed at 0.
const AFTER_WINDOW: i64 = 61_000;

fn at(millis: i64) -> UnixMillis {
    UnixMillis::from_millis(millis)
}

fn cents(cents: i64) -> Dollars {
    Dollars::from_cents(cents).unwrap()
}

fn contracts(count: i64) -> Count {
    Count::from_contracts(count).unwrap()
}

/// Returns the order as it was before: at 40 cents, 10 contracts left.
fn view() -> OrderView {
    OrderView {
        order_id: "o-1".to_owned(),
        yes_price: cents(40),
        filled: Count::ZERO,
        remaining: contracts(10),
        is_over: false,
        updated: Some(at(0)),
        expires: None,
    }
}

/// Returns the amend to 41 cents and 12 contracts.
fn amend() -> OrderChange {
    OrderChange::Amend {
        side: BookSide::Bid,
        yes_price: cents(41),
        total: contracts(12),
        expires: None,
    }
}

fn amended() -> OrderView {
    OrderView { yes_price: cents(41), remaining: contracts(12), updated: Some(at(5)), ..view() }
}

fn new(change: OrderChange) -> ChangeMachine {
    let known =
        KnownOrder { updated: at(0), yes_price: cents(40), total: contracts(10), expires: None };
    let mut intent = ChangeIntent::new(1, "o-1", "T", change);
    intent.known = Some(known);
    ChangeMachine::new(intent, PlacementConfig::default(), at(1_000))
}

/// Returns a machine that has sent its change at 0, with that answer.
fn answered(change: OrderChange, answer: ChangeAnswer) -> ChangeMachine {
    let mut machine = new(change);
    assert!(matches!(machine.poll(at(0)), ChangeStep::Write(Record::Change { .. })));
    machine.apply(ChangeInput::Written, at(0));
    assert_eq!(machine.poll(at(0)), ChangeStep::Send { attempt: 1 });
    machine.apply(ChangeInput::Answered(answer), at(0));
    machine
}

fn lost(change: OrderChange) -> ChangeMachine {
    answered(change, ChangeAnswer::Unknown)
}

/// Answers every read that the machine asks for at that time with the order.
fn read(machine: &mut ChangeMachine, millis: i64, order: &OrderView) -> ChangeStep {
    loop {
        match machine.poll(at(millis)) {
            ChangeStep::ReadWatermark => {
                machine.apply(ChangeInput::Watermark(at(millis)), at(millis));
            }
            ChangeStep::ReadOrder { number } => {
                let order = Some(order.clone());
                machine.apply(ChangeInput::Read { number, order }, at(millis));
            }
            step => return step,
        }
    }
}

#[test]
fn a_change_is_in_the_journal_before_it_is_sent() {
    let mut machine = new(amend());
    let ChangeStep::Write(Record::Change { intent, at: time }) = machine.poll(at(5)) else {
        panic!("it must be written first")
    };
    assert_eq!((&intent, time), (machine.intent(), at(5)));
    assert_eq!(machine.poll(at(6)), ChangeStep::Wait);
    machine.apply(ChangeInput::Written, at(7));
    assert_eq!(machine.poll(at(8)), ChangeStep::Send { attempt: 1 });
}

#[test]
fn a_full_disk_stops_an_amend_and_no_cancel() {
    let mut machine = new(amend());
    machine.poll(at(0));
    machine.apply(ChangeInput::WriteFailed, at(0));
    assert_eq!(machine.state(), &ChangeState::Withdrawn(WithdrawnCause::Journal));
    assert_eq!(machine.poll(at(0)), ChangeStep::Done);
    let mut machine = new(OrderChange::Cancel);
    machine.poll(at(0));
    machine.apply(ChangeInput::WriteFailed, at(0));
    assert_eq!(machine.poll(at(0)), ChangeStep::Send { attempt: 1 });
    machine.apply(ChangeInput::Answered(ChangeAnswer::Done { at: Some(at(1)) }), at(1));
    // There is nothing of it in the journal.
    assert_eq!(machine.poll(at(1)), ChangeStep::Done);
}

#[test]
fn a_newer_state_that_is_as_wanted_tells_a_lost_amend() {
    let mut machine = lost(amend());
    machine.apply(ChangeInput::Seen(amended()), at(10));
    assert_eq!(machine.state(), &ChangeState::Reached);
    assert_eq!(machine.done_at(), Some(at(5)));
    // One that is as old as what was known may be of before, as may one without a time.
    for updated in [Some(at(0)), None] {
        let mut machine = lost(amend());
        machine.apply(ChangeInput::Seen(OrderView { updated, ..amended() }), at(10));
        assert_eq!(machine.state(), &ChangeState::Settling);
        // After the window it is the state that counts.
        read(&mut machine, AFTER_WINDOW, &OrderView { updated, ..amended() });
        assert_eq!(machine.state(), &ChangeState::Reached);
    }
}

#[test]
fn a_fill_does_not_tell_an_amend_that_changes_nothing() {
    let change = OrderChange::Amend {
        side: BookSide::Bid,
        yes_price: cents(40),
        total: contracts(10),
        expires: None,
    };
    let mut machine = lost(change);
    let filled =
        OrderView { filled: contracts(4), remaining: contracts(6), updated: Some(at(9)), ..view() };
    machine.apply(ChangeInput::Seen(filled), at(10));
    assert_eq!(machine.state(), &ChangeState::Settling);
}

#[test]
fn fills_do_not_tell_a_lost_decrease_and_fewer_contracts_do() {
    let decrease = OrderChange::Decrease { remaining: contracts(5) };
    let mut machine = lost(decrease);
    let filled =
        OrderView { filled: contracts(6), remaining: contracts(4), updated: Some(at(9)), ..view() };
    machine.apply(ChangeInput::Seen(filled.clone()), at(10));
    assert_eq!(machine.state(), &ChangeState::Settling);
    let decreased = OrderView { remaining: contracts(3), ..filled };
    machine.apply(ChangeInput::Seen(decreased), at(11));
    assert_eq!(machine.state(), &ChangeState::Reached);
}

#[test]
fn a_lost_amend_is_called_off_after_the_window_alone_and_never_sent_again() {
    let mut machine = lost(amend());
    for millis in [250, 1_000, 10_000, 60_000] {
        assert!(matches!(read(&mut machine, millis, &view()), ChangeStep::WaitUntil(_)));
        assert_eq!(machine.state(), &ChangeState::Settling);
    }
    let step = read(&mut machine, AFTER_WINDOW + 2_000, &view());
    assert_eq!(machine.state(), &ChangeState::NotReached);
    let ChangeStep::Write(Record::ChangeSettled { number: 1, settlement, .. }) = step else {
        panic!("{step:?}")
    };
    assert_eq!(settlement, ChangeSettlement::NotReached);
    machine.apply(ChangeInput::Written, at(AFTER_WINDOW + 2_000));
    assert_eq!(machine.poll(at(AFTER_WINDOW + 2_000)), ChangeStep::Done);
    assert_eq!(machine.attempts(), 1);
}

#[test]
fn an_amend_that_had_no_effect_is_sent_again_until_its_deadline() {
    let mut machine = answered(amend(), ChangeAnswer::RateLimited { retry_after: None });
    assert_eq!(machine.poll(at(0)), ChangeStep::WaitUntil(at(50)));
    assert_eq!(machine.poll(at(50)), ChangeStep::Send { attempt: 2 });
    machine.apply(ChangeInput::Answered(ChangeAnswer::NotSent { is_temporary: true }), at(999));
    assert!(matches!(machine.poll(at(1_000)), ChangeStep::Write(Record::ChangeSettled { .. })));
    assert_eq!(machine.state(), &ChangeState::Withdrawn(WithdrawnCause::Deadline));
}

#[test]
fn a_404_refuses_an_amend_and_leaves_a_cancel_to_the_order() {
    let machine = answered(amend(), ChangeAnswer::NotFound);
    assert_eq!(machine.state(), &ChangeState::Refused(Refusal::new(404, None)));
    let mut machine = answered(OrderChange::Cancel, ChangeAnswer::NotFound);
    assert_eq!(machine.state(), &ChangeState::Settling);
    // It rests all the same: the 404 was that of another shard.
    assert_eq!(read(&mut machine, 250, &view()), ChangeStep::Send { attempt: 2 });
    machine.apply(ChangeInput::Answered(ChangeAnswer::NotFound), at(260));
    assert_eq!(read(&mut machine, 510, &view()), ChangeStep::WaitUntil(at(760)));
    assert_eq!(machine.state(), &ChangeState::Queued);
    assert_eq!(machine.poll(at(760)), ChangeStep::Send { attempt: 3 });
    machine.apply(ChangeInput::Answered(ChangeAnswer::NotFound), at(1_000));
    read(&mut machine, 2_000, &OrderView { is_over: true, ..view() });
    assert_eq!(machine.state(), &ChangeState::Reached);
}

#[test]
fn an_order_that_is_over_ends_every_change() {
    let over = OrderView { is_over: true, ..view() };
    for (change, expected) in
        [(OrderChange::Cancel, ChangeState::Reached), (amend(), ChangeState::Over)]
    {
        let mut machine = new(change.clone());
        machine.apply(ChangeInput::Seen(over.clone()), at(0));
        assert_eq!(machine.state(), &expected);
        assert_eq!(machine.poll(at(0)), ChangeStep::Done);
        let mut machine = lost(change);
        machine.apply(
            ChangeInput::Seen(OrderView { order_id: "o-2".to_owned(), ..over.clone() }),
            at(1),
        );
        assert_eq!(machine.state(), &ChangeState::Settling);
        machine.apply(ChangeInput::Seen(over.clone()), at(1));
        assert_eq!(machine.state(), &expected);
    }
}

#[test]
fn an_order_that_is_nowhere_leaves_its_change_undecided() {
    let mut machine = lost(amend());
    let mut now = 0;
    while machine.state() == &ChangeState::Settling {
        now += 1_000;
        match machine.poll(at(now)) {
            ChangeStep::ReadWatermark => {
                machine.apply(ChangeInput::Watermark(at(now)), at(now));
            }
            ChangeStep::ReadOrder { number } => {
                machine.apply(ChangeInput::Read { number, order: None }, at(now));
            }
            _ => {}
        }
    }
    assert_eq!(machine.state(), &ChangeState::Undecided(UndecidedCause::NoOrder));
    assert!(now >= 300_000);
    // Evidence settles it then, too.
    machine.apply(ChangeInput::Seen(amended()), at(now));
    assert_eq!(machine.state(), &ChangeState::Reached);
}

#[test]
fn an_expiry_is_compared_where_it_is_changed() {
    let change = OrderChange::Amend {
        side: BookSide::Bid,
        yes_price: cents(40),
        total: contracts(10),
        expires: Some(kalshi_types::UnixSeconds::from_seconds(90)),
    };
    let newer = OrderView { updated: Some(at(5)), ..view() };
    let expires = |millis| OrderView { expires: Some(at(millis)), ..newer.clone() };
    for known in [None, Some(at(60_000))] {
        let mut machine = new(change.clone());
        let mut intent = machine.intent().clone();
        intent.known.as_mut().unwrap().expires = known;
        machine = ChangeMachine::new(intent, PlacementConfig::default(), at(1_000));
        machine.poll(at(0));
        machine.apply(ChangeInput::Written, at(0));
        machine.poll(at(0));
        machine.apply(ChangeInput::Answered(ChangeAnswer::Unknown), at(0));
        for other in [newer.clone(), expires(60_000)] {
            machine.apply(ChangeInput::Seen(other), at(6));
            assert_eq!(machine.state(), &ChangeState::Settling);
        }
        machine.apply(ChangeInput::Seen(expires(90_000)), at(7));
        // A fill of an order that expired then before looks the same.
        assert_eq!(machine.state() == &ChangeState::Reached, known.is_some());
        read(&mut machine, AFTER_WINDOW, &expires(90_000));
        assert_eq!(machine.state(), &ChangeState::Reached);
    }
}

#[test]
fn a_state_from_before_the_last_change_does_not_tell_the_next() {
    let known = |millis| KnownOrder {
        updated: at(millis),
        yes_price: cents(40),
        total: contracts(1),
        expires: None,
    };
    let mut times = ChangeTimes::new(at(10));
    times.record("o-1", at(20));
    assert_eq!(times.known("o-1", Some(known(19))), None);
    assert_eq!(times.known("o-1", Some(known(20))), Some(known(20)));
    assert_eq!(times.known("o-2", Some(known(9))), None);
    assert_eq!(times.known("o-2", Some(known(10))), Some(known(10)));
    assert_eq!(times.known("o-2", None), None);
    // However many orders are changed, none is taken for older than it is.
    for number in 0..20_000 {
        times.record(&format!("x-{number}"), at(30));
    }
    assert_eq!(times.known("o-1", Some(known(19))), None);
    assert_eq!(times.known("o-1", Some(known(30))), Some(known(30)));
}

impl Setup {
    /// Places an order, and returns it.
    async fn placed(&self, placements: &Placements) -> ChangeTarget {
        let placement = placements.place(self.bid("10.00")).unwrap();
        let PlacementState::Accepted { order_id } = placement.outcome().await else {
            panic!("{:?}", placement.state())
        };
        let order = self.there(&order_id).await;
        let updated = order.last_update_time.or(order.created_time).unwrap();
        let known = KnownOrder {
            updated: UnixMillis::from(updated),
            yes_price: cents(1),
            total: contracts(10),
            expires: None,
        };
        ChangeTarget::new(order_id, &*self.ticker).with_known(Some(known))
    }

    /// Returns the order as the exchange has it.
    async fn there(&self, order_id: &str) -> Order {
        self.exchange.set_lag(Lag::none());
        self.client.get_order().order_id(order_id).send().await.unwrap().into_inner().order
    }

    /// Waits until nothing of changes is open in the journal.
    async fn settled(&self) {
        while self.journal.history().unsettled_changes().len() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn to_two_cents() -> OrderChange {
    OrderChange::Amend {
        side: BookSide::Bid,
        yes_price: cents(2),
        total: contracts(8),
        expires: None,
    }
}

const WITHIN: Duration = Duration::from_secs(5);

async fn wait_for(change: &Change, is_there: impl Fn(&ChangeState) -> bool) {
    while !is_there(&change.state()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_order_is_amended_and_decreased_and_canceled_once_each() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let target = setup.placed(&placements).await;
    for change in
        [to_two_cents(), OrderChange::Decrease { remaining: contracts(3) }, OrderChange::Cancel]
    {
        let change = placements.change(target.clone(), change, WITHIN).unwrap();
        assert_eq!(change.outcome().await, ChangeState::Reached);
    }
    let order = setup.there(&target.order_id).await;
    assert_eq!((order.status.as_str(), order.yes_price_dollars), ("canceled", cents(2)));
    setup.settled().await;
    for operation in ["amend_order_v2", "decrease_order_v2", "cancel_order_v2"] {
        assert_eq!(setup.requests(operation), 1, "{operation}");
    }
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_found_in_the_order() {
    for change in [to_two_cents(), OrderChange::Decrease { remaining: contracts(3) }] {
        let setup = Setup::new().await;
        let placements = setup.placements();
        let target = setup.placed(&placements).await;
        // The next state is to be told from the one that was known.
        tokio::time::sleep(Duration::from_millis(5)).await;
        for operation in [OperationId::AmendOrderV2, OperationId::DecreaseOrderV2] {
            setup.fault(operation, FaultKind::ResetAfter);
        }
        setup.exchange.set_lag(Lag::none().with_reads(Duration::from_millis(300)));
        let changed = placements.change(target.clone(), change.clone(), WITHIN).unwrap();
        assert_eq!(changed.outcome().await, ChangeState::Reached, "{change:?}");
        let sent = setup.requests("amend_order_v2") + setup.requests("decrease_order_v2");
        assert_eq!(sent, 1);
    }
}

#[tokio::test]
async fn an_amend_that_never_arrived_holds_the_next_back_until_it_cannot_arrive() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let target = setup.placed(&placements).await;
    setup.fault(OperationId::AmendOrderV2, FaultKind::ResetBefore);
    let change = placements.change(target.clone(), to_two_cents(), WITHIN).unwrap();
    wait_for(&change, |state| *state == ChangeState::Settling).await;
    let next = OrderChange::Decrease { remaining: contracts(1) };
    let refused = placements.change(target.clone(), next.clone(), WITHIN);
    assert_eq!(refused.unwrap_err(), ChangeError::Pending);
    setup.advance(WINDOW);
    assert_eq!(change.outcome().await, ChangeState::NotReached);
    assert_eq!(setup.there(&target.order_id).await.yes_price_dollars, cents(1));
    let next = placements.change(target, next, WITHIN).unwrap();
    assert_eq!(next.outcome().await, ChangeState::Reached);
    assert_eq!(setup.requests("amend_order_v2"), 1);
}

#[tokio::test]
async fn a_cancel_is_sent_until_the_order_is_over() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let target = setup.placed(&placements).await;
    let lost = Fault::builder(FaultKind::ResetBefore).with_operation(OperationId::CancelOrderV2);
    setup.exchange.faults().add(lost.with_times(2).build()).unwrap();
    let change = placements.change(target.clone(), OrderChange::Cancel, WITHIN).unwrap();
    assert_eq!(change.outcome().await, ChangeState::Reached);
    assert_eq!(setup.there(&target.order_id).await.status.as_str(), "canceled");
    assert_eq!(setup.requests("cancel_order_v2"), 3);
    setup.settled().await;
}

#[tokio::test]
async fn a_cancel_is_sent_without_a_journal() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let target = setup.placed(&placements).await;
    setup.journal.set_full(true);
    let amend = placements.change(target.clone(), to_two_cents(), WITHIN).unwrap();
    let withdrawn = ChangeState::Withdrawn(WithdrawnCause::Journal);
    assert_eq!(amend.outcome().await, withdrawn);
    let cancel = placements.change(target.clone(), OrderChange::Cancel, WITHIN).unwrap();
    assert_eq!(cancel.outcome().await, ChangeState::Reached);
    assert_eq!(setup.there(&target.order_id).await.status.as_str(), "canceled");
    assert_eq!(setup.requests("amend_order_v2"), 0);
}

#[test]
fn a_cancel_of_a_process_that_died_is_sent_by_the_next() {
    let runtime = Runtime::new().unwrap();
    let setup = runtime.block_on(Setup::new());
    let dying = Runtime::new().unwrap();
    let target = dying.block_on(async {
        let placements = setup.placements();
        let (cancel, amend) = (setup.placed(&placements).await, setup.placed(&placements).await);
        for operation in [OperationId::CancelOrderV2, OperationId::AmendOrderV2] {
            setup.fault(operation, FaultKind::ResetBefore);
        }
        // Nothing more is heard of either.
        let unreadable =
            Fault::builder(FaultKind::status(500)).with_operation(OperationId::GetOrder);
        setup.exchange.faults().add(unreadable.build()).unwrap();
        let canceled = placements.change(cancel.clone(), OrderChange::Cancel, WITHIN).unwrap();
        let amended = placements.change(amend, to_two_cents(), WITHIN).unwrap();
        for change in [canceled, amended] {
            wait_for(&change, |state| *state == ChangeState::Settling).await;
        }
        cancel
    });
    dying.shutdown_timeout(Duration::from_secs(10));
    setup.exchange.faults().clear();
    setup.journal.reopen(2, setup.clock.now()).unwrap();
    runtime.block_on(async {
        assert_eq!(setup.there(&target.order_id).await.status.as_str(), "resting");
        let placements = setup.placements();
        let restored = placements.restored_changes();
        assert_eq!(restored.len(), 2);
        setup.advance(WINDOW);
        for change in &restored {
            let expected = match change.intent().change {
                OrderChange::Cancel => ChangeState::Reached,
                _ => ChangeState::NotReached,
            };
            assert_eq!(change.outcome().await, expected);
        }
        assert_eq!(setup.there(&target.order_id).await.status.as_str(), "canceled");
        // The amend was not sent again.
        assert_eq!(setup.requests("amend_order_v2"), 1);
        setup.settled().await;
    });
}

#[tokio::test]
async fn a_batch_is_one_request_and_each_order_is_its_own() {
    let setup = Setup::new().await;
    let mut orders = vec![setup.bid("10.00"), setup.bid("10.00"), setup.bid("10.00")];
    orders[1].count = "0.00".parse().unwrap();
    let placements = setup.placements();
    let placed = placements.place_all(orders, WITHIN).unwrap();
    assert!(matches!(placed[0].outcome().await, PlacementState::Accepted { .. }));
    assert!(matches!(placed[1].outcome().await, PlacementState::Refused(_)));
    assert!(matches!(placed[2].outcome().await, PlacementState::Accepted { .. }));
    assert_eq!(setup.requests("batch_create_orders_v2"), 1);
    assert_eq!(setup.requests("create_order_v2"), 0);
    // Each answer is that of its order.
    for placement in [&placed[0], &placed[2]] {
        let PlacementState::Accepted { order_id } = placement.state() else { panic!() };
        assert_eq!(setup.there(&order_id).await.client_order_id, placement.id().as_str());
    }
}

#[tokio::test]
async fn a_batch_is_no_larger_than_set() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let orders = std::iter::repeat_with(|| setup.bid("10.00")).take(15);
    for placement in placements.place_all(orders, WITHIN).unwrap() {
        assert!(matches!(placement.outcome().await, PlacementState::Accepted { .. }));
    }
    assert_eq!(setup.requests("batch_create_orders_v2"), 3);
    assert!(placements.place_all([], WITHIN).unwrap().is_empty());
}

#[tokio::test]
async fn an_order_that_is_withdrawn_is_left_out_of_its_batch() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let placed = placements.place_all([setup.bid("10.00"), setup.bid("10.00")], WITHIN).unwrap();
    placed[0].withdraw();
    assert!(matches!(placed[1].outcome().await, PlacementState::Accepted { .. }));
    // Its task may have begun to send already.
    let outcome = placed[0].outcome().await;
    let withdrawn = PlacementState::Withdrawn(kalshi_trade::placement::WithdrawnCause::Caller);
    assert!(outcome == withdrawn || matches!(outcome, PlacementState::Accepted { .. }));
    let orders = setup.client.get_orders().ticker(&*setup.ticker).all().await.unwrap();
    let id = placed[0].id().as_str();
    let is_there = orders.iter().any(|order| order.client_order_id == id);
    assert_eq!(is_there, outcome != withdrawn);
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_is_found_with_shared_lists() {
    let setup = Setup::new().await;
    setup.exchange.set_lag(Lag::none().with_reads(Duration::from_millis(400)));
    setup.fault(OperationId::BatchCreateOrdersV2, FaultKind::ResetAfter);
    let placements = setup.placements();
    let orders = std::iter::repeat_with(|| setup.bid("10.00")).take(7);
    let placed = placements.place_all(orders, WITHIN).unwrap();
    for placement in &placed {
        assert!(matches!(placement.outcome().await, PlacementState::Accepted { .. }));
    }
    // One list serves all seven.
    let lists = setup.requests("get_orders");
    assert!((1..7).contains(&lists), "{lists} lists");
    assert_eq!(setup.requests("batch_create_orders_v2"), 1);
    assert_eq!(setup.requests("create_order_v2"), 0);
    setup.exchange.set_lag(Lag::none());
    let orders = setup.client.get_orders().ticker(&*setup.ticker).all().await.unwrap();
    for placement in &placed {
        let id = placement.id().as_str();
        assert_eq!(orders.iter().filter(|order| order.client_order_id == id).count(), 1);
    }
}

#[tokio::test]
async fn a_batch_that_never_arrived_is_given_up_and_not_sent_again() {
    let setup = Setup::new().await;
    setup.fault(OperationId::BatchCreateOrdersV2, FaultKind::ResetBefore);
    let placements = setup.placements();
    let placed = placements.place_all([setup.bid("10.00"), setup.bid("10.00")], WITHIN).unwrap();
    for placement in &placed {
        while placement.state() != PlacementState::Settling {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    setup.advance(WINDOW);
    for placement in &placed {
        assert_eq!(placement.outcome().await, PlacementState::GivenUp);
    }
    let sent = setup.requests("batch_create_orders_v2") + setup.requests("create_order_v2");
    assert_eq!(sent, 1);
}

#[tokio::test]
async fn a_batch_that_the_rate_limit_refuses_is_sent_one_by_one() {
    let setup = Setup::new().await;
    setup.fault(OperationId::BatchCreateOrdersV2, FaultKind::TooManyRequests);
    let placements = setup.placements();
    for placement in placements.place_all([setup.bid("10.00"), setup.bid("10.00")], WITHIN).unwrap()
    {
        assert!(matches!(placement.outcome().await, PlacementState::Accepted { .. }));
    }
    assert_eq!(setup.requests("create_order_v2"), 2);
}

#[tokio::test]
async fn cancels_are_one_request_and_go_on_one_by_one() {
    let setup = Setup::new().await;
    let placements = setup.placements();
    let mut targets = Vec::new();
    for _ in 0..3 {
        targets.push(setup.placed(&placements).await);
    }
    setup.fault(OperationId::BatchCancelOrdersV2, FaultKind::ResetBefore);
    let changes = placements.cancel_all(targets.clone());
    assert_eq!(changes.len(), 3);
    // They are under way already.
    assert!(placements.cancel_all(targets.clone()).is_empty());
    for change in changes {
        assert_eq!(change.outcome().await, ChangeState::Reached);
    }
    for target in targets {
        assert_eq!(setup.there(&target.order_id).await.status.as_str(), "canceled");
    }
    assert_eq!(setup.requests("batch_cancel_orders_v2"), 1);
    assert_eq!(setup.requests("cancel_order_v2"), 3);
}
