use std::time::Duration;

use chrono::{DateTime, Utc};
use kalshi_types::{Count, Dollars};

use crate::{
    control::ControlError,
    exchange::Exchange,
    perps::control::{CorporateAction, MarkChange, PerpsMarketPlan},
    role::Role,
    stream::PERPS_STREAM_PATH,
};

/// The perpetual futures of an exchange: see [`Exchange::perps`].
///
/// Marks stay where they are until they are set here: no order moves them. Liquidations, exit
/// triggers and funding go by them.
///
/// # Examples
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kalshi_sim::{Exchange, Role};
///
/// let exchange = Exchange::start().await?;
/// let client = exchange.client(Role::Trader)?;
/// exchange.perps().set_mark("KXSIMCOINPERP", "70.00".parse()?)?;
/// let market = client.perps().get_margin_market().ticker("KXSIMCOINPERP").send().await?;
/// let mark = market.into_inner().market.liquidation_mark_price.ok_or("a mark")?;
/// assert_eq!(mark.price, "70.00".parse()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct PerpsControl<'a> {
    pub(super) exchange: &'a Exchange,
}

impl PerpsControl<'_> {
    /// Lists a market.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the ticker is taken or malformed, or the terms are out of range.
    pub fn list(&self, plan: PerpsMarketPlan) -> Result<(), ControlError> {
        self.exchange.shared.list_perps(plan)
    }

    /// Sets both marks of a market. Who is below its margin then is liquidated, and exit triggers
    /// whose price is reached fire, as far as the book allows.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the market is unknown, or the price is not above zero with four decimals at
    /// most.
    pub fn set_mark(&self, ticker: &str, price: Dollars) -> Result<(), ControlError> {
        let both = MarkChange {
            settlement: Some(price),
            liquidation: Some(price),
            ..MarkChange::default()
        };
        self.exchange.shared.change_marks(ticker, both)
    }

    /// Sets the mark by which balances and funding go.
    ///
    /// # Errors
    ///
    /// As [`set_mark`](Self::set_mark).
    pub fn set_settlement_mark(&self, ticker: &str, price: Dollars) -> Result<(), ControlError> {
        let change = MarkChange { settlement: Some(price), ..MarkChange::default() };
        self.exchange.shared.change_marks(ticker, change)
    }

    /// Sets the mark by which liquidations and exit triggers go.
    ///
    /// # Errors
    ///
    /// As [`set_mark`](Self::set_mark).
    pub fn set_liquidation_mark(&self, ticker: &str, price: Dollars) -> Result<(), ControlError> {
        let change = MarkChange { liquidation: Some(price), ..MarkChange::default() };
        self.exchange.shared.change_marks(ticker, change)
    }

    /// Sets the price of the underlying, by which the premium is measured; `None` takes it away, so
    /// that none can be measured.
    ///
    /// # Errors
    ///
    /// As [`set_mark`](Self::set_mark).
    pub fn set_reference(&self, ticker: &str, price: Option<Dollars>) -> Result<(), ControlError> {
        let change = MarkChange { reference: Some(price), ..MarkChange::default() };
        self.exchange.shared.change_marks(ticker, change)
    }

    /// Pauses a market: it is `inactive`, and orders that ask for it are canceled.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the market is unknown.
    pub fn pause(&self, ticker: &str) -> Result<(), ControlError> {
        self.exchange.shared.on_perps(|engine, now| engine.set_paused(ticker, true, now))
    }

    /// Lets a paused market trade again.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the market is unknown.
    pub fn resume(&self, ticker: &str) -> Result<(), ControlError> {
        self.exchange.shared.on_perps(|engine, now| engine.set_paused(ticker, false, now))
    }

    /// Pauses trading in all markets, or lets it go on. Cancels are taken all the same.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn set_trading_active(&self, active: bool) -> Result<(), ControlError> {
        self.exchange.shared.set_perps_trading(active)
    }

    /// Moves the exchange's time to the next funding, which is paid. Returns the time then: that of
    /// the funding, or a little later while the clock is not frozen.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange's time has no further one, at the end of time.
    pub fn advance_to_funding(&self) -> Result<DateTime<Utc>, ControlError> {
        self.exchange.shared.advance_to_funding()
    }

    /// Lets a role's member trade perpetual futures, or not. Every member may at first.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role.
    pub fn set_enabled(&self, role: Role, enabled: bool) -> Result<(), ControlError> {
        let account = self.exchange.account(role)?;
        self.exchange.shared.set_perps_enabled(account, enabled)
    }

    /// Pays cash into the primary subaccount of a role's member.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the exchange has no member in this role, or the amount is out of range.
    pub fn deposit(&self, role: Role, amount: Dollars) -> Result<(), ControlError> {
        let account = self.exchange.account(role)?;
        self.exchange.shared.on_perps(|engine, now| engine.deposit(account, amount, now))
    }

    /// Pays cash into the account of a subtrader of a futures commission merchant, which has none at
    /// first.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such subtrader, or the amount is out of range.
    pub fn deposit_for_subtrader(
        &self,
        subtrader_id: &str,
        amount: Dollars,
    ) -> Result<(), ControlError> {
        self.exchange.shared.deposit_for_subtrader(subtrader_id, amount)
    }

    /// Announces a corporate action that is carried out after a time of the exchange's clock. Returns
    /// the id of its notice.
    ///
    /// A split or a change of the ticker halts the market for a minute, cancels its orders, and raises
    /// `market_version` when it trades again.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the market is unknown or closed, or the terms are out of range.
    pub fn announce(
        &self,
        ticker: &str,
        action: CorporateAction,
        after: Duration,
    ) -> Result<String, ControlError> {
        self.exchange.shared.announce(ticker, action, after)
    }

    /// Calls a corporate action off that is to come.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such action, or it has been carried out.
    pub fn call_off(&self, id: &str) -> Result<(), ControlError> {
        self.exchange.shared.call_off(id)
    }

    /// Returns the position of a role's member in a market, of all its subaccounts together; `None`
    /// without such a member or market.
    pub fn position(&self, role: Role, ticker: &str) -> Option<Count> {
        let account = self.exchange.account(role).ok()?;
        self.exchange.shared.perps_position(account, ticker)
    }

    /// Lets the two market makers of the start send `commands` commands at once: orders around the
    /// marks, and cancels. Returns how many were carried out. The same seed gives the same commands.
    pub fn run_traders(&self, commands: u64) -> u64 {
        self.exchange.shared.run_perps_traders(commands)
    }

    /// Returns the URL of the streams: `ws://127.0.0.1:PORT/trade-api/ws/v2/margin`.
    pub fn stream_url(&self) -> String {
        format!("ws://{}{PERPS_STREAM_PATH}", self.exchange.address)
    }

    /// Returns what the insurance fund holds, in dollars; below zero what it owes. Rounding leaves a
    /// little to it, and losses beyond the equity of a member are taken from it.
    pub fn insurance_fund(&self) -> Dollars {
        self.exchange.shared.state().perps.engine.insurance
    }
}
