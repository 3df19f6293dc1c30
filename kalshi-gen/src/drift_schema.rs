//! The expected form of each response, as data that the client compares with what it got.
//!
//! One JSON text: a name of one letter for each part, because every user of the client carries it.

use serde_json::{Map, Value, json};

use crate::{
    document::{join, schema_name},
    error::Result,
    merge::merged,
    normalize::{Normalized, reachable},
    operations::OperationModel,
};

/// Returns `{"o": {operation: type}, "t": {type: shape}}`, where a shape is `0` (anything),
/// `"Type"`, `{"a": shape}` for a list, `{"m": shape}` for a map, `{"e": [values]}` for an open enum,
/// and `{"f": {field: shape}, "r": [required], "l": [labels], "n": [required, and may be null]}` for
/// an object, without `l` and `n` where they are empty.
///
/// # Errors
///
/// An `allOf` of which no object can be made: whatever stands there would pass.
pub(crate) fn shapes(normalized: &Normalized, operations: &[OperationModel]) -> Result<String> {
    let document = &normalized.document;
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let mut of_operations = Map::new();
    let mut roots = Vec::new();
    for operation in operations {
        let Some(response) = &operation.response else { continue };
        of_operations.insert(operation.id.clone(), json!(response));
        roots.push(json!({"$ref": format!("#/components/schemas/{response}")}));
    }
    let mut types = Map::new();
    for name in reachable(document, roots.iter().collect()) {
        if let Some(open) = normalized.enums.iter().find(|open| open.name == name) {
            let values: Vec<&str> = open.values.iter().map(|value| value.wire.as_str()).collect();
            types.insert(name, json!({"e": values}));
        } else if let Some(schema) = schemas.and_then(|schemas| schemas.get(&name)) {
            let mut shape = shape(document, schema, &join("/components/schemas", &name))?;
            // A label that is missing costs nothing, and is still told.
            let labels = normalized.labels.keys().filter(|(schema, _)| *schema == name);
            let labels: Vec<Value> = labels.map(|(_, field)| json!(field)).collect();
            if !labels.is_empty()
                && let Some(shape) = shape.as_object_mut()
            {
                if let Some(required) = shape.get_mut("r").and_then(Value::as_array_mut) {
                    required.retain(|field| !labels.contains(field));
                }
                shape.insert("l".to_owned(), Value::Array(labels));
            }
            types.insert(name, shape);
        }
    }
    Ok(json!({"o": of_operations, "t": types}).to_string())
}

fn shape(document: &Value, schema: &Value, pointer: &str) -> Result<Value> {
    let reference = match schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) if schema.get("properties").is_none() => {
            if only.get("$ref").is_none() {
                return shape(document, only, &join(&join(pointer, "allOf"), "0"));
            }
            only.get("$ref")
        }
        _ => schema.get("$ref"),
    };
    if let Some(name) = reference.and_then(Value::as_str).and_then(schema_name) {
        return Ok(json!(name));
    }
    let schema = &*merged(document, schema, pointer)?;
    if ["oneOf", "anyOf"].iter().any(|word| schema.get(word).is_some()) {
        return Ok(json!(0));
    }
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        let at = join(pointer, "properties");
        let mut shapes = Map::new();
        for (name, field) in fields {
            shapes.insert(name.clone(), shape(document, field, &join(&at, name))?);
        }
        let required = schema.get("required").cloned().unwrap_or_else(|| json!([]));
        let may_be_null = |name: &&Value| {
            name.as_str().and_then(|name| fields.get(name)).is_some_and(|field| {
                field["nullable"] == true
                    || !["type", "$ref", "allOf"].iter().any(|key| field.get(key).is_some())
            })
        };
        let nullable: Vec<&Value> =
            required.as_array().into_iter().flatten().filter(may_be_null).collect();
        let mut object = json!({"f": shapes, "r": required});
        if !nullable.is_empty() {
            object["n"] = json!(nullable);
        }
        return Ok(object);
    }
    Ok(match schema.get("type").and_then(Value::as_str) {
        Some("array") => match schema.get("items") {
            Some(items) => json!({"a": shape(document, items, &join(pointer, "items"))?}),
            None => json!({"a": 0}),
        },
        Some("object") => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => {
                json!({"m": shape(document, values, &join(pointer, "additionalProperties"))?})
            }
            _ => json!(0),
        },
        _ => json!(0),
    })
}
