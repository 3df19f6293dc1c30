//! The streams of perpetual futures, where they differ: books, commands, orders without a status.

use std::time::Duration;

use kalshi_types::{Count, Dollars, PriceLevel, UnixMillis};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::{
    Backoff, BookChange, BookError, BookState,
    product::BookShape as _,
    session::{Limits, Output, Request, SessionState},
};

fn level(price: &str, count: &str) -> PriceLevel {
    PriceLevel { price: price.parse().unwrap(), count: count.parse().unwrap() }
}

fn contracts(count: i64) -> Count {
    Count::from_contracts(count).unwrap()
}

fn message(frame: &str) -> Message {
    match Decoder::new().decode(frame, UnixMillis::EPOCH) {
        Frame::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

fn order(remaining: &str, reason: &str) -> types::MarginUserOrder {
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!(r#","last_update_reason":"{reason}""#)
    };
    let frame = format!(
        r#"{{"type":"user_order","sid":1,"msg":{{"order_id":"o","user_id":"u","client_order_id":"c","ticker":"M","side":"bid","price":"64250.5","fill_count":"2.00","remaining_count":"{remaining}","created_ts_ms":null,"order_source":"user"{reason}}}}}"#
    );
    match message(&frame).payload {
        Payload::UserOrder(order) => *order,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_order_without_a_status_has_a_state_and_a_reason_that_is_new_ends_it_and_no_more() {
    for (remaining, reason, expected) in [
        ("1.00", "", OrderState::Resting),
        ("1.00", "Trade", OrderState::Resting),
        ("1.00", "Amend", OrderState::Resting),
        ("0.00", "Trade", OrderState::Executed),
        ("0.00", "Decrease", OrderState::Canceled),
        ("0.00", "MarginCancel", OrderState::Canceled),
        ("0.00", "SelfTradeCancel", OrderState::Canceled),
        ("0.00", "ExpiryCancel", OrderState::Canceled),
        ("0.00", "CloseCancel", OrderState::Canceled),
        ("0.00", "HaltCancel", OrderState::Canceled),
        ("0.00", "PostOnlyCrossCancel", OrderState::Canceled),
        ("0.00", "ReduceOnlyCancel", OrderState::Canceled),
        ("0.00", "", OrderState::Ended),
        ("0.00", "Liquidated", OrderState::Ended),
    ] {
        assert_eq!(order(remaining, reason).state(), expected, "{remaining} {reason}");
    }
    // Every reason of the document is one of them.
    for reason in types::LastUpdateReason::KNOWN {
        assert_ne!(order("0.00", reason).state(), OrderState::Ended, "{reason}");
    }
}

#[test]
fn a_book_has_two_sides_without_a_complement_and_prices_of_any_size() {
    let bids = [level("64250.5", "3"), level("64251", "10")];
    let asks = [level("64260.0001", "1"), level("64251.5", "5")];
    let mut book = OrderBook::from_levels(&bids, &asks).unwrap();
    assert_eq!(book.best_bid(), Some(level("64251", "10")));
    assert_eq!(book.best_ask(), Some(level("64251.5", "5")));
    assert_eq!(book.spread(), Some("0.5".parse().unwrap()));
    assert_eq!(book.mid(), Some("64251.25".parse().unwrap()));
    assert_eq!(book.depth(), Some((contracts(13), contracts(6))));
    let buy = book.estimate_buy(contracts(6)).unwrap();
    assert_eq!((buy.cost, buy.worst_price), ("385517.5001".parse().unwrap(), asks[0].price));
    let sell = book.estimate_sell(contracts(11)).unwrap();
    assert_eq!((sell.count, sell.cost), ("11".parse().unwrap(), "706760.5".parse().unwrap()));
    // Zero and less are no prices; whatever is above is.
    for price in ["0", "-1"] {
        let price: Dollars = price.parse().unwrap();
        let expected = Err(BookError::OutOfRange { price });
        assert_eq!(book.change(true, price, contracts(1)), expected);
        let levels = [PriceLevel { price, count: contracts(1) }];
        assert_eq!(OrderBook::from_levels(&levels, &[]).map(drop), expected);
    }
    assert_eq!(book.change(false, Dollars::MAX, contracts(1)), Ok(()));
    assert!(!book.is_crossed() && !book.is_empty());
    assert_eq!(book.change(true, "70000".parse().unwrap(), contracts(1)), Ok(()));
    assert!(book.is_crossed() && book.check_uncrossed().is_err());
    assert_eq!(
        OrderBook::from_levels(&[bids[0], bids[0]], &[]).map(drop),
        Err(BookError::DuplicateLevel { price: bids[0].price })
    );
}

proptest! {
    #[test]
    fn a_snapshot_is_sorted_by_price_whatever_its_order(
        prices in prop::collection::btree_set(1..1_000_000_000_i64, 0..40),
        split in 0..40_usize,
        seed in any::<i64>(),
    ) {
        let levels = prices.iter().map(|micros| PriceLevel {
            price: Dollars::from_micros(*micros),
            count: Count::from_hundredths(1 + micros % 500),
        });
        let levels: Vec<PriceLevel> = levels.collect();
        let (bids, asks) = levels.split_at(split.min(levels.len()));
        let shuffle = |levels: &[PriceLevel]| {
            let mut levels = levels.to_vec();
            levels.sort_by_key(|level| level.price.as_micros().wrapping_mul(seed | 1));
            levels
        };
        let book = OrderBook::from_levels(&shuffle(bids), &shuffle(asks)).unwrap();
        prop_assert!(book.bids().eq(bids.iter().rev().copied()));
        prop_assert!(book.asks().eq(asks.iter().copied()));
        // The same by changes of single levels.
        let mut built = OrderBook::new();
        for (bid, levels) in [(true, shuffle(bids)), (false, shuffle(asks))] {
            for level in levels {
                built.change(bid, level.price, level.count).unwrap();
            }
        }
        prop_assert_eq!(&built, &book);
    }
}

/// A session that is connected, and subscribed to one channel.
struct Session {
    state: SessionState<Perps>,
    decoder: Decoder,
    books: Books,
    now: Instant,
    sent: Vec<Value>,
    events: Vec<Event>,
}

impl Session {
    fn new() -> Self {
        let limits = Limits {
            command_timeout: Duration::from_secs(1),
            snapshot_timeout: Duration::from_secs(1),
            stale_after: Duration::from_secs(30),
            backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(50)),
            items_per_command: 10,
        };
        let now = Instant::now();
        let mut session = Self {
            state: SessionState::new(limits, now),
            decoder: Decoder::new(),
            books: Books::new(),
            now,
            sent: Vec::new(),
            events: Vec::new(),
        };
        session.state.connected(now, None);
        session
    }

    fn request(&mut self, request: Request<Perps>) {
        self.state.request(request, self.now);
        self.carry_out();
    }

    fn frame(&mut self, text: &str) {
        let frame = self.decoder.decode(text, UnixMillis::EPOCH);
        if let Some((_, event)) = self.state.frame(frame, text.len(), self.now) {
            self.take(event);
        }
        self.carry_out();
    }

    fn take(&mut self, event: Event) {
        self.books.apply(&event);
        self.events.push(event);
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.state.output() {
            match output {
                Output::Send(command) => {
                    self.sent.push(serde_json::from_str(&command.to_text()).unwrap());
                }
                Output::Event(_, event, _) => self.take(event),
                Output::ForgetNames(tickers) => self.decoder.forget(tickers),
                Output::ForgetAllNames => self.decoder.clear(),
                Output::Lane { .. } | Output::Drop(_) => {}
            }
        }
    }

    fn subscribed(subscription: Subscription) -> Self {
        let mut session = Self::new();
        let channel = subscription.for_channel().to_string();
        session.request(Request::Subscribe(Box::new(subscription)));
        session.frame(&format!(
            r#"{{"id":1,"type":"subscribed","msg":{{"channel":"{channel}","sid":7}}}}"#
        ));
        session
    }
}

#[test]
fn commands_have_the_parameters_of_this_product_and_no_others() {
    let mut session = Session::subscribed(Subscription::orderbook(["A", "B"]));
    let snapshot = |seq: i64, ticker: &str| {
        format!(
            r#"{{"type":"orderbook_snapshot","sid":7,"seq":{seq},"msg":{{"market_ticker":"{ticker}"}}}}"#
        )
    };
    session.frame(&snapshot(1, "A"));
    session.frame(&snapshot(2, "B"));
    session.request(Request::Add(Channel::OrderbookDelta, vec!["C".to_owned()]));
    session.frame(r#"{"id":2,"type":"ok","sid":7}"#);
    session.frame(&snapshot(3, "C"));
    session.request(Request::Delete(Channel::OrderbookDelta, vec!["A".to_owned()]));
    session.frame(r#"{"id":3,"type":"ok","sid":7}"#);
    session.request(Request::Snapshot(vec!["B".to_owned()]));
    session.request(Request::Unsubscribe(Channel::OrderbookDelta));
    let update = |action: &str, ticker: &str| json!({"action": action, "market_tickers": [ticker], "sids": [7]});
    let expected = [
        (
            "subscribe",
            json!({"channels": ["orderbook_delta"], "market_tickers": ["A", "B"], "skip_ticker_ack": true}),
        ),
        ("update_subscription", update("add_markets", "C")),
        ("update_subscription", update("delete_markets", "A")),
        ("update_subscription", update("get_snapshot", "B")),
        ("unsubscribe", json!({"sids": [7]})),
    ];
    assert_eq!(session.sent.len(), expected.len(), "{:#?}", session.sent);
    for ((id, (cmd, params)), sent) in (1..).zip(expected).zip(&session.sent) {
        assert_eq!(*sent, json!({"id": id, "cmd": cmd, "params": params}));
    }
    // All markets, and the first state of each.
    let session = Session::subscribed(Subscription::ticker([""; 0]).with_initial_snapshot());
    let params = json!({"channels": ["ticker"], "send_initial_snapshot": true});
    assert_eq!(session.sent[0]["params"], params);
    assert!(Subscription::orderbook([""; 0]).check().is_err());
}

#[test]
fn a_lost_message_is_a_gap_on_every_channel_that_counts_and_on_no_other() {
    let counting: Vec<&str> = MESSAGE_KINDS
        .iter()
        .filter(|kind| kind.sequenced)
        .flat_map(|kind| kind.channels)
        .map(Channel::as_str)
        .collect();
    for name in Channel::KNOWN.iter().copied() {
        let mut session =
            Session::subscribed(Subscription::channel(Channel::from(name)).with_items(["M"]));
        // A message whose content cannot be read, behind one that is missing.
        session.frame(r#"{"type":"news","sid":7,"seq":1,"msg":{}}"#);
        let before = session.events.len();
        session.frame(r#"{"type":"news","sid":7,"seq":3,"msg":{}}"#);
        let gaps = session.events[before..].iter().filter(|event| {
            matches!(event, Event::Gap { expected: Some(2), received: Some(3), .. })
        });
        let expected = usize::from(counting.contains(&name));
        assert_eq!(gaps.count(), expected, "{name}");
    }
    let counting: std::collections::BTreeSet<&str> = counting.into_iter().collect();
    let expected = ["corporate_actions", "order_group_updates", "orderbook_delta", "trade"];
    assert!(counting.iter().copied().eq(expected), "{counting:?}");
}

#[test]
fn a_book_is_void_after_a_gap_until_its_next_snapshot() {
    let mut session = Session::subscribed(Subscription::orderbook(["M"]));
    let snapshot = |seq: i64| {
        format!(
            r#"{{"type":"orderbook_snapshot","sid":7,"seq":{seq},"msg":{{"market_ticker":"M","bid":[["64250.5","3.00"]]}}}}"#
        )
    };
    let delta = |seq: i64, side: &str, price: &str| {
        format!(
            r#"{{"type":"orderbook_delta","sid":7,"seq":{seq},"msg":{{"market_ticker":"M","price":"{price}","delta":"2.00","side":"{side}","ts_ms":{seq}}}}}"#
        )
    };
    session.frame(&snapshot(1));
    session.frame(&delta(2, "ask", "64251"));
    let book = session.books.get("M").unwrap();
    assert_eq!(book.best_ask(), Some(level("64251", "2")));
    assert_eq!(
        (session.books.clock("M"), session.books.updated("M")),
        (None, Some(UnixMillis::from_millis(2)))
    );
    session.frame(&delta(4, "bid", "64250"));
    assert_eq!(session.books.state("M"), BookState::Void);
    assert_eq!(session.sent.last().unwrap()["params"]["action"], "get_snapshot");
    session.frame(&snapshot(5));
    assert_eq!(session.books.state("M"), BookState::Valid);
    assert!(session.books.get("M").unwrap().asks().next().is_none());
    // A side that is new makes the book corrupt, not wrong.
    let event = Event::Message(message(&delta(6, "middle", "64250")));
    assert_eq!(session.books.apply(&event), BookChange::Corrupt(BookError::UnknownSide));
    assert_eq!(session.books.state("M"), BookState::Void);
}

#[test]
fn deltas_of_one_market_share_their_names_and_have_no_id_and_no_clock() {
    let mut decoder = Decoder::new();
    let frame = r#"{"type":"orderbook_delta","sid":7,"seq":1,"sending_ts_ms":9,"msg":{"market_ticker":"M","price":"64250.5000","delta":"-2.00","side":"bid","last_update_reason":"Amend","client_order_id":"mine","subaccount":3,"ts_ms":1}}"#;
    let deltas = [(); 2].map(|()| match decoder.decode(frame, UnixMillis::EPOCH) {
        Frame::Message(message) => {
            assert_eq!(message.clock(), None);
            match message.payload {
                Payload::OrderbookDelta(delta) => delta,
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    });
    assert!(deltas[0].market.is_same(&deltas[1].market));
    assert_eq!((deltas[0].market.ticker(), deltas[0].market.id()), ("M", ""));
    assert_eq!(deltas[0].last_update_reason.as_deref(), Some(&types::LastUpdateReason::Amend));
    let own = deltas[0].own.as_deref().unwrap();
    assert_eq!((own.client_order_id.as_deref(), own.subaccount), (Some("mine"), Some(3)));
    let value: Value = serde_json::from_str(frame).unwrap();
    assert_eq!(serde_json::to_value(&deltas[0]).unwrap(), value["msg"]);
}

fn book(seq: i64, ticker: &str) -> String {
    format!(
        r#"{{"type":"orderbook_snapshot","sid":7,"seq":{seq},"msg":{{"market_ticker":"{ticker}","bid":[["10.00","3.00"]]}}}}"#
    )
}

fn change(seq: i64, ticker: &str) -> String {
    format!(
        r#"{{"type":"orderbook_delta","sid":7,"seq":{seq},"msg":{{"market_ticker":"{ticker}","price":"10.00","delta":"1.00","side":"bid","ts_ms":{seq}}}}}"#
    )
}

/// Returns the message that a ticker has changed.
fn new_ticker(seq: i64, old: &str, new: &str) -> String {
    let terms = json!({"old_ticker": old, "new_ticker": new});
    let action = json!({"id": "1", "market_id": "m", "market_ticker": new, "type": "ticker_change", "ts_ms": 1, "ticker_change": terms});
    json!({"type": "corporate_actions_delta", "sid": 8, "seq": seq, "msg": {"corporate_action": action}})
        .to_string()
}

/// Returns a session with the books of OLD and B, and the channel of corporate actions.
fn with_two_books() -> Session {
    let mut session = Session::subscribed(Subscription::orderbook(["OLD", "B"]));
    session.frame(&book(1, "OLD"));
    session.frame(&book(2, "B"));
    session.request(Request::Subscribe(Box::new(Subscription::corporate_actions())));
    session.frame(r#"{"id":2,"type":"subscribed","msg":{"channel":"corporate_actions","sid":8}}"#);
    session
}

fn states(session: &Session) -> [BookState; 3] {
    ["OLD", "NEW", "B"].map(|ticker| session.books.state(ticker))
}

/// Returns the action and the markets of the last command.
fn last_command(session: &Session) -> (&str, Value) {
    let params = &session.sent.last().unwrap()["params"];
    (params["action"].as_str().unwrap(), params["market_tickers"].clone())
}

#[test]
fn a_book_message_of_a_market_that_was_not_subscribed_to_voids_the_books_once() {
    use BookState::{Absent, Valid, Void};
    let mut session = with_two_books();
    session.frame(&change(3, "OLD"));
    // The ticker has changed, and the message about it was lost, or comes later.
    session.frame(&change(4, "NEW"));
    assert_eq!(states(&session), [Void, Absent, Void]);
    let gaps = |session: &Session| {
        session.events.iter().filter(|event| matches!(event, Event::Gap { .. })).count()
    };
    assert!(matches!(session.events.last(), Some(Event::Unmatched(_))));
    assert_eq!(
        (gaps(&session), last_command(&session)),
        (1, ("get_snapshot", json!(["B", "OLD"])))
    );
    session.frame(&book(5, "B"));
    session.frame(&change(6, "NEW"));
    session.frame(&book(7, "NEW"));
    session.frame(&change(8, "B"));
    assert_eq!((gaps(&session), states(&session)), (1, [Void, Absent, Valid]));
    // It is told at last.
    session.frame(&new_ticker(1, "OLD", "NEW"));
    assert_eq!(states(&session), [Absent, Absent, Valid]);
    // A second request waits a little.
    session.now += Duration::from_millis(200);
    session.state.tick(session.now);
    session.carry_out();
    assert_eq!(last_command(&session), ("get_snapshot", json!(["NEW"])));
    session.frame(&book(9, "NEW"));
    session.frame(&change(10, "NEW"));
    assert_eq!((gaps(&session), states(&session)), (1, [Absent, Valid, Valid]));
}

#[test]
fn a_change_of_a_ticker_takes_the_old_one_out_and_gets_the_book_of_the_new_one() {
    use BookState::{Absent, Valid};
    let mut session = with_two_books();
    let before = session.events.len();
    session.frame(&new_ticker(1, "OLD", "NEW"));
    let told: Vec<String> = session.events[before..]
        .iter()
        .map(|event| match event {
            Event::Message(message) => message.payload.kind().to_owned(),
            Event::Removed { items, .. } => format!("removed {items:?}"),
            Event::Added { items, .. } => format!("added {items:?}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["corporate_actions_delta", r#"removed ["OLD"]"#, r#"added ["NEW"]"#]);
    assert_eq!(last_command(&session), ("get_snapshot", json!(["NEW"])));
    // What is left of the old one on the way is of no book, and voids none.
    session.frame(&change(3, "OLD"));
    session.frame(&book(4, "NEW"));
    session.frame(&change(5, "NEW"));
    session.frame(&change(6, "B"));
    assert_eq!(states(&session), [Absent, Valid, Valid]);
    // Of another market, and once more: nothing changes.
    let before = session.events.len();
    session.frame(&new_ticker(2, "OTHER", "ANOTHER"));
    session.frame(&new_ticker(3, "OLD", "NEW"));
    assert_eq!(session.events.len(), before + 2);
    // And back.
    session.frame(&new_ticker(4, "NEW", "OLD"));
    session.frame(&book(7, "OLD"));
    session.frame(&change(8, "OLD"));
    assert_eq!(states(&session), [Valid, Absent, Valid]);
    // The next connection asks for what the market is called now.
    session.state.disconnected(crate::DisconnectReason::Silent, session.now);
    session.state.connected(session.now, Some(1));
    session.carry_out();
    let books =
        session.sent.iter().rfind(|sent| sent["params"]["channels"][0] == "orderbook_delta");
    assert_eq!(books.unwrap()["params"]["market_tickers"], json!(["B", "OLD"]));
}

#[test]
fn a_command_that_waits_for_its_reply_is_about_the_new_ticker() {
    use BookState::{Absent, Valid};
    // Taken out, and called something else before the exchange says so.
    let mut session = with_two_books();
    session.request(Request::Delete(Channel::OrderbookDelta, vec!["OLD".to_owned()]));
    let id = session.sent.last().unwrap()["id"].clone();
    session.frame(&new_ticker(1, "OLD", "NEW"));
    session.frame(&change(3, "NEW"));
    let sent = session.sent.len();
    session.frame(&json!({"id": id, "type": "ok", "sid": 7}).to_string());
    assert_eq!((states(&session), session.sent.len()), ([Absent, Absent, Valid], sent));
    // Added, and called something else before its snapshot comes.
    let mut session = Session::subscribed(Subscription::orderbook(["B"]));
    session.frame(&book(1, "B"));
    session.request(Request::Subscribe(Box::new(Subscription::corporate_actions())));
    session.frame(r#"{"id":2,"type":"subscribed","msg":{"channel":"corporate_actions","sid":8}}"#);
    session.request(Request::Add(Channel::OrderbookDelta, vec!["OLD".to_owned()]));
    session.frame(&new_ticker(1, "OLD", "NEW"));
    session.frame(r#"{"id":3,"type":"ok","sid":7}"#);
    session.frame(&book(2, "NEW"));
    session.frame(&change(3, "NEW"));
    assert_eq!(states(&session), [Absent, Valid, Valid]);
    assert!(!session.events.iter().any(|event| matches!(event, Event::Gap { .. })));
}
