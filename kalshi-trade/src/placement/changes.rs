//! Changes of orders, and those that are on their way.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kalshi_types::UnixMillis;
use tokio::sync::oneshot;

pub(crate) use super::change_task::FirstAnswer;
use super::{
    ChangeInput, ChangeMachine, ChangeRuling, ChangeState, ChangeTimes, OrderView, Placements,
    batch::{self, CANCEL_WRITE_WAIT, Limited, Seat},
    change_task::{ChangeTask, cancel_batch},
    hold::{self, Hold},
    link::{Link, TaskEnd},
    shell::lock,
};
use crate::journal::{ChangeIntent, History, KnownOrder, OrderChange, Product};

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
    pub(super) times: Mutex<ChangeTimes>,
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
    /// It is in the journal before it is sent. A cancel that cannot be written there, or not within a
    /// quarter of a second, is sent all the same: a disk that is full or stalls is no reason to leave an
    /// order in the book.
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
    /// All are in the journal before the request is sent, with one commit, as far as the journal
    /// [does not hold them up](Self::change).
    ///
    /// # Cancellation
    ///
    /// As with [`change`](Self::change), for each.
    pub fn cancel_all(&self, targets: impl IntoIterator<Item = ChangeTarget>) -> Vec<Change> {
        let (mut changes, mut places) = (Vec::new(), Vec::new());
        let mut open = lock(&self.0.changes_of_orders.by_order);
        for target in targets {
            let others = open.get(&target.order_id).into_iter().flatten();
            // One whose task has ended with the runtime cancels nothing any more.
            let is_canceling =
                |one: &Change| one.intent.change == OrderChange::Cancel && !one.link.has_ended();
            if others.into_iter().any(is_canceling) {
                continue;
            }
            let (seat, place) = Seat::new();
            let cancel = self.intent(Product::EventContracts, target, OrderChange::Cancel);
            changes.push(self.begin(&mut open, cancel, Duration::ZERO, seat, None));
            places.push(place);
        }
        drop(open);
        batch::spawn(&self.0, places, Some(CANCEL_WRITE_WAIT), cancel_batch);
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
            let task = ChangeTask::new(machine, end, (now, Duration::ZERO), Seat::none(), None);
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
        let now = self.0.clock.now();
        let machine = ChangeMachine::new(intent, self.0.config, now.saturating_add(within));
        let (change, end) = Change::new(&machine);
        open.entry(change.intent.order_id.clone()).or_default().push(change.clone());
        self.spawn_change(ChangeTask::new(machine, end, (now, within), seat, answer));
        change
    }

    fn spawn_change(&self, task: ChangeTask) {
        let mut hold = Hold::new(&self.0);
        // In a box, as the task of an order.
        self.0.runtime.spawn(Box::pin(async move {
            let (order_id, number) = (task.intent().order_id.clone(), task.intent().number);
            hold::drive(task, &mut hold).await;
            let Some(shared) = hold.get() else { return };
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
