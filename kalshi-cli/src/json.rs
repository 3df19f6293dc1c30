//! JSON as it stands on the wire: members keep their order, and numbers their text.
//!
//! `serde_json::Value` would sort members and turn decimals into floats.

use std::fmt::{self, Write as _};

use serde_json::value::RawValue;

/// The deepest nesting that is read. The exchange's documents have fewer than ten levels.
const MAX_DEPTH: usize = 128;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// The text of the number.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The reason for which a text is not JSON.
#[derive(Debug)]
pub(crate) struct InvalidJson(String);

impl fmt::Display for InvalidJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Json {
    /// Reads a text.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidJson> {
        // The text is checked as a whole first; the reader below only takes it apart.
        let checked: &RawValue =
            serde_json::from_str(text).map_err(|error| InvalidJson(error.to_string()))?;
        let mut reader = Reader { text: checked.get(), at: 0 };
        reader.value(0).ok_or_else(|| {
            InvalidJson(format!("the document is nested more than {MAX_DEPTH} levels deep"))
        })
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn number(number: impl fmt::Display) -> Self {
        Self::Number(number.to_string())
    }

    /// Returns a text, or null for `None`.
    pub(crate) fn optional<T: Into<String>>(text: Option<T>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    pub(crate) fn object<K: Into<String>>(members: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// Returns a member of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => {
                members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Returns the value at a path of members, `a.b`.
    pub(crate) fn at(&self, path: &str) -> Option<&Self> {
        // A member whose name has a dot is found by its whole name.
        self.get(path).or_else(|| path.split('.').try_fold(self, |value, name| value.get(name)))
    }

    /// Removes a member of an object and returns its value.
    pub(crate) fn take(&mut self, name: &str) -> Option<Self> {
        match self {
            Self::Object(members) => {
                let place = members.iter().position(|(known, _)| known == name)?;
                Some(members.remove(place).1)
            }
            _ => None,
        }
    }

    /// Returns the text of a text.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the elements of a list.
    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }

    /// Returns the value as a cell of a table: a text without quotes, nothing for null, and lists and
    /// objects as compact JSON.
    pub(crate) fn cell(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Text(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Returns the value with line ends and two spaces for each level.
    pub(crate) fn pretty(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out
    }

    fn write(&self, out: &mut String, indent: Option<usize>) {
        let inner = indent.map(|level| level + 1);
        let line = |out: &mut String, level: Option<usize>| {
            if let Some(level) = level {
                out.push('\n');
                out.extend(std::iter::repeat_n("  ", level));
            }
        };
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(text) => out.push_str(text),
            Self::Text(text) => write_text(out, text),
            Self::List(values) if values.is_empty() => out.push_str("[]"),
            Self::List(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    line(out, inner);
                    value.write(out, inner);
                }
                line(out, indent);
                out.push(']');
            }
            Self::Object(members) if members.is_empty() => out.push_str("{}"),
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    line(out, inner);
                    write_text(out, name);
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    value.write(out, inner);
                }
                line(out, indent);
                out.push('}');
            }
        }
    }
}

impl fmt::Display for Json {
    /// Prints the value on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out, None);
        f.write_str(&out)
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Also those beyond ASCII: a terminal could obey them.
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Takes a text apart that is known to be JSON.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => {
                self.at += 1;
                let mut members = Vec::new();
                while self.peek()? != b'}' {
                    if !members.is_empty() {
                        self.take(b',')?;
                        self.peek()?;
                    }
                    let name = self.string()?;
                    self.take(b':')?;
                    members.push((name, self.value(depth + 1)?));
                }
                self.at += 1;
                Some(Json::Object(members))
            }
            b'[' => {
                self.at += 1;
                let mut values = Vec::new();
                while self.peek()? != b']' {
                    if !values.is_empty() {
                        self.take(b',')?;
                    }
                    values.push(self.value(depth + 1)?);
                }
                self.at += 1;
                Some(Json::List(values))
            }
            b'"' => self.string().map(Json::Text),
            _ => {
                let rest = self.text.get(self.at..)?;
                let end = rest
                    .find(|c: char| c.is_ascii_whitespace() || matches!(c, ',' | ']' | '}'))
                    .unwrap_or(rest.len());
                self.at += end;
                Some(match rest.get(..end)? {
                    "null" => Json::Null,
                    "true" => Json::Bool(true),
                    "false" => Json::Bool(false),
                    number => Json::Number(number.to_owned()),
                })
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let rest = self.text.get(self.at..)?;
        let mut end = 1;
        let bytes = rest.as_bytes();
        while *bytes.get(end)? != b'"' {
            end += if *bytes.get(end)? == b'\\' { 2 } else { 1 };
        }
        self.at += end + 1;
        let quoted = rest.get(..=end)?;
        if quoted.contains('\\') {
            return serde_json::from_str(quoted).ok();
        }
        Some(quoted.get(1..end)?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_keep_their_order_and_numbers_their_text() {
        let text = r#"{"z":0.070,"a":[1e3,-0,12345678901234567890123],"m":{"b":null,"a":true},"e":[],"o":{}}"#;
        assert_eq!(Json::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn a_text_that_is_not_json_is_refused() {
        for text in ["", "{", "[1,]", "{\"a\" 1}", "truest", "1 2", "\"\u{1}\""] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(Json::parse(&deep).is_err());
        let fine = "[".repeat(100) + &"]".repeat(100);
        assert!(Json::parse(&fine).is_ok());
    }

    #[test]
    fn no_control_character_is_printed() {
        let json = Json::parse(r#"{"title":"a\u001b[2Jb\u009bc"}"#).unwrap();
        let shown = json.to_string();
        assert!(shown.chars().all(|c| !c.is_control()), "{shown:?}");
        assert_eq!(Json::parse(&shown).unwrap(), json);
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(Json::number),
            any::<String>().prop_map(Json::Text),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Json::List),
                proptest::collection::vec((any::<String>(), inner), 0..5).prop_map(Json::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(json in any_json()) {
            prop_assert_eq!(&Json::parse(&json.to_string()).unwrap(), &json);
            prop_assert_eq!(&Json::parse(&json.pretty()).unwrap(), &json);
        }

        #[test]
        fn a_text_is_read_as_serde_json_reads_it(text in "\\PC{0,40}|[\\[\\]{}:,\"0-9a-z\\\\. -]{0,40}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match Json::parse(&text) {
                Ok(json) => {
                    let again: serde_json::Value = serde_json::from_str(&json.to_string()).unwrap();
                    prop_assert_eq!(again, theirs.unwrap());
                }
                // A number beyond a float's range is fine as a text.
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }
    }
}
