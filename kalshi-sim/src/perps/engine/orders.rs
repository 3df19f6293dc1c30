//! Orders of perpetual futures: entry, changes, and the money of trades. They are matched by the
//! same code as orders of event contracts.
//!
//! A refusal leaves everything as it was.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        Group, OrderGroups,
        amount::{MAX_COUNT, SaturatingArithmetic, cost},
        book::Book,
        fees::Charged,
        ids::{AccountId, GroupId, MarketId, OrderId, TradeId},
        matching::{self, Matching},
        types::{
            Amend, Decrease, Event, Executed, NewOrder, Order, Reason, Refusal, SelfTrade, Shard,
            Side, Subaccount, Time, TimeInForce, Trade,
        },
    },
    perps::engine::{
        Perps, Timer, WalletKey,
        ledger::Fill,
        margin::fee,
        markets::{Market, Status},
    },
};

/// The origin of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    User,
    /// Placed by the exchange to close a position.
    Liquidation,
    /// Placed by an exit trigger.
    Trigger,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Liquidation | Self::Trigger => "system",
        }
    }

    /// Returns the reason for which the exchange placed it.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::User => None,
            Self::Liquidation => Some("liquidation"),
            Self::Trigger => Some("take_profit_stop_loss"),
        }
    }
}

impl Perps {
    /// Places an order and trades it as far as it goes. A version above 0 must be the market's.
    pub(crate) fn place_order(
        &mut self,
        new: &NewOrder,
        version: i32,
        now: Time,
    ) -> Result<Executed, Refusal> {
        self.command(now, |engine| {
            let market = engine.admit(new, version)?;
            let key = (new.account, new.subaccount);
            let mut count = new.count;
            if new.reduce_only {
                count = count.min(engine.reducible(key, market, new.side));
            }
            engine.afford(key, market, (new.side, new.price, count), None)?;
            let order = engine.enter(new, market, count);
            Ok(engine.execute(new, order, count))
        })
    }

    /// Trades an order of the exchange itself, which closes a position at any price. Returns its id
    /// and what it has traded; `None` if it could not be placed: the market does not trade, or nothing
    /// rests on its other side.
    pub(super) fn place_system(
        &mut self,
        key: WalletKey,
        market: MarketId,
        count: Count,
        source: Source,
    ) -> Option<(OrderId, Count)> {
        let position = self.wallet(key)?.position(market);
        let side = position.closing_side();
        let count = count.min(position.closable(side));
        self.check_tradable(market).ok()?;
        let found = self.market(market)?;
        found.book.top(side.opposite())?;
        if !count.is_positive() {
            return None;
        }
        let price = found.any_price(side);
        let new = NewOrder {
            subaccount: key.1,
            time_in_force: TimeInForce::ImmediateOrCancel,
            self_trade: SelfTrade::Maker,
            reduce_only: true,
            ..NewOrder::resting(key.0, found.ticker.clone(), side, price, count)
        };
        let order = self.enter(&new, market, count);
        self.sources.insert(order, source);
        let done = self.execute(&new, order, count);
        Some((order, done.filled))
    }

    /// Changes an order's price, total count, expiration or client order id. An empty ticker is not
    /// compared.
    pub(crate) fn amend(&mut self, amend: &Amend, now: Time) -> Result<Executed, Refusal> {
        self.command(now, |engine| {
            let order = engine.owned(amend.account, amend.subaccount, amend.order)?.clone();
            let market = engine.market(order.market);
            if !amend.ticker.is_empty() && market.is_none_or(|market| market.ticker != amend.ticker)
            {
                return Err(Refusal::invalid(
                    "order_ticker_mismatch",
                    "the order has another ticker",
                ));
            }
            if let Some(market) = market {
                check_count(market, amend.count)?;
            }
            engine.amend_order(&order, amend).map(|(done, _)| done)
        })
    }

    /// Decreases a resting order; its rank in the queue stays. Returns what rests then.
    pub(crate) fn decrease(
        &mut self,
        account: AccountId,
        subaccount: Subaccount,
        order: OrderId,
        decrease: Decrease,
        now: Time,
    ) -> Result<Count, Refusal> {
        self.command(now, |engine| {
            let order = engine.owned(account, subaccount, order)?.bare();
            if let (Some(market), Decrease::By(count) | Decrease::To(count)) =
                (engine.market(order.market), decrease)
                && count.is_positive()
            {
                check_count(market, count)?;
            }
            engine.decrease_order(&order, decrease)
        })
    }

    /// Cancels what rests of an order. Returns the count.
    pub(crate) fn cancel(
        &mut self,
        account: AccountId,
        subaccount: Subaccount,
        order: OrderId,
        now: Time,
    ) -> Result<Count, Refusal> {
        self.command(now, |engine| {
            let order = engine.owned(account, subaccount, order)?.bare();
            engine.cancel_order(&order)
        })
    }

    /// Cancels all resting orders of one subaccount or all of them. Returns how many.
    pub(crate) fn cancel_all(
        &mut self,
        account: AccountId,
        subaccount: Option<Subaccount>,
        now: Time,
    ) -> Result<usize, Refusal> {
        self.command(now, |engine| {
            let of_subaccount = |id: &OrderId| {
                engine
                    .order(*id)
                    .is_some_and(|order| subaccount.is_none_or(|number| order.subaccount == number))
            };
            let resting: Vec<OrderId> =
                engine.account(account)?.resting.iter().copied().filter(of_subaccount).collect();
            for id in &resting {
                engine.cancel_and_tell(*id, Reason::None);
            }
            Ok(resting.len())
        })
    }

    /// Returns an order of the account if it is of the subaccount.
    pub(crate) fn owned(
        &self,
        account: AccountId,
        subaccount: Subaccount,
        order: OrderId,
    ) -> Result<&Order, Refusal> {
        self.order(order)
            .filter(|order| order.account == account && order.subaccount == subaccount)
            .ok_or_else(|| Refusal::not_found("order not found"))
    }

    /// Checks everything but the money that keeps an order from being accepted.
    fn admit(&self, new: &NewOrder, version: i32) -> Result<MarketId, Refusal> {
        let market = self.market_by_ticker(&new.ticker)?;
        if version > 0 && version != market.version {
            return Err(Refusal::conflict(
                "market_version_mismatch",
                "a corporate action has changed the market: read it again",
            ));
        }
        check_count(market, new.count)?;
        self.check_tradable(market.id)?;
        market.check_price(new.side, new.price)?;
        self.check_lifetime(new)?;
        let account = self.account(new.account)?;
        if !account.wallets.contains_key(&new.subaccount) {
            return Err(Refusal::not_found("there is no such subaccount"));
        }
        matching::check_open_orders(account.resting.len())?;
        if let Some(id) = &new.client_order_id {
            self.check_unused(new.account, id)?;
        }
        self.check_group(new, market.shard)?;
        Ok(market.id)
    }

    fn reducible(&self, key: WalletKey, market: MarketId, side: Side) -> Count {
        self.wallet(key).map_or(Count::ZERO, |wallet| wallet.position(market).closable(side))
    }

    /// Writes an order down; nothing of it is open yet.
    fn enter(&mut self, new: &NewOrder, market: MarketId, count: Count) -> OrderId {
        let id = OrderId(u64::try_from(self.orders.len()).unwrap_or(u64::MAX).saturating_add(1));
        self.history.note_order(id, None);
        if let Some(account) = self.noted_account(new.account) {
            account.orders.push(id);
            if let Some(client_order_id) = new.client_order_id.as_deref() {
                account.client_order_ids.insert(Box::from(client_order_id), id);
            }
        }
        self.orders.push(Order::entered(id, new, market, count, self.now));
        id
    }

    /// Books one party's side of a trade: money, position, fee, order and fill. Returns the fee and by
    /// how much it has changed what is held long.
    fn fill(
        &mut self,
        order: OrderId,
        trade: TradeId,
        price: Dollars,
        count: Count,
        taker: bool,
    ) -> (Dollars, Count) {
        let nothing = (Dollars::ZERO, Count::ZERO);
        let Some(order) = self.order(order).map(Order::bare) else { return nothing };
        let Some(market) = self.market(order.market) else { return nothing };
        let charged = fee(market, price, count, taker);
        let source = self.source(order.id);
        let key = (order.account, order.subaccount);
        let Some(wallet) = self.wallet_mut(key) else { return nothing };
        let booked = wallet.book(order.market, order.side, price, count, charged);
        self.fee_revenue = self.fee_revenue.saturating_add(charged);
        self.record_fill(
            order.id,
            count,
            cost(price, count),
            Charged { fee: charged, rounding: Dollars::ZERO },
            taker,
        );
        let at = self.now;
        let mut index = 0;
        if let Some(account) = self.noted_account(order.account) {
            index = account.fills.len();
            account.fills.push(Fill {
                trade,
                order: order.id,
                market: order.market,
                subaccount: order.subaccount,
                side: order.side,
                price,
                count,
                taker,
                fee: charged,
                entry_price: booked.entry_price,
                realized: booked.realized,
                position: booked.after,
                source,
                at,
            });
        }
        self.suspects.insert(key);
        self.moved.insert((key, order.market));
        self.publish(Event::Fill { account: order.account, fill: index });
        let long = |count: Count| count.max(Count::ZERO);
        (charged, long(booked.after).saturating_sub(long(booked.before)))
    }
}

/// Checks a count: above zero, within what is taken, and whole unless the market trades fractions.
fn check_count(market: &Market, count: Count) -> Result<(), Refusal> {
    if !count.is_positive()
        || count > MAX_COUNT
        || (!market.fractional && count.to_contracts().is_none())
    {
        return Err(Refusal::invalid(
            "invalid_order_size",
            "the count is out of range, or not of whole contracts",
        ));
    }
    Ok(())
}

impl Matching for Perps {
    const REDUCE_ONLY: (&'static [TimeInForce], &'static str) = (
        &[TimeInForce::ImmediateOrCancel, TimeInForce::FillOrKill],
        "reduce_only goes with immediate_or_cancel and fill_or_kill only",
    );

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
        let order = self.orders.get_mut(id.index())?;
        self.history.note_order(id, Some(order));
        Some(order)
    }

    fn book(&self, market: MarketId) -> Option<&Book> {
        self.market(market).map(|market| &market.book)
    }

    fn book_mut(&mut self, market: MarketId) -> Option<&mut Book> {
        self.market_mut(market).map(|market| &mut market.book)
    }

    fn resting_mut(&mut self, account: AccountId) -> Option<&mut BTreeSet<OrderId>> {
        self.accounts.get_mut(&account).map(|account| &mut account.resting)
    }

    /// Accounts have no time of their last change here.
    fn touch_account(&mut self, _: AccountId, _: Time) {}

    fn take_queue_priority(&mut self) -> u64 {
        self.last_queue_priority += 1;
        self.last_queue_priority
    }

    fn publish(&mut self, event: Event) {
        self.note_event(event);
    }

    fn publish_level(&mut self, order: &Order, delta: Count) {
        let Order { id, market, side, price, .. } = *order;
        // Messages of this product have no clock.
        self.note_event(Event::Level { market, side, price, delta, order: id, clock: 0 });
    }

    fn publish_ticker(&mut self, market: MarketId) {
        let now = self.now;
        if let Some(market) = self.market_mut(market) {
            market.note(now);
        }
        self.note_event(Event::Ticker { market });
    }

    fn schedule_expiry(&mut self, order: OrderId, at: Time) {
        self.schedule(at, Timer::Expire(order));
    }

    fn rename(&mut self, order: &Order, client_order_id: &str) {
        if let Some(account) = self.accounts.get_mut(&order.account) {
            account.client_order_ids.insert(Box::from(client_order_id), order.id);
        }
        if let Some(order) = self.find_order_mut(order.id) {
            order.extras_mut().client_order_id = Some(Box::from(client_order_id));
        }
    }

    fn check_tradable(&self, market: MarketId) -> Result<(), Refusal> {
        self.market(market)
            .filter(|market| market.status() == Status::Active)
            .ok_or_else(|| Refusal::invalid("MARKET_INACTIVE", "the market takes no orders now"))?;
        if self.is_trading() {
            Ok(())
        } else {
            Err(Refusal::unavailable("TRADING_PAUSED", "trading is paused"))
        }
    }

    /// Cancels and decreases are taken also while trading is paused.
    fn check_reachable(&self, _: MarketId) -> Result<(), Refusal> {
        Ok(())
    }

    fn check_price(&self, order: &Order, price: Dollars) -> Result<(), Refusal> {
        match self.market(order.market) {
            Some(market) => market.check_price(order.side, price),
            None => Err(Refusal::not_found("market not found")),
        }
    }

    /// An id is used up for ever.
    fn check_unused(&self, account: AccountId, client_order_id: &str) -> Result<(), Refusal> {
        matching::check_client_order_id(client_order_id)?;
        if self.account(account)?.client_order_ids.contains_key(client_order_id) {
            return Err(matching::already_exists());
        }
        Ok(())
    }

    fn check_affordable(
        &mut self,
        order: &Order,
        price: Dollars,
        count: Count,
    ) -> Result<(), Refusal> {
        let key = (order.account, order.subaccount);
        self.afford(key, order.market, (order.side, price, count), Some(order))
    }

    fn check_account(&self, account: AccountId) -> Result<(), Refusal> {
        self.account(account).map(|_| ())
    }

    /// Subaccounts reach every market group.
    fn is_provisioned(&self, account: AccountId, subaccount: Subaccount, _: Shard) -> bool {
        self.wallet((account, subaccount)).is_some()
    }

    fn hold(&mut self, order: &Order) {
        if let Some(wallet) = self.wallet_mut((order.account, order.subaccount)) {
            wallet.add_open(order.market, order.side, order.price, order.remaining);
        }
    }

    fn release(&mut self, order: &Order, count: Count) {
        let count = super::amount::opposite(count);
        if let Some(wallet) = self.wallet_mut((order.account, order.subaccount)) {
            wallet.add_open(order.market, order.side, order.price, count);
        }
    }

    fn trade_orders(
        &mut self,
        taker: OrderId,
        maker: &Order,
        price: Dollars,
        count: Count,
    ) -> Dollars {
        let id = TradeId(u64::try_from(self.trades.len()).unwrap_or(u64::MAX).saturating_add(1));
        let (market, taker_side, at) = (maker.market, maker.side.opposite(), self.now);
        self.trades.push(Trade { id, market, price, count, taker_side, block: false, at });
        self.publish(Event::Trade { trade: id });
        let (_, made) = self.fill(maker.id, id, price, count, false);
        let (fee, took) = self.fill(taker, id, price, count, true);
        if let Some(market) = self.market_mut(market) {
            market.open_interest = market.open_interest.saturating_add(made).saturating_add(took);
            market.printed(id, price, count, at);
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

/// Returns a change of an order, as requests of perpetual futures make it: they name no shard.
#[cfg(test)]
pub(crate) fn amendment(
    (account, subaccount): WalletKey,
    order: OrderId,
    side: Side,
    price: Dollars,
    count: Count,
) -> Amend {
    Amend {
        account,
        subaccount,
        order,
        ticker: String::new(),
        side,
        price,
        count,
        client_order_id: None,
        updated_client_order_id: None,
        expires: None,
        route: crate::engine::types::Route::default(),
    }
}
