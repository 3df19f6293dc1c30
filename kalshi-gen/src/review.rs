//! The files under review: a change of the document as a few lines instead of a few hundred.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::{
    Generated,
    document::{join, schema_name},
    merge::merged,
    operations::OperationModel,
};

/// `operations.txt` and `types.txt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// One block for each operation: method, path, id, access, parameters, body, success.
    pub operations: String,
    /// One block for each type: its fields or its values.
    pub types: String,
}

pub(crate) fn review(generated: &Generated) -> Review {
    Review { operations: operations(&generated.operations), types: types(generated) }
}

const HEADER: &str = "# Made by `cargo gen update`; do not edit.\n";

fn operations(models: &[OperationModel]) -> String {
    let mut out = HEADER.to_owned();
    for model in models {
        let access = model.access_text();
        let deprecated = if model.deprecated { " deprecated" } else { "" };
        let reads = if model.reads && model.method != "GET" { " reads" } else { "" };
        let _ = writeln!(
            out,
            "\n{} {} {} [{}] {access}{reads}{deprecated}",
            model.method, model.path, model.id, model.tag
        );
        for parameter in &model.parameters {
            let place = if parameter.in_path { "path" } else { "query" };
            let mark = if parameter.required { "*" } else { "" };
            let deprecated = if parameter.deprecated { " deprecated" } else { "" };
            let _ =
                writeln!(out, "  {place} {}{mark}: {}{deprecated}", parameter.name, parameter.kind);
        }
        if let Some((body, required)) = &model.body {
            let _ = writeln!(out, "  body{}: {body}", if *required { "*" } else { "" });
        }
        let response = model.response.as_deref().unwrap_or("nothing");
        let _ = writeln!(out, "  {}: {response}", model.success);
        if let Some(list) = &model.pagination {
            let row = list.item.as_deref().unwrap_or("String");
            let _ = writeln!(out, "  rows: {} of {row}, next page in {}", list.items, list.cursor);
        }
    }
    out
}

fn types(generated: &Generated) -> String {
    let mut out = HEADER.to_owned();
    let normalized = &generated.normalized;
    if !normalized.unreached.is_empty() {
        let _ = writeln!(out, "\n# Nothing reaches these schemas, so they make no types:");
        for name in &normalized.unreached {
            let _ = writeln!(out, "#   {name}");
        }
    }
    let schemas = normalized.document.pointer("/components/schemas").and_then(Value::as_object);
    for (name, schema) in schemas.into_iter().flatten() {
        if let Some(open) = normalized.enums.iter().find(|open| open.name == *name) {
            let _ = writeln!(out, "\nenum {name}");
            for value in &open.values {
                let _ = writeln!(out, "  {} = {:?}", value.variant, value.wire);
            }
            continue;
        }
        // What no object can be made of, for instance of requests, is shown by its parts.
        let whole = merged(&normalized.document, schema, &join("/components/schemas", name));
        let whole = whole.as_deref().unwrap_or(schema);
        let Some(map) = whole.as_object() else { continue };
        if map.contains_key("properties") {
            let _ = writeln!(out, "\nstruct {name}");
            fields(
                map,
                1,
                &|field| normalized.labels.contains_key(&(name.clone(), field.into())),
                &mut out,
            );
        } else {
            let _ = writeln!(out, "\ntype {name} = {}", shape(schema));
        }
    }
    out
}

/// Returns the fields of a mapping; `*` marks the required, `~` the labels, which read as nothing where they
/// are absent or null, `?` those that may be null.
fn fields(
    map: &Map<String, Value>,
    depth: usize,
    is_label: &dyn Fn(&str) -> bool,
    out: &mut String,
) {
    let required = map.get("required").and_then(Value::as_array);
    for (name, field) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let must = required.is_some_and(|names| names.iter().any(|n| n == name));
        let mark = match (is_label(name), must) {
            (true, _) => "~",
            (false, true) => "*",
            (false, false) => "",
        };
        let null = if field["nullable"] == true { "?" } else { "" };
        let deprecated = if field["deprecated"] == true { " deprecated" } else { "" };
        let indent = "  ".repeat(depth);
        let _ = writeln!(out, "{indent}{name}{mark}: {}{null}{deprecated}", shape(field));
        let inner = if field["type"] == "array" { &field["items"] } else { field };
        if let Some(inner) = inner.as_object() {
            // Objects inside others have names of their own; what is left has no labels.
            fields(inner, depth + 1, &|_| false, out);
        }
    }
}

fn shape(schema: &Value) -> String {
    let reference = match schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => only.get("$ref"),
        Some(parts) => return parts.iter().map(shape).collect::<Vec<_>>().join(" and "),
        None => schema.get("$ref"),
    };
    if let Some(name) = reference.and_then(Value::as_str).and_then(schema_name) {
        return name.to_owned();
    }
    let format = schema.get("format").and_then(Value::as_str);
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => format!("[{}]", shape(&schema["items"])),
        Some("object") => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => format!("map of {}", shape(values)),
            _ if schema.get("properties").is_some() => "object".to_owned(),
            _ => "any object".to_owned(),
        },
        Some(name) => format.map_or_else(|| name.to_owned(), |format| format!("{name} {format}")),
        None => "anything".to_owned(),
    }
}
