//! The task of each order: does what its machine says.

use std::{pin::pin, sync::Arc, time::Duration};

use kalshi_sdk::{
    Client, ResponseValue,
    types::{BatchCreateOrdersV2Request, CreateOrderV2Request},
};
use kalshi_types::UnixMillis;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Answer, Input, PlacementMachine, PlacementState, Step,
    batch::{Limited, Seat},
    hold::{self, Deadline, Hold, Resume, next},
    link::TaskEnd,
    read::{self, Question},
    reads,
    shell::{Shared, write, write_now},
};
use crate::{
    budget::withdrawal::{SendLimit, Withdrawal},
    journal::{ClientOrderId, Intent, Product, Record},
    retry::ReckonedTime,
};

/// The time for which evidence is still taken in for an order that came to nothing.
const LINGER: Duration = Duration::from_secs(300);

/// The request that places an order.
#[derive(Clone, Debug)]
pub(super) enum Request {
    EventContracts(CreateOrderV2Request),
    #[cfg(feature = "perps")]
    Perps(kalshi_sdk::perps::types::CreateMarginOrderRequest),
}

impl Request {
    fn has_expiry(&self) -> bool {
        match self {
            Self::EventContracts(order) => order.expiration_time.is_some(),
            #[cfg(feature = "perps")]
            Self::Perps(order) => order.expiration_time.is_some(),
        }
    }

    /// Reads the request of an intent.
    fn of(intent: &Intent) -> Option<Self> {
        match intent.product() {
            Product::EventContracts => {
                serde_json::from_str(intent.body()).ok().map(Self::EventContracts)
            }
            #[cfg(feature = "perps")]
            Product::Perps => serde_json::from_str(intent.body()).ok().map(Self::Perps),
            // A journal that has one is not opened.
            #[cfg(not(feature = "perps"))]
            Product::Perps => None,
        }
    }
}

/// One machine and what it needs.
pub(super) struct Task {
    machine: PlacementMachine,
    end: TaskEnd<PlacementState, Input>,
    /// The body that is sent first; `None` in an order of an earlier session.
    request: Option<Request>,
    first_sent: UnixMillis,
    /// The time before which it is sent.
    send_by: Deadline,
    /// The batch that it is sent with.
    seat: Seat<Limited<CreateOrderV2Request>, Input>,
    withdrawal: Withdrawal,
    /// The time as it was read last.
    now: UnixMillis,
    /// The input that the machine has not taken yet.
    input: Option<Input>,
    lingers_until: Option<Instant>,
}

/// An action whose end a task waits for.
enum Action {
    Write(Record),
    Written(oneshot::Receiver<bool>),
    Send(Limited<Request>),
    Sent(oneshot::Receiver<Input>),
    ReadWatermark,
    List(Product, String, Question),
}

async fn perform(shared: Arc<Shared>, action: Action) -> Input {
    match action {
        Action::Write(record) => written(write(&shared, record).await),
        Action::Written(answer) => written(answer.await.unwrap_or(false)),
        Action::Send(request) => send(&shared, request).await,
        // No answer: the runtime ends, or a layer of the client panicked.
        Action::Sent(answer) => answer.await.unwrap_or(Input::Answered(Answer::Unknown)),
        Action::ReadWatermark => {
            reads::watermark(shared).await.map_or(Input::ReadFailed, Input::Watermark)
        }
        Action::List(product, ticker, question) => {
            reads::list(shared, product, ticker, question).await
        }
    }
}

impl Task {
    /// Returns the task of a new order, which is sent within a time from now on.
    pub(super) fn new(
        machine: PlacementMachine,
        end: TaskEnd<PlacementState, Input>,
        request: Request,
        (now, within): (UnixMillis, Duration),
        seat: Seat<Limited<CreateOrderV2Request>, Input>,
    ) -> Self {
        let send_by = Deadline::within(within);
        let task = Self::restored(machine, end, now, now);
        Self { request: Some(request), send_by, seat, ..task }
    }

    /// Returns the task of an order of an earlier session.
    pub(super) fn restored(
        machine: PlacementMachine,
        end: TaskEnd<PlacementState, Input>,
        first_sent: UnixMillis,
        now: UnixMillis,
    ) -> Self {
        Self {
            machine,
            end,
            request: None,
            first_sent,
            send_by: Deadline::default(),
            seat: Seat::none(),
            withdrawal: Withdrawal::default(),
            now,
            input: None,
            lingers_until: None,
        }
    }

    pub(super) fn id(&self) -> ClientOrderId {
        self.machine.intent().id().clone()
    }

    fn take(&mut self, input: Input) {
        if input == Input::Withdraw {
            // It may wait for its tokens.
            self.withdrawal.withdraw();
        }
        self.machine.apply(input, self.now);
    }

    /// Takes in everything that has happened.
    fn take_all(&mut self) {
        if let Some(input) = self.input.take() {
            self.take(input);
        }
        // What is withdrawn before it is sent is not sent.
        while let Some(input) = self.end.0.try_recv() {
            self.take(input);
        }
        if self.send_by.pass() {
            self.take(Input::DeadlinePassed);
        }
    }

    /// Writes a record, and returns whether it is committed, or what that waits for.
    fn write(&mut self, shared: &Shared, record: Record) -> Result<bool, Box<Action>> {
        if self.seat.takes_record() {
            return Err(Box::new(match self.seat.write(record) {
                Ok(answer) => Action::Written(answer),
                Err(record) => Action::Write(*record),
            }));
        }
        self.seat.leave();
        if shared.journal.commit_blocks() {
            return Err(Box::new(Action::Write(record)));
        }
        Ok(write_now(shared, &record))
    }

    /// Hands a request over to its batch, or sends it by itself: only event contracts have batches.
    fn send(&mut self, limited: Limited<Request>) -> Action {
        let Limited { request, within, withdrawal } = limited;
        match request {
            Request::EventContracts(request) => {
                match self.seat.send(Limited { request, within, withdrawal }) {
                    Ok(answer) => Action::Sent(answer),
                    Err(Limited { request, within, withdrawal }) => {
                        let request = Request::EventContracts(request);
                        Action::Send(Limited { request, within, withdrawal })
                    }
                }
            }
            #[cfg(feature = "perps")]
            request @ Request::Perps(_) => Action::Send(Limited { request, within, withdrawal }),
        }
    }

    /// Returns what is sent: from the second time on, as it was written.
    fn request(&mut self) -> Option<Limited<Request>> {
        let request = self.request.take().or_else(|| Request::of(self.machine.intent()))?;
        let within = self.send_by.left();
        Some(Limited { request, within, withdrawal: self.withdrawal.clone() })
    }

    fn question(&self, number: u32) -> Question {
        let id = self.machine.intent().id().clone();
        let is_decisive = self.machine.is_list_decisive();
        Question { id, number, first_sent: self.first_sent, is_decisive }
    }

    fn publish(&self, shared: &Shared) {
        let state = self.machine.state();
        if self.end.0.publish(state) {
            tracing::debug!(id = %self.machine.intent().id(), ?state, "state of an order");
            shared.note_change();
        }
    }
}

impl Resume for Task {
    async fn run(&mut self, hold: &mut Hold) {
        let mut pending = pin!(None);
        loop {
            // Nothing of it is waited for any more.
            let Some(shared) = hold.get() else { return };
            self.now = shared.clock.now();
            self.take_all();
            let step = self.machine.poll(self.now);
            self.publish(&shared);
            // True while it only waits for what it may learn in another session as well.
            let mut is_idle = false;
            let mut sleep = None;
            let action = match step {
                Step::Write(record) => match self.write(&shared, record) {
                    Ok(is_written) => {
                        self.input = Some(written(is_written));
                        continue;
                    }
                    Err(action) => Some(*action),
                },
                Step::Send { .. } => {
                    let Some(request) = self.request() else {
                        // Not reached: what was written is what is read.
                        let unsent = Answer::NotSent { is_temporary: false };
                        self.input = Some(Input::Answered(unsent));
                        continue;
                    };
                    Some(self.send(request))
                }
                Step::ReadWatermark => Some(Action::ReadWatermark),
                Step::List { number } => {
                    let intent = self.machine.intent();
                    let (product, ticker) = (intent.product(), intent.ticker().to_owned());
                    Some(Action::List(product, ticker, self.question(number)))
                }
                Step::WaitUntil(at) => {
                    self.seat.leave();
                    is_idle = matches!(self.machine.state(), PlacementState::Undecided(_));
                    sleep = Some(self.send_by.cut(hold::left(at, self.now)));
                    None
                }
                Step::Wait => None,
                Step::Done => {
                    self.seat.leave();
                    if matches!(self.machine.state(), PlacementState::Accepted { .. }) {
                        return;
                    }
                    let now = Instant::now();
                    let end = *self.lingers_until.get_or_insert(now + LINGER);
                    if now >= end {
                        return;
                    }
                    is_idle = true;
                    sleep = Some(end - now);
                    None
                }
            };
            if let Some(action) = action {
                pending.set(Some(perform(Arc::clone(&shared), action)));
            }
            if is_idle && pending.is_none() {
                hold.let_go();
            }
            drop(shared);
            self.input = tokio::select! {
                biased;
                input = next(pending.as_mut()) => Some(input),
                input = self.end.0.recv() => Some(input),
                () = hold::sleep(sleep) => None,
            };
        }
    }

    fn interrupt(&mut self, shared: Option<&Shared>) {
        if let Some(input) = self.input.take() {
            self.take(input);
        }
        // What the machine does not wait for it passes over.
        for input in [Input::WriteFailed, Input::Answered(Answer::Unknown), Input::ReadFailed] {
            self.take(input);
        }
        self.seat.leave();
        if let Some(shared) = shared {
            self.publish(shared);
        }
    }
}

fn written(is_written: bool) -> Input {
    if is_written { Input::Written } else { Input::WriteFailed }
}

/// Returns a client whose requests have that limit, and are not repeated after a correction of the clock
/// if they have a time of expiry.
pub(super) fn limited(client: &Client, limit: SendLimit, has_expiry: bool) -> Client {
    let client = client.with_extension(limit);
    if has_expiry { client.with_extension(ReckonedTime) } else { client }
}

async fn send(shared: &Shared, limited: Limited<Request>) -> Input {
    let (request, limit) = limited.split();
    let client = self::limited(&shared.client, limit, request.has_expiry());
    Input::Answered(match request {
        Request::EventContracts(request) => {
            let result = client.create_order_v2().body(request).send().await;
            read::answer(result.map(ResponseValue::into_inner))
        }
        #[cfg(feature = "perps")]
        Request::Perps(request) => super::perps::read::send(&client, request).await,
    })
}

/// Sends orders as one batch, and returns what became of each.
pub(super) async fn send_all(
    shared: Arc<Shared>,
    orders: Vec<CreateOrderV2Request>,
    limit: SendLimit,
) -> Vec<Input> {
    let ids: Vec<String> =
        orders.iter().filter_map(|order| order.client_order_id.clone()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let has_expiry = orders.iter().any(|order| order.expiration_time.is_some());
    let body = BatchCreateOrdersV2Request::builder().orders(orders);
    let client = limited(&shared.client, limit, has_expiry);
    let result = client.batch_create_orders_v2().body(body).send().await;
    let answers = read::batch_answers(&ids, result.map(ResponseValue::into_inner));
    answers.into_iter().map(Input::Answered).collect()
}
