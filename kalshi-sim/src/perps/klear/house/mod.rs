//! The clearing house: what members owe each other for the day, and the cash that settles it. Pure:
//! the ledger of perpetual futures and the time are arguments.
//!
//! The exchange publishes what its clearing house reports, and not how it computes it. What follows is
//! a model:
//!
//! - A settlement is due at midnight in New York. It closes the day, takes the settlement marks of
//!   that moment, and makes one obligation for each member and asset class with a position, a fill or
//!   margin.
//! - The amount of an obligation is profit − fees + funding − change of the maintenance margin; above
//!   zero it is due to the member. Profit is what marks, trades and corporate actions have changed
//!   since the last settlement.
//! - A settlement balance is cash at the house: what was paid into perpetual futures, what
//!   settlements have brought, less the maintenance margin. So at a settlement, balance and margin
//!   together are the equity in the ledger, and a day's profit can be withdrawn the day after.
//! - An obligation that the balance does not cover stays active until cash comes in.
//! - Margin is that of the ledger, rounded up to hundredths of a cent; the subtraders of a netting group
//!   are margined by their net position in each market.
//! - A withdrawal is taken from the ledger and locked at once, and paid out three seconds later.
//!
//! Profits are kept in micro-dollars; what does not make a hundredth of a cent is carried to the next
//! settlement of the same position, so that nothing is lost.

pub(crate) mod calendar;
mod cash;
mod groups;
mod settling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::NaiveDate;
use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    cash::{BalanceChange, Withdrawal, WithdrawalStatus},
    settling::{MarginRow, Obligation, SettlementRow},
};
use crate::{
    engine::{
        ids::{AccountId, ClearingId, MarketId},
        types::Time,
    },
    perps::engine::{Perps, markets::AssetClass},
};

/// The unit of the clearing house: a hundredth of a cent.
pub(crate) const CENTI_CENT: Dollars = Dollars::from_micros(100);
/// The settlements whose prices and positions are kept; the limits of what is kept of a member.
const KEPT_DAYS: usize = 1_000;
const KEPT_OBLIGATIONS: usize = 10_000;
const KEPT_CHANGES: usize = 100_000;
const KEPT_WITHDRAWALS: usize = 10_000;

/// The subtraders of each clearing member, by their ids.
pub(crate) type Firms = BTreeMap<AccountId, BTreeMap<String, AccountId>>;

/// The ledger that the house reads, and the members who answer for others in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ledger<'a> {
    pub(crate) engine: &'a Perps,
    pub(crate) firms: &'a Firms,
}

impl<'a> Ledger<'a> {
    /// Returns the accounts that a member answers for: its own, with an empty id, and those of its
    /// subtraders.
    pub(crate) fn parties(
        self,
        member: AccountId,
    ) -> impl Iterator<Item = (&'a str, AccountId)> + use<'a> {
        let subtraders = self.firms.get(&member).into_iter().flatten();
        std::iter::once(("", member)).chain(subtraders.map(|(id, account)| (id.as_str(), *account)))
    }

    /// Returns the id of a subtrader; empty for the member itself.
    pub(crate) fn subtrader_id(self, member: AccountId, account: AccountId) -> &'a str {
        self.parties(member).find(|(_, one)| *one == account).map_or("", |(id, _)| id)
    }
}

/// The part of a member that is margined by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum MarginUnit {
    Own,
    Subtrader(AccountId),
    Group(ClearingId),
}

/// The prices of one settlement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settlement {
    pub(crate) at: Time,
    /// By the ticker of that day.
    pub(crate) prices: Vec<(AssetClass, String, Dollars)>,
}

/// The positions of a member when a day closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DayClose {
    pub(crate) day: NaiveDate,
    /// Without markets in which nothing is held.
    pub(crate) positions: BTreeMap<MarketId, Count>,
}

/// The number of records of an account that the house has taken into its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    fills: usize,
    funding: usize,
    actions: usize,
    movements: usize,
}

/// The value of a position at the last settlement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Settled {
    unrealized: Dollars,
    /// Less than a hundredth of a cent, for the next settlement.
    carried: Dollars,
}

/// A clearing member. All money is in whole hundredths of a cent unless it says otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) available: Dollars,
    /// In withdrawals that are not paid out yet.
    pub(crate) locked: Dollars,
    pub(crate) guaranty_fund: Dollars,
    pub(crate) guaranty_updated: Time,
    /// Cash that came in below a hundredth of a cent.
    carried: Dollars,
    /// The margin that settlements have taken.
    margins: BTreeMap<(AssetClass, MarginUnit), Dollars>,
    settled: BTreeMap<(AccountId, MarketId), Settled>,
    taken: BTreeMap<AccountId, Taken>,
    /// Oldest first.
    pub(crate) obligations: VecDeque<Obligation>,
    /// Oldest first.
    pub(crate) changes: VecDeque<BalanceChange>,
    /// The sum of the changes that are not kept any more.
    forgotten: (Dollars, Dollars),
    /// Oldest first.
    pub(crate) closes: VecDeque<DayClose>,
    /// Netting groups of its subtraders.
    pub(crate) groups: BTreeMap<ClearingId, BTreeSet<AccountId>>,
}

/// The clearing house.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ClearingHouse {
    members: BTreeMap<AccountId, Member>,
    /// Oldest first.
    settlements: VecDeque<Settlement>,
    withdrawals: BTreeMap<ClearingId, Withdrawal>,
    /// Those that are not at an end.
    open_withdrawals: BTreeSet<ClearingId>,
    /// The time of the next settlement; `None` at the end of time.
    next_settlement: Option<Time>,
    last_id: u64,
}

impl ClearingHouse {
    /// Returns a house with members. What is in the ledger already is part of their first
    /// settlement.
    pub(crate) fn new(now: Time, members: &[AccountId]) -> Self {
        let member = || Member {
            available: Dollars::ZERO,
            locked: Dollars::ZERO,
            guaranty_fund: Dollars::ZERO,
            guaranty_updated: now,
            carried: Dollars::ZERO,
            margins: BTreeMap::new(),
            settled: BTreeMap::new(),
            taken: BTreeMap::new(),
            obligations: VecDeque::new(),
            changes: VecDeque::new(),
            forgotten: Default::default(),
            closes: VecDeque::new(),
            groups: BTreeMap::new(),
        };
        let members = members.iter().map(|account| (*account, member())).collect();
        let next_settlement = calendar::next_settlement(now);
        Self { members, next_settlement, ..Self::default() }
    }

    pub(crate) fn member(&self, account: AccountId) -> Option<&Member> {
        self.members.get(&account)
    }

    /// Returns the time of the next settlement; `None` at the end of time.
    pub(crate) fn next_settlement(&self) -> Option<Time> {
        self.next_settlement
    }

    /// Returns the settlements, the oldest first.
    pub(crate) fn settlements(&self) -> impl DoubleEndedIterator<Item = &Settlement> {
        self.settlements.iter()
    }

    /// Returns the time at which something is due next: a settlement, or a step of a withdrawal.
    pub(crate) fn next_step(&self) -> Option<Time> {
        let open = self.open_withdrawals.iter().filter_map(|id| self.withdrawals.get(id)?.due());
        open.chain(self.next_settlement).min()
    }

    /// Does what is due at a time, which the ledger has reached.
    pub(crate) fn step(&mut self, ledger: Ledger<'_>, at: Time) {
        self.collect(ledger);
        self.pay_out(at);
        if self.next_settlement.is_some_and(|next| next <= at) {
            self.settle(ledger, at);
            self.next_settlement = calendar::next_settlement(at);
        }
    }

    fn next_id(&mut self) -> ClearingId {
        next_id(&mut self.last_id)
    }
}

/// Returns the next id after the last one.
fn next_id(last: &mut u64) -> ClearingId {
    *last += 1;
    ClearingId(*last)
}

/// Appends to a list, and forgets the oldest if there are too many. Returns what is forgotten.
fn keep<T>(list: &mut VecDeque<T>, row: T, most: usize) -> Option<T> {
    list.push_back(row);
    if list.len() > most { list.pop_front() } else { None }
}

/// Returns an amount in whole hundredths of a cent, rounded down, and what that leaves over.
fn whole(amount: Dollars) -> (Dollars, Dollars) {
    let over = Dollars::from_micros(amount.as_micros().rem_euclid(CENTI_CENT.as_micros()));
    (Dollars::from_micros(amount.as_micros() - over.as_micros()), over)
}
