//! The order book of a perpetual future: the levels of any book, with prices of any size.

use kalshi_types::{Count, Dollars, PriceLevel};

use super::{Delta, types::MarginOrderbookSnapshot};
use crate::{
    book::{self, BookError, FillEstimate, Outcome},
    product::BookShape,
};

/// The orders that rest in one market, level by level: two sides, and no complement.
///
/// Levels are sorted by price, whatever the order of the snapshot: the exchange documents one and
/// has been seen to send another.
///
/// # Examples
///
/// ```
/// use kalshi_types::PriceLevel;
/// use kalshi_ws::perps::OrderBook;
///
/// let level = |price: &str, count: &str| {
///     Ok::<_, Box<dyn std::error::Error>>(PriceLevel { price: price.parse()?, count: count.parse()? })
/// };
/// let bids = [level("64250.5", "3")?, level("64251", "10")?];
/// let book = OrderBook::from_levels(&bids, &[level("64251.5", "5")?])?;
/// assert_eq!(book.best_bid(), Some(level("64251", "10")?));
/// assert_eq!(book.spread(), Some("0.5".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderBook(book::OrderBook);

/// Any positive price.
fn is_price(price: Dollars) -> bool {
    price.is_positive()
}

impl OrderBook {
    /// Returns an empty book.
    pub const fn new() -> Self {
        Self(book::OrderBook::new())
    }

    /// Returns the book of a snapshot.
    ///
    /// # Errors
    ///
    /// A level below zero, a price that is not positive, or one that stands there twice. Levels of
    /// zero contracts are none.
    pub fn from_snapshot(snapshot: &MarginOrderbookSnapshot) -> Result<Self, BookError> {
        Self::from_levels(&snapshot.bid, &snapshot.ask)
    }

    /// Returns the book of these bids and asks, in any order.
    ///
    /// # Errors
    ///
    /// As with [`from_snapshot`](Self::from_snapshot).
    pub fn from_levels(bids: &[PriceLevel], asks: &[PriceLevel]) -> Result<Self, BookError> {
        let mut book = Self::new();
        book.replace(bids, asks)?;
        Ok(book)
    }

    /// Applies a delta.
    ///
    /// # Errors
    ///
    /// A level that would fall below zero, a number out of range, an unknown side. The book stays as
    /// it was.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), BookError> {
        let bid = delta.is_bid().ok_or(BookError::UnknownSide)?;
        self.change(bid, delta.price, delta.delta)
    }

    /// Returns the bids, best first.
    pub fn bids(&self) -> impl ExactSizeIterator<Item = PriceLevel> + '_ {
        self.0.bids(Outcome::Yes)
    }

    /// Returns the asks, best first.
    pub fn asks(&self) -> impl ExactSizeIterator<Item = PriceLevel> + '_ {
        self.0.asks(Outcome::Yes)
    }

    /// Returns the highest bid.
    pub fn best_bid(&self) -> Option<PriceLevel> {
        self.0.best_bid(Outcome::Yes)
    }

    /// Returns the lowest ask.
    pub fn best_ask(&self) -> Option<PriceLevel> {
        self.0.best_ask(Outcome::Yes)
    }

    /// Returns the lowest ask less the highest bid; `None` unless both exist.
    pub fn spread(&self) -> Option<Dollars> {
        self.0.spread()
    }

    /// Returns the price halfway between the best bid and the best ask, in 10^-6 USD rounded down;
    /// `None` unless both exist.
    pub fn mid(&self) -> Option<Dollars> {
        self.0.mid(Outcome::Yes)
    }

    /// Reports whether a bid is at or above an ask. The exchange would have matched the two.
    pub const fn is_crossed(&self) -> bool {
        self.0.is_crossed()
    }

    /// Reports whether no order rests.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the contracts on the bids and on the asks; `None` when a sum is out of range.
    pub fn depth(&self) -> Option<(Count, Count)> {
        self.0.depth(Outcome::Yes)
    }

    /// Estimates the fills of an order that buys `count` contracts at once.
    ///
    /// The cost is exact, in dollars, and has no fees in it. `None` when there is no ask, the count is
    /// not above zero, or a number is out of range; a smaller [`FillEstimate::count`] means that the
    /// book does not hold enough.
    pub fn estimate_buy(&self, count: Count) -> Option<FillEstimate> {
        self.0.estimate_buy(Outcome::Yes, count)
    }

    /// Estimates the fills of an order that sells `count` contracts at once.
    ///
    /// As with [`estimate_buy`](Self::estimate_buy).
    pub fn estimate_sell(&self, count: Count) -> Option<FillEstimate> {
        self.0.estimate_sell(Outcome::Yes, count)
    }
}

impl BookShape for OrderBook {
    fn replace(&mut self, bids: &[PriceLevel], asks: &[PriceLevel]) -> Result<(), BookError> {
        self.0.replace_where(bids, asks, is_price)
    }

    #[inline]
    fn change(&mut self, bid: bool, price: Dollars, delta: Count) -> Result<(), BookError> {
        self.0.change_where(bid, price, delta, is_price)
    }

    #[inline]
    fn is_crossed(&self) -> bool {
        self.0.is_crossed()
    }

    #[inline]
    fn check_uncrossed(&self) -> Result<(), BookError> {
        self.0.check_uncrossed()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
