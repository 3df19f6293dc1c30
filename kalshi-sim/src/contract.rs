//! Holds answers against the published document, more strictly than a client may: fields that the
//! document does not know are refused, texts have to have their form.

use std::collections::BTreeMap;

use jsonschema::{Draft, Validator};
use kalshi_sdk::Operation;
use serde_json::{Map, Value, json};

/// The published document, ready to be held against answers.
pub(crate) struct Contract {
    paths: Value,
    schemas: Value,
    errors: Validator,
    /// Validators that have been built, by the name of their schema.
    built: BTreeMap<String, Validator>,
}

impl Contract {
    pub(crate) fn load() -> Self {
        Self::of(include_str!("../../openapi.yaml"))
    }

    /// Loads the document of perpetual futures.
    pub(crate) fn of_perps() -> Self {
        Self::of(include_str!("../../perps_openapi.yaml"))
    }

    /// Loads the document of the clearing house, whose errors have no frame.
    pub(crate) fn of_klear() -> Self {
        let mut contract = Self::of(include_str!("../../klear_openapi.yaml"));
        contract.errors = build(&contract.schemas["Error"]);
        contract
    }

    fn of(text: &str) -> Self {
        let mut document: Value = serde_norway::from_str(text).expect("the document is YAML");
        let paths = document["paths"].take();
        let mut schemas = document["components"]["schemas"].take();
        let named = schemas.clone();
        for (name, schema) in schemas.as_object_mut().expect("there are schemas") {
            merge(schema, &named);
            tighten(schema);
            match name.as_str() {
                "FixedPointDollars" => schema["pattern"] = json!(r"^-?\d+\.\d{2,6}$"),
                "FixedPointCount" => schema["pattern"] = json!(r"^-?\d+\.\d{2}$"),
                // A reply without anything.
                "EmptyResponse" => schema["maxProperties"] = json!(0),
                _ => {}
            }
        }
        // By its words it is null where a sport has none; the schema forgets that.
        if let Some(plays) = schemas.pointer_mut("/GetGameStatsResponse/properties/pbp") {
            *plays = json!({"anyOf": [plays.take(), {"type": "null"}]});
        }
        // The streams of perpetual futures have two reasons more, which orders are read with, too.
        if let Some(Value::Array(reasons)) = schemas.pointer_mut("/LastUpdateReason/enum") {
            reasons.extend([json!("CloseCancel"), json!("HaltCancel")]);
        }
        let error = json!({
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "minLength": 1},
                "message": {"type": "string", "minLength": 1},
                "details": {"type": "string"},
            },
            "additionalProperties": false,
        });
        // As the document has it, nested as the live exchange sends it, and bare as with 429.
        let errors = build(&json!({"oneOf": [
            error,
            {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"oneOf": [error, {"const": "too many requests"}]}},
                "additionalProperties": false,
            },
        ]}));
        Self { paths, schemas, errors, built: BTreeMap::new() }
    }

    /// Checks an answer to an operation: a success has to look as published, a refusal as an error.
    ///
    /// # Errors
    ///
    /// Where it differs, and how.
    pub(crate) fn check(
        &mut self,
        operation: &Operation,
        status: u16,
        body: Option<&Value>,
    ) -> Result<(), String> {
        if status >= 400 {
            let body = body.ok_or("a refusal without a body")?;
            return differences(&self.errors, body);
        }
        if status != operation.success {
            return Err(format!("{status} instead of {}", operation.success));
        }
        let method = operation.method.as_str().to_ascii_lowercase();
        let response = &self.paths[operation.path][&method]["responses"][status.to_string()];
        let published = &response["content"]["application/json"]["schema"]["$ref"];
        let name = published.as_str().and_then(|place| place.rsplit('/').next());
        match (name, body) {
            (None, None) => Ok(()),
            (None, Some(body)) => Err(format!("a body where none is published: {body}")),
            (Some(name), None) => Err(format!("no body instead of {name}")),
            (Some(name), Some(body)) => {
                let schemas = &self.schemas;
                let validator = self.built.entry(name.to_owned()).or_insert_with(|| {
                    let place = format!("#/components/schemas/{name}");
                    build(&json!({"$ref": place, "components": {"schemas": schemas}}))
                });
                differences(validator, body)
            }
        }
    }
}

/// Makes one object of a schema that is several together, so that it can be closed.
fn merge(schema: &mut Value, named: &Value) {
    let Some(parts) = schema["allOf"].as_array().filter(|parts| parts.len() > 1) else { return };
    let mut merged = json!({"type": "object", "required": [], "properties": {}});
    for part in parts {
        let name = part["$ref"].as_str().and_then(|place| place.rsplit('/').next());
        let part = name.map_or(part, |name| &named[name]);
        if let Value::Array(required) = &mut merged["required"] {
            required.extend(part["required"].as_array().cloned().unwrap_or_default());
        }
        if let Value::Object(properties) = &mut merged["properties"] {
            properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
        }
    }
    *schema = merged;
}

pub(crate) fn build(schema: &Value) -> Validator {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .build(schema)
        .expect("the schema is sound")
}

/// Returns the first few differences.
pub(crate) fn differences(validator: &Validator, body: &Value) -> Result<(), String> {
    let found: Vec<String> = validator
        .iter_errors(body)
        .take(5)
        .map(|error| {
            let text: String = error.to_string().chars().take(300).collect();
            format!("{}: {text}", error.instance_path())
        })
        .collect();
    if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
}

/// Turns a schema of `OpenAPI` 3.0 into one of JSON Schema, and closes its objects.
pub(crate) fn tighten(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(tighten),
        Value::Object(object) => {
            object.values_mut().for_each(tighten);
            let named = matches!(object.get("properties"), Some(Value::Object(_)));
            if named && !object.contains_key("additionalProperties") && is_object(object) {
                object.insert("additionalProperties".to_owned(), false.into());
            }
            if object.get("format") == Some(&json!("int32")) {
                object.entry("minimum").or_insert(i32::MIN.into());
                object.entry("maximum").or_insert(i32::MAX.into());
            }
            if object.get("nullable") == Some(&json!(true)) {
                object.remove("nullable");
                let plain = std::mem::take(object);
                object.insert("anyOf".to_owned(), json!([plain, {"type": "null"}]));
            }
        }
        _ => {}
    }
}

/// Reports whether this is a schema, rather than a map of properties one of which has that name.
fn is_object(object: &Map<String, Value>) -> bool {
    object.get("type") == Some(&json!("object"))
}

#[test]
fn the_contract_refuses_what_the_document_does_not_know() {
    let mut contract = Contract::load();
    let operation = Operation::by_id("get_historical_cutoff").expect("it is in the table");
    let sound = json!({
        "market_settled_ts": "2026-08-01T00:00:00Z",
        "trades_created_ts": "2026-08-01T00:00:00Z",
        "orders_updated_ts": "2026-08-01T00:00:00Z",
    });
    contract.check(operation, 200, Some(&sound)).unwrap();
    for (name, value) in [
        ("market_setled_ts", json!("2026-08-01T00:00:00Z")),
        ("market_settled_ts", json!("yesterday")),
        ("market_settled_ts", Value::Null),
    ] {
        let mut wrong = sound.clone();
        wrong[name] = value;
        contract.check(operation, 200, Some(&wrong)).unwrap_err();
    }
    contract.check(operation, 201, Some(&sound)).unwrap_err();
    contract.check(operation, 200, None).unwrap_err();
    contract.check(operation, 404, Some(&json!({"error": {"code": "a"}}))).unwrap_err();
    contract.check(operation, 404, Some(&json!({"error": {"code": "a", "message": "b"}}))).unwrap();
    let books = Operation::by_id("get_market").expect("it is in the table");
    let error = contract.check(books, 200, Some(&json!({"market": {"ticker": 5}}))).unwrap_err();
    assert!(error.contains("/market"), "{error}");
}
