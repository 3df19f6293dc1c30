//! The task around each machine: journal, requests, clock.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kalshi_sdk::{
    Client, ResponseValue,
    auth::{Clock, SystemClock},
    types::{BatchCreateOrdersV2Request, CreateOrderV2Request},
};
use kalshi_types::UnixMillis;
use kalshi_ws::Event;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{
    Answer, ChangeTimes, Input, PlacementConfig, PlacementMachine, PlacementState, Ruling, Step,
    batch::{self, Seat},
    changes::OpenChanges,
    read::{self, Question},
    reads::{self, Reads},
};
use crate::{
    journal::{
        ClientOrderId, ClientOrderIds, Intent, Journal, JournalError, JournalErrorKind, OwnIds,
        Record,
    },
    pause::Paused,
    risk::RiskError,
};

/// The time within which an order is sent, unless the caller says otherwise: a late order is a
/// wrong order.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// The longest sleep. A clock may step, and the machine may be suspended.
const MAX_SLEEP: Duration = Duration::from_millis(250);

/// How long evidence is still taken in for an order that came to nothing.
const LINGER: Duration = Duration::from_secs(300);

/// Places orders, and finds out what became of them. Clones share everything.
///
/// Each order has a task of its own, which goes on whatever becomes of the caller. On start the
/// intents that the journal left open are settled; until then no order is taken.
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
pub struct Placements(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: PlacementConfig,
    pub(super) runtime: Handle,
    pub(super) reads: Reads,
    pub(super) changes_of_orders: OpenChanges,
    ids: Mutex<ClientOrderIds>,
    /// Those whose task goes on.
    open: Mutex<HashMap<ClientOrderId, Placement>>,
    /// What the last session left open.
    restored: Vec<Placement>,
    /// Counts the changes of state.
    pub(super) changes: watch::Sender<u64>,
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
            let (placement, inputs, state) = Placement::new(&machine);
            restored.push(placement.clone());
            tasks.push((machine, inputs, state, placement, unsettled.first_sent));
        }
        // What an earlier session has changed last, this one does not know.
        let times = ChangeTimes::new(if session.number > 1 {
            session.opened.saturating_add(config.window())
        } else {
            UnixMillis::EPOCH
        });
        let shared = Shared {
            client,
            journal,
            clock,
            config,
            runtime,
            reads: Reads::default(),
            changes_of_orders: OpenChanges::new(history.next_change(), times),
            ids: Mutex::new(ids),
            open: Mutex::new(HashMap::new()),
            restored,
            changes: watch::channel(0).0,
        };
        let placements = Placements(Arc::new(shared));
        for (machine, inputs, state, placement, first_sent) in tasks {
            let seat = Seat::none();
            let task = Task { machine, inputs, state, request: None, first_sent, seat };
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
        batch::spawn(&self.0, places, send_all);
        Ok(placements)
    }

    /// Checks that every order of an earlier session is settled or undecided.
    fn check_restored(&self) -> Result<(), PlaceError> {
        let restoring = self.restored().iter().filter(|one| !is_outcome(&one.state())).count();
        if restoring > 0 { Err(PlaceError::Restoring(restoring)) } else { Ok(()) }
    }

    fn prepare(
        &self,
        mut order: CreateOrderV2Request,
        within: Duration,
        seat: Seat<CreateOrderV2Request, Input>,
    ) -> Result<(Task, Placement), PlaceError> {
        if order.client_order_id.is_some() {
            return Err(PlaceError::HasClientOrderId);
        }
        order.client_order_id = Some(lock(&self.0.ids).next_id().into());
        self.prepare_identified(order, within, seat)
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
        self.check_restored()?;
        let (task, placement) = self.prepare_identified(order, within, Seat::none())?;
        self.spawn(task, placement.clone());
        Ok(placement)
    }

    fn prepare_identified(
        &self,
        order: CreateOrderV2Request,
        within: Duration,
        seat: Seat<CreateOrderV2Request, Input>,
    ) -> Result<(Task, Placement), PlaceError> {
        let body = serde_json::to_string(&order).unwrap_or_default();
        let intent = Intent::new(body).map_err(PlaceError::Invalid)?;
        if lock(&self.0.open).contains_key(intent.id()) {
            let text = "an order with this client order id is open";
            return Err(PlaceError::Invalid(JournalError::new(JournalErrorKind::Invalid, text)));
        }
        let now = self.0.clock.now();
        let send_by = now.saturating_add(within);
        let machine = PlacementMachine::new(intent, self.0.config, send_by);
        let (placement, inputs, state) = Placement::new(&machine);
        let task = Task { machine, inputs, state, request: Some(order), first_sent: now, seat };
        Ok((task, placement))
    }

    /// Takes in an event of a connection: a message about an order or a fill may be the evidence
    /// that an order or a change is waiting for. Give it every event of the channels `user_orders` and
    /// `fill`.
    pub fn observe(&self, event: &Event) {
        self.observe_changes(event);
        let Some(sighting) = read::sighting(event) else { return };
        let open = lock(&self.0.open);
        if let Some(placement) = open.get(sighting.client_order_id.as_str()) {
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
        self.0.journal.history().own_ids()
    }

    /// Returns a receiver that changes with the state of any order.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn spawn(&self, task: Task, placement: Placement) {
        lock(&self.0.open).insert(placement.intent.id().clone(), placement);
        let shared = Arc::clone(&self.0);
        self.0.runtime.spawn(async move {
            let id = task.machine.intent().id().clone();
            task.run(&shared).await;
            lock(&shared.open).remove(&id);
        });
    }
}

/// An order that was given to [`Placements`]. Clones speak of the same.
#[derive(Clone, Debug)]
pub struct Placement {
    intent: Arc<Intent>,
    inputs: mpsc::UnboundedSender<Input>,
    state: watch::Receiver<PlacementState>,
}

type Channels = (Placement, mpsc::UnboundedReceiver<Input>, watch::Sender<PlacementState>);

impl Placement {
    fn new(machine: &PlacementMachine) -> Channels {
        let (inputs, receiver) = mpsc::unbounded_channel();
        let (sender, state) = watch::channel(machine.state().clone());
        (Self { intent: Arc::new(machine.intent().clone()), inputs, state }, receiver, sender)
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
        self.state.borrow().clone()
    }

    /// Waits for the outcome: a state that is final, or [`PlacementState::Undecided`]. If the
    /// runtime ends before, it is the last state that was known.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing: the order goes on.
    pub async fn outcome(&self) -> PlacementState {
        let mut state = self.state.clone();
        let outcome = state.wait_for(is_outcome).await.map(|state| state.clone());
        outcome.unwrap_or_else(|_| self.state())
    }

    /// Withdraws the order: it is not sent, or not again. Whatever was sent is settled; an order
    /// that exists is not canceled by that.
    pub fn withdraw(&self) {
        self.tell(Input::Withdraw);
    }

    /// Decides about an order whose outcome is unknown. Look at the account first.
    pub fn rule(&self, ruling: Ruling) {
        self.tell(Input::Ruled(ruling));
    }

    fn tell(&self, input: Input) {
        // The task of an order that exists has ended: there is nothing left to take in.
        let _ = self.inputs.send(input);
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

/// One machine and what it needs.
struct Task {
    machine: PlacementMachine,
    inputs: mpsc::UnboundedReceiver<Input>,
    state: watch::Sender<PlacementState>,
    /// What is sent; none of an earlier session.
    request: Option<CreateOrderV2Request>,
    first_sent: UnixMillis,
    /// The batch that it is sent with.
    seat: Seat<CreateOrderV2Request, Input>,
}

/// A request on its way.
pub(super) type Pending<'a, I> = Pin<Box<dyn Future<Output = I> + Send + 'a>>;

impl Task {
    async fn run(mut self, shared: &Arc<Shared>) {
        let mut pending: Option<Pending<'_, Input>> = None;
        let mut ends_at: Option<UnixMillis> = None;
        loop {
            let now = shared.clock.now();
            let step = self.machine.poll(now);
            self.publish(shared);
            let mut sleep = None;
            match step {
                Step::Write(record) => {
                    pending = Some(match self.seat.write(record) {
                        Ok(answer) => {
                            Box::pin(async move { written(answer.await.unwrap_or(false)) })
                        }
                        Err(record) => {
                            Box::pin(async move { written(write(shared, *record).await) })
                        }
                    });
                }
                Step::Send { .. } => match self.request.clone() {
                    Some(request) => {
                        pending = Some(match self.seat.send(request) {
                            // The runtime ends.
                            Ok(answer) => Box::pin(async move {
                                answer.await.unwrap_or(Input::Answered(Answer::Unknown))
                            }),
                            Err(request) => Box::pin(send(shared, request)),
                        });
                    }
                    // Not reached: what is restored is never sent.
                    None => return,
                },
                Step::ReadWatermark => {
                    let read = reads::watermark(Arc::clone(shared));
                    pending = Some(Box::pin(async move {
                        read.await.map_or(Input::ReadFailed, Input::Watermark)
                    }));
                }
                Step::List { number } => {
                    let intent = self.machine.intent();
                    let question = Question {
                        id: intent.id().clone(),
                        number,
                        first_sent: self.first_sent,
                        is_decisive: self.machine.is_list_decisive(),
                    };
                    let ticker = intent.ticker().to_owned();
                    pending = Some(Box::pin(reads::list(Arc::clone(shared), ticker, question)));
                }
                Step::WaitUntil(at) => {
                    self.seat.leave();
                    sleep = Some(at);
                }
                Step::Wait => {}
                Step::Done => {
                    self.seat.leave();
                    if matches!(self.machine.state(), PlacementState::Accepted { .. }) {
                        return;
                    }
                    let end = *ends_at.get_or_insert(now.saturating_add(LINGER));
                    if now >= end {
                        return;
                    }
                    sleep = Some(end);
                }
            }
            let input = tokio::select! {
                input = next(&mut pending) => Some(input),
                // The sender is in the map of those whose task goes on.
                input = self.inputs.recv() => input,
                () = sleep_until(&*shared.clock, sleep) => None,
            };
            if let Some(input) = input {
                self.machine.apply(input, shared.clock.now());
            }
        }
    }

    fn publish(&self, shared: &Shared) {
        let is_new = self.state.send_if_modified(|state| {
            let is_new = state != self.machine.state();
            if is_new {
                tracing::debug!(id = %self.machine.intent().id(), state = ?self.machine.state());
                state.clone_from(self.machine.state());
            }
            is_new
        });
        if is_new {
            shared.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
    }
}

/// Returns what the request on its way comes to, once; never if there is none.
pub(super) async fn next<I>(pending: &mut Option<Pending<'_, I>>) -> I {
    let Some(request) = pending else { return std::future::pending().await };
    let input = request.await;
    *pending = None;
    input
}

pub(super) async fn sleep_until(clock: &dyn Clock, at: Option<UnixMillis>) {
    let Some(at) = at else { return std::future::pending().await };
    let now = clock.now();
    let left = if at > now { at.abs_diff(now) } else { Duration::ZERO };
    tokio::time::sleep(left.min(MAX_SLEEP)).await;
}

async fn send(shared: &Shared, request: CreateOrderV2Request) -> Input {
    let result = shared.client.create_order_v2().body(request).send().await;
    Input::Answered(read::answer(result.map(ResponseValue::into_inner)))
}

/// Sends orders as one batch, and returns what became of each.
async fn send_all(shared: Arc<Shared>, orders: Vec<CreateOrderV2Request>) -> Vec<Input> {
    let ids: Vec<String> =
        orders.iter().filter_map(|order| order.client_order_id.clone()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let body = BatchCreateOrdersV2Request::builder().orders(orders);
    let result = shared.client.batch_create_orders_v2().body(body).send().await;
    let answers = read::batch_answers(&ids, result.map(ResponseValue::into_inner));
    answers.into_iter().map(Input::Answered).collect()
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
    let is_written = results.iter().map(|result| {
        if let Err(error) = result {
            tracing::error!(%error, "could not write to the journal of orders");
        }
        result.is_ok()
    });
    is_written.collect()
}

fn written(is_written: bool) -> Input {
    if is_written { Input::Written } else { Input::WriteFailed }
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
