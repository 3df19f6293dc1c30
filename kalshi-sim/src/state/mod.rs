//! The exchange's state: a pure machine. A request and the time go in, an answer comes out; no
//! sockets, no clock.

pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod snapshot;
pub(crate) mod transfers;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use kalshi_auth::server::PublicKey;
use serde::{Deserialize, Serialize};

use self::{
    keys::{Key, Keys},
    limits::{Limits, Tier},
    transfers::Transfers,
};
use crate::{
    engine::{Engine, ids::AccountId, types::Time},
    fixtures::{Fixtures, MarketAccess, Plan, catalog::Catalog, seeding, traders::Traders},
    random::Random,
    role::Role,
};

/// The whole state of an exchange.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) keys: Keys,
    pub(crate) engine: Engine,
    pub(crate) catalog: Catalog,
    pub(crate) fixtures: Fixtures,
    pub(crate) transfers: Transfers,
    pub(crate) limits: Limits,
    /// The settings that it was made from.
    pub(crate) start: Start,
    pub(crate) traders: Traders,
    /// The account of the first key.
    pub(crate) first_account: AccountId,
    /// Another member, for trades between two.
    pub(crate) second_account: AccountId,
}

/// The settings of a new exchange.
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
        let strikes = crate::fixtures::catalog::STRIKES;
        Self { seed, at, strikes, traders: 0, tier: Tier::default() }
    }
}

impl State {
    pub(crate) fn new(from: Start) -> Self {
        let Start { seed, at: start, strikes, traders, tier } = from;
        let mut catalog = Catalog::with_strikes(seed, start, strikes);
        let mut plan = Plan::new(seed, start, &mut catalog);
        let (mut engine, seeded) = seeding::engine(&catalog, &mut plan, seed, start);
        let first_account = seeded.first;
        let second_account = seeding::member(&mut engine, start.into());
        let ladders = seeding::ladder_ids(&catalog, &engine);
        let traders = Traders::new(&mut engine, traders, seed, &ladders, start.into());
        let Catalog { events, listings, .. } = &mut catalog;
        let markets = MarketAccess::new(&mut engine, listings);
        let fixtures = Fixtures::new(plan, seeded, seed, start, events, &markets);
        let keys = Keys::new(Random::new(seed));
        let transfers = Transfers::default();
        let limits = Limits::new(tier);
        Self {
            keys,
            engine,
            catalog,
            fixtures,
            transfers,
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
                subtrader: None,
                verifier: Arc::new(public_key),
            },
        );
    }

    /// Lets time pass for everything that happens by itself.
    pub(crate) fn advance(&mut self, now: Time) {
        self.transfers.advance(&mut self.engine, now);
    }

    /// Lets the simulated traders send `commands` commands. Returns how many were carried out.
    pub(crate) fn run_traders(&mut self, commands: u64, now: Time) -> u64 {
        let mut done = 0;
        for _ in 0..commands {
            let Some(command) = self.traders.next(&self.engine) else { continue };
            done += u64::from(self.engine.apply(&command, now).is_ok());
        }
        done
    }
}
