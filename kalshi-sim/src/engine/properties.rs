//! The engine under random commands: money is conserved, contracts net to zero, no book is crossed
//! at rest, queues keep their order, and reads agree with replies.
//!
//! 100,000 commands a run; `KALSHI_SIM_COMMANDS` asks for more, `KALSHI_SIM_SEED` repeats a run.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars, PriceRange};

use crate::{
    engine::{
        Engine, OrderGroups, PositionTransfer, WINDOW_MILLIS,
        amount::SaturatingArithmetic,
        command::{Command, Done},
        fees::{FeeType, Fees},
        ids::{AccountId, GroupId, MarketId, OrderId},
        types::{
            Amend, Decrease, Event, Fill, MarketResult, MarketStatus, NewMarket, NewOrder,
            OrderStatus, Reason, Refusal, Route, SelfTrade, Side, Time, TimeInForce,
        },
    },
    random::Random,
};

const START: i64 = 1_790_000_000_000;
const MEMBERS: u64 = 6;

/// Reads a number from the environment.
pub(super) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A run: an engine, its commands, and the state that its events add up to.
struct Run {
    engine: Engine,
    random: Random,
    now: i64,
    accounts: Vec<AccountId>,
    listed: u64,
    groups: Vec<(AccountId, GroupId, u8)>,
    /// Books rebuilt from the events alone.
    books: BTreeMap<(MarketId, Side), BTreeMap<Dollars, Count>>,
    client_order_ids: u64,
    counts: BTreeMap<&'static str, u64>,
    /// The fees of each market, with the number of trades from which on they hold.
    fees: BTreeMap<MarketId, Vec<(usize, Fees)>>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut engine = Engine::default();
        let start = Time::from_millis(START);
        let accounts: Vec<AccountId> =
            (0..MEMBERS).map(|number| engine.ledger.open(number % 3 != 2)).collect();
        for account in &accounts {
            for shard in [0, 1] {
                for subaccount in [0, 1] {
                    let amount = Dollars::from_dollars(2_000).unwrap();
                    engine.ledger.deposit(*account, subaccount, shard, amount, start).unwrap();
                }
            }
        }
        let mut run = Self {
            engine,
            random: Random::new(seed),
            now: START,
            accounts,
            listed: 0,
            groups: Vec::new(),
            books: BTreeMap::new(),
            client_order_ids: 0,
            counts: BTreeMap::new(),
            fees: BTreeMap::new(),
        };
        for _ in 0..4 {
            run.list();
        }
        run
    }

    fn list(&mut self) {
        self.listed += 1;
        let range = |start: &str, end: &str, step: &str| PriceRange {
            start: start.parse().unwrap(),
            end: end.parse().unwrap(),
            step: step.parse().unwrap(),
        };
        let (ranges, kind) = match self.listed % 3 {
            0 => (vec![range("0", "1", "0.01")], FeeType::Quadratic),
            1 => (
                vec![
                    range("0", "0.1", "0.001"),
                    range("0.1", "0.9", "0.01"),
                    range("0.9", "1", "0.001"),
                ],
                FeeType::QuadraticWithMakerFees,
            ),
            _ => (vec![range("0", "1", "0.0001")], FeeType::QuadraticWithComboMakerFees),
        };
        let lasts = i64::try_from(self.random.below(40_000)).unwrap() + 2_000;
        let new = NewMarket {
            ticker: format!("M{}", self.listed),
            event_ticker: "E".to_owned(),
            series_ticker: "S".to_owned(),
            shard: u8::try_from(self.listed % 2).unwrap(),
            structure: "random".to_owned(),
            ranges,
            fees: Fees { kind, millionths: 1_000_000 },
            opens: Time::from_millis(self.now),
            closes: Time::from_millis(self.now + lasts * 100),
            settlement_timer_seconds: 5,
        };
        let market = self.engine.add_market(&new, Time::from_millis(self.now)).unwrap();
        self.fees.insert(market, vec![(0, new.fees)]);
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let place = self.random.below(u64::try_from(from.len()).unwrap());
        from.get(usize::try_from(place).unwrap()).copied()
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    fn alive(&mut self) -> Option<MarketId> {
        // Mostly a market that trades.
        let any = self.chance(20);
        let alive: Vec<MarketId> = self
            .engine
            .markets()
            .iter()
            .rev()
            .take(16)
            .filter(|market| any || market.status == MarketStatus::Active)
            .map(|market| market.id)
            .collect();
        if alive.len() < 3 {
            self.list();
        }
        self.pick(&alive)
    }

    fn price(&mut self) -> Dollars {
        // Mostly cents around the middle, so that orders meet; now and then anything.
        let micros = match self.random.below(10) {
            0 => i64::try_from(self.random.below(10_100)).unwrap() * 100,
            1 => i64::try_from(self.random.below(100)).unwrap() * 10_000,
            _ => i64::try_from(self.random.below(12)).unwrap() * 10_000 + 440_000,
        };
        Dollars::from_micros(micros)
    }

    fn count(&mut self) -> Count {
        Count::from_hundredths(match self.random.below(6) {
            0 => i64::try_from(self.random.below(200)).unwrap(),
            1 => i64::try_from(self.random.below(200_000)).unwrap(),
            _ => (i64::try_from(self.random.below(20)).unwrap() + 1) * 100,
        })
    }

    fn own_order(&mut self) -> Option<(AccountId, u8, OrderId)> {
        let accounts = self.accounts.clone();
        let account = self.pick(&accounts)?;
        let held = self.engine.ledger.account(account)?;
        // Mostly an order that rests; else any, also one that is long gone.
        let orders: Vec<OrderId> = if self.random.below(8) == 0 {
            held.orders.iter().rev().take(50).copied().collect()
        } else {
            held.resting.iter().copied().collect()
        };
        let order = self.pick(&orders)?;
        let subaccount = self.engine.order(order)?.subaccount;
        Some((account, subaccount, order))
    }

    fn command(&mut self) -> Option<Command> {
        let accounts = self.accounts.clone();
        let account = self.pick(&accounts)?;
        let subaccount = u8::try_from(self.random.below(2)).unwrap();
        Some(match self.random.below(100) {
            0..55 => Command::Place(self.order(account, subaccount)?),
            55..65 => Command::Amend(self.amendment()?),
            65..72 => {
                let (account, subaccount, order) = self.own_order()?;
                let route = self.route_of(order)?;
                let count = self.count();
                let decrease =
                    if self.chance(2) { Decrease::By(count) } else { Decrease::To(count) };
                Command::Decrease { account, subaccount, order, decrease, route }
            }
            72..86 => {
                let (account, subaccount, order) = self.own_order()?;
                Command::Cancel { account, subaccount, order, route: self.route_of(order)? }
            }
            86 => {
                if self.chance(4) {
                    Command::CancelAll { account, subaccount: None }
                } else {
                    Command::CancelAll { account, subaccount: Some(subaccount) }
                }
            }
            87 => {
                let amount = i64::try_from(self.random.below(2_000_000)).unwrap() - 1_000_000;
                let amount = Dollars::from_micros(amount * 100);
                Command::Deposit { account, subaccount, shard: 0, amount }
            }
            88 => Command::Transfer {
                account,
                from: (subaccount, 0),
                to: (1 - subaccount, 1),
                amount: self.price(),
            },
            89 if self.chance(2) => Command::TransferPosition(PositionTransfer {
                source: account,
                target: self.pick(&accounts)?,
                market: self.alive()?,
                count: if self.chance(2) {
                    self.count()
                } else {
                    Count::ZERO.saturating_sub(self.count())
                },
                price: self.price(),
            }),
            89 => Command::SetNetting { account, subaccount, netting: !self.chance(3) },
            90..92 => {
                let shard = u8::try_from(self.random.below(2)).unwrap();
                Command::CreateGroup { account, subaccount, shard, limit: self.count() }
            }
            92..94 => {
                let groups = self.groups.clone();
                let (account, group, subaccount) = self.pick(&groups)?;
                let shard = self.engine.group(group)?.shard;
                match self.random.below(4) {
                    0 => Command::DeleteGroup { account, group, subaccount, shard },
                    1 => Command::TriggerGroup { account, group, subaccount, shard },
                    _ => Command::ResetGroup { account, group, subaccount, shard },
                }
            }
            94 => Command::SetShard {
                shard: u8::try_from(self.random.below(2)).unwrap(),
                exchange_active: !self.chance(40),
                trading_active: !self.chance(20),
            },
            95 if self.chance(8) => Command::Deactivate { market: self.alive()? },
            96 => {
                let paused =
                    |market: &&crate::engine::Market| market.status == MarketStatus::Inactive;
                Command::Activate { market: self.engine.markets().iter().find(paused)?.id }
            }
            97 => {
                let later = i64::try_from(self.random.below(600_000)).unwrap();
                let closes = Time::from_millis(self.now + later);
                Command::MoveClose { market: self.alive()?, closes }
            }
            98 if self.chance(10) => {
                let result = match self.random.below(3) {
                    0 => MarketResult::Yes,
                    1 => MarketResult::No,
                    _ => MarketResult::Scalar(self.price().min(Dollars::ONE)),
                };
                Command::Determine { market: self.alive()?, result }
            }
            99 if self.chance(4) => {
                let kind = self.pick(&[
                    FeeType::Quadratic,
                    FeeType::QuadraticWithMakerFees,
                    FeeType::QuadraticWithComboMakerFees,
                ])?;
                let millionths = u32::try_from(self.random.below(3_000_000)).unwrap();
                Command::SetFees { market: self.alive()?, fees: Fees { kind, millionths } }
            }
            _ => Command::Wait,
        })
    }

    fn route_of(&mut self, order: OrderId) -> Option<Route> {
        let market = self.engine.order(order)?.market;
        let market = self.engine.market(market)?;
        let (shard, ticker) = (i64::from(market.shard), market.ticker.clone());
        Some(match self.random.below(3) {
            0 => Route { exchange_index: Some(shard), ticker: None },
            1 => Route { exchange_index: None, ticker: Some(ticker) },
            _ => Route { exchange_index: Some(-1), ticker: Some(ticker) },
        })
    }

    fn order(&mut self, account: AccountId, subaccount: u8) -> Option<NewOrder> {
        let market = self.alive()?;
        let ticker = self.engine.market(market)?.ticker.clone();
        let time_in_force = match self.random.below(6) {
            0 => TimeInForce::ImmediateOrCancel,
            1 => TimeInForce::FillOrKill,
            _ => TimeInForce::GoodTillCanceled,
        };
        self.client_order_ids += 1;
        let client_order_id = match self.random.below(4) {
            0 => None,
            1 => Some(format!("n{}", self.random.below(self.client_order_ids))),
            _ => Some(format!("n{}", self.client_order_ids)),
        };
        let expires = (time_in_force == TimeInForce::GoodTillCanceled && self.chance(6))
            .then(|| Time::from_millis(self.now + 500));
        // Refused with any other time in force.
        let reduces = time_in_force == TimeInForce::ImmediateOrCancel;
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
            price: self.price(),
            count: self.count(),
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
        let found = self.engine.order(order)?.clone();
        let ticker = self.engine.market(found.market)?.ticker.clone();
        let count = match self.random.below(4) {
            0 => found.filled,
            1 => found.filled.saturating_add(found.remaining),
            _ => found.filled.saturating_add(self.count()),
        };
        let expires = match self.random.below(6) {
            0 => Some(None),
            1 => Some(Some(Time::from_millis(self.now + 700))),
            _ => None,
        };
        self.client_order_ids += 1;
        let renamed = self.chance(5).then(|| format!("a{}", self.client_order_ids));
        Some(Amend {
            account,
            subaccount,
            order,
            ticker,
            side: found.side,
            price: if self.chance(2) { found.price } else { self.price() },
            count,
            client_order_id: None,
            updated_client_order_id: renamed,
            expires,
            route: Route::default(),
        })
    }

    /// Executes one command and checks what must hold after any.
    fn step(&mut self, command: &Command) {
        self.now += i64::try_from(self.random.below(60)).unwrap();
        let now = Time::from_millis(self.now);
        // The events of time alone come first, so that a refusal can be seen to change nothing.
        self.engine.advance(now);
        self.read_events();
        let before = self.chance(200).then(|| self.engine.clone());
        let reducible = self.reducible(command);
        let result = self.engine.apply(command, now);
        if let (Some(reducible), Ok(Done::Executed(done))) = (reducible, &result) {
            assert!(done.filled <= reducible, "{done:?} of {reducible}");
            assert!(done.remaining.is_zero(), "a reduce-only order rests");
        }
        let name = match &result {
            Ok(_) => "done",
            Err(refusal) => refusal.code,
        };
        *self.counts.entry(name).or_default() += 1;
        match (&result, command) {
            (Ok(done), _) => self.replied(command, *done),
            (Err(refusal), _) => self.refused(refusal, before),
        }
        self.read_events();
    }

    /// Returns the contracts that a reduce-only order can close, before it is placed.
    fn reducible(&self, command: &Command) -> Option<Count> {
        let Command::Place(new) = command else { return None };
        let market = self.engine.market_by_ticker(&new.ticker).filter(|_| new.reduce_only)?;
        let held = &self.engine.ledger.account(new.account)?.positions;
        let position = held.get(&(market.id, new.subaccount));
        Some(position.map_or(Count::ZERO, |position| position.closable(new.side)))
    }

    fn refused(&self, refusal: &Refusal, before: Option<Engine>) {
        assert!(!refusal.code.is_empty() && !refusal.message.is_empty());
        if let Some(before) = before {
            // Empty positions may have come into being; the money is what counts.
            assert_eq!(balances(&before), balances(&self.engine), "{refusal:?}");
            assert_eq!(before.trades().len(), self.engine.trades().len());
            assert_eq!(before.orders.len(), self.engine.orders.len());
        }
    }

    fn replied(&mut self, command: &Command, done: Done) {
        match (command, done) {
            (Command::Place(new), Done::Executed(done)) => {
                let order = self.engine.order(done.order).expect("a placed order can be read");
                assert_eq!(order.filled, done.filled);
                assert_eq!(order.remaining, done.remaining);
                assert_eq!(order.extras().taker_fees, done.fees);
                assert!(new.reduce_only || order.initial == new.count);
                let resting = order.status == OrderStatus::Resting;
                assert_eq!(resting, order.remaining.is_positive());
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
                    assert!(order.filled.is_zero());
                }
                self.at_limit(done.order, done.value, done.filled);
            }
            (Command::Amend(amend), Done::Executed(done)) => {
                let order = self.engine.order(amend.order).expect("it was there before");
                assert_eq!(order.remaining, done.remaining);
                assert!(order.filled <= amend.count);
                self.at_limit(amend.order, done.value, done.filled);
            }
            (Command::Decrease { order, .. }, Done::Count(left)) => {
                assert_eq!(self.engine.order(*order).unwrap().remaining, left);
            }
            (Command::Cancel { order, .. }, Done::Count(_)) => {
                assert_eq!(self.engine.order(*order).unwrap().status, OrderStatus::Canceled);
            }
            (Command::CreateGroup { account, subaccount, .. }, Done::Group(group)) => {
                self.groups.push((*account, group, *subaccount));
                if self.groups.len() > 20 {
                    self.groups.remove(0);
                }
            }
            (Command::SetFees { market, fees }, _) => {
                let trades = self.engine.trades().len();
                self.fees.entry(*market).or_default().push((trades, *fees));
            }
            _ => {}
        }
    }

    /// Checks that an account pays no more than the limit.
    fn at_limit(&self, order: OrderId, value: Dollars, filled: Count) {
        let order = self.engine.order(order).unwrap();
        let limit = order.price.checked_mul_count(filled).unwrap();
        match order.side {
            Side::Bid => assert!(value <= limit),
            Side::Ask => assert!(value >= limit),
        }
    }

    /// Checks that books rebuilt from the events are the engine's.
    fn read_events(&mut self) {
        for event in self.engine.take_events() {
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

    fn check(&self) {
        self.engine.audit().unwrap();
        for market in self.engine.markets() {
            for side in [Side::Bid, Side::Ask] {
                let from_events = self.books.get(&(market.id, side)).cloned().unwrap_or_default();
                let there: BTreeMap<Dollars, Count> =
                    market.levels(side).map(|level| (level.price, level.count)).collect();
                assert_eq!(from_events, there, "{} {side:?}", market.ticker);
                self.check_queue(market.id, side);
            }
        }
        for account in &self.accounts {
            self.check_account(*account);
        }
    }

    /// Checks that orders at a price trade in the order of their entry, and that the book agrees
    /// with the orders.
    fn check_queue(&self, market: MarketId, side: Side) {
        let market = self.engine.market(market).unwrap();
        let mut last: Option<(Dollars, u64)> = None;
        for (price, id, count) in market.queue(side) {
            let order = self.engine.order(id).unwrap();
            assert_eq!((order.status, order.remaining), (OrderStatus::Resting, count));
            assert_eq!((order.price, order.side), (price, side));
            if let Some((before, place)) = last
                && before == price
            {
                assert!(place < order.queue_priority, "the queue is out of order");
            }
            last = Some((price, order.queue_priority));
            if let Some(group) = order.extras().group {
                let group = self.engine.group(group).expect("a resting order's group is there");
                assert!(!group.triggered && group.orders.contains(&id));
            }
        }
    }

    fn check_account(&self, id: AccountId) {
        let account = self.engine.ledger.account(id).unwrap();
        let resting: Vec<OrderId> = account
            .orders
            .iter()
            .copied()
            .filter(|order| self.engine.order(*order).unwrap().status == OrderStatus::Resting)
            .collect();
        assert_eq!(resting, account.resting.iter().copied().collect::<Vec<_>>());
        // What fills say and what orders say is the same.
        let mut filled: BTreeMap<OrderId, (Count, Dollars)> = BTreeMap::new();
        for fill in &account.fills {
            let (count, fees) = filled.entry(fill.order).or_default();
            *count = count.saturating_add(fill.count);
            *fees = fees.saturating_add(fill.fee);
        }
        for order in &account.orders {
            let order = self.engine.order(*order).unwrap();
            let (count, fees) = filled.get(&order.id).copied().unwrap_or_default();
            assert_eq!(order.filled, count);
            assert_eq!(order.extras().taker_fees.saturating_add(order.extras().maker_fees), fees);
        }
        self.check_fees(&account.fills, account.direct);
        for (place, balance) in &account.cash {
            // Nobody spends what is not there; only the rounding of fees may overdraw, which is
            // below a cent for each fill.
            let slack = Dollars::CENT.checked_mul(i64::try_from(account.fills.len()).unwrap());
            let least = Dollars::ZERO.saturating_sub(slack.unwrap());
            assert!(balance.cash >= least, "{id:?} {place:?} has {:?}", balance.cash);
            assert!(!balance.held.is_negative(), "{id:?} {place:?} holds {:?}", balance.held);
            if account.resting.is_empty() {
                assert_eq!(balance.held, Dollars::ZERO, "{id:?} {place:?} holds for no order");
            }
        }
    }
}

impl Run {
    /// Checks the fee of every fill against the rule of the SDK's guide: the trade fee up to a
    /// micro-dollar, the change of the balance down to the precision, and the rebate from what the
    /// order's earlier fills were cut.
    fn check_fees(&self, fills: &[Fill], direct: bool) {
        let step: i128 = if direct { 100 } else { 10_000 };
        let mut held: BTreeMap<OrderId, i128> = BTreeMap::new();
        for fill in fills {
            let changes = &self.fees[&fill.market];
            let since = |(from, _): &&(usize, Fees)| *from <= fill.trade.index();
            let Fees { kind, millionths } = changes.iter().rev().find(since).unwrap().1;
            let rate = match (kind, fill.taker) {
                (FeeType::Flat, _) | (FeeType::Quadratic, false) => 0,
                (_, true) => 700,
                (FeeType::QuadraticWithMakerFees, false) => 175,
                (FeeType::QuadraticWithComboMakerFees, false) => 350,
            };
            let (yes, count) =
                (i128::from(fill.price.as_micros()), i128::from(fill.count.as_hundredths()));
            let model = rate * i128::from(millionths) * count * yes * (1_000_000 - yes);
            let unit = 10_i128.pow(18);
            let trade_fee = (model + unit - 1).div_euclid(unit);
            let leg = if fill.side == Side::Bid { yes } else { 1_000_000 - yes };
            // What pairs of both legs pay is whole cents: a multiple of any step.
            let rounding = (-(leg * count / 100) - trade_fee).rem_euclid(step);
            let account = held.entry(fill.order).or_default();
            *account += rounding;
            let gross = trade_fee + rounding;
            let rebate = (*account).min(gross).div_euclid(step) * step;
            *account -= rebate;
            assert_eq!(i128::from(fill.fee.as_micros()), gross - rebate, "{fill:?}");
        }
    }
}

/// Returns everything about money that an account can read.
fn balances(engine: &Engine) -> Vec<String> {
    engine
        .ledger
        .accounts()
        .map(|(id, account)| {
            let balances: Vec<_> = account
                .cash
                .iter()
                .filter(|(_, balance)| !balance.cash.is_zero() || !balance.held.is_zero())
                .collect();
            format!("{id:?} {balances:?} {:?}", account.resting)
        })
        .collect()
}

#[test]
fn random_commands_keep_every_promise() {
    let commands = setting("KALSHI_SIM_COMMANDS", 100_000);
    let seed = setting("KALSHI_SIM_SEED", 7);
    let mut run = Run::new(seed);
    let mut number = 0;
    while number < commands {
        let Some(command) = run.command() else { continue };
        run.step(&command);
        number += 1;
        if number % 2_000 == 0 {
            run.check();
        }
    }
    run.check();
    // A run that only meets refusals, or never trades, proves nothing.
    let done = run.counts.get("done").copied().unwrap_or(0);
    assert!(done > commands / 2, "{:?}", run.counts);
    let trades = u64::try_from(run.engine.trades().len()).unwrap();
    assert!(trades > commands / 50, "{trades} trades");
    let settled =
        run.engine.markets().iter().filter(|m| m.status == MarketStatus::Finalized).count();
    assert!(commands < 20_000 || settled > 0);
    for code in [
        "insufficient_balance",
        "order_already_exists",
        "invalid_price",
        "MARKET_INACTIVE",
        "TRADING_PAUSED",
        "order_group_triggered",
    ] {
        assert!(commands < 20_000 || run.counts.contains_key(code), "no {code}: {:?}", run.counts);
    }
}

#[test]
fn a_seed_repeats_a_run_exactly() {
    let run = |seed| {
        let mut run = Run::new(seed);
        for _ in 0..3_000 {
            if let Some(command) = run.command() {
                run.step(&command);
            }
        }
        format!("{:?}", run.engine)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
fn c7_a_reduce_only_order_that_could_wait_is_refused_and_nothing_changes() {
    let mut run = Run::new(3);
    let market = run.engine.market(MarketId(1)).unwrap();
    let (ticker, account) = (market.ticker.clone(), run.accounts[0]);
    let price = Dollars::from_micros(500_000);
    let new = |time_in_force| NewOrder {
        time_in_force,
        reduce_only: true,
        ..NewOrder::resting(account, ticker.clone(), Side::Bid, price, Count::ONE)
    };
    let now = Time::from_millis(START);
    for time_in_force in [TimeInForce::GoodTillCanceled, TimeInForce::FillOrKill] {
        let refusal = run.engine.place_order(&new(time_in_force), now).unwrap_err();
        assert_eq!(refusal.code, "invalid_parameters");
    }
    assert_eq!(run.engine.orders.len(), 0);
    let done = run.engine.place_order(&new(TimeInForce::ImmediateOrCancel), now).unwrap();
    assert_eq!(done.reason, Reason::ReduceOnlyCancel);
}

#[test]
fn c8_cancel_all_cancels_every_resting_order() {
    let mut run = Run::new(3);
    let (account, other) = (run.accounts[0], run.accounts[1]);
    let now = Time::from_millis(START);
    let tickers: Vec<String> =
        run.engine.markets().iter().map(|market| market.ticker.clone()).collect();
    let bid = |account, subaccount, ticker: &str| NewOrder {
        subaccount,
        ..NewOrder::resting(account, ticker.to_owned(), Side::Bid, Dollars::CENT, Count::ONE)
    };
    for number in 0..10_100_usize {
        let ticker = &tickers[number % tickers.len()];
        let subaccount = u8::try_from(number % 2).unwrap();
        run.engine.place_order(&bid(account, subaccount, ticker), now).unwrap();
    }
    run.engine.place_order(&bid(other, 0, &tickers[0]), now).unwrap();
    assert_eq!(run.engine.cancel_all(account, None, now).unwrap(), 10_100);
    assert!(run.engine.ledger.account(account).unwrap().resting.is_empty());
    assert_eq!(run.engine.ledger.account(other).unwrap().resting.len(), 1);
    run.engine.audit().unwrap();
}

#[test]
fn a_group_counts_the_last_fifteen_seconds() {
    let mut run = Run::new(3);
    let (maker, taker) = (run.accounts[0], run.accounts[1]);
    let now = Time::from_millis(START);
    let limit = Count::from_contracts(10).unwrap();
    let shard = run.engine.market(MarketId(1)).unwrap().shard;
    let group = run.engine.create_group(maker, 0, shard, limit, now).unwrap();
    let ticker = run.engine.market(MarketId(1)).unwrap().ticker.clone();
    let order = |account, side, count: i64, group| NewOrder {
        group,
        ..NewOrder::resting(
            account,
            ticker.clone(),
            side,
            Dollars::from_micros(500_000),
            Count::from_contracts(count).unwrap(),
        )
    };
    run.engine.place_order(&order(maker, Side::Bid, 30, Some(group)), now).unwrap();
    run.engine.place_order(&order(taker, Side::Ask, 10, None), now).unwrap();
    assert!(!run.engine.group(group).unwrap().triggered, "ten is the limit, not above it");
    let later = Time::from_millis(START + WINDOW_MILLIS);
    run.engine.place_order(&order(taker, Side::Ask, 10, None), later).unwrap();
    assert!(!run.engine.group(group).unwrap().triggered, "the first ten have left the window");
    run.engine.place_order(&order(taker, Side::Ask, 1, None), later).unwrap();
    let group = run.engine.group(group).unwrap();
    assert!(group.triggered && group.orders.is_empty());
    assert_eq!(run.engine.market(MarketId(1)).unwrap().queue(Side::Bid).count(), 0);
}
