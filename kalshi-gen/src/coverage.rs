//! Which parts of the document have words, and which words say nothing.
//!
//! Runs for `cargo gen check` only; a build does not ask.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Generated, document::join, names::words};

/// What the words of a document cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Kind of part, how many have words, how many lack them.
    pub kinds: Vec<(&'static str, usize, usize)>,
    /// JSON pointers of the parts without words, and of those whose words say nothing, with why.
    pub findings: Vec<String>,
    /// How many `deprecated: true` the document has, and how many of them the code marks.
    pub deprecated: (usize, usize),
}

/// Words that fill a place without saying anything.
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
        let words =
            if operation.summary.is_some() { operation.description.as_deref() } else { None };
        count.add(0, &pointer, &operation.operation_id, words);
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
    let normalised = &generated.normalised;
    let enums: BTreeSet<&str> = normalised.enums.iter().map(|open| open.name.as_str()).collect();
    let schemas = normalised.document.pointer("/components/schemas").and_then(Value::as_object);
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
    for open in &normalised.enums {
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
        normalised.moves.overlaid(error).pointer().to_owned()
    };
    let findings = count.findings.iter().map(|(p, what)| format!("{}: {what}", place(p))).collect();
    let kinds =
        KINDS.into_iter().zip(count.kinds).map(|(kind, (with, without))| (kind, with, without));
    Coverage { kinds: kinds.collect(), findings, deprecated: deprecated(generated) }
}

const KINDS: [&str; 7] =
    ["operations", "parameters", "schemas", "fields", "enum values", "channels", "messages"];

#[derive(Default)]
struct Count {
    kinds: [(usize, usize); 7],
    findings: Vec<(String, String)>,
}

impl Count {
    fn add(&mut self, kind: usize, pointer: &str, name: &str, words: Option<&str>) {
        let words = words.map(str::trim).filter(|words| !words.is_empty());
        let Some(words) = words else {
            self.kinds[kind].1 += 1;
            self.findings.push((pointer.to_owned(), "has no words".to_owned()));
            return;
        };
        self.kinds[kind].0 += 1;
        self.empty(pointer, words);
        if repeats(name, words) {
            let what = format!("the words only repeat the name: {words:?}");
            self.findings.push((pointer.to_owned(), what));
        }
    }

    fn empty(&mut self, pointer: &str, words: &str) {
        let lower = words.to_lowercase();
        if let Some(phrase) = EMPTY.iter().find(|phrase| has_phrase(&lower, phrase)) {
            self.findings.push((pointer.to_owned(), format!("`{phrase}` says nothing")));
        }
    }
}

fn text(schema: &Value) -> Option<&str> {
    schema.get("description").and_then(Value::as_str)
}

/// Whether the phrase stands there as words, not within another word.
fn has_phrase(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].chars().next();
        [before, after].into_iter().flatten().all(|c| !c.is_alphanumeric())
    })
}

/// Whether the words are those of the name, in whatever order, and nothing else.
fn repeats(name: &str, text: &str) -> bool {
    const FILLERS: [&str; 10] = ["a", "an", "for", "in", "is", "its", "of", "the", "this", "value"];
    let split = |text: &str| -> BTreeSet<String> {
        let mut parts = BTreeSet::new();
        let mut word = String::new();
        for c in words(text).chars().chain([' ']) {
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

/// Every `deprecated: true` of the document, and those that became an attribute.
fn deprecated(generated: &Generated) -> (usize, usize) {
    let document = &generated.normalised.document;
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let schemas = || schemas.into_iter().flatten().map(|(_, schema)| schema);
    let is = |schema: &&Value| schema.get("deprecated") == Some(&Value::Bool(true));
    let fields = schemas()
        .filter_map(|schema| schema.get("properties").and_then(Value::as_object))
        .flat_map(|properties| properties.values())
        .filter(is)
        .count();
    let types = schemas().filter(is).count();
    let operations = generated.operations.iter().filter(|operation| operation.deprecated).count();
    let parameters = generated.operations.iter().flat_map(|operation| &operation.parameters);
    let parameters = parameters.filter(|parameter| parameter.deprecated).count();
    let code: String = generated.code.chars().filter(|c| !c.is_whitespace()).collect();
    let attributes = code.matches("#[deprecated]").count();
    // A field has its attribute twice: its own, and that of its setter.
    (
        flags(document),
        attributes.saturating_sub(fields).min(types + fields + operations + parameters),
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
