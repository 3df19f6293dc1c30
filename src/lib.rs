//! Client for the Kalshi Trade API.

mod client;
mod environment;
mod error;
mod generated;
pub mod operation;
mod pagination;
mod raw;
mod transport;
mod values;

pub use kalshi_auth::{self as auth, Credentials};
pub use kalshi_types::{self, Count, Dollars, PriceGrid, PriceLevel, UnixMillis, UnixSeconds};
pub use progenitor_client::ResponseValue;

pub use crate::{
    client::{
        Client, ClientBuilder, DEFAULT_CONNECT_TIMEOUT, DEFAULT_MAX_RESPONSE_BYTES, DEFAULT_TIMEOUT,
    },
    environment::Environment,
    error::{Effect, Error, ErrorKind},
    generated::{SPEC_VERSION, builder, types},
    operation::{OPERATIONS, Operation},
    pagination::{Pages, Rows},
    raw::RawRequest,
    values::{CommaSeparated, InvalidList, SecretText},
};

pub(crate) use crate::values::{builder_value, builder_value_optional};
