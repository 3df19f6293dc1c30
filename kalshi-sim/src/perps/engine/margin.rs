//! Margin and liquidation: a model by the parameters that the exchange publishes, and not its
//! formulas, which it does not publish.
//!
//! - The maintenance margin of a position is a fixed part of its value at the mark, by market.
//! - The initial margin is that times the published multiplier of the asset class.
//! - Resting orders need the initial margin of what they would open at their prices: in each market
//!   that of its bids or that of its asks, whichever is more.
//! - Equity is cash and unrealized profit. The ratio of equity to maintenance margin is compared with
//!   the two published thresholds: below the first the orders of the subaccount are canceled, below
//!   the second its positions are closed at any price, the one with the most margin first, until the
//!   ratio is above the first threshold again.
//! - What a liquidation cannot trade for lack of orders is tried again with the next command.
//! - A loss beyond the equity is taken by the insurance fund.
//!
//! All positions of a subaccount are margined together. Balances go by the settlement mark,
//! liquidations by the liquidation mark.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        amount::{SaturatingArithmetic, cost},
        ids::{AccountId, MarketId, OrderId},
        matching::Matching as _,
        types::{Order, OrderStatus, Reason, Refusal, Side},
    },
    perps::engine::{
        Perps, WalletKey,
        amount::{
            MAX_NOTIONAL, STEP, divide_down, divide_up, micros, negated, opposite, part_up, size,
        },
        ledger::{CashCause, CashMovement, OpenOrders, Position, Wallet},
        markets::{AssetClass, Market},
        orders::Source,
    },
};

/// The parts of a rate of margin or fees.
const MILLION: i128 = 1_000_000;

/// The published parameters, in thousandths, and the limits of what is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parameters {
    /// The ratio below which positions are closed.
    pub(crate) liquidation_ratio: i64,
    /// The ratio below which a subaccount waits for that, without orders.
    pub(crate) queue_ratio: i64,
    pub(crate) initial_multipliers: BTreeMap<AssetClass, i64>,
    /// What positions and orders of a member in one market may be worth.
    pub(crate) notional_limit: Dollars,
    pub(crate) notional_limits: BTreeMap<MarketId, Dollars>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            liquidation_ratio: 1_000,
            queue_ratio: 1_100,
            initial_multipliers: AssetClass::ALL.into_iter().map(|class| (class, 1_500)).collect(),
            notional_limit: Dollars::from_micros(5_000_000_000_000),
            notional_limits: BTreeMap::new(),
        }
    }
}

/// The marks that a sum goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    Settlement,
    Liquidation,
}

impl Marks {
    pub(super) fn of(self, market: &Market) -> Dollars {
        match self {
            Self::Settlement => market.settlement_mark.price,
            Self::Liquidation => market.liquidation_mark.price,
        }
    }
}

/// What a subaccount has, and what it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) equity: Dollars,
    /// The value of the positions, without their signs.
    pub(crate) notional: Dollars,
    pub(crate) maintenance: Dollars,
    pub(crate) initial: Dollars,
    /// The initial margin of what rests.
    pub(crate) orders: Dollars,
}

impl Standing {
    /// Returns what is free for new orders; below zero if there is too little.
    pub(crate) fn available(self) -> Dollars {
        self.equity.saturating_sub(self.initial).saturating_sub(self.orders)
    }

    /// Returns what may be taken out of the subaccount: cash that no position and no order needs.
    pub(super) fn withdrawable(self, wallet: &Wallet) -> Dollars {
        wallet.cash.min(self.available()).max(Dollars::ZERO)
    }

    /// Reports whether the ratio of equity to maintenance margin is below a threshold in
    /// thousandths.
    fn is_below(self, thousandths: i64) -> bool {
        i128::from(self.equity.as_micros()) * 1_000
            < i128::from(self.maintenance.as_micros()) * i128::from(thousandths)
    }
}

impl Parameters {
    fn multiplier(&self, class: AssetClass) -> i128 {
        i128::from(self.initial_multipliers.get(&class).copied().unwrap_or(1_000))
    }

    /// Returns the maintenance and the initial margin of a value in a market, both rounded up to the
    /// next micro-dollar.
    pub(crate) fn margins(&self, market: &Market, value: Dollars) -> (Dollars, Dollars) {
        let rate = i128::from(market.maintenance);
        let initial = rate * self.multiplier(market.class);
        (part_up(value, rate, MILLION), part_up(value, initial, MILLION * 1_000))
    }

    /// Returns what a member's positions and orders in a market may be worth.
    pub(crate) fn limit(&self, market: MarketId, member: Option<Dollars>) -> Dollars {
        let limit = self.notional_limits.get(&market).copied().unwrap_or(self.notional_limit);
        member.map_or(limit, |member| member.min(limit))
    }
}

impl Perps {
    /// Adds up what a subaccount has and needs.
    pub(crate) fn standing(&self, wallet: &Wallet, marks: Marks) -> Standing {
        self.standing_at(wallet, |market| marks.of(market))
    }

    /// Adds up what a subaccount has and needs at the marks of a moment.
    pub(super) fn standing_at(
        &self,
        wallet: &Wallet,
        mark_of: impl Fn(&Market) -> Dollars,
    ) -> Standing {
        let mut standing = Standing { equity: wallet.cash, ..Standing::default() };
        for (id, position) in &wallet.positions {
            let Some(market) = self.market(*id) else { continue };
            let mark = mark_of(market);
            let value = cost(mark, size(position.count));
            let (maintenance, initial) = self.parameters.margins(market, value);
            standing.equity = standing.equity.saturating_add(position.profit(mark));
            standing.notional = standing.notional.saturating_add(value);
            standing.maintenance = standing.maintenance.saturating_add(maintenance);
            standing.initial = standing.initial.saturating_add(initial);
        }
        for (id, open) in &wallet.open {
            let Some(market) = self.market(*id) else { continue };
            let margin = self.order_margin(market, *open, wallet.position(*id).count);
            standing.orders = standing.orders.saturating_add(margin);
        }
        standing
    }

    /// Returns the initial margin of what the orders in a market would open.
    fn order_margin(&self, market: &Market, open: OpenOrders, position: Count) -> Dollars {
        let (bids, asks) = open.opening(position);
        self.parameters.margins(market, bids.max(asks)).1
    }

    /// Returns the worth of the positions and orders of a member in a market.
    pub(crate) fn usage(&self, account: AccountId, market: MarketId) -> Dollars {
        let (Ok(account), Some(found)) = (self.account(account), self.market(market)) else {
            return Dollars::ZERO;
        };
        Wallet::usage(account.wallets.values(), market, found.settlement_mark.price)
    }

    /// Returns the initial margin of a member's positions and orders in a market.
    pub(crate) fn initial_margin(&self, account: AccountId, market: MarketId) -> Dollars {
        let (Ok(account), Some(found)) = (self.account(account), self.market(market)) else {
            return Dollars::ZERO;
        };
        let mark = found.settlement_mark.price;
        account.wallets.values().fold(Dollars::ZERO, |sum, wallet| {
            let position = wallet.position(market).count;
            let held = self.parameters.margins(found, cost(mark, size(position))).1;
            sum.saturating_add(held).saturating_add(self.order_margin(
                found,
                wallet.open(market),
                position,
            ))
        })
    }

    /// Checks that a subaccount can bear an order: what rests with it, the loss of trading at once at
    /// a price that is worse than the mark, and the fee. `leaving` is the order that it takes the
    /// place of. An order that only closes is always borne.
    pub(crate) fn afford(
        &self,
        key: WalletKey,
        market: MarketId,
        (side, price, count): (Side, Dollars, Count),
        leaving: Option<&Order>,
    ) -> Result<(), Refusal> {
        let (Some(wallet), Some(found)) = (self.wallet(key), self.market(market)) else {
            return Err(Refusal::not_found("there is no such subaccount"));
        };
        let mut after = wallet.clone();
        if let Some(order) = leaving {
            after.add_open(market, order.side, order.price, opposite(order.remaining));
        }
        let position = after.position(market);
        let open = after.open(market);
        let resting = if side == Side::Bid { open.bid_count } else { open.ask_count };
        if resting.saturating_add(count) <= position.closable(side) {
            return Ok(());
        }
        if cost(price, count) > MAX_NOTIONAL {
            return Err(Refusal::invalid("invalid_order_size", "the order is worth too much"));
        }
        after.add_open(market, side, price, count);
        self.check_limits(key.0, market, wallet, &after)?;
        let standing = self.standing(&after, Marks::Settlement);
        let mark = found.settlement_mark.price;
        let worse = match side {
            Side::Bid => price.saturating_sub(mark),
            Side::Ask => mark.saturating_sub(price),
        };
        let loss = cost(worse.max(Dollars::ZERO), count);
        let charged = fee(found, price.max(mark), count, true);
        if self.distressed.contains(&key)
            || standing.available().saturating_sub(loss).saturating_sub(charged).is_negative()
        {
            return Err(Refusal::invalid(
                "insufficient_balance",
                "the available balance does not cover the initial margin and the fee",
            ));
        }
        Ok(())
    }

    /// Checks the limits of worth, and the caps of a clearing member.
    fn check_limits(
        &self,
        id: AccountId,
        market: MarketId,
        before: &Wallet,
        after: &Wallet,
    ) -> Result<(), Refusal> {
        let (account, Some(found)) = (self.account(id)?, self.market(market)) else {
            return Ok(());
        };
        let position = after.position(market).count;
        let worth = |wallet: &Wallet| {
            let (bids, asks) = wallet.open(market).opening(position);
            bids.max(asks)
        };
        let more = worth(after).saturating_sub(worth(before));
        if self.usage(id, market).saturating_add(more)
            > self.parameters.limit(market, account.notional_limit)
        {
            return Err(Refusal::invalid(
                "notional_risk_limit_exceeded",
                "positions and orders in this market would be worth more than the limit",
            ));
        }
        let class = account.caps.by_class.get(&found.class);
        if class.is_none() && account.caps.required && !account.caps.by_market.contains_key(&market)
        {
            return Err(Refusal::invalid(
                "risk_control_required",
                "the clearing member has not set a cap for this asset class",
            ));
        }
        let added = self.parameters.margins(found, more).1;
        let used = |markets: &mut dyn Iterator<Item = MarketId>| {
            markets.fold(added, |sum, market| sum.saturating_add(self.initial_margin(id, market)))
        };
        let of_class = self.markets.iter().filter(|other| other.class == found.class);
        let beyond_class =
            class.is_some_and(|cap| used(&mut of_class.map(|market| market.id)) > *cap);
        let beyond_market = account
            .caps
            .by_market
            .get(&market)
            .is_some_and(|cap| used(&mut std::iter::once(market)) > *cap);
        if beyond_class || beyond_market {
            return Err(Refusal::invalid(
                "im_cap_exceeded",
                "the initial margin would be above the cap of the clearing member",
            ));
        }
        Ok(())
    }

    /// Sets the limit of what a member's positions and orders in a market may be worth, by its
    /// clearing member. Orders are canceled, the newest first, until what is left fits.
    pub(crate) fn set_notional_limit(
        &mut self,
        id: AccountId,
        limit: Option<Dollars>,
        now: crate::engine::types::Time,
    ) -> Result<(), Refusal> {
        self.command(now, |engine| {
            engine.account_mut(id)?.notional_limit = limit;
            let orders: Vec<OrderId> = engine.account(id)?.resting.iter().rev().copied().collect();
            for order in orders {
                let Some(market) = engine.order(order).map(|order| order.market) else { continue };
                if engine.usage(id, market) > engine.parameters.limit(market, limit) {
                    engine.cancel_and_tell(order, Reason::MarginCancel);
                }
            }
            Ok(())
        })
    }

    /// Returns the mark at which a position would be liquidated by the marks of now.
    pub(crate) fn liquidation_price(&self, wallet: &Wallet, id: MarketId) -> Option<Dollars> {
        self.liquidation_price_at(wallet, id, |market| Marks::Liquidation.of(market))
    }

    /// Returns the mark at which a position would be liquidated if everything else stayed as it is;
    /// `None` if no mark above zero does that.
    ///
    /// At a mark `m` the equity is `e + n·(m − now)` and the margin `M + r·|n|·(m − now)`, which are
    /// equal, by the threshold, at one `m`.
    pub(super) fn liquidation_price_at(
        &self,
        wallet: &Wallet,
        id: MarketId,
        mark_of: impl Fn(&Market) -> Dollars,
    ) -> Option<Dollars> {
        let market = self.market(id)?;
        let position = wallet.position(id);
        if position.count.is_zero() {
            return None;
        }
        let now = i128::from(mark_of(market).as_micros());
        let standing = self.standing_at(wallet, mark_of);
        let threshold = i128::from(self.parameters.liquidation_ratio);
        let rate = i128::from(market.maintenance);
        // Everything in micro-dollars × 10⁹ × 100: a rate of a millionth, a threshold of a
        // thousandth, a count of a hundredth.
        let scale = MILLION * 1_000;
        let room = i128::from(standing.equity.as_micros()) * scale
            - i128::from(standing.maintenance.as_micros()) * threshold * MILLION;
        let count = i128::from(position.count.as_hundredths());
        let slope = rate * threshold * count.abs() - count * scale;
        if slope == 0 {
            return None;
        }
        let at = now + divide_down(room.saturating_mul(100) * slope.signum(), slope.abs());
        // The next 10⁻⁴ dollars on the safe side.
        let rounded = if count > 0 {
            divide_up(at, STEP).saturating_mul(STEP)
        } else {
            divide_down(at, STEP).saturating_mul(STEP)
        };
        (rounded > 0).then(|| micros(rounded))
    }

    /// Looks at the margin of the wallets that something has happened to.
    pub(super) fn check_margins(&mut self) {
        while let Some(key) = self.suspects.pop_first() {
            self.check_margin(key);
        }
    }

    fn check_margin(&mut self, key: WalletKey) {
        let is_below = |engine: &Self, thousandths| {
            engine.wallet(key).is_some_and(|wallet| {
                engine.standing(wallet, Marks::Liquidation).is_below(thousandths)
            })
        };
        let (queue, liquidation) = (self.parameters.queue_ratio, self.parameters.liquidation_ratio);
        if is_below(self, queue) {
            self.cancel_wallet(key);
        }
        self.distressed.remove(&key);
        if is_below(self, liquidation) {
            self.liquidate(key, |engine| is_below(engine, queue));
            if is_below(self, liquidation) {
                self.distressed.insert(key);
            }
        }
        self.cover(key);
    }

    /// Cancels the orders of a subaccount because its margin does not suffice.
    fn cancel_wallet(&mut self, (account, subaccount): WalletKey) {
        let Ok(found) = self.account(account) else { return };
        let of_wallet = |id: &OrderId| {
            self.order(*id).is_some_and(|order| {
                order.subaccount == subaccount && order.status == OrderStatus::Resting
            })
        };
        for order in found.resting.iter().copied().filter(of_wallet).collect::<Vec<_>>() {
            self.cancel_and_tell(order, Reason::MarginCancel);
        }
    }

    /// Closes positions, the one with the most margin first, while `goes_on`.
    fn liquidate(&mut self, key: WalletKey, goes_on: impl Fn(&Self) -> bool) {
        let Some(wallet) = self.wallet(key) else { return };
        let mut positions: Vec<(Dollars, MarketId, Position)> = wallet
            .positions
            .iter()
            .filter_map(|(id, position)| {
                let market = self.market(*id)?;
                let value = cost(market.liquidation_mark.price, size(position.count));
                Some((self.parameters.margins(market, value).0, *id, *position))
            })
            .collect();
        positions.sort_by_key(|(margin, id, _)| (negated(*margin), *id));
        for (_, market, position) in positions {
            if !goes_on(self) {
                break;
            }
            self.place_system(key, market, size(position.count), Source::Liquidation);
        }
    }

    /// Lets the insurance fund take what a member without positions owes.
    fn cover(&mut self, key: WalletKey) {
        let at = self.now;
        let Some(account) = self.noted_account(key.0) else { return };
        let Some(wallet) = account.wallets.get_mut(&key.1) else { return };
        if wallet.positions.is_empty() && wallet.cash.is_negative() {
            let owed = std::mem::replace(&mut wallet.cash, Dollars::ZERO);
            let movement = CashMovement { at, amount: negated(owed), cause: CashCause::Insurance };
            account.movements.push(movement);
            self.insurance = self.insurance.saturating_add(owed);
        }
    }
}

/// Returns the fee of a trade: its value times the rate of the market, rounded up to the next 10⁻⁴
/// dollars.
pub(crate) fn fee(market: &Market, price: Dollars, count: Count, taker: bool) -> Dollars {
    let rate = i128::from(if taker { market.taker_fee } else { market.maker_fee });
    let parts = i128::from(cost(price, count).as_micros()).saturating_mul(rate);
    micros(divide_up(parts, MILLION * STEP).saturating_mul(STEP))
}
