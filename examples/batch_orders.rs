//! A ladder of bids in one request, and its end in another.
//!
//! ```text
//! cargo run --example batch_orders
//! ```
//!
//! A batch is not atomic: each item succeeds or fails on its own, inside an answer that is a success.
//! All of it must fit into the token bucket at once, at ten tokens for each order.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo`,
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo environment.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::error::Error;

use kalshi_sdk::{
    PriceGrid,
    auth::{Clock, SystemClock},
    types::{
        BatchCancelItem, BatchCancelOrdersV2Request, BatchCreateOrdersV2Request, BookSide,
        CreateOrderV2Request, GetMarketsStatus, SelfTradePreventionType, TimeInForce,
    },
};

const RUNGS: usize = 5;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, _exchange) = common::connect().await?;
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await?;
    let market = open.into_inner().markets.into_iter().next().ok_or("no market is open")?;
    let grid = PriceGrid::new(market.price_ranges.clone())?;
    let run = SystemClock.now().as_millis();

    let orders = grid.ticks().take(RUNGS).enumerate().map(|(rung, price)| {
        CreateOrderV2Request::builder()
            .ticker(&*market.ticker)
            .side(BookSide::Bid)
            .price(price)
            .count("1.00")
            .time_in_force(TimeInForce::GoodTillCanceled)
            .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
            .post_only(true)
            .client_order_id(format!("ladder-{run}-{rung}"))
    });
    let batch = BatchCreateOrdersV2Request::builder().orders(orders);
    let placed = client.batch_create_orders_v2().body(batch).send().await?.into_inner().orders;

    let mut resting = Vec::new();
    for (rung, item) in placed.into_iter().enumerate() {
        match (item.error, item.order_id) {
            (Some(error), _) => {
                let code = error.code.as_deref().unwrap_or("no code");
                let message = error.message.as_deref().unwrap_or_default();
                println!("rung {rung} is refused: {code} {message}");
            }
            (None, Some(id)) => {
                println!("rung {rung} rests as {id}");
                resting.push(id);
            }
            (None, None) => println!("rung {rung}: neither an error nor an id, look it up"),
        }
    }

    let cancels = resting
        .into_iter()
        .map(|id| BatchCancelItem::builder().order_id(id).market_ticker(&*market.ticker));
    let batch = BatchCancelOrdersV2Request::builder().orders(cancels);
    for item in client.batch_cancel_orders_v2().body(batch).send().await?.into_inner().orders {
        match item.error {
            // It may have traded in between: that shows in the fills.
            Some(error) => println!("{} is not canceled: {error:?}", item.order_id),
            None => println!("{} is canceled, {} taken out", item.order_id, item.reduced_by),
        }
    }
    Ok(())
}
