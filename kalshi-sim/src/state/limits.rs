//! Token buckets: the limits of requests by account. Pure; whole numbers only.
//!
//! Reads and writes have buckets of their own, and a write that names a shard above 0 has that
//! shard's; one that is left to be routed by its ticker takes from all of them. The balance has a
//! bucket for itself. Public requests without a signature are not counted.

use std::collections::BTreeMap;

use kalshi_sdk::{
    Operation,
    operation::{Bucket as BucketKind, ShardScope},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    engine::{
        SHARDS,
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

    /// Returns the exchange's word; `unlimited` for [`Unlimited`](Self::Unlimited).
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

    /// Returns the rates of reads and writes, in tokens a second, as documented since 24 September
    /// 2026.
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

    /// Returns the bucket sizes of reads and writes, in tokens. Three seconds' worth for low reads
    /// and for writes above the basic level, one second's for the others; as documented since 22
    /// September 2026.
    pub(crate) fn capacities(self) -> (i64, i64) {
        let (reads, writes) = self.rates();
        let reads = if self <= Self::Advanced { 3 * reads } else { reads };
        let writes = if self == Self::Basic { writes } else { 3 * writes };
        (reads, writes)
    }

    /// Returns the requests a second of an operation with a bucket of its own, the balance.
    fn own_rate(self) -> i64 {
        if self <= Self::Advanced { 1 } else { 5 }
    }
}

/// The bucket that a request is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Lane {
    Read,
    Write,
    /// Writes that name their shard.
    Shard(Shard),
    /// The balance.
    Balance,
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
        let lanes = lanes(operation, query, body);
        let cost = cost(operation, body).saturating_mul(1_000);
        // Either all of them have the tokens, or none is touched.
        let enough =
            lanes.iter().filter(|lane| self.refilled(account, **lane, tier, now).tokens >= cost);
        let enough = enough.count() == lanes.len();
        for lane in lanes.into_iter().filter(|_| enough) {
            self.refilled(account, lane, tier, now).tokens -= cost;
        }
        enough
    }

    /// Returns the tokens that an account has by now for reads and for writes on shard 0, each with
    /// the size of its bucket; `None` without limits. Nothing is changed.
    #[cfg(feature = "ui")]
    pub(crate) fn left(&self, account: AccountId, now: Time) -> Option<[(i64, i64); 2]> {
        let tier = self.tier(account);
        let (rates, capacities) = (tier.rates(), tier.capacities());
        let left = |lane, rate: i64, capacity: i64| {
            let full = capacity * 1_000;
            let Some(bucket) = self.buckets.get(&(account, lane)) else {
                return (capacity, capacity);
            };
            let passed = now.as_millis().saturating_sub(bucket.at.as_millis()).max(0);
            let tokens = bucket.tokens.saturating_add(passed.saturating_mul(rate)).min(full);
            (tokens.div_euclid(1_000), capacity)
        };
        (tier != Tier::Unlimited).then(|| {
            [left(Lane::Read, rates.0, capacities.0), left(Lane::Write, rates.1, capacities.1)]
        })
    }

    /// Returns the bucket sizes of reads and writes of perpetual futures: as those of event contracts,
    /// but without a burst of reads.
    #[cfg(feature = "perps")]
    pub(crate) fn perps_capacities(tier: Tier) -> (i64, i64) {
        (tier.rates().0, tier.capacities().1)
    }

    /// Takes the tokens of a request of perpetual futures, an order from the bucket of its market
    /// group; false, and none taken, if there are too few.
    #[cfg(feature = "perps")]
    pub(crate) fn admit_perps(
        &mut self,
        (account, tier): (AccountId, Tier),
        operation: &Operation,
        query: &Query,
        group: Shard,
        now: Time,
    ) -> bool {
        if tier == Tier::Unlimited {
            return true;
        }
        let with = operation.cost.by_parameter;
        let with = with.filter(|with| query.get(with.name) == Some(with.value));
        let tokens = with.map_or(operation.cost.tokens, |with| with.tokens);
        let lane = match operation.cost.bucket {
            BucketKind::Write if group > 0 => Lane::Shard(group),
            BucketKind::Write => Lane::Write,
            _ => Lane::Read,
        };
        let cost = i64::from(tokens).saturating_mul(1_000);
        let capacities = Self::perps_capacities(tier);
        let bucket = self.bucket(account, lane, tier, capacities, now);
        if bucket.tokens < cost {
            return false;
        }
        bucket.tokens -= cost;
        true
    }

    /// Returns a bucket with the tokens that it has by now.
    fn refilled(&mut self, account: AccountId, lane: Lane, tier: Tier, now: Time) -> &mut Bucket {
        self.bucket(account, lane, tier, tier.capacities(), now)
    }

    /// Returns a bucket of some capacity of reads and writes with the tokens that it has by now.
    fn bucket(
        &mut self,
        account: AccountId,
        lane: Lane,
        tier: Tier,
        capacities: (i64, i64),
        now: Time,
    ) -> &mut Bucket {
        let rates = tier.rates();
        let (rate, capacity) = match lane {
            Lane::Read => (rates.0, capacities.0),
            Lane::Write | Lane::Shard(_) => (rates.1, capacities.1),
            // No burst is documented: the next request waits for its token.
            Lane::Balance => (tier.own_rate(), 1),
        };
        let full = capacity * 1_000;
        let bucket =
            self.buckets.entry((account, lane)).or_insert(Bucket { tokens: full, at: now });
        let passed = now.as_millis().saturating_sub(bucket.at.as_millis()).max(0);
        // A rate in tokens a second is one in thousandths a millisecond.
        bucket.tokens = bucket.tokens.saturating_add(passed.saturating_mul(rate)).min(full);
        bucket.at = bucket.at.max(now);
        bucket
    }
}

fn cost(operation: &Operation, body: &Value) -> i64 {
    let items =
        operation.cost.per_item.and_then(|field| body[field].as_array()).map_or(1, Vec::len);
    i64::try_from(operation.cost.total(items)).unwrap_or(i64::MAX)
}

/// Returns the buckets that a request is charged to, each with the whole cost.
fn lanes(operation: &Operation, query: &Query, body: &Value) -> Vec<Lane> {
    let of_shard = |shard: Shard| if shard == 0 { Lane::Write } else { Lane::Shard(shard) };
    match (operation.cost.bucket, operation.cost.shard) {
        (BucketKind::Own, _) => vec![Lane::Balance],
        (BucketKind::Write, ShardScope::Fixed(shard)) => {
            vec![Shard::try_from(shard).map_or(Lane::Write, of_shard)]
        }
        (BucketKind::Write, ShardScope::Named) => {
            let index = body["exchange_index"]
                .as_i64()
                .or_else(|| query.get("exchange_index").and_then(|text| text.parse::<i64>().ok()));
            let is_named =
                |key| body[key].as_str().or(query.get(key)).is_some_and(|text| !text.is_empty());
            let routed = match index {
                Some(index) => index == -1,
                None => is_named("ticker") || is_named("market_ticker"),
            };
            if routed {
                return SHARDS.into_iter().map(|(shard, _)| of_shard(shard)).collect();
            }
            vec![index.and_then(|index| Shard::try_from(index).ok()).map_or(Lane::Write, of_shard)]
        }
        (BucketKind::Write, _) => vec![Lane::Write],
        _ => vec![Lane::Read],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn operation(id: &str) -> &'static Operation {
        Operation::by_id(id).unwrap()
    }

    /// Returns the number of requests that pass at one time.
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
        let read = "get_positions";
        assert_eq!(burst(&mut limits, read, &Value::Null, 0), 60);
        assert_eq!(burst(&mut limits, read, &Value::Null, 49), 0);
        assert_eq!(burst(&mut limits, read, &Value::Null, 50), 1);
        assert_eq!(burst(&mut limits, read, &Value::Null, 3_600_000), 60);
        let on = |shard: i64| json!({"exchange_index": shard});
        assert_eq!(burst(&mut limits, "create_order_v2", &on(0), 0), 10, "a bucket of its own");
        assert_eq!(burst(&mut limits, "create_order_v2", &on(2), 0), 10);
        assert_eq!(burst(&mut limits, "create_order_v2", &on(0), 0), 0);
    }

    #[test]
    fn c3_the_balance_has_a_bucket_for_itself_without_a_burst() {
        for (tier, wait) in
            [(Tier::Basic, 1_000), (Tier::Advanced, 1_000), (Tier::Expert, 200), (Tier::Prime, 200)]
        {
            let mut limits = Limits::new(tier);
            let balance = "get_balance";
            assert_eq!(burst(&mut limits, balance, &Value::Null, 0), 1, "{tier:?}");
            assert_eq!(burst(&mut limits, balance, &Value::Null, wait - 1), 0);
            assert_eq!(burst(&mut limits, balance, &Value::Null, wait), 1);
            assert_eq!(burst(&mut limits, balance, &Value::Null, 60_000), 1, "none is saved up");
            // Nothing of it is a read.
            let reads = usize::try_from(tier.capacities().0 / 10).unwrap();
            assert_eq!(burst(&mut limits, "get_positions", &Value::Null, 0), reads);
        }
    }

    #[test]
    fn c4_low_reads_and_writes_above_basic_burst_for_three_seconds() {
        for (tier, reads, writes) in [
            (Tier::Basic, 600, 100),
            (Tier::Advanced, 900, 900),
            (Tier::Expert, 600, 1_800),
            (Tier::Premier, 1_200, 3_600),
            (Tier::Prestige, 12_000, 28_800),
        ] {
            assert_eq!(tier.capacities(), (reads, writes), "{tier:?}");
            let mut limits = Limits::new(tier);
            let body = json!({"exchange_index": 0});
            let done = burst(&mut limits, "create_order_v2", &body, 0);
            assert_eq!(done, usize::try_from(writes / 10).unwrap());
        }
    }

    #[test]
    fn c5_a_write_that_is_routed_takes_from_every_shard_or_from_none() {
        let routed = [
            json!({"ticker": "A"}),
            json!({"ticker": "A", "exchange_index": -1}),
            json!({"market_ticker": "A"}),
        ];
        let on = |shard: i64| json!({"ticker": "A", "exchange_index": shard});
        for body in &routed {
            let mut limits = Limits::new(Tier::Basic);
            assert_eq!(burst(&mut limits, "create_order_v2", body, 0), 10);
            for shard in 0..4 {
                assert_eq!(burst(&mut limits, "create_order_v2", &on(shard), 0), 0, "{shard}");
            }
            // One empty bucket refuses it, and the others keep what they have.
            let mut limits = Limits::new(Tier::Basic);
            assert_eq!(burst(&mut limits, "create_order_v2", &on(2), 0), 10);
            assert_eq!(burst(&mut limits, "create_order_v2", body, 0), 0);
            for shard in [0, 1, 3] {
                assert_eq!(burst(&mut limits, "create_order_v2", &on(shard), 0), 10, "{shard}");
            }
        }
        // Without a ticker there is nothing to route by: it goes to shard 0.
        let mut limits = Limits::new(Tier::Basic);
        assert_eq!(burst(&mut limits, "cancel_order_v2", &Value::Null, 0), 50);
        assert_eq!(burst(&mut limits, "create_order_v2", &on(0), 0), 0);
        assert_eq!(burst(&mut limits, "create_order_v2", &on(3), 0), 10);
    }

    #[test]
    fn c5_the_ticker_in_the_query_of_a_cancel_routes_it_too() {
        let mut limits = Limits::new(Tier::Basic);
        let pairs = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Query::new(pairs.collect())
        };
        let mut cancels = |query: &Query| {
            let operation = operation("cancel_order_v2");
            let now = Time::from_millis(0);
            (0..1_000)
                .take_while(|_| limits.admit(AccountId(1), operation, query, &Value::Null, now))
                .count()
        };
        let routed = pairs(&[("market_ticker", "A")]);
        let named = pairs(&[("market_ticker", "A"), ("exchange_index", "3")]);
        assert_eq!(cancels(&routed), 50);
        assert_eq!(cancels(&named), 0, "the bucket of shard 3 has paid, too");
    }

    #[test]
    fn batches_groups_and_requests_for_quotes_take_from_one_bucket() {
        for (id, body, lane) in [
            ("batch_create_orders_v2", json!({"orders": [{"ticker": "A"}]}), Lane::Write),
            ("cancel_all_orders", Value::Null, Lane::Write),
            ("create_order_group", json!({"exchange_index": 2}), Lane::Write),
            ("create_rfq", json!({"market_ticker": "A"}), Lane::Shard(1)),
            ("create_rfq_batch_quote", json!({}), Lane::Shard(1)),
            ("propose_block_trade", json!({"market_ticker": "A"}), Lane::Write),
            ("get_rfqs", Value::Null, Lane::Read),
            ("apply_subaccount_transfer", json!({"exchange_index": 2}), Lane::Read),
        ] {
            assert_eq!(lanes(operation(id), &Query::default(), &body), [lane], "{id}");
        }
    }

    #[test]
    fn a_batch_costs_by_its_items_and_passes_as_a_whole_or_not() {
        let mut limits = Limits::new(Tier::Basic);
        let batch = |items: usize| json!({"orders": vec![json!({}); items]});
        assert_eq!(burst(&mut limits, "batch_create_orders_v2", &batch(11), 0), 0);
        assert_eq!(burst(&mut limits, "batch_create_orders_v2", &batch(10), 0), 1);
    }

    #[cfg(feature = "ui")]
    #[test]
    fn what_is_left_is_what_can_be_spent() {
        let mut limits = Limits::new(Tier::Basic);
        let left = |limits: &Limits, now| limits.left(AccountId(1), Time::from_millis(now));
        assert_eq!(left(&limits, 0), Some([(600, 600), (100, 100)]));
        assert_eq!(burst(&mut limits, "get_positions", &Value::Null, 0), 60);
        for now in [0, 49, 50, 1_234, 3_000, 1_000_000] {
            let [(tokens, _), writes] = left(&limits, now).unwrap();
            let spent = burst(&mut limits.clone(), "get_positions", &Value::Null, now);
            assert_eq!((usize::try_from(tokens / 10).unwrap(), writes), (spent, (100, 100)));
        }
        assert_eq!(left(&Limits::new(Tier::Unlimited), 0), None);
    }

    #[test]
    fn tiers_are_told_apart_by_account() {
        let mut limits = Limits::new(Tier::Unlimited);
        assert_eq!(burst(&mut limits, "get_positions", &Value::Null, 0), 10_000);
        limits.set_tier(AccountId(1), Tier::Basic);
        assert_eq!(burst(&mut limits, "get_positions", &Value::Null, 0), 60);
        assert_eq!(limits.tier(AccountId(2)), Tier::Unlimited);
    }
}
