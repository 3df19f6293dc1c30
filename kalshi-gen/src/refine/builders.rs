//! The builders of types and of requests.

use std::{collections::BTreeMap, fmt::Write as _};

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::{format_ident, quote};

use super::{
    ParameterTypes,
    requests::{FieldDocs, Requests, builder, markers},
    send::send,
    tokens::{argument, items, matches, struct_fields},
};
use crate::{
    docs::{Links, doc},
    error::{Result, refuse},
    families::Surface,
    names::parameter_name,
    normalize::Normalized,
    operations::OperationModel,
};

/// Returns the module of the builders of types: those of the types that a request carries, made
/// anew (see [`builder`]). Progenitor has one for each type; a response is made from JSON.
pub(super) fn refine_type_builders(
    tokens: TokenStream,
    docs: &FieldDocs,
    requests: &Requests,
) -> Result<TokenStream> {
    let mut out = markers(requests);
    let mut made = 0;
    for item in items(tokens) {
        // The other items of the same name are parts of progenitor's builder.
        if item.keyword == "struct"
            && let Some(required) = requests.get(&item.name)
        {
            out.extend(builder(&item, required, requests, docs)?);
            made += 1;
        }
    }
    if made != requests.len() {
        refuse!("", "progenitor has {made} builders for the {} types of requests", requests.len());
    }
    Ok(out)
}

/// Returns the setter of a parameter, which takes whatever converts and keeps the reason when it
/// does not. That of an optional one takes an `Option`, too.
fn parameter_setter(field: &Ident, ty: &TokenStream, docs: &TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = ty.clone().into_iter().collect();
    let text = field.to_string();
    let (generics, bounds, value) = match argument(&tokens, "Option") {
        Some(inner) => (
            quote!(<V, K>),
            quote!(V: crate::request::OptionalValue<#inner, K>),
            quote!(value.optional_value(#text)),
        ),
        None => (
            quote!(<V>),
            quote!(V: ::std::convert::TryInto<#ty>, V::Error: ::std::fmt::Display),
            quote!(crate::builder_value(#text, value)),
        ),
    };
    quote! {
        #docs
        pub fn #field #generics(mut self, value: V) -> Self
        where
            #bounds,
        {
            self.#field = #value;
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
    let mut fields: BTreeMap<String, Vec<(Ident, TokenStream)>> = BTreeMap::new();
    for item in items(tokens) {
        match item.keyword.as_str() {
            "use" => {}
            "struct" => {
                let Some((_, operation)) = by_builder.get(item.name.as_str()) else {
                    refuse!("", "progenitor's builder `{}` is of no operation", item.name)
                };
                let own: Vec<_> = struct_fields(&item)
                    .into_iter()
                    .map(|(name, ty)| {
                        let ty = if name == "body" { body_type(operation, ty) } else { ty };
                        (name, ty)
                    })
                    .collect();
                parameters.extend(
                    own.iter()
                        .map(|(name, ty)| ((item.name.clone(), name.to_string()), ty.clone())),
                );
                let docs = builder_docs(operation, &normalized.surface);
                let name = format_ident!("{}", item.name);
                let client = client_field(&own);
                let (names, types): (Vec<_>, Vec<_>) = own.iter().cloned().unzip();
                out.extend(quote! {
                    #[doc = #docs]
                    #[derive(Clone, Debug)]
                    #[must_use = "a request does nothing until it is sent"]
                    pub struct #name<'a> {
                        #client: &'a super::Client,
                        #(#names: Result<#types, String>,)*
                    }
                });
                fields.insert(item.name.clone(), own);
            }
            "impl" if item.is_inherent() => {
                let (Some((index, operation)), Some(own)) =
                    (by_builder.get(item.name.as_str()), fields.get(&item.name))
                else {
                    refuse!("", "progenitor's builder `{}` is of no operation", item.name)
                };
                let mut body = new(operation, own);
                for mut function in items(item.body().unwrap_or_default()) {
                    match function.name.as_str() {
                        "send" => {
                            sends += 1;
                            let names: Vec<Ident> =
                                own.iter().map(|(name, _)| name.clone()).collect();
                            function.tokens = plain_body(&function.tokens);
                            body.extend(send(&function, *index, operation, normalized, &names)?);
                        }
                        "new" | "body_map" => {}
                        "body" => body.extend(body_setter(operation)),
                        name => {
                            let Some((field, ty)) = own.iter().find(|(field, _)| field == name)
                            else {
                                refuse!("", "progenitor's `{}` has no `{name}`", item.name)
                            };
                            let docs = parameter_docs(name, operation, links);
                            body.extend(parameter_setter(field, ty, &docs));
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

/// Returns the type of the body itself; progenitor keeps a builder of it.
fn body_type(operation: &OperationModel, ty: TokenStream) -> TokenStream {
    match &operation.body {
        Some((name, _)) => {
            let name = format_ident!("{name}");
            quote!(types::#name)
        }
        None => ty,
    }
}

/// Starts a request: what is required is missing, an optional body is `{}` (the exchange has been
/// seen to refuse a request without any).
fn new(operation: &OperationModel, fields: &[(Ident, TokenStream)]) -> TokenStream {
    let names = fields.iter().map(|(name, _)| name);
    let values = fields.iter().map(|(name, ty)| {
        let tokens: Vec<TokenTree> = ty.clone().into_iter().collect();
        let text = name.to_string();
        if name == "body" && matches!(&operation.body, Some((_, false))) {
            quote!(Ok(::std::default::Default::default()))
        } else if argument(&tokens, "Option").is_some() {
            quote!(Ok(None))
        } else {
            quote!(Err(crate::request::missing(#text)))
        }
    });
    let client = client_field(fields);
    quote! {
        pub(crate) fn new(#client: &'a super::Client) -> Self {
            Self { #client, #(#names: #values,)* }
        }
    }
}

/// Returns the field of the client, under the name that progenitor's `send` takes it by: it makes
/// way for parameters.
fn client_field(fields: &[(Ident, TokenStream)]) -> Ident {
    let mut name = "client".to_owned();
    while fields.iter().any(|(field, _)| *field == name) {
        name.insert(0, '_');
    }
    format_ident!("{name}")
}

fn body_setter(operation: &OperationModel) -> TokenStream {
    let Some((name, _)) = &operation.body else { return TokenStream::new() };
    let words = format!(
        "Sets the body: a [`{name}`](types::{name}), or a builder of one whose required fields are \
         set."
    );
    let name = format_ident!("{name}");
    quote! {
        #[doc = #words]
        pub fn body<V>(mut self, value: V) -> Self
        where
            V: crate::request::IntoBody<types::#name>,
        {
            self.body = crate::request::body(value);
            self
        }
    }
}

/// Drops the conversion of a builder into the body that progenitor's `send` makes:
/// `body.and_then(|v| types::X::try_from(v)…)`.
fn plain_body(tokens: &[TokenTree]) -> Vec<TokenTree> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if matches(rest, &["body", ".", "and_then", "()"]) {
            out.push(tokens[at].clone());
            at += 4;
            continue;
        }
        out.push(match &tokens[at] {
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let inner = plain_body(&inner);
                TokenTree::Group(Group::new(group.delimiter(), inner.into_iter().collect()))
            }
            other => other.clone(),
        });
        at += 1;
    }
    out
}

fn parameter_docs(function: &str, operation: &OperationModel, links: &Links) -> TokenStream {
    let parameter = operation.parameters.iter().find(|p| parameter_name(&p.name) == function);
    let Some(parameter) = parameter else { return TokenStream::new() };
    let docs = doc(parameter.description.as_deref(), links);
    let deprecated = parameter.deprecated.then(|| quote!(#[deprecated]));
    quote!(#docs #deprecated)
}

/// Returns the docs of a request: the operation, what must be set, what may be.
fn builder_docs(operation: &OperationModel, surface: &Surface) -> String {
    let method = surface.method(&operation.id);
    let mut text = format!("A request for [`{}`]({method}).", operation.id);
    let list = |required: bool| -> Vec<String> {
        let parameters = operation.parameters.iter().filter(|p| p.required == required);
        let mut names: Vec<String> = parameters
            .map(|parameter| format!("[`{0}`](Self::{0})", parameter_name(&parameter.name)))
            .collect();
        if let Some((body, needed)) = &operation.body
            && *needed == required
        {
            names.push(format!("[`body`](Self::body) (a [`{body}`](types::{body}))"));
        }
        names
    };
    let (required, optional) = (list(true), list(false));
    if !required.is_empty() {
        let _ = write!(text, "\n\nRequired: {}.", required.join(", "));
    }
    if !optional.is_empty() {
        let _ = write!(text, "\n\nOptional: {}.", optional.join(", "));
    }
    text + "\n\n```no_run\n" + &operation.example + "\n```"
}
