//! The simulator, asked over HTTP as any client would ask it.

mod admin;
mod communications;
#[path = "../../src/contract.rs"]
mod contract;
mod families;
mod faults;
mod flood;
mod keys;
mod klear;
mod klear_conformance;
mod lag;
mod late;
mod layers;
mod market_filters;
mod markets;
mod money;
mod operation_conformance;
mod orders;
mod other_clients;
mod perps;
mod perps_conformance;
mod perps_streams;
mod portfolio;
mod program;
mod rules;
mod stream_conformance;
mod streams;
mod surface;
mod ui;

use kalshi_auth::{Credentials, KeyType, server::KeyPair};
use kalshi_sdk::{Client, Error};
use kalshi_sim::{Exchange, Role};

/// Returns a client of the exchange with other credentials.
fn client_with(exchange: &Exchange, credentials: Credentials) -> Client {
    Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(credentials)
        .build()
        .expect("the settings are sound")
}

/// Registers a new key and gives its credentials.
fn registered(exchange: &Exchange, id: &str, key_type: KeyType) -> Credentials {
    let pair = KeyPair::generate(key_type).expect("there are random numbers");
    exchange.members().add_key(Role::Trader, id, &pair.public_key().to_pem()).expect("it is a key");
    Credentials::from_pem(id, pair.private_key_pem()).expect("it is a key")
}

fn status(error: &Error) -> u16 {
    error.status().map_or(0, |status| status.as_u16())
}
