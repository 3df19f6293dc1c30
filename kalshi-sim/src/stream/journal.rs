//! The journal of the page: the last changes of members' orders and of markets, each with the
//! request that made it and the connections that were told; and the last changes of all books, from
//! which their past is worked out. Nothing is written down while it is off.
//!
//! Orders of others, such as simulated traders, are left out: there are too many, and no test is
//! about them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
};

use kalshi_types::{Count, Dollars};
use serde_json::{Value, json};

use crate::{
    engine::{
        Market,
        amount::SaturatingArithmetic as _,
        ids::{AccountId, MarketId, OrderId, TradeId},
        types::{Event, MarketChange, MarketStatus, Side, Trade},
    },
    lag::Lag,
    state::State,
};

/// The number of entries that are kept.
const MAX_ENTRIES: usize = 10_000;
/// The number of changes of books, and of trades, that are kept.
const MAX_CHANGES: usize = 50_000;
/// The number of trades from before them, and of books that have not changed, in the past.
const MAX_EARLIER: usize = 10_000;
const MAX_STILL: usize = 240;
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

/// A change of a book, or a trade.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Level { market: MarketId, side: Side, price: Dollars, delta: Count },
    Trade(TradeId),
}

/// The past of books: trades from before, how the books were when the first of the changes came, and
/// the changes.
#[derive(Debug)]
pub(crate) struct Past {
    /// The time of the first change.
    start: i64,
    earlier: Vec<(i64, Line)>,
    books: BTreeMap<String, BTreeMap<(Side, Dollars), Count>>,
    lines: Vec<(i64, Line)>,
}

/// A change with its ticker.
#[derive(Debug)]
enum Line {
    Level { ticker: String, side: Side, price: Dollars, delta: Count },
    Trade { ticker: String, price: Dollars, count: Count, taker: Side },
}

/// The last changes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Entry>,
    last: u64,
    is_on: bool,
    /// The changes of books and the trades, oldest first, with their times.
    changes: VecDeque<(i64, Change)>,
    /// The request that does what happens after a number of events; `None` for what no request does.
    causes: Vec<(usize, Option<u64>)>,
    /// The entry of each event that is being published; 0 for those without one.
    numbers: Vec<u64>,
    /// The place of the next one of them.
    next: usize,
}

impl Journal {
    /// Begins to write down what happens.
    pub(crate) fn start(&mut self) {
        self.is_on = true;
    }

    /// Notes who does what happens from now on, after `events` events: a request, or none.
    pub(crate) fn note_cause(&mut self, request: Option<u64>, events: usize) {
        if self.is_on {
            self.causes.push((events, request));
        }
    }

    /// Adds the events that are about to be published.
    pub(crate) fn add<'a>(
        &mut self,
        events: impl Iterator<Item = &'a Event>,
        state: &State,
        lag: Lag,
    ) {
        self.numbers.clear();
        if !self.is_on {
            return;
        }
        let causes = std::mem::take(&mut self.causes);
        for (place, event) in events.enumerate() {
            self.add_change(event, state.engine.now().as_millis());
            let request = causes.iter().rev().find(|(before, _)| place >= *before);
            let request = request.and_then(|(_, request)| *request);
            let number = match noted(event, state) {
                Some((subject, change, details)) => {
                    self.push(state, request, subject, change, details, lag)
                }
                None => 0,
            };
            self.numbers.push(number);
        }
    }

    fn add_change(&mut self, event: &Event, at: i64) {
        let change = match *event {
            Event::Level { market, side, price, delta, .. } => {
                Change::Level { market, side, price, delta }
            }
            Event::Trade { trade } => Change::Trade(trade),
            _ => return,
        };
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back((at, change));
    }

    /// Returns the past of all books, as far as it is kept. The state must be the one after the last
    /// change.
    pub(crate) fn past(&self, state: &State) -> Past {
        let ticker = |id| state.engine.market(id).map(|market| market.ticker.clone());
        let levels = |market: &Market| {
            let sides = [Side::Bid, Side::Ask].into_iter();
            let levels = sides.flat_map(|side| market.levels(side).map(move |one| (side, one)));
            levels.map(|(side, level)| ((side, level.price), level.count)).collect()
        };
        let open = state.engine.markets().iter().filter(|one| one.status == MarketStatus::Active);
        let mut books: BTreeMap<String, BTreeMap<(Side, Dollars), Count>> =
            open.take(MAX_STILL).map(|market| (market.ticker.clone(), levels(market))).collect();
        let traded = |trade: &Trade| {
            let (price, count, taker) = (trade.price, trade.count, trade.taker_side);
            Some(Line::Trade { ticker: ticker(trade.market)?, price, count, taker })
        };
        let mut lines = Vec::with_capacity(self.changes.len());
        for (at, change) in &self.changes {
            let line = match *change {
                Change::Level { market, side, price, delta } => {
                    let Some(ticker) = ticker(market) else { continue };
                    // What the levels have now, less what came: what they had.
                    let book = books.entry(ticker.clone()).or_insert_with(|| {
                        state.engine.market(market).map(levels).unwrap_or_default()
                    });
                    let level = book.entry((side, price)).or_default();
                    *level = level.saturating_sub(delta);
                    Line::Level { ticker, side, price, delta }
                }
                Change::Trade(id) => {
                    let Some(line) = state.engine.trade(id).and_then(traded) else { continue };
                    line
                }
            };
            lines.push((*at, line));
        }
        // All trades are kept by the engine; those that are no change here came before.
        let first = self.changes.iter().find_map(|(_, change)| match change {
            Change::Trade(id) => Some(*id),
            Change::Level { .. } => None,
        });
        let all = state.engine.trades().iter().rev();
        let before = all.skip_while(|trade| first.is_some_and(|first| trade.id >= first));
        let mut earlier: Vec<(i64, Line)> = before
            .take(MAX_EARLIER)
            .filter_map(|trade| Some((trade.at.as_millis(), traded(trade)?)))
            .collect();
        earlier.reverse();
        let start = lines.first().map_or(state.engine.now().as_millis(), |(at, _)| *at);
        Past { start, earlier, books, lines }
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

impl Past {
    /// Writes it in the form of a recording of streams, one line for each change.
    pub(crate) fn write(&self) -> String {
        let start = self.earlier.first().map_or(self.start, |(at, _)| *at);
        let mut text = String::new();
        let mut line = |at: i64, rest: &Value| {
            let mut line = json!({"at": at});
            if let (Value::Object(line), Value::Object(rest)) = (&mut line, rest.clone()) {
                line.extend(rest);
            }
            // Writing into memory cannot fail.
            let _ = writeln!(text, "{line}");
        };
        line(start, &json!({"header": {"version": 1, "prices": "yes", "started": start}}));
        for (at, change) in &self.earlier {
            line(*at, &change.frame());
        }
        for (ticker, book) in &self.books {
            let side = |wanted: Side| -> Vec<[String; 2]> {
                let levels =
                    book.iter().filter(|((side, _), count)| *side == wanted && !count.is_zero());
                levels.map(|((_, price), count)| [price.to_string(), count.to_string()]).collect()
            };
            let (yes, no) = (side(Side::Bid), side(Side::Ask));
            let msg = json!({"market_ticker": ticker, "yes_dollars_fp": yes, "no_dollars_fp": no});
            line(self.start, &frame("orderbook_snapshot", &msg));
        }
        for (at, change) in &self.lines {
            line(*at, &change.frame());
        }
        text
    }
}

impl Line {
    /// Returns the change as a message of the streams, in the field of a recording.
    fn frame(&self) -> Value {
        match self {
            Self::Level { ticker, side, price, delta } => {
                let side = side.outcome();
                let msg = json!({"market_ticker": ticker, "side": side, "price_dollars": price, "delta_fp": delta});
                frame("orderbook_delta", &msg)
            }
            Self::Trade { ticker, price, count, taker } => {
                let taker = taker.outcome();
                let msg = json!({"market_ticker": ticker, "yes_price_dollars": price, "count_fp": count, "taker_side": taker});
                frame("trade", &msg)
            }
        }
    }
}

/// Returns a received frame of a recording.
fn frame(kind: &str, msg: &Value) -> Value {
    json!({"in": json!({"type": kind, "msg": msg}).to_string()})
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

    fn started() -> Journal {
        let mut journal = Journal::default();
        journal.start();
        journal
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
        let mut journal = started();
        let events = place(&mut state);
        journal.note_cause(Some(7), 0);
        journal.add(events.iter(), &state, Lag::none());
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
        journal.add(events.iter(), &state, Lag::none().with_reads(Duration::from_millis(300)));
        let entry = journal.entries().next_back().unwrap();
        assert_eq!((entry.request, entry.readable_at()), (None, Some(entry.at + 300)));
    }

    #[test]
    fn a_random_lag_is_over_at_the_first_moment_at_which_reads_show_the_change() {
        let mut state = state(0);
        let lag = Lag::none().with_reads(Duration::from_millis(20)..=Duration::from_millis(700));
        let mut journal = started();
        let events = place(&mut state);
        journal.add(events.iter(), &state, lag);
        let entry = journal.entries().next().unwrap();
        let readable = entry.readable_at().unwrap();
        assert!(lag.readable(readable).unwrap() >= entry.at);
        assert!(lag.readable(readable - 1).unwrap() < entry.at);
    }

    #[test]
    fn traders_are_left_out_and_no_more_is_kept_than_the_limit() {
        let mut state = state(4);
        let mut journal = started();
        let now = state.engine.now();
        assert!(state.run_traders(2_000, now) > 500);
        let events = state.engine.take_events();
        journal.add(events.iter(), &state, Lag::none());
        assert_eq!(journal.entries().count(), 0);
        for _ in 0..MAX_ENTRIES {
            let market = state.engine.markets()[0].id;
            let event = Event::Market { market, change: MarketChange::Settled };
            journal.add([event.clone(), event].iter(), &state, Lag::none());
        }
        assert_eq!(journal.entries().count(), MAX_ENTRIES);
        assert_eq!(journal.entries().next_back().unwrap().number, 2 * MAX_ENTRIES as u64);
    }

    #[test]
    fn what_was_carried_out_for_different_requests_is_told_apart() {
        let mut state = state(0);
        let mut journal = started();
        let mut events = place(&mut state);
        let (first, more) = (events.len(), place(&mut state));
        events.extend(more);
        let second = events.len();
        events.extend(place(&mut state));
        journal.note_cause(Some(3), 0);
        journal.note_cause(None, first);
        journal.note_cause(Some(9), second);
        journal.add(events.iter(), &state, Lag::none());
        let mut requests: Vec<_> = journal.entries().map(|entry| entry.request).collect();
        requests.dedup();
        assert_eq!(requests, [Some(3), None, Some(9)]);
        // While it is off, nothing is written down.
        let mut off = Journal::default();
        off.note_cause(Some(1), 0);
        off.add(events.iter(), &state, Lag::none());
        assert_eq!((off.entries().count(), off.past(&state).lines.len()), (0, 0));
    }

    #[test]
    fn the_past_of_a_book_leads_to_the_book_of_now() {
        let mut state = state(8);
        let mut journal = started();
        let before = books(&state);
        let now = state.engine.now();
        state.run_traders(3_000, now);
        let events = state.engine.take_events();
        journal.add(events.iter(), &state, Lag::none());
        let past = journal.past(&state);
        assert!(past.lines.len() > 500);
        let mut moved = past.books.clone();
        for book in moved.values_mut() {
            book.retain(|_, count| !count.is_zero());
        }
        for (ticker, book) in &moved {
            let levels: Vec<_> = book.iter().map(|(key, count)| (*key, *count)).collect();
            assert_eq!(levels, before[ticker], "{ticker} as it was");
        }
        for (_, line) in &past.lines {
            if let Line::Level { ticker, side, price, delta } = line {
                let level = moved.get_mut(ticker).unwrap().entry((*side, *price)).or_default();
                *level = level.saturating_add(*delta);
            }
        }
        let after = books(&state);
        for (ticker, mut book) in moved {
            book.retain(|_, count| !count.is_zero());
            assert_eq!(book.into_iter().collect::<Vec<_>>(), after[&ticker], "{ticker} as it is");
        }
        let text = past.write();
        let lines = past.earlier.len() + past.books.len() + past.lines.len();
        assert_eq!(text.lines().count(), 1 + lines);
        assert!(past.earlier.len() > 10, "trades from before");
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }

    type Levels = Vec<((Side, Dollars), Count)>;

    /// Returns the levels of all books.
    fn books(state: &State) -> BTreeMap<String, Levels> {
        let book = |market: &Market| {
            let mut levels: Levels = [Side::Bid, Side::Ask]
                .into_iter()
                .flat_map(|side| market.levels(side).map(move |one| ((side, one.price), one.count)))
                .collect();
            levels.sort_unstable();
            (market.ticker.clone(), levels)
        };
        state.engine.markets().iter().map(book).collect()
    }
}
