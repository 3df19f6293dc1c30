//! `kalshi replay --serve`: clients that run on a recording.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use kalshi_auth::server::KeyPair;
use kalshi_sdk::{
    Credentials, Environment, PriceLevel, UnixMillis,
    streams::{Books, Config, Connection, Event, PriceConvention, Subscription, Tap as _},
};
use kalshi_ws::{
    Backoff, Outcome,
    recording::{Player, Recorder, Recording},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    own_exchange::OwnExchange,
    support::{Folder, bare},
};

/// A recording that is served.
struct Server {
    child: Child,
    streams: String,
}

impl Server {
    fn start(home: &Folder, folder: &Path, words: &[&str]) -> Self {
        let mut command =
            bare(home, &["replay", folder.to_str().unwrap(), "--serve", "0", "-o", "json"]);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut text = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // A document of several lines, up to its end.
        while !text.trim_end().ends_with('}') {
            assert!(output.read_line(&mut text).unwrap() > 0, "{text}");
        }
        let about: Value = serde_json::from_str(&text).unwrap();
        let streams = about["streams"].as_str().unwrap().to_owned();
        assert!(streams.starts_with("ws://127.0.0.1:"), "{streams}");
        Self { child, streams }
    }

    /// Connects without a signature.
    async fn connect(&self) -> Client {
        let address = self.streams.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let socket = TcpStream::connect(address).await.unwrap();
        Client(client_async(&self.streams, socket).await.unwrap().0)
    }

    /// Waits for the end of the command.
    fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

/// A client of the raw protocol.
struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn tell(&mut self, id: u64, cmd: &str, params: Value) {
        let text = json!({"id": id, "cmd": cmd, "params": params}).to_string();
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Returns the next frame, or the code of the close frame.
    async fn next(&mut self) -> Result<Value, u16> {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
                Message::Close(Some(frame)) => return Err(frame.code.into()),
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> Value {
        self.next().await.unwrap()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

type Levels = BTreeMap<String, (Vec<PriceLevel>, Vec<PriceLevel>)>;

fn levels(books: &Books) -> Levels {
    let sides = |book: &kalshi_ws::OrderBook| {
        (book.bids(Outcome::Yes).collect(), book.asks(Outcome::Yes).collect())
    };
    books.iter().map(|(ticker, book)| (ticker.to_owned(), sides(book))).collect()
}

/// Plays a recording, and returns the books before its last loss with the number of deltas.
async fn direct(folder: &Path) -> (Levels, usize) {
    let recording = Recording::open(folder, "stream").unwrap();
    let mut player = Player::new(recording, PriceConvention::Yes);
    let (mut books, mut last, mut deltas) = (Books::new(), Levels::new(), 0);
    while let Some(event) = player.next().await {
        let event = event.unwrap();
        let before = levels(&books);
        books.apply(&event);
        // At its end the connection is lost, and with it the books.
        if !before.is_empty() {
            last = before;
        }
        deltas += usize::from(is_delta(&event));
    }
    let after = levels(&books);
    (if after.is_empty() { last } else { after }, deltas)
}

fn is_delta(event: &Event) -> bool {
    matches!(event, Event::Message(message) if message.payload.clock().is_some_and(|clock| clock > 0))
}

#[test]
fn a_client_gets_the_books_of_the_recording() {
    let desk = OwnExchange::with(|builder| builder.with_traders(300));
    let client = desk.client();
    let request = client.get_markets().status("open").limit(6);
    let page = desk.runtime.block_on(request.send()).unwrap().into_inner();
    let tickers: Vec<String> = page.markets.into_iter().map(|market| market.ticker).collect();
    let folder = desk.home.path().join("recording");
    let ran = desk.run(&format!(
        "record {} orderbook_delta {} --for 2s",
        folder.display(),
        tickers.join(" ")
    ));
    assert_eq!(ran.code, 0, "{ran:?}");
    let (expected, deltas) = runtime().block_on(direct(&folder));
    assert_eq!(expected.len(), tickers.len());
    assert!(deltas > 20, "{deltas}");

    let server = Server::start(&desk.home, &folder, &[]);
    let environment: Environment = server.streams.parse().unwrap();
    let pem = KeyPair::generate(kalshi_auth::KeyType::Ed25519).unwrap();
    let credentials = Credentials::from_pem("any", pem.private_key_pem()).unwrap();
    runtime().block_on(async {
        let config = Config::builder()
            .with_environment(environment)
            .with_credentials(credentials)
            .with_backoff(Backoff::new(Duration::from_millis(1), Duration::from_millis(1)))
            .build()
            .unwrap();
        let mut connection = Connection::connect(config).await.unwrap();
        let handle = connection.handle();
        handle.subscribe(Subscription::orderbook(tickers)).unwrap();
        let mut books = Books::new();
        loop {
            let event = connection.next().await.unwrap();
            match event {
                Event::Disconnected { .. } => break,
                Event::Gap { .. } | Event::Malformed(_) | Event::Refused { .. } => {
                    panic!("{event:?}")
                }
                _ => {}
            }
            books.apply(&event);
        }
        assert!(levels(&books) == expected);
    });
    server.end();
}

const A: &str = "KXA-1";
const B: &str = "KXB.2-1";

fn snapshot(ticker: &str, seq: u32, clock: u32) -> String {
    format!(
        r#"{{"type":"orderbook_snapshot","sid":7,"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"id of {ticker}","clock":{clock},"yes_dollars_fp":[["0.4000","10.00"]],"no_dollars_fp":[["0.7000","5.00"]]}},"sending_ts_ms":1700000000001}}"#
    )
}

fn delta(ticker: &str, seq: u32, clock: u32, side: &str, price: &str, delta: &str) -> String {
    format!(
        r#"{{"type":"orderbook_delta","sid":7,"seq":{seq},"msg":{{"market_ticker":"{ticker}","market_id":"id of {ticker}","clock":{clock},"price_dollars":"{price}","delta_fp":"{delta}","side":"{side}","ts_ms":1700000000000}},"sending_ts_ms":1700000000002}}"#
    )
}

fn trade(ticker: &str, seq: u32) -> String {
    format!(
        r#"{{"type":"trade","sid":8,"seq":{seq},"msg":{{"trade_id":"t{seq}","market_ticker":"{ticker}","yes_price_dollars":"0.4000","no_price_dollars":"0.6000","count_fp":"1.00","taker_outcome_side":"yes","taker_book_side":"bid","taker_side":"yes","is_block_trade":false,"ts":1,"ts_ms":1000}}}}"#
    )
}

fn ticker(ticker: &str, price: &str) -> String {
    format!(
        r#"{{"type":"ticker","sid":9,"msg":{{"market_ticker":"{ticker}","market_id":"id of {ticker}","price_dollars":"{price}","yes_bid_dollars":"0.4000","yes_ask_dollars":"0.7000","yes_bid_size_fp":"1.00","yes_ask_size_fp":"1.00","last_trade_size_fp":"1.00","volume_fp":"1.00","open_interest_fp":"1.00","dollar_volume":1,"dollar_open_interest":1,"ts":1,"ts_ms":1000,"time":"2026-01-01T00:00:00Z"}}}}"#
    )
}

/// Records what a connection got that lost its connection once.
fn record(folder: &Path) {
    let (mut recorder, writer) = Recorder::builder(folder, "stream").start().unwrap();
    let mut at = 1_000;
    let mut received = |recorder: &mut Recorder, text: &str| {
        at += 1;
        recorder.received(UnixMillis::from_millis(at), text);
    };
    let subscribe = |recorder: &mut Recorder, received: &mut dyn FnMut(&mut Recorder, &str)| {
        for (channel, sid) in [("orderbook_delta", 7), ("trade", 8), ("ticker", 9)] {
            let msg = json!({"channel": channel, "sid": sid});
            received(recorder, &json!({"id": sid, "type": "subscribed", "msg": msg}).to_string());
        }
    };
    recorder.connected(UnixMillis::from_millis(1_000));
    subscribe(&mut recorder, &mut received);
    for text in [
        snapshot(A, 1, 3),
        snapshot(B, 2, 0),
        ticker(A, "0.4000"),
        delta(A, 3, 4, "no", "0.7000", "-2.00"),
        trade(B, 1),
        trade(A, 2),
        delta(B, 4, 1, "yes", "0.4100", "1.00"),
        delta(A, 5, 5, "yes", "0.3900", "4.00"),
        ticker(A, "0.4100"),
        trade(A, 3),
    ] {
        received(&mut recorder, &text);
    }
    recorder.disconnected(UnixMillis::from_millis(2_000), "reset");
    recorder.connected(UnixMillis::from_millis(2_000));
    subscribe(&mut recorder, &mut received);
    for text in [snapshot(A, 1, 9), delta(A, 2, 10, "yes", "0.4000", "-10.00"), trade(A, 1)] {
        received(&mut recorder, &text);
    }
    recorder.disconnected(UnixMillis::from_millis(3_000), "closed");
    drop(recorder);
    writer.finish().unwrap();
}

#[test]
fn commands_are_answered_and_messages_numbered_as_by_the_exchange() {
    let home = Folder::new();
    let folder = home.path().join("recording");
    record(&folder);
    let server = Server::start(&home, &folder, &[]);
    runtime().block_on(async {
        let mut client = server.connect().await;
        refusals(&mut client).await;
        up_to_the_gap(&mut client).await;
        let mut client = server.connect().await;
        from_the_gap_on(&mut client).await;
    });
    server.end();
}

#[test]
fn a_market_that_was_taken_out_of_the_recording_cuts_those_that_follow_it() {
    let home = Folder::new();
    let folder = home.path().join("recording");
    let (mut recorder, writer) = Recorder::builder(&folder, "stream").start().unwrap();
    let at = UnixMillis::from_millis(1_000);
    let subscribe = json!({"channels": ["orderbook_delta"], "market_tickers": [A, B]});
    recorder.sent(at, &json!({"id": 1, "cmd": "subscribe", "params": subscribe}).to_string());
    let msg = json!({"channel": "orderbook_delta", "sid": 7});
    let confirmed = json!({"id": 1, "type": "subscribed", "msg": msg}).to_string();
    for text in [confirmed, snapshot(A, 1, 3), snapshot(B, 2, 0)] {
        recorder.received(at, &text);
    }
    let delete = json!({"sids": [7], "action": "delete_markets", "market_tickers": [A]});
    let delete = json!({"id": 2, "cmd": "update_subscription", "params": delete});
    recorder.sent(at, &delete.to_string());
    let changed = delta(B, 4, 1, "yes", "0.4100", "1.00");
    for text in [r#"{"id":2,"type":"ok","sid":7,"seq":3}"#, &changed] {
        recorder.received(at, text);
    }
    drop(recorder);
    writer.finish().unwrap();
    let server = Server::start(&home, &folder, &[]);
    runtime().block_on(async {
        let (mut of_both, mut of_one) = (server.connect().await, server.connect().await);
        for (client, tickers) in [(&mut of_both, json!([A, B])), (&mut of_one, json!([B]))] {
            let params = json!({"channels": ["orderbook_delta"], "market_tickers": tickers});
            client.tell(1, "subscribe", params).await;
            assert_eq!(client.frame().await["type"], "subscribed");
        }
        for ticker in [A, B] {
            assert_eq!(of_both.frame().await["msg"]["market_ticker"], ticker);
        }
        assert_eq!(of_both.next().await, Err(1012));
        for kind in ["orderbook_snapshot", "orderbook_delta"] {
            let frame = of_one.frame().await;
            assert_eq!((&frame["type"], &frame["msg"]["market_ticker"]), (&json!(kind), &json!(B)));
        }
        assert_eq!(of_one.next().await, Err(1000));
    });
    server.end();
}

async fn refusals(client: &mut Client) {
    for (cmd, params, code) in [
        ("orders", json!({}), 5),
        ("subscribe", Value::Null, 2),
        ("subscribe", json!({}), 3),
        ("subscribe", json!({"channels": ["orderbook_delta"]}), 14),
        ("subscribe", json!({"channels": ["trades"]}), 8),
        ("unsubscribe", json!({}), 4),
        ("unsubscribe", json!({"sids": [5]}), 7),
        ("update_subscription", json!({"action": "add_markets"}), 12),
        ("update_subscription", json!({"sids": [5], "action": "add_markets"}), 7),
    ] {
        client.tell(3, cmd, params).await;
        let refused = client.frame().await;
        assert_eq!(
            (&refused["type"], &refused["id"], &refused["msg"]["code"]),
            (&json!("error"), &json!(3), &json!(code)),
            "{cmd}: {refused}"
        );
    }
    client.0.send(Message::text("{")).await.unwrap();
    assert_eq!(client.frame().await["msg"]["code"], 1);
}

async fn up_to_the_gap(client: &mut Client) {
    // Nothing of the recording passes before all is subscribed. One channel in prices of YES, as
    // it was recorded.
    let books = json!({"channels": ["orderbook_delta"], "market_ticker": A, "use_yes_price": true});
    client.tell(4, "subscribe", books).await;
    let said = client.frame().await;
    assert_eq!(
        said,
        json!({"type": "subscribed", "id": 4, "msg": {"channel": "orderbook_delta", "sid": 1}})
    );
    client.tell(5, "subscribe", json!({"channels": ["trade", "ticker"]})).await;
    assert_eq!(client.frame().await["msg"], json!({"channel": "trade", "sid": 2}));
    assert_eq!(client.frame().await["msg"], json!({"channel": "ticker", "sid": 3}));
    client
        .tell(
            6,
            "update_subscription",
            json!({"sid": 2, "action": "get_snapshot", "market_tickers": [A]}),
        )
        .await;
    let refused = client.frame().await;
    assert_eq!(
        (&refused["sid"], &refused["seq"], &refused["msg"]["code"]),
        (&json!(2), &json!(1), &json!(13))
    );
    client.tell(7, "list_subscriptions", Value::Null).await;
    let list = client.frame().await;
    assert_eq!(list["msg"][1], json!({"channel": "trade", "sid": 2}), "{list}");

    let mut seen = Vec::new();
    let code = loop {
        match client.next().await {
            Ok(frame) => seen.push(frame),
            Err(code) => break code,
        }
    };
    let about = |frame: &Value| {
        (frame["type"].as_str().unwrap().to_owned(), frame["sid"].as_i64(), frame["seq"].as_i64())
    };
    let expected = [
        ("orderbook_snapshot", 1, Some(1)),
        ("ticker", 3, None),
        ("orderbook_delta", 1, Some(2)),
        ("trade", 2, Some(2)),
        ("trade", 2, Some(3)),
        ("orderbook_delta", 1, Some(3)),
        ("ticker", 3, None),
        ("trade", 2, Some(4)),
    ];
    let expected = expected.map(|(kind, sid, seq)| (kind.to_owned(), Some(sid), seq));
    assert_eq!(seen.iter().map(about).collect::<Vec<_>>(), expected);
    let recorded: Value = serde_json::from_str(&snapshot(A, 1, 3)).unwrap();
    assert_eq!(seen[0]["msg"], recorded["msg"]);
    let recorded: Value = serde_json::from_str(&delta(A, 3, 4, "no", "0.7000", "-2.00")).unwrap();
    assert_eq!(
        (&seen[2]["msg"], &seen[2]["sending_ts_ms"]),
        (&recorded["msg"], &recorded["sending_ts_ms"])
    );
    // The exchange would be restarted where the recording lost its connection.
    assert_eq!(code, 1012);
}

async fn from_the_gap_on(client: &mut Client) {
    // It goes on once a client is subscribed again; prices of NO unless it wants those of YES.
    let books = json!({"channels": ["orderbook_delta"], "market_tickers": [A, B]});
    client.tell(1, "subscribe", books).await;
    assert_eq!(client.frame().await["type"], "subscribed");
    let whole = client.frame().await;
    assert_eq!(whole["msg"]["no_dollars_fp"], json!([["0.3000", "5.00"]]), "{whole}");
    assert_eq!((&whole["msg"]["market_ticker"], &whole["seq"]), (&json!(A), &json!(1)));
    let change = client.frame().await;
    assert_eq!((&change["msg"]["price_dollars"], &change["seq"]), (&json!("0.4000"), &json!(2)));
    // The book of the present moment. That of B was lost, and never came again.
    let both = json!({"sid": 1, "action": "get_snapshot", "market_tickers": [B, A]});
    client.tell(9, "update_subscription", both).await;
    let whole = client.frame().await;
    assert_eq!(
        (&whole["id"], &whole["seq"], &whole["msg"]["clock"]),
        (&json!(9), &json!(3), &json!(10))
    );
    assert_eq!(
        (&whole["msg"]["yes_dollars_fp"], &whole["msg"]["market_id"]),
        (&Value::Null, &json!("id of KXA-1"))
    );
    client
        .tell(
            10,
            "update_subscription",
            json!({"sid": 1, "action": "delete_markets", "market_tickers": [A]}),
        )
        .await;
    let ok = client.frame().await;
    assert_eq!((&ok["seq"], &ok["msg"]["market_tickers"]), (&json!(4), &json!([B])));
    client
        .tell(11, "subscribe", json!({"channels": ["ticker"], "send_initial_snapshot": true}))
        .await;
    assert_eq!(client.frame().await["msg"]["sid"], 2);
    assert_eq!(client.frame().await["msg"]["price_dollars"], "0.4100", "the last one");
    client.tell(12, "unsubscribe", json!({"sids": [1]})).await;
    let gone = client.frame().await;
    assert_eq!(
        (&gone["type"], &gone["sid"], &gone["seq"]),
        (&json!("unsubscribed"), &json!(1), &json!(5))
    );
    assert_eq!(client.next().await, Err(1000), "the end of the recording");
}

#[test]
fn handshakes_of_other_paths_and_of_web_pages_are_refused() {
    let home = Folder::new();
    let folder = home.path().join("recording");
    record(&folder);
    let mut server = Server::start(&home, &folder, &[]);
    let address = server.streams.strip_prefix("ws://").unwrap().split('/').next().unwrap();
    runtime().block_on(async {
        for (path, header, value, status) in [
            ("/", "accept", "*/*", 404),
            ("/trade-api/ws/v2", "origin", "https://example.com", 403),
            ("/trade-api/ws/v2", "host", "example.com", 403),
        ] {
            let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
            request.headers_mut().insert(header, value.parse().unwrap());
            let socket = TcpStream::connect(address).await.unwrap();
            let error = client_async(request, socket).await.unwrap_err();
            let tokio_tungstenite::tungstenite::Error::Http(response) = error else {
                panic!("{error}")
            };
            assert_eq!(response.status(), status, "{header}");
        }
    });
    // It waits until a client comes.
    assert!(server.child.try_wait().unwrap().is_none());
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let none = crate::support::finish(&mut bare(&home, &["replay", "nowhere", "--serve", "0"]));
    assert_eq!(none.code, 1, "{none:?}");
}
