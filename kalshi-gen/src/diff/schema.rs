//! One schema as the generator sees it: references followed, `allOf` merged, and what Rust makes
//! of it. Knows one document at a time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    document::{join, resolve_place, schema_name},
    error::{Result, refuse},
};

/// The format of an amount of dollars.
pub(super) const DOLLARS: &str = "fixed-point-dollars";

/// The format of a number of contracts.
pub(super) const COUNT: &str = "fixed-point-count";

/// The function of the exchange's own code that writes a text.
const SERIALIZER: &str = "x-rust-serialize-with";

/// The type of a text in the exchange's own code.
const RUST_TYPE: &str = "x-rust-type";

/// An overlay's word that a text is no amount, whatever its name says.
const TEXT: &str = "x-kalshi-text";

/// `allOf` within `allOf`: no published schema goes beyond two.
const MAX_MERGE: usize = 16;

/// Reports whether a key holds prose, which says nothing about the structure.
pub(super) fn is_prose(key: &str) -> bool {
    matches!(
        key,
        "description" | "summary" | "example" | "examples" | "externalDocs" | "title" | "$comment"
    ) || key.starts_with("x-") && key != "x-error-codes"
}

/// A place where a schema stands: the value, and its pointer.
#[derive(Clone, Debug)]
pub(super) struct Spot<'a> {
    pub(super) value: &'a Value,
    pub(super) pointer: String,
}

impl<'a> Spot<'a> {
    pub(super) fn new(value: &'a Value, pointer: String) -> Self {
        Self { value, pointer }
    }

    /// Returns the name of the schema that stands here by reference alone, attributes beside it
    /// left out.
    pub(super) fn name(&self) -> Option<&'a str> {
        let map = self.value.as_object()?;
        let reference = match map.get("$ref") {
            Some(reference) => reference,
            None => match map.get("allOf")?.as_array()?.as_slice() {
                [only] if !map.contains_key("properties") => only.get("$ref")?,
                _ => return None,
            },
        };
        schema_name(reference.as_str()?)
    }
}

/// The rule for fields that are not named.
#[derive(Clone, Debug)]
pub(super) enum Rest<'a> {
    Anything,
    Nothing,
    Of(Spot<'a>),
}

/// A schema with everything in one place.
#[derive(Clone, Debug)]
pub(super) struct Flat<'a> {
    pub(super) kind: Option<String>,
    pub(super) format: Option<String>,
    /// The extensions that tell amounts from other texts.
    hints: BTreeMap<String, Value>,
    pub(super) nullable: bool,
    /// The values it is limited to, `const` being one.
    pub(super) values: Option<Vec<Value>>,
    pub(super) fields: BTreeMap<String, Spot<'a>>,
    pub(super) required: BTreeSet<String>,
    pub(super) items: Option<Spot<'a>>,
    pub(super) rest: Rest<'a>,
    pub(super) choices: BTreeMap<&'static str, Vec<Spot<'a>>>,
    /// The named schemas that `allOf` merged into this one.
    pub(super) through: BTreeSet<String>,
    /// Everything else that a schema says: bounds, defaults, deprecation.
    pub(super) attributes: BTreeMap<String, Value>,
}

impl Flat<'_> {
    fn empty() -> Self {
        Self {
            kind: None,
            format: None,
            hints: BTreeMap::new(),
            through: BTreeSet::new(),
            nullable: false,
            values: None,
            fields: BTreeMap::new(),
            required: BTreeSet::new(),
            items: None,
            rest: Rest::Anything,
            choices: BTreeMap::new(),
            attributes: BTreeMap::new(),
        }
    }

    pub(super) fn is_list(&self) -> bool {
        self.kind.as_deref() == Some("array")
    }

    /// Reports whether this is an object whose keys are data.
    pub(super) fn is_map(&self) -> bool {
        self.kind.as_deref() == Some("object") && self.fields.is_empty()
    }
}

/// Returns everything said at this place, references followed.
pub(super) fn flat<'a>(root: &'a Value, spot: &Spot<'a>) -> Result<Flat<'a>> {
    let mut into = Flat::empty();
    merge(root, spot, &mut into, 0, true)?;
    if into.format.is_none() && into.values.is_none() && into.kind.as_deref() == Some("string") {
        into.format = implied_format(root, spot, &into.hints).map(str::to_owned);
    }
    Ok(into)
}

/// Returns the format of a text that an `AsyncAPI` document publishes without one: its notes for
/// the exchange's own code tell amounts from other texts, else the ending of the name does.
fn implied_format(
    root: &Value,
    spot: &Spot<'_>,
    hints: &BTreeMap<String, Value>,
) -> Option<&'static str> {
    root.get("asyncapi")?;
    if hints.contains_key(TEXT) {
        return None;
    }
    let ends = |text: &str, dollars: &str, count: &str| {
        if text.ends_with(dollars) {
            Some(DOLLARS)
        } else if text.ends_with(count) {
            Some(COUNT)
        } else {
            None
        }
    };
    let hint = |key| hints.get(key).and_then(Value::as_str);
    let printed = hint(SERIALIZER).and_then(|text| ends(text, "_dollars", "_fixed_point_count"));
    let typed = || match hint(RUST_TYPE)?.rsplit("::").next()? {
        "Price" | "Value" => Some(DOLLARS),
        "Amount" | "Position" => Some(COUNT),
        _ => None,
    };
    let named = || {
        let (holder, name) = spot.pointer.rsplit_once('/')?;
        if holder.ends_with("/properties") { ends(name, "_dollars", "_fp") } else { None }
    };
    printed.or_else(typed).or_else(named)
}

/// Returns only what is said at this very place: for a reference, the attributes beside it.
pub(super) fn own<'a>(root: &'a Value, spot: &Spot<'a>) -> Result<Flat<'a>> {
    let mut into = Flat::empty();
    merge(root, spot, &mut into, 0, spot.name().is_none())?;
    Ok(into)
}

fn merge<'a>(
    root: &'a Value,
    spot: &Spot<'a>,
    into: &mut Flat<'a>,
    depth: usize,
    follow: bool,
) -> Result<()> {
    if depth > MAX_MERGE {
        refuse!(&spot.pointer, "`allOf` and references run in a ring");
    }
    let Some(map) = spot.value.as_object() else {
        refuse!(&spot.pointer, "a schema must be a mapping")
    };
    // What stands here comes before what is referred to.
    for (key, value) in map {
        let at = || join(&spot.pointer, key);
        match key.as_str() {
            "$ref" | "allOf" => {}
            "type" => kind(value, &at(), into)?,
            "format" => {
                let Some(format) = value.as_str() else { refuse!(at(), "must be text") };
                into.format.get_or_insert_with(|| format.to_owned());
            }
            SERIALIZER | RUST_TYPE | TEXT => {
                into.hints.entry(key.clone()).or_insert_with(|| value.clone());
            }
            "nullable" => into.nullable |= value == &Value::Bool(true),
            "enum" => {
                let Some(values) = value.as_array() else { refuse!(at(), "must be a list") };
                into.nullable |= values.contains(&Value::Null);
                let values = values.iter().filter(|value| !value.is_null()).cloned();
                into.values.get_or_insert_with(|| values.collect());
            }
            "const" => {
                into.values.get_or_insert_with(|| vec![value.clone()]);
            }
            "properties" => {
                let Some(fields) = value.as_object() else { refuse!(at(), "must be a mapping") };
                for (name, field) in fields {
                    let spot = Spot::new(field, join(&at(), name));
                    into.fields.entry(name.clone()).or_insert(spot);
                }
                into.kind.get_or_insert_with(|| "object".to_owned());
            }
            "required" => {
                let Some(names) = value.as_array() else { refuse!(at(), "must be a list") };
                into.required.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            "items" => {
                into.items.get_or_insert_with(|| Spot::new(value, at()));
            }
            "additionalProperties" => match value {
                Value::Bool(true) => {}
                Value::Bool(false) => into.rest = Rest::Nothing,
                _ => into.rest = Rest::Of(Spot::new(value, at())),
            },
            "oneOf" | "anyOf" => {
                let Some(list) = value.as_array() else { refuse!(at(), "must be a list") };
                let at = at();
                let spots = list.iter().enumerate();
                let spots = spots.map(|(i, v)| Spot::new(v, join(&at, &i.to_string())));
                let word = if key == "oneOf" { "oneOf" } else { "anyOf" };
                into.choices.entry(word).or_insert_with(|| spots.collect());
            }
            key if is_prose(key) => {}
            key => {
                into.attributes.entry(key.to_owned()).or_insert_with(|| value.clone());
            }
        }
    }
    if !follow {
        return Ok(());
    }
    if map.contains_key("$ref") {
        let (found, place) = resolve_place(root, spot.value, &spot.pointer)?;
        let pointer = place.unwrap_or(&spot.pointer).to_owned();
        if depth > 0
            && let Some(name) = pointer.strip_prefix("/components/schemas/")
        {
            into.through.insert(name.to_owned());
        }
        merge(root, &Spot::new(found, pointer), into, depth + 1, true)?;
    }
    if let Some(parts) = map.get("allOf") {
        let at = join(&spot.pointer, "allOf");
        let Some(parts) = parts.as_array() else { refuse!(at, "must be a list") };
        for (index, part) in parts.iter().enumerate() {
            let part = Spot::new(part, join(&at, &index.to_string()));
            merge(root, &part, into, depth + 1, true)?;
        }
    }
    Ok(())
}

/// Reads `type`, which newer documents write as a list with `null` in it.
fn kind(value: &Value, pointer: &str, into: &mut Flat<'_>) -> Result<()> {
    let name = match value {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            into.nullable |= names.iter().any(|name| name == "null");
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.collect::<Vec<_>>().join("|")
        }
        _ => refuse!(pointer, "must be text"),
    };
    // A part of `allOf` may say `object` again; the outer one counts.
    into.kind.get_or_insert(name);
    Ok(())
}

/// Returns the Rust type of a schema, as far as a caller can tell it from another: named types by
/// their names, so that a change inside one is told where it is declared.
pub(super) fn rust_type<'a>(root: &'a Value, spot: &Spot<'a>) -> Result<String> {
    if let Some(name) = spot.name() {
        return Ok(crate::names::type_name(name).unwrap_or_else(|| name.to_owned()));
    }
    let flat = flat(root, spot)?;
    if !flat.choices.is_empty() {
        return Ok("a choice".to_owned());
    }
    if flat.values.is_some() && flat.kind.as_deref().is_none_or(|kind| kind == "string") {
        return Ok("an enum".to_owned());
    }
    let format = flat.format.as_deref();
    Ok(match flat.kind.as_deref() {
        Some("string") => match format {
            Some("date-time") => "DateTime<Utc>".to_owned(),
            Some("date") => "NaiveDate".to_owned(),
            Some(DOLLARS) => "Dollars".to_owned(),
            Some(COUNT) => "Count".to_owned(),
            Some("ip") => "IpAddr".to_owned(),
            Some("ipv4") => "Ipv4Addr".to_owned(),
            Some("ipv6") => "Ipv6Addr".to_owned(),
            _ => "String".to_owned(),
        },
        Some("integer") if format == Some("int32") => "i32".to_owned(),
        Some("integer") => "i64".to_owned(),
        Some("number") => "Decimal".to_owned(),
        Some("boolean") => "bool".to_owned(),
        Some("array") => match &flat.items {
            Some(items) => format!("Vec<{}>", nullable_type(root, items)?),
            None => "Vec<Value>".to_owned(),
        },
        Some("object") if flat.fields.is_empty() => match &flat.rest {
            Rest::Of(values) => format!("map of {}", nullable_type(root, values)?),
            _ => "map of Value".to_owned(),
        },
        Some("object") => "a struct".to_owned(),
        _ => "Value".to_owned(),
    })
}

fn nullable_type<'a>(root: &'a Value, spot: &Spot<'a>) -> Result<String> {
    let inner = rust_type(root, spot)?;
    Ok(if own(root, spot)?.nullable { format!("Option<{inner}>") } else { inner })
}

/// The result of reading values of a new schema into the type made from the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// All of them, as they are meant.
    Reads,
    /// All of them, in a sense that may be another.
    Guesses,
    /// Some of them not.
    Fails,
}

/// Returns how the old type takes the values of the new schema, contents of lists and fields of
/// objects aside: those are compared at their own places.
pub(super) fn reading(
    old_name: Option<&str>,
    old: &Flat<'_>,
    new_name: Option<&str>,
    new: &Flat<'_>,
) -> Reading {
    let when = |reads| if reads { Reading::Reads } else { Reading::Fails };
    let new_kind = new.kind.as_deref();
    let Some(old_kind) = old.kind.as_deref() else {
        // Anything, or a choice, whose branches are compared one by one.
        return when(old.choices.is_empty() || !new.choices.is_empty());
    };
    if let Some(places) = decimals(old_name, old) {
        // A whole number is read as whole dollars or contracts, and may have been cents.
        if new_kind == Some("integer") {
            return Reading::Guesses;
        }
        let fits = decimals(new_name, new).is_some_and(|new| new <= places);
        return when(new_kind == Some("string") && fits);
    }
    when(match old_kind {
        "string" => {
            let old_format = old.format.as_deref();
            let format = ["date-time", "date", "ip", "ipv4", "ipv6"];
            new_kind == Some("string")
                && (old_format.is_none_or(|old| !format.contains(&old))
                    || new.format.as_deref() == old_format)
        }
        "integer" => {
            let narrow = old.format.as_deref() == Some("int32");
            new_kind == Some("integer") && (!narrow || new.format.as_deref() == Some("int32"))
        }
        "number" => matches!(new_kind, Some("number" | "integer")),
        kind => new_kind == Some(kind),
    })
}

/// Returns the format that a named text stands for, beside the ones that a schema states.
pub(super) fn format_name(name: Option<&str>, schema: &Flat<'_>) -> String {
    match (schema.format.as_deref(), name) {
        (Some(format), _) => format.to_owned(),
        (None, Some("FixedPointDollars")) => DOLLARS.to_owned(),
        (None, Some("FixedPointCount")) => COUNT.to_owned(),
        (None, _) => "none".to_owned(),
    }
}

/// Returns the decimals that a fixed-point type keeps.
fn decimals(name: Option<&str>, schema: &Flat<'_>) -> Option<u8> {
    match (name, schema.format.as_deref()) {
        (Some("FixedPointDollars"), _) | (_, Some(DOLLARS)) => Some(6),
        (Some("FixedPointCount"), _) | (_, Some(COUNT)) => Some(2),
        _ => None,
    }
}

/// Returns a value as text, without quotes.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns a text for people, short.
pub(super) fn brief(text: &str) -> String {
    if text.chars().count() > 60 {
        text.chars().take(57).chain("...".chars()).collect()
    } else {
        text.to_owned()
    }
}

/// Returns the same without prose, for comparing as a whole.
pub(super) fn bare(value: &Value) -> Value {
    fn strip(value: &Value, names: bool) -> Value {
        match value {
            Value::Object(map) => {
                let kept = map.iter().filter(|(key, _)| names || !is_prose(key));
                let kept = kept.map(|(key, value)| {
                    let below = !names && matches!(key.as_str(), "properties" | "schemas");
                    let mut value = strip(value, below);
                    if !names
                        && matches!(key.as_str(), "required" | "enum" | "tags")
                        && let Value::Array(items) = &mut value
                    {
                        items.sort_by_key(Value::to_string);
                    }
                    (key.clone(), value)
                });
                Value::Object(kept.collect::<Map<_, _>>())
            }
            Value::Array(items) => Value::Array(items.iter().map(|v| strip(v, false)).collect()),
            other => other.clone(),
        }
    }
    strip(value, false)
}
