//! The follower: messages of the bus in, the events and books of a connection out.
//!
//! Pure: no socket and no clock. It trusts no order and no completeness of the bus. A book can be
//! read only while every message of its epoch up to the last known one has been applied.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use foldhash::fast::RandomState;
use kalshi_types::UnixMillis;
use kalshi_ws::{
    BookChange, Books, Channel, Decoder, DisconnectReason, Event, Frame, OrderBook, Payload,
    UncoveredCause,
};

use crate::{
    control::Control,
    envelope::{BusMessage, Envelope, Epoch, Flags},
    levels::hash_levels,
    subject::{Kind, Subject, SubjectError, Subjects},
};

/// The messages of one market that wait for a snapshot. Beyond it they are dropped, and the log or a
/// later snapshot has them.
const MAX_BUFFER: usize = 4_096;

/// The time for which an epoch that was forgotten keeps earlier ones out.
const FENCE: Duration = Duration::from_secs(60);

/// The settings of a follower.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FollowerConfig {
    /// The name of the environment in subjects, as the publisher has it.
    pub environment: String,
    /// The time without a sign of the publisher after which nothing can be read. It must be longer
    /// than the lease of a publisher.
    pub stale_after: Duration,
    /// The time for which messages that a heartbeat or a snapshot announces may be under way.
    pub grace: Duration,
    /// The time after which a snapshot is requested again.
    pub retry: Duration,
}

impl FollowerConfig {
    /// Returns the settings of a follower: stale after 12 seconds of silence, a second of grace, a
    /// retry after 2 seconds.
    pub fn new(environment: impl Into<String>) -> Self {
        Self {
            environment: environment.into(),
            stale_after: Duration::from_secs(12),
            grace: Duration::from_secs(1),
            retry: Duration::from_secs(2),
        }
    }
}

/// A request of the follower to the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowerRequest {
    /// The last message of the subject is to be given to [`Follower::last_snapshot`].
    Snapshot {
        /// The subject.
        subject: String,
    },
    /// The messages of the subject that the log has from a time on are to be given to
    /// [`Follower::logged`], oldest first, and then [`Follower::log_end`] is to be called.
    Log {
        /// The market.
        ticker: String,
        /// The pattern of the subject.
        pattern: String,
        /// The time of the snapshot that they follow, by the publisher's clock. Begin some seconds
        /// before it.
        since: UnixMillis,
    },
}

/// The counts of a follower since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowerMetrics {
    /// Messages of a publisher that has been replaced.
    pub fenced: u64,
    /// Messages that came twice, or are part of a snapshot.
    pub repeated: u64,
    /// Messages that do not read.
    pub malformed: u64,
    /// Books that became stale.
    pub stale: u64,
    /// Snapshots whose hash is that of the book.
    pub checked: u64,
    /// Snapshots whose hash is not that of the book, which is rebuilt.
    pub contradictions: u64,
    /// Messages that had no room while their market waited for a snapshot.
    pub overflowed: u64,
}

/// Turns the messages of a publisher into the events and books of a connection.
///
/// Feed it by [`message`](Self::message) with what its [subscriptions](Self::patterns) bring, call
/// [`tick`](Self::tick) about ten times a second, carry out its [requests](Self::next_request), and
/// take its [events](Self::next_event) after each. A book that becomes stale is an
/// [`Event::Uncovered`] and is void until its next snapshot; a change of the publisher, or of its
/// connection, is an [`Event::Disconnected`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_fanout::{Follower, FollowerConfig, Publisher, PublisherConfig};
/// use kalshi_types::UnixMillis;
/// use kalshi_ws::BookState;
///
/// let now = Duration::ZERO;
/// let mut follower = Follower::new(FollowerConfig::new("demo"), || Duration::ZERO)?;
/// follower.follow(["A"])?;
///
/// let mut publisher = Publisher::new(PublisherConfig::new("demo", "a"))?;
/// publisher.lead(1, Duration::from_secs(10), now);
/// for frame in [
///     r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
///     r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","yes_dollars_fp":[["0.40","10.00"]]}}"#,
/// ] {
///     publisher.frame(frame, UnixMillis::EPOCH, now);
/// }
/// while let Some(publication) = publisher.next(UnixMillis::EPOCH, now) {
///     follower.message(&publication.message, now);
/// }
/// while let Some(event) = follower.next_event(now) {
///     println!("{event:?}");
/// }
/// assert_eq!(follower.books().state("A"), BookState::Valid);
/// # Ok::<(), kalshi_fanout::subject::SubjectError>(())
/// ```
pub struct Follower {
    config: FollowerConfig,
    subjects: Subjects,
    jitter: Box<dyn FnMut() -> Duration + Send>,
    decoder: Decoder,
    books: Books,
    epoch: Option<Epoch>,
    /// The last epoch that was forgotten, and until when earlier ones are kept out.
    fence: Option<(Epoch, Duration)>,
    /// The current epoch has ended, and nothing of it can be read.
    is_ended: bool,
    /// An epoch has been followed before.
    was_connected: bool,
    heard: Duration,
    /// The latest time of the publisher in the epoch, by its clock.
    newest: UnixMillis,
    markets: HashMap<String, Market, RandomState>,
    streams: HashMap<(Kind, String), Stream, RandomState>,
    outputs: VecDeque<Output>,
    requests: VecDeque<FollowerRequest>,
    metrics: FollowerMetrics,
}

enum Output {
    Event(Event),
    /// The book of a market is to have this hash.
    Check {
        ticker: String,
        hash: u64,
    },
}

struct Stream {
    n: u64,
    /// The epoch may have numbers before the first one that came.
    has_joined: bool,
    /// Of your account: its subscription is confirmed, as far as is known here.
    is_subscribed: bool,
    /// The highest number that was announced, and when it must have come.
    announced: Option<(u64, Duration)>,
}

impl Stream {
    const fn new(has_joined: bool) -> Self {
        Self { n: 0, has_joined, is_subscribed: false, announced: None }
    }
}

struct Market {
    state: State,
    /// The messages that cannot be applied yet, by number.
    buffer: BTreeMap<u64, Buffered>,
    /// The snapshot that waits for messages, and whether the messages after it are known to be in
    /// the buffer.
    candidate: Option<Candidate>,
    /// The lowest number that a book must have.
    floor: u64,
    /// The highest number that a snapshot or heartbeat announced, and when it must have come.
    announced: Option<(u64, Duration)>,
    /// A snapshot that is to be compared once its number is reached.
    check: Option<(u64, u64)>,
}

#[derive(Clone, Copy)]
enum State {
    /// All messages to this number have been applied.
    Live(u64),
    /// A snapshot is requested at this time.
    Waiting(Duration),
}

struct Buffered {
    flags: Flags,
    event: Option<Event>,
}

struct Candidate {
    n: u64,
    received: UnixMillis,
    event: Event,
    is_followed: bool,
    is_log_requested: bool,
}

impl Follower {
    /// Returns a follower of nothing. `jitter` gives the time to wait before a snapshot is requested:
    /// random, up to half a second, where many followers share a bus.
    ///
    /// # Errors
    ///
    /// The environment is no token of a subject.
    pub fn new(
        config: FollowerConfig,
        jitter: impl FnMut() -> Duration + Send + 'static,
    ) -> Result<Self, SubjectError> {
        let subjects = Subjects::new(&config.environment, 1)?;
        Ok(Self {
            config,
            subjects,
            jitter: Box::new(jitter),
            decoder: Decoder::new(),
            books: Books::new(),
            epoch: None,
            fence: None,
            is_ended: false,
            was_connected: false,
            heard: Duration::ZERO,
            newest: UnixMillis::EPOCH,
            markets: HashMap::default(),
            streams: HashMap::default(),
            outputs: VecDeque::new(),
            requests: VecDeque::new(),
            metrics: FollowerMetrics::default(),
        })
    }

    /// Follows the order books of markets, besides those that are followed already. Subscribe to
    /// their [patterns](Self::book_patterns) before the next [`tick`](Self::tick).
    ///
    /// # Errors
    ///
    /// A ticker is no token of a subject; those before it are followed.
    pub fn follow<T: Into<String>>(
        &mut self,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), SubjectError> {
        for ticker in tickers {
            let ticker = ticker.into();
            self.subjects.snapshot(&ticker)?;
            let due = (self.jitter)();
            self.markets.entry(ticker).or_insert_with(|| Market::waiting(due));
        }
        Ok(())
    }

    /// Follows the order books of these markets no longer: they are gone.
    pub fn leave<T: Into<String>>(&mut self, tickers: impl IntoIterator<Item = T>) {
        let items: Vec<String> = tickers.into_iter().map(Into::into).collect();
        for ticker in &items {
            self.markets.remove(ticker);
        }
        self.push(Event::Removed { channel: Channel::OrderbookDelta, items });
    }

    /// Returns the patterns to subscribe to for what is followed now: the control messages, and the
    /// changes and snapshots of every market.
    pub fn patterns(&self) -> Vec<String> {
        let books = self.markets.keys().filter_map(|ticker| self.book_patterns(ticker).ok());
        std::iter::once(self.subjects.all_control()).chain(books.flatten()).collect()
    }

    /// Returns the patterns to subscribe to for the book of a market.
    ///
    /// # Errors
    ///
    /// The ticker is no token of a subject.
    pub fn book_patterns(&self, ticker: &str) -> Result<[String; 2], SubjectError> {
        Ok([self.pattern(Kind::Book, ticker)?, self.subjects.snapshot(ticker)?])
    }

    /// Returns the pattern to subscribe to for a kind of data of a market, or of your account: then
    /// its name is in place of the ticker. What it brings becomes events without a further call.
    ///
    /// Of your account there is an [`Event::Subscribed`] first, so that a
    /// [`Portfolio`](kalshi_ws::Portfolio) is kept as on a connection.
    ///
    /// # Errors
    ///
    /// The ticker is no token of a subject.
    pub fn pattern(&self, kind: Kind, ticker: &str) -> Result<String, SubjectError> {
        // The number of shards is the publisher's.
        Ok(self.subjects.data(kind, ticker)?.replacen(".md.0.", ".md.*.", 1))
    }

    /// Returns the next event, and applies it to the [books](Self::books).
    pub fn next_event(&mut self, now: Duration) -> Option<Event> {
        loop {
            match self.outputs.pop_front()? {
                Output::Event(event) => {
                    let change = self.books.apply(&event);
                    if let BookChange::Corrupt(_) = change
                        && let Event::Message(message) = &event
                        && let Some(ticker) = message.payload.market_ticker()
                    {
                        let ticker = ticker.to_owned();
                        self.metrics.contradictions += 1;
                        self.make_stale(&ticker, UncoveredCause::Contradiction, now);
                    }
                    return Some(event);
                }
                Output::Check { ticker, hash } => match self.books.get(&ticker).map(hash_levels) {
                    Some(found) if found == hash => self.metrics.checked += 1,
                    Some(_) => {
                        self.metrics.contradictions += 1;
                        self.make_stale(&ticker, UncoveredCause::Contradiction, now);
                    }
                    None => {}
                },
            }
        }
    }

    /// Returns the next request to the bus.
    pub fn next_request(&mut self) -> Option<FollowerRequest> {
        self.requests.pop_front()
    }

    /// Returns the order books, as of the last event that was taken.
    pub const fn books(&self) -> &Books {
        &self.books
    }

    /// Returns the epoch that is followed.
    pub const fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    /// Returns the number of the last message of a market that was applied; `None` while its book
    /// cannot be read.
    pub fn number(&self, ticker: &str) -> Option<u64> {
        match self.markets.get(ticker)?.state {
            State::Live(n) => Some(n),
            State::Waiting(_) => None,
        }
    }

    /// Returns the counts since the beginning.
    pub const fn metrics(&self) -> FollowerMetrics {
        self.metrics
    }

    /// Takes a message of a subscription.
    pub fn message(&mut self, message: &BusMessage, now: Duration) {
        let Some((subject, envelope)) = self.read(message) else { return };
        if !self.enter(&envelope.epoch, now) {
            self.metrics.fenced += 1;
            return;
        }
        self.heard = now;
        // A snapshot that a bus delivers once more may be older than what was lost since. One that is
        // as new as what else has come is not; after others the log is read.
        let is_new = self.newest != UnixMillis::EPOCH
            && envelope.received.saturating_add(self.config.grace) >= self.newest;
        self.newest = self.newest.max(envelope.received);
        match subject {
            Subject::Control { .. } => match serde_json::from_slice(&message.payload) {
                Ok(control) => self.control(control, now),
                Err(_) => self.metrics.malformed += 1,
            },
            Subject::Snapshot { ticker } => {
                self.snapshot(&ticker, &envelope, &message.payload, is_new, now);
            }
            Subject::Data { kind: Kind::Book, ticker, .. } => {
                self.book(&ticker, &envelope, &message.payload, now);
            }
            Subject::Own { kind, account } => {
                self.own(kind, account, &envelope, &message.payload, now);
            }
            Subject::Data { kind, ticker, .. } => {
                self.stream(kind, ticker, &envelope, &message.payload);
            }
        }
    }

    /// Takes the answer to [`FollowerRequest::Snapshot`].
    pub fn last_snapshot(&mut self, message: &BusMessage, now: Duration) {
        let Some((Subject::Snapshot { ticker }, envelope)) = self.read(message) else { return };
        // It may be of a publisher that is long gone: only what passes by tells the epoch.
        if self.epoch.as_ref() == Some(&envelope.epoch) {
            self.snapshot(&ticker, &envelope, &message.payload, false, now);
        }
    }

    /// Takes a message of the answer to [`FollowerRequest::Log`].
    pub fn logged(&mut self, message: &BusMessage, now: Duration) {
        let Some((Subject::Data { kind: Kind::Book, ticker, .. }, envelope)) = self.read(message)
        else {
            return;
        };
        if self.epoch.as_ref() == Some(&envelope.epoch)
            && self.markets.get(&ticker).is_some_and(|market| !market.is_live())
        {
            self.book(&ticker, &envelope, &message.payload, now);
        }
    }

    /// Notes that the answer to [`FollowerRequest::Log`] is complete: there is nothing after it.
    pub fn log_end(&mut self, ticker: &str) {
        if let Some(market) = self.markets.get_mut(ticker)
            && let Some(candidate) = &mut market.candidate
        {
            candidate.is_followed = true;
        }
        self.complete(ticker);
    }

    /// Notes that the connection to the bus was lost: nothing can be read until the publisher is
    /// heard again.
    pub fn bus_lost(&mut self, now: Duration) {
        let reason = DisconnectReason::Failed("the connection to the bus was lost".to_owned());
        self.void_all(reason, now);
        self.forget_epoch(now);
    }

    /// Does what is due by time.
    pub fn tick(&mut self, now: Duration) {
        let silent_for = now.saturating_sub(self.heard);
        if self.epoch.is_some() && silent_for >= self.config.stale_after {
            self.push(Event::Stale { silent_for });
            self.void_all(DisconnectReason::Silent, now);
            // Its lease is over by now: the publisher that speaks next leads, unless it is one that
            // has been replaced.
            self.forget_epoch(now);
        }
        self.find_late(now);
        let is_readable = self.epoch.is_some() && !self.is_ended;
        let most_requests = 2 * self.markets.len();
        let mut late = Vec::new();
        for (ticker, market) in &mut self.markets {
            match market.state {
                State::Live(n) => {
                    if let Some((announced, until)) = market.announced {
                        if announced <= n {
                            market.announced = None;
                        } else if now >= until {
                            late.push(ticker.clone());
                        }
                    }
                }
                State::Waiting(due) if is_readable && now >= due => {
                    let again = now.saturating_add(self.config.retry);
                    market.state = State::Waiting(again.saturating_add((self.jitter)()));
                    if let Some(candidate) = &mut market.candidate {
                        candidate.is_log_requested = false;
                    }
                    if self.requests.len() < most_requests
                        && let Ok(subject) = self.subjects.snapshot(ticker)
                    {
                        self.requests.push_back(FollowerRequest::Snapshot { subject });
                    }
                }
                State::Waiting(_) => {}
            }
        }
        for ticker in late {
            self.make_stale(&ticker, UncoveredCause::Lost, now);
        }
    }

    fn read(&mut self, message: &BusMessage) -> Option<(Subject, Envelope)> {
        let headers = message.headers.iter().map(|(name, value)| (&**name, &**value));
        let parsed = (self.subjects.parse(&message.subject), Envelope::from_headers(headers));
        if let (Ok(subject), Ok(envelope)) = parsed {
            return Some((subject, envelope));
        }
        self.metrics.malformed += 1;
        None
    }

    /// Waits for any epoch that is not before the current one.
    fn forget_epoch(&mut self, now: Duration) {
        if let Some(epoch) = self.epoch.take() {
            self.fence = Some((epoch, now.saturating_add(FENCE)));
        }
    }

    /// Takes an epoch as the current one if it is later, and reports whether it is current.
    fn enter(&mut self, epoch: &Epoch, now: Duration) -> bool {
        match &self.epoch {
            Some(current) if epoch < current => return false,
            Some(current) if epoch == current => return true,
            Some(_) => {
                let reason = DisconnectReason::Failed("another connection is published".to_owned());
                self.void_all(reason, now);
            }
            None => {
                let is_replaced = |(last, until): &(Epoch, Duration)| now < *until && epoch < last;
                if self.fence.as_ref().is_some_and(is_replaced) {
                    return false;
                }
                // What waits is of an epoch that was left.
                self.void_all_silently(now);
            }
        }
        self.fence = None;
        self.epoch = Some(epoch.clone());
        self.newest = UnixMillis::EPOCH;
        self.is_ended = false;
        for stream in self.streams.values_mut() {
            *stream = Stream::new(false);
        }
        if self.was_connected {
            self.push(Event::Reconnected { attempts: 1 });
        }
        self.was_connected = true;
        true
    }

    fn control(&mut self, control: Control, now: Duration) {
        match control {
            Control::Began => {}
            Control::Ended => {
                if !self.is_ended {
                    let reason = "the publisher lost its connection".to_owned();
                    self.void_all(DisconnectReason::Failed(reason), now);
                    self.is_ended = true;
                }
            }
            Control::Heartbeat { last, .. } => {
                let until = now.saturating_add(self.config.grace);
                for (ticker, n) in last {
                    if let Some(market) = self.markets.get_mut(&ticker) {
                        market.announce(n, until);
                    }
                }
            }
            Control::Gap { channel, expected, received } => {
                let channel = Channel::from(channel);
                if channel != Channel::OrderbookDelta {
                    self.push(Event::Gap { channel, sid: 0, expected, received });
                }
            }
        }
    }

    fn book(&mut self, ticker: &str, envelope: &Envelope, payload: &[u8], now: Duration) {
        let (n, flags) = (envelope.n, envelope.flags);
        let Some(market) = self.markets.get(ticker) else { return };
        let (last, is_live) = match market.state {
            State::Live(last) => (last, true),
            State::Waiting(_) => (0, false),
        };
        if self.is_ended || is_live && n <= last || market.buffer.contains_key(&n) {
            self.metrics.repeated += 1;
            return;
        }
        let event = if flags.contains(Flags::RESET) {
            None
        } else {
            match self.decode(payload, envelope.received) {
                Some(event) if book_ticker(&event) == Some(ticker) => Some(event),
                // A frame that does not read is a hole.
                _ => {
                    self.metrics.malformed += 1;
                    self.make_stale(ticker, UncoveredCause::Lost, now);
                    return;
                }
            }
        };
        if is_live {
            if n == last + 1
                && let Some(event) = event
            {
                self.set_live(ticker, n);
                self.push(event);
                return;
            }
            self.make_stale(ticker, UncoveredCause::Lost, now);
            self.buffer(ticker, n, Buffered { flags, event });
            if flags.contains(Flags::SNAPSHOT) && !flags.contains(Flags::MAYBE_BAD) {
                self.complete(ticker);
            }
            return;
        }
        self.buffer(ticker, n, Buffered { flags, event });
        self.complete(ticker);
    }

    fn buffer(&mut self, ticker: &str, n: u64, buffered: Buffered) {
        let Some(market) = self.markets.get_mut(ticker) else { return };
        if buffered.flags.contains(Flags::RESET) {
            market.floor = market.floor.max(n);
        }
        market.buffer.insert(n, buffered);
        if market.buffer.len() > MAX_BUFFER {
            market.buffer.pop_first();
            self.metrics.overflowed += 1;
        }
    }

    fn snapshot(
        &mut self,
        ticker: &str,
        envelope: &Envelope,
        payload: &[u8],
        is_passing: bool,
        now: Duration,
    ) {
        let Some(market) = self.markets.get_mut(ticker) else { return };
        let (n, Some(hash)) = (envelope.n, envelope.hash) else {
            self.metrics.malformed += 1;
            return;
        };
        match market.state {
            State::Live(last) if n < last => {}
            State::Live(last) if n == last => {
                self.outputs.push_back(Output::Check { ticker: ticker.to_owned(), hash });
            }
            State::Live(_) => {
                market.check = Some((n, hash));
                market.announce(n, now.saturating_add(self.config.grace));
            }
            State::Waiting(_) => {
                let is_newer = market.candidate.as_ref().is_none_or(|candidate| candidate.n <= n);
                if n < market.floor || !is_newer {
                    return;
                }
                let Some(event) = self.decode(payload, envelope.received) else {
                    self.metrics.malformed += 1;
                    return;
                };
                if book_ticker(&event) != Some(ticker) || snapshot_hash(&event) != Some(hash) {
                    self.metrics.malformed += 1;
                    return;
                }
                if let Some(market) = self.markets.get_mut(ticker) {
                    // The same one again does not undo what is known of it.
                    let before = market.candidate.take().filter(|before| before.n == n);
                    let is_followed = before.as_ref().is_some_and(|before| before.is_followed);
                    market.candidate = Some(Candidate {
                        n,
                        received: envelope.received,
                        event,
                        is_followed: is_followed || is_passing,
                        is_log_requested: before.is_some_and(|before| before.is_log_requested),
                    });
                }
                self.complete(ticker);
            }
        }
    }

    /// Makes a book live if everything after a snapshot is known, and requests the log if not.
    fn complete(&mut self, ticker: &str) {
        if self.is_ended {
            return;
        }
        let Some(market) = self.markets.get_mut(ticker) else { return };
        // A whole book among the messages needs no other.
        let whole = market.buffer.iter().rev().find(|(n, buffered)| {
            **n >= market.floor
                && buffered.flags.contains(Flags::SNAPSHOT)
                && !buffered.flags.contains(Flags::MAYBE_BAD)
        });
        if let Some((&n, _)) = whole
            && market.candidate.as_ref().is_none_or(|candidate| candidate.n < n)
            && let Some(Buffered { event: Some(event), .. }) = market.buffer.remove(&n)
        {
            market.candidate = Some(Candidate {
                n,
                received: UnixMillis::EPOCH,
                event,
                is_followed: true,
                is_log_requested: true,
            });
        }
        let floor = market.floor;
        let Some(candidate) = &mut market.candidate else { return };
        if candidate.n < floor {
            market.candidate = None;
            return;
        }
        let mut last = candidate.n;
        let mut is_whole = true;
        for n in market.buffer.range(last + 1..).map(|(n, _)| *n) {
            is_whole = is_whole && n == last + 1;
            last = if is_whole { n } else { last };
        }
        // A log that is being read is read to its end.
        let is_followed =
            candidate.is_followed || !candidate.is_log_requested && last > candidate.n;
        if !(is_whole && is_followed) {
            if !candidate.is_log_requested {
                candidate.is_log_requested = true;
                let since = candidate.received;
                if let Ok(pattern) = self.pattern(Kind::Book, ticker) {
                    let ticker = ticker.to_owned();
                    self.requests.push_back(FollowerRequest::Log { ticker, pattern, since });
                }
            }
            return;
        }
        let Some(candidate) = market.candidate.take() else { return };
        let after = std::mem::take(&mut market.buffer).split_off(&(candidate.n + 1));
        let events = after.into_values().filter_map(|buffered| buffered.event);
        self.outputs.push_back(Output::Event(candidate.event));
        self.outputs.extend(events.map(Output::Event));
        self.set_live(ticker, last);
    }

    fn set_live(&mut self, ticker: &str, n: u64) {
        let Some(market) = self.markets.get_mut(ticker) else { return };
        market.state = State::Live(n);
        // One of this number is compared after the message is pushed.
        market.check = market.check.filter(|(at, _)| *at >= n);
    }

    fn push(&mut self, event: Event) {
        let ticker = book_ticker(&event).map(str::to_owned);
        self.outputs.push_back(Output::Event(event));
        if let Some(ticker) = ticker
            && let Some(market) = self.markets.get_mut(&ticker)
            && let State::Live(n) = market.state
            && let Some((at, hash)) = market.check
            && at == n
        {
            market.check = None;
            self.outputs.push_back(Output::Check { ticker, hash });
        }
    }

    fn stream(&mut self, kind: Kind, ticker: String, envelope: &Envelope, payload: &[u8]) {
        let n = envelope.n;
        let stream = self.streams.entry((kind, ticker)).or_insert_with(|| Stream::new(true));
        let due = stream.n + 1;
        // The first message of a subject may be any: it was there before the follower.
        let is_first = stream.n == 0 && stream.has_joined;
        if n < due {
            self.metrics.repeated += 1;
            return;
        }
        stream.n = n;
        let is_reset = envelope.flags.contains(Flags::RESET);
        if is_reset || n > due && !is_first {
            self.push_gap(kind, envelope.sid, due, n);
        }
        if is_reset {
            return;
        }
        if let Some(event) = self.decode(payload, envelope.received) {
            self.push(event);
        } else {
            self.metrics.malformed += 1;
            self.push_gap(kind, envelope.sid, n, n);
        }
    }

    fn push_gap(&mut self, kind: Kind, sid: Option<i64>, due: u64, n: u64) {
        let (expected, received) = (i64::try_from(due).ok(), i64::try_from(n).ok());
        let sid = sid.unwrap_or_default();
        self.push(Event::Gap { channel: channel_of(kind), sid, expected, received });
    }

    /// Takes a message of your account. The first one confirms the subscription: from then on every
    /// message comes, or a gap is reported.
    fn own(
        &mut self,
        kind: Kind,
        account: String,
        envelope: &Envelope,
        payload: &[u8],
        now: Duration,
    ) {
        if self.is_ended {
            return;
        }
        let until = now.saturating_add(self.config.grace);
        let key = (kind, account);
        let stream = self.streams.entry(key.clone()).or_insert_with(|| Stream::new(true));
        let is_alive = envelope.flags.contains(Flags::ALIVE);
        if !stream.is_subscribed {
            stream.is_subscribed = true;
            stream.has_joined = false;
            // What came before is for a reconciliation, which begins after the confirmation.
            stream.n = if is_alive { envelope.n } else { envelope.n.saturating_sub(1) };
            let sid = envelope.sid.unwrap_or_default();
            self.push(Event::Subscribed { channel: channel_of(kind), sid });
        } else if is_alive && envelope.n > stream.n {
            let announced = stream.announced.filter(|(n, _)| *n >= envelope.n);
            stream.announced = announced.or(Some((envelope.n, until)));
        }
        if !is_alive {
            let (kind, account) = key;
            self.stream(kind, account, envelope, payload);
        }
    }

    /// Reports announced messages of your account that have not come.
    fn find_late(&mut self, now: Duration) {
        let mut late = Vec::new();
        for ((kind, _), stream) in &mut self.streams {
            let Some((announced, until)) = stream.announced else { continue };
            if announced <= stream.n {
                stream.announced = None;
            } else if now >= until {
                stream.announced = None;
                late.push((*kind, stream.n + 1, announced));
                stream.n = announced;
            }
        }
        for (kind, due, announced) in late {
            self.push_gap(kind, None, due, announced);
        }
    }

    /// Decodes a frame as a connection does. What it does not know is kept.
    fn decode(&mut self, payload: &[u8], received: UnixMillis) -> Option<Event> {
        let text = str::from_utf8(payload).ok()?;
        match self.decoder.decode(text, received) {
            Frame::Message(message) => Some(Event::Message(message)),
            _ => None,
        }
    }

    /// Makes the book of a market unreadable until its next snapshot.
    fn make_stale(&mut self, ticker: &str, cause: UncoveredCause, now: Duration) {
        let due = now.saturating_add((self.jitter)());
        let Some(market) = self.markets.get_mut(ticker) else { return };
        let was_live = market.is_live();
        let floor = market.floor;
        let announced = market.announced;
        // The buffer of one that waits stays.
        if was_live {
            *market = Market::waiting(due);
            // What was applied is not shown again without what was lost.
            market.floor = floor;
            market.announced = announced;
            self.metrics.stale += 1;
            let items = vec![ticker.to_owned()];
            self.push(Event::Uncovered { channel: Channel::OrderbookDelta, items, cause });
        }
    }

    fn void_all(&mut self, reason: DisconnectReason, now: Duration) {
        self.push(Event::Disconnected { reason });
        self.void_all_silently(now);
    }

    fn void_all_silently(&mut self, now: Duration) {
        for market in self.markets.values_mut() {
            if market.is_live() {
                self.metrics.stale += 1;
            }
            *market = Market::waiting(now.saturating_add((self.jitter)()));
        }
    }
}

impl Market {
    const fn waiting(due: Duration) -> Self {
        Self {
            state: State::Waiting(due),
            buffer: BTreeMap::new(),
            candidate: None,
            floor: 0,
            announced: None,
            check: None,
        }
    }

    const fn is_live(&self) -> bool {
        matches!(self.state, State::Live(_))
    }

    fn announce(&mut self, n: u64, until: Duration) {
        if self.announced.is_none_or(|(announced, _)| announced < n) {
            self.announced = Some((n, until));
        }
    }
}

/// The channel that a direct connection has a kind of data from.
const fn channel_of(kind: Kind) -> Channel {
    match kind {
        Kind::Book => Channel::OrderbookDelta,
        Kind::Trade => Channel::Trade,
        Kind::Ticker => Channel::Ticker,
        Kind::Status => Channel::MarketLifecycleV2,
        Kind::Fill => Channel::Fill,
        Kind::Order => Channel::UserOrders,
        Kind::Position => Channel::MarketPositions,
    }
}

fn book_ticker(event: &Event) -> Option<&str> {
    let Event::Message(message) = event else { return None };
    match &message.payload {
        Payload::OrderbookDelta(delta) => Some(delta.market.ticker()),
        Payload::OrderbookSnapshot(snapshot) => Some(&snapshot.market_ticker),
        _ => None,
    }
}

fn snapshot_hash(event: &Event) -> Option<u64> {
    let Event::Message(message) = event else { return None };
    let Payload::OrderbookSnapshot(snapshot) = &message.payload else { return None };
    OrderBook::from_snapshot(snapshot).ok().as_ref().map(hash_levels)
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("epoch", &self.epoch)
            .field("markets", &self.markets.len())
            .field("books", &self.books)
            .finish_non_exhaustive()
    }
}
