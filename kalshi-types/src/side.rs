//! The sides of the book, for every surface of the exchange.

open_enum! {
    /// Side in the YES book of a market.
    ///
    /// All prices beside it are YES prices: buying NO at q is an [`Ask`](Self::Ask) at 1 − q. It
    /// tells the direction only, not whether a position is opened or closed.
    pub enum BookSide {
        /// Buys YES (or sells NO); the same as an outcome side of `yes`.
        Bid = "bid",
        /// Sells YES (or buys NO); the same as an outcome side of `no`.
        Ask = "ask",
    }
}

impl BookSide {
    /// Returns the other side of the book, or `None` for a value that this version does not know.
    ///
    /// ```
    /// use kalshi_types::BookSide;
    ///
    /// assert_eq!(BookSide::Bid.opposite(), Some(BookSide::Ask));
    /// assert_eq!(BookSide::from("middle").opposite(), None);
    /// ```
    #[must_use = "the opposite is returned, not stored"]
    pub const fn opposite(&self) -> Option<Self> {
        match self {
            Self::Bid => Some(Self::Ask),
            Self::Ask => Some(Self::Bid),
            Self::Unknown(_) => None,
        }
    }
}
