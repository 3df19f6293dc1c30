//! The access that an operation needs: none, a signature, or a bearer token.

use serde_json::{Map, Value, json};

use super::{each_operation, operations};
use crate::{
    document::join,
    error::{Result, refuse},
};

/// A way to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Without credentials.
    Public,
    /// With a signature of each request.
    Signed,
    /// With a token in the `Authorization` header.
    Bearer,
}

impl Access {
    /// Returns its name in review files and documentation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Signed => "signed",
            Self::Bearer => "bearer",
        }
    }
}

/// The extension that takes the place of `security`: the ways to be let in, the preferred first.
pub(crate) const ACCESS: &str = "x-kalshi-access";

/// Replaces `security` by the ways that each operation offers.
pub(super) fn resolve(document: &mut Value) -> Result<usize> {
    let mut found = Vec::new();
    let default = alternatives(document, document.get("security"), "/security")?;
    for (pointer, _, _, operation) in operations(document)? {
        let access = match operation.get("security") {
            Some(own) => alternatives(document, Some(own), &join(&pointer, "security"))?,
            None => default.clone(),
        };
        found.push(access);
    }
    let mut found = found.into_iter();
    let mut fired = 0;
    each_operation(document, |_, _, operation| {
        operation.remove("security");
        let access = found.next().unwrap_or_default();
        fired += usize::from(access != [Access::Public]);
        let names: Vec<&str> = access.iter().map(|access| access.name()).collect();
        operation.insert(ACCESS.to_owned(), json!(names));
        Ok(())
    })?;
    if let Some(root) = document.as_object_mut() {
        root.remove("security");
    }
    Ok(fired)
}

/// Returns the ways in; a signature before a token, because only the former is bound to one
/// request.
///
/// No `security`, an empty list or an empty alternative makes an operation public.
fn alternatives(document: &Value, security: Option<&Value>, pointer: &str) -> Result<Vec<Access>> {
    let Some(security) = security else { return Ok(vec![Access::Public]) };
    let Some(list) = security.as_array() else { refuse!(pointer, "must be a list") };
    let mut found = Vec::new();
    for (index, alternative) in list.iter().enumerate() {
        let pointer = join(pointer, &index.to_string());
        let Some(schemes) = alternative.as_object() else { refuse!(pointer, "must be a mapping") };
        found.push(access(document, schemes, &pointer)?);
    }
    if found.is_empty() {
        found.push(Access::Public);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn access(document: &Value, schemes: &Map<String, Value>, pointer: &str) -> Result<Access> {
    let mut access = Access::Public;
    for name in schemes.keys() {
        let at = join(pointer, name);
        let scheme = document.pointer(&join("/components/securitySchemes", name));
        let Some(scheme) = scheme else {
            refuse!(at, "`{name}` is not declared in `#/components/securitySchemes`")
        };
        let word = |key| scheme.get(key).and_then(Value::as_str).unwrap_or_default();
        let one = match (word("type"), word("in"), word("scheme")) {
            ("apiKey", "header", _) => Access::Signed,
            ("http", _, "bearer") => Access::Bearer,
            (kind, ..) => refuse!(at, "security of the type `{kind}` is not generated"),
        };
        if access != Access::Public && access != one {
            refuse!(pointer, "a request is either signed or carries a token, not both");
        }
        access = one;
    }
    Ok(access)
}
