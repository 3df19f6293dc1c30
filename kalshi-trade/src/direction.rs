//! The two vocabularies of an order: YES or NO, bought or sold; and a bid or an ask of the one book.
//!
//! | you | side of the book | its price |
//! |---|---|---|
//! | buy YES at p | bid | p |
//! | sell NO at q | bid | 1 − q |
//! | buy NO at q | ask | 1 − q |
//! | sell YES at p | ask | p |

use std::fmt;

use kalshi_types::{BookSide, Dollars};
use kalshi_ws::Outcome;

/// What is done with contracts of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Buys contracts.
    Buy,
    /// Sells contracts. Of those that are not held, the opposite outcome is bought.
    Sell,
}

/// An order in the words of a trader: an outcome, an action, and the price of **that outcome**.
///
/// The book knows only YES: [`to_book`](Self::to_book) gives what an order must say.
///
/// # Examples
///
/// ```
/// use kalshi_sdk::types::BookSide;
/// use kalshi_trade::direction::{Action, BookTerms, Terms};
/// use kalshi_ws::Outcome;
///
/// let terms = Terms { outcome: Outcome::No, action: Action::Buy, price: "0.44".parse()? };
/// let book = terms.to_book().ok_or("no price")?;
/// assert_eq!(book, BookTerms { side: BookSide::Ask, price: "0.56".parse()? });
///
/// // The same order, as one who holds YES reads it.
/// let sold = book.to_terms(Action::Sell).ok_or("no price")?;
/// assert_eq!(sold.to_string(), "sell YES at 0.5600");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the three things that an order says; there is no fourth"
)]
pub struct Terms {
    /// The outcome whose contracts are bought or sold.
    pub outcome: Outcome,
    /// Bought or sold.
    pub action: Action,
    /// The price of a contract of that outcome, in dollars.
    pub price: Dollars,
}

/// An order in the words of the book: a side, and the price of YES.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "the two things that an order of the book says")]
pub struct BookTerms {
    /// The side of the book.
    pub side: BookSide,
    /// The price of YES, in dollars.
    pub price: Dollars,
}

impl Terms {
    /// Returns the side of the book and the YES price, or `None` if the price is so far outside 0
    /// to 1 that one dollar less it is out of range.
    ///
    /// Whether the market takes the price, its [`PriceGrid`](kalshi_sdk::PriceGrid) says.
    pub fn to_book(self) -> Option<BookTerms> {
        let price = match self.outcome {
            Outcome::Yes => self.price,
            Outcome::No => self.price.complement()?,
        };
        let side = match (self.outcome, self.action) {
            (Outcome::Yes, Action::Buy) | (Outcome::No, Action::Sell) => BookSide::Bid,
            (Outcome::Yes, Action::Sell) | (Outcome::No, Action::Buy) => BookSide::Ask,
        };
        Some(BookTerms { side, price })
    }
}

impl BookTerms {
    /// Returns the order as one who buys, or as one who sells, reads it. `None` for a side that this
    /// version does not know, and for a price whose complement is out of range.
    pub fn to_terms(&self, action: Action) -> Option<Terms> {
        let outcome = match (&self.side, action) {
            (BookSide::Bid, Action::Buy) | (BookSide::Ask, Action::Sell) => Outcome::Yes,
            (BookSide::Bid, Action::Sell) | (BookSide::Ask, Action::Buy) => Outcome::No,
            _ => return None,
        };
        let price = match outcome {
            Outcome::Yes => self.price,
            Outcome::No => self.price.complement()?,
        };
        Some(Terms { outcome, action, price })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        })
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Yes => "YES",
            Outcome::No => "NO",
        };
        write!(f, "{} {outcome} at {}", self.action, self.price)
    }
}

impl fmt::Display for BookTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.side, self.price)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_four_rows_of_the_table() {
        let rows = [
            (Outcome::Yes, Action::Buy, "0.30", BookSide::Bid, "0.30"),
            (Outcome::No, Action::Sell, "0.30", BookSide::Bid, "0.70"),
            (Outcome::No, Action::Buy, "0.30", BookSide::Ask, "0.70"),
            (Outcome::Yes, Action::Sell, "0.30", BookSide::Ask, "0.30"),
        ];
        for (outcome, action, price, side, yes) in rows {
            let terms = Terms { outcome, action, price: price.parse().unwrap() };
            let book = BookTerms { side, price: yes.parse().unwrap() };
            assert_eq!(terms.to_book().unwrap(), book, "{terms}");
            assert_eq!(book.to_terms(action).unwrap(), terms, "{book}");
        }
    }

    #[test]
    fn a_side_that_is_not_known_has_no_terms() {
        let book = BookTerms { side: BookSide::from("middle"), price: Dollars::CENT };
        assert_eq!(book.to_terms(Action::Buy), None);
    }

    proptest! {
        /// Any order keeps its meaning on the way to the book and back, in both readings.
        #[test]
        fn terms_come_back(micros in 0_i64..=1_000_000, yes in any::<bool>(), buy in any::<bool>()) {
            let outcome = if yes { Outcome::Yes } else { Outcome::No };
            let action = if buy { Action::Buy } else { Action::Sell };
            let terms = Terms { outcome, action, price: Dollars::from_micros(micros) };
            let book = terms.to_book().unwrap();
            prop_assert_eq!(book.to_terms(action).unwrap(), terms);
            let other = if buy { Action::Sell } else { Action::Buy };
            let opposite = book.to_terms(other).unwrap();
            prop_assert_eq!(opposite.outcome, outcome.opposite());
            prop_assert_eq!(opposite.to_book().unwrap(), book);
        }

        /// No price panics.
        #[test]
        fn every_price_has_an_answer(micros in any::<i64>()) {
            let price = Dollars::from_micros(micros);
            for outcome in [Outcome::Yes, Outcome::No] {
                let book = Terms { outcome, action: Action::Buy, price }.to_book();
                prop_assert_eq!(book.is_none(), outcome == Outcome::No && price.complement().is_none());
            }
        }
    }
}
