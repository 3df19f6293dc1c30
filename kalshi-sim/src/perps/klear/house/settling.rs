//! Settlements: what has accrued since the last one, the obligations that come of it, and the audit
//! of both against the ledger.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use super::{
    CENTI_CENT, ClearingHouse, DayClose, KEPT_DAYS, KEPT_OBLIGATIONS, Ledger, MarginUnit, Member,
    Settled, Settlement, calendar, cash::ChangeReason, keep, next_id, whole,
};
use crate::{
    engine::{
        amount::{SaturatingArithmetic as _, cost},
        ids::{AccountId, ClearingId, MarketId},
        types::Time,
    },
    perps::engine::{
        amount::{negated, size},
        ledger::{Account, CashCause, Wallet},
        margin::Marks,
        markets::AssetClass,
    },
};

/// The changes of the position of an account in a market since the last settlement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accrued {
    pub(crate) position: Count,
    /// In micro-dollars.
    pub(crate) profit: Dollars,
    pub(crate) fees: Dollars,
    /// Received; below zero paid.
    pub(crate) funding: Dollars,
    /// Contracts traded.
    pub(crate) traded: Count,
    /// Price × count of them.
    pub(crate) value: Dollars,
    /// The profit that is not realized, at the marks of now.
    unrealized: Dollars,
    carried: Dollars,
}

impl Accrued {
    /// Returns the profit in whole hundredths of a cent, with what was carried from before.
    pub(crate) fn pnl(&self) -> Dollars {
        whole(self.profit.saturating_add(self.carried)).0
    }

    /// Reports whether there is anything to settle or to show.
    pub(crate) fn is_something(&self) -> bool {
        !(self.position.is_zero()
            && self.pnl().is_zero()
            && self.fees.is_zero()
            && self.funding.is_zero())
    }
}

/// The amount that one market made due for one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettlementRow {
    pub(crate) id: ClearingId,
    pub(crate) account: AccountId,
    pub(crate) market: MarketId,
    pub(crate) position: Count,
    pub(crate) pnl: Dollars,
    pub(crate) fees: Dollars,
}

/// The margin of one part of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarginRow {
    pub(crate) id: ClearingId,
    pub(crate) unit: MarginUnit,
    pub(crate) margin: Dollars,
    pub(crate) change: Dollars,
}

/// A payment towards an obligation, out of the settlement balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receive {
    pub(crate) id: ClearingId,
    pub(crate) amount: Dollars,
    pub(crate) at: Time,
}

/// The amount that a settlement makes due for a member in an asset class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Obligation {
    pub(crate) id: ClearingId,
    pub(crate) class: AssetClass,
    /// The settlement before.
    pub(crate) since: Option<Time>,
    pub(crate) at: Time,
    pub(crate) updated: Time,
    pub(crate) pnl: Dollars,
    pub(crate) fees: Dollars,
    pub(crate) funding: Dollars,
    pub(crate) margin: Dollars,
    /// Due to the member; below zero the member owes it.
    pub(crate) amount: Dollars,
    /// The part of it that the member still owes.
    pub(crate) due: Dollars,
    pub(crate) receives: Vec<Receive>,
    pub(crate) rows: Vec<SettlementRow>,
    pub(crate) margins: Vec<MarginRow>,
}

impl Obligation {
    pub(crate) fn is_active(&self) -> bool {
        !self.due.is_zero()
    }

    /// Reports whether something at a time is part of it.
    pub(crate) fn covers(&self, at: Time) -> bool {
        self.since.is_none_or(|since| since < at) && at <= self.at
    }
}

impl Member {
    /// Returns the margin that settlements have taken in an asset class, by its parts.
    pub(crate) fn margins(
        &self,
        class: AssetClass,
    ) -> impl Iterator<Item = (MarginUnit, Dollars)> + '_ {
        self.margins
            .iter()
            .filter(move |((of, _), _)| *of == class)
            .map(|((_, unit), margin)| (*unit, *margin))
    }

    /// Returns the part of the member that an account is margined in.
    pub(crate) fn unit(&self, own: AccountId, account: AccountId) -> MarginUnit {
        let group = self.groups.iter().find(|(_, accounts)| accounts.contains(&account));
        match group {
            Some((group, _)) => MarginUnit::Group(*group),
            None if account == own => MarginUnit::Own,
            None => MarginUnit::Subtrader(account),
        }
    }

    /// Returns what has accrued since the last settlement, by account and market.
    pub(crate) fn accrued(
        &self,
        ledger: Ledger<'_>,
        own: AccountId,
    ) -> BTreeMap<(AccountId, MarketId), Accrued> {
        let mut rows: BTreeMap<(AccountId, MarketId), Accrued> = BTreeMap::new();
        for (_, id) in ledger.parties(own) {
            let Ok(account) = ledger.engine.account(id) else { continue };
            self.add_records(id, account, &mut rows);
            for wallet in account.wallets.values() {
                add_positions(ledger, id, wallet, &mut rows);
            }
        }
        for (key, settled) in &self.settled {
            let row = rows.entry(*key).or_default();
            row.profit = row.profit.saturating_sub(settled.unrealized);
            row.carried = settled.carried;
        }
        rows
    }

    /// Adds what trades, funding and corporate actions have done since the last settlement.
    fn add_records(
        &self,
        id: AccountId,
        account: &Account,
        rows: &mut BTreeMap<(AccountId, MarketId), Accrued>,
    ) {
        let taken = self.taken.get(&id).copied().unwrap_or_default();
        for fill in account.fills.iter().skip(taken.fills) {
            let row = rows.entry((id, fill.market)).or_default();
            row.profit = row.profit.saturating_add(fill.realized);
            row.fees = row.fees.saturating_add(fill.fee);
            row.traded = row.traded.saturating_add(fill.count);
            row.value = row.value.saturating_add(cost(fill.price, fill.count));
        }
        for payment in account.action_payments.iter().skip(taken.actions) {
            let row = rows.entry((id, payment.market)).or_default();
            row.profit = row.profit.saturating_add(payment.cash);
        }
        for payment in account.funding.iter().skip(taken.funding) {
            let row = rows.entry((id, payment.market)).or_default();
            row.funding = row.funding.saturating_add(payment.amount);
        }
    }
}

fn add_positions(
    ledger: Ledger<'_>,
    id: AccountId,
    wallet: &Wallet,
    rows: &mut BTreeMap<(AccountId, MarketId), Accrued>,
) {
    for (market, position) in &wallet.positions {
        let Some(found) = ledger.engine.market(*market) else { continue };
        let row = rows.entry((id, *market)).or_default();
        let profit = position.profit(found.settlement_mark.price);
        row.position = row.position.saturating_add(position.count);
        row.unrealized = row.unrealized.saturating_add(profit);
        row.profit = row.profit.saturating_add(profit);
    }
}

/// Returns the maintenance margin of each part of a member that is margined by itself, without those
/// that need none, in whole hundredths of a cent.
pub(super) fn required(
    ledger: Ledger<'_>,
    member: &Member,
    own: AccountId,
) -> BTreeMap<(AssetClass, MarginUnit), Dollars> {
    let mut margins: BTreeMap<(AssetClass, MarginUnit), Dollars> = BTreeMap::new();
    let mut grouped: BTreeMap<(ClearingId, MarketId), Count> = BTreeMap::new();
    let mut add = |unit, market: MarketId, count: Count| {
        let Some(found) = ledger.engine.market(market) else { return };
        let value = cost(found.settlement_mark.price, size(count));
        let margin = ledger.engine.parameters.margins(found, value).0;
        let sum = margins.entry((found.class, unit)).or_default();
        *sum = sum.saturating_add(margin);
    };
    for (_, id) in ledger.parties(own) {
        let Ok(account) = ledger.engine.account(id) else { continue };
        let unit = member.unit(own, id);
        let positions = account.wallets.values().flat_map(|wallet| &wallet.positions);
        for (market, position) in positions {
            match unit {
                MarginUnit::Group(group) => {
                    let sum = grouped.entry((group, *market)).or_default();
                    *sum = sum.saturating_add(position.count);
                }
                MarginUnit::Own | MarginUnit::Subtrader(_) => add(unit, *market, position.count),
            }
        }
    }
    for ((group, market), count) in grouped {
        add(MarginUnit::Group(group), market, count);
    }
    for margin in margins.values_mut() {
        *margin = margin.ceil_to(CENTI_CENT).unwrap_or(*margin);
    }
    margins.retain(|_, margin| !margin.is_zero());
    margins
}

impl ClearingHouse {
    /// Returns the maintenance margin that a settlement now would require.
    pub(crate) fn required(
        &self,
        ledger: Ledger<'_>,
        own: AccountId,
    ) -> BTreeMap<(AssetClass, MarginUnit), Dollars> {
        self.members.get(&own).map_or_else(BTreeMap::new, |member| required(ledger, member, own))
    }

    /// Closes the day: takes prices and positions, and makes the obligations.
    pub(super) fn settle(&mut self, ledger: Ledger<'_>, at: Time) {
        let since = self.settlements.back().map(|settlement| settlement.at);
        let prices = ledger.engine.markets().iter().filter(|market| !market.closed);
        let prices = prices
            .map(|market| (market.class, market.ticker.clone(), market.settlement_mark.price))
            .collect();
        keep(&mut self.settlements, Settlement { at, prices }, KEPT_DAYS);
        let Self { members, last_id, .. } = self;
        for (own, member) in members {
            settle_member(member, *own, ledger, (since, at), last_id);
        }
    }

    /// Checks that the house and the ledger agree: balance and margin of each member, with what has
    /// accrued since the last settlement, are the equity of its accounts; the changes of a balance add
    /// up to it; what is locked is in withdrawals.
    ///
    /// # Errors
    ///
    /// A description of the first sum that does not add up.
    pub(crate) fn audit(&self, ledger: Ledger<'_>) -> Result<(), String> {
        for (own, member) in &self.members {
            let mut equity = Dollars::ZERO;
            for (_, id) in ledger.parties(*own) {
                let Ok(account) = ledger.engine.account(id) else { continue };
                for wallet in account.wallets.values() {
                    let standing = ledger.engine.standing(wallet, Marks::Settlement);
                    equity = equity.saturating_add(standing.equity);
                }
                // Movements that are not collected yet.
                let taken = member.taken.get(&id).map_or(0, |taken| taken.movements);
                for movement in account.movements.iter().skip(taken) {
                    if movement.cause != CashCause::Clearing {
                        equity = equity.saturating_sub(movement.amount);
                    }
                }
            }
            let mut sum = member.available.saturating_add(member.carried);
            for obligation in &member.obligations {
                sum = sum.saturating_sub(obligation.due);
            }
            for margin in member.margins.values() {
                sum = sum.saturating_add(*margin);
            }
            for row in member.accrued(ledger, *own).values() {
                let parts = [row.profit, row.carried, row.funding, negated(row.fees)];
                sum = parts.into_iter().fold(sum, Dollars::saturating_add);
            }
            if sum != equity {
                return Err(format!("{own} has an equity of {equity}, the house counts {sum}"));
            }
            self.audit_cash(*own, member)?;
        }
        Ok(())
    }
}

fn settle_member(
    member: &mut Member,
    own: AccountId,
    ledger: Ledger<'_>,
    (since, at): (Option<Time>, Time),
    last_id: &mut u64,
) {
    let accrued = member.accrued(ledger, own);
    let margins = required(ledger, member, own);
    let mut made: Vec<Obligation> = AssetClass::ALL
        .into_iter()
        .filter_map(|class| {
            let of_class = accrued.iter().filter(|((_, market), _)| {
                ledger.engine.market(*market).is_some_and(|market| market.class == class)
            });
            let of_class: Vec<_> = of_class.filter(|(_, row)| row.is_something()).collect();
            obligation(member, class, &of_class, &margins, (since, at), last_id)
        })
        .collect();
    let mut positions: BTreeMap<MarketId, Count> = BTreeMap::new();
    for ((account, market), row) in accrued {
        let held = positions.entry(market).or_default();
        *held = held.saturating_add(row.position);
        let carried = whole(row.profit.saturating_add(row.carried)).1;
        let settled = Settled { unrealized: row.unrealized, carried };
        if settled == Settled::default() {
            member.settled.remove(&(account, market));
        } else {
            member.settled.insert((account, market), settled);
        }
    }
    for (_, id) in ledger.parties(own) {
        let Ok(account) = ledger.engine.account(id) else { continue };
        let taken = member.taken.entry(id).or_default();
        taken.fills = account.fills.len();
        taken.funding = account.funding.len();
        taken.actions = account.action_payments.len();
    }
    member.margins = margins;
    positions.retain(|_, count| !count.is_zero());
    if let Some(day) = calendar::closed_day(at) {
        keep(&mut member.closes, DayClose { day, positions }, KEPT_DAYS);
    }
    // What comes in pays what goes out.
    made.sort_by_key(|obligation| negated(obligation.amount));
    for obligation in made {
        member.execute(obligation, at, last_id);
    }
}

/// Returns the obligation of an asset class; `None` if there is nothing to settle.
fn obligation(
    member: &Member,
    class: AssetClass,
    accrued: &[(&(AccountId, MarketId), &Accrued)],
    margins: &BTreeMap<(AssetClass, MarginUnit), Dollars>,
    (since, at): (Option<Time>, Time),
    last_id: &mut u64,
) -> Option<Obligation> {
    let before: BTreeMap<MarginUnit, Dollars> = member.margins(class).collect();
    let of_class = margins.iter().filter(|((of, _), _)| *of == class);
    let after: BTreeMap<MarginUnit, Dollars> =
        of_class.map(|((_, unit), margin)| (*unit, *margin)).collect();
    if accrued.is_empty() && before.is_empty() && after.is_empty() {
        return None;
    }
    let id = next_id(last_id);
    let rows: Vec<SettlementRow> = accrued
        .iter()
        .map(|((account, market), row)| SettlementRow {
            id: next_id(last_id),
            account: *account,
            market: *market,
            position: row.position,
            pnl: row.pnl(),
            fees: row.fees,
        })
        .collect();
    let units: BTreeSet<MarginUnit> = before.keys().chain(after.keys()).copied().collect();
    let margins: Vec<MarginRow> = units
        .into_iter()
        .map(|unit| {
            let margin = after.get(&unit).copied().unwrap_or_default();
            let change = margin.saturating_sub(before.get(&unit).copied().unwrap_or_default());
            MarginRow { id: next_id(last_id), unit, margin, change }
        })
        .collect();
    let sum = |amounts: &mut dyn Iterator<Item = Dollars>| {
        amounts.fold(Dollars::ZERO, Dollars::saturating_add)
    };
    let pnl = sum(&mut rows.iter().map(|row| row.pnl));
    let fees = sum(&mut rows.iter().map(|row| row.fees));
    let funding = sum(&mut accrued.iter().map(|(_, row)| row.funding));
    let margin = sum(&mut margins.iter().map(|row| row.margin));
    let change = sum(&mut margins.iter().map(|row| row.change));
    let amount = pnl.saturating_sub(fees).saturating_add(funding).saturating_sub(change);
    Some(Obligation {
        id,
        class,
        since,
        at,
        updated: at,
        pnl,
        fees,
        funding,
        margin,
        amount,
        due: Dollars::ZERO,
        receives: Vec::new(),
        rows,
        margins,
    })
}

impl Member {
    /// Books an obligation: credits it, or takes it from what is available; what that does not cover
    /// stays due.
    fn execute(&mut self, mut obligation: Obligation, at: Time, last_id: &mut u64) {
        let amount = obligation.amount;
        if amount.is_negative() {
            obligation.due = negated(amount);
        }
        let id = obligation.id;
        if let Some(forgotten) = keep(&mut self.obligations, obligation, KEPT_OBLIGATIONS)
            && forgotten.is_active()
        {
            // What is still owed must not be forgotten.
            self.obligations.push_front(forgotten);
        }
        if amount.is_positive() {
            self.change((amount, Dollars::ZERO), ChangeReason::Settlement, id, at);
        }
        self.pay_dues(at, last_id);
    }
}
