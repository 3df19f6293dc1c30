//! x
mod book;
mod books;
mod error;
mod event;
mod frame;
mod generated;
mod message;
mod scan;
mod values;
pub(crate) use crate::values::{builder_value, builder_value_optional};
pub use crate::{
    book::{BookError, OrderBook, Outcome, Sweep},
    books::{BookChange, BookState, Books},
    error::{CommandError, ConnectError, ConnectErrorKind},
    event::{DisconnectReason, EndReason, Event, Refusal},
    frame::{Decoder, Frame, Malformed, Unknown},
    generated::{Channel, MESSAGE_KINDS, Payload, SPEC_VERSION, types},
    message::{Delta, Message, MessageKind, ServerError, Sid},
};
