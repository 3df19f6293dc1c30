//! Walks two documents side by side and collects what differs.
//!
//! A schema that many operations carry is compared once for each direction, and its change names
//! the operations: thirty reports of one new field would hide the others. Pairs of named schemas
//! wait in a queue, so that a ring of references ends and a long chain needs no stack.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::{
    Change, Kind, Side,
    model::{Body, Model, Operation, Parameter},
    rules::{self, Direction, Rust, Slot, Verdict, Wire, verdict},
    schema::{self, Flat, Rest, Spot, bare, brief, flat, own, reading, rust_type},
};
use crate::{
    Error,
    document::join,
    names::{method_name, type_name},
};

type Result<T> = std::result::Result<T, (Side, Error)>;

fn of_old(error: Error) -> (Side, Error) {
    (Side::Old, error)
}

fn of_new(error: Error) -> (Side, Error) {
    (Side::New, error)
}

pub(super) fn compare(old: &Model<'_>, new: &Model<'_>) -> Result<Vec<Change>> {
    let mut walk = Walk {
        old,
        new,
        changes: Vec::new(),
        queue: VecDeque::new(),
        seen: BTreeSet::new(),
        compared: BTreeSet::new(),
    };
    walk.facts();
    for (before, after) in both(&old.operations, &new.operations) {
        walk.operation(before, after)?;
    }
    walk.streams()?;
    walk.drain()?;
    walk.schemas()?;
    walk.drain()?;
    let mut changes = walk.changes;
    if changes.is_empty()
        && let Some(pointer) = difference(&canonical(old.root), &canonical(new.root), "")
    {
        // What no rule names is still said.
        changes.push(Draft::document("document", "document-changed", &pointer).into_change(
            None,
            None,
            verdict(Wire::Works, Rust::Same, "a part of the document that no code is made of"),
        ));
    }
    carriers(&mut changes, old, new);
    Ok(changes)
}

/// The entries of two maps, side by side.
fn both<'m, K: Ord, V>(
    old: &'m BTreeMap<K, V>,
    new: &'m BTreeMap<K, V>,
) -> Vec<(Option<&'m V>, Option<&'m V>)> {
    let keys: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    keys.into_iter().map(|key| (old.get(key), new.get(key))).collect()
}

/// What a place is, for the id of a change there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    Parameter,
    Property,
    Body,
}

/// Where the walk is.
#[derive(Clone, Debug)]
struct Place {
    direction: Direction,
    area: Area,
    subject: String,
    field: String,
    /// The named schemas that hold this place, or the suffix of the body that does.
    old_schema: String,
    new_schema: String,
    /// The schema itself is sent as text in a URL.
    in_text: bool,
}

impl Place {
    fn prefix(&self) -> &'static str {
        match (self.direction, self.area) {
            (Direction::Request, Area::Parameter) => "request-parameter",
            (Direction::Request, Area::Property) => "request-property",
            (Direction::Request, Area::Body) => "request-body",
            (Direction::Response, Area::Body) => "response-body",
            (Direction::Response, _) => "response-property",
            (Direction::Error, Area::Body) => "error-body",
            (Direction::Error, _) => "error-property",
            (Direction::Document, Area::Body) => "schema",
            (Direction::Document, _) => "schema-property",
        }
    }

    fn below(&self, step: &str) -> Self {
        let field = match step {
            "[]" | "{}" => format!("{}{step}", self.field),
            step if self.field.is_empty() => step.to_owned(),
            step => format!("{}.{step}", self.field),
        };
        Self { area: self.inner(), field, in_text: false, ..self.clone() }
    }

    fn inner(&self) -> Area {
        if self.area == Area::Parameter { Area::Parameter } else { Area::Property }
    }
}

/// A change that lacks its verdict.
struct Draft<'d> {
    id: String,
    direction: Direction,
    subject: &'d str,
    field: &'d str,
    pointer: &'d str,
}

impl<'d> Draft<'d> {
    fn document(subject: &'d str, id: &str, pointer: &'d str) -> Self {
        Self { id: id.to_owned(), direction: Direction::Document, subject, field: "", pointer }
    }

    fn into_change(self, before: Option<&str>, after: Option<&str>, verdict: Verdict) -> Change {
        let direction = self.direction.to_string();
        let parts = [
            self.id.as_str(),
            &direction,
            self.subject,
            self.field,
            before.unwrap_or("\u{1}"),
            after.unwrap_or("\u{1}"),
        ];
        Change {
            fingerprint: fingerprint(&parts),
            id: self.id,
            direction: self.direction,
            subject: self.subject.to_owned(),
            field: self.field.to_owned(),
            pointer: self.pointer.to_owned(),
            before: before.map(|text| brief(&Value::from(text))),
            after: after.map(|text| brief(&Value::from(text))),
            carriers: Vec::new(),
            wire: verdict.wire,
            rust: verdict.rust,
            why: verdict.why.to_owned(),
            guess: None,
            accepted: None,
        }
    }
}

/// FNV-1a over the parts, each ended by a zero, cut to twelve digits: it has to be the same in
/// every run and release, not to withstand anybody.
fn fingerprint(parts: &[&str]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{:012x}", hash >> 16)
}

/// Two schemas that wait to be compared.
struct Job<'a> {
    place: Place,
    slot: Slot,
    old: Spot<'a>,
    new: Spot<'a>,
}

struct Walk<'m, 'a> {
    old: &'m Model<'a>,
    new: &'m Model<'a>,
    changes: Vec<Change>,
    queue: VecDeque<Job<'a>>,
    seen: BTreeSet<(String, String, Direction)>,
    /// Named schemas that some operation led to.
    compared: BTreeSet<String>,
}

impl<'a> Walk<'_, 'a> {
    #[expect(clippy::needless_pass_by_value, reason = "callers make these texts for it")]
    fn say(
        &mut self,
        draft: Draft<'_>,
        before: Option<String>,
        after: Option<String>,
        verdict: Verdict,
    ) {
        self.changes.push(draft.into_change(before.as_deref(), after.as_deref(), verdict));
    }

    /// Says a change at a place of a schema.
    #[expect(clippy::needless_pass_by_value, reason = "callers make these texts for it")]
    fn say_at(
        &mut self,
        place: &Place,
        id: String,
        pointer: &str,
        before: Option<String>,
        after: Option<String>,
        verdict: Verdict,
    ) {
        let draft = Draft {
            id,
            direction: place.direction,
            subject: &place.subject,
            field: &place.field,
            pointer,
        };
        self.changes.push(draft.into_change(before.as_deref(), after.as_deref(), verdict));
    }

    /// Servers, tags, security schemes, the version: compared as they stand.
    fn facts(&mut self) {
        let keys: BTreeSet<_> = self.old.facts.keys().chain(self.new.facts.keys()).collect();
        for key in keys {
            let (before, after) = (self.old.facts.get(key), self.new.facts.get(key));
            let (what, name) = key;
            let (change, pointer) = match (before, after) {
                (Some((_, a)), Some((_, b))) if canonical(a) == canonical(b) => continue,
                (Some(_), Some((pointer, _))) => ("changed", pointer),
                (None, Some((pointer, _))) => ("added", pointer),
                (Some((pointer, _)), None) => ("removed", pointer),
                (None, None) => continue,
            };
            let verdict = match (*what, change) {
                ("server", "removed" | "changed") => verdict(
                    Wire::Behaves,
                    Rust::Same,
                    "hosts are constants of this crate: compare with Environment",
                ),
                ("security-scheme", "removed" | "changed") => verdict(
                    Wire::Behaves,
                    Rust::Same,
                    "signing is written by hand: compare with kalshi-auth",
                ),
                ("spec-version", _) => {
                    verdict(Wire::Works, Rust::Same, "the document's own version")
                }
                _ => verdict(Wire::Works, Rust::Same, "no code is made of it"),
            };
            let text = |found: Option<&(String, Value)>| found.map(|(_, value)| brief(value));
            let subject =
                if name.is_empty() { (*what).to_owned() } else { format!("{what} {name}") };
            let id = format!("{what}-{change}");
            let draft = Draft::document(&subject, &id, pointer);
            self.changes.push(draft.into_change(
                text(before).as_deref(),
                text(after).as_deref(),
                verdict,
            ));
        }
    }

    fn operation(
        &mut self,
        before: Option<&Operation<'a>>,
        after: Option<&Operation<'a>>,
    ) -> Result<()> {
        match (before, after) {
            (Some(old), Some(new)) => self.same_operation(old, new),
            (Some(old), None) => {
                let id = if old.deprecated {
                    "api-removed-with-deprecation"
                } else {
                    "api-removed-without-deprecation"
                };
                let draft = Draft::document(&old.title, id, &old.pointer);
                let verdict = verdict(
                    Wire::Breaks,
                    Rust::Breaks,
                    "deployed clients call it, and its method is gone in Rust",
                );
                self.say(draft, Some(old.id.clone()), None, verdict);
                Ok(())
            }
            (None, Some(new)) => {
                let draft = Draft::document(&new.title, "endpoint-added", &new.pointer);
                let verdict = verdict(Wire::Works, Rust::Adds, "one more method");
                self.say(draft, None, Some(new.id.clone()), verdict);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn same_operation(&mut self, old: &Operation<'a>, new: &Operation<'a>) -> Result<()> {
        let draft = |id: &str| Draft::document(&new.title, id, &new.pointer);
        if old.id != new.id {
            let method = |id: &str| type_name(id).map(|builder| method_name(&builder));
            let verdict = if method(&old.id) == method(&new.id) {
                verdict(Wire::Works, Rust::Same, "the method keeps its name")
            } else {
                verdict(Wire::Works, Rust::Breaks, "the method is named after it")
            };
            let (old, new) = (Some(old.id.clone()), Some(new.id.clone()));
            self.say(draft("api-operation-id-updated"), old, new, verdict);
        }
        if old.deprecated != new.deprecated {
            let (id, verdict) = if new.deprecated {
                let why = "the compiler warns; the exchange means to remove it";
                ("endpoint-deprecated", verdict(Wire::Works, Rust::Deprecates, why))
            } else {
                ("endpoint-reactivated", verdict(Wire::Works, Rust::Same, "no warning any more"))
            };
            self.say(draft(id), None, None, verdict);
        }
        for (tag, (has, had)) in tags(old, new) {
            let why = "a tag is a word of the operation table";
            let verdict = verdict(Wire::Works, Rust::Same, why);
            match (had, has) {
                (true, false) => self.say(draft("api-tag-removed"), Some(tag), None, verdict),
                _ => self.say(draft("api-tag-added"), None, Some(tag), verdict),
            }
        }
        if canonical(&old.security) != canonical(&new.security) {
            let (id, verdict) = match (old.signed, new.signed) {
                (false, true) => (
                    "api-security-added",
                    verdict(
                        Wire::Breaks,
                        Rust::Refuses,
                        "deployed clients do not sign it; without credentials it is refused before sending",
                    ),
                ),
                (true, false) => (
                    "api-security-removed",
                    verdict(Wire::Works, Rust::Same, "a signature does no harm"),
                ),
                _ => (
                    "api-security-changed",
                    verdict(Wire::Works, Rust::Same, "whether it is signed stays the same"),
                ),
            };
            let text = |value: &Value| Some(brief(value));
            self.say(draft(id), text(&old.security), text(&new.security), verdict);
        }
        self.words(&new.title, "api", &new.pointer, &old.words, &new.words);
        for key in old.parameters.keys().chain(new.parameters.keys()).collect::<BTreeSet<_>>() {
            let (before, after) = (old.parameters.get(key), new.parameters.get(key));
            self.parameter(&new.title, &key.0, before, after)?;
        }
        self.request_body(old, new)?;
        self.responses(old, new)
    }

    /// What else an operation, parameter or body says.
    fn words(
        &mut self,
        subject: &str,
        what: &str,
        pointer: &str,
        old: &BTreeMap<String, Value>,
        new: &BTreeMap<String, Value>,
    ) {
        for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let (before, after) = (old.get(key), new.get(key));
            if before.map(canonical) == after.map(canonical) {
                continue;
            }
            // `explode` and `style` say how a list is written: repeated keys are all we write.
            let on_the_wire = what == "request-parameter";
            let verdict = if on_the_wire {
                verdict(Wire::Behaves, Rust::Same, "what is sent stays as it was")
            } else {
                verdict(Wire::Works, Rust::Same, "no code is made of it")
            };
            let pointer = join(pointer, key);
            let draft = Draft {
                id: format!("{what}-attribute-changed"),
                direction: if on_the_wire { Direction::Request } else { Direction::Document },
                subject,
                field: key,
                pointer: &pointer,
            };
            self.changes.push(draft.into_change(
                before.map(brief).as_deref(),
                after.map(brief).as_deref(),
                verdict,
            ));
        }
    }

    fn parameter(
        &mut self,
        title: &str,
        place: &str,
        before: Option<&Parameter<'a>>,
        after: Option<&Parameter<'a>>,
    ) -> Result<()> {
        let Some(named) = after.or(before) else { return Ok(()) };
        let field = format!("{place} {}", named.name);
        let at = Place {
            direction: Direction::Request,
            area: Area::Parameter,
            subject: title.to_owned(),
            field,
            old_schema: "Request".to_owned(),
            new_schema: "Request".to_owned(),
            in_text: true,
        };
        let (old, new) = match (before, after) {
            (Some(old), Some(new)) => (old, new),
            (None, Some(new)) => {
                let id = if new.required {
                    "new-required-request-parameter"
                } else {
                    "new-optional-request-parameter"
                };
                let verdict = rules::parameter_added(new.required);
                self.say_at(&at, id.to_owned(), &new.pointer, None, None, verdict);
                return Ok(());
            }
            (Some(old), None) => {
                let verdict = verdict(
                    Wire::Behaves,
                    Rust::Breaks,
                    "deployed clients still send it, to be ignored or refused; its setter is gone",
                );
                let id = "request-parameter-removed".to_owned();
                self.say_at(&at, id, &old.pointer, None, None, verdict);
                return Ok(());
            }
            (None, None) => return Ok(()),
        };
        if old.name != new.name {
            let id = "request-parameter-renamed".to_owned();
            let verdict = verdict(Wire::Works, Rust::Breaks, "the setter is named after it");
            let (before, after) = (Some(old.name.clone()), Some(new.name.clone()));
            self.say_at(&at, id, &new.pointer, before, after, verdict);
        }
        let mut slot = Slot { new_required: new.required, ..Slot::default() };
        if let (Some(old), Some(new)) = (&old.schema, &new.schema) {
            slot.old_type = rust_type(self.old.root, old).map_err(of_old)?;
            slot.new_type = rust_type(self.new.root, new).map_err(of_new)?;
        }
        if old.required != new.required {
            let (id, verdict) = if new.required {
                let verdict = rules::became_required(Direction::Request, &slot, true);
                ("request-parameter-became-required", verdict)
            } else {
                let verdict = rules::became_optional(Direction::Request, &slot, true);
                ("request-parameter-became-optional", verdict)
            };
            self.say_at(&at, id.to_owned(), &new.pointer, None, None, verdict);
        }
        if old.deprecated != new.deprecated {
            self.deprecated(&at, &new.pointer, new.deprecated);
        }
        self.words(title, "request-parameter", &new.pointer, &old.words, &new.words);
        match (&old.schema, &new.schema) {
            (Some(old), Some(new)) => self.site(&at, &slot, old, new),
            (None, None) => Ok(()),
            _ => {
                let id = "request-parameter-schema-changed".to_owned();
                let verdict =
                    verdict(Wire::Behaves, Rust::Breaks, "it has a schema on one side only");
                self.say_at(&at, id, &new.pointer, None, None, verdict);
                Ok(())
            }
        }
    }

    fn deprecated(&mut self, place: &Place, pointer: &str, now: bool) {
        let (word, verdict) = if now {
            ("deprecated", verdict(Wire::Works, Rust::Deprecates, "the compiler warns"))
        } else {
            ("reactivated", verdict(Wire::Works, Rust::Same, "no warning any more"))
        };
        self.say_at(place, format!("{}-{word}", place.prefix()), pointer, None, None, verdict);
    }

    fn request_body(&mut self, old: &Operation<'a>, new: &Operation<'a>) -> Result<()> {
        let title = &new.title;
        let draft = |id: &str, pointer| Draft {
            id: id.to_owned(),
            direction: Direction::Request,
            subject: title,
            field: "",
            pointer,
        };
        match (&old.body, &new.body) {
            (None, None) => Ok(()),
            (None, Some(body)) => {
                let (id, verdict) = if body.required {
                    let why =
                        "deployed clients send none; calls compile without it and are refused";
                    ("request-body-added-required", verdict(Wire::Breaks, Rust::Refuses, why))
                } else {
                    let verdict = verdict(Wire::Works, Rust::Adds, "it may be left out");
                    ("request-body-added-optional", verdict)
                };
                self.say(draft(id, &body.pointer), None, None, verdict);
                Ok(())
            }
            (Some(body), None) => {
                let why = "deployed clients still send it; its setter is gone in Rust";
                let verdict = verdict(Wire::Behaves, Rust::Breaks, why);
                self.say(draft("request-body-removed", &body.pointer), None, None, verdict);
                Ok(())
            }
            (Some(before), Some(after)) => {
                if before.required != after.required {
                    let (id, verdict) = if after.required {
                        // An optional body that is left out is sent as `{}`.
                        let why = "without a body deployed clients send `{}`; calls without one are refused before sending";
                        ("request-body-became-required", verdict(Wire::Behaves, Rust::Refuses, why))
                    } else {
                        let verdict = verdict(Wire::Works, Rust::Adds, "it may be left out");
                        ("request-body-became-optional", verdict)
                    };
                    self.say(draft(id, &after.pointer), None, None, verdict);
                }
                let suffix = format!("{} Request", new.id);
                self.bodies(Direction::Request, title, "", &suffix, before, after)
            }
        }
    }

    fn responses(&mut self, old: &Operation<'a>, new: &Operation<'a>) -> Result<()> {
        let title = &new.title;
        let success = |code: &str| code.starts_with('2');
        let lone = |these: &Operation<'a>, others: &Operation<'a>| {
            let codes = these.responses.keys().filter(|code| !others.responses.contains_key(*code));
            codes.cloned().collect::<Vec<_>>()
        };
        let (gone, come) = (lone(old, new), lone(new, old));
        for (codes, operation, change) in [(&gone, old, "removed"), (&come, new, "added")] {
            for code in codes {
                let pointer =
                    operation.responses.get(code).map_or("", |body| body.pointer.as_str());
                let (kind, direction) = if success(code) {
                    ("response-success-status", Direction::Response)
                } else {
                    ("response-non-success-status", Direction::Error)
                };
                let id = format!("{kind}-{change}");
                let draft = Draft { id, direction, subject: title, field: code, pointer };
                let why = if success(code) {
                    "every 2xx is read as the success"
                } else {
                    "every failure becomes the one error"
                };
                self.say(draft, None, None, verdict(Wire::Works, Rust::Same, why));
            }
        }
        for (code, before) in &old.responses {
            let direction = if success(code) { Direction::Response } else { Direction::Error };
            // A success under another status is compared with the one that took its place.
            let moved = || come.iter().find(|c| success(c)).filter(|_| success(code));
            let Some(after) = new.responses.get(code).or_else(|| new.responses.get(moved()?))
            else {
                continue;
            };
            let suffix = format!("{} Response", new.id);
            let field = if success(code) { "" } else { code };
            self.bodies(direction, title, field, &suffix, before, after)?;
        }
        Ok(())
    }

    fn bodies(
        &mut self,
        direction: Direction,
        title: &str,
        field: &str,
        suffix: &str,
        before: &Body<'a>,
        after: &Body<'a>,
    ) -> Result<()> {
        let kind = match direction {
            Direction::Request => "request",
            Direction::Error => "error",
            _ => "response",
        };
        self.words(title, kind, &after.pointer, &before.words, &after.words);
        let medias: BTreeSet<&String> = before.content.keys().chain(after.content.keys()).collect();
        for media in medias {
            let body = |at: &Body<'_>| join(&join(&at.pointer, "content"), media);
            let draft = |change: &str, pointer| Draft {
                id: format!("{kind}-media-type-{change}"),
                direction,
                subject: title,
                field,
                pointer,
            };
            let spots = match (before.content.get(media), after.content.get(media)) {
                (Some(old), Some(new)) => (old, new),
                (Some(_), None) => {
                    let verdict = match direction {
                        Direction::Error => {
                            verdict(Wire::Works, Rust::Same, "every failure becomes the one error")
                        }
                        Direction::Request => {
                            verdict(Wire::Breaks, Rust::Breaks, "deployed clients send it")
                        }
                        _ => verdict(Wire::Breaks, Rust::Breaks, "deployed clients read it"),
                    };
                    let text = Some(media.clone());
                    self.say(draft("removed", &body(before)), text, None, verdict);
                    continue;
                }
                _ => {
                    let alone = before.content.is_empty();
                    let verdict = match direction {
                        Direction::Response if alone => verdict(
                            Wire::Breaks,
                            Rust::Breaks,
                            "a body where none was expected is no success; the result is another type in Rust",
                        ),
                        Direction::Response => verdict(
                            Wire::Behaves,
                            Rust::Same,
                            "no code is made of a second media type",
                        ),
                        _ => verdict(Wire::Works, Rust::Same, "JSON is sent as before"),
                    };
                    let text = Some(media.clone());
                    self.say(draft("added", &body(after)), None, text, verdict);
                    continue;
                }
            };
            let place = Place {
                direction,
                area: Area::Body,
                subject: title.to_owned(),
                field: field.to_owned(),
                old_schema: suffix.to_owned(),
                new_schema: suffix.to_owned(),
                in_text: false,
            };
            match spots {
                (Some(old), Some(new)) => {
                    let slot = self.slot(&place, "", old, new, true, true)?;
                    self.site(&place, &slot, old, new)?;
                }
                (None, None) => {}
                _ => {
                    let id = format!("{kind}-body-schema-changed");
                    let pointer = body(after);
                    let draft = Draft { id, direction, subject: title, field, pointer: &pointer };
                    let why = "it has a schema on one side only";
                    self.say(draft, None, None, verdict(Wire::Behaves, Rust::Breaks, why));
                }
            }
        }
        Ok(())
    }

    /// Channels and messages.
    fn streams(&mut self) -> Result<()> {
        let (old, new) = (self.old, self.new);
        for name in old.channels.keys().chain(new.channels.keys()).collect::<BTreeSet<_>>() {
            let subject = format!("channel {name}");
            let (before, after) = (old.channels.get(name), new.channels.get(name));
            let (before, after) = match (before, after) {
                (Some(old), Some(new)) => (old, new),
                (Some(old), None) => {
                    let why = "subscriptions to it are refused, and it is gone in Rust";
                    let draft = Draft::document(&subject, "channel-removed", &old.pointer);
                    self.say(draft, None, None, verdict(Wire::Breaks, Rust::Breaks, why));
                    continue;
                }
                (_, Some(new)) => {
                    let draft = Draft::document(&subject, "channel-added", &new.pointer);
                    self.say(
                        draft,
                        None,
                        None,
                        verdict(Wire::Works, Rust::Adds, "one more channel"),
                    );
                    continue;
                }
                (None, None) => continue,
            };
            for word in before.words.keys().chain(after.words.keys()).collect::<BTreeSet<_>>() {
                let (was, is) = (before.words.get(word), after.words.get(word));
                if was.map(|v| canonical(v)) == is.map(|v| canonical(v)) {
                    continue;
                }
                let (id, verdict) = if word == "address" {
                    let why = "deployed clients subscribe by the old name";
                    ("channel-address-changed", verdict(Wire::Breaks, Rust::Same, why))
                } else {
                    let verdict = verdict(Wire::Works, Rust::Same, "no code is made of it");
                    ("channel-attribute-changed", verdict)
                };
                let pointer = join(&after.pointer, word);
                let mut draft = Draft::document(&subject, id, &pointer);
                draft.field = word;
                let text = |value: Option<&&Value>| value.map(|value| brief(value));
                self.say(draft, text(was), text(is), verdict);
            }
            for key in before.messages.keys().chain(after.messages.keys()).collect::<BTreeSet<_>>()
            {
                let at = |pointer: &str| join(&join(pointer, "messages"), key);
                let (id, pointer, verdict) =
                    match (before.messages.get(key), after.messages.get(key)) {
                        (Some(_), None) => (
                            "channel-message-removed",
                            at(&before.pointer),
                            verdict(
                                Wire::Behaves,
                                Rust::Same,
                                "it does not come on this channel any more",
                            ),
                        ),
                        (None, Some(_)) => (
                            "channel-message-added",
                            at(&after.pointer),
                            verdict(
                                Wire::Works,
                                Rust::Adds,
                                "unknown messages are handed on as they are",
                            ),
                        ),
                        (Some(a), Some(b)) if a != b => (
                            "channel-message-changed",
                            at(&after.pointer),
                            verdict(
                                Wire::Behaves,
                                Rust::Breaks,
                                "another message stands under this name",
                            ),
                        ),
                        _ => continue,
                    };
                let mut draft = Draft::document(&subject, id, &pointer);
                draft.field = key;
                self.say(draft, None, None, verdict);
            }
        }
        for name in old.messages.keys().chain(new.messages.keys()).collect::<BTreeSet<_>>() {
            self.message(name)?;
        }
        Ok(())
    }

    fn message(&mut self, name: &str) -> Result<()> {
        let subject = format!("message {name}");
        let (old, new) = match (self.old.messages.get(name), self.new.messages.get(name)) {
            (Some(old), Some(new)) => (old, new),
            (Some(old), None) => {
                let verdict = if old.sent {
                    verdict(Wire::Breaks, Rust::Breaks, "deployed clients send it")
                } else {
                    verdict(
                        Wire::Behaves,
                        Rust::Breaks,
                        "it does not come any more, and is gone in Rust",
                    )
                };
                let draft = Draft::document(&subject, "message-removed", &old.pointer);
                self.say(draft, None, None, verdict);
                return Ok(());
            }
            (_, Some(new)) => {
                let why = "unknown messages are handed on as they are";
                let draft = Draft::document(&subject, "message-added", &new.pointer);
                self.say(draft, None, None, verdict(Wire::Works, Rust::Adds, why));
                return Ok(());
            }
            (None, None) => return Ok(()),
        };
        if old.sent != new.sent {
            let draft = Draft::document(&subject, "message-direction-changed", &new.pointer);
            let why = "it travels the other way";
            self.say(draft, None, None, verdict(Wire::Breaks, Rust::Breaks, why));
        }
        self.words(&subject, "message", &new.pointer, &old.words, &new.words);
        let direction = if new.sent { Direction::Request } else { Direction::Response };
        let place = Place {
            direction,
            area: Area::Body,
            subject: subject.clone(),
            field: String::new(),
            old_schema: subject.clone(),
            new_schema: subject.clone(),
            in_text: false,
        };
        match (&old.payload, &new.payload) {
            (Some(old), Some(new)) => {
                let slot = self.slot(&place, "", old, new, true, true)?;
                self.site(&place, &slot, old, new)
            }
            (None, None) => Ok(()),
            _ => {
                let draft = Draft::document(&subject, "message-payload-changed", &new.pointer);
                let why = "it has a payload on one side only";
                self.say(draft, None, None, verdict(Wire::Breaks, Rust::Breaks, why));
                Ok(())
            }
        }
    }

    /// Named schemas that came, went, or that no operation leads to.
    fn schemas(&mut self) -> Result<()> {
        let (old, new) = (self.old, self.new);
        for name in old.schemas.keys().chain(new.schemas.keys()).collect::<BTreeSet<_>>() {
            let subject = format!("schema {name}");
            match (old.schemas.get(name), new.schemas.get(name)) {
                (Some(before), Some(after)) if !self.compared.contains(name) => {
                    self.enqueue_named(name, before, after, Direction::Document)?;
                }
                (Some(before), None) => {
                    let draft = Draft::document(&subject, "schema-removed", &before.pointer);
                    let verdict = verdict(Wire::Works, Rust::Breaks, "its type is gone in Rust");
                    self.say(draft, None, None, verdict);
                }
                (None, Some(after)) => {
                    let draft = Draft::document(&subject, "schema-added", &after.pointer);
                    self.say(draft, None, None, verdict(Wire::Works, Rust::Adds, "one more type"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn enqueue_named(
        &mut self,
        name: &str,
        old: &Spot<'a>,
        new: &Spot<'a>,
        direction: Direction,
    ) -> Result<()> {
        let place = Place {
            direction,
            // Most named schemas are fields somewhere; one id for all keeps fingerprints stable.
            area: Area::Property,
            subject: format!("schema {name}"),
            field: String::new(),
            old_schema: name.to_owned(),
            new_schema: name.to_owned(),
            in_text: false,
        };
        let mut slot = self.slot(&place, "", old, new, true, true)?;
        // Null inside a named type is read by those who use it as an optional field; not by all.
        slot.reads_null = false;
        self.enqueue(place, slot, old, new);
        Ok(())
    }

    fn enqueue(&mut self, place: Place, slot: Slot, old: &Spot<'a>, new: &Spot<'a>) {
        if let Some(name) = old.pointer.strip_prefix("/components/schemas/") {
            self.compared.insert(name.to_owned());
        }
        let key = (old.pointer.clone(), new.pointer.clone(), place.direction);
        if self.seen.insert(key) {
            self.queue.push_back(Job { place, slot, old: old.clone(), new: new.clone() });
        }
    }

    fn drain(&mut self) -> Result<()> {
        while let Some(job) = self.queue.pop_front() {
            let old = flat(self.old.root, &job.old).map_err(of_old)?;
            let new = flat(self.new.root, &job.new).map_err(of_new)?;
            // A schema that is only another name for a second one: that one has its own turn.
            if let (Some(a), Some(b)) = (job.old.name(), job.new.name())
                && a == b
            {
                self.site(&job.place, &job.slot, &job.old, &job.new)?;
                continue;
            }
            self.nullable(&job.place, &job.slot, &job.new.pointer, &old, &new);
            self.content(&job, &old, &new)?;
        }
        Ok(())
    }

    /// What is known of a place where both documents have a schema.
    fn slot(
        &self,
        place: &Place,
        field: &str,
        old: &Spot<'a>,
        new: &Spot<'a>,
        old_required: bool,
        new_required: bool,
    ) -> Result<Slot> {
        let (old_type, lenient) =
            full_type(self.old, place, &place.old_schema, field, old, old_required)
                .map_err(of_old)?;
        let (new_type, _) = full_type(self.new, place, &place.new_schema, field, new, new_required)
            .map_err(of_new)?;
        let nullable = flat(self.old.root, old).map_err(of_old)?.nullable;
        let option = old_type.starts_with("Option<");
        Ok(Slot {
            reads_null: option || lenient,
            reads_absence: option || lenient,
            sends_null: old_required && nullable,
            old_type,
            new_type,
            new_required,
        })
    }

    /// One use of a schema: the words beside a reference, and what stands or is referred to here.
    fn site(&mut self, place: &Place, slot: &Slot, old: &Spot<'a>, new: &Spot<'a>) -> Result<()> {
        match (old.name(), new.name()) {
            (Some(a), Some(b)) if a == b => {
                let before = own(self.old.root, old).map_err(of_old)?;
                let after = own(self.new.root, new).map_err(of_new)?;
                self.nullable(place, slot, &new.pointer, &before, &after);
                self.schema_words(place, &new.pointer, &before, &after);
                let targets = (self.old.schema(a), self.new.schema(b));
                if let (Some(old), Some(new)) = targets {
                    self.enqueue_named(a, old, new, place.direction)?;
                } else {
                    // The reference leads nowhere in one of them: reading it says where.
                    flat(self.old.root, old).map_err(of_old)?;
                    flat(self.new.root, new).map_err(of_new)?;
                }
                Ok(())
            }
            (None, None) => {
                let before = flat(self.old.root, old).map_err(of_old)?;
                let after = flat(self.new.root, new).map_err(of_new)?;
                self.nullable(place, slot, &new.pointer, &before, &after);
                let job = Job {
                    place: place.clone(),
                    slot: slot.clone(),
                    old: old.clone(),
                    new: new.clone(),
                };
                self.content(&job, &before, &after)
            }
            (a, b) => {
                let id = format!("{}-schema-name-changed", place.prefix());
                let rust = if slot.old_type == slot.new_type { Rust::Same } else { Rust::Breaks };
                let why = "the type is named after the schema; what is in it is compared here";
                let text = |name: Option<&str>| Some(name.unwrap_or("(in place)").to_owned());
                let verdict = verdict(Wire::Works, rust, why);
                self.say_at(place, id, &new.pointer, text(a), text(b), verdict);
                self.enqueue(place.clone(), slot.clone(), old, new);
                Ok(())
            }
        }
    }

    fn nullable(
        &mut self,
        place: &Place,
        slot: &Slot,
        pointer: &str,
        old: &Flat<'_>,
        new: &Flat<'_>,
    ) {
        if old.nullable == new.nullable {
            return;
        }
        let (word, verdict) = if new.nullable {
            ("became-nullable", rules::became_nullable(place.direction, slot))
        } else {
            ("became-not-nullable", rules::became_not_nullable(place.direction, slot))
        };
        self.say_at(place, format!("{}-{word}", place.prefix()), pointer, None, None, verdict);
    }

    fn content(&mut self, job: &Job<'a>, old: &Flat<'a>, new: &Flat<'a>) -> Result<()> {
        let Job { place, slot, .. } = job;
        let pointer = &job.new.pointer;
        let id = |suffix: &str| format!("{}-{suffix}", place.prefix());
        self.schema_words(place, pointer, old, new);
        let (old_name, new_name) = (job.old.name(), job.new.name());
        let bare_name =
            |pointer: &'_ str| pointer.strip_prefix("/components/schemas/").map(str::to_owned);
        let old_base = old_name.map(str::to_owned).or_else(|| bare_name(&job.old.pointer));
        let new_base = new_name.map(str::to_owned).or_else(|| bare_name(&job.new.pointer));
        let forward = reading(old_base.as_deref(), old, new_base.as_deref(), new);
        let backward = reading(new_base.as_deref(), new, old_base.as_deref(), old);
        let type_verdict =
            || rules::type_changed(place.direction, slot, forward, backward, place.in_text);
        if old.kind != new.kind {
            let text =
                |schema: &Flat<'_>| Some(schema.kind.clone().unwrap_or("anything".to_owned()));
            let mut verdict = type_verdict();
            if bare_type_same(slot, old, new) {
                // A named type keeps its name, and holds something else.
                verdict.rust = Rust::Breaks;
            }
            self.say_at(place, id("type-changed"), pointer, text(old), text(new), verdict);
            return Ok(());
        }
        if old.format != new.format {
            let text = |schema: &Flat<'_>| Some(schema.format.clone().unwrap_or("none".to_owned()));
            let mut verdict = type_verdict();
            if inner_type(old) == inner_type(new) {
                verdict.rust = slot_rust(slot);
            } else {
                verdict.rust = Rust::Breaks;
            }
            self.say_at(place, id("format-changed"), pointer, text(old), text(new), verdict);
        } else if old_base != new_base
            && [forward, backward].iter().any(|way| *way != schema::Reading::Reads)
        {
            // Two named texts, such as dollars and counts: the schema's name is its format.
            let text = |name: Option<String>| Some(name.unwrap_or("text".to_owned()));
            let verdict = type_verdict();
            self.say_at(
                place,
                id("format-changed"),
                pointer,
                text(old_base),
                text(new_base),
                verdict,
            );
        }
        self.values(job, old, new);
        self.fields(job, old, new)?;
        self.inner(job, old, new)?;
        self.choices(job, old, new)
    }

    /// Default, deprecation, bounds, and whatever else a schema says.
    fn schema_words(&mut self, place: &Place, pointer: &str, old: &Flat<'_>, new: &Flat<'_>) {
        let prefix = place.prefix();
        for word in old.words.keys().chain(new.words.keys()).collect::<BTreeSet<_>>() {
            let (before, after) = (old.words.get(word), new.words.get(word));
            if before.map(canonical) == after.map(canonical) {
                continue;
            }
            let at = join(pointer, word);
            let (id, verdict) = match word.as_str() {
                "deprecated" => {
                    let truth = |value: Option<&Value>| value == Some(&Value::Bool(true));
                    if truth(before) != truth(after) {
                        self.deprecated(place, &at, truth(after));
                    }
                    continue;
                }
                "default" => {
                    let change = change_word(before, after, ["added", "removed", "changed"]);
                    let verdict = rules::default_changed(place.direction);
                    (format!("{prefix}-default-value-{change}"), verdict)
                }
                "pattern" => {
                    let change = change_word(before, after, ["added", "removed", "changed"]);
                    let verdict = rules::bound_changed(place.direction, after.is_some());
                    (format!("{prefix}-pattern-{change}"), verdict)
                }
                word => {
                    if let Some((name, upper)) = bound(word) {
                        let (change, tighter) = bound_change(before, after, upper);
                        let verdict = rules::bound_changed(place.direction, tighter);
                        (format!("{prefix}-{name}-{change}"), verdict)
                    } else {
                        let sent = place.direction == Direction::Request;
                        let wire = if sent { Wire::Behaves } else { Wire::Works };
                        let id = format!("{prefix}-attribute-{word}-changed");
                        (id, verdict(wire, Rust::Same, "no code is made of it"))
                    }
                }
            };
            self.say_at(place, id, &at, before.map(brief), after.map(brief), verdict);
        }
    }

    fn values(&mut self, job: &Job<'a>, old: &Flat<'_>, new: &Flat<'_>) {
        let Job { place, slot, .. } = job;
        let pointer = &job.new.pointer;
        let prefix = place.prefix();
        let in_rust = old.kind.as_deref().is_none_or(|kind| kind == "string");
        let (before, after) = match (&old.values, &new.values) {
            (None, None) => return,
            (None, Some(_)) => {
                let mut verdict = rules::became_enum(place.direction, slot);
                if in_rust {
                    verdict.rust = Rust::Breaks;
                }
                self.say_at(place, format!("{prefix}-became-enum"), pointer, None, None, verdict);
                return;
            }
            (Some(_), None) => {
                let mut verdict = rules::became_not_enum(slot);
                if in_rust {
                    verdict.rust = Rust::Breaks;
                }
                self.say_at(
                    place,
                    format!("{prefix}-became-not-enum"),
                    pointer,
                    None,
                    None,
                    verdict,
                );
                return;
            }
            (Some(before), Some(after)) => (before, after),
        };
        let texts = |values: &[Value]| values.iter().map(brief).collect::<BTreeSet<_>>();
        let (before, after) = (texts(before), texts(after));
        // The `type` of a message is how a client knows it.
        let message = self.new.kind == Kind::AsyncApi
            && place.direction == Direction::Response
            && place.field == "type";
        for value in before.difference(&after) {
            let id = format!("{prefix}-enum-value-removed");
            let mut verdict = rules::value_removed(place.direction, in_rust);
            if message {
                let why = "deployed clients know the message by this text";
                verdict = rules::verdict(Wire::Breaks, Rust::Breaks, why);
            }
            self.say_at(place, id, pointer, Some(value.clone()), None, verdict);
        }
        for value in after.difference(&before) {
            let id = format!("{prefix}-enum-value-added");
            let verdict = rules::value_added(place.direction);
            self.say_at(place, id, pointer, None, Some(value.clone()), verdict);
        }
    }

    fn fields(&mut self, job: &Job<'a>, old: &Flat<'a>, new: &Flat<'a>) -> Result<()> {
        let pointer = &job.new.pointer;
        let names: BTreeSet<&String> = old.fields.keys().chain(new.fields.keys()).collect();
        for name in names {
            let place = job.place.below(name);
            let (old_required, new_required) =
                (old.required.contains(name), new.required.contains(name));
            match (old.fields.get(name), new.fields.get(name)) {
                (Some(before), Some(after)) => {
                    let slot =
                        self.slot(&place, name, before, after, old_required, new_required)?;
                    if old_required != new_required {
                        let (word, verdict) = if new_required {
                            ("required", rules::became_required(place.direction, &slot, false))
                        } else {
                            ("optional", rules::became_optional(place.direction, &slot, false))
                        };
                        let id = format!("{}-became-{word}", place.prefix());
                        self.say_at(&place, id, &after.pointer, None, None, verdict);
                    }
                    self.site(&place, &slot, before, after)?;
                }
                (Some(before), None) => {
                    let slot = self.slot(&place, name, before, before, old_required, old_required);
                    // The new document is not asked about a schema of the old one.
                    let slot = match slot {
                        Ok(slot) => slot,
                        Err((Side::New, _)) => self.old_slot(&place, name, before, old_required)?,
                        Err(error) => return Err(error),
                    };
                    let id = field_id(&place, old_required, false);
                    let verdict = rules::field_removed(place.direction, &slot);
                    self.say_at(&place, id, &before.pointer, None, None, verdict);
                }
                (None, Some(after)) => {
                    let slot = Slot { new_required, ..Slot::default() };
                    let id = field_id(&place, new_required, true);
                    let verdict = rules::field_added(place.direction, &slot);
                    self.say_at(&place, id, &after.pointer, None, None, verdict);
                }
                (None, None) => {}
            }
        }
        // Names that are required and declared nowhere.
        let loose = |schema: &Flat<'_>| {
            let names = schema.required.iter().filter(|name| !schema.fields.contains_key(*name));
            names.cloned().collect::<BTreeSet<_>>()
        };
        let (before, after) = (loose(old), loose(new));
        for name in before.symmetric_difference(&after) {
            let known = old.fields.contains_key(name) || new.fields.contains_key(name);
            if known {
                continue;
            }
            let word = if after.contains(name) { "required" } else { "optional" };
            let id = format!("{}-undeclared-became-{word}", job.place.prefix());
            let why = "no code is made of a field without a schema";
            let verdict = verdict(Wire::Works, Rust::Same, why);
            self.say_at(&job.place.below(name), id, pointer, None, None, verdict);
        }
        Ok(())
    }

    fn old_slot(&self, place: &Place, name: &str, old: &Spot<'a>, required: bool) -> Result<Slot> {
        let (old_type, lenient) =
            full_type(self.old, place, &place.old_schema, name, old, required).map_err(of_old)?;
        let reads = lenient || old_type.starts_with("Option<");
        Ok(Slot { reads_absence: reads, reads_null: reads, old_type, ..Slot::default() })
    }

    /// Elements of lists and values of maps.
    fn inner(&mut self, job: &Job<'a>, old: &Flat<'a>, new: &Flat<'a>) -> Result<()> {
        let pointer = &job.new.pointer;
        let values_of = |schema: &Flat<'a>| match &schema.rest {
            Rest::Of(spot) => Some(spot.clone()),
            _ => None,
        };
        let pairs = [
            ("[]", "items", old.items.clone(), new.items.clone()),
            ("{}", "additional-properties", values_of(old), values_of(new)),
        ];
        for (step, word, before, after) in pairs {
            let place = job.place.below(step);
            match (before, after) {
                (Some(before), Some(after)) => {
                    let mut slot = self.slot(&place, "", &before, &after, true, true)?;
                    slot.reads_absence = true;
                    // An element that is null is no empty list.
                    slot.reads_null = slot.old_type.starts_with("Option<");
                    self.site(&place, &slot, &before, &after)?;
                }
                (None, None) => {}
                (before, after) => {
                    let wire = match (place.direction, before.is_some()) {
                        (Direction::Response, true) | (Direction::Request, false) => Wire::Breaks,
                        _ => Wire::Works,
                    };
                    let rust =
                        if old.is_map() || old.is_list() { Rust::Breaks } else { Rust::Same };
                    let wire = if rust == Rust::Same { Wire::Works } else { wire };
                    let change = if after.is_some() { "added" } else { "removed" };
                    let id = format!("{}-{word}-schema-{change}", job.place.prefix());
                    let why = "what they hold becomes, or was, anything";
                    self.say_at(&place, id, pointer, None, None, verdict(wire, rust, why));
                }
            }
        }
        let closed = |schema: &Flat<'_>| matches!(schema.rest, Rest::Nothing);
        if closed(old) != closed(new) {
            let word = if closed(new) { "forbidden" } else { "allowed" };
            let id = format!("{}-additional-properties-{word}-changed", job.place.prefix());
            let why = "objects are read as open, and only declared fields are sent";
            self.say_at(
                &job.place,
                id.replace(&format!("-{word}"), ""),
                pointer,
                None,
                Some(word.to_owned()),
                verdict(Wire::Works, Rust::Same, why),
            );
        }
        Ok(())
    }

    fn choices(&mut self, job: &Job<'a>, old: &Flat<'a>, new: &Flat<'a>) -> Result<()> {
        for (word, name) in [("oneOf", "one-of"), ("anyOf", "any-of")] {
            let keyed = |schema: &Flat<'a>| {
                let spots = schema.choices.get(word).into_iter().flatten();
                let keyed = spots.enumerate().map(|(index, spot)| {
                    let key = spot.name().map_or_else(|| format!("#{index}"), str::to_owned);
                    (key, spot.clone())
                });
                keyed.collect::<BTreeMap<_, _>>()
            };
            let (before, after) = (keyed(old), keyed(new));
            for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
                let place = job.place.below(&format!("|{key}"));
                let id = |change: &str| format!("{}-{name}-{change}", job.place.prefix());
                match (before.get(key), after.get(key)) {
                    (Some(old), Some(new)) => {
                        let slot = self.slot(&place, "", old, new, true, true)?;
                        self.site(&place, &slot, old, new)?;
                    }
                    (Some(old), None) => {
                        let verdict = rules::choice_removed(place.direction);
                        let text = Some(key.clone());
                        self.say_at(&place, id("removed"), &old.pointer, text, None, verdict);
                    }
                    (_, Some(new)) => {
                        let verdict = rules::choice_added(place.direction);
                        let text = Some(key.clone());
                        self.say_at(&place, id("added"), &new.pointer, None, text, verdict);
                    }
                    (None, None) => {}
                }
            }
        }
        Ok(())
    }
}

fn tags(old: &Operation<'_>, new: &Operation<'_>) -> Vec<(String, (bool, bool))> {
    let all: BTreeSet<&String> = old.tags.iter().chain(&new.tags).collect();
    let all =
        all.into_iter().map(|tag| (tag.clone(), (new.tags.contains(tag), old.tags.contains(tag))));
    all.filter(|(_, (has, had))| has != had).collect()
}

fn slot_rust(slot: &Slot) -> Rust {
    if slot.old_type == slot.new_type { Rust::Same } else { Rust::Breaks }
}

/// A schema under a name whose kind changed: its name stays, what is in it does not.
fn bare_type_same(slot: &Slot, old: &Flat<'_>, new: &Flat<'_>) -> bool {
    slot.old_type == slot.new_type && inner_type(old) != inner_type(new)
}

/// What a scalar becomes, whatever name it has.
fn inner_type(schema: &Flat<'_>) -> &'static str {
    match (schema.kind.as_deref(), schema.format.as_deref()) {
        (Some("string"), Some("date-time")) => "time",
        (Some("string"), Some("date")) => "date",
        (Some("string"), Some("fixed-point-dollars")) => "dollars",
        (Some("string"), Some("fixed-point-count")) => "count",
        (Some("string"), Some("ip" | "ipv4" | "ipv6")) => "address",
        (Some("string"), _) => "text",
        (Some("integer"), Some("int32")) => "i32",
        (Some("integer"), _) => "i64",
        (Some("number"), Some("float")) => "f32",
        (Some("number"), _) => "f64",
        (Some("boolean"), _) => "bool",
        (Some("array"), _) => "list",
        (Some("object"), _) => "object",
        _ => "anything",
    }
}

/// The type of a place with its `Option`, and whether null and absence are read as empty there.
fn full_type<'a>(
    model: &Model<'a>,
    place: &Place,
    schema: &str,
    field: &str,
    spot: &Spot<'a>,
    required: bool,
) -> crate::error::Result<(String, bool)> {
    let bare = rust_type(model.root, spot)?;
    let content = flat(model.root, spot)?;
    let optional = !required || content.nullable;
    let inline = spot.name().is_none();
    let collection = inline && (content.is_list() || content.is_map());
    let sent = place.direction == Direction::Request || model.sent.contains(schema);
    // The cursor of a page may be missing, whatever its schema says.
    let cursor = matches!(field, "cursor" | "next_cursor")
        && place.field == field
        && schema.ends_with("Response");
    if collection && !sent {
        return Ok((bare, true));
    }
    if collection && content.is_map() && !content.nullable {
        return Ok((bare, false));
    }
    Ok(if optional || cursor { (format!("Option<{bare}>"), false) } else { (bare, false) })
}

fn field_id(place: &Place, required: bool, added: bool) -> String {
    let word = if required { "required" } else { "optional" };
    match (place.direction, place.area, added) {
        (Direction::Request, Area::Property | Area::Body, true) => {
            format!("new-{word}-request-property")
        }
        (Direction::Request, Area::Property | Area::Body, false) => {
            "request-property-removed".to_owned()
        }
        (Direction::Response, _, true) => format!("response-{word}-property-added"),
        (Direction::Response, _, false) => format!("response-{word}-property-removed"),
        (_, _, true) => format!("{}-added", place.prefix()),
        (_, _, false) => format!("{}-removed", place.prefix()),
    }
}

/// The name of a bound in ids, and whether it is an upper one.
fn bound(word: &str) -> Option<(&'static str, bool)> {
    Some(match word {
        "maximum" => ("max", true),
        "minimum" => ("min", false),
        "exclusiveMaximum" => ("exclusive-max", true),
        "exclusiveMinimum" => ("exclusive-min", false),
        "maxLength" => ("max-length", true),
        "minLength" => ("min-length", false),
        "maxItems" => ("max-items", true),
        "minItems" => ("min-items", false),
        "maxProperties" => ("max-properties", true),
        "minProperties" => ("min-properties", false),
        _ => return None,
    })
}

/// How a bound moved, and whether fewer values fit now. Bounds that are no numbers (`true`, in
/// older documents) count as tighter when they appear.
fn bound_change(
    before: Option<&Value>,
    after: Option<&Value>,
    upper: bool,
) -> (&'static str, bool) {
    match (before, after) {
        (None, _) => ("set", true),
        (_, None) => ("unset", false),
        (Some(before), Some(after)) => {
            let less = match (before.as_i64(), after.as_i64()) {
                (Some(before), Some(after)) => after < before,
                _ => after.as_f64() < before.as_f64(),
            };
            if less { ("decreased", upper) } else { ("increased", !upper) }
        }
    }
}

fn change_word<'w>(before: Option<&Value>, after: Option<&Value>, words: [&'w str; 3]) -> &'w str {
    let [added, removed, changed] = words;
    match (before, after) {
        (None, _) => added,
        (_, None) => removed,
        _ => changed,
    }
}

/// The same in every order of lists.
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

/// The first place where two values differ.
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

/// Names the operations and messages that carry each changed schema.
fn carriers(changes: &mut [Change], old: &Model<'_>, new: &Model<'_>) {
    let (before, after) = (old.carriers(), new.carriers());
    for change in changes {
        if let Some(name) = change.subject.strip_prefix("schema ") {
            let all = before.get(name).into_iter().chain(after.get(name)).flatten();
            change.carriers = all.cloned().collect::<BTreeSet<_>>().into_iter().collect();
        }
    }
}
