//! Reads what an error body says, in every shape that has been seen, within bounds.
//!
//! A body comes from the network: only the known fields are taken out of it, and nothing is built
//! of the rest.

use std::fmt;

use serde::de::{self, Deserializer as _, IgnoredAny};
use serde_json::value::RawValue;

/// Error bodies are read up to this size; what follows is left on the connection.
pub(crate) const MAX_ERROR_BODY: usize = 1 << 20;

/// Texts of the exchange are kept up to this many characters.
const MAX_TEXT: usize = 1_000;

/// The known fields of an error body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) details: Option<String>,
    /// True if the body has an `error` with contents.
    pub(crate) is_envelope: bool,
}

impl ErrorBody {
    /// Reads `{"code","message","details"}`, the same under `error`, `{"error":"text"}` and
    /// `{"msg":"text"}`. Anything else (HTML, plain text, nothing) has no known fields.
    ///
    /// A body that is cut off gives the fields that are complete.
    pub(crate) fn read(body: &[u8]) -> Self {
        let text = beginning(body);
        let outer = Fields::read(text);
        let is_envelope = outer.error.is_some_and(|error| !is_nothing(error.get()));
        let said = match outer.error.map(RawValue::get) {
            Some(error) if error.starts_with('{') => Fields::read(error).said(),
            Some(error) if error.starts_with('"') => {
                let said = outer.said();
                let message = match (plain(error), said.message) {
                    (Some(text), Some(message)) => Some(bounded(&format!("{text}: {message}"))),
                    (text, message) => text.or(message),
                };
                Self { message, ..said }
            }
            _ => outer.said(),
        };
        Self { is_envelope, ..said }
    }

    /// Reports whether the body says anything that an error would.
    pub(crate) fn says_something(&self) -> bool {
        self.is_envelope || self.code.is_some() || self.message.is_some()
    }
}

/// Reports whether a JSON object has one of these fields, with a value other than null.
pub(crate) fn has_field(body: &[u8], names: &[&str]) -> bool {
    let fields = Fields::read(beginning(body));
    [
        ("error", fields.error),
        ("code", fields.code),
        ("message", fields.message),
        ("msg", fields.msg),
    ]
    .into_iter()
    .any(|(name, value)| value.is_some() && names.contains(&name))
}

/// Reports whether a body is JSON that is no error, or nothing at all: a valid answer to a
/// request whose response is unknown.
pub(crate) fn is_harmless(body: &[u8]) -> bool {
    if is_blank(body) {
        return true;
    }
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
        && !has_field(body, &["error", "code", "message", "msg"])
}

/// Reports whether a body is empty, or an object without fields.
pub(crate) fn is_blank(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    match body {
        [] => true,
        [b'{', inner @ .., b'}'] => inner.trim_ascii().is_empty(),
        _ => false,
    }
}

/// The fields of one object, as they stand in the text. Null is the same as nothing.
#[derive(Default)]
struct Fields<'a> {
    code: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    msg: Option<&'a RawValue>,
    details: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Self {
        let mut fields = Self::default();
        // An error ends the reading where the text is no JSON; what came before is kept.
        let _ = serde_json::Deserializer::from_str(text).deserialize_map(&mut fields);
        fields
    }

    fn said(&self) -> ErrorBody {
        let shown = |value: Option<&RawValue>| shown(value?.get());
        ErrorBody {
            code: shown(self.code),
            message: shown(self.message).or_else(|| shown(self.msg)),
            details: shown(self.details),
            is_envelope: false,
        }
    }
}

impl<'a> de::Visitor<'a> for &mut Fields<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            let place = match key {
                Key::Code => &mut self.code,
                Key::Message => &mut self.message,
                Key::Msg => &mut self.msg,
                Key::Details => &mut self.details,
                Key::Error => &mut self.error,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value: &RawValue = map.next_value()?;
            // A second one of the same name must not hide the first.
            if value.get() != "null" {
                *place = Some(value);
            }
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Code,
    Message,
    Msg,
    Details,
    Error,
    #[serde(other)]
    Other,
}

/// Returns the beginning of a body as text: at most 1 MiB, up to the first byte that is not UTF-8.
fn beginning(body: &[u8]) -> &str {
    let body = body.get(..MAX_ERROR_BODY).unwrap_or(body);
    match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => body
            .get(..error.valid_up_to())
            .and_then(|valid| std::str::from_utf8(valid).ok())
            .unwrap_or_default(),
    }
}

/// Returns a value as it is shown: a text without its quotes, anything else as JSON.
fn shown(json: &str) -> Option<String> {
    if json.starts_with('"') { plain(json) } else { Some(bounded(json)) }
}

fn plain(json: &str) -> Option<String> {
    let text: String = serde_json::from_str(json).ok()?;
    (!text.is_empty()).then(|| bounded(&text))
}

/// Reports whether the value of an `error` says that there was none.
fn is_nothing(json: &str) -> bool {
    let inner = |open, close| {
        json.strip_prefix(open).and_then(|rest: &str| rest.strip_suffix(close)).map(str::trim)
    };
    matches!(json, "null" | "\"\"" | "false" | "0")
        || inner('{', '}') == Some("")
        || inner('[', ']') == Some("")
}

/// Keeps an error text short: a server could send megabytes of it.
pub(crate) fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => text.get(..end).unwrap_or_default().chars().chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(body: &str) -> (Option<String>, Option<String>, Option<String>) {
        let ErrorBody { code, message, details, .. } = ErrorBody::read(body.as_bytes());
        (code, message, details)
    }

    #[test]
    fn every_shape_of_an_error_body_is_understood() {
        let text = |s: &str| Some(s.to_owned());
        assert_eq!(
            said(r#"{"code":"c","message":"m","details":"d"}"#),
            (text("c"), text("m"), text("d"))
        );
        assert_eq!(
            said(r#"{"error":{"code":"c","message":"m","details":"d","service":"s"}}"#),
            (text("c"), text("m"), text("d"))
        );
        assert_eq!(
            said(r#"{"error":"too many requests"}"#),
            (None, text("too many requests"), None)
        );
        assert_eq!(
            said(r#"{"error":"no","code":"c","message":"m"}"#),
            (text("c"), text("no: m"), None)
        );
        assert_eq!(said(r#"{"msg":"no"}"#), (None, text("no"), None));
        assert_eq!(
            said(r#"{"code":null,"message":"","details":{"a":1}}"#),
            (None, None, text(r#"{"a":1}"#))
        );
        for nothing in ["", "<html>", "[]", "\"x\"", "{", "null", "{\"code\":", "{\"code\":\"x"] {
            assert_eq!(said(nothing), (None, None, None), "{nothing}");
        }
    }

    #[test]
    fn a_body_that_is_cut_off_gives_the_fields_that_are_complete() {
        let (code, message, _) = said(r#"{"code":"invalid_price","message":"the pri"#);
        assert_eq!((code.as_deref(), message), (Some("invalid_price"), None));
        let long = format!(r#"{{"code":"c","message":"{}"}}"#, "x".repeat(2 * MAX_ERROR_BODY));
        assert_eq!(said(&long).0.as_deref(), Some("c"));
    }

    #[test]
    fn a_field_that_comes_twice_cannot_be_hidden_by_null() {
        let body = br#"{"error":{"code":"x"},"error":null}"#;
        assert!(ErrorBody::read(body).is_envelope);
    }

    #[test]
    fn only_an_error_with_contents_is_an_envelope() {
        for yes in [
            r#"{"error":{"code":"x"}}"#,
            r#"{"error":"no"}"#,
            r#"{"a":1,"error":{"message":"m"}}"#,
            r#"{"error":{"reason":"m"}}"#,
            r#"{"error":true}"#,
            r#"{"error":["a"]}"#,
        ] {
            assert!(ErrorBody::read(yes.as_bytes()).is_envelope, "{yes}");
        }
        for no in [
            r#"{"error":null}"#,
            r#"{"error":""}"#,
            r#"{"error":{ }}"#,
            r#"{"error":[]}"#,
            r#"{"error":false}"#,
            "{}",
            "[]",
            r#"{"errors":[1]}"#,
        ] {
            assert!(!ErrorBody::read(no.as_bytes()).is_envelope, "{no}");
        }
    }

    #[test]
    fn blank_is_nothing_or_an_object_without_fields() {
        for yes in ["", " \n", "{}", " { } "] {
            assert!(is_blank(yes.as_bytes()), "{yes:?}");
            assert!(is_harmless(yes.as_bytes()), "{yes:?}");
        }
        for no in ["null", "[]", "OK", "{\"a\":1}", "<html>"] {
            assert!(!is_blank(no.as_bytes()), "{no:?}");
        }
        assert!(is_harmless(b"{\"a\":1}") && is_harmless(b"[1]"));
        assert!(!is_harmless(b"<html>") && !is_harmless(b"{\"msg\":\"no\"}"));
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|b| b.to_string()),
            any::<f64>().prop_map(|n| serde_json::json!(n).to_string()),
            any::<String>().prop_map(|text| serde_json::json!(text).to_string()),
        ];
        let key = prop_oneof![
            Just("error".to_owned()),
            Just("code".to_owned()),
            Just("message".to_owned()),
            Just("msg".to_owned()),
            Just("details".to_owned()),
            any::<String>(),
        ];
        leaf.prop_recursive(4, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|fields| {
                    let fields: Vec<_> = fields
                        .iter()
                        .map(|(key, value)| format!("{}:{value}", serde_json::json!(key)))
                        .collect();
                    format!("{{{}}}", fields.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            check(&bytes);
        }

        #[test]
        fn any_json_cut_anywhere_is_read_within_bounds(text in json(), cut in any::<prop::sample::Index>()) {
            check(text.as_bytes());
            check(&text.as_bytes()[..cut.index(text.len() + 1)]);
        }
    }

    fn check(body: &[u8]) {
        let read = ErrorBody::read(body);
        for text in [read.code, read.message, read.details].into_iter().flatten() {
            assert!(!text.is_empty() && text.chars().count() <= MAX_TEXT + 1);
        }
        let _ = (is_blank(body), is_harmless(body), has_field(body, &["error", "msg"]));
    }
}
