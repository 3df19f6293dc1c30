//! The tasks of a bus: one sends, one receives, one carries out requests, one keeps the lease and the
//! streams.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{
    Client, HeaderMap, HeaderName, Message, StatusCode, Subscriber,
    connection::State as ConnectionState, jetstream::Context,
};
use futures_util::{
    StreamExt as _,
    stream::{FuturesUnordered, SelectAll},
};
use serde::Deserialize;
use tokio::{
    select,
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Shared,
    requests::{self, Request},
    streams,
};
use crate::{bus::BusEvent, envelope::BusMessage, lease::LeaseRequest};

/// The requests that are carried out at once.
const REQUESTS: usize = 32;

/// The time between two looks at the connection, besides those that its events cause.
const LOOK: Duration = Duration::from_millis(100);

/// The time after which a message that the broker refused is reported, so that one that refuses
/// everything is not asked without a pause.
const REFUSED: u32 = 10;

/// The time that an answer to the lease may take: less than the time between two renewals.
const LEASE: Duration = Duration::from_millis(2_500);

/// The time between two attempts to make the streams.
const SETUP: Duration = Duration::from_millis(500);

/// Something to be sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    Publish(u64, BusMessage),
    Request(Request),
    Lease(u64, LeaseRequest),
}

/// Something that has come.
#[derive(Debug)]
pub(super) enum Incoming {
    Event(BusEvent),
    /// The connection was lost for the time of this number.
    Lost(u64),
    /// The answer to a request, and the number of losses before it.
    Answer(u64, BusEvent),
    /// The answer to the request of the lease of this number.
    Lease(u64, BusEvent),
}

pub(super) struct Parts {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: String,
    pub(super) acknowledgements: Subscriber,
    pub(super) events: mpsc::Receiver<()>,
    pub(super) outgoing: mpsc::Receiver<Outgoing>,
    pub(super) incoming: mpsc::Sender<Incoming>,
}

/// Starts the tasks. They end with the set.
pub(super) fn spawn(parts: Parts) -> JoinSet<()> {
    let Parts { client, context, shared, inbox, acknowledgements, events, outgoing, incoming } =
        parts;
    let (to_receiver, subscribers) = mpsc::channel(64);
    let (to_requests, requests) = mpsc::channel(16_384);
    let (to_lease, leases) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    let sender =
        Sender { client: client.clone(), shared: Arc::clone(&shared), inbox: inbox.clone() };
    tasks.spawn(sender.run(outgoing, to_receiver, to_requests, to_lease));
    let receiver = Receiver {
        prefix: inbox.len() + 1,
        shared: Arc::clone(&shared),
        connects: client.statistics().connects.load(Ordering::Relaxed),
        client,
        incoming: incoming.clone(),
        merged: SelectAll::new(),
        refused: Vec::new(),
        looks: 0,
    };
    tasks.spawn(receiver.run(acknowledgements, events, subscribers));
    tasks.spawn(carry_out(context.clone(), Arc::clone(&shared), requests, incoming.clone()));
    tasks.spawn(keep_lease(context, shared, leases, incoming));
    tasks
}

struct Sender {
    client: Client,
    shared: Arc<Shared>,
    inbox: String,
}

impl Sender {
    /// Sends in order, and subscriptions first: a request must not overtake the one before it.
    async fn run(
        self,
        mut outgoing: mpsc::Receiver<Outgoing>,
        subscribers: mpsc::Sender<Subscriber>,
        requests: mpsc::Sender<Request>,
        leases: mpsc::Sender<(u64, LeaseRequest)>,
    ) {
        loop {
            let outgoing = select! {
                biased;
                () = self.shared.subscribed.notified() => None,
                outgoing = outgoing.recv() => match outgoing {
                    Some(outgoing) => Some(outgoing),
                    None => return,
                },
            };
            if !self.subscribe(&subscribers).await {
                return;
            }
            match outgoing {
                Some(Outgoing::Publish(token, message)) => self.publish(token, message).await,
                // What finds no room is requested again.
                Some(Outgoing::Request(request)) => drop(requests.try_send(request)),
                Some(Outgoing::Lease(number, request)) => drop(leases.try_send((number, request))),
                None => {}
            }
        }
    }

    /// Makes the subscriptions that are due; `false` when the bus is gone.
    async fn subscribe(&self, subscribers: &mpsc::Sender<Subscriber>) -> bool {
        loop {
            let Some(pattern) = self.shared.subscriptions().pop_front() else { return true };
            match self.client.subscribe(pattern).await {
                Ok(subscriber) => {
                    if subscribers.send(subscriber).await.is_err() {
                        return false;
                    }
                }
                Err(error) => tracing::error!(%error, "a subscription failed"),
            }
        }
    }

    async fn publish(&self, token: u64, message: BusMessage) {
        let mut headers = HeaderMap::new();
        for (name, value) in message.headers {
            if let Ok(name) = HeaderName::try_from(name) {
                headers.append(name, value.as_str());
            }
        }
        let reply = format!("{}.{token}", self.inbox);
        let sent = self.client.publish_with_reply_and_headers(
            message.subject,
            reply,
            headers,
            message.payload,
        );
        // Without an acknowledgement it counts as lost after a while, and is not tried without a
        // pause: it may be too large.
        if let Err(error) = sent.await {
            tracing::warn!(%error, "a message was not published");
        }
    }
}

struct Receiver {
    client: Client,
    shared: Arc<Shared>,
    /// The length of the inbox of acknowledgements, with its dot.
    prefix: usize,
    /// The connections that were made, as of the last look.
    connects: u64,
    incoming: mpsc::Sender<Incoming>,
    merged: SelectAll<Subscriber>,
    /// The messages that the broker refused.
    refused: Vec<u64>,
    looks: u32,
}

impl Receiver {
    async fn run(
        mut self,
        mut acknowledgements: Subscriber,
        mut events: mpsc::Receiver<()>,
        mut subscribers: mpsc::Receiver<Subscriber>,
    ) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_open = select! {
                _ = ticks.tick() => {
                    self.looks += 1;
                    self.report_refused().await && self.look().await
                }
                Some(()) = events.recv() => self.look().await,
                Some(subscriber) = subscribers.recv() => {
                    self.merged.push(subscriber);
                    true
                }
                Some(message) = acknowledgements.next() => self.acknowledged(&message).await,
                Some(message) = self.merged.next() => {
                    let headers = message.headers.as_ref();
                    let message = requests::message(&message.subject, headers, message.payload);
                    self.push(Incoming::Event(BusEvent::Message(message))).await
                }
            };
            if !is_open {
                return;
            }
        }
    }

    async fn push(&self, incoming: Incoming) -> bool {
        self.incoming.send(incoming).await.is_ok()
    }

    /// Looks at the connection. Its events may be lost, and what it is and was is not.
    async fn look(&mut self) -> bool {
        let is_connected = self.client.connection_state() == ConnectionState::Connected;
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        let was_replaced = std::mem::replace(&mut self.connects, connects) != connects;
        let (generation, unsent) = {
            let mut state = self.shared.state();
            if !was_replaced && state.is_connected == is_connected {
                return true;
            }
            state.is_connected = is_connected;
            state.generation += 1;
            let unsent =
                if is_connected { std::mem::take(&mut state.outstanding) } else { <_>::default() };
            (state.generation, unsent)
        };
        if is_connected {
            // The broker may have lost its streams.
            self.shared.setup.notify_one();
        }
        if !self.push(Incoming::Lost(generation)).await {
            return false;
        }
        for token in unsent {
            if !self.push(Incoming::Event(BusEvent::Failed(token))).await {
                return false;
            }
        }
        true
    }

    async fn acknowledged(&mut self, message: &Message) -> bool {
        #[derive(Deserialize)]
        struct Acknowledgement {
            seq: Option<u64>,
            error: Option<Refusal>,
        }
        #[derive(Deserialize)]
        struct Refusal {
            #[serde(default)]
            description: String,
        }

        let token = message.subject.get(self.prefix..).and_then(|token| token.parse().ok());
        let Some(token) = token else { return true };
        let refusal = if message.status == Some(StatusCode::NO_RESPONDERS) {
            // There is no stream of the subject.
            self.shared.setup.notify_one();
            "no stream takes it".to_owned()
        } else {
            match serde_json::from_slice(&message.payload) {
                Ok(Acknowledgement { seq: Some(_), error: None }) => {
                    if self.shared.state().outstanding.remove(&token) {
                        return self.push(Incoming::Event(BusEvent::Acknowledged(token))).await;
                    }
                    // It was reported as failed when the connection was lost.
                    return true;
                }
                Ok(Acknowledgement { error: Some(refusal), .. }) => refusal.description,
                _ => "the acknowledgement does not read".to_owned(),
            }
        };
        if self.refused.is_empty() {
            tracing::warn!(refusal, "the broker refuses messages");
        }
        self.refused.push(token);
        true
    }

    async fn report_refused(&mut self) -> bool {
        if !self.looks.is_multiple_of(REFUSED) {
            return true;
        }
        for token in std::mem::take(&mut self.refused) {
            let is_outstanding = self.shared.state().outstanding.remove(&token);
            if is_outstanding && !self.push(Incoming::Event(BusEvent::Failed(token))).await {
                return false;
            }
        }
        true
    }
}

/// Carries out the requests of a follower, some at once.
async fn carry_out(
    context: Context,
    shared: Arc<Shared>,
    mut requests: mpsc::Receiver<Request>,
    incoming: mpsc::Sender<Incoming>,
) {
    let mut running = FuturesUnordered::new();
    loop {
        select! {
            Some(()) = running.next() => {}
            request = requests.recv(), if running.len() < REQUESTS => {
                let Some(request) = request else { return };
                running.push(requests::answer(&context, &shared, request, &incoming));
            }
        }
    }
}

/// Carries out the requests of the lease, one after another, and makes streams that are missing.
async fn keep_lease(
    context: Context,
    shared: Arc<Shared>,
    mut leases: mpsc::Receiver<(u64, LeaseRequest)>,
    incoming: mpsc::Sender<Incoming>,
) {
    let mut last_setup = None::<tokio::time::Instant>;
    loop {
        select! {
            biased;
            request = leases.recv() => {
                let Some((number, request)) = request else { return };
                let answer = requests::lease(&context, &shared.names.bucket, request);
                match timeout(LEASE, answer).await {
                    Ok(Ok(event)) => {
                        if incoming.send(Incoming::Lease(number, event)).await.is_err() {
                            return;
                        }
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(error, "the lease");
                        shared.setup.notify_one();
                    }
                    Err(_) => tracing::warn!("the lease: no answer"),
                }
            }
            () = shared.setup.notified() => {
                let Some(settings) = &shared.streams else { continue };
                if last_setup.is_some_and(|at| at.elapsed() < SETUP) {
                    tokio::time::sleep(SETUP).await;
                }
                last_setup = Some(tokio::time::Instant::now());
                match timeout(LEASE, streams::ensure(&context, &shared.names, settings)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::error!(%error, "the streams");
                        shared.setup.notify_one();
                    }
                    Err(_) => shared.setup.notify_one(),
                }
            }
        }
    }
}
