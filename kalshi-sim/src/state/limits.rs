//! Token buckets: the limits of requests by account. Pure; whole numbers only.
//!
//! Reads and writes have buckets of their own, and a write that names a shard above 0 has that
//! shard's. Public requests without a signature are not counted.

use std::collections::BTreeMap;

use kalshi_sdk::Operation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    engine::{
        ids::AccountId,
        types::{Shard, Time},
    },
    http::query::Query,
};

/// The usage level of an account: how many tokens it gets in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tier {
    /// 200 reads and 100 writes; what every account starts with at the exchange.
    Basic,
    /// 300 and 300.
    Advanced,
    /// 600 and 600.
    Expert,
    /// 1,200 and 1,200.
    Premier,
    /// 2,400 and 2,400.
    Paragon,
    /// 4,800 and 4,800.
    Prime,
    /// 12,000 and 9,600.
    Prestige,
    /// No limit; no tier of the exchange. Tests that are about something else want it, so it is
    /// the simulator's default. `GET /account/limits` says `prestige`.
    #[default]
    Unlimited,
}

impl Tier {
    /// All of them, from the lowest.
    pub const ALL: [Self; 8] = [
        Self::Basic,
        Self::Advanced,
        Self::Expert,
        Self::Premier,
        Self::Paragon,
        Self::Prime,
        Self::Prestige,
        Self::Unlimited,
    ];

    /// The exchange's word; `unlimited` for [`Unlimited`](Self::Unlimited).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Advanced => "advanced",
            Self::Expert => "expert",
            Self::Premier => "premier",
            Self::Paragon => "paragon",
            Self::Prime => "prime",
            Self::Prestige => "prestige",
            Self::Unlimited => "unlimited",
        }
    }

    /// (reads, writes), in tokens a second, as documented since 24 September 2026.
    pub(crate) fn rates(self) -> (i64, i64) {
        match self {
            Self::Basic => (200, 100),
            Self::Advanced => (300, 300),
            Self::Expert => (600, 600),
            Self::Premier => (1_200, 1_200),
            Self::Paragon => (2_400, 2_400),
            Self::Prime => (4_800, 4_800),
            Self::Prestige | Self::Unlimited => (12_000, 9_600),
        }
    }

    /// (reads, writes): how many tokens can wait. Two seconds' worth for low reads and for writes
    /// above the basic level, one second's for the others.
    pub(crate) fn capacities(self) -> (i64, i64) {
        let (reads, writes) = self.rates();
        let reads = if self <= Self::Advanced { 2 * reads } else { reads };
        let writes = if self == Self::Basic { writes } else { 2 * writes };
        (reads, writes)
    }
}

/// The bucket that a request is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Lane {
    Read,
    Write,
    /// Writes that name their shard.
    Shard(Shard),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Bucket {
    /// Thousandths of a token.
    tokens: i64,
    at: Time,
}

/// The buckets of all accounts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Limits {
    default: Tier,
    tiers: BTreeMap<AccountId, Tier>,
    buckets: BTreeMap<(AccountId, Lane), Bucket>,
}

impl Limits {
    pub(crate) fn new(default: Tier) -> Self {
        Self { default, ..Self::default() }
    }

    pub(crate) fn tier(&self, account: AccountId) -> Tier {
        self.tiers.get(&account).copied().unwrap_or(self.default)
    }

    pub(crate) fn set_tier(&mut self, account: AccountId, tier: Tier) {
        self.tiers.insert(account, tier);
        self.buckets.retain(|(owner, _), _| *owner != account);
    }

    /// Takes the tokens of a request; false, and none taken, if there are too few.
    pub(crate) fn admit(
        &mut self,
        account: AccountId,
        operation: &Operation,
        query: &Query,
        body: &Value,
        now: Time,
    ) -> bool {
        let tier = self.tier(account);
        if tier == Tier::Unlimited {
            return true;
        }
        let lane = lane(operation, query, body);
        let (rates, capacities) = (tier.rates(), tier.capacities());
        let (rate, capacity) = match lane {
            Lane::Read => (rates.0, capacities.0),
            Lane::Write | Lane::Shard(_) => (rates.1, capacities.1),
        };
        let full = capacity * 1_000;
        let bucket =
            self.buckets.entry((account, lane)).or_insert(Bucket { tokens: full, at: now });
        let passed = now.as_millis().saturating_sub(bucket.at.as_millis()).max(0);
        // A rate in tokens a second is one in thousandths a millisecond.
        bucket.tokens = bucket.tokens.saturating_add(passed.saturating_mul(rate)).min(full);
        bucket.at = bucket.at.max(now);
        let cost = cost(operation, body).saturating_mul(1_000);
        let enough = bucket.tokens >= cost;
        if enough {
            bucket.tokens -= cost;
        }
        enough
    }
}

fn cost(operation: &Operation, body: &Value) -> i64 {
    // The bucket that the exchange keeps for this operation is not simulated: it is a read here.
    if operation.cost.bucket == kalshi_sdk::operation::Bucket::Own {
        return 10;
    }
    let items =
        operation.cost.per_item.and_then(|field| body[field].as_array()).map_or(1, Vec::len);
    i64::try_from(operation.cost.total(items)).unwrap_or(i64::MAX)
}

fn lane(operation: &Operation, query: &Query, body: &Value) -> Lane {
    if operation.method == http::Method::GET {
        return Lane::Read;
    }
    match operation.tag {
        "orders" if operation.cost.per_item.is_none() => {
            let named = body["exchange_index"]
                .as_i64()
                .or_else(|| query.get("exchange_index").and_then(|text| text.parse().ok()));
            match named.map(Shard::try_from) {
                Some(Ok(shard)) if shard >= 1 => Lane::Shard(shard),
                _ => Lane::Write,
            }
        }
        "orders" | "order-groups" => Lane::Write,
        // Requests for quotes and quotes have shared the budget of shard 1 since September 2026.
        "communications" if operation.path.contains("block-trade") => Lane::Write,
        "communications" => Lane::Shard(1),
        _ => Lane::Read,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn operation(id: &str) -> &'static Operation {
        Operation::by_id(id).unwrap()
    }

    /// How many requests get through at one time.
    fn burst(limits: &mut Limits, id: &str, body: &Value, now: i64) -> usize {
        let query = Query::default();
        let now = Time::from_millis(now);
        (0..10_000)
            .take_while(|_| limits.admit(AccountId(1), operation(id), &query, body, now))
            .count()
    }

    #[test]
    fn a_bucket_holds_its_capacity_and_refills_at_its_rate() {
        let mut limits = Limits::new(Tier::Basic);
        assert_eq!(burst(&mut limits, "get_balance", &Value::Null, 0), 40);
        assert_eq!(burst(&mut limits, "get_balance", &Value::Null, 49), 0);
        assert_eq!(burst(&mut limits, "get_balance", &Value::Null, 50), 1);
        assert_eq!(burst(&mut limits, "get_balance", &Value::Null, 3_600_000), 40);
        assert_eq!(burst(&mut limits, "create_order_v2", &json!({}), 0), 10, "a bucket of its own");
        assert_eq!(burst(&mut limits, "create_order_v2", &json!({"exchange_index": 2}), 0), 10);
        assert_eq!(burst(&mut limits, "create_order_v2", &json!({"exchange_index": 0}), 0), 0);
    }

    #[test]
    fn a_batch_costs_by_its_items_and_passes_as_a_whole_or_not() {
        let mut limits = Limits::new(Tier::Basic);
        let batch = |items: usize| json!({"orders": vec![json!({}); items]});
        assert_eq!(burst(&mut limits, "batch_create_orders_v2", &batch(11), 0), 0);
        assert_eq!(burst(&mut limits, "batch_create_orders_v2", &batch(10), 0), 1);
    }

    #[test]
    fn tiers_are_told_apart_by_account() {
        let mut limits = Limits::new(Tier::Unlimited);
        assert_eq!(burst(&mut limits, "get_balance", &Value::Null, 0), 10_000);
        limits.set_tier(AccountId(1), Tier::Basic);
        assert_eq!(burst(&mut limits, "get_balance", &Value::Null, 0), 40);
        assert_eq!(limits.tier(AccountId(2)), Tier::Unlimited);
    }
}
