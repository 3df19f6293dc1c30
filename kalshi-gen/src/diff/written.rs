//! The values that our types write by themselves, whatever the caller chooses: what a new bound
//! must leave alone to break no client.

use regex::Regex;
use serde_json::Value;

use super::schema::{COUNT, DOLLARS, Flat, format_name};
use crate::normalize::{UNIX_MILLIS, UNIX_SECONDS, unix_time};

/// 2020 to 2100, in seconds.
const AGE: (i64, i64) = (1_577_836_800, 4_102_444_800);

/// The values that a type writes.
pub(super) enum Written {
    /// Text of the caller, or nothing that a bound could refuse as a whole.
    Anything,
    /// Each of these, or others of the same form.
    Texts(Vec<String>),
    /// Whole numbers within these.
    Whole(i64, i64),
    /// A list of something.
    List,
}

impl Written {
    /// Returns what the type of a schema writes. `name` is the schema's, `field` the name of the
    /// field or parameter.
    pub(super) fn of(name: Option<&str>, field: &str, schema: &Flat<'_>) -> Self {
        let texts = schema.values.as_ref().map(|values| {
            values.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        });
        if let Some(texts) = texts.filter(|texts| !texts.is_empty()) {
            return Self::Texts(texts);
        }
        let format = format_name(name, schema);
        let text = |text: &str| Self::Texts(vec![text.to_owned()]);
        match (schema.kind.as_deref(), format.as_str()) {
            // Four decimals or more.
            (Some("string"), DOLLARS) => text("0.5600"),
            // Two decimals.
            (Some("string"), COUNT) => text("10.00"),
            (Some("string"), "date-time") => text("2026-10-26T12:00:00Z"),
            (Some("string"), "date") => text("2026-10-26"),
            (Some("integer"), format) => {
                let unit = unix_time(field).unwrap_or(format);
                match unit {
                    UNIX_SECONDS => Self::Whole(AGE.0, AGE.1),
                    UNIX_MILLIS => Self::Whole(AGE.0 * 1_000, AGE.1 * 1_000),
                    "int32" => Self::Whole(i32::MIN.into(), i32::MAX.into()),
                    _ => Self::Whole(i64::MIN, i64::MAX),
                }
            }
            (Some("array"), _) => Self::List,
            _ => Self::Anything,
        }
    }

    /// Reports whether a bound refuses what the type writes: one of its texts, every one of its
    /// numbers, every list that is not empty.
    pub(super) fn refused_by(&self, bound: &str, value: &Value) -> bool {
        match (self, bound) {
            (Self::Texts(texts), "pattern") => {
                // A pattern that cannot be read here refuses nothing that could be named.
                let pattern = value.as_str().and_then(|text| Regex::new(text).ok());
                pattern.is_some_and(|pattern| texts.iter().any(|text| !pattern.is_match(text)))
            }
            (Self::Texts(texts), "maxLength") => {
                value.as_u64().is_some_and(|most| texts.iter().any(|text| length(text) > most))
            }
            (Self::Texts(texts), "minLength") => {
                value.as_u64().is_some_and(|least| texts.iter().any(|text| length(text) < least))
            }
            (Self::Whole(_, most), "minimum") => above(value, *most),
            (Self::Whole(_, most), "exclusiveMinimum") => {
                above(value, *most) || value.as_i64() == Some(*most)
            }
            (Self::Whole(least, _), "maximum") => below(value, *least),
            (Self::Whole(least, _), "exclusiveMaximum") => {
                below(value, *least) || value.as_i64() == Some(*least)
            }
            (Self::List, "maxItems") => value.as_u64() == Some(0),
            _ => false,
        }
    }
}

fn length(text: &str) -> u64 {
    text.chars().count().try_into().unwrap_or(u64::MAX)
}

/// Reports whether a number of the document is above a whole one.
fn above(value: &Value, most: i64) -> bool {
    match value.as_i64() {
        Some(value) => value > most,
        None => value.as_f64() > Value::from(most).as_f64(),
    }
}

fn below(value: &Value, least: i64) -> bool {
    match value.as_i64() {
        Some(value) => value < least,
        None => value.is_number() && value.as_f64() < Value::from(least).as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::diff::schema::{Spot, flat};

    fn refused(schema: &Value, field: &str, bound: &str, value: &Value) -> bool {
        let root = json!({});
        let schema = flat(&root, &Spot::new(schema, String::new())).unwrap();
        Written::of(None, field, &schema).refused_by(bound, value)
    }

    #[test]
    fn d2_a_bound_is_refused_only_where_no_choice_of_the_caller_avoids_it() {
        let dollars = json!({"type": "string", "format": "fixed-point-dollars"});
        let whole = json!({"type": "integer"});
        let narrow = json!({"type": "integer", "format": "int32"});
        let values = json!({"type": "string", "enum": ["yes", "no"]});
        let text = json!({"type": "string"});
        let list = json!({"type": "array", "items": {"type": "string"}});
        for (schema, field, bound, value, refuses) in [
            (&whole, "subaccount", "minimum", json!(0), false),
            (&whole, "subaccount", "maximum", json!(0), false),
            (&whole, "min_ts", "minimum", json!(0), false),
            (&whole, "min_ts", "minimum", json!(1_600_000_000_000_i64), true),
            (&whole, "ts_ms", "maximum", json!(4_000_000_000_i64), true),
            (&narrow, "n", "minimum", json!(3_000_000_000_i64), true),
            (&narrow, "n", "exclusiveMinimum", json!(i32::MAX), true),
            (&narrow, "n", "exclusiveMinimum", json!(true), false),
            (&narrow, "n", "maximum", json!(1e300), false),
            (&narrow, "n", "minimum", json!(1e300), true),
            (&narrow, "n", "maximum", json!(-1e300), true),
            (&dollars, "price", "pattern", json!(r"^\d+\.\d{2}$"), true),
            (&dollars, "price", "pattern", json!(r"^\d+\.\d{2,6}$"), false),
            (&dollars, "price", "pattern", json!("(?=x)"), false),
            (&dollars, "price", "maxLength", json!(4), true),
            (&dollars, "price", "minLength", json!(7), true),
            (&values, "side", "minLength", json!(3), true),
            (&values, "side", "pattern", json!("^[a-z]+$"), false),
            (&text, "ticker", "pattern", json!("^[A-Z]+$"), false),
            (&text, "ticker", "maxLength", json!(0), false),
            (&list, "tickers", "maxItems", json!(0), true),
            (&list, "tickers", "maxItems", json!(100), false),
            (&list, "tickers", "minItems", json!(1), false),
        ] {
            assert_eq!(refused(schema, field, bound, &value), refuses, "{schema} {bound} {value}");
        }
    }
}
