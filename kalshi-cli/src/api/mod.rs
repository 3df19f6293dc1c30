//! Calls of the operation table: every command ends here.

mod body;
mod call;
mod ceiling;
mod command;
mod parameters;
mod schema;

#[cfg(feature = "mcp")]
pub(crate) use self::command::{description, find};
pub(crate) use self::{
    body::Body,
    call::{Call, Next, interrupted},
    command::Command,
};
