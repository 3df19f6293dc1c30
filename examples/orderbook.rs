//! The order book of a market as a ladder of YES prices.
//!
//! ```text
//! cargo run --example orderbook -- [TICKER]
//! ```
//!
//! The exchange lists what is bid for YES and what is bid for NO, each with the best price last.
//! A bid for NO at q is an offer of YES at 1 − q.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo`,
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo environment.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::{env, error::Error};

use kalshi_sdk::{PriceLevel, types::GetMarketsStatus};

const DEPTH: i64 = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, _exchange) = common::connect().await?;
    let ticker = if let Some(ticker) = env::args().nth(1) {
        ticker
    } else {
        let open = client.get_markets().status(GetMarketsStatus::Open).limit(1).send().await?;
        let first = open.into_inner().markets.into_iter().next();
        first.ok_or("no market is open at the moment")?.ticker
    };
    let book = client.get_market_orderbook().ticker(&*ticker).depth(DEPTH).send().await?;
    let book = book.into_inner().orderbook_fp;
    println!("{ticker}, prices of YES");
    for PriceLevel { price, count, .. } in &book.no_dollars {
        let ask = price.complement().ok_or("a price above one dollar")?;
        println!("{:>24} {ask:>8}  {count}", "ask");
    }
    for PriceLevel { price, count, .. } in book.yes_dollars.iter().rev() {
        println!("{:>8} {price:>8}  {count}", "bid");
    }
    if let (Some(bid), Some(no_bid)) = (book.yes_dollars.last(), book.no_dollars.last()) {
        let ask = no_bid.price.complement().ok_or("a price above one dollar")?;
        let spread = ask.checked_sub(bid.price).ok_or("prices out of range")?;
        println!("spread {spread}");
    }
    Ok(())
}
