//! The emergency brake: every resting order of event contracts is canceled.
//!
//! ```text
//! cargo run --example cancel_all -- [--yes]
//! ```
//!
//! Against a real environment it only counts the orders, unless `--yes` is given. One call takes the
//! orders of all subaccounts and shards; reads trail it, so it is repeated until none rests. Orders of
//! perpetual futures stay: with the feature `perps`, `cancel_all_margin_orders` of `Client::perps` does
//! the same for them.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo`,
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo environment.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::{env, error::Error, time::Duration};

use kalshi_sdk::{
    Client, PriceGrid, UnixMillis,
    auth::{Clock, SystemClock},
    types::{
        BookSide, CreateOrderV2Request, GetMarketsStatus, SelfTradePreventionType, TimeInForce,
    },
};
use tokio::time::sleep;

/// Calls after which a person should look at it.
const ATTEMPTS: usize = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, exchange) = common::connect().await?;
    if exchange.is_some() {
        place_some(&client).await?;
    } else if env::args().nth(1).as_deref() != Some("--yes") {
        println!("{} orders rest; --yes cancels them", resting(&client).await?);
        return Ok(());
    }
    for _ in 0..ATTEMPTS {
        // Without `subaccount` it means all subaccounts. Sending it again does no harm.
        client.cancel_all_orders().send().await?;
        // Only a list that is newer than the call says what is left.
        caught_up(&client, SystemClock.now()).await?;
        let left = resting(&client).await?;
        println!("{left} orders rest");
        if left == 0 {
            return Ok(());
        }
    }
    Err("orders keep coming: another program is placing them".into())
}

/// Waits until everything that happened up to a time can be read.
async fn caught_up(client: &Client, at: UnixMillis) -> Result<(), Box<dyn Error>> {
    while UnixMillis::from(client.get_user_data_timestamp().send().await?.as_of_time) < at {
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn resting(client: &Client) -> Result<usize, Box<dyn Error>> {
    Ok(client.get_orders().status("resting").limit(1_000).all().await?.len())
}

/// Places orders to cancel.
async fn place_some(client: &Client) -> Result<(), Box<dyn Error>> {
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(3).send().await?;
    for market in open.into_inner().markets {
        let order = CreateOrderV2Request::builder()
            .ticker(market.ticker)
            .side(BookSide::Bid)
            .price(PriceGrid::new(market.price_ranges)?.lowest())
            .count("1.00")
            .time_in_force(TimeInForce::GoodTillCanceled)
            .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
        client.create_order_v2().body(order).send().await?;
    }
    Ok(())
}
