//! OpenAPI Overlay 1.0: `target` (the part of `JSONPath` in `json_path`), `update`, `remove`.
//!
//! Three kinds of overlay exist in this workspace: `corrections.yaml` (what the document gets
//! wrong), `operations.yaml` (facts that OpenAPI has no word for) and `docs/*.yaml` (our descriptions).

use serde_json::Value;

use crate::{
    document::{self, join},
    error::{Error, Result, refuse},
    json_path::JsonPath,
};

/// One overlay document: its name, for messages, and its text.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Name in messages, usually the path below `overlay/`.
    pub name: String,
    /// The YAML.
    pub text: String,
}

/// The generator's reaction to an action that matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// It stops: the overlay belongs to this very document.
    Refuse,
    /// It is counted: the document is another version.
    Count,
}

/// The outcome of the actions of the overlays.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Actions that changed the document.
    pub actions: usize,
    /// `overlay: target` of actions that matched nothing.
    pub unmatched: Vec<String>,
    /// `overlay: target: what` of actions that add what the document already has. They do no harm,
    /// and can go.
    pub redundant: Vec<String>,
}

/// Applies one overlay to the document.
///
/// # Errors
///
/// An overlay that is not one, or (with [`Unmatched::Refuse`]) an action that matches nothing.
pub(crate) fn apply(
    document: &mut Value,
    overlay: &Overlay,
    unmatched: Unmatched,
    applied: &mut Applied,
) -> Result<()> {
    let fail =
        |error: Error| Error::new(format!("{}#{}", overlay.name, error.pointer()), error.message());
    let parsed = document::parse(&overlay.text).map_err(fail)?;
    let Some(actions) = parsed.get("actions").and_then(Value::as_array) else {
        return Err(fail(Error::new("/actions", "an overlay needs a list of actions")));
    };
    for (index, action) in actions.iter().enumerate() {
        let pointer = join("/actions", &index.to_string());
        let (target, effect) = act(document, action, &pointer).map_err(fail)?;
        match effect {
            Effect::Changed => applied.actions += 1,
            Effect::Redundant(what) => {
                applied.actions += 1;
                applied.redundant.push(format!("{}: {target}: {what}", overlay.name));
            }
            Effect::Unmatched if unmatched == Unmatched::Count => {
                applied.unmatched.push(format!("{}: {target}", overlay.name));
            }
            Effect::Unmatched => {
                return Err(fail(Error::new(pointer, format!("`{target}` matches nothing"))));
            }
        }
    }
    Ok(())
}

/// The effect of an action on the document.
enum Effect {
    Changed,
    /// The document has (some of) what the action adds; the text says what.
    Redundant(String),
    Unmatched,
}

/// Carries out one action and returns its target.
fn act<'a>(document: &mut Value, action: &'a Value, pointer: &str) -> Result<(&'a str, Effect)> {
    let Some(target) = action.get("target").and_then(Value::as_str) else {
        refuse!(pointer, "an action needs a `target`")
    };
    let path = JsonPath::parse(target)
        .map_err(|error| Error::new(join(pointer, "target"), format!("`{target}`: {error}")))?;
    let places = path.places(document);
    if places.is_empty() {
        return Ok((target, Effect::Unmatched));
    }
    let remove = action.get("remove").and_then(Value::as_bool).unwrap_or(false);
    let update = action.get("update");
    if remove == update.is_some() {
        refuse!(pointer, "an action has either `update` or `remove: true`");
    }
    let Some(update) = update else {
        // From the end, so that the index of a later place stays right.
        for place in places.iter().rev() {
            remove_at(document, place);
        }
        return Ok((target, Effect::Changed));
    };
    let mut merged = Merged::default();
    for place in &places {
        if let Some(found) = document.pointer_mut(place) {
            merged.merge(found, update);
        }
    }
    let effect = if !merged.changed {
        Effect::Redundant("the document already has all of it".to_owned())
    } else if merged.present.is_empty() {
        Effect::Changed
    } else {
        Effect::Redundant(format!("the document already has {}", merged.present.join(", ")))
    };
    Ok((target, effect))
}

/// The outcome of merging an update into the places that it addresses.
#[derive(Default)]
struct Merged {
    changed: bool,
    /// The items of lists that were there already.
    present: Vec<String>,
}

impl Merged {
    /// Merges as the Overlay specification says: mappings deeply, lists by appending, the rest by
    /// replacing. An item that the list already has is not appended a second time: every list of a
    /// document that is worth correcting (`enum`, `required`, `tags`) is a set.
    fn merge(&mut self, target: &mut Value, update: &Value) {
        match (target, update) {
            (Value::Object(target), Value::Object(update)) => {
                for (key, value) in update {
                    if let Some(found) = target.get_mut(key) {
                        self.merge(found, value);
                    } else {
                        target.insert(key.clone(), value.clone());
                        self.changed = true;
                    }
                }
            }
            (Value::Array(target), Value::Array(update)) => {
                for item in update {
                    if target.contains(item) {
                        self.present.push(format!("`{item}`"));
                    } else {
                        target.push(item.clone());
                        self.changed = true;
                    }
                }
            }
            (target, update) if target == update => {}
            (target, update) => {
                *target = update.clone();
                self.changed = true;
            }
        }
    }
}

fn remove_at(document: &mut Value, place: &str) {
    let Some((parent, last)) = place.rsplit_once('/') else { return };
    let last = last.replace("~1", "/").replace("~0", "~");
    match document.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&last);
        }
        Some(Value::Array(items)) => {
            if let Ok(index) = last.parse::<usize>()
                && index < items.len()
            {
                items.remove(index);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(document: &mut Value, text: &str) -> Result<Applied> {
        let overlay = Overlay { name: "test.yaml".to_owned(), text: text.to_owned() };
        let mut applied = Applied::default();
        apply(document, &overlay, Unmatched::Refuse, &mut applied)?;
        Ok(applied)
    }

    #[test]
    fn an_update_is_merged_deeply_into_each_match() {
        let mut document = json!({"p": [{"name": "a"}, {"name": "b", "s": {"t": 1}}]});
        let text = "actions: [{target: \"$.p[?@.name=='b']\", update: {s: {u: 2}}}]";
        assert_eq!(applied(&mut document, text).unwrap().actions, 1);
        assert_eq!(document, json!({"p": [{"name": "a"}, {"name": "b", "s": {"t": 1, "u": 2}}]}));
    }

    #[test]
    fn several_items_of_one_list_can_be_removed() {
        let mut document = json!({"p": [{"x": 1}, {"y": 1}, {"x": 2}]});
        applied(&mut document, "actions: [{target: '$.p[?@.x]', remove: true}]").unwrap();
        assert_eq!(document, json!({"p": [{"y": 1}]}));
    }

    #[test]
    fn g7_an_item_that_the_list_has_is_not_appended_again() {
        let mut document = json!({"e": {"enum": ["a", "b"]}});
        let text = "actions: [{target: $.e, update: {enum: [b, c]}}]";
        let applied = applied(&mut document, text).unwrap();
        assert_eq!(document, json!({"e": {"enum": ["a", "b", "c"]}}));
        assert_eq!(applied.redundant, ["test.yaml: $.e: the document already has `\"b\"`"]);
    }

    #[test]
    fn g6_an_action_that_adds_what_the_document_has_is_reported_and_changes_nothing() {
        let before = json!({"e": {"enum": ["a"], "type": "string", "x": {"y": 1}}});
        for update in ["{enum: [a]}", "{type: string}", "{x: {y: 1}}", "{type: string, enum: [a]}"]
        {
            let mut document = before.clone();
            let text = format!("actions: [{{target: $.e, update: {update}}}]");
            let applied = applied(&mut document, &text).unwrap();
            assert_eq!((document, applied.actions), (before.clone(), 1), "{update}");
            let line = "test.yaml: $.e: the document already has all of it";
            assert_eq!(applied.redundant, [line], "{update}");
        }
        let mut document = before.clone();
        let text = "actions: [{target: $.e, update: {type: string, format: date}}]";
        assert!(applied(&mut document, text).unwrap().redundant.is_empty());
    }

    #[test]
    fn a_target_that_matches_nothing_is_named() {
        let error = applied(&mut json!({}), "actions: [{target: $.a, update: {}}]").unwrap_err();
        assert_eq!(error.to_string(), "test.yaml#/actions/0: `$.a` matches nothing");
    }
}
