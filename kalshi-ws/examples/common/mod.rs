//! Where the examples connect to: an exchange in this process, or the one that `KALSHI_ENV` names.

use std::{env, error::Error, future::pending, time::Duration};

use kalshi_auth::Credentials;
use kalshi_sim::{Exchange, Role};
use kalshi_ws::{Config, ConfigBuilder, Environment};
use tokio::{select, signal::ctrl_c, time::sleep};

/// Returns a stream's configuration, and the embedded exchange if there is one: it stops when
/// dropped.
pub(crate) async fn configure() -> Result<(ConfigBuilder, Option<Exchange>), Box<dyn Error>> {
    if env::var_os("KALSHI_ENV").is_some() {
        let config = Config::builder()
            .with_environment(Environment::from_env()?)
            .with_credentials(Credentials::from_env()?);
        return Ok((config, None));
    }
    // The traders keep its markets going.
    let exchange = Exchange::builder().with_traders(20).start().await?;
    Ok((configure_as(&exchange, Role::Trader)?, Some(exchange)))
}

/// Returns the configuration for a stream of the embedded exchange.
pub(crate) fn configure_as(
    exchange: &Exchange,
    role: Role,
) -> Result<ConfigBuilder, Box<dyn Error>> {
    let credentials = exchange.credentials(role).ok_or("the exchange has no keys")?;
    Ok(Config::builder()
        .with_environment(Environment::Custom(exchange.stream_url()))
        .with_credentials(credentials.clone()))
}

/// Returns some open markets of the embedded exchange; elsewhere they have to be named.
#[allow(dead_code, reason = "not every example is about markets")]
pub(crate) async fn markets(
    exchange: Option<&Exchange>,
    named: &[String],
) -> Result<Vec<String>, Box<dyn Error>> {
    match exchange {
        Some(exchange) if named.is_empty() => {
            let client = exchange.client(Role::Trader)?;
            let page = client.get_markets().status("open").limit(5_u64).send().await?;
            Ok(page.into_inner().markets.into_iter().map(|market| market.ticker).collect())
        }
        _ if named.is_empty() => Err("name a market".into()),
        _ => Ok(named.to_vec()),
    }
}

/// Waits for Ctrl-C, or for the end of `EXAMPLE_SECONDS`.
pub(crate) async fn stopped() -> Result<(), Box<dyn Error>> {
    let seconds = env::var("EXAMPLE_SECONDS").ok().map(|text| text.parse()).transpose()?;
    let end = async {
        match seconds {
            Some(seconds) => sleep(Duration::from_secs(seconds)).await,
            None => pending().await,
        }
    };
    select! {
        pressed = ctrl_c() => Ok(pressed?),
        () = end => Ok(()),
    }
}
