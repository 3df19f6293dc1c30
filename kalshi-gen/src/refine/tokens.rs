//! Cutting tokens into items and taking types apart, without parsing.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

use crate::error::{Error, Result};

/// One item of a module or of an `impl`, uncut.
pub(super) struct Item {
    pub(super) tokens: Vec<TokenTree>,
    /// `struct`, `impl`, `mod`, `fn`, …
    pub(super) keyword: String,
    /// The name after the keyword; for an `impl`, the last name before its body.
    pub(super) name: String,
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

    pub(super) fn body(&self) -> Option<TokenStream> {
        match self.tokens.last() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                Some(group.stream())
            }
            _ => None,
        }
    }

    pub(super) fn with_body(mut self, body: TokenStream) -> TokenStream {
        self.tokens.pop();
        self.tokens.push(TokenTree::Group(Group::new(Delimiter::Brace, body)));
        self.tokens.into_iter().collect()
    }

    /// Reports whether this is `impl X {`, not `impl Trait for X {`.
    pub(super) fn is_inherent(&self) -> bool {
        self.keyword == "impl"
            && !self.tokens.iter().any(|t| matches!(t, TokenTree::Ident(i) if i == "for"))
    }
}

/// Cuts a module or the body of an `impl` into items.
pub(super) fn items(tokens: TokenStream) -> Vec<Item> {
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

pub(super) fn parse<T: syn::parse::Parse>(tokens: TokenStream, name: &str) -> Result<T> {
    syn::parse2(tokens).map_err(|error| {
        Error::new("", format!("progenitor's `{name}` is not as expected: {error}"))
    })
}

/// Returns the fields of a struct and the `T` of their types `Result<T, String>`.
pub(super) fn struct_fields(item: &Item) -> Vec<(Ident, TokenStream)> {
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

/// Returns the type without the `Option` around it.
pub(crate) fn bare(ty: &TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = ty.clone().into_iter().collect();
    argument(&tokens, "Option").unwrap_or_else(|| ty.clone())
}

/// Returns the element of a `Vec`, if the type is one.
pub(crate) fn element(ty: &TokenStream) -> Option<TokenStream> {
    let tokens: Vec<TokenTree> = ty.clone().into_iter().collect();
    argument(&tokens, "Vec")
}

/// Returns the first argument of the generic type `name`, if the type is one of these.
pub(super) fn argument(ty: &[TokenTree], name: &str) -> Option<TokenStream> {
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

pub(super) fn starts(statement: &[TokenTree], words: &[&str]) -> bool {
    statement.len() >= words.len()
        && statement
            .iter()
            .zip(words)
            .all(|(token, word)| matches!(token, TokenTree::Ident(ident) if ident == word))
}

pub(super) fn matches(tokens: &[TokenTree], pattern: &[&str]) -> bool {
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
    use quote::quote;

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
}
