//! From the published document to one that progenitor turns into good Rust.
//!
//! Each pass is a small function over the untyped document and says how often it fired. What
//! cannot be generated is refused here, with a pointer: progenitor would panic instead.

mod access;
mod annotations;
mod bodies;
mod check;
pub(crate) mod cursors;
mod enums;
pub(crate) mod formats;
mod labels;
pub(crate) mod money;
mod nullability;
mod parameters;
mod reach;
mod schemas;
mod shared_enums;
mod spelling;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    document::{self, join, object},
    error::{Error, Result, refuse},
    families::Surface,
};

pub(crate) use self::{
    access::ACCESS,
    bodies::take_name,
    formats::{CENTI_CENTS, CENTI_COUNT, COMMA_LIST, DECIMAL, SECRET, UNIX_MILLIS, UNIX_SECONDS},
    nullability::fold_json_schema,
    parameters::{forget_origins, write_out_references},
    reach::{reachable, request_schemas},
    shared_enums::ITEMS,
};
pub use self::{
    access::Access,
    labels::{Label, Labels},
};
#[cfg(feature = "review")]
pub(crate) use self::{
    formats::unix_time,
    labels::{is_label, is_replaced},
};

/// The methods an operation can have, as OpenAPI spells them.
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// An enum of text values that the server owns; generated open, by us and not by typify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEnum {
    /// The Rust name.
    pub name: String,
    /// Description, if the document has one.
    pub description: Option<String>,
    /// Values in the order of the document.
    pub values: Vec<EnumValue>,
}

/// One value of an [`OpenEnum`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumValue {
    /// The variant.
    pub variant: String,
    /// The text on the wire.
    pub wire: String,
    /// Description, if the document has one.
    pub description: Option<String>,
}

/// The number of times that each pass fired, in order.
pub type Report = Vec<(&'static str, usize)>;

/// A document that has been through every pass.
#[derive(Clone, Debug)]
pub struct Normalized {
    /// The document.
    pub document: Value,
    /// The enums that were taken out of it.
    pub enums: Vec<OpenEnum>,
    /// The name in the published document of each operation and schema that was renamed.
    pub renamed: BTreeMap<String, String>,
    /// The labels: fields of responses that may be absent or null although the document requires
    /// them.
    pub labels: Labels,
    /// The published names of the schemas that no operation (or message) reaches: no types are
    /// generated from them.
    pub unreached: Vec<String>,
    /// The number of times that each pass fired.
    pub report: Report,
    pub(crate) moves: Moves,
    pub(crate) surface: Surface,
}

/// Runs every pass.
///
/// # Errors
///
/// The first thing in the document that cannot be generated, at its place in the document as it
/// came in.
pub(crate) fn normalize(mut document: Value) -> Result<Normalized> {
    let mut moves = Moves::default();
    let written_out = parameters::record_origins(&mut document, &mut moves);
    let report = vec![("shared parameters, bodies and responses written out", written_out)];
    let unreached = reach::drop_unreached(&mut document);
    normalize_after(document, unreached, report, moves)
}

/// Normalizes a document that was made from another, whose places the moves know and of whose
/// schemas some were not reached.
pub(crate) fn normalize_after(
    document: Value,
    unreached: Vec<String>,
    mut report: Report,
    mut moves: Moves,
) -> Result<Normalized> {
    report.push(("unreached schemas dropped", unreached.len()));
    let passed = passes(document, report, &mut moves);
    passed
        .map(|passed| Normalized { moves: moves.clone(), unreached, ..passed })
        .map_err(|error| moves.published(error))
}

fn passes(mut source: Value, mut report: Report, moves: &mut Moves) -> Result<Normalized> {
    let mut renamed = BTreeMap::new();
    let document = &mut source;
    document::sort(document);
    check::version(document)?;
    report.push(("examples and extensions dropped", annotations::strip_annotations(document)?));
    report.push(("type lists, null parts and constants folded", fold_json_schema(document)?));
    check::references(document)?;
    report
        .push(("parameters written out in place", parameters::inline_parameters(document, moves)?));
    report.push(("lists joined by commas", parameters::join_lists(document)?));
    check::operations(document)?;
    report.push(("operations that need a key or a token", access::resolve(document)?));
    report.push(("error responses left to the transport", bodies::drop_errors(document, moves)?));
    report.push(("inline bodies named", bodies::name_bodies(document, moves)?));
    report.push(("names respelt", spelling::respell(document, &mut renamed, moves)?));
    schemas::check(document)?;
    report.push(("cursors made text", cursors::make_cursors_text(document)?));
    report.push(("inline objects named", bodies::name_objects(document, moves)?));
    report.push(("bounds and defaults left to the server", annotations::drop_bounds(document)?));
    report.push(("formats set from the allow-lists", formats::set(document)?));
    report.push(("amounts made exact", money::make_exact(document)?));
    report.push(("enums shared by name", shared_enums::share(document, moves)?));
    let (enums, fired) = enums::take(document, moves)?;
    report.push(("enums opened", fired));
    report.push((
        "nullable lists of responses made plain",
        nullability::drop_list_nullability(document)?,
    ));
    report.push((
        "optional lists of requests kept when empty",
        nullability::keep_empty_lists(document)?,
    ));
    report.push(("cursors of responses made optional", cursors::make_cursors_optional(document)));
    let (labels, fired) = labels::set(document, &enums)?;
    report.push(("labels of responses made lenient", fired));
    report.push(("references with siblings wrapped", nullability::wrap_references(document)?));
    document::sort(document);
    Ok(Normalized {
        document: source,
        enums,
        renamed,
        labels,
        unreached: Vec::new(),
        report,
        moves: Moves::default(),
        surface: Surface::ROOT,
    })
}

/// The places that the passes moved, so that an error found later names the place in the published
/// document. One list for each pass that moves something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    /// The parts that were written out before the overlays were applied.
    origins: Vec<(String, String)>,
    passes: Vec<Vec<(String, String)>>,
}

impl Moves {
    /// Records that what stands at `to` was written out from `from` before the overlays were
    /// applied.
    pub(crate) fn add_origin(&mut self, to: String, from: String) {
        self.origins.push((to, from));
    }

    /// Begins a pass: what it moves, it moves once.
    pub(crate) fn begin(&mut self) {
        self.passes.push(Vec::new());
    }

    /// Records that what stands at `to` after the pass stood at `from` before it.
    pub(crate) fn add(&mut self, to: String, from: String) {
        if to != from
            && let Some(pass) = self.passes.last_mut()
        {
            pass.push((to, from));
        }
    }

    /// Returns the error, at the place where its cause stood in the published document.
    pub(crate) fn published(&self, error: Error) -> Error {
        let error = self.overlaid(error);
        let pointer = moved(&self.origins, error.pointer());
        error.moved(pointer)
    }

    /// Returns the error, at the place that an overlay addresses: shared parts are written out
    /// where they are used, before the first pass.
    pub(crate) fn overlaid(&self, error: Error) -> Error {
        let mut pointer = error.pointer().to_owned();
        for pass in self.passes.iter().rev() {
            pointer = moved(pass, &pointer);
        }
        error.moved(pointer)
    }
}

/// Returns the place before a pass of what stands at `pointer` after it.
fn moved(pass: &[(String, String)], pointer: &str) -> String {
    let before = pass.iter().find_map(|(to, from)| {
        let rest = pointer.strip_prefix(to.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{from}{rest}"))
    });
    before.unwrap_or_else(|| pointer.to_owned())
}

/// One operation as (pointer, path, method, operation).
pub(crate) type Place<'a> = (String, &'a str, &'a str, &'a Map<String, Value>);

/// Returns the operations, in the order of their paths.
pub(crate) fn operations(document: &Value) -> Result<Vec<Place<'_>>> {
    let Some(root) = document.as_object() else { refuse!("", "the document must be a mapping") };
    let mut found = Vec::new();
    for (path, item) in object(root, "", "paths")? {
        let pointer = join("/paths", path);
        let Some(item) = item.as_object() else { refuse!(pointer, "must be a mapping") };
        if item.contains_key("$ref") {
            refuse!(join(&pointer, "$ref"), "a path item must stand in place");
        }
        for (method, operation) in item {
            if !METHODS.contains(&method.as_str()) {
                continue;
            }
            let pointer = join(&pointer, method);
            let Some(operation) = operation.as_object() else {
                refuse!(pointer, "must be a mapping")
            };
            found.push((pointer, path.as_str(), method.as_str(), operation));
        }
    }
    Ok(found)
}

/// Returns the operation's id; every operation has one once it has been checked.
pub(crate) fn operation_id(operation: &Map<String, Value>) -> &str {
    operation.get("operationId").and_then(Value::as_str).unwrap_or_default()
}

/// Calls `change` with each operation.
fn each_operation(
    document: &mut Value,
    mut change: impl FnMut(&str, &str, &mut Map<String, Value>) -> Result<()>,
) -> Result<()> {
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else {
        refuse!("", "`paths` is missing")
    };
    for (path, item) in paths {
        let pointer = join("/paths", path);
        let Some(item) = item.as_object_mut() else { refuse!(pointer, "must be a mapping") };
        for (method, operation) in item {
            if let Some(operation) = operation.as_object_mut()
                && METHODS.contains(&method.as_str())
            {
                change(&join(&pointer, method), path, operation)?;
            }
        }
    }
    Ok(())
}
