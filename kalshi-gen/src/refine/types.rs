//! The types of requests and responses.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use serde_json::Value;
use syn::{Attribute, Field, Fields, ItemStruct, Type, parse_quote};

use super::{
    builders,
    requests::{FieldDocs, Requests, builder_name},
    tokens::{items, parse},
};
use crate::{
    docs::Links,
    document::{join, schema_name},
    error::Result,
    names::parameter_name,
    normalize::{Label, Normalized, cursors::SCALAR, request_schemas},
    operations::OperationModel,
};

pub(super) fn refine_types(
    tokens: TokenStream,
    normalized: &Normalized,
    operations: &[OperationModel],
    links: &Links,
) -> Result<TokenStream> {
    let bodies = request_schemas(&normalized.document)?;
    let answers: BTreeSet<&str> =
        operations.iter().filter_map(|operation| operation.response.as_deref()).collect();
    let mut docs = FieldDocs::new();
    let mut requests = Requests::new();
    let mut out = TokenStream::new();
    for item in items(tokens) {
        match (item.keyword.as_str(), item.name.as_str()) {
            ("struct", name) => {
                let name = name.to_owned();
                let mut parsed: ItemStruct = parse(item.tokens.into_iter().collect(), &name)?;
                let is_request = bodies.contains(&name);
                if is_request && matches!(parsed.fields, Fields::Named(_)) {
                    requests.insert(name.clone(), required_fields(&parsed, normalized));
                }
                let leniency = if is_request {
                    Leniency::None
                } else if answers.contains(name.as_str()) {
                    Leniency::Answer
                } else {
                    Leniency::Part
                };
                refine_struct(&mut parsed, normalized, leniency, links, &mut docs);
                parsed.to_tokens(&mut out);
            }
            // A surface that only reads has no builders.
            ("mod", "builder") if bodies.is_empty() => {}
            ("mod", "builder") => {
                let body = item.body().unwrap_or_default();
                out.extend(item.with_body(builders::refine_type_builders(body, &docs, &requests)?));
            }
            ("impl", name) if item.is_inherent() => {
                let mut body = TokenStream::new();
                for part in items(item.body().unwrap_or_default()) {
                    if part.keyword != "fn" || part.name != "builder" {
                        body.extend(part.tokens);
                    } else if bodies.contains(name) {
                        let words = builder_words(name, normalized);
                        let builder = builder_name(name);
                        body.extend(quote! {
                            #[doc = #words]
                            pub fn builder() -> builder::#builder {
                                ::std::default::Default::default()
                            }
                        });
                    }
                }
                if !body.is_empty() {
                    out.extend(item.with_body(body));
                }
            }
            _ => out.extend(item.tokens),
        }
    }
    if has_scalar(&normalized.document) {
        out.extend(scalar_text());
    }
    Ok(out)
}

fn has_scalar(document: &Value) -> bool {
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let fields = schemas.into_iter().flatten().filter_map(|(_, schema)| schema.get("properties"));
    fields.filter_map(Value::as_object).flatten().any(|(_, field)| field.get(SCALAR).is_some())
}

/// Reads a cursor that is no text, as the text that is sent back.
fn scalar_text() -> TokenStream {
    quote! {
        fn scalar_text<'de, D: ::serde::Deserializer<'de>>(
            deserializer: D,
        ) -> ::std::result::Result<::std::option::Option<::std::string::String>, D::Error> {
            #[derive(::serde::Deserialize)]
            #[serde(untagged)]
            enum Scalar {
                Text(::std::string::String),
                Number(::serde_json::Number),
                Truth(bool),
            }
            let scalar =
                <::std::option::Option<Scalar> as ::serde::Deserialize>::deserialize(deserializer)?;
            ::std::result::Result::Ok(scalar.map(|scalar| match scalar {
                Scalar::Text(text) => text,
                Scalar::Number(number) => number.to_string(),
                Scalar::Truth(truth) => truth.to_string(),
            }))
        }
    }
}

/// Returns the required fields of a struct, by their Rust names.
fn required_fields(item: &ItemStruct, normalized: &Normalized) -> BTreeSet<String> {
    let pointer = join(&join("/components/schemas", &item.ident.to_string()), "required");
    let required = normalized.document.pointer(&pointer).and_then(Value::as_array);
    let is_required = |wire: &str| required.is_some_and(|names| names.iter().any(|n| n == wire));
    let fields = item.fields.iter().filter_map(|field| {
        let name = field.ident.as_ref()?.to_string();
        let wire = renamed(&field.attrs).unwrap_or_else(|| name.clone());
        is_required(&wire).then_some(name)
    });
    fields.collect()
}

/// Returns the doc comment of `builder()`, which names the required fields.
fn builder_words(name: &str, normalized: &Normalized) -> String {
    let pointer = join(&join("/components/schemas", name), "required");
    let required = normalized.document.pointer(&pointer).and_then(Value::as_array);
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

/// The reading of what the exchange leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leniency {
    /// As the document says: a request carries it.
    None,
    /// The whole of an answer: null is an empty list, and a required list that is missing is an
    /// error. An answer without its list is not the answer that was asked for.
    Answer,
    /// A part of an answer: null or nothing is an empty list.
    Part,
}

fn refine_struct(
    item: &mut ItemStruct,
    normalized: &Normalized,
    leniency: Leniency,
    links: &Links,
    docs: &mut FieldDocs,
) {
    relink(&mut item.attrs, links);
    let name = item.ident.to_string();
    if let Fields::Unnamed(fields) = &item.fields
        && fields.unnamed.iter().all(|field| is_collection(&field.ty))
        && !derives_default(&item.attrs)
    {
        // A body without fields is a map of anything; it starts out empty.
        item.attrs.push(parse_quote!(#[derive(Default)]));
    }
    let Fields::Named(fields) = &mut item.fields else { return };
    item.attrs.push(parse_quote!(#[non_exhaustive]));
    if is_empty_label(&name, normalized) && !derives_default(&item.attrs) {
        item.attrs.push(parse_quote!(#[derive(Default)]));
    }
    let schema = normalized.document.pointer(&join("/components/schemas", &name));
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
        if leniency != Leniency::None {
            let label = normalized.labels.get(&(name.clone(), wire));
            set_lenient(field, leniency, label.copied());
        }
        if property.and_then(|p| p.get(SCALAR)) == Some(&Value::Bool(true)) {
            drop_deserialize_with(&mut field.attrs);
            if !has_default(&field.attrs) {
                field.attrs.push(parse_quote!(#[serde(default)]));
            }
            field.attrs.push(parse_quote!(#[serde(deserialize_with = "scalar_text")]));
        }
        if let Some(function) = fast_time(&field.ty) {
            // A field that must be there and may be null has a function already.
            let required = drop_deserialize_with(&mut field.attrs);
            field.attrs.push(parse_quote!(#[serde(deserialize_with = #function)]));
            if function.ends_with("optional") && !required && !has_default(&field.attrs) {
                field.attrs.push(parse_quote!(#[serde(default)]));
            }
        }
    }
}

/// Links the names in backticks in the words that came through progenitor.
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

/// Returns the `rename` of a serde attribute.
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

/// Drops the word of a serde attribute that names a function; reports whether there was one.
fn drop_deserialize_with(attributes: &mut Vec<Attribute>) -> bool {
    use syn::{Meta, Token, punctuated::Punctuated};

    let mut dropped = false;
    attributes.retain_mut(|attribute| {
        if !attribute.path().is_ident("serde") {
            return true;
        }
        let parts = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        let Ok(parts) = parts else { return true };
        let kept: Vec<&Meta> =
            parts.iter().filter(|part| !part.path().is_ident("deserialize_with")).collect();
        if kept.len() == parts.len() {
            return true;
        }
        dropped = true;
        let keep = !kept.is_empty();
        if keep {
            *attribute = parse_quote!(#[serde(#(#kept),*)]);
        }
        keep
    });
    dropped
}

fn has_default(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|a| a.path().is_ident("serde")).any(|attribute| {
        let text = attribute.meta.to_token_stream().to_string();
        text.contains("default")
    })
}

/// Returns the last name of a path type: `Vec` of `::std::vec::Vec<T>`.
fn last_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

fn is_collection(ty: &Type) -> bool {
    matches!(last_name(ty).as_deref(), Some("Vec" | "BTreeMap" | "Map"))
}

fn derives_default(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("derive")
            && attribute.to_token_stream().to_string().contains("Default")
    })
}

/// Reports whether the type is that of a label that reads as an object without contents.
fn is_empty_label(name: &str, normalized: &Normalized) -> bool {
    let objects = normalized.labels.iter().filter(|(_, label)| **label == Label::Object);
    objects.into_iter().any(|((schema, field), _)| {
        let pointer = join(&join("/components/schemas", schema), "properties");
        let property = normalized.document.pointer(&join(&pointer, field));
        let reference = property.and_then(|p| p.get("$ref").or_else(|| p.pointer("/allOf/0/$ref")));
        reference.and_then(Value::as_str).and_then(schema_name) == Some(name)
    })
}

/// Sets how a field of a response reads what is null or absent, and a price that is empty.
fn set_lenient(field: &mut Field, leniency: Leniency, label: Option<Label>) {
    let outer = last_name(&field.ty);
    let (function, may_be_absent) = match (outer.as_deref(), label) {
        (Some("Vec" | "BTreeMap" | "Map"), _) => {
            (collection(&field.ty), leniency == Leniency::Part)
        }
        (_, Some(Label::Text)) => {
            field.attrs.push(parse_quote! {
                #[serde(
                    default = "::kalshi_types::wire::unset",
                    deserialize_with = "::kalshi_types::wire::null_as_unset"
                )]
            });
            return;
        }
        (_, Some(Label::Object)) => ("null_as_default", true),
        (Some("Option"), _) if is_quantity(&field.ty) => {
            // A field that is required and may be null has a reader of its own: it must be there.
            let before = field.attrs.len();
            field.attrs.retain(|attribute| !is_reader(attribute));
            ("blank_as_none", before == field.attrs.len())
        }
        _ => return,
    };
    if may_be_absent && !has_default(&field.attrs) {
        field.attrs.push(parse_quote!(#[serde(default)]));
    }
    let function = format!("::kalshi_types::wire::{function}");
    field.attrs.push(parse_quote!(#[serde(deserialize_with = #function)]));
}

/// Returns the reader of a list or map, by what is in it.
fn collection(ty: &Type) -> &'static str {
    let inner = inner_type(ty);
    let nested = inner.as_ref().is_some_and(is_collection);
    match (last_name(ty).as_deref(), nested) {
        (Some("Vec"), true) => "lists_in_list",
        (Some("BTreeMap"), true) => "lists_in_map",
        (Some("BTreeMap"), false) => "map_without_nulls",
        _ => "null_as_default",
    }
}

/// Returns the last argument of a generic type: the element of a list, the value of a map.
fn inner_type(ty: &Type) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let syn::PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments
    else {
        return None;
    };
    arguments.args.iter().rev().find_map(|argument| match argument {
        syn::GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    })
}

/// Reports whether this is `Option<Dollars>` or `Option<Count>`.
fn is_quantity(ty: &Type) -> bool {
    let inner = inner_type(ty).and_then(|inner| last_name(&inner));
    matches!(inner.as_deref(), Some("Dollars" | "Count"))
}

/// Reports whether this is `#[serde(deserialize_with = …)]`, alone.
fn is_reader(attribute: &Attribute) -> bool {
    attribute.path().is_ident("serde")
        && attribute.meta.to_token_stream().to_string().contains("deserialize_with")
}

/// Returns the reader of a time: RFC 3339 in the one layout that the exchange sends is read without
/// chrono's general parser.
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
