//! The JSON path of the place where a body does not decode.
//!
//! Worked out after a failure only, from where the reader stopped and an untyped walk up to there: a
//! reader that keeps the path all the way is a second instance of every decoder.

use serde_json::Error;

/// serde's reader nests no deeper. What is below that is not entered, only counted.
const MAX_DEPTH: usize = 128;

/// The starts of messages about an object or a list rather than about what it holds.
const OF_CONTAINERS: [&str; 6] = [
    "EOF while parsing a list",
    "EOF while parsing an object",
    "duplicate field",
    "expected `,`",
    "expected `:`",
    "trailing comma",
];

/// Returns the path of what `failed` is about, such as `markets[0].ticker`; `.` for the whole.
///
/// A missing field has no place; its path is that of the object that lacks it. `decode` reads a
/// beginning of the body as the body was read.
pub(crate) fn failed_path(
    body: &[u8],
    failed: &Error,
    decode: impl Fn(&[u8]) -> Option<Error>,
) -> String {
    let mut end = offset(body, failed);
    if failed.is_syntax() {
        // The reader has looked at the character that it does not take.
        end = end.saturating_sub(1);
    }
    let text = body.get(..end).unwrap_or(body);
    let walk = Walk::over(text);
    let message = failed.to_string();
    if OF_CONTAINERS.iter().any(|start| message.starts_with(start)) {
        return walk.container();
    }
    let is_before_value = ["invalid type: map", "invalid type: sequence"]
        .iter()
        .any(|start| message.starts_with(start));
    // An error that is there already with less of the text is of what stands further in front.
    let is_raised_by = |text: &[u8]| decode(text).is_some_and(|error| error.is_data());
    match &walk.last {
        Last::Opened | Last::Comma if !walk.is_in_list() => walk.container(),
        Last::Opened | Last::Comma if failed.is_syntax() => walk.entry(),
        Last::Opened | Last::Comma if is_before_value && !is_raised_by(text) => walk.entry(),
        Last::Comma if failed.is_data() => walk.entry_before(),
        Last::Opened | Last::Comma | Last::Key => walk.container(),
        Last::Colon | Last::Value => walk.entry(),
        // An error of an object as a whole comes up behind its bracket, and so does one that is made of
        // its last member after that was read.
        Last::Closed { member, opened } => match text.split_last() {
            Some((b'}' | b']', before))
                if is_raised_by(before)
                    && !is_raised_by(text.get(..=*opened).unwrap_or_default()) =>
            {
                walk.below(member)
            }
            _ => walk.entry(),
        },
    }
}

/// Returns the path of the value that a beginning of a body ends in.
pub(crate) fn path_at_end(text: &[u8]) -> String {
    Walk::over(text).entry()
}

/// Returns the number of bytes before the place that the reader names.
fn offset(body: &[u8], failed: &Error) -> usize {
    let mut lines = body.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.by_ref().take(failed.line().saturating_sub(1)).map(<[u8]>::len).sum();
    before.saturating_add(failed.column()).min(body.len())
}

/// A walk through a body: its position, and the path to it.
struct Walk<'a> {
    /// The objects and lists around the place, from the outside.
    around: Vec<Step<'a>>,
    /// The positions of their brackets.
    opened: Vec<usize>,
    /// The levels below the innermost of them.
    deeper: usize,
    last: Last<'a>,
}

/// An object or a list, and the entry of it that was reached.
#[derive(Clone, Copy)]
enum Step<'a> {
    /// The key, as it is written.
    Member(&'a [u8]),
    Index(usize),
}

/// The last token, blanks left out.
enum Last<'a> {
    Opened,
    Key,
    Colon,
    /// A text, a number or a word, or a part of one. At the start, the whole.
    Value,
    Comma,
    /// The bracket behind this entry, and where the other one is.
    Closed {
        member: Step<'a>,
        opened: usize,
    },
}

impl<'a> Walk<'a> {
    fn over(text: &'a [u8]) -> Self {
        let mut walk =
            Self { around: Vec::new(), opened: Vec::new(), deeper: 0, last: Last::Value };
        let mut rest = text;
        while let [first, behind @ ..] = rest {
            rest = behind;
            match first {
                b' ' | b'\t' | b'\n' | b'\r' => {}
                b'"' => {
                    let (content, behind) = string(behind);
                    rest = behind;
                    walk.string(content);
                }
                b'{' => walk.open(Step::Member(b""), text.len() - behind.len() - 1),
                b'[' => walk.open(Step::Index(0), text.len() - behind.len() - 1),
                b'}' | b']' => walk.close(),
                _ if walk.deeper > 0 => {}
                b':' => walk.last = Last::Colon,
                b',' => {
                    if let Some(Step::Index(index)) = walk.around.last_mut() {
                        *index += 1;
                    }
                    walk.last = Last::Comma;
                }
                _ => walk.last = Last::Value,
            }
        }
        walk
    }

    fn open(&mut self, step: Step<'a>, at: usize) {
        if self.deeper > 0 || self.around.len() == MAX_DEPTH {
            self.deeper += 1;
            self.last = Last::Value;
        } else {
            self.around.push(step);
            self.opened.push(at);
            self.last = Last::Opened;
        }
    }

    fn close(&mut self) {
        if self.deeper > 0 {
            self.deeper -= 1;
        } else if let (Some(member), Some(opened)) = (self.around.pop(), self.opened.pop()) {
            self.last = Last::Closed { member, opened };
        }
    }

    fn string(&mut self, content: &'a [u8]) {
        if self.deeper > 0 {
            return;
        }
        let is_key = matches!(self.last, Last::Opened | Last::Comma);
        match self.around.last_mut() {
            Some(Step::Member(key)) if is_key => {
                *key = content;
                self.last = Last::Key;
            }
            _ => self.last = Last::Value,
        }
    }

    fn is_in_list(&self) -> bool {
        matches!(self.around.last(), Some(Step::Index(_)))
    }

    /// Returns the path of the entry that was reached.
    fn entry(&self) -> String {
        written(&self.around)
    }

    /// Returns the path of the object or list that the place is in.
    fn container(&self) -> String {
        let (_, around) = self.around.split_last().unwrap_or((&Step::Index(0), &[]));
        written(around)
    }

    /// Returns the path of the item of a list before the one that was reached.
    fn entry_before(&self) -> String {
        let mut around = self.around.clone();
        if let Some(Step::Index(index)) = around.last_mut() {
            *index = index.saturating_sub(1);
        }
        written(&around)
    }

    fn below(&self, member: &Step<'a>) -> String {
        written(&[&self.around[..], &[*member]].concat())
    }
}

/// Splits a text behind its quote into its content and what is behind the other quote.
fn string(text: &[u8]) -> (&[u8], &[u8]) {
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    let (content, behind) = text.split_at(end.unwrap_or(text.len()));
    (content, behind.get(1..).unwrap_or_default())
}

fn written(steps: &[Step<'_>]) -> String {
    use std::fmt::Write as _;

    let mut path = String::new();
    for step in steps {
        // Writing into a String cannot fail.
        let _ = match step {
            Step::Index(index) => write!(path, "[{index}]"),
            Step::Member(key) => {
                let point = if path.is_empty() { "" } else { "." };
                write!(path, "{point}{}", unescaped(key))
            }
        };
    }
    if path.is_empty() { ".".to_owned() } else { path }
}

fn unescaped(key: &[u8]) -> String {
    let key = String::from_utf8_lossy(key);
    serde_json::from_str(&format!("\"{key}\"")).unwrap_or_else(|_| key.into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{Deserialize, de::DeserializeOwned};

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Page {
        #[expect(dead_code, reason = "is decoded")]
        rows: Vec<Row>,
        #[expect(dead_code, reason = "is decoded")]
        named: Option<BTreeMap<String, Row>>,
        #[expect(dead_code, reason = "is decoded")]
        last: Option<Checked>,
    }

    #[derive(Debug, Deserialize)]
    struct Row {
        #[expect(dead_code, reason = "is decoded")]
        id: String,
        #[expect(dead_code, reason = "is decoded")]
        size: i64,
        #[expect(dead_code, reason = "is decoded")]
        checked: Checked,
        #[expect(dead_code, reason = "is decoded")]
        parts: Vec<Checked>,
        #[expect(dead_code, reason = "is decoded")]
        amounts: Option<Vec<Amount>>,
        #[expect(dead_code, reason = "is decoded")]
        amount: Option<Amount>,
    }

    /// Refused after it was read, when the reader has gone on.
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Checked;

    /// Takes a text or a number, and so refuses a list behind its bracket.
    #[derive(Debug)]
    struct Amount;

    impl<'de> Deserialize<'de> for Amount {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;

            impl serde::de::Visitor<'_> for Visitor {
                type Value = Amount;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an amount")
                }

                fn visit_u64<E>(self, _: u64) -> Result<Amount, E> {
                    Ok(Amount)
                }

                fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
                    if text == "good" { Ok(Amount) } else { Err(E::custom("no amount")) }
                }
            }

            deserializer.deserialize_any(Visitor)
        }
    }

    impl TryFrom<String> for Checked {
        type Error = &'static str;

        fn try_from(text: String) -> Result<Self, Self::Error> {
            if text == "good" { Ok(Self) } else { Err("this is not good") }
        }
    }

    /// Returns the path as it is worked out, and as a reader finds it that keeps it all the way.
    fn paths<T: DeserializeOwned>(body: &str) -> Option<(String, String)> {
        let failed = serde_json::from_str::<T>(body).err()?;
        let decode = |text: &[u8]| serde_json::from_str::<T>(std::str::from_utf8(text).ok()?).err();
        let found = failed_path(body.as_bytes(), &failed, decode);
        let mut reader = serde_json::Deserializer::from_str(body);
        let expected = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Ok(_) => ".".to_owned(),
            // It writes `?` for a key that could not be read.
            Err(error) => match error.path().to_string().as_str() {
                "?" => ".".to_owned(),
                path => path.strip_suffix(".?").unwrap_or(path).to_owned(),
            },
        };
        // A value that is skipped is one place for it, and is entered here.
        let found = if expected == "other" && found.starts_with("other.") {
            expected.clone()
        } else {
            found
        };
        Some((found, expected))
    }

    const GOOD: &str = r#"{"rows":[{"id":"a","size":1,"checked":"good","parts":["good","good"],"amounts":[1,"good"], "amount":3},
        {"amounts":[2],"amount":"good","parts":[],"checked":"good","size":-20, "id":"b\"c" }],
        "other": {"deep": [[{"x": null}], true]},
        "named":{"n\"1":{"id":"a", "size":3,"parts":["good"], "checked":"good"}}, "last":"good"}"#;

    #[test]
    fn each_place_of_a_page_is_named_as_by_a_reader_that_keeps_the_path() {
        let tokens = [
            "\"bad\"",
            "7",
            "null",
            "{}",
            "[]",
            "{\"id\":\"x\"}",
            "[1,2]",
            "[[],1]",
            "[{}]",
            "",
            "]",
            "}",
            ",",
        ];
        assert!(serde_json::from_str::<Page>(GOOD).is_ok());
        let mut failures = 0;
        let places = GOOD.char_indices().map(|(at, _)| at);
        for at in places {
            // Cut off there.
            if let Some((found, expected)) = paths::<Page>(&GOOD[..at]) {
                assert_eq!(found, expected, "{}", &GOOD[..at]);
                failures += 1;
            }
            // With another value in the place of each that starts there.
            let mut stream = serde_json::Deserializer::from_str(&GOOD[at..])
                .into_iter::<serde::de::IgnoredAny>();
            if !GOOD[..at].ends_with(['[', '{', ':', ',', ' '])
                || !matches!(stream.next(), Some(Ok(_)))
            {
                continue;
            }
            let end = at + stream.byte_offset();
            for token in tokens {
                let body = format!("{}{token}{}", &GOOD[..at], &GOOD[end..]);
                if let Some((found, expected)) = paths::<Page>(&body) {
                    assert_eq!(found, expected, "{body}");
                    failures += 1;
                }
            }
        }
        assert!(failures > 500, "{failures}");
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_named_as_by_a_reader_that_keeps_the_path(
            at in 0..GOOD.len(),
            byte in prop::sample::select(b"\"{}[],: x0-.etn\\".to_vec()),
        ) {
            let mut body = GOOD.as_bytes().to_vec();
            body[at] = byte;
            let body = String::from_utf8(body).expect("ASCII");
            if let Some((found, expected)) = paths::<Page>(&body) {
                prop_assert_eq!(found, expected, "{}", body);
            }
        }

        #[test]
        fn any_text_has_a_path(text in "[\\[\\]{}:,\"a1 \\\\\n]{0,40}", line in 0..4_usize) {
            let body = format!("{}{text}", "\n".repeat(line));
            if let Err(failed) = serde_json::from_str::<Page>(&body) {
                let path = failed_path(body.as_bytes(), &failed, |_| None);
                prop_assert!(!path.is_empty());
            }
        }
    }
}
