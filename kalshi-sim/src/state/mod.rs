//! The exchange's state: a pure machine. A request and the time go in, an answer comes out; no
//! sockets, no clock.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use kalshi_auth::server::PublicKey;
use kalshi_sdk::{Operation, server::dispatch};
use kalshi_types::Count;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    catalogue::Catalogue,
    engine::{
        Engine,
        ids::AccountId,
        types::{Subaccount, Time},
    },
    exchange::Role,
    families::{Account, Desk, Families, World},
    gate,
    keys::{Key, Keys},
    limits::{Limits, Tier},
    query::Query,
    random::Random,
    reply::{Outcome, Reply},
    seeding,
    traders::Traders,
    treasury::Treasury,
};

/// One request, as far as the machine is concerned.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static Operation,
    /// Who signed it; `None` for an unsigned request to a public operation.
    pub(crate) caller: Option<Caller>,
    /// Path parameters, decoded, in the order of the path.
    pub(crate) path: &'a [String],
    pub(crate) query: &'a Query,
    pub(crate) body: &'a Value,
    pub(crate) now: DateTime<Utc>,
    /// The pair for a key that is to be generated: it was made outside, for it takes long.
    pub(crate) pair: Option<&'a kalshi_auth::server::KeyPair>,
}

/// The member behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) account: AccountId,
    /// The one subaccount that the key may use.
    pub(crate) bound: Option<Subaccount>,
    pub(crate) fcm_member: bool,
}

impl Caller {
    /// Whether something of a member's subaccount is the caller's to see.
    pub(crate) fn owns(self, account: AccountId, subaccount: Subaccount) -> bool {
        account == self.account && self.bound.is_none_or(|bound| bound == subaccount)
    }
}

impl Call<'_> {
    /// The caller of a private operation.
    pub(crate) fn caller(&self) -> Result<Caller, Reply> {
        self.caller.ok_or_else(Reply::signature_missing)
    }

    /// The first parameter of the path.
    pub(crate) fn first(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// The time for the engine.
    pub(crate) fn time(&self) -> Time {
        Time::from(self.now)
    }
}

/// Everything that the exchange knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) keys: Keys,
    pub(crate) engine: Engine,
    pub(crate) catalogue: Catalogue,
    pub(crate) families: Families,
    pub(crate) treasury: Treasury,
    pub(crate) limits: Limits,
    /// What it was made from.
    pub(crate) start: Start,
    pub(crate) traders: Traders,
    /// The account of the first key.
    pub(crate) first_account: AccountId,
    /// Another member, for trades between two.
    pub(crate) second_account: AccountId,
}

/// How an exchange starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) seed: u64,
    pub(crate) at: DateTime<Utc>,
    /// Markets of each event.
    pub(crate) strikes: u32,
    pub(crate) traders: usize,
    pub(crate) tier: Tier,
}

impl Start {
    #[cfg(test)]
    pub(crate) fn new(seed: u64, at: DateTime<Utc>) -> Self {
        let strikes = crate::catalogue::STRIKES;
        Self { seed, at, strikes, traders: 0, tier: Tier::default() }
    }
}

impl State {
    pub(crate) fn new(from: Start) -> Self {
        let Start { seed, at: start, strikes, traders, tier } = from;
        let mut catalogue = Catalogue::with_strikes(seed, start, strikes);
        let (mut engine, first_account) = seeding::engine(&catalogue, seed, start);
        let second_account = seeding::member(&mut engine, start.into());
        let traders = Traders::new(&mut engine, traders, seed, start.into());
        let first = first_account.to_string();
        let Catalogue { series, events, listings } = &mut catalogue;
        let desk = Desk { engine: &mut engine, listings };
        let families = Families::new(seed, start, &first, series, events, &desk);
        let keys = Keys::new(Random::new(seed));
        let treasury = Treasury::default();
        let limits = Limits::new(tier);
        Self {
            keys,
            engine,
            catalogue,
            families,
            treasury,
            limits,
            start: from,
            traders,
            first_account,
            second_account,
        }
    }

    /// Registers a key for the member of a role.
    pub(crate) fn add_key(&mut self, role: Role, id: String, public_key: PublicKey) {
        let account = if role == Role::Maker { self.second_account } else { self.first_account };
        let name = format!("{role:?}").to_lowercase();
        let scopes = match role {
            Role::Reader => vec!["read".to_owned()],
            _ => vec!["read".to_owned(), "write".to_owned()],
        };
        self.keys.insert(
            id,
            Key {
                name,
                scopes,
                account,
                subaccount: None,
                fcm_member: role == Role::FcmMember,
                verifier: Arc::new(public_key),
            },
        );
    }

    /// Lets time pass for everything that happens by itself.
    pub(crate) fn advance(&mut self, now: Time) {
        self.treasury.advance(&mut self.engine, now);
    }

    /// Lets the simulated traders send so many commands; gives how many were carried out.
    pub(crate) fn churn(&mut self, commands: u64, now: Time) -> u64 {
        let mut done = 0;
        for _ in 0..commands {
            let Some(command) = self.traders.next(&self.engine) else { continue };
            done += u64::from(self.engine.apply(&command, now).is_ok());
        }
        done
    }

    /// Carries out a request whose signature by `key_id` has been checked.
    pub(crate) fn handle(&mut self, call: &mut Call<'_>, key_id: Option<&str>) -> Reply {
        self.outcome(call, key_id).unwrap_or_else(|refusal| refusal)
    }

    fn outcome(&mut self, call: &mut Call<'_>, key_id: Option<&str>) -> Outcome {
        if let Some(id) = key_id {
            // The key may have been deleted since its signature was checked.
            let key = self.keys.get(id).ok_or_else(|| Reply::unauthorized("NOT_FOUND"))?;
            gate::permit(key, call.operation)?;
            let caller = key.caller();
            call.caller = Some(caller);
            let (now, account) = (call.time(), caller.account);
            if !self.limits.admit(account, call.operation, call.query, call.body, now) {
                return Err(Reply::too_many_requests());
            }
        }
        self.advance(call.time());
        match call.operation.typed_id() {
            Some(id) => dispatch(id, self, &*call),
            None => Err(Reply::not_implemented(call.operation.id)),
        }
    }

    /// Answers an operation that the engine has no part in.
    pub(crate) fn made_up(&mut self, call: &Call<'_>) -> Outcome {
        let caller = call.caller;
        let id = caller.map(|caller| caller.account.to_string()).unwrap_or_default();
        let held = caller.and_then(|caller| self.engine.ledger.account(caller.account));
        let account = Account {
            id: &id,
            fcm_member: caller.is_some_and(|caller| caller.fcm_member),
            bound_to: caller.and_then(|caller| caller.bound).map(i64::from),
            recent_api_orders: held.map_or(0, |held| held.orders.len().min(100)),
            volume: held.map_or(Count::ZERO, |held| held.volume_since(month_before(call.time()))),
        };
        let Catalogue { series, events, listings } = &mut self.catalogue;
        let mut desk = Desk { engine: &mut self.engine, listings };
        let world = World { series, events, markets: &mut desk, limits: &mut self.limits };
        let answered = self.families.handle(world, &account, call);
        answered.unwrap_or_else(|| Err(Reply::not_implemented(call.operation.id)))
    }
}

fn month_before(now: Time) -> Time {
    Time::from_millis(now.as_millis() - 30 * 24 * 3_600_000)
}
