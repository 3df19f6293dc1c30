//! The merger by examples: each test is a rule of the guide.

use kalshi_types::UnixMillis;

use super::merger::Merger;
use crate::{
    BookState, Channel, DisconnectReason, Event, Payload, PriceConvention, Replay, UncoveredCause,
};

/// Feeds whose frames are replayed into one merger.
struct Feeds {
    merger: Merger,
    replays: Vec<(Replay, i64)>,
}

impl Feeds {
    fn new(feeds: usize) -> Self {
        let replay = || (Replay::new(PriceConvention::Yes), 0);
        let replays = std::iter::repeat_with(replay).take(feeds).collect();
        let mut feeds = Self { merger: Merger::new(feeds).unwrap(), replays };
        for feed in 0..feeds.replays.len() {
            for (sid, channel) in [(1, "orderbook_delta"), (2, "trade"), (3, "fill")] {
                let frame = format!(
                    r#"{{"id":{sid},"type":"subscribed","msg":{{"channel":"{channel}","sid":{sid}}}}}"#
                );
                feeds.frame(feed, &frame);
            }
        }
        feeds
    }

    fn frame(&mut self, feed: usize, text: &str) -> Vec<String> {
        let mut events = Vec::new();
        self.replays[feed].0.frame(text, UnixMillis::EPOCH, |event| events.push(event));
        self.push(feed, events)
    }

    fn push(&mut self, feed: usize, events: Vec<Event>) -> Vec<String> {
        let mut merged = Vec::new();
        for event in events {
            self.merger.push(feed, event).unwrap();
            while let Some(event) = self.merger.next_event() {
                merged.extend(short(&event));
            }
        }
        merged
    }

    /// Pushes a message of the book of market A; `skipped` numbers are lost before it.
    fn book(&mut self, feed: usize, skipped: i64, kind: &str, rest: &str) -> Vec<String> {
        self.replays[feed].1 += 1 + skipped;
        let seq = self.replays[feed].1;
        let frame = format!(
            r#"{{"type":"orderbook_{kind}","sid":1,"seq":{seq},"msg":{{"market_ticker":"A","market_id":"a"{rest}}}}}"#
        );
        self.frame(feed, &frame)
    }

    fn snapshot(&mut self, feed: usize, clock: i64, count: i64) -> Vec<String> {
        let rest = format!(r#","clock":{clock},"yes_dollars_fp":[["0.40","{count}.00"]]"#);
        self.book(feed, 0, "snapshot", &rest)
    }

    fn delta(&mut self, feed: usize, clock: i64, count: i64) -> Vec<String> {
        self.delta_after(feed, 0, clock, count)
    }

    fn delta_after(&mut self, feed: usize, skipped: i64, clock: i64, count: i64) -> Vec<String> {
        let rest = format!(
            r#","clock":{clock},"price_dollars":"0.40","delta_fp":"{count}.00","side":"yes""#
        );
        self.book(feed, skipped, "delta", &rest)
    }

    fn trade(&mut self, feed: usize, seq: i64, id: &str) -> Vec<String> {
        self.frame(
            feed,
            &format!(
                r#"{{"type":"trade","sid":2,"seq":{seq},"msg":{{"trade_id":"{id}","market_ticker":"A","yes_price_dollars":"0.40","no_price_dollars":"0.60","count_fp":"1.00","taker_side":"yes","taker_outcome_side":"yes","taker_book_side":"bid","is_block_trade":false}}}}"#
            ),
        )
    }

    fn lose(&mut self, feed: usize) -> Vec<String> {
        let mut events = Vec::new();
        let reason = DisconnectReason::Failed(String::new());
        self.replays[feed].0.disconnected(reason, |event| events.push(event));
        self.replays[feed].1 = 0;
        self.push(feed, events)
    }

    /// Returns the contracts of the book, if it can be read.
    fn count(&self) -> Option<String> {
        let book = self.merger.books().get("A")?;
        Some(book.best_bid(crate::Outcome::Yes)?.count.to_string())
    }

    fn requests(&mut self) -> Vec<usize> {
        self.merger.take_snapshot_requests().into_iter().map(|request| request.feed).collect()
    }
}

fn short(event: &Event) -> Option<String> {
    Some(match event {
        Event::Message(message) => match &message.payload {
            Payload::OrderbookDelta(delta) => {
                format!("{}:{}", delta.clock.unwrap_or_default(), delta.delta_fp)
            }
            Payload::OrderbookSnapshot(snapshot) => {
                format!("snapshot {}", snapshot.clock.unwrap_or_default())
            }
            Payload::Trade(trade) => trade.trade_id.clone(),
            other => other.kind().to_owned(),
        },
        Event::Uncovered { channel, cause, .. } => format!("uncovered {channel} {cause:?}"),
        Event::Failover { from, to } => format!("{from} to {to}"),
        Event::Feed { .. } => return None,
        other => format!("{other:?}").chars().take_while(char::is_ascii_alphabetic).collect(),
    })
}

#[test]
fn the_first_copy_of_each_change_is_delivered_and_the_others_are_not() {
    let mut feeds = Feeds::new(2);
    assert_eq!(feeds.snapshot(0, 10, 5), ["snapshot 10"]);
    feeds.snapshot(1, 10, 5);
    assert_eq!(feeds.delta(1, 12, 1), ["12:1.00"]);
    assert_eq!(feeds.delta(1, 12, 2), ["12:2.00"]);
    assert!(feeds.delta(0, 12, 1).is_empty());
    assert!(feeds.delta(0, 12, 2).is_empty());
    // The third of the same clock comes first from the other one.
    assert_eq!(feeds.delta(0, 12, 3), ["12:3.00"]);
    assert!(feeds.delta(1, 12, 3).is_empty());
    assert_eq!(feeds.count().as_deref(), Some("11.00"));
    assert_eq!(feeds.merger.metrics().first, [1, 2]);
}

#[test]
fn a_gap_in_the_middle_of_a_clock_is_covered_by_the_other_feed() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.snapshot(1, 10, 5);
    feeds.delta(0, 12, 1);
    // Of its own count it is the second of the clock, and it is not.
    assert!(feeds.delta_after(0, 1, 12, 3).is_empty());
    assert_eq!(feeds.count().as_deref(), Some("6.00"));
    assert!(feeds.delta(1, 12, 1).is_empty());
    assert_eq!(feeds.delta(1, 12, 2), ["12:2.00"]);
    assert_eq!(feeds.delta(1, 12, 3), ["12:3.00"]);
    assert_eq!((feeds.merger.metrics().covered, feeds.merger.metrics().uncovered), (1, 0));
}

#[test]
fn coverage_counts_the_feeds_that_may_be_lost_but_one() {
    let mut feeds = Feeds::new(2);
    assert_eq!(feeds.merger.coverage("A"), 0);
    feeds.snapshot(0, 10, 5);
    assert_eq!(feeds.merger.coverage("A"), 1);
    feeds.snapshot(1, 10, 5);
    assert_eq!(feeds.merger.coverage("A"), 2);
    feeds.delta_after(0, 1, 12, 1);
    assert_eq!(feeds.merger.coverage("A"), 1);
    // Its snapshot may lack a part of the clock, until the other feed has come as far.
    feeds.snapshot(0, 12, 9);
    assert_eq!(feeds.merger.coverage("A"), 1);
    feeds.delta(1, 12, 1);
    feeds.delta(1, 12, 3);
    feeds.delta(1, 13, 1);
    feeds.delta(0, 13, 1);
    assert_eq!(feeds.merger.coverage("A"), 2);
    feeds.lose(1);
    assert_eq!(feeds.merger.coverage("A"), 1);
    feeds.lose(0);
    assert_eq!(feeds.merger.coverage("A"), 0);
    assert_eq!(feeds.merger.coverage("B"), 0);
}

#[test]
fn a_snapshot_in_the_middle_of_a_clock_waits_for_the_rest_of_it() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.delta(0, 12, 1);
    // It has all of 12, of which the first feed has brought one change.
    assert!(feeds.snapshot(1, 12, 8).is_empty());
    assert!(feeds.delta(1, 15, 4).is_empty());
    assert_eq!(feeds.delta(0, 12, 2), ["12:2.00"]);
    // Only a higher clock shows that there is no third one.
    assert_eq!(feeds.delta(0, 15, 4), ["15:4.00"]);
    assert_eq!(feeds.count().as_deref(), Some("12.00"));
    assert_eq!(feeds.delta(1, 16, 1), ["16:1.00"]);
}

#[test]
fn what_a_feed_has_ahead_is_delivered_once_the_others_have_come_there() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.snapshot(1, 12, 8);
    feeds.delta(1, 13, 1);
    feeds.delta(1, 14, 1);
    feeds.delta(0, 12, 3);
    assert_eq!(feeds.delta(0, 13, 1), ["13:1.00", "14:1.00"]);
    assert!(feeds.delta(0, 14, 1).is_empty());
}

#[test]
fn a_loss_that_no_feed_covers_is_an_event_and_goes_on_with_the_next_snapshot() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.snapshot(1, 10, 5);
    feeds.delta_after(0, 1, 12, 1);
    assert_eq!(feeds.count().as_deref(), Some("5.00"));
    let events = feeds.delta_after(1, 1, 12, 1);
    assert_eq!(events, ["uncovered orderbook_delta Lost"]);
    assert_eq!(feeds.merger.books().state("A"), BookState::Void);
    assert_eq!(feeds.snapshot(1, 12, 9), ["snapshot 12"]);
    assert_eq!(feeds.count().as_deref(), Some("9.00"));
}

#[test]
fn a_book_beyond_what_was_delivered_takes_over_with_its_snapshot() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.snapshot(1, 12, 8);
    feeds.delta(1, 13, 1);
    let events = feeds.lose(0);
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    assert_eq!(events[..3], ["uncovered orderbook_delta Lost", "snapshot 12", "13:1.00"]);
    assert_eq!(feeds.count().as_deref(), Some("9.00"));
}

#[test]
fn a_clock_that_goes_back_leads_and_the_others_have_to_follow() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.snapshot(1, 10, 5);
    feeds.delta(0, 12, 1);
    feeds.delta(1, 12, 1);
    let events = feeds.snapshot(1, 7, 3);
    assert_eq!(events, ["uncovered orderbook_delta ClockReset", "snapshot 7"]);
    assert_eq!(feeds.requests(), [0]);
    // It is still of before.
    assert!(feeds.delta(0, 13, 1).is_empty());
    assert!(feeds.snapshot(0, 13, 7).is_empty());
    assert_eq!(feeds.delta(1, 8, 1), ["8:1.00"]);
    feeds.snapshot(0, 8, 4);
    assert_eq!(feeds.delta(1, 9, 1), ["9:1.00"]);
    assert!(feeds.delta(0, 9, 1).is_empty());
    assert_eq!(feeds.delta(0, 10, 1), ["10:1.00"]);
    assert_eq!(feeds.count().as_deref(), Some("6.00"));
    // A delta that goes back is no book.
    let events = feeds.delta(0, 2, 1);
    assert_eq!(events, ["uncovered orderbook_delta ClockReset"]);
    assert_eq!(feeds.merger.books().state("A"), BookState::Void);
    assert_eq!(feeds.requests(), [0, 1]);
}

#[test]
fn without_clocks_one_feed_leads() {
    let mut feeds = Feeds::new(2);
    let book = r#","yes_dollars_fp":[["0.40","5.00"]]"#;
    let change = r#","price_dollars":"0.40","delta_fp":"1.00","side":"yes""#;
    assert_eq!(feeds.book(0, 0, "snapshot", book), ["snapshot 0"]);
    assert!(feeds.book(1, 0, "snapshot", book).is_empty());
    assert_eq!(feeds.book(0, 0, "delta", change), ["0:1.00"]);
    assert!(feeds.book(1, 0, "delta", change).is_empty());
    let events = feeds.book(0, 1, "delta", change);
    assert_eq!(events, ["uncovered orderbook_delta Lost"]);
    assert_eq!(feeds.requests(), [1]);
    assert_eq!(feeds.book(1, 0, "snapshot", book), ["snapshot 0"]);
    assert_eq!(feeds.book(1, 0, "delta", change), ["0:1.00"]);
}

#[test]
fn a_change_that_contradicts_the_book_voids_it_and_asks_every_feed() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.snapshot(1, 10, 5);
    let events = feeds.delta(0, 12, -6);
    assert_eq!(events, ["12:-6.00", "uncovered orderbook_delta Contradiction"]);
    assert_eq!(feeds.merger.books().state("A"), BookState::Void);
    assert_eq!(feeds.requests(), [0, 1]);
    assert_eq!(feeds.snapshot(1, 13, 4), ["snapshot 13"]);
    assert_eq!(feeds.merger.metrics().contradictions, 1);
}

#[test]
fn feeds_that_contradict_each_other_void_the_book() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.snapshot(1, 10, 5);
    feeds.delta(0, 12, 1);
    feeds.delta(1, 12, 1);
    feeds.delta(0, 13, 1);
    // It lacks 13, which was delivered.
    let events = feeds.delta(1, 14, 1);
    assert_eq!(events, ["uncovered orderbook_delta Contradiction"]);
    assert_eq!(feeds.merger.books().state("A"), BookState::Void);
}

#[test]
fn a_feed_that_is_too_far_ahead_is_not_waited_for() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.snapshot(1, 10, 5);
    feeds.delta(0, 11, 1);
    feeds.delta(1, 11, 1);
    // The second one lost something, and has gone on.
    feeds.delta_after(1, 1, 19, 1);
    feeds.snapshot(1, 20, 9);
    let mut events = Vec::new();
    let mut clock = 20;
    while events.is_empty() {
        clock += 1;
        events = feeds.delta(1, clock, 1);
        assert!(clock < 100, "changes are held without bound");
    }
    assert_eq!(events[..2], ["uncovered orderbook_delta Behind", "snapshot 20"]);
    let held = 9 + clock - 20;
    assert_eq!(feeds.count(), Some(format!("{held}.00")));
    // What comes late is known.
    assert!(feeds.delta(0, 12, 3).is_empty());
}

#[test]
fn trades_come_once_and_a_loss_between_two_that_both_brought_is_covered() {
    let mut feeds = Feeds::new(2);
    assert_eq!(feeds.trade(0, 1, "a"), ["a"]);
    assert!(feeds.trade(1, 1, "a").is_empty());
    assert_eq!(feeds.trade(1, 2, "b"), ["b"]);
    // The first feed lost `b`, and brings `c`.
    assert_eq!(feeds.trade(0, 3, "c"), ["c"]);
    assert_eq!(feeds.merger.metrics().covered, 0);
    assert!(feeds.trade(1, 3, "c").is_empty());
    assert_eq!((feeds.merger.metrics().covered, feeds.merger.metrics().uncovered), (1, 0));
}

#[test]
fn a_trade_that_every_feed_may_have_lost_is_an_event() {
    let mut feeds = Feeds::new(2);
    feeds.trade(0, 1, "a");
    feeds.trade(1, 1, "a");
    assert_eq!(feeds.trade(0, 3, "c"), ["c"]);
    // The other one lost something before it came to `c`.
    let events = feeds.trade(1, 3, "c");
    assert_eq!(events, ["uncovered trade Lost"]);
}

#[test]
fn a_feed_that_trails_by_more_than_the_window_brings_nothing_twice() {
    let mut feeds = Feeds::new(2);
    feeds.merger = std::mem::replace(&mut feeds.merger, Merger::new(1).unwrap()).with_window(3);
    let ids = ["a", "b", "c", "d", "e", "f"];
    for (seq, id) in (1..).zip(ids) {
        assert_eq!(feeds.trade(0, seq, id), [id]);
    }
    for (seq, id) in (1..).zip(ids) {
        assert!(feeds.trade(1, seq, id).is_empty(), "{id}");
    }
    assert_eq!(feeds.trade(1, 7, "g"), ["g"]);
}

#[test]
fn another_feed_leads_after_a_loss_and_says_what_it_is_subscribed_to() {
    let mut feeds = Feeds::new(2);
    assert_eq!(feeds.merger.leader(), Some(0));
    let events = feeds.lose(0);
    // No trade or fill has come that would show where the other one is.
    let lost = ["uncovered trade Lost", "uncovered fill Lost"];
    assert_eq!(events[..2], lost);
    assert_eq!(events[2..], ["0 to 1", "Subscribed", "Subscribed", "Subscribed"]);
    assert_eq!(feeds.merger.leader(), Some(1));
    let events = feeds.lose(1);
    assert_eq!(events[..2], lost);
    assert_eq!(events[2..], ["Disconnected"]);
    assert_eq!(feeds.merger.leader(), None);
}

#[test]
fn a_market_that_one_feed_is_refused_stays_with_the_others() {
    let mut feeds = Feeds::new(2);
    feeds.snapshot(0, 10, 5);
    feeds.snapshot(1, 10, 5);
    let refused = || Event::Refused {
        channel: Channel::OrderbookDelta,
        items: vec!["A".to_owned()],
        reason: crate::Refusal::Server(crate::ServerError {
            code: 26,
            message: String::new(),
            market_ticker: None,
            market_tickers: Vec::new(),
        }),
    };
    assert!(feeds.push(0, vec![refused()]).is_empty());
    assert_eq!(feeds.count().as_deref(), Some("5.00"));
    assert_eq!(feeds.push(1, vec![refused()]), ["Refused"]);
    assert_eq!(feeds.merger.books().state("A"), BookState::Absent);
}

#[test]
fn numbers_of_feeds_are_checked() {
    assert!(Merger::new(0).is_err() && Merger::new(9).is_err());
    let event = || Event::Unanswered { channel: None };
    assert!(Merger::new(8).unwrap().push(8, event()).is_err());
    assert_ne!(UncoveredCause::Lost, UncoveredCause::Behind);
}

#[cfg(feature = "recorder")]
#[tokio::test]
async fn recordings_of_two_machines_are_merged() {
    use crate::{
        Tap,
        recording::{Player, Recorder, Recording, RedundantPlayer},
    };

    let folder = std::env::temp_dir().join(format!("kalshi-redundant-{}", std::process::id()));
    let frames = |lost: i64| {
        let subscribed =
            r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#;
        let snapshot = r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","clock":1,"yes_dollars_fp":[["0.40","5.00"]]}}"#;
        let deltas = (2..20).filter(move |seq| *seq != lost).map(|seq| {
            format!(
                r#"{{"type":"orderbook_delta","sid":1,"seq":{seq},"msg":{{"market_ticker":"A","market_id":"a","clock":{seq},"price_dollars":"0.40","delta_fp":"1.00","side":"yes"}}}}"#
            )
        });
        [subscribed.to_owned(), snapshot.to_owned()].into_iter().chain(deltas)
    };
    let mut players = Vec::new();
    // Each machine lost another change, and their clocks differ.
    for (name, lost, skew) in [("a", 12, 0), ("b", 16, 3)] {
        let (mut recorder, writer) = Recorder::builder(&folder, name).start().unwrap();
        for (at, frame) in (100 + skew..).zip(frames(lost)) {
            recorder.received(UnixMillis::from_millis(at), &frame);
        }
        drop(recorder);
        writer.finish().unwrap();
        let recording = Recording::open(&folder, name).unwrap();
        players.push(Player::new(recording, PriceConvention::Yes));
    }
    let mut player = RedundantPlayer::new(players).unwrap();
    let (mut clocks, mut is_closed) = (Vec::new(), false);
    while let Some(event) = player.next().await {
        match event.unwrap() {
            Event::Message(message) => clocks.extend(message.clock()),
            Event::Closed { .. } => is_closed = true,
            Event::Uncovered { items, .. } => assert!(is_closed || clocks.len() == 15, "{items:?}"),
            _ => {}
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(is_closed);
    assert!(clocks.is_sorted());
    // Until the second loss the other recording had been lost already, and has no snapshot.
    assert_eq!(clocks, (1..16).collect::<Vec<i64>>());
    assert_eq!((player.metrics().covered, player.metrics().uncovered), (1, 1));
}
