//! A quote that follows a desired price without flooding the exchange.
//!
//! A [`Quoter`] decides for one side of one market what to do next, from what is desired and what
//! rests. What lowers the risk is done at once: canceling, moving **away** from the other side, and
//! making the order smaller. What raises it waits until `min_interval` has passed since the last
//! such change, and moves **towards** the other side by less than `min_move` are not made at all,
//! since they would cost the place in the queue for nothing.
//!
//! It is pure: the clock is an argument, and sending is the caller's.

use std::time::Duration;

use kalshi_types::{BookSide, Count, Dollars, UnixMillis};

use crate::orders::{Life, ManagedOrder, OrderIntent};

/// A price and the contracts that are to rest there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the two numbers of a quote")]
pub struct Quote {
    /// The YES price, in dollars.
    pub price: Dollars,
    /// The contracts that are to rest: not the total of the order.
    pub count: Count,
}

/// The order that is the quote at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what a caller knows of its order")]
pub struct RestingQuote {
    /// The YES price, in dollars.
    pub price: Dollars,
    /// The contracts that rest.
    pub remaining: Count,
    /// The contracts that were filled.
    pub filled: Count,
    /// True while the outcome of an earlier request about it is not known.
    pub is_pending: bool,
}

impl RestingQuote {
    /// Returns the quote that an order is, or `None` if the order is over. Pending while it is not
    /// known to rest, or while a change of it is on its way; so is one that the manager does not know
    /// yet (`None`).
    pub fn of_order(order: Option<&ManagedOrder>) -> Option<Self> {
        let (price, zero) = (Dollars::ZERO, Count::ZERO);
        let pending = Self { price, remaining: zero, filled: zero, is_pending: true };
        let Some(order) = order else { return Some(pending) };
        match (order.life(), order.record()) {
            (Life::Over(_), _) => None,
            (Life::Resting, Some(record)) => Some(Self {
                price: record.yes_price,
                remaining: record.remaining,
                filled: record.filled,
                is_pending: order.intent() != OrderIntent::None,
            }),
            _ => Some(pending),
        }
    }
}

/// The side of the book that is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a book has two sides")]
pub enum QuoteSide {
    /// Buys YES.
    Bid,
    /// Sells YES.
    Ask,
}

impl From<QuoteSide> for BookSide {
    fn from(side: QuoteSide) -> Self {
        match side {
            QuoteSide::Bid => Self::Bid,
            QuoteSide::Ask => Self::Ask,
        }
    }
}

/// What to do with the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuoteAction {
    /// Nothing: what rests is what is desired, or near enough.
    Keep,
    /// Nothing yet: decide again at this time, or when something changes.
    Wait(UnixMillis),
    /// Nothing until the outcome of the earlier request is known.
    Settle,
    /// Make an order.
    Place(Quote),
    /// Cancel the order.
    Cancel,
    /// Take contracts away, down to this many that rest. Keeps the place in the queue.
    DecreaseTo(Count),
    /// Amend the order: its new price and its new **total**, which is what is filled and what is to
    /// rest.
    Amend {
        /// The YES price, in dollars.
        price: Dollars,
        /// The new total of the order.
        total: Count,
    },
}

/// Decides for one side of one market.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_sdk::{Dollars, UnixMillis};
/// use kalshi_trade::quoting::{Quote, QuoteAction, QuoteSide, Quoter, RestingQuote};
///
/// let mut quoter = Quoter::new(QuoteSide::Bid, Duration::from_millis(500), Dollars::CENT);
/// let quote = |price: &str| Quote { price: price.parse().unwrap(), count: "10".parse().unwrap() };
/// let at = UnixMillis::from_millis;
/// assert_eq!(quoter.decide(at(0), Some(quote("0.40")), None), QuoteAction::Place(quote("0.40")));
///
/// let resting = RestingQuote {
///     price: "0.40".parse()?,
///     remaining: "10".parse()?,
///     filled: "0".parse()?,
///     is_pending: false,
/// };
/// // Up, towards the asks: not before half a second has passed.
/// let up = quoter.decide(at(100), Some(quote("0.41")), Some(resting));
/// assert_eq!(up, QuoteAction::Wait(at(500)));
/// // Down, away from them: at once.
/// let down = quoter.decide(at(100), Some(quote("0.39")), Some(resting));
/// assert!(matches!(down, QuoteAction::Amend { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Quoter {
    side: QuoteSide,
    min_interval: Duration,
    min_move: Dollars,
    /// The time before which nothing that raises the risk is done.
    not_before: Option<UnixMillis>,
}

impl Quoter {
    /// Creates a quoter. `min_move` is in dollars; zero follows every tick.
    pub const fn new(side: QuoteSide, min_interval: Duration, min_move: Dollars) -> Self {
        Self { side, min_interval, min_move, not_before: None }
    }

    /// Decides what to do at `now`, and takes it as done: call it once for each time that its
    /// answer is acted on.
    ///
    /// A desired quote without contracts is none.
    pub fn decide(
        &mut self,
        now: UnixMillis,
        desired: Option<Quote>,
        resting: Option<RestingQuote>,
    ) -> QuoteAction {
        let desired = desired.filter(|quote| quote.count.is_positive());
        match (desired, resting) {
            (None, None) => QuoteAction::Keep,
            // A second request about an order whose state is unknown could undo the first.
            (_, Some(resting)) if resting.is_pending => QuoteAction::Settle,
            (None, Some(_)) => QuoteAction::Cancel,
            (Some(quote), None) => self.raise(now, QuoteAction::Place(quote)),
            (Some(quote), Some(resting)) => self.change(now, quote, resting),
        }
    }

    fn change(&mut self, now: UnixMillis, quote: Quote, resting: RestingQuote) -> QuoteAction {
        let Some(total) = resting.filled.checked_add(quote.count) else {
            return QuoteAction::Cancel;
        };
        let amend = QuoteAction::Amend { price: quote.price, total };
        let (towards, distance) = match self.side {
            QuoteSide::Bid => (quote.price > resting.price, quote.price.checked_sub(resting.price)),
            QuoteSide::Ask => (quote.price < resting.price, resting.price.checked_sub(quote.price)),
        };
        let is_near = distance.is_some_and(|distance| distance < self.min_move);
        if quote.price == resting.price || (towards && is_near) {
            return match quote.count.cmp(&resting.remaining) {
                std::cmp::Ordering::Less => QuoteAction::DecreaseTo(quote.count),
                std::cmp::Ordering::Equal => QuoteAction::Keep,
                std::cmp::Ordering::Greater => {
                    let price = resting.price;
                    self.raise(now, QuoteAction::Amend { price, total })
                }
            };
        }
        if towards {
            return match self.raise(now, amend) {
                // What may not move yet is at least not larger than desired.
                QuoteAction::Wait(_) if quote.count < resting.remaining => {
                    QuoteAction::DecreaseTo(quote.count)
                }
                action => action,
            };
        }
        if quote.count <= resting.remaining {
            return amend;
        }
        // Away and larger: away at once, larger when it is time.
        match self.raise(now, amend) {
            QuoteAction::Wait(_) => match resting.filled.checked_add(resting.remaining) {
                Some(total) => QuoteAction::Amend { price: quote.price, total },
                None => QuoteAction::Cancel,
            },
            action => action,
        }
    }

    /// Does what raises the risk, if it is time.
    fn raise(&mut self, now: UnixMillis, action: QuoteAction) -> QuoteAction {
        match self.not_before {
            Some(time) if now < time => QuoteAction::Wait(time),
            _ => {
                self.not_before = Some(now.saturating_add(self.min_interval));
                action
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> UnixMillis {
        UnixMillis::from_millis(ms)
    }

    fn quote(cents: i64, contracts: i64) -> Quote {
        Quote {
            price: Dollars::from_cents(cents).unwrap(),
            count: Count::from_contracts(contracts).unwrap(),
        }
    }

    fn resting(cents: i64, remaining: i64, filled: i64) -> RestingQuote {
        RestingQuote {
            price: Dollars::from_cents(cents).unwrap(),
            remaining: Count::from_contracts(remaining).unwrap(),
            filled: Count::from_contracts(filled).unwrap(),
            is_pending: false,
        }
    }

    fn quoter(side: QuoteSide) -> Quoter {
        let mut quoter = Quoter::new(side, Duration::from_secs(1), Dollars::from_cents(2).unwrap());
        assert!(matches!(quoter.decide(at(0), Some(quote(40, 10)), None), QuoteAction::Place(_)));
        quoter
    }

    #[test]
    fn what_lowers_the_risk_is_done_at_once() {
        for (side, away) in [(QuoteSide::Bid, 38), (QuoteSide::Ask, 42)] {
            let mut quoter = quoter(side);
            let rests = Some(resting(40, 10, 5));
            assert_eq!(quoter.decide(at(1), None, rests), QuoteAction::Cancel);
            assert_eq!(quoter.decide(at(1), Some(quote(40, 0)), rests), QuoteAction::Cancel);
            let smaller = QuoteAction::DecreaseTo(quote(0, 4).count);
            assert_eq!(quoter.decide(at(1), Some(quote(40, 4)), rests), smaller);
            let Quote { price, .. } = quote(away, 0);
            let total = quote(0, 15).count;
            let moved = QuoteAction::Amend { price, total };
            assert_eq!(quoter.decide(at(1), Some(quote(away, 10)), rests), moved);
            // Away at once, and larger only when it is time.
            assert_eq!(quoter.decide(at(1), Some(quote(away, 20)), rests), moved);
            let total = quote(0, 25).count;
            let larger = quoter.decide(at(1_000), Some(quote(away, 20)), rests);
            assert_eq!(larger, QuoteAction::Amend { price, total });
        }
    }

    #[test]
    fn what_raises_the_risk_waits_its_time() {
        for (side, near, far) in [(QuoteSide::Bid, 41, 42), (QuoteSide::Ask, 39, 38)] {
            let mut quoter = quoter(side);
            let rests = Some(resting(40, 10, 0));
            assert_eq!(quoter.decide(at(1), Some(quote(near, 10)), rests), QuoteAction::Keep);
            let wait = QuoteAction::Wait(at(1_000));
            assert_eq!(quoter.decide(at(1), Some(quote(far, 10)), rests), wait);
            assert_eq!(quoter.decide(at(1), Some(quote(40, 11)), rests), wait);
            assert_eq!(quoter.decide(at(1), Some(quote(40, 1)), None), wait);
            // Smaller at once, though it may not move yet.
            let smaller = QuoteAction::DecreaseTo(quote(0, 3).count);
            assert_eq!(quoter.decide(at(1), Some(quote(far, 3)), rests), smaller);
            let moved = quoter.decide(at(1_000), Some(quote(far, 10)), rests);
            let Quote { price, count } = quote(far, 10);
            assert_eq!(moved, QuoteAction::Amend { price, total: count });
            assert_eq!(
                quoter.decide(at(1_001), Some(quote(40, 11)), rests),
                QuoteAction::Wait(at(2_000))
            );
        }
    }

    #[test]
    fn an_order_whose_state_is_unknown_is_left_alone() {
        let mut quoter = quoter(QuoteSide::Bid);
        let pending = Some(RestingQuote { is_pending: true, ..resting(40, 10, 0) });
        for desired in [None, Some(quote(1, 1)), Some(quote(99, 99))] {
            assert_eq!(quoter.decide(at(9_999), desired, pending), QuoteAction::Settle);
        }
        assert_eq!(quoter.decide(at(9_999), None, None), QuoteAction::Keep);
    }

    #[test]
    fn the_quote_of_an_order_is_pending_until_it_is_known_to_rest() {
        use kalshi_ws::{
            OrderRecord,
            types::{MarketSide, UserOrderStatus},
        };

        use crate::{
            orders::OrderManager,
            placement::{PlacementState, WithdrawnCause},
        };

        let is_pending = |quote: Option<RestingQuote>| quote.map(|quote| quote.is_pending);
        assert_eq!(is_pending(RestingQuote::of_order(None)), Some(true));
        let mut manager = OrderManager::new();
        manager.apply_placement("a", &PlacementState::Sent { attempt: 1 });
        let key = manager.by_client_order_id("a").unwrap();
        assert_eq!(is_pending(RestingQuote::of_order(manager.get(key))), Some(true));
        manager.apply_placement("a", &PlacementState::Accepted { order_id: "1".to_owned() });
        assert_eq!(is_pending(RestingQuote::of_order(manager.get(key))), Some(true));
        let record = OrderRecord {
            order_id: "1".to_owned(),
            client_order_id: "a".to_owned(),
            market_ticker: "M".to_owned(),
            subaccount: None,
            status: UserOrderStatus::Resting,
            outcome_side: MarketSide::Yes,
            book_side: BookSide::Bid,
            yes_price: quote(40, 0).price,
            initial: quote(0, 10).count,
            remaining: quote(0, 7).count,
            filled: quote(0, 3).count,
            updated: Some(at(1)),
        };
        manager.apply_order(record.clone());
        assert_eq!(RestingQuote::of_order(manager.get(key)), Some(resting(40, 7, 3)));
        manager.set_intent(key, OrderIntent::Cancel, false).unwrap();
        assert_eq!(is_pending(RestingQuote::of_order(manager.get(key))), Some(true));
        let (status, updated) = (UserOrderStatus::Canceled, Some(at(2)));
        manager.apply_order(OrderRecord { status, updated, ..record });
        assert_eq!(RestingQuote::of_order(manager.get(key)), None);
        // One that was never sent is over, too.
        manager.apply_placement("b", &PlacementState::Withdrawn(WithdrawnCause::Caller));
        let key = manager.by_client_order_id("b").unwrap();
        assert_eq!(RestingQuote::of_order(manager.get(key)), None);
    }

    proptest! {
        /// In any interval there is at most one change that raises the risk, and after a change the
        /// order is never larger or nearer than both the desired quote and the one before.
        #[test]
        fn raises_are_rare_and_never_exceed_what_is_desired(
            steps in prop::collection::vec((0_i64..700, prop::option::of((30_i64..50, 0_i64..20)), 0_i64..5), 1..100),
            bid in any::<bool>(),
        ) {
            let side = if bid { QuoteSide::Bid } else { QuoteSide::Ask };
            let interval = Duration::from_secs(1);
            let mut quoter = Quoter::new(side, interval, Dollars::from_cents(2).unwrap());
            let mut order: Option<RestingQuote> = None;
            let mut now = 0;
            let mut raised: Option<i64> = None;
            for (wait, desired, filled) in steps {
                now += wait;
                let desired = desired.map(|(cents, contracts)| quote(cents, contracts));
                let action = quoter.decide(at(now), desired, order);
                let before = order;
                match action {
                    QuoteAction::Keep | QuoteAction::Wait(_) => {}
                    QuoteAction::Place(Quote { price, count }) => {
                        prop_assert!(order.is_none());
                        order = Some(RestingQuote { price, remaining: count, filled: Count::ZERO, is_pending: false });
                    }
                    QuoteAction::Cancel => order = None,
                    QuoteAction::DecreaseTo(count) => {
                        let order = order.as_mut().unwrap();
                        prop_assert!(count < order.remaining && count.is_positive());
                        order.remaining = count;
                    }
                    QuoteAction::Amend { price, total } => {
                        let order = order.as_mut().unwrap();
                        order.price = price;
                        order.remaining = total.checked_sub(order.filled).unwrap();
                        prop_assert!(order.remaining.is_positive());
                    }
                    QuoteAction::Settle => prop_assert!(false, "nothing is pending"),
                }
                if let (Some(after), true) = (order, before != order) {
                    let desired = desired.unwrap();
                    let nearer = |a: Dollars, b: Dollars| if bid { a > b } else { a < b };
                    let raises = before.is_none_or(|before| {
                        nearer(after.price, before.price) || after.remaining > before.remaining
                    });
                    if raises {
                        prop_assert!(raised.is_none_or(|time| time + 1_000 <= now));
                        raised = Some(now);
                    }
                    let largest = before.map_or(desired.count, |before| before.remaining.max(desired.count));
                    prop_assert!(after.remaining <= largest);
                    if nearer(after.price, desired.price) {
                        prop_assert!(before.is_some_and(|before| before.price == after.price));
                    }
                }
                // Some of it is filled meanwhile.
                if let Some(rests) = &mut order {
                    let part = Count::from_contracts(filled).unwrap().min(rests.remaining);
                    rests.filled = rests.filled.checked_add(part).unwrap();
                    rests.remaining = rests.remaining.checked_sub(part).unwrap();
                    if rests.remaining.is_zero() {
                        order = None;
                    }
                }
            }
        }
    }
}
