//! The engine under random commands: money is conserved, contracts net to zero, no book is crossed
//! at rest, fees follow their rule, and all of [`random_run`](super::random_run).
//!
//! 100,000 commands a run; `KALSHI_SIM_COMMANDS` asks for more, `KALSHI_SIM_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars, PriceRange};

use crate::engine::{
    Engine, OrderGroups, PositionTransfer, WINDOW_MILLIS,
    amount::SaturatingArithmetic,
    command::{Command, Done},
    fees::{FeeType, Fees},
    ids::{AccountId, MarketId, OrderId},
    random_run::{Filled, START, Subject, a_seed_repeats_a_run, setting},
    types::{
        Event, Fill, MarketResult, MarketStatus, NewMarket, NewOrder, Reason, Refusal, Shard, Side,
        Subaccount, Time, TimeInForce,
    },
};

const MEMBERS: u64 = 6;

type Run = crate::engine::random_run::Run<Engine>;

/// The state of the commands that only event contracts have.
#[derive(Debug, Default)]
pub(crate) struct Own {
    listed: u64,
    /// The fees of each market, with the number of trades from which on they hold.
    fees: BTreeMap<MarketId, Vec<(usize, Fees)>>,
}

impl Subject for Engine {
    type Own = Own;
    const OWN: u64 = 9;
    const STEP_MILLIS: u64 = 60;
    const EXPIRES_AFTER: i64 = 500;
    const COMPARED_ONE_IN: u64 = 200;
    const SETS_OFF_TRADES: bool = false;

    fn begin() -> (Self, Vec<AccountId>, Own) {
        let mut engine = Self::default();
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
        (engine, accounts, Own::default())
    }

    fn prepare(run: &mut Run) {
        for _ in 0..4 {
            run.list();
        }
    }

    fn pick_market(run: &mut Run) -> Option<MarketId> {
        let any = run.chance(20);
        let alive: Vec<MarketId> = run
            .engine
            .markets()
            .iter()
            .rev()
            .take(16)
            .filter(|market| any || market.status == MarketStatus::Active)
            .map(|market| market.id)
            .collect();
        if alive.len() < 3 {
            run.list();
        }
        run.pick(&alive)
    }

    fn price(run: &mut Run, _: MarketId) -> Dollars {
        // Mostly cents around the middle, so that orders meet; now and then anything.
        let micros = match run.below(10) {
            0 => run.below(10_100) * 100,
            1 => run.below(100) * 10_000,
            _ => run.below(12) * 10_000 + 440_000,
        };
        Dollars::from_micros(micros)
    }

    fn count(run: &mut Run, _: MarketId) -> Count {
        run.count()
    }

    fn group_limit(run: &mut Run) -> Count {
        run.count()
    }

    fn own(run: &mut Run) -> bool {
        let Some(command) = run.own_command() else { return false };
        run.execute(&command);
        true
    }

    fn carried_out(run: &mut Run, command: &Command) {
        if let Command::SetFees { market, fees } = command {
            let trades = run.engine.trades().len();
            run.own.fees.entry(*market).or_default().push((trades, *fees));
        }
    }

    fn check_own(run: &Run) {
        for account in &run.accounts {
            run.check_cash(*account);
        }
    }

    fn carry_out(&mut self, command: &Command, now: Time) -> Result<Done, Refusal> {
        self.apply(command, now)
    }

    fn matching_events(&mut self) -> Vec<Event> {
        self.take_events()
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
        let account = self.ledger.account(account).unwrap();
        (&account.orders, &account.resting)
    }

    fn fills_of(&self, account: AccountId) -> Vec<Filled> {
        let fills = self.ledger.account(account).unwrap().fills.iter();
        fills.map(|fill| (fill.order, fill.count, fill.fee)).collect()
    }

    fn closable(
        &self,
        (account, subaccount): (AccountId, Subaccount),
        market: MarketId,
        side: Side,
    ) -> Count {
        let held = &self.ledger.account(account).unwrap().positions;
        let position = held.get(&(market, subaccount));
        position.map_or(Count::ZERO, |position| position.closable(side))
    }

    fn money(&self) -> Option<Vec<String>> {
        let accounts = self.ledger.accounts().map(|(id, account)| {
            let balances: Vec<_> = account
                .cash
                .iter()
                .filter(|(_, balance)| !balance.cash.is_zero() || !balance.held.is_zero())
                .collect();
            format!("{id:?} {balances:?} {:?}", account.resting)
        });
        let counts = format!("{} orders, {} trades", self.orders.len(), self.trades().len());
        Some(accounts.chain([counts]).collect())
    }
}

impl Run {
    fn list(&mut self) {
        self.own.listed += 1;
        let range = |start: &str, end: &str, step: &str| PriceRange {
            start: start.parse().unwrap(),
            end: end.parse().unwrap(),
            step: step.parse().unwrap(),
        };
        let (ranges, kind) = match self.own.listed % 3 {
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
            ticker: format!("M{}", self.own.listed),
            event_ticker: "E".to_owned(),
            series_ticker: "S".to_owned(),
            shard: u8::try_from(self.own.listed % 2).unwrap(),
            structure: "random".to_owned(),
            ranges,
            fees: Fees { kind, millionths: 1_000_000 },
            opens: Time::from_millis(self.now),
            closes: Time::from_millis(self.now + lasts * 100),
            settlement_timer_seconds: 5,
        };
        let market = self.engine.add_market(&new, Time::from_millis(self.now)).unwrap();
        self.own.fees.insert(market, vec![(0, new.fees)]);
    }

    fn count(&mut self) -> Count {
        Count::from_hundredths(match self.below(6) {
            0 => self.below(200),
            1 => self.below(200_000),
            _ => (self.below(20) + 1) * 100,
        })
    }

    /// Returns a command that only event contracts have.
    fn own_command(&mut self) -> Option<Command> {
        let (account, subaccount) = (self.account(), self.subaccount());
        Some(match self.below(9) {
            0 => {
                let amount = Dollars::from_micros((self.below(2_000_000) - 1_000_000) * 100);
                Command::Deposit { account, subaccount, shard: 0, amount }
            }
            1 => Command::Transfer {
                account,
                from: (subaccount, 0),
                to: (1 - subaccount, 1),
                amount: Engine::price(self, MarketId(1)),
            },
            2 if self.chance(2) => {
                let count = self.count();
                let takes = self.chance(2);
                Command::TransferPosition(PositionTransfer {
                    source: account,
                    target: self.account(),
                    market: Engine::pick_market(self)?,
                    count: if takes { count } else { Count::ZERO.saturating_sub(count) },
                    price: Engine::price(self, MarketId(1)),
                })
            }
            2 => Command::SetNetting { account, subaccount, netting: !self.chance(3) },
            3 => Command::SetShard {
                shard: u8::try_from(self.below(2)).unwrap(),
                exchange_active: !self.chance(40),
                trading_active: !self.chance(20),
            },
            4 if self.chance(8) => Command::Deactivate { market: Engine::pick_market(self)? },
            5 => {
                let mut markets = self.engine.markets().iter();
                let paused = markets.find(|market| market.status == MarketStatus::Inactive)?;
                Command::Activate { market: paused.id }
            }
            6 => {
                let closes = Time::from_millis(self.now + self.below(600_000));
                Command::MoveClose { market: Engine::pick_market(self)?, closes }
            }
            7 if self.chance(10) => {
                let result = match self.below(3) {
                    0 => MarketResult::Yes,
                    1 => MarketResult::No,
                    _ => MarketResult::Scalar(Engine::price(self, MarketId(1)).min(Dollars::ONE)),
                };
                Command::Determine { market: Engine::pick_market(self)?, result }
            }
            8 if self.chance(4) => {
                let kind = self.pick(&[
                    FeeType::Quadratic,
                    FeeType::QuadraticWithMakerFees,
                    FeeType::QuadraticWithComboMakerFees,
                ])?;
                let millionths = u32::try_from(self.below(3_000_000)).unwrap();
                let fees = Fees { kind, millionths };
                Command::SetFees { market: Engine::pick_market(self)?, fees }
            }
            _ => Command::Wait,
        })
    }

    fn check_cash(&self, id: AccountId) {
        let account = self.engine.ledger.account(id).unwrap();
        self.check_fees(&account.fills, account.direct);
        for (place, balance) in &account.cash {
            // Only the rounding of fees may overdraw a balance, which is below a cent for each fill.
            let slack = Dollars::CENT.checked_mul(i64::try_from(account.fills.len()).unwrap());
            let least = Dollars::ZERO.saturating_sub(slack.unwrap());
            assert!(balance.cash >= least, "{id:?} {place:?} has {:?}", balance.cash);
            assert!(!balance.held.is_negative(), "{id:?} {place:?} holds {:?}", balance.held);
            if account.resting.is_empty() {
                assert_eq!(balance.held, Dollars::ZERO, "{id:?} {place:?} holds for no order");
            }
        }
    }

    /// Checks the fee of every fill against the rule of the SDK's guide: the trade fee up to a
    /// micro-dollar, the change of the balance down to the precision, and the rebate from what the
    /// order's earlier fills were cut.
    fn check_fees(&self, fills: &[Fill], direct: bool) {
        let step: i128 = if direct { 100 } else { 10_000 };
        let mut held: BTreeMap<OrderId, i128> = BTreeMap::new();
        for fill in fills {
            let changes = &self.own.fees[&fill.market];
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

#[test]
fn random_commands_keep_every_promise() {
    let commands = setting("KALSHI_SIM_COMMANDS", 100_000);
    let seed = setting("KALSHI_SIM_SEED", 7);
    let mut run = Run::new(seed);
    run.send(commands, 2_000);
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
    a_seed_repeats_a_run::<Engine>(3_000);
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
