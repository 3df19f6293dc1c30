//! The events of a connection from frames that come from anywhere: a recording, a test, another
//! socket. Pure; nothing is sent, and time passes only as the frames say.

use std::time::Duration;

use kalshi_types::UnixMillis;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    Payload,
    connection::backoff::Backoff,
    event::{DisconnectReason, Event},
    product::{EventContracts, Product as _},
    protocol::{command::SentCommand, frame::Decoder},
    session::{Limits, Output, SessionState},
    types::MarketSide,
};

/// The prices of an order book's NO side in the frames of the exchange.
///
/// The subscription decides it (`use_yes_price`), and a frame does not say it. To read the one as
/// the other gives books that are wrong throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PriceConvention {
    /// Both sides have the price of YES. A connection of this crate always asks for it.
    Yes,
    /// Each side has the price of its own outcome: a bid for NO at 0.54 is an ask for YES at 0.46.
    /// It is what the exchange sends if `use_yes_price` is not set.
    Side,
}

/// Turns frames into the events that a [`Connection`](crate::Connection) would give.
///
/// Subscriptions are taken from the confirmations among the frames, and from the commands that
/// [`sent`](Self::sent) is given: that a market was taken out stands in no other frame. Sequence numbers are checked as
/// on a connection, so a recording with a hole has the same [`Event::Gap`]. Order books come out in
/// prices of YES, whatever the convention of the frames.
///
/// ```
/// use kalshi_types::UnixMillis;
/// use kalshi_ws::{Books, Outcome, PriceConvention, Replay};
///
/// // Recorded without `use_yes_price`.
/// let mut replay = Replay::new(PriceConvention::Side);
/// let mut books = Books::new();
/// for frame in [
///     r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
///     r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","yes_dollars_fp":[["0.45","10.00"]],"no_dollars_fp":[["0.54","10.00"]]}}"#,
/// ] {
///     replay.frame(frame, UnixMillis::from_millis(0), |event| {
///         books.apply(&event);
///     });
/// }
/// let ask = books.get("A").and_then(|book| book.best_ask(Outcome::Yes));
/// assert_eq!(ask.map(|level| level.price), Some("0.46".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Replay {
    prices: PriceConvention,
    session: SessionState,
    decoder: Decoder,
    /// Any instant: only differences count, and none of them matters here.
    now: Instant,
}

impl Replay {
    /// Returns a replay of frames whose order books have these prices.
    pub fn new(prices: PriceConvention) -> Self {
        let never = Duration::from_secs(u64::from(u32::MAX));
        let limits = Limits {
            command_timeout: never,
            snapshot_timeout: Duration::ZERO,
            stale_after: never,
            backoff: Backoff::new(Duration::ZERO, Duration::ZERO),
            items_per_command: 1,
        };
        let now = Instant::now();
        Self { prices, session: SessionState::passive(limits, now), decoder: Decoder::new(), now }
    }

    /// Calls `each` with the events of the next frame, which arrived at the time.
    #[inline]
    pub fn frame(&mut self, text: &str, received: UnixMillis, mut each: impl FnMut(Event)) {
        // A message is large: it is made where it will be read.
        if let Some(scanned) = EventContracts::scan(text)
            && let (sid, seq) = (scanned.sid, Some(scanned.seq))
            && self.session.next_delta(sid, seq, scanned.market_ticker, self.now).is_some()
        {
            let mut event = Event::Message(self.decoder.message(&scanned, received));
            self.put_in_yes_prices(&mut event);
            return each(event);
        }
        self.other_frame(text, received, &mut each);
    }

    /// Calls `each` with the events that follow from a frame that the connection sent: a command.
    /// What is no command does nothing.
    ///
    /// The reply of the exchange to a command names neither it nor, as a rule, the markets that it
    /// is about. So a market that is taken out is [`Event::Removed`] only if the commands are given,
    /// in their place among the frames; without them its book stays as it was last.
    ///
    /// What a connection tells of its own accord is in no frame, and does not come: a request that it
    /// refuses itself, a snapshot that is overdue, messages that were dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use kalshi_types::UnixMillis;
    /// use kalshi_ws::{BookState, Books, PriceConvention, Replay};
    ///
    /// let mut replay = Replay::new(PriceConvention::Yes);
    /// let mut books = Books::new();
    /// for frame in [
    ///     r#"{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}"#,
    ///     r#"{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","market_id":"a","yes_dollars_fp":[["0.40","10.00"]]}}"#,
    /// ] {
    ///     replay.frame(frame, UnixMillis::EPOCH, |event| {
    ///         books.apply(&event);
    ///     });
    /// }
    /// let command = r#"{"id":2,"cmd":"update_subscription","params":{"sids":[1],"action":"delete_markets","market_tickers":["A"]}}"#;
    /// replay.sent(command, |event| {
    ///     books.apply(&event);
    /// });
    /// assert_eq!(books.state("A"), BookState::Absent);
    /// ```
    pub fn sent(&mut self, text: &str, mut each: impl FnMut(Event)) {
        if let Some(command) = SentCommand::read(text) {
            self.session.sent(command, self.now);
            self.events(&mut each);
        }
    }

    /// Handles a frame about which something has to be decided.
    #[inline(never)]
    fn other_frame(&mut self, text: &str, received: UnixMillis, each: &mut impl FnMut(Event)) {
        let frame = self.decoder.decode(text, received);
        match self.session.frame(frame, text.len(), self.now) {
            Some((_, mut event)) => {
                self.put_in_yes_prices(&mut event);
                each(event);
            }
            None => self.events(each),
        }
    }

    /// Reads what follows with another convention: another recording begins.
    #[cfg(feature = "recorder")]
    pub(crate) fn set_price_convention(&mut self, prices: PriceConvention) {
        self.prices = prices;
    }

    /// Calls `each` with what follows from the connection being lost here.
    pub fn disconnected(&mut self, reason: DisconnectReason, mut each: impl FnMut(Event)) {
        self.session.disconnected(reason, self.now);
        self.events(&mut each);
    }

    fn events(&mut self, each: &mut impl FnMut(Event)) {
        while let Some(output) = self.session.output() {
            match output {
                Output::Event(_, mut event, _) => {
                    self.put_in_yes_prices(&mut event);
                    each(event);
                }
                Output::ForgetNames(tickers) => self.decoder.forget(tickers),
                Output::ForgetAllNames => self.decoder.clear(),
                Output::Send(_) | Output::Lane { .. } | Output::Drop(_) => {}
            }
        }
    }
}

impl Replay {
    #[inline]
    fn put_in_yes_prices(&self, event: &mut Event) {
        if self.prices == PriceConvention::Side {
            put_in_yes_prices(event);
        }
    }
}

/// Gives the NO side of a book, or of a change, the price of YES. What has none keeps its price:
/// it lies beyond zero and one, and the book refuses it.
fn put_in_yes_prices(event: &mut Event) {
    let (Event::Message(message) | Event::Unmatched(message)) = event else { return };
    match &mut message.payload {
        Payload::OrderbookDelta(delta) if delta.side == MarketSide::No => {
            delta.price_dollars = delta.price_dollars.complement().unwrap_or(delta.price_dollars);
        }
        Payload::OrderbookSnapshot(snapshot) => {
            for level in &mut snapshot.no_dollars_fp {
                level.price = level.price.complement().unwrap_or(level.price);
            }
        }
        _ => {}
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}
