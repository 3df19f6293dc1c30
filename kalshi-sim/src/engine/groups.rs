//! Order groups: a limit on what a set of orders may trade in 15 seconds.

use std::collections::{BTreeSet, VecDeque};

use kalshi_types::Count;
use serde::{Deserialize, Serialize};

use crate::engine::{
    amount::SaturatingArithmetic,
    ids::{AccountId, GroupId, OrderId},
    matching::Matching,
    types::{Event, GroupChange, NewOrder, Reason, Refusal, Shard, Subaccount, Time},
};

/// The time for which matched contracts count, in milliseconds.
pub(crate) const WINDOW_MILLIS: i64 = 15_000;
/// Groups of one account.
const MAX_GROUPS: usize = 100_000;
/// The highest limit, in contracts.
const MAX_LIMIT: i64 = 1_000_000;

/// A set of orders that is canceled as a whole when it trades too much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) shard: Shard,
    pub(crate) limit: Count,
    pub(crate) triggered: bool,
    /// Its resting orders.
    pub(crate) orders: BTreeSet<OrderId>,
    matched: VecDeque<(Time, Count)>,
    volume: Count,
}

impl Group {
    /// Returns the contracts matched in the window that ends now.
    fn volume(&mut self, now: Time) -> Count {
        while let Some((at, count)) = self.matched.front()
            && at.as_millis().saturating_add(WINDOW_MILLIS) <= now.as_millis()
        {
            self.volume = self.volume.saturating_sub(*count);
            self.matched.pop_front();
        }
        self.volume
    }

    fn add(&mut self, count: Count, now: Time) {
        self.volume = self.volume.saturating_add(count);
        match self.matched.back_mut() {
            Some((at, sum)) if *at == now => *sum = sum.saturating_add(count),
            _ => self.matched.push_back((now, count)),
        }
    }
}

/// The order groups of a product.
pub(crate) trait OrderGroups: Matching {
    fn create_group(
        &mut self,
        account: AccountId,
        subaccount: Subaccount,
        shard: Shard,
        limit: Count,
        now: Time,
    ) -> Result<GroupId, Refusal> {
        self.pass_time(now);
        check(limit)?;
        self.check_account(account)?;
        if !self.is_provisioned(account, subaccount, shard) {
            return Err(Refusal::not_found("there is no such subaccount on this shard"));
        }
        if self.order_groups().values().filter(|group| group.account == account).count()
            >= MAX_GROUPS
        {
            return Err(Refusal::invalid("too_many_order_groups", "there are 100,000 already"));
        }
        let id = self.take_group_id();
        self.order_groups_mut().insert(
            id,
            Group {
                id,
                account,
                subaccount,
                shard,
                limit,
                triggered: false,
                orders: BTreeSet::new(),
                matched: VecDeque::new(),
                volume: Count::ZERO,
            },
        );
        self.publish(Event::Group { account, subaccount, group: id, change: GroupChange::Created });
        Ok(id)
    }

    /// Clears the trigger and the count.
    fn reset_group(
        &mut self,
        account: AccountId,
        group: GroupId,
        subaccount: Subaccount,
        shard: Shard,
        now: Time,
    ) -> Result<(), Refusal> {
        self.pass_time(now);
        self.group_of(account, group, subaccount, shard)?;
        if let Some(group) = self.order_groups_mut().get_mut(&group) {
            group.triggered = false;
            group.matched.clear();
            group.volume = Count::ZERO;
        }
        self.publish(Event::Group { account, subaccount, group, change: GroupChange::Reset });
        Ok(())
    }

    /// Cancels the group's orders and keeps new ones out.
    fn trigger_group(
        &mut self,
        account: AccountId,
        group: GroupId,
        subaccount: Subaccount,
        shard: Shard,
        now: Time,
    ) -> Result<(), Refusal> {
        self.pass_time(now);
        self.group_of(account, group, subaccount, shard)?;
        self.trip(group);
        Ok(())
    }

    /// Sets the limit; one below what has been matched triggers the group.
    fn limit_group(
        &mut self,
        account: AccountId,
        group: GroupId,
        subaccount: Subaccount,
        shard: Shard,
        limit: Count,
        now: Time,
    ) -> Result<(), Refusal> {
        self.pass_time(now);
        check(limit)?;
        self.group_of(account, group, subaccount, shard)?;
        let now = self.time();
        let Some(found) = self.order_groups_mut().get_mut(&group) else { return Ok(()) };
        found.limit = limit;
        let over = found.volume(now) > limit;
        self.publish(Event::Group {
            account,
            subaccount,
            group,
            change: GroupChange::LimitUpdated,
        });
        if over {
            self.trip(group);
        }
        Ok(())
    }

    /// Cancels the group's orders and removes it.
    fn delete_group(
        &mut self,
        account: AccountId,
        group: GroupId,
        subaccount: Subaccount,
        shard: Shard,
        now: Time,
    ) -> Result<(), Refusal> {
        self.pass_time(now);
        self.group_of(account, group, subaccount, shard)?;
        self.cancel_orders_of(group);
        self.order_groups_mut().remove(&group);
        self.publish(Event::Group { account, subaccount, group, change: GroupChange::Deleted });
        Ok(())
    }

    /// Returns a group of the account if it is bound to this subaccount and shard.
    fn group_of(
        &self,
        account: AccountId,
        group: GroupId,
        subaccount: Subaccount,
        shard: Shard,
    ) -> Result<&Group, Refusal> {
        self.order_groups()
            .get(&group)
            .filter(|group| {
                group.account == account && group.subaccount == subaccount && group.shard == shard
            })
            .ok_or_else(|| Refusal::not_found("order group not found"))
    }

    /// Checks that the group of a new order takes orders.
    fn check_group(&self, new: &NewOrder, shard: Shard) -> Result<(), Refusal> {
        let Some(id) = new.group else { return Ok(()) };
        if self.group_of(new.account, id, new.subaccount, shard)?.triggered {
            return Err(Refusal::invalid(
                "order_group_triggered",
                "the order group has been triggered; reset it first",
            ));
        }
        Ok(())
    }

    fn join_group(&mut self, group: GroupId, order: OrderId) {
        if let Some(group) = self.order_groups_mut().get_mut(&group) {
            group.orders.insert(order);
        }
    }

    fn leave_group(&mut self, group: GroupId, order: OrderId) {
        if let Some(group) = self.order_groups_mut().get_mut(&group) {
            group.orders.remove(&order);
        }
    }

    /// Adds a trade to the group of an order. The trade that exceeds the limit is not cut.
    fn count_for_group(&mut self, order: OrderId, count: Count) {
        let now = self.time();
        let Some(id) = self.find_order(order).and_then(|order| order.extras().group) else {
            return;
        };
        let Some(group) = self.order_groups_mut().get_mut(&id) else { return };
        group.add(count, now);
        if group.volume(now) > group.limit && !group.triggered {
            self.trip(id);
        }
    }

    /// Cancels the orders of a group and keeps new ones out.
    fn trip(&mut self, id: GroupId) {
        let Some(group) = self.order_groups_mut().get_mut(&id) else { return };
        group.triggered = true;
        let (account, subaccount) = (group.account, group.subaccount);
        self.cancel_orders_of(id);
        self.publish(Event::Group {
            account,
            subaccount,
            group: id,
            change: GroupChange::Triggered,
        });
    }

    fn cancel_orders_of(&mut self, id: GroupId) {
        let orders =
            self.order_groups().get(&id).map(|group| group.orders.clone()).unwrap_or_default();
        for order in orders {
            self.cancel_and_tell(order, Reason::OrderGroupCancel);
        }
    }
}

impl<Product: Matching> OrderGroups for Product {}

fn check(limit: Count) -> Result<(), Refusal> {
    match Count::from_contracts(MAX_LIMIT) {
        Some(most) if limit >= Count::ONE && limit <= most => Ok(()),
        _ => Err(Refusal::parameters("the limit must be 1 to 1,000,000 contracts")),
    }
}
