//! The end of a request: what `send` does.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::{format_ident, quote};

use super::tokens::{Item, matches, starts};
use crate::{
    error::{Error, Result},
    names::parameter_name,
    operations::OperationModel,
};

/// `send` keeps progenitor's conversion of parameters and its request; ours are what happens to
/// the request and what becomes of the response. One error type, with the operation in it, and no
/// hook that could be forgotten.
pub(super) fn send(
    function: &Item,
    index: usize,
    operation: &OperationModel,
) -> Result<TokenStream> {
    let expected = |what: &str| {
        Error::new("", format!("progenitor's `{}::send` has no {what}", operation.builder))
    };
    let body = function.body().ok_or_else(|| expected("body"))?;
    let mut statements: Vec<Vec<TokenTree>> = Vec::new();
    let mut current = Vec::new();
    for token in body {
        let ends = matches!(&token, TokenTree::Punct(p) if p.as_char() == ';');
        current.push(token);
        if ends {
            statements.push(std::mem::take(&mut current));
        }
    }
    // The last one: a parameter may be called `info`.
    let info = statements
        .iter()
        .rposition(|s| starts(s, &["let", "info"]))
        .ok_or_else(|| expected("`let info`"))?;
    statements.truncate(info);
    // The `api-version` header: the exchange does not ask for it.
    statements.retain(|s| !starts(s, &["let", "mut", "header_map"]) && !starts(s, &["header_map"]));
    let names = Locals::new(operation);
    let mut prefix = TokenStream::new();
    for statement in statements {
        prefix.extend(rewrite(statement.into_iter().collect(), &names));
    }
    let text = prefix.to_string();
    for (left, what) in [
        ("header_map", "headers that are understood"),
        ("encode_path", "path parameters that are understood"),
        ("Error :: InvalidRequest", "conversions that are understood"),
        (". build () ?", "request that is understood"),
        ("client . client", "client that is understood"),
        ("client . baseurl", "client that is understood"),
    ] {
        if text.contains(left) {
            return Err(expected(what));
        }
    }
    let response = if let Some(name) = &operation.response {
        let name = format_ident!("{name}");
        quote!(types::#name)
    } else {
        quote!(())
    };
    let call = if operation.response.is_some() { quote!(call) } else { quote!(call_empty) };
    let docs = send_docs(operation);
    let Locals { client, operation, request } = names;
    Ok(quote! {
        #[doc = #docs]
        pub async fn send(self) -> Result<ResponseValue<#response>, crate::Error> {
            let #operation = &super::OPERATIONS[#index];
            #prefix
            #client.#call(#operation, #request).await
        }
    })
}

/// The variables of `send` beside the parameters, as progenitor spells them: with an underscore
/// when a parameter has the name already.
struct Locals {
    client: Ident,
    operation: Ident,
    request: Ident,
}

impl Locals {
    fn new(operation: &OperationModel) -> Self {
        let taken: Vec<String> =
            operation.parameters.iter().map(|parameter| parameter_name(&parameter.name)).collect();
        let free = |name: &str| {
            let mut name = name.to_owned();
            while taken.contains(&name) {
                name.insert(0, '_');
            }
            format_ident!("{name}")
        };
        Self { client: free("client"), operation: free("operation"), request: free("request") }
    }
}

fn send_docs(operation: &OperationModel) -> String {
    let mut text = format!("Sends `{} {}`.\n\n# Errors\n\n", operation.method, operation.path);
    text.push_str("[`Error`](crate::Error): a parameter that cannot be sent, ");
    if operation.is_private() {
        text.push_str("missing credentials, ");
    }
    text.push_str(
        "a failed connection, a refusal by the exchange, or a response that does not decode. \
         Its kind says which, its [`effect`](crate::Error::effect) whether the request may have \
         been carried out.",
    );
    if operation.method != "GET" {
        text.push_str("\n\n# Cancellation\n\n");
        text.push_str(
            "Dropping the future does not call the request back: once it is on the wire the \
             exchange may carry it out. ",
        );
        text.push_str(
            "Treat a dropped future, and an error whose effect is \
             [`Unknown`](crate::Effect::Unknown), alike: ",
        );
        match &operation.idempotency_key {
            Some(key) => {
                for part in [
                    "look the request up by its `",
                    key,
                    "` before sending again; sent again with the same `",
                    key,
                    "` it answers 409 instead of acting twice.",
                ] {
                    text.push_str(part);
                }
            }
            None => text.push_str("read the state back before sending again."),
        }
    }
    text
}

/// Replaces progenitor's ways with ours, at any depth:
/// `Error::InvalidRequest` (our error names the operation), `encode_path(&x.to_string())` (ours
/// refuses `""`, `.` and `..`), `.build()?`, `client.client`, `client.baseurl`.
fn rewrite(tokens: TokenStream, names: &Locals) -> TokenStream {
    let Locals { client, operation, .. } = names;
    let client_name = client.to_string();
    let tokens: Vec<TokenTree> = tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Group(group) => {
                TokenTree::Group(Group::new(group.delimiter(), rewrite(group.stream(), names)))
            }
            other => other,
        })
        .collect();
    let mut out = TokenStream::new();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if matches(rest, &["Error", ":", ":", "InvalidRequest"]) {
            out.extend(quote!(|message| crate::Error::invalid_request(#operation, message)));
            at += 4;
        } else if matches(rest, &["encode_path", "()"]) {
            let name = path_parameter(&rest[1]);
            out.extend(quote! {
                crate::transport::path_segment(#operation, #name)?
            });
            at += 2;
        } else if matches(rest, &[".", "build", "()", "?"]) {
            out.extend(
                quote!(.build().map_err(|error| crate::Error::not_built(#operation, error))?),
            );
            at += 4;
        } else if matches(rest, &[".", "headers", "()"]) {
            at += 3;
        } else if matches(rest, &[client_name.as_str(), ".", "client"]) {
            out.extend(quote!(#client.http()));
            at += 3;
        } else if matches(rest, &[client_name.as_str(), ".", "baseurl"]) {
            out.extend(quote!(#client.base_url()));
            at += 3;
        } else {
            out.extend(std::iter::once(tokens[at].clone()));
            at += 1;
        }
    }
    out
}

/// The name and the text of the parameter in `(&name.to_string())`, as two arguments.
fn path_parameter(group: &TokenTree) -> TokenStream {
    let TokenTree::Group(group) = group else { return TokenStream::new() };
    let name = group.stream().into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident),
        _ => None,
    });
    let text = name.map(|name| name.to_string()).unwrap_or_default();
    let value = group.stream();
    quote!(#text, #value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_parameters_go_through_our_guard() {
        let names = Locals {
            client: format_ident!("client"),
            operation: format_ident!("operation"),
            request: format_ident!("request"),
        };
        let tokens = quote!(format!("{}/a/{}", client.baseurl, encode_path(&id.to_string()),));
        let out = rewrite(tokens, &names);
        assert_eq!(
            out.to_string(),
            quote!(format!(
                "{}/a/{}",
                client.base_url(),
                crate::transport::path_segment(operation, "id", &id.to_string())?,
            ))
            .to_string()
        );
    }
}
