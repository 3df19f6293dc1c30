//! The passes that change what a document says in how many places, not what it means.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Moves, each_operation, operation_id, operations};
use crate::{
    document::{At, is_nested, join, resolve_place, schema_name, walk},
    error::{Result, refuse},
    names::{pascal, type_name},
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

/// Takes the origins of written-out parts out of the document again.
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

/// Drops what no operation reaches and returns the names of the schemas among it: a type that
/// nothing carries would be dead API. Error responses count, although no types of success do.
pub(super) fn drop_unreached(document: &mut Value) -> Vec<String> {
    let Some(paths) = document.get("paths") else { return Vec::new() };
    let reached = reached(document, vec![paths]);
    let mut unreached = Vec::new();
    let components = document.get_mut("components").and_then(Value::as_object_mut);
    for (section, parts) in components.into_iter().flatten() {
        if section == "securitySchemes" {
            continue;
        }
        let Some(parts) = parts.as_object_mut() else { continue };
        let names = reached.get(section.as_str());
        parts.retain(|name, _| {
            let kept = names.is_some_and(|names| names.contains(name));
            if !kept && section == "schemas" {
                unreached.push(name.clone());
            }
            kept
        });
    }
    unreached.sort();
    unreached
}

/// The parts of `components` that these values refer to, and those that they refer to in turn: the
/// names, by section.
fn reached<'a>(
    document: &'a Value,
    mut from: Vec<&'a Value>,
) -> BTreeMap<String, BTreeSet<String>> {
    let components = document.get("components");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // A stack of its own: a long chain of references must not fill the program's.
    while let Some(value) = from.pop() {
        match value {
            Value::Object(map) => {
                let reference = map.get("$ref").and_then(Value::as_str);
                let steps = reference.and_then(|r| r.strip_prefix("#/components/"));
                if let Some((section, rest)) = steps.and_then(|steps| steps.split_once('/')) {
                    // `#/components/schemas/A/items` needs `A`.
                    let name = rest.split('/').next().unwrap_or(rest);
                    let name = name.replace("~1", "/").replace("~0", "~");
                    let part = components.and_then(|c| c.get(section)?.get(&name));
                    if found.entry(section.to_owned()).or_default().insert(name) {
                        from.extend(part);
                    }
                }
                from.extend(map.values().filter(|value| is_nested(value)));
            }
            Value::Array(items) => from.extend(items.iter().filter(|value| is_nested(value))),
            _ => {}
        }
    }
    found
}

/// Drops what no code comes from. Our own extensions stay.
///
/// A title goes too: typify would name a type after it.
pub(super) fn drop_noise(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            return Ok(());
        }
        let before = map.len();
        map.retain(|key, _| match key.as_str() {
            "callbacks" | "discriminator" | "example" | "examples" | "externalDocs" | "headers"
            | "links" | "xml" => false,
            "title" => at.is_key("info"),
            "x-enum-descriptions" => true,
            key => !key.starts_with("x-") || key.starts_with("x-kalshi-"),
        });
        fired += before - map.len();
        Ok(())
    })?;
    Ok(fired)
}

/// A document of the parts that operations refer to, apart from schemas: those are large.
fn shared(document: &Value) -> Value {
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

/// Removes every response but the success: the transport turns each failure into one error, by
/// status and body, whatever the document promises. Shared parts have been written out by now.
pub(super) fn drop_errors(document: &mut Value, moves: &mut Moves) -> Result<usize> {
    moves.begin();
    let mut fired = 0;
    let root = shared(document);
    each_operation(document, |pointer, _, operation| {
        let pointer = join(pointer, "responses");
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
            refuse!(pointer, "must be a mapping")
        };
        let before = responses.len();
        responses.retain(|code, _| code.starts_with('2'));
        fired += before - responses.len();
        for (code, response) in responses {
            if response.get("$ref").is_some() {
                let pointer = join(&pointer, code);
                let (found, place) = resolve_place(&root, response, &pointer)?;
                moves.add(pointer, place.unwrap_or_default().to_owned());
                *response = found.clone();
            }
        }
        Ok(())
    })?;
    if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
        components.retain(|part, _| part == "schemas");
    }
    Ok(fired)
}

/// Gives each inline body of a request or response a name, so that its type has a good one.
pub(super) fn name_bodies(document: &mut Value, moves: &mut Moves) -> Result<usize> {
    moves.begin();
    let mut named: Vec<(String, String, Value)> = Vec::new();
    each_operation(document, |pointer, _, operation| {
        let id = operation_id(operation).to_owned();
        let mut take = |holder: Option<&mut Value>, pointer: String, suffix: &str| {
            let schema = holder.and_then(|h| h.pointer_mut("/content/application~1json/schema"));
            if let Some(schema) = schema
                && schema.get("$ref").is_none()
            {
                let name = format!("{id}{suffix}");
                let reference = json!({"$ref": format!("#/components/schemas/{name}")});
                let pointer = format!("{pointer}/content/application~1json/schema");
                named.push((pointer, name, std::mem::replace(schema, reference)));
            }
        };
        take(operation.get_mut("requestBody"), join(pointer, "requestBody"), "Request");
        let pointer = join(pointer, "responses");
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        for (code, response) in responses.into_iter().flatten() {
            take(Some(response), join(&pointer, code), "Response");
        }
        Ok(())
    })?;
    let fired = named.len();
    for (pointer, name, schema) in named {
        add_schema(document, &pointer, name.clone(), schema)?;
        moves.add(join("/components/schemas", &name), pointer);
    }
    Ok(fired)
}

/// Makes each object that is written inside another schema a schema of its own, under the name that
/// typify would give it: what is done for schemas (words, links, deprecation, leniency) is then done
/// for all types.
pub(super) fn name_objects(document: &mut Value, moves: &mut Moves) -> Result<usize> {
    moves.begin();
    let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut)
    else {
        return Ok(0);
    };
    let mut found = Vec::new();
    let taken: BTreeSet<String> = schemas.keys().cloned().collect();
    for (name, schema) in schemas.iter_mut() {
        let pointer = join("/components/schemas", name);
        take_objects(schema, &pointer, name, &taken, &mut found);
    }
    let fired = found.len();
    for (pointer, name, schema) in found {
        moves.add(join("/components/schemas", &name), pointer.clone());
        add_schema(document, &pointer, name, schema)?;
    }
    Ok(fired)
}

type Found = Vec<(String, String, Value)>;

fn take_objects(
    schema: &mut Value,
    pointer: &str,
    name: &str,
    taken: &BTreeSet<String>,
    found: &mut Found,
) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        for (field, child) in properties.iter_mut().filter(|(_, child)| may_hold_object(child)) {
            let pointer = join(&join(pointer, "properties"), field);
            take_object(child, &pointer, &format!("{name}{}", pascal(field)), taken, found);
        }
    }
    for (key, suffix) in [("items", "Item"), ("additionalProperties", "Value")] {
        if let Some(child) = map.get_mut(key) {
            take_object(child, &join(pointer, key), &format!("{name}{suffix}"), taken, found);
        }
    }
}

fn may_hold_object(schema: &Value) -> bool {
    ["properties", "items", "additionalProperties"].iter().any(|key| schema.get(key).is_some())
}

fn take_object(
    schema: &mut Value,
    pointer: &str,
    name: &str,
    taken: &BTreeSet<String>,
    found: &mut Found,
) {
    take_objects(schema, pointer, name, taken, found);
    let Some(map) = schema.as_object_mut() else { return };
    // Parts of `allOf` and its like are for typify to merge.
    let plain = map.contains_key("properties")
        && !["$ref", "allOf", "anyOf", "oneOf"].iter().any(|key| map.contains_key(*key));
    let Some(name) = type_name(name).filter(|name| plain && !taken.contains(name)) else { return };
    if found.iter().any(|(_, other, _)| *other == name) {
        return;
    }
    let mut own = std::mem::take(map);
    // What is said of the field stays with the field.
    for key in ["nullable", "deprecated", "readOnly", "writeOnly"] {
        map.extend(own.remove_entry(key));
    }
    if let Some(words) = own.get("description") {
        map.insert("description".to_owned(), words.clone());
    }
    map.insert("$ref".to_owned(), json!(format!("#/components/schemas/{name}")));
    found.push((pointer.to_owned(), name, Value::Object(own)));
}

pub(super) fn add_schema(
    document: &mut Value,
    pointer: &str,
    name: String,
    schema: Value,
) -> Result<()> {
    let Some(root) = document.as_object_mut() else { refuse!("", "must be a mapping") };
    let schemas = root
        .entry("components")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .map(|components| components.entry("schemas").or_insert_with(|| json!({})));
    let Some(Value::Object(schemas)) = schemas else {
        refuse!("/components/schemas", "must be a mapping")
    };
    match schemas.get(&name) {
        Some(found) if *found != schema => {
            refuse!(pointer, "the type `{name}` would be made twice, with different contents")
        }
        _ => {
            schemas.insert(name, schema);
            Ok(())
        }
    }
}

/// Respells operation ids and schema names (see [`type_name`]) and every reference to them.
pub(super) fn respell(
    document: &mut Value,
    renamed: &mut BTreeMap<String, String>,
    moves: &mut Moves,
) -> Result<usize> {
    moves.begin();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    if let Some(schemas) = schemas {
        for (name, schema) in std::mem::take(schemas) {
            let pointer = join("/components/schemas", &name);
            let new = type_name(&name).filter(|_| !name.contains(['/', '~', '%', ' ']));
            let Some(new) = new else { refuse!(pointer, "`{name}` makes no type name") };
            // typify writes these two unqualified.
            if new == "Default" || new == "String" {
                refuse!(pointer, "`{name}` has a meaning in Rust already");
            }
            if schemas.contains_key(&new) {
                refuse!(pointer, "two schemas would be called `{new}`");
            }
            schemas.insert(new.clone(), schema);
            if new != name {
                moves.add(join("/components/schemas", &new), pointer);
                renamed.insert(new.clone(), name.clone());
                names.insert(name, new);
            }
        }
    }
    each_operation(document, |_, _, operation| {
        if let Some(Value::String(id)) = operation.get_mut("operationId")
            && let Some(new) = type_name(id)
            && new != *id
        {
            renamed.insert(new.clone(), std::mem::replace(id, new));
        }
        Ok(())
    })?;
    walk(document, "", &mut |_, map| {
        if let Some(Value::String(reference)) = map.get_mut("$ref")
            && let Some(new) = schema_name(reference).and_then(|name| names.get(name))
        {
            *reference = format!("#/components/schemas/{new}");
        }
        Ok(())
    })?;
    Ok(renamed.len())
}

/// Drops bounds, patterns and defaults.
///
/// Bounds would turn into types that refuse a response the server really sent, and defaults would
/// be sent with each request: an omitted `subaccount` means something else than `0` for a bound
/// key, and the exchange changes its defaults.
pub(super) fn drop_bounds(document: &mut Value) -> Result<usize> {
    const BOUNDS: [&str; 13] = [
        "default",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maximum",
        "maxItems",
        "maxLength",
        "maxProperties",
        "minimum",
        "minItems",
        "minLength",
        "minProperties",
        "multipleOf",
        "uniqueItems",
    ];
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            return Ok(());
        }
        let before = map.len();
        map.retain(|key, value| {
            key != "pattern"
                && !BOUNDS.contains(&key.as_str())
                // Closed objects would refuse the fields that the exchange adds.
                && !(key == "additionalProperties" && *value == false)
        });
        // Integers become i64 (or i32): an unsigned type would refuse a negative count or balance.
        if map.get("type").and_then(Value::as_str) == Some("integer")
            && map
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format != "int32" && !format.starts_with("kalshi-"))
        {
            map.insert("format".to_owned(), json!("int64"));
        }
        fired += before - map.len();
        Ok(())
    })?;
    Ok(fired)
}

/// Lists and maps of responses lose `nullable`: null decodes as empty (see `refine`), because the
/// server does send null for an empty list.
pub(super) fn plain_lists(document: &mut Value) -> Result<usize> {
    let requests = request_schemas(document)?;
    let mut fired = 0;
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        if requests.contains(name) {
            continue;
        }
        walk(schema, "", &mut |at, map| {
            let list = match map.get("type").and_then(Value::as_str) {
                Some("array") => true,
                Some("object") => !map.contains_key("properties"),
                _ => false,
            };
            // An element that is null is not an empty list.
            if list && !at.is_key("items") && map.remove("nullable").is_some() {
                fired += 1;
            }
            Ok(())
        })?;
    }
    Ok(fired)
}

/// Lists and maps that a request may leave out become nullable: an empty list says something else
/// than no list. A new key with no scopes must not get all of them because the list was left out.
pub(super) fn keep_empty_lists(document: &mut Value) -> Result<usize> {
    let requests = request_schemas(document)?;
    let mut fired = 0;
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        if !requests.contains(name) {
            continue;
        }
        walk(schema, "", &mut |_, map| {
            let required = map.get("required").and_then(Value::as_array).cloned();
            let properties = map.get_mut("properties").and_then(Value::as_object_mut);
            for (field, property) in properties.into_iter().flatten() {
                let optional = !required.iter().flatten().any(|name| name == field);
                if optional
                    && property.get("type").and_then(Value::as_str) == Some("array")
                    && property.get("nullable") != Some(&Value::Bool(true))
                {
                    property["nullable"] = Value::Bool(true);
                    fired += 1;
                }
            }
            Ok(())
        })?;
    }
    Ok(fired)
}

/// The cursor of a page may be missing, whatever its schema says: that is one of the ways in which
/// a list ends.
pub(super) fn free_cursors(document: &mut Value) -> usize {
    let mut fired = 0;
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        let required = schema.get_mut("required").and_then(Value::as_array_mut);
        if let Some(required) = required
            && name.ends_with("Response")
        {
            let before = required.len();
            required.retain(|field| field != "cursor" && field != "next_cursor");
            fired += before - required.len();
        }
    }
    fired
}

/// The schemas that a request body can hold, at any depth.
pub(crate) fn request_schemas(document: &Value) -> Result<BTreeSet<String>> {
    let bodies = operations(document)?.into_iter().filter_map(|(.., op)| op.get("requestBody"));
    Ok(reachable(document, bodies.collect()))
}

/// The schemas that these values refer to, and those that they refer to in turn.
pub(crate) fn reachable<'a>(document: &'a Value, mut from: Vec<&'a Value>) -> BTreeSet<String> {
    let schemas = document.pointer("/components/schemas");
    let mut found = BTreeSet::new();
    // A stack of its own: a long chain of references must not fill the program's.
    while let Some(value) = from.pop() {
        match value {
            Value::Object(map) => {
                if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(schema_name)
                    && found.insert(name.to_owned())
                {
                    from.extend(schemas.and_then(|schemas| schemas.get(name)));
                }
                from.extend(map.values());
            }
            Value::Array(items) => from.extend(items),
            _ => {}
        }
    }
    found
}

/// `$ref` with anything beside it becomes `allOf`: openapiv3 drops the siblings, and a required
/// field with a nullable reference would then fail on null.
pub(super) fn wrap_references(document: &mut Value) -> Result<usize> {
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if map.len() > 1 && map.get("$ref").is_some_and(Value::is_string) && !at.holds_names() {
            if let Some(reference) = map.remove("$ref") {
                map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
            }
            fired += 1;
        }
        Ok(())
    })?;
    Ok(fired)
}
