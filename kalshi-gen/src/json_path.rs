//! The targets of overlays: the part of `JSONPath` (RFC 9535) that addresses items of a document.
//!
//! `$`, then `.name`, `['name', "name"]`, `[0]`, `.*`, `[*]`, and `[?TEST || TEST]`, where a test is
//! `@.name` (there is such a member) or `@.name=='text'` (and it is this text). Everything else of the
//! RFC is refused, with its place. A build script compiles this in place of a whole
//! implementation; the tests compare it with one.

use serde_json::Value;

use crate::document::join;

/// A target of an overlay, read.
#[derive(Debug)]
pub(crate) struct JsonPath(Vec<Vec<Selector>>);

/// A part of a segment: it selects entries of an item.
#[derive(Debug)]
enum Selector {
    Name(String),
    Index(usize),
    All,
    Filter(Vec<Test>),
}

/// One of the alternatives of a filter.
#[derive(Debug)]
struct Test {
    names: Vec<String>,
    text: Option<String>,
}

impl JsonPath {
    /// Reads a target, or says what is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text };
        reader.path().ok_or_else(|| {
            let place = text.len() - reader.rest.len();
            format!(
                "not understood from character {place} on: a target has `$`, names, `*`, positions, \
                 and `[?@.name=='text']`, joined by `||`"
            )
        })
    }

    /// Returns the JSON pointers of what the path addresses, in the order of the document.
    pub(crate) fn places(&self, document: &Value) -> Vec<String> {
        let mut found = vec![(String::new(), document)];
        for selectors in &self.0 {
            let mut next = Vec::new();
            for (pointer, value) in found {
                for selector in selectors {
                    selector.select(&pointer, value, &mut next);
                }
            }
            found = next;
        }
        found.into_iter().map(|(pointer, _)| pointer).collect()
    }
}

impl Selector {
    fn select<'a>(&self, pointer: &str, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
        let mut below = |key: &str, value| found.push((join(pointer, key), value));
        match self {
            Self::Name(name) => {
                if let Some(member) = value.as_object().and_then(|map| map.get(name)) {
                    below(name, member);
                }
            }
            Self::Index(index) => {
                if let Some(item) = value.as_array().and_then(|items| items.get(*index)) {
                    below(&index.to_string(), item);
                }
            }
            Self::All | Self::Filter(_) => {
                let holds = |item: &Value| match self {
                    Self::Filter(tests) => tests.iter().any(|test| test.holds(item)),
                    _ => true,
                };
                for (key, member) in value.as_object().into_iter().flatten() {
                    if holds(member) {
                        below(key, member);
                    }
                }
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    if holds(item) {
                        below(&index.to_string(), item);
                    }
                }
            }
        }
    }
}

impl Test {
    fn holds(&self, item: &Value) -> bool {
        let mut names = self.names.iter();
        let value = names.try_fold(item, |value, name| value.as_object()?.get(name));
        value.is_some_and(|value| {
            self.text.as_ref().is_none_or(|text| value.as_str() == Some(text.as_str()))
        })
    }
}

/// The rest of a text. A method that returns nothing stops at the first part it does not understand.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn path(&mut self) -> Option<JsonPath> {
        let mut segments = Vec::new();
        self.take("$").then_some(())?;
        while !self.rest.is_empty() {
            segments.push(self.segment()?);
        }
        Some(JsonPath(segments))
    }

    fn segment(&mut self) -> Option<Vec<Selector>> {
        if self.take(".") {
            if self.take("*") {
                return Some(vec![Selector::All]);
            }
            return Some(vec![Selector::Name(self.name()?)]);
        }
        self.take("[").then_some(())?;
        let mut selectors = Vec::new();
        loop {
            self.skip_blanks();
            selectors.push(self.selector()?);
            self.skip_blanks();
            if self.take("]") {
                return Some(selectors);
            }
            self.take(",").then_some(())?;
        }
    }

    fn selector(&mut self) -> Option<Selector> {
        if self.take("*") {
            return Some(Selector::All);
        }
        if self.take("?") {
            let mut tests = Vec::new();
            loop {
                self.skip_blanks();
                tests.push(self.test()?);
                self.skip_blanks();
                if !self.take("||") {
                    return Some(Selector::Filter(tests));
                }
            }
        }
        if self.rest.starts_with(['\'', '"']) {
            return self.quoted().map(Selector::Name);
        }
        let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(digits);
        // The RFC knows no leading zeros.
        let index = number.parse().ok().filter(|_| number == "0" || !number.starts_with('0'))?;
        self.rest = rest;
        Some(Selector::Index(index))
    }

    fn test(&mut self) -> Option<Test> {
        self.take("@").then_some(())?;
        let mut names = Vec::new();
        while self.take(".") {
            names.push(self.name()?);
        }
        self.skip_blanks();
        if !self.take("==") {
            return Some(Test { names, text: None });
        }
        self.skip_blanks();
        Some(Test { names, text: Some(self.quoted()?) })
    }

    /// Takes a name that needs no quotes.
    fn name(&mut self) -> Option<String> {
        let is_start = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        let end = self.rest.find(|c| !is_start(c) && !c.is_ascii_digit());
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        name.starts_with(is_start).then_some(())?;
        self.rest = rest;
        Some(name.to_owned())
    }

    fn quoted(&mut self) -> Option<String> {
        let mut characters = self.rest.chars();
        let quote = characters.next().filter(|c| matches!(c, '\'' | '"'))?;
        let mut name = String::new();
        loop {
            match characters.next()? {
                '\\' => match characters.next()? {
                    c if c == quote || c == '\\' || c == '/' => name.push(c),
                    _ => return None,
                },
                c if c == quote => break,
                c if c < ' ' => return None,
                c => name.push(c),
            }
        }
        self.rest = characters.as_str();
        Some(name)
    }

    fn take(&mut self, token: &str) -> bool {
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{document, families::FAMILIES, files};

    /// Returns the pointers that the whole implementation finds.
    fn expected(target: &str, document: &Value) -> Option<Vec<String>> {
        let path = serde_json_path::JsonPath::parse(target).ok()?;
        let found = path.query_located(document);
        Some(found.locations().map(serde_json_path::NormalizedPath::to_json_pointer).collect())
    }

    /// Reports whether the target was understood.
    fn agrees(target: &str, document: &Value) -> bool {
        let Ok(path) = JsonPath::parse(target) else { return false };
        assert_eq!(Some(path.places(document)), expected(target, document), "{target}");
        true
    }

    #[test]
    fn every_target_of_the_overlays_addresses_what_the_rfc_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut targets = 0;
        for family in FAMILIES {
            let text = fs::read_to_string(root.join(family.file)).unwrap();
            let document = crate::written_out(document::parse(&text).unwrap());
            for overlay in files::read_overlays(&root.join(family.overlays)).unwrap() {
                let overlay = document::parse(&overlay.text).unwrap();
                for action in overlay["actions"].as_array().unwrap() {
                    let target = action["target"].as_str().unwrap();
                    assert!(agrees(target, &document), "{target} is not understood");
                    targets += 1;
                }
            }
        }
        assert!(targets > 1000, "{targets}");
    }

    fn small() -> Value {
        json!({
            "a": [{"b": "x"}, {"b": "y", "c": {"b": "x"}}, {"c": {"b": null}}, "x", ["x"], 1],
            "b": {"a": {"b": "x"}, "b": "y", "c": ["x", "y"]},
            "a/b~c": {"it's": "x", "\"": 1, "\\": "y"},
            "é": {"*": "x", "0": "y"}, "_1": [], "": "empty",
        })
    }

    #[test]
    fn each_form_addresses_what_the_rfc_says() {
        for target in [
            "$",
            "$.a",
            "$.a[0]",
            "$.a[9]",
            "$.a[*]",
            "$.*",
            "$.*.*",
            "$['a','b']",
            "$[\"a\"]",
            "$[ 'a' , \"b\" ]",
            "$['b','a','a']",
            "$['a/b~c']['it\\'s']",
            "$['a/b~c'][\"\\\"\"]",
            "$['a/b~c']['\\\\']",
            "$.é['*']",
            "$.é['0']",
            "$._1",
            "$['']",
            "$.b[0]",
            "$.a.b",
            "$.a[?@.b]",
            "$.a[?@.c.b]",
            "$.a[?@.b=='x']",
            "$.a[? @.b == \"x\" || @.c.b=='x' ]",
            "$.a[?@=='x']",
            "$.b[?@=='y']",
            "$.b.c[?@=='x' || @=='y']",
            "$.a[0,1].b",
            "$.a[?@]",
            "$[?@.b=='x', 'a']",
        ] {
            assert!(agrees(target, &small()), "{target} is not understood");
        }
    }

    #[test]
    fn everything_else_is_refused_at_its_place() {
        for (target, place) in [
            ("", 0),
            ("a", 0),
            ("$.", 2),
            ("$a", 1),
            ("$..a", 2),
            ("$.a[", 4),
            ("$.a[-1]", 4),
            ("$.a[01]", 4),
            ("$.a[0:1]", 5),
            ("$.a[?@.b!='x']", 8),
            ("$.a[?@.b=='x' && @.c]", 14),
            ("$.a[?@.b==1]", 10),
            ("$['a", 2),
            ("$['a'", 5),
            ("$['\\u0061']", 2),
            ("$.a-b", 3),
            ("$.a[?$.b]", 5),
            ("$.a[?count(@)]", 5),
            ("$.1", 2),
        ] {
            let error = JsonPath::parse(target).unwrap_err();
            let start = format!("not understood from character {place} on: ");
            assert!(error.starts_with(&start), "{target}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_target_is_refused_or_addresses_what_the_rfc_says(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    ".a", ".b", ".c", ".*", "[*]", "[0]", "[1]", "['a']", "['b','c']", "[?@.b]",
                    "[?@.b=='x']", "[?@=='x']", "[?@.c.b=='x' || @.b=='y']", "[", "]", ".", "'", "\\",
                    "?", "@", "==", " ", "-1", "..", "é", "$",
                ]),
                0..8,
            ),
        ) {
            agrees(&format!("${}", pieces.concat()), &small());
        }
    }
}
