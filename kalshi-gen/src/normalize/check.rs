//! Refuses the operations that cannot be generated, before anything is changed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::METHODS;
use crate::{
    document::{join, object, resolve, resolve_place, walk},
    error::{Result, refuse},
    names::{method_name, parameter_name, type_name},
};

/// The names of the client's own methods.
const CLIENT_METHODS: [&str; 10] = [
    "base_url",
    "builder",
    "call",
    "call_empty",
    "credentials",
    "demo",
    "http",
    "max_response_bytes",
    "production",
    "raw",
];

/// The names that the module of the builders uses unqualified.
const BUILDER_NAMES: [&str; 3] = ["ResponseValue", "Result", "String"];

/// The names of a request builder's own methods.
const BUILDER_METHODS: [&str; 7] =
    ["body", "body_map", "header_map", "new", "pages", "send", "stream"];

pub(super) fn version(document: &Value) -> Result<()> {
    let Some(root) = document.as_object() else { refuse!("", "the document must be a mapping") };
    match root.get("openapi").and_then(Value::as_str) {
        Some(version) if version.starts_with("3.0.") => {}
        Some(version) => refuse!("/openapi", "OpenAPI {version}; only 3.0 is understood"),
        None if root.contains_key("swagger") => {
            refuse!("/swagger", "this is Swagger 2; only OpenAPI 3.0 is understood")
        }
        None if root.contains_key("openapi") => refuse!("/openapi", "the version must be text"),
        None => refuse!("", "`openapi` is missing: this is no OpenAPI 3 document"),
    }
    let info = object(root, "", "info")?;
    for key in ["title", "version"] {
        match info.get(key) {
            Some(Value::String(_)) => {}
            Some(_) => refuse!(join("/info", key), "must be text"),
            None => refuse!("/info", "`{key}` is missing"),
        }
    }
    object(root, "", "paths")?;
    if let Some(components) = root.get("components") {
        let Some(components) = components.as_object() else {
            refuse!("/components", "must be a mapping")
        };
        for (name, part) in components {
            if !part.is_object() {
                refuse!(join("/components", name), "must be a mapping");
            }
        }
    }
    Ok(())
}

/// Checks that every reference leads to something in this document.
pub(super) fn references(document: &mut Value) -> Result<()> {
    let mut references: BTreeMap<String, String> = BTreeMap::new();
    walk(document, "", &mut |at, map| {
        if let Some(Value::String(reference)) = map.get("$ref")
            && !at.holds_names()
            && !references.contains_key(reference)
        {
            references.insert(reference.clone(), at.pointer());
        }
        Ok(())
    })?;
    for (reference, pointer) in references {
        resolve(document, &json!({"$ref": reference}), &pointer)?;
        if !reference.starts_with("#/components/") {
            refuse!(join(&pointer, "$ref"), "`{reference}` is no part of `#/components`");
        }
    }
    Ok(())
}

pub(super) fn operations(document: &Value) -> Result<()> {
    path_items(document)?;
    let mut methods: BTreeMap<String, String> = BTreeMap::new();
    let mut builders: BTreeMap<String, String> = BTreeMap::new();
    for (pointer, path, _, operation) in super::operations(document)? {
        let Some(id) = operation.get("operationId") else {
            refuse!(pointer, "`operationId` is missing")
        };
        let id_pointer = join(&pointer, "operationId");
        let Some(builder) = id.as_str().and_then(type_name) else {
            refuse!(id_pointer, "`{id}` makes no method name")
        };
        if BUILDER_NAMES.contains(&builder.as_str()) {
            refuse!(id_pointer, "`{builder}` has a meaning in Rust already");
        }
        let method = method_name(&builder);
        if CLIENT_METHODS.contains(&method.as_str()) {
            refuse!(id_pointer, "the client has a method `{method}` of its own");
        }
        if let Some(first) = methods.insert(method.clone(), id_pointer.clone()) {
            refuse!(id_pointer, "the method `{method}` stands already at {first}");
        }
        if let Some(first) = builders.insert(builder.clone(), id_pointer.clone()) {
            refuse!(id_pointer, "the builder `{builder}` stands already at {first}");
        }
        parameters(document, &pointer, path, operation)?;
        request(&pointer, operation)?;
        responses(document, &pointer, operation)?;
    }
    Ok(())
}

/// Refuses anything beside the methods of a path that would be left out in silence.
fn path_items(document: &Value) -> Result<()> {
    let Some(root) = document.as_object() else { refuse!("", "the document must be a mapping") };
    for (path, item) in object(root, "", "paths")? {
        let pointer = join("/paths", path);
        if !path.starts_with('/') || path.contains(['?', '#']) {
            refuse!(pointer, "a path starts with `/` and has no query");
        }
        for key in item.as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
            if !METHODS.contains(&key)
                && !matches!(key, "summary" | "description" | "parameters" | "servers" | "$ref")
            {
                refuse!(join(&pointer, key), "the method `{key}` is not generated");
            }
        }
    }
    Ok(())
}

fn parameters(
    document: &Value,
    pointer: &str,
    path: &str,
    operation: &Map<String, Value>,
) -> Result<()> {
    let mut in_path = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let parameters = operation.get("parameters").and_then(Value::as_array);
    for (index, parameter) in parameters.into_iter().flatten().enumerate() {
        let pointer = join(&join(pointer, "parameters"), &index.to_string());
        let Some(name) = parameter.get("name").and_then(Value::as_str) else {
            refuse!(pointer, "a parameter needs a name")
        };
        let place = match parameter.get("in").and_then(Value::as_str) {
            Some(place @ ("query" | "path")) => place,
            Some(place) => {
                refuse!(join(&pointer, "in"), "parameters in `{place}` are not generated")
            }
            None => refuse!(pointer, "`in` is missing"),
        };
        let setter = parameter_name(name);
        if BUILDER_METHODS.contains(&setter.as_str()) {
            refuse!(join(&pointer, "name"), "the builder has a method `{setter}` of its own");
        }
        if !seen.insert(setter.clone()) {
            refuse!(join(&pointer, "name"), "two parameters would be called `{setter}`");
        }
        let Some(schema) = parameter.get("schema") else {
            refuse!(pointer, "a parameter needs a `schema`")
        };
        let list = is_list(document, schema, &join(&pointer, "schema"))?;
        if let Some(style) = parameter.get("style")
            && style != if place == "path" { "simple" } else { "form" }
        {
            refuse!(join(&pointer, "style"), "the style `{style}` is not generated");
        }
        if place == "path" {
            if list {
                refuse!(join(&pointer, "schema"), "a list in a path is not generated");
            }
            in_path.insert(name.to_owned(), pointer);
        }
    }
    let template = template(path, pointer)?;
    if let Some(name) = template.iter().find(|name| !in_path.contains_key(*name)) {
        refuse!(pointer, "the path has `{{{name}}}` but no such path parameter is declared");
    }
    if let Some((name, at)) = in_path.iter().find(|(name, _)| !template.contains(*name)) {
        refuse!(at, "the path parameter `{name}` does not stand in the path");
    }
    Ok(())
}

/// Returns the names in the braces of a path.
fn template(path: &str, pointer: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut rest = path;
    while let Some(at) = rest.find(['{', '}']) {
        let name = rest[at..].strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let Some((name, after)) = name.filter(|(name, _)| !name.is_empty() && !name.contains('{'))
        else {
            refuse!(pointer, "the braces of the path do not match")
        };
        if !names.insert(name.to_owned()) {
            refuse!(pointer, "`{{{name}}}` stands twice in the path");
        }
        rest = after;
    }
    Ok(names)
}

/// Reports whether a parameter is a list; refuses what is neither a scalar nor a list of scalars.
pub(super) fn is_list(document: &Value, schema: &Value, pointer: &str) -> Result<bool> {
    let (schema, pointer) = scalar_or_list(document, schema, pointer.to_owned())?;
    if schema.get("type").and_then(Value::as_str) != Some("array") {
        return Ok(false);
    }
    let Some(item) = schema.get("items") else { refuse!(pointer, "a list needs `items`") };
    let (item, pointer) = scalar_or_list(document, item, join(&pointer, "items"))?;
    if item.get("type").and_then(Value::as_str) == Some("array") {
        refuse!(pointer, "a list of lists is not generated");
    }
    Ok(true)
}

/// Returns the schema that references lead to, and its place.
fn scalar_or_list<'a>(
    document: &'a Value,
    mut schema: &'a Value,
    mut pointer: String,
) -> Result<(&'a Value, String)> {
    // A reference with a description beside it may be written as `allOf` of one.
    for _ in 0..16 {
        let (found, place) = resolve_place(document, schema, &pointer)?;
        schema = found;
        pointer = place.map_or(pointer, str::to_owned);
        match schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            Some([only]) => {
                schema = only;
                pointer.push_str("/allOf/0");
            }
            _ => break,
        }
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "number" | "boolean" | "array") => Ok((schema, pointer)),
        None if schema.get("enum").is_some() => Ok((schema, pointer)),
        _ => refuse!(pointer, "a parameter is a scalar or a list of scalars"),
    }
}

/// Returns the schema of the only media type, which must be JSON.
fn json_schema<'a>(holder: &'a Value, pointer: &str) -> Result<Option<&'a Value>> {
    if !holder.is_object() {
        refuse!(pointer, "must be a mapping");
    }
    let Some(content) = holder.get("content") else { return Ok(None) };
    let pointer = join(pointer, "content");
    let Some(content) = content.as_object() else { refuse!(pointer, "must be a mapping") };
    let mut types = content.iter();
    match (types.next(), types.next()) {
        (None, _) => Ok(None),
        (Some((name, media)), None) if name == "application/json" => match media.get("schema") {
            Some(schema) => Ok(Some(schema)),
            None => refuse!(join(&pointer, name), "JSON without a schema"),
        },
        (Some((name, _)), None) => {
            refuse!(join(&pointer, name), "`{name}` is not generated, only `application/json` is")
        }
        (Some(_), Some(_)) => refuse!(pointer, "several media types; only one is generated"),
    }
}

fn request(pointer: &str, operation: &Map<String, Value>) -> Result<()> {
    let Some(body) = operation.get("requestBody") else { return Ok(()) };
    let pointer = join(pointer, "requestBody");
    if body.get("$ref").is_some() {
        refuse!(pointer, "a request body must stand in place");
    }
    match json_schema(body, &pointer)? {
        Some(_) => Ok(()),
        None => refuse!(pointer, "a request body needs JSON content"),
    }
}

fn responses(document: &Value, pointer: &str, operation: &Map<String, Value>) -> Result<()> {
    let responses = object(operation, pointer, "responses")?;
    let pointer = join(pointer, "responses");
    let mut success: Option<(&str, Option<&Value>)> = None;
    for (code, response) in responses {
        let pointer = join(&pointer, code);
        if code == "default" {
            // progenitor counts it as success and as error.
            refuse!(pointer, "`default` is ambiguous: name the statuses");
        }
        let digits = code.len() == 3 && code.starts_with(|c| matches!(c, '1'..='5'));
        if !digits || !(code.ends_with("XX") || code.chars().all(|c| c.is_ascii_digit())) {
            refuse!(pointer, "`{code}` is no status");
        }
        if !code.starts_with('2') {
            continue;
        }
        if code.ends_with("XX") {
            refuse!(pointer, "name the status of a success: `{code}` is a range");
        }
        let (response, place) = resolve_place(document, response, &pointer)?;
        let schema = json_schema(response, place.unwrap_or(&pointer))?;
        if let Some((first, other)) = success
            && other != schema
        {
            refuse!(pointer, "two success types: {first} and {code} differ");
        }
        success = Some((code, schema));
    }
    if success.is_none() {
        refuse!(pointer, "no success response");
    }
    Ok(())
}
