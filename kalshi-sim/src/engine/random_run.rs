//! Random commands for the engine of any product, and what must hold after each: one source, in
//! which [`Subject`] says what differs.
//!
//! A reply says what reads say, a refusal changes nothing, a limit is kept, a reduce-only order only
//! reduces. Books are what their events add up to and hold what rests, queues keep their order,
//! groups that were triggered hold nothing, and fills say what their orders say. The money is the
//! product's: its audit, and what it checks beyond that.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars};

use crate::{
    engine::{
        OrderGroups,
        amount::SaturatingArithmetic,
        command::{Command, Done},
        ids::{AccountId, GroupId, MarketId, OrderId},
        types::{
            Amend, Decrease, Event, NewOrder, OrderStatus, Reason, Refusal, Route, SelfTrade,
            Shard, Side, Subaccount, Time, TimeInForce,
        },
    },
    random::Random,
};

/// The time at which every run begins.
pub(crate) const START: i64 = 1_790_000_000_000;
/// Groups that are kept to use.
const GROUPS: usize = 20;

/// Reads a number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A fill: its order, its contracts and its fee.
pub(crate) type Filled = (OrderId, Count, Dollars);

/// The engine of a product under random commands.
pub(crate) trait Subject: OrderGroups {
    /// The state of the product's own commands.
    type Own;
    /// The percentage of commands that are the product's own.
    const OWN: u64;
    /// The longest time between two commands, in milliseconds.
    const STEP_MILLIS: u64;
    /// Time after which an order expires that does, in milliseconds.
    const EXPIRES_AFTER: i64;
    /// One in this many refusals is compared with what was before: it costs a copy of the money.
    const COMPARED_ONE_IN: u64;
    /// A command may set off trades with what it leaves resting.
    const SETS_OFF_TRADES: bool;

    /// Returns an engine with accounts that have cash, and the state of the product's own commands.
    fn begin() -> (Self, Vec<AccountId>, Self::Own);

    /// Does what is to be done before the first command.
    fn prepare(run: &mut Run<Self>);

    /// Picks the market of an order: mostly one that trades.
    fn pick_market(run: &mut Run<Self>) -> Option<MarketId>;

    /// Returns a price for an order, mostly one at which orders meet.
    fn price(run: &mut Run<Self>, market: MarketId) -> Dollars;

    /// Returns a count for an order.
    fn count(run: &mut Run<Self>, market: MarketId) -> Count;

    /// Returns the limit of a group.
    fn group_limit(run: &mut Run<Self>) -> Count;

    /// Executes a command of the product's own. Returns false if there is nothing to do.
    fn own(run: &mut Run<Self>) -> bool;

    /// Takes note of a command that was carried out.
    fn carried_out(run: &mut Run<Self>, command: &Command);

    /// Checks what holds for the product.
    fn check_own(run: &Run<Self>);

    fn carry_out(&mut self, command: &Command, now: Time) -> Result<Done, Refusal>;

    /// Takes the events of the matching since the last call.
    fn matching_events(&mut self) -> Vec<Event>;

    fn audited(&self) -> Result<(), String>;

    fn market_ids(&self) -> Vec<MarketId>;

    fn ticker_and_shard(&self, market: MarketId) -> (String, Shard);

    /// Returns every order of an account, oldest first, and those that rest.
    fn orders_of(&self, account: AccountId) -> (&[OrderId], &BTreeSet<OrderId>);

    fn fills_of(&self, account: AccountId) -> Vec<Filled>;

    /// Returns the contracts of a position that an order of a side closes.
    fn closable(&self, key: (AccountId, Subaccount), market: MarketId, side: Side) -> Count;

    /// Returns all that a refusal must leave as it was: balances, resting orders, the number of
    /// orders and trades. `None` while something else may change at any command.
    fn money(&self) -> Option<Vec<String>>;
}

/// A run: an engine, its commands, and the state that its events add up to.
pub(crate) struct Run<S: Subject> {
    pub(crate) engine: S,
    pub(crate) own: S::Own,
    pub(crate) random: Random,
    pub(crate) now: i64,
    pub(crate) accounts: Vec<AccountId>,
    /// How many commands were done, and how many were refused with each code.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) ids: u64,
    groups: Vec<(AccountId, GroupId, Subaccount)>,
    /// Books rebuilt from the events alone.
    books: BTreeMap<(MarketId, Side), BTreeMap<Dollars, Count>>,
}

impl<S: Subject> Run<S> {
    pub(crate) fn new(seed: u64) -> Self {
        let (engine, accounts, own) = S::begin();
        let mut run = Self {
            engine,
            own,
            random: Random::new(seed),
            now: START,
            accounts,
            counts: BTreeMap::new(),
            ids: 0,
            groups: Vec::new(),
            books: BTreeMap::new(),
        };
        S::prepare(&mut run);
        run
    }

    /// Sends random commands, and checks everything now and then.
    pub(crate) fn send(&mut self, commands: u64, check_every: u64) {
        let mut number = 0;
        while number < commands {
            if !self.step() {
                continue;
            }
            number += 1;
            if number % check_every == 0 {
                self.check();
            }
        }
        self.check();
    }

    /// Executes one command. Returns false if there is nothing to do.
    pub(crate) fn step(&mut self) -> bool {
        if self.random.below(100) < S::OWN {
            return S::own(self);
        }
        let Some(command) = self.command() else { return false };
        self.execute(&command);
        true
    }

    pub(crate) fn below(&mut self, bound: u64) -> i64 {
        i64::try_from(self.random.below(bound)).unwrap()
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        // The state of the generator is the same whether or not there is something to pick.
        let place = self.random.below(u64::try_from(from.len().max(1)).unwrap());
        from.get(usize::try_from(place).unwrap()).copied()
    }

    pub(crate) fn account(&mut self) -> AccountId {
        let accounts = self.accounts.clone();
        self.pick(&accounts).unwrap()
    }

    pub(crate) fn subaccount(&mut self) -> Subaccount {
        u8::try_from(self.random.below(2)).unwrap()
    }

    /// Returns a new number for an id.
    pub(crate) fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Returns an order of a random account: mostly one that rests; else any, also one that is long
    /// gone.
    fn own_order(&mut self) -> Option<(AccountId, Subaccount, OrderId)> {
        let account = self.account();
        let any = self.chance(8);
        let (orders, resting) = self.engine.orders_of(account);
        let orders: Vec<OrderId> = if any {
            orders.iter().rev().take(50).copied().collect()
        } else {
            resting.iter().copied().collect()
        };
        let order = self.pick(&orders)?;
        let subaccount = self.engine.find_order(order)?.subaccount;
        Some((account, subaccount, order))
    }

    fn command(&mut self) -> Option<Command> {
        let account = self.account();
        let subaccount = self.subaccount();
        Some(match self.random.below(91) {
            0..55 => Command::Place(self.order(account, subaccount)?),
            55..65 => Command::Amend(self.amendment()?),
            65..72 => {
                let (account, subaccount, order) = self.own_order()?;
                let market = self.engine.find_order(order)?.market;
                let route = self.route_of(market);
                let count = S::count(self, market);
                let decrease =
                    if self.chance(2) { Decrease::By(count) } else { Decrease::To(count) };
                Command::Decrease { account, subaccount, order, decrease, route }
            }
            72..86 => {
                let (account, subaccount, order) = self.own_order()?;
                let market = self.engine.find_order(order)?.market;
                Command::Cancel { account, subaccount, order, route: self.route_of(market) }
            }
            86 => {
                let subaccount = (!self.chance(4)).then_some(subaccount);
                Command::CancelAll { account, subaccount }
            }
            87..89 => {
                let shard = u8::try_from(self.random.below(2)).unwrap();
                Command::CreateGroup { account, subaccount, shard, limit: S::group_limit(self) }
            }
            _ => {
                let groups = self.groups.clone();
                let (account, group, subaccount) = self.pick(&groups)?;
                let shard = self.engine.order_groups().get(&group)?.shard;
                match self.random.below(4) {
                    0 => Command::DeleteGroup { account, group, subaccount, shard },
                    1 => Command::TriggerGroup { account, group, subaccount, shard },
                    _ => Command::ResetGroup { account, group, subaccount, shard },
                }
            }
        })
    }

    fn route_of(&mut self, market: MarketId) -> Route {
        let (ticker, shard) = self.engine.ticker_and_shard(market);
        match self.random.below(3) {
            0 => Route { exchange_index: Some(i64::from(shard)), ticker: None },
            1 => Route { exchange_index: None, ticker: Some(ticker) },
            _ => Route { exchange_index: Some(-1), ticker: Some(ticker) },
        }
    }

    fn order(&mut self, account: AccountId, subaccount: Subaccount) -> Option<NewOrder> {
        let market = S::pick_market(self)?;
        let (ticker, _) = self.engine.ticker_and_shard(market);
        let time_in_force = match self.random.below(6) {
            0 => TimeInForce::ImmediateOrCancel,
            1 => TimeInForce::FillOrKill,
            _ => TimeInForce::GoodTillCanceled,
        };
        let id = self.id();
        let client_order_id = match self.random.below(4) {
            0 => None,
            1 => Some(format!("n{}", self.random.below(id))),
            _ => Some(format!("n{id}")),
        };
        let expires = (time_in_force == TimeInForce::GoodTillCanceled && self.chance(6))
            .then(|| Time::from_millis(self.now + S::EXPIRES_AFTER));
        // Refused with any other time in force.
        let reduces = S::REDUCE_ONLY.0.contains(&time_in_force);
        let groups: Vec<GroupId> = self
            .groups
            .iter()
            .filter(|(owner, _, number)| *owner == account && *number == subaccount)
            .map(|(_, group, _)| *group)
            .collect();
        Some(NewOrder {
            account,
            subaccount,
            ticker,
            side: if self.chance(2) { Side::Bid } else { Side::Ask },
            price: S::price(self, market),
            count: S::count(self, market),
            time_in_force,
            self_trade: if self.chance(2) { SelfTrade::Maker } else { SelfTrade::TakerAtCross },
            client_order_id,
            expires,
            post_only: self.chance(8),
            reduce_only: self.chance(if reduces { 2 } else { 50 }),
            cancel_on_pause: self.chance(2),
            group: if self.chance(4) { self.pick(&groups) } else { None },
            route: Route::default(),
        })
    }

    fn amendment(&mut self) -> Option<Amend> {
        let (account, subaccount, order) = self.own_order()?;
        let found = self.engine.find_order(order)?.clone();
        let (ticker, _) = self.engine.ticker_and_shard(found.market);
        let count = match self.random.below(4) {
            0 => found.filled,
            1 => found.filled.saturating_add(found.remaining),
            _ => found.filled.saturating_add(S::count(self, found.market)),
        };
        let expires = match self.random.below(6) {
            0 => Some(None),
            1 => Some(Some(Time::from_millis(self.now + 2 * S::EXPIRES_AFTER))),
            _ => None,
        };
        let id = self.id();
        let renamed = self.chance(5).then(|| format!("a{id}"));
        Some(Amend {
            account,
            subaccount,
            order,
            ticker,
            side: found.side,
            price: if self.chance(2) { found.price } else { S::price(self, found.market) },
            count,
            client_order_id: None,
            updated_client_order_id: renamed,
            expires,
            route: Route::default(),
        })
    }

    /// Lets a random time pass, with its events, and returns the time of the next command.
    pub(crate) fn pass_time(&mut self) -> Time {
        self.now += self.below(S::STEP_MILLIS);
        let now = Time::from_millis(self.now);
        self.engine.pass_time(now);
        self.read_events();
        now
    }

    /// Counts a command under `done`, or the code of its refusal.
    pub(crate) fn note<T>(&mut self, done: &'static str, result: &Result<T, Refusal>) {
        let name = result.as_ref().err().map_or(done, |refusal| refusal.code);
        *self.counts.entry(name).or_default() += 1;
    }

    /// Executes one command and checks what must hold after any.
    pub(crate) fn execute(&mut self, command: &Command) {
        // The events of time alone come first, so that a refusal can be seen to change nothing.
        let now = self.pass_time();
        let before = if self.chance(S::COMPARED_ONE_IN) { self.engine.money() } else { None };
        let reducible = self.reducible(command);
        let result = self.engine.carry_out(command, now);
        if let (Some(reducible), Ok(Done::Executed(done))) = (reducible, &result) {
            assert!(done.filled <= reducible, "{done:?} of {reducible}");
            assert!(done.remaining.is_zero(), "a reduce-only order rests");
        }
        self.note("done", &result);
        match result {
            Ok(done) => {
                self.replied(command, done);
                S::carried_out(self, command);
            }
            Err(refusal) => {
                assert!(!refusal.code.is_empty() && !refusal.message.is_empty());
                if let Some(before) = before {
                    // Empty positions may have come into being; the money is what counts.
                    assert_eq!(Some(before), self.engine.money(), "{refusal:?}");
                }
            }
        }
        self.read_events();
    }

    /// Returns the contracts that a reduce-only order can close, before it is placed.
    fn reducible(&self, command: &Command) -> Option<Count> {
        let Command::Place(new) = command else { return None };
        if !new.reduce_only {
            return None;
        }
        let mut markets = self.engine.market_ids().into_iter();
        let market = markets.find(|id| self.engine.ticker_and_shard(*id).0 == new.ticker)?;
        Some(self.engine.closable((new.account, new.subaccount), market, new.side))
    }

    fn replied(&mut self, command: &Command, done: Done) {
        match (command, done) {
            (Command::Place(new), Done::Executed(done)) => {
                let order = self.engine.find_order(done.order).expect("a placed order can be read");
                self.is_read(done.order, done.filled, done.remaining);
                if !S::SETS_OFF_TRADES {
                    assert_eq!(order.extras().taker_fees, done.fees);
                }
                assert!(new.reduce_only || order.initial == new.count);
                let resting = order.status == OrderStatus::Resting;
                match new.time_in_force {
                    TimeInForce::GoodTillCanceled => {}
                    TimeInForce::ImmediateOrCancel => assert!(!resting),
                    TimeInForce::FillOrKill => {
                        assert!(!resting);
                        let whole = order.filled == order.initial;
                        let stopped = matches!(
                            order.reason,
                            Reason::SelfTradeCancel
                                | Reason::OrderGroupCancel
                                | Reason::ReduceOnlyCancel
                                | Reason::ImmediateOrCancel
                        );
                        assert!(whole || order.filled.is_zero() || stopped, "{order:?}");
                    }
                }
                if new.post_only {
                    assert!(done.filled.is_zero());
                }
                self.at_limit(done.order, done.value, done.filled);
                if new.reduce_only && done.filled.is_positive() {
                    self.note("reduced", &Ok(()));
                }
            }
            (Command::Amend(amend), Done::Executed(done)) => {
                let order = self.engine.find_order(amend.order).expect("it was there before");
                assert!(order.filled <= amend.count);
                self.is_read(amend.order, done.filled, done.remaining);
                self.at_limit(amend.order, done.value, done.filled);
                self.note("amended", &Ok(()));
            }
            (Command::Decrease { order, .. }, Done::Count(left)) => {
                self.is_read(*order, Count::ZERO, left);
                self.note("decreased", &Ok(()));
            }
            (Command::Cancel { order, .. }, Done::Count(_)) => {
                let order = self.engine.find_order(*order).unwrap();
                assert_eq!(order.status, OrderStatus::Canceled);
                self.note("canceled", &Ok(()));
            }
            (Command::CreateGroup { account, subaccount, .. }, Done::Group(group)) => {
                self.groups.push((*account, group, *subaccount));
                if self.groups.len() > GROUPS {
                    self.groups.remove(0);
                }
            }
            _ => {}
        }
    }

    /// Checks that an order can be read as a reply said it is: at least `filled`, and `remaining`
    /// unless the command has set off trades with it.
    fn is_read(&self, order: OrderId, filled: Count, remaining: Count) {
        let order = self.engine.find_order(order).unwrap();
        assert!(order.filled >= filled);
        if S::SETS_OFF_TRADES {
            assert!(order.remaining <= remaining, "{remaining} of {order:?}");
        } else {
            assert_eq!(order.remaining, remaining);
        }
        assert_eq!(order.status == OrderStatus::Resting, order.remaining.is_positive());
    }

    /// Checks that an account pays no more than the limit.
    fn at_limit(&self, order: OrderId, value: Dollars, filled: Count) {
        let order = self.engine.find_order(order).unwrap();
        let limit = order.price.checked_mul_count(filled).unwrap();
        match order.side {
            Side::Bid => assert!(value <= limit),
            Side::Ask => assert!(value >= limit),
        }
    }

    /// Takes the events into the books that are rebuilt from them.
    pub(crate) fn read_events(&mut self) {
        for event in self.engine.matching_events() {
            if let Event::Level { market, side, price, delta, .. } = event {
                let levels = self.books.entry((market, side)).or_default();
                let level = levels.entry(price).or_default();
                *level = level.saturating_add(delta);
                assert!(!level.is_negative(), "a level below zero");
                if level.is_zero() {
                    levels.remove(&price);
                }
            }
        }
    }

    pub(crate) fn check(&self) {
        self.engine.audited().unwrap();
        for market in self.engine.market_ids() {
            for side in [Side::Bid, Side::Ask] {
                let from_events = self.books.get(&(market, side)).cloned().unwrap_or_default();
                let book = self.engine.book(market).unwrap();
                let there: BTreeMap<Dollars, Count> =
                    book.levels(side).map(|level| (level.price, level.count)).collect();
                assert_eq!(from_events, there, "{market:?} {side:?}");
                self.check_queue(market, side);
            }
        }
        for account in &self.accounts {
            self.check_orders(*account);
        }
        S::check_own(self);
    }

    /// Checks that orders at a price trade in the order of their entry, and that the book agrees
    /// with the orders.
    fn check_queue(&self, market: MarketId, side: Side) {
        let mut last: Option<(Dollars, u64)> = None;
        for (price, id, count) in self.engine.book(market).unwrap().orders(side) {
            let order = self.engine.find_order(id).unwrap();
            assert_eq!((order.status, order.remaining), (OrderStatus::Resting, count));
            assert_eq!((order.price, order.side), (price, side));
            if let Some((before, place)) = last
                && before == price
            {
                assert!(place < order.queue_priority, "the queue is out of order");
            }
            last = Some((price, order.queue_priority));
            if let Some(group) = order.extras().group {
                let group = self.engine.order_groups().get(&group);
                let group = group.expect("a resting order's group is there");
                assert!(!group.triggered && group.orders.contains(&id));
            }
        }
    }

    /// Checks that what rests is what an account is said to have resting, and that fills say what
    /// orders say.
    fn check_orders(&self, account: AccountId) {
        let (orders, resting) = self.engine.orders_of(account);
        let is_resting = |order: &OrderId| {
            self.engine.find_order(*order).unwrap().status == OrderStatus::Resting
        };
        let found: Vec<OrderId> = orders.iter().copied().filter(is_resting).collect();
        assert_eq!(found, resting.iter().copied().collect::<Vec<_>>());
        let mut filled: BTreeMap<OrderId, (Count, Dollars)> = BTreeMap::new();
        for (order, count, fee) in self.engine.fills_of(account) {
            let sums = filled.entry(order).or_default();
            sums.0 = sums.0.saturating_add(count);
            sums.1 = sums.1.saturating_add(fee);
        }
        for id in orders {
            let order = self.engine.find_order(*id).unwrap();
            let (count, fees) = filled.get(id).copied().unwrap_or_default();
            assert_eq!(order.filled, count);
            assert_eq!(order.extras().taker_fees.saturating_add(order.extras().maker_fees), fees);
            assert_eq!(order.status == OrderStatus::Resting, order.remaining.is_positive());
        }
    }
}

/// Checks that a seed repeats a run exactly, and another one does not.
pub(crate) fn a_seed_repeats_a_run<S: Subject + std::fmt::Debug>(steps: u64) {
    let run = |seed| {
        let mut run = Run::<S>::new(seed);
        for _ in 0..steps {
            run.step();
        }
        format!("{:?}", run.engine)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}
