//! A path that this version has no method for, read into a type of your own.
//!
//! ```text
//! cargo run --example raw_request
//! ```
//!
//! The request is signed as the others are, and its errors tell the same things. A write that fails
//! with an unknown effect must be reconciled here, too.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo`,
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo environment.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::error::Error;

use http::Method;
use kalshi_sdk::Dollars;
use serde::Deserialize;

/// Only the fields that are wanted: others are ignored.
#[derive(Debug, Deserialize)]
struct Balance {
    balance_dollars: Dollars,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, _exchange) = common::connect().await?;

    // Public: no signature, no tokens.
    let status = client.raw(Method::GET, "/exchange/status").public();
    let status = status.send::<serde_json::Value>().await?.into_inner();
    println!("trading is {}", if status["trading_active"] == true { "on" } else { "off" });

    // Signed. The query is not part of the path.
    let balance = client.raw(Method::GET, "/portfolio/balance").query(&[("subaccount", 0)]);
    let balance = balance.send::<Balance>().await?.into_inner();
    println!("{} dollars", balance.balance_dollars);

    // What is refused says so in the same way.
    match client.raw(Method::GET, "/no/such/path").public().send_empty().await {
        Ok(_) => return Err("a path that nobody has was answered".into()),
        Err(error) => println!("{:?}, {:?}: {error}", error.kind(), error.effect()),
    }
    Ok(())
}
