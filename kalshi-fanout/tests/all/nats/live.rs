//! From a whole exchange to followers, over sockets all the way: publishers from a connection and
//! from redundant feeds take over from each other, and followers end with the exchange's books.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use kalshi_fanout::{
    Flags, Follower, FollowerConfig, Lease, Publisher, PublisherConfig,
    bus::PublisherNode,
    live::{LiveFollower, LivePublisher},
    nats::NatsBus,
    subject::Kind,
};
use kalshi_sim::{Exchange, Role};
use kalshi_types::PriceLevel;
use kalshi_ws::{
    Backoff, Config, ConfigBuilder, Connection, Environment, Event, OrderBook, Outcome,
    Subscription,
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use super::broker::{self, Broker};

const MARKETS: usize = 20;
const FOLLOWERS: usize = 3;
const LEASE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// A book by side and price of YES in micros, with hundredths of contracts.
type Levels = BTreeMap<(bool, i64), i64>;

fn levels_of(book: &OrderBook) -> Levels {
    let row = |is_bid: bool| {
        move |level: PriceLevel| ((is_bid, level.price.as_micros()), level.count.as_hundredths())
    };
    book.bids(Outcome::Yes).map(row(true)).chain(book.asks(Outcome::Yes).map(row(false))).collect()
}

struct World {
    broker: Broker,
    exchange: Arc<Exchange>,
    tickers: Vec<String>,
    followers: Vec<LiveFollower<NatsBus>>,
    /// The events of the followers, by name.
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    async fn start(broker: Broker) -> Self {
        let exchange = Exchange::builder().with_seed(3).with_markets(40).with_traders(20).start();
        let exchange = Arc::new(exchange.await.unwrap());
        let client = exchange.client(Role::Trader).unwrap();
        let page = client.get_markets().status("open").limit(100_u64).send().await.unwrap();
        let tickers = page.into_inner().markets.into_iter().map(|market| market.ticker);
        let tickers: Vec<String> = tickers.take(MARKETS).collect();
        assert_eq!(tickers.len(), MARKETS);
        let mut world =
            Self { broker, exchange, tickers, followers: Vec::new(), counts: BTreeMap::new() };
        for _ in 0..FOLLOWERS {
            let mut config = FollowerConfig::new("sim");
            config.stale_after = 2 * LEASE;
            let mut follower = Follower::new(config, || Duration::ZERO).unwrap();
            follower.follow(world.tickers.iter().cloned()).unwrap();
            let bus = broker::follower(&world.broker.url()).await;
            let mut follower = LiveFollower::new(follower, bus);
            for ticker in &world.tickers {
                follower.follow_kind(Kind::Trade, ticker).unwrap();
            }
            world.followers.push(follower);
        }
        world
    }

    async fn node(&self, id: &str) -> PublisherNode<NatsBus> {
        let mut config = PublisherConfig::new("sim", id);
        config.heartbeat = Duration::from_millis(300);
        // A machine that is busy is no slow bus.
        config.behind_after = PATIENCE;
        let publisher = Publisher::new(config).unwrap();
        let bus = broker::publisher(&self.broker.url()).await;
        PublisherNode::new(publisher, Lease::new(id).with_duration(LEASE), bus)
    }

    fn config(&self, role: Role) -> ConfigBuilder {
        Config::builder()
            .with_environment(Environment::Custom(self.exchange.stream_url()))
            .with_credentials(self.exchange.credentials(role).unwrap().clone())
            .with_backoff(Backoff::new(Duration::from_millis(10), Duration::from_millis(50)))
    }

    fn subscribe(&self, publisher: &LivePublisher<NatsBus>) {
        publisher.subscribe(Subscription::orderbook(self.tickers.clone())).unwrap();
        publisher.subscribe(Subscription::trades(self.tickers.clone())).unwrap();
    }

    /// Publishes one connection, frame by frame.
    async fn publish(&self, id: &str, role: Role) -> Running {
        let node = self.node(id).await;
        let publisher = LivePublisher::connect(node, self.config(role)).await.unwrap();
        self.subscribe(&publisher);
        Running::start(publisher)
    }

    /// Publishes two connections as one.
    async fn publish_merged(&self, id: &str, roles: [Role; 2]) -> Running {
        let mut connections = Vec::new();
        for role in roles {
            connections
                .push(Connection::connect(self.config(role).build().unwrap()).await.unwrap());
        }
        let feed = Connection::merge(connections).unwrap();
        let publisher = LivePublisher::merged(self.node(id).await, feed);
        self.subscribe(&publisher);
        Running::start(publisher)
    }

    fn halt(&self, halt: bool) {
        for shard in 0..4 {
            self.exchange.markets().set_shard(shard, !halt, !halt).unwrap();
        }
    }

    async fn trade(&mut self) {
        self.halt(false);
        for _ in 0..4 {
            let exchange = Arc::clone(&self.exchange);
            spawn_blocking(move || exchange.markets().run_traders(300)).await.unwrap();
            self.read();
        }
    }

    /// Reads what has come to the followers.
    fn read(&mut self) {
        for follower in &mut self.followers {
            while let Some(Some(event)) = follower.next().now_or_never() {
                let name = match event {
                    Event::Message(message) => message.payload.kind(),
                    Event::Disconnected { .. } => "disconnected",
                    Event::Uncovered { .. } => "uncovered",
                    Event::Reconnected { .. } => "reconnected",
                    Event::Stale { .. } => "stale",
                    Event::Gap { .. } => "gap",
                    other => panic!("{other:?}"),
                };
                *self.counts.entry(name).or_default() += 1;
            }
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// Stops the exchange, and waits until every follower has its books.
    async fn settle(&mut self) {
        self.halt(true);
        let truth = self.engine_books().await;
        let until = Instant::now() + PATIENCE;
        loop {
            self.read();
            let wrong = self.followers.iter().enumerate().find_map(|(at, follower)| {
                let is_wrong = |ticker: &&String| {
                    follower.books().get(ticker).map(levels_of).as_ref() != truth.get(*ticker)
                };
                Some((at, self.tickers.iter().find(is_wrong)?))
            });
            let Some((at, ticker)) = wrong else { return };
            let follower = self.followers[at].follower();
            assert!(
                Instant::now() < until,
                "follower {at} has no book of {ticker}: {follower:?}, {:?}, {:?}",
                follower.metrics(),
                self.counts
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns the books that the exchange has, over REST.
    async fn engine_books(&self) -> BTreeMap<String, Levels> {
        let client = self.exchange.client(Role::Maker).unwrap();
        let answer = client.get_market_orderbooks().tickers(self.tickers.clone()).send().await;
        let books = answer.unwrap().into_inner().orderbooks.into_iter().map(|market| {
            let rows = |is_bid: bool, levels: Vec<PriceLevel>| {
                levels.into_iter().map(move |row| {
                    let price = row.price.as_micros();
                    let price = if is_bid { price } else { 1_000_000 - price };
                    ((is_bid, price), row.count.as_hundredths())
                })
            };
            let mut book: Levels = rows(true, market.orderbook_fp.yes_dollars).collect();
            book.extend(rows(false, market.orderbook_fp.no_dollars));
            (market.ticker, book)
        });
        books.collect()
    }
}

/// A publisher in a task.
struct Running(JoinHandle<()>, tokio::sync::oneshot::Sender<()>);

impl Running {
    fn start(mut publisher: LivePublisher<NatsBus>) -> Self {
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = publisher.next() => match event {
                        Some(Event::Refused { reason, .. }) => panic!("{reason:?}"),
                        Some(_) => {}
                        None => return,
                    },
                    _ = &mut ended => return publisher.close().await,
                }
            }
        });
        Self(task, end)
    }

    /// Ends it as a loss of power would.
    async fn kill(self) {
        self.0.abort();
        assert!(self.0.await.unwrap_err().is_cancelled());
    }

    async fn close(self) {
        self.1.send(()).unwrap();
        timeout(PATIENCE, self.0).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_of_a_live_exchange_take_over_from_each_other() {
    let _alone = super::MACHINE.lock().await;
    let Some(broker) = Broker::start() else { return };
    let mut world = World::start(broker).await;
    let spy = async_nats::connect(world.broker.url()).await.unwrap();
    let mut frames = spy.subscribe("kx.v1.sim.md.>").await.unwrap();

    let first = world.publish("first", Role::Trader).await;
    world.settle().await;
    let second = world.publish_merged("second", [Role::Maker, Role::Reader]).await;
    world.trade().await;
    world.settle().await;
    assert_eq!((world.count("disconnected"), world.count("gap")), (0, 0), "{:?}", world.counts);
    assert!(world.count("trade") > 0 && world.count("orderbook_delta") > 0, "{:?}", world.counts);
    // The frames of one connection are as they were received.
    let frame = frames.next().now_or_never().unwrap().unwrap();
    let flags = frame.headers.as_ref().and_then(|headers| headers.get("Kx-Flags")).unwrap();
    let flags = Flags(flags.as_str().parse().unwrap());
    assert!(!flags.contains(Flags::REDACTED) && frame.payload.starts_with(b"{\"type\""));

    // Killed: the redundant feeds take over.
    first.kill().await;
    world.trade().await;
    world.settle().await;
    let left = FOLLOWERS as u64;
    assert!(world.count("disconnected") >= left, "{:?}", world.counts);

    // One of two sockets lost is no loss to followers.
    let before = (world.count("disconnected"), world.count("uncovered"));
    world.exchange.streams().cut(Role::Maker).unwrap();
    world.trade().await;
    world.settle().await;
    assert_eq!((world.count("disconnected"), world.count("uncovered")), before);

    // A publisher that ends gracefully gives up the lease.
    let third = world.publish("third", Role::Trader).await;
    second.close().await;
    world.trade().await;
    world.settle().await;
    let before = world.count("disconnected");
    // Cut, it comes back by itself, or as the only one takes the lease again.
    world.exchange.streams().cut(Role::Trader).unwrap();
    world.trade().await;
    world.settle().await;
    assert!(world.count("disconnected") >= before + left, "{:?}", world.counts);

    // The broker dies, and loses everything.
    world.broker.kill();
    world.trade().await;
    world.broker.restart(true);
    world.settle().await;
    third.close().await;
}
