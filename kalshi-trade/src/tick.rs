//! Prices that a market takes: bids down, asks up, and no further than the caller allows.

use kalshi_types::{BookSide, Dollars, PriceGrid};
use thiserror::Error;

/// The reason why a price was not moved to one that the market takes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapError {
    /// The market has no price on that side: none at or below a bid, none at or above an ask.
    #[error(
        "no price of the market is at {direction} {price} (they go from {lowest} to {highest})",
        direction = if *side == BookSide::Bid { "or below a bid of" } else { "or above an ask of" }
    )]
    NoPrice {
        /// The side of the order.
        side: BookSide,
        /// The price that was asked for, in dollars.
        price: Dollars,
        /// The lowest price of the market.
        lowest: Dollars,
        /// The highest price of the market.
        highest: Dollars,
    },
    /// The nearest price on that side is further away than the caller allows.
    #[error(
        "the nearest price for {price} is {snapped}, further away than the {limit} that are allowed"
    )]
    TooFar {
        /// The price that was asked for, in dollars.
        price: Dollars,
        /// The nearest price that the market takes on that side.
        snapped: Dollars,
        /// The greatest distance that the caller allows, in dollars.
        limit: Dollars,
    },
    /// The side is one that this version does not know.
    #[error("the side {0:?} is neither bid nor ask")]
    UnknownSide(String),
}

/// Returns the price of the market that is nearest to `price` and no worse for the order: at or
/// below it for a bid, at or above it for an ask.
///
/// It moves by at most `limit` dollars; [`Dollars::ZERO`] lets only valid prices through. So a
/// price that was computed for another grid, or in cents by mistake, is refused and not moved across
/// the market.
///
/// # Errors
///
/// [`SnapError`]: there is no such price, it is too far away, or the side is not known.
///
/// # Examples
///
/// ```
/// use kalshi_types::{BookSide, Dollars, PriceGrid, PriceRange};
/// use kalshi_trade::tick::{SnapError, snap};
///
/// let cents = PriceRange { start: Dollars::ZERO, end: Dollars::ONE, step: Dollars::CENT };
/// let grid = PriceGrid::new([cents])?;
/// let price: Dollars = "0.5678".parse()?;
/// assert_eq!(snap(&grid, BookSide::Bid, price, Dollars::CENT)?, "0.56".parse()?);
/// assert_eq!(snap(&grid, BookSide::Ask, price, Dollars::CENT)?, "0.57".parse()?);
///
/// // 56 cents, written as dollars by mistake: the nearest bid is 0.99, and far away.
/// let mistake = snap(&grid, BookSide::Bid, "56".parse()?, Dollars::CENT);
/// assert!(matches!(mistake, Err(SnapError::TooFar { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn snap(
    grid: &PriceGrid,
    side: BookSide,
    price: Dollars,
    limit: Dollars,
) -> Result<Dollars, SnapError> {
    let snapped = match &side {
        BookSide::Bid => grid.snap_down(price),
        BookSide::Ask => grid.snap_up(price),
        other => return Err(SnapError::UnknownSide(other.to_string())),
    };
    let Some(snapped) = snapped else {
        let (lowest, highest) = (grid.lowest(), grid.highest());
        return Err(SnapError::NoPrice { side, price, lowest, highest });
    };
    match snapped.checked_sub(price).and_then(Dollars::checked_abs) {
        Some(distance) if distance <= limit => Ok(snapped),
        _ => Err(SnapError::TooFar { price, snapped, limit }),
    }
}

#[cfg(test)]
mod tests {
    use kalshi_types::PriceRange;
    use proptest::prelude::*;

    use super::*;

    fn dollars(text: &str) -> Dollars {
        text.parse().unwrap()
    }

    fn tapered() -> PriceGrid {
        let range = |start, end, step| PriceRange {
            start: dollars(start),
            end: dollars(end),
            step: dollars(step),
        };
        PriceGrid::new([
            range("0", "0.10", "0.001"),
            range("0.10", "0.90", "0.01"),
            range("0.90", "1", "0.001"),
        ])
        .unwrap()
    }

    #[test]
    fn a_side_that_is_not_known_is_refused() {
        let error = snap(&tapered(), BookSide::from("middle"), dollars("0.5"), Dollars::CENT);
        assert_eq!(error.unwrap_err().to_string(), "the side \"middle\" is neither bid nor ask");
    }

    #[test]
    fn a_price_without_a_neighbor_names_the_ends() {
        let bid = snap(&tapered(), BookSide::Bid, Dollars::ZERO, Dollars::CENT).unwrap_err();
        assert_eq!(
            bid.to_string(),
            "no price of the market is at or below a bid of 0.0000 (they go from 0.0010 to 0.9990)"
        );
        let ask = snap(&tapered(), BookSide::Ask, Dollars::ONE, Dollars::CENT).unwrap_err();
        assert_eq!(
            ask.to_string(),
            "no price of the market is at or above an ask of 1.0000 (they go from 0.0010 to 0.9990)"
        );
    }

    #[test]
    fn a_limit_of_zero_lets_valid_prices_through() {
        let grid = tapered();
        let snapped = snap(&grid, BookSide::Bid, dollars("0.56"), Dollars::ZERO);
        assert_eq!(snapped, Ok(dollars("0.56")));
        let error = snap(&grid, BookSide::Bid, dollars("0.565"), Dollars::ZERO).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the nearest price for 0.5650 is 0.5600, further away than the 0.0000 that are allowed"
        );
    }

    proptest! {
        /// What comes back is a price of the market, no worse for the order, and within the limit;
        /// what is refused has none there.
        #[test]
        fn snapping_is_safe(micros in any::<i64>(), near in 0_i64..=1_000_000, limit in -5_i64..50_000, bid in any::<bool>()) {
            let grid = tapered();
            let side = if bid { BookSide::Bid } else { BookSide::Ask };
            for micros in [micros, near] {
                let price = Dollars::from_micros(micros);
                let limit = Dollars::from_micros(limit);
                match snap(&grid, side.clone(), price, limit) {
                    Ok(snapped) => {
                        prop_assert!(grid.is_valid(snapped));
                        let moved = if bid { price.checked_sub(snapped) } else { snapped.checked_sub(price) };
                        prop_assert!(moved.is_some_and(|moved| !moved.is_negative() && moved <= limit));
                    }
                    Err(_) if !bid => prop_assert!(
                        grid.ticks_in(price..).next().is_none_or(|above| above.checked_sub(price).is_none_or(|moved| moved > limit))
                    ),
                    Err(_) => prop_assert!(
                        grid.ticks_in(..=price).next_back().is_none_or(|below| price.checked_sub(below).is_none_or(|moved| moved > limit))
                    ),
                }
            }
        }
    }
}
