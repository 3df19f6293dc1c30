//! Refuses the schemas that make no type, before progenitor panics on them.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

use super::operations;
use crate::{
    document::{At, join, object, schema_name},
    error::{Result, refuse},
    names::field_name,
};

/// The largest published document has some two hundred. typify's time grows with the square.
const MAX_SCHEMAS: usize = 2_000;
/// Schemas that a reference can lead through before there is a type. typify recurses.
const MAX_CHAIN: usize = 64;

pub(super) fn check(document: &Value) -> Result<()> {
    for (pointer, _, _, operation) in operations(document)? {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        for (index, parameter) in parameters.into_iter().flatten().enumerate() {
            if let Some(schema) = parameter.get("schema") {
                let pointer = format!("{pointer}/parameters/{index}/schema");
                check_schema(&At::start(&pointer), schema)?;
            }
        }
        if let Some(schema) = operation.get("requestBody").and_then(json_body) {
            let pointer = format!("{pointer}/requestBody/content/application~1json/schema");
            check_schema(&At::start(&pointer), schema)?;
        }
        for (code, response) in object(operation, &pointer, "responses")? {
            if let Some(schema) = json_body(response) {
                let pointer =
                    format!("{pointer}/responses/{code}/content/application~1json/schema");
                check_schema(&At::start(&pointer), schema)?;
            }
        }
    }
    let Some(schemas) = document.pointer("/components/schemas").and_then(Value::as_object) else {
        return Ok(());
    };
    if schemas.len() > MAX_SCHEMAS {
        refuse!("/components/schemas", "more than {MAX_SCHEMAS} schemas");
    }
    let root = At::start("/components/schemas");
    for (name, schema) in schemas {
        check_schema(&root.below(name), schema)?;
    }
    check_chains(schemas)
}

fn json_body(holder: &Value) -> Option<&Value> {
    holder.pointer("/content/application~1json/schema")
}

fn check_schema(at: &At<'_>, schema: &Value) -> Result<()> {
    let Some(map) = schema.as_object() else { refuse!(at.pointer(), "a schema must be a mapping") };
    for (key, value) in map {
        let at = at.below(key);
        match (key.as_str(), value) {
            ("$ref", Value::String(reference))
                if schema_name(reference).is_none_or(|name| name.contains(['/', '%', '~'])) =>
            {
                refuse!(at.pointer(), "`{reference}` is no schema of `#/components/schemas`");
            }
            ("type", Value::String(name)) => {
                let types = ["array", "boolean", "integer", "number", "object", "string"];
                if !types.contains(&name.as_str()) {
                    refuse!(at.pointer(), "the type `{name}` is unknown");
                }
            }
            ("$ref" | "type" | "format" | "description", value) if !value.is_string() => {
                refuse!(at.pointer(), "must be text")
            }
            ("nullable" | "deprecated" | "readOnly" | "writeOnly", value)
                if !value.is_boolean() =>
            {
                refuse!(at.pointer(), "must be `true` or `false`");
            }
            ("required", value) => {
                let names = value.as_array().filter(|names| names.iter().all(Value::is_string));
                if names.is_none() {
                    refuse!(at.pointer(), "must be a list of names");
                }
            }
            ("properties", Value::Object(properties)) => {
                check_properties(&at, properties)?;
                // typify gathers the other fields in one of this name.
                let open = map.get("additionalProperties").is_some_and(|more| *more != false);
                if open && properties.contains_key("extra") {
                    refuse!(
                        at.below("extra").pointer(),
                        "the other fields would be called `extra` too"
                    );
                }
            }
            ("properties", _) => refuse!(at.pointer(), "must be a mapping"),
            ("additionalProperties", Value::Bool(_)) => {}
            ("items" | "additionalProperties", inner) => check_schema(&at, inner)?,
            ("allOf" | "anyOf" | "oneOf", Value::Array(parts)) if !parts.is_empty() => {
                for (index, part) in parts.iter().enumerate() {
                    check_schema(&at.item(index), part)?;
                }
            }
            ("allOf" | "anyOf" | "oneOf", _) => refuse!(at.pointer(), "must be a list of schemas"),
            ("not", _) => refuse!(at.pointer(), "`not` makes no type"),
            _ => {}
        }
    }
    Ok(())
}

fn check_properties(at: &At<'_>, properties: &Map<String, Value>) -> Result<()> {
    // Names in the exchange's own spelling cannot collide: each is its field.
    if !properties.keys().all(|name| is_plain(name)) {
        let mut fields = BTreeMap::new();
        for name in properties.keys() {
            if let Some(first) = fields.insert(field_name(name), name) {
                let field = field_name(name);
                refuse!(
                    at.below(name).pointer(),
                    "`{first}` and `{name}` would both be the field `{field}`"
                );
            }
        }
    }
    properties.iter().try_for_each(|(name, schema)| check_schema(&at.below(name), schema))
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.contains("__")
        && !name.ends_with('_')
}

/// Refuses schemas that are made of themselves (`allOf` of each other, references in a ring), and
/// chains that are longer than anybody writes: typify follows both without an end.
fn check_chains(schemas: &Map<String, Value>) -> Result<()> {
    let mut made_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut makes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, schema) in schemas {
        let mut parts = Vec::new();
        direct(schema, &mut parts);
        for part in &parts {
            makes.entry(*part).or_default().push(name);
        }
        made_of.insert(name, parts);
    }
    // From the schemas that are made of no other upwards; those of a ring are never reached.
    let mut open: BTreeMap<&str, usize> =
        made_of.iter().map(|(n, parts)| (*n, parts.len())).collect();
    let mut length: BTreeMap<&str, usize> = BTreeMap::new();
    let mut next: VecDeque<&str> =
        open.iter().filter(|(_, parts)| **parts == 0).map(|(name, _)| *name).collect();
    while let Some(part) = next.pop_front() {
        let through = length.get(part).copied().unwrap_or(0) + 1;
        for whole in makes.get(part).into_iter().flatten() {
            let longest = length.entry(whole).or_default();
            *longest = through.max(*longest);
            if *longest > MAX_CHAIN {
                refuse!(
                    join("/components/schemas", whole),
                    "more than {MAX_CHAIN} schemas in a chain"
                );
            }
            if let Some(parts) = open.get_mut(whole) {
                *parts -= 1;
                if *parts == 0 {
                    next.push_back(whole);
                }
            }
        }
    }
    match open.into_iter().find(|(_, parts)| *parts > 0) {
        Some((name, _)) => {
            refuse!(
                join("/components/schemas", name),
                "`{name}` is made of itself: references run in a ring"
            )
        }
        None => Ok(()),
    }
}

/// Returns the schemas that stand in a schema's own place, not in that of a field or element.
fn direct<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
    found.extend(schema.get("$ref").and_then(Value::as_str).and_then(schema_name));
    for list in ["allOf", "anyOf", "oneOf"] {
        for part in schema.get(list).and_then(Value::as_array).into_iter().flatten() {
            direct(part, found);
        }
    }
}
