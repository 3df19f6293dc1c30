//! The lines of a recording as rows of tables. Pure: the same lines give the same rows.
//!
//! Books are those of [`Books`], so that a book can be read in the tables if and only if a connection
//! would have read it. Whatever is missing is a row of the table `gaps`.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{Context, SHA256};
use kalshi_sdk::{
    Count, Dollars, UnixMillis,
    streams::{
        BookChange, BookState, Books, Channel, Delta, DisconnectReason, Event, Message, Payload,
        PriceConvention, Replay, types,
    },
};
use kalshi_ws::recording::{RecordedEvent, RecordedLine, RecordingError, RecordingHeader};

use crate::{
    export::{
        parquet::{Column, Kind, Table, Value},
        rest::{TRADE_COLUMNS, series},
    },
    failure::{Failure, Outcome},
};

/// Flags of a row, which may be added up.
pub(super) mod flags {
    /// It is part of a whole book.
    pub(in crate::export) const SNAPSHOT: i64 = 1;
    /// The book cannot be read: something before it is missing, or contradicts itself.
    pub(in crate::export) const VOID: i64 = 2;
    /// It belongs to no subscription of the recording.
    pub(in crate::export) const UNMATCHED: i64 = 4;
    /// A bid is at or above an ask: a change of several messages is under way.
    pub(in crate::export) const CROSSED: i64 = 8;
    /// The exchange did not send it here: an hour begins with the books that were there.
    pub(in crate::export) const CHECKPOINT: i64 = 16;
}

/// Public trades.
pub(super) static TRADES: Table = Table { name: "trades", columns: TRADE_COLUMNS, is_sorted: true };

/// Every change of a level, and every whole book.
pub(super) static BOOK_DELTAS: Table = Table {
    name: "book_deltas",
    columns: &[
        Column::required("recv_ts", Kind::Time),
        Column::optional("exch_ts", Kind::Time),
        Column::required("n", Kind::Sequence),
        Column::required("line", Kind::Sequence),
        Column::required("epoch", Kind::Integer),
        Column::optional("sid", Kind::Integer),
        Column::optional("seq", Kind::Sequence),
        Column::optional("clock", Kind::Sequence),
        Column::required("ticker", Kind::Name),
        Column::required("series", Kind::Name),
        Column::required("kind", Kind::Name),
        Column::optional("side", Kind::Name),
        Column::optional("price", Kind::Money),
        Column::optional("delta", Kind::Count),
        Column::optional("level_after", Kind::Count),
        Column::required("flags", Kind::Integer),
    ],
    is_sorted: true,
};

/// Every whole book, level by level.
pub(super) static BOOK_SNAPSHOTS: Table = Table {
    name: "book_snapshots",
    columns: &[
        Column::required("recv_ts", Kind::Time),
        Column::optional("exch_ts", Kind::Time),
        Column::required("n", Kind::Sequence),
        Column::required("line", Kind::Sequence),
        Column::required("epoch", Kind::Integer),
        Column::required("ticker", Kind::Name),
        Column::required("series", Kind::Name),
        Column::optional("side", Kind::Name),
        Column::required("level_no", Kind::Integer),
        Column::optional("price", Kind::Money),
        Column::optional("count", Kind::Count),
        Column::required("hash", Kind::Name),
        Column::required("flags", Kind::Integer),
    ],
    is_sorted: true,
};

/// Best prices and totals of markets.
pub(super) static TICKER: Table = Table {
    name: "ticker",
    columns: &[
        Column::required("recv_ts", Kind::Time),
        Column::optional("exch_ts", Kind::Time),
        Column::required("line", Kind::Sequence),
        Column::required("epoch", Kind::Integer),
        Column::required("ticker", Kind::Name),
        Column::required("series", Kind::Name),
        Column::required("last_price", Kind::Money),
        Column::required("last_count", Kind::Count),
        Column::required("yes_bid", Kind::Money),
        Column::required("yes_bid_count", Kind::Count),
        Column::required("yes_ask", Kind::Money),
        Column::required("yes_ask_count", Kind::Count),
        Column::required("volume", Kind::Count),
        Column::required("open_interest", Kind::Count),
        Column::required("flags", Kind::Integer),
    ],
    is_sorted: true,
};

/// The times of which something is missing.
pub(super) static GAPS: Table = Table {
    name: "gaps",
    columns: &[
        Column::required("from_ts", Kind::Time),
        Column::optional("to_ts", Kind::Time),
        Column::required("line", Kind::Sequence),
        Column::required("epoch", Kind::Integer),
        Column::required("scope", Kind::Name),
        Column::optional("channel", Kind::Name),
        Column::optional("ticker", Kind::Name),
        Column::optional("sid", Kind::Integer),
        Column::optional("expected", Kind::Integer),
        Column::optional("received", Kind::Integer),
        Column::optional("lost_lines", Kind::Integer),
        Column::required("reason", Kind::Name),
    ],
    is_sorted: false,
};

/// All tables.
pub(in crate::export) static TABLES: [&Table; 5] =
    [&TRADES, &BOOK_DELTAS, &BOOK_SNAPSHOTS, &TICKER, &GAPS];

/// Takes the rows.
pub(super) trait Sink {
    /// Takes a row.
    fn row(&mut self, table: &'static Table, row: &[Value<'_>]) -> Outcome;
}

/// A book, by the price of YES.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Levels {
    bids: BTreeMap<Dollars, Count>,
    asks: BTreeMap<Dollars, Count>,
}

impl Levels {
    /// Returns the levels, bids first, and the best of each side first.
    fn iter(&self) -> impl Iterator<Item = (&'static str, i64, Dollars, Count)> {
        let bids = self.bids.iter().rev().map(|level| ("bid", level));
        let asks = self.asks.iter().map(|level| ("ask", level));
        let number = |(at, (side, (price, count))): (usize, (_, (&Dollars, &Count)))| {
            (side, i64::try_from(at + 1).unwrap_or(i64::MAX), *price, *count)
        };
        bids.enumerate().map(number).chain(asks.enumerate().map(number))
    }

    /// Returns a hash of the levels, in hexadecimal digits: of two books the same if they are equal.
    fn hash(&self) -> String {
        let mut digest = Context::new(&SHA256);
        for (side, _, price, count) in self.iter() {
            digest.update(format!("{side} {price} {count}\n").as_bytes());
        }
        hexadecimal(digest.finish().as_ref().get(..16).unwrap_or_default())
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

/// A time of which something is missing, as far as it is known.
#[derive(Clone, Debug)]
struct Gap {
    from: i64,
    line: i64,
    epoch: i64,
    sid: Option<i64>,
    expected: Option<i64>,
    received: Option<i64>,
    lost_lines: Option<i64>,
    reason: String,
}

/// The place of a row: when it came, and what the exchange says of it.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    exchange: Option<i64>,
    sid: Option<i64>,
    seq: Option<i64>,
    clock: Option<i64>,
}

/// Turns lines into rows.
pub(super) struct Rows {
    replay: Replay,
    prices: PriceConvention,
    /// The start of the recording that is being read, from its header.
    started: Option<UnixMillis>,
    books: Books,
    /// The books that can be read, or are crossed for a moment.
    levels: BTreeMap<String, Levels>,
    channels: BTreeSet<String>,
    /// Gaps that last, by channel and by ticker; the ticker is empty for a whole channel.
    open: BTreeMap<(String, String), Gap>,
    /// The time of the last message of each channel, in microseconds.
    heard: BTreeMap<String, i64>,
    /// The time of the last line and of the last frame, in microseconds.
    at: i64,
    received: i64,
    line: i64,
    n: i64,
    epoch: i64,
    digest: Context,
}

impl Rows {
    /// Returns the rows of a recording that begins. Files without a header have these prices.
    pub(super) fn new(prices: PriceConvention) -> Self {
        Self {
            replay: Replay::new(prices),
            prices,
            started: None,
            books: Books::new(),
            levels: BTreeMap::new(),
            channels: BTreeSet::new(),
            open: BTreeMap::new(),
            heard: BTreeMap::new(),
            at: 0,
            received: 0,
            line: 0,
            n: 0,
            epoch: 1,
            digest: Context::new(&SHA256),
        }
    }

    /// Returns the hash of all lines so far.
    pub(super) fn hash(&self) -> String {
        hexadecimal(self.digest.clone().finish().as_ref())
    }

    /// Writes down what lasts beyond an hour: gaps up to the first line of the next one.
    pub(super) fn end_hour(&mut self, until: UnixMillis, sink: &mut dyn Sink) -> Outcome {
        let until = micros(until)?;
        for ((channel, ticker), gap) in &mut self.open {
            write_gap(channel, ticker, gap, Some(until), sink)?;
            gap.from = until;
            // They are counted once.
            gap.lost_lines = None;
        }
        Ok(())
    }

    /// Writes the books with which an hour begins, so that nothing before it is needed.
    pub(super) fn begin_hour(&mut self, at: UnixMillis, sink: &mut dyn Sink) -> Outcome {
        self.at = micros(at)?;
        let tickers: Vec<String> = self.levels.keys().cloned().collect();
        for ticker in tickers {
            let crossed = self.crossed(&ticker);
            let place = Place { clock: self.books.clock(&ticker), ..Place::default() };
            self.book(&ticker, place, flags::SNAPSHOT | flags::CHECKPOINT | crossed, sink)?;
        }
        Ok(())
    }

    /// Writes the gaps that last to the end.
    pub(super) fn finish(&mut self, sink: &mut dyn Sink) -> Outcome {
        for ((channel, ticker), gap) in std::mem::take(&mut self.open) {
            write_gap(&channel, &ticker, &gap, None, sink)?;
        }
        Ok(())
    }

    /// Writes the rows of the next line.
    pub(super) fn line(
        &mut self,
        line: Result<RecordedLine, RecordingError>,
        sink: &mut dyn Sink,
    ) -> Outcome {
        self.line += 1;
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                // Without the folder: the rows are the same wherever the recording lies.
                let reason = match &error {
                    RecordingError::Io { .. } => "a file of the recording ends in the middle",
                    RecordingError::Malformed { .. } => "a line of the recording is malformed",
                    _ => "a file of the recording cannot be read",
                };
                self.digest.update(reason.as_bytes());
                return self.disconnected(reason, None, sink);
            }
        };
        self.at = micros(line.at)?;
        self.digest.update(&line.at.as_millis().to_le_bytes());
        match line.event {
            RecordedEvent::Header(header) => self.header(&header, sink),
            RecordedEvent::Received(text) => {
                self.digest.update(text.as_bytes());
                let mut events = Vec::new();
                self.replay.frame(&text, line.at, |event| events.push(event));
                for event in &events {
                    self.event(event, sink)?;
                }
                self.received = self.at;
                Ok(())
            }
            RecordedEvent::Sent(text) => {
                self.digest.update(text.as_bytes());
                let mut events = Vec::new();
                self.replay.sent(&text, |event| events.push(event));
                events.iter().try_for_each(|event| self.event(event, sink))
            }
            RecordedEvent::Disconnected(reason) => {
                self.digest.update(reason.as_bytes());
                self.disconnected(&reason, None, sink)
            }
            RecordedEvent::Lost(lines) => {
                self.digest.update(&lines.to_le_bytes());
                let lost = i64::try_from(lines).unwrap_or(i64::MAX);
                self.disconnected("the disk was too slow for the recording", Some(lost), sink)
            }
            RecordedEvent::Unknown(text) => {
                self.digest.update(text.as_bytes());
                self.disconnected("a line of the recording is of an unknown kind", None, sink)
            }
            // Of a connection the subscriptions tell.
            _ => Ok(()),
        }
    }

    fn header(&mut self, header: &RecordingHeader, sink: &mut dyn Sink) -> Outcome {
        let before = self.started.replace(header.started);
        if before.is_some_and(|before| before != header.started) {
            self.disconnected("another recording begins", None, sink)?;
        }
        if header.prices != self.prices {
            self.prices = header.prices;
            self.replay = Replay::new(header.prices);
        }
        Ok(())
    }

    fn disconnected(
        &mut self,
        reason: &str,
        lost_lines: Option<i64>,
        sink: &mut dyn Sink,
    ) -> Outcome {
        let mut events = Vec::new();
        let failed = DisconnectReason::Failed(reason.to_owned());
        self.replay.disconnected(failed, |event| events.push(event));
        // Without a subscription there are no events: what is missing is missing all the same.
        for event in &events {
            self.books.apply(event);
        }
        self.books.void();
        self.epoch += 1;
        let gap = Gap { from: self.received, lost_lines, ..self.gap(reason) };
        if self.channels.is_empty() {
            write_gap("", "", &gap, Some(self.at), sink)?;
        }
        for channel in std::mem::take(&mut self.channels) {
            self.open(&channel, "", &gap);
        }
        self.clear(|_| true, sink)
    }

    fn gap(&self, reason: impl Into<String>) -> Gap {
        Gap {
            from: self.at,
            line: self.line,
            epoch: self.epoch,
            sid: None,
            expected: None,
            received: None,
            lost_lines: None,
            reason: reason.into(),
        }
    }

    /// Begins a gap that lasts, or adds to one that does.
    fn open(&mut self, channel: &str, ticker: &str, gap: &Gap) {
        let key = (channel.to_owned(), ticker.to_owned());
        let known = self.open.entry(key).or_insert_with(|| Gap { lost_lines: None, ..gap.clone() });
        known.lost_lines = match (known.lost_lines, gap.lost_lines) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
    }

    fn close(&mut self, channel: &str, ticker: &str, sink: &mut dyn Sink) -> Outcome {
        match self.open.remove(&(channel.to_owned(), ticker.to_owned())) {
            Some(gap) => write_gap(channel, ticker, &gap, Some(self.at), sink),
            None => Ok(()),
        }
    }

    fn event(&mut self, event: &Event, sink: &mut dyn Sink) -> Outcome {
        let change = self.books.apply(event);
        match event {
            Event::Message(message) => self.message(message, change, 0, sink)?,
            Event::Unmatched(message) => self.message(message, change, flags::UNMATCHED, sink)?,
            Event::Subscribed { channel, .. } => {
                let channel = channel.to_string();
                self.close(&channel, "", sink)?;
                self.channels.insert(channel);
            }
            Event::Unsubscribed { channel } => {
                let channel = channel.to_string();
                self.channels.remove(&channel);
                let keys: Vec<_> =
                    self.open.keys().filter(|key| key.0 == channel).cloned().collect();
                // What is no longer wanted is not missing.
                for (channel, ticker) in keys {
                    self.close(&channel, &ticker, sink)?;
                }
            }
            Event::Removed { channel, items } => {
                for item in items {
                    self.close(channel.as_ref(), item, sink)?;
                }
            }
            Event::Resynced { channel, .. } => self.close(channel.as_ref(), "", sink)?,
            Event::Gap { channel, sid, expected, received } => {
                let name = channel.to_string();
                let from = self.heard.get(&name).copied().unwrap_or(self.at);
                let gap = Gap {
                    from,
                    sid: Some(*sid),
                    expected: *expected,
                    received: *received,
                    ..self.gap("messages are missing")
                };
                if *channel == Channel::OrderbookDelta {
                    // Until every book has a new snapshot.
                    self.open(&name, "", &gap);
                } else {
                    write_gap(&name, "", &gap, Some(self.at), sink)?;
                }
            }
            Event::Overdue { channel, sid, items } => {
                for item in items {
                    let gap = Gap { sid: Some(*sid), ..self.gap("the snapshot is late") };
                    self.open(channel.as_ref(), item, &gap);
                }
            }
            Event::Terminated { channel, .. } => {
                let gap = self.gap("the exchange ended the subscription");
                self.open(channel.as_ref(), "", &gap);
            }
            Event::Malformed(_) => {
                write_gap("", "", &self.gap("a frame is malformed"), Some(self.at), sink)?;
            }
            // Answers, refusals and what has no table.
            _ => {}
        }
        match change {
            BookChange::Voided => self.clear(|_| true, sink),
            BookChange::Removed => {
                let books = &self.books;
                let gone: BTreeSet<String> = self
                    .levels
                    .keys()
                    .filter(|ticker| books.state(ticker) == BookState::Absent)
                    .cloned()
                    .collect();
                self.clear(|ticker| gone.contains(ticker), sink)
            }
            _ => Ok(()),
        }
    }

    fn message(
        &mut self,
        message: &Message,
        change: BookChange,
        flags: i64,
        sink: &mut dyn Sink,
    ) -> Outcome {
        let exchange = message.sent.map(micros).transpose()?;
        let (sid, seq) = (message.sid, message.seq);
        let place = Place { exchange, sid, seq, clock: message.clock() };
        match &message.payload {
            Payload::OrderbookSnapshot(snapshot) => self.snapshot(snapshot, place, change, sink)?,
            Payload::OrderbookDelta(delta) => self.delta(delta, place, change, flags, sink)?,
            Payload::Trade(trade) => self.trade(trade, flags, sink)?,
            Payload::Ticker(ticker) => self.ticker(ticker, flags, sink)?,
            _ => {}
        }
        if flags & self::flags::UNMATCHED == 0
            && let Some(channel) = channel(&message.payload)
        {
            match self.heard.get_mut(channel) {
                Some(at) => *at = self.at,
                None => {
                    self.heard.insert(channel.to_owned(), self.at);
                }
            }
        }
        Ok(())
    }

    fn snapshot(
        &mut self,
        snapshot: &types::OrderbookSnapshot,
        place: Place,
        change: BookChange,
        sink: &mut dyn Sink,
    ) -> Outcome {
        let ticker = &snapshot.market_ticker;
        match change {
            BookChange::Replaced => {
                let levels = |from: &[kalshi_sdk::PriceLevel]| {
                    let rest = from.iter().filter(|level| level.count.is_positive());
                    rest.map(|level| (level.price, level.count)).collect()
                };
                let levels = Levels {
                    bids: levels(&snapshot.yes_dollars_fp),
                    asks: levels(&snapshot.no_dollars_fp),
                };
                self.levels.insert(ticker.clone(), levels);
                self.book(ticker, place, flags::SNAPSHOT, sink)?;
                self.close(BOOKS, ticker, sink)
            }
            BookChange::Corrupt(error) => self.corrupt(ticker, &error.to_string(), sink),
            _ => {
                let gap = self.gap("a snapshot belongs to no subscription");
                write_gap(BOOKS, ticker, &gap, Some(self.at), sink)
            }
        }
    }

    /// Writes a whole book.
    fn book(&mut self, ticker: &str, place: Place, flags: i64, sink: &mut dyn Sink) -> Outcome {
        let Some(levels) = self.levels.get(ticker) else { return Ok(()) };
        let first = self.n + 1;
        let hash = levels.hash();
        let mut n = self.n;
        let mut change = |kind, level: Option<(&str, Dollars, Count)>| {
            n += 1;
            let row = delta_row(
                (self.at, n, self.line, self.epoch),
                place,
                (ticker, kind),
                level.map(|(side, price, _)| (side, price.as_micros())),
                (None, level.map(|(_, _, count)| count.as_hundredths())),
                flags,
            );
            sink.row(&BOOK_DELTAS, &row)
        };
        change("snapshot", None)?;
        for (side, _, price, count) in levels.iter() {
            change("snapshot_level", Some((side, price, count)))?;
        }
        let mut level = |side: Option<&str>, number, price: Option<i64>, count: Option<i64>| {
            let row = [
                Value::Number(self.at),
                place.exchange.into(),
                Value::Number(first),
                Value::Number(self.line),
                Value::Number(self.epoch),
                Value::Text(ticker),
                Value::Text(series(ticker)),
                side.into(),
                Value::Number(number),
                price.into(),
                count.into(),
                Value::Text(&hash),
                Value::Number(flags),
            ];
            sink.row(&BOOK_SNAPSHOTS, &row)
        };
        for (side, number, price, count) in levels.iter() {
            level(Some(side), number, Some(price.as_micros()), Some(count.as_hundredths()))?;
        }
        if n == first {
            // A book without levels is a book, too.
            level(None, 0, None, None)?;
        }
        self.n = n;
        Ok(())
    }

    fn delta(
        &mut self,
        delta: &Delta,
        place: Place,
        change: BookChange,
        flags: i64,
        sink: &mut dyn Sink,
    ) -> Outcome {
        let ticker = delta.market.ticker();
        let side = match &delta.side {
            types::MarketSide::Yes => "bid",
            types::MarketSide::No => "ask",
            other => other.as_str(),
        };
        let mut after = None;
        let mut flags = flags;
        if change == BookChange::Updated
            && let Some(levels) = self.levels.get_mut(ticker)
        {
            let levels = if side == "bid" { &mut levels.bids } else { &mut levels.asks };
            let before = levels.get(&delta.price_dollars).copied().unwrap_or(Count::ZERO);
            let count = before.checked_add(delta.delta_fp).unwrap_or(Count::ZERO);
            if count.is_positive() {
                levels.insert(delta.price_dollars, count);
            } else {
                levels.remove(&delta.price_dollars);
            }
            after = Some(count.as_hundredths());
            flags |= self.crossed(ticker);
        } else {
            flags |= self::flags::VOID;
        }
        let exchange = delta.ts_ms.map(micros).transpose()?;
        self.n += 1;
        let row = delta_row(
            (self.at, self.n, self.line, self.epoch),
            Place { exchange, ..place },
            (ticker, "delta"),
            Some((side, delta.price_dollars.as_micros())),
            (Some(delta.delta_fp.as_hundredths()), after),
            flags,
        );
        sink.row(&BOOK_DELTAS, &row)?;
        match change {
            BookChange::Corrupt(error) => self.corrupt(ticker, &error.to_string(), sink),
            _ => Ok(()),
        }
    }

    fn crossed(&self, ticker: &str) -> i64 {
        if self.books.state(ticker) == BookState::Crossed { flags::CROSSED } else { 0 }
    }

    /// Notes a book that contradicts itself, until its next snapshot.
    fn corrupt(&mut self, ticker: &str, error: &str, sink: &mut dyn Sink) -> Outcome {
        let gap = self.gap(error);
        self.open(BOOKS, ticker, &gap);
        self.clear(|known| known == ticker, sink)
    }

    /// Ends books that could be read.
    fn clear(&mut self, ends: impl Fn(&str) -> bool, sink: &mut dyn Sink) -> Outcome {
        let gone: Vec<String> = self.levels.keys().filter(|ticker| ends(ticker)).cloned().collect();
        for ticker in gone {
            self.levels.remove(&ticker);
            self.n += 1;
            let row = delta_row(
                (self.at, self.n, self.line, self.epoch),
                Place::default(),
                (&ticker, "clear"),
                None,
                (None, None),
                flags::VOID,
            );
            sink.row(&BOOK_DELTAS, &row)?;
        }
        Ok(())
    }

    fn trade(&self, trade: &types::Trade, flags: i64, sink: &mut dyn Sink) -> Outcome {
        let ticker = &*trade.market_ticker;
        let exchange = trade.ts_ms.map(micros).transpose()?;
        let row = [
            Value::Number(self.at),
            exchange.into(),
            Value::Number(self.line),
            Value::Number(self.epoch),
            Value::Text(ticker),
            Value::Text(series(ticker)),
            Value::Text(&trade.trade_id),
            Value::Number(trade.yes_price_dollars.as_micros()),
            Value::Number(trade.no_price_dollars.as_micros()),
            Value::Number(trade.count_fp.as_hundredths()),
            Value::Text(trade.taker_outcome_side.as_str()),
            Value::Text(trade.taker_book_side.as_str()),
            trade.is_block_trade.into(),
            Value::Text("ws"),
            Value::Number(flags),
        ];
        sink.row(&TRADES, &row)
    }

    fn ticker(&self, message: &types::Ticker, flags: i64, sink: &mut dyn Sink) -> Outcome {
        let ticker = &*message.market_ticker;
        let exchange = message.ts_ms.map(micros).transpose()?;
        let row = [
            Value::Number(self.at),
            exchange.into(),
            Value::Number(self.line),
            Value::Number(self.epoch),
            Value::Text(ticker),
            Value::Text(series(ticker)),
            Value::Number(message.price_dollars.as_micros()),
            Value::Number(message.last_trade_size_fp.as_hundredths()),
            Value::Number(message.yes_bid_dollars.as_micros()),
            Value::Number(message.yes_bid_size_fp.as_hundredths()),
            Value::Number(message.yes_ask_dollars.as_micros()),
            Value::Number(message.yes_ask_size_fp.as_hundredths()),
            Value::Number(message.volume_fp.as_hundredths()),
            Value::Number(message.open_interest_fp.as_hundredths()),
            Value::Number(flags),
        ];
        sink.row(&TICKER, &row)
    }
}

/// The channel of order books.
const BOOKS: &str = "orderbook_delta";

/// Returns the channel of a message that has a table.
fn channel(payload: &Payload) -> Option<&'static str> {
    match payload {
        Payload::OrderbookSnapshot(_) | Payload::OrderbookDelta(_) => Some(BOOKS),
        Payload::Trade(_) => Some("trade"),
        Payload::Ticker(_) => Some("ticker"),
        _ => None,
    }
}

/// Returns a time in microseconds since 1970.
fn micros(time: UnixMillis) -> Outcome<i64> {
    let millis = time.as_millis();
    millis.checked_mul(1_000).ok_or_else(|| {
        Failure::local(format!("the time {millis} of the recording is out of range"))
    })
}

fn delta_row<'a>(
    (at, n, line, epoch): (i64, i64, i64, i64),
    place: Place,
    (ticker, kind): (&'a str, &'a str),
    level: Option<(&'a str, i64)>,
    (delta, after): (Option<i64>, Option<i64>),
    flags: i64,
) -> [Value<'a>; 16] {
    [
        Value::Number(at),
        place.exchange.into(),
        Value::Number(n),
        Value::Number(line),
        Value::Number(epoch),
        place.sid.into(),
        place.seq.into(),
        place.clock.into(),
        Value::Text(ticker),
        Value::Text(series(ticker)),
        Value::Text(kind),
        level.map(|(side, _)| side).into(),
        level.map(|(_, price)| price).into(),
        delta.into(),
        after.into(),
        Value::Number(flags),
    ]
}

fn write_gap(
    channel: &str,
    ticker: &str,
    gap: &Gap,
    until: Option<i64>,
    sink: &mut dyn Sink,
) -> Outcome {
    let named = |text| Some(text).filter(|text: &&str| !text.is_empty());
    let scope = match (channel, ticker) {
        ("", _) => "connection",
        (_, "") => "channel",
        _ => "ticker",
    };
    let row = [
        Value::Number(gap.from),
        until.into(),
        Value::Number(gap.line),
        Value::Number(gap.epoch),
        Value::Text(scope),
        named(channel).into(),
        named(ticker).into(),
        gap.sid.into(),
        gap.expected.into(),
        gap.received.into(),
        gap.lost_lines.into(),
        Value::Text(&gap.reason),
    ];
    sink.row(&GAPS, &row)
}
