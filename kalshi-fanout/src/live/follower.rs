//! A follower that is read as a connection is.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use kalshi_ws::{Books, Event};

use super::{Clock, Ticks};
use crate::{
    bus::{Bus, FollowerNode},
    follower::Follower,
    subject::{Kind, SubjectError},
};

/// A follower with its bus, read as a [`Connection`](kalshi_ws::Connection) is: the same events and
/// books. It never ends by itself, because its bus connects again.
///
/// It is a [`futures_core::Stream`] of events. Dropping it leaves the bus.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kalshi_fanout::{
///     Follower, FollowerConfig, bus::{Bus as _, MemoryBroker}, live::LiveFollower,
/// };
/// # use kalshi_fanout::{Lease, Publisher, PublisherConfig, bus::PublisherNode};
/// # use kalshi_types::UnixMillis;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), kalshi_fanout::subject::SubjectError> {
/// let broker = MemoryBroker::new(1);
/// let mut follower = Follower::new(FollowerConfig::new("demo"), || Duration::ZERO)?;
/// follower.follow(["A"])?;
/// let mut follower = LiveFollower::new(follower, broker.client());
/// # let publisher = Publisher::new(PublisherConfig::new("demo", "a"))?;
/// # let mut publisher = PublisherNode::new(publisher, Lease::new("a"), broker.client());
/// # for frame in [
/// #     r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
/// #     r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","yes_dollars_fp":[["0.40","10.00"]]}}"#,
/// # ] {
/// #     publisher.publisher_mut().frame(frame, UnixMillis::EPOCH, Duration::ZERO);
/// # }
/// # for _ in 0..3 {
/// #     publisher.step(UnixMillis::EPOCH, Duration::ZERO);
/// # }
///
/// // A publisher publishes the book of A.
/// while follower.books().get("A").is_none() {
///     let event = follower.next().await;
///     println!("{event:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct LiveFollower<B> {
    node: FollowerNode<B>,
    clock: Clock,
    ticks: Ticks,
}

impl<B: Bus> LiveFollower<B> {
    /// Returns a follower, subscribed to what it follows.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn new(follower: Follower, bus: B) -> Self {
        Self::with_clock(follower, bus, Clock::start())
    }

    pub(super) fn with_clock(follower: Follower, bus: B, clock: Clock) -> Self {
        Self { node: FollowerNode::new(follower, bus), clock, ticks: Ticks::start() }
    }

    /// Waits for the next event, and applies it to the [books](Self::books). It is never `None`: the
    /// type is that of a connection.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.node.next(self.clock.now()) {
                return Poll::Ready(Some(event));
            }
            if self.node.poll_ready(cx).is_pending() && self.ticks.poll(cx).is_pending() {
                return Poll::Pending;
            }
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
        self.node.follow(tickers)
    }

    /// Follows a kind of data of a market, such as its trades, or of your account: then its name is in
    /// place of the ticker. What comes is events.
    ///
    /// # Errors
    ///
    /// The ticker is no token of a subject.
    pub fn follow_kind(&mut self, kind: Kind, ticker: &str) -> Result<(), SubjectError> {
        self.node.follow_kind(kind, ticker)
    }

    /// Returns the order books, as of the last event that was taken.
    pub const fn books(&self) -> &Books {
        self.node.books()
    }

    /// Returns the follower.
    pub const fn follower(&self) -> &Follower {
        self.node.follower()
    }
}

impl<B: Bus + Unpin> futures_core::Stream for LiveFollower<B> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl<B> fmt::Debug for LiveFollower<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveFollower").finish_non_exhaustive()
    }
}
