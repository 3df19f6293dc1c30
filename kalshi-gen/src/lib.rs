//! Turns the published documents of the Kalshi APIs into Rust.
//!
//! Generation pipeline: `document` reads a document untyped, `overlay` applies our corrections and
//! descriptions, `normalize` brings it into the form that progenitor can take (or refuses it, with
//! a JSON pointer), `emit` runs progenitor and makes what progenitor does not make (open enums, the
//! operation table, streams over pages), and `refine` rewrites the tokens that come out. `asyncapi`
//! takes the messages of a document of streams out of their envelopes first. `families` lists the
//! documents that this workspace follows.
//!
//! Deterministic: no clock, no network, no environment; the same input gives the same bytes.
//! It never writes a file; the command behind `cargo gen` does.
//!
//! The feature `review`, on by default as a part of `cli`, adds what compares and reviews documents:
//! `diff`, `coverage`, `review`, `import`. A build script goes without.

mod asyncapi;
mod body_schemas;
#[cfg(feature = "review")]
mod coverage;
#[cfg(feature = "review")]
pub mod diff;
mod docs;
mod document;
mod drift_schema;
mod emit;
mod error;
mod families;
mod files;
mod handlers;
#[cfg(feature = "review")]
pub mod import;
mod json_path;
mod locate;
mod merge;
mod names;
mod normalize;
mod operations;
mod overlay;
mod refine;
#[cfg(feature = "review")]
mod review;
mod samples;
pub mod shipped;

pub use crate::{
    asyncapi::MessageModel,
    document::parse,
    error::{Error, Result},
    families::{FAMILIES, Family, Kind, Surface, generate_any, kind},
    files::{read, read_overlays},
    normalize::{Access, EnumValue, Label, Labels, Normalized, OpenEnum, Report},
    operations::{OperationModel, PaginationModel, ParameterModel},
    overlay::{Applied, Overlay, Unmatched},
};
#[cfg(feature = "review")]
pub use crate::{coverage::Coverage, review::Review};

/// Everything that one document and its overlays turn into.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The Rust code, unformatted: it is not read in `OUT_DIR`.
    pub code: String,
    /// A function that calls any operation by its name, for tests that walk the whole table.
    pub dispatch: String,
    /// A trait with one method for each operation, for servers.
    pub handlers: String,
    /// The document after every pass, and how often each fired.
    pub normalized: Normalized,
    /// The outcome of the overlays.
    pub applied: Applied,
    /// The operation table.
    pub operations: Vec<OperationModel>,
    /// The channels and messages of streams; none in a document of operations.
    pub messages: Vec<MessageModel>,
}

impl Generated {
    /// Returns the files that the crate of the document is compiled from, as names and texts.
    #[must_use]
    pub fn files(&self) -> Vec<(String, String)> {
        let prefix = self.normalized.surface.prefix;
        let files = shipped::FILES.into_iter().zip([&self.code, &self.handlers]);
        let there = files.filter(|(_, text)| !text.is_empty());
        there.map(|(name, text)| (format!("{prefix}{name}"), text.clone())).collect()
    }
}

#[cfg(feature = "review")]
impl Generated {
    /// Returns which items of the document are documented.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        coverage::coverage(self)
    }

    /// Returns the files under review, made from the same document.
    #[must_use]
    pub fn review(&self) -> Review {
        review::review(self)
    }
}

/// Generates the client from a document and the overlays that belong to it, for a crate that holds no
/// other.
///
/// # Errors
///
/// The first thing that cannot be generated, with its JSON pointer; also an overlay action that
/// matches nothing, unless `unmatched` says to count those.
pub fn generate(document: &str, overlays: &[Overlay], unmatched: Unmatched) -> Result<Generated> {
    generate_for(document, overlays, unmatched, Surface::ROOT)
}

/// Does the same as [`generate`], for another place in a crate.
pub(crate) fn generate_for(
    document: &str,
    overlays: &[Overlay],
    unmatched: Unmatched,
    surface: Surface,
) -> Result<Generated> {
    let read = || -> Result<(serde_json::Value, Applied)> {
        let mut document = parse(document)?;
        normalize::write_out_references(&mut document);
        let mut applied = Applied::default();
        for overlay in overlays {
            overlay::apply(&mut document, overlay, unmatched, &mut applied)?;
        }
        Ok((document, applied))
    };
    let (document, applied) = read()?;
    from_document(document, applied, surface).map_err(|error| match read() {
        Ok((document, _)) => error.at_a_place_of(&document),
        Err(_) => error,
    })
}

/// Generates the messages and commands of the WebSocket API from its `AsyncAPI` document and the
/// overlays that belong to it.
///
/// # Errors
///
/// As with [`generate`].
pub fn generate_streams(
    document: &str,
    overlays: &[Overlay],
    unmatched: Unmatched,
) -> Result<Generated> {
    match Family::of_file("asyncapi.yaml") {
        Some(family) => family.generate(document, overlays, unmatched),
        None => generate_any(document, overlays, unmatched),
    }
}

/// Writes the shared parameters, request bodies and responses of a document out where operations
/// refer to them, as it is done before overlays are applied: for what addresses each in its place.
#[must_use]
pub fn written_out(mut document: serde_json::Value) -> serde_json::Value {
    normalize::write_out_references(&mut document);
    normalize::forget_origins(&mut document);
    document
}

fn from_document(
    document: serde_json::Value,
    applied: Applied,
    surface: Surface,
) -> Result<Generated> {
    let bodies = body_schemas::collect(&document);
    let normalized = Normalized { surface, ..normalize::normalize(document)? };
    let operations =
        operations::model(&normalized).map_err(|error| normalized.moves.published(error))?;
    let (mut code, dispatch) = emit::emit(&normalized, &operations)?;
    let shapes = drift_schema::shapes(&normalized, &operations)
        .map_err(|error| normalized.moves.published(error))?;
    code += &quote::quote!(pub(crate) const SHAPES: &str = #shapes;).to_string();
    code += &body_schemas::emit(&operations, &bodies).to_string();
    let handlers = handlers::emit(&operations, &normalized.surface);
    Ok(Generated {
        code,
        dispatch,
        handlers,
        normalized,
        applied,
        operations,
        messages: Vec::new(),
    })
}
