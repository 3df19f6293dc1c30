//! Bodies and the objects in them: a name for each, and no responses but the success.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Moves, each_operation, operation_id, parameters::shared};
use crate::{
    document::{join, resolve_place, walk},
    error::{Result, refuse},
    names::{pascal, type_name},
};

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
            // OpenAPI demands one; nothing is made of it.
            if let Some(response) = response.as_object_mut() {
                response.entry("description").or_insert_with(|| "".into());
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

/// Names an object that is written inside another schema, where the name of its place would be too
/// long: `x-kalshi-name: BatchCancelItem`.
const NAME: &str = "x-kalshi-name";

/// Takes the name that an overlay gives to an inline object, if it is the name of a type.
pub(crate) fn take_name(schema: &mut Value) -> Option<String> {
    let map = schema.as_object_mut()?;
    let name = map.get(NAME)?.as_str().filter(|name| type_name(name).as_deref() == Some(*name))?;
    let name = name.to_owned();
    map.remove(NAME);
    Some(name)
}

/// Makes each object that is written inside another schema a schema of its own, under the name that
/// an overlay gives it, or else the one that typify would: what is done for schemas (descriptions,
/// links, deprecation, leniency) is then done for all types.
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
    walk(document, "", &mut |at, map| match map.get(NAME).filter(|_| !at.holds_names()) {
        None => Ok(()),
        Some(name) => refuse!(
            join(&at.pointer(), NAME),
            "`{name}` is not the name of a type, or this is no object inside another schema"
        ),
    })?;
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
    if !plain {
        return;
    }
    let given = take_name(schema);
    let is_given = given.is_some();
    let Some(mut name) = given.or_else(|| type_name(name)) else { return };
    // typify would give it the name of another type as well.
    while !is_given && (taken.contains(&name) || found.iter().any(|(_, other, _)| *other == name)) {
        name.push_str("Field");
    }
    let Some(map) = schema.as_object_mut() else { return };
    let mut own = std::mem::take(map);
    // What is said of the field stays with the field.
    for key in ["nullable", "deprecated", "readOnly", "writeOnly"] {
        map.extend(own.remove_entry(key));
    }
    if let Some(text) = own.get("description") {
        map.insert("description".to_owned(), text.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;

    fn named(schemas: &str) -> Result<Value> {
        let mut document = json!({"components": {"schemas": parse(schemas)?}});
        name_objects(&mut document, &mut Moves::default())?;
        Ok(document["components"]["schemas"].take())
    }

    #[test]
    fn an_inline_object_takes_the_name_that_an_overlay_gives_it() {
        let row = "type: object, properties: {x: {type: string}}";
        let schemas = named(&format!(
            "{{B: {{properties: {{rows: {{items: {{{row}, x-kalshi-name: Row}}}},
                                 more: {{items: {{{row}, x-kalshi-name: Row}}}},
                                 rest: {{items: {{{row}}}}}}}}}}}"
        ))
        .unwrap();
        let names: Vec<&str> = schemas.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["B", "BRestItem", "Row"]);
        let properties = &schemas["B"]["properties"];
        for field in ["rows", "more"] {
            assert_eq!(properties[field]["items"], json!({"$ref": "#/components/schemas/Row"}));
        }
        assert_eq!(schemas["Row"], parse(&format!("{{{row}}}")).unwrap());
    }

    #[test]
    fn a_name_is_refused_where_it_cannot_be_given() {
        let object = "{type: object, properties: {x: {type: string}}";
        for (schema, what) in [
            (
                format!("{object}, x-kalshi-name: 'a row'}}"),
                "`\"a row\"` is not the name of a type",
            ),
            (format!("{object}, x-kalshi-name: 7}}"), "`7` is not the name of a type"),
            ("{type: string, x-kalshi-name: Row}".to_owned(), "no object inside another"),
            (format!("{object}, x-kalshi-name: A}}"), "made twice, with different contents"),
        ] {
            let error =
                named(&format!("{{A: {{type: string}}, B: {{properties: {{f: {schema}}}}}}}"))
                    .unwrap_err()
                    .to_string();
            assert!(error.contains(what), "{schema}: {error}");
        }
        let error = named("{A: {type: string, x-kalshi-name: Row}}").unwrap_err().to_string();
        assert!(error.starts_with("/components/schemas/A/x-kalshi-name: "), "{error}");
    }
}
