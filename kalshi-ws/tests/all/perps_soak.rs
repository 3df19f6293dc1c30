//! Books of perpetual futures against a whole exchange, over sockets, while messages are lost, doubled
//! and swapped, and connections are cut. Whenever the exchange stands still, every book must be the
//! exchange's own, level by level.
//!
//! `SOAK_DELTAS` says how many commands of traders, and `SOAK_SEED` which faults.

use std::{env, time::Duration};

use kalshi_sim::{Exchange, Role, StreamFaults, Target};
use kalshi_types::PriceLevel;
use kalshi_ws::{
    Backoff, Environment,
    perps::{Config, Connection, Event, Subscription},
};
use tokio::time::timeout;

const TICKERS: [&str; 3] = ["KXSIMCOINPERP", "KXSIMSHAREPERP", "KXSIMMETALPERP"];
/// Commands of the traders between two comparisons.
const STRETCH: u64 = 1_000;
/// Nothing takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Both sides of a book, the best level first.
type Sides = (Vec<PriceLevel>, Vec<PriceLevel>);

async fn connect(exchange: &Exchange) -> Connection {
    let config = Config::builder()
        .with_environment(Environment::Custom(exchange.perps().stream_url()))
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
        .with_backoff(Backoff::new(Duration::from_millis(5), Duration::from_millis(100)))
        .with_snapshot_timeout(Duration::from_millis(500))
        .build()
        .unwrap();
    let connection = Connection::connect(config).await.unwrap();
    connection.handle().subscribe(Subscription::orderbook(TICKERS)).unwrap();
    connection
}

/// Reads the exchange's own books.
async fn truth(exchange: &Exchange) -> Vec<Sides> {
    let client = exchange.client(Role::Trader).unwrap();
    let mut books = Vec::new();
    for ticker in TICKERS {
        let perps = client.perps();
        let book = perps.get_margin_market_orderbook().ticker(ticker).send().await.unwrap();
        let book = book.into_inner().orderbook;
        books.push((book.bids_best_first(), book.asks_best_first()));
    }
    books
}

fn shown(connection: &Connection) -> Option<Vec<Sides>> {
    let book = |ticker: &&str| {
        let book = connection.books().get(ticker)?;
        Some((book.bids().collect(), book.asks().collect()))
    };
    TICKERS.iter().map(book).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_of_perps_are_those_of_the_exchange_whatever_happens_on_the_way() {
    let commands = setting("SOAK_DELTAS", 12_000);
    let seed = setting("SOAK_SEED", 1);
    let mut faults = StreamFaults::default();
    (faults.seed, faults.drop_one_in) = (seed, 97);
    (faults.duplicate_one_in, faults.swap_one_in) = (89, 83);
    let exchange = Exchange::builder().with_seed(seed).start().await.unwrap();
    let mut connection = connect(&exchange).await;
    let (mut sent, mut done, mut compared) = (0, 0, 0);
    let (mut gaps, mut reconnects) = (0_u64, 0_u64);
    while sent < commands {
        exchange.streams().set_faults(Target::All, faults.clone()).unwrap();
        for _ in 0..10 {
            done += exchange.perps().run_traders(STRETCH / 10);
            // What is on its way is read in between.
            tokio::task::yield_now().await;
        }
        sent += STRETCH;
        if sent % (4 * STRETCH) == 0 {
            exchange.streams().cut(Target::All).unwrap();
        }
        // A hole at the end is seen by the next message only.
        exchange.streams().set_faults(Target::All, StreamFaults::default()).unwrap();
        exchange.perps().run_traders(60);
        let truth = truth(&exchange).await;
        let reading = async {
            while shown(&connection).as_ref() != Some(&truth) {
                match connection.next().await.expect("it goes on") {
                    Event::Gap { .. } => gaps += 1,
                    Event::Reconnected { .. } => reconnects += 1,
                    _ => {}
                }
            }
        };
        let reached = timeout(PATIENCE, reading).await;
        assert!(reached.is_ok(), "after {sent} commands, {gaps} gaps, {reconnects} reconnects");
        compared += TICKERS.len();
    }
    assert!(done > commands / 2, "{done} of {commands} were carried out");
    assert!(gaps > 0 && reconnects > 0, "{gaps} gaps, {reconnects} reconnects");
    println!("{done} commands, {compared} comparisons, {gaps} gaps, {reconnects} reconnects");
    connection.close().await;
    exchange.audit().unwrap();
}
