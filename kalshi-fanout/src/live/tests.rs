use std::sync::{Arc, Mutex};

use kalshi_ws::{BookState, Event};

use super::{publisher::Node, *};
use crate::{
    Follower, FollowerConfig, Lease, Publisher, PublisherConfig,
    bus::{MemoryBroker, PublisherNode},
};

const WALL: UnixMillis = UnixMillis::from_millis(1_700_000_000_000);

/// Both clocks of a machine.
#[derive(Clone)]
struct Machine(Arc<Mutex<(Duration, UnixMillis)>>);

impl Machine {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Duration::ZERO, WALL))))
    }

    fn pass(&self, awake: Duration, by_wall: Duration) {
        let mut clocks = self.0.lock().unwrap();
        *clocks = (clocks.0 + awake, clocks.1.saturating_add(by_wall));
    }

    fn clock(&self) -> Clock {
        let clocks = Arc::clone(&self.0);
        Clock::new(move || *clocks.lock().unwrap())
    }
}

#[test]
fn the_time_in_which_the_machine_slept_has_passed() {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
    let machine = Machine::new();
    let mut clock = machine.clock();
    assert_eq!(clock.now(), Duration::ZERO);
    machine.pass(second, 2 * second);
    // A wall clock is set now and then.
    assert_eq!(clock.now(), second);
    machine.pass(second, hour + second);
    assert_eq!(clock.now(), hour + 2 * second);
    machine.pass(second, second);
    assert_eq!(clock.now(), hour + 3 * second);
    machine.0.lock().unwrap().1 = WALL;
    machine.pass(second, Duration::ZERO);
    assert_eq!(clock.both(), (hour + 4 * second, WALL));
}

#[tokio::test]
async fn books_and_leases_of_before_a_sleep_are_over_after_it() {
    let (broker, machine) = (MemoryBroker::new(1), Machine::new());
    let publisher = Publisher::new(PublisherConfig::new("sim", "a")).unwrap();
    let node = PublisherNode::new(publisher, Lease::new("a"), broker.client());
    let publisher = Node::new(node, machine.clock());
    let mut follower = Follower::new(FollowerConfig::new("sim"), || Duration::ZERO).unwrap();
    follower.follow(["A"]).unwrap();
    let mut follower = LiveFollower::with_clock(follower, broker.client(), machine.clock());
    for frame in [
        r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
        r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"i","yes_dollars_fp":[["0.40","10.00"]]}}"#,
    ] {
        publisher.step(|node, now| node.publisher_mut().frame(frame, WALL, now));
    }
    for _ in 0..3 {
        publisher.step(|_, _| {});
    }
    assert!(publisher.leads());
    while follower.books().state("A") != BookState::Valid {
        follower.next().await;
    }

    machine.pass(Duration::ZERO, Duration::from_secs(3_600));
    assert!(!publisher.leads());
    let event = follower.next().await;
    assert!(matches!(event, Some(Event::Stale { .. })), "{event:?}");
    let event = follower.next().await;
    assert!(matches!(event, Some(Event::Disconnected { .. })), "{event:?}");
    assert_eq!(follower.books().state("A"), BookState::Void);
}
