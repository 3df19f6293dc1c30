//! Publishers and followers over a bus inside of the process, without faults and in virtual time.

use std::time::Duration;

use kalshi_fanout::{
    Follower, FollowerConfig, Lease, Publisher, PublisherConfig,
    bus::{FollowerNode, MemoryBroker, MemoryBus, PublisherNode},
};
use kalshi_types::UnixMillis;
use kalshi_ws::{BookState, Event};

const ZERO: Duration = Duration::ZERO;
const WALL: UnixMillis = UnixMillis::from_millis(1_700_000_000_000);
const SUBSCRIBED: &str =
    r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#;
const SNAPSHOT: &str = r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"i","yes_dollars_fp":[["0.40","10.00"]]}}"#;

fn publisher(broker: &MemoryBroker, window: usize) -> PublisherNode<MemoryBus> {
    let mut config = PublisherConfig::new("sim", "a");
    config.window = window;
    PublisherNode::new(Publisher::new(config).unwrap(), Lease::new("a"), broker.client())
}

fn follower(broker: &MemoryBroker) -> FollowerNode<MemoryBus> {
    let mut follower = Follower::new(FollowerConfig::new("sim"), || ZERO).unwrap();
    follower.follow(["A"]).unwrap();
    FollowerNode::new(follower, broker.client())
}

fn events(follower: &mut FollowerNode<MemoryBus>) -> Vec<Event> {
    std::iter::from_fn(|| follower.next(ZERO)).collect()
}

/// A publisher that leads, and a follower with its book.
fn leading(window: usize) -> (PublisherNode<MemoryBus>, FollowerNode<MemoryBus>) {
    let broker = MemoryBroker::new(1);
    let (mut publisher, mut follower) = (publisher(&broker, window), follower(&broker));
    for frame in [SUBSCRIBED, SNAPSHOT] {
        publisher.publisher_mut().frame(frame, WALL, ZERO);
    }
    for _ in 0..20 {
        publisher.step(WALL, ZERO);
    }
    assert!(publisher.publisher().leads(ZERO));
    events(&mut follower);
    assert_eq!(follower.books().state("A"), BookState::Valid);
    (publisher, follower)
}

#[test]
fn followers_hear_at_once_that_the_leader_has_lost_the_exchange() {
    for window in [1, 4_096] {
        let (mut publisher, mut follower) = leading(window);
        publisher.publisher_mut().disconnected("it was closed");
        publisher.step(WALL, ZERO);
        let events = events(&mut follower);
        assert!(matches!(events.as_slice(), [Event::Disconnected { .. }]), "{window}: {events:?}");
        assert_eq!(follower.books().state("A"), BookState::Void);
        // The lease is free for another.
        assert!(!publisher.publisher().leads(ZERO));
        publisher.step(WALL, ZERO);
        assert!(publisher.is_idle());
    }
}
