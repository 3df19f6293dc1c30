//! Prints the account: cash, positions, resting orders, fills, settlements.
//!
//! ```text
//! cargo run --example portfolio
//! ```
//!
//! It reads only; the embedded exchange is made to trade once first, so that there is something to read.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo`,
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo environment.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::error::Error;

use kalshi_sdk::{
    Client, Dollars,
    types::{
        BookSide, CreateOrderV2Request, GetMarketsStatus, SelfTradePreventionType, TimeInForce,
    },
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, exchange) = common::connect().await?;
    if exchange.is_some() {
        buy_one(&client).await?;
    }

    // The integer fields of this answer are cents, cut off; the one in dollars is exact.
    let balance = client.get_balance().send().await?.into_inner();
    println!("cash {} dollars", balance.balance_dollars);
    for shard in &balance.balance_breakdown {
        println!("  shard {}: {}", shard.exchange_index, shard.balance);
    }

    // Positive is YES, negative is NO. Settled markets are left out unless asked for.
    println!("positions");
    for held in client.get_positions().all().await? {
        println!(
            "  {} {} contracts, cost {}, realized {}",
            held.ticker, held.position_fp, held.market_exposure_dollars, held.realized_pnl_dollars
        );
    }

    println!("resting orders");
    for order in client.get_orders().status("resting").all().await? {
        println!(
            "  {} {} {} at {}",
            order.ticker, order.book_side, order.remaining_count_fp, order.yes_price_dollars
        );
    }

    println!("last fills");
    let mut fees = Dollars::ZERO;
    for fill in client.get_fills().limit(10).send().await?.into_inner().fills {
        fees = fees.checked_add(fill.fee_cost).ok_or("fees out of range")?;
        println!(
            "  {} {} {} at {}, fee {}",
            fill.ticker, fill.book_side, fill.count_fp, fill.yes_price_dollars, fill.fee_cost
        );
    }
    println!("  fees of these: {fees}");

    // Live lists reach back to the cutoff only: see the example backfill_trades.
    println!("last settlements");
    for settled in client.get_settlements().limit(10).send().await?.into_inner().settlements {
        let paid = Dollars::from_cents(settled.revenue).ok_or("revenue out of range")?;
        println!("  {} {} paid {paid}", settled.ticker, settled.market_result);
    }
    Ok(())
}

/// Takes one contract of the best offer.
async fn buy_one(client: &Client) -> Result<(), Box<dyn Error>> {
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await?;
    let market = open.into_inner().markets.into_iter().next().ok_or("no market is open")?;
    let order = CreateOrderV2Request::builder()
        .ticker(market.ticker)
        .side(BookSide::Bid)
        .price(market.yes_ask_dollars)
        .count("1.00")
        .time_in_force(TimeInForce::ImmediateOrCancel)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
    client.create_order_v2().body(order).send().await?;
    Ok(())
}
