//! `kalshi stream`, `record` and `replay` as a whole.

use std::time::Duration;

use kalshi_sdk::{UnixMillis, streams::Tap as _};
use kalshi_sim::StreamFaults;
use kalshi_ws::recording::Recorder;
use serde_json::Value;

use crate::own_exchange::OwnExchange;

/// Lets simulated traders trade for as long as the test runs.
fn busy() -> OwnExchange {
    OwnExchange::with(|builder| builder.with_traders(300))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_stream_is_lines_of_json_until_their_count() {
    let desk = busy();
    let ran = desk.run("stream trade --count 4");
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines = lines(&ran.stdout);
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["type"], "connected");
    for line in &lines[1..] {
        assert_eq!(line["type"], "trade");
        assert!(line["msg"]["yes_price_dollars"].is_string(), "money is a text: {line}");
    }
}

#[test]
fn what_is_missing_is_a_line_of_its_own() {
    let desk = busy();
    let mut faults = StreamFaults::default();
    faults.drop_one_in = 2;
    desk.exchange.streams().set_faults(kalshi_sim::Target::All, faults).unwrap();
    let ran = desk.run("stream trade --count 30");
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines = lines(&ran.stdout);
    let gap = lines.iter().find(|line| line["type"] == "gap").unwrap();
    assert_eq!(gap["channel"], "trade");
    assert!(gap["received"].as_i64() > gap["expected"].as_i64(), "{gap}");
}

#[test]
fn what_cannot_be_streamed_is_refused() {
    let desk = OwnExchange::new();
    for (arguments, part) in
        [("stream trades", "no such channel"), ("stream orderbook_delta", "needs tickers")]
    {
        let ran = desk.run(arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    let mut command = desk.command();
    command.env("KALSHI_API_KEY_ID", "20000000-0000-4000-8000-000000000002");
    let ran = desk.finish(command.args(["stream", "trade"]));
    assert_eq!(ran.code, 4, "{ran:?}");
}

#[test]
fn a_recording_is_played_back_as_it_was_streamed() {
    let desk = busy();
    let ticker = desk.market().ticker;
    let folder = desk.home.path().join("recording");
    let folder = folder.to_str().unwrap();
    let ran = desk.run(&format!("record {folder} orderbook_delta {ticker} --for 2s"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = desk.run(&format!("replay {folder}"));
    assert_eq!(ran.code, 0, "{ran:?}");
    let played = lines(&ran.stdout);
    assert_eq!(played[0]["type"], "connected");
    let snapshot = played.iter().find(|line| line["type"] == "orderbook_snapshot").unwrap();
    assert_eq!(snapshot["msg"]["market_ticker"], ticker.as_str());
    assert!(played.iter().all(|line| line["type"] != "gap"), "{:?}", ran.stdout);
    let until = desk.run(&format!("replay {folder} --until 2020-01-01T00:00:00Z"));
    assert_eq!((until.code, until.stdout.as_str()), (0, ""), "nothing is that old: {until:?}");
    let none = desk.run(&format!("replay {folder} --name other"));
    assert_eq!(none.code, 1, "{none:?}");
}

#[test]
fn a_subscription_goes_on_in_the_next_file_and_not_in_another_recording() {
    let desk = OwnExchange::new();
    let folder = desk.home.path().join("recording");
    // The sequence number 3 is missing between two files.
    for (start, numbers) in [(1_000_i64, [1, 2, 4, 5]), (9_000, [1, 2, 3, 4])] {
        // A file for each line.
        let recorder = Recorder::builder(&folder, "stream").with_bytes_per_file(1);
        let (mut recorder, writer) = recorder.start().unwrap();
        let at = |offset| UnixMillis::from_millis(start + offset);
        recorder.connected(at(0));
        recorder
            .received(at(1), r#"{"id":1,"type":"subscribed","msg":{"channel":"trade","sid":1}}"#);
        for seq in numbers {
            let text = format!(
                r#"{{"type":"trade","sid":1,"seq":{seq},"msg":{{"trade_id":"t{seq}","market_ticker":"A","yes_price_dollars":"0.3600","no_price_dollars":"0.6400","count_fp":"1.00","taker_outcome_side":"yes","taker_book_side":"bid","taker_side":"yes","is_block_trade":false,"ts":1,"ts_ms":1000}}}}"#
            );
            recorder.received(at(seq + 1), &text);
        }
        drop(recorder);
        writer.finish().unwrap();
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 12);
    let ran = desk.run(&format!("replay {}", folder.display()));
    assert_eq!(ran.code, 0, "{ran:?}");
    let played = lines(&ran.stdout);
    let told: Vec<String> = played
        .iter()
        .map(|line| match line["type"].as_str().unwrap() {
            "trade" => line["seq"].to_string(),
            "gap" => format!("gap at {}, expected {}", line["received"], line["expected"]),
            "disconnected" => format!("disconnected: {}", line["reason"]),
            kind => kind.to_owned(),
        })
        .collect();
    assert_eq!(
        told,
        [
            "connected",
            "1",
            "2",
            "gap at 4, expected 3",
            "4",
            "5",
            "disconnected: \"another recording begins\"",
            "connected",
            "1",
            "2",
            "3",
            "4",
        ]
    );
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_ends_a_recording_and_loses_nothing_of_it() {
    let desk = busy();
    let folder = desk.home.path().join("recording");
    let mut command = desk.command();
    command.args(["record", folder.to_str().unwrap(), "trade"]);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    // Until the file is there, it has not begun.
    while std::fs::read_dir(&folder).map_or(0, Iterator::count) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    while desk.exchange.streams().connections() == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let ran = desk.run(&format!("replay {}", folder.display()));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout
            .lines()
            .all(|line| !line.contains("\"disconnected\"") || line.contains("closed"))
    );
}
