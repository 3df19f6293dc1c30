//! Parameters, and what else operations share: written out where it is used.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{COMMA_LIST, Moves, check, each_operation, operations};
use crate::{
    document::{At, join, resolve_place},
    error::{Result, refuse},
};

/// The key by which a part that was written out remembers the place where it stands.
const ORIGIN: &str = "x-kalshi-origin";

/// Writes shared parameters, request bodies and responses out where operations refer to them. An
/// overlay then addresses each in its place, whichever way the published document shares them.
///
/// A reference that leads nowhere stays: a later pass refuses it at its place.
pub(crate) fn write_out_references(document: &mut Value) {
    let root = shared(document);
    let write_out = |part: &mut Value| {
        let Some(reference) = part.get("$ref").and_then(Value::as_str) else { return };
        if !["parameters", "requestBodies", "responses"].iter().any(|section| {
            reference.strip_prefix("#/components/").is_some_and(|rest| rest.starts_with(section))
        }) {
            return;
        }
        if let Ok((Value::Object(found), Some(place))) = resolve_place(&root, part, "") {
            let mut found = found.clone();
            found.insert(ORIGIN.to_owned(), place.into());
            *part = Value::Object(found);
        }
    };
    each_part(document, &mut |_, part| write_out(part));
}

/// Takes the origins of written-out parts out of the document again, as moves.
pub(super) fn record_origins(document: &mut Value, moves: &mut Moves) -> usize {
    let mut fired = 0;
    each_part(document, &mut |at, part| {
        if let Some(Value::String(origin)) = part.as_object_mut().and_then(|p| p.remove(ORIGIN)) {
            moves.add_origin(at.pointer(), origin);
            fired += 1;
        }
    });
    fired
}

/// Takes the origins of written-out parts out of the document again and forgets them.
pub(crate) fn forget_origins(document: &mut Value) {
    record_origins(document, &mut Moves::default());
}

/// Calls `change` with the place of each parameter, request body and response of an operation.
fn each_part(document: &mut Value, change: &mut dyn FnMut(&At<'_>, &mut Value)) {
    fn parameters(
        at: &At<'_>,
        list: Option<&mut Value>,
        change: &mut dyn FnMut(&At<'_>, &mut Value),
    ) {
        let list = list.and_then(Value::as_array_mut);
        for (index, part) in list.into_iter().flatten().enumerate() {
            change(&at.below("parameters").item(index), part);
        }
    }
    let root = At::start("/paths");
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        let at = root.below(path);
        parameters(&at, item.get_mut("parameters"), change);
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let at = at.below(method);
            parameters(&at, operation.get_mut("parameters"), change);
            if let Some(body) = operation.get_mut("requestBody") {
                change(&at.below("requestBody"), body);
            }
            let at = at.below("responses");
            let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
            for (code, response) in responses.into_iter().flatten() {
                change(&at.below(code), response);
            }
        }
    }
}

/// Returns a document of the parts that operations refer to, apart from schemas: those are large.
pub(super) fn shared(document: &Value) -> Value {
    let part = |name: &str| document.pointer(&format!("/components/{name}")).cloned();
    json!({"components": {
        "parameters": part("parameters"),
        "requestBodies": part("requestBodies"),
        "responses": part("responses"),
    }})
}

/// Writes shared parameters (of a path, or referenced) into each operation.
pub(super) fn inline_parameters(document: &mut Value, moves: &mut Moves) -> Result<usize> {
    moves.begin();
    let mut fired = 0;
    let root = shared(document);
    let mut of_path = BTreeMap::new();
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, item) in paths {
            let pointer = join(&join("/paths", path), "parameters");
            let item = item.as_object_mut();
            match item.and_then(|item| item.remove("parameters")) {
                None => {}
                Some(Value::Array(shared)) => {
                    of_path.insert(path.clone(), (pointer, shared));
                }
                Some(_) => refuse!(pointer, "must be a list"),
            }
        }
    }
    each_operation(document, |pointer, path, operation| {
        let pointer = join(pointer, "parameters");
        let own = match operation.remove("parameters") {
            None => Vec::new(),
            Some(Value::Array(own)) => own,
            Some(_) => refuse!(pointer, "must be a list"),
        };
        let mut all: Vec<(String, Value)> = Vec::new();
        let shared = of_path.get(path);
        fired += shared.map_or(0, |(_, shared)| shared.len());
        for (pointer, list) in shared.map(|(p, l)| (p, l)).into_iter().chain([(&pointer, &own)]) {
            for (index, parameter) in list.iter().enumerate() {
                let pointer = join(pointer, &index.to_string());
                let (parameter, place) = resolve_place(&root, parameter, &pointer)?;
                fired += usize::from(place.is_some());
                if !parameter.is_object() {
                    refuse!(pointer, "must be a mapping");
                }
                let key = (&parameter["name"], &parameter["in"]);
                // An operation's own parameter replaces the path's of the same name and place.
                if let Some(same) = all.iter().position(|(_, p)| (&p["name"], &p["in"]) == key) {
                    if index > 0 && list.len() > 1 && std::ptr::eq(list, &raw const own) {
                        // Unless it is its own twice.
                        let twice =
                            own[..index].iter().any(|p| p["name"] == *key.0 && p["in"] == *key.1);
                        if twice {
                            refuse!(pointer, "the parameter {} stands here twice", key.0);
                        }
                    }
                    all.remove(same);
                }
                all.push((place.map_or(pointer, str::to_owned), parameter.clone()));
            }
        }
        if !all.is_empty() {
            let mut parameters = Vec::with_capacity(all.len());
            for (index, (from, mut parameter)) in all.into_iter().enumerate() {
                moves.add(join(&pointer, &index.to_string()), from);
                if parameter["in"] == "path" {
                    // It always is; progenitor insists that the document says so.
                    parameter["required"] = true.into();
                }
                parameters.push(parameter);
            }
            operation.insert("parameters".to_owned(), Value::Array(parameters));
        }
        Ok(())
    })?;
    Ok(fired)
}

/// Makes lists whose values stand behind one key, joined by commas (`explode: false`), what they
/// are on the wire: one text. progenitor would repeat the key.
pub(super) fn join_lists(document: &mut Value) -> Result<usize> {
    let mut joined = Vec::new();
    for (pointer, _, _, operation) in operations(document)? {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        for (index, parameter) in parameters.into_iter().flatten().enumerate() {
            let form = parameter.get("style").is_none_or(|style| style == "form");
            if parameter["in"] != "query" || parameter["explode"] != false || !form {
                continue;
            }
            let pointer = format!("{pointer}/parameters/{index}");
            if let Some(schema) = parameter.get("schema")
                && check::is_list(document, schema, &join(&pointer, "schema"))?
            {
                joined.push(pointer);
            }
        }
    }
    for pointer in &joined {
        if let Some(Value::Object(parameter)) = document.pointer_mut(pointer) {
            parameter.remove("explode");
            parameter.remove("style");
            parameter.insert("schema".to_owned(), json!({"type": "string", "format": COMMA_LIST}));
        }
    }
    Ok(joined.len())
}
