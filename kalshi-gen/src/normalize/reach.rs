//! Which schemas operations reach, and which requests do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::operations;
use crate::{
    document::{is_nested, schema_name},
    error::Result,
};

/// Drops what no operation reaches and returns the names of the schemas among it: a type that
/// nothing carries would be dead API. Error responses count, although no types of success do.
pub(super) fn drop_unreached(document: &mut Value) -> Vec<String> {
    let Some(paths) = document.get("paths") else { return Vec::new() };
    let reached = reached(document, vec![paths]);
    let mut unreached = Vec::new();
    let components = document.get_mut("components").and_then(Value::as_object_mut);
    for (section, parts) in components.into_iter().flatten() {
        if section == "securitySchemes" {
            continue;
        }
        let Some(parts) = parts.as_object_mut() else { continue };
        let names = reached.get(section.as_str());
        parts.retain(|name, _| {
            let kept = names.is_some_and(|names| names.contains(name));
            if !kept && section == "schemas" {
                unreached.push(name.clone());
            }
            kept
        });
    }
    unreached.sort();
    unreached
}

/// Returns the parts of `components` that these values refer to, and those that they refer to in
/// turn: the names, by section.
fn reached<'a>(
    document: &'a Value,
    mut from: Vec<&'a Value>,
) -> BTreeMap<String, BTreeSet<String>> {
    let components = document.get("components");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // A stack of its own: a long chain of references must not fill the program's.
    while let Some(value) = from.pop() {
        match value {
            Value::Object(map) => {
                let reference = map.get("$ref").and_then(Value::as_str);
                let steps = reference.and_then(|r| r.strip_prefix("#/components/"));
                if let Some((section, rest)) = steps.and_then(|steps| steps.split_once('/')) {
                    // `#/components/schemas/A/items` needs `A`.
                    let name = rest.split('/').next().unwrap_or(rest);
                    let name = name.replace("~1", "/").replace("~0", "~");
                    let part = components.and_then(|c| c.get(section)?.get(&name));
                    if found.entry(section.to_owned()).or_default().insert(name) {
                        from.extend(part);
                    }
                }
                from.extend(map.values().filter(|value| is_nested(value)));
            }
            Value::Array(items) => from.extend(items.iter().filter(|value| is_nested(value))),
            _ => {}
        }
    }
    found
}

/// Returns the schemas that a request body can hold, at any depth.
pub(crate) fn request_schemas(document: &Value) -> Result<BTreeSet<String>> {
    let bodies = operations(document)?.into_iter().filter_map(|(.., op)| op.get("requestBody"));
    Ok(reachable(document, bodies.collect()))
}

/// Returns the schemas that these values refer to, and those that they refer to in turn.
pub(crate) fn reachable<'a>(document: &'a Value, mut from: Vec<&'a Value>) -> BTreeSet<String> {
    let schemas = document.pointer("/components/schemas");
    let mut found = BTreeSet::new();
    // A stack of its own: a long chain of references must not fill the program's.
    while let Some(value) = from.pop() {
        match value {
            Value::Object(map) => {
                if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(schema_name)
                    && found.insert(name.to_owned())
                {
                    from.extend(schemas.and_then(|schemas| schemas.get(name)));
                }
                from.extend(map.values());
            }
            Value::Array(items) => from.extend(items),
            _ => {}
        }
    }
    found
}
