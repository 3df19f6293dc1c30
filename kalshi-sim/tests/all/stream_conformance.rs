//! What the streams tell of everything that can happen, held against the published document, more
//! strictly than a client may: fields that the document does not know are refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt as _;
use jsonschema::Validator;
use kalshi_sim::{Ending, MarketOutcome, MarketPlan, Role, Target};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    contract::{build, differences, tighten},
    operation_conformance::{Walker, steps},
    streams::{Socket, connect_as, now, send},
};

/// The messages of the exchange, by their types.
struct Document(BTreeMap<String, Validator>);

impl Document {
    fn load() -> Self {
        let text = include_str!("../../../asyncapi.yaml");
        let document: Value = serde_norway::from_str(text).expect("the document is YAML");
        let mut schemas = document["components"]["schemas"].clone();
        // Two constants that exclude each other.
        let mut combo = schemas["marketLifecycleV2Payload"].clone();
        combo["properties"]["type"]["const"] = json!("multivariate_market_lifecycle");
        schemas["multivariateMarketLifecyclePayload"] = combo;
        // Of October 2026, and not in the document yet.
        let order = &mut schemas["userOrderPayload"]["properties"]["msg"]["properties"];
        order["last_update_reason"] = json!({"type": "string"});
        // Described in the guide to the channel only: the command that asked for the snapshot.
        let snapshot = &mut schemas["orderbookSnapshotPayload"]["properties"];
        snapshot["id"] = json!({"type": "integer"});
        let mut kinds: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (name, schema) in schemas.as_object_mut().expect("there are schemas") {
            tighten(schema);
            // Commands have a `cmd` instead.
            if let Some(kind) = schema["properties"]["type"]["const"].as_str() {
                let place = json!({"$ref": format!("#/components/schemas/{name}")});
                kinds.entry(kind.to_owned()).or_default().push(place);
                // Sent with every message since October 2026, and not in the document yet.
                schema["properties"]["sending_ts_ms"] = json!({"type": "integer"});
            }
        }
        let validators = kinds.into_iter().map(|(kind, places)| {
            let schema = json!({"anyOf": places, "components": {"schemas": schemas}});
            (kind, build(&schema))
        });
        Self(validators.collect())
    }

    fn check(&self, frame: &Value) -> Result<(), String> {
        let kind = frame["type"].as_str().unwrap_or_default();
        let validator = self.0.get(kind).ok_or_else(|| format!("no message {kind}: {frame}"))?;
        differences(validator, frame).map_err(|wrong| format!("{kind}: {wrong}: {frame}"))
    }
}

/// Subscribes to everything, and collects it until the connection ends.
async fn listen(walker: &Walker, role: Role, tickers: &[String]) -> JoinHandle<Vec<Value>> {
    let mut socket = connect_as(&walker.exchange, role, now()).await.expect("it connects");
    let whole = [
        "ticker",
        "trade",
        "fill",
        "market_positions",
        "user_orders",
        "market_lifecycle_v2",
        "multivariate_market_lifecycle",
        "communications",
        "order_group_updates",
    ];
    for (number, params) in [
        json!({"channels": ["orderbook_delta"], "market_tickers": tickers, "use_yes_price": true}),
        json!({"channels": whole}),
        json!({"channels": ["cfbenchmarks_value", "cfbenchmarks_value_5hz"], "index_ids": ["all"]}),
        json!({"channels": ["pyth_value"], "underlying_tickers": ["all"]}),
        // Refused.
        json!({"channels": ["horoscope"]}),
    ]
    .into_iter()
    .enumerate()
    {
        send(&mut socket, &json!({"id": number + 1, "cmd": "subscribe", "params": params})).await;
    }
    // In the order of the subscriptions.
    for (id, sid, action) in
        [(11, 11, "indexlist"), (12, 12, "indexlist"), (13, 13, "underlying_list")]
    {
        let params = json!({"sid": sid, "action": action});
        send(&mut socket, &json!({"id": id, "cmd": "update_subscription", "params": params})).await;
    }
    let again = json!({"sid": 1, "action": "add_markets", "market_tickers": tickers});
    send(&mut socket, &json!({"id": 14, "cmd": "update_subscription", "params": again})).await;
    let again = json!({"sid": 1, "action": "get_snapshot", "market_tickers": tickers});
    send(&mut socket, &json!({"id": 15, "cmd": "update_subscription", "params": again})).await;
    if role == Role::Maker {
        send(&mut socket, &json!({"id": 16, "cmd": "unsubscribe", "params": {"sids": [13]}})).await;
    }
    send(&mut socket, &json!({"id": 17, "cmd": "list_subscriptions"})).await;
    tokio::spawn(collect(socket))
}

async fn collect(mut socket: Socket) -> Vec<Value> {
    let mut frames = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            frames.push(serde_json::from_str(&text).expect("it is JSON"));
        }
    }
    frames
}

/// What no member can do.
fn trouble(walker: &Walker) -> Result<(), Box<dyn std::error::Error>> {
    let exchange = &walker.exchange;
    exchange.markets().list(MarketPlan::new("KXTOLD-26NOV-A", 7_200))?;
    exchange.markets().list(MarketPlan::new("KXTOLD-26NOV-B", 7_200))?;
    exchange.markets().pause("KXTOLD-26NOV-A")?;
    exchange.markets().resume("KXTOLD-26NOV-A")?;
    exchange.markets().close_in("KXTOLD-26NOV-A", 60)?;
    let range = json!({"start": "0.0000", "end": "1.0000", "step": "0.0010"});
    let ranges = vec![serde_json::from_value(range)?];
    exchange.markets().set_grid("KXTOLD-26NOV-B", "deci_cent", ranges)?;
    exchange.markets().determine("KXTOLD-26NOV-B", MarketOutcome::Yes)?;
    exchange.markets().determine(&walker.facts["ticker"], MarketOutcome::No)?;
    exchange.clock().advance(Duration::from_secs(3_600))?;
    Ok(())
}

#[tokio::test]
async fn everything_that_happens_is_told_as_published() {
    let document = Document::load();
    let mut walker = Walker::start().await;
    let names =
        ["ticker", "other_ticker", "third_ticker", "fourth_ticker", "fifth_ticker", "sixth_ticker"];
    let tickers: Vec<String> = names.iter().map(|name| walker.facts[*name].clone()).collect();
    let mut ears = Vec::new();
    for role in [Role::Trader, Role::Maker] {
        ears.push(listen(&walker, role, &tickers).await);
    }
    for step in &steps() {
        walker.take(step).await;
    }
    trouble(&walker).unwrap();
    // The values of indices come once a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    walker.exchange.streams().end_subscriptions(Target::All, Ending::InternalError).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    walker.exchange.streams().cut(Target::All).unwrap();

    let (mut told, mut wrong) = (BTreeSet::new(), BTreeMap::new());
    for ear in ears {
        let frames = timeout(Duration::from_secs(10), ear).await.expect("it ends").unwrap();
        for frame in frames {
            let kind = frame["type"].as_str().unwrap_or_default().to_owned();
            if let Err(difference) = document.check(&frame) {
                // One of each kind is enough to read.
                wrong.entry(kind.clone()).or_insert(difference);
            }
            told.insert(kind);
        }
    }
    let wrong: Vec<String> = wrong.into_values().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let published: BTreeSet<String> = document.0.into_keys().collect();
    let never: Vec<&String> = published.difference(&told).collect();
    assert_eq!(never, ["event_fee_update"], "no fee of an event changes in the simulator");
}

#[test]
fn the_document_refuses_what_it_does_not_know() {
    let document = Document::load();
    let sound = json!({"type": "trade", "sid": 1, "msg": {}});
    document.check(&sound).unwrap_err();
    let sound = json!({"id": 1, "type": "subscribed", "msg": {"channel": "trade", "sid": 1}});
    document.check(&sound).unwrap();
    for (name, value) in [("typo", json!(1)), ("id", json!("1"))] {
        let mut wrong = sound.clone();
        wrong[name] = value;
        document.check(&wrong).unwrap_err();
    }
    document.check(&json!({"type": "horoscope"})).unwrap_err();
}
