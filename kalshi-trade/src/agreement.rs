//! Compares the positions that are shown with what the known fills add up to. Pure.
//!
//! The channels of the account do not count their messages: a fill that is lost in silence shows only
//! in the position, which has it.

use std::{collections::HashMap, time::Duration};

use kalshi_types::{BookSide, Count, UnixMillis};
use kalshi_ws::{FillRecord, PositionRecord};

/// The time for which the two may differ: their messages come by two channels.
const GRACE: Duration = Duration::from_secs(1);

/// A market and a subaccount.
type Key = (String, Option<i64>);

#[derive(Debug, Default)]
pub(crate) struct Agreement(HashMap<Key, Sums>);

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// The position that was read, and the fills since.
    expected: Count,
    /// The position of the last message about it.
    shown: Option<Count>,
    /// The time since which they differ.
    since: Option<UnixMillis>,
}

impl Sums {
    fn compare(&mut self, now: UnixMillis) {
        let differs = self.shown.is_some_and(|shown| shown != self.expected);
        self.since = differs.then(|| self.since.unwrap_or(now));
    }
}

impl Agreement {
    /// Begins anew with the positions of a complete read.
    pub(crate) fn read<'a>(&mut self, positions: impl IntoIterator<Item = &'a PositionRecord>) {
        self.0.clear();
        for position in positions {
            self.of(&position.market_ticker, position.subaccount).expected = position.count;
        }
    }

    /// Takes in a fill that was not known before.
    pub(crate) fn fill(&mut self, now: UnixMillis, fill: &FillRecord) {
        let sums = self.of(&fill.market_ticker, fill.subaccount);
        let sum = match fill.book_side {
            BookSide::Bid => sums.expected.checked_add(fill.count),
            _ => sums.expected.checked_sub(fill.count),
        };
        sums.expected = sum.unwrap_or(sums.expected);
        sums.compare(now);
    }

    /// Takes in a message about a position.
    pub(crate) fn position(&mut self, now: UnixMillis, position: &PositionRecord) {
        let sums = self.of(&position.market_ticker, position.subaccount);
        sums.shown = Some(position.count);
        sums.compare(now);
    }

    /// Reports whether something was missed: then the account is to be read. It says so once.
    pub(crate) fn is_broken(&mut self, now: UnixMillis) -> bool {
        let mut is_broken = false;
        for sums in self.0.values_mut() {
            if sums.since.is_some_and(|since| now >= since.saturating_add(GRACE)) {
                is_broken = true;
                (sums.since, sums.shown) = (None, None);
            }
        }
        is_broken
    }

    /// Takes in that the clock was set back: what differs does so from now on.
    pub(crate) fn set_back(&mut self, now: UnixMillis) {
        for sums in self.0.values_mut() {
            sums.since = sums.since.map(|since| since.min(now));
        }
    }

    /// Returns the time at which [`is_broken`](Self::is_broken) may have something to say.
    pub(crate) fn next_at(&self) -> Option<UnixMillis> {
        let since = self.0.values().filter_map(|sums| sums.since).min();
        since.map(|since| since.saturating_add(GRACE))
    }

    fn of(&mut self, ticker: &str, subaccount: Option<i64>) -> &mut Sums {
        let subaccount = subaccount.filter(|number| *number != 0);
        self.0.entry((ticker.to_owned(), subaccount)).or_default()
    }
}

#[cfg(test)]
mod tests {
    use kalshi_types::Dollars;
    use kalshi_ws::types::MarketSide;

    use super::*;

    fn at(ms: i64) -> UnixMillis {
        UnixMillis::from_millis(ms)
    }

    fn fill(book_side: BookSide, count: &str) -> FillRecord {
        FillRecord {
            trade_id: "t".to_owned(),
            order_id: "1".to_owned(),
            client_order_id: None,
            market_ticker: "M".to_owned(),
            subaccount: None,
            outcome_side: MarketSide::Yes,
            book_side,
            yes_price: Dollars::from_cents(50).unwrap(),
            count: count.parse().unwrap(),
            fee: Dollars::ZERO,
            is_taker: true,
            ts_ms: None,
            position_after: None,
        }
    }

    fn position(count: &str, subaccount: Option<i64>) -> PositionRecord {
        PositionRecord {
            market_ticker: "M".to_owned(),
            subaccount,
            count: count.parse().unwrap(),
            cost: None,
            realized_pnl: None,
            fees: None,
        }
    }

    #[test]
    fn fills_and_positions_in_any_order_agree_in_the_end() {
        let mut agreement = Agreement::default();
        agreement.read(&[position("5", None)]);
        agreement.position(at(0), &position("7", Some(0)));
        assert_eq!(agreement.next_at(), Some(at(1_000)));
        agreement.fill(at(900), &fill(BookSide::Bid, "2"));
        assert_eq!(agreement.next_at(), None);
        agreement.fill(at(950), &fill(BookSide::Ask, "10"));
        agreement.position(at(960), &position("-3", None));
        assert!(agreement.next_at().is_none() && !agreement.is_broken(at(100_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_puts_off_no_loss() {
        let mut agreement = Agreement::default();
        agreement.position(at(3_600_000), &position("3", None));
        agreement.set_back(at(0));
        assert_eq!(agreement.next_at(), Some(at(1_000)));
        assert!(agreement.is_broken(at(1_000)));
    }

    #[test]
    fn a_position_that_the_fills_do_not_add_up_to_is_a_loss_and_said_once() {
        let mut agreement = Agreement::default();
        agreement.fill(at(0), &fill(BookSide::Bid, "1"));
        agreement.position(at(0), &position("3", None));
        // The same again does not put it off; another subaccount is another position.
        agreement.position(at(500), &position("3", None));
        agreement.position(at(500), &position("9", Some(4)));
        assert!(!agreement.is_broken(at(999)));
        assert!(agreement.is_broken(at(1_000)));
        assert!(!agreement.is_broken(at(1_000)));
        assert!(agreement.is_broken(at(1_500)), "that of the other");
        assert_eq!(agreement.next_at(), None);
        // What was read is where it goes on.
        agreement.read(&[position("3", None)]);
        agreement.fill(at(2_000), &fill(BookSide::Ask, "3"));
        agreement.position(at(2_000), &position("0", None));
        assert_eq!(agreement.next_at(), None);
    }
}
