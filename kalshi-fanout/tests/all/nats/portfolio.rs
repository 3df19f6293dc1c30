//! The account of a whole exchange in three processes: a connection and a reading for all of them.

use std::time::Duration;

use futures_util::{FutureExt as _, future::join_all};
use kalshi_fanout::{
    Follower, FollowerConfig, Lease, Publisher, PublisherConfig,
    bus::PublisherNode,
    live::{LiveFollower, LivePublisher},
    nats::{AccountServer, NatsAccount, NatsBus, NatsConfig, StreamSettings},
    subject::Kind,
};
use kalshi_sdk::{Client, types::CreateOrderV2Request};
use kalshi_sim::{Exchange, MarketPlan, Role};
use kalshi_types::Count;
use kalshi_ws::{AccountSource as _, Config, Environment, Event, Portfolio, Subscription};
use tokio::time::{Instant, sleep};

use super::broker::Broker;

const PROCESSES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Resting orders with what rests of them, and positions, by their names.
type State = (Vec<(String, Count)>, Vec<(String, Count)>);

/// A process: it has no key.
struct Process {
    follower: LiveFollower<NatsBus>,
    source: NatsAccount,
    portfolio: Portfolio,
    gaps: usize,
}

impl Process {
    async fn start(broker: &Broker) -> Self {
        let follower = Follower::new(FollowerConfig::new("sim"), || Duration::ZERO).unwrap();
        let bus = NatsBus::follower(config(broker)).await.unwrap();
        let mut follower = LiveFollower::new(follower, bus);
        for kind in [Kind::Fill, Kind::Order, Kind::Position] {
            follower.follow_kind(kind, "main").unwrap();
        }
        let source = NatsAccount::connect(config(broker), "main").await.unwrap();
        Self { follower, source, portfolio: Portfolio::new(), gaps: 0 }
    }

    /// Reads what has come.
    fn read(&mut self) {
        while let Some(Some(event)) = self.follower.next().now_or_never() {
            self.gaps += usize::from(matches!(event, Event::Gap { .. }));
            let _ = self.portfolio.apply(&event);
        }
    }

    fn state(&self) -> State {
        let mut orders: Vec<_> = self
            .portfolio
            .orders()
            .map(|order| (order.order_id.clone(), order.remaining))
            .collect();
        orders.sort();
        let positions = self.portfolio.positions().filter(|position| !position.count.is_zero());
        let positions = positions.map(|position| (position.market_ticker.clone(), position.count));
        (orders, positions.collect())
    }
}

fn config(broker: &Broker) -> NatsConfig {
    let mut streams = StreamSettings::default();
    (streams.max_bytes, streams.account_max_bytes) = (128 << 20, 32 << 20);
    streams.has_accounts = true;
    NatsConfig::new(broker.url(), "sim").with_streams(streams)
}

async fn publish(broker: &Broker, exchange: &Exchange) -> LivePublisher<NatsBus> {
    let mut config_of = PublisherConfig::new("sim", "publisher");
    config_of.account = Some("main".to_owned());
    config_of.heartbeat = Duration::from_millis(300);
    let bus = NatsBus::publisher(config(broker)).await.unwrap();
    let node = PublisherNode::new(Publisher::new(config_of).unwrap(), Lease::new("publisher"), bus);
    let connection = Config::builder()
        .with_environment(Environment::Custom(exchange.stream_url()))
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone());
    let publisher = LivePublisher::connect(node, connection).await.unwrap();
    for subscription in
        [Subscription::fills(), Subscription::user_orders(), Subscription::market_positions()]
    {
        publisher.subscribe(subscription).unwrap();
    }
    publisher
}

async fn place(client: &Client, ticker: &str, side: &str, price: &str, count: &str) {
    let order = CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side)
        .price(price)
        .count(count)
        .time_in_force("good_till_canceled")
        .self_trade_prevention_type("maker");
    client.create_order_v2().body(order).send().await.unwrap();
}

/// Trades, and leaves an order in the book.
async fn trade(exchange: &Exchange, ticker: &str) {
    let client = |role| exchange.client(role).unwrap();
    place(&client(Role::Trader), ticker, "bid", "0.4200", "3.00").await;
    place(&client(Role::Maker), ticker, "ask", "0.4200", "2.00").await;
    place(&client(Role::Trader), ticker, "ask", "0.9700", "1.00").await;
}

async fn rest(client: &Client) -> State {
    let account = client.fetch_account(None).await.unwrap();
    let mut orders: Vec<_> =
        account.orders.into_iter().map(|order| (order.order_id, order.remaining)).collect();
    orders.sort();
    let positions = account.positions.into_iter().filter(|position| !position.count.is_zero());
    (orders, positions.map(|position| (position.market_ticker, position.count)).collect())
}

fn readings(exchange: &Exchange) -> usize {
    exchange.requests().iter().filter(|request| request.operation == "get_positions").count()
}

async fn settle(processes: &mut [Process], truth: &State) {
    let until = Instant::now() + PATIENCE;
    while processes.iter().any(|process| process.state() != *truth) {
        for process in &mut *processes {
            process.read();
        }
        let states: Vec<_> = processes.iter().map(Process::state).collect();
        assert!(Instant::now() < until, "{states:?} instead of {truth:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_keep_the_account_by_one_connection_and_one_reading() {
    let _alone = super::MACHINE.lock().await;
    let Some(broker) = Broker::start() else { return };
    let exchange = Exchange::builder().with_seed(3).start().await.unwrap();
    exchange.markets().list(MarketPlan::new("KXACCOUNT-26-A", 1_000_000)).unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    // There is something before any process begins.
    trade(&exchange, "KXACCOUNT-26-A").await;

    let mut publisher = publish(&broker, &exchange).await;
    let publishing = tokio::spawn(async move { while publisher.next().await.is_some() {} });
    let source = exchange.client(Role::Trader).unwrap();
    let (gate, mut opened) = tokio::sync::oneshot::channel();
    let mut server = AccountServer::connect(config(&broker), "main", source).await.unwrap();
    let serving = tokio::spawn(async move {
        // Until all have asked.
        let _ = (&mut opened).await;
        server.run().await;
    });
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        processes.push(Process::start(&broker).await);
    }
    let until = Instant::now() + PATIENCE;
    while !processes.iter().all(|process| process.portfolio.is_subscribed()) {
        processes.iter_mut().for_each(Process::read);
        assert!(Instant::now() < until, "no account is published");
        sleep(Duration::from_millis(5)).await;
    }

    let before = readings(&exchange);
    // As `Portfolio::reconcile` does, without its question for the time of the reads.
    let asked = async {
        let asking = processes.iter_mut().map(|process| {
            let (begun, source) = (process.portfolio.begin(), &process.source);
            async move { (begun, source.fetch_account(begun.fills_since()).await.unwrap()) }
        });
        join_all(asking).await
    };
    let opens = async {
        sleep(Duration::from_secs(1)).await;
        gate.send(()).unwrap();
    };
    let (answers, ()) = tokio::join!(asked, opens);
    for (process, (begun, account)) in processes.iter_mut().zip(answers) {
        process.read();
        let _ = process.portfolio.finish(begun, account);
    }
    assert_eq!(readings(&exchange) - before, 1);
    let truth = rest(&client).await;
    assert!(!truth.0.is_empty() && !truth.1.is_empty(), "{truth:?}");
    settle(&mut processes, &truth).await;

    // From then on the messages are enough.
    let before = readings(&exchange);
    trade(&exchange, "KXACCOUNT-26-A").await;
    let after = rest(&client).await;
    assert_ne!(after, truth);
    settle(&mut processes, &after).await;
    assert_eq!(readings(&exchange) - before, 1, "the one of this test");
    assert!(processes.iter().all(|process| process.gaps == 0));
    publishing.abort();
    serving.abort();
}
