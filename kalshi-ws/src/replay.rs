//! The events of a stream from frames that come from anywhere: a recording, a test, a socket of
//! one's own. Pure; nothing is sent, and time passes only as the frames say.

use std::time::Duration;

use kalshi_types::UnixMillis;
use tokio::time::Instant;

use crate::{
    connection::backoff::Backoff,
    event::{DisconnectReason, Event},
    protocol::frame::Decoder,
    session::{Limits, Output, SessionState},
};

/// Turns frames into the events that a [`Connection`](crate::Connection) would give.
///
/// Subscriptions are taken from the confirmations among the frames. Sequence numbers are checked as
/// in a stream, so a recording with a hole has the same [`Event::Gap`].
///
/// ```
/// use kalshi_types::UnixMillis;
/// use kalshi_ws::{Books, Replay};
///
/// let mut replay = Replay::new();
/// let mut books = Books::new();
/// for frame in [
///     r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
///     r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","yes_dollars_fp":[["0.40","10.00"]]}}"#,
/// ] {
///     replay.frame(frame, UnixMillis::from_millis(0), |event| {
///         books.apply(&event);
///     });
/// }
/// assert!(books.get("A").is_some());
/// ```
pub struct Replay {
    session: SessionState,
    decoder: Decoder,
    /// Any instant: only differences count, and none of them matters here.
    now: Instant,
}

impl Default for Replay {
    fn default() -> Self {
        Self::new()
    }
}

impl Replay {
    /// Nothing has been played back yet.
    pub fn new() -> Self {
        let never = Duration::from_secs(u64::from(u32::MAX));
        let limits = Limits {
            command_timeout: never,
            snapshot_timeout: Duration::ZERO,
            stale_after: never,
            backoff: Backoff::new(Duration::ZERO, Duration::ZERO),
            items_per_command: 1,
        };
        let now = Instant::now();
        Self { session: SessionState::passive(limits, now), decoder: Decoder::new(), now }
    }

    /// Calls `each` with the events of the next frame, which arrived at the time.
    #[inline]
    pub fn frame(&mut self, text: &str, received: UnixMillis, mut each: impl FnMut(Event)) {
        let frame = self.decoder.decode(text, received);
        match self.session.frame(frame, text.len(), self.now) {
            Some((_, event)) => each(event),
            None => self.events(&mut each),
        }
    }

    /// Calls `each` with what follows from the connection being lost here.
    pub fn disconnected(&mut self, reason: DisconnectReason, mut each: impl FnMut(Event)) {
        self.session.disconnected(reason, self.now);
        self.events(&mut each);
    }

    fn events(&mut self, each: &mut impl FnMut(Event)) {
        while let Some(output) = self.session.output() {
            match output {
                Output::Event(_, event, _) => each(event),
                Output::ForgetNames(tickers) => self.decoder.forget(tickers),
                Output::ForgetAllNames => self.decoder.clear(),
                Output::Send(_) | Output::Lane { .. } | Output::Drop(_) => {}
            }
        }
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}
