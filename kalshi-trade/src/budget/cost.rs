//! The price of a request: how many tokens, and from which buckets. Pure.
//!
//! The SDK's operation table says how an operation is charged; what
//! `GET /account/endpoint_costs` says of its tokens replaces the number in that table.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use http::Method;
use kalshi_sdk::{
    OPERATIONS, Operation,
    operation::{Access, Bucket, Cost, Lane, ShardScope},
    types::GetAccountEndpointCostsResponse,
};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The nonzero shards that a request without a shard is taken to draw from, unless set.
pub const DEFAULT_SHARDS: u32 = 3;

/// The highest shard that has a bucket here.
const MAX_SHARD: u32 = 255;

/// Costs above this are not believed.
const MAX_COST: i64 = 1_000_000;

/// The path below which the API lies.
const BASE_PATH: &str = "/trade-api/v2";

/// A bucket of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct BucketKey {
    /// The half of the exchange.
    pub lane: Lane,
    /// The bucket in that half.
    pub pool: Pool,
}

/// A bucket of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Pool {
    /// Reads.
    Read,
    /// Writes that name no shard, or shard 0.
    Write,
    /// Writes of one shard, 1 or more.
    Shard(u32),
    /// The bucket that only one operation uses, by the name of its method: `get_balance`.
    Own(&'static str),
}

impl BucketKey {
    /// Returns the key of a bucket.
    pub const fn new(lane: Lane, pool: Pool) -> Self {
        Self { lane, pool }
    }

    /// Reports whether writes draw from the bucket.
    pub const fn is_write(self) -> bool {
        matches!(self.pool, Pool::Write | Pool::Shard(_))
    }

    /// Returns the key as one number, the same in every process and version.
    pub fn to_u64(self) -> u64 {
        let lane = match self.lane {
            Lane::EventContracts => 1,
            Lane::Perpetuals => 2,
            // A lane that a later version adds shares the last number: one budget for several is
            // safe.
            _ => 255_u64,
        };
        let (kind, detail) = match self.pool {
            Pool::Read => (1_u64, 0),
            Pool::Write => (2, 0),
            Pool::Shard(shard) => (3, shard),
            Pool::Own(operation) => (4, crc32fast::hash(operation.as_bytes())),
        };
        (lane << 40) | (kind << 32) | u64::from(detail)
    }
}

impl fmt::Display for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lane = match self.lane {
            Lane::Perpetuals => "perpetuals",
            _ => "event contracts",
        };
        match self.pool {
            Pool::Read => write!(f, "reads of {lane}"),
            Pool::Write => write!(f, "writes of {lane}"),
            Pool::Shard(shard) => write!(f, "writes of {lane} on shard {shard}"),
            Pool::Own(operation) => write!(f, "{operation} of {lane}"),
        }
    }
}

/// The tokens that a request costs, and the buckets that each pay them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Charge {
    /// Tokens, from each bucket.
    pub tokens: u64,
    /// The buckets, in ascending order; never empty.
    pub buckets: Vec<BucketKey>,
    /// The items of a batch, and the tokens of each; `None` where the call is charged as one.
    pub batch: Option<BatchCharge>,
}

/// The items of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchCharge {
    /// The items in the body.
    pub items: u64,
    /// Tokens of each.
    pub tokens_per_item: u64,
}

impl Charge {
    /// Returns the charge of a request that one bucket pays.
    pub fn single(key: BucketKey, tokens: u64) -> Self {
        Self { tokens, buckets: vec![key], batch: None }
    }

    /// Returns a charge that each of several buckets pays; `None` without a bucket.
    pub fn of(buckets: impl IntoIterator<Item = BucketKey>, tokens: u64) -> Option<Self> {
        let mut buckets: Vec<BucketKey> = buckets.into_iter().collect();
        buckets.sort_unstable();
        buckets.dedup();
        (!buckets.is_empty()).then_some(Self { tokens, buckets, batch: None })
    }

    /// Reports whether the request is a write.
    pub fn is_write(&self) -> bool {
        self.buckets.iter().any(|key| key.is_write())
    }
}

/// The parts of a request that its price depends on.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, with or without the path of the base URL.
    pub path: &'a str,
    /// The query, as it stands in the URL.
    pub query: &'a str,
    /// The body, or no bytes for a request without a body.
    pub body: &'a [u8],
}

/// The prices of all operations.
///
/// # Examples
///
/// ```
/// use kalshi_sdk::{OperationId, operation::Lane};
/// use kalshi_trade::budget::{BucketKey, CostTable, Pool, RequestParts};
///
/// let operation = OperationId::CreateOrderV2.operation();
/// let request = RequestParts {
///     method: &operation.method,
///     path: operation.path,
///     query: "",
///     body: br#"{"ticker": "KXHIGHNY-26NOV23-T60", "exchange_index": 2}"#,
/// };
/// let charge = CostTable::new().charge(operation, &request).unwrap();
/// assert_eq!(charge.tokens, 10);
/// assert_eq!(charge.buckets, [BucketKey::new(Lane::EventContracts, Pool::Shard(2))]);
/// ```
#[derive(Clone, Debug)]
pub struct CostTable {
    learned: Option<Learned>,
    shards: u32,
}

#[derive(Clone, Debug)]
struct Learned {
    default: u64,
    /// By the lane and the name of the operation: two documents have operations of one name.
    known: BTreeMap<(Lane, &'static str), u64>,
    /// Rows of operations that are not in the table of the SDK: method, template and tokens.
    others: Vec<(String, String, u64)>,
}

impl Default for CostTable {
    fn default() -> Self {
        Self::new()
    }
}

impl CostTable {
    /// Returns the table as known when the SDK was made.
    pub fn new() -> Self {
        Self { learned: None, shards: DEFAULT_SHARDS }
    }

    /// Sets how many nonzero shards a write that names none draws from: [`DEFAULT_SHARDS`] unless
    /// set, 64 at most.
    pub fn with_shards(mut self, shards: u32) -> Self {
        self.shards = shards.min(64);
        self
    }

    /// Replaces the tokens by those of the exchange's own table.
    ///
    /// Operations that it does not list cost its default, except those with a bucket of their own and
    /// those of perpetual futures: of these the SDK's own table is used, because the exchange's is not
    /// known to list them. A row whose cost is negative or above a million is ignored.
    pub fn learn(&mut self, costs: &GetAccountEndpointCostsResponse) {
        let rows = costs.endpoint_costs.iter();
        let rows = rows.map(|row| (row.method.as_str(), row.path.as_str(), row.cost));
        self.learn_rows(costs.default_cost, rows);
    }

    fn learn_rows<'a>(
        &mut self,
        default: i64,
        rows: impl Iterator<Item = (&'a str, &'a str, i64)>,
    ) {
        let Some(default) = believed(default) else { return };
        let mut learned = Learned { default, known: BTreeMap::new(), others: Vec::new() };
        // The exchange has some hundred operations; a longer list is not its table.
        for (method, path, cost) in rows.take(10_000) {
            let Some(cost) = believed(cost) else { continue };
            let path = below_base(path);
            let mut is_known = false;
            for operation in all_operations() {
                if operation.method.as_str().eq_ignore_ascii_case(method)
                    && same_template(operation.path, path)
                {
                    learned.known.insert((operation.cost.lane, operation.id), cost);
                    is_known = true;
                }
            }
            if !is_known {
                learned.others.push((method.to_owned(), path.to_owned(), cost));
            }
        }
        self.learned = Some(learned);
    }

    /// Returns the charge of a request; `None` for a public one, which costs nothing.
    ///
    /// A raw request is charged as the operation whose path it has. One that is in no table is
    /// charged the default: a `GET` as a read, everything else as a write.
    pub fn charge(&self, operation: &Operation, request: &RequestParts<'_>) -> Option<Charge> {
        if operation.access == Access::Public {
            return None;
        }
        let listed = match operation.path {
            "" => operation_of(request),
            _ => Some(operation),
        };
        let Some(operation) = listed else { return Some(self.unlisted(request)) };
        let cost = &operation.cost;
        let facts = Facts::of(cost, request);
        let tokens = self.tokens(operation, request.query);
        let batch =
            cost.per_item.map(|_| BatchCharge { items: facts.items, tokens_per_item: tokens });
        let tokens = batch.map_or(tokens, |batch| batch.items.saturating_mul(tokens));
        let buckets = self.pools(operation, &facts);
        let buckets = buckets.into_iter().map(|pool| BucketKey::new(cost.lane, pool)).collect();
        Some(Charge { tokens, buckets, batch })
    }

    /// Returns the tokens of a call, or of each item of a batch.
    fn tokens(&self, operation: &Operation, query: &str) -> u64 {
        let cost = &operation.cost;
        if let Some(special) = &cost.by_parameter
            && parameters(query).any(|(name, value)| name == special.name && value == special.value)
        {
            return u64::from(special.tokens);
        }
        let own = u64::from(cost.tokens);
        match &self.learned {
            Some(learned) if cost.bucket != Bucket::Own => {
                let is_listed_lane = cost.lane == Lane::EventContracts;
                let unlisted = if is_listed_lane { learned.default } else { own };
                learned.known.get(&(cost.lane, operation.id)).copied().unwrap_or(unlisted)
            }
            _ => own,
        }
    }

    fn pools(&self, operation: &Operation, facts: &Facts) -> Vec<Pool> {
        let of_shard = |shard: u32| if shard == 0 { Pool::Write } else { Pool::Shard(shard) };
        let cost = &operation.cost;
        match (cost.bucket, cost.shard) {
            (Bucket::Own, _) => vec![Pool::Own(operation.id)],
            (Bucket::Write, ShardScope::Fixed(shard)) => vec![of_shard(shard)],
            (Bucket::Write, ShardScope::Named) => {
                let is_routed = match facts.exchange_index {
                    Some(index) => index == -1,
                    None => facts.names_market,
                };
                if is_routed {
                    return (0..=self.shards).map(of_shard).collect();
                }
                let shard = facts.exchange_index.and_then(|index| u32::try_from(index).ok());
                // A shard that cannot be there gets no bucket: the exchange refuses the request.
                vec![shard.filter(|shard| *shard <= MAX_SHARD).map_or(Pool::Write, of_shard)]
            }
            (Bucket::Write, _) => vec![Pool::Write],
            _ => vec![Pool::Read],
        }
    }

    /// Returns the charge of a request that is in no table of the SDK.
    fn unlisted(&self, request: &RequestParts<'_>) -> Charge {
        let pool = if *request.method == Method::GET { Pool::Read } else { Pool::Write };
        let path = below_base(request.path);
        let listed = self.learned.iter().flat_map(|learned| &learned.others).find(|row| {
            row.0.eq_ignore_ascii_case(request.method.as_str()) && fits_template(&row.1, path)
        });
        let default = self.learned.as_ref().map_or(10, |learned| learned.default);
        let tokens = listed.map_or(default, |row| row.2);
        Charge::single(BucketKey::new(lane_of(path), pool), tokens)
    }
}

fn believed(cost: i64) -> Option<u64> {
    (0..=MAX_COST).contains(&cost).then(|| u64::try_from(cost).ok()).flatten()
}

/// Returns a path without that of the base URL.
fn below_base(path: &str) -> &str {
    path.strip_prefix(BASE_PATH).unwrap_or(path)
}

fn is_placeholder(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

/// Reports whether two templates are the same, whatever their parameters are called.
fn same_template(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.trim_end_matches('/').split('/'), b.trim_end_matches('/').split('/'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || (is_placeholder(a) && is_placeholder(b)) => {}
            _ => return false,
        }
    }
}

/// Reports whether a path is one that a template stands for.
fn fits_template(template: &str, path: &str) -> bool {
    let (mut template, mut path) =
        (template.trim_end_matches('/').split('/'), path.trim_end_matches('/').split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || (is_placeholder(a) && !b.is_empty()) => {}
            _ => return false,
        }
    }
}

/// Returns every operation whose price is known: those of event contracts first.
fn all_operations() -> impl Iterator<Item = &'static Operation> {
    #[cfg(feature = "perps")]
    let perps = kalshi_sdk::perps::OPERATIONS;
    #[cfg(not(feature = "perps"))]
    let perps: &[Operation] = &[];
    OPERATIONS.iter().chain(perps)
}

/// Returns the lane that a path without an operation is of.
fn lane_of(path: &str) -> Lane {
    let is_below = |folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if ["/margin", "/portfolio/margin", "/account/limits/perps"].into_iter().any(is_below) {
        Lane::Perpetuals
    } else {
        Lane::EventContracts
    }
}

/// Returns the operation that a raw request is. A path that is written out wins over a template.
fn operation_of(request: &RequestParts<'_>) -> Option<&'static Operation> {
    let path = below_base(request.path);
    let fits = |operation: &&Operation| {
        operation.method == *request.method && fits_template(operation.path, path)
    };
    let parameters = |operation: &&Operation| operation.path.matches('{').count();
    // Of two documents with one operation, that of event contracts, which comes first.
    all_operations().filter(fits).min_by_key(parameters)
}

/// Yields the pairs of a query. Values are compared as they are: the ones that matter here (numbers,
/// flags) are never percent-encoded.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The facts of a request that its price depends on.
#[derive(Debug)]
struct Facts {
    items: u64,
    exchange_index: Option<i64>,
    names_market: bool,
}

impl Facts {
    fn of(cost: &Cost, request: &RequestParts<'_>) -> Self {
        let mut facts = Self { items: 1, exchange_index: None, names_market: false };
        let is_named = cost.shard == ShardScope::Named && cost.bucket == Bucket::Write;
        if !is_named && cost.per_item.is_none() {
            return facts;
        }
        for (name, value) in parameters(request.query) {
            match name {
                "exchange_index" => facts.exchange_index = value.parse().ok(),
                "ticker" | "market_ticker" => facts.names_market |= !value.is_empty(),
                _ => {}
            }
        }
        let Ok(body) = std::str::from_utf8(request.body) else { return facts };
        if cost.per_item.is_none()
            && let Some(shard) = plain_exchange_index(body)
        {
            facts.exchange_index = Some(shard);
            return facts;
        }
        let mut reader = serde_json::Deserializer::from_str(body);
        // The body is the caller's own. One that does not decode is charged by its query.
        if let Ok(read) = reader.deserialize_map(BodyVisitor { items: cost.per_item }) {
            facts.items = read.items.unwrap_or(facts.items);
            facts.exchange_index = read.exchange_index.or(facts.exchange_index);
            facts.names_market |= read.names_market;
        }
        facts
    }
}

/// Returns the shard that a body names, if it is an object without lists, objects and escapes in it, as
/// that of an order is: then a name in quotes before a colon is that of a member. Reading such a body
/// in full costs more than all else that the budget does for a request.
fn plain_exchange_index(body: &str) -> Option<i64> {
    const NAME: &str = r#""exchange_index":"#;
    let is_plain = body.bytes().all(|byte| !matches!(byte, b'[' | b'\\'));
    if !is_plain || body.bytes().filter(|byte| *byte == b'{').count() != 1 {
        return None;
    }
    let (_, rest) = body.split_once(NAME)?;
    if rest.contains(NAME) {
        return None;
    }
    let end = rest.find([',', '}'])?;
    rest.get(..end)?.trim().parse().ok()
}

#[derive(Default)]
struct BodyFacts {
    items: Option<u64>,
    exchange_index: Option<i64>,
    names_market: bool,
}

struct BodyVisitor {
    items: Option<&'static str>,
}

impl<'a> Visitor<'a> for BodyVisitor {
    type Value = BodyFacts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut facts = BodyFacts::default();
        while let Some(key) = map.next_key::<Cow<'a, str>>()? {
            if Some(&*key) == self.items {
                let list = map.next_value::<&RawValue>()?;
                let items = serde_json::from_str::<Vec<IgnoredAny>>(list.get()).ok();
                facts.items = items.map(|items| u64::try_from(items.len()).unwrap_or(u64::MAX));
            } else if key == "exchange_index" {
                let index = map.next_value::<&RawValue>()?;
                facts.exchange_index = serde_json::from_str(index.get()).ok();
            } else if key == "ticker" || key == "market_ticker" {
                let ticker = map.next_value::<&RawValue>()?.get();
                facts.names_market |= !matches!(ticker, "null" | "\"\"");
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(facts)
    }
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::OperationId;

    use super::*;

    fn charge_of(table: &CostTable, id: OperationId, query: &str, body: &str) -> Charge {
        let operation = id.operation();
        let request = RequestParts {
            method: &operation.method,
            path: operation.path,
            query,
            body: body.as_bytes(),
        };
        table.charge(operation, &request).unwrap()
    }

    fn pools(id: OperationId, query: &str, body: &str) -> Vec<Pool> {
        let charge = charge_of(&CostTable::new(), id, query, body);
        charge.buckets.into_iter().map(|key| key.pool).collect()
    }

    const ALL: [Pool; 4] = [Pool::Write, Pool::Shard(1), Pool::Shard(2), Pool::Shard(3)];

    #[test]
    fn a_write_draws_from_the_buckets_that_its_shard_says() {
        use OperationId as Id;
        for (id, query, body, expected) in [
            (Id::CreateOrderV2, "", r#"{"ticker":"A","exchange_index":2}"#, vec![Pool::Shard(2)]),
            (Id::CreateOrderV2, "", r#"{"ticker":"A","exchange_index":0}"#, vec![Pool::Write]),
            (Id::CreateOrderV2, "", r#"{"ticker":"A","exchange_index":-1}"#, ALL.to_vec()),
            (Id::CreateOrderV2, "", r#"{"ticker":"A"}"#, ALL.to_vec()),
            (Id::CreateOrderV2, "", r#"{"ticker":"A","exchange_index":null}"#, ALL.to_vec()),
            (Id::CancelOrderV2, "", "", vec![Pool::Write]),
            (Id::CancelOrderV2, "market_ticker=A", "", ALL.to_vec()),
            (Id::CancelOrderV2, "market_ticker=A&exchange_index=3", "", vec![Pool::Shard(3)]),
            (Id::CancelOrderV2, "exchange_index=1", "", vec![Pool::Shard(1)]),
            (
                Id::BatchCreateOrdersV2,
                "",
                r#"{"orders":[{"exchange_index":2}]}"#,
                vec![Pool::Write],
            ),
            (Id::CancelAllOrders, "", "", vec![Pool::Write]),
            (Id::CreateRfq, "", r#"{"market_ticker":"A"}"#, vec![Pool::Shard(1)]),
            (Id::CreateRfqBatchQuote, "", "{}", vec![Pool::Shard(1)]),
            (Id::GetBalance, "", "", vec![Pool::Own("get_balance")]),
            (Id::GetOrder, "", "", vec![Pool::Read]),
            (Id::ApplySubaccountTransfer, "", r#"{"exchange_index":2}"#, vec![Pool::Read]),
        ] {
            assert_eq!(pools(id, query, body), expected, "{id} {query} {body}");
        }
    }

    #[test]
    fn a_shard_that_is_only_spoken_of_is_none() {
        use OperationId as Id;
        for (body, expected) in [
            (r#"{"ticker":"A","client_order_id":"\"exchange_index\":2"}"#, ALL.to_vec()),
            (r#"{"ticker":"A","a\"exchange_index":2}"#, ALL.to_vec()),
            (r#"{"ticker":"A","other":{"exchange_index":2}}"#, ALL.to_vec()),
            (r#"{"ticker":"A","other":["exchange_index",2]}"#, ALL.to_vec()),
            (r#"{"ticker":"A","text":"{","exchange_index":2}"#, vec![Pool::Shard(2)]),
            (r#"{"ticker":"A","exchange_index" : 2 }"#, vec![Pool::Shard(2)]),
            (r#"{"exchange_index": 2 ,"ticker":"A"}"#, vec![Pool::Shard(2)]),
            (r#"{"ticker":"A","exchange_index":"2"}"#, ALL.to_vec()),
            (r#"{"ticker":"A","exchange_index":1,"exchange_index":2}"#, vec![Pool::Shard(2)]),
        ] {
            assert_eq!(pools(Id::CreateOrderV2, "", body), expected, "{body}");
        }
    }

    #[test]
    fn batches_cost_by_their_items() {
        let body = r#"{"orders":[{"a":[1,2]},{},{"orders":[]}]}"#;
        let table = CostTable::new();
        let create = charge_of(&table, OperationId::BatchCreateOrdersV2, "", body);
        assert_eq!(create.tokens, 30);
        assert_eq!(create.batch, Some(BatchCharge { items: 3, tokens_per_item: 10 }));
        assert_eq!(charge_of(&table, OperationId::BatchCancelOrdersV2, "", body).tokens, 6);
        assert_eq!(charge_of(&table, OperationId::BatchCancelOrdersV2, "", "not json").tokens, 2);
        assert_eq!(charge_of(&table, OperationId::CancelOrderV2, "", "").batch, None);
    }

    #[test]
    fn public_requests_cost_nothing() {
        for operation in OPERATIONS {
            let request = RequestParts {
                method: &operation.method,
                path: operation.path,
                query: "",
                body: b"",
            };
            let charge = CostTable::new().charge(operation, &request);
            assert_eq!(charge.is_none(), operation.access == Access::Public, "{operation}");
        }
    }

    #[test]
    fn the_exchanges_table_wins_by_method_and_template() {
        let mut table = CostTable::new();
        let rows = [
            ("DELETE", "/trade-api/v2/portfolio/events/orders/{id}", 3),
            ("get", "/portfolio/orders/{order_id}/", 7),
            ("POST", "/portfolio/events/orders/batched", 11),
            ("GET", "/trade-api/v2/portfolio/balance", 99),
            ("GET", "/nowhere/{x}", 50),
            ("GET", "/portfolio/fills", -1),
        ];
        table.learn_rows(12, rows.into_iter());
        let tokens = |id, body| charge_of(&table, id, "", body).tokens;
        assert_eq!(tokens(OperationId::CancelOrderV2, ""), 3);
        assert_eq!(tokens(OperationId::GetOrder, ""), 7);
        assert_eq!(tokens(OperationId::BatchCreateOrdersV2, r#"{"orders":[1,2]}"#), 22);
        assert_eq!(tokens(OperationId::GetPositions, ""), 12, "the default");
        assert_eq!(tokens(OperationId::GetFills, ""), 12, "a row that is not believed");
        assert_eq!(tokens(OperationId::GetBalance, ""), 1, "its own bucket counts calls");
    }

    #[test]
    fn a_table_without_a_default_is_not_believed() {
        let mut table = CostTable::new();
        table.learn_rows(-1, [("GET", "/portfolio/orders/{order_id}", 9)].into_iter());
        assert_eq!(charge_of(&table, OperationId::GetOrder, "", "").tokens, 2);
    }

    #[test]
    fn a_raw_request_is_charged_as_the_operation_that_it_is() {
        // Only an operation without a path is looked up by that of the request.
        let mut raw = OperationId::GetOrder.operation().clone();
        raw.path = "";
        let mut table = CostTable::new();
        let tokens = |table: &CostTable, method: &Method, path: &str| {
            let request = RequestParts { method, path, query: "", body: b"" };
            let charge = table.charge(&raw, &request).unwrap();
            (charge.tokens, charge.buckets.iter().map(|key| key.pool).collect::<Vec<_>>())
        };
        let order = "/trade-api/v2/portfolio/orders/abc";
        assert_eq!(tokens(&table, &Method::GET, order), (2, vec![Pool::Read]));
        assert_eq!(tokens(&table, &Method::GET, "/nowhere/1"), (10, vec![Pool::Read]));
        assert_eq!(tokens(&table, &Method::POST, "/nowhere/1"), (10, vec![Pool::Write]));
        table.learn_rows(10, [("GET", "/nowhere/{x}", 50)].into_iter());
        assert_eq!(tokens(&table, &Method::GET, "/nowhere/1"), (50, vec![Pool::Read]));
        assert_eq!(tokens(&table, &Method::GET, "/nowhere/1/2"), (10, vec![Pool::Read]));
    }

    #[test]
    fn a_raw_request_of_perpetual_futures_takes_from_their_buckets() {
        let mut raw = OperationId::GetOrder.operation().clone();
        raw.path = "";
        let table = CostTable::new();
        for (path, lane) in [
            ("/trade-api/v2/margin/orders_of_next_year", Lane::Perpetuals),
            ("/margin", Lane::Perpetuals),
            ("/portfolio/margin/subaccounts_of_next_year", Lane::Perpetuals),
            ("/account/limits/perps/of_next_year", Lane::Perpetuals),
            ("/marginal", Lane::EventContracts),
            ("/portfolio/marginal", Lane::EventContracts),
            ("/account/limits_of_next_year", Lane::EventContracts),
        ] {
            let method = &Method::POST;
            let request = RequestParts { method, path, query: "", body: b"" };
            let charge = table.charge(&raw, &request).unwrap();
            assert_eq!(charge, Charge::single(BucketKey::new(lane, Pool::Write), 10), "{path}");
        }
    }

    #[cfg(feature = "perps")]
    #[test]
    fn operations_of_perpetual_futures_cost_what_their_document_says_unless_listed() {
        use kalshi_sdk::perps::OperationId as Id;
        let tokens = |table: &CostTable, id: Id, query: &str| {
            let operation = id.operation();
            let (method, path) = (&operation.method, operation.path);
            let request = RequestParts { method, path, query, body: b"" };
            let charge = table.charge(operation, &request).unwrap();
            assert!(charge.buckets.iter().all(|key| key.lane == Lane::Perpetuals), "{id}");
            // A raw request of the same path is that operation.
            let mut raw = operation.clone();
            raw.path = "";
            let path = path.replace("{order_id}", "o-1");
            let request = RequestParts { method, path: &path, query, body: b"" };
            assert_eq!(table.charge(&raw, &request), Some(charge.clone()), "{id}");
            charge.tokens
        };
        let asked = "compute_available_balance=true";
        let mut table = CostTable::new();
        assert_eq!(tokens(&table, Id::GetMarginBalance, ""), 5);
        assert_eq!(tokens(&table, Id::GetMarginBalance, asked), 50);
        assert_eq!(tokens(&table, Id::CreateMarginOrder, ""), 10);
        assert_eq!(tokens(&table, Id::CancelMarginOrder, ""), 1);
        table.learn_rows(12, [("DELETE", "/margin/orders/{id}", 3)].into_iter());
        assert_eq!(tokens(&table, Id::CancelMarginOrder, ""), 3, "it is listed");
        assert_eq!(tokens(&table, Id::DecreaseMarginOrder, ""), 1, "it is not");
        assert_eq!(tokens(&table, Id::CreateMarginOrder, ""), 10);
        assert_eq!(tokens(&table, Id::GetMarginBalance, asked), 50);
        // One operation of both documents: each lane pays what is listed of it.
        let path = "/portfolio/intra_exchange_instance_transfer";
        table.learn_rows(12, [("POST", path, 7)].into_iter());
        for operation in [
            OperationId::IntraExchangeInstanceTransfer.operation(),
            Id::IntraExchangeInstanceTransfer.operation(),
        ] {
            let (method, path) = (&operation.method, operation.path);
            let request = RequestParts { method, path, query: "", body: b"" };
            let charge = table.charge(operation, &request).unwrap();
            assert_eq!((charge.tokens, charge.buckets[0].lane), (7, operation.cost.lane));
        }
    }

    #[test]
    fn keys_have_numbers_of_their_own() {
        let mut seen = std::collections::BTreeSet::new();
        for lane in [Lane::EventContracts, Lane::Perpetuals] {
            let pools = [Pool::Read, Pool::Write, Pool::Own("get_balance"), Pool::Own("other")];
            for pool in pools.into_iter().chain((1..50).map(Pool::Shard)) {
                assert!(seen.insert(BucketKey::new(lane, pool).to_u64()), "{pool:?}");
            }
        }
    }
}
