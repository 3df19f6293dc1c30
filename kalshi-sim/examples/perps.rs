//! Perpetual futures in a process: a position, its exit trigger, funding, and a liquidation.
//!
//! `cargo run -p kalshi-sim --features perps --example perps`
#![expect(clippy::print_stdout, reason = "it reports")]

use std::time::Duration;

use chrono::NaiveDate;
use kalshi_sdk::perps::types::{
    BookSide, CreateMarginOrderRequest, SelfTradePreventionType, SetCrossExitTriggerRequest,
    TimeInForce,
};
use kalshi_sim::{Exchange, Role};

const TICKER: &str = "KXSIMCOINPERP";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exchange = Exchange::start().await?;
    exchange.clock().freeze();
    let client = exchange.client(Role::Trader)?;
    let perps = client.perps();

    let market = perps.get_margin_market().ticker(TICKER).send().await?.into_inner().market;
    let ask = market.ask.ok_or("no asks")?;
    let order = CreateMarginOrderRequest::builder()
        .ticker(TICKER)
        .client_order_id("long-1")
        .side(BookSide::Bid)
        .count("100.00")
        .price(ask)
        .time_in_force(TimeInForce::ImmediateOrCancel)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .market_version(market.market_version);
    let done = perps.create_margin_order().body(order).send().await?;
    println!("bought {} contracts at {ask}", done.fill_count);

    // A quarter under the entry the exchange sells by itself.
    let stop = ask.floor_to("0.01".parse()?).and_then(|price| {
        kalshi_sdk::Dollars::from_micros(price.as_micros() / 4 * 3).floor_to("0.01".parse().ok()?)
    });
    let bracket = SetCrossExitTriggerRequest::builder().stop_loss_price(stop.ok_or("a price")?);
    let trigger = perps.set_cross_margin_exit_trigger().ticker(TICKER).body(bracket).send().await?;
    println!("a stop loss at {:?} is {}", trigger.stop_loss_price, trigger.status);

    // Through the next hours of funding, with a mark above its underlying.
    let above = kalshi_sdk::Dollars::from_micros(ask.as_micros() / 100 * 101);
    let above = above.floor_to("0.01".parse()?).ok_or("a price")?;
    exchange.perps().set_settlement_mark(TICKER, above)?;
    exchange.clock().advance(Duration::from_secs(16 * 3_600))?;
    let history = perps
        .get_margin_funding_history()
        .start_date(NaiveDate::from_ymd_opt(2020, 1, 1).ok_or("a day")?)
        .end_date(NaiveDate::from_ymd_opt(2100, 1, 1).ok_or("a day")?)
        .send()
        .await?
        .into_inner()
        .funding_history;
    for row in &history {
        println!(
            "funding at {}: {} by a rate of {}",
            row.funding_time, row.funding_amount, row.funding_rate
        );
    }

    // The liquidation mark reaches the stop loss.
    exchange.perps().set_liquidation_mark(TICKER, stop.ok_or("a price")?)?;
    let triggers = perps.get_cross_margin_exit_triggers().ticker(TICKER).send().await?.into_inner();
    let trigger = triggers.exit_triggers.first().ok_or("it is listed")?;
    println!("the stop loss is {}, {} contracts were sold", trigger.status, trigger.filled_count);
    let balance = perps.balance_with_available().await?;
    println!("{} dollars are settled", balance.settled_funds);
    exchange.audit()?;
    Ok(())
}
