//! Measures what a page that is open costs the engine, and how old its frames are.
//!
//! `cargo run --release -p kalshi-sim --features ui --example watched -- [COMMANDS] [ROUNDS]`
//!
//! The same commands go to one exchange, with a page and without by turns, so that whatever else the
//! machine does falls on both. The page watches every panel and acknowledges each frame.
#![expect(clippy::print_stdout, reason = "a program speaks to its user")]

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use kalshi_auth::{Clock as _, SystemClock};
use kalshi_sim::Exchange;
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What a page has seen.
#[derive(Debug, Default)]
struct Seen {
    frames: AtomicU64,
    bytes: AtomicU64,
    /// The age of the oldest frame, in milliseconds.
    oldest: AtomicU64,
    is_over: AtomicBool,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let argument = |place: usize, default: u64| {
        env::args().nth(place).map_or(Ok(default), |text| text.parse::<u64>())
    };
    let (commands, rounds) = (argument(1, 300_000)?, argument(2, 6)?);
    let exchange = Arc::new(Exchange::builder().with_admin_port(0).with_traders(50).start().await?);
    run(&exchange, commands / 4).await?;
    let (mut alone, mut watched) = (Duration::ZERO, Duration::ZERO);
    for round in 0..rounds {
        // Which one is first changes from round to round.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                alone += run(&exchange, commands).await?;
            } else {
                let seen = Arc::new(Seen::default());
                let page = tokio::spawn(page(Arc::clone(&exchange), Arc::clone(&seen)));
                while seen.frames.load(Ordering::Relaxed) == 0 && !page.is_finished() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let took = run(&exchange, commands).await?;
                seen.is_over.store(true, Ordering::Relaxed);
                page.await??;
                watched += took;
                println!(
                    "a page: {} frames in {:.2} s, {} kB each on average, the oldest {} ms",
                    seen.frames.load(Ordering::Relaxed),
                    took.as_secs_f64(),
                    seen.bytes.load(Ordering::Relaxed)
                        / seen.frames.load(Ordering::Relaxed).max(1)
                        / 1_000,
                    seen.oldest.load(Ordering::Relaxed),
                );
            }
        }
    }
    exchange.audit()?;
    let rate = |took: Duration| {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        (commands * rounds).saturating_mul(1_000) / millis
    };
    let share = rate(watched).saturating_mul(1_000) / rate(alone).max(1);
    println!(
        "{} commands/s alone, {} with a page: {}.{} %",
        rate(alone),
        rate(watched),
        share / 10,
        share % 10,
    );
    Ok(())
}

/// Sends the commands of simulated traders into the engine. Returns the time that it took.
async fn run(exchange: &Arc<Exchange>, commands: u64) -> Outcome<Duration> {
    let exchange = Arc::clone(exchange);
    let run = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        exchange.markets().run_traders(commands);
        began.elapsed()
    });
    Ok(run.await?)
}

/// Watches everything until it is over.
async fn page(exchange: Arc<Exchange>, seen: Arc<Seen>) -> Outcome<()> {
    let address = exchange.ui_url().ok_or("there is a page")?;
    let (page, token) = address.split_once('#').ok_or("the address has a token")?;
    let mut request = format!("{page}stream").replace("http://", "ws://").into_client_request()?;
    let protocols = format!("kalshi-sim.1, {token}").parse()?;
    request.headers_mut().insert("sec-websocket-protocol", protocols);
    let (mut socket, _) = connect_async(request).await?;
    let panels = [
        "exchange",
        "markets",
        "market",
        "book",
        "own",
        "trades",
        "events",
        "chart",
        "orders",
        "timeline",
        "positions",
        "members",
        "requests",
        "faults",
        "streams",
        "subscriptions",
    ];
    let watch = json!({"watch": {"panels": panels}}).to_string();
    socket.send(Message::text(watch)).await?;
    while !seen.is_over.load(Ordering::Relaxed) {
        let Some(message) = socket.next().await else { break };
        let Message::Text(text) = message? else { continue };
        let frame: Value = serde_json::from_str(text.as_str())?;
        let Some(number) = frame["n"].as_u64() else { continue };
        let age = SystemClock.now().as_millis() - frame["sent"].as_i64().unwrap_or_default();
        seen.oldest.fetch_max(u64::try_from(age).unwrap_or_default(), Ordering::Relaxed);
        seen.bytes.fetch_add(u64::try_from(text.len())?, Ordering::Relaxed);
        seen.frames.fetch_add(1, Ordering::Relaxed);
        socket.send(Message::text(json!({"ack": number}).to_string())).await?;
    }
    Ok(())
}
