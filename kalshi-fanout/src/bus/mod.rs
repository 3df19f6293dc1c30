//! The bus as publishers and followers need it, and the nodes that drive them by it.

mod memory;
mod node;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use kalshi_types::UnixMillis;

pub use self::{
    memory::{Faults, MemoryBroker, MemoryBus},
    node::{FollowerNode, PublisherNode},
};
use crate::{
    envelope::BusMessage,
    lease::{LeaseEntry, LeaseRequest, LeaseWrite},
};

/// A client's end of a bus. No method waits: what follows comes out of [`next`](Self::next).
///
/// A bus is trusted with nothing but the compare-and-set of the lease. It may lose, repeat, reorder
/// and delay messages, forget its log and the last messages of subjects, and fail.
pub trait Bus {
    /// Sends a message. Its end is [`BusEvent::Acknowledged`] or [`BusEvent::Failed`], or none.
    fn publish(&mut self, token: u64, message: BusMessage, now: Duration);

    /// Subscribes to the messages of a pattern, in which `*` stands for one token, from now on. A
    /// pattern comes once, and its subscription may not be lost.
    fn subscribe(&mut self, pattern: &str);

    /// Requests the last message of a subject: [`BusEvent::Last`].
    fn last(&mut self, subject: &str, now: Duration);

    /// Requests the messages that the log has of a pattern from a time on: [`BusEvent::Logged`] for
    /// each, oldest first, and [`BusEvent::LogEnd`].
    fn log(&mut self, ticker: &str, pattern: &str, since: UnixMillis, now: Duration);

    /// Reads or writes the lease: [`BusEvent::LeaseRead`] or [`BusEvent::LeaseWritten`]. No revision
    /// comes twice, also not after the store was lost.
    fn lease(&mut self, request: LeaseRequest, now: Duration);

    /// Returns the next event that has come.
    fn next(&mut self, now: Duration) -> Option<BusEvent>;

    /// Waits until [`next`](Self::next) may have an event. A bus that does not say so is looked at
    /// ten times a second.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Pending
    }
}

/// An event of a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusEvent {
    /// The bus has a message that was published.
    Acknowledged(u64),
    /// The bus refused a message, or may not have it.
    Failed(u64),
    /// A message of a subscription.
    Message(BusMessage),
    /// The last message of a subject, if it has one.
    Last(Option<BusMessage>),
    /// A message of the log.
    Logged(BusMessage),
    /// The log of a market has been read.
    LogEnd(String),
    /// The entry of the lease and its revision.
    LeaseRead(Option<(LeaseEntry, u64)>),
    /// The end of a write of the lease.
    LeaseWritten(LeaseWrite),
    /// The connection to the bus was lost and made again: messages may be missing.
    Lost,
}
