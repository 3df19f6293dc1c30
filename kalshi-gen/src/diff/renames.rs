//! Renames are guesses: no document states one. Said only where what went and what came are the
//! same in structure, and nothing else fits either of them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Change, model::Model, schema::bare};

pub(super) fn guess(changes: &mut [Change], old: &Model<'_>, new: &Model<'_>) {
    let mut pairs = Vec::new();
    for (index, gone) in changes.iter().enumerate() {
        let fits = |come: &Change| {
            kind(gone)
                .is_some_and(|(what, is_removed)| is_removed && kind(come) == Some((what, false)))
                && gone.directions == come.directions
                && what_holds(gone) == what_holds(come)
                && alike(gone, come, old, new)
        };
        let mut found = changes.iter().enumerate().filter(|(_, come)| fits(come));
        if let (Some((other, _)), None) = (found.next(), found.next()) {
            pairs.push((index, other));
        }
    }
    // One that came may fit two that went: then neither is said.
    let unique: Vec<_> = pairs
        .iter()
        .filter(|(_, other)| pairs.iter().filter(|(_, o)| o == other).count() == 1)
        .copied()
        .collect();
    for (gone, come) in unique {
        let name = |change: &Change| {
            if change.field.is_empty() { change.subject.clone() } else { change.field.clone() }
        };
        let (was, is) = (changes.get(gone).map(name), changes.get(come).map(name));
        if let (Some(was), Some(is)) = (was, is) {
            set(changes, gone, format!("perhaps renamed to {is}"));
            set(changes, come, format!("perhaps {was} under another name"));
        }
    }
}

fn set(changes: &mut [Change], index: usize, text: String) {
    if let Some(change) = changes.get_mut(index) {
        change.guess = Some(text);
    }
}

/// Returns the kind of an added or removed part, and true if it was removed.
fn kind(change: &Change) -> Option<(&'static str, bool)> {
    let id = change.id.as_str();
    if id == "endpoint-added" || id.starts_with("api-removed-") {
        return Some(("operation", id != "endpoint-added"));
    }
    match id {
        "schema-added" | "schema-removed" => Some(("schema", id == "schema-removed")),
        "channel-added" | "channel-removed" => Some(("channel", id == "channel-removed")),
        "message-added" | "message-removed" => Some(("message", id == "message-removed")),
        "request-parameter-removed" => Some(("parameter", true)),
        "new-required-request-parameter" | "new-optional-request-parameter" => {
            Some(("parameter", false))
        }
        "new-required-request-property" | "new-optional-request-property" => {
            Some(("property", false))
        }
        _ if id.ends_with("-property-removed") => Some(("property", true)),
        _ if id.ends_with("-property-added") => Some(("property", false)),
        _ => None,
    }
}

/// Returns the holder and the name of a changed part: a field is renamed within its object, a
/// parameter within its operation.
fn what_holds(change: &Change) -> (&str, &str) {
    if change.field.is_empty() {
        return ("", "");
    }
    let parent = change.field.rsplit_once(['.', ' ']).map_or("", |(parent, _)| parent);
    (&change.subject, parent)
}

fn alike(gone: &Change, come: &Change, old: &Model<'_>, new: &Model<'_>) -> bool {
    let value = |model: &Model<'_>, change: &Change| model.root.pointer(change.place()).map(bare);
    let (Some(mut was), Some(mut is)) = (value(old, gone), value(new, come)) else { return false };
    if gone.field.is_empty() {
        // An operation that moved keeps its id or everything else; a schema keeps everything.
        let id = |value: &Value| value.get("operationId").cloned();
        let same_id = id(&was).is_some() && id(&was) == id(&is);
        for value in [&mut was, &mut is] {
            if let Value::Object(map) = value {
                map.remove("operationId");
                map.remove("parameters");
                map.remove("deprecated");
            }
        }
        let trivial = was.get("properties").is_none()
            && was.get("responses").is_none()
            && was.get("enum").is_none();
        return same_id || was == is && (!trivial || words_meet(&gone.subject, &come.subject));
    }
    for value in [&mut was, &mut is] {
        if let Value::Object(map) = value {
            map.remove("name");
        }
    }
    was == is && words_meet(last(&gone.field), last(&come.field))
}

fn last(field: &str) -> &str {
    field.rsplit(['.', ' ']).next().unwrap_or(field)
}

/// Reports whether two names have a word in common, or one begins with the other.
fn words_meet(one: &str, other: &str) -> bool {
    let words = |name: &str| {
        let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() > 1);
        words.map(str::to_ascii_lowercase).collect::<BTreeSet<_>>()
    };
    one.starts_with(other) || other.starts_with(one) || !words(one).is_disjoint(&words(other))
}
