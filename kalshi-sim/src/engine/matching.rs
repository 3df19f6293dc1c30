//! Matching, from one source for every product: how orders rest, trade, change and end.
//!
//! Price-time priority on the one book of a market; a trade prints at the resting order's price. A
//! product says which orders and markets there are, how its money moves, and what it refuses.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars};

use crate::engine::{
    amount::{MAX_COUNT, SaturatingArithmetic, cost},
    book::Book,
    fees::Charged,
    groups::{Group, OrderGroups},
    ids::{AccountId, GroupId, MarketId, OrderId},
    types::{
        Amend, Decrease, Event, Executed, NewOrder, Order, OrderStatus, Reason, Refusal, SelfTrade,
        Shard, Subaccount, Time, TimeInForce,
    },
};

/// Open orders of one account.
const MAX_OPEN_ORDERS: usize = 200_000;
/// The longest client order id, in bytes.
const MAX_CLIENT_ORDER_ID: usize = 256;

/// Checks that an account with so many open orders may have another one.
pub(crate) fn check_open_orders(open: usize) -> Result<(), Refusal> {
    if open >= MAX_OPEN_ORDERS {
        return Err(Refusal::invalid("too_many_open_orders", "200,000 orders are open already"));
    }
    Ok(())
}

/// Checks the length of a client order id.
pub(crate) fn check_client_order_id(id: &str) -> Result<(), Refusal> {
    if id.len() > MAX_CLIENT_ORDER_ID {
        return Err(Refusal::parameters("the client order id is too long"));
    }
    Ok(())
}

/// Returns the refusal of a client order id that an order has.
pub(crate) fn already_exists() -> Refusal {
    Refusal::conflict("order_already_exists", "there is an order with this client order id")
}

/// The orders, books and money of a product, and the matching that is the same for all of them.
pub(crate) trait Matching: Sized {
    /// The times in force that a reduce-only order may have, in the words of its refusal.
    const REDUCE_ONLY: (&'static [TimeInForce], &'static str);

    /// Lets time pass.
    fn pass_time(&mut self, now: Time);
    /// Returns the time of the command.
    fn time(&self) -> Time;
    fn find_order(&self, id: OrderId) -> Option<&Order>;
    fn find_order_mut(&mut self, id: OrderId) -> Option<&mut Order>;
    fn book(&self, market: MarketId) -> Option<&Book>;
    fn book_mut(&mut self, market: MarketId) -> Option<&mut Book>;
    /// Returns the resting orders of an account.
    fn resting_mut(&mut self, account: AccountId) -> Option<&mut BTreeSet<OrderId>>;
    /// Records that an account has changed.
    fn touch_account(&mut self, account: AccountId, at: Time);
    /// Returns the next rank in a queue.
    fn take_queue_priority(&mut self) -> u64;
    fn publish(&mut self, event: Event);
    /// Publishes a change of the level at which an order stands.
    fn publish_level(&mut self, order: &Order, delta: Count);
    /// Publishes the new best prices and totals of a market.
    fn publish_ticker(&mut self, market: MarketId);
    /// Has [`expire`](Self::expire) called at a time.
    fn schedule_expiry(&mut self, order: OrderId, at: Time);
    /// Gives an order another client order id.
    fn rename(&mut self, order: &Order, client_order_id: &str);

    /// Checks that new orders and amendments are taken.
    fn check_tradable(&self, market: MarketId) -> Result<(), Refusal>;
    /// Checks that cancels and decreases are taken.
    fn check_reachable(&self, market: MarketId) -> Result<(), Refusal>;
    fn check_price(&self, order: &Order, price: Dollars) -> Result<(), Refusal>;
    /// Checks that a client order id is free.
    fn check_unused(&self, account: AccountId, client_order_id: &str) -> Result<(), Refusal>;
    /// Checks that the money for a resting order at another price or size is there.
    fn check_affordable(
        &mut self,
        order: &Order,
        price: Dollars,
        count: Count,
    ) -> Result<(), Refusal>;
    fn check_account(&self, account: AccountId) -> Result<(), Refusal>;
    /// Reports whether a subaccount exists on a shard.
    fn is_provisioned(&self, account: AccountId, subaccount: Subaccount, shard: Shard) -> bool;

    /// Holds money back for what rests of an order.
    fn hold(&mut self, order: &Order);
    /// Frees the money held for a part of a resting order.
    fn release(&mut self, order: &Order, count: Count);
    /// Prints a trade and books both sides of it. The maker has left the book by `count`, and its
    /// money is free. Returns the taker's fee.
    fn trade_orders(
        &mut self,
        taker: OrderId,
        maker: &Order,
        price: Dollars,
        count: Count,
    ) -> Dollars;

    fn order_groups(&self) -> &BTreeMap<GroupId, Group>;
    fn order_groups_mut(&mut self) -> &mut BTreeMap<GroupId, Group>;
    fn take_group_id(&mut self) -> GroupId;

    /// Checks what an order says about its lifetime.
    fn check_lifetime(&self, new: &NewOrder) -> Result<(), Refusal> {
        let waits = new.time_in_force == TimeInForce::GoodTillCanceled;
        match new.expires {
            Some(_) if !waits => {
                return Err(Refusal::parameters(
                    "expiration_time goes with good_till_canceled only",
                ));
            }
            Some(expires) if expires <= self.time() => {
                return Err(Refusal::parameters("expiration_time is in the past"));
            }
            _ => {}
        }
        let (reducing, refusal) = Self::REDUCE_ONLY;
        if new.reduce_only && !reducing.contains(&new.time_in_force) {
            return Err(Refusal::parameters(refusal));
        }
        if new.post_only && !waits {
            return Err(Refusal::parameters("post_only goes with good_till_canceled only"));
        }
        Ok(())
    }

    /// Trades a new order that has been entered as far as it goes, and lets the rest of it rest or
    /// end.
    fn execute(&mut self, new: &NewOrder, order: OrderId, count: Count) -> Executed {
        if count.is_zero() {
            return self.stop(order, Reason::ReduceOnlyCancel);
        }
        self.set_open(order, count);
        if new.post_only && self.would_cross(order) {
            return self.stop(order, Reason::PostOnlyCrossCancel);
        }
        if new.time_in_force == TimeInForce::FillOrKill && self.falls_short(order) {
            return self.stop(order, Reason::ImmediateOrCancel);
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
        self.publish(Event::Order { account: new.account, order, reason: done.reason });
        if let Some(market) = self.find_order(order).map(|order| order.market) {
            self.publish_ticker(market);
        }
        done
    }

    /// Changes the price, total count, expiration or client order id of an order. Reports also
    /// whether its price or rest has changed.
    fn amend_order(&mut self, order: &Order, amend: &Amend) -> Result<(Executed, bool), Refusal> {
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
        updatable(order)?;
        self.check_tradable(order.market)?;
        self.check_price(order, amend.price)?;
        let remaining = amend.count.saturating_sub(order.filled);
        if amend.count > MAX_COUNT || remaining.is_negative() {
            return Err(Refusal::invalid(
                "INVALID_AMEND_QTY_FOR_ORDER",
                "the count is the new total, and must not be below what has been filled",
            ));
        }
        if let Some(Some(expires)) = amend.expires
            && expires <= self.time()
        {
            return Err(Refusal::parameters("expiration_time is in the past"));
        }
        if let Some(id) = &amend.updated_client_order_id
            && order.extras().client_order_id.as_deref() != Some(id)
        {
            self.check_unused(amend.account, id)?;
        }
        let moves = amend.price != order.price || remaining > order.remaining;
        if moves && remaining.is_positive() {
            self.check_affordable(order, amend.price, remaining)?;
        }
        if let Some(new) = amend.updated_client_order_id.as_deref() {
            self.rename(order, new);
        }
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
            if let Some(order) = self.find_order_mut(order.id) {
                order.initial = amend.count;
            }
            Executed { remaining, ..Executed::nothing(order.id) }
        };
        let reason = if done.reason == Reason::None { Reason::Amend } else { done.reason };
        self.touch(order.id, reason);
        self.publish(Event::Order { account: order.account, order: order.id, reason });
        self.publish_ticker(order.market);
        Ok((done, changed))
    }

    /// Decreases a resting order; its rank in the queue stays. Returns what rests then.
    fn decrease_order(&mut self, order: &Order, decrease: Decrease) -> Result<Count, Refusal> {
        updatable(order)?;
        self.check_reachable(order.market)?;
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
            if let Some(order) = self.find_order_mut(order.id) {
                order.initial = order.filled.saturating_add(to);
            }
        }
        self.publish(Event::Order {
            account: order.account,
            order: order.id,
            reason: Reason::Decrease,
        });
        self.publish_ticker(order.market);
        Ok(to)
    }

    /// Cancels what rests of an order. Returns the count.
    fn cancel_order(&mut self, order: &Order) -> Result<Count, Refusal> {
        updatable(order)?;
        self.check_reachable(order.market)?;
        self.cancel_and_tell(order.id, Reason::None);
        Ok(order.remaining)
    }

    /// Opens an order that has been entered.
    fn set_open(&mut self, order: OrderId, count: Count) {
        if let Some(order) = self.find_order_mut(order) {
            order.remaining = count;
            order.status = OrderStatus::Resting;
        }
    }

    /// Ends an order that has traded nothing in this command.
    fn stop(&mut self, order: OrderId, reason: Reason) -> Executed {
        self.drop_rest(order, reason);
        if let Some(account) = self.find_order(order).map(|order| order.account) {
            self.publish(Event::Order { account, order, reason });
        }
        Executed { reason, ..Executed::nothing(order) }
    }

    /// Reports whether an order would trade at once.
    fn would_cross(&self, order: OrderId) -> bool {
        self.find_order(order).is_some_and(|order| {
            self.book(order.market)
                .and_then(|book| book.top(order.side.opposite()))
                .is_some_and(|top| order.side.crosses(order.price, top.price))
        })
    }

    /// Reports whether a fill-or-kill order finds too little. One that meets an own order first is
    /// treated as immediate-or-cancel.
    fn falls_short(&self, order: OrderId) -> bool {
        let Some(order) = self.find_order(order) else { return true };
        let Some(book) = self.book(order.market) else { return true };
        let mut found = Count::ZERO;
        for (price, maker, count) in book.orders(order.side.opposite()) {
            if found >= order.remaining || !order.side.crosses(order.price, price) {
                break;
            }
            let Some(maker) = self.find_order(maker) else { continue };
            if maker.account == order.account {
                return false;
            }
            found = found.saturating_add(count);
        }
        found < order.remaining
    }

    /// Trades an order that is not in the book against it.
    fn cross(&mut self, taker: OrderId) -> Executed {
        let mut done = Executed::nothing(taker);
        while let Some(order) = self.find_order(taker) {
            let (side, price, market) = (order.side, order.price, order.market);
            let (account, self_trade) = (order.account, order.self_trade);
            done.remaining = order.remaining;
            let best = self.book(market).and_then(|book| book.best(side.opposite()));
            let Some(best) = best.filter(|best| side.crosses(price, best.price)) else { break };
            if order.remaining.is_zero() {
                break;
            }
            let count = order.remaining.min(best.count);
            let Some(maker) = self.find_order(best.order) else { break };
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
            let fee = self.match_orders(taker, best.order, best.price, count);
            done.filled = done.filled.saturating_add(count);
            done.value = done.value.saturating_add(cost(best.price, count));
            done.fees = done.fees.saturating_add(fee);
            let group = self.find_order(taker).and_then(|order| order.extras().group);
            let groups = self.order_groups();
            if group.is_some_and(|group| groups.get(&group).is_none_or(|group| group.triggered)) {
                done.reason = Reason::OrderGroupCancel;
                break;
            }
        }
        if let Some(order) = self.find_order(taker) {
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
        let Some(resting) = self.find_order(maker).map(Order::bare) else { return Dollars::ZERO };
        self.take_from_book(&resting, count);
        let fee = self.trade_orders(taker, &resting, price, count);
        self.publish(Event::Order {
            account: resting.account,
            order: maker,
            reason: Reason::Trade,
        });
        for order in [maker, taker] {
            self.count_for_group(order, count);
        }
        fee
    }

    /// Records one party's side of a trade in its order. `value` is what the contracts cost in the
    /// leg of the order.
    fn record_fill(
        &mut self,
        id: OrderId,
        count: Count,
        value: Dollars,
        charged: Charged,
        taker: bool,
    ) {
        let now = self.time();
        let Some(order) = self.find_order_mut(id) else { return };
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
            self.forget_order(id);
        }
    }

    /// Takes contracts of a resting order from the book, and frees the money held for them.
    fn take_from_book(&mut self, order: &Order, count: Count) {
        self.release(order, count);
        if let Some(book) = self.book_mut(order.market) {
            book.reduce(order.side, order.price, order.queue_priority, count);
        }
        self.publish_level(order, Count::ZERO.saturating_sub(count));
    }

    /// Puts an order's rest into the book, behind all others at its price.
    fn rest(&mut self, id: OrderId) {
        let queue = self.take_queue_priority();
        let Some(order) = self.find_order_mut(id) else { return };
        order.queue_priority = queue;
        order.status = OrderStatus::Resting;
        let (group, expires) = (order.extras().group, order.extras().expires);
        let order = order.bare();
        self.hold(&order);
        if let Some(book) = self.book_mut(order.market) {
            book.insert(order.side, order.price, queue, id, order.remaining);
        }
        if let Some(resting) = self.resting_mut(order.account) {
            resting.insert(id);
        }
        if let Some(group) = group {
            self.join_group(group, id);
        }
        if let Some(expires) = expires {
            self.schedule_expiry(id, expires);
        }
        self.publish_level(&order, order.remaining);
    }

    /// Ends an order that is not in the book.
    fn drop_rest(&mut self, id: OrderId, reason: Reason) {
        let now = self.time();
        if let Some(order) = self.find_order_mut(id) {
            order.remaining = Count::ZERO;
            order.status = OrderStatus::Canceled;
            order.reason = reason;
            order.updated = now;
        }
        self.forget_order(id);
    }

    /// Takes a resting order out of the book and ends it.
    fn cancel_resting(&mut self, id: OrderId, reason: Reason) {
        let Some(order) = self.find_order(id).filter(|order| order.status == OrderStatus::Resting)
        else {
            return;
        };
        let order = order.bare();
        self.take_from_book(&order, order.remaining);
        self.drop_rest(id, reason);
        self.touch_account(order.account, order.updated);
    }

    /// Cancels an order, with an event for its owner.
    fn cancel_and_tell(&mut self, id: OrderId, reason: Reason) {
        let Some(order) = self.find_order(id) else { return };
        let (account, market) = (order.account, order.market);
        self.cancel_resting(id, reason);
        self.publish(Event::Order { account, order: id, reason });
        self.publish_ticker(market);
    }

    /// Cancels an order whose time is over.
    fn expire(&mut self, id: OrderId) {
        let due = |order: &&Order| {
            order.status == OrderStatus::Resting
                && order.extras().expires.is_some_and(|expires| expires <= self.time())
        };
        if self.find_order(id).as_ref().is_some_and(due) {
            self.cancel_and_tell(id, Reason::ExpiryCancel);
        }
    }

    /// Removes an order that no longer rests from the lists of those that do.
    fn forget_order(&mut self, id: OrderId) {
        let Some(order) = self.find_order(id) else { return };
        let (account, group) = (order.account, order.extras().group);
        if let Some(resting) = self.resting_mut(account) {
            resting.remove(&id);
        }
        if let Some(group) = group {
            self.leave_group(group, id);
        }
    }

    /// Takes a part of a resting order away; its rank in the queue stays.
    fn shrink(&mut self, id: OrderId, to: Count, reason: Reason) {
        let now = self.time();
        let Some(order) = self.find_order(id).map(Order::bare) else { return };
        if to < order.remaining {
            self.take_from_book(&order, order.remaining.saturating_sub(to));
        }
        if let Some(order) = self.find_order_mut(id) {
            order.remaining = to;
            order.reason = reason;
            order.updated = now;
        }
    }

    /// Moves a resting order to another price or count: it leaves the book, trades if it crosses,
    /// and rests behind the others.
    fn requeue(&mut self, id: OrderId, price: Dollars, total: Count) -> Executed {
        let Some(order) = self.find_order(id).map(Order::bare) else {
            return Executed::nothing(id);
        };
        self.take_from_book(&order, order.remaining);
        // Off every list while it is not in the book: what its own trades cancel must not find it.
        self.forget_order(id);
        if let Some(order) = self.find_order_mut(id) {
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

    fn set_expiry(&mut self, id: OrderId, expires: Option<Time>) {
        if let Some(order) = self.find_order_mut(id) {
            order.extras_mut().expires = expires;
        }
        if let Some(expires) = expires {
            self.schedule_expiry(id, expires);
        }
    }

    fn touch(&mut self, id: OrderId, reason: Reason) {
        let now = self.time();
        if let Some(order) = self.find_order_mut(id) {
            order.updated = now;
            order.reason = reason;
            let account = order.account;
            self.touch_account(account, now);
        }
    }
}

/// Checks that an order is still open.
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
