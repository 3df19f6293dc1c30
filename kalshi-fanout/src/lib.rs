//! One connection to the Kalshi streams for many processes, over a message bus.
//!
//! - [`Publisher`] turns the frames of a connection into messages: the frames stay byte for byte as
//!   the exchange sent them, and an [`Envelope`] of headers stands beside each.
//! - [`Follower`] turns the messages into the events and books that a direct connection has. A book
//!   can be read only when it is exactly that of the publisher at one number.
//! - [`Lease`] decides which of several publishers publishes.
//! - [`bus`] has what they need of a bus, and one inside of the process. With the feature `nats`, the
//!   module `nats` has one over NATS JetStream, and reads your account once for many processes.
//! - [`live`] runs them: a publisher from a connection to the exchange, and a follower that is read
//!   as a connection is.
//! - [`subject`] says where each message goes.
//! - With the feature `budget`, the module `budget` is one rate budget for the processes of several
//!   machines, a back end of `kalshi_trade::budget`.
//!
//! The cores are pure: time is an argument, and they hold no socket. What carries the messages may
//! lose, repeat, reorder and delay them; each loss is an event, and the book is void until it has
//! been repaired.
//!
//! # What it refuses to do
//!
//! - It publishes nothing that is private: no requests for quotes, no client order id of a change of a
//!   book by one of your own orders, and no fills, orders and positions unless the settings name the
//!   account.
//! - It never shows a book across a hole in the numbers of its messages.
//! - A publisher whose lease is over publishes nothing, and a follower takes nothing of a publisher
//!   that has been replaced: after a silence or a loss of the bus it knows so for a minute.
//!
//! The exchange's terms say to whom its data may be passed on: keep to your own organization.

#[cfg(feature = "budget")]
pub mod budget;
pub mod bus;
mod control;
mod envelope;
mod follower;
mod frame;
mod lease;
mod levels;
pub mod live;
#[cfg(feature = "nats")]
pub mod nats;
#[doc = include_str!("operations.md")]
pub mod operations {}
mod publisher;
pub mod subject;

pub use crate::{
    control::Control,
    envelope::{
        BusMessage, Envelope, EnvelopeError, Epoch, Flags, MAX_HEADER, MAX_HEADERS, MESSAGE_ID,
    },
    follower::{Follower, FollowerConfig, FollowerMetrics, FollowerRequest},
    frame::write_frame,
    lease::{Lease, LeaseEntry, LeaseRequest, LeaseWrite},
    levels::hash_levels,
    publisher::{Publication, Publisher, PublisherConfig, PublisherMetrics},
};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[expect(missing_debug_implementations, reason = "exists for its documentation only")]
pub struct ReadmeDoctests;
