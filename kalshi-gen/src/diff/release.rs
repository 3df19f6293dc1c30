//! Which version of the crate follows from a set of changes.

use std::fmt;

use super::{
    Diff,
    rules::{SourceImpact, WireImpact},
};
use crate::error::{Error, Result};

/// The next version of the crate, and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bump {
    /// `major`, `minor`, `patch` or `none`.
    pub part: &'static str,
    /// The version, without build metadata.
    pub version: String,
    /// A sentence.
    pub why: &'static str,
    /// Deployed clients fail already: the release is urgent.
    pub urgent: bool,
}

impl fmt::Display for Bump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} release {}: {}", self.part, self.version, self.why)?;
        if self.urgent {
            f.write_str("; deployed clients fail on the wire, publish it at once")?;
        }
        Ok(())
    }
}

/// Counts accepted changes too: accepting a break does not make it compile.
pub(super) fn bump(current: &str, diff: &Diff) -> Result<Bump> {
    let numbers: Vec<u64> = current
        .split(['+', '-'])
        .next()
        .unwrap_or_default()
        .split('.')
        .map_while(|n| n.parse().ok())
        .collect();
    let &[major, minor, patch] = numbers.as_slice() else {
        return Err(Error::new(
            "",
            format!("`{current}` is not a version of three numbers, such as 0.4.0"),
        ));
    };
    let has =
        |wanted: &[SourceImpact]| diff.changes.iter().any(|change| wanted.contains(&change.source));
    let urgent = diff.changes.iter().any(|change| change.wire == WireImpact::Breaks);
    let (part, why) = if diff.changes.is_empty() {
        ("none", "nothing changed")
    } else if has(&[SourceImpact::Breaks, SourceImpact::Refuses]) {
        (if major == 0 { "minor" } else { "major" }, "code that calls this crate breaks")
    } else if has(&[SourceImpact::Adds, SourceImpact::Deprecates]) {
        (if major == 0 { "patch" } else { "minor" }, "the Rust API grows")
    } else {
        ("patch", "the Rust API stays as it is")
    };
    let version = match part {
        "major" => format!("{}.0.0", major.saturating_add(1)),
        "minor" => format!("{major}.{}.0", minor.saturating_add(1)),
        "patch" => format!("{major}.{minor}.{}", patch.saturating_add(1)),
        _ => format!("{major}.{minor}.{patch}"),
    };
    Ok(Bump { part, version, why, urgent })
}
