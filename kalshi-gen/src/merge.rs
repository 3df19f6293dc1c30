//! Objects that `allOf` makes of several parts.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::{
    document::{join, resolve_place},
    error::{Result, refuse},
};

/// Returns an object with the fields of all parts where `allOf` has several, or stands beside fields;
/// any other schema as it is.
///
/// The names of parts run in no ring: `normalize` refuses those.
pub(crate) fn merged<'a>(
    document: &'a Value,
    schema: &'a Value,
    pointer: &str,
) -> Result<Cow<'a, Value>> {
    let parts = schema.get("allOf").and_then(Value::as_array);
    match parts.map(Vec::as_slice) {
        None => return Ok(Cow::Borrowed(schema)),
        Some([_]) if schema.get("properties").is_none() => return Ok(Cow::Borrowed(schema)),
        Some(_) => {}
    }
    let mut object = Object::default();
    object.add(document, schema, pointer)?;
    let Object { fields, required } = object;
    Ok(Cow::Owned(json!({"type": "object", "properties": fields, "required": required})))
}

#[derive(Default)]
struct Object {
    fields: Map<String, Value>,
    required: Vec<Value>,
}

impl Object {
    /// Adds a part. What stands at a place comes before what it refers to.
    fn add(&mut self, document: &Value, part: &Value, pointer: &str) -> Result<()> {
        let (part, place) = resolve_place(document, part, pointer)?;
        let pointer = place.unwrap_or(pointer);
        let is_object = part.get("type").is_none_or(|kind| kind == "object");
        let has_values = part.get("additionalProperties").is_some_and(Value::is_object);
        let is_map = has_values && part.get("properties").is_none();
        if !is_object || is_map || part.get("oneOf").is_some() || part.get("anyOf").is_some() {
            refuse!(pointer, "a part of `allOf` has to be an object with named fields")
        }
        for (name, field) in part.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            self.fields.entry(name.clone()).or_insert_with(|| field.clone());
        }
        for name in part.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !self.required.contains(name) {
                self.required.push(name.clone());
            }
        }
        let parts = part.get("allOf").and_then(Value::as_array).into_iter().flatten();
        let at = join(pointer, "allOf");
        for (index, part) in parts.enumerate() {
            self.add(document, part, &join(&at, &index.to_string()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_all_parts_are_those_of_one_object() {
        let document = json!({"components": {"schemas": {
            "A": {"type": "object", "required": ["a", "x"], "properties": {"a": {"type": "string"}, "x": {}}},
            "B": {"allOf": [{"$ref": "#/components/schemas/A"}, {"properties": {"b": {}}}]},
        }}});
        let schema = json!({
            "required": ["x", "c"],
            "properties": {"c": {}, "x": {"type": "integer"}},
            "allOf": [{"$ref": "#/components/schemas/B"}, {"description": "No fields."}],
        });
        let whole = merged(&document, &schema, "").unwrap();
        let expected = json!({
            "type": "object",
            "properties": {"c": {}, "x": {"type": "integer"}, "a": {"type": "string"}, "b": {}},
            "required": ["x", "c", "a"],
        });
        assert_eq!(*whole, expected);
    }

    #[test]
    fn what_is_no_sum_of_objects_is_left_or_refused() {
        for schema in [json!({"type": "string"}), json!({"allOf": [{"type": "string"}]})] {
            assert!(matches!(merged(&Value::Null, &schema, "/s"), Ok(Cow::Borrowed(_))));
        }
        for part in [
            json!({"type": "string"}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"oneOf": [{"type": "object"}]}),
        ] {
            let error = merged(&Value::Null, &json!({"allOf": [{}, part]}), "/s").unwrap_err();
            assert!(error.to_string().starts_with("/s/allOf/1: "), "{error}");
        }
    }
}
