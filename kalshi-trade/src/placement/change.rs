//! The life of one change of an order, from its preparation to a known outcome: an amend, a decrease
//! or a cancel.
//!
//! Pure, as the machine of a placement is. A change has no id that the exchange knows it by, so the
//! evidence is the order itself:
//!
//! - for the change: a success; or a state of the order, newer than the one that was known before,
//!   that is as wanted;
//! - against it, all of: its signature can no longer be accepted; the exchange says that its reads
//!   are complete up to a time after that; and a read of the order, begun after it said so, shows it
//!   to rest otherwise;
//! - that it does not matter any more: the order is over.
//!
//! An amend or a decrease whose outcome is unknown is never sent again: carried out late, after the
//! next change, it would undo that one. A cancel is sent again until the order is over: nothing comes
//! after it.

use std::{collections::HashMap, time::Duration};

use kalshi_types::{Count, Dollars, UnixMillis};

use super::{PlacementConfig, Refusal, UndecidedCause, WithdrawnCause, pauses::Pauses};
use crate::journal::{
    ChangeIntent, ChangeSettlement, KnownOrder, OrderChange, Record, Session, UnsettledChange,
};

/// The most orders whose last change is remembered. Beyond that, the newest time holds for all.
const MAX_TIMES: usize = 10_000;

/// The state of a change, by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeState {
    /// Nothing was written or sent. It can be withdrawn.
    Prepared,
    /// It waits to be sent: for the first time, after an attempt that had no effect, or, a cancel,
    /// after any. It can be withdrawn.
    Queued,
    /// It was given to the client and has no answer yet. The order is as before, or as wanted.
    Sent {
        /// Counts the sendings, from 1.
        attempt: u32,
    },
    /// The outcome is unknown, and is being found out. The order is as before, or as wanted: count
    /// whichever risks more. Only a cancel may be sent meanwhile.
    Settling,
    /// The outcome is unknown, and not for want of time. Look at the order by hand, and rule on the
    /// change with [`ChangeInput::Ruled`]. It goes on being looked for.
    Undecided(UndecidedCause),
    /// The order was as wanted. Quote from it.
    Reached,
    /// The order is over, by its fills, a cancel or the exchange. Nothing changes it any more.
    Over,
    /// The exchange refused the change: the order is as before, or over. Fix the cause.
    Refused(Refusal),
    /// The change was sent, cannot be carried out any more, and the order rests otherwise than wanted.
    /// Decide anew from its state.
    NotReached,
    /// Nothing was sent that could have been carried out: the order is as before.
    Withdrawn(WithdrawnCause),
}

impl ChangeState {
    /// Reports whether the outcome is known.
    pub fn is_final(&self) -> bool {
        settlement(self).is_some()
    }
}

/// The next step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeStep {
    /// Write the record and commit it, then say [`ChangeInput::Written`] or
    /// [`ChangeInput::WriteFailed`].
    Write(Record),
    /// Send the change, then say [`ChangeInput::Answered`].
    Send {
        /// Counts the sendings, from 1.
        attempt: u32,
    },
    /// Ask up to which time reads are complete, then say [`ChangeInput::Watermark`] or
    /// [`ChangeInput::ReadFailed`].
    ReadWatermark,
    /// Begin to read the order, in the archive, too, then say [`ChangeInput::Read`] or
    /// [`ChangeInput::ReadFailed`].
    ReadOrder {
        /// Names the read in the answer.
        number: u32,
    },
    /// Poll again at that time, or after an input.
    WaitUntil(UnixMillis),
    /// Poll again after an input.
    Wait,
    /// The outcome is known, and nothing is left to do.
    Done,
}

/// An input of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeInput {
    /// The record of the last [`ChangeStep::Write`] is committed.
    Written,
    /// It is not, or that is not known.
    WriteFailed,
    /// The record of a cancel has been waited for long enough. It is sent all the same;
    /// [`Written`](Self::Written) or [`WriteFailed`](Self::WriteFailed) is still to come, and says whether
    /// its outcome is to be written. For other changes it says nothing.
    WriteDelayed,
    /// The sending of the last [`ChangeStep::Send`] came to this.
    Answered(ChangeAnswer),
    /// A message of a stream shows the order.
    Seen(OrderView),
    /// The answer to [`ChangeStep::ReadWatermark`].
    Watermark(UnixMillis),
    /// The end of a read of the order.
    Read {
        /// The number of its [`ChangeStep::ReadOrder`].
        number: u32,
        /// The order; `None` if no order has its id, live or archived.
        order: Option<OrderView>,
    },
    /// The last read failed.
    ReadFailed,
    /// The caller wants it no more. What has not been sent is not; what has been is settled.
    Withdraw,
    /// The time within which it is sent has passed, by a clock that cannot be set back. The machine's own
    /// time may have been.
    DeadlinePassed,
    /// A person looked at the order and decides what no read did.
    Ruled(ChangeRuling),
}

/// An order as the exchange shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// The exchange's id of it.
    pub order_id: String,
    /// The price of YES, in dollars per contract; that of the contract, for perpetual futures.
    pub yes_price: Dollars,
    /// The contracts that were filled.
    pub filled: Count,
    /// The contracts that are left.
    pub remaining: Count,
    /// True if it is executed or canceled.
    pub is_over: bool,
    /// The time of its last change, if that is known.
    pub updated: Option<UnixMillis>,
    /// The time at which it expires, if it does.
    pub expires: Option<UnixMillis>,
}

impl OrderView {
    /// Returns the contracts that are filled or left.
    fn total(&self) -> Option<Count> {
        self.filled.checked_add(self.remaining)
    }
}

/// The decision of a person about a change whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeRuling {
    /// It was carried out.
    Reached,
    /// It was not, and will not be.
    NotReached,
    /// The order is over.
    Over,
}

/// The answer to the sending of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeAnswer {
    /// A success that names the order.
    Done {
        /// The time at which the exchange carried it out; `None` where the answer has none, as those
        /// about perpetual futures.
        at: Option<UnixMillis>,
    },
    /// The exchange does not find an open order with the id (404), and did nothing. That proves
    /// neither that the order is over nor that it is not: the id may be that of another shard.
    NotFound,
    /// Nothing left this machine.
    NotSent {
        /// True if it may be different the next time.
        is_temporary: bool,
    },
    /// The rate limit refused it (429), and nothing was done.
    RateLimited {
        /// The time to wait, if that is known.
        retry_after: Option<Duration>,
    },
    /// The exchange refused it, and nothing was done.
    Refused(Refusal),
    /// It may have been carried out or not.
    Unknown,
}

/// The machine of one change. See [`placement`](crate::placement).
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ChangeMachine {
    intent: ChangeIntent,
    config: PlacementConfig,
    state: ChangeState,
    /// The sending begins before this time, or not at all. A cancel has none.
    send_by: UnixMillis,
    attempts: u32,
    /// True when the change may be sent: it is in the journal, or is a cancel.
    is_recorded: bool,
    is_in_journal: bool,
    write: Option<PendingWrite>,
    read: Option<PendingRead>,
    /// True once a request that may have been carried out was sent.
    may_be_done: bool,
    /// The time at which the last such request was signed at the latest.
    signed_by: UnixMillis,
    settling_since: Option<UnixMillis>,
    reads: u32,
    pauses: Pauses,
    /// True once reads are known to be complete up to a time after the window.
    is_past_window: bool,
    obstacle: UndecidedCause,
    is_unwanted: bool,
    is_deadline_passed: bool,
    /// True while a cancel goes on although its record is still being written.
    is_write_late: bool,
    /// The time of the state of the order that the change has led to.
    done_at: Option<UnixMillis>,
    is_settlement_written: bool,
    is_settlement_lost: bool,
}

/// The times of the last changes of orders: a state of an order that is older says nothing of what
/// came after it, so that the next change is not told by it.
///
/// Where it were, an older state that arrives late and happens to be as wanted would be taken for the
/// new one.
#[derive(Clone, Debug)]
pub struct ChangeTimes {
    by_order: HashMap<String, UnixMillis>,
    /// That of all others.
    least: UnixMillis,
}

impl ChangeTimes {
    /// Returns the times of a session: no state older than `least` is taken. Where an earlier session
    /// may have made changes, that is the time of the opening and the
    /// [window](PlacementConfig::window) after it.
    pub fn new(least: UnixMillis) -> Self {
        Self { by_order: HashMap::new(), least }
    }

    /// Takes in that a change has led to a state of that time.
    pub fn record(&mut self, order_id: &str, at: UnixMillis) {
        if self.by_order.len() >= MAX_TIMES {
            self.least = self.by_order.values().copied().max().max(Some(self.least)).unwrap_or(at);
            self.by_order.clear();
        }
        let time = self.by_order.entry(order_id.to_owned()).or_insert(at);
        *time = at.max(*time);
    }

    /// Returns the state that was known before a change, unless it is too old to tell the change by.
    pub fn known(&self, order_id: &str, known: Option<KnownOrder>) -> Option<KnownOrder> {
        let least = self.by_order.get(order_id).copied().max(Some(self.least));
        known.filter(|known| Some(known.updated) >= least)
    }
}

/// A record that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingWrite {
    Change,
    Settled,
}

/// A read that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingRead {
    Watermark,
    Order { number: u32, is_past_window: bool },
}

impl ChangeMachine {
    /// Returns the machine of a new change, which is sent before `send_by` or not at all. A cancel is
    /// sent at any time.
    pub fn new(intent: ChangeIntent, config: PlacementConfig, send_by: UnixMillis) -> Self {
        Self {
            intent,
            config,
            state: ChangeState::Prepared,
            send_by,
            attempts: 0,
            is_recorded: false,
            is_in_journal: false,
            write: None,
            read: None,
            may_be_done: false,
            signed_by: UnixMillis::EPOCH,
            settling_since: None,
            reads: 0,
            pauses: Pauses::new(),
            is_past_window: false,
            obstacle: UndecidedCause::ReadsBehind,
            is_unwanted: false,
            is_deadline_passed: false,
            is_write_late: false,
            done_at: None,
            is_settlement_written: false,
            is_settlement_lost: false,
        }
    }

    /// Returns the machine of a change that an earlier session left open. An amend or a decrease is
    /// settled and never sent again. A cancel is sent again if the order still rests: it was meant to
    /// be out.
    pub fn restore(
        unsettled: &UnsettledChange,
        session: Session,
        config: PlacementConfig,
        now: UnixMillis,
    ) -> Self {
        let mut machine = Self::new(unsettled.intent.clone(), config, UnixMillis::EPOCH);
        machine.attempts = 1;
        machine.is_recorded = true;
        machine.is_in_journal = true;
        machine.may_be_done = true;
        machine.signed_by = session.opened.max(unsettled.first_sent);
        machine.settle(now);
        // There is no stream that could have brought it.
        machine.pauses.put_off(Duration::ZERO, now);
        machine
    }

    /// Returns the change.
    pub fn intent(&self) -> &ChangeIntent {
        &self.intent
    }

    /// Returns the state.
    pub fn state(&self) -> &ChangeState {
        &self.state
    }

    /// Returns the number of sendings that were begun.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Reports whether the outcome is known.
    pub fn is_over(&self) -> bool {
        self.state.is_final()
    }

    /// Returns the time of the state of the order that ended the change, for
    /// [`ChangeTimes::record`].
    pub fn done_at(&self) -> Option<UnixMillis> {
        self.done_at
    }

    /// Reports whether the outcome could not be written. The next session finds it out again.
    pub fn is_settlement_lost(&self) -> bool {
        self.is_settlement_lost
    }

    /// Returns what is to be done next. Each step but a wait is returned once.
    pub fn poll(&mut self, now: UnixMillis) -> ChangeStep {
        if self.write.is_some() {
            return ChangeStep::Wait;
        }
        match self.state {
            ChangeState::Prepared | ChangeState::Queued => self.poll_unsent(now),
            ChangeState::Settling | ChangeState::Undecided(_) => self.poll_unsettled(now),
            ChangeState::Sent { .. } => ChangeStep::Wait,
            _ => self.poll_over(now),
        }
    }

    /// Takes in what happened.
    pub fn apply(&mut self, input: ChangeInput, now: UnixMillis) {
        match input {
            ChangeInput::Written => self.written(true),
            ChangeInput::WriteFailed => self.written(false),
            ChangeInput::Answered(answer) => self.answered(answer, now),
            ChangeInput::Seen(order) => self.seen(&order),
            ChangeInput::Watermark(complete_until) => {
                if self.read == Some(PendingRead::Watermark) {
                    self.read = None;
                    if complete_until > self.window_end() {
                        // The read may begin at once.
                        self.is_past_window = true;
                    } else {
                        self.pause(UndecidedCause::ReadsBehind, now);
                    }
                }
            }
            ChangeInput::Read { number, order } => self.read(number, order.as_ref(), now),
            ChangeInput::ReadFailed => {
                if self.read.take().is_some() {
                    self.pause(UndecidedCause::ReadsFail, now);
                }
            }
            ChangeInput::WriteDelayed => self.write_delayed(),
            ChangeInput::Withdraw => self.is_unwanted = true,
            ChangeInput::DeadlinePassed => self.is_deadline_passed = true,
            ChangeInput::Ruled(ruling) => {
                if self.is_unsettled() {
                    self.end(match ruling {
                        ChangeRuling::Reached => ChangeState::Reached,
                        ChangeRuling::NotReached => ChangeState::NotReached,
                        ChangeRuling::Over => self.over(),
                    });
                }
            }
        }
    }

    fn poll_unsent(&mut self, now: UnixMillis) -> ChangeStep {
        let cause = if self.is_unwanted {
            Some(WithdrawnCause::Caller)
        } else {
            let is_late = self.is_deadline_passed || now >= self.send_by;
            (!self.is_cancel() && is_late).then_some(WithdrawnCause::Deadline)
        };
        if let Some(cause) = cause {
            self.leave_unsent(cause, now);
            return self.poll(now);
        }
        if let Some(at) = self.pauses.until(now) {
            return ChangeStep::WaitUntil(if self.is_cancel() { at } else { at.min(self.send_by) });
        }
        if self.is_recorded {
            self.attempts = self.attempts.saturating_add(1);
            self.signed_by = self.signed_by.max(now);
            self.state = ChangeState::Sent { attempt: self.attempts };
            return ChangeStep::Send { attempt: self.attempts };
        }
        self.write = Some(PendingWrite::Change);
        ChangeStep::Write(Record::Change { intent: self.intent.clone(), at: now })
    }

    fn poll_unsettled(&mut self, now: UnixMillis) -> ChangeStep {
        // A clock that is set back does not make it longer.
        let since = self.settling_since.unwrap_or(now).min(now);
        self.settling_since = Some(since);
        if now >= since.saturating_add(self.config.undecided_after) {
            self.state = ChangeState::Undecided(self.obstacle);
        }
        if self.read.is_some() {
            return ChangeStep::Wait;
        }
        if let Some(at) = self.pauses.until(now) {
            return ChangeStep::WaitUntil(at);
        }
        if !self.is_past_window && now > self.window_end() {
            self.read = Some(PendingRead::Watermark);
            return ChangeStep::ReadWatermark;
        }
        self.reads = self.reads.saturating_add(1);
        let number = self.reads;
        self.read = Some(PendingRead::Order { number, is_past_window: self.is_past_window });
        ChangeStep::ReadOrder { number }
    }

    fn poll_over(&mut self, now: UnixMillis) -> ChangeStep {
        let Some(settlement) = settlement(&self.state) else { return ChangeStep::Wait };
        if self.is_write_late {
            return ChangeStep::Wait;
        }
        if self.is_settlement_written || self.is_settlement_lost || !self.is_in_journal {
            return ChangeStep::Done;
        }
        self.write = Some(PendingWrite::Settled);
        ChangeStep::Write(Record::ChangeSettled { number: self.intent.number, settlement, at: now })
    }

    fn written(&mut self, is_written: bool) {
        match self.write.take() {
            Some(PendingWrite::Change) => {
                self.is_in_journal = is_written;
                // A cancel is sent all the same: a full disk is no reason to leave an order in the
                // book. The next session does not know of it.
                self.is_recorded = is_written || self.is_cancel();
                if self.state == ChangeState::Prepared {
                    self.state = if self.is_recorded {
                        ChangeState::Queued
                    } else {
                        ChangeState::Withdrawn(WithdrawnCause::Journal)
                    };
                }
            }
            Some(PendingWrite::Settled) if is_written => self.is_settlement_written = true,
            Some(PendingWrite::Settled) => self.is_settlement_lost = true,
            None if self.is_write_late => {
                self.is_write_late = false;
                self.is_in_journal = is_written;
            }
            None => {}
        }
    }

    /// Goes on with a cancel whose record is still being written.
    fn write_delayed(&mut self) {
        if !self.is_cancel() || self.write != Some(PendingWrite::Change) {
            return;
        }
        self.write = None;
        self.is_write_late = true;
        self.is_recorded = true;
        if self.state == ChangeState::Prepared {
            self.state = ChangeState::Queued;
        }
    }

    fn answered(&mut self, answer: ChangeAnswer, now: UnixMillis) {
        if !matches!(self.state, ChangeState::Sent { .. }) {
            return;
        }
        match answer {
            ChangeAnswer::Done { at } => {
                self.done_at = at;
                self.end(ChangeState::Reached);
            }
            ChangeAnswer::NotSent { is_temporary: true } => self.requeue(None, now),
            ChangeAnswer::RateLimited { retry_after } => self.requeue(retry_after, now),
            ChangeAnswer::NotSent { is_temporary: false } => {
                self.leave_unsent(WithdrawnCause::Invalid, now);
            }
            // Another attempt may have been carried out.
            ChangeAnswer::Refused(_) if self.may_be_done => self.settle(now),
            ChangeAnswer::Refused(refusal) => self.end(ChangeState::Refused(refusal)),
            // It is over, or elsewhere: the order itself says which.
            ChangeAnswer::NotFound if self.is_cancel() => {
                self.obstacle = UndecidedCause::NoOrder;
                self.settle(now);
            }
            ChangeAnswer::NotFound => self.end(ChangeState::Refused(Refusal::new(404, None))),
            ChangeAnswer::Unknown => {
                self.may_be_done = true;
                self.signed_by = self.signed_by.max(now);
                self.settle(now);
            }
        }
    }

    /// Takes in a state of the order, old or new.
    fn seen(&mut self, order: &OrderView) {
        if self.is_over() || order.order_id != self.intent.order_id {
            return;
        }
        if order.is_over {
            // Whatever is older says nothing of it, either.
            self.done_at = order.updated;
            self.end(self.over());
        } else if self.is_pending() && self.is_shown_by(order) {
            self.done_at = order.updated;
            self.end(ChangeState::Reached);
        }
    }

    /// Takes in the end of a read.
    fn read(&mut self, number: u32, order: Option<&OrderView>, now: UnixMillis) {
        let asked = self.read;
        if let Some(order) = order {
            self.seen(order);
        }
        let Some(PendingRead::Order { number: expected, is_past_window }) = asked else { return };
        if expected != number {
            return;
        }
        self.read = None;
        if !self.is_unsettled() {
            return;
        }
        let Some(order) = order.filter(|order| order.order_id == self.intent.order_id) else {
            self.pause(UndecidedCause::NoOrder, now);
            return;
        };
        if self.is_cancel() && !self.is_unwanted {
            // It rests, as far as is known: one cancel more does no harm. The first of them at once.
            self.pauses.after_read_but_the_first(now);
            self.state = ChangeState::Queued;
        } else if !is_past_window {
            self.pause(UndecidedCause::ReadsBehind, now);
        } else if self.is_as_wanted(order) {
            self.done_at = order.updated;
            self.end(ChangeState::Reached);
        } else {
            self.end(ChangeState::NotReached);
        }
    }

    /// Reports whether a state shows that the change was carried out: it is newer than what was known
    /// before, as wanted, and was not so before.
    fn is_shown_by(&self, order: &OrderView) -> bool {
        let Some(known) = &self.intent.known else { return false };
        let is_newer = order.updated.is_some_and(|updated| updated > known.updated);
        let is_changed = match &self.intent.change {
            OrderChange::Cancel => false,
            OrderChange::Amend { .. } => {
                // Without a known expiry, that of the order may be the one of before.
                (known.expires.is_some() && order.expires != known.expires)
                    || order.yes_price != known.yes_price
                    || order.total() != Some(known.total)
            }
            // Fills leave the total as it is.
            OrderChange::Decrease { .. } => order.total().is_some_and(|total| total < known.total),
        };
        is_newer && is_changed && self.is_as_wanted(order)
    }

    fn is_as_wanted(&self, order: &OrderView) -> bool {
        match &self.intent.change {
            OrderChange::Cancel => order.is_over,
            OrderChange::Amend { yes_price, total, expires, .. } => {
                let is_expiry = expires.is_none_or(|expires| {
                    let millis = expires.as_seconds().saturating_mul(1_000);
                    order.expires == (millis > 0).then(|| UnixMillis::from_millis(millis))
                });
                order.yes_price == *yes_price && order.total() == Some(*total) && is_expiry
            }
            OrderChange::Decrease { remaining } => order.remaining <= *remaining,
        }
    }

    /// Begins to find out what became of the change.
    fn settle(&mut self, now: UnixMillis) {
        self.state = ChangeState::Settling;
        self.settling_since.get_or_insert(now);
        self.pauses.put_off(self.config.stream_wait, now);
        self.is_past_window = false;
        self.read = None;
    }

    /// Puts the next read off, for a reason.
    fn pause(&mut self, obstacle: UndecidedCause, now: UnixMillis) {
        self.obstacle = obstacle;
        let is_undecided = matches!(self.state, ChangeState::Undecided(_));
        self.pauses.after_read(is_undecided.then_some(self.config.undecided_interval), now);
    }

    /// Waits to send again what had no effect.
    fn requeue(&mut self, retry_after: Option<Duration>, now: UnixMillis) {
        self.pauses.after_sending(retry_after, now);
        self.state = ChangeState::Queued;
    }

    /// Ends what is not sent any more, or finds out what became of what was sent before.
    fn leave_unsent(&mut self, cause: WithdrawnCause, now: UnixMillis) {
        if self.may_be_done {
            self.settle(now);
        } else {
            self.end(ChangeState::Withdrawn(cause));
        }
    }

    fn end(&mut self, state: ChangeState) {
        self.read = None;
        self.state = state;
    }

    /// Returns the outcome of a change of an order that is over.
    fn over(&self) -> ChangeState {
        if self.is_cancel() { ChangeState::Reached } else { ChangeState::Over }
    }

    fn is_cancel(&self) -> bool {
        self.intent.change == OrderChange::Cancel
    }

    /// Reports whether the change may have been carried out.
    fn is_pending(&self) -> bool {
        matches!(self.state, ChangeState::Sent { .. }) || self.is_unsettled()
    }

    fn is_unsettled(&self) -> bool {
        matches!(self.state, ChangeState::Settling | ChangeState::Undecided(_))
    }

    /// Returns the time up to which a request that was sent may be carried out.
    fn window_end(&self) -> UnixMillis {
        self.signed_by.saturating_add(self.config.window())
    }
}

fn settlement(state: &ChangeState) -> Option<ChangeSettlement> {
    match state {
        ChangeState::Reached => Some(ChangeSettlement::Reached),
        ChangeState::Over => Some(ChangeSettlement::Over),
        ChangeState::Refused(refusal) => Some(ChangeSettlement::Refused { status: refusal.status }),
        ChangeState::NotReached => Some(ChangeSettlement::NotReached),
        ChangeState::Withdrawn(_) => Some(ChangeSettlement::Withdrawn),
        ChangeState::Prepared
        | ChangeState::Queued
        | ChangeState::Sent { .. }
        | ChangeState::Settling
        | ChangeState::Undecided(_) => None,
    }
}
