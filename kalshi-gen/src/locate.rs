//! Finds the place in the document that progenitor stops at.
//!
//! progenitor and typify panic on some schemas and name no place in their errors. What they are
//! given is cut down until the smallest part that still fails is left. Runs only after a failure.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use serde_json::{Map, Value, json};

use crate::{
    document::join,
    error::{Error, Result},
    normalize::{Normalized, reachable},
};

const SCHEMAS: &str = "/components/schemas";

/// Runs `work`; a panic becomes an error instead of text on the terminal.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The hook belongs to the whole process. It is put back afterwards, and the panics of other
    // threads go through it meanwhile.
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = Arc::new(panic::take_hook());
    let (here, others) = (thread::current().id(), Arc::clone(&before));
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() != here {
            others(info);
        }
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    drop(panic::take_hook());
    panic::set_hook(Arc::try_unwrap(before).unwrap_or_else(|before| Box::new(move |i| before(i))));
    drop(one);
    result.unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        let line = text.lines().next().unwrap_or_default();
        let line: String = line.chars().take(160).collect();
        Err(Error::new("", format!("progenitor cannot generate this: {line}")))
    })
}

/// Returns the error at its place: the smallest part of the document that `fails` still refuses.
pub(crate) fn locate(
    normalized: &Normalized,
    error: Error,
    fails: &dyn Fn(&Normalized) -> Option<Error>,
) -> Error {
    let fails = |document: Value| {
        let Normalized { enums, renamed, labels, moves, surface, .. } = normalized;
        fails(&Normalized {
            document,
            enums: enums.clone(),
            renamed: renamed.clone(),
            labels: labels.clone(),
            unreached: Vec::new(),
            report: Vec::new(),
            moves: moves.clone(),
            surface: *surface,
        })
    };
    let document = &normalized.document;
    let (small, pointer) = match schema(document, &fails).or_else(|| operation(document, &fails)) {
        Some(found) => found,
        // It takes the whole document to fail.
        None => (document.clone(), String::new()),
    };
    let (small, mut pointer) = descend(small, pointer, &fails);
    let error = fails(small.clone()).unwrap_or(error);
    if let Some(key) = key(&small, &pointer, &fails) {
        pointer = join(&pointer, &key);
    }
    error.moved(pointer)
}

type Fails<'a> = dyn Fn(Value) -> Option<Error> + 'a;

/// Returns the document with only these schemas (and what they refer to) and these operations.
#[expect(clippy::needless_pass_by_value, reason = "it goes into the document that is made")]
fn cut(document: &Value, schemas: &[&str], paths: Value) -> Value {
    let all = document.pointer(SCHEMAS).and_then(Value::as_object);
    let mut from: Vec<&Value> = schemas.iter().filter_map(|name| all?.get(*name)).collect();
    from.push(&paths);
    let mut names = reachable(document, from);
    names.extend(schemas.iter().map(|&name| name.to_owned()));
    let kept: Map<String, Value> = all
        .into_iter()
        .flatten()
        .filter(|(name, _)| names.contains(*name))
        .map(|(name, schema)| (name.clone(), schema.clone()))
        .collect();
    json!({
        "openapi": document["openapi"],
        "info": document["info"],
        "paths": paths,
        "components": {"schemas": kept},
    })
}

/// Returns how many of the first `count` things it takes to fail, if all of them do.
fn shortest(count: usize, fails: impl Fn(usize) -> bool) -> Option<usize> {
    if count == 0 || !fails(count) {
        return None;
    }
    let (mut passing, mut failing) = (0, count);
    while failing - passing > 1 {
        let middle = usize::midpoint(passing, failing);
        if fails(middle) {
            failing = middle;
        } else {
            passing = middle;
        }
    }
    Some(failing)
}

/// Returns the first schema that fails without any operation.
fn schema(document: &Value, fails: &Fails<'_>) -> Option<(Value, String)> {
    let all = document.pointer(SCHEMAS)?.as_object()?;
    let mut names: Vec<&str> = all.keys().map(String::as_str).collect();
    loop {
        let count = shortest(names.len(), |count| {
            fails(cut(document, &names[..count], json!({}))).is_some()
        })?;
        let name = names[count - 1];
        let alone = cut(document, &[name], json!({}));
        if fails(alone.clone()).is_none() {
            // It takes others too: a name that two of them would have.
            return Some((cut(document, &names[..count], json!({})), join(SCHEMAS, name)));
        }
        // The cause may be what it refers to.
        let parts: Vec<&str> = alone
            .pointer(SCHEMAS)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(part, _)| all.get_key_value(part.as_str()).map(|(part, _)| part.as_str()))
            .filter(|part| *part != name)
            .collect();
        let smaller = parts.len() < names.len();
        if !smaller
            || shortest(parts.len(), |n| fails(cut(document, &parts[..n], json!({}))).is_some())
                .is_none()
        {
            return Some((alone, join(SCHEMAS, name)));
        }
        names = parts;
    }
}

/// Returns the first operation that fails.
fn operation(document: &Value, fails: &Fails<'_>) -> Option<(Value, String)> {
    let mut all = Vec::new();
    for (path, item) in document.get("paths")?.as_object()? {
        all.extend(item.as_object()?.iter().map(|(method, operation)| (path, method, operation)));
    }
    let some = |from: usize, to: usize| {
        let mut paths = json!({});
        for (path, method, operation) in &all[from..to] {
            paths[path.as_str()][method.as_str()] = (*operation).clone();
        }
        cut(document, &[], paths)
    };
    let count = shortest(all.len(), |count| fails(some(0, count)).is_some())?;
    let (path, method, _) = all[count - 1];
    let alone = some(count - 1, count);
    let small = if fails(alone.clone()).is_some() { alone } else { some(0, count) };
    Some((small, join(&join("/paths", path), method)))
}

/// Goes down as long as one part alone is the cause: with plain text in its place, nothing fails.
fn descend(mut small: Value, mut pointer: String, fails: &Fails<'_>) -> (Value, String) {
    'down: loop {
        let Some(here) = small.pointer(&pointer) else { return (small, pointer) };
        for child in parts(here, &pointer) {
            let mut without = small.clone();
            if let Some(place) = without.pointer_mut(&child) {
                *place = json!({"type": "string"});
            }
            if fails(without).is_none() {
                pointer = child;
                continue 'down;
            }
        }
        // Nothing below: leave out what stands beside, for a message about this place alone.
        if let Some(rest) = pointer.strip_prefix(SCHEMAS)
            && let Some((properties, field)) = rest.rsplit_once("/properties/")
        {
            let mut only = small.clone();
            let map = only.pointer_mut(&format!("{SCHEMAS}{properties}/properties"));
            if let Some(Value::Object(map)) = map {
                map.retain(|name, _| join("", name) == format!("/{field}"));
            }
            if fails(only.clone()).is_some() {
                small = only;
            }
        }
        return (small, pointer);
    }
}

/// Returns the key without which nothing fails.
fn key(small: &Value, pointer: &str, fails: &Fails<'_>) -> Option<String> {
    let keys = small.pointer(pointer)?.as_object()?.keys();
    let blamed = |key: &&String| {
        let mut without = small.clone();
        let place = without.pointer_mut(pointer).and_then(Value::as_object_mut);
        place.is_some_and(|map| map.remove(*key).is_some()) && fails(without).is_none()
    };
    // Without its operations a document always passes.
    keys.filter(|key| !pointer.is_empty() || *key != "paths").find(blamed).cloned()
}

/// Returns the schemas one step below a schema or an operation.
fn parts(here: &Value, pointer: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut step = |steps: &str, key: Option<&str>| {
        let below = format!("{pointer}/{steps}");
        found.push(key.map_or(below.clone(), |key| join(&below, key)));
    };
    for (name, _) in here.get("properties").and_then(Value::as_object).into_iter().flatten() {
        step("properties", Some(name));
    }
    for key in ["items", "additionalProperties"] {
        if here.get(key).is_some_and(Value::is_object) {
            step(key, None);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        let list = here.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        (0..list).for_each(|index| step(key, Some(&index.to_string())));
    }
    let parameters = here.get("parameters").and_then(Value::as_array).map_or(0, Vec::len);
    (0..parameters).for_each(|index| step(&format!("parameters/{index}/schema"), None));
    found
}
