//! Null: the ways in which documents say that a value may be null, and where null is an empty list.

use serde_json::{Map, Value, json};

use super::request_schemas;
use crate::{
    document::{At, walk},
    error::{Result, refuse},
};

/// Rewrites what JSON Schema says in ways that `OpenAPI` 3.0 does not have: a list of types with
/// `"null"`, a part that is only null, and `const`.
pub(crate) fn fold_json_schema(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if !at.holds_names() {
            fired += usize::from(fold_types(at, map)?);
            fired += usize::from(fold_parts(map));
            fired += usize::from(fold_const(map));
        }
        Ok(())
    })?;
    Ok(fired)
}

/// Turns `type: [string, "null"]` into `type: string, nullable: true`.
fn fold_types(at: &At<'_>, map: &mut Map<String, Value>) -> Result<bool> {
    let Some(Value::Array(list)) = map.get("type") else { return Ok(false) };
    let mut types: Vec<&str> = Vec::new();
    for name in list {
        let Some(name) = name.as_str() else {
            refuse!(at.below("type").pointer(), "a list of types must hold names")
        };
        if !types.contains(&name) {
            types.push(name);
        }
    }
    let nullable = types.contains(&"null");
    types.retain(|name| *name != "null");
    let one = match types.as_slice() {
        [one] => (*one).to_owned(),
        ["integer", "number"] | ["number", "integer"] => "number".to_owned(),
        [] => refuse!(at.below("type").pointer(), "a list of types needs one beside `null`"),
        several => {
            refuse!(at.below("type").pointer(), "`{}` make no single type", several.join("`, `"))
        }
    };
    map.insert("type".to_owned(), one.into());
    if nullable {
        map.insert("nullable".to_owned(), true.into());
    }
    Ok(true)
}

/// Turns `anyOf: [{$ref: A}, {type: "null"}]` into `allOf: [{$ref: A}], nullable: true`.
fn fold_parts(map: &mut Map<String, Value>) -> bool {
    let is_null = |part: &Value| part.get("type").is_some_and(|name| name == "null");
    let mut folded = false;
    for word in ["anyOf", "oneOf"] {
        let Some(Value::Array(parts)) = map.get_mut(word) else { continue };
        if parts.iter().all(is_null) || !parts.iter().any(is_null) {
            continue;
        }
        parts.retain(|part| !is_null(part));
        if parts.len() == 1 && !map.contains_key("allOf") {
            let only = map.remove(word).unwrap_or_default();
            map.insert("allOf".to_owned(), only);
        }
        map.insert("nullable".to_owned(), true.into());
        folded = true;
    }
    folded
}

/// Turns `const: x` into an enum of one value.
fn fold_const(map: &mut Map<String, Value>) -> bool {
    let Some(value) = map.remove("const") else { return false };
    map.entry("enum").or_insert_with(|| json!([value]));
    true
}

/// Drops `nullable` from the lists and maps of responses: null decodes as empty (see `refine`),
/// because the server does send null for an empty list.
pub(super) fn drop_list_nullability(document: &mut Value) -> Result<usize> {
    let requests = request_schemas(document)?;
    let mut fired = 0;
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        if requests.contains(name) {
            continue;
        }
        walk(schema, "", &mut |at, map| {
            let list = match map.get("type").and_then(Value::as_str) {
                Some("array") => true,
                Some("object") => !map.contains_key("properties"),
                _ => false,
            };
            // An element that is null is not an empty list.
            if list && !at.is_key("items") && map.remove("nullable").is_some() {
                fired += 1;
            }
            Ok(())
        })?;
    }
    Ok(fired)
}

/// Lists and maps that a request may leave out become nullable: an empty list says something else
/// than no list. A new key with no scopes must not get all of them because the list was left out.
pub(super) fn keep_empty_lists(document: &mut Value) -> Result<usize> {
    let requests = request_schemas(document)?;
    let mut fired = 0;
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        if !requests.contains(name) {
            continue;
        }
        walk(schema, "", &mut |_, map| {
            let required = map.get("required").and_then(Value::as_array).cloned();
            let properties = map.get_mut("properties").and_then(Value::as_object_mut);
            for (field, property) in properties.into_iter().flatten() {
                let optional = !required.iter().flatten().any(|name| name == field);
                if optional
                    && property.get("type").and_then(Value::as_str) == Some("array")
                    && property.get("nullable") != Some(&Value::Bool(true))
                {
                    property["nullable"] = Value::Bool(true);
                    fired += 1;
                }
            }
            Ok(())
        })?;
    }
    Ok(fired)
}

/// Turns `$ref` with anything beside it into `allOf`: openapiv3 drops the siblings, and a required
/// field with a nullable reference would then fail on null.
pub(super) fn wrap_references(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if map.len() > 1 && map.get("$ref").is_some_and(Value::is_string) && !at.holds_names() {
            if let Some(reference) = map.remove("$ref") {
                map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
            }
            fired += 1;
        }
        Ok(())
    })?;
    Ok(fired)
}
