//! The JSON Schema of each request body: self-contained, from the document with our words.
//!
//! OpenAPI 3.0 is near JSON Schema, not the same: `nullable`, the booleans of exclusive bounds and
//! the places of references differ.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::{Map, Value, json};

use crate::{document::schema_name, operations::OperationModel};

/// Returns the texts by published `operationId`. What does not look as expected is left out here:
/// it is refused, with its pointer, when the document is normalized.
pub(crate) fn collect(document: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let paths = document.get("paths").and_then(Value::as_object);
    let operations = paths.into_iter().flatten().filter_map(|(_, item)| item.as_object());
    for operation in operations.flatten().map(|(_, operation)| operation) {
        let Some(id) = operation.get("operationId").and_then(Value::as_str) else { continue };
        let Some(body) = operation.get("requestBody").and_then(|body| shared(document, body))
        else {
            continue;
        };
        let Some(schema) = body.pointer("/content/application~1json/schema") else { continue };
        found.insert(id.to_owned(), complete(document, schema).to_string());
    }
    found
}

/// Returns the function that gives the text of an operation. A function rather than a field of the
/// table: a program that does not call it does not carry the texts.
pub(crate) fn emit(
    operations: &[OperationModel],
    schemas: &BTreeMap<String, String>,
) -> TokenStream {
    let arms = operations.iter().filter_map(|operation| {
        let (id, schema) = (&operation.id, schemas.get(&operation.operation_id)?);
        operation.body.as_ref().map(|_| quote!(#id => Some(#schema),))
    });
    quote! {
        pub(crate) fn body_schema(id: &str) -> Option<&'static str> {
            match id {
                #(#arms)*
                _ => None,
            }
        }
    }
}

/// Returns the shared body that a reference names.
fn shared<'a>(document: &'a Value, body: &'a Value) -> Option<&'a Value> {
    match body.get("$ref").and_then(Value::as_str) {
        Some(reference) => document.pointer(reference.strip_prefix('#')?),
        None => Some(body),
    }
}

/// Returns a schema with everything that it refers to.
fn complete(document: &Value, schema: &Value) -> Value {
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let mut definitions = Map::new();
    let mut wanted = BTreeSet::new();
    let root = match schema.get("$ref").and_then(Value::as_str).and_then(schema_name) {
        // The root stands in place: a reader sees the fields first.
        Some(name) => {
            let target = schemas.and_then(|schemas| schemas.get(name)).unwrap_or(&Value::Null);
            let mut root = convert(target, &mut wanted);
            root.as_object_mut().map(|root| root.entry("title").or_insert_with(|| json!(name)));
            root
        }
        None => convert(schema, &mut wanted),
    };
    while let Some(name) = wanted.pop_first() {
        if definitions.contains_key(&name) {
            continue;
        }
        let target = schemas.and_then(|schemas| schemas.get(&name)).unwrap_or(&Value::Null);
        let converted = convert(target, &mut wanted);
        definitions.insert(name, converted);
    }
    let mut out = Map::new();
    out.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    // A schema that is missing allows anything, and is refused elsewhere.
    if let Value::Object(root) = root {
        out.extend(root);
    }
    if !definitions.is_empty() {
        out.insert("$defs".to_owned(), Value::Object(definitions));
    }
    Value::Object(out)
}

/// Converts one schema to JSON Schema; the names that it refers to are noted.
fn convert(schema: &Value, wanted: &mut BTreeSet<String>) -> Value {
    let Some(map) = schema.as_object() else { return json!({}) };
    let mut out = Map::new();
    for (key, value) in map {
        let converted = match (key.as_str(), value) {
            ("$ref", Value::String(reference)) => match schema_name(reference) {
                Some(name) => {
                    wanted.insert(name.to_owned());
                    json!(format!("#/$defs/{name}"))
                }
                None => continue,
            },
            ("properties", Value::Object(properties)) => {
                let convert =
                    |(name, schema): (&String, &Value)| (name.clone(), convert(schema, wanted));
                Value::Object(properties.iter().map(convert).collect())
            }
            ("items" | "not" | "additionalProperties", Value::Object(_)) => convert(value, wanted),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                Value::Array(schemas.iter().map(|schema| convert(schema, wanted)).collect())
            }
            // Of OpenAPI alone.
            ("nullable" | "example" | "discriminator" | "externalDocs" | "xml", _) => continue,
            (key, _) if key.starts_with("x-") => continue,
            _ => value.clone(),
        };
        out.insert(key.clone(), converted);
    }
    for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match out.get(exclusive) {
            Some(Value::Bool(true)) => {
                if let Some(value) = out.remove(bound) {
                    out.insert(exclusive.to_owned(), value);
                }
            }
            Some(Value::Bool(false)) => {
                out.remove(exclusive);
            }
            _ => {}
        }
    }
    if map.get("nullable") == Some(&Value::Bool(true)) { or_null(out) } else { Value::Object(out) }
}

/// Returns a schema that accepts null, too.
fn or_null(mut schema: Map<String, Value>) -> Value {
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut)
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    match schema.get_mut("type") {
        Some(Value::String(name)) => {
            let name = std::mem::take(name);
            schema.insert("type".to_owned(), json!([name, "null"]));
            Value::Object(schema)
        }
        _ => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str, schemas: &str) -> Value {
        let document = format!(
            "{{paths: {{/a: {{post: {{operationId: PostA, requestBody: {{content: {{application/json: \
             {{schema: {body}}}}}}}}}}}}}, components: {{schemas: {schemas}}}}}"
        );
        let document = crate::document::parse(&document).unwrap();
        serde_json::from_str(&collect(&document)["PostA"]).unwrap()
    }

    #[test]
    fn what_a_body_refers_to_comes_along() {
        let schema = of(
            "{$ref: '#/components/schemas/A'}",
            "{A: {type: object, required: [b], properties: {b: {$ref: '#/components/schemas/B'}}},
              B: {type: array, items: {$ref: '#/components/schemas/C'}},
              C: {type: object, properties: {more: {$ref: '#/components/schemas/B'}}},
              D: {type: string}}",
        );
        assert_eq!(schema["title"], "A");
        assert_eq!(schema["properties"]["b"]["$ref"], "#/$defs/B");
        assert_eq!(schema["$defs"]["B"]["items"]["$ref"], "#/$defs/C");
        let names: Vec<_> = schema["$defs"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["B", "C"]);
    }

    #[test]
    fn what_openapi_says_in_its_own_way_is_said_in_that_of_json_schema() {
        let schema = of(
            "{type: object, x-mine: 1, properties: {
                a: {type: string, nullable: true, enum: [x], example: x},
                b: {allOf: [{$ref: '#/components/schemas/B'}], nullable: true},
                c: {type: integer, minimum: 0, exclusiveMinimum: true},
                d: {type: integer, maximum: 9, exclusiveMaximum: false}}}",
            "{B: {type: string}}",
        );
        let fields = &schema["properties"];
        assert_eq!(fields["a"], json!({"type": ["string", "null"], "enum": ["x", null]}));
        let either = json!({"anyOf": [{"allOf": [{"$ref": "#/$defs/B"}]}, {"type": "null"}]});
        assert_eq!(fields["b"], either);
        assert_eq!(fields["c"], json!({"type": "integer", "exclusiveMinimum": 0}));
        assert_eq!(fields["d"], json!({"type": "integer", "maximum": 9}));
        assert_eq!(schema.get("x-mine"), None);
    }

    #[test]
    fn an_odd_document_gives_no_schema_and_no_panic() {
        for document in
            ["{}", "{paths: 3}", "{paths: {/a: {post: {operationId: A, requestBody: 3}}}}"]
        {
            assert!(collect(&crate::document::parse(document).unwrap()).is_empty(), "{document}");
        }
    }
}
