//! The cash of members at the house: what comes in, what pays obligations, what is withdrawn.

use kalshi_types::Dollars;
use serde::{Deserialize, Serialize};

use super::{
    ClearingHouse, Firms, KEPT_CHANGES, KEPT_WITHDRAWALS, Ledger, Member, keep, next_id,
    settling::Receive, whole,
};
use crate::{
    engine::{
        amount::SaturatingArithmetic as _,
        ids::{AccountId, ClearingId},
        types::{Refusal, Time},
    },
    perps::engine::{Perps, amount::negated, ledger::CashCause},
};

/// The time that a withdrawal waits, and the time that paying it takes, in milliseconds.
const PENDING_MILLIS: i64 = 1_000;
const PROCESSING_MILLIS: i64 = 2_000;

/// The cause of a change of a settlement balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ChangeReason {
    Deposit,
    TransferOut,
    InsuranceFund,
    Settlement,
    ObligationPayment,
    Withdrawal,
    WithdrawalProcessed,
    WithdrawalReturned,
    GuarantyFund,
}

impl ChangeReason {
    /// Returns the word for it, of the simulator's own: the document has no list.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::TransferOut => "transfer_out",
            Self::InsuranceFund => "insurance_fund",
            Self::Settlement => "settlement",
            Self::ObligationPayment => "obligation_payment",
            Self::Withdrawal => "withdrawal",
            Self::WithdrawalProcessed => "withdrawal_processed",
            Self::WithdrawalReturned => "withdrawal_returned",
            Self::GuarantyFund => "guaranty_fund",
        }
    }
}

/// One change of a settlement balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BalanceChange {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) available: Dollars,
    pub(crate) locked: Dollars,
    pub(crate) reason: ChangeReason,
    pub(crate) transaction: ClearingId,
    pub(crate) at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WithdrawalStatus {
    Pending,
    Processing,
    Processed,
    Failed,
    Cancelled,
}

impl WithdrawalStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Processed => "processed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Processing)
    }
}

/// Cash on its way to the bank of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Withdrawal {
    pub(crate) member: AccountId,
    pub(crate) amount: Dollars,
    pub(crate) status: WithdrawalStatus,
    pub(crate) created: Time,
}

impl Withdrawal {
    /// Returns the time of its next step; `None` if it is at an end.
    pub(super) fn due(&self) -> Option<Time> {
        let after = match self.status {
            WithdrawalStatus::Pending => PENDING_MILLIS,
            WithdrawalStatus::Processing => PENDING_MILLIS + PROCESSING_MILLIS,
            _ => return None,
        };
        Some(Time::from_millis(self.created.as_millis().saturating_add(after)))
    }
}

impl Member {
    /// Changes what is available and what is locked, and notes why.
    pub(super) fn change(
        &mut self,
        (available, locked): (Dollars, Dollars),
        reason: ChangeReason,
        transaction: ClearingId,
        at: Time,
    ) {
        if available.is_zero() && locked.is_zero() {
            return;
        }
        self.available = self.available.saturating_add(available);
        self.locked = self.locked.saturating_add(locked);
        let number = self.changes.back().map_or(0, |change| change.number) + 1;
        let change = BalanceChange { number, available, locked, reason, transaction, at };
        if let Some(old) = keep(&mut self.changes, change, KEPT_CHANGES) {
            self.forgotten.0 = self.forgotten.0.saturating_add(old.available);
            self.forgotten.1 = self.forgotten.1.saturating_add(old.locked);
        }
    }

    /// Pays what is due out of what is available, the oldest obligation first.
    pub(super) fn pay_dues(&mut self, at: Time, last_id: &mut u64) {
        let mut paid = Vec::new();
        let mut left = self.available.max(Dollars::ZERO);
        for obligation in self.obligations.iter_mut().filter(|one| one.is_active()) {
            let amount = left.min(obligation.due);
            if amount.is_zero() {
                break;
            }
            left = left.saturating_sub(amount);
            obligation.due = obligation.due.saturating_sub(amount);
            obligation.updated = at;
            obligation.receives.push(Receive { id: next_id(last_id), amount, at });
            paid.push((obligation.id, amount));
        }
        for (id, amount) in paid {
            let change = (negated(amount), Dollars::ZERO);
            self.change(change, ChangeReason::ObligationPayment, id, at);
        }
    }
}

impl ClearingHouse {
    /// Takes the movements of cash in the ledger into the balances.
    pub(crate) fn collect(&mut self, ledger: Ledger<'_>) {
        let Self { members, last_id, .. } = self;
        for (own, member) in members {
            for (_, id) in ledger.parties(*own) {
                let Ok(account) = ledger.engine.account(id) else { continue };
                let taken = member.taken.entry(id).or_default();
                let new = account.movements.get(taken.movements..).unwrap_or_default();
                taken.movements = account.movements.len();
                for movement in new {
                    let reason = match movement.cause {
                        CashCause::Clearing => continue,
                        CashCause::Insurance => ChangeReason::InsuranceFund,
                        CashCause::Transfer if movement.amount.is_negative() => {
                            ChangeReason::TransferOut
                        }
                        CashCause::Transfer => ChangeReason::Deposit,
                    };
                    let (amount, over) = whole(movement.amount.saturating_add(member.carried));
                    member.carried = over;
                    let id = next_id(last_id);
                    member.change((amount, Dollars::ZERO), reason, id, movement.at);
                    member.pay_dues(movement.at, last_id);
                }
            }
        }
    }

    /// Returns a withdrawal of a member.
    pub(crate) fn withdrawal(&self, member: AccountId, id: ClearingId) -> Option<&Withdrawal> {
        self.withdrawals.get(&id).filter(|withdrawal| withdrawal.member == member)
    }

    /// Takes cash out of the ledger and locks it until it is paid out. Cash that positions and orders
    /// need is not paid out.
    pub(crate) fn withdraw(
        &mut self,
        (engine, firms): (&mut Perps, &Firms),
        member: AccountId,
        amount: Dollars,
        now: Time,
    ) -> Result<ClearingId, Refusal> {
        if self.open_withdrawals.len() >= KEPT_WITHDRAWALS {
            return Err(Refusal::invalid("too_many_withdrawals", "10,000 withdrawals are open"));
        }
        self.take_out((engine, firms), member, amount, now)?;
        let id = self.next_id();
        let status = WithdrawalStatus::Pending;
        self.withdrawals.insert(id, Withdrawal { member, amount, status, created: now });
        self.open_withdrawals.insert(id);
        if self.withdrawals.len() > KEPT_WITHDRAWALS {
            let over = self.withdrawals.iter().find(|(_, one)| !one.status.is_open());
            if let Some(id) = over.map(|(id, _)| *id) {
                self.withdrawals.remove(&id);
            }
        }
        if let Some(member) = self.members.get_mut(&member) {
            member.change((negated(amount), amount), ChangeReason::Withdrawal, id, now);
        }
        Ok(id)
    }

    /// Moves cash of a member into the guaranty fund.
    pub(crate) fn contribute(
        &mut self,
        (engine, firms): (&mut Perps, &Firms),
        account: AccountId,
        amount: Dollars,
        now: Time,
    ) -> Result<(), Refusal> {
        self.take_out((engine, firms), account, amount, now)?;
        let id = self.next_id();
        if let Some(member) = self.members.get_mut(&account) {
            let change = (negated(amount), Dollars::ZERO);
            member.change(change, ChangeReason::GuarantyFund, id, now);
            member.guaranty_fund = member.guaranty_fund.saturating_add(amount);
            member.guaranty_updated = now;
        }
        Ok(())
    }

    /// Takes cash of a member out of the ledger, if the balance and the ledger both have it to spare.
    fn take_out(
        &mut self,
        (engine, firms): (&mut Perps, &Firms),
        member: AccountId,
        amount: Dollars,
        now: Time,
    ) -> Result<(), Refusal> {
        self.collect(Ledger { engine, firms });
        let available = self.members.get(&member).map(|member| member.available);
        let available = available.ok_or_else(|| Refusal::not_found("no such member"))?;
        if !amount.is_positive() || !whole(amount).1.is_zero() {
            return Err(Refusal::parameters(
                "the amount is above zero and in whole hundredths of a cent",
            ));
        }
        if amount > available {
            return Err(Refusal::invalid(
                "insufficient_balance",
                "the settlement balance is too low",
            ));
        }
        engine.pay_out(member, amount, CashCause::Clearing, now)?;
        self.collect(Ledger { engine, firms });
        Ok(())
    }

    /// Lets the withdrawals go on that are due.
    pub(super) fn pay_out(&mut self, now: Time) {
        for id in self.open_withdrawals.clone() {
            let Some(withdrawal) = self.withdrawals.get_mut(&id) else { continue };
            while let Some(due) = withdrawal.due().filter(|due| *due <= now) {
                if withdrawal.status == WithdrawalStatus::Pending {
                    withdrawal.status = WithdrawalStatus::Processing;
                    continue;
                }
                withdrawal.status = WithdrawalStatus::Processed;
                self.open_withdrawals.remove(&id);
                if let Some(member) = self.members.get_mut(&withdrawal.member) {
                    let change = (Dollars::ZERO, negated(withdrawal.amount));
                    member.change(change, ChangeReason::WithdrawalProcessed, id, due);
                }
            }
        }
    }

    /// Ends a withdrawal that is not paid out yet: its cash is back.
    pub(crate) fn return_withdrawal(
        &mut self,
        (engine, firms): (&mut Perps, &Firms),
        id: ClearingId,
        status: WithdrawalStatus,
        now: Time,
    ) -> Result<(), Refusal> {
        self.collect(Ledger { engine, firms });
        let withdrawal = self.withdrawals.get_mut(&id).filter(|one| one.status.is_open());
        let withdrawal =
            withdrawal.ok_or_else(|| Refusal::not_found("no such withdrawal is open"))?;
        let Withdrawal { member, amount, .. } = *withdrawal;
        engine.pay_in(member, amount, CashCause::Clearing, now)?;
        withdrawal.status = status;
        self.open_withdrawals.remove(&id);
        let Self { members, last_id, .. } = self;
        if let Some(member) = members.get_mut(&member) {
            member.change((amount, negated(amount)), ChangeReason::WithdrawalReturned, id, now);
            member.pay_dues(now, last_id);
        }
        Ok(())
    }

    /// Checks that the changes of a balance add up to it, and that what is locked is in withdrawals.
    pub(super) fn audit_cash(&self, own: AccountId, member: &Member) -> Result<(), String> {
        let (mut available, mut locked) = member.forgotten;
        for change in &member.changes {
            available = available.saturating_add(change.available);
            locked = locked.saturating_add(change.locked);
        }
        if (available, locked) != (member.available, member.locked) {
            return Err(format!(
                "the changes of {own} add up to {available} and {locked} instead of {} and {}",
                member.available, member.locked
            ));
        }
        let open = self.withdrawals.values();
        let open = open.filter(|one| one.member == own && one.status.is_open());
        let open = open.fold(Dollars::ZERO, |sum, one| sum.saturating_add(one.amount));
        if open != locked {
            return Err(format!("{open} of {own} is in withdrawals, {locked} is locked"));
        }
        Ok(())
    }
}
