//! An order that is placed safely, read back, amended and canceled.
//!
//! ```text
//! cargo run --example place_order -- [TICKER]
//! ```
//!
//! It bids the lowest price that the market takes, for one contract and post-only: at most a few
//! cents are bound for a moment, and nothing is meant to trade.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo`,
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo environment.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::{env, error::Error, time::Duration};

use kalshi_sdk::{
    Client, Effect, PriceGrid, UnixMillis,
    auth::{Clock, SystemClock},
    types::{
        AmendOrderV2Request, BookSide, CreateOrderV2Request, GetMarketsStatus, Market,
        SelfTradePreventionType, TimeInForce,
    },
};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, _exchange) = common::connect().await?;
    let market = market(&client, env::args().nth(1)).await?;
    // Only the market's own bands say which prices it takes.
    let grid = PriceGrid::new(market.price_ranges.clone())?;

    // Made before the first attempt and kept: the same id with every attempt is what makes a second
    // sending harmless. A program that may be restarted stores it first.
    let client_order_id = format!("place-order-{}", SystemClock.now().as_millis());
    let order = CreateOrderV2Request::builder()
        .ticker(&*market.ticker)
        .side(BookSide::Bid)
        .price(grid.lowest())
        .count("1.00")
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .post_only(true)
        .client_order_id(&*client_order_id);
    let (order_id, placed_at) = match client.create_order_v2().body(order).send().await {
        Ok(placed) => {
            let placed = placed.into_inner();
            (placed.order_id, placed.ts_ms)
        }
        // Nobody knows whether it is in the book; and 409 says that an earlier sending is.
        Err(error) if error.effect() == Effect::Unknown || error.is_conflict() => {
            println!("{error}: looking it up");
            let now = SystemClock.now();
            caught_up(&client, now).await?;
            let found = find(&client, &market.ticker, &client_order_id).await?;
            (found.ok_or("it is not listed (yet): look again before sending it again")?, now)
        }
        Err(error) => return Err(error.into()),
    };

    caught_up(&client, placed_at).await?;
    let resting = client.get_order().order_id(&*order_id).send().await?.into_inner().order;
    println!(
        "{} {} {} at {} is {}",
        resting.ticker,
        resting.book_side,
        resting.remaining_count_fp,
        resting.yes_price_dollars,
        resting.status
    );

    // `count` is the new total: what has been filled already plus what is to rest.
    let change = AmendOrderV2Request::builder()
        .ticker(&*market.ticker)
        .side(BookSide::Bid)
        .price(grid.lowest())
        .count("2.00");
    client.amend_order_v2().order_id(&*order_id).body(change).send().await?;
    println!("amended to two contracts; it went to the end of its price level");

    // With the ticker it finds its shard. Without, it would be looked for on shard 0.
    let canceled =
        client.cancel_order_v2().order_id(&*order_id).market_ticker(&*market.ticker).send().await?;
    println!("canceled {} contracts", canceled.reduced_by);
    Ok(())
}

async fn market(client: &Client, ticker: Option<String>) -> Result<Market, Box<dyn Error>> {
    if let Some(ticker) = ticker {
        return Ok(client.get_market().ticker(ticker).send().await?.into_inner().market);
    }
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await?;
    Ok(open.into_inner().markets.into_iter().next().ok_or("no market is open at the moment")?)
}

/// Waits until everything that happened up to a time of the exchange can be read: an order that was
/// placed a moment ago is in no list before.
async fn caught_up(client: &Client, at: UnixMillis) -> Result<(), Box<dyn Error>> {
    while UnixMillis::from(client.get_user_data_timestamp().send().await?.as_of_time) < at {
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Returns the exchange's id of the order with one of our client ids.
///
/// All rows or an error: an order in a row that does not decode must not pass for absent.
async fn find(
    client: &Client,
    ticker: &str,
    client_order_id: &str,
) -> Result<Option<String>, Box<dyn Error>> {
    let mut orders = client.get_orders().ticker(ticker).all().await?.into_iter();
    Ok(orders.find(|order| order.client_order_id == client_order_id).map(|order| order.order_id))
}
