//! Every trade since a time, from the live list and from the archive.
//!
//! ```text
//! cargo run --example backfill_trades -- [TICKER]
//! ```
//!
//! The live list ends at a cutoff without saying so; what is older is in the archive. The two may
//! overlap while rows move, so trades are told apart by their id.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo`,
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo environment.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::{collections::HashSet, env, error::Error};

use kalshi_sdk::{
    Client, Count, UnixSeconds,
    auth::{Clock, SystemClock},
    types::Trade,
};

/// Days to go back, and rows to take from each list: the whole tape is millions.
const DAYS: i64 = 120;
const ROWS: usize = 5_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, _exchange) = common::connect().await?;
    let now = SystemClock.now().as_millis() / 1_000;
    let since = UnixSeconds::from_seconds(now - DAYS * 24 * 60 * 60);
    let ticker = env::args().nth(1);

    let cutoff = client.get_historical_cutoff().send().await?.into_inner();
    println!("trades before {} are in the archive", cutoff.trades_created_ts);

    // Live first: what moves to the archive in between is then seen twice, not missed.
    let mut tape = Tape::default();
    tape.live(&client, ticker.as_deref(), since).await?;
    if since.to_datetime().is_none_or(|since| since < cutoff.trades_created_ts) {
        tape.archive(&client, ticker.as_deref(), since).await?;
    }
    println!("{} trades, {} contracts", tape.seen.len(), tape.contracts);
    Ok(())
}

#[derive(Default)]
struct Tape {
    seen: HashSet<String>,
    contracts: Count,
}

impl Tape {
    async fn live(
        &mut self,
        client: &Client,
        ticker: Option<&str>,
        since: UnixSeconds,
    ) -> Result<(), Box<dyn Error>> {
        let mut request = client.get_trades().min_ts(since).limit(1_000);
        if let Some(ticker) = ticker {
            request = request.ticker(ticker);
        }
        let mut trades = request.stream();
        for _ in 0..ROWS {
            let Some(trade) = trades.next().await.transpose()? else { return Ok(()) };
            self.take(trade)?;
        }
        println!("stopped after {ROWS} live trades");
        Ok(())
    }

    async fn archive(
        &mut self,
        client: &Client,
        ticker: Option<&str>,
        since: UnixSeconds,
    ) -> Result<(), Box<dyn Error>> {
        let mut request = client.get_trades_historical().min_ts(since).limit(1_000);
        if let Some(ticker) = ticker {
            request = request.ticker(ticker);
        }
        let mut trades = request.stream();
        for _ in 0..ROWS {
            let Some(trade) = trades.next().await.transpose()? else { return Ok(()) };
            self.take(trade)?;
        }
        println!("stopped after {ROWS} archived trades");
        Ok(())
    }

    fn take(&mut self, trade: Trade) -> Result<(), Box<dyn Error>> {
        if self.seen.insert(trade.trade_id) {
            let sum = self.contracts.checked_add(trade.count_fp);
            self.contracts = sum.ok_or("more contracts than can be counted")?;
        }
        Ok(())
    }
}
