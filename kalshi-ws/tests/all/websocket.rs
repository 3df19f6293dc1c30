//! The WebSocket from outside: a peer that writes frames byte by byte, those that RFC 6455 allows and
//! those that it forbids.
//!
//! What is allowed arrives; what is forbidden ends the connection with a reason, and another one is
//! made. Nothing panics, and nothing is delivered twice or in part.

use kalshi_ws::{Connection, DisconnectReason, Event, Subscription};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::exchange::{Exchange, PATIENCE, expect_event, next};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// The last frame of a message.
const FIN: u8 = 0x80;

/// The greatest message of the connections here.
const MAX_BYTES: usize = 100_000;

/// Returns a frame of the server: the first byte, and a payload with its length.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(u8::try_from(short).unwrap()),
        long @ 126..65_536 => {
            frame.push(126);
            frame.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
        longer => {
            frame.push(127);
            frame.extend((longer as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

fn text(payload: &str) -> Vec<u8> {
    frame(FIN | TEXT, payload.as_bytes())
}

/// Returns a frame with a mask, as only clients may send them.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(first, payload);
    let header = frame.len() - payload.len();
    frame[1] |= 0x80;
    let mask = [1_u8, 2, 3, 4];
    for (byte, mask) in frame[header..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    frame.splice(header..header, mask);
    frame
}

/// Returns a message of an unknown type with `bytes` bytes: it is delivered as it came.
fn note(number: usize, bytes: usize) -> String {
    let start = format!(r#"{{"type":"note","number":{number},"text":""#);
    let end = "\"}";
    format!("{start}{:é<1$}{end}", "", bytes.saturating_sub(start.len() + end.len()) / 2)
}

/// The server's end of a connection.
struct RawPeer(TcpStream);

impl RawPeer {
    async fn accept(listener: &TcpListener) -> Self {
        Self::accept_with(listener, b"").await
    }

    /// Answers the handshake, and sends `more` with the same write.
    async fn accept_with(listener: &TcpListener, more: &[u8]) -> Self {
        let (mut tcp, _) = timeout(PATIENCE, listener.accept()).await.expect("no client").unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(tcp.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let header = |name: &str| {
            request.lines().find_map(|line| {
                let (found, value) = line.split_once(": ")?;
                found.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        assert_eq!(header("sec-websocket-version"), Some("13"));
        // What is not offered is not sent: no compression, and every reserved bit is an error.
        assert_eq!(header("sec-websocket-extensions"), None);
        let key = derive_accept_key(header("sec-websocket-key").unwrap().as_bytes());
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {key}\r\n\r\n"
        );
        tcp.write_all(&[response.as_bytes(), more].concat()).await.unwrap();
        Self(tcp)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Returns the next frame of the client: its first byte, and its payload without the mask.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read_frame()).await.expect("no frame")
    }

    async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.0.read_u8().await.ok()?;
        let second = self.0.read_u8().await.ok()?;
        assert!(second & 0x80 != 0, "a client masks its frames");
        let length = match second & 0x7f {
            126 => usize::from(self.0.read_u16().await.ok()?),
            127 => usize::try_from(self.0.read_u64().await.ok()?).unwrap(),
            short => usize::from(short),
        };
        let mut mask = [0; 4];
        self.0.read_exact(&mut mask).await.ok()?;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Some((first, payload))
    }
}

/// A listener, and a connection whose peer is made of bytes.
struct Setup {
    listener: TcpListener,
    connection: Connection,
    peer: RawPeer,
}

async fn setup() -> Setup {
    setup_with(b"").await
}

async fn setup_with(more: &[u8]) -> Setup {
    let exchange = Exchange::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/trade-api/ws/v2", listener.local_addr().unwrap());
    let config = exchange.config_at(&url).with_max_frame_bytes(MAX_BYTES).build().unwrap();
    let (connection, peer) =
        tokio::join!(Connection::connect(config), RawPeer::accept_with(&listener, more));
    Setup { listener, connection: connection.unwrap(), peer }
}

/// Returns the next event, which is the text of a message that this version does not know.
async fn raw(connection: &mut Connection) -> String {
    expect_event!(*connection, Event::Unknown(unknown) => unknown.raw)
}

#[tokio::test]
async fn what_the_protocol_allows_arrives_whole_and_in_order() {
    let Setup { mut connection, mut peer, .. } = setup().await;
    let long = note(0, 600);
    let (first, second) = long.as_bytes().split_at(301);
    assert!(std::str::from_utf8(first).is_err(), "the cut goes through a character");
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("one frame", text(&note(1, 60)), note(1, 60)),
        ("125 bytes", text(&note(2, 125)), note(2, 125)),
        ("126 bytes", text(&note(3, 127)), note(3, 127)),
        ("65,535 bytes", text(&note(4, 65_535)), note(4, 65_535)),
        ("65,536 bytes", text(&note(5, 65_537)), note(5, 65_537)),
        (
            "two fragments, cut within a character",
            [frame(TEXT, first), frame(FIN | CONTINUATION, second)].concat(),
            long.clone(),
        ),
        (
            "empty fragments",
            [
                frame(TEXT, b""),
                frame(CONTINUATION, b""),
                frame(CONTINUATION, long.as_bytes()),
                frame(FIN | CONTINUATION, b""),
            ]
            .concat(),
            long.clone(),
        ),
        (
            "control frames between fragments",
            [
                frame(TEXT, first),
                frame(FIN | PONG, b"nobody asked"),
                frame(FIN | PONG, b""),
                frame(FIN | CONTINUATION, second),
            ]
            .concat(),
            long.clone(),
        ),
        (
            "a length in more bytes than it needs",
            {
                let payload = note(6, 60);
                let mut frame = vec![FIN | TEXT, 127];
                frame.extend((payload.len() as u64).to_be_bytes());
                frame.extend(payload.as_bytes());
                frame
            },
            note(6, 60),
        ),
        ("binary, which is read as text", frame(FIN | BINARY, note(7, 60).as_bytes()), note(7, 60)),
        (
            "binary in fragments",
            [
                frame(BINARY, &note(8, 60).as_bytes()[..30]),
                frame(FIN | CONTINUATION, &note(8, 60).as_bytes()[30..]),
            ]
            .concat(),
            note(8, 60),
        ),
        ("the greatest message", text(&note(9, MAX_BYTES)), note(9, MAX_BYTES)),
        (
            "the greatest message in fragments",
            [
                frame(TEXT, &note(9, MAX_BYTES).as_bytes()[..MAX_BYTES / 2]),
                frame(FIN | CONTINUATION, &note(9, MAX_BYTES).as_bytes()[MAX_BYTES / 2..]),
            ]
            .concat(),
            note(9, MAX_BYTES),
        ),
    ];
    for (name, bytes, expected) in &cases {
        peer.send(bytes).await;
        assert_eq!(raw(&mut connection).await, *expected, "{name}");
    }
    // The short ones once more, a byte at a time, and all at once.
    let short: Vec<_> = cases.iter().filter(|(_, bytes, _)| bytes.len() < 1_000).collect();
    for (_, bytes, _) in &short {
        for byte in bytes {
            peer.send(&[*byte]).await;
        }
    }
    let all: Vec<u8> = short.iter().flat_map(|(_, bytes, _)| bytes.clone()).collect();
    peer.send(&all).await;
    for (name, _, expected) in short.iter().chain(&short) {
        assert_eq!(raw(&mut connection).await, *expected, "{name}");
    }
}

#[tokio::test]
async fn pings_are_answered_also_between_the_fragments_of_a_message() {
    let Setup { mut connection, mut peer, .. } = setup().await;
    let long = note(0, 600);
    let (first, second) = long.as_bytes().split_at(301);
    for payload in [&b""[..], b"heartbeat", &[0xff; 125]] {
        peer.send(&frame(FIN | PING, payload)).await;
        assert_eq!(peer.frame().await, Some((FIN | PONG, payload.to_vec())));
        peer.send(&frame(TEXT, first)).await;
        peer.send(&frame(FIN | PING, payload)).await;
        assert_eq!(peer.frame().await, Some((FIN | PONG, payload.to_vec())));
        peer.send(&frame(FIN | CONTINUATION, second)).await;
        assert_eq!(raw(&mut connection).await, long);
    }
}

#[tokio::test]
async fn commands_are_written_beside_the_answers_to_pings() {
    let Setup { mut connection, mut peer, .. } = setup().await;
    connection.handle().subscribe(Subscription::fills()).unwrap();
    peer.send(&frame(FIN | PING, b"now")).await;
    let mut command = None;
    let mut pongs = 0;
    while command.is_none() || pongs == 0 {
        match peer.frame().await.unwrap() {
            (first, payload) if first == FIN | TEXT => {
                command = Some(serde_json::from_slice::<Value>(&payload).unwrap());
            }
            (first, payload) => {
                assert_eq!((first, payload), (FIN | PONG, b"now".to_vec()));
                pongs += 1;
            }
        }
    }
    let id = &command.unwrap()["id"];
    let msg = json!({"channel": "fill", "sid": 3});
    peer.send(&text(&json!({"id": id, "type": "subscribed", "msg": msg}).to_string())).await;
    expect_event!(connection, Event::Subscribed { sid: 3, .. });
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_not_lost() {
    let more = [text(&note(1, 60)), text(&note(2, 600)), frame(TEXT, b"{\"type\":")].concat();
    let Setup { mut connection, mut peer, .. } = setup_with(&more).await;
    assert_eq!(raw(&mut connection).await, note(1, 60));
    assert_eq!(raw(&mut connection).await, note(2, 600));
    peer.send(&frame(FIN | CONTINUATION, b"\"late\"}")).await;
    assert_eq!(raw(&mut connection).await, r#"{"type":"late"}"#);
}

/// Returns frames that RFC 6455 forbids a server to send, and one beyond the limit.
fn forbidden() -> Vec<(&'static str, Vec<u8>)> {
    let short = note(1, 60);
    let short = short.as_bytes();
    let mut cases = vec![
        ("a masked frame", masked(FIN | TEXT, short)),
        ("a masked ping", masked(FIN | PING, b"x")),
        ("an answer without a question", frame(FIN | CONTINUATION, short)),
        ("a message within a message", [frame(TEXT, short), frame(FIN | TEXT, short)].concat()),
        (
            "a binary message within a text",
            [frame(TEXT, short), frame(FIN | BINARY, short)].concat(),
        ),
        ("a ping in fragments", frame(PING, b"x")),
        ("a close frame in fragments", frame(CLOSE, &1_000_u16.to_be_bytes())),
        ("a ping of 126 bytes", frame(FIN | PING, &[b'x'; 126])),
        ("a pong of 126 bytes", frame(FIN | PONG, &[b'x'; 126])),
        ("a close frame of 126 bytes", frame(FIN | CLOSE, &[3, 232].repeat(63))),
        ("a close code cut in half", frame(FIN | CLOSE, &[3])),
        ("a close reason that is not UTF-8", frame(FIN | CLOSE, &[3, 232, 0xff])),
        ("a text that is not UTF-8", frame(FIN | TEXT, b"{\"type\":\"\xff\"}")),
        ("half a character at the end", frame(FIN | TEXT, &"é".as_bytes()[..1])),
        (
            "half a character at the end of the last fragment",
            [frame(TEXT, b"{"), frame(FIN | CONTINUATION, &"é".as_bytes()[..1])].concat(),
        ),
        ("a surrogate", frame(FIN | TEXT, b"\xed\xa0\x80")),
        ("a frame above the limit", frame(FIN | TEXT, &vec![b'x'; MAX_BYTES + 1])),
        (
            "fragments above the limit",
            [frame(TEXT, &vec![b'x'; MAX_BYTES]), frame(CONTINUATION, b"x")].concat(),
        ),
        ("a length that no memory holds", [&[FIN | TEXT, 127, 0x7f][..], &[0xff; 7]].concat()),
        ("a length with its highest bit set", [&[FIN | TEXT, 127][..], &[0xff; 8]].concat()),
    ];
    for bit in [0x10, 0x20, 0x40] {
        cases.push(("a reserved bit", frame(FIN | bit | TEXT, short)));
        cases.push(("a reserved bit of a ping", frame(FIN | bit | PING, b"x")));
        cases.push((
            "a reserved bit of a fragment",
            [frame(TEXT, short), frame(FIN | bit | CONTINUATION, short)].concat(),
        ));
    }
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        cases.push(("a reserved opcode", frame(FIN | opcode, b"x")));
    }
    cases
}

#[tokio::test]
async fn what_the_protocol_forbids_ends_the_connection_with_a_reason_and_the_next_one_works() {
    let Setup { listener, mut connection, mut peer } = setup().await;
    for (name, bytes) in forbidden() {
        // What came before it is delivered, and nothing of it or of what follows.
        let before = note(1, 60);
        // The client may be gone before all is written.
        let _ = peer.0.write_all(&[text(&before), bytes, text(&note(2, 60))].concat()).await;
        assert_eq!(raw(&mut connection).await, before, "{name}");
        match next(&mut connection).await {
            Event::Disconnected { reason: DisconnectReason::Failed(why) } => {
                assert!(!why.is_empty(), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        peer = RawPeer::accept(&listener).await;
        expect_event!(connection, Event::Reconnected { .. });
    }
    peer.send(&text(&note(3, 60))).await;
    assert_eq!(raw(&mut connection).await, note(3, 60));
}

#[tokio::test]
async fn a_close_frame_is_answered_and_its_code_is_the_reason() {
    let Setup { listener, mut connection, mut peer } = setup().await;
    let with_reason = |code: u16, reason: &str| {
        frame(FIN | CLOSE, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
    };
    let mut cases = vec![(frame(FIN | CLOSE, b""), None, String::new())];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4999] {
        cases.push((with_reason(code, "bye"), Some(code), "bye".to_owned()));
        cases.push((with_reason(code, ""), Some(code), String::new()));
    }
    cases.push((with_reason(1000, &"é".repeat(61)), Some(1000), "é".repeat(61)));
    for (bytes, code, reason) in cases {
        // In the middle of a message, which is never complete.
        peer.send(&[frame(TEXT, b"{"), bytes.clone()].concat()).await;
        let lost = expect_event!(connection, Event::Disconnected { reason } => reason);
        assert_eq!(lost, DisconnectReason::Closed { code, reason });
        let (first, payload) = peer.frame().await.unwrap_or_else(|| panic!("{code:?}"));
        let expected = code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default();
        assert_eq!(first, FIN | CLOSE);
        assert_eq!(payload.get(..2).unwrap_or_default(), expected);
        peer = RawPeer::accept(&listener).await;
        expect_event!(connection, Event::Reconnected { .. });
    }
}

#[tokio::test]
async fn a_close_code_that_nobody_may_send_is_a_violation() {
    let Setup { listener, mut connection, mut peer } = setup().await;
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        peer.send(&frame(FIN | CLOSE, &code.to_be_bytes())).await;
        let lost = expect_event!(connection, Event::Disconnected { reason } => reason);
        let is_told = match &lost {
            DisconnectReason::Closed { code, .. } => *code == Some(1002),
            DisconnectReason::Failed(why) => !why.is_empty(),
            _ => false,
        };
        assert!(is_told, "{code}: {lost:?}");
        peer = RawPeer::accept(&listener).await;
        expect_event!(connection, Event::Reconnected { .. });
    }
}

#[tokio::test]
async fn by_default_a_message_may_have_64_mebibytes_and_no_more() {
    let exchange = Exchange::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/trade-api/ws/v2", listener.local_addr().unwrap());
    let (connection, mut peer) = tokio::join!(
        Connection::connect(exchange.config_at(&url).build().unwrap()),
        RawPeer::accept(&listener)
    );
    let mut connection = connection.unwrap();
    let mut largest = frame(FIN | TEXT, &vec![b' '; 64 << 20]);
    let end = br#"{"type":"large"}"#;
    let at = largest.len() - end.len();
    largest[at..].copy_from_slice(end);
    peer.send(&largest).await;
    assert_eq!(raw(&mut connection).await.len(), 64 << 20);
    // Its header is enough.
    peer.send(&[&[FIN | TEXT, 127][..], &((64_u64 << 20) + 1).to_be_bytes()].concat()).await;
    expect_event!(connection, Event::Disconnected { reason: DisconnectReason::Failed(_) });
}

#[tokio::test]
async fn a_connection_that_is_closed_says_goodbye_and_reads_no_more() {
    let Setup { mut connection, mut peer, .. } = setup().await;
    let closing = tokio::spawn(async move {
        connection.close().await;
        connection
    });
    let (first, payload) = peer.frame().await.unwrap();
    assert_eq!((first, &*payload), (FIN | CLOSE, &1_000_u16.to_be_bytes()[..]));
    // What was on its way, then the answer.
    peer.send(&[text(&note(1, 60)), frame(FIN | CLOSE, &1_000_u16.to_be_bytes())].concat()).await;
    let mut connection = closing.await.unwrap();
    expect_event!(connection, Event::Closed { error: None });
    assert!(connection.next().await.is_none());
    assert_eq!(peer.frame().await, None);
}

/// Plays the connections of `tests/python/peer.py`, in their order.
#[tokio::test]
#[ignore = "needs the peer in Python: tools/python-clients.sh"]
async fn websockets_for_python_are_read_and_answered() {
    let exchange = Exchange::start().await;
    let config = exchange.config_at(&std::env::var("KALSHI_TEST_PEER").unwrap());
    let config = config.with_max_frame_bytes(1_000_000).build().unwrap();
    let mut connection = Connection::connect(config).await.unwrap();
    // A command that is longer than 65,535 bytes.
    let tickers = (0..100).map(|number| format!("KXTEST-{number:01000}"));
    connection.handle().subscribe(Subscription::trades(tickers)).unwrap();
    expect_event!(connection, Event::Subscribed { .. });
    for number in 0..300 {
        let note: Value = serde_json::from_str(&raw(&mut connection).await).unwrap();
        assert_eq!(note["number"], number);
        assert!(note["text"].as_str().unwrap().chars().all(|letter| letter == 'é'));
    }
    expect_event!(
        connection,
        Event::Disconnected { reason: DisconnectReason::Closed { code: Some(1012), .. } }
    );
    expect_event!(connection, Event::Reconnected { .. });
    expect_event!(connection, Event::Subscribed { .. });
    expect_event!(connection, Event::Disconnected { reason: DisconnectReason::Failed(_) });
    expect_event!(connection, Event::Reconnected { .. });
    expect_event!(connection, Event::Subscribed { .. });
    connection.close().await;
}
