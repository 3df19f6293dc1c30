//! The merger of several feeds. Pure: events go in and come out, without sockets and clocks.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

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

/// The markets that are remembered after they were taken out, so that their books do not go back
/// when they are added again.
const MAX_BURIED: usize = if cfg!(test) { 4 } else { 4_096 };

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
    /// Markets that are over, oldest first.
    buried: VecDeque<Arc<str>>,
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
            buried: VecDeque::new(),
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

    /// Handles the next event of a feed. What it leads to are the [next
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

    /// Returns the number of markets that are kept.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.markets.len()
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
        if let Payload::OrderbookSnapshot(snapshot) = &message.payload {
            self.enter(&snapshot.market_ticker);
        }
        // They compare only if they are as of the last message.
        let books = self.out.events.is_empty().then_some(&self.books);
        match &message.payload {
            Payload::OrderbookDelta(delta) => match self.markets.get_mut(delta.market.ticker()) {
                Some(market) => market.delta(feed, message, books, &self.links, &mut self.out),
                None => self.out.metrics.discarded += 1,
            },
            Payload::OrderbookSnapshot(snapshot) => {
                let clock = snapshot.clock;
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

    /// Handles the id of a trade or fill, and returns whether it is new; `None` for others.
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
                if *channel == Channel::OrderbookDelta {
                    for market in self.markets.values_mut() {
                        market.readd(feed, &self.links, &mut self.out);
                    }
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
                        self.enter(item);
                    }
                }
                let items = self.answer_removal(feed, items);
                if items.is_empty() {
                    self.out.notice(feed, event);
                    return;
                }
                let (channel, fresh) = (Channel::OrderbookDelta, items.clone());
                self.out.events.push_back(Event::Removed { channel, items: fresh });
                self.settle_removed(&items);
            }
            Event::Refused {
                channel: Channel::OrderbookDelta,
                items,
                reason: Refusal::NotSubscribed,
            } => {
                for item in items {
                    if let Some(market) = self.markets.get_mut(item.as_str()) {
                        market.count_removal(feed);
                    }
                }
                self.of_leader(feed, event);
            }
            Event::Added { channel: Channel::OrderbookDelta, items } => {
                for item in items {
                    if let Some(market) = self.markets.get_mut(item.as_str()) {
                        market.readd(feed, &self.links, &mut self.out);
                    }
                }
                self.of_leader(feed, event);
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
                    return;
                }
                let left = self.markets.values().filter(|market| !market.is_out(feed));
                let left: Vec<String> = left.map(|market| market.ticker().to_string()).collect();
                let left = self.answer_removal(feed, left);
                self.of_leader(feed, event);
                self.settle_removed(&left);
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

    /// Records that a feed lost messages of a channel, and perhaps the subscription.
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
        let books = out.has_only_notices().then_some(&*books);
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

    /// Enters a market that no feed has had.
    fn enter(&mut self, ticker: &str) {
        if !self.markets.contains_key(ticker) {
            let ticker: Arc<str> = ticker.into();
            let market = Market::new(Arc::clone(&ticker), self.feeds.len());
            self.markets.insert(ticker, market);
        }
    }

    /// Records that a feed has answered a request to take markets out, and returns those that the
    /// merged stream has no longer because of it.
    ///
    /// The merged stream has answered when the leader has: what a feed that trails still brings is
    /// discarded until it has answered as well, and what was delivered is kept, so that no book goes
    /// back when the market is added again.
    fn answer_removal(&mut self, feed: usize, items: Vec<String>) -> Vec<String> {
        for item in &items {
            if let Some(market) = self.markets.get_mut(item.as_str()) {
                market.count_removal(feed);
            }
        }
        let is_leader = self.leader == Some(feed);
        let (fresh, others): (Vec<String>, Vec<String>) = items.into_iter().partition(|item| {
            let market = self.markets.get(item.as_str());
            is_leader && market.is_none_or(|market| market.is_first_answer(feed))
        });
        for item in &fresh {
            if let Some(market) = self.markets.get_mut(item.as_str()) {
                market.take_out(feed, &self.links, &mut self.out);
            }
        }
        self.take_out(feed, &others);
        fresh
    }

    /// Goes on with markets that were taken out, which a feed that is ahead may have again.
    fn settle_removed(&mut self, items: &[String]) {
        for item in items {
            if let Some(market) = self.markets.get_mut(item.as_str()) {
                market.settle(&self.links, &mut self.out);
            }
            self.bury(item);
        }
    }

    /// Queues a market that is over to be forgotten.
    fn bury(&mut self, ticker: &str) {
        let Some(market) = self.markets.get_mut(ticker).filter(|market| market.is_over()) else {
            return;
        };
        if !std::mem::replace(&mut market.is_buried, true) {
            self.buried.push_back(Arc::clone(market.ticker()));
        }
        while self.buried.len() > MAX_BURIED {
            let Some(oldest) = self.buried.pop_front() else { return };
            match self.markets.get_mut(&oldest) {
                Some(market) if !market.is_over() => market.is_buried = false,
                _ => drop(self.markets.remove(&oldest)),
            }
        }
    }

    /// Records that markets were taken out on a feed, and returns those that no feed has any more.
    fn forget(&mut self, feed: usize, items: &[String]) -> Vec<String> {
        let (mut gone, mut uncovered) = (Vec::new(), Vec::new());
        for item in items {
            let Some(market) = self.markets.get_mut(item.as_str()) else { continue };
            let books = self.out.has_only_notices().then_some(&self.books);
            let loss = market.lose(feed, books, &self.links, &mut self.out);
            if !market.remove(feed, &mut self.out) {
                if market.end(feed) {
                    gone.push(item.clone());
                }
                self.bury(item);
            } else if loss == Loss::Uncovered {
                uncovered.push(Arc::clone(market.ticker()));
            } else {
                market.settle(&self.links, &mut self.out);
            }
        }
        self.recover(uncovered);
        gone
    }

    /// Records that a feed has markets no longer.
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

    /// Records that the exchange refuses order books to one feed: the others may have them.
    fn refused(&mut self, feed: usize, items: Vec<String>, event: Event) {
        if items.is_empty() {
            let all: Vec<String> = self.markets.keys().map(ToString::to_string).collect();
            self.forget(feed, &all);
            if self.markets.values().all(|market| market.is_gone) {
                self.of_leader(feed, event);
            } else {
                self.out.notice(feed, event);
            }
            return;
        }
        let gone = self.forget(feed, &items);
        let is_leader = self.leader == Some(feed);
        let left: Vec<String> = if is_leader {
            let is_left =
                |item: &String| self.markets.get(item.as_str()).is_none_or(|market| market.is_gone);
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

    /// Records that a feed has a connection again.
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

    /// Records that a feed has no connection any more.
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
