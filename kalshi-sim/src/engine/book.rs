//! One market's book: who rests where, in which order. Prices are of the YES leg.

use std::collections::{BTreeMap, btree_map::Entry};

use kalshi_types::{Count, Dollars, PriceLevel};
use serde::{Deserialize, Serialize};

use crate::engine::{amount::SaturatingArithmetic, ids::OrderId, types::Side};

/// The orders that rest at one price.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Level {
    total: Count,
    /// By the rank in the queue.
    queue: BTreeMap<u64, (OrderId, Count)>,
}

/// Both sides of a market.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Book {
    bids: BTreeMap<Dollars, Level>,
    asks: BTreeMap<Dollars, Level>,
}

/// The order that trades first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Best {
    pub(crate) price: Dollars,
    pub(crate) order: OrderId,
    pub(crate) priority: u64,
    pub(crate) count: Count,
}

impl Book {
    /// Returns the first order in the queue of the best price.
    pub(crate) fn best(&self, side: Side) -> Option<Best> {
        let (price, level) = self.best_level(side)?;
        let (priority, (order, count)) = level.queue.first_key_value()?;
        Some(Best { price: *price, order: *order, priority: *priority, count: *count })
    }

    /// Returns the best price and the count that rests there.
    pub(crate) fn top(&self, side: Side) -> Option<PriceLevel> {
        self.best_level(side).map(|(price, level)| PriceLevel { price: *price, count: level.total })
    }

    /// Returns levels from the best on.
    pub(crate) fn levels(&self, side: Side) -> Box<dyn Iterator<Item = PriceLevel> + '_> {
        let shown =
            |(price, level): (&Dollars, &Level)| PriceLevel { price: *price, count: level.total };
        match side {
            Side::Bid => Box::new(self.bids.iter().rev().map(shown)),
            Side::Ask => Box::new(self.asks.iter().map(shown)),
        }
    }

    /// Returns the orders from the best on, in the order in which they trade.
    pub(crate) fn orders(
        &self,
        side: Side,
    ) -> Box<dyn Iterator<Item = (Dollars, OrderId, Count)> + '_> {
        let queue = |(price, level): (&Dollars, &'_ Level)| {
            let price = *price;
            level
                .queue
                .values()
                .map(move |(order, count)| (price, *order, *count))
                .collect::<Vec<_>>()
        };
        match side {
            Side::Bid => Box::new(self.bids.iter().rev().flat_map(queue)),
            Side::Ask => Box::new(self.asks.iter().flat_map(queue)),
        }
    }

    /// Returns the contracts ahead of a rank.
    pub(crate) fn ahead(&self, side: Side, price: Dollars, priority: u64) -> Count {
        let Some(level) = self.side(side).get(&price) else { return Count::ZERO };
        level
            .queue
            .range(..priority)
            .fold(Count::ZERO, |sum, (_, (_, count))| sum.saturating_add(*count))
    }

    /// Puts an order at the end of its queue; the places of later orders must be greater.
    pub(crate) fn insert(
        &mut self,
        side: Side,
        price: Dollars,
        priority: u64,
        order: OrderId,
        count: Count,
    ) {
        let level = self.side_mut(side).entry(price).or_default();
        level.total = level.total.saturating_add(count);
        level.queue.insert(priority, (order, count));
    }

    /// Takes contracts off an order; with none left it leaves the book.
    pub(crate) fn reduce(&mut self, side: Side, price: Dollars, priority: u64, by: Count) {
        let Entry::Occupied(mut level) = self.side_mut(side).entry(price) else { return };
        let Entry::Occupied(mut place) = level.get_mut().queue.entry(priority) else { return };
        let (_, count) = place.get_mut();
        let by = by.min(*count);
        *count = count.saturating_sub(by);
        if count.is_zero() {
            place.remove();
        }
        let left = level.get_mut();
        left.total = left.total.saturating_sub(by);
        if left.queue.is_empty() {
            level.remove();
        }
    }

    fn best_level(&self, side: Side) -> Option<(&Dollars, &Level)> {
        match side {
            Side::Bid => self.bids.last_key_value(),
            Side::Ask => self.asks.first_key_value(),
        }
    }

    fn side(&self, side: Side) -> &BTreeMap<Dollars, Level> {
        match side {
            Side::Bid => &self.bids,
            Side::Ask => &self.asks,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut BTreeMap<Dollars, Level> {
        match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        }
    }
}
