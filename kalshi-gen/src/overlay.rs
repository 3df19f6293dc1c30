//! OpenAPI Overlay 1.0: `target` (`JSONPath`, RFC 9535), `update`, `remove`.
//!
//! Three kinds of overlay exist in this workspace: `corrections.yaml` (what the document gets
//! wrong), `operations.yaml` (facts that OpenAPI has no word for) and `docs/*.yaml` (our words).

use serde_json::Value;
use serde_json_path::JsonPath;

use crate::{
    document::{self, join},
    error::{Error, Result, refuse},
};

/// One overlay document: its name, for messages, and its text.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// What messages call it, usually the path below `overlay/`.
    pub name: String,
    /// The YAML.
    pub text: String,
}

/// Whether an action that matches nothing stops the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// It stops: the overlay belongs to this very document.
    Refuse,
    /// It is counted: the document is another version.
    Count,
}

/// How the actions of the overlays fared.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Actions that changed the document.
    pub actions: usize,
    /// `overlay: target` of actions that matched nothing.
    pub unmatched: Vec<String>,
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
        let target = act(document, action, &pointer).map_err(fail)?;
        match target {
            None => applied.actions += 1,
            Some(target) if unmatched == Unmatched::Count => {
                applied.unmatched.push(format!("{}: {target}", overlay.name));
            }
            Some(target) => {
                return Err(fail(Error::new(pointer, format!("`{target}` matches nothing"))));
            }
        }
    }
    Ok(())
}

/// Carries out one action; gives back its target if that matched nothing.
fn act<'a>(document: &mut Value, action: &'a Value, pointer: &str) -> Result<Option<&'a str>> {
    let Some(target) = action.get("target").and_then(Value::as_str) else {
        refuse!(pointer, "an action needs a `target`")
    };
    let path = JsonPath::parse(target)
        .map_err(|error| Error::new(join(pointer, "target"), format!("`{target}`: {error}")))?;
    let places: Vec<String> = path
        .query_located(document)
        .locations()
        .map(serde_json_path::NormalizedPath::to_json_pointer)
        .collect();
    if places.is_empty() {
        return Ok(Some(target));
    }
    let remove = action.get("remove").and_then(Value::as_bool).unwrap_or(false);
    let update = action.get("update");
    if remove == update.is_some() {
        refuse!(pointer, "an action has either `update` or `remove: true`");
    }
    // Removal from the end, so that the index of a later place stays right.
    for place in places.iter().rev() {
        match update {
            Some(update) => {
                let Some(found) = document.pointer_mut(place) else { continue };
                merge(found, update);
            }
            None => remove_at(document, place),
        }
    }
    Ok(None)
}

/// Merges as the Overlay specification says: mappings deeply, lists by appending, the rest by
/// replacing.
fn merge(target: &mut Value, update: &Value) {
    match (target, update) {
        (Value::Object(target), Value::Object(update)) => {
            for (key, value) in update {
                match target.get_mut(key) {
                    Some(found) => merge(found, value),
                    None => {
                        target.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(target), Value::Array(update)) => target.extend(update.iter().cloned()),
        (target, update) => *target = update.clone(),
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
    fn a_target_that_matches_nothing_is_named() {
        let error = applied(&mut json!({}), "actions: [{target: $.a, update: {}}]").unwrap_err();
        assert_eq!(error.to_string(), "test.yaml#/actions/0: `$.a` matches nothing");
    }
}
