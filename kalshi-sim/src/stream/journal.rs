//! The journal of the page: the last changes of members' orders and of markets, each with the
//! request that made it and the connections that were told.
//!
//! Orders of others, such as simulated traders, are left out: there are too many, and no test is
//! about them.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::{
    engine::{
        ids::{AccountId, MarketId, OrderId},
        types::{Event, MarketChange},
    },
    lag::Lag,
    state::State,
};

/// The number of entries that are kept.
const MAX_ENTRIES: usize = 10_000;
/// The number of messages of one entry that are kept.
const MAX_SENT: usize = 32;
/// The longest time that reads trail, in milliseconds, and what the steps of random lags add.
const LONGEST: i64 = 61_000;

/// A change of an order or of a market.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Counts from 1.
    pub(crate) number: u64,
    /// The engine's time, in milliseconds.
    pub(crate) at: i64,
    /// The number of the request that made it; `None` if time or the exchange did.
    pub(crate) request: Option<u64>,
    pub(crate) subject: Subject,
    /// The change, in words of the streams.
    pub(crate) change: &'static str,
    /// The numbers of the change, by their names.
    pub(crate) details: Value,
    /// The delay of reads that was set.
    lag: Lag,
    pub(crate) sent: Vec<Sent>,
    /// The messages beyond those that are kept.
    pub(crate) more_sent: usize,
}

/// The thing that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Order(AccountId, OrderId),
    Market(MarketId),
}

/// A message to one connection about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) connection: u64,
    pub(crate) account: AccountId,
    pub(crate) sid: u64,
    /// The channel of the subscription.
    pub(crate) channel: &'static str,
    /// The number that the subscription had then.
    pub(crate) seq: u64,
}

impl Entry {
    /// Returns the time at which everything up to the change is readable, in milliseconds; `None`
    /// for markets, which do not trail.
    pub(crate) fn readable_at(&self) -> Option<i64> {
        if matches!(self.subject, Subject::Market(_)) {
            return None;
        }
        let is_readable =
            |now: i64| self.lag.readable(now).is_none_or(|readable| readable >= self.at);
        // It never goes back as time goes on: the first moment is found by halves.
        let (mut early, mut late) = (self.at, self.at.saturating_add(LONGEST));
        while early < late {
            let middle = early + (late - early) / 2;
            if is_readable(middle) {
                late = middle;
            } else {
                early = middle + 1;
            }
        }
        Some(late)
    }
}

/// The last changes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Entry>,
    last: u64,
    /// The request that is carried out, and the number of events before it.
    cause: Option<(u64, usize)>,
    /// The entry of each event that is being published; 0 for those without one.
    numbers: Vec<u64>,
    /// The place of the next one of them.
    next: usize,
}

impl Journal {
    /// Notes that what happens from now on, after `events` events, is done by a request.
    pub(crate) fn begin_request(&mut self, request: u64, events: usize) {
        self.cause = Some((request, events));
    }

    /// Adds the events that are about to be published.
    pub(crate) fn add(&mut self, events: &[Event], state: &State, lag: Lag) {
        let cause = self.cause.take();
        self.numbers.clear();
        for (place, event) in events.iter().enumerate() {
            let request = cause.filter(|(_, before)| place >= *before).map(|(request, _)| request);
            let number = match noted(event, state) {
                Some((subject, change, details)) => {
                    self.push(state, request, subject, change, details, lag)
                }
                None => 0,
            };
            self.numbers.push(number);
        }
    }

    fn push(
        &mut self,
        state: &State,
        request: Option<u64>,
        subject: Subject,
        change: &'static str,
        details: Value,
        lag: Lag,
    ) -> u64 {
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.last += 1;
        self.entries.push_back(Entry {
            number: self.last,
            at: state.engine.now().as_millis(),
            request,
            subject,
            change,
            details,
            lag,
            sent: Vec::new(),
            more_sent: 0,
        });
        self.last
    }

    /// Begins again with the first of the events that were added last, for another connection.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Notes the messages about the next of the events that were added last.
    pub(crate) fn next_event(&mut self, messages: impl Iterator<Item = Sent>) {
        let number = self.numbers.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        if number != 0 {
            messages.for_each(|message| self.sent(number, message));
        }
    }

    fn sent(&mut self, number: u64, message: Sent) {
        let first = self.entries.front().map_or(0, |entry| entry.number);
        let place = number.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) else { return };
        if entry.sent.len() < MAX_SENT {
            entry.sent.push(message);
        } else {
            entry.more_sent += 1;
        }
    }

    /// Returns the entries that are kept, oldest first.
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// Returns what is noted of an event.
fn noted(event: &Event, state: &State) -> Option<(Subject, &'static str, Value)> {
    let of_order = |account: AccountId, order: OrderId| {
        state.members().contains(&account).then_some(Subject::Order(account, order))
    };
    match *event {
        Event::Order { account, order, reason } => {
            let subject = of_order(account, order)?;
            let order = state.engine.order(order)?;
            let change = match reason.as_str() {
                "" => order.status.as_str(),
                reason => reason,
            };
            let details = json!({
                "status": order.status.as_str(),
                "filled": order.filled,
                "remaining": order.remaining,
            });
            Some((subject, change, details))
        }
        Event::Fill { account, fill } => {
            let fills = &state.engine.ledger.account(account)?.fills;
            let fill = fills.get(fill)?;
            let subject = of_order(account, fill.order)?;
            let details = json!({
                "price": fill.price,
                "count": fill.count,
                "taker": fill.taker,
                "fee": fill.fee,
            });
            Some((subject, "fill", details))
        }
        Event::Level { order, side, price, delta, .. } => {
            let subject = of_order(state.engine.order(order)?.account, order)?;
            let details = json!({"side": side.as_str(), "price": price, "delta": delta});
            Some((subject, "level", details))
        }
        Event::Market { market, change } => {
            Some((Subject::Market(market), named(change), Value::Null))
        }
        _ => None,
    }
}

/// Returns the word of the streams for a change of a market.
fn named(change: MarketChange) -> &'static str {
    match change {
        MarketChange::Created => "created",
        MarketChange::Activated => "activated",
        MarketChange::Deactivated => "deactivated",
        MarketChange::CloseDateUpdated => "close_date_updated",
        MarketChange::Determined => "determined",
        MarketChange::Settled => "settled",
        MarketChange::PriceLevelStructureUpdated => "price_level_structure_updated",
        MarketChange::MetadataUpdated => "metadata_updated",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock, engine::types::Side, state::Start};

    fn state(traders: usize) -> State {
        let at = clock::at(&kalshi_auth::ManualClock::at(kalshi_types::UnixMillis::from_millis(
            1_790_000_000_000,
        )));
        let mut state = State::new(Start { traders, ..Start::new(3, at) });
        state.engine.take_events();
        state
    }

    fn place(state: &mut State) -> Vec<Event> {
        let ticker = state.engine.markets().iter().find(|m| m.prices().ask.is_some()).unwrap();
        let ticker = ticker.ticker.clone();
        let new = crate::engine::types::NewOrder::resting(
            state.first_account,
            ticker,
            Side::Bid,
            "0.0100".parse().unwrap(),
            "5.00".parse().unwrap(),
        );
        let now = state.engine.now();
        state.engine.place_order(&new, now).unwrap();
        state.engine.take_events()
    }

    #[test]
    fn an_order_is_noted_with_its_request_and_those_who_were_told() {
        let mut state = state(0);
        let mut journal = Journal::default();
        let events = place(&mut state);
        journal.begin_request(7, 0);
        journal.add(&events, &state, Lag::none());
        let account = state.first_account;
        let message = Sent { connection: 1, account, sid: 2, channel: "user_orders", seq: 0 };
        for _ in 0..MAX_SENT + 3 {
            journal.rewind();
            for event in &events {
                let is_told = matches!(event, Event::Order { .. });
                journal.next_event(is_told.then_some(message).into_iter());
            }
        }
        // After the last one there is nothing to note.
        journal.next_event([message].into_iter());
        let entry = journal.entries().find(|entry| entry.change == "resting").unwrap();
        assert_eq!((entry.request, entry.sent.len(), entry.more_sent), (Some(7), MAX_SENT, 3));
        assert_eq!(entry.details["remaining"], "5.00");
        assert_eq!(entry.readable_at(), Some(entry.at));
        // The next ones were made by no request.
        let events = place(&mut state);
        journal.add(&events, &state, Lag::none().with_reads(Duration::from_millis(300)));
        let entry = journal.entries().next_back().unwrap();
        assert_eq!((entry.request, entry.readable_at()), (None, Some(entry.at + 300)));
    }

    #[test]
    fn a_random_lag_is_over_at_the_first_moment_at_which_reads_show_the_change() {
        let mut state = state(0);
        let lag = Lag::none().with_reads(Duration::from_millis(20)..=Duration::from_millis(700));
        let mut journal = Journal::default();
        let events = place(&mut state);
        journal.add(&events, &state, lag);
        let entry = journal.entries().next().unwrap();
        let readable = entry.readable_at().unwrap();
        assert!(lag.readable(readable).unwrap() >= entry.at);
        assert!(lag.readable(readable - 1).unwrap() < entry.at);
    }

    #[test]
    fn traders_are_left_out_and_no_more_is_kept_than_the_limit() {
        let mut state = state(4);
        let mut journal = Journal::default();
        let now = state.engine.now();
        assert!(state.run_traders(2_000, now) > 500);
        let events = state.engine.take_events();
        journal.add(&events, &state, Lag::none());
        assert_eq!(journal.entries().count(), 0);
        for _ in 0..MAX_ENTRIES {
            let market = state.engine.markets()[0].id;
            let event = Event::Market { market, change: MarketChange::Settled };
            journal.add(&[event.clone(), event], &state, Lag::none());
        }
        assert_eq!(journal.entries().count(), MAX_ENTRIES);
        assert_eq!(journal.entries().next_back().unwrap().number, 2 * MAX_ENTRIES as u64);
    }
}
