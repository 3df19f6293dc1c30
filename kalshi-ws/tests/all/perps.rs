//! The streams of perpetual futures: every message of their document, and connections against an
//! exchange that does what a test tells it to.

use std::{collections::BTreeSet, fs, path::Path};

use kalshi_gen::parse;
use kalshi_types::{Count, Dollars, PriceLevel, UnixMillis};
use kalshi_ws::{
    Backoff, BookState, Environment, Refusal,
    perps::{
        Channel, Config, Connection, Decoder, Event, Frame, MESSAGE_KINDS, Payload, Subscription,
        types,
    },
};
use serde_json::{Map, Value, json};

use crate::exchange::{Exchange, Peer, expect_event, next};

/// The part of the optional data that a random message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// Only the required fields.
    Least,
    /// Everything, and what may be absent is null.
    Nulls,
    /// Everything.
    Most,
    /// Anything, also fields and values that no document has.
    Any,
}

/// Makes messages that the document, as published, allows.
struct Generator<'a> {
    document: &'a Value,
    state: u64,
    fill: Fill,
}

impl Generator<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn signed(&mut self) -> i64 {
        let digits = u32::try_from(self.below(18)).unwrap();
        let size = i64::try_from(self.below(10_u64.pow(digits) + 1)).unwrap();
        if self.below(4) == 0 { -size } else { size }
    }

    fn money(&mut self) -> Value {
        Dollars::from_micros(self.signed()).to_string().into()
    }

    fn count(&mut self) -> Value {
        Count::from_hundredths(self.signed()).to_string().into()
    }

    fn schema<'s>(&'s self, schema: &'s Value) -> (&'s Value, &'s str) {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let to = self.document.pointer(reference.trim_start_matches('#')).unwrap();
                (self.schema(to).0, reference.rsplit('/').next().unwrap())
            }
            None => match schema.get("allOf") {
                Some(parts) => self.schema(&parts[0]),
                None => (schema, ""),
            },
        }
    }

    fn value(&mut self, name: &str, schema: &Value) -> Value {
        let (schema, reference) = self.schema(schema);
        let (schema, reference) = (schema.clone(), reference.to_owned());
        if reference == "priceLevelDollarsCountFp" {
            return json!([self.money(), self.count()]);
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            if self.fill == Fill::Any && self.below(5) == 0 {
                return format!("brand_new_{}", self.below(9)).into();
            }
            let at = self.below(values.len() as u64);
            return values[usize::try_from(at).unwrap()].clone();
        }
        let printed = schema.get("x-rust-serialize-with").and_then(Value::as_str);
        let printed = printed.unwrap_or_default();
        match schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap() {
            "string" if printed.ends_with("_dollars") || name.ends_with("_dollars") => self.money(),
            "string" if printed.ends_with("_fixed_point_count") => self.count(),
            "string" if name.starts_with("ratio_") => format!("{}.5", self.below(90)).into(),
            "string" => {
                ["KX-1.5", "", "é\"\\", "日本"][usize::try_from(self.below(4)).unwrap()].into()
            }
            "integer" => match schema["minimum"].as_i64() {
                Some(least) => least + i64::try_from(self.below(1 << 40)).unwrap(),
                None => self.signed(),
            }
            .into(),
            "number" => json!(f64::from(i32::try_from(self.signed() % 1_000_000).unwrap()) / 1e4),
            "boolean" => (self.below(2) == 0).into(),
            "array" => {
                let length = match self.fill {
                    Fill::Least => 0,
                    Fill::Nulls | Fill::Most => 2,
                    Fill::Any => self.below(4),
                };
                (0..length).map(|_| self.value(name, &schema["items"])).collect()
            }
            "object" => self.object(&schema),
            other => panic!("{name}: {other}"),
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let mut map = Map::new();
        for (name, field) in schema["properties"].as_object().unwrap() {
            let is_required = has(&schema["required"], name);
            let may_be_null = has(&self.schema(field).0["type"], "null");
            // Only `msg` is under test: its envelope is read by hand, and has tests of its own.
            let is_envelope = schema["properties"].get("msg").is_some();
            let choice = match self.fill {
                Fill::Least => 0,
                Fill::Nulls => 1,
                Fill::Most => 2,
                Fill::Any => self.below(4),
            };
            match choice {
                0 if !is_required => {}
                1 if !is_envelope && (may_be_null || !is_required) => {
                    map.insert(name.clone(), Value::Null);
                }
                _ => {
                    map.insert(name.clone(), self.value(name, field));
                }
            }
        }
        if self.fill == Fill::Any && self.below(3) == 0 {
            map.insert("x_not_in_the_document".to_owned(), json!([1, {"a": null}]));
        }
        map.into()
    }
}

fn has(list: &Value, name: &str) -> bool {
    list.as_array().into_iter().flatten().any(|entry| entry == name)
}

fn document() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("perps_asyncapi.yaml");
    parse(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns the messages of the channels: type, and the schema of the whole frame.
fn messages(document: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for channel in document["channels"].as_object().unwrap().values() {
        if channel["address"] == "/" {
            continue;
        }
        for message in channel["messages"].as_object().unwrap().values() {
            let at = |value: &Value| {
                let reference = value["$ref"].as_str().unwrap();
                document.pointer(reference.trim_start_matches('#')).unwrap().clone()
            };
            let payload = at(&at(message)["payload"]);
            let name = payload["properties"]["type"]["const"].as_str().unwrap().to_owned();
            found.push((name, payload));
        }
    }
    found
}

fn decode(frame: &Value) -> Frame {
    Decoder::new().decode(&frame.to_string(), UnixMillis::EPOCH)
}

/// Returns the `msg` as it would be written again.
fn written(payload: &Payload) -> Value {
    let value = match payload {
        Payload::CorporateActionsDelta(message) => serde_json::to_value(message),
        Payload::Fill(message) => serde_json::to_value(message),
        Payload::OrderGroupUpdates(message) => serde_json::to_value(message),
        Payload::OrderbookDelta(message) => serde_json::to_value(message),
        Payload::OrderbookSnapshot(message) => serde_json::to_value(message),
        Payload::Ticker(message) => serde_json::to_value(message),
        Payload::Trade(message) => serde_json::to_value(message),
        Payload::UserOrder(message) => serde_json::to_value(message),
        other => panic!("{other:?}"),
    };
    value.unwrap()
}

/// Checks that all that was sent is there, but for nulls, empty lists and unknown fields.
fn assert_kept(sent: &Value, kept: &Value, at: &str) {
    match (sent, kept) {
        (Value::Object(sent), kept) => {
            for (name, value) in sent {
                let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
                if name != "x_not_in_the_document" && !is_empty {
                    assert_kept(value, &kept[name], &format!("{at}/{name}"));
                }
            }
        }
        (Value::Array(sent), Value::Array(kept)) => {
            assert_eq!(sent.len(), kept.len(), "{at}");
            for (sent, kept) in sent.iter().zip(kept) {
                assert_kept(sent, kept, at);
            }
        }
        (Value::Number(sent), kept) => assert_eq!(sent.as_f64(), kept.as_f64(), "{at}"),
        // A ratio, which is text on the wire.
        (Value::String(sent), Value::Number(kept)) => assert_eq!(*sent, kept.to_string(), "{at}"),
        (sent, kept) => assert_eq!(sent, kept, "{at}"),
    }
}

#[test]
fn every_message_that_the_document_allows_is_read_whole() {
    let document = document();
    let messages = messages(&document);
    let names: BTreeSet<&str> = messages.iter().map(|(name, _)| name.as_str()).collect();
    let kinds: BTreeSet<&str> = MESSAGE_KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(names, kinds);
    for (name, schema) in &messages {
        for (fill, runs) in [(Fill::Least, 1), (Fill::Nulls, 1), (Fill::Most, 20), (Fill::Any, 200)]
        {
            for seed in 0..runs {
                let mut generator = Generator { document: &document, state: seed, fill };
                let frame = generator.object(schema);
                let Frame::Message(message) = decode(&frame) else {
                    panic!("{name} {fill:?} {seed}: {frame}: {:?}", decode(&frame))
                };
                assert_eq!(message.payload.kind(), name);
                assert_eq!(message.sid, frame["sid"].as_i64());
                assert_eq!(message.seq, frame["seq"].as_i64());
                assert_kept(&frame["msg"], &written(&message.payload), name);
                let kind = message.payload.message_kind().unwrap();
                assert_eq!(kind.sequenced, has(&schema["required"], "seq"), "{name}");
                let ticker = frame.pointer("/msg/market_ticker").or(frame.pointer("/msg/ticker"));
                let nested = frame.pointer("/msg/corporate_action/market_ticker");
                let ticker = ticker.or(nested).and_then(Value::as_str);
                assert_eq!(message.payload.market_ticker(), ticker, "{name}");
            }
        }
    }
}

#[test]
fn a_message_without_what_says_which_or_how_much_is_malformed_and_without_a_label_it_is_not() {
    let document = document();
    let labels = ["ts_ms", "created_ts_ms", "order_source"];
    let (mut strict, mut lenient) = (0, 0);
    for (name, schema) in messages(&document) {
        let mut generator = Generator { document: &document, state: 7, fill: Fill::Most };
        let frame = generator.object(&schema);
        let mut places = vec!["/msg".to_owned()];
        if name == "corporate_actions_delta" {
            places.push("/msg/corporate_action".to_owned());
        }
        for place in places {
            let of_place = schema.pointer("/properties/msg").unwrap();
            let of_place = match place.as_str() {
                "/msg" => of_place,
                _ => &document["components"]["schemas"]["marginCorporateAction"],
            };
            for field in of_place["required"].as_array().unwrap() {
                let field = field.as_str().unwrap();
                for value in [None, Some(Value::Null)] {
                    let mut frame = frame.clone();
                    let holder = frame.pointer_mut(&place).unwrap().as_object_mut().unwrap();
                    match value {
                        Some(value) => holder.insert(field.to_owned(), value),
                        None => holder.remove(field),
                    };
                    match decode(&frame) {
                        Frame::Message(_) if labels.contains(&field) => lenient += 1,
                        Frame::Malformed(malformed) if !labels.contains(&field) => {
                            // Its number counts all the same.
                            assert_eq!(malformed.sid, frame["sid"].as_i64());
                            assert_eq!(malformed.seq, frame["seq"].as_i64());
                            strict += 1;
                        }
                        other => panic!("{name} without {place}/{field}: {other:?}"),
                    }
                }
            }
        }
    }
    assert!(strict > 80 && lenient == 16, "{strict}, {lenient}");
}

#[test]
fn a_rate_is_exact_and_a_new_value_is_kept() {
    let ticker = r#"{"type":"ticker","sid":1,"msg":{"market_ticker":"M","price":"64250.5","bid":"64250","ask":"64251","bid_size_fp":"1.00","ask_size_fp":"2.00","last_trade_size_fp":"3.00","volume":"4.00","volume_notional_value_dollars":"5","volume_24h":"6.00","volume_24h_notional_value_dollars":"7","open_interest":"8.00","open_interest_notional_value_dollars":"9","reference_price":{"price":"64249.123456","ts_ms":1},"funding_rate":{"rate":-0.000123456789012345,"next_funding_time_ms":1792944000000,"ts_ms":2},"ts_ms":3}}"#;
    let Frame::Message(message) = Decoder::new().decode(ticker, UnixMillis::EPOCH) else {
        panic!()
    };
    let Payload::Ticker(ticker) = message.payload else { panic!() };
    let funding = ticker.funding_rate.unwrap();
    assert_eq!(funding.rate.to_string(), "-0.000123456789012345");
    assert_eq!(funding.next_funding_time_ms, UnixMillis::from_millis(1_792_944_000_000));
    assert_eq!(ticker.reference_price.unwrap().price, "64249.123456".parse().unwrap());
    assert!(ticker.settlement_mark_price.is_none());
    let group = r#"{"type":"order_group_updates","sid":1,"seq":1,"msg":{"event_type":"paused","order_group_id":"g"}}"#;
    let Frame::Message(message) = Decoder::new().decode(group, UnixMillis::EPOCH) else { panic!() };
    let Payload::OrderGroupUpdates(group) = message.payload else { panic!() };
    assert_eq!(group.event_type, types::OrderGroupUpdatesEventType::Unknown("paused".into()));
}

async fn connect(exchange: &mut Exchange) -> (Connection, Peer) {
    let millis = std::time::Duration::from_millis;
    let config = Config::builder()
        .with_environment(Environment::Custom(exchange.url.clone()))
        .with_credentials(exchange.credentials.clone())
        .with_backoff(Backoff::new(millis(5), millis(40)))
        .build()
        .unwrap();
    let connection = Connection::connect(config).await.unwrap();
    let peer = exchange.peer().await;
    (connection, peer)
}

fn snapshot(sid: i64, seq: i64, ticker: &str) -> Value {
    // Worst first, and no asks.
    let bids = json!([["64250.0000", "1.00"], ["64251.5000", "2.00"]]);
    let msg = json!({"market_ticker": ticker, "bid": bids});
    json!({"type": "orderbook_snapshot", "sid": sid, "seq": seq, "msg": msg})
}

fn delta(sid: i64, seq: i64, ticker: &str, side: &str, price: &str) -> Value {
    let msg = json!({"market_ticker": ticker, "price": price, "delta": "5.00", "side": side});
    json!({"type": "orderbook_delta", "sid": sid, "seq": seq, "msg": msg})
}

fn level(price: &str, count: &str) -> PriceLevel {
    PriceLevel { price: price.parse().unwrap(), count: count.parse().unwrap() }
}

#[tokio::test]
async fn a_connection_speaks_to_the_endpoint_of_its_product_and_keeps_two_sided_books() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = connect(&mut exchange).await;
    assert_eq!(*exchange.paths.lock().unwrap(), ["/trade-api/ws/v2/margin"]);
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    let command = peer.subscribed(7).await;
    let params =
        json!({"channels": ["orderbook_delta"], "market_tickers": ["A"], "skip_ticker_ack": true});
    assert_eq!(command["params"], params);
    peer.send(snapshot(7, 1, "A")).await;
    peer.send(delta(7, 2, "A", "ask", "64252.25")).await;
    expect_event!(stream, Event::Subscribed { channel: Channel::OrderbookDelta, sid: 7 });
    expect_event!(stream, Event::Message(_));
    expect_event!(stream, Event::Message(message) => assert_eq!(message.payload.market_ticker(), Some("A")));
    let book = stream.books().get("A").unwrap();
    assert_eq!(book.best_bid(), Some(level("64251.5", "2")));
    assert_eq!(book.best_ask(), Some(level("64252.25", "5")));
    assert_eq!(book.spread(), Some("0.75".parse().unwrap()));

    // A gap: void until the snapshot that is requested.
    peer.send(delta(7, 4, "A", "ask", "64252.25")).await;
    expect_event!(stream, Event::Gap { expected: Some(3), received: Some(4), .. });
    assert_eq!(stream.books().state("A"), BookState::Void);
    let command = peer.command().await;
    assert_eq!(
        command["params"],
        json!({"action": "get_snapshot", "market_tickers": ["A"], "sids": [7]})
    );
    peer.send(snapshot(7, 5, "A")).await;
    expect_event!(stream, Event::Message(_));
    expect_event!(stream, Event::Message(_));
    expect_event!(stream, Event::Resynced { sid: 7, .. });
    assert_eq!(stream.books().get("A").unwrap().asks().count(), 0);

    // Another connection: everything is requested again.
    peer.close().await;
    let mut peer = exchange.peer().await;
    peer.subscribed(1).await;
    expect_event!(stream, Event::Disconnected { .. });
    assert!(stream.books().get("A").is_none());
    expect_event!(stream, Event::Reconnected { .. });
    expect_event!(stream, Event::Subscribed { sid: 1, .. });
    peer.send(snapshot(1, 1, "A")).await;
    expect_event!(stream, Event::Message(_));
    assert_eq!(stream.books().state("A"), BookState::Valid);
    stream.close().await;
}

#[tokio::test]
async fn markets_come_and_go_and_what_the_exchange_refuses_is_an_event() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = connect(&mut exchange).await;
    stream.handle().subscribe(Subscription::trades(["A"])).unwrap();
    peer.subscribed(3).await;
    expect_event!(stream, Event::Subscribed { channel: Channel::Trade, sid: 3 });
    stream.handle().add_markets(Channel::Trade, ["B"]).unwrap();
    let command = peer.command().await;
    assert_eq!(command["params"]["action"], "add_markets");
    peer.ok(&command, 3).await;
    expect_event!(stream, Event::Added { items, .. } => assert_eq!(items, ["B"]));
    stream.handle().delete_markets(Channel::Trade, ["A"]).unwrap();
    let command = peer.command().await;
    assert_eq!(command["params"]["action"], "delete_markets");
    peer.ok(&command, 3).await;
    expect_event!(stream, Event::Removed { items, .. } => assert_eq!(items, ["A"]));
    stream.handle().unsubscribe(Channel::Trade).unwrap();
    let command = peer.command().await;
    assert_eq!(command["params"], json!({"sids": [3]}));
    peer.send(json!({"id": command["id"], "type": "unsubscribed", "sid": 3, "seq": 1})).await;
    expect_event!(stream, Event::Removed { .. });
    expect_event!(stream, Event::Unsubscribed { channel: Channel::Trade });
    // A member that is not let in.
    stream.handle().subscribe(Subscription::fills()).unwrap();
    let command = peer.command().await;
    peer.refuse(&command, json!({"code": 9, "msg": "not enabled"})).await;
    expect_event!(stream, Event::Refused { reason: Refusal::Server(error), .. } => assert_eq!(error.code, 9));
    stream.close().await;
}

#[tokio::test]
async fn a_loss_on_the_channel_of_corporate_actions_is_a_gap_and_a_new_ticker_is_told() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = connect(&mut exchange).await;
    stream.handle().subscribe(Subscription::corporate_actions()).unwrap();
    let command = peer.subscribed(4).await;
    assert_eq!(command["params"], json!({"channels": ["corporate_actions"]}));
    expect_event!(stream, Event::Subscribed { channel: Channel::CorporateActions, sid: 4 });
    let action = |seq: i64| {
        let terms = json!({"old_ticker": "OLD", "new_ticker": "NEW"});
        let action = json!({"id": "1", "market_id": "m", "market_ticker": "NEW", "type": "ticker_change", "ts_ms": 1, "ticker_change": terms});
        json!({"type": "corporate_actions_delta", "sid": 4, "seq": seq, "msg": {"corporate_action": action}})
    };
    peer.send(action(1)).await;
    expect_event!(stream, Event::Message(message) => {
        let Payload::CorporateActionsDelta(delta) = message.payload else { panic!() };
        assert_eq!(delta.corporate_action.type_, types::CorporateActionType::TickerChange);
        assert_eq!(delta.corporate_action.ticker_change.unwrap().new_ticker, "NEW");
        assert!(delta.corporate_action.split.is_none());
    });
    peer.send(action(3)).await;
    expect_event!(
        stream,
        Event::Gap { channel: Channel::CorporateActions, expected: Some(2), received: Some(3), .. }
    );
    // There is no snapshot to ask for: the message is delivered, and the rest is read over REST.
    assert!(matches!(next(&mut stream).await, Event::Message(_)));
    stream.close().await;
}

#[tokio::test]
async fn a_book_is_never_read_under_a_ticker_that_has_changed() {
    use kalshi_sim::CorporateAction;

    let exchange = kalshi_sim::Exchange::start().await.unwrap();
    let role = kalshi_sim::Role::Trader;
    let markets = exchange.client(role).unwrap().perps().get_margin_markets().send().await.unwrap();
    let tickers: Vec<String> =
        markets.into_inner().markets.into_iter().map(|market| market.ticker).take(2).collect();
    let [first, other] = &tickers[..] else { panic!("{tickers:?}") };
    let config = || {
        Config::builder()
            .with_environment(Environment::Custom(exchange.perps().stream_url()))
            .with_credentials(exchange.credentials(role).unwrap().clone())
            .build()
            .unwrap()
    };
    // The one is told of changes, the other is not.
    let mut told = Connection::connect(config()).await.unwrap();
    let mut plain = Connection::connect(config()).await.unwrap();
    told.handle().subscribe(Subscription::corporate_actions()).unwrap();
    told.handle().subscribe(Subscription::ticker([first])).unwrap();
    for connection in [&mut told, &mut plain] {
        connection.handle().subscribe(Subscription::orderbook(&tickers)).unwrap();
        while tickers.iter().any(|ticker| connection.books().get(ticker).is_none()) {
            next(connection).await;
        }
    }
    let new = "KXOTHERPERP";
    let action = CorporateAction::TickerChange { new: new.to_owned() };
    exchange.perps().announce(first, action, std::time::Duration::ZERO).unwrap();
    // All orders are canceled, under the new name.
    let mut renamed = Vec::new();
    while told.books().get(new).is_none() || told.books().get(other).is_none() {
        let event = next(&mut told).await;
        if let Event::Removed { channel, items } = &event {
            assert_eq!(items, std::slice::from_ref(first));
            renamed.push(channel.clone());
        }
        assert!(!matches!(event, Event::Gap { .. }), "{event:?}");
    }
    renamed.sort();
    assert_eq!(renamed, [Channel::OrderbookDelta, Channel::Ticker]);
    assert_eq!(told.books().state(first), BookState::Absent);
    assert!(told.books().get(new).unwrap().is_empty());
    while !matches!(next(&mut plain).await, Event::Gap { .. }) {}
    assert_eq!(plain.books().state(other), BookState::Void);
    // The exchange has no snapshot of the old one, and one of the other.
    while plain.books().get(other).is_none() {
        assert_eq!(plain.books().state(first), BookState::Void);
        next(&mut plain).await;
    }
    assert_eq!(plain.books().state(first), BookState::Void);
    assert_eq!(plain.books().state(new), BookState::Absent);
    // The next connection asks for what the market is called now.
    exchange.streams().cut(kalshi_sim::Target::All).unwrap();
    while !matches!(next(&mut told).await, Event::Disconnected { .. }) {}
    while told.books().get(new).is_none() || told.books().get(other).is_none() {
        let event = next(&mut told).await;
        assert!(!matches!(event, Event::Refused { .. }), "{event:?}");
    }
}
