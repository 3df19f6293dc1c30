//! The members that an exchange starts with.

/// The id of the key that every exchange starts with, unless it is given keys.
pub const DEFAULT_KEY_ID: &str = "00000000-0000-4000-8000-000000000000";

/// The role of a client. Every role has a key of its own, and its member the same money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// The first member, with the scopes `read` and `write`: 10,000 dollars on each shard.
    Trader,
    /// Another member, for trades between two: as much money, the same scopes.
    Maker,
    /// The first member with a key that may only read.
    Reader,
    /// The first member as a futures commission merchant, for the operations of that family.
    FcmMember,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Trader, Self::Maker, Self::Reader, Self::FcmMember];

    /// Returns the id of the key that an exchange makes for this role, unless it is given keys.
    pub fn key_id(self) -> String {
        let number = Self::ALL.iter().position(|role| *role == self).unwrap_or(0);
        format!("{}{number}", &DEFAULT_KEY_ID[..DEFAULT_KEY_ID.len() - 1])
    }
}
