//! A publisher and a follower with their bus.

use std::{
    collections::HashSet,
    task::{Context, Poll},
    time::Duration,
};

use foldhash::fast::RandomState;
use kalshi_types::UnixMillis;
use kalshi_ws::{Books, Event};

use super::{Bus, BusEvent};
use crate::{
    follower::{Follower, FollowerRequest},
    lease::Lease,
    publisher::Publisher,
    subject::{Kind, SubjectError},
};

/// The time between two looks at what is due by time.
const TICK: Duration = Duration::from_millis(20);

/// A publisher that leads while it holds the lease.
///
/// Call [`step`](Self::step) after frames and about ten times a second.
#[derive(Debug)]
pub struct PublisherNode<B> {
    publisher: Publisher,
    lease: Lease,
    bus: B,
}

impl<B: Bus> PublisherNode<B> {
    /// Returns a publisher that does not lead yet.
    pub const fn new(publisher: Publisher, lease: Lease, bus: B) -> Self {
        Self { publisher, lease, bus }
    }

    /// Returns the publisher, to be fed with frames.
    pub const fn publisher_mut(&mut self) -> &mut Publisher {
        &mut self.publisher
    }

    /// Returns the publisher.
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Does what is due: takes the events of the bus, keeps the lease, and publishes.
    pub fn step(&mut self, wall: UnixMillis, now: Duration) {
        while let Some(event) = self.bus.next(now) {
            match event {
                BusEvent::Acknowledged(token) => self.publisher.acknowledged(token),
                BusEvent::Failed(token) => self.publisher.failed(token),
                BusEvent::LeaseRead(entry) => self.lease.read(entry, wall, now),
                BusEvent::LeaseWritten(end) => self.lease.written(end),
                BusEvent::Lost => self.publisher.bus_lost(),
                _ => {}
            }
        }
        self.follow_lease(now);
        // The end of an epoch goes out before the lease is given up: followers take it of the holder
        // only, and the next one may be long in coming.
        while let Some(publication) = self.publisher.next(wall, now) {
            self.bus.publish(publication.token, publication.message, now);
        }
        while let Some(request) = self.lease.next(self.publisher.is_connected(), now) {
            self.bus.lease(request, now);
        }
        self.follow_lease(now);
    }

    /// Leads while the lease is held.
    fn follow_lease(&mut self, now: Duration) {
        match self.lease.held(now) {
            Some((term, until)) => self.publisher.lead(term, until, now),
            None if self.publisher.leads(now) => self.publisher.stand_by(),
            None => {}
        }
    }
}

impl<B: Bus> PublisherNode<B> {
    /// Waits until the bus may have an event, for [`step`](Self::step).
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.bus.poll_ready(cx)
    }

    /// Reports whether it does not hold the lease, and no answer about it is due: another publisher
    /// can take over.
    pub const fn is_idle(&self) -> bool {
        self.lease.is_idle()
    }
}

/// A follower with its bus. It has the events and books that a connection has.
#[derive(Debug)]
pub struct FollowerNode<B> {
    follower: Follower,
    bus: B,
    /// The patterns that the bus is subscribed to.
    patterns: HashSet<String, RandomState>,
    tick_due: Duration,
}

impl<B: Bus> FollowerNode<B> {
    /// Returns a follower, subscribed to what it follows.
    pub fn new(follower: Follower, bus: B) -> Self {
        let patterns = HashSet::default();
        let mut node = Self { follower, bus, patterns, tick_due: Duration::ZERO };
        for pattern in node.follower.patterns() {
            node.subscribe(pattern);
        }
        node
    }

    /// Subscribes to a pattern, once: a bus delivers every message for each subscription.
    fn subscribe(&mut self, pattern: String) {
        if !self.patterns.contains(&pattern) {
            self.bus.subscribe(&pattern);
            self.patterns.insert(pattern);
        }
    }

    /// Follows the order books of markets, besides those that are followed already.
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
            for pattern in self.follower.book_patterns(&ticker)? {
                self.subscribe(pattern);
            }
            self.follower.follow([ticker])?;
        }
        Ok(())
    }

    /// Returns the next event, and applies it to the [books](Self::books); `None` until the time has
    /// passed or something has come.
    pub fn next(&mut self, now: Duration) -> Option<Event> {
        if now >= self.tick_due {
            self.tick_due = now.saturating_add(TICK);
            self.follower.tick(now);
        }
        loop {
            if let Some(event) = self.follower.next_event(now) {
                return Some(event);
            }
            while let Some(request) = self.follower.next_request() {
                match request {
                    FollowerRequest::Snapshot { subject } => self.bus.last(&subject, now),
                    FollowerRequest::Log { ticker, pattern, since } => {
                        // The clocks of publishers, and of the bus, may differ a little.
                        let since = since.saturating_sub(Duration::from_secs(5));
                        self.bus.log(&ticker, &pattern, since, now);
                    }
                }
            }
            match self.bus.next(now)? {
                BusEvent::Message(message) => self.follower.message(&message, now),
                BusEvent::Last(Some(message)) => self.follower.last_snapshot(&message, now),
                BusEvent::Logged(message) => self.follower.logged(&message, now),
                BusEvent::LogEnd(ticker) => self.follower.log_end(&ticker),
                BusEvent::Lost => self.follower.bus_lost(now),
                _ => {}
            }
        }
    }

    /// Follows a kind of data of a market, such as its trades, or of your account: then its name is in
    /// place of the ticker. What comes is events.
    ///
    /// # Errors
    ///
    /// The ticker is no token of a subject.
    pub fn follow_kind(&mut self, kind: Kind, ticker: &str) -> Result<(), SubjectError> {
        let pattern = self.follower.pattern(kind, ticker)?;
        self.subscribe(pattern);
        Ok(())
    }

    /// Waits until the bus may have an event, for [`next`](Self::next).
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.bus.poll_ready(cx)
    }

    /// Returns the order books, as of the last event that was taken.
    pub const fn books(&self) -> &Books {
        self.follower.books()
    }

    /// Returns the follower.
    pub const fn follower(&self) -> &Follower {
        &self.follower
    }
}
