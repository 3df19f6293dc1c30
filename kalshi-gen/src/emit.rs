//! Runs progenitor, and emits what it does not make: open enums, the methods of the client, the
//! operation table, streams over pages.

use openapiv3::OpenAPI;
use proc_macro2::TokenStream;
use progenitor_impl::{GenerationSettings, Generator, InterfaceStyle, TagStyle, TypeImpl};
use quote::{format_ident, quote};
use schemars::schema::{InstanceType, SchemaObject};
use serde::Deserialize;

use crate::{
    docs::{Links, doc, doc_line},
    error::{Error, Result},
    families::Surface,
    locate::{catch_panic, locate},
    names::{field_name, parameter_name},
    normalize::{
        Access, CENTI_CENTS, CENTI_COUNT, COMMA_LIST, DECIMAL, Normalized, OpenEnum, SECRET,
        UNIX_MILLIS, UNIX_SECONDS, money,
    },
    operations::{self, CostModel, OperationModel, ParameterCostModel, ShardModel},
    refine::{self, ParameterTypes, Parts},
};

/// Open enums that every surface shares, as (schema, type, values). A document that has another
/// value needs it in the shared type first.
const SHARED: [(&str, &str, &[&str]); 1] =
    [("BookSide", "::kalshi_types::BookSide", &["bid", "ask"])];

/// Returns the code of the client and of its dispatcher, unformatted.
pub(crate) fn emit(
    normalized: &Normalized,
    operations: &[OperationModel],
) -> Result<(String, String)> {
    catch_panic(|| code(normalized, operations)).map_err(|error| {
        let error = if error.pointer().is_empty() {
            locate(normalized, error, &|part| {
                let operations = operations::model(part).ok()?;
                catch_panic(|| code(part, &operations)).err()
            })
        } else {
            error
        };
        normalized.moves.published(error)
    })
}

/// Returns the types of a document without operations: what a surface other than REST needs.
/// `by_hand` are types that its crate writes itself, as (schema, type).
pub(crate) fn emit_types(normalized: &Normalized, by_hand: &[(&str, &str)]) -> Result<TokenStream> {
    let types = |normalized: &Normalized| -> Result<TokenStream> {
        let refused = |error: &dyn std::fmt::Display| Error::new("", error.to_string());
        let document =
            OpenAPI::deserialize(&normalized.document).map_err(|error| refused(&error))?;
        let mut settings = settings(normalized);
        for (schema, path) in by_hand {
            settings.with_replacement(schema, path, std::iter::empty());
        }
        let tokens = Generator::new(&settings)
            .generate_tokens(&document)
            .map_err(|error| refused(&error))?;
        let links = Links::new(normalized, &[]);
        let types = refine::refine(tokens, normalized, &[], &links)?.types;
        let enums = normalized.enums.iter().map(|open| open_enum(open, &links));
        Ok(quote!(#(#enums)* #types))
    };
    catch_panic(|| types(normalized)).map_err(|error| {
        let error = if error.pointer().is_empty() {
            locate(normalized, error, &|part| catch_panic(|| types(part)).err())
        } else {
            error
        };
        normalized.moves.published(error)
    })
}

fn code(normalized: &Normalized, operations: &[OperationModel]) -> Result<(String, String)> {
    let refused = |error: &dyn std::fmt::Display| Error::new("", error.to_string());
    let document = OpenAPI::deserialize(&normalized.document).map_err(|error| refused(&error))?;
    let settings = settings(normalized);
    let tokens =
        Generator::new(&settings).generate_tokens(&document).map_err(|error| refused(&error))?;
    let links = Links::new(normalized, operations);
    let Parts { types, builders, parameters } =
        refine::refine(tokens, normalized, operations, &links)?;
    let enums = normalized.enums.iter().map(|open| open_enum(open, &links));
    let surface = &normalized.surface;
    let methods = operations.iter().map(|operation| method(operation, &links, surface));
    let table = operations.iter().map(|operation| entry(operation, surface));
    let ids = ids(operations, surface);
    let with_methods = with_methods(surface);
    let count = operations.len();
    let lists =
        operations.iter().enumerate().filter_map(|(index, operation)| list(index, operation));
    let version = normalized.document["info"]["version"].as_str().unwrap_or_default();
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

        #with_methods {
            #(#methods)*
        }

        #(#lists)*

        #ids

        /// Every operation of the document, in the order of its paths.
        pub static OPERATIONS: [crate::Operation; #count] = [#(#table),*];

        /// The version of the document that this client was generated from.
        pub const SPEC_VERSION: &str = #version;
    };
    Ok((code.to_string(), dispatch(operations, &parameters, surface)))
}

/// Calls any operation by its name, with parameters as text and the body as JSON. For tests that
/// walk the whole table; not part of the client.
fn dispatch(operations: &[OperationModel], types: &ParameterTypes, surface: &Surface) -> String {
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
    let name = surface.client.rsplit("::").next().unwrap_or(surface.client);
    let client = format_ident!("{name}");
    let borrowed = surface.borrows.then(|| quote!(<'_>));
    let code = quote! {
        #[allow(deprecated, unused_mut, clippy::all, clippy::pedantic)]
        pub async fn dispatch(
            client: &#client #borrowed,
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
    let types = surface.path("types").to_string() + " ::";
    code.to_string()
        .replace(&types, "types ::")
        .replace("crate :: CommaSeparated", "CommaSeparated")
}

fn settings(normalized: &Normalized) -> GenerationSettings {
    let mut settings = GenerationSettings::new();
    settings
        .with_interface(InterfaceStyle::Builder)
        .with_tag(TagStyle::Merged)
        .with_map_type("::std::collections::BTreeMap")
        .with_derive("PartialEq");
    let text = [TypeImpl::Display, TypeImpl::FromStr];
    for (schema, exact) in money::exact(&normalized.document) {
        let impls = if exact.as_text { &text[..] } else { &[] };
        settings.with_replacement(schema, exact.path, impls.iter().copied());
    }
    for open in &normalized.enums {
        let path = normalized.surface.text(&format!("types::{}", open.name));
        settings.with_replacement(&open.name, path, text.iter().copied());
    }
    for (instance, format, path) in [
        (InstanceType::Integer, UNIX_SECONDS, "::kalshi_types::UnixSeconds"),
        (InstanceType::Integer, UNIX_MILLIS, "::kalshi_types::UnixMillis"),
        (InstanceType::Integer, CENTI_CENTS, "::kalshi_types::CentiCents"),
        (InstanceType::Integer, CENTI_COUNT, "::kalshi_types::CentiCount"),
        (InstanceType::Number, DECIMAL, "::kalshi_types::Decimal"),
        (InstanceType::String, DECIMAL, "::kalshi_types::Decimal"),
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

/// Returns in one line what the reader of a method must know before anything else.
fn facts(operation: &OperationModel) -> String {
    let access = operation.access_text();
    format!("`{} {}` · {access} · {}", operation.method, operation.path, cost_text(operation))
}

/// Returns the cost of a call, with the bucket that pays.
fn cost_text(operation: &OperationModel) -> String {
    let CostModel { bucket, tokens, per_item, parameter, shard } = &operation.cost;
    if operation.preferred_access() == Access::Bearer {
        return "no published cost".to_owned();
    }
    if !operation.is_private() {
        return "no tokens: it is never signed".to_owned();
    }
    if *bucket == "Own" {
        return "a bucket of its own".to_owned();
    }
    let each = if per_item.is_some() { " per item" } else { "" };
    let of = match shard {
        ShardModel::Unscoped => format!("the {bucket} bucket"),
        ShardModel::Named => {
            format!("the {bucket} bucket of the shard that `exchange_index` names")
        }
        ShardModel::Fixed(shard) => format!("the {bucket} bucket of shard {shard}"),
    };
    let when = parameter.as_ref().map_or_else(String::new, |parameter| {
        format!(" ({} with `{}={}`)", parameter.tokens, parameter.name, parameter.value)
    });
    format!("{tokens} tokens{each}{when} from {of}")
}

/// Returns the head of the block with the methods.
fn with_methods(surface: &Surface) -> TokenStream {
    if surface.module.is_empty() {
        return quote!(impl Client);
    }
    let client: TokenStream = format!("crate::{}", surface.client).parse().unwrap_or_default();
    if surface.borrows { quote!(impl<'a> #client<'a>) } else { quote!(impl #client) }
}

fn method(operation: &OperationModel, links: &Links, surface: &Surface) -> TokenStream {
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
    let aliases = &operation.aliases;
    let lifetime = if surface.borrows { quote!('a) } else { quote!('_) };
    let client = if surface.module.is_empty() { quote!(self) } else { quote!(self.client()) };
    quote! {
        #docs
        #(#[doc(alias = #aliases)])*
        #deprecated
        pub fn #id(&self) -> builder::#builder<#lifetime> {
            builder::#builder::new(#client)
        }
    }
}

fn entry(operation: &OperationModel, surface: &Surface) -> TokenStream {
    let OperationModel { id, operation_id, path, tag, success, deprecated, secret, .. } = operation;
    let method = format_ident!("{}", operation.method);
    let access = operation.access.iter().map(|access| {
        let access = format_ident!("{access:?}");
        quote!(crate::operation::Access::#access)
    });
    let (access, alternatives) = (access.clone().next(), access.skip(1));
    let cost = cost(&operation.cost, surface);
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
    let retry = match (&operation.idempotency_key, operation.reads) {
        (_, true) => quote!(Safe),
        (Some(key), false) => quote!(WithKey(#key)),
        (None, false) => quote!(Reconcile),
    };
    quote! {
        crate::Operation {
            id: #id,
            operation_id: #operation_id,
            method: ::http::Method::#method,
            path: #path,
            tag: #tag,
            access: #access,
            alternatives: &[#(#alternatives),*],
            success: #success,
            body: crate::operation::Body::#body,
            parameters: &[#(#parameters),*],
            pagination: #pagination,
            retry: crate::operation::RetrySafety::#retry,
            cost: #cost,
            deprecated: #deprecated,
            secret: #secret,
            summary: #summary,
            description: #description,
        }
    }
}

fn cost(cost: &CostModel, surface: &Surface) -> TokenStream {
    let lane = format_ident!("{}", surface.lane);
    let CostModel { bucket, tokens, per_item, parameter, shard } = cost;
    let bucket = format_ident!("{bucket}");
    let option =
        |value: Option<TokenStream>| value.map_or(quote!(None), |value| quote!(Some(#value)));
    let per_item = option(per_item.as_ref().map(|field| quote!(#field)));
    let parameter = option(parameter.as_ref().map(|ParameterCostModel { name, value, tokens }| {
        quote!(crate::operation::ParameterCost { name: #name, value: #value, tokens: #tokens })
    }));
    let shard = match shard {
        ShardModel::Unscoped => quote!(Unscoped),
        ShardModel::Named => quote!(Named),
        ShardModel::Fixed(shard) => quote!(Fixed(#shard)),
    };
    quote! {
        crate::operation::Cost {
            lane: crate::operation::Lane::#lane,
            bucket: crate::operation::Bucket::#bucket,
            tokens: #tokens,
            per_item: #per_item,
            by_parameter: #parameter,
            shard: crate::operation::ShardScope::#shard,
        }
    }
}

/// Returns the names of the operations as an enum, in the order of the table.
fn ids(operations: &[OperationModel], surface: &Surface) -> TokenStream {
    let about = doc_line(&format!(
        "An operation of the {}, as a value to match on and to configure with.",
        surface.title
    ));
    let variants: Vec<_> =
        operations.iter().map(|operation| format_ident!("{}", operation.builder)).collect();
    let docs = operations.iter().map(|operation| {
        format!(
            "[`{0}`]({1}): `{2} {3}`.",
            operation.id,
            surface.method(&operation.id),
            operation.method,
            operation.path
        )
    });
    let names = operations.iter().map(|operation| &operation.id);
    let count = operations.len();
    quote! {
        #about
        ///
        /// [`as_str`](Self::as_str) is the name of the client's method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum OperationId {
            #(#[doc = #docs] #variants,)*
        }

        /// The operations and their names, in the order of the table.
        pub(crate) static OPERATION_IDS: [(OperationId, &str); #count] =
            [#((OperationId::#variants, #names)),*];
    }
}

/// Returns the streams of a list operation.
fn list(index: usize, operation: &OperationModel) -> Option<TokenStream> {
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
         A row that does not decode is an error that answers \
         [`is_row`](crate::Error::is_row); the rows after it follow. Any other error ends the \
         stream: a failed page, or a cursor that the server repeats \
         ([`ErrorKind::CursorLoop`](crate::ErrorKind::CursorLoop)). Code that concludes anything \
         from the absence of a row calls [`all`](Self::all) instead.\n\n\
         # Cancellation\n\n\
         Dropping the stream stops between pages, or drops the page in flight.",
        pagination.items
    );
    let all = format!(
        "Fetches the rows of every page (`{}`): all of them, or an error.\n\n\
         This is the call for whatever concludes from the absence of a row, such as a \
         reconciliation or an export: no row is skipped.\n\n\
         # Errors\n\n\
         The first error, also of a single row; the rows before it are dropped.\n\n\
         # Cancellation\n\n\
         Only reads are sent: dropping the future has no effect on the account.",
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
                let (client, request) = self.into_request()?;
                client.call_page(&OPERATIONS[#index], request).await
            }

            async fn fetch_rows(
                self,
            ) -> Result<crate::pagination::Fetched<Self>, crate::Error> {
                let (client, request) = self.into_request()?;
                client.call_rows::<Self>(&OPERATIONS[#index], request).await
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

            #[doc = #all]
            pub async fn all(self) -> Result<Vec<#row>, crate::Error> {
                self.stream().try_collect().await
            }

            /// Streams whole pages, for what stands beside the rows.
            ///
            /// # Errors
            ///
            /// A page that cannot be fetched, or in which a row does not decode, is an error and
            /// ends the stream; [`Pages::resume`](crate::Pages::resume) and
            /// [`Pages::skip`](crate::Pages::skip) go on from there.
            pub fn pages(self) -> crate::pagination::Pages<'a, types::#page> {
                crate::pagination::pages(self)
            }
        }
    })
}
