//! The publisher: frames of one connection in, messages for the bus out.
//!
//! Pure: no socket and no clock. The session of `kalshi-ws` reads the frames, so that gaps are found
//! as a connection finds them, and its books decide when a follower may read. It refuses to publish
//! what is private: requests for quotes, the client order ids that the exchange puts into the changes
//! of your own orders, and, unless the settings name the account, fills, orders and positions.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use kalshi_types::UnixMillis;
use kalshi_ws::{
    BookChange, BookState, Books, Channel, DisconnectReason, Event, MESSAGE_KINDS, Malformed,
    Message, Payload, PriceConvention, Replay, Sid, Unknown,
};
use serde::Deserialize;

use crate::{
    control::Control,
    envelope::{BusMessage, Envelope, Epoch, Flags, MESSAGE_ID},
    frame::written,
    levels::{hash_levels, snapshot_frame},
    subject::{Kind, SubjectError, Subjects, escape},
};

/// The frames, and their bytes, that wait for the confirmation of their subscription.
const MAX_HELD: usize = 10_000;
const MAX_HELD_BYTES: usize = 64 << 20;

/// The heartbeats that name the last number of a book, at least.
const ANNOUNCEMENTS: u32 = 3;

/// The tickers that one heartbeat names; the rest is in further ones.
const MAX_HEARTBEAT: usize = 4_000;

const KINDS: usize = Kind::ALL.len() + Kind::OWN.len();

/// The settings of a publisher.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublisherConfig {
    /// The name of the environment in subjects, such as `demo`.
    pub environment: String,
    /// The id of the publisher, which no other has.
    pub id: String,
    /// The number of shards.
    pub shards: u16,
    /// The number of messages that may wait for the bus: beyond it, order books are conflated.
    pub window: usize,
    /// The age of the oldest message without an acknowledgement beyond which books are conflated.
    pub behind_after: Duration,
    /// The age at which a message without an acknowledgement counts as lost.
    pub publish_timeout: Duration,
    /// The time between two snapshots of a book.
    pub snapshot_interval: Duration,
    /// The number of changes between two snapshots of a book.
    pub snapshot_deltas: u32,
    /// The time between two heartbeats.
    pub heartbeat: Duration,
    /// The time for which heartbeats name the last number of a book after its last change, in at
    /// least three of them: one that is lost is made up for by the next. Longer than
    /// [`FollowerConfig::stale_after`](crate::FollowerConfig::stale_after).
    pub announce_for: Duration,
    /// The name under which fills, orders and positions of your account are published. `None`, the
    /// default, publishes nothing of them.
    ///
    /// They are private: the bus must let only your processes read `kx.v1.{env}.own.>`.
    pub account: Option<String>,
}

impl PublisherConfig {
    /// Returns the settings of a publisher: 4 shards, a window of 4,096 messages, snapshots every
    /// 30 seconds or 1,000 changes, a heartbeat every 5 seconds that names the books of the last 20.
    pub fn new(environment: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            environment: environment.into(),
            id: id.into(),
            shards: 4,
            window: 4_096,
            behind_after: Duration::from_millis(200),
            publish_timeout: Duration::from_secs(10),
            snapshot_interval: Duration::from_secs(30),
            snapshot_deltas: 1_000,
            heartbeat: Duration::from_secs(5),
            announce_for: Duration::from_secs(20),
            account: None,
        }
    }
}

/// The counts of a publisher since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherMetrics {
    /// Messages that were given to the bus.
    pub published: u64,
    /// Changes of books that are in a snapshot instead of a message, because the bus was behind.
    pub conflated: u64,
    /// Messages without a snapshot (trades, tickers, status) that the bus was too slow for. Their
    /// subjects have a reset in their place.
    pub lost: u64,
    /// Messages that the bus refused or did not acknowledge in time.
    pub failed: u64,
    /// Resets that were published.
    pub resets: u64,
    /// Snapshots that were published.
    pub snapshots: u64,
    /// Frames that have no public subject: what is private, what is of no market, and what does not
    /// read.
    pub unpublished: u64,
}

/// A message for the bus. Report its end by [`Publisher::acknowledged`] or [`Publisher::failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The number by which its end is reported.
    pub token: u64,
    /// The message.
    pub message: BusMessage,
}

/// Turns the frames of a connection into messages for the bus.
///
/// Feed it by [`frame`](Self::frame), [`sent`](Self::sent) and
/// [`disconnected`](Self::disconnected), as a [`Tap`](kalshi_ws::Tap) sees them, and take what is to be published by [`next`](Self::next). It
/// publishes only while it [leads](Self::lead).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_fanout::{Publisher, PublisherConfig};
/// use kalshi_types::UnixMillis;
///
/// let now = Duration::ZERO;
/// let mut publisher = Publisher::new(PublisherConfig::new("demo", "a"))?;
/// publisher.lead(1, Duration::from_secs(10), now);
/// for frame in [
///     r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
///     r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","yes_dollars_fp":[["0.40","10.00"]]}}"#,
/// ] {
///     publisher.frame(frame, UnixMillis::EPOCH, now);
/// }
/// let mut subjects = Vec::new();
/// while let Some(publication) = publisher.next(UnixMillis::EPOCH, now) {
///     subjects.push(publication.message.subject);
///     publisher.acknowledged(publication.token);
/// }
/// assert!(subjects.contains(&"kx.v1.demo.snap.A".to_owned()));
/// # Ok::<(), kalshi_fanout::subject::SubjectError>(())
/// ```
pub struct Publisher {
    config: PublisherConfig,
    subjects: Subjects,
    control: String,
    replay: Replay,
    books: Books,
    events: Vec<Event>,
    held: VecDeque<Held>,
    held_bytes: usize,
    is_connected: bool,
    lease: Option<Lease>,
    /// Term and number of the last epoch that began: none is ever used twice.
    last_epoch: (u64, u64),
    epoch: Option<Epoch>,
    /// The last epoch of this term that ended.
    ended: Option<Epoch>,
    /// Its end is to be published before anything else.
    is_end_due: bool,
    /// The kinds of your account that the connection is subscribed to.
    own: Vec<(Kind, Sid)>,
    /// Those that are to be reported to be alive.
    own_due: VecDeque<Kind>,
    markets: HashMap<Arc<str>, Market, RandomState>,
    /// The subjects without books.
    streams: [HashMap<Arc<str>, Stream, RandomState>; KINDS],
    /// Messages that are ready, oldest first.
    queue: VecDeque<Pending>,
    /// Markets whose followers must be told of a loss before anything else.
    urgent: VecDeque<Arc<str>>,
    /// Markets and subjects that the bus was too slow for.
    behind: VecDeque<(Kind, Arc<str>)>,
    /// Markets whose snapshots are due.
    snapshots_due: VecDeque<Arc<str>>,
    /// Markets by the time of their last snapshot.
    by_snapshot: VecDeque<Arc<str>>,
    in_flight: BTreeMap<u64, (Duration, Target)>,
    next_token: u64,
    heartbeat_due: Duration,
    /// Shards and tickers that are left of a heartbeat.
    heartbeat: VecDeque<Control>,
    metrics: PublisherMetrics,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    term: u64,
    until: Duration,
}

/// A frame that waits for the confirmation of its subscription.
struct Held {
    kind: &'static str,
    sid: Option<i64>,
    seq: Option<i64>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Messages go out.
    Nothing,
    /// The epoch begins for the market: a snapshot is due before its messages.
    Snapshot,
    /// A reset is due.
    Reset,
}

struct Market {
    ticker: Arc<str>,
    /// The ticker as a token of a subject.
    token: String,
    subject: String,
    snapshot_subject: String,
    id: String,
    n: u64,
    due: Due,
    /// Followers may have a book that they can read.
    is_live: bool,
    deltas: u32,
    snapshot_at: Duration,
    is_snapshot_due: bool,
    /// The time of the last number, while heartbeats name it.
    changed_at: Option<Duration>,
    /// The heartbeats that have named it.
    announcements: u32,
}

struct Stream {
    ticker: Arc<str>,
    /// The ticker as a token of a subject.
    token: String,
    subject: String,
    n: u64,
    is_behind: bool,
}

/// The part of the state that a message in flight belongs to.
#[derive(Clone, Debug)]
enum Target {
    Data(Kind, Arc<str>),
    Snapshot(Arc<str>),
    Control(Control),
    Heartbeat,
}

struct Pending {
    target: Target,
    message: BusMessage,
}

impl Publisher {
    /// Returns a publisher that does not lead yet.
    ///
    /// # Errors
    ///
    /// The environment, the id or the account is no token of a subject; see [`escape`].
    pub fn new(config: PublisherConfig) -> Result<Self, SubjectError> {
        let subjects = Subjects::new(&config.environment, config.shards)?;
        if let Some(account) = &config.account {
            escape(account)?;
        }
        let control = subjects.control(&config.id)?;
        Ok(Self {
            config,
            subjects,
            control,
            replay: Replay::new(PriceConvention::Yes),
            books: Books::new(),
            events: Vec::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            is_connected: false,
            lease: None,
            last_epoch: (0, 0),
            epoch: None,
            ended: None,
            is_end_due: false,
            own: Vec::new(),
            own_due: VecDeque::new(),
            markets: HashMap::default(),
            streams: <_>::default(),
            queue: VecDeque::new(),
            urgent: VecDeque::new(),
            behind: VecDeque::new(),
            snapshots_due: VecDeque::new(),
            by_snapshot: VecDeque::new(),
            in_flight: BTreeMap::new(),
            next_token: 0,
            heartbeat_due: Duration::ZERO,
            heartbeat: VecDeque::new(),
            metrics: PublisherMetrics::default(),
        })
    }

    /// Begins to publish under a term of the lease, or goes on until a later time.
    ///
    /// The term of the running lease changes the time only, and one before the last is ignored.
    /// `until` and `now` are of one monotonic clock, which all methods share; beyond `until` nothing
    /// is published.
    pub fn lead(&mut self, term: u64, until: Duration, now: Duration) {
        if let Some(lease) = &mut self.lease
            && lease.term == term
        {
            lease.until = until;
            return;
        }
        if term < self.last_epoch.0 {
            return;
        }
        self.stand_by();
        self.lease = Some(Lease { term, until });
        if self.is_connected {
            self.begin_epoch(now);
        }
    }

    /// Publishes no more, and goes on keeping the books: another publisher leads.
    pub fn stand_by(&mut self) {
        self.lease = None;
        self.epoch = None;
        self.ended = None;
        self.is_end_due = false;
        self.discard_queue();
    }

    /// Reports whether it publishes.
    pub fn leads(&self, now: Duration) -> bool {
        self.lease.is_some_and(|lease| now < lease.until)
    }

    /// Reports whether frames have come since the connection was lost last. One that is not
    /// connected should leave the lease to another.
    pub const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Returns the epoch that is being published.
    pub const fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    /// Returns the books of the connection.
    pub const fn books(&self) -> &Books {
        &self.books
    }

    /// Reports whether the bus is behind: changes are conflated until it has caught up.
    pub fn is_full(&self) -> bool {
        self.queue.len().saturating_add(self.in_flight.len()) >= self.config.window
    }

    /// Returns the number of the last message of a market's book in this epoch.
    pub fn last_number(&self, ticker: &str) -> Option<u64> {
        self.markets.get(ticker).map(|market| market.n)
    }

    /// Returns the counts since the beginning.
    pub const fn metrics(&self) -> PublisherMetrics {
        self.metrics
    }

    /// Takes a frame of the exchange, as it was received.
    pub fn frame(&mut self, text: &str, received: UnixMillis, now: Duration) {
        if !self.is_connected {
            self.is_connected = true;
            self.begin_epoch(now);
        }
        let mut events = std::mem::take(&mut self.events);
        self.replay.frame(text, received, |event| events.push(event));
        if events.is_empty() {
            self.hold(text);
        }
        for event in events.drain(..) {
            self.take_event(&event, Some(text), now);
        }
        self.events = events;
    }

    /// Takes a command that the connection sent, in its place among the frames: the book of a market
    /// that it takes out is void for followers, which no frame of the exchange says.
    pub fn sent(&mut self, text: &str, now: Duration) {
        let mut events = std::mem::take(&mut self.events);
        self.replay.sent(text, |event| events.push(event));
        for event in events.drain(..) {
            self.take_event(&event, None, now);
        }
        self.events = events;
    }

    /// Notes that the connection to the exchange was lost. The end of the epoch is published before
    /// anything else, also where the window is full: call [`next`](Self::next) before
    /// [`stand_by`](Self::stand_by).
    pub fn disconnected(&mut self, reason: &str) {
        let mut events = std::mem::take(&mut self.events);
        let reason = DisconnectReason::Failed(reason.to_owned());
        self.replay.disconnected(reason, |event| events.push(event));
        for event in events.drain(..) {
            self.books.apply(&event);
        }
        self.events = events;
        self.held.clear();
        self.held_bytes = 0;
        self.is_connected = false;
        self.own.clear();
        self.own_due.clear();
        if let Some(epoch) = self.epoch.take() {
            self.ended = Some(epoch);
            self.urgent.clear();
            self.behind.clear();
            self.snapshots_due.clear();
            self.heartbeat.clear();
            self.is_end_due = true;
        }
    }

    /// Returns the next message for the bus; `None` while nothing waits, while the window is full,
    /// and beyond the end of the lease.
    ///
    /// `wall` is the time of day, for the messages that come from no frame.
    pub fn next(&mut self, wall: UnixMillis, now: Duration) -> Option<Publication> {
        if self.lease.is_some() && !self.leads(now) {
            self.stand_by();
        }
        self.lease?;
        self.expire(now);
        if self.in_flight.len() >= self.config.window && !self.is_end_due {
            return None;
        }
        if now >= self.heartbeat_due && self.heartbeat.is_empty() {
            self.heartbeat_due = now.saturating_add(self.config.heartbeat);
            self.make_heartbeat(now);
        }
        let pending = self.next_pending(wall, now)?;
        let token = self.next_token;
        self.next_token += 1;
        self.in_flight.insert(token, (now, pending.target));
        self.metrics.published += 1;
        Some(Publication { token, message: pending.message })
    }

    /// Notes that the bus has taken a message.
    pub fn acknowledged(&mut self, token: u64) {
        self.in_flight.remove(&token);
    }

    /// Notes that the bus has refused a message, or that it is not known whether it has it. What it
    /// was about gets a reset and a snapshot.
    pub fn failed(&mut self, token: u64) {
        let Some((_, target)) = self.in_flight.remove(&token) else { return };
        self.metrics.failed += 1;
        if self.epoch.is_none() && !matches!(target, Target::Control(_)) {
            return;
        }
        match target {
            Target::Data(Kind::Book, ticker) => self.fall_behind(&ticker),
            Target::Data(kind, ticker) => {
                self.metrics.lost += 1;
                self.stream_behind(kind, &ticker);
            }
            Target::Snapshot(ticker) => self.snapshot_due(&ticker),
            // The heartbeats repeat what they say.
            Target::Control(Control::Began | Control::Ended) | Target::Heartbeat => {}
            Target::Control(control) => self.push_control(&control),
        }
    }

    /// Notes that the connection to the bus was lost: every book has a snapshot again, because the
    /// bus may have lost the last ones.
    pub fn bus_lost(&mut self) {
        if self.epoch.is_none() {
            return;
        }
        for market in self.markets.values_mut() {
            if market.is_live && !market.is_snapshot_due {
                market.is_snapshot_due = true;
                self.snapshots_due.push_back(Arc::clone(&market.ticker));
            }
        }
    }

    /// Takes an event of a connection whose frames are not at hand, such as one of
    /// [redundant feeds](kalshi_ws::RedundantFeed). Do not mix it with [`frame`](Self::frame).
    ///
    /// The payloads are written anew, with the fields that this version knows, and have the flag
    /// [`Flags::REDACTED`].
    pub fn event(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Message(_) | Event::Subscribed { .. } if !self.is_connected => {
                self.is_connected = true;
                self.begin_epoch(now);
            }
            Event::Disconnected { reason } => {
                self.books.apply(event);
                let reason = reason.to_string();
                return self.disconnected(&reason);
            }
            Event::Closed { .. } if self.is_connected => return self.disconnected("it was closed"),
            _ => {}
        }
        self.take_event(event, None, now);
    }

    fn take_event(&mut self, event: &Event, text: Option<&str>, now: Duration) {
        let change = self.books.apply(event);
        match event {
            Event::Message(message) => {
                let held = self.take_held(message);
                self.message(message, change, held.as_deref().or(text), now);
            }
            Event::Unknown(Unknown { sid, .. }) | Event::Malformed(Malformed { sid, .. }) => {
                self.metrics.unpublished += 1;
                // It may have been of your account, whose messages have no numbers.
                let may_be = |(_, own): &&(Kind, Sid)| sid.is_none_or(|sid| sid == *own);
                let lost: Vec<Kind> = self.own.iter().filter(may_be).map(|own| own.0).collect();
                for kind in lost {
                    self.own_lost(kind);
                }
            }
            Event::Subscribed { channel, sid } => self.own_subscribed(channel, *sid),
            Event::Unmatched(message) => {
                self.take_held(message);
                self.metrics.unpublished += 1;
            }
            Event::Gap { channel, expected, received, .. }
                if *channel != Channel::OrderbookDelta && own_kind(channel).is_none() =>
            {
                let channel = channel.to_string();
                let (expected, received) = (*expected, *received);
                self.push_control(&Control::Gap { channel, expected, received });
            }
            Event::Terminated { channel, .. }
            | Event::Unsubscribed { channel }
            | Event::Uncovered { channel, .. }
            | Event::Lagged { channel: Some(channel), .. }
            | Event::Gap { channel, .. }
                if own_kind(channel).is_some() =>
            {
                let Some(kind) = own_kind(channel) else { return };
                if matches!(event, Event::Unsubscribed { .. } | Event::Terminated { .. }) {
                    self.own.retain(|(own, _)| *own != kind);
                }
                self.own_lost(kind);
            }
            Event::Terminated { channel, .. }
            | Event::Unsubscribed { channel }
            | Event::Uncovered { channel, .. }
            | Event::Lagged { channel: Some(channel), .. }
                if *channel != Channel::OrderbookDelta =>
            {
                let channel = channel.to_string();
                self.push_control(&Control::Gap { channel, expected: None, received: None });
            }
            Event::Failover { .. } => {
                self.own_lost(Kind::Order);
                self.own_lost(Kind::Position);
                // What has no key may be missing in between.
                for channel in [
                    Channel::Ticker,
                    Channel::MarketLifecycleV2,
                    Channel::MultivariateMarketLifecycle,
                ] {
                    let channel = channel.to_string();
                    self.push_control(&Control::Gap { channel, expected: None, received: None });
                }
            }
            _ => {}
        }
        if matches!(change, BookChange::Voided | BookChange::Removed | BookChange::Corrupt(_)) {
            self.find_void();
        }
    }

    /// Notes that a channel of your account is subscribed to.
    fn own_subscribed(&mut self, channel: &Channel, sid: Sid) {
        let Some(kind) = own_kind(channel) else { return };
        if self.config.account.is_some() {
            self.own.retain(|(own, _)| *own != kind);
            self.own.push((kind, sid));
            self.own_due.push_back(kind);
        }
    }

    /// Puts a reset in the place of messages of your account that were lost.
    fn own_lost(&mut self, kind: Kind) {
        if self.epoch.is_some()
            && let Some(account) = self.config.account.clone()
            && self.stream(kind, &account).is_ok()
        {
            self.stream_behind(kind, &account);
        }
    }

    /// Makes the next report that a subject of your account is alive, with its last number.
    fn own_alive(&mut self, wall: UnixMillis) -> Option<Pending> {
        let (epoch, account) = (self.epoch.clone()?, self.config.account.clone()?);
        let kind = self.own_due.pop_front()?;
        let subject = self.subjects.data(kind, &account).ok()?;
        let streams = streams_of(&mut self.streams, kind);
        let stream = streams.get(&*account);
        // A reset is due, and says more.
        if stream.is_some_and(|stream| stream.is_behind) {
            return None;
        }
        let n = stream.map_or(0, |stream| stream.n);
        let envelope = Envelope::without_frame(epoch, n, wall, Flags::ALIVE);
        let headers = envelope.to_headers();
        let message = BusMessage { subject, headers, payload: Bytes::new() };
        Some(Pending { target: Target::Heartbeat, message })
    }

    /// Marks the markets whose books became void.
    fn find_void(&mut self) {
        for (ticker, market) in &mut self.markets {
            let is_void = matches!(self.books.state(ticker), BookState::Void | BookState::Absent);
            if market.is_live && is_void {
                market.is_live = false;
                if self.epoch.is_some() && market.due != Due::Reset {
                    market.due = Due::Reset;
                    self.urgent.push_back(Arc::clone(ticker));
                }
            }
        }
    }

    fn message(
        &mut self,
        message: &Message,
        change: BookChange,
        text: Option<&str>,
        now: Duration,
    ) {
        let (kind, ticker) = match &message.payload {
            Payload::OrderbookDelta(delta) => (Kind::Book, delta.market.ticker()),
            Payload::OrderbookSnapshot(snapshot) => (Kind::Book, &*snapshot.market_ticker),
            Payload::Trade(trade) => (Kind::Trade, &*trade.market_ticker),
            Payload::Ticker(ticker) => (Kind::Ticker, &*ticker.market_ticker),
            Payload::MarketLifecycleV2(market) => (Kind::Status, &*market.market_ticker),
            Payload::MarketMetadataUpdated(market) => (Kind::Status, &*market.market_ticker),
            Payload::MultivariateMarketLifecycle(market) => (Kind::Status, &*market.market_ticker),
            Payload::EventLifecycle(event) => (Kind::Status, &*event.event_ticker),
            Payload::EventFeeUpdate(event) => (Kind::Status, &*event.event_ticker),
            private => {
                let kind = match private {
                    Payload::Fill(_) => Some(Kind::Fill),
                    Payload::UserOrder(_) => Some(Kind::Order),
                    Payload::MarketPosition(_) => Some(Kind::Position),
                    _ => None,
                };
                let published = kind
                    .zip(self.config.account.clone())
                    .map(|(kind, account)| self.stream_message(message, kind, &account, text, now));
                if !matches!(published, Some(Ok(()))) {
                    self.metrics.unpublished += 1;
                }
                return;
            }
        };
        let published = match kind {
            Kind::Book => self.book_message(message, ticker, change, text, now),
            _ => self.stream_message(message, kind, ticker, text, now),
        };
        // The ticker is no token of a subject.
        if published.is_err() {
            self.metrics.unpublished += 1;
        }
    }

    fn book_message(
        &mut self,
        message: &Message,
        ticker: &str,
        change: BookChange,
        text: Option<&str>,
        now: Duration,
    ) -> Result<(), SubjectError> {
        let is_behind = self.is_behind(now);
        if !self.markets.contains_key(ticker) {
            let ticker: Arc<str> = ticker.into();
            let market = Market::new(&self.subjects, Arc::clone(&ticker), now)?;
            self.by_snapshot.push_back(Arc::clone(&ticker));
            self.markets.insert(ticker, market);
        }
        let Some(market) = self.markets.get_mut(ticker) else { return Ok(()) };
        let mut flags = Flags::default();
        let mut private = None;
        match &message.payload {
            Payload::OrderbookSnapshot(snapshot) => {
                flags = Flags::SNAPSHOT;
                market.id.clone_from(&snapshot.market_id);
            }
            Payload::OrderbookDelta(delta) if delta.own.is_some() => private = Some(delta),
            _ => {}
        }
        match change {
            BookChange::Replaced => market.is_live = true,
            BookChange::Updated => {}
            // The change that contradicts the book has a reset in its place.
            BookChange::Corrupt(_) => return Ok(()),
            _ => flags = flags.with(Flags::MAYBE_BAD),
        }
        let Some(epoch) = &self.epoch else { return Ok(()) };
        if market.due != Due::Nothing {
            self.metrics.conflated += 1;
            return Ok(());
        }
        if is_behind {
            self.metrics.conflated += 1;
            self.fall_behind(ticker);
            return Ok(());
        }
        let payload = match (private, text) {
            (None, Some(text)) => Bytes::copy_from_slice(text.as_bytes()),
            (private, _) => {
                flags = flags.with(Flags::REDACTED);
                let public = private.map(|delta| {
                    let mut delta = delta.clone();
                    delta.own = None;
                    delta
                });
                written(message, public.as_ref()).unwrap_or_default().into()
            }
        };
        market.advance(now);
        market.deltas = market.deltas.saturating_add(1);
        let is_snapshot_due =
            change == BookChange::Replaced || market.deltas >= self.config.snapshot_deltas;
        let envelope = Envelope {
            epoch: epoch.clone(),
            n: market.n,
            seq: message.seq,
            sid: message.sid,
            received: message.received,
            flags,
            hash: None,
        };
        let message = with_id(&market.subject, &envelope, Kind::Book, &market.token, payload);
        let target = Target::Data(Kind::Book, Arc::clone(&market.ticker));
        self.queue.push_back(Pending { target, message });
        if is_snapshot_due {
            self.snapshot_due(ticker);
        }
        Ok(())
    }

    fn stream_message(
        &mut self,
        message: &Message,
        kind: Kind,
        ticker: &str,
        text: Option<&str>,
        now: Duration,
    ) -> Result<(), SubjectError> {
        let is_behind = self.is_behind(now);
        let Some(epoch) = self.epoch.clone() else { return Ok(()) };
        let stream = self.stream(kind, ticker)?;
        if is_behind || stream.is_behind {
            self.metrics.lost += 1;
            self.stream_behind(kind, ticker);
            return Ok(());
        }
        stream.n += 1;
        let envelope = Envelope {
            epoch,
            n: stream.n,
            seq: message.seq,
            sid: message.sid,
            received: message.received,
            flags: if text.is_some() { Flags::default() } else { Flags::REDACTED },
            hash: None,
        };
        let payload = match text {
            Some(text) => Bytes::copy_from_slice(text.as_bytes()),
            None => written(message, None).unwrap_or_default().into(),
        };
        let message = with_id(&stream.subject, &envelope, kind, &stream.token, payload);
        let target = Target::Data(kind, Arc::clone(&stream.ticker));
        self.queue.push_back(Pending { target, message });
        Ok(())
    }

    /// Returns the numbers of a subject without books.
    fn stream(&mut self, kind: Kind, ticker: &str) -> Result<&mut Stream, SubjectError> {
        let streams = streams_of(&mut self.streams, kind);
        if !streams.contains_key(ticker) {
            let (token, subject) = (escape(ticker)?, self.subjects.data(kind, ticker)?);
            let key: Arc<str> = ticker.into();
            let stream =
                Stream { ticker: Arc::clone(&key), token, subject, n: 0, is_behind: false };
            streams.insert(key, stream);
        }
        streams.get_mut(ticker).ok_or(SubjectError::Empty)
    }

    fn is_behind(&self, now: Duration) -> bool {
        let oldest = self.in_flight.first_key_value().map(|(_, (at, _))| *at);
        self.is_full() || oldest.is_some_and(|at| now.saturating_sub(at) > self.config.behind_after)
    }

    fn fall_behind(&mut self, ticker: &str) {
        if let Some(market) = self.markets.get_mut(ticker)
            && market.due == Due::Nothing
        {
            market.due = Due::Reset;
            self.behind.push_back((Kind::Book, Arc::clone(&market.ticker)));
        }
    }

    fn stream_behind(&mut self, kind: Kind, ticker: &str) {
        if let Some(stream) = streams_of(&mut self.streams, kind).get_mut(ticker)
            && !stream.is_behind
        {
            stream.is_behind = true;
            self.behind.push_back((kind, Arc::clone(&stream.ticker)));
        }
    }

    fn snapshot_due(&mut self, ticker: &str) {
        if let Some(market) = self.markets.get_mut(ticker)
            && !market.is_snapshot_due
        {
            market.is_snapshot_due = true;
            self.snapshots_due.push_back(Arc::clone(&market.ticker));
        }
    }

    /// Begins an epoch: all numbers start over, and every market that can be read has a snapshot.
    fn begin_epoch(&mut self, now: Duration) {
        let Some(Lease { term, .. }) = self.lease else { return };
        let (last_term, last_number) = self.last_epoch;
        let number = if term == last_term { last_number + 1 } else { 1 };
        self.last_epoch = (term, number);
        if self.is_behind(now) {
            self.discard_queue();
        }
        self.epoch = Some(Epoch { term, number, publisher: self.config.id.clone() });
        self.ended = None;
        self.is_end_due = false;
        self.streams.iter_mut().for_each(HashMap::clear);
        self.urgent.clear();
        self.behind.clear();
        self.snapshots_due.clear();
        let books = &self.books;
        self.markets.retain(|ticker, _| books.state(ticker) != BookState::Absent);
        let markets = &self.markets;
        self.by_snapshot.retain(|ticker| markets.contains_key(ticker));
        for (ticker, market) in &mut self.markets {
            market.n = 0;
            market.deltas = 0;
            market.changed_at = None;
            market.is_live = self.books.state(ticker) != BookState::Void;
            market.is_snapshot_due = market.is_live;
            market.due = Due::Nothing;
            if market.is_live {
                market.due = Due::Snapshot;
                self.snapshots_due.push_back(Arc::clone(ticker));
            }
        }
        self.push_control(&Control::Began);
        self.heartbeat_due = now;
        self.heartbeat.clear();
    }

    fn discard_queue(&mut self) {
        for pending in self.queue.drain(..) {
            match pending.target {
                Target::Data(Kind::Book, _) => self.metrics.conflated += 1,
                Target::Data(..) => self.metrics.lost += 1,
                _ => {}
            }
        }
        self.urgent.clear();
        self.behind.clear();
        self.snapshots_due.clear();
        self.heartbeat.clear();
        self.in_flight.clear();
    }

    /// Counts messages as failed that the bus has not acknowledged for too long.
    fn expire(&mut self, now: Duration) {
        while let Some((&token, &(at, _))) = self.in_flight.first_key_value()
            && now.saturating_sub(at) >= self.config.publish_timeout
        {
            self.failed(token);
        }
    }

    fn next_pending(&mut self, wall: UnixMillis, now: Duration) -> Option<Pending> {
        if std::mem::take(&mut self.is_end_due) {
            let target = Target::Control(Control::Ended);
            return self.control_message(&Control::Ended, target, wall);
        }
        if let Some(control) = self.heartbeat.pop_front() {
            let target = match control {
                Control::Heartbeat { .. } => Target::Heartbeat,
                _ => Target::Control(control.clone()),
            };
            return self.control_message(&control, target, wall);
        }
        while let Some(ticker) = self.urgent.pop_front() {
            if let Some(reset) = self.reset(&ticker, wall, now) {
                return Some(reset);
            }
        }
        if let Some(pending) = self.queue.pop_front() {
            return Some(pending);
        }
        for _ in 0..self.own_due.len() {
            if let Some(alive) = self.own_alive(wall) {
                return Some(alive);
            }
        }
        if self.in_flight.len() < self.config.window.div_ceil(2) {
            while let Some((kind, ticker)) = self.behind.pop_front() {
                let reset = match kind {
                    Kind::Book => self.reset(&ticker, wall, now),
                    kind => self.stream_reset(kind, &ticker, wall),
                };
                if reset.is_some() {
                    return reset;
                }
            }
        }
        self.epoch.as_ref()?;
        for _ in 0..self.snapshots_due.len() {
            let ticker = self.snapshots_due.pop_front()?;
            match self.snapshot(&ticker, wall, now) {
                Some(snapshot) => return Some(snapshot),
                // A change of several messages is under way: a moment later.
                None if self.books.state(&ticker) == BookState::Crossed => {
                    self.snapshots_due.push_back(ticker);
                }
                None => {
                    if let Some(market) = self.markets.get_mut(&ticker) {
                        market.is_snapshot_due = false;
                        if market.due == Due::Snapshot {
                            market.due = Due::Nothing;
                        }
                    }
                }
            }
        }
        for _ in 0..self.by_snapshot.len() {
            let market = self.markets.get(self.by_snapshot.front()?)?;
            if now.saturating_sub(market.snapshot_at) < self.config.snapshot_interval {
                break;
            }
            let ticker = self.by_snapshot.pop_front()?;
            if let Some(market) = self.markets.get_mut(&ticker) {
                market.snapshot_at = now;
            }
            self.by_snapshot.push_back(Arc::clone(&ticker));
            if let Some(snapshot) = self.snapshot(&ticker, wall, now) {
                return Some(snapshot);
            }
        }
        None
    }

    fn reset(&mut self, ticker: &Arc<str>, wall: UnixMillis, now: Duration) -> Option<Pending> {
        let epoch = self.epoch.clone()?;
        let market = self.markets.get_mut(ticker)?;
        market.due = Due::Nothing;
        market.advance(now);
        self.metrics.resets += 1;
        let envelope = Envelope::without_frame(epoch, market.n, wall, Flags::RESET);
        let message = with_id(&market.subject, &envelope, Kind::Book, &market.token, Bytes::new());
        if market.is_live {
            self.snapshot_due(ticker);
        }
        Some(Pending { target: Target::Data(Kind::Book, Arc::clone(ticker)), message })
    }

    fn stream_reset(&mut self, kind: Kind, ticker: &Arc<str>, wall: UnixMillis) -> Option<Pending> {
        let epoch = self.epoch.clone()?;
        let stream = streams_of(&mut self.streams, kind).get_mut(ticker)?;
        stream.is_behind = false;
        stream.n += 1;
        self.metrics.resets += 1;
        let envelope = Envelope::without_frame(epoch, stream.n, wall, Flags::RESET);
        let message = with_id(&stream.subject, &envelope, kind, &stream.token, Bytes::new());
        Some(Pending { target: Target::Data(kind, Arc::clone(ticker)), message })
    }

    fn snapshot(&mut self, ticker: &Arc<str>, wall: UnixMillis, now: Duration) -> Option<Pending> {
        let epoch = self.epoch.clone()?;
        let market = self.markets.get_mut(ticker)?;
        // What a reset is due for has its snapshot after it.
        if market.due == Due::Reset {
            return None;
        }
        let book = self.books.get(ticker)?;
        let payload = snapshot_frame(ticker, &market.id, self.books.clock(ticker), book)?;
        market.due = Due::Nothing;
        market.is_snapshot_due = false;
        market.deltas = 0;
        market.snapshot_at = now;
        self.metrics.snapshots += 1;
        let envelope = Envelope {
            hash: Some(hash_levels(book)),
            ..Envelope::without_frame(epoch, market.n, wall, Flags::SNAPSHOT)
        };
        let subject = market.snapshot_subject.clone();
        let message =
            BusMessage { subject, headers: envelope.to_headers(), payload: payload.into() };
        Some(Pending { target: Target::Snapshot(Arc::clone(ticker)), message })
    }

    fn make_heartbeat(&mut self, now: Duration) {
        if self.epoch.is_none() {
            if self.ended.is_some() {
                self.heartbeat.push_back(Control::Ended);
            }
            return;
        }
        self.own_due = self.own.iter().map(|(kind, _)| *kind).collect();
        let shards = usize::from(self.config.shards.max(1));
        let mut changed: Vec<Vec<(String, u64)>> = vec![Vec::new(); shards];
        for (ticker, market) in &mut self.markets {
            if market.announce(self.config.announce_for, now)
                && let Some(of_shard) = changed.get_mut(usize::from(self.subjects.shard(ticker)))
            {
                of_shard.push((ticker.to_string(), market.n));
            }
        }
        for (shard, last) in (0..).zip(changed) {
            let parts = last.chunks(MAX_HEARTBEAT).map(<[_]>::to_vec);
            let empty = last.is_empty().then(Vec::new);
            let parts = parts.chain(empty);
            self.heartbeat.extend(parts.map(|last| Control::Heartbeat { shard, last }));
        }
    }

    fn push_control(&mut self, control: &Control) {
        let target = Target::Control(control.clone());
        if let Some(pending) = self.control_message(control, target, UnixMillis::EPOCH) {
            self.queue.push_back(pending);
        }
    }

    fn control_message(
        &self,
        control: &Control,
        target: Target,
        received: UnixMillis,
    ) -> Option<Pending> {
        let epoch = self.epoch.clone().or_else(|| self.ended.clone())?;
        let envelope = Envelope::without_frame(epoch, 0, received, Flags::default());
        let payload = serde_json::to_vec(control).ok()?.into();
        let subject = self.control.clone();
        let message = BusMessage { subject, headers: envelope.to_headers(), payload };
        Some(Pending { target, message })
    }

    /// Keeps a frame that gave no event, in case it waits for the confirmation of its subscription.
    fn hold(&mut self, text: &str) {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
            sid: Option<i64>,
            seq: Option<i64>,
        }
        let Ok(Head { kind, sid, seq }) = serde_json::from_str(text) else { return };
        // A reply, which waits for nothing, has no kind of message.
        let Some(kind) = MESSAGE_KINDS.iter().map(|it| it.name).find(|name| *name == kind) else {
            return;
        };
        if sid.is_none() {
            return;
        }
        self.held_bytes = self.held_bytes.saturating_add(text.len());
        self.held.push_back(Held { kind, sid, seq, text: text.to_owned() });
        while self.held.len() > MAX_HELD || self.held_bytes > MAX_HELD_BYTES {
            let Some(oldest) = self.held.pop_front() else { break };
            self.held_bytes = self.held_bytes.saturating_sub(oldest.text.len());
        }
    }

    /// Returns the frame of a message that waited.
    fn take_held(&mut self, message: &Message) -> Option<String> {
        if self.held.is_empty() {
            return None;
        }
        // A channel without numbers has nothing but the kind to tell its frames by.
        let is_of = |held: &Held| {
            held.sid == message.sid
                && held.seq == message.seq
                && held.kind == message.payload.kind()
        };
        let Some(at) = self.held.iter().position(is_of) else {
            // The subscription is confirmed: nothing that is left of it waits.
            self.held.retain(|held| held.sid != message.sid);
            self.held_bytes = self.held.iter().map(|held| held.text.len()).sum();
            return None;
        };
        let held = self.held.remove(at)?;
        self.held_bytes = self.held_bytes.saturating_sub(held.text.len());
        Some(held.text)
    }
}

impl Market {
    /// Gives the next number out.
    const fn advance(&mut self, now: Duration) {
        self.n += 1;
        self.changed_at = Some(now);
        self.announcements = 0;
    }

    /// Reports whether the heartbeat of this moment names the last number.
    fn announce(&mut self, at_least: Duration, now: Duration) -> bool {
        let is_named = self.changed_at.is_some_and(|at| {
            self.announcements < ANNOUNCEMENTS || now.saturating_sub(at) <= at_least
        });
        if is_named {
            self.announcements = self.announcements.saturating_add(1);
        } else {
            self.changed_at = None;
        }
        is_named
    }

    fn new(subjects: &Subjects, ticker: Arc<str>, now: Duration) -> Result<Self, SubjectError> {
        Ok(Self {
            token: escape(&ticker)?,
            subject: subjects.data(Kind::Book, &ticker)?,
            snapshot_subject: subjects.snapshot(&ticker)?,
            ticker,
            id: String::new(),
            n: 0,
            due: Due::Nothing,
            is_live: false,
            deltas: 0,
            snapshot_at: now,
            is_snapshot_due: false,
            changed_at: None,
            announcements: 0,
        })
    }
}

fn streams_of<T>(streams: &mut [T; KINDS], kind: Kind) -> &mut T {
    let [book, trade, ticker, status, fill, order, position] = streams;
    match kind {
        Kind::Book => book,
        Kind::Trade => trade,
        Kind::Ticker => ticker,
        Kind::Status => status,
        Kind::Fill => fill,
        Kind::Order => order,
        Kind::Position => position,
    }
}

/// The kind of your account's data that a channel has.
pub(crate) fn own_kind(channel: &Channel) -> Option<Kind> {
    match channel {
        Channel::Fill => Some(Kind::Fill),
        Channel::UserOrders => Some(Kind::Order),
        Channel::MarketPositions => Some(Kind::Position),
        _ => None,
    }
}

fn with_id(
    subject: &str,
    envelope: &Envelope,
    kind: Kind,
    token: &str,
    payload: Bytes,
) -> BusMessage {
    let mut headers = envelope.to_headers();
    let (epoch, n) = (&envelope.epoch, envelope.n);
    headers.push((MESSAGE_ID.to_owned(), format!("{epoch}:{kind}:{token}:{n}")));
    BusMessage { subject: subject.to_owned(), headers, payload }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("epoch", &self.epoch)
            .field("markets", &self.markets.len())
            .field("queued", &self.queue.len())
            .field("in_flight", &self.in_flight.len())
            .finish_non_exhaustive()
    }
}
