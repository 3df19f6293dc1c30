//! Text that holds an amount: which fields do, and what the generator's own types for them are
//! called.
//!
//! A document of operations names them by reference (`FixedPointDollars`). A document of streams
//! says it in the exchange's own extensions, or only by the ending of a name.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{document::walk, error::Result, names::type_name};

/// A schema that kalshi-types holds exactly.
pub(crate) struct Exact {
    /// The schema, under the name of its type.
    pub(crate) name: &'static str,
    /// The type.
    pub(crate) path: &'static str,
    /// True if it is printed and parsed as text.
    pub(crate) as_text: bool,
    /// The format that stands for it in a document of streams.
    pub(crate) format: Option<&'static str>,
    description: &'static str,
}

/// Every schema that kalshi-types holds exactly.
pub(crate) const EXACT: [Exact; 4] = [
    Exact {
        name: "FixedPointCount",
        path: "::kalshi_types::Count",
        as_text: true,
        format: Some("fixed-point-count"),
        description: "Contracts, in steps of 0.01.",
    },
    Exact {
        name: "FixedPointDollars",
        path: "::kalshi_types::Dollars",
        as_text: true,
        format: Some("fixed-point-dollars"),
        description: "US dollars, with up to six decimals.",
    },
    Exact {
        name: "PriceLevelDollarsCountFp",
        path: "::kalshi_types::PriceLevel",
        as_text: false,
        format: None,
        description: "The count at one price of a book.",
    },
    Exact {
        name: "PriceRange",
        path: "::kalshi_types::PriceRange",
        as_text: false,
        format: None,
        description: "A band of the grid that prices are on.",
    },
];

impl Exact {
    /// Reports whether a schema of this name is what the type holds: another document may use the
    /// name for something else.
    pub(crate) fn fits(&self, schema: &Value) -> bool {
        let is = |schema: &Value, name: &str| schema.get("type").is_some_and(|found| found == name);
        match self.name {
            "PriceLevelDollarsCountFp" => is(schema, "array"),
            "PriceRange" => {
                schema.get("properties").and_then(Value::as_object).is_none_or(|fields| {
                    let parts = ["end", "start", "step"];
                    fields.len() == parts.len()
                        && parts.iter().all(|part| fields.contains_key(*part))
                })
            }
            _ => is(schema, "string") && schema.get("enum").is_none(),
        }
    }

    /// Returns the schema that the generator adds where a document has none.
    pub(crate) fn schema(&self) -> Value {
        let mut schema = match self.name {
            "PriceLevelDollarsCountFp" => json!({"type": "array", "items": {"type": "string"}}),
            "PriceRange" => json!({"type": "object"}),
            _ => json!({"type": "string"}),
        };
        schema["description"] = json!(self.description);
        schema
    }
}

/// Returns the schemas of a document that are replaced by exact types: (schema, type).
pub(crate) fn exact(document: &Value) -> Vec<(String, &'static Exact)> {
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let mut found = Vec::new();
    for (name, schema) in schemas.into_iter().flatten() {
        let own = schema.get(BUILT_IN).and_then(Value::as_str);
        let one = EXACT.iter().find(|exact| match own {
            Some(own) => exact.name == own,
            None => exact.name == *name && exact.fits(schema),
        });
        if let Some(exact) = one {
            found.push((name.clone(), exact));
        }
    }
    found
}

/// Marks a schema that the generator has added.
const BUILT_IN: &str = "x-kalshi-built-in";

/// Adds the generator's own schemas. Each has its own name, unless the document uses that for
/// something else; returns the name that it got.
pub(crate) fn add_built_in(
    schemas: &mut Map<String, Value>,
    type_name: impl Fn(&str) -> Option<String>,
) -> BTreeMap<&'static str, String> {
    let mut names = BTreeMap::new();
    for exact in &EXACT {
        let published = schemas
            .iter()
            .find(|(name, _)| type_name(name).as_deref() == Some(exact.name))
            .map(|(name, schema)| (name.clone(), exact.fits(schema)));
        let name = match published {
            // The document's own will do.
            Some((name, true)) => {
                names.insert(exact.name, name);
                continue;
            }
            Some((_, false)) => {
                let taken = |name: &str| {
                    schemas.keys().any(|other| type_name(other).as_deref() == Some(name))
                };
                let mut name = format!("Exact{}", exact.name);
                while taken(&name) {
                    name.insert_str(0, "Exact");
                }
                name
            }
            None => exact.name.to_owned(),
        };
        let mut schema = exact.schema();
        schema[BUILT_IN] = json!(exact.name);
        schemas.insert(name.clone(), schema);
        names.insert(exact.name, name);
    }
    names
}

/// Replaces the fields whose format says that they hold an amount by references to exact types.
pub(super) fn make_exact(document: &mut Value) -> Result<usize> {
    let mut found = Vec::new();
    let Some(schemas) = document.pointer_mut("/components/schemas") else { return Ok(0) };
    walk(schemas, "/components/schemas", &mut |at, map| {
        let format = map.get("format").and_then(Value::as_str);
        let exact = EXACT.iter().find(|exact| format.is_some() && exact.format == format);
        // Apart from the exact schemas themselves.
        if let Some(exact) = exact.filter(|_| !at.is_schema()) {
            found.push((at.pointer(), exact.name));
        }
        Ok(())
    })?;
    if found.is_empty() {
        return Ok(0);
    }
    let mut names = BTreeMap::new();
    if let Some(schemas) = schemas.as_object_mut() {
        names = add_built_in(schemas, type_name);
    }
    for (pointer, name) in &found {
        let field = document.pointer_mut(pointer).and_then(Value::as_object_mut);
        if let (Some(field), Some(name)) = (field, names.get(name)) {
            field.remove("type");
            field.remove("format");
            field.insert("$ref".to_owned(), json!(format!("#/components/schemas/{name}")));
        }
    }
    Ok(found.len())
}

/// Returns the format of a text that holds an amount of money or a count, as its document says it:
/// by the function that prints it, else by its type, else by the ending of its name.
pub(crate) fn format(name: &str, schema: &Map<String, Value>) -> Option<&'static str> {
    const DOLLARS: &str = "fixed-point-dollars";
    const COUNT: &str = "fixed-point-count";
    if !is_plain_text(schema) {
        return None;
    }
    let extension = |key| schema.get(key).and_then(Value::as_str);
    if let Some(function) = extension("x-rust-serialize-with") {
        if function.ends_with("_dollars") {
            return Some(DOLLARS);
        }
        if function.ends_with("_fixed_point_count") {
            return Some(COUNT);
        }
    }
    match extension("x-rust-type").map(|path| path.rsplit("::").next().unwrap_or(path)) {
        Some("Price" | "Value") => return Some(DOLLARS),
        Some("Amount" | "Position") => return Some(COUNT),
        _ => {}
    }
    if name.ends_with("_dollars") {
        Some(DOLLARS)
    } else if name.ends_with("_fp") {
        Some(COUNT)
    } else {
        None
    }
}

fn is_plain_text(schema: &Map<String, Value>) -> bool {
    schema.get("type").is_some_and(|name| name == "string")
        && !["enum", "format", TEXT].iter().any(|key| schema.contains_key(*key))
}

/// The extension by which an overlay says that a text holds no amount, whatever its name says.
const TEXT: &str = "x-kalshi-text";

#[cfg(feature = "review")]
/// Returns the fields that look like an amount and are plain text: (JSON pointer, name). Each needs
/// a format, or `x-kalshi-text: true` with the reason.
pub(crate) fn unformatted(document: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut schemas = document.pointer("/components/schemas").cloned().unwrap_or_default();
    let _ = walk(&mut schemas, "/components/schemas", &mut |at, map| {
        if at.is_key("properties") && at.holds_names() {
            for (name, schema) in map.iter().filter(|(name, _)| looks_like_an_amount(name)) {
                if schema.as_object().is_some_and(is_plain_text) {
                    found.push((at.below(name).pointer(), name.clone()));
                }
            }
        }
        Ok(())
    });
    found
}

#[cfg(feature = "review")]
fn looks_like_an_amount(name: &str) -> bool {
    const LAST: [&str; 24] = [
        "amount", "ask", "balance", "bid", "cost", "count", "delta", "dollars", "exposure", "fee",
        "fees", "fp", "interest", "margin", "notional", "payout", "pnl", "price", "quantity",
        "size", "usd", "value", "volume", "wager",
    ];
    let last = name.rsplit('_').next().unwrap_or(name);
    LAST.contains(&last)
}
