//! Streams of the Kalshi exchange, and order books that are right or say that they are not.
//!
//! - [`Stream`] is a connection that comes back: it signs a new handshake after each loss and asks
//!   again for what it was asked for. Every loss is an [`Event`] among the messages.
//! - [`Subscription`] is a wish for one channel; [`Commands`] changes the wishes of a running stream.
//! - [`Books`] keeps the order books. One can be read only while everything that the exchange sent
//!   for it is known to have arrived.
//! - [`Portfolio`] keeps your fills, orders and positions, and is reconciled with REST.
//! - [`Decoder`] turns the text of a frame into what it says. It loses nothing: a message of a type
//!   that it does not know is kept whole.
//!
//! The messages are generated from the `AsyncAPI` document of the exchange, with the exact numbers and
//! open enums of `kalshi-types`.
//!
//! The [`guide`] has what can be lost, where it shows, and what to do then.
//!
//! # What it refuses to do
//!
//! - It never hands out a book that may be wrong, and never drops a message without an event in its
//!   place.
//! - It never sends credentials over an unencrypted connection to another machine.
//! - Nothing is started by a constructor: only [`Stream::connect`] connects and spawns a task.
//!
//! # Features
//!
//! - `recorder`: recordings of a stream, compressed with gzip. Off by default.

mod book;
mod books;
mod command;
mod config;
mod connect;
mod error;
mod event;
mod frame;
mod generated;
#[doc = include_str!("guide.md")]
pub mod guide {}
mod machine;
mod message;
mod portfolio;
mod queue;
#[cfg(feature = "recorder")]
pub mod recording;
mod replay;
mod scan;
#[cfg(test)]
mod soak;
mod stream;
mod subscription;

/// The environments of the exchange: production, demo, or another URL.
pub use kalshi_auth::Environment;
pub(crate) use kalshi_types::builder::{builder_value, builder_value_optional};

pub use crate::{
    book::{BookError, OrderBook, Outcome, Sweep},
    books::{BookChange, BookState, Books},
    config::{Backoff, Config, Tap},
    error::{CommandError, ConnectError, ConnectErrorKind},
    event::{DisconnectReason, EndReason, Event, Refusal},
    frame::{Decoder, Frame, Malformed, Unknown},
    generated::{Channel, MESSAGE_KINDS, Payload, SPEC_VERSION, types},
    message::{Delta, Market, Message, MessageKind, OwnChange, ServerError, Sid},
    portfolio::{
        AccountSnapshot, AccountSource, FillRecord, OrderRecord, Portfolio, PortfolioChange,
        PositionRecord, ReconcileStatus, Reconciled, Reconciliation,
    },
    replay::{PriceConvention, Replay},
    stream::{Commands, Stream},
    subscription::{DEFAULT_CAPACITY, Overflow, Subscription},
};
