//! The messages of everything that can happen, validated against the published document, more
//! strictly than a client may: fields that the document does not know are refused, and so is a
//! message without the time of its sending.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt as _;
use jsonschema::Validator;
use kalshi_sim::{Ending, EventFee, FeeFormula, MarketOutcome, MarketPlan, Role, Target};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    contract::{build, differences, tighten},
    operation_conformance::{Walker, steps},
    streams::{Socket, connect_as, now, send},
};

/// The messages of the exchange, by their types.
pub(crate) struct Document(pub(crate) BTreeMap<String, Validator>);

impl Document {
    fn load() -> Self {
        Self::of(include_str!("../../../asyncapi.yaml"))
    }

    pub(crate) fn of(text: &str) -> Self {
        let document: Value = serde_norway::from_str(text).expect("the document is YAML");
        let mut schemas = document["components"]["schemas"].clone();
        let mut kinds: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (name, schema) in schemas.as_object_mut().expect("there are schemas") {
            tighten(schema);
            // Commands have a `cmd` instead.
            if let Some(kind) = schema["properties"]["type"]["const"].as_str() {
                let place = json!({"$ref": format!("#/components/schemas/{name}")});
                kinds.entry(kind.to_owned()).or_default().push(place);
                // Optional, but the simulator sends it with everything.
                assert!(schema["properties"]["sending_ts_ms"].is_object(), "{name}");
                let required = schema["required"].as_array_mut().expect("it is a list");
                required.push(json!("sending_ts_ms"));
            }
        }
        let validators = kinds.into_iter().map(|(kind, places)| {
            let schema = json!({"anyOf": places, "components": {"schemas": schemas}});
            (kind, build(&schema))
        });
        Self(validators.collect())
    }

    pub(crate) fn check(&self, frame: &Value) -> Result<(), String> {
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
    for (id, sid, name, action) in [
        (18, 11, "index_ids", "unsubscribe_indices"),
        (19, 12, "index_ids", "subscribe_indices"),
        (20, 13, "underlying_tickers", "subscribe_underlyings"),
    ] {
        let params = json!({"sid": sid, "action": action, name: ["BRTI"]});
        send(&mut socket, &json!({"id": id, "cmd": "update_subscription", "params": params})).await;
    }
    // Refused, and of a subscription.
    let wrong = json!({"sid": 1, "action": "dance"});
    send(&mut socket, &json!({"id": 21, "cmd": "update_subscription", "params": wrong})).await;
    // Answered by `ok`, with all markets of the subscription.
    let again = json!({"channels": ["orderbook_delta"], "market_tickers": tickers});
    send(&mut socket, &json!({"id": 22, "cmd": "subscribe", "params": again})).await;
    if role == Role::Maker {
        send(&mut socket, &json!({"id": 16, "cmd": "unsubscribe", "params": {"sids": [13]}})).await;
    }
    send(&mut socket, &json!({"id": 17, "cmd": "list_subscriptions"})).await;
    tokio::spawn(collect(socket))
}

pub(crate) async fn collect(mut socket: Socket) -> Vec<Value> {
    let mut frames = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message {
            frames.push(serde_json::from_str(&text).expect("it is JSON"));
        }
    }
    frames
}

/// Makes the changes that only the exchange can make.
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
    exchange.markets().set_yes_sub_title("KXTOLD-26NOV-B", "Above 50")?;
    let half = EventFee::new(FeeFormula::QuadraticWithMakerFees, 500_000);
    exchange.markets().schedule_event_fee("KXTOLD-26NOV", Some(half), Duration::ZERO)?;
    exchange.markets().schedule_event_fee("KXTOLD-26NOV", None, Duration::from_secs(60))?;
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
    walker.exchange.streams().end_subscriptions(Target::All, Ending::ChannelError).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    walker.exchange.streams().cut(Target::All).unwrap();

    let (mut told, mut wrong) = (BTreeSet::new(), BTreeMap::new());
    for ear in ears {
        let frames = timeout(Duration::from_secs(10), ear).await.expect("it ends").unwrap();
        assert_eq!(holes(&frames), Vec::<String>::new());
        for frame in frames {
            let kind = frame["type"].as_str().unwrap_or_default().to_owned();
            if let Err(difference) = document.check(&frame) {
                // One of each kind is enough to read.
                wrong.entry(kind.clone()).or_insert(difference);
            }
            // A change of metadata has a form of its own, and the type of the others.
            let change = frame["msg"]["event_type"].as_str().unwrap_or_default();
            told.insert(if change == "metadata_updated" { change.to_owned() } else { kind });
        }
    }
    let wrong: Vec<String> = wrong.into_values().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut published: BTreeSet<String> = document.0.into_keys().collect();
    published.insert("metadata_updated".to_owned());
    let never: Vec<&String> = published.difference(&told).collect();
    assert!(never.is_empty(), "never sent: {never:?}");
}

/// Returns the places where the numbers of a subscription have a hole, and numbers where there are
/// none.
pub(crate) fn holes(frames: &[Value]) -> Vec<String> {
    let without = ["fill", "market_position", "ticker", "user_order"];
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for frame in frames {
        let kind = frame["type"].as_str().unwrap_or_default();
        let has_number = match kind {
            // By the channel that they belong to.
            "ok" | "error" | "subscribed" | "unsubscribed" => frame["seq"].is_number(),
            other => !without.contains(&other),
        };
        match (frame["sid"].as_u64(), frame["seq"].as_u64()) {
            (Some(sid), Some(seq)) if has_number => {
                let due = last.insert(sid, seq).unwrap_or(0) + 1;
                if seq != due {
                    wrong.push(format!("{due} was due: {frame}"));
                }
            }
            (_, None) if !has_number => {}
            _ => wrong.push(frame.to_string()),
        }
    }
    wrong
}

#[test]
fn the_document_refuses_what_it_does_not_know() {
    let document = Document::load();
    let sound = json!({"type": "trade", "sid": 1, "seq": 1, "sending_ts_ms": 1, "msg": {}});
    document.check(&sound).unwrap_err();
    let msg = json!({"channel": "trade", "sid": 1});
    let sound = json!({"id": 1, "type": "subscribed", "sending_ts_ms": 1, "msg": msg});
    document.check(&sound).unwrap();
    document.check(&json!({"id": 1, "type": "subscribed", "msg": msg})).unwrap_err();
    for (name, value) in [("typo", json!(1)), ("id", json!("1"))] {
        let mut wrong = sound.clone();
        wrong[name] = value;
        document.check(&wrong).unwrap_err();
    }
    document.check(&json!({"type": "horoscope"})).unwrap_err();
}
