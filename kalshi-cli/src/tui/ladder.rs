//! The rows of the ladder: which prices are shown, and which of them a click hits. Pure.

use kalshi_sdk::{Dollars, PriceLevel, types::BookSide};

use super::state::{MarketView, State};

/// A row, from the highest price to the lowest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Level(PriceLevel, BookSide),
    /// The price under the cursor, where nothing rests.
    Empty(Dollars),
    Spread,
}

impl Row {
    /// Returns the YES price of the row.
    pub(crate) fn price(&self) -> Option<Dollars> {
        match self {
            Self::Level(level, _) => Some(level.price),
            Self::Empty(price) => Some(*price),
            Self::Spread => None,
        }
    }
}

/// Returns the rows that are shown in a space of a height, with their places in it.
pub(crate) fn rows(state: &State, market: &MarketView, height: u16) -> Vec<(u16, Row)> {
    let cursor = state.trade.as_ref().and_then(|trade| trade.cursor(market));
    let mut rows: Vec<Row> =
        market.asks.iter().rev().map(|level| Row::Level(*level, BookSide::Ask)).collect();
    let mut middle = rows.len();
    rows.push(Row::Spread);
    rows.extend(market.bids.iter().map(|level| Row::Level(*level, BookSide::Bid)));
    let at = cursor.map(|cursor| {
        if let Some(at) = rows.iter().position(|row| row.price() == Some(cursor)) {
            return at;
        }
        let is_below = |row: &Row| row.price().is_some_and(|price| price < cursor);
        let mut at = rows.iter().position(is_below).unwrap_or(rows.len());
        // Within the spread: above its line.
        if at == middle + 1 {
            at = middle;
        }
        middle += usize::from(at <= middle);
        rows.insert(at, Row::Empty(cursor));
        at
    });
    let signed = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let (window, total) = (i64::from(height), signed(rows.len()));
    // The spread is in the middle where there are levels on both sides for that.
    let centered = signed(middle) - window / 2;
    let scrolled = centered - i64::from(state.scroll);
    let mut start = scrolled.clamp((1 - window).min(0).max(centered - total), total - 1);
    if let Some(at) = at.map(signed) {
        start = start.min(at).max(at - window + 1);
    }
    (0..height)
        .filter_map(|row| {
            let at = usize::try_from(start + i64::from(row)).ok()?;
            Some((row, rows.get(at)?.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::{state::Money, trade::Trade};

    fn state(cursor: &str) -> State {
        let mut state = State::new("demo".to_owned(), Money::Mock, true);
        let level = |cents: i64| {
            let price = Dollars::from_micros(cents * 10_000);
            PriceLevel::from((price, "1".parse().unwrap()))
        };
        state.markets.push(MarketView {
            bids: (0..40).map(|n| level(50 - n)).collect(),
            asks: (0..40).map(|n| level(55 + n)).collect(),
            ..MarketView::default()
        });
        let mut trade = Trade::new(false, "1".parse().unwrap());
        trade.moved_to = Some(cursor.parse().unwrap());
        state.trade = Some(trade);
        state
    }

    #[test]
    fn the_price_under_the_cursor_is_always_among_the_rows_and_they_are_in_order() {
        for cents in 1..100 {
            let cursor = Dollars::from_micros(cents * 10_000);
            for height in [1, 2, 5, 24] {
                let state = state(&cursor.to_string());
                let rows = rows(&state, &state.markets[0], height);
                let prices: Vec<Dollars> = rows.iter().filter_map(|(_, row)| row.price()).collect();
                assert!(prices.contains(&cursor), "{cursor} of {height}: {rows:?}");
                assert!(prices.is_sorted_by(|a, b| a > b), "{rows:?}");
            }
        }
    }

    #[test]
    fn a_price_within_the_spread_is_a_row_of_its_own() {
        let state = state("0.52");
        let rows = rows(&state, &state.markets[0], 5);
        let shown: Vec<String> = rows
            .iter()
            .map(|(_, row)| row.price().map_or("spread".to_owned(), |price| price.to_string()))
            .collect();
        assert_eq!(shown, ["0.5500", "0.5200", "spread", "0.5000", "0.4900"]);
    }
}
