//! The watchdog: in this process, and as a process beside one that is killed.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use kalshi_auth::server::KeyPair;
use kalshi_sdk::{Client, Credentials, Environment, OperationId, types::BookSide};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketPlan, PerpsMarketPlan, Role};
use kalshi_trade::watchdog::{
    Heartbeat, Patience, Scope, Watchdog, WatchdogBuilder, WatchdogEvent,
};
use tokio::time::sleep;

use crate::{
    support::limit,
    watchdog_perps::{PERP, place_perp, resting_perps},
};

const TICKER: &str = "KXDOG-1-A";
pub(crate) const TOKEN: &str = "a-token-of-this-test";
const CHILD: &str = "KALSHI_TRADE_TEST_BOT";

pub(crate) async fn place(client: &Client, id: &str) {
    let mut order = limit(TICKER, BookSide::Bid, "0.10", "1.00");
    order.client_order_id = Some(id.to_owned());
    client.create_order_v2().body(order).send().await.unwrap();
}

/// The client order ids of the orders that rest, sorted.
pub(crate) async fn resting(client: &Client) -> Vec<String> {
    let orders = client.get_orders().status("resting").ticker(TICKER).all().await.unwrap();
    let mut ids: Vec<String> = orders.into_iter().map(|order| order.client_order_id).collect();
    ids.sort_unstable();
    ids
}

pub(crate) async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1_200 {
        if is_so().await {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("a minute has passed, and not yet: {what}");
}

/// An exchange with a market, and the client of its trader.
pub(crate) async fn exchange() -> (Exchange, Client) {
    let exchange = Exchange::start().await.unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    (exchange, client)
}

pub(crate) type Events = Arc<Mutex<Vec<String>>>;

/// A watchdog that looks often, and what it reports.
pub(crate) fn watchdog(client: &Client, scope: Scope) -> (WatchdogBuilder, Events) {
    let patience = Patience::default()
        .with_quiet(Duration::from_millis(300))
        .with_poll(Duration::from_millis(20));
    let events = Events::default();
    let report = Arc::clone(&events);
    let builder = Watchdog::builder(client.clone(), TOKEN)
        .with_scope(scope)
        .with_patience(patience)
        .on_event(move |event| {
            let text = match event {
                WatchdogEvent::Tripped(death) => format!("{death:?}"),
                WatchdogEvent::Armed => "armed".to_owned(),
                WatchdogEvent::Disarmed => "disarmed".to_owned(),
                _ => return,
            };
            report.lock().unwrap().push(text);
        });
    (builder, events)
}

#[tokio::test]
async fn a_program_that_goes_without_a_word_leaves_no_orders() {
    let (_exchange, client) = exchange().await;
    let (builder, events) = watchdog(&client, Scope::All);
    // Long enough for the late order to be placed meanwhile, on a machine that does other things.
    let patience = Patience::default().with_poll(Duration::from_millis(20));
    let patience = patience.with_quiet(Duration::from_secs(3));
    let watchdog = builder.with_patience(patience).bind(0).await.unwrap();
    let (address, armed) = (watchdog.address(), watchdog.armed());
    tokio::spawn(watchdog.run());

    let mut heartbeat = Heartbeat::connect(address, TOKEN, Duration::from_secs(60)).await.unwrap();
    place(&client, "one").await;
    place(&client, "two").await;
    heartbeat.beat().await.unwrap();
    assert_eq!(armed.get(), 1);
    assert_eq!(resting(&client).await, ["one", "two"]);
    drop(heartbeat);
    wait_until("both are canceled", async || resting(&client).await.is_empty()).await;
    // One that was on its way arrives after the cancellation.
    assert_eq!(armed.get(), 1, "not over yet");
    place(&client, "late").await;
    wait_until("it is over", async || armed.get() == 0).await;
    assert!(resting(&client).await.is_empty());
    assert_eq!(*events.lock().unwrap(), ["armed", "Disconnected"]);
}

#[tokio::test]
async fn silence_counts_as_death_and_a_farewell_does_not() {
    let (_exchange, client) = exchange().await;
    let (builder, events) = watchdog(&client, Scope::All);
    let watchdog = builder.bind(0).await.unwrap();
    let (address, armed) = (watchdog.address(), watchdog.armed());
    tokio::spawn(watchdog.run());

    let calm = Heartbeat::connect(address, TOKEN, Duration::from_secs(60)).await.unwrap();
    place(&client, "kept").await;
    calm.stop().await.unwrap();
    wait_until("it is disarmed", async || armed.get() == 0).await;
    assert_eq!(resting(&client).await, ["kept"]);

    // It is connected, and hangs.
    let hangs = Heartbeat::connect(address, TOKEN, Duration::from_millis(200)).await.unwrap();
    wait_until("it is canceled", async || resting(&client).await.is_empty()).await;
    wait_until("it is over", async || armed.get() == 0).await;
    assert_eq!(*events.lock().unwrap(), ["armed", "disarmed", "armed", "Silent"]);
    drop(hangs);
}

#[tokio::test]
async fn only_the_orders_of_the_scope_are_canceled() {
    let (_exchange, client) = exchange().await;
    let (builder, _) = watchdog(&client, Scope::Prefix("mm1-".to_owned()));
    let watchdog = builder.bind(0).await.unwrap();
    let (address, armed) = (watchdog.address(), watchdog.armed());
    tokio::spawn(watchdog.run());
    let heartbeat = Heartbeat::connect(address, TOKEN, Duration::from_secs(60)).await.unwrap();
    for number in 0..25 {
        place(&client, &format!("mm1-{number}")).await;
    }
    place(&client, "by-hand").await;
    drop(heartbeat);
    wait_until("it is over", async || armed.get() == 0).await;
    assert_eq!(resting(&client).await, ["by-hand"]);
}

#[tokio::test]
async fn a_cancellation_that_fails_is_repeated() {
    let (exchange, client) = exchange().await;
    for kind in [FaultKind::status(503), FaultKind::status(429)] {
        let fault = Fault::builder(kind).with_operation(OperationId::CancelAllOrders).with_times(2);
        exchange.faults().add(fault.build()).unwrap();
    }
    let fault = Fault::builder(FaultKind::status(500)).with_operation(OperationId::GetOrders);
    let (builder, _) = watchdog(&client, Scope::All);
    let watchdog = builder.bind(0).await.unwrap();
    let (address, armed) = (watchdog.address(), watchdog.armed());
    tokio::spawn(watchdog.run());
    let heartbeat = Heartbeat::connect(address, TOKEN, Duration::from_secs(60)).await.unwrap();
    place(&client, "one").await;
    exchange.faults().add(fault.with_times(1).build()).unwrap();
    drop(heartbeat);
    wait_until("it is over", async || armed.get() == 0).await;
    assert!(resting(&client).await.is_empty());
    exchange.faults().assert_all_hit();
}

#[tokio::test]
async fn orders_are_canceled_though_the_function_that_is_told_panics() {
    for scope in [Scope::All, Scope::Prefix("mm1-".to_owned())] {
        let (_exchange, client) = exchange().await;
        let (builder, _) = watchdog(&client, scope);
        let told = Arc::<Mutex<usize>>::default();
        let count = Arc::clone(&told);
        let builder = builder.on_event(move |event| {
            *count.lock().unwrap() += 1;
            // Without the message that a panic prints.
            std::panic::resume_unwind(Box::new(format!("{event:?}")));
        });
        let watchdog = builder.bind(0).await.unwrap();
        let (address, armed) = (watchdog.address(), watchdog.armed());
        let running = tokio::spawn(watchdog.run());
        let silence = Duration::from_secs(60);
        Heartbeat::connect(address, TOKEN, silence).await.unwrap().stop().await.unwrap();
        wait_until("it is disarmed", async || armed.get() == 0).await;
        let heartbeat = Heartbeat::connect(address, TOKEN, silence).await.unwrap();
        place(&client, "mm1-one").await;
        drop(heartbeat);
        wait_until("it is over", async || armed.get() == 0).await;
        assert!(resting(&client).await.is_empty());
        assert!(!running.is_finished());
        // Armed, disarmed, armed, dead, requested, quiet.
        assert!(*told.lock().unwrap() >= 6, "{told:?}");
    }
}

#[tokio::test]
async fn a_stranger_is_refused_and_cancels_nothing() {
    let (_exchange, client) = exchange().await;
    let (builder, events) = watchdog(&client, Scope::All);
    let watchdog = builder.bind(0).await.unwrap();
    let address = watchdog.address();
    tokio::spawn(watchdog.run());
    place(&client, "one").await;
    for (token, silence) in [("another", 60_000), (TOKEN, 1), (TOKEN, 3_600_000)] {
        let refused = Heartbeat::connect(address, token, Duration::from_millis(silence)).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("check the token"), "{error}");
    }
    assert!(events.lock().unwrap().is_empty());
    assert_eq!(resting(&client).await, ["one"]);
    for token in ["", "two words", "tab\t"] {
        assert!(Watchdog::builder(client.clone(), token).bind(0).await.is_err(), "{token:?}");
    }
}

/// The program of the next test: makes orders and beats, until it is killed.
#[tokio::test]
#[ignore = "a process of the next test"]
async fn the_program_that_is_killed() {
    let address = std::env::var(CHILD).unwrap();
    let client = Client::builder()
        .with_environment(Environment::from_env().unwrap())
        .with_credentials(Credentials::from_env().unwrap())
        .build()
        .unwrap();
    let silence = Duration::from_secs(60);
    let mut heartbeat = Heartbeat::connect(address.parse().unwrap(), TOKEN, silence).await.unwrap();
    for number in 0_u32.. {
        if number < 5 {
            place(&client, &format!("bot-{number}")).await;
        }
        heartbeat.beat().await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
}

/// Ends a process when the test ends, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// The exchange goes on while this thread waits for the other process.
#[tokio::test(flavor = "multi_thread")]
async fn the_orders_of_a_process_that_is_killed_are_canceled_by_another() {
    let pair = KeyPair::generate(kalshi_auth::KeyType::Ed25519).unwrap();
    let key_id = "00000000-0000-4000-8000-00000000d06e";
    let exchange = Exchange::builder()
        .with_key(Role::Trader, key_id, pair.public_key().clone())
        .start()
        .await
        .unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    exchange.perps().list(PerpsMarketPlan::new(PERP, "50.00".parse().unwrap())).unwrap();
    let credentials = Credentials::from_pem(key_id, pair.private_key_pem()).unwrap();
    let client = Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(credentials)
        .build()
        .unwrap();
    let start = |mut command: Command| {
        command
            .env("KALSHI_ENV", exchange.base_url())
            .env("KALSHI_API_KEY_ID", key_id)
            .env("KALSHI_PRIVATE_KEY", pair.private_key_pem())
            .env("KALSHI_WATCHDOG_TOKEN", TOKEN);
        Killed(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_kalshi-trade-watchdog"));
    command.args(["--perps", "--prefix", "bot-", "--quiet", "1", "--poll", "20"]);
    let mut dog = start(command);
    let mut address = String::new();
    BufReader::new(dog.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert!(address.starts_with("127.0.0.1:"), "the watchdog did not start: {address:?}");
    // What it reports went to a program that is gone, too.
    drop(dog.0.stderr.take());

    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "watchdog::the_program_that_is_killed"])
        .env(CHILD, address.trim());
    let mut bot = start(command);
    wait_until("its orders rest", async || resting(&client).await.len() == 5).await;
    place(&client, "by-hand").await;
    place_perp(&client, "bot-perp", 0).await;
    bot.0.kill().unwrap();
    wait_until("they are canceled", async || {
        resting(&client).await == ["by-hand"] && resting_perps(&client).await.is_empty()
    })
    .await;
    assert!(dog.0.try_wait().unwrap().is_none(), "the watchdog goes on");
}
