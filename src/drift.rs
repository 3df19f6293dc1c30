//! What the server sends and this version of the crate does not know. Opt-in, and blind to values:
//! it tells names and places, and of values only those of enums.
//!
//! Works on the JSON as it came, beside decoding, so that a required field that is missing is told
//! as such although nothing decodes. Its memory is bounded.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use kalshi_auth::Clock;
use serde_json::Value;

use crate::{generated::SHAPES, operation::Operation};

/// How long the same drift stays unsaid, unless set otherwise.
pub const DEFAULT_DRIFT_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Places that are remembered at once. A server that sends ever new names fills it; what is new
/// then stays unsaid until something old is forgotten, and that is logged.
const MAX_REMEMBERED: usize = 1024;
/// Names and values are shown up to this many characters.
const MAX_TEXT: usize = 64;
/// No response nests deeper than a dozen levels.
const MAX_DEPTH: usize = 64;

/// One difference between an answer and what this version of the crate expects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drift {
    /// The operation that was answered.
    pub operation: &'static Operation,
    /// What differs.
    pub kind: DriftKind,
    /// Where: `markets[].status`. Elements of lists are `[]`, keys of maps are `{}`.
    pub path: String,
    /// The unknown value of an enum, cut to 64 characters. Never another value.
    pub value: Option<String>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at {}", self.operation.id, self.kind, self.path)?;
        match &self.value {
            Some(value) => write!(f, " ({value:?})"),
            None => Ok(()),
        }
    }
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DriftKind {
    /// A field that this version ignores.
    UnknownField,
    /// A value of an enum that arrives as `Unknown`.
    UnknownValue,
    /// A field that should always be there: unless it is a list, the answer does not decode.
    MissingField,
}

impl fmt::Display for DriftKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownField => "unknown field",
            Self::UnknownValue => "unknown value",
            Self::MissingField => "missing field",
        })
    }
}

/// What a caller wants done with each drift.
pub(crate) type OnDrift = Box<dyn Fn(&Drift) + Send + Sync>;

type Key = (&'static str, DriftKind, String, Option<String>);

/// Holds answers against shapes, and remembers what it has said.
pub(crate) struct Observer {
    on_drift: OnDrift,
    interval: Duration,
    clock: Arc<dyn Clock>,
    said: Mutex<HashMap<Key, u64>>,
}

impl Observer {
    pub(crate) fn new(on_drift: OnDrift, interval: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { on_drift, interval, clock, said: Mutex::new(HashMap::new()) }
    }

    /// Looks at the body of a success. What is no JSON is for decoding to refuse.
    pub(crate) fn observe(&self, operation: &'static Operation, body: &[u8]) {
        let shapes = shapes();
        let Some(shape) = shapes.get("o").and_then(|of| of.get(operation.id)) else { return };
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
        let types = shapes.get("t").unwrap_or(&Value::Null);
        let mut walk = Walk { operation, types, found: HashSet::new() };
        walk.value(shape, &value, "", 0);
        for key in walk.found {
            self.say(operation, key);
        }
    }

    fn say(&self, operation: &'static Operation, key: Key) {
        if !self.is_due(&key) {
            return;
        }
        let (_, kind, path, value) = key;
        let drift = Drift { operation, kind, path, value };
        tracing::warn!(operation = operation.id, %drift, "the answer is not what this version knows");
        (self.on_drift)(&drift);
    }

    fn is_due(&self, key: &Key) -> bool {
        let now = u64::try_from(self.clock.now().as_millis()).unwrap_or_default();
        let interval = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        // Another thread's panic leaves a map that is whole.
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(last) = said.get_mut(key) {
            let due = now.saturating_sub(*last) >= interval;
            if due {
                *last = now;
            }
            return due;
        }
        if said.len() >= MAX_REMEMBERED {
            said.retain(|_, last| now.saturating_sub(*last) < interval);
            if said.len() >= MAX_REMEMBERED {
                tracing::debug!("too much drift to remember; some of it stays unsaid");
                return false;
            }
        }
        said.insert(key.clone(), now);
        true
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("interval", &self.interval).finish_non_exhaustive()
    }
}

/// Read once, by the first answer that is looked at.
fn shapes() -> &'static Value {
    static SHAPES_READ: OnceLock<Value> = OnceLock::new();
    // A constant of this crate, and read by a test.
    SHAPES_READ.get_or_init(|| serde_json::from_str(SHAPES).unwrap_or(Value::Null))
}

struct Walk<'s> {
    operation: &'static Operation,
    types: &'s Value,
    found: HashSet<Key>,
}

impl Walk<'_> {
    fn value(&mut self, shape: &Value, value: &Value, path: &str, depth: usize) {
        if depth > MAX_DEPTH || value.is_null() || self.found.len() >= MAX_REMEMBERED {
            return;
        }
        match shape {
            Value::String(name) => {
                if let Some(shape) = self.types.get(name) {
                    self.value(shape, value, path, depth + 1);
                }
            }
            Value::Object(parts) => {
                if let (Some(shape), Value::Array(items)) = (parts.get("a"), value) {
                    let path = format!("{path}[]");
                    for item in items {
                        self.value(shape, item, &path, depth + 1);
                    }
                } else if let (Some(shape), Value::Object(map)) = (parts.get("m"), value) {
                    let path = format!("{path}{{}}");
                    for item in map.values() {
                        self.value(shape, item, &path, depth + 1);
                    }
                } else if let (Some(Value::Array(known)), Value::String(text)) =
                    (parts.get("e"), value)
                {
                    if !known.iter().any(|known| known == text) {
                        // A secret is no enum, but what stands there may be anything.
                        let text = (!self.operation.secret).then(|| cut(text).into_owned());
                        self.add(DriftKind::UnknownValue, path.to_owned(), text);
                    }
                } else if let (Some(Value::Object(fields)), Value::Object(map)) =
                    (parts.get("f"), value)
                {
                    for (name, inner) in map {
                        let path = below(path, name);
                        match fields.get(name) {
                            Some(shape) => self.value(shape, inner, &path, depth + 1),
                            None => self.add(DriftKind::UnknownField, path, None),
                        }
                    }
                    let required = parts.get("r").and_then(Value::as_array);
                    for name in required.into_iter().flatten().filter_map(Value::as_str) {
                        if !map.contains_key(name) {
                            self.add(DriftKind::MissingField, below(path, name), None);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, kind: DriftKind, path: String, value: Option<String>) {
        if self.found.len() < MAX_REMEMBERED {
            self.found.insert((self.operation.id, kind, path, value));
        }
    }
}

fn below(path: &str, name: &str) -> String {
    let name = cut(name);
    if path.is_empty() { name.into_owned() } else { format!("{path}.{name}") }
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_TEXT) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OPERATIONS;

    #[test]
    fn every_operation_with_a_response_has_a_shape() {
        let shapes = shapes();
        assert!(shapes["t"].as_object().is_some_and(|types| types.len() > 100));
        for operation in OPERATIONS {
            let Some(name) = shapes["o"].get(operation.id) else { continue };
            let name = name.as_str().unwrap();
            assert!(shapes["t"].get(name).is_some(), "{operation}: {name}");
        }
        let with = OPERATIONS.iter().filter(|o| shapes["o"].get(o.id).is_some()).count();
        assert!(with > 90, "{with}");
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let long = "ä".repeat(100);
        assert_eq!(cut(&long), format!("{}...", "ä".repeat(64)));
        assert_eq!(cut("short"), "short");
    }
}
