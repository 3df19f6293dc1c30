//! Redundant feeds: several connections as one.
//!
//! `market` arbitrates the changes of one order book, `keyed` trades and fills, and `merger` the
//! rest; all three are pure. `model` puts them under random feeds.

mod keyed;
mod market;
mod merger;
#[cfg(test)]
mod model;
mod output;
#[cfg(feature = "recorder")]
mod recordings;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::{join_all, poll_fn};

#[cfg(feature = "recorder")]
pub use self::recordings::RedundantPlayer;
pub use self::{
    merger::{Merger, SnapshotRequest},
    output::MergeMetrics,
};
use crate::{
    book::Books,
    connection::{Connection, ConnectionHandle},
    error::CommandError,
    event::Event,
    generated::Channel,
    subscription::Subscription,
};

/// The number of feeds that can be merged.
const MAX_FEEDS: usize = 8;

/// The number of trades, and of fills, that are remembered by default.
const DEFAULT_WINDOW: usize = 65_536;

/// Several connections that are one stream of events with one set of order books (A/B feed
/// arbitration).
///
/// The connections are subscribed to the same. Each change of a book is taken from the connection
/// that brings it first, once and in order, and a loss on one connection that another one covers is
/// no loss of the stream: books stay valid while a socket is replaced. The
/// [guide](crate::guide#redundant-feeds) says what is guaranteed and what is not.
///
/// It is a [`futures_core::Stream`] of events; the last is [`Event::Closed`], when all connections
/// are closed.
///
/// # Examples
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kalshi_sim::{Exchange, Role};
/// use kalshi_ws::{Config, Connection, Environment, Event, Subscription};
///
/// let exchange = Exchange::builder().with_traders(50).start().await?;
/// let open = exchange.client(Role::Trader)?.get_markets().status("open").limit(1).send().await?;
/// let ticker = &open.markets[0].ticker;
///
/// // Two sockets. On the exchange, name two hosts of it.
/// let mut connections = Vec::new();
/// for role in [Role::Trader, Role::Reader] {
///     let key = exchange.credentials(role).ok_or("the exchange has no keys")?.clone();
///     let config = Config::builder()
///         .with_environment(Environment::Custom(exchange.stream_url()))
///         .with_credentials(key)
///         .build()?;
///     connections.push(Connection::connect(config).await?);
/// }
/// let mut feed = Connection::merge(connections)?;
/// feed.subscribe(Subscription::orderbook([ticker]))?;
/// while let Some(event) = feed.next().await {
///     if let Event::Uncovered { items, cause, .. } = &event {
///         println!("void until their next snapshots: {items:?} ({cause:?})");
///     }
///     if let Some(book) = feed.books().get(ticker) {
///         println!("{:?}", book.spread());
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct RedundantFeed {
    merger: Merger,
    connections: Vec<Connection>,
    /// The connection whose turn it is.
    turn: usize,
}

impl Connection {
    /// Merges connections into one stream with one set of books. The first one leads.
    ///
    /// They should not have been read or subscribed yet: use the methods of the feed. Their own
    /// [books](Self::books) are given up.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] unless there are one to eight.
    pub fn merge(
        connections: impl IntoIterator<Item = Self>,
    ) -> Result<RedundantFeed, CommandError> {
        RedundantFeed::new(connections)
    }
}

impl RedundantFeed {
    /// Merges connections, as [`Connection::merge`] does.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] unless there are one to eight.
    pub fn new(connections: impl IntoIterator<Item = Connection>) -> Result<Self, CommandError> {
        let mut connections: Vec<Connection> =
            connections.into_iter().take(MAX_FEEDS + 1).collect();
        let merger = Merger::new(connections.len())?;
        for connection in &mut connections {
            connection.give_up_books();
        }
        Ok(Self { merger, connections, turn: 0 })
    }

    /// Sets the number of trades, and of fills, that are remembered so that none comes twice; see
    /// [`Merger::with_window`].
    #[must_use]
    pub fn with_window(mut self, window: usize) -> Self {
        self.merger = self.merger.with_window(window);
        self
    }

    /// Waits for the next event, and applies it to the [books](Self::books); `None` after
    /// [`Event::Closed`].
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.merger.next_event() {
                return Poll::Ready(Some(event));
            }
            if self.merger.has_snapshot_requests() {
                self.request_snapshots();
            }
            if !self.poll_connections(cx) {
                return if self.merger.is_closed() { Poll::Ready(None) } else { Poll::Pending };
            }
        }
    }

    /// Takes an event from the next connection that has one, and reports whether there was any.
    fn poll_connections(&mut self, cx: &mut Context<'_>) -> bool {
        let count = self.connections.len();
        for offset in 0..count {
            let feed = (self.turn + offset) % count;
            let Some(connection) = self.connections.get_mut(feed) else { continue };
            if let Poll::Ready(Some(event)) = connection.poll_event(cx) {
                self.turn = feed + 1;
                // The feed is one of the merger's.
                let _ = self.merger.push(feed, event);
                return true;
            }
        }
        false
    }

    fn request_snapshots(&mut self) {
        let requests = self.merger.take_snapshot_requests();
        for (feed, connection) in self.connections.iter().enumerate() {
            let of_feed = requests.iter().filter(|request| request.feed == feed);
            let tickers: Vec<&str> = of_feed.map(|request| request.ticker.as_str()).collect();
            // A connection that is closed gives no snapshots.
            if !tickers.is_empty()
                && connection.handle().get_snapshot(tickers.iter().copied())
                    == Err(CommandError::Busy)
            {
                for ticker in tickers {
                    self.merger.request_again(feed, ticker);
                }
            }
        }
    }

    /// Returns the order books, as of the last event that was taken.
    pub const fn books(&self) -> &Books {
        self.merger.books()
    }

    /// Returns the number of connections that cover the order book of a market; see
    /// [`Merger::coverage`]. Below the number of [connections](Self::handles), the loss of one more
    /// may make the book void.
    pub fn coverage(&self, ticker: &str) -> usize {
        self.merger.coverage(ticker)
    }

    /// Returns the index of the leading connection; `None` while no connection leads.
    pub const fn leader(&self) -> Option<usize> {
        self.merger.leader()
    }

    /// Returns the counts since the beginning: what each connection brought first, and which losses
    /// were covered.
    pub const fn metrics(&self) -> &MergeMetrics {
        self.merger.metrics()
    }

    /// Returns the handles of the connections, by their places. What is requested through one of
    /// them is requested of that connection only, and redundancy is lost; it is for queries.
    pub fn handles(&self) -> impl ExactSizeIterator<Item = &ConnectionHandle> {
        self.connections.iter().map(Connection::handle)
    }

    /// Subscribes to a channel on all connections. The events of the leading connection are the
    /// answer; see [`ConnectionHandle::subscribe`].
    ///
    /// # Errors
    ///
    /// The subscription is invalid, too many requests are waiting, or all connections are closed.
    /// Some connections may have taken the request; to repeat it does no harm.
    #[expect(clippy::needless_pass_by_value, reason = "as on a connection")]
    pub fn subscribe(&self, subscription: Subscription) -> Result<(), CommandError> {
        self.all(|handle| handle.subscribe(subscription.clone()))
    }

    /// Unsubscribes from a channel on all connections; see [`ConnectionHandle::unsubscribe`].
    ///
    /// # Errors
    ///
    /// As with [`subscribe`](Self::subscribe).
    pub fn unsubscribe(&self, channel: impl Into<Channel>) -> Result<(), CommandError> {
        let channel = channel.into();
        self.all(|handle| handle.unsubscribe(channel.clone()))
    }

    /// Adds markets to the subscription of a channel on all connections; see
    /// [`ConnectionHandle::add_markets`].
    ///
    /// # Errors
    ///
    /// As with [`subscribe`](Self::subscribe).
    pub fn add_markets<T: Into<String>>(
        &self,
        channel: impl Into<Channel>,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        let (channel, tickers) = (channel.into(), strings(tickers));
        self.all(|handle| handle.add_markets(channel.clone(), tickers.iter().cloned()))
    }

    /// Takes markets out of the subscription of a channel on all connections; see
    /// [`ConnectionHandle::delete_markets`].
    ///
    /// # Errors
    ///
    /// As with [`subscribe`](Self::subscribe).
    pub fn delete_markets<T: Into<String>>(
        &self,
        channel: impl Into<Channel>,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        let (channel, tickers) = (channel.into(), strings(tickers));
        self.all(|handle| handle.delete_markets(channel.clone(), tickers.iter().cloned()))
    }

    /// Sends a request to all connections that are open.
    fn all(
        &self,
        send: impl Fn(&ConnectionHandle) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let mut result = Err(CommandError::Closed);
        for handle in self.handles() {
            match send(handle) {
                Ok(()) if result == Err(CommandError::Closed) => result = Ok(()),
                Ok(()) | Err(CommandError::Closed) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Closes all connections gracefully, and waits for that. The events that are left, and then
    /// [`Event::Closed`], can still be read.
    ///
    /// # Cancellation
    ///
    /// The connections close all the same when the future is dropped.
    pub async fn close(&mut self) {
        join_all(self.connections.iter_mut().map(Connection::close)).await;
    }
}

fn strings<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}

impl futures_core::Stream for RedundantFeed {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl fmt::Debug for RedundantFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedundantFeed")
            .field("connections", &self.connections)
            .field("merger", &self.merger)
            .finish_non_exhaustive()
    }
}
