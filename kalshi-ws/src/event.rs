//! The events of a connection. Whatever may be missing is an event among the messages.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    error::ConnectError,
    product::{EventContracts, Product},
    protocol::{
        frame::{Malformed, Unknown},
        message::{Message, ServerError, Sid},
    },
};

/// An event of a connection, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<P: Product = EventContracts> {
    /// A message of a subscription.
    Message(Message<P>),
    /// The exchange confirmed a subscription, for the first time or anew.
    Subscribed {
        /// The channel.
        channel: P::Channel,
        /// Its number on this connection.
        sid: Sid,
    },
    /// Markets (or indices, or underlyings) are in a subscription, as was requested: the exchange
    /// has confirmed them, or they were there. Those that a subscription begins with are confirmed
    /// by [`Subscribed`](Self::Subscribed).
    Added {
        /// The channel.
        channel: P::Channel,
        /// The items; none for a channel that has all of them.
        items: Vec<String>,
    },
    /// A subscription ended because that was requested. Its channel sends no more.
    Unsubscribed {
        /// The channel.
        channel: P::Channel,
    },
    /// Markets (or indices, or underlyings) were taken out of a subscription. What is known of them
    /// is no longer kept up to date from here on, although a last message may still come.
    Removed {
        /// The channel.
        channel: P::Channel,
        /// The items taken out.
        items: Vec<String>,
    },
    /// Messages of a subscription were lost, or came and could not be read; or a book's message came
    /// of a market that was not subscribed to. Order books of it are void from here on, and their snapshots are requested. On other channels read the state back
    /// over REST; the subscription goes on.
    Gap {
        /// The channel.
        channel: P::Channel,
        /// The subscription.
        sid: Sid,
        /// The number that was due, if one is known.
        expected: Option<i64>,
        /// The number that came instead; `None` if none could be read.
        received: Option<i64>,
    },
    /// The first snapshots of these markets have not come in time: they are late, or lost. They are
    /// requested. Other order books are not in doubt.
    Overdue {
        /// The channel.
        channel: P::Channel,
        /// The subscription.
        sid: Sid,
        /// The markets.
        items: Vec<String>,
    },
    /// After a gap, every market of the subscription has a new snapshot.
    Resynced {
        /// The channel.
        channel: P::Channel,
        /// The subscription.
        sid: Sid,
    },
    /// The connection is lost. Whatever the exchange sends from here until the subscriptions are
    /// confirmed again is missed.
    Disconnected {
        /// The reason.
        reason: DisconnectReason,
    },
    /// An attempt to connect again failed; the next one follows.
    ReconnectFailed {
        /// The number of attempts that have failed since the connection was lost.
        attempt: u32,
        /// The error of this one.
        error: Arc<ConnectError>,
    },
    /// There is a connection again, and the subscriptions have been requested.
    Reconnected {
        /// The number of attempts that it took.
        attempts: u32,
    },
    /// Nothing has come for too long, not even a ping, or the machine was asleep: the connection is
    /// given up. A [`Disconnected`](Self::Disconnected) follows.
    Stale {
        /// The time without a frame.
        silent_for: Duration,
    },
    /// The consumer was too slow, and the oldest messages of a channel were dropped to make room.
    /// Here is where they would have been.
    Lagged {
        /// The channel; `None` for messages of no subscription.
        channel: Option<P::Channel>,
        /// The number of messages.
        dropped: u64,
    },
    /// A subscription, or a part of one, was refused and is given up.
    Refused {
        /// The channel.
        channel: P::Channel,
        /// The markets that are given up; empty for the whole subscription.
        items: Vec<String>,
        /// The reason.
        reason: Refusal,
    },
    /// The exchange ended a subscription, or the consumer was too slow for its policy. In the first
    /// case it is requested anew.
    Terminated {
        /// The channel.
        channel: P::Channel,
        /// The reason.
        reason: TerminationReason,
    },
    /// A query, such as [`list_indices`](crate::ConnectionHandle::list_indices), was not answered in
    /// time. Nothing else is affected.
    Unanswered {
        /// The channel of the query.
        channel: Option<P::Channel>,
    },
    /// A message of an unknown subscription, or of a market that was taken out or not subscribed to.
    Unmatched(Message<P>),
    /// A message of a type that this version does not know.
    Unknown(Unknown),
    /// A frame that does not decode.
    Malformed(Malformed),
    /// An error of the exchange that belongs to no command and to no subscription.
    ServerError(ServerError),
    /// Of [redundant feeds](crate::RedundantFeed), and of followers of a message bus, only: messages
    /// were lost that no feed covers.
    Uncovered {
        /// The channel.
        channel: P::Channel,
        /// The markets whose order books are void until their next snapshots, which are requested.
        /// Empty for a channel without order books: read its state back over REST.
        items: Vec<String>,
        /// The cause.
        cause: UncoveredCause,
    },
    /// Of [redundant feeds](crate::RedundantFeed) only: another feed leads. Messages that have no
    /// key (all but order books, trades and fills) come from that feed from here on: some may be
    /// missing, and some may come twice.
    Failover {
        /// The feed that led, by its place.
        from: usize,
        /// The feed that leads now.
        to: usize,
    },
    /// Of [redundant feeds](crate::RedundantFeed) only: an event of one feed that changes nothing in
    /// the merged stream, such as a loss that another feed covers.
    Feed {
        /// The feed, by its place.
        feed: usize,
        /// The event.
        event: Box<Self>,
    },
    /// The connection is closed for good. Nothing follows.
    Closed {
        /// The reason for which the connection gave up; `None` when it was closed by the caller.
        error: Option<Arc<ConnectError>>,
    },
}

/// The cause of [`Event::Uncovered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UncoveredCause {
    /// Every feed lost messages.
    Lost,
    /// The clock of the market went back, as it may in maintenance. What came before does not
    /// compare with what follows: changes may be missing, and some may come twice.
    ClockReset,
    /// The feeds that lost nothing were too far behind another one to be waited for.
    Behind,
    /// The feeds contradict each other, or the messages contradict the order book.
    Contradiction,
}

/// The reason for which a connection was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The exchange closed it.
    Closed {
        /// The code of the close frame.
        code: Option<u16>,
        /// The text of the reason.
        reason: String,
    },
    /// The network, or what was sent over it, failed.
    Failed(String),
    /// Nothing came for too long.
    Silent,
    /// A command was not answered in time.
    CommandTimeout,
    /// A subscription ended, and the exchange did not name it.
    SubscriptionLost(ServerError),
    /// The exchange has a subscription of the channel, and did not name it.
    UnknownSubscription,
    /// Replies without an id contradict those with one: what the exchange has is not known.
    ContradictoryReply,
    /// The machine was asleep, or its clock was set forward.
    Suspended,
}

/// The reason for which a subscription was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The exchange says so.
    Server(ServerError),
    /// The channel is subscribed to already, with other options.
    Conflict,
    /// There is no such subscription.
    NotSubscribed,
}

/// The reason for which a subscription ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TerminationReason {
    /// The exchange says so.
    Server(ServerError),
    /// The consumer was too slow, and its policy is to fail.
    Overflow,
    /// The exchange took it off the connection without saying why.
    Unsubscribed,
}

impl<P: Product> Event<P> {
    /// Returns the message, if this is one.
    pub fn message(&self) -> Option<&Message<P>> {
        match self {
            Self::Message(message) => Some(message),
            _ => None,
        }
    }

    /// Returns the clock of a snapshot or delta of a book: see [`Payload::clock`](crate::Payload::clock).
    #[inline]
    pub fn clock(&self) -> Option<i64> {
        self.message()?.clock()
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { code: Some(code), reason } => {
                write!(f, "the exchange closed the connection: {code} {reason}")
            }
            Self::Closed { code: None, .. } => f.write_str("the exchange closed the connection"),
            Self::Failed(error) => write!(f, "the connection failed: {error}"),
            Self::Silent => f.write_str("nothing came for too long"),
            Self::CommandTimeout => f.write_str("a command was not answered in time"),
            Self::SubscriptionLost(error) => {
                write!(f, "a subscription ended, and the exchange did not name it: {error}")
            }
            Self::UnknownSubscription => {
                f.write_str("the exchange has a subscription that it did not name")
            }
            Self::ContradictoryReply => {
                f.write_str("replies of the exchange contradict each other")
            }
            Self::Suspended => f.write_str("the machine was asleep, or its clock was set forward"),
        }
    }
}
