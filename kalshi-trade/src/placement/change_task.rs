//! The task of each change: does what its machine says.

use std::{pin::pin, sync::Arc, time::Duration};

use kalshi_sdk::{
    Client, Error,
    types::{AmendOrderV2Request, DecreaseOrderV2Request, ExchangeIndex},
};
use kalshi_types::UnixMillis;
use tokio::{sync::oneshot, time::Instant};

use super::{
    ChangeAnswer, ChangeInput, ChangeMachine, ChangeState, ChangeStep,
    batch::{CANCEL_WRITE_WAIT, Limited, Seat},
    hold::{self, Deadline, Hold, Resume, next},
    link::TaskEnd,
    read, reads,
    shell::{Shared, lock, write_later, write_now},
    task::limited,
};
use crate::{
    budget::withdrawal::{SendLimit, Withdrawal},
    cancels::{self, Cancel},
    journal::{ChangeIntent, OrderChange, Product, Record},
};

/// The answer to the first attempt, with the error that says more.
pub(crate) type FirstAnswer = Result<(), (ChangeAnswer, Error)>;

/// One machine and what it needs.
pub(super) struct ChangeTask {
    machine: ChangeMachine,
    end: TaskEnd<ChangeState, ChangeInput>,
    /// The time before which it is sent; a cancel has none.
    send_by: Deadline,
    /// The batch that it is sent with.
    seat: Seat<Limited<ChangeIntent>, ChangeInput>,
    /// The receiver of the first answer.
    answer: Option<oneshot::Sender<FirstAnswer>>,
    /// True once the exchange did not find the order on the shard that the request named: from then on
    /// it is left to the exchange to find the shard.
    is_shard_doubted: bool,
    withdrawal: Withdrawal,
    /// The time as it was read last.
    now: UnixMillis,
    /// The input that the machine has not taken yet.
    input: Option<ChangeInput>,
    writing: Option<Writing>,
}

/// A record that is being written.
struct Writing {
    committed: oneshot::Receiver<bool>,
    /// The time from which on a cancel does not wait for it.
    waits_until: Option<Instant>,
}

/// An action whose end a task waits for.
enum Action {
    Send(Limited<ChangeIntent>, Option<oneshot::Sender<FirstAnswer>>),
    Sent(oneshot::Receiver<ChangeInput>),
    ReadWatermark,
    ReadOrder(ChangeIntent, u32),
}

async fn perform(shared: Arc<Shared>, action: Action) -> ChangeInput {
    match action {
        Action::Send(intent, answer) => send(&shared, intent, answer).await,
        // No answer: the runtime ends, or a layer of the client panicked.
        Action::Sent(answer) => {
            answer.await.unwrap_or(ChangeInput::Answered(ChangeAnswer::Unknown))
        }
        Action::ReadWatermark => {
            reads::watermark(shared).await.map_or(ChangeInput::ReadFailed, ChangeInput::Watermark)
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
    /// Returns the task of a change, which is sent within a time from now on; a cancel at any time.
    pub(super) fn new(
        machine: ChangeMachine,
        end: TaskEnd<ChangeState, ChangeInput>,
        (now, within): (UnixMillis, Duration),
        seat: Seat<Limited<ChangeIntent>, ChangeInput>,
        answer: Option<oneshot::Sender<FirstAnswer>>,
    ) -> Self {
        let is_cancel = machine.intent().change == OrderChange::Cancel;
        Self {
            send_by: if is_cancel { Deadline::default() } else { Deadline::within(within) },
            machine,
            end,
            seat,
            answer,
            is_shard_doubted: false,
            withdrawal: Withdrawal::default(),
            now,
            input: None,
            writing: None,
        }
    }

    /// Returns the change as it is in the journal.
    pub(super) fn intent(&self) -> &ChangeIntent {
        self.machine.intent()
    }

    fn take(&mut self, input: ChangeInput) {
        self.is_shard_doubted |= input == ChangeInput::Answered(ChangeAnswer::NotFound);
        if input == ChangeInput::Withdraw {
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
            self.take(ChangeInput::DeadlinePassed);
        }
    }

    /// Writes a record. Where that does not block, its end is an input at once.
    fn write(&mut self, shared: &Shared, record: Record) {
        let is_cancel = self.intent().change == OrderChange::Cancel;
        let is_awaited = !is_cancel || !matches!(record, Record::Change { .. });
        let committed = match self.seat.write(record) {
            Ok(answer) => answer,
            Err(record) if shared.journal.commit_blocks() => write_later(shared, *record),
            Err(record) => {
                self.input = Some(written(write_now(shared, &record)));
                return;
            }
        };
        let waits_until = (!is_awaited).then(|| Instant::now() + CANCEL_WRITE_WAIT);
        self.writing = Some(Writing { committed, waits_until });
    }

    /// Returns what is sent.
    fn request(&self) -> Limited<ChangeIntent> {
        let intent = self.intent().clone();
        let exchange_index = intent.exchange_index.filter(|_| !self.is_shard_doubted);
        let request = ChangeIntent { exchange_index, ..intent };
        Limited { request, within: self.send_by.left(), withdrawal: self.withdrawal.clone() }
    }

    fn publish(&self, shared: &Shared) {
        let order_id = &self.intent().order_id;
        // Before anyone can send the next change.
        if let Some(at) = self.machine.done_at() {
            lock(&shared.changes_of_orders.times).record(order_id, at);
        }
        let state = self.machine.state();
        if self.end.0.publish(state) {
            tracing::debug!(%order_id, ?state, "state of a change of an order");
            shared.note_change();
        }
    }
}

impl Resume for ChangeTask {
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
                ChangeStep::Write(record) => {
                    self.write(&shared, record);
                    if self.input.is_some() {
                        continue;
                    }
                    None
                }
                ChangeStep::Send { .. } => Some(match self.seat.send(self.request()) {
                    Ok(answer) => Action::Sent(answer),
                    Err(request) => Action::Send(request, self.answer.take()),
                }),
                ChangeStep::ReadWatermark => Some(Action::ReadWatermark),
                ChangeStep::ReadOrder { number } => {
                    Some(Action::ReadOrder(self.intent().clone(), number))
                }
                ChangeStep::WaitUntil(at) => {
                    self.seat.leave();
                    is_idle = matches!(self.machine.state(), ChangeState::Undecided(_));
                    sleep = Some(self.send_by.cut(hold::left(at, self.now)));
                    None
                }
                ChangeStep::Wait => {
                    if self.machine.is_over() {
                        // It waits for its record alone, and must not hold the batch up.
                        self.seat.leave();
                    }
                    None
                }
                ChangeStep::Done => return,
            };
            if let Some(action) = action {
                pending.set(Some(perform(Arc::clone(&shared), action)));
            }
            if is_idle && pending.is_none() && self.writing.is_none() {
                hold.let_go();
            }
            drop(shared);
            let waits_until = self.writing.as_ref().and_then(|writing| writing.waits_until);
            self.input = tokio::select! {
                biased;
                is_committed = committed(&mut self.writing) => Some(written(is_committed)),
                input = next(pending.as_mut()) => Some(input),
                input = self.end.0.recv() => Some(input),
                () = reach(waits_until) => Some(ChangeInput::WriteDelayed),
                () = hold::sleep(sleep) => None,
            };
            if self.input == Some(ChangeInput::WriteDelayed) {
                let order_id = &self.intent().order_id;
                tracing::error!(%order_id, "the journal stalls: a cancel is sent before it is written");
                if let Some(writing) = &mut self.writing {
                    writing.waits_until = None;
                }
            }
        }
    }

    fn interrupt(&mut self, shared: Option<&Shared>) {
        if let Some(input) = self.input.take() {
            self.take(input);
        }
        // What the machine does not wait for it passes over.
        if self.writing.is_none() {
            self.take(ChangeInput::WriteFailed);
        }
        for input in [ChangeInput::Answered(ChangeAnswer::Unknown), ChangeInput::ReadFailed] {
            self.take(input);
        }
        self.seat.leave();
        if let Some(shared) = shared {
            self.publish(shared);
        }
    }
}

/// Waits for the end of a write, and returns whether the record is committed; waits for good without a write.
async fn committed(writing: &mut Option<Writing>) -> bool {
    let Some(record) = writing else { return std::future::pending().await };
    // No answer: the runtime ends, or the journal panicked.
    let is_committed = (&mut record.committed).await.unwrap_or(false);
    *writing = None;
    is_committed
}

/// Waits for a time; for good without one.
async fn reach(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
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
    let has_expiry = matches!(intent.change, OrderChange::Amend { expires: Some(_), .. });
    let client = self::limited(&shared.client, limit, has_expiry);
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
pub(super) async fn cancel_batch(
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
