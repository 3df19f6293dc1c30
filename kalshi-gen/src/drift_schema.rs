//! The expected form of each response, as data that the client compares with what it got.
//!
//! One JSON text: a name of one letter for each part, because every user of the client carries it.

use serde_json::{Map, Value, json};

use crate::{
    document::schema_name,
    normalize::{Normalized, reachable},
    operations::OperationModel,
};

/// Returns `{"o": {operation: type}, "t": {type: shape}}`, where a shape is `0` (anything),
/// `"Type"`, `{"a": shape}` for a list, `{"m": shape}` for a map, `{"e": [values]}` for an open enum,
/// and `{"f": {field: shape}, "r": [required]}` for an object.
pub(crate) fn shapes(normalized: &Normalized, operations: &[OperationModel]) -> String {
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
            let mut shape = shape(schema);
            // A label that is missing costs nothing, and is still told.
            if let Some(required) = shape.get_mut("r").and_then(Value::as_array_mut) {
                let of = normalized.labels.keys().filter(|(schema, _)| *schema == name);
                for field in of.map(|(_, field)| json!(field)) {
                    if !required.contains(&field) {
                        required.push(field);
                    }
                }
            }
            types.insert(name, shape);
        }
    }
    json!({"o": of_operations, "t": types}).to_string()
}

fn shape(schema: &Value) -> Value {
    let reference =
        schema.get("$ref").or_else(|| match schema.get("allOf")?.as_array()?.as_slice() {
            [only] => only.get("$ref"),
            _ => None,
        });
    if let Some(name) = reference.and_then(Value::as_str).and_then(schema_name) {
        return json!(name);
    }
    if ["allOf", "oneOf", "anyOf"].iter().any(|word| schema.get(word).is_some()) {
        return json!(0);
    }
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        let shapes: Map<String, Value> =
            fields.iter().map(|(name, field)| (name.clone(), shape(field))).collect();
        let required = schema.get("required").cloned().unwrap_or_else(|| json!([]));
        return json!({"f": shapes, "r": required});
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => json!({"a": schema.get("items").map_or(json!(0), shape)}),
        Some("object") => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => json!({"m": shape(values)}),
            _ => json!(0),
        },
        _ => json!(0),
    }
}
