//! The target of the examples: an exchange in this process, or the one that `KALSHI_ENV` names.

use std::error::Error;

use kalshi_sdk::{Client, Credentials, Environment};
use kalshi_sim::{Exchange, Role};

/// Returns a client, and the embedded exchange if there is one: it stops when it is dropped.
///
/// Against a real environment the key is optional: public operations need none, and a private one
/// fails before anything is sent, naming the variables to set.
pub(crate) async fn connect() -> Result<(Client, Option<Exchange>), Box<dyn Error>> {
    if std::env::var_os("KALSHI_ENV").is_some() {
        let mut client = Client::builder().with_environment(Environment::from_env()?);
        let variables = ["KALSHI_API_KEY_ID", "KALSHI_PRIVATE_KEY", "KALSHI_PRIVATE_KEY_PATH"];
        if variables.iter().any(|name| std::env::var_os(name).is_some()) {
            client = client.with_credentials(Credentials::from_env()?);
        }
        return Ok((client.build()?, None));
    }
    // `EXAMPLE_LAG=realistic` lets its reads trail, as those of a real environment do.
    let lag = std::env::var("EXAMPLE_LAG").unwrap_or_else(|_| "none".to_owned());
    let exchange = Exchange::builder().with_lag(lag.parse()?).start().await?;
    Ok((exchange.client(Role::Trader)?, Some(exchange)))
}
