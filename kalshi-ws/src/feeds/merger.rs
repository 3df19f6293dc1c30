//! The merger of several feeds. Pure: events go in and come out, without sockets and clocks.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use super::{
    DEFAULT_WINDOW, MAX_FEEDS,
    keyed::{Keyed, Verdict},
    market::{Link, Loss, Market},
    output::{MergeMetrics, Output},
};
use crate::{
    book::{BookChange, Books},
    error::CommandError,
    event::{DisconnectReason, Event, Refusal, TerminationReason, UncoveredCause},
    generated::{Channel, Payload},
    protocol::message::{Message, Sid, message_kind},
};

/// Merges the events of several feeds into one stream with one set of order books.
///
/// Pure: it has no sockets and no clock, and it never waits. A
/// [`RedundantFeed`](crate::RedundantFeed) runs one over connections; with [`Replay`](crate::Replay)
/// one merges frames that come from anywhere, such as another machine. The [`guide`](crate::guide)
/// says what is guaranteed.
///
/// # Examples
///
/// ```
/// use kalshi_types::UnixMillis;
/// use kalshi_ws::{Merger, PriceConvention, Replay};
///
/// let frames = [
///     r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
///     r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","clock":7,"yes_dollars_fp":[["0.40","10.00"]]}}"#,
/// ];
/// let mut merger = Merger::new(2)?;
/// for feed in 0..2 {
///     let mut replay = Replay::new(PriceConvention::Yes);
///     for frame in frames {
///         replay.frame(frame, UnixMillis::EPOCH, |event| {
///             merger.push(feed, event).unwrap();
///         });
///     }
/// }
/// while let Some(event) = merger.next_event() {
///     println!("{event:?}");
/// }
/// assert!(merger.books().get("A").is_some());
/// # Ok::<(), kalshi_ws::CommandError>(())
/// ```
pub struct Merger {
    feeds: Vec<Feed>,
    links: Vec<Link>,
    leader: Option<usize>,
    markets: HashMap<Arc<str>, Market, RandomState>,
    trades: Keyed,
    fills: Keyed,
    out: Output,
    books: Books,
}

#[derive(Clone, Default)]
struct Feed {
    /// The confirmed subscriptions.
    channels: Vec<(Channel, Sid)>,
    is_closed: bool,
}

/// A snapshot that a merger needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotRequest {
    /// The feed that is to send it, by its place.
    pub feed: usize,
    /// The market.
    pub ticker: String,
}

impl Merger {
    /// Returns a merger of this number of feeds, 1 to 8. The first one leads.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] for another number.
    pub fn new(feeds: usize) -> Result<Self, CommandError> {
        if feeds == 0 || feeds > MAX_FEEDS {
            return Err(CommandError::Invalid("one to eight feeds can be merged"));
        }
        let mut out = Output::default();
        out.metrics.first = vec![0; feeds];
        Ok(Self {
            feeds: vec![Feed::default(); feeds],
            links: vec![Link { is_up: true, connection: 0 }; feeds],
            leader: Some(0),
            markets: HashMap::default(),
            trades: Keyed::new(feeds, DEFAULT_WINDOW),
            fills: Keyed::new(feeds, DEFAULT_WINDOW),
            out,
            books: Books::new(),
        })
    }

    /// Sets the number of trades, and of fills, that are remembered so that none comes twice; 65,536
    /// by default. A feed that trails by more brings nothing new until it has caught up.
    #[must_use]
    pub fn with_window(mut self, window: usize) -> Self {
        self.trades.set_window(window);
        self.fills.set_window(window);
        self
    }

    /// Takes in the next event of a feed. What it leads to are the [next
    /// events](Self::next_event); they should be taken before the next event goes in.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] if there is no such feed.
    #[inline]
    pub fn push(&mut self, feed: usize, event: Event) -> Result<(), CommandError> {
        let Some(link) = self.links.get(feed) else {
            return Err(CommandError::Invalid("there is no feed of this number"));
        };
        if !link.is_up {
            self.rise(feed, &event);
        }
        match event {
            Event::Message(message) => self.message(feed, message),
            other => self.control(feed, other),
        }
        Ok(())
    }

    /// Returns the next event of the merged stream, and applies it to the [books](Self::books).
    #[inline]
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.out.events.pop_front()?;
        if let BookChange::Corrupt(_) = self.books.apply(&event)
            && let Some(ticker) = event.message().and_then(|it| it.payload.market_ticker())
            && let Some(market) = self.markets.get_mut(ticker)
        {
            market.contradiction(&self.links, &mut self.out);
        }
        Some(event)
    }

    /// Returns the order books, as of the last event that was taken.
    pub const fn books(&self) -> &Books {
        &self.books
    }

    /// Returns the number of feeds that cover the order book of a market: as long as one of them
    /// loses nothing, the book stays valid.
    ///
    /// A feed that was connected anew covers a market again once its snapshot fits to what was
    /// delivered. `0` for a book that is void, and for a market that is not subscribed.
    pub fn coverage(&self, ticker: &str) -> usize {
        self.markets.get(ticker).map_or(0, Market::coverage)
    }

    /// Returns the place of the feed that leads; `None` while no feed is connected.
    pub const fn leader(&self) -> Option<usize> {
        self.leader
    }

    /// Returns the counts since the beginning.
    pub const fn metrics(&self) -> &MergeMetrics {
        &self.out.metrics
    }

    /// Takes the requests for snapshots that have come up. They are to be sent with
    /// [`get_snapshot`](crate::ConnectionHandle::get_snapshot); where that is not possible, a book
    /// waits for the next snapshot that comes by itself.
    pub fn take_snapshot_requests(&mut self) -> Vec<SnapshotRequest> {
        let requests = std::mem::take(&mut self.out.requests).into_iter();
        requests
            .map(|(feed, ticker)| SnapshotRequest { feed, ticker: ticker.to_string() })
            .collect()
    }

    /// Puts back a request that could not be sent yet.
    pub(super) fn request_again(&mut self, feed: usize, ticker: &str) {
        self.out.requests.insert((feed, ticker.into()));
    }

    pub(super) fn has_snapshot_requests(&self) -> bool {
        !self.out.requests.is_empty()
    }

    /// Reports whether all feeds are closed.
    pub(super) fn is_closed(&self) -> bool {
        self.feeds.iter().all(|feed| feed.is_closed)
    }

    #[inline]
    fn message(&mut self, feed: usize, message: Message) {
        // They compare only if they are as of the last message.
        let books = self.out.events.is_empty().then_some(&self.books);
        match &message.payload {
            Payload::OrderbookDelta(delta) => match self.markets.get_mut(delta.market.ticker()) {
                Some(market) => market.delta(feed, message, books, &self.links, &mut self.out),
                None => self.out.metrics.discarded += 1,
            },
            Payload::OrderbookSnapshot(snapshot) => {
                let clock = snapshot.clock;
                let ticker = snapshot.market_ticker.as_str();
                if !self.markets.contains_key(ticker) {
                    let ticker: Arc<str> = ticker.into();
                    let market = Market::new(Arc::clone(&ticker), self.feeds.len());
                    self.markets.insert(ticker, market);
                }
                if let Some(market) = self.markets.get_mut(snapshot.market_ticker.as_str()) {
                    market.snapshot(feed, clock, message, books, &self.links, &mut self.out);
                }
            }
            _ => match self.bring(feed, &message.payload) {
                Some(true) => self.out.deliver(feed, message),
                Some(false) => {}
                None if self.leader == Some(feed) => {
                    self.out.events.push_back(Event::Message(message));
                }
                None => self.out.metrics.discarded += 1,
            },
        }
    }

    /// Takes in the id of a trade or fill, and returns whether it is new; `None` for others.
    fn bring(&mut self, feed: usize, payload: &Payload) -> Option<bool> {
        let (channel, verdict) = match payload {
            Payload::Trade(trade) => (Channel::Trade, self.trades.bring(feed, &trade.trade_id)),
            Payload::Fill(fill) => {
                // An own trade with oneself has one fill for each order.
                let key = format!("{}/{}", fill.trade_id, fill.order_id);
                (Channel::Fill, self.fills.bring(feed, &key))
            }
            _ => return None,
        };
        self.judge(channel, verdict);
        if !verdict.is_new {
            self.out.metrics.duplicates += 1;
        }
        Some(verdict.is_new)
    }

    fn judge(&mut self, channel: Channel, verdict: Verdict) {
        self.out.metrics.covered += verdict.covered;
        if verdict.is_uncovered {
            self.out.uncovered_channel(channel, Vec::new(), UncoveredCause::Lost);
        }
    }

    fn keyed(&mut self, channel: &Channel) -> Option<&mut Keyed> {
        match channel {
            Channel::Trade => Some(&mut self.trades),
            Channel::Fill => Some(&mut self.fills),
            _ => None,
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of event")]
    fn control(&mut self, feed: usize, event: Event) {
        match &event {
            Event::Subscribed { channel, sid } => {
                if let Some(state) = self.feeds.get_mut(feed) {
                    state.channels.retain(|(held, _)| held != channel);
                    state.channels.push((channel.clone(), *sid));
                }
                if let Some(keyed) = self.keyed(channel) {
                    keyed.subscribed(feed);
                }
                self.of_leader(feed, event);
            }
            Event::Gap { channel, .. } | Event::Lagged { channel: Some(channel), .. } => {
                self.lost(feed, &channel.clone(), false, event);
            }
            Event::Terminated { channel, reason } => {
                let channel = channel.clone();
                let is_final = *reason == TerminationReason::Overflow;
                self.lost(feed, &channel, true, event);
                if channel == Channel::OrderbookDelta && is_final {
                    self.take_out_all(feed);
                }
            }
            Event::Lagged { channel: None, .. } => {
                // Messages of no subscription; trades and fills may have been among them.
                for channel in [Channel::Trade, Channel::Fill] {
                    self.lost_keyed(feed, &channel, false);
                }
                self.of_leader(feed, event);
            }
            Event::Malformed(malformed) => {
                let kind = malformed.kind.as_deref().and_then(message_kind);
                if kind.is_none_or(|kind| kind.channels.contains(&Channel::Fill)) {
                    // Fills have no numbers, so no gap follows.
                    self.lost_keyed(feed, &Channel::Fill, false);
                }
                self.of_leader(feed, event);
            }
            Event::Uncovered { channel, items, .. } => {
                if *channel == Channel::OrderbookDelta && !items.is_empty() {
                    let items = items.clone();
                    self.out.notice(feed, event);
                    self.lose_books(feed, |ticker| items.iter().any(|item| **item == *ticker));
                } else {
                    self.lost(feed, &channel.clone(), false, event);
                }
            }
            Event::Removed { channel: Channel::OrderbookDelta, items } => {
                let items = items.clone();
                if self.leader == Some(feed) {
                    for item in &items {
                        if let Some(mut market) = self.markets.remove(item.as_str()) {
                            market.clear(&mut self.out);
                        }
                    }
                    self.out.events.push_back(event);
                } else {
                    self.out.notice(feed, event);
                    self.take_out(feed, &items);
                }
            }
            Event::Unsubscribed { channel } => {
                let channel = channel.clone();
                if let Some(state) = self.feeds.get_mut(feed) {
                    state.channels.retain(|(held, _)| *held != channel);
                }
                let verdict = self.keyed(&channel).map(|keyed| keyed.unsubscribed(feed));
                self.judge(channel.clone(), verdict.unwrap_or_default());
                if channel != Channel::OrderbookDelta {
                    self.of_leader(feed, event);
                } else if self.leader == Some(feed) {
                    for (_, mut market) in self.markets.drain() {
                        market.clear(&mut self.out);
                    }
                    self.out.events.push_back(event);
                } else {
                    self.out.notice(feed, event);
                    self.take_out_all(feed);
                }
            }
            Event::Refused {
                channel: Channel::OrderbookDelta,
                items,
                reason: Refusal::Server(_),
            } => {
                let items = items.clone();
                self.refused(feed, items, event);
            }
            Event::Disconnected { reason } => {
                let reason = reason.clone();
                self.out.notice(feed, event);
                self.fall(feed, reason);
            }
            Event::Closed { error } => {
                let error = error.clone();
                let text = error.as_ref().map_or_else(String::new, ToString::to_string);
                self.out.notice(feed, event);
                if let Some(state) = self.feeds.get_mut(feed) {
                    state.is_closed = true;
                }
                self.fall(feed, DisconnectReason::Failed(text));
                if self.is_closed() {
                    self.out.events.push_back(Event::Closed { error });
                }
            }
            Event::Unmatched(message) => match self.bring(feed, &message.payload) {
                Some(true) => self.out.events.push_back(event),
                Some(false) => {}
                None if self.leader == Some(feed) => self.out.events.push_back(event),
                None => self.out.metrics.discarded += 1,
            },
            // The merged stream has been told by whatever made it come back.
            Event::Reconnected { .. }
            | Event::ReconnectFailed { .. }
            | Event::Stale { .. }
            | Event::Overdue { .. }
            | Event::Resynced { .. } => self.out.notice(feed, event),
            _ => self.of_leader(feed, event),
        }
    }

    /// Passes on an event that only the leader's stream has, and reports that of another feed.
    fn of_leader(&mut self, feed: usize, event: Event) {
        if self.leader == Some(feed) {
            self.out.events.push_back(event);
        } else {
            self.out.notice(feed, event);
        }
    }

    /// Takes in that a feed lost messages of a channel, and perhaps the subscription.
    fn lost(&mut self, feed: usize, channel: &Channel, is_over: bool, event: Event) {
        if is_over && let Some(state) = self.feeds.get_mut(feed) {
            state.channels.retain(|(held, _)| held != channel);
        }
        match channel {
            Channel::OrderbookDelta => {
                self.out.notice(feed, event);
                self.lose_books(feed, |_| true);
            }
            Channel::Trade | Channel::Fill => {
                self.out.notice(feed, event);
                self.lost_keyed(feed, channel, is_over);
            }
            _ => self.of_leader(feed, event),
        }
    }

    fn lost_keyed(&mut self, feed: usize, channel: &Channel, is_over: bool) {
        let verdict = self.keyed(channel).map(|keyed| keyed.lost(feed, is_over));
        self.judge(channel.clone(), verdict.unwrap_or_default());
    }

    /// Ends the runs of a feed in some markets.
    fn lose_books(&mut self, feed: usize, is_lost: impl Fn(&str) -> bool) {
        let Self { markets, links, out, books, .. } = self;
        // They are compared only if they are as of the last message.
        let is_current = out.events.iter().all(|event| matches!(event, Event::Feed { .. }));
        let books = is_current.then_some(&*books);
        let (mut uncovered, mut has_covered) = (Vec::new(), false);
        for market in markets.values_mut().filter(|market| is_lost(market.ticker())) {
            match market.lose(feed, books, links, out) {
                Loss::None => {}
                Loss::Covered => has_covered = true,
                Loss::Uncovered => uncovered.push(Arc::clone(market.ticker())),
            }
        }
        if uncovered.is_empty() {
            out.metrics.covered += u64::from(has_covered);
            if has_covered {
                tracing::debug!(feed, "other feeds cover a loss");
            }
            return;
        }
        self.recover(uncovered);
    }

    /// Reports books that no feed covers any more, and goes on with what there is.
    fn recover(&mut self, uncovered: Vec<Arc<str>>) {
        if uncovered.is_empty() {
            return;
        }
        self.out.uncovered(uncovered.iter().cloned(), UncoveredCause::Lost);
        for ticker in uncovered {
            if let Some(market) = self.markets.get_mut(&ticker) {
                market.settle(&self.links, &mut self.out);
            }
        }
    }

    /// Takes in that markets were taken out on a feed, and returns those that no feed has any more.
    fn forget(&mut self, feed: usize, items: &[String]) -> Vec<String> {
        let (mut gone, mut uncovered) = (Vec::new(), Vec::new());
        for item in items {
            let Some(market) = self.markets.get_mut(item.as_str()) else { continue };
            let loss = market.lose(feed, None, &self.links, &mut self.out);
            if !market.remove(feed, &mut self.out) {
                self.markets.remove(item.as_str());
                gone.push(item.clone());
            } else if loss == Loss::Uncovered {
                uncovered.push(Arc::clone(market.ticker()));
            } else {
                market.settle(&self.links, &mut self.out);
            }
        }
        self.recover(uncovered);
        gone
    }

    fn take_out(&mut self, feed: usize, items: &[String]) {
        let items = self.forget(feed, items);
        if !items.is_empty() {
            let channel = Channel::OrderbookDelta;
            self.out.events.push_back(Event::Removed { channel, items });
        }
    }

    fn take_out_all(&mut self, feed: usize) {
        let items: Vec<String> = self.markets.keys().map(ToString::to_string).collect();
        self.take_out(feed, &items);
    }

    /// Takes in that the exchange refuses order books to one feed: the others may have them.
    fn refused(&mut self, feed: usize, items: Vec<String>, event: Event) {
        if items.is_empty() {
            let all: Vec<String> = self.markets.keys().map(ToString::to_string).collect();
            self.forget(feed, &all);
            let is_gone = self.markets.is_empty();
            if is_gone {
                self.of_leader(feed, event);
            } else {
                self.out.notice(feed, event);
            }
            return;
        }
        let gone = self.forget(feed, &items);
        let is_leader = self.leader == Some(feed);
        let left: Vec<String> = if is_leader {
            let is_left = |item: &String| !self.markets.contains_key(item.as_str());
            items.into_iter().filter(is_left).collect()
        } else {
            gone
        };
        match event {
            Event::Refused { channel, reason, .. } if !left.is_empty() => {
                self.out.events.push_back(Event::Refused { channel, items: left, reason });
            }
            other => self.out.notice(feed, other),
        }
    }

    /// Takes in that a feed has a connection again.
    fn rise(&mut self, feed: usize, event: &Event) {
        let attempts = match event {
            Event::Reconnected { attempts } => *attempts,
            // A recording does not say it.
            Event::Message(_) | Event::Subscribed { .. } => 1,
            _ => return,
        };
        if let Some(link) = self.links.get_mut(feed) {
            link.is_up = true;
        }
        if self.leader.is_none() {
            self.leader = Some(feed);
            self.out.events.push_back(Event::Reconnected { attempts });
        }
    }

    /// Takes in that a feed has no connection any more.
    fn fall(&mut self, feed: usize, reason: DisconnectReason) {
        let Some(link) = self.links.get_mut(feed).filter(|link| link.is_up) else { return };
        link.is_up = false;
        link.connection += 1;
        if let Some(state) = self.feeds.get_mut(feed) {
            state.channels.clear();
        }
        self.out.requests.retain(|(of, _)| *of != feed);
        self.lose_books(feed, |_| true);
        for channel in [Channel::Trade, Channel::Fill] {
            self.lost_keyed(feed, &channel, true);
        }
        // It is not waited for any longer.
        for market in self.markets.values_mut().filter(|market| market.is_void()) {
            market.settle(&self.links, &mut self.out);
        }
        if self.leader != Some(feed) {
            return;
        }
        self.leader = self.links.iter().position(|link| link.is_up);
        let Some(leader) = self.leader else {
            self.out.events.push_back(Event::Disconnected { reason });
            return;
        };
        self.out.metrics.failovers += 1;
        tracing::info!(leader, %reason, "another feed leads");
        self.out.events.push_back(Event::Failover { from: feed, to: leader });
        for (channel, sid) in self.feeds.get(leader).into_iter().flat_map(|it| &it.channels) {
            let (channel, sid) = (channel.clone(), *sid);
            self.out.events.push_back(Event::Subscribed { channel, sid });
        }
    }
}

impl std::fmt::Debug for Merger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merger")
            .field("feeds", &self.feeds.len())
            .field("leader", &self.leader)
            .field("metrics", &self.out.metrics)
            .field("books", &self.books)
            .finish_non_exhaustive()
    }
}
