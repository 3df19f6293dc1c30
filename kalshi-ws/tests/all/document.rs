//! The document and what it turns into.

use std::{collections::BTreeSet, env, fs, path::Path};

use kalshi_gen::{Family, Generated, Unmatched, generate_streams, read, read_overlays};
use kalshi_ws::{Channel, MESSAGE_KINDS};

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generated() -> Generated {
    let overlays = read_overlays(&folder().join("overlay")).unwrap();
    let document = read(&folder().join("asyncapi.yaml")).unwrap();
    generate_streams(&document, &overlays, Unmatched::Refuse).unwrap()
}

fn perps() -> Generated {
    let overlays = read_overlays(&folder().join("perps_overlay")).unwrap();
    let document = read(&folder().join("perps_asyncapi.yaml")).unwrap();
    let family = Family::of_file("perps_asyncapi.yaml").unwrap();
    family.generate(&document, &overlays, Unmatched::Refuse).unwrap()
}

#[test]
fn the_types_are_those_under_review() {
    for (name, generated) in [("types.txt", generated()), ("perps_types.txt", perps())] {
        let path = folder().join("tests/golden").join(name);
        let types = generated.review().types;
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &types).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == types, "tests/golden/{name} is out of date: run with UPDATE_GOLDEN=1");
    }
}

#[test]
fn the_delta_of_perpetual_futures_that_is_written_by_hand_has_every_field_of_the_document() {
    let generated = perps();
    let schema = &generated.normalized.document["components"]["schemas"]["MarginOrderbookDelta"];
    let fields: BTreeSet<&str> =
        schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let by_hand = [
        "client_order_id",
        "delta",
        "last_update_reason",
        "market_ticker",
        "price",
        "side",
        "subaccount",
        "ts_ms",
    ];
    assert_eq!(fields, BTreeSet::from(by_hand));
    assert_eq!(generated.coverage().findings, [""; 0]);
    assert_eq!(generated.coverage().unformatted, [""; 0]);
}

#[test]
fn a_message_type_of_the_document_is_a_message_kind_and_has_a_channel() {
    let names: BTreeSet<&str> = MESSAGE_KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), MESSAGE_KINDS.len());
    for kind in &MESSAGE_KINDS {
        assert!(!kind.channels.is_empty(), "{}", kind.name);
        assert!(kind.channels.iter().all(|channel| !channel.is_unknown()), "{}", kind.name);
    }
    assert_eq!(Channel::KNOWN.len(), 13);
}

#[test]
fn the_channels_that_count_are_those_of_the_document() {
    let counting: BTreeSet<&str> =
        MESSAGE_KINDS.iter().filter(|kind| kind.sequenced).map(|kind| kind.name).collect();
    let expected = [
        "batch_quote_accepted",
        "batch_quote_created",
        "batch_quote_executed",
        "cfbenchmarks_value",
        "cfbenchmarks_value_5hz",
        "cfbenchmarks_value_5hz_indexlist",
        "cfbenchmarks_value_indexlist",
        "event_fee_update",
        "event_lifecycle",
        "market_lifecycle_v2",
        "multivariate_market_lifecycle",
        "order_group_updates",
        "orderbook_delta",
        "orderbook_snapshot",
        "pyth_value",
        "pyth_value_underlying_list",
        "quote_accepted",
        "quote_created",
        "quote_executed",
        "rfq_batch_best_quotes",
        "rfq_batch_created",
        "rfq_batch_deleted",
        "rfq_batch_executed",
        "rfq_created",
        "rfq_deleted",
        "trade",
    ];
    assert_eq!(counting, BTreeSet::from(expected));
    let all: BTreeSet<&str> = MESSAGE_KINDS.iter().map(|kind| kind.name).collect();
    let without: Vec<&str> = all.difference(&counting).copied().collect();
    assert_eq!(without, ["fill", "market_position", "ticker", "user_order"]);
}

#[test]
fn the_delta_that_is_written_by_hand_has_every_field_of_the_document() {
    let generated = generated();
    let schema = &generated.normalized.document["components"]["schemas"]["OrderbookDelta"];
    let fields: BTreeSet<&str> =
        schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    // `ts` is the deprecated twin of `ts_ms`.
    let by_hand = [
        "client_order_id",
        "clock",
        "delta_fp",
        "market_id",
        "market_ticker",
        "price_dollars",
        "side",
        "subaccount",
        "ts",
        "ts_ms",
    ];
    assert_eq!(fields, BTreeSet::from(by_hand));
}

#[test]
fn every_part_of_the_document_has_words_that_say_something() {
    let coverage = generated().coverage();
    let findings = &coverage.findings;
    assert!(findings.is_empty(), "{findings:#?}");
    // The delta that is written by hand does not have the deprecated twin of `ts_ms`.
    let (flags, marked) = coverage.deprecated;
    assert_eq!(flags, marked + 1);
}
