//! Checks a value by the JSON Schema of a request body.
//!
//! It knows the keywords that the operation table uses, and no others: a test walks every schema of
//! the table, and another compares the verdicts with a whole implementation. Beyond JSON Schema, a
//! member that an object does not list is a fault: it would be a misspelt one.

use crate::json::Json;

/// The deepest nesting of schemas; those of the exchange have fewer than ten levels.
const MAX_DEPTH: usize = 64;

/// The most faults that are reported.
const MAX_FAULTS: usize = 5;

/// Returns what does not fit, each with its place.
pub(super) fn faults(schema: &Json, value: &Json) -> Vec<String> {
    let mut checker = Checker { root: schema, faults: Vec::new() };
    checker.check(schema, value, "", 0);
    checker.unknown_members(schema, value, "", 0);
    checker.faults.truncate(MAX_FAULTS);
    checker.faults
}

struct Checker<'a> {
    root: &'a Json,
    faults: Vec<String>,
}

impl<'a> Checker<'a> {
    fn fault(&mut self, place: &str, text: &str) {
        let place = place.strip_prefix('.').unwrap_or(place);
        let text = if place.is_empty() { text.to_owned() } else { format!("{place} {text}") };
        if !self.faults.contains(&text) {
            self.faults.push(text);
        }
    }

    fn resolve(&self, schema: &'a Json) -> Option<&'a Json> {
        let name = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
        self.root.get("$defs")?.get(name)
    }

    /// Notes what does not fit the schema.
    fn check(&mut self, schema: &'a Json, value: &Json, place: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return self.fault(place, "is nested too deep");
        }
        let inner = depth + 1;
        if let Some(target) = self.resolve(schema) {
            self.check(target, value, place, inner);
        }
        if let Some(types) = schema.get("type") {
            let names: Vec<&str> = match types {
                Json::List(types) => types.iter().filter_map(Json::as_str).collect(),
                other => other.as_str().into_iter().collect(),
            };
            if !names.iter().any(|name| is_a(value, name)) {
                return self.fault(place, &format!("must be {}", names.join(" or ")));
            }
        }
        if let Some(Json::List(allowed)) = schema.get("enum")
            && !allowed.contains(value)
        {
            let shown: Vec<String> = allowed.iter().map(Json::cell).collect();
            self.fault(place, &format!("must be one of {}", shown.join(", ")));
        }
        if let Some(Json::List(parts)) = schema.get("allOf") {
            for part in parts {
                self.check(part, value, place, inner);
            }
        }
        if let Some(Json::List(parts)) = schema.get("anyOf") {
            let fits = |part: &&'a Json| {
                let mut trial = Checker { root: self.root, faults: Vec::new() };
                trial.check(part, value, place, inner);
                trial.faults.is_empty()
            };
            if !parts.iter().any(|part| fits(&part)) {
                self.fault(place, "fits none of the forms that it may have");
            }
        }
        self.check_number(schema, value, place);
        match value {
            Json::Text(text) => {
                let longest = bound(schema, "maxLength");
                if longest.is_some_and(|longest| to_i128(text.chars().count()) > longest) {
                    self.fault(place, &format!("is longer than {} characters", shown(longest)));
                }
            }
            Json::List(values) => {
                let count = to_i128(values.len());
                let (least, most) = (bound(schema, "minItems"), bound(schema, "maxItems"));
                if least.is_some_and(|least| count < least) {
                    self.fault(place, &format!("needs at least {} items", shown(least)));
                }
                if most.is_some_and(|most| count > most) {
                    self.fault(place, &format!("has more than {} items", shown(most)));
                }
                if let Some(items) = schema.get("items") {
                    for (index, item) in values.iter().enumerate() {
                        self.check(items, item, &format!("{place}[{index}]"), inner);
                    }
                }
            }
            Json::Object(members) => {
                for name in schema.get("required").and_then(Json::as_list).unwrap_or_default() {
                    if let Some(name) = name.as_str()
                        && value.get(name).is_none()
                    {
                        self.fault(place, &format!("lacks {name}"));
                    }
                }
                for (name, member) in members {
                    if let Some(known) = schema.get("properties").and_then(|all| all.get(name)) {
                        self.check(known, member, &format!("{place}.{name}"), inner);
                    }
                }
            }
            _ => {}
        }
    }

    fn check_number(&mut self, schema: &Json, value: &Json, place: &str) {
        let Json::Number(text) = value else { return };
        let (least, most) = (bound(schema, "minimum"), bound(schema, "maximum"));
        if least.is_none() && most.is_none() {
            return;
        }
        // Every bound of the table is one of whole numbers.
        let Some(number) = integer(text) else {
            return self.fault(place, "must be a whole number");
        };
        if least.is_some_and(|least| number < least) {
            self.fault(place, &format!("must be at least {}", shown(least)));
        }
        if most.is_some_and(|most| number > most) {
            self.fault(place, &format!("must be at most {}", shown(most)));
        }
    }

    /// Notes members that no part of the schema lists.
    fn unknown_members(&mut self, schema: &'a Json, value: &Json, place: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        match value {
            Json::Object(members) => {
                let mut known = Vec::new();
                self.properties(schema, &mut known, depth);
                // An object without a list of members takes any.
                if known.is_empty() && !members.is_empty() {
                    let is_empty_object = self.is_listed_empty(schema);
                    if is_empty_object {
                        self.fault(place, "takes no members");
                    }
                    return;
                }
                for (name, member) in members {
                    if let Some((_, schema)) = known.iter().find(|(known, _)| known == name) {
                        let place = format!("{place}.{name}");
                        self.unknown_members(schema, member, &place, depth + 1);
                    } else {
                        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                        let names = names.join(", ");
                        self.fault(place, &format!("has no member {name:?}; known are {names}"));
                    }
                }
            }
            Json::List(values) => {
                let target = self.resolve(schema).unwrap_or(schema);
                if let Some(items) = target.get("items") {
                    for (index, item) in values.iter().enumerate() {
                        self.unknown_members(items, item, &format!("{place}[{index}]"), depth + 1);
                    }
                }
            }
            _ => {}
        }
    }

    fn is_listed_empty(&self, schema: &'a Json) -> bool {
        let target = self.resolve(schema).unwrap_or(schema);
        matches!(target.get("properties"), Some(Json::Object(members)) if members.is_empty())
    }

    /// Collects the members that a schema lists, those of its parts included.
    fn properties(&self, schema: &'a Json, into: &mut Vec<(&'a str, &'a Json)>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        if let Some(target) = self.resolve(schema) {
            self.properties(target, into, depth + 1);
        }
        if let Some(Json::Object(members)) = schema.get("properties") {
            into.extend(members.iter().map(|(name, schema)| (name.as_str(), schema)));
        }
        for key in ["allOf", "anyOf"] {
            for part in schema.get(key).and_then(Json::as_list).unwrap_or_default() {
                self.properties(part, into, depth + 1);
            }
        }
    }
}

fn is_a(value: &Json, name: &str) -> bool {
    match (name, value) {
        ("null", Json::Null)
        | ("boolean", Json::Bool(_))
        | ("string", Json::Text(_))
        | ("array", Json::List(_))
        | ("object", Json::Object(_))
        | ("number", Json::Number(_)) => true,
        ("integer", Json::Number(text)) => integer(text).is_some(),
        _ => false,
    }
}

/// Returns a number that is whole, however it is written: `5`, `5.0`.
fn integer(text: &str) -> Option<i128> {
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    // A number with an exponent is no count of anything here.
    whole.parse().ok()
}

fn bound(schema: &Json, key: &str) -> Option<i128> {
    match schema.get(key)? {
        Json::Number(text) => integer(text),
        _ => None,
    }
}

fn to_i128(count: usize) -> i128 {
    i128::try_from(count).unwrap_or(i128::MAX)
}

fn shown(bound: Option<i128>) -> String {
    bound.map(|bound| bound.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kalshi_sdk::OPERATIONS;
    use proptest::{prelude::*, sample::Index};

    use super::*;

    /// The keywords that decide, and those that only describe.
    const KNOWN: [&str; 23] = [
        "$defs",
        "$ref",
        "$schema",
        "allOf",
        "anyOf",
        "default",
        "deprecated",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minimum",
        "properties",
        "required",
        "title",
        "type",
        "readOnly",
        "writeOnly",
        "examples",
    ];

    fn schemas() -> Vec<(&'static str, &'static str)> {
        let with_body = OPERATIONS.iter();
        with_body.filter_map(|operation| Some((operation.id, operation.body_schema()?))).collect()
    }

    fn walk(schema: &Json, unknown: &mut BTreeSet<String>) {
        let Json::Object(members) = schema else { return };
        for (key, value) in members {
            if !KNOWN.contains(&key.as_str()) {
                unknown.insert(key.clone());
            }
            match (key.as_str(), value) {
                ("properties" | "$defs", Json::Object(schemas)) => {
                    for (_, schema) in schemas {
                        walk(schema, unknown);
                    }
                }
                ("allOf" | "anyOf", Json::List(schemas)) => {
                    for schema in schemas {
                        walk(schema, unknown);
                    }
                }
                ("items", schema) => walk(schema, unknown),
                ("minimum" | "maximum" | "minItems" | "maxItems" | "maxLength", _) => {
                    assert!(bound(schema, key).is_some(), "{schema}: {key} is no whole number");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_every_body_is_known() {
        let schemas = schemas();
        assert!(schemas.len() > 30, "{}", schemas.len());
        for (id, text) in schemas {
            let mut unknown = BTreeSet::new();
            walk(&Json::parse(text).unwrap(), &mut unknown);
            assert!(unknown.is_empty(), "{id} uses {unknown:?}");
        }
    }

    /// Makes a value that fits a schema, with the optional members that `more` chooses.
    fn sample(root: &Json, schema: &Json, more: &mut dyn FnMut() -> bool, depth: usize) -> Json {
        let checker = Checker { root, faults: Vec::new() };
        if let Some(target) = checker.resolve(schema) {
            return sample(root, target, more, depth + 1);
        }
        for key in ["allOf", "anyOf"] {
            if let Some(Json::List(parts)) = schema.get(key) {
                return sample(root, &parts[0], more, depth + 1);
            }
        }
        if let Some(Json::List(values)) = schema.get("enum") {
            return values[0].clone();
        }
        let name = match schema.get("type") {
            Some(Json::List(names)) => names[0].as_str().unwrap().to_owned(),
            Some(name) => name.as_str().unwrap().to_owned(),
            None => "object".to_owned(),
        };
        match name.as_str() {
            "string" => Json::text(match schema.get("format").and_then(Json::as_str) {
                Some("date-time") => "2026-11-23T14:00:00Z",
                Some("uuid") => "a952bcbe-ec3b-4b5b-b8f9-11dae589608c",
                _ => "x",
            }),
            "integer" => Json::number(bound(schema, "minimum").unwrap_or(1).max(1)),
            "number" => Json::number("0.5"),
            "boolean" => Json::Bool(true),
            "array" => {
                let least = bound(schema, "minItems").unwrap_or(1).max(1);
                let item = schema.get("items").map(|items| sample(root, items, more, depth + 1));
                Json::List((0..least).filter_map(|_| item.clone()).collect())
            }
            _ => {
                let required: Vec<&str> = schema
                    .get("required")
                    .and_then(Json::as_list)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(Json::as_str)
                    .collect();
                let Some(Json::Object(members)) = schema.get("properties") else {
                    return Json::Object(Vec::new());
                };
                let mut out = Vec::new();
                for (name, schema) in members {
                    if required.contains(&name.as_str()) || (depth < 5 && more()) {
                        out.push((name.clone(), sample(root, schema, more, depth + 1)));
                    }
                }
                Json::Object(out)
            }
        }
    }

    fn values_in<'a>(value: &'a mut Json, into: &mut Vec<&'a mut Json>) {
        match value {
            Json::List(values) => {
                for value in values {
                    values_in(value, into);
                }
            }
            Json::Object(members) => {
                for (_, value) in members {
                    values_in(value, into);
                }
            }
            leaf => into.push(leaf),
        }
    }

    /// Reports whether a whole implementation accepts a value.
    fn accepted(schema: &str, value: &Json) -> bool {
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let value: serde_json::Value = serde_json::from_str(&value.to_string()).unwrap();
        jsonschema::validator_for(&schema).unwrap().is_valid(&value)
    }

    #[test]
    fn a_body_that_fits_has_no_faults() {
        for (id, text) in schemas() {
            let schema = Json::parse(text).unwrap();
            for all in [false, true] {
                let body = sample(&schema, &schema, &mut || all, 0);
                assert_eq!(faults(&schema, &body), [] as [String; 0], "{id}: {body}");
                assert!(accepted(text, &body), "{id}: {body}");
            }
        }
    }

    #[test]
    fn a_misspelt_member_is_a_fault_wherever_it_stands() {
        let schema = OPERATIONS.iter().find(|o| o.id == "batch_create_orders_v2").unwrap();
        let schema = Json::parse(schema.body_schema().unwrap()).unwrap();
        let mut body = sample(&schema, &schema, &mut || false, 0);
        if let Json::Object(members) = &mut body
            && let (_, Json::List(orders)) = &mut members[0]
            && let Json::Object(order) = &mut orders[0]
        {
            order.push(("post_olny".to_owned(), Json::Bool(true)));
        }
        let faults = faults(&schema, &body);
        assert!(
            faults.len() == 1 && faults[0].starts_with("orders[0] has no member \"post_olny\""),
            "{faults:?}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// The verdict is that of a whole implementation, whatever is changed in a body that fits.
        #[test]
        fn verdicts_are_those_of_a_whole_implementation(
            which in any::<Index>(),
            more in any::<u64>(),
            place in any::<Index>(),
            change in 0_usize..9,
        ) {
            let all = schemas();
            let (id, text) = all[which.index(all.len())];
            let schema = Json::parse(text).unwrap();
            let mut bits = more;
            let mut choose = || { bits = bits.rotate_left(1); bits & 1 == 1 };
            let mut body = sample(&schema, &schema, &mut choose, 0);
            let mut removed = None;
            if change == 8 {
                if let Json::Object(members) = &mut body && !members.is_empty() {
                    removed = Some(members.remove(place.index(members.len())).0);
                }
            } else {
                let mut leaves = Vec::new();
                values_in(&mut body, &mut leaves);
                if !leaves.is_empty() {
                    let at = place.index(leaves.len());
                    *leaves[at] = match change {
                        0 => Json::Null,
                        1 => Json::Bool(false),
                        2 => Json::number(-1),
                        3 => Json::number(1_000_000_000_000_i64),
                        4 => Json::number("1.5"),
                        5 => Json::text("another"),
                        6 => Json::List(vec![Json::Null; 200]),
                        _ => Json::text("x".repeat(400)),
                    };
                }
            }
            let ours = faults(&schema, &body);
            prop_assert_eq!(
                ours.is_empty(), accepted(text, &body), "{} {} {:?}: {:?}", id, body, removed, ours
            );
        }
    }
}
