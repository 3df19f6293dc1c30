//! A recording as events, as fast as it was or as fast as it is read.

use std::{collections::VecDeque, time::Duration};

use kalshi_types::UnixMillis;
use tokio::time::{Instant, sleep_until};

use super::{
    line::{RecordedEvent, RecordedLine, RecordingHeader},
    reader::{Recording, RecordingError},
};
use crate::{DisconnectReason, Event, PriceConvention, Replay};

/// The speed at which a recording is played back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Speed {
    /// Without waiting.
    #[default]
    Unbounded,
    /// This number of times as fast as it was; 1 is as it was.
    Times(f64),
}

/// Plays back a recording: the events that the connection would have given, as far as its frames and
/// commands tell them (see [`Replay::sent`]).
#[derive(Debug)]
pub struct Player {
    recording: Recording,
    replay: Replay,
    /// The convention of files without a header.
    prices: PriceConvention,
    /// The start of the recording that is being played, from its header.
    started: Option<UnixMillis>,
    /// A line that was read and waits for its time.
    line: Option<RecordedLine>,
    /// A line that could not be read, and has not been reported yet.
    failed: Option<RecordingError>,
    /// The time of the last line that was played.
    at: UnixMillis,
    events: VecDeque<Event>,
    speed: Speed,
    /// The time of the first line, and when it was played.
    began: Option<(UnixMillis, Instant)>,
}

impl Player {
    /// Returns a player that plays as fast as it reads. The convention is that of files without a
    /// header; the others say it themselves.
    pub fn new(recording: Recording, prices: PriceConvention) -> Self {
        Self {
            recording,
            replay: Replay::new(prices),
            prices,
            started: None,
            line: None,
            failed: None,
            at: UnixMillis::from_millis(i64::MIN),
            events: VecDeque::new(),
            speed: Speed::Unbounded,
            began: None,
        }
    }

    /// Plays at this speed.
    #[must_use]
    pub fn with_speed(self, speed: Speed) -> Self {
        Self { speed, ..self }
    }

    /// Returns the next event; `None` at the end.
    ///
    /// # Errors
    ///
    /// A file cannot be read, is of a later version, or has a line that is malformed. What follows
    /// can still be played: an [`Event::Disconnected`] comes first, since something is missing.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, RecordingError>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            self.peek();
            if let Some(error) = self.failed.take() {
                self.disconnected(error.to_string());
                return Some(Err(error));
            }
            let at = self.line.as_ref()?.at;
            self.wait_for(at).await;
            let line = self.line.take()?;
            self.play(line);
        }
    }

    /// Reads the next line, and returns its time. What is left of the last line, an error and the end
    /// have the time of the last line.
    pub(crate) fn peek(&mut self) -> UnixMillis {
        if !self.events.is_empty() || self.failed.is_some() {
            return self.at;
        }
        if self.line.is_none() {
            match self.recording.next() {
                Some(Ok(line)) => self.line = Some(line),
                Some(Err(error)) => self.failed = Some(error),
                None => {}
            }
        }
        self.line.as_ref().map_or(self.at, |line| line.at)
    }

    fn play(&mut self, line: RecordedLine) {
        self.at = line.at;
        match line.event {
            RecordedEvent::Received(text) => {
                let events = &mut self.events;
                self.replay.frame(&text, line.at, |event| events.push_back(event));
            }
            RecordedEvent::Sent(text) => {
                let events = &mut self.events;
                self.replay.sent(&text, |event| events.push_back(event));
            }
            RecordedEvent::Header(header) => self.begin(&header),
            RecordedEvent::Disconnected(reason) => self.disconnected(reason),
            // What they said is not known: nothing can be relied on.
            RecordedEvent::Lost(lines) => {
                self.disconnected(format!("{lines} lines of the recording are missing"));
            }
            RecordedEvent::Unknown(_) => {
                self.disconnected("a line of the recording is of an unknown kind".to_owned());
            }
            RecordedEvent::Connected => {}
        }
    }

    /// Begins a file: it continues the recording before it, or is another one.
    fn begin(&mut self, header: &RecordingHeader) {
        let before = self.started.replace(header.started);
        if before.is_some_and(|before| before != header.started) {
            self.disconnected("another recording begins".to_owned());
        }
        if header.prices != self.prices {
            self.prices = header.prices;
            self.replay.set_price_convention(header.prices);
        }
    }

    fn disconnected(&mut self, reason: String) {
        let events = &mut self.events;
        let reason = DisconnectReason::Failed(reason);
        self.replay.disconnected(reason, |event| events.push_back(event));
    }

    async fn wait_for(&mut self, at: UnixMillis) {
        let Speed::Times(speed) = self.speed else { return };
        let (first, began) = *self.began.get_or_insert_with(|| (at, Instant::now()));
        // A line before the first, after the clock was set back, waits for nothing.
        let after = at.max(first).abs_diff(first);
        let seconds = after.as_secs_f64() / speed;
        // A speed of zero, or below, is no speed; a time beyond all clocks is none.
        if let Ok(after) = Duration::try_from_secs_f64(seconds)
            && let Some(until) = began.checked_add(after)
        {
            sleep_until(until).await;
        }
    }
}
