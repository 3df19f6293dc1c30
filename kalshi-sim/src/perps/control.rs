//! The actions of the exchange itself on perpetual futures.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::{
    control::ControlError,
    engine::{
        ids::{AccountId, ActionId},
        types::{Refusal, Time},
    },
    perps::engine::{
        Perps,
        actions::{NewAction, Terms},
        amount::Rate,
        funding::next_funding,
        markets::{AssetClass, FundingTerms, LimitUnit, NewMarket},
    },
    shared::Shared,
};

/// The class of an underlying, by which initial margins are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PerpsAssetClass {
    /// Cryptocurrencies.
    #[default]
    Crypto,
    /// Shares.
    Equities,
    /// Metals.
    Metals,
}

impl From<PerpsAssetClass> for AssetClass {
    fn from(class: PerpsAssetClass) -> Self {
        match class {
            PerpsAssetClass::Crypto => Self::Crypto,
            PerpsAssetClass::Equities => Self::Equities,
            PerpsAssetClass::Metals => Self::Metals,
        }
    }
}

/// A market of perpetual futures to list. It trades at once, with an empty book.
///
/// # Examples
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kalshi_sim::{Exchange, PerpsMarketPlan};
///
/// let exchange = Exchange::start().await?;
/// // A thousandth of a coin of 50,000 dollars: the marks begin at 50.
/// let mut plan = PerpsMarketPlan::new("KXTESTPERP", "50000.00".parse()?);
/// plan.contract_size_millionths = 1_000;
/// exchange.perps().list(plan)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PlannedMarket")]
#[non_exhaustive]
pub struct PerpsMarketPlan {
    /// The ticker; capital letters, digits and hyphens.
    pub ticker: String,
    /// The price of the underlying in dollars. The marks begin at what a contract of it is worth.
    pub reference: Dollars,
    /// The class of the underlying; crypto unless set.
    pub asset_class: PerpsAssetClass,
    /// Units of the underlying that a contract stands for, in millionths; one unit unless set.
    pub contract_size_millionths: i64,
    /// The step of prices; a cent unless set. Four decimals at most.
    pub tick_size: Dollars,
    /// Takes counts with two decimals; whole contracts only unless set.
    pub fractional_trading_enabled: bool,
    /// The maintenance margin, in millionths of the value of a position; 5 % unless set.
    pub maintenance_margin_millionths: u32,
    /// The fee of orders that rested, in millionths of the traded value; 200 unless set.
    pub maker_fee_millionths: u32,
    /// The fee of orders that came in, in millionths of the traded value; 500 unless set.
    pub taker_fee_millionths: u32,
    /// The mean premium below which no funding is due, in millionths of the mark; 0 unless set.
    pub funding_deadband_millionths: u32,
    /// The highest funding rate, in millionths of the mark; 2 % unless set.
    pub funding_cap_millionths: u32,
}

impl PerpsMarketPlan {
    /// Returns a market with an underlying that costs `reference`.
    pub fn new(ticker: impl Into<String>, reference: Dollars) -> Self {
        Self {
            ticker: ticker.into(),
            reference,
            asset_class: PerpsAssetClass::default(),
            contract_size_millionths: 1_000_000,
            tick_size: Dollars::CENT,
            fractional_trading_enabled: false,
            maintenance_margin_millionths: 50_000,
            maker_fee_millionths: 200,
            taker_fee_millionths: 500,
            funding_deadband_millionths: 0,
            funding_cap_millionths: 20_000,
        }
    }
}

/// A market as it is written down: what is not given is as in [`PerpsMarketPlan::new`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedMarket {
    ticker: String,
    reference: Dollars,
    asset_class: Option<PerpsAssetClass>,
    contract_size_millionths: Option<i64>,
    tick_size: Option<Dollars>,
    fractional_trading_enabled: Option<bool>,
    maintenance_margin_millionths: Option<u32>,
    maker_fee_millionths: Option<u32>,
    taker_fee_millionths: Option<u32>,
    funding_deadband_millionths: Option<u32>,
    funding_cap_millionths: Option<u32>,
}

impl From<PlannedMarket> for PerpsMarketPlan {
    fn from(planned: PlannedMarket) -> Self {
        let unset = Self::new(planned.ticker, planned.reference);
        Self {
            asset_class: planned.asset_class.unwrap_or(unset.asset_class),
            contract_size_millionths: planned
                .contract_size_millionths
                .unwrap_or(unset.contract_size_millionths),
            tick_size: planned.tick_size.unwrap_or(unset.tick_size),
            fractional_trading_enabled: planned
                .fractional_trading_enabled
                .unwrap_or(unset.fractional_trading_enabled),
            maintenance_margin_millionths: planned
                .maintenance_margin_millionths
                .unwrap_or(unset.maintenance_margin_millionths),
            maker_fee_millionths: planned
                .maker_fee_millionths
                .unwrap_or(unset.maker_fee_millionths),
            taker_fee_millionths: planned
                .taker_fee_millionths
                .unwrap_or(unset.taker_fee_millionths),
            funding_deadband_millionths: planned
                .funding_deadband_millionths
                .unwrap_or(unset.funding_deadband_millionths),
            funding_cap_millionths: planned
                .funding_cap_millionths
                .unwrap_or(unset.funding_cap_millionths),
            ..unset
        }
    }
}

/// A corporate action: see [`PerpsControl::announce`](crate::PerpsControl::announce).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum CorporateAction {
    /// Shorts pay longs this much for each contract.
    CashDividend {
        /// Dollars for each contract, four decimals at most.
        per_contract: Dollars,
    },
    /// The same, out of turn.
    SpecialDividend {
        /// Dollars for each contract, four decimals at most.
        per_contract: Dollars,
    },
    /// The same, for a part of the company that becomes one of its own.
    SpinOff {
        /// Dollars for each contract, four decimals at most.
        per_contract: Dollars,
    },
    /// Counts are multiplied by `new ÷ old` and prices divided by it. Each is 1 to 1,000.
    StockSplit {
        /// Contracts before.
        old: u32,
        /// Contracts afterwards.
        new: u32,
    },
    /// All positions are closed at a price, and the market ends.
    FinalSettlement {
        /// Dollars for each contract, four decimals at most.
        per_contract: Dollars,
        /// The cause, in English.
        reason: String,
    },
    /// The market has another ticker.
    TickerChange {
        /// The new ticker.
        new: String,
    },
}

impl CorporateAction {
    fn terms(self, ticker: &str, ex_date: NaiveDate) -> Terms {
        match self {
            Self::CashDividend { per_contract } => Terms::CashDividend { per_contract, ex_date },
            Self::SpecialDividend { per_contract } => {
                Terms::SpecialDividend { per_contract, ex_date }
            }
            Self::SpinOff { per_contract } => Terms::SpinOff { per_contract, ex_date },
            Self::StockSplit { old, new } => Terms::Split { old, new, ex_date },
            Self::FinalSettlement { per_contract, reason } => {
                Terms::FinalSettlement { per_contract, reason }
            }
            Self::TickerChange { new } => Terms::TickerChange { old: ticker.to_owned(), new },
        }
    }
}

/// A change of the marks of a market; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MarkChange {
    pub(crate) settlement: Option<Dollars>,
    pub(crate) liquidation: Option<Dollars>,
    /// Taken away by `Some(None)`.
    #[expect(clippy::option_option, reason = "left alone, taken away and set are three things")]
    pub(crate) reference: Option<Option<Dollars>>,
}

impl Shared {
    /// Carries out a command of the exchange on perpetual futures.
    pub(crate) fn on_perps<T>(
        &self,
        command: impl FnOnce(&mut Perps, Time) -> Result<T, Refusal>,
    ) -> Result<T, ControlError> {
        self.command(|state, now| command(&mut state.perps.engine, now))
    }

    pub(crate) fn list_perps(&self, plan: PerpsMarketPlan) -> Result<(), ControlError> {
        sound(&plan.ticker)?;
        let rate = |millionths: u32| Rate::new(i128::from(millionths) * Rate::ONE / 1_000_000);
        let market = NewMarket {
            title: plan.ticker.clone(),
            ticker: plan.ticker,
            class: plan.asset_class.into(),
            shard: 0,
            contract_size: plan.contract_size_millionths,
            multiplier: 1_000_000,
            tick: plan.tick_size,
            fractional: plan.fractional_trading_enabled,
            maintenance: plan.maintenance_margin_millionths,
            maker_fee: plan.maker_fee_millionths,
            taker_fee: plan.taker_fee_millionths,
            funding: FundingTerms {
                deadband: rate(plan.funding_deadband_millionths),
                cap: rate(plan.funding_cap_millionths),
                unit: LimitUnit::Percentage,
                excludes_invalid: false,
            },
            reference: plan.reference,
        };
        self.on_perps(|engine, now| engine.add_market(market, now).map(|_| ()))
    }

    pub(crate) fn change_marks(
        &self,
        ticker: &str,
        change: MarkChange,
    ) -> Result<(), ControlError> {
        let MarkChange { settlement, liquidation, reference } = change;
        self.on_perps(|engine, now| {
            engine.set_marks(ticker, settlement, liquidation, reference, now)
        })
    }

    pub(crate) fn set_perps_trading(&self, active: bool) -> Result<(), ControlError> {
        self.on_perps(|engine, now| {
            engine.set_trading(active, now);
            Ok(())
        })
    }

    /// Returns the time of the next funding; `None` at the end of time.
    pub(crate) fn next_funding(&self) -> Option<DateTime<Utc>> {
        next_funding(Time::from(self.now())).and_then(Time::to_datetime)
    }

    /// Moves the exchange's time to the next funding. Returns the time then.
    pub(crate) fn advance_to_funding(&self) -> Result<DateTime<Utc>, ControlError> {
        let next =
            self.next_funding().ok_or_else(|| Refusal::parameters("there is none to come"))?;
        let by = next.signed_duration_since(self.now()).to_std().unwrap_or_default();
        self.advance(by)?;
        Ok(self.now())
    }

    pub(crate) fn set_perps_enabled(
        &self,
        account: AccountId,
        enabled: bool,
    ) -> Result<(), ControlError> {
        self.on_perps(|engine, _| {
            engine.open_account(account);
            engine.account_mut(account)?.enabled = enabled;
            Ok(())
        })
    }

    pub(crate) fn deposit_for_subtrader(
        &self,
        id: &str,
        amount: Dollars,
    ) -> Result<(), ControlError> {
        self.command(|state, now| {
            let perps = &mut state.perps;
            let account = perps.firms.values().find_map(|subtraders| subtraders.get(id)).copied();
            let account = account.ok_or_else(|| Refusal::not_found("no such subtrader"))?;
            perps.engine.deposit(account, amount, now)
        })
    }

    pub(crate) fn announce(
        &self,
        ticker: &str,
        action: CorporateAction,
        after: Duration,
    ) -> Result<String, ControlError> {
        if let CorporateAction::TickerChange { new } = &action {
            sound(new)?;
        }
        self.on_perps(|engine, now| {
            let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
            let at = Time::from_millis(now.as_millis().saturating_add(after));
            let date =
                at.to_datetime().ok_or_else(|| Refusal::parameters("the time is too late"))?;
            let terms = action.terms(ticker, date.date_naive());
            let new = NewAction { ticker: ticker.to_owned(), terms, at };
            engine.announce(new, now).map(|id| id.to_string())
        })
    }

    pub(crate) fn call_off(&self, id: &str) -> Result<(), ControlError> {
        self.on_perps(|engine, now| {
            let id = ActionId::parse(id).ok_or_else(|| Refusal::not_found("no such action"))?;
            engine.call_off(id, now)
        })
    }

    /// Lets the market makers send commands. Returns how many were carried out.
    pub(crate) fn run_perps_traders(&self, commands: u64) -> u64 {
        self.in_turns(commands, |state, turn, now| state.perps.run_traders(turn, now))
    }

    /// Returns the position of a member in a market, of all its subaccounts together.
    pub(crate) fn perps_position(&self, account: AccountId, ticker: &str) -> Option<Count> {
        let state = self.state();
        let engine = &state.perps.engine;
        let market = engine.market_by_ticker(ticker).ok()?.id;
        let wallets = engine.account(account).ok()?.wallets.values();
        let held = wallets.map(|wallet| wallet.position(market).count.as_hundredths());
        Some(Count::from_hundredths(held.sum()))
    }
}

/// Checks a ticker.
fn sound(ticker: &str) -> Result<(), Refusal> {
    let is_sound = !ticker.is_empty()
        && ticker.len() <= 128
        && ticker.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
    if is_sound {
        Ok(())
    } else {
        Err(Refusal::parameters("a ticker is capital letters, digits, hyphens"))
    }
}
