//! Ceilings, pauses, groups, expiry, exits and the closing of positions, over the simulator.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kalshi_sdk::{OperationId, types::BookSide};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketPlan, Role};
use kalshi_trade::{
    close::{CloseEnd, ClosePlan},
    group::{GroupError, GroupStatus},
    journal::{Journal as _, MemoryJournal},
    orders::{Life, ManagedOrder, OrderEvent, OrderIntent, OrderKey, OverReason},
    pause::Paused,
    placement::{PlaceError, Placement},
    risk::{Ceiling, Ceilings, CeilingsError, RiskError},
    trading::{AmendError, Canceled, Trading, TradingBuilder},
};
use kalshi_types::{Count, Dollars};

use crate::{
    support::{Ahead, TICKER, limit},
    trading::{fault, journal, resting_there, wait},
};

const WITHIN: Duration = Duration::from_secs(120);

fn builder(exchange: &Exchange, journal: MemoryJournal) -> TradingBuilder {
    Trading::builder(exchange.client(Role::Trader).unwrap(), journal).unwrap()
}

async fn start(builder: TradingBuilder) -> Trading {
    let mut trading = builder.start().await.unwrap();
    while !trading.is_current() {
        trading.next().await.unwrap();
    }
    trading
}

/// An exchange with a market that is empty.
async fn exchange() -> Exchange {
    let exchange = Exchange::start().await.unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    exchange
}

fn usd(text: &str) -> Dollars {
    text.parse().unwrap()
}

fn contracts(text: &str) -> Count {
    text.parse().unwrap()
}

fn ceilings(order: &str, market: &str, day: &str, minute: u32) -> Ceilings {
    Ceilings::builder()
        .with_order_cost(Ceiling::AtMost(usd(order)))
        .with_market_loss(Ceiling::AtMost(usd(market)))
        .with_day_cost(Ceiling::AtMost(usd(day)))
        .with_orders_per_minute(Ceiling::AtMost(minute))
        .build()
        .unwrap()
}

fn key_of(trading: &Trading, placement: &Placement) -> Option<OrderKey> {
    trading.orders().by_client_order_id(placement.id().as_str())
}

fn life_of(trading: &Trading, placement: &Placement) -> Option<Life> {
    Some(trading.orders().get(key_of(trading, placement)?)?.life())
}

async fn wait_for_rest(trading: &mut Trading, placement: &Placement) {
    wait(trading, |trading| life_of(trading, placement) == Some(Life::Resting)).await;
}

/// Buys or sells from or to the market maker of the exchange.
async fn trade(
    exchange: &Exchange,
    trading: &mut Trading,
    side: BookSide,
    price: &str,
    count: &str,
) {
    let client = exchange.client(Role::Maker).unwrap();
    let other = if side == BookSide::Bid { BookSide::Ask } else { BookSide::Bid };
    client.create_order_v2().body(limit(TICKER, other, price, count)).send().await.unwrap();
    let placement = trading.place(limit(TICKER, side, price, count), WITHIN).unwrap();
    let is_over = |trading: &Trading| {
        let key = key_of(trading, &placement);
        key.and_then(|key| trading.orders().get(key)).is_some_and(ManagedOrder::is_closed)
    };
    wait(trading, is_over).await;
}

#[tokio::test]
async fn an_order_above_a_ceiling_is_neither_written_nor_sent() {
    let exchange = exchange().await;
    let journal = journal();
    let limits = ceilings("5", "6", "7", 3);
    let mut trading = start(builder(&exchange, journal.clone()).with_ceilings(limits)).await;
    let client = exchange.client(Role::Trader).unwrap();
    let bid = |price: &str, count: &str| limit(TICKER, BookSide::Bid, price, count);
    let refused = trading.place(bid("0.50", "10.00"), WITHIN).unwrap_err();
    assert!(
        matches!(&refused, PlaceError::Risk(RiskError::OrderCost { ceiling, .. }) if *ceiling == usd("5")),
        "{refused:?}"
    );
    // The reason names the ceiling, its value and what was asked for: fees are in it.
    assert_eq!(
        refused.to_string(),
        "the order can cost 5.1850, and the ceiling order_cost is 5.0000"
    );
    assert_eq!(journal.history().unsettled().len(), 0);
    let first = trading.place(bid("0.0100", "100.00"), WITHIN).unwrap();
    wait_for_rest(&mut trading, &first).await;
    let refused = trading.place(bid("0.0100", "160.00"), WITHIN);
    assert!(matches!(refused, Err(PlaceError::Risk(RiskError::MarketLoss { .. }))), "{refused:?}");
    // One of another program counts, too.
    let foreign = client.create_order_v2().body(bid("0.0200", "50.00")).send().await.unwrap();
    wait(&mut trading, |trading| trading.orders().by_order_id(&foreign.order_id).is_some()).await;
    let before = trading.risk().unwrap().market_loss(TICKER);
    assert!(before > usd("4.5"), "{before}");
    // What is canceled frees its size.
    let key = key_of(&trading, &first).unwrap();
    trading.cancel(key).await.unwrap();
    wait(&mut trading, |trading| trading.orders().get(key).unwrap().is_closed()).await;
    assert!(trading.risk().unwrap().market_loss(TICKER) < usd("2.5"));
    assert_eq!(trading.risk().unwrap().open_orders(), 1, "the foreign one");
    for _ in 0..2 {
        trading.place(bid("0.0100", "1.00"), WITHIN).unwrap().outcome().await;
    }
    let refused = trading.place(bid("0.0100", "1.00"), WITHIN);
    let is_minute = matches!(
        refused,
        Err(PlaceError::Risk(RiskError::OrdersPerMinute { asked: 4, ceiling: 3, .. }))
    );
    assert!(is_minute, "{refused:?}");
    assert_eq!(trading.tighten(Ceilings::unlimited()), Err(CeilingsError::Raised("order_cost")));
    assert_eq!(client.get_orders().ticker(TICKER).all().await.unwrap().len(), 4);
}

#[tokio::test]
async fn batches_and_amends_are_measured_like_single_orders() {
    let exchange = exchange().await;
    let journal = journal();
    let limits = ceilings("5", "6", "50", 100);
    let mut trading = start(builder(&exchange, journal.clone()).with_ceilings(limits)).await;
    let bid = |count: &str| limit(TICKER, BookSide::Bid, "0.0100", count);
    // Each alone would do: a hundred contracts can cost 2.76.
    let refused = trading.place_all([bid("100.00"), bid("100.00"), bid("100.00")], WITHIN);
    assert!(matches!(refused, Err(PlaceError::Risk(RiskError::MarketLoss { .. }))), "{refused:?}");
    assert_eq!(journal.history().unsettled().len(), 0);
    assert_eq!(trading.risk().unwrap().open_orders(), 0);
    let placed = trading.place_all([bid("100.00"), bid("100.00")], WITHIN).unwrap();
    for placement in &placed {
        wait_for_rest(&mut trading, placement).await;
    }
    let before = trading.risk().unwrap().market_loss(TICKER);
    assert!(before > usd("5.5") && before < usd("6"), "{before}");
    let key = key_of(&trading, &placed[0]).unwrap();
    let refused = trading.amend(key, usd("0.02"), contracts("100"), WITHIN);
    let is_held_back = matches!(refused, Err(AmendError::Risk(RiskError::MarketLoss { .. })));
    assert!(is_held_back, "{refused:?}");
    trading.amend(key, usd("0.02"), contracts("50"), WITHIN).unwrap();
    let amended = |trading: &Trading| {
        let order = trading.orders().get(key).unwrap();
        order.remaining() == contracts("50") && order.intent() == OrderIntent::None
    };
    wait(&mut trading, amended).await;
    let after = trading.risk().unwrap().market_loss(TICKER);
    assert!(after < usd("5.5"), "{after}");
}

#[tokio::test]
async fn a_restart_does_not_free_what_the_day_has_used() {
    let exchange = exchange().await;
    let limits = ceilings("50", "50", "12", 100);
    let journal = journal();
    let mut trading = start(builder(&exchange, journal.clone()).with_ceilings(limits)).await;
    trade(&exchange, &mut trading, BookSide::Bid, "0.9900", "10.00").await;
    let resting = limit(TICKER, BookSide::Bid, "0.0100", "20.00");
    let placement = trading.place(resting, WITHIN).unwrap();
    wait_for_rest(&mut trading, &placement).await;
    let used = |trading: &Trading| {
        let risk = trading.risk().unwrap();
        (risk.day_cost(), risk.market_loss(TICKER), risk.open_orders())
    };
    let before = used(&trading);
    assert!(before.0 > usd("10") && before.1 > usd("10"), "{before:?}");
    assert_eq!(before.2, 1);
    drop(trading);
    // The account has it, before the first order is taken.
    let mut trading = builder(&exchange, journal).with_ceilings(limits).start().await.unwrap();
    assert_eq!(used(&trading), before);
    let order = limit(TICKER, BookSide::Bid, "0.0100", "100.00");
    let refused = trading.place(order.clone(), WITHIN);
    assert!(matches!(refused, Err(PlaceError::Risk(RiskError::DayCost { .. }))), "{refused:?}");
    while !trading.is_current() {
        trading.next().await.unwrap();
    }
    assert_eq!(used(&trading), before, "what the streams and reads say again counts once");
    // The orders of the last minute were read, too.
    drop(trading);
    let few = builder(&exchange, crate::trading::journal());
    let mut trading = few.with_ceilings(ceilings("50", "50", "50", 2)).start().await.unwrap();
    let refused = trading.place(limit(TICKER, BookSide::Bid, "0.0100", "1.00"), WITHIN);
    let is_minute = matches!(refused, Err(PlaceError::Risk(RiskError::OrdersPerMinute { .. })));
    assert!(is_minute, "{refused:?}");
}

#[tokio::test]
async fn no_ceiling_keeps_the_account_in_a_position() {
    let exchange = exchange().await;
    let limits = ceilings("50", "50", "50", 100);
    let mut trading = start(builder(&exchange, journal()).with_ceilings(limits)).await;
    trade(&exchange, &mut trading, BookSide::Bid, "0.9900", "10.00").await;
    trading.tighten(ceilings("0", "0", "0", 0)).unwrap();
    let maker = exchange.client(Role::Maker).unwrap();
    let refused = trading.place(limit(TICKER, BookSide::Ask, "0.9800", "1.00"), WITHIN);
    assert!(matches!(refused, Err(PlaceError::Risk(_))), "{refused:?}");
    let bid = limit(TICKER, BookSide::Bid, "0.9800", "10.00");
    maker.create_order_v2().body(bid).send().await.unwrap();
    let plan = ClosePlan {
        ticker: TICKER,
        worst: usd("0.98"),
        slice: contracts("4"),
        exchange_index: 0,
        subaccount: 0,
    };
    let closed = trading.close(&plan, WITHIN).await.unwrap();
    assert_eq!((closed.end, closed.filled), (CloseEnd::Flat, contracts("10")));
}

#[tokio::test]
async fn a_position_is_closed_in_slices_as_far_as_the_price_allows() {
    let exchange = exchange().await;
    let mut trading = start(builder(&exchange, journal())).await;
    let maker = exchange.client(Role::Maker).unwrap();
    let plan = |worst: &str| ClosePlan {
        ticker: TICKER,
        worst: usd(worst),
        slice: contracts("2"),
        exchange_index: 0,
        subaccount: 0,
    };
    let nothing = trading.close(&plan("0.01"), WITHIN).await.unwrap();
    assert_eq!((nothing.end, nothing.filled), (CloseEnd::Flat, Count::ZERO));
    trade(&exchange, &mut trading, BookSide::Bid, "0.9900", "10.00").await;
    let quote = async |side: BookSide, price: &str, count: &str| {
        maker.create_order_v2().body(limit(TICKER, side, price, count)).send().await.unwrap();
    };
    quote(BookSide::Bid, "0.9800", "3.00").await;
    quote(BookSide::Bid, "0.9600", "9.00").await;
    let closed = trading.close(&plan("0.97"), WITHIN).await.unwrap();
    assert_eq!((closed.end, closed.filled), (CloseEnd::Price, contracts("3")));
    assert_eq!(closed.left, contracts("7"));
    // It goes on during an exit, whose orders do not rest either.
    assert!(trading.exit(WITHIN).await.is_clean());
    let closed = trading.close(&plan("0.96"), WITHIN).await.unwrap();
    assert_eq!((closed.end, closed.filled), (CloseEnd::Flat, contracts("7")));
    assert!(resting_there(&exchange).await.is_empty());
    let position = trading.portfolio().position_in(TICKER, None);
    assert_eq!((position, closed.left), (Count::ZERO, Count::ZERO));
}

#[tokio::test]
async fn in_a_pause_orders_are_refused_and_cancels_go_through() {
    let exchange = exchange().await;
    let often = Duration::from_millis(30);
    let mut trading = start(builder(&exchange, journal()).with_status_every(often)).await;
    let order = || limit(TICKER, BookSide::Bid, "0.0100", "1.00");
    let placement = trading.place(order(), WITHIN).unwrap();
    wait_for_rest(&mut trading, &placement).await;
    exchange.markets().set_shard(0, true, false).unwrap();
    // A handle of which nothing calls `next` knows a pause from its start.
    let mut another = builder(&exchange, journal()).start().await.unwrap();
    let mut named = order();
    named.exchange_index = Some(0.into());
    let refused = another.place(named.clone(), WITHIN);
    assert!(
        matches!(refused, Err(PlaceError::Paused { pause: Paused::Trading(0), .. })),
        "{refused:?}"
    );
    // Of this one nothing is known but that another shard is open: the exchange decides.
    assert!(another.shards().shard_of("KXELSE").is_none());
    drop(another);
    until(&mut trading, |trading| trading.trading_status().is_any_paused()).await;
    assert!(matches!(trading.place(named.clone(), WITHIN), Err(PlaceError::Paused { .. })));
    // Its shard is known since one was named.
    assert!(matches!(trading.place(order(), WITHIN), Err(PlaceError::Paused { .. })));
    let key = key_of(&trading, &placement).unwrap();
    let amended = trading.amend(key, usd("0.02"), contracts("1"), WITHIN);
    assert!(matches!(amended, Err(AmendError::Paused { pause: Paused::Trading(0), .. })));
    let key = key_of(&trading, &placement).unwrap();
    assert!(matches!(trading.cancel(key).await.unwrap(), Canceled::Accepted));
    exchange.markets().set_shard(0, true, true).unwrap();
    until(&mut trading, |trading| !trading.trading_status().is_any_paused()).await;
    let placement = trading.place(named, WITHIN).unwrap();
    wait_for_rest(&mut trading, &placement).await;
    // An exchange that does not even say its status is paused.
    let down =
        Fault::builder(FaultKind::status(503)).with_operation(OperationId::GetExchangeStatus);
    exchange.faults().add(down.build()).unwrap();
    until(&mut trading, |trading| trading.trading_status().is_any_paused()).await;
    let refused = trading.place(order(), WITHIN);
    assert!(
        matches!(refused, Err(PlaceError::Paused { pause: Paused::Exchange(0), .. })),
        "{refused:?}"
    );
}

/// Calls `next` until something is so that no event tells.
async fn until(trading: &mut Trading, is_so: impl Fn(&Trading) -> bool) {
    while !is_so(trading) {
        let _ = tokio::time::timeout(Duration::from_millis(20), trading.next()).await;
    }
}

#[tokio::test]
async fn an_outage_of_the_exchange_delays_an_exit_and_does_not_end_it() {
    let exchange = exchange().await;
    let often = Duration::from_millis(30);
    let mut trading = start(builder(&exchange, journal()).with_status_every(often)).await;
    let order = limit(TICKER, BookSide::Bid, "0.0100", "1.00");
    let placement = trading.place(order, WITHIN).unwrap();
    wait_for_rest(&mut trading, &placement).await;
    exchange.markets().set_shard(0, false, false).unwrap();
    let exited = trading.exit(Duration::from_millis(300)).await;
    assert_eq!(exited.resting.len(), 1, "no cancel is taken: {exited:?}");
    exchange.markets().set_shard(0, true, true).unwrap();
    assert!(trading.exit(WITHIN).await.is_clean());
    assert!(resting_there(&exchange).await.is_empty());
}

#[tokio::test]
async fn an_exit_sends_its_cancels_whatever_else_is_on_its_way() {
    let exchange = exchange().await;
    let clock = Arc::new(Ahead::default());
    let mut trading = start(builder(&exchange, journal()).with_clock(clock.clone())).await;
    let order = limit(TICKER, BookSide::Bid, "0.0100", "1.00");
    let placement = trading.place(order, WITHIN).unwrap();
    wait_for_rest(&mut trading, &placement).await;
    // A read of the account that takes longer than the exit.
    let slow = Fault::builder(FaultKind::latency(Duration::from_secs(60)));
    let slow = slow.with_operation(OperationId::GetUserDataTimestamp).build();
    exchange.faults().add(slow).unwrap();
    clock.0.store(61_000, Ordering::SeqCst);
    let before = exchange.requests().len();
    while exchange.requests().len() == before {
        let _ = tokio::time::timeout(Duration::from_millis(20), trading.next()).await;
    }
    let exited = trading.exit(Duration::from_secs(5)).await;
    assert!(resting_there(&exchange).await.is_empty(), "{exited:?}");
}

#[tokio::test]
async fn an_exit_and_a_closing_without_an_end_are_taken() {
    let exchange = exchange().await;
    let mut trading = start(builder(&exchange, journal())).await;
    let order = limit(TICKER, BookSide::Bid, "0.0100", "1.00");
    let placement = trading.place(order, WITHIN).unwrap();
    wait_for_rest(&mut trading, &placement).await;
    let plan = ClosePlan {
        ticker: TICKER,
        worst: usd("0.01"),
        slice: contracts("1"),
        exchange_index: 0,
        subaccount: 0,
    };
    let closed = trading.close(&plan, Duration::MAX).await.unwrap();
    assert_eq!(closed.end, CloseEnd::Flat);
    assert!(trading.exit(Duration::MAX).await.is_clean());
    assert!(resting_there(&exchange).await.is_empty());
}

#[tokio::test]
async fn resting_orders_are_renewed_until_they_cannot_be_and_then_expire() {
    let exchange = exchange().await;
    let span = Duration::from_secs(2);
    let mut trading = start(builder(&exchange, journal()).with_rolling_expiry(span)).await;
    let client = exchange.client(Role::Trader).unwrap();
    let rolling = limit(TICKER, BookSide::Bid, "0.0100", "2.00");
    let placement = trading.place(rolling, WITHIN).unwrap();
    // One with an expiration of its own keeps it.
    let mut fixed = limit(TICKER, BookSide::Bid, "0.0100", "1.00");
    let far = kalshi_types::UnixSeconds::from_seconds(4_000_000_000);
    fixed.expiration_time = Some(far);
    let fixed = trading.place(fixed, WITHIN).unwrap();
    wait_for_rest(&mut trading, &placement).await;
    wait_for_rest(&mut trading, &fixed).await;
    let row = async |trading: &Trading, placement: &Placement| {
        let key = key_of(trading, placement).unwrap();
        let order_id = trading.orders().get(key).unwrap().order_id().unwrap();
        client.get_order().order_id(order_id).send().await.unwrap().into_inner().order
    };
    let first = row(&trading, &placement).await;
    let expires = first.expiration_time.unwrap();
    let renewed = loop {
        let _ = tokio::time::timeout(Duration::from_millis(50), trading.next()).await;
        let row = row(&trading, &placement).await;
        if row.expiration_time.unwrap() > expires {
            break row;
        }
    };
    assert_eq!(renewed.order_id, first.order_id);
    assert_eq!(renewed.remaining_count_fp, contracts("2"));
    assert_eq!(life_of(&trading, &placement), Some(Life::Resting));
    let kept = row(&trading, &fixed).await.expiration_time.unwrap();
    assert_eq!(kept.timestamp(), far.as_seconds());
    // No renewal comes through any more, as with a network that is gone.
    fault(&exchange, OperationId::AmendOrderV2, FaultKind::ResetBefore, 1);
    let key = key_of(&trading, &placement).unwrap();
    wait(&mut trading, |trading| trading.orders().get(key).unwrap().is_closed()).await;
    assert_eq!(life_of(&trading, &placement), Some(Life::Over(OverReason::Canceled)));
    assert_eq!(life_of(&trading, &fixed), Some(Life::Resting));
}

#[tokio::test]
async fn an_order_group_is_the_brake_and_only_a_reset_lets_it_go() {
    let exchange = exchange().await;
    let mut trading = start(builder(&exchange, journal())).await;
    let maker = exchange.client(Role::Maker).unwrap();
    let group = trading.create_group(contracts("2"), 0, 0).await.unwrap();
    assert_eq!(trading.group(&group).unwrap().status, GroupStatus::Active);
    let order = |group: Option<&str>| {
        let mut order = limit(TICKER, BookSide::Bid, "0.9900", "3.00");
        order.order_group_id = group.map(str::to_owned);
        order
    };
    let first = trading.place(order(Some(&group)), WITHIN).unwrap();
    let mut second = order(Some(&group));
    second.price = usd("0.01");
    let second = trading.place(second, WITHIN).unwrap();
    wait_for_rest(&mut trading, &second).await;
    // Three contracts trade, more than two: the other order is canceled.
    let ask = limit(TICKER, BookSide::Ask, "0.9900", "3.00");
    maker.create_order_v2().body(ask).send().await.unwrap();
    let is_over = |trading: &Trading| matches!(life_of(trading, &second), Some(Life::Over(_)));
    let mut events = wait(&mut trading, is_over).await;
    let triggered = OrderEvent::GroupTriggered { group: group.clone() };
    while !events.contains(&triggered) {
        events.extend(trading.next().await.unwrap());
    }
    assert!(!matches!(life_of(&trading, &first), Some(Life::Resting)));
    assert_eq!(trading.group(&group).unwrap().status, GroupStatus::Triggered);
    let refused = trading.place(order(Some(&group)), WITHIN);
    assert!(matches!(&refused, Err(PlaceError::GroupTriggered(id)) if *id == group), "{refused:?}");
    let mut free = order(None);
    free.price = usd("0.01");
    let free = trading.place(free, WITHIN).unwrap();
    wait_for_rest(&mut trading, &free).await;
    // A handle that has not seen it learns of it by the exchange's refusal.
    let ids = MemoryJournal::new(2, kalshi_types::UnixMillis::EPOCH);
    let mut another = start(builder(&exchange, ids)).await;
    another.watch_group(group.clone(), 0, 0);
    assert_eq!(another.group(&group).unwrap().status, GroupStatus::Unknown);
    another.place(order(Some(&group)), WITHIN).unwrap();
    let is_known = |trading: &Trading| {
        trading.group(&group).is_some_and(|group| group.status == GroupStatus::Triggered)
    };
    assert!(wait(&mut another, is_known).await.contains(&triggered));
    // Reset: it goes on, for both.
    trading.reset_group(&group).await.unwrap();
    let reset = OrderEvent::GroupReset { group: group.clone() };
    assert!(trading.next().await.unwrap().contains(&reset));
    while !another.next().await.unwrap().contains(&reset) {}
    let mut again = order(Some(&group));
    again.price = usd("0.01");
    let again = another.place(again, WITHIN).unwrap();
    wait_for_rest(&mut another, &again).await;
    // By hand, at once.
    another.trigger_group(&group).await.unwrap();
    wait(&mut another, |trading| matches!(life_of(trading, &again), Some(Life::Over(_)))).await;
    let unknown = another.reset_group("no-group").await.unwrap_err();
    assert!(matches!(unknown, GroupError::NotKnown(_)));
}
