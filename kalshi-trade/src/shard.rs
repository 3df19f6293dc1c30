//! The shard of a market, and the rate limit that a write to it is charged to.
//!
//! Each market lives on one shard of the exchange. A request that names it goes there directly, and
//! from shard 1 on has a rate limit of its own; one that names the market only is routed, which
//! takes longer and is charged to the limits of **all** shards.

use std::collections::BTreeMap;

use kalshi_sdk::{
    operation::Lane,
    types::{CreateOrderV2Request, EventData, ExchangeIndex, Market},
};

use crate::budget::{BucketKey, Pool};

/// The shards of markets, as far as they are known.
///
/// # Examples
///
/// ```
/// use kalshi_trade::{budget::Pool, shard::ShardMap};
///
/// let mut shards = ShardMap::default();
/// shards.learn("KXA-1", 2);
/// assert_eq!(shards.shard_of("KXA-1"), Some(2));
/// assert_eq!(shards.write_bucket("KXA-1").map(|key| key.pool), Some(Pool::Shard(2)));
/// assert_eq!(shards.shard_of("KXB-1"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardMap {
    shards: BTreeMap<Box<str>, i64>,
}

impl ShardMap {
    /// Remembers the shard of a market. Numbers below 0 name none and are ignored.
    pub fn learn(&mut self, ticker: &str, exchange_index: i64) {
        if exchange_index >= 0 {
            self.shards.insert(ticker.into(), exchange_index);
        }
    }

    /// Remembers the shard of a market that was read.
    pub fn learn_market(&mut self, market: &Market) {
        if let Some(shard) = market.exchange_index.as_deref() {
            self.learn(&market.ticker, *shard);
        }
    }

    /// Remembers the shard of all markets of an event that was read with its markets.
    pub fn learn_event(&mut self, event: &EventData) {
        for market in &event.markets {
            self.learn_market(market);
        }
    }

    /// Returns the shard of a market.
    pub fn shard_of(&self, ticker: &str) -> Option<i64> {
        self.shards.get(ticker).copied()
    }

    /// Returns the bucket that creates, amends and cancels of single orders in a market are charged
    /// to, if they name its shard. Batches and cancel-all are charged to [`Pool::Write`].
    pub fn write_bucket(&self, ticker: &str) -> Option<BucketKey> {
        let pool = match u32::try_from(self.shard_of(ticker)?).ok()? {
            0 => Pool::Write,
            shard => Pool::Shard(shard),
        };
        Some(BucketKey::new(Lane::EventContracts, pool))
    }

    /// Names the shard in an order that leaves it to the exchange, if it is known, and returns the
    /// shard that the order goes to: `None` if the exchange routes it.
    pub fn route(&mut self, order: &mut CreateOrderV2Request) -> Option<i64> {
        match order.exchange_index.as_deref() {
            Some(shard) if *shard >= 0 => {
                let shard = *shard;
                self.learn(&order.ticker, shard);
                Some(shard)
            }
            _ => {
                let shard = self.shard_of(&order.ticker)?;
                order.exchange_index = Some(ExchangeIndex::from(shard));
                Some(shard)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::types::{BookSide, SelfTradePreventionType, TimeInForce};

    use super::*;

    fn order(exchange_index: Option<i64>) -> CreateOrderV2Request {
        let order = CreateOrderV2Request::builder()
            .ticker("M")
            .side(BookSide::Bid)
            .count("1.00")
            .price("0.50")
            .time_in_force(TimeInForce::GoodTillCanceled)
            .self_trade_prevention_type(SelfTradePreventionType::Maker);
        let mut order: CreateOrderV2Request = order.try_into().unwrap();
        order.exchange_index = exchange_index.map(ExchangeIndex::from);
        order
    }

    #[test]
    fn an_order_is_sent_to_the_shard_that_is_known() {
        let mut shards = ShardMap::default();
        for index in [None, Some(-1)] {
            let mut routed = order(index);
            assert_eq!(shards.route(&mut routed), None, "nothing is known");
            assert_eq!(routed, order(index));
        }
        // One that names it is how it becomes known.
        assert_eq!(shards.route(&mut order(Some(3))), Some(3));
        for index in [None, Some(-1)] {
            let mut routed = order(index);
            assert_eq!(shards.route(&mut routed), Some(3));
            assert_eq!(routed, order(Some(3)));
        }
    }

    #[test]
    fn shard_zero_is_charged_to_the_common_bucket_and_each_other_to_its_own() {
        let mut shards = ShardMap::default();
        shards.learn("A", 0);
        shards.learn("B", 2);
        shards.learn("C", -1);
        let pool = |ticker| shards.write_bucket(ticker).map(|key| key.pool);
        assert_eq!(pool("A"), Some(Pool::Write));
        assert_eq!(pool("B"), Some(Pool::Shard(2)));
        assert_eq!((pool("C"), shards.shard_of("C")), (None, None));
    }
}
