//! Members, their store and the exchange's bucket, by a virtual clock. `FANOUT_BUDGET_SEEDS` makes more
//! accidents than the four of a usual run.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kalshi_sdk::operation::Lane;
use kalshi_trade::budget::{
    BucketKey, Budget, Charge, Class, Completion, Gcra, LaneLimits, Limit, Pool, RequestOptions,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::*;

const WRITES: BucketKey = BucketKey::new(Lane::EventContracts, Pool::Write);

/// The bucket of the exchange, and what it has counted.
struct There {
    bucket: Gcra,
    start: Instant,
    limit: Limit,
    spent: u64,
    limited: u64,
}

impl There {
    fn new(limit: Limit) -> Arc<Mutex<Self>> {
        let bucket = Gcra::full();
        let there = Self { bucket, start: Instant::now(), limit, spent: 0, limited: 0 };
        Arc::new(Mutex::new(there))
    }

    fn arrive(&mut self, tokens: u64) -> Completion {
        let now = nanos(self.start.elapsed());
        if self.bucket.try_take(now, tokens, 0, self.limit).is_ok() {
            self.spent += tokens;
            return Completion::Sent;
        }
        self.limited += 1;
        Completion::RateLimited
    }
}

/// A process that sends as much as the shared budget lets it.
struct Process {
    store: MemoryStore,
    shared: Arc<KvBudget>,
    budget: Budget,
    /// Its requests: killed with it.
    workers: JoinSet<()>,
}

impl Process {
    async fn start(store: &MemoryStore, number: u64, there: &Arc<Mutex<There>>) -> Self {
        let limit = there.lock().unwrap().limit;
        let store = store.client();
        let member = format!("p{number}");
        let shared = KvBudget::join(Arc::new(store.clone()), "account", &member).await;
        let shared = Arc::new(shared.unwrap());
        let lane = LaneLimits::lowest(Lane::EventContracts);
        let lane = LaneLimits::new(lane.read, limit, lane.own);
        let budget = Budget::builder().with_limits(Lane::EventContracts, lane);
        let budget = budget.with_backend(shared.clone()).build();
        let tokens = cost(limit);
        let mut workers = JoinSet::new();
        for worker in 0..24 {
            let (budget, there) = (budget.clone(), Arc::clone(there));
            workers.spawn(async move {
                for turn in 0.. {
                    let options = RequestOptions::new().with_class(Class::Normal);
                    let options = options.with_deadline(Duration::from_secs(600));
                    let charge = Charge::single(WRITES, tokens);
                    let permit = budget.acquire(charge, options).await.unwrap();
                    let way = |salt: u64| (number + 5 * worker + 7 * turn + salt) % 9;
                    sleep(Duration::from_millis(1 + way(0))).await;
                    let completion = there.lock().unwrap().arrive(tokens);
                    sleep(Duration::from_millis(1 + way(3))).await;
                    permit.complete(completion).await;
                }
            });
        }
        Self { store, shared, budget, workers }
    }
}

fn cost(limit: Limit) -> u64 {
    (limit.refill() / 60).max(10)
}

fn limit(refill: u64, seconds: u64) -> Limit {
    Limit::new(refill, refill * seconds).unwrap()
}

async fn start(store: &MemoryStore, count: u64, there: &Arc<Mutex<There>>) -> Vec<Process> {
    let mut processes = Vec::new();
    for number in 0..count {
        processes.push(Process::start(store, number, there).await);
    }
    // Every one knows of all.
    sleep(BEAT + Duration::from_secs(2)).await;
    assert!(processes.iter().all(|process| process.shared.members() == count));
    processes
}

/// Returns the part of what the bucket offered for a time that was used, in percent.
async fn used(there: &Mutex<There>, seconds: u64) -> u64 {
    let before = there.lock().unwrap().spent;
    sleep(Duration::from_secs(seconds)).await;
    let there = there.lock().unwrap();
    (there.spent - before) * 100 / (seconds * there.limit.refill())
}

fn limited(there: &Mutex<There>) -> u64 {
    there.lock().unwrap().limited
}

#[tokio::test(start_paused = true)]
async fn members_use_up_a_bucket_together_and_none_is_refused() {
    for (limit, delay) in [(limit(100, 1), 1), (limit(9_600, 3), 1), (limit(600, 3), 10)] {
        for members in [1, 8] {
            let store = MemoryStore::new(Duration::from_millis(delay));
            let there = There::new(limit);
            let processes = start(&store, members, &there).await;
            let used = used(&there, 8).await;
            assert!(used >= 90, "{limit:?}, {members} members, {delay} ms: {used} %");
            assert_eq!(limited(&there), 0, "{limit:?}, {members} members, {delay} ms");
            drop(processes);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_killed_takes_one_slice_with_it() {
    let (store, limit) = (MemoryStore::new(Duration::from_millis(1)), limit(1_200, 3));
    let there = There::new(limit);
    let mut processes = start(&store, 8, &there).await;
    let before = there.lock().unwrap().spent;
    let began = Instant::now();
    for _ in 0..4 {
        sleep(Duration::from_millis(700)).await;
        // With all that it holds, and its sign of life is still there.
        processes.pop();
    }
    sleep(Duration::from_secs(4)).await;
    let offered = limit.tokens_in(nanos(began.elapsed()));
    let used = there.lock().unwrap().spent - before;
    // A slice is the refill of 20 ms; requests that were on their way were not answered.
    let most = 4 * (limit.refill() / 50 + 24 * cost(limit));
    assert!(used + most >= offered, "{used} of {offered}");
    assert_eq!(limited(&there), 0);
    sleep(2 * (MEMBER + BEAT)).await;
    assert_eq!(processes[0].shared.members(), 4);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_each_takes_its_share_and_all_come_back() {
    for is_wiped in [false, true] {
        for seconds in [1, 3, 30] {
            let store = MemoryStore::new(Duration::from_millis(1));
            let there = There::new(limit(1_200, 3));
            let processes = start(&store, 8, &there).await;
            store.set_away(true);
            if is_wiped {
                store.wipe();
            }
            if seconds > 20 {
                // From empty shares on, which hold what a request costs after half a second.
                sleep(Duration::from_secs(5)).await;
                assert!(processes.iter().all(|process| process.shared.is_away()));
                let used = used(&there, 20).await;
                assert!(used >= 90, "{used} % without the store");
            }
            sleep(Duration::from_secs(seconds % 20)).await;
            store.set_away(false);
            sleep(HOLD + Duration::from_secs(3)).await;
            assert!(processes.iter().all(|process| !process.shared.is_away()));
            let used = used(&there, 8).await;
            assert!(used >= 90, "{used} % after {seconds} s without the store");
            assert_eq!(limited(&there), 0, "{seconds} s, wiped: {is_wiped}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cut_off_goes_on_with_its_share_and_comes_back() {
    let store = MemoryStore::new(Duration::from_millis(1));
    let there = There::new(limit(1_200, 3));
    let processes = start(&store, 8, &there).await;
    processes[0].store.set_cut_off(true);
    sleep(Duration::from_secs(20)).await;
    let away: Vec<_> = processes.iter().map(|process| process.shared.is_away()).collect();
    assert_eq!(away, [true, false, false, false, false, false, false, false]);
    processes[0].store.set_cut_off(false);
    sleep(Duration::from_secs(70)).await;
    let before = limited(&there);
    let used = used(&there, 8).await;
    assert!(used >= 90, "{used} %");
    assert_eq!(limited(&there), before);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_idle_and_is_the_first_to_come_back_costs_no_time() {
    for is_wiped in [false, true] {
        let store = MemoryStore::new(Duration::from_millis(1));
        let there = There::new(limit(1_200, 3));
        let processes = start(&store, 8, &there).await;
        let idle = KvBudget::join(Arc::new(store.client()), "account", "idle").await.unwrap();
        store.set_away(true);
        sleep(Duration::from_secs(20)).await;
        if is_wiped {
            store.wipe();
        }
        store.set_away(false);
        let grant = idle.take(&Slice::new(WRITES, limit(1_200, 3), 10)).await.unwrap();
        assert_eq!(matches!(grant, Grant::Tokens(_)), !is_wiped, "{grant:?}");
        // All that was taken in shares, by eight members, is not owed.
        sleep(Duration::from_secs(2)).await;
        assert!(processes.iter().all(|process| !process.shared.is_away()));
        let before = limited(&there);
        let used = used(&there, 8).await;
        assert!(used >= 90, "wiped: {is_wiped}, {used} %");
        assert_eq!(limited(&there), before, "wiped: {is_wiped}");
    }
}

#[tokio::test(start_paused = true)]
async fn accidents_of_the_store_cost_hardly_a_refusal_and_none_afterwards() {
    let seeds = std::env::var("FANOUT_BUDGET_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds = seeds.unwrap_or(4_u64);
    let mut refused = 0;
    for seed in 0..seeds {
        let mut dice = seed;
        let mut throw = move |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 33) % sides
        };
        let store = MemoryStore::new(Duration::from_millis(1 + throw(20)));
        store.set_late(seed % 2 == 1);
        let limit = limit([100, 600, 4_800][usize::try_from(throw(3)).unwrap()], 1 + throw(3));
        let there = There::new(limit);
        let members = 2 + throw(6);
        let processes = start(&store, members, &there).await;
        for _ in 0..6 {
            sleep(Duration::from_millis(throw(9_000))).await;
            match throw(3) {
                0 => store.wipe(),
                is_wiped => {
                    store.set_away(true);
                    sleep(Duration::from_millis(throw(5_000))).await;
                    if is_wiped == 1 {
                        store.wipe();
                    }
                    store.set_away(false);
                }
            }
        }
        sleep(Duration::from_secs(8)).await;
        // A member that was idle while the store was away may be the first to take from the bucket:
        // what is on its way with the first that is refused may be refused as well.
        let before = limited(&there);
        assert!(before <= 24 * members, "seed {seed}: {before} refused");
        refused += before;
        let used = used(&there, 8).await;
        assert!(used >= 85, "seed {seed}: {used} %");
        assert_eq!(limited(&there), before, "seed {seed}");
        drop(processes);
    }
    assert!(refused <= 3 * seeds, "{refused} refused");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_late_is_no_sign_of_the_store() {
    let (store, limit) = (MemoryStore::new(Duration::from_millis(1)), limit(1_000, 3));
    store.set_late(true);
    let mut members = Vec::new();
    for number in 0..8 {
        let member = format!("p{number}");
        members.push(KvBudget::join(Arc::new(store.client()), "account", &member).await.unwrap());
    }
    sleep(BEAT + Duration::from_secs(1)).await;
    assert!(members.iter().all(|member| member.members() == 8));
    let slice = |least: u64, most: u64| {
        let mut slice = Slice::new(WRITES, limit, least);
        slice.most = most;
        slice
    };
    let use_up = async |member: &KvBudget, seconds: u64| {
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut taken = 0;
        while Instant::now() < until {
            match member.take(&slice(10, 500)).await.unwrap() {
                Grant::Tokens(tokens) => taken += tokens,
                Grant::Wait(wait) => sleep(Duration::from_nanos(wait)).await,
                other => panic!("{other:?}"),
            }
        }
        taken
    };
    // One uses all of the bucket, and knows that it is the only one.
    use_up(&members[0], 3).await;
    store.set_away(true);
    // Another one notices before the first one writes again, which is done in the end.
    assert!(matches!(members[1].take(&slice(10, 10)).await.unwrap(), Grant::Wait(_)));
    sleep(Duration::from_millis(100)).await;
    assert!(matches!(members[0].take(&slice(10, 10)).await.unwrap(), Grant::Wait(_)));
    use_up(&members[1], 4).await;
    store.set_away(false);
    let key = members[0].inner.key(WRITES);
    let entry = store.read(&key).await.unwrap().unwrap();
    let late = Shared::read(&entry.value, entry.written_at, limit).unwrap();
    assert!(entry.written_at - late.at > nanos(LATE), "the write was not late");
    // All have used their shares meanwhile: the bucket there is not full.
    sleep(PROBE).await;
    let taken = use_up(&members[1], 1).await;
    assert!(taken <= 3 * 1_000 / 8, "{taken}: more than the share");
    for member in &members[1..] {
        let grant = member.take(&slice(300, 300)).await.unwrap();
        assert!(matches!(grant, Grant::Wait(_)), "{grant:?}");
    }
    // It begins as an empty one, for all.
    sleep(HOLD + Duration::from_millis(500)).await;
    assert_eq!(members[0].take(&slice(300, 300)).await.unwrap(), Grant::Tokens(300));
    let entry = store.read(&key).await.unwrap().unwrap();
    let shared = Shared::read(&entry.value, entry.written_at, limit).unwrap();
    assert!(shared.hold > late.at && shared.bucket.available(entry.written_at, limit) < 1_500);
}

#[tokio::test(start_paused = true)]
async fn an_urgent_request_never_waits_for_the_store() {
    let store = MemoryStore::new(Duration::from_millis(200));
    let there = There::new(limit(1_200, 3));
    let mut process = Process::start(&store, 0, &there).await;
    sleep(Duration::from_secs(5)).await;
    let cancel = async |process: &Process| {
        let began = Instant::now();
        let options = RequestOptions::new().with_class(Class::Urgent);
        let permit = process.budget.acquire(Charge::single(WRITES, 2), options).await.unwrap();
        permit.complete(Completion::Sent).await;
        began.elapsed()
    };
    process.workers.abort_all();
    sleep(Duration::from_secs(2)).await;
    for is_away in [false, true] {
        store.set_away(is_away);
        if is_away {
            // It is known to be away.
            let options = RequestOptions::new().with_deadline(Duration::from_secs(600));
            let charge = Charge::single(WRITES, cost(limit(1_200, 3)));
            process.budget.acquire(charge, options).await.unwrap().complete(Completion::Sent).await;
        }
        for _ in 0..40 {
            assert_eq!(cancel(&process).await, Duration::ZERO, "away: {is_away}");
        }
        sleep(Duration::from_secs(2)).await;
    }
    let bucket = process.shared.inner.state().buckets[&WRITES];
    assert_eq!(bucket.owed, 0, "the store was told while it was there");
}

/// Returns the time until a slice is granted.
async fn until_granted(shared: &KvBudget, slice: &Slice) -> Duration {
    let began = Instant::now();
    while let Grant::Wait(wait) = shared.take(slice).await.unwrap() {
        sleep(Duration::from_nanos(wait)).await;
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_clock_of_the_store_that_is_set_back_empties_the_buckets_and_no_more() {
    let hour = Duration::from_secs(3_600);
    let store = MemoryStore::new(Duration::from_millis(1));
    let shared = KvBudget::join(Arc::new(store.clone()), "account", "a").await.unwrap();
    let mut slice = Slice::new(WRITES, limit(100, 1), 10);
    until_granted(&shared, &slice).await;
    for is_urgent in [false, true] {
        slice.is_urgent = is_urgent;
        store.set_back(hour);
        // The time is measured with the next sign of life.
        sleep(BEAT + Duration::from_secs(1)).await;
        let waited = until_granted(&shared, &slice).await;
        assert!(waited < Duration::from_secs(1), "{waited:?}, urgent: {is_urgent}");
    }
    // And while shares are taken.
    slice.is_urgent = false;
    store.set_away(true);
    until_granted(&shared, &slice).await;
    assert!(shared.inner.state().buckets[&WRITES].share.is_some());
    store.set_back(hour);
    store.set_away(false);
    sleep(2 * BEAT).await;
    for _ in 0..10 {
        until_granted(&shared, &slice).await;
        sleep(HOLD / 2).await;
    }
    assert!(shared.inner.state().buckets[&WRITES].share.is_none());
}

#[tokio::test(start_paused = true)]
async fn members_of_before_the_clock_was_set_back_do_not_count() {
    let store = MemoryStore::new(Duration::from_millis(1));
    let gone = KvBudget::join(Arc::new(store.clone()), "account", "gone").await.unwrap();
    drop(gone);
    store.set_back(Duration::from_secs(3_600));
    let shared = KvBudget::join(Arc::new(store.clone()), "account", "a").await.unwrap();
    assert_eq!(shared.members(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_counts_as_an_empty_bucket() {
    let limit = limit(100, 3);
    let now = 1_795_000_000_000_000_000;
    let full = Shared { bucket: Gcra::full(), ..Shared::empty(now, limit) };
    assert_eq!(Shared::read(&full.write(), now, limit), Some(full));
    let huge = vec![b' '; 4_096];
    for value in [
        b"".as_slice(),
        b"{}",
        b"null",
        b"\xff",
        br#"{"version":2,"full_at":0,"refill":100,"capacity":300,"hold":0,"at":0}"#,
        br#"{"version":1,"full_at":0,"refill":0,"capacity":300,"hold":0,"at":0}"#,
        br#"{"version":1,"full_at":-1,"refill":1,"capacity":300,"hold":0,"at":0}"#,
        &huge,
    ] {
        assert_eq!(Shared::read(value, now, limit), None, "{value:?}");
    }
    // One of another limit keeps what was taken.
    let other = Limit::new(200, 600).unwrap();
    let mut bucket = Gcra::full();
    bucket.take(now, 50, limit);
    let value = Shared { bucket, ..Shared::empty(now, limit) }.write();
    let read = Shared::read(&value, now, other).unwrap();
    assert_eq!(read.bucket.available(now, other), 550);
    // And in the store: it fills from when it was found.
    let store = MemoryStore::new(Duration::from_millis(1));
    let shared = KvBudget::join(Arc::new(store.clone()), "account", "a").await.unwrap();
    let key = shared.inner.key(WRITES);
    store.write(&key, Bytes::from_static(b"?"), None).await.unwrap();
    let budget = Budget::builder().with_backend(Arc::new(shared)).build();
    let began = Instant::now();
    let options = RequestOptions::new().with_deadline(Duration::from_secs(60));
    let permit = budget.acquire(Charge::single(WRITES, 10), options).await.unwrap();
    permit.complete(Completion::Sent).await;
    let waited = began.elapsed().as_millis();
    assert!((100..500).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_or_a_name_that_is_none_is_an_error() {
    let store = MemoryStore::new(Duration::from_millis(1));
    for (account, member) in [("", "a"), ("a", "")] {
        let joined = KvBudget::join(Arc::new(store.clone()), account, member).await;
        let error = joined.unwrap_err().to_string();
        assert!(error.contains("is no name of an account or member"), "{error}");
    }
    store.set_away(true);
    let error = KvBudget::join(Arc::new(store), "a", "b").await.unwrap_err().to_string();
    assert_eq!(error, "the store of the shared budget does not answer");
}

/// A store that answers with what was there ten seconds ago.
#[derive(Debug)]
struct Behind(MemoryStore);

#[async_trait]
impl KvStore for Behind {
    async fn read(&self, key: &str) -> Result<Option<KvEntry>, BackendError> {
        let mut found = self.0.read(key).await?;
        if let Some(entry) = &mut found {
            entry.revision -= 1;
            entry.written_at -= nanos(BEAT);
        }
        Ok(found)
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<KvWrite, BackendError> {
        self.0.write(key, value, expected).await
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, BackendError> {
        self.0.keys(prefix).await
    }
}

#[tokio::test(start_paused = true)]
async fn no_time_is_measured_by_an_entry_that_is_older_than_what_was_written() {
    let store = Behind(MemoryStore::new(Duration::from_millis(1)));
    let error = KvBudget::join(Arc::new(store), "a", "b").await.unwrap_err().to_string();
    assert_eq!(error, "the store does not have what was written");
}

#[tokio::test(start_paused = true)]
async fn many_members_that_are_gone_do_not_hold_up_one_that_joins() {
    let store = MemoryStore::new(Duration::from_millis(5));
    let write = async |member: &str| {
        let key = format!("budget.account.member.{member}");
        store.write(&key, Bytes::from_static(b"1"), None).await.unwrap();
    };
    for number in 0..1_000 {
        write(&format!("gone-{number}")).await;
    }
    sleep(MEMBER).await;
    write("alive").await;
    // One after the other, the reads would take five seconds.
    let shared = KvBudget::join(Arc::new(store.clone()), "account", "new").await.unwrap();
    assert_eq!(shared.members(), 2);
}
