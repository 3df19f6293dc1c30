//! Rewrites the tokens that progenitor gives back.
//!
//! Tokens are cut into items without parsing them: most need no change, and parsing all 45,000
//! lines took longer (0.8 s in an unoptimised build script) than generating them. Only structs are
//! parsed. A place that does not look as expected is an error, never a silent pass.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use serde_json::Value;
use syn::{Attribute, Field, Fields, ItemStruct, Type, parse_quote};

use crate::{
    document::join,
    emit::{Links, doc},
    error::{Error, Result, refuse},
    names::parameter_name,
    normalise::{Normalised, request_schemas},
    operations::OperationModel,
};

/// What is kept of progenitor's output. The client itself is ours.
pub(crate) struct Parts {
    pub(crate) types: TokenStream,
    pub(crate) builders: TokenStream,
    /// The type of each parameter, by the names of builder and parameter.
    pub(crate) parameters: ParameterTypes,
}

pub(crate) type ParameterTypes = BTreeMap<(String, String), TokenStream>;

pub(crate) fn refine(
    tokens: TokenStream,
    normalised: &Normalised,
    operations: &[OperationModel],
    links: &Links,
) -> Result<Parts> {
    let (mut types, mut builders) = (None, None);
    for item in items(tokens) {
        match (item.keyword.as_str(), item.name.as_str()) {
            ("mod", "types") => types = item.body(),
            ("mod", "builder") => builders = item.body(),
            _ => {}
        }
    }
    let (Some(types), Some(builders)) = (types, builders) else {
        refuse!("", "progenitor gave no `types` or no `builder` module")
    };
    let mut parameters = ParameterTypes::new();
    Ok(Parts {
        types: refine_types(types, normalised, links)?,
        builders: refine_builders(builders, operations, links, &mut parameters)?,
        parameters,
    })
}

/// One item of a module or of an `impl`, uncut.
struct Item {
    tokens: Vec<TokenTree>,
    /// `struct`, `impl`, `mod`, `fn`, …
    keyword: String,
    /// The name after the keyword; for an `impl`, the last name before its body.
    name: String,
}

impl Item {
    fn new(tokens: Vec<TokenTree>) -> Self {
        const KEYWORDS: [&str; 9] =
            ["struct", "enum", "impl", "mod", "fn", "use", "const", "static", "type"];
        let at = tokens.iter().position(
            |token| matches!(token, TokenTree::Ident(i) if KEYWORDS.iter().any(|k| i == k)),
        );
        let word = |token: &TokenTree| match token {
            TokenTree::Ident(ident) => Some(ident.to_string()),
            _ => None,
        };
        let keyword = at.and_then(|at| word(&tokens[at])).unwrap_or_default();
        let rest = tokens.get(at.map_or(0, |at| at + 1)..).unwrap_or_default();
        let name = if keyword == "impl" {
            // `impl<'a> Name<'a> {` and `impl Name {`: a lifetime's name is not a type's.
            let mut name = String::new();
            let mut quoted = false;
            for token in rest {
                if let (Some(word), false) = (word(token), quoted) {
                    name = word;
                }
                quoted = matches!(token, TokenTree::Punct(p) if p.as_char() == '\'');
            }
            name
        } else {
            rest.iter().find_map(word).unwrap_or_default()
        };
        Self { tokens, keyword, name }
    }

    fn body(&self) -> Option<TokenStream> {
        match self.tokens.last() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                Some(group.stream())
            }
            _ => None,
        }
    }

    fn with_body(mut self, body: TokenStream) -> TokenStream {
        self.tokens.pop();
        self.tokens.push(TokenTree::Group(Group::new(Delimiter::Brace, body)));
        self.tokens.into_iter().collect()
    }

    /// `impl X {`, not `impl Trait for X {`.
    fn is_inherent(&self) -> bool {
        self.keyword == "impl"
            && !self.tokens.iter().any(|t| matches!(t, TokenTree::Ident(i) if i == "for"))
    }
}

/// Cuts a module or the body of an `impl` into items.
fn items(tokens: TokenStream) -> Vec<Item> {
    let mut found = Vec::new();
    let mut current = Vec::new();
    // Items of these kinds end at a semicolon even if braces come before.
    let mut to_semicolon = false;
    for token in tokens {
        let mut ends = false;
        match &token {
            TokenTree::Ident(word) if word == "use" || word == "static" || word == "type" => {
                to_semicolon = true;
            }
            TokenTree::Ident(word) if word == "const" => to_semicolon = true,
            // `const fn`
            TokenTree::Ident(word) if word == "fn" => to_semicolon = false,
            TokenTree::Punct(punct) if punct.as_char() == ';' => ends = true,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                ends = !to_semicolon;
            }
            _ => {}
        }
        current.push(token);
        if ends {
            found.push(Item::new(std::mem::take(&mut current)));
            to_semicolon = false;
        }
    }
    found
}

type FieldDocs = BTreeMap<(String, String), Vec<Attribute>>;

fn refine_types(
    tokens: TokenStream,
    normalised: &Normalised,
    links: &Links,
) -> Result<TokenStream> {
    let requests = request_schemas(&normalised.document)?;
    let mut docs = FieldDocs::new();
    let mut out = TokenStream::new();
    for item in items(tokens) {
        match (item.keyword.as_str(), item.name.as_str()) {
            ("struct", name) => {
                let name = name.to_owned();
                let mut parsed: ItemStruct = parse(item.tokens.into_iter().collect(), &name)?;
                let lenient = !requests.contains(&name);
                refine_struct(&mut parsed, normalised, lenient, links, &mut docs);
                parsed.to_tokens(&mut out);
            }
            ("mod", "builder") => {
                let body = item.body().unwrap_or_default();
                out.extend(item.with_body(refine_type_builders(body, &docs)?));
            }
            ("impl", name) if item.is_inherent() => {
                let words = builder_words(name, normalised);
                let mut body = TokenStream::new();
                for part in items(item.body().unwrap_or_default()) {
                    if part.keyword == "fn" && part.name == "builder" {
                        body.extend(quote!(#[doc = #words]));
                    }
                    body.extend(part.tokens);
                }
                out.extend(item.with_body(body));
            }
            _ => out.extend(item.tokens),
        }
    }
    Ok(out)
}

/// What a builder says of itself: which fields it cannot do without.
fn builder_words(name: &str, normalised: &Normalised) -> String {
    let pointer = join("/components/schemas", name);
    let Some(schema) = normalised.document.pointer(&pointer) else {
        // A part of another schema that progenitor named.
        return "Builds one, field by field.".to_owned();
    };
    let fields: Vec<String> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|field| format!("`{}`", parameter_name(field)))
        .collect();
    match fields.as_slice() {
        [] => "Builds one, field by field; none has to be set.".to_owned(),
        [only] => format!("Builds one, field by field; {only} must be set."),
        [first @ .., last] => {
            format!("Builds one, field by field; {} and {last} must be set.", first.join(", "))
        }
    }
}

fn parse<T: syn::parse::Parse>(tokens: TokenStream, name: &str) -> Result<T> {
    syn::parse2(tokens).map_err(|error| {
        Error::new("", format!("progenitor's `{name}` is not as expected: {error}"))
    })
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
            // A field that must be there and may be null has a function already.
            let required = drop_deserialize_with(&mut field.attrs);
            field.attrs.push(parse_quote!(#[serde(deserialize_with = #function)]));
            if function.ends_with("optional") && !required && !has_default(&field.attrs) {
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

/// The setters of the builders of types are written anew: an optional field takes its bare value
/// (`.client_order_id("mine")`), and each carries the words of its field.
fn refine_type_builders(tokens: TokenStream, docs: &FieldDocs) -> Result<TokenStream> {
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

/// The fields of a struct and the `T` of their types `Result<T, String>`.
fn struct_fields(item: &Item) -> Vec<(Ident, TokenStream)> {
    let mut fields = Vec::new();
    let mut name: Option<Ident> = None;
    let mut ty = Vec::new();
    let mut depth = 0_usize;
    for token in item.body().unwrap_or_default() {
        match &token {
            TokenTree::Punct(p) if p.as_char() == ',' && depth == 0 => {
                if let (Some(name), Some(value)) = (name.take(), argument(&ty, "Result")) {
                    fields.push((name, value));
                }
                ty.clear();
                continue;
            }
            TokenTree::Punct(p) if p.as_char() == '<' => depth += 1,
            TokenTree::Punct(p) if p.as_char() == '>' => depth = depth.saturating_sub(1),
            TokenTree::Ident(ident) if name.is_none() => {
                name = Some(ident.clone());
                continue;
            }
            _ => {}
        }
        ty.push(token);
    }
    fields
}

/// The type without the `Option` around it.
pub(crate) fn bare(ty: &TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = ty.clone().into_iter().collect();
    argument(&tokens, "Option").unwrap_or_else(|| ty.clone())
}

/// The element of a `Vec`, if the type is one.
pub(crate) fn element(ty: &TokenStream) -> Option<TokenStream> {
    let tokens: Vec<TokenTree> = ty.clone().into_iter().collect();
    argument(&tokens, "Vec")
}

/// The first argument of the generic type `name`, if the type is one of these.
fn argument(ty: &[TokenTree], name: &str) -> Option<TokenStream> {
    let open = ty.iter().position(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == '<'))?;
    if !matches!(ty.get(open.checked_sub(1)?)?, TokenTree::Ident(ident) if ident == name) {
        return None;
    }
    let mut depth = 0_usize;
    let end = ty[open + 1..].iter().position(|token| {
        let TokenTree::Punct(punct) = token else { return false };
        match punct.as_char() {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            ',' | '>' if depth == 0 => return true,
            _ => {}
        }
        false
    })?;
    Some(ty[open + 1..open + 1 + end].iter().cloned().collect())
}

fn refine_builders(
    tokens: TokenStream,
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
                        body.extend(send(&function, *index, operation)?);
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

/// `send` keeps progenitor's conversion of parameters and its request; ours are what happens to
/// the request and what becomes of the response. One error type, with the operation in it, and no
/// hook that could be forgotten.
fn send(function: &Item, index: usize, operation: &OperationModel) -> Result<TokenStream> {
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

fn starts(statement: &[TokenTree], words: &[&str]) -> bool {
    statement.len() >= words.len()
        && statement
            .iter()
            .zip(words)
            .all(|(token, word)| matches!(token, TokenTree::Ident(ident) if ident == word))
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

fn matches(tokens: &[TokenTree], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len()
        && tokens.iter().zip(pattern).all(|(token, word)| match token {
            TokenTree::Ident(ident) => ident == word,
            TokenTree::Punct(punct) => word.len() == 1 && word.starts_with(punct.as_char()),
            TokenTree::Group(group) => *word == "()" && group.delimiter() == Delimiter::Parenthesis,
            TokenTree::Literal(_) => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_cut_where_they_end() {
        let tokens = quote! {
            use a::{b, c};
            #[derive(Debug)]
            pub struct A { x: u8 }
            pub struct B(u8);
            impl<'a> A<'a> { fn f() { let x = 1; } }
            const X: u8 = { 1 };
            impl T for A {}
        };
        let items = items(tokens);
        let cut: Vec<_> =
            items.iter().map(|i| (i.keyword.as_str(), i.name.as_str(), i.is_inherent())).collect();
        assert_eq!(
            cut,
            [
                ("use", "a", false),
                ("struct", "A", false),
                ("struct", "B", false),
                ("impl", "A", true),
                ("const", "X", false),
                ("impl", "A", false),
            ]
        );
    }

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
