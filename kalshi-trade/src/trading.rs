//! Placing, following and canceling orders with one handle.
//!
//! [`Trading`] joins what places orders, the streams of the account, the view of the account, and
//! the manager of orders. It has no task of its own but those of the placements: it works while
//! [`Trading::next`] is awaited, so await it in a loop.

use std::{collections::BTreeMap, fmt, pin::Pin, sync::Arc, time::Duration};

use kalshi_sdk::{
    Client, Error,
    auth::{Clock, SystemClock},
    streams::{
        AccountSnapshot, AccountSource, ConfigBuilder, ConnectError, Connection, Reconciliation,
        Subscription,
    },
    types::CreateOrderV2Request,
};
use kalshi_types::{Count, Dollars, UnixMillis};
use kalshi_ws::{Event, FillRecord, OrderRecord, Portfolio, PortfolioChange};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    journal::{Journal, KnownOrder, OrderChange},
    orders::{IntentError, Life, OrderEvent, OrderIntent, OrderKey, OrderManager},
    placement::{
        Change, ChangeAnswer, ChangeState, ChangeTarget, PlaceError, Placement, PlacementConfig,
        PlacementState, Placements, PlacementsBuilder,
    },
};

/// The time between two reconciliations that nothing calls for.
const RECONCILE_EVERY: Duration = Duration::from_secs(60);

/// The time before a read that failed, or did not show what was looked for, is made again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest sleep: a clock may step.
const MAX_SLEEP: Duration = Duration::from_millis(250);

/// The overlap of the view of fills with the time before the start.
const FILLS_BEFORE_START: Duration = Duration::from_secs(60);

/// Rows of a page of fills.
const LIMIT: u16 = 1_000;

/// The time before a cancel on the way out is repeated.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

/// Places orders, follows them by streams and reads, and cancels them.
///
/// Only a client with credentials gives it out.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let exchange = kalshi_sim::Exchange::start().await?;
/// # let client = exchange.client(kalshi_sim::Role::Trader)?;
/// # let now = kalshi_types::UnixMillis::EPOCH;
/// use kalshi_trade::{journal::MemoryJournal, orders::OrderEvent, trading::Trading};
///
/// let mut trading = Trading::builder(client, MemoryJournal::new(7, now))?.start().await?;
/// // Orders that rest already are found by the first reconciliation.
/// while !trading.is_current() {
///     for event in trading.next().await.ok_or("closed")? {
///         if let OrderEvent::Foreign { order } = event {
///             println!("not ours: {:?}", trading.orders().get(order));
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Trading {
    client: Client,
    clock: Arc<dyn Clock>,
    window: Duration,
    placements: Placements,
    connection: Connection,
    portfolio: Portfolio,
    orders: OrderManager,
    /// The placements whose outcome may change, with the state that the manager knows.
    open: Vec<(Placement, Option<PlacementState>)>,
    /// The changes whose outcome may change, with the state that the manager knows.
    changing: Vec<(OrderKey, Change, Option<ChangeState>)>,
    changes: watch::Receiver<u64>,
    reconcile_at: UnixMillis,
    /// What has to be read, and when.
    reads: BTreeMap<OrderKey, (Read, UnixMillis)>,
    /// The request on its way. It outlives the future of [`Trading::next`], which may be dropped
    /// again and again.
    running: Option<Running>,
    /// What happened outside of [`Trading::next`].
    events: Vec<OrderEvent>,
    /// What [`Trading::is_current`] was when [`Trading::next`] returned last.
    was_current: bool,
    /// True once [`Trading::exit`] was called.
    is_exiting: bool,
    /// What [`Trading::has_ended`] was when [`Trading::next`] returned last.
    had_ended: bool,
    /// The orders that the exit has canceled, and when last.
    canceled: BTreeMap<OrderKey, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Order,
    Fills,
}

/// A request on its way.
type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a request came to.
enum Done {
    Order(Result<OrderRecord, Error>),
    Fills(Result<Vec<FillRecord>, Error>),
    Account(Reconciliation, Result<AccountSnapshot, Error>),
}

/// Builds a [`Trading`].
#[must_use = "call `start`"]
pub struct TradingBuilder {
    client: Client,
    placements: PlacementsBuilder,
    streams: ConfigBuilder,
    clock: Arc<dyn Clock>,
    config: PlacementConfig,
}

/// The reason for which trading did not start. Nothing was placed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings of the streams cannot work, or no connection could be made.
    #[error("could not connect to the streams")]
    Streams(#[source] ConnectError),
    /// The placements could not start.
    #[error("could not start to place orders")]
    Placements(#[source] PlaceError),
}

/// The outcome of a cancel, by what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Canceled {
    /// The exchange canceled it. [`OrderEvent::Over`] follows when its fills are known.
    Accepted,
    /// The exchange does not find an open order with that id: most likely it is over. Its state is
    /// read; wait for [`OrderEvent::Over`].
    NotFound,
    /// The exchange refused: the order is as it was. Fix the cause and cancel again.
    Refused(Error),
    /// It may be canceled or not, or could not be sent yet. It is sent again until the order is over,
    /// and by the next session, too: wait for [`OrderEvent::Over`].
    Unknown(Error),
}

/// What [`Trading::exit`] left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exited {
    /// Orders placed here that rest, as far as is known: cancel them by hand.
    pub resting: Vec<OrderKey>,
    /// Orders placed here of which it is not known whether they exist. The journal has them: the
    /// next session settles them first.
    pub unsettled: Vec<OrderKey>,
    /// Orders that were not placed here and rest. They are left alone.
    pub foreign: Vec<OrderKey>,
    /// What happened meanwhile, fills among it: take it in as that of [`Trading::next`].
    pub events: Vec<OrderEvent>,
}

impl Exited {
    /// Reports whether no order that was placed here is left.
    pub fn is_clean(&self) -> bool {
        self.resting.is_empty() && self.unsettled.is_empty()
    }
}

impl TradingBuilder {
    /// Sets the times and numbers of placing.
    pub fn with_config(mut self, config: PlacementConfig) -> Self {
        self.placements = self.placements.with_config(config);
        self.config = config;
        self
    }

    /// Takes the time from this clock; by default from the machine's. It must be the clock that the
    /// client signs with.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.placements = self.placements.with_clock(Arc::clone(&clock));
        self.streams = self.streams.with_clock(Arc::clone(&clock));
        self.clock = clock;
        self
    }

    /// Sets the name that client order ids begin with, up to 12 ASCII letters and digits.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.placements = self.placements.with_name(name);
        self
    }

    /// Connects to the streams, and begins to settle what the journal has open.
    ///
    /// # Errors
    ///
    /// A [`StartError`]: nothing was placed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the attempt.
    pub async fn start(self) -> Result<Trading, StartError> {
        let Self { client, placements, streams, clock, config } = self;
        let streams = streams.build().map_err(StartError::Streams)?;
        let connection = Connection::connect(streams).await.map_err(StartError::Streams)?;
        for subscription in
            [Subscription::user_orders(), Subscription::fills(), Subscription::market_positions()]
        {
            // The queue of a new connection has room; one that is closed says so by its events.
            let _ = connection.handle().subscribe(subscription);
        }
        let placements = placements.start().map_err(StartError::Placements)?;
        let now = clock.now();
        let portfolio = Portfolio::new()
            .with_clock(Arc::clone(&clock))
            .with_fills_since(now.saturating_sub(FILLS_BEFORE_START));
        let open = placements.restored().iter().map(|one| (one.clone(), None)).collect();
        // Those of earlier sessions are no foreign orders.
        let mut orders = OrderManager::new();
        orders.expect_own(placements.own_ids());
        Ok(Trading {
            client,
            clock,
            window: config.window(),
            changes: placements.changes(),
            placements,
            connection,
            portfolio,
            orders,
            open,
            changing: Vec::new(),
            reconcile_at: now,
            reads: BTreeMap::new(),
            running: None,
            events: Vec::new(),
            was_current: false,
            is_exiting: false,
            had_ended: false,
            canceled: BTreeMap::new(),
        })
    }
}

impl Trading {
    /// Returns a builder of the handle for a client with credentials.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](kalshi_sdk::ErrorKind::Config) if the client has none.
    pub fn builder(
        client: Client,
        journal: impl Journal + 'static,
    ) -> Result<TradingBuilder, Error> {
        let streams = client.stream_config()?;
        Ok(TradingBuilder {
            placements: Placements::builder(client.clone(), journal),
            client,
            streams,
            clock: Arc::new(SystemClock),
            config: PlacementConfig::default(),
        })
    }

    /// Returns the orders, as of the last event that was returned.
    pub fn orders(&self) -> &OrderManager {
        &self.orders
    }

    /// Returns the positions and fills.
    pub fn portfolio(&self) -> &Portfolio {
        &self.portfolio
    }

    /// Returns what places the orders.
    pub fn placements(&self) -> &Placements {
        &self.placements
    }

    /// Reports whether nothing is known to have been missed. Where it is not, go on calling
    /// [`next`](Self::next), and quote nothing that depends on it.
    pub fn is_current(&self) -> bool {
        self.portfolio.is_current()
    }

    /// Places an order: it is sent within that time, or not at all. What becomes of it is told by
    /// the events, and by the placement.
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing was written or sent.
    ///
    /// # Cancellation
    ///
    /// The order goes on when the placement is dropped, and when this handle is. An unknown outcome
    /// is settled, and never placed anew.
    pub fn place(
        &mut self,
        order: CreateOrderV2Request,
        within: Duration,
    ) -> Result<Placement, PlaceError> {
        if self.is_exiting {
            return Err(PlaceError::Exiting);
        }
        let placement = self.placements.place_within(order, within)?;
        self.open.push((placement.clone(), None));
        Ok(placement)
    }

    /// Places several orders with one request each time. See
    /// [`Placements::place_all`](crate::placement::Placements::place_all).
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing of any order was written or sent.
    ///
    /// # Cancellation
    ///
    /// As with [`place`](Self::place), for each order.
    pub fn place_all(
        &mut self,
        orders: impl IntoIterator<Item = CreateOrderV2Request>,
        within: Duration,
    ) -> Result<Vec<Placement>, PlaceError> {
        if self.is_exiting {
            return Err(PlaceError::Exiting);
        }
        let placements = self.placements.place_all(orders, within)?;
        self.open.extend(placements.iter().map(|placement| (placement.clone(), None)));
        Ok(placements)
    }

    /// Gives an order that was placed here another price and total, the filled contracts included:
    /// within that time, or not at all. It loses its place in the queue, unless the price stays and
    /// the total is lower.
    ///
    /// # Errors
    ///
    /// An [`IntentError`]: nothing was written or sent. [`IntentError::Pending`] while another change
    /// of the order is not settled.
    ///
    /// # Cancellation
    ///
    /// It goes on when the [`Change`] is dropped. If the answer is lost, the order is as before or as
    /// wanted until [`OrderEvent::IntentEnded`]: a minute at most, as long as reads work. It is never
    /// sent again: carried out late, it would undo the next change.
    pub fn amend(
        &mut self,
        key: OrderKey,
        yes_price: Dollars,
        total: Count,
        within: Duration,
    ) -> Result<Change, IntentError> {
        let order = self.orders.get(key).ok_or(IntentError::NoOrder)?;
        let side = order.record().ok_or(IntentError::NoOrder)?.book_side.clone();
        let change = OrderChange::Amend { side, yes_price, total, expires: None };
        self.change(key, OrderIntent::Amend { yes_price, total }, change, within)
    }

    /// Takes contracts off an order that was placed here until no more than that are left: within
    /// that time, or not at all. It keeps its place in the queue.
    ///
    /// # Errors
    ///
    /// As with [`amend`](Self::amend).
    ///
    /// # Cancellation
    ///
    /// As with [`amend`](Self::amend).
    pub fn decrease(
        &mut self,
        key: OrderKey,
        remaining: Count,
        within: Duration,
    ) -> Result<Change, IntentError> {
        let change = OrderChange::Decrease { remaining };
        self.change(key, OrderIntent::Decrease { remaining }, change, within)
    }

    fn change(
        &mut self,
        key: OrderKey,
        intent: OrderIntent,
        change: OrderChange,
        within: Duration,
    ) -> Result<Change, IntentError> {
        if self.is_exiting {
            return Err(IntentError::Exiting);
        }
        let target = self.target(key)?;
        self.orders.set_intent(key, intent, false)?;
        let Ok(change) = self.placements.change(target, change, within) else {
            // One of an earlier session. Nobody was told of this one.
            let _ = self.orders.refuse_intent(key);
            return Err(IntentError::Pending);
        };
        self.changing.push((key, change.clone(), None));
        Ok(change)
    }

    /// Returns what is needed to change an order that the exchange is known to have.
    fn target(&self, key: OrderKey) -> Result<ChangeTarget, IntentError> {
        let order = self.orders.get(key).ok_or(IntentError::NoOrder)?;
        let order_id = order.order_id().ok_or(IntentError::NoOrder)?;
        let record = order.record().ok_or(IntentError::NoOrder)?;
        let total = record.filled.checked_add(record.remaining);
        let known = record.updated.zip(total).map(|(updated, total)| KnownOrder {
            updated,
            yes_price: record.yes_price,
            total,
            // Records do not have it.
            expires: None,
        });
        Ok(ChangeTarget::new(order_id, &*record.market_ticker)
            .with_subaccount(record.subaccount)
            .with_known(known))
    }

    /// Cancels an order that was placed here and that the exchange is known to have. It is in the
    /// journal before it is sent, and is sent again until the order is over: if this process dies, by
    /// the next session.
    ///
    /// # Errors
    ///
    /// An [`IntentError`]: nothing was sent.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing: the cancel goes on. The intent stays until the order is
    /// over or a read that is newer than the request's window shows it to rest.
    pub async fn cancel(&mut self, key: OrderKey) -> Result<Canceled, IntentError> {
        let target = self.target(key)?;
        self.orders.set_intent(key, OrderIntent::Cancel, false)?;
        // It stands if the future is dropped.
        self.orders.answer_intent(key, self.clock.now().saturating_add(self.window));
        let (change, answered) = self.placements.cancel(target);
        self.changing.push((key, change.clone(), None));
        let answer = answered.await;
        let now = self.clock.now();
        // Whatever it came to, a read shows.
        self.reads.insert(key, (Read::Order, now));
        Ok(match answer {
            Ok(Ok(())) => Canceled::Accepted,
            // Also if it was over before the cancel was sent.
            Ok(Err((ChangeAnswer::NotFound, _))) | Err(_) => Canceled::NotFound,
            Ok(Err((
                ChangeAnswer::Refused(_) | ChangeAnswer::NotSent { is_temporary: false },
                error,
            ))) => {
                self.changing.retain(|(_, one, _)| one.intent().number != change.intent().number);
                let events = self.orders.refuse_intent(key);
                self.events.extend(events);
                Canceled::Refused(error)
            }
            Ok(Err((_, error))) => Canceled::Unknown(error),
        })
    }

    /// Ends the orders that were placed here: none is placed any more, what was not sent is
    /// withdrawn, what rests is canceled, again and again, and what is unknown is settled. Returns when
    /// nothing is left, or after `within`, or when the streams are closed, and says what is left.
    /// Foreign orders are left alone. After it, [`next`](Self::next) goes on canceling what is left.
    ///
    /// To prove that an order whose answer was lost does not exist takes a little over a minute: with
    /// less time it may be left unsettled, for the next session to settle.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the orders that are not canceled yet. None is placed any more.
    pub async fn exit(&mut self, within: Duration) -> Exited {
        self.is_exiting = true;
        for (placement, _) in &self.open {
            placement.withdraw();
        }
        let end = Instant::now() + within;
        let mut exited = Exited::default();
        while !self.has_ended() {
            match timeout_at(end, self.next()).await {
                Ok(Some(events)) => exited.events.extend(events),
                // The time is over, or the streams are closed.
                Ok(None) | Err(_) => break,
            }
        }
        for (key, order) in self.orders.iter() {
            match order.life() {
                Life::Resting if order.is_own() => exited.resting.push(key),
                Life::Resting => exited.foreign.push(key),
                Life::Unsettled | Life::Unsent if order.is_own() => exited.unsettled.push(key),
                _ => {}
            }
        }
        exited
    }

    /// Reports whether nothing that was placed here is left.
    fn has_ended(&self) -> bool {
        self.open.is_empty() && self.orders.own_open().next().is_none()
    }

    /// Begins to cancel what rests, and what was canceled a while ago and still rests. What became of
    /// each, the streams and reads show; a cancel that is under way already is not sent twice.
    fn begin_cancels(&mut self, now: UnixMillis) {
        let (mut targets, mut keys) = (Vec::new(), Vec::new());
        let at = Instant::now();
        for (key, order) in self.orders.own_open() {
            let is_due = self.canceled.get(&key).is_none_or(|last| at >= *last + CANCEL_AGAIN);
            if is_due
                && order.life() == Life::Resting
                && let Ok(target) = self.target(key)
            {
                targets.push(target);
                keys.push(key);
            }
        }
        for key in keys {
            self.canceled.insert(key, at);
            // One that has the intent already keeps it.
            let _ = self.orders.set_intent(key, OrderIntent::Cancel, false);
            self.orders.answer_intent(key, now.saturating_add(self.window));
            // The stream usually brings it.
            self.reads.insert(key, (Read::Order, now.saturating_add(RETRY_AFTER)));
        }
        self.placements.cancel_all(targets);
    }

    /// Waits for what happens next to orders, or until [`is_current`](Self::is_current) changes or an
    /// [`exit`](Self::exit) has come to its end, for which the list may be empty; `None` when the
    /// connection is closed for good. Then build another handle: the journal knows what is open.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped, and a read that was on its way goes on with the
    /// next call.
    pub async fn next(&mut self) -> Option<Vec<OrderEvent>> {
        loop {
            self.take_placements();
            let events = std::mem::take(&mut self.events);
            let is_current = self.is_current();
            let has_ended = self.is_exiting && self.has_ended();
            if !events.is_empty() || is_current != self.was_current || has_ended != self.had_ended {
                self.was_current = is_current;
                self.had_ended = has_ended;
                self.plan_reads(&events);
                return Some(events);
            }
            let now = self.clock.now();
            if self.running.is_none() {
                self.running = self.begin(now);
            }
            let sleep = self.next_at().filter(|_| self.running.is_none());
            let sleep = sleep.map_or(MAX_SLEEP, |at| at.abs_diff(now.min(at))).min(MAX_SLEEP);
            tokio::select! {
                // The placements live as long as this handle.
                _ = self.changes.changed() => {}
                event = self.connection.next() => {
                    let event = event?;
                    self.take_event(&event);
                }
                done = finished(&mut self.running) => self.take_done(done),
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Takes in the states of placements and changes that are others than before.
    fn take_placements(&mut self) {
        self.changes.mark_unchanged();
        self.take_changes();
        for (placement, known) in &mut self.open {
            let state = placement.state();
            if known.as_ref() != Some(&state) {
                let id = placement.id().as_str();
                self.events.extend(self.orders.apply_placement(id, &state));
                *known = Some(state);
            }
        }
        // Only evidence for an order changes what is over, and that comes by the streams, too.
        self.open.retain(|(_, known)| {
            !matches!(
                known,
                Some(
                    PlacementState::Accepted { .. }
                        | PlacementState::Refused(_)
                        | PlacementState::Withdrawn(_)
                        | PlacementState::GivenUp
                )
            )
        });
    }

    fn take_changes(&mut self) {
        let now = self.clock.now();
        for (key, change, known) in &mut self.changing {
            let state = change.state();
            if known.as_ref() == Some(&state) {
                continue;
            }
            // A cancel may have taken its place.
            let is_wanted =
                self.orders.get(*key).is_some_and(|order| is_intent_of(order.intent(), change));
            match state {
                _ if !is_wanted => {}
                ChangeState::Reached | ChangeState::Over => {
                    self.orders.answer_intent(*key, now);
                    self.reads.insert(*key, (Read::Order, now));
                }
                ChangeState::Refused(_) | ChangeState::NotReached | ChangeState::Withdrawn(_) => {
                    self.events.extend(self.orders.refuse_intent(*key));
                    self.reads.insert(*key, (Read::Order, now));
                }
                ChangeState::Settling | ChangeState::Undecided(_)
                    if change.intent().change == OrderChange::Cancel =>
                {
                    self.orders.answer_intent(*key, now.saturating_add(self.window));
                }
                _ => {}
            }
            *known = Some(state);
        }
        self.changing.retain(|(_, _, known)| !known.as_ref().is_some_and(ChangeState::is_final));
    }

    fn take_event(&mut self, event: &Event) {
        self.placements.observe(event);
        self.events.extend(self.orders.apply(event));
        if self.portfolio.apply(event) == PortfolioChange::Stale {
            self.reconcile_at = self.clock.now();
        }
        if matches!(event, Event::Subscribed { .. }) && self.portfolio.is_subscribed() {
            self.reconcile_at = self.clock.now();
        }
    }

    /// Remembers what the events ask to be read.
    fn plan_reads(&mut self, events: &[OrderEvent]) {
        let now = self.clock.now();
        for event in events {
            // The stream usually brings it.
            let at = now.saturating_add(RETRY_AFTER);
            match event {
                OrderEvent::NeedsOrder { order } => self.reads.insert(*order, (Read::Order, at)),
                OrderEvent::NeedsFills { order, .. } => {
                    self.reads.insert(*order, (Read::Fills, at))
                }
                _ => None,
            };
        }
    }

    /// Returns the time at which something is to be read next.
    fn next_at(&self) -> Option<UnixMillis> {
        let reads_at = self.reads.values().map(|(_, at)| *at).min();
        let reconcile_at = self.portfolio.is_subscribed().then_some(self.reconcile_at);
        reads_at.into_iter().chain(reconcile_at).min()
    }

    /// Begins the request that is due, if one is: cancels on the way out, then what is known to be
    /// missing, then the account.
    fn begin(&mut self, now: UnixMillis) -> Option<Running> {
        if self.is_exiting {
            self.begin_cancels(now);
        }
        while let Some((key, read)) = self.due_read(now) {
            // First, so that one that fails does not try again at once.
            self.reads.insert(key, (read, now.saturating_add(RETRY_AFTER)));
            match self.needed(key, read) {
                Some(order_id) => return Some(begin_read(self.client.clone(), read, order_id)),
                None => self.reads.remove(&key),
            };
        }
        if !self.portfolio.is_subscribed() || self.reconcile_at > now {
            return None;
        }
        self.reconcile_at = now.saturating_add(RETRY_AFTER);
        let begun = self.portfolio.begin();
        let (client, since) = (self.client.clone(), begun.fills_since());
        Some(Box::pin(async move { Done::Account(begun, client.fetch_account(since).await) }))
    }

    fn due_read(&self, now: UnixMillis) -> Option<(OrderKey, Read)> {
        let due = self.reads.iter().find(|(_, (_, at))| *at <= now);
        due.map(|(key, (read, _))| (*key, *read))
    }

    /// Returns the id of an order that still has to be read.
    fn needed(&self, key: OrderKey, read: Read) -> Option<String> {
        let order = self.orders.get(key)?;
        let is_pending = order.intent() != OrderIntent::None;
        let is_needed = match read {
            Read::Order => order.needs_order() || is_pending,
            Read::Fills => order.needs_fills(),
        };
        order.order_id().filter(|_| is_needed).map(str::to_owned)
    }

    /// Takes in what a request came to.
    fn take_done(&mut self, done: Done) {
        let failed = match done {
            Done::Order(Ok(record)) => {
                self.events.extend(self.orders.apply_order(record));
                None
            }
            Done::Fills(Ok(fills)) => {
                for fill in &fills {
                    self.events.extend(self.orders.apply_fill(fill));
                }
                None
            }
            Done::Account(begun, Ok(snapshot)) => {
                self.take_account(begun, snapshot);
                None
            }
            Done::Order(Err(error)) | Done::Fills(Err(error)) => Some(("read an order", error)),
            Done::Account(_, Err(error)) => Some(("read the account", error)),
        };
        if let Some((what, error)) = failed {
            tracing::warn!(%error, "could not {what}; repeating");
        }
    }

    fn take_account(&mut self, begun: Reconciliation, snapshot: AccountSnapshot) {
        let as_of = snapshot.as_of;
        let found = self.portfolio.finish(begun, snapshot);
        let now = self.clock.now();
        if found.is_current() {
            let resting = self.portfolio.orders();
            self.events.extend(self.orders.reconcile(&found, resting, as_of));
            self.reconcile_at = now.saturating_add(RECONCILE_EVERY);
            return;
        }
        for fill in &found.missed {
            self.events.extend(self.orders.apply_fill(fill));
        }
        if let Some(wait) = found.retry_after() {
            self.reconcile_at = now.saturating_add(wait.max(MAX_SLEEP));
        }
    }
}

/// Reports whether an intent is what a change is sent for.
fn is_intent_of(intent: OrderIntent, change: &Change) -> bool {
    match (&change.intent().change, intent) {
        (OrderChange::Cancel, OrderIntent::Cancel) => true,
        (
            OrderChange::Amend { yes_price, total, .. },
            OrderIntent::Amend { yes_price: price, total: count },
        ) => *yes_price == price && *total == count,
        (OrderChange::Decrease { remaining }, OrderIntent::Decrease { remaining: left }) => {
            *remaining == left
        }
        _ => false,
    }
}

/// Returns what the request on its way comes to, once; never if there is none.
async fn finished(running: &mut Option<Running>) -> Done {
    let Some(request) = running else { return std::future::pending().await };
    let done = request.await;
    *running = None;
    done
}

fn begin_read(client: Client, read: Read, order_id: String) -> Running {
    match read {
        Read::Order => Box::pin(async move {
            let answer = client.get_order().order_id(order_id).send().await;
            Done::Order(answer.map(|answer| OrderRecord::from(&answer.order)))
        }),
        Read::Fills => Box::pin(async move {
            let fills = client.get_fills().order_id(order_id).limit(LIMIT).all().await;
            Done::Fills(fills.map(|fills| fills.iter().map(FillRecord::from).collect()))
        }),
    }
}

impl fmt::Debug for Trading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trading")
            .field("placements", &self.placements)
            .field("is_current", &self.is_current())
            .field("orders", &self.orders.iter().len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TradingBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TradingBuilder")
            .field("placements", &self.placements)
            .finish_non_exhaustive()
    }
}
