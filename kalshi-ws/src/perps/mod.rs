//! The streams of perpetual futures, which the exchange also calls "margin". Feature `perps`.
//!
//! Another endpoint with other channels and messages, and the same [`Connection`]: subscriptions
//! that outlive it, sequence numbers, order books that are right or say that they are not. The names
//! here are those of the root of this crate, for this product; what the two share, such as
//! [`ServerError`](crate::ServerError) or [`Overflow`](crate::Overflow), is there only.
//!
//! The differences from the streams of event contracts:
//!
//! - An [`OrderBook`] has two sides and no complement, and prices are dollars of any size. Its
//!   messages have no clock, so [`RedundantFeed`](crate::RedundantFeed) does not take them.
//! - An order has no status: [`types::MarginUserOrder::state`] works it out.
//! - Replies to writes carry no time of the engine. Order what you know of an order by
//!   `last_updated_ts_ms`, never by a clock of your own.
//! - A ticker may change, and the exchange goes on under the new one by itself. A connection that is
//!   subscribed to [corporate actions](Subscription::corporate_actions) does so as well: the old
//!   ticker is [`Event::Removed`](product::Event::Removed) from every subscription, the new one is
//!   [`Event::Added`](product::Event::Added), and its book gets a snapshot. Without that channel the
//!   first message of a book under a ticker that was not subscribed to is an
//!   [`Event::Gap`](product::Event::Gap): all books of the connection are void, and that of the old
//!   ticker stays so.
//!
//! # Examples
//!
//! ```no_run
//! use kalshi_auth::Credentials;
//! use kalshi_ws::{Environment, perps::{Config, Connection, Subscription}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::builder()
//!     .with_environment(Environment::Demo)
//!     .with_credentials(Credentials::from_env()?)
//!     .build()?;
//! let mut connection = Connection::connect(config).await?;
//! connection.handle().subscribe(Subscription::orderbook(["KXBTCPERP"]))?;
//! while connection.next().await.is_some() {
//!     if let Some(book) = connection.books().get("KXBTCPERP") {
//!         println!("{:?} {:?}", book.best_bid(), book.best_ask());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod delta;
mod order_book;
#[cfg(test)]
mod tests;

use kalshi_auth::Service;
use kalshi_types::UnixMillis;

pub use self::{delta::Delta, order_book::OrderBook};
pub use crate::generated::perps::{Channel, MESSAGE_KINDS, Payload, SPEC_VERSION, types};
use crate::{
    product::{self, BookPart, LevelChange, Product, WholeBook},
    protocol::{
        command::{UPDATE, Update, written},
        message::{Market, Sid},
        scan::Scanned,
    },
    subscription::Options,
};

/// The product: perpetual futures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Perps;

/// A connection to the streams of perpetual futures.
pub type Connection = product::Connection<Perps>;
/// Sends requests to a running connection.
pub type ConnectionHandle = product::ConnectionHandle<Perps>;
/// The settings of a connection. One URL of an environment is enough: that of the streams of this
/// product follows from it.
pub type Config = product::Config<Perps>;
/// Builds the settings of a connection.
pub type ConfigBuilder = product::ConfigBuilder<Perps>;
/// An event of a connection, in order.
pub type Event = product::Event<Perps>;
/// A message of a channel.
pub type Message = product::Message<Perps>;
/// One type of message, as the document describes it.
pub type MessageKind = product::MessageKind<Channel>;
/// The content of one frame.
pub type Frame = product::Frame<Perps>;
/// Decodes frames.
pub type Decoder = product::Decoder<Perps>;
/// The order books of one connection.
pub type Books = product::Books<Perps>;
/// A subscription to one channel, as the consumer desires it.
pub type Subscription = product::Subscription<Perps>;

impl Subscription {
    /// Returns a subscription to the order books of these markets, at least one. Numbered: a loss is
    /// an [`Event::Gap`](product::Event::Gap).
    pub fn orderbook<T: Into<String>>(tickers: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::OrderbookDelta).with_items(tickers)
    }

    /// Returns a subscription to the tickers of these markets; of all markets when none is named. At
    /// most one message a second comes of each. They carry no numbers; the next message of a market
    /// has everything again.
    pub fn ticker<T: Into<String>>(tickers: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::Ticker).with_items(tickers)
    }

    /// Returns a subscription to the trades of these markets; of all markets when none is named.
    /// Numbered.
    pub fn trades<T: Into<String>>(tickers: impl IntoIterator<Item = T>) -> Self {
        Self::channel(Channel::Trade).with_items(tickers)
    }

    /// Returns a subscription to your fills in all markets, those of liquidations and exit triggers
    /// included. They carry no numbers, so a loss inside a connection does not show: read them back
    /// over REST.
    pub fn fills() -> Self {
        Self::channel(Channel::Fill)
    }

    /// Returns a subscription to your orders in all markets. They carry no numbers, so a loss inside
    /// a connection does not show: read them back over REST.
    pub fn user_orders() -> Self {
        Self::channel(Channel::UserOrders)
    }

    /// Returns a subscription to your order groups. Numbered.
    pub fn order_groups() -> Self {
        Self::channel(Channel::OrderGroupUpdates)
    }

    /// Returns a subscription to splits, final settlements and changes of a ticker. Numbered; there
    /// is no snapshot, and dividends do not come here.
    ///
    /// After one, read positions, balance and the market anew before the next order: count, price and
    /// `market_version` have changed. Subscriptions of the same connection follow a change of a
    /// ticker.
    pub fn corporate_actions() -> Self {
        Self::channel(Channel::CorporateActions)
    }
}

impl Payload {
    /// Returns the market that the message is about, for the messages that are about one.
    pub fn market_ticker(&self) -> Option<&str> {
        Some(match self {
            Self::CorporateActionsDelta(delta) => &delta.corporate_action.market_ticker,
            Self::Fill(fill) => &fill.market_ticker,
            Self::OrderbookDelta(delta) => delta.market.ticker(),
            Self::OrderbookSnapshot(snapshot) => &snapshot.market_ticker,
            Self::Ticker(ticker) => &ticker.market_ticker,
            Self::Trade(trade) => &trade.market_ticker,
            Self::UserOrder(order) => &order.ticker,
            Self::OrderGroupUpdates(_) => return None,
        })
    }

    /// Returns the properties of this type of message, as the document has them.
    pub fn message_kind(&self) -> Option<&'static MessageKind> {
        MESSAGE_KINDS.iter().find(|kind| kind.name == self.kind())
    }
}

/// The state of an order, as [`types::MarginUserOrder::state`] works it out: the exchange sends none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrderState {
    /// Contracts remain: the order is in the book.
    Resting,
    /// Nothing remains, and the last change was a trade.
    Executed,
    /// Nothing remains, and the last change took the rest out of the book. The order may have been
    /// filled in part before.
    Canceled,
    /// Nothing remains, for no reason, or for one that this version does not know. Its fills tell how
    /// it ended.
    Ended,
}

impl types::MarginUserOrder {
    /// Returns the state of the order, from what remains and the reason of the last change.
    ///
    /// An order that was filled in part and then canceled differs from an executed one in that
    /// reason only.
    pub fn state(&self) -> OrderState {
        use types::LastUpdateReason as Reason;
        if self.remaining_count.is_positive() {
            return OrderState::Resting;
        }
        match &self.last_update_reason {
            Some(Reason::Trade) => OrderState::Executed,
            Some(
                Reason::Decrease
                | Reason::Amend
                | Reason::MarginCancel
                | Reason::SelfTradeCancel
                | Reason::ExpiryCancel
                | Reason::CloseCancel
                | Reason::HaltCancel
                | Reason::PostOnlyCrossCancel
                | Reason::ReduceOnlyCancel,
            ) => OrderState::Canceled,
            _ => OrderState::Ended,
        }
    }
}

impl Product for Perps {
    type Channel = Channel;
    type Payload = Payload;
    type OrderBook = OrderBook;

    const SERVICE: Service = Service::PerpsStreams;
    const TICKERS_CHANGE: bool = true;

    fn book_channel() -> Channel {
        Channel::OrderbookDelta
    }

    #[inline]
    fn is_book(channel: &Channel) -> bool {
        *channel == Channel::OrderbookDelta
    }

    fn message_kinds() -> &'static [MessageKind] {
        &MESSAGE_KINDS
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
    fn ticker_change(payload: &Payload) -> Option<(&str, &str)> {
        let Payload::CorporateActionsDelta(delta) = payload else { return None };
        let change = delta.corporate_action.ticker_change.as_ref()?;
        Some((&change.old_ticker, &change.new_ticker))
    }

    #[inline]
    fn clock(_: &Payload) -> Option<i64> {
        None
    }

    #[inline]
    fn is_list(_: &Payload) -> bool {
        false
    }

    #[inline]
    fn book_part(payload: &Payload) -> BookPart<'_> {
        match payload {
            Payload::OrderbookDelta(delta) => BookPart::Delta(LevelChange {
                market: &delta.market,
                clock: &None,
                ts_ms: &delta.ts_ms,
                bid: delta.is_bid(),
                price: &delta.price,
                delta: &delta.delta,
            }),
            Payload::OrderbookSnapshot(snapshot) => BookPart::Snapshot(WholeBook {
                ticker: &snapshot.market_ticker,
                clock: None,
                bids: &snapshot.bid,
                asks: &snapshot.ask,
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

    /// The general decoder reads all: the layout of this product has not been seen yet.
    #[inline]
    fn scan(_: &str) -> Option<Scanned<'_>> {
        None
    }

    #[inline]
    fn scanned(market: Market, scanned: &Scanned<'_>) -> Payload {
        let side = if scanned.yes { types::BookSide::Bid } else { types::BookSide::Ask };
        let ts_ms = Some(UnixMillis::from(scanned.ts_ms));
        Payload::OrderbookDelta(Delta::new(market, side, scanned.price, scanned.delta, ts_ms))
    }

    fn connect(config: Config) -> product::Connecting<Self> {
        Box::pin(Connection::open(config))
    }

    fn subscribe(id: i64, channel: &Channel, items: &[String], options: &Options) -> String {
        let params = types::SubscribeParams {
            channels: vec![types::SubscribeParamsChannelsItem::from(channel.as_str())],
            market_ticker: None,
            market_tickers: items.to_vec(),
            send_initial_snapshot: options.initial_snapshot.then_some(true),
            // The list that would come back is the one that is sent.
            skip_ticker_ack: (!items.is_empty()).then_some(true),
        };
        written(id, "subscribe", Some(params))
    }

    fn update(id: i64, _: &Channel, sid: Sid, update: Update, items: Vec<String>) -> String {
        type Action = types::UpdateSubscriptionParamsAction;
        let action = match update {
            Update::Add { .. } => Action::AddMarkets,
            Update::Delete => Action::DeleteMarkets,
            Update::List | Update::Snapshot => Action::GetSnapshot,
        };
        let params = types::UpdateSubscriptionParams {
            action,
            market_ticker: None,
            market_tickers: items,
            send_initial_snapshot: matches!(update, Update::Add { initial_snapshot: true })
                .then_some(true),
            sid: None,
            sids: vec![sid],
        };
        written(id, UPDATE, Some(params))
    }
}
