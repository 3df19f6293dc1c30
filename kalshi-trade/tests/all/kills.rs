//! Processes that place, amend and cancel orders and are killed at any moment: the journal finds every
//! one of them, and what was to be out is out.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kalshi_auth::server::KeyPair;
use kalshi_sdk::{Client, Credentials, Environment, OperationId, auth::Clock, types::BookSide};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketPlan, Role};
use kalshi_trade::{
    journal::{FileJournal, Journal as _, OrderChange, Settlement},
    placement::{ChangeState, ChangeTarget, PlacementState, Placements},
};
use kalshi_types::{Count, Dollars};
use tokio::time::sleep;

use crate::support::{Ahead, limit};

const TICKER: &str = "KXKILL-1-A";
const KILLS: u32 = 50;
/// Somewhat more than the window of a signature: then absence can be proven.
const WINDOW: Duration = Duration::from_secs(62);
const JOURNAL: &str = "KALSHI_TRADE_TEST_JOURNAL";
const AHEAD: &str = "KALSHI_TRADE_TEST_AHEAD";

/// The process that is killed. It says `open` when it has the journal, reads by how many
/// milliseconds the clocks go ahead, says `ready` when everything of before is settled, and places
/// orders until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process of the next test"]
async fn the_process_that_is_killed() {
    let clock = Arc::new(Ahead::default());
    let ahead: i64 = std::env::var(AHEAD).unwrap().parse().unwrap();
    clock.0.store(ahead, Ordering::SeqCst);
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let journal = FileJournal::builder(std::env::var_os(JOURNAL).unwrap());
    let journal = journal.with_clock(Arc::clone(&shared)).open().unwrap();
    say("open");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    clock.0.fetch_add(line.trim().parse::<i64>().unwrap(), Ordering::SeqCst);

    // The simulator checks signatures by the machine's clock, however far its own is ahead.
    let client = Client::builder()
        .with_environment(Environment::from_env().unwrap())
        .with_credentials(Credentials::from_env().unwrap())
        .build()
        .unwrap();
    let placements = Placements::builder(client, journal).with_clock(shared).start().unwrap();
    placements.ready().await;
    for placement in placements.restored() {
        assert!(!matches!(placement.state(), PlacementState::Undecided(_)), "{placement:?}");
    }
    for change in placements.restored_changes() {
        let state = change.outcome().await;
        assert!(!matches!(state, ChangeState::Undecided(_)), "{change:?}");
        if change.intent().change == OrderChange::Cancel {
            assert_eq!(state, ChangeState::Reached, "{change:?}");
        }
    }
    say("ready");
    for number in 0_u32.. {
        let order = limit(TICKER, BookSide::Bid, "0.0100", "1.00");
        let placement = placements.place(order).unwrap();
        let placements = placements.clone();
        tokio::spawn(async move {
            let PlacementState::Accepted { order_id } = placement.outcome().await else { return };
            let change = match number % 3 {
                0 => OrderChange::Cancel,
                1 => OrderChange::Amend {
                    side: BookSide::Bid,
                    yes_price: Dollars::from_cents(2).unwrap(),
                    total: Count::from_contracts(1).unwrap(),
                    expires: None,
                },
                _ => return,
            };
            let target = ChangeTarget::new(order_id, TICKER);
            placements.change(target, change, Duration::from_secs(1)).unwrap();
        });
        sleep(Duration::from_millis(6)).await;
    }
}

/// Writes a line past the test harness, which keeps what is printed.
pub(crate) fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{word}").unwrap();
    out.flush().unwrap();
}

/// A process, which ends when the test does.
pub(crate) struct Bot {
    pub(crate) child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Bot {
    pub(crate) fn wait_for(&mut self, word: &str) {
        let said = self.output.by_ref().map_while(Result::ok).any(|line| line == word);
        assert!(said, "the process ended before it said {word:?}");
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// The exchange goes on while this thread waits for the other process.
#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_a_process_that_is_killed_is_lost_or_placed_twice() {
    let files =
        Files(std::env::temp_dir().join(format!("kalshi-trade-kills-{}", std::process::id())));
    std::fs::create_dir_all(&files.0).unwrap();
    let path = files.0.join("journal");
    let pair = KeyPair::generate(kalshi_auth::KeyType::Ed25519).unwrap();
    let key_id = "00000000-0000-4000-8000-00000000d1ed";
    let builder = Exchange::builder().with_key(Role::Trader, key_id, pair.public_key().clone());
    let exchange = builder.start().await.unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    // Answers are lost, requests are refused, and some are under way when the process is killed.
    for (kind, one_in) in [
        (FaultKind::ResetAfter, 7),
        (FaultKind::ResetBefore, 11),
        (FaultKind::TooManyRequests, 13),
        (FaultKind::latency(Duration::from_millis(15)), 3),
    ] {
        for operation in
            [OperationId::CreateOrderV2, OperationId::CancelOrderV2, OperationId::AmendOrderV2]
        {
            let fault = Fault::builder(kind).with_operation(operation);
            exchange.faults().add(fault.with_one_in(one_in).build()).unwrap();
        }
    }
    let mut ahead = Duration::ZERO;
    let start = |ahead: Duration| start(&exchange, &pair, key_id, &path, ahead);
    let mut random = 20_261_126_u64;
    for kill in 0..=KILLS {
        let mut bot = start(ahead);
        bot.wait_for("open");
        exchange.clock().advance(WINDOW).unwrap();
        ahead += WINDOW;
        writeln!(bot.input, "{}", WINDOW.as_millis()).unwrap();
        bot.wait_for("ready");
        if kill < KILLS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            sleep(Duration::from_millis((random >> 33) % 60)).await;
        }
        bot.child.kill().unwrap();
    }
    // What the last process has placed after it was ready is settled by one more.
    let mut last = start(ahead);
    last.wait_for("open");
    exchange.clock().advance(WINDOW).unwrap();
    writeln!(last.input, "{}", WINDOW.as_millis()).unwrap();
    last.wait_for("ready");
    last.child.kill().unwrap();
    last.child.wait().unwrap();
    drop(last);
    check(&client(&exchange, &pair, key_id), &path).await;
}

pub(crate) fn client(exchange: &Exchange, pair: &KeyPair, key_id: &str) -> Client {
    Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(Credentials::from_pem(key_id, pair.private_key_pem()).unwrap())
        .build()
        .unwrap()
}

fn start(exchange: &Exchange, pair: &KeyPair, key_id: &str, path: &Path, ahead: Duration) -> Bot {
    let ahead = ahead.as_millis().to_string();
    let variables = [(JOURNAL, path.as_os_str()), (AHEAD, ahead.as_ref())];
    spawn(exchange, pair, key_id, "kills::the_process_that_is_killed", variables)
}

/// Starts one of the ignored tests as a process.
pub(crate) fn spawn<'a>(
    exchange: &Exchange,
    pair: &KeyPair,
    key_id: &str,
    test: &str,
    variables: impl IntoIterator<Item = (&'a str, &'a OsStr)>,
) -> Bot {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--nocapture", "--exact", test])
        .envs(variables)
        .env("KALSHI_ENV", exchange.base_url())
        .env("KALSHI_API_KEY_ID", key_id)
        .env("KALSHI_PRIVATE_KEY", pair.private_key_pem())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    Bot { child, input, output: BufReader::new(output).lines() }
}

/// Compares the journal with the exchange.
async fn check(client: &Client, path: &Path) {
    let history = FileJournal::builder(path).open().unwrap().history();
    let orders = client.get_orders().ticker(TICKER).all().await.unwrap();
    let ids: BTreeSet<&str> = orders.iter().map(|order| &*order.client_order_id).collect();
    assert_eq!(ids.len(), orders.len(), "an order was placed twice");
    // What the last process placed after it was ready may be open.
    let open: BTreeSet<&str> = history.unsettled().map(|one| one.intent.id().as_str()).collect();
    let mut accepted = 0;
    for id in ids.difference(&open) {
        let settlement = history.settlement(id);
        assert!(matches!(settlement, Some(Settlement::Accepted { .. })), "{id}: {settlement:?}");
        accepted += 1;
    }
    for id in history.accepted() {
        assert!(ids.contains(id.as_str()), "{} was never an order", id.as_str());
    }
    assert!(accepted > 100 && open.len() < 50, "{accepted} orders, {} open", open.len());
    let resting: BTreeSet<&str> = orders
        .iter()
        .filter(|order| order.status.as_str() == "resting")
        .map(|order| &*order.order_id)
        .collect();
    // What the last process was about to cancel may rest.
    let open: BTreeSet<&str> =
        history.unsettled_changes().map(|one| &*one.intent.order_id).collect();
    let canceled = canceled(path);
    let left: Vec<&String> = canceled
        .iter()
        .filter(|order_id| resting.contains(&***order_id) && !open.contains(&***order_id))
        .collect();
    assert!(left.is_empty(), "these were to be out and rest: {left:?}");
    assert!(canceled.len() > 20 && !resting.is_empty(), "{} cancels", canceled.len());
}

/// Returns the orders that the journal has a cancel of.
fn canceled(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter_map(|line| line.get(9..));
    let records = lines.map(|json| serde_json::from_str::<serde_json::Value>(json).unwrap());
    let cancels = records.filter(|record| record["intent"]["change"] == "cancel");
    cancels.map(|record| record["intent"]["order_id"].as_str().unwrap().to_owned()).collect()
}
