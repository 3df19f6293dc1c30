//! Publishers and followers over a bus inside of the process, without faults and in virtual time.

use std::{cell::RefCell, rc::Rc, time::Duration};

use kalshi_fanout::{
    BusMessage, Follower, FollowerConfig, Lease, LeaseRequest, Publisher, PublisherConfig,
    bus::{Bus, BusEvent, FollowerNode, MemoryBroker, MemoryBus, PublisherNode},
    subject::Kind,
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

#[test]
fn the_end_of_an_epoch_overtakes_what_waits_for_a_full_window() {
    let mut config = PublisherConfig::new("sim", "a");
    config.window = 1;
    let mut publisher = Publisher::new(config).unwrap();
    publisher.lead(1, Duration::from_secs(1_000), ZERO);
    publisher.frame(SUBSCRIBED, WALL, ZERO);
    // The first message is not acknowledged.
    assert!(publisher.next(WALL, ZERO).is_some());
    assert!(publisher.next(WALL, ZERO).is_none());
    publisher.disconnected("the socket was lost");
    let ended = publisher.next(WALL, ZERO).unwrap();
    assert_eq!(ended.message.payload, r#"{"kind":"ended"}"#);
    assert!(publisher.next(WALL, ZERO).is_none());
}

/// A bus that has nothing, and keeps the patterns that it is subscribed to.
struct Subscriptions(Rc<RefCell<Vec<String>>>);

impl Bus for Subscriptions {
    fn publish(&mut self, _token: u64, _message: BusMessage, _now: Duration) {}

    fn subscribe(&mut self, pattern: &str) {
        self.0.borrow_mut().push(pattern.to_owned());
    }

    fn last(&mut self, _subject: &str, _now: Duration) {}

    fn log(&mut self, _ticker: &str, _pattern: &str, _since: UnixMillis, _now: Duration) {}

    fn lease(&mut self, _request: LeaseRequest, _now: Duration) {}

    fn next(&mut self, _now: Duration) -> Option<BusEvent> {
        None
    }
}

#[test]
fn a_follower_subscribes_once_to_what_it_follows_twice() {
    let patterns = Rc::new(RefCell::new(Vec::new()));
    let mut follower = Follower::new(FollowerConfig::new("sim"), || ZERO).unwrap();
    follower.follow(["A"]).unwrap();
    let mut follower = FollowerNode::new(follower, Subscriptions(Rc::clone(&patterns)));
    for _ in 0..2 {
        follower.follow(["A", "B"]).unwrap();
        follower.follow_kind(Kind::Trade, "A").unwrap();
        follower.follow_kind(Kind::Ticker, "A").unwrap();
    }
    let mut found = patterns.take();
    found.sort();
    let expected = [
        "kx.v1.sim.ctl.*",
        "kx.v1.sim.md.*.book.A.A",
        "kx.v1.sim.md.*.book.B.B",
        "kx.v1.sim.md.*.ticker.A.A",
        "kx.v1.sim.md.*.trade.A.A",
        "kx.v1.sim.snap.A",
        "kx.v1.sim.snap.B",
    ];
    assert_eq!(found, expected);
}
