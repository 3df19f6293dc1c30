//! Reading frames: every type, the unknown, the broken, and the short way for deltas.

use kalshi_types::UnixMillis;
use kalshi_ws::{
    Books, Decoder, Event, Frame, MESSAGE_KINDS, Payload, Portfolio, PriceConvention, Replay,
};
use proptest::prelude::*;

use crate::samples::{DELTA, FRAMES};

const SNAPSHOT: &str = FRAMES[0].1;

const NOW: UnixMillis = UnixMillis::from_millis(1_700_000_000_000);

fn decode(text: &str) -> Frame {
    Decoder::new().decode(text, NOW)
}

#[test]
fn every_type_of_the_document_is_read() {
    let mut seen: Vec<&str> = Vec::new();
    for (name, frame) in FRAMES {
        match decode(frame) {
            Frame::Message(message) => {
                assert_eq!(message.payload.kind(), name);
                assert!(message.sid.is_some());
                let counts = message.payload.message_kind().unwrap().sequenced;
                assert_eq!(message.seq.is_some(), counts, "{name}");
                seen.push(name);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let kinds = MESSAGE_KINDS.iter().map(|kind| kind.name);
    // It has the shape of `cfbenchmarks_value_indexlist`.
    let missing: Vec<&str> = kinds.filter(|name| !seen.contains(name)).collect();
    assert_eq!(missing, ["cfbenchmarks_value_5hz_indexlist"]);
}

#[test]
fn the_time_of_sending_is_kept() {
    let Frame::Message(message) = decode(FRAMES[2].1) else { panic!() };
    assert_eq!(message.sent.unwrap().as_millis(), 1_669_149_841_001);
}

#[test]
fn a_side_of_the_snapshot_that_is_missing_or_null_is_empty() {
    for side in [r#","no_dollars_fp":null"#, ""] {
        let frame = format!(
            r#"{{"type":"orderbook_snapshot","sid":2,"seq":2,"msg":{{"market_ticker":"A","market_id":"b"{side}}}}}"#
        );
        let Frame::Message(message) = decode(&frame) else { panic!("{frame}") };
        let Payload::OrderbookSnapshot(snapshot) = message.payload else { panic!() };
        assert!(snapshot.no_dollars_fp.is_empty() && snapshot.yes_dollars_fp.is_empty());
    }
}

#[test]
fn a_type_that_nobody_knows_is_kept_whole() {
    let frame =
        r#"{"type":"rfq_batch_news","sid":7,"seq":4,"sending_ts_ms":5,"msg":{"rfq_batch_id":"b"}}"#;
    let Frame::Unknown(unknown) = decode(frame) else { panic!() };
    assert_eq!(
        (unknown.kind.as_str(), unknown.sid, unknown.seq),
        ("rfq_batch_news", Some(7), Some(4))
    );
    assert_eq!(unknown.sent, Some(UnixMillis::from_millis(5)));
    assert_eq!(unknown.raw, frame);
}

#[test]
fn a_message_that_does_not_decode_keeps_its_frame_and_its_number() {
    let frame = DELTA.replace("0.9600", "nonsense");
    let Frame::Malformed(malformed) = decode(&frame) else { panic!() };
    assert_eq!((malformed.sid, malformed.seq), (Some(2), Some(3)));
    assert_eq!(malformed.kind.as_deref(), Some("orderbook_delta"));
    assert_eq!(malformed.raw, frame);
    for frame in ["", "[]", "{", "null", "{}", r#"{"type":1}"#] {
        let Frame::Malformed(malformed) = decode(frame) else { panic!("{frame}") };
        assert_eq!(malformed.raw, frame);
    }
}

#[test]
fn fields_that_the_exchange_leaves_out_now_and_then_do_not_fail_a_message() {
    for (name, field) in [
        ("ticker", r#","ts_ms":1669149841000"#),
        ("trade", r#","taker_side":"no""#),
        ("fill", r#","action":"buy""#),
        ("order_group_updates", r#","ts_ms":1669149841000"#),
    ] {
        let frame = FRAMES.iter().find(|(other, _)| *other == name).unwrap().1;
        assert!(frame.contains(field));
        let frame = frame.replace(field, "");
        assert!(matches!(decode(&frame), Frame::Message(_)), "{frame}");
    }
}

#[test]
fn b1_a_field_of_the_envelope_never_hides_the_others() {
    for (from, to) in [
        ("\"seq\":3", "\"seq\":3,\"sending_ts_ms\":1700000000000.5"),
        ("\"seq\":3", "\"seq\":3,\"id\":\"one\""),
        ("\"seq\":3", "\"seq\":3,\"id\":{\"a\":[1]}"),
        ("\"sid\":2", "\"sid\":2,\"new\":null"),
    ] {
        let frame = DELTA.replace(from, to);
        let Frame::Message(message) = decode(&frame) else { panic!("{frame}") };
        assert_eq!((message.sid, message.seq), (Some(2), Some(3)), "{frame}");
        assert_eq!((message.id, message.sent), (None, None), "{frame}");
    }
    for (from, to, sid, seq) in [
        ("\"sid\":2", "\"sid\":\"2\"", None, Some(3)),
        ("\"sid\":2,", "", None, Some(3)),
        ("\"seq\":3", "\"seq\":3.5", Some(2), None),
        ("\"seq\":3", "\"seq\":99999999999999999999", Some(2), None),
    ] {
        let frame = DELTA.replace(from, to);
        let Frame::Message(message) = decode(&frame) else { panic!("{frame}") };
        assert_eq!((message.sid, message.seq), (sid, seq), "{frame}");
        // Of a type that is not known, the place is all that there is to know.
        let unknown = frame.replace("orderbook_delta", "news");
        match decode(&unknown) {
            Frame::Malformed(malformed) => {
                assert_eq!((malformed.sid, malformed.seq), (sid, seq), "{unknown}");
                assert_eq!(malformed.kind.as_deref(), Some("news"));
            }
            Frame::Unknown(unknown) => assert_eq!((unknown.sid, unknown.seq), (sid, seq)),
            other => panic!("{other:?}"),
        }
    }
    // A frame that is cut off says what came before the cut.
    for (at, sid, seq) in [("\"msg\"", Some(2), Some(3)), ("\"seq\"", Some(2), None)] {
        let (cut, _) = DELTA.split_once(at).unwrap();
        let Frame::Malformed(malformed) = decode(cut) else { panic!("{cut}") };
        assert_eq!((malformed.sid, malformed.seq), (sid, seq), "{cut}");
        assert_eq!(malformed.kind.as_deref(), Some("orderbook_delta"));
    }
    // Two numbers are none.
    let twice = DELTA.replace("\"seq\":3", "\"seq\":3,\"seq\":4");
    let Frame::Malformed(malformed) = decode(&twice) else { panic!() };
    assert_eq!((malformed.sid, malformed.seq), (Some(2), None));
}

/// Returns the payload of a message.
fn payload(frame: &str) -> Payload {
    match decode(frame) {
        Frame::Message(message) => {
            assert_eq!(message.clock(), message.payload.clock(), "{frame}");
            message.payload
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a2_the_clock_of_a_delta_is_read_wherever_it_stands() {
    let without = DELTA.replace("\"clock\":41,", "");
    assert_eq!(payload(&without).clock(), None);
    let at = |place: &str| without.replacen(place, &format!("\"clock\":7,{place}"), 1);
    let fields = ["market_ticker", "market_id", "price_dollars", "delta_fp", "side", "ts", "ts_ms"];
    for field in fields {
        let frame = at(&format!("\"{field}\""));
        assert_eq!(payload(&frame).clock(), Some(7), "{frame}");
    }
    let last = without.replace("9841000}", "9841000,\"clock\":7}");
    assert_eq!(payload(&last).clock(), Some(7));
}

#[test]
fn a2_the_clock_of_a_snapshot_is_kept_and_older_snapshots_have_none() {
    assert_eq!(payload(SNAPSHOT).clock(), Some(40));
    for (clock, expected) in [("", None), ("\"clock\":0,", Some(0)), ("\"clock\":null,", None)] {
        assert_eq!(payload(&SNAPSHOT.replace("\"clock\":40,", clock)).clock(), expected);
    }
    assert!(FRAMES.iter().skip(2).all(|(_, frame)| payload(frame).clock().is_none()));
}

#[test]
fn a_change_of_metadata_is_told_from_the_other_changes_of_a_market() {
    let of = |kind: &str| {
        let frame = FRAMES.iter().find(|(_, frame)| frame.contains(kind)).unwrap().1;
        payload(frame)
    };
    let Payload::MarketMetadataUpdated(updated) = of("metadata_updated") else { panic!() };
    let strike = updated.floor_strike.map(|strike| strike.to_string());
    assert_eq!((strike.as_deref(), updated.yes_sub_title.as_deref()), (Some("487.5"), Some("y")));
    let Payload::MarketLifecycleV2(created) = of("price_level_structure") else { panic!() };
    let details = created.additional_metadata.as_ref().unwrap();
    assert_eq!((details.name.as_str(), details.event_ticker.as_deref()), ("n", Some("KXT")));
    // A kind of change that is new has the general form, in any order of the fields.
    for order in [
        r#""event_type":"merged","market_ticker":"A""#,
        r#""market_ticker":"A","event_type":"merged""#,
    ] {
        let frame =
            format!(r#"{{"type":"market_lifecycle_v2","sid":1,"seq":1,"msg":{{{order}}}}}"#);
        let payload = payload(&frame);
        assert!(matches!(payload, Payload::MarketLifecycleV2(_)), "{payload:?}");
        assert_eq!(payload.market_ticker(), Some("A"));
    }
}

#[test]
fn a11_the_messages_of_batches_are_typed() {
    let of = |kind: &str| payload(FRAMES.iter().find(|(name, _)| *name == kind).unwrap().1);
    let Payload::RfqBatchCreated(batch) = of("rfq_batch_created") else { panic!() };
    assert_eq!((batch.legs.len(), batch.rfqs.len()), (2, 2));
    assert_eq!(batch.rfqs[0].leg_indices, [0, 1]);
    assert_eq!(batch.rfqs[1].target_cost_dollars.unwrap().to_string(), "35.0000");
    let Payload::RfqBatchBestQuotes(best) = of("rfq_batch_best_quotes") else { panic!() };
    assert_eq!((best.version, best.yes_complete, best.no_complete), (3, true, false));
    let Payload::BatchQuoteAccepted(won) = of("batch_quote_accepted") else { panic!() };
    assert_eq!(won.accepted_side.as_str(), "yes");
    assert_eq!(won.quotes[0].contracts_accepted_fp.unwrap().to_string(), "100.00");
    let Payload::RfqBatchExecuted(done) = of("rfq_batch_executed") else { panic!() };
    assert_eq!((&*done.executed_rfq_ids[0], &*done.failed_rfq_ids[0]), ("r", "s"));
    assert_eq!(done.close_reason, "partially executed");
}

#[test]
fn a4_only_two_codes_end_a_subscription() {
    for code in 0..60 {
        let frame = format!(r#"{{"type":"error","msg":{{"code":{code},"msg":""}}}}"#);
        let Frame::Error { error, .. } = decode(&frame) else { panic!("{frame}") };
        assert_eq!(error.is_terminal(), code == 10 || code == 25, "{code}");
    }
}

#[test]
fn a18_the_time_of_sending_is_kept_on_every_frame() {
    let sent = Some(UnixMillis::from_millis(1_700_000_000_000));
    for (_, frame) in FRAMES {
        let mut frame: serde_json::Value = serde_json::from_str(frame).unwrap();
        frame["sending_ts_ms"] = serde_json::json!(1_700_000_000_000_i64);
        let Frame::Message(message) = decode(&frame.to_string()) else { panic!("{frame}") };
        assert_eq!(message.sent, sent, "{frame}");
    }
    for reply in [
        r#"{"id":1,"type":"subscribed","msg":{"channel":"ticker","sid":3}}"#,
        r#"{"id":2,"sid":3,"seq":9,"type":"unsubscribed"}"#,
        r#"{"id":2,"sid":3,"seq":9,"type":"ok"}"#,
        r#"{"id":3,"type":"ok","msg":[]}"#,
        r#"{"type":"error","sid":3,"seq":8,"msg":{"code":25,"msg":""}}"#,
        r#"{"type":"news","msg":1}"#,
        r#"{"type":"trade","msg":1}"#,
    ] {
        let frame = reply.replacen('{', "{\"sending_ts_ms\":1700000000000,", 1);
        let kept = match decode(&frame) {
            Frame::Subscribed { sent, .. }
            | Frame::Unsubscribed { sent, .. }
            | Frame::Done { sent, .. }
            | Frame::Subscriptions { sent, .. }
            | Frame::Error { sent, .. } => sent,
            Frame::Unknown(unknown) => unknown.sent,
            Frame::Malformed(malformed) => malformed.sent,
            other => panic!("{other:?}"),
        };
        assert_eq!(kept, sent, "{frame}");
    }
}

/// Returns the numbers that were due and came where messages were lost.
fn gaps(replay: &mut Replay, frame: &str) -> Vec<(Option<i64>, Option<i64>)> {
    let mut gaps = Vec::new();
    replay.frame(frame, NOW, |event| match event {
        Event::Gap { expected, received, .. } => gaps.push((expected, received)),
        Event::Message(_)
        | Event::Subscribed { .. }
        // A snapshot after a gap.
        | Event::Resynced { .. } => {}
        other => panic!("{other:?}"),
    });
    gaps
}

#[test]
fn a1_a_lost_message_of_every_numbered_kind_is_a_gap() {
    for (name, frame) in FRAMES {
        let kind = MESSAGE_KINDS.iter().find(|kind| kind.name == name).unwrap();
        for channel in kind.channels {
            let mut replay = Replay::new(PriceConvention::Yes);
            let ack = format!(
                r#"{{"id":1,"type":"subscribed","msg":{{"channel":"{channel}","sid":7}}}}"#
            );
            gaps(&mut replay, &ack);
            let mut numbered = |seq: i64| {
                let mut frame: serde_json::Value = serde_json::from_str(frame).unwrap();
                frame["sid"] = 7.into();
                if kind.sequenced {
                    frame["seq"] = seq.into();
                }
                gaps(&mut replay, &frame.to_string())
            };
            assert_eq!(numbered(1), [], "{name}");
            assert_eq!(numbered(2), [], "{name}");
            let lost = numbered(5);
            if kind.sequenced {
                assert_eq!(lost, [(Some(3), Some(5))], "{name} on {channel}");
            } else {
                assert_eq!(lost, [], "{name} carries no numbers");
            }
            // The number that came is the base of the next one.
            assert_eq!(numbered(6), [], "{name}");
        }
    }
}

#[test]
fn a3_errors_and_replies_with_a_number_count() {
    for reply in [
        r#"{"id":3,"type":"error","sid":7,"seq":2,"msg":{"code":14,"msg":""}}"#,
        r#"{"type":"error","sid":7,"seq":2,"msg":{"code":27,"msg":""}}"#,
        r#"{"id":3,"type":"ok","sid":7,"seq":2,"msg":{"market_tickers":["A"]}}"#,
    ] {
        let mut replay = Replay::new(PriceConvention::Yes);
        let trade = |seq: i64| {
            let frame = FRAMES.iter().find(|(name, _)| *name == "trade").unwrap().1;
            frame.replace("\"sid\":11,\"seq\":4", &format!("\"sid\":7,\"seq\":{seq}"))
        };
        replay.frame(
            r#"{"id":1,"type":"subscribed","msg":{"channel":"trade","sid":7}}"#,
            NOW,
            |_| {},
        );
        assert_eq!(gaps(&mut replay, &trade(1)), []);
        replay.frame(reply, NOW, |event| {
            assert!(!matches!(event, Event::Gap { .. }), "{event:?}");
        });
        assert_eq!(gaps(&mut replay, &trade(3)), [], "{reply}");
        assert_eq!(gaps(&mut replay, &trade(5)), [(Some(4), Some(5))], "{reply}");
    }
}

#[test]
fn c6_names_of_markets_are_forgotten_and_their_places_used_again() {
    let mut decoder = Decoder::new();
    let name = |decoder: &mut Decoder, ticker: &str| {
        let frame = DELTA.replace("KXT-23DEC-T3.00", ticker);
        let Frame::Message(message) = decoder.decode(&frame, NOW) else { panic!() };
        let Payload::OrderbookDelta(delta) = message.payload else { panic!() };
        delta.market
    };
    let first = name(&mut decoder, "A");
    for n in 0..1_000 {
        let ticker = format!("M{n}");
        name(&mut decoder, &ticker);
        decoder.forget([&ticker]);
    }
    decoder.forget(["never seen"]);
    assert!(std::ptr::eq(first.ticker(), name(&mut decoder, "A").ticker()));
    // A thousand names went through one place.
    assert!(!format!("{decoder:?}").contains("M999"));
    assert!(format!("{decoder:?}").contains("free: [1]"));
    decoder.clear();
    assert!(!std::ptr::eq(first.ticker(), name(&mut decoder, "A").ticker()));
}

#[test]
fn replies_are_told_apart() {
    let frame = r#"{"id":1,"type":"subscribed","msg":{"channel":"ticker","sid":3}}"#;
    assert_eq!(
        decode(frame),
        Frame::Subscribed { id: Some(1), channel: "ticker".to_owned(), sid: 3, sent: None }
    );
    let frame = r#"{"id":2,"sid":3,"seq":9,"type":"unsubscribed"}"#;
    assert_eq!(
        decode(frame),
        Frame::Unsubscribed { id: Some(2), sid: 3, seq: Some(9), sent: None }
    );
    let Frame::Done { id, sid, items, .. } =
        decode(r#"{"id":0,"sid":3,"type":"ok","msg":{"market_tickers":["A"]}}"#)
    else {
        panic!()
    };
    // 0 counts as no id.
    assert_eq!((id, sid, items.market_tickers), (None, Some(3), vec!["A".to_owned()]));
    assert!(matches!(decode(r#"{"id":4,"type":"ok"}"#), Frame::Done { id: Some(4), .. }));
    let Frame::Subscriptions { list, .. } =
        decode(r#"{"id":3,"type":"ok","msg":[{"channel":"fill","sid":2}]}"#)
    else {
        panic!()
    };
    assert_eq!(list.len(), 1);
    let Frame::Error { id, sid, seq, error, .. } =
        decode(r#"{"id":5,"type":"error","sid":3,"seq":8,"msg":{"code":25,"msg":"overflow"}}"#)
    else {
        panic!()
    };
    assert!(id == Some(5) && error.code == 25 && error.is_terminal());
    assert_eq!((sid, seq), (Some(3), Some(8)));
    // Nothing but the code has to be there.
    let Frame::Error { error, .. } = decode(
        r#"{"type":"error","msg":{"code":11,"market_ticker":"A","market_tickers":["B","C"]}}"#,
    ) else {
        panic!()
    };
    assert_eq!(error.to_string(), "error 11:  (B, C, A)");
    let Frame::Done { items, .. } = decode(
        r#"{"id":6,"type":"ok","sid":3,"seq":9,"msg":{"index_ids":["all"],"market_ids":null}}"#,
    ) else {
        panic!()
    };
    assert_eq!((items.index_ids, items.market_ids), (vec!["all".to_owned()], Vec::new()));
    let Frame::Error { error, .. } = decode(r#"{"type":"error","msg":{"code":1234,"msg":""}}"#)
    else {
        panic!()
    };
    assert_eq!(error.code, 1234);
}

#[test]
fn deltas_of_one_market_share_their_names() {
    let mut decoder = Decoder::new();
    let mut names = Vec::new();
    for frame in [DELTA.to_owned(), format!("{DELTA} "), DELTA.replace("\"sid\":2", "\"sid\" : 2")]
    {
        let Frame::Message(message) = decoder.decode(&frame, NOW) else { panic!() };
        let Payload::OrderbookDelta(delta) = message.payload else { panic!() };
        names.push(delta.market);
    }
    assert!(names.windows(2).all(|pair| std::ptr::eq(pair[0].ticker(), pair[1].ticker())));
}

/// Generates a delta of which every part may be usual or unusual.
fn deltas() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        8 => (0_i64..2_000_000_000_000).prop_map(|n| n.to_string()),
        1 => any::<i64>().prop_map(|n| n.to_string()),
        1 => prop::sample::select(vec!["01", "-0", "1e3", "1.0", "null", "\"7\"", "18446744073709551616", ""]).prop_map(str::to_owned),
    ];
    let text = prop_oneof![
        6 => "[A-Z0-9.-]{0,40}",
        1 => "[ -~äß€\t\u{0}]{0,20}",
        1 => prop::sample::select(vec!["\\u0041", "\\\"", "\\", "\u{7f}", "\u{1f}"]).prop_map(str::to_owned),
    ];
    let decimal = prop_oneof![
        6 => "-?[0-9]{1,3}\\.[0-9]{2,4}",
        1 => "[-+]?[0-9]{0,25}\\.?[0-9]{0,9}",
        1 => "[ -~]{0,8}",
    ];
    let side = prop_oneof![8 => "yes|no", 1 => "maybe|Yes|yes "];
    let between = prop_oneof![12 => "", 1 => "[ \n]{1,2}"];
    let ts = prop_oneof![
        4 => Just(",\"ts\":\"2022-11-22T20:44:01Z\"".to_owned()),
        2 => Just(String::new()),
        1 => Just(",\"ts\":7".to_owned()),
        1 => Just(",\"ts\":\"\\n\"".to_owned()),
        1 => Just(",\"ts\":null".to_owned()),
    ];
    let extra = prop_oneof![
        8 => Just(String::new()),
        1 => Just(",\"client_order_id\":\"mine\"".to_owned()),
        1 => Just(",\"subaccount\":3".to_owned()),
        1 => Just(",\"new_field\":[1,{}]".to_owned()),
        1 => Just(",\"side\":\"no\"".to_owned()),
    ];
    let sending = prop_oneof![
        4 => Just(String::new()),
        2 => number.clone().prop_map(|n| format!(",\"sending_ts_ms\":{n}")),
    ];
    let has_ms = prop::bool::weighted(0.9);
    let numbers = (number.clone(), number.clone(), number);
    let texts = (text.clone(), text, decimal.clone(), decimal, side);
    let clock = prop_oneof![
        3 => Just(String::new()),
        3 => (0_u64..1_000_000).prop_map(|n| format!(",\"clock\":{n}")),
        1 => prop::sample::select(vec![",\"clock\":-1", ",\"clock\":null", ",\"clock\":1.5"]).prop_map(str::to_owned),
    ];
    // In the place of the document, or in any other; now and then twice.
    let places = prop_oneof![3 => Just(2_usize), 3 => 0_usize..8];
    let optional =
        ((sending.clone(), sending), (clock.clone(), places), (clock, prop::bool::weighted(0.1)));
    (numbers, texts, ts, extra, optional, between, has_ms).prop_map(
        |((sid, seq, ms), (ticker, id, price, delta, side), ts, extra, optional, blank, has_ms)| {
            let ((s1, s2), (clock, place), (second, is_twice)) = optional;
            let c = |at: usize| if at == place { clock.as_str() } else { "" };
            let first = clock.strip_prefix(',').filter(|_| place == 0);
            let first = first.map(|first| format!("{first},")).unwrap_or_default();
            let second = if is_twice { second } else { String::new() };
            let ms = if has_ms { format!(",\"ts_ms\":{ms}") } else { String::new() };
            let (c1, c2, c3, c4, c5, c6, c7) = (c(1), c(2), c(3), c(4), c(5), c(6), c(7));
            format!(
                "{{\"type\":\"orderbook_delta\",\"sid\":{sid},{blank}\"seq\":{seq}{s1},\"msg\":{{\
                 {first}\"market_ticker\":\"{ticker}\"{c1},\"market_id\":\"{id}\"{c2},\
                 \"price_dollars\":\"{price}\"{c3},\"delta_fp\":\"{delta}\"{c4},\
                 \"side\":\"{side}\"{c5}{extra}{ts}{c6}{ms}{c7}{second}}}{s2}}}{blank}"
            )
        },
    )
}

/// Changes a text once: a piece removed, repeated, replaced or moved.
fn mutated(text: &str, at: usize, len: usize, what: u8, with: char) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = at % (chars.len() + 1);
    let end = (at + len).min(chars.len());
    match what % 4 {
        0 => drop(chars.drain(at..end)),
        1 => {
            let piece: Vec<char> = chars[at..end].to_vec();
            chars.splice(at..at, piece);
        }
        2 => drop(chars.splice(at..end, [with])),
        _ => chars.insert(at, with),
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_short_way_agrees_with_the_general_decoder_on_deltas(frame in deltas()) {
        prop_assert_eq!(decode(&frame), Decoder::new().decode_any(&frame, NOW));
    }

    #[test]
    fn the_short_way_agrees_with_the_general_decoder_on_damaged_deltas(
        changes in prop::collection::vec((any::<usize>(), 0_usize..12, any::<u8>(), any::<char>()), 1..4),
    ) {
        let mut frame = DELTA.to_owned();
        for (at, len, what, with) in changes {
            frame = mutated(&frame, at, len, what, with);
        }
        prop_assert_eq!(decode(&frame), Decoder::new().decode_any(&frame, NOW));
    }

    #[test]
    fn damaged_frames_of_every_type_are_read_without_panic(
        which in 0..FRAMES.len(),
        changes in prop::collection::vec((any::<usize>(), 0_usize..12, any::<u8>(), any::<char>()), 1..6),
    ) {
        let mut frame = FRAMES[which].1.to_owned();
        for (at, len, what, with) in changes {
            frame = mutated(&frame, at, len, what, with);
        }
        match decode(&frame) {
            // What could not be read is there as it came.
            Frame::Malformed(malformed) => prop_assert_eq!(malformed.raw, frame),
            Frame::Unknown(unknown) => prop_assert_eq!(unknown.raw, frame),
            _ => {}
        }
    }

    #[test]
    fn whatever_comes_in_whatever_order_is_survived(
        frames in prop::collection::vec(
            (0..FRAMES.len(), 0_i64..4, 0_i64..6, any::<usize>(), any::<u8>(), prop::bool::weighted(0.1)),
            0..40,
        ),
    ) {
        let mut replay = Replay::new(PriceConvention::Yes);
        let (mut books, mut portfolio) = (Books::new(), Portfolio::new());
        let mut messages = 0_usize;
        for (which, sid, seq, at, what, damaged) in frames {
            let channel = ["orderbook_delta", "fill", "news", "pyth_value"][which % 4];
            let mut frame = match which {
                0 => format!(r#"{{"id":{seq},"type":"subscribed","msg":{{"channel":"{channel}","sid":{sid}}}}}"#),
                2 => format!(r#"{{"sid":{sid},"seq":{seq},"type":"unsubscribed"}}"#),
                3 => format!(r#"{{"sid":{sid},"type":"error","msg":{{"code":25,"msg":""}}}}"#),
                4 => format!(r#"{{"sid":{sid},"seq":{seq},"type":"ok"}}"#),
                5 => SNAPSHOT.replace("\"sid\":2", &format!("\"sid\":{sid}")),
                6..=12 => DELTA.replace("\"sid\":2,\"seq\":3", &format!("\"sid\":{sid},\"seq\":{seq}")),
                other => FRAMES[other].1.to_owned(),
            };
            if damaged {
                frame = mutated(&frame, at, 3, what, 'x');
            }
            replay.frame(&frame, NOW, |event| {
                books.apply(&event);
                portfolio.apply(&event);
                messages += 1;
            });
        }
        prop_assert!(messages <= 400);
    }

    #[test]
    fn any_text_is_read_without_panic(frame in "\\PC{0,200}") {
        let read = decode(&frame);
        prop_assert_eq!(read, Decoder::new().decode_any(&frame, NOW));
    }
}

/// Returns the number of cases; `FUZZ_CASES` sets more.
fn cases() -> u32 {
    std::env::var("FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}
