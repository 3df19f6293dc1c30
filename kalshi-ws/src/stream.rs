//! A running stream: the task that reads the connection, and the ends that the consumer holds.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt, future::poll_fn};
use kalshi_types::UnixMillis;
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::tungstenite;

use crate::{
    books::Books,
    config::Config,
    connect::{Connector, Socket},
    error::{CommandError, ConnectError},
    event::{DisconnectReason, Event},
    frame::Decoder,
    generated::{Channel, types::ListSubscriptionsResponseItem},
    machine::{Lane, Machine, Output, Request},
    queue::{Pushed, Queue},
    subscription::{Subscription, check_items},
};

/// Commands that wait for the task.
const MAX_REQUESTS: usize = 1_024;

/// Frames that are read at a stretch, before anything else is looked at.
const BURST: usize = 64;

/// How long the exchange may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to the exchange that outlives its sockets: what it was asked for is asked for again
/// after each loss, and every loss is an [`Event`].
///
/// It is a [`futures_core::Stream`] of events; the last is [`Event::Closed`]. Dropping it closes the
/// connection at once; [`close`](Self::close) does so in good order.
///
/// ```no_run
/// use kalshi_auth::Credentials;
/// use kalshi_ws::{Config, Environment, Event, Stream, Subscription};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::new(Environment::Demo, Credentials::from_env()?);
/// let mut stream = Stream::connect(config).await?;
/// stream.commands().subscribe(Subscription::orderbook(["KXBTC-25"]))?;
/// let mut books = stream.books();
/// while let Some(event) = stream.next().await {
///     books.apply(&event);
///     if let Some(book) = books.get("KXBTC-25") {
///         // Exactly what the exchange has. `None` while that is not known.
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Stream {
    queue: Arc<Queue>,
    commands: Commands,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Asks things of a running stream. Cheap to clone.
///
/// What is asked for here outlives the connection. The methods return at once: what becomes of a
/// request is told by the events of the stream.
#[derive(Clone)]
pub struct Commands(mpsc::Sender<Request>);

impl Stream {
    /// Connects, and starts the task that reads the connection.
    ///
    /// # Errors
    ///
    /// The first attempt failed, or the configuration cannot work. Later attempts are the stream's
    /// own.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the attempt.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let connector = Connector::new(&config)?;
        let socket = connector.connect().await?;
        let queue = Arc::new(Queue::new());
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        let (closing, closed) = watch::channel(false);
        let driver = Driver {
            machine: Machine::new(config.limits(), Instant::now()),
            decoder: Decoder::new(),
            config,
            connector,
            queue: Arc::clone(&queue),
            requests,
            closing: closed,
            outgoing: VecDeque::new(),
            failed: Vec::new(),
        };
        let task = tokio::spawn(Box::pin(driver.run(socket)));
        Ok(Self { queue, commands: Commands(sender), closing, task })
    }

    /// The next event; `None` after [`Event::Closed`].
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.queue.poll(cx)).await
    }

    /// What asks things of this stream.
    pub fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Order books that are to be fed with the events of this stream. One that turns out to be
    /// corrupt asks for a new snapshot by itself.
    pub fn books(&self) -> Books {
        let commands = self.commands.clone();
        Books::with_resync(move |ticker| {
            // A stream that is over gives no snapshots.
            !matches!(commands.get_snapshot([ticker]), Err(CommandError::Busy))
        })
    }

    /// Closes the connection in good order, and waits for that. The events that are left, and then
    /// [`Event::Closed`], can still be read.
    pub async fn close(&mut self) {
        // The task may be over already.
        let _ = self.closing.send(true);
        let _ = (&mut self.task).await;
    }
}

impl futures_core::Stream for Stream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.queue.poll(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("running", &!self.task.is_finished()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").field("closed", &self.0.is_closed()).finish()
    }
}

impl Commands {
    /// Wishes for a channel. A second wish for the same channel adds its markets to the first.
    ///
    /// [`Event::Subscribed`] says that the exchange has confirmed it, [`Event::Refused`] that it
    /// has not.
    ///
    /// # Errors
    ///
    /// The subscription makes no sense, too many requests are waiting, or the stream is over.
    pub fn subscribe(&self, subscription: Subscription) -> Result<(), CommandError> {
        subscription.check()?;
        self.send(Request::Subscribe(Box::new(subscription)))
    }

    /// Gives up a channel. [`Event::Unsubscribed`] says that it is over.
    ///
    /// # Errors
    ///
    /// Too many requests are waiting, or the stream is over.
    pub fn unsubscribe(&self, channel: impl Into<Channel>) -> Result<(), CommandError> {
        self.send(Request::Unsubscribe(channel.into()))
    }

    /// Adds markets to the subscription of a channel (or indices, or underlyings).
    ///
    /// # Errors
    ///
    /// A ticker is empty, too many requests are waiting, or the stream is over.
    pub fn add_markets<T: Into<String>>(
        &self,
        channel: impl Into<Channel>,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        let items = items(tickers)?;
        self.send(Request::Add(channel.into(), items))
    }

    /// Takes markets (or indices, or underlyings) out of the subscription of a channel. When none
    /// is left, the channel is given up: to the exchange no markets would mean all.
    ///
    /// # Errors
    ///
    /// As with [`add_markets`](Self::add_markets).
    pub fn delete_markets<T: Into<String>>(
        &self,
        channel: impl Into<Channel>,
        tickers: impl IntoIterator<Item = T>,
    ) -> Result<(), CommandError> {
        let items = items(tickers)?;
        self.send(Request::Delete(channel.into(), items))
    }

    /// Asks for new snapshots of order books. Streams do that by themselves after a gap.
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

    /// Asks which indices (or underlyings) a channel can be subscribed to. The answer is a message.
    ///
    /// # Errors
    ///
    /// The channel has none, too many requests are waiting, or the stream is over.
    pub fn list_indices(&self, channel: impl Into<Channel>) -> Result<(), CommandError> {
        let channel = channel.into();
        match channel {
            Channel::CfbenchmarksValue | Channel::CfbenchmarksValue5hz | Channel::PythValue => {
                self.send(Request::ListItems(channel))
            }
            _ => Err(CommandError::Invalid("the channel has no list of indices")),
        }
    }

    /// Asks for the subscriptions that the exchange has for this connection.
    ///
    /// # Errors
    ///
    /// There is no connection, the exchange refused, too many requests are waiting, or the stream
    /// is over.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the answer.
    pub async fn list_subscriptions(
        &self,
    ) -> Result<Vec<ListSubscriptionsResponseItem>, CommandError> {
        let (sender, answer) = oneshot::channel();
        self.send(Request::ListSubscriptions(sender))?;
        answer.await.map_err(|_| CommandError::Closed)?
    }

    fn send(&self, request: Request) -> Result<(), CommandError> {
        self.0.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Closed,
        })
    }
}

fn items<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Result<Vec<String>, CommandError> {
    let items: Vec<String> = items.into_iter().map(Into::into).collect();
    check_items(&items)?;
    Ok(items)
}

/// The task.
struct Driver {
    config: Config,
    connector: Connector,
    machine: Machine,
    decoder: Decoder,
    queue: Arc<Queue>,
    requests: mpsc::Receiver<Request>,
    closing: watch::Receiver<bool>,
    /// Commands that are not on the wire yet.
    outgoing: VecDeque<String>,
    /// Subscriptions that ended because the consumer was too slow: it gets no more of them.
    failed: Vec<usize>,
}

/// How a connection ended.
enum End {
    Closed,
    Lost(DisconnectReason),
}

impl Driver {
    async fn run(mut self, socket: Socket) {
        let mut socket = Box::new(socket);
        let mut attempts = None;
        let error = loop {
            self.tap(|tap, at| tap.connected(at));
            self.machine.connected(Instant::now(), attempts);
            self.outgoing.clear();
            let reason = match self.converse(&mut socket).await {
                End::Closed => {
                    say_goodbye(&mut socket).await;
                    break None;
                }
                End::Lost(reason) => reason,
            };
            tracing::info!(%reason, "disconnected");
            self.tap(|tap, at| tap.disconnected(at, &reason.to_string()));
            self.machine.disconnected(reason);
            match self.reconnect().await {
                Ok((connected, tried)) => {
                    *socket = connected;
                    attempts = Some(tried);
                }
                Err(error) => break error,
            }
        };
        self.queue.close(Event::Closed { error });
    }

    /// Reads and writes until the connection ends.
    async fn converse(&mut self, socket: &mut Socket) -> End {
        let mut written = true;
        let mut goodbye = None;
        let shortest =
            [self.config.stale_after, self.config.command_timeout, self.config.snapshot_timeout];
        let period = shortest.into_iter().min().unwrap_or_default() / 8;
        let period = period.clamp(Duration::from_millis(5), Duration::from_millis(100));
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(end) = self.carry_out().await {
                return end;
            }
            let outgoing = &mut self.outgoing;
            select! {
                read = poll_fn(|cx| poll_socket(socket, outgoing, &mut written, cx)) => {
                    let mut next = Some(read);
                    for left in (0..BURST).rev() {
                        let Some(read) = next.take() else { break };
                        let mut ready = None;
                        let end = self.read(read, &mut goodbye, &mut ready);
                        if let Some((lane, event)) = ready
                            && !self.deliver(lane, event).await
                        {
                            return End::Closed;
                        }
                        let asked = self.carry_out().await;
                        // What came before the end has been delivered.
                        if let Some(end) = asked.or(end) {
                            return end;
                        }
                        if left > 0 {
                            next = socket.next().now_or_never();
                        }
                    }
                }
                Some(request) = self.requests.recv() => {
                    self.machine.request(request, Instant::now());
                }
                () = self.queue.changed.notified() => self.resync_lagged(),
                _ = ticks.tick() => self.machine.tick(Instant::now()),
                _ = self.closing.changed() => return End::Closed,
            }
        }
    }

    fn resync_lagged(&mut self) {
        for slot in self.queue.take_lagged() {
            self.machine.lagged(slot, Instant::now());
        }
    }

    /// Takes in what came over the wire.
    fn read(
        &mut self,
        read: Option<Result<tungstenite::Message, tungstenite::Error>>,
        goodbye: &mut Option<DisconnectReason>,
        ready: &mut Option<(Lane, Event)>,
    ) -> Option<End> {
        let now = Instant::now();
        match read {
            Some(Ok(tungstenite::Message::Text(text))) => *ready = self.frame(&text, now),
            Some(Ok(tungstenite::Message::Binary(bytes))) => {
                // Not documented. Text is read as such, anything else is malformed.
                *ready = self.frame(&String::from_utf8_lossy(&bytes), now);
            }
            Some(Ok(tungstenite::Message::Close(frame))) => {
                let (code, reason) = match frame {
                    Some(frame) => (Some(frame.code.into()), frame.reason.to_string()),
                    None => (None, String::new()),
                };
                *goodbye = Some(DisconnectReason::Closed { code, reason });
            }
            Some(Ok(_)) => self.machine.heard(now),
            Some(Err(error)) => {
                let failed = DisconnectReason::Failed(error.to_string());
                return Some(End::Lost(goodbye.take().unwrap_or(failed)));
            }
            None => {
                let closed = DisconnectReason::Closed { code: None, reason: String::new() };
                return Some(End::Lost(goodbye.take().unwrap_or(closed)));
            }
        }
        None
    }

    fn frame(&mut self, text: &str, now: Instant) -> Option<(Lane, Event)> {
        let at = self.config.clock.now();
        if let Some(tap) = &mut self.config.tap {
            tap.received(at, text);
        }
        let frame = self.decoder.decode(text, at);
        self.machine.frame(frame, now)
    }

    /// Does what the machine wants done, and waits for room where a policy says so.
    async fn carry_out(&mut self) -> Option<End> {
        let mut end = None;
        while let Some(output) = self.machine.output() {
            match output {
                Output::Send(text) => {
                    if let Some(tap) = &mut self.config.tap {
                        tap.sent(self.config.clock.now(), &text);
                    }
                    self.outgoing.push_back(text);
                }
                Output::Event(lane, event) => {
                    if !self.deliver(lane, event).await {
                        return Some(End::Closed);
                    }
                }
                Output::Lane { slot, channel, overflow, capacity } => {
                    self.failed.retain(|failed| *failed != slot);
                    self.queue.lane(slot, channel, overflow, capacity);
                }
                Output::Drop(reason) => end = Some(End::Lost(reason)),
            }
        }
        end
    }

    /// Hands an event to the consumer; false if the stream was closed meanwhile.
    async fn deliver(&mut self, lane: Lane, mut event: Event) -> bool {
        if let Lane::Slot(slot) = lane
            && self.failed.contains(&slot)
        {
            return true;
        }
        let mut waited = false;
        loop {
            match self.queue.push(lane, event) {
                Pushed::Done => break,
                Pushed::Full(back) => event = back,
                Pushed::Failed => {
                    if let Lane::Slot(slot) = lane {
                        self.failed.push(slot);
                        self.machine.overflowed(slot, Instant::now());
                    }
                    return true;
                }
            }
            waited = true;
            select! {
                () = self.queue.changed.notified() => {}
                _ = self.closing.changed() => return false,
            }
        }
        if waited {
            // Nothing was heard because nobody listened.
            self.machine.heard(Instant::now());
            self.resync_lagged();
        }
        true
    }

    /// Tries until there is a connection. The error ends the stream; `None` if it was closed.
    async fn reconnect(&mut self) -> Result<(Socket, u32), Option<String>> {
        let mut attempt = 0;
        loop {
            if self.carry_out().await.is_some_and(|end| matches!(end, End::Closed)) {
                return Err(None);
            }
            attempt += 1;
            let wait = sleep(self.config.backoff.delay(attempt));
            tokio::pin!(wait);
            let connected = loop {
                select! {
                    () = &mut wait => break self.try_connect().await?,
                    Some(request) = self.requests.recv() => {
                        self.machine.request(request, Instant::now());
                    }
                    () = self.queue.changed.notified() => self.resync_lagged(),
                    _ = self.closing.changed() => return Err(None),
                }
                if self.carry_out().await.is_some_and(|end| matches!(end, End::Closed)) {
                    return Err(None);
                }
            };
            let error = match connected {
                Ok(socket) => return Ok((socket, attempt)),
                Err(error) => error,
            };
            tracing::info!(attempt, error = error.full(), "could not connect");
            let failed = Event::reconnect_failed(attempt, &error);
            if !self.deliver(Lane::Control, failed).await {
                return Err(None);
            }
            if self.config.max_attempts.is_some_and(|most| attempt >= most) {
                return Err(Some(error.full()));
            }
        }
    }

    /// One attempt; the outer error says that the stream was closed meanwhile.
    async fn try_connect(&mut self) -> Result<Result<Socket, ConnectError>, Option<String>> {
        select! {
            connected = self.connector.connect() => Ok(connected),
            _ = self.closing.changed() => Err(None),
        }
    }

    fn tap(&mut self, call: impl FnOnce(&mut dyn crate::config::Tap, UnixMillis)) {
        if let Some(tap) = &mut self.config.tap {
            call(&mut **tap, self.config.clock.now());
        }
    }
}

/// Writes what can be written, then reads what can be read. Writing never keeps from reading: a
/// peer that does not read before it has written would wait forever.
fn poll_socket(
    socket: &mut Socket,
    outgoing: &mut VecDeque<String>,
    written: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<tungstenite::Message, tungstenite::Error>>> {
    let failed = |error| Poll::Ready(Some(Err(error)));
    while !outgoing.is_empty() {
        match socket.poll_ready_unpin(cx) {
            Poll::Pending => break,
            Poll::Ready(Err(error)) => return failed(error),
            Poll::Ready(Ok(())) => {}
        }
        if let Some(text) = outgoing.pop_front() {
            *written = false;
            if let Err(error) = socket.start_send_unpin(tungstenite::Message::text(text)) {
                return failed(error);
            }
        }
    }
    if !*written {
        match socket.poll_flush_unpin(cx) {
            Poll::Pending => {}
            Poll::Ready(Err(error)) => return failed(error),
            Poll::Ready(Ok(())) => *written = true,
        }
    }
    Poll::Ready(ready!(socket.poll_next_unpin(cx)))
}

async fn say_goodbye(socket: &mut Socket) {
    let goodbye = async {
        if socket.close(None).await.is_ok() {
            // Until the peer has closed too.
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // A peer that does not answer is left alone.
    let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
}
