//! The view of the caller's own account: what counts, what does not, and when it is current.

use kalshi_types::{Count, UnixMillis};
use kalshi_ws::{
    Account, AccountSource, Channel, Decoder, DisconnectReason, Event, FillRecord, Frame,
    OrderRecord, Payload, Portfolio, PortfolioChange, PositionRecord, ReconcileError,
};

fn event(frame: &str) -> Event {
    match Decoder::new().decode(frame, UnixMillis::from_millis(0)) {
        Frame::Message(message) => Event::Message(message),
        other => panic!("{other:?}"),
    }
}

fn fill(trade: &str, order: &str, ts: i64, after: &str) -> Event {
    event(&format!(
        r#"{{"type":"fill","sid":1,"msg":{{"trade_id":"{trade}","order_id":"{order}","market_ticker":"A","is_taker":true,"yes_price_dollars":"0.7500","count_fp":"5.00","fee_cost":"0.01","ts_ms":{ts},"post_position_fp":"{after}","outcome_side":"yes","book_side":"bid","subaccount":0}}}}"#
    ))
}

fn order(id: &str, status: &str, remaining: &str, updated: i64) -> Event {
    event(&format!(
        r#"{{"type":"user_order","sid":2,"msg":{{"order_id":"{id}","user_id":"u","ticker":"A","status":"{status}","outcome_side":"yes","book_side":"bid","yes_price_dollars":"0.3500","fill_count_fp":"0.00","remaining_count_fp":"{remaining}","initial_count_fp":"50.00","taker_fill_cost_dollars":"0","maker_fill_cost_dollars":"0","taker_fees_dollars":"0","maker_fees_dollars":"0","client_order_id":"","last_updated_ts_ms":{updated}}}}}"#
    ))
}

fn position(ticker: &str, count: &str) -> Event {
    event(&format!(
        r#"{{"type":"market_position","sid":3,"msg":{{"user_id":"u","market_ticker":"{ticker}","position_fp":"{count}","position_cost_dollars":"1","realized_pnl_dollars":"-2","fees_paid_dollars":"0.1","position_fee_cost_dollars":"0","volume_fp":"9"}}}}"#
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

fn subscribe(portfolio: &mut Portfolio) {
    for channel in [Channel::Fill, Channel::UserOrders, Channel::MarketPositions] {
        portfolio.apply(&Event::Subscribed { channel, sid: 1 });
    }
}

fn lost() -> Event {
    Event::Disconnected { reason: DisconnectReason::Silent }
}

struct Rest(Result<Account, ()>);

impl AccountSource for Rest {
    type Error = ();

    async fn read(&self, _: Option<UnixMillis>) -> Result<Account, ()> {
        self.0.clone()
    }
}

#[test]
fn a_fill_counts_once_and_one_trade_may_fill_two_orders() {
    let mut portfolio = Portfolio::new();
    assert_eq!(portfolio.apply(&fill("t", "o", 1, "5.00")), PortfolioChange::Fill);
    assert_eq!(portfolio.apply(&fill("t", "o", 1, "5.00")), PortfolioChange::KnownFill);
    assert_eq!(portfolio.apply(&fill("t", "other", 1, "0.00")), PortfolioChange::Fill);
    assert_eq!(portfolio.position_in("A", None), Count::ZERO);
}

#[test]
fn orders_do_not_go_back_and_do_not_come_back() {
    let mut portfolio = Portfolio::new();
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
    let mut portfolio = Portfolio::new();
    portfolio.apply(&position("A", "-3.00"));
    assert_eq!(portfolio.position_in("A", None), count("-3"));
    portfolio.apply(&fill("t", "o", 1, "2.00"));
    assert_eq!(portfolio.position_in("A", Some(0)), count("2"));
    portfolio.apply(&position("A", "0.00"));
    assert_eq!(portfolio.positions().count(), 0);

    assert!(!portfolio.is_current());
    let begun = {
        subscribe(&mut portfolio);
        portfolio.begin()
    };
    let (_, current) = portfolio.finish(begun, Account::default());
    assert!(current && portfolio.is_current());
    for loss in [
        lost(),
        Event::Lagged { channel: Some(Channel::Fill), dropped: 1 },
        Event::Terminated {
            channel: Channel::UserOrders,
            reason: kalshi_ws::TerminationReason::Unsubscribed,
        },
    ] {
        let mut portfolio = Portfolio::new();
        subscribe(&mut portfolio);
        let begun = portfolio.begin();
        assert!(portfolio.finish(begun, Account::default()).1);
        assert_eq!(portfolio.apply(&loss), PortfolioChange::Stale);
        assert!(!portfolio.is_current(), "{loss:?}");
    }
    let other = Event::Lagged { channel: Some(Channel::Ticker), dropped: 1 };
    assert_eq!(portfolio.apply(&other), PortfolioChange::None);
    assert!(portfolio.is_current());
}

#[tokio::test]
async fn a_reconciliation_finds_what_was_missed_and_counts_nothing_twice() {
    let mut portfolio = Portfolio::new();
    subscribe(&mut portfolio);
    portfolio.apply(&fill("t1", "o", 100_000, "5.00"));
    portfolio.apply(&order("open", "resting", "50", 10));
    portfolio.apply(&order("gone", "resting", "50", 10));
    portfolio.apply(&position("B", "7.00"));
    portfolio.apply(&lost());
    subscribe(&mut portfolio);
    assert_eq!(portfolio.begin().fills_since().unwrap().as_millis(), 40_000);
    let missed = fill_record(&fill("t2", "o", 200_000, "9.00"));
    let account = Account {
        fills: vec![missed.clone(), fill_record(&fill("t1", "o", 100_000, "5.00"))],
        orders: vec![order_record(&order("open", "resting", "20", 30))],
        positions: vec![position_record(&position("A", "9.00"))],
    };
    let rest = Rest(Ok(account));
    let found = portfolio.reconcile(&rest).await.unwrap();
    assert_eq!(found.missed, [missed]);
    assert_eq!(found.closed.iter().map(|o| o.order_id.as_str()).collect::<Vec<_>>(), ["gone"]);
    assert_eq!(portfolio.order_by_id("open").unwrap().remaining, count("20"));
    assert_eq!(portfolio.position_in("A", None), count("9"));
    assert_eq!(portfolio.position_in("B", None), Count::ZERO);
    assert!(portfolio.is_current());
    // The same again finds nothing, and the stream may repeat what was read.
    let again = portfolio.reconcile(&rest).await.unwrap();
    assert!(again.missed.is_empty() && again.closed.is_empty());
    let known = portfolio.apply(&fill("t2", "o", 200_000, "9.00"));
    assert_eq!(known, PortfolioChange::KnownFill);
    let failed = portfolio.reconcile(&Rest(Err(()))).await.unwrap_err();
    assert_eq!(failed, ReconcileError::Source(()));
}

#[test]
fn what_the_stream_says_meanwhile_outweighs_what_was_read_before_it() {
    let mut portfolio = Portfolio::new();
    subscribe(&mut portfolio);
    portfolio.apply(&order("a", "resting", "50", 10));
    let begun = portfolio.begin();
    portfolio.apply(&order("a", "executed", "0", 20));
    portfolio.apply(&order("new", "resting", "50", 21));
    portfolio.apply(&position("A", "50.00"));
    let account = Account {
        fills: Vec::new(),
        orders: vec![order_record(&order("a", "resting", "50", 10))],
        positions: vec![position_record(&position("A", "0.00"))],
    };
    let (found, current) = portfolio.finish(begun, account);
    assert!(current && found.closed.is_empty());
    assert!(portfolio.order_by_id("a").is_none());
    assert!(portfolio.order_by_id("new").is_some());
    assert_eq!(portfolio.position_in("A", None), count("50"));
}

#[tokio::test]
async fn a_reading_too_early_or_with_a_loss_in_it_does_not_make_the_view_current() {
    let mut portfolio = Portfolio::new();
    let early = portfolio.reconcile(&Rest(Ok(Account::default()))).await.unwrap_err();
    assert_eq!(early, ReconcileError::NotConfirmed);
    subscribe(&mut portfolio);
    let begun = portfolio.begin();
    portfolio.apply(&lost());
    assert!(!portfolio.finish(begun, Account::default()).1);
    assert!(!portfolio.is_current());
}

#[test]
fn a_fill_that_is_too_old_to_be_known_again_does_not_count() {
    let mut portfolio = Portfolio::remembering(2);
    for number in 1..=3 {
        portfolio.apply(&fill(&format!("t{number}"), "o", number, "1.00"));
    }
    assert_eq!(portfolio.apply(&fill("t1", "o", 1, "1.00")), PortfolioChange::OldFill);
    assert_eq!(portfolio.apply(&fill("t3", "o", 3, "1.00")), PortfolioChange::KnownFill);
    let begun = portfolio.begin();
    let account =
        Account { fills: vec![fill_record(&fill("t0", "o", 0, "1"))], ..Account::default() };
    let (found, _) = portfolio.finish(begun, account);
    assert!(found.missed.is_empty() && found.too_old.len() == 1);
}

#[test]
fn an_order_that_a_reading_left_out_comes_back_when_it_rests_after_all() {
    let mut portfolio = Portfolio::new();
    subscribe(&mut portfolio);
    portfolio.apply(&order("o", "resting", "50", 10));
    let leave_out = |portfolio: &mut Portfolio| {
        let begun = portfolio.begin();
        let (found, _) = portfolio.finish(begun, Account::default());
        assert_eq!(found.closed.len(), 1);
        assert!(portfolio.order_by_id("o").is_none());
    };
    leave_out(&mut portfolio);
    assert_eq!(portfolio.apply(&order("o", "resting", "60", 9)), PortfolioChange::OldOrder);
    assert_eq!(portfolio.apply(&order("o", "resting", "40", 12)), PortfolioChange::Order);
    assert_eq!(portfolio.order_by_id("o").unwrap().remaining, count("40"));

    leave_out(&mut portfolio);
    let begun = portfolio.begin();
    let rests = order_record(&order("o", "resting", "40", 12));
    portfolio.finish(begun, Account { orders: vec![rests], ..Account::default() });
    assert!(portfolio.order_by_id("o").is_some());

    // What says itself that it is over does not come back.
    leave_out(&mut portfolio);
    assert_eq!(portfolio.apply(&order("o", "executed", "0", 13)), PortfolioChange::Order);
    assert_eq!(portfolio.apply(&order("o", "resting", "40", 14)), PortfolioChange::OldOrder);
}

#[test]
fn a_view_is_subscribed_while_all_three_channels_are_confirmed() {
    let mut portfolio = Portfolio::new();
    for channel in [Channel::Fill, Channel::UserOrders, Channel::MarketPositions] {
        assert!(!portfolio.is_subscribed());
        portfolio.apply(&Event::Subscribed { channel, sid: 1 });
    }
    assert!(portfolio.is_subscribed() && !portfolio.is_current());
    portfolio.apply(&lost());
    assert!(!portfolio.is_subscribed());
}
