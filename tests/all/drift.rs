//! The observer of drift: what it tells, how often, and that it costs nothing when it is off.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kalshi_sdk::{
    Client, Drift, DriftKind,
    auth::{ManualClock, UnixMillis},
};
use serde_json::{Value, json};

use crate::support::{
    Answer, Document, Fill, Generator, Server, always, builder, credentials, operation,
};

type Seen = Arc<Mutex<Vec<Drift>>>;

const START: i64 = 1_790_000_000_000;

fn observed(server: &Server, clock: &Arc<ManualClock>) -> (Client, Seen) {
    let seen = Seen::default();
    let into = Arc::clone(&seen);
    let client = builder(&server.url())
        .with_credentials(credentials())
        .with_clock(clock.clone())
        .with_drift_interval(Duration::from_secs(60))
        .on_drift(move |drift| into.lock().unwrap().push(drift.clone()))
        .build()
        .unwrap();
    (client, seen)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(UnixMillis::from_millis(START)))
}

fn taken(seen: &Seen) -> Vec<(DriftKind, String, Option<String>)> {
    let mut seen: Vec<_> = std::mem::take(&mut *seen.lock().unwrap())
        .into_iter()
        .map(|drift| (drift.kind, drift.path, drift.value))
        .collect();
    seen.sort_by(|a, b| a.1.cmp(&b.1));
    seen
}

/// Returns an answer exactly as the document has it.
fn page() -> Value {
    let schema = Document::get().success(operation("get_markets")).1.unwrap();
    let mut page = Generator::response(Document::get(), Fill::Least, 7).sample(schema).value;
    page["cursor"] = json!("");
    let market = page["markets"].as_array().and_then(|markets| markets.first().cloned());
    let market = market.unwrap_or_else(|| {
        let schema = json!({"$ref": "#/components/schemas/Market"});
        Generator::response(Document::get(), Fill::Least, 7).sample(&schema).value
    });
    page["markets"] = json!([market]);
    page["markets"][0]["status"] = json!("active");
    page
}

#[tokio::test]
async fn new_fields_new_values_and_missing_fields_are_told_by_their_places() {
    let mut page = page();
    let market = page["markets"][0].clone();
    page["markets"] = json!([market, market]);
    for index in 0..2 {
        page["markets"][index]["brand_new"] = json!({"secret": "not shown"});
        page["markets"][index]["status"] = json!("halted_by_moon");
    }
    page["markets"][1].as_object_mut().unwrap().remove("ticker");
    page["more"] = json!(1);
    let server = always(Answer::json(&page)).await;
    let (client, seen) = observed(&server, &clock());
    client.get_markets().send().await.unwrap_err();
    let told = taken(&seen);
    let expected = [
        (DriftKind::UnknownField, "markets[].brand_new", None),
        (DriftKind::UnknownValue, "markets[].status", Some("halted_by_moon")),
        (DriftKind::MissingField, "markets[].ticker", None),
        (DriftKind::UnknownField, "more", None),
    ];
    for (kind, path, value) in expected {
        let entry = (kind, path.to_owned(), value.map(str::to_owned));
        assert_eq!(told.iter().filter(|told| **told == entry).count(), 1, "{entry:?} in {told:?}");
    }
}

#[tokio::test]
async fn the_same_drift_is_told_once_in_an_interval() {
    let mut page = page();
    page["more"] = json!(1);
    let server = always(Answer::json(&page)).await;
    let clock = clock();
    let (client, seen) = observed(&server, &clock);
    let more = |told: Vec<(DriftKind, String, Option<String>)>| {
        told.iter().filter(|(_, path, _)| path == "more").count()
    };
    client.get_markets().send().await.unwrap();
    assert_eq!(more(taken(&seen)), 1);
    client.clone().get_markets().send().await.unwrap();
    assert_eq!(taken(&seen), [], "nothing twice, from a clone neither");
    clock.set(UnixMillis::from_millis(START + 59_999));
    client.get_markets().send().await.unwrap();
    assert_eq!(taken(&seen), []);
    clock.set(UnixMillis::from_millis(START + 60_000));
    client.get_markets().send().await.unwrap();
    assert_eq!(more(taken(&seen)), 1);
}

#[tokio::test]
async fn a_server_that_invents_names_fills_a_bounded_memory() {
    let mut fields = serde_json::Map::new();
    for index in 0..5_000 {
        fields.insert(format!("{index:0200}"), json!(index));
    }
    let mut body = page();
    body.as_object_mut().unwrap().extend(fields);
    let server = always(Answer::json(&body)).await;
    let (client, seen) = observed(&server, &clock());
    client.get_markets().send().await.unwrap();
    client.get_markets().send().await.unwrap();
    let told = taken(&seen);
    assert!(told.len() <= 1024, "{}", told.len());
    assert!(told.iter().all(|(_, path, _)| path.len() < 100), "names are cut");
}

#[tokio::test]
async fn a_response_with_a_secret_shows_no_value() {
    let body = json!({"api_key_id": "k", "private_key": "-----BEGIN", "extra": "s3cret"});
    let server = always(Answer::json(&body)).await;
    let (client, seen) = observed(&server, &clock());
    let _ = client.generate_api_key().send().await;
    let text = format!("{:?}", seen.lock().unwrap());
    assert!(!text.contains("s3cret") && !text.contains("BEGIN"), "{text}");
}

#[tokio::test]
async fn an_observer_changes_no_answer() {
    let schema = Document::get().success(operation("get_markets")).1.unwrap();
    for seed in 0..20 {
        let body = Generator::response(Document::get(), Fill::Most, seed).sample(schema).value;
        let server = always(Answer::json(&body)).await;
        let (with, _) = observed(&server, &clock());
        let without = builder(&server.url()).build().unwrap();
        let with =
            with.get_markets().send().await.map(|page| serde_json::to_value(&*page).unwrap());
        let without =
            without.get_markets().send().await.map(|page| serde_json::to_value(&*page).unwrap());
        assert_eq!(with.map_err(|e| e.to_string()), without.map_err(|e| e.to_string()));
    }
}
