//! Pauses of trading and of the exchange, shard by shard.
//!
//! In a pause of trading (weekly) orders can be canceled but neither made nor amended; in a pause of
//! the exchange nothing can be done. A request that is refused here costs no tokens and no time;
//! one that is let through may still be refused, because a pause began meanwhile.
//!
//! [`Trading`](crate::trading::Trading) keeps a status by itself: orders are refused in a pause, with
//! the time of the next opening, and cancels go through.

use std::{collections::BTreeMap, time::Duration};

use kalshi_sdk::types::{DailySchedule, ExchangeStatus, Schedule, WeeklySchedule};
use kalshi_types::UnixMillis;
use thiserror::Error;

/// What a request does to orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the distinction that pauses make")]
pub enum OrderRequest {
    /// Makes an order, or amends one.
    Make,
    /// Cancels an order, or takes contracts away.
    Cancel,
}

/// The reason why a request would be refused now. **Nothing has been sent.**
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Paused {
    /// Trading on the shard is paused: cancel if need be, and wait.
    #[error("trading on shard {0} is paused: orders can be canceled, not made or amended")]
    Trading(i64),
    /// The shard is paused as a whole: wait.
    #[error("shard {0} of the exchange is paused: orders can be neither made nor canceled")]
    Exchange(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    exchange_active: bool,
    trading_active: bool,
}

/// What `GET /exchange/status` said last.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let exchange = kalshi_sim::Exchange::start().await?;
/// # let client = exchange.client(kalshi_sim::Role::Trader)?;
/// use kalshi_trade::pause::{OrderRequest, Paused, TradingStatus};
///
/// let mut status = TradingStatus::default();
/// # exchange.markets().set_shard(0, true, false)?;
/// status.update(&*client.get_exchange_status().send().await?);
/// // Trading on shard 0 is paused.
/// assert_eq!(status.check(0, OrderRequest::Make), Err(Paused::Trading(0)));
/// assert_eq!(status.check(0, OrderRequest::Cancel), Ok(()));
/// assert_eq!(status.check(1, OrderRequest::Make), Ok(()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TradingStatus {
    shards: BTreeMap<i64, Shard>,
    /// True while the exchange does not even say what its status is.
    is_unavailable: bool,
    resumes: Option<UnixMillis>,
}

impl TradingStatus {
    /// Takes over a status. The top level of an answer is that of shard 0.
    pub fn update(&mut self, status: &ExchangeStatus) {
        let top = Shard {
            exchange_active: status.exchange_active,
            trading_active: status.trading_active,
        };
        self.is_unavailable = false;
        self.resumes = status.exchange_estimated_resume_time.map(UnixMillis::from);
        self.shards.clear();
        self.shards.insert(0, top);
        for row in &status.exchange_index_statuses {
            let shard =
                Shard { exchange_active: row.exchange_active, trading_active: row.trading_active };
            self.shards.insert(*row.exchange_index, shard);
        }
    }

    /// Takes over that the exchange answered 503 to the question for its status: it is paused as a
    /// whole, until the next [`update`](Self::update).
    pub fn set_unavailable(&mut self) {
        self.is_unavailable = true;
    }

    /// Reports whether any shard is paused, for trading or as a whole.
    pub fn is_any_paused(&self) -> bool {
        let is_paused = |shard: &Shard| !shard.exchange_active || !shard.trading_active;
        self.is_unavailable || self.shards.values().any(is_paused)
    }

    /// Returns the time at which the exchange expects to go on, if it said one.
    pub fn resumes(&self) -> Option<UnixMillis> {
        self.resumes
    }

    /// Reports whether a request would be accepted whose shard is not known: it is, if one of the
    /// shards would accept it.
    ///
    /// # Errors
    ///
    /// [`Paused`] names the pause of the lowest shard.
    pub fn check_any(&self, request: OrderRequest) -> Result<(), Paused> {
        let mut refused = None;
        for index in self.shards.keys().chain(self.shards.is_empty().then_some(&0)) {
            match self.check(*index, request) {
                Ok(()) => return Ok(()),
                Err(paused) => refused = refused.or(Some(paused)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Reports whether a request to a shard would be accepted. One to a shard of which nothing is
    /// known is let through: the exchange decides.
    ///
    /// # Errors
    ///
    /// [`Paused`] names the pause.
    pub fn check(&self, exchange_index: i64, request: OrderRequest) -> Result<(), Paused> {
        match (self.shards.get(&exchange_index), request) {
            _ if self.is_unavailable => Err(Paused::Exchange(exchange_index)),
            (Some(shard), _) if !shard.exchange_active => Err(Paused::Exchange(exchange_index)),
            (Some(shard), OrderRequest::Make) if !shard.trading_active => {
                Err(Paused::Trading(exchange_index))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the maintenance that is going on at a time or begins next, as its start and end.
pub fn next_maintenance(schedule: &Schedule, now: UnixMillis) -> Option<(UnixMillis, UnixMillis)> {
    let window =
        |start: i64, end: i64| (UnixMillis::from_millis(start), UnixMillis::from_millis(end));
    let windows = schedule.maintenance_windows.iter().map(|row| {
        window(row.start_datetime.timestamp_millis(), row.end_datetime.timestamp_millis())
    });
    windows.filter(|(_, end)| *end > now).min()
}

/// The time between two reads of the status while something is paused.
const PAUSED_EVERY: Duration = Duration::from_secs(5);
/// The least time between two reads that something calls for.
const LEAST_EVERY: Duration = Duration::from_secs(1);
/// The time after which the schedule is read again.
const SCHEDULE_EVERY: Duration = Duration::from_secs(3_600);

/// Decides when the status and the schedule are read, and keeps what they said. Pure.
#[derive(Debug)]
pub(crate) struct PauseWatch {
    status: TradingStatus,
    schedule: Option<Schedule>,
    every: Duration,
    due: UnixMillis,
    schedule_due: UnixMillis,
    last: Option<UnixMillis>,
    is_pending: bool,
}

impl PauseWatch {
    pub(crate) fn new(every: Duration, now: UnixMillis) -> Self {
        Self {
            status: TradingStatus::default(),
            schedule: None,
            every,
            due: now,
            schedule_due: now,
            last: None,
            is_pending: false,
        }
    }

    pub(crate) fn status(&self) -> &TradingStatus {
        &self.status
    }

    /// Begins a read if one is due, and says whether the schedule is to be read, too.
    pub(crate) fn begin(&mut self, now: UnixMillis) -> Option<bool> {
        if self.is_pending || self.due > now {
            return None;
        }
        self.is_pending = true;
        self.last = Some(now);
        Some(self.schedule_due <= now)
    }

    /// Returns the time of the next read that can begin.
    pub(crate) fn next_at(&self) -> Option<UnixMillis> {
        (!self.is_pending).then_some(self.due)
    }

    /// Takes in that something looks like a pause: the status is read soon.
    pub(crate) fn suspect(&mut self, now: UnixMillis) {
        let soon = self.last.map_or(now, |last| last.saturating_add(LEAST_EVERY.min(self.every)));
        self.due = self.due.min(soon.max(now));
    }

    /// Takes in that the clock was set back: no read is put off by more than it would be from now on.
    pub(crate) fn set_back(&mut self, now: UnixMillis) {
        self.due = self.due.min(now.saturating_add(self.every));
        self.schedule_due = self.schedule_due.min(now.saturating_add(SCHEDULE_EVERY));
        self.last = self.last.map(|last| last.min(now));
    }

    /// Takes in what a read came to: a status, or that the exchange answered 503, or nothing.
    pub(crate) fn take(
        &mut self,
        now: UnixMillis,
        status: Result<&ExchangeStatus, bool>,
        schedule: Option<Schedule>,
    ) {
        self.is_pending = false;
        match status {
            Ok(status) => self.status.update(status),
            Err(true) => self.status.set_unavailable(),
            Err(false) => {}
        }
        if let Some(schedule) = schedule {
            self.schedule = Some(schedule);
            self.schedule_due = now.saturating_add(SCHEDULE_EVERY);
        }
        let is_usual = status.is_ok() && !self.status.is_any_paused();
        let every = if is_usual { self.every } else { self.every.min(PAUSED_EVERY) };
        self.due = now.saturating_add(every);
    }

    /// Reports whether a new order for a shard, or for one that is not known, would be taken.
    pub(crate) fn check(&self, shard: Option<i64>) -> Result<(), Paused> {
        match shard {
            Some(shard) => self.status.check(shard, OrderRequest::Make),
            None => self.status.check_any(OrderRequest::Make),
        }
    }

    /// Returns the next opening: the time that the exchange expects, or that of its schedule; `None`
    /// for a pause of which neither is known.
    pub(crate) fn opens(&self, now: UnixMillis) -> Option<UnixMillis> {
        let scheduled = self.schedule.as_ref().and_then(|schedule| next_opening(schedule, now));
        let opens = self.status.resumes().max(scheduled);
        opens.filter(|opens| *opens > now)
    }
}

const MINUTE_MS: i64 = 60 * 1_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The most steps from one closure to the next that are followed.
const MAX_STEPS: u32 = 64;

/// Returns the next time at which the schedule has the exchange open: `now` itself, if it does so
/// now. `None` if it names no such time within some weeks, and where it cannot be read.
///
/// Its hours are those of the US East Coast. Where no row of the standard hours applies, only the
/// maintenance counts.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let exchange = kalshi_sim::Exchange::start().await?;
/// # let client = exchange.client(kalshi_sim::Role::Trader)?;
/// use kalshi_trade::pause::next_opening;
///
/// let schedule = client.get_exchange_schedule().send().await?.into_inner().schedule;
/// # let now = kalshi_types::UnixMillis::EPOCH;
/// let opens = next_opening(&schedule, now);
/// # assert!(opens.is_some());
/// # Ok(())
/// # }
/// ```
pub fn next_opening(schedule: &Schedule, now: UnixMillis) -> Option<UnixMillis> {
    let mut at = now;
    for _ in 0..MAX_STEPS {
        let opens = match next_maintenance(schedule, at) {
            Some((start, end)) if start <= at => end,
            _ => next_session(schedule, at)?,
        };
        if opens <= at {
            return Some(at);
        }
        at = opens;
    }
    None
}

/// Returns the next time within the standard hours: `at` itself, if it is one.
fn next_session(schedule: &Schedule, at: UnixMillis) -> Option<UnixMillis> {
    let applies = |week: &&WeeklySchedule| {
        UnixMillis::from(week.start_time) <= at && at < UnixMillis::from(week.end_time)
    };
    let Some(week) = schedule.standard_hours.iter().find(applies) else { return Some(at) };
    let local = at.as_millis().checked_add(eastern_offset(at.as_millis()))?;
    let (today, time) = (local.div_euclid(DAY_MS), local.rem_euclid(DAY_MS));
    for ahead in 0..=7 {
        let day = today.checked_add(ahead)?;
        let mut opens: Option<i64> = None;
        for session in sessions(week, day) {
            let (open, close) = (clock_time(&session.open_time)?, clock_time(&session.close_time)?);
            if ahead == 0 && open <= time && time < close {
                return Some(at);
            }
            if ahead > 0 || open > time {
                opens = Some(opens.map_or(open, |first| first.min(open)));
            }
        }
        if let Some(open) = opens {
            let local = day.checked_mul(DAY_MS)?.checked_add(open)?;
            // The offset that holds then; no session begins in the hour in which it changes.
            let utc = local.checked_sub(eastern_offset(local.checked_add(5 * HOUR_MS)?))?;
            return Some(UnixMillis::from_millis(utc));
        }
    }
    None
}

/// Returns the sessions of a day, counted from 1 January 1970, which was a Thursday.
fn sessions(week: &WeeklySchedule, day: i64) -> &[DailySchedule] {
    match day.rem_euclid(7) {
        0 => &week.thursday,
        1 => &week.friday,
        2 => &week.saturday,
        3 => &week.sunday,
        4 => &week.monday,
        5 => &week.tuesday,
        _ => &week.wednesday,
    }
}

/// Reads `03:00`, or `24:00` for the end of a day, as milliseconds.
fn clock_time(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    // Some write the seconds, too.
    let minutes = minutes.split(':').next()?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    let is_time = (hours < 24 && minutes < 60) || (hours == 24 && minutes == 0);
    is_time.then(|| i64::from(hours) * HOUR_MS + i64::from(minutes) * MINUTE_MS)
}

/// Returns what Eastern time is ahead of UTC, in milliseconds: −4 h from the second Sunday of March,
/// 02:00, to the first Sunday of November, 02:00, and −5 h otherwise.
fn eastern_offset(utc: i64) -> i64 {
    let year = year_of(utc.div_euclid(DAY_MS));
    let summer = first_sunday(year, 3).saturating_add(7).saturating_mul(DAY_MS);
    let winter = first_sunday(year, 11).saturating_mul(DAY_MS);
    let is_summer =
        summer.saturating_add(7 * HOUR_MS) <= utc && utc < winter.saturating_add(6 * HOUR_MS);
    if is_summer { -4 * HOUR_MS } else { -5 * HOUR_MS }
}

/// Returns the first Sunday of a month, in days since 1970.
fn first_sunday(year: i64, month: i64) -> i64 {
    let first = day_of(year, month);
    // 4 January 1970 was a Sunday.
    first.saturating_add((3_i64.saturating_sub(first)).rem_euclid(7))
}

/// Returns the first of a month after February, in days since 1970. Years begin with March, so that
/// a leap day is the last of its year.
fn day_of(year: i64, month: i64) -> i64 {
    let days = year.saturating_mul(365).saturating_add(year.div_euclid(4)) - year.div_euclid(100)
        + year.div_euclid(400);
    // The days of March to December before a month, and those to 1 January 1970 from 1 March 0.
    days.saturating_add((153 * (month - 3) + 2) / 5).saturating_sub(719_468)
}

/// Returns the year of a day since 1970.
fn year_of(day: i64) -> i64 {
    // 400 years have 146,097 days: near enough for the year, which the first of March corrects.
    let guess = day.saturating_mul(400).div_euclid(146_097).saturating_add(1970);
    let is_before = |year: i64| day < day_of(year, 3).saturating_sub(59 + leap(year));
    if is_before(guess) {
        guess.saturating_sub(1)
    } else if !is_before(guess.saturating_add(1)) {
        guess.saturating_add(1)
    } else {
        guess
    }
}

/// Returns 1 for a leap year, and 0 otherwise.
fn leap(year: i64) -> i64 {
    let is_leap =
        year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    i64::from(is_leap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> TradingStatus {
        let mut status = TradingStatus::default();
        status.update(&serde_json::from_str(text).unwrap());
        status
    }

    #[test]
    fn each_pause_refuses_what_the_exchange_would() {
        let status = status(
            r#"{"exchange_active": true, "trading_active": false, "exchange_index_statuses": [
                {"exchange_index": 1, "exchange_active": false, "trading_active": true,
                 "description": "", "intra_exchange_transfers_active": true},
                {"exchange_index": 2, "exchange_active": true, "trading_active": true,
                 "description": "", "intra_exchange_transfers_active": true}]}"#,
        );
        let check = |shard: i64, request| status.check(shard, request);
        assert_eq!(check(0, OrderRequest::Make), Err(Paused::Trading(0)));
        assert_eq!(check(0, OrderRequest::Cancel), Ok(()));
        assert_eq!(check(1, OrderRequest::Make), Err(Paused::Exchange(1)));
        assert_eq!(check(1, OrderRequest::Cancel), Err(Paused::Exchange(1)));
        assert_eq!(check(2, OrderRequest::Make), Ok(()));
        assert_eq!(check(3, OrderRequest::Make), Ok(()), "nothing is known of it");
    }

    #[test]
    fn before_the_first_status_everything_is_let_through() {
        let status = TradingStatus::default();
        assert_eq!(status.check(0, OrderRequest::Make), Ok(()));
    }

    #[test]
    fn the_next_maintenance_is_the_earliest_that_has_not_ended() {
        let schedule: Schedule = serde_json::from_str(
            r#"{"standard_hours": [], "maintenance_windows": [
                {"start_datetime": "2026-12-03T08:00:00Z", "end_datetime": "2026-12-03T10:00:00Z"},
                {"start_datetime": "2026-11-26T08:00:00Z", "end_datetime": "2026-11-26T10:00:00Z"}]}"#,
        )
        .unwrap();
        let hour = |text: &str| {
            let found = schedule
                .maintenance_windows
                .iter()
                .find(|row| row.start_datetime.to_rfc3339().starts_with(text));
            UnixMillis::from_millis(found.unwrap().start_datetime.timestamp_millis())
        };
        let (first, second) = (hour("2026-11-26"), hour("2026-12-03"));
        let start = |now| next_maintenance(&schedule, now).map(|(start, _)| start);
        assert_eq!(start(UnixMillis::from_millis(0)), Some(first));
        assert_eq!(start(first), Some(first), "it is going on");
        let over = first.saturating_add(std::time::Duration::from_secs(7_200));
        assert_eq!(start(over), Some(second));
        assert_eq!(start(second.saturating_add(std::time::Duration::from_secs(7_200))), None);
    }

    #[test]
    fn an_exchange_that_says_nothing_is_paused_and_one_open_shard_is_enough() {
        let mut status = status(
            r#"{"exchange_active": true, "trading_active": false,
                "exchange_estimated_resume_time": "1970-01-01T00:00:05Z",
                "exchange_index_statuses": [
                {"exchange_index": 1, "exchange_active": true, "trading_active": true,
                 "description": "", "intra_exchange_transfers_active": true}]}"#,
        );
        assert_eq!(status.resumes(), Some(UnixMillis::from_millis(5_000)));
        assert!(status.is_any_paused());
        assert_eq!(status.check_any(OrderRequest::Make), Ok(()));
        status.set_unavailable();
        assert_eq!(status.check_any(OrderRequest::Cancel), Err(Paused::Exchange(0)));
        assert_eq!(status.check(3, OrderRequest::Make), Err(Paused::Exchange(3)));
        assert_eq!(TradingStatus::default().check_any(OrderRequest::Make), Ok(()));
    }

    #[test]
    fn eastern_time_changes_with_the_seasons() {
        // Second Sunday of March and first Sunday of November, to the millisecond.
        for (change, before, after) in [
            ("2026-03-08T07:00:00Z", -5, -4),
            ("2026-11-01T06:00:00Z", -4, -5),
            ("2027-03-14T07:00:00Z", -5, -4),
            ("2024-11-03T06:00:00Z", -4, -5),
            ("2000-03-12T07:00:00Z", -5, -4),
        ] {
            let at = millis(change);
            assert_eq!(eastern_offset(at - 1), before * HOUR_MS, "{change}");
            assert_eq!(eastern_offset(at), after * HOUR_MS, "{change}");
        }
        for (day, year) in [
            ("1970-01-01T00:00:00Z", 1970),
            ("1969-12-31T00:00:00Z", 1969),
            ("2000-12-31T00:00:00Z", 2000),
            ("2024-02-29T00:00:00Z", 2024),
            ("2099-12-31T00:00:00Z", 2099),
            ("2100-01-01T00:00:00Z", 2100),
        ] {
            assert_eq!(year_of(millis(day).div_euclid(DAY_MS)), year, "{day}");
        }
    }

    fn millis(text: &str) -> i64 {
        let window = format!(
            r#"{{"standard_hours": [], "maintenance_windows": [
                {{"start_datetime": "{text}", "end_datetime": "{text}"}}]}}"#
        );
        let schedule: Schedule = serde_json::from_str(&window).unwrap();
        schedule.maintenance_windows[0].start_datetime.timestamp_millis()
    }

    #[test]
    fn the_next_opening_is_after_hours_and_maintenance() {
        let day = r#"[{"open_time": "00:00", "close_time": "24:00"}]"#;
        let thursday = r#"[{"open_time": "00:00", "close_time": "03:00"},
                           {"open_time": "05:00", "close_time": "24:00"}]"#;
        let schedule: Schedule = serde_json::from_str(&format!(
            r#"{{"standard_hours": [{{"start_time": "2026-01-01T00:00:00Z",
                "end_time": "2027-01-01T00:00:00Z", "monday": {day}, "tuesday": {day},
                "wednesday": {day}, "thursday": {thursday}, "friday": {day}, "saturday": {day},
                "sunday": []}}],
              "maintenance_windows": [{{"start_datetime": "2026-11-26T09:30:00Z",
                "end_datetime": "2026-11-26T11:30:00Z"}}]}}"#
        ))
        .unwrap();
        for (now, opens) in [
            // Wednesday: open.
            ("2026-11-25T12:00:00Z", "2026-11-25T12:00:00Z"),
            // Thursday, 03:00 Eastern in winter: the hours say 05:00, the maintenance 06:30.
            ("2026-11-26T08:00:00Z", "2026-11-26T11:30:00Z"),
            ("2026-11-26T07:59:59Z", "2026-11-26T07:59:59Z"),
            // A Thursday without maintenance, in winter and in summer.
            ("2026-12-03T08:00:00Z", "2026-12-03T10:00:00Z"),
            ("2026-07-02T07:00:00Z", "2026-07-02T09:00:00Z"),
            // Sunday has no session: midnight of Monday, over the change of the season, too.
            ("2026-11-29T12:00:00Z", "2026-11-30T05:00:00Z"),
            ("2026-03-08T05:30:00Z", "2026-03-09T04:00:00Z"),
            // No row applies.
            ("2027-06-01T07:30:00Z", "2027-06-01T07:30:00Z"),
        ] {
            let found = next_opening(&schedule, UnixMillis::from_millis(millis(now)));
            assert_eq!(found, Some(UnixMillis::from_millis(millis(opens))), "{now}");
        }
    }

    #[test]
    fn a_schedule_that_cannot_be_read_names_no_opening() {
        for time in ["", "25:00", "24:01", "3", "aa:bb"] {
            assert_eq!(clock_time(time), None, "{time:?}");
        }
        assert_eq!(clock_time("05:30:00"), Some(5 * HOUR_MS + 30 * MINUTE_MS));
        for utc in [i64::MIN, i64::MAX] {
            eastern_offset(utc);
        }
    }

    #[test]
    fn a_status_is_read_at_its_time_and_sooner_when_a_pause_is_suspected() {
        let at = UnixMillis::from_millis;
        let active: ExchangeStatus =
            serde_json::from_str(r#"{"exchange_active": true, "trading_active": true}"#).unwrap();
        let paused: ExchangeStatus = serde_json::from_str(
            r#"{"exchange_active": false, "trading_active": false,
                "exchange_estimated_resume_time": "1970-01-01T01:00:00Z"}"#,
        )
        .unwrap();
        let mut watch = PauseWatch::new(Duration::from_secs(30), at(0));
        assert_eq!(watch.begin(at(0)), Some(true));
        assert_eq!((watch.begin(at(0)), watch.next_at()), (None, None), "it is on its way");
        let schedule =
            serde_json::from_str(r#"{"standard_hours": [], "maintenance_windows": []}"#).unwrap();
        watch.take(at(100), Ok(&active), Some(schedule));
        assert_eq!(watch.next_at(), Some(at(30_100)));
        assert_eq!((watch.check(Some(0)), watch.opens(at(100))), (Ok(()), None));
        watch.suspect(at(500));
        assert_eq!(watch.next_at(), Some(at(1_000)), "not sooner than a second after the last");
        watch.suspect(at(10_000));
        assert_eq!(watch.begin(at(10_000)), Some(false));
        watch.take(at(10_000), Ok(&paused), None);
        assert_eq!(watch.next_at(), Some(at(15_000)));
        assert_eq!(watch.check(None), Err(Paused::Exchange(0)));
        assert_eq!(watch.opens(at(10_000)), Some(at(3_600_000)));
        assert_eq!(watch.opens(at(3_600_000)), None, "it has passed, and nothing else is known");
        // One that fails changes nothing, and 503 is an answer.
        watch.take(at(15_000), Err(false), None);
        watch.take(at(15_000), Ok(&active), None);
        assert_eq!(watch.check(Some(2)), Ok(()));
        watch.take(at(20_000), Err(true), None);
        assert_eq!(watch.check(Some(2)), Err(Paused::Exchange(2)));
    }
}
