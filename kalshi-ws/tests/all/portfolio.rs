//! The view of your account: what counts, what does not, and when it is current.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use kalshi_auth::ManualClock;
use kalshi_types::{Count, UnixMillis};
use kalshi_ws::{
    AccountSnapshot, AccountSource, Channel, Decoder, DisconnectReason, Event, FillRecord, Frame,
    OrderRecord, Payload, Portfolio, PortfolioChange, PositionRecord, ReconcileStatus, Reconciled,
    TerminationReason,
};

/// The time of these tests, by both clocks.
const NOW: i64 = 1_000_000;

fn event(frame: &str) -> Event {
    match Decoder::new().decode(frame, UnixMillis::from_millis(0)) {
        Frame::Message(message) => Event::Message(message),
        Frame::Unknown(unknown) => Event::Unknown(unknown),
        Frame::Malformed(malformed) => Event::Malformed(malformed),
        other => panic!("{other:?}"),
    }
}

/// Returns a message outside its subscription.
fn unmatched(event: Event) -> Event {
    match event {
        Event::Message(message) => Event::Unmatched(message),
        other => panic!("{other:?}"),
    }
}

/// Returns a fill of five contracts of YES.
fn fill(trade: &str, order: &str, ts: i64, after: &str) -> Event {
    fill_of("yes", trade, order, &ts.to_string(), after)
}

fn fill_of(outcome: &str, trade: &str, order: &str, ts: &str, after: &str) -> Event {
    event(&format!(
        r#"{{"type":"fill","sid":1,"msg":{{"trade_id":"{trade}","order_id":"{order}","market_ticker":"A","exchange_index":0,"is_taker":true,"yes_price_dollars":"0.7500","count_fp":"5.00","fee_cost":"0.01","ts_ms":{ts},"post_position_fp":"{after}","outcome_side":"{outcome}","book_side":"bid","subaccount":0}}}}"#
    ))
}

fn order(id: &str, status: &str, remaining: &str, updated: i64) -> Event {
    event(&format!(
        r#"{{"type":"user_order","sid":2,"msg":{{"order_id":"{id}","user_id":"u","ticker":"A","status":"{status}","outcome_side":"yes","book_side":"bid","yes_price_dollars":"0.3500","fill_count_fp":"0.00","remaining_count_fp":"{remaining}","initial_count_fp":"50.00","taker_fill_cost_dollars":"0","maker_fill_cost_dollars":"0","taker_fees_dollars":"0","maker_fees_dollars":"0","client_order_id":"","last_updated_ts_ms":{updated}}}}}"#
    ))
}

fn position(ticker: &str, count: &str) -> Event {
    position_sent(ticker, count, 0)
}

fn position_sent(ticker: &str, count: &str, sent: i64) -> Event {
    event(&format!(
        r#"{{"type":"market_position","sid":3,"sending_ts_ms":{sent},"msg":{{"user_id":"u","market_ticker":"{ticker}","position_fp":"{count}","position_cost_dollars":"1","realized_pnl_dollars":"-2","fees_paid_dollars":"0.1","position_fee_cost_dollars":"0","volume_fp":"9"}}}}"#
    ))
}

fn fill_record(event: &Event) -> FillRecord {
    let Some(Payload::Fill(fill)) = event.message().map(|message| &message.payload) else {
        panic!()
    };
    FillRecord::from(&**fill)
}

fn order_record(event: &Event) -> OrderRecord {
    let Some(Payload::UserOrder(order)) = event.message().map(|message| &message.payload) else {
        panic!()
    };
    OrderRecord::from(&**order)
}

fn position_record(event: &Event) -> PositionRecord {
    let Some(Payload::MarketPosition(position)) = event.message().map(|m| &m.payload) else {
        panic!()
    };
    PositionRecord::from(&**position)
}

fn count(text: &str) -> Count {
    text.parse().unwrap()
}

/// Returns a view whose clock stands at the time, and is right.
fn view() -> (Portfolio, Arc<ManualClock>) {
    view_of(Portfolio::new())
}

fn view_of(portfolio: Portfolio) -> (Portfolio, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(NOW)));
    let portfolio = portfolio
        .with_clock(Arc::<ManualClock>::clone(&clock))
        .with_clock_tolerance(Duration::ZERO);
    (portfolio, clock)
}

fn subscribe(portfolio: &mut Portfolio) {
    let channels = [Channel::Fill, Channel::UserOrders, Channel::MarketPositions];
    for (sid, channel) in (1..).zip(channels) {
        portfolio.apply(&Event::Subscribed { channel, sid });
    }
}

fn lost() -> Event {
    Event::Disconnected { reason: DisconnectReason::Silent }
}

/// Returns a snapshot with everything that happened until right after now.
fn snapshot() -> AccountSnapshot {
    AccountSnapshot::new(UnixMillis::from_millis(NOW + 1))
}

/// Returns a current view, of an account with nothing in it.
fn current() -> (Portfolio, Arc<ManualClock>) {
    let (mut portfolio, clock) = view();
    subscribe(&mut portfolio);
    assert!(reconcile(&mut portfolio, snapshot()).is_current());
    (portfolio, clock)
}

fn reconcile(portfolio: &mut Portfolio, snapshot: AccountSnapshot) -> Reconciled {
    let begun = portfolio.begin();
    portfolio.finish(begun, snapshot)
}

/// Answers with these, one after the other, and notes what was asked for.
#[derive(Default)]
struct Rest {
    as_of: Mutex<VecDeque<i64>>,
    account: Mutex<VecDeque<AccountSnapshot>>,
    since: Mutex<Vec<Option<i64>>>,
}

impl AccountSource for Rest {
    type Error = &'static str;

    async fn fetch_as_of(&self) -> Result<UnixMillis, &'static str> {
        let next = self.as_of.lock().unwrap().pop_front();
        next.map(UnixMillis::from_millis).ok_or("no time")
    }

    async fn fetch_account(
        &self,
        since: Option<UnixMillis>,
    ) -> Result<AccountSnapshot, &'static str> {
        self.since.lock().unwrap().push(since.map(UnixMillis::as_millis));
        self.account.lock().unwrap().pop_front().ok_or("no account")
    }
}

fn trades(fills: &[FillRecord]) -> Vec<&str> {
    fills.iter().map(|fill| &*fill.trade_id).collect()
}

#[test]
fn a_fill_counts_once_and_one_trade_may_fill_two_orders() {
    let (mut portfolio, _) = view();
    assert_eq!(portfolio.apply(&fill("t", "o", 1, "5.00")), PortfolioChange::Fill);
    assert_eq!(portfolio.apply(&fill("t", "o", 1, "5.00")), PortfolioChange::KnownFill);
    let other = fill_of("no", "t", "other", "1", "0.00");
    assert_eq!(portfolio.apply(&other), PortfolioChange::Fill);
    assert_eq!(portfolio.position_in("A", None), Count::ZERO);
}

#[test]
fn orders_do_not_go_back_and_do_not_come_back() {
    let (mut portfolio, _) = view();
    assert_eq!(portfolio.apply(&order("o", "resting", "50", 10)), PortfolioChange::Order);
    assert_eq!(portfolio.apply(&order("o", "resting", "40", 12)), PortfolioChange::Order);
    assert_eq!(portfolio.apply(&order("o", "resting", "50", 11)), PortfolioChange::OldOrder);
    assert_eq!(portfolio.order_by_id("o").unwrap().remaining, count("40"));
    assert_eq!(portfolio.apply(&order("o", "canceled", "0", 13)), PortfolioChange::Order);
    assert_eq!(portfolio.apply(&order("o", "resting", "40", 14)), PortfolioChange::OldOrder);
    assert_eq!(portfolio.orders().len(), 0);
}

#[test]
fn positions_come_from_both_channels_and_a_loss_is_remembered() {
    let (mut portfolio, _) = view();
    portfolio.apply(&position("A", "-3.00"));
    assert_eq!(portfolio.position_in("A", None), count("-3"));
    let listed: Vec<_> = portfolio.positions().map(|p| (&*p.market_ticker, p.count)).collect();
    assert_eq!(listed, [("A", count("-3"))]);
    portfolio.apply(&fill("t", "o", 1, "2.00"));
    assert_eq!(portfolio.position_in("A", Some(0)), count("2"));
    portfolio.apply(&position("A", "0.00"));
    assert_eq!(portfolio.positions().count(), 0);

    assert!(!portfolio.is_current());
    for loss in [
        lost(),
        Event::Lagged { channel: Some(Channel::Fill), dropped: 1 },
        Event::Terminated { channel: Channel::UserOrders, reason: TerminationReason::Unsubscribed },
        Event::Removed { channel: Channel::Fill, items: vec!["A".to_owned()] },
    ] {
        let (mut portfolio, _) = current();
        assert_eq!(portfolio.apply(&loss), PortfolioChange::Stale);
        assert!(!portfolio.is_current(), "{loss:?}");
    }
    let (mut portfolio, _) = current();
    let other = Event::Lagged { channel: Some(Channel::Ticker), dropped: 1 };
    assert_eq!(portfolio.apply(&other), PortfolioChange::None);
    assert!(portfolio.is_current());
}

#[tokio::test]
async fn a_reconciliation_finds_what_was_missed_and_counts_nothing_twice() {
    let (mut portfolio, clock) = current();
    portfolio.apply(&fill("t1", "o", NOW + 10, "5.00"));
    portfolio.apply(&order("open", "resting", "50", NOW + 10));
    portfolio.apply(&order("gone", "resting", "50", NOW + 10));
    portfolio.apply(&position("B", "7.00"));
    clock.advance(Duration::from_secs(100));
    portfolio.apply(&lost());
    subscribe(&mut portfolio);
    let missed = fill_record(&fill("t2", "o", NOW + 50_000, "9.00"));
    let mut account = AccountSnapshot::new(UnixMillis::from_millis(NOW + 100_001));
    account.fills = vec![missed.clone(), fill_record(&fill("t1", "o", NOW + 10, "5.00"))];
    account.orders = vec![order_record(&order("open", "resting", "20", NOW + 30))];
    account.positions = vec![position_record(&position("A", "9.00"))];
    let rest = Rest::default();
    rest.as_of.lock().unwrap().extend([NOW + 100_001; 3]);
    rest.account.lock().unwrap().extend([account.clone(), account]);
    let found = portfolio.reconcile(&rest).await.unwrap();
    assert_eq!(found.missed, [missed]);
    assert_eq!(found.closed.iter().map(|o| o.order_id.as_str()).collect::<Vec<_>>(), ["gone"]);
    assert_eq!(portfolio.order_by_id("open").unwrap().remaining, count("20"));
    assert_eq!(portfolio.position_in("A", None), count("9"));
    assert_eq!(portfolio.position_in("B", None), Count::ZERO);
    assert!(found.is_current() && portfolio.is_current());
    // The same again finds nothing, and the stream may repeat what was read.
    let again = portfolio.reconcile(&rest).await.unwrap();
    assert!(again.missed.is_empty() && again.closed.is_empty());
    let known = portfolio.apply(&fill("t2", "o", NOW + 50_000, "9.00"));
    assert_eq!(known, PortfolioChange::KnownFill);
    assert_eq!(portfolio.reconcile(&rest).await.unwrap_err(), "no account");
    // From a minute before the reads that made it current.
    let since = rest.since.lock().unwrap().clone();
    assert_eq!(since, [Some(NOW + 1 - 60_000), Some(NOW + 40_001), Some(NOW + 40_001)]);
}

#[test]
fn what_the_stream_says_meanwhile_outweighs_what_was_read_before_it() {
    let (mut portfolio, _) = view();
    subscribe(&mut portfolio);
    portfolio.apply(&order("a", "resting", "50", 10));
    let begun = portfolio.begin();
    portfolio.apply(&order("a", "executed", "0", 20));
    portfolio.apply(&order("new", "resting", "50", 21));
    portfolio.apply(&position("A", "50.00"));
    let mut account = snapshot();
    account.orders = vec![order_record(&order("a", "resting", "50", 10))];
    account.positions = vec![position_record(&position("A", "0.00"))];
    let found = portfolio.finish(begun, account);
    assert!(found.is_current() && found.closed.is_empty());
    assert!(portfolio.order_by_id("a").is_none());
    assert!(portfolio.order_by_id("new").is_some());
    assert_eq!(portfolio.position_in("A", None), count("50"));
}

#[test]
fn a_read_too_early_or_with_a_loss_in_it_does_not_make_the_view_current() {
    let (mut portfolio, _) = view();
    let early = reconcile(&mut portfolio, snapshot());
    assert_eq!(early.status, ReconcileStatus::NotSubscribed);
    assert!(!early.is_current());
    subscribe(&mut portfolio);
    let begun = portfolio.begin();
    portfolio.apply(&lost());
    subscribe(&mut portfolio);
    let mut account = snapshot();
    account.fills = vec![fill_record(&fill("t", "o", 1, "5"))];
    let found = portfolio.finish(begun, account.clone());
    assert_eq!(found.status, ReconcileStatus::Interrupted);
    assert!(!portfolio.is_current());
    // What it found is found, all the same, and only once.
    assert_eq!(trades(&found.missed), ["t"]);
    let found = reconcile(&mut portfolio, account);
    assert!(found.is_current() && found.missed.is_empty());
}

#[test]
fn a1_a_fill_that_was_missed_is_found_whatever_came_after_it() {
    let (mut portfolio, clock) = current();
    portfolio.apply(&fill("t1", "o", NOW, "5.00"));
    portfolio.apply(&lost());
    subscribe(&mut portfolio);
    // The second is missed; the third comes when all is well again, a minute and a half later.
    clock.advance(Duration::from_secs(90));
    portfolio.apply(&fill("t3", "o", NOW + 90_000, "15.00"));
    let begun = portfolio.begin();
    let missed = fill_record(&fill("t2", "o", NOW + 5_000, "10.00"));
    assert!(begun.fills_since().unwrap() <= missed.ts_ms.unwrap());
    let mut account = AccountSnapshot::new(UnixMillis::from_millis(NOW + 90_001));
    account.fills = vec![missed];
    let found = portfolio.finish(begun, account);
    assert!(found.is_current());
    assert_eq!(trades(&found.missed), ["t2"]);
}

#[test]
fn a1_only_reads_that_made_the_view_current_move_the_time_that_fills_are_read_from() {
    let (mut portfolio, clock) = view();
    // A fill before the first read does not hide those before it.
    subscribe(&mut portfolio);
    portfolio.apply(&fill("t1", "o", NOW, "5.00"));
    assert_eq!(portfolio.begin().fills_since(), None);
    assert!(reconcile(&mut portfolio, snapshot()).is_current());
    let since = portfolio.begin().fills_since();
    assert_eq!(since, Some(UnixMillis::from_millis(NOW + 1 - 60_000)));
    for hole in 1..5_i64 {
        clock.advance(Duration::from_secs(300));
        portfolio.apply(&lost());
        subscribe(&mut portfolio);
        let ts = NOW + hole * 300_000;
        portfolio.apply(&fill(&format!("u{hole}"), "o", ts, "5.00"));
        // These reads are behind the loss.
        let found = reconcile(&mut portfolio, AccountSnapshot::new(UnixMillis::from_millis(ts)));
        assert!(found.retry_after().is_some());
        assert_eq!(portfolio.begin().fills_since(), since);
    }
    let ts = UnixMillis::from_millis(NOW + 1_200_001);
    assert!(reconcile(&mut portfolio, AccountSnapshot::new(ts)).is_current());
    assert_eq!(portfolio.begin().fills_since().unwrap().as_millis(), ts.as_millis() - 60_000);
}

#[test]
fn a_view_may_begin_at_a_time_of_its_own() {
    let midnight = UnixMillis::from_millis(NOW - 10_000);
    let (mut portfolio, _) = view_of(Portfolio::new().with_fills_since(midnight));
    subscribe(&mut portfolio);
    assert_eq!(portfolio.begin().fills_since(), Some(midnight));
}

#[test]
fn a6_an_older_fill_counts_and_does_not_move_a_position_back() {
    let (mut portfolio, _) = current();
    let (first, second) = (fill("f1", "o", NOW + 5, "5.00"), fill("f2", "o", NOW + 6, "10.00"));
    assert_eq!(portfolio.apply(&second), PortfolioChange::Fill);
    assert_eq!(portfolio.apply(&first), PortfolioChange::Fill);
    assert_eq!(portfolio.position_in("A", None), count("10"));
}

#[test]
fn a6_fills_of_one_millisecond_set_the_position_in_their_order() {
    let (mut portfolio, _) = current();
    for (trade, after) in [("f1", "5.00"), ("f2", "10.00"), ("f3", "15.00")] {
        portfolio.apply(&fill(trade, "o", NOW + 5, after));
    }
    assert_eq!(portfolio.position_in("A", None), count("15"));
    // Out of order, what does not follow waits for the message about the position.
    let (mut portfolio, _) = current();
    for (trade, after) in [("f3", "15.00"), ("f1", "5.00"), ("f2", "10.00")] {
        portfolio.apply(&fill(trade, "o", NOW + 5, after));
    }
    assert_eq!(portfolio.position_in("A", None), count("15"));
}

#[test]
fn a6_after_a_message_about_a_position_only_a_newer_fill_sets_it() {
    let (mut portfolio, _) = current();
    portfolio.apply(&position_sent("A", "10.00", NOW + 20));
    for (trade, ts, after) in [
        // Before the message was sent, or at that time, though it follows on what it says.
        ("f1", NOW + 19, "15.00"),
        ("f0", NOW + 20, "15.00"),
        // Later, but does not follow.
        ("f2", NOW + 21, "5.00"),
    ] {
        assert_eq!(portfolio.apply(&fill(trade, "o", ts, after)), PortfolioChange::Fill);
        assert_eq!(portfolio.position_in("A", None), count("10"));
    }
    portfolio.apply(&fill("f3", "o", NOW + 22, "15.00"));
    assert_eq!(portfolio.position_in("A", None), count("15"));
}

#[test]
fn a6_a_fill_that_the_read_positions_have_does_not_set_one_back() {
    let (mut portfolio, _) = view();
    subscribe(&mut portfolio);
    let mut account = snapshot();
    account.positions = vec![position_record(&position("A", "10.00"))];
    assert!(reconcile(&mut portfolio, account).is_current());
    // It comes late, and was not among the fills that were read.
    assert_eq!(portfolio.apply(&fill("f1", "o", NOW, "5.00")), PortfolioChange::Fill);
    assert_eq!(portfolio.position_in("A", None), count("10"));
    // The read is complete up to its time, and that time is in it.
    portfolio.apply(&fill("f0", "o", NOW + 1, "5.00"));
    assert_eq!(portfolio.position_in("A", None), count("10"));
    portfolio.apply(&fill("f2", "o", NOW + 2, "15.00"));
    assert_eq!(portfolio.position_in("A", None), count("15"));
}

#[test]
fn a6_a_fill_without_a_time_sets_a_position_that_it_follows_on() {
    // The account was read and has no position: five contracts are the first ones, ten are not.
    for (after, expected) in [("5.00", "5"), ("10.00", "0")] {
        let (mut portfolio, _) = current();
        portfolio.apply(&fill_of("yes", "f", "o", "null", after));
        assert_eq!(portfolio.position_in("A", None), count(expected));
    }
}

#[test]
fn a_fill_that_comes_during_a_read_outweighs_the_position_that_was_read() {
    let (mut portfolio, _) = view();
    subscribe(&mut portfolio);
    portfolio.apply(&position_sent("B", "1.00", NOW - 10));
    let begun = portfolio.begin();
    portfolio.apply(&fill("f", "o", NOW + 5, "5.00"));
    let mut account = snapshot();
    account.positions = vec![position_record(&position("A", "-7.00"))];
    assert!(portfolio.finish(begun, account).is_current());
    assert_eq!(portfolio.position_in("A", None), count("5"));
}

#[test]
fn a_subaccount_has_positions_of_its_own_and_number_0_is_the_primary_one() {
    let of = |event: &Event, subaccount: Option<i64>| {
        let Event::Message(mut message) = event.clone() else { panic!() };
        match &mut message.payload {
            Payload::Fill(fill) => fill.subaccount = subaccount,
            Payload::MarketPosition(position) => position.subaccount = subaccount,
            other => panic!("{other:?}"),
        }
        Event::Message(message)
    };
    for (number, kept) in [(None, None), (Some(0), None), (Some(1), Some(1)), (Some(3), Some(3))] {
        let event = of(&fill("t", "o", NOW, "5.00"), number);
        assert_eq!(fill_record(&event).subaccount, kept);
    }
    let (mut portfolio, _) = view();
    portfolio.apply(&of(&position("A", "10.00"), Some(0)));
    portfolio.apply(&of(&position("A", "-4.00"), Some(3)));
    portfolio.apply(&of(&fill("t", "o", NOW, "5.00"), Some(1)));
    for (subaccount, expected) in
        [(None, "10"), (Some(0), "10"), (Some(1), "5"), (Some(2), "0"), (Some(3), "-4")]
    {
        assert_eq!(portfolio.position_in("A", subaccount), count(expected), "{subaccount:?}");
    }
    assert_eq!(portfolio.positions().count(), 3);
}

#[test]
fn a7_what_cannot_be_placed_is_taken_in_or_is_a_loss() {
    let unknown = |sid: &str| event(&format!(r#"{{"type":"fill_of_tomorrow"{sid},"msg":{{}}}}"#));
    let (taken, loss) = (PortfolioChange::None, PortfolioChange::Stale);
    for (event, expected) in [
        (unmatched(fill("t", "o", NOW + 5, "5.00")), PortfolioChange::Fill),
        (unmatched(order("o", "resting", "50", NOW + 5)), PortfolioChange::Order),
        (unmatched(position("A", "5.00")), loss),
        (Event::Lagged { channel: None, dropped: 3 }, loss),
        (unknown(r#","sid":1"#), loss),
        (unknown(r#","sid":2"#), loss),
        (unknown(r#","sid":3"#), loss),
        (unknown(""), loss),
        // It belongs to another subscription.
        (unknown(r#","sid":4"#), taken),
        (event(r#"{"type":"fill","sid":1,"msg":{"trade_id":1}}"#), loss),
        (event(r#"{"type":"ticker","sid":4,"msg":{"market_ticker":1}}"#), taken),
        (event("{"), loss),
    ] {
        let (mut portfolio, _) = current();
        assert_eq!(portfolio.apply(&event), expected, "{event:?}");
        assert_eq!(portfolio.is_current(), expected != loss, "{event:?}");
    }
    // An order without a time may be older than the one that is known.
    let Event::Message(mut message) = order("o", "resting", "50", NOW) else { panic!() };
    let Payload::UserOrder(timeless) = &mut message.payload else { panic!() };
    timeless.last_updated_ts_ms = None;
    let (mut portfolio, _) = current();
    assert_eq!(portfolio.apply(&Event::Unmatched(message)), loss);
    // The end of a subscription went unnoticed.
    let (mut portfolio, _) = current();
    let again = Event::Subscribed { channel: Channel::Fill, sid: 9 };
    assert_eq!(portfolio.apply(&again), loss);
    assert!(portfolio.is_subscribed() && !portfolio.is_current());
}

#[test]
fn a7_a_live_fill_that_is_not_known_counts_also_without_its_time() {
    let (mut portfolio, _) = view_of(Portfolio::with_fill_history(1));
    subscribe(&mut portfolio);
    for (number, ts) in [(1, "5"), (2, "5"), (3, "5"), (4, "null"), (5, "4")] {
        let live = fill_of("yes", &format!("t{number}"), "o", ts, &format!("{}.00", number * 5));
        assert_eq!(portfolio.apply(&live), PortfolioChange::Fill, "{number}");
    }
    // The one without its time followed on the one before it; the last is older.
    assert_eq!(portfolio.position_in("A", None), count("20"));
}

#[test]
fn a7_too_old_to_tell_is_said_by_reconciliations_only() {
    let (mut portfolio, _) = view_of(Portfolio::with_fill_history(2));
    subscribe(&mut portfolio);
    for number in 1..=3 {
        portfolio.apply(&fill(&format!("t{number}"), "o", number, "1.00"));
    }
    assert_eq!(portfolio.apply(&fill("t3", "o", 3, "1.00")), PortfolioChange::KnownFill);
    let mut account = snapshot();
    account.fills = vec![
        fill_record(&fill("t0", "o", 0, "1")),
        fill_record(&fill("t4", "o", 4, "1")),
        fill_record(&fill("t4", "o", 4, "1")),
        fill_record(&fill("t5", "o", 4, "1")),
        fill_record(&fill("t6", "o", 4, "1")),
    ];
    let found = reconcile(&mut portfolio, account);
    assert_eq!(trades(&found.too_old), ["t0"]);
    // Those of one read do not make each other too old.
    assert_eq!(trades(&found.missed), ["t4", "t5", "t6"]);
}

#[test]
fn a_view_recognizes_as_many_of_the_last_fills_as_it_was_told_to() {
    let (mut portfolio, _) = view_of(Portfolio::with_fill_history(2));
    let mut apply = |trade| portfolio.apply(&fill(trade, "o", 1, "1.00"));
    let (new, known) = (PortfolioChange::Fill, PortfolioChange::KnownFill);
    assert_eq!(["t1", "t2", "t1", "t2"].map(&mut apply), [new, new, known, known]);
    // The third takes the place of the first.
    assert_eq!(["t3", "t2", "t3", "t1"].map(&mut apply), [new, known, known, new]);
}

#[test]
fn a_view_recognizes_as_many_of_the_last_orders_that_are_over_as_it_was_told_to() {
    let (mut portfolio, _) = view_of(Portfolio::with_fill_history(2));
    subscribe(&mut portfolio);
    let (taken, old) = (PortfolioChange::Order, PortfolioChange::OldOrder);
    // A read leaves one out, which rests after all: it is not among those that are over.
    portfolio.apply(&order("o", "resting", "50", 10));
    assert_eq!(reconcile(&mut portfolio, snapshot()).closed.len(), 1);
    assert_eq!(portfolio.apply(&order("o", "resting", "40", 11)), taken);
    for id in ["p", "o"] {
        assert_eq!(portfolio.apply(&order(id, "canceled", "0", 20)), taken);
    }
    for id in ["p", "o"] {
        assert_eq!(portfolio.apply(&order(id, "resting", "50", 30)), old, "{id}");
    }
    // The third takes the place of the one that has been over for the longest time.
    assert_eq!(portfolio.apply(&order("q", "canceled", "0", 20)), taken);
    for (id, expected) in [("o", old), ("q", old), ("p", taken)] {
        assert_eq!(portfolio.apply(&order(id, "resting", "50", 30)), expected, "{id}");
    }
}

#[test]
fn a_fill_that_was_forgotten_without_its_time_does_not_count_twice() {
    let (mut portfolio, _) = view_of(Portfolio::with_fill_history(1));
    subscribe(&mut portfolio);
    portfolio.apply(&fill_of("yes", "t1", "o", "null", "5.00"));
    portfolio.apply(&fill("t2", "o", NOW, "10.00"));
    let mut account = snapshot();
    account.fills = vec![fill_record(&fill("t1", "o", NOW - 1, "5.00"))];
    let found = reconcile(&mut portfolio, account);
    assert!(found.missed.is_empty());
    assert_eq!(trades(&found.too_old), ["t1"]);
}

#[test]
fn reads_that_are_behind_the_loss_take_in_fills_and_say_when_to_try_again() {
    let (mut portfolio, clock) = current();
    portfolio.apply(&order("rests", "resting", "50", NOW + 5));
    clock.advance(Duration::from_millis(500));
    portfolio.apply(&lost());
    subscribe(&mut portfolio);
    // They know nothing of the order yet, and end in the very millisecond of the loss.
    for (as_of, wait) in [(NOW + 2, 499), (NOW + 400, 101), (NOW + 500, 1)] {
        let mut account = AccountSnapshot::new(UnixMillis::from_millis(as_of));
        account.fills = vec![fill_record(&fill(&format!("t{as_of}"), "o", NOW + 1, "5.00"))];
        let found = reconcile(&mut portfolio, account);
        assert_eq!(found.missed.len(), 1);
        assert!(found.closed.is_empty() && portfolio.order_by_id("rests").is_some());
        assert_eq!(found.retry_after(), Some(Duration::from_millis(wait)));
        assert!(!portfolio.is_current());
        // The time that was first needed stays.
        clock.advance(Duration::from_millis(100));
    }
    let as_of = UnixMillis::from_millis(NOW + 501);
    let found = reconcile(&mut portfolio, AccountSnapshot::new(as_of));
    assert!(found.is_current() && portfolio.is_current());
    assert_eq!(found.closed.len(), 1);
}

#[tokio::test]
async fn an_account_is_not_read_while_reads_are_behind() {
    let (mut portfolio, _) = view();
    subscribe(&mut portfolio);
    let rest = Rest::default();
    rest.as_of.lock().unwrap().extend([NOW - 250, NOW + 1]);
    rest.account.lock().unwrap().push_back(snapshot());
    let found = portfolio.reconcile(&rest).await.unwrap();
    assert_eq!(found.retry_after(), Some(Duration::from_millis(251)));
    assert!(rest.since.lock().unwrap().is_empty());
    assert!(portfolio.reconcile(&rest).await.unwrap().is_current());
    assert_eq!(portfolio.reconcile(&rest).await.unwrap_err(), "no time");
    assert!(portfolio.is_current());
}

#[test]
fn a_clock_that_may_be_behind_makes_the_view_wait_as_much_longer() {
    let (portfolio, clock) = view();
    let mut portfolio = portfolio.with_clock_tolerance(Duration::from_secs(2));
    subscribe(&mut portfolio);
    let found = reconcile(&mut portfolio, snapshot());
    assert_eq!(found.retry_after(), Some(Duration::from_secs(2)));
    clock.advance(Duration::from_secs(2));
    let late = AccountSnapshot::new(UnixMillis::from_millis(NOW + 2_001));
    assert!(reconcile(&mut portfolio, late).is_current());
}

#[test]
fn a_clock_that_is_found_to_be_behind_does_not_make_old_reads_current() {
    let (portfolio, clock) = view();
    let mut portfolio = portfolio.with_clock_tolerance(Duration::from_secs(1));
    subscribe(&mut portfolio);
    // By the exchange's clock it is a minute later, and its reads trail by half a second.
    let read = |at: i64| AccountSnapshot::new(UnixMillis::from_millis(NOW + 60_000 + at - 500));
    let found = reconcile(&mut portfolio, read(0));
    assert_eq!(found.retry_after(), Some(Duration::from_millis(1_001)));
    clock.advance(Duration::from_millis(1_001));
    assert!(reconcile(&mut portfolio, read(1_001)).is_current());
    // What was known of the clock holds for the next loss.
    assert_eq!(portfolio.apply(&lost()), PortfolioChange::Stale);
    subscribe(&mut portfolio);
    let found = reconcile(&mut portfolio, read(1_001));
    assert!(found.retry_after().is_some() && !portfolio.is_current());
    clock.advance(Duration::from_secs(2));
    assert!(reconcile(&mut portfolio, read(3_001)).is_current());
    // A question shows it as well, before anything is read.
    let (mut portfolio, _) = view();
    subscribe(&mut portfolio);
    let rest = Rest::default();
    rest.as_of.lock().unwrap().push_back(NOW + 60_000);
    let found = futures_util::future::FutureExt::now_or_never(portfolio.reconcile(&rest));
    assert!(found.unwrap().unwrap().retry_after().is_some());
    assert!(rest.since.lock().unwrap().is_empty());
}

#[test]
fn an_older_read_changes_nothing_but_brings_its_fills() {
    let (mut portfolio, clock) = current();
    clock.advance(Duration::from_secs(10));
    let mut account = AccountSnapshot::new(UnixMillis::from_millis(NOW + 10_001));
    account.positions = vec![position_record(&position("A", "10.00"))];
    account.orders = vec![order_record(&order("o", "resting", "50", NOW + 5))];
    assert!(reconcile(&mut portfolio, account).is_current());
    // Another server, which is not as far.
    let mut older = AccountSnapshot::new(UnixMillis::from_millis(NOW + 9_000));
    older.fills = vec![fill_record(&fill("t", "o", NOW + 1, "5.00"))];
    let found = reconcile(&mut portfolio, older);
    assert_eq!(found.retry_after(), Some(Duration::from_millis(1_001)));
    assert_eq!(found.missed.len(), 1);
    assert!(portfolio.is_current());
    assert_eq!(portfolio.position_in("A", None), count("10"));
    assert_eq!(portfolio.orders().len(), 1);
}

#[test]
fn a_later_reconciliation_puts_right_what_was_lost_without_a_sign() {
    let (mut portfolio, clock) = current();
    portfolio.apply(&order("o", "resting", "50", NOW + 5));
    portfolio.apply(&position("A", "5.00"));
    clock.advance(Duration::from_secs(60));
    // The cancellation and the sale were never sent.
    let quiet = AccountSnapshot::new(UnixMillis::from_millis(NOW + 60_001));
    let found = reconcile(&mut portfolio, quiet);
    assert!(found.is_current());
    assert_eq!(found.closed.len(), 1);
    assert_eq!(portfolio.positions().count(), 0);
}

#[test]
fn a_repeated_message_does_not_keep_an_order_that_a_read_left_out() {
    let (mut portfolio, _) = view();
    subscribe(&mut portfolio);
    portfolio.apply(&order("o", "resting", "50", NOW - 5));
    let begun = portfolio.begin();
    assert_eq!(portfolio.apply(&order("o", "resting", "50", NOW - 5)), PortfolioChange::Order);
    let found = portfolio.finish(begun, snapshot());
    assert!(found.is_current());
    assert_eq!(found.closed.len(), 1);
}

#[test]
fn a_change_during_a_read_keeps_an_order_that_the_read_left_out() {
    let (mut portfolio, _) = view();
    subscribe(&mut portfolio);
    portfolio.apply(&order("o", "resting", "50", NOW - 5));
    let begun = portfolio.begin();
    portfolio.apply(&order("o", "resting", "40", NOW));
    let found = portfolio.finish(begun, snapshot());
    assert!(found.is_current() && found.closed.is_empty());
    assert_eq!(portfolio.order_by_id("o").unwrap().remaining, count("40"));
}

#[test]
fn of_two_states_of_one_millisecond_the_read_one_counts_unless_the_other_came_meanwhile() {
    let apply = |portfolio: &mut Portfolio| {
        portfolio.apply(&order("o", "resting", "50", NOW));
    };
    let read = |remaining: &str, updated: i64| {
        let mut account = snapshot();
        account.orders = vec![order_record(&order("o", "resting", remaining, updated))];
        account
    };
    for (came_meanwhile, updated, remaining) in
        [(false, NOW, "40"), (true, NOW, "50"), (true, NOW + 1, "40"), (true, NOW - 1, "50")]
    {
        let (mut portfolio, _) = view();
        subscribe(&mut portfolio);
        if !came_meanwhile {
            apply(&mut portfolio);
        }
        let begun = portfolio.begin();
        if came_meanwhile {
            apply(&mut portfolio);
        }
        assert!(portfolio.finish(begun, read("40", updated)).is_current());
        assert_eq!(portfolio.order_by_id("o").unwrap().remaining, count(remaining));
    }
}

#[test]
fn a_read_outweighs_everything_before_the_newest_moment_that_it_reaches() {
    let (mut portfolio, clock) = view();
    subscribe(&mut portfolio);
    let mut begun = Vec::new();
    for ticker in ["A", "B", "C"] {
        begun.push(portfolio.begin());
        portfolio.apply(&position(ticker, "5.00"));
        clock.advance(Duration::from_millis(10));
    }
    // It reaches the second moment and not the third: of the three messages it outweighs the first.
    let mut account = AccountSnapshot::new(UnixMillis::from_millis(NOW + 15));
    account.positions =
        ["A", "B", "C"].map(|ticker| position_record(&position(ticker, "7.00"))).to_vec();
    assert!(portfolio.finish(begun[2], account).is_current());
    let counts = ["A", "B", "C"].map(|ticker| portfolio.position_in(ticker, None));
    assert_eq!(counts, [count("7"), count("5"), count("5")]);
}

#[test]
fn reads_that_never_advance_do_not_fill_the_memory_and_the_first_moment_stays() {
    let (mut portfolio, clock) = view();
    subscribe(&mut portfolio);
    for number in 0..1_000 {
        portfolio.apply(&position("A", &format!("{number}.00")));
        let found = reconcile(&mut portfolio, AccountSnapshot::new(UnixMillis::from_millis(NOW)));
        assert_eq!(found.retry_after(), Some(Duration::from_millis(1)));
        clock.advance(Duration::from_millis(10));
    }
    assert!(format!("{portfolio:?}").len() < 50_000);
    assert!(reconcile(&mut portfolio, snapshot()).is_current());
    assert_eq!(portfolio.position_in("A", None), count("999"));
}

#[test]
fn an_order_that_a_read_left_out_comes_back_when_it_rests_after_all() {
    let (mut portfolio, clock) = view();
    subscribe(&mut portfolio);
    portfolio.apply(&order("o", "resting", "50", 10));
    let mut as_of = NOW;
    let mut read = |portfolio: &mut Portfolio, orders: Vec<OrderRecord>| {
        as_of += 10;
        clock.advance(Duration::from_millis(9));
        let mut account = AccountSnapshot::new(UnixMillis::from_millis(as_of));
        account.orders = orders;
        let found = reconcile(portfolio, account);
        clock.advance(Duration::from_millis(1));
        found.closed.len()
    };
    assert_eq!(read(&mut portfolio, Vec::new()), 1);
    assert!(portfolio.order_by_id("o").is_none());
    assert_eq!(portfolio.apply(&order("o", "resting", "60", 9)), PortfolioChange::OldOrder);
    // The message that the read outweighed, once more.
    assert_eq!(portfolio.apply(&order("o", "resting", "50", 10)), PortfolioChange::OldOrder);
    assert_eq!(portfolio.apply(&order("o", "resting", "40", 12)), PortfolioChange::Order);
    assert_eq!(portfolio.order_by_id("o").unwrap().remaining, count("40"));

    assert_eq!(read(&mut portfolio, Vec::new()), 1);
    assert_eq!(read(&mut portfolio, vec![order_record(&order("o", "resting", "40", 12))]), 0);
    assert!(portfolio.order_by_id("o").is_some());

    // What says itself that it is over does not come back.
    assert_eq!(read(&mut portfolio, Vec::new()), 1);
    assert_eq!(portfolio.apply(&order("o", "executed", "0", 13)), PortfolioChange::Order);
    assert_eq!(portfolio.apply(&order("o", "resting", "40", 14)), PortfolioChange::OldOrder);
}

#[test]
fn a_view_is_subscribed_while_all_three_channels_are_confirmed() {
    let (mut portfolio, _) = view();
    for channel in [Channel::Fill, Channel::UserOrders, Channel::MarketPositions] {
        assert!(!portfolio.is_subscribed());
        portfolio.apply(&Event::Subscribed { channel, sid: 1 });
    }
    assert!(portfolio.is_subscribed() && !portfolio.is_current());
    portfolio.apply(&lost());
    assert!(!portfolio.is_subscribed());
    // The end of one is enough, until it is confirmed again.
    let (channel, reason) = (Channel::UserOrders, TerminationReason::Unsubscribed);
    for end in [
        Event::Unsubscribed { channel: channel.clone() },
        Event::Terminated { channel: channel.clone(), reason },
    ] {
        let (mut portfolio, _) = current();
        assert_eq!(portfolio.apply(&end), PortfolioChange::Stale);
        assert!(!portfolio.is_subscribed());
        let found = reconcile(&mut portfolio, snapshot());
        assert_eq!(found.status, ReconcileStatus::NotSubscribed);
        portfolio.apply(&Event::Subscribed { channel: channel.clone(), sid: 2 });
        assert!(portfolio.is_subscribed());
        assert!(reconcile(&mut portfolio, snapshot()).is_current());
    }
}
