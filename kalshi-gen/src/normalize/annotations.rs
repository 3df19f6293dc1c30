//! Drops what no code comes from, and what the server checks by itself.

use serde_json::{Value, json};

use crate::{document::walk, error::Result};

/// Drops what no code comes from. Our own extensions stay.
///
/// A title goes too: typify would name a type after it.
pub(super) fn strip_annotations(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            return Ok(());
        }
        let before = map.len();
        map.retain(|key, _| match key.as_str() {
            "callbacks" | "discriminator" | "example" | "examples" | "externalDocs" | "headers"
            | "links" | "xml" => false,
            "title" => at.is_key("info"),
            "x-enum-descriptions" => true,
            key => !key.starts_with("x-") || key.starts_with("x-kalshi-"),
        });
        fired += before - map.len();
        Ok(())
    })?;
    Ok(fired)
}

/// Drops bounds, patterns and defaults.
///
/// Bounds would turn into types that refuse a response the server really sent, and defaults would
/// be sent with each request: an omitted `subaccount` means something else than `0` for a bound
/// key, and the exchange changes its defaults.
pub(super) fn drop_bounds(document: &mut Value) -> Result<usize> {
    const BOUNDS: [&str; 13] = [
        "default",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maximum",
        "maxItems",
        "maxLength",
        "maxProperties",
        "minimum",
        "minItems",
        "minLength",
        "minProperties",
        "multipleOf",
        "uniqueItems",
    ];
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            return Ok(());
        }
        let before = map.len();
        map.retain(|key, value| {
            key != "pattern"
                && !BOUNDS.contains(&key.as_str())
                // Closed objects would refuse the fields that the exchange adds.
                && !(key == "additionalProperties" && *value == false)
        });
        // Integers become i64 (or i32): an unsigned type would refuse a negative count or balance.
        if map.get("type").and_then(Value::as_str) == Some("integer")
            && map
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format != "int32" && !format.starts_with("kalshi-"))
        {
            map.insert("format".to_owned(), json!("int64"));
        }
        fired += before - map.len();
        Ok(())
    })?;
    Ok(fired)
}
