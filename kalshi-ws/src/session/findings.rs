//! Faults that were found in the session once, each by its number.

use std::{collections::VecDeque, time::Duration};

use kalshi_types::UnixMillis;
use tokio::time::Instant;

use super::{Limits, Output, Request, SessionState};
use crate::{
    Backoff, BookState, Books, Channel, Decoder, DisconnectReason, Event, Overflow, Refusal,
    Subscription, TerminationReason,
    connection::queue::{Entry, Pushed, Queue, Staged, Taken},
    protocol::command::{Action, Command, Update},
};

pub(super) const BOOKS: Channel = Channel::OrderbookDelta;

/// A session with its consumer, and what came of both.
pub(super) struct Bench {
    pub(super) session: SessionState,
    pub(super) decoder: Decoder,
    pub(super) books: Books,
    pub(super) now: Instant,
    pub(super) sent: VecDeque<Command>,
    pub(super) events: Vec<Event>,
    pub(super) dropped: Option<DisconnectReason>,
    pub(super) commands: usize,
    /// The queues that were prepared: the places of each, and whether it is a new one.
    pub(super) queues: Vec<(usize, bool)>,
    /// The markets whose names were forgotten.
    pub(super) forgotten: Vec<String>,
}

pub(super) fn limits() -> Limits {
    Limits {
        command_timeout: Duration::from_secs(10),
        snapshot_timeout: Duration::from_secs(5),
        stale_after: Duration::from_secs(30),
        backoff: Backoff::default().with_random(|| u32::MAX / 2),
        items_per_command: 1_000,
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with_limits(limits())
    }

    pub(super) fn with_limits(limits: Limits) -> Self {
        let now = Instant::now();
        let mut bench = Self {
            session: SessionState::new(limits, now),
            decoder: Decoder::new(),
            books: Books::new(),
            now,
            sent: VecDeque::new(),
            events: Vec::new(),
            dropped: None,
            commands: 0,
            queues: Vec::new(),
            forgotten: Vec::new(),
        };
        bench.session.connected(now, None);
        bench.carry_out();
        bench
    }

    /// Creates a session with order books whose subscription, number 1, is confirmed.
    pub(super) fn with_books(tickers: &[&str]) -> Self {
        let mut bench = Self::new();
        bench.subscribe(tickers);
        bench.confirm(1);
        bench
    }

    pub(super) fn carry_out(&mut self) {
        while let Some(output) = self.session.output() {
            match output {
                Output::Send(command) => {
                    self.commands += 1;
                    self.sent.push_back(command);
                }
                Output::Event(_, event, _) => self.event(event),
                Output::Drop(reason) => self.dropped = Some(reason),
                Output::Lane { capacity, is_new, .. } => self.queues.push((capacity, is_new)),
                Output::ForgetNames(names) => self.forgotten.extend(names),
                Output::ForgetAllNames => {}
            }
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        self.books.apply(&event);
        self.events.push(event);
    }

    pub(super) fn request(&mut self, request: Request) {
        self.session.request(request, self.now);
        self.carry_out();
    }

    pub(super) fn subscribe(&mut self, tickers: &[&str]) {
        let subscription = Subscription::orderbook(tickers.iter().copied());
        self.request(Request::Subscribe(Box::new(subscription)));
    }

    pub(super) fn add(&mut self, tickers: &[&str]) {
        self.request(Request::Add(BOOKS, owned(tickers)));
    }

    pub(super) fn delete(&mut self, tickers: &[&str]) {
        self.request(Request::Delete(BOOKS, owned(tickers)));
    }

    pub(super) fn frame(&mut self, text: &str) {
        let frame = self.decoder.decode(text, UnixMillis::EPOCH);
        if let Some((_, event)) = self.session.frame(frame, text.len(), self.now) {
            self.event(event);
        }
        self.carry_out();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(10);
            self.session.record_activity(self.now);
            self.session.tick(self.now);
            self.carry_out();
        }
    }

    /// Returns the next command, which must be this one.
    pub(super) fn command(&mut self, expected: &str) -> i64 {
        let command = self.sent.pop_front().unwrap_or_else(|| panic!("{expected} was not sent"));
        assert_eq!(name(&command), expected);
        command.id
    }

    pub(super) fn no_command(&self) {
        assert!(self.sent.is_empty(), "{:?}", self.sent);
    }

    /// Confirms the subscription that was just requested.
    pub(super) fn confirm(&mut self, sid: i64) {
        let command = self.sent.pop_front().expect("nothing was requested");
        let Action::Subscribe { channel, .. } = command.action else { panic!("{command:?}") };
        self.frame(&subscribed(command.id, &channel, sid));
    }

    pub(super) fn ok(&mut self, id: i64) {
        self.frame(&format!(r#"{{"id":{id},"type":"ok","sid":1}}"#));
    }

    pub(super) fn unsubscribed(&mut self, id: i64, sid: i64) {
        self.frame(&format!(r#"{{"id":{id},"sid":{sid},"type":"unsubscribed"}}"#));
    }

    pub(super) fn refuse(&mut self, id: i64, code: i64) {
        self.frame(&format!(r#"{{"id":{id},"type":"error","msg":{{"code":{code},"msg":""}}}}"#));
    }

    pub(super) fn snapshot(&mut self, seq: i64, ticker: &str) {
        self.frame(&snapshot(1, seq, ticker));
    }

    pub(super) fn delta(&mut self, seq: i64, ticker: &str) {
        self.frame(&delta(1, seq, ticker));
    }

    pub(super) fn count(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| is_it(event)).count()
    }

    pub(super) fn is_valid(&self, ticker: &str) -> bool {
        self.books.state(ticker) == BookState::Valid
    }
}

pub(super) fn owned(tickers: &[&str]) -> Vec<String> {
    tickers.iter().map(|ticker| (*ticker).to_owned()).collect()
}

pub(super) fn subscribed(id: i64, channel: &Channel, sid: i64) -> String {
    format!(r#"{{"id":{id},"type":"subscribed","msg":{{"channel":"{channel}","sid":{sid}}}}}"#)
}

pub(super) fn snapshot(sid: i64, seq: i64, ticker: &str) -> String {
    format!(
        r#"{{"type":"orderbook_snapshot","sid":{sid},"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"m","clock":1,"yes_dollars_fp":[["0.40","10.00"]]}}}}"#
    )
}

pub(super) fn delta(sid: i64, seq: i64, ticker: &str) -> String {
    format!(
        r#"{{"type":"orderbook_delta","sid":{sid},"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"m","price_dollars":"0.4000","delta_fp":"1.00","side":"yes","ts_ms":1}}}}"#
    )
}

/// Returns a short description of a command.
pub(super) fn name(command: &Command) -> String {
    match &command.action {
        Action::Subscribe { items, .. } => format!("subscribe {}", items.join(" ")),
        Action::Unsubscribe { .. } => "unsubscribe".to_owned(),
        Action::ListSubscriptions => "list".to_owned(),
        Action::Update { update, items, .. } => {
            let what = match update {
                Update::Add { .. } => "add",
                Update::Delete => "delete",
                Update::Snapshot => "snapshot",
                Update::List => "items",
            };
            format!("{what} {}", items.join(" "))
        }
    }
}

#[test]
fn b1_a_frame_whose_subscription_cannot_be_told_voids_every_counted_subscription() {
    let unplaced = [
        // Cut off, before and after the type.
        r#"{"type":"orderbook_delta","#.to_owned(),
        "{".to_owned(),
        // The number of the subscription cannot be read.
        delta(1, 3, "A").replace(r#""sid":1"#, r#""sid":"one""#),
        delta(1, 3, "A").replace(r#""sid":1,"#, ""),
        r#"{"type":"news","sid":[1],"seq":3}"#.to_owned(),
        r#"{"type":"news","seq":3}"#.to_owned(),
    ];
    for frame in unplaced {
        let mut bench = Bench::with_books(&["A", "B"]);
        bench.request(Request::Subscribe(Box::new(Subscription::fills())));
        bench.confirm(2);
        bench.snapshot(1, "A");
        bench.snapshot(2, "B");
        assert!(bench.is_valid("A") && bench.is_valid("B"));
        bench.frame(&frame);
        assert!(!bench.is_valid("A") && !bench.is_valid("B"), "{frame}");
        let gaps =
            bench.count(|e| matches!(e, Event::Gap { expected: Some(3), received: None, .. }));
        assert_eq!((gaps, bench.count(|e| matches!(e, Event::Gap { .. }))), (1, 1), "{frame}");
        bench.command("snapshot A B");
        // It may have had a number here, and may not: neither is a second gap.
        bench.snapshot(4, "A");
        bench.snapshot(5, "B");
        assert!(bench.is_valid("A") && bench.is_valid("B"));
        assert_eq!(bench.count(|event| matches!(event, Event::Gap { .. })), 1);
    }
    // A message to the connection is no message of a subscription.
    let mut bench = Bench::with_books(&["A"]);
    bench.snapshot(1, "A");
    bench.frame(r#"{"type":"maintenance","msg":{"in":5}}"#);
    // What is lost of another channel is none of these books.
    bench.frame(r#"{"type":"fill","msg":{}}"#);
    assert!(bench.is_valid("A"));
    // A bad field beside the number hides nothing.
    bench.frame(&delta(1, 2, "A").replace(r#""seq":2"#, r#""seq":2,"sending_ts_ms":1.5,"id":"x""#));
    assert!(bench.is_valid("A"));
    assert_eq!(bench.count(|event| matches!(event, Event::Gap { .. })), 0);
}

#[test]
fn what_comes_before_its_subscription_is_confirmed_is_kept_until_then() {
    let mut bench = Bench::new();
    // Without a pending subscription it belongs to none.
    bench.snapshot(1, "A");
    assert_eq!(bench.count(|event| matches!(event, Event::Unmatched(_))), 1);
    bench.subscribe(&["A"]);
    bench.snapshot(1, "A");
    assert_eq!(bench.count(|event| matches!(event, Event::Unmatched(_))), 1);
    assert!(!bench.is_valid("A"));
    bench.confirm(1);
    assert!(bench.is_valid("A"));
    bench.no_command();
}

#[test]
fn a_confirmation_that_answers_another_command_confirms_nothing() {
    let mut bench = Bench::new();
    bench.subscribe(&["A"]);
    bench.frame(&subscribed(999, &BOOKS, 7));
    assert_eq!(bench.count(|event| matches!(event, Event::Subscribed { .. })), 0);
    bench.confirm(1);
    bench.snapshot(1, "A");
    assert!(bench.is_valid("A"));
}

#[test]
fn b2_a_market_that_is_added_while_the_last_one_leaves_is_subscribed_to() {
    let mut bench = Bench::with_books(&["OLD"]);
    bench.delete(&["OLD"]);
    bench.add(&["NEW"]);
    let id = bench.command("unsubscribe");
    bench.unsubscribed(id, 1);
    bench.command("subscribe NEW");
    // The same on a channel where no markets would mean all.
    let mut bench = Bench::new();
    bench.request(Request::Subscribe(Box::new(Subscription::trades(["OLD"]))));
    bench.confirm(1);
    bench.request(Request::Delete(Channel::Trade, owned(&["OLD"])));
    bench.request(Request::Add(Channel::Trade, owned(&["NEW"])));
    let id = bench.command("unsubscribe");
    bench.unsubscribed(id, 1);
    bench.command("subscribe NEW");
}

#[test]
fn b2_what_is_added_to_a_channel_that_is_given_up_is_refused() {
    let mut bench = Bench::with_books(&["A"]);
    bench.request(Request::Unsubscribe(BOOKS));
    bench.add(&["D"]);
    let refused = |event: &Event| matches!(event, Event::Refused { items, reason: Refusal::NotSubscribed, .. } if items == &["D"]);
    assert_eq!(bench.count(refused), 1);
    let id = bench.command("unsubscribe");
    bench.unsubscribed(id, 1);
    bench.no_command();
}

#[test]
fn b2_two_subscriptions_during_an_end_are_one_of_both() {
    let mut bench = Bench::with_books(&["A"]);
    bench.request(Request::Unsubscribe(BOOKS));
    bench.subscribe(&["B"]);
    bench.subscribe(&["C"]);
    let id = bench.command("unsubscribe");
    bench.unsubscribed(id, 1);
    bench.command("subscribe B C");
}

#[test]
fn b2_a_deletion_during_an_end_counts() {
    let mut bench = Bench::with_books(&["A"]);
    bench.request(Request::Unsubscribe(BOOKS));
    bench.subscribe(&["E", "F"]);
    bench.delete(&["E"]);
    let id = bench.command("unsubscribe");
    bench.unsubscribed(id, 1);
    bench.command("subscribe F");
}

#[test]
fn b3_a_market_that_is_wanted_again_before_its_deletion_is_refused_is_read_again() {
    // Not carried out, and perhaps carried out.
    for code in [27, 18] {
        let mut bench = Bench::with_books(&["A", "B"]);
        bench.snapshot(1, "A");
        bench.snapshot(2, "B");
        bench.delete(&["A"]);
        let id = bench.command("delete A");
        bench.add(&["A"]);
        bench.refuse(id, code);
        if code == 27 {
            // It is on the wire as it was; its book was given up.
            bench.command("snapshot A");
        } else {
            bench.pass(Duration::from_secs(1));
            let id = bench.command("add A");
            bench.ok(id);
        }
        bench.snapshot(3, "A");
        bench.delta(4, "A");
        assert!(bench.is_valid("A"));
        assert_eq!(bench.count(|event| matches!(event, Event::Unmatched(_))), 0);
        assert_eq!(bench.count(|event| matches!(event, Event::Added { .. })), 1);
        bench.pass(Duration::from_secs(60));
        bench.no_command();
    }
}

#[test]
fn b3_a_market_that_is_wanted_again_after_its_deletion_was_refused_is_read_again() {
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.snapshot(1, "A");
    bench.snapshot(2, "B");
    bench.delete(&["A"]);
    let id = bench.command("delete A");
    bench.refuse(id, 27);
    bench.delta(3, "A");
    assert_eq!(bench.books.state("A"), BookState::Absent);
    bench.add(&["A"]);
    bench.command("snapshot A");
    bench.snapshot(4, "A");
    assert!(bench.is_valid("A") && bench.is_valid("B"));
    // Nobody wants it gone any more.
    bench.pass(Duration::from_secs(60));
    bench.no_command();
    // Where the deletion may have been carried out, it is added.
    bench.delete(&["A"]);
    let id = bench.command("delete A");
    bench.refuse(id, 18);
    bench.add(&["A"]);
    bench.pass(Duration::from_secs(1));
    let id = bench.command("add A");
    bench.ok(id);
    // It was there all the time, so no snapshot comes by itself.
    bench.pass(Duration::from_secs(6));
    bench.command("snapshot A");
}

#[test]
fn b3_a_deletion_that_is_refused_is_tried_again() {
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.delete(&["A"]);
    let id = bench.command("delete A");
    bench.refuse(id, 27);
    bench.no_command();
    bench.pass(Duration::from_secs(1));
    let id = bench.command("delete A");
    bench.ok(id);
    bench.pass(Duration::from_secs(3));
    bench.no_command();
}

#[test]
fn b4_a_snapshot_with_the_number_of_the_last_message_is_applied_where_one_is_awaited() {
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.snapshot(1, "A");
    bench.snapshot(2, "B");
    bench.delta(4, "A");
    bench.command("snapshot A B");
    bench.snapshot(4, "A");
    bench.snapshot(4, "B");
    assert!(bench.is_valid("A") && bench.is_valid("B"));
    assert_eq!(bench.count(|event| matches!(event, Event::Resynced { .. })), 1);
    // Where none is awaited it is one message that came twice.
    let before = bench.events.len();
    bench.snapshot(4, "A");
    assert_eq!(bench.events.len(), before);
    bench.delta(5, "A");
    assert!(bench.is_valid("A"));
}

#[test]
fn b5_a_book_whose_snapshot_is_corrupt_is_requested_a_few_times_only() {
    let mut bench = Bench::with_books(&["A"]);
    let corrupt = snapshot(1, 1, "A").replace("0.40", "1.40");
    let mut seq = 1;
    bench.frame(&corrupt);
    // The consumer asks at once, and the answer is the same, for an hour.
    for _ in 0..360_000 {
        if bench.sent.pop_front().is_some() {
            seq += 1;
            bench.frame(&corrupt.replace(r#""seq":1"#, &format!(r#""seq":{seq}"#)));
        }
        bench.request(Request::Snapshot(owned(&["A"])));
        bench.pass(Duration::from_millis(10));
        bench.events.clear();
    }
    // Half a minute apart, in the end.
    assert!((120..200).contains(&bench.commands), "{} commands in an hour", bench.commands);
}

#[test]
fn b5_gaps_that_come_faster_than_snapshots_lead_to_one_request_at_a_time() {
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.snapshot(1, "A");
    bench.snapshot(2, "B");
    for seq in 1..100 {
        bench.delta(2 + 2 * seq, "A");
    }
    bench.command("snapshot A B");
    bench.no_command();
    // One is lost; what was asked for is not asked for again before its time.
    bench.snapshot(201, "A");
    bench.pass(Duration::from_secs(4));
    bench.no_command();
    bench.pass(Duration::from_secs(2));
    bench.command("snapshot B");
    bench.snapshot(202, "B");
    assert!(bench.is_valid("A") && bench.is_valid("B"));
    // After a success that lasts, the next loss is answered at once again.
    bench.pass(Duration::from_secs(5));
    bench.delta(300, "A");
    bench.command("snapshot A B");
}

/// Checks three thousand books, a thousand places, and a consumer that takes 200 µs for an event.
#[test]
fn b5_a_slow_consumer_with_more_books_than_places_converges() {
    const MARKETS: usize = 3_000;
    const EVENT: Duration = Duration::from_micros(200);
    let tickers: Vec<String> = (0..MARKETS).map(|number| format!("M{number}")).collect();
    let now = Instant::now();
    let mut session = SessionState::new(limits(), now);
    let (queue, mut decoder, mut books) = (Queue::new(usize::MAX), Decoder::new(), Books::new());
    let (mut time, mut consumed, mut seq, mut commands) = (now, now, 0, 0);
    let (mut lags, mut market) = (0, 0);
    let mut wire: VecDeque<String> = VecDeque::new();
    let mut staged: VecDeque<Entry> = VecDeque::new();
    let subscription = Subscription::orderbook(&tickers).with_capacity(1_000);
    session.connected(now, None);
    session.request(Request::Subscribe(Box::new(subscription)), now);
    // A hundred seconds; the books have settled after a few of them.
    for step in 0..10_000 {
        time += Duration::from_millis(10);
        // A thousand changes a second, a third of what the consumer can take.
        for _ in 0..10 {
            seq += 1;
            market = (market + 7) % MARKETS;
            wire.push_back(delta(1, seq, &tickers[market]));
        }
        // The network stumbles at times.
        if step % 500 == 100 {
            seq += 1;
        }
        while let Some(text) = wire.pop_front() {
            let frame = decoder.decode(&text, UnixMillis::EPOCH);
            if let Some((lane, event)) = session.frame(frame, text.len(), time) {
                staged.push_back(Staged { lane, event, bytes: text.len() }.into());
            }
            while let Some(output) = session.output() {
                match output {
                    Output::Event(lane, event, bytes) => {
                        staged.push_back(Staged { lane, event, bytes }.into());
                    }
                    Output::Lane { lane, channel, overflow, capacity, .. } => {
                        assert_eq!(overflow, Overflow::DropOldest);
                        queue.lane(lane, channel, overflow, capacity);
                    }
                    Output::Send(command) => {
                        commands += 1;
                        match command.action {
                            Action::Subscribe { channel, items, .. } => {
                                wire.push_back(subscribed(command.id, &channel, 1));
                                seq = 0;
                                for item in items {
                                    seq += 1;
                                    wire.push_back(snapshot(1, seq, &item));
                                }
                            }
                            Action::Update { items, update, .. } => {
                                if matches!(update, Update::Add { .. }) {
                                    let id = command.id;
                                    wire.push_back(format!(r#"{{"id":{id},"type":"ok","sid":1}}"#));
                                }
                                for item in items {
                                    seq += 1;
                                    wire.push_back(snapshot(1, seq, &item));
                                }
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    Output::Drop(reason) => panic!("{reason}"),
                    _ => {}
                }
            }
            while let Pushed::Full { drops: Some(lane) } = queue.push_all(&mut staged) {
                queue.drop_oldest(lane);
            }
        }
        session.tick(time);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut taken = Taken::default();
        while consumed < time && queue.poll(&mut taken, &mut cx).is_ready() {
            while let Some(event) = taken.pop() {
                lags += usize::from(matches!(event, Event::Lagged { .. }));
                books.apply(&event);
                consumed += EVENT;
            }
        }
        consumed = consumed.max(time - Duration::from_millis(10));
        for lane in queue.take_lagged() {
            session.lagged(lane, time);
        }
    }
    assert!(lags <= 5, "{lags} times lagged");
    assert!(commands <= 100, "{commands} commands in 100 s");
    let valid = tickers.iter().filter(|ticker| books.get(ticker).is_some()).count();
    assert_eq!(valid, MARKETS);
}

#[test]
fn b6_a_machine_that_slept_has_lost_the_connection() {
    let mut bench = Bench::with_books(&["A"]);
    bench.snapshot(1, "A");
    let hours = Duration::from_secs(8 * 3_600);
    let mut wall = UnixMillis::from_millis(1_700_000_000_000);
    bench.session.compare_clocks(bench.now, wall);
    // Awake, or with a clock that is set a little: nothing.
    for (awake, by_wall) in [(100, 100), (29_000, 29_000), (0, 30_000), (100, 0)] {
        bench.now += Duration::from_millis(awake);
        wall = wall.saturating_add(Duration::from_millis(by_wall));
        bench.session.compare_clocks(bench.now, wall);
    }
    // Set back by an hour, and back again is a jump forward.
    bench.session.compare_clocks(bench.now, UnixMillis::from_millis(1));
    bench.session.compare_clocks(bench.now, UnixMillis::from_millis(2));
    bench.carry_out();
    assert_eq!(bench.dropped, None);
    assert!(bench.is_valid("A"));
    bench.session.compare_clocks(bench.now, UnixMillis::from_millis(2).saturating_add(hours));
    bench.carry_out();
    assert_eq!(bench.dropped, Some(DisconnectReason::Suspended));
    assert_eq!(
        bench.count(|event| matches!(event, Event::Stale { silent_for } if *silent_for == hours)),
        1
    );
}

#[test]
fn c1_a_subscription_that_dies_at_once_each_time_is_not_requested_at_the_rate_of_the_network() {
    let mut bench = Bench::new();
    bench.subscribe(&["A"]);
    let mut sid = 0;
    for step in 0..2_000 {
        if let Some(command) = bench.sent.pop_front() {
            sid += 1;
            bench.frame(&subscribed(command.id, &BOOKS, sid));
            // With and without a number, and by an end that nobody asked for.
            match step % 3 {
                0 => bench.frame(r#"{"type":"error","msg":{"code":25,"msg":""}}"#),
                1 => bench.frame(&format!(
                    r#"{{"type":"error","sid":{sid},"msg":{{"code":10,"msg":""}}}}"#
                )),
                _ => bench.frame(&format!(r#"{{"sid":{sid},"seq":1,"type":"unsubscribed"}}"#)),
            }
        }
        bench.pass(Duration::from_millis(10));
    }
    assert!((4..10).contains(&bench.commands), "{} commands in 20 s", bench.commands);
    assert_eq!(bench.dropped, None);
    // One that holds is a new beginning.
    bench.pass(Duration::from_secs(40));
    bench.confirm(100);
    bench.frame(&snapshot(100, 1, "A"));
    bench.pass(Duration::from_secs(120));
    bench.frame(r#"{"sid":100,"type":"unsubscribed"}"#);
    let unasked = |event: &Event| {
        matches!(event, Event::Terminated { reason: TerminationReason::Unsubscribed, .. })
    };
    assert!(bench.count(unasked) > 0);
    bench.pass(Duration::from_millis(300));
    bench.command("subscribe A");
}

#[test]
fn c2_no_limit_of_time_is_too_long() {
    for (command, snapshot_timeout) in [
        (Duration::MAX, Duration::ZERO),
        (Duration::ZERO, Duration::MAX),
        (Duration::MAX, Duration::MAX),
    ] {
        let mut bench = Bench::with_limits(Limits {
            command_timeout: command,
            snapshot_timeout,
            stale_after: Duration::MAX,
            backoff: Backoff::new(Duration::MAX, Duration::MAX).with_random(|| 0),
            items_per_command: 0,
        });
        bench.subscribe(&["A", "B"]);
        bench.confirm(1);
        bench.snapshot(1, "A");
        bench.delta(5, "A");
        bench.request(Request::ListItems(BOOKS));
        bench.pass(Duration::from_millis(100));
        bench.session.compare_clocks(bench.now, UnixMillis::from_millis(i64::MIN));
        bench.session.compare_clocks(bench.now, UnixMillis::from_millis(i64::MAX));
        bench.frame(r#"{"type":"error","sid":1,"msg":{"code":25,"msg":""}}"#);
        bench.pass(Duration::from_millis(100));
        assert!(bench.count(|event| matches!(event, Event::Terminated { .. })) == 1);
    }
}

#[test]
fn c4_a_reply_without_id_answers_the_oldest_command_of_its_subscription_and_kind() {
    let mut bench = Bench::new();
    bench.request(Request::Subscribe(Box::new(Subscription::cfbenchmarks(["X"]))));
    let command = bench.sent.pop_front().unwrap();
    assert_eq!(name(&command), "subscribe X");
    bench.frame(r#"{"type":"subscribed","msg":{"channel":"cfbenchmarks_value","sid":1}}"#);
    let indices = Channel::CfbenchmarksValue;
    bench.request(Request::Add(indices.clone(), owned(&["Y"])));
    bench.request(Request::Delete(indices.clone(), owned(&["X"])));
    bench.command("add Y");
    bench.command("delete X");
    // Of another subscription: it answers neither.
    bench.frame(r#"{"type":"ok","sid":9}"#);
    assert_eq!(bench.count(|event| matches!(event, Event::Added { .. })), 0);
    bench.frame(r#"{"type":"ok","sid":1}"#);
    bench.frame(r#"{"type":"ok"}"#);
    assert_eq!(bench.count(|event| matches!(event, Event::Added { .. })), 1);
    bench.request(Request::ListItems(indices));
    bench.command("items ");
    bench
        .frame(r#"{"type":"cfbenchmarks_value_indexlist","sid":1,"seq":1,"msg":{"index_ids":[]}}"#);
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.dropped, None);
    assert!(bench.session.is_confirmed());
    assert_eq!(bench.count(|event| matches!(event, Event::Unanswered { .. })), 0);
}

#[test]
fn c4_a_query_that_is_not_answered_is_an_event_and_a_lost_change_costs_the_connection() {
    let mut bench = Bench::new();
    bench.request(Request::Subscribe(Box::new(Subscription::pyth(["X"]))));
    bench.confirm(1);
    bench.request(Request::ListItems(Channel::PythValue));
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    bench.request(Request::ListSubscriptions(reply));
    bench.pass(Duration::from_secs(11));
    let unanswered =
        |e: &Event| matches!(e, Event::Unanswered { channel: Some(Channel::PythValue) });
    assert_eq!(bench.count(unanswered), 1);
    assert_eq!(answer.try_recv().unwrap(), Err(crate::CommandError::TimedOut));
    assert_eq!(bench.dropped, None);
    bench.request(Request::Add(Channel::PythValue, owned(&["Y"])));
    bench.pass(Duration::from_secs(11));
    assert_eq!(bench.dropped, Some(DisconnectReason::CommandTimeout));
}

/// Answers commands as an exchange that refuses one of a hundred markets without naming it.
fn refuse_m42(bench: &mut Bench) {
    let has = |items: &[String]| items.iter().any(|item| item == "M42");
    while let Some(Command { id, action }) = bench.sent.pop_front() {
        match action {
            Action::Subscribe { items, .. } | Action::Update { items, .. } if has(&items) => {
                bench.refuse(id, 16);
            }
            Action::Subscribe { channel, items, .. } => {
                bench.frame(&subscribed(id, &channel, 1));
                for (seq, item) in (1..).zip(items) {
                    bench.snapshot(seq, &item);
                }
            }
            Action::Update { update: Update::Add { .. }, .. } => bench.ok(id),
            Action::Update { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn hundred() -> Vec<String> {
    (0..100).map(|number| format!("M{number}")).collect()
}

#[test]
fn c5_one_dead_market_does_not_take_the_others() {
    let tickers = hundred();
    let names: Vec<&str> = tickers.iter().map(String::as_str).collect();
    let given_up = |event: &Event| matches!(event, Event::Refused { items, reason: Refusal::Server(_), .. } if items == &["M42"]);
    // In a subscription.
    let mut bench = Bench::new();
    bench.subscribe(&names);
    refuse_m42(&mut bench);
    assert_eq!(bench.count(given_up), 1);
    assert_eq!(bench.count(|event| matches!(event, Event::Refused { .. })), 1);
    assert!(bench.session.is_confirmed());
    assert!(bench.commands < 30, "{} commands", bench.commands);
    // Among markets that are added.
    let mut bench = Bench::with_books(&["X"]);
    bench.add(&names);
    refuse_m42(&mut bench);
    assert_eq!(bench.count(given_up), 1);
    assert_eq!(bench.count(|event| matches!(event, Event::Refused { .. })), 1);
    let added = bench.events.iter().map(|event| match event {
        Event::Added { items, .. } => items.len(),
        _ => 0,
    });
    assert_eq!(added.sum::<usize>(), 99);
    assert!(bench.commands < 30, "{} commands", bench.commands);
}

#[test]
fn c5_one_dead_market_does_not_keep_snapshots_from_the_others() {
    let tickers = hundred();
    let names: Vec<&str> = tickers.iter().map(String::as_str).collect();
    let mut bench = Bench::with_books(&names);
    for (seq, name) in (1..).zip(&names) {
        bench.snapshot(seq, name);
    }
    bench.delta(107, "M0");
    let mut asked = 0;
    while let Some(Command { id, action }) = bench.sent.pop_front() {
        let Action::Update { items, update: Update::Snapshot, .. } = action else { panic!() };
        if items.iter().any(|item| item == "M42") {
            bench.refuse(id, 16);
        } else {
            asked += items.len();
        }
    }
    assert_eq!(asked, 99);
    assert!(bench.commands < 30, "{} commands", bench.commands);
}

#[test]
fn c5_a_list_of_nothing_but_dead_markets_ends() {
    let tickers = hundred();
    let names: Vec<&str> = tickers.iter().map(String::as_str).collect();
    let mut bench = Bench::new();
    bench.subscribe(&names);
    while let Some(command) = bench.sent.pop_front() {
        bench.refuse(command.id, 16);
    }
    let refused = bench.events.iter().map(|event| match event {
        Event::Refused { items, .. } => items.len(),
        _ => 0,
    });
    assert_eq!(refused.sum::<usize>(), 100);
    assert!(bench.commands < 250, "{} commands", bench.commands);
    // And an error that is not about a market is not looked for among them.
    let mut bench = Bench::new();
    bench.subscribe(&names);
    let id = bench.sent.pop_front().unwrap().id;
    bench.refuse(id, 9);
    bench.no_command();
    assert_eq!(
        bench.count(|event| matches!(event, Event::Refused { items, .. } if items.is_empty())),
        1
    );
}

#[test]
fn c6_the_names_of_deleted_markets_are_forgotten() {
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.delete(&["A"]);
    let id = bench.command("delete A");
    let frame = format!(r#"{{"id":{id},"type":"ok","sid":1}}"#);
    let frame = bench.decoder.decode(&frame, UnixMillis::EPOCH);
    assert!(bench.session.frame(frame, 10, bench.now).is_none());
    let mut forgotten = Vec::new();
    while let Some(output) = bench.session.output() {
        if let Output::ForgetNames(names) = output {
            forgotten.extend(names);
        }
    }
    assert_eq!(forgotten, ["A"]);
    // The fast way is open: what was deleted is not looked for any more.
    bench.snapshot(1, "B");
    let text = delta(1, 2, "B");
    let frame = bench.decoder.decode(&text, UnixMillis::EPOCH);
    assert!(bench.session.frame(frame, text.len(), bench.now).is_some());
}

#[test]
fn a2_the_fast_path_stays_on_while_a_market_is_taken_out() {
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.snapshot(1, "A");
    bench.snapshot(2, "B");
    bench.delete(&["A"]);
    bench.command("delete A");
    // Not confirmed yet: messages of A may still come, and those of B are the next ones.
    for (seq, ticker, is_fast) in [(3, "B", true), (4, "A", false), (5, "B", true)] {
        let text = delta(1, seq, ticker);
        let frame = bench.decoder.decode(&text, UnixMillis::EPOCH);
        let at_once = bench.session.frame(frame, text.len(), bench.now);
        assert_eq!(at_once.is_some(), is_fast, "{ticker}");
        bench.carry_out();
    }
    assert_eq!(bench.count(|event| matches!(event, Event::Unmatched(_))), 1);
    assert_eq!(bench.count(|event| matches!(event, Event::Gap { .. })), 0);
}

#[test]
fn r2_a_subscription_that_is_confirmed_by_ok_is_live() {
    let mut bench = Bench::new();
    bench.subscribe(&["A", "B"]);
    let id = bench.command("subscribe A B");
    bench.frame(&format!(
        r#"{{"type":"ok","id":{id},"sid":1,"seq":2,"msg":{{"market_tickers":["A","B","OLD"]}}}}"#
    ));
    assert_eq!(bench.count(|event| matches!(event, Event::Subscribed { sid: 1, .. })), 1);
    // What the exchange has besides is taken out.
    bench.command("delete OLD");
    bench.snapshot(3, "A");
    bench.snapshot(4, "B");
    bench.snapshot(5, "OLD");
    assert!(bench.is_valid("A") && bench.is_valid("B") && !bench.is_valid("OLD"));
    assert_eq!(bench.count(|event| matches!(event, Event::Gap { .. })), 0);
    // Without its number nothing can be done with it.
    let mut bench = Bench::new();
    bench.subscribe(&["A"]);
    let id = bench.command("subscribe A");
    bench.frame(&format!(r#"{{"type":"ok","id":{id}}}"#));
    assert_eq!(bench.dropped, Some(DisconnectReason::UnknownSubscription));
}

#[test]
fn replies_and_errors_take_numbers_of_their_subscription() {
    let mut bench = Bench::with_books(&["A"]);
    bench.snapshot(1, "A");
    bench.frame(r#"{"type":"ok","sid":1,"seq":2}"#);
    bench.delta(3, "A");
    bench.frame(r#"{"type":"error","sid":1,"seq":4,"msg":{"code":27,"msg":""}}"#);
    bench.delta(5, "A");
    bench.frame(r#"{"type":"news","sid":1,"seq":6}"#);
    bench.delta(7, "A");
    assert!(bench.is_valid("A"));
    assert_eq!(bench.count(|event| matches!(event, Event::Gap { .. })), 0);
}

#[test]
fn every_message_with_a_number_is_checked_and_nothing_is_requested_for_it() {
    let trade = |seq: i64| {
        format!(
            r#"{{"type":"trade","sid":1,"seq":{seq},"msg":{{"trade_id":"t","market_ticker":"A","yes_price_dollars":"0.36","no_price_dollars":"0.64","count_fp":"1.00","taker_side":"no","taker_outcome_side":"no","taker_book_side":"ask","is_block_trade":false,"ts":1,"ts_ms":1}}}}"#
        )
    };
    let mut bench = Bench::new();
    bench.request(Request::Subscribe(Box::new(Subscription::channel(Channel::Trade))));
    bench.confirm(1);
    for seq in [1, 2, 2, 5, 6] {
        bench.frame(&trade(seq));
    }
    let gaps = bench.events.iter().filter_map(|event| match event {
        Event::Gap { channel: Channel::Trade, expected, received, .. } => {
            Some((*expected, *received))
        }
        _ => None,
    });
    assert_eq!(gaps.collect::<Vec<_>>(), [(Some(3), Some(5))]);
    assert_eq!(bench.count(|event| event.message().is_some()), 4);
    bench.pass(Duration::from_secs(5));
    bench.no_command();
}

#[test]
fn a_snapshot_of_a_market_that_nothing_keeps_up_to_date_is_no_book() {
    let mut bench = Bench::with_books(&["A"]);
    bench.snapshot(1, "STRANGER");
    assert_eq!(bench.books.state("STRANGER"), BookState::Absent);
    assert_eq!(bench.count(|event| matches!(event, Event::Unmatched(_))), 1);
    bench.delta(2, "STRANGER");
    assert_eq!(bench.books.state("STRANGER"), BookState::Absent);
}

#[test]
fn a_snapshot_whose_place_cannot_be_told_is_no_book() {
    for late in [snapshot(1, 3, "A").replace(r#""seq":3,"#, ""), snapshot(1, 2, "A")] {
        let mut bench = Bench::with_books(&["A", "B"]);
        bench.snapshot(1, "A");
        bench.snapshot(2, "B");
        bench.delta(3, "A");
        bench.delta(4, "A");
        bench.frame(&late);
        assert!(!bench.is_valid("A") && !bench.is_valid("B"), "{late}");
        assert_eq!(bench.count(|event| matches!(event, Event::Unmatched(_))), 1);
        bench.command("snapshot A B");
        bench.snapshot(5, "A");
        bench.snapshot(6, "B");
        assert!(bench.is_valid("A") && bench.is_valid("B"));
    }
}
