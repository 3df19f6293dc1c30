//! The life of one order from its preparation to a known outcome.
//!
//! Pure: the time is an argument, and what is to be done is a [`Step`] for others to do. It knows
//! no socket, no randomness and no other order.
//!
//! ```text
//! Prepared ─► Queued ─► Sent ─► Accepted
//!     │          │ ▲      ├───► Refused
//!     ▼          ▼ │      ▼
//!     Withdrawn    │   Settling ◄─► Undecided
//!                  │      ├───────────► Accepted
//!                  └── Absent ─► GivenUp
//! ```
//!
//! An unknown outcome ends by evidence alone. For the order: a message or a list that has its id,
//! its market and its side, or a success that names its id. Against it, all of: its signature can
//! no longer be accepted; the exchange says that its reads are complete up to a time after that;
//! and a list of all orders of the market, begun after it said so and complete, is without it.

use std::time::Duration;

use kalshi_types::UnixMillis;

use super::{PlacementConfig, pauses::Pauses};
use crate::journal::{Intent, Record, Session, Settlement, Unsettled};

/// The most orders remembered that have the id besides the accepted one.
const MAX_OTHERS: usize = 16;

/// The state of a placement, by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlacementState {
    /// Nothing was written or sent. It can be withdrawn.
    Prepared,
    /// It waits to be sent, for the first time or again. It can be withdrawn.
    Queued,
    /// It was given to the client and has no answer yet. Count it as an open order.
    Sent {
        /// Counts the sendings, from 1.
        attempt: u32,
    },
    /// The exchange has the order. Follow it by its id: it may rest, or be over.
    Accepted {
        /// The exchange's id of the order.
        order_id: String,
    },
    /// The exchange refused the order and has nothing of it. Fix the cause, then place another.
    Refused(Refusal),
    /// The outcome is unknown, and is being found out. Count it as an open order, and place nothing
    /// in its stead.
    Settling,
    /// The order is proven not to exist. What follows is another sending, or [`Self::GivenUp`].
    Absent,
    /// The outcome is unknown, and not for want of time. Count it as an open order, look at the
    /// account by hand, and rule on it with [`Input::Ruled`]. It goes on being looked for.
    Undecided(UndecidedCause),
    /// The order was sent, is proven not to exist, and is not sent again. It is safe to place
    /// another.
    GivenUp,
    /// Nothing was sent that could have been carried out. It is safe to place another.
    Withdrawn(WithdrawnCause),
}

/// The answer that refused an order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The status of the answer: for an order of a batch that of the whole, 201.
    pub status: u16,
    /// The exchange's code, if there is one.
    pub code: Option<String>,
}

impl Refusal {
    /// Returns the refusal with a status and a code.
    pub fn new(status: u16, code: Option<String>) -> Self {
        Self { status, code }
    }
}

/// The cause for which an outcome is undecided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UndecidedCause {
    /// Reads fail. Check the connection, and that the key may read.
    ReadsFail,
    /// The exchange's reads stay behind its engine. Wait; its status page may say more.
    ReadsBehind,
    /// Lists of the market's orders cannot be read to their end.
    IncompleteLists,
    /// The exchange says that the id is in use, and shows no order of this market and side with it.
    /// It may be another one of yours: look for the id by hand.
    IdInUse,
    /// The exchange shows no order with the id of the one that is to be changed, live or archived.
    /// Look for it by hand; it may be that of another shard or subaccount.
    NoOrder,
}

/// The cause for which an order was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WithdrawnCause {
    /// The caller withdrew it.
    Caller,
    /// Its deadline passed before it could be sent.
    Deadline,
    /// The journal could not be written. Open it again, once everything that places under it is dropped.
    Journal,
    /// The request cannot be sent as it is, or the client cannot send. Fix the cause.
    Invalid,
    /// Another order has its id, although it was not sent.
    IdInUse,
}

/// What is to be done next for a placement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Write the record and commit it, then say [`Input::Written`] or [`Input::WriteFailed`].
    Write(Record),
    /// Send the body of the intent, then say [`Input::Answered`].
    Send {
        /// Counts the sendings, from 1.
        attempt: u32,
    },
    /// Ask up to which time reads are complete, then say [`Input::Watermark`] or
    /// [`Input::ReadFailed`].
    ReadWatermark,
    /// Begin to list the orders of the market in every state, then say [`Input::Listed`] or
    /// [`Input::ReadFailed`]. One list may serve several placements if each had asked before its
    /// first page was.
    List {
        /// Names the list in the answer.
        number: u32,
    },
    /// Poll again at that time, or after an input.
    WaitUntil(UnixMillis),
    /// Poll again after an input.
    Wait,
    /// The outcome is known, and nothing is left to do.
    Done,
}

/// What happened, for a placement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// The record of the last [`Step::Write`] is committed.
    Written,
    /// It is not, or that is not known.
    WriteFailed,
    /// The sending of the last [`Step::Send`] came to this.
    Answered(Answer),
    /// Something shows that an order exists: a message of a stream, or a list.
    Seen(Sighting),
    /// The answer to [`Step::ReadWatermark`].
    Watermark(UnixMillis),
    /// The end of a list.
    Listed {
        /// The number of its [`Step::List`]. Times do not tell whether it was begun late enough: a
        /// clock may stand still or step.
        number: u32,
        /// True if every page was read, and orders that old had not moved to the archive, or that
        /// was listed, too.
        is_complete: bool,
        /// The orders in it.
        orders: Vec<Sighting>,
    },
    /// The last read failed.
    ReadFailed,
    /// The caller wants it no more. What has not been sent is not; what has been is settled.
    Withdraw,
    /// The time within which it is sent has passed, by a clock that cannot be set back. The machine's own
    /// time may have been.
    DeadlinePassed,
    /// A person looked at the account and decides what no read did.
    Ruled(Ruling),
}

/// An order that was seen at the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its client order id.
    pub client_order_id: String,
    /// The exchange's id of it.
    pub order_id: String,
    /// Its market.
    pub ticker: String,
    /// The side of the book, `bid` or `ask`; `None` where it is not said.
    pub side: Option<String>,
}

/// The decision of a person about an order whose outcome is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It exists, with this id of the exchange.
    Exists {
        /// The exchange's id of the order.
        order_id: String,
    },
    /// It does not exist.
    Absent,
}

/// What a sending came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// A success, and what it says.
    Created {
        /// The exchange's id of the order.
        order_id: String,
        /// The client order id in the answer. Answers were seen that described another order.
        client_order_id: Option<String>,
    },
    /// Nothing left this machine.
    NotSent {
        /// True if it may be different the next time.
        is_temporary: bool,
    },
    /// The rate limit refused it (429), and nothing was done.
    RateLimited {
        /// How long to wait, if that is known.
        retry_after: Option<Duration>,
    },
    /// An order has the id (409): this one, of an attempt that was carried out, or another.
    Conflict,
    /// The exchange refused it, and nothing was done.
    Refused(Refusal),
    /// It may have been carried out or not: a timeout, a lost connection, a 5xx, 408, a truncated
    /// answer, an item without a verdict in the answer to a batch.
    Unknown,
}

/// The machine of one order. See [`placement`](crate::placement).
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct PlacementMachine {
    intent: Intent,
    config: PlacementConfig,
    state: PlacementState,
    /// The sending after it begins before this time, or not at all.
    send_by: UnixMillis,
    /// The number of sendings that were recorded.
    attempts: u32,
    /// Sendings after a proof of absence.
    resent: u32,
    /// True when the next sending is in the journal.
    is_recorded: bool,
    /// True once the journal may have the intent.
    is_in_journal: bool,
    write: Option<PendingWrite>,
    read: Option<PendingRead>,
    /// The time at which the last request that may have been carried out was signed at the latest.
    signed_by: UnixMillis,
    settling_since: UnixMillis,
    lists: u32,
    pauses: Pauses,
    /// True once reads are known to be complete up to a time after the window.
    is_past_window: bool,
    obstacle: UndecidedCause,
    is_id_in_use: bool,
    is_unwanted: bool,
    is_deadline_passed: bool,
    others: Vec<String>,
    /// The settlement that is in the journal, or could not be written.
    settled: Option<Settlement>,
    is_settlement_lost: bool,
}

/// A record that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PendingWrite {
    Intent,
    Sending(u32),
    Settled(Settlement),
}

/// A read that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingRead {
    Watermark,
    List { number: u32, is_past_window: bool },
}

impl PlacementMachine {
    /// Returns the machine of a new order, which is sent before `send_by` or not at all.
    pub fn new(intent: Intent, config: PlacementConfig, send_by: UnixMillis) -> Self {
        Self {
            intent,
            config,
            state: PlacementState::Prepared,
            send_by,
            attempts: 0,
            resent: 0,
            is_recorded: false,
            is_in_journal: false,
            write: None,
            read: None,
            signed_by: UnixMillis::EPOCH,
            settling_since: UnixMillis::EPOCH,
            lists: 0,
            pauses: Pauses::new(),
            is_past_window: false,
            obstacle: UndecidedCause::ReadsBehind,
            is_id_in_use: false,
            is_unwanted: false,
            is_deadline_passed: false,
            others: Vec::new(),
            settled: None,
            is_settlement_lost: false,
        }
    }

    /// Returns the machine of an intent that an earlier session left open. It is settled and never
    /// sent again: whoever wanted it is gone.
    ///
    /// The earlier session held the journal's lock, so whatever it sent, it had signed before this
    /// one was opened.
    pub fn restore(
        unsettled: &Unsettled,
        session: Session,
        config: PlacementConfig,
        now: UnixMillis,
    ) -> Self {
        let mut machine = Self::new(unsettled.intent.clone(), config, UnixMillis::EPOCH);
        machine.attempts = unsettled.attempts;
        machine.is_in_journal = true;
        machine.is_unwanted = true;
        machine.signed_by = session.opened.max(unsettled.last_sent);
        machine.settle(now);
        // There is no stream that could have brought it.
        machine.pauses.put_off(Duration::ZERO, now);
        machine
    }

    /// Returns the order.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// Returns the state.
    pub fn state(&self) -> &PlacementState {
        &self.state
    }

    /// Returns the number of sendings that were begun.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Reports whether the outcome is known.
    pub fn is_over(&self) -> bool {
        self.settlement().is_some()
    }

    /// Reports whether the order may exist, or come to exist: then it counts with its full size.
    pub fn may_exist(&self) -> bool {
        match self.state {
            PlacementState::Sent { .. }
            | PlacementState::Accepted { .. }
            | PlacementState::Settling
            | PlacementState::Undecided(_) => true,
            PlacementState::Prepared
            | PlacementState::Queued
            | PlacementState::Refused(_)
            | PlacementState::Absent
            | PlacementState::GivenUp
            | PlacementState::Withdrawn(_) => !self.others.is_empty(),
        }
    }

    /// Returns the orders that were seen with this id, market and side besides the accepted one.
    /// There are none, unless the exchange carried a request out later than the window.
    pub fn others(&self) -> &[String] {
        &self.others
    }

    /// Reports whether the outcome could not be written. The next session finds it out again.
    pub fn is_settlement_lost(&self) -> bool {
        self.is_settlement_lost
    }

    /// Reports whether the list that was asked for last proves absence if the order is not in it:
    /// then archived orders belong to it, too.
    pub fn is_list_decisive(&self) -> bool {
        matches!(self.read, Some(PendingRead::List { is_past_window: true, .. }))
    }

    /// Returns what is to be done next. Each step but a wait is returned once.
    pub fn poll(&mut self, now: UnixMillis) -> Step {
        if self.write.is_some() {
            return Step::Wait;
        }
        if self.state == PlacementState::Absent {
            self.resend_or_give_up(now);
        }
        match self.state {
            PlacementState::Prepared | PlacementState::Queued => self.poll_unsent(now),
            PlacementState::Settling | PlacementState::Undecided(_) => self.poll_unsettled(now),
            PlacementState::Sent { .. } | PlacementState::Absent => Step::Wait,
            PlacementState::Accepted { .. }
            | PlacementState::Refused(_)
            | PlacementState::GivenUp
            | PlacementState::Withdrawn(_) => self.poll_over(now),
        }
    }

    /// Takes in what happened.
    pub fn apply(&mut self, input: Input, now: UnixMillis) {
        match input {
            Input::Written => self.written(),
            Input::WriteFailed => self.write_failed(),
            Input::Answered(answer) => self.answered(answer, now),
            Input::Seen(sighting) => self.seen(&sighting),
            Input::Watermark(complete_until) => {
                if self.read == Some(PendingRead::Watermark) {
                    self.read = None;
                    if complete_until > self.window_end() {
                        // The list may begin at once.
                        self.is_past_window = true;
                    } else {
                        self.pause(UndecidedCause::ReadsBehind, now);
                    }
                }
            }
            Input::Listed { number, is_complete, orders } => {
                for order in &orders {
                    self.seen(order);
                }
                self.listed(number, is_complete, now);
            }
            Input::ReadFailed => {
                if self.read.take().is_some() {
                    self.pause(UndecidedCause::ReadsFail, now);
                }
            }
            Input::Withdraw => self.is_unwanted = true,
            Input::DeadlinePassed => self.is_deadline_passed = true,
            Input::Ruled(ruling) => {
                if self.is_unsettled() {
                    self.state = match ruling {
                        Ruling::Exists { order_id } => PlacementState::Accepted { order_id },
                        Ruling::Absent => PlacementState::GivenUp,
                    };
                }
            }
        }
    }

    fn poll_unsent(&mut self, now: UnixMillis) -> Step {
        let cause = if self.is_unwanted {
            Some(WithdrawnCause::Caller)
        } else {
            self.is_late(now).then_some(WithdrawnCause::Deadline)
        };
        if let Some(cause) = cause {
            self.leave_unsent(cause);
            return self.poll_over(now);
        }
        if let Some(at) = self.pauses.until(now) {
            return Step::WaitUntil(at.min(self.send_by));
        }
        if self.is_recorded {
            self.is_recorded = false;
            self.signed_by = self.signed_by.max(now);
            self.state = PlacementState::Sent { attempt: self.attempts };
            return Step::Send { attempt: self.attempts };
        }
        if self.attempts == 0 {
            self.write = Some(PendingWrite::Intent);
            return Step::Write(Record::Intent { intent: self.intent.clone(), at: now });
        }
        let attempt = self.attempts.saturating_add(1);
        self.write = Some(PendingWrite::Sending(attempt));
        Step::Write(Record::Sending { id: self.intent.id().clone(), attempt, at: now })
    }

    fn poll_unsettled(&mut self, now: UnixMillis) -> Step {
        // A clock that is set back does not make it longer.
        self.settling_since = self.settling_since.min(now);
        if now >= self.settling_since.saturating_add(self.config.undecided_after) {
            let cause = if self.is_id_in_use { UndecidedCause::IdInUse } else { self.obstacle };
            self.state = PlacementState::Undecided(cause);
        }
        if self.read.is_some() {
            return Step::Wait;
        }
        if let Some(at) = self.pauses.until(now) {
            return Step::WaitUntil(at);
        }
        if !self.is_past_window && now > self.window_end() {
            self.read = Some(PendingRead::Watermark);
            return Step::ReadWatermark;
        }
        self.lists = self.lists.saturating_add(1);
        let number = self.lists;
        self.read = Some(PendingRead::List { number, is_past_window: self.is_past_window });
        Step::List { number }
    }

    fn poll_over(&mut self, now: UnixMillis) -> Step {
        let Some(settlement) = self.settlement() else { return Step::Wait };
        let is_known = self.settled.as_ref() == Some(&settlement);
        if is_known || self.is_settlement_lost || !self.is_in_journal {
            return Step::Done;
        }
        self.write = Some(PendingWrite::Settled(settlement.clone()));
        Step::Write(Record::Settled { id: self.intent.id().clone(), settlement, at: now })
    }

    fn written(&mut self) {
        match self.write.take() {
            Some(PendingWrite::Intent) => self.queue_recorded(1),
            Some(PendingWrite::Sending(attempt)) => self.queue_recorded(attempt),
            Some(PendingWrite::Settled(settlement)) => self.settled = Some(settlement),
            None => {}
        }
    }

    /// Takes in that a sending is in the journal, unless the order was seen meanwhile.
    fn queue_recorded(&mut self, attempt: u32) {
        self.is_in_journal = true;
        self.attempts = attempt;
        if matches!(self.state, PlacementState::Prepared | PlacementState::Queued) {
            self.is_recorded = true;
            self.state = PlacementState::Queued;
        }
    }

    fn write_failed(&mut self) {
        match self.write.take() {
            // A part of the record, or all of it, may be there. It was not sent all the same.
            Some(PendingWrite::Intent | PendingWrite::Sending(_)) => {
                self.is_settlement_lost = self.is_in_journal;
                if matches!(self.state, PlacementState::Prepared | PlacementState::Queued) {
                    self.leave_unsent(WithdrawnCause::Journal);
                }
            }
            Some(PendingWrite::Settled(_)) => self.is_settlement_lost = true,
            None => {}
        }
    }

    fn answered(&mut self, answer: Answer, now: UnixMillis) {
        if let Answer::Created { order_id, client_order_id } = &answer
            && client_order_id.as_deref() == Some(self.intent.id().as_str())
        {
            self.exists(order_id);
            return;
        }
        if !matches!(self.state, PlacementState::Sent { .. }) {
            return;
        }
        match answer {
            // It describes another order, or none.
            Answer::Created { .. } | Answer::Unknown => {
                self.signed_by = self.signed_by.max(now);
                self.settle(now);
            }
            Answer::Conflict => {
                self.is_id_in_use = true;
                self.signed_by = self.signed_by.max(now);
                self.settle(now);
            }
            Answer::NotSent { is_temporary: false } => self.leave_unsent(WithdrawnCause::Invalid),
            Answer::NotSent { is_temporary: true } => self.requeue(None, now),
            Answer::RateLimited { retry_after } => self.requeue(retry_after, now),
            Answer::Refused(refusal) => self.state = PlacementState::Refused(refusal),
        }
    }

    fn seen(&mut self, sighting: &Sighting) {
        if sighting.client_order_id != self.intent.id().as_str() {
            return;
        }
        let is_side = sighting.side.as_deref().is_none_or(|side| side == self.intent.side());
        if sighting.ticker == self.intent.ticker() && is_side {
            self.exists(&sighting.order_id);
        } else {
            self.is_id_in_use = true;
        }
    }

    /// Takes in that the order exists. No verdict stands against that.
    fn exists(&mut self, order_id: &str) {
        match &self.state {
            PlacementState::Accepted { order_id: known } => {
                let is_known = known == order_id || self.others.iter().any(|id| id == order_id);
                if !is_known && self.others.len() < MAX_OTHERS {
                    self.others.push(order_id.to_owned());
                }
            }
            // It was never sent: another order has the id.
            PlacementState::Prepared => self.leave_unsent(WithdrawnCause::IdInUse),
            PlacementState::Queued if self.attempts == 1 && self.is_recorded => {
                self.leave_unsent(WithdrawnCause::IdInUse);
            }
            PlacementState::Withdrawn(WithdrawnCause::IdInUse) => {}
            _ => {
                self.read = None;
                self.state = PlacementState::Accepted { order_id: order_id.to_owned() };
            }
        }
    }

    fn listed(&mut self, number: u32, is_complete: bool, now: UnixMillis) {
        let Some(PendingRead::List { number: asked, is_past_window }) = self.read else { return };
        if asked != number {
            return;
        }
        self.read = None;
        if !self.is_unsettled() {
            return;
        }
        if !is_complete {
            self.pause(UndecidedCause::IncompleteLists, now);
        } else if !is_past_window {
            self.pause(UndecidedCause::ReadsBehind, now);
        } else if self.is_id_in_use {
            // The two contradict each other.
            self.state = PlacementState::Undecided(UndecidedCause::IdInUse);
            self.pause(UndecidedCause::IdInUse, now);
        } else {
            self.state = PlacementState::Absent;
        }
    }

    /// Begins to find out what became of the order.
    fn settle(&mut self, now: UnixMillis) {
        self.state = PlacementState::Settling;
        self.settling_since = now;
        self.pauses.put_off(self.config.stream_wait, now);
        self.pauses.forget_reads();
        self.is_past_window = false;
        self.obstacle = UndecidedCause::ReadsBehind;
        self.read = None;
    }

    /// Puts the next read off, for a reason.
    fn pause(&mut self, obstacle: UndecidedCause, now: UnixMillis) {
        self.obstacle = obstacle;
        let is_undecided = matches!(self.state, PlacementState::Undecided(_));
        self.pauses.after_read(is_undecided.then_some(self.config.undecided_interval), now);
    }

    /// Waits to send again what had no effect.
    fn requeue(&mut self, retry_after: Option<Duration>, now: UnixMillis) {
        self.pauses.after_sending(retry_after, now);
        self.state = PlacementState::Queued;
    }

    fn resend_or_give_up(&mut self, now: UnixMillis) {
        if self.is_unwanted || self.is_late(now) || self.resent >= self.config.resends {
            self.state = PlacementState::GivenUp;
            return;
        }
        self.resent = self.resent.saturating_add(1);
        self.pauses.put_off(Duration::ZERO, now);
        self.state = PlacementState::Queued;
    }

    /// Ends an order of which no sending can have been carried out.
    fn leave_unsent(&mut self, cause: WithdrawnCause) {
        self.state = if self.resent == 0 {
            PlacementState::Withdrawn(cause)
        } else {
            PlacementState::GivenUp
        };
    }

    fn is_late(&self, now: UnixMillis) -> bool {
        self.is_deadline_passed || now >= self.send_by
    }

    fn is_unsettled(&self) -> bool {
        matches!(self.state, PlacementState::Settling | PlacementState::Undecided(_))
    }

    /// Returns the time up to which a request that was sent may be carried out.
    fn window_end(&self) -> UnixMillis {
        self.signed_by.saturating_add(self.config.window())
    }

    fn settlement(&self) -> Option<Settlement> {
        match &self.state {
            PlacementState::Accepted { order_id } => {
                Some(Settlement::Accepted { order_id: order_id.clone() })
            }
            PlacementState::Refused(refusal) => {
                Some(Settlement::Refused { status: refusal.status })
            }
            PlacementState::GivenUp => Some(Settlement::GivenUp),
            PlacementState::Withdrawn(_) => Some(Settlement::Withdrawn),
            PlacementState::Prepared
            | PlacementState::Queued
            | PlacementState::Sent { .. }
            | PlacementState::Settling
            | PlacementState::Absent
            | PlacementState::Undecided(_) => None,
        }
    }
}
