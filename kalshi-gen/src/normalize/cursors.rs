//! Cursors: opaque marks, whatever type a document gives them.

use serde_json::{Map, Value};

use super::operations;
use crate::{
    document::{join, resolve, schema_name},
    error::{Result, refuse},
};

/// The names that a response has for the cursor of the next page.
pub(crate) const OF_RESPONSES: [&str; 2] = ["cursor", "next_cursor"];

/// The extension of a field whose text may arrive as another scalar.
pub(crate) const SCALAR: &str = "x-kalshi-scalar";

/// Makes the cursors of lists text: a cursor that is a time or a number is sent back as it came.
pub(super) fn make_cursors_text(document: &mut Value) -> Result<usize> {
    let mut changes: Vec<(String, bool)> = Vec::new();
    for (pointer, _, _, operation) in operations(document)? {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        let parameter = parameters
            .into_iter()
            .flatten()
            .position(|p| p["name"] == "cursor" && p["in"] == "query");
        let Some(index) = parameter else { continue };
        let pointer = format!("{pointer}/parameters/{index}/schema");
        if let Some(scalar) = other_scalar(document, &pointer)? {
            changes.push((pointer, scalar));
        }
        let Some(response) = response(operation) else { continue };
        for name in OF_RESPONSES {
            let pointer = join(&format!("/components/schemas/{response}/properties"), name);
            if document.pointer(&pointer).is_some()
                && let Some(scalar) = other_scalar(document, &pointer)?
            {
                changes.push((pointer, scalar));
            }
        }
    }
    changes.sort();
    changes.dedup();
    for (pointer, scalar) in &changes {
        let Some(Value::Object(field)) = document.pointer_mut(pointer) else { continue };
        let mut text = Map::new();
        text.insert("type".to_owned(), "string".into());
        for key in ["description", "deprecated", "nullable"] {
            text.extend(field.remove_entry(key));
        }
        if *scalar {
            text.insert(SCALAR.to_owned(), true.into());
        }
        *field = text;
        // Missing and null are the end of the list.
        if let Some((schema, name)) = pointer.rsplit_once("/properties/")
            && let Some(Value::Array(required)) =
                document.pointer_mut(&format!("{schema}/required"))
        {
            required.retain(|field| field != name);
        }
    }
    Ok(changes.len())
}

/// Reports whether the schema of a cursor is a scalar other than plain text, and then whether it is
/// no text at all.
fn other_scalar(document: &Value, pointer: &str) -> Result<Option<bool>> {
    let schema = document.pointer(pointer).unwrap_or(&Value::Null);
    let schema = schema.pointer("/allOf/0").unwrap_or(schema);
    let found = resolve(document, schema, pointer)?;
    match found.get("type").and_then(Value::as_str) {
        Some("string") if schema.get("$ref").is_none() && found.get("format").is_none() => Ok(None),
        Some("string") => Ok(Some(false)),
        Some("integer" | "number" | "boolean") => Ok(Some(true)),
        _ => refuse!(pointer, "a cursor must be a scalar"),
    }
}

fn response(operation: &Map<String, Value>) -> Option<&str> {
    let responses = operation.get("responses")?.as_object()?;
    let success = responses.values().next()?;
    let schema = success.pointer("/content/application~1json/schema/$ref")?;
    schema_name(schema.as_str()?)
}

/// Makes the cursor of a page optional, whatever its schema says: a missing one is one of the ways
/// in which a list ends.
pub(super) fn make_cursors_optional(document: &mut Value) -> usize {
    let mut fired = 0;
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        let required = schema.get_mut("required").and_then(Value::as_array_mut);
        if let Some(required) = required
            && name.ends_with("Response")
        {
            let before = required.len();
            required.retain(|field| !OF_RESPONSES.iter().any(|cursor| field == cursor));
            fired += before - required.len();
        }
    }
    fired
}
