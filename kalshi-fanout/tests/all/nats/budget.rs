//! One rate budget over a real broker: eight processes against the simulated exchange with its limits.
//!
//! Asserted is only that which holds on a busy machine as well: no more tokens are taken than the bucket
//! offers, every process goes on without the broker, and all come back to the common bucket. How much
//! of it is used, and that nothing is answered with 429, is printed, and asserted where a variable says
//! for how many seconds it is to be measured:
//!
//! ```text
//! FANOUT_BUDGET_SECONDS=20 cargo test -p kalshi-fanout --test all nats::budget -- --nocapture
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use kalshi_auth::{KeyType, server::KeyPair};
use kalshi_fanout::{budget::KvBudget, nats::NatsStore};
use kalshi_sdk::{Client, Credentials, Environment, types::BatchCancelOrdersV2Request};
use kalshi_sim::{Exchange, Role, Tier};
use kalshi_trade::budget::{Budget, Class, Limit, RequestOptions, WithBudget as _};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::broker::{self, Broker, Proxy, Way};

const SECONDS: &str = "FANOUT_BUDGET_SECONDS";
const BROKER: &str = "KALSHI_FANOUT_TEST_BROKER";
const MEMBER: &str = "KALSHI_FANOUT_TEST_MEMBER";
const PROCESSES: usize = 8;
/// Requests that a process always has waiting or on their way.
const WORKERS: usize = 6;
const LIMIT: (Tier, u64, u64) = (Tier::Expert, 600, 1_800);
/// The tokens of a request: the cost of one that creates an order.
const TOKENS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns a batch that is charged two tokens for each of its items, which do not exist.
fn batch() -> BatchCancelOrdersV2Request {
    let orders: Vec<_> =
        (0..TOKENS / 2).map(|index| json!({"order_id": format!("unknown-{index}")})).collect();
    serde_json::from_value(json!({"orders": orders})).unwrap()
}

/// Writes a line past the test harness, which keeps what is printed.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// A process that sends as much as the shared budget lets it, until it is killed. It says `joined`,
/// waits for a line, counts the members anew, and says `members` and whether the store is `away`
/// whenever that changes.
#[tokio::test]
#[ignore = "a process of the next test"]
async fn the_process_that_uses_its_share() {
    let member = std::env::var(MEMBER).unwrap();
    let config = broker::config(&std::env::var(BROKER).unwrap());
    let store = Arc::new(NatsStore::connect(config).await.unwrap());
    let joined = KvBudget::join(store.clone(), "main", &member).await.unwrap();
    say("joined");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    // The next sign of life would count them as well, ten seconds later.
    drop(joined);
    let shared = Arc::new(KvBudget::join(store, "main", &member).await.unwrap());
    let budget = Budget::builder().with_backend(shared.clone()).with_requeues(0).build();
    let client = Client::builder()
        .with_environment(Environment::from_env().unwrap())
        .with_credentials(Credentials::from_env().unwrap())
        .with_budget(&budget)
        .build()
        .unwrap();
    budget.learn(&client).await.unwrap();
    let options = RequestOptions::new().with_class(Class::Normal);
    let client = client.with_extension(options.with_deadline(Duration::from_secs(600)));
    let worker = async || {
        loop {
            let sent = client.batch_cancel_orders_v2().body(batch()).send().await;
            // A 429 is counted there.
            assert!(sent.is_ok() || sent.is_err_and(|error| error.is_rate_limited()));
        }
    };
    let watch = async {
        let mut last = None;
        loop {
            let state = (shared.members(), shared.is_away());
            if last.replace(state) != Some(state) {
                say(&format!("members {} away {}", state.0, state.1));
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let workers = join_all((0..WORKERS).map(|_| worker()));
    futures_util::future::join(watch, workers).await;
}

/// A process, which ends when the test does.
struct Process {
    child: Child,
    input: ChildStdin,
    key_id: String,
    /// The last line that it said.
    said: Arc<Mutex<String>>,
}

impl Process {
    fn start(number: usize, url: &str, exchange: &Exchange, pair: &KeyPair) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact"])
            .arg("nats::budget::the_process_that_uses_its_share")
            .env(BROKER, url)
            .env(MEMBER, format!("p{number}"))
            .env("KALSHI_ENV", exchange.base_url())
            .env("KALSHI_API_KEY_ID", key_id(number))
            .env("KALSHI_PRIVATE_KEY", pair.private_key_pem())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let to = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line == "joined" || line.starts_with("members ") {
                    *to.lock().unwrap() = line;
                }
            }
        });
        Self { child, input, key_id: key_id(number), said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn key_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-0000000000{number:02}")
}

struct World {
    broker: Broker,
    /// The way of the first process to the broker.
    proxy: Proxy,
    exchange: Exchange,
    processes: Vec<Process>,
    began: Instant,
    /// The greatest number of a request that was seen, and those that were counted.
    last: u64,
    counted: BTreeSet<u64>,
    /// The requests that were served, by key.
    served: BTreeMap<String, u64>,
    limited: u64,
}

impl World {
    async fn start(broker: Broker) -> Self {
        let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
        let mut builder = Exchange::builder().with_tier(LIMIT.0);
        for number in 0..PROCESSES {
            builder = builder.with_key(Role::Trader, key_id(number), pair.public_key().clone());
        }
        let exchange = builder.start().await.unwrap();
        let proxy = Proxy::to(broker.port()).await;
        let processes = (0..PROCESSES).map(|number| {
            let url = if number == 0 { proxy.url.clone() } else { broker.url() };
            Process::start(number, &url, &exchange, &pair)
        });
        let processes: Vec<_> = processes.collect();
        let mut world = Self {
            broker,
            proxy,
            exchange,
            processes,
            began: Instant::now(),
            last: 0,
            counted: BTreeSet::new(),
            served: BTreeMap::new(),
            limited: 0,
        };
        world
            .wait("all have joined", |world| {
                world.processes.iter().all(|process| process.said() == "joined")
            })
            .await;
        world.began = Instant::now();
        for process in &mut world.processes {
            writeln!(process.input).unwrap();
        }
        world
            .wait("all know of all", |world| {
                let due = format!("members {PROCESSES} away false");
                world.processes.iter().all(|process| process.said() == due)
            })
            .await;
        world
    }

    /// Looks at what the exchange has answered.
    fn look(&mut self) {
        let records = self.exchange.requests();
        let first = records.first().map_or(0, |record| record.number);
        assert!(first <= self.last + 1, "requests went by unseen");
        self.counted.retain(|number| *number >= first);
        for record in records {
            self.last = self.last.max(record.number);
            // One whose process was killed has no answer.
            let Some(status) = record.status.filter(|_| self.counted.insert(record.number)) else {
                continue;
            };
            if record.operation == "batch_cancel_orders_v2" {
                match status {
                    429 => self.limited += 1,
                    200 => *self.served.entry(record.key_id.unwrap()).or_default() += 1,
                    status => panic!("{status}"),
                }
            }
        }
    }

    async fn wait(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.look();
            if is_so(self) {
                return;
            }
            let said: Vec<_> = self.processes.iter().map(Process::said).collect();
            assert!(Instant::now() < until, "{what}: {said:?}, {:?}", self.served);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until each process has been served once more.
    async fn wait_for_all(&mut self, what: &str) {
        // What was on its way counts before.
        sleep(Duration::from_millis(100)).await;
        self.look();
        let before = self.served.clone();
        self.wait(what, |world| {
            world.processes.iter().all(|process| {
                let of = |served: &BTreeMap<String, u64>| served.get(&process.key_id).copied();
                of(&world.served) > of(&before)
            })
        })
        .await;
    }

    /// Waits until these processes say that the store is away, and the others that it is not.
    async fn wait_for_away(&mut self, what: &str, is_away: impl Fn(usize) -> bool) {
        self.wait(what, |world| {
            world.processes.iter().enumerate().all(|(number, process)| {
                process.said().ends_with(&format!("away {}", is_away(number)))
            })
        })
        .await;
    }

    fn requests(&self) -> u64 {
        self.served.values().sum()
    }

    #[expect(clippy::print_stdout, reason = "it prints its measurements")]
    /// Measures for some seconds if a variable asks for it.
    async fn measure(&mut self, what: &str) {
        let Some(seconds) = seconds() else { return };
        // From empty buckets on, and when those that were late are back.
        sleep(Duration::from_secs(3)).await;
        self.look();
        let (before, limited, began) = (self.requests(), self.limited, Instant::now());
        for _ in 0..seconds * 10 {
            sleep(Duration::from_millis(100)).await;
            self.look();
        }
        let offered = LIMIT.1 * u64::try_from(began.elapsed().as_millis()).unwrap();
        let used = (self.requests() - before) * TOKENS * 100_000 / offered;
        let limited = self.limited - limited;
        println!("{what}: {used} % used, {limited} with 429");
        assert!(used >= 90 && limited == 0, "{what}: {used} % used, {limited} with 429");
    }
}

/// Returns the seconds that are measured, if the variable is set.
fn seconds() -> Option<u64> {
    let seconds = std::env::var(SECONDS).ok()?;
    Some(seconds.parse().expect("the variable is a number of seconds"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_a_bucket_over_a_broker_that_fails() {
    let _alone = super::MACHINE.lock().await;
    let Some(broker) = Broker::start() else { return };
    let mut world = World::start(broker).await;
    world.wait_for_all("with the broker").await;
    world.measure("eight processes").await;

    // One that is cut off goes on with its share, and the others with the bucket.
    world.proxy.way.send_replace(Way::Cut);
    let cut = Instant::now();
    world.wait_for_away("one is cut off", |number| number == 0).await;
    world.wait_for_all("one is cut off").await;
    world.proxy.way.send_replace(Way::Open);
    world.wait_for_away("one is back", |_| false).await;
    let cut = cut.elapsed();
    world.wait_for_all("one is back").await;
    world.measure("one was cut off").await;

    // Without the broker all go on with their shares, and come back.
    let kinds: &[bool] = if seconds().is_some() { &[false, true] } else { &[true] };
    for is_wiped in kinds.iter().copied() {
        world.broker.kill();
        world.wait_for_away("the broker is killed", |_| true).await;
        world.wait_for_all("the broker is killed").await;
        world.measure("without the broker").await;
        world.broker.restart(is_wiped);
        world.wait_for_away("the broker is back", |_| false).await;
        world.wait_for_all("the broker is back").await;
        world.measure("the broker is back").await;
    }

    // One that is killed takes nothing with it but its slice.
    let mut killed = world.processes.pop().unwrap();
    killed.kill();
    world.wait_for_all("one is killed").await;
    world.measure("one was killed").await;

    // No more was taken than the bucket offered, but for the share of the one that was cut off, which
    // it may have taken a second after it could have known better.
    world.look();
    let offered = Limit::new(LIMIT.1, LIMIT.2).unwrap();
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap();
    let all = LIMIT.2 + offered.tokens_in(nanos(world.began.elapsed()));
    let shares = u64::try_from(PROCESSES).unwrap();
    let share = offered.tokens_in(nanos(cut + Duration::from_secs(1))) / shares;
    let taken = (world.requests() + world.limited) * TOKENS;
    println!("{taken} tokens of {all}, {} with 429", world.limited);
    assert!(taken <= all + share, "{taken} of {all} and {share}");
}
