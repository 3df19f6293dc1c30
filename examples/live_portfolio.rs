//! Fills, resting orders and positions as they happen, and what was missed when the connection broke.
//!
//! ```text
//! cargo run --example live_portfolio
//! ```
//!
//! It reads only; the embedded exchange is made to trade, and to cut the connection in between.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo`,
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo environment, until it is stopped.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::error::Error;

use kalshi_sdk::{
    Client,
    streams::{
        Connection, Event, FillRecord, Overflow, Payload, Portfolio, PortfolioChange, Reconciled,
        Subscription,
    },
    types::{
        BookSide, CreateOrderV2Request, GetMarketsStatus, SelfTradePreventionType, TimeInForce,
    },
};
use kalshi_sim::{Exchange, Target};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, exchange) = common::connect().await?;
    let mut connection = Connection::connect(client.stream_config()?.build()?).await?;
    for subscription in
        [Subscription::fills(), Subscription::user_orders(), Subscription::market_positions()]
    {
        // These are few, and none may be missing.
        connection.handle().subscribe(subscription.with_overflow(Overflow::Block))?;
    }
    let mut portfolio = Portfolio::new();
    let mut outages = 0;
    while let Some(event) = connection.next().await {
        match portfolio.apply(&event) {
            PortfolioChange::Fill => show_fill(&event),
            PortfolioChange::Stale => println!("something may have been missed: {event:?}"),
            _ => {}
        }
        // Place no orders of your own from `Stale` until the view is current.
        while portfolio.is_subscribed() && !portfolio.is_current() {
            let found = portfolio.reconcile(&client).await?;
            if let Some(wait) = found.retry_after() {
                // The exchange's reads are behind what was missed.
                sleep(wait).await;
                continue;
            }
            show(&portfolio, &found);
            match &exchange {
                Some(exchange) if outages == 0 => {
                    outages += 1;
                    trade_unseen(&client, exchange).await?;
                }
                // The contract that was bought meanwhile has been found.
                Some(_) => return Ok(()),
                None => {}
            }
        }
    }
    Ok(())
}

/// Prints the account, and the difference from what the messages had brought.
fn show(portfolio: &Portfolio, found: &Reconciled) {
    println!("{} fills were missed", found.missed.len());
    for FillRecord { market_ticker, book_side, count, yes_price, fee, .. } in
        found.missed.iter().rev().take(10)
    {
        println!("  {market_ticker} {book_side} {count} at {yes_price}, fee {fee}");
    }
    println!("resting orders");
    for order in portfolio.orders() {
        println!(
            "  {} {} {} of {} at {}",
            order.market_ticker, order.book_side, order.remaining, order.initial, order.yes_price
        );
    }
    println!("positions");
    for held in portfolio.positions() {
        println!("  {} {} contracts", held.market_ticker, held.count);
    }
}

fn show_fill(event: &Event) {
    if let Some(Payload::Fill(fill)) = event.message().map(|message| &message.payload) {
        println!(
            "{}: {} {} at {}, position {}",
            fill.market_ticker,
            fill.book_side,
            fill.count_fp,
            fill.yes_price_dollars,
            fill.post_position_fp
        );
    }
}

/// Takes one contract of the best offer when the connection has just been cut.
async fn trade_unseen(client: &Client, exchange: &Exchange) -> Result<(), Box<dyn Error>> {
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await?;
    let market = open.into_inner().markets.into_iter().next().ok_or("no market is open")?;
    let order = CreateOrderV2Request::builder()
        .ticker(market.ticker)
        .side(BookSide::Bid)
        .price(market.yes_ask_dollars)
        .count("1.00")
        .time_in_force(TimeInForce::ImmediateOrCancel)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
    exchange.streams().cut(Target::All)?;
    client.create_order_v2().body(order).send().await?;
    Ok(())
}
