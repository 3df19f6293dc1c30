//! Order books: what they hold, what they refuse, and when they may be read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use kalshi_types::{Count, Dollars, PriceLevel, UnixMillis};
use kalshi_ws::{
    BookChange, BookError, BookState, Books, Channel, Decoder, DisconnectReason, Event, Frame,
    OrderBook, Outcome, Payload, Refusal,
};
use proptest::prelude::*;

fn event(frame: &str) -> Event {
    match Decoder::new().decode(frame, UnixMillis::from_millis(0)) {
        Frame::Message(message) => Event::Message(message),
        other => panic!("{other:?}"),
    }
}

fn snapshot(ticker: &str, bids: &str, asks: &str) -> Event {
    event(&format!(
        r#"{{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{{"market_ticker":"{ticker}","market_id":"m","yes_dollars_fp":[{bids}],"no_dollars_fp":[{asks}]}}}}"#
    ))
}

fn delta(ticker: &str, side: &str, price: &str, count: &str) -> Event {
    event(&format!(
        r#"{{"type":"orderbook_delta","sid":1,"seq":2,"msg":{{"market_ticker":"{ticker}","market_id":"m","price_dollars":"{price}","delta_fp":"{count}","side":"{side}","ts_ms":5}}}}"#
    ))
}

fn gap() -> Event {
    Event::Gap { channel: Channel::OrderbookDelta, sid: 1, expected: Some(2), received: Some(4) }
}

fn usd(text: &str) -> Dollars {
    text.parse().unwrap()
}

fn contracts(text: &str) -> Count {
    text.parse().unwrap()
}

fn level(price: &str, count: &str) -> PriceLevel {
    PriceLevel { price: usd(price), count: contracts(count) }
}

fn book() -> OrderBook {
    OrderBook::from_levels(
        &[level("0.40", "10"), level("0.42", "5.5")],
        &[level("0.47", "3"), level("0.45", "7"), level("0.9999", "1")],
    )
    .unwrap()
}

#[test]
fn a_book_reads_in_terms_of_yes_and_of_no() {
    let book = book();
    assert_eq!(book.best_bid(Outcome::Yes), Some(level("0.42", "5.5")));
    assert_eq!(book.best_ask(Outcome::Yes), Some(level("0.45", "7")));
    assert_eq!(book.best_bid(Outcome::No), Some(level("0.55", "7")));
    assert_eq!(book.best_ask(Outcome::No), Some(level("0.58", "5.5")));
    assert_eq!(book.spread(), Some(usd("0.03")));
    assert_eq!(book.mid(Outcome::Yes), Some(usd("0.435")));
    assert_eq!(book.mid(Outcome::No), Some(usd("0.565")));
    assert_eq!(book.depth(Outcome::Yes), Some((contracts("15.5"), contracts("11"))));
    assert_eq!(book.depth(Outcome::No), Some((contracts("11"), contracts("15.5"))));
    let asks: Vec<String> = book.asks(Outcome::Yes).map(|l| l.price.to_string()).collect();
    assert_eq!(asks, ["0.4500", "0.4700", "0.9999"]);
    let bids: Vec<String> = book.bids(Outcome::No).map(|l| l.price.to_string()).collect();
    assert_eq!(bids, ["0.5500", "0.5300", "0.0001"]);
    assert!(!book.is_crossed());
}

#[test]
fn an_order_of_some_size_takes_level_after_level() {
    let book = book();
    let sweep = book.estimate_buy(Outcome::Yes, contracts("8.25")).unwrap();
    assert_eq!((sweep.count, sweep.worst_price), (contracts("8.25"), usd("0.47")));
    assert_eq!(sweep.cost, usd("3.7375"));
    let sweep = book.estimate_sell(Outcome::Yes, contracts("100")).unwrap();
    assert_eq!((sweep.count, sweep.cost), (contracts("15.5"), usd("6.31")));
    let sweep = book.estimate_buy(Outcome::No, contracts("1")).unwrap();
    assert_eq!(sweep.cost, usd("0.58"));
    assert_eq!(book.estimate_buy(Outcome::Yes, Count::ZERO), None);
    assert_eq!(OrderBook::new().estimate_buy(Outcome::Yes, contracts("1")), None);
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let twice = [level("0.40", "1"), level("0.40", "2")];
    let error = OrderBook::from_levels(&twice, &[]).unwrap_err();
    assert_eq!(error, BookError::DuplicateLevel { price: usd("0.40") });
    let negative = [level("0.40", "-1")];
    assert!(OrderBook::from_levels(&[], &negative).is_err());
    assert!(OrderBook::from_levels(&[level("1.01", "1")], &[]).is_err());
    assert!(OrderBook::from_levels(&[level("0.5", "0")], &[]).unwrap().is_empty());
}

#[test]
fn a_book_is_void_until_its_snapshot_and_after_a_gap() {
    let mut books = Books::new();
    assert_eq!(books.state("A"), BookState::Absent);
    assert_eq!(books.apply(&delta("A", "yes", "0.40", "1")), BookChange::None);
    assert!(books.get("A").is_none());
    assert_eq!(books.apply(&snapshot("A", r#"["0.40","1"]"#, "")), BookChange::Replaced);
    assert_eq!(books.apply(&snapshot("B", "", r#"["0.70","2"]"#)), BookChange::Replaced);
    assert_eq!(books.apply(&delta("A", "no", "0.60", "1.5")), BookChange::Updated);
    assert_eq!(books.get("A").unwrap().spread(), Some(usd("0.20")));
    assert_eq!(books.updated("A").unwrap().as_millis(), 5);
    assert_eq!(books.iter().count(), 2);

    assert_eq!(books.apply(&gap()), BookChange::Voided);
    assert_eq!((books.state("A"), books.state("B")), (BookState::Void, BookState::Void));
    assert!(books.get("A").is_none() && books.iter().next().is_none());
    assert_eq!(books.apply(&delta("A", "no", "0.60", "1")), BookChange::None);
    assert_eq!(books.apply(&snapshot("A", "", "")), BookChange::Replaced);
    assert!(books.get("A").unwrap().is_empty());
    assert!(books.get("B").is_none());
}

#[test]
fn whatever_ends_the_feed_of_a_book_makes_it_unreadable() {
    let ends = [
        gap(),
        Event::Disconnected { reason: DisconnectReason::Silent },
        Event::Lagged { channel: Some(Channel::OrderbookDelta), dropped: 1 },
        Event::Terminated {
            channel: Channel::OrderbookDelta,
            reason: kalshi_ws::TerminationReason::Overflow,
        },
        Event::Unsubscribed { channel: Channel::OrderbookDelta },
        Event::Removed { channel: Channel::OrderbookDelta, items: vec!["A".to_owned()] },
        Event::Closed { error: None },
    ];
    for end in ends {
        let mut books = Books::new();
        books.apply(&snapshot("A", r#"["0.40","1"]"#, ""));
        assert!(books.get("A").is_some());
        books.apply(&end);
        assert!(books.get("A").is_none(), "{end:?}");
    }
    // What is refused is not kept up to date; what was never asked for is no book.
    for (items, is_left) in
        [(vec!["A".to_owned()], false), (vec!["B".to_owned()], true), (vec![], false)]
    {
        let error = Decoder::new()
            .decode(r#"{"type":"error","msg":{"code":11,"msg":""}}"#, UnixMillis::from_millis(0));
        let Frame::Error { error, .. } = error else { panic!() };
        let mut books = Books::new();
        books.apply(&snapshot("A", r#"["0.40","1"]"#, ""));
        let channel = Channel::OrderbookDelta;
        let conflict = Refusal::Conflict;
        books.apply(&Event::Refused {
            channel: channel.clone(),
            items: items.clone(),
            reason: conflict,
        });
        assert!(books.get("A").is_some());
        books.apply(&Event::Refused { channel, items, reason: Refusal::Server(error) });
        assert_eq!(books.get("A").is_some(), is_left);
    }
    // Those of other channels do not.
    let mut books = Books::new();
    books.apply(&snapshot("A", r#"["0.40","1"]"#, ""));
    books.apply(&Event::Lagged { channel: Some(Channel::Trade), dropped: 1 });
    books.apply(&Event::Unsubscribed { channel: Channel::Ticker });
    assert!(books.get("A").is_some());
}

#[test]
fn a_level_below_zero_is_corruption_and_asks_for_a_snapshot_until_that_is_taken() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let mut books = Books::with_resync(move |ticker| {
        let mut log = log.lock().unwrap();
        log.push(ticker.to_owned());
        log.len() > 1
    });
    books.apply(&snapshot("A", r#"["0.40","1"]"#, ""));
    books.apply(&snapshot("B", r#"["0.40","1"]"#, ""));
    let change = books.apply(&delta("A", "yes", "0.40", "-1.01"));
    assert!(matches!(change, BookChange::Corrupt(BookError::NegativeLevel { .. })));
    assert!(books.get("A").is_none() && books.get("B").is_some());
    books.apply(&delta("B", "yes", "0.40", "1"));
    books.apply(&delta("B", "yes", "0.40", "1"));
    assert_eq!(*asked.lock().unwrap(), ["A", "A"]);
    books.apply(&snapshot("A", "", ""));
    assert!(books.get("A").is_some());
    for side in ["maybe", "yes"] {
        books.apply(&delta("A", side, "0.3", if side == "yes" { "-1" } else { "1" }));
        assert!(books.get("A").is_none());
        books.apply(&snapshot("A", "", ""));
    }
}

/// Returns a change of one clock.
fn clocked(clock: i64, side: &str, price: &str, count: &str) -> Event {
    let Event::Message(mut message) = delta("A", side, price, count) else { panic!() };
    let Payload::OrderbookDelta(delta) = &mut message.payload else { panic!() };
    delta.clock = Some(clock);
    Event::Message(message)
}

#[test]
fn r1_a_crossed_book_is_never_valid() {
    // A snapshot whose NO prices are read as prices of YES.
    let mut books = Books::new();
    let change = books.apply(&snapshot("A", r#"["0.45","10"]"#, r#"["0.44","10"]"#));
    assert!(matches!(change, BookChange::Corrupt(BookError::Crossed { .. })));
    assert_eq!(books.state("A"), BookState::Void);
    assert!(books.get("A").is_none() && books.iter().next().is_none());

    // One change in two messages: the book cannot be read in between, and is right after.
    books.apply(&snapshot("A", r#"["0.45","10"]"#, r#"["0.46","10"]"#));
    assert_eq!(books.apply(&clocked(5, "yes", "0.46", "5")), BookChange::Updated);
    assert_eq!(books.state("A"), BookState::Crossed);
    assert!(books.get("A").is_none() && books.iter().next().is_none());
    assert_eq!((books.updated("A"), books.clock("A")), (None, None));
    assert_eq!(books.apply(&clocked(5, "no", "0.46", "-10")), BookChange::Updated);
    assert_eq!(books.state("A"), BookState::Valid);
    assert_eq!(books.clock("A"), Some(5));

    // A cross that lasts beyond its change is no book at all.
    books.apply(&clocked(6, "no", "0.46", "10"));
    books.apply(&clocked(6, "no", "0.47", "10"));
    assert_eq!(books.state("A"), BookState::Crossed);
    let change = books.apply(&clocked(7, "yes", "0.10", "1"));
    assert!(matches!(change, BookChange::Corrupt(BookError::Crossed { .. })));
    assert_eq!(books.state("A"), BookState::Void);
}

#[test]
fn a2_the_clock_of_a_book_is_that_of_its_newest_message() {
    let with_clock = |clock: &str| {
        event(&format!(
            r#"{{"type":"orderbook_snapshot","sid":1,"seq":2,"msg":{{"market_ticker":"A","market_id":"m"{clock},"yes_dollars_fp":[["0.40","10"]]}}}}"#
        ))
    };
    let mut books = Books::new();
    assert_eq!(books.clock("A"), None);
    for (clock, expected) in [(",\"clock\":0", Some(0)), (",\"clock\":41", Some(41)), ("", None)] {
        let snapshot = with_clock(clock);
        assert_eq!(snapshot.clock(), expected);
        books.apply(&snapshot);
        assert_eq!(books.clock("A"), expected);
    }
    books.apply(&with_clock(",\"clock\":41"));
    for clock in [44, 44, 50] {
        let delta = clocked(clock, "yes", "0.40", "1");
        assert_eq!(delta.clock(), Some(clock));
        books.apply(&delta);
        assert_eq!(books.clock("A"), Some(clock));
    }
    // A frame of an older exchange.
    books.apply(&delta("A", "yes", "0.40", "1"));
    assert_eq!(books.clock("A"), Some(50));
    books.void();
    assert_eq!(books.clock("A"), None);
}

#[test]
fn a_book_without_your_own_orders_is_that_of_the_others() {
    use kalshi_ws::{RestingOrder, types::BookSide};
    let order = |book_side: BookSide, price: &str, count: &str| RestingOrder {
        book_side,
        yes_price: usd(price),
        count: contracts(count),
    };
    let (bid, ask) = (BookSide::Bid, BookSide::Ask);
    let own = [
        order(bid.clone(), "0.42", "5.5"),
        order(ask.clone(), "0.45", "2"),
        order(ask.clone(), "0.45", "3"),
        // More than there is, and where there is nothing: they are not in the book yet.
        order(ask, "0.9999", "7"),
        order(bid, "0.30", "1"),
    ];
    let expected =
        OrderBook::from_levels(&[level("0.40", "10")], &[level("0.45", "2"), level("0.47", "3")]);
    assert_eq!(book().without(own).unwrap(), expected.unwrap());
    assert_eq!(book().without(Vec::<RestingOrder>::new()).unwrap(), book());
    let unknown = order(BookSide::from("middle"), "0.40", "1");
    assert_eq!(book().without([unknown]), Err(BookError::UnknownSide));
}

proptest! {
    #[test]
    fn a_book_agrees_with_a_map_of_levels(
        changes in prop::collection::vec((any::<bool>(), 0_i64..20, -500_i64..1_000), 0..300),
    ) {
        let mut book = OrderBook::new();
        let mut model: BTreeMap<(bool, i64), i64> = BTreeMap::new();
        for (bid, tick, hundredths) in changes {
            let price = Dollars::from_cents(tick * 5).unwrap();
            let count = Count::from_hundredths(hundredths);
            let side = if bid { "yes" } else { "no" };
            let Event::Message(message) = delta("A", side, &price.to_string(), &count.to_string())
            else { panic!() };
            let Payload::OrderbookDelta(delta) = message.payload else { panic!() };
            let held = model.get(&(bid, tick)).copied().unwrap_or(0);
            let before = book.clone();
            let applied = book.apply(&delta);
            if held + hundredths < 0 {
                prop_assert!(applied.is_err());
                prop_assert_eq!(&book, &before);
                continue;
            }
            prop_assert!(applied.is_ok());
            if held + hundredths == 0 {
                model.remove(&(bid, tick));
            } else {
                model.insert((bid, tick), held + hundredths);
            }
            let best_bid = model.keys().filter(|(bid, _)| *bid).map(|(_, tick)| tick).max();
            let best_ask = model.keys().filter(|(bid, _)| !bid).map(|(_, tick)| tick).min();
            let is_crossed = best_bid.zip(best_ask).is_some_and(|(bid, ask)| bid >= ask);
            prop_assert_eq!(book.is_crossed(), is_crossed);
        }
        let levels = |bid: bool| model.iter().filter(move |((side, _), _)| *side == bid).map(|((_, tick), n)| {
            PriceLevel { price: Dollars::from_cents(tick * 5).unwrap(), count: Count::from_hundredths(*n) }
        });
        let bids: Vec<PriceLevel> = levels(true).rev().collect();
        let asks: Vec<PriceLevel> = levels(false).collect();
        prop_assert_eq!(book.bids(Outcome::Yes).collect::<Vec<_>>(), bids.clone());
        prop_assert_eq!(book.asks(Outcome::Yes).collect::<Vec<_>>(), asks.clone());
        prop_assert_eq!(book, OrderBook::from_levels(&bids, &asks).unwrap());
    }
}
