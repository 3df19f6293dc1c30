//! The caller's own fills, orders and positions, from three channels and from REST.
//!
//! Pure. None of the three channels counts its messages, so a loss shows only where the stream says
//! that there was one; from then on the view is not current, until it has been reconciled with what
//! REST knows. A fill counts once, wherever it comes from; an order never goes back to an older
//! state; what the stream said after the reading began outweighs what was read.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    future::Future,
};

use kalshi_types::{Count, Dollars, UnixMillis};
use thiserror::Error;

use crate::{
    event::Event,
    generated::{
        Channel, Payload,
        types::{self, BookSide, MarketSide, UserOrderStatus},
    },
    protocol::{frame::Malformed, message::message_kind},
};

/// How many fills are remembered by default.
const REMEMBERED: usize = 100_000;

/// How far before the last known fill a reconciliation looks: fills need not arrive in order.
const OVERLAP_MILLIS: i64 = 60_000;

/// A fill of one of the caller's orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillRecord {
    /// The trade that it is a part of.
    pub trade_id: String,
    /// The order that was filled.
    pub order_id: String,
    /// The caller's own name of the order, if it has one.
    pub client_order_id: Option<String>,
    /// The market.
    pub market_ticker: String,
    /// The subaccount; `None` for the main one.
    pub subaccount: Option<i64>,
    /// The outcome that the fill is a position in.
    pub outcome_side: MarketSide,
    /// The side of the book that the order was on.
    pub book_side: BookSide,
    /// The price of YES, in dollars per contract.
    pub yes_price: Dollars,
    /// How many contracts.
    pub count: Count,
    /// The fee, in dollars.
    pub fee: Dollars,
    /// Whether the order took what rested.
    pub is_taker: bool,
    /// When, if it is known.
    pub ts_ms: Option<UnixMillis>,
    /// The position in the market after it, negative for NO; only the stream says so.
    pub position_after: Option<Count>,
}

/// An order of the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRecord {
    /// The exchange's name of it.
    pub order_id: String,
    /// The caller's own name of it; empty if it has none.
    pub client_order_id: String,
    /// The market.
    pub market_ticker: String,
    /// The subaccount; `None` for the main one.
    pub subaccount: Option<i64>,
    /// What has become of it.
    pub status: UserOrderStatus,
    /// The outcome that a fill is a position in.
    pub outcome_side: MarketSide,
    /// The side of the book.
    pub book_side: BookSide,
    /// The price of YES, in dollars per contract.
    pub yes_price: Dollars,
    /// The contracts that it began with.
    pub initial: Count,
    /// The contracts that are left.
    pub remaining: Count,
    /// The contracts that were filled.
    pub filled: Count,
    /// When it last changed, if that is known.
    pub updated: Option<UnixMillis>,
}

/// A position of the caller's in one market.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionRecord {
    /// The market.
    pub market_ticker: String,
    /// The subaccount; `None` for the main one.
    pub subaccount: Option<i64>,
    /// The contracts: of YES when positive, of NO when negative.
    pub count: Count,
    /// What they cost, in dollars.
    pub cost: Option<Dollars>,
    /// The profit that has been made, in dollars; a loss when negative.
    pub realized_pnl: Option<Dollars>,
    /// The fees that were paid, in dollars.
    pub fees: Option<Dollars>,
}

/// All that REST knows, as far as a view needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The fills since the time that was asked for, in any order.
    pub fills: Vec<FillRecord>,
    /// All orders that rest.
    pub orders: Vec<OrderRecord>,
    /// All positions that are not zero.
    pub positions: Vec<PositionRecord>,
}

/// Where a view is reconciled from: the REST API, by way of whoever has a client for it.
pub trait AccountSource {
    /// Why it could not be read.
    type Error;

    /// Reads fills since a time (all of them if there is none), the orders that rest, and the
    /// positions, every page of each. A fill may be among them twice.
    fn read(
        &self,
        fills_since: Option<UnixMillis>,
    ) -> impl Future<Output = Result<Account, Self::Error>> + Send;
}

/// A view of the caller's own account.
#[derive(Debug)]
pub struct Portfolio {
    fills: Fills,
    orders: HashMap<String, Held<OrderRecord>>,
    /// Orders that are over: an older message must not bring them back.
    over: Bounded<String, Over>,
    positions: BTreeMap<(String, Option<i64>), Held<PositionRecord>>,
    /// Counts what was applied.
    step: u64,
    /// Counts the losses.
    losses: u64,
    /// Which of the three channels are confirmed.
    live: [bool; 3],
    current: bool,
}

/// The channels that a view is made of.
const CHANNELS: [Channel; 3] = [Channel::Fill, Channel::UserOrders, Channel::MarketPositions];

#[derive(Debug)]
struct Held<T> {
    value: T,
    step: u64,
}

#[derive(Clone, Copy, Debug)]
struct Over {
    /// When it was last updated.
    updated: Option<UnixMillis>,
    /// Whether its own state says so. One that REST merely left out may rest all the same: reads
    /// trail the exchange, and a list may move while its pages are read.
    is_said: bool,
}

/// What an event did to a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortfolioChange {
    /// Nothing: it is about something else.
    None,
    /// A fill that was not known yet.
    Fill,
    /// A fill that was known already.
    KnownFill,
    /// A fill that is too old to tell whether it was known. It does not count.
    OldFill,
    /// An order changed, or is over.
    Order,
    /// An older state of an order, which changed nothing.
    OldOrder,
    /// A position changed.
    Position,
    /// Something may have been missed: the view must be reconciled.
    Stale,
}

/// What a reconciliation was begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a reconciliation that is not finished changes nothing"]
pub struct Reconciliation {
    step: u64,
    losses: u64,
    confirmed: bool,
    fills_since: Option<UnixMillis>,
}

/// What a reconciliation found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// The fills that had been missed.
    pub missed: Vec<FillRecord>,
    /// Fills that are too old to tell whether they were known. They do not count.
    pub too_old: Vec<FillRecord>,
    /// Orders that are over, without a message having said so. One of them comes back if a message
    /// or the next reading has it resting after all.
    pub closed: Vec<OrderRecord>,
}

/// Why a view is not reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReconcileError<E> {
    /// The source could not be read.
    #[error("the account could not be read")]
    Source(#[source] E),
    /// One of the three subscriptions was not confirmed when the reading began. What was read has
    /// been merged all the same.
    #[error("fills, orders and positions are not all subscribed to")]
    NotConfirmed,
}

impl Default for Portfolio {
    fn default() -> Self {
        Self::new()
    }
}

impl Portfolio {
    /// A view that knows nothing yet, and is not current.
    pub fn new() -> Self {
        Self::remembering(REMEMBERED)
    }

    /// The same, remembering so many fills (and orders that are over) in order to know them again.
    pub fn remembering(fills: usize) -> Self {
        Self {
            fills: Fills {
                known: HashSet::new(),
                order: VecDeque::new(),
                most: fills.max(1),
                last: None,
                horizon: None,
            },
            orders: HashMap::new(),
            over: Bounded { map: HashMap::new(), order: VecDeque::new(), most: fills.max(1) },
            positions: BTreeMap::new(),
            step: 0,
            losses: 0,
            live: [false; 3],
            current: false,
        }
    }

    /// Takes in the next event of a stream.
    pub fn apply(&mut self, event: &Event) -> PortfolioChange {
        match event {
            Event::Message(message) => match &message.payload {
                Payload::Fill(fill) => self.fill(&FillRecord::from(&**fill)),
                Payload::UserOrder(order) => self.order(OrderRecord::from(&**order)),
                Payload::MarketPosition(position) => {
                    self.position(PositionRecord::from(&**position))
                }
                _ => PortfolioChange::None,
            },
            Event::Subscribed { channel, .. } => {
                self.set_live(channel, true);
                PortfolioChange::None
            }
            other if is_loss(other) => {
                match other {
                    Event::Disconnected { .. } | Event::Closed { .. } => self.live = [false; 3],
                    Event::Terminated { channel, .. } | Event::Unsubscribed { channel } => {
                        self.set_live(channel, false);
                    }
                    _ => {}
                }
                self.losses += 1;
                self.current = false;
                PortfolioChange::Stale
            }
            _ => PortfolioChange::None,
        }
    }

    /// Whether everything that the exchange has is known to be here, as of the last event.
    pub const fn is_current(&self) -> bool {
        self.current
    }

    /// Whether all three subscriptions are confirmed, so that a reconciliation can make the view
    /// current.
    pub fn is_subscribed(&self) -> bool {
        self.live.iter().all(|live| *live)
    }

    /// The orders that rest, in no order.
    pub fn orders(&self) -> impl ExactSizeIterator<Item = &OrderRecord> {
        self.orders.values().map(|held| &held.value)
    }

    /// An order that rests.
    pub fn order_by_id(&self, order_id: &str) -> Option<&OrderRecord> {
        self.orders.get(order_id).map(|held| &held.value)
    }

    /// The positions that are not zero, by market.
    pub fn positions(&self) -> impl Iterator<Item = &PositionRecord> {
        self.positions.values().map(|held| &held.value).filter(|held| !held.count.is_zero())
    }

    /// The contracts in one market: of YES when positive, of NO when negative.
    pub fn position_in(&self, ticker: &str, subaccount: Option<i64>) -> Count {
        let key = (ticker.to_owned(), subaccount.filter(|number| *number != 0));
        self.positions.get(&key).map_or(Count::ZERO, |held| held.value.count)
    }

    /// Reads the account from the source and merges it in.
    ///
    /// # Errors
    ///
    /// The source could not be read; or not all three subscriptions were confirmed, so that the view
    /// cannot be current.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the view as it was.
    pub async fn reconcile<S: AccountSource>(
        &mut self,
        source: &S,
    ) -> Result<Reconciled, ReconcileError<S::Error>> {
        let begun = self.begin();
        let account = source.read(begun.fills_since()).await.map_err(ReconcileError::Source)?;
        let (found, current) = self.finish(begun, account);
        if current { Ok(found) } else { Err(ReconcileError::NotConfirmed) }
    }

    /// Begins a reconciliation whose reading is done elsewhere, while events go on being applied.
    /// All three subscriptions must have been confirmed before: what happens between a reading and
    /// a confirmation would be missed, and the view would not be current.
    pub fn begin(&self) -> Reconciliation {
        let since = self
            .fills
            .last
            .map(|last| UnixMillis::from(last.as_millis().saturating_sub(OVERLAP_MILLIS)));
        let confirmed = self.is_subscribed();
        Reconciliation { step: self.step, losses: self.losses, confirmed, fills_since: since }
    }

    /// Merges what was read. The second part says whether the view is current now; it is not if
    /// something was lost since the reconciliation began, or if that was too early.
    pub fn finish(&mut self, begun: Reconciliation, account: Account) -> (Reconciled, bool) {
        let mut found = Reconciled::default();
        let mut fills = account.fills;
        fills.sort_by_key(|fill| fill.ts_ms);
        for fill in fills {
            match self.fills.merge(&fill) {
                PortfolioChange::Fill => found.missed.push(fill),
                PortfolioChange::OldFill => found.too_old.push(fill),
                _ => {}
            }
        }
        let resting: HashSet<String> =
            account.orders.iter().map(|order| order.order_id.clone()).collect();
        for order in account.orders {
            let newer_here = self
                .orders
                .get(&order.order_id)
                .is_some_and(|held| held.step > begun.step && held.value.updated >= order.updated);
            if !newer_here {
                self.order(order);
            }
        }
        // What rested before and was not heard of since is over, if REST does not know it.
        let (kept, gone): (HashMap<_, _>, HashMap<_, _>) = std::mem::take(&mut self.orders)
            .into_iter()
            .partition(|(id, held)| held.step > begun.step || resting.contains(id));
        self.orders = kept;
        for (id, held) in gone {
            self.over.insert(id, Over { updated: held.value.updated, is_said: false });
            found.closed.push(held.value);
        }
        found.closed.sort_by(|a, b| a.order_id.cmp(&b.order_id));
        self.positions.retain(|_, held| held.step > begun.step);
        for position in account.positions {
            if !self.positions.contains_key(&position.key()) {
                self.position(position);
            }
        }
        if begun.confirmed && self.losses == begun.losses {
            self.current = true;
        }
        (found, self.current)
    }

    fn set_live(&mut self, channel: &Channel, is_live: bool) {
        for (live, ours) in self.live.iter_mut().zip(&CHANNELS) {
            *live = if channel == ours { is_live } else { *live };
        }
    }

    fn fill(&mut self, fill: &FillRecord) -> PortfolioChange {
        let change = self.fills.merge(fill);
        if change == PortfolioChange::Fill
            && let Some(count) = fill.position_after
        {
            // Until the message about the position comes, which has the rest.
            let key = (fill.market_ticker.clone(), fill.subaccount);
            self.step += 1;
            let step = self.step;
            let held = self.positions.entry(key).or_insert_with(|| Held {
                value: PositionRecord {
                    market_ticker: fill.market_ticker.clone(),
                    subaccount: fill.subaccount,
                    count,
                    cost: None,
                    realized_pnl: None,
                    fees: None,
                },
                step,
            });
            held.value.count = count;
            held.step = step;
        }
        change
    }

    fn order(&mut self, order: OrderRecord) -> PortfolioChange {
        let over = self.over.map.get(&order.order_id);
        let held = self.orders.get(&order.order_id);
        let known = held.map_or(over.and_then(|over| over.updated), |held| held.value.updated);
        let is_older =
            known.is_some_and(|known| order.updated.is_some_and(|updated| updated < known));
        // Without times, an order that is over stays so, and the later message is believed.
        if is_older || over.is_some_and(|over| over.is_said) {
            return PortfolioChange::OldOrder;
        }
        self.step += 1;
        if order.status == UserOrderStatus::Resting || order.status.is_unknown() {
            let held = Held { step: self.step, value: order };
            self.over.remove(&held.value.order_id);
            self.orders.insert(held.value.order_id.clone(), held);
        } else {
            self.orders.remove(&order.order_id);
            self.over.insert(order.order_id, Over { updated: order.updated, is_said: true });
        }
        PortfolioChange::Order
    }

    fn position(&mut self, position: PositionRecord) -> PortfolioChange {
        self.step += 1;
        self.positions.insert(position.key(), Held { value: position, step: self.step });
        PortfolioChange::Position
    }
}

impl Reconciliation {
    /// From when on fills must be read; all of them if there is no time.
    pub const fn fills_since(&self) -> Option<UnixMillis> {
        self.fills_since
    }
}

impl PositionRecord {
    fn key(&self) -> (String, Option<i64>) {
        (self.market_ticker.clone(), main_is_none(self.subaccount))
    }
}

impl From<&types::Fill> for FillRecord {
    fn from(fill: &types::Fill) -> Self {
        Self {
            trade_id: fill.trade_id.clone(),
            order_id: fill.order_id.clone(),
            client_order_id: fill.client_order_id.clone(),
            market_ticker: fill.market_ticker.clone(),
            subaccount: main_is_none(fill.subaccount),
            outcome_side: fill.outcome_side.clone(),
            book_side: fill.book_side.clone(),
            yes_price: fill.yes_price_dollars,
            count: fill.count_fp,
            fee: fill.fee_cost,
            is_taker: fill.is_taker,
            ts_ms: fill.ts_ms,
            position_after: Some(fill.post_position_fp),
        }
    }
}

impl From<&types::UserOrder> for OrderRecord {
    fn from(order: &types::UserOrder) -> Self {
        Self {
            order_id: order.order_id.clone(),
            client_order_id: order.client_order_id.clone(),
            market_ticker: order.ticker.clone(),
            subaccount: main_is_none(order.subaccount_number),
            status: order.status.clone(),
            outcome_side: order.outcome_side.clone(),
            book_side: order.book_side.clone(),
            yes_price: order.yes_price_dollars,
            initial: order.initial_count_fp,
            remaining: order.remaining_count_fp,
            filled: order.fill_count_fp,
            updated: order.last_updated_ts_ms.or(order.created_ts_ms),
        }
    }
}

impl From<&types::MarketPosition> for PositionRecord {
    fn from(position: &types::MarketPosition) -> Self {
        Self {
            market_ticker: position.market_ticker.clone(),
            subaccount: main_is_none(position.subaccount),
            count: position.position_fp,
            cost: Some(position.position_cost_dollars),
            realized_pnl: Some(position.realized_pnl_dollars),
            fees: Some(position.fees_paid_dollars),
        }
    }
}

/// Fills by their names, the oldest forgotten first.
#[derive(Debug)]
struct Fills {
    known: HashSet<(String, String)>,
    order: VecDeque<((String, String), Option<UnixMillis>)>,
    most: usize,
    /// The time of the latest.
    last: Option<UnixMillis>,
    /// The time of the latest that has been forgotten.
    horizon: Option<UnixMillis>,
}

impl Fills {
    /// The same trade fills two orders when both are the caller's.
    fn merge(&mut self, fill: &FillRecord) -> PortfolioChange {
        let key = (fill.trade_id.clone(), fill.order_id.clone());
        if self.known.contains(&key) {
            return PortfolioChange::KnownFill;
        }
        if let Some(horizon) = self.horizon
            && fill.ts_ms.is_none_or(|ts| ts <= horizon)
        {
            return PortfolioChange::OldFill;
        }
        self.known.insert(key.clone());
        self.order.push_back((key, fill.ts_ms));
        self.last = self.last.max(fill.ts_ms);
        if self.order.len() > self.most
            && let Some((key, ts)) = self.order.pop_front()
        {
            self.known.remove(&key);
            self.horizon = self.horizon.max(ts);
        }
        PortfolioChange::Fill
    }
}

/// A map that forgets what came first.
#[derive(Debug)]
struct Bounded<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
    most: usize,
}

impl<K: Clone + Eq + std::hash::Hash, V> Bounded<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > self.most
            && let Some(key) = self.order.pop_front()
        {
            self.map.remove(&key);
        }
    }

    fn remove(&mut self, key: &K) {
        if self.map.remove(key).is_some() {
            self.order.retain(|other| other != key);
        }
    }
}

/// The exchange leaves the main subaccount out, or calls it 0.
fn main_is_none(subaccount: Option<i64>) -> Option<i64> {
    subaccount.filter(|number| *number != 0)
}

/// Whether messages about the account may be missing from here on.
fn is_loss(event: &Event) -> bool {
    let ours = |channel: &Channel| CHANNELS.contains(channel);
    match event {
        Event::Disconnected { .. } | Event::Closed { .. } => true,
        Event::Gap { channel, .. }
        | Event::Terminated { channel, .. }
        | Event::Unsubscribed { channel }
        | Event::Refused { channel, .. }
        | Event::Lagged { channel: Some(channel), .. } => ours(channel),
        // Of what type it was is not known in the worst case.
        Event::Malformed(Malformed { kind, .. }) => kind.as_deref().is_none_or(|kind| {
            message_kind(kind).is_none_or(|kind| kind.channels.iter().any(ours))
        }),
        _ => false,
    }
}
