//! A stream against an exchange that does what a test tells it to.

use std::{
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use kalshi_auth::{Clock, SystemClock};
use kalshi_types::UnixMillis;
use kalshi_ws::{
    Backoff, Batch, BookChange, Channel, CommandError, ConnectErrorKind, Connection,
    DisconnectReason, Event, Message, Metrics, Overflow, Payload, Refusal, Subscription, Tap,
    TerminationReason,
};
use serde_json::{Value, json};

use crate::exchange::{Exchange, PATIENCE, delta, expect_event, next, snapshot};

const BOOKS: Channel = Channel::OrderbookDelta;

fn tickers(command: &Value) -> Vec<&str> {
    let list = command["params"]["market_tickers"].as_array();
    list.into_iter().flatten().map(|ticker| ticker.as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_subscription_is_asked_for_confirmed_and_delivers() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let mut books = stream.handle().books();
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    let command = peer.subscribed(7).await;
    assert_eq!(command["params"]["channels"], json!(["orderbook_delta"]));
    assert_eq!(command["params"]["use_yes_price"], true);
    assert_eq!(tickers(&command), ["A"]);
    peer.snapshot(7, 1, "A", "0.40").await;
    peer.delta(7, 2, "A", "2.50").await;

    expect_event!(stream, Event::Subscribed { channel: BOOKS, sid: 7 });
    assert_eq!(books.apply(&next(&mut stream).await), BookChange::Replaced);
    assert_eq!(books.apply(&next(&mut stream).await), BookChange::Updated);
    // Those of the connection have been fed already.
    assert_eq!(stream.books().get("A"), books.get("A"));
    let best = books.get("A").unwrap().best_bid(kalshi_ws::Outcome::Yes).unwrap();
    assert_eq!(best.count.to_string(), "12.50");
    assert_eq!(exchange.signatures.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_handshake_that_is_refused_says_so() {
    let exchange = Exchange::start().await;
    exchange.refuse(1, 401);
    let error = Connection::connect(exchange.config().build().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Rejected(401));
    assert!(!error.is_transient());
    assert!(!format!("{error:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_sees_no_handshake() {
    let exchange = Exchange::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}/trade-api/ws/v2", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut seen = vec![0; 4_096];
        let read = tokio::io::AsyncReadExt::read(&mut tcp, &mut seen).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tcp, b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        seen.truncate(read);
        seen
    });
    let config = exchange.config_at(&url).build().unwrap();
    let error = Connection::connect(config).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Network);
    let seen = String::from_utf8_lossy(&seen.await.unwrap()).to_lowercase();
    assert!(!seen.contains("kalshi-access"));
}

#[tokio::test]
async fn credentials_are_not_sent_over_an_open_line() {
    let exchange = Exchange::start().await;
    for url in ["ws://example.com/x", "http://example.com/", "nonsense", "wss://me:x@host/"] {
        let error = exchange.config_at(url).build().unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Config, "{url}");
    }
}

#[tokio::test]
async fn a_gap_voids_every_book_until_each_has_a_new_snapshot() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let mut books = stream.handle().books();
    stream.handle().subscribe(Subscription::orderbook(["A", "B"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    peer.snapshot(1, 2, "B", "0.40").await;
    peer.delta(1, 4, "A", "1.00").await;
    for _ in 0..3 {
        books.apply(&next(&mut stream).await);
    }
    assert!(books.get("A").is_some() && books.get("B").is_some());
    let gap = next(&mut stream).await;
    assert!(matches!(gap, Event::Gap { sid: 1, expected: Some(3), received: Some(4), .. }));
    books.apply(&gap);
    assert!(books.get("A").is_none() && books.get("B").is_none());

    let command = peer.command().await;
    assert_eq!(command["params"]["action"], "get_snapshot");
    assert_eq!(command["params"]["sids"], json!([1]));
    assert_eq!(tickers(&command), ["A", "B"]);
    peer.snapshot(1, 5, "A", "0.41").await;
    peer.snapshot(1, 6, "B", "0.42").await;
    // The message that showed the gap is delivered all the same.
    books.apply(&expect_event!(stream, event @ Event::Message(_) => event));
    assert!(books.get("A").is_none());
    books.apply(&next(&mut stream).await);
    assert!(books.get("A").is_some() && books.get("B").is_none());
    books.apply(&next(&mut stream).await);
    expect_event!(stream, Event::Resynced { sid: 1, .. });
    assert!(books.get("B").is_some());
}

#[tokio::test]
async fn a_message_that_comes_twice_is_delivered_once_and_one_out_of_order_is_a_gap() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    for seq in [2, 2, 3, 5, 4] {
        peer.delta(1, seq, "A", "1.00").await;
    }
    expect_event!(stream, Event::Subscribed { .. });
    let mut seen = Vec::new();
    while seen.len() < 7 {
        match next(&mut stream).await {
            Event::Message(message) => seen.push(message.seq.unwrap()),
            Event::Gap { expected, received, .. } => {
                assert_eq!(
                    (expected, received),
                    [(Some(4), Some(5)), (Some(6), Some(4))][usize::from(seen.len() > 4)]
                );
                seen.push(-1);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [1, 2, 3, -1, 5, -1, 4]);
}

#[tokio::test]
async fn messages_before_the_confirmation_wait_for_it() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    let command = peer.command().await;
    peer.snapshot(9, 1, "A", "0.40").await;
    peer.delta(9, 2, "A", "1.00").await;
    peer.delta(4, 2, "A", "1.00").await;
    let msg = json!({"channel": "orderbook_delta", "sid": 9});
    peer.send(json!({"id": command["id"], "type": "subscribed", "msg": msg})).await;
    peer.delta(9, 3, "A", "1.00").await;
    expect_event!(stream, Event::Subscribed { sid: 9, .. });
    for seq in 1..=3 {
        expect_event!(stream, Event::Message(message) if message.seq == Some(seq));
    }
    // Now nobody is left whom the other one could belong to.
    peer.delta(4, 3, "A", "1.00").await;
    expect_event!(stream, Event::Unmatched(message) if message.sid == Some(4));
}

#[tokio::test]
async fn a_reply_takes_a_number_of_the_subscription_where_that_fits() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    for (replies, messages) in [(2, 3), (4, 4), (1, 5)] {
        peer.send(json!({"type": "ok", "sid": 1, "seq": replies})).await;
        peer.delta(1, messages, "A", "1.00").await;
    }
    expect_event!(stream, Event::Subscribed { .. });
    for seq in [1, 3, 4, 5] {
        expect_event!(stream, Event::Message(message) if message.seq == Some(seq));
    }
}

#[tokio::test]
async fn a_lost_connection_comes_back_with_a_new_signature_and_the_same_wishes() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let mut books = stream.handle().books();
    let commands = stream.handle().clone();
    commands.subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    commands.subscribe(Subscription::fills()).unwrap();
    peer.subscribed(2).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    for _ in 0..3 {
        books.apply(&next(&mut stream).await);
    }
    assert!(books.get("A").is_some());
    exchange.refuse(2, 503);
    peer.close().await;
    let lost = next(&mut stream).await;
    assert!(matches!(&lost, Event::Disconnected { reason: DisconnectReason::Closed { .. } }));
    books.apply(&lost);
    assert!(books.get("A").is_none());
    // A wish that is made meanwhile counts too.
    commands.add_markets(BOOKS, ["B"]).unwrap();
    for attempt in 1..=2 {
        expect_event!(stream, Event::ReconnectFailed { attempt: n, .. } if n == attempt);
    }
    expect_event!(stream, Event::Reconnected { attempts: 3 });
    let mut peer = exchange.peer().await;
    assert_eq!(tickers(&peer.subscribed(1).await), ["A", "B"]);
    let command = peer.subscribed(2).await;
    assert_eq!(command["params"]["channels"], json!(["fill"]));
    // Its numbers begin anew.
    peer.snapshot(1, 1, "A", "0.50").await;
    expect_event!(stream, Event::Subscribed { channel: BOOKS, .. });
    expect_event!(stream, Event::Subscribed { channel: Channel::Fill, .. });
    books.apply(&next(&mut stream).await);
    assert!(books.get("A").is_some());
    assert_eq!(exchange.signatures.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_silent_connection_is_given_up_and_pings_keep_it() {
    let mut exchange = Exchange::start().await;
    let config = exchange.config().with_stale_after(Duration::from_millis(800));
    let (mut stream, mut peer) = exchange.connect(config).await;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.ping().await;
    }
    let quiet = Instant::now();
    expect_event!(stream, Event::Stale { silent_for } if silent_for >= Duration::from_millis(800));
    // The pings before did count.
    assert!(quiet.elapsed() >= Duration::from_millis(500));
    expect_event!(stream, Event::Disconnected { reason: DisconnectReason::Silent });
    expect_event!(stream, Event::Reconnected { attempts: 1 });
}

#[tokio::test]
async fn a_command_without_an_answer_gives_up_the_connection() {
    let mut exchange = Exchange::start().await;
    let config = exchange.config().with_command_timeout(Duration::from_millis(700));
    let (mut stream, mut peer) = exchange.connect(config).await;
    stream.handle().subscribe(Subscription::fills()).unwrap();
    peer.command().await;
    expect_event!(stream, Event::Disconnected { reason: DisconnectReason::CommandTimeout });
    expect_event!(stream, Event::Reconnected { .. });
    let mut peer = exchange.peer().await;
    peer.subscribed(1).await;
    expect_event!(stream, Event::Subscribed { channel: Channel::Fill, .. });
}

#[tokio::test]
async fn a_subscription_that_dies_is_made_anew() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let mut books = stream.handle().books();
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    // With the number of the subscription and, as it is the only one, without.
    for (sid, number) in [(1, json!(1)), (2, Value::Null)] {
        peer.subscribed(sid).await;
        peer.snapshot(sid, 1, "A", "0.40").await;
        expect_event!(stream, Event::Subscribed { .. });
        books.apply(&next(&mut stream).await);
        assert!(books.get("A").is_some());
        let msg = json!({"code": 25, "msg": "Subscription buffer overflow"});
        peer.send(json!({"type": "error", "sid": number, "msg": msg})).await;
        let ended = next(&mut stream).await;
        assert!(matches!(
            &ended,
            Event::Terminated { reason: TerminationReason::Server(error), .. } if error.code == 25
        ));
        books.apply(&ended);
        assert!(books.get("A").is_none());
    }
    peer.subscribed(3).await;
    expect_event!(stream, Event::Subscribed { sid: 3, .. });
}

#[tokio::test]
async fn a_subscription_that_the_exchange_does_not_know_is_made_anew() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let commands = stream.handle().clone();
    commands.subscribe(Subscription::orderbook(["A"])).unwrap();
    let unknown = json!({"code": 7, "msg": "Unknown subscription ID"});
    // A request for snapshots, and a command that the connection would wait for.
    for sid in [1, 2] {
        peer.subscribed(sid).await;
        peer.snapshot(sid, 1, "A", "0.40").await;
        expect_event!(stream, Event::Subscribed { .. });
        expect_event!(stream, Event::Message(_));
        match sid {
            1 => commands.get_snapshot(["A"]).unwrap(),
            _ => commands.add_markets(BOOKS, ["B"]).unwrap(),
        }
        let command = peer.command().await;
        peer.refuse(&command, unknown.clone()).await;
        expect_event!(stream, Event::Terminated { reason: TerminationReason::Server(error), .. } if error.code == 7);
    }
    // Nothing was given up.
    assert_eq!(tickers(&peer.subscribed(3).await), ["A", "B"]);
    expect_event!(stream, Event::Subscribed { sid: 3, .. });
}

#[tokio::test]
async fn a_command_that_comes_too_late_is_no_error() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let commands = stream.handle().clone();
    commands.subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    expect_event!(stream, Event::Subscribed { .. });
    expect_event!(stream, Event::Message(_));
    // On their way when the exchange ends the subscription.
    commands.get_snapshot(["A"]).unwrap();
    commands.add_markets(BOOKS, ["B"]).unwrap();
    let late = [peer.command().await, peer.command().await];
    peer.send(json!({"type": "error", "sid": 1, "msg": {"code": 25, "msg": "overflow"}})).await;
    for command in &late {
        peer.refuse(command, json!({"code": 7, "msg": "Unknown subscription ID"})).await;
    }
    expect_event!(stream, Event::Terminated { reason: TerminationReason::Server(error), .. } if error.code == 25);
    assert_eq!(tickers(&peer.subscribed(2).await), ["A", "B"]);
    expect_event!(stream, Event::Subscribed { sid: 2, .. });
}

#[tokio::test]
async fn a_death_that_could_be_of_either_subscription_gives_up_the_connection() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    stream.handle().subscribe(Subscription::fills()).unwrap();
    peer.subscribed(1).await;
    stream.handle().subscribe(Subscription::user_orders()).unwrap();
    peer.subscribed(2).await;
    peer.send(json!({"type": "error", "msg": {"code": 10, "msg": "Channel error"}})).await;
    for _ in 0..2 {
        expect_event!(stream, Event::Subscribed { .. });
    }
    expect_event!(stream, Event::Disconnected { reason: DisconnectReason::SubscriptionLost(_) });
    expect_event!(stream, Event::Reconnected { .. });
}

#[tokio::test]
async fn a_market_that_is_refused_is_given_up_and_the_others_are_asked_for_again() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    stream.handle().subscribe(Subscription::orderbook(["A", "NO", "B"])).unwrap();
    let command = peer.command().await;
    peer.refuse(&command, json!({"code": 11, "msg": "Market not found", "market_ticker": "NO"}))
        .await;
    expect_event!(stream, Event::Refused { items, reason: Refusal::Server(_), .. } if items == ["NO"]);
    let command = peer.subscribed(1).await;
    assert_eq!(tickers(&command), ["A", "B"]);
    expect_event!(stream, Event::Subscribed { .. });

    stream.handle().add_markets(BOOKS, ["C", "D"]).unwrap();
    let command = peer.command().await;
    peer.refuse(&command, json!({"code": 26, "msg": "limit"})).await;
    expect_event!(stream, Event::Refused { items, .. } if items == ["C", "D"]);

    stream.handle().subscribe(Subscription::communications()).unwrap();
    let command = peer.command().await;
    peer.refuse(&command, json!({"code": 8, "msg": "Unknown channel name"})).await;
    expect_event!(stream, Event::Refused { channel: Channel::Communications, items, .. } if items.is_empty());
    assert!(peer.command_soon().await.is_none());
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_tried_again() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    let command = peer.command().await;
    peer.refuse(&command, json!({"code": 27, "msg": "Too many requests"})).await;
    expect_event!(stream, Event::Terminated { .. });
    peer.subscribed(1).await;
    expect_event!(stream, Event::Subscribed { .. });
    stream.handle().add_markets(BOOKS, ["B"]).unwrap();
    let command = peer.command().await;
    peer.refuse(&command, json!({"code": 18, "msg": "Command timeout"})).await;
    let command = peer.command().await;
    assert_eq!(
        (command["params"]["action"].as_str(), tickers(&command)),
        (Some("add_markets"), vec!["B"])
    );
}

#[tokio::test]
async fn long_lists_are_split_and_changes_are_sent_as_such() {
    let mut exchange = Exchange::start().await;
    let config = exchange.config().with_items_per_command(2);
    let (mut stream, mut peer) = exchange.connect(config).await;
    let commands = stream.handle().clone();
    commands.subscribe(Subscription::orderbook(["A", "B", "C", "D", "E"])).unwrap();
    assert_eq!(tickers(&peer.subscribed(1).await), ["A", "B"]);
    for expected in [vec!["C", "D"], vec!["E"]] {
        let command = peer.command().await;
        assert_eq!(command["params"]["action"], "add_markets");
        assert_eq!(tickers(&command), expected);
        peer.ok(&command, 1).await;
    }
    expect_event!(stream, Event::Subscribed { .. });
    expect_event!(stream, Event::Added { items, .. } if items == ["C", "D"]);
    expect_event!(stream, Event::Added { items, .. } if items == ["E"]);
    // A second subscription to the channel is more of the first.
    commands.subscribe(Subscription::orderbook(["A", "F"])).unwrap();
    assert_eq!(tickers(&peer.command().await), ["F"]);
    expect_event!(stream, Event::Added { items, .. } if items == ["A"]);

    peer.snapshot(1, 1, "A", "0.40").await;
    let mut books = stream.handle().books();
    books.apply(&next(&mut stream).await);
    assert!(books.get("A").is_some());
    commands.delete_markets(BOOKS, ["A", "X"]).unwrap();
    expect_event!(
        stream,
        Event::Refused { items, reason: Refusal::NotSubscribed, .. } if items == ["X"]
    );
    let removed = next(&mut stream).await;
    assert!(matches!(&removed, Event::Removed { items, .. } if *items == ["A"]));
    books.apply(&removed);
    let command = peer.command().await;
    assert_eq!(
        (command["params"]["action"].as_str(), tickers(&command)),
        (Some("delete_markets"), vec!["A"])
    );
    // A snapshot that was under way does not bring back a book that nobody feeds.
    peer.snapshot(1, 2, "A", "0.40").await;
    books.apply(&expect_event!(stream, event @ Event::Unmatched(_) => event));
    assert!(books.get("A").is_none());
}

#[tokio::test]
async fn what_comes_of_a_market_before_it_is_taken_out_does_not_count_once_it_is_back() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let mut books = stream.handle().books();
    let commands = stream.handle().clone();
    commands.subscribe(Subscription::orderbook(["A", "B"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "B", "0.40").await;
    expect_event!(stream, Event::Subscribed { .. });
    expect_event!(stream, Event::Message(_));
    commands.delete_markets(BOOKS, ["A"]).unwrap();
    commands.add_markets(BOOKS, ["A"]).unwrap();
    let delete = peer.command().await;
    assert_eq!(delete["params"]["action"], "delete_markets");
    peer.snapshot(1, 2, "A", "0.40").await;
    // One command at a time for each market: the answer says which messages are old.
    peer.ok(&delete, 1).await;
    let add = peer.command().await;
    assert_eq!((add["params"]["action"].as_str(), tickers(&add)), (Some("add_markets"), vec!["A"]));
    peer.ok(&add, 1).await;
    peer.snapshot(1, 3, "A", "0.41").await;
    expect_event!(stream, Event::Removed { .. });
    books.apply(&expect_event!(stream, event @ Event::Unmatched(_) => event));
    assert!(books.get("A").is_none());
    expect_event!(stream, Event::Added { items, .. } if items == ["A"]);
    books.apply(&next(&mut stream).await);
    assert!(books.get("A").is_some());
}

#[tokio::test]
async fn a_market_that_is_taken_out_before_the_confirmation_is_not_waited_for() {
    let mut exchange = Exchange::start().await;
    let config = exchange.config().with_snapshot_timeout(Duration::from_millis(300));
    let (mut stream, mut peer) = exchange.connect(config).await;
    let commands = stream.handle().clone();
    commands.subscribe(Subscription::orderbook(["A", "B"])).unwrap();
    let command = peer.command().await;
    commands.delete_markets(BOOKS, ["A"]).unwrap();
    expect_event!(stream, Event::Removed { .. });
    let msg = json!({"channel": "orderbook_delta", "sid": 1});
    peer.send(json!({"id": command["id"], "type": "subscribed", "msg": msg})).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    peer.snapshot(1, 2, "B", "0.40").await;
    let command = peer.command().await;
    assert_eq!(
        (command["params"]["action"].as_str(), tickers(&command)),
        (Some("delete_markets"), vec!["A"])
    );
    peer.ok(&command, 1).await;
    expect_event!(stream, Event::Subscribed { .. });
    expect_event!(stream, Event::Unmatched(_));
    expect_event!(stream, Event::Message(_));
    // Nothing is asked for any more.
    assert!(peer.command_soon().await.is_none());
}

#[tokio::test]
async fn a_channel_is_given_up_with_its_last_market() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let commands = stream.handle().clone();
    commands.subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(3).await;
    expect_event!(stream, Event::Subscribed { .. });
    commands.delete_markets(BOOKS, ["A"]).unwrap();
    expect_event!(stream, Event::Removed { .. });
    let command = peer.command().await;
    assert_eq!(
        (command["cmd"].as_str(), &command["params"]["sids"]),
        (Some("unsubscribe"), &json!([3]))
    );
    peer.send(json!({"id": command["id"], "sid": 3, "seq": 1, "type": "unsubscribed"})).await;
    expect_event!(stream, Event::Unsubscribed { channel: BOOKS });
    assert!(peer.command_soon().await.is_none());
    commands.add_markets(BOOKS, ["B"]).unwrap();
    assert_eq!(tickers(&peer.subscribed(4).await), ["B"]);

    expect_event!(stream, Event::Subscribed { sid: 4, .. });
    commands.unsubscribe(BOOKS).unwrap();
    expect_event!(stream, Event::Removed { .. });
    // Wished for again before it is over.
    commands.subscribe(Subscription::orderbook(["C"])).unwrap();
    let command = peer.command().await;
    peer.send(json!({"id": command["id"], "sid": 4, "type": "unsubscribed"})).await;
    expect_event!(stream, Event::Unsubscribed { .. });
    assert_eq!(tickers(&peer.subscribed(5).await), ["C"]);
    expect_event!(stream, Event::Subscribed { .. });
    commands.unsubscribe("fill").unwrap();
    expect_event!(stream, Event::Refused { reason: Refusal::NotSubscribed, .. });
}

#[tokio::test]
async fn what_is_not_understood_is_delivered_as_it_came_and_a_broken_delta_is_a_gap() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    let new = r#"{"type":"orderbook_hint","sid":1,"seq":2,"msg":{"x":1}}"#;
    peer.send(new).await;
    peer.delta(1, 3, "A", "1.00").await;
    peer.delta(1, 4, "A", "oops").await;
    peer.send("not json").await;
    peer.send_binary(b"\xff\xfe").await;
    expect_event!(stream, Event::Subscribed { .. });
    expect_event!(stream, Event::Message(_));
    expect_event!(stream, Event::Unknown(unknown) if unknown.raw == new);
    // The unknown message had its number, so this is no gap.
    expect_event!(stream, Event::Message(_));
    expect_event!(stream, Event::Gap { expected: Some(4), received: None, .. });
    expect_event!(stream, Event::Malformed(malformed) if malformed.raw.contains("oops"));
    // What cannot be placed may have been of the books.
    expect_event!(stream, Event::Gap { expected: Some(5), received: None, .. });
    expect_event!(stream, Event::Malformed(malformed) if malformed.raw == "not json");
    expect_event!(stream, Event::Gap { .. });
    expect_event!(stream, Event::Malformed(_));
    assert_eq!(peer.command().await["params"]["action"], "get_snapshot");
}

#[tokio::test]
async fn a_first_snapshot_that_does_not_come_is_asked_for() {
    let mut exchange = Exchange::start().await;
    let config = exchange.config().with_snapshot_timeout(Duration::from_millis(400));
    let (mut stream, mut peer) = exchange.connect(config).await;
    let mut books = stream.handle().books();
    stream.handle().subscribe(Subscription::orderbook(["A", "B"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    expect_event!(stream, Event::Subscribed { .. });
    books.apply(&next(&mut stream).await);
    for _ in 0..2 {
        // Again and again. The other book is as good as it was.
        let command = peer.command().await;
        assert_eq!(tickers(&command), ["B"]);
        let overdue = next(&mut stream).await;
        assert!(matches!(&overdue, Event::Overdue { sid: 1, items, .. } if items == &["B"]));
        books.apply(&overdue);
        assert!(books.get("A").is_some() && books.get("B").is_none());
    }
    peer.snapshot(1, 2, "B", "0.40").await;
    books.apply(&next(&mut stream).await);
    assert!(books.get("A").is_some() && books.get("B").is_some());
}

#[tokio::test]
async fn a_corrupt_book_is_asked_for_again() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let mut books = stream.handle().books();
    stream.handle().subscribe(Subscription::orderbook(["A", "B"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    peer.snapshot(1, 2, "B", "0.40").await;
    peer.delta(1, 3, "B", "-10.01").await;
    for _ in 0..3 {
        books.apply(&next(&mut stream).await);
    }
    assert!(matches!(books.apply(&next(&mut stream).await), BookChange::Corrupt(_)));
    assert!(books.get("A").is_some() && books.get("B").is_none());
    let command = peer.command().await;
    assert_eq!(
        (command["params"]["action"].as_str(), tickers(&command)),
        (Some("get_snapshot"), vec!["B"])
    );
    peer.snapshot(1, 4, "B", "0.40").await;
    books.apply(&next(&mut stream).await);
    assert!(books.get("B").is_some());
}

#[tokio::test]
async fn a_slow_consumer_sees_where_messages_were_dropped_and_gets_new_snapshots() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let mut books = stream.handle().books();
    let wish = Subscription::orderbook(["A"]).with_capacity(10);
    stream.handle().subscribe(wish).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    for seq in 2..=100 {
        peer.delta(1, seq, "A", "1.00").await;
    }
    peer.all_read().await;
    expect_event!(stream, Event::Subscribed { .. });
    let lagged = next(&mut stream).await;
    assert!(matches!(&lagged, Event::Lagged { channel: Some(BOOKS), dropped: 90 }), "{lagged:?}");
    assert_eq!(books.apply(&lagged), BookChange::Voided);
    for seq in 91..=100 {
        let event = next(&mut stream).await;
        assert_eq!(event.message().unwrap().seq, Some(seq));
        assert_eq!(books.apply(&event), BookChange::None);
    }
    assert_eq!(peer.command().await["params"]["action"], "get_snapshot");
    peer.snapshot(1, 101, "A", "0.40").await;
    books.apply(&next(&mut stream).await);
    assert!(books.get("A").is_some());
    expect_event!(stream, Event::Resynced { .. });
}

#[tokio::test]
async fn a_consumer_that_must_not_lose_anything_makes_the_connection_wait() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let wish = Subscription::orderbook(["A"]).with_capacity(3).with_overflow(Overflow::Block);
    stream.handle().subscribe(wish).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    for seq in 2..=500 {
        peer.delta(1, seq, "A", "1.00").await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    expect_event!(stream, Event::Subscribed { .. });
    for seq in 1..=500 {
        expect_event!(stream, Event::Message(message) if message.seq == Some(seq));
    }
}

#[tokio::test]
async fn a_question_of_a_consumer_that_the_connection_waits_for_ends_in_time() {
    let mut exchange = Exchange::start().await;
    let config = exchange.config().with_command_timeout(Duration::from_secs(1));
    let (mut stream, mut peer) = exchange.connect(config).await;
    let subscription = Subscription::trades(["A"]).with_capacity(1).with_overflow(Overflow::Block);
    stream.handle().subscribe(subscription).unwrap();
    peer.subscribed(1).await;
    expect_event!(stream, Event::Subscribed { .. });
    for _ in 1..=500 {
        peer.send(json!({"type": "news", "sid": 1, "msg": {}})).await;
    }
    // What is full stays so while the one that reads it waits here.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = tokio::time::timeout(PATIENCE, stream.handle().list_subscriptions()).await;
    assert_eq!(asked.expect("it waits forever").unwrap_err(), CommandError::TimedOut);
    for _ in 1..=500 {
        expect_event!(stream, Event::Unknown(_));
    }
    // It was sent once there was room, and its answer is for nothing.
    let command = peer.command().await;
    peer.send(json!({"id": command["id"], "type": "ok", "msg": []})).await;
    let handle = stream.handle().clone();
    let asked = tokio::spawn(async move { handle.list_subscriptions().await });
    let command = peer.command().await;
    peer.send(json!({"id": command["id"], "type": "ok", "msg": []})).await;
    assert!(asked.await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn a_subscription_that_would_rather_end_than_lag_ends() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let wish = Subscription::orderbook(["A"]).with_capacity(3).with_overflow(Overflow::Fail);
    stream.handle().subscribe(wish.clone()).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    for seq in 2..=50 {
        peer.delta(1, seq, "A", "1.00").await;
    }
    let command = peer.command().await;
    assert_eq!(command["cmd"], "unsubscribe");
    expect_event!(stream, Event::Subscribed { .. });
    for seq in 1..=3 {
        expect_event!(stream, Event::Message(message) if message.seq == Some(seq));
    }
    expect_event!(stream, Event::Terminated { reason: TerminationReason::Overflow, .. });
    expect_event!(stream, Event::Removed { .. });
    // What comes late is not delivered after the end.
    peer.delta(1, 51, "A", "1.00").await;
    peer.send(json!({"id": command["id"], "sid": 1, "type": "unsubscribed"})).await;
    expect_event!(stream, Event::Unsubscribed { .. });
    stream.handle().subscribe(wish).unwrap();
    peer.subscribed(2).await;
    peer.snapshot(2, 1, "A", "0.40").await;
    expect_event!(stream, Event::Subscribed { sid: 2, .. });
    expect_event!(stream, Event::Message(_));
}

#[tokio::test]
async fn the_exchange_is_asked_what_it_knows() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let commands = stream.handle().clone();
    let asked = tokio::spawn(async move { commands.list_subscriptions().await });
    let command = peer.command().await;
    assert_eq!(command["cmd"], "list_subscriptions");
    let list = json!([{"channel": "fill", "sid": 4}]);
    peer.send(json!({"id": command["id"], "type": "ok", "msg": list})).await;
    let list = asked.await.unwrap().unwrap();
    assert_eq!((list[0].channel.as_str(), list[0].sid), ("fill", 4));

    stream.handle().subscribe(Subscription::cfbenchmarks(["BRTI"])).unwrap();
    let command = peer.subscribed(1).await;
    assert_eq!(command["params"]["index_ids"], json!(["BRTI"]));
    expect_event!(stream, Event::Subscribed { .. });
    stream.handle().add_indices(Channel::CfbenchmarksValue, ["ETHUSD_RTI"]).unwrap();
    let command = peer.command().await;
    assert_eq!(command["params"]["action"], "subscribe_indices");
    peer.ok(&command, 1).await;
    expect_event!(stream, Event::Added { items, .. } if items == ["ETHUSD_RTI"]);
    stream.handle().list_indices(Channel::CfbenchmarksValue).unwrap();
    let command = peer.command().await;
    assert_eq!(command["params"]["action"], "indexlist");
    let msg = json!({"index_ids": ["BRTI"]});
    peer.send(json!({"type": "cfbenchmarks_value_indexlist", "id": command["id"], "sid": 1, "seq": 1, "msg": msg})).await;
    expect_event!(stream, Event::Message(message) if matches!(message.payload, Payload::CfbenchmarksIndexList(_)));
}

#[tokio::test]
async fn a_stream_closes_in_good_order() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let seen = tokio::spawn(async move { peer.closed().await });
    stream.close().await;
    seen.await.unwrap();
    expect_event!(stream, Event::Closed { error: None });
    assert!(stream.next().await.is_none());
    let error = stream.handle().subscribe(Subscription::fills()).unwrap_err();
    assert_eq!(error, CommandError::Closed);
}

#[tokio::test]
async fn a_stream_gives_up_after_as_many_attempts_as_it_is_told() {
    let mut exchange = Exchange::start().await;
    let config = exchange.config().with_max_attempts(2);
    let (mut stream, peer) = exchange.connect(config).await;
    exchange.refuse(2, 503);
    peer.close().await;
    expect_event!(stream, Event::Disconnected { .. });
    expect_event!(stream, Event::ReconnectFailed { attempt: 1, .. });
    expect_event!(stream, Event::ReconnectFailed { attempt: 2, .. });
    expect_event!(
        stream,
        Event::Closed { error: Some(error) } if error.kind() == ConnectErrorKind::Rejected(503)
    );
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn c1_connections_that_do_not_hold_are_attempts() {
    let mut exchange = Exchange::start().await;
    let millis = Duration::from_millis;
    // Nothing here holds for ten minutes.
    let backoff = Backoff::new(millis(1), Duration::from_secs(600)).with_random(|| u32::MAX);
    let config = exchange.config().with_backoff(backoff).with_max_attempts(5);
    let (mut stream, peer) = exchange.connect(config).await;
    peer.close().await;
    for _ in 0..5 {
        expect_event!(stream, Event::Disconnected { .. });
        expect_event!(stream, Event::Reconnected { attempts: 1 });
        exchange.peer().await.close().await;
    }
    expect_event!(stream, Event::Disconnected { .. });
    expect_event!(
        stream,
        Event::Closed { error: Some(error) } if error.kind() == ConnectErrorKind::Unstable
    );
    assert_eq!(exchange.signatures.lock().unwrap().len(), 6);
}

#[tokio::test]
async fn c1_a_connection_that_holds_is_a_new_beginning() {
    let mut exchange = Exchange::start().await;
    let config = exchange.config().with_max_attempts(2);
    let (mut stream, mut peer) = exchange.connect(config).await;
    for _ in 0..4 {
        // Longer than the longest pause, so that it counts as one that held.
        tokio::time::sleep(Duration::from_millis(400)).await;
        peer.close().await;
        expect_event!(stream, Event::Disconnected { .. });
        expect_event!(stream, Event::Reconnected { attempts: 1 });
        peer = exchange.peer().await;
    }
}

#[tokio::test]
async fn r4_a_key_that_is_refused_ends_the_connection_after_a_few_attempts() {
    for status in [401, 403] {
        let mut exchange = Exchange::start().await;
        let (mut stream, peer) = exchange.connect(exchange.config()).await;
        exchange.refuse(50, status);
        peer.close().await;
        expect_event!(stream, Event::Disconnected { .. });
        for n in 1..=3 {
            expect_event!(
                stream,
                Event::ReconnectFailed { attempt, error } if attempt == n && error.is_key_refused()
            );
        }
        expect_event!(
            stream,
            Event::Closed { error: Some(error) }
                if error.kind() == ConnectErrorKind::Rejected(status)
        );
        assert!(stream.next().await.is_none());
    }
}

/// Panics when it sees a frame.
struct Bomb;

impl Tap for Bomb {
    fn received(&mut self, _: UnixMillis, _: &str) {
        panic!("a tap panics");
    }
}

#[tokio::test]
async fn c2_a_task_that_dies_says_so() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config().with_tap(Bomb)).await;
    stream.handle().subscribe(Subscription::fills()).unwrap();
    peer.subscribed(1).await;
    expect_event!(
        stream,
        Event::Closed { error: Some(error) } if error.kind() == ConnectErrorKind::TaskEnded
    );
    assert!(stream.next().await.is_none());
    assert_eq!(stream.handle().unsubscribe("fill"), Err(CommandError::Closed));
    assert_eq!(stream.handle().list_subscriptions().await, Err(CommandError::Closed));
    stream.close().await;
}

#[test]
fn c2_a_runtime_that_is_shut_down_ends_the_connection() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let mut stream = first.block_on(async {
        let mut exchange = Exchange::start().await;
        exchange.connect(exchange.config()).await.0
    });
    drop(first);
    runtime().block_on(async {
        // The peer may have gone first.
        loop {
            if let Event::Closed { error: Some(error) } = next(&mut stream).await {
                assert_eq!(error.kind(), ConnectErrorKind::TaskEnded);
                break;
            }
        }
        assert!(stream.next().await.is_none());
    });
}

#[tokio::test]
async fn c2_limits_without_end_are_possible() {
    let mut exchange = Exchange::start().await;
    let config = exchange
        .config()
        .with_command_timeout(Duration::MAX)
        .with_snapshot_timeout(Duration::MAX)
        .with_stale_after(Duration::MAX)
        .with_connect_timeout(Duration::MAX);
    let (mut stream, mut peer) = exchange.connect(config).await;
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    expect_event!(stream, Event::Subscribed { .. });
}

/// Notes the thread of each reading.
#[derive(Debug, Default)]
struct NotingClock(Mutex<Vec<ThreadId>>);

impl Clock for NotingClock {
    fn now(&self) -> UnixMillis {
        self.0.lock().unwrap().push(thread::current().id());
        SystemClock.now()
    }
}

#[tokio::test]
async fn c6_a_handshake_is_not_signed_on_the_thread_that_reads_sockets() {
    let mut exchange = Exchange::start().await;
    let clock = Arc::new(NotingClock::default());
    let config = exchange.config().with_clock(Arc::<NotingClock>::clone(&clock));
    let (mut stream, peer) = exchange.connect(config).await;
    // A signature begins with a look at the clock; so do frames, on the thread that reads them.
    let elsewhere = || {
        let here = thread::current().id();
        clock.0.lock().unwrap().iter().filter(|thread| **thread != here).count()
    };
    assert_eq!(elsewhere(), 1);
    peer.close().await;
    expect_event!(stream, Event::Disconnected { .. });
    expect_event!(stream, Event::Reconnected { .. });
    assert_eq!(elsewhere(), 2);
    assert_eq!(exchange.signatures.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn c3_a_connection_can_be_closed_twice() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let seen = tokio::spawn(async move { peer.closed().await });
    stream.close().await;
    stream.close().await;
    seen.await.unwrap();
    expect_event!(stream, Event::Closed { error: None });
    stream.close().await;
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn b6_a_close_frame_voids_the_books_though_the_peer_keeps_the_connection() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let mut books = stream.handle().books();
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    expect_event!(stream, Event::Subscribed { .. });
    books.apply(&next(&mut stream).await);
    assert!(books.get("A").is_some());
    // It says goodbye, and keeps its end open for as long as the test lasts.
    peer.say_goodbye(1_012).await;
    let lost = next(&mut stream).await;
    assert!(matches!(
        &lost,
        Event::Disconnected { reason: DisconnectReason::Closed { code: Some(1_012), .. } }
    ));
    books.apply(&lost);
    assert!(books.get("A").is_none());
    expect_event!(stream, Event::Reconnected { .. });
    drop(peer);
}

/// The measurements of a connection.
#[derive(Clone, Default)]
struct Measured(Arc<Mutex<Measurements>>);

#[derive(Default)]
struct Measurements {
    lags: Vec<Option<i64>>,
    events: Vec<String>,
    sum: Batch,
}

impl Metrics for Measured {
    fn message(&mut self, message: &Message) {
        self.0.lock().unwrap().lags.push(message.lag_millis());
    }

    fn event(&mut self, event: &Event) {
        self.0.lock().unwrap().events.push(format!("{event:?}"));
    }

    fn batch(&mut self, batch: &Batch) {
        let sum = &mut self.0.lock().unwrap().sum;
        sum.frames += batch.frames;
        sum.bytes += batch.bytes;
        sum.dropped += batch.dropped;
        sum.waiting = sum.waiting.max(batch.waiting);
    }
}

#[tokio::test]
async fn a_connection_is_measured() {
    let mut exchange = Exchange::start().await;
    let measured = Measured::default();
    let (mut stream, mut peer) =
        exchange.connect(exchange.config().with_metrics(measured.clone())).await;
    let subscription = Subscription::orderbook(["A"]).with_capacity(10);
    stream.handle().subscribe(subscription).unwrap();
    peer.subscribed(1).await;
    peer.snapshot(1, 1, "A", "0.40").await;
    for seq in 2..=20 {
        peer.delta(1, seq, "A", "1.00").await;
    }
    let sent = delta(1, 22, "A", "1.00").replace("\"seq\":22", "\"seq\":22,\"sending_ts_ms\":5");
    peer.send(sent).await;
    // The consumer does not read until it is too late.
    while measured.0.lock().unwrap().sum.frames < 22 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    expect_event!(stream, Event::Subscribed { .. });
    let Measurements { lags, events, sum: batch } = &*measured.0.lock().unwrap();
    assert_eq!(lags.len(), 21);
    assert!(lags.iter().rev().skip(1).all(Option::is_none) && lags[20].is_some());
    assert_eq!((batch.frames, batch.dropped), (22, 11));
    assert!(batch.waiting <= 13 && batch.bytes > 22 * 50, "{batch:?}");
    assert!(events[0].starts_with("Subscribed") && events[1].starts_with("Gap"), "{events:?}");
}

/// Frames that are on the way when an idle consumer begins to read: none is dropped.
async fn burst(frames: i64) {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    stream.handle().subscribe(Subscription::orderbook(["A"])).unwrap();
    peer.subscribed(1).await;
    expect_event!(stream, Event::Subscribed { .. });
    let sender = tokio::spawn(async move {
        peer.snapshot(1, 1, "A", "0.40").await;
        for seq in 2..=frames {
            peer.feed(delta(1, seq, "A", "1.00")).await;
        }
        peer.flush().await;
        peer
    });
    let mut due = 1;
    while due <= frames {
        match stream.next().await.unwrap() {
            Event::Message(message) => {
                assert_eq!(message.seq, Some(due));
                due += 1;
            }
            other => panic!("{other:?} after {due} of {frames}"),
        }
    }
    sender.await.unwrap();
}

/// Returns the sizes of the bursts; `BURST_FRAMES` adds more.
fn bursts() -> Vec<i64> {
    let more = std::env::var("BURST_FRAMES").ok().and_then(|text| text.parse().ok());
    [20_000, 300_000].into_iter().chain(more).collect()
}

#[tokio::test]
async fn a_burst_loses_nothing_on_one_worker() {
    for frames in bursts() {
        burst(frames).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_loses_nothing_on_two_workers() {
    for frames in bursts() {
        burst(frames).await;
    }
}

#[tokio::test]
async fn invalid_subscriptions_are_refused_at_once_and_contradictions_when_seen() {
    let mut exchange = Exchange::start().await;
    let (mut stream, mut peer) = exchange.connect(exchange.config()).await;
    let commands = stream.handle().clone();
    for wish in [
        Subscription::communications().with_shard(1, 1),
        Subscription::communications().with_shard(0, 101),
        Subscription::orderbook([""]),
        // No markets are not all markets.
        Subscription::orderbook([""; 0]),
        Subscription::fills().with_capacity(0),
    ] {
        assert!(matches!(commands.subscribe(wish), Err(CommandError::Invalid(_))));
    }
    commands.subscribe(Subscription::communications().with_shard(1, 4).with_own_only()).unwrap();
    let command = peer.subscribed(1).await;
    let params = &command["params"];
    assert_eq!((&params["shard_key"], &params["shard_factor"]), (&json!(1), &json!(4)));
    assert_eq!(params["user_filter"], "self");
    expect_event!(stream, Event::Subscribed { .. });
    commands.subscribe(Subscription::communications()).unwrap();
    expect_event!(stream, Event::Refused { reason: Refusal::Conflict, .. });
    // Some markets, and then all of them.
    commands.subscribe(Subscription::ticker(["A"]).with_initial_snapshot()).unwrap();
    let command = peer.subscribed(2).await;
    assert_eq!(command["params"]["send_initial_snapshot"], true);
    expect_event!(stream, Event::Subscribed { .. });
    commands.subscribe(Subscription::ticker([""; 0]).with_initial_snapshot()).unwrap();
    expect_event!(stream, Event::Refused { channel: Channel::Ticker, .. });
}

#[tokio::test]
async fn nothing_is_written_while_it_cannot_be_read() {
    // A peer that writes before it reads, and a client with much to say. Its commands are never
    // answered, however long the machine takes for all of this.
    let mut exchange = Exchange::start().await;
    let config = exchange.config().with_command_timeout(Duration::from_secs(3_600));
    let (mut stream, mut peer) = exchange.connect(config).await;
    let many: Vec<String> = (0..50_000).map(|n| format!("KXLONGTICKER-{n:032}")).collect();
    stream.handle().subscribe(Subscription::orderbook(many)).unwrap();
    peer.subscribed(1).await;
    for seq in 1..5_000 {
        peer.send(snapshot(1, seq, "A", "0.40")).await;
    }
    let mut left = 49;
    while left > 0 {
        peer.command().await;
        left -= 1;
    }
    peer.send(delta(1, 5_000, "A", "1.00")).await;
    loop {
        if let Event::Message(message) = next(&mut stream).await
            && message.seq == Some(5_000)
        {
            return;
        }
    }
}

/// Consumers keep these behind locks, and move them between tasks.
#[test]
fn all_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Connection>();
    shared::<kalshi_ws::ConnectionHandle>();
    shared::<kalshi_ws::Books>();
    shared::<kalshi_ws::Portfolio>();
    shared::<Event>();
}
