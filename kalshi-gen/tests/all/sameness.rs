//! The same document gives the same bytes, whatever the order of its keys.

use kalshi_gen::{Generated, Overlay, Unmatched, generate};
use serde_json::Value;

use crate::support::{published, read};

fn of(text: &str) -> Generated {
    generate(text, &[], Unmatched::Refuse).unwrap()
}

fn assert_same(first: &Generated, second: &Generated) {
    assert!(first.code == second.code, "the code differs");
    assert!(first.dispatch == second.dispatch, "the dispatcher differs");
    assert_eq!(first.review(), second.review());
}

/// Returns the same mapping, with the keys at every depth in reverse order.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .rev()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), reversed(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn twice_the_same_document_gives_the_same_bytes() {
    assert_same(&of(&published()), &of(&published()));
}

#[test]
fn the_order_of_keys_does_not_matter() {
    for text in [published(), read("tests/documents/odd.yaml")] {
        let other = reversed(&kalshi_gen::parse(&text).unwrap());
        assert_ne!(kalshi_gen::parse(&text).unwrap().to_string(), other);
        assert_same(&of(&text), &of(&other));
    }
}

#[test]
fn the_order_of_overlays_is_that_of_their_names() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../overlay");
    let overlays = kalshi_gen::read_overlays(&folder).unwrap();
    let names: Vec<&str> = overlays.iter().map(|overlay| overlay.name.as_str()).collect();
    assert!(names.is_sorted(), "{names:?}");
    assert!(names.contains(&"corrections.yaml") && names.contains(&"docs/orders.yaml"));
}

#[test]
fn overlays_of_another_version_are_counted_not_refused() {
    let text = read("tests/documents/odd.yaml");
    let overlay = Overlay {
        name: "test.yaml".to_owned(),
        text: "actions:\n- target: $.paths['/gone']\n  remove: true\n".to_owned(),
    };
    let overlays = [overlay];
    let generated = generate(&text, &overlays, Unmatched::Count).unwrap();
    assert_eq!(generated.applied.unmatched, ["test.yaml: $.paths['/gone']"]);
    let error = generate(&text, &overlays, Unmatched::Refuse).unwrap_err();
    assert_eq!(error.to_string(), "test.yaml#/actions/0: `$.paths['/gone']` matches nothing");
}
