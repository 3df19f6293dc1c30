//! Clients that ask for more than they read, send what no client may, or stop in the middle: they
//! hold nobody up, and what is kept for them is bounded.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use kalshi_sdk::types::{BookSide, CreateOrderV2Request, GetMarketsStatus};
use kalshi_sim::{Exchange, MarketPlan, Role, STREAM_PATH};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, client_async,
    tungstenite::{
        Message,
        client::IntoClientRequest as _,
        protocol::frame::{
            Frame,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

use crate::streams::{Socket, connect_as, now, send};

/// Nothing here takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The bytes that a connection queues before its commands are no longer read, and those that one
/// command adds: the snapshots of sixty small books.
const PAUSE: usize = 256 * 1024;
const ANSWER: usize = 512 * 1024;

/// Connects with small buffers of the system, so that little is on its way unread.
async fn connect_with_little_room(exchange: &Exchange) -> Socket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = MaybeTlsStream::Plain(socket.connect(exchange.address()).await.unwrap());
    let mut request = exchange.stream_url().into_client_request().unwrap();
    let credentials = exchange.credentials(Role::Trader).unwrap();
    let signed = kalshi_auth::sign(credentials, "GET", STREAM_PATH, now()).unwrap();
    signed.insert_into(request.headers_mut());
    client_async(request, stream).await.unwrap().0
}

#[tokio::test]
async fn s4_commands_of_clients_that_do_not_read_are_left_unread() {
    const CONNECTIONS: usize = 20;
    const COMMANDS: usize = 2_000;
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(60).send().await.unwrap();
    let tickers: Vec<String> = open.markets.iter().map(|market| market.ticker.clone()).collect();
    let mut floods = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut socket = connect_with_little_room(&exchange).await;
        let tickers = tickers.clone();
        floods.push(tokio::spawn(async move {
            let params = json!({"channels": ["orderbook_delta"], "market_tickers": tickers});
            send(&mut socket, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
            let params = json!({"sid": 1, "action": "get_snapshot", "market_tickers": tickers});
            let command = json!({"id": 2, "cmd": "update_subscription", "params": params});
            for _ in 0..COMMANDS {
                // Stops for ever when the system's buffers are full: nobody reads.
                if socket.send(Message::text(command.to_string())).await.is_err() {
                    break;
                }
            }
            // The connection stays open, unread.
            std::future::pending::<()>().await;
        }));
    }
    let streams = exchange.streams();
    timeout(PATIENCE, async {
        while streams.backlog().paused < CONNECTIONS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("every connection has asked for more than it reads");
    for _ in 0..100 {
        client.get_balance().send().await.unwrap();
        let backlog = streams.backlog();
        assert!(backlog.most_bytes < PAUSE + ANSWER, "{backlog:?}");
    }
    // What waits is given back with the connections.
    for flood in floods {
        flood.abort();
    }
    timeout(PATIENCE, async {
        while streams.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the connections end");
    assert_eq!(streams.backlog().bytes, 0);
}

#[tokio::test]
async fn s4_a_client_that_asks_for_much_and_reads_it_gets_all_of_it() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(60).send().await.unwrap();
    let tickers: Vec<String> = open.markets.iter().map(|market| market.ticker.clone()).collect();
    let mut socket = connect_as(&exchange, Role::Trader, now()).await.unwrap();
    let params = json!({"channels": ["orderbook_delta"], "market_tickers": tickers});
    send(&mut socket, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
    let params = json!({"sid": 1, "action": "get_snapshot", "market_tickers": tickers});
    let command = json!({"id": 2, "cmd": "update_subscription", "params": params});
    for _ in 0..50 {
        send(&mut socket, &command).await;
    }
    let mut snapshots = 0;
    while snapshots < 51 * tickers.len() {
        let frame = text(&mut socket).await;
        assert_ne!(frame["type"], "error", "{frame}");
        snapshots += usize::from(frame["type"] == "orderbook_snapshot");
    }
}

#[tokio::test]
async fn s4_a_slow_reader_is_ended_by_bytes_with_code_25() {
    let exchange = Exchange::start().await.unwrap();
    exchange.markets().list(MarketPlan::new("KXSLOW-26-A", 86_400)).unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let mut socket = connect_with_little_room(&exchange).await;
    let params = json!({"channels": ["user_orders"]});
    send(&mut socket, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
    assert_eq!(text(&mut socket).await["type"], "subscribed");
    // Each message about an order has its client order id in it, which is long.
    let mut number = 0_u32;
    let backlog = || exchange.streams().backlog().bytes;
    timeout(PATIENCE, async {
        // Until messages are refused: the queue, and the buffers of the system before it, are full.
        let mut last = 0;
        loop {
            let orders: Vec<_> = (0..100)
                .map(|_| {
                    number += 1;
                    CreateOrderV2Request::builder()
                        .ticker("KXSLOW-26-A")
                        .side(BookSide::Bid)
                        .price("0.01")
                        .count("1.00")
                        .time_in_force("good_till_canceled")
                        .self_trade_prevention_type("maker")
                        .client_order_id(format!("{number:0>250}"))
                })
                .collect();
            let batch = kalshi_sdk::types::BatchCreateOrdersV2Request::builder().orders(orders);
            client.batch_create_orders_v2().body(batch).send().await.unwrap();
            assert!(backlog() < 5 * 1024 * 1024, "{}", backlog());
            if backlog() == last && last > 4 * 1024 * 1024 - 1_024 {
                break;
            }
            last = backlog();
        }
    })
    .await
    .expect("the queue fills");
    // Whoever reads at last is told that the subscription is over.
    let told = timeout(PATIENCE, async {
        loop {
            let frame = text(&mut socket).await;
            if frame["type"] == "error" {
                return frame;
            }
            assert_eq!(frame["type"], "user_order");
        }
    });
    assert_eq!(told.await.expect("it is told")["msg"]["code"], 25);
    send(&mut socket, &json!({"id": 2, "cmd": "list_subscriptions"})).await;
    assert_eq!(text(&mut socket).await["msg"], json!([]));
}

async fn text(socket: &mut Socket) -> Value {
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("it comes");
        if let Message::Text(text) = message.expect("it is open").expect("it is sound") {
            return serde_json::from_str(&text).expect("it is JSON");
        }
    }
}

/// Sends something wrong, and returns the code of the close frame that answers it.
async fn closed_by(exchange: &Exchange, messages: Vec<Message>) -> Option<CloseCode> {
    let mut socket = connect_as(exchange, Role::Trader, now()).await.unwrap();
    for message in messages {
        // It may have been refused before its end.
        let _ = socket.send(message).await;
    }
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("it ends") {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

#[tokio::test]
async fn s14_a_connection_ends_with_the_code_of_what_was_wrong() {
    let exchange = Exchange::start().await.unwrap();
    let raw = |opcode, payload: &[u8], last| {
        Message::Frame(Frame::message(payload.to_vec(), opcode, last))
    };
    let large = "x".repeat(1024 * 1024 + 1);
    for (what, messages, code) in [
        ("more than a mebibyte", vec![Message::text(large)], CloseCode::Size),
        ("bad UTF-8", vec![raw(OpCode::Data(Data::Text), b"\xff\xfe", true)], CloseCode::Invalid),
        (
            "a reserved opcode",
            vec![raw(OpCode::Data(Data::Reserved(3)), b"{}", true)],
            CloseCode::Protocol,
        ),
        (
            "a continuation of nothing",
            vec![raw(OpCode::Data(Data::Continue), b"{}", true)],
            CloseCode::Protocol,
        ),
    ] {
        assert_eq!(closed_by(&exchange, messages).await, Some(code), "{what}");
    }
    // A client's own close is answered.
    let mut socket = connect_as(&exchange, Role::Trader, now()).await.unwrap();
    socket.close(None).await.unwrap();
    let answer = timeout(PATIENCE, socket.next()).await.unwrap();
    assert!(matches!(answer, Some(Ok(Message::Close(_)))), "{answer:?}");
    timeout(PATIENCE, async {
        while exchange.streams().connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("all have ended");
}

#[tokio::test]
async fn s14_an_unmasked_frame_is_a_breach_of_the_protocol() {
    let exchange = Exchange::start().await.unwrap();
    let socket = connect_as(&exchange, Role::Trader, now()).await.unwrap();
    let mut stream = socket.into_inner();
    stream.write_all(b"\x81\x02{}").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    // A close frame of two bytes: 1002.
    assert_eq!(answer, [0x88, 2, 0x03, 0xea]);
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn s16_half_sent_requests_time_out() {
    let limit = Duration::from_millis(200);
    let exchange = Exchange::builder().with_request_time(limit).start().await.unwrap();
    let head = "POST /trade-api/v2/portfolio/events/orders HTTP/1.1\r\nHost: x\r\n";
    let mut stopped = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(exchange.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stopped.push(stream);
    }
    for mut stream in stopped {
        answer(&mut stream).await;
    }
    let mut stream = TcpStream::connect(exchange.address()).await.unwrap();
    let body = "Content-Type: application/json\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{";
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let late = answer(&mut stream).await;
    assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
    // Nobody else is affected.
    exchange.client(Role::Trader).unwrap().get_balance().send().await.unwrap();
}

#[tokio::test]
async fn s16_a_body_that_will_be_too_large_is_refused_before_it_is_sent() {
    let exchange = Exchange::start().await.unwrap();
    for length in ["1048577", "10000000000", "99999999999999999999999"] {
        let mut stream = TcpStream::connect(exchange.address()).await.unwrap();
        let head = format!(
            "POST /trade-api/v2/portfolio/events/orders HTTP/1.1\r\nHost: x\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{{}}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let refused = answer(&mut stream).await;
        let expected = if length.len() < 20 { "HTTP/1.1 413 " } else { "HTTP/1.1 400 " };
        assert!(refused.starts_with(expected), "{refused}");
    }
}
