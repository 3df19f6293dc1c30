//! The wire protocol: frames, commands and messages. Pure.

pub(crate) mod command;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod scan;
