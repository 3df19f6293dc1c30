//! Formats by allow-list: a suffix does not tell seconds from milliseconds, nor a list joined by
//! commas from one word. An entry that matches nothing in openapi.yaml fails a test.

use serde_json::{Value, json};

use super::{each_operation, operation_id};
use crate::{document::walk, error::Result};

/// The format that makes a parameter a list joined by commas.
pub(crate) const COMMA_LIST: &str = "kalshi-comma-list";

/// The format that keeps a text out of `Debug`, logs and errors.
pub(crate) const SECRET: &str = "kalshi-secret";

/// The format that makes an integer a time in whole seconds.
pub(crate) const UNIX_SECONDS: &str = "kalshi-unix-seconds";

/// The format that makes an integer a time in milliseconds.
pub(crate) const UNIX_MILLIS: &str = "kalshi-unix-millis";

/// The format that makes an integer an amount of money in hundredths of a cent.
pub(crate) const CENTI_CENTS: &str = "kalshi-centi-cents";

/// The format that makes an integer a number of contracts in hundredths.
pub(crate) const CENTI_COUNT: &str = "kalshi-centi-count";

/// The format that makes a number, or a text, an exact decimal.
pub(crate) const DECIMAL: &str = "kalshi-decimal";

/// Query parameters that are typed as text and hold a list joined by commas: (operation, name).
/// `*` stands for every operation.
const COMMA_LISTS: [(&str, &str); 8] = [
    ("BatchGetMarketCandlesticks", "market_tickers"),
    ("GetEvents", "tickers"),
    ("GetFcmOrders", "client_order_ids"),
    ("GetFills", "ticker"),
    ("GetHistoricalMarkets", "tickers"),
    ("GetMarkets", "tickers"),
    ("GetOrderQueuePositions", "market_tickers"),
    ("GetOrders", "event_ticker"),
];

/// Integer fields and parameters that hold unix seconds. The suffix does not tell: some `_ts` are
/// milliseconds or RFC 3339 text.
const SECONDS: [&str; 22] = [
    "adjusted_end_ts",
    "api_key_region_expiration_ts",
    "computed_ts",
    "created_ts",
    "end_period_ts",
    "end_ts",
    "expiration_time",
    "expires_ts",
    "finalized_ts",
    "max_close_ts",
    "max_created_ts",
    "max_settled_ts",
    "max_ts",
    "max_updated_ts",
    "min_close_ts",
    "min_created_ts",
    "min_settled_ts",
    "min_ts",
    "min_updated_ts",
    "start_ts",
    "ts",
    "updated_ts",
];

/// Query parameters that hold unix milliseconds under a name that does not say so: (operation,
/// name).
const MILLIS_PARAMETERS: [(&str, &str); 2] =
    [("GetWeatherIndex", "from"), ("GetWeatherIndex", "to")];

/// Integer fields and parameters that hold unix milliseconds.
const MILLIS: [&str; 7] = [
    "calibration_window_end_ms",
    "calibration_window_start_ms",
    "effective_at_ms",
    "obs_time_ms",
    "published_at_ms",
    "received_at_ms",
    "ts_ms",
];

/// Returns the format of an integer that is a time, by the name of its field or parameter.
pub(crate) fn unix_time(name: &str) -> Option<&'static str> {
    if SECONDS.contains(&name) {
        Some(UNIX_SECONDS)
    } else if MILLIS.contains(&name) {
        Some(UNIX_MILLIS)
    } else {
        None
    }
}

/// Sets our formats by allow-list, and drops `uuid`: an id is text that must survive unharmed.
pub(super) fn set(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    let mut time = |name: &str, schema: &mut Value| {
        let Some(format) = unix_time(name) else { return };
        if schema.get("type").and_then(Value::as_str) == Some("integer") {
            schema["format"] = json!(format);
            fired += 1;
        }
    };
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            for (name, schema) in map.iter_mut() {
                time(name, schema);
            }
        } else if let Some(name) = map.get("name").and_then(Value::as_str)
            && map.contains_key("in")
        {
            let name = name.to_owned();
            if let Some(schema) = map.get_mut("schema") {
                time(&name, schema);
            }
        }
        Ok(())
    })?;
    walk(document, "", &mut |at, map| {
        if !at.holds_names() && map.get("format").and_then(Value::as_str) == Some("uuid") {
            map.remove("format");
            fired += 1;
        }
        Ok(())
    })?;
    // Rates, factors and strikes: every number is exact, whatever the document says of its width.
    walk(document, "", &mut |at, map| {
        let is_number = map.get("type").and_then(Value::as_str) == Some("number");
        if !at.holds_names() && is_number && !map.contains_key("enum") {
            map.insert("format".to_owned(), json!(DECIMAL));
            // With a bound, a number is not recognized as one of this format; responses check none.
            for bound in
                ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]
            {
                map.remove(bound);
            }
            fired += 1;
        }
        Ok(())
    })?;
    each_operation(document, |_, _, operation| {
        let id = operation_id(operation).to_owned();
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            let key = (id.as_str(), name.as_str());
            let (ty, format) = if COMMA_LISTS.contains(&key) {
                ("string", COMMA_LIST)
            } else if MILLIS_PARAMETERS.contains(&key) {
                ("integer", UNIX_MILLIS)
            } else {
                continue;
            };
            if parameter.pointer("/schema/type").and_then(Value::as_str) == Some(ty) {
                parameter["schema"]["format"] = json!(format);
                fired += 1;
            }
        }
        Ok(())
    })?;
    Ok(fired)
}

#[cfg(feature = "review")]
/// Returns the integer fields that are named like a time and have no unit: (JSON pointer, name).
pub(crate) fn without_unit(document: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut schemas = document.pointer("/components/schemas").cloned().unwrap_or_default();
    let _ = walk(&mut schemas, "/components/schemas", &mut |at, map| {
        if at.is_key("properties") && at.holds_names() {
            for (name, schema) in map.iter().filter(|(name, _)| looks_like_a_time(name)) {
                let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
                if schema.get("type").is_some_and(|ty| ty == "integer")
                    && ![UNIX_SECONDS, UNIX_MILLIS].contains(&format)
                {
                    found.push((at.below(name).pointer(), name.clone()));
                }
            }
        }
        Ok(())
    });
    found
}

#[cfg(any(test, feature = "review"))]
fn looks_like_a_time(name: &str) -> bool {
    name == "ts"
        || name.contains("_ts_")
        || ["_ts", "_ms", "_time"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Map;

    use super::*;
    use crate::document::parse;

    /// Fields and parameters that end like a time and are none, with the reason.
    const NO_TIME: [(&str, &str); 0] = [];

    /// Returns every integer of openapi.yaml with a name: fields, and parameters with their
    /// operation.
    fn integers() -> BTreeSet<(Option<String>, String)> {
        fn fields(value: &Value, found: &mut BTreeSet<(Option<String>, String)>) {
            match value {
                Value::Object(map) => {
                    let named: Option<&Map<String, Value>> =
                        map.get("properties").and_then(Value::as_object);
                    for (name, schema) in named.into_iter().flatten() {
                        if schema["type"] == "integer" {
                            found.insert((None, name.clone()));
                        }
                    }
                    map.values().for_each(|value| fields(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| fields(value, found)),
                _ => {}
            }
        }
        let mut found = BTreeSet::new();
        fields(&document(), &mut found);
        found.extend(parameters("integer").into_iter().map(|(id, name)| (Some(id), name)));
        found
    }

    fn document() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi.yaml");
        let mut document = parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        super::super::reach::drop_unreached(&mut document);
        document
    }

    /// Returns (operation, name) of the parameters of one type.
    fn parameters(ty: &str) -> Vec<(String, String)> {
        let document = document();
        let mut found = Vec::new();
        for (.., operation) in super::super::operations(&document).unwrap() {
            for parameter in
                operation.get("parameters").and_then(Value::as_array).into_iter().flatten()
            {
                let parameter = crate::document::resolve(&document, parameter, "").unwrap();
                if parameter["schema"]["type"] == ty {
                    let id = crate::names::type_name(operation_id(operation)).unwrap();
                    found.push((id, parameter["name"].as_str().unwrap().to_owned()));
                }
            }
        }
        found
    }

    #[test]
    fn every_entry_of_the_allow_lists_matches_something() {
        let integers = integers();
        for name in SECONDS.iter().chain(&MILLIS) {
            assert!(integers.iter().any(|(_, other)| other == name), "`{name}` is stale");
        }
        for (list, ty) in [(&COMMA_LISTS[..], "string"), (&MILLIS_PARAMETERS[..], "integer")] {
            let parameters = parameters(ty);
            for (id, name) in list {
                let found = parameters.iter().any(|(i, n)| i == id && n == name);
                assert!(found, "`{id}` `{name}` is stale");
            }
        }
    }

    #[test]
    fn no_integer_that_is_named_like_a_time_is_left_without_a_unit() {
        for (id, name) in integers() {
            let like_a_time = looks_like_a_time(&name);
            let has_unit = SECONDS.contains(&name.as_str())
                || MILLIS.contains(&name.as_str())
                || id.is_some_and(|id| MILLIS_PARAMETERS.contains(&(id.as_str(), &name)));
            let excused = NO_TIME.iter().any(|(other, _)| *other == name);
            assert!(!like_a_time || has_unit || excused, "`{name}` has no unit");
        }
    }

    #[test]
    fn the_allow_lists_are_sorted_and_share_nothing() {
        assert!(SECONDS.is_sorted() && MILLIS.is_sorted());
        assert!(COMMA_LISTS.is_sorted() && MILLIS_PARAMETERS.is_sorted());
        assert!(SECONDS.iter().all(|name| !MILLIS.contains(name)));
    }
}
