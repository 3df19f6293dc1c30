//! The account's limits, and what operations cost.

use kalshi_sdk::OPERATIONS;
use serde_json::{Value, json};

use crate::{
    reply::{Outcome, Reply},
    state::{Call, State},
};

pub(crate) fn handle(_: &mut State, call: &Call<'_>) -> Outcome {
    match call.operation.id {
        "get_account_api_limits" => Ok(limits()),
        "get_account_endpoint_costs" => Ok(endpoint_costs()),
        other => Err(Reply::not_implemented(other)),
    }
}

/// The limits of the basic tier, as documented in August 2026.
fn limits() -> Reply {
    Reply::ok(json!({
        "usage_tier": "basic",
        "read": {"refill_rate": 200, "bucket_capacity": 400},
        "write": {"refill_rate": 100, "bucket_capacity": 100},
        "grants": [],
    }))
}

/// The costs of the operation table that are not the default.
fn endpoint_costs() -> Reply {
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
