//! Orders of event contracts: entry, amendment, decrease, cancellation, and the money of both.
//!
//! They are matched on the one YES book of a market. A refusal leaves everything as it was.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars};

use crate::engine::{
    Engine, PositionKey, Timer,
    amount::{MAX_COUNT, SaturatingArithmetic, cost, payout},
    book::Book,
    fees::{self, Charged},
    groups::{Group, OrderGroups},
    ids::{AccountId, GroupId, MarketId, OrderId, TradeId},
    markets::Market,
    matching::{self, Matching},
    types::{
        Amend, Decrease, Event, Executed, Fill, MarketStatus, NewOrder, Order, OrderStatus, Reason,
        Refusal, Route, Shard, Side, Subaccount, Time, TimeInForce, Trade,
    },
};

impl Engine {
    /// Places an order and trades it as far as it goes.
    pub(crate) fn place_order(&mut self, new: &NewOrder, now: Time) -> Result<Executed, Refusal> {
        self.advance(now);
        self.place_now(new)
    }

    /// Places an order without letting time pass, for timers.
    pub(super) fn place_now(&mut self, new: &NewOrder) -> Result<Executed, Refusal> {
        let market = self.admit(new)?;
        let (id, shard) = (market.id, market.shard);
        let key =
            PositionKey { account: new.account, subaccount: new.subaccount, market: id, shard };
        let mut count = new.count;
        // It never rests, and each contract that it trades from here on is one less to reduce: this
        // is the only place where the limit counts.
        if new.reduce_only {
            count = count.min(self.reducible(key, new.side));
        }
        let fee = self.fee_bound(id, new.price, count, false);
        self.ledger.afford(key, new.side, new.price, count, fee)?;
        let order = self.enter(new, id, count);
        Ok(self.execute(new, order, count))
    }

    /// Changes an order's price, total count, expiration or client order id.
    pub(crate) fn amend(&mut self, amend: &Amend, now: Time) -> Result<(Executed, bool), Refusal> {
        self.advance(now);
        let order = self
            .owned(amend.account, amend.subaccount, amend.order, &amend.route, &amend.ticker)?
            .clone();
        if self.market(order.market).is_none_or(|market| market.ticker != amend.ticker) {
            return Err(Refusal::invalid("order_ticker_mismatch", "the order has another ticker"));
        }
        self.amend_order(&order, amend)
    }

    /// Decreases a resting order; its rank in the queue stays. Returns what rests then.
    pub(crate) fn decrease(
        &mut self,
        account: AccountId,
        subaccount: Subaccount,
        order: OrderId,
        decrease: Decrease,
        route: &Route,
        now: Time,
    ) -> Result<Count, Refusal> {
        self.advance(now);
        let order = self.owned(account, subaccount, order, route, "")?.bare();
        self.decrease_order(&order, decrease)
    }

    /// Cancels what rests of an order. Gives how much that was.
    pub(crate) fn cancel(
        &mut self,
        account: AccountId,
        subaccount: Subaccount,
        order: OrderId,
        route: &Route,
        now: Time,
    ) -> Result<Count, Refusal> {
        self.advance(now);
        let order = self.owned(account, subaccount, order, route, "")?.bare();
        self.cancel_order(&order)
    }

    /// Cancels all resting orders of one subaccount or all of them, on every shard, that can be
    /// canceled. Returns how many.
    pub(crate) fn cancel_all(
        &mut self,
        account: AccountId,
        subaccount: Option<Subaccount>,
        now: Time,
    ) -> Result<usize, Refusal> {
        self.advance(now);
        let resting: Vec<OrderId> = self
            .account(account)?
            .resting
            .iter()
            .copied()
            .filter(|id| {
                self.order(*id).is_some_and(|order| {
                    subaccount.is_none_or(|number| order.subaccount == number)
                        && self.check_reachable(order.market).is_ok()
                })
            })
            .collect();
        for id in &resting {
            self.cancel_and_tell(*id, Reason::None);
        }
        Ok(resting.len())
    }

    /// Returns the contracts that trade before a resting order: all at better prices, and those
    /// ahead at its own.
    pub(crate) fn queue_position(&self, order: &Order) -> Option<Count> {
        let market = self.market(order.market)?;
        (order.status == OrderStatus::Resting).then(|| {
            market.levels(order.side).take_while(|level| level.price != order.price).fold(
                market.book.ahead(order.side, order.price, order.queue_priority),
                |sum, level| sum.saturating_add(level.count),
            )
        })
    }

    /// Returns an order of the account if it is of the subaccount and on the shard that the request
    /// names.
    pub(crate) fn owned(
        &self,
        account: AccountId,
        subaccount: Subaccount,
        order: OrderId,
        route: &Route,
        ticker: &str,
    ) -> Result<&Order, Refusal> {
        let missing = || Refusal::not_found("order not found");
        let found = self.order(order).ok_or_else(missing)?;
        if found.account != account || found.subaccount != subaccount {
            return Err(missing());
        }
        let shard = self.market(found.market).map_or(0, |market| market.shard);
        let named = route.ticker.as_deref().or((!ticker.is_empty()).then_some(ticker));
        if self.route(route, named)? == shard { Ok(found) } else { Err(missing()) }
    }

    /// Returns the shard that a request goes to: the one named; or the ticker's; or the default.
    pub(crate) fn route(&self, route: &Route, ticker: Option<&str>) -> Result<Shard, Refusal> {
        match route.exchange_index {
            Some(-1) | None => match ticker {
                Some(ticker) => self
                    .market_by_ticker(ticker)
                    .map(|market| market.shard)
                    .ok_or_else(|| Refusal::not_found("market not found")),
                None if route.exchange_index.is_none() => Ok(0),
                None => Err(Refusal::parameters("exchange_index -1 needs a market ticker")),
            },
            Some(index) => Shard::try_from(index)
                .ok()
                .filter(|shard| *shard <= 100)
                .ok_or_else(|| Refusal::parameters("exchange_index must be -1 to 100")),
        }
    }

    /// Checks everything that keeps an order from being accepted.
    fn admit(&self, new: &NewOrder) -> Result<&Market, Refusal> {
        let market = self
            .market_by_ticker(&new.ticker)
            .filter(|market| match new.route.exchange_index {
                // By the ticker.
                Some(-1) | None => true,
                Some(index) => index == i64::from(market.shard),
            })
            .ok_or_else(|| Refusal::not_found("market not found"))?;
        if !new.count.is_positive() || new.count > MAX_COUNT {
            return Err(Refusal::invalid("invalid_order_size", "the count is out of range"));
        }
        self.check_tradable(market.id)?;
        self.on_grid(market.id, new.price)?;
        self.check_lifetime(new)?;
        let account = self.account(new.account)?;
        if !self.ledger.provisioned(new.account, new.subaccount, market.shard) {
            return Err(Refusal::not_found("there is no such subaccount on this shard"));
        }
        matching::check_open_orders(account.resting.len())?;
        if let Some(id) = &new.client_order_id {
            self.unused(new.account, id)?;
        }
        self.check_group(new, market.shard)?;
        Ok(market)
    }

    fn on_grid(&self, market: MarketId, price: Dollars) -> Result<(), Refusal> {
        match self.market(market) {
            Some(market) if market.grid.is_valid(price) => Ok(()),
            _ => Err(Refusal::invalid("invalid_price", "the price is not on the market's grid")),
        }
    }

    pub(super) fn unused(&self, account: AccountId, client_order_id: &str) -> Result<(), Refusal> {
        matching::check_client_order_id(client_order_id)?;
        let used = self.account(account)?.client_order_ids.get(client_order_id);
        let is_over = |order: &Order| order.status != OrderStatus::Resting;
        let is_free_again =
            |id: &OrderId| self.reuse_client_order_ids && self.order(*id).is_some_and(is_over);
        if used.is_some_and(|id| !is_free_again(id)) {
            return Err(matching::already_exists());
        }
        Ok(())
    }

    /// Returns what a reduce-only order may still trade.
    fn reducible(&self, key: PositionKey, side: Side) -> Count {
        self.ledger.position(key).map_or(Count::ZERO, |position| position.closable(side))
    }

    /// Returns the most that a count can be charged at a price.
    pub(super) fn fee_bound(
        &self,
        market: MarketId,
        price: Dollars,
        count: Count,
        maker: bool,
    ) -> Dollars {
        self.market(market).map_or(Dollars::ZERO, |market| market.fees.of(price, count, maker))
    }

    /// Writes an order down; nothing of it is open yet.
    pub(super) fn enter(&mut self, new: &NewOrder, market: MarketId, count: Count) -> OrderId {
        let id = OrderId(u64::try_from(self.orders.len()).unwrap_or(u64::MAX).saturating_add(1));
        if let Some(account) = self.ledger.account_mut(new.account) {
            account.orders.push(id);
            account.updated = self.now;
            if let Some(client_order_id) = new.client_order_id.as_deref() {
                account.client_order_ids.insert(Box::from(client_order_id), id);
            }
        }
        self.ledger.history.note_order(id, None);
        self.orders.push(Order::entered(id, new, market, count, self.now));
        id
    }

    /// Writes a trade on the tape.
    pub(super) fn print(
        &mut self,
        market: MarketId,
        price: Dollars,
        count: Count,
        taker_side: Side,
        block: bool,
    ) -> TradeId {
        let id = TradeId(u64::try_from(self.trades.len()).unwrap_or(u64::MAX).saturating_add(1));
        let at = self.now;
        self.trades.push(Trade { id, market, price, count, taker_side, block, at });
        if let Some(market) = self.market_mut(market) {
            market.printed(id, price, count, at);
        }
        self.emit(Event::Trade { trade: id });
        id
    }

    /// Applies one party's side of a trade: money, position, fee, order and fill. Returns the fee
    /// and the pairs that were netted.
    pub(super) fn fill(
        &mut self,
        order: OrderId,
        trade: TradeId,
        price: Dollars,
        count: Count,
        taker: bool,
    ) -> (Dollars, Count) {
        let now = self.now;
        let Some(order) = self.order(order) else { return (Dollars::ZERO, Count::ZERO) };
        let (id, account, subaccount) = (order.id, order.account, order.subaccount);
        let (market, side, rounding) = (order.market, order.side, order.extras().rounding);
        let key = self.position_key(order);
        let direct = self.ledger.account(account).is_none_or(|account| account.direct);
        let model = self.fee_bound(market, price, count, !taker);
        let mut charged = Charged { fee: Dollars::ZERO, rounding };
        let booked = self.ledger.book(
            key,
            side,
            price,
            count,
            |revenue| {
                charged = fees::charge(revenue, model, direct, rounding);
                charged.fee
            },
            now,
        );
        self.record_fill(id, count, cost(side.leg_price(price), count), charged, taker);
        let mut index = 0;
        if let Some(account) = self.ledger.account_mut(account) {
            index = account.fills.len();
            account.fills.push(Fill {
                trade,
                order: id,
                market,
                subaccount,
                side,
                price,
                count,
                taker,
                fee: charged.fee,
                position: booked.net,
                at: now,
            });
        }
        self.emit(Event::Fill { account, fill: index });
        self.emit(Event::Position { account, subaccount, market });
        (charged.fee, booked.netted)
    }
}

impl Matching for Engine {
    const REDUCE_ONLY: (&'static [TimeInForce], &'static str) =
        (&[TimeInForce::ImmediateOrCancel], "reduce_only goes with immediate_or_cancel only");

    fn pass_time(&mut self, now: Time) {
        self.advance(now);
    }

    fn time(&self) -> Time {
        self.now
    }

    fn find_order(&self, id: OrderId) -> Option<&Order> {
        self.order(id)
    }

    fn find_order_mut(&mut self, id: OrderId) -> Option<&mut Order> {
        self.order_mut(id)
    }

    fn book(&self, market: MarketId) -> Option<&Book> {
        self.market(market).map(|market| &market.book)
    }

    fn book_mut(&mut self, market: MarketId) -> Option<&mut Book> {
        self.market_mut(market).map(|market| &mut market.book)
    }

    fn resting_mut(&mut self, account: AccountId) -> Option<&mut BTreeSet<OrderId>> {
        self.ledger.account_mut(account).map(|account| &mut account.resting)
    }

    fn touch_account(&mut self, account: AccountId, at: Time) {
        if let Some(account) = self.ledger.account_mut(account) {
            account.updated = account.updated.max(at);
        }
    }

    fn take_queue_priority(&mut self) -> u64 {
        self.next_queue_priority()
    }

    fn publish(&mut self, event: Event) {
        self.emit(event);
    }

    fn publish_level(&mut self, order: &Order, delta: Count) {
        self.emit_level(order, delta);
    }

    fn publish_ticker(&mut self, market: MarketId) {
        self.mark(market);
    }

    fn schedule_expiry(&mut self, order: OrderId, at: Time) {
        self.schedule(at, Timer::Expire(order));
    }

    fn rename(&mut self, order: &Order, client_order_id: &str) {
        if let Some(account) = self.ledger.account_mut(order.account) {
            account.client_order_ids.insert(Box::from(client_order_id), order.id);
        }
        if let Some(order) = self.order_mut(order.id) {
            order.extras_mut().client_order_id = Some(Box::from(client_order_id));
        }
    }

    fn check_tradable(&self, market: MarketId) -> Result<(), Refusal> {
        self.check_reachable(market)?;
        let active = |market: &&Market| market.status == MarketStatus::Active;
        let market = self.market(market).filter(active).ok_or_else(inactive)?;
        if self.shard(market.shard).trading_active {
            Ok(())
        } else {
            Err(Refusal::unavailable("TRADING_PAUSED", "trading is paused"))
        }
    }

    fn check_reachable(&self, market: MarketId) -> Result<(), Refusal> {
        let market = self.market(market).ok_or_else(inactive)?;
        if !self.shard(market.shard).exchange_active {
            return Err(Refusal::unavailable("EXCHANGE_PAUSED", "the exchange is paused"));
        }
        match market.status {
            MarketStatus::Active | MarketStatus::Inactive => Ok(()),
            _ => Err(inactive()),
        }
    }

    fn check_price(&self, order: &Order, price: Dollars) -> Result<(), Refusal> {
        self.on_grid(order.market, price)
    }

    fn check_unused(&self, account: AccountId, client_order_id: &str) -> Result<(), Refusal> {
        self.unused(account, client_order_id)
    }

    fn check_affordable(
        &mut self,
        order: &Order,
        price: Dollars,
        count: Count,
    ) -> Result<(), Refusal> {
        let key = self.position_key(order);
        let held = self.fee_bound(order.market, order.price, order.remaining, true);
        let fee = self.fee_bound(order.market, price, count, false);
        self.ledger.release(key, order.side, order.price, order.remaining, held);
        let outcome = self.ledger.afford(key, order.side, price, count, fee);
        self.ledger.hold(key, order.side, order.price, order.remaining, held);
        outcome
    }

    fn check_account(&self, account: AccountId) -> Result<(), Refusal> {
        self.account(account).map(|_| ())
    }

    fn is_provisioned(&self, account: AccountId, subaccount: Subaccount, shard: Shard) -> bool {
        self.ledger.provisioned(account, subaccount, shard)
    }

    fn hold(&mut self, order: &Order) {
        let key = self.position_key(order);
        let fee = self.fee_bound(order.market, order.price, order.remaining, true);
        self.ledger.hold(key, order.side, order.price, order.remaining, fee);
    }

    fn release(&mut self, order: &Order, count: Count) {
        let key = self.position_key(order);
        let left = order.remaining.saturating_sub(count);
        let held = self.fee_bound(order.market, order.price, order.remaining, true);
        let keeps = self.fee_bound(order.market, order.price, left, true);
        self.ledger.release(key, order.side, order.price, count, held.saturating_sub(keeps));
    }

    fn trade_orders(
        &mut self,
        taker: OrderId,
        maker: &Order,
        price: Dollars,
        count: Count,
    ) -> Dollars {
        let market = maker.market;
        let trade = self.print(market, price, count, maker.side.opposite(), false);
        // The maker's money is freed before it is spent.
        let netted = self.fill(maker.id, trade, price, count, false).1;
        let (fee, taker_netted) = self.fill(taker, trade, price, count, true);
        let opened = count.saturating_sub(netted).saturating_sub(taker_netted);
        self.ledger.escrow = self.ledger.escrow.saturating_add(payout(opened));
        if let Some(market) = self.market_mut(market) {
            market.open_interest = market.open_interest.saturating_add(opened);
        }
        fee
    }

    fn order_groups(&self) -> &BTreeMap<GroupId, Group> {
        &self.groups
    }

    fn order_groups_mut(&mut self) -> &mut BTreeMap<GroupId, Group> {
        &mut self.groups
    }

    fn take_group_id(&mut self) -> GroupId {
        self.last_group += 1;
        GroupId(self.last_group)
    }
}

fn inactive() -> Refusal {
    Refusal::invalid("MARKET_INACTIVE", "the market takes no orders now")
}
