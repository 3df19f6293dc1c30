//! The engine under random commands: nothing is lost or made, longs and shorts are equal, books hold
//! what rests, a refusal changes nothing, and who is below the threshold is closed as far as the book
//! allows.
//!
//! 8,000 commands a run; `KALSHI_SIM_COMMANDS` asks for more, `KALSHI_SIM_SEED` repeats a run.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars};

use crate::{
    engine::{
        OrderGroups as _,
        ids::{AccountId, GroupId, MarketId, OrderId, TriggerId},
        types::{
            Decrease, Event, NewOrder, OrderStatus, Refusal, SelfTrade, Side, Time, TimeInForce,
        },
    },
    perps::engine::{
        Perps, PerpsEvent,
        actions::{NewAction, Terms},
        margin::Marks,
        markets::{Halts, Market, NewMarket},
        orders::{Source, amendment},
        tests::{START, coin},
        triggers::{Legs, Mode, NewTrigger, Trail},
    },
    random::Random,
};

const MEMBERS: u32 = 6;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Run {
    perps: Perps,
    random: Random,
    now: i64,
    ids: u64,
    groups: Vec<(AccountId, GroupId)>,
    triggers: Vec<(AccountId, TriggerId)>,
    counts: BTreeMap<&'static str, u64>,
    /// Books rebuilt from the events alone.
    books: BTreeMap<(MarketId, Side), BTreeMap<Dollars, Count>>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut perps = Perps::new(START);
        perps.add_market(coin("KXCOINPERP"), START).unwrap();
        let fractional = NewMarket { fractional: true, ..coin("KXPARTPERP") };
        perps.add_market(fractional, START).unwrap();
        for account in 1..=MEMBERS {
            perps.open_account(AccountId(account));
            perps.deposit(AccountId(account), dollars(2_000), START).unwrap();
            perps.open_subaccount(AccountId(account)).unwrap();
            let half = (0, 1);
            perps.transfer(AccountId(account), half, dollars(1_000), "start", START).unwrap();
        }
        let counts = BTreeMap::new();
        Self {
            perps,
            random: Random::new(seed),
            now: START.as_millis(),
            ids: 0,
            groups: Vec::new(),
            triggers: Vec::new(),
            counts,
            books: BTreeMap::new(),
        }
    }

    fn below(&mut self, bound: u64) -> i64 {
        i64::try_from(self.random.below(bound)).unwrap()
    }

    fn account(&mut self) -> AccountId {
        AccountId(u32::try_from(self.random.below(u64::from(MEMBERS))).unwrap() + 1)
    }

    fn market(&mut self) -> Market {
        let open: Vec<Market> =
            self.perps.markets().iter().filter(|market| !market.closed).cloned().collect();
        let number = self.random.below(u64::try_from(open.len()).unwrap());
        open[usize::try_from(number).unwrap()].clone()
    }

    /// Returns a price of a few dollars around the mark.
    fn price(&mut self, market: &Market) -> Dollars {
        let cents = market.settlement_mark.price.as_micros() / 10_000;
        let spread = (cents / 20).max(2);
        let price = cents + self.below(u64::try_from(2 * spread).unwrap()) - spread;
        Dollars::from_micros(price.max(1) * 10_000)
    }

    fn size(&mut self, market: &Market) -> Count {
        let most = 1 + 3_000 / (1 + market.settlement_mark.price.as_micros() / 1_000_000);
        let contracts = self.below(u64::try_from(most.clamp(2, 200)).unwrap()) + 1;
        let part = if market.fractional { self.below(100) } else { 0 };
        Count::from_hundredths(contracts * 100 + part)
    }

    fn note<T>(&mut self, what: &'static str, result: Result<T, Refusal>) -> Option<T> {
        let word = result.as_ref().err().map_or(what, |refusal| refusal.code);
        *self.counts.entry(word).or_default() += 1;
        result.ok()
    }

    fn place(&mut self, now: Time) {
        let (account, market) = (self.account(), self.market());
        let group = self.groups.iter().find(|(owner, _)| *owner == account).map(|(_, id)| *id);
        let (price, count) = (self.price(&market), self.size(&market));
        let time_in_force = match self.below(6) {
            0 => TimeInForce::ImmediateOrCancel,
            1 => TimeInForce::FillOrKill,
            _ => TimeInForce::GoodTillCanceled,
        };
        let waits = time_in_force == TimeInForce::GoodTillCanceled;
        self.ids += 1;
        let new = NewOrder {
            subaccount: u8::try_from(self.below(2)).unwrap(),
            side: if self.below(2) == 0 { Side::Bid } else { Side::Ask },
            time_in_force,
            self_trade: if self.below(2) == 0 { SelfTrade::Maker } else { SelfTrade::TakerAtCross },
            client_order_id: Some(self.ids.to_string()),
            expires: (waits && self.below(8) == 0)
                .then(|| Time::from_millis(self.now + 1 + self.now % 60_000)),
            post_only: waits && self.below(8) == 0,
            reduce_only: !waits && self.below(2) == 0,
            cancel_on_pause: self.below(8) == 0,
            group: group.filter(|_| self.random.below(8) == 0),
            ..NewOrder::resting(account, market.ticker.clone(), Side::Bid, price, count)
        };
        self.perps.advance(now);
        let before = format!("{:?}", self.perps.account(account).unwrap().wallets);
        let result = self.perps.place_order(&new, market.version, now);
        if let Some(done) = self.note("placed", result) {
            let order = self.perps.order(done.order).unwrap();
            // What it sets off, a liquidation, may trade with the rest of it at once.
            assert!(order.filled >= done.filled && order.remaining <= done.remaining, "{new:?}");
            if new.reduce_only {
                self.note("reduced", Ok(()));
            }
        } else if self.perps.distressed.is_empty() {
            assert_eq!(format!("{:?}", self.perps.account(account).unwrap().wallets), before);
        }
    }

    fn change(&mut self, now: Time) {
        let account = self.account();
        let resting: Vec<OrderId> =
            self.perps.account(account).unwrap().resting.iter().copied().collect();
        if resting.is_empty() {
            return;
        }
        let at = self.random.below(u64::try_from(resting.len()).unwrap());
        let order = self.perps.order(resting[usize::try_from(at).unwrap()]).unwrap().clone();
        let key = (order.account, order.subaccount);
        let market = self.perps.market(order.market).unwrap().clone();
        match self.below(4) {
            0 => {
                let result = self.perps.cancel(key.0, key.1, order.id, now);
                self.note("canceled", result);
            }
            1 => {
                let to = Decrease::By(self.size(&market));
                let result = self.perps.decrease(key.0, key.1, order.id, to, now);
                self.note("decreased", result);
            }
            _ => {
                let (price, count) = (self.price(&market), self.size(&market));
                let amend = amendment(key, order.id, order.side, price, count);
                let result = self.perps.amend(&amend, now);
                self.note("amended", result);
            }
        }
    }

    fn trigger(&mut self, now: Time) {
        let (account, market) = (self.account(), self.market());
        let known = self.triggers.iter().rev().find(|(owner, _)| *owner == account).copied();
        let price = |offset: i64| {
            let micros = market.liquidation_mark.price.as_micros() / 10_000 * 10_000;
            Dollars::from_micros((micros + offset * 10_000).max(10_000))
        };
        let legs = match self.below(4) {
            0 => Legs::Trailing(Trail::Bps(u32::try_from(self.below(2_000)).unwrap())),
            1 => Legs::Trailing(Trail::Amount(Dollars::from_micros(self.below(500) * 10_000))),
            _ => Legs::Bracket {
                stop_loss: Some(price(self.below(600) - 300)),
                take_profit: (self.below(2) == 0).then(|| price(100)),
            },
        };
        if let Some((_, id)) = known.filter(|_| self.random.below(4) == 0) {
            let legs = (Some(price(-50)), None);
            let result = self.perps.change_trigger((account, 0), market.id, id, legs, now);
            self.note("trigger changed", result);
            return;
        }
        self.ids += 1;
        let part = self.below(3);
        let anchor = self.perps.account(account).unwrap().resting.iter().next().copied();
        let new = NewTrigger {
            account,
            subaccount: 0,
            market: market.id,
            mode: if self.below(4) == 0 { Mode::Isolated } else { Mode::Cross },
            legs,
            count: (part == 1).then_some(Count::ONE),
            anchor: anchor.filter(|_| part == 2),
            client_id: (part > 0).then(|| self.ids.to_string()),
        };
        let result = self.perps.set_trigger(new, now);
        if let Some(id) = self.note("trigger", result) {
            self.triggers.push((account, id));
        }
    }

    fn operate(&mut self, now: Time) {
        let market = self.market();
        let account = self.account();
        match self.below(24) {
            0..12 => {
                // A walk of a percent, and now and then a jump.
                let cents = market.settlement_mark.price.as_micros() / 10_000;
                let most = if self.below(12) == 0 { cents / 6 } else { cents / 80 }.max(1);
                let step = self.below(u64::try_from(2 * most + 1).unwrap()) - most;
                let price = Dollars::from_micros((cents + step).clamp(200, 20_000) * 10_000);
                let both = (Some(price), Some(price));
                let result = self.perps.set_marks(&market.ticker, both.0, both.1, None, now);
                self.note("marked", result);
            }
            12 => {
                let result = self.perps.set_paused(&market.ticker, self.now % 2 == 0, now);
                self.note("paused", result);
            }
            13 | 14 => {
                let result = self.perps.set_paused(&market.ticker, false, now);
                self.note("paused", result);
            }
            15 => {
                let amount = Dollars::from_micros(self.below(3_000) * 1_000_000);
                let result = self.perps.deposit(account, amount, now);
                self.note("deposit", result);
            }
            16 => {
                let amount = Dollars::from_micros(self.below(500) * 1_000_000);
                let result = self.perps.withdraw(account, amount, now);
                self.note("withdrawal", result);
            }
            17 => {
                let amount = Dollars::from_micros(self.below(500) * 1_000_000);
                self.ids += 1;
                let id = self.ids.to_string();
                let ends = if self.now % 2 == 0 { (0, 1) } else { (1, 0) };
                let result = self.perps.transfer(account, ends, amount, &id, now);
                self.note("transfer", result);
            }
            18 => {
                let limit = Count::from_contracts(self.below(200) + 1).unwrap();
                let result = self.perps.create_group(account, 0, 0, limit, now);
                if let Some(group) = self.note("group", result) {
                    self.groups.retain(|(owner, _)| *owner != account);
                    self.groups.push((account, group));
                }
            }
            19 => self.now += 3_600_000 * self.below(10),
            20 => {
                let ex_date = chrono::NaiveDate::from_ymd_opt(2026, 9, 21).unwrap();
                let per_contract = Dollars::from_micros(self.below(3) * 3_300);
                let terms = match self.below(6) {
                    0 => Terms::Split { old: 3, new: 2, ex_date },
                    1 => Terms::Split { old: 2, new: 3, ex_date },
                    2 => {
                        self.ids += 1;
                        let new = format!("KXPERP{}", self.ids);
                        Terms::TickerChange { old: market.ticker.clone(), new }
                    }
                    _ => Terms::CashDividend { per_contract, ex_date },
                };
                let action = NewAction { ticker: market.ticker, terms, at: now };
                let result = self.perps.announce(action, now);
                self.note("action", result);
            }
            _ => {
                let result = self.perps.cancel_all(account, None, now);
                self.note("canceled all", result);
            }
        }
    }

    fn step(&mut self) {
        self.now += self.below(20_000);
        let now = Time::from_millis(self.now);
        match self.below(20) {
            0..11 => self.place(now),
            11..14 => self.change(now),
            14 | 15 => self.trigger(now),
            _ => self.operate(now),
        }
        self.perps.advance(Time::from_millis(self.now));
        for event in self.perps.take_events() {
            if let PerpsEvent::Matched(Event::Level { market, side, price, delta, .. }) = event {
                let levels = self.books.entry((market, side)).or_default();
                let level = levels.entry(price).or_default();
                *level = level.checked_add(delta).unwrap();
                levels.retain(|_, count| !count.is_zero());
            }
        }
    }

    fn check(&self) {
        self.perps.audit().unwrap();
        let ratio = self.perps.parameters.liquidation_ratio;
        for id in (1..=MEMBERS).map(AccountId) {
            let account = self.perps.account(id).unwrap();
            for (number, wallet) in &account.wallets {
                let standing = self.perps.standing(wallet, Marks::Liquidation);
                let needs = i128::from(standing.maintenance.as_micros()) * i128::from(ratio);
                let is_below = i128::from(standing.equity.as_micros()) * 1_000 < needs;
                assert_eq!(
                    is_below,
                    self.perps.distressed.contains(&(id, *number)),
                    "{standing:?}"
                );
                if wallet.positions.is_empty() {
                    assert!(!wallet.cash.is_negative(), "a debt is not left with a member");
                }
                // Who is below has no orders, and could not be closed for lack of orders or trading.
                for (market, position) in wallet.positions.iter().filter(|_| is_below) {
                    assert!(wallet.open.is_empty());
                    let market = self.perps.market(*market).unwrap();
                    let facing = market.book.top(position.closing_side().opposite());
                    assert!(facing.is_none() || market.halts != Halts::default(), "{position:?}");
                }
            }
            for order in account.orders.iter().filter_map(|id| self.perps.order(*id)) {
                let filled = account.fills.iter().filter(|fill| fill.order == order.id);
                let filled = filled.map(|fill| fill.count.as_hundredths()).sum::<i64>();
                assert_eq!(filled, order.filled.as_hundredths());
                assert_eq!(order.status == OrderStatus::Resting, order.remaining.is_positive());
            }
        }
        for market in self.perps.markets() {
            for side in [Side::Bid, Side::Ask] {
                let levels = market.book.levels(side).map(|level| (level.price, level.count));
                let rebuilt = self.books.get(&(market.id, side)).cloned().unwrap_or_default();
                assert_eq!(levels.collect::<BTreeMap<_, _>>(), rebuilt);
            }
            let volume: i64 = market
                .trades
                .iter()
                .filter_map(|id| self.perps.trade(*id))
                .map(|trade| trade.count.as_hundredths())
                .sum();
            assert_eq!(volume, market.volume.as_hundredths());
            assert!(market.id > MarketId(0));
        }
    }
}

fn dollars(whole: i64) -> Dollars {
    Dollars::from_dollars(whole).unwrap()
}

#[test]
fn random_commands_lose_and_make_nothing() {
    let commands = setting("KALSHI_SIM_COMMANDS", 8_000);
    let mut run = Run::new(setting("KALSHI_SIM_SEED", 7));
    for number in 0..commands {
        run.step();
        run.perps.audit().unwrap_or_else(|wrong| panic!("command {number}: {wrong}"));
        if number % 500 == 0 {
            run.check();
        }
    }
    run.check();
    // A run that only meets refusals, or never liquidates, proves nothing.
    let trades = u64::try_from(run.perps.trades().len()).unwrap();
    assert!(trades > commands / 20, "{trades} trades: {:?}", run.counts);
    let placed = |source| run.perps.sources.values().filter(|one| **one == source).count();
    let (liquidations, fired) = (placed(Source::Liquidation), placed(Source::Trigger));
    assert!(liquidations > 10 && fired > 10, "{liquidations} liquidations, {fired} triggers");
    assert!(!run.perps.funding_rates().is_empty());
    for word in [
        "placed",
        "reduced",
        "amended",
        "canceled",
        "decreased",
        "trigger",
        "action",
        "withdrawal",
        "insufficient_balance",
        "MARKET_INACTIVE",
        "stop_loss_past_liquidation",
    ] {
        assert!(run.counts.contains_key(word), "no {word}: {:?}", run.counts);
    }
}

#[test]
fn a_seed_repeats_a_run_exactly() {
    let run = |seed| {
        let mut run = Run::new(seed);
        for _ in 0..500 {
            run.step();
        }
        format!("{:?}", run.perps)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}
