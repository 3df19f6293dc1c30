//! A view of your account: fills, resting orders and positions, from three channels and from REST.
//!
//! Pure: events, reads and the time of a clock go in. None of the three channels counts its
//! messages, so a loss shows only where the connection says that there was one; from then on the
//! view is not current, until a reconciliation whose reads are newer than the loss. A fill counts
//! once, wherever it comes from; an order never goes back to an older state; what the stream said
//! after the time that a read is complete up to outweighs what was read.

use std::{sync::Arc, time::Duration};

use kalshi_auth::{Clock, SystemClock};
use kalshi_types::{Count, UnixMillis};

use crate::{Channel, Event, Message, Payload, Sid};

mod fills;
mod loss;
mod orders;
mod positions;
#[cfg(test)]
mod properties;
mod reconcile;
mod records;

use self::{
    fills::FillHistory, loss::is_loss, orders::Orders, positions::Positions, reconcile::Marks,
};
pub use self::{
    reconcile::{AccountSnapshot, AccountSource, ReconcileStatus, Reconciled, Reconciliation},
    records::{FillRecord, OrderRecord, PositionRecord},
};

/// The default number of remembered fills.
const FILL_HISTORY: usize = 100_000;

/// The default for how far the machine's clock may be behind the exchange's.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// The channels that a view is made of.
const CHANNELS: [Channel; 3] = [Channel::Fill, Channel::UserOrders, Channel::MarketPositions];

/// A view of your account.
///
/// ```
/// use kalshi_ws::{Channel, Event, Portfolio, PortfolioChange};
///
/// let mut portfolio = Portfolio::new();
/// for (sid, channel) in (1..).zip([Channel::Fill, Channel::UserOrders, Channel::MarketPositions]) {
///     portfolio.apply(&Event::Subscribed { channel, sid });
/// }
/// // Nothing has been read yet.
/// assert!(portfolio.is_subscribed() && !portfolio.is_current());
/// let lost = Event::Lagged { channel: Some(Channel::Fill), dropped: 1 };
/// assert_eq!(portfolio.apply(&lost), PortfolioChange::Stale);
/// ```
#[derive(Debug)]
pub struct Portfolio {
    fills: FillHistory,
    orders: Orders,
    positions: Positions,
    /// Counts the messages that set an order or a position.
    step: u64,
    /// Counts the losses.
    losses: u64,
    /// The confirmed subscriptions of the three channels.
    sids: [Option<Sid>; 3],
    is_current: bool,
    /// The moments since the last loss at which a reconciliation began.
    marks: Marks,
    /// The time that the last reads which were taken in are complete up to.
    read_as_of: Option<UnixMillis>,
    /// The low-water mark: every fill before it is known. Only reads move it.
    complete_until: Option<UnixMillis>,
    /// The beginning of the view; fills before it are not asked for.
    fills_from: Option<UnixMillis>,
    clock: Arc<dyn Clock>,
    clock_tolerance: Duration,
    /// The time by which the clock was found to be behind the exchange's, beyond the tolerance.
    clock_behind: Duration,
}

#[derive(Debug)]
struct Held<T> {
    value: T,
    /// The step of the message that said so; 0 for what was read.
    step: u64,
}

/// The change that an event made to a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortfolioChange {
    /// Nothing: the event is about something else.
    None,
    /// A fill that was not known yet.
    Fill,
    /// A fill that was known already.
    KnownFill,
    /// An order changed, or is over.
    Order,
    /// An older state of an order, which changed nothing.
    OldOrder,
    /// A position changed.
    Position,
    /// Something may have been missed: the view must be reconciled.
    Stale,
}

impl Default for Portfolio {
    fn default() -> Self {
        Self::new()
    }
}

impl Portfolio {
    /// Returns a view that knows nothing yet, and is not current.
    pub fn new() -> Self {
        Self::with_fill_history(FILL_HISTORY)
    }

    /// Returns a view that recognizes as many of the last fills (and of the last orders that are
    /// over); 100,000 by default.
    ///
    /// There must be room for those between two reconciliations: older ones that a read brings are
    /// [`too_old`](Reconciled::too_old) to tell whether they were known.
    pub fn with_fill_history(fills: usize) -> Self {
        Self {
            fills: FillHistory::new(fills),
            orders: Orders::new(fills),
            positions: Positions::default(),
            step: 0,
            losses: 0,
            sids: [None; 3],
            is_current: false,
            marks: Marks::default(),
            read_as_of: None,
            complete_until: None,
            fills_from: None,
            clock: Arc::new(SystemClock),
            clock_tolerance: CLOCK_TOLERANCE,
            clock_behind: Duration::ZERO,
        }
    }

    /// Begins the view at a time: older fills are not asked for. By default the first read asks for
    /// all fills that there ever were.
    #[must_use]
    pub fn with_fills_since(mut self, time: UnixMillis) -> Self {
        self.fills_from = Some(time);
        self
    }

    /// Takes the time from this clock; by default from the machine's.
    ///
    /// It tells whether a read is newer than a loss, so it must not be behind the exchange's by more
    /// than the [tolerance](Self::with_clock_tolerance). A clock that is shows when a read is complete
    /// up to a time that it reaches more than a second later: the difference is added to it from then
    /// on. As the reads
    /// trail the exchange by a time that is not known, that is no substitute for a clock that is
    /// right. If it is ahead, the view takes longer to be current.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how far the clock may be behind the exchange's; 1 s by default. The view is current
    /// later by as much.
    #[must_use]
    pub fn with_clock_tolerance(mut self, tolerance: Duration) -> Self {
        self.clock_tolerance = tolerance;
        self
    }

    /// Applies the next event of a connection.
    pub fn apply(&mut self, event: &Event) -> PortfolioChange {
        match event {
            Event::Message(message) => self.message(message),
            Event::Subscribed { channel, sid } => self.confirm(channel, *sid),
            other if is_loss(other, &self.sids) => {
                match other {
                    Event::Disconnected { .. }
                    | Event::Closed { .. }
                    // The subscriptions of the other feed follow.
                    | Event::Failover { .. } => self.sids = [None; 3],
                    Event::Terminated { channel, .. } | Event::Unsubscribed { channel } => {
                        self.set_sid(channel, None);
                    }
                    _ => {}
                }
                self.lose()
            }
            // It is late, or its subscription is not known: its id and its time place it.
            Event::Unmatched(message) => match &message.payload {
                Payload::UserOrder(order) if OrderRecord::from(&**order).updated.is_none() => {
                    self.lose()
                }
                _ => self.message(message),
            },
            _ => PortfolioChange::None,
        }
    }

    /// Reports whether the view is complete as of the last event that was applied.
    ///
    /// It is if all three subscriptions are confirmed, the account was read, the reads are complete
    /// up to a time after the last confirmation and the last loss, and nothing is known to have
    /// been lost since. Then every fill is known (except [`Reconciled::too_old`]), every order that
    /// rests is here and no other, and every position has its count.
    ///
    /// Events that were not applied yet are not in it. A loss that nobody reports would not show:
    /// none of the three channels counts its messages. A reconciliation now and then finds it.
    pub const fn is_current(&self) -> bool {
        self.is_current
    }

    /// Reports whether all three subscriptions are confirmed, so that a reconciliation can make the
    /// view current.
    pub fn is_subscribed(&self) -> bool {
        self.sids.iter().all(Option::is_some)
    }

    /// Returns the orders that rest, in no order.
    pub fn orders(&self) -> impl ExactSizeIterator<Item = &OrderRecord> {
        self.orders.iter()
    }

    /// Returns an order that rests.
    pub fn order_by_id(&self, order_id: &str) -> Option<&OrderRecord> {
        self.orders.get(order_id)
    }

    /// Returns the positions that are not zero, by market.
    ///
    /// A fill changes the count at once, and the cost, profit and fees with the message about the
    /// position, which follows it.
    pub fn positions(&self) -> impl Iterator<Item = &PositionRecord> {
        self.positions.iter().filter(|record| !record.count.is_zero())
    }

    /// Returns the contracts in one market: of YES when positive, of NO when negative.
    pub fn position_in(&self, ticker: &str, subaccount: Option<i64>) -> Count {
        self.positions.count(ticker, subaccount)
    }

    fn message(&mut self, message: &Message) -> PortfolioChange {
        match &message.payload {
            Payload::Fill(fill) => {
                let fill = FillRecord::from(&**fill);
                let at = fill.ts_ms.unwrap_or_else(|| self.now_at_exchange());
                if !self.fills.take_live(&fill, at) {
                    return PortfolioChange::KnownFill;
                }
                self.step += 1;
                self.positions.take_fill(&fill, self.step);
                PortfolioChange::Fill
            }
            Payload::UserOrder(order) => {
                self.step += 1;
                if self.orders.take(OrderRecord::from(&**order), self.step) {
                    PortfolioChange::Order
                } else {
                    PortfolioChange::OldOrder
                }
            }
            Payload::MarketPosition(position) => {
                self.step += 1;
                let record = PositionRecord::from(&**position);
                self.positions.take(record, message.sent, self.step);
                PortfolioChange::Position
            }
            _ => PortfolioChange::None,
        }
    }

    /// Confirms a subscription. If another one of the channel was, its end went unnoticed.
    fn confirm(&mut self, channel: &Channel, sid: Sid) -> PortfolioChange {
        let before = self.set_sid(channel, Some(sid));
        if before.is_some_and(|before| before != sid) {
            return self.lose();
        }
        PortfolioChange::None
    }

    fn set_sid(&mut self, channel: &Channel, sid: Option<Sid>) -> Option<Sid> {
        let at = CHANNELS.iter().position(|ours| ours == channel)?;
        let place = self.sids.get_mut(at)?;
        std::mem::replace(place, sid)
    }

    fn lose(&mut self) -> PortfolioChange {
        self.losses += 1;
        self.is_current = false;
        self.marks.clear();
        PortfolioChange::Stale
    }

    /// Returns a time that is not before the exchange's, if the clock is within its tolerance.
    fn now_at_exchange(&self) -> UnixMillis {
        self.clock.now().saturating_add(self.clock_behind).saturating_add(self.clock_tolerance)
    }
}
