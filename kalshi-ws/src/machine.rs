//! What a stream decides, without doing any of it.
//!
//! Pure: frames, requests and times go in; commands, events and the wish for a new connection come
//! out. Here are the wishes of the consumer, the subscriptions of the connection, their sequence
//! numbers, and the market books that wait for a snapshot.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    command::{self, Update},
    config::Backoff,
    error::CommandError,
    event::{DisconnectReason, EndReason, Event, Refusal},
    frame::Frame,
    generated::{Channel, MESSAGE_KINDS, Payload, types::ListSubscriptionsResponseItem},
    message::{Message, ServerError, Sid},
    subscription::{Overflow, Subscription},
};

/// Frames of subscriptions that are not confirmed yet.
const MAX_HELD: usize = 10_000;

/// How long such a frame waits for the confirmation.
const HOLD: Duration = Duration::from_secs(10);

/// Commands whose answers are recognised when they come late.
const MAX_REMEMBERED: usize = 1_024;

/// Snapshots are not asked for more often than this, however fast the gaps come.
const RESYNC_PAUSE: Duration = Duration::from_millis(50);

/// The queue that an event waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Never dropped.
    Control,
    /// Messages that belong to no subscription.
    Stray,
    /// Messages of a subscription.
    Slot(usize),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    Send(String),
    Event(Lane, Event),
    /// Prepare the queue of a subscription.
    Lane {
        slot: usize,
        channel: Channel,
        overflow: Overflow,
        capacity: usize,
    },
    /// Give up the connection.
    Drop(DisconnectReason),
}

/// What a consumer asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Subscribe(Box<Subscription>),
    Unsubscribe(Channel),
    Add(Channel, Vec<String>),
    Delete(Channel, Vec<String>),
    /// New snapshots of order books.
    Snapshot(Vec<String>),
    /// What can be subscribed to on the channel; the reply is a message.
    ListItems(Channel),
    ListSubscriptions(oneshot::Sender<Result<Vec<ListSubscriptionsResponseItem>, CommandError>>),
}

/// What bounds a machine.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) command_timeout: Duration,
    pub(crate) snapshot_timeout: Duration,
    pub(crate) stale_after: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) items_per_command: usize,
}

pub(crate) struct Machine {
    limits: Limits,
    slots: Vec<Slot>,
    pending: BTreeMap<i64, Pending>,
    /// The last requests for snapshots, and the subscriptions that they are for.
    snapshots: VecDeque<(i64, Sid)>,
    /// The last commands without an answer whose subscription is over.
    moot: VecDeque<i64>,
    next_id: i64,
    held: VecDeque<(Instant, Message)>,
    out: VecDeque<Output>,
    up: bool,
    last_frame: Instant,
    /// Subscriptions come from the confirmations that are read: a recording is played back.
    passive: bool,
}

/// One channel: the wish, and what has become of it.
struct Slot {
    wish: Subscription,
    phase: Phase,
    /// How often in a row the subscription has died.
    deaths: u32,
    /// The items that the exchange has been told of.
    on_wire: BTreeSet<String>,
    /// Changes of the items are not sent before then.
    retry_at: Option<Instant>,
    /// Whether the channel counts its messages.
    counts: bool,
    counter: Counter,
    books: Waiting,
    /// Markets that were taken out on this connection, whose last messages may still come.
    removed: HashSet<String>,
    /// The consumer was too slow for it, and gets no more of it.
    deaf: bool,
    /// It is to end: with a wish that follows, or for good.
    leaving: Option<Next>,
}

/// The market books that wait for a snapshot.
#[derive(Default)]
struct Waiting {
    markets: BTreeSet<String>,
    /// They wait because something was lost.
    resyncing: bool,
    /// When they are asked for again, and how often that has been done in vain.
    ask_at: Option<Instant>,
    asked: u32,
    /// When they were asked for last.
    asked_at: Option<Instant>,
    /// They are asked for at that time even if some of them come before it.
    urgent: bool,
}

/// What follows a subscription that is to end.
enum Next {
    Nothing,
    Wish(Box<Subscription>),
}

/// The sequence numbers of a subscription.
#[derive(Default)]
struct Counter {
    last: Option<i64>,
    /// `last` comes from a reply to a command: a message may have the same number.
    last_is_reply: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody wishes for it.
    Gone,
    /// Not on the wire.
    Idle,
    Asked,
    Live {
        sid: Sid,
        since: Instant,
    },
    /// To be asked for again.
    Paused {
        until: Instant,
    },
}

/// A command without an answer.
struct Pending {
    what: Asked,
    deadline: Instant,
}

enum Asked {
    Subscribe(usize),
    Unsubscribe(usize),
    Add(usize, Vec<String>),
    Delete(usize, Vec<String>),
    /// Answered by messages.
    Query(usize),
    List(oneshot::Sender<Result<Vec<ListSubscriptionsResponseItem>, CommandError>>),
}

/// What a sequence number says.
enum Order {
    Right,
    Again,
    Gap { expected: Option<i64>, received: Option<i64> },
}

impl Machine {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            pending: BTreeMap::new(),
            snapshots: VecDeque::new(),
            moot: VecDeque::new(),
            next_id: 0,
            held: VecDeque::new(),
            out: VecDeque::new(),
            up: false,
            last_frame: now,
            passive: false,
        }
    }

    /// A machine that takes its subscriptions from the confirmations that it reads, and sends
    /// nothing of its own accord.
    pub(crate) fn passive(limits: Limits, now: Instant) -> Self {
        Self { passive: true, ..Self::new(limits, now) }
    }

    /// What is to be done next.
    pub(crate) fn output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// There is a connection; `attempts` says how many it took if there was one before.
    pub(crate) fn connected(&mut self, now: Instant, attempts: Option<u32>) {
        self.up = true;
        self.last_frame = now;
        if let Some(attempts) = attempts {
            self.control(Event::Reconnected { attempts });
        }
        for index in 0..self.slots.len() {
            self.subscribe(index, now);
        }
    }

    /// The connection is lost, and with it all numbers.
    pub(crate) fn disconnected(&mut self, reason: DisconnectReason) {
        self.up = false;
        for pending in std::mem::take(&mut self.pending).into_values() {
            if let Asked::List(reply) = pending.what {
                // Nobody waits for it any more, then.
                let _ = reply.send(Err(CommandError::Disconnected));
            }
        }
        self.snapshots.clear();
        self.moot.clear();
        for (_, message) in std::mem::take(&mut self.held) {
            self.stray(Event::Unmatched(message));
        }
        for slot in &mut self.slots {
            slot.forget();
        }
        for index in 0..self.slots.len() {
            if self.slots.get(index).is_some_and(|slot| slot.leaving.is_some()) {
                self.left(index);
            }
        }
        self.control(Event::Disconnected { reason });
    }

    /// Something came, a ping for example.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_frame = now;
    }

    pub(crate) fn request(&mut self, request: Request, now: Instant) {
        match request {
            Request::Subscribe(wish) => self.wish(*wish, now),
            Request::Unsubscribe(channel) => match self.wished(&channel) {
                Some(index) => self.leave(index, Next::Nothing, now),
                None => self.refused(channel, Vec::new(), Refusal::NotSubscribed),
            },
            Request::Add(channel, items) => match self.wished(&channel) {
                Some(index) => self.add(index, items, now),
                None => self.refused(channel, items, Refusal::NotSubscribed),
            },
            Request::Delete(channel, items) => match self.wished(&channel) {
                Some(index) => self.delete(index, &items, now),
                None => self.refused(channel, items, Refusal::NotSubscribed),
            },
            Request::Snapshot(items) => match self.wished(&Channel::OrderbookDelta) {
                Some(index) => {
                    let Some(slot) = self.slots.get_mut(index) else { return };
                    if !matches!(slot.phase, Phase::Live { .. }) {
                        return;
                    }
                    // Those that are not on the wire get a snapshot when they are.
                    let items = items.into_iter().filter(|item| slot.on_wire.contains(item));
                    slot.books.markets.extend(items);
                    slot.books.resyncing = true;
                    self.ask_for_snapshots(index, now);
                }
                None => self.refused(Channel::OrderbookDelta, items, Refusal::NotSubscribed),
            },
            Request::ListItems(channel) => {
                let live = self.wished(&channel).and_then(|index| Some((index, self.sid(index)?)));
                match live {
                    Some((index, sid)) => {
                        let id = self.ask(Asked::Query(index), now);
                        let text = command::update(id, &channel, sid, Update::List, Vec::new());
                        self.out.push_back(Output::Send(text));
                    }
                    None => self.refused(channel, Vec::new(), Refusal::NotSubscribed),
                }
            }
            Request::ListSubscriptions(reply) if self.up => {
                let id = self.ask(Asked::List(reply), now);
                self.out.push_back(Output::Send(command::list_subscriptions(id)));
            }
            Request::ListSubscriptions(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(Err(CommandError::Disconnected));
            }
        }
    }

    /// The consumer has seen that messages of the channel were dropped on the way to it.
    pub(crate) fn lagged(&mut self, slot: usize, now: Instant) {
        let books = |slot: &Slot| slot.wish.channel == Channel::OrderbookDelta;
        if self.slots.get(slot).is_some_and(books) && self.sid(slot).is_some() {
            self.resync(slot, now);
        }
    }

    /// The consumer is too slow for the channel, whose policy is to fail.
    pub(crate) fn overflowed(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.deaf = true;
        if slot.leaving.is_some() || slot.phase == Phase::Gone {
            return;
        }
        let channel = slot.wish.channel.clone();
        self.control(Event::Ended { channel, reason: EndReason::Overflow });
        self.leave(index, Next::Nothing, now);
    }

    /// A frame came. What it means is told by [`output`](Self::output), unless all of it is one
    /// event for one lane: that is given back at once, and there is no output.
    #[inline]
    pub(crate) fn frame(&mut self, frame: Frame, now: Instant) -> Option<(Lane, Event)> {
        self.last_frame = now;
        let message = match frame {
            Frame::Message(message) => message,
            other => {
                self.other(other, now);
                return None;
            }
        };
        if let Some(index) = message.sid.and_then(|sid| self.by_sid(sid))
            && let Some(slot) = self.slots.get_mut(index)
            && matches!(message.payload, Payload::OrderbookDelta(_))
            && slot.removed.is_empty()
            && !slot.deaf
            && message.id.is_none()
            && self.out.is_empty()
            && slot.counter.continues(message.seq)
        {
            return Some((Lane::Slot(index), Event::Message(message)));
        }
        self.message(message, now);
        None
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        if !self.up {
            return;
        }
        let silent_for = now.saturating_duration_since(self.last_frame);
        if silent_for >= self.limits.stale_after {
            self.control(Event::Stale { silent_for });
            self.out.push_back(Output::Drop(DisconnectReason::Silent));
            return;
        }
        if self.pending.values().any(|pending| pending.deadline <= now) {
            self.out.push_back(Output::Drop(DisconnectReason::CommandTimeout));
            return;
        }
        while self.held.front().is_some_and(|(until, _)| *until <= now)
            && let Some((_, message)) = self.held.pop_front()
        {
            self.stray(Event::Unmatched(message));
        }
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            match slot.phase {
                Phase::Paused { until } if until <= now => self.subscribe(index, now),
                Phase::Live { sid, .. } => {
                    if slot.retry_at.is_some_and(|at| at <= now) {
                        slot.retry_at = None;
                        self.reconcile(index, now);
                    }
                    let Some(slot) = self.slots.get_mut(index) else { continue };
                    if slot.books.ask_at.is_some_and(|at| at <= now) {
                        if !slot.books.resyncing {
                            // Those that are waited for have never been read: no other book is in
                            // doubt.
                            let channel = slot.wish.channel.clone();
                            let items = slot.books.markets.iter().cloned().collect();
                            self.control(Event::Overdue { channel, sid, items });
                        }
                        self.ask_for_snapshots(index, now);
                    }
                }
                _ => {}
            }
        }
    }

    #[inline(never)]
    fn message(&mut self, message: Message, now: Instant) {
        if let Some(id) = message.id {
            self.pending.remove(&id);
        }
        let Some(index) = message.sid.and_then(|sid| self.by_sid(sid)) else {
            self.hold(message, now);
            return;
        };
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.deaf {
            return;
        }
        if message.payload.is_sequenced() {
            match slot.counter.order(message.seq) {
                Order::Right => {}
                Order::Again => {
                    tracing::debug!(sid = message.sid, seq = message.seq, "a message came twice");
                    return;
                }
                Order::Gap { expected, received } => self.gap(index, expected, received, now),
            }
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !slot.removed.is_empty()
            && message.payload.market_ticker().is_some_and(|ticker| slot.removed.contains(ticker))
        {
            self.stray(Event::Unmatched(message));
            return;
        }
        let snapshot = match &message.payload {
            Payload::OrderbookSnapshot(snapshot) => {
                if self.passive {
                    // The markets of a recording are those that it shows.
                    slot.wish.items.insert(snapshot.market_ticker.clone());
                    slot.on_wire.insert(snapshot.market_ticker.clone());
                }
                slot.books.markets.take(&snapshot.market_ticker)
            }
            _ => None,
        };
        self.out.push_back(Output::Event(Lane::Slot(index), Event::Message(message)));
        if snapshot.is_some() {
            self.snapshot_came(index, now);
        }
    }

    /// One market less waits for its snapshot.
    fn snapshot_came(&mut self, index: usize, now: Instant) {
        let timeout = self.limits.snapshot_timeout;
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.books.asked = 0;
        if !slot.books.urgent {
            slot.books.ask_at = Some(now + timeout);
        }
        self.snapshots_settled(index);
    }

    /// A message of a subscription that is not known (yet).
    fn hold(&mut self, message: Message, now: Instant) {
        let expected = self.slots.iter().any(|slot| slot.phase == Phase::Asked);
        if message.sid.is_none() || !expected && !self.passive {
            self.stray(Event::Unmatched(message));
            return;
        }
        self.held.push_back((now + HOLD, message));
        if self.held.len() > MAX_HELD
            && let Some((_, message)) = self.held.pop_front()
        {
            self.stray(Event::Unmatched(message));
        }
    }

    fn other(&mut self, frame: Frame, now: Instant) {
        match frame {
            Frame::Message(message) => self.message(message, now),
            Frame::Subscribed { id, channel, sid } => {
                self.subscribed(id, &Channel::from(channel), sid, now);
            }
            Frame::Unsubscribed { id, sid, .. } => {
                let by_id = id.and_then(|id| self.pending.remove(&id));
                let index = match by_id {
                    Some(Pending { what: Asked::Unsubscribe(index), .. }) => Some(index),
                    _ => self.by_sid(sid),
                };
                if let Some(index) = index {
                    self.left(index);
                    self.subscribe(index, now);
                }
            }
            Frame::Done { id, sid, seq, .. } => {
                if let Some(index) = sid.and_then(|sid| self.by_sid(sid))
                    && let Some(slot) = self.slots.get_mut(index)
                {
                    slot.counter.replied(seq);
                }
                if let Some(Pending { what: Asked::Delete(index, items), .. }) =
                    id.and_then(|id| self.pending.remove(&id))
                {
                    self.deleted(index, &items);
                }
            }
            Frame::Subscriptions { id, list } => {
                if let Some(id) = id
                    && let Some(Pending { what: Asked::List(reply), .. }) = self.pending.remove(&id)
                {
                    // Whoever asked may have gone.
                    let _ = reply.send(Ok(list));
                }
            }
            Frame::Error { id, sid, error } => self.error(id, sid, error, now),
            Frame::Unknown(unknown) => {
                let lane = self.unreadable(unknown.sid, unknown.seq, false, now);
                self.out.push_back(Output::Event(lane, Event::Unknown(unknown)));
            }
            Frame::Malformed(malformed) => {
                let lane = self.unreadable(malformed.sid, malformed.seq, true, now);
                self.out.push_back(Output::Event(lane, Event::Malformed(malformed)));
            }
        }
    }

    /// A frame that says nothing to the consumer still has its number. If its words are lost, so
    /// are the books.
    fn unreadable(&mut self, sid: Option<Sid>, seq: Option<i64>, lost: bool, now: Instant) -> Lane {
        let Some(index) = sid.and_then(|sid| self.by_sid(sid)) else { return Lane::Stray };
        let Some(slot) = self.slots.get_mut(index) else { return Lane::Stray };
        if slot.counts && (seq.is_some() || lost) {
            match slot.counter.order(seq) {
                Order::Gap { expected, received } => self.gap(index, expected, received, now),
                Order::Right if lost => self.gap(index, seq, None, now),
                Order::Right | Order::Again => {}
            }
        }
        Lane::Slot(index)
    }

    fn subscribed(&mut self, id: Option<i64>, channel: &Channel, sid: Sid, now: Instant) {
        let by_id = id.and_then(|id| self.pending.remove(&id));
        let index = match by_id {
            Some(Pending { what: Asked::Subscribe(index), .. }) => Some(index),
            _ if self.passive => Some(self.adopt(channel)),
            _ => self
                .slots
                .iter()
                .position(|slot| slot.phase == Phase::Asked && slot.wish.channel == *channel),
        };
        let timeout = self.limits.snapshot_timeout;
        let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) else {
            tracing::warn!(%channel, sid, "a subscription was confirmed that nobody asked for");
            return;
        };
        let Some(index) = index else { return };
        slot.phase = Phase::Live { sid, since: now };
        slot.counter = Counter::default();
        slot.books.resyncing = false;
        slot.books.asked = 0;
        if *channel == Channel::OrderbookDelta {
            let known = slot.on_wire.intersection(&slot.wish.items);
            slot.books.markets = known.cloned().collect();
            slot.books.ask_at = (!slot.books.markets.is_empty()).then(|| now + timeout);
        }
        let leaving = slot.leaving.is_some();
        let channel = slot.wish.channel.clone();
        self.control(Event::Subscribed { channel, sid });
        if leaving {
            self.send_unsubscribe(index, sid, now);
        } else {
            self.reconcile(index, now);
        }
        let (ours, others) =
            std::mem::take(&mut self.held).into_iter().partition(|(_, m)| m.sid == Some(sid));
        self.held = others;
        let ours: VecDeque<(Instant, Message)> = ours;
        for (_, message) in ours {
            self.message(message, now);
        }
    }

    /// A subscription of a recording.
    fn adopt(&mut self, channel: &Channel) -> usize {
        if let Some(index) = self.wished(channel) {
            return index;
        }
        self.new_slot(Subscription::channel(channel.clone()))
    }

    fn error(&mut self, id: Option<i64>, sid: Option<Sid>, error: ServerError, now: Instant) {
        if id.is_some_and(|id| self.moot.contains(&id)) {
            // The end of its subscription has been told.
            tracing::debug!(id, %error, "a command came too late");
            return;
        }
        let request = self.snapshots.iter().find(|(request, _)| Some(*request) == id);
        if let Some((_, sid)) = request {
            match self.by_sid(*sid) {
                Some(index) if is_dead(&error) => self.ended(index, error, now),
                // The books keep waiting, and are asked for again.
                Some(_) => self.control(Event::ServerError(error)),
                None => tracing::debug!(id, %error, "a request came too late"),
            }
            return;
        }
        match id.and_then(|id| self.pending.remove(&id)).map(|pending| pending.what) {
            Some(Asked::Subscribe(index)) => self.subscribe_refused(index, error, now),
            Some(Asked::Unsubscribe(index)) => {
                // The exchange does not know it: it is over all the same.
                self.left(index);
                self.subscribe(index, now);
            }
            Some(Asked::List(reply)) => {
                // Whoever asked may have gone.
                let _ = reply.send(Err(CommandError::Refused(error)));
            }
            Some(Asked::Query(index) | Asked::Add(index, _) | Asked::Delete(index, _))
                if is_dead(&error) =>
            {
                self.ended(index, error, now);
            }
            Some(Asked::Add(index, items)) => self.add_refused(index, items, error, now),
            Some(Asked::Delete(index, items)) => {
                let Some(slot) = self.slots.get_mut(index) else { return };
                if error.is_transient() {
                    slot.on_wire.extend(items);
                    slot.deaths += 1;
                    slot.retry_at = Some(now + self.limits.backoff.delay(slot.deaths));
                } else {
                    self.control(Event::ServerError(error));
                    self.deleted(index, &items);
                }
            }
            Some(Asked::Query(_)) => self.control(Event::ServerError(error)),
            None => self.error_without_command(sid, error, now),
        }
    }

    fn error_without_command(&mut self, sid: Option<Sid>, error: ServerError, now: Instant) {
        if !error.is_terminal() {
            self.control(Event::ServerError(error));
            return;
        }
        if let Some(sid) = sid {
            match self.by_sid(sid) {
                Some(index) => self.ended(index, error, now),
                None => self.control(Event::ServerError(error)),
            }
            return;
        }
        let live: Vec<usize> =
            (0..self.slots.len()).filter(|index| self.sid(*index).is_some()).collect();
        match live.as_slice() {
            [] => self.control(Event::ServerError(error)),
            [only] => self.ended(*only, error, now),
            // One of several is dead, and the exchange does not say which: none can be relied on.
            _ => self.out.push_back(Output::Drop(DisconnectReason::SubscriptionLost(error))),
        }
    }

    fn subscribe_refused(&mut self, index: usize, error: ServerError, now: Instant) {
        const ALREADY: i64 = 6;
        let delay = self.limits.backoff.clone();
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.phase = Phase::Idle;
        slot.on_wire.clear();
        if slot.leaving.is_some() {
            self.left(index);
            self.subscribe(index, now);
            return;
        }
        if error.code == ALREADY {
            // There is a subscription whose number is not known: only a new connection helps.
            self.out.push_back(Output::Drop(DisconnectReason::SubscriptionLost(error)));
            return;
        }
        let channel = slot.wish.channel.clone();
        if error.is_transient() {
            slot.deaths += 1;
            slot.phase = Phase::Paused { until: now + delay.delay(slot.deaths) };
            let reason = EndReason::Server(error);
            self.control(Event::Ended { channel, reason });
            return;
        }
        if let Some(ticker) = &error.market_ticker
            && slot.wish.items.remove(ticker)
        {
            let items = vec![ticker.clone()];
            let empty = slot.wish.items.is_empty();
            if empty {
                // Without items it would be a wish for all markets.
                slot.phase = Phase::Gone;
            }
            self.refused(channel, items, Refusal::Server(error));
            if !empty {
                self.subscribe(index, now);
            }
            return;
        }
        slot.phase = Phase::Gone;
        self.refused(channel, Vec::new(), Refusal::Server(error));
    }

    fn add_refused(&mut self, index: usize, items: Vec<String>, error: ServerError, now: Instant) {
        let backoff = self.limits.backoff.clone();
        let Some(slot) = self.slots.get_mut(index) else { return };
        for item in &items {
            slot.on_wire.remove(item);
            slot.books.markets.remove(item);
        }
        if error.is_transient() {
            slot.deaths += 1;
            slot.retry_at = Some(now + backoff.delay(slot.deaths));
            return;
        }
        // Either one of them is to blame, and the others are asked for again, or all are.
        let given_up = match &error.market_ticker {
            Some(ticker) if items.contains(ticker) && items.len() > 1 => vec![ticker.clone()],
            _ => items,
        };
        for item in &given_up {
            slot.wish.items.remove(item);
        }
        let channel = slot.wish.channel.clone();
        self.refused(channel, given_up, Refusal::Server(error));
        self.snapshots_settled(index);
        self.reconcile(index, now);
    }

    /// The exchange ended the subscription: it is made anew after a while.
    fn ended(&mut self, index: usize, error: ServerError, now: Instant) {
        let backoff = self.limits.backoff.clone();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let channel = slot.wish.channel.clone();
        if let Phase::Live { since, .. } = slot.phase
            && now.saturating_duration_since(since) > backoff.longest()
        {
            slot.deaths = 0;
        }
        slot.deaths += 1;
        let until = now + backoff.delay(slot.deaths);
        slot.forget();
        let leaving = slot.leaving.is_some();
        if !leaving {
            slot.phase = Phase::Paused { until };
        }
        self.forget_commands(index);
        self.control(Event::Ended { channel, reason: EndReason::Server(error) });
        if leaving {
            self.left(index);
            self.subscribe(index, now);
        }
    }

    /// A new wish, or more of one.
    fn wish(&mut self, wish: Subscription, now: Instant) {
        let Some(index) = self.wished(&wish.channel) else {
            let index = self.new_slot(wish);
            self.subscribe(index, now);
            return;
        };
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let Some(next) = &mut slot.leaving {
            *next = Next::Wish(Box::new(wish));
            return;
        }
        // All markets and some markets are not the sum of each other, unless none was said yet.
        let scopes_differ =
            !slot.wish.needs_items() && slot.wish.items.is_empty() != wish.items.is_empty();
        if slot.wish.options != wish.options || scopes_differ {
            let items = wish.items.into_iter().collect();
            self.refused(wish.channel, items, Refusal::Conflict);
            return;
        }
        self.add(index, wish.items.into_iter().collect(), now);
    }

    fn new_slot(&mut self, wish: Subscription) -> usize {
        let counts = MESSAGE_KINDS
            .iter()
            .any(|kind| kind.sequenced && kind.channels.contains(&wish.channel));
        let gone = self
            .slots
            .iter()
            .position(|slot| slot.phase == Phase::Gone && slot.wish.channel == wish.channel);
        let index = gone.unwrap_or(self.slots.len());
        self.out.push_back(Output::Lane {
            slot: index,
            channel: wish.channel.clone(),
            overflow: wish.overflow,
            capacity: wish.capacity,
        });
        let slot = Slot::new(wish, counts);
        match self.slots.get_mut(index) {
            Some(old) => *old = slot,
            None => self.slots.push(slot),
        }
        index
    }

    fn add(&mut self, index: usize, items: Vec<String>, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.wish.items.is_empty() && !slot.wish.needs_items() && !items.is_empty() {
            let channel = slot.wish.channel.clone();
            self.refused(channel, items, Refusal::Conflict);
            return;
        }
        for item in items {
            // Until the exchange has confirmed that it was taken out, what comes of it is old.
            let leaving = |pending: &Pending| match &pending.what {
                Asked::Delete(of, items) => *of == index && items.contains(&item),
                _ => false,
            };
            if !self.pending.values().any(leaving) {
                slot.removed.remove(&item);
            }
            slot.wish.items.insert(item);
        }
        match slot.phase {
            Phase::Idle => self.subscribe(index, now),
            Phase::Live { .. } => self.reconcile(index, now),
            _ => {}
        }
    }

    fn delete(&mut self, index: usize, items: &[String], now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let mut taken = Vec::new();
        for item in items {
            if let Some(item) = slot.wish.items.take(item) {
                slot.books.markets.remove(&item);
                slot.removed.insert(item.clone());
                taken.push(item);
            }
        }
        if taken.is_empty() {
            return;
        }
        let channel = slot.wish.channel.clone();
        let (empty, keep) = (slot.wish.items.is_empty(), slot.wish.clone());
        self.control(Event::Removed { channel, items: taken });
        self.snapshots_settled(index);
        if !empty {
            self.reconcile(index, now);
        } else if keep.needs_items() {
            // What a subscription without markets does is not known. The wish stays, for nothing.
            self.leave(index, Next::Wish(Box::new(keep)), now);
        } else {
            // An empty list would mean all markets.
            self.leave(index, Next::Nothing, now);
        }
    }

    /// The exchange has taken the items out. Of those that are wished for again, it sends anew.
    fn deleted(&mut self, index: usize, items: &[String]) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        for item in items.iter().filter(|item| slot.wish.items.contains(*item)) {
            slot.removed.remove(item);
        }
    }

    /// Ends a subscription; another wish may follow it.
    fn leave(&mut self, index: usize, next: Next, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let again = slot.leaving.is_some();
        slot.leaving = Some(next);
        if again {
            return;
        }
        slot.books.markets.clear();
        slot.books.ask_at = None;
        let (channel, phase) = (slot.wish.channel.clone(), slot.phase);
        let items: Vec<String> = slot.wish.items.iter().cloned().collect();
        slot.removed.extend(items.iter().cloned());
        if !items.is_empty() {
            self.control(Event::Removed { channel, items });
        }
        match phase {
            Phase::Live { sid, .. } => self.send_unsubscribe(index, sid, now),
            // After the confirmation, which has the number.
            Phase::Asked => {}
            Phase::Gone | Phase::Idle | Phase::Paused { .. } => {
                self.left(index);
                self.subscribe(index, now);
            }
        }
    }

    /// The subscription is over, as was asked for.
    fn left(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let channel = slot.wish.channel.clone();
        slot.forget();
        let Some(next) = slot.leaving.take() else {
            // Nobody here asked for that: it is still wished for.
            self.control(Event::Ended { channel, reason: EndReason::Unsubscribed });
            return;
        };
        slot.phase = Phase::Gone;
        self.forget_commands(index);
        self.control(Event::Unsubscribed { channel });
        if let Next::Wish(wish) = next {
            self.new_slot(*wish);
        }
    }

    fn send_unsubscribe(&mut self, index: usize, sid: Sid, now: Instant) {
        let id = self.ask(Asked::Unsubscribe(index), now);
        self.out.push_back(Output::Send(command::unsubscribe(id, sid)));
    }

    /// Puts a wish on the wire, as far as one command reaches.
    fn subscribe(&mut self, index: usize, now: Instant) {
        let (up, limit) = (self.up && !self.passive, self.limits.items_per_command.max(1));
        let Some(slot) = self.slots.get_mut(index) else { return };
        let waits = matches!(slot.phase, Phase::Idle | Phase::Paused { .. });
        if !up || !waits || slot.wish.needs_items() && slot.wish.items.is_empty() {
            return;
        }
        slot.phase = Phase::Asked;
        slot.removed.clear();
        slot.on_wire = slot.wish.items.iter().take(limit).cloned().collect();
        let items: Vec<String> = slot.on_wire.iter().cloned().collect();
        let (channel, options) = (slot.wish.channel.clone(), slot.wish.options.clone());
        let id = self.ask(Asked::Subscribe(index), now);
        self.out.push_back(Output::Send(command::subscribe(id, &channel, &items, &options)));
    }

    /// Sends what is missing between the wish and what the exchange has been told.
    fn reconcile(&mut self, index: usize, now: Instant) {
        let limit = self.limits.items_per_command.max(1);
        let timeout = self.limits.snapshot_timeout;
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Phase::Live { sid, .. } = slot.phase else { return };
        if self.passive || slot.leaving.is_some() || slot.retry_at.is_some_and(|at| at > now) {
            return;
        }
        let add: Vec<String> = slot.wish.items.difference(&slot.on_wire).cloned().collect();
        let delete: Vec<String> = slot.on_wire.difference(&slot.wish.items).cloned().collect();
        slot.on_wire.clone_from(&slot.wish.items);
        let channel = slot.wish.channel.clone();
        if channel == Channel::OrderbookDelta && !add.is_empty() {
            slot.books.markets.extend(add.iter().cloned());
            slot.books.ask_at = Some(now + timeout);
        }
        for items in add.chunks(limit).map(<[String]>::to_vec) {
            let id = self.ask(Asked::Add(index, items.clone()), now);
            let text = command::update(id, &channel, sid, Update::Add, items);
            self.out.push_back(Output::Send(text));
        }
        for items in delete.chunks(limit).map(<[String]>::to_vec) {
            let id = self.ask(Asked::Delete(index, items.clone()), now);
            let text = command::update(id, &channel, sid, Update::Delete, items);
            self.out.push_back(Output::Send(text));
        }
    }

    fn gap(&mut self, index: usize, expected: Option<i64>, received: Option<i64>, now: Instant) {
        let Some(slot) = self.slots.get(index) else { return };
        let Phase::Live { sid, .. } = slot.phase else { return };
        let channel = slot.wish.channel.clone();
        let books = channel == Channel::OrderbookDelta;
        tracing::warn!(%channel, sid, expected, received, "messages were lost");
        self.control(Event::Gap { channel, sid, expected, received });
        if books {
            self.resync(index, now);
        }
    }

    /// All books of the subscription need a snapshot. When gaps come faster than snapshots, one
    /// request answers for several of them.
    fn resync(&mut self, index: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.books.resyncing = true;
        let known = &slot.wish.items;
        slot.books.markets =
            slot.on_wire.iter().filter(|item| known.contains(*item)).cloned().collect();
        let earliest = slot.books.asked_at.map(|at| at + RESYNC_PAUSE).filter(|at| *at > now);
        slot.books.urgent = earliest.is_some();
        slot.books.ask_at = earliest;
        if slot.books.markets.is_empty() {
            // A recording may not have shown its markets yet.
            slot.books.resyncing &= !self.passive;
            self.snapshots_settled(index);
        } else if earliest.is_none() {
            self.ask_for_snapshots(index, now);
        }
    }

    fn ask_for_snapshots(&mut self, index: usize, now: Instant) {
        let limit = self.limits.items_per_command.max(1);
        let timeout = self.limits.snapshot_timeout;
        let passive = self.passive;
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Phase::Live { sid, .. } = slot.phase else { return };
        if slot.books.markets.is_empty() || slot.leaving.is_some() || passive {
            slot.books.ask_at = None;
            return;
        }
        slot.books.ask_at = Some(now + timeout * 2_u32.pow(slot.books.asked.min(5)));
        slot.books.asked += 1;
        slot.books.asked_at = Some(now);
        slot.books.urgent = false;
        let channel = slot.wish.channel.clone();
        let items: Vec<String> = slot.books.markets.iter().cloned().collect();
        for items in items.chunks(limit).map(<[String]>::to_vec) {
            self.next_id += 1;
            // The snapshots are the answer, and waiting for those has its own time limit.
            let id = self.next_id;
            remember(&mut self.snapshots, (id, sid));
            let text = command::update(id, &channel, sid, Update::Snapshot, items);
            self.out.push_back(Output::Send(text));
        }
    }

    /// Markets were taken out of those that wait: perhaps none is left.
    fn snapshots_settled(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !slot.books.markets.is_empty() {
            return;
        }
        slot.books.ask_at = None;
        slot.books.urgent = false;
        if std::mem::take(&mut slot.books.resyncing)
            && let Phase::Live { sid, .. } = slot.phase
        {
            let channel = slot.wish.channel.clone();
            self.control(Event::Resynced { channel, sid });
        }
    }

    fn ask(&mut self, what: Asked, now: Instant) -> i64 {
        self.next_id += 1;
        let deadline = now + self.limits.command_timeout;
        self.pending.insert(self.next_id, Pending { what, deadline });
        self.next_id
    }

    /// Nobody waits for the answers to the commands of a subscription that is over.
    fn forget_commands(&mut self, index: usize) {
        let moot = &mut self.moot;
        self.pending.retain(|id, pending| {
            let is_over = pending.what.is_about(index);
            if is_over {
                remember(moot, *id);
            }
            !is_over
        });
    }

    /// The slot of a channel that somebody wishes for.
    fn wished(&self, channel: &Channel) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.phase != Phase::Gone && slot.wish.channel == *channel)
    }

    #[inline]
    fn by_sid(&self, sid: Sid) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| matches!(slot.phase, Phase::Live { sid: known, .. } if known == sid))
    }

    fn sid(&self, index: usize) -> Option<Sid> {
        match self.slots.get(index)?.phase {
            Phase::Live { sid, .. } => Some(sid),
            _ => None,
        }
    }

    fn control(&mut self, event: Event) {
        self.out.push_back(Output::Event(Lane::Control, event));
    }

    fn stray(&mut self, event: Event) {
        self.out.push_back(Output::Event(Lane::Stray, event));
    }

    fn refused(&mut self, channel: Channel, items: Vec<String>, reason: Refusal) {
        self.control(Event::Refused { channel, items, reason });
    }
}

/// Whether the subscription of a refused command is over: the exchange ended it, or does not know
/// it any more.
fn is_dead(error: &ServerError) -> bool {
    const UNKNOWN_SID: i64 = 7;
    error.is_terminal() || error.code == UNKNOWN_SID
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == MAX_REMEMBERED {
        list.pop_front();
    }
    list.push_back(item);
}

impl Slot {
    fn new(wish: Subscription, counts: bool) -> Self {
        Self {
            wish,
            phase: Phase::Idle,
            deaths: 0,
            on_wire: BTreeSet::new(),
            retry_at: None,
            counts,
            counter: Counter::default(),
            books: Waiting::default(),
            removed: HashSet::new(),
            deaf: false,
            leaving: None,
        }
    }

    /// Nothing of it is on the wire any more.
    fn forget(&mut self) {
        if self.phase != Phase::Gone {
            self.phase = Phase::Idle;
        }
        self.on_wire.clear();
        self.retry_at = None;
        self.counter = Counter::default();
        self.books = Waiting::default();
        self.removed.clear();
    }
}

impl Counter {
    /// Whether this is the number that is due; if so, it has come.
    #[inline]
    fn continues(&mut self, seq: Option<i64>) -> bool {
        let due = seq.is_some() && seq == self.last.and_then(|last| last.checked_add(1));
        if due {
            self.last = seq;
            self.last_is_reply = false;
        }
        due
    }

    /// What the number of a message says, and remembers it.
    #[inline]
    fn order(&mut self, seq: Option<i64>) -> Order {
        let Some(seq) = seq else {
            let expected = self.last.map(|last| last.saturating_add(1));
            return Order::Gap { expected, received: None };
        };
        let last = self.last.replace(seq);
        let after_reply = std::mem::take(&mut self.last_is_reply);
        match last {
            None => Order::Right,
            Some(last) if last.checked_add(1) == Some(seq) => Order::Right,
            Some(last) if last == seq && after_reply => Order::Right,
            Some(last) if last == seq => Order::Again,
            Some(last) => {
                Order::Gap { expected: Some(last.saturating_add(1)), received: Some(seq) }
            }
        }
    }

    /// A reply to a command has a number too. Whether it comes from the counter of the messages is
    /// not documented: it is believed where it fits.
    fn replied(&mut self, seq: Option<i64>) {
        if let (Some(last), Some(seq)) = (self.last, seq)
            && last.checked_add(1) == Some(seq)
        {
            self.last = Some(seq);
            self.last_is_reply = true;
        }
    }
}

impl Asked {
    fn is_about(&self, slot: usize) -> bool {
        match self {
            Self::Subscribe(index)
            | Self::Unsubscribe(index)
            | Self::Add(index, _)
            | Self::Delete(index, _)
            | Self::Query(index) => *index == slot,
            Self::List(_) => false,
        }
    }
}
