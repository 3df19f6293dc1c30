//! A live order book in the terminal.
//!
//! `cargo run -p kalshi-ws --example book -- TICKER`, with `KALSHI_ENV` (`demo`, `production` or a
//! URL), `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` in the environment.
#![expect(clippy::print_stdout, reason = "it shows a book")]

use std::{env, error::Error, time::Duration};

use kalshi_auth::Credentials;
use kalshi_ws::{Config, Environment, Event, OrderBook, Outcome, Stream, Subscription};
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

/// Levels of each side.
const DEPTH: usize = 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let ticker = env::args().nth(1).ok_or("name a market: book TICKER")?;
    let config = Config::new(Environment::from_env()?, Credentials::from_env()?);
    let mut stream = Stream::connect(config).await?;
    stream.commands().subscribe(Subscription::orderbook([&ticker]))?;
    let mut books = stream.books();
    // A terminal shows no more than this.
    let mut frames = interval(Duration::from_millis(200));
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        select! {
            event = stream.next() => {
                let Some(event) = event else { return Ok(()) };
                books.apply(&event);
                if let Event::Refused { reason, .. } = event {
                    return Err(format!("{ticker} is refused: {reason:?}").into());
                }
            }
            _ = frames.tick() => match books.get(&ticker) {
                Some(book) => show(&ticker, book),
                None => println!("{ticker}: no book that can be relied on"),
            },
        }
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
