//! Measurements of a running connection.

use crate::{
    event::Event,
    product::{EventContracts, Product},
    protocol::message::Message,
};

/// Receives the measurements of a connection, to hand them to a library for metrics.
///
/// It is called in the task that reads the connection, before the events are in the queue to the
/// consumer, and must not wait for anything. Every method does nothing by default.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicI64, AtomicU64, Ordering}};
///
/// use kalshi_ws::{Batch, Event, Message, Metrics};
///
/// #[derive(Clone, Default)]
/// struct Counters {
///     gaps: Arc<AtomicU64>,
///     lag_millis: Arc<AtomicI64>,
///     waiting: Arc<AtomicU64>,
/// }
///
/// impl Metrics for Counters {
///     fn message(&mut self, message: &Message) {
///         if let Some(lag) = message.lag_millis() {
///             self.lag_millis.store(lag, Ordering::Relaxed);
///         }
///     }
///
///     fn event(&mut self, event: &Event) {
///         if let Event::Gap { .. } = event {
///             self.gaps.fetch_add(1, Ordering::Relaxed);
///         }
///     }
///
///     fn batch(&mut self, batch: &Batch) {
///         self.waiting.store(batch.waiting as u64, Ordering::Relaxed);
///     }
/// }
/// ```
pub trait Metrics<P: Product = EventContracts>: Send {
    /// Counts a message of a subscription that is on its way to the consumer.
    fn message(&mut self, message: &Message<P>) {
        let _ = message;
    }

    /// Counts another event on its way to the consumer: a gap, a resync, a loss, an answer.
    fn event(&mut self, event: &Event<P>) {
        let _ = event;
    }

    /// Counts a batch of frames that was read, and whose events are in the queue.
    fn batch(&mut self, batch: &Batch) {
        let _ = batch;
    }
}

/// Frames that were read at a stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The number of frames.
    pub frames: usize,
    /// The bytes of their texts.
    pub bytes: usize,
    /// The events that wait for the consumer after it.
    pub waiting: usize,
    /// The messages that were dropped since the batch before, because the consumer was too slow.
    pub dropped: u64,
}
