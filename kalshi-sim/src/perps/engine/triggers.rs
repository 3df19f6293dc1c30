//! Exit triggers: orders that the exchange sends when the liquidation mark reaches a price.
//!
//! A slot is the position of a subaccount in a market, of cross margin or of isolated margin. All
//! positions are margined together here, so that an isolated slot is the primary's position under
//! another name. A trigger fires once, with a system order at any price.

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        amount::SaturatingArithmetic,
        ids::{AccountId, MarketId, OrderId, TriggerId},
        types::{OrderStatus, Refusal, Side, Subaccount, Time},
    },
    perps::engine::{
        Perps, WalletKey,
        amount::{divide_up, micros, size},
        markets::Market,
        orders::Source,
    },
};

/// Live brackets of one slot.
const MAX_BRACKETS: usize = 20;
/// The longest id that a client gives a trigger.
const MAX_CLIENT_ID: usize = 64;
/// Triggers of one account that are kept; a limit, so that memory has one.
const MAX_TRIGGERS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    Cross,
    Isolated,
}

/// The distance of a trailing stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trail {
    Amount(Dollars),
    /// Ten-thousandths of the best mark.
    Bps(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Legs {
    Bracket { stop_loss: Option<Dollars>, take_profit: Option<Dollars> },
    Trailing(Trail),
}

impl Legs {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Bracket { .. } => "bracket",
            Self::Trailing(_) => "trailing",
        }
    }
}

/// A trigger to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewTrigger {
    pub(crate) account: AccountId,
    pub(crate) subaccount: Subaccount,
    pub(crate) market: MarketId,
    pub(crate) mode: Mode,
    pub(crate) legs: Legs,
    /// `None` closes the whole position.
    pub(crate) count: Option<Count>,
    pub(crate) anchor: Option<OrderId>,
    pub(crate) client_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TriggerStatus {
    PendingOnEntry,
    Active,
    Filled,
    Failed,
    Canceled,
}

impl TriggerStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::PendingOnEntry => "pending_on_entry",
            Self::Active => "active",
            Self::Filled => "filled",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TriggerReason {
    UserCanceled,
    PositionClosed,
    EntryNotFilled,
    OrderRejected,
    PositionFlipped,
}

impl TriggerReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::UserCanceled => "user_canceled",
            Self::PositionClosed => "position_closed",
            Self::EntryNotFilled => "entry_not_filled",
            Self::OrderRejected => "order_rejected",
            Self::PositionFlipped => "position_flipped",
        }
    }
}

/// The part of a trigger that has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Leg {
    StopLoss,
    TakeProfit,
}

impl Leg {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::StopLoss => "stop_loss",
            Self::TakeProfit => "take_profit",
        }
    }
}

/// A trigger, also one that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trigger {
    pub(crate) id: TriggerId,
    /// As it was asked for; the legs are those of today.
    pub(crate) new: NewTrigger,
    /// The legs as they were asked for, by which a repeated request is known.
    asked: Legs,
    pub(crate) status: TriggerStatus,
    pub(crate) reason: Option<TriggerReason>,
    pub(crate) leg: Option<Leg>,
    pub(crate) order: Option<OrderId>,
    pub(crate) filled: Count,
    /// The side of the position that it closes; set when it becomes active.
    long: Option<bool>,
    /// The best mark since a trailing stop has been active.
    pub(crate) watermark: Option<Dollars>,
    pub(crate) created: Time,
    pub(crate) updated: Time,
}

impl Trigger {
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.status, TriggerStatus::PendingOnEntry | TriggerStatus::Active)
    }

    fn key(&self) -> WalletKey {
        (self.new.account, self.new.subaccount)
    }

    /// Reports whether it closes a part of a position, or waits for an order.
    fn is_partial(&self) -> bool {
        self.new.count.is_some() || self.new.anchor.is_some()
    }

    /// Returns the mark at which a trailing stop fires at present.
    pub(crate) fn effective_stop(&self) -> Option<Dollars> {
        let (Legs::Trailing(trail), Some(best), Some(long)) =
            (self.new.legs, self.watermark, self.long)
        else {
            return None;
        };
        let distance = match trail {
            Trail::Amount(amount) => i128::from(amount.as_micros()),
            Trail::Bps(bps) => {
                divide_up(i128::from(best.as_micros()) * i128::from(bps), 10_000 * 100) * 100
            }
        };
        let best = i128::from(best.as_micros());
        let stop = if long { best - distance } else { best + distance };
        // One that is not above zero never fires.
        Some(micros(stop.max(100)))
    }

    /// Returns the leg that a mark sets off.
    fn fires(&self, mark: Dollars) -> Option<Leg> {
        let long = self.long?;
        let is_reached = |price: Option<Dollars>, from_above: bool| {
            price.is_some_and(|price| if from_above { mark <= price } else { mark >= price })
        };
        let (stop_loss, take_profit) = match self.new.legs {
            Legs::Bracket { stop_loss, take_profit } => (stop_loss, take_profit),
            Legs::Trailing(_) => (self.effective_stop(), None),
        };
        // The stop first: should both be reached, it was the loss that came.
        if is_reached(stop_loss, long) {
            Some(Leg::StopLoss)
        } else if is_reached(take_profit, !long) {
            Some(Leg::TakeProfit)
        } else {
            None
        }
    }

    /// Follows the best mark.
    fn follow(&mut self, mark: Dollars) {
        if let (Legs::Trailing(_), Some(long)) = (self.new.legs, self.long) {
            let best = self.watermark.unwrap_or(mark);
            self.watermark = Some(if long { best.max(mark) } else { best.min(mark) });
        }
    }
}

impl Perps {
    pub(crate) fn trigger(&self, id: TriggerId) -> Option<&Trigger> {
        self.triggers.get(&id)
    }

    /// Returns the triggers of a slot, also those that are over, the oldest first.
    pub(crate) fn triggers_of(
        &self,
        key: WalletKey,
        market: MarketId,
        mode: Mode,
    ) -> impl Iterator<Item = &Trigger> {
        self.triggers.values().filter(move |trigger| {
            trigger.key() == key && trigger.new.market == market && trigger.new.mode == mode
        })
    }

    /// Returns the live triggers of a slot, the oldest first.
    pub(crate) fn slot(
        &self,
        key: WalletKey,
        market: MarketId,
        mode: Mode,
    ) -> impl Iterator<Item = &Trigger> {
        self.triggers_of(key, market, mode).filter(|trigger| trigger.is_live())
    }

    /// Sets a trigger. One of the whole position takes the place of those of its kind in the slot. A
    /// client's id that has been used gives its first trigger, whatever has become of it.
    pub(crate) fn set_trigger(&mut self, new: NewTrigger, now: Time) -> Result<TriggerId, Refusal> {
        self.command(now, |engine| {
            if let Some(id) = &new.client_id {
                let used = engine.triggers.values().find(|trigger| {
                    trigger.new.account == new.account && trigger.new.client_id.as_ref() == Some(id)
                });
                if let Some(trigger) = used {
                    let first = NewTrigger { legs: trigger.asked, ..trigger.new.clone() };
                    return if first == new {
                        Ok(trigger.id)
                    } else {
                        Err(Refusal::conflict(
                            "idempotency_key_already_used",
                            "another trigger has been set with this client trigger id",
                        ))
                    };
                }
            }
            engine.check_trigger(&new)?;
            let key = (new.account, new.subaccount);
            let whole = new.count.is_none() && new.anchor.is_none();
            if whole {
                let replaced: Vec<TriggerId> = engine
                    .slot(key, new.market, new.mode)
                    .filter(|trigger| trigger.new.legs.kind() == new.legs.kind())
                    .map(|trigger| trigger.id)
                    .collect();
                for id in replaced {
                    engine.end_trigger(
                        id,
                        TriggerStatus::Canceled,
                        Some(TriggerReason::UserCanceled),
                    );
                }
            }
            engine.last_trigger += 1;
            let id = TriggerId(engine.last_trigger);
            let at = engine.now;
            let market = new.market;
            let trigger = Trigger {
                id,
                asked: new.legs,
                new,
                status: TriggerStatus::PendingOnEntry,
                reason: None,
                leg: None,
                order: None,
                filled: Count::ZERO,
                long: None,
                watermark: None,
                created: at,
                updated: at,
            };
            engine.triggers.insert(id, trigger);
            engine.moved.insert((key, market));
            Ok(id)
        })
    }

    /// Changes the legs of a live bracket; those that are left out stay.
    pub(crate) fn change_trigger(
        &mut self,
        key: WalletKey,
        market: MarketId,
        id: TriggerId,
        (stop_loss, take_profit): (Option<Dollars>, Option<Dollars>),
        now: Time,
    ) -> Result<(), Refusal> {
        self.command(now, |engine| {
            let at = engine.now;
            let trigger = engine
                .slot(key, market, Mode::Cross)
                .find(|trigger| trigger.id == id)
                .ok_or_else(|| Refusal::not_found("exit trigger not found"))?;
            let Legs::Bracket { stop_loss: stop, take_profit: profit } = trigger.new.legs else {
                return Err(Refusal::parameters("a trailing stop cannot be changed by its id"));
            };
            let legs = Legs::Bracket {
                stop_loss: stop_loss.or(stop),
                take_profit: take_profit.or(profit),
            };
            engine.check_legs(key, market, legs)?;
            if let Some(trigger) = engine.triggers.get_mut(&id) {
                trigger.new.legs = legs;
                trigger.updated = at;
            }
            engine.remarked.insert(market);
            Ok(())
        })
    }

    /// Removes live triggers of a slot: one, those of a kind, or all of them.
    pub(crate) fn remove_triggers(
        &mut self,
        key: WalletKey,
        market: MarketId,
        mode: Mode,
        keep: impl Fn(&Trigger) -> bool,
        now: Time,
    ) {
        self.advance(now);
        let removed: Vec<TriggerId> = self
            .slot(key, market, mode)
            .filter(|trigger| !keep(trigger))
            .map(|trigger| trigger.id)
            .collect();
        for id in removed {
            self.end_trigger(id, TriggerStatus::Canceled, Some(TriggerReason::UserCanceled));
        }
    }

    /// Ends the triggers of a market whose prices mean nothing any more.
    pub(super) fn drop_triggers(&mut self, market: MarketId) {
        let live = self.triggers.values().filter(|t| t.new.market == market && t.is_live());
        for id in live.map(|trigger| trigger.id).collect::<Vec<_>>() {
            self.end_trigger(id, TriggerStatus::Canceled, None);
        }
    }

    fn check_trigger(&self, new: &NewTrigger) -> Result<(), Refusal> {
        let key = (new.account, new.subaccount);
        self.check_legs(key, new.market, new.legs)?;
        let named = new.count.is_some() || new.anchor.is_some();
        if new.count.is_some() && new.anchor.is_some() {
            return Err(Refusal::parameters("count and anchor_order_id exclude each other"));
        }
        if named != new.client_id.is_some() {
            return Err(Refusal::parameters(
                "client_trigger_id goes with count or anchor_order_id, and has to be there then",
            ));
        }
        if new.client_id.as_ref().is_some_and(|id| id.len() > MAX_CLIENT_ID) {
            return Err(Refusal::parameters("client_trigger_id has 64 characters at most"));
        }
        if new.anchor.is_some() && matches!(new.legs, Legs::Trailing(_)) {
            return Err(Refusal::parameters("anchor_order_id goes with brackets only"));
        }
        if new.count.is_some_and(|count| !count.is_positive() || count.to_contracts().is_none()) {
            return Err(Refusal::parameters("count is of whole contracts"));
        }
        if self.triggers.values().filter(|one| one.new.account == new.account).count()
            >= MAX_TRIGGERS
        {
            return Err(Refusal::parameters("there are 10,000 triggers already"));
        }
        let slot = || self.slot(key, new.market, new.mode);
        if named && slot().filter(|one| one.new.legs.kind() == "bracket").count() >= MAX_BRACKETS {
            return Err(Refusal::invalid(
                "too_many_exit_triggers",
                "there are 20 brackets already",
            ));
        }
        if !named && slot().any(Trigger::is_partial) {
            return Err(Refusal::conflict(
                "partial_trigger_exists",
                "a trigger of a part of the position, or of an order, is live",
            ));
        }
        if let Some(anchor) = new.anchor {
            let order = self.owned(new.account, new.subaccount, anchor).ok();
            let order = order.filter(|order| order.market == new.market);
            let is_usable = order.is_some_and(|order| {
                order.status == OrderStatus::Resting || order.filled.is_positive()
            });
            if !is_usable {
                return Err(Refusal::conflict(
                    "anchor_order_unavailable",
                    "the entry order is over, or there is none",
                ));
            }
        } else if self.wallet(key).is_none_or(|wallet| wallet.position(new.market).count.is_zero())
        {
            return Err(Refusal::not_found("there is no position in this market"));
        }
        Ok(())
    }

    fn check_legs(&self, key: WalletKey, market: MarketId, legs: Legs) -> Result<(), Refusal> {
        let is_price = |price: &Dollars| price.is_positive() && price.to_centi_cents().is_some();
        let stop = match legs {
            Legs::Trailing(Trail::Amount(amount)) if !is_price(&amount) => {
                return Err(Refusal::parameters("trail_amount is above zero"));
            }
            Legs::Trailing(Trail::Bps(bps)) if !(1..=9_999).contains(&bps) => {
                return Err(Refusal::parameters("trail_bps is 1 to 9,999"));
            }
            Legs::Trailing(_) => None,
            Legs::Bracket { stop_loss, take_profit } => {
                if stop_loss.or(take_profit).is_none() {
                    return Err(Refusal::parameters("a bracket has a leg at least"));
                }
                if ![stop_loss, take_profit].iter().flatten().all(is_price) {
                    return Err(Refusal::parameters("prices are above zero"));
                }
                stop_loss
            }
        };
        let (Some(stop), Some(wallet)) = (stop, self.wallet(key)) else { return Ok(()) };
        let long = wallet.position(market).count.is_positive();
        let is_past = self
            .liquidation_price(wallet, market)
            .is_some_and(|price| if long { stop <= price } else { stop >= price });
        if is_past {
            return Err(Refusal::invalid(
                "stop_loss_past_liquidation",
                "the position would be liquidated before the stop loss is reached",
            ));
        }
        Ok(())
    }

    fn end_trigger(&mut self, id: TriggerId, status: TriggerStatus, reason: Option<TriggerReason>) {
        let now = self.now;
        if let Some(trigger) = self.triggers.get_mut(&id) {
            trigger.status = status;
            trigger.reason = reason;
            trigger.updated = now;
        }
    }

    /// Looks at the triggers of positions that have changed and of markets with new marks.
    pub(super) fn check_triggers(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        let remarked = std::mem::take(&mut self.remarked);
        let affected: Vec<TriggerId> = self
            .triggers
            .values()
            .filter(|trigger| trigger.is_live())
            .filter(|trigger| {
                let market = trigger.new.market;
                remarked.contains(&market) || moved.contains(&(trigger.key(), market))
            })
            .map(|trigger| trigger.id)
            .collect();
        for id in affected {
            self.follow_entry(id);
            self.fire(id);
        }
    }

    /// Brings a trigger in line with its position and its entry order.
    fn follow_entry(&mut self, id: TriggerId) {
        let Some(trigger) = self.triggers.get(&id).filter(|trigger| trigger.is_live()) else {
            return;
        };
        let held = self
            .wallet(trigger.key())
            .map_or(Count::ZERO, |wallet| wallet.position(trigger.new.market).count);
        let anchor = trigger.new.anchor.and_then(|order| self.order(order));
        let waits = anchor.is_some_and(|order| order.status == OrderStatus::Resting);
        let entered = anchor.is_none_or(|order| order.filled.is_positive());
        let mark = self.market(trigger.new.market).map(|market| market.liquidation_mark.price);
        let long = held.is_positive();
        let fits = anchor.is_none_or(|order| (order.side == Side::Bid) == long);
        let now = self.now;
        let ends = if !held.is_zero() && fits && entered {
            match trigger.long {
                Some(was) if was != long => Some(TriggerReason::PositionFlipped),
                _ => None,
            }
        } else if waits {
            if let Some(trigger) = self.triggers.get_mut(&id)
                && trigger.status == TriggerStatus::Active
            {
                // The position is gone, and its entry may still bring another.
                trigger.status = TriggerStatus::PendingOnEntry;
                trigger.long = None;
                trigger.updated = now;
            }
            return;
        } else if !entered {
            Some(TriggerReason::EntryNotFilled)
        } else if held.is_zero() {
            Some(TriggerReason::PositionClosed)
        } else {
            Some(TriggerReason::PositionFlipped)
        };
        if ends.is_some() {
            self.end_trigger(id, TriggerStatus::Canceled, ends);
        } else if let (Some(trigger), Some(mark)) = (self.triggers.get_mut(&id), mark) {
            if trigger.status == TriggerStatus::PendingOnEntry {
                trigger.status = TriggerStatus::Active;
                trigger.long = Some(long);
                trigger.updated = now;
            }
            trigger.follow(mark);
        }
    }

    /// Sends the order of a trigger whose price is reached.
    fn fire(&mut self, id: TriggerId) {
        let Some(trigger) = self.triggers.get(&id) else { return };
        let (key, market) = (trigger.key(), trigger.new.market);
        let mark = self.market(market).map(|market: &Market| market.liquidation_mark.price);
        let leg = mark.and_then(|mark| trigger.fires(mark));
        let Some(leg) = leg.filter(|_| trigger.status == TriggerStatus::Active) else { return };
        let count = self.trigger_count(trigger);
        // Not live any more before its order trades: what that sets off must not find it.
        self.end_trigger(id, TriggerStatus::Failed, Some(TriggerReason::OrderRejected));
        let placed = self.place_system(key, market, count, Source::Trigger);
        if let Some(trigger) = self.triggers.get_mut(&id) {
            trigger.leg = Some(leg);
            if let Some((order, filled)) = placed {
                trigger.order = Some(order);
                trigger.filled = filled;
                if filled.is_positive() {
                    trigger.status = TriggerStatus::Filled;
                    trigger.reason = None;
                }
            }
        }
    }

    /// Returns the contracts that a trigger closes: those that it names, those that its entry order
    /// has brought, or all.
    pub(crate) fn trigger_count(&self, trigger: &Trigger) -> Count {
        let entered = trigger.new.anchor.and_then(|order| self.order(order));
        let held = self
            .wallet(trigger.key())
            .map_or(Count::ZERO, |wallet| size(wallet.position(trigger.new.market).count));
        let named = trigger.new.count.or(entered.map(|order| order.filled));
        let left = named.map(|count| count.saturating_sub(trigger.filled));
        if trigger.is_live() {
            left.map_or(held, |count| count.min(held))
        } else {
            named.unwrap_or(trigger.filled)
        }
    }
}
