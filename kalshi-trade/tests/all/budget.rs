//! The budget against the simulator's limiter, and shared by processes.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use kalshi_sdk::{
    Client, Effect, ErrorKind, OperationId, UnixMillis, auth::ManualClock, middleware::async_trait,
    operation::Lane, types::BatchCancelOrdersV2Request,
};
use kalshi_sim::{Exchange, Fault, FaultKind, MarketPlan, Role, Tier};
use kalshi_trade::budget::{
    Backend, BackendError, BucketKey, Budget, Charge, Class, Completion, Demand, Grant, LaneLimits,
    Limit, LockFile, MemoryBackend, Pool, Refusal, RequestOptions, Scheduler, Slice,
    WithBudget as _,
};
use serde_json::json;

use crate::support::{TICKER, order};

const READS: BucketKey = BucketKey::new(Lane::EventContracts, Pool::Read);
const WRITES: BucketKey = BucketKey::new(Lane::EventContracts, Pool::Write);

const TIERS: [Tier; 7] = [
    Tier::Basic,
    Tier::Advanced,
    Tier::Expert,
    Tier::Premier,
    Tier::Paragon,
    Tier::Prime,
    Tier::Prestige,
];

async fn exchange(tier: Tier) -> Exchange {
    let exchange = Exchange::builder().with_tier(tier).start().await.unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    exchange
}

fn client(exchange: &Exchange, budget: &Budget) -> Client {
    Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
        .with_budget(budget)
        .build()
        .unwrap()
}

fn cancels(items: u64) -> BatchCancelOrdersV2Request {
    let orders: Vec<_> =
        (0..items).map(|index| json!({"order_id": format!("unknown-{index}")})).collect();
    serde_json::from_value(json!({"orders": orders})).unwrap()
}

/// Sends a bucket and a fourth of writes at once, and returns how many were answered with 429.
async fn flood(client: &Client, capacity: u64) -> usize {
    let options = RequestOptions::new().with_class(Class::Normal);
    let client = client.with_extension(options.with_deadline(Duration::from_secs(60)));
    let batches =
        (0..10).map(|_| client.batch_cancel_orders_v2().body(cancels(capacity / 16)).send());
    let answers = join_all(batches).await;
    answers
        .into_iter()
        .filter(|answer| match answer {
            Ok(_) => false,
            Err(error) if error.is_rate_limited() => true,
            Err(error) => panic!("{error}"),
        })
        .count()
}

#[tokio::test]
async fn one_client_gets_no_429_at_any_tier() {
    let tests = TIERS.map(|tier| async move {
        let exchange = exchange(tier).await;
        // A 429 would not be sent again, and would be seen.
        let budget = Budget::builder().with_requeues(0).build();
        let client = client(&exchange, &budget);
        budget.learn(&client).await.unwrap();
        let capacity = budget.limits(Lane::EventContracts).write.capacity();
        assert_eq!(flood(&client, capacity).await, 0, "{tier:?}");
        // The operation with a bucket of its own, which has no burst.
        for _ in 0..2 {
            client.get_balance().send().await.unwrap();
        }
    });
    join_all(tests).await;
}

#[tokio::test]
async fn one_client_reads_a_bucket_and_a_half_without_a_429() {
    let exchange = exchange(Tier::Basic).await;
    let budget = Budget::builder().with_requeues(0).build();
    let client = client(&exchange, &budget);
    let reads = (0..90).map(|_| client.get_positions().send());
    for answer in join_all(reads).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn without_a_budget_the_same_requests_are_answered_with_429() {
    let exchange = exchange(Tier::Basic).await;
    let client = exchange.client(Role::Trader).unwrap();
    assert!(flood(&client, 100).await > 0);
}

#[tokio::test]
async fn a_batch_over_capacity_is_not_sent_and_says_what_fits() {
    let exchange = exchange(Tier::Basic).await;
    let client = client(&exchange, &Budget::new());
    let error = client.batch_cancel_orders_v2().body(cancels(51)).send().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::NotSent));
    assert_eq!(error.attempts(), 0);
    assert!(error.to_string().contains("50 items fit"), "{error}");
    assert!(exchange.requests().is_empty());
    client.batch_cancel_orders_v2().body(cancels(50)).send().await.unwrap();
}

#[tokio::test]
async fn tokens_that_come_after_the_deadline_are_refused_at_once_with_their_wait() {
    let exchange = exchange(Tier::Basic).await;
    let budget = Budget::new();
    let client = client(&exchange, &budget);
    // All of the writes are on their way, and stay there.
    let all = Charge::single(WRITES, 100);
    let options = RequestOptions::new().with_class(Class::Emergency);
    let permit = budget.acquire(all, options).await.unwrap();
    let options = RequestOptions::new().with_deadline(Duration::from_millis(99));
    let hasty = client.with_extension(options);
    let error = hasty.create_order_v2().body(order("late")).send().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotSent));
    // 12 tokens with the reserve, at 100 a second, and the margin.
    assert_eq!(error.retry_after(), Some(Duration::from_millis(220)));
    assert!(exchange.requests().is_empty());
    permit.complete(Completion::NotSent).await;
    hasty.create_order_v2().body(order("in-time")).send().await.unwrap();
}

#[tokio::test]
async fn an_order_that_waits_is_withdrawn_and_never_sent() {
    let exchange = exchange(Tier::Basic).await;
    let budget = Budget::new();
    let client = client(&exchange, &budget);
    let options = RequestOptions::new().with_class(Class::Emergency);
    let permit = budget.acquire(Charge::single(WRITES, 100), options).await.unwrap();
    let tagged = client.with_extension(
        RequestOptions::new().with_tag("mine-1").with_deadline(Duration::from_secs(600)),
    );
    let send = async move { tagged.create_order_v2().body(order("mine-1")).send().await };
    let waiting = tokio::spawn(send);
    while budget.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((budget.withdraw("other"), budget.withdraw("mine-1")), (0, 1));
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!((error.effect(), error.attempts()), (Effect::NotSent, 0));
    assert!(error.to_string().contains("withdrawn"), "{error}");
    drop(permit);
    assert!(exchange.requests().is_empty());
    assert_eq!((budget.withdraw("mine-1"), budget.waiting()), (0, 0));
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_the_queue() {
    let budget = Budget::new();
    let options = || RequestOptions::new().with_class(Class::Emergency);
    let permit = budget.acquire(Charge::single(WRITES, 100), options()).await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..5 {
        let budget = budget.clone();
        let call = async move { budget.acquire(Charge::single(WRITES, 10), options()).await };
        calls.push(tokio::spawn(call));
    }
    while budget.waiting() < 5 {
        tokio::task::yield_now().await;
    }
    // The first of them has the timer.
    for call in calls.drain(..3) {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    assert_eq!(budget.waiting(), 2);
    permit.complete(Completion::NotSent).await;
    for call in calls {
        drop(call.await.unwrap().unwrap());
    }
    assert_eq!(budget.waiting(), 0);
}

/// A request that has to wait long has the only timer, so that none of the others looks what can be
/// granted when it begins.
#[tokio::test]
async fn a_request_that_begins_makes_way_for_the_next() {
    let limit = Limit::new(1_000_000, 1_000_000).unwrap();
    let limits = LaneLimits::new(limit, limit, Limit::new(1, 1).unwrap());
    let budget = Budget::builder().with_limits(Lane::EventContracts, limits).build();
    let own = Charge::single(BucketKey::new(Lane::EventContracts, Pool::Own("get_balance")), 1);
    let patient = || RequestOptions::new().with_deadline(Duration::from_secs(600));
    let first = budget.acquire(own.clone(), patient()).await.unwrap();
    let urgent = RequestOptions::new().with_class(Class::Emergency);
    let all = budget.acquire(Charge::single(WRITES, 1_000_000), urgent).await.unwrap();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let request = |charge: Charge| {
        let (budget, begun) = (budget.clone(), Arc::clone(&begun));
        tokio::spawn(async move {
            let permit = budget.acquire(charge, patient()).await.unwrap();
            // It is not answered.
            begun.lock().unwrap().push(permit);
        })
    };
    let mut requests = vec![request(own)];
    while budget.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    requests.extend((0..30).map(|_| request(Charge::single(WRITES, 10))));
    while budget.waiting() < 31 {
        tokio::task::yield_now().await;
    }
    all.complete(Completion::NotSent).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(begun.lock().unwrap().len(), 30);
    drop(first);
    requests.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A back end of which the first answer never comes.
#[derive(Debug)]
struct FirstNever(AtomicUsize);

#[async_trait]
impl Backend for FirstNever {
    async fn take(&self, slice: &Slice) -> Result<Grant, BackendError> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        Ok(Grant::Tokens(slice.least))
    }

    async fn drain(&self, _: BucketKey, _: Limit) -> Result<(), BackendError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_question_to_the_back_end_that_is_given_up_is_asked_by_the_next() {
    let backend = Arc::new(FirstNever(AtomicUsize::new(0)));
    let budget = Budget::builder().with_backend(backend.clone()).build();
    let acquire = || budget.acquire(Charge::single(WRITES, 10), RequestOptions::new());
    // Dropped while it asks.
    assert!(acquire().now_or_never().is_none());
    assert_eq!(backend.0.load(Ordering::SeqCst), 1);
    let permit = acquire().now_or_never().expect("the back end answers at once");
    permit.unwrap().complete(Completion::Sent).await;
    assert_eq!(backend.0.load(Ordering::SeqCst), 2);
}

/// All requests are woken in the order in which they were granted: what a cancel waits for is what
/// was granted before it came and has not begun.
#[tokio::test]
async fn a_cancel_passes_a_burst_for_which_there_are_tokens() {
    let limit = Limit::new(1_000_000, 1_000_000).unwrap();
    let limits = LaneLimits::new(limit, limit, limit);
    let budget = Budget::builder().with_limits(Lane::EventContracts, limits).build();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let request = |name: u64, class, cost| {
        let (budget, begun) = (budget.clone(), Arc::clone(&begun));
        tokio::spawn(async move {
            let options = RequestOptions::new().with_class(class);
            let options = options.with_deadline(Duration::from_secs(600));
            let permit = budget.acquire(Charge::single(WRITES, cost), options).await.unwrap();
            begun.lock().unwrap().push(name);
            // The answer comes when all others had their turn.
            tokio::task::yield_now().await;
            permit.complete(Completion::Sent).await;
        })
    };
    // Nothing goes until the bucket is given back.
    let options = RequestOptions::new().with_class(Class::Emergency);
    let all = budget.acquire(Charge::single(WRITES, 1_000_000), options).await.unwrap();
    let mut requests: Vec<_> = (0..1_000).map(|name| request(name, Class::Normal, 10)).collect();
    while budget.waiting() < 1_000 {
        tokio::task::yield_now().await;
    }
    all.complete(Completion::NotSent).await;
    requests.push(request(5_000, Class::Urgent, 2));
    for request in requests {
        request.await.unwrap();
    }
    let begun = begun.lock().unwrap();
    assert_eq!(begun.len(), 1_001);
    let before = begun.iter().position(|name| *name == 5_000).unwrap();
    assert!(before <= 8, "{before} requests went before the cancel");
}

#[tokio::test]
async fn no_more_requests_than_there_are_places_are_on_their_way() {
    let exchange = exchange(Tier::Unlimited).await;
    let budget = Budget::builder().with_max_in_flight(6).build();
    let client = client(&exchange, &budget);
    // No read is ever answered.
    let slow = Fault::builder(FaultKind::latency(Duration::from_secs(600)));
    let slow = slow.with_operation(OperationId::GetPositions).build();
    exchange.faults().add(slow).unwrap();
    let reads = (0..12).map(|_| client.get_positions().send());
    let cancel = async {
        let waiting = budget.waiting();
        // A cancel needs no place.
        client.cancel_all_orders().send().await.unwrap();
        (waiting, budget.waiting())
    };
    let waiting = tokio::select! {
        biased;
        _ = join_all(reads) => panic!("a read was answered"),
        waiting = cancel => waiting,
    };
    assert_eq!(waiting, (6, 6));
    assert_eq!(budget.waiting(), 0, "those that were dropped have left");
}

#[tokio::test]
async fn what_was_granted_and_is_dropped_is_given_back_and_a_dropped_permit_is_not() {
    let budget = Budget::new();
    let options = || RequestOptions::new().with_class(Class::Urgent);
    let all = budget.acquire(Charge::single(WRITES, 100), options()).await.unwrap();
    let other = budget.clone();
    let waiting = tokio::spawn(async move {
        let permit = other.acquire(Charge::single(WRITES, 50), options()).await;
        std::future::pending::<()>().await;
        drop(permit);
    });
    while budget.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    // It is granted by this, and never learns of it.
    all.complete(Completion::NotSent).await;
    assert_eq!((budget.waiting(), budget.available(WRITES)), (0, 50));
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(budget.available(WRITES), 100);
    drop(budget.acquire(Charge::single(WRITES, 100), options()).await.unwrap());
    assert!(budget.available(WRITES) < 100);
}

#[tokio::test]
async fn a_429_goes_back_to_the_queue_and_is_sent_again() {
    let exchange = exchange(Tier::Unlimited).await;
    let fault = Fault::builder(FaultKind::TooManyRequests).with_times(2);
    exchange.faults().add(fault.with_operation(OperationId::CreateOrderV2).build()).unwrap();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&attempts);
    let client = Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
        .on_call(move |call| seen.lock().unwrap().push(call.attempts))
        .with_budget(&Budget::new())
        .build()
        .unwrap();
    client.create_order_v2().body(order("once")).send().await.unwrap();
    assert_eq!(*attempts.lock().unwrap(), [3]);
    exchange.faults().assert_all_hit();
}

#[tokio::test]
async fn a_429_that_does_not_end_is_given_back() {
    let exchange = exchange(Tier::Unlimited).await;
    let fault = Fault::builder(FaultKind::TooManyRequests);
    exchange.faults().add(fault.with_operation(OperationId::GetPositions).build()).unwrap();
    let client = client(&exchange, &Budget::builder().with_requeues(2).build());
    let error = client.get_positions().send().await.unwrap_err();
    assert!(error.is_rate_limited());
    assert_eq!((error.attempts(), error.effect()), (3, Effect::Rejected));
}

#[tokio::test]
async fn limits_and_costs_are_learned_and_learned_anew_after_a_429() {
    let exchange = exchange(Tier::Expert).await;
    let budget = Budget::new();
    let client = client(&exchange, &budget);
    let limit = |rate, capacity| Limit::new(rate, capacity).unwrap();
    assert_eq!(budget.limits(Lane::EventContracts), LaneLimits::lowest(Lane::EventContracts));
    let learning = budget.keep_learning(&client);
    let expert = LaneLimits::new(limit(600, 600), limit(600, 1_800), limit(5, 1));
    wait_for(&budget, expert).await;
    exchange.members().set_tier(Role::Trader, Tier::Advanced).unwrap();
    let fault = Fault::builder(FaultKind::TooManyRequests).with_times(1);
    exchange.faults().add(fault.with_operation(OperationId::GetPositions).build()).unwrap();
    client.get_positions().send().await.unwrap();
    wait_for(&budget, LaneLimits::new(limit(300, 900), limit(300, 900), limit(1, 1))).await;
    drop(learning);
}

/// Answers every request by its path, one for each connection.
async fn serve(listener: tokio::net::TcpListener, answer: fn(&str) -> (u16, serde_json::Value)) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    while let Ok((mut socket, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = socket.read_u8().await else { break };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split_whitespace().nth(1).unwrap_or_default();
        let (status, body) = answer(path);
        let body = body.to_string();
        let length = body.len();
        let reply = format!(
            "HTTP/1.1 {status} words\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        socket.write_all(reply.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn the_limits_of_perpetual_futures_are_learned_where_they_are_asked_for() {
    fn answer(path: &str) -> (u16, serde_json::Value) {
        let limits = |read: u32, write: u32| {
            json!({
                "usage_tier": "expert", "grants": [],
                "read": {"refill_rate": read, "bucket_capacity": read},
                "write": {"refill_rate": write, "bucket_capacity": write},
            })
        };
        match path.strip_prefix("/trade-api/v2").unwrap_or_default() {
            "/account/endpoint_costs" => (200, json!({"default_cost": 10, "endpoint_costs": []})),
            "/account/limits" => (200, limits(600, 500)),
            "/account/limits/perps" => (200, limits(800, 0)),
            other => (500, json!({"code": "no_such_path", "message": other})),
        }
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/trade-api/v2", listener.local_addr().unwrap());
    let server = tokio::spawn(serve(listener, answer));
    let exchange = exchange(Tier::Basic).await;
    let limit = |rate, capacity| Limit::new(rate, capacity).unwrap();
    for (builder, reads) in [(Budget::builder(), 400), (Budget::builder().with_perps(), 800)] {
        let budget = builder.build();
        let client = Client::builder()
            .with_environment(kalshi_sdk::Environment::Custom(url.clone()))
            .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
            .with_budget(&budget)
            .build()
            .unwrap();
        budget.learn(&client).await.unwrap();
        assert_eq!(budget.limits(Lane::EventContracts).read, limit(600, 600));
        let perps = budget.limits(Lane::Perpetuals);
        assert_eq!(perps.read, limit(reads, reads));
        assert_eq!(perps.write, limit(100, 100), "what cannot be is not used");
    }
    server.abort();
}

async fn wait_for(budget: &Budget, limits: LaneLimits) {
    while budget.limits(Lane::EventContracts) != limits {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn public_requests_take_nothing() {
    let exchange = exchange(Tier::Basic).await;
    let budget = Budget::new();
    let client = client(&exchange, &budget);
    client.get_exchange_status().send().await.unwrap();
    assert_eq!((budget.available(READS), budget.available(WRITES)), (600, 100));
    client.get_positions().send().await.unwrap();
    assert!(budget.available(READS) < 600);
}

#[tokio::test]
async fn two_budgets_share_the_buckets_of_a_back_end() {
    let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(1_795_000_000_000)));
    let shared = Arc::new(MemoryBackend::new().with_clock(clock.clone()));
    let budgets = [(); 2].map(|()| Budget::builder().with_backend(shared.clone()).build());
    let at_once = || RequestOptions::new().with_class(Class::Urgent);
    let mut taken = 0;
    for budget in budgets.iter().cycle() {
        let charge = Charge::single(WRITES, 10);
        let acquire = budget.acquire(charge, at_once());
        // The back end answers at once, and its clock stands still: what it does not have now it
        // will never have.
        let Some(permit) = acquire.now_or_never() else { break };
        permit.unwrap().complete(Completion::Sent).await;
        taken += 10;
    }
    assert_eq!(taken, 100);
}

#[tokio::test]
async fn processes_with_one_file_are_all_served() {
    let exchange = exchange(Tier::Basic).await;
    let directory = Scratch::new("served");
    let clients = [(); 3].map(|()| {
        let file = LockFile::open(directory.file()).unwrap();
        client(&exchange, &Budget::builder().with_backend(Arc::new(file)).build())
    });
    let reads = clients.iter().flat_map(|client| (0..25).map(|_| client.get_positions().send()));
    for answer in join_all(reads).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_refuses_creates_and_lets_cancels_go() {
    let exchange = exchange(Tier::Basic).await;
    let directory = Scratch::new("broken");
    let file = LockFile::open(directory.file()).unwrap();
    // Another handle has the lock, as a process would that was stopped.
    let holder = std::fs::File::open(directory.file()).unwrap();
    holder.lock().unwrap();
    let client = client(&exchange, &Budget::builder().with_backend(Arc::new(file)).build());
    let patient = RequestOptions::new().with_deadline(Duration::from_secs(600));
    let patient = client.with_extension(patient);
    let error = patient.create_order_v2().body(order("none")).send().await.unwrap_err();
    assert_eq!((error.effect(), error.attempts()), (Effect::NotSent, 0));
    assert!(error.to_string().contains("locked"), "{error}");
    client.cancel_all_orders().send().await.unwrap();
    holder.unlock().unwrap();
    patient.create_order_v2().body(order("one")).send().await.unwrap();
}

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!(
            "kalshi-trade-{name}-{}-{:x}",
            std::process::id(),
            getrandom()
        ));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("budget")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Returns a number that differs between tests of one process.
fn getrandom() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The variable by which this program knows that it is a child of the tests.
const CHILD: &str = "KALSHI_TRADE_BUDGET_CHILD";

/// The time at which the virtual clock of the processes starts, in milliseconds.
const START: u64 = 1_795_000_000_000;

fn advanced() -> LaneLimits {
    let limit = Limit::new(300, 900).unwrap();
    LaneLimits::new(limit, limit, Limit::new(1, 1).unwrap())
}

/// A process of the tests below: it spends what it gets at the times that it reads.
#[test]
fn child_of_the_process_tests() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(0)));
    let file = LockFile::open(PathBuf::from(path)).unwrap().with_clock(clock.clone());
    let mut scheduler = Scheduler::new().with_shared_buckets();
    scheduler.set_limits(0, Lane::EventContracts, advanced());
    for line in std::io::stdin().lines() {
        let millis: u64 = line.unwrap().trim().parse().unwrap();
        clock.set(UnixMillis::from_millis(i64::try_from(START + millis).unwrap()));
        let spent = spend(&mut scheduler, &file, millis * 1_000_000);
        println!("\nspent {spent}");
        std::io::stdout().flush().unwrap();
    }
}

/// Spends all that there is at a time, in requests of ten tokens.
fn spend(scheduler: &mut Scheduler, file: &LockFile, now: u64) -> u64 {
    let mut spent = 0;
    loop {
        while scheduler.waiting() < 3 {
            let demand = Demand::new(Charge::single(WRITES, 10), Class::Normal);
            scheduler.submit(now, demand).unwrap();
        }
        let verdicts = scheduler.run(now);
        let mut has_news = !verdicts.is_empty();
        for (ticket, verdict) in verdicts {
            verdict.unwrap();
            scheduler.complete(now, ticket, Completion::Sent);
            spent += 10;
        }
        while let Some(slice) = scheduler.wanted() {
            let grant = loop {
                // Another process has the lock for some microseconds.
                if let Some(grant) = file.try_take(&slice).unwrap() {
                    break grant;
                }
                std::thread::yield_now();
            };
            match grant {
                Grant::Tokens(tokens) => {
                    scheduler.slice_granted(&slice, tokens);
                    has_news = true;
                }
                Grant::Wait(wait) => scheduler.slice_denied(&slice, now + wait),
                _ => unreachable!("there are two kinds of grants"),
            }
        }
        if !has_news {
            return spent;
        }
    }
}

/// A process that shares the file.
struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "budget::child_of_the_process_tests", "--nocapture"])
            .env(CHILD, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, lines }
    }

    /// Sets the time of the process.
    fn set_time(&mut self, millis: u64) {
        writeln!(self.stdin, "{millis}").unwrap();
        self.stdin.flush().unwrap();
    }

    /// Returns the tokens that it spent at that time.
    fn spent(&mut self) -> u64 {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some(spent) = line.strip_prefix("spent ") {
                return spent.parse().unwrap();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs processes for ten seconds of virtual time, of which the last `killed` die in the middle, and
/// returns the tokens that were spent after the first second, when the burst is gone.
fn run_processes(name: &str, count: usize, killed: usize) -> u64 {
    const STEP: usize = 10;
    let directory = Scratch::new(name);
    let mut processes: Vec<Process> =
        (0..count).map(|_| Process::start(&directory.file())).collect();
    // The bucket of the exchange, in thousandths of a token.
    let limit = advanced().write;
    let full = limit.capacity() * 1_000;
    let mut content = full;
    let mut spent_late = 0;
    for millis in (0..10_000).step_by(STEP) {
        let passed = if millis == 0 { 0 } else { STEP as u64 };
        content = (content + passed * limit.refill()).min(full);
        if millis == 5_000 {
            processes.truncate(count - killed);
        }
        // All at once: they contend for the lock.
        for process in &mut processes {
            process.set_time(millis);
        }
        for process in &mut processes {
            let spent = process.spent();
            content = content.checked_sub(spent * 1_000).expect("the exchange would say 429");
            if millis >= 1_000 {
                spent_late += spent;
            }
        }
    }
    spent_late
}

#[test]
fn processes_use_their_common_bucket_to_95_percent_and_never_over_it() {
    for count in [1, 2, 8] {
        let spent = run_processes("shared", count, 0);
        // Nine seconds at 300 tokens.
        assert!(spent >= 2_700 * 95 / 100, "{count} processes spent {spent} of 2,700");
    }
}

#[test]
fn a_process_that_is_killed_costs_one_slice() {
    let spent = run_processes("killed", 4, 3);
    // Three slices of ten tokens at most, beside what is always lost.
    assert!(spent >= 2_700 * 95 / 100 - 30, "{spent} of 2,700");
}

#[test]
fn a_refusal_says_what_to_do() {
    let mut scheduler = Scheduler::new();
    let demand = Demand::new(Charge::single(WRITES, 1_000), Class::Normal);
    let refusal = scheduler.submit(0, demand).unwrap_err();
    assert!(matches!(refusal, Refusal::TooLarge { cost: 1_000, room: 98, .. }));
    assert_eq!(refusal.to_string(), "it costs 1000 tokens and the bucket has room for 98");
    let classes: BTreeMap<Class, usize> = Class::ALL.into_iter().zip(0..).collect();
    assert_eq!(classes[&Class::Emergency], 0);
}
