//! The order books of a connection: which may be read, and which may not.
//!
//! Pure: fed with the events of a connection. A book can be read only while everything that the
//! exchange sent for it is known to have arrived, and while no bid is at or above an ask. On a gap,
//! a lost connection or a slow consumer all books are void at once, until each has a new snapshot.
//! The numbers of snapshots and deltas come from one counter, and the events are in order: what came
//! before a snapshot is in it, so nothing has to be kept while a book is void.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use kalshi_types::UnixMillis;

use super::order_book::BookError;
use crate::{
    event::{Event, Refusal},
    product::{BookPart, BookShape as _, EventContracts, LevelChange, Product, WholeBook},
    protocol::{frame::MAX_MARKETS, message::Market},
};

/// Requests a new snapshot of a market, and returns whether the request was taken.
type Resync = Box<dyn FnMut(&str) -> bool + Send + Sync>;

/// The order books of one connection.
///
/// # Examples
///
/// ```
/// use kalshi_types::UnixMillis;
/// use kalshi_ws::{BookState, Books, PriceConvention, Replay};
///
/// let mut replay = Replay::new(PriceConvention::Yes);
/// let mut books = Books::new();
/// for frame in [
///     r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
///     r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","yes_dollars_fp":[["0.40","10.00"]]}}"#,
/// ] {
///     replay.frame(frame, UnixMillis::EPOCH, |event| {
///         books.apply(&event);
///     });
/// }
/// assert_eq!(books.state("A"), BookState::Valid);
/// assert_eq!(books.state("B"), BookState::Absent);
/// ```
pub struct Books<P: Product = EventContracts> {
    entries: Vec<Entry<P>>,
    by_ticker: HashMap<Arc<str>, usize, RandomState>,
    /// The entries of the decoder's markets: faster than by ticker, and to be checked.
    by_slot: Vec<u32>,
    /// Entries that are not in use.
    free: Vec<usize>,
    /// A book is valid if its own epoch is the same: all become void in one step.
    epoch: u64,
    resync: Option<Resync>,
    /// Corrupt books whose snapshots are still to be requested.
    unasked: Vec<Arc<str>>,
}

/// Two cache lines, and with the levels that change all that a delta needs of its market.
#[repr(align(64))]
struct Entry<P: Product> {
    /// The market as the last delta named it, or the ticker alone.
    market: Market,
    book: P::OrderBook,
    epoch: u64,
    updated: Option<UnixMillis>,
    clock: Option<i64>,
}

/// The effect of an event on the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BookChange {
    /// Nothing: the event is not about books, or the book waits for its snapshot.
    None,
    /// A book has a new snapshot and can be read.
    Replaced,
    /// A level of a book changed.
    Updated,
    /// All books are void, or those that the event names.
    Voided,
    /// Some books are gone.
    Removed,
    /// The book of this message contradicted it, and is void.
    Corrupt(BookError),
}

/// The state of a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BookState {
    /// Nothing of this market has come.
    Absent,
    /// It waits for a snapshot, and cannot be read.
    Void,
    /// A bid is at or above an ask, and it cannot be read: a change that is made of several messages
    /// is under way. If it lasts longer than that, the book is void.
    Crossed,
    /// It is what the exchange has, as of the last event.
    Valid,
}

impl<P: Product> Default for Books<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Product> Books<P> {
    /// Creates an empty collection. A book that turns out to be corrupt stays void until a snapshot
    /// comes by itself; [`Connection::books`](crate::Connection::books) makes books that ask for
    /// one.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            by_ticker: HashMap::default(),
            by_slot: Vec::new(),
            free: Vec::new(),
            epoch: 1,
            resync: None,
            unasked: Vec::new(),
        }
    }

    /// Returns no books, and calls `resync` for a new snapshot of a market whose book is corrupt. It
    /// returns whether the request was taken; if not, it is called again with a later event.
    pub fn with_resync(resync: impl FnMut(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { resync: Some(Box::new(resync)), ..Self::new() }
    }

    /// Applies the next event of the connection.
    #[inline]
    pub fn apply(&mut self, event: &Event<P>) -> BookChange {
        if !self.unasked.is_empty() {
            self.ask();
        }
        match event {
            Event::Message(message) => match P::book_part(&message.payload) {
                BookPart::Delta(delta) => self.delta(&delta),
                BookPart::Snapshot(snapshot) => self.snapshot(&snapshot, message.sent),
                BookPart::Other => BookChange::None,
            },
            other => self.other(other),
        }
    }

    /// Returns the book of a market; `None` unless it is exactly what the exchange has.
    #[inline]
    pub fn get(&self, ticker: &str) -> Option<&P::OrderBook> {
        let entry = self.entry(ticker)?;
        self.is_valid(entry).then_some(&entry.book)
    }

    /// Returns the state of the book of a market.
    pub fn state(&self, ticker: &str) -> BookState {
        match self.entry(ticker) {
            None => BookState::Absent,
            Some(entry) if entry.epoch != self.epoch => BookState::Void,
            Some(entry) if entry.book.is_crossed() => BookState::Crossed,
            Some(_) => BookState::Valid,
        }
    }

    /// Returns the time of the last change to a book that can be read, as the exchange gives it.
    pub fn updated(&self, ticker: &str) -> Option<UnixMillis> {
        self.entry(ticker).filter(|entry| self.is_valid(entry))?.updated
    }

    /// Returns the clock of a book that can be read: the exchange's number of the newest change in
    /// it, 0 when there was none yet. It compares between connections, and not between markets. `None`
    /// when the exchange has sent none.
    pub fn clock(&self, ticker: &str) -> Option<i64> {
        self.entry(ticker).filter(|entry| self.is_valid(entry))?.clock
    }

    /// Returns the books that can be read, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &P::OrderBook)> {
        let valid = self.entries.iter().filter(|entry| self.is_valid(entry));
        valid.map(|entry| (entry.market.ticker(), &entry.book))
    }

    #[inline]
    fn is_valid(&self, entry: &Entry<P>) -> bool {
        entry.epoch == self.epoch && !entry.book.is_crossed()
    }

    /// Makes all books void, until each has a new snapshot.
    pub fn void(&mut self) {
        self.epoch += 1;
    }

    #[inline]
    fn delta(&mut self, delta: &LevelChange<'_>) -> BookChange {
        let at = match self.by_slot.get(delta.market.slot()) {
            Some(at) if self.is_of(*at as usize, delta.market) => *at as usize,
            _ => match self.find(delta.market) {
                Some(at) => at,
                None => return BookChange::None,
            },
        };
        let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.epoch == self.epoch) else {
            return BookChange::None;
        };
        // The messages of one change share their clock, or their time on frames without one.
        let was_crossed = entry.book.is_crossed();
        let is_later = || match delta.clock {
            Some(_) => *delta.clock != entry.clock,
            None => delta.ts_ms.is_none() || *delta.ts_ms != entry.updated,
        };
        let is_late_cross = was_crossed && is_later();
        let applied = match delta.apply_to(&mut entry.book) {
            Ok(()) if is_late_cross => entry.book.check_uncrossed(),
            applied => applied,
        };
        if let Some(updated) = delta.ts_ms {
            entry.updated = Some(*updated);
        }
        if let Some(clock) = delta.clock {
            entry.clock = Some(*clock);
        }
        match applied {
            Ok(()) => BookChange::Updated,
            Err(error) => self.corrupt(at, error),
        }
    }

    #[inline]
    fn is_of(&self, at: usize, market: &Market) -> bool {
        self.entries.get(at).is_some_and(|entry| entry.market.is_same(market))
    }

    /// Finds the place of a market by ticker, and remembers it.
    #[cold]
    fn find(&mut self, market: &Market) -> Option<usize> {
        let at = *self.by_ticker.get(market.ticker())?;
        self.entries.get_mut(at)?.market = market.clone();
        let slot = market.slot();
        if slot < MAX_MARKETS
            && let Ok(at) = u32::try_from(at)
        {
            if self.by_slot.len() <= slot {
                self.by_slot.resize(slot + 1, u32::MAX);
            }
            *self.by_slot.get_mut(slot)? = at;
        }
        Some(at)
    }

    #[inline(never)]
    fn snapshot(&mut self, snapshot: &WholeBook<'_>, sent: Option<UnixMillis>) -> BookChange {
        let at = self.entry_for(snapshot.ticker);
        let Some(entry) = self.entries.get_mut(at) else { return BookChange::None };
        // Void while it is written: a snapshot that is refused leaves nothing to read.
        entry.epoch = 0;
        let replaced = entry.book.replace(snapshot.bids, snapshot.asks);
        match replaced.and_then(|()| entry.book.check_uncrossed()) {
            Ok(()) => {
                entry.epoch = self.epoch;
                entry.updated = sent;
                entry.clock = snapshot.clock;
                BookChange::Replaced
            }
            Err(error) => self.corrupt(at, error),
        }
    }

    /// Returns the place of a market, which is made if there is none.
    fn entry_for(&mut self, ticker: &str) -> usize {
        if let Some(at) = self.by_ticker.get(ticker) {
            return *at;
        }
        let entry = Entry {
            market: Market::new(ticker, "", u32::MAX),
            book: P::OrderBook::default(),
            epoch: 0,
            updated: None,
            clock: None,
        };
        let at = self.free.pop().unwrap_or(self.entries.len());
        match self.entries.get_mut(at) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        self.by_ticker.insert(ticker.into(), at);
        at
    }

    fn entry(&self, ticker: &str) -> Option<&Entry<P>> {
        self.entries.get(*self.by_ticker.get(ticker)?)
    }

    fn remove(&mut self, ticker: &str) {
        if let Some(at) = self.by_ticker.remove(ticker)
            && let Some(entry) = self.entries.get_mut(at)
        {
            entry.epoch = 0;
            // The market may come back in another place: it must not be found here.
            entry.market = Market::new("", "", u32::MAX);
            entry.book = P::OrderBook::default();
            self.free.push(at);
        }
    }

    fn void_these(&mut self, tickers: &[String]) -> BookChange {
        for ticker in tickers {
            if let Some(at) = self.by_ticker.get(ticker.as_str())
                && let Some(entry) = self.entries.get_mut(*at)
            {
                entry.epoch = 0;
            }
        }
        BookChange::Voided
    }

    fn remove_these(&mut self, tickers: &[String]) -> BookChange {
        for ticker in tickers {
            self.remove(ticker);
        }
        self.unasked.retain(|ticker| !tickers.iter().any(|item| **item == **ticker));
        BookChange::Removed
    }

    fn remove_all(&mut self) -> BookChange {
        self.entries.clear();
        self.by_ticker.clear();
        self.by_slot.clear();
        self.free.clear();
        self.unasked.clear();
        BookChange::Removed
    }

    #[cold]
    fn corrupt(&mut self, at: usize, error: BookError) -> BookChange {
        let Some(entry) = self.entries.get_mut(at) else { return BookChange::None };
        entry.epoch = 0;
        entry.book.clear();
        let ticker = entry.market.ticker();
        if self.resync.is_some() && !self.unasked.iter().any(|unasked| **unasked == *ticker) {
            self.unasked.push(ticker.into());
            self.ask();
        }
        BookChange::Corrupt(error)
    }

    fn other(&mut self, event: &Event<P>) -> BookChange {
        let ours = |channel: &P::Channel| P::is_book(channel);
        match event {
            Event::Disconnected { .. } | Event::Closed { .. } => {}
            Event::Gap { channel, .. }
            | Event::Terminated { channel, .. }
            | Event::Lagged { channel: Some(channel), .. }
                if ours(channel) => {}
            Event::Unsubscribed { channel } if ours(channel) => return self.remove_all(),
            // What the exchange refuses, it does not keep up to date.
            Event::Refused { channel, items, reason: Refusal::Server(_) } if ours(channel) => {
                if items.is_empty() {
                    return self.remove_all();
                }
                return self.remove_these(items);
            }
            Event::Removed { channel, items } if ours(channel) => return self.remove_these(items),
            Event::Uncovered { channel, items, .. } if ours(channel) && !items.is_empty() => {
                return self.void_these(items);
            }
            Event::Uncovered { channel, .. } if ours(channel) => {}
            _ => return BookChange::None,
        }
        self.void();
        // Every market gets a new snapshot now.
        self.unasked.clear();
        BookChange::Voided
    }

    #[cold]
    fn ask(&mut self) {
        if let Some(resync) = &mut self.resync {
            self.unasked.retain(|ticker| !resync(ticker));
        }
    }
}

impl<P: Product> std::fmt::Debug for Books<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books")
            .field("books", &self.by_ticker.len())
            .field("valid", &self.iter().count())
            .finish_non_exhaustive()
    }
}
