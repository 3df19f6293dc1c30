//! The builders of types and of requests.

use std::collections::BTreeMap;

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::{format_ident, quote};

use super::{
    ParameterTypes,
    send::send,
    tokens::{argument, items, struct_fields},
    types::FieldDocs,
};
use crate::{
    docs::{Links, doc},
    error::{Result, refuse},
    names::parameter_name,
    normalize::Normalized,
    operations::OperationModel,
};

/// The setters of the builders of types are written anew: an optional field takes its bare value
/// (`.client_order_id("mine")`), and each carries the words of its field.
pub(super) fn refine_type_builders(tokens: TokenStream, docs: &FieldDocs) -> Result<TokenStream> {
    let mut fields: BTreeMap<String, Vec<(Ident, TokenStream)>> = BTreeMap::new();
    let mut out = TokenStream::new();
    for item in items(tokens) {
        match item.keyword.as_str() {
            "struct" => {
                let text = format!("Builds a [`{0}`](super::{0}), field by field.", item.name);
                out.extend(quote!(#[doc = #text]));
                fields.insert(item.name.clone(), struct_fields(&item));
                out.extend(item.tokens);
            }
            "impl" if item.is_inherent() => {
                let name = item.name.clone();
                let Some(fields) = fields.get(&name) else {
                    refuse!("", "progenitor's builder `{name}` has no struct")
                };
                let setters = fields.iter().map(|(field, ty)| {
                    let docs = docs.get(&(name.clone(), field.to_string())).into_iter().flatten();
                    setter(field, ty, &quote!(#(#docs)*))
                });
                let body = quote!(#(#setters)*);
                out.extend(item.with_body(body));
            }
            _ => out.extend(item.tokens),
        }
    }
    Ok(out)
}

/// A setter that takes whatever converts, and keeps the reason when it does not.
fn setter(field: &Ident, ty: &TokenStream, docs: &TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = ty.clone().into_iter().collect();
    let (ty, convert) = match argument(&tokens, "Option") {
        Some(inner) => (inner, quote!(crate::builder_value_optional)),
        None => (ty.clone(), quote!(crate::builder_value)),
    };
    let text = field.to_string();
    quote! {
        #docs
        pub fn #field<T>(mut self, value: T) -> Self
        where
            T: ::std::convert::TryInto<#ty>,
            T::Error: ::std::fmt::Display,
        {
            self.#field = #convert(#text, value);
            self
        }
    }
}

pub(super) fn refine_builders(
    tokens: TokenStream,
    normalized: &Normalized,
    operations: &[OperationModel],
    links: &Links,
    parameters: &mut ParameterTypes,
) -> Result<TokenStream> {
    let by_builder: BTreeMap<&str, (usize, &OperationModel)> = operations
        .iter()
        .enumerate()
        .map(|(index, operation)| (operation.builder.as_str(), (index, operation)))
        .collect();
    let mut out = TokenStream::new();
    let mut sends = 0;
    for item in items(tokens) {
        match item.keyword.as_str() {
            "use" => {}
            "struct" => {
                let fields = struct_fields(&item).into_iter();
                parameters
                    .extend(fields.map(|(name, ty)| ((item.name.clone(), name.to_string()), ty)));
                out.extend(item.tokens);
            }
            "impl" if item.is_inherent() => {
                let Some((index, operation)) = by_builder.get(item.name.as_str()) else {
                    refuse!("", "progenitor's builder `{}` is of no operation", item.name)
                };
                let mut body = TokenStream::new();
                for function in items(item.body().unwrap_or_default()) {
                    if function.name == "send" {
                        sends += 1;
                        body.extend(send(&function, *index, operation, normalized)?);
                        continue;
                    }
                    let docs = parameter_docs(&function.name, operation, links);
                    if function.name == "new" && matches!(&operation.body, Some((_, false))) {
                        body.extend(docs);
                        body.extend(without_body(function.tokens.into_iter().collect()));
                        continue;
                    }
                    match parameters.get(&(item.name.clone(), function.name.clone())) {
                        Some(ty) if function.name != "body" => {
                            let name = format_ident!("{}", function.name);
                            body.extend(setter(&name, ty, &docs));
                        }
                        _ => {
                            body.extend(docs);
                            body.extend(function.tokens);
                        }
                    }
                }
                out.extend(item.with_body(body));
            }
            _ => out.extend(item.tokens),
        }
    }
    if sends != operations.len() {
        refuse!("", "{sends} `send` methods for {} operations", operations.len());
    }
    Ok(out)
}

/// An optional body that is not given is `{}`: the exchange has been seen to refuse a request
/// without any.
fn without_body(tokens: TokenStream) -> TokenStream {
    let mut out: Vec<TokenTree> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word == "Err" => match tokens.peek() {
                Some(TokenTree::Group(group))
                    if group.stream().to_string().contains("body was not initialized") =>
                {
                    tokens.next();
                    out.extend(quote!(Ok(::std::default::Default::default())));
                }
                _ => out.push(TokenTree::Ident(word)),
            },
            TokenTree::Group(group) => out.push(TokenTree::Group(Group::new(
                group.delimiter(),
                without_body(group.stream()),
            ))),
            other => out.push(other),
        }
    }
    out.into_iter().collect()
}

fn parameter_docs(function: &str, operation: &OperationModel, links: &Links) -> TokenStream {
    let parameter = operation.parameters.iter().find(|p| parameter_name(&p.name) == function);
    match (parameter, function) {
        (Some(parameter), _) => {
            let docs = doc(parameter.description.as_deref(), links);
            let deprecated = parameter.deprecated.then(|| quote!(#[deprecated]));
            quote!(#docs #deprecated)
        }
        (None, "body") => doc(Some("The body: a value, or a builder of one."), links),
        (None, "body_map") => doc(Some("Changes the builder of the body in place."), links),
        _ => doc(Some("Starts a request; nothing is sent."), links),
    }
}
