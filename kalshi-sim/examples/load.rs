//! How much the simulator takes: the engine alone, and orders over HTTP.
//!
//! `cargo run --release -p kalshi-sim --example load -- [ENGINE_COMMANDS] [HTTP_ORDERS] [CONNECTIONS]`
#![expect(clippy::print_stdout, reason = "it reports")]

use std::{
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kalshi_sdk::{
    Client,
    types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{Exchange, Role};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let argument = |place: usize, default: u64| {
        env::args().nth(place).map_or(Ok(default), |text| text.parse::<u64>())
    };
    let (commands, orders, connections) =
        (argument(1, 1_000_000)?, argument(2, 100_000)?, argument(3, 8)?);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(engine(commands))?;
    runtime.block_on(over_http(orders, connections))
}

/// Sends the simulated traders' commands straight into the engine.
async fn engine(commands: u64) -> Outcome<()> {
    let exchange = Exchange::builder().with_traders(50).with_markets(60).start().await?;
    let began = Instant::now();
    let done = exchange.markets().run_traders(commands);
    let took = began.elapsed();
    exchange.audit()?;
    println!(
        "engine: {commands} commands ({done} carried out) in {:.2} s, {} commands/s, {}",
        took.as_secs_f64(),
        rate(commands, took),
        memory(),
    );
    exchange.stop().await?;
    Ok(())
}

/// Sends signed orders from several clients at once; every second one trades.
async fn over_http(orders: u64, connections: u64) -> Outcome<()> {
    let exchange = Exchange::builder().with_markets(60).start().await?;
    let setup = exchange.client(Role::Trader)?;
    let page = setup.get_markets().status("open").limit(connections.max(1)).send().await?;
    let tickers: Vec<String> = page.markets.iter().map(|market| market.ticker.clone()).collect();
    let left = Arc::new(AtomicU64::new(orders));
    let began = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..connections {
        let role = if number % 2 == 0 { Role::Trader } else { Role::Maker };
        let client = exchange.client(role)?;
        let ticker = usize::try_from(number)
            .ok()
            .and_then(|number| tickers.get(number % tickers.len().max(1)))
            .ok_or("there are open markets")?
            .clone();
        tasks.push(tokio::spawn(send(client, ticker, Arc::clone(&left))));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let took = began.elapsed();
    exchange.audit()?;
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 1_000).copied().unwrap_or_default();
    println!(
        "HTTP: {} orders over {connections} connections in {:.2} s, {} orders/s, p50 {:?}, p99 {:?}, {}",
        times.len(),
        took.as_secs_f64(),
        rate(orders, took),
        at(500),
        at(990),
        memory(),
    );
    exchange.stop().await?;
    Ok(())
}

/// Sends a bid and an offer at one price in turn, so that they trade or rest.
async fn send(client: Client, ticker: String, left: Arc<AtomicU64>) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    let mut turn = 0_u32;
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
    {
        turn = turn.wrapping_add(1);
        let began = Instant::now();
        let side = if turn.is_multiple_of(2) { BookSide::Bid } else { BookSide::Ask };
        let order = CreateOrderV2Request::builder()
            .ticker(&*ticker)
            .side(side)
            .price("0.5000")
            .count("0.01")
            .time_in_force(TimeInForce::ImmediateOrCancel)
            .self_trade_prevention_type(SelfTradePreventionType::Maker);
        client.create_order_v2().body(order).send().await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

fn rate(count: u64, took: Duration) -> u64 {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1_000) / millis
}

/// Returns the memory of this process, as the system reports it.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.map_or_else(|| "memory unknown".to_owned(), |line| line.replace('\t', " "))
}
