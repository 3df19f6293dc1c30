//! The end of a request: what `send` does.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::{format_ident, quote};

use serde_json::Value;

use super::tokens::{Item, matches, starts};
use crate::{
    document::{join, schema_name},
    error::{Error, Result},
    names::parameter_name,
    normalize::Normalized,
    operations::OperationModel,
};

/// Emits `send`: it keeps progenitor's conversion of parameters and its request; ours are what
/// happens to the request and what becomes of the response. One error type, with the operation in
/// it, and no hook that could be forgotten.
pub(super) fn send(
    function: &Item,
    index: usize,
    operation: &OperationModel,
    normalized: &Normalized,
    fields: &[Ident],
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
        ("encode_path", "path parameters that are understood"),
        ("Error :: InvalidRequest", "conversions that are understood"),
        ("header", "headers that are understood"),
        ("QueryParam", "query parameters that are understood"),
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
    let call = call(operation, normalized);
    let docs = send_docs(operation);
    let Locals { client, operation, request, .. } = names;
    Ok(quote! {
        /// Builds the request; nothing is sent.
        pub(crate) fn into_request(
            self,
        ) -> Result<(&'a super::Client, ::reqwest::Request), crate::Error> {
            let #operation = &super::OPERATIONS[#index];
            crate::request::check(#operation, &[#(self.#fields.as_ref().err()),*])?;
            #prefix
            Ok((#client, #request))
        }

        #[doc = #docs]
        pub async fn send(self) -> Result<ResponseValue<#response>, crate::Error> {
            let operation = &super::OPERATIONS[#index];
            let (client, request) = self.into_request()?;
            client.#call.await
        }
    })
}

/// Returns the method of the client that takes the request, by what can pass for a success.
fn call(operation: &OperationModel, normalized: &Normalized) -> TokenStream {
    let Some(response) = &operation.response else { return quote!(call_empty(operation, request)) };
    let schema = normalized.document.pointer(&join("/components/schemas", response));
    let schema = schema.unwrap_or(&Value::Null);
    if let Some((items, ids)) = batch(operation, schema, normalized) {
        return quote! {
            call_batch(operation, request, crate::transport::Batch { items: #items, ids: &[#(#ids),*] })
        };
    }
    let label = |field: &str| {
        let field = (response.clone(), field.to_owned());
        normalized.labels.contains_key(&field)
    };
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    if required.filter_map(Value::as_str).any(|field| !label(field)) {
        return quote!(call(operation, request));
    }
    // Anything that is an object decodes: only the absence of these says that it is a success.
    let properties = schema.get("properties").and_then(Value::as_object);
    let keys = ERROR_KEYS
        .iter()
        .filter(|key| !properties.is_some_and(|properties| properties.contains_key(**key)));
    quote!(call_open(operation, request, &[#(#keys),*]))
}

/// The fields of an object that is an error, in any shape that has been seen.
const ERROR_KEYS: [&str; 4] = ["error", "code", "message", "msg"];

/// Returns the list of a batch and the ids of its items, where request and response have both.
fn batch<'a>(
    operation: &OperationModel,
    response: &'a Value,
    normalized: &'a Normalized,
) -> Option<(&'a str, Vec<&'a str>)> {
    let (request, _) = operation.body.as_ref()?;
    let schema = |name: &str| normalized.document.pointer(&join("/components/schemas", name));
    let request = schema(request)?;
    // Both must have the list: a success without one says nothing of its items.
    let list = |of: &'a Value, field: &str| -> Option<&'a serde_json::Map<String, Value>> {
        let required = of.get("required")?.as_array()?;
        let property = of.get("properties")?.get(field)?;
        let items = property.get("items").filter(|_| property["type"] == "array")?;
        let name = items.get("$ref").or_else(|| items.pointer("/allOf/0/$ref"))?;
        let item = schema(schema_name(name.as_str()?)?)?;
        let properties = item.get("properties")?.as_object()?;
        required.iter().any(|name| name == field).then_some(properties)
    };
    let fields = response.get("properties")?.as_object()?;
    fields.keys().find_map(|field| {
        let (sent, told) = (list(request, field)?, list(response, field)?);
        // An item that says what became of it may have failed on its own.
        let ids = ["client_order_id", "order_id"];
        let ids = ids.into_iter().filter(|id| sent.contains_key(*id) && told.contains_key(*id));
        let ids: Vec<&str> = ids.collect();
        (!ids.is_empty()).then_some((field.as_str(), ids))
    })
}

/// The names in `send`. The variables beside the parameters are as progenitor spells them: with an
/// underscore when a parameter has the name already.
struct Locals {
    client: Ident,
    operation: Ident,
    request: Ident,
    /// The method that progenitor calls: `get`.
    method: String,
    /// The query parameters that must be given.
    required: Vec<String>,
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
        let required = operation
            .parameters
            .iter()
            .filter(|parameter| parameter.required && !parameter.in_path);
        Self {
            client: free("client"),
            operation: free("operation"),
            request: free("request"),
            method: operation.method.to_lowercase(),
            required: required.map(|parameter| parameter.name.clone()).collect(),
        }
    }
}

fn send_docs(operation: &OperationModel) -> String {
    let mut text = format!("Sends `{} {}`.\n\n# Errors\n\n", operation.method, operation.path);
    text.push_str("[`Error`](crate::Error): an invalid parameter, ");
    if operation.is_private() {
        text.push_str("missing credentials, ");
    }
    text.push_str(
        "a failed connection, a refusal by the exchange, or a response that is not as documented. \
         Its kind says which, its [`effect`](crate::Error::effect) whether any attempt of the \
         request may have been carried out.",
    );
    if operation.method != "GET" {
        text.push_str("\n\n# Cancellation\n\n");
        text.push_str(
            "Dropping the future does not cancel the request: once it is on the wire the \
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
                    "` before retrying; a retry with the same `",
                    key,
                    "` is answered by 409 and does not act twice.",
                ] {
                    text.push_str(part);
                }
            }
            None => text.push_str("read the state back before retrying."),
        }
    }
    text
}

/// Replaces progenitor's ways with ours, at any depth:
/// `Error::InvalidRequest` (our error names the operation), `encode_path(&x.to_string())` (ours
/// refuses `""`, `.` and `..`), `format!("{}/…", client.baseurl, …)` (a path, without the base URL),
/// and the request, which `RequestDraft` builds.
fn rewrite(tokens: TokenStream, names: &Locals) -> TokenStream {
    let Locals { client, operation, method, .. } = names;
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
        } else if matches(rest, &[".", "headers", "()"]) {
            at += 3;
        } else if matches(rest, &[".", "header", "()"]) && accepts_json(&rest[2]) {
            out.extend(quote!(.accept_json()));
            at += 3;
        } else if let Some(query) = query(rest, &names.required) {
            out.extend(query);
            at += 3;
        } else if let Some(path) = path_of_request(rest, &client_name, method) {
            out.extend(quote! {
                crate::request_draft::RequestDraft::new(#client.http(), #client.base(), #operation, &#path)
            });
            at += 6;
        } else if let Some(path) = path(rest, &client_name) {
            out.extend(path);
            at += 3;
        } else {
            out.extend(std::iter::once(tokens[at].clone()));
            at += 1;
        }
    }
    out
}

/// Returns the path of the request that `client.client.get(path)` begins.
fn path_of_request(tokens: &[TokenTree], client: &str, method: &str) -> Option<TokenStream> {
    match tokens.get(5)? {
        TokenTree::Group(path) if matches(tokens, &[client, ".", "client", ".", method, "()"]) => {
            Some(path.stream())
        }
        _ => None,
    }
}

/// Reports whether these are the arguments `ACCEPT, HeaderValue::from_static("application/json")`.
fn accepts_json(group: &TokenTree) -> bool {
    let text = group.to_string();
    text.contains("ACCEPT") && text.contains("\"application/json\"")
}

/// Returns our query parameter for `.query(&QueryParam::new("name", &name))`.
fn query(tokens: &[TokenTree], required: &[String]) -> Option<TokenStream> {
    let [TokenTree::Punct(_), TokenTree::Ident(_), TokenTree::Group(outer), ..] = tokens else {
        return None;
    };
    if !matches(tokens, &[".", "query", "()"]) {
        return None;
    }
    let arguments = outer.stream().into_iter().find_map(|token| match token {
        TokenTree::Group(group) => Some(group.stream()),
        _ => None,
    })?;
    let arguments: Vec<TokenTree> = arguments.into_iter().collect();
    let [TokenTree::Literal(name), _, TokenTree::Punct(_), value @ TokenTree::Ident(_)] =
        arguments.as_slice()
    else {
        return None;
    };
    Some(if required.iter().any(|required| required == name.to_string().trim_matches('"')) {
        quote!(.query(#name, &#value))
    } else {
        quote!(.query_optional(#name, #value.as_ref()))
    })
}

/// Returns the path below the base URL for `format!("{}/path/{}", client.baseurl, parameter,)`.
fn path(tokens: &[TokenTree], client: &str) -> Option<TokenStream> {
    if !matches(tokens, &["format", "!", "()"]) {
        return None;
    }
    let TokenTree::Group(group) = &tokens[2] else { return None };
    let arguments: Vec<TokenTree> = group.stream().into_iter().collect();
    let TokenTree::Literal(pattern) = arguments.first()? else { return None };
    if !matches(&arguments[1..], &[",", client, ".", "baseurl", ","]) {
        return None;
    }
    let pattern = pattern.to_string();
    let path = pattern.strip_prefix("\"{}")?.strip_suffix('"')?;
    let parameters = arguments.get(6..).unwrap_or_default();
    Some(if parameters.is_empty() {
        quote!(#path)
    } else {
        quote!(format!(#path, #(#parameters)*))
    })
}

/// Returns the name and the text of the parameter in `(&name.to_string())`, as two arguments.
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

    fn rewritten(tokens: TokenStream) -> String {
        let names = Locals {
            client: format_ident!("client"),
            operation: format_ident!("operation"),
            request: format_ident!("request"),
            method: "get".to_owned(),
            required: vec!["ticker".to_owned()],
        };
        rewrite(tokens, &names).to_string()
    }

    #[test]
    fn path_parameters_go_through_our_guard() {
        let tokens = quote!(format!("{}/a/{}", client.baseurl, encode_path(&id.to_string()),));
        let expected = quote!(format!(
            "/a/{}",
            crate::transport::path_segment(operation, "id", &id.to_string())?,
        ));
        assert_eq!(rewritten(tokens), expected.to_string());
        assert_eq!(rewritten(quote!(format!("{}/a", client.baseurl,))), quote!("/a").to_string());
    }

    #[test]
    fn a_request_is_built_by_ours_and_an_absent_parameter_costs_nothing() {
        let tokens = quote! {
            client
                .client
                .get(url)
                .header(
                    ::reqwest::header::ACCEPT,
                    ::reqwest::header::HeaderValue::from_static("application/json"),
                )
                .query(&progenitor_client::QueryParam::new("limit", &limit))
                .query(&progenitor_client::QueryParam::new("ticker", &ticker))
                .headers(header_map)
                .build()?
        };
        let expected = quote! {
            crate::request_draft::RequestDraft::new(client.http(), client.base(), operation, &url)
                .accept_json()
                .query_optional("limit", limit.as_ref())
                .query("ticker", &ticker)
                .build()?
        };
        assert_eq!(rewritten(tokens), expected.to_string());
    }

    #[test]
    fn what_is_not_understood_stays_and_is_refused_later() {
        for tokens in [
            quote!(client.client.post(url)),
            quote!(request.header("accept", "text/csv")),
            quote!(format!("/{}", client.baseurl)),
        ] {
            assert_eq!(rewritten(tokens.clone()), tokens.to_string());
        }
    }
}
