use std::time::Duration;

use kalshi_types::PriceRange;

use crate::{
    control::{ControlError, EventFee, MarketOutcome, MarketPlan},
    exchange::Exchange,
};

/// The markets of an exchange: see [`Exchange::markets`](crate::Exchange::markets).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct MarketControl<'a> {
    pub(super) exchange: &'a Exchange,
}

impl MarketControl<'_> {
    /// Lists a market; it opens at once.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: the ticker is taken or invalid.
    pub fn list(&self, plan: MarketPlan) -> Result<(), ControlError> {
        self.exchange.shared.list(plan)
    }

    /// Sets a market's result. It is paid out after its settlement timer: see
    /// [`ClockControl::advance`](crate::ClockControl::advance).
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, it is settled, or the value is not 0 to 1 dollar.
    pub fn determine(&self, ticker: &str, outcome: MarketOutcome) -> Result<(), ControlError> {
        self.exchange.shared.determine(ticker, outcome)
    }

    /// Disputes a determined market: nothing is paid until it is determined again.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or it is not determined.
    pub fn dispute(&self, ticker: &str) -> Result<(), ControlError> {
        self.exchange.shared.dispute(ticker)
    }

    /// Pauses a market: its orders stay, new ones are refused.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or it is not active.
    pub fn pause(&self, ticker: &str) -> Result<(), ControlError> {
        self.exchange.shared.pause(ticker, true)
    }

    /// Ends a market's pause, which cancels all its orders.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or it is not paused.
    pub fn resume(&self, ticker: &str) -> Result<(), ControlError> {
        self.exchange.shared.pause(ticker, false)
    }

    /// Moves a market's close to `seconds` from now.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or it is determined.
    pub fn close_in(&self, ticker: &str, seconds: i64) -> Result<(), ControlError> {
        self.exchange.shared.close_in(ticker, seconds)
    }

    /// Gives an event fees of its own after a time, or takes them back with `None`. The change is in
    /// `GET /events/fee_changes` at once; when its time has come, the markets of the event charge by
    /// it, and the streams send `event_fee_update`.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such event with markets, or the time is beyond all dates.
    pub fn schedule_event_fee(
        &self,
        event_ticker: &str,
        fees: Option<EventFee>,
        after: Duration,
    ) -> Result<(), ControlError> {
        self.exchange.shared.schedule_event_fee(event_ticker, fees, after)
    }

    /// Changes the text that says what YES means in a market.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market.
    pub fn set_yes_sub_title(&self, ticker: &str, text: &str) -> Result<(), ControlError> {
        self.exchange.shared.set_yes_sub_title(ticker, text)
    }

    /// Gives a market another price grid.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: there is no such market, or the bands are no grid.
    pub fn set_grid(
        &self,
        ticker: &str,
        structure: &str,
        ranges: Vec<PriceRange>,
    ) -> Result<(), ControlError> {
        self.exchange.shared.set_grid(ticker, structure, ranges)
    }

    /// Begins or ends a pause of one shard: of trading, or of everything.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn set_shard(
        &self,
        exchange_index: u8,
        exchange_active: bool,
        trading_active: bool,
    ) -> Result<(), ControlError> {
        self.exchange.shared.set_shard(exchange_index, exchange_active, trading_active)
    }

    /// Lets the simulated traders of
    /// [`ExchangeBuilder::with_traders`](crate::ExchangeBuilder::with_traders) send `commands`
    /// commands at once. Returns how many the engine carried out.
    pub fn run_traders(&self, commands: u64) -> u64 {
        self.exchange.shared.run_traders(commands)
    }
}
