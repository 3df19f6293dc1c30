//! Enums of text, taken out of the document: they are generated open, by us and not by typify.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{EnumValue, Moves, OpenEnum, bodies::add_schema, operation_id, operations};
use crate::{
    document::{join, walk},
    error::{Result, refuse},
    names::{pascal, type_name, variant},
};

/// Takes every enum of text values out of the document; a reference stays in its place.
pub(super) fn take(document: &mut Value, moves: &mut Moves) -> Result<(Vec<OpenEnum>, usize)> {
    moves.begin();
    let mut taken: BTreeMap<String, OpenEnum> = BTreeMap::new();
    let mut fired = 0;
    let mut found: Vec<(String, String)> = Vec::new();
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    for (name, schema) in schemas.into_iter().flatten() {
        find_enums(schema, &join("/components/schemas", name), name, &mut found);
    }
    for (pointer, _, _, operation) in operations(document)? {
        let id = operation_id(operation);
        let parameters = operation.get("parameters").and_then(Value::as_array);
        for (index, parameter) in parameters.into_iter().flatten().enumerate() {
            let name = format!("{id}{}", pascal(parameter["name"].as_str().unwrap_or_default()));
            let pointer = format!("{pointer}/parameters/{index}/schema");
            find_enums(&parameter["schema"], &pointer, &name, &mut found);
        }
    }
    // Enums that are schemas of their own keep their names; the others make way.
    found.sort_by_key(|(pointer, name)| *pointer != join("/components/schemas", name));
    let mut null_too = BTreeSet::new();
    for (pointer, name) in found {
        let mut name = type_name(&name).unwrap_or(name);
        // The description of a parameter stands beside its schema.
        let beside = pointer.strip_suffix("/schema").and_then(|beside| document.pointer(beside));
        let beside = beside.and_then(|beside| beside.get("description")).cloned();
        let Some(Value::Object(schema)) = document.pointer_mut(&pointer) else { continue };
        let Some(values) = schema.remove("enum") else { continue };
        let at = join(&pointer, "enum");
        let values = known(&values, schema.get("type").and_then(Value::as_str), &at)?;
        fired += 1;
        if values.nullable {
            schema.insert("nullable".to_owned(), true.into());
        }
        let descriptions = schema.remove("x-enum-descriptions").unwrap_or_default();
        // Numbers and truths stay what they are: a new interval or level must not fail a page.
        let Known { texts: Some(texts), .. } = values else { continue };
        let description = schema.get("description").or(beside.as_ref());
        let description = description.and_then(Value::as_str).map(str::to_owned);
        let mut open = open_enum(&at, name.clone(), &texts, &descriptions, description)?;
        let own = pointer == join("/components/schemas", &name);
        if own {
            if schema.get("nullable") == Some(&Value::Bool(true)) {
                null_too.insert(format!("#/components/schemas/{name}"));
            }
            // Its own schema: keeps its place, and is replaced by name.
            *schema = json!({"type": "string"}).as_object().cloned().unwrap_or_default();
        } else {
            schema.remove("type");
            schema.remove("format");
            let schemas = document.pointer("/components/schemas");
            while match taken.get(&name) {
                Some(other) => !same_values(other, &open),
                None => schemas.is_some_and(|schemas| schemas.get(&name).is_some()),
            } {
                name.push_str("Field");
            }
            open.name.clone_from(&name);
            add_schema(document, &pointer, name.clone(), json!({"type": "string"}))?;
            if let Some(schema) = document.pointer_mut(&pointer) {
                schema["$ref"] = json!(format!("#/components/schemas/{name}"));
            }
            if !taken.contains_key(&name) {
                moves.add(join("/components/schemas", &name), pointer);
            }
        }
        taken.entry(name).or_insert(open);
    }
    if !null_too.is_empty() {
        // The type is replaced by name, which has no null: whoever refers to it must say so.
        walk(document, "", &mut |_, map| {
            if map.get("$ref").and_then(Value::as_str).is_some_and(|r| null_too.contains(r)) {
                map.insert("nullable".to_owned(), true.into());
            }
            Ok(())
        })?;
    }
    // A part of a path is never null.
    walk(document, "", &mut |_, map| {
        if map.get("in").and_then(Value::as_str) == Some("path")
            && let Some(schema) = map.get_mut("schema").and_then(Value::as_object_mut)
        {
            schema.remove("nullable");
        }
        Ok(())
    })?;
    Ok((taken.into_values().collect(), fired))
}

/// The values of an enum.
struct Known {
    nullable: bool,
    /// The place in the list and the text of each, if they are texts.
    texts: Option<Vec<(usize, String)>>,
}

/// Reads the values: all of one kind, and of the kind that the type says.
fn known(values: &Value, ty: Option<&str>, pointer: &str) -> Result<Known> {
    let Some(values) = values.as_array() else { refuse!(pointer, "must be a list") };
    let nullable = values.iter().any(Value::is_null);
    let mut values = values.iter().enumerate().filter(|(_, value)| !value.is_null()).peekable();
    let kind = match (values.peek(), ty) {
        (None, _) => refuse!(pointer, "an enum needs a value"),
        (Some((_, first)), None) => kind(first),
        (Some(_), Some("integer")) => "number",
        (Some(_), Some(ty)) => ty,
    };
    let mut texts = Vec::new();
    for (index, value) in values {
        match value {
            Value::String(text) if kind == "string" => texts.push((index, text.clone())),
            value if kind == self::kind(value) => {}
            _ => refuse!(
                join(pointer, &index.to_string()),
                "`{value}` is no {kind}, as the others are"
            ),
        }
    }
    Ok(Known { nullable, texts: (kind == "string").then_some(texts) })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn same_values(a: &OpenEnum, b: &OpenEnum) -> bool {
    a.values.iter().map(|v| &v.wire).eq(b.values.iter().map(|v| &v.wire))
}

/// Finds the enums of text in a schema, named after the way to them.
fn find_enums(schema: &Value, pointer: &str, name: &str, found: &mut Vec<(String, String)>) {
    let Some(map) = schema.as_object() else { return };
    if map.contains_key("enum") {
        found.push((pointer.to_owned(), name.to_owned()));
    }
    if let Some(Value::Object(properties)) = map.get("properties") {
        for (field, schema) in properties {
            let pointer = join(&join(pointer, "properties"), field);
            find_enums(schema, &pointer, &format!("{name}{}", pascal(field)), found);
        }
    }
    if let Some(items) = map.get("items") {
        find_enums(items, &join(pointer, "items"), &format!("{name}Item"), found);
    }
    if let Some(values) = map.get("additionalProperties") {
        let pointer = join(pointer, "additionalProperties");
        find_enums(values, &pointer, &format!("{name}Value"), found);
    }
    for list in ["allOf", "anyOf", "oneOf"] {
        for (index, schema) in
            map.get(list).and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            find_enums(schema, &join(&join(pointer, list), &index.to_string()), name, found);
        }
    }
}

fn open_enum(
    pointer: &str,
    name: String,
    texts: &[(usize, String)],
    descriptions: &Value,
    description: Option<String>,
) -> Result<OpenEnum> {
    let mut seen = BTreeMap::new();
    let mut values = Vec::with_capacity(texts.len());
    for (index, wire) in texts {
        let at = || join(pointer, &index.to_string());
        let Some(variant) = variant(wire) else { refuse!(at(), "`{wire}` makes no name") };
        if let Some(first) = seen.insert(variant.clone(), wire) {
            refuse!(at(), "`{first}` and `{wire}` would both be `{variant}`");
        }
        let description = descriptions.get(wire).and_then(Value::as_str).map(str::to_owned);
        values.push(EnumValue { variant, wire: wire.clone(), description });
    }
    Ok(OpenEnum { name, description, values })
}
