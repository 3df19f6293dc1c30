//! The task around each change of an order.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kalshi_sdk::{
    Error,
    types::{AmendOrderV2Request, DecreaseOrderV2Request},
};
use kalshi_types::UnixMillis;
use kalshi_ws::Event;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    ChangeAnswer, ChangeInput, ChangeMachine, ChangeRuling, ChangeState, ChangeStep, ChangeTimes,
    Placements,
    batch::{self, Seat},
    read, reads,
    shell::{Pending, Shared, lock, next, sleep_until, write},
};
use crate::{
    cancels::{self, Cancel},
    journal::{ChangeIntent, History, KnownOrder, OrderChange},
};

/// An order that is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeTarget {
    /// The exchange's id of the order.
    pub order_id: String,
    /// Its market.
    pub ticker: String,
    /// Its subaccount; `None` for the primary one.
    pub subaccount: Option<i64>,
    /// Its last known state. Without, a change whose answer is lost takes a minute to settle.
    pub known: Option<KnownOrder>,
}

impl ChangeTarget {
    /// Returns an order of the primary subaccount of which no state is known.
    pub fn new(order_id: impl Into<String>, ticker: impl Into<String>) -> Self {
        Self { order_id: order_id.into(), ticker: ticker.into(), subaccount: None, known: None }
    }

    /// Sets the subaccount; the primary one by default.
    pub fn with_subaccount(self, subaccount: Option<i64>) -> Self {
        Self { subaccount, ..self }
    }

    /// Sets the last known state.
    pub fn with_known(self, known: Option<KnownOrder>) -> Self {
        Self { known, ..self }
    }
}

/// The reason for which a change was not taken: nothing was written or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Another change of the order is not settled, of this session or an earlier one. Wait for its
    /// outcome; only a cancel is sent beside it.
    #[error("another change of the order is not settled")]
    Pending,
}

/// The changes whose task goes on, by the exchange's id of the order.
#[derive(Debug)]
pub(super) struct OpenChanges {
    by_order: Mutex<HashMap<String, Vec<Change>>>,
    next: AtomicU64,
    times: Mutex<ChangeTimes>,
    restored: Mutex<Vec<Change>>,
}

impl OpenChanges {
    pub(super) fn new(next: u64, times: ChangeTimes) -> Self {
        Self {
            by_order: Mutex::default(),
            next: AtomicU64::new(next),
            times: Mutex::new(times),
            restored: Mutex::default(),
        }
    }
}

/// A change that was given to [`Placements`]. Clones speak of the same.
#[derive(Clone, Debug)]
pub struct Change {
    intent: Arc<ChangeIntent>,
    inputs: mpsc::UnboundedSender<ChangeInput>,
    state: watch::Receiver<ChangeState>,
}

/// The answer to the first attempt, with the error that says more.
pub(crate) type FirstAnswer = Result<(), (ChangeAnswer, Error)>;

type Channels = (Change, mpsc::UnboundedReceiver<ChangeInput>, watch::Sender<ChangeState>);

impl Change {
    fn new(machine: &ChangeMachine) -> Channels {
        let (inputs, receiver) = mpsc::unbounded_channel();
        let (sender, state) = watch::channel(machine.state().clone());
        (Self { intent: Arc::new(machine.intent().clone()), inputs, state }, receiver, sender)
    }

    /// Returns the change as it is in the journal.
    pub fn intent(&self) -> &ChangeIntent {
        &self.intent
    }

    /// Returns the present state.
    pub fn state(&self) -> ChangeState {
        self.state.borrow().clone()
    }

    /// Waits for the outcome: a state that is final, or [`ChangeState::Undecided`]. If the runtime
    /// ends before, it is the last state that was known.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing: the change goes on.
    pub async fn outcome(&self) -> ChangeState {
        let mut state = self.state.clone();
        let outcome = state.wait_for(is_outcome).await.map(|state| state.clone());
        outcome.unwrap_or_else(|_| self.state())
    }

    /// Withdraws the change: it is not sent, or not again. Whatever was sent is settled.
    pub fn withdraw(&self) {
        self.tell(ChangeInput::Withdraw);
    }

    /// Decides about a change whose outcome is unknown. Look at the order first.
    pub fn rule(&self, ruling: ChangeRuling) {
        self.tell(ChangeInput::Ruled(ruling));
    }

    fn tell(&self, input: ChangeInput) {
        // The task of a change that is over has ended.
        let _ = self.inputs.send(input);
    }
}

/// Reports whether nothing better is to be waited for.
fn is_outcome(state: &ChangeState) -> bool {
    state.is_final() || matches!(state, ChangeState::Undecided(_))
}

impl Placements {
    /// Changes an order: it is sent within that time, or not at all. A cancel is sent whenever it can
    /// be, and again until the order is over.
    ///
    /// It is in the journal before it is sent. A cancel that cannot be written there is sent all the
    /// same: a full disk is no reason to leave an order in the book.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Pending`] for an amend or a decrease of an order of which another change is not
    /// settled: nothing was written or sent.
    ///
    /// # Cancellation
    ///
    /// The change goes on when the [`Change`] is dropped; [`Change::withdraw`] ends it as long as it
    /// was not sent. An unknown outcome is settled; an amend and a decrease are never sent again
    /// after one, as a late one would undo the next change.
    pub fn change(
        &self,
        target: ChangeTarget,
        change: OrderChange,
        within: Duration,
    ) -> Result<Change, ChangeError> {
        let mut open = lock(&self.0.changes_of_orders.by_order);
        let others = open.get(&target.order_id).into_iter().flatten();
        let is_changing = others.into_iter().any(|one| !one.state().is_final());
        if change != OrderChange::Cancel && is_changing {
            return Err(ChangeError::Pending);
        }
        Ok(self.begin(&mut open, target, change, within, Seat::none(), None))
    }

    /// Cancels an order, as [`change`](Self::change) does, and returns with it what brings the answer
    /// to the first attempt.
    pub(crate) fn cancel(&self, target: ChangeTarget) -> (Change, oneshot::Receiver<FirstAnswer>) {
        let (answer, answered) = oneshot::channel();
        let cancel = OrderChange::Cancel;
        let mut open = lock(&self.0.changes_of_orders.by_order);
        let seat = Seat::none();
        let change = self.begin(&mut open, target, cancel, Duration::ZERO, seat, Some(answer));
        (change, answered)
    }

    /// Cancels several orders with one request, or with one for each
    /// [`batch_items`](super::PlacementConfig::with_batch_items) of them. Each goes on by itself until
    /// its order is over. Those that are being canceled already are left out.
    ///
    /// All are in the journal before the request is sent, with one commit.
    ///
    /// # Cancellation
    ///
    /// As with [`change`](Self::change), for each.
    pub fn cancel_all(&self, targets: impl IntoIterator<Item = ChangeTarget>) -> Vec<Change> {
        let (mut changes, mut places) = (Vec::new(), Vec::new());
        let mut open = lock(&self.0.changes_of_orders.by_order);
        for target in targets {
            let others = open.get(&target.order_id).into_iter().flatten();
            if others.into_iter().any(|one| one.intent.change == OrderChange::Cancel) {
                continue;
            }
            let (seat, place) = Seat::new();
            let cancel = OrderChange::Cancel;
            changes.push(self.begin(&mut open, target, cancel, Duration::ZERO, seat, None));
            places.push(place);
        }
        drop(open);
        batch::spawn(&self.0, places, cancel_batch);
        changes
    }

    /// Returns the changes that an earlier session left open, settled meanwhile or not. Cancels among
    /// them are sent again as long as their order rests.
    pub fn restored_changes(&self) -> Vec<Change> {
        lock(&self.0.changes_of_orders.restored).clone()
    }

    /// Returns the changes whose outcome is not known yet.
    pub fn open_changes(&self) -> Vec<Change> {
        lock(&self.0.changes_of_orders.by_order).values().flatten().cloned().collect()
    }

    pub(super) fn observe_changes(&self, event: &Event) {
        let Some(order) = read::view(event) else { return };
        let open = lock(&self.0.changes_of_orders.by_order);
        for change in open.get(&order.order_id).into_iter().flatten() {
            change.tell(ChangeInput::Seen(order.clone()));
        }
    }

    /// Settles the changes that an earlier session left open.
    pub(super) fn restore_changes(&self, history: &History, now: UnixMillis) {
        let session = self.0.journal.session();
        for unsettled in history.unsettled_changes() {
            let machine = ChangeMachine::restore(unsettled, session, self.0.config, now);
            let (change, inputs, state) = Change::new(&machine);
            lock(&self.0.changes_of_orders.restored).push(change.clone());
            let seat = Seat::none();
            let task = ChangeTask { machine, inputs, state, seat, answer: None };
            let mut open = lock(&self.0.changes_of_orders.by_order);
            open.entry(change.intent.order_id.clone()).or_default().push(change);
            self.spawn_change(task);
        }
    }

    fn begin(
        &self,
        open: &mut HashMap<String, Vec<Change>>,
        target: ChangeTarget,
        change: OrderChange,
        within: Duration,
        seat: Seat<ChangeIntent, ChangeInput>,
        answer: Option<oneshot::Sender<FirstAnswer>>,
    ) -> Change {
        let number = self.0.changes_of_orders.next.fetch_add(1, Ordering::Relaxed);
        let ChangeTarget { order_id, ticker, subaccount, known } = target;
        let known = lock(&self.0.changes_of_orders.times).known(&order_id, known);
        let intent = ChangeIntent { number, order_id, ticker, subaccount, known, change };
        let send_by = self.0.clock.now().saturating_add(within);
        let machine = ChangeMachine::new(intent, self.0.config, send_by);
        let (change, inputs, state) = Change::new(&machine);
        open.entry(change.intent.order_id.clone()).or_default().push(change.clone());
        self.spawn_change(ChangeTask { machine, inputs, state, seat, answer });
        change
    }

    fn spawn_change(&self, task: ChangeTask) {
        let shared = Arc::clone(&self.0);
        self.0.runtime.spawn(async move {
            let (order_id, number) =
                (task.machine.intent().order_id.clone(), task.machine.intent().number);
            task.run(&shared).await;
            let mut open = lock(&shared.changes_of_orders.by_order);
            if let Some(others) = open.get_mut(&order_id) {
                others.retain(|change| change.intent.number != number);
                if others.is_empty() {
                    open.remove(&order_id);
                }
            }
        });
    }
}

/// One machine and what it needs.
struct ChangeTask {
    machine: ChangeMachine,
    inputs: mpsc::UnboundedReceiver<ChangeInput>,
    state: watch::Sender<ChangeState>,
    /// The batch that it is sent with.
    seat: Seat<ChangeIntent, ChangeInput>,
    /// Where the first answer goes.
    answer: Option<oneshot::Sender<FirstAnswer>>,
}

impl ChangeTask {
    async fn run(mut self, shared: &Arc<Shared>) {
        let mut pending: Option<Pending<'_, ChangeInput>> = None;
        loop {
            let now = shared.clock.now();
            let step = self.machine.poll(now);
            self.publish(shared);
            let mut sleep = None;
            match step {
                ChangeStep::Write(record) => {
                    pending = Some(match self.seat.write(record) {
                        Ok(answer) => {
                            Box::pin(async move { written(answer.await.unwrap_or(false)) })
                        }
                        Err(record) => {
                            Box::pin(async move { written(write(shared, *record).await) })
                        }
                    });
                }
                ChangeStep::Send { .. } => {
                    pending = Some(match self.seat.send(self.machine.intent().clone()) {
                        // The runtime ends.
                        Ok(answer) => Box::pin(async move {
                            answer.await.unwrap_or(ChangeInput::Answered(ChangeAnswer::Unknown))
                        }),
                        Err(intent) => Box::pin(send(shared, intent, self.answer.take())),
                    });
                }
                ChangeStep::ReadWatermark => {
                    let read = reads::watermark(Arc::clone(shared));
                    pending = Some(Box::pin(async move {
                        read.await.map_or(ChangeInput::ReadFailed, ChangeInput::Watermark)
                    }));
                }
                ChangeStep::ReadOrder { number } => {
                    let intent = self.machine.intent().clone();
                    pending = Some(Box::pin(async move {
                        read::order(&shared.client, &intent, number).await
                    }));
                }
                ChangeStep::WaitUntil(at) => {
                    self.seat.leave();
                    sleep = Some(at);
                }
                ChangeStep::Wait => {}
                ChangeStep::Done => return,
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
        // Before anyone can send the next change.
        if let Some(at) = self.machine.done_at() {
            let order_id = &self.machine.intent().order_id;
            lock(&shared.changes_of_orders.times).record(order_id, at);
        }
        let is_new = self.state.send_if_modified(|state| {
            let is_new = state != self.machine.state();
            if is_new {
                let order_id = &self.machine.intent().order_id;
                tracing::debug!(%order_id, state = ?self.machine.state(), "change of an order");
                state.clone_from(self.machine.state());
            }
            is_new
        });
        if is_new {
            shared.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
    }
}

fn written(is_written: bool) -> ChangeInput {
    if is_written { ChangeInput::Written } else { ChangeInput::WriteFailed }
}

/// Sends one change, and passes its answer on.
async fn send(
    shared: &Shared,
    intent: ChangeIntent,
    answer: Option<oneshot::Sender<FirstAnswer>>,
) -> ChangeInput {
    let result = request(shared, &intent).await;
    let named = result.as_ref().map(|(named, at)| (named.as_str(), *at));
    let come_to = read::change_answer(&intent.order_id, named);
    if let Some(answer) = answer {
        // It is not waited for any more.
        let _ = answer.send(result.map(|_| ()).map_err(|error| (come_to.clone(), error)));
    }
    ChangeInput::Answered(come_to)
}

/// Sends one change, and returns the id of the order that the answer names, and its time.
async fn request(shared: &Shared, intent: &ChangeIntent) -> Result<(String, UnixMillis), Error> {
    let (client, order_id, ticker) = (&shared.client, &*intent.order_id, &*intent.ticker);
    match &intent.change {
        OrderChange::Cancel => {
            let request = client.cancel_order_v2().order_id(order_id).market_ticker(ticker);
            let answer = request.subaccount(intent.subaccount).send().await?.into_inner();
            Ok((answer.order_id, answer.ts_ms))
        }
        OrderChange::Amend { side, yes_price, total, expires } => {
            let body = AmendOrderV2Request::builder()
                .ticker(ticker)
                .side(side.clone())
                .price(*yes_price)
                .count(*total)
                .expiration_time(*expires);
            let request = client.amend_order_v2().order_id(order_id).body(body);
            let answer = request.subaccount(intent.subaccount).send().await?.into_inner();
            Ok((answer.order_id, answer.ts_ms))
        }
        OrderChange::Decrease { remaining } => {
            let body =
                DecreaseOrderV2Request::builder().reduce_to(*remaining).market_ticker(ticker);
            let request = client.decrease_order_v2().order_id(order_id).body(body);
            let answer = request.subaccount(intent.subaccount).send().await?.into_inner();
            Ok((answer.order_id, answer.ts_ms))
        }
    }
}

/// Sends cancels as one batch, and returns what became of each.
async fn cancel_batch(shared: Arc<Shared>, intents: Vec<ChangeIntent>) -> Vec<ChangeInput> {
    let cancels = intents.iter().map(|intent| Cancel {
        order_id: &intent.order_id,
        market_ticker: &intent.ticker,
        subaccount: intent.subaccount,
        exchange_index: None,
    });
    let result = cancels::send(&shared.client, cancels).await;
    let order_ids: Vec<&str> = intents.iter().map(|intent| &*intent.order_id).collect();
    let answers = read::batch_cancel_answers(&order_ids, result.as_ref());
    answers.into_iter().map(ChangeInput::Answered).collect()
}
