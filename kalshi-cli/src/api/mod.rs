//! Calls of the operation table: every command ends here.

mod body;
mod call;
mod ceiling;
mod command;
mod parameters;
mod schema;

pub(crate) use self::{
    body::Body,
    call::{Call, Next, interrupted},
    command::Command,
};
