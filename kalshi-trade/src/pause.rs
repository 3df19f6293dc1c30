//! Pauses of trading and of the exchange, shard by shard.
//!
//! In a pause of trading (weekly) orders can be canceled but neither made nor amended; in a pause of
//! the exchange nothing can be done. A request that is refused here costs no tokens and no time;
//! one that is let through may still be refused, because a pause began meanwhile.

use std::collections::BTreeMap;

use kalshi_sdk::types::{ExchangeStatus, Schedule};
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
}

impl TradingStatus {
    /// Takes over a status. The top level of an answer is that of shard 0.
    pub fn update(&mut self, status: &ExchangeStatus) {
        let top = Shard {
            exchange_active: status.exchange_active,
            trading_active: status.trading_active,
        };
        self.shards.clear();
        self.shards.insert(0, top);
        for row in &status.exchange_index_statuses {
            let shard =
                Shard { exchange_active: row.exchange_active, trading_active: row.trading_active };
            self.shards.insert(*row.exchange_index, shard);
        }
    }

    /// Reports whether a request to a shard would be accepted. One to a shard of which nothing is
    /// known is let through: the exchange decides.
    ///
    /// # Errors
    ///
    /// [`Paused`] names the pause.
    pub fn check(&self, exchange_index: i64, request: OrderRequest) -> Result<(), Paused> {
        match (self.shards.get(&exchange_index), request) {
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
}
