//! From facts to verdicts: what this crate does with each kind of change.
//!
//! What the rules know of the client: unknown fields are ignored, enums of text are open, bounds
//! and defaults are left to the server, a list or map of a response may be null or missing, an
//! optional field may be null or missing, everything else of a response must be there and read.
//! Builders check required parts when they run, not when they compile. Structs are
//! `non_exhaustive`, so that a new field breaks nobody.

use std::fmt;

use serde::Serialize;

use super::schema::Reading;

/// Which way a changed part travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the client to the exchange.
    Request,
    /// From the exchange to the client, as a success or on a stream.
    Response,
    /// From the exchange to the client, as a failure: one error, whatever its body.
    Error,
    /// Neither: a part of the document as such.
    Document,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Error => "error",
            Self::Document => "document",
        })
    }
}

/// What happens to a client that is deployed already, when the exchange goes over to the new
/// document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// Every call goes on as before.
    Works,
    /// Calls succeed and may mean something else.
    Behaves,
    /// Some call that worked fails.
    Breaks,
}

/// What happens to code that calls this crate, when it is generated anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rust {
    /// The API is the same.
    Same,
    /// The API grows.
    Adds,
    /// The compiler warns.
    Deprecates,
    /// Compiles, and is refused by the client itself, before sending.
    Refuses,
    /// Does not compile.
    Breaks,
}

/// Both verdicts, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) wire: Wire,
    pub(super) rust: Rust,
    pub(super) why: &'static str,
}

pub(super) fn verdict(wire: Wire, rust: Rust, why: &'static str) -> Verdict {
    Verdict { wire, rust, why }
}

/// What is known of a place where a schema is used: a field, a parameter, an element, a body.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that are independent")]
pub(super) struct Slot {
    pub(super) old_type: String,
    pub(super) new_type: String,
    pub(super) new_required: bool,
    /// The old client reads null.
    pub(super) reads_null: bool,
    /// The old client reads a response in which it is missing.
    pub(super) reads_absence: bool,
    /// The old client can send null: required and nullable.
    pub(super) sends_null: bool,
}

impl Slot {
    fn rust(&self) -> Rust {
        if self.old_type == self.new_type { Rust::Same } else { Rust::Breaks }
    }
}

pub(super) fn field_added(direction: Direction, slot: &Slot) -> Verdict {
    match direction {
        Direction::Request if slot.new_required => verdict(
            Wire::Breaks,
            Rust::Refuses,
            "deployed clients do not send it; builders compile without it and then fail",
        ),
        Direction::Request => verdict(Wire::Works, Rust::Adds, "it may be left out"),
        Direction::Response => verdict(Wire::Works, Rust::Adds, "unknown fields are ignored"),
        Direction::Error => verdict(Wire::Works, Rust::Adds, "errors are read whatever they hold"),
        Direction::Document => verdict(Wire::Works, Rust::Adds, "no operation carries it"),
    }
}

pub(super) fn field_removed(direction: Direction, slot: &Slot) -> Verdict {
    match direction {
        Direction::Request => verdict(
            Wire::Behaves,
            Rust::Breaks,
            "deployed clients still send it, to be ignored or refused; the field is gone in Rust",
        ),
        Direction::Response if slot.reads_absence => verdict(
            Wire::Works,
            Rust::Breaks,
            "deployed clients read a response without it; the field is gone in Rust",
        ),
        Direction::Response => verdict(
            Wire::Breaks,
            Rust::Breaks,
            "deployed clients cannot read a response without it; the field is gone in Rust",
        ),
        Direction::Error => verdict(
            Wire::Works,
            Rust::Breaks,
            "errors are read whatever they hold; the field is gone in Rust",
        ),
        Direction::Document => {
            verdict(Wire::Works, Rust::Breaks, "no operation carries it; the field is gone in Rust")
        }
    }
}

pub(super) fn parameter_added(required: bool) -> Verdict {
    if required {
        verdict(
            Wire::Breaks,
            Rust::Refuses,
            "deployed clients do not send it; calls compile without it and are refused before sending",
        )
    } else {
        verdict(Wire::Works, Rust::Adds, "it may be left out")
    }
}

pub(super) fn became_required(direction: Direction, slot: &Slot, parameter: bool) -> Verdict {
    match direction {
        Direction::Request if parameter => verdict(
            Wire::Breaks,
            Rust::Refuses,
            "deployed clients may leave it out; calls that do so compile and are refused before sending",
        ),
        Direction::Request => verdict(
            Wire::Breaks,
            slot.rust().max(Rust::Refuses),
            "deployed clients may leave it out",
        ),
        _ => verdict(Wire::Works, slot.rust(), "it is there more often than before"),
    }
}

pub(super) fn became_optional(direction: Direction, slot: &Slot, parameter: bool) -> Verdict {
    match direction {
        Direction::Request if parameter => {
            verdict(Wire::Works, Rust::Adds, "setters take it as before")
        }
        Direction::Request => verdict(Wire::Works, slot.rust(), "it is sent as before"),
        Direction::Response if !slot.reads_absence => {
            verdict(Wire::Breaks, slot.rust(), "deployed clients cannot read a response without it")
        }
        Direction::Response => {
            verdict(Wire::Works, slot.rust(), "deployed clients read a response without it")
        }
        _ => verdict(Wire::Works, slot.rust(), "no success carries it"),
    }
}

pub(super) fn became_nullable(direction: Direction, slot: &Slot) -> Verdict {
    match direction {
        Direction::Response if !slot.reads_null => {
            verdict(Wire::Breaks, slot.rust(), "deployed clients cannot read null here")
        }
        Direction::Response => verdict(Wire::Works, slot.rust(), "deployed clients read null here"),
        Direction::Request => verdict(Wire::Works, slot.rust(), "it is sent as before"),
        _ => verdict(Wire::Works, slot.rust(), "no success carries it"),
    }
}

pub(super) fn became_not_nullable(direction: Direction, slot: &Slot) -> Verdict {
    match direction {
        Direction::Request if slot.sends_null => {
            verdict(Wire::Breaks, slot.rust(), "deployed clients can send null here")
        }
        Direction::Request => verdict(Wire::Works, slot.rust(), "no client sends null here"),
        _ => verdict(Wire::Works, slot.rust(), "deployed clients read what is there"),
    }
}

/// `forward`: the old type reads what is sent now; `backward`: the new one would read what the old
/// client sends.
pub(super) fn type_changed(
    direction: Direction,
    slot: &Slot,
    forward: Reading,
    backward: Reading,
    in_text: bool,
) -> Verdict {
    let rust = slot.rust();
    match direction {
        Direction::Response => match forward {
            Reading::Reads => {
                verdict(Wire::Works, rust, "the type that was reads what is sent now")
            }
            Reading::Guesses => verdict(
                Wire::Behaves,
                rust,
                "a whole number is read as whole dollars or contracts, which it may not be",
            ),
            Reading::Fails => {
                verdict(Wire::Breaks, rust, "the type that was cannot read what is sent now")
            }
        },
        Direction::Request if in_text && slot.new_type == "String" => {
            verdict(Wire::Works, rust, "in a URL everything is text")
        }
        Direction::Request => match backward {
            Reading::Reads => verdict(Wire::Works, rust, "what is sent fits the new type"),
            _ => {
                verdict(Wire::Breaks, rust, "what deployed clients send does not fit the new type")
            }
        },
        _ => verdict(Wire::Works, rust, "no success carries it"),
    }
}

pub(super) fn value_added(direction: Direction) -> Verdict {
    match direction {
        Direction::Response => verdict(
            Wire::Works,
            Rust::Adds,
            "enums are open: deployed clients keep the text of an unknown value",
        ),
        _ => verdict(Wire::Works, Rust::Adds, "one more value to choose"),
    }
}

pub(super) fn value_removed(direction: Direction, in_rust: bool) -> Verdict {
    let rust = if in_rust { Rust::Breaks } else { Rust::Same };
    match direction {
        Direction::Request => {
            verdict(Wire::Breaks, rust, "deployed clients may send it; the variant is gone in Rust")
        }
        _ => verdict(Wire::Works, rust, "it is not sent any more; the variant is gone in Rust"),
    }
}

pub(super) fn became_enum(direction: Direction, slot: &Slot) -> Verdict {
    match direction {
        Direction::Request => {
            verdict(Wire::Breaks, slot.rust(), "deployed clients may send other values")
        }
        _ => verdict(Wire::Works, slot.rust(), "text is read as text"),
    }
}

pub(super) fn became_not_enum(slot: &Slot) -> Verdict {
    verdict(Wire::Works, slot.rust(), "enums are open: any text is read and sent")
}

pub(super) fn default_changed(direction: Direction) -> Verdict {
    match direction {
        Direction::Request => verdict(
            Wire::Behaves,
            Rust::Same,
            "clients that leave it out send nothing, so the exchange's new default applies to them",
        ),
        _ => verdict(Wire::Works, Rust::Same, "defaults of responses are not used"),
    }
}

pub(super) fn bound_changed(direction: Direction, tighter: bool) -> Verdict {
    match direction {
        Direction::Request if tighter => {
            verdict(Wire::Breaks, Rust::Same, "the exchange refuses values that it took")
        }
        Direction::Request => {
            verdict(Wire::Works, Rust::Same, "the exchange takes more than before")
        }
        _ => verdict(Wire::Works, Rust::Same, "the client checks no bounds of what it reads"),
    }
}

pub(super) fn choice_added(direction: Direction) -> Verdict {
    match direction {
        Direction::Response => verdict(
            Wire::Breaks,
            Rust::Breaks,
            "choices are closed: deployed clients read the old ones",
        ),
        _ => {
            verdict(Wire::Works, Rust::Breaks, "choices are closed: matches must name the new one")
        }
    }
}

pub(super) fn choice_removed(direction: Direction) -> Verdict {
    match direction {
        Direction::Request => {
            verdict(Wire::Breaks, Rust::Breaks, "deployed clients may send it; it is gone in Rust")
        }
        _ => verdict(Wire::Works, Rust::Breaks, "it is not sent any more; it is gone in Rust"),
    }
}

/// Every id that stands alone, with the ids that the same change has when it is undone. Ids of
/// schemas are made of a place and a change: see [`mirrors`].
const MIRRORS: [(&str, &[&str]); 21] = [
    ("endpoint-added", &["api-removed-without-deprecation", "api-removed-with-deprecation"]),
    ("api-operation-id-updated", &["api-operation-id-updated"]),
    ("endpoint-deprecated", &["endpoint-reactivated"]),
    ("api-tag-added", &["api-tag-removed"]),
    ("api-security-added", &["api-security-removed"]),
    ("new-required-request-parameter", &["request-parameter-removed"]),
    ("new-optional-request-parameter", &["request-parameter-removed"]),
    ("new-required-request-property", &["request-property-removed"]),
    ("new-optional-request-property", &["request-property-removed"]),
    ("request-body-added-required", &["request-body-removed"]),
    ("request-body-added-optional", &["request-body-removed"]),
    ("response-required-property-added", &["response-required-property-removed"]),
    ("response-optional-property-added", &["response-optional-property-removed"]),
    ("response-success-status-added", &["response-success-status-removed"]),
    ("response-non-success-status-added", &["response-non-success-status-removed"]),
    ("schema-added", &["schema-removed"]),
    ("channel-added", &["channel-removed"]),
    ("channel-message-added", &["channel-message-removed"]),
    ("message-added", &["message-removed"]),
    ("message-direction-changed", &["message-direction-changed"]),
    ("document-changed", &["document-changed"]),
];

/// The ids that the same change may have when it is undone.
#[must_use]
pub fn mirrors(id: &str) -> Vec<String> {
    const ENDS: [(&str, &str); 15] = [
        ("-added", "-removed"),
        ("-became-required", "-became-optional"),
        ("-became-nullable", "-became-not-nullable"),
        ("-became-enum", "-became-not-enum"),
        ("-enum-value-added", "-enum-value-removed"),
        ("-one-of-added", "-one-of-removed"),
        ("-any-of-added", "-any-of-removed"),
        ("-increased", "-decreased"),
        ("-set", "-unset"),
        ("-deprecated", "-reactivated"),
        ("-default-value-added", "-default-value-removed"),
        ("-pattern-added", "-pattern-removed"),
        ("-media-type-added", "-media-type-removed"),
        ("-property-added", "-property-removed"),
        ("-error-code-added", "-error-code-removed"),
    ];
    let mut found: Vec<String> = Vec::new();
    for (one, others) in MIRRORS {
        if one == id {
            found.extend(others.iter().map(|&other| other.to_owned()));
        }
        if others.contains(&id) {
            found.push(one.to_owned());
        }
    }
    for (one, other) in ENDS {
        // `-unset` ends with `set`, but not with `-set`.
        if let Some(stem) = id.strip_suffix(one) {
            found.push(format!("{stem}{other}"));
        }
        if let Some(stem) = id.strip_suffix(other) {
            found.push(format!("{stem}{one}"));
        }
    }
    if id.ends_with("-changed") || id.ends_with("-renamed") {
        found.push(id.to_owned());
    }
    found.sort();
    found.dedup();
    found
}
