//! A live publisher of a whole exchange, and a follower in the same process.

use std::time::Duration;

use kalshi_fanout::{
    Follower, FollowerConfig, Lease, Publisher, PublisherConfig,
    bus::{MemoryBroker, MemoryBus, PublisherNode},
    live::{LiveFollower, LivePublisher},
};
use kalshi_sim::{Exchange, Role};
use kalshi_ws::{BookState, Channel, Config, Environment, Event, Subscription};
use tokio::{select, time::timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs both until the follower is as wanted.
async fn run(
    publisher: &mut LivePublisher<MemoryBus>,
    follower: &mut LiveFollower<MemoryBus>,
    is_wanted: impl Fn(&LiveFollower<MemoryBus>) -> bool,
) {
    let run = async {
        while !is_wanted(follower) {
            select! {
                event = publisher.next() => assert!(event.is_some()),
                event = follower.next() => {
                    let is_loss = matches!(event, Some(Event::Disconnected { .. }));
                    assert!(!is_loss, "{event:?}");
                }
            }
        }
    };
    timeout(PATIENCE, run).await.expect("the follower is as wanted");
}

#[tokio::test]
async fn a_market_that_is_taken_out_and_a_publisher_that_is_closed_leave_no_readable_book() {
    let exchange = Exchange::builder().with_seed(3).with_markets(10).start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let page = client.get_markets().status("open").limit(2_u64).send().await.unwrap();
    let tickers: Vec<String> =
        page.into_inner().markets.into_iter().map(|market| market.ticker).collect();
    let [out, stays] = tickers.as_slice() else { panic!("{tickers:?}") };

    let broker = MemoryBroker::new(1);
    let publisher = Publisher::new(PublisherConfig::new("sim", "a")).unwrap();
    let node = PublisherNode::new(publisher, Lease::new("a"), broker.client());
    let config = Config::builder()
        .with_environment(Environment::Custom(exchange.stream_url()))
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone());
    let mut publisher = LivePublisher::connect(node, config).await.unwrap();
    publisher.subscribe(Subscription::orderbook(tickers.clone())).unwrap();
    let mut follower = Follower::new(FollowerConfig::new("sim"), || Duration::ZERO).unwrap();
    follower.follow(tickers.clone()).unwrap();
    let mut follower = LiveFollower::new(follower, broker.client());
    let state = |follower: &LiveFollower<_>, ticker: &str| follower.books().state(ticker);
    run(&mut publisher, &mut follower, |follower| {
        tickers.iter().all(|ticker| state(follower, ticker) == BookState::Valid)
    })
    .await;

    publisher.delete_markets(Channel::OrderbookDelta, [out.as_str()]).unwrap();
    run(&mut publisher, &mut follower, |follower| state(follower, out) == BookState::Void).await;
    assert_eq!(state(&follower, stays), BookState::Valid);
    // Added again, it comes back.
    publisher.add_markets(Channel::OrderbookDelta, [out.as_str()]).unwrap();
    run(&mut publisher, &mut follower, |follower| state(follower, out) == BookState::Valid).await;
    assert_eq!(state(&follower, stays), BookState::Valid);

    publisher.close().await;
    let event = timeout(PATIENCE, follower.next()).await.expect("the epoch has ended");
    assert!(matches!(event, Some(Event::Disconnected { .. })), "{event:?}");
    assert!(tickers.iter().all(|ticker| state(&follower, ticker) == BookState::Void));
}
