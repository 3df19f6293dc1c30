//! The caller's own fills, orders and positions as they happen, until Ctrl-C.
//!
//! `cargo run -p kalshi-ws --example fills` on an exchange in this process, where the example trades
//! so that something happens; with the environment of the example `book`, on that one, where it
//! only looks.
#![expect(clippy::print_stdout, reason = "it shows fills")]

use std::{error::Error, pin::pin, time::Duration};

use kalshi_sdk::types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce};
use kalshi_sim::{Exchange, Role};
use kalshi_types::{Count, Dollars};
use kalshi_ws::{
    Connection, Event, Overflow, Payload, Portfolio, PortfolioChange, Subscription, types,
};
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

mod common;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (config, exchange) = common::configure().await?;
    let mut connection = Connection::connect(config.build()?).await?;
    for subscription in
        [Subscription::fills(), Subscription::user_orders(), Subscription::market_positions()]
    {
        // These are few, and none may be missing.
        connection.handle().subscribe(subscription.with_overflow(Overflow::Block))?;
    }
    let mut portfolio = Portfolio::new();
    let mut fills = 0_u64;
    let mut trades = interval(Duration::from_millis(500));
    trades.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopped = pin!(common::stopped());
    loop {
        select! {
            event = connection.next() => {
                let Some(event) = event else { break };
                let change = portfolio.apply(&event);
                fills += u64::from(change == PortfolioChange::Fill);
                show(&event, change);
            }
            _ = trades.tick(), if exchange.is_some() => {
                if let Some(exchange) = &exchange {
                    buy(exchange).await?;
                }
            }
            result = &mut stopped => {
                result?;
                break;
            }
        }
    }
    connection.close().await;
    println!("{fills} fills; {} positions", portfolio.positions().count());
    match (fills, exchange) {
        (0, Some(_)) => Err("no fill was ever told".into()),
        _ => Ok(()),
    }
}

fn show(event: &Event, change: PortfolioChange) {
    match event {
        Event::Message(message) => match &message.payload {
            Payload::Fill(fill) if change == PortfolioChange::Fill => show_fill(fill),
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
        println!("something may have been missed: reconcile with fills, orders, positions of REST");
    }
}

fn show_fill(fill: &types::Fill) {
    println!(
        "{}: {} {} at {}, fee {}, position {}",
        fill.market_ticker,
        fill.count_fp,
        fill.outcome_side,
        fill.yes_price_dollars,
        fill.fee_cost,
        fill.post_position_fp
    );
}

/// Buys one YES contract at whatever price it is to be had.
async fn buy(exchange: &Exchange) -> Result<(), Box<dyn Error>> {
    let ticker = common::markets(Some(exchange), &[]).await?.swap_remove(0);
    let order = CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(BookSide::Bid)
        .count(Count::ONE)
        .price(Dollars::from_micros(990_000))
        .time_in_force(TimeInForce::ImmediateOrCancel)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
    exchange.client(Role::Trader)?.create_order_v2().body(order).send().await?;
    Ok(())
}
