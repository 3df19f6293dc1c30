//! The decisions of a connection, without doing any of it.
//!
//! Pure: frames, requests and times go in; commands, events and the end of the connection come out.
//! [`SessionState`] routes; a [`ChannelState`] decides for its channel: what is desired, what is on
//! the wire, the sequence numbers, and the order books that wait for a snapshot.
//!
//! The rule of the whole: when quiet, what is on the wire is what is desired, and every request has
//! been answered by an event. `model.rs` tests it with random exchanges and random consumers.

#[cfg(test)]
mod cases;
mod channel;
#[cfg(test)]
mod findings;
#[cfg(test)]
mod model;
mod outbox;
mod resync;
mod sequence;
#[cfg(test)]
mod soak;

use std::{collections::VecDeque, time::Duration};

use kalshi_types::UnixMillis;
use tokio::{sync::oneshot, time::Instant};

use self::channel::ChannelState;
use self::outbox::{Answered, Outbox, PendingKind};
pub(crate) use self::outbox::{Lane, Output};
use crate::{
    connection::backoff::Backoff,
    error::CommandError,
    event::{DisconnectReason, Event, Refusal, TerminationReason},
    generated::types::ListSubscriptionsResponseItem,
    product::{BookPart, EventContracts, Product},
    protocol::{
        command::{Action, Update},
        frame::Frame,
        message::{Message, ServerError, Sid},
    },
    subscription::Subscription,
};

/// The number of messages that wait for the confirmation of their subscription.
const MAX_UNMATCHED: usize = 10_000;

/// The bytes of such messages.
const MAX_UNMATCHED_BYTES: usize = 64 << 20;

/// The number of ends of subscriptions that wait for the confirmation.
const MAX_ENDED: usize = 64;

/// The time for which such a message waits.
const UNMATCHED_PATIENCE: Duration = Duration::from_secs(10);

/// A request of the consumer.
#[derive(Debug)]
pub(crate) enum Request<P: Product = EventContracts> {
    Subscribe(Box<Subscription<P>>),
    Unsubscribe(P::Channel),
    Add(P::Channel, Vec<String>),
    Delete(P::Channel, Vec<String>),
    /// New snapshots of order books.
    Snapshot(Vec<String>),
    /// The indices or underlyings of a channel; the reply is a message.
    ListItems(P::Channel),
    ListSubscriptions(oneshot::Sender<Result<Vec<ListSubscriptionsResponseItem>, CommandError>>),
}

/// The limits of a session.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) command_timeout: Duration,
    pub(crate) snapshot_timeout: Duration,
    pub(crate) stale_after: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) items_per_command: usize,
}

/// The state of one connection and of what is to survive it.
pub(crate) struct SessionState<P: Product = EventContracts> {
    channels: Vec<ChannelState<P>>,
    out: Outbox<P>,
    /// Messages of subscriptions that are not confirmed yet.
    unmatched: VecDeque<Unmatched<P>>,
    unmatched_bytes: usize,
    /// Subscriptions that ended before their confirmation.
    ended: VecDeque<(Sid, TerminationReason)>,
    last_frame: Instant,
    /// The clocks as they were compared last.
    clocks: Option<(Instant, UnixMillis)>,
}

struct Unmatched<P: Product> {
    until: Instant,
    message: Message<P>,
    bytes: usize,
}

impl<P: Product> SessionState<P> {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            channels: Vec::new(),
            out: Outbox::new(limits),
            unmatched: VecDeque::new(),
            unmatched_bytes: 0,
            ended: VecDeque::new(),
            last_frame: now,
            clocks: None,
        }
    }

    /// Returns a session that takes its subscriptions from the confirmations that it reads and from
    /// the commands that it is [told of](Self::sent), and sends nothing of its own accord.
    pub(crate) fn passive(limits: Limits, now: Instant) -> Self {
        let mut session = Self::new(limits, now);
        session.out.is_passive = true;
        session
    }

    /// Returns what is to be done next.
    pub(crate) fn output(&mut self) -> Option<Output<P>> {
        self.out.outputs.pop_front()
    }

    /// Handles a new connection; `attempts` is the number of attempts if there was one before.
    pub(crate) fn connected(&mut self, now: Instant, attempts: Option<u32>) {
        self.out.is_connected = true;
        self.last_frame = now;
        self.clocks = None;
        if let Some(attempts) = attempts {
            self.out.control(Event::Reconnected { attempts });
        }
        for channel in &mut self.channels {
            channel.subscribe(&mut self.out, now);
        }
    }

    /// Handles the loss of the connection, and with it of all numbers.
    pub(crate) fn disconnected(&mut self, reason: DisconnectReason, now: Instant) {
        self.out.disconnected();
        for Unmatched { message, bytes, .. } in std::mem::take(&mut self.unmatched) {
            self.out.unmatched(Event::Unmatched(message), bytes);
        }
        self.unmatched_bytes = 0;
        self.ended.clear();
        for channel in &mut self.channels {
            channel.disconnected(&mut self.out, now);
        }
        self.out.outputs.push_back(Output::ForgetAllNames);
        self.out.control(Event::Disconnected { reason });
    }

    /// Notes that the connection is alive.
    pub(crate) fn record_activity(&mut self, now: Instant) {
        self.last_frame = now;
    }

    /// Compares the wall clock with the monotonic one, which stands still while the machine sleeps.
    pub(crate) fn compare_clocks(&mut self, now: Instant, wall: UnixMillis) {
        let Some((then, wall_then)) = self.clocks.replace((now, wall)) else { return };
        let by_wall = if wall > wall_then { wall.abs_diff(wall_then) } else { Duration::ZERO };
        let awake = now.saturating_duration_since(then);
        if self.out.is_connected && by_wall.saturating_sub(awake) > self.out.limits.stale_after {
            self.out.control(Event::Stale { silent_for: by_wall });
            self.out.outputs.push_back(Output::Drop(DisconnectReason::Suspended));
        }
    }

    /// Reports whether everything that is on the wire has been confirmed.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.out.is_connected
            && !self.out.awaits_reply()
            && self.channels.iter().all(ChannelState::is_confirmed)
    }

    /// Reports whether no order book waits for a snapshot.
    #[cfg(test)]
    pub(crate) fn is_settled(&self) -> bool {
        self.channels.iter().all(ChannelState::is_settled)
    }

    pub(crate) fn request(&mut self, request: Request<P>, now: Instant) {
        match request {
            Request::Subscribe(subscription) => {
                let channel = &subscription.channel;
                let lane = self.channels.len();
                let at = self.channels.iter().position(|state| state.channel == *channel);
                if at.is_none() {
                    self.channels.push(ChannelState::new(lane, channel.clone()));
                }
                if let Some(state) = self.channels.get_mut(at.unwrap_or(lane)) {
                    state.want(*subscription, &mut self.out, now);
                }
            }
            Request::Unsubscribe(channel) => match self.desired(&channel) {
                Some((state, out)) => state.unsubscribe(out, now),
                None => self.out.refuse(channel, Vec::new(), Refusal::NotSubscribed),
            },
            Request::Add(channel, items) => match self.desired(&channel) {
                Some((state, out)) => state.add(items, out, now),
                None => self.out.refuse(channel, items, Refusal::NotSubscribed),
            },
            Request::Delete(channel, items) => match self.desired(&channel) {
                Some((state, out)) => state.delete(items, out, now),
                None => self.out.refuse(channel, items, Refusal::NotSubscribed),
            },
            Request::Snapshot(items) => match self.desired(&P::book_channel()) {
                Some((state, out)) => state.refresh(items, out, now),
                None => self.out.refuse(P::book_channel(), items, Refusal::NotSubscribed),
            },
            Request::ListItems(channel) => {
                let active = self
                    .desired(&channel)
                    .and_then(|(state, out)| state.sid().map(|sid| (state.lane, sid, out)));
                match active {
                    Some((lane, sid, out)) => {
                        let (update, items) = (Update::List, Vec::new());
                        let action = Action::Update { channel, sid, update, items };
                        out.command(PendingKind::Query(lane), action, now);
                    }
                    None => self.out.refuse(channel, Vec::new(), Refusal::NotSubscribed),
                }
            }
            Request::ListSubscriptions(reply) if self.out.is_connected => {
                self.out.command(PendingKind::List(reply), Action::ListSubscriptions, now);
            }
            Request::ListSubscriptions(reply) => {
                // The caller may have gone.
                let _ = reply.send(Err(CommandError::Disconnected));
            }
        }
    }

    /// Notes that the consumer has seen that messages of the channel were dropped on the way to it.
    pub(crate) fn lagged(&mut self, lane: usize, now: Instant) {
        if let Some(state) = self.channels.get_mut(lane) {
            state.lagged(&mut self.out, now);
        }
    }

    /// Notes that the consumer is too slow for the channel, whose policy is to fail.
    pub(crate) fn overflowed(&mut self, lane: usize, now: Instant) {
        if let Some(state) = self.channels.get_mut(lane) {
            state.overflowed(&mut self.out, now);
        }
    }

    /// Handles a frame of `bytes` bytes. Its consequences are the next [outputs](Self::output),
    /// unless they are one event for one lane: that is returned at once, and there is no output.
    #[inline]
    pub(crate) fn frame(
        &mut self,
        frame: Frame<P>,
        bytes: usize,
        now: Instant,
    ) -> Option<(Lane, Event<P>)> {
        self.last_frame = now;
        let message = match frame {
            Frame::Message(message) => message,
            other => {
                self.reply(other, bytes, now);
                return None;
            }
        };
        if let Some(lane) = message.sid.and_then(|sid| {
            let BookPart::Delta(delta) = P::book_part(&message.payload) else { return None };
            let ticker = delta.market.ticker();
            if message.id.is_some() { None } else { self.next_delta(sid, message.seq, ticker, now) }
        }) {
            return Some((lane, Event::Message(message)));
        }
        self.message(message, bytes, now);
        None
    }

    /// Takes the number of a change of an order book and returns its lane, if it is the one that is
    /// due and nothing has to be decided about it. If not, nothing has changed: it is a
    /// [frame](Self::frame) like others.
    #[inline]
    pub(crate) fn next_delta(
        &mut self,
        sid: Sid,
        seq: Option<i64>,
        ticker: &str,
        now: Instant,
    ) -> Option<Lane> {
        if !self.out.outputs.is_empty() {
            return None;
        }
        let state = self.by_sid(sid)?;
        if !state.is_next_delta(seq, ticker) {
            return None;
        }
        let lane = state.lane;
        self.last_frame = now;
        Some(Lane::Channel(lane))
    }

    /// Records that time has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        if !self.out.is_connected {
            return;
        }
        let silent_for = now.saturating_duration_since(self.last_frame);
        if silent_for >= self.out.limits.stale_after {
            self.out.control(Event::Stale { silent_for });
            self.out.outputs.push_back(Output::Drop(DisconnectReason::Silent));
            return;
        }
        for lane in self.out.unanswered(now) {
            let channel = self.channels.get(lane).map(|state| state.channel.clone());
            self.out.control(Event::Unanswered { channel });
        }
        if self.out.is_overdue(now) {
            self.out.outputs.push_back(Output::Drop(DisconnectReason::CommandTimeout));
            return;
        }
        while self.unmatched.front().is_some_and(|front| front.until <= now) {
            self.give_up_oldest();
        }
        for state in &mut self.channels {
            state.tick(&mut self.out, now);
        }
    }

    #[inline(never)]
    fn message(&mut self, message: Message<P>, bytes: usize, now: Instant) {
        self.out.take_query_by_id(message.id);
        let renamed = P::ticker_change(&message.payload);
        let renamed = renamed.map(|(old, new)| (old.to_owned(), new.to_owned()));
        let Some(sid) = message.sid else {
            // It may be of any subscription that sends such messages, and have had a number there.
            self.misplaced(Some(P::kind(&message.payload)), now);
            self.out.unmatched(Event::Unmatched(message), bytes);
            return;
        };
        match self.channels.iter_mut().find(|state| state.sid() == Some(sid)) {
            Some(state) => state.message(message, bytes, &mut self.out, now),
            None => return self.hold(message, bytes, now),
        }
        if let Some((old, new)) = renamed {
            for state in &mut self.channels {
                state.renamed(&old, &new, &mut self.out, now);
            }
        }
    }

    /// Keeps a message of a subscription that is not known (yet).
    fn hold(&mut self, message: Message<P>, bytes: usize, now: Instant) {
        if !self.out.is_passive && !self.channels.iter().any(ChannelState::is_pending) {
            self.out.unmatched(Event::Unmatched(message), bytes);
            return;
        }
        self.unmatched_bytes += bytes;
        let until = after(now, UNMATCHED_PATIENCE);
        self.unmatched.push_back(Unmatched { until, message, bytes });
        while self.unmatched.len() > MAX_UNMATCHED || self.unmatched_bytes > MAX_UNMATCHED_BYTES {
            self.give_up_oldest();
        }
    }

    fn give_up_oldest(&mut self) {
        if let Some(Unmatched { message, bytes, .. }) = self.unmatched.pop_front() {
            self.unmatched_bytes -= bytes;
            self.out.unmatched(Event::Unmatched(message), bytes);
        }
    }

    /// Voids what may have been changed by a frame whose subscription cannot be told.
    fn misplaced(&mut self, kind: Option<&str>, now: Instant) {
        let channels = kind
            .and_then(|name| P::message_kinds().iter().find(|kind| kind.name == name))
            .map(|kind| kind.channels);
        for state in &mut self.channels {
            if channels.is_none_or(|channels| channels.contains(&state.channel)) {
                state.unreadable(&mut self.out, now);
            }
        }
    }

    fn reply(&mut self, frame: Frame<P>, bytes: usize, now: Instant) {
        match frame {
            Frame::Message(message) => self.message(message, bytes, now),
            Frame::Subscribed { id, channel, sid, .. } => {
                self.subscribed(id, &P::Channel::from(channel), sid, now);
            }
            Frame::Unsubscribed { id, sid, .. } => {
                let pending = self.out.take(id);
                let lane = match pending {
                    Some(PendingKind::Unsubscribe(lane)) if !self.out.is_passive => Some(lane),
                    _ => self.by_sid(sid).map(|state| state.lane),
                };
                match lane.and_then(|lane| self.channels.get_mut(lane)) {
                    Some(state) => state.unsubscribed(&mut self.out, now),
                    None => self.remember_end(sid, TerminationReason::Unsubscribed),
                }
            }
            Frame::Done { id, sid, seq, items, .. } => {
                if let Some(state) = sid.and_then(|sid| self.by_sid(sid)) {
                    state.tracker.reply(seq);
                }
                let lane = sid.and_then(|sid| self.by_sid(sid)).map(|state| state.lane);
                match self.out.take_done(id, sid, lane) {
                    Answered::Command(PendingKind::Subscribe(lane)) => {
                        self.subscribed_already(lane, sid, seq, items.market_tickers, now);
                    }
                    Answered::Command(PendingKind::Add(lane, items)) => {
                        if let Some(state) = self.channels.get_mut(lane) {
                            state.added(items, &mut self.out, now);
                        }
                    }
                    Answered::Command(PendingKind::Delete(lane, items)) => {
                        if let Some(state) = self.channels.get_mut(lane) {
                            state.deleted(&items, &mut self.out, now);
                        }
                    }
                    Answered::Contradiction => self.contradicted(),
                    // An answer to something else says no more than that it was carried out.
                    _ => {}
                }
            }
            Frame::Subscriptions { id, list, .. } => {
                if let Some(PendingKind::List(reply)) = self.out.take_list(id) {
                    // The caller may have gone.
                    let _ = reply.send(Ok(list));
                }
            }
            Frame::Error { id, sid, seq, error, .. } => {
                if let Some(state) = sid.and_then(|sid| self.by_sid(sid)) {
                    state.tracker.reply(seq);
                }
                self.error(id, sid, error, now);
            }
            Frame::Unknown(unknown) => {
                let lane = match (unknown.sid, unknown.seq) {
                    (Some(sid), seq) => self.counted(sid, seq, false, now),
                    (None, Some(_)) => {
                        self.misplaced(None, now);
                        Lane::Unmatched
                    }
                    // A message to the connection, not to a subscription.
                    (None, None) => Lane::Unmatched,
                };
                self.out.event(lane, Event::Unknown(unknown), bytes);
            }
            Frame::Malformed(malformed) => {
                let lane = if let Some(sid) = malformed.sid {
                    self.counted(sid, malformed.seq, true, now)
                } else {
                    self.misplaced(malformed.kind.as_deref(), now);
                    Lane::Unmatched
                };
                self.out.event(lane, Event::Malformed(malformed), bytes);
            }
        }
    }

    /// Takes the number of a frame whose content is of no use.
    fn counted(&mut self, sid: Sid, seq: Option<i64>, is_lost: bool, now: Instant) -> Lane {
        match self.channels.iter_mut().find(|state| state.sid() == Some(sid)) {
            Some(state) => {
                state.counted(seq, is_lost, &mut self.out, now);
                Lane::Channel(state.lane)
            }
            None => Lane::Unmatched,
        }
    }

    fn subscribed(&mut self, id: Option<i64>, channel: &P::Channel, sid: Sid, now: Instant) {
        if self.out.is_guessed(id) && self.by_sid(sid).is_none() {
            self.contradicted();
            return;
        }
        let lane = match self.out.take(id) {
            Some(PendingKind::Subscribe(lane)) if self.may_confirm(lane, channel) => Some(lane),
            _ if self.out.is_passive => Some(self.adopt(channel)),
            // A reply to another command answers nothing of this session.
            _ if id.is_some() => None,
            _ => {
                let pending = self.channels.iter();
                let mut pending = pending.filter(|state| state.is_pending());
                pending.find(|state| state.channel == *channel).map(|state| state.lane)
            }
        };
        let Some(state) = lane.and_then(|lane| self.channels.get_mut(lane)) else {
            tracing::debug!(%channel, sid, "a subscription was confirmed that was not requested");
            return;
        };
        self.out.guess_subscribe(state.lane);
        state.confirmed(sid, None, &mut self.out, now);
        self.release(sid, now);
    }

    /// Remembers the end of a subscription whose confirmation may still come.
    fn remember_end(&mut self, sid: Sid, reason: TerminationReason) {
        if !self.channels.iter().any(ChannelState::is_pending) {
            return;
        }
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((sid, reason));
    }

    /// Records that a subscription is confirmed by `ok`: the exchange had one already, and merged
    /// the two.
    fn subscribed_already(
        &mut self,
        lane: usize,
        sid: Option<Sid>,
        seq: Option<i64>,
        tickers: Vec<String>,
        now: Instant,
    ) {
        let taken = |sid| self.by_sid_of(sid).is_some_and(|owner| owner != lane);
        let Some(sid) = sid.filter(|sid| !taken(*sid)) else {
            // There is a subscription whose number is not known: only a new connection helps.
            let reason = DisconnectReason::UnknownSubscription;
            self.out.outputs.push_back(Output::Drop(reason));
            return;
        };
        let Some(state) = self.channels.get_mut(lane) else { return };
        state.merged(tickers);
        state.confirmed(sid, seq, &mut self.out, now);
        self.release(sid, now);
    }

    /// Handles what came before the confirmation of its subscription: messages, or even the end.
    fn release(&mut self, sid: Sid, now: Instant) {
        let ended = self.ended.iter().position(|(ended, _)| *ended == sid);
        if let Some((_, reason)) = ended.and_then(|at| self.ended.remove(at)) {
            let state = self.channels.iter_mut().find(|state| state.sid() == Some(sid));
            if let Some(state) = state {
                state.terminated(reason, &mut self.out, now);
            }
        }
        let (ours, others): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.unmatched)
            .into_iter()
            .partition(|u| u.message.sid == Some(sid));
        self.unmatched_bytes = others.iter().map(|other| other.bytes).sum();
        self.unmatched = others;
        for Unmatched { message, bytes, .. } in ours {
            self.message(message, bytes, now);
        }
    }

    fn error(&mut self, id: Option<i64>, sid: Option<Sid>, error: ServerError, now: Instant) {
        if self.out.is_abandoned(id) {
            // The end of its subscription has been reported.
            tracing::debug!(id, %error, "a command came too late");
            return;
        }
        let lane = sid.and_then(|sid| self.by_sid_of(sid));
        // An end without an id is no answer.
        let answered = match id {
            None if error.is_terminal() => Answered::Nothing,
            _ => self.out.take_error(id, lane),
        };
        let kind = match answered {
            Answered::Command(PendingKind::List(reply)) => {
                // The caller may have gone.
                let _ = reply.send(Err(CommandError::Refused(error)));
                return;
            }
            Answered::Command(kind) => kind,
            Answered::Snapshots(request) => {
                let state = self.channels.get_mut(request.lane);
                if let Some(state) = state.filter(|state| state.sid() == Some(request.sid)) {
                    let items = request.items.into_iter().collect();
                    state.refresh_refused(items, error, &mut self.out, now);
                }
                return;
            }
            Answered::Contradiction => return self.contradicted(),
            Answered::Nothing => return self.error_without_command(lane, sid, error, now),
        };
        if let Some(state) = kind.lane().and_then(|lane| self.channels.get_mut(lane)) {
            if id.is_none() {
                // It may have been the answer to another command.
                state.doubt(&kind);
            }
            state.command_refused(kind, error, &mut self.out, now);
        }
    }

    /// Gives up a connection whose replies cannot be told apart: what the exchange has is not known.
    fn contradicted(&mut self) {
        self.out.outputs.push_back(Output::Drop(DisconnectReason::ContradictoryReply));
    }

    fn error_without_command(
        &mut self,
        lane: Option<usize>,
        sid: Option<Sid>,
        error: ServerError,
        now: Instant,
    ) {
        if !error.is_terminal() {
            self.out.control(Event::ServerError(error));
            return;
        }
        if let Some(lane) = lane {
            self.end(lane, error, now);
            return;
        }
        let may_be = |state: &&ChannelState<P>| state.sid().is_some() || state.is_pending();
        let mut candidates = self.channels.iter().filter(may_be).map(|state| state.lane);
        match (sid, candidates.next(), candidates.next()) {
            // One that is over already, or none, or one that is not confirmed yet.
            (Some(sid), ..) => {
                self.remember_end(sid, TerminationReason::Server(error.clone()));
                self.out.control(Event::ServerError(error));
            }
            (None, None, _) => self.out.control(Event::ServerError(error)),
            (None, Some(only), None) => {
                self.end(only, error, now);
                if let Some(state) = self.channels.get_mut(only) {
                    state.doubt_end();
                }
            }
            // One of several is dead, and the exchange does not say which: none can be relied on.
            (None, Some(_), Some(_)) => {
                let reason = DisconnectReason::SubscriptionLost(error);
                self.out.outputs.push_back(Output::Drop(reason));
            }
        }
    }

    /// Records that a subscription, confirmed or requested, is dead.
    fn end(&mut self, lane: usize, error: ServerError, now: Instant) {
        let Some(state) = self.channels.get_mut(lane) else { return };
        if state.is_pending() {
            self.out.guess_subscribe(lane);
            state.command_refused(PendingKind::Subscribe(lane), error, &mut self.out, now);
        } else {
            state.failed(error, &mut self.out, now);
        }
    }

    /// Returns the state of a channel that the consumer desires, and where its consequences go.
    fn desired(&mut self, channel: &P::Channel) -> Option<(&mut ChannelState<P>, &mut Outbox<P>)> {
        let state = self.channels.iter_mut().find(|state| state.channel == *channel)?;
        state.is_desired().then_some((state, &mut self.out))
    }

    #[inline]
    fn by_sid(&mut self, sid: Sid) -> Option<&mut ChannelState<P>> {
        self.channels.iter_mut().find(|state| state.sid() == Some(sid))
    }

    fn by_sid_of(&self, sid: Sid) -> Option<usize> {
        self.channels.iter().find(|state| state.sid() == Some(sid)).map(|state| state.lane)
    }
}

/// Returns the instant `duration` after `now`, or one far in the future if that overflows.
pub(crate) fn after(now: Instant, duration: Duration) -> Instant {
    const DECADES: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now.checked_add(duration.min(DECADES)).unwrap_or(now)
}
