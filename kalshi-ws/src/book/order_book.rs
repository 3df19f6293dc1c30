//! Order book. Pure: no sockets, no clock, no locking.
//!
//! A book knows nothing of sequence numbers; [`Books`](crate::Books) decides which book may be
//! read. It refuses what is impossible: a level below zero, one price twice in a snapshot, a number
//! out of range. After a refusal the book is not what the exchange has.

use std::cmp::{Ordering, Reverse};

use kalshi_types::{Count, Dollars, PriceLevel};
use thiserror::Error;

use crate::{
    generated::types::{BookSide, MarketSide, OrderbookSnapshot},
    portfolio::OrderRecord,
    protocol::message::Delta,
};

/// One of the two things that a market trades.
///
/// A book holds one set of orders, which reads in two ways: a bid for NO at 0.30 is an ask for YES
/// at 0.70.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// YES.
    Yes,
    /// NO.
    No,
}

/// The orders that rest in one market, level by level.
///
/// # Examples
///
/// ```
/// use kalshi_types::PriceLevel;
/// use kalshi_ws::{OrderBook, Outcome};
///
/// let level = |price: &str, count: &str| {
///     Ok::<_, Box<dyn std::error::Error>>(PriceLevel { price: price.parse()?, count: count.parse()? })
/// };
/// let book = OrderBook::from_levels(&[level("0.40", "10")?], &[level("0.43", "5")?])?;
/// assert_eq!(book.best_bid(Outcome::Yes), Some(level("0.40", "10")?));
/// assert_eq!(book.best_bid(Outcome::No), Some(level("0.57", "5")?));
/// assert_eq!(book.spread(), Some("0.03".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderBook {
    /// Bids for YES by rising price: the best is the last.
    bids: Vec<PriceLevel>,
    /// Asks for YES by falling price: the best is the last.
    asks: Vec<PriceLevel>,
    /// A bid is at or above an ask. Kept, so that a change of one side need not look at the other.
    is_crossed: bool,
}

/// An impossible change: the book, or the change, is not what the exchange has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BookError {
    /// More contracts would leave a level than rest there.
    #[error("the level at {price} would hold {count} contracts")]
    NegativeLevel {
        /// The price of YES of the level.
        price: Dollars,
        /// The count that the level would have.
        count: Count,
    },
    /// A snapshot has one price twice.
    #[error("the snapshot has the level at {price} twice")]
    DuplicateLevel {
        /// The price of YES of the level.
        price: Dollars,
    },
    /// A number is out of range.
    #[error("a number at the level {price} is out of range")]
    OutOfRange {
        /// The price of YES of the level.
        price: Dollars,
    },
    /// A bid is at or above an ask, and stays so. Prices that are read by the wrong convention look
    /// like this.
    #[error("the bid at {bid} is at or above the ask at {ask}")]
    Crossed {
        /// The best bid, as a price of YES.
        bid: Dollars,
        /// The best ask, as a price of YES.
        ask: Dollars,
    },
    /// A side that is neither `yes` nor `no`.
    #[error("the side of a change is neither `yes` nor `no`")]
    UnknownSide,
}

/// An estimate of the fills of an order against a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FillEstimate {
    /// The contracts that the book can fill, at most those of the order.
    pub count: Count,
    /// The sum of their prices, paid or received, before fees.
    pub cost: Dollars,
    /// The price of the last of them.
    pub worst_price: Dollars,
}

/// An order of your own that rests in a book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestingOrder {
    /// The side of the book.
    pub book_side: BookSide,
    /// The price of YES.
    pub yes_price: Dollars,
    /// The contracts that are left.
    pub count: Count,
}

impl From<&OrderRecord> for RestingOrder {
    fn from(order: &OrderRecord) -> Self {
        let (yes_price, count) = (order.yes_price, order.remaining);
        Self { book_side: order.book_side.clone(), yes_price, count }
    }
}

impl OrderBook {
    /// Returns an empty book.
    pub const fn new() -> Self {
        Self { bids: Vec::new(), asks: Vec::new(), is_crossed: false }
    }

    /// Returns the book of a snapshot, whose prices are those of YES on both sides.
    ///
    /// # Errors
    ///
    /// A level below zero, or a price that stands there twice. Levels of zero contracts are none.
    pub fn from_snapshot(snapshot: &OrderbookSnapshot) -> Result<Self, BookError> {
        Self::from_levels(&snapshot.yes_dollars_fp, &snapshot.no_dollars_fp)
    }

    /// Returns the book of these bids and asks for YES, in any order.
    ///
    /// # Errors
    ///
    /// As with [`from_snapshot`](Self::from_snapshot).
    pub fn from_levels(bids: &[PriceLevel], asks: &[PriceLevel]) -> Result<Self, BookError> {
        let mut book = Self::new();
        book.replace(bids, asks)?;
        Ok(book)
    }

    /// Takes the levels of a snapshot in place of its own, in the memory that it has.
    pub(crate) fn replace(
        &mut self,
        bids: &[PriceLevel],
        asks: &[PriceLevel],
    ) -> Result<(), BookError> {
        self.replace_where(bids, asks, is_price)
    }

    /// Does the same as [`replace`](Self::replace), with another rule of what a price is.
    pub(crate) fn replace_where(
        &mut self,
        bids: &[PriceLevel],
        asks: &[PriceLevel],
        is_price: impl Fn(Dollars) -> bool,
    ) -> Result<(), BookError> {
        let filled = self.fill(bids, asks, is_price);
        self.is_crossed = self.finds_crossed();
        filled
    }

    fn fill(
        &mut self,
        bids: &[PriceLevel],
        asks: &[PriceLevel],
        is_price: impl Fn(Dollars) -> bool,
    ) -> Result<(), BookError> {
        fill(&mut self.bids, bids, &is_price)?;
        fill(&mut self.asks, asks, &is_price)?;
        self.bids.sort_unstable_by_key(|level| level.price);
        self.asks.sort_unstable_by_key(|level| Reverse(level.price));
        for levels in [&self.bids, &self.asks] {
            for pair in levels.windows(2) {
                if let [one, other] = pair
                    && one.price == other.price
                {
                    return Err(BookError::DuplicateLevel { price: one.price });
                }
            }
        }
        Ok(())
    }

    /// Applies a delta.
    ///
    /// # Errors
    ///
    /// A level that would fall below zero, a sum out of range, an unknown side. The book stays as
    /// it was.
    #[inline]
    pub fn apply(&mut self, delta: &Delta) -> Result<(), BookError> {
        let bid = match delta.side {
            MarketSide::Yes => true,
            MarketSide::No => false,
            MarketSide::Unknown(_) => return Err(BookError::UnknownSide),
        };
        self.change(bid, delta.price_dollars, delta.delta_fp)
    }

    /// Adds contracts to a level, or removes them.
    ///
    /// # Errors
    ///
    /// As with [`apply`](Self::apply).
    #[inline]
    pub(crate) fn change(
        &mut self,
        bid: bool,
        price: Dollars,
        delta: Count,
    ) -> Result<(), BookError> {
        self.change_where(bid, price, delta, is_price)
    }

    /// Does the same as [`change`](Self::change), with another rule of what a price is.
    #[inline]
    pub(crate) fn change_where(
        &mut self,
        bid: bool,
        price: Dollars,
        delta: Count,
        is_price: impl Fn(Dollars) -> bool,
    ) -> Result<(), BookError> {
        let (levels, found) = if bid {
            let found = search(&self.bids, |level| level.price.cmp(&price));
            (&mut self.bids, found)
        } else {
            let found = search(&self.asks, |level| price.cmp(&level.price));
            (&mut self.asks, found)
        };
        match found {
            Ok(at) => {
                let Some(level) = levels.get_mut(at) else {
                    return Err(BookError::OutOfRange { price });
                };
                let Some(count) = level.count.checked_add(delta) else {
                    return Err(BookError::OutOfRange { price });
                };
                if count.is_positive() {
                    level.count = count;
                } else if count.is_zero() {
                    levels.remove(at);
                    self.is_crossed = self.is_crossed && self.finds_crossed();
                } else {
                    return Err(BookError::NegativeLevel { price, count });
                }
            }
            Err(_) if !is_price(price) => return Err(BookError::OutOfRange { price }),
            Err(at) if delta.is_positive() => {
                let is_best = at == levels.len();
                levels.insert(at, PriceLevel { price, count: delta });
                self.is_crossed = self.is_crossed || is_best && self.finds_crossed();
            }
            Err(_) if delta.is_zero() => {}
            Err(_) => return Err(BookError::NegativeLevel { price, count: delta }),
        }
        Ok(())
    }

    /// Returns the bids for an outcome, best first.
    pub fn bids(&self, outcome: Outcome) -> impl ExactSizeIterator<Item = PriceLevel> + '_ {
        let levels = if outcome == Outcome::Yes { &self.bids } else { &self.asks };
        levels.iter().rev().map(move |level| seen_from(outcome, *level))
    }

    /// Returns the asks for an outcome, best first.
    pub fn asks(&self, outcome: Outcome) -> impl ExactSizeIterator<Item = PriceLevel> + '_ {
        let levels = if outcome == Outcome::Yes { &self.asks } else { &self.bids };
        levels.iter().rev().map(move |level| seen_from(outcome, *level))
    }

    /// Returns the highest bid for an outcome.
    pub fn best_bid(&self, outcome: Outcome) -> Option<PriceLevel> {
        self.bids(outcome).next()
    }

    /// Returns the lowest ask for an outcome.
    pub fn best_ask(&self, outcome: Outcome) -> Option<PriceLevel> {
        self.asks(outcome).next()
    }

    /// Returns the lowest ask less the highest bid, the same for both outcomes; `None` unless both
    /// exist.
    pub fn spread(&self) -> Option<Dollars> {
        self.asks.last()?.price.checked_sub(self.bids.last()?.price)
    }

    /// Returns the price halfway between the best bid and the best ask for an outcome, in 10^-6 USD rounded
    /// down; `None` unless both exist.
    pub fn mid(&self, outcome: Outcome) -> Option<Dollars> {
        let bid = self.best_bid(outcome)?.price;
        let half = self.spread()?.as_micros() / 2;
        bid.checked_add(Dollars::from_micros(half))
    }

    /// Reports whether a bid is at or above an ask. The exchange would have matched the two.
    #[inline]
    pub const fn is_crossed(&self) -> bool {
        self.is_crossed
    }

    fn finds_crossed(&self) -> bool {
        let best = self.bids.last().zip(self.asks.last());
        best.is_some_and(|(bid, ask)| bid.price >= ask.price)
    }

    /// Reports whether no order rests.
    pub fn is_empty(&self) -> bool {
        self.bids.is_empty() && self.asks.is_empty()
    }

    /// Returns the contracts that are bid for an outcome at one price.
    pub fn bid_count_at(&self, outcome: Outcome, price: Dollars) -> Count {
        self.bids(outcome).find(|level| level.price == price).map_or(Count::ZERO, |l| l.count)
    }

    /// Returns the contracts on the bids and on the asks for an outcome; `None` when a sum is out of range.
    pub fn depth(&self, outcome: Outcome) -> Option<(Count, Count)> {
        let sum = |levels: &[PriceLevel]| levels.iter().map(|l| l.count).sum::<Option<Count>>();
        let (bids, asks) = (sum(&self.bids)?, sum(&self.asks)?);
        Some(if outcome == Outcome::Yes { (bids, asks) } else { (asks, bids) })
    }

    /// Estimates the fills of an order that buys `count` contracts of an outcome at once.
    ///
    /// The cost is exact and has no fees in it. `None` when there is no ask, the count is not above
    /// zero, or a number is out of range; a smaller [`FillEstimate::count`] means that the book does
    /// not hold enough.
    pub fn estimate_buy(&self, outcome: Outcome, count: Count) -> Option<FillEstimate> {
        sweep(self.asks(outcome), count)
    }

    /// Estimates the fills of an order that sells `count` contracts of an outcome at once.
    ///
    /// As with [`estimate_buy`](Self::estimate_buy).
    pub fn estimate_sell(&self, outcome: Outcome, count: Count) -> Option<FillEstimate> {
        sweep(self.bids(outcome), count)
    }

    /// Returns the book without your own orders: what the others bid and ask.
    ///
    /// `orders` must be those that rest in this market. Books and orders come over different
    /// channels, in no common order: while an order of yours changes, the result may be off by that
    /// change. It never has a level below zero.
    ///
    /// # Errors
    ///
    /// [`BookError::UnknownSide`] for an order whose side this version does not know.
    ///
    /// # Examples
    ///
    /// ```
    /// use kalshi_types::PriceLevel;
    /// use kalshi_ws::{OrderBook, Outcome, RestingOrder, types::BookSide};
    ///
    /// let level = |price: &str, count: &str| {
    ///     Ok::<_, Box<dyn std::error::Error>>(PriceLevel { price: price.parse()?, count: count.parse()? })
    /// };
    /// let book = OrderBook::from_levels(&[level("0.40", "10")?, level("0.41", "5")?], &[])?;
    /// let mine = RestingOrder {
    ///     book_side: BookSide::Bid,
    ///     yes_price: "0.41".parse()?,
    ///     count: "5".parse()?,
    /// };
    /// let others = book.without([mine])?;
    /// assert_eq!(others.best_bid(Outcome::Yes), Some(level("0.40", "10")?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn without<T: Into<RestingOrder>>(
        &self,
        orders: impl IntoIterator<Item = T>,
    ) -> Result<Self, BookError> {
        let mut book = self.clone();
        for order in orders {
            let RestingOrder { book_side, yes_price, count } = order.into();
            let levels = match book_side {
                BookSide::Bid => &mut book.bids,
                BookSide::Ask => &mut book.asks,
                _ => return Err(BookError::UnknownSide),
            };
            for level in levels.iter_mut().filter(|level| level.price == yes_price) {
                level.count = level.count.checked_sub(count).unwrap_or(Count::ZERO);
            }
            levels.retain(|level| level.count.is_positive());
        }
        book.is_crossed = book.finds_crossed();
        Ok(book)
    }

    /// Refuses a book with a bid at or above an ask.
    #[inline]
    pub(crate) fn check_uncrossed(&self) -> Result<(), BookError> {
        if !self.is_crossed {
            return Ok(());
        }
        match (self.bids.last(), self.asks.last()) {
            (Some(bid), Some(ask)) => Err(BookError::Crossed { bid: bid.price, ask: ask.price }),
            _ => Ok(()),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
        self.is_crossed = false;
    }
}

impl Outcome {
    /// Returns the other outcome.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
        }
    }
}

/// Returns the index of a level, or where it belongs. Most changes come near the best price, which
/// is the last: a few steps from there are faster than the jumps of a binary search.
#[inline]
fn search(levels: &[PriceLevel], order: impl Fn(&PriceLevel) -> Ordering) -> Result<usize, usize> {
    const STEPS: usize = 24;
    for (at, level) in levels.iter().enumerate().rev().take(STEPS) {
        match order(level) {
            Ordering::Greater => {}
            Ordering::Equal => return Ok(at),
            Ordering::Less => return Err(at + 1),
        }
    }
    let rest = levels.len().saturating_sub(STEPS);
    levels.get(..rest).unwrap_or_default().binary_search_by(order)
}

fn fill(
    levels: &mut Vec<PriceLevel>,
    from: &[PriceLevel],
    is_price: impl Fn(Dollars) -> bool,
) -> Result<(), BookError> {
    levels.clear();
    for level in from {
        if level.count.is_negative() {
            return Err(BookError::NegativeLevel { price: level.price, count: level.count });
        }
        if !is_price(level.price) {
            return Err(BookError::OutOfRange { price: level.price });
        }
        if level.count.is_positive() {
            levels.push(*level);
        }
    }
    Ok(())
}

fn is_price(price: Dollars) -> bool {
    !price.is_negative() && price <= Dollars::ONE
}

/// Returns the level with the price of the outcome. Prices lie between zero and one, so none is
/// lost.
fn seen_from(outcome: Outcome, level: PriceLevel) -> PriceLevel {
    match outcome {
        Outcome::Yes => level,
        Outcome::No => {
            let price = Dollars::ONE.as_micros().saturating_sub(level.price.as_micros());
            PriceLevel { price: Dollars::from_micros(price), count: level.count }
        }
    }
}

fn sweep(levels: impl Iterator<Item = PriceLevel>, count: Count) -> Option<FillEstimate> {
    let mut rest = count;
    let mut sweep: Option<FillEstimate> = None;
    for level in levels {
        if !rest.is_positive() {
            break;
        }
        let taken = level.count.min(rest);
        let cost = level.price.checked_mul_count(taken)?;
        rest = rest.checked_sub(taken)?;
        let before = sweep.unwrap_or(FillEstimate {
            count: Count::ZERO,
            cost: Dollars::ZERO,
            worst_price: level.price,
        });
        sweep = Some(FillEstimate {
            count: before.count.checked_add(taken)?,
            cost: before.cost.checked_add(cost)?,
            worst_price: level.price,
        });
    }
    sweep
}
