//! Bodies that are not quite as documented, brought to the documented form: what a more lenient
//! exchange would take. The schemas of the document say what is documented.

use kalshi_sdk::Operation;
use serde_json::{Map, Value};

use crate::rules::Rules;

/// The depth to which references are followed; schemas of bodies are a few levels deep.
const MAX_DEPTH: u32 = 16;

/// Returns the body as the rules let it pass; `None` if that is as it is.
pub(crate) fn relaxed(rules: Rules, operation: &Operation, body: &Value) -> Option<Value> {
    if !(rules.ignore_unknown_fields || rules.lenient_numbers) || !body.is_object() {
        return None;
    }
    let root: Value = serde_json::from_str(operation.body_schema()?).ok()?;
    let mut body = body.clone();
    Relaxing { rules, root: &root }.relax(&mut body, &root, MAX_DEPTH);
    Some(body)
}

struct Relaxing<'a> {
    rules: Rules,
    root: &'a Value,
}

impl Relaxing<'_> {
    fn relax(&self, value: &mut Value, schema: &Value, depth: u32) {
        let Some(depth) = depth.checked_sub(1) else { return };
        match value {
            Value::Object(fields) => {
                let mut known = Map::new();
                self.fields(schema, depth, &mut known);
                // A schema without fields allows any.
                if self.rules.ignore_unknown_fields && !known.is_empty() {
                    fields.retain(|name, _| known.contains_key(name));
                }
                for (name, field) in fields {
                    if let Some(schema) = known.get(name) {
                        self.relax(field, schema, depth);
                    }
                }
            }
            Value::Array(rows) => {
                if let Some(items) = self.find(schema, depth, &|schema| schema.get("items")) {
                    for row in rows {
                        self.relax(row, items, depth);
                    }
                }
            }
            Value::String(text) if self.rules.lenient_numbers => {
                let decimals = self.find(schema, depth, &decimals);
                let (min, max) = match decimals.and_then(Value::as_str) {
                    Some(reference) if reference.ends_with("/FixedPointDollars") => (2, 4),
                    Some(_) => (0, 2),
                    None => return,
                };
                if let Some(number) = documented(text, min, max) {
                    *text = number;
                }
            }
            _ => {}
        }
    }

    /// Collects the fields of a schema and of all that it is made of.
    fn fields(&self, schema: &Value, depth: u32, known: &mut Map<String, Value>) {
        let Some(depth) = depth.checked_sub(1) else { return };
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            known.extend(properties.clone());
        }
        for part in self.parts(schema) {
            self.fields(part, depth, known);
        }
    }

    /// Returns what `choose` finds in a schema, or in what it is made of.
    fn find<'a>(
        &'a self,
        schema: &'a Value,
        depth: u32,
        choose: &dyn Fn(&'a Value) -> Option<&'a Value>,
    ) -> Option<&'a Value> {
        let depth = depth.checked_sub(1)?;
        let here = choose(schema);
        here.or_else(|| self.parts(schema).find_map(|part| self.find(part, depth, choose)))
    }

    fn parts<'a>(&'a self, schema: &'a Value) -> impl Iterator<Item = &'a Value> {
        let target = schema.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|target| self.root.pointer(target.strip_prefix('#')?));
        let lists = ["allOf", "anyOf", "oneOf"].into_iter();
        let lists = lists.filter_map(|list| schema.get(list).and_then(Value::as_array));
        target.into_iter().chain(lists.flatten())
    }
}

/// Returns the reference of a schema, if it is one to a price or a count.
fn decimals(schema: &Value) -> Option<&Value> {
    let reference = schema.get("$ref")?;
    let name = reference.as_str()?.rsplit('/').next()?;
    ["FixedPointDollars", "FixedPointCount"].contains(&name).then_some(reference)
}

/// Returns a number with as many decimals as documented, if it can be written so.
fn documented(text: &str, min: usize, max: usize) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = !(whole.is_empty() && fraction.is_empty())
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > max {
        return None;
    }
    let point = if fraction.is_empty() && min == 0 { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction:0<min$}"))
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::OperationId;
    use serde_json::json;

    use super::*;

    fn relax(change: impl FnOnce(&mut Rules), body: &Value) -> Value {
        let mut rules = Rules::default();
        change(&mut rules);
        let operation = OperationId::BatchCreateOrdersV2.operation();
        relaxed(rules, operation, body).unwrap_or_else(|| body.clone())
    }

    #[test]
    fn numbers_are_brought_to_the_documented_form() {
        for (text, price, count) in [
            ("+1", "1.00", "1"),
            (".5", "0.50", "0.5"),
            ("5.", "5.00", "5"),
            ("00.50", "0.50", "0.5"),
            ("0.50000", "0.50", "0.5"),
            ("-0.10", "-0.10", "-0.1"),
            ("10.00", "10.00", "10"),
        ] {
            assert_eq!(documented(text, 2, 4).as_deref(), Some(price), "{text}");
            assert_eq!(documented(text, 0, 2).as_deref(), Some(count), "{text}");
        }
        assert_eq!(documented("0.56789", 2, 4), None);
        for text in ["", ".", "+", "1e2", "x", "1.0.0", "--1", "1 "] {
            assert_eq!(documented(text, 2, 4), None, "{text}");
        }
    }

    #[test]
    fn only_what_the_rules_allow_is_changed_and_only_where_it_is_documented() {
        let body = json!({
            "more": 1,
            "orders": [{"price": ".5", "count": "+1", "ticker": "+1", "type": "limit"}],
        });
        assert_eq!(relax(|_| {}, &body), body);
        assert_eq!(
            relax(|rules| rules.ignore_unknown_fields = true, &body),
            json!({"orders": [{"price": ".5", "count": "+1", "ticker": "+1"}]}),
        );
        assert_eq!(
            relax(|rules| rules.lenient_numbers = true, &body),
            json!({
                "more": 1,
                "orders": [{"price": "0.50", "count": "1", "ticker": "+1", "type": "limit"}],
            }),
        );
    }
}
