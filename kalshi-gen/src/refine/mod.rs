//! Rewrites the tokens that progenitor gives back.
//!
//! Tokens are cut into items without parsing them: most need no change, and parsing all 45,000
//! lines took longer (0.8 s in an unoptimised build script) than generating them. Only structs are
//! parsed. A place that does not look as expected is an error, never a silent pass.

mod builders;
mod requests;
mod send;
mod tokens;
mod types;

use std::collections::BTreeMap;

use proc_macro2::TokenStream;

use self::tokens::items;
pub(crate) use self::tokens::{bare, element};
use crate::{
    docs::Links,
    error::{Result, refuse},
    normalize::Normalized,
    operations::OperationModel,
};

/// The parts of progenitor's output that are kept. The client itself is ours.
pub(crate) struct Parts {
    pub(crate) types: TokenStream,
    pub(crate) builders: TokenStream,
    /// The type of each parameter, by the names of builder and parameter.
    pub(crate) parameters: ParameterTypes,
}

pub(crate) type ParameterTypes = BTreeMap<(String, String), TokenStream>;

pub(crate) fn refine(
    tokens: TokenStream,
    normalized: &Normalized,
    operations: &[OperationModel],
    links: &Links,
) -> Result<Parts> {
    let (mut types, mut builders) = (None, None);
    for item in items(tokens) {
        match (item.keyword.as_str(), item.name.as_str()) {
            ("mod", "types") => types = item.body(),
            ("mod", "builder") => builders = item.body(),
            _ => {}
        }
    }
    let (Some(types), Some(builders)) = (types, builders) else {
        refuse!("", "progenitor gave no `types` or no `builder` module")
    };
    let mut parameters = ParameterTypes::new();
    Ok(Parts {
        types: types::refine_types(types, normalized, operations, links)?,
        builders: builders::refine_builders(
            builders,
            normalized,
            operations,
            links,
            &mut parameters,
        )?,
        parameters,
    })
}
