//! What is to be done, and the commands that wait for a reply.

use std::collections::{BTreeMap, VecDeque};

use tokio::{sync::oneshot, time::Instant};

use super::{Limits, after};
use crate::{
    error::CommandError,
    event::{DisconnectReason, Event, Refusal},
    generated::{Channel, types::ListSubscriptionsResponseItem},
    protocol::{
        command::{Action, Command, Update},
        message::Sid,
    },
    subscription::Overflow,
};

/// The number of commands whose replies are recognized when they come late.
const MAX_REMEMBERED: usize = 1_024;

/// The queue that an event waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Never dropped.
    Control,
    /// Messages that belong to no subscription.
    Unmatched,
    /// Messages of a subscription.
    Channel(usize),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    Send(Command),
    /// An event that came from a frame of so many bytes.
    Event(Lane, Event, usize),
    /// Prepare the queue of a subscription.
    Lane {
        lane: usize,
        channel: Channel,
        overflow: Overflow,
        capacity: usize,
        /// The subscription is a new one.
        is_new: bool,
    },
    /// Forget the names of markets.
    ForgetNames(Vec<String>),
    ForgetAllNames,
    /// Give up the connection.
    Drop(DisconnectReason),
}

/// A command without a reply.
struct Pending {
    kind: PendingKind,
    deadline: Instant,
}

/// What a command without a reply is to achieve.
#[derive(Debug)]
pub(crate) enum PendingKind {
    Subscribe(usize),
    Unsubscribe(usize),
    Add(usize, Vec<String>),
    Delete(usize, Vec<String>),
    /// Answered by a message.
    Query(usize),
    List(oneshot::Sender<Result<Vec<ListSubscriptionsResponseItem>, CommandError>>),
}

/// A request for snapshots. The snapshots are the answer, and waiting for those has a time limit of
/// its own.
pub(crate) struct SnapshotRequest {
    id: i64,
    pub(crate) lane: usize,
    pub(crate) sid: Sid,
    pub(crate) items: Vec<String>,
}

/// Where the consequences of a decision go.
pub(crate) struct Outbox {
    pub(crate) limits: Limits,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) pending: PendingCommands,
    snapshot_requests: VecDeque<SnapshotRequest>,
    /// The last commands without a reply whose subscription is over.
    abandoned: VecDeque<i64>,
    next_id: i64,
    pub(crate) is_connected: bool,
    /// A recording is played back: nothing is sent.
    pub(crate) is_passive: bool,
}

#[derive(Default)]
pub(crate) struct PendingCommands(BTreeMap<i64, Pending>);

impl PendingCommands {
    pub(crate) fn remove(&mut self, id: &i64) -> Option<PendingKind> {
        self.0.remove(id).map(|pending| pending.kind)
    }

    /// Takes the oldest command of a kind.
    fn take_first(&mut self, is_it: impl Fn(&PendingKind) -> bool) -> Option<PendingKind> {
        let id = self.0.iter().find(|(_, pending)| is_it(&pending.kind)).map(|(id, _)| *id)?;
        self.remove(&id)
    }
}

impl Outbox {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            outputs: VecDeque::new(),
            pending: PendingCommands::default(),
            snapshot_requests: VecDeque::new(),
            abandoned: VecDeque::new(),
            next_id: 0,
            is_connected: false,
            is_passive: false,
        }
    }

    pub(crate) fn disconnected(&mut self) {
        self.is_connected = false;
        for pending in std::mem::take(&mut self.pending.0).into_values() {
            if let PendingKind::List(reply) = pending.kind {
                // The caller may have gone.
                let _ = reply.send(Err(CommandError::Disconnected));
            }
        }
        self.snapshot_requests.clear();
        self.abandoned.clear();
    }

    pub(crate) fn event(&mut self, lane: Lane, event: Event, bytes: usize) {
        self.outputs.push_back(Output::Event(lane, event, bytes));
    }

    pub(crate) fn control(&mut self, event: Event) {
        self.event(Lane::Control, event, 0);
    }

    pub(crate) fn unmatched(&mut self, event: Event, bytes: usize) {
        self.event(Lane::Unmatched, event, bytes);
    }

    pub(crate) fn refuse(&mut self, channel: Channel, items: Vec<String>, reason: Refusal) {
        self.control(Event::Refused { channel, items, reason });
    }

    /// Sends a command that has to be answered in time.
    pub(crate) fn command(&mut self, kind: PendingKind, action: Action, now: Instant) {
        self.next_id += 1;
        let deadline = after(now, self.limits.command_timeout);
        self.pending.0.insert(self.next_id, Pending { kind, deadline });
        self.outputs.push_back(Output::Send(Command { id: self.next_id, action }));
    }

    /// Sends a request for snapshots, split into commands.
    pub(crate) fn request_snapshots(&mut self, lane: usize, sid: Sid, items: &[String]) {
        let limit = self.limits.items_per_command.max(1);
        for items in items.chunks(limit) {
            self.next_id += 1;
            let id = self.next_id;
            if self.snapshot_requests.len() == MAX_REMEMBERED {
                self.snapshot_requests.pop_front();
            }
            let items = items.to_vec();
            self.snapshot_requests.push_back(SnapshotRequest {
                id,
                lane,
                sid,
                items: items.clone(),
            });
            let channel = Channel::OrderbookDelta;
            let action = Action::Update { channel, sid, update: Update::Snapshot, items };
            self.outputs.push_back(Output::Send(Command { id, action }));
        }
    }

    pub(crate) fn take_snapshot_request(&mut self, id: Option<i64>) -> Option<SnapshotRequest> {
        let at = self.snapshot_requests.iter().position(|request| Some(request.id) == id)?;
        self.snapshot_requests.remove(at)
    }

    /// Forgets the requests of a subscription, all of which have been answered.
    pub(crate) fn forget_snapshot_requests(&mut self, lane: usize) {
        self.snapshot_requests.retain(|request| request.lane != lane);
    }

    /// Takes the command with this id.
    pub(crate) fn take(&mut self, id: Option<i64>) -> Option<PendingKind> {
        self.pending.remove(&id?)
    }

    /// Takes the command that an `ok` answers: without an id, the oldest that can be answered so.
    pub(crate) fn take_done(
        &mut self,
        id: Option<i64>,
        sid: Option<Sid>,
        lane: Option<usize>,
    ) -> Option<PendingKind> {
        if id.is_some() {
            return self.take(id);
        }
        if sid.is_some() && lane.is_none() {
            return None;
        }
        self.pending.take_first(|kind| match kind {
            PendingKind::Add(of, _) | PendingKind::Delete(of, _) => {
                lane.is_none_or(|lane| lane == *of)
            }
            _ => false,
        })
    }

    /// Takes the command that a list of subscriptions answers.
    pub(crate) fn take_list(&mut self, id: Option<i64>) -> Option<PendingKind> {
        match id {
            Some(_) => self.take(id),
            None => self.pending.take_first(|kind| matches!(kind, PendingKind::List(_))),
        }
    }

    /// Takes the query that a message answers. No other command is answered by a message.
    pub(crate) fn take_query_by_id(&mut self, id: Option<i64>) {
        let is_query = |pending: &Pending| matches!(pending.kind, PendingKind::Query(_));
        if let Some(id) = id
            && self.pending.0.get(&id).is_some_and(is_query)
        {
            self.pending.remove(&id);
        }
    }

    /// Takes the oldest query of a channel.
    pub(crate) fn take_query(&mut self, lane: usize) {
        self.pending.take_first(|kind| matches!(kind, PendingKind::Query(of) if *of == lane));
    }

    /// Takes the oldest command of a channel.
    pub(crate) fn take_oldest_of(&mut self, lane: usize) -> Option<PendingKind> {
        self.pending.take_first(|kind| kind.lane() == Some(lane))
    }

    /// Forgets that a channel was requested: it has been confirmed.
    pub(crate) fn forget_subscribe(&mut self, lane: usize) {
        self.pending
            .0
            .retain(|_, pending| !matches!(pending.kind, PendingKind::Subscribe(of) if of == lane));
    }

    /// Abandons the commands of a subscription that is over.
    pub(crate) fn abandon(&mut self, lane: usize) {
        let abandoned = &mut self.abandoned;
        self.pending.0.retain(|id, pending| {
            let is_over = pending.kind.lane() == Some(lane);
            if is_over {
                if abandoned.len() == MAX_REMEMBERED {
                    abandoned.pop_front();
                }
                abandoned.push_back(*id);
            }
            !is_over
        });
    }

    pub(crate) fn is_abandoned(&self, id: Option<i64>) -> bool {
        id.is_some_and(|id| self.abandoned.contains(&id))
    }

    /// Reports whether a command that the state of a subscription depends on waits for its reply.
    pub(crate) fn awaits_reply(&self) -> bool {
        self.pending.0.values().any(|pending| !pending.kind.is_query())
    }

    /// Reports whether such a command was not answered in time.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.pending.0.values().any(|pending| !pending.kind.is_query() && pending.deadline <= now)
    }

    /// Takes the queries that were not answered in time, and returns their channels.
    pub(crate) fn unanswered(&mut self, now: Instant) -> Vec<usize> {
        let is_late = |pending: &Pending| pending.kind.is_query() && pending.deadline <= now;
        if !self.pending.0.values().any(is_late) {
            return Vec::new();
        }
        let (late, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.pending.0)
            .into_iter()
            .partition(|(_, pending)| is_late(pending));
        self.pending.0 = rest;
        let mut channels = Vec::new();
        for pending in late.into_values() {
            match pending.kind {
                PendingKind::List(reply) => {
                    // The caller may have gone.
                    let _ = reply.send(Err(CommandError::TimedOut));
                }
                kind => channels.extend(kind.lane()),
            }
        }
        channels
    }
}

impl PendingKind {
    /// The channel that the command is about.
    pub(crate) fn lane(&self) -> Option<usize> {
        match self {
            Self::Subscribe(lane)
            | Self::Unsubscribe(lane)
            | Self::Add(lane, _)
            | Self::Delete(lane, _)
            | Self::Query(lane) => Some(*lane),
            Self::List(_) => None,
        }
    }

    /// Reports whether nothing depends on the reply but the consumer.
    fn is_query(&self) -> bool {
        matches!(self, Self::Query(_) | Self::List(_))
    }
}
