//! The budget under load: how much of a bucket several processes use, and how long a cancel waits.
//!
//! By a virtual clock, where the machine does not count, both are asserted. By the machine's clock
//! they are printed; asserted is what holds whatever else the machine does, and the rest where a
//! variable asks for it:
//!
//! ```text
//! BUDGET_LOAD_SECONDS=20 cargo test -p kalshi-trade --test all budget_load -- --nocapture
//! ```
//!
//! `BUDGET_LOAD_TIERS=basic,prime` measures these tiers alone. What a bucket offered is its refill in
//! the time that was measured. Beside it stands what the machine withheld: the time by which threads
//! that sleep for five milliseconds woke up later than after another five, in the worst process. Where
//! that is more than a twentieth of the time, the numbers are those of the machine, and not asserted.

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use kalshi_auth::{KeyType, server::KeyPair};
use kalshi_sdk::{
    Client, Credentials, Environment,
    auth::{Clock, SystemClock},
    operation::Lane,
    types::BatchCancelOrdersV2Request,
};
use kalshi_sim::{Exchange, MarketPlan, Role, Tier};
use kalshi_trade::budget::{
    BucketKey, Budget, Charge, Class, Completion, Gcra, LaneLimits, Limit, LockFile, MemoryBackend,
    Pool, RequestOptions, WithBudget as _,
};
use kalshi_types::UnixMillis;
use serde_json::json;
use tokio::{runtime::Runtime, time::sleep};

use crate::support::{TICKER, order};

const SECONDS: &str = "BUDGET_LOAD_SECONDS";
const TIERS: &str = "BUDGET_LOAD_TIERS";
const FILE: &str = "KALSHI_TRADE_TEST_BUDGET";
const KEY_ID: &str = "00000000-0000-4000-8000-00000000b4d9";
/// Requests that a process always has waiting or on their way.
const WORKERS: usize = 12;

/// Returns the seconds that are measured, if the variable is set.
fn seconds() -> Option<u64> {
    let seconds = std::env::var(SECONDS).ok()?;
    Some(seconds.parse().expect("the variable is a number of seconds"))
}

/// Returns the tiers that are measured.
fn tiers() -> Vec<Tier> {
    let names = std::env::var(TIERS).ok();
    let is_chosen = |tier: &Tier| {
        let mut chosen = names.iter().flat_map(|names| names.split(','));
        names.is_none() || chosen.any(|name| name == tier.as_str())
    };
    let tiers = Tier::ALL.into_iter().filter(|tier| *tier != Tier::Unlimited);
    tiers.filter(is_chosen).collect()
}

/// Measures what the machine withholds from a thread, in milliseconds, until it is stopped.
struct Withheld {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u128>,
}

impl Withheld {
    fn begin() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let (nap, mut withheld) = (Duration::from_millis(5), Duration::ZERO);
            while !until.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(nap);
                withheld += began.elapsed().saturating_sub(2 * nap);
            }
            withheld.as_millis()
        });
        Self { is_over, thread }
    }

    fn end(self) -> u128 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
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
/// between the first two, how many requests by the third, how many of them with 429, and how many
/// milliseconds the machine withheld.
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
    let withheld = Withheld::begin();
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
    let (spent, served, limited) = (sum(|all| all.0), sum(|all| all.1), sum(|all| all.2));
    say(&format!("used {spent} {served} {limited} {}", withheld.end()));
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
    /// The share of the time that the machine withheld from the worst process.
    withheld: f64,
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
    assert_eq!(write, writes_of(tier), "what the exchange says");
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
    let mut used = Used { share: 0.0, served: 0, limited: 0, withheld: 0.0 };
    let (mut spent, mut worst) = (0, 0);
    for process in &mut all {
        let line = process.wait_for("used ");
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [tokens, served, limited, withheld] = numbers[..] else { panic!("{line}") };
        worst = worst.max(withheld);
        assert!(served > 0, "a process got nothing");
        spent += tokens;
        used.served += served;
        used.limited += limited;
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    {
        used.share = spent as f64 / (write.refill() as f64 * time.as_secs_f64());
        // It was measured from the beginning of the burst on.
        let all = Duration::from_nanos(write.fill_time()) + Duration::from_secs(1) + time;
        used.withheld = worst as f64 / 1_000.0 / all.as_secs_f64();
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
        let Used { share, served, limited, withheld } =
            runtime.block_on(use_up(tier, processes, time));
        println!(
            "{tier:?}, {processes} processes: {:.1} % used, {served} served, {limited} with 429; \
             {:.1} % of the time withheld",
            share * 100.0,
            withheld * 100.0
        );
        // Requests of several processes meet on the way, however slow the machine is.
        assert!(limited == 0 || processes > 1, "{tier:?}");
        let is_short = share < 0.95 && withheld < 0.05;
        (is_short || limited > 0).then(|| format!("{tier:?}, {processes} processes"))
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
    let mut failed = Vec::new();
    for tier in tiers() {
        failed.extend([1, 2, 8].into_iter().filter_map(|processes| show(tier, processes, seconds)));
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Returns the limit of writes of a tier.
fn writes_of(tier: Tier) -> Limit {
    let (refill, seconds) = match tier {
        Tier::Basic => (100, 1),
        Tier::Advanced => (300, 3),
        Tier::Expert => (600, 3),
        Tier::Premier => (1_200, 3),
        Tier::Paragon => (2_400, 3),
        Tier::Prime => (4_800, 3),
        _ => (9_600, 3),
    };
    Limit::new(refill, refill * seconds).unwrap()
}

/// The clock of a paused runtime.
#[derive(Debug)]
struct Virtual(tokio::time::Instant);

impl Clock for Virtual {
    fn now(&self) -> UnixMillis {
        let passed = i64::try_from(self.0.elapsed().as_millis()).unwrap();
        UnixMillis::from_millis(1_795_000_000_000 + passed)
    }
}

/// The bucket of the exchange, and what it has counted.
struct There {
    bucket: Gcra,
    start: tokio::time::Instant,
    spent: u64,
    limited: u64,
}

impl There {
    fn arrive(&mut self, tokens: u64, limit: Limit) -> Completion {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap();
        if self.bucket.try_take(now, tokens, 0, limit).is_ok() {
            self.spent += tokens;
            return Completion::Sent;
        }
        self.limited += 1;
        Completion::RateLimited
    }
}

/// Every tier, used up by one, two and eight budgets with a back end that they share, each with a
/// way to the exchange and back that takes some milliseconds: what the bucket offers from when the
/// burst is gone is used to 95 % at least, and nothing is answered with 429.
#[tokio::test(start_paused = true)]
async fn every_tier_is_used_up_by_a_virtual_clock() {
    let seconds = 8;
    for tier in Tier::ALL.into_iter().filter(|tier| *tier != Tier::Unlimited) {
        let write = writes_of(tier);
        let tokens = (write.refill() / 60).max(10);
        for processes in [1_u64, 2, 8] {
            let start = tokio::time::Instant::now();
            let shared = MemoryBackend::new().with_clock(Arc::new(Virtual(start)));
            let (shared, writes) =
                (Arc::new(shared), BucketKey::new(Lane::EventContracts, Pool::Write));
            let there = There { bucket: Gcra::full(), start, spent: 0, limited: 0 };
            let there = Arc::new(Mutex::new(there));
            let lane = LaneLimits::lowest(Lane::EventContracts);
            let lane = LaneLimits::new(lane.read, write, lane.own);
            let mut workers = Vec::new();
            for process in 0..processes {
                let budget = Budget::builder().with_limits(Lane::EventContracts, lane);
                let budget = budget.with_backend(shared.clone()).build();
                for worker in 0..24 {
                    let (budget, there) = (budget.clone(), Arc::clone(&there));
                    workers.push(tokio::spawn(async move {
                        for number in 0.. {
                            let options = RequestOptions::new().with_class(Class::Normal);
                            let options = options.with_deadline(Duration::from_secs(600));
                            let charge = Charge::single(writes, tokens);
                            let permit = budget.acquire(charge, options).await.unwrap();
                            let way = |salt: u64| (process + 5 * worker + 7 * number + salt) % 9;
                            sleep(Duration::from_millis(1 + way(0))).await;
                            let completion = there.lock().unwrap().arrive(tokens, write);
                            sleep(Duration::from_millis(1 + way(3))).await;
                            permit.complete(completion).await;
                        }
                    }));
                }
            }
            let spent = || there.lock().unwrap().spent;
            sleep(Duration::from_nanos(write.fill_time()) + Duration::from_secs(1)).await;
            let before = spent();
            sleep(Duration::from_secs(seconds)).await;
            let (used, offered) = (spent() - before, seconds * write.refill());
            for worker in workers {
                worker.abort();
            }
            assert_eq!(there.lock().unwrap().limited, 0, "{tier:?}, {processes} processes");
            assert!(used * 100 >= offered * 95, "{tier:?}, {processes}: {used} of {offered}");
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
    let mut slow = Vec::new();
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
        let (withheld, began) = (Withheld::begin(), Instant::now());
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
        let withheld = withheld.end();
        println!(
            "{tier:?}, {key_type:?}: {waiting} creates waited at the end, {withheld} of {} ms withheld",
            began.elapsed().as_millis()
        );
        // As much longer as it may wait, in all but one of a hundred.
        let is_quiet = withheld * 20 < began.elapsed().as_millis();
        if seconds().is_some() && is_quiet && late(&unloaded, &loaded) {
            slow.push(format!("{tier:?}, {key_type:?}"));
        }
    }
    assert!(slow.is_empty(), "a cancel waits more than 20 ms longer under load: {slow:?}");
}

/// Reports whether a cancel had its turn more than 20 ms later under load, in the worst of a hundred.
fn late(unloaded: &Times, loaded: &Times) -> bool {
    let p99 = |times: &Times| times.waits[(times.waits.len() - 1) * 99 / 100];
    p99(loaded) > p99(unloaded) + 20_000
}
