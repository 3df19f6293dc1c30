//! What operations cost. The limits themselves are in `usage`.

use kalshi_sdk::{OPERATIONS, operation::Bucket};
use serde_json::{Value, json};

use crate::{
    reply::{Outcome, Reply},
    state::{Call, State},
};

pub(crate) fn handle(_: &mut State, call: &Call<'_>) -> Outcome {
    match call.operation.id {
        "get_account_endpoint_costs" => Ok(endpoint_costs()),
        other => Err(Reply::not_implemented(other)),
    }
}

/// The costs of the operation table that are not the default.
fn endpoint_costs() -> Reply {
    let rows: Vec<Value> = OPERATIONS
        .iter()
        .filter(|operation| operation.cost.tokens != 10 && operation.cost.bucket != Bucket::Own)
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
