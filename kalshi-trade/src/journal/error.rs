//! The error of a journal.

use std::{fmt, io, path::Path};

/// The error of a journal.
///
/// It names the file, and for a damaged one the byte. Nothing of an intent that it is about was
/// sent: a record is written before the first byte of a request is.
pub struct JournalError {
    kind: JournalErrorKind,
    text: String,
    offset: Option<u64>,
    source: Option<io::Error>,
}

/// The kind of a failure of a journal, by what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JournalErrorKind {
    /// Another process, or another part of this one, has the journal open. Stop it, or give each a
    /// journal of its own.
    Locked,
    /// The file is damaged before its last line. Do not trade from it: keep a copy, compare the
    /// account's open orders with what should be there, and begin a new journal.
    Corrupt,
    /// The file is no journal, or one of a later version of this crate. Check the path, or update.
    Version,
    /// The file could not be read or written. Free space or repair the disk, then open it again.
    Io,
    /// An earlier write failed, so the journal takes nothing more. Open it again, once everything that
    /// places under it is dropped.
    Poisoned,
    /// The record does not follow from what the journal has: an id that is in use for another
    /// order, or is not known. It was not written, and the journal goes on.
    Invalid,
}

impl JournalError {
    pub(crate) fn new(kind: JournalErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), offset: None, source: None }
    }

    pub(super) fn io(action: &str, path: &Path, source: io::Error) -> Self {
        let text = format!("could not {action} the journal {}", path.display());
        Self { kind: JournalErrorKind::Io, text, offset: None, source: Some(source) }
    }

    pub(super) fn corrupt(path: &Path, offset: u64, why: &str) -> Self {
        let text = format!("the journal {} is damaged at byte {offset}: {why}", path.display());
        Self { kind: JournalErrorKind::Corrupt, text, offset: Some(offset), source: None }
    }

    pub(super) fn poisoned() -> Self {
        Self::new(
            JournalErrorKind::Poisoned,
            "an earlier write to the journal failed: open it again before anything is placed",
        )
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> JournalErrorKind {
        self.kind
    }

    /// Returns the byte at which the line begins that is damaged.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }
}

impl fmt::Debug for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalError")
            .field("kind", &self.kind)
            .field("text", &self.text)
            .field("offset", &self.offset)
            .field("source", &self.source)
            .finish()
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
