//! Simulated traders: who sends which command next. Pure and seeded; ordinary members of the
//! engine, with nothing but the commands that everybody has.

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        Engine, SHARDS,
        command::Command,
        ids::{AccountId, MarketId},
        types::{
            Amend, Decrease, MarketStatus, NewOrder, OrderStatus, Route, SelfTrade, Side, Time,
            TimeInForce,
        },
    },
    random::Random,
};

/// What each trader has on each shard, in dollars.
const CASH: i64 = 10_000_000;
/// Resting orders of one trader, from which on it rather cancels.
const MANY: usize = 400;

/// The traders of an exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Traders {
    accounts: Vec<AccountId>,
    random: Random,
    /// Active markets, looked up again now and then.
    markets: Vec<MarketId>,
    turns: u64,
}

impl Traders {
    /// Opens an account with money for each trader.
    pub(crate) fn new(engine: &mut Engine, count: usize, seed: u64, now: Time) -> Self {
        let amount = Dollars::from_dollars(CASH).unwrap_or(Dollars::ZERO);
        let accounts = (0..count)
            .map(|_| {
                let account = engine.ledger.open(true);
                for (shard, _) in SHARDS {
                    // Below what an account may have.
                    let _ = engine.ledger.deposit(account, 0, shard, amount, now);
                }
                account
            })
            .collect();
        Self { accounts, random: Random::new(seed ^ 0x7ade), markets: Vec::new(), turns: 0 }
    }

    pub(crate) fn count(&self) -> usize {
        self.accounts.len()
    }

    /// The next command; `None` if there is nobody or nothing to trade.
    pub(crate) fn next(&mut self, engine: &Engine) -> Option<Command> {
        if self.turns.is_multiple_of(1_000) {
            self.markets = engine
                .markets()
                .iter()
                .filter(|market| market.status == MarketStatus::Active)
                .map(|market| market.id)
                .collect();
        }
        self.turns += 1;
        let account = *self.pick(self.accounts.len()).and_then(|place| self.accounts.get(place))?;
        let market = *self.pick(self.markets.len()).and_then(|place| self.markets.get(place))?;
        let resting = engine.ledger.account(account).map_or(0, |held| held.resting.len());
        let choice = self.random.below(100);
        if resting > MANY || (choice < 40 && resting > 10) {
            return self.change(engine, account, choice);
        }
        self.order(engine, account, market, choice)
    }

    fn pick(&mut self, length: usize) -> Option<usize> {
        let below = u64::try_from(length).ok().filter(|length| *length > 0)?;
        usize::try_from(self.random.below(below)).ok()
    }

    /// Cancels, decreases or amends one of the oldest orders.
    fn change(&mut self, engine: &Engine, account: AccountId, choice: u64) -> Option<Command> {
        let held = engine.ledger.account(account)?;
        let place = self.pick(held.resting.len().min(16))?;
        let id = held.resting.iter().nth(place)?;
        let order = engine.order(*id).filter(|order| order.status == OrderStatus::Resting)?;
        let ticker = engine.market(order.market)?.ticker.clone();
        let route = Route { exchange_index: None, ticker: Some(ticker.clone()) };
        let (subaccount, order_id) = (order.subaccount, order.id);
        let half = Count::from_hundredths(order.remaining.as_hundredths() / 2);
        Some(match choice % 8 {
            0 if half.is_positive() => Command::Decrease {
                account,
                subaccount,
                order: order_id,
                decrease: Decrease::To(half),
                route,
            },
            1 => Command::Amend(Amend {
                account,
                subaccount,
                order: order_id,
                ticker,
                side: order.side,
                price: order.price,
                count: order.initial.checked_add(Count::ONE)?,
                client_order_id: None,
                updated_client_order_id: None,
                expires: None,
                route,
            }),
            _ => Command::Cancel { account, subaccount, order: order_id, route },
        })
    }

    /// An order near the touch: mostly one that rests, now and then one that takes.
    fn order(
        &mut self,
        engine: &Engine,
        account: AccountId,
        market: MarketId,
        choice: u64,
    ) -> Option<Command> {
        let market = engine.market(market)?;
        let side = if self.random.below(2) == 0 { Side::Bid } else { Side::Ask };
        let prices = market.prices();
        let middle = market.last_price.unwrap_or(Dollars::from_micros(500_000));
        let own = match side {
            Side::Bid => prices.bid,
            Side::Ask => prices.ask,
        };
        let other = match side {
            Side::Bid => prices.ask,
            Side::Ask => prices.bid,
        };
        let takes = choice >= 88;
        let mut price = match (takes, own, other) {
            (true, _, Some(level)) | (false, Some(level), _) => level.price,
            _ => market.grid.snap_down(middle)?,
        };
        if !takes {
            for _ in 0..self.random.below(8) {
                let next = match side {
                    Side::Bid => market.grid.next_below(price),
                    Side::Ask => market.grid.next_above(price),
                };
                price = next.unwrap_or(price);
            }
        }
        let count = i64::try_from(self.random.below(5_000)).unwrap_or(0) + 1;
        Some(Command::Place(NewOrder {
            account,
            subaccount: 0,
            ticker: market.ticker.clone(),
            side,
            price,
            count: Count::from_hundredths(count),
            time_in_force: if takes {
                TimeInForce::ImmediateOrCancel
            } else {
                TimeInForce::GoodTillCanceled
            },
            self_trade: SelfTrade::Maker,
            client_order_id: None,
            expires: None,
            post_only: false,
            reduce_only: false,
            cancel_on_pause: false,
            group: None,
            route: Route::default(),
        }))
    }
}
