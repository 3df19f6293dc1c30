//! Calls any operation by its name. Generated beside the clients, from the same documents.

use std::{fmt, str::FromStr};

use kalshi_sdk::{Client, CommaSeparated, types};

type Failure = Box<dyn std::error::Error + Send + Sync>;

include!(concat!(env!("OUT_DIR"), "/dispatch.rs"));

pub(crate) mod perps {
    use kalshi_sdk::{
        CommaSeparated,
        perps::{Perps, types},
    };

    use super::read;

    include!(concat!(env!("OUT_DIR"), "/perps_dispatch.rs"));
}

pub(crate) mod klear {
    use kalshi_sdk::klear::{Klear, types};

    use super::read;

    include!(concat!(env!("OUT_DIR"), "/klear_dispatch.rs"));
}

fn read<T>(name: &str, text: &str) -> Result<T, Failure>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    text.parse().map_err(|error| format!("{name}={text:?}: {error}").into())
}
