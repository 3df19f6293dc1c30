//! The scheduler against buckets as the exchange describes them, in virtual time, with requests and
//! answers that take any time on their way.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use kalshi_sdk::operation::Lane;
use proptest::prelude::*;

use crate::budget::{
    BucketKey, Charge, Class, Completion, Demand, Gcra, Grant, LaneLimits, Limit, Nanos, Pool,
    Refusal, Scheduler, Ticket, take_slice,
};

const SECOND: Nanos = 1_000_000_000;
const MILLI: Nanos = 1_000_000;

const READS: BucketKey = BucketKey::new(Lane::EventContracts, Pool::Read);
const WRITES: BucketKey = BucketKey::new(Lane::EventContracts, Pool::Write);

fn shard(shard: u32) -> BucketKey {
    BucketKey::new(Lane::EventContracts, Pool::Shard(shard))
}

/// The exchange's buckets, as the simulator has them: thousandths of a token, whole milliseconds.
#[derive(Default)]
struct Exchange {
    buckets: BTreeMap<BucketKey, (u64, u64)>,
    admitted: u64,
}

impl Exchange {
    fn refilled(&mut self, key: BucketKey, limit: Limit, now: Nanos) -> &mut (u64, u64) {
        let full = limit.capacity() * 1_000;
        let now = now / MILLI;
        let bucket = self.buckets.entry(key).or_insert((full, now));
        let passed = now.saturating_sub(bucket.1);
        bucket.0 = (bucket.0 + passed * limit.refill()).min(full);
        bucket.1 = bucket.1.max(now);
        bucket
    }

    fn admit(&mut self, charge: &Charge, limits: LaneLimits, now: Nanos) -> bool {
        let limit = |key: &BucketKey| match key.pool {
            Pool::Read => limits.read,
            Pool::Own(_) => limits.own,
            _ => limits.write,
        };
        let cost = charge.tokens * 1_000;
        let is_admitted =
            charge.buckets.iter().all(|key| self.refilled(*key, limit(key), now).0 >= cost);
        if is_admitted {
            for key in &charge.buckets {
                self.refilled(*key, limit(key), now).0 -= cost;
            }
            self.admitted += charge.tokens;
        }
        is_admitted
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Submit(usize),
    Arrive(Ticket),
    Answer(Ticket, bool),
    /// Another program draws tokens.
    Foreign(u64),
}

/// One client, its way to the exchange, and the exchange.
struct World {
    now: Nanos,
    scheduler: Scheduler,
    limits: LaneLimits,
    exchange: Exchange,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    sequence: u64,
    demands: BTreeMap<Ticket, (Demand, Nanos)>,
    /// Delays of requests and answers, one pair after the other.
    delays: Vec<(Nanos, Nanos)>,
    sent: usize,
    granted: Vec<(Ticket, Nanos)>,
    refused: Vec<(Ticket, Refusal)>,
    limited: usize,
    inputs: Vec<Demand>,
}

impl World {
    fn new(limits: LaneLimits, delays: Vec<(Nanos, Nanos)>) -> Self {
        let mut scheduler = Scheduler::new();
        scheduler.set_limits(0, Lane::EventContracts, limits);
        Self {
            now: 0,
            scheduler,
            limits,
            exchange: Exchange::default(),
            events: BinaryHeap::new(),
            sequence: 0,
            demands: BTreeMap::new(),
            delays,
            sent: 0,
            granted: Vec::new(),
            refused: Vec::new(),
            limited: 0,
            inputs: Vec::new(),
        }
    }

    fn at(&mut self, time: Nanos, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    fn submit_at(&mut self, time: Nanos, demand: Demand) {
        self.inputs.push(demand);
        self.at(time, Event::Submit(self.inputs.len() - 1));
    }

    /// Runs until nothing is left to do, or a time.
    fn run_until(&mut self, end: Nanos) {
        loop {
            for (ticket, verdict) in self.scheduler.run(self.now) {
                match verdict {
                    Ok(()) => {
                        self.granted.push((ticket, self.now));
                        let delay = self.delays[self.sent % self.delays.len()];
                        self.sent += 1;
                        self.at(self.now + delay.0, Event::Arrive(ticket));
                    }
                    Err(refusal) => self.refused.push((ticket, refusal)),
                }
            }
            let wake = self.scheduler.next_wake().map(|wake| wake.max(self.now));
            let event = self.events.peek().map(|Reverse((time, ..))| *time);
            let Some(time) = wake.into_iter().chain(event).min() else { break };
            if time > end || self.limited > 1_000 {
                break;
            }
            self.now = time;
            // All that happens at one time happens before the next verdicts.
            while let Some(Reverse((time, _, event))) = self.events.peek().copied()
                && time == self.now
            {
                self.events.pop();
                self.happen(event);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Submit(index) => {
                let demand = self.inputs[index].clone();
                if let Ok(ticket) = self.scheduler.submit(self.now, demand.clone()) {
                    self.demands.insert(ticket, (demand, self.now));
                }
            }
            Event::Arrive(ticket) => {
                let charge = &self.demands[&ticket].0.charge;
                let is_admitted = self.exchange.admit(charge, self.limits, self.now);
                self.limited += usize::from(!is_admitted);
                // A delay of its own for the way back.
                let back = self.delays[(self.sent * 7 + 3) % self.delays.len()].1;
                self.at(self.now + back, Event::Answer(ticket, is_admitted));
            }
            Event::Answer(ticket, true) => {
                self.scheduler.complete(self.now, ticket, Completion::Sent);
            }
            Event::Foreign(tokens) => {
                self.exchange.admit(&Charge::single(WRITES, tokens), self.limits, self.now);
            }
            Event::Answer(ticket, false) => {
                self.scheduler.requeue(self.now, ticket);
            }
        }
    }

    fn wait_of(&self, ticket: Ticket) -> Option<Nanos> {
        let granted = self.granted.iter().find(|(other, _)| *other == ticket)?;
        Some(granted.1 - self.demands[&ticket].1)
    }
}

fn limits(read: (u64, u64), write: (u64, u64), own: u64) -> LaneLimits {
    let limit = |(rate, capacity)| Limit::new(rate, capacity).unwrap();
    LaneLimits::new(limit(read), limit(write), limit((own, 1)))
}

/// The tiers of the exchange.
fn tiers() -> [LaneLimits; 7] {
    [
        limits((200, 600), (100, 100), 1),
        limits((300, 900), (300, 900), 1),
        limits((600, 600), (600, 1_800), 5),
        limits((1_200, 1_200), (1_200, 3_600), 5),
        limits((2_400, 2_400), (2_400, 7_200), 5),
        limits((4_800, 4_800), (4_800, 14_400), 5),
        limits((12_000, 12_000), (9_600, 28_800), 5),
    ]
}

fn one(key: BucketKey, tokens: u64, class: Class) -> Demand {
    Demand::new(Charge::single(key, tokens), class)
}

fn charges() -> impl Strategy<Value = Charge> {
    let all = vec![WRITES, shard(1), shard(2), shard(3)];
    prop_oneof![
        (2_u64..12).prop_map(|cost| Charge::single(READS, cost)),
        (2_u64..12).prop_map(|cost| Charge::single(WRITES, cost)),
        (2_u64..70).prop_map(|cost| Charge::single(shard(2), cost)),
        (2_u64..12).prop_map(move |cost| Charge::of(all.clone(), cost).unwrap()),
        Just(Charge::single(BucketKey::new(Lane::EventContracts, Pool::Own("get_balance")), 1)),
    ]
}

fn classes() -> impl Strategy<Value = Class> {
    prop::sample::select(Class::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn one_client_is_never_over_a_bucket_whatever_the_way_takes(
        tier in 0_usize..7,
        delays in prop::collection::vec((0_u64..400 * MILLI, 0_u64..400 * MILLI), 1..20),
        requests in prop::collection::vec(
            (0_u64..30 * MILLI, charges(), classes(), 0_u8..4), 1..400,
        ),
    ) {
        let mut world = World::new(tiers()[tier], delays);
        let mut time = 0;
        for (pause, charge, class, owner) in requests {
            time += pause;
            let demand = Demand::new(charge, class).with_owner(owner.to_string());
            world.submit_at(time, demand);
        }
        let submitted = world.inputs.len();
        world.run_until(10_000 * SECOND);
        prop_assert_eq!(world.limited, 0);
        // And each is served in the end.
        prop_assert_eq!(world.granted.len() , submitted);
        prop_assert_eq!(world.scheduler.waiting(), 0);
    }

    #[test]
    fn a_saturated_bucket_is_used_to_at_least_95_percent(
        tier in 0_usize..7,
        delays in prop::collection::vec((0_u64..40 * MILLI, 0_u64..40 * MILLI), 1..20),
    ) {
        // More than twenty seconds' worth at once; what is counted is what the exchange admits.
        let limits = tiers()[tier];
        let (rate, capacity) = (limits.write.refill(), limits.write.capacity());
        let mut world = World::new(limits, delays);
        let cost = (capacity / 40).max(10);
        for _ in 0..(capacity + 25 * rate) / cost {
            world.submit_at(0, one(WRITES, cost, Class::Normal));
        }
        world.run_until(20 * SECOND);
        prop_assert_eq!(world.limited, 0);
        let possible = capacity + 20 * rate;
        prop_assert!(
            world.exchange.admitted * 100 >= possible * 95,
            "{} of {}", world.exchange.admitted, possible,
        );
    }

    #[test]
    fn beside_another_program_everything_is_served_and_no_more_is_refused_than_it_takes(
        tier in 0_usize..7,
        delays in prop::collection::vec((0_u64..50 * MILLI, 0_u64..50 * MILLI), 1..20),
        share in 1_u64..60,
    ) {
        // The other one takes `share` hundredths of the refill in each 100 ms, and the burst at the
        // start.
        let limits = tiers()[tier];
        let rate = limits.write.refill();
        let mut world = World::new(limits, delays);
        world.at(0, Event::Foreign(limits.write.capacity()));
        for step in 0..1_000 {
            world.at(step * 100 * MILLI, Event::Foreign(rate * share / 1_000));
        }
        let cost = (limits.write.capacity() / 40).max(10);
        let requests = 10 * rate / cost;
        for _ in 0..requests {
            world.submit_at(0, one(WRITES, cost, Class::Normal));
        }
        world.run_until(120 * SECOND);
        prop_assert_eq!(world.scheduler.waiting(), 0);
        prop_assert_eq!(world.granted.len() - world.limited, usize::try_from(requests).unwrap());
        // The first burst is refused, as no one could know. Later it expects the whole refill, of
        // which the other one takes its share: attempts of that share find nothing, and a fourth for the
        // steps in which it takes it.
        let first = usize::try_from(limits.write.capacity() / cost).unwrap();
        let refused = requests * share / (100 - share) + requests / 4;
        let refused = first + usize::try_from(refused).unwrap();
        prop_assert!(world.limited <= refused, "{} > {refused}", world.limited);
    }

    #[test]
    fn a_cancel_under_full_load_goes_at_once(
        tier in 0_usize..5,
        orders in 0_u64..200,
        bulk in 2_u64..12,
        way in 0_u64..100 * MILLI,
        at in 1_u64..2_000,
    ) {
        // Without load it would go at once, too: the load adds no wait.
        let mut world = World::new(tiers()[tier], vec![(way, way)]);
        world.scheduler.set_open_orders(orders);
        let load = tiers()[tier].write.refill() * 6 / bulk;
        for index in 0..load {
            let class = if index % 2 == 0 { Class::Normal } else { Class::Bulk };
            world.submit_at(0, one(WRITES, bulk, class));
        }
        // Each has its own reserve for as many cancels as there are orders, up to a fourth.
        let capacity = tiers()[tier].write.capacity();
        let cancels = (orders + 1).min(capacity / 4 / 2);
        for _ in 0..cancels {
            world.submit_at(at * MILLI, one(WRITES, 2, Class::Urgent));
        }
        world.run_until(2 * SECOND);
        let is_cancel = |demand: &Demand| demand.class == Class::Urgent;
        let tickets: Vec<Ticket> = world
            .demands
            .iter()
            .filter(|(_, (demand, _))| is_cancel(demand))
            .map(|(ticket, _)| *ticket)
            .collect();
        prop_assert_eq!(tickets.len() as u64, cancels);
        for ticket in tickets {
            prop_assert_eq!(world.wait_of(ticket), Some(0));
        }
        prop_assert_eq!(world.limited, 0);
    }

    #[test]
    fn bulk_is_never_starved_by_normal_requests(tier in 0_usize..4, bulk in 2_u64..12) {
        let limits = tiers()[tier];
        let mut world = World::new(limits, vec![(MILLI, MILLI)]);
        let rate = limits.write.refill();
        // Three times what the bucket can take, all the time.
        for step in 0..rate * 3 {
            world.submit_at(step * 10 * SECOND / (rate * 3), one(WRITES, 10, Class::Normal));
        }
        // By then the burst is gone, and normal requests wait.
        for _ in 0..20 {
            world.submit_at(5 * SECOND, one(WRITES, bulk, Class::Bulk));
        }
        world.run_until(600 * SECOND);
        let waits: Vec<Nanos> = world
            .demands
            .iter()
            .filter(|(_, (demand, _))| demand.class == Class::Bulk)
            .map(|(ticket, _)| world.wait_of(*ticket).unwrap())
            .collect();
        prop_assert_eq!(waits.len(), 20);
        // The n-th has its turn after 20 times its tokens and those before it have passed.
        let longest = waits.iter().max().copied().unwrap();
        let bound = limits.write.time_of(20 * (20 * bulk + 10));
        prop_assert!(longest <= bound, "{longest} > {bound}");
    }

    #[test]
    fn owners_share_a_bucket_evenly_and_each_keeps_its_order(
        costs in prop::collection::vec(2_u64..30, 2..6),
    ) {
        let limits = tiers()[1];
        let mut world = World::new(limits, vec![(MILLI, MILLI)]);
        for (owner, cost) in costs.iter().enumerate() {
            for _ in 0..3_000 / cost {
                let demand = one(WRITES, *cost, Class::Normal).with_owner(owner.to_string());
                world.submit_at(0, demand);
            }
        }
        world.run_until(2 * SECOND);
        let mut served = vec![0_u64; costs.len()];
        let mut last = vec![None; costs.len()];
        for (ticket, _) in &world.granted {
            let demand = &world.demands[ticket].0;
            let owner: usize = demand.owner.to_string().parse().unwrap();
            served[owner] += demand.charge.tokens;
            prop_assert!(last[owner] < Some(*ticket));
            last[owner] = Some(*ticket);
        }
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        prop_assert!(*least > 100, "{served:?}");
        // One turn, and the largest request.
        prop_assert!(most - least <= 10 + 2 * costs.iter().max().unwrap(), "{served:?}");
    }

    #[test]
    fn a_dear_request_is_not_passed_by_cheap_ones(tier in 1_usize..7, way in 0_u64..50 * MILLI) {
        let limits = tiers()[tier];
        let mut world = World::new(limits, vec![(way, way)]);
        let rate = limits.write.refill();
        for step in 0..rate {
            world.submit_at(step * 3 * SECOND / rate, one(WRITES, 10, Class::Normal));
        }
        world.submit_at(5 * SECOND / 2, one(WRITES, 200, Class::Normal).with_owner("dear"));
        world.run_until(1_000 * SECOND);
        let dear = world.demands.iter().find(|(_, (demand, _))| demand.charge.tokens == 200);
        let wait = world.wait_of(*dear.unwrap().0).unwrap();
        // Its turn comes after as many tokens of the other owner; then its own are refilled.
        let bound = limits.write.time_of(430) + 2 * way + 2 * MILLI;
        prop_assert!(wait <= bound, "{wait} > {bound}");
    }

    #[test]
    fn no_order_of_calls_loses_count(
        calls in prop::collection::vec((0_u8..7, 0_usize..40, 0_u64..50 * MILLI, classes()), 1..300),
    ) {
        let mut scheduler = Scheduler::new();
        let (mut now, mut waiting, mut granted) = (0, Vec::new(), Vec::new());
        for (call, index, pause, class) in calls {
            now += pause;
            match call {
                0..=2 => {
                    let demand = one(WRITES, 2 + index as u64, class).with_tag(index.to_string());
                    waiting.push(scheduler.submit(now, demand).unwrap());
                }
                3 if !granted.is_empty() => {
                    let ticket = granted.swap_remove(index % granted.len());
                    let completion = [
                        Completion::Sent, Completion::NotSent, Completion::RateLimited,
                    ][index % 3];
                    scheduler.complete(now, ticket, completion);
                    // A second end changes nothing.
                    scheduler.complete(now, ticket, completion);
                }
                4 if !granted.is_empty() => {
                    let ticket = granted.swap_remove(index % granted.len());
                    prop_assert!(scheduler.requeue(now, ticket));
                    waiting.push(ticket);
                }
                5 if !waiting.is_empty() => {
                    let ticket = waiting.swap_remove(index % waiting.len());
                    prop_assert!(scheduler.withdraw(ticket));
                    prop_assert!(!scheduler.withdraw(ticket));
                }
                _ => {
                    for ticket in scheduler.withdraw_tag(&index.to_string()) {
                        waiting.retain(|other| *other != ticket);
                    }
                }
            }
            for (ticket, verdict) in scheduler.run(now) {
                prop_assert!(verdict.is_ok());
                prop_assert!(waiting.contains(&ticket));
                waiting.retain(|other| *other != ticket);
                granted.push(ticket);
            }
            prop_assert_eq!(scheduler.waiting(), waiting.len());
        }
        // When all answers are in, everything goes.
        for _ in 0..100_000 {
            for ticket in granted.drain(..) {
                scheduler.complete(now, ticket, Completion::Sent);
            }
            granted.extend(scheduler.run(now).into_iter().map(|(ticket, _)| ticket));
            waiting.retain(|ticket| !granted.contains(ticket));
            match scheduler.next_wake() {
                Some(wake) if granted.is_empty() => now = now.max(wake),
                _ => {}
            }
            if waiting.is_empty() && granted.is_empty() {
                break;
            }
        }
        prop_assert_eq!(scheduler.waiting(), 0);
        let full = scheduler.limits(Lane::EventContracts).write.capacity();
        prop_assert_eq!(scheduler.available(now + 60 * SECOND, WRITES), full);
    }
}

/// Returns a scheduler of the lowest tier, in which `tokens` of the writes are on their way.
fn used(tokens: u64) -> (Scheduler, Ticket) {
    let mut scheduler = Scheduler::new();
    let ticket = scheduler.submit(0, one(WRITES, tokens, Class::Emergency)).unwrap();
    assert_eq!(scheduler.run(0), [(ticket, Ok(()))]);
    (scheduler, ticket)
}

#[test]
fn the_dearest_request_of_a_bucket_leaves_the_reserve() {
    let mut scheduler = Scheduler::new();
    let refused = |scheduler: &mut Scheduler, tokens, class| {
        scheduler.submit(0, one(WRITES, tokens, class)).err()
    };
    assert_eq!(
        refused(&mut scheduler, 99, Class::Normal),
        Some(Refusal::TooLarge { cost: 99, room: 98, fits: None })
    );
    scheduler.set_open_orders(1_000);
    assert_eq!(
        refused(&mut scheduler, 76, Class::Normal),
        Some(Refusal::TooLarge { cost: 76, room: 75, fits: None })
    );
    assert_eq!(refused(&mut scheduler, 75, Class::Normal), None);
    assert_eq!(refused(&mut scheduler, 100, Class::Urgent), None);
    assert_eq!(
        refused(&mut scheduler, 101, Class::Urgent),
        Some(Refusal::TooLarge { cost: 101, room: 100, fits: None })
    );
}

#[test]
fn a_batch_over_capacity_says_how_many_items_fit() {
    let mut charge = Charge::single(WRITES, 120);
    charge.batch = Some(crate::budget::BatchCharge { items: 12, tokens_per_item: 10 });
    let error = Scheduler::new().submit(0, Demand::new(charge, Class::Normal)).unwrap_err();
    assert_eq!(error, Refusal::TooLarge { cost: 120, room: 98, fits: Some(9) });
    assert!(error.to_string().contains("9 items fit"), "{error}");
}

#[test]
fn a_batch_that_waits_is_refused_when_its_room_goes() {
    let (mut scheduler, _) = used(100);
    let ticket = scheduler.submit(0, one(WRITES, 90, Class::Normal)).unwrap();
    assert_eq!(scheduler.run(0), []);
    scheduler.set_open_orders(50);
    let refusal = Refusal::TooLarge { cost: 90, room: 75, fits: None };
    assert_eq!(scheduler.run(0), [(ticket, Err(refusal))]);
    assert_eq!(scheduler.waiting(), 0);
}

#[test]
fn what_cannot_be_sent_in_time_is_refused_at_once_with_its_wait() {
    let (mut scheduler, first) = used(100);
    let late = |scheduler: &mut Scheduler, deadline| {
        scheduler.submit(0, one(WRITES, 10, Class::Urgent).with_deadline(deadline))
    };
    let Err(Refusal::TooLate { wait }) = late(&mut scheduler, 99 * MILLI) else { panic!() };
    assert_eq!(wait.as_millis(), 100);
    let second = late(&mut scheduler, 200 * MILLI).unwrap();
    // Others that wait count, too.
    assert!(late(&mut scheduler, 150 * MILLI).is_err());
    // The answer to the first is late, and the second cannot be sent in time.
    assert_eq!(scheduler.run(200 * MILLI), []);
    assert_eq!(scheduler.next_wake(), Some(200 * MILLI + 1));
    let verdicts = scheduler.run(200 * MILLI + 1);
    assert!(matches!(verdicts[..], [(ticket, Err(Refusal::TooLate { .. }))] if ticket == second));
    scheduler.complete(SECOND, first, Completion::Sent);
    assert_eq!(scheduler.waiting(), 0);
}

#[test]
fn after_a_429_the_bucket_is_empty_and_half_the_burst_is_used() {
    let (mut scheduler, first) = used(10);
    let second = scheduler.submit(0, one(WRITES, 10, Class::Emergency)).unwrap();
    assert!(scheduler.requeue(0, first));
    assert_eq!(scheduler.run(0), []);
    // Ten tokens are refilled in 100 ms; of half the burst none are left before.
    let wake = scheduler.next_wake().unwrap();
    assert_eq!(wake, 100 * MILLI);
    assert_eq!(scheduler.run(wake), [(first, Ok(()))], "the one that was refused is first");
    scheduler.complete(wake, first, Completion::Sent);
    let wake = scheduler.next_wake().unwrap();
    assert_eq!(scheduler.run(wake + 200 * MILLI), [(second, Ok(()))]);
    scheduler.complete(wake + 200 * MILLI, second, Completion::Sent);
    // The bucket is full again, and until the minute is over half of it is used.
    let now = 30 * SECOND;
    let half = scheduler.submit(now, one(WRITES, 50, Class::Urgent)).unwrap();
    assert_eq!(scheduler.run(now), [(half, Ok(()))]);
    let more = scheduler.submit(now, one(WRITES, 2, Class::Urgent)).unwrap();
    assert_eq!(scheduler.run(now), []);
    scheduler.complete(now, half, Completion::NotSent);
    assert_eq!(scheduler.run(now), [(more, Ok(()))]);
    scheduler.complete(now, more, Completion::NotSent);
    // A minute later the whole burst is used again.
    let now = 61 * SECOND;
    for tokens in [50, 40] {
        let ticket = scheduler.submit(now, one(WRITES, tokens, Class::Urgent)).unwrap();
        assert_eq!(scheduler.run(now), [(ticket, Ok(()))]);
    }
}

#[test]
fn a_request_that_was_not_sent_costs_nothing() {
    let (mut scheduler, first) = used(100);
    assert_eq!(scheduler.available(0, WRITES), 0);
    scheduler.complete(0, first, Completion::NotSent);
    assert_eq!(scheduler.available(0, WRITES), 100);
}

#[test]
fn the_waiting_requests_are_bounded() {
    let mut scheduler = Scheduler::new().with_max_waiting(2);
    for _ in 0..2 {
        scheduler.submit(0, one(WRITES, 10, Class::Bulk)).unwrap();
    }
    let full = scheduler.submit(0, one(WRITES, 10, Class::Normal));
    assert_eq!(full, Err(Refusal::QueueFull { waiting: 2 }));
    for _ in 0..2 {
        scheduler.submit(0, one(WRITES, 2, Class::Urgent)).unwrap();
    }
    let full = scheduler.submit(0, one(WRITES, 2, Class::Urgent));
    assert_eq!(full, Err(Refusal::QueueFull { waiting: 4 }));
}

#[test]
fn a_request_for_one_bucket_does_not_wait_for_another() {
    let (mut scheduler, _) = used(100);
    let blocked = scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
    let others: Vec<Ticket> = [READS, shard(1), shard(2)]
        .into_iter()
        .map(|key| scheduler.submit(0, one(key, 10, Class::Bulk)).unwrap())
        .collect();
    let granted: Vec<Ticket> = scheduler.run(0).into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(granted.len(), 3);
    assert!(others.iter().all(|ticket| granted.contains(ticket)) && !granted.contains(&blocked));
}

#[test]
fn a_routed_request_waits_for_all_of_its_buckets_and_is_not_passed_in_any() {
    let (mut scheduler, first) = used(100);
    let all = Charge::of([WRITES, shard(1)], 10).unwrap();
    let routed = scheduler.submit(0, Demand::new(all, Class::Normal)).unwrap();
    let later = scheduler.submit(0, one(shard(1), 10, Class::Normal)).unwrap();
    let cancel = scheduler.submit(0, one(shard(1), 2, Class::Urgent)).unwrap();
    assert_eq!(scheduler.run(0), [(cancel, Ok(()))], "a more urgent one passes");
    scheduler.complete(0, first, Completion::NotSent);
    assert_eq!(scheduler.run(0), [(routed, Ok(())), (later, Ok(()))]);
}

#[test]
fn a_new_limit_keeps_what_was_taken() {
    let (mut scheduler, first) = used(100);
    scheduler.complete(0, first, Completion::Sent);
    scheduler.set_limits(0, Lane::EventContracts, tiers()[1]);
    assert!((799..=801).contains(&scheduler.available(0, WRITES)));
    scheduler.set_limits(0, Lane::EventContracts, tiers()[0]);
    assert!(scheduler.available(0, WRITES) <= 1);
}

#[test]
fn shared_buckets_are_drawn_from_in_slices() {
    let mut scheduler = Scheduler::new().with_shared_buckets();
    scheduler.set_limits(0, Lane::EventContracts, tiers()[6]);
    let first = scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
    assert_eq!(scheduler.run(0), []);
    let slice = scheduler.wanted().unwrap();
    // 20 ms of 9,600 tokens a second.
    assert_eq!((slice.key, slice.least, slice.most), (WRITES, 10, 192));
    assert!(scheduler.wanted().is_none());
    scheduler.slice_granted(&slice, 192);
    assert_eq!(scheduler.run(0), [(first, Ok(()))]);
    // The rest of it is spent without asking.
    for _ in 0..18 {
        let ticket = scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
        assert_eq!(scheduler.run(0), [(ticket, Ok(()))]);
    }
    scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
    assert_eq!(scheduler.run(0), []);
    let slice = scheduler.wanted().unwrap();
    assert_eq!(slice.least, 8);
    scheduler.slice_denied(&slice, 5 * MILLI);
    assert_eq!(scheduler.run(0), []);
    assert_eq!((scheduler.wanted(), scheduler.next_wake()), (None, Some(5 * MILLI)));
    // A cancel asks for the reserve that the others left.
    scheduler.submit(0, one(WRITES, 10, Class::Urgent)).unwrap();
    assert_eq!(scheduler.run(0), []);
    let urgent = scheduler.wanted().unwrap();
    assert_eq!((urgent.is_urgent, urgent.reserve), (true, 0));
    assert!(slice.reserve >= 2);
}

#[test]
fn bulk_gets_no_more_than_its_share_before_normal_requests() {
    let mut world = World::new(tiers()[1], vec![(MILLI, MILLI)]);
    for _ in 0..400 {
        world.submit_at(0, one(WRITES, 10, Class::Normal));
        world.submit_at(0, one(WRITES, 10, Class::Bulk));
    }
    world.run_until(9 * SECOND);
    let class = |ticket: &Ticket| world.demands[ticket].0.class;
    let bulk = world.granted.iter().filter(|(ticket, _)| class(ticket) == Class::Bulk).count();
    let normal = world.granted.len() - bulk;
    assert!(normal > 300, "{normal}");
    assert!((normal / 21..=normal / 19 + 1).contains(&bulk), "{bulk} beside {normal}");
}

/// Returns a scheduler with a slice of 39 tokens.
fn with_slice() -> Scheduler {
    let mut scheduler = Scheduler::new().with_shared_buckets();
    scheduler.set_limits(0, Lane::EventContracts, tiers()[6]);
    let first = scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
    assert_eq!(scheduler.run(0), []);
    let slice = scheduler.wanted().unwrap();
    scheduler.slice_granted(&slice, 39);
    assert_eq!(scheduler.run(0), [(first, Ok(()))]);
    scheduler.complete(0, first, Completion::NotSent);
    scheduler
}

#[test]
fn what_was_not_sent_goes_back_to_its_slice_once() {
    let mut scheduler = with_slice();
    for _ in 0..3 {
        let ticket = scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
        assert_eq!(scheduler.run(0), [(ticket, Ok(()))]);
        // What was sent is spent.
        scheduler.complete(0, ticket, Completion::Sent);
    }
    // Nine are left: the fourth lacks one.
    scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
    assert_eq!(scheduler.run(0), []);
    assert_eq!(scheduler.wanted().map(|slice| slice.least), Some(1));
}

#[test]
fn after_a_429_a_slice_is_not_spent_on() {
    let mut scheduler = with_slice();
    let ticket = scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
    assert_eq!(scheduler.run(0), [(ticket, Ok(()))]);
    scheduler.complete(0, ticket, Completion::RateLimited);
    // By then the bucket is full again.
    let now = 100 * SECOND;
    scheduler.submit(now, one(WRITES, 10, Class::Normal)).unwrap();
    assert_eq!(scheduler.run(now), []);
    assert_eq!(scheduler.wanted().map(|slice| slice.least), Some(10));
}

#[test]
fn a_question_that_has_ended_is_asked_again_and_one_that_has_not_is_not() {
    for end in 0..4 {
        let mut scheduler = Scheduler::new().with_shared_buckets();
        let ask = |scheduler: &mut Scheduler, now| {
            assert_eq!(scheduler.run(now), []);
            scheduler.wanted()
        };
        scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
        let slice = ask(&mut scheduler, 0).unwrap();
        assert_eq!(ask(&mut scheduler, 0), None);
        match end {
            // Less than it needs.
            0 => scheduler.slice_granted(&slice, 5),
            1 => scheduler.slice_denied(&slice, MILLI),
            2 => scheduler.slice_abandoned(&slice),
            _ => {
                assert_eq!(scheduler.slice_failed(0, &slice, "no disk").len(), 1);
                scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
            }
        }
        let again = ask(&mut scheduler, MILLI).unwrap();
        assert_eq!(again.least, if end == 0 { 5 } else { 10 });
    }
}

#[test]
fn the_milliseconds_of_the_exchange_are_not_counted_on() {
    // At 300 tokens a second, ten take a third of a millisecond more than 33: the exchange, which
    // counts whole ones, has 9.9 of them in the 33rd.
    let mut world = World::new(tiers()[1], vec![(0, 0)]);
    for _ in 0..30 {
        world.submit_at(0, one(WRITES, 30, Class::Urgent));
        world.submit_at(SECOND / 2, one(WRITES, 10, Class::Urgent));
    }
    world.run_until(60 * SECOND);
    assert_eq!((world.granted.len(), world.limited), (60, 0));
}

#[test]
fn a_back_end_that_fails_refuses_all_but_urgent_requests() {
    let mut scheduler = Scheduler::new().with_shared_buckets();
    let create = scheduler.submit(0, one(WRITES, 10, Class::Normal)).unwrap();
    assert_eq!(scheduler.run(0), []);
    let slice = scheduler.wanted().unwrap();
    let refused = scheduler.slice_failed(0, &slice, "no disk");
    let reason = "no disk".to_owned();
    assert_eq!(refused, [(create, Err(Refusal::Backend { reason }))]);
    let cancel = scheduler.submit(0, one(WRITES, 2, Class::Urgent)).unwrap();
    assert_eq!(scheduler.run(0), [(cancel, Ok(()))]);
}

#[test]
fn without_a_place_only_urgent_requests_go() {
    let mut scheduler = Scheduler::new().with_max_in_flight(2);
    let submit =
        |scheduler: &mut Scheduler, key, class| scheduler.submit(0, one(key, 2, class)).unwrap();
    let first = submit(&mut scheduler, WRITES, Class::Normal);
    let second = submit(&mut scheduler, READS, Class::Bulk);
    // The places are those of all buckets together.
    let third = submit(&mut scheduler, shard(1), Class::Normal);
    let cancel = submit(&mut scheduler, WRITES, Class::Urgent);
    let all = submit(&mut scheduler, shard(1), Class::Emergency);
    let granted = scheduler.run(0);
    assert_eq!(granted, [(all, Ok(())), (cancel, Ok(())), (first, Ok(())), (third, Ok(()))]);
    assert_eq!((scheduler.waiting(), scheduler.next_wake()), (1, None));
    // An urgent one had none, and gives none back.
    scheduler.complete(0, cancel, Completion::Sent);
    scheduler.complete(0, all, Completion::NotSent);
    scheduler.claim(first);
    assert_eq!(scheduler.run(0), []);
    scheduler.complete(0, first, Completion::Sent);
    // A second end of it frees no second place.
    scheduler.complete(0, first, Completion::Sent);
    let fourth = submit(&mut scheduler, READS, Class::Bulk);
    assert_eq!(scheduler.run(0), [(second, Ok(()))]);
    // After a 429 it waits for a place again, in the first position.
    assert!(scheduler.requeue(0, third));
    assert_eq!(scheduler.run(0), [(fourth, Ok(()))]);
    scheduler.complete(0, fourth, Completion::NotSent);
    let wake = scheduler.run(0).is_empty().then(|| scheduler.next_wake()).flatten().unwrap();
    assert_eq!(scheduler.run(wake), [(third, Ok(()))]);
}

#[test]
fn what_is_granted_and_not_claimed_is_bounded_so_that_a_cancel_passes() {
    let mut scheduler = Scheduler::new().with_max_unclaimed(2);
    let creates: Vec<Ticket> =
        (0..5).map(|_| scheduler.submit(0, one(WRITES, 2, Class::Normal)).unwrap()).collect();
    assert_eq!(scheduler.run(0), [(creates[0], Ok(())), (creates[1], Ok(()))]);
    let cancel = scheduler.submit(0, one(WRITES, 2, Class::Urgent)).unwrap();
    assert_eq!(scheduler.run(0), [(cancel, Ok(()))]);
    scheduler.claim(cancel);
    assert_eq!(scheduler.run(0), [], "an urgent one took no place");
    scheduler.claim(creates[0]);
    scheduler.claim(creates[0]);
    assert_eq!(scheduler.run(0), [(creates[2], Ok(()))], "one that is claimed twice gives one");
    // One that ends unclaimed gives its place back, and one that was claimed not again.
    scheduler.complete(0, creates[1], Completion::NotSent);
    scheduler.complete(0, creates[0], Completion::Sent);
    assert_eq!(scheduler.run(0), [(creates[3], Ok(()))]);
    // What waits cannot be claimed.
    scheduler.claim(creates[4]);
    assert_eq!(scheduler.run(0), []);
    scheduler.claim(creates[2]);
    assert_eq!(scheduler.run(0), [(creates[4], Ok(()))]);
}

#[test]
fn every_signed_operation_has_a_class_that_fits_it() {
    use kalshi_sdk::OperationId as Id;
    for (id, class) in [
        (Id::CancelAllOrders, Class::Emergency),
        (Id::TriggerOrderGroup, Class::Emergency),
        (Id::CancelOrderV2, Class::Urgent),
        (Id::BatchCancelOrdersV2, Class::Urgent),
        (Id::DecreaseOrderV2, Class::Urgent),
        (Id::DeleteOrderGroup, Class::Urgent),
        (Id::DeleteRfqQuote, Class::Urgent),
        (Id::CreateOrderV2, Class::Normal),
        (Id::BatchCreateOrdersV2, Class::Normal),
        (Id::AmendOrderV2, Class::Normal),
        (Id::ConfirmRfqQuote, Class::Normal),
        (Id::CreateQuote, Class::Normal),
        (Id::GetOrders, Class::Normal),
        (Id::ResetOrderGroup, Class::Bulk),
        (Id::GetFillsHistorical, Class::Bulk),
    ] {
        assert_eq!(Class::of(id.operation()), class, "{id}");
    }
}

#[cfg(feature = "perps")]
#[test]
fn operations_of_perpetual_futures_have_the_classes_of_their_likes() {
    use kalshi_sdk::perps::OperationId as Id;
    for (id, class) in [
        (Id::CancelAllMarginOrders, Class::Emergency),
        (Id::TriggerMarginOrderGroup, Class::Emergency),
        (Id::CancelMarginOrder, Class::Urgent),
        (Id::DecreaseMarginOrder, Class::Urgent),
        (Id::DeleteMarginOrderGroup, Class::Urgent),
        (Id::UpdateMarginOrderGroupLimit, Class::Urgent),
        (Id::CreateMarginOrder, Class::Normal),
        (Id::AmendMarginOrder, Class::Normal),
        // A stop that waits behind bulk writes stops nothing.
        (Id::SetCrossMarginExitTrigger, Class::Normal),
        (Id::UpdateCrossMarginExitTrigger, Class::Normal),
        (Id::SetIsolatedMarginExitTrigger, Class::Normal),
        (Id::DeleteCrossMarginExitTriggerById, Class::Normal),
        (Id::GetMarginOrders, Class::Normal),
    ] {
        assert_eq!(Class::of(id.operation()), class, "{id}");
    }
}

/// Time, number, client, ticket, and true if it arrives at the exchange, else at the client.
type Way = (Nanos, u64, usize, Ticket, bool);

/// Several clients of one account that share their buckets, and the exchange.
struct Cluster {
    limits: LaneLimits,
    shared: Gcra,
    schedulers: Vec<Scheduler>,
    exchange: Exchange,
    /// Requests and answers that are under way.
    ways: BinaryHeap<Reverse<Way>>,
    delays: Vec<(Nanos, Nanos)>,
    sent: u64,
    limited: u64,
}

impl Cluster {
    const COST: u64 = 10;

    fn new(limits: LaneLimits, clients: usize, delays: Vec<(Nanos, Nanos)>) -> Self {
        let mut scheduler = Scheduler::new().with_shared_buckets();
        scheduler.set_limits(0, Lane::EventContracts, limits);
        Self {
            limits,
            shared: Gcra::full(),
            schedulers: vec![scheduler; clients],
            exchange: Exchange::default(),
            ways: BinaryHeap::new(),
            delays,
            sent: 0,
            limited: 0,
        }
    }

    fn charge() -> Charge {
        Charge::single(WRITES, Self::COST)
    }

    /// Sends what the clients have tokens for.
    fn send(&mut self, now: Nanos) {
        for client in 0..self.schedulers.len() {
            let scheduler = &mut self.schedulers[client];
            while scheduler.waiting() < 3 {
                scheduler.submit(now, Demand::new(Self::charge(), Class::Normal)).unwrap();
            }
            loop {
                let granted = scheduler.run(now);
                let mut has_news = !granted.is_empty();
                for (ticket, _) in granted {
                    let way =
                        self.delays[usize::try_from(self.sent).unwrap() % self.delays.len()].0;
                    self.sent += 1;
                    self.ways.push(Reverse((now + way, self.sent, client, ticket, true)));
                    scheduler.submit(now, Demand::new(Self::charge(), Class::Normal)).unwrap();
                }
                while let Some(slice) = scheduler.wanted() {
                    match take_slice(&mut self.shared, now, &slice) {
                        Grant::Tokens(tokens) => {
                            scheduler.slice_granted(&slice, tokens);
                            has_news = true;
                        }
                        Grant::Wait(wait) => scheduler.slice_denied(&slice, now + wait),
                    }
                }
                if !has_news {
                    break;
                }
            }
        }
    }

    fn run(&mut self, start: Nanos, end: Nanos) {
        for now in (start..end).step_by(usize::try_from(MILLI).unwrap()) {
            while let Some(Reverse((time, _, client, ticket, arrives))) = self.ways.peek().copied()
                && time <= now
            {
                self.ways.pop();
                if arrives {
                    let is_admitted = self.exchange.admit(&Self::charge(), self.limits, time);
                    let back = self.delays
                        [(usize::try_from(self.sent).unwrap() * 7 + 3) % self.delays.len()]
                    .1;
                    self.sent += 1;
                    if is_admitted {
                        self.ways.push(Reverse((time + back, self.sent, client, ticket, false)));
                    } else {
                        self.limited += 1;
                        self.shared = Gcra::empty(now, self.limits.write);
                        self.schedulers[client].complete(now, ticket, Completion::RateLimited);
                    }
                } else {
                    self.schedulers[client].complete(now, ticket, Completion::Sent);
                }
            }
            self.send(now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn clients_with_shared_buckets_use_them_and_are_not_answered_with_429(
        tier in 0_usize..4,
        clients in prop::sample::select(vec![1_usize, 2, 8]),
        // Many requests that are slow, and then many that overtake them.
        ways in prop::collection::vec((prop::bool::ANY, 0_u64..100 * MILLI, 1_usize..400), 2..6),
    ) {
        let limits = tiers()[tier];
        let delays = ways
            .into_iter()
            .flat_map(|(is_slow, back, count)| {
                let way = if is_slow { 100 * MILLI } else { 0 };
                std::iter::repeat_n((way, back), count)
            })
            .collect();
        let mut cluster = Cluster::new(limits, clients, delays);
        cluster.run(0, 2 * SECOND);
        let before = cluster.exchange.admitted;
        cluster.run(2 * SECOND, 12 * SECOND);
        let admitted = cluster.exchange.admitted - before;
        let possible = 10 * limits.write.refill();
        prop_assert!(admitted * 100 >= possible * 95, "{admitted} of {possible}");
        // What is left of the burst takes up the differences on the way.
        prop_assert_eq!(cluster.limited, 0);
    }
}

#[test]
fn a_burst_of_several_clients_may_be_overtaken() {
    // The first burst is slow, and what is sent after it arrives before.
    let mut delays = vec![(100 * MILLI, 0); 90];
    delays.extend(vec![(0, 0); 10_000]);
    for clients in [2, 8] {
        let mut cluster = Cluster::new(tiers()[1], clients, delays.clone());
        cluster.run(0, SECOND);
        assert_eq!(cluster.limited, 0, "{clients} clients");
    }
}
