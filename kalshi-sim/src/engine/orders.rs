//! Orders: entry, matching, amendment, decrease, cancellation.
//!
//! Price-time priority on the one YES book of a market; a trade prints at the resting order's
//! price. A refusal leaves everything as it was.

use kalshi_types::{Count, Dollars};

use crate::engine::{
    Engine, PositionKey, Timer,
    amount::{MAX_COUNT, SaturatingArithmetic, cost, payout},
    fees,
    ids::{AccountId, MarketId, OrderId, TradeId},
    markets::Market,
    types::{
        Amend, Decrease, Event, Executed, Fill, MarketStatus, NewOrder, Order, OrderStatus, Reason,
        Refusal, Route, SelfTrade, Shard, Side, Subaccount, Time, TimeInForce, Trade,
    },
};

/// Open orders of one account.
const MAX_OPEN_ORDERS: usize = 200_000;
/// The longest client order id, in bytes.
const MAX_CLIENT_ORDER_ID: usize = 256;

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
        if new.reduce_only {
            count = count.min(self.reducible(key, new.side));
        }
        let fee = self.fee_bound(id, new.price, count, false);
        self.ledger.afford(key, new.side, new.price, count, fee)?;
        let order = self.enter(new, id, count);
        if count.is_zero() {
            return Ok(self.stop(order, Reason::ReduceOnlyCancel));
        }
        self.set_open(order, count);
        if new.post_only && self.would_cross(order) {
            return Ok(self.stop(order, Reason::PostOnlyCrossCancel));
        }
        if new.time_in_force == TimeInForce::FillOrKill && self.falls_short(order) {
            return Ok(self.stop(order, Reason::ImmediateOrCancel));
        }
        let mut done = self.cross(order);
        let stays = new.time_in_force == TimeInForce::GoodTillCanceled;
        if done.reason != Reason::None || (!stays && done.remaining.is_positive()) {
            let reason =
                if done.reason == Reason::None { Reason::ImmediateOrCancel } else { done.reason };
            self.drop_rest(order, reason);
            done.remaining = Count::ZERO;
            done.reason = reason;
        } else if done.remaining.is_positive() {
            self.rest(order);
        }
        self.emit(Event::Order { account: new.account, order, reason: done.reason });
        self.mark(id);
        Ok(done)
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
        if order.side != amend.side {
            return Err(Refusal::invalid("order_side_mismatch", "the order has the other side"));
        }
        if amend.client_order_id.is_some()
            && amend.client_order_id.as_deref() != order.extras().client_order_id.as_deref()
        {
            return Err(Refusal::invalid(
                "order_id_and_client_order_id_mismatch",
                "the order has another client order id",
            ));
        }
        Self::updatable(&order)?;
        self.tradable(order.market)?;
        self.on_grid(order.market, amend.price)?;
        let remaining = amend.count.saturating_sub(order.filled);
        if amend.count > MAX_COUNT || remaining.is_negative() {
            return Err(Refusal::invalid(
                "INVALID_AMEND_QTY_FOR_ORDER",
                "the count is the new total, and must not be below what has been filled",
            ));
        }
        if let Some(Some(expires)) = amend.expires
            && expires <= self.now
        {
            return Err(Refusal::parameters("expiration_time is in the past"));
        }
        if let Some(id) = &amend.updated_client_order_id
            && order.extras().client_order_id.as_deref() != Some(id)
        {
            self.unused(amend.account, id)?;
        }
        let moves = amend.price != order.price || remaining > order.remaining;
        if moves && remaining.is_positive() {
            self.affordable(&order, amend.price, remaining)?;
        }
        self.rename(&order, amend);
        if let Some(expires) = amend.expires {
            self.set_expiry(order.id, expires);
        }
        let changed = amend.price != order.price || remaining != order.remaining;
        let done = if remaining.is_zero() {
            self.cancel_resting(order.id, Reason::Amend);
            Executed::nothing(order.id)
        } else if moves {
            self.requeue(order.id, amend.price, amend.count)
        } else {
            self.shrink(order.id, remaining, Reason::Amend);
            if let Some(order) = self.order_mut(order.id) {
                order.initial = amend.count;
            }
            Executed { remaining, ..Executed::nothing(order.id) }
        };
        let reason = if done.reason == Reason::None { Reason::Amend } else { done.reason };
        self.touch(order.id, reason);
        self.emit(Event::Order { account: order.account, order: order.id, reason });
        self.mark(order.market);
        Ok((done, changed))
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
        Self::updatable(&order)?;
        self.reachable(order.market)?;
        let to = match decrease {
            Decrease::By(by) if by.is_positive() => order.remaining.saturating_sub(by),
            Decrease::To(to) => to,
            Decrease::By(_) => Count::from_hundredths(-1),
        };
        if to.is_negative() || to >= order.remaining {
            return Err(Refusal::invalid(
                "invalid_order_size",
                "the order must be decreased, and by no more than what rests",
            ));
        }
        if to.is_zero() {
            self.cancel_resting(order.id, Reason::Decrease);
        } else {
            self.shrink(order.id, to, Reason::Decrease);
            if let Some(order) = self.order_mut(order.id) {
                order.initial = order.filled.saturating_add(to);
            }
        }
        self.emit(Event::Order { account, order: order.id, reason: Reason::Decrease });
        self.mark(order.market);
        Ok(to)
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
        Self::updatable(&order)?;
        self.reachable(order.market)?;
        self.cancel_resting(order.id, Reason::None);
        self.emit(Event::Order { account, order: order.id, reason: Reason::None });
        self.mark(order.market);
        Ok(order.remaining)
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
                        && self.reachable(order.market).is_ok()
                })
            })
            .collect();
        for id in &resting {
            self.cancel_resting(*id, Reason::None);
            self.emit(Event::Order { account, order: *id, reason: Reason::None });
            if let Some(market) = self.order(*id).map(|order| order.market) {
                self.mark(market);
            }
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
        self.tradable(market.id)?;
        self.on_grid(market.id, new.price)?;
        let waits = new.time_in_force == TimeInForce::GoodTillCanceled;
        match new.expires {
            Some(_) if !waits => {
                return Err(Refusal::parameters(
                    "expiration_time goes with good_till_canceled only",
                ));
            }
            Some(expires) if expires <= self.now => {
                return Err(Refusal::parameters("expiration_time is in the past"));
            }
            _ => {}
        }
        if new.reduce_only && new.time_in_force != TimeInForce::ImmediateOrCancel {
            return Err(Refusal::parameters("reduce_only goes with immediate_or_cancel only"));
        }
        if new.post_only && !waits {
            return Err(Refusal::parameters("post_only goes with good_till_canceled only"));
        }
        let account = self.account(new.account)?;
        if !self.ledger.provisioned(new.account, new.subaccount, market.shard) {
            return Err(Refusal::not_found("there is no such subaccount on this shard"));
        }
        if account.resting.len() >= MAX_OPEN_ORDERS {
            return Err(Refusal::invalid(
                "too_many_open_orders",
                "200,000 orders are open already",
            ));
        }
        if let Some(id) = &new.client_order_id {
            self.unused(new.account, id)?;
        }
        if let Some(id) = new.group {
            let group = self.group_of(new.account, id, new.subaccount, market.shard)?;
            if group.triggered {
                return Err(Refusal::invalid(
                    "order_group_triggered",
                    "the order group has been triggered; reset it first",
                ));
            }
        }
        Ok(market)
    }

    /// Checks that new orders and amendments are taken.
    pub(super) fn tradable(&self, market: MarketId) -> Result<(), Refusal> {
        self.reachable(market)?;
        let active = |market: &&Market| market.status == MarketStatus::Active;
        let market = self.market(market).filter(active).ok_or_else(inactive)?;
        if self.shard(market.shard).trading_active {
            Ok(())
        } else {
            Err(Refusal::unavailable("TRADING_PAUSED", "trading is paused"))
        }
    }

    /// Checks that cancels and decreases are taken.
    fn reachable(&self, market: MarketId) -> Result<(), Refusal> {
        let market = self.market(market).ok_or_else(inactive)?;
        if !self.shard(market.shard).exchange_active {
            return Err(Refusal::unavailable("EXCHANGE_PAUSED", "the exchange is paused"));
        }
        match market.status {
            MarketStatus::Active | MarketStatus::Inactive => Ok(()),
            _ => Err(inactive()),
        }
    }

    fn on_grid(&self, market: MarketId, price: Dollars) -> Result<(), Refusal> {
        match self.market(market) {
            Some(market) if market.grid.is_valid(price) => Ok(()),
            _ => Err(Refusal::invalid("invalid_price", "the price is not on the market's grid")),
        }
    }

    pub(super) fn unused(&self, account: AccountId, client_order_id: &str) -> Result<(), Refusal> {
        if client_order_id.len() > MAX_CLIENT_ORDER_ID {
            return Err(Refusal::parameters("the client order id is too long"));
        }
        let used = self.account(account)?.client_order_ids.get(client_order_id);
        let is_over = |order: &Order| order.status != OrderStatus::Resting;
        let is_free_again =
            |id: &OrderId| self.reuse_client_order_ids && self.order(*id).is_some_and(is_over);
        if used.is_some_and(|id| !is_free_again(id)) {
            return Err(Refusal::conflict(
                "order_already_exists",
                "there is an order with this client order id",
            ));
        }
        Ok(())
    }

    fn updatable(order: &Order) -> Result<(), Refusal> {
        match order.status {
            OrderStatus::Resting => Ok(()),
            OrderStatus::Executed => Err(Refusal {
                code: "CANNOT_UPDATE_FILLED_ORDER",
                ..Refusal::not_found("the order has been filled")
            }),
            OrderStatus::Canceled => Err(Refusal::not_found("the order has been canceled")),
        }
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

    /// Checks that the money for a resting order at another price or size is there.
    fn affordable(&mut self, order: &Order, price: Dollars, count: Count) -> Result<(), Refusal> {
        let key = self.position_key(order);
        let held = self.fee_bound(order.market, order.price, order.remaining, true);
        let fee = self.fee_bound(order.market, price, count, false);
        self.ledger.release(key, order.side, order.price, order.remaining, held);
        let outcome = self.ledger.afford(key, order.side, price, count, fee);
        self.ledger.hold(key, order.side, order.price, order.remaining, held);
        outcome
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

    pub(super) fn set_open(&mut self, order: OrderId, count: Count) {
        if let Some(order) = self.order_mut(order) {
            order.remaining = count;
            order.status = OrderStatus::Resting;
        }
    }

    /// Ends an order that has traded nothing in this command.
    fn stop(&mut self, order: OrderId, reason: Reason) -> Executed {
        self.drop_rest(order, reason);
        if let Some(account) = self.order(order).map(|order| order.account) {
            self.emit(Event::Order { account, order, reason });
        }
        Executed { reason, ..Executed::nothing(order) }
    }

    fn would_cross(&self, order: OrderId) -> bool {
        self.order(order).is_some_and(|order| {
            self.market(order.market)
                .and_then(|market| market.book.top(order.side.opposite()))
                .is_some_and(|top| order.side.crosses(order.price, top.price))
        })
    }

    /// Reports whether a fill-or-kill order finds too little. One that meets an own order first is
    /// treated as immediate-or-cancel.
    fn falls_short(&self, order: OrderId) -> bool {
        let Some(order) = self.order(order) else { return true };
        let Some(market) = self.market(order.market) else { return true };
        let mut found = Count::ZERO;
        for (price, maker, count) in market.book.orders(order.side.opposite()) {
            if found >= order.remaining || !order.side.crosses(order.price, price) {
                break;
            }
            let Some(maker) = self.order(maker) else { continue };
            if maker.account == order.account {
                return false;
            }
            let cap = if maker.reduce_only {
                self.reducible(self.position_key(maker), maker.side)
            } else {
                count
            };
            found = found.saturating_add(count.min(cap));
        }
        found < order.remaining
    }

    /// Trades an order that is not in the book against it.
    fn cross(&mut self, taker: OrderId) -> Executed {
        let mut done = Executed::nothing(taker);
        while let Some(order) = self.order(taker) {
            let (side, price, market) = (order.side, order.price, order.market);
            let (account, self_trade) = (order.account, order.self_trade);
            done.remaining = order.remaining;
            let best = self.market(market).and_then(|market| market.book.best(side.opposite()));
            let Some(best) = best.filter(|best| side.crosses(price, best.price)) else { break };
            if order.remaining.is_zero() {
                break;
            }
            let mut count = order.remaining.min(best.count);
            let taker_key = self.position_key(order);
            let reduce_only = order.reduce_only;
            let Some(maker) = self.order(best.order) else { break };
            if maker.account == account {
                match self_trade {
                    SelfTrade::TakerAtCross => {
                        done.reason = Reason::SelfTradeCancel;
                        break;
                    }
                    SelfTrade::Maker => {
                        self.cancel_and_tell(best.order, Reason::SelfTradeCancel);
                        continue;
                    }
                }
            }
            if maker.reduce_only {
                count = count.min(self.reducible(self.position_key(maker), maker.side));
                if count.is_zero() {
                    self.cancel_and_tell(best.order, Reason::ReduceOnlyCancel);
                    continue;
                }
            }
            if reduce_only {
                count = count.min(self.reducible(taker_key, side));
                if count.is_zero() {
                    done.reason = Reason::ReduceOnlyCancel;
                    break;
                }
            }
            let fee = self.match_orders(taker, best.order, best.price, count);
            done.filled = done.filled.saturating_add(count);
            done.value = done.value.saturating_add(cost(best.price, count));
            done.fees = done.fees.saturating_add(fee);
            let group = self.order(taker).and_then(|order| order.extras().group);
            if group.is_some_and(|group| self.group(group).is_none_or(|group| group.triggered)) {
                done.reason = Reason::OrderGroupCancel;
                break;
            }
        }
        if let Some(order) = self.order(taker) {
            done.remaining = order.remaining;
        }
        // Whatever stopped it, an order without a rest has been executed.
        if done.remaining.is_zero() {
            done.reason = Reason::None;
        }
        done
    }

    /// Trades two orders with each other and returns the taker's fee.
    fn match_orders(
        &mut self,
        taker: OrderId,
        maker: OrderId,
        price: Dollars,
        count: Count,
    ) -> Dollars {
        let Some(side) = self.order(taker).map(|order| order.side) else { return Dollars::ZERO };
        let Some(resting) = self.order(maker).map(Order::bare) else { return Dollars::ZERO };
        let market = resting.market;
        self.take_from_book(&resting, count);
        let trade = self.print(market, price, count, side, false);
        // The maker's money is freed before it is spent.
        let netted = self.fill(maker, trade, price, count, false).1;
        let (fee, taker_netted) = self.fill(taker, trade, price, count, true);
        let opened = count.saturating_sub(netted).saturating_sub(taker_netted);
        self.ledger.escrow = self.ledger.escrow.saturating_add(payout(opened));
        if let Some(market) = self.market_mut(market) {
            market.open_interest = market.open_interest.saturating_add(opened);
        }
        self.emit(Event::Order { account: resting.account, order: maker, reason: Reason::Trade });
        for order in [maker, taker] {
            self.count_for_group(order, count);
            self.trim_reducing(order);
        }
        fee
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
        let booked = self.ledger.book(key, side, price, count, now);
        let model = self.fee_bound(market, price, count, !taker);
        let charged = fees::charge(booked.revenue, model, direct, rounding);
        self.ledger.charge(key, charged.fee, now);
        if let Some(order) = self.order_mut(id) {
            let value = cost(side.leg_price(price), count);
            order.filled = order.filled.saturating_add(count);
            order.remaining = order.remaining.saturating_sub(count);
            order.updated = now;
            order.reason = Reason::Trade;
            let extras = order.extras_mut();
            extras.rounding = charged.rounding;
            let (costs, fees) = if taker {
                (&mut extras.taker_cost, &mut extras.taker_fees)
            } else {
                (&mut extras.maker_cost, &mut extras.maker_fees)
            };
            *costs = costs.saturating_add(value);
            *fees = fees.saturating_add(charged.fee);
            if order.remaining.is_zero() {
                order.status = OrderStatus::Executed;
                self.forget(id);
            }
        }
        let position = self.ledger.position(key).map_or(Count::ZERO, super::Position::net);
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
                position,
                at: now,
            });
        }
        self.emit(Event::Fill { account, fill: index });
        self.emit(Event::Position { account, subaccount, market });
        (charged.fee, booked.netted)
    }

    /// Takes contracts of a resting order from the book, and frees the money held for them.
    fn take_from_book(&mut self, order: &Order, count: Count) {
        let key = self.position_key(order);
        let left = order.remaining.saturating_sub(count);
        let held = self.fee_bound(order.market, order.price, order.remaining, true);
        let keeps = self.fee_bound(order.market, order.price, left, true);
        self.ledger.release(key, order.side, order.price, count, held.saturating_sub(keeps));
        if let Some(market) = self.market_mut(order.market) {
            market.book.reduce(order.side, order.price, order.queue_priority, count);
        }
        self.emit_level(order, Count::ZERO.saturating_sub(count));
    }

    /// Puts an order's rest into the book, behind all others at its price.
    fn rest(&mut self, id: OrderId) {
        let queue = self.next_queue_priority();
        let Some(order) = self.order_mut(id) else { return };
        order.queue_priority = queue;
        order.status = OrderStatus::Resting;
        let (group, expires) = (order.extras().group, order.extras().expires);
        let order = order.bare();
        let key = self.position_key(&order);
        let fee = self.fee_bound(order.market, order.price, order.remaining, true);
        self.ledger.hold(key, order.side, order.price, order.remaining, fee);
        if let Some(market) = self.market_mut(order.market) {
            market.book.insert(order.side, order.price, queue, id, order.remaining);
        }
        if let Some(account) = self.ledger.account_mut(order.account) {
            account.resting.insert(id);
        }
        if order.reduce_only
            && let Some(position) = self.ledger.position_mut(key)
            && !position.reducing.contains(&id)
        {
            position.reducing.push_back(id);
        }
        if let Some(group) = group {
            self.join_group(group, id);
        }
        if let Some(expires) = expires {
            self.schedule(expires, Timer::Expire(id));
        }
        self.emit_level(&order, order.remaining);
    }

    /// Ends an order that is not in the book.
    fn drop_rest(&mut self, id: OrderId, reason: Reason) {
        let now = self.now;
        if let Some(order) = self.order_mut(id) {
            order.remaining = Count::ZERO;
            order.status = OrderStatus::Canceled;
            order.reason = reason;
            order.updated = now;
        }
        self.forget(id);
    }

    /// Takes a resting order out of the book and ends it.
    pub(super) fn cancel_resting(&mut self, id: OrderId, reason: Reason) {
        let Some(order) = self.order(id).filter(|order| order.status == OrderStatus::Resting)
        else {
            return;
        };
        let order = order.bare();
        self.take_from_book(&order, order.remaining);
        self.drop_rest(id, reason);
        if let Some(account) = self.ledger.account_mut(order.account) {
            account.updated = order.updated.max(account.updated);
        }
    }

    /// Cancels an order that was not asked to be canceled, with an event for its owner.
    pub(super) fn cancel_and_tell(&mut self, id: OrderId, reason: Reason) {
        let Some(order) = self.order(id) else { return };
        let (account, market) = (order.account, order.market);
        self.cancel_resting(id, reason);
        self.emit(Event::Order { account, order: id, reason });
        self.mark(market);
    }

    pub(super) fn expire(&mut self, id: OrderId) {
        let due = |order: &&Order| {
            order.status == OrderStatus::Resting
                && order.extras().expires.is_some_and(|expires| expires <= self.now)
        };
        if self.order(id).as_ref().is_some_and(due) {
            self.cancel_and_tell(id, Reason::ExpiryCancel);
        }
    }

    /// Removes an order that no longer rests from the lists of those that do.
    fn forget(&mut self, id: OrderId) {
        let Some(order) = self.order(id) else { return };
        let (account, group, reduce_only) =
            (order.account, order.extras().group, order.reduce_only);
        let key = self.position_key(order);
        if let Some(account) = self.ledger.account_mut(account) {
            account.resting.remove(&id);
        }
        if let Some(group) = group {
            self.leave_group(group, id);
        }
        if reduce_only && let Some(position) = self.ledger.position_mut(key) {
            position.reducing.retain(|other| *other != id);
        }
    }

    /// Cancels reduce-only orders with nothing left to reduce, after a position has shrunk.
    pub(super) fn trim_reducing(&mut self, traded: OrderId) {
        let Some(key) = self.order(traded).map(|order| self.position_key(order)) else { return };
        self.trim_reducing_at(key);
    }

    /// Cancels reduce-only orders with nothing left to reduce, for a position that no order has
    /// changed.
    pub(super) fn trim_reducing_at(&mut self, key: PositionKey) {
        let Some(position) = self.ledger.position(key) else { return };
        if position.reducing.is_empty() {
            return;
        }
        let over: Vec<OrderId> = position
            .reducing
            .iter()
            .copied()
            .filter(|id| {
                self.order(*id).is_some_and(|order| position.closable(order.side).is_zero())
            })
            .collect();
        for id in over {
            self.cancel_and_tell(id, Reason::ReduceOnlyCancel);
        }
    }

    /// Takes a part of a resting order away; its rank in the queue stays.
    fn shrink(&mut self, id: OrderId, to: Count, reason: Reason) {
        let now = self.now;
        let Some(order) = self.order(id).map(Order::bare) else { return };
        if to < order.remaining {
            self.take_from_book(&order, order.remaining.saturating_sub(to));
        }
        if let Some(order) = self.order_mut(id) {
            order.remaining = to;
            order.reason = reason;
            order.updated = now;
        }
    }

    /// Moves a resting order to another price or count: it leaves the book, trades if it crosses,
    /// and rests behind the others.
    fn requeue(&mut self, id: OrderId, price: Dollars, total: Count) -> Executed {
        let Some(order) = self.order(id).map(Order::bare) else { return Executed::nothing(id) };
        self.take_from_book(&order, order.remaining);
        // Off every list while it is not in the book: what its own trades cancel must not find it.
        self.forget(id);
        if let Some(order) = self.order_mut(id) {
            order.price = price;
            order.initial = total;
            order.remaining = total.saturating_sub(order.filled);
        }
        if order.post_only && self.would_cross(id) {
            self.drop_rest(id, Reason::PostOnlyCrossCancel);
            return Executed { reason: Reason::PostOnlyCrossCancel, ..Executed::nothing(id) };
        }
        let mut done = self.cross(id);
        if done.reason != Reason::None {
            self.drop_rest(id, done.reason);
            done.remaining = Count::ZERO;
        } else if done.remaining.is_positive() {
            self.rest(id);
        }
        done
    }

    fn rename(&mut self, order: &Order, amend: &Amend) {
        let Some(new) = amend.updated_client_order_id.as_deref() else { return };
        if let Some(account) = self.ledger.account_mut(order.account) {
            account.client_order_ids.insert(Box::from(new), order.id);
        }
        if let Some(order) = self.order_mut(order.id) {
            order.extras_mut().client_order_id = Some(Box::from(new));
        }
    }

    fn set_expiry(&mut self, id: OrderId, expires: Option<Time>) {
        if let Some(order) = self.order_mut(id) {
            order.extras_mut().expires = expires;
        }
        if let Some(expires) = expires {
            self.schedule(expires, Timer::Expire(id));
        }
    }

    fn touch(&mut self, id: OrderId, reason: Reason) {
        let now = self.now;
        if let Some(order) = self.order_mut(id) {
            order.updated = now;
            order.reason = reason;
            let account = order.account;
            if let Some(account) = self.ledger.account_mut(account) {
                account.updated = now;
            }
        }
    }
}

impl Executed {
    fn nothing(order: OrderId) -> Self {
        Self {
            order,
            filled: Count::ZERO,
            remaining: Count::ZERO,
            value: Dollars::ZERO,
            fees: Dollars::ZERO,
            reason: Reason::None,
        }
    }
}

fn inactive() -> Refusal {
    Refusal::invalid("MARKET_INACTIVE", "the market takes no orders now")
}
