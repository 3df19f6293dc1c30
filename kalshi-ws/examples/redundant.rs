//! Two connections merged into one stream: a book that stays valid while a socket is lost.
//!
//! `cargo run -p kalshi-ws --example redundant -- TICKER` on an exchange in this process, which cuts
//! the leading connection after a while. With `KALSHI_ENV` (`demo`, `production` or a URL),
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` in the environment, on that one, over two
//! sockets.
#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::{env, error::Error, pin::pin, time::Duration};

use kalshi_sim::Role;
use kalshi_ws::{Connection, Event, Subscription};
use tokio::{select, time::interval};

mod common;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let named: Vec<String> = env::args().skip(1).take(1).collect();
    let (config, exchange) = common::configure().await?;
    let markets = common::markets(exchange.as_ref(), &named).await?;
    let ticker = markets.first().ok_or("there are no markets")?;

    let first = Connection::connect(config.build()?).await?;
    let config = match &exchange {
        // Another member, so that one connection can be cut alone.
        Some(exchange) => common::configure_as(exchange, Role::Maker)?,
        None => common::configure().await?.0,
    };
    let second = Connection::connect(config.build()?).await?;
    let mut feed = Connection::merge([first, second])?;
    feed.subscribe(Subscription::orderbook([ticker]))?;

    let mut ticks = interval(Duration::from_millis(500));
    let (mut shown, mut tick) = (0_u64, 0_u64);
    let mut stopped = pin!(common::stopped());
    loop {
        select! {
            event = feed.next() => match event {
                Some(Event::Feed { feed, event }) => println!("feed {feed}: {event:?}"),
                Some(Event::Failover { from, to }) => println!("feed {to} leads instead of {from}"),
                Some(Event::Uncovered { items, cause, .. }) => {
                    println!("no feed has all of {items:?}: {cause:?}");
                }
                Some(Event::Refused { reason, .. }) => {
                    return Err(format!("{ticker} is refused: {reason:?}").into());
                }
                Some(_) => {}
                None => break,
            },
            _ = ticks.tick() => {
                match feed.books().get(ticker) {
                    Some(book) => {
                        shown += 1;
                        println!("{ticker}: spread {:?}", book.spread());
                    }
                    None => println!("{ticker}: no book that can be relied on"),
                }
                tick += 1;
                if tick == 4 && let Some(exchange) = &exchange {
                    exchange.streams().cut(Role::Trader)?;
                }
            }
            result = &mut stopped => {
                result?;
                break;
            }
        }
    }
    feed.close().await;
    println!("{:?}", feed.metrics());
    match shown {
        0 => Err("no book was ever complete".into()),
        _ => Ok(()),
    }
}
