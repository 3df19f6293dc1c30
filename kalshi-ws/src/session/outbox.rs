//! The actions to be done, and the commands that wait for a reply.

use std::collections::{BTreeMap, HashSet, VecDeque};

use tokio::{sync::oneshot, time::Instant};

use super::{Limits, after};
use crate::{
    error::CommandError,
    event::{DisconnectReason, Event, Refusal},
    generated::types::ListSubscriptionsResponseItem,
    product::{EventContracts, Product},
    protocol::{
        command::{Action, Command, Update},
        message::Sid,
    },
    subscription::Overflow,
};

/// The number of commands whose replies are recognized when they come late.
const MAX_REMEMBERED: usize = 1_024;

/// The number of commands of a recording that wait for a reply.
const MAX_FOLLOWED: usize = 65_536;

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

/// An action of the connection.
#[derive(Debug)]
pub(crate) enum Output<P: Product = EventContracts> {
    Send(Command<P>),
    /// An event that came from a frame of this many bytes.
    Event(Lane, Event<P>, usize),
    /// Prepare the queue of a subscription.
    Lane {
        lane: usize,
        channel: P::Channel,
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

/// The aim of a command without a reply.
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
    /// The markets whose snapshots have not come yet.
    pub(crate) items: HashSet<String>,
}

/// A command that was taken to be answered by a reply without an id.
#[derive(Clone, Copy)]
struct Guess {
    lane: usize,
    /// The reply was `ok`.
    is_done: bool,
}

/// The command that a reply answers.
pub(crate) enum Answered {
    Command(PendingKind),
    Snapshots(SnapshotRequest),
    /// The replies cannot be told apart.
    Contradiction,
    Nothing,
}

/// The destination of a decision's consequences.
pub(crate) struct Outbox<P: Product = EventContracts> {
    pub(crate) limits: Limits,
    pub(crate) outputs: VecDeque<Output<P>>,
    pub(crate) pending: PendingCommands,
    snapshot_requests: VecDeque<SnapshotRequest>,
    /// By their ids, the last commands that replies without an id were taken to answer.
    guesses: BTreeMap<i64, Guess>,
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
    pub(crate) fn remove(&mut self, id: i64) -> Option<PendingKind> {
        self.0.remove(&id).map(|pending| pending.kind)
    }

    /// Takes the oldest command of a kind.
    fn take_first(&mut self, is_it: impl Fn(&PendingKind) -> bool) -> Option<PendingKind> {
        let id = self.0.iter().find(|(_, pending)| is_it(&pending.kind)).map(|(id, _)| *id)?;
        self.remove(id)
    }
}

impl<P: Product> Outbox<P> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            outputs: VecDeque::new(),
            pending: PendingCommands::default(),
            snapshot_requests: VecDeque::new(),
            guesses: BTreeMap::new(),
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
        self.guesses.clear();
        self.abandoned.clear();
    }

    pub(crate) fn event(&mut self, lane: Lane, event: Event<P>, bytes: usize) {
        self.outputs.push_back(Output::Event(lane, event, bytes));
    }

    pub(crate) fn control(&mut self, event: Event<P>) {
        self.event(Lane::Control, event, 0);
    }

    pub(crate) fn unmatched(&mut self, event: Event<P>, bytes: usize) {
        self.event(Lane::Unmatched, event, bytes);
    }

    pub(crate) fn refuse(&mut self, channel: P::Channel, items: Vec<String>, reason: Refusal) {
        self.control(Event::Refused { channel, items, reason });
    }

    /// Sends a command that has to be answered in time.
    pub(crate) fn command(&mut self, kind: PendingKind, action: Action<P>, now: Instant) {
        if self.is_passive {
            return;
        }
        self.next_id += 1;
        let deadline = after(now, self.limits.command_timeout);
        self.pending.0.insert(self.next_id, Pending { kind, deadline });
        self.outputs.push_back(Output::Send(Command { id: self.next_id, action }));
    }

    /// Registers a command that a recorded session has sent.
    pub(crate) fn follow(&mut self, id: i64, kind: PendingKind, now: Instant) {
        self.reuse(id);
        if self.pending.0.len() >= MAX_FOLLOWED {
            self.pending.0.pop_first();
        }
        let deadline = after(now, self.limits.command_timeout);
        self.pending.0.insert(id, Pending { kind, deadline });
    }

    /// Registers a request for snapshots that a recorded session has sent.
    pub(crate) fn follow_snapshots(
        &mut self,
        id: i64,
        lane: usize,
        sid: Sid,
        items: impl IntoIterator<Item = String>,
    ) {
        self.reuse(id);
        self.remember_request(SnapshotRequest {
            id,
            lane,
            sid,
            items: items.into_iter().collect(),
        });
    }

    /// Forgets what an id stood for: some clients use one again.
    fn reuse(&mut self, id: i64) {
        self.pending.remove(id);
        self.guesses.remove(&id);
        self.abandoned.retain(|abandoned| *abandoned != id);
        self.snapshot_requests.retain(|request| request.id != id);
    }

    fn remember_request(&mut self, request: SnapshotRequest) {
        if self.snapshot_requests.len() == MAX_REMEMBERED {
            self.snapshot_requests.pop_front();
        }
        self.snapshot_requests.push_back(request);
    }

    /// Sends a request for snapshots, split into commands.
    pub(crate) fn request_snapshots(&mut self, lane: usize, sid: Sid, items: &[String]) {
        if self.is_passive {
            return;
        }
        let limit = self.limits.items_per_command.max(1);
        for items in items.chunks(limit) {
            self.next_id += 1;
            let id = self.next_id;
            let expected = items.iter().cloned().collect();
            self.remember_request(SnapshotRequest { id, lane, sid, items: expected });
            let items = items.to_vec();
            let channel = P::book_channel();
            let action = Action::Update { channel, sid, update: Update::Snapshot, items };
            self.outputs.push_back(Output::Send(Command { id, action }));
        }
    }

    /// Notes that a snapshot has come.
    pub(crate) fn snapshot_arrived(&mut self, lane: usize, ticker: &str) {
        for request in self.snapshot_requests.iter_mut().filter(|request| request.lane == lane) {
            if request.items.remove(ticker) {
                return;
            }
        }
    }

    /// Notes that all requests of a subscription have been answered. An error may still come.
    pub(crate) fn snapshots_settled(&mut self, lane: usize) {
        for request in self.snapshot_requests.iter_mut().filter(|request| request.lane == lane) {
            request.items.clear();
        }
    }

    /// Takes the command with this id.
    pub(crate) fn take(&mut self, id: Option<i64>) -> Option<PendingKind> {
        self.pending.remove(id?)
    }

    /// Takes the command that an `ok` answers: without an id, the oldest that can be answered so.
    pub(crate) fn take_done(
        &mut self,
        id: Option<i64>,
        sid: Option<Sid>,
        lane: Option<usize>,
    ) -> Answered {
        let is_change = |kind: &PendingKind, lane: Option<usize>| match kind {
            PendingKind::Add(of, _) | PendingKind::Delete(of, _) => {
                lane.is_none_or(|lane| lane == *of)
            }
            _ => false,
        };
        let lane = match id {
            Some(id) => match self.guesses.remove(&id) {
                None => return self.take(Some(id)).map_or(Answered::Nothing, Answered::Command),
                // The one without an id was the answer to another command.
                Some(Guess { lane, is_done: true }) => Some(lane),
                Some(_) => return Answered::Contradiction,
            },
            None if sid.is_some() && lane.is_none() => return Answered::Nothing,
            None => lane,
        };
        let mut pending = self.pending.0.iter();
        let found = pending.find(|(_, pending)| is_change(&pending.kind, lane)).map(|(id, _)| *id);
        self.guess(found, true)
    }

    /// Takes the command that an error answers: without an id, the oldest of its subscription.
    pub(crate) fn take_error(&mut self, id: Option<i64>, lane: Option<usize>) -> Answered {
        let Some(id) = id else {
            let Some(lane) = lane else { return Answered::Nothing };
            let is_of = |kind: &PendingKind| kind.lane() == Some(lane);
            let mut pending = self.pending.0.iter();
            let command = pending.find(|(_, pending)| is_of(&pending.kind)).map(|(id, _)| *id);
            let mut requests = self.snapshot_requests.iter();
            let request =
                requests.find(|request| request.lane == lane && !request.items.is_empty());
            let request = request.map(|request| request.id);
            let oldest = match (command, request) {
                (Some(command), Some(request)) => Some(command.min(request)),
                (command, request) => command.or(request),
            };
            return self.guess(oldest, false);
        };
        if self.guesses.contains_key(&id) {
            return Answered::Contradiction;
        }
        self.take_command_or_request(id)
    }

    fn guess(&mut self, id: Option<i64>, is_done: bool) -> Answered {
        let Some(id) = id else { return Answered::Nothing };
        let answered = self.take_command_or_request(id);
        let lane = match &answered {
            Answered::Command(kind) => kind.lane(),
            Answered::Snapshots(request) => Some(request.lane),
            _ => None,
        };
        if let Some(lane) = lane {
            if self.guesses.len() == MAX_REMEMBERED {
                self.guesses.pop_first();
            }
            self.guesses.insert(id, Guess { lane, is_done });
        }
        answered
    }

    fn take_command_or_request(&mut self, id: i64) -> Answered {
        if let Some(kind) = self.pending.remove(id) {
            return Answered::Command(kind);
        }
        let mut requests = self.snapshot_requests.iter();
        match requests.position(|request| request.id == id) {
            Some(at) => {
                self.snapshot_requests.remove(at).map_or(Answered::Nothing, Answered::Snapshots)
            }
            None => Answered::Nothing,
        }
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
            self.pending.remove(id);
        }
    }

    /// Takes the oldest query of a channel.
    pub(crate) fn take_query(&mut self, lane: usize) {
        self.pending.take_first(|kind| matches!(kind, PendingKind::Query(of) if *of == lane));
    }

    /// Forgets that a channel was requested: it has been confirmed, without an id.
    pub(crate) fn guess_subscribe(&mut self, lane: usize) {
        let is_it = |kind: &PendingKind| matches!(kind, PendingKind::Subscribe(of) if *of == lane);
        let mut pending = self.pending.0.iter();
        let id = pending.find(|(_, pending)| is_it(&pending.kind)).map(|(id, _)| *id);
        self.guess(id, false);
    }

    /// Reports whether the command was taken to be answered already.
    pub(crate) fn is_guessed(&self, id: Option<i64>) -> bool {
        id.is_some_and(|id| self.guesses.contains_key(&id))
    }

    /// Renames an item in the commands of a subscription that wait for a reply.
    pub(crate) fn renamed(&mut self, lane: usize, old: &str, new: &str) {
        let pending = self.pending.0.values_mut().map(|pending| &mut pending.kind);
        for kind in pending.filter(|kind| kind.lane() == Some(lane)) {
            if let PendingKind::Add(_, items) | PendingKind::Delete(_, items) = kind {
                for item in items.iter_mut().filter(|item| *item == old) {
                    new.clone_into(item);
                }
            }
        }
        for request in self.snapshot_requests.iter_mut().filter(|request| request.lane == lane) {
            if request.items.remove(old) {
                request.items.insert(new.to_owned());
            }
        }
    }

    /// Abandons the commands of a subscription that is over.
    pub(crate) fn abandon(&mut self, lane: usize) {
        self.guesses.retain(|_, guess| guess.lane != lane);
        let of_lane = self.pending.0.iter().filter(|(_, p)| p.kind.lane() == Some(lane));
        let mut ids: Vec<i64> = of_lane.map(|(id, _)| *id).collect();
        let requests = self.snapshot_requests.iter().filter(|request| request.lane == lane);
        ids.extend(requests.map(|request| request.id));
        self.pending.0.retain(|_, pending| pending.kind.lane() != Some(lane));
        self.snapshot_requests.retain(|request| request.lane != lane);
        self.abandoned.extend(ids);
        let excess = self.abandoned.len().saturating_sub(MAX_REMEMBERED);
        self.abandoned.drain(..excess);
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
    /// Returns the channel that the command is about.
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
