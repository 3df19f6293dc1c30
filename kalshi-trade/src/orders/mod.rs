//! Your orders: what is known of each, and what is wanted of it.
//!
//! Pure: messages, reads and outcomes of placements go in, [`OrderEvent`]s come out. Two facts of
//! an order are apart, so that no message is impossible: its [`Life`], and the [`OrderIntent`] that
//! is pending. Fills count in every life, each trade once. Whatever the order in which messages
//! arrive, the end is the same.
//!
//! It sends nothing, and reads nothing: it says what has to be read. What was missed is found by
//! [`Portfolio`](kalshi_ws::Portfolio), whose reconciliations go into
//! [`OrderManager::reconcile`].

mod event;
mod manager;
mod order;
#[cfg(test)]
mod properties;

pub use self::{
    event::OrderEvent,
    manager::OrderManager,
    order::{IntentError, Life, ManagedOrder, OrderIntent, OrderKey, OverReason},
};
