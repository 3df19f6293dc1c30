//! All orders, by every id that they have.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use kalshi_types::UnixMillis;
use kalshi_ws::{Event, FillRecord, OrderRecord, Payload, Reconciled, RestingOrder};

use super::{IntentError, Life, ManagedOrder, OrderEvent, OrderIntent, OrderKey, order::Placed};
use crate::{journal::OwnIds, placement::PlacementState};

/// The default number of orders that are over and still known, for what comes late.
const OVER_HISTORY: usize = 100_000;

/// Keeps your orders. See the [module](super).
///
/// # Examples
///
/// ```
/// use kalshi_trade::{
///     orders::{Life, OrderManager},
///     placement::PlacementState,
/// };
///
/// let mut orders = OrderManager::new();
/// orders.apply_placement("a-1", &PlacementState::Sent { attempt: 1 });
/// let key = orders.by_client_order_id("a-1").unwrap();
/// // It may exist: it counts.
/// assert_eq!(orders.get(key).unwrap().life(), Life::Unsettled);
/// ```
#[derive(Debug)]
pub struct OrderManager {
    orders: BTreeMap<OrderKey, ManagedOrder>,
    /// Those that are not over.
    open: BTreeSet<OrderKey>,
    by_order_id: HashMap<String, OrderKey>,
    by_client_id: HashMap<String, OrderKey>,
    next: u64,
    /// Those that were closed, the oldest first.
    closed: VecDeque<OrderKey>,
    /// The same keys.
    is_in_closed: HashSet<OrderKey>,
    capacity: usize,
    /// The client order ids of orders that were placed here before.
    expected: OwnIds,
}

/// What was last said about an order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    life: Life,
    is_closed: bool,
    needs_fills: bool,
    needs_order: bool,
    shown: Option<(kalshi_types::Dollars, kalshi_types::Count)>,
}

impl View {
    fn of(order: &ManagedOrder) -> Self {
        let record = order.record().filter(|_| order.life() == Life::Resting);
        Self {
            life: order.life(),
            is_closed: order.is_closed(),
            needs_fills: order.needs_fills(),
            needs_order: order.needs_order(),
            shown: record.map(|record| (record.yes_price, record.remaining)),
        }
    }
}

impl Default for OrderManager {
    fn default() -> Self {
        Self::new()
    }
}

impl OrderManager {
    /// Returns a manager that knows no order.
    pub fn new() -> Self {
        Self::with_over_history(OVER_HISTORY)
    }

    /// Returns a manager that still knows the last `orders` that are over; 100,000 by default. What
    /// comes later than that about one of them makes it a foreign order.
    pub fn with_over_history(orders: usize) -> Self {
        Self {
            orders: BTreeMap::new(),
            open: BTreeSet::new(),
            by_order_id: HashMap::new(),
            by_client_id: HashMap::new(),
            next: 0,
            closed: VecDeque::new(),
            is_in_closed: HashSet::new(),
            capacity: orders.max(1),
            expected: OwnIds::default(),
        }
    }

    /// Says which orders were placed here before: they are no foreign orders when they are seen.
    pub fn expect_own(&mut self, client_order_ids: OwnIds) {
        self.expected = client_order_ids;
    }

    /// Takes in an event of a connection: messages about orders and fills. Losses are found by
    /// [`Portfolio`](kalshi_ws::Portfolio): give it the same events.
    pub fn apply(&mut self, event: &Event) -> Vec<OrderEvent> {
        let (Event::Message(message) | Event::Unmatched(message)) = event else {
            return Vec::new();
        };
        match &message.payload {
            Payload::UserOrder(order) => self.apply_order(OrderRecord::from(&**order)),
            Payload::Fill(fill) => self.apply_fill(&FillRecord::from(&**fill)),
            _ => Vec::new(),
        }
    }

    /// Takes in the state of a placement that was made here, under its client order id.
    pub fn apply_placement(&mut self, id: &str, state: &PlacementState) -> Vec<OrderEvent> {
        let order_id = match state {
            PlacementState::Accepted { order_id } => Some(order_id.as_str()),
            _ => None,
        };
        let placed = Placed::from(state);
        self.change(order_id, Some(id), placed, |order, _, _| order.placed = placed)
    }

    /// Takes in a state of an order, from a message or a read. An older one changes nothing.
    pub fn apply_order(&mut self, record: OrderRecord) -> Vec<OrderEvent> {
        let (order_id, id) = (record.order_id.clone(), record.client_order_id.clone());
        let id = Some(id.as_str()).filter(|id| !id.is_empty());
        self.change(Some(&order_id), id, Placed::Elsewhere, |order, _, _| {
            order.take_record(record);
        })
    }

    /// Takes in a fill, from a message or a read. One that is known changes nothing.
    pub fn apply_fill(&mut self, fill: &FillRecord) -> Vec<OrderEvent> {
        let id = fill.client_order_id.as_deref().filter(|id| !id.is_empty());
        self.change(Some(&fill.order_id), id, Placed::Elsewhere, |order, key, events| {
            if order.take_fill(&fill.trade_id, fill.count) {
                let (trade_id, count) = (fill.trade_id.clone(), fill.count);
                events.push(OrderEvent::Filled { order: key, trade_id, count });
            }
        })
    }

    /// Takes in a reconciliation that made a [`Portfolio`](kalshi_ws::Portfolio) current, the orders
    /// that rest in the portfolio after it, and the time that its reads were complete up to.
    ///
    /// One that did not make it current has missed fills at most: give those to
    /// [`apply_fill`](Self::apply_fill).
    pub fn reconcile<'a>(
        &mut self,
        reconciled: &Reconciled,
        resting: impl IntoIterator<Item = &'a OrderRecord>,
        as_of: UnixMillis,
    ) -> Vec<OrderEvent> {
        self.reconcile_parts(&reconciled.missed, &reconciled.closed, resting, as_of)
    }

    /// Takes in the parts of a reconciliation: fills first, so that what is over has them.
    pub(super) fn reconcile_parts<'a>(
        &mut self,
        missed: &[FillRecord],
        closed: &[OrderRecord],
        resting: impl IntoIterator<Item = &'a OrderRecord>,
        as_of: UnixMillis,
    ) -> Vec<OrderEvent> {
        let mut events = Vec::new();
        for fill in missed {
            events.extend(self.apply_fill(fill));
        }
        let mut present = HashSet::new();
        for record in resting {
            present.insert(record.order_id.as_str());
            let id = Some(record.client_order_id.as_str()).filter(|id| !id.is_empty());
            let order_id = Some(record.order_id.as_str());
            events.extend(self.change(order_id, id, Placed::Elsewhere, |order, key, events| {
                order.take_presence(record);
                order.take_record(record.clone());
                // The read is newer than whatever the command could do.
                let is_settled = order.intent_until.is_some_and(|until| until < as_of);
                if is_settled && !order.is_intent_reached() {
                    end_intent(order, key, false, events);
                }
            }));
        }
        for record in closed {
            let id = Some(record.client_order_id.as_str()).filter(|id| !id.is_empty());
            let order_id = Some(record.order_id.as_str());
            events.extend(self.change(order_id, id, Placed::Elsewhere, |order, _, _| {
                order.take_record(record.clone());
                order.take_absence(record);
            }));
        }
        // A state that was read by itself, in a gap of the streams, is one that the portfolio never
        // had: it cannot name it among those that are over.
        let is_left_out = |order: &&ManagedOrder| {
            let record = order.record().filter(|_| order.life() == Life::Resting);
            record.is_some_and(|record| {
                record.updated.is_some_and(|updated| updated < as_of)
                    && !present.contains(record.order_id.as_str())
            })
        };
        let left_out = self.open().map(|(_, order)| order).filter(is_left_out);
        let left_out = left_out.filter_map(ManagedOrder::record);
        let left_out: Vec<OrderRecord> = left_out.cloned().collect();
        for record in left_out {
            events.extend(self.change(
                Some(&record.order_id),
                None,
                Placed::Elsewhere,
                |order, _, _| {
                    order.take_absence(&record);
                },
            ));
        }
        events
    }

    /// Sets what is wanted of an order, before the command is sent. A cancel replaces a pending
    /// change; nothing replaces a cancel.
    ///
    /// # Errors
    ///
    /// An [`IntentError`]: nothing changed, and nothing is to be sent. [`IntentError::Foreign`]
    /// unless `allow_foreign`, for an order that was not placed here.
    pub fn set_intent(
        &mut self,
        key: OrderKey,
        intent: OrderIntent,
        allow_foreign: bool,
    ) -> Result<(), IntentError> {
        let order = self.orders.get_mut(&key).ok_or(IntentError::NoOrder)?;
        if !order.is_own() && !allow_foreign {
            return Err(IntentError::Foreign);
        }
        if order.is_over() {
            return Err(IntentError::Over);
        }
        let is_free = match order.intent {
            OrderIntent::None => true,
            OrderIntent::Cancel => false,
            OrderIntent::Amend { .. } | OrderIntent::Decrease { .. } => {
                intent == OrderIntent::Cancel
            }
        };
        if !is_free {
            return Err(IntentError::Pending);
        }
        order.intent = intent;
        order.intent_until = None;
        Ok(())
    }

    /// Takes in the time from which on the pending command can have no effect that a read does not
    /// show: that of its answer, or if its outcome is unknown, that plus the
    /// [window](crate::placement::PlacementConfig::window) of a signature.
    ///
    /// The intent ends by evidence: when it is reached, when the order is over, or by a
    /// reconciliation whose reads are newer than that time.
    pub fn answer_intent(&mut self, key: OrderKey, until: UnixMillis) {
        if let Some(order) = self.orders.get_mut(&key)
            && order.intent != OrderIntent::None
        {
            order.intent_until = order.intent_until.max(Some(until));
        }
    }

    /// Takes in that the exchange refused the pending command, or that it was not sent.
    ///
    /// A 404 after an earlier attempt with an unknown outcome is no refusal: the order is over, and
    /// a read says how.
    pub fn refuse_intent(&mut self, key: OrderKey) -> Vec<OrderEvent> {
        let mut events = Vec::new();
        if let Some(order) = self.orders.get_mut(&key)
            && order.intent != OrderIntent::None
        {
            end_intent(order, key, false, &mut events);
        }
        events
    }

    /// Returns an order.
    pub fn get(&self, key: OrderKey) -> Option<&ManagedOrder> {
        self.orders.get(&key)
    }

    /// Returns the order with an id of the exchange.
    pub fn by_order_id(&self, order_id: &str) -> Option<OrderKey> {
        self.by_order_id.get(order_id).copied()
    }

    /// Returns the order with a client order id, that of its placement or of an amend.
    pub fn by_client_order_id(&self, id: &str) -> Option<OrderKey> {
        self.by_client_id.get(id).copied()
    }

    /// Returns all orders that are known, also those that are over.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (OrderKey, &ManagedOrder)> {
        self.orders.iter().map(|(key, order)| (*key, order))
    }

    /// Returns the orders to cancel on the way out: those that were placed here and are not over.
    /// Foreign orders are not among them.
    pub fn own_open(&self) -> impl Iterator<Item = (OrderKey, &ManagedOrder)> {
        self.open().filter(|(_, order)| order.is_own())
    }

    /// Returns what rests in a market, foreign orders included, for
    /// [`OrderBook::without`](kalshi_ws::OrderBook::without).
    pub fn resting_in(&self, ticker: &str) -> impl Iterator<Item = RestingOrder> {
        self.open()
            .filter(|(_, order)| order.life() == Life::Resting)
            .filter_map(|(_, order)| order.record())
            .filter(move |record| record.market_ticker == ticker)
            .map(RestingOrder::from)
    }

    /// Returns the orders that are not over.
    fn open(&self) -> impl Iterator<Item = (OrderKey, &ManagedOrder)> {
        self.open.iter().filter_map(|key| Some((*key, self.orders.get(key)?)))
    }

    /// Changes the order with these ids, and returns what happened.
    fn change(
        &mut self,
        order_id: Option<&str>,
        client_id: Option<&str>,
        placed: Placed,
        change: impl FnOnce(&mut ManagedOrder, OrderKey, &mut Vec<OrderEvent>),
    ) -> Vec<OrderEvent> {
        let mut events = Vec::new();
        let (key, is_new) = self.resolve(order_id, client_id, placed, &mut events);
        let Some(order) = self.orders.get_mut(&key) else { return events };
        if !order.is_own() && client_id.is_some_and(|id| self.expected.contains(id)) {
            order.placed = Placed::Exists;
        }
        let mut before = View::of(order);
        if !events.is_empty() {
            // Two became one: what either had asked for was asked for by a key that is gone.
            before.needs_order = false;
            before.needs_fills = false;
        }
        if is_new && !order.is_own() {
            events.push(OrderEvent::Foreign { order: key });
        }
        if let Some(order_id) = order_id
            && order.order_id.is_none()
        {
            order.order_id = Some(order_id.to_owned());
        }
        if let Some(id) = client_id {
            order.add_client_order_id(id);
        }
        change(order, key, &mut events);
        if order.is_over() {
            self.open.remove(&key);
        } else {
            self.open.insert(key);
        }
        let is_ended = order.is_intent_reached() || order.is_over();
        if order.intent != OrderIntent::None && is_ended {
            let is_reached = order.is_intent_reached();
            end_intent(order, key, is_reached, &mut events);
        }
        let before = (!is_new).then_some(before);
        let after = View::of(order);
        let is_newly_closed =
            after.is_closed && !before.as_ref().is_some_and(|view| view.is_closed);
        report(order, key, before.as_ref(), &after, &mut events);
        if is_newly_closed {
            self.close(key);
        }
        events
    }

    /// Returns the key of the order with these ids, and whether it is new. Where the two ids were
    /// kept as two orders, they are one from now on.
    fn resolve(
        &mut self,
        order_id: Option<&str>,
        client_id: Option<&str>,
        placed: Placed,
        events: &mut Vec<OrderEvent>,
    ) -> (OrderKey, bool) {
        let by_order = order_id.and_then(|id| self.by_order_id.get(id).copied());
        let by_client = client_id.and_then(|id| self.by_client_id.get(id).copied());
        // An id may be used again: another order has its own entry.
        let by_client = by_client.filter(|key| {
            let known = self.orders.get(key).and_then(ManagedOrder::order_id);
            known.is_none() || order_id.is_none() || known == order_id
        });
        let (key, is_new) = match (by_client, by_order) {
            (Some(key), Some(was)) if key != was => {
                self.open.remove(&was);
                if let Some(other) = self.orders.remove(&was)
                    && let Some(order) = self.orders.get_mut(&key)
                {
                    for id in &other.client_order_ids {
                        self.by_client_id.insert(id.clone(), key);
                    }
                    order.merge(other);
                    events.push(OrderEvent::Identified { order: key, was });
                }
                (key, false)
            }
            (Some(key), _) | (None, Some(key)) => (key, false),
            (None, None) => {
                let key = OrderKey(self.next);
                self.next = self.next.saturating_add(1);
                self.orders.insert(key, ManagedOrder::new(placed));
                (key, true)
            }
        };
        if let Some(order_id) = order_id {
            self.by_order_id.insert(order_id.to_owned(), key);
        }
        if let Some(id) = client_id {
            self.by_client_id.entry(id.to_owned()).or_insert(key);
        }
        (key, is_new)
    }

    /// Remembers that an order is over, and forgets the oldest where there are too many.
    fn close(&mut self, key: OrderKey) {
        if self.is_in_closed.insert(key) {
            self.closed.push_back(key);
        }
        if self.closed.len() <= self.capacity {
            return;
        }
        let Some(oldest) = self.closed.pop_front() else { return };
        self.is_in_closed.remove(&oldest);
        // It may have come back since; then it is here again when it is over.
        if !self.orders.get(&oldest).is_some_and(ManagedOrder::is_closed) {
            return;
        }
        let Some(order) = self.orders.remove(&oldest) else { return };
        let forget = |map: &mut HashMap<String, OrderKey>, id: &str| {
            if map.get(id) == Some(&oldest) {
                map.remove(id);
            }
        };
        if let Some(id) = order.order_id() {
            forget(&mut self.by_order_id, id);
        }
        for id in order.client_order_ids() {
            forget(&mut self.by_client_id, id);
        }
    }
}

/// Reports the difference of two views.
fn report(
    order: &ManagedOrder,
    key: OrderKey,
    before: Option<&View>,
    after: &View,
    events: &mut Vec<OrderEvent>,
) {
    let was = |is: fn(&View) -> bool| before.is_some_and(is);
    let life_before = before.map(|view| view.life);
    if after.life == Life::Resting {
        if was(|view| view.is_closed) {
            events.push(OrderEvent::Reopened { order: key });
        } else if before.is_none_or(|view| view.shown != after.shown) {
            events.push(OrderEvent::Resting { order: key });
        }
    }
    if after.life == Life::Unsettled && life_before != Some(Life::Unsettled) {
        events.push(OrderEvent::Unsettled { order: key });
    }
    if after.needs_order && !was(|view| view.needs_order) {
        events.push(OrderEvent::NeedsOrder { order: key });
    }
    if after.needs_fills && !was(|view| view.needs_fills) {
        let (known, reported) = (order.filled(), order.reported_filled());
        events.push(OrderEvent::NeedsFills { order: key, known, reported });
    }
    if let Life::Over(reason) = after.life
        && after.is_closed
        && !was(|view| view.is_closed)
    {
        events.push(OrderEvent::Over { order: key, reason });
    }
}

fn end_intent(
    order: &mut ManagedOrder,
    key: OrderKey,
    is_reached: bool,
    events: &mut Vec<OrderEvent>,
) {
    let intent = std::mem::take(&mut order.intent);
    order.intent_until = None;
    events.push(OrderEvent::IntentEnded { order: key, intent, is_reached });
}
