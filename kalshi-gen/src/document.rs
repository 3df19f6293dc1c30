//! An untyped document: reading YAML, pointers, references, walking.
//!
//! Untyped, because a typed model of OpenAPI drops what it does not know (siblings of a `$ref`,
//! extensions) before a pass could see it.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Result, refuse};

/// No published document nests deeper than a dozen levels; every later step recurses, so the depth
/// is bounded where the document comes in.
const MAX_DEPTH: usize = 64;
/// The largest published document has some ten thousand values. Anchors make millions out of a few
/// lines.
const MAX_VALUES: usize = 1_000_000;

/// Reads YAML (and so JSON) into an untyped value.
///
/// # Errors
///
/// Text that is not YAML, two equal keys in one mapping (YAML would silently keep the last), a
/// number that JSON cannot hold, and more nesting or more values than any such document has.
pub fn parse(text: &str) -> Result<Value> {
    let refused = RefCell::new(None);
    let values = Cell::new(0);
    let strict = Strict { at: At::start(""), depth: 0, values: &values, refused: &refused };
    strict.deserialize(serde_norway::Deserializer::from_str(text)).map_err(|error| {
        refused.into_inner().unwrap_or_else(|| {
            let place = error.location().map_or_else(String::new, |at| {
                format!("line {} column {}", at.line(), at.column())
            });
            Error::new(place, format!("this is not YAML: {error}"))
        })
    })
}

/// Like `serde_json::Value`, but two equal keys are an error, as is what has no end.
#[derive(Clone, Copy)]
struct Strict<'a> {
    at: At<'a>,
    depth: usize,
    values: &'a Cell<usize>,
    /// The first fault, with its pointer: an error of the YAML reader has only a line.
    refused: &'a RefCell<Option<Error>>,
}

impl Strict<'_> {
    fn below<'a>(&'a self, step: Step<'a>) -> Strict<'a> {
        Strict {
            at: At { parent: Some(&self.at), step },
            depth: self.depth + 1,
            values: self.values,
            refused: self.refused,
        }
    }

    fn refuse<E: serde::de::Error>(&self, message: String) -> E {
        let error = E::custom(&message);
        self.refused.borrow_mut().get_or_insert_with(|| Error::new(self.at.pointer(), message));
        error
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        input: D,
    ) -> std::result::Result<Value, D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > MAX_VALUES {
            return Err(self.refuse(format!("more than {MAX_VALUES} values, anchors written out")));
        }
        if self.depth > MAX_DEPTH {
            return Err(self.refuse(format!("more than {MAX_DEPTH} levels deep")));
        }
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| self.refuse("infinite and not-a-number have no JSON form".to_owned()))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> std::result::Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = input.next_element_seed(self.below(Step::Index(items.len())))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> std::result::Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = input.next_key_seed(self)? {
            // Status codes are often written without quotes.
            let key = match key {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                other => return Err(self.refuse(format!("`{other}` cannot be a key"))),
            };
            if map.contains_key(&key) {
                return Err(self.refuse(format!("the key `{key}` stands here twice")));
            }
            let value = input.next_value_seed(self.below(Step::Key(&key)))?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Sorts the keys of every mapping.
///
/// `serde_json` does it by itself, unless some other crate of the same build turns on its
/// `preserve_order`: the same document must give the same bytes there too.
pub(crate) fn sort(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if !map.keys().is_sorted() {
                let mut pairs: Vec<(String, Value)> = std::mem::take(map).into_iter().collect();
                pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
                map.extend(pairs);
            }
            map.values_mut().filter(|value| is_nested(value)).for_each(sort);
        }
        Value::Array(items) => items.iter_mut().filter(|value| is_nested(value)).for_each(sort),
        _ => {}
    }
}

/// Appends one step to a JSON pointer, escaped.
pub(crate) fn join(pointer: &str, step: &str) -> String {
    format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// A place during a walk. Becomes a JSON pointer only when somebody asks: a walk passes thousands
/// of places, and an unoptimised build script feels each allocation.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    /// The pointer where the walk began.
    Start(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// Begins a walk.
    pub(crate) fn start(pointer: &'a str) -> Self {
        Self { parent: None, step: Step::Start(pointer) }
    }

    pub(crate) fn below(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    pub(crate) fn item(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// Reports whether the mapping here has names of fields or values for keys, not words of the
    /// schema language: there a field may be called `default` or `example`.
    pub(crate) fn holds_names(&self) -> bool {
        if self.key() == Some("x-enum-descriptions") {
            return true;
        }
        if self.key() == Some("properties") {
            // `properties` may itself be the name of a field.
            return self.parent.is_none_or(|parent| parent.key() != Some("properties"));
        }
        self.key() == Some("schemas")
            && self.parent.is_some_and(|parent| {
                parent.key() == Some("components")
                    && parent.parent.is_some_and(|root| root.parent.is_none())
            })
    }

    /// Reports whether this is a schema of its own, not a part of one.
    pub(crate) fn is_schema(&self) -> bool {
        self.parent.is_some_and(|parent| matches!(parent.step, Step::Start("/components/schemas")))
    }

    fn key(&self) -> Option<&str> {
        match self.step {
            Step::Key(key) => Some(key),
            _ => None,
        }
    }

    pub(crate) fn is_key(&self, name: &str) -> bool {
        self.key() == Some(name)
    }

    pub(crate) fn pointer(&self) -> String {
        let parent = self.parent.map(At::pointer).unwrap_or_default();
        match self.step {
            Step::Start(pointer) => pointer.to_owned(),
            Step::Key(key) => join(&parent, key),
            Step::Index(index) => join(&parent, &index.to_string()),
        }
    }
}

/// The action of a walk at each mapping.
pub(crate) type Visit<'v> = dyn FnMut(&At<'_>, &mut Map<String, Value>) -> Result<()> + 'v;

/// Calls `visit` with the place of every mapping, parents before children.
pub(crate) fn walk(value: &mut Value, start: &str, visit: &mut Visit<'_>) -> Result<()> {
    walk_from(value, &At::start(start), visit)
}

fn walk_from(value: &mut Value, at: &At<'_>, visit: &mut Visit<'_>) -> Result<()> {
    match value {
        Value::Object(map) => {
            visit(at, map)?;
            for (key, child) in map.iter_mut().filter(|(_, child)| is_nested(child)) {
                walk_from(child, &at.below(key), visit)?;
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter_mut().enumerate().filter(|(_, child)| is_nested(child))
            {
                walk_from(child, &at.item(index), visit)?;
            }
        }
        _ => {}
    }
    Ok(())
}

pub(crate) fn is_nested(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// Returns the mapping at `key`, or an error that says it is missing or something else.
pub(crate) fn object<'a>(
    map: &'a Map<String, Value>,
    pointer: &str,
    key: &str,
) -> Result<&'a Map<String, Value>> {
    match map.get(key) {
        Some(Value::Object(inner)) => Ok(inner),
        Some(_) => refuse!(join(pointer, key), "must be a mapping"),
        None => refuse!(pointer, "`{key}` is missing"),
    }
}

/// Follows `$ref`s within the document until something else stands there.
pub(crate) fn resolve<'a>(root: &'a Value, value: &'a Value, pointer: &str) -> Result<&'a Value> {
    resolve_place(root, value, pointer).map(|(value, _)| value)
}

/// Returns the same, with the pointer of what was found if references led there.
pub(crate) fn resolve_place<'a>(
    root: &'a Value,
    mut value: &'a Value,
    pointer: &str,
) -> Result<(&'a Value, Option<&'a str>)> {
    let mut place = None;
    // A reference to a reference is legal; a ring of them is not.
    for _ in 0..16 {
        let Some(reference) = value.get("$ref") else { return Ok((value, place)) };
        let Some(reference) = reference.as_str() else {
            refuse!(join(pointer, "$ref"), "must be text")
        };
        let Some(target) = reference.strip_prefix('#') else {
            refuse!(join(pointer, "$ref"), "`{reference}` points outside the document")
        };
        match root.pointer(target) {
            Some(found) => value = found,
            None => refuse!(join(pointer, "$ref"), "`{reference}` points at nothing"),
        }
        place = Some(target);
    }
    refuse!(pointer, "references run in a ring")
}

/// Returns the name at the end of `#/components/schemas/NAME`.
pub(crate) fn schema_name(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/components/schemas/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_equal_keys_are_refused_with_their_name() {
        let error = parse("a: 1\nb:\n  c: 1\n  c: 2\n").unwrap_err();
        assert!(error.to_string().contains("`c` stands here twice"), "{error}");
    }

    #[test]
    fn text_that_is_not_yaml_names_line_and_column() {
        let error = parse("a: [1, 2\nb: 3").unwrap_err();
        assert!(error.pointer().starts_with("line "), "{error}");
    }

    #[test]
    fn unquoted_status_codes_become_text() {
        assert_eq!(parse("200: ok").unwrap(), serde_json::json!({"200": "ok"}));
    }

    #[test]
    fn yes_and_no_stay_text() {
        assert_eq!(parse("[yes, no, on]").unwrap(), serde_json::json!(["yes", "no", "on"]));
    }

    #[test]
    fn a_ring_of_references_ends() {
        let root = parse("a: {$ref: '#/b'}\nb: {$ref: '#/a'}").unwrap();
        assert!(resolve(&root, &root["a"], "/a").is_err());
    }
}
