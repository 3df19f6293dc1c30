//! Small documents, and what becomes of them.

use kalshi_gen::{Error, Generated, Unmatched, generate};
use serde_json::{Value, json};

/// Returns the workspace's own document.
pub(crate) fn published() -> String {
    read("../openapi.yaml")
}

/// Returns a file below this crate.
pub(crate) fn read(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns a document with one operation, `GetA` at `/a`, whose response is the schema `A`.
pub(crate) fn document() -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Small", "version": "1.0.0"},
        "paths": {"/a": {"get": {
            "operationId": "GetA",
            "responses": {"200": {
                "description": "OK",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}},
            }},
        }}},
        "components": {"schemas": {
            "A": {"type": "object", "properties": {"x": {"type": "string"}}},
        }},
    })
}

/// Returns the small document with `A` made of this YAML.
pub(crate) fn with_schema(yaml: &str) -> Value {
    let mut document = document();
    document["components"]["schemas"]["A"] = kalshi_gen::parse(yaml).unwrap();
    document
}

/// Returns the document with an error response that reaches every schema: what nothing reaches
/// makes no type, and is not looked at.
pub(crate) fn reaching_all(mut document: Value) -> Value {
    let names = document["components"]["schemas"].as_object().unwrap().keys();
    let reference = |name: &String| json!({"$ref": format!("#/components/schemas/{name}")});
    let all: Vec<Value> = names.map(reference).collect();
    document["paths"]["/a"]["get"]["responses"]["400"] =
        json!({"description": "No", "content": {"application/json": {"schema": {"oneOf": all}}}});
    document
}

/// Returns the small document with these keys set in its operation.
pub(crate) fn with_operation(yaml: &str) -> Value {
    at_path("/a", yaml)
}

/// Returns the small document with these keys and the operation at another path.
pub(crate) fn at_path(path: &str, yaml: &str) -> Value {
    let mut document = document();
    let mut item = document["paths"]["/a"].take();
    let Value::Object(keys) = kalshi_gen::parse(yaml).unwrap() else {
        panic!("no mapping: {yaml}")
    };
    for (key, value) in keys {
        item["get"][key] = value;
    }
    document["paths"] = json!({path: item});
    document
}

pub(crate) fn run(document: &Value) -> Result<Generated, Error> {
    generate(&document.to_string(), &[], Unmatched::Refuse)
}

/// Returns the code, with single spaces only.
pub(crate) fn code(document: &Value) -> String {
    let code = run(document).unwrap().code;
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the one line that the document is refused with; its place exists in the document.
#[track_caller]
pub(crate) fn refused(document: &Value) -> String {
    let error = run(document).expect_err("the document was taken");
    let place = document.pointer(error.pointer());
    assert!(place.is_some(), "{error}: there is no such place");
    error.to_string()
}
