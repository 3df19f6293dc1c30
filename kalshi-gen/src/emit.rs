//! Runs progenitor, and emits what it does not make: open enums, the methods of the client, the
//! operation table, streams over pages.

use std::collections::BTreeMap;

use openapiv3::OpenAPI;
use proc_macro2::TokenStream;
use progenitor_impl::{GenerationSettings, Generator, InterfaceStyle, TagStyle, TypeImpl};
use quote::{format_ident, quote};
use schemars::schema::{InstanceType, SchemaObject};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    error::{Error, Result},
    locate::{locate, quietly},
    names::{field_name, parameter_name},
    normalise::{COMMA_LIST, Normalised, OpenEnum, SECRET, UNIX_MILLIS, UNIX_SECONDS},
    operations::{self, OperationModel},
    refine::{self, ParameterTypes, Parts},
};

/// Schemas that kalshi-types holds exactly: (schema, type, printed and parsed as text).
const EXACT: [(&str, &str, bool); 4] = [
    ("FixedPointCount", "::kalshi_types::Count", true),
    ("FixedPointDollars", "::kalshi_types::Dollars", true),
    ("PriceLevelDollarsCountFp", "::kalshi_types::PriceLevel", false),
    ("PriceRange", "::kalshi_types::PriceRange", false),
];

/// Open enums that every surface shares, as (schema, type, values). A document that has another
/// value needs it in the shared type first.
const SHARED: [(&str, &str, &[&str]); 1] =
    [("BookSide", "::kalshi_types::BookSide", &["bid", "ask"])];

/// The code of the client and of its dispatcher, unformatted.
pub(crate) fn emit(
    normalised: &Normalised,
    operations: &[OperationModel],
) -> Result<(String, String)> {
    quietly(|| code(normalised, operations)).map_err(|error| {
        let error = if error.pointer().is_empty() {
            locate(normalised, error, &|part| {
                let operations = operations::model(part).ok()?;
                quietly(|| code(part, &operations)).err()
            })
        } else {
            error
        };
        normalised.moves.published(error)
    })
}

/// The types of a document without operations: what a surface other than REST needs. `by_hand` are
/// types that its crate writes itself, as (schema, type).
pub(crate) fn emit_types(normalised: &Normalised, by_hand: &[(&str, &str)]) -> Result<TokenStream> {
    let types = |normalised: &Normalised| -> Result<TokenStream> {
        let refused = |error: &dyn std::fmt::Display| Error::new("", error.to_string());
        let document =
            OpenAPI::deserialize(&normalised.document).map_err(|error| refused(&error))?;
        let mut settings = settings(normalised);
        for (schema, path) in by_hand {
            settings.with_replacement(schema, path, std::iter::empty());
        }
        let tokens = Generator::new(&settings)
            .generate_tokens(&document)
            .map_err(|error| refused(&error))?;
        let links = Links::new(normalised, &[]);
        let types = refine::refine(tokens, normalised, &[], &links)?.types;
        let enums = normalised.enums.iter().map(|open| open_enum(open, &links));
        Ok(quote!(#(#enums)* #types))
    };
    quietly(|| types(normalised)).map_err(|error| {
        let error = if error.pointer().is_empty() {
            locate(normalised, error, &|part| quietly(|| types(part)).err())
        } else {
            error
        };
        normalised.moves.published(error)
    })
}

fn code(normalised: &Normalised, operations: &[OperationModel]) -> Result<(String, String)> {
    let refused = |error: &dyn std::fmt::Display| Error::new("", error.to_string());
    let document = OpenAPI::deserialize(&normalised.document).map_err(|error| refused(&error))?;
    let settings = settings(normalised);
    let tokens =
        Generator::new(&settings).generate_tokens(&document).map_err(|error| refused(&error))?;
    let links = Links::new(normalised, operations);
    let Parts { types, builders, parameters } =
        refine::refine(tokens, normalised, operations, &links)?;
    let enums = normalised.enums.iter().map(|open| open_enum(open, &links));
    let methods = operations.iter().map(|operation| method(operation, &links));
    let table = operations.iter().map(entry);
    let count = operations.len();
    let lists = operations.iter().filter_map(list);
    let version = normalised.document["info"]["version"].as_str().unwrap_or_default();
    let code = quote! {
        use crate::Client;

        /// The types of requests and responses.
        pub mod types {
            #(#enums)*
            #types
        }

        /// One builder for each operation: parameters in any order, then `send`.
        pub mod builder {
            use super::types;
            use ::progenitor_client::ResponseValue;
            #builders
        }

        impl Client {
            #(#methods)*
        }

        #(#lists)*

        /// Every operation of the document, in the order of its paths.
        pub static OPERATIONS: [crate::Operation; #count] = [#(#table),*];

        /// The version of the document that this client was generated from.
        pub const SPEC_VERSION: &str = #version;
    };
    Ok((code.to_string(), dispatch(operations, &parameters)))
}

/// Calls any operation by its name, with parameters as text and the body as JSON. For tests that
/// walk the whole table; not part of the client.
fn dispatch(operations: &[OperationModel], types: &ParameterTypes) -> String {
    let arms = operations.iter().map(|operation| {
        let id = &operation.id;
        let method = format_ident!("{id}");
        let parameters = operation.parameters.iter().map(|parameter| {
            let name = &parameter.name;
            let setter = format_ident!("{}", parameter_name(name));
            let key = (operation.builder.clone(), setter.to_string());
            let ty = refine::bare(types.get(&key).unwrap_or(&TokenStream::new()));
            let read = if let Some(element) = refine::element(&ty) {
                quote! {
                    text.split(',').map(|part| read::<#element>(#name, part)).collect::<Result<Vec<_>, _>>()?
                }
            } else {
                quote!(read::<#ty>(#name, text)?)
            };
            quote! {
                if let Some(text) = parameters.get(#name) {
                    request = request.#setter(#read);
                }
            }
        });
        let body = operation.body.as_ref().map(|(name, _)| {
            let name = format_ident!("{name}");
            quote! {
                if let Some(body) = body {
                    let body: types::#name = ::serde_json::from_value(body)?;
                    request = request.body(body);
                }
            }
        });
        quote! {
            #id => {
                let mut request = client.#method();
                #(#parameters)*
                #body
                let value = request.send().await?.into_inner();
                Ok(::serde_json::to_value(&value)?)
            }
        }
    });
    let code = quote! {
        #[allow(deprecated, unused_mut, clippy::all, clippy::pedantic)]
        pub async fn dispatch(
            client: &Client,
            id: &str,
            parameters: &::std::collections::BTreeMap<String, String>,
            body: Option<::serde_json::Value>,
        ) -> Result<::serde_json::Value, Box<dyn ::std::error::Error + Send + Sync>> {
            match id {
                #(#arms)*
                other => Err(format!("no operation is called {other}").into()),
            }
        }
    };
    // The dispatcher lives outside the crate, where its types are found by another way.
    code.to_string()
        .replace("crate :: types ::", "types ::")
        .replace("crate :: CommaSeparated", "CommaSeparated")
}

fn settings(normalised: &Normalised) -> GenerationSettings {
    let mut settings = GenerationSettings::new();
    settings
        .with_interface(InterfaceStyle::Builder)
        .with_tag(TagStyle::Merged)
        .with_map_type("::std::collections::BTreeMap")
        .with_derive("PartialEq");
    let text = [TypeImpl::Display, TypeImpl::FromStr];
    for (schema, path, as_text) in EXACT {
        let impls = if as_text { &text[..] } else { &[] };
        settings.with_replacement(schema, path, impls.iter().copied());
    }
    for open in &normalised.enums {
        let path = format!("crate::types::{}", open.name);
        settings.with_replacement(&open.name, path, text.iter().copied());
    }
    for (instance, format, path) in [
        (InstanceType::Integer, UNIX_SECONDS, "::kalshi_types::UnixSeconds"),
        (InstanceType::Integer, UNIX_MILLIS, "::kalshi_types::UnixMillis"),
        (InstanceType::String, COMMA_LIST, "crate::CommaSeparated"),
        (InstanceType::String, SECRET, "crate::SecretText"),
    ] {
        let shape = SchemaObject {
            instance_type: Some(instance.into()),
            format: Some(format.to_owned()),
            ..SchemaObject::default()
        };
        settings.with_conversion(shape, path, std::iter::empty());
    }
    settings
}

/// Turns names in backticks into links: `` `GetOrders` `` to the method, `` `Order` `` to the type.
pub(crate) struct Links(BTreeMap<String, String>);

impl Links {
    fn new(normalised: &Normalised, operations: &[OperationModel]) -> Self {
        let mut links = BTreeMap::new();
        let schemas = normalised.document.pointer("/components/schemas").and_then(Value::as_object);
        for name in schemas.into_iter().flatten().map(|(name, _)| name) {
            let exact = EXACT.iter().find(|(schema, ..)| schema == name).map(|(_, path, _)| *path);
            let (shown, path) = match exact {
                Some(path) => {
                    let path = path.trim_start_matches("::");
                    (path.rsplit("::").next().unwrap_or(path).to_owned(), path.to_owned())
                }
                None => (name.clone(), format!("crate::types::{name}")),
            };
            let link = format!("[`{shown}`]({path})");
            let published = normalised.renamed.get(name).unwrap_or(name);
            links.insert(published.clone(), link.clone());
            links.insert(name.clone(), link);
        }
        for operation in operations {
            let link = format!("[`{0}`](crate::Client::{0})", operation.id);
            links.insert(operation.operation_id.clone(), link.clone());
            links.insert(operation.builder.clone(), link);
        }
        Self(links)
    }

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

/// A doc comment, or nothing.
pub(crate) fn doc(text: Option<&str>, links: &Links) -> TokenStream {
    match text.map(str::trim) {
        Some(text) if !text.is_empty() => {
            let text = links.resolve(text);
            quote!(#[doc = #text])
        }
        _ => TokenStream::new(),
    }
}

fn open_enum(open: &OpenEnum, links: &Links) -> TokenStream {
    let shared = SHARED.iter().find(|(name, ..)| *name == open.name);
    if let Some((_, path, known)) = shared
        && open.values.iter().all(|value| known.contains(&value.wire.as_str()))
    {
        let path: syn::Path = syn::parse_str(path).expect("a path of the table above");
        return quote!(pub use #path;);
    }
    let name = format_ident!("{}", open.name);
    let docs = doc(open.description.as_deref(), links);
    let variants = open.values.iter().map(|value| {
        let variant = format_ident!("{}", value.variant);
        let wire = &value.wire;
        let docs = match &value.description {
            Some(words) => doc(Some(words), links),
            None => doc(Some(&format!("The wire value `{wire:?}`.")), links),
        };
        quote!(#docs #variant = #wire)
    });
    quote!(::kalshi_types::open_enum! { #docs pub enum #name { #(#variants),* } })
}

/// What the reader of a method must know before anything else, as one line.
fn facts(operation: &OperationModel) -> String {
    let access = if operation.private { "signed" } else { "public" };
    let cost = match operation.cost {
        Some((tokens, true)) => format!("{tokens} tokens per item"),
        Some((tokens, false)) => format!("{tokens} tokens"),
        None if operation.private => "10 tokens, the default cost".to_owned(),
        None => "no tokens while unsigned".to_owned(),
    };
    format!("`{} {}` · {access} · {cost}", operation.method, operation.path)
}

fn method(operation: &OperationModel, links: &Links) -> TokenStream {
    let id = format_ident!("{}", operation.id);
    let builder = format_ident!("{}", operation.builder);
    let facts = facts(operation);
    let summary = operation.summary.clone().unwrap_or_else(|| facts.clone());
    let mut text = summary.trim_end_matches('.').to_owned();
    text.push('.');
    if operation.summary.is_some() {
        text.push_str("\n\n");
        text.push_str(&facts);
    }
    if let Some(description) = &operation.description {
        text.push_str("\n\n");
        text.push_str(description);
    }
    let docs = doc(Some(&text), links);
    let deprecated = operation.deprecated.then(|| quote!(#[deprecated]));
    quote! {
        #docs
        #deprecated
        pub fn #id(&self) -> builder::#builder<'_> {
            builder::#builder::new(self)
        }
    }
}

fn entry(operation: &OperationModel) -> TokenStream {
    let OperationModel { id, operation_id, path, tag, success, deprecated, secret, .. } = operation;
    let method = format_ident!("{}", operation.method);
    let access = if operation.private { quote!(Signed) } else { quote!(Public) };
    let (tokens, per_item) = operation.cost.unwrap_or((10, false));
    let summary = operation.summary.as_deref().unwrap_or_default();
    let description = operation.description.as_deref().unwrap_or_default();
    let body = match &operation.body {
        None => quote!(None),
        Some((_, false)) => quote!(Optional),
        Some((_, true)) => quote!(Required),
    };
    let parameters = operation.parameters.iter().map(|parameter| {
        let name = &parameter.name;
        let required = parameter.required;
        let place = if parameter.in_path { quote!(Path) } else { quote!(Query) };
        let kind = format_ident!("{}", parameter.kind);
        let description = parameter.description.as_deref().unwrap_or_default();
        quote! {
            crate::operation::Parameter {
                name: #name,
                place: crate::operation::Place::#place,
                required: #required,
                kind: crate::operation::ParameterKind::#kind,
                description: #description,
            }
        }
    });
    let pagination = match &operation.pagination {
        None => quote!(None),
        Some(pagination) => {
            let (cursor, items) = (&pagination.cursor, &pagination.items);
            quote!(Some(crate::operation::Pagination { cursor: #cursor, items: #items }))
        }
    };
    let retry = match (&operation.idempotency_key, operation.method.as_str()) {
        (Some(key), _) => quote!(WithKey(#key)),
        (None, "GET") => quote!(Safe),
        (None, _) => quote!(Reconcile),
    };
    quote! {
        crate::Operation {
            id: #id,
            operation_id: #operation_id,
            method: ::http::Method::#method,
            path: #path,
            tag: #tag,
            access: crate::operation::Access::#access,
            success: #success,
            body: crate::operation::Body::#body,
            parameters: &[#(#parameters),*],
            pagination: #pagination,
            retry: crate::operation::RetrySafety::#retry,
            cost: crate::operation::Cost { tokens: #tokens, per_item: #per_item },
            deprecated: #deprecated,
            secret: #secret,
            summary: #summary,
            description: #description,
        }
    }
}

/// The streams of a list operation.
fn list(operation: &OperationModel) -> Option<TokenStream> {
    let pagination = operation.pagination.as_ref()?;
    let builder = format_ident!("{}", operation.builder);
    let page = format_ident!("{}", operation.response.as_deref()?);
    let row = if let Some(name) = &pagination.item {
        let name = format_ident!("{name}");
        quote!(types::#name)
    } else {
        quote!(::std::string::String)
    };
    let [cursor, items] =
        [&pagination.cursor, &pagination.items].map(|name| format_ident!("{}", field_name(name)));
    let cursor = if pagination.optional_cursor {
        quote!(page.#cursor.as_deref())
    } else {
        quote!(Some(page.#cursor.as_str()))
    };
    let rows = format!(
        "Streams the rows of every page (`{}`), fetching pages as they are needed.\n\n\
         # Errors\n\n\
         A failed page ends the stream after the error; so does a cursor that the server repeats, \
         with [`ErrorKind::CursorLoop`](crate::ErrorKind::CursorLoop).\n\n\
         # Cancellation\n\n\
         Dropping the stream stops between pages, or drops the page under way.",
        pagination.items
    );
    Some(quote! {
        impl crate::pagination::List for builder::#builder<'_> {
            type Page = types::#page;
            type Row = #row;

            fn after(self, cursor: &str) -> Self {
                self.cursor(cursor)
            }

            async fn fetch(self) -> Result<Self::Page, crate::Error> {
                self.send().await.map(::progenitor_client::ResponseValue::into_inner)
            }

            fn cursor(page: &Self::Page) -> Option<&str> {
                #cursor
            }

            fn rows(page: Self::Page) -> Vec<Self::Row> {
                page.#items
            }
        }

        impl<'a> builder::#builder<'a> {
            #[doc = #rows]
            pub fn stream(self) -> crate::pagination::Rows<'a, #row> {
                crate::pagination::rows(self)
            }

            /// Streams whole pages, for what stands beside the rows.
            ///
            /// # Errors
            ///
            /// As with [`stream`](Self::stream).
            pub fn pages(self) -> crate::pagination::Pages<'a, types::#page> {
                crate::pagination::pages(self)
            }
        }
    })
}
