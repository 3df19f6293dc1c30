//! x
mod frame;
mod generated;
mod message;
mod scan;
mod values;
pub(crate) use crate::values::{builder_value, builder_value_optional};
pub use crate::{
    frame::{Decoder, Frame, Malformed, Unknown},
    generated::{Channel, MESSAGE_KINDS, Payload, SPEC_VERSION, types},
    message::{Delta, Message, MessageKind, ServerError, Sid},
};
