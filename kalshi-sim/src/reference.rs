//! What hardly changes: exchange status and schedule, token costs.

use chrono::{DateTime, Duration, Utc};
use kalshi_sdk::OPERATIONS;
use serde_json::{Value, json};

use crate::reply::Reply;

pub(crate) fn status() -> Reply {
    let shard = |index: i64, description: &str| {
        json!({
            "exchange_index": index,
            "description": description,
            "exchange_active": true,
            "trading_active": true,
            "intra_exchange_transfers_active": true,
        })
    };
    Reply::ok(json!({
        "exchange_active": true,
        "trading_active": true,
        "intra_exchange_transfers_active": true,
        "exchange_index_statuses": [
            shard(0, "default"),
            shard(1, "combos"),
            shard(2, "crypto"),
            shard(3, "tennis and baseball"),
        ],
    }))
}

/// Open around the clock but for the weekly maintenance, Thursday 03:00 to 05:00 Eastern.
pub(crate) fn schedule(now: DateTime<Utc>) -> Reply {
    let all_day = json!([{"open_time": "00:00", "close_time": "24:00"}]);
    let thursday = json!([
        {"open_time": "00:00", "close_time": "03:00"},
        {"open_time": "05:00", "close_time": "24:00"},
    ]);
    let midnight = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    Reply::ok(json!({"schedule": {
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

pub(crate) fn user_data_timestamp(now: DateTime<Utc>) -> Reply {
    Reply::ok(json!({"as_of_time": now}))
}

/// The costs of the operation table that are not the default.
pub(crate) fn endpoint_costs() -> Reply {
    let rows: Vec<Value> = OPERATIONS
        .iter()
        .filter(|operation| operation.cost.tokens != 10)
        .map(|operation| {
            json!({
                "method": operation.method.as_str(),
                "path": format!("{}{}", crate::BASE_PATH, operation.path),
                "cost": operation.cost.tokens,
            })
        })
        .collect();
    Reply::ok(json!({"default_cost": 10, "endpoint_costs": rows}))
}
