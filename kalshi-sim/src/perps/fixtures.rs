//! What an exchange of perpetual futures starts with: markets that have traded for three days between
//! two market makers, orders of theirs on both sides, and the cash of the members. All of it is made
//! by commands, from the seed.

use kalshi_types::{Count, Dollars};

use crate::{
    engine::{
        ids::AccountId,
        types::{NewOrder, Side, Time},
    },
    perps::engine::{
        Perps,
        amount::{Rate, micros},
        markets::{AssetClass, FundingTerms, LimitUnit, Market, NewMarket, Status},
    },
    random::Random,
};

/// The cash of a member, in dollars.
const CASH: i64 = 10_000;
/// The cash of each market maker, in dollars.
const MAKER_CASH: i64 = 50_000_000;
/// The market makers, who are no members of the other product.
const MAKERS: [AccountId; 2] = [AccountId(u32::MAX), AccountId(u32::MAX - 1)];
const HOURS: i64 = 72;
const HOUR_MILLIS: i64 = 3_600_000;
/// Levels of each side of a book.
const LEVELS: i64 = 10;
/// Orders of a market maker that rest at the same time.
const MAX_RESTING: usize = 300;
/// Contracts at each level.
const LEVEL_SIZE: i64 = 100;

/// Returns the exchange of a seed at a time.
pub(crate) fn exchange(seed: u64, start: Time, members: &[AccountId]) -> Perps {
    let begins = Time::from_millis(start.as_millis().saturating_sub(HOURS * HOUR_MILLIS));
    let mut perps = Perps::new(begins);
    let mut random = Random::new(seed ^ 0x9e_125);
    for (accounts, cash) in [(&MAKERS[..], MAKER_CASH), (members, CASH)] {
        for account in accounts {
            perps.open_account(*account);
            let cash = Dollars::from_dollars(cash).unwrap_or_default();
            // A new account takes this much.
            let _ = perps.deposit(*account, cash, begins);
        }
    }
    let tickers = markets().map(|market| market.ticker);
    for market in markets() {
        // Every ticker is another one.
        let _ = perps.add_market(market, begins);
    }
    for hour in 0..HOURS {
        let at = Time::from_millis(begins.as_millis().saturating_add(hour * HOUR_MILLIS));
        for ticker in &tickers {
            trade(&mut perps, ticker, &mut random, at);
        }
    }
    perps.advance(start);
    for ticker in &tickers {
        quote(&mut perps, ticker, start);
    }
    // Before the start there are no readers.
    perps.take_events();
    perps
}

fn markets() -> [NewMarket; 3] {
    let terms = |cap: i128, unit| FundingTerms {
        deadband: Rate::new(10_000_000),
        cap: Rate::new(cap),
        unit,
        excludes_invalid: false,
    };
    let coin = NewMarket {
        ticker: "KXSIMCOINPERP".to_owned(),
        title: "A thousandth of a Simcoin".to_owned(),
        class: AssetClass::Crypto,
        shard: 0,
        contract_size: 1_000,
        multiplier: 1_000_000,
        tick: Dollars::from_micros(100),
        fractional: false,
        maintenance: 50_000,
        maker_fee: 200,
        taker_fee: 500,
        funding: terms(20_000_000_000, LimitUnit::Percentage),
        reference: Dollars::from_dollars(64_000).unwrap_or_default(),
    };
    let share = NewMarket {
        ticker: "KXSIMSHAREPERP".to_owned(),
        title: "A share of Sim Incorporated".to_owned(),
        class: AssetClass::Equities,
        shard: 1,
        contract_size: 1_000_000,
        tick: Dollars::CENT,
        maintenance: 100_000,
        funding: FundingTerms {
            excludes_invalid: true,
            ..terms(1_000_000_000_000, LimitUnit::Dollar)
        },
        reference: Dollars::from_dollars(180).unwrap_or_default(),
        ..coin.clone()
    };
    let metal = NewMarket {
        ticker: "KXSIMMETALPERP".to_owned(),
        title: "A hundredth of an ounce of Simmetal".to_owned(),
        class: AssetClass::Metals,
        shard: 1,
        contract_size: 10_000,
        fractional: true,
        maintenance: 40_000,
        reference: Dollars::from_dollars(3_900).unwrap_or_default(),
        ..coin.clone()
    };
    [coin, share, metal]
}

/// Moves the prices of a market by half a percent at most, and lets the market makers trade.
fn trade(perps: &mut Perps, ticker: &str, random: &mut Random, at: Time) {
    let Ok(market) = perps.market_by_ticker(ticker) else { return };
    let moved = |price: Dollars, parts: u64, whole: i128, step: i128| {
        micros(i128::from(price.as_micros()) * i128::from(parts) / whole / step * step)
    };
    let tick = i128::from(market.tick.as_micros());
    let (Some(reference), mark) = (market.reference, market.settlement_mark.price) else { return };
    // Two thousandths around the last price, and a premium of a thousandth.
    let parts = random.below(11) + 995;
    let reference = moved(reference.price, parts, 1_000, 10_000);
    let mark = moved(mark, parts, 1_000, tick);
    let mark = moved(mark, 9_995 + random.below(11), 10_000, tick);
    let _ = perps.set_marks(ticker, Some(mark), Some(mark), Some(Some(reference)), at);
    let count = i64::try_from(random.below(20)).unwrap_or_default() + 1;
    let count = Count::from_contracts(count).unwrap_or(Count::ONE);
    let (maker, taker) = if random.below(2) == 0 { (0, 1) } else { (1, 0) };
    let side = if random.below(2) == 0 { Side::Bid } else { Side::Ask };
    for (account, side) in [(MAKERS[maker], side.opposite()), (MAKERS[taker], side)] {
        let order = NewOrder::resting(account, ticker.to_owned(), side, mark, count);
        // Both have cash for years of this.
        let _ = perps.place_order(&order, 0, at);
    }
}

/// Puts orders of the market makers on both sides of a book, a thousandth apart.
fn quote(perps: &mut Perps, ticker: &str, at: Time) {
    let Ok(market) = perps.market_by_ticker(ticker) else { return };
    let (mark, tick) = (market.settlement_mark.price, market.tick);
    let count = Count::from_contracts(LEVEL_SIZE).unwrap_or(Count::ONE);
    for level in 1..=LEVELS {
        for (account, side) in MAKERS.into_iter().zip([Side::Bid, Side::Ask]) {
            let away = if side == Side::Bid { 1_000 - level } else { 1_000 + level };
            let price = micros(i128::from(mark.as_micros()) * i128::from(away) / 1_000);
            let price = match side {
                Side::Bid => price.floor_to(tick),
                Side::Ask => price.ceil_to(tick),
            };
            let Some(price) = price else { continue };
            let order = NewOrder::resting(account, ticker.to_owned(), side, price, count);
            let _ = perps.place_order(&order, 0, at);
        }
    }
}

/// Lets the market makers send a command: an order around the mark of any market that trades, or the
/// end of one that rests. Reports whether it was carried out.
pub(crate) fn make_market(perps: &mut Perps, random: &mut Random, at: Time) -> bool {
    let maker = MAKERS[usize::from(random.below(2) == 0)];
    let resting = perps.account(maker).map_or(0, |account| account.resting.len());
    if resting > MAX_RESTING || (resting > 0 && random.below(3) == 0) {
        let place = usize::try_from(random.next()).unwrap_or(usize::MAX) % resting;
        let order = perps.account(maker).ok().and_then(|account| account.resting.iter().nth(place));
        let Some(order) = order.copied() else { return false };
        return perps.cancel(maker, 0, order, at).is_ok();
    }
    let trading: Vec<&Market> =
        perps.markets().iter().filter(|market| market.status() == Status::Active).collect();
    let place = usize::try_from(random.next()).unwrap_or(usize::MAX) % trading.len().max(1);
    let Some(market) = trading.get(place) else { return false };
    // Half a percent around the mark.
    let parts = i128::from(random.below(101)) + 9_950;
    let price = micros(i128::from(market.settlement_mark.price.as_micros()) * parts / 10_000);
    let Some(price) = price.floor_to(market.tick) else { return false };
    let count = i64::try_from(random.below(50)).unwrap_or_default() + 1;
    let count = Count::from_contracts(count).unwrap_or(Count::ONE);
    let side = if random.below(2) == 0 { Side::Bid } else { Side::Ask };
    let order = NewOrder::resting(maker, market.ticker.clone(), side, price, count);
    perps.place_order(&order, 0, at).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_exchange_with_books_trades_and_funding() {
        let start = Time::from_millis(1_790_000_000_000);
        let perps = exchange(7, start, &[AccountId(1)]);
        perps.audit().unwrap();
        assert_eq!(format!("{perps:?}"), format!("{:?}", exchange(7, start, &[AccountId(1)])));
        assert_ne!(format!("{perps:?}"), format!("{:?}", exchange(8, start, &[AccountId(1)])));
        for market in perps.markets() {
            for side in [Side::Bid, Side::Ask] {
                assert_eq!(market.book.levels(side).count(), 10, "{}", market.ticker);
            }
            assert_eq!(market.trades.len(), 72, "{}", market.ticker);
            assert!(market.bid().unwrap().price < market.settlement_mark.price);
            assert!(market.ask().unwrap().price > market.settlement_mark.price);
        }
        // Three days of three fundings in three markets.
        assert_eq!(perps.funding_rates().len(), 27);
    }
}
