//! A publisher from a live connection, or from redundant feeds.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream as _;
use kalshi_types::UnixMillis;
use kalshi_ws::{
    Channel, CommandError, ConfigBuilder, ConnectError, Connection, Event, RedundantFeed,
    Subscription, Tap,
};
use tokio::time::{sleep, timeout};

use super::{Clock, Ticks};
use crate::{
    bus::{Bus, PublisherNode},
    publisher::PublisherMetrics,
};

/// The time that a graceful end may take.
const CLOSE: Duration = Duration::from_secs(2);

/// A publisher from a live connection to the exchange, or from redundant feeds.
///
/// Subscribe to what is to be published, and call [`next`](Self::next) in a loop: it returns the
/// events of the connection, so that refusals and losses can be seen. A publisher that does not hold
/// the lease keeps its books, and publishes nothing until it takes over.
///
/// # Examples
///
/// ```no_run
/// use kalshi_auth::Credentials;
/// use kalshi_fanout::{
///     Lease, Publisher, PublisherConfig, bus::PublisherNode, live::LivePublisher,
///     nats::{NatsBus, NatsConfig},
/// };
/// use kalshi_ws::{Config, Environment, Subscription};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = NatsBus::publisher(NatsConfig::new("nats://localhost:4222", "demo")).await?;
/// // An id that no other run has.
/// let id = format!("host-1-{}", std::process::id());
/// let publisher = Publisher::new(PublisherConfig::new("demo", &id))?;
/// let node = PublisherNode::new(publisher, Lease::new(id), bus);
///
/// let config = Config::builder()
///     .with_environment(Environment::Demo)
///     .with_credentials(Credentials::from_env()?);
/// let mut publisher = LivePublisher::connect(node, config).await?;
/// publisher.subscribe(Subscription::orderbook(["KXHIGHNY-26NOV23-T60"]))?;
/// while let Some(event) = publisher.next().await {
///     println!("{event:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct LivePublisher<B> {
    source: Source,
    node: Arc<Node<B>>,
    ticks: Ticks,
}

enum Source {
    /// The frames go to the node by the tap of the connection.
    Connection(Box<Connection>),
    Feed(Box<RedundantFeed>),
}

pub(super) struct Node<B>(Mutex<Clocked<B>>);

struct Clocked<B> {
    node: PublisherNode<B>,
    clock: Clock,
}

impl<B: Bus> Node<B> {
    pub(super) const fn new(node: PublisherNode<B>, clock: Clock) -> Self {
        Self(Mutex::new(Clocked { node, clock }))
    }

    fn lock(&self) -> MutexGuard<'_, Clocked<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn step(&self, change: impl FnOnce(&mut PublisherNode<B>, Duration)) {
        let mut locked = self.lock();
        let (now, wall) = locked.clock.both();
        change(&mut locked.node, now);
        locked.node.step(wall, now);
    }

    pub(super) fn leads(&self) -> bool {
        let mut locked = self.lock();
        let now = locked.clock.now();
        locked.node.publisher().leads(now)
    }
}

/// Sees the frames of a connection. What it does never waits.
struct NodeTap<B>(Arc<Node<B>>);

impl<B: Bus + Send> Tap for NodeTap<B> {
    fn received(&mut self, at: UnixMillis, text: &str) {
        self.0.step(|node, now| node.publisher_mut().frame(text, at, now));
    }

    fn sent(&mut self, _at: UnixMillis, text: &str) {
        self.0.step(|node, now| node.publisher_mut().sent(text, now));
    }

    fn disconnected(&mut self, _at: UnixMillis, reason: &str) {
        self.0.step(|node, _| node.publisher_mut().disconnected(reason));
    }
}

impl<B: Bus + Send + 'static> LivePublisher<B> {
    /// Connects to the exchange, and publishes every frame as it was received.
    ///
    /// The publisher takes the place of the configuration's [tap](ConfigBuilder::with_tap). The
    /// configuration must keep its books: they request what is missing.
    ///
    /// # Errors
    ///
    /// The configuration is invalid, or the first attempt failed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the attempt.
    pub async fn connect(
        node: PublisherNode<B>,
        config: ConfigBuilder,
    ) -> Result<Self, ConnectError> {
        let node = Arc::new(Node::new(node, Clock::start()));
        let config = config.with_tap(NodeTap(Arc::clone(&node))).build()?;
        let source = Source::Connection(Box::new(Connection::connect(config).await?));
        Ok(Self { source, node, ticks: Ticks::start() })
    }
}

impl<B: Bus> LivePublisher<B> {
    /// Publishes redundant feeds, so that the loss of one connection is no loss to followers. The
    /// payloads are written anew, with the fields that this version knows.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn merged(node: PublisherNode<B>, feed: RedundantFeed) -> Self {
        let node = Arc::new(Node::new(node, Clock::start()));
        Self { source: Source::Feed(Box::new(feed)), node, ticks: Ticks::start() }
    }

    /// Subscribes to a channel; see [`ConnectionHandle::subscribe`](kalshi_ws::ConnectionHandle::subscribe).
    ///
    /// # Errors
    ///
    /// As on a connection.
    pub fn subscribe(&self, subscription: Subscription) -> Result<(), CommandError> {
        match &self.source {
            Source::Connection(connection) => connection.handle().subscribe(subscription),
            Source::Feed(feed) => feed.subscribe(subscription),
        }
    }

    /// Adds markets to the subscription of a channel.
    ///
    /// # Errors
    ///
    /// As on a connection.
    pub fn add_markets<T: Into<String>>(
        &self,
        channel: impl Into<Channel>,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        match &self.source {
            Source::Connection(connection) => connection.handle().add_markets(channel, tickers),
            Source::Feed(feed) => feed.add_markets(channel, tickers),
        }
    }

    /// Takes markets out of the subscription of a channel.
    ///
    /// # Errors
    ///
    /// As on a connection.
    pub fn delete_markets<T: Into<String>>(
        &self,
        channel: impl Into<Channel>,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        match &self.source {
            Source::Connection(connection) => connection.handle().delete_markets(channel, tickers),
            Source::Feed(feed) => feed.delete_markets(channel, tickers),
        }
    }

    /// Waits for the next event of the connection, and publishes meanwhile; `None` after
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
            let event = match &mut self.source {
                Source::Connection(connection) => Pin::new(&mut **connection).poll_next(cx),
                Source::Feed(feed) => Pin::new(&mut **feed).poll_next(cx),
            };
            if let Poll::Ready(event) = event {
                if let (Source::Feed(_), Some(event)) = (&self.source, &event) {
                    self.node.step(|node, now| node.publisher_mut().event(event, now));
                }
                return Poll::Ready(event);
            }
            let is_ready = self.node.lock().node.poll_ready(cx).is_ready();
            if !is_ready && self.ticks.poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.node.step(|_, _| {});
        }
    }

    /// Reports whether this publisher publishes now.
    pub fn leads(&self) -> bool {
        self.node.leads()
    }

    /// Returns the counts since the beginning.
    pub fn metrics(&self) -> PublisherMetrics {
        self.node.lock().node.publisher().metrics()
    }

    /// Calls `look` with the node, which does not publish meanwhile.
    pub fn with_node<T>(&self, look: impl FnOnce(&PublisherNode<B>) -> T) -> T {
        look(&self.node.lock().node)
    }

    /// Closes the connection gracefully and gives up the lease, so that another publisher takes over
    /// at once. Dropping the publisher does neither: the lease ends by its time.
    ///
    /// # Cancellation
    ///
    /// The connection closes all the same when the future is dropped.
    pub async fn close(mut self) {
        match &mut self.source {
            Source::Connection(connection) => connection.close().await,
            Source::Feed(feed) => feed.close().await,
        }
        self.node.step(|node, _| node.publisher_mut().disconnected("it was closed"));
        // Without an answer of the bus the lease ends by its time.
        let _ = timeout(CLOSE, async {
            while !self.node.lock().node.is_idle() {
                sleep(Duration::from_millis(5)).await;
                self.node.step(|_, _| {});
            }
        })
        .await;
    }
}

impl<B> fmt::Debug for LivePublisher<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Connection(_) => "connection",
            Source::Feed(_) => "feeds",
        };
        f.debug_struct("LivePublisher").field("source", &source).finish_non_exhaustive()
    }
}
