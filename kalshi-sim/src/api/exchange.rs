//! Status and schedule of the exchange.

use chrono::{DateTime, Duration, Utc};
use kalshi_types::UnixMillis;
use serde_json::{Value, json};

use crate::{engine::SHARDS, http::response::Response, state::State};

/// Returns the status of the exchange, taken from its default shard.
pub(crate) fn status(state: &State) -> Response {
    let shards: Vec<Value> = SHARDS
        .iter()
        .map(|(index, description)| {
            let shard = state.engine.shard(*index);
            json!({
                "exchange_index": index,
                "description": description,
                "exchange_active": shard.exchange_active,
                "trading_active": shard.exchange_active && shard.trading_active,
                "intra_exchange_transfers_active": shard.exchange_active,
            })
        })
        .collect();
    let first = state.engine.shard(0);
    Response::ok(json!({
        "exchange_active": first.exchange_active,
        "trading_active": first.exchange_active && first.trading_active,
        "intra_exchange_transfers_active": first.exchange_active,
        "exchange_index_statuses": shards,
    }))
}

/// Returns the schedule: open around the clock except for maintenance, Thursday 03:00 to 05:00
/// Eastern.
pub(crate) fn schedule(now: DateTime<Utc>) -> Response {
    let all_day = json!([{"open_time": "00:00", "close_time": "24:00"}]);
    let thursday = json!([
        {"open_time": "00:00", "close_time": "03:00"},
        {"open_time": "05:00", "close_time": "24:00"},
    ]);
    let midnight = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    Response::ok(json!({"schedule": {
        "standard_hours": [{
            "start_time": midnight - Duration::days(365),
            "end_time": midnight + Duration::days(365),
            "monday": all_day,
            "tuesday": all_day,
            "wednesday": all_day,
            "thursday": thursday,
            "friday": all_day,
            "saturday": all_day,
            "sunday": all_day,
        }],
        "maintenance_windows": [],
    }}))
}

/// Returns how far the reads of the portfolio are: everything that happened up to this time is
/// readable.
pub(crate) fn user_data_timestamp(state: &State, now: DateTime<Utc>) -> Response {
    let as_of = state.as_of().and_then(UnixMillis::to_datetime);
    Response::ok(json!({"as_of_time": as_of.unwrap_or(now)}))
}
