//! Walks two documents side by side and emits facts: what differs, where, and what the client is
//! known to do with that place. No verdict is made here.
//!
//! A schema that many operations carry is compared once for each direction, and its facts name
//! the operations: thirty reports of one new field would hide the others. Pairs of named schemas
//! wait in a queue, so that a ring of references ends and a long chain needs no stack. Only after
//! all operations and messages does the walk turn to the schemas that none of them carries.

mod bodies;
mod channels;
mod operations;
mod schemas;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use self::schemas::{Job, Slot};
use super::{
    Side,
    facts::{Area, Direction, Fact, FactKind, Traits},
    model::Model,
    schema::{Spot, bare, text},
};
use crate::{Error, document::join};

pub(super) type Result<T> = std::result::Result<T, (Side, Error)>;

fn of_old(error: Error) -> (Side, Error) {
    (Side::Old, error)
}

fn of_new(error: Error) -> (Side, Error) {
    (Side::New, error)
}

/// One of the two documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edition<'m, 'a> {
    /// As published: what changed is said of this one.
    pub(super) published: &'m Model<'a>,
    /// As the client reads it, where overlays make a difference.
    pub(super) client: Option<&'m Model<'a>>,
}

/// Collects the facts.
pub(super) fn compare(old: Edition<'_, '_>, new: Edition<'_, '_>) -> Result<Vec<Fact>> {
    let mut walk = Walk::new(old, new);
    walk.parts();
    for key in keys(&old.published.operations, &new.published.operations) {
        walk.operation(key)?;
    }
    walk.streams()?;
    walk.drain()?;
    walk.schemas()?;
    let mut facts = walk.facts;
    let roots = (old.published.root, new.published.root);
    if facts.is_empty()
        && let Some(pointer) = difference(&canonical(roots.0), &canonical(roots.1), "")
    {
        // What no walk reaches is still said.
        facts.push(Fact {
            detail: "document-changed".to_owned(),
            ..whole(FactKind::PartChanged, "document", pointer)
        });
    }
    Ok(facts)
}

/// Returns a fact about a subject as such.
fn whole(kind: FactKind, subject: &str, pointer: String) -> Fact {
    Fact {
        kind,
        detail: String::new(),
        direction: Direction::Document,
        area: Area::Whole,
        subject: subject.to_owned(),
        field: String::new(),
        schemas: None,
        pointer,
        definition: None,
        before: None,
        after: None,
        traits: Traits::default(),
        taken_for: Vec::new(),
    }
}

/// Returns the keys of two maps.
fn keys<'m, K: Ord, V>(old: &'m BTreeMap<K, V>, new: &'m BTreeMap<K, V>) -> BTreeSet<&'m K> {
    old.keys().chain(new.keys()).collect()
}

/// The place of the walk in both documents.
#[derive(Clone, Debug)]
struct Place {
    direction: Direction,
    area: Area,
    subject: String,
    field: String,
    /// The named schemas that hold this place, or the suffix of the body that does.
    old_schema: String,
    new_schema: String,
    /// Set if those are named schemas, whose carriers a report lists.
    named: bool,
    /// The schema itself is sent as text in a URL.
    in_text: bool,
    /// The deepest places of the subject itself on the way here: what stands elsewhere is a shared
    /// definition that the subject refers to.
    old_use: String,
    new_use: String,
}

impl Place {
    fn below(&self, step: &str) -> Self {
        let field = match step {
            "[]" | "{}" => format!("{}{step}", self.field),
            step if self.field.is_empty() => step.to_owned(),
            step => format!("{}.{step}", self.field),
        };
        let area = if self.area == Area::Parameter { Area::Parameter } else { Area::Property };
        Self { area, field, in_text: false, ..self.clone() }
    }

    /// Returns the same place with its uses moved down to where the two documents have it.
    fn used_at(mut self, old: &str, new: &str) -> Self {
        if is_below(old, &self.old_use) {
            old.clone_into(&mut self.old_use);
        }
        if is_below(new, &self.new_use) {
            new.clone_into(&mut self.new_use);
        }
        self
    }

    fn last_step(&self) -> &str {
        self.field.rsplit(['.', ' ']).next().unwrap_or_default()
    }
}

fn is_below(pointer: &str, of: &str) -> bool {
    pointer.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A pointer into one of the documents.
#[derive(Clone, Copy, Debug)]
enum In<'p> {
    Old(&'p str),
    New(&'p str),
}

/// The values and traits of a fact, beside its kind and place.
#[derive(Debug, Default)]
struct Said {
    detail: String,
    before: Option<String>,
    after: Option<String>,
    traits: Traits,
}

impl Said {
    fn of(traits: Traits) -> Self {
        Self { traits, ..Self::default() }
    }

    fn values(before: Option<String>, after: Option<String>) -> Self {
        Self { before, after, ..Self::default() }
    }

    #[must_use]
    fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    #[must_use]
    fn traits(self, traits: Traits) -> Self {
        Self { traits, ..self }
    }
}

struct Walk<'m, 'a> {
    old: Edition<'m, 'a>,
    new: Edition<'m, 'a>,
    /// The schemas that operations or messages carry.
    old_carried: BTreeSet<String>,
    new_carried: BTreeSet<String>,
    facts: Vec<Fact>,
    queue: VecDeque<Job<'a>>,
    seen: BTreeSet<(String, String, Direction)>,
    /// Named schemas that were compared with themselves.
    compared: BTreeSet<String>,
}

impl<'m, 'a> Walk<'m, 'a> {
    fn new(old: Edition<'m, 'a>, new: Edition<'m, 'a>) -> Self {
        Self {
            old,
            new,
            old_carried: old.published.carriers().into_keys().collect(),
            new_carried: new.published.carriers().into_keys().collect(),
            facts: Vec::new(),
            queue: VecDeque::new(),
            seen: BTreeSet::new(),
            compared: BTreeSet::new(),
        }
    }

    /// Emits a fact about a subject as such.
    fn say(&mut self, kind: FactKind, subject: &str, pointer: &str, said: Said) {
        let Said { detail, before, after, traits } = said;
        let fact = whole(kind, subject, pointer.to_owned());
        self.facts.push(Fact { detail, before, after, traits, ..fact });
    }

    /// Emits a fact about a place. A pointer that leaves the subject is that of the definition.
    fn say_at(&mut self, place: &Place, kind: FactKind, pointer: In<'_>, said: Said) {
        let (pointer, used_at) = match pointer {
            In::Old(pointer) => (pointer, &place.old_use),
            In::New(pointer) => (pointer, &place.new_use),
        };
        let (pointer, definition) = if is_below(pointer, used_at) {
            (pointer.to_owned(), None)
        } else {
            (used_at.clone(), Some(pointer.to_owned()))
        };
        let Said { detail, before, after, traits } = said;
        let schemas = place.named.then(|| (place.old_schema.clone(), place.new_schema.clone()));
        self.facts.push(Fact {
            kind,
            detail,
            direction: place.direction,
            area: place.area,
            subject: place.subject.clone(),
            field: place.field.clone(),
            schemas,
            pointer,
            definition,
            before,
            after,
            traits,
            taken_for: Vec::new(),
        });
    }

    /// Emits what differs between the attributes that no walk reads on their own.
    fn attributes(
        &mut self,
        place: &Place,
        kind: FactKind,
        (old_pointer, old): (&str, &BTreeMap<String, Value>),
        (new_pointer, new): (&str, &BTreeMap<String, Value>),
    ) {
        for key in keys(old, new) {
            let (before, after) = (old.get(key), new.get(key));
            if before.map(canonical) == after.map(canonical) {
                continue;
            }
            let pointer = join(if after.is_some() { new_pointer } else { old_pointer }, key);
            let field = if place.field.is_empty() {
                key.clone()
            } else {
                format!("{}: {key}", place.field)
            };
            let place = Place { field, ..place.clone() };
            let at = if after.is_some() { In::New(&pointer) } else { In::Old(&pointer) };
            self.say_at(&place, kind, at, Said::values(before.map(text), after.map(text)));
        }
    }

    /// Compares servers, tags, security schemes and the version, as they stand.
    fn parts(&mut self) {
        let (old, new) = (self.old.published, self.new.published);
        for key in keys(&old.parts, &new.parts) {
            let (before, after) = (old.parts.get(key), new.parts.get(key));
            let (what, name) = key;
            let (change, pointer) = match (before, after) {
                (Some((_, a)), Some((_, b))) if canonical(a) == canonical(b) => continue,
                (Some(_), Some((pointer, _))) => ("changed", pointer),
                (None, Some((pointer, _))) => ("added", pointer),
                (Some((pointer, _)), None) => ("removed", pointer),
                (None, None) => continue,
            };
            let kind = match (*what, change) {
                ("server", "added") => FactKind::ServerAdded,
                ("server", _) => FactKind::ServerChanged,
                ("security-scheme", "added") => FactKind::SecuritySchemeAdded,
                ("security-scheme", _) => FactKind::SecuritySchemeChanged,
                ("spec-version", _) => FactKind::VersionChanged,
                _ => FactKind::PartChanged,
            };
            let value = |found: Option<&(String, Value)>| found.map(|(_, value)| text(value));
            let subject =
                if name.is_empty() { (*what).to_owned() } else { format!("{what} {name}") };
            let said = Said::values(value(before), value(after)).detail(format!("{what}-{change}"));
            self.say(kind, &subject, pointer, said);
        }
    }
}

/// A schema where it is used, in one document.
#[derive(Clone, Debug)]
struct End<'a> {
    spot: Spot<'a>,
    /// The same part as the client reads it, if overlays were applied and left something.
    client: Option<Spot<'a>>,
}

/// A place where both documents have a schema.
#[derive(Clone, Debug)]
struct Site<'a> {
    old: End<'a>,
    new: End<'a>,
}

impl<'a> Site<'a> {
    fn new(
        old: &Spot<'a>,
        old_client: Option<&Spot<'a>>,
        new: &Spot<'a>,
        new_client: Option<&Spot<'a>>,
    ) -> Self {
        Self {
            old: End { spot: old.clone(), client: old_client.cloned() },
            new: End { spot: new.clone(), client: new_client.cloned() },
        }
    }
}

/// Returns the value in one order of its lists.
fn canonical(value: &Value) -> Value {
    fn sort(value: &mut Value) {
        match value {
            Value::Object(map) => map.values_mut().for_each(sort),
            Value::Array(items) => {
                items.iter_mut().for_each(sort);
                items.sort_by_cached_key(Value::to_string);
            }
            _ => {}
        }
    }
    let mut value = bare(value);
    sort(&mut value);
    value
}

/// Returns the first place where two values differ.
fn difference(old: &Value, new: &Value, pointer: &str) -> Option<String> {
    if old == new {
        return None;
    }
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            match (old.get(key), new.get(key)) {
                (Some(old), Some(new)) => {
                    if let Some(found) = difference(old, new, &join(pointer, key)) {
                        return Some(found);
                    }
                }
                (_, Some(_)) => return Some(join(pointer, key)),
                _ => return Some(pointer.to_owned()),
            }
        }
    }
    Some(pointer.to_owned())
}
