//! Which fields of a response are labels: absent or null costs neither the row nor the page.
//!
//! The policy is written down in ARCHITECTURE.md, "What must be there". Identity and money (ids,
//! tickers, prices, counts, sides, status, times that order events) stay strict, and so does
//! whatever is named nowhere here. An overlay overrides both ways with `x-kalshi-label: true` or
//! `false` beside the field.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{OpenEnum, reach::request_schemas};
use crate::{
    document::{join, schema_name},
    error::{Result, refuse},
};

/// The value of a label that is absent or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// As the empty text, which an open enum holds as `Unset` or `Unknown`.
    Text,
    /// As an object all of whose fields are `None` or empty.
    Object,
    /// As `None`: the type becomes an `Option`.
    Option,
}

/// The labels, by schema and field.
pub type Labels = BTreeMap<(String, String), Label>;

/// The extension by which an overlay decides.
pub(crate) const LABEL: &str = "x-kalshi-label";

/// Texts for people, and enums that change no number: labels wherever they stand in a response.
const TEXTS: [&str; 28] = [
    "category",
    "color_code",
    "contract_terms_url",
    "contract_url",
    "default_range",
    "description",
    "early_close_condition",
    "expiration_value",
    "formatted_forecast",
    "frequency",
    "functional_description",
    "image_url",
    "incentive_description",
    "name",
    "no_sub_title",
    "notification_message",
    "price_level_structure",
    "result",
    "rules_primary",
    "rules_secondary",
    "settlement_bounds_type",
    "strike_period",
    "strike_type",
    "sub_title",
    "subtitle",
    "title",
    "usage_tier",
    "yes_sub_title",
];

/// Labels of one schema each: flags, shards in reads, parts of a candle, kinds of a row.
const FIELDS: [(&str, &str); 17] = [
    ("Deposit", "type"),
    ("FcmFill", "exchange_index"),
    ("Fill", "exchange_index"),
    ("LiveData", "type"),
    ("Market", "can_close_early"),
    ("MarketCandlestick", "price"),
    ("MarketCandlestick", "yes_ask"),
    ("MarketCandlestick", "yes_bid"),
    ("MarketCandlestickHistorical", "price"),
    ("MarketCandlestickHistorical", "yes_ask"),
    ("MarketCandlestickHistorical", "yes_bid"),
    ("MarketPosition", "exchange_index"),
    ("Milestone", "type"),
    ("Order", "type"),
    ("Settlement", "exchange_index"),
    ("Trade", "is_block_trade"),
    ("Withdrawal", "type"),
];

/// Finds the labels, and makes those optional that have no natural value for "nothing".
pub(super) fn set(document: &mut Value, enums: &[OpenEnum]) -> Result<(Labels, usize)> {
    let requests = request_schemas(document)?;
    let mut labels = Labels::new();
    let root = document.clone();
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for (name, schema) in schemas.into_iter().flatten() {
        let pointer = join(&join("/components/schemas", name), "properties");
        let Some(schema) = schema.as_object_mut() else { continue };
        let required = required(schema);
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            continue;
        };
        let mut optional = Vec::new();
        for (field, property) in properties {
            if property.get(LABEL).is_some_and(|said| !said.is_boolean()) {
                refuse!(join(&join(&pointer, field), LABEL), "must be true or false");
            }
            let is_label = is_label(name, field, property);
            if let Some(property) = property.as_object_mut() {
                property.remove(LABEL);
            }
            // What a request carries is checked by its builder; what is optional is lenient as it is.
            if !is_label || requests.contains(name) || !required.contains(field) {
                continue;
            }
            let Some(label) = kind(&root, enums, property) else { continue };
            if label == Label::Option {
                optional.push(field.clone());
            }
            labels.insert((name.clone(), field.clone()), label);
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required
                .retain(|field| field.as_str().is_none_or(|f| !optional.iter().any(|o| o == f)));
        }
    }
    let fired = labels.len();
    Ok((labels, fired))
}

/// Reports whether a field is a label when a response requires it: by its names, unless an overlay
/// decides.
pub(crate) fn is_label(schema: &str, field: &str, property: &Value) -> bool {
    property
        .get(LABEL)
        .and_then(Value::as_bool)
        .unwrap_or_else(|| TEXTS.contains(&field) || FIELDS.contains(&(schema, field)))
}

fn required(schema: &Map<String, Value>) -> Vec<String> {
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Returns how a field reads that is a label; `None` for lists and maps, which null leaves empty
/// anyway.
fn kind(document: &Value, enums: &[OpenEnum], property: &Value) -> Option<Label> {
    if property.get("nullable") == Some(&Value::Bool(true)) {
        return Some(Label::Option);
    }
    let (name, schema) = resolved(document, property);
    if name.is_some_and(|name| enums.iter().any(|open| open.name == name)) {
        return Some(Label::Text);
    }
    let fields = schema.get("properties").and_then(Value::as_object);
    match (schema.get("type").and_then(Value::as_str), fields) {
        (Some("array"), _) | (Some("object"), None) => None,
        // A text of a format of its own has no empty value.
        (Some("string"), _) if schema.get("format").is_none() && !is_replaced(name) => {
            Some(Label::Text)
        }
        (_, Some(fields)) if name.is_some() && may_be_empty(schema, fields) => Some(Label::Object),
        _ => Some(Label::Option),
    }
}

/// Reports whether this is money or a count, which are texts on the wire, too.
pub(crate) fn is_replaced(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.starts_with("FixedPoint"))
}

/// Reports whether each field of an object may be null or absent.
fn may_be_empty(schema: &Value, fields: &Map<String, Value>) -> bool {
    let required = schema.as_object().map(required).unwrap_or_default();
    fields.iter().all(|(name, field)| {
        !required.contains(name) || field.get("nullable") == Some(&Value::Bool(true))
    })
}

/// Follows the reference of a property, also one with words beside it.
fn resolved<'a>(document: &'a Value, property: &'a Value) -> (Option<&'a str>, &'a Value) {
    let reference = property.get("$ref").or_else(|| property.pointer("/allOf/0/$ref"));
    let Some(name) = reference.and_then(Value::as_str).and_then(schema_name) else {
        return (None, property);
    };
    let schema = document.pointer(&join("/components/schemas", name)).unwrap_or(&Value::Null);
    if schema.get("$ref").is_some() {
        return resolved(document, schema);
    }
    (Some(name), schema)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(schemas: &Value) -> (Labels, Value) {
        let mut document = json!({"paths": {}, "components": {"schemas": schemas}});
        let (labels, fired) = set(&mut document, &[]).unwrap();
        assert_eq!(labels.len(), fired);
        (labels, document)
    }

    #[test]
    fn texts_flags_and_parts_are_labels_and_money_is_not() {
        let (labels, document) = labels(&json!({
            "Prices": {"type": "object", "properties": {"open": {"type": "string"}}},
            "Trade": {
                "type": "object",
                "required": ["title", "is_block_trade", "price", "ticker", "subtitle"],
                "properties": {
                    "title": {"type": "string"},
                    "subtitle": {"type": "string", "nullable": true},
                    "is_block_trade": {"type": "boolean"},
                    "ticker": {"type": "string"},
                    "price": {"type": "string"},
                },
            },
            "MarketCandlestick": {
                "type": "object",
                "required": ["price", "yes_bid"],
                "properties": {
                    "price": {"$ref": "#/components/schemas/Prices"},
                    "yes_bid": {"$ref": "#/components/schemas/Trade"},
                },
            },
        }));
        let label =
            |schema: &str, field: &str| labels.get(&(schema.to_owned(), field.to_owned())).copied();
        assert_eq!(label("Trade", "title"), Some(Label::Text));
        assert_eq!(label("Trade", "subtitle"), Some(Label::Option));
        assert_eq!(label("Trade", "is_block_trade"), Some(Label::Option));
        assert_eq!(label("Trade", "ticker"), None);
        assert_eq!(label("Trade", "price"), None);
        assert_eq!(label("MarketCandlestick", "price"), Some(Label::Object));
        assert_eq!(label("MarketCandlestick", "yes_bid"), Some(Label::Option));
        let required = &document["components"]["schemas"]["Trade"]["required"];
        assert_eq!(*required, json!(["title", "price", "ticker"]));
    }

    #[test]
    fn an_overlay_decides_both_ways() {
        let (labels, document) = labels(&json!({"A": {
            "type": "object",
            "required": ["title", "ticker"],
            "properties": {
                "title": {"type": "string", "x-kalshi-label": false},
                "ticker": {"type": "string", "x-kalshi-label": true},
            },
        }}));
        assert_eq!(labels.keys().map(|(_, field)| field.as_str()).collect::<Vec<_>>(), ["ticker"]);
        assert!(!document.to_string().contains(LABEL));
    }
}
