//! The exchange's own time: that of the clock under it, until it is frozen or moved.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Datelike as _, NaiveDate, TimeZone as _, Utc, Weekday};
use kalshi_auth::Clock;

/// Returns the clock's time; the end of time if it is beyond chrono's years.
pub(crate) fn at(clock: &dyn Clock) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(clock.now().as_millis()).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Returns how far the clocks of New York are behind UTC: five hours, four from the second Sunday of
/// March to the first of November.
pub(crate) fn new_york_behind(at: DateTime<Utc>) -> chrono::Duration {
    let sunday = |month, number, hour| {
        NaiveDate::from_weekday_of_month_opt(at.year(), month, Weekday::Sun, number)
            .and_then(|day| day.and_hms_opt(hour, 0, 0))
            .map(|changes| Utc.from_utc_datetime(&changes))
    };
    // The clocks change at two in the morning of the old time.
    let (begins, ends) = (sunday(3, 2, 7), sunday(11, 1, 6));
    let summer = begins.is_some_and(|begins| begins <= at) && ends.is_some_and(|ends| at < ends);
    chrono::Duration::hours(if summer { 4 } else { 5 })
}

/// A clock that can be frozen and moved forwards. Signatures are still checked against the clock
/// under it, so that clients need not know.
#[derive(Debug)]
pub(crate) struct ExchangeClock {
    clock: Arc<dyn Clock>,
    hands: Mutex<Hands>,
}

#[derive(Debug, Default)]
struct Hands {
    ahead: chrono::Duration,
    frozen: Option<DateTime<Utc>>,
    /// By how much the clocks of members are behind the one under this.
    skew: chrono::Duration,
}

impl ExchangeClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, hands: Mutex::default() }
    }

    /// Returns the clock under it.
    fn real(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Returns the time of day that signatures are checked against, and that answers have in their
    /// `Date`: that of the clock under it, unless the clocks of members are behind.
    pub(crate) fn wall(&self) -> DateTime<Utc> {
        let skew = self.hands().skew;
        at(self.real()).checked_add_signed(skew).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Returns the wall clock's time as a `Date` header has it.
    pub(crate) fn http_date(&self) -> String {
        self.wall().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// Sets by how many milliseconds the clocks of members are behind the exchange's wall clock;
    /// ahead of it if negative. A century at most.
    pub(crate) fn set_skew(&self, millis: i64) {
        const CENTURY: i64 = 36_500 * 86_400_000;
        let skew = chrono::Duration::milliseconds(millis.clamp(-CENTURY, CENTURY));
        self.hands().skew = skew;
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        let hands = self.hands();
        hands.frozen.unwrap_or_else(|| {
            at(self.real()).checked_add_signed(hands.ahead).unwrap_or(DateTime::<Utc>::MAX_UTC)
        })
    }

    #[cfg(feature = "ui")]
    pub(crate) fn is_frozen(&self) -> bool {
        self.hands().frozen.is_some()
    }

    pub(crate) fn freeze(&self) {
        let now = self.now();
        self.hands().frozen = Some(now);
    }

    /// Lets it run on from the time at which it stands.
    pub(crate) fn resume(&self) {
        let mut hands = self.hands();
        if let Some(frozen) = hands.frozen.take() {
            hands.ahead = frozen - at(self.real());
        }
    }

    /// Moves it forwards, by a century at most.
    pub(crate) fn advance(&self, by: Duration) {
        let by = chrono::Duration::from_std(by).unwrap_or(chrono::Duration::MAX);
        let by = by.min(chrono::Duration::days(36_500));
        let mut hands = self.hands();
        match &mut hands.frozen {
            Some(frozen) => {
                *frozen = frozen.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC);
            }
            None => hands.ahead = hands.ahead.checked_add(&by).unwrap_or(hands.ahead),
        }
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
