//! A recording plays back as the events that the stream gave.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use kalshi_ws::{
    Books, Event, Subscription,
    recording::{Player, Recorder, Recording, RecordingError, Speed, What},
};

use crate::exchange::{Exchange, next};

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It is not there the first time.
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn messages(events: &[Event]) -> Vec<Option<i64>> {
    events.iter().filter_map(Event::message).map(|message| message.seq).collect()
}

#[tokio::test]
async fn a_recording_plays_back_as_it_was() {
    let folder = folder("as_it_was");
    let mut exchange = Exchange::start().await;
    // Several files.
    let (recorder, writer) = Recorder::start(&folder, "x", 2_000).unwrap();
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

    let mut player = Player::new(Recording::open(&folder, "x").unwrap());
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
    assert!(
        lines
            .iter()
            .any(|line| matches!(&line.what, What::Out(text) if text.contains("get_snapshot")))
    );
}

#[tokio::test]
async fn a_recording_plays_at_the_speed_that_is_asked_for() {
    let folder = folder("speed");
    fs::create_dir_all(&folder).unwrap();
    let (mut recorder, writer) = Recorder::start(&folder, "x", 1 << 20).unwrap();
    for at in [1_000, 1_200, 1_400] {
        use kalshi_ws::Tap as _;
        recorder.received(kalshi_auth::UnixMillis::from_millis(at), "not json");
    }
    drop(recorder);
    writer.finish().unwrap();
    let mut player =
        Player::new(Recording::open(&folder, "x").unwrap()).with_speed(Speed::Times(2.0));
    let start = Instant::now();
    while let Some(event) = player.next().await {
        assert!(matches!(event.unwrap(), Event::Malformed(_)));
    }
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_recording_that_ends_in_the_middle_says_so() {
    let folder = folder("cut");
    let (mut recorder, writer) = Recorder::start(&folder, "x", 1 << 20).unwrap();
    for number in 0..1_000_u32 {
        use kalshi_ws::Tap as _;
        let text = format!("{:x}", number.wrapping_mul(2_654_435_761));
        recorder.received(kalshi_auth::UnixMillis::from_millis(1), &text);
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
    let (recorder, writer) = Recorder::start(&folder, "x", 1 << 20).unwrap();
    drop(recorder);
    writer.finish().unwrap();
    assert!(folder.join("x-00002.jsonl.gz").exists());
}
