//! The types of requests and responses.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use serde_json::Value;
use syn::{Attribute, Field, Fields, ItemStruct, Type, parse_quote};

use super::{
    builders,
    requests::{Requests, builder_name},
    tokens::{items, parse},
};
use crate::{
    document::join,
    emit::Links,
    error::Result,
    names::parameter_name,
    normalise::{Normalised, request_schemas},
};

pub(super) type FieldDocs = BTreeMap<(String, String), Vec<Attribute>>;

pub(super) fn refine_types(
    tokens: TokenStream,
    normalised: &Normalised,
    links: &Links,
) -> Result<TokenStream> {
    let bodies = request_schemas(&normalised.document)?;
    let mut docs = FieldDocs::new();
    let mut requests = Requests::new();
    let mut out = TokenStream::new();
    for item in items(tokens) {
        match (item.keyword.as_str(), item.name.as_str()) {
            ("struct", name) => {
                let name = name.to_owned();
                let mut parsed: ItemStruct = parse(item.tokens.into_iter().collect(), &name)?;
                let lenient = !bodies.contains(&name);
                if !lenient && matches!(parsed.fields, Fields::Named(_)) {
                    requests.insert(name.clone(), required_fields(&parsed, normalised));
                }
                refine_struct(&mut parsed, normalised, lenient, links, &mut docs);
                parsed.to_tokens(&mut out);
            }
            ("mod", "builder") => {
                let body = item.body().unwrap_or_default();
                out.extend(item.with_body(builders::refine_type_builders(body, &docs, &requests)?));
            }
            ("impl", name) if item.is_inherent() => {
                let words = builder_words(name, normalised);
                let builder = builder_name(name);
                let mut body = TokenStream::new();
                for part in items(item.body().unwrap_or_default()) {
                    if part.keyword == "fn" && part.name == "builder" {
                        body.extend(quote! {
                            #[doc = #words]
                            pub fn builder() -> builder::#builder {
                                ::std::default::Default::default()
                            }
                        });
                    } else {
                        body.extend(part.tokens);
                    }
                }
                out.extend(item.with_body(body));
            }
            _ => out.extend(item.tokens),
        }
    }
    Ok(out)
}

/// The required fields of a struct, by their Rust names.
fn required_fields(item: &ItemStruct, normalised: &Normalised) -> BTreeSet<String> {
    let pointer = join(&join("/components/schemas", &item.ident.to_string()), "required");
    let required = normalised.document.pointer(&pointer).and_then(Value::as_array);
    let is_required = |wire: &str| required.is_some_and(|names| names.iter().any(|n| n == wire));
    let fields = item.fields.iter().filter_map(|field| {
        let name = field.ident.as_ref()?.to_string();
        let wire = renamed(&field.attrs).unwrap_or_else(|| name.clone());
        is_required(&wire).then_some(name)
    });
    fields.collect()
}

/// The doc comment of `builder()`: it names the required fields.
fn builder_words(name: &str, normalised: &Normalised) -> String {
    let pointer = join(&join("/components/schemas", name), "required");
    let required = normalised.document.pointer(&pointer).and_then(Value::as_array);
    let fields: Vec<String> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|field| format!("`{}`", parameter_name(field)))
        .collect();
    if fields.is_empty() {
        "Returns a builder.".to_owned()
    } else {
        format!("Returns a builder. Required fields: {}.", fields.join(", "))
    }
}

fn refine_struct(
    item: &mut ItemStruct,
    normalised: &Normalised,
    lenient: bool,
    links: &Links,
    docs: &mut FieldDocs,
) {
    relink(&mut item.attrs, links);
    let name = item.ident.to_string();
    if let Fields::Unnamed(fields) = &item.fields
        && fields.unnamed.iter().all(|field| is_collection(&field.ty))
        && !item.attrs.iter().any(|a| a.to_token_stream().to_string().contains("Default"))
    {
        // A body without fields is a map of anything; it starts out empty.
        item.attrs.push(parse_quote!(#[derive(Default)]));
    }
    let Fields::Named(fields) = &mut item.fields else { return };
    item.attrs.push(parse_quote!(#[non_exhaustive]));
    let schema = normalised.document.pointer(&join("/components/schemas", &name));
    if schema.and_then(|schema| schema.get("deprecated")) == Some(&Value::Bool(true)) {
        item.attrs.push(parse_quote!(#[deprecated]));
    }
    let properties = schema.and_then(|schema| schema.get("properties"));
    for field in &mut fields.named {
        relink(&mut field.attrs, links);
        let Some(ident) = field.ident.as_ref().map(ToString::to_string) else { continue };
        let wire = renamed(&field.attrs).unwrap_or_else(|| ident.clone());
        let property = properties.and_then(|properties| properties.get(&wire));
        if property.and_then(|p| p.get("deprecated")) == Some(&Value::Bool(true)) {
            field.attrs.push(parse_quote!(#[deprecated]));
        }
        let attributes = field.attrs.iter();
        let kept =
            attributes.filter(|a| a.path().is_ident("doc") || a.path().is_ident("deprecated"));
        docs.insert((name.clone(), ident), kept.cloned().collect());
        if lenient && is_collection(&field.ty) {
            set_lenient(field);
        }
        if let Some(function) = fast_time(&field.ty) {
            field.attrs.push(parse_quote!(#[serde(deserialize_with = #function)]));
            if function.ends_with("optional") && !has_default(&field.attrs) {
                field.attrs.push(parse_quote!(#[serde(default)]));
            }
        }
    }
}

/// Names in backticks become links in the words that came through progenitor.
fn relink(attributes: &mut [Attribute], links: &Links) {
    for attribute in attributes {
        if let syn::Meta::NameValue(pair) = &mut attribute.meta
            && pair.path.is_ident("doc")
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &mut pair.value
        {
            let resolved = links.resolve(&text.value());
            *text = syn::LitStr::new(&resolved, text.span());
        }
    }
}

/// The `rename` of a serde attribute.
fn renamed(attributes: &[Attribute]) -> Option<String> {
    let mut found = None;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("serde")) {
        // Other words of the attribute carry no value, or one that is not wanted.
        let _ = attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") {
                found = Some(meta.value()?.parse::<syn::LitStr>()?.value());
            } else if meta.input.peek(syn::Token![=]) {
                meta.value()?.parse::<syn::Expr>()?;
            }
            Ok(())
        });
    }
    found
}

fn has_default(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|a| a.path().is_ident("serde")).any(|attribute| {
        let text = attribute.meta.to_token_stream().to_string();
        text.contains("default")
    })
}

/// The last name of a path type: `Vec` of `::std::vec::Vec<T>`.
fn last_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

fn is_collection(ty: &Type) -> bool {
    matches!(last_name(ty).as_deref(), Some("Vec" | "BTreeMap" | "Map"))
}

/// Null, or nothing, decodes as an empty collection.
fn set_lenient(field: &mut Field) {
    if !has_default(&field.attrs) {
        field.attrs.push(parse_quote!(#[serde(default)]));
    }
    field
        .attrs
        .push(parse_quote!(#[serde(deserialize_with = "::kalshi_types::wire::null_as_default")]));
}

/// RFC 3339 in the one layout that the exchange sends is read without chrono's general parser.
fn fast_time(ty: &Type) -> Option<&'static str> {
    let text = ty.to_token_stream().to_string().replace(' ', "");
    match text.trim_start_matches("::") {
        "chrono::DateTime<::chrono::offset::Utc>" => Some("::kalshi_types::wire::date_time"),
        "std::option::Option<::chrono::DateTime<::chrono::offset::Utc>>" => {
            Some("::kalshi_types::wire::date_time_optional")
        }
        _ => None,
    }
}
