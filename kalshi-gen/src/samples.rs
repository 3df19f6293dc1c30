//! The example on the page of each request: what must be set, with values that look like the
//! exchange's. They are doctests, so that they compile.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use crate::{
    document::schema_name,
    names::parameter_name,
    normalize::{CENTI_CENTS, CENTI_COUNT, Normalized, UNIX_MILLIS, UNIX_SECONDS},
    operations::{OperationModel, ParameterModel},
};

/// Texts by the ends of names; the longest end wins.
const TEXTS: [(&str, &str); 15] = [
    ("category", "Politics"),
    ("city", "miami"),
    ("collection_ticker", "KXMVESPORTS"),
    ("count", "10.00"),
    ("event_ticker", "KXHIGHNY-26NOV23"),
    ("event_tickers", "KXHIGHNY-26NOV23"),
    ("fp", "10.00"),
    ("id", "6f7c0c9e-1d3a-4b5e-9a51-2f0d8e4c7b11"),
    ("milestone_ids", "6f7c0c9e-1d3a-4b5e-9a51-2f0d8e4c7b11"),
    ("name", "my-bot"),
    ("public_key", "-----BEGIN PUBLIC KEY-----…"),
    ("series_ticker", "KXHIGHNY"),
    ("subtrader_suffix", "alice"),
    ("ticker", "KXHIGHNY-26NOV23-T60"),
    ("type", "football_game"),
];

/// A time, as an expression.
const DATE_TIME: &str = "kalshi_sdk::UnixSeconds::from_seconds(1_790_000_000)\
                         .to_datetime().ok_or(\"out of range\")?";

/// Writes examples of one document.
pub(crate) struct Samples<'a> {
    normalized: &'a Normalized,
    enums: BTreeMap<&'a str, &'a str>,
}

impl<'a> Samples<'a> {
    pub(crate) fn new(normalized: &'a Normalized) -> Self {
        let first = |open: &'a crate::OpenEnum| {
            Some((open.name.as_str(), open.values.first()?.variant.as_str()))
        };
        Self { normalized, enums: normalized.enums.iter().filter_map(first).collect() }
    }

    /// Returns a doctest that sends the request, without the fences.
    pub(crate) fn example(&self, operation: &OperationModel) -> String {
        let mut calls = vec![format!("{}()", operation.id)];
        for parameter in &operation.parameters {
            let shown = parameter.required
                || (parameter.type_name.is_some() && !parameter.deprecated && calls.len() < 3);
            if shown {
                let name = parameter_name(&parameter.name);
                calls.push(format!("{name}({})", self.parameter(parameter)));
            }
        }
        let surface = &self.normalized.surface;
        let (parameter, client) = surface.example;
        let mut text =
            format!("# async fn run({parameter}) -> Result<(), Box<dyn std::error::Error>> {{\n");
        let types = format!("use kalshi_sdk::{}types;\n\n", surface.module);
        if let Some((name, required)) = &operation.body
            && (*required || self.has_fields(name))
        {
            let body = self.value(&schema_of(name), "body", 0);
            text.insert_str(0, &types);
            let _ = writeln!(text, "let body = {body};");
            calls.push("body(body)".to_owned());
        } else if calls.iter().any(|call| call.contains("types::")) {
            text.insert_str(0, &types);
        }
        let chain = calls.join("\n    .");
        if operation.pagination.is_some() {
            let _ = write!(
                text,
                "let mut rows = {client}\n    .{chain}\n    .stream();\n\
                 while let Some(row) = rows.next().await.transpose()? {{\n    println!(\"{{row:?}}\");\n}}\n"
            );
        } else if operation.response.is_some() {
            let _ = write!(
                text,
                "let response = {client}\n    .{chain}\n    .send()\n    .await?;\nprintln!(\"{{:?}}\", *response);\n"
            );
        } else {
            let _ = write!(text, "{client}\n    .{chain}\n    .send()\n    .await?;\n");
        }
        text + "# Ok(())\n# }"
    }

    fn parameter(&self, parameter: &ParameterModel) -> String {
        if let Some(name) = &parameter.type_name {
            let value = self.value(&schema_of(name), &parameter.name, 0);
            return if parameter.kind == "CommaSeparated" { format!("[{value}]") } else { value };
        }
        if parameter.is_date {
            let date = "chrono::NaiveDate::from_ymd_opt(2026, 10, 31)";
            return format!("{date}.ok_or(\"out of range\")?");
        }
        match parameter.kind {
            "DateTime" => DATE_TIME.to_owned(),
            "UnixSeconds" => "1_790_000_000".to_owned(),
            "UnixMillis" => "1_790_000_000_000_i64".to_owned(),
            "Integer" if parameter.name == "period_interval" => "60".to_owned(),
            "Integer" => "100".to_owned(),
            "Number" => "1.0".to_owned(),
            "Boolean" => "true".to_owned(),
            "List" if parameter.of_numbers => "vec![5_000]".to_owned(),
            "List" => format!("vec![{:?}.to_owned()]", text_of(&parameter.name)),
            "CommaSeparated" => format!("[{:?}]", text_of(singular(&parameter.name))),
            _ => format!("{:?}", text_of(&parameter.name)),
        }
    }

    fn has_fields(&self, name: &str) -> bool {
        self.schema(name).is_some_and(|schema| schema.get("properties").is_some())
    }

    fn schema(&self, name: &str) -> Option<&'a Value> {
        self.normalized.document.pointer("/components/schemas")?.get(name)
    }

    /// Returns an expression of a schema's type, or of something that converts into it.
    fn value(&self, schema: &Value, field: &str, depth: usize) -> String {
        let schema = schema.pointer("/allOf/0").unwrap_or(schema);
        if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(schema_name) {
            if let Some(variant) = self.enums.get(name) {
                return format!("types::{name}::{variant}");
            }
            return match (name, self.schema(name)) {
                ("FixedPointDollars", _) => "\"0.5600\"".to_owned(),
                ("FixedPointCount", _) => "\"10.00\"".to_owned(),
                (_, Some(schema)) if schema.get("properties").is_some() => {
                    self.built(name, schema, depth)
                }
                (_, Some(schema)) if schema["type"] != "object" => self.value(schema, field, depth),
                _ => format!("types::{name}::default()"),
            };
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("array") => {
                let item = self.value(&schema["items"], singular(field), depth);
                if item.starts_with('"') {
                    format!("vec![{item}.to_owned()]")
                } else {
                    format!("vec![{item}]")
                }
            }
            Some("integer") => match schema.get("format").and_then(Value::as_str) {
                Some(UNIX_SECONDS) => "1_790_000_000".to_owned(),
                Some(UNIX_MILLIS) => "1_790_000_000_000_i64".to_owned(),
                Some(CENTI_CENTS | CENTI_COUNT) => "10_000_i64".to_owned(),
                _ => "1".to_owned(),
            },
            Some("number") => "\"0.5\"".to_owned(),
            Some("boolean") => "false".to_owned(),
            _ if schema["format"] == "date-time" => DATE_TIME.to_owned(),
            _ => format!("{:?}", text_of(field)),
        }
    }

    /// Returns a builder with the required fields, in the order of the document.
    fn built(&self, name: &str, schema: &Value, depth: usize) -> String {
        let indent = "    ".repeat(depth + 1);
        let mut text = format!("types::{name}::builder()");
        let required = schema.get("required").and_then(Value::as_array);
        for field in required.into_iter().flatten().filter_map(Value::as_str) {
            let value = self.value(&schema["properties"][field], field, depth + 1);
            let _ = write!(text, "\n{indent}.{}({value})", parameter_name(field));
        }
        text
    }
}

fn schema_of(name: &str) -> Value {
    serde_json::json!({"$ref": format!("#/components/schemas/{name}")})
}

fn singular(name: &str) -> &str {
    name.strip_suffix('s').unwrap_or(name)
}

fn text_of(name: &str) -> &'static str {
    let ends = |end: &str| name == end || name.strip_suffix(end).is_some_and(|b| b.ends_with('_'));
    let known = TEXTS.iter().filter(|(end, _)| ends(end)).max_by_key(|(end, _)| end.len());
    known.map_or("…", |(_, text)| *text)
}
