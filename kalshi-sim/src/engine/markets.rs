//! A market's life: listing, opening, pauses, closing, determination, payment; and its records.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars, PriceGrid, PriceLevel, PriceRange};
use serde::{Deserialize, Serialize};

use crate::engine::{
    Engine, Timer,
    amount::{SaturatingArithmetic, cost, other_leg, payout},
    book::Book,
    fees::Fees,
    ids::{MarketId, OrderId, TradeId},
    matching::Matching,
    types::{
        Event, MarketChange, MarketResult, MarketStatus, NewMarket, PositionKey, Reason, Refusal,
        Settlement, Shard, Side, Time,
    },
};

/// The time for which orders of a closed market stay, unreachable, before they are canceled.
const SWEEP_MILLIS: i64 = 1_000;
const MINUTE_MILLIS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;
/// Balances move in steps of this at a scalar settlement.
const SETTLEMENT_STEP: Dollars = Dollars::from_micros(100);

/// A market: what the engine knows of it. Titles and rules are elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Market {
    pub(crate) id: MarketId,
    pub(crate) ticker: String,
    pub(crate) event_ticker: String,
    pub(crate) series_ticker: String,
    pub(crate) shard: Shard,
    pub(crate) status: MarketStatus,
    pub(crate) structure: String,
    pub(crate) grid: PriceGrid,
    pub(crate) fees: Fees,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    pub(crate) opens: Time,
    pub(crate) closes: Time,
    pub(crate) settlement_timer_seconds: u32,
    pub(crate) result: Option<MarketResult>,
    pub(crate) determined: Option<Time>,
    pub(crate) settled: Option<Time>,
    pub(crate) open_interest: Count,
    pub(crate) volume: Count,
    pub(crate) last_price: Option<Dollars>,
    pub(crate) last_size: Count,
    /// Price × count of all trades.
    pub(crate) value: Dollars,
    /// Oldest first.
    pub(crate) trades: Vec<TradeId>,
    /// By the minute's start in minutes since 1970; minutes without change are left out.
    pub(crate) minutes: BTreeMap<i64, Minute>,
    pub(super) book: Book,
    /// The number of the action that last changed the book, 0 before the first.
    #[serde(default)]
    pub(crate) clock: u64,
}

/// The trades and quotes of one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Minute {
    /// The best bid; zero stands for none.
    pub(crate) bid: Bar,
    /// The best ask; one dollar stands for none.
    pub(crate) ask: Bar,
    /// Of the trades, if there were any.
    pub(crate) price: Option<Bar>,
    pub(crate) volume: Count,
    /// Price × count of the trades.
    pub(crate) value: Dollars,
    /// At the end.
    pub(crate) open_interest: Count,
}

/// Open, low, high and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bar {
    pub(crate) open: Dollars,
    pub(crate) low: Dollars,
    pub(crate) high: Dollars,
    pub(crate) close: Dollars,
}

impl Bar {
    pub(crate) fn at(price: Dollars) -> Self {
        Self { open: price, low: price, high: price, close: price }
    }

    pub(crate) fn add(&mut self, price: Dollars) {
        self.low = self.low.min(price);
        self.high = self.high.max(price);
        self.close = price;
    }

    /// Merges a later bar into this one.
    pub(crate) fn join(&mut self, later: Self) {
        self.low = self.low.min(later.low);
        self.high = self.high.max(later.high);
        self.close = later.close;
    }
}

impl Minute {
    /// Merges a later stretch of time into this one.
    pub(crate) fn join(&mut self, later: &Self) {
        self.bid.join(later.bid);
        self.ask.join(later.ask);
        match (&mut self.price, later.price) {
            (Some(price), Some(later)) => price.join(later),
            (price, later) => *price = price.or(later),
        }
        self.volume = self.volume.saturating_add(later.volume);
        self.value = self.value.saturating_add(later.value);
        self.open_interest = later.open_interest;
    }

    /// Returns a stretch of time before anything has happened.
    pub(crate) fn empty() -> Self {
        Self {
            bid: Bar::at(Dollars::ZERO),
            ask: Bar::at(Dollars::ONE),
            price: None,
            volume: Count::ZERO,
            value: Dollars::ZERO,
            open_interest: Count::ZERO,
        }
    }

    /// Returns a stretch of time in which nothing happens.
    pub(crate) fn after(before: &Self) -> Self {
        Self {
            bid: Bar::at(before.bid.close),
            ask: Bar::at(before.ask.close),
            price: None,
            volume: Count::ZERO,
            value: Dollars::ZERO,
            open_interest: before.open_interest,
        }
    }
}

/// The best prices and sizes, in YES terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prices {
    pub(crate) bid: Option<PriceLevel>,
    pub(crate) ask: Option<PriceLevel>,
}

impl Prices {
    /// Returns the best bid for YES, or zero without one.
    pub(crate) fn yes_bid(self) -> Dollars {
        self.bid.map_or(Dollars::ZERO, |level| level.price)
    }

    /// Returns the best ask for YES, or one dollar without one.
    pub(crate) fn yes_ask(self) -> Dollars {
        self.ask.map_or(Dollars::ONE, |level| level.price)
    }

    pub(crate) fn no_bid(self) -> Dollars {
        other_leg(self.yes_ask())
    }

    pub(crate) fn no_ask(self) -> Dollars {
        other_leg(self.yes_bid())
    }
}

impl Market {
    /// Returns the best prices now.
    pub(crate) fn prices(&self) -> Prices {
        Prices { bid: self.book.top(Side::Bid), ask: self.book.top(Side::Ask) }
    }

    /// Returns levels of one side from the best on, in YES prices.
    pub(crate) fn levels(&self, side: Side) -> impl Iterator<Item = PriceLevel> + '_ {
        self.book.levels(side)
    }

    /// Returns the orders of one side in the order in which they trade.
    pub(crate) fn queue(&self, side: Side) -> impl Iterator<Item = (Dollars, OrderId, Count)> + '_ {
        self.book.orders(side)
    }

    /// Returns the contracts traded in the 24 hours before a time.
    pub(crate) fn volume_24h(&self, now: Time) -> Count {
        let from = now.as_millis().div_euclid(MINUTE_MILLIS) - DAY_MINUTES;
        self.minutes
            .range(from..)
            .fold(Count::ZERO, |sum, (_, minute)| sum.saturating_add(minute.volume))
    }

    /// Returns the minute that was the last one 24 hours before a time.
    pub(crate) fn day_before(&self, now: Time) -> Option<&Minute> {
        let until = now.as_millis().div_euclid(MINUTE_MILLIS) - DAY_MINUTES;
        self.minutes.range(..=until).next_back().map(|(_, minute)| minute)
    }

    /// Returns the price of the last trade that was 24 hours before a time or earlier.
    pub(crate) fn price_before(&self, now: Time) -> Option<Dollars> {
        let until = now.as_millis().div_euclid(MINUTE_MILLIS) - DAY_MINUTES;
        let mut before = self.minutes.range(..=until).rev();
        before.find_map(|(_, minute)| minute.price.map(|bar| bar.close))
    }

    pub(super) fn printed(&mut self, id: TradeId, price: Dollars, count: Count, now: Time) {
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
    fn note(&mut self, now: Time) {
        let prices = self.prices();
        let open_interest = self.open_interest;
        let minute = self.minute(now);
        minute.bid.add(prices.yes_bid());
        minute.ask.add(prices.yes_ask());
        minute.open_interest = open_interest;
    }

    /// Returns the present minute; a new one opens where the last one closed.
    fn minute(&mut self, now: Time) -> &mut Minute {
        let number = now.as_millis().div_euclid(MINUTE_MILLIS);
        let before = self.minutes.last_key_value().map(|(_, minute)| minute);
        let (bid, ask) = before
            .map_or((Dollars::ZERO, Dollars::ONE), |minute| (minute.bid.close, minute.ask.close));
        let open_interest = self.open_interest;
        self.minutes.entry(number).or_insert_with(|| Minute {
            bid: Bar::at(bid),
            ask: Bar::at(ask),
            price: None,
            volume: Count::ZERO,
            value: Dollars::ZERO,
            open_interest,
        })
    }
}

impl Engine {
    /// Lists a market. It opens and closes by itself.
    pub(crate) fn add_market(&mut self, new: &NewMarket, now: Time) -> Result<MarketId, Refusal> {
        self.advance(now);
        if self.tickers.contains_key(&new.ticker) {
            return Err(Refusal::conflict("market_exists", "there is a market with this ticker"));
        }
        if new.opens >= new.closes {
            return Err(Refusal::parameters("a market must open before it closes"));
        }
        let grid = PriceGrid::new(new.ranges.clone())
            .map_err(|error| Refusal::parameters(error.to_string()))?;
        if new.ranges.iter().any(|range| range.step.to_centi_cents().is_none()) {
            return Err(Refusal::parameters("prices have four decimals at most"));
        }
        let number = u32::try_from(self.markets.len()).unwrap_or(u32::MAX).saturating_add(1);
        let id = MarketId(number);
        self.markets.push(Market {
            id,
            ticker: new.ticker.clone(),
            event_ticker: new.event_ticker.clone(),
            series_ticker: new.series_ticker.clone(),
            shard: new.shard,
            status: MarketStatus::Initialized,
            structure: new.structure.clone(),
            grid,
            fees: new.fees,
            created: self.now,
            updated: self.now,
            opens: new.opens,
            closes: new.closes,
            settlement_timer_seconds: new.settlement_timer_seconds,
            result: None,
            determined: None,
            settled: None,
            open_interest: Count::ZERO,
            volume: Count::ZERO,
            last_price: None,
            last_size: Count::ZERO,
            value: Dollars::ZERO,
            trades: Vec::new(),
            minutes: BTreeMap::new(),
            book: Book::default(),
            clock: 0,
        });
        self.tickers.insert(new.ticker.clone(), id);
        self.emit(Event::Market { market: id, change: MarketChange::Created });
        self.schedule(new.opens, Timer::Open(id));
        self.schedule(new.closes, Timer::Close(id));
        // What is due already happens now, so that a market can be listed open.
        self.advance(now);
        Ok(id)
    }

    /// Records that the texts of a market have changed, which are kept elsewhere.
    pub(crate) fn renamed(&mut self, market: MarketId, now: Time) -> Result<(), Refusal> {
        self.advance(now);
        let now = self.now;
        let market = self.listed(market)?;
        market.updated = now;
        let id = market.id;
        self.emit(Event::Market { market: id, change: MarketChange::MetadataUpdated });
        Ok(())
    }

    /// Gives a market another grid. Resting orders stay, also those that are off the new one: what
    /// the exchange does with them is not documented.
    pub(crate) fn set_grid(
        &mut self,
        market: MarketId,
        structure: &str,
        ranges: Vec<PriceRange>,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let grid =
            PriceGrid::new(ranges).map_err(|error| Refusal::parameters(error.to_string()))?;
        let now = self.now;
        let market = self.listed(market)?;
        market.grid = grid;
        structure.clone_into(&mut market.structure);
        market.updated = now;
        let id = market.id;
        let change = MarketChange::PriceLevelStructureUpdated;
        self.emit(Event::Market { market: id, change });
        Ok(())
    }

    /// Changes the fees of a market's trades from now on, and what its resting orders hold for them.
    pub(crate) fn set_fees(
        &mut self,
        market: MarketId,
        fees: Fees,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let listed = self.listed(market)?;
        let before = std::mem::replace(&mut listed.fees, fees);
        let resting: Vec<OrderId> = [Side::Bid, Side::Ask]
            .into_iter()
            .flat_map(|side| listed.queue(side))
            .map(|(_, order, _)| order)
            .collect();
        for order in resting {
            let Some(order) = self.order(order) else { continue };
            let (key, side) = (self.position_key(order), order.side);
            let (price, count) = (order.price, order.remaining);
            self.ledger.release(key, side, price, count, before.of(price, count, true));
            self.ledger.hold(key, side, price, count, fees.of(price, count, true));
        }
        Ok(())
    }

    /// Pauses one market: orders stay, new ones are refused.
    pub(crate) fn deactivate(&mut self, market: MarketId, now: Time) -> Result<(), Refusal> {
        self.advance(now);
        self.turn(market, MarketStatus::Active, MarketStatus::Inactive)?;
        self.emit(Event::Market { market, change: MarketChange::Deactivated });
        Ok(())
    }

    /// Takes a paused market up again, which cancels all its resting orders.
    pub(crate) fn activate(&mut self, market: MarketId, now: Time) -> Result<(), Refusal> {
        self.advance(now);
        self.turn(market, MarketStatus::Inactive, MarketStatus::Active)?;
        self.cancel_market(market, Reason::PauseCancel, |_| true);
        self.emit(Event::Market { market, change: MarketChange::Activated });
        Ok(())
    }

    /// Pauses trading, or everything, on one shard; or ends the pause.
    pub(crate) fn set_shard(
        &mut self,
        shard: Shard,
        exchange_active: bool,
        trading_active: bool,
        now: Time,
    ) {
        self.advance(now);
        let before = self.shard(shard);
        let state = super::ShardState { exchange_active, trading_active };
        self.shards.insert(shard, state);
        let begins = (before.exchange_active && !exchange_active)
            || (before.trading_active && !trading_active);
        if begins {
            let markets: Vec<MarketId> = self
                .markets
                .iter()
                .filter(|market| market.shard == shard)
                .map(|market| market.id)
                .collect();
            for market in markets {
                self.cancel_market(market, Reason::PauseCancel, |on_pause| on_pause);
            }
        }
    }

    /// Moves the close. A closed market whose close comes to lie in the future is active again.
    pub(crate) fn move_close(
        &mut self,
        market: MarketId,
        closes: Time,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let now = self.now;
        let found = self.listed(market)?;
        if found.result.is_some() {
            return Err(Refusal::conflict("market_determined", "the market is determined"));
        }
        if closes <= found.opens {
            return Err(Refusal::parameters("a market must open before it closes"));
        }
        found.closes = closes;
        found.updated = now;
        let reopens = found.status == MarketStatus::Closed && closes > now;
        if reopens {
            found.status = MarketStatus::Active;
        }
        self.emit(Event::Market { market, change: MarketChange::CloseDateUpdated });
        if reopens {
            self.emit(Event::Market { market, change: MarketChange::Activated });
        }
        self.schedule(closes, Timer::Close(market));
        self.advance(now);
        Ok(())
    }

    /// Sets the result; the market is closed first if it is not yet. It is paid out after its
    /// timer.
    pub(crate) fn determine(
        &mut self,
        market: MarketId,
        result: MarketResult,
        now: Time,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let value = result.value();
        if value.is_negative() || value > Dollars::ONE {
            return Err(Refusal::parameters("a settlement value is 0 to 1 dollar"));
        }
        let now = self.now;
        let found = self.listed(market)?;
        let status = match found.status {
            MarketStatus::Finalized => {
                return Err(Refusal::conflict("market_finalized", "the market is settled"));
            }
            // A result that was disputed comes again as an amended one.
            MarketStatus::Disputed => MarketStatus::Amended,
            _ => MarketStatus::Determined,
        };
        found.status = status;
        found.closes = found.closes.min(now);
        found.result = Some(result);
        found.determined = Some(now);
        found.updated = now;
        let timer = i64::from(found.settlement_timer_seconds) * 1_000;
        self.cancel_market(market, Reason::CloseCancel, |_| true);
        self.close_rfqs_of(market);
        self.emit(Event::Market { market, change: MarketChange::Determined });
        let due = Time::from_millis(now.as_millis().saturating_add(timer));
        self.schedule(due, Timer::Pay(market));
        self.advance(now);
        Ok(())
    }

    /// Disputes a determined market: nothing is paid until it is determined again.
    pub(crate) fn dispute(&mut self, market: MarketId, now: Time) -> Result<(), Refusal> {
        self.advance(now);
        self.turn(market, MarketStatus::Determined, MarketStatus::Disputed)
    }

    /// Notes a market's best prices after a command, and notifies the streams.
    pub(super) fn mark(&mut self, id: MarketId) {
        let now = self.now;
        if let Some(market) = self.market_mut(id) {
            market.note(now);
            self.emit(Event::Ticker { market: id });
        }
    }

    pub(super) fn open(&mut self, id: MarketId) {
        // No event at the opening: the exchange sends none.
        let _ = self.turn(id, MarketStatus::Initialized, MarketStatus::Active);
    }

    pub(super) fn close(&mut self, id: MarketId) {
        let now = self.now;
        let Some(market) = self.market_mut(id) else { return };
        let open = matches!(
            market.status,
            MarketStatus::Initialized | MarketStatus::Active | MarketStatus::Inactive
        );
        // The close may have been moved since the timer was set.
        if !open || market.closes > now {
            return;
        }
        market.status = MarketStatus::Closed;
        market.updated = now;
        self.close_rfqs_of(id);
        let sweep = Time::from_millis(now.as_millis().saturating_add(SWEEP_MILLIS));
        self.schedule(sweep, Timer::Sweep(id));
    }

    pub(super) fn sweep(&mut self, id: MarketId) {
        if self.market(id).is_some_and(|market| market.status == MarketStatus::Closed) {
            self.cancel_market(id, Reason::CloseCancel, |_| true);
        }
    }

    /// Pays a determined market out.
    pub(super) fn settle(&mut self, id: MarketId) {
        let now = self.now;
        let Some(market) = self.market_mut(id) else { return };
        let due = market.determined.is_some_and(|at| {
            at.as_millis().saturating_add(i64::from(market.settlement_timer_seconds) * 1_000)
                <= now.as_millis()
        });
        let decided = matches!(market.status, MarketStatus::Determined | MarketStatus::Amended);
        let Some(result) = market.result.filter(|_| decided && due) else { return };
        market.status = MarketStatus::Finalized;
        market.settled = Some(now);
        market.updated = now;
        let shard = market.shard;
        let collateral = payout(market.open_interest);
        market.open_interest = Count::ZERO;
        self.ledger.escrow = self.ledger.escrow.saturating_sub(collateral);
        self.ledger.fee_revenue = self.ledger.fee_revenue.saturating_add(collateral);
        let keys: Vec<PositionKey> = self
            .ledger
            .accounts()
            .flat_map(|(account, held)| {
                held.positions
                    .range((id, 0)..=(id, u8::MAX))
                    .map(move |((market, subaccount), _)| (account, *market, *subaccount))
            })
            .map(|(account, market, subaccount)| PositionKey { account, subaccount, market, shard })
            .collect();
        for key in keys {
            self.pay_out(key, result);
        }
        self.emit(Event::Market { market: id, change: MarketChange::Settled });
    }

    fn pay_out(&mut self, key: PositionKey, result: MarketResult) {
        let now = self.now;
        let value = result.value();
        let cash = self.ledger.balance(key.account, key.subaccount, key.shard).cash;
        let Some(position) = self.ledger.position_mut(key) else { return };
        let (yes, no) = (position.yes, position.no);
        let (yes_cost, no_cost) = (position.yes_cost, position.no_cost);
        let gross = cost(value, yes).saturating_add(cost(other_leg(value), no));
        let fee = match result {
            MarketResult::Scalar(_) => {
                let balance = cash.saturating_add(gross);
                balance
                    .saturating_sub(balance.floor_to(SETTLEMENT_STEP).unwrap_or(balance))
                    .min(gross)
            }
            MarketResult::Yes | MarketResult::No => Dollars::ZERO,
        };
        let revenue = gross.saturating_sub(fee);
        position.realized = position
            .realized
            .saturating_add(revenue)
            .saturating_sub(yes_cost)
            .saturating_sub(no_cost);
        position.yes = Count::ZERO;
        position.no = Count::ZERO;
        position.yes_cost = Dollars::ZERO;
        position.no_cost = Dollars::ZERO;
        position.settled = true;
        position.updated = now;
        self.ledger.fee_revenue = self.ledger.fee_revenue.saturating_sub(revenue);
        self.ledger.pay(key, revenue, now);
        if yes.is_zero() && no.is_zero() {
            return;
        }
        if let Some(account) = self.ledger.account_mut(key.account) {
            account.settlements.push(Settlement {
                market: key.market,
                subaccount: key.subaccount,
                result,
                yes,
                yes_cost,
                no,
                no_cost,
                revenue,
                fee,
                at: now,
            });
        }
        self.emit(Event::Position {
            account: key.account,
            subaccount: key.subaccount,
            market: key.market,
        });
    }

    /// Cancels the resting orders of a market that are chosen by their cancel-on-pause flag.
    fn cancel_market(&mut self, id: MarketId, reason: Reason, chosen: impl Fn(bool) -> bool) {
        let Some(market) = self.market(id) else { return };
        let orders: Vec<OrderId> = [Side::Bid, Side::Ask]
            .into_iter()
            .flat_map(|side| market.queue(side))
            .map(|(_, order, _)| order)
            .filter(|order| self.order(*order).is_some_and(|order| chosen(order.cancel_on_pause)))
            .collect();
        for order in orders {
            self.cancel_and_tell(order, reason);
        }
    }

    fn turn(
        &mut self,
        market: MarketId,
        from: MarketStatus,
        to: MarketStatus,
    ) -> Result<(), Refusal> {
        let now = self.now;
        let market = self.listed(market)?;
        if market.status != from {
            return Err(Refusal::conflict(
                "market_status",
                "the market's status does not allow it",
            ));
        }
        market.status = to;
        market.updated = now;
        Ok(())
    }

    fn listed(&mut self, market: MarketId) -> Result<&mut Market, Refusal> {
        self.market_mut(market).ok_or_else(|| Refusal::not_found("market not found"))
    }

    /// Checks that everything owed and owned adds up: nothing is created, nothing is lost.
    ///
    /// Returns what is wrong, for tests and for the loading of a saved exchange.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let mut cash = Dollars::ZERO;
        let mut deposited = Dollars::ZERO;
        let mut open: BTreeMap<MarketId, (Count, Count)> = BTreeMap::new();
        let shard = |market| self.market(market).map_or(0, |market| market.shard);
        for (id, account) in self.ledger.accounts() {
            if !account.holds_what_it_needs(shard) {
                return Err(format!("{id} does not hold what its orders need"));
            }
            deposited = deposited.saturating_add(account.deposited);
            for balance in account.cash.values() {
                cash = cash.saturating_add(balance.cash);
            }
            for ((market, _), position) in &account.positions {
                let (yes, no) = open.entry(*market).or_default();
                *yes = yes.saturating_add(position.yes);
                *no = no.saturating_add(position.no);
            }
        }
        let owned = cash.saturating_add(self.ledger.fee_revenue).saturating_add(self.ledger.escrow);
        if owned != deposited {
            return Err(format!("{deposited} came in, {owned} is there"));
        }
        let mut escrow = Dollars::ZERO;
        for market in &self.markets {
            let (yes, no) = open.get(&market.id).copied().unwrap_or_default();
            if yes != no || yes != market.open_interest {
                let interest = market.open_interest;
                return Err(format!("{}: {yes} YES, {no} NO, interest {interest}", market.ticker));
            }
            escrow = escrow.saturating_add(payout(yes));
            let prices = market.prices();
            if prices.yes_bid() >= prices.yes_ask() {
                return Err(format!("{}: the book is crossed", market.ticker));
            }
        }
        if escrow != self.ledger.escrow {
            return Err(format!("the collateral is {}, not {escrow}", self.ledger.escrow));
        }
        Ok(())
    }
}
