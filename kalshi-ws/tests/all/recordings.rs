//! A recording plays back as the events that the stream gave.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use kalshi_types::UnixMillis;
use kalshi_ws::{
    BookState, Books, Channel, Config, Connection, Environment, Event, Outcome, PriceConvention,
    Replay, Subscription, Tap as _,
    recording::{
        Player, RecordedEvent, RecordedLine, Recorder, Recording, RecordingError, RecordingHeader,
        RedundantPlayer, Speed,
    },
};

use crate::exchange::{Exchange, PATIENCE, next};

/// Returns a folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It is not there the first time.
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// Writes a file of a recording by hand.
fn file(folder: &Path, number: u32, bytes: &[u8]) {
    fs::create_dir_all(folder).unwrap();
    let file = File::create(folder.join(format!("x-{number:05}.jsonl.gz"))).unwrap();
    let mut encoder = GzEncoder::new(file, Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap();
}

async fn play(folder: &Path, prices: PriceConvention) -> Vec<Result<Event, RecordingError>> {
    let mut player = Player::new(Recording::open(folder, "x").unwrap(), prices);
    let mut events = Vec::new();
    while let Some(event) = player.next().await {
        events.push(event);
    }
    events
}

fn best_ask(events: &[Result<Event, RecordingError>]) -> Option<String> {
    let mut books = Books::new();
    for event in events.iter().flatten() {
        books.apply(event);
    }
    Some(books.get("A")?.best_ask(Outcome::Yes)?.price.to_string())
}

/// A book that was recorded without `use_yes_price`, and a change of its NO side.
const SUBSCRIBED: &str =
    r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#;
const SNAPSHOT: &str = r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","clock":1,"yes_dollars_fp":[["0.45","10"]],"no_dollars_fp":[["0.54","10"]]}}"#;
const DELTA: &str = r#"{"type":"orderbook_delta","sid":1,"seq":2,"msg":{"market_ticker":"A","market_id":"a","clock":2,"price_dollars":"0.5450","delta_fp":"3.00","side":"no","ts_ms":5}}"#;

fn lines(frames: &[&str]) -> String {
    let line = |frame: &&str| format!("{}\n", serde_json::json!({"at": 5, "in": frame}));
    frames.iter().map(line).collect()
}

fn messages(events: &[Event]) -> Vec<Option<i64>> {
    events.iter().filter_map(Event::message).map(|message| message.seq).collect()
}

#[tokio::test]
async fn a_recording_plays_back_as_it_was() {
    let folder = folder("as_it_was");
    let mut exchange = Exchange::start().await;
    // Several files.
    let (recorder, writer) = Recorder::builder(&folder, "x")
        .with_host("example.com")
        .with_bytes_per_file(2_000)
        .start()
        .unwrap();
    let (mut stream, mut peer) = exchange.connect(exchange.config().with_tap(recorder)).await;
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    for seq in 2..40 {
        if seq != 30 {
            peer.delta(1, seq, "A", "1.00").await;
        }
    }
    // What the gap asks for.
    peer.command().await;
    peer.snapshot(1, 40, "A", "0.40").await;
    let mut live = Vec::new();
    while !matches!(live.last(), Some(Event::Resynced { .. })) {
        live.push(next(&mut stream).await);
    }
    stream.close().await;
    drop(stream);
    writer.finish().unwrap();
    assert!(fs::read_dir(&folder).unwrap().count() > 2);

    let mut player = Player::new(Recording::open(&folder, "x").unwrap(), PriceConvention::Yes);
    let mut books = Books::new();
    let mut again = Vec::new();
    while let Some(event) = player.next().await {
        let event = event.unwrap();
        books.apply(&event);
        again.push(event);
    }
    // Except for the number of an attempt, an event prints as all that it is.
    assert!(format!("{live:?}") == format!("{again:?}"), "the events differ");
    assert_eq!(messages(&again).len(), 39);
    assert!(books.get("A").is_some());
    let lines: Vec<_> = Recording::open(&folder, "x").unwrap().map(Result::unwrap).collect();
    assert!(lines.iter().any(|line| {
        matches!(&line.event, RecordedEvent::Sent(text) if text.contains("get_snapshot"))
    }));
    // Each file says what it is of.
    let headers: Vec<&RecordingHeader> = lines
        .iter()
        .filter_map(|line| match &line.event {
            RecordedEvent::Header(header) => Some(header),
            _ => None,
        })
        .collect();
    assert_eq!(headers.len(), fs::read_dir(&folder).unwrap().count());
    let started = lines[0].at;
    for header in headers {
        assert_eq!((header.version, header.prices), (1, PriceConvention::Yes));
        assert_eq!((header.host.as_deref(), header.started), (Some("example.com"), started));
    }
}

#[tokio::test]
async fn a_recording_plays_back_what_was_subscribed_and_taken_out() {
    let folder = folder("taken_out");
    let exchange = kalshi_sim::Exchange::builder().with_traders(50).start().await.unwrap();
    let role = kalshi_sim::Role::Trader;
    let client = exchange.client(role).unwrap();
    let open = client.get_markets().status("open").limit(3_u64).send().await.unwrap().into_inner();
    let [a, b, c] = [0, 1, 2].map(|at: usize| open.markets[at].ticker.clone());
    let (recorder, writer) = Recorder::builder(&folder, "x").start().unwrap();
    let config = Config::builder()
        .with_environment(Environment::Custom(exchange.stream_url()))
        .with_credentials(exchange.credentials(role).unwrap().clone())
        .with_tap(recorder)
        .build()
        .unwrap();
    let mut stream = Connection::connect(config).await.unwrap();
    let handle = stream.handle().clone();
    let mut live = Vec::new();
    handle.subscribe(Subscription::orderbook([&a, &b])).unwrap();
    handle.subscribe(Subscription::trades([&a, &b])).unwrap();
    until(&mut stream, &mut live, |books| books.get(&a).is_some() && books.get(&b).is_some()).await;
    handle.get_snapshot([&b]).unwrap();
    until_event(&mut stream, &mut live, |event| matches!(event, Event::Resynced { .. })).await;
    handle.delete_markets(Channel::OrderbookDelta, [&a]).unwrap();
    handle.delete_markets(Channel::Trade, [&b]).unwrap();
    // With its reply, the exchange has carried out what was sent before.
    handle.add_markets(Channel::OrderbookDelta, [&c]).unwrap();
    until_event(&mut stream, &mut live, |event| matches!(event, Event::Added { .. })).await;
    until(&mut stream, &mut live, |books| books.get(&c).is_some()).await;
    exchange.markets().run_traders(500);
    handle.unsubscribe(Channel::Trade).unwrap();
    until_event(&mut stream, &mut live, |event| matches!(event, Event::Unsubscribed { .. })).await;
    // Refused, and told so.
    handle.add_markets(Channel::OrderbookDelta, ["KXNOSUCHMARKET"]).unwrap();
    until_event(&mut stream, &mut live, |event| matches!(event, Event::Refused { .. })).await;
    stream.close().await;
    until_event(&mut stream, &mut live, |event| matches!(event, Event::Closed { .. })).await;
    live.pop();
    let live_states = [&a, &b, &c].map(|ticker| {
        let mut books = Books::new();
        for event in &live {
            books.apply(event);
        }
        books.state(ticker)
    });
    assert_eq!(live_states, [BookState::Absent, BookState::Valid, BookState::Valid]);
    drop(stream);
    writer.finish().unwrap();

    let player = || Player::new(Recording::open(&folder, "x").unwrap(), PriceConvention::Yes);
    let (mut player, mut merged) = (player(), RedundantPlayer::new([player()]).unwrap());
    let (mut books, mut again) = (Books::new(), Vec::new());
    while let Some(event) = player.next().await {
        let event = event.unwrap();
        books.apply(&event);
        again.push(event);
    }
    for (at, (live, again)) in live.iter().zip(&again).enumerate() {
        assert_eq!(format!("{live:?}"), format!("{again:?}"), "{at}");
    }
    assert_eq!(live.len(), again.len());
    assert_eq!([&a, &b, &c].map(|ticker| books.state(ticker)), live_states);
    while let Some(event) = merged.next().await {
        if matches!(event.unwrap(), Event::Closed { .. }) {
            break;
        }
        let readable = [&a, &b, &c].map(|ticker| merged.books().state(ticker));
        if readable[2] == BookState::Valid {
            assert_eq!(readable[0], BookState::Absent);
        }
    }
}

/// Reads events until the books are as expected.
async fn until(stream: &mut Connection, events: &mut Vec<Event>, is_done: impl Fn(&Books) -> bool) {
    while !is_done(stream.books()) {
        events.push(next(stream).await);
    }
}

/// Reads events until one is as expected.
async fn until_event(
    stream: &mut Connection,
    events: &mut Vec<Event>,
    is_it: impl Fn(&Event) -> bool,
) {
    loop {
        events.push(next(stream).await);
        if is_it(events.last().unwrap()) {
            return;
        }
    }
}

#[test]
fn a_command_that_was_sent_changes_what_its_reply_means() {
    let delete = r#"{"id":2,"cmd":"update_subscription","params":{"sids":[1],"action":"delete_markets","market_tickers":["A"]}}"#;
    let (mut replay, mut books) = (Replay::new(PriceConvention::Yes), Books::new());
    let mut events = Vec::new();
    let now = UnixMillis::from_millis(0);
    for frame in [SUBSCRIBED, SNAPSHOT] {
        replay.frame(frame, now, |event| {
            books.apply(&event);
        });
    }
    assert_eq!(books.state("A"), BookState::Valid);
    // What is no command changes nothing.
    for text in ["", "{}", r#"{"id":1,"cmd":"dance"}"#, &delete.replace("[1]", "[7]")] {
        replay.sent(text, |event| events.push(event));
    }
    assert!(events.is_empty(), "{events:?}");
    replay.sent(delete, |event| events.push(event));
    assert!(matches!(&events[..], [Event::Removed { items, .. }] if items == &["A"]), "{events:?}");
    books.apply(&events[0]);
    assert_eq!(books.state("A"), BookState::Absent);
    // What was on its way counts, and is of no book; neither is an old book that comes late.
    let snapshot = SNAPSHOT.replace(r#""seq":1"#, r#""seq":4"#);
    for frame in [DELTA, r#"{"id":2,"type":"ok","sid":1,"seq":3}"#, &snapshot] {
        replay.frame(frame, now, |event| {
            books.apply(&event);
            events.push(event);
        });
    }
    assert!(matches!(events[1], Event::Unmatched(_)), "{events:?}");
    assert!(matches!(events[2], Event::Message(_)), "a market that is shown again: {events:?}");
    assert_eq!(books.state("A"), BookState::Valid);
}

#[test]
fn an_old_snapshot_that_comes_late_is_not_taken_for_the_book() {
    let (mut replay, mut books) = (Replay::new(PriceConvention::Yes), Books::new());
    let now = UnixMillis::from_millis(0);
    let numbered = |frame: &str, from: &str, to: &str| frame.replace(from, to);
    let frames = [
        SUBSCRIBED.to_owned(),
        SNAPSHOT.to_owned(),
        DELTA.to_owned(),
        numbered(DELTA, r#""seq":2"#, r#""seq":3"#),
        // The first one again, late.
        SNAPSHOT.to_owned(),
    ];
    let mut events = Vec::new();
    for frame in &frames {
        replay.frame(frame, now, |event| {
            books.apply(&event);
            events.push(event);
        });
    }
    assert!(matches!(events.last(), Some(Event::Unmatched(_))), "{events:?}");
    assert_eq!(books.state("A"), BookState::Void);
    // Without a number, too.
    let bare = numbered(SNAPSHOT, r#""seq":1,"#, "");
    let newer = numbered(SNAPSHOT, r#""seq":1"#, r#""seq":4"#);
    for (frame, state) in [(newer, BookState::Valid), (bare, BookState::Void)] {
        replay.frame(&frame, now, |event| {
            books.apply(&event);
        });
        assert_eq!(books.state("A"), state, "{frame}");
    }
}

#[test]
fn a_recording_without_use_yes_price_is_read_right_when_told_so() {
    for (prices, asks) in [
        (PriceConvention::Side, ["0.4600", "0.4550"]),
        (PriceConvention::Yes, ["0.5400", "0.5400"]),
    ] {
        let (mut replay, mut books) = (Replay::new(prices), Books::new());
        let mut found = Vec::new();
        for frame in [SUBSCRIBED, SNAPSHOT, DELTA] {
            replay.frame(frame, UnixMillis::from_millis(0), |event| {
                books.apply(&event);
            });
            let ask = books.get("A").and_then(|book| book.best_ask(Outcome::Yes));
            found.extend(ask.map(|level| level.price.to_string()));
        }
        assert_eq!(found, asks, "{prices:?}");
    }
}

#[tokio::test]
async fn a_recording_without_a_header_is_read_with_the_convention_that_is_given() {
    let folder = folder("headerless");
    file(&folder, 1, lines(&[SUBSCRIBED, SNAPSHOT, DELTA]).as_bytes());
    let ask = best_ask(&play(&folder, PriceConvention::Side).await);
    assert_eq!(ask.as_deref(), Some("0.4550"));
    let ask = best_ask(&play(&folder, PriceConvention::Yes).await);
    assert_eq!(ask.as_deref(), Some("0.5400"));
}

#[tokio::test]
async fn the_header_of_a_recording_outweighs_what_is_given() {
    let folder = folder("header");
    let (mut recorder, writer) = Recorder::builder(&folder, "x")
        .with_price_convention(PriceConvention::Side)
        .start()
        .unwrap();
    for frame in [SUBSCRIBED, SNAPSHOT, DELTA] {
        recorder.received(UnixMillis::from_millis(7), frame);
    }
    drop(recorder);
    writer.finish().unwrap();
    let ask = best_ask(&play(&folder, PriceConvention::Yes).await);
    assert_eq!(ask.as_deref(), Some("0.4550"));

    // Another recording under the same name is no continuation of it.
    let (mut recorder, writer) = Recorder::builder(&folder, "x").start().unwrap();
    recorder.received(UnixMillis::from_millis(9), "{}");
    drop(recorder);
    writer.finish().unwrap();
    let events = play(&folder, PriceConvention::Yes).await;
    assert_eq!(best_ask(&events), None);
    assert!(events.iter().any(|event| matches!(event, Ok(Event::Disconnected { .. }))));
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused_and_the_next_is_read() {
    let folder = folder("versions");
    let later = r#"{"at":1,"header":{"version":2,"prices":["of","tomorrow"]}}"#;
    file(&folder, 1, format!("{later}\n{}", lines(&[SUBSCRIBED, SNAPSHOT])).as_bytes());
    // A header that does not read: its books would be read with any prices.
    let broken = r#"{"at":1,"header":{"version":1,"prices":"of yore","started":1}}"#;
    file(&folder, 2, format!("{broken}\n{}", lines(&[SUBSCRIBED, SNAPSHOT])).as_bytes());
    file(&folder, 3, lines(&[SUBSCRIBED, SNAPSHOT]).as_bytes());
    // A line of a kind that is not known may have been anything.
    file(&folder, 4, b"{\"at\":1,\"news\":true}\n");
    let events = play(&folder, PriceConvention::Side).await;
    let errors: Vec<_> = events.iter().filter_map(|event| event.as_ref().err()).collect();
    assert!(matches!(errors[0], RecordingError::Version { version: 2, .. }), "{errors:?}");
    assert!(matches!(errors[1], RecordingError::Malformed { line: 1, .. }), "{errors:?}");
    assert_eq!(errors.len(), 2);
    let snapshots = events.iter().flatten().filter(|event| event.message().is_some()).count();
    assert_eq!(snapshots, 1);
    assert!(matches!(events.last(), Some(Ok(Event::Disconnected { .. }))));
    let last = Recording::open(&folder, "x").unwrap().last().unwrap().unwrap();
    let unknown = RecordedEvent::Unknown(r#"{"at":1,"news":true}"#.to_owned());
    assert_eq!(last, RecordedLine { at: UnixMillis::from_millis(1), event: unknown });
}

#[tokio::test]
async fn what_is_missing_after_an_unreadable_line_is_an_event() {
    let folder = folder("unreadable");
    let (before, after) = (lines(&[SUBSCRIBED, SNAPSHOT]), lines(&[SUBSCRIBED, SNAPSHOT]));
    let mut bytes = before.into_bytes();
    bytes.extend(b"\xff\xfe\n");
    bytes.extend(after.as_bytes());
    file(&folder, 1, &bytes);
    let events = play(&folder, PriceConvention::Yes).await;
    let at = events.iter().position(Result::is_err).unwrap();
    assert!(matches!(events[at], Err(RecordingError::Malformed { line: 3, .. })));
    assert!(matches!(events[at + 1], Ok(Event::Disconnected { .. })));
    assert_eq!(best_ask(&events[..=at]).as_deref(), Some("0.5400"));
    assert_eq!(best_ask(&events[..at + 2]), None);
    assert_eq!(best_ask(&events).as_deref(), Some("0.5400"));
}

#[test]
fn a_recorder_drops_what_there_is_no_room_for_and_says_how_many_to_the_end() {
    let folder = folder("queue");
    let (mut recorder, writer) =
        Recorder::builder(&folder, "x").with_queue_bytes(100_000).start().unwrap();
    let frame = "a".repeat(60_000);
    // Each alone has room; two do not.
    for _ in 0..200 {
        recorder.received(UnixMillis::from_millis(7), &frame);
    }
    drop(recorder);
    writer.finish().unwrap();
    let (mut kept, mut lost) = (0, 0);
    for line in Recording::open(&folder, "x").unwrap() {
        match line.unwrap().event {
            RecordedEvent::Received(text) => {
                assert_eq!(text.len(), frame.len());
                kept += 1;
            }
            RecordedEvent::Lost(lines) => lost += lines,
            RecordedEvent::Header(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(kept >= 1);
    assert_eq!(kept + lost, 200);
}

#[test]
fn lines_are_in_the_file_while_more_of_them_come() {
    let folder = folder("steady");
    let (mut recorder, writer) = Recorder::builder(&folder, "x").start().unwrap();
    let (began, mut number) = (Instant::now(), 0);
    loop {
        recorder.received(UnixMillis::from_millis(number), "a");
        number += 1;
        // Without a second in which nothing comes.
        std::thread::sleep(Duration::from_millis(20));
        // The last line of the file is cut.
        let mut lines = Recording::open(&folder, "x").unwrap().map_while(Result::ok);
        if lines.any(|line| matches!(line.event, RecordedEvent::Received(_))) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{number} lines came, and none of them is in the file");
    }
    drop(recorder);
    writer.finish().unwrap();
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Cuts, repeats and overwrites.
fn damaged(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len().max(1));
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..),
            2 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            _ => bytes.insert(at, b"\\\"{}[],0"[random.below(8)]),
        }
    }
}

#[test]
fn a_replay_of_arbitrary_bytes_does_not_panic_and_is_bounded_in_memory() {
    const ROUNDS: usize = 20_000;
    let frames = [
        SUBSCRIBED,
        SNAPSHOT,
        DELTA,
        r#"{"id":2,"type":"ok","sid":1,"seq":3,"msg":{"market_tickers":["A"]}}"#,
        r#"{"type":"error","sid":1,"msg":{"code":25,"msg":"slow"}}"#,
        r#"{"type":"unsubscribed","sid":1,"seq":4}"#,
        r#"{"type":"trade","sid":2,"seq":1,"msg":{}}"#,
        r#"{"id":3,"cmd":"subscribe","params":{"channels":["orderbook_delta"],"market_tickers":["A","B"]}}"#,
        r#"{"id":4,"cmd":"unsubscribe","params":{"sids":[1]}}"#,
        r#"{"id":5,"cmd":"update_subscription","params":{"sids":[1],"action":"delete_markets","market_tickers":["A"]}}"#,
        r#"{"id":6,"cmd":"update_subscription","params":{"sid":1,"action":"add_markets","market_ticker":"C"}}"#,
        r#"{"id":7,"cmd":"update_subscription","params":{"sids":[1],"action":"get_snapshot","market_tickers":["A"]}}"#,
        r#"{"id":8,"cmd":"list_subscriptions"}"#,
    ];
    for prices in [PriceConvention::Yes, PriceConvention::Side] {
        let mut random = Random(1);
        let (mut replay, mut books) = (Replay::new(prices), Books::new());
        let (mut read, mut events) = (0, 0);
        let counted = allocation_counter::measure(|| {
            for _ in 0..ROUNDS {
                let mut bytes = frames[random.below(frames.len())].as_bytes().to_vec();
                if random.below(3) > 0 {
                    damaged(&mut random, &mut bytes);
                }
                if random.below(50) == 0 {
                    bytes = (0..random.below(300))
                        .map(|_| u8::try_from(random.below(256)).unwrap())
                        .collect();
                }
                read += bytes.len();
                let text = String::from_utf8_lossy(&bytes);
                let mut each = |event| {
                    books.apply(&event);
                    events += 1;
                };
                replay.frame(&text, UnixMillis::from_millis(0), &mut each);
                replay.sent(&text, &mut each);
            }
        });
        assert!(events > ROUNDS / 2, "{events}");
        // What is kept is far less than what was read: names of channels and markets.
        let most = u64::try_from(read).unwrap() / 2;
        assert!(counted.bytes_max < most, "{} of {read}", counted.bytes_max);
    }
}

#[tokio::test]
async fn a_file_of_arbitrary_bytes_is_read_without_panic() {
    let folder = folder("arbitrary");
    let mut random = Random(2);
    let whole = lines(&[SUBSCRIBED, SNAPSHOT, DELTA, SUBSCRIBED, SNAPSHOT]).into_bytes();
    for _ in 0..300 {
        let mut bytes = whole.clone();
        damaged(&mut random, &mut bytes);
        file(&folder, 1, &bytes);
        let path = folder.join("x-00001.jsonl.gz");
        if random.below(2) == 0 {
            let mut packed = fs::read(&path).unwrap();
            damaged(&mut random, &mut packed);
            fs::write(&path, packed).unwrap();
        }
        let events = play(&folder, PriceConvention::Side).await;
        // What could not be read is said, and what follows it.
        for (at, event) in events.iter().enumerate() {
            // Messages whose subscription had not been confirmed come before it.
            let mut rest = events[at + 1..].iter();
            let next = rest.find(|event| !matches!(event, Ok(Event::Unmatched(_))));
            assert!(event.is_ok() || matches!(next, Some(Ok(Event::Disconnected { .. }))));
        }
        assert!(events.len() < 100);
    }
}

#[tokio::test]
async fn a_recording_plays_at_the_speed_that_is_asked_for() {
    let folder = folder("speed");
    fs::create_dir_all(&folder).unwrap();
    let (mut recorder, writer) = Recorder::builder(&folder, "x").start().unwrap();
    for at in [1_000, 1_200, 1_400] {
        recorder.received(UnixMillis::from_millis(at), "not json");
    }
    drop(recorder);
    writer.finish().unwrap();
    let mut player = Player::new(Recording::open(&folder, "x").unwrap(), PriceConvention::Yes)
        .with_speed(Speed::Times(2.0));
    let start = Instant::now();
    while let Some(event) = player.next().await {
        assert!(matches!(event.unwrap(), Event::Malformed(_)));
    }
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_recording_that_ends_in_the_middle_says_so() {
    let folder = folder("cut");
    let (mut recorder, writer) = Recorder::builder(&folder, "x").start().unwrap();
    for number in 0..1_000_u32 {
        let text = format!("{:x}", number.wrapping_mul(2_654_435_761));
        recorder.received(UnixMillis::from_millis(1), &text);
    }
    drop(recorder);
    writer.finish().unwrap();
    let file = folder.join("x-00001.jsonl.gz");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let lines: Vec<_> = Recording::open(&folder, "x").unwrap().collect();
    assert!(lines.len() > 100);
    assert!(matches!(lines.last().unwrap(), Err(RecordingError::Io { .. })));
    // The same number is not used again.
    let (recorder, writer) = Recorder::builder(&folder, "x").start().unwrap();
    drop(recorder);
    writer.finish().unwrap();
    assert!(folder.join("x-00002.jsonl.gz").exists());
}
