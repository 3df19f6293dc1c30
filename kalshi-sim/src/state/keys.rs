//! The api-keys family: list, create, generate, delete.

use std::{collections::BTreeMap, sync::Arc};

use kalshi_auth::{
    KeyType,
    server::{KeyPair, PublicKey},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    engine::{ids::AccountId, principal::Principal, types::Subaccount},
    http::response::{HandlerResult, Response},
    random::Random,
};

/// More keys than an account would have; a limit, so that memory has one.
const MAX_KEYS: usize = 1_000;

/// One API key of the account.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) account: AccountId,
    /// The one subaccount that it may use.
    pub(crate) subaccount: Option<Subaccount>,
    pub(crate) fcm_member: bool,
    /// The one customer of the futures commission merchant that it acts for.
    pub(crate) subtrader: Option<String>,
    pub(crate) verifier: Arc<PublicKey>,
}

impl Key {
    pub(crate) fn principal(&self) -> Principal {
        Principal { account: self.account, bound: self.subaccount, fcm_member: self.fcm_member }
    }

    /// Reports whether the key acts as a subtrader of perpetual futures, whose account is its own. A
    /// key for a subtrader of event contracts is one of the firm's.
    pub(crate) fn is_of_perps_subtrader(&self) -> bool {
        self.subtrader.is_some() && !self.fcm_member
    }
}

/// The API keys of all accounts, by id.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    keys: BTreeMap<String, Key>,
    random: Random,
}

/// The body of `create` and `generate`. Unknown fields are refused: a wrong name would be a key
/// with more rights than meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    name: String,
    #[serde(default)]
    public_key: Option<String>,
    #[serde(default)]
    key_type: Option<String>,
    #[serde(default)]
    scopes: Option<Vec<String>>,
    #[serde(default)]
    subaccount: Option<i64>,
    #[serde(default)]
    pub(crate) fcm_subtrader_id: Option<String>,
}

impl Keys {
    pub(crate) fn new(random: Random) -> Self {
        Self { keys: BTreeMap::new(), random }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Key)> {
        self.keys.iter()
    }

    /// Returns the source of the next id.
    pub(crate) fn random(&self) -> Random {
        self.random.clone()
    }

    /// Adds a key under an id, replacing one that has it.
    pub(crate) fn insert(&mut self, id: String, key: Key) {
        self.keys.insert(id, key);
    }

    /// Lists the keys of an account; of one subtrader, if it is named.
    pub(crate) fn list(&self, account: AccountId, subtrader: Option<&str>) -> Response {
        let keys: Vec<Value> = self
            .keys
            .iter()
            .filter(|(_, key)| key.account == account)
            .filter(|(_, key)| subtrader.is_none() || key.subtrader.as_deref() == subtrader)
            .map(|(id, key)| {
                json!({
                    "api_key_id": id,
                    "name": key.name,
                    "scopes": key.scopes,
                    "subaccount": key.subaccount,
                    "fcm_subtrader_id": key.subtrader,
                })
            })
            .collect();
        Response::ok(json!({"api_keys": keys}))
    }

    pub(crate) fn create(&mut self, account: AccountId, body: &Value) -> HandlerResult {
        let new = read(body)?;
        let Some(pem) = &new.public_key else {
            return Err(Response::bad_request("public_key is missing"));
        };
        let public_key =
            PublicKey::from_pem(pem).map_err(|error| Response::bad_request(&error.to_string()))?;
        let id = self.add(account, new, public_key)?;
        Ok(Response::created(json!({"api_key_id": id})))
    }

    /// Makes the pair for [`generate`](Self::generate). Takes up to seconds, so no lock should be
    /// held.
    pub(crate) fn make_pair(body: &Value) -> Result<KeyPair, Response> {
        let key_type = match read(body)?.key_type.as_deref() {
            None | Some("rsa") => KeyType::Rsa,
            Some("ed25519") => KeyType::Ed25519,
            Some(_) => return Err(Response::bad_request("key_type must be rsa or ed25519")),
        };
        KeyPair::generate(key_type).map_err(|error| Response::bad_request(&error.to_string()))
    }

    pub(crate) fn generate(
        &mut self,
        account: AccountId,
        body: &Value,
        pair: &KeyPair,
    ) -> HandlerResult {
        let key_type = match pair.key_type() {
            KeyType::Ed25519 => "ed25519",
            _ => "rsa",
        };
        let id = self.add(account, read(body)?, pair.public_key().clone())?;
        Ok(Response::created(json!({
            "api_key_id": id,
            "key_type": key_type,
            "private_key": pair.private_key_pem(),
        })))
    }

    pub(crate) fn delete(&mut self, account: AccountId, id: &str) -> HandlerResult {
        if self.keys.get(id).is_none_or(|key| key.account != account) {
            return Err(Response::not_found());
        }
        self.keys.remove(id);
        Ok(Response::no_content())
    }

    fn add(
        &mut self,
        account: AccountId,
        new: NewKey,
        public_key: PublicKey,
    ) -> Result<String, Response> {
        if new.fcm_subtrader_id.is_some() && new.subaccount.is_some() {
            return Err(Response::bad_request("a key has a subaccount or a subtrader, not both"));
        }
        let subaccount = match new.subaccount.map(Subaccount::try_from) {
            None => None,
            Some(Ok(number)) if number <= 63 => Some(number),
            Some(_) => return Err(Response::bad_request("subaccount must be 0 to 63")),
        };
        let scopes = match new.scopes {
            None => vec!["read".to_owned(), "write".to_owned()],
            Some(scopes) => checked(scopes)?,
        };
        self.add_key(Key {
            name: new.name,
            scopes,
            account,
            subaccount,
            fcm_member: new.fcm_subtrader_id.is_some(),
            subtrader: new.fcm_subtrader_id,
            verifier: Arc::new(public_key),
        })
    }

    /// Adds a key under a new id, which is returned.
    pub(crate) fn add_key(&mut self, key: Key) -> Result<String, Response> {
        if key.name.is_empty() || key.name.len() > 256 {
            return Err(Response::bad_request("name must have 1 to 256 bytes"));
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(Response::bad_request("the account has too many keys"));
        }
        let id = self.random.id();
        self.keys.insert(id.clone(), key);
        Ok(id)
    }
}

pub(crate) fn read(body: &Value) -> Result<NewKey, Response> {
    NewKey::deserialize(body).map_err(|error| Response::bad_request(&error.to_string()))
}

/// Checks that `write` is given only together with `read`; narrower scopes stand alone.
fn checked(scopes: Vec<String>) -> Result<Vec<String>, Response> {
    let known = kalshi_sdk::types::ApiKeyScope::KNOWN;
    if scopes.is_empty() {
        return Err(Response::bad_request("scopes must not be empty"));
    }
    if let Some(unknown) = scopes.iter().find(|scope| !known.contains(&scope.as_str())) {
        return Err(Response::bad_request(&format!("there is no scope {unknown:?}")));
    }
    let has = |name: &str| scopes.iter().any(|scope| scope == name);
    if has("write") && !has("read") {
        return Err(Response::bad_request("the scope write needs the scope read"));
    }
    Ok(scopes)
}
