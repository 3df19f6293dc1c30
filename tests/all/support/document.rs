//! Random values that the exchange's document allows.
//!
//! Made from the document as published, with the corrections of its facts alone: what the
//! generator makes of the document afterwards is what is under test here.

use std::{collections::BTreeSet, fs, path::Path, sync::OnceLock};

use kalshi_sdk::{Operation, operation::Lane};
use serde_json::{Map, Value, json};
use serde_json_path::{JsonPath, NormalizedPath};

use super::Random;

/// The names of fields that no document has, put in to be ignored.
pub(crate) const UNKNOWN_FIELD: &str = "x_not_in_the_document";

#[derive(Debug)]
pub(crate) struct Document {
    root: Value,
    /// The fields that the reviewed list of types calls labels, by schema. Names are in lower case:
    /// Rust spells them differently, `Rfq` for `RFQ`.
    labels: BTreeSet<(String, String)>,
}

/// The amount of optional data that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// All that may be absent is absent, lists are empty.
    Least,
    /// All that may be null is null.
    Nulls,
    /// Every field is there, and every list has items.
    Most,
    /// Anything.
    Any,
}

/// Makes values of one document.
pub(crate) struct Generator<'a> {
    document: &'a Document,
    pub(crate) random: Random,
    fill: Fill,
    /// A response may hold what the document does not promise: new fields and enum values, null
    /// for a list.
    response: bool,
    /// The least number of items of the next list.
    least: usize,
    required: Vec<Required>,
}

/// A random value.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) value: Value,
    /// The required places in it.
    pub(crate) required: Vec<Required>,
}

/// A field that must not go missing.
#[derive(Clone, Debug)]
pub(crate) struct Required {
    /// The JSON pointer of the object that holds it.
    pub(crate) holder: String,
    pub(crate) name: String,
    /// The reviewed list of types calls it a label: it may go missing after all.
    pub(crate) is_label: bool,
}

impl Required {
    /// Returns the place as an error names it: `markets[0].ticker`.
    pub(crate) fn json_path(&self) -> String {
        let mut path = String::new();
        for step in self.holder.split('/').skip(1).chain([self.name.as_str()]) {
            if step.bytes().all(|byte| byte.is_ascii_digit()) {
                path.extend(["[", step, "]"]);
            } else {
                path.extend([if path.is_empty() { "" } else { "." }, step]);
            }
        }
        path
    }
}

/// A schema with its references followed.
struct Shape {
    keys: Map<String, Value>,
    nullable: bool,
    name: Option<String>,
}

impl Document {
    /// Returns the document of event contracts.
    pub(crate) fn get() -> &'static Self {
        Self::of_lane(Lane::EventContracts)
    }

    /// Returns the document that an operation is of.
    pub(crate) fn of(operation: &Operation) -> &'static Self {
        Self::of_lane(operation.cost.lane)
    }

    pub(crate) fn of_lane(lane: Lane) -> &'static Self {
        static EVENT_CONTRACTS: OnceLock<Document> = OnceLock::new();
        static PERPETUALS: OnceLock<Document> = OnceLock::new();
        static CLEARING: OnceLock<Document> = OnceLock::new();
        match lane {
            Lane::EventContracts => EVENT_CONTRACTS.get_or_init(|| Self::read("")),
            Lane::Perpetuals => PERPETUALS.get_or_init(|| Self::read("perps_")),
            _ => CLEARING.get_or_init(|| Self::read("klear_")),
        }
    }

    fn read(prefix: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = |path: String| fs::read_to_string(root.join(path)).unwrap();
        let read = |path: String| kalshi_gen::parse(&text(path)).unwrap();
        let mut document = kalshi_gen::written_out(read(format!("{prefix}openapi.yaml")));
        let corrections = read(format!("{prefix}overlay/corrections.yaml"));
        for action in corrections["actions"].as_array().unwrap() {
            apply(&mut document, action);
        }
        let mut labels = BTreeSet::new();
        let mut schema = String::new();
        for line in text(format!("tests/golden/{prefix}types.txt")).lines() {
            if let Some(name) = line.strip_prefix("struct ") {
                schema = name.to_ascii_lowercase();
            } else if let Some((field, _)) = line.trim().split_once("~:") {
                labels.insert((schema.clone(), field.to_owned()));
            }
        }
        Self { root: document, labels }
    }

    /// Reports whether the review file marks a field as a label. Schemas without a name of their own
    /// have none.
    fn is_label(&self, schema: Option<&str>, field: &str) -> bool {
        schema.is_some_and(|schema| {
            self.labels.contains(&(schema.to_ascii_lowercase(), field.to_owned()))
        })
    }

    /// Returns the number of operations.
    pub(crate) fn operations(&self) -> usize {
        let methods = ["get", "put", "post", "delete", "patch"];
        let items = self.root["paths"].as_object().unwrap().values();
        items.map(|item| methods.iter().filter(|m| item.get(m).is_some()).count()).sum()
    }

    fn operation(&self, operation: &Operation) -> &Value {
        let method = operation.method.as_str().to_ascii_lowercase();
        let found = &self.root["paths"][operation.path][&method];
        assert_eq!(found["operationId"], operation.operation_id, "{operation}");
        found
    }

    /// Returns the status of the success and the schema of its body.
    pub(crate) fn success(&self, operation: &Operation) -> (u16, Option<&Value>) {
        let responses = self.operation(operation)["responses"].as_object().unwrap();
        let (status, response) = responses.iter().find(|(code, _)| code.starts_with('2')).unwrap();
        (status.parse().unwrap(), response.pointer("/content/application~1json/schema"))
    }

    /// Returns the schema of the request's body, and whether there must be one.
    pub(crate) fn body(&self, operation: &Operation) -> Option<(&Value, bool)> {
        let body = self.operation(operation).get("requestBody")?;
        let schema = body.pointer("/content/application~1json/schema").unwrap();
        Some((schema, body["required"] == true))
    }

    /// Reports whether a schema is that of an object without fields.
    pub(crate) fn is_empty_object(&self, schema: &Value) -> bool {
        !self.shape(schema).keys.contains_key("properties")
    }

    /// Returns the schema of each parameter: (name, in the path, must be given, schema).
    pub(crate) fn parameters(&self, operation: &Operation) -> Vec<(&str, bool, bool, &Value)> {
        let shared = self.root["paths"][operation.path].get("parameters").and_then(Value::as_array);
        let own = self.operation(operation).get("parameters").and_then(Value::as_array);
        let parameters = shared.into_iter().chain(own).flatten().map(|parameter| {
            let in_path = parameter["in"] == "path";
            let required = in_path || parameter["required"] == true;
            (parameter["name"].as_str().unwrap(), in_path, required, &parameter["schema"])
        });
        parameters.collect()
    }

    /// Reports whether an object must have any field that is not a label.
    pub(crate) fn requires_something(&self, schema: &Value) -> bool {
        let shape = self.shape(schema);
        let required = shape.keys.get("required").and_then(Value::as_array).into_iter().flatten();
        let mut required = required.filter_map(Value::as_str);
        required.any(|name| {
            !matches!(name, "cursor" | "next_cursor") && !self.is_label(shape.name.as_deref(), name)
        })
    }

    /// Returns the lists and maps of a response that the document requires.
    pub(crate) fn required_lists(&self, schema: &Value) -> Vec<String> {
        let keys = self.shape(schema).keys;
        let required = keys.get("required").and_then(Value::as_array).into_iter().flatten();
        let names = required.filter_map(Value::as_str).filter(|name| {
            let field = self.shape(&keys["properties"][*name]).keys;
            field["type"] == "array"
                || field["type"] == "object" && !field.contains_key("properties")
        });
        names.map(str::to_owned).collect()
    }

    /// Reports whether a request must be signed.
    pub(crate) fn is_private(&self, operation: &Operation) -> bool {
        let own = self.operation(operation).get("security").or_else(|| self.root.get("security"));
        own.and_then(Value::as_array).is_some_and(|schemes| !schemes.is_empty())
    }

    fn shape(&self, schema: &Value) -> Shape {
        let keys = schema.as_object().expect("a schema is a mapping");
        let mut shape = if let Some(reference) = keys.get("$ref") {
            let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
            let mut shape = self.shape(self.root.pointer(pointer).expect("it points at something"));
            shape.name = pointer.rsplit('/').next().map(str::to_owned);
            shape
        } else if let Some(parts) = keys.get("allOf") {
            let mut parts = parts.as_array().unwrap().iter().map(|part| self.shape(part));
            let mut shape = parts.next().expect("a schema within");
            for part in parts {
                // Objects, whose fields come together under the name of what holds them.
                assert_eq!(part.keys["type"], "object", "only objects are joined here");
                let mut keys = Value::Object(shape.keys);
                merge(&mut keys, &Value::Object(part.keys));
                shape = Shape {
                    keys: keys.as_object().unwrap().clone(),
                    nullable: shape.nullable,
                    name: None,
                };
            }
            shape
        } else {
            Shape { keys: keys.clone(), nullable: false, name: None }
        };
        let listed = |v: &Value| v.as_array().is_some_and(|all| all.contains(&Value::Null));
        shape.nullable |= keys.get("nullable") == Some(&Value::Bool(true))
            || keys.get("enum").is_some_and(listed);
        shape
    }
}

impl<'a> Generator<'a> {
    pub(crate) fn response(document: &'a Document, fill: Fill, seed: u64) -> Self {
        let random = Random::new(seed);
        Self { document, random, fill, response: true, least: 0, required: Vec::new() }
    }

    pub(crate) fn request(document: &'a Document, fill: Fill, seed: u64) -> Self {
        Self { response: false, ..Self::response(document, fill, seed) }
    }

    pub(crate) fn sample(mut self, schema: &Value) -> Sample {
        let value = self.value(schema, "");
        Sample { value, required: self.required }
    }

    /// Returns the text of a parameter: one for a scalar, several for a list.
    pub(crate) fn parameter(&mut self, schema: &Value) -> Vec<String> {
        let plain = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        if self.document.shape(schema).keys["type"] == "array" {
            let items = &schema["items"];
            let count = 1 + self.random.below(3);
            return (0..count).map(|_| plain(self.value(items, "")).replace(',', "")).collect();
        }
        vec![plain(self.value(schema, ""))]
    }

    fn value(&mut self, schema: &Value, at: &str) -> Value {
        let shape = self.document.shape(schema);
        match shape.name.as_deref() {
            Some("FixedPointDollars") => return self.money().into(),
            Some("FixedPointCount") => return self.count().into(),
            Some("PriceLevelDollarsCountFp") => return json!([self.money(), self.count()]),
            Some("PriceRange") => {
                return json!({"start": self.money(), "end": self.money(), "step": self.money()});
            }
            _ => {}
        }
        if let Some(values) = shape.keys.get("enum").and_then(Value::as_array) {
            let values: Vec<_> = values.iter().filter(|value| !value.is_null()).collect();
            let text = values.iter().all(|value| value.is_string());
            if text && self.response && self.fill == Fill::Any && self.random.chance(15) {
                return format!("brand_new::{}", self.random.text()).into();
            }
            return (*self.random.pick(&values)).clone();
        }
        let format = shape.keys.get("format").and_then(Value::as_str);
        match (shape.keys.get("type").and_then(Value::as_str), format) {
            (Some("string"), Some("date-time")) => self.time().into(),
            (Some("string"), Some("date")) => self.time()[..10].into(),
            (Some("string"), Some("fixed-point-dollars")) => self.money().into(),
            (Some("string"), Some("fixed-point-count")) => self.count().into(),
            (Some("string"), Some("kalshi-decimal")) => self.decimal().into(),
            (Some("string"), _) => self.random.text().into(),
            (Some("integer"), format) => self.integer(&shape.keys, format == Some("int32")).into(),
            (Some("number"), _) => self.number(),
            (Some("boolean"), _) => self.random.chance(50).into(),
            (Some("array"), _) => self.list(&shape.keys, at),
            (Some("object"), _) => self.object(&shape, at),
            (None, _) => self.anything(2),
            (Some(other), _) => panic!("{at}: the type `{other}` is not understood here"),
        }
    }

    fn object(&mut self, shape: &Shape, at: &str) -> Value {
        let mut map = Map::new();
        let Some(properties) = shape.keys.get("properties").and_then(Value::as_object) else {
            return self.map(shape, at);
        };
        let required = shape.keys.get("required").and_then(Value::as_array);
        for (name, schema) in properties {
            let must = required.is_some_and(|names| names.iter().any(|known| known == name));
            if let Some(value) = self.field(shape.name.as_deref(), name, schema, must, at) {
                map.insert(name.clone(), value);
            }
        }
        if self.response && self.fill == Fill::Any && self.random.chance(20) {
            map.insert(UNKNOWN_FIELD.to_owned(), self.anything(2));
        }
        Value::Object(map)
    }

    /// Returns the value of a field; `None` if it is left out.
    fn field(
        &mut self,
        holder: Option<&str>,
        name: &str,
        schema: &Value,
        must: bool,
        at: &str,
    ) -> Option<Value> {
        let shape = self.document.shape(schema);
        let free = shape.keys.get("type").is_some_and(|kind| kind == "object")
            && !shape.keys.contains_key("properties");
        let list = free
            || shape.name.as_deref() != Some("PriceLevelDollarsCountFp")
                && shape.keys.get("type").is_some_and(|kind| kind == "array");
        // The server sends null, or nothing, for an empty list.
        let lenient = self.response && list;
        let is_label = self.response && self.document.is_label(holder, name);
        // The list of a whole response must be there, or it is not that response.
        let (may_be_absent, may_be_null) = (
            !must || is_label || lenient && !at.is_empty(),
            shape.nullable || lenient || is_label || (self.response && !must),
        );
        let choice = match self.fill {
            Fill::Least if may_be_absent => 0,
            Fill::Nulls if may_be_null => 1,
            Fill::Least | Fill::Nulls | Fill::Most => 2,
            Fill::Any => self.random.below(4),
        };
        match choice {
            0 if may_be_absent => return None,
            1 if may_be_null => return Some(Value::Null),
            _ => {}
        }
        if must && !shape.nullable && !list {
            let (holder, name) = (at.to_owned(), name.to_owned());
            self.required.push(Required { holder, name, is_label });
        }
        if !self.response && list && !must {
            // An empty list and none at all may differ in a request; a test of its own looks at it.
            self.least = 1;
        }
        // No field of the document has a slash or a tilde in its name.
        Some(self.value(schema, &format!("{at}/{name}")))
    }

    /// Returns a map with keys of any text.
    fn map(&mut self, shape: &Shape, at: &str) -> Value {
        let length = self.length();
        let mut map = Map::new();
        for index in 0..length {
            let key = format!("k{index}{}", self.random.text());
            let value = match shape.keys.get("additionalProperties") {
                Some(schema @ Value::Object(_)) => {
                    // Places within a map are not tracked: its keys are any text.
                    let before = self.required.len();
                    let value = self.value(schema, at);
                    self.required.truncate(before);
                    value
                }
                _ => self.anything(2),
            };
            map.insert(key, value);
        }
        Value::Object(map)
    }

    fn list(&mut self, keys: &Map<String, Value>, at: &str) -> Value {
        let bound = |key: &str| {
            keys.get(key).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok())
        };
        let least = std::mem::take(&mut self.least);
        let length = self
            .length()
            .max(least)
            .max(bound("minItems").unwrap_or(0))
            .min(bound("maxItems").unwrap_or(usize::MAX));
        (0..length).map(|index| self.value(&keys["items"], &format!("{at}/{index}"))).collect()
    }

    fn length(&mut self) -> usize {
        match self.fill {
            Fill::Least => 0,
            Fill::Nulls => 1,
            Fill::Most => 2,
            Fill::Any => self.random.below(4),
        }
    }

    /// Generates any JSON at all, for what the document leaves open.
    fn anything(&mut self, depth: usize) -> Value {
        match self.random.below(if depth == 0 { 5 } else { 7 }) {
            0 => self.random.chance(50).into(),
            1 => self.random.between(i64::MIN, i64::MAX).into(),
            2 => self.number(),
            3 | 4 => self.random.text().into(),
            5 => (0..self.random.below(3)).map(|_| self.anything(depth - 1)).collect(),
            _ => {
                let length = self.random.below(3);
                let fields = (0..length).map(|n| (format!("f{n}"), self.anything(depth - 1)));
                Value::Object(fields.collect())
            }
        }
    }

    fn integer(&mut self, keys: &Map<String, Value>, narrow: bool) -> i64 {
        let (least, most) =
            if narrow { (i32::MIN.into(), i32::MAX.into()) } else { (i64::MIN, i64::MAX) };
        let low = keys.get("minimum").and_then(Value::as_i64).unwrap_or(least);
        let high = keys.get("maximum").and_then(Value::as_i64).unwrap_or(most);
        match self.random.below(4) {
            0 => low,
            1 => high,
            2 => 7.clamp(low, high),
            _ => self.random.between(low, high),
        }
    }

    /// Returns a number that is the same whichever way it is printed.
    fn number(&mut self) -> Value {
        let whole = self.random.between(-1_000_000, 1_000_000);
        if self.random.chance(30) {
            return whole.into();
        }
        let text = format!("{whole}.{:02}", self.random.below(100));
        text.parse::<f64>().unwrap().into()
    }

    /// Returns a decimal as the exchange prints it in text: with zeros at the end, and few enough
    /// digits that a JSON number holds it.
    fn decimal(&mut self) -> String {
        let sign = if self.random.chance(20) { "-" } else { "" };
        let whole = self.random.between(0, 999_999);
        format!("{sign}{whole}.{:04}00", self.random.below(10_000))
    }

    /// Dollars as the exchange prints them: four to six decimals, and any sign.
    fn money(&mut self) -> String {
        let sign = if self.random.chance(20) { "-" } else { "" };
        let whole = match self.random.below(3) {
            0 => 0,
            1 => self.random.between(0, 999),
            _ => self.random.between(0, 9_223_372_036_853),
        };
        let mut text = format!("{sign}{whole}.{:06}", self.random.between(1, 999_999));
        match self.random.below(3) {
            // A zero at the end of more than four decimals is not printed.
            0 => text.truncate(text.len() - 2),
            1 => text.replace_range(text.len() - 1.., "7"),
            _ => text.replace_range(text.len() - 2.., "5"),
        }
        if text.trim_start_matches('-').bytes().all(|byte| matches!(byte, b'0' | b'.')) {
            return "0.0000".to_owned();
        }
        text
    }

    /// Returns a count as the exchange prints it: two decimals, and any sign.
    fn count(&mut self) -> String {
        let sign = if self.random.chance(20) { "-" } else { "" };
        let whole = if self.random.chance(50) {
            self.random.between(1, 99)
        } else {
            self.random.between(1, 92_233_720_368_547_757)
        };
        format!("{sign}{whole}.{:02}", self.random.below(100))
    }

    /// Returns a time as the exchange prints it: UTC, with as many decimals as there are.
    fn time(&mut self) -> String {
        let date = format!(
            "{}-{:02}-{:02}T{:02}:{:02}:{:02}",
            self.random.between(1970, 2100),
            self.random.between(1, 12),
            self.random.between(1, 28),
            self.random.between(0, 23),
            self.random.between(0, 59),
            self.random.between(0, 59),
        );
        match self.random.below(4) {
            0 => format!("{date}Z"),
            1 => format!("{date}.{:03}Z", self.random.between(1, 999)),
            2 => {
                format!("{date}.{:03}{:03}Z", self.random.below(1000), self.random.between(1, 999))
            }
            _ => format!("{date}.{:06}{:03}Z", self.random.below(999), self.random.between(1, 999)),
        }
    }
}

/// Applies one action of an overlay: remove, or merge mappings.
fn apply(document: &mut Value, action: &Value) {
    let target = action["target"].as_str().unwrap();
    let path = JsonPath::parse(target).unwrap();
    let places: Vec<String> =
        path.query_located(document).locations().map(NormalizedPath::to_json_pointer).collect();
    assert!(!places.is_empty(), "`{target}` matches nothing");
    for place in places.iter().rev() {
        if let Some(update) = action.get("update") {
            merge(document.pointer_mut(place).unwrap(), update);
            continue;
        }
        let (holder, last) = place.rsplit_once('/').unwrap();
        match document.pointer_mut(holder).unwrap() {
            Value::Array(items) => drop(items.remove(last.parse().unwrap())),
            Value::Object(map) => drop(map.remove(last)),
            other => panic!("`{target}` is within {other}"),
        }
    }
}

fn merge(target: &mut Value, update: &Value) {
    match (target, update) {
        (Value::Object(target), Value::Object(update)) => {
            for (key, value) in update {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(update)) => target.extend(update.iter().cloned()),
        (target, update) => *target = update.clone(),
    }
}
