//! The task: it reads and writes the socket, carries out what the session decides, and connects
//! again.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::future::poll_fn;
use kalshi_types::UnixMillis;
use tokio::{
    select,
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{Instrument as _, info_span};

use super::{
    framing::Incoming,
    queue::{Closer, Entry, Pushed, Queue, Staged},
    socket::{Connector, Socket},
};
use crate::{
    config::{Settings, Tap},
    connection::backoff::Backoff,
    error::{ConnectError, ConnectErrorKind},
    event::{DisconnectReason, Event},
    metrics::Batch,
    product::{EventContracts, Product},
    protocol::frame::{Decoder, Frame},
    session::{Lane, Output, Request, SessionState},
};

/// The number of frames that are read at a stretch, before anything else is looked at.
const BURST: usize = 64;

/// The time that a consumer is given to make room before its oldest messages are dropped.
const GRACE: Duration = Duration::from_millis(500);

/// The time that the exchange may take to close its end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of times in a row that the exchange may refuse the key.
const MAX_KEY_REFUSALS: u32 = 3;

/// The task of a connection.
pub(super) struct Driver<P: Product = EventContracts> {
    config: Settings<P>,
    connector: Connector,
    session: SessionState<P>,
    decoder: Decoder<P>,
    queue: Closer<P>,
    requests: mpsc::Receiver<Request<P>>,
    closing: watch::Receiver<bool>,
    /// Commands that are not on the wire yet.
    outgoing: VecDeque<String>,
    /// Events that are not in the queue yet.
    staged: VecDeque<Entry<P>>,
    /// The session gives up the connection.
    ending: Option<DisconnectReason>,
    /// Subscriptions that ended because the consumer was too slow: it gets no more of them.
    failed: Vec<usize>,
    /// Attempts since the last connection that held.
    attempts: u32,
    /// Attempts in a row for which the exchange refused the key.
    key_refusals: u32,
    last_error: Option<Arc<ConnectError>>,
    /// The frames that are being read at a stretch.
    batch: Batch,
}

/// The end of a connection.
enum End {
    Closed,
    Lost(DisconnectReason),
}

impl<P: Product> Driver<P> {
    pub(super) fn new(
        config: Settings<P>,
        connector: Connector,
        queue: Arc<Queue<P>>,
        requests: mpsc::Receiver<Request<P>>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            session: SessionState::new(config.limits(), Instant::now()),
            decoder: Decoder::new(),
            config,
            connector,
            queue: Closer(queue),
            requests,
            closing,
            outgoing: VecDeque::new(),
            staged: VecDeque::new(),
            ending: None,
            failed: Vec::new(),
            attempts: 0,
            key_refusals: 0,
            last_error: None,
            batch: Batch::default(),
        }
    }

    pub(super) async fn run(mut self, socket: Socket) {
        let mut socket = Box::new(socket);
        let mut attempts = None;
        let error = loop {
            self.tap(|tap, at| tap.connected(at));
            self.session.connected(Instant::now(), attempts);
            self.outgoing.clear();
            self.ending = None;
            let reason = match self.converse(&mut socket).await {
                End::Closed => {
                    finish(&mut socket).await;
                    break None;
                }
                End::Lost(reason) => reason,
            };
            tracing::info!(%reason, "disconnected");
            self.tap(|tap, at| tap.disconnected(at, &reason.to_string()));
            self.session.disconnected(reason, Instant::now());
            if socket.owes_goodbye() {
                // The peer's end may take a moment, which nothing has to wait for.
                let mut last = socket;
                tokio::spawn(async move { finish(&mut last).await });
            } else {
                drop(socket);
            }
            match self.reconnect().await {
                Ok((connected, tried)) => {
                    socket = Box::new(connected);
                    attempts = Some(tried);
                }
                Err(error) => break error,
            }
        };
        self.queue.close(Event::Closed { error });
    }

    /// Reads and writes until the connection ends.
    async fn converse(&mut self, socket: &mut Socket) -> End {
        let connected = Instant::now();
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
                read = poll_fn(|cx| poll_socket(socket, outgoing, cx)) => {
                    if let Some(end) = self.read_burst(read, socket).await {
                        return end;
                    }
                }
                Some(request) = self.requests.recv() => {
                    self.session.request(request, Instant::now());
                }
                () = self.queue.changed.notified() => self.resync_lagged(),
                _ = ticks.tick() => {
                    // What is there already is no silence, however late this task comes to it.
                    if let Poll::Ready(read) = read_now(socket)
                        && let Some(end) = self.read_burst(read, socket).await
                    {
                        return end;
                    }
                    self.tick(connected);
                }
                _ = self.closing.changed() => return End::Closed,
            }
        }
    }

    fn tick(&mut self, connected: Instant) {
        let now = Instant::now();
        self.session.compare_clocks(now, self.config.clock.now());
        self.session.tick(now);
        let held = now.saturating_duration_since(connected) >= self.config.backoff.longest();
        if self.attempts > 0 && held && self.session.is_confirmed() {
            self.attempts = 0;
            self.last_error = None;
        }
    }

    fn resync_lagged(&mut self) {
        for lane in self.queue.take_lagged() {
            self.session.lagged(lane, Instant::now());
        }
    }

    /// Handles what was read, and what is there already behind it.
    async fn read_burst(&mut self, read: io::Result<()>, socket: &mut Socket) -> Option<End> {
        let (now, at) = (Instant::now(), self.config.clock.now());
        self.session.compare_clocks(now, at);
        self.stage();
        let (mut read, mut end, mut left) = (Some(read), None, BURST);
        while left > 0 && end.is_none() && self.ending.is_none() {
            match socket.next() {
                Ok(Some(incoming)) => {
                    left -= 1;
                    end = self.incoming(incoming, now, at);
                }
                Ok(None) => match read.take() {
                    Some(Err(error)) => {
                        end = Some(End::Lost(DisconnectReason::Failed(error.to_string())));
                    }
                    _ => match read_now(socket) {
                        Poll::Ready(more) => read = Some(more),
                        Poll::Pending => break,
                    },
                },
                Err(error) => end = Some(End::Lost(DisconnectReason::Failed(error.to_string()))),
            }
        }
        // What came before the end is delivered.
        let end = self.carry_out().await.or(end);
        let batch = std::mem::take(&mut self.batch);
        if let Some(metrics) = &mut self.config.metrics
            && batch.frames > 0
        {
            let (waiting, dropped) = self.queue.depth();
            metrics.batch(&Batch { waiting, dropped, ..batch });
        }
        if end.is_none() && left == 0 {
            // There may be more: the consumer goes first.
            yield_now().await;
        }
        end
    }

    /// Handles what came over the wire.
    #[inline]
    fn incoming(&mut self, incoming: Incoming<'_>, now: Instant, at: UnixMillis) -> Option<End> {
        match incoming {
            Incoming::Text(text) => self.frame(text, now, at),
            // Not documented. Text is read as such, anything else is malformed.
            Incoming::Binary(bytes) => self.frame(&String::from_utf8_lossy(bytes), now, at),
            Incoming::Ping(_) | Incoming::Pong => self.session.record_activity(now),
            Incoming::Close(close) => {
                let (code, reason) = match close {
                    Some((code, reason)) => (Some(code), reason.to_owned()),
                    None => (None, String::new()),
                };
                return Some(End::Lost(DisconnectReason::Closed { code, reason }));
            }
        }
        None
    }

    fn frame(&mut self, text: &str, now: Instant, at: UnixMillis) {
        if let Some(tap) = &mut self.config.tap {
            tap.received(at, text);
        }
        self.batch.frames += 1;
        self.batch.bytes += text.len();
        let Some(scanned) = P::scan(text) else {
            let frame = self.decoder.decode_any(text, at);
            return self.take_frame(frame, text.len(), now);
        };
        let (seq, ticker) = (Some(scanned.seq), scanned.market_ticker);
        let Some(lane) = self.session.next_delta(scanned.sid, seq, ticker, now) else {
            let frame = self.decoder.decode(text, at);
            return self.take_frame(frame, text.len(), now);
        };
        let event = Event::Message(self.decoder.message(&scanned, at));
        if self.failed.is_empty() && self.config.metrics.is_none() {
            self.staged.push_back(Staged { lane, event, bytes: text.len() }.into());
        } else {
            self.stage_event(lane, event, text.len());
        }
    }

    /// Hands a frame to the session, and takes what follows from it.
    #[inline(never)]
    fn take_frame(&mut self, frame: Frame<P>, bytes: usize, now: Instant) {
        match self.session.frame(frame, bytes, now) {
            Some((lane, event)) => self.stage_event(lane, event, bytes),
            None => self.stage(),
        }
    }

    fn stage_event(&mut self, lane: Lane, event: Event<P>, bytes: usize) {
        if let Lane::Channel(lane) = lane
            && self.failed.contains(&lane)
        {
            return;
        }
        if let Some(metrics) = &mut self.config.metrics {
            match &event {
                Event::Message(message) => metrics.message(message),
                other => metrics.event(other),
            }
        }
        self.staged.push_back(Staged { lane, event, bytes }.into());
    }

    /// Takes what the session wants done.
    fn stage(&mut self) {
        while let Some(output) = self.session.output() {
            match output {
                Output::Send(command) => {
                    let text = command.to_text();
                    if let Some(tap) = &mut self.config.tap {
                        tap.sent(self.config.clock.now(), &text);
                    }
                    self.outgoing.push_back(text);
                }
                Output::Event(lane, event, bytes) => self.stage_event(lane, event, bytes),
                Output::Lane { lane, channel, overflow, capacity, is_new } => {
                    if is_new {
                        self.failed.retain(|failed| *failed != lane);
                    }
                    self.queue.lane(lane, channel, overflow, capacity);
                }
                Output::ForgetNames(tickers) => self.decoder.forget(tickers),
                Output::ForgetAllNames => self.decoder.clear(),
                Output::Drop(reason) => {
                    self.ending.get_or_insert(reason);
                }
            }
        }
    }

    /// Does what the session wants done, and waits for room in the queue where a policy says so.
    async fn carry_out(&mut self) -> Option<End> {
        self.stage();
        while !self.staged.is_empty() {
            match self.queue.push_all(&mut self.staged) {
                Pushed::Done => {}
                Pushed::Failed(lane) => {
                    self.failed.push(lane);
                    self.staged.retain(|entry| !entry.is_of(Lane::Channel(lane)));
                    self.session.overflowed(lane, Instant::now());
                }
                Pushed::Full { drops } => {
                    select! {
                        () = self.queue.changed.notified() => {}
                        () = sleep(GRACE), if drops.is_some() => {
                            if let Some(lane) = drops {
                                self.queue.drop_oldest(lane);
                            }
                        }
                        _ = self.closing.changed() => return Some(End::Closed),
                    }
                    // Nothing came because nothing was read.
                    self.session.record_activity(Instant::now());
                    self.resync_lagged();
                }
            }
            self.stage();
        }
        self.ending.take().map(End::Lost)
    }

    /// Tries until there is a connection. The error ends the connection for good; `None` if it was
    /// closed.
    async fn reconnect(&mut self) -> Result<(Socket, u32), Option<Arc<ConnectError>>> {
        let mut tried = 0;
        loop {
            if matches!(self.carry_out().await, Some(End::Closed)) {
                return Err(None);
            }
            if self.config.max_attempts.is_some_and(|most| self.attempts >= most) {
                return Err(Some(self.last_error.take().unwrap_or_else(|| {
                    let why = "connections were made, and none of them held";
                    Arc::new(ConnectError::new(ConnectErrorKind::Unstable, why))
                })));
            }
            self.attempts = self.attempts.saturating_add(1);
            tried += 1;
            let wait =
                sleep(pause(&self.config.backoff, self.attempts, self.last_error.as_deref()));
            tokio::pin!(wait);
            let connected = loop {
                select! {
                    () = &mut wait => break self.try_connect(tried).await?,
                    Some(request) = self.requests.recv() => {
                        self.session.request(request, Instant::now());
                    }
                    () = self.queue.changed.notified() => self.resync_lagged(),
                    _ = self.closing.changed() => return Err(None),
                }
                if matches!(self.carry_out().await, Some(End::Closed)) {
                    return Err(None);
                }
            };
            let error = match connected {
                Ok(socket) => {
                    self.key_refusals = 0;
                    self.last_error = None;
                    return Ok((socket, tried));
                }
                Err(error) => Arc::new(error),
            };
            tracing::info!(attempt = tried, error = error.full(), "could not connect");
            self.key_refusals = if error.is_key_refused() { self.key_refusals + 1 } else { 0 };
            self.last_error = Some(Arc::clone(&error));
            let event = Event::ReconnectFailed { attempt: tried, error: Arc::clone(&error) };
            self.stage_event(Lane::Control, event, 0);
            if self.key_refusals >= MAX_KEY_REFUSALS {
                // The key is wrong, and stays so.
                return match self.carry_out().await {
                    Some(End::Closed) => Err(None),
                    _ => Err(Some(error)),
                };
            }
        }
    }

    /// Makes one attempt; the outer error says that the connection was closed meanwhile.
    async fn try_connect(
        &mut self,
        attempt: u32,
    ) -> Result<Result<Socket, ConnectError>, Option<Arc<ConnectError>>> {
        let connect = self.connector.connect().instrument(info_span!("connect", attempt));
        select! {
            connected = connect => Ok(connected),
            _ = self.closing.changed() => Err(None),
        }
    }

    fn tap(&mut self, call: impl FnOnce(&mut dyn Tap, UnixMillis)) {
        if let Some(tap) = &mut self.config.tap {
            call(&mut **tap, self.config.clock.now());
        }
    }
}

/// Returns the pause before an attempt: longer when the exchange refused the one before than when the
/// network failed, and as long as the exchange asks for.
fn pause(backoff: &Backoff, attempts: u32, error: Option<&ConnectError>) -> Duration {
    let further = match error.map(ConnectError::kind) {
        // The key is wrong, or the clock is: neither is put right in a moment.
        Some(ConnectErrorKind::Rejected(401 | 403)) => 4,
        Some(ConnectErrorKind::Rejected(429)) => 3,
        Some(ConnectErrorKind::Rejected(500..)) => 1,
        _ => 0,
    };
    let pause = backoff.delay(attempts.saturating_add(further));
    pause.max(error.and_then(ConnectError::retry_after).unwrap_or_default())
}

/// Writes what can be written, then reads what can be read. Writing never keeps from reading: a
/// peer that does not read before it has written would wait forever.
fn poll_socket(
    socket: &mut Socket,
    outgoing: &mut VecDeque<String>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if let Poll::Ready(Err(error)) = socket.poll_write(outgoing, cx) {
        return Poll::Ready(Err(error));
    }
    if socket.has_more() { Poll::Ready(Ok(())) } else { socket.poll_read(cx) }
}

/// Reads what is there already.
fn read_now(socket: &mut Socket) -> Poll<io::Result<()>> {
    // The next poll that waits registers its waker again.
    socket.poll_read(&mut Context::from_waker(Waker::noop()))
}

/// Closes the WebSocket, and waits for the peer to close its end, for a moment.
async fn finish(socket: &mut Socket) {
    // A peer that does not answer is left alone.
    let _ = timeout(CLOSE_TIMEOUT, socket.finish()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_refusals_of_the_handshake_wait_longer_than_failures_of_the_network() {
        let backoff = Backoff::default().with_random(|| 0);
        let millis = Duration::from_millis;
        let of = |kind| ConnectError::new(kind, "refused");
        for (kind, first) in [
            (ConnectErrorKind::Network, millis(250)),
            (ConnectErrorKind::Timeout, millis(250)),
            (ConnectErrorKind::Rejected(404), millis(250)),
            (ConnectErrorKind::Rejected(503), millis(500)),
            (ConnectErrorKind::Rejected(429), millis(2_000)),
            (ConnectErrorKind::Rejected(401), millis(4_000)),
        ] {
            assert_eq!(pause(&backoff, 1, Some(&of(kind))), first, "{kind:?}");
            assert_eq!(pause(&backoff, 2, Some(&of(kind))), first * 2, "{kind:?}");
            assert_eq!(pause(&backoff, u32::MAX, Some(&of(kind))), Duration::from_secs(30));
        }
        let asked = of(ConnectErrorKind::Rejected(429)).with_retry_after(Some(millis(90_000)));
        assert_eq!(pause(&backoff, 1, Some(&asked)), millis(90_000));
        assert_eq!(pause(&backoff, 1, None), millis(250));
    }
}
