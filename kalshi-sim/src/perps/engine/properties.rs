//! The engine under random commands: nothing is lost or made, longs and shorts are equal, who is below
//! the threshold is closed as far as the book allows, and all of
//! [`random_run`](crate::engine::random_run).
//!
//! 8,000 commands a run; `KALSHI_SIM_COMMANDS` asks for more, `KALSHI_SIM_SEED` repeats a run.

use std::collections::BTreeSet;

use kalshi_types::{Count, Dollars};

use crate::{
    engine::{
        OrderGroups as _,
        command::{Command, Done},
        ids::{AccountId, MarketId, OrderId, TriggerId},
        random_run::{Filled, Subject, a_seed_repeats_a_run, setting},
        types::{Event, Refusal, Shard, Side, Subaccount, Time},
    },
    perps::engine::{
        Perps, PerpsEvent,
        actions::{NewAction, Terms},
        margin::Marks,
        markets::{Halts, Market, NewMarket},
        orders::Source,
        tests::{START, coin},
        triggers::{Legs, Mode, NewTrigger, Trail},
    },
};

const MEMBERS: u32 = 6;

type Run = crate::engine::random_run::Run<Perps>;

/// The state of the commands that only perpetual futures have.
#[derive(Debug, Default)]
pub(crate) struct Own {
    triggers: Vec<(AccountId, TriggerId)>,
}

impl Subject for Perps {
    type Own = Own;
    const OWN: u64 = 30;
    const STEP_MILLIS: u64 = 20_000;
    const EXPIRES_AFTER: i64 = 30_000;
    const COMPARED_ONE_IN: u64 = 1;
    // A liquidation, or an exit trigger.
    const SETS_OFF_TRADES: bool = true;

    fn begin() -> (Self, Vec<AccountId>, Own) {
        let mut perps = Self::new(START);
        perps.add_market(coin("KXCOINPERP"), START).unwrap();
        let fractional = NewMarket { fractional: true, ..coin("KXPARTPERP") };
        perps.add_market(fractional, START).unwrap();
        let accounts: Vec<AccountId> = (1..=MEMBERS).map(AccountId).collect();
        for account in &accounts {
            perps.open_account(*account);
            perps.deposit(*account, dollars(2_000), START).unwrap();
            perps.open_subaccount(*account).unwrap();
            perps.transfer(*account, (0, 1), dollars(1_000), "start", START).unwrap();
        }
        (perps, accounts, Own::default())
    }

    fn prepare(_: &mut Run) {}

    fn pick_market(run: &mut Run) -> Option<MarketId> {
        Some(run.market().id)
    }

    /// Returns a price of a few dollars around the mark.
    fn price(run: &mut Run, market: MarketId) -> Dollars {
        let market = run.engine.market(market).unwrap();
        let cents = market.settlement_mark.price.as_micros() / 10_000;
        let spread = (cents / 20).max(2);
        let price = cents + run.below(u64::try_from(2 * spread).unwrap()) - spread;
        Dollars::from_micros(price.max(1) * 10_000)
    }

    fn count(run: &mut Run, market: MarketId) -> Count {
        let market = run.engine.market(market).unwrap();
        let fractional = market.fractional;
        let most = 1 + 3_000 / (1 + market.settlement_mark.price.as_micros() / 1_000_000);
        let contracts = run.below(u64::try_from(most.clamp(2, 200)).unwrap()) + 1;
        let part = if fractional { run.below(100) } else { 0 };
        Count::from_hundredths(contracts * 100 + part)
    }

    fn group_limit(run: &mut Run) -> Count {
        Count::from_contracts(run.below(200) + 1).unwrap()
    }

    fn own(run: &mut Run) -> bool {
        let now = run.pass_time();
        if run.chance(3) {
            run.trigger(now);
        } else {
            run.operate(now);
        }
        run.engine.advance(Time::from_millis(run.now));
        run.engine.audit().unwrap();
        run.read_events();
        true
    }

    fn carried_out(run: &mut Run, _: &Command) {
        run.engine.audit().unwrap();
    }

    fn check_own(run: &Run) {
        let ratio = run.engine.parameters.liquidation_ratio;
        for id in (1..=MEMBERS).map(AccountId) {
            let account = run.engine.account(id).unwrap();
            for (number, wallet) in &account.wallets {
                let standing = run.engine.standing(wallet, Marks::Liquidation);
                let needs = i128::from(standing.maintenance.as_micros()) * i128::from(ratio);
                let is_below = i128::from(standing.equity.as_micros()) * 1_000 < needs;
                assert_eq!(
                    is_below,
                    run.engine.distressed.contains(&(id, *number)),
                    "{standing:?}"
                );
                if wallet.positions.is_empty() {
                    assert!(!wallet.cash.is_negative(), "a debt is not left with a member");
                }
                // Who is below has no orders, and could not be closed for lack of orders or trading.
                for (market, position) in wallet.positions.iter().filter(|_| is_below) {
                    assert!(wallet.open.is_empty());
                    let market = run.engine.market(*market).unwrap();
                    let facing = market.book.top(position.closing_side().opposite());
                    assert!(facing.is_none() || market.halts != Halts::default(), "{position:?}");
                }
            }
        }
        for market in run.engine.markets() {
            let volume: i64 = market
                .trades
                .iter()
                .filter_map(|id| run.engine.trade(*id))
                .map(|trade| trade.count.as_hundredths())
                .sum();
            assert_eq!(volume, market.volume.as_hundredths());
            assert!(market.id > MarketId(0));
        }
    }

    fn carry_out(&mut self, command: &Command, now: Time) -> Result<Done, Refusal> {
        match command {
            Command::Place(new) => {
                let version = self.market_by_ticker(&new.ticker)?.version;
                self.place_order(new, version, now).map(Done::Executed)
            }
            Command::Amend(amend) => self.amend(amend, now).map(Done::Executed),
            Command::Decrease { account, subaccount, order, decrease, .. } => {
                self.decrease(*account, *subaccount, *order, *decrease, now).map(Done::Count)
            }
            Command::Cancel { account, subaccount, order, .. } => {
                self.cancel(*account, *subaccount, *order, now).map(Done::Count)
            }
            Command::CancelAll { account, subaccount } => {
                self.cancel_all(*account, *subaccount, now).map(Done::Canceled)
            }
            Command::CreateGroup { account, subaccount, shard, limit } => {
                self.create_group(*account, *subaccount, *shard, *limit, now).map(Done::Group)
            }
            Command::ResetGroup { account, group, subaccount, shard } => {
                self.reset_group(*account, *group, *subaccount, *shard, now)?;
                Ok(Done::Nothing)
            }
            Command::TriggerGroup { account, group, subaccount, shard } => {
                self.trigger_group(*account, *group, *subaccount, *shard, now)?;
                Ok(Done::Nothing)
            }
            Command::DeleteGroup { account, group, subaccount, shard } => {
                self.delete_group(*account, *group, *subaccount, *shard, now)?;
                Ok(Done::Nothing)
            }
            other => panic!("{other:?} is of event contracts"),
        }
    }

    fn matching_events(&mut self) -> Vec<Event> {
        let matched = |event| match event {
            PerpsEvent::Matched(event) => Some(event),
            PerpsEvent::Action(_) => None,
        };
        self.take_events().into_iter().filter_map(matched).collect()
    }

    fn audited(&self) -> Result<(), String> {
        self.audit()
    }

    fn market_ids(&self) -> Vec<MarketId> {
        self.markets().iter().map(|market| market.id).collect()
    }

    fn ticker_and_shard(&self, market: MarketId) -> (String, Shard) {
        let market = self.market(market).unwrap();
        (market.ticker.clone(), market.shard)
    }

    fn orders_of(&self, account: AccountId) -> (&[OrderId], &BTreeSet<OrderId>) {
        let account = self.account(account).unwrap();
        (&account.orders, &account.resting)
    }

    fn fills_of(&self, account: AccountId) -> Vec<Filled> {
        let fills = self.account(account).unwrap().fills.iter();
        fills.map(|fill| (fill.order, fill.count, fill.fee)).collect()
    }

    fn closable(&self, key: (AccountId, Subaccount), market: MarketId, side: Side) -> Count {
        self.wallet(key).map_or(Count::ZERO, |wallet| wallet.position(market).closable(side))
    }

    fn money(&self) -> Option<Vec<String>> {
        // Others are closed as soon as the book allows.
        if !self.distressed.is_empty() {
            return None;
        }
        let accounts = (1..=MEMBERS).map(|id| {
            let account = self.account(AccountId(id)).unwrap();
            format!("{id} {:?} {:?}", account.wallets, account.resting)
        });
        let counts = format!("{} orders, {} trades", self.orders.len(), self.trades().len());
        Some(accounts.chain([counts]).collect())
    }
}

impl Run {
    fn market(&mut self) -> Market {
        let open: Vec<Market> =
            self.engine.markets().iter().filter(|market| !market.closed).cloned().collect();
        let number = self.random.below(u64::try_from(open.len()).unwrap());
        open[usize::try_from(number).unwrap()].clone()
    }

    fn trigger(&mut self, now: Time) {
        let (account, market) = (self.account(), self.market());
        let known = self.own.triggers.iter().rev().find(|(owner, _)| *owner == account).copied();
        let price = |offset: i64| {
            let micros = market.liquidation_mark.price.as_micros() / 10_000 * 10_000;
            Dollars::from_micros((micros + offset * 10_000).max(10_000))
        };
        let legs = match self.below(4) {
            0 => Legs::Trailing(Trail::Bps(u32::try_from(self.below(2_000)).unwrap())),
            1 => Legs::Trailing(Trail::Amount(Dollars::from_micros(self.below(500) * 10_000))),
            _ => Legs::Bracket {
                stop_loss: Some(price(self.below(2_000) - 1_000)),
                take_profit: (self.below(2) == 0).then(|| price(100)),
            },
        };
        if let Some((_, id)) = known.filter(|_| self.random.below(4) == 0) {
            let legs = (Some(price(-50)), None);
            let result = self.engine.change_trigger((account, 0), market.id, id, legs, now);
            self.note("trigger changed", &result);
            return;
        }
        let id = self.id();
        let part = self.below(3);
        let anchor = self.engine.account(account).unwrap().resting.iter().next().copied();
        let new = NewTrigger {
            account,
            subaccount: 0,
            market: market.id,
            mode: if self.below(4) == 0 { Mode::Isolated } else { Mode::Cross },
            legs,
            count: (part == 1).then_some(Count::ONE),
            anchor: anchor.filter(|_| part == 2),
            client_id: (part > 0).then(|| id.to_string()),
        };
        let result = self.engine.set_trigger(new, now);
        self.note("trigger", &result);
        if let Ok(id) = result {
            self.own.triggers.push((account, id));
        }
    }

    fn operate(&mut self, now: Time) {
        let market = self.market();
        let account = self.account();
        match self.below(20) {
            0..12 => {
                // A walk of a percent, and now and then a jump.
                let cents = market.settlement_mark.price.as_micros() / 10_000;
                let most = if self.below(12) == 0 { cents / 6 } else { cents / 80 }.max(1);
                let step = self.below(u64::try_from(2 * most + 1).unwrap()) - most;
                let price = Dollars::from_micros((cents + step).clamp(200, 20_000) * 10_000);
                let both = (Some(price), Some(price));
                let result = self.engine.set_marks(&market.ticker, both.0, both.1, None, now);
                self.note("marked", &result);
            }
            12 => {
                let result = self.engine.set_paused(&market.ticker, self.now % 2 == 0, now);
                self.note("paused", &result);
            }
            13 | 14 => {
                let result = self.engine.set_paused(&market.ticker, false, now);
                self.note("paused", &result);
            }
            15 => {
                let amount = Dollars::from_micros(self.below(3_000) * 1_000_000);
                let result = self.engine.deposit(account, amount, now);
                self.note("deposit", &result);
            }
            16 => {
                let amount = Dollars::from_micros(self.below(500) * 1_000_000);
                let result = self.engine.withdraw(account, amount, now);
                self.note("withdrawal", &result);
            }
            17 => {
                let amount = Dollars::from_micros(self.below(500) * 1_000_000);
                let id = self.id().to_string();
                let ends = if self.now % 2 == 0 { (0, 1) } else { (1, 0) };
                let result = self.engine.transfer(account, ends, amount, &id, now);
                self.note("transfer", &result);
            }
            18 => self.now += 3_600_000 * self.below(10),
            _ => {
                let ex_date = chrono::NaiveDate::from_ymd_opt(2026, 9, 21).unwrap();
                let per_contract = Dollars::from_micros(self.below(3) * 3_300);
                let terms = match self.below(6) {
                    0 => Terms::Split { old: 3, new: 2, ex_date },
                    1 => Terms::Split { old: 2, new: 3, ex_date },
                    2 => {
                        let new = format!("KXPERP{}", self.id());
                        Terms::TickerChange { old: market.ticker.clone(), new }
                    }
                    _ => Terms::CashDividend { per_contract, ex_date },
                };
                let action = NewAction { ticker: market.ticker, terms, at: now };
                let result = self.engine.announce(action, now);
                self.note("action", &result);
            }
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
    run.send(commands, 500);
    // A run that only meets refusals, or never liquidates, proves nothing.
    let trades = u64::try_from(run.engine.trades().len()).unwrap();
    assert!(trades > commands / 20, "{trades} trades: {:?}", run.counts);
    let placed = |source| run.engine.sources.values().filter(|one| **one == source).count();
    let (liquidations, fired) = (placed(Source::Liquidation), placed(Source::Trigger));
    assert!(liquidations > 10 && fired > 10, "{liquidations} liquidations, {fired} triggers");
    assert!(!run.engine.funding_rates().is_empty());
    for word in [
        "done",
        "reduced",
        "amended",
        "canceled",
        "decreased",
        "trigger",
        "action",
        "withdrawal",
        "insufficient_balance",
        "MARKET_INACTIVE",
        "order_already_exists",
        "order_group_triggered",
        "stop_loss_past_liquidation",
    ] {
        assert!(run.counts.contains_key(word), "no {word}: {:?}", run.counts);
    }
}

#[test]
fn a_seed_repeats_a_run_exactly() {
    a_seed_repeats_a_run::<Perps>(500);
}
