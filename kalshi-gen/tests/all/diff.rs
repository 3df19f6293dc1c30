//! The comparison of documents: a corpus of single changes, random changes, and the command's ends.

use std::collections::BTreeMap;

use kalshi_gen::diff::{
    Accepted, Change, Context, Diff, Format, Level, SourceImpact, diff, mirrors,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    diff_mutations::sound,
    support::{published, read},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    base: Option<String>,
    edit: Edit,
    expect: Vec<String>,
    #[serde(default)]
    guess: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    #[serde(default, rename = "move")]
    moved: BTreeMap<String, String>,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    append: BTreeMap<String, Value>,
    #[serde(default)]
    remove: Vec<String>,
}

/// Returns the mapping or list that holds a place, and the last step to it.
fn holder<'a>(document: &'a mut Value, pointer: &str) -> (&'a mut Value, String) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let held = document.pointer_mut(parent);
    (held.unwrap_or_else(|| panic!("{parent}: no such place")), unescaped(key))
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

fn remove(document: &mut Value, pointer: &str) -> Value {
    let (holder, key) = holder(document, pointer);
    match holder {
        Value::Object(map) => {
            map.remove(&key).unwrap_or_else(|| panic!("{pointer}: no such place"))
        }
        Value::Array(items) => items.remove(key.parse().unwrap()),
        _ => panic!("{pointer}: no such place"),
    }
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    let (holder, key) = holder(document, pointer);
    holder.as_object_mut().unwrap().insert(key, value);
}

impl Edit {
    pub(crate) fn apply(&self, document: &mut Value) {
        for (from, to) in &self.moved {
            let value = remove(document, from);
            set(document, to, value);
        }
        for (pointer, value) in &self.set {
            set(document, pointer, value.clone());
        }
        for (pointer, value) in &self.append {
            document.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(value.clone());
        }
        for pointer in &self.remove {
            remove(document, pointer);
        }
    }
}

fn corpus() -> Vec<(Case, Value, Value)> {
    let cases = kalshi_gen::parse(&read("tests/diff/corpus.yaml")).unwrap();
    let cases: Vec<Case> = serde_json::from_value(cases).unwrap();
    let pairs = cases.into_iter().map(|case| {
        let base = case.base.as_deref().unwrap_or("openapi");
        let old = kalshi_gen::parse(&read(&format!("tests/diff/{base}.yaml"))).unwrap();
        let mut new = old.clone();
        case.edit.apply(&mut new);
        (case, old, new)
    });
    pairs.collect()
}

#[track_caller]
pub(crate) fn compared(old: &Value, new: &Value) -> Diff {
    diff(&old.to_string(), &new.to_string()).unwrap_or_else(|(_, error)| panic!("{error}"))
}

fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

pub(crate) fn line(change: &Change) -> String {
    let directions: Vec<String> = change.directions.iter().map(word).collect();
    let (wire, source) = (word(change.wire), word(change.source));
    format!("{} {} {wire} {source}", change.id, directions.join("+"))
}

#[test]
fn each_single_change_has_its_ids_and_its_two_verdicts() {
    let corpus = corpus();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    let mut wrong = Vec::new();
    for (case, old, new) in &corpus {
        let found = compared(old, new);
        let mut said: Vec<String> = found.changes.iter().map(line).collect();
        let mut expected = case.expect.clone();
        said.sort();
        expected.sort();
        if said != expected {
            wrong.push(format!("{}\n  expected {expected:?}\n  said     {said:?}", case.name));
        }
        let guesses = || found.changes.iter().filter_map(|change| change.guess.as_deref());
        match &case.guess {
            Some(guess) if !guesses().any(|said| said == guess) => {
                wrong.push(format!("{}: guessed {:?}", case.name, guesses().collect::<Vec<_>>()));
            }
            None if guesses().next().is_some() => {
                wrong.push(format!("{}: guessed {:?}", case.name, guesses().collect::<Vec<_>>()));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
}

/// Returns the differences between two comparisons that should be each other's mirror image.
pub(crate) fn unmirrored(there: &Diff, back: &Diff) -> Vec<String> {
    let mut rest: Vec<&Change> = back.changes.iter().collect();
    let mut wrong = Vec::new();
    for change in &there.changes {
        let mirror = mirrors(&change.id);
        let same_place = |other: &Change| {
            // What was renamed is called by its new name, which is the old one on the way back.
            let renamed = change.id.ends_with("-renamed") || change.subject != other.subject;
            (renamed || change.field == other.field)
                && (change.subject == other.subject || change.subject.contains('{'))
                && change.before == other.after
                && change.after == other.before
        };
        let found = rest.iter().position(|other| mirror.contains(&other.id) && same_place(other));
        match found {
            Some(index) => drop(rest.remove(index)),
            None => wrong.push(format!("{} {}: {}", change.subject, change.field, change.id)),
        }
    }
    wrong.extend(rest.iter().map(|c| format!("only back: {} {}: {}", c.subject, c.field, c.id)));
    wrong
}

#[test]
fn every_report_of_the_corpus_says_each_change_once_and_at_places_that_exist() {
    for (case, old, new) in corpus() {
        for (old, new) in [(&old, &new), (&new, &old)] {
            assert_eq!(sound(&compared(old, new), old, new), Vec::<String>::new(), "{}", case.name);
        }
    }
}

#[test]
fn a_change_that_is_undone_says_its_mirror_image() {
    let mut wrong = Vec::new();
    for (case, old, new) in corpus() {
        let found = unmirrored(&compared(&old, &new), &compared(&new, &old));
        if !found.is_empty() {
            wrong.push(format!("{}: {found:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_change_is_known_by_its_fingerprint_and_can_be_accepted() {
    for (case, old, new) in corpus() {
        let mut found = compared(&old, &new);
        assert_eq!(found, compared(&old, &new), "{}", case.name);
        let mut prints: Vec<&str> = found.changes.iter().map(|c| c.fingerprint.as_str()).collect();
        prints.sort_unstable();
        let count = prints.len();
        prints.dedup();
        assert_eq!(prints.len(), count, "{}: two changes share a fingerprint", case.name);
        let entries = prints.iter().map(|p| format!("- {{fingerprint: '{p}', reason: Known.}}\n"));
        let accepted = Accepted::parse(&entries.collect::<String>()).unwrap();
        assert_eq!(found.accept(&accepted), Vec::<String>::new());
        assert_eq!(found.worst(), None, "{}", case.name);
        // An accepted break still needs the release that a break needs.
        let next = found.next_version("0.3.0").unwrap();
        let breaks = found
            .changes
            .iter()
            .any(|c| matches!(c.source, SourceImpact::Breaks | SourceImpact::Refuses));
        assert_eq!(next.part == "minor", breaks, "{}: {next}", case.name);
    }
}

#[test]
fn accepted_changes_need_a_fingerprint_and_a_reason() {
    for (text, said) in [
        ("- {fingerprint: 12, reason: a}", "/: "),
        ("- {fingerprint: '0123456789AB', reason: a}", "/0/fingerprint: "),
        ("- {fingerprint: 0123456789ab, reason: ' '}", "/0/reason: "),
        ("- {fingerprint: 0123456789ab}", "missing field `reason`"),
        (
            "- {fingerprint: 0123456789ab, reason: a}\n- {fingerprint: 0123456789ab, reason: b}",
            "/1/",
        ),
    ] {
        let error = Accepted::parse(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    let mut none = compared(&corpus()[0].1, &corpus()[0].1);
    let accepted = Accepted::parse("- {fingerprint: 0123456789ab, reason: a}").unwrap();
    assert_eq!(none.accept(&accepted), ["0123456789ab"], "an entry that matches nothing is named");
}

#[test]
fn the_version_follows_from_the_worst_change() {
    let base = kalshi_gen::parse(&read("tests/diff/openapi.yaml")).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut new = base.clone();
        set(&mut new, pointer, value);
        compared(&base, &new)
    };
    let none = compared(&base, &base);
    let info = with("/info/version", "1.1.0".into());
    let fresh = "/components/schemas/Thing/properties/fresh";
    let adds = with(fresh, serde_json::json!({"type": "string"}));
    let breaks = with("/paths/~1things/get/operationId", "ListThings".into());
    for (current, expected) in [
        ("0.3.1", ["0.3.1", "0.3.2", "0.3.2", "0.4.0"]),
        ("1.2.3+spec.3", ["1.2.3", "1.2.4", "1.3.0", "2.0.0"]),
    ] {
        for (diff, expected) in [&none, &info, &adds, &breaks].into_iter().zip(expected) {
            assert_eq!(diff.next_version(current).unwrap().version, expected, "after {current}");
        }
    }
    assert!(none.next_version("1.2").is_err());
    assert!(!breaks.next_version("0.1.0").unwrap().urgent);
}

#[test]
fn every_format_names_every_change() {
    for (case, old, new) in corpus() {
        let found = compared(&old, &new);
        let text = new.to_string();
        let context =
            Context { version: Some("0.1.0"), file: Some("openapi.yaml"), text: Some(&text) };
        for format in [Format::Text, Format::Json, Format::Markdown, Format::Github] {
            let report = found.render(format, &context);
            for change in &found.changes {
                assert!(
                    report.contains(&change.fingerprint),
                    "{}, {format:?}: {report}",
                    case.name
                );
                assert!(report.contains(&change.id), "{}, {format:?}: {report}", case.name);
            }
            match format {
                Format::Json => {
                    let value: Value = serde_json::from_str(&report).unwrap();
                    assert_eq!(value["changes"].as_array().unwrap().len(), found.changes.len());
                    assert!(value["release"]["version"].is_string());
                }
                Format::Github => {
                    assert_eq!(report.lines().count(), found.changes.len(), "{}", case.name);
                    assert!(report.lines().all(|line| line.starts_with("::")), "{report}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn annotations_point_at_the_line_of_the_change() {
    let old = published();
    let new =
        old.replacen("      operationId: GetMarkets\n", "      operationId: ListMarkets\n", 1);
    let found = diff(&old, &new).unwrap();
    let context = Context { file: Some("openapi.yaml"), text: Some(&new), ..Context::default() };
    let report = found.render(Format::Github, &context);
    let line = report.split("line=").nth(1).unwrap().split(',').next().unwrap();
    let line: usize = line.parse().unwrap();
    let lines: Vec<&str> = new.lines().collect();
    assert_eq!(lines[line - 1].trim(), "get:", "line {line}");
    assert_eq!(lines[line - 2].trim(), "/markets:", "line {line}");
}

#[test]
fn text_of_a_document_cannot_forge_an_annotation_or_a_table() {
    let base = kalshi_gen::parse(&read("tests/diff/openapi.yaml")).unwrap();
    let mut new = base.clone();
    let evil = "x\n::error::pwned\n| a | b |<script>";
    set(
        &mut new,
        "/components/schemas/Thing/properties/kind/enum",
        serde_json::json!(["plain", "odd", evil]),
    );
    let found = compared(&base, &new);
    let context = Context::default();
    assert_eq!(found.render(Format::Github, &context).lines().count(), 1);
    let markdown = found.render(Format::Markdown, &context);
    assert!(!markdown.contains("<script>") && !markdown.contains("\n::error"), "{markdown}");
}

#[test]
fn a_reordered_document_has_not_changed() {
    for text in [published(), read("tests/diff/openapi.yaml"), read("tests/diff/asyncapi.yaml")] {
        let old = kalshi_gen::parse(&text).unwrap();
        let found = diff(&text, &reversed(&old)).unwrap();
        assert_eq!(found.changes, [], "every list and mapping backwards");
    }
}

/// Returns JSON text with every mapping backwards, and every list whose order says nothing.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs = map
                .iter()
                .rev()
                .map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), reversed(v)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().rev().map(reversed).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

#[test]
fn prose_is_no_change() {
    let old = kalshi_gen::parse(&published()).unwrap();
    let mut new = old.clone();
    let mut count = 0;
    each_mapping(&mut new, &mut |map| {
        if map.contains_key("operationId") || map.get("type").is_some_and(Value::is_string) {
            map.insert("description".to_owned(), "Other words.".into());
            map.insert("x-note".to_owned(), 1.into());
            count += 1;
        }
    });
    assert!(count > 1000, "{count}");
    assert_eq!(compared(&old, &new).changes, []);
}

fn each_mapping(value: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            visit(map);
            map.values_mut().for_each(|value| each_mapping(value, visit));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| each_mapping(value, visit)),
        _ => {}
    }
}

#[test]
fn a_document_that_cannot_be_compared_is_named_with_the_place() {
    let good = read("tests/diff/openapi.yaml");
    let streams = read("tests/diff/asyncapi.yaml");
    for (bad, said) in [
        ("a: [".to_owned(), "line "),
        ("{}".to_owned(), "neither `openapi` nor `asyncapi`"),
        ("openapi: 2.0.0".to_owned(), "/openapi: "),
        (streams.clone(), "this is AsyncAPI"),
        (
            good.replace("'#/components/schemas/Status'", "'#/components/schemas/None'"),
            "points at nothing",
        ),
        (
            good.replace("Status: {type: string", "Status: {type: {}"),
            "/components/schemas/Status/type: ",
        ),
        (
            good.replace(
                "    Status: {",
                "    Status: {allOf: [{$ref: '#/components/schemas/Status'}], ",
            ),
            "ring",
        ),
    ] {
        let (_, error) = diff(&good, &bad).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn levels_are_ordered() {
    assert!(Level::Breaking > Level::Warning && Level::Warning > Level::Info);
}
