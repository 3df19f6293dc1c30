//! The state of perpetual futures beside that of event contracts: the engine, the buckets of its
//! requests, and the subtraders of clearing members.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    engine::{ids::AccountId, types::Time},
    perps::{
        engine::Perps,
        fixtures,
        klear::{
            access::Access,
            house::{ClearingHouse, Firms, Ledger},
        },
    },
    random::Random,
    state::limits::Limits,
};

/// More than a firm would have; a limit, so that memory has one.
const MAX_SUBTRADERS: usize = 10_000;
/// The account of the first subtrader; the next ones are below. Those of members begin at 1.
const FIRST_SUBTRADER: u32 = u32::MAX - 2;

/// Everything that perpetual futures add to an exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PerpsState {
    pub(crate) engine: Perps,
    pub(crate) limits: Limits,
    pub(crate) firms: Firms,
    pub(crate) house: ClearingHouse,
    /// The access to the clearing house; made anew at each start.
    #[serde(skip)]
    pub(crate) access: Access,
    subtraders: u32,
    random: Random,
}

impl PerpsState {
    pub(crate) fn new(seed: u64, start: Time, members: &[AccountId]) -> Self {
        Self {
            engine: fixtures::exchange(seed, start, members),
            limits: Limits::default(),
            firms: BTreeMap::new(),
            house: ClearingHouse::new(start, members),
            access: Access::default(),
            subtraders: 0,
            random: Random::new(seed),
        }
    }

    /// Lets time pass for the engine and the clearing house, each step of which finds the engine at
    /// its own time.
    pub(crate) fn advance(&mut self, now: Time) {
        while let Some(step) = self.house.next_step().filter(|step| *step <= now) {
            self.engine.advance(step);
            self.house.step(Ledger { engine: &self.engine, firms: &self.firms }, step);
        }
        self.engine.advance(now);
    }

    /// Checks that the ledger adds up, and that the clearing house agrees with it.
    ///
    /// # Errors
    ///
    /// A description of the first sum that does not add up.
    pub(crate) fn audit(&self) -> Result<(), String> {
        self.engine.audit()?;
        self.house.audit(Ledger { engine: &self.engine, firms: &self.firms })
    }

    /// Lets the market makers send commands. Returns how many were carried out.
    pub(crate) fn run_traders(&mut self, commands: u64, now: Time) -> u64 {
        let mut done = 0;
        for _ in 0..commands {
            done += u64::from(fixtures::make_market(&mut self.engine, &mut self.random, now));
        }
        done
    }

    /// Opens the account of a subtrader; `None` if there are too many.
    pub(crate) fn open_subtrader(&mut self, firm: AccountId, id: String) -> Option<AccountId> {
        let subtraders = self.firms.entry(firm).or_default();
        if subtraders.len() >= MAX_SUBTRADERS {
            return None;
        }
        let account = AccountId(FIRST_SUBTRADER.checked_sub(self.subtraders)?);
        self.subtraders += 1;
        subtraders.insert(id, account);
        self.engine.open_account(account);
        Some(account)
    }
}
