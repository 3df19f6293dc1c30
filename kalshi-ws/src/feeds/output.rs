//! The outputs of the merger: events, requests for snapshots, and counts.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::market::Link;
use crate::{
    event::{Event, UncoveredCause},
    generated::{Channel, Payload},
    protocol::message::Message,
};

/// The counts of a merged stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeMetrics {
    /// The messages that each feed brought first, by its place: changes of order books, trades and
    /// fills.
    pub first: Vec<u64>,
    /// The messages that another feed had brought already.
    pub duplicates: u64,
    /// The messages that could not be used: of a feed that waits for a snapshot, or that does not
    /// lead.
    pub discarded: u64,
    /// The losses of one feed that the others covered.
    pub covered: u64,
    /// The losses that no feed covered: the [`Uncovered`](Event::Uncovered) events.
    pub uncovered: u64,
    /// The times that another feed took the lead.
    pub failovers: u64,
    /// The times that the clock of a market went back.
    pub clock_resets: u64,
    /// The times that feeds, or messages and a book, contradicted each other.
    pub contradictions: u64,
}

#[derive(Default)]
pub(super) struct Output {
    pub(super) events: VecDeque<Event>,
    /// The snapshots that are to be requested.
    pub(super) requests: BTreeSet<(usize, Arc<str>)>,
    /// The changes that are held in all markets.
    pub(super) held: usize,
    pub(super) metrics: MergeMetrics,
}

impl Output {
    /// Delivers a message of a feed.
    #[inline]
    pub(super) fn deliver(&mut self, feed: usize, message: Message) {
        if !matches!(message.payload, Payload::OrderbookSnapshot(_))
            && let Some(first) = self.metrics.first.get_mut(feed)
        {
            *first += 1;
        }
        self.events.push_back(Event::Message(message));
    }

    /// Reports whether the order books are as of the last message, so that a run compares with them.
    pub(super) fn has_only_notices(&self) -> bool {
        self.events.iter().all(|event| matches!(event, Event::Feed { .. }))
    }

    /// Requests a snapshot of a market from a feed that is connected.
    pub(super) fn request(&mut self, feed: usize, ticker: &Arc<str>, links: &[Link]) {
        if links.get(feed).is_some_and(|link| link.is_up) {
            self.requests.insert((feed, Arc::clone(ticker)));
        }
    }

    /// Reports that order books are void.
    pub(super) fn uncovered(
        &mut self,
        tickers: impl IntoIterator<Item = Arc<str>>,
        cause: UncoveredCause,
    ) {
        let items: Vec<String> = tickers.into_iter().map(|ticker| ticker.to_string()).collect();
        self.uncovered_channel(Channel::OrderbookDelta, items, cause);
    }

    pub(super) fn uncovered_channel(
        &mut self,
        channel: Channel,
        items: Vec<String>,
        cause: UncoveredCause,
    ) {
        self.metrics.uncovered += 1;
        tracing::warn!(%channel, items = items.len(), ?cause, "no feed covers a loss");
        self.events.push_back(Event::Uncovered { channel, items, cause });
    }

    /// Reports an event of one feed that changes nothing in the merged stream.
    pub(super) fn notice(&mut self, feed: usize, event: Event) {
        self.events.push_back(Event::Feed { feed, event: Box::new(event) });
    }
}
