use kalshi_auth::{AuthError, server::PublicKey};
use kalshi_types::Dollars;

use crate::{control::ControlError, exchange::Exchange, role::Role, state::limits::Tier};

/// The members of an exchange, their keys and their money: see [`Exchange::members`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct MemberControl<'a> {
    pub(super) exchange: &'a Exchange,
}

impl MemberControl<'_> {
    /// Pays money into the primary subaccount of a role's member, on one shard.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role, or the amount is above a billion
    /// dollars.
    pub fn deposit(
        &self,
        role: Role,
        exchange_index: u8,
        amount: Dollars,
    ) -> Result<(), ControlError> {
        self.exchange.shared.deposit(self.exchange.account(role)?, exchange_index, amount)
    }

    /// Sets the usage level of a role's member, and fills its buckets.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role.
    pub fn set_tier(&self, role: Role, tier: Tier) -> Result<(), ControlError> {
        let account = self.exchange.account(role)?;
        self.exchange.shared.state().limits.set_tier(account, tier);
        Ok(())
    }

    /// Registers a key for the member of a role, with the rights of that role, from the PEM text of
    /// its public half: RSA or Ed25519.
    ///
    /// # Errors
    ///
    /// [`AuthError`]: the text is not a public key that the exchange would take.
    pub fn add_key(&self, role: Role, key_id: &str, public_key_pem: &str) -> Result<(), AuthError> {
        let public_key = PublicKey::from_pem(public_key_pem)?;
        self.exchange.shared.state().add_key(role, key_id.to_owned(), public_key);
        Ok(())
    }
}
