//! Which items of a document are documented, and which descriptions say nothing.
//!
//! Runs for `cargo gen check` only; a build does not ask.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    Generated,
    document::join,
    names::split_acronyms,
    normalize::{formats, money, request_schemas},
};

/// The documented and the undocumented items of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Kind of item, how many are documented, how many are not.
    pub kinds: Vec<(&'static str, usize, usize)>,
    /// JSON pointers of the undocumented items, and of those whose description says nothing, with
    /// the reason.
    pub findings: Vec<String>,
    /// JSON pointers of fields that look like an amount of money or a time and have no format that
    /// says so, with what to do.
    pub unformatted: Vec<String>,
    /// The number of `deprecated: true` in the document, and of those that the code marks.
    pub deprecated: (usize, usize),
}

/// Phrases that fill a place without saying anything.
const EMPTY: [&str; 12] = [
    "as the name suggests",
    "endpoint for",
    "fixme",
    "lorem ipsum",
    "n/a",
    "no description",
    "self-explanatory",
    "tbd",
    "this endpoint",
    "this field is",
    "to be documented",
    "todo",
];

pub(crate) fn coverage(generated: &Generated) -> Coverage {
    let mut count = Count::default();
    for operation in &generated.operations {
        let pointer = join(&join("/paths", &operation.path), &operation.method.to_lowercase());
        let said = [&operation.summary, &operation.description];
        let said = said.into_iter().flatten().map(String::as_str);
        // A title may repeat the name; the description below it may not.
        let description =
            if operation.summary.is_some() { operation.description.as_deref() } else { None };
        count.add(0, &pointer, &operation.operation_id, description);
        said.for_each(|text| count.empty(&pointer, text));
        for (index, parameter) in operation.parameters.iter().enumerate() {
            let pointer = format!("{pointer}/parameters/{index}");
            // A place in a list says less than a name.
            let findings = count.findings.len();
            count.add(1, &pointer, &parameter.name, parameter.description.as_deref());
            for (_, what) in &mut count.findings[findings..] {
                *what = format!("parameter `{}`: {what}", parameter.name);
            }
        }
    }
    let normalized = &generated.normalized;
    let enums: BTreeSet<&str> = normalized.enums.iter().map(|open| open.name.as_str()).collect();
    let schemas = normalized.document.pointer("/components/schemas").and_then(Value::as_object);
    for (name, schema) in
        schemas.into_iter().flatten().filter(|(name, _)| !enums.contains(name.as_str()))
    {
        let pointer = join("/components/schemas", name);
        count.add(2, &pointer, name, text(schema));
        for (field, schema) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            count.add(3, &join(&join(&pointer, "properties"), field), field, text(schema));
        }
    }
    for open in &normalized.enums {
        let pointer = join("/components/schemas", &open.name);
        count.add(2, &pointer, &open.name, open.description.as_deref());
        for value in &open.values {
            let pointer = join(&join(&pointer, "enum"), &value.wire);
            count.add(4, &pointer, &value.wire, value.description.as_deref());
        }
    }
    for message in &generated.messages {
        let kind = if message.channel { 5 } else { 6 };
        count.add(kind, &message.pointer, &message.name, message.description.as_deref());
    }
    // Where an overlay addresses them.
    let place = |pointer: &String| {
        let error = crate::Error::new(pointer.clone(), "");
        normalized.moves.overlaid(error).pointer().to_owned()
    };
    let findings = count.findings.iter().map(|(p, what)| format!("{}: {what}", place(p))).collect();
    let kinds =
        KINDS.into_iter().zip(count.kinds).map(|(kind, (with, without))| (kind, with, without));
    let amounts = money::unformatted(&normalized.document).into_iter().map(|(pointer, name)| {
        format!(
            "{}: `{name}` looks like an amount and is plain text: give it a format or \
             `x-kalshi-text: true`",
            place(&pointer)
        )
    });
    let times = formats::without_unit(&normalized.document).into_iter().map(|(pointer, name)| {
        format!("{}: `{name}` looks like a time and has no unit", place(&pointer))
    });
    let unformatted = amounts.chain(times).collect();
    Coverage { kinds: kinds.collect(), findings, unformatted, deprecated: deprecated(generated) }
}

const KINDS: [&str; 7] =
    ["operations", "parameters", "schemas", "fields", "enum values", "channels", "messages"];

#[derive(Default)]
struct Count {
    kinds: [(usize, usize); 7],
    findings: Vec<(String, String)>,
}

impl Count {
    fn add(&mut self, kind: usize, pointer: &str, name: &str, description: Option<&str>) {
        let text = description.map(str::trim).filter(|text| !text.is_empty());
        let Some(text) = text else {
            self.kinds[kind].1 += 1;
            self.findings.push((pointer.to_owned(), "is undocumented".to_owned()));
            return;
        };
        self.kinds[kind].0 += 1;
        self.empty(pointer, text);
        if repeats(name, text) {
            let what = format!("the description only repeats the name: {text:?}");
            self.findings.push((pointer.to_owned(), what));
        }
    }

    fn empty(&mut self, pointer: &str, text: &str) {
        let lower = text.to_lowercase();
        if let Some(phrase) = EMPTY.iter().find(|phrase| has_phrase(&lower, phrase)) {
            self.findings.push((pointer.to_owned(), format!("`{phrase}` says nothing")));
        }
    }
}

fn text(schema: &Value) -> Option<&str> {
    schema.get("description").and_then(Value::as_str)
}

/// Reports whether the text has the phrase, not within another word.
fn has_phrase(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].chars().next();
        [before, after].into_iter().flatten().all(|c| !c.is_alphanumeric())
    })
}

/// Reports whether the text has the words of the name, in whatever order, and nothing else.
fn repeats(name: &str, text: &str) -> bool {
    const FILLERS: [&str; 10] = ["a", "an", "for", "in", "is", "its", "of", "the", "this", "value"];
    let split = |text: &str| -> BTreeSet<String> {
        let mut parts = BTreeSet::new();
        let mut word = String::new();
        for c in split_acronyms(text).chars().chain([' ']) {
            if !c.is_alphanumeric() || c.is_uppercase() {
                parts.insert(std::mem::take(&mut word));
            }
            if c.is_alphanumeric() {
                word.extend(c.to_lowercase());
            }
        }
        parts.retain(|word| !word.is_empty());
        parts
    };
    let name = split(name);
    !name.is_empty()
        && split(text).iter().all(|word| name.contains(word) || FILLERS.contains(&word.as_str()))
}

/// Counts every `deprecated: true` of the document, and those that became an attribute.
fn deprecated(generated: &Generated) -> (usize, usize) {
    let document = &generated.normalized.document;
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let schemas = || schemas.into_iter().flatten();
    let is = |schema: &&Value| schema.get("deprecated") == Some(&Value::Bool(true));
    let fields_of = |schema: &Value| {
        let properties = schema.get("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(|properties| properties.values()).filter(is).count()
    };
    let fields: usize = schemas().map(|(_, schema)| fields_of(schema)).sum();
    // A schema that cannot be walked makes no request, and no code.
    let requests = request_schemas(document).unwrap_or_default();
    let requests = schemas().filter(|(name, _)| requests.contains(*name));
    let setters: usize = requests.map(|(_, schema)| fields_of(schema)).sum();
    let types = schemas().map(|(_, schema)| schema).filter(is).count();
    let operations = generated.operations.iter().filter(|operation| operation.deprecated).count();
    let parameters = generated.operations.iter().flat_map(|operation| &operation.parameters);
    let parameters = parameters.filter(|parameter| parameter.deprecated).count();
    let code: String = generated.code.chars().filter(|c| !c.is_whitespace()).collect();
    let attributes = code.matches("#[deprecated]").count();
    // A field of a request has its attribute twice: its own, and that of its setter.
    (
        flags(document),
        attributes.saturating_sub(setters).min(types + fields + operations + parameters),
    )
}

fn flags(value: &Value) -> usize {
    match value {
        Value::Object(map) => {
            usize::from(map.get("deprecated") == Some(&Value::Bool(true)))
                + map.values().map(flags).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(flags).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_only_repeat_the_name_are_found() {
        for (name, text) in [
            ("ticker", "The ticker."),
            ("market_ticker", "Ticker of the market"),
            ("GetRFQs", "Get RFQs"),
            ("ABC", "abc"),
        ] {
            assert!(repeats(name, text), "{name}: {text}");
        }
        for (name, text) in
            [("ticker", "Ticker of the event"), ("side", "`yes` or `no`"), ("", "x")]
        {
            assert!(!repeats(name, text), "{name}: {text}");
        }
    }

    #[test]
    fn empty_phrases_are_found_as_words_only() {
        assert!(has_phrase("(todo)", "todo"));
        assert!(!has_phrase("todos los mercados", "todo"));
    }
}
