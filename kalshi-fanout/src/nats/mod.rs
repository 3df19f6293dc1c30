//! A bus over NATS JetStream.
//!
//! A [`NatsBus`] is one connection to a broker. Four things of the broker carry an environment:
//!
//! - the stream `kx_v1_{env}_md` keeps market data and control messages for [some
//!   time](StreamSettings): the log that a follower reads after a loss;
//! - the stream `kx_v1_{env}_snap` keeps the last snapshot of each book;
//! - the stream `kx_v1_{env}_own`, if the settings ask for it, keeps what is published of your accounts;
//! - the key-value bucket `kx_v1_{env}` has the lease of the publishers.
//!
//! [`NatsBus::publisher`] makes what is missing, also after the broker has lost it.
//! [`NatsBus::follower`] makes nothing and needs no rights to write.
//!
//! Live messages come by subscriptions of core NATS, at most once: with the least delay, and without
//! a consumer on the broker for each market. A message that is lost on the way is found by its number,
//! and the log has it. Messages are published with acknowledgements, which come in any order and hold
//! nothing up.
//!
//! `nats-server` from 2.9 on is enough.
//!
//! # Security
//!
//! A user name, password or token goes over TLS, unless the broker is on this machine. The [page on
//! operations](crate::operations) has the rights that publishers and followers need.

mod account;
mod config;
mod requests;
#[cfg(feature = "budget")]
mod store;
mod streams;
mod tasks;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_nats::jetstream;
use kalshi_types::UnixMillis;
use thiserror::Error;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

#[cfg(feature = "budget")]
pub use self::store::NatsStore;
pub use self::{
    account::{AccountError, AccountServer, NatsAccount},
    config::{NatsConfig, StreamSettings},
};
use self::{
    requests::Request,
    streams::Names,
    tasks::{Incoming, Outgoing},
};
use crate::{
    bus::{Bus, BusEvent},
    envelope::BusMessage,
    lease::LeaseRequest,
};

/// The messages and requests that may wait to be sent.
const OUTGOING: usize = 65_536;

/// The messages without an acknowledgement that are remembered: more than any window.
const OUTSTANDING: usize = 1 << 20;

/// A broker that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// The settings cannot work.
    #[error("the settings of the bus are invalid: {reason}")]
    Config {
        /// The setting that is invalid.
        reason: String,
    },
    /// No connection could be made.
    #[error("could not connect to NATS at {servers}: {reason}")]
    Connect {
        /// Hosts and ports.
        servers: String,
        /// The error.
        reason: String,
    },
    /// A stream or bucket could not be made, or is not what it has to be.
    #[error("the stream or bucket {name} cannot be used: {reason}")]
    Stream {
        /// The name.
        name: String,
        /// The error.
        reason: String,
    },
}

/// A bus over one connection to NATS.
///
/// It reconnects by itself. After each loss of the connection, publishers repeat what was not
/// acknowledged as resets and snapshots, and followers read every book anew.
///
/// Dropping it closes the connection; what was not sent yet is lost.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use kalshi_fanout::{
///     Follower, FollowerConfig, live::LiveFollower, nats::{NatsBus, NatsConfig},
/// };
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = NatsBus::follower(NatsConfig::new("nats://localhost:4222", "demo")).await?;
/// let mut follower = Follower::new(FollowerConfig::new("demo"), || Duration::ZERO)?;
/// follower.follow(["KXHIGHNY-26NOV23-T60"])?;
/// let mut follower = LiveFollower::new(follower, bus);
/// while let Some(event) = follower.next().await {
///     println!("{event:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct NatsBus {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Outgoing>,
    incoming: mpsc::Receiver<Incoming>,
    /// An event that was taken while waiting.
    taken: Option<Incoming>,
    /// The number of times that the connection was lost, as of the last event that was taken.
    generation: u64,
    /// The number of the last request of the lease: the answers to earlier ones are dropped.
    lease_number: u64,
    /// Ends with the bus.
    _tasks: JoinSet<()>,
}

/// What the bus and its tasks share.
struct Shared {
    names: Names,
    /// `None` for a follower, which makes no streams.
    streams: Option<StreamSettings>,
    state: Mutex<State>,
    /// The subscriptions that are to be made: as many as are followed.
    subscriptions: Mutex<VecDeque<String>>,
    /// There are subscriptions to be made.
    subscribed: Notify,
    /// A stream or the bucket is missing.
    setup: Notify,
}

#[derive(Default)]
struct State {
    is_connected: bool,
    /// The number of times that the connection was lost.
    generation: u64,
    /// The messages whose end is not known.
    outstanding: BTreeSet<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the subscriptions that are to be made.
    fn subscriptions(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NatsBus {
    /// Connects for a publisher, and makes the streams and the bucket that are missing.
    ///
    /// # Errors
    ///
    /// The settings are invalid, there is no connection within the time of the settings, or a stream
    /// is there that does not have the subjects that it needs: then nothing may be published, because
    /// it would be lost.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the connection; streams may have been made.
    pub async fn publisher(config: NatsConfig) -> Result<Self, NatsError> {
        Self::connect(config, true).await
    }

    /// Connects for a follower. It makes nothing on the broker but consumers of the log, which the
    /// broker removes by itself.
    ///
    /// # Errors
    ///
    /// The settings are invalid, or there is no connection within the time of the settings.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the connection.
    pub async fn follower(config: NatsConfig) -> Result<Self, NatsError> {
        Self::connect(config, false).await
    }

    async fn connect(config: NatsConfig, is_publisher: bool) -> Result<Self, NatsError> {
        let names = Names::new(config.environment())?;
        let (events, event) = mpsc::channel(64);
        let client = config.connect(events).await?;
        let context = jetstream::new(client.clone());
        let streams = is_publisher.then_some(config.streams);
        if let Some(settings) = &streams {
            streams::ensure(&context, &names, settings).await?;
        }
        let acknowledgements = client.new_inbox();
        let subscribed = client.subscribe(format!("{acknowledgements}.*")).await;
        let subscribed = subscribed.map_err(|error| NatsError::Connect {
            servers: config.hosts(),
            reason: error.to_string(),
        })?;
        let state = State { is_connected: true, ..State::default() };
        let shared = Arc::new(Shared {
            names,
            streams,
            state: Mutex::new(state),
            subscriptions: Mutex::default(),
            subscribed: Notify::new(),
            setup: Notify::new(),
        });
        let (outgoing, to_send) = mpsc::channel(OUTGOING);
        let (arrived, incoming) = mpsc::channel(config.queue);
        let tasks = tasks::spawn(tasks::Parts {
            client,
            context,
            shared: Arc::clone(&shared),
            inbox: acknowledgements,
            acknowledgements: subscribed,
            events: event,
            outgoing: to_send,
            incoming: arrived,
        });
        let (generation, lease_number) = (0, 0);
        Ok(Self {
            shared,
            outgoing,
            incoming,
            taken: None,
            generation,
            lease_number,
            _tasks: tasks,
        })
    }

    /// Reports whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.shared.state().is_connected
    }

    /// Hands something to the task that sends. Where there is no room it is not sent: publishers and
    /// followers repeat what has no answer.
    fn send(&self, outgoing: Outgoing) {
        if self.outgoing.try_send(outgoing).is_err() {
            tracing::debug!("the queue to NATS is full");
        }
    }

    fn take(&mut self, incoming: Incoming) -> Option<BusEvent> {
        match incoming {
            Incoming::Event(event) => Some(event),
            Incoming::Lost(generation) => {
                self.generation = generation;
                Some(BusEvent::Lost)
            }
            Incoming::Answer(generation, event) => (generation == self.generation).then_some(event),
            Incoming::Lease(number, event) => (number == self.lease_number).then_some(event),
        }
    }
}

impl Bus for NatsBus {
    fn publish(&mut self, token: u64, message: BusMessage, _now: Duration) {
        let is_connected = {
            let mut state = self.shared.state();
            state.outstanding.insert(token);
            if state.outstanding.len() > OUTSTANDING {
                state.outstanding.pop_first();
            }
            state.is_connected
        };
        // Without a connection its end follows when there is one.
        if is_connected {
            self.send(Outgoing::Publish(token, message));
        }
    }

    fn subscribe(&mut self, pattern: &str) {
        // Not by the queue, which may be full: nothing repeats a subscription.
        self.shared.subscriptions().push_back(pattern.to_owned());
        self.shared.subscribed.notify_one();
    }

    fn last(&mut self, subject: &str, _now: Duration) {
        self.send(Outgoing::Request(Request::Last(subject.to_owned())));
    }

    fn log(&mut self, ticker: &str, pattern: &str, since: UnixMillis, _now: Duration) {
        let (ticker, pattern) = (ticker.to_owned(), pattern.to_owned());
        self.send(Outgoing::Request(Request::Log { ticker, pattern, since }));
    }

    fn lease(&mut self, request: LeaseRequest, _now: Duration) {
        self.lease_number += 1;
        self.send(Outgoing::Lease(self.lease_number, request));
    }

    fn next(&mut self, _now: Duration) -> Option<BusEvent> {
        loop {
            let incoming = match self.taken.take() {
                Some(incoming) => incoming,
                None => self.incoming.try_recv().ok()?,
            };
            if let Some(event) = self.take(incoming) {
                return Some(event);
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.taken.is_some() {
            return Poll::Ready(());
        }
        match self.incoming.poll_recv(cx) {
            Poll::Ready(Some(incoming)) => {
                self.taken = Some(incoming);
                Poll::Ready(())
            }
            // Without its tasks nothing comes any more.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("NatsBus")
            .field("is_connected", &state.is_connected)
            .field("outstanding", &state.outstanding.len())
            .finish_non_exhaustive()
    }
}
