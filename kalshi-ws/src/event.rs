//! What a stream tells its consumer. Whatever may be missing is an event among the messages.

use std::{fmt, time::Duration};

use crate::{
    error::ConnectError,
    frame::{Malformed, Unknown},
    generated::Channel,
    message::{Message, ServerError, Sid},
};

/// Something that happened on a stream, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message of a subscription.
    Message(Message),
    /// The exchange confirmed a subscription, for the first time or anew.
    Subscribed {
        /// The channel.
        channel: Channel,
        /// Its number on this connection.
        sid: Sid,
    },
    /// A subscription is over because it was asked for. Its channel sends no more.
    Unsubscribed {
        /// The channel.
        channel: Channel,
    },
    /// Markets (or indices, or underlyings) were taken out of a subscription. What is known of them
    /// is no longer kept up to date from here on, although a last message may still come.
    Removed {
        /// The channel.
        channel: Channel,
        /// What was taken out.
        items: Vec<String>,
    },
    /// Messages of a subscription were lost. Every order book of it is void from here on; snapshots
    /// have been asked for.
    ///
    /// Where the numbers of a subscription begin is not documented, so the loss of its very first
    /// messages shows as [`Overdue`](Self::Overdue) only.
    Gap {
        /// The channel.
        channel: Channel,
        /// The subscription.
        sid: Sid,
        /// The number that was due, if one is known.
        expected: Option<i64>,
        /// The number that came instead; `None` if none could be read.
        received: Option<i64>,
    },
    /// The first snapshots of these markets have not come in time: they are late, or lost. They have
    /// been asked for again. Other order books are not in doubt.
    Overdue {
        /// The channel.
        channel: Channel,
        /// The subscription.
        sid: Sid,
        /// The markets.
        items: Vec<String>,
    },
    /// After a gap, every market of the subscription has a new snapshot.
    Resynced {
        /// The channel.
        channel: Channel,
        /// The subscription.
        sid: Sid,
    },
    /// The connection is lost. Whatever the exchange sends from here until the subscriptions are
    /// confirmed again is missed.
    Disconnected {
        /// Why.
        reason: DisconnectReason,
    },
    /// An attempt to connect again failed; the next one follows.
    ReconnectFailed {
        /// How many have failed since the connection was lost.
        attempt: u32,
        /// Why, in the words of the error.
        error: String,
    },
    /// There is a connection again, and the subscriptions have been asked for.
    Reconnected {
        /// How many attempts it took.
        attempts: u32,
    },
    /// Nothing has come for so long, not even a ping, that the connection is given up. A
    /// [`Disconnected`](Self::Disconnected) follows.
    Stale {
        /// How long.
        silent_for: Duration,
    },
    /// The consumer was too slow, and the oldest messages of a channel were dropped to make room.
    /// Here is where they would have been.
    Lagged {
        /// The channel; `None` for messages of no subscription.
        channel: Option<Channel>,
        /// How many.
        dropped: u64,
    },
    /// A subscription, or a part of one, was refused and is given up.
    Refused {
        /// The channel.
        channel: Channel,
        /// The markets that are given up; empty for the whole subscription.
        items: Vec<String>,
        /// Why.
        reason: Refusal,
    },
    /// A subscription is dead. Unless the consumer was too slow for its policy, it is made anew.
    Ended {
        /// The channel.
        channel: Channel,
        /// Why.
        reason: EndReason,
    },
    /// A message of a subscription that nobody made, or of a market that has been taken out.
    Unmatched(Message),
    /// A message of a type that this version does not know.
    Unknown(Unknown),
    /// A frame that does not decode.
    Malformed(Malformed),
    /// An error of the exchange that belongs to no command and to no subscription.
    ServerError(ServerError),
    /// The stream is over: it was closed, or it has given up connecting. Nothing follows.
    Closed {
        /// Why it gave up; `None` when it was closed.
        error: Option<String>,
    },
}

/// Why a connection was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The exchange closed it.
    Closed {
        /// The code of the close frame.
        code: Option<u16>,
        /// Its words.
        reason: String,
    },
    /// The network, or what was sent over it, failed.
    Failed(String),
    /// Nothing came for too long.
    Silent,
    /// A command was not answered in time.
    CommandTimeout,
    /// A subscription died, and the exchange did not say which.
    SubscriptionLost(ServerError),
}

/// Why a subscription was refused.
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

/// Why a subscription died.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The exchange says so.
    Server(ServerError),
    /// The consumer was too slow, and its policy is to fail.
    Overflow,
    /// The exchange took it off the connection without saying why.
    Unsubscribed,
}

impl Event {
    /// The message, if this is one.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::Message(message) => Some(message),
            _ => None,
        }
    }

    pub(crate) fn reconnect_failed(attempt: u32, error: &ConnectError) -> Self {
        Self::ReconnectFailed { attempt, error: error.full() }
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
                write!(f, "a subscription died, and it is not known which: {error}")
            }
        }
    }
}
