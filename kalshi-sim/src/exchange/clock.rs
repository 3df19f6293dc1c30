use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{control::ControlError, exchange::Exchange};

/// The time of an exchange: see [`Exchange::clock`](crate::Exchange::clock).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ClockControl<'a> {
    pub(super) exchange: &'a Exchange,
}

impl ClockControl<'_> {
    /// Returns the exchange's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.exchange.shared.now()
    }

    /// Stops the exchange's time. Signatures are still checked against the real one.
    pub fn freeze(&self) {
        self.exchange.shared.clock.freeze();
    }

    /// Lets the exchange's time run on from the time at which it stands.
    pub fn resume(&self) {
        self.exchange.shared.clock.resume();
    }

    /// Sets by how many milliseconds the clocks of members are behind the exchange's wall clock;
    /// ahead of it if negative. Signatures are checked against that wall clock, and the `Date` of
    /// each answer tells it: a client whose clock is wrong can find out by how much. The
    /// exchange's own time is not moved.
    pub fn set_member_skew(&self, millis: i64) {
        self.exchange.shared.clock.set_skew(millis);
    }

    /// Moves the exchange's time forwards, and lets happen what falls due: markets open and close,
    /// orders expire, settlements are paid.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn advance(&self, by: Duration) -> Result<(), ControlError> {
        self.exchange.shared.advance(by)
    }
}
