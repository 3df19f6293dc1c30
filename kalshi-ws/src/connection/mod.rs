//! A connection: the task that reads the socket, and the ends that the consumer holds.

pub(crate) mod backoff;
mod driver;
mod framing;
pub(crate) mod proxy;
pub(crate) mod queue;
#[cfg(test)]
mod queue_model;
mod socket;
mod sync;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::poll_fn;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tracing::{Instrument as _, info_span};

use self::{
    driver::Driver,
    queue::{Queue, Taken},
    socket::Connector,
};
use crate::{
    book::Books,
    config::Config,
    error::{CommandError, ConnectError},
    event::Event,
    generated::{Channel, types::ListSubscriptionsResponseItem},
    product::{EventContracts, Product},
    session::Request,
    subscription::{Subscription, check_items},
};

/// The number of requests that wait for the task.
const MAX_REQUESTS: usize = 1_024;

/// A connection to the exchange that outlives its sockets: subscriptions are requested again after
/// each loss, and every loss is an [`Event`].
///
/// It is a [`futures_core::Stream`] of events; the last is [`Event::Closed`]. Dropping it closes the
/// connection at once; [`close`](Self::close) does so gracefully.
///
/// # Examples
///
/// ```no_run
/// use kalshi_auth::Credentials;
/// use kalshi_ws::{Config, Connection, Environment, Outcome, Subscription};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::builder()
///     .with_environment(Environment::Demo)
///     .with_credentials(Credentials::from_env()?)
///     .build()?;
/// let mut connection = Connection::connect(config).await?;
/// connection.handle().subscribe(Subscription::orderbook(["KXBTC-25"]))?;
/// while let Some(event) = connection.next().await {
///     if let Some(book) = connection.books().get("KXBTC-25") {
///         // Exactly what the exchange has. `None` while that is not known.
///         println!("{:?} {:?}", book.best_bid(Outcome::Yes), book.best_ask(Outcome::Yes));
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Connection<P: Product = EventContracts> {
    queue: Arc<Queue<P>>,
    /// Events that were taken from the queue.
    taken: Taken<P>,
    /// The books, if they are kept.
    books: Books<P>,
    keeps_books: bool,
    handle: ConnectionHandle<P>,
    closing: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// Sends requests to a running connection. Cheap to clone.
///
/// Subscriptions outlive the connection. The methods return at once: every request is answered by an
/// event of the connection.
pub struct ConnectionHandle<P: Product = EventContracts> {
    requests: mpsc::Sender<Request<P>>,
    command_timeout: Duration,
}

impl<P: Product> Clone for ConnectionHandle<P> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone(), command_timeout: self.command_timeout }
    }
}

impl<P: Product> Connection<P> {
    /// Connects, and starts the task that reads the connection.
    ///
    /// # Errors
    ///
    /// The first attempt failed, or the configuration cannot work. Later attempts are made by the
    /// task.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the attempt.
    pub async fn connect(config: Config<P>) -> Result<Self, ConnectError> {
        P::connect(config).await
    }

    /// Does what [`connect`](Self::connect) does. Each product calls it from a function that is not
    /// generic, so that the task is compiled in this crate, and not in every one that connects.
    pub(crate) async fn open(config: Config<P>) -> Result<Self, ConnectError> {
        let connector = Connector::new(&config)?;
        let host = connector.host().to_owned();
        let socket = connector.connect().await?;
        let queue = Arc::new(Queue::new(config.settings.queue_bytes));
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        let (closing, closed) = watch::channel(false);
        let keeps_books = config.settings.keeps_books;
        let command_timeout = config.settings.command_timeout;
        let driver = Driver::new(config.settings, connector, Arc::clone(&queue), requests, closed);
        let span = info_span!(parent: None, "connection", host);
        let task = tokio::spawn(Box::pin(driver.run(socket).instrument(span)));
        let handle = ConnectionHandle { requests: sender, command_timeout };
        let (taken, task) = (Taken::default(), Some(task));
        let books = handle.books();
        Ok(Self { queue, taken, books, keeps_books, handle, closing, task })
    }

    /// Waits for the next event, and applies it to the [books](Self::books); `None` after
    /// [`Event::Closed`].
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event<P>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    #[inline]
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<P>>> {
        let event = loop {
            if let Some(event) = self.taken.pop() {
                break event;
            }
            if ready!(self.queue.poll(&mut self.taken, cx)).is_none() {
                return Poll::Ready(None);
            }
        };
        if self.keeps_books {
            self.books.apply(&event);
        }
        Poll::Ready(Some(event))
    }

    /// Keeps no books from here on.
    pub(crate) fn give_up_books(&mut self) {
        self.keeps_books = false;
        self.books = Books::new();
    }

    /// Returns the handle that sends requests to this connection.
    pub fn handle(&self) -> &ConnectionHandle<P> {
        &self.handle
    }

    /// Returns the order books, as of the last event that was taken. One that turns out to be corrupt
    /// requests a new snapshot by itself.
    ///
    /// With [`ConfigBuilder::without_books`](crate::ConfigBuilder::without_books) there are none.
    pub const fn books(&self) -> &Books<P> {
        &self.books
    }

    /// Closes the connection gracefully, and waits for that. The events that are left, and then
    /// [`Event::Closed`], can still be read. Closing again does nothing.
    ///
    /// # Cancellation
    ///
    /// The connection closes all the same when the future is dropped.
    pub async fn close(&mut self) {
        // The task may have ended already.
        let _ = self.closing.send(true);
        if let Some(task) = &mut self.task {
            let _ = task.await;
            self.task = None;
        }
    }
}

impl<P: Product> futures_core::Stream for Connection<P> {
    type Item = Event<P>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event<P>>> {
        self.poll_event(cx)
    }
}

impl<P: Product> Drop for Connection<P> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl<P: Product> fmt::Debug for Connection<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.task.as_ref().is_some_and(|task| !task.is_finished());
        f.debug_struct("Connection").field("running", &running).finish_non_exhaustive()
    }
}

impl<P: Product> fmt::Debug for ConnectionHandle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionHandle")
            .field("closed", &self.requests.is_closed())
            .finish_non_exhaustive()
    }
}

impl<P: Product> ConnectionHandle<P> {
    /// Subscribes to a channel. A second subscription to the same channel adds its markets to the
    /// first.
    ///
    /// The answer is [`Event::Subscribed`] when the exchange has confirmed it, [`Event::Added`] for
    /// markets of a subscription that exists, or [`Event::Refused`].
    ///
    /// # Errors
    ///
    /// The subscription is invalid, too many requests are waiting, or the connection is closed.
    pub fn subscribe(&self, subscription: Subscription<P>) -> Result<(), CommandError> {
        subscription.check()?;
        self.send(Request::Subscribe(Box::new(subscription)))
    }

    /// Unsubscribes from a channel. The answer is [`Event::Unsubscribed`], or [`Event::Refused`] when
    /// there is no such subscription.
    ///
    /// # Errors
    ///
    /// Too many requests are waiting, or the connection is closed.
    pub fn unsubscribe(&self, channel: impl Into<P::Channel>) -> Result<(), CommandError> {
        self.send(Request::Unsubscribe(channel.into()))
    }

    /// Adds markets to the subscription of a channel (or indices, or underlyings). The answer is
    /// [`Event::Added`], [`Event::Subscribed`] if the channel is only now subscribed to, or
    /// [`Event::Refused`].
    ///
    /// # Errors
    ///
    /// A ticker is empty, too many requests are waiting, or the connection is closed.
    pub fn add_markets<T: Into<String>>(
        &self,
        channel: impl Into<P::Channel>,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        let items = items(tickers)?;
        self.send(Request::Add(channel.into(), items))
    }

    /// Takes markets (or indices, or underlyings) out of the subscription of a channel. The answer is
    /// [`Event::Removed`], and [`Event::Refused`] for those that are not in it.
    ///
    /// When none is left, the channel is unsubscribed from, because to the exchange no markets would
    /// mean all; markets that are added later are subscribed to with the same settings.
    ///
    /// # Errors
    ///
    /// As with [`add_markets`](Self::add_markets).
    pub fn delete_markets<T: Into<String>>(
        &self,
        channel: impl Into<P::Channel>,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        let items = items(tickers)?;
        self.send(Request::Delete(channel.into(), items))
    }

    /// Requests new snapshots of order books. Connections do that by themselves after a gap. However
    /// many are requested, a subscription makes few requests: each waits longer than the one before.
    ///
    /// # Errors
    ///
    /// As with [`add_markets`](Self::add_markets).
    pub fn get_snapshot<T: Into<String>>(
        &self,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        let items = items(tickers)?;
        self.send(Request::Snapshot(items))
    }

    /// Requests the subscriptions that the exchange has for this connection.
    ///
    /// Do not wait for it where the events are read: a connection whose channel is full and waits for
    /// its consumer ([`Overflow::Block`](crate::Overflow::Block)) reads no answer. Nothing is lost
    /// then, but the answer is [`CommandError::TimedOut`].
    ///
    /// # Errors
    ///
    /// There is no connection, no answer came within the
    /// [time limit](crate::ConfigBuilder::with_command_timeout) of a command, the exchange refused,
    /// too many requests are waiting, or the connection is closed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the answer.
    pub async fn list_subscriptions(
        &self,
    ) -> Result<Vec<ListSubscriptionsResponseItem>, CommandError> {
        let (sender, answer) = oneshot::channel();
        self.send(Request::ListSubscriptions(sender))?;
        match timeout(self.command_timeout, answer).await {
            Ok(answer) => answer.map_err(|_| CommandError::Closed)?,
            Err(_) => Err(CommandError::TimedOut),
        }
    }

    /// Returns order books that are to be fed with the events of this connection by
    /// [`Books::apply`], wherever those are consumed. One that turns out to be corrupt requests a new
    /// snapshot by itself.
    ///
    /// [`Connection::books`] needs no feeding.
    pub fn books(&self) -> Books<P> {
        let handle = self.clone();
        Books::with_resync(move |ticker| {
            // A connection that is closed gives no snapshots.
            !matches!(handle.get_snapshot([ticker]), Err(CommandError::Busy))
        })
    }

    fn send(&self, request: Request<P>) -> Result<(), CommandError> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Closed,
        })
    }
}

impl ConnectionHandle {
    /// Adds indices to a CF Benchmarks channel, or underlyings to the Pyth channel. The same as
    /// [`add_markets`](Self::add_markets), under the name of those channels.
    ///
    /// # Errors
    ///
    /// As with [`add_markets`](Self::add_markets).
    pub fn add_indices<T: Into<String>>(
        &self,
        channel: impl Into<Channel>,
        ids: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        self.add_markets(channel, ids)
    }

    /// Requests the indices (or underlyings) that a channel can be subscribed to. The answer is a
    /// message, [`Event::Unanswered`], or [`Event::Refused`] when the channel is not subscribed to.
    ///
    /// # Errors
    ///
    /// The channel has none, too many requests are waiting, or the connection is closed.
    pub fn list_indices(&self, channel: impl Into<Channel>) -> Result<(), CommandError> {
        let channel = channel.into();
        match channel {
            Channel::CfbenchmarksValue | Channel::CfbenchmarksValue5hz | Channel::PythValue => {
                self.send(Request::ListItems(channel))
            }
            _ => Err(CommandError::Invalid("the channel has no list of indices")),
        }
    }
}

fn items<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Result<Vec<String>, CommandError> {
    let items: Vec<String> = items.into_iter().map(Into::into).collect();
    check_items(&items)?;
    Ok(items)
}
