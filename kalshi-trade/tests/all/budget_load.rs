//! The budget under load, by the machine's clock: how much of a bucket several processes use, and
//! how long a cancel waits. What these say about time is printed; asserted is what holds whatever
//! else the machine does, and the rest where a variable asks for it:
//!
//! ```text
//! BUDGET_LOAD_SECONDS=20 cargo test -p kalshi-trade --test all budget_load -- --nocapture
//! ```

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use kalshi_auth::{KeyType, server::KeyPair};
use kalshi_sdk::{
    Client, Credentials, Environment,
    auth::{Clock as _, SystemClock},
    operation::Lane,
    types::BatchCancelOrdersV2Request,
};
use kalshi_sim::{Exchange, MarketPlan, Role, Tier};
use kalshi_trade::budget::{
    BucketKey, Budget, Charge, Class, Completion, LockFile, Pool, RequestOptions, WithBudget as _,
};
use serde_json::json;
use tokio::{runtime::Runtime, time::sleep};

use crate::support::{TICKER, order};

const SECONDS: &str = "BUDGET_LOAD_SECONDS";
const FILE: &str = "KALSHI_TRADE_TEST_BUDGET";
const KEY_ID: &str = "00000000-0000-4000-8000-00000000b4d9";
/// Requests that a process always has waiting or on their way.
const WORKERS: usize = 12;

/// Returns the seconds that are measured, if the variable is set.
fn seconds() -> Option<u64> {
    let seconds = std::env::var(SECONDS).ok()?;
    Some(seconds.parse().expect("the variable is a number of seconds"))
}

/// Returns a batch that is charged `tokens`: two for each of its items, which do not exist.
fn batch(tokens: u64) -> BatchCancelOrdersV2Request {
    let orders: Vec<_> =
        (0..tokens / 2).map(|index| json!({"order_id": format!("unknown-{index}")})).collect();
    serde_json::from_value(json!({"orders": orders})).unwrap()
}

/// Writes a line past the test harness, which keeps what is printed.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// A process that sends as much as the shared budget lets it. It says `ready`, reads the tokens of a
/// request and three times in milliseconds since 1970, and says how many tokens were answered
/// between the first two, and how many requests by the third, and how many of them with 429.
#[tokio::test]
#[ignore = "a process of the next test"]
async fn the_process_that_uses_its_share() {
    let file = LockFile::open(std::env::var_os(FILE).unwrap()).unwrap();
    let budget = Budget::builder().with_backend(Arc::new(file)).with_requeues(0).build();
    let client = Client::builder()
        .with_environment(Environment::from_env().unwrap())
        .with_credentials(Credentials::from_env().unwrap())
        .with_budget(&budget)
        .build()
        .unwrap();
    budget.learn(&client).await.unwrap();
    say("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let numbers: Vec<i64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [tokens, from, until, end] = numbers[..] else { panic!("{line}") };
    let tokens = u64::try_from(tokens).unwrap();
    let options = RequestOptions::new().with_class(Class::Normal);
    let client = client.with_extension(options.with_deadline(Duration::from_secs(60)));
    let now = || SystemClock.now().as_millis();
    let worker = async || {
        let (mut spent, mut served, mut limited) = (0_u64, 0_u64, 0_u64);
        while now() < end {
            match client.batch_cancel_orders_v2().body(batch(tokens)).send().await {
                Ok(_) => served += 1,
                Err(error) if error.is_rate_limited() => {
                    limited += 1;
                    continue;
                }
                Err(error) => panic!("{error}"),
            }
            if (from..until).contains(&now()) {
                spent += tokens;
            }
        }
        (spent, served, limited)
    };
    let all = join_all((0..WORKERS).map(|_| worker())).await;
    let sum = |of: fn(&(u64, u64, u64)) -> u64| all.iter().map(of).sum::<u64>();
    say(&format!("used {} {} {}", sum(|all| all.0), sum(|all| all.1), sum(|all| all.2)));
}

/// A process, which ends when the test does.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(exchange: &Exchange, pair: &KeyPair, file: &PathBuf) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--ignored",
                "--nocapture",
                "--exact",
                "budget_load::the_process_that_uses_its_share",
            ])
            .env(FILE, file)
            .env("KALSHI_ENV", exchange.base_url())
            .env("KALSHI_API_KEY_ID", KEY_ID)
            .env("KALSHI_PRIVATE_KEY", pair.private_key_pem())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output).lines() }
    }

    /// Returns what follows a word at the beginning of a line.
    fn wait_for(&mut self, word: &str) -> String {
        let mut lines = self.output.by_ref().map_while(Result::ok);
        let rest = lines.find_map(|line| line.strip_prefix(word).map(str::to_owned));
        rest.unwrap_or_else(|| panic!("the process ended before it said {word:?}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The share of a common bucket that processes have used.
struct Used {
    /// Of the tokens that the bucket got in the time that was measured.
    share: f64,
    served: u64,
    limited: u64,
}

/// Lets processes use a bucket, and measures for a time when the burst is gone.
async fn use_up(tier: Tier, processes: usize, time: Duration) -> Used {
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let builder = Exchange::builder().with_tier(tier);
    let exchange = builder.with_key(Role::Trader, KEY_ID, pair.public_key().clone());
    let exchange = exchange.start().await.unwrap();
    let name = format!("kalshi-trade-load-{}-{tier:?}-{processes}", std::process::id());
    let file = std::env::temp_dir().join(name);
    let client = Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(Credentials::from_pem(KEY_ID, pair.private_key_pem()).unwrap())
        .build()
        .unwrap();
    let own = Budget::new();
    own.learn(&client).await.unwrap();
    let write = own.limits(Lane::EventContracts).write;
    let mut all: Vec<Process> =
        (0..processes).map(|_| Process::start(&exchange, &pair, &file)).collect();
    for process in &mut all {
        process.wait_for("ready");
    }
    // Creates cost 10; dearer requests stand for more of them where there were too many to send.
    let tokens = (write.refill() / 60).max(10).next_multiple_of(2);
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap();
    let from = SystemClock.now().as_millis()
        + millis(Duration::from_nanos(write.fill_time()))
        + millis(Duration::from_secs(1));
    let until = from + millis(time);
    for process in &mut all {
        writeln!(process.input, "{tokens} {from} {until} {}", until + 100).unwrap();
    }
    let mut used = Used { share: 0.0, served: 0, limited: 0 };
    let mut spent = 0;
    for process in &mut all {
        let line = process.wait_for("used ");
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [tokens, served, limited] = numbers[..] else { panic!("{line}") };
        assert!(served > 0, "a process got nothing");
        spent += tokens;
        used.served += served;
        used.limited += limited;
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    {
        used.share = spent as f64 / (write.refill() as f64 * time.as_secs_f64());
    }
    let _ = std::fs::remove_file(file);
    used
}

#[test]
fn processes_share_a_bucket_over_sockets() {
    // The exchanges go on while threads wait for the other processes.
    let runtime = Runtime::new().unwrap();
    let show = |tier, processes, seconds| {
        let time = Duration::from_secs(seconds);
        let Used { share, served, limited } = runtime.block_on(use_up(tier, processes, time));
        println!(
            "{tier:?}, {processes} processes: {:.1} % used, {served} served, {limited} with 429",
            share * 100.0
        );
        // Requests of several processes meet on the way, however slow the machine is.
        assert!(limited == 0 || processes > 1, "{tier:?}");
        (share, limited)
    };
    let Some(seconds) = seconds() else {
        std::thread::scope(|scope| {
            for processes in [1, 2, 8] {
                scope.spawn({
                    let show = &show;
                    move || show(Tier::Basic, processes, 1)
                });
            }
        });
        return;
    };
    for tier in Tier::ALL.into_iter().filter(|tier| *tier != Tier::Unlimited) {
        for processes in [1, 2, 8] {
            let (share, limited) = show(tier, processes, seconds);
            assert!(share >= 0.95 && limited == 0, "{tier:?}, {processes} processes");
        }
    }
}

/// The times of cancels, in microseconds and in order.
struct Times {
    /// Until a cancel had its tokens and its turn.
    waits: Vec<u128>,
    /// Until it was answered.
    answers: Vec<u128>,
}

impl Times {
    #[expect(clippy::print_stdout, reason = "it prints its measurements")]
    fn print(&self, what: &str) {
        for (kind, times) in [("turn", &self.waits), ("answer", &self.answers)] {
            let at = |share: usize| times[(times.len() - 1) * share / 100];
            println!(
                "{what}, {kind}: p50 {} µs, p90 {}, p99 {}, most {}",
                at(50),
                at(90),
                at(99),
                at(100)
            );
        }
    }
}

/// Cancels one order after the other, with pauses in which their tokens are refilled.
async fn cancel(client: &Client, budget: &Budget, count: usize) -> Times {
    let mut times = Times { waits: Vec::new(), answers: Vec::new() };
    let refill = budget.limits(Lane::EventContracts).write.refill();
    let writes = BucketKey::new(Lane::EventContracts, Pool::Write);
    for _ in 0..count {
        sleep(Duration::from_millis((20_000 / refill).max(5))).await;
        let began = Instant::now();
        let options = RequestOptions::new().with_class(Class::Urgent);
        let permit = budget.acquire(Charge::single(writes, 2), options).await.unwrap();
        times.waits.push(began.elapsed().as_micros());
        permit.complete(Completion::NotSent).await;
        let began = Instant::now();
        let cancel = client.cancel_order_v2().order_id("unknown").exchange_index(0).send().await;
        assert!(cancel.unwrap_err().is_not_found());
        times.answers.push(began.elapsed().as_micros());
    }
    times.waits.sort_unstable();
    times.answers.sort_unstable();
    times
}

/// Measures a cancel beside creates that wait for their tokens, and beside a burst for which there
/// are tokens and the processor is what is scarce.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_under_full_load_over_sockets() {
    let count = if seconds().is_some() { 200 } else { 10 };
    for (tier, key_type, creates) in [
        (Tier::Basic, KeyType::Ed25519, 64),
        (Tier::Expert, KeyType::Ed25519, 256),
        (Tier::Prestige, KeyType::Ed25519, 1_024),
        (Tier::Prestige, KeyType::Rsa, 1_024),
    ] {
        if tier != Tier::Expert && seconds().is_none() {
            continue;
        }
        let pair = KeyPair::generate(key_type).unwrap();
        let exchange = Exchange::builder()
            .with_tier(tier)
            .with_key(Role::Trader, KEY_ID, pair.public_key().clone())
            .start()
            .await
            .unwrap();
        exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
        let credentials = Credentials::from_pem(KEY_ID, pair.private_key_pem()).unwrap();
        let environment = exchange.environment();
        // The client has a thread of its own, where all that it does takes turns.
        let client = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let budget = Budget::builder().with_requeues(0).build();
                let client = Client::builder()
                    .with_environment(environment)
                    .with_credentials(credentials)
                    .with_budget(&budget)
                    .build()
                    .unwrap();
                budget.learn(&client).await.unwrap();
                let unloaded = cancel(&client, &budget, count).await;
                let options = RequestOptions::new().with_deadline(Duration::from_secs(600));
                let patient = client.with_extension(options);
                let load: Vec<_> = (0..creates)
                    .map(|worker| {
                        let client = patient.clone();
                        tokio::spawn(async move {
                            for number in 0_u64.. {
                                let body = order(&format!("load-{worker}-{number}"));
                                client.create_order_v2().body(body).send().await.unwrap();
                            }
                        })
                    })
                    .collect();
                let loaded = cancel(&client, &budget, count).await;
                let waiting = budget.waiting();
                for task in load {
                    task.abort();
                }
                (unloaded, loaded, waiting)
            })
        });
        let joined = tokio::task::spawn_blocking(|| client.join().unwrap()).await;
        let (unloaded, loaded, waiting) = joined.unwrap();
        assert_eq!((unloaded.answers.len(), loaded.answers.len()), (count, count));
        unloaded.print(&format!("{tier:?}, {key_type:?}, unloaded"));
        loaded.print(&format!("{tier:?}, {key_type:?}, loaded"));
        println!("{tier:?}, {key_type:?}: {waiting} creates waited at the end");
    }
}
