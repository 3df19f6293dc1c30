//! The task around each machine: journal, requests, clock.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kalshi_sdk::{
    Client,
    auth::{Clock, SystemClock},
    types::CreateOrderV2Request,
};
use kalshi_types::UnixMillis;
use kalshi_ws::Event;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

use super::{
    ChangeTimes, Input, PlacementConfig, PlacementMachine, PlacementState, Ruling, Sighting,
    batch::{self, Limited, Seat},
    changes::OpenChanges,
    hold::{self, Hold},
    link::{Link, TaskEnd},
    read,
    reads::Reads,
    task::{Request, Task, send_all},
};
use crate::{
    budget::{Class, RequestOptions},
    journal::{
        ClientOrderId, ClientOrderIds, Intent, Journal, JournalError, JournalErrorKind, OwnIds,
        Product, Record,
    },
    pause::Paused,
    risk::RiskError,
    shard::ShardMap,
};

/// The time within which an order is sent, unless the caller says otherwise: a late order is a
/// wrong order.
pub(super) const SEND_WITHIN: Duration = Duration::from_secs(1);

/// The room for the body of an order: most have less.
const BODY_ROOM: usize = 384;

/// Places orders, and finds out what became of them. Clones share everything.
///
/// Each order has a task of its own, which goes on whatever becomes of the caller, also when a layer
/// of the client, the clock or the journal panics: what was being done counts as unknown then. On start
/// the intents that the journal left open are settled; until then no order is taken.
///
/// Once the last clone is dropped, what is known to be over or [undecided](PlacementState::Undecided)
/// is not followed any more, so that the journal can be opened again. What was sent and has no outcome
/// yet goes on, and keeps the journal until then.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let exchange = kalshi_sim::Exchange::start().await?;
/// # let client = exchange.client(kalshi_sim::Role::Trader)?;
/// # let now = kalshi_types::UnixMillis::EPOCH;
/// use kalshi_sdk::types::{
///     BookSide, CreateOrderV2Request, GetMarketsStatus, SelfTradePreventionType, TimeInForce,
/// };
/// use kalshi_trade::{journal::MemoryJournal, placement::{Placements, PlacementState}};
///
/// let markets = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await?;
/// let ticker = markets.markets[0].ticker.clone();
/// let placements = Placements::builder(client, MemoryJournal::new(7, now)).start()?;
/// placements.ready().await;
/// let order = CreateOrderV2Request::builder()
///     .ticker(ticker)
///     .side(BookSide::Bid)
///     .count("1.00")
///     .price("0.0100")
///     .time_in_force(TimeInForce::GoodTillCanceled)
///     .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
///     .try_into()?;
/// let placement = placements.place(order)?;
/// assert!(matches!(placement.outcome().await, PlacementState::Accepted { .. }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Placements(
    pub(super) Arc<Shared>,
    #[expect(dead_code, reason = "it is counted")] Arc<()>,
);

pub(super) struct Shared {
    pub(super) client: Client,
    /// The same client, for reads that settle an outcome: they go before others.
    pub(super) settling: Client,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: PlacementConfig,
    pub(super) runtime: Handle,
    pub(super) reads: Reads,
    pub(super) changes_of_orders: OpenChanges,
    /// The shards of the markets that orders of this session named theirs of.
    pub(super) shards: Mutex<ShardMap>,
    is_rewriting: AtomicBool,
    ids: Mutex<ClientOrderIds>,
    /// Those whose task goes on.
    open: Mutex<HashMap<ClientOrderId, Placement>>,
    /// What the last session left open.
    restored: Vec<Placement>,
    /// Counts the changes of state.
    pub(super) changes: watch::Sender<u64>,
    /// The clones of [`Placements`].
    handles: Weak<()>,
}

/// Builds [`Placements`].
#[must_use = "call `start`"]
pub struct PlacementsBuilder {
    client: Client,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    config: PlacementConfig,
    name: String,
}

/// The reason for which an order was not taken. Nothing was written or sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// Orders of an earlier session are not settled yet. Wait for [`Placements::ready`].
    #[error("{0} orders of an earlier session are not settled yet")]
    Restoring(usize),
    /// The order has a `client_order_id`. Leave it out: each order is given one of its own.
    #[error("the order has a client_order_id, which is given to it here")]
    HasClientOrderId,
    /// The order cannot be written to a journal.
    #[error("the order cannot be written to the journal")]
    Invalid(#[source] JournalError),
    /// [`PlacementsBuilder::start`] was called outside of a tokio runtime.
    #[error("there is no tokio runtime")]
    NoRuntime,
    /// [`Trading::exit`](crate::trading::Trading::exit) was called. Build another handle to place
    /// orders again.
    #[error("the orders are being ended: none is placed any more")]
    Exiting,
    /// A ceiling of [`Trading`](crate::trading::Trading) holds the order back. Make it smaller, or
    /// wait; see [`risk`](crate::risk).
    #[error(transparent)]
    Risk(RiskError),
    /// The exchange takes no orders now. Cancels are sent as before.
    #[error("{pause}{}", opening(*opens))]
    Paused {
        /// The pause.
        pause: Paused,
        /// The time of the next opening, if it is known.
        opens: Option<UnixMillis>,
    },
    /// An order of the same market and side, with this client order id, may exist or not, and is to be
    /// [waited for](crate::trading::UnsettledPolicy::Hold).
    #[error("the outcome of the order {0:?} of the same market and side is unknown: wait for it")]
    Unsettled(String),
    /// The order does not fit the market of perpetual futures that it is for.
    #[cfg(feature = "perps")]
    #[error(transparent)]
    Market(#[from] super::perps::MarketError),
    /// The order group was triggered: the exchange would refuse the order. See
    /// [`group`](crate::group).
    #[error("the order group {0:?} was triggered: reset it before placing in it")]
    GroupTriggered(String),
}

fn opening(opens: Option<UnixMillis>) -> String {
    opens.map_or_else(String::new, |opens| format!("; the next opening is at {opens} (Unix ms)"))
}

impl PlacementsBuilder {
    /// Sets the times and numbers of placing.
    pub fn with_config(mut self, config: PlacementConfig) -> Self {
        self.config = config;
        self
    }

    /// Takes the time from this clock; by default from the machine's. It must be the clock that the
    /// client signs with.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the name that client order ids begin with, up to 12 ASCII letters and digits; `kt` by
    /// default.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Begins to settle what the journal has open.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Invalid`] for a name that is none, [`PlaceError::NoRuntime`] outside of a tokio
    /// runtime.
    pub fn start(self) -> Result<Placements, PlaceError> {
        let Self { client, journal, clock, config, name } = self;
        let runtime = Handle::try_current().map_err(|_| PlaceError::NoRuntime)?;
        let session = journal.session();
        let ids = ClientOrderIds::new(&name, session).map_err(PlaceError::Invalid)?;
        let now = clock.now();
        let history = journal.history();
        let (mut restored, mut tasks) = (Vec::new(), Vec::new());
        for unsettled in history.unsettled() {
            let machine = PlacementMachine::restore(unsettled, session, config, now);
            let (placement, end) = Placement::new(&machine);
            restored.push(placement.clone());
            tasks.push((Task::restored(machine, end, unsettled.first_sent, now), placement));
        }
        // What an earlier session has changed last, this one does not know.
        let times = ChangeTimes::new(if session.number > 1 {
            session.opened.saturating_add(config.window())
        } else {
            UnixMillis::EPOCH
        });
        let handle = Arc::new(());
        let shared = Shared {
            settling: settling(&client),
            client,
            journal,
            clock,
            config,
            runtime,
            reads: Reads::default(),
            changes_of_orders: OpenChanges::new(history.next_change(), times),
            shards: Mutex::default(),
            is_rewriting: AtomicBool::new(false),
            ids: Mutex::new(ids),
            open: Mutex::new(HashMap::new()),
            restored,
            changes: watch::channel(0).0,
            handles: Arc::downgrade(&handle),
        };
        let placements = Placements(Arc::new(shared), handle);
        for (task, placement) in tasks {
            placements.spawn(task, placement);
        }
        placements.restore_changes(&history, now);
        Ok(placements)
    }
}

impl Placements {
    /// Returns a builder of what places orders by a client, under a journal.
    pub fn builder(client: Client, journal: impl Journal + 'static) -> PlacementsBuilder {
        PlacementsBuilder {
            client,
            journal: Arc::new(journal),
            clock: Arc::new(SystemClock),
            config: PlacementConfig::default(),
            name: "kt".to_owned(),
        }
    }

    /// Returns the orders that an earlier session left open, settled meanwhile or not.
    pub fn restored(&self) -> &[Placement] {
        &self.0.restored
    }

    /// Waits until each order of an earlier session is settled or undecided: from then on orders
    /// are taken. Where one is undecided, see [`restored`](Self::restored): it may exist.
    ///
    /// Changes of orders are not waited for: cancels of an earlier session are sent again from the
    /// start, and an amend that is not settled holds back the changes of its order alone. See
    /// [`restored_changes`](Self::restored_changes).
    ///
    /// An order that does not exist takes a minute to prove.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub async fn ready(&self) {
        for placement in self.restored() {
            placement.outcome().await;
        }
    }

    /// Places an order within a second, or not at all. See [`place_within`](Self::place_within).
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing was written or sent.
    ///
    /// # Cancellation
    ///
    /// The order goes on when the [`Placement`] is dropped; [`Placement::withdraw`] ends it as long
    /// as it was not sent. An unknown outcome is settled, and never placed anew.
    pub fn place(&self, order: CreateOrderV2Request) -> Result<Placement, PlaceError> {
        self.place_within(order, SEND_WITHIN)
    }

    /// Places an order: it is sent within that time, or not at all.
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing was written or sent.
    ///
    /// # Cancellation
    ///
    /// As with [`place`](Self::place).
    pub fn place_within(
        &self,
        order: CreateOrderV2Request,
        within: Duration,
    ) -> Result<Placement, PlaceError> {
        self.check_restored()?;
        let (task, placement) = self.prepare(order, within, Seat::none())?;
        self.spawn(task, placement.clone());
        Ok(placement)
    }

    /// Places several orders with one request, or with one for each
    /// [`batch_items`](PlacementConfig::with_batch_items) of them: they are sent within that time, or
    /// not at all. Returns them in the same order.
    ///
    /// All orders of a request are in the journal before it is sent, with one commit. Each is placed
    /// or not by itself: what the exchange says of one is that one's outcome. If the answer is lost,
    /// each is settled by itself, though one list of a market serves all that are looked for in it.
    /// An order whose sending is known to have had no effect is sent again by itself, until its
    /// time is over.
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing of any order was written or sent.
    ///
    /// # Cancellation
    ///
    /// As with [`place`](Self::place), for each order: one that is withdrawn before the request is
    /// sent is left out of it.
    pub fn place_all(
        &self,
        orders: impl IntoIterator<Item = CreateOrderV2Request>,
        within: Duration,
    ) -> Result<Vec<Placement>, PlaceError> {
        self.check_restored()?;
        let (mut tasks, mut places) = (Vec::new(), Vec::new());
        for order in orders {
            let (seat, place) = Seat::new();
            tasks.push(self.prepare(order, within, seat)?);
            places.push(place);
        }
        let placements = tasks.iter().map(|(_, placement)| placement.clone()).collect();
        for (task, placement) in tasks {
            self.spawn(task, placement);
        }
        batch::spawn(&self.0, places, None, send_all);
        Ok(placements)
    }

    /// Checks that every order of an earlier session is settled or undecided.
    fn check_restored(&self) -> Result<(), PlaceError> {
        let restoring = self.restored().iter().filter(|one| !one.link.is(is_outcome)).count();
        if restoring > 0 { Err(PlaceError::Restoring(restoring)) } else { Ok(()) }
    }

    fn prepare(
        &self,
        mut order: CreateOrderV2Request,
        within: Duration,
        seat: Seat<Limited<CreateOrderV2Request>, Input>,
    ) -> Result<(Task, Placement), PlaceError> {
        if order.client_order_id.is_some() {
            return Err(PlaceError::HasClientOrderId);
        }
        let id = self.next_id();
        order.client_order_id = Some(id.as_str().to_owned());
        self.prepare_as(id, order, within, seat)
    }

    /// Places an order under the `client_order_id` that it has: it is sent within that time, or not
    /// at all. For orders whose id a person has seen or chosen before they are sent.
    ///
    /// The id must be one that no other order of the account has. If an order of the same market and
    /// side has it already, nothing is placed, and that order counts as this one: compare what it
    /// says with what was asked for.
    ///
    /// # Errors
    ///
    /// A [`PlaceError`]: nothing was written or sent. [`PlaceError::Invalid`] without a
    /// `client_order_id`, with an invalid one, and with one that is open here.
    ///
    /// # Cancellation
    ///
    /// As with [`place`](Self::place).
    pub fn place_identified(
        &self,
        order: CreateOrderV2Request,
        within: Duration,
    ) -> Result<Placement, PlaceError> {
        let id = order.client_order_id.clone().unwrap_or_default();
        self.place_under(&id, |id| self.prepare_as(id, order, within, Seat::none()))
    }

    /// Places an order of any product under an id that is open for none.
    pub(super) fn place_under(
        &self,
        id: &str,
        prepare: impl FnOnce(ClientOrderId) -> Result<(Task, Placement), PlaceError>,
    ) -> Result<Placement, PlaceError> {
        self.check_restored()?;
        let id: ClientOrderId = id.parse().map_err(PlaceError::Invalid)?;
        // Held until the order is among them, so that one of two with the same id is refused.
        let mut open = lock(&self.0.open);
        if open.contains_key(&id) {
            let text = "an order with this client order id is open";
            return Err(PlaceError::Invalid(JournalError::new(JournalErrorKind::Invalid, text)));
        }
        let (task, placement) = prepare(id)?;
        self.spawn_in(&mut open, task, placement.clone());
        Ok(placement)
    }

    /// Prepares an order that has this id.
    fn prepare_as(
        &self,
        id: ClientOrderId,
        order: CreateOrderV2Request,
        within: Duration,
        seat: Seat<Limited<CreateOrderV2Request>, Input>,
    ) -> Result<(Task, Placement), PlaceError> {
        let intent = intent_of(id, &order).map_err(PlaceError::Invalid)?;
        if let Some(shard) = order.exchange_index.as_deref() {
            let mut shards = lock(&self.0.shards);
            if shards.shard_of(&order.ticker) != Some(*shard) {
                shards.learn(&order.ticker, *shard);
            }
        }
        Ok(self.task(intent, Request::EventContracts(order), within, seat))
    }

    /// Returns the task of an order that is sent within that time.
    pub(super) fn task(
        &self,
        intent: Intent,
        request: Request,
        within: Duration,
        seat: Seat<Limited<CreateOrderV2Request>, Input>,
    ) -> (Task, Placement) {
        let now = self.0.clock.now();
        let send_by = now.saturating_add(within);
        let machine = PlacementMachine::new(intent, self.0.config, send_by);
        let (placement, end) = Placement::new(&machine);
        (Task::new(machine, end, request, (now, within), seat), placement)
    }

    /// Returns a client order id that no other order has.
    pub(super) fn next_id(&self) -> ClientOrderId {
        lock(&self.0.ids).next_id()
    }

    /// Takes in an event of a connection: a message about an order or a fill may be the evidence
    /// that an order or a change is waiting for. Give it every event of the channels `user_orders` and
    /// `fill`.
    pub fn observe(&self, event: &Event) {
        if let Some(order) = read::view(event) {
            self.observe_change(Product::EventContracts, &order);
        }
        if let Some(sighting) = read::sighting(event) {
            self.observe_order(Product::EventContracts, sighting);
        }
    }

    /// Takes in that an order of a product exists. Each product has client order ids of its own.
    pub(super) fn observe_order(&self, product: Product, sighting: Sighting) {
        let open = lock(&self.0.open);
        let placement = open.get(sighting.client_order_id.as_str());
        if let Some(placement) = placement.filter(|one| one.intent.product() == product) {
            placement.tell(Input::Seen(sighting));
        }
    }

    /// Returns the orders whose outcome is not known yet, and those that came to nothing in the
    /// last five minutes.
    pub fn open(&self) -> Vec<Placement> {
        lock(&self.0.open).values().cloned().collect()
    }

    /// Returns the client order ids of the orders that were placed under the journal, by this session
    /// and earlier ones.
    pub fn own_ids(&self) -> OwnIds {
        self.0.journal.own_ids()
    }

    /// Returns a receiver that changes with the state of any order.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn spawn(&self, task: Task, placement: Placement) {
        self.spawn_in(&mut lock(&self.0.open), task, placement);
    }

    fn spawn_in(
        &self,
        open: &mut HashMap<ClientOrderId, Placement>,
        task: Task,
        placement: Placement,
    ) {
        open.insert(placement.intent.id().clone(), placement);
        let mut hold = Hold::new(&self.0);
        // In a box: the runtime moves a task three times, and this one has six kilobytes.
        self.0.runtime.spawn(Box::pin(async move {
            let id = task.id();
            hold::drive(task, &mut hold).await;
            if let Some(shared) = hold.get() {
                lock(&shared.open).remove(&id);
                shared.rewrite_if_due();
            }
        }));
    }
}

/// An order that was given to [`Placements`]. Clones speak of the same.
#[derive(Clone, Debug)]
pub struct Placement {
    intent: Intent,
    link: Arc<Link<PlacementState, Input>>,
}

impl Placement {
    /// Returns the handle of a machine, and the task's end of it.
    fn new(machine: &PlacementMachine) -> (Self, TaskEnd<PlacementState, Input>) {
        let link = Link::new(machine.state().clone(), is_outcome);
        let end = TaskEnd(Arc::clone(&link));
        (Self { intent: machine.intent().clone(), link }, end)
    }

    /// Returns the client order id.
    pub fn id(&self) -> &ClientOrderId {
        self.intent.id()
    }

    /// Returns the order as it is in the journal.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// Returns the present state.
    pub fn state(&self) -> PlacementState {
        self.link.state()
    }

    /// Waits for the outcome: a state that is final, or [`PlacementState::Undecided`]. If the
    /// runtime ends before, it is the last state that was known.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing: the order goes on.
    pub async fn outcome(&self) -> PlacementState {
        self.link.outcome().await
    }

    /// Withdraws the order: it is not sent, or not again. It leaves the queue for its tokens, too; one
    /// that is in a batch when all of that batch are withdrawn. Whatever was sent is settled; an
    /// order that exists is not canceled by that.
    pub fn withdraw(&self) {
        self.tell(Input::Withdraw);
    }

    /// Decides about an order whose outcome is unknown. Look at the account first.
    pub fn rule(&self, ruling: Ruling) {
        self.tell(Input::Ruled(ruling));
    }

    fn tell(&self, input: Input) {
        // The task of an order that exists has ended: there is nothing left to take in.
        self.link.tell(input);
    }
}

/// Reports whether nothing better is to be waited for.
fn is_outcome(state: &PlacementState) -> bool {
    matches!(
        state,
        PlacementState::Accepted { .. }
            | PlacementState::Refused(_)
            | PlacementState::Undecided(_)
            | PlacementState::GivenUp
            | PlacementState::Withdrawn(_)
    )
}

impl Shared {
    /// Reports whether a clone of [`Placements`] is left.
    pub(super) fn has_handle(&self) -> bool {
        self.handles.strong_count() > 0
    }

    /// Counts a change of state, for those who follow all of them.
    pub(super) fn note_change(&self) {
        if self.changes.receiver_count() > 0 {
            self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
    }

    /// Lets the journal free the room of what is settled, when that is due.
    pub(super) fn rewrite_if_due(self: &Arc<Self>) {
        if !self.journal.is_rewrite_due() || self.is_rewriting.swap(true, Ordering::AcqRel) {
            return;
        }
        // Dropped also by a panic, and by a runtime that ends.
        let rewriting = Rewriting(Arc::clone(self));
        self.runtime.spawn_blocking(move || {
            if let Err(error) = rewriting.0.journal.rewrite() {
                tracing::error!(%error, "could not compact the journal of orders");
            }
        });
    }
}

/// A rewrite of the journal that is under way.
struct Rewriting(Arc<Shared>);

impl Drop for Rewriting {
    fn drop(&mut self) {
        self.0.is_rewriting.store(false, Ordering::Release);
    }
}

/// Returns a client whose requests go before others of the account's rate limits: for reads that
/// settle an outcome.
pub(crate) fn settling(client: &Client) -> Client {
    client.with_extension(RequestOptions::new().with_class(Class::Urgent))
}

/// Returns the intent of an order that has this id.
fn intent_of(id: ClientOrderId, order: &CreateOrderV2Request) -> Result<Intent, JournalError> {
    let (ticker, side) = (order.ticker.clone(), order.side.as_str());
    intent_from(Product::EventContracts, id, ticker, side, order)
}

/// Returns the intent of an order of a product, in that market and on that side.
pub(super) fn intent_from(
    product: Product,
    id: ClientOrderId,
    ticker: String,
    side: &str,
    order: &impl serde::Serialize,
) -> Result<Intent, JournalError> {
    let mut body = Vec::with_capacity(BODY_ROOM);
    let body = serde_json::to_writer(&mut body, order).ok().and_then(|()| {
        // What serde writes is text.
        String::from_utf8(body).ok()
    });
    let body = body.ok_or_else(|| {
        let text = "the order cannot be written as JSON";
        JournalError::new(JournalErrorKind::Invalid, text)
    })?;
    Intent::from_parts(product, id, ticker, side.to_owned(), body)
}

/// Writes a record and commits it, where that does not block. Returns whether it is committed.
pub(super) fn write_now(shared: &Shared, record: &Record) -> bool {
    let journal = &*shared.journal;
    is_committed(&journal.append(record).and_then(|appended| journal.commit(appended)))
}

/// Writes a record and commits it. Returns whether it is committed.
pub(super) async fn write(shared: &Shared, record: Record) -> bool {
    write_all(shared, vec![record]).await == [true]
}

/// Writes records and commits them together, where that may block on a thread of its own. Returns
/// for each whether it is committed.
pub(super) async fn write_all(shared: &Shared, records: Vec<Record>) -> Vec<bool> {
    let count = records.len();
    let journal = Arc::clone(&shared.journal);
    let write = move || {
        let appended: Vec<_> = records.iter().map(|record| journal.append(record)).collect();
        let committed = appended.into_iter().map(|one| one.and_then(|one| journal.commit(one)));
        committed.collect::<Vec<Result<(), JournalError>>>()
    };
    let results = if shared.journal.commit_blocks() {
        // No answer: the runtime ends.
        shared.runtime.spawn_blocking(write).await.ok()
    } else {
        Some(write())
    };
    let Some(results) = results else { return vec![false; count] };
    results.iter().map(is_committed).collect()
}

/// Writes a record on a thread of its own. The receiver says whether it is committed, and is closed if
/// the journal panics.
pub(super) fn write_later(shared: &Shared, record: Record) -> oneshot::Receiver<bool> {
    let (reply, committed) = oneshot::channel();
    let journal = Arc::clone(&shared.journal);
    shared.runtime.spawn_blocking(move || {
        let result = journal.append(&record).and_then(|appended| journal.commit(appended));
        // It is not waited for any more: the runtime ends.
        let _ = reply.send(is_committed(&result));
    });
    committed
}

fn is_committed(result: &Result<(), JournalError>) -> bool {
    if let Err(error) = result {
        tracing::error!(%error, "could not write to the journal of orders");
    }
    result.is_ok()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Placements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placements")
            .field("journal", &self.0.journal)
            .field("config", &self.0.config)
            .field("open", &lock(&self.0.open).len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PlacementsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacementsBuilder")
            .field("journal", &self.journal)
            .field("config", &self.config)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::types::{BookSide, SelfTradePreventionType, TimeInForce};

    use super::*;

    #[test]
    fn an_intent_is_that_of_the_body_that_is_sent_and_the_body_is_the_order() {
        let order = CreateOrderV2Request::builder()
            .ticker("K\u{e9}\\\"X")
            .side(BookSide::Ask)
            .count("1.50")
            .price("0.5625")
            .client_order_id("kt-1")
            .expiration_time(kalshi_types::UnixSeconds::from_seconds(7))
            .order_group_id("g-1")
            .post_only(true)
            .exchange_index(3)
            .subaccount(4)
            .time_in_force(TimeInForce::GoodTillCanceled)
            .self_trade_prevention_type(SelfTradePreventionType::Maker);
        let order: CreateOrderV2Request = order.try_into().unwrap();
        let intent = intent_of("kt-1".parse().unwrap(), &order).unwrap();
        assert_eq!(intent, Intent::new(intent.body()).unwrap());
        assert_eq!(intent.body(), serde_json::to_string(&order).unwrap());
        // What is sent again is read from it.
        assert_eq!(serde_json::from_str::<CreateOrderV2Request>(intent.body()).unwrap(), order);
        let mut long = order;
        long.ticker = "T".repeat(9_000);
        let error = intent_of("kt-1".parse().unwrap(), &long).unwrap_err();
        assert_eq!(error.kind(), JournalErrorKind::Invalid);
    }
}
