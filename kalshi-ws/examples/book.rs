//! A live order book in the terminal, until Ctrl-C.
//!
//! `cargo run -p kalshi-ws --example book -- TICKER` on an exchange in this process, whose first
//! market is taken if none is named. With `KALSHI_ENV` (`demo`, `production` or a URL),
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` in the environment, on that one.
#![expect(clippy::print_stdout, reason = "it shows a book")]

use std::{env, error::Error, pin::pin, time::Duration};

use kalshi_ws::{Connection, Event, OrderBook, Outcome, Subscription};
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

mod common;

/// Levels of each side.
const DEPTH: usize = 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let named: Vec<String> = env::args().skip(1).take(1).collect();
    let (config, exchange) = common::configure().await?;
    let markets = common::markets(exchange.as_ref(), &named).await?;
    let ticker = markets.first().ok_or("there are no markets")?;

    let mut connection = Connection::connect(config.build()?).await?;
    connection.handle().subscribe(Subscription::orderbook([ticker]))?;
    let mut shown = 0_u64;
    // A terminal shows no more than this.
    let mut frames = interval(Duration::from_millis(200));
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stopped = pin!(common::stopped());
    loop {
        select! {
            event = connection.next() => {
                let Some(event) = event else { break };
                if let Event::Refused { reason, .. } = event {
                    return Err(format!("{ticker} is refused: {reason:?}").into());
                }
            }
            _ = frames.tick() => match connection.books().get(ticker) {
                Some(book) => {
                    show(ticker, book);
                    shown += 1;
                }
                None => println!("{ticker}: no book that can be relied on"),
            },
            result = &mut stopped => {
                result?;
                break;
            }
        }
    }
    connection.close().await;
    match shown {
        0 => Err("no book was ever complete".into()),
        _ => Ok(()),
    }
}

fn show(ticker: &str, book: &OrderBook) {
    // Clears the screen.
    print!("\x1b[2J\x1b[H");
    println!("{ticker}, prices of YES\n");
    let asks: Vec<_> = book.asks(Outcome::Yes).take(DEPTH).collect();
    for level in asks.iter().rev() {
        println!("{:>24}  {:<10} {:>12}", "", level.price, level.count);
    }
    match book.spread() {
        Some(spread) => println!("{:-^50}", format!(" spread {spread} ")),
        None => println!("{:-^50}", " one side is empty "),
    }
    for level in book.bids(Outcome::Yes).take(DEPTH) {
        println!("{:>12} {:>10}", level.count, level.price);
    }
}
