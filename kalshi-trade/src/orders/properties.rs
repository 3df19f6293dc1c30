//! Orders under messages that come in any order, again and again, or not at all.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars, UnixMillis};
use kalshi_ws::{
    FillRecord, OrderBook, OrderRecord, Outcome,
    types::{BookSide, MarketSide, UserOrderStatus},
};
use proptest::{prelude::*, sample::Index};

use super::{
    IntentError, Life, ManagedOrder, OrderEvent, OrderIntent, OrderKey, OrderManager, OverReason,
};
use crate::placement::PlacementState;

fn contracts(count: i64) -> Count {
    Count::from_contracts(count).unwrap()
}

fn cents(cents: i64) -> Dollars {
    Dollars::from_cents(cents).unwrap()
}

fn at(millis: i64) -> UnixMillis {
    UnixMillis::from_millis(millis)
}

fn record(number: usize, is_own: bool) -> OrderRecord {
    OrderRecord {
        order_id: format!("o-{number}"),
        client_order_id: if is_own { format!("a-{number}") } else { String::new() },
        market_ticker: "T".to_owned(),
        subaccount: None,
        status: UserOrderStatus::Resting,
        outcome_side: MarketSide::Yes,
        book_side: BookSide::Bid,
        yes_price: cents(40),
        initial: contracts(10),
        remaining: contracts(10),
        filled: Count::ZERO,
        updated: Some(at(1)),
    }
}

fn fill(order: &OrderRecord, trade: usize, count: Count) -> FillRecord {
    FillRecord {
        trade_id: format!("t-{trade}"),
        order_id: order.order_id.clone(),
        // REST does not say it.
        client_order_id: None,
        market_ticker: order.market_ticker.clone(),
        subaccount: None,
        outcome_side: MarketSide::Yes,
        book_side: BookSide::Bid,
        yes_price: order.yes_price,
        count,
        fee: Dollars::ZERO,
        is_taker: false,
        ts_ms: order.updated,
        position_after: None,
    }
}

#[derive(Clone, Debug)]
enum Message {
    /// The next state of the placement of an order.
    Placement(usize),
    Order(OrderRecord),
    Fill(FillRecord),
}

/// What happens to an order at the exchange.
#[derive(Clone, Copy, Debug)]
enum Action {
    Fill(i64),
    Decrease(i64),
    Amend(i64, i64),
    Cancel,
}

/// An order at the exchange, and what was said of it.
#[derive(Clone, Debug)]
struct Truth {
    is_own: bool,
    last: OrderRecord,
    messages: Vec<Message>,
    fills: Vec<FillRecord>,
}

fn truth(number: usize, is_own: bool, actions: &[(Action, bool)]) -> Truth {
    let mut order = record(number, is_own);
    let mut messages = vec![Message::Order(order.clone())];
    if is_own {
        messages.extend([Message::Placement(number), Message::Placement(number)]);
    }
    let mut fills = Vec::new();
    for (step, (action, is_same_millisecond)) in actions.iter().enumerate() {
        if order.status != UserOrderStatus::Resting {
            break;
        }
        // Of two states in one millisecond, only some are told apart.
        let is_later = !is_same_millisecond || matches!(action, Action::Amend(..));
        let updated = order.updated.unwrap().as_millis() + i64::from(is_later);
        order.updated = Some(at(updated));
        match *action {
            Action::Fill(count) => {
                let count = contracts(count).min(order.remaining);
                order.filled = order.filled.checked_add(count).unwrap();
                order.remaining = order.remaining.checked_sub(count).unwrap();
                let fill = fill(&order, number * 100 + step, count);
                fills.push(fill.clone());
                messages.push(Message::Fill(fill));
            }
            Action::Decrease(to) => order.remaining = order.remaining.min(contracts(to)),
            Action::Amend(price, more) => {
                order.yes_price = cents(price);
                order.remaining = contracts(more);
            }
            Action::Cancel => {
                order.status = UserOrderStatus::Canceled;
                order.remaining = Count::ZERO;
            }
        }
        if order.remaining.is_zero() && order.status == UserOrderStatus::Resting {
            order.status = match action {
                Action::Fill(_) => UserOrderStatus::Executed,
                _ => UserOrderStatus::Canceled,
            };
        }
        messages.push(Message::Order(order.clone()));
    }
    Truth { is_own, last: order, messages, fills }
}

fn actions() -> impl Strategy<Value = Vec<(Action, bool)>> {
    let action = prop_oneof![
        4 => (1_i64..5).prop_map(Action::Fill),
        1 => (0_i64..8).prop_map(Action::Decrease),
        1 => (1_i64..99, 1_i64..15).prop_map(|(price, more)| Action::Amend(price, more)),
        1 => Just(Action::Cancel),
    ];
    prop::collection::vec((action, any::<bool>()), 0..8)
}

fn truths() -> impl Strategy<Value = Vec<Truth>> {
    prop::collection::vec((any::<bool>(), actions()), 1..4).prop_map(|orders| {
        let orders = orders.iter().enumerate();
        orders.map(|(number, (is_own, actions))| truth(number, *is_own, actions)).collect()
    })
}

/// Returns what was said of the orders, in any order, with some of it twice.
fn shuffled() -> impl Strategy<Value = (Vec<Truth>, Vec<Message>)> {
    (truths(), prop::collection::vec(any::<Index>(), 0..6)).prop_flat_map(|(truths, again)| {
        let mut messages: Vec<Message> =
            truths.iter().flat_map(|truth| truth.messages.clone()).collect();
        for index in again {
            messages.push(index.get(&messages).clone());
        }
        (Just(truths), Just(messages).prop_shuffle())
    })
}

/// A manager, and how far the placements are.
struct Feed {
    manager: OrderManager,
    placements: BTreeMap<usize, usize>,
}

impl Feed {
    fn new() -> Self {
        Self { manager: OrderManager::new(), placements: BTreeMap::new() }
    }

    fn apply(&mut self, message: &Message) -> Vec<OrderEvent> {
        let events = self.take(message);
        let is_open = |(_, order): &(OrderKey, &ManagedOrder)| order.is_own() && !order.is_over();
        let expected: Vec<OrderKey> =
            self.manager.iter().filter(is_open).map(|(key, _)| key).collect();
        let open: Vec<OrderKey> = self.manager.own_open().map(|(key, _)| key).collect();
        assert_eq!(open, expected, "those that are not over are known by themselves");
        events
    }

    fn take(&mut self, message: &Message) -> Vec<OrderEvent> {
        match message {
            Message::Order(record) => self.manager.apply_order(record.clone()),
            Message::Fill(fill) => self.manager.apply_fill(fill),
            Message::Placement(number) => {
                let step = self.placements.entry(*number).or_default();
                *step += 1;
                let state = match step {
                    1 => PlacementState::Sent { attempt: 1 },
                    _ => PlacementState::Accepted { order_id: format!("o-{number}") },
                };
                self.manager.apply_placement(&format!("a-{number}"), &state)
            }
        }
    }

    fn order(&self, truth: &Truth) -> &ManagedOrder {
        let key = self.manager.by_order_id(&truth.last.order_id).unwrap();
        self.manager.get(key).unwrap()
    }

    /// Returns everything that is known, whatever its keys are.
    fn state(&self) -> Vec<ManagedOrder> {
        let mut orders: Vec<_> = self.manager.iter().map(|(_, order)| order.clone()).collect();
        for order in &mut orders {
            order.client_order_ids.sort();
        }
        orders.sort_by(|a, b| a.order_id.cmp(&b.order_id));
        orders
    }
}

fn life(truth: &Truth) -> Life {
    match truth.last.status {
        UserOrderStatus::Resting => Life::Resting,
        UserOrderStatus::Executed => Life::Over(OverReason::Executed),
        _ => Life::Over(OverReason::Canceled),
    }
}

proptest! {
    #[test]
    fn messages_in_any_order_end_the_same((truths, messages) in shuffled()) {
        let mut feed = Feed::new();
        let (mut over, mut filled) = (BTreeMap::new(), BTreeMap::new());
        let mut names: BTreeMap<OrderKey, OrderKey> = BTreeMap::new();
        for message in &messages {
            for event in feed.apply(message) {
                match event {
                    OrderEvent::Over { order, .. } => {
                        let closed = feed.manager.get(order).unwrap();
                        // Not before its fills are known.
                        prop_assert_eq!(closed.filled(), closed.reported_filled());
                        *over.entry(order).or_insert(0) += 1;
                    }
                    OrderEvent::Filled { order, trade_id, count } => {
                        prop_assert!(filled.insert((order, trade_id), count).is_none());
                    }
                    OrderEvent::Identified { order, was } => {
                        names.insert(was, order);
                    }
                    OrderEvent::Reopened { .. } => prop_assert!(false, "nothing is reopened here"),
                    _ => {}
                }
            }
        }
        prop_assert_eq!(feed.manager.iter().len(), truths.len());
        for truth in &truths {
            let order = feed.order(truth);
            prop_assert_eq!(order.life(), life(truth));
            prop_assert_eq!(order.record().unwrap(), &truth.last);
            prop_assert_eq!(order.filled(), truth.last.filled);
            prop_assert_eq!(order.is_own(), truth.is_own);
            prop_assert!(!order.needs_fills() && !order.needs_order());
            let key = feed.manager.by_order_id(&truth.last.order_id).unwrap();
            let is_it = |other: &OrderKey| *other == key || names.get(other) == Some(&key);
            let told: i64 = filled.iter().filter(|((order, _), _)| is_it(order))
                .map(|(_, count)| count.as_hundredths()).sum();
            prop_assert_eq!(told, truth.last.filled.as_hundredths());
            let ended = over.iter().filter(|(order, _)| is_it(order)).map(|(_, times)| times);
            prop_assert_eq!(ended.sum::<i32>(), i32::from(order.is_closed()));
        }
        // In the order in which it happened it ends the same.
        let mut sorted = Feed::new();
        for message in truths.iter().flat_map(|truth| &truth.messages) {
            sorted.apply(message);
        }
        prop_assert_eq!(sorted.state(), feed.state());
    }

    #[test]
    fn what_is_known_changes_nothing((_, messages) in shuffled()) {
        let mut feed = Feed::new();
        for message in &messages {
            feed.apply(message);
        }
        let state = feed.state();
        for message in &messages {
            prop_assert_eq!(feed.apply(message), vec![]);
        }
        prop_assert_eq!(feed.state(), state);
    }

    #[test]
    fn one_reconciliation_finds_whatever_was_missed(
        (truths, messages) in shuffled(),
        lost in prop::collection::vec(any::<bool>(), 64),
    ) {
        let mut feed = Feed::new();
        for (message, is_lost) in messages.iter().zip(lost.iter().cycle()) {
            // The outcome of a placement is not a message that can be lost.
            if !is_lost || matches!(message, Message::Placement(_)) {
                feed.apply(message);
            }
        }
        let missed: Vec<_> = truths.iter().flat_map(|truth| truth.fills.clone()).collect();
        let is_resting = |truth: &&Truth| truth.last.status == UserOrderStatus::Resting;
        let resting: Vec<_> = truths.iter().filter(is_resting).map(|truth| &truth.last).collect();
        // What the view of the account had resting.
        let closed: Vec<OrderRecord> = truths
            .iter()
            .filter(|truth| !is_resting(truth))
            .filter_map(|truth| feed.manager.by_order_id(&truth.last.order_id))
            .filter_map(|key| feed.manager.get(key))
            .filter(|order| order.life() == Life::Resting)
            .filter_map(|order| order.record().cloned())
            .collect();
        feed.manager.reconcile_parts(&missed, &closed, resting.iter().copied(), at(100));
        // The answer to what is asked for.
        for truth in &truths {
            let needs = feed.manager.by_order_id(&truth.last.order_id)
                .and_then(|key| feed.manager.get(key)).is_some_and(ManagedOrder::needs_order);
            if needs {
                feed.manager.apply_order(truth.last.clone());
            }
        }
        for truth in &truths {
            let Some(key) = feed.manager.by_order_id(&truth.last.order_id) else {
                // It was never heard of, and is over without a fill.
                prop_assert!(truth.last.filled.is_zero() && !is_resting(&truth));
                continue;
            };
            let order = feed.manager.get(key).unwrap();
            prop_assert_eq!(order.filled(), truth.last.filled);
            prop_assert_eq!(order.life() == Life::Resting, is_resting(&truth));
            prop_assert_eq!(order.is_closed(), !is_resting(&truth));
            prop_assert!(!order.needs_fills());
        }
        // Nothing is left for another.
        let again = feed.manager.reconcile_parts(&missed, &[], resting.iter().copied(), at(101));
        prop_assert_eq!(again, vec![]);
    }
}

/// Returns a manager with one own order that rests, and its key.
fn resting() -> (OrderManager, OrderKey, OrderRecord) {
    let mut manager = OrderManager::new();
    manager.apply_placement("a-1", &PlacementState::Accepted { order_id: "o-1".to_owned() });
    let record = record(1, true);
    manager.apply_order(record.clone());
    let key = manager.by_order_id("o-1").unwrap();
    (manager, key, record)
}

#[test]
fn a_fill_after_a_cancel_counts_and_the_end_waits_for_it() {
    let (mut manager, key, order) = resting();
    let canceled = OrderRecord {
        status: UserOrderStatus::Canceled,
        filled: contracts(3),
        remaining: Count::ZERO,
        updated: Some(at(2)),
        ..order
    };
    let events = manager.apply_order(canceled.clone());
    let (known, reported) = (Count::ZERO, contracts(3));
    assert_eq!(events, [OrderEvent::NeedsFills { order: key, known, reported }]);
    let events = manager.apply_fill(&fill(&canceled, 1, contracts(3)));
    assert!(matches!(events[0], OrderEvent::Filled { .. }));
    assert_eq!(events[1], OrderEvent::Over { order: key, reason: OverReason::Canceled });
}

#[test]
fn an_order_comes_back_only_by_a_newer_state() {
    let (mut manager, key, order) = resting();
    let canceled = OrderRecord {
        status: UserOrderStatus::Canceled,
        remaining: Count::ZERO,
        updated: Some(at(5)),
        ..order.clone()
    };
    manager.apply_order(canceled);
    for updated in [None, Some(at(4)), Some(at(5))] {
        let before = OrderRecord { updated, ..order.clone() };
        assert_eq!(manager.apply_order(before), []);
        assert_eq!(manager.get(key).unwrap().life(), Life::Over(OverReason::Canceled));
    }
    let newer = OrderRecord { updated: Some(at(6)), ..order };
    assert_eq!(manager.apply_order(newer), [OrderEvent::Reopened { order: key }]);
    assert_eq!(manager.get(key).unwrap().life(), Life::Resting);
}

#[test]
fn an_order_that_a_read_left_out_comes_back_when_a_read_has_it() {
    let (mut manager, key, order) = resting();
    let closed = [order.clone()];
    let events = manager.reconcile_parts(&[], &closed, [], at(10));
    assert_eq!(events, [OrderEvent::Over { order: key, reason: OverReason::Gone }]);
    // The same message again does not show that it rests.
    assert_eq!(manager.apply_order(order.clone()), []);
    let events = manager.reconcile_parts(&[], &[], [&order], at(20));
    assert_eq!(events, [OrderEvent::Reopened { order: key }]);
}

/// A read of the order by itself came in a gap of the streams, and the end of the order in the next.
#[test]
fn an_order_that_only_the_manager_knows_is_over_when_a_later_read_leaves_it_out() {
    let (mut manager, key, order) = resting();
    // Not by one that may be older than its last state.
    assert_eq!(manager.reconcile_parts(&[], &[], [], order.updated.unwrap()), []);
    assert_eq!(manager.get(key).unwrap().life(), Life::Resting);
    let events = manager.reconcile_parts(&[], &[], [], at(2));
    assert_eq!(events, [OrderEvent::Over { order: key, reason: OverReason::Gone }]);
    assert_eq!(manager.reconcile_parts(&[], &[], [], at(3)), []);
}

#[test]
fn a_foreign_order_is_seen_and_not_canceled_unless_it_is_meant() {
    let mut manager = OrderManager::new();
    let events = manager.apply_order(record(7, false));
    let key = manager.by_order_id("o-7").unwrap();
    assert_eq!(events[0], OrderEvent::Foreign { order: key });
    assert_eq!(manager.own_open().count(), 0);
    assert_eq!(manager.iter().len(), 1);
    let cancel = OrderIntent::Cancel;
    assert_eq!(manager.set_intent(key, cancel, false), Err(IntentError::Foreign));
    assert_eq!(manager.set_intent(key, cancel, true), Ok(()));
}

#[test]
fn a_partial_fill_keeps_a_pending_cancel() {
    let (mut manager, key, order) = resting();
    manager.set_intent(key, OrderIntent::Cancel, false).unwrap();
    let partly = OrderRecord {
        filled: contracts(3),
        remaining: contracts(7),
        updated: Some(at(2)),
        ..order.clone()
    };
    manager.apply_fill(&fill(&partly, 1, contracts(3)));
    manager.apply_order(partly.clone());
    assert_eq!(manager.get(key).unwrap().intent(), OrderIntent::Cancel);
    // Nothing replaces it.
    let amend = OrderIntent::Amend { yes_price: cents(41), total: contracts(10) };
    assert_eq!(manager.set_intent(key, amend, false), Err(IntentError::Pending));
    let canceled = OrderRecord {
        status: UserOrderStatus::Canceled,
        remaining: Count::ZERO,
        updated: Some(at(3)),
        ..partly
    };
    let events = manager.apply_order(canceled);
    let intent = OrderIntent::Cancel;
    assert_eq!(events[0], OrderEvent::IntentEnded { order: key, intent, is_reached: true });
    assert_eq!(events[1], OrderEvent::Over { order: key, reason: OverReason::Canceled });
}

#[test]
fn a_change_ends_by_evidence_and_not_by_time() {
    let intent = OrderIntent::Amend { yes_price: cents(41), total: contracts(12) };
    let (mut manager, key, order) = resting();
    manager.set_intent(key, intent, false).unwrap();
    // Its outcome is unknown until then.
    manager.answer_intent(key, at(1_000));
    for as_of in [10, 500, 1_000] {
        assert_eq!(manager.reconcile_parts(&[], &[], [&order], at(as_of)), []);
        assert_eq!(manager.get(key).unwrap().intent(), intent);
    }
    let events = manager.reconcile_parts(&[], &[], [&order], at(1_001));
    assert_eq!(events, [OrderEvent::IntentEnded { order: key, intent, is_reached: false }]);
    // The value was reached.
    manager.set_intent(key, intent, false).unwrap();
    let amended = OrderRecord {
        yes_price: cents(41),
        remaining: contracts(12),
        updated: Some(at(2)),
        ..order
    };
    let events = manager.apply_order(amended);
    assert_eq!(events[0], OrderEvent::IntentEnded { order: key, intent, is_reached: true });
    // A refusal ends it.
    manager.set_intent(key, OrderIntent::Cancel, false).unwrap();
    let intent = OrderIntent::Cancel;
    let ended = OrderEvent::IntentEnded { order: key, intent, is_reached: false };
    assert_eq!(manager.refuse_intent(key), [ended]);
    assert_eq!(manager.get(key).unwrap().life(), Life::Resting);
}

#[test]
fn a_fill_before_the_placement_is_known_belongs_to_it_afterwards() {
    let mut manager = OrderManager::new();
    manager.apply_placement("a-1", &PlacementState::Sent { attempt: 1 });
    let order = record(1, true);
    let events = manager.apply_fill(&fill(&order, 1, contracts(2)));
    let was = manager.by_order_id("o-1").unwrap();
    assert_eq!(events[0], OrderEvent::Foreign { order: was });
    let events =
        manager.apply_placement("a-1", &PlacementState::Accepted { order_id: "o-1".to_owned() });
    let key = manager.by_client_order_id("a-1").unwrap();
    assert_eq!(events[0], OrderEvent::Identified { order: key, was });
    // It is to be read under the key that is left: no message may bring its state any more.
    assert!(events.contains(&OrderEvent::NeedsOrder { order: key }), "{events:?}");
    let order = manager.get(key).unwrap();
    assert!(order.is_own() && order.needs_order() && manager.get(was).is_none());
    assert_eq!((order.filled(), manager.iter().len()), (contracts(2), 1));
}

#[test]
fn an_order_that_was_not_placed_is_over_unless_a_fill_says_otherwise() {
    let mut manager = OrderManager::new();
    manager.apply_placement("a-1", &PlacementState::Sent { attempt: 1 });
    let events = manager.apply_placement("a-1", &PlacementState::GivenUp);
    let key = manager.by_client_order_id("a-1").unwrap();
    assert_eq!(events, [OrderEvent::Over { order: key, reason: OverReason::NotPlaced }]);
    let mut late = fill(&record(1, true), 1, contracts(1));
    late.client_order_id = Some("a-1".to_owned());
    let events = manager.apply_fill(&late);
    assert!(events.contains(&OrderEvent::Unsettled { order: key }));
    assert!(events.contains(&OrderEvent::NeedsOrder { order: key }));
}

#[test]
fn the_book_without_own_orders_is_that_of_the_others() {
    let (manager, _, order) = resting();
    let level = |price, count| kalshi_types::PriceLevel { price, count };
    let book = OrderBook::from_levels(
        &[level(cents(39), contracts(5)), level(cents(40), contracts(10))],
        &[],
    )
    .unwrap();
    let others = book.without(manager.resting_in(&order.market_ticker)).unwrap();
    assert_eq!(others.best_bid(Outcome::Yes), Some(level(cents(39), contracts(5))));
    assert_eq!(book.without(manager.resting_in("U")).unwrap(), book);
}

#[test]
fn what_is_over_is_forgotten_in_its_turn() {
    let mut manager = OrderManager::with_over_history(2);
    let canceled = |number| OrderRecord {
        status: UserOrderStatus::Canceled,
        remaining: Count::ZERO,
        ..record(number, true)
    };
    manager.apply_order(record(0, true));
    for number in 1..=3 {
        manager.apply_order(canceled(number));
    }
    let known: Vec<bool> =
        (0..=3).map(|number| manager.by_order_id(&format!("o-{number}")).is_some()).collect();
    // What rests is never forgotten.
    assert_eq!(known, [true, false, true, true]);
    assert!(manager.by_client_order_id("a-1").is_none());
    assert_eq!(manager.iter().len(), 3);
}
