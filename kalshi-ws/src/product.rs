//! The products of the exchange that have streams, and what is generic over them.
//!
//! Event contracts and perpetual futures speak one protocol: commands, subscriptions, sequence
//! numbers, snapshots. They differ in their endpoint, channels, messages and order books, which is
//! what a [`Product`] says. A [`Connection`] is compiled for one of them, so that nothing is looked
//! up at run time.
//!
//! The names at the root of this crate, such as [`Event`](crate::Event), are those of
//! [`EventContracts`]; the module `perps` (feature `perps`) has the same names for perpetual
//! futures.

use std::{fmt, pin::Pin};

use kalshi_auth::Service;
use kalshi_types::{Count, Dollars, PriceLevel, UnixMillis};

pub use crate::{
    book::Books,
    config::{Config, ConfigBuilder},
    connection::{Connection, ConnectionHandle},
    event::Event,
    metrics::Metrics,
    protocol::{
        frame::{Decoder, Frame},
        message::{Message, MessageKind},
    },
    subscription::Subscription,
};
use crate::{
    book::{BookError, OrderBook},
    error::ConnectError,
    generated::{self, Channel, Payload, types::MarketSide},
    protocol::{
        command::{self, Update},
        message::{Delta, Market, Sid},
        scan::{self, Scanned},
    },
    subscription::Options,
};

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::EventContracts {}

    #[cfg(feature = "perps")]
    impl Sealed for crate::perps::Perps {}
}

/// A product of the exchange that has streams: [`EventContracts`], or perpetual futures.
///
/// It is a name for types, and has no values that mean anything. There are no other products than
/// those of this crate.
pub trait Product:
    sealed::Sealed + Copy + Default + Eq + fmt::Debug + Send + Sync + Unpin + 'static
{
    /// The channels that can be subscribed to.
    type Channel: From<String>
        + Clone
        + Eq
        + fmt::Debug
        + fmt::Display
        + Send
        + Sync
        + Unpin
        + 'static;
    /// The contents of a message.
    type Payload: Clone + PartialEq + fmt::Debug + Send + Sync + Unpin + 'static;
    /// The order book of a market.
    type OrderBook: BookShape;

    /// The service of an environment that has the streams.
    #[doc(hidden)]
    const SERVICE: Service;

    /// True if a market may get another ticker.
    #[doc(hidden)]
    const TICKERS_CHANGE: bool;

    #[doc(hidden)]
    fn book_channel() -> Self::Channel;

    #[doc(hidden)]
    fn is_book(channel: &Self::Channel) -> bool;

    /// Returns every type of message.
    #[doc(hidden)]
    fn message_kinds() -> &'static [MessageKind<Self::Channel>];

    /// Reads the `msg` of a message; `None` for a type that this version does not know.
    #[doc(hidden)]
    fn read(kind: &str, msg: &str) -> Option<Result<Self::Payload, serde_json::Error>>;

    #[doc(hidden)]
    fn kind(payload: &Self::Payload) -> &'static str;

    #[doc(hidden)]
    fn is_sequenced(payload: &Self::Payload) -> bool;

    #[doc(hidden)]
    fn market_ticker(payload: &Self::Payload) -> Option<&str>;

    /// Returns the old ticker and the new one, if the message says that a ticker has changed.
    #[doc(hidden)]
    fn ticker_change(payload: &Self::Payload) -> Option<(&str, &str)>;

    /// Returns the clock of the book that the message is about.
    #[doc(hidden)]
    fn clock(payload: &Self::Payload) -> Option<i64>;

    /// Reports whether the message answers a query.
    #[doc(hidden)]
    fn is_list(payload: &Self::Payload) -> bool;

    /// Returns the change or the snapshot of a book, if the message is one.
    #[doc(hidden)]
    fn book_part(payload: &Self::Payload) -> BookPart<'_>;

    /// Returns the market of a change of a book, which the decoder shares.
    #[doc(hidden)]
    fn delta_market(payload: &mut Self::Payload) -> Option<&mut Market>;

    /// Reads a change of a book in the documented layout; `None` means "not sure".
    #[doc(hidden)]
    fn scan(frame: &str) -> Option<Scanned<'_>>;

    /// Returns the message of a change that was scanned.
    #[doc(hidden)]
    fn scanned(market: Market, scanned: &Scanned<'_>) -> Self::Payload;

    /// Connects.
    #[doc(hidden)]
    fn connect(config: Config<Self>) -> Connecting<Self>;

    /// Returns the text of a `subscribe`.
    #[doc(hidden)]
    fn subscribe(id: i64, channel: &Self::Channel, items: &[String], options: &Options) -> String;

    /// Returns the text of an `update_subscription`.
    #[doc(hidden)]
    fn update(
        id: i64,
        channel: &Self::Channel,
        sid: Sid,
        update: Update,
        items: Vec<String>,
    ) -> String;
}

/// A connection that is being made.
#[doc(hidden)]
pub type Connecting<P> =
    Pin<Box<dyn Future<Output = Result<Connection<P>, ConnectError>> + Send + 'static>>;

/// An order book of a product, as [`Books`] keeps it.
pub trait BookShape: Default + fmt::Debug + Send + Sync + Unpin + 'static {
    /// Takes the levels of a snapshot, in any order, in place of its own.
    #[doc(hidden)]
    fn replace(&mut self, bids: &[PriceLevel], asks: &[PriceLevel]) -> Result<(), BookError>;

    /// Adds contracts to a level, or removes them.
    #[doc(hidden)]
    fn change(&mut self, bid: bool, price: Dollars, delta: Count) -> Result<(), BookError>;

    /// Reports whether a bid is at or above an ask.
    #[doc(hidden)]
    fn is_crossed(&self) -> bool;

    /// Refuses a book with a bid at or above an ask.
    #[doc(hidden)]
    fn check_uncrossed(&self) -> Result<(), BookError>;

    #[doc(hidden)]
    fn clear(&mut self);
}

/// The part that a message has in an order book.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum BookPart<'a> {
    Delta(LevelChange<'a>),
    Snapshot(WholeBook<'a>),
    Other,
}

/// A change of one level.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct LevelChange<'a> {
    // By reference: a message that was just written would be read back in larger pieces than it was
    // written in, and each such copy waits for the memory.
    pub(crate) market: &'a Market,
    pub(crate) clock: &'a Option<i64>,
    pub(crate) ts_ms: &'a Option<UnixMillis>,
    /// The side; `None` for one that this version does not know.
    pub(crate) bid: Option<bool>,
    pub(crate) price: &'a Dollars,
    pub(crate) delta: &'a Count,
}

impl LevelChange<'_> {
    #[inline]
    pub(crate) fn apply_to(&self, book: &mut impl BookShape) -> Result<(), BookError> {
        let bid = self.bid.ok_or(BookError::UnknownSide)?;
        book.change(bid, *self.price, *self.delta)
    }
}

/// A snapshot.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct WholeBook<'a> {
    pub(crate) ticker: &'a str,
    pub(crate) clock: Option<i64>,
    pub(crate) bids: &'a [PriceLevel],
    pub(crate) asks: &'a [PriceLevel],
}

/// Event contracts: markets with two outcomes, priced from 0 to 1 dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventContracts;

impl Product for EventContracts {
    type Channel = Channel;
    type Payload = Payload;
    type OrderBook = OrderBook;

    const SERVICE: Service = Service::Streams;
    const TICKERS_CHANGE: bool = false;

    #[inline]
    fn book_channel() -> Channel {
        Channel::OrderbookDelta
    }

    #[inline]
    fn is_book(channel: &Channel) -> bool {
        *channel == Channel::OrderbookDelta
    }

    fn message_kinds() -> &'static [MessageKind] {
        &generated::MESSAGE_KINDS
    }

    #[inline]
    fn read(kind: &str, msg: &str) -> Option<Result<Payload, serde_json::Error>> {
        Payload::read(kind, msg)
    }

    fn kind(payload: &Payload) -> &'static str {
        payload.kind()
    }

    #[inline]
    fn is_sequenced(payload: &Payload) -> bool {
        payload.is_sequenced()
    }

    #[inline]
    fn market_ticker(payload: &Payload) -> Option<&str> {
        payload.market_ticker()
    }

    #[inline]
    fn ticker_change(_: &Payload) -> Option<(&str, &str)> {
        None
    }

    #[inline]
    fn clock(payload: &Payload) -> Option<i64> {
        payload.clock()
    }

    #[inline]
    fn is_list(payload: &Payload) -> bool {
        matches!(
            payload,
            Payload::CfbenchmarksIndexList(_)
                | Payload::Cfbenchmarks5HzIndexList(_)
                | Payload::PythUnderlyingList(_)
        )
    }

    #[inline]
    fn book_part(payload: &Payload) -> BookPart<'_> {
        match payload {
            Payload::OrderbookDelta(delta) => BookPart::Delta(LevelChange {
                market: &delta.market,
                clock: &delta.clock,
                ts_ms: &delta.ts_ms,
                bid: match delta.side {
                    MarketSide::Yes => Some(true),
                    MarketSide::No => Some(false),
                    MarketSide::Unknown(_) => None,
                },
                price: &delta.price_dollars,
                delta: &delta.delta_fp,
            }),
            Payload::OrderbookSnapshot(snapshot) => BookPart::Snapshot(WholeBook {
                ticker: &snapshot.market_ticker,
                clock: snapshot.clock,
                bids: &snapshot.yes_dollars_fp,
                asks: &snapshot.no_dollars_fp,
            }),
            _ => BookPart::Other,
        }
    }

    #[inline]
    fn delta_market(payload: &mut Payload) -> Option<&mut Market> {
        match payload {
            Payload::OrderbookDelta(delta) => Some(&mut delta.market),
            _ => None,
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "what it returns is large: it stays where it is read")]
    fn scan(frame: &str) -> Option<Scanned<'_>> {
        scan::scan(frame)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a message is large: it is made where it will be")]
    fn scanned(market: Market, scanned: &Scanned<'_>) -> Payload {
        Payload::OrderbookDelta(Delta {
            market,
            price_dollars: scanned.price,
            delta_fp: scanned.delta,
            side: if scanned.yes { MarketSide::Yes } else { MarketSide::No },
            clock: scanned.clock,
            ts_ms: Some(UnixMillis::from(scanned.ts_ms)),
            own: None,
        })
    }

    fn connect(config: Config<Self>) -> Connecting<Self> {
        Box::pin(Connection::open(config))
    }

    fn subscribe(id: i64, channel: &Channel, items: &[String], options: &Options) -> String {
        command::subscribe(id, channel, items, options)
    }

    fn update(id: i64, channel: &Channel, sid: Sid, update: Update, items: Vec<String>) -> String {
        command::update(id, channel, sid, update, items)
    }
}

impl BookShape for OrderBook {
    fn replace(&mut self, bids: &[PriceLevel], asks: &[PriceLevel]) -> Result<(), BookError> {
        self.replace(bids, asks)
    }

    #[inline]
    fn change(&mut self, bid: bool, price: Dollars, delta: Count) -> Result<(), BookError> {
        self.change(bid, price, delta)
    }

    #[inline]
    fn is_crossed(&self) -> bool {
        self.is_crossed()
    }

    #[inline]
    fn check_uncrossed(&self) -> Result<(), BookError> {
        self.check_uncrossed()
    }

    fn clear(&mut self) {
        self.clear();
    }
}
