//! Placing, following and canceling orders with one handle.
//!
//! [`Trading`] joins what places orders, the streams of the account, the view of the account, and
//! the manager of orders. It has no task of its own but those of the placements: it works while
//! [`Trading::next`] is awaited, so await it in a loop.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use kalshi_sdk::{
    Client, Effect, Error,
    auth::{Clock, SystemClock},
    streams::{AccountSource, ConfigBuilder, ConnectError, Connection, Subscription},
    types::{BatchCancelItem, BatchCancelOrdersV2Request, CreateOrderV2Request},
};
use kalshi_types::UnixMillis;
use kalshi_ws::{Event, FillRecord, OrderRecord, Portfolio, PortfolioChange};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    journal::Journal,
    orders::{IntentError, Life, OrderEvent, OrderIntent, OrderKey, OrderManager},
    placement::{
        PlaceError, Placement, PlacementConfig, PlacementState, Placements, PlacementsBuilder,
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

/// The cancels of one request on the way out: 40 tokens, which the bucket of every tier holds.
const CANCELS: usize = 20;

/// The time before a cancel on the way out is repeated, and the pause between two looks.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);
const EXIT_PAUSE: Duration = Duration::from_millis(100);

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
    changes: watch::Receiver<u64>,
    reconcile_at: UnixMillis,
    /// What has to be read, and when.
    reads: BTreeMap<OrderKey, (Read, UnixMillis)>,
    /// What happened outside of [`Trading::next`].
    events: Vec<OrderEvent>,
    /// What [`Trading::is_current`] was when [`Trading::next`] returned last.
    was_current: bool,
    is_exiting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Order,
    Fills,
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
    /// The exchange refused, or nothing was sent: the order is as it was. Fix the cause and cancel
    /// again.
    Refused(Error),
    /// It may be canceled or not. Wait for [`OrderEvent::IntentEnded`]; canceling again is safe
    /// after it.
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
        orders.expect_own(placements.accepted());
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
            reconcile_at: now,
            reads: BTreeMap::new(),
            events: Vec::new(),
            was_current: false,
            is_exiting: false,
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

    /// Cancels an order that was placed here and that the exchange is known to have.
    ///
    /// # Errors
    ///
    /// An [`IntentError`]: nothing was sent.
    ///
    /// # Cancellation
    ///
    /// Dropping the future does not cancel the request: the order may be canceled or not. The
    /// intent stays until the order is over or a read that is newer than the request's window shows
    /// it to rest.
    pub async fn cancel(&mut self, key: OrderKey) -> Result<Canceled, IntentError> {
        let order = self.orders.get(key).ok_or(IntentError::NoOrder)?;
        let order_id = order.order_id().map(str::to_owned).ok_or(IntentError::NoOrder)?;
        let record = order.record().ok_or(IntentError::NoOrder)?;
        let (ticker, subaccount) = (record.market_ticker.clone(), record.subaccount);
        self.orders.set_intent(key, OrderIntent::Cancel, false)?;
        // It stands if the future is dropped.
        self.orders.answer_intent(key, self.clock.now().saturating_add(self.window));
        let mut request = self.client.cancel_order_v2().order_id(order_id).market_ticker(ticker);
        if let Some(subaccount) = subaccount {
            request = request.subaccount(subaccount);
        }
        let answer = request.send().await;
        let now = self.clock.now();
        // Whatever it came to, a read shows.
        self.reads.insert(key, (Read::Order, now));
        Ok(match answer {
            Ok(_) => Canceled::Accepted,
            Err(error) if error.is_not_found() => Canceled::NotFound,
            Err(error) if error.effect() == Effect::Unknown => {
                self.orders.answer_intent(key, now.saturating_add(self.window));
                Canceled::Unknown(error)
            }
            Err(error) => {
                let events = self.orders.refuse_intent(key);
                self.events.extend(events);
                Canceled::Refused(error)
            }
        })
    }

    /// Ends the orders that were placed here: none is placed any more, what was not sent is
    /// withdrawn, what rests is canceled, again and again, and what is unknown is settled. Returns when
    /// nothing is left, or after `within`, and says what is. Foreign orders are left alone.
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
        let mut tried: BTreeMap<OrderKey, Instant> = BTreeMap::new();
        let mut exited = Exited::default();
        while self.orders.own_open().next().is_some() || !self.open.is_empty() {
            let now = Instant::now();
            let due: Vec<OrderKey> = self
                .orders
                .own_open()
                .filter(|(_, order)| order.life() == Life::Resting)
                .map(|(key, _)| key)
                .filter(|key| tried.get(key).is_none_or(|at| now >= *at + CANCEL_AGAIN))
                .collect();
            for batch in due.chunks(CANCELS) {
                tried.extend(batch.iter().map(|key| (*key, Instant::now())));
                match timeout_at(end, self.cancel_batch(batch)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "could not cancel; repeating"),
                    Err(_) => break,
                }
            }
            let look = end.min(Instant::now() + EXIT_PAUSE);
            match timeout_at(look, self.next()).await {
                Ok(Some(events)) => exited.events.extend(events),
                // The streams are closed: cancels go on, and what they come to is not known.
                Ok(None) => sleep_until(look).await,
                Err(_) => {}
            }
            if Instant::now() >= end {
                break;
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

    /// Cancels several orders with one request. What became of each, the streams and reads show: a
    /// cancel that is repeated does no harm.
    async fn cancel_batch(&mut self, keys: &[OrderKey]) -> Result<(), Error> {
        let now = self.clock.now();
        let mut items = Vec::new();
        for key in keys {
            let Some(order) = self.orders.get(*key) else { continue };
            let (Some(order_id), Some(record)) = (order.order_id(), order.record()) else {
                continue;
            };
            let mut item = BatchCancelItem::builder()
                .order_id(order_id)
                .market_ticker(record.market_ticker.clone());
            if let Some(subaccount) = record.subaccount {
                item = item.subaccount(subaccount);
            }
            items.push(item);
            // One that has it already keeps it.
            let _ = self.orders.set_intent(*key, OrderIntent::Cancel, false);
            self.orders.answer_intent(*key, now.saturating_add(self.window));
            // The stream usually brings it.
            self.reads.insert(*key, (Read::Order, now.saturating_add(RETRY_AFTER)));
        }
        if items.is_empty() {
            return Ok(());
        }
        let body = BatchCancelOrdersV2Request::builder().orders(items);
        self.client.batch_cancel_orders_v2().body(body).send().await.map(|_| ())
    }

    /// Waits for what happens next to orders, or until [`is_current`](Self::is_current) changes, for
    /// which the list may be empty; `None` when the connection is closed for good. Then
    /// build another handle: the journal knows what is open.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped: a read that was on its way is made again.
    pub async fn next(&mut self) -> Option<Vec<OrderEvent>> {
        loop {
            self.take_placements();
            let events = std::mem::take(&mut self.events);
            let is_current = self.is_current();
            if !events.is_empty() || is_current != self.was_current {
                self.was_current = is_current;
                self.plan_reads(&events);
                return Some(events);
            }
            let now = self.clock.now();
            let reads_at = self.reads.values().map(|(_, at)| *at).min();
            let reconcile_at = self.portfolio.is_subscribed().then_some(self.reconcile_at);
            let next_at = reads_at.into_iter().chain(reconcile_at).min();
            if next_at.is_some_and(|at| at <= now) {
                self.read(now).await;
                continue;
            }
            let sleep = next_at.map_or(MAX_SLEEP, |at| at.abs_diff(now)).min(MAX_SLEEP);
            tokio::select! {
                // The placements live as long as this handle.
                _ = self.changes.changed() => {}
                event = self.connection.next() => {
                    let event = event?;
                    self.take_event(&event);
                }
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Takes in the states of placements that have changed.
    fn take_placements(&mut self) {
        self.changes.mark_unchanged();
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

    /// Reads what is due: one thing, so that events are not kept waiting.
    async fn read(&mut self, now: UnixMillis) {
        let due = self.reads.iter().find(|(_, (_, at))| *at <= now);
        let Some((key, read)) = due.map(|(key, (read, _))| (*key, *read)) else {
            return self.reconcile().await;
        };
        // First, so that a future that is dropped or fails does not try again at once.
        self.reads.insert(key, (read, now.saturating_add(RETRY_AFTER)));
        let Some(order) = self.orders.get(key) else {
            self.reads.remove(&key);
            return;
        };
        let is_pending = order.intent() != OrderIntent::None;
        let is_needed = match read {
            Read::Order => order.needs_order() || is_pending,
            Read::Fills => order.needs_fills(),
        };
        let Some(order_id) = order.order_id().filter(|_| is_needed).map(str::to_owned) else {
            self.reads.remove(&key);
            return;
        };
        let result = match read {
            Read::Order => self.read_order(&order_id).await,
            Read::Fills => self.read_fills(&order_id).await,
        };
        if let Err(error) = result {
            tracing::warn!(%error, order_id, "could not read an order");
        }
    }

    async fn read_order(&mut self, order_id: &str) -> Result<(), Error> {
        let answer = self.client.get_order().order_id(order_id).send().await?;
        self.events.extend(self.orders.apply_order(OrderRecord::from(&answer.order)));
        Ok(())
    }

    async fn read_fills(&mut self, order_id: &str) -> Result<(), Error> {
        let fills = self.client.get_fills().order_id(order_id).limit(LIMIT).all().await?;
        for fill in &fills {
            self.events.extend(self.orders.apply_fill(&FillRecord::from(fill)));
        }
        Ok(())
    }

    async fn reconcile(&mut self) {
        self.reconcile_at = self.clock.now().saturating_add(RETRY_AFTER);
        let begun = self.portfolio.begin();
        let snapshot = match self.client.fetch_account(begun.fills_since()).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, "could not read the account");
                return;
            }
        };
        let as_of = snapshot.as_of;
        let found = self.portfolio.finish(begun, snapshot);
        if found.is_current() {
            let resting = self.portfolio.orders();
            self.events.extend(self.orders.reconcile(&found, resting, as_of));
            self.reconcile_at = self.clock.now().saturating_add(RECONCILE_EVERY);
            return;
        }
        for fill in &found.missed {
            self.events.extend(self.orders.apply_fill(fill));
        }
        if let Some(wait) = found.retry_after() {
            self.reconcile_at = self.clock.now().saturating_add(wait.max(MAX_SLEEP));
        }
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
