//! The caller's own fills, orders and positions as they happen.
//!
//! `cargo run -p kalshi-ws --example fills`, with the environment of the example `book`.
#![expect(clippy::print_stdout, reason = "it shows fills")]

use std::error::Error;

use kalshi_auth::Credentials;
use kalshi_ws::{
    Config, Environment, Event, Overflow, Payload, Portfolio, PortfolioChange, Stream, Subscription,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::new(Environment::from_env()?, Credentials::from_env()?);
    let mut stream = Stream::connect(config).await?;
    for wish in
        [Subscription::fills(), Subscription::user_orders(), Subscription::market_positions()]
    {
        // These are few, and none may be missing.
        stream.commands().subscribe(wish.with_overflow(Overflow::Block))?;
    }
    let mut portfolio = Portfolio::new();
    while let Some(event) = stream.next().await {
        let change = portfolio.apply(&event);
        match &event {
            Event::Message(message) => match &message.payload {
                Payload::Fill(fill) if change == PortfolioChange::Fill => println!(
                    "{}: {} {} at {}, fee {}, position {}",
                    fill.market_ticker,
                    fill.count_fp,
                    fill.outcome_side,
                    fill.yes_price_dollars,
                    fill.fee_cost,
                    fill.post_position_fp
                ),
                Payload::UserOrder(order) => println!(
                    "{}: order {} {}, {} of {} left",
                    order.ticker,
                    order.order_id,
                    order.status,
                    order.remaining_count_fp,
                    order.initial_count_fp
                ),
                _ => {}
            },
            other => println!("{other:?}"),
        }
        if change == PortfolioChange::Stale {
            println!("something may have been missed: read fills, orders and positions by REST");
        }
    }
    Ok(())
}
