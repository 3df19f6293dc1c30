//! The times of settlements: midnight in New York, which is an hour of funding, too.

use chrono::{NaiveDate, Timelike as _};

use crate::{clock::new_york_behind, engine::types::Time, perps::engine::funding::next_funding};

/// The hours of funding as a cron text in the time of New York.
pub(crate) const FUNDING_SCHEDULE: &str = "0 0,8,16 * * *";

/// Returns the first time of settlement after a time; `None` at the end of time.
pub(crate) fn next_settlement(after: Time) -> Option<Time> {
    let mut time = after;
    loop {
        time = next_funding(time)?;
        let utc = time.to_datetime()?;
        if (utc - new_york_behind(utc)).hour() == 0 {
            return Some(time);
        }
    }
}

/// Returns the day in New York that a time is in.
pub(crate) fn day(at: Time) -> Option<NaiveDate> {
    let utc = at.to_datetime()?;
    Some((utc - new_york_behind(utc)).date_naive())
}

/// Returns the day that a settlement closes: the one before its midnight.
pub(crate) fn closed_day(settlement: Time) -> Option<NaiveDate> {
    day(settlement)?.pred_opt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        Time::from(text.parse::<chrono::DateTime<chrono::Utc>>().unwrap())
    }

    #[test]
    fn a_settlement_is_due_at_midnight_in_new_york_and_closes_the_day_before() {
        for (after, next, closed) in [
            ("2026-01-15T04:59:59Z", "2026-01-15T05:00:00Z", "2026-01-14"),
            ("2026-01-15T05:00:00Z", "2026-01-16T05:00:00Z", "2026-01-15"),
            ("2026-07-15T13:00:00Z", "2026-07-16T04:00:00Z", "2026-07-15"),
            // The days on which the clocks change have 23 and 25 hours.
            ("2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", "2026-03-08"),
            ("2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", "2026-11-01"),
        ] {
            let settlement = next_settlement(time(after)).unwrap();
            assert_eq!(settlement, time(next), "{after}");
            assert_eq!(closed_day(settlement).unwrap().to_string(), closed);
        }
    }

    #[test]
    fn the_schedule_names_the_hours_of_funding() {
        let hours = FUNDING_SCHEDULE.split(' ').nth(1).unwrap();
        let mut at = time("2026-07-15T04:00:00Z");
        for hour in ["8", "16", "0"] {
            at = next_funding(at).unwrap();
            let utc = at.to_datetime().unwrap();
            let local = (utc - new_york_behind(utc)).hour().to_string();
            assert_eq!(local, hour);
            assert!(hours.split(',').any(|named| named == local), "{hours}");
        }
    }
}
