//! Publishers and followers over a real broker, while everything that can go wrong does.
//!
//! Two publishers with connections of their own, five followers, and a `nats-server` that is killed
//! and restarted, with and without its folder. Publishers are killed, cut off and fall silent; the
//! exchange's frames get lost; followers are cut off and fall asleep; the log is emptied; old messages
//! are sent again. The truth is the exchange's own book at each number. What a follower shows must be
//! the truth at its number, each change must follow the one before it or an event must say that some
//! are missing, and when the faults end every follower must show the exchange's book.
//!
//! `FANOUT_NATS_CHANGES` says how many changes, and `FANOUT_SEED` which.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use async_nats::{Client, Message, Subscriber, jetstream};
use futures_util::{FutureExt as _, StreamExt as _};
use kalshi_auth::{Clock as _, SystemClock};
use kalshi_fanout::{
    Epoch, Follower, FollowerConfig, Lease, Publisher, PublisherConfig,
    bus::{FollowerNode, PublisherNode},
    nats::NatsBus,
};
use kalshi_ws::{BookState, Event, Payload};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

use super::broker::{self, Broker, Proxy, Way};
use crate::truth::{Book, Change, Random, SUBSCRIBED, number, shown, ticker};

const MARKETS: usize = 30;
const PUBLISHERS: usize = 2;
const FOLLOWERS: usize = 5;
const FOLLOWED: usize = 10;

/// The changes between two looks at the bus.
const BATCH: u64 = 50;

const LEASE: Duration = Duration::from_millis(1_500);

/// Nothing takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A publisher, its way to the broker, and its connection to the exchange.
struct Source {
    node: PublisherNode<NatsBus>,
    proxy: Proxy,
    is_up: bool,
    seq: u64,
    /// A frame was lost: the exchange is to send every book again.
    needs_snapshots: bool,
}

struct Reader {
    node: FollowerNode<NatsBus>,
    proxy: Proxy,
    markets: Vec<usize>,
    /// The epoch of what was read, once all that had come was read.
    epoch: Option<Epoch>,
    /// The number of the last change that was read of each market, where that is known.
    read: HashMap<String, u64>,
    is_asleep: bool,
}

/// Epoch, market and number.
type Key = (u64, u64, usize, u64);

struct World {
    random: Random,
    began: Instant,
    broker: Broker,
    tickers: Vec<String>,
    books: Vec<Book>,
    sources: Vec<Source>,
    made: u64,
    readers: Vec<Reader>,
    spy: Client,
    spied: Subscriber,
    caught: Vec<Message>,
    truth: HashMap<Key, u64>,
    counts: BTreeMap<&'static str, u64>,
    compared: u64,
}

impl World {
    async fn new(broker: Broker, seed: u64) -> Self {
        let spy = async_nats::connect(broker.url()).await.unwrap();
        let spied = spy.subscribe("kx.v1.sim.>").await.unwrap();
        let mut world = Self {
            random: Random(seed),
            began: Instant::now(),
            broker,
            tickers: (0..MARKETS).map(ticker).collect(),
            books: (0..MARKETS).map(|_| Book::default()).collect(),
            sources: Vec::new(),
            made: 0,
            readers: Vec::new(),
            spy,
            spied,
            caught: Vec::new(),
            truth: HashMap::new(),
            counts: BTreeMap::new(),
            compared: 0,
        };
        for _ in 0..PUBLISHERS {
            let source = world.source().await;
            world.sources.push(source);
        }
        for at in 0..FOLLOWERS {
            let reader = world.reader(at).await;
            world.readers.push(reader);
        }
        world
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    async fn source(&mut self) -> Source {
        self.made += 1;
        let id = format!("p{}", self.made);
        let mut config = PublisherConfig::new("sim", &id);
        config.snapshot_deltas = 200;
        config.snapshot_interval = Duration::from_secs(2);
        config.heartbeat = Duration::from_millis(250);
        config.publish_timeout = Duration::from_secs(3);
        let proxy = Proxy::to(self.broker.port()).await;
        let publisher = Publisher::new(config).unwrap();
        let bus = broker::publisher(&proxy.url).await;
        let node = PublisherNode::new(publisher, Lease::new(id).with_duration(LEASE), bus);
        Source { node, proxy, is_up: false, seq: 0, needs_snapshots: false }
    }

    async fn reader(&mut self, at: usize) -> Reader {
        let markets: Vec<usize> = (0..FOLLOWED).map(|n| (at * 7 + n * 3) % MARKETS).collect();
        let mut config = FollowerConfig::new("sim");
        config.stale_after = 2 * LEASE;
        config.grace = Duration::from_millis(500);
        config.retry = Duration::from_millis(500);
        let mut random = Random(self.random.below(u64::MAX));
        let jitter = move || Duration::from_millis(random.below(50));
        let mut follower = Follower::new(config, jitter).unwrap();
        follower.follow(markets.iter().map(|market| ticker(*market))).unwrap();
        let proxy = Proxy::to(self.broker.port()).await;
        let bus = NatsBus::follower(broker::config(&proxy.url).with_queue(128)).await.unwrap();
        let node = FollowerNode::new(follower, bus);
        let (epoch, read) = (None, HashMap::new());
        Reader { node, proxy, markets, epoch, read, is_asleep: false }
    }

    fn feed(&mut self, at: usize, market: usize, frame: &str) {
        let now = self.began.elapsed();
        self.sources[at].node.publisher_mut().frame(frame, SystemClock.now(), now);
        self.keep(at, market);
    }

    /// Keeps the truth at the number that a publisher gave its last change.
    fn keep(&mut self, at: usize, market: usize) {
        let publisher = self.sources[at].node.publisher();
        let Some(epoch) = publisher.epoch() else { return };
        let Some(n) = publisher.last_number(&self.tickers[market]) else { return };
        let key = (epoch.term, epoch.number, market, n);
        // Before the first message of an epoch, changes go into its snapshot.
        if n == 0 || !self.truth.contains_key(&key) {
            self.truth.insert(key, self.books[market].sum);
        }
    }

    fn snapshots(&mut self, at: usize) {
        for market in 0..MARKETS {
            self.sources[at].seq += 1;
            let frame = self.books[market].snapshot(&self.tickers[market], self.sources[at].seq);
            self.feed(at, market, &frame);
        }
    }

    /// Connects publishers to the exchange.
    fn connect(&mut self) {
        for at in 0..PUBLISHERS {
            if !self.sources[at].is_up {
                self.sources[at].is_up = true;
                self.sources[at].seq = 0;
                self.sources[at].needs_snapshots = false;
                self.feed(at, 0, SUBSCRIBED);
                self.snapshots(at);
            }
        }
    }

    fn change(&mut self) {
        let market = self.random.index(MARKETS);
        let change = Change::random(&mut self.random, &mut self.books[market]);
        for at in 0..PUBLISHERS {
            let source = &mut self.sources[at];
            if source.is_up {
                source.seq += 1;
                let frame = change.frame(&self.tickers[market], source.seq);
                self.feed(at, market, &frame);
            }
        }
    }

    /// Makes changes, and lets everything go on meanwhile.
    async fn trade(&mut self, changes: u64) {
        let mut left = changes;
        while left > 0 {
            let now = BATCH.min(left);
            left -= now;
            for _ in 0..now {
                self.change();
            }
            self.step();
            yield_now().await;
            // At the pace of the broker, unless it is away.
            for _ in 0..100 {
                if !self.sources.iter().any(|source| source.node.publisher().is_full()) {
                    break;
                }
                sleep(Duration::from_millis(1)).await;
                self.step();
            }
        }
    }

    /// Lets everything go on without changes.
    async fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.step();
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn step(&mut self) {
        let (wall, now) = (SystemClock.now(), self.began.elapsed());
        for at in 0..PUBLISHERS {
            self.sources[at].node.step(wall, now);
            // Resets take numbers, too.
            for market in 0..MARKETS {
                self.keep(at, market);
            }
        }
        while let Some(Some(message)) = self.spied.next().now_or_never() {
            if self.caught.len() < 500 {
                self.caught.push(message);
            } else if self.random.one_in(50) {
                let at = self.random.index(self.caught.len());
                self.caught[at] = message;
            }
        }
        for at in 0..FOLLOWERS {
            if !self.readers[at].is_asleep {
                self.read(at);
            }
        }
    }

    /// Reads what has come to a follower.
    fn read(&mut self, at: usize) {
        let now = self.began.elapsed();
        let mut is_touched = false;
        while let Some(event) = self.readers[at].node.next(now) {
            is_touched = true;
            match &event {
                Event::Message(message) => {
                    let ticker = message.payload.market_ticker().unwrap().to_owned();
                    self.read_message(at, &ticker, &message.payload);
                }
                Event::Uncovered { items, .. } => {
                    self.count("books void");
                    for ticker in items {
                        self.readers[at].read.remove(ticker);
                    }
                }
                Event::Disconnected { .. } => {
                    self.count("epochs left");
                    let reader = &mut self.readers[at];
                    reader.read.clear();
                    reader.epoch = None;
                }
                _ => {}
            }
        }
        if !is_touched {
            return;
        }
        let reader = &mut self.readers[at];
        reader.epoch = reader.node.follower().epoch().cloned();
        for place in 0..FOLLOWED {
            let reader = &mut self.readers[at];
            let market = reader.markets[place];
            let ticker = &self.tickers[market];
            let Some(n) = reader.node.follower().number(ticker) else { continue };
            if let Some(read) = reader.read.get(ticker) {
                assert_eq!(*read, n, "follower {at} has skipped changes of {market} in silence");
            } else {
                reader.read.insert(ticker.clone(), n);
                self.compare(at, market, n);
            }
        }
    }

    /// Checks that a change follows the one before it.
    fn read_message(&mut self, at: usize, ticker: &str, payload: &Payload) {
        let reader = &mut self.readers[at];
        if reader.epoch.is_none() || reader.epoch.as_ref() != reader.node.follower().epoch() {
            return;
        }
        match payload {
            Payload::OrderbookDelta(_) => {
                if let Some(n) = reader.read.get_mut(ticker) {
                    *n += 1;
                    let n = *n;
                    let market =
                        reader.markets.iter().find(|it| crate::truth::ticker(**it) == ticker);
                    let market = *market.unwrap();
                    self.compare(at, market, n);
                }
            }
            // A snapshot among the changes has the next number, and one that repairs has any.
            _ => drop(reader.read.remove(ticker)),
        }
    }

    fn compare(&mut self, at: usize, market: usize, n: u64) {
        let reader = &self.readers[at];
        let Some(book) = reader.node.books().get(&self.tickers[market]) else { return };
        let epoch = reader.epoch.as_ref().unwrap();
        let sum = self.truth.get(&(epoch.term, epoch.number, market, n));
        assert_eq!(
            sum,
            Some(&shown(book)),
            "follower {at} shows a wrong book of {market} at {epoch}, {n}"
        );
        self.compared += 1;
    }

    fn leader(&self) -> Option<usize> {
        let now = self.began.elapsed();
        (0..PUBLISHERS).find(|at| self.sources[*at].node.publisher().leads(now))
    }

    async fn disaster(&mut self, which: u64) {
        let leader = self.leader().unwrap_or_default();
        match which {
            0 => {
                self.count("leaders killed");
                self.sources[leader] = self.source().await;
                self.connect();
            }
            1 | 2 => {
                let is_wiped = which == 2;
                self.count(if is_wiped { "brokers killed and wiped" } else { "brokers killed" });
                self.broker.kill();
                self.trade(500).await;
                self.broker.restart(is_wiped);
            }
            3 => {
                self.count("leaders cut off");
                self.sources[leader].proxy.way.send_replace(Way::Cut);
                self.trade(500).await;
                // Another one leads meanwhile.
                self.wait(2 * LEASE).await;
                self.trade(500).await;
                self.sources[leader].proxy.way.send_replace(Way::Open);
            }
            4 => {
                self.count("followers cut off");
                self.readers[0].proxy.way.send_replace(Way::Cut);
                self.readers[1].proxy.way.send_replace(Way::Silent);
                self.trade(500).await;
                for at in 0..2 {
                    self.readers[at].proxy.way.send_replace(Way::Open);
                }
            }
            5 => {
                self.count("followers asleep");
                self.readers[2].is_asleep = true;
                self.trade(5_000).await;
                self.readers[2].is_asleep = false;
            }
            6 => {
                self.count("logs emptied");
                let context = jetstream::new(self.spy.clone());
                let stream = context.get_stream("kx_v1_sim_md").await.unwrap();
                self.readers[3].proxy.way.send_replace(Way::Cut);
                self.trade(200).await;
                stream.purge().await.unwrap();
                self.readers[3].proxy.way.send_replace(Way::Open);
            }
            7 => {
                self.count("old messages sent again");
                for _ in 0..200 {
                    let message = &self.caught[self.random.index(self.caught.len())];
                    let (subject, payload) = (message.subject.clone(), message.payload.clone());
                    let headers = message.headers.clone().unwrap_or_default();
                    self.spy.publish_with_headers(subject, headers, payload).await.unwrap();
                }
            }
            8 => {
                self.count("connections to the exchange lost");
                self.sources[leader].node.publisher_mut().disconnected("a test");
                self.sources[leader].is_up = false;
                self.trade(500).await;
                self.connect();
            }
            _ => {
                self.count("frames of the exchange lost");
                for at in 0..PUBLISHERS {
                    self.sources[at].seq += 1;
                }
                self.trade(100).await;
                for at in 0..PUBLISHERS {
                    self.snapshots(at);
                }
            }
        }
    }

    /// Waits until every follower has the exchange's books.
    async fn settle(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.step();
            let wrong = self.wrong();
            let Some((at, market)) = wrong else { return };
            let reader = &self.readers[at];
            assert!(
                Instant::now() < until,
                "follower {at} has no book of {market}: {:?}, {:?}, leader {:?}, {:?}",
                reader.node,
                reader.node.follower().metrics(),
                self.leader().map(|at| &self.sources[at].node),
                self.counts,
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn wrong(&self) -> Option<(usize, usize)> {
        let leader = self.leader().map(|at| self.sources[at].node.publisher());
        for (at, reader) in self.readers.iter().enumerate() {
            for market in &reader.markets {
                let (ticker, books) = (&self.tickers[*market], reader.node.books());
                let is_right = leader.is_some_and(|leader| {
                    let follower = reader.node.follower();
                    follower.epoch() == leader.epoch()
                        && follower.number(ticker) == leader.last_number(ticker)
                        && books.state(ticker) == BookState::Valid
                        && books.get(ticker).map(shown) == Some(self.books[*market].sum)
                });
                if !is_right {
                    return Some((at, *market));
                }
            }
        }
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_follower_shows_a_wrong_book_over_a_broker_that_fails() {
    const KINDS: u64 = 10;
    let Some(broker) = Broker::start() else { return };
    let (changes, seed) = (number("FANOUT_NATS_CHANGES", 150_000), number("FANOUT_SEED", 1));
    let mut world = World::new(broker, seed).await;
    world.connect();
    let rounds = KINDS.max(changes / 15_000);
    for round in 0..rounds {
        let part = changes / rounds / 2;
        world.trade(part).await;
        world.disaster(round % KINDS).await;
        world.trade(part).await;
        world.settle().await;
    }
    let World { counts, compared, readers, sources, .. } = &world;
    println!("{changes} changes, {compared} comparisons: {counts:?}");
    for source in sources {
        println!("publisher: {:?}", source.node.publisher().metrics());
    }
    let sum = |of: fn(&kalshi_fanout::FollowerMetrics) -> u64| -> u64 {
        readers.iter().map(|reader| of(&reader.node.follower().metrics())).sum()
    };
    assert!(*compared > changes / 4, "{compared}");
    assert!(counts["books void"] > 0 && counts["epochs left"] > 0);
    assert!(sum(|metrics| metrics.checked) > 0 && sum(|metrics| metrics.fenced) > 0);
    assert_eq!(sum(|metrics| metrics.contradictions), 0);
}
