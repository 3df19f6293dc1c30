use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kalshi_sim::{Ending, Exchange, Role, StreamFaults};
use kalshi_ws::{EventContracts, Overflow};
use tokio::{sync::oneshot, task::spawn_blocking, time::Instant};

use super::{
    CAPACITY, MERGED, PATIENCE, STRETCH,
    client::{self, Order, Running},
    detour::Detour,
    levels::Random,
    markets::Markets,
    observer::Observer,
    played::Played,
};

/// The number of events of each client, by kind.
pub(super) type Counts = BTreeMap<&'static str, BTreeMap<&'static str, u64>>;

/// The exchange, the observer and the clients.
pub(super) struct World<P> {
    exchange: Arc<Exchange>,
    markets: Arc<Markets>,
    pub(super) observer: Observer<P>,
    clients: Vec<Running>,
    /// The roles whose connections meet faults.
    pub(super) victims: Vec<Role>,
    /// The way of the second merged connection.
    detour: Detour,
    /// The merged connections that covered every book at the last rest.
    coverage: usize,
    random: Random,
}

impl<P: Played> World<P> {
    /// Starts an exchange with two clients of one connection each.
    pub(super) async fn start(seed: u64) -> Self {
        let mut world = Self::without_clients(seed).await;
        for (role, overflow) in
            [(Role::Trader, Overflow::Block), (Role::Reader, Overflow::DropOldest)]
        {
            let client = client::start::<P>(&world.exchange, &world.markets, role, overflow);
            world.clients.push(client.await);
        }
        world
    }

    async fn without_clients(seed: u64) -> Self {
        let exchange = Arc::new(P::exchange(seed, CAPACITY).await);
        let markets = Arc::new(Markets::of::<P>(&exchange).await);
        let observer = Observer::connect(&exchange, &markets).await;
        let detour = Detour::to(&exchange).await;
        let (clients, victims, random) = (Vec::new(), vec![Role::Trader], Random(seed));
        Self { exchange, markets, observer, clients, victims, detour, coverage: 0, random }
    }

    /// Sets faults that lose, repeat or reorder messages, at rates that differ each time.
    pub(super) fn set_faults(&mut self) {
        let mut rate = |most: u64| match self.random.below(3) {
            0 => 0,
            _ => 200 + self.random.below(most),
        };
        let mut faults = StreamFaults::default();
        faults.drop_one_in = rate(4_000);
        faults.duplicate_one_in = rate(4_000);
        faults.swap_one_in = rate(4_000);
        faults.seed = self.random.below(u64::MAX);
        faults.ack_delay = Duration::from_millis([0, 0, 20][self.random.index(3)]);
        faults.data_before_ack = self.random.below(2) == 0;
        faults.replies_take_no_number = self.random.below(2) == 0;
        faults.errors_name_nothing = self.random.below(2) == 0;
        if self.victims.contains(&Role::Trader) {
            self.exchange.streams().set_faults(Role::Trader, faults).unwrap();
        }
        if self.victims.contains(&Role::Maker) {
            self.detour.lose_one_in.store(200 + self.random.below(4_000), Ordering::Relaxed);
        }
    }

    /// Lets the traders trade; the observer sees what follows.
    pub(super) async fn trade(&mut self, commands: u64) {
        let exchange = Arc::clone(&self.exchange);
        spawn_blocking(move || P::run_traders(&exchange, commands)).await.unwrap();
        self.observer.catch_up().await;
    }

    pub(super) async fn trade_until(&mut self, deltas: u64) {
        while self.observer.deltas < deltas {
            self.trade(STRETCH).await;
            self.all_run();
        }
    }

    fn all_run(&self) {
        for (name, _, task) in &self.clients {
            assert!(!task.is_finished(), "{name} has failed: see above");
        }
    }

    fn order(&self, order: impl Fn() -> Order) {
        for (_, orders, _) in &self.clients {
            // A client that is gone has failed, and is found out.
            let _ = orders.send(order());
        }
    }

    fn each_victim(&self, does: impl Fn(&Exchange, Role)) {
        for role in &self.victims {
            match role {
                Role::Maker => self.detour.cut.send_replace(()),
                role => does(&self.exchange, *role),
            }
        }
    }

    /// Causes a large fault.
    pub(super) async fn disaster(&mut self, which: u64) {
        match which {
            0 => self.each_victim(|exchange, role| exchange.streams().cut(role).unwrap()),
            1 => self.each_victim(|exchange, role| exchange.streams().silence(role).unwrap()),
            2 => {
                for _ in 0..10 {
                    let place = self.random.index(P::MARKETS);
                    self.order(|| Order::TakeOut(place));
                }
                self.trade(STRETCH).await;
                self.order(|| Order::Everything);
            }
            3 => {
                // Long enough to fill every buffer on the way.
                let mut awake = Vec::new();
                for (_, orders, _) in &self.clients {
                    let (sender, receiver) = oneshot::channel();
                    awake.push(sender);
                    let _ = orders.send(Order::Sleep(receiver));
                }
                let enough = self.observer.deltas + 60_000;
                self.trade_until(enough).await;
            }
            4 => {
                let ending = [Ending::ChannelError, Ending::BufferOverflow][self.random.index(2)];
                self.each_victim(|exchange, role| {
                    exchange.streams().end_subscriptions(role, ending).unwrap();
                });
            }
            _ => {
                let down_for = Duration::from_millis(500);
                self.each_victim(|exchange, role| {
                    exchange.streams().restart(role, down_for).unwrap();
                });
            }
        }
    }

    /// Rests until each merged connection covers every book, so that one of them can be lost.
    pub(super) async fn rest_covered(&mut self) -> Counts {
        let began = Instant::now();
        loop {
            let events = self.rest().await;
            if self.coverage >= MERGED.len() {
                return events;
            }
            assert!(began.elapsed() < PATIENCE, "never covered: {events:?}");
        }
    }

    /// Stops the exchange and its faults, and checks that all clients agree.
    pub(super) async fn rest(&mut self) -> Counts {
        self.exchange.streams().set_faults(Role::Trader, StreamFaults::default()).unwrap();
        self.detour.lose_one_in.store(0, Ordering::Relaxed);
        self.order(|| Order::Everything);
        // A loss shows by what comes after it.
        let before = self.observer.deltas;
        self.trade(STRETCH / 5).await;
        assert!(self.observer.deltas > before);
        P::set_trading(&self.exchange, false);
        self.observer.catch_up().await;
        let truth = P::exchange_books(&self.exchange, &self.markets).await;
        assert!(truth == self.observer.books, "the observer is no truth");
        let mut events = BTreeMap::new();
        for (name, orders, _) in &self.clients {
            let (sender, receiver) = oneshot::channel();
            let _ = orders.send(Order::Settle(sender));
            let seen = receiver.await.unwrap_or_else(|_| panic!("{name} has failed: see above"));
            for ((ours, theirs), ticker) in
                seen.levels.iter().zip(&truth).zip(&self.markets.tickers)
            {
                assert_eq!(ours, theirs, "{name}: {ticker}");
            }
            self.observer.check(name, &seen);
            if *name == "merged" {
                self.observer.check_changes(name, &seen);
                self.coverage = seen.coverage;
            }
            events.insert(*name, seen.events);
        }
        self.observer.begin();
        P::set_trading(&self.exchange, true);
        events
    }
}

impl World<EventContracts> {
    /// Starts an exchange with a client of two merged connections.
    pub(super) async fn start_merged(seed: u64, stale_after: Duration) -> Self {
        let mut world = Self::without_clients(seed).await;
        let merged =
            client::start_merged(&world.exchange, &world.markets, &world.detour, stale_after);
        world.clients.push(merged.await);
        world
    }
}
