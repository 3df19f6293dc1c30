//! Calls any operation by its name. Generated beside the client, from the same document.

use std::{fmt, str::FromStr};

use kalshi_sdk::{Client, CommaSeparated, types};

type Failure = Box<dyn std::error::Error + Send + Sync>;

include!(concat!(env!("OUT_DIR"), "/dispatch.rs"));

fn read<T>(name: &str, text: &str) -> Result<T, Failure>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    text.parse().map_err(|error| format!("{name}={text:?}: {error}").into())
}
