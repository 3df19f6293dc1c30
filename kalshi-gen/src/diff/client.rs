//! The document as the client reads it: the published one with the overlays applied. Verdicts are
//! about clients, and those are generated from this one; what changed is said of the published
//! documents alone.

use serde_json::Value;

use super::schema::bare;
use crate::{
    document,
    error::Result,
    normalize::{forget_origins, write_out_references},
    overlay::{self, Applied, Overlay, Unmatched},
};

/// The overlays of which a client's document is made.
pub(super) struct Overlays<'o>(Vec<(&'o Overlay, Overlay)>);

impl<'o> Overlays<'o> {
    /// Keeps what the overlays say about the structure: nine of ten actions describe.
    pub(super) fn new(overlays: &'o [Overlay]) -> Self {
        let structural = overlays.iter().filter_map(|o| Some((o, structural(o)?)));
        Self(structural.collect())
    }

    /// Applies the overlays to a published document. Actions that match nothing were written for
    /// another version.
    ///
    /// # Errors
    ///
    /// An overlay or one of its actions is malformed.
    pub(super) fn apply(&self, published: &Value) -> Result<Value> {
        let mut document = published.clone();
        write_out_references(&mut document);
        for (whole, structural) in &self.0 {
            if let Err(error) = apply(&mut document, structural) {
                // The overlay as it was written names the place.
                return apply(&mut document, whole).and(Err(error));
            }
        }
        forget_origins(&mut document);
        Ok(document)
    }
}

fn apply(document: &mut Value, overlay: &Overlay) -> Result<()> {
    overlay::apply(document, overlay, Unmatched::Count, &mut Applied::default())
}

/// Returns the actions of an overlay that say more than prose, if there are any. What is no overlay
/// is left for [`apply`] to refuse.
fn structural(overlay: &Overlay) -> Option<Overlay> {
    let Some(mut parsed) =
        document::parse(&overlay.text).ok().filter(|o| o.get("actions").is_some())
    else {
        return Some(overlay.clone());
    };
    let Some(actions) = parsed.get_mut("actions").and_then(Value::as_array_mut) else {
        return Some(overlay.clone());
    };
    actions.retain(|action| action.get("update").is_none_or(|update| !is_empty(&bare(update))));
    if actions.is_empty() {
        return None;
    }
    Some(Overlay { name: overlay.name.clone(), text: parsed.to_string() })
}

/// Mappings of mappings of nothing.
fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.values().all(is_empty))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn overlay(text: &str) -> Overlay {
        Overlay { name: "test.yaml".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn only_actions_about_the_structure_are_applied() {
        let published = json!({"a": {"b": 1}});
        let text = "actions: [{target: $.a, update: {description: Words., x-note: 1}}]";
        assert!(structural(&overlay(text)).is_none());
        let text = "actions: [{target: $.a, update: {description: Words., nullable: true}}]";
        let found = Overlays::new(&[overlay(text)]).apply(&published).unwrap();
        assert_eq!(found.pointer("/a/nullable"), Some(&json!(true)));
    }

    #[test]
    fn an_overlay_finds_a_shared_parameter_where_it_is_used() {
        let published = json!({
            "paths": {"/a": {"get": {"parameters": [{"$ref": "#/components/parameters/P"}]}}},
            "components": {"parameters": {"P": {"name": "p", "in": "query"}}},
        });
        let text = "actions: [{target: \"$.paths['/a'].get.parameters[?@.name=='p']\", update: {required: true}}]";
        let found = Overlays::new(&[overlay(text)]).apply(&published).unwrap();
        assert_eq!(found.pointer("/paths/~1a/get/parameters/0/required"), Some(&json!(true)));
        assert_eq!(found.pointer("/components/parameters/P/required"), None);
    }

    #[test]
    fn an_overlay_that_is_none_is_named_with_the_place() {
        let text = "actions: [{target: $.a, update: {description: x}}, {target: '$.[', update: {type: x}}]";
        let error = Overlays::new(&[overlay(text)]).apply(&json!({"a": 1})).unwrap_err();
        assert!(error.to_string().starts_with("test.yaml#/actions/1"), "{error}");
    }
}
