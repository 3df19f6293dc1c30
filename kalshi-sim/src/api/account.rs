//! The costs of operations. The limits themselves are in `usage`.

use kalshi_sdk::{OPERATIONS, operation::Bucket};
use serde_json::{Value, json};

use crate::http::response::Response;

/// Returns the costs of the operation table that are not the default.
pub(crate) fn endpoint_costs() -> Response {
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
    Response::ok(json!({"default_cost": 10, "endpoint_costs": rows}))
}
