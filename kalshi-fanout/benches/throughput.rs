//! From a socket of the exchange over a publisher and `nats-server` to followers, beside a bare
//! connection that reads the same frames.
//!
//! `cargo bench -p kalshi-fanout --bench throughput`. It starts the `nats-server` of this machine. A
//! thread writes frames as the exchange would, at a pace; publisher and followers have a thread each,
//! whose processor time is counted, and so is that of the broker. Latencies are from the write of a
//! frame to its event.
//!
//! The rates to try may be given: `-- 1000 5000`. `FANOUT_FOLLOWERS` says how many followers there
//! are besides the one that is measured; none by default.
#![expect(clippy::print_stdout, reason = "a benchmark speaks to its user")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

#[path = "../../kalshi-ws/benches/exchange/mod.rs"]
mod exchange;

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use kalshi_auth::{Credentials, KeyType, server::KeyPair};
use kalshi_fanout::{
    Follower, FollowerConfig, Lease, Publisher, PublisherConfig, PublisherMetrics,
    bus::PublisherNode,
    live::{LiveFollower, LivePublisher},
    nats::{NatsBus, NatsConfig, StreamSettings},
};
use kalshi_ws::{Config, ConfigBuilder, Connection, Environment, Event, Payload, Subscription};

use crate::exchange::{accept, append, processor_time};

const MARKETS: usize = 50;
/// The time of one turn.
const TURN: Duration = Duration::from_secs(5);
/// The rates that are tried, in frames a second.
const RATES: [usize; 5] = [1_000, 5_000, 10_000, 20_000, 40_000];
/// The markets of each further follower.
const FOLLOWED: usize = 10;

fn ticker(market: usize) -> String {
    format!("KXBTCD-25NOV2312-T{}.99", 91_000 + market * 250)
}

fn subscription() -> Subscription {
    Subscription::orderbook((0..MARKETS).map(ticker))
}

fn snapshot(market: usize) -> String {
    let side = |from: usize| {
        let levels = (from..from + 40).map(|tick| format!("[\"0.{tick:02}00\",\"1000000.00\"]"));
        levels.collect::<Vec<_>>().join(",")
    };
    format!(
        r#"{{"type":"orderbook_snapshot","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"9b0f6b43-5b68-4f9f-9f02-9a2d1b8a{market:04}","clock":1,"yes_dollars_fp":[{}],"no_dollars_fp":[{}]}}}}"#,
        market + 1,
        ticker(market),
        side(5),
        side(50),
    )
}

/// A change by its number, which is its clock less two. It takes a contract of a large level.
fn delta(number: usize) -> String {
    let (market, tick) = (number * 7 % MARKETS, 5 + number % 40);
    format!(
        r#"{{"type":"orderbook_delta","sid":2,"seq":{},"msg":{{"market_ticker":"{}","market_id":"9b0f6b43-5b68-4f9f-9f02-9a2d1b8a{market:04}","clock":{},"price_dollars":"0.{tick:02}00","delta_fp":"-1.00","side":"yes","ts":"2026-10-26T12:00:00.000Z","ts_ms":1793016000000}}}}"#,
        MARKETS + 1 + number,
        ticker(market),
        2 + number,
    )
}

/// The exchange's end of one connection, which begins to write when told.
struct Sender {
    address: SocketAddr,
    go: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Sender {
    /// `sent` gets the time of each write, in nanoseconds from `zero`.
    fn start(rate: usize, sent: &Arc<Vec<AtomicU64>>, zero: Instant) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (go, wait) = mpsc::channel();
        let sent = Arc::clone(sent);
        let thread = thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            tcp.set_nodelay(true).unwrap();
            accept(&mut tcp);
            // The first command is the subscription.
            assert!(tcp.read(&mut [0; 16_384]).unwrap() > 0);
            let mut start = Vec::new();
            append(
                &mut start,
                r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":2}}"#,
            );
            (0..MARKETS).for_each(|market| append(&mut start, &snapshot(market)));
            tcp.write_all(&start).unwrap();
            wait.recv().unwrap();
            let began = Instant::now();
            let mut frame = Vec::new();
            for (number, sent) in sent.iter().enumerate() {
                let due = Duration::from_nanos(number as u64 * 1_000_000_000 / rate as u64);
                // In steps of a millisecond: a spinning thread would take a processor.
                if let Some(left) = due.checked_sub(began.elapsed()) {
                    thread::sleep(left);
                }
                frame.clear();
                append(&mut frame, &delta(number));
                sent.store(nanos(zero.elapsed()), Ordering::Relaxed);
                tcp.write_all(&frame).unwrap();
            }
        });
        Self { address, go, thread }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

struct Broker {
    folder: PathBuf,
    url: String,
    child: Child,
}

impl Broker {
    fn start() -> Self {
        let folder = env::temp_dir().join(format!("kalshi-fanout-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        Self { folder, url: format!("nats://127.0.0.1:{port}"), child }
    }

    fn config(&self) -> NatsConfig {
        let mut streams = StreamSettings::default();
        streams.max_bytes = 1 << 30;
        NatsConfig::new(&self.url, "bench").with_streams(streams)
    }

    /// Returns the processor time of the server, in nanoseconds.
    fn processor_time(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let times = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        times.sum()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn config(address: SocketAddr, credentials: &Credentials) -> ConfigBuilder {
    Config::builder()
        .with_environment(Environment::Custom(format!("ws://{address}/trade-api/ws/v2")))
        .with_credentials(credentials.clone())
}

/// The number of a change, if the event is one.
fn number_of(event: &Event) -> Option<usize> {
    let Event::Message(message) = event else { return None };
    let Payload::OrderbookDelta(delta) = &message.payload else { return None };
    usize::try_from(delta.clock? - 2).ok()
}

/// The processor time and the latencies of one turn.
#[derive(Default)]
struct Taken {
    /// Processor time of the thread, in nanoseconds.
    processor: u64,
    /// From the write to the event, in nanoseconds.
    latencies: Vec<u64>,
}

impl Taken {
    fn show(&mut self) -> String {
        self.latencies.sort_unstable();
        let at = |percent: usize| match self.latencies.len() {
            0 => 0,
            length => self.latencies[length * percent / 100] / 1_000,
        };
        format!("p50 {} µs, p99 {} µs", at(50), at(99))
    }
}

/// Reads the frames by a bare connection.
fn bare(rate: usize, frames: usize, credentials: &Credentials) -> Taken {
    let (sent, zero) = (times(frames), Instant::now());
    let sender = Sender::start(rate, &sent, zero);
    runtime().block_on(async {
        let config = config(sender.address, credentials).build().unwrap();
        let mut connection = Connection::connect(config).await.unwrap();
        connection.handle().subscribe(subscription()).unwrap();
        while connection.books().iter().count() < MARKETS {
            connection.next().await.unwrap();
        }
        let mut taken = Taken::default();
        let before = processor_time();
        sender.go.send(()).unwrap();
        while taken.latencies.len() < frames {
            if let Some(number) = number_of(&connection.next().await.unwrap()) {
                let at = sent[number].load(Ordering::Relaxed);
                taken.latencies.push(nanos(zero.elapsed()) - at);
            }
        }
        taken.processor = processor_time() - before;
        sender.thread.join().unwrap();
        taken
    })
}

fn times(frames: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..frames).map(|_| AtomicU64::new(0)).collect())
}

/// Follows `markets` in a thread until the end is told. Returns what it took, and its events.
fn follow(
    broker: &Broker,
    followers: usize,
    markets: usize,
    sent: &Arc<Vec<AtomicU64>>,
    zero: Instant,
    end: &Arc<AtomicBool>,
    ready: &Arc<AtomicU64>,
) -> JoinHandle<(Taken, u64)> {
    let (config, sent) = (broker.config(), Arc::clone(sent));
    let (end, ready) = (Arc::clone(end), Arc::clone(ready));
    thread::spawn(move || {
        let taken = Arc::new(Mutex::new((Taken::default(), 0_u64)));
        let runtime = runtime();
        let tasks: Vec<_> = (0..followers)
            .map(|at| {
                let (config, sent, taken) = (config.clone(), Arc::clone(&sent), Arc::clone(&taken));
                let ready = Arc::clone(&ready);
                runtime.spawn(async move {
                    let bus = NatsBus::follower(config).await.unwrap();
                    let jitter = move || Duration::from_millis(at as u64 * 5 % 500);
                    let mut follower = Follower::new(FollowerConfig::new("bench"), jitter).unwrap();
                    let first = at * 3;
                    follower
                        .follow((0..markets).map(|market| ticker((first + market) % MARKETS)))
                        .unwrap();
                    let mut follower = LiveFollower::new(follower, bus);
                    let mut is_ready = false;
                    loop {
                        let event = follower.next().await.unwrap();
                        if !is_ready && follower.books().iter().count() == markets {
                            is_ready = true;
                            ready.fetch_add(1, Ordering::Relaxed);
                        }
                        let Some(number) = number_of(&event) else { continue };
                        let late = nanos(zero.elapsed()) - sent[number].load(Ordering::Relaxed);
                        let mut taken = taken.lock().unwrap();
                        taken.0.latencies.push(late);
                        taken.1 += 1;
                    }
                })
            })
            .collect();
        runtime.block_on(async {
            while !end.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let (mut taken, events) = std::mem::take(&mut *taken.lock().unwrap());
        taken.processor = processor_time();
        (taken, events)
    })
}

struct FannedOut {
    publisher: u64,
    metrics: PublisherMetrics,
    broker: u64,
    measured: (Taken, u64),
    others: Option<(Taken, u64)>,
}

fn fanned_out(
    rate: usize,
    frames: usize,
    followers: usize,
    credentials: &Credentials,
) -> FannedOut {
    let broker = Broker::start();
    let (sent, zero) = (times(frames), Instant::now());
    let sender = Sender::start(rate, &sent, zero);
    let (end, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let measured = follow(&broker, 1, MARKETS, &sent, zero, &end, &ready);
    let others =
        (followers > 0).then(|| follow(&broker, followers, FOLLOWED, &sent, zero, &end, &ready));
    let (publisher, metrics, broker_time) = runtime().block_on(async {
        let bus = NatsBus::publisher(broker.config()).await.unwrap();
        let publisher = Publisher::new(PublisherConfig::new("bench", "p")).unwrap();
        let node = PublisherNode::new(publisher, Lease::new("p"), bus);
        let config = config(sender.address, credentials);
        let mut publisher = LivePublisher::connect(node, config).await.unwrap();
        publisher.subscribe(subscription()).unwrap();
        while ready.load(Ordering::Relaxed) < 1 + followers as u64 {
            let _ = tokio::time::timeout(Duration::from_millis(10), publisher.next()).await;
        }
        let (before, broker_before) = (processor_time(), broker.processor_time());
        let metrics_before = publisher.metrics();
        sender.go.send(()).unwrap();
        let mut left = frames;
        while left > 0 {
            left -= usize::from(number_of(&publisher.next().await.unwrap()).is_some());
        }
        let mut metrics = publisher.metrics();
        metrics.published -= metrics_before.published;
        let taken = processor_time() - before;
        // What is under way arrives.
        let _ = tokio::time::timeout(Duration::from_millis(500), async {
            while publisher.next().await.is_some() {}
        })
        .await;
        (taken, metrics, broker.processor_time() - broker_before)
    });
    end.store(true, Ordering::Relaxed);
    sender.thread.join().unwrap();
    let measured = measured.join().unwrap();
    let others = others.map(|others| others.join().unwrap());
    FannedOut { publisher, metrics, broker: broker_time, measured, others }
}

fn main() {
    let given: Vec<usize> = env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let rates = if given.is_empty() { RATES.to_vec() } else { given };
    let followers = env::var("FANOUT_FOLLOWERS").ok().and_then(|text| text.parse().ok());
    let followers: usize = followers.unwrap_or(0);
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let credentials = Credentials::from_pem("key-id", pair.private_key_pem()).unwrap();
    println!("frames of {} bytes, of {MARKETS} markets, for {TURN:?} at each rate", delta(0).len());
    for rate in rates {
        let frames = rate * usize::try_from(TURN.as_secs()).unwrap();
        let mut bare = bare(rate, frames, &credentials);
        let FannedOut { publisher, metrics, broker, measured, others } =
            fanned_out(rate, frames, followers, &credentials);
        let (mut taken, events) = measured;
        let each = |time: u64, of: u64| time / of.max(1) / 1_000;
        let frames = frames as u64;
        println!("{rate} frames a second");
        println!(
            "  bare connection: {} µs of processor time a frame, {}",
            each(bare.processor, frames),
            bare.show()
        );
        println!(
            "  publisher: {} µs a frame, {} messages, {} changes conflated, {} messages failed",
            each(publisher, frames),
            metrics.published,
            metrics.conflated,
            metrics.failed
        );
        println!("  broker: {} µs a message", each(broker, metrics.published));
        println!(
            "  follower of {MARKETS} markets: {events} changes, {} µs a change, {}",
            each(taken.processor, events),
            taken.show()
        );
        if let Some((mut taken, events)) = others {
            println!(
                "  {followers} followers of {FOLLOWED} markets: {events} changes, {} µs a change, {}",
                each(taken.processor, events),
                taken.show()
            );
        }
    }
}
