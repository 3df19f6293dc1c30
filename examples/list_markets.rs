//! The open markets of the exchange, or of one series.
//!
//! ```text
//! cargo run --example list_markets -- [SERIES]
//! ```
//!
//! A list ends when it is read no further: this one stops after twenty rows.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo` to the demo
//! environment. Markets are public: it needs no key.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::{env, error::Error};

use kalshi_sdk::types::GetMarketsStatus;

const ROWS: usize = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, _exchange) = common::connect().await?;
    let mut request = client.get_markets().status(GetMarketsStatus::Open).limit(100);
    let series = env::args().nth(1);
    if let Some(series) = &series {
        // An unknown series has no markets, as one has whose markets are all closed.
        if let Err(error) = client.get_series().series_ticker(&**series).send().await {
            let unknown = error.is_not_found();
            return Err(if unknown {
                format!("no series is called {series}").into()
            } else {
                error.into()
            });
        }
        request = request.series_ticker(&**series);
    }
    let mut markets = request.stream();
    println!("{:<32} {:>8} {:>8} {:>14}  what YES means", "ticker", "bid", "ask", "volume");
    for row in 0..ROWS {
        let Some(market) = markets.next().await.transpose()? else {
            if row == 0 {
                println!(
                    "no market is open{}",
                    series.map_or_else(String::new, |s| format!(" in {s}"))
                );
            }
            break;
        };
        // A bid of 0 or an ask of 1 is never an order: that side is empty.
        println!(
            "{:<32} {:>8} {:>8} {:>14}  {}",
            market.ticker,
            market.yes_bid_dollars,
            market.yes_ask_dollars,
            market.volume_fp,
            market.yes_sub_title,
        );
    }
    Ok(())
}
