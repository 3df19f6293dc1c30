//! The actions of the exchange itself, which members cannot take: time, results, pauses, money, faults. The
//! same for the Rust handle and for the admin API.

use std::{fmt, time::Duration};

use kalshi_types::Dollars;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    engine::{
        Engine,
        fees::{FeeType, Fees},
        ids::{AccountId, MarketId},
        types::{MarketResult, NewMarket, Refusal, Shard, Time},
    },
    faults::Fault,
    fixtures::catalog::{Listing, SETTLEMENT_TIMER_SECONDS, about},
    lag::Lag,
    rules::Rules,
    shared::Shared,
    state::State,
};

/// More faults than a test has; a limit, so that memory has one.
const MAX_FAULTS: usize = 10_000;

/// The reason for which a command of the exchange was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlError {
    pub(crate) refusal: Refusal,
}

impl ControlError {
    /// Returns a code for programs, for instance `market_finalized`.
    pub fn code(&self) -> &str {
        self.refusal.code
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal.message)
    }
}

impl std::error::Error for ControlError {}

impl From<Refusal> for ControlError {
    fn from(refusal: Refusal) -> Self {
        Self { refusal }
    }
}

/// The result of a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MarketOutcome {
    /// YES contracts pay a dollar.
    Yes,
    /// NO contracts pay a dollar.
    No,
    /// A YES contract pays this much, 0 to 1 dollar, a NO contract the rest.
    Scalar(Dollars),
}

/// A market to list, in an event of its own or one that there is.
///
/// # Examples
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kalshi_sim::{Exchange, MarketPlan};
///
/// let exchange = Exchange::start().await?;
/// exchange.markets().list(MarketPlan::new("KXTEST-26-A", 86_400))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MarketPlan {
    /// The ticker; capital letters, digits and hyphens.
    pub ticker: String,
    /// The event; the ticker's part before the last hyphen unless given.
    #[serde(default)]
    pub event_ticker: Option<String>,
    /// The series; the event's part before the first hyphen unless given.
    #[serde(default)]
    pub series_ticker: Option<String>,
    /// The shard, 0 unless given.
    #[serde(default)]
    pub exchange_index: Shard,
    /// Seconds from now to the close.
    pub closes_in_seconds: i64,
    /// Seconds from the determination to the payment; 1,800 unless given.
    #[serde(default)]
    pub settlement_timer_seconds: Option<u32>,
}

impl MarketPlan {
    /// Returns a market with whole cents as ticks that closes after `closes_in_seconds`.
    pub fn new(ticker: impl Into<String>, closes_in_seconds: i64) -> Self {
        Self {
            ticker: ticker.into(),
            event_ticker: None,
            series_ticker: None,
            exchange_index: 0,
            closes_in_seconds,
            settlement_timer_seconds: None,
        }
    }
}

/// The formula of trading fees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FeeFormula {
    /// Takers pay, makers do not.
    Quadratic,
    /// Makers pay a quarter of what takers pay.
    QuadraticWithMakerFees,
    /// Makers pay half of what takers pay.
    QuadraticWithComboMakerFees,
    /// Not documented; nothing is charged.
    Flat,
}

/// The trading fees of an event, in place of those of its series.
///
/// ```
/// use kalshi_sim::{EventFee, FeeFormula};
///
/// let half = EventFee::new(FeeFormula::Quadratic, 500_000);
/// assert_eq!(half.multiplier_millionths, 500_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventFee {
    /// The formula.
    pub formula: FeeFormula,
    /// The multiplier of the formula, in millionths.
    pub multiplier_millionths: u32,
}

impl EventFee {
    /// Returns fees by a formula with a multiplier in millionths.
    pub fn new(formula: FeeFormula, multiplier_millionths: u32) -> Self {
        Self { formula, multiplier_millionths }
    }
}

impl From<EventFee> for Fees {
    fn from(fee: EventFee) -> Self {
        let kind = match fee.formula {
            FeeFormula::Quadratic => FeeType::Quadratic,
            FeeFormula::QuadraticWithMakerFees => FeeType::QuadraticWithMakerFees,
            FeeFormula::QuadraticWithComboMakerFees => FeeType::QuadraticWithComboMakerFees,
            FeeFormula::Flat => FeeType::Flat,
        };
        Self { kind, millionths: fee.multiplier_millionths }
    }
}

impl Shared {
    /// Carries out a command of the exchange, and notifies the streams.
    pub(crate) fn command<T>(
        &self,
        command: impl FnOnce(&mut State, Time) -> Result<T, Refusal>,
    ) -> Result<T, ControlError> {
        let now = self.now();
        let mut state = self.state();
        self.advance_to(&mut state, now);
        let done = command(&mut state, Time::from(now));
        self.streams.publish(&mut state);
        Ok(done?)
    }

    fn on_market<T>(
        &self,
        ticker: &str,
        command: impl FnOnce(&mut Engine, MarketId, Time) -> Result<T, Refusal>,
    ) -> Result<T, ControlError> {
        self.command(|state, now| {
            let found = state.engine.market_by_ticker(ticker).map(|market| market.id);
            let market = found.ok_or_else(|| Refusal::not_found("market not found"))?;
            command(&mut state.engine, market, now)
        })
    }

    pub(crate) fn advance(&self, by: Duration) -> Result<(), ControlError> {
        self.clock.advance(by);
        self.command(|_, _| Ok(()))
    }

    pub(crate) fn list(&self, plan: MarketPlan) -> Result<(), ControlError> {
        let sound = |text: &str| {
            !text.is_empty()
                && text.len() <= 128
                && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
        };
        let event = plan.event_ticker.unwrap_or_else(|| {
            plan.ticker.rsplit_once('-').map_or(&*plan.ticker, |(event, _)| event).to_owned()
        });
        let series = plan
            .series_ticker
            .unwrap_or_else(|| event.split('-').next().unwrap_or_default().to_owned());
        if ![&plan.ticker, &event, &series].into_iter().all(|text| sound(text)) {
            return Err(Refusal::parameters("a ticker is capital letters, digits, hyphens").into());
        }
        self.command(|state, now| {
            let opens = now;
            let lasts = plan.closes_in_seconds.clamp(0, 3_155_760_000).saturating_mul(1_000);
            let closes = Time::from_millis(now.as_millis().saturating_add(lasts));
            let market = NewMarket {
                ticker: plan.ticker.clone(),
                event_ticker: event.clone(),
                series_ticker: series.clone(),
                shard: plan.exchange_index,
                structure: "linear_cent".to_owned(),
                ranges: vec![kalshi_types::PriceRange {
                    start: Dollars::ZERO,
                    end: Dollars::ONE,
                    step: Dollars::CENT,
                }],
                fees: Fees::default(),
                opens,
                closes,
                settlement_timer_seconds: plan
                    .settlement_timer_seconds
                    .unwrap_or(SETTLEMENT_TIMER_SECONDS),
            };
            state.engine.add_market(&market, now)?;
            let ends = closes.to_datetime();
            let about = about([&plan.ticker, "Yes", "No"], [ends, ends], json!({}));
            state.catalog.list(Listing { market, about });
            Ok(())
        })
    }

    pub(crate) fn determine(
        &self,
        ticker: &str,
        outcome: MarketOutcome,
    ) -> Result<(), ControlError> {
        let result = match outcome {
            MarketOutcome::Yes => MarketResult::Yes,
            MarketOutcome::No => MarketResult::No,
            MarketOutcome::Scalar(value) => MarketResult::Scalar(value),
        };
        self.on_market(ticker, |engine, market, now| engine.determine(market, result, now))
    }

    pub(crate) fn dispute(&self, ticker: &str) -> Result<(), ControlError> {
        self.on_market(ticker, Engine::dispute)
    }

    pub(crate) fn pause(&self, ticker: &str, paused: bool) -> Result<(), ControlError> {
        self.on_market(ticker, |engine, market, now| {
            if paused { engine.deactivate(market, now) } else { engine.activate(market, now) }
        })
    }

    pub(crate) fn close_in(&self, ticker: &str, seconds: i64) -> Result<(), ControlError> {
        self.on_market(ticker, |engine, market, now| {
            let later = seconds.clamp(0, 3_155_760_000).saturating_mul(1_000);
            engine.move_close(market, Time::from_millis(now.as_millis().saturating_add(later)), now)
        })
    }

    pub(crate) fn schedule_event_fee(
        &self,
        event_ticker: &str,
        fees: Option<EventFee>,
        after: Duration,
    ) -> Result<(), ControlError> {
        self.command(|state, now| {
            let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
            let at = Time::from_millis(now.as_millis().saturating_add(after));
            state.schedule_event_fee(event_ticker, fees.map(Fees::from), at)?;
            // One that is due already comes into force at once.
            state.advance(now);
            Ok(())
        })
    }

    pub(crate) fn set_yes_sub_title(&self, ticker: &str, text: &str) -> Result<(), ControlError> {
        self.command(|state, now| {
            let market = state.engine.market_by_ticker(ticker).map(|market| market.id);
            let market = market.ok_or_else(|| Refusal::not_found("market not found"))?;
            state.catalog.set_yes_sub_title(ticker, text);
            state.engine.renamed(market, now)
        })
    }

    pub(crate) fn set_grid(
        &self,
        ticker: &str,
        structure: &str,
        ranges: Vec<kalshi_types::PriceRange>,
    ) -> Result<(), ControlError> {
        self.on_market(ticker, |engine, market, now| {
            engine.set_grid(market, structure, ranges, now)
        })
    }

    pub(crate) fn set_shard(
        &self,
        shard: Shard,
        exchange_active: bool,
        trading_active: bool,
    ) -> Result<(), ControlError> {
        self.command(|state, now| {
            state.engine.set_shard(shard, exchange_active, trading_active, now);
            Ok(())
        })
    }

    pub(crate) fn deposit(
        &self,
        account: AccountId,
        shard: Shard,
        amount: Dollars,
    ) -> Result<(), ControlError> {
        self.command(|state, now| state.engine.ledger.deposit(account, 0, shard, amount, now))
    }

    /// Sets how the exchange decides what is not documented.
    pub(crate) fn set_rules(&self, rules: Rules) {
        self.state().set_rules(rules);
    }

    /// Sets how far reads and streams trail.
    pub(crate) fn set_lag(&self, lag: Lag) {
        let now = self.now();
        let mut state = self.state();
        self.advance_to(&mut state, now);
        state.set_lag(lag);
        self.streams.publish(&mut state);
        self.streams.set_lag(lag);
    }

    /// Reports whether an id is that of a key, or of an administrator of the clearing house.
    fn knows(&self, id: &str) -> bool {
        let state = self.state();
        #[cfg(feature = "perps")]
        if state.perps.access.get(id).is_some() {
            return true;
        }
        state.keys.get(id).is_some()
    }

    /// Adds a fault, which may name a known key only.
    pub(crate) fn add_fault(&self, fault: Fault) -> Result<(), ControlError> {
        if fault.key_id.as_ref().is_some_and(|id| !self.knows(id)) {
            return Err(
                Refusal::parameters("the exchange does not know the key of the fault").into()
            );
        }
        let mut faults = self.faults();
        if faults.reports().len() >= MAX_FAULTS {
            return Err(Refusal::parameters("there are too many faults: clear them").into());
        }
        faults.add(fault);
        Ok(())
    }

    pub(crate) fn audit(&self) -> Result<(), String> {
        let state = self.state();
        #[cfg(feature = "perps")]
        state.perps.audit()?;
        state.engine.audit()
    }

    /// Lets the simulated traders send `commands` commands. Returns how many the engine carried
    /// out.
    pub(crate) fn run_traders(&self, commands: u64) -> u64 {
        self.in_turns(commands, State::run_traders)
    }

    /// Carries out `commands` commands, a few at a time so that others come between. `run` returns
    /// how many of a turn were carried out; the sum is returned.
    pub(crate) fn in_turns(
        &self,
        commands: u64,
        mut run: impl FnMut(&mut State, u64, Time) -> u64,
    ) -> u64 {
        let mut done = 0;
        let mut left = commands;
        while left > 0 {
            let turn = left.min(500);
            left -= turn;
            let now = self.now();
            let mut state = self.state();
            self.advance_to(&mut state, now);
            done += run(&mut state, turn, Time::from(now));
            self.streams.publish(&mut state);
            drop(state);
            self.let_others();
        }
        done
    }
}
