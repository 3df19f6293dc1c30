//! From a socket on this machine to the order books, beside what WebSocket libraries need to read the
//! same bytes.
//!
//! `cargo bench -p kalshi-ws --bench socket`. The numbers are in `README.md`. A thread writes frames
//! as the exchange would; only the processor time of the thread that reads them is counted, the
//! system's part of it included. The ways take turns within one run, because the machine is never
//! quiet: only their ratios count.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to its user")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

mod exchange;

use std::{
    env,
    fmt::Write as _,
    hint::{black_box, spin_loop},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fastwebsockets::{Role, WebSocket};
use futures_util::StreamExt as _;
use kalshi_auth::{Credentials, KeyType, server::KeyPair};
use kalshi_ws::{Config, Connection, Environment, Event, Subscription};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::exchange::{accept, append, processor_time};

const MARKETS: usize = 50;
/// The frames of one turn.
const FRAMES: usize = 100_000;
const TURNS: usize = 11;
/// The frames of one turn when they come one by one.
const PACED_FRAMES: usize = 5_000;
const PACED_TURNS: usize = 5;
const PACE: Duration = Duration::from_micros(100);

/// A way to read the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Bytes,
    ByHand,
    FastWebSockets,
    Tungstenite,
    Books,
}

const WAYS: [Way; 5] = [Way::Bytes, Way::ByHand, Way::FastWebSockets, Way::Tungstenite, Way::Books];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes only",
            Self::ByHand => "frames by hand",
            Self::FastWebSockets => "fastwebsockets",
            Self::Tungstenite => "tokio-tungstenite",
            Self::Books => "kalshi-ws, to the books",
        }
    }
}

/// The bytes that the sender writes, frame headers included.
struct Wire {
    /// The confirmation, and a snapshot of each market.
    start: Vec<u8>,
    deltas: Vec<u8>,
    /// The end of each delta.
    ends: Vec<usize>,
}

/// Generates the documented frames of October 2026, always the same. No level falls below zero.
fn wire() -> Wire {
    let ticker = |market: usize| format!("KXBTCD-25NOV2312-T{}.99", 91_000 + market * 250);
    let id = |market: usize| format!("9b0f6b43-5b68-4f9f-9f02-9a2d1b8a{market:04}");
    let mut start = Vec::new();
    append(
        &mut start,
        r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":2}}"#,
    );
    for market in 0..MARKETS {
        let side = |from: usize| {
            let mut levels = String::new();
            for tick in from..from + 40 {
                let comma = if tick == from { "" } else { "," };
                // Writing into a String cannot fail.
                let _ = write!(levels, "{comma}[\"0.{tick:02}00\",\"1000000.00\"]");
            }
            levels
        };
        let frame = format!(
            r#"{{"type":"orderbook_snapshot","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"{}","clock":1,"yes_dollars_fp":[{}],"no_dollars_fp":[{}]}}}}"#,
            market + 1,
            ticker(market),
            id(market),
            side(5),
            side(50),
        );
        append(&mut start, &frame);
    }
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut deltas = Vec::new();
    let mut ends = Vec::new();
    for number in 0..FRAMES {
        let market = usize::try_from(random(MARKETS as u64)).unwrap();
        let yes = random(2) == 0;
        let tick = if yes { 44 - random(10) } else { 50 + random(10) };
        let fine = if random(8) == 0 { 50 } else { 0 };
        let sign = if fine == 0 && random(2) == 0 { "-" } else { "" };
        let frame = format!(
            r#"{{"type":"orderbook_delta","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"{}","clock":{},"price_dollars":"0.{tick:02}{fine:02}","delta_fp":"{sign}{}.00","side":"{}","ts":"2026-10-26T12:00:00.000Z","ts_ms":{}}}}}"#,
            MARKETS + 1 + number,
            ticker(market),
            id(market),
            2 + number,
            1 + random(9),
            if yes { "yes" } else { "no" },
            1_793_016_000_000_u64 + number as u64,
        );
        append(&mut deltas, &frame);
        ends.push(deltas.len());
    }
    Wire { start, deltas, ends }
}

/// The exchange's end of one connection.
struct Sender {
    address: SocketAddr,
    go: mpsc::Sender<()>,
    /// The time at which each frame was written, if they were written one by one.
    sent: JoinHandle<Vec<Instant>>,
}

impl Sender {
    fn start(wire: &Arc<Wire>, way: Way, paced: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (go, wait) = mpsc::channel();
        let wire = Arc::clone(wire);
        let sent = thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            tcp.set_nodelay(true).unwrap();
            accept(&mut tcp);
            if way == Way::Books {
                // The first command is the subscription.
                assert!(tcp.read(&mut [0; 4_096]).unwrap() > 0);
                tcp.write_all(&wire.start).unwrap();
            }
            wait.recv().unwrap();
            if paced {
                return send_paced(&mut tcp, &wire);
            }
            tcp.write_all(&wire.deltas).unwrap();
            Vec::new()
        });
        Self { address, go, sent }
    }
}

fn send_paced(tcp: &mut TcpStream, wire: &Wire) -> Vec<Instant> {
    let mut sent = Vec::with_capacity(PACED_FRAMES);
    let (mut from, mut due) = (0, Instant::now());
    for end in wire.ends.iter().take(PACED_FRAMES) {
        due += PACE;
        while Instant::now() < due {
            spin_loop();
        }
        sent.push(Instant::now());
        tcp.write_all(&wire.deltas[from..*end]).unwrap();
        from = *end;
    }
    sent
}

/// Counts the frames of one turn.
struct Turn<'a> {
    frames: usize,
    wire: &'a Wire,
    go: mpsc::Sender<()>,
    /// The time at which each frame had been read, if measured.
    read: Option<Vec<Instant>>,
    started: (Instant, u64),
}

impl<'a> Turn<'a> {
    fn new(wire: &'a Wire, go: mpsc::Sender<()>, paced: bool) -> Self {
        let frames = if paced { PACED_FRAMES } else { FRAMES };
        let read = paced.then(|| Vec::with_capacity(PACED_FRAMES));
        Self { frames, wire, go, read, started: (Instant::now(), 0) }
    }

    /// Makes the sender begin.
    fn begin(&mut self) {
        self.started = (Instant::now(), processor_time());
        self.go.send(()).unwrap();
    }

    fn note(&mut self) {
        if let Some(read) = &mut self.read {
            read.push(Instant::now());
        }
    }

    /// Returns the bytes of all frames.
    fn bytes(&self) -> usize {
        self.wire.ends[self.frames - 1]
    }
}

/// Performs the handshake of the ways that have none of their own; returns the socket behind it.
async fn upgraded(address: SocketAddr) -> tokio::net::TcpStream {
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tcp.write_all(request).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.push(tcp.read_u8().await.unwrap());
    }
    tcp
}

async fn bytes_only(address: SocketAddr, turn: &mut Turn<'_>) {
    let mut tcp = upgraded(address).await;
    let mut buffer = vec![0; 64 << 10];
    turn.begin();
    let (mut seen, mut frame) = (0, 0);
    while seen < turn.bytes() {
        seen += tcp.read(&mut buffer).await.unwrap();
        while frame < turn.frames && turn.wire.ends[frame] <= seen {
            turn.note();
            frame += 1;
        }
    }
}

async fn by_hand(address: SocketAddr, turn: &mut Turn<'_>) {
    let mut tcp = upgraded(address).await;
    let mut buffer = vec![0; 64 << 10];
    turn.begin();
    let (mut frames, mut end) = (0, 0);
    while frames < turn.frames {
        end += tcp.read(&mut buffer[end..]).await.unwrap();
        let mut rest = &buffer[..end];
        while let [0x81, 126, high, low, after @ ..] = rest
            && let Some((text, after)) =
                after.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
        {
            black_box(std::str::from_utf8(text).unwrap());
            turn.note();
            frames += 1;
            rest = after;
        }
        let from = end - rest.len();
        buffer.copy_within(from..end, 0);
        end -= from;
    }
}

async fn fastwebsockets(address: SocketAddr, turn: &mut Turn<'_>) {
    let mut socket = WebSocket::after_handshake(upgraded(address).await, Role::Client);
    turn.begin();
    for _ in 0..turn.frames {
        let frame = socket.read_frame().await.unwrap();
        black_box(std::str::from_utf8(&frame.payload).unwrap());
        turn.note();
    }
}

async fn tungstenite(address: SocketAddr, turn: &mut Turn<'_>) {
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = client_async(format!("ws://{address}/"), tcp).await.unwrap();
    turn.begin();
    for _ in 0..turn.frames {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => black_box(text),
            other => panic!("{other:?}"),
        };
        turn.note();
    }
}

async fn books(address: SocketAddr, credentials: Credentials, turn: &mut Turn<'_>) {
    let url = format!("ws://{address}/trade-api/ws/v2");
    let config = Config::builder()
        .with_environment(Environment::Custom(url))
        .with_credentials(credentials)
        .build()
        .unwrap();
    let mut connection = Connection::connect(config).await.unwrap();
    connection.handle().subscribe(Subscription::orderbook((0..MARKETS).map(ticker))).unwrap();
    messages(&mut connection, MARKETS, |_| {}).await;
    turn.begin();
    messages(&mut connection, turn.frames, |_| turn.note()).await;
    assert_eq!(connection.books().iter().count(), MARKETS);
}

fn ticker(market: usize) -> String {
    format!("KXBTCD-25NOV2312-T{}.99", 91_000 + market * 250)
}

/// Takes this number of messages from the connection. Nothing may be lost.
async fn messages(connection: &mut Connection, number: usize, mut each: impl FnMut(&Event)) {
    let mut left = number;
    while left > 0 {
        match &connection.next().await {
            Some(event @ Event::Message(_)) => {
                each(event);
                left -= 1;
            }
            Some(Event::Subscribed { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The times of one turn.
struct Taken {
    /// Processor time for each frame, in nanoseconds.
    processor: u64,
    /// The whole, in nanoseconds.
    wall: u64,
    /// From the write to the event, in nanoseconds.
    latencies: Vec<u64>,
}

fn run(wire: &Arc<Wire>, way: Way, credentials: &Credentials, paced: bool) -> Taken {
    let sender = Sender::start(wire, way, paced);
    let mut turn = Turn::new(wire, sender.go, paced);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = sender.address;
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap();
    let (processor, wall) = runtime.block_on(async {
        match way {
            Way::Bytes => bytes_only(address, &mut turn).await,
            Way::ByHand => by_hand(address, &mut turn).await,
            Way::FastWebSockets => fastwebsockets(address, &mut turn).await,
            Way::Tungstenite => tungstenite(address, &mut turn).await,
            Way::Books => books(address, credentials.clone(), &mut turn).await,
        }
        let (wall, processor) = turn.started;
        ((processor_time() - processor) / turn.frames as u64, nanos(wall.elapsed()))
    });
    let sent = sender.sent.join().unwrap();
    let read = turn.read.unwrap_or_default();
    let latencies = sent.iter().zip(&read).map(|(sent, read)| nanos(*read - *sent)).collect();
    Taken { processor, wall, latencies }
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn main() {
    // The names of ways, or parts of them; by default all.
    let chosen: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_chosen = |way: &Way| chosen.is_empty() || chosen.iter().any(|c| way.name().contains(c));
    let ways: Vec<Way> = WAYS.into_iter().filter(is_chosen).collect();
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let credentials = Credentials::from_pem("key-id", pair.private_key_pem()).unwrap();
    let wire = Arc::new(wire());
    println!("{FRAMES} frames of {} bytes on average, as fast as they can be read", {
        wire.deltas.len() / FRAMES
    });
    let mut taken: Vec<Vec<Taken>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..TURNS {
        for (way, taken) in ways.iter().copied().zip(&mut taken) {
            taken.push(run(&wire, way, &credentials, false));
        }
    }
    for (way, taken) in ways.iter().zip(&taken) {
        let processor = median(taken.iter().map(|taken| taken.processor).collect());
        let least = taken.iter().map(|taken| taken.processor).min().unwrap();
        let wall = median(taken.iter().map(|taken| taken.wall).collect());
        let rate = FRAMES as u64 * 1_000_000_000 / wall;
        println!(
            "{:24} {processor:5} ns of processor time a frame (least {least}), {rate} frames a second",
            way.name()
        );
    }
    println!("{PACED_FRAMES} frames, one every {PACE:?}");
    let mut latencies: Vec<Vec<u64>> = ways.iter().map(|_| Vec::new()).collect();
    let mut processor: Vec<Vec<u64>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..PACED_TURNS {
        for (at, way) in ways.iter().copied().enumerate() {
            let taken = run(&wire, way, &credentials, true);
            latencies[at].extend(taken.latencies);
            processor[at].push(taken.processor);
        }
    }
    for ((way, mut latencies), processor) in ways.iter().zip(latencies).zip(processor) {
        latencies.sort_unstable();
        let at = |percent: usize| latencies[latencies.len() * percent / 100] / 1_000;
        println!(
            "{:24} p50 {} µs, p99 {} µs from the write to the event, {} ns of processor time a frame",
            way.name(),
            at(50),
            at(99),
            median(processor)
        );
    }
}
