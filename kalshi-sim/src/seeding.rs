//! The engine's first state: markets with books and a history of trades, made by commands like any
//! other, so that everything read of them agrees.

use chrono::{DateTime, Duration, Utc};
use kalshi_types::{Count, Dollars, PriceGrid};

use crate::{
    catalogue::{Catalogue, Listing, listed_at},
    engine::{
        Engine, SHARDS,
        amount::Sum,
        ids::AccountId,
        types::{MarketResult, MarketStatus, NewOrder, Route, SelfTrade, Side, Time, TimeInForce},
    },
    random::Random,
};

/// What the first account has on each shard.
const FIRST_CASH: i64 = 10_000;
/// What the first account has withdrawn.
const PAID_BACK: Dollars = Dollars::from_micros(250_000_000);
/// What the market makers of the start have on each shard.
const MAKER_CASH: i64 = 100_000_000;
/// Levels of each side.
const DEPTH: usize = 12;
/// Trades of each market before the start.
const TRADES: u64 = 24;

/// Lists the catalogue's markets, lets them trade, and settles those that have ended. Gives the
/// account of the first key, too.
pub(crate) fn engine(
    catalogue: &Catalogue,
    seed: u64,
    start: DateTime<Utc>,
) -> (Engine, AccountId) {
    let mut random = Random::new(seed ^ 0xb00c_5eed);
    let mut engine = Engine::default();
    let listed = Time::from(listed_at(start));
    engine.advance(listed);
    let first = account(&mut engine, FIRST_CASH, listed);
    // Paid in and out again, so that both lists have a row.
    for amount in [PAID_BACK, Dollars::ZERO.minus(PAID_BACK)] {
        let _ = engine.ledger.deposit(first, 0, 0, amount, listed);
    }
    let maker = account(&mut engine, MAKER_CASH, listed);
    let taker = account(&mut engine, MAKER_CASH, listed);
    for listing in catalogue.listings.iter() {
        // A catalogue has each ticker once, and bands and times that make sense; its test says so.
        let _ = engine.add_market(&listing.market, listed);
    }
    let mut traders = Traders { engine: &mut engine, random: &mut random, maker, taker };
    traders.trade(catalogue, start);
    traders.determine(catalogue, start);
    traders.quote(catalogue, Time::from(start));
    // Nobody is listening yet.
    engine.take_events();
    (engine, first)
}

/// Another member with as much money as the first one.
pub(crate) fn member(engine: &mut Engine, now: Time) -> AccountId {
    account(engine, FIRST_CASH, now)
}

fn account(engine: &mut Engine, dollars: i64, now: Time) -> AccountId {
    let account = engine.ledger.open(true);
    let amount = Dollars::from_dollars(dollars).unwrap_or(Dollars::ZERO);
    for (shard, _) in SHARDS {
        // Below what an account may have.
        let _ = engine.ledger.deposit(account, 0, shard, amount, now);
    }
    account
}

struct Traders<'a> {
    engine: &'a mut Engine,
    random: &'a mut Random,
    maker: AccountId,
    taker: AccountId,
}

impl Traders<'_> {
    /// The history: a walk of prices over the last days.
    fn trade(&mut self, catalogue: &Catalogue, start: DateTime<Utc>) {
        let grids: Vec<Option<PriceGrid>> = catalogue
            .listings
            .iter()
            .map(|listing| PriceGrid::new(listing.market.ranges.clone()).ok())
            .collect();
        let mut prices: Vec<i64> = catalogue
            .listings
            .iter()
            .map(|_| i64::try_from(self.random.below(8_000)).unwrap_or(0) + 1_000)
            .collect();
        for round in 0..TRADES {
            // From three days before the start to a few hours before it.
            let back = 72 - i64::try_from(round).unwrap_or(0) * 66 / 24;
            for (place, listing) in catalogue.listings.iter().enumerate() {
                let minutes = i64::try_from(self.random.below(55)).unwrap_or(0);
                let Some(price) = prices.get_mut(place) else { continue };
                *price += i64::try_from(self.random.below(601)).unwrap_or(0) - 300;
                *price = (*price).clamp(500, 9_500);
                let near = Dollars::from_micros(*price * 100);
                let Some(price) =
                    grids.get(place).and_then(Option::as_ref).and_then(|g| g.snap_down(near))
                else {
                    continue;
                };
                // Rounds are in order, so time inside one is not: the engine's stands still then.
                let now = start - Duration::hours(back) + Duration::minutes(minutes);
                self.print(listing, price, Time::from(now));
            }
        }
    }

    fn print(&mut self, listing: &Listing, price: Dollars, now: Time) {
        let count =
            Count::from_hundredths(i64::try_from(self.random.below(5_000)).unwrap_or(0) + 1);
        let (makes, takes) =
            if self.random.below(2) == 0 { (Side::Bid, Side::Ask) } else { (Side::Ask, Side::Bid) };
        // A market that is not open yet refuses both.
        let _ = self.engine.place(&order(self.maker, listing, makes, price, count), now);
        let _ = self.engine.place(&order(self.taker, listing, takes, price, count), now);
    }

    /// Markets that closed before the start have a result, and are paid out.
    fn determine(&mut self, catalogue: &Catalogue, start: DateTime<Utc>) {
        let at = Time::from(start - Duration::hours(1));
        self.engine.advance(at);
        for listing in catalogue.listings.iter() {
            let closed = |market: &&crate::engine::Market| market.status == MarketStatus::Closed;
            let market = self.engine.market_by_ticker(&listing.market.ticker).filter(closed);
            let Some(id) = market.map(|market| market.id) else { continue };
            let result =
                if self.random.below(2) == 0 { MarketResult::Yes } else { MarketResult::No };
            let _ = self.engine.determine(id, result, at);
        }
    }

    /// A book around the last price of each open market.
    fn quote(&mut self, catalogue: &Catalogue, now: Time) {
        self.engine.advance(now);
        for listing in catalogue.listings.iter() {
            let active = |market: &&crate::engine::Market| market.status == MarketStatus::Active;
            let Some(market) = self.engine.market_by_ticker(&listing.market.ticker).filter(active)
            else {
                continue;
            };
            let grid = market.grid.clone();
            let middle = market.last_price.unwrap_or(Dollars::from_micros(500_000));
            let (mut bid, mut ask) = (grid.snap_down(middle), None);
            if let Some(price) = bid {
                ask = grid.next_above(price);
            }
            for _ in 0..DEPTH {
                for (side, price) in [(Side::Bid, bid), (Side::Ask, ask)] {
                    let Some(price) = price else { continue };
                    let count = i64::try_from(self.random.below(100_000)).unwrap_or(0) + 100;
                    let count = Count::from_hundredths(count);
                    let _ = self.engine.place(&order(self.maker, listing, side, price, count), now);
                }
                bid = bid.and_then(|price| grid.next_below(price));
                ask = ask.and_then(|price| grid.next_above(price));
            }
        }
    }
}

fn order(
    account: AccountId,
    listing: &Listing,
    side: Side,
    price: Dollars,
    count: Count,
) -> NewOrder {
    NewOrder {
        account,
        subaccount: 0,
        ticker: listing.market.ticker.clone(),
        side,
        price,
        count,
        time_in_force: TimeInForce::GoodTillCanceled,
        self_trade: SelfTrade::Maker,
        client_order_id: None,
        expires: None,
        post_only: false,
        reduce_only: false,
        cancel_on_pause: false,
        group: None,
        route: Route::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_the_same_for_a_seed_and_adds_up() {
        let start = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let catalogue = Catalogue::new(7, start);
        let (engine_a, _) = engine(&catalogue, 7, start);
        let (engine_b, _) = engine(&catalogue, 7, start);
        engine_a.audit().unwrap();
        assert_eq!(format!("{engine_a:?}"), format!("{engine_b:?}"));
        assert_eq!(engine_a.markets().len(), 120);
        let count = |status| engine_a.markets().iter().filter(|m| m.status == status).count();
        assert_eq!(count(MarketStatus::Active), 60);
        assert_eq!(count(MarketStatus::Finalized), 30);
        assert_eq!(count(MarketStatus::Initialized), 30);
        for market in engine_a.markets().iter().filter(|m| m.status == MarketStatus::Active) {
            assert!(market.prices().bid.is_some() && market.prices().ask.is_some());
            assert!(market.trades.len() > 5, "{}", market.ticker);
        }
    }
}
