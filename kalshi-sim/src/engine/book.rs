//! One market's book: who rests where, in which order. Prices are of the YES leg.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use kalshi_types::{Count, Dollars, PriceLevel};
use serde::{Deserialize, Serialize};

use crate::engine::{amount::SaturatingArithmetic, ids::OrderId, types::Side};

/// The orders that rest at one price.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Level {
    total: Count,
    queue: Queue,
}

/// Orders in the order in which they trade. One that has left leaves an empty place behind, and
/// those are removed when they are first, or more than the others: so no order that leaves moves
/// many, wherever it stood.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Place>", into = "Vec<Place>")]
struct Queue {
    /// By the rank; the first has contracts.
    places: VecDeque<Place>,
    empty: usize,
}

/// A place in a queue: empty without contracts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Place {
    priority: u64,
    order: OrderId,
    count: Count,
}

/// A file may hold anything: what comes out of it is a queue all the same.
impl From<Vec<Place>> for Queue {
    fn from(mut places: Vec<Place>) -> Self {
        places.retain(|place| !place.count.is_zero());
        places.sort_by_key(|place| place.priority);
        places.dedup_by_key(|place| place.priority);
        Self { places: places.into(), empty: 0 }
    }
}

impl From<Queue> for Vec<Place> {
    fn from(queue: Queue) -> Self {
        queue.iter().copied().collect()
    }
}

impl Queue {
    fn first(&self) -> Option<&Place> {
        self.places.front()
    }

    fn iter(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| !place.count.is_zero())
    }

    /// Adds an order behind all others.
    fn push(&mut self, place: Place) {
        if !place.count.is_zero() {
            self.places.push_back(place);
        }
    }

    /// Takes contracts off the order with a rank. Returns how many.
    fn reduce(&mut self, priority: u64, by: Count) -> Count {
        let found = self.places.binary_search_by_key(&priority, |place| place.priority);
        let Some(place) = found.ok().and_then(|at| self.places.get_mut(at)) else {
            return Count::ZERO;
        };
        let by = by.min(place.count);
        place.count = place.count.saturating_sub(by);
        if place.count.is_zero() && !by.is_zero() {
            self.empty += 1;
            self.tidy();
        }
        by
    }

    fn tidy(&mut self) {
        while self.places.front().is_some_and(|place| place.count.is_zero()) {
            self.places.pop_front();
            self.empty = self.empty.saturating_sub(1);
        }
        if self.empty > self.places.len() / 2 {
            self.places.retain(|place| !place.count.is_zero());
            self.empty = 0;
        }
    }
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
        let Place { priority, order, count } = *level.queue.first()?;
        Some(Best { price: *price, order, priority, count })
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
        fn queue<'a>(
            (price, level): (&'a Dollars, &'a Level),
        ) -> impl Iterator<Item = (Dollars, OrderId, Count)> + 'a {
            level.queue.iter().map(|place| (*price, place.order, place.count))
        }
        match side {
            Side::Bid => Box::new(self.bids.iter().rev().flat_map(queue)),
            Side::Ask => Box::new(self.asks.iter().flat_map(queue)),
        }
    }

    /// Returns the contracts ahead of a rank.
    pub(crate) fn ahead(&self, side: Side, price: Dollars, priority: u64) -> Count {
        let Some(level) = self.side(side).get(&price) else { return Count::ZERO };
        let ahead = level.queue.iter().take_while(|place| place.priority < priority);
        ahead.fold(Count::ZERO, |sum, place| sum.saturating_add(place.count))
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
        level.queue.push(Place { priority, order, count });
    }

    /// Takes contracts off an order; with none left it leaves the book.
    pub(crate) fn reduce(&mut self, side: Side, price: Dollars, priority: u64, by: Count) {
        let Entry::Occupied(mut level) = self.side_mut(side).entry(price) else { return };
        let left = level.get_mut();
        left.total = left.total.saturating_sub(left.queue.reduce(priority, by));
        if left.queue.first().is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Returns the remaining count of each order, the first to trade first.
    fn rows(book: &Book) -> Vec<(OrderId, Count)> {
        book.orders(Side::Bid).map(|(_, order, count)| (order, count)).collect()
    }

    #[test]
    fn a_queue_is_saved_without_empty_places_and_loaded_in_order_whatever_the_file_says() {
        let place = |priority, count| Place {
            priority,
            order: OrderId(priority),
            count: Count::from_hundredths(count),
        };
        let mut queue = Queue::default();
        for priority in 1..=5 {
            queue.push(place(priority, 100));
        }
        queue.reduce(3, Count::ONE);
        assert_eq!((queue.places.len(), queue.empty), (5, 1));
        let text = serde_json::to_string(&queue).unwrap();
        let loaded: Queue = serde_json::from_str(&text).unwrap();
        let ranks =
            |queue: &Queue| queue.places.iter().map(|place| place.priority).collect::<Vec<_>>();
        assert_eq!((ranks(&loaded), loaded.empty), (vec![1, 2, 4, 5], 0));
        let odd = vec![place(9, 0), place(4, 7), place(2, 5), place(4, 1)];
        let mut loaded = Queue::from(odd);
        assert_eq!(ranks(&loaded), [2, 4]);
        assert_eq!(loaded.reduce(4, Count::ONE), Count::from_hundredths(7));
        assert_eq!(loaded.reduce(2, Count::ONE), Count::from_hundredths(5));
        assert!(loaded.first().is_none() && loaded.places.is_empty());
    }

    #[test]
    fn a_queue_is_that_of_a_plain_list_whichever_orders_leave_it() {
        let price = Dollars::from_micros(500_000);
        let mut random = Random::new(5);
        let mut book = Book::default();
        let mut plain: Vec<(u64, OrderId, Count)> = Vec::new();
        let mut most = 0;
        for priority in 1..20_000_u64 {
            // Grows to thousands of orders, and empties again and again.
            let grows = priority % 5_000 < 2_500;
            if random.below(10) < if grows { 8 } else { 2 } {
                let count = Count::from_hundredths(i64::try_from(random.below(300)).unwrap() + 1);
                book.insert(Side::Bid, price, priority, OrderId(priority), count);
                plain.push((priority, OrderId(priority), count));
            } else if !plain.is_empty() {
                let length = u64::try_from(plain.len()).unwrap();
                // The first, the last, or any.
                let at = match random.below(3) {
                    0 => 0,
                    1 => length - 1,
                    _ => random.below(length),
                };
                let at = usize::try_from(at).unwrap();
                let by = Count::from_hundredths(i64::try_from(random.below(600)).unwrap());
                let (rank, _, count) = plain[at];
                book.reduce(Side::Bid, price, rank, by);
                plain[at].2 = count.saturating_sub(by.min(count));
                plain.retain(|(_, _, count)| !count.is_zero());
            }
            most = most.max(plain.len());
            let places = book.bids.get(&price).map_or(0, |level| level.queue.places.len());
            assert!(places <= 2 * plain.len(), "{places} places for {} orders", plain.len());
            let total = plain.iter().fold(Count::ZERO, |sum, row| sum.saturating_add(row.2));
            assert_eq!(
                book.top(Side::Bid).map(|top| top.count),
                Some(total).filter(|t| !t.is_zero())
            );
            let first = plain.first().map(|(rank, order, count)| (*rank, *order, *count));
            let best = book.best(Side::Bid).map(|best| (best.priority, best.order, best.count));
            assert_eq!(best, first);
            if priority.is_multiple_of(97) {
                let listed: Vec<_> =
                    plain.iter().map(|(_, order, count)| (*order, *count)).collect();
                assert_eq!(rows(&book), listed);
                let half = plain.len() / 2;
                if let Some((rank, ..)) = plain.get(half) {
                    let ahead = plain[..half]
                        .iter()
                        .fold(Count::ZERO, |sum, row| sum.saturating_add(row.2));
                    assert_eq!(book.ahead(Side::Bid, price, *rank), ahead);
                }
            }
        }
        assert!(most > 1_000, "{most}");
    }
}
