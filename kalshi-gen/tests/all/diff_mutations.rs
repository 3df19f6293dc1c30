//! Random single changes of the published documents: each is found where it was made, and undone it
//! is the mirror image.

use std::{collections::BTreeSet, sync::LazyLock};

use kalshi_gen::diff::{Diff, Direction, diff, mirrors};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};
use serde_json::{Value, json};

use crate::support::{published, read};

/// The documents and every place in them that says something about the structure.
static DOCUMENTS: LazyLock<Vec<(Value, Vec<String>)>> = LazyLock::new(|| {
    [published(), read("tests/diff/openapi.yaml"), read("tests/diff/asyncapi.yaml")]
        .iter()
        .map(|text| {
            let document = kalshi_gen::parse(text).unwrap();
            let mut places = Vec::new();
            collect(&document, "", &mut places);
            (document, places)
        })
        .collect()
});

/// Places whose removal leaves a document that can be compared, and that says something else.
fn collect(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let mut below = |step: &str, value: &Value| {
        let step = step.replace('~', "~0").replace('/', "~1");
        let at = format!("{pointer}/{step}");
        let prose = step == "description" && !pointer.ends_with("/properties");
        let identity = matches!(at.as_str(), "/openapi" | "/asyncapi" | "/info" | "/info/title");
        if !prose && !identity {
            collect(value, &at, found);
            found.push(at);
        }
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), value));
        }
        _ => {}
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Remove,
    Flip,
    Rename,
    AddField,
    AddParameter,
    AddValue,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => Just(Mutation::Remove),
        4 => Just(Mutation::Flip),
        2 => Just(Mutation::Rename),
        1 => Just(Mutation::AddField),
        1 => Just(Mutation::AddParameter),
        1 => Just(Mutation::AddValue),
    ]
}

/// Makes the change; `None` where it makes no sense.
fn mutate(document: &Value, place: &str, mutation: &Mutation) -> Option<Value> {
    let mut new = document.clone();
    let (parent, key) = place.rsplit_once('/')?;
    let key = key.replace("~1", "/").replace("~0", "~");
    match mutation {
        Mutation::Remove => match new.pointer_mut(parent)? {
            Value::Object(map) => drop(map.remove(&key)),
            Value::Array(items) => drop(items.remove(key.parse().ok()?)),
            _ => return None,
        },
        Mutation::Flip => {
            let value = new.pointer_mut(place)?;
            *value = match &*value {
                Value::Bool(flag) => json!(!flag),
                Value::Number(number) => json!(number.as_i64()? + 1),
                Value::String(text) if key == "type" => match text.as_str() {
                    "string" => json!("integer"),
                    _ => json!("string"),
                },
                Value::String(text) if key != "$ref" => json!(format!("{text}x")),
                _ => return None,
            };
        }
        Mutation::Rename => {
            let holder = new.pointer_mut(parent)?.as_object_mut()?;
            // The words of the languages cannot be renamed; what the document names can.
            let named = ["/properties", "/paths", "/channels"];
            if !named.iter().any(|end| parent.ends_with(end)) {
                return None;
            }
            let value = holder.remove(&key)?;
            holder.insert(format!("{key}_renamed"), value);
        }
        Mutation::AddField => {
            let fields = new.pointer_mut(place)?.get_mut("properties")?.as_object_mut()?;
            fields.insert("a_new_field".to_owned(), json!({"type": "string"}));
        }
        Mutation::AddParameter => {
            let parameters = new.pointer_mut(place)?.get_mut("parameters")?.as_array_mut()?;
            parameters.push(json!({"name": "fresh", "in": "query", "schema": {"type": "string"}}));
        }
        Mutation::AddValue => {
            new.pointer_mut(place)?.get_mut("enum")?.as_array_mut()?.push(json!("a new value"));
        }
    }
    (new != *document).then_some(new)
}

/// Checks that every change there has its mirror image back, at the same subject.
fn mirrored(there: &Diff, back: &Diff) -> Result<(), String> {
    let mut rest: Vec<_> = back.changes.iter().collect();
    for change in &there.changes {
        let ids = mirrors(&change.id);
        let found = rest.iter().position(|other| {
            ids.contains(&other.id)
                && change.directions == other.directions
                && change.before == other.after
                && change.after == other.before
                && (change.subject == other.subject || change.id.ends_with("-renamed"))
        });
        match found {
            Some(index) => drop(rest.remove(index)),
            None => return Err(format!("{change:?} has no mirror image in {:?}", back.changes)),
        }
    }
    rest.first().map_or(Ok(()), |change| Err(format!("only back: {change:?}")))
}

/// Returns all faults of a report as such: changes that are said twice, places that are in neither
/// document, formats that are none.
pub(crate) fn sound(found: &Diff, old: &Value, new: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut prints = BTreeSet::new();
    let mut meanings = BTreeSet::new();
    for change in &found.changes {
        if !prints.insert(&change.fingerprint) {
            wrong.push(format!("two changes share a fingerprint: {change:?}"));
        }
        // What is left of an id without the direction.
        let what = ["request-", "response-", "error-", "schema-"]
            .iter()
            .find_map(|prefix| change.id.strip_prefix(prefix))
            .unwrap_or(&change.id);
        let meaning =
            (&change.subject, &change.field, what.to_owned(), &change.before, &change.after);
        if !meanings.insert(meaning) {
            wrong.push(format!("said twice: {change:?}"));
        }
        let mut directions = change.directions.clone();
        directions.dedup();
        if directions != change.directions || directions.is_empty() {
            wrong.push(format!("directions are said twice, or not: {change:?}"));
        }
        for pointer in [Some(&change.pointer), change.definition.as_ref()].into_iter().flatten() {
            if old.pointer(pointer).or_else(|| new.pointer(pointer)).is_none() {
                wrong.push(format!("{}: no such place: {pointer}", change.id));
            }
        }
        if change.id.ends_with("-format-changed") {
            for format in [&change.before, &change.after] {
                let named = format.as_ref().is_some_and(|format| {
                    !format.is_empty()
                        && format
                            .chars()
                            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                });
                if !named {
                    wrong.push(format!("no format: {change:?}"));
                }
            }
        }
        let unreachable = change.directions == [Direction::Document]
            && (change.id.starts_with("schema-property-"));
        if unreachable && (!change.why.starts_with("unreachable") || !change.carriers.is_empty()) {
            wrong.push(format!("unreachable, and not named so: {change:?}"));
        }
    }
    wrong
}

/// Makes the same changes in every run; `PROPTEST_RNG_SEED` takes others, `PROPTEST_CASES` more.
fn config() -> ProptestConfig {
    let given = ProptestConfig::default();
    let fixed = std::env::var_os("PROPTEST_RNG_SEED").is_none();
    ProptestConfig {
        cases: if std::env::var_os("PROPTEST_CASES").is_none() { 96 } else { given.cases },
        failure_persistence: None,
        max_global_rejects: 65_536,
        rng_seed: if fixed { RngSeed::Fixed(334) } else { given.rng_seed },
        ..given
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_single_mutation_is_found_and_mirrored(
        which in any::<Index>(),
        place in any::<Index>(),
        mutation in mutation(),
    ) {
        let (document, places) = which.get(DOCUMENTS.as_slice());
        let place = place.get(places);
        let mutated = mutate(document, place, &mutation);
        prop_assume!(mutated.is_some());
        let new = mutated.unwrap();
        let (old_text, new_text) = (document.to_string(), new.to_string());
        match (diff(&old_text, &new_text), diff(&new_text, &old_text)) {
            (Ok(there), Ok(back)) => {
                prop_assert!(!there.changes.is_empty(), "{mutation:?} at {place} was not found");
                let mirrored = mirrored(&there, &back);
                prop_assert!(mirrored.is_ok(), "{mutation:?} at {place}: {}", mirrored.unwrap_err());
                prop_assert_eq!(sound(&there, document, &new), Vec::<String>::new());
                prop_assert_eq!(sound(&back, &new, document), Vec::<String>::new());
            }
            // What cannot be compared is refused in both directions, with a place of the mutant.
            (Err((_, error)), Err(_)) => {
                let place = new.pointer(error.pointer());
                prop_assert!(place.is_some() && !error.message().is_empty(), "{error}");
            }
            (there, back) => prop_assert!(false, "{place}: one way only: {there:?} {back:?}"),
        }
    }
}
