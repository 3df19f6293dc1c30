//! Turns the OpenAPI document of the Kalshi Trade API into a Rust client.
//!
//! The way of a document: `document` reads it untyped, `overlay` applies our corrections and
//! words, `normalise` brings it into the form that progenitor can take (or refuses it, with a
//! JSON pointer), `emit` runs progenitor and makes what progenitor does not make (open enums, the
//! operation table, streams over pages), and `refine` rewrites the tokens that come out.
//!
//! Deterministic: no clock, no network, no environment; the same input gives the same bytes.
//! It never writes a file; the command behind `cargo gen` does.

mod coverage;
pub mod diff;
mod document;
mod emit;
mod error;
mod files;
mod locate;
mod names;
mod normalise;
mod operations;
mod overlay;
mod refine;
mod review;
mod shapes;
mod stream;
pub mod vendor;

pub use crate::{
    coverage::Coverage,
    document::parse,
    error::{Error, Result},
    files::{read, read_overlays},
    normalise::{EnumValue, Normalised, OpenEnum, Report},
    operations::{OperationModel, PaginationModel, ParameterModel},
    overlay::{Applied, Overlay, Unmatched},
    review::Review,
    stream::{MessageModel, generate_streams},
};

/// Everything that one document and its overlays turn into.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The Rust code, unformatted: nobody reads it in `OUT_DIR`.
    pub code: String,
    /// A function that calls any operation by its name, for tests that walk the whole table.
    pub dispatch: String,
    /// The document after every pass, and how often each fired.
    pub normalised: Normalised,
    /// How the overlays fared.
    pub applied: Applied,
    /// The operation table.
    pub operations: Vec<OperationModel>,
    /// The channels and messages of streams; none in a document of operations.
    pub messages: Vec<MessageModel>,
}

impl Generated {
    /// Which parts of the document have words.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        coverage::coverage(self)
    }

    /// The files under review, made from the same document.
    #[must_use]
    pub fn review(&self) -> Review {
        review::review(self)
    }
}

/// Generates the client from a document and the overlays that belong to it.
///
/// # Errors
///
/// The first thing that cannot be generated, with its JSON pointer; also an overlay action that
/// matches nothing, unless `unmatched` says to count those.
pub fn generate(document: &str, overlays: &[Overlay], unmatched: Unmatched) -> Result<Generated> {
    let read = || -> Result<(serde_json::Value, Applied)> {
        let mut document = parse(document)?;
        normalise::write_out_references(&mut document);
        let mut applied = Applied::default();
        for overlay in overlays {
            overlay::apply(&mut document, overlay, unmatched, &mut applied)?;
        }
        Ok((document, applied))
    };
    let (document, applied) = read()?;
    from_document(document, applied).map_err(|error| match read() {
        Ok((document, _)) => error.at_a_place_of(&document),
        Err(_) => error,
    })
}

/// Writes the shared parameters, request bodies and responses of a document out where operations
/// refer to them, as it is done before overlays are applied: for what addresses each in its place.
#[must_use]
pub fn written_out(mut document: serde_json::Value) -> serde_json::Value {
    normalise::write_out_references(&mut document);
    normalise::forget_origins(&mut document);
    document
}

fn from_document(document: serde_json::Value, applied: Applied) -> Result<Generated> {
    let normalised = normalise::normalise(document)?;
    let operations =
        operations::model(&normalised).map_err(|error| normalised.moves.published(error))?;
    let (mut code, dispatch) = emit::emit(&normalised, &operations)?;
    let shapes = shapes::shapes(&normalised, &operations);
    code += &quote::quote!(pub(crate) const SHAPES: &str = #shapes;).to_string();
    Ok(Generated { code, dispatch, normalised, applied, operations, messages: Vec::new() })
}
