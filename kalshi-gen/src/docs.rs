//! Doc comments: names in backticks become links.

use std::collections::BTreeMap;

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::Value;

use crate::{
    normalize::{Normalized, money},
    operations::OperationModel,
};

/// Turns names in backticks into links: `` `GetOrders` `` to the method, `` `Order` `` to the type.
pub(crate) struct Links(BTreeMap<String, String>);

impl Links {
    pub(crate) fn new(normalized: &Normalized, operations: &[OperationModel]) -> Self {
        let mut links = BTreeMap::new();
        let schemas = normalized.document.pointer("/components/schemas").and_then(Value::as_object);
        let exact: BTreeMap<String, _> = money::exact(&normalized.document).into_iter().collect();
        for name in schemas.into_iter().flatten().map(|(name, _)| name) {
            let exact = exact.get(name).map(|exact| exact.path);
            let (shown, path) = match exact {
                Some(path) => {
                    let path = path.trim_start_matches("::");
                    (path.rsplit("::").next().unwrap_or(path).to_owned(), path.to_owned())
                }
                None => (name.clone(), normalized.surface.text(&format!("types::{name}"))),
            };
            let link = format!("[`{shown}`]({path})");
            let published = normalized.renamed.get(name).unwrap_or(name);
            links.insert(published.clone(), link.clone());
            links.insert(name.clone(), link);
        }
        for operation in operations {
            let link =
                format!("[`{0}`]({1})", operation.id, normalized.surface.method(&operation.id));
            links.insert(operation.operation_id.clone(), link.clone());
            links.insert(operation.builder.clone(), link);
        }
        Self(links)
    }

    /// Returns the text with its names as links.
    pub(crate) fn resolve(&self, text: &str) -> String {
        if text.contains("```") {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        for (index, part) in text.split('`').enumerate() {
            match self.0.get(part) {
                Some(link) if index % 2 == 1 => out.push_str(link),
                _ if index % 2 == 1 => {
                    out.push('`');
                    out.push_str(part);
                    out.push('`');
                }
                _ => out.push_str(part),
            }
        }
        out
    }
}

/// Returns a doc comment, or nothing.
pub(crate) fn doc(text: Option<&str>, links: &Links) -> TokenStream {
    match text.map(str::trim) {
        Some(text) if !text.is_empty() => {
            let text = links.resolve(text);
            quote!(#[doc = #text])
        }
        _ => TokenStream::new(),
    }
}

/// Returns a line of documentation as a `///` in the source would be.
pub(crate) fn doc_line(text: &str) -> TokenStream {
    format!("#[doc = r\" {text}\"]").parse().unwrap_or_default()
}
