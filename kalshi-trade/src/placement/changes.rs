//! The task around each change of an order.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kalshi_sdk::{
    Client, Error,
    types::{AmendOrderV2Request, DecreaseOrderV2Request, ExchangeIndex},
};
use kalshi_types::UnixMillis;
use tokio::sync::oneshot;

use super::{
    ChangeAnswer, ChangeInput, ChangeMachine, ChangeRuling, ChangeState, ChangeStep, ChangeTimes,
    OrderView, Placements,
    batch::{self, Limited, Seat},
    link::{Link, TaskEnd},
    read, reads,
    shell::{Shared, lock, next, sleep_until, write},
};
use crate::{
    budget::withdrawal::{SendLimit, Withdrawal},
    cancels::{self, Cancel},
    journal::{ChangeIntent, History, KnownOrder, OrderChange, Product, Record},
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
    /// The shard of its market, 0 or more, which the requests name: they go there directly, and are
    /// charged to its rate limit alone. `None` leaves it to the exchange to find it, unless an order
    /// of this session in the same market named it.
    pub exchange_index: Option<i64>,
    /// Its last known state. Without, a change whose answer is lost takes a minute to settle.
    pub known: Option<KnownOrder>,
}

impl ChangeTarget {
    /// Returns an order of the primary subaccount of which no state is known.
    pub fn new(order_id: impl Into<String>, ticker: impl Into<String>) -> Self {
        let (order_id, ticker) = (order_id.into(), ticker.into());
        Self { order_id, ticker, subaccount: None, exchange_index: None, known: None }
    }

    /// Sets the subaccount; the primary one by default.
    pub fn with_subaccount(self, subaccount: Option<i64>) -> Self {
        Self { subaccount, ..self }
    }

    /// Sets the shard, as [`ShardMap::shard_of`](crate::shard::ShardMap::shard_of) knows it.
    pub fn with_exchange_index(self, exchange_index: Option<i64>) -> Self {
        Self { exchange_index, ..self }
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
    link: Arc<Link<ChangeState, ChangeInput>>,
    /// True if it leaves everything but the time of expiry as it is.
    is_renewal: bool,
}

/// The answer to the first attempt, with the error that says more.
pub(crate) type FirstAnswer = Result<(), (ChangeAnswer, Error)>;

impl Change {
    /// Returns the handle of a machine, and the task's end of it.
    fn new(machine: &ChangeMachine) -> (Self, TaskEnd<ChangeState, ChangeInput>) {
        let link = Link::new(machine.state().clone(), is_outcome);
        let end = TaskEnd(Arc::clone(&link));
        let intent = Arc::new(machine.intent().clone());
        (Self { intent, link, is_renewal: false }, end)
    }

    /// Returns the change as it is in the journal.
    pub fn intent(&self) -> &ChangeIntent {
        &self.intent
    }

    /// Returns the present state.
    pub fn state(&self) -> ChangeState {
        self.link.state()
    }

    /// Waits for the outcome: a state that is final, or [`ChangeState::Undecided`]. If the runtime
    /// ends before, it is the last state that was known.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing: the change goes on.
    pub async fn outcome(&self) -> ChangeState {
        self.link.outcome().await
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
        self.link.tell(input);
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
        self.change_of(Product::EventContracts, target, change, within)
    }

    /// Changes an order of a product.
    pub(super) fn change_of(
        &self,
        product: Product,
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
        let intent = self.intent(product, target, change);
        Ok(self.begin(&mut open, intent, within, Seat::none(), None))
    }

    /// Renews an order: an amend that sets a later time of expiry and leaves the rest as it is. It is
    /// written and settled as any other. Renewals do not wait for each other, as each undoes nothing
    /// of the others but the time; any other change of the order waits for all of them. Each must ask
    /// for another time: by it the order shows which of them were carried out.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Pending`] while another change of the order is not settled.
    pub(crate) fn renew(
        &self,
        target: ChangeTarget,
        change: OrderChange,
        within: Duration,
    ) -> Result<Change, ChangeError> {
        let mut open = lock(&self.0.changes_of_orders.by_order);
        let others = open.get(&target.order_id).into_iter().flatten();
        if others.into_iter().any(|one| !one.is_renewal && !one.state().is_final()) {
            return Err(ChangeError::Pending);
        }
        let intent = self.intent(Product::EventContracts, target, change);
        let renewal = self.begin(&mut open, intent, within, Seat::none(), None);
        // Those that are open are told apart by it.
        let all = open.get_mut(&renewal.intent.order_id).into_iter().flatten();
        for one in all.filter(|one| one.intent.number == renewal.intent.number) {
            one.is_renewal = true;
        }
        Ok(Change { is_renewal: true, ..renewal })
    }

    /// Cancels an order, as [`change`](Self::change) does, and returns with it what brings the answer
    /// to the first attempt.
    pub(crate) fn cancel(&self, target: ChangeTarget) -> (Change, oneshot::Receiver<FirstAnswer>) {
        let (answer, answered) = oneshot::channel();
        let cancel = self.intent(Product::EventContracts, target, OrderChange::Cancel);
        let mut open = lock(&self.0.changes_of_orders.by_order);
        let change = self.begin(&mut open, cancel, Duration::ZERO, Seat::none(), Some(answer));
        (change, answered)
    }

    /// Cancels an order of a product.
    #[cfg(feature = "perps")]
    pub(super) fn cancel_of(&self, product: Product, target: ChangeTarget) -> Change {
        let cancel = self.intent(product, target, OrderChange::Cancel);
        let mut open = lock(&self.0.changes_of_orders.by_order);
        self.begin(&mut open, cancel, Duration::ZERO, Seat::none(), None)
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
            let cancel = self.intent(Product::EventContracts, target, OrderChange::Cancel);
            changes.push(self.begin(&mut open, cancel, Duration::ZERO, seat, None));
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

    /// Takes in a state of an order of a product.
    pub(super) fn observe_change(&self, product: Product, order: &OrderView) {
        let open = lock(&self.0.changes_of_orders.by_order);
        let changes = open.get(&order.order_id).into_iter().flatten();
        for change in changes.filter(|change| change.intent.product == product) {
            change.tell(ChangeInput::Seen(order.clone()));
        }
    }

    /// Settles the changes that an earlier session left open.
    pub(super) fn restore_changes(&self, history: &History, now: UnixMillis) {
        let session = self.0.journal.session();
        for unsettled in history.unsettled_changes() {
            let machine = ChangeMachine::restore(unsettled, session, self.0.config, now);
            let (change, end) = Change::new(&machine);
            lock(&self.0.changes_of_orders.restored).push(change.clone());
            let task = ChangeTask::new(machine, end, Seat::none(), None);
            let mut open = lock(&self.0.changes_of_orders.by_order);
            open.entry(change.intent.order_id.clone()).or_default().push(change);
            self.spawn_change(task);
        }
    }

    /// Returns a change as it is written.
    fn intent(&self, product: Product, target: ChangeTarget, change: OrderChange) -> ChangeIntent {
        let number = self.0.changes_of_orders.next.fetch_add(1, Ordering::Relaxed);
        let ChangeTarget { order_id, ticker, subaccount, exchange_index, known } = target;
        let (exchange_index, known) = match product {
            Product::EventContracts => {
                let known = lock(&self.0.changes_of_orders.times).known(&order_id, known);
                let exchange_index = exchange_index.filter(|shard| *shard >= 0);
                (exchange_index.or_else(|| lock(&self.0.shards).shard_of(&ticker)), known)
            }
            // Its requests name no shard. Its answers have no time, so that a state of the order
            // cannot be told to be newer than the change before: that takes the proof.
            Product::Perps => (None, None),
        };
        let change = ChangeIntent::new(number, order_id, ticker, change);
        ChangeIntent { subaccount, exchange_index, known, product, ..change }
    }

    fn begin(
        &self,
        open: &mut HashMap<String, Vec<Change>>,
        intent: ChangeIntent,
        within: Duration,
        seat: Seat<Limited<ChangeIntent>, ChangeInput>,
        answer: Option<oneshot::Sender<FirstAnswer>>,
    ) -> Change {
        let send_by = self.0.clock.now().saturating_add(within);
        let machine = ChangeMachine::new(intent, self.0.config, send_by);
        let (change, end) = Change::new(&machine);
        open.entry(change.intent.order_id.clone()).or_default().push(change.clone());
        self.spawn_change(ChangeTask::new(machine, end, seat, answer));
        change
    }

    fn spawn_change(&self, task: ChangeTask) {
        let shared = Arc::clone(&self.0);
        // In a box, as the task of an order.
        self.0.runtime.spawn(Box::pin(async move {
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
            drop(open);
            shared.rewrite_if_due();
        }));
    }
}

/// One machine and what it needs.
struct ChangeTask {
    machine: ChangeMachine,
    end: TaskEnd<ChangeState, ChangeInput>,
    /// The batch that it is sent with.
    seat: Seat<Limited<ChangeIntent>, ChangeInput>,
    /// Where the first answer goes.
    answer: Option<oneshot::Sender<FirstAnswer>>,
    /// True once the exchange did not find the order on the shard that the request named: from then on
    /// it is left to the exchange to find the shard.
    is_shard_doubted: bool,
    withdrawal: Withdrawal,
}

/// An action whose end a task waits for.
enum Action {
    Write(Record),
    Written(oneshot::Receiver<bool>),
    Send(Limited<ChangeIntent>, Option<oneshot::Sender<FirstAnswer>>),
    Sent(oneshot::Receiver<ChangeInput>),
    ReadWatermark,
    ReadOrder(ChangeIntent, u32),
}

async fn perform(shared: &Arc<Shared>, action: Action) -> ChangeInput {
    match action {
        Action::Write(record) => written(write(shared, record).await),
        Action::Written(answer) => written(answer.await.unwrap_or(false)),
        Action::Send(intent, answer) => send(shared, intent, answer).await,
        // No answer: the runtime ends.
        Action::Sent(answer) => {
            answer.await.unwrap_or(ChangeInput::Answered(ChangeAnswer::Unknown))
        }
        Action::ReadWatermark => {
            let complete_until = reads::watermark(Arc::clone(shared)).await;
            complete_until.map_or(ChangeInput::ReadFailed, ChangeInput::Watermark)
        }
        Action::ReadOrder(intent, number) => match intent.product {
            Product::EventContracts => read::order(&shared.settling, &intent, number).await,
            #[cfg(feature = "perps")]
            Product::Perps => super::perps::read::order(&shared.settling, &intent, number).await,
            // A journal that has one is not opened.
            #[cfg(not(feature = "perps"))]
            Product::Perps => ChangeInput::ReadFailed,
        },
    }
}

impl ChangeTask {
    fn new(
        machine: ChangeMachine,
        end: TaskEnd<ChangeState, ChangeInput>,
        seat: Seat<Limited<ChangeIntent>, ChangeInput>,
        answer: Option<oneshot::Sender<FirstAnswer>>,
    ) -> Self {
        let withdrawal = Withdrawal::default();
        Self { machine, end, seat, answer, is_shard_doubted: false, withdrawal }
    }

    async fn run(mut self, shared: &Arc<Shared>) {
        let mut pending = pin!(None);
        let mut now = shared.clock.now();
        loop {
            // What is withdrawn before it is sent is not sent.
            while let Some(input) = self.end.0.try_recv() {
                self.take(input, now);
            }
            let step = self.machine.poll(now);
            self.publish(shared);
            let mut sleep = None;
            let action = match step {
                ChangeStep::Write(record) => Some(match self.seat.write(record) {
                    Ok(answer) => Action::Written(answer),
                    Err(record) => Action::Write(*record),
                }),
                ChangeStep::Send { .. } => Some(match self.seat.send(self.request(now)) {
                    Ok(answer) => Action::Sent(answer),
                    Err(request) => Action::Send(request, self.answer.take()),
                }),
                ChangeStep::ReadWatermark => Some(Action::ReadWatermark),
                ChangeStep::ReadOrder { number } => {
                    Some(Action::ReadOrder(self.machine.intent().clone(), number))
                }
                ChangeStep::WaitUntil(at) => {
                    self.seat.leave();
                    sleep = Some(at);
                    None
                }
                ChangeStep::Wait => None,
                ChangeStep::Done => return,
            };
            if let Some(action) = action {
                pending.set(Some(perform(shared, action)));
            }
            let input = tokio::select! {
                biased;
                input = next(pending.as_mut()) => Some(input),
                input = self.end.0.recv() => Some(input),
                () = sleep_until(&*shared.clock, sleep) => None,
            };
            now = shared.clock.now();
            if let Some(input) = input {
                self.is_shard_doubted |= input == ChangeInput::Answered(ChangeAnswer::NotFound);
                self.take(input, now);
            }
        }
    }

    fn take(&mut self, input: ChangeInput, now: UnixMillis) {
        if input == ChangeInput::Withdraw {
            // It may wait for its tokens.
            self.withdrawal.withdraw();
        }
        self.machine.apply(input, now);
    }

    /// Returns what is sent.
    fn request(&self, now: UnixMillis) -> Limited<ChangeIntent> {
        let intent = self.machine.intent().clone();
        let exchange_index = intent.exchange_index.filter(|_| !self.is_shard_doubted);
        let request = ChangeIntent { exchange_index, ..intent };
        let within = self.machine.send_by().map(|send_by| send_by.abs_diff(now));
        Limited { request, within, withdrawal: self.withdrawal.clone() }
    }

    fn publish(&self, shared: &Shared) {
        // Before anyone can send the next change.
        if let Some(at) = self.machine.done_at() {
            let order_id = &self.machine.intent().order_id;
            lock(&shared.changes_of_orders.times).record(order_id, at);
        }
        let state = self.machine.state();
        if self.end.0.publish(state) {
            let order_id = &self.machine.intent().order_id;
            tracing::debug!(%order_id, ?state, "state of a change of an order");
            shared.note_change();
        }
    }
}

fn written(is_written: bool) -> ChangeInput {
    if is_written { ChangeInput::Written } else { ChangeInput::WriteFailed }
}

/// Sends one change, and passes its answer on.
async fn send(
    shared: &Shared,
    limited: Limited<ChangeIntent>,
    answer: Option<oneshot::Sender<FirstAnswer>>,
) -> ChangeInput {
    let (intent, limit) = limited.split();
    let client = shared.client.with_extension(limit);
    let result = match intent.product {
        #[cfg(feature = "perps")]
        Product::Perps => super::perps::read::change(&client, &intent).await,
        _ => request(&client, &intent).await,
    };
    let named = result.as_ref().map(|(named, at)| (named.as_str(), *at));
    let come_to = read::change_answer(&intent.order_id, named);
    if let Some(answer) = answer {
        // It is not waited for any more.
        let _ = answer.send(result.map(|_| ()).map_err(|error| (come_to.clone(), error)));
    }
    ChangeInput::Answered(come_to)
}

/// Sends one change, and returns the id of the order that the answer names, and its time.
async fn request(
    client: &Client,
    intent: &ChangeIntent,
) -> Result<(String, Option<UnixMillis>), Error> {
    let (order_id, ticker) = (&*intent.order_id, &*intent.ticker);
    let exchange_index = intent.exchange_index;
    match &intent.change {
        OrderChange::Cancel => {
            let request = client.cancel_order_v2().order_id(order_id).market_ticker(ticker);
            let request = request.exchange_index(exchange_index).subaccount(intent.subaccount);
            let answer = request.send().await?.into_inner();
            Ok((answer.order_id, Some(answer.ts_ms)))
        }
        OrderChange::Amend { side, yes_price, total, expires } => {
            let body = AmendOrderV2Request::builder()
                .ticker(ticker)
                .side(side.clone())
                .price(*yes_price)
                .count(*total)
                .expiration_time(*expires)
                .exchange_index(exchange_index.map(ExchangeIndex::from));
            let request = client.amend_order_v2().order_id(order_id).body(body);
            let answer = request.subaccount(intent.subaccount).send().await?.into_inner();
            Ok((answer.order_id, Some(answer.ts_ms)))
        }
        OrderChange::Decrease { remaining } => {
            let body =
                DecreaseOrderV2Request::builder().reduce_to(*remaining).market_ticker(ticker);
            let body = body.exchange_index(exchange_index.map(ExchangeIndex::from));
            let request = client.decrease_order_v2().order_id(order_id).body(body);
            let answer = request.subaccount(intent.subaccount).send().await?.into_inner();
            Ok((answer.order_id, Some(answer.ts_ms)))
        }
    }
}

/// Sends cancels as one batch, and returns what became of each.
async fn cancel_batch(
    shared: Arc<Shared>,
    intents: Vec<ChangeIntent>,
    limit: SendLimit,
) -> Vec<ChangeInput> {
    let cancels = intents.iter().map(|intent| Cancel {
        order_id: &intent.order_id,
        market_ticker: &intent.ticker,
        subaccount: intent.subaccount,
        exchange_index: intent.exchange_index.map(ExchangeIndex::from),
    });
    let result = cancels::send(&shared.client.with_extension(limit), cancels).await;
    let order_ids: Vec<&str> = intents.iter().map(|intent| &*intent.order_id).collect();
    let answers = read::batch_cancel_answers(&order_ids, result.as_ref());
    answers.into_iter().map(ChangeInput::Answered).collect()
}
