//! Publishers and followers while everything that can go wrong does, in virtual time.
//!
//! Three publishers with connections of their own, fifty followers, one broker. Publishers are killed,
//! cut off and disconnected; the exchange's frames get lost; the broker loses, repeats, reorders,
//! refuses and delays messages, forgets its log and all of its memory; messages of earlier leaders
//! come again; followers come and go. The truth is the exchange's own book at each number, kept
//! without code of this workspace. What a follower shows must be the truth at its number, always; and
//! when the faults end, every follower must show the exchange's book.
//!
//! `FANOUT_CHANGES` says how many changes, and `FANOUT_SEED` which faults.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use kalshi_fanout::{
    BusMessage, Follower, FollowerConfig, Lease, Publisher, PublisherConfig,
    bus::{Bus, BusEvent, Faults, FollowerNode, MemoryBroker, MemoryBus, PublisherNode},
};
use kalshi_types::UnixMillis;
use kalshi_ws::{BookState, Event};

use crate::truth::{Book, Change, Random, SUBSCRIBED, number, shown, ticker};

const MARKETS: usize = 60;
const PUBLISHERS: usize = 3;
const FOLLOWERS: usize = 50;
const FOLLOWED: usize = 8;
const CHANGES_A_ROUND: u64 = 10;
const ROUND: Duration = Duration::from_millis(20);
const ROUNDS_A_PHASE: u64 = 5_000;

/// A connection of a publisher to the exchange.
#[derive(Default)]
struct Feed {
    is_up: bool,
    seq: u64,
    /// The round in which lost books get new snapshots.
    repair: Option<u64>,
    /// Books whose last changes were lost, and what they were before: until the next frame shows the
    /// loss, the publisher has them as they were.
    hidden: HashMap<usize, u64>,
}

/// Epoch, market and number.
type Key = (u64, u64, usize, u64);

struct World {
    random: Random,
    now: Duration,
    round: u64,
    broker: MemoryBroker,
    books: Vec<Book>,
    publishers: Vec<(PublisherNode<MemoryBus>, Feed, usize)>,
    made: u64,
    followers: Vec<(FollowerNode<MemoryBus>, Vec<usize>)>,
    spy: MemoryBus,
    caught: Vec<BusMessage>,
    truth: HashMap<Key, Vec<u64>>,
    has_faults: bool,
    cut: Vec<(usize, u64)>,
    counts: BTreeMap<&'static str, u64>,
    compared: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let broker = MemoryBroker::new(seed);
        let mut spy = broker.client();
        spy.subscribe("kx.v1.sim.md.*.*.*.*");
        spy.subscribe("kx.v1.sim.snap.*");
        spy.subscribe("kx.v1.sim.ctl.*");
        let mut world = Self {
            random: Random(seed),
            now: Duration::ZERO,
            round: 0,
            broker,
            books: (0..MARKETS).map(|_| Book::default()).collect(),
            publishers: Vec::new(),
            made: 0,
            followers: Vec::new(),
            spy,
            caught: Vec::new(),
            truth: HashMap::new(),
            has_faults: false,
            cut: Vec::new(),
            counts: BTreeMap::new(),
            compared: 0,
        };
        for _ in 0..PUBLISHERS {
            let publisher = world.publisher();
            world.publishers.push(publisher);
        }
        for _ in 0..FOLLOWERS {
            let follower = world.follower();
            world.followers.push(follower);
        }
        world
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis::from_millis(1_700_000_000_000).saturating_add(self.now)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn publisher(&mut self) -> (PublisherNode<MemoryBus>, Feed, usize) {
        self.made += 1;
        let id = format!("p{}", self.made);
        let mut config = PublisherConfig::new("sim", &id);
        config.window = 256;
        config.snapshot_deltas = 200;
        let bus = self.broker.client();
        let number = bus.number();
        let publisher = Publisher::new(config).unwrap();
        (PublisherNode::new(publisher, Lease::new(id), bus), Feed::default(), number)
    }

    fn follower(&mut self) -> (FollowerNode<MemoryBus>, Vec<usize>) {
        let first = self.random.index(MARKETS);
        let markets: Vec<usize> = (0..FOLLOWED).map(|n| (first + n * 7) % MARKETS).collect();
        let mut random = Random(self.random.below(u64::MAX));
        let jitter = move || Duration::from_millis(random.below(500));
        let mut follower = Follower::new(FollowerConfig::new("sim"), jitter).unwrap();
        follower.follow(markets.iter().map(|market| ticker(*market))).unwrap();
        (FollowerNode::new(follower, self.broker.client()), markets)
    }

    /// Gives a frame to a publisher, and keeps the truth at the number that it gets.
    fn feed(&mut self, at: usize, market: usize, frame: &str) {
        let (wall, now) = (self.wall(), self.now);
        self.publishers[at].1.hidden.clear();
        self.publishers[at].0.publisher_mut().frame(frame, wall, now);
        self.keep(at, market);
    }

    fn keep(&mut self, at: usize, market: usize) {
        let publisher = self.publishers[at].0.publisher();
        let Some(epoch) = publisher.epoch() else { return };
        let Some(n) = publisher.last_number(&ticker(market)) else { return };
        let hidden = self.publishers[at].1.hidden.get(&market);
        let sum = hidden.copied().unwrap_or(self.books[market].sum);
        let sums = self.truth.entry((epoch.term, epoch.number, market, n)).or_default();
        // Before the first message of an epoch, changes go into its snapshot.
        if sums.is_empty() || n == 0 && sums.last() != Some(&sum) {
            sums.push(sum);
        }
    }

    fn snapshot(&mut self, at: usize, market: usize) {
        let feed = &mut self.publishers[at].1;
        feed.seq += 1;
        let seq = feed.seq;
        let frame = self.books[market].snapshot(&ticker(market), seq);
        self.feed(at, market, &frame);
    }

    fn change(&mut self) {
        let market = self.random.index(MARKETS);
        let sum_before = self.books[market].sum;
        let change = Change::random(&mut self.random, &mut self.books[market]);
        let ticker = ticker(market);
        for at in 0..PUBLISHERS {
            if !self.publishers[at].1.is_up {
                continue;
            }
            self.publishers[at].1.seq += 1;
            let seq = self.publishers[at].1.seq;
            if self.has_faults && self.random.one_in(3_000) {
                self.count("frames of the exchange lost");
                self.publishers[at].1.repair = Some(self.round + 20);
                self.publishers[at].1.hidden.entry(market).or_insert(sum_before);
                continue;
            }
            let frame = change.frame(&ticker, seq);
            self.feed(at, market, &frame);
        }
    }

    fn keep_connections(&mut self) {
        for at in 0..PUBLISHERS {
            if !self.publishers[at].1.is_up {
                // The exchange lets it in again after some rounds.
                if self.has_faults && !self.random.one_in(40) {
                    continue;
                }
                self.publishers[at].1 = Feed { is_up: true, ..Feed::default() };
                self.feed(at, 0, SUBSCRIBED);
                for market in 0..MARKETS {
                    self.snapshot(at, market);
                }
            }
            if self.publishers[at].1.repair.is_some_and(|round| round <= self.round) {
                self.publishers[at].1.repair = None;
                for market in 0..MARKETS {
                    self.snapshot(at, market);
                }
            }
        }
    }

    fn leader(&self) -> Option<usize> {
        (0..PUBLISHERS).find(|at| self.publishers[*at].0.publisher().leads(self.now))
    }

    fn make_trouble(&mut self) {
        if self.random.one_in(400)
            && let Some(leader) = self.leader()
        {
            self.count("leaders killed");
            self.publishers[leader] = self.publisher();
        }
        if self.random.one_in(300) {
            let at = self.random.index(PUBLISHERS);
            if self.publishers[at].1.is_up {
                self.count("connections lost");
                self.publishers[at].0.publisher_mut().disconnected("a test");
                self.publishers[at].1.is_up = false;
            }
        }
        if self.random.one_in(600)
            && let Some(leader) = self.leader()
        {
            self.count("leaders cut off from the broker");
            let (number, rounds) = (self.publishers[leader].2, self.random.below(1_200));
            self.broker.partition_client(number);
            self.cut.push((number, self.round + rounds));
        }
        if self.random.one_in(900) {
            self.count("brokers restarted without memory");
            self.broker.wipe(self.now);
        }
        if self.random.one_in(200) {
            self.count("logs trimmed");
            let limit = self.random.index(30);
            self.broker.trim_log(limit);
            self.broker.trim_log(2_000);
        }
        if self.random.one_in(30) {
            self.count("followers replaced");
            let (follower, at) = (self.follower(), self.random.index(FOLLOWERS));
            self.followers[at] = follower;
        }
        if self.random.one_in(100) {
            let slow = self.random.one_in(2);
            let refuse = if self.random.one_in(4) { 20 } else { 2_000 };
            self.broker.set_faults(|faults| {
                faults.drop = 3_000;
                faults.duplicate = 300;
                faults.reorder = 1_000;
                faults.refuse = refuse;
                faults.unacknowledged = 4_000;
                faults.delay = Duration::from_millis(if slow { 400 } else { 30 });
            });
        }
        if !self.caught.is_empty() && self.random.one_in(4) {
            // An old leader that sends what it had, or a broker that delivers twice.
            self.count("old messages sent again");
            let at = self.random.index(self.caught.len());
            let (message, now) = (self.caught[at].clone(), self.now);
            self.spy.publish(0, message, now);
        }
        let (round, now) = (self.round, self.now);
        let (healed, cut): (Vec<_>, _) = self.cut.drain(..).partition(|(_, until)| *until <= round);
        self.cut = cut;
        for (client, _) in healed {
            self.broker.heal_client(client, now);
        }
    }

    fn step(&mut self, changes: u64) {
        self.round += 1;
        // Nothing happens in a hurry once the faults have ended.
        self.now += if self.has_faults { ROUND } else { 5 * ROUND };
        self.keep_connections();
        for _ in 0..changes {
            self.change();
        }
        if self.has_faults {
            self.make_trouble();
        }
        let (wall, now) = (self.wall(), self.now);
        for at in 0..PUBLISHERS {
            self.publishers[at].0.step(wall, now);
            for market in 0..MARKETS {
                self.keep(at, market);
            }
        }
        while let Some(event) = self.spy.next(now) {
            let BusEvent::Message(message) = event else { continue };
            if self.caught.len() < 200 {
                self.caught.push(message);
            } else if self.random.one_in(20) {
                let at = self.random.index(self.caught.len());
                self.caught[at] = message;
            }
        }
        for at in 0..FOLLOWERS {
            if (at as u64 + self.round).is_multiple_of(3) {
                self.follow(at);
            }
        }
    }

    fn follow(&mut self, at: usize) {
        let mut touched = HashSet::new();
        while let Some(event) = self.followers[at].0.next(self.now) {
            match &event {
                Event::Message(message) => {
                    touched.extend(message.payload.market_ticker().map(str::to_owned));
                }
                Event::Uncovered { .. } => self.count("books void"),
                Event::Disconnected { .. } => self.count("epochs left"),
                Event::Stale { .. } => self.count("silences"),
                _ => {}
            }
        }
        let markets = self.followers[at].1.clone();
        for market in markets {
            if touched.contains(&ticker(market)) {
                self.compare(at, market);
            }
        }
    }

    /// Compares what a follower shows with the truth at its number.
    fn compare(&mut self, at: usize, market: usize) {
        let node = &self.followers[at].0;
        let ticker = ticker(market);
        let Some(book) = node.books().get(&ticker) else { return };
        let epoch = node.follower().epoch().expect("a book is of an epoch");
        let n = node.follower().number(&ticker).expect("a book that is shown is live");
        let sums = self.truth.get(&(epoch.term, epoch.number, market, n));
        assert!(
            sums.is_some_and(|sums| sums.contains(&shown(book))),
            "follower {at} shows a wrong book of {ticker} at {epoch}, {n}, round {}",
            self.round
        );
        self.compared += 1;
    }

    /// Ends the faults, and waits until everything must be right.
    fn settle(&mut self) {
        self.has_faults = false;
        self.broker.set_faults(|faults| *faults = Faults::default());
        for (client, _) in std::mem::take(&mut self.cut) {
            self.broker.heal_client(client, self.now);
        }
        // The longest way: a lease runs out (16 s), then a snapshot is due (30 s).
        for _ in 0..500 {
            self.step(0);
        }
        let leader = self.leader().expect("one leads");
        for at in 0..FOLLOWERS {
            for market in self.followers[at].1.clone() {
                self.compare(at, market);
                let (node, ticker) = (&self.followers[at].0, ticker(market));
                assert_eq!(
                    node.books().state(&ticker),
                    BookState::Valid,
                    "follower {at} has no book of {ticker} in round {}: {node:?}, {:?}, {:?}",
                    self.round,
                    node.follower().metrics(),
                    self.publishers[leader].0
                );
                assert_eq!(shown(node.books().get(&ticker).unwrap()), self.books[market].sum);
                let publisher = self.publishers[leader].0.publisher();
                assert_eq!(node.follower().epoch(), publisher.epoch());
                assert_eq!(node.follower().number(&ticker), publisher.last_number(&ticker));
            }
        }
    }
}

#[test]
fn no_follower_shows_a_wrong_book_whatever_happens() {
    let (changes, seed) = (number("FANOUT_CHANGES", 150_000), number("FANOUT_SEED", 1));
    let mut world = World::new(seed);
    let mut left = changes;
    while left > 0 {
        world.has_faults = true;
        for _ in 0..ROUNDS_A_PHASE {
            let now = CHANGES_A_ROUND.min(left);
            if now == 0 {
                // The faults end while everything is under way.
                break;
            }
            left -= now;
            world.step(now);
        }
        world.settle();
    }
    println!("{changes} changes, {} comparisons: {:?}", world.compared, world.counts);
    for (at, (node, ..)) in world.publishers.iter().enumerate() {
        println!("publisher {at}: {:?}", node.publisher().metrics());
    }
    println!("follower 0: {:?}", world.followers[0].0.follower().metrics());
    if changes >= 100_000 {
        assert!(world.compared > changes / 2);
        for what in [
            "frames of the exchange lost",
            "leaders killed",
            "connections lost",
            "leaders cut off from the broker",
            "brokers restarted without memory",
            "logs trimmed",
            "followers replaced",
            "old messages sent again",
            "books void",
            "epochs left",
        ] {
            assert!(world.counts.get(what).is_some_and(|count| *count > 2), "{what}");
        }
        let fenced: u64 =
            world.followers.iter().map(|(node, _)| node.follower().metrics().fenced).sum();
        assert!(fenced > 0);
    }
}
