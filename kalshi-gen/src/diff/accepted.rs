//! Changes that were reviewed and accepted, with the reason.

use serde::Deserialize;

use super::Change;
use crate::error::{Error, Result};

/// A file of accepted changes:
///
/// ```yaml
/// - fingerprint: 0123456789ab
///   reason: The field was never sent.
/// ```
#[derive(Clone, Debug, Default)]
pub struct Accepted(Vec<Entry>);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    fingerprint: String,
    reason: String,
}

impl Accepted {
    /// Parses the text of such a file.
    ///
    /// # Errors
    ///
    /// The text is not a list of fingerprints with reasons, a reason is empty, or a fingerprint is in
    /// the list twice.
    pub fn parse(text: &str) -> Result<Self> {
        let value = crate::parse(text)?;
        if value.is_null() {
            return Ok(Self::default());
        }
        let entries: Vec<Entry> = serde_json::from_value(value)
            .map_err(|error| Error::new("", format!("not a list of accepted changes: {error}")))?;
        for (index, entry) in entries.iter().enumerate() {
            let at = |key| format!("/{index}/{key}");
            let hex = entry.fingerprint.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
            if entry.fingerprint.len() != 12 || !hex {
                return Err(Error::new(
                    at("fingerprint"),
                    "must be twelve hexadecimal digits, in quotes",
                ));
            }
            if entry.reason.trim().is_empty() {
                return Err(Error::new(at("reason"), "must say why the change was accepted"));
            }
            if entries.iter().take(index).any(|other| other.fingerprint == entry.fingerprint) {
                return Err(Error::new(at("fingerprint"), "is in this list twice"));
            }
        }
        Ok(Self(entries))
    }

    /// Marks what is accepted; returns the fingerprints that match nothing.
    pub(super) fn mark(&self, changes: &mut [Change]) -> Vec<String> {
        let mut unused = Vec::new();
        for entry in &self.0 {
            let mut used = false;
            for change in changes.iter_mut().filter(|c| c.fingerprint == entry.fingerprint) {
                change.accepted = Some(entry.reason.trim().to_owned());
                used = true;
            }
            if !used {
                unused.push(entry.fingerprint.clone());
            }
        }
        unused
    }
}
