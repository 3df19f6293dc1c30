//! Calls of the operation tables: every command ends here.

mod body;
mod call;
mod ceiling;
mod command;
mod parameters;
mod schema;
mod secret;
mod table;

#[cfg(any(feature = "klear", feature = "perps"))]
pub(crate) use self::command::Request;
#[cfg(feature = "mcp")]
pub(crate) use self::command::description;
#[cfg(feature = "klear")]
pub(crate) use self::table::KLEAR;
#[cfg(feature = "perps")]
pub(crate) use self::table::PERPS;
pub(crate) use self::{
    body::Body,
    call::{Call, Next},
    command::Command,
    table::{Hints, TRADE_API, Table},
};
