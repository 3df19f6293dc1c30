//! What changed between two documents, and who breaks.
//!
//! Two questions for each change, because they have different answers: does a client of this crate
//! that is already deployed fail on the wire, and does code that calls this crate still compile
//! against the next release. An added enum value breaks neither, a removed optional field breaks
//! callers only, a new required parameter breaks the wire and no build.
//!
//! `model` reads a document into operations, messages and schemas; `compare` walks two of them and
//! collects facts; `rules` turns facts into verdicts; `renames` guesses; `render` writes.
//! Compares structure, not prose; it reads the published documents, before any overlay.

mod accepted;
mod compare;
mod model;
mod release;
mod renames;
mod render;
mod rules;
mod schema;

use std::fmt;

use serde::Serialize;

use crate::{document, error::Result};

pub use self::{
    accepted::Accepted,
    model::Kind,
    release::Bump,
    render::Format,
    rules::{Direction, Rust, Wire, mirrors},
};

/// How much a change matters: the worse of its two verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nobody has to do anything.
    Info,
    /// Nothing fails, but something answers differently or is about to leave.
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
    /// What kind of change, in the vocabulary of oasdiff where that has a word for it.
    pub id: String,
    /// Which way the changed part travels.
    pub direction: Direction,
    /// What was changed: `GET /markets`, `schema Market`, `message fill`.
    pub subject: String,
    /// The part of the subject: `query limit`, `price_ranges[].step`. Empty for the whole.
    pub field: String,
    /// The place in the new document; in the old one for what was removed.
    pub pointer: String,
    /// What stood there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What stands there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The operations, or the messages of a stream, that carry it.
    pub carriers: Vec<String>,
    /// What happens to a client that is deployed already.
    pub wire: Wire,
    /// What happens to code that calls the regenerated client.
    pub rust: Rust,
    /// Why, in a sentence.
    pub why: String,
    /// What it may be instead: a rename, which no document states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guess: Option<String>,
    /// Names this change, in every run: twelve hexadecimal digits.
    pub fingerprint: String,
    /// Why it was accepted, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
}

impl Change {
    /// How much it matters, accepted or not.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.wire == Wire::Breaks || matches!(self.rust, Rust::Breaks | Rust::Refuses) {
            Level::Breaking
        } else if self.wire == Wire::Behaves || self.rust == Rust::Deprecates {
            Level::Warning
        } else {
            Level::Info
        }
    }
}

/// What two documents differ in.
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
    /// The worst level of what was not accepted, `None` if there is nothing.
    #[must_use]
    pub fn worst(&self) -> Option<Level> {
        self.open().map(Change::level).max()
    }

    /// The changes that nobody accepted yet.
    pub fn open(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.accepted.is_none())
    }

    /// Marks the changes that a file of accepted ones names. Returns its entries that name none.
    pub fn accept(&mut self, accepted: &Accepted) -> Vec<String> {
        accepted.mark(&mut self.changes)
    }

    /// The version of the crate that follows from the changes, after `current`.
    ///
    /// # Errors
    ///
    /// `current` is no version of three numbers.
    pub fn next_version(&self, current: &str) -> Result<Bump> {
        release::bump(current, self)
    }

    /// The changes as text.
    #[must_use]
    pub fn render(&self, format: Format, context: &Context<'_>) -> String {
        render::render(self, format, context)
    }
}

/// What a report needs beside the changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The version of the crate now, if the bump is to be named.
    pub version: Option<&'a str>,
    /// The file that annotations point at.
    pub file: Option<&'a str>,
    /// The text of that file, for line numbers.
    pub text: Option<&'a str>,
}

/// Compares two documents of one kind, both OpenAPI 3 or both `AsyncAPI` 3, as YAML or JSON.
///
/// # Errors
///
/// One of them cannot be read; the error names the place, and the [`Side`] which.
pub fn diff(old: &str, new: &str) -> std::result::Result<Diff, (Side, crate::Error)> {
    let old_value = document::parse(old).map_err(|error| (Side::Old, error))?;
    let new_value = document::parse(new).map_err(|error| (Side::New, error))?;
    let old = model::read(&old_value).map_err(|error| (Side::Old, error))?;
    let new = model::read(&new_value).map_err(|error| (Side::New, error))?;
    if old.kind != new.kind {
        let message = format!("this is {}, the other document is {}", new.kind, old.kind);
        return Err((Side::New, crate::Error::new("", message)));
    }
    let mut changes = compare::compare(&old, &new)?;
    renames::guess(&mut changes, &old, &new);
    changes.sort_by(|a, b| {
        let key = |c: &Change| (std::cmp::Reverse(c.level()), c.subject.clone(), c.field.clone());
        key(a).cmp(&key(b)).then_with(|| (&a.id, a.direction).cmp(&(&b.id, b.direction)))
    });
    Ok(Diff { kind: new.kind, old_version: old.version, new_version: new.version, changes })
}

/// Which of the two documents an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was.
    Old,
    /// The one that is to be.
    New,
}
