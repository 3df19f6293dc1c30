//! The operation table: what the document says about each operation, as data.
//!
//! For whatever needs more than a method: routing in a simulator, command lines, rate limiters,
//! retry rules, logs.

use std::{fmt, str::FromStr};

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
    /// Authentication of a request.
    pub access: Access,
    /// The other ways in which the exchange would let a request in. This client does not take them.
    pub alternatives: &'static [Access],
    /// The status of a success.
    pub success: u16,
    /// Request body.
    pub body: Body,
    /// Path and query parameters, in the document's order.
    pub parameters: &'static [Parameter],
    /// Pagination, for operations that return one page of a list.
    pub pagination: Option<Pagination>,
    /// Safety of sending the request twice.
    pub retry: RetrySafety,
    /// Cost of a request to the rate limit, as known when this crate was made. The exchange's own
    /// table of tokens is `get_account_endpoint_costs`.
    pub cost: Cost,
    /// The exchange means to remove it.
    pub deprecated: bool,
    /// True if its response holds a secret: no error shows any of the body.
    pub secret: bool,
    /// Description in one line.
    pub summary: &'static str,
    /// Description in full (Markdown).
    pub description: &'static str,
}

impl Operation {
    /// Returns the operation with a method's name, `get_markets`.
    pub fn by_id(id: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.id == id)
    }

    /// Reports whether the operation only reads: every GET, and a POST that computes something. Its
    /// request changes nothing, whatever became of it.
    ///
    /// It says so of documented operations only, not of a [`RawRequest`](crate::RawRequest).
    pub fn only_reads(&self) -> bool {
        self.retry == RetrySafety::Safe
    }

    /// Returns the operation as a value to match on; `None` for a
    /// [`RawRequest`](crate::RawRequest), which is not in the table.
    pub fn typed_id(&self) -> Option<OperationId> {
        // Another document may use the name, too.
        if self.cost.lane == Lane::EventContracts { self.id.parse().ok() } else { None }
    }

    /// Returns the JSON Schema (2020-12) of the request's body, `None` if there is no body.
    ///
    /// The text is complete in itself: what it refers to stands under `$defs`. It is what the
    /// exchange's document says, with descriptions; values that the exchange adds to an enum later
    /// are not in it.
    ///
    /// ```
    /// use kalshi_sdk::OperationId;
    ///
    /// let schema = OperationId::CreateOrderV2.operation().body_schema().unwrap();
    /// let schema: serde_json::Value = serde_json::from_str(schema)?;
    /// assert_eq!(schema["properties"]["ticker"]["type"], "string");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn body_schema(&self) -> Option<&'static str> {
        match self.cost.lane {
            #[cfg(feature = "perps")]
            Lane::Perpetuals => generated::perps::body_schema(self.id),
            #[cfg(feature = "klear")]
            Lane::Clearing => generated::klear::body_schema(self.id),
            _ => generated::body_schema(self.id),
        }
    }
}

pub use generated::OperationId;

/// Gives the generated ids of a document their methods.
macro_rules! operation_ids {
    ($($document:ident)::+) => {
        impl $($document)::+::OperationId {
            /// Returns every operation, in the order of the document's table.
            pub fn all() -> impl ExactSizeIterator<Item = Self> {
                $($document)::+::OPERATION_IDS.iter().map(|(id, _)| *id)
            }

            /// Returns the name of the client's method: `get_markets`.
            pub fn as_str(self) -> &'static str {
                $($document)::+::OPERATION_IDS[self as usize].1
            }

            /// Returns the entry of the table.
            pub fn operation(self) -> &'static Operation {
                &$($document)::+::OPERATIONS[self as usize]
            }
        }

        impl fmt::Display for $($document)::+::OperationId {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

operation_ids!(generated);
#[cfg(feature = "perps")]
operation_ids!(generated::perps);
#[cfg(feature = "klear")]
operation_ids!(generated::klear);

impl FromStr for OperationId {
    type Err = UnknownOperation;

    /// Reads the name of a method, `get_markets`.
    fn from_str(name: &str) -> Result<Self, UnknownOperation> {
        let found = generated::OPERATION_IDS.iter().find(|(_, known)| *known == name);
        found.map(|(id, _)| *id).ok_or_else(|| UnknownOperation::new(name))
    }
}

impl TryFrom<&str> for OperationId {
    type Error = UnknownOperation;

    fn try_from(name: &str) -> Result<Self, UnknownOperation> {
        name.parse()
    }
}

/// A name that is not that of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownOperation {
    /// The name.
    pub name: String,
    /// The operation whose name is nearest, if any is near.
    pub nearest: Option<OperationId>,
}

impl UnknownOperation {
    fn new(name: &str) -> Self {
        // A longer text is no misspelt name, and comparing it would take long.
        let near = if name.len() > 100 { None } else { nearest(name) };
        Self { name: name.to_owned(), nearest: near }
    }
}

impl fmt::Display for UnknownOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no operation is called {:?}", self.name)?;
        match self.nearest {
            Some(id) => write!(f, "; the nearest name is {:?}", id.as_str()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UnknownOperation {}

/// Returns the operation that the fewest edits lead to, if they are few.
fn nearest(name: &str) -> Option<OperationId> {
    let distances = generated::OPERATION_IDS.iter().map(|(id, known)| (distance(name, known), *id));
    let (edits, id) = distances.min()?;
    (edits <= name.len() / 3).then_some(id)
}

/// Returns the number of bytes that must be inserted, removed or replaced to turn one text into the
/// other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let replaced = corner + usize::from(x != y);
            corner = *cell;
            left = replaced.min(left + 1).min(corner + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.id, self.method, self.path)
    }
}

/// The authentication that a request needs.
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

/// The body that a request carries.
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
    /// Place in the request.
    pub place: Place,
    /// True if the parameter must be given.
    pub required: bool,
    /// Form of its text.
    pub kind: ParameterKind,
    /// Meaning (Markdown).
    pub description: &'static str,
}

/// The place of a parameter in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In the path.
    Path,
    /// In the query.
    Query,
}

/// The form of a parameter's text.
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

/// The fields by which a list continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pagination {
    /// The field of a page with the cursor of the next one.
    pub cursor: &'static str,
    /// The field of a page with its rows.
    pub items: &'static str,
}

/// The safety of sending a request twice.
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

/// The cost of a request to the rate limit.
///
/// A limiter keeps one bucket for each lane, kind and shard: [`lane`](Self::lane),
/// [`bucket`](Self::bucket) and [`shard`](Self::shard) name it, [`total`](Self::total) counts the
/// tokens. A request is admitted if all of its tokens are in the bucket; with 429 it has taken none
/// and was not executed. How fast the buckets refill is in `get_account_api_limits`, and differs
/// from account to account.
///
/// ```
/// use kalshi_sdk::{OperationId, operation::{Bucket, ShardScope}};
///
/// let cost = OperationId::BatchCancelOrdersV2.operation().cost;
/// assert_eq!((cost.bucket, cost.shard), (Bucket::Write, ShardScope::Unscoped));
/// assert_eq!(cost.per_item, Some("orders"));
/// assert_eq!(cost.total(25), 50);
/// ```
#[doc(alias = "rate limit")]
#[doc(alias = "token bucket")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// The half of the exchange whose budget pays.
    pub lane: Lane,
    /// The bucket of that budget.
    pub bucket: Bucket,
    /// Tokens of a call, or of each item if [`per_item`](Self::per_item) is set.
    pub tokens: u32,
    /// The field of the body whose items are charged one by one; `None` if the call is.
    pub per_item: Option<&'static str>,
    /// A parameter with which a call costs something else.
    pub by_parameter: Option<ParameterCost>,
    /// Shard whose bucket pays.
    pub shard: ShardScope,
}

impl Cost {
    pub(crate) const DEFAULT: Self = Self {
        lane: Lane::EventContracts,
        bucket: Bucket::Read,
        tokens: 10,
        per_item: None,
        by_parameter: None,
        shard: ShardScope::Unscoped,
    };

    /// Returns the tokens of a call whose body has `items` items; the number does not matter where
    /// the call is charged as one. [`by_parameter`](Self::by_parameter) is not looked at.
    pub fn total(&self, items: usize) -> u64 {
        let tokens = u64::from(self.tokens);
        match self.per_item {
            Some(_) => tokens.saturating_mul(u64::try_from(items).unwrap_or(u64::MAX)),
            None => tokens,
        }
    }
}

/// A half of the exchange with budgets of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Lane {
    /// Event contracts: this API.
    EventContracts,
    /// Perpetual futures on margin.
    Perpetuals,
    /// The clearing house, whose limits are not published.
    #[cfg(feature = "klear")]
    Clearing,
}

/// A bucket of the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Bucket {
    /// Reads, and writes that are not about orders or quotes. Public operations are never signed,
    /// so this client pays nothing for them.
    Read,
    /// Orders, order groups, requests for quotes, quotes and block trades.
    Write,
    /// A bucket that only this operation uses. `get_balance` has one: one call a second up to the
    /// level `advanced`, five above, and no burst.
    Own,
}

/// The cost of a call when a parameter has a certain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParameterCost {
    /// The name of the parameter on the wire.
    pub name: &'static str,
    /// The value, as text.
    pub value: &'static str,
    /// Tokens of such a call, instead of [`Cost::tokens`].
    pub tokens: u32,
}

/// The shard whose bucket pays for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ShardScope {
    /// The bucket that belongs to no shard, whatever the request names.
    Unscoped,
    /// The bucket of the shard that `exchange_index` names (in the query or in the body) if that is
    /// 1 or more; shard 0 is the unscoped bucket. Without it, or with -1, a request that names its
    /// market is routed by the exchange: then the unscoped bucket and that of **every** other shard
    /// must have the tokens. Naming the shard is cheaper and faster.
    Named,
    /// Always the bucket of this shard.
    Fixed(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_names_the_nearest_operation() {
        let error = "create_order".parse::<OperationId>().unwrap_err();
        assert_eq!(error.nearest, Some(OperationId::CreateOrderV2));
        let text = error.to_string();
        assert!(
            text.contains("\"create_order\"") && text.contains("\"create_order_v2\""),
            "{text}"
        );
        let error = "unrelated words".parse::<OperationId>().unwrap_err();
        assert_eq!((error.nearest, error.to_string().contains("nearest")), (None, false));
        assert_eq!("x".repeat(101).parse::<OperationId>().unwrap_err().nearest, None);
    }

    #[test]
    fn distances_count_edits() {
        for (a, b, edits) in
            [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "", 2)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }

    #[test]
    fn ids_and_operations_belong_together() {
        for (id, operation) in OperationId::all().zip(OPERATIONS) {
            assert_eq!(id.as_str(), operation.id);
            assert_eq!(id.operation(), operation);
            assert_eq!(operation.typed_id(), Some(id));
            assert_eq!(operation.id.parse(), Ok(id));
        }
        assert_eq!(OperationId::all().len(), OPERATIONS.len());
    }
}
