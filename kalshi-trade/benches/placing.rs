//! The cost of placing an order through the crate, beside the bare call: `POST
//! /portfolio/events/orders` to a server in another process, signed with Ed25519.
//!
//! ```text
//! cargo bench -p kalshi-trade --bench placing [-- ORDERS [WAY]]
//! ```
//!
//! Prints processor time of this process per order (of all its threads, from `/proc`, so
//! Linux only) and orders per second, rounds of each way in turn; with a way, of that one only, for
//! a profiler. Journals lie in the folder for temporary files: what a sync costs there is the
//! disk's affair.

#![allow(missing_docs, reason = "a program")]
#![expect(clippy::print_stdout, reason = "it prints its measurements")]

#[path = "../../benches/process/mod.rs"]
mod process;

use std::{
    env,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use kalshi_auth::server::KeyPair;
use kalshi_sdk::{
    Client, Credentials, Environment,
    auth::{self, Clock as _, SystemClock},
    operation::Lane,
    types::{BookSide, CreateOrderV2Request, SelfTradePreventionType, TimeInForce},
};
use kalshi_trade::{
    budget::{Budget, LaneLimits, Limit, WithBudget as _},
    journal::{Durability, FileJournal, Journal, MemoryJournal},
    placement::{PlacementState, Placements},
};

use crate::process::{Failure, Used, beside_server, serve_by};

const ROUNDS: usize = 6;
/// Orders that are placed at the same time, in the rows that say so.
const AT_ONCE: usize = 16;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.first().is_some_and(|a| a == "--serve") {
        return serve_by(accept);
    }
    let orders = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(2_000);
    let only = arguments.get(1).cloned();
    let files = env::temp_dir().join(format!("kalshi-trade-placing-{}", std::process::id()));
    std::fs::create_dir_all(&files)?;
    let result =
        beside_server(&[], async |address| measure(address, &files, orders, only.as_deref()).await);
    std::fs::remove_dir_all(&files)?;
    result
}

/// Answers a create as the exchange does, with the client order id of the request.
fn accept(body: &[u8]) -> Arc<[u8]> {
    let body = String::from_utf8_lossy(body);
    let id = body.split("\"client_order_id\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let id = id.unwrap_or_default();
    let body = format!(
        "{{\"order_id\":\"00000000-0000-4000-8000-00000000d1ed\",\"client_order_id\":\"{id}\",\
         \"fill_count\":\"0.00\",\"remaining_count\":\"1.00\",\"ts_ms\":1700000000000}}"
    );
    let length = body.len();
    let response = format!(
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: \
         {length}\r\n\r\n{body}"
    );
    response.into_bytes().into()
}

async fn measure(
    address: &str,
    files: &Path,
    orders: usize,
    only: Option<&str>,
) -> Result<(), Failure> {
    // As in every program with a stream: without a timer that runs, the runtime is woken for the
    // first one of each request.
    let mut beat = tokio::time::interval(Duration::from_secs(10));
    tokio::spawn(async move {
        loop {
            beat.tick().await;
        }
    });
    let base = format!("http://{address}/trade-api/v2");
    let pair = KeyPair::generate(auth::KeyType::Ed25519)?;
    let credentials = Credentials::from_pem("bench", pair.private_key_pem())?;
    let builder = || {
        let environment = Environment::Custom(base.clone());
        Client::builder().with_environment(environment).with_credentials(credentials.clone())
    };
    // Nothing ever waits: what is measured is the way through it.
    let limit = Limit::new(1_000_000_000, 1_000_000_000)?;
    let limits = LaneLimits::new(limit, limit, limit);
    let budget = || Budget::builder().with_limits(Lane::EventContracts, limits).build();
    let memory = || MemoryJournal::new(1, SystemClock.now());
    let file = |name: &str, durability| {
        FileJournal::builder(files.join(name)).with_durability(durability).open()
    };
    let (plain, within) = (builder().build()?, builder().with_budget(&budget()).build()?);
    let (process, disk) = (Durability::Process, Durability::Disk);
    let mut ways = vec![
        Way::new("bare", 1, &plain, None),
        Way::new("budget", 1, &within, None),
        Way::new("memory", 1, &plain, Some(placements(&plain, memory())?)),
        Way::new("file", 1, &plain, Some(placements(&plain, file("file", process)?)?)),
        Way::new("all", 1, &within, Some(placements(&within, file("all", process)?)?)),
        Way::new("synced", 1, &plain, Some(placements(&plain, file("synced", disk)?)?)),
        Way::new("bare-16", AT_ONCE, &plain, None),
        Way::new("file-16", AT_ONCE, &plain, Some(placements(&plain, file("file-16", process)?)?)),
        Way::new("synced-16", AT_ONCE, &plain, Some(placements(&plain, file("synced-16", disk)?)?)),
    ];
    if let Some(only) = only {
        ways.retain(|way| way.name == only);
    }
    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.round(orders).await?;
        }
    }
    println!("{} orders each; µs of processor time an order", ROUNDS * orders);
    for way in &ways {
        let plain = ways.iter().find(|other| other.name.starts_with("bare") && other.is_like(way));
        way.print(plain);
    }
    Ok(())
}

fn placements(client: &Client, journal: impl Journal + 'static) -> Result<Placements, Failure> {
    Ok(Placements::builder(client.clone(), journal).start()?)
}

/// A way to place orders, and what it has cost.
struct Way {
    name: &'static str,
    at_once: usize,
    client: Client,
    placements: Option<Placements>,
    placed: u64,
    /// Processor time of each round, in microseconds an order.
    micros: Vec<f64>,
    wall: Duration,
    orders: usize,
}

impl Way {
    fn new(
        name: &'static str,
        at_once: usize,
        client: &Client,
        placements: Option<Placements>,
    ) -> Self {
        let (client, micros) = (client.clone(), Vec::new());
        let wall = Duration::ZERO;
        Self { name, at_once, client, placements, placed: 0, micros, wall, orders: 0 }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.at_once == other.at_once
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of orders")]
    async fn round(&mut self, orders: usize) -> Result<(), Failure> {
        self.place(orders / 10).await?;
        let (before, wall) = (Used::now()?.processor, Instant::now());
        self.place(orders).await?;
        self.wall += wall.elapsed();
        let used = Used::now()?.processor.saturating_sub(before);
        self.micros.push(used.as_secs_f64() * 1e6 / orders as f64);
        self.orders += orders;
        Ok(())
    }

    /// Places orders, and waits until the last of them is settled in the journal, too.
    async fn place(&mut self, orders: usize) -> Result<(), Failure> {
        for _ in 0..orders / self.at_once {
            let first = self.placed;
            self.placed += self.at_once as u64;
            try_join_all((first..self.placed).map(|number| self.place_one(number))).await?;
        }
        if let Some(placements) = &self.placements {
            while !placements.open().is_empty() {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn place_one(&self, number: u64) -> Result<(), Failure> {
        let Some(placements) = &self.placements else {
            let id = format!("kt-0123456789abcdef-1-{number}");
            let mut order = order()?;
            order.client_order_id = Some(id);
            self.client.create_order_v2().body(order).send().await?;
            return Ok(());
        };
        match placements.place(order()?)?.outcome().await {
            PlacementState::Accepted { .. } => Ok(()),
            other => Err(format!("the order came to {other:?}").into()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of orders")]
    fn print(&self, bare: Option<&Self>) {
        let rate = self.orders as f64 / self.wall.as_secs_f64();
        let micros = median(self.micros.iter().copied());
        // Of the rounds that followed each other, so that what else the machine does cancels out.
        let more =
            bare.map(|bare| self.micros.iter().zip(&bare.micros).map(|(all, bare)| all - bare));
        let more = more.map(median).unwrap_or_default();
        println!("  {:<10} {micros:>6.1}, {more:>+6.1} to bare; {rate:.0} orders/s", self.name);
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or_default();
    let lower = values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    f64::midpoint(lower, upper)
}

fn order() -> Result<CreateOrderV2Request, Failure> {
    Ok(CreateOrderV2Request::builder()
        .ticker("KXBENCH-26NOV26-T50")
        .side(BookSide::Bid)
        .count("1.00")
        .price("0.5600")
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross)
        .exchange_index(0)
        .try_into()?)
}
