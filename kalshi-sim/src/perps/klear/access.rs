//! Access to the clearing house: administrators with bearer tokens, and the links of reports. Of a
//! token only the digest is kept, and of links the key that they are sealed with.

use std::{collections::BTreeMap, fmt};

use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};

use crate::{
    engine::{ids::AccountId, principal::Principal, types::Time},
    http::response::Response,
    role::Role,
};

/// The time for which the link of a report works, in milliseconds.
const LINK_MILLIS: i64 = 15 * 60_000;
/// The length of a block of SHA-256, in bytes.
const BLOCK: usize = 64;

/// A person who may ask for a member.
#[derive(Clone)]
pub(crate) struct Administrator {
    account: AccountId,
    fcm_member: bool,
    /// May change nothing.
    pub(crate) reads_only: bool,
    digest: [u8; 32],
}

impl Administrator {
    pub(crate) fn principal(&self) -> Principal {
        Principal { account: self.account, bound: None, fcm_member: self.fcm_member }
    }
}

/// The administrators of one start of the exchange; nothing of it is saved.
#[derive(Clone, Default)]
pub(crate) struct Access {
    administrators: BTreeMap<String, Administrator>,
    seal: [u8; 32],
    /// The scheme, host and port of links.
    origin: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("administrators", &self.administrators.keys())
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Adds an administrator, or gives one another token.
    pub(crate) fn add(&mut self, role: Role, account: AccountId, id: String, token: &str) {
        let administrator = Administrator {
            account,
            fcm_member: role == Role::FcmMember,
            reads_only: role == Role::Reader,
            digest: Sha256::digest(token).into(),
        };
        self.administrators.insert(id, administrator);
    }

    /// Sets where links lead, and the secret that they are sealed with.
    pub(crate) fn set_links(&mut self, origin: String, secret: &str) {
        self.origin = origin;
        self.seal = Sha256::digest(secret).into();
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Administrator> {
        self.administrators.get(id)
    }

    /// Returns the id of the administrator whose token a request has.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<String, Response> {
        let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = text.and_then(|text| text.strip_prefix("Bearer "));
        let (id, token) = token.and_then(|text| text.split_once(':')).ok_or_else(refused)?;
        let found = self.administrators.get(id);
        // Digests are compared, so that the time of it says nothing of the token.
        let is_right =
            found.is_some_and(|one| one.digest == <[u8; 32]>::from(Sha256::digest(token)));
        if is_right { Ok(id.to_owned()) } else { Err(refused()) }
    }

    /// Returns a link to a file that works for a while.
    pub(crate) fn link(&self, path: &str, now: Time) -> String {
        let expires = now.as_millis().saturating_add(LINK_MILLIS);
        let seal = self.sealed(path, expires);
        format!("{}{path}?expires={expires}&signature={seal}", self.origin)
    }

    /// Checks the query of a link.
    pub(crate) fn check_link(
        &self,
        path: &str,
        expires: Option<i64>,
        signature: Option<&str>,
        now: Time,
    ) -> Result<(), Response> {
        let is_right = expires.zip(signature).is_some_and(|(expires, signature)| {
            now.as_millis() <= expires
                && Sha256::digest(signature) == Sha256::digest(self.sealed(path, expires))
        });
        if is_right {
            Ok(())
        } else {
            Err(Response::forbidden(
                "the link is wrong, or it has expired: ask for the report again",
            ))
        }
    }

    /// Returns the seal of a link: HMAC with SHA-256.
    fn sealed(&self, path: &str, expires: i64) -> String {
        let padded = |with: u8| {
            let mut block = [with; BLOCK];
            for (byte, key) in block.iter_mut().zip(self.seal) {
                *byte ^= key;
            }
            block
        };
        let message = format!("{path}\n{expires}");
        let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
        let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
        let half = |bytes: Option<&[u8; 16]>| bytes.map_or(0, |bytes| u128::from_be_bytes(*bytes));
        format!("{:032x}{:032x}", half(outer.first_chunk()), half(outer.last_chunk()))
    }
}

fn refused() -> Response {
    Response::unauthorized("the bearer token is missing or wrong")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let mut access = Access::default();
        access.add(Role::Trader, AccountId(1), "admin".to_owned(), "token-of-a-test");
        access.set_links("http://127.0.0.1:1".to_owned(), "seal-of-a-test");
        access
    }

    #[test]
    fn only_the_token_of_the_administrator_is_let_in() {
        let access = access();
        let ask = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            access.authenticate(&headers)
        };
        assert_eq!(ask("Bearer admin:token-of-a-test").unwrap(), "admin");
        for wrong in [
            "Bearer admin:token-of-a-tesT",
            "Bearer admin:",
            "Bearer admin",
            "Bearer other:token-of-a-test",
            "bearer admin:token-of-a-test",
            "admin:token-of-a-test",
            "",
        ] {
            assert_eq!(ask(wrong).unwrap_err().status, 401, "{wrong}");
        }
        assert_eq!(access.authenticate(&HeaderMap::new()).unwrap_err().status, 401);
        assert_eq!(format!("{access:?}"), r#"Access { administrators: ["admin"], .. }"#);
    }

    #[test]
    fn a_link_works_for_its_file_until_it_expires() {
        let (access, now) = (access(), Time::from_millis(1_790_000_000_000));
        let link = access.link("/a", now);
        let (_, query) = link.split_once('?').unwrap();
        let (expires, signature) = query.split_once('&').unwrap();
        let expires: i64 = expires.strip_prefix("expires=").unwrap().parse().unwrap();
        let signature = signature.strip_prefix("signature=").unwrap();
        let at = |millis: i64| Time::from_millis(now.as_millis() + millis);
        let check = |path, expires, signature, at| access.check_link(path, expires, signature, at);
        assert!(check("/a", Some(expires), Some(signature), at(LINK_MILLIS)).is_ok());
        assert!(check("/a", Some(expires), Some(signature), at(LINK_MILLIS + 1)).is_err());
        assert!(check("/b", Some(expires), Some(signature), now).is_err());
        assert!(check("/a", Some(expires + 1), Some(signature), now).is_err());
        assert!(check("/a", Some(expires), None, now).is_err());
    }

    /// A case of RFC 4231 cannot be taken, for keys are digests here: this is what Python's `hmac` says
    /// of the same.
    #[test]
    fn the_seal_is_an_hmac() {
        assert_eq!(
            access().sealed("/a", 5),
            "07bfff517b6bf2b948265260a9878005608b641520b7a62ccace9c1bf165bae1"
        );
    }
}
