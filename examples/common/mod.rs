//! Where the examples talk to: an exchange in this process, or the one that `KALSHI_ENV` names.

use std::error::Error;

use kalshi_sdk::{Client, Credentials, Environment};
use kalshi_sim::{Exchange, Role};

/// A client, and the embedded exchange if there is one: it stops when it is dropped.
pub(crate) async fn connect() -> Result<(Client, Option<Exchange>), Box<dyn Error>> {
    if std::env::var_os("KALSHI_ENV").is_some() {
        let client = Client::builder()
            .with_environment(Environment::from_env()?)
            .with_credentials(Credentials::from_env()?)
            .build()?;
        return Ok((client, None));
    }
    let exchange = Exchange::start().await?;
    Ok((exchange.client(Role::Trader)?, Some(exchange)))
}
