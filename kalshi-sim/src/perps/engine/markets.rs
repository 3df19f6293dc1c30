//! Markets of perpetual futures: terms, marks, halts, records, and the band of prices that orders
//! may have.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars, PriceLevel};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        Bar, Minute,
        amount::{SaturatingArithmetic, cost},
        book::Book,
        ids::{MarketId, OrderId, TradeId},
        matching::Matching as _,
        types::{Event, Reason, Refusal, Shard, Side, Time},
    },
    perps::engine::{
        Perps,
        amount::{MAX_NOTIONAL, MAX_PRICE, Rate, divide_down},
    },
};

const MINUTE_MILLIS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;
/// The time for which changes of a premium are kept, in seconds: longer than a period of funding.
const KEPT_SECONDS: i64 = 2 * 24 * 3_600;
/// More markets than a test has; a limit, so that memory has one.
const MAX_MARKETS: usize = 1_000;

/// The class of an underlying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum AssetClass {
    Crypto,
    Equities,
    Metals,
}

impl AssetClass {
    pub(crate) const ALL: [Self; 3] = [Self::Crypto, Self::Equities, Self::Metals];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Crypto => "Crypto",
            Self::Equities => "Equities",
            Self::Metals => "Metals",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Inactive,
    Active,
    Closed,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Active => "active",
            Self::Closed => "closed",
        }
    }
}

/// A price with the time at which it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) price: Dollars,
    pub(crate) at: Time,
}

/// The unit of the limits of funding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LimitUnit {
    /// A part of the mark.
    Percentage,
    /// Dollars per contract.
    Dollar,
}

/// The terms of a market's funding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FundingTerms {
    /// In the unit; a mean premium below it is no funding.
    pub(crate) deadband: Rate,
    /// In the unit; no funding is above it.
    pub(crate) cap: Rate,
    pub(crate) unit: LimitUnit,
    /// A second without a premium is left out of the mean; otherwise it counts as 0.
    pub(crate) excludes_invalid: bool,
}

/// The reasons for which a market does not trade at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Halts {
    /// The exchange has paused it, which has no source that is shown.
    pub(crate) paused: bool,
    pub(crate) corporate_action: bool,
}

/// A market to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewMarket {
    pub(crate) ticker: String,
    pub(crate) title: String,
    pub(crate) class: AssetClass,
    pub(crate) shard: Shard,
    /// Units of the underlying, in millionths.
    pub(crate) contract_size: i64,
    /// In millionths.
    pub(crate) multiplier: i64,
    pub(crate) tick: Dollars,
    pub(crate) fractional: bool,
    /// The maintenance margin, in millionths of the value of a position.
    pub(crate) maintenance: u32,
    pub(crate) maker_fee: u32,
    pub(crate) taker_fee: u32,
    pub(crate) funding: FundingTerms,
    /// The price of the underlying; the marks are what a contract of it is worth.
    pub(crate) reference: Dollars,
}

/// A market.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Market {
    pub(crate) id: MarketId,
    pub(crate) ticker: String,
    pub(crate) title: String,
    pub(crate) class: AssetClass,
    pub(crate) shard: Shard,
    /// Units of the underlying, in millionths.
    pub(crate) contract_size: i64,
    /// In millionths.
    pub(crate) multiplier: i64,
    pub(crate) tick: Dollars,
    pub(crate) fractional: bool,
    /// In millionths of the value of a position.
    pub(crate) maintenance: u32,
    /// In millionths of the traded value.
    pub(crate) maker_fee: u32,
    pub(crate) taker_fee: u32,
    pub(crate) funding: FundingTerms,
    pub(crate) version: i32,
    pub(crate) halts: Halts,
    pub(crate) closed: bool,
    pub(crate) settlement_mark: Mark,
    pub(crate) liquidation_mark: Mark,
    /// `None` while the underlying has no price.
    pub(crate) reference: Option<Mark>,
    pub(crate) book: Book,
    pub(crate) open_interest: Count,
    pub(crate) volume: Count,
    /// Price × count of all trades.
    pub(crate) value: Dollars,
    pub(crate) last_price: Option<Dollars>,
    pub(crate) last_size: Count,
    /// Oldest first.
    pub(crate) trades: Vec<TradeId>,
    /// By the minute's start in minutes since 1970; minutes without change are left out. Zero stands
    /// for no bid and for no ask.
    pub(crate) minutes: BTreeMap<i64, Minute>,
    /// The premium from a second on; `None` where it cannot be measured.
    pub(crate) premiums: BTreeMap<i64, Option<Rate>>,
}

impl Market {
    pub(crate) fn status(&self) -> Status {
        if self.closed {
            Status::Closed
        } else if self.halts != Halts::default() {
            Status::Inactive
        } else {
            Status::Active
        }
    }

    /// Returns what the exchange calls the reasons of a halt.
    pub(crate) fn halt_sources(&self) -> &'static [&'static str] {
        if self.halts.corporate_action { &["corporate_action"] } else { &[] }
    }

    /// Returns what a contract is worth by the underlying, in millionths of a micro-dollar squared:
    /// price × size × multiplier, without a division.
    fn fair(&self) -> Option<i128> {
        let price = self.reference?.price;
        let fair = i128::from(price.as_micros())
            .checked_mul(i128::from(self.contract_size))?
            .checked_mul(i128::from(self.multiplier))?;
        (fair > 0).then_some(fair)
    }

    /// Returns how far the settlement mark is above what a contract is worth by the underlying,
    /// rounded down.
    pub(crate) fn premium(&self) -> Option<Rate> {
        let fair = self.fair()?;
        let mark = i128::from(self.settlement_mark.price.as_micros()).checked_mul(Rate::ONE)?;
        let above = mark.checked_sub(fair)?;
        // In parts of 10¹²; what does not fit is beyond every cap.
        let Some(product) = above.checked_mul(Rate::ONE) else {
            return Some(Rate::new(if above > 0 { i128::MAX } else { -Rate::ONE }));
        };
        Some(Rate::new(divide_down(product, fair)))
    }

    /// Notes the premium from now on.
    pub(crate) fn note_premium(&mut self, now: Time) {
        let premium = self.premium();
        let second = now.as_millis().div_euclid(1_000);
        self.premiums.insert(second, premium);
        // The last change before what is kept still counts.
        let old = second.saturating_sub(KEPT_SECONDS);
        let first = self.premiums.range(..=old).next_back().map(|(second, _)| *second);
        if let Some(first) = first {
            self.premiums = self.premiums.split_off(&first);
        }
    }

    /// Returns the premium by which the next funding is estimated; `None` where it cannot be
    /// measured, and for a market that is closed: it has no further funding.
    pub(crate) fn estimated_premium(&self) -> Option<Rate> {
        self.premium().filter(|_| !self.closed)
    }

    /// Returns the premium of a second; `None` where it could not be measured.
    pub(crate) fn premium_at(&self, second: i64) -> Option<Rate> {
        self.premiums.range(..=second).next_back().and_then(|(_, premium)| *premium)
    }

    pub(crate) fn bid(&self) -> Option<PriceLevel> {
        self.book.top(Side::Bid)
    }

    pub(crate) fn ask(&self) -> Option<PriceLevel> {
        self.book.top(Side::Ask)
    }

    /// Checks that a price is a multiple of the tick and inside of the band: a bid not below the
    /// lower of 80 % of the best bid and 1,000 ticks under it, an ask not above the higher of 120 %
    /// of the best ask and 1,000 ticks over it.
    pub(crate) fn check_price(&self, side: Side, price: Dollars) -> Result<(), Refusal> {
        if !price.is_positive() || price > MAX_PRICE || price.floor_to(self.tick) != Some(price) {
            return Err(Refusal::invalid(
                "invalid_price",
                "the price is not a positive multiple of the market's tick size",
            ));
        }
        let ticks = self.tick.checked_mul(1_000).unwrap_or(Dollars::MAX);
        let is_outside = self.book.top(side).is_some_and(|best| {
            let (price, best_price) =
                (i128::from(price.as_micros()), i128::from(best.price.as_micros()));
            let ticks = i128::from(ticks.as_micros());
            match side {
                Side::Bid => price * 100 < best_price * 80 && price < best_price - ticks,
                Side::Ask => price * 100 > best_price * 120 && price > best_price + ticks,
            }
        });
        if is_outside {
            return Err(Refusal::invalid("invalid_price", "the price is too far from the book"));
        }
        Ok(())
    }

    /// Returns the worst price that an order of a side can name: it trades at any price.
    pub(crate) fn any_price(&self, side: Side) -> Dollars {
        match side {
            Side::Bid => MAX_PRICE.floor_to(self.tick).unwrap_or(MAX_PRICE),
            Side::Ask => self.tick,
        }
    }

    /// Returns the contracts traded in the 24 hours before a time, and their value.
    pub(crate) fn traded_24h(&self, now: Time) -> (Count, Dollars) {
        let from = now.as_millis().div_euclid(MINUTE_MILLIS) - DAY_MINUTES;
        self.minutes.range(from..).fold((Count::ZERO, Dollars::ZERO), |(count, value), (_, m)| {
            (count.saturating_add(m.volume), value.saturating_add(m.value))
        })
    }

    pub(crate) fn printed(&mut self, id: TradeId, price: Dollars, count: Count, now: Time) {
        self.trades.push(id);
        self.volume = self.volume.saturating_add(count);
        self.value = self.value.saturating_add(cost(price, count));
        self.last_price = Some(price);
        self.last_size = count;
        let minute = self.minute(now);
        match &mut minute.price {
            Some(bar) => bar.add(price),
            None => minute.price = Some(Bar::at(price)),
        }
        minute.volume = minute.volume.saturating_add(count);
        minute.value = minute.value.saturating_add(cost(price, count));
    }

    /// Notes the best prices in the present minute.
    pub(crate) fn note(&mut self, now: Time) {
        let price = |level: Option<PriceLevel>| level.map_or(Dollars::ZERO, |level| level.price);
        let (bid, ask) = (price(self.bid()), price(self.ask()));
        let open_interest = self.open_interest;
        let minute = self.minute(now);
        minute.bid.add(bid);
        minute.ask.add(ask);
        minute.open_interest = open_interest;
    }

    /// Returns the present minute; a new one opens where the last one closed.
    fn minute(&mut self, now: Time) -> &mut Minute {
        let number = now.as_millis().div_euclid(MINUTE_MILLIS);
        let before = self.minutes.last_key_value().map(|(_, minute)| Minute::after(minute));
        let empty = Minute { ask: Bar::at(Dollars::ZERO), ..Minute::empty() };
        self.minutes.entry(number).or_insert(before.unwrap_or(empty))
    }
}

impl Perps {
    /// Lists a market. It trades at once.
    pub(crate) fn add_market(&mut self, new: NewMarket, now: Time) -> Result<MarketId, Refusal> {
        self.advance(now);
        if self.tickers.contains_key(&new.ticker) {
            return Err(Refusal::conflict("market_exists", "there is a market with this ticker"));
        }
        if self.markets.len() >= MAX_MARKETS {
            return Err(Refusal::parameters("there are 1,000 markets already"));
        }
        let sizes = 1..=1_000_000_000_000;
        if !new.tick.is_positive()
            || new.tick.to_centi_cents().is_none()
            || !sizes.contains(&new.contract_size)
            || !sizes.contains(&new.multiplier)
            || new.maintenance > 1_000_000
            || new.maker_fee > 100_000
            || new.taker_fee > 100_000
        {
            return Err(Refusal::parameters("the terms of the market are out of range"));
        }
        let number = u32::try_from(self.markets.len()).unwrap_or(u32::MAX).saturating_add(1);
        let id = MarketId(number);
        let at = self.now;
        let reference = Mark { price: new.reference, at };
        let mut market = Market {
            id,
            ticker: new.ticker.clone(),
            title: new.title,
            class: new.class,
            shard: new.shard,
            contract_size: new.contract_size,
            multiplier: new.multiplier,
            tick: new.tick,
            fractional: new.fractional,
            maintenance: new.maintenance,
            maker_fee: new.maker_fee,
            taker_fee: new.taker_fee,
            funding: new.funding,
            version: 1,
            halts: Halts::default(),
            closed: false,
            settlement_mark: reference,
            liquidation_mark: reference,
            reference: Some(reference),
            book: Book::default(),
            open_interest: Count::ZERO,
            volume: Count::ZERO,
            value: Dollars::ZERO,
            last_price: None,
            last_size: Count::ZERO,
            trades: Vec::new(),
            minutes: BTreeMap::new(),
            premiums: BTreeMap::new(),
        };
        let worth = market.fair().map(|fair| super::amount::micros(divide_down(fair, Rate::ONE)));
        let price = worth.and_then(|worth| worth.floor_to(new.tick)).unwrap_or_default();
        check_mark(price, Count::ZERO)?;
        market.settlement_mark.price = price;
        market.liquidation_mark.price = price;
        market.note_premium(at);
        self.markets.push(market);
        self.tickers.insert(new.ticker, id);
        self.note_event(Event::Ticker { market: id });
        Ok(id)
    }

    /// Sets marks, and what the underlying costs. `None` leaves one as it is; the reference is taken
    /// away by `Some(None)`. Margins and triggers are looked at afterwards.
    #[expect(clippy::option_option, reason = "left alone, taken away and set are three things")]
    pub(crate) fn set_marks(
        &mut self,
        ticker: &str,
        settlement: Option<Dollars>,
        liquidation: Option<Dollars>,
        reference: Option<Option<Dollars>>,
        now: Time,
    ) -> Result<(), Refusal> {
        self.command(now, |engine| {
            let at = engine.now;
            let market = engine.market_by_ticker_mut(ticker)?;
            let held = market.open_interest;
            for price in [settlement, liquidation].into_iter().flatten() {
                check_mark(price, held)?;
            }
            if let Some(Some(price)) = reference {
                check_mark(price, Count::ZERO)?;
            }
            if let Some(price) = settlement {
                market.settlement_mark = Mark { price, at };
            }
            if let Some(price) = liquidation {
                market.liquidation_mark = Mark { price, at };
            }
            if let Some(price) = reference {
                market.reference = price.map(|price| Mark { price, at });
            }
            market.note_premium(at);
            let id = market.id;
            engine.marked(id);
            Ok(())
        })
    }

    /// Pauses a market, or lets it trade again. A pause cancels the orders that ask for it.
    pub(crate) fn set_paused(
        &mut self,
        ticker: &str,
        paused: bool,
        now: Time,
    ) -> Result<(), Refusal> {
        self.command(now, |engine| {
            let market = engine.market_by_ticker_mut(ticker)?;
            market.halts.paused = paused;
            let id = market.id;
            if paused {
                engine.cancel_market(id, true, Reason::PauseCancel);
            }
            Ok(())
        })
    }

    /// Cancels the orders of a market, or those that ask for it when it pauses.
    pub(crate) fn cancel_market(&mut self, market: MarketId, on_pause: bool, reason: Reason) {
        let Some(found) = self.market(market) else { return };
        let orders: BTreeSet<OrderId> = [Side::Bid, Side::Ask]
            .into_iter()
            .flat_map(|side| found.book.orders(side))
            .map(|(_, order, _)| order)
            .filter(|id| !on_pause || self.order(*id).is_some_and(|order| order.cancel_on_pause))
            .collect();
        for order in orders {
            self.cancel_and_tell(order, reason);
        }
    }
}

/// Checks a price that is set: above zero, four decimals at most, and what is held stays within what
/// can be counted.
fn check_mark(price: Dollars, held: Count) -> Result<(), Refusal> {
    if !price.is_positive() || price > MAX_PRICE || price.to_centi_cents().is_none() {
        return Err(Refusal::parameters("a mark is above zero and has four decimals at most"));
    }
    if cost(price, held) > MAX_NOTIONAL {
        return Err(Refusal::parameters("at this mark what is held is worth too much"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perps::engine::tests::{START, dollars, engine};

    #[test]
    fn the_band_is_the_wider_of_a_fifth_and_a_thousand_ticks() {
        let mut perps = engine();
        let market = perps.markets.first_mut().unwrap();
        // 80 % of 50 is 40; 1,000 ticks of a cent below is 40, too.
        market.book.insert(Side::Bid, dollars("50"), 1, OrderId(1), Count::ONE);
        market.book.insert(Side::Ask, dollars("60"), 2, OrderId(2), Count::ONE);
        for (side, price, fits) in [
            (Side::Bid, "40", true),
            (Side::Bid, "39.99", false),
            (Side::Bid, "70", true),
            (Side::Ask, "72", true),
            (Side::Ask, "72.01", false),
            (Side::Ask, "0.01", true),
            (Side::Bid, "50.005", false),
            (Side::Bid, "0", false),
            (Side::Bid, "-1", false),
        ] {
            assert_eq!(market.check_price(side, dollars(price)).is_ok(), fits, "{side:?} {price}");
        }
        // Ticks of a dollar: a thousand of them are more than a fifth.
        market.tick = Dollars::ONE;
        assert!(market.check_price(Side::Bid, dollars("1")).is_ok());
        assert!(market.check_price(Side::Ask, dollars("1060")).is_ok());
        assert!(market.check_price(Side::Ask, dollars("1061")).is_err());
    }

    #[test]
    fn a_premium_is_the_mark_over_what_the_underlying_makes_of_a_contract() {
        let mut perps = engine();
        let ticker = perps.markets[0].ticker.clone();
        assert_eq!(perps.markets[0].premium(), Some(Rate::ZERO));
        let mark = dollars("50.5");
        perps.set_marks(&ticker, Some(mark), None, None, START).unwrap();
        assert_eq!(perps.markets[0].premium().unwrap().to_string(), "0.01");
        perps.set_marks(&ticker, None, None, Some(None), START).unwrap();
        assert_eq!(perps.markets[0].premium(), None);
        for price in ["0", "-1", "1.00001", "10000001"] {
            assert!(perps.set_marks(&ticker, Some(dollars(price)), None, None, START).is_err());
        }
    }
}
