//! Reports what the server sends and this version of the crate does not know. Opt-in, and blind to
//! values: it reports names and places, and of values only those of enums.
//!
//! Works on the JSON as it came, beside decoding, so that a required field that is missing is
//! reported as such although nothing decodes. Its memory is bounded: the body is walked as it is
//! read.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use kalshi_auth::Clock;
use serde::de::{self, DeserializeSeed, IgnoredAny};
use serde_json::Value;

use crate::{
    call::guarded,
    generated,
    operation::{Lane, Operation},
};

/// The default time for which repeated drift is suppressed.
pub const DEFAULT_DRIFT_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Places that are remembered at once. A server that sends ever new names fills it; what is new
/// then is suppressed until something old is forgotten, and that is logged.
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
    /// Kind of the difference.
    pub kind: DriftKind,
    /// Place in the body: `markets[].status`. Elements of lists are `[]`, keys of maps are `{}`.
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

/// A difference between a response and the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DriftKind {
    /// A field that this version ignores.
    UnknownField,
    /// A value of an enum that arrives as `Unknown`.
    UnknownValue,
    /// A field that should always be there. The response does not decode, unless the field is a
    /// label or a list within the response.
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

/// The caller's handler of each drift.
pub(crate) type OnDrift = Box<dyn Fn(&Drift) + Send + Sync>;

type Key = (&'static str, DriftKind, String, Option<String>);

/// Validates responses against shapes, and remembers what it has reported.
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
    ///
    /// Nothing is built of the body: it is walked as it is read.
    pub(crate) fn observe(&self, operation: &'static Operation, body: &[u8]) {
        let shapes = shapes(operation.cost.lane);
        let Some(shape) = shapes.get("o").and_then(|of| of.get(operation.id)) else { return };
        let types = shapes.get("t").unwrap_or(&Value::Null);
        let mut walk = Walk { operation, types, found: HashSet::new() };
        let mut reader = serde_json::Deserializer::from_slice(body);
        let read = walk.at(shape, "", 0).deserialize(&mut reader).and_then(|()| reader.end());
        if read.is_err() {
            return;
        }
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
        guarded("on_drift", || (self.on_drift)(&drift));
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
                tracing::debug!("too much drift to remember; some of it is suppressed");
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

/// Returns the shapes of a document, parsed once for its first answer that is checked.
pub(crate) fn shapes(lane: Lane) -> &'static Value {
    // A constant of this crate, and read by a test.
    fn read(once: &'static OnceLock<Value>, shapes: &str) -> &'static Value {
        once.get_or_init(|| serde_json::from_str(shapes).unwrap_or(Value::Null))
    }
    static EVENT_CONTRACTS: OnceLock<Value> = OnceLock::new();
    #[cfg(feature = "perps")]
    static PERPETUALS: OnceLock<Value> = OnceLock::new();
    #[cfg(feature = "klear")]
    static CLEARING: OnceLock<Value> = OnceLock::new();
    match lane {
        #[cfg(feature = "perps")]
        Lane::Perpetuals => read(&PERPETUALS, generated::perps::SHAPES),
        #[cfg(feature = "klear")]
        Lane::Clearing => read(&CLEARING, generated::klear::SHAPES),
        _ => read(&EVENT_CONTRACTS, generated::SHAPES),
    }
}

struct Walk<'s> {
    operation: &'static Operation,
    types: &'s Value,
    found: HashSet<Key>,
}

impl<'s> Walk<'s> {
    /// Returns the walk at one place of the body.
    fn at<'w>(&'w mut self, shape: &'s Value, path: &'w str, depth: usize) -> Place<'w, 's> {
        let mut shape = shape;
        let mut depth = depth;
        // A name stands for the shape of a type.
        while let Value::String(name) = shape {
            depth += 1;
            let Some(named) = self.types.get(name).filter(|_| depth <= MAX_DEPTH) else { break };
            shape = named;
        }
        Place { walk: self, shape, path, depth }
    }

    fn add(&mut self, kind: DriftKind, path: String, value: Option<String>) {
        if self.found.len() < MAX_REMEMBERED {
            self.found.insert((self.operation.id, kind, path, value));
        }
    }
}

/// One value of the body, held against its shape while it is read.
struct Place<'w, 's> {
    walk: &'w mut Walk<'s>,
    shape: &'s Value,
    path: &'w str,
    depth: usize,
}

impl<'s> Place<'_, 's> {
    /// Returns the shape of a part, where there is one and the body is not too deep.
    fn part(&self, name: &str) -> Option<&'s Value> {
        (self.depth < MAX_DEPTH).then(|| self.shape.get(name)).flatten()
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // What has no shape is skipped, however deep it is.
        if self.shape.is_object() && self.depth < MAX_DEPTH {
            deserializer.deserialize_any(self)
        } else {
            de::Deserialize::deserialize(deserializer).map(|IgnoredAny| ())
        }
    }
}

impl<'de> de::Visitor<'de> for Place<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if let Some(Value::Array(known)) = self.part("e")
            && !known.iter().any(|known| known == text)
        {
            // A secret is no enum, but what stands there may be anything.
            let text = (!self.walk.operation.secret).then(|| cut(text).into_owned());
            self.walk.add(DriftKind::UnknownValue, self.path.to_owned(), text);
        }
        Ok(())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some(shape) = self.part("a") else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let path = format!("{}[]", self.path);
        while items.next_element_seed(self.walk.at(shape, &path, self.depth + 1))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some(shape) = self.part("m") {
            let path = format!("{}{{}}", self.path);
            while map.next_key::<IgnoredAny>()?.is_some() {
                map.next_value_seed(self.walk.at(shape, &path, self.depth + 1))?;
            }
            return Ok(());
        }
        let fields = self.part("f").and_then(Value::as_object);
        // Labels are required by the document as well.
        let names = |key| self.part(key).and_then(Value::as_array).filter(|_| fields.is_some());
        let required = names("r").into_iter().chain(names("l")).flatten();
        let mut missing: Vec<&str> = required.filter_map(Value::as_str).collect();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            let Some(fields) = fields else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            missing.retain(|field| *field != name);
            let path = below(self.path, &name);
            if let Some(shape) = fields.get(&*name) {
                map.next_value_seed(self.walk.at(shape, &path, self.depth + 1))?;
            } else {
                map.next_value::<IgnoredAny>()?;
                self.walk.add(DriftKind::UnknownField, path, None);
            }
        }
        for name in missing {
            self.walk.add(DriftKind::MissingField, below(self.path, name), None);
        }
        Ok(())
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
        let shapes = shapes(Lane::EventContracts);
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
    fn d3_a_body_of_many_numbers_is_walked_without_building_it() {
        // Nothing to find, and nothing that would be kept: 32 MiB of what no shape knows.
        let operation = Operation::by_id("get_markets").unwrap();
        let body = format!(r#"{{"markets":[],"cursor":"","x":[0{}]}}"#, ",0".repeat(16 << 20));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let on_drift: OnDrift =
            Box::new(move |drift| into.lock().unwrap().push(drift.path.clone()));
        let clock = Arc::new(kalshi_auth::SystemClock);
        let observer = Observer::new(on_drift, DEFAULT_DRIFT_INTERVAL, clock);
        observer.observe(operation, body.as_bytes());
        assert_eq!(*seen.lock().unwrap(), ["x"]);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let long = "ä".repeat(100);
        assert_eq!(cut(&long), format!("{}...", "ä".repeat(64)));
        assert_eq!(cut("short"), "short");
    }
}
