//! First contact: keys, markets, an order book.
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! starts an exchange inside this process and makes a key pair for it. To run the same against
//! demo or production, name the environment and the key:
//!
//! ```text
//! KALSHI_ENV=demo KALSHI_API_KEY_ID=… KALSHI_PRIVATE_KEY_PATH=~/kalshi.pem cargo run --example quickstart
//! ```
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

use std::error::Error;

use kalshi_sdk::{Client, Credentials, Environment, types::GetMarketsStatus};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::var_os("KALSHI_ENV").is_some() {
        let client = Client::builder()
            .with_environment(Environment::from_env()?)
            .with_credentials(Credentials::from_env()?)
            .build()?;
        return tour(&client).await;
    }
    println!("KALSHI_ENV is not set: starting an exchange in this process\n");
    let exchange = kalshi_sim::Exchange::start().await?;
    tour(&exchange.client(kalshi_sim::Role::Trader)?).await
}

async fn tour(client: &Client) -> Result<(), Box<dyn Error>> {
    // A signed request: it fails here if key id, key, clock or environment do not fit together.
    let keys = client.get_api_keys().send().await?.into_inner();
    println!("API keys at {}", client.base_url());
    for key in &keys.api_keys {
        let scopes: Vec<_> = key.scopes.iter().map(ToString::to_string).collect();
        println!("  {} {:?} [{}]", key.api_key_id, key.name, scopes.join(", "));
    }

    // A public list, page after page; taken for as long as it is wanted.
    println!("\nOpen markets");
    let mut markets = client.get_markets().status(GetMarketsStatus::Open).limit(100).stream();
    let mut first = None;
    for _ in 0..10 {
        let Some(market) = markets.next().await.transpose()? else { break };
        println!(
            "  {:<28} bid {} ask {}  {}",
            market.ticker, market.yes_bid_dollars, market.yes_ask_dollars, market.yes_sub_title
        );
        first.get_or_insert(market.ticker);
    }

    let Some(ticker) = first else {
        println!("  none at the moment");
        return Ok(());
    };
    let book = client.get_market_orderbook().ticker(&*ticker).depth(5).send().await?.into_inner();
    println!("\nOrder book of {ticker}: what is bid for YES, and for NO");
    for level in &book.orderbook_fp.yes_dollars {
        println!("  YES {} x {}", level.price, level.count);
    }
    for level in &book.orderbook_fp.no_dollars {
        println!("  NO  {} x {}", level.price, level.count);
    }
    Ok(())
}
