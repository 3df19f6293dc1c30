//! The operation table: what the document says about each operation, as data.
//!
//! For whatever needs more than a method: routing in a simulator, command lines, rate limiters,
//! retry rules, logs.

use std::fmt;

use http::Method;

use crate::generated;

/// Every operation of the Trade API, in the order of its paths.
pub static OPERATIONS: &[Operation] = &generated::OPERATIONS;

/// One operation of the Trade API.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// The method of the client: `get_markets`.
    pub id: &'static str,
    /// The `operationId` in the exchange's document: `GetMarkets`.
    pub operation_id: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path below the base URL: `/markets/{ticker}`.
    pub path: &'static str,
    /// The family: `market`, `orders`, `portfolio`, …
    pub tag: &'static str,
    /// How a request is authenticated.
    pub access: Access,
    /// The other ways in which the exchange would let a request in. This client does not take them.
    pub alternatives: &'static [Access],
    /// The status of a success.
    pub success: u16,
    /// Whether a body is sent.
    pub body: Body,
    /// Path and query parameters, in the document's order.
    pub parameters: &'static [Parameter],
    /// How the list goes on, for operations that give one page of it.
    pub pagination: Option<Pagination>,
    /// Whether a second sending does harm.
    pub retry: RetrySafety,
    /// Tokens that a request takes from the rate limit, as known when this crate was made. The
    /// exchange's own table is `get_account_endpoint_costs`.
    pub cost: Cost,
    /// The exchange means to remove it.
    pub deprecated: bool,
    /// Its response holds a secret: no error shows any of the body.
    pub secret: bool,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What it does, in full (Markdown).
    pub description: &'static str,
}

impl Operation {
    /// Looks an operation up by the name of its method, `get_markets`.
    pub fn by_id(id: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.id == id)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.id, self.method, self.path)
    }
}

/// How a request is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Never signed: a signed request would count against the rate limit for nothing.
    Public,
    /// Always signed.
    Signed,
    /// With a token in the `Authorization` header.
    Bearer,
}

/// Whether a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// None.
    None,
    /// One that may be `{}`; the exchange has been seen to refuse a request without any.
    Optional,
    /// One that must be given.
    Required,
}

/// A path or query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameter {
    /// The name on the wire.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// Whether it must be given.
    pub required: bool,
    /// What its text looks like.
    pub kind: ParameterKind,
    /// What it means (Markdown).
    pub description: &'static str,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In the path.
    Path,
    /// In the query.
    Query,
}

/// What the text of a parameter looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParameterKind {
    /// Any text, an enum's value included.
    Text,
    /// A whole number.
    Integer,
    /// A decimal number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Texts joined by commas under one key.
    CommaSeparated,
    /// The key repeated, once for each value.
    List,
    /// RFC 3339.
    DateTime,
    /// Whole seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMillis,
}

/// How a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pagination {
    /// The field of a page with the cursor of the next one.
    pub cursor: &'static str,
    /// The field of a page with its rows.
    pub items: &'static str,
}

/// Whether a second sending does harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetrySafety {
    /// Reads only: send it as often as you like.
    Safe,
    /// Safe if this field of the body is set: the exchange answers a repeated key with 409.
    WithKey(&'static str),
    /// Read the state back before sending again.
    Reconcile,
}

/// What a request takes from the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// Tokens.
    pub tokens: u32,
    /// For each item of the body, rather than for the call.
    pub per_item: bool,
}
