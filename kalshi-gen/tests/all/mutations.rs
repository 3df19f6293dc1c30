//! A published document that is shaken a little either generates or is refused at a place; it
//! never panics.

use kalshi_gen::{Unmatched, generate};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};
use serde_json::{Map, Value, json};

use crate::support::{published, read};

/// Returns the documents that are mutated: a handful of real operations with all that they refer to
/// (the whole document would take a second each time), and the odd one.
fn documents() -> &'static [Value] {
    static DOCUMENTS: std::sync::OnceLock<Vec<Value>> = std::sync::OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let whole = kalshi_gen::parse(&published()).unwrap();
        let paths = ["/api_keys", "/portfolio/events/orders", "/markets", "/communications/rfqs"];
        let part = cut(&whole, &paths);
        vec![part, kalshi_gen::parse(&read("tests/documents/odd.yaml")).unwrap()]
    })
}

fn cut(whole: &Value, paths: &[&str]) -> Value {
    let kept: Map<String, Value> =
        paths.iter().map(|path| ((*path).to_owned(), whole["paths"][path].clone())).collect();
    let mut document = json!({
        "openapi": whole["openapi"], "info": whole["info"], "paths": kept,
        "components": {"schemas": {}, "parameters": {}, "responses": {}},
    });
    loop {
        let mut references = Vec::new();
        collect(&document, &mut references);
        let missing = references.into_iter().find(|r| document.pointer(&r[1..]).is_none());
        let Some(reference) = missing else { return document };
        let mut steps = reference.split('/').skip(2);
        let (kind, name) = (steps.next().unwrap(), steps.next().unwrap());
        document["components"][kind][name] = whole["components"][kind][name].clone();
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

/// Adds the pointer of everything below the root.
fn places(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let mut below = |step: &str, value: &Value| {
        let step = step.replace('~', "~0").replace('/', "~1");
        let pointer = format!("{pointer}/{step}");
        places(value, &pointer, found);
        found.push(pointer);
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
    Replace(Value),
    /// A copy of the place beside it, under another name or at the end of the list.
    Duplicate(String),
    /// Swaps with the value at another place.
    Swap(Index),
    Retarget(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let odd = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1.5),
        json!(""),
        json!("a"),
        json!("object"),
        json!("array"),
        json!("integer"),
        json!([]),
        json!({}),
        json!(["a", "A", 1]),
        json!({"$ref": "#/components/schemas/ApiKey"}),
        json!({"$ref": "#"}),
        json!({"type": "object", "properties": {"a-b": {}, "a_b": {}}}),
    ]);
    let names =
        prop::sample::select(vec!["a", "A", "self", "", "::", "get", "200", "$ref", "type"]);
    prop_oneof![
        3 => Just(Mutation::Remove),
        4 => odd.prop_map(Mutation::Replace),
        2 => names.prop_map(|name| Mutation::Duplicate(name.to_owned())),
        2 => any::<Index>().prop_map(Mutation::Swap),
        2 => any::<Index>().prop_map(Mutation::Retarget),
    ]
}

fn mutate(document: &mut Value, at: Index, mutation: &Mutation) {
    let mut found = Vec::new();
    places(document, "", &mut found);
    if let Mutation::Retarget(_) = mutation {
        found.retain(|place| place.ends_with("/$ref"));
    }
    if found.is_empty() {
        return;
    }
    let place = at.get(&found).clone();
    let there = document.pointer(&place).cloned().unwrap_or_default();
    let (parent, key) = place.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/").replace("~0", "~");
    match mutation {
        Mutation::Remove => match document.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.remove(&key)),
            Some(Value::Array(items)) => drop(items.remove(key.parse().unwrap())),
            _ => {}
        },
        Mutation::Replace(value) => *document.pointer_mut(&place).unwrap() = value.clone(),
        Mutation::Duplicate(name) => match document.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.insert(name.clone(), there)),
            Some(Value::Array(items)) => items.push(there),
            _ => {}
        },
        Mutation::Swap(other) => {
            let other = document.pointer(other.get(&found).as_str()).cloned().unwrap_or_default();
            *document.pointer_mut(&place).unwrap() = other;
        }
        Mutation::Retarget(other) => {
            let mut all = Vec::new();
            places(document, "", &mut all);
            *document.pointer_mut(&place).unwrap() = json!(format!("#{}", other.get(&all)));
        }
    }
}

/// Makes the same 48 documents in every run, so that a finding belongs to a change.
/// `PROPTEST_RNG_SEED` takes others, `PROPTEST_CASES` more.
fn config() -> ProptestConfig {
    let given = ProptestConfig::default();
    let fixed = std::env::var_os("PROPTEST_RNG_SEED").is_none();
    ProptestConfig {
        cases: if std::env::var_os("PROPTEST_CASES").is_none() { 48 } else { given.cases },
        failure_persistence: None,
        rng_seed: if fixed { RngSeed::Fixed(334) } else { given.rng_seed },
        ..given
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_shaken_document_generates_or_is_refused_at_a_place(
        which in any::<Index>(),
        mutations in prop::collection::vec((any::<Index>(), mutation()), 1..4),
    ) {
        let mut document = which.get(documents()).clone();
        for (at, mutation) in &mutations {
            mutate(&mut document, *at, mutation);
        }
        match generate(&document.to_string(), &[], Unmatched::Refuse) {
            Ok(generated) => {
                prop_assert!(syn::parse_file(&generated.code).is_ok(), "the code is not Rust");
                let _ = (generated.review(), generated.coverage());
            }
            Err(error) => {
                let place = document.pointer(error.pointer());
                prop_assert!(place.is_some(), "{error}: there is no such place");
                prop_assert!(!error.pointer().is_empty() || is_whole(error.message()), "{error}");
            }
        }
    }
}

/// Reports whether a message is about the whole document, so that no smaller place is to be named.
fn is_whole(message: &str) -> bool {
    message.contains("is missing") || message.contains("must be a mapping")
}
