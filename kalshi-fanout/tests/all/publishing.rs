//! The messages of a publisher, and the events that a follower makes of them.

use std::time::Duration;

use kalshi_fanout::{
    BusMessage, Envelope, Flags, Follower, FollowerConfig, FollowerRequest, Publisher,
    PublisherConfig,
};
use kalshi_types::UnixMillis;
use kalshi_ws::{BookState, Channel, DisconnectReason, Event, PriceConvention, Replay};

const ZERO: Duration = Duration::ZERO;
const WALL: UnixMillis = UnixMillis::from_millis(1_700_000_000_000);

const SUBSCRIBED: &str =
    r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#;

fn snapshot(seq: u64, ticker: &str) -> String {
    format!(
        r#"{{"type":"orderbook_snapshot","sid":1,"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"i","yes_dollars_fp":[["0.40","10.00"]]}}}}"#
    )
}

fn delta(seq: u64, ticker: &str, more: &str) -> String {
    format!(
        r#"{{"type":"orderbook_delta","sid":1,"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"i","price_dollars":"0.41","delta_fp":"1.00","side":"yes","ts_ms":1{more}}}}}"#
    )
}

fn publisher() -> Publisher {
    let mut publisher = Publisher::new(PublisherConfig::new("sim", "a")).unwrap();
    publisher.lead(1, Duration::from_secs(1_000), ZERO);
    publisher
}

/// Takes what is to be published, and acknowledges it.
fn take(publisher: &mut Publisher, now: Duration) -> Vec<BusMessage> {
    let mut messages = Vec::new();
    while let Some(publication) = publisher.next(WALL, now) {
        publisher.acknowledged(publication.token);
        messages.push(publication.message);
    }
    messages
}

fn envelope(message: &BusMessage) -> Envelope {
    let headers = message.headers.iter().map(|(name, value)| (&**name, &**value));
    Envelope::from_headers(headers).unwrap()
}

fn books(messages: &[BusMessage]) -> Vec<(u64, u32, String)> {
    let of_books = messages.iter().filter(|message| message.subject.contains(".book."));
    of_books
        .map(|message| {
            let Envelope { n, flags, .. } = envelope(message);
            (n, flags.0, String::from_utf8(message.payload.to_vec()).unwrap())
        })
        .collect()
}

fn follower() -> Follower {
    let mut follower = Follower::new(FollowerConfig::new("sim"), || ZERO).unwrap();
    follower.follow(["A.1"]).unwrap();
    follower
}

fn give(follower: &mut Follower, messages: &[BusMessage], now: Duration) -> Vec<Event> {
    let mut events = Vec::new();
    for message in messages {
        follower.message(message, now);
        events.extend(std::iter::from_fn(|| follower.next_event(now)));
    }
    events
}

#[test]
fn frames_go_through_byte_for_byte_also_those_before_the_confirmation() {
    let mut publisher = publisher();
    // With a space that no serializer of ours writes.
    let first = snapshot(1, "A.1").replace("\"seq\":", "\"seq\": ");
    let frames = [&first, SUBSCRIBED, &delta(2, "A.1", "")];
    for frame in frames {
        publisher.frame(frame, WALL, ZERO);
    }
    let messages = take(&mut publisher, ZERO);
    assert_eq!(books(&messages), [(1, 1, first), (2, 0, delta(2, "A.1", ""))]);
    let data = messages.iter().find(|message| message.subject.contains(".book.")).unwrap();
    assert!(data.subject.ends_with(".book.A_d1.A_d1"), "{}", data.subject);
    let read = envelope(data);
    assert_eq!((read.seq, read.sid, read.received), (Some(1), Some(1), WALL));
    assert_eq!(data.headers.last().unwrap().1, "1-1-a:book:A_d1:1");
}

fn ticker(price: &str) -> String {
    format!(
        r#"{{"type":"ticker","sid":2,"msg":{{"market_ticker":"A.1","market_id":"i","price_dollars":"{price}","yes_bid_dollars":"0.40","yes_ask_dollars":"0.42","volume_fp":"1.00","open_interest_fp":"1.00","dollar_volume":1,"dollar_open_interest":1,"yes_bid_size_fp":"1.00","yes_ask_size_fp":"1.00","last_trade_size_fp":"1.00","ts":1,"ts_ms":1000,"time":"1970-01-01T00:00:01Z"}}}}"#
    )
}

#[test]
fn a_reply_is_not_published_in_the_place_of_a_message_without_a_number() {
    let mut publisher = publisher();
    let subscribed = r#"{"id":1,"type":"subscribed","msg":{"channel":"ticker","sid":2}}"#;
    let added = r#"{"id":2,"type":"ok","sid":2,"msg":{"market_tickers":["A.1"]}}"#;
    let (early, first, second) = (ticker("0.39"), ticker("0.40"), ticker("0.41"));
    for frame in [&early, subscribed, r#"{"type":"ok","sid":2}"#, &first, added, &second] {
        publisher.frame(frame, WALL, ZERO);
    }
    let messages = take(&mut publisher, ZERO);
    let payloads: Vec<std::borrow::Cow<'_, str>> = messages
        .iter()
        .filter(|message| message.subject.contains(".ticker."))
        .map(|message| String::from_utf8_lossy(&message.payload))
        .collect();
    assert_eq!(payloads, [early, first, second]);
}

#[test]
fn what_is_private_is_not_published() {
    let mut publisher = publisher();
    let own = delta(2, "A.1", r#","client_order_id":"secret-1","subaccount":3"#);
    let fills = r#"{"id":2,"type":"subscribed","msg":{"channel":"fill","sid":3}}"#;
    let fill = r#"{"type":"fill","sid":3,"msg":{"trade_id":"t","order_id":"secret-2","market_ticker":"A.1","exchange_index":0,"is_taker":true,"yes_price_dollars":"0.7500","count_fp":"5.00","fee_cost":"0.01","ts_ms":1,"post_position_fp":"5","outcome_side":"yes","book_side":"bid","subaccount":0}}"#;
    for frame in [SUBSCRIBED, fills, &snapshot(1, "A.1"), &own, fill] {
        publisher.frame(frame, WALL, ZERO);
    }
    assert_eq!(publisher.metrics().unpublished, 1);
    let messages = take(&mut publisher, ZERO);
    let (n, flags, payload) = books(&messages).pop().unwrap();
    assert_eq!((n, flags), (2, Flags::REDACTED.0));
    assert!(payload.contains(r#""price_dollars":"0.41"#), "{payload}");
    for message in &messages {
        let text = String::from_utf8_lossy(&message.payload);
        assert!(!text.contains("secret") && !text.contains("subaccount"), "{text}");
    }
    let mut follower = follower();
    give(&mut follower, &messages, ZERO);
    assert_eq!(follower.number("A.1"), Some(2));
    assert_eq!(follower.books().state("A.1"), BookState::Valid);
}

#[test]
fn a_gap_resets_every_book_before_anything_else() {
    let mut publisher = publisher();
    for frame in [SUBSCRIBED, &snapshot(1, "A.1"), &snapshot(2, "B")] {
        publisher.frame(frame, WALL, ZERO);
    }
    let before = take(&mut publisher, ZERO);
    // The numbers 3 and 4 are missing.
    publisher.frame(&delta(5, "B", ""), WALL, ZERO);
    publisher.frame(&snapshot(6, "A.1"), WALL, ZERO);
    let after = take(&mut publisher, ZERO);
    let resets: Vec<bool> =
        after.iter().map(|message| envelope(message).flags.contains(Flags::RESET)).collect();
    assert_eq!(resets.iter().take(3).copied().collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(publisher.metrics().resets, 2);

    let mut follower = follower();
    give(&mut follower, &before, ZERO);
    assert_eq!(follower.number("A.1"), Some(1));
    let events = give(&mut follower, &after, ZERO);
    let is_void = |event: &Event| matches!(event, Event::Uncovered { channel: Channel::OrderbookDelta, items, .. } if *items == ["A.1"]);
    assert_eq!(events.iter().filter(|event| is_void(event)).count(), 1);
    // The snapshot that came after the loss is newer than the reset.
    assert_eq!(follower.number("A.1"), Some(2));
    assert_eq!(follower.books().state("A.1"), BookState::Valid);
}

#[test]
fn the_book_of_a_market_that_is_taken_out_is_void() {
    let mut publisher = publisher();
    for frame in [SUBSCRIBED, &snapshot(1, "A.1"), &snapshot(2, "B")] {
        publisher.frame(frame, WALL, ZERO);
    }
    let mut follower = follower();
    give(&mut follower, &take(&mut publisher, ZERO), ZERO);
    assert_eq!(follower.books().state("A.1"), BookState::Valid);
    let delete = r#"{"id":2,"cmd":"update_subscription","params":{"sids":[1],"action":"delete_markets","market_tickers":["A.1"]}}"#;
    publisher.sent(delete, ZERO);
    // What is still on its way is of no use.
    publisher.frame(&delta(3, "A.1", ""), WALL, ZERO);
    give(&mut follower, &take(&mut publisher, ZERO), ZERO);
    assert_eq!(follower.books().state("A.1"), BookState::Void);
    assert_eq!(publisher.books().state("B"), BookState::Valid);
}

#[test]
fn a_bus_that_is_behind_gets_a_reset_and_a_snapshot_instead_of_changes() {
    let mut config = PublisherConfig::new("sim", "a");
    config.window = 8;
    let mut publisher = Publisher::new(config).unwrap();
    publisher.lead(1, Duration::from_secs(1_000), ZERO);
    publisher.frame(SUBSCRIBED, WALL, ZERO);
    publisher.frame(&snapshot(1, "A.1"), WALL, ZERO);
    let mut messages = take(&mut publisher, ZERO);
    for seq in 2..=100 {
        publisher.frame(&delta(seq, "A.1", ""), WALL, ZERO);
    }
    messages.extend(take(&mut publisher, ZERO));
    let metrics = publisher.metrics();
    assert_eq!((metrics.conflated, metrics.resets, metrics.lost), (91, 1, 0));
    let mut follower = follower();
    give(&mut follower, &messages, ZERO);
    assert_eq!(follower.books().get("A.1"), publisher.books().get("A.1"));
    assert!(publisher.books().get("A.1").is_some());
}

#[test]
fn nothing_is_published_beyond_the_end_of_the_lease() {
    let mut publisher = Publisher::new(PublisherConfig::new("sim", "a")).unwrap();
    publisher.lead(1, Duration::from_secs(10), ZERO);
    publisher.frame(SUBSCRIBED, WALL, ZERO);
    publisher.frame(&snapshot(1, "A.1"), WALL, ZERO);
    assert!(publisher.next(WALL, Duration::from_secs(10)).is_none());
    // An epoch is never used twice, also not by a lease that comes back.
    publisher.lead(1, Duration::from_secs(30), Duration::from_secs(20));
    assert_eq!(publisher.epoch().map(|epoch| (epoch.term, epoch.number)), Some((1, 2)));
}

#[test]
fn a_silent_publisher_makes_every_book_unreadable() {
    let mut publisher = publisher();
    publisher.frame(SUBSCRIBED, WALL, ZERO);
    publisher.frame(&snapshot(1, "A.1"), WALL, ZERO);
    let messages = take(&mut publisher, ZERO);
    let mut follower = follower();
    give(&mut follower, &messages, ZERO);
    follower.tick(Duration::from_millis(11_999));
    assert!(follower.next_event(ZERO).is_none());
    follower.tick(Duration::from_secs(12));
    let events: Vec<Event> = std::iter::from_fn(|| follower.next_event(ZERO)).collect();
    assert!(matches!(events.as_slice(), [Event::Stale { .. }, Event::Disconnected { .. }]));
    assert_eq!(follower.books().state("A.1"), BookState::Void);
    // It comes back with the next snapshot, although nothing else has changed.
    let later = Duration::from_secs(40);
    publisher.lead(1, Duration::from_secs(2_000), later);
    give(&mut follower, &take(&mut publisher, later), later);
    assert_eq!(follower.books().state("A.1"), BookState::Valid);
}

#[test]
fn a_publisher_that_was_replaced_is_kept_out_after_a_silence_and_a_loss_of_the_bus() {
    let of_term = |term| {
        let mut publisher = Publisher::new(PublisherConfig::new("sim", "a")).unwrap();
        publisher.lead(term, Duration::from_secs(1_000), ZERO);
        publisher.frame(SUBSCRIBED, WALL, ZERO);
        publisher.frame(&snapshot(1, "A.1"), WALL, ZERO);
        take(&mut publisher, ZERO)
    };
    let (old, new) = (of_term(1), of_term(2));
    for is_silent in [false, true] {
        let mut follower = follower();
        give(&mut follower, &new, ZERO);
        let mut now = Duration::from_secs(12);
        if is_silent {
            follower.tick(now);
        } else {
            follower.bus_lost(now);
        }
        give(&mut follower, &old, now);
        assert_eq!(follower.epoch(), None);
        assert_eq!(follower.metrics().fenced, u64::try_from(old.len()).unwrap());
        // The same one goes on.
        give(&mut follower, &new, now);
        assert_eq!(follower.epoch().map(|epoch| epoch.term), Some(2));
        follower.bus_lost(now);
        // A store that was lost, and the clock of a publisher that is behind, may give an earlier
        // term: that is not kept out for ever.
        now += Duration::from_secs(60);
        give(&mut follower, &old, now);
        assert_eq!(follower.epoch().map(|epoch| epoch.term), Some(1));
    }
}

#[test]
fn the_last_message_of_a_quiet_market_is_missed_by_the_heartbeat() {
    // The bus loses the message, and with it this number of heartbeats.
    for lost in 0..3 {
        let mut publisher = publisher();
        publisher.frame(SUBSCRIBED, WALL, ZERO);
        publisher.frame(&snapshot(1, "A.1"), WALL, ZERO);
        let mut follower = follower();
        give(&mut follower, &take(&mut publisher, ZERO), ZERO);
        publisher.frame(&delta(2, "A.1", ""), WALL, ZERO);
        let mut now = ZERO;
        for _ in 0..=lost {
            take(&mut publisher, now);
            now += Duration::from_secs(5);
        }
        give(&mut follower, &take(&mut publisher, now), now);
        assert_eq!(follower.number("A.1"), Some(1));
        let later = now + Duration::from_secs(1);
        follower.tick(later);
        let event = follower.next_event(later);
        assert!(matches!(event, Some(Event::Uncovered { .. })), "{lost}: {event:?}");
        assert_eq!(follower.number("A.1"), None);
    }
}

#[test]
fn a_heartbeat_names_a_book_for_some_time_after_its_last_change() {
    for (interval, named) in [(5, 5), (1, 21), (30, 3)] {
        let mut config = PublisherConfig::new("sim", "a");
        config.heartbeat = Duration::from_secs(interval);
        // Snapshots are no part of it.
        config.snapshot_interval = Duration::MAX;
        let mut publisher = Publisher::new(config).unwrap();
        publisher.lead(1, Duration::from_secs(10_000), ZERO);
        publisher.frame(SUBSCRIBED, WALL, ZERO);
        publisher.frame(&snapshot(1, "A.1"), WALL, ZERO);
        let beats = (0..100).filter(|beat| {
            let messages = take(&mut publisher, Duration::from_secs(beat * interval));
            let is_named = |message: &BusMessage| message.payload.ends_with(br#"[["A.1",1]]}"#);
            messages.iter().any(is_named)
        });
        assert_eq!(beats.collect::<Vec<_>>(), (0..named).collect::<Vec<_>>(), "{interval}");
    }
}

fn trade(seq: u64) -> String {
    format!(
        r#"{{"type":"trade","sid":2,"seq":{seq},"msg":{{"trade_id":"t{seq}","market_ticker":"A.1","yes_price_dollars":"0.41","no_price_dollars":"0.59","count_fp":"1.00","taker_side":"yes","taker_outcome_side":"yes","taker_book_side":"bid","is_block_trade":false,"ts":1,"ts_ms":1000}}}}"#
    )
}

const TRADES: &str = r#"{"id":2,"type":"subscribed","msg":{"channel":"trade","sid":2}}"#;

fn gaps(events: &[Event]) -> Vec<(Option<i64>, Option<i64>)> {
    let gaps = events.iter().filter_map(|event| match event {
        Event::Gap { channel: Channel::Trade, expected, received, .. } => {
            Some((*expected, *received))
        }
        _ => None,
    });
    gaps.collect()
}

fn trades_of(events: &[Event]) -> usize {
    let is_trade = |event: &&Event| matches!(event, Event::Message(message) if message.payload.kind() == "trade");
    events.iter().filter(is_trade).count()
}

#[test]
fn trades_come_once_and_a_lost_one_is_a_gap() {
    let mut publisher = publisher();
    publisher.frame(TRADES, WALL, ZERO);
    for seq in 1..=4 {
        publisher.frame(&trade(seq), WALL, ZERO);
    }
    let mut messages = take(&mut publisher, ZERO);
    messages.retain(|message| message.subject.contains(".trade."));
    assert_eq!(messages.len(), 4);
    // The bus loses the second, and delivers the third twice.
    let came = [&messages[0], &messages[2], &messages[2], &messages[3]].map(BusMessage::clone);
    let mut follower = follower();
    let events = give(&mut follower, &came, ZERO);
    assert_eq!((trades_of(&events), gaps(&events)), (3, vec![(Some(2), Some(3))]));
    assert_eq!(follower.metrics().repeated, 1);
}

#[test]
fn trades_that_the_exchange_or_a_slow_bus_loses_are_gaps() {
    let mut config = PublisherConfig::new("sim", "a");
    config.window = 4;
    let mut publisher = Publisher::new(config).unwrap();
    publisher.lead(1, Duration::from_secs(1_000), ZERO);
    publisher.frame(TRADES, WALL, ZERO);
    publisher.frame(&trade(1), WALL, ZERO);
    let mut follower = follower();
    let events = give(&mut follower, &take(&mut publisher, ZERO), ZERO);
    assert_eq!((trades_of(&events), gaps(&events).len()), (1, 0));
    // The exchange's number 2 is missing.
    publisher.frame(&trade(3), WALL, ZERO);
    let events = give(&mut follower, &take(&mut publisher, ZERO), ZERO);
    assert_eq!((trades_of(&events), gaps(&events)), (1, vec![(Some(2), Some(3))]));
    for seq in 4..=9 {
        publisher.frame(&trade(seq), WALL, ZERO);
    }
    let events = give(&mut follower, &take(&mut publisher, ZERO), ZERO);
    assert_eq!((trades_of(&events), gaps(&events).len()), (4, 1));
    assert_eq!((publisher.metrics().lost, publisher.metrics().unpublished), (2, 0));
}

#[test]
fn a_snapshot_that_is_delivered_once_more_is_not_taken_for_the_newest() {
    let mut publisher = publisher();
    publisher.frame(SUBSCRIBED, WALL, ZERO);
    publisher.frame(&snapshot(1, "A.1"), WALL, ZERO);
    let of_subject = |messages: &[BusMessage], part: &str| -> Vec<BusMessage> {
        let found = messages.iter().filter(|message| message.subject.contains(part));
        found.cloned().collect()
    };
    let old = of_subject(&take(&mut publisher, ZERO), ".snap.");
    // Ten minutes on, the book has changed; and the heartbeat that says so is over.
    let later = WALL.saturating_add(Duration::from_secs(600));
    publisher.frame(&delta(2, "A.1", ""), later, ZERO);
    let log = take(&mut publisher, ZERO);
    let now = Duration::from_secs(600);
    publisher.lead(1, 2 * now, now);
    let beat = |publisher: &mut Publisher, now| {
        let mut messages = Vec::new();
        while let Some(publication) = publisher.next(later, now) {
            publisher.acknowledged(publication.token);
            messages.push(publication.message);
        }
        of_subject(&messages, ".ctl.")
    };
    beat(&mut publisher, now);
    beat(&mut publisher, now + Duration::from_secs(5));
    beat(&mut publisher, now + Duration::from_secs(10));
    let now = now + Duration::from_secs(15);
    let quiet = beat(&mut publisher, now);
    assert!(!quiet.is_empty());

    // A follower joins, and the bus delivers the first snapshot again.
    let mut follower = follower();
    give(&mut follower, &quiet, now);
    give(&mut follower, &old, now);
    assert_eq!(follower.number("A.1"), None);
    let request = std::iter::from_fn(|| follower.next_request()).last();
    assert!(matches!(request, Some(FollowerRequest::Log { .. })), "{request:?}");
    for message in of_subject(&log, ".book.") {
        follower.logged(&message, now);
    }
    follower.log_end("A.1");
    assert_eq!(follower.number("A.1"), Some(2));
}

#[test]
fn events_of_redundant_feeds_are_published_with_what_they_say() {
    let events = |frames: &[&str]| {
        let (mut replay, mut events) = (Replay::new(PriceConvention::Yes), Vec::new());
        for frame in frames {
            replay.frame(frame, WALL, |event| events.push(event));
        }
        events
    };
    let own = delta(2, "A.1", r#","client_order_id":"secret","subaccount":3"#);
    let frames = [SUBSCRIBED, &snapshot(1, "A.1"), &own, &delta(3, "A.1", "")];
    let mut publisher = publisher();
    for event in events(&frames) {
        publisher.event(&event, ZERO);
    }
    let trades = [TRADES, &trade(1)];
    for event in events(&trades) {
        publisher.event(&event, ZERO);
    }
    let messages = take(&mut publisher, ZERO);
    let mut follower = follower();
    let came = give(&mut follower, &messages, ZERO);
    assert_eq!(follower.books().get("A.1"), publisher.books().get("A.1"));
    assert_eq!((follower.number("A.1"), trades_of(&came)), (Some(3), 1));
    for message in &messages {
        let text = String::from_utf8_lossy(&message.payload);
        assert!(!text.contains("secret") && !text.contains("subaccount"), "{text}");
    }
    // Another feed leads: nothing is known of what has no key.
    publisher.event(&Event::Failover { from: 0, to: 1 }, ZERO);
    let came = give(&mut follower, &take(&mut publisher, ZERO), ZERO);
    for lost in [Channel::Ticker, Channel::MarketLifecycleV2, Channel::MultivariateMarketLifecycle]
    {
        let is_gap =
            |event: &&Event| matches!(event, Event::Gap { channel, .. } if *channel == lost);
        assert_eq!(came.iter().filter(is_gap).count(), 1, "{lost}");
    }
    // All are lost: the epoch ends.
    let reason = DisconnectReason::Silent;
    publisher.event(&Event::Disconnected { reason }, ZERO);
    assert!(!publisher.is_connected() && publisher.epoch().is_none());
    give(&mut follower, &take(&mut publisher, ZERO), ZERO);
    assert_eq!(follower.books().state("A.1"), BookState::Void);
}

#[test]
fn a_bus_that_was_lost_gets_every_snapshot_again() {
    let mut publisher = publisher();
    for frame in [SUBSCRIBED, &snapshot(1, "A.1"), &snapshot(2, "B")] {
        publisher.frame(frame, WALL, ZERO);
    }
    take(&mut publisher, ZERO);
    publisher.bus_lost();
    publisher.bus_lost();
    let mut subjects: Vec<String> =
        take(&mut publisher, ZERO).into_iter().map(|message| message.subject).collect();
    subjects.sort();
    assert_eq!(subjects, ["kx.v1.sim.snap.A_d1", "kx.v1.sim.snap.B"]);
}
