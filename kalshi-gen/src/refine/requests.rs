//! The builders of what requests carry: a required field that is not set does not compile.
//!
//! Named setters rather than a constructor with positions: `yes_bid` and `no_bid`, or the two
//! subaccounts of a transfer, have one type, and nothing would notice that they were swapped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{format_ident, quote};

use super::{
    tokens::{Item, argument, struct_fields},
    types::FieldDocs,
};
use crate::error::{Result, refuse};

/// The required fields of each type that a request carries, by its name.
pub(super) type Requests = BTreeMap<String, BTreeSet<String>>;

/// A field of a builder.
struct Field {
    name: Ident,
    /// With the `Option` around it, if there is one.
    ty: TokenStream,
    required: bool,
}

impl Field {
    fn optional(&self) -> Option<TokenStream> {
        argument(&self.ty.clone().into_iter().collect::<Vec<TokenTree>>(), "Option")
    }

    /// Returns the type of the items, if they are types that a request carries.
    fn items(&self, requests: &Requests) -> Option<TokenStream> {
        let item = argument(&self.ty.clone().into_iter().collect::<Vec<TokenTree>>(), "Vec")?;
        let Some(TokenTree::Ident(name)) = item.clone().into_iter().last() else { return None };
        requests.contains_key(&name.to_string()).then_some(item)
    }
}

/// Returns the name of a type's builder.
pub(super) fn builder_name(name: &str) -> Ident {
    format_ident!("{name}Builder")
}

/// Returns the builder of one type, from the struct that progenitor made for it.
pub(super) fn builder(
    item: &Item,
    required: &BTreeSet<String>,
    requests: &Requests,
    docs: &FieldDocs,
) -> Result<TokenStream> {
    let name = format_ident!("{}", item.name);
    let fields: Vec<Field> = struct_fields(item)
        .into_iter()
        .map(|(name, ty)| Field { required: required.contains(&name.to_string()), name, ty })
        .collect();
    if let Some(lost) = required.iter().find(|name| !fields.iter().any(|f| f.name == *name)) {
        refuse!("", "progenitor's builder `{name}` has no field `{lost}`");
    }
    let builder = builder_name(&item.name);
    let inner = format_ident!("{name}Fields");
    let set: Vec<&Field> = fields.iter().filter(|field| field.required).collect();
    let states: Vec<Ident> = (0..set.len()).map(|index| format_ident!("S{index}")).collect();
    let markers: Vec<&Ident> = set.iter().map(|field| &field.name).collect();
    let generics = |of: &[TokenStream]| {
        if of.is_empty() { TokenStream::new() } else { quote!(<#(#of),*>) }
    };
    let plain: Vec<TokenStream> = states.iter().map(|state| quote!(#state)).collect();
    let parameters = generics(&plain);
    let defaults: Vec<TokenStream> = states
        .iter()
        .zip(&markers)
        .map(|(state, marker)| quote!(#state = missing::#marker))
        .collect();
    let defaults = generics(&defaults);
    let bounded: Vec<TokenStream> =
        states.iter().map(|state| quote!(#state: crate::request::IsSet)).collect();
    let bounded = generics(&bounded);
    let complete: Vec<TokenStream> = states.iter().map(|_| quote!(crate::request::Set)).collect();
    let complete = generics(&complete);
    let names: Vec<&Ident> = fields.iter().map(|field| &field.name).collect();
    let types = fields.iter().map(|field| &field.ty);
    let initial = fields.iter().map(|field| {
        if field.required {
            let text = field.name.to_string();
            quote!(Err(crate::request::missing(#text)))
        } else {
            quote!(Ok(::std::default::Default::default()))
        }
    });
    let setters = fields.iter().map(|field| {
        let docs = docs.get(&(item.name.clone(), field.name.to_string())).into_iter().flatten();
        let docs = quote!(#(#docs)*);
        setter(field, &set, &plain, &builder, requests, &docs)
    });
    let words = builder_docs(&item.name, &fields);
    Ok(quote! {
        #[doc = #words]
        #[derive(Clone, Debug)]
        #[must_use = "a builder does nothing until it is built or sent"]
        pub struct #builder #defaults {
            fields: #inner,
            set: ::std::marker::PhantomData<(#(#states,)*)>,
        }

        #[derive(Clone, Debug)]
        struct #inner {
            #(#names: ::std::result::Result<#types, ::std::string::String>,)*
        }

        impl ::std::default::Default for #builder {
            fn default() -> Self {
                Self { fields: #inner { #(#names: #initial,)* }, set: ::std::marker::PhantomData }
            }
        }

        impl #parameters #builder #parameters {
            #(#setters)*

            /// Returns the value. Compiles once every required field is set.
            ///
            /// # Errors
            ///
            /// The fields whose values do not fit their types, all of them at once.
            pub fn build(self) -> ::std::result::Result<super::#name, crate::InvalidFields>
            where
                #(#states: crate::request::IsSet,)*
            {
                let fields = self.fields;
                crate::request::check_fields(&[#(fields.#names.as_ref().err()),*])?;
                Ok(super::#name { #(#names: fields.#names?,)* })
            }
        }

        impl crate::request::Buildable for super::#name {
            type Complete = #builder #complete;
        }

        impl #bounded ::std::convert::TryFrom<#builder #parameters> for super::#name {
            type Error = crate::InvalidFields;

            fn try_from(
                builder: #builder #parameters,
            ) -> ::std::result::Result<Self, crate::InvalidFields> {
                builder.build()
            }
        }

        impl #bounded crate::request::IntoBody<super::#name> for #builder #parameters {
            fn into_body(self) -> ::std::result::Result<super::#name, crate::InvalidFields> {
                self.build()
            }
        }
    })
}

/// Returns the setter of one field. That of a required one changes the type: the field counts as
/// set.
fn setter(
    field: &Field,
    required: &[&Field],
    states: &[TokenStream],
    builder: &Ident,
    requests: &Requests,
    docs: &TokenStream,
) -> TokenStream {
    let Field { name, ty, .. } = field;
    let text = name.to_string();
    let (generics, bounds, value) = match (field.items(requests), field.optional()) {
        (Some(item), _) => (
            quote!(<V>),
            quote!(V: ::std::iter::IntoIterator, V::Item: crate::request::IntoBody<#item>),
            quote!(crate::request::list(#text, value)),
        ),
        (None, Some(inner)) => (
            quote!(<V, K>),
            quote!(V: crate::request::OptionalValue<#inner, K>),
            quote!(value.optional_value(#text)),
        ),
        (None, None) => (
            quote!(<V>),
            quote!(V: ::std::convert::TryInto<#ty>, V::Error: ::std::fmt::Display),
            quote!(crate::builder_value(#text, value)),
        ),
    };
    let (result, end) = match required.iter().position(|other| other.name == *name) {
        None => (quote!(Self), quote!(self)),
        Some(at) => {
            let states = states.iter().enumerate().map(|(index, state)| {
                if index == at { quote!(crate::request::Set) } else { state.clone() }
            });
            (
                quote!(#builder<#(#states),*>),
                quote!(#builder { fields: self.fields, set: ::std::marker::PhantomData }),
            )
        }
    };
    quote! {
        #docs
        pub fn #name #generics(mut self, value: V) -> #result
        where
            #bounds,
        {
            self.fields.#name = #value;
            #end
        }
    }
}

/// Returns the docs of a builder: the fields that it requires.
fn builder_docs(name: &str, fields: &[Field]) -> String {
    let list = |required: bool| -> Vec<String> {
        let names = fields.iter().filter(|field| field.required == required);
        names.map(|field| format!("[`{0}`](Self::{0})", field.name)).collect()
    };
    let mut text = format!("Builds a [`{name}`](super::{name}).\n\n");
    match (list(true), list(false)) {
        (required, optional) if required.is_empty() => {
            let _ = write!(text, "No field is required. Optional: {}.", optional.join(", "));
        }
        (required, optional) => {
            let _ = write!(text, "Required: {}.", required.join(", "));
            if !optional.is_empty() {
                let _ = write!(text, " Optional: {}.", optional.join(", "));
            }
            text += "\n\nThe type arguments say which required fields are set: without one of them, \
                     neither [`build`](Self::build) nor the `body` of a request compiles.";
        }
    }
    text
}

/// Returns the fields that are not set yet, as types.
pub(super) fn markers(requests: &Requests) -> TokenStream {
    let names: BTreeSet<&String> = requests.values().flatten().collect();
    let markers = names.into_iter().map(|name| {
        let marker = format_ident!("{name}");
        let text = format!("The field `{name}` is not set.");
        quote! {
            #[doc = #text]
            #[allow(non_camel_case_types)]
            #[derive(Clone, Copy, Debug)]
            pub struct #marker;
        }
    });
    quote! {
        /// The required fields of requests, as types that say: not set yet.
        pub mod missing {
            #(#markers)*
        }
    }
}
