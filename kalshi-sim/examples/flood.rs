//! Measures the effect of clients that send commands and read no answers: the time of a REST read
//! by others, and the memory of the process.
//!
//! `cargo run --release -p kalshi-sim --example flood -- [CONNECTIONS] [COMMANDS]`
#![expect(clippy::print_stdout, reason = "it reports")]

use std::{
    env, fs,
    time::{Duration, Instant},
};

use futures_util::SinkExt as _;
use kalshi_auth::{Clock as _, SystemClock, sign};
use kalshi_sdk::{Client, types::GetMarketsStatus};
use kalshi_sim::{Exchange, Role, STREAM_PATH};
use serde_json::json;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The reads that are timed in each part.
const READS: usize = 2_000;

#[tokio::main]
async fn main() -> Outcome<()> {
    let argument = |place: usize, default: usize| {
        env::args().nth(place).map_or(Ok(default), |text| text.parse::<usize>())
    };
    let (connections, commands) = (argument(1, 20)?, argument(2, 2_000)?);
    let exchange = Exchange::start().await?;
    let client = exchange.client(Role::Trader)?;
    report("before", &client, &exchange).await?;
    let open = client.get_markets().status(GetMarketsStatus::Open).limit(60).send().await?;
    let tickers: Vec<String> = open.markets.iter().map(|market| market.ticker.clone()).collect();
    let mut floods = Vec::new();
    for _ in 0..connections {
        let mut request = exchange.stream_url().into_client_request()?;
        let credentials = exchange.credentials(Role::Trader).ok_or("the role has a key")?;
        let signed = sign(credentials, "GET", STREAM_PATH, SystemClock.now())?;
        signed.insert_into(request.headers_mut());
        let (mut socket, _) = connect_async(request).await?;
        let params = json!({"channels": ["orderbook_delta"], "market_tickers": tickers});
        let first = json!({"id": 1, "cmd": "subscribe", "params": params}).to_string();
        let params = json!({"sid": 1, "action": "get_snapshot", "market_tickers": tickers});
        let more = json!({"id": 2, "cmd": "update_subscription", "params": params}).to_string();
        floods.push(tokio::spawn(async move {
            socket.send(Message::text(first)).await?;
            for _ in 0..commands {
                socket.send(Message::text(more.clone())).await?;
            }
            // Open, and never read.
            std::future::pending::<Result<(), tokio_tungstenite::tungstenite::Error>>().await
        }));
    }
    report("during", &client, &exchange).await?;
    for flood in floods {
        flood.abort();
    }
    while exchange.streams().connections() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    report("after", &client, &exchange).await?;
    exchange.stop().await?;
    Ok(())
}

async fn report(when: &str, client: &Client, exchange: &Exchange) -> Outcome<()> {
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let began = Instant::now();
        client.get_balance().send().await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 1_000).copied().unwrap_or_default();
    let backlog = exchange.streams().backlog();
    println!(
        "{when}: p50 {:?}, p99 {:?}, most {:?}; {} bytes unread, {} at most on one; {}",
        at(500),
        at(990),
        at(999),
        backlog.bytes,
        backlog.most_bytes,
        memory(),
    );
    Ok(())
}

/// Returns the resident memory of the process, as Linux reports it.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.map_or_else(|| "memory unknown".to_owned(), |line| line.replace('\t', " "))
}
