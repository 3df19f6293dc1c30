//! Compares two documents: what changed, and who breaks.
//!
//! Two questions for each change, because they have different answers: does a deployed client of
//! this crate fail on the wire, and does code that calls this crate still compile against the next
//! release. An added enum value breaks neither, a removed optional field breaks callers only, a
//! new required parameter breaks the wire and no build.
//!
//! `model` reads a document into operations, messages and schemas; `compare` walks two of them and
//! emits `facts`; `rules` has a verdict for each kind of fact; `judge` makes changes of both;
//! `renames` guesses; `render` writes. The comparison is about structure, not prose, and about the
//! published documents. The verdicts are about clients, which are generated from documents with
//! overlays: `client` applies those.

mod accepted;
mod client;
mod compare;
mod facts;
mod ids;
mod judge;
mod model;
mod release;
mod renames;
mod render;
mod rules;
mod schema;
mod written;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{Overlay, document, error::Result};

pub use crate::families::Kind;

pub use self::{
    accepted::Accepted,
    facts::Direction,
    ids::mirrors,
    release::Bump,
    render::Format,
    rules::{SourceImpact, WireImpact},
};

/// The weight of a change: the worse of its two verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// No deployed client and no caller has to change.
    Info,
    /// Nothing fails, but something behaves differently or is about to be removed.
    Warning,
    /// A deployed client or its callers' code fails.
    Breaking,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Breaking => "breaking",
        })
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The kind of change, in the vocabulary of oasdiff where that has a word for it. A schema that
    /// travels several ways has the id of the first of its directions.
    pub id: String,
    /// The ways that the changed part travels, each once.
    pub directions: Vec<Direction>,
    /// The part that changed: `GET /markets`, `schema Market`, `message fill`.
    pub subject: String,
    /// The part of the subject: `query limit`, `price_ranges[].step`. Empty for the whole.
    pub field: String,
    /// The place below the subject, in the new document; in the old one for what was removed.
    pub pointer: String,
    /// The place of the change itself, where the subject only refers to a shared definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// The old value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The new value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The operations, or the messages of a stream, that carry it.
    pub carriers: Vec<String>,
    /// The impact on a client that is deployed already, the worst of all directions.
    pub wire: WireImpact,
    /// The impact on code that calls the regenerated client, the worst of all directions.
    pub source: SourceImpact,
    /// The reason for both, in a sentence.
    pub why: String,
    /// A rename that this may be instead; no document states one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guess: Option<String>,
    /// Identifies this change in every run: twelve hexadecimal digits.
    pub fingerprint: String,
    /// The reason why the change was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
}

impl Change {
    /// Returns how much it matters, accepted or not.
    #[must_use]
    pub fn level(&self) -> Level {
        let refused = matches!(self.source, SourceImpact::Breaks | SourceImpact::Refuses);
        if self.wire == WireImpact::Breaks || refused {
            Level::Breaking
        } else if self.wire == WireImpact::Behaves || self.source == SourceImpact::Deprecates {
            Level::Warning
        } else {
            Level::Info
        }
    }

    /// Returns the pointer of the change itself: the definition's, if it stands elsewhere.
    #[must_use]
    pub fn place(&self) -> &str {
        self.definition.as_deref().unwrap_or(&self.pointer)
    }
}

/// The differences between two documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// OpenAPI or `AsyncAPI`.
    pub kind: Kind,
    /// The `info.version` of the old document.
    pub old_version: String,
    /// The `info.version` of the new document.
    pub new_version: String,
    /// The changes: the worst first, then in the order of subject and field.
    pub changes: Vec<Change>,
}

impl Diff {
    /// Returns the worst level of the changes that were not accepted, `None` without any.
    #[must_use]
    pub fn worst(&self) -> Option<Level> {
        self.open().map(Change::level).max()
    }

    /// Returns the changes that were not accepted.
    pub fn open(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.accepted.is_none())
    }

    /// Marks the changes that a file of accepted ones names. Returns the fingerprints in it that match
    /// no change.
    pub fn accept(&mut self, accepted: &Accepted) -> Vec<String> {
        accepted.mark(&mut self.changes)
    }

    /// Returns the version of the crate that follows from the changes, after `current`.
    ///
    /// # Errors
    ///
    /// `current` is not a version of three numbers.
    pub fn next_version(&self, current: &str) -> Result<Bump> {
        release::bump(current, self)
    }

    /// Renders the changes.
    #[must_use]
    pub fn render(&self, format: Format, context: &Context<'_>) -> String {
        render::render(self, format, context)
    }
}

/// Facts for a report beside the changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The current version of the crate; without it no report names a release.
    pub version: Option<&'a str>,
    /// The file that annotations point at.
    pub file: Option<&'a str>,
    /// The text of that file, for line numbers.
    pub text: Option<&'a str>,
}

/// Compares two documents of one kind, both OpenAPI 3 or both `AsyncAPI` 3, as YAML or JSON. The
/// verdicts are those for clients of the documents as they are.
///
/// # Errors
///
/// One of them cannot be read; the error names the place, and the [`Side`] which document.
pub fn diff(old: &str, new: &str) -> std::result::Result<Diff, (Side, crate::Error)> {
    diff_with_overlays(old, new, &[])
}

/// Compares two documents like [`diff`], with verdicts for clients that are generated with these
/// overlays: a field that they make optional, or declare before the document does, breaks nothing.
/// What changed is still said of the published documents.
///
/// # Errors
///
/// One of the documents cannot be read, or an overlay cannot be applied; the error names the
/// place, and the [`Side`] which document.
pub fn diff_with_overlays(
    old: &str,
    new: &str,
    overlays: &[Overlay],
) -> std::result::Result<Diff, (Side, crate::Error)> {
    let of_old = |error| (Side::Old, error);
    let of_new = |error| (Side::New, error);
    let old_value = document::parse(old).map_err(of_old)?;
    let new_value = document::parse(new).map_err(of_new)?;
    let old = model::read(&old_value).map_err(of_old)?;
    let new = model::read(&new_value).map_err(of_new)?;
    if old.kind != new.kind {
        let message = format!(
            "this is {}, the other document is {}: compare two documents of one kind",
            new.kind, old.kind
        );
        return Err((Side::New, crate::Error::new("", message)));
    }
    let overlays = (!overlays.is_empty()).then(|| client::Overlays::new(overlays));
    let applied = |value: &Value| -> Result<Option<Value>> {
        overlays.as_ref().map(|overlays| overlays.apply(value)).transpose()
    };
    let old_applied = applied(&old_value).map_err(of_old)?;
    let new_applied = applied(&new_value).map_err(of_new)?;
    let old_client = old_applied.as_ref().map(model::read).transpose().map_err(of_old)?;
    let new_client = new_applied.as_ref().map(model::read).transpose().map_err(of_new)?;
    let facts = compare::compare(
        compare::Edition { published: &old, client: old_client.as_ref() },
        compare::Edition { published: &new, client: new_client.as_ref() },
    )?;
    let mut changes = judge::changes(facts, &old.carriers(), &new.carriers());
    renames::guess(&mut changes, &old, &new);
    changes.sort_by(|a, b| {
        let key = |c: &Change| (std::cmp::Reverse(c.level()), c.subject.clone(), c.field.clone());
        key(a)
            .cmp(&key(b))
            .then_with(|| (&a.id, &a.before, &a.after).cmp(&(&b.id, &b.before, &b.after)))
    });
    Ok(Diff { kind: new.kind, old_version: old.version, new_version: new.version, changes })
}

/// The document that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The document to compare with.
    Old,
    /// The document that replaces it.
    New,
}
