//! Records the order books and trades of some markets until Ctrl-C, or plays a recording back.
//!
//! `cargo run -p kalshi-ws --features recorder --example recorder -- record FOLDER TICKER…`, with the
//! environment of the example `book`; `… -- play FOLDER [SPEED]` without any. On the exchange in
//! this process, markets are chosen if none is named.
#![expect(clippy::print_stdout, reason = "it says what it does")]

use std::{env, error::Error, pin::pin};

use kalshi_ws::{
    Books, Connection, Event, PriceConvention, Subscription,
    recording::{Player, Recorder, Recording, Speed},
};
use tokio::select;

mod common;

const NAME: &str = "stream";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["record", folder, ..] => record(folder, arguments.get(2..).unwrap_or_default()).await,
        ["play", folder] => play(folder, Speed::Unbounded).await,
        ["play", folder, speed] => play(folder, Speed::Times(speed.parse()?)).await,
        _ => Err("record FOLDER TICKER…, or play FOLDER [SPEED]".into()),
    }
}

async fn record(folder: &str, named: &[String]) -> Result<(), Box<dyn Error>> {
    let (config, exchange) = common::configure().await?;
    let tickers = common::markets(exchange.as_ref(), named).await?;
    let (recorder, writer) = Recorder::builder(folder, NAME).start()?;
    let mut connection = Connection::connect(config.with_tap(recorder).build()?).await?;
    connection.handle().subscribe(Subscription::orderbook(&tickers))?;
    connection.handle().subscribe(Subscription::trades(&tickers))?;
    let mut messages = 0_u64;
    let mut stopped = pin!(common::stopped());
    loop {
        select! {
            event = connection.next() => match event {
                Some(Event::Message(_)) => messages += 1,
                Some(event) => println!("{event:?}"),
                None => break,
            },
            result = &mut stopped => {
                result?;
                break;
            }
        }
    }
    connection.close().await;
    writer.finish()?;
    println!("{messages} messages of {} markets", tickers.len());
    match messages {
        0 => Err("nothing was recorded".into()),
        _ => Ok(()),
    }
}

async fn play(folder: &str, speed: Speed) -> Result<(), Box<dyn Error>> {
    let mut player =
        Player::new(Recording::open(folder, NAME)?, PriceConvention::Yes).with_speed(speed);
    let mut books = Books::new();
    let (mut messages, mut most) = (0_u64, 0);
    while let Some(event) = player.next().await {
        let event = event?;
        books.apply(&event);
        match event {
            Event::Message(_) => messages += 1,
            event => println!("{event:?}"),
        }
        most = most.max(books.iter().count());
    }
    println!("{messages} messages, {most} books");
    match most {
        0 => Err("no book was ever complete".into()),
        _ => Ok(()),
    }
}
