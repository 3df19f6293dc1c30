//! The member behind a request, and how far its key reaches.

use crate::engine::{ids::AccountId, types::Subaccount};

/// The member that a request acts for, as far as the key that signed it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) account: AccountId,
    /// The one subaccount that the key may use; `None` allows all of them.
    pub(crate) bound: Option<Subaccount>,
    pub(crate) fcm_member: bool,
}

impl Principal {
    /// Returns a member whose key is not bound to a subaccount.
    #[cfg(test)]
    pub(crate) fn member(account: AccountId) -> Self {
        Self { account, bound: None, fcm_member: false }
    }

    /// Reports whether something of a member's subaccount belongs to this principal.
    pub(crate) fn owns(self, account: AccountId, subaccount: Subaccount) -> bool {
        account == self.account && self.bound.is_none_or(|bound| bound == subaccount)
    }
}
