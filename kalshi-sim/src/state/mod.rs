//! The exchange's state: a pure machine. A request and the time go in, an answer comes out; no
//! sockets, no clock.

pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod snapshot;
pub(crate) mod transfers;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use kalshi_auth::server::PublicKey;
use kalshi_sdk::OperationId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    keys::{Key, Keys},
    limits::{Limits, Tier},
    transfers::{NewTransfer, Transfers},
};
use crate::{
    engine::{
        Engine, Market,
        fees::Fees,
        history::View,
        ids::{AccountId, TransferId},
        types::{Refusal, Subaccount, Time},
    },
    fixtures::{Fixtures, MarketAccess, Plan, catalog::Catalog, seeding, traders::Traders},
    http::query::Query,
    lag::Lag,
    random::Random,
    role::Role,
    rules::Rules,
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
    /// The delay of reads.
    lag: Lag,
    rules: Rules,
    agenda: Agenda,
    #[cfg(feature = "perps")]
    pub(crate) perps: crate::perps::state::PerpsState,
}

/// The exchange's scheduled actions beyond the engine's own timers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Agenda {
    /// By the time, in the order in which they were scheduled.
    tasks: BTreeMap<(Time, u64), Task>,
    last_task: u64,
    /// Every change of an event's fees, also those that are past.
    fee_changes: Vec<(Time, FeeChange)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Task {
    /// Carries a cancel-all out once more; `None` stands for all subaccounts.
    CancelAll(AccountId, Option<Subaccount>),
    EventFee(FeeChange),
}

/// The fees that an event gets; `None` if its override is taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FeeChange {
    event_ticker: String,
    fees: Option<Fees>,
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
            lag: Lag::none(),
            rules: Rules::default(),
            agenda: Agenda::default(),
            #[cfg(feature = "perps")]
            perps: crate::perps::state::PerpsState::new(
                seed,
                start.into(),
                &[first_account, second_account],
            ),
        }
    }

    /// Returns the members that keys can be registered for.
    #[cfg(feature = "ui")]
    pub(crate) fn members(&self) -> [AccountId; 2] {
        [self.first_account, self.second_account]
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
        loop {
            let next = self.agenda.tasks.first_entry();
            let Some(entry) = next.filter(|one| one.key().0 <= now) else { break };
            let ((at, _), task) = entry.remove_entry();
            self.advance_engines(at);
            self.carry_out(task, at);
        }
        self.advance_engines(now);
        if let Some(readable) = self.readable() {
            self.engine.forget_history(readable);
            #[cfg(feature = "perps")]
            self.perps.engine.forget_history(readable);
        }
    }

    /// Lets time pass for the engines and the transfers between them.
    fn advance_engines(&mut self, now: Time) {
        #[cfg(feature = "perps")]
        while let Some(step) = self.transfers.next_step().filter(|step| *step <= now) {
            self.transfers.advance(&mut self.engine, step);
            self.perps.advance(step);
            self.collect_margined(step);
        }
        self.transfers.advance(&mut self.engine, now);
        #[cfg(feature = "perps")]
        self.perps.advance(now);
    }

    /// Pays cash into perpetual futures that has come there.
    #[cfg(feature = "perps")]
    fn collect_margined(&mut self, now: Time) {
        for (account, amount) in self.transfers.take_arrived() {
            self.perps.engine.open_account(account);
            if self.perps.engine.deposit(account, amount, now).is_err() {
                // More than an account may hold: it stays where it was.
                self.transfers.put_margined(account, 0, amount);
                return;
            }
        }
    }

    /// Accepts a transfer between shards or products: its steps follow. Cash that leaves perpetual
    /// futures is taken from there at once.
    pub(crate) fn accept_transfer(
        &mut self,
        new: NewTransfer,
        now: Time,
    ) -> Result<TransferId, Refusal> {
        #[cfg(feature = "perps")]
        if new.from.instance == transfers::Instance::Margined {
            let (account, shard, amount) = (new.account, new.from.shard, new.amount);
            // Refused below if there is too little.
            if self.perps.engine.withdraw(account, amount, now).is_ok() {
                self.transfers.put_margined(account, shard, amount);
            }
        }
        let accepted = self.transfers.accept(&mut self.engine, new, now);
        #[cfg(feature = "perps")]
        self.collect_margined(now);
        accepted
    }

    /// Takes the tokens of several reads from an account, or none of them if there are too few.
    pub(crate) fn admit_reads(&mut self, account: AccountId, reads: usize, now: Time) -> bool {
        let operation = OperationId::GetMarkets.operation();
        let mut limits = self.limits.clone();
        let query = Query::default();
        let mut read = || limits.admit(account, operation, &query, &Value::Null, now);
        let is_admitted = (0..reads).all(|_| read());
        if is_admitted {
            self.limits = limits;
        }
        is_admitted
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.engine.reuse_client_order_ids = rules.reuse_client_order_ids;
    }

    /// Notes that a cancel-all was carried out: by the rules, it may take later orders, too.
    pub(crate) fn canceled_all(&mut self, account: AccountId, subaccount: Option<Subaccount>) {
        let Some(after) = self.rules.cancel_all_again_after_millis() else { return };
        let at = Time::from_millis(self.engine.now().as_millis().saturating_add(after));
        self.schedule(at, Task::CancelAll(account, subaccount));
    }

    /// Announces a change of an event's fees, and makes it at its time. An event that has no
    /// override any more has the fees with which its markets were listed.
    pub(crate) fn schedule_event_fee(
        &mut self,
        event_ticker: &str,
        fees: Option<Fees>,
        at: Time,
    ) -> Result<(), Refusal> {
        let change = FeeChange { event_ticker: event_ticker.to_owned(), fees };
        self.announce(&change, at)?;
        self.agenda.fee_changes.push((at, change.clone()));
        self.schedule(at, Task::EventFee(change));
        Ok(())
    }

    /// Adds a change of an event's fees to the list of them.
    fn announce(&mut self, change: &FeeChange, at: Time) -> Result<(), Refusal> {
        let FeeChange { event_ticker, fees } = change;
        let of_event = |market: &&Market| market.event_ticker == *event_ticker;
        let market = self.engine.markets().iter().find(of_event);
        let market = market.ok_or_else(|| Refusal::not_found("event not found"))?;
        let date = at.to_datetime().ok_or_else(|| Refusal::parameters("the time is too late"))?;
        self.fixtures.fees.add_event((&market.series_ticker, event_ticker), *fees, date);
        Ok(())
    }

    fn schedule(&mut self, at: Time, task: Task) {
        self.agenda.last_task += 1;
        self.agenda.tasks.insert((at, self.agenda.last_task), task);
    }

    fn carry_out(&mut self, task: Task, at: Time) {
        match task {
            Task::CancelAll(account, subaccount) => {
                // An account that is gone has no orders.
                let _ = self.engine.cancel_all(account, subaccount, at);
            }
            Task::EventFee(FeeChange { event_ticker, fees }) => {
                let listings = &self.catalog.listings;
                let listed = |market: &Market| {
                    let mut rows = listings.iter().map(|listing| &listing.market);
                    let row = rows.find(|row| row.ticker == market.ticker);
                    fees.or(row.map(|row| row.fees)).unwrap_or(market.fees)
                };
                // An event does not go away.
                let _ = self.engine.set_event_fees(&event_ticker, fees, listed, at);
                self.catalog.set_event_fee(&event_ticker, fees);
            }
        }
    }

    pub(crate) fn agenda(&self) -> &Agenda {
        &self.agenda
    }

    /// Goes on with what was scheduled before the state was saved. Everything else is loaded by
    /// then.
    pub(crate) fn resume(&mut self, agenda: Agenda) {
        for (at, change) in &agenda.fee_changes {
            // It was accepted once.
            let _ = self.announce(change, *at);
            if *at <= self.engine.now() {
                self.catalog.set_event_fee(&change.event_ticker, change.fees);
            }
        }
        self.agenda = agenda;
    }

    /// Sets how far reads trail. What has been readable stays so.
    pub(crate) fn set_lag(&mut self, lag: Lag) {
        let before = self.readable().unwrap_or(self.engine.now());
        self.lag = lag;
        if self.readable().is_some() {
            self.engine.start_history(before);
            #[cfg(feature = "perps")]
            self.perps.engine.start_history(before);
        } else {
            self.engine.stop_history();
            #[cfg(feature = "perps")]
            self.perps.engine.stop_history();
        }
    }

    /// Returns the time up to which everything is readable in every product; `None` stands for the
    /// present.
    pub(crate) fn as_of(&self) -> Option<Time> {
        let as_of = self.view().as_of();
        #[cfg(feature = "perps")]
        let as_of = as_of.into_iter().chain(self.perps_view().as_of()).min();
        as_of
    }

    /// Returns the state of perpetual futures as members read it now.
    #[cfg(feature = "perps")]
    pub(crate) fn perps_view(&self) -> crate::perps::engine::history::View<'_> {
        self.perps.engine.view(self.readable())
    }

    /// Returns the state as members read it now.
    pub(crate) fn view(&self) -> View<'_> {
        self.engine.view(self.readable())
    }

    /// Returns the time up to which reads are complete; `None` if they do not trail.
    fn readable(&self) -> Option<Time> {
        self.lag.readable(self.engine.now().as_millis()).map(Time::from_millis)
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
