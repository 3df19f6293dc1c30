//! Records the order books and trades of some markets, or plays a recording back.
//!
//! `cargo run -p kalshi-ws --features recorder --example recorder -- record FOLDER TICKER…` with the
//! environment of the example `book`, until Ctrl-C; `… -- play FOLDER [SPEED]` without any.
#![expect(clippy::print_stdout, reason = "it says what it does")]

use std::{env, error::Error};

use kalshi_auth::Credentials;
use kalshi_ws::{
    Books, Config, Environment, Event, Stream, Subscription,
    recording::{Player, Recorder, Recording, Speed},
};
use tokio::{select, signal::ctrl_c};

const NAME: &str = "stream";

/// Bytes of lines in one file.
const ROTATE: u64 = 256 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["record", folder, tickers @ ..] if !tickers.is_empty() => record(folder, tickers).await,
        ["play", folder] => play(folder, Speed::Unbounded).await,
        ["play", folder, speed] => play(folder, Speed::Times(speed.parse()?)).await,
        _ => Err("record FOLDER TICKER…, or play FOLDER [SPEED]".into()),
    }
}

async fn record(folder: &str, tickers: &[&str]) -> Result<(), Box<dyn Error>> {
    let (recorder, writer) = Recorder::start(folder, NAME, ROTATE)?;
    let config = Config::new(Environment::from_env()?, Credentials::from_env()?).with_tap(recorder);
    let mut stream = Stream::connect(config).await?;
    stream.commands().subscribe(Subscription::orderbook(tickers.iter().copied()))?;
    stream.commands().subscribe(Subscription::trades(tickers.iter().copied()))?;
    let mut messages = 0_u64;
    loop {
        select! {
            event = stream.next() => match event {
                Some(Event::Message(_)) => messages += 1,
                Some(event) => println!("{event:?}"),
                None => break,
            },
            stopped = ctrl_c() => {
                stopped?;
                break;
            }
        }
    }
    stream.close().await;
    writer.finish()?;
    println!("{messages} messages");
    Ok(())
}

async fn play(folder: &str, speed: Speed) -> Result<(), Box<dyn Error>> {
    let mut player = Player::new(Recording::open(folder, NAME)?).with_speed(speed);
    let mut books = Books::new();
    let mut messages = 0_u64;
    while let Some(event) = player.next().await {
        let event = event?;
        books.apply(&event);
        match event {
            Event::Message(_) => messages += 1,
            event => println!("{event:?}"),
        }
    }
    println!("{messages} messages, {} books at the end", books.iter().count());
    Ok(())
}
