//! One enum for the same values in several places: `x-kalshi-enum: RfqStatus`.
//!
//! The document repeats a list of values wherever it is used, or leaves it out: a filter by status
//! is text, the status that comes back an enum. An overlay gives both the name of one enum. Its
//! values are those of the schema of that name, then those of the places in their order, so that a
//! value that only one place lists is known everywhere.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{COMMA_LIST, Moves, bodies::add_schema};
use crate::{
    document::{join, walk},
    error::{Result, refuse},
    names::type_name,
};

const NAME: &str = "x-kalshi-enum";
const WORDS: &str = "x-enum-descriptions";
/// Beside the schema of a parameter that is a list in one text: what its items are.
pub(crate) const ITEMS: &str = "x-kalshi-items";

/// The uses of one enum.
#[derive(Default)]
struct Shared {
    values: Vec<Value>,
    words: Map<String, Value>,
    description: Option<Value>,
    /// The first place that uses it.
    place: String,
}

impl Shared {
    fn add(&mut self, schema: &Map<String, Value>, pointer: &str) -> Result<()> {
        match schema.get("enum") {
            None => {}
            Some(Value::Array(values)) => {
                for value in values.iter().filter(|value| !value.is_null()) {
                    if !value.is_string() {
                        refuse!(
                            join(pointer, "enum"),
                            "`{value}` is no text, as a shared enum needs"
                        );
                    }
                    if !self.values.contains(value) {
                        self.values.push(value.clone());
                    }
                }
            }
            Some(_) => refuse!(join(pointer, "enum"), "must be a list"),
        }
        for (value, words) in schema.get(WORDS).and_then(Value::as_object).into_iter().flatten() {
            self.words.entry(value.clone()).or_insert_with(|| words.clone());
        }
        if self.description.is_none() && schema.contains_key("enum") {
            self.description = schema.get("description").cloned();
        }
        Ok(())
    }
}

/// Makes a reference of each schema that names its enum.
pub(super) fn share(document: &mut Value, moves: &mut Moves) -> Result<usize> {
    moves.begin();
    let mut enums: BTreeMap<String, Shared> = BTreeMap::new();
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            return Ok(());
        }
        let Some(name) = map.get(NAME) else { return Ok(()) };
        let pointer = at.pointer();
        let named = name.as_str().filter(|name| type_name(name).as_deref() == Some(*name));
        let Some(name) = named else {
            refuse!(join(&pointer, NAME), "`{name}` is not the name of a type")
        };
        if map.get("type").and_then(Value::as_str) != Some("string") {
            refuse!(pointer, "only a text can have an enum");
        }
        let shared = enums.entry(name.to_owned()).or_default();
        if shared.place.is_empty() {
            shared.place.clone_from(&pointer);
        }
        shared.add(map, &pointer)
    })?;
    for (name, shared) in &mut enums {
        let pointer = join("/components/schemas", name);
        if let Some(own) = document.pointer(&pointer) {
            let mut all = Shared { place: pointer.clone(), ..Shared::default() };
            if let Some(own) = own.as_object().filter(|own| own.contains_key("enum")) {
                all.add(own, &pointer)?;
            } else {
                refuse!(pointer, "`{name}` is the name of a schema that is no enum");
            }
            let places = std::mem::take(shared);
            let rest = json!({"enum": places.values, WORDS: places.words});
            all.add(rest.as_object().unwrap_or(&Map::new()), &pointer)?;
            *shared = all;
        }
        if shared.values.is_empty() {
            refuse!(&shared.place, "`{name}` has no values anywhere");
        }
    }
    let mut fired = 0;
    walk(document, "", &mut |at, map| {
        if at.holds_names() {
            return Ok(());
        }
        // A list in one text: the text stays, its items have the enum. Noted beside the schema:
        // within it, typify would not know the format any more.
        if let Some(Value::Object(schema)) = map.get_mut("schema")
            && schema.get("format").and_then(Value::as_str) == Some(COMMA_LIST)
            && let Some(Value::String(name)) = schema.remove(NAME)
        {
            fired += 1;
            for key in ["enum", "description", WORDS] {
                schema.remove(key);
            }
            let reference = format!("#/components/schemas/{name}");
            map.insert(ITEMS.to_owned(), json!({"$ref": reference}));
            return Ok(());
        }
        let Some(Value::String(name)) = map.remove(NAME) else { return Ok(()) };
        fired += 1;
        let reference = json!(format!("#/components/schemas/{name}"));
        let null = |values: &Value| values.as_array().is_some_and(|v| v.contains(&Value::Null));
        if map.get("enum").is_some_and(null) {
            map.insert("nullable".to_owned(), true.into());
        }
        for key in ["type", "format", "enum", WORDS] {
            map.remove(key);
        }
        map.insert("$ref".to_owned(), reference);
        Ok(())
    })?;
    for (name, shared) in enums {
        let pointer = join("/components/schemas", &name);
        let mut schema = json!({"type": "string", "enum": shared.values, WORDS: shared.words});
        if let Some(description) = shared.description {
            schema["description"] = description;
        }
        if let Some(own) = document.pointer_mut(&pointer) {
            *own = schema;
        } else {
            add_schema(document, &shared.place, name, schema)?;
            moves.add(pointer, shared.place);
        }
    }
    Ok(fired)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(schemas: &str) -> Result<Value> {
        let mut document = json!({"components": {"schemas": crate::document::parse(schemas)?}});
        share(&mut document, &mut Moves::default())?;
        Ok(document["components"]["schemas"].take())
    }

    #[test]
    fn places_with_one_name_have_one_enum_with_the_values_of_all() {
        let schemas = shared(
            "{A: {properties: {s: {type: string, x-kalshi-enum: State, enum: [open, shut],
                    description: The state., x-enum-descriptions: {open: It is open.}}}},
              B: {properties: {s: {type: string, x-kalshi-enum: State, nullable: true},
                    t: {type: string, x-kalshi-enum: State, enum: [shut, gone, null]}}}}",
        )
        .unwrap();
        let state = &schemas["State"];
        assert_eq!(state["enum"], json!(["open", "shut", "gone"]));
        assert_eq!(state[WORDS], json!({"open": "It is open."}));
        assert_eq!(state["description"], "The state.");
        let reference = json!("#/components/schemas/State");
        assert_eq!(
            schemas["B"]["properties"],
            json!({"s": {"$ref": reference, "nullable": true}, "t": {"$ref": reference, "nullable": true}})
        );
    }

    #[test]
    fn the_values_of_the_schema_with_the_name_come_first() {
        let schemas = shared(
            "{State: {type: string, enum: [z], description: Own.},
              A: {properties: {s: {type: string, x-kalshi-enum: State, enum: [a, z], description: Not this.}}}}",
        )
        .unwrap();
        assert_eq!(schemas["State"]["enum"], json!(["z", "a"]));
        assert_eq!(schemas["State"]["description"], "Own.");
    }

    #[test]
    fn a_list_joined_by_commas_stays_a_text_whose_items_have_the_enum() {
        let schemas = shared(
            "{A: {in: query, schema: {type: string, format: kalshi-comma-list, enum: [a],
                x-kalshi-enum: State}}}",
        )
        .unwrap();
        assert_eq!(schemas["A"]["schema"], json!({"type": "string", "format": COMMA_LIST}));
        assert_eq!(schemas["A"][ITEMS], json!({"$ref": "#/components/schemas/State"}));
        assert_eq!(schemas["State"]["enum"], json!(["a"]));
    }

    #[test]
    fn what_is_no_shared_enum_is_refused() {
        for (schemas, what) in [
            ("{A: {type: string, x-kalshi-enum: State}}", "no values"),
            ("{A: {type: string, x-kalshi-enum: 'a b', enum: [a]}}", "name of a type"),
            ("{A: {type: integer, x-kalshi-enum: State, enum: [1]}}", "only a text"),
            ("{A: {type: string, x-kalshi-enum: State, enum: [1]}}", "no text"),
            ("{A: {type: string, x-kalshi-enum: B, enum: [a]}, B: {type: object}}", "no enum"),
        ] {
            let error = shared(schemas).unwrap_err().to_string();
            assert!(error.contains(what), "{schemas}: {error}");
        }
    }
}
