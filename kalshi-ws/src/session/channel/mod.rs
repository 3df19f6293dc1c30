//! One channel: what is desired of it, and what is on the wire.

mod follow;
mod rename;

use std::collections::{BTreeSet, HashSet};

use tokio::time::Instant;

use super::{
    after,
    outbox::{Lane, Outbox, Output, PendingKind},
    resync::Resync,
    sequence::{Continuity, SequenceTracker},
};
use crate::{
    connection::backoff::Backoff,
    event::{DisconnectReason, Event, Refusal, TerminationReason},
    product::{BookPart, EventContracts, Product},
    protocol::{
        command::{Action, Update},
        message::{Message, ServerError, Sid},
    },
    subscription::{Subscription, needs_items},
};

/// The number of refused lists that are halved, at a stretch, to find the item that is at fault.
const MAX_SPLITS: u32 = 64;

/// The state of one channel.
///
/// `desired` is what the consumer asked for, `on_wire` what the exchange was told. Whatever differs
/// is sent by [`reconcile`](Self::reconcile), one command at a time for each item. While a
/// subscription ends (`is_closing`), requests change `desired` as ever: what it holds at the end is
/// subscribed to anew.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they combine")]
pub(crate) struct ChannelState<P: Product = EventContracts> {
    pub(crate) lane: usize,
    pub(crate) channel: P::Channel,
    desired: Option<Subscription<P>>,
    /// The last item of `desired` was taken out: an empty list would mean all of them.
    is_dormant: bool,
    /// A recording has the subscription and not its command: its items are those that it shows.
    is_adopted: bool,
    phase: Phase,
    is_closing: bool,
    /// There may be a subscription whose number is not known: the exchange did not carry out
    /// `subscribe` in time, or says so, or ended a subscription that it did not name.
    may_exist: bool,
    on_wire: BTreeSet<String>,
    /// Items of commands that are not answered yet.
    in_flight: HashSet<String>,
    /// Items of commands whose outcome is not known.
    doubtful: HashSet<String>,
    /// True if the desired state of an item in flight has changed.
    is_dirty: bool,
    failures: Failures,
    /// Changes are not sent before that.
    retry_at: Option<Instant>,
    /// The number of items of the next `subscribe`, smaller while the one at fault is searched for.
    trial_items: usize,
    splits_left: u32,
    pub(crate) tracker: SequenceTracker,
    /// True if the document has sequence numbers for the channel.
    is_sequenced: bool,
    resync: Resync,
    /// Items that were taken out and whose last messages may still come.
    removed: HashSet<String>,
    /// Tickers outside the subscription whose messages void nothing more.
    foreign: HashSet<String>,
    /// The consumer was too slow for the channel, and gets no more of it.
    is_muted: bool,
    /// The places of its queue.
    capacity: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not desired.
    Unsubscribed,
    /// Not on the wire.
    Idle,
    /// Requested.
    Pending,
    /// Confirmed.
    Active { sid: Sid },
    /// To be requested again.
    BackingOff { until: Instant },
}

/// Failures in a row.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    retry_at: Option<Instant>,
}

impl Failures {
    /// Counts a failure, and returns when to try again. A long time without one starts anew.
    fn record(&mut self, now: Instant, backoff: &Backoff) -> Instant {
        let has_held = |at| now.saturating_duration_since(at) > backoff.longest();
        if self.retry_at.is_some_and(has_held) {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        let at = after(now, backoff.delay(self.count));
        self.retry_at = Some(at);
        at
    }
}

impl<P: Product> ChannelState<P> {
    pub(crate) fn new(lane: usize, channel: P::Channel) -> Self {
        let is_sequenced = P::message_kinds()
            .iter()
            .any(|kind| kind.sequenced && kind.channels.contains(&channel));
        Self {
            lane,
            channel,
            desired: None,
            is_dormant: false,
            is_adopted: false,
            phase: Phase::Unsubscribed,
            is_closing: false,
            may_exist: false,
            on_wire: BTreeSet::new(),
            in_flight: HashSet::new(),
            doubtful: HashSet::new(),
            is_dirty: false,
            failures: Failures::default(),
            retry_at: None,
            trial_items: usize::MAX,
            splits_left: MAX_SPLITS,
            tracker: SequenceTracker::default(),
            is_sequenced,
            resync: Resync::default(),
            removed: HashSet::new(),
            foreign: HashSet::new(),
            is_muted: false,
            capacity: 0,
        }
    }

    #[inline]
    pub(crate) fn sid(&self) -> Option<Sid> {
        match self.phase {
            Phase::Active { sid } => Some(sid),
            _ => None,
        }
    }

    pub(crate) fn is_desired(&self) -> bool {
        self.desired.is_some()
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.phase == Phase::Pending
    }

    /// Reports whether what is desired is on the wire, and nothing else.
    pub(crate) fn is_confirmed(&self) -> bool {
        match self.phase {
            Phase::Unsubscribed => true,
            Phase::Idle => self.desired.is_none() || self.is_dormant,
            Phase::Active { .. } => {
                !self.is_closing && self.in_flight.is_empty() && self.retry_at.is_none()
            }
            Phase::Pending | Phase::BackingOff { .. } => false,
        }
    }

    /// Reports whether no order book waits for a snapshot.
    #[cfg(test)]
    pub(crate) fn is_settled(&self) -> bool {
        self.resync.is_settled()
    }

    fn is_book(&self) -> bool {
        P::is_book(&self.channel)
    }

    fn desires(&self, item: &str) -> bool {
        self.desired.as_ref().is_some_and(|desired| desired.items.contains(item))
    }

    /// Adds a subscription to what is desired.
    pub(crate) fn want(
        &mut self,
        subscription: Subscription<P>,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        match &self.desired {
            Some(desired) if !self.is_dormant => {
                // All markets and some markets are not the sum of each other.
                let scopes_differ = desired.items.is_empty() != subscription.items.is_empty();
                if desired.options != subscription.options || scopes_differ {
                    let items = subscription.items.into_iter().collect();
                    out.refuse(self.channel.clone(), items, Refusal::Conflict);
                    return;
                }
                self.add(subscription.items.into_iter().collect(), out, now);
            }
            _ => {
                self.desired = Some(subscription);
                self.is_dormant = false;
                if !self.is_closing {
                    self.begin(out, now);
                }
            }
        }
    }

    /// Makes a new subscription of what is desired.
    fn begin(&mut self, out: &mut Outbox<P>, now: Instant) {
        self.phase = Phase::Idle;
        self.is_muted = false;
        self.trial_items = usize::MAX;
        self.splits_left = MAX_SPLITS;
        self.prepare_lane(true, out);
        self.subscribe(out, now);
    }

    /// Makes the queue hold two messages for each order book, so that their snapshots always fit.
    fn prepare_lane(&mut self, is_new: bool, out: &mut Outbox<P>) {
        let Some(desired) = &self.desired else { return };
        let books = if self.is_book() { desired.items.len().saturating_mul(2) } else { 0 };
        let capacity = desired.capacity.max(books);
        if is_new || capacity > self.capacity {
            self.capacity = capacity;
            out.outputs.push_back(Output::Lane {
                lane: self.lane,
                channel: self.channel.clone(),
                overflow: desired.overflow,
                capacity,
                is_new,
            });
        }
    }

    /// Adds items to what is desired.
    pub(crate) fn add(&mut self, items: Vec<String>, out: &mut Outbox<P>, now: Instant) {
        let Some(desired) = &mut self.desired else { return };
        let has_all = desired.items.is_empty() && !self.is_dormant;
        if has_all && !needs_items::<P>(&self.channel) {
            if !items.is_empty() {
                out.refuse(self.channel.clone(), items, Refusal::Conflict);
            } else if matches!(self.phase, Phase::Active { .. }) && !self.is_closing {
                out.control(Event::Added { channel: self.channel.clone(), items });
            }
            return;
        }
        self.is_dormant = false;
        let mut there = Vec::new();
        let mut returned = Vec::new();
        for item in items {
            if self.in_flight.contains(&item) {
                self.is_dirty = true;
            } else if self.doubtful.contains(&item) {
                // Perhaps it is there, perhaps not: it is added in any case.
                self.on_wire.remove(&item);
                self.removed.remove(&item);
            } else if self.on_wire.contains(&item) {
                if self.removed.remove(&item) {
                    returned.push(item.clone());
                }
                there.push(item.clone());
            }
            desired.items.insert(item);
        }
        if self.is_closing {
            return;
        }
        match self.phase {
            Phase::Idle => self.subscribe(out, now),
            Phase::Active { .. } => {
                if !there.is_empty() {
                    out.control(Event::Added { channel: self.channel.clone(), items: there });
                }
                // Their books were given up with the deletion that never was.
                self.lose(returned, out, now);
                self.reconcile(out, now);
            }
            _ => {}
        }
    }

    /// Takes items out of what is desired.
    pub(crate) fn delete(&mut self, items: Vec<String>, out: &mut Outbox<P>, now: Instant) {
        let Some(desired) = &mut self.desired else { return };
        let (mut taken, mut unknown) = (Vec::new(), Vec::new());
        for item in items {
            if !desired.items.remove(&item) {
                unknown.push(item);
                continue;
            }
            self.resync.forget(&item);
            self.is_dirty |= self.in_flight.contains(&item);
            if self.doubtful.contains(&item) {
                self.on_wire.insert(item.clone());
            }
            if self.on_wire.contains(&item) {
                self.removed.insert(item.clone());
            }
            taken.push(item);
        }
        let is_empty = desired.items.is_empty();
        if !unknown.is_empty() {
            out.refuse(self.channel.clone(), unknown, Refusal::NotSubscribed);
        }
        if taken.is_empty() {
            return;
        }
        out.control(Event::Removed { channel: self.channel.clone(), items: taken });
        self.settle(out, now);
        if is_empty {
            // What is left is desired of nothing, until something is added.
            self.is_dormant = true;
            self.close(out, now);
        } else {
            self.reconcile(out, now);
        }
    }

    /// Gives up the channel.
    pub(crate) fn unsubscribe(&mut self, out: &mut Outbox<P>, now: Instant) {
        let Some(desired) = self.desired.take() else { return };
        self.is_dormant = false;
        let items: Vec<String> = desired.items.into_iter().collect();
        if !items.is_empty() {
            out.control(Event::Removed { channel: self.channel.clone(), items });
        }
        self.close(out, now);
    }

    /// Ends the subscription that is on the wire.
    fn close(&mut self, out: &mut Outbox<P>, now: Instant) {
        if self.is_closing {
            return;
        }
        self.resync.clear(now);
        self.removed.extend(self.on_wire.iter().cloned());
        match self.phase {
            Phase::Active { sid } => {
                self.is_closing = true;
                self.retry_at = None;
                out.command(PendingKind::Unsubscribe(self.lane), Action::Unsubscribe { sid }, now);
            }
            // After the confirmation, which has the number.
            Phase::Pending => self.is_closing = true,
            _ if self.may_exist => {
                self.is_closing = true;
                out.outputs.push_back(Output::Drop(DisconnectReason::UnknownSubscription));
            }
            _ => self.closed(out, now),
        }
    }

    /// Records that the subscription ended, as was requested. What is desired now is begun.
    fn closed(&mut self, out: &mut Outbox<P>, now: Instant) {
        self.leave_wire(out, now);
        self.is_closing = false;
        self.phase = Phase::Unsubscribed;
        out.control(Event::Unsubscribed { channel: self.channel.clone() });
        if self.desired.is_some() {
            self.begin(out, now);
        }
    }

    /// Forgets what was on the wire.
    fn leave_wire(&mut self, out: &mut Outbox<P>, now: Instant) {
        out.abandon(self.lane);
        if self.is_book() {
            out.outputs.push_back(Output::ForgetAllNames);
        }
        self.may_exist = false;
        self.on_wire.clear();
        self.in_flight.clear();
        self.doubtful.clear();
        self.is_dirty = false;
        self.retry_at = None;
        self.tracker = SequenceTracker::default();
        self.resync.clear(now);
        self.removed.clear();
        self.foreign.clear();
    }

    /// Records that the connection is lost.
    pub(crate) fn disconnected(&mut self, out: &mut Outbox<P>, now: Instant) {
        if self.is_closing {
            self.closed(out, now);
            return;
        }
        self.leave_wire(out, now);
        if self.phase != Phase::Unsubscribed {
            self.phase = Phase::Idle;
        }
        self.trial_items = usize::MAX;
        self.splits_left = MAX_SPLITS;
    }

    /// Requests what is desired, as far as one command reaches.
    pub(crate) fn subscribe(&mut self, out: &mut Outbox<P>, now: Instant) {
        let waits = matches!(self.phase, Phase::Idle | Phase::BackingOff { .. });
        if !waits || !out.is_connected || out.is_passive || self.is_closing || self.is_dormant {
            return;
        }
        self.prepare_lane(false, out);
        let Some(desired) = &self.desired else { return };
        if desired.items.is_empty() && needs_items::<P>(&self.channel) {
            return;
        }
        let limit = out.limits.items_per_command.min(self.trial_items).max(1);
        let items: Vec<String> = desired.items.iter().take(limit).cloned().collect();
        let (channel, options) = (self.channel.clone(), desired.options.clone());
        self.phase = Phase::Pending;
        self.removed.clear();
        self.on_wire = items.iter().cloned().collect();
        let action = Action::Subscribe { channel, items, options };
        out.command(PendingKind::Subscribe(self.lane), action, now);
    }

    /// Notes the items that the exchange has, when it merged the subscription into another one.
    pub(crate) fn merged(&mut self, tickers: Vec<String>) {
        if !tickers.is_empty() {
            self.on_wire = tickers.into_iter().collect();
            let desired = self.desired.as_ref().map(|desired| &desired.items);
            let others =
                self.on_wire.iter().filter(|item| desired.is_none_or(|d| !d.contains(*item)));
            self.removed.extend(others.cloned());
        }
    }

    /// Records that the subscription is confirmed, by a reply with the number `seq`.
    pub(crate) fn confirmed(
        &mut self,
        sid: Sid,
        seq: Option<i64>,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        self.phase = Phase::Active { sid };
        self.may_exist = false;
        self.tracker = seq.map_or_else(SequenceTracker::fresh, SequenceTracker::starting_at);
        self.trial_items = usize::MAX;
        out.control(Event::Subscribed { channel: self.channel.clone(), sid });
        self.resync.clear(now);
        if self.is_closing {
            out.command(PendingKind::Unsubscribe(self.lane), Action::Unsubscribe { sid }, now);
            return;
        }
        if self.is_book() && !self.is_adopted {
            let known: Vec<String> =
                self.on_wire.iter().filter(|item| self.desires(item)).cloned().collect();
            self.resync.expect(known, now, out.limits.snapshot_timeout);
        }
        self.reconcile(out, now);
    }

    /// Sends the difference between what is desired and what the exchange was told.
    fn reconcile(&mut self, out: &mut Outbox<P>, now: Instant) {
        let Phase::Active { sid } = self.phase else { return };
        let waits = self.retry_at.is_some_and(|at| at > now);
        if self.is_closing || out.is_passive || waits {
            return;
        }
        self.retry_at = None;
        self.is_dirty &= !self.in_flight.is_empty();
        self.prepare_lane(false, out);
        let Some(desired) = &self.desired else { return };
        let is_free = |item: &&String| !self.in_flight.contains(*item);
        let add: Vec<String> =
            desired.items.difference(&self.on_wire).filter(is_free).cloned().collect();
        let delete: Vec<String> =
            self.on_wire.difference(&desired.items).filter(is_free).cloned().collect();
        let initial_snapshot = desired.options.initial_snapshot;
        if self.in_flight.is_empty() {
            // No list is being halved: the next one that is refused is another matter.
            self.splits_left = MAX_SPLITS;
        }
        self.on_wire.extend(add.iter().cloned());
        self.in_flight.extend(add.iter().chain(&delete).cloned());
        if self.is_book() {
            self.resync.expect(add.iter().cloned(), now, out.limits.snapshot_timeout);
        }
        for items in add.chunks(out.limits.items_per_command.max(1)) {
            self.send_add(sid, items, initial_snapshot, out, now);
        }
        for items in delete.chunks(out.limits.items_per_command.max(1)) {
            let (channel, items) = (self.channel.clone(), items.to_vec());
            let kind = PendingKind::Delete(self.lane, items.clone());
            out.command(kind, Action::Update { channel, sid, update: Update::Delete, items }, now);
        }
    }

    fn send_add(
        &mut self,
        sid: Sid,
        items: &[String],
        initial_snapshot: bool,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        let (channel, items) = (self.channel.clone(), items.to_vec());
        let kind = PendingKind::Add(self.lane, items.clone());
        let update = Update::Add { initial_snapshot };
        out.command(kind, Action::Update { channel, sid, update, items }, now);
    }

    /// Records that the exchange has added items.
    pub(crate) fn added(&mut self, mut items: Vec<String>, out: &mut Outbox<P>, now: Instant) {
        for item in &items {
            self.in_flight.remove(item);
            self.doubtful.remove(item);
        }
        items.retain(|item| self.desires(item));
        // Those that were taken out and are desired again: their snapshots were not for anybody.
        let back = items.iter().filter(|item| self.removed.remove(*item)).cloned().collect();
        if !items.is_empty() && !self.is_closing {
            out.control(Event::Added { channel: self.channel.clone(), items });
        }
        self.lose(back, out, now);
        if self.is_dirty {
            self.reconcile(out, now);
        }
    }

    /// Records that the exchange has removed items. Those that are desired again are added.
    pub(crate) fn deleted(&mut self, items: &[String], out: &mut Outbox<P>, now: Instant) {
        let mut is_desired = false;
        let mut gone = Vec::new();
        for item in items {
            if out.is_passive && self.desires(item) {
                // The recorded client has added it meanwhile.
                continue;
            }
            self.in_flight.remove(item);
            self.on_wire.remove(item);
            self.removed.remove(item);
            self.doubtful.remove(item);
            if self.desires(item) {
                is_desired = true;
            } else {
                gone.push(item.clone());
            }
        }
        if self.is_book() && !gone.is_empty() {
            out.outputs.push_back(Output::ForgetNames(gone));
        }
        if is_desired || self.is_dirty {
            self.reconcile(out, now);
        }
    }

    /// Notes that a command may have been carried out, though it seems to be refused.
    pub(crate) fn doubt(&mut self, kind: &PendingKind) {
        if let PendingKind::Add(_, items) | PendingKind::Delete(_, items) = kind {
            self.doubtful.extend(items.iter().cloned());
        }
    }

    /// Records that a command was refused.
    pub(crate) fn command_refused(
        &mut self,
        kind: PendingKind,
        error: ServerError,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        match kind {
            PendingKind::Subscribe(_) => self.subscribe_refused(error, out, now),
            // The exchange does not know it, or ended it: it is over.
            PendingKind::Unsubscribe(_) if error.ends_subscription() && self.is_closing => {
                self.closed(out, now);
            }
            PendingKind::Unsubscribe(_) => {
                self.retry_at = Some(self.failures.record(now, &out.limits.backoff));
                if !error.is_transient() {
                    out.control(Event::ServerError(error));
                }
            }
            _ if error.ends_subscription() => self.failed(error, out, now),
            PendingKind::Add(_, items) => self.add_refused(items, error, out, now),
            PendingKind::Delete(_, items) => self.delete_refused(&items, error, out, now),
            PendingKind::Query(_) | PendingKind::List(_) => out.control(Event::ServerError(error)),
        }
    }

    fn subscribe_refused(&mut self, error: ServerError, out: &mut Outbox<P>, now: Instant) {
        self.may_exist |= error.code == ServerError::COMMAND_TIMEOUT;
        if self.may_exist && (self.is_closing || !error.is_transient()) {
            // Only a new connection is known to have none.
            out.outputs.push_back(Output::Drop(DisconnectReason::UnknownSubscription));
            return;
        }
        if self.is_closing {
            self.closed(out, now);
            return;
        }
        let asked = std::mem::take(&mut self.on_wire);
        self.phase = Phase::Idle;
        if error.is_transient() {
            let until = self.failures.record(now, &out.limits.backoff);
            self.phase = Phase::BackingOff { until };
            let reason = TerminationReason::Server(error);
            out.control(Event::Terminated { channel: self.channel.clone(), reason });
            return;
        }
        let mut at_fault: Vec<String> =
            error.named().filter(|item| self.desires(item)).map(str::to_owned).collect();
        at_fault.dedup();
        if at_fault.is_empty() && error.may_be_about_an_item() {
            if asked.len() > 1 {
                // One of them is at fault, and the exchange does not say which.
                self.trial_items = asked.len().div_ceil(2);
                self.subscribe(out, now);
                return;
            }
            at_fault.extend(asked);
        }
        let Some(desired) = &mut self.desired else { return };
        for item in &at_fault {
            desired.items.remove(item);
        }
        if at_fault.is_empty() || desired.items.is_empty() {
            self.desired = None;
            self.phase = Phase::Unsubscribed;
        }
        out.refuse(self.channel.clone(), at_fault, Refusal::Server(error));
        self.subscribe(out, now);
    }

    fn add_refused(
        &mut self,
        items: Vec<String>,
        error: ServerError,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        if error.code == ServerError::COMMAND_TIMEOUT {
            self.doubtful.extend(items.iter().cloned());
        }
        for item in &items {
            self.in_flight.remove(item);
            self.resync.forget(item);
            if self.desires(item) || !self.doubtful.contains(item) {
                self.on_wire.remove(item);
                self.removed.remove(item);
            }
        }
        let items: Vec<String> = items.into_iter().filter(|item| self.desires(item)).collect();
        if error.is_transient() {
            self.retry_at = Some(self.failures.record(now, &out.limits.backoff));
            self.settle(out, now);
            return;
        }
        let mut at_fault: Vec<String> = items
            .iter()
            .filter(|item| error.named().any(|named| named == *item))
            .cloned()
            .collect();
        if at_fault.is_empty() {
            if items.len() > 1 && error.may_be_about_an_item() && self.splits_left > 0 {
                self.splits_left -= 1;
                self.split_add(&items, out, now);
                return;
            }
            at_fault = items;
        }
        let Some(desired) = &mut self.desired else { return };
        for item in &at_fault {
            desired.items.remove(item);
            if self.doubtful.contains(item) {
                // An earlier command may have added it: it is taken out.
                self.on_wire.insert(item.clone());
                self.removed.insert(item.clone());
            }
        }
        let is_empty = desired.items.is_empty();
        if !at_fault.is_empty() {
            out.refuse(self.channel.clone(), at_fault, Refusal::Server(error));
        }
        self.settle(out, now);
        if is_empty && !self.is_dormant {
            self.desired = None;
            self.close(out, now);
        } else {
            self.reconcile(out, now);
        }
    }

    /// Sends the halves of a refused list.
    fn split_add(&mut self, items: &[String], out: &mut Outbox<P>, now: Instant) {
        let Phase::Active { sid } = self.phase else { return };
        if self.is_closing {
            return;
        }
        let initial_snapshot =
            self.desired.as_ref().is_some_and(|desired| desired.options.initial_snapshot);
        self.on_wire.extend(items.iter().cloned());
        self.in_flight.extend(items.iter().cloned());
        if self.is_book() {
            self.resync.expect(items.iter().cloned(), now, out.limits.snapshot_timeout);
        }
        for half in items.chunks(items.len().div_ceil(2)) {
            self.send_add(sid, half, initial_snapshot, out, now);
        }
    }

    fn delete_refused(
        &mut self,
        items: &[String],
        error: ServerError,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        if error.code == ServerError::COMMAND_TIMEOUT {
            self.doubtful.extend(items.iter().cloned());
        }
        if !error.is_transient() {
            let is_doubtful = items.iter().any(|item| self.doubtful.contains(item));
            let is_gone = error.may_be_about_an_item() && !is_doubtful;
            out.control(Event::ServerError(error));
            if is_gone {
                // The exchange does not have them: it has nothing to take out.
                self.deleted(items, out, now);
                return;
            }
        }
        self.retry_at = Some(self.failures.record(now, &out.limits.backoff));
        let mut back = Vec::new();
        for item in items {
            self.in_flight.remove(item);
            if self.doubtful.contains(item) {
                // The exchange may have carried it out all the same.
                if self.desires(item) {
                    self.on_wire.remove(item);
                    self.removed.remove(item);
                }
                continue;
            }
            // They are on the wire as before. The books of those that are desired again were given
            // up with the deletion that never was.
            if self.desires(item) && self.removed.remove(item) {
                back.push(item.clone());
            }
        }
        if !back.is_empty() && !self.is_closing {
            out.control(Event::Added { channel: self.channel.clone(), items: back.clone() });
            self.lose(back, out, now);
        }
    }

    /// Handles the reply to `unsubscribe`, or that the exchange ended the subscription by itself.
    pub(crate) fn unsubscribed(&mut self, out: &mut Outbox<P>, now: Instant) {
        if self.is_closing {
            self.closed(out, now);
        } else if matches!(self.phase, Phase::Active { .. }) {
            self.terminated(TerminationReason::Unsubscribed, out, now);
        }
    }

    /// Notes that the end, which the exchange did not name, may have been that of another one.
    pub(crate) fn doubt_end(&mut self) {
        self.may_exist |= matches!(self.phase, Phase::BackingOff { .. });
    }

    /// Records that the exchange ended the subscription. It is made anew after a pause.
    pub(crate) fn failed(&mut self, error: ServerError, out: &mut Outbox<P>, now: Instant) {
        self.terminated(TerminationReason::Server(error), out, now);
    }

    /// Records that the subscription ended. It is made anew after a pause.
    pub(crate) fn terminated(
        &mut self,
        reason: TerminationReason,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        let until = self.failures.record(now, &out.limits.backoff);
        out.control(Event::Terminated { channel: self.channel.clone(), reason });
        if self.is_closing {
            self.closed(out, now);
        } else {
            self.leave_wire(out, now);
            self.phase = Phase::BackingOff { until };
        }
    }

    /// Records that the consumer is too slow, and that the subscription is to end for that.
    pub(crate) fn overflowed(&mut self, out: &mut Outbox<P>, now: Instant) {
        self.is_muted = true;
        if self.desired.is_none() || self.is_closing {
            return;
        }
        let reason = TerminationReason::Overflow;
        out.control(Event::Terminated { channel: self.channel.clone(), reason });
        self.unsubscribe(out, now);
    }

    /// Records that the consumer has seen a mark where messages were dropped.
    pub(crate) fn lagged(&mut self, out: &mut Outbox<P>, now: Instant) {
        self.lose_all(out, now);
    }

    /// Requests new snapshots, as the consumer wishes.
    pub(crate) fn refresh(&mut self, items: Vec<String>, out: &mut Outbox<P>, now: Instant) {
        let (known, unknown): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| self.desires(item));
        if !unknown.is_empty() {
            out.refuse(self.channel.clone(), unknown, Refusal::NotSubscribed);
        }
        // Those that are not on the wire get a snapshot when they are.
        let there = known.into_iter().filter(|item| self.on_wire.contains(item)).collect();
        self.lose(there, out, now);
    }

    /// Records that a request for snapshots was refused.
    pub(crate) fn refresh_refused(
        &mut self,
        items: Vec<String>,
        error: ServerError,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        if error.ends_subscription() {
            self.failed(error, out, now);
            return;
        }
        self.resync.refused(&items);
        let items: Vec<String> =
            items.into_iter().filter(|item| self.resync.is_waiting_for(item)).collect();
        let splits = items.len() > 1 && !error.is_transient() && error.may_be_about_an_item();
        if let Phase::Active { sid } = self.phase
            && splits
            && self.splits_left > 0
        {
            self.splits_left -= 1;
            self.resync.expect(items.iter().cloned(), now, out.limits.snapshot_timeout);
            for half in items.chunks(items.len().div_ceil(2)) {
                out.request_snapshots(self.lane, sid, half);
            }
            return;
        }
        // The books keep waiting, and are requested again.
        out.control(Event::ServerError(error));
    }

    /// Reports whether this is the number of the next change of an order book, and nothing has to be
    /// decided about it; the number is taken then.
    #[inline]
    pub(crate) fn is_next_delta(&mut self, seq: Option<i64>, ticker: &str) -> bool {
        !self.is_muted
            && (self.removed.is_empty() || !self.removed.contains(ticker))
            && self.has(ticker)
            && self.tracker.advance(seq)
    }

    /// Handles a message of the subscription.
    pub(crate) fn message(
        &mut self,
        message: Message<P>,
        bytes: usize,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        if self.is_muted {
            return;
        }
        let (snapshot, ticker) = match P::book_part(&message.payload) {
            BookPart::Snapshot(snapshot) => (Some(snapshot.ticker), Some(snapshot.ticker)),
            BookPart::Delta(delta) => (None, Some(delta.market.ticker())),
            BookPart::Other => (None, None),
        };
        // Older documents have no numbers for some messages, and none came with them.
        let counts =
            P::is_sequenced(&message.payload) && (self.is_book() || self.tracker.has_counted());
        let mut has_number = true;
        if message.seq.is_some() || counts {
            match self.tracker.check(message.seq) {
                Continuity::InOrder => {}
                // A requested snapshot may have the number of the message before: it is the book
                // as of that one.
                Continuity::Repeated
                    if snapshot.is_some_and(|ticker| self.resync.is_waiting_for(ticker)) => {}
                Continuity::Repeated => {
                    tracing::debug!(sid = message.sid, seq = message.seq, "a message came twice");
                    return;
                }
                Continuity::Gap { expected, received } => {
                    has_number = received.is_some();
                    self.gap(expected, received, out, now);
                }
            }
        }
        if message.id.is_none() && P::is_list(&message.payload) {
            out.take_query(self.lane);
        }
        let is_removed = !self.removed.is_empty()
            && P::market_ticker(&message.payload).is_some_and(|item| self.removed.contains(item));
        if is_removed {
            out.unmatched(Event::Unmatched(message), bytes);
            return;
        }
        if let Some(ticker) = ticker
            && !self.has(ticker)
        {
            self.misnamed(ticker, message.seq, out, now);
            out.unmatched(Event::Unmatched(message), bytes);
            return;
        }
        let mut has_arrived = false;
        if let Some(ticker) = snapshot {
            let is_known = self.is_adopted || self.on_wire.contains(ticker);
            if !has_number || self.tracker.is_late() || !is_known {
                // Older than what came before it, perhaps, or a book that nothing keeps up to date.
                out.unmatched(Event::Unmatched(message), bytes);
                return;
            }
            if self.is_adopted {
                self.show(ticker);
            }
            out.snapshot_arrived(self.lane, ticker);
            has_arrived = self.resync.arrived(ticker, now, out.limits.snapshot_timeout);
        }
        out.event(Lane::Channel(self.lane), Event::Message(message), bytes);
        if has_arrived {
            self.settle(out, now);
            self.request_snapshots(out, now);
        }
    }

    /// Takes the number of a frame whose content is of no use, or is lost.
    pub(crate) fn counted(
        &mut self,
        seq: Option<i64>,
        is_lost: bool,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        if !self.counts() || seq.is_none() && !is_lost {
            return;
        }
        match self.tracker.check(seq) {
            Continuity::Gap { expected, received } => self.gap(expected, received, out, now),
            Continuity::InOrder if is_lost => self.gap(seq, None, out, now),
            Continuity::InOrder | Continuity::Repeated => {}
        }
    }

    /// Handles a frame that may be of this subscription and cannot be read.
    pub(crate) fn unreadable(&mut self, out: &mut Outbox<P>, now: Instant) {
        if self.counts() && self.sid().is_some() {
            let expected = self.tracker.due();
            self.tracker.skip_unreadable();
            self.gap(expected, None, out, now);
        }
    }

    /// Reports whether the messages of the subscription have numbers.
    fn counts(&self) -> bool {
        self.is_sequenced || self.tracker.has_counted()
    }

    fn gap(
        &mut self,
        expected: Option<i64>,
        received: Option<i64>,
        out: &mut Outbox<P>,
        now: Instant,
    ) {
        let Phase::Active { sid } = self.phase else { return };
        let channel = self.channel.clone();
        tracing::warn!(%channel, sid, expected, received, "messages were lost");
        out.control(Event::Gap { channel, sid, expected, received });
        if self.is_book() {
            self.lose_all(out, now);
        }
    }

    /// Records that no book of the subscription can be relied on.
    fn lose_all(&mut self, out: &mut Outbox<P>, now: Instant) {
        let known = self.on_wire.iter().filter(|item| self.desires(item)).cloned().collect();
        self.lose(known, out, now);
    }

    fn lose(&mut self, items: Vec<String>, out: &mut Outbox<P>, now: Instant) {
        if self.is_book() && !self.is_closing && self.sid().is_some() && !items.is_empty() {
            self.resync.lose(items, now);
            self.request_snapshots(out, now);
        }
    }

    /// Requests the snapshots that are due.
    fn request_snapshots(&mut self, out: &mut Outbox<P>, now: Instant) {
        let Phase::Active { sid } = self.phase else { return };
        if self.is_closing || out.is_passive {
            return;
        }
        let (timeout, backoff) = (out.limits.snapshot_timeout, out.limits.backoff.clone());
        if let Some(items) = self.resync.request(now, timeout, &backoff) {
            self.splits_left = MAX_SPLITS;
            out.request_snapshots(self.lane, sid, &items);
        }
    }

    /// Reports that every book has its snapshot, when that is so after a loss.
    fn settle(&mut self, out: &mut Outbox<P>, now: Instant) {
        if !self.resync.is_settled() {
            return;
        }
        out.snapshots_settled(self.lane);
        if self.resync.settle(now)
            && let Phase::Active { sid } = self.phase
        {
            out.control(Event::Resynced { channel: self.channel.clone(), sid });
        }
    }

    /// Records that time has passed.
    pub(crate) fn tick(&mut self, out: &mut Outbox<P>, now: Instant) {
        match self.phase {
            Phase::BackingOff { until } if until <= now => self.subscribe(out, now),
            Phase::Active { sid } => {
                if self.retry_at.is_some_and(|at| at <= now) {
                    self.retry_at = None;
                    if self.is_closing {
                        let action = Action::Unsubscribe { sid };
                        out.command(PendingKind::Unsubscribe(self.lane), action, now);
                    } else {
                        self.reconcile(out, now);
                    }
                }
                if let Some(items) = self.resync.overdue(now)
                    && !out.is_passive
                {
                    // They have never been read: no other book is in doubt.
                    out.control(Event::Overdue { channel: self.channel.clone(), sid, items });
                }
                self.request_snapshots(out, now);
            }
            _ => {}
        }
    }
}
