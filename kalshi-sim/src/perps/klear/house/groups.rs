//! Netting groups: subtraders that are margined together.

use std::collections::BTreeSet;

use super::{ClearingHouse, Member};
use crate::engine::{
    ids::{AccountId, ClearingId},
    types::Refusal,
};

impl ClearingHouse {
    /// Makes a group of subtraders, each of which is in no other one.
    pub(crate) fn create_group(
        &mut self,
        member: AccountId,
        accounts: BTreeSet<AccountId>,
    ) -> Result<ClearingId, Refusal> {
        free(self.member_mut(member)?, None, &accounts)?;
        let id = self.next_id();
        self.member_mut(member)?.groups.insert(id, accounts);
        Ok(id)
    }

    /// Replaces the subtraders of a group.
    pub(crate) fn update_group(
        &mut self,
        member: AccountId,
        id: ClearingId,
        accounts: BTreeSet<AccountId>,
    ) -> Result<(), Refusal> {
        let member = self.member_mut(member)?;
        if !member.groups.contains_key(&id) {
            return Err(Refusal::not_found("there is no such group"));
        }
        free(member, Some(id), &accounts)?;
        member.groups.insert(id, accounts);
        Ok(())
    }

    /// Ends a group. Its subtraders are margined by themselves from the next settlement on.
    pub(crate) fn delete_group(&mut self, member: AccountId, id: ClearingId) -> bool {
        self.members.get_mut(&member).is_some_and(|member| member.groups.remove(&id).is_some())
    }

    fn member_mut(&mut self, account: AccountId) -> Result<&mut Member, Refusal> {
        self.members.get_mut(&account).ok_or_else(|| Refusal::not_found("no such member"))
    }
}

/// Checks that no subtrader is in another group than `own`.
fn free(
    member: &Member,
    own: Option<ClearingId>,
    accounts: &BTreeSet<AccountId>,
) -> Result<(), Refusal> {
    let taken = member
        .groups
        .iter()
        .filter(|(id, _)| Some(**id) != own)
        .any(|(_, others)| !others.is_disjoint(accounts));
    if taken {
        return Err(Refusal::conflict(
            "subtrader_in_another_group",
            "a subtrader is in another group already",
        ));
    }
    Ok(())
}
