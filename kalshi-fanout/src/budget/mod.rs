//! One rate budget for the processes of several machines.
//!
//! A [`KvBudget`] keeps the buckets of an account in a store with compare-and-set. What such a store
//! has to do is [`KvStore`]; with the feature `nats`, `nats::NatsStore` is one over NATS JetStream, and
//! [`MemoryStore`] is one for tests. It is a back end of [`kalshi_trade::budget`]: each process has a
//! [`Budget`](kalshi_trade::budget::Budget) with its queue, and takes slices of a few hundredths of a
//! second from the common buckets. On one machine a
//! [`LockFile`](kalshi_trade::budget::LockFile) does the same without a broker.
//!
//! - **Time is the store's.** Each member measures, every ten seconds, by an entry of its own, which
//!   time it is there; the clocks of the machines need not agree. Those of a cluster of brokers have
//!   to, to some 50 ms: a step of more than 250 ms is reported. When that clock is set back by more than
//!   half a second, the buckets begin as empty ones.
//! - **Without the store, fixed shares.** A member whose store has not answered for a second takes the
//!   `n`th part of each bucket, where `n` is the number of members of the last minute. When it answers
//!   again, all go on with their shares for two more seconds, so that each of them knows, and then
//!   begin with empty buckets.
//! - **An urgent request does not wait for the store.** A cancel is granted by the last state that is
//!   known, or counts as debt of the share, and the store is told afterwards. Only where nothing is
//!   known, or the tokens are not there, is the store asked: for a quarter of a second at the most.
//! - **A write that is late is no sign of the store.** A broker or a network may hold a write back and do
//!   it when its member has long given up and takes its share. The compare-and-set lets it happen only
//!   where no other member has written since, and the next one that reads it sees by its two times that
//!   it is late: more than a second. Then all keep to their shares for two seconds and begin with empty
//!   buckets, as when the store was away.
//! - **What is lost costs time:** an entry that is missing or cannot be read counts as an empty bucket,
//!   which fills within seconds. A process that dies loses at most one slice.
//!
//! Two cases may cost an account a 429, which is answered as
//! [always](kalshi_trade::budget#what-it-cannot-know). A member that asked for nothing while the store
//! was away does not know of it, and may be the first to take from the bucket. And a single member
//! that is cut off cannot tell that the others still have the store: it takes its share, and they
//! take all, so that the account may use more than it has, by the `n`th part.
//!
//! # Examples
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use kalshi_fanout::budget::{KvBudget, MemoryStore};
//! use kalshi_trade::budget::Budget;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), kalshi_trade::budget::BackendError> {
//! let store = MemoryStore::new(Duration::from_millis(1));
//! let shared = KvBudget::join(Arc::new(store), "my-account", "quoter-1").await?;
//! assert_eq!(shared.members(), 1);
//! let budget = Budget::builder().with_backend(Arc::new(shared)).build();
//! # let _ = budget;
//! # Ok(())
//! # }
//! ```

mod entry;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    hash::BuildHasher as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use foldhash::quality::RandomState;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kalshi_sdk::middleware::async_trait;
use kalshi_trade::budget::{
    Backend, BackendError, BucketKey, Gcra, Grant, Limit, Nanos, Slice, take_slice,
};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use self::entry::Shared;
pub use self::store::{KvEntry, KvStore, KvWrite, MemoryStore};
use crate::subject;

/// The time between two signs of life.
const BEAT: Duration = Duration::from_secs(10);

/// The time for which a member counts after its last sign of life.
const MEMBER: Duration = Duration::from_secs(60);

/// The members that are counted at most.
const MAX_MEMBERS: usize = 1_024;

/// The signs of life that are read at once: those of members that are gone may be many.
const READS: usize = 32;

/// The time within which the store has to have answered.
const TIMEOUT: Duration = Duration::from_millis(250);

/// The time for which requests wait for a store that does not answer, before shares are taken.
const GRACE: Duration = Duration::from_secs(1);

/// The pause between two questions to a store that does not answer, within that time and after it.
const PAUSE: Duration = Duration::from_millis(50);
const PROBE: Duration = Duration::from_millis(500);

/// The time for which all keep to their shares when the store is back: more than [`PROBE`] and
/// [`TIMEOUT`], so that each of them has asked.
const HOLD: Duration = Duration::from_secs(2);

/// The age, when it is written, from which on a state is late: its member has given up waiting. Longer
/// than any member waits for a write, and than its measurement of the store's time may be wrong.
const LATE: Duration = GRACE;

/// The times that a write is tried against those of others.
const ATTEMPTS: usize = 6;

/// The error of the store's time beyond which a measurement is not used, and the step that is
/// reported.
const MAX_ERROR: Duration = Duration::from_millis(250);

/// The buckets of an account in a store that several machines share.
///
/// See the [module](self). It has to be used within a Tokio runtime with its timer; a task of it keeps
/// the sign of life and ends when it is dropped.
pub struct KvBudget {
    inner: Arc<Inner>,
    task: AbortHandle,
}

struct Inner {
    store: Arc<dyn KvStore>,
    /// The beginning of all keys of the account.
    prefix: String,
    member: String,
    state: Mutex<State>,
    dice: RandomState,
    thrown: AtomicU64,
}

#[derive(Debug)]
struct State {
    reference: Reference,
    members: u64,
    /// The members that each sign of life of the last minute found.
    counts: Vec<(Instant, u64)>,
    /// The revision of the sign of life.
    beat: Option<u64>,
    /// Since when the store has not answered.
    away: Option<Instant>,
    /// When it is asked again.
    probe: Instant,
    buckets: HashMap<BucketKey, Bucket>,
}

/// The store's time at one moment.
#[derive(Clone, Copy, Debug)]
struct Reference {
    at: Instant,
    time: Nanos,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// The entry as it was seen last.
    seen: Option<(Shared, u64)>,
    /// True if no other member has written between the last two looks: the entry need not be read.
    is_mine: bool,
    /// Tokens that urgent requests took and that the store was not told of.
    owed: u64,
    share: Option<Share>,
}

/// The fixed share of a bucket, while the store is away.
#[derive(Clone, Copy, Debug)]
struct Share {
    bucket: Gcra,
    limit: Limit,
    /// Since when the store has not answered.
    since: Nanos,
    /// The tokens that were taken.
    taken: u64,
}

/// The result of a look at the store.
enum Look {
    Grant(Grant),
    /// Take the fixed share.
    Share,
    /// Look again: what stood in the way is done.
    Again,
    /// Another member has written.
    Conflict,
}

/// A bucket, and what is known of it here.
#[derive(Clone, Copy)]
struct Found {
    shared: Shared,
    expected: Option<u64>,
    /// True if there was none that could be read: it begins as an empty one, from now on.
    is_new: bool,
    /// True if it was written late, so that the store was away for some: it is to begin as an empty one
    /// after a time in which fixed shares are taken.
    is_late: bool,
    owed: u64,
    share: Option<Share>,
    now: Nanos,
}

impl KvBudget {
    /// Joins those who share the buckets of an account, as a member with a name of its own.
    ///
    /// # Errors
    ///
    /// [`BackendError`]: a name is empty or longer than a subject allows, or the store does not answer
    /// within a second.
    ///
    /// # Cancellation
    ///
    /// Dropping the future may leave a sign of life, which counts for a minute.
    pub async fn join(
        store: Arc<dyn KvStore>,
        account: &str,
        member: &str,
    ) -> Result<Self, BackendError> {
        let token = |name: &str| {
            subject::escape(name).map_err(|error| {
                BackendError::new(format!("{name:?} is no name of an account or member"))
                    .with_source(error)
            })
        };
        let (prefix, member) = (format!("budget.{}", token(account)?), token(member)?);
        let now = Instant::now();
        let inner = Arc::new(Inner {
            store,
            prefix,
            member,
            state: Mutex::new(State {
                reference: Reference { at: now, time: 0 },
                members: 1,
                counts: Vec::new(),
                beat: None,
                away: None,
                probe: now,
                buckets: HashMap::new(),
            }),
            dice: RandomState::default(),
            thrown: AtomicU64::new(0),
        });
        timeout(GRACE, inner.beat()).await.map_err(|_| no_answer())??;
        let weak = Arc::downgrade(&inner);
        let task = tokio::spawn(async move {
            loop {
                sleep(BEAT).await;
                let Some(inner) = weak.upgrade() else { return };
                let beat = timeout(GRACE, inner.beat()).await.unwrap_or_else(|_| Err(no_answer()));
                if let Err(error) = beat {
                    tracing::warn!(%error, "no sign of life to those who share the budget");
                }
            }
        });
        Ok(Self { inner, task: task.abort_handle() })
    }

    /// Returns the number of members, this one included: the greatest that was counted in the last
    /// minute, in which each counts for a minute after its last sign of life.
    pub fn members(&self) -> u64 {
        self.inner.state().members
    }

    /// Reports whether the store has not answered for so long that fixed shares are taken.
    pub fn is_away(&self) -> bool {
        self.inner.state().away.is_some_and(|since| since.elapsed() >= GRACE)
    }
}

impl Drop for KvBudget {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for KvBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvBudget")
            .field("member", &self.inner.member)
            .field("members", &self.members())
            .field("is_away", &self.is_away())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for KvBudget {
    async fn take(&self, slice: &Slice) -> Result<Grant, BackendError> {
        let inner = &self.inner;
        if slice.is_urgent {
            if inner.state().away.is_some() {
                return Ok(inner.take_share(slice));
            }
            if inner.owe(slice) {
                // The store is told, and not waited for.
                let (inner, key, limit) = (Arc::clone(inner), slice.key, slice.limit);
                tokio::spawn(async move { inner.settle(key, limit).await });
                return Ok(Grant::Tokens(slice.least));
            }
        }
        if inner.is_probed() {
            return Ok(inner.take_share(slice));
        }
        match timeout(TIMEOUT, inner.take_shared(slice)).await {
            Ok(Ok(Look::Grant(grant))) => Ok(grant),
            Ok(Ok(Look::Share)) => Ok(inner.take_share(slice)),
            Ok(Ok(Look::Again | Look::Conflict)) => Ok(Grant::Wait(inner.throw())),
            Ok(Err(error)) => Ok(inner.take_without(slice, &error)),
            Err(_) => Ok(inner.take_without(slice, &no_answer())),
        }
    }

    async fn drain(&self, key: BucketKey, limit: Limit) -> Result<(), BackendError> {
        let inner = &self.inner;
        {
            let mut state = inner.state();
            let now = state.reference.now();
            if let Some(share) = state.buckets.entry(key).or_default().share.as_mut() {
                share.bucket = Gcra::empty(now, share.limit);
            }
        }
        let drained = async {
            let empty = |shared: &mut Shared, now: Nanos| {
                shared.bucket = Gcra::empty(now.max(shared.hold), limit);
            };
            while !inner.change(key, limit, empty).await? {
                sleep(Duration::from_nanos(inner.throw())).await;
            }
            Ok(())
        };
        timeout(GRACE, drained).await.map_err(|_| no_answer())?
    }
}

fn no_answer() -> BackendError {
    BackendError::new("the store of the shared budget does not answer")
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Found {
    /// Takes what is owed out of the bucket.
    fn pay(&mut self, limit: Limit) {
        if self.owed > 0 {
            self.shared.bucket.take(self.now.max(self.shared.hold), self.owed, limit);
        }
    }
}

impl Reference {
    fn now(self) -> Nanos {
        self.time.saturating_add(nanos(self.at.elapsed()))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, key: BucketKey) -> String {
        format!("{}.bucket.{:x}", self.prefix, key.to_u64())
    }

    /// Returns a pause of one to five milliseconds, so that those who met do not meet again.
    fn throw(&self) -> Nanos {
        let number = self.thrown.fetch_add(1, Ordering::Relaxed);
        1_000_000 + self.dice.hash_one(number) % 4_000_000
    }

    /// Gives a sign of life, measures the time of the store, and counts the members.
    async fn beat(&self) -> Result<(), BackendError> {
        let members = format!("{}.member.", self.prefix);
        let own = format!("{members}{}", self.member);
        let mut expected = self.state().beat;
        let (before, after) = loop {
            let before = Instant::now();
            match self.store.write(&own, Bytes::from_static(b"1"), expected).await? {
                KvWrite::Written(revision) => {
                    self.state().beat = Some(revision);
                    break (before, Instant::now());
                }
                KvWrite::Conflict => {
                    let found = self.store.read(&own).await?.map(|entry| entry.revision);
                    if found == expected {
                        return Err(BackendError::new("the store contradicts itself"));
                    }
                    expected = found;
                }
            }
        };
        let revision = self.state().beat;
        let entry = self.store.read(&own).await?;
        // The time of an older entry would be wrong by the time between two signs of life.
        let Some(entry) = entry.filter(|entry| Some(entry.revision) == revision) else {
            return Err(BackendError::new("the store does not have what was written"));
        };
        let way = after.duration_since(before);
        let at = before + way / 2;
        let time = Reference { at, time: entry.written_at };
        {
            let mut state = self.state();
            let is_first = state.reference.time == 0;
            if is_first || way <= MAX_ERROR {
                let step = time.now().abs_diff(state.reference.now());
                if !is_first && step > nanos(MAX_ERROR) {
                    tracing::warn!(
                        step_ms = step / 1_000_000,
                        "the clock of the store of the shared budget was set"
                    );
                }
                state.reference = time;
                let now = time.now();
                for share in state.buckets.values_mut().filter_map(|bucket| bucket.share.as_mut()) {
                    // If the clock was set back: no entry would be newer for that time.
                    share.since = share.since.min(now);
                }
            }
        }
        // One that is ahead is of before the clock was set back: its member will give another.
        let newest = time.now().saturating_add(nanos(MAX_ERROR));
        let oldest = time.now().saturating_sub(nanos(MEMBER));
        let keys = self.store.keys(&members).await?.into_iter().take(MAX_MEMBERS);
        let reads = keys.map(|key| async move { self.store.read(&key).await });
        let count =
            stream::iter(reads).buffer_unordered(READS).try_fold(0, async |count, entry| {
                let is_alive =
                    entry.is_some_and(|entry| (oldest..=newest).contains(&entry.written_at));
                Ok(count + u64::from(is_alive))
            });
        let count = count.await?;
        self.state().count(count);
        self.is_back();
        Ok(())
    }

    /// Takes tokens by the last state that is known, without the store. Reports whether they were
    /// there.
    fn owe(&self, slice: &Slice) -> bool {
        let mut state = self.state();
        let now = state.reference.now();
        let Some(bucket) = state.buckets.get_mut(&slice.key) else { return false };
        let Some((mut shared, _)) = bucket.seen.filter(|_| bucket.share.is_none()) else {
            return false;
        };
        if now < shared.hold || shared.limit != slice.limit {
            return false;
        }
        shared.bucket.take(now, bucket.owed, slice.limit);
        let is_there = shared.bucket.try_take(now, slice.least, slice.reserve, slice.limit).is_ok();
        if is_there {
            bucket.owed = bucket.owed.saturating_add(slice.least);
        }
        is_there
    }

    /// Tells the store of tokens that urgent requests took.
    async fn settle(&self, key: BucketKey, limit: Limit) {
        let settled = async {
            while self.state().buckets.get(&key).is_some_and(|bucket| bucket.owed > 0) {
                if !self.change(key, limit, |_, _| {}).await? {
                    sleep(Duration::from_nanos(self.throw())).await;
                }
            }
            Ok::<_, BackendError>(())
        };
        // Otherwise the next look tells it.
        if !matches!(timeout(GRACE, settled).await, Ok(Ok(()))) {
            tracing::debug!(bucket = %key, "the store was not told of an urgent request");
        }
    }

    /// Changes an entry. False if another member did at the same time: nothing is changed then.
    async fn change(
        &self,
        key: BucketKey,
        limit: Limit,
        change: impl FnOnce(&mut Shared, Nanos) + Send,
    ) -> Result<bool, BackendError> {
        let name = self.key(key);
        let mut found = self.read(&name, key, limit).await?;
        found.pay(limit);
        change(&mut found.shared, found.now);
        self.write(&name, key, &found).await
    }

    /// Reports whether the store is away and was asked a moment ago.
    fn is_probed(&self) -> bool {
        let mut state = self.state();
        let Some(since) = state.away else { return false };
        let now = Instant::now();
        if now.duration_since(since) < GRACE {
            return false;
        }
        if now < state.probe {
            return true;
        }
        state.probe = now + PROBE;
        false
    }

    /// Takes a slice from the store.
    async fn take_shared(&self, slice: &Slice) -> Result<Look, BackendError> {
        for _ in 0..ATTEMPTS {
            match self.attempt(slice).await? {
                Look::Again => {}
                Look::Conflict => sleep(Duration::from_nanos(self.throw())).await,
                look => return Ok(look),
            }
        }
        Ok(Look::Conflict)
    }

    async fn attempt(&self, slice: &Slice) -> Result<Look, BackendError> {
        let name = self.key(slice.key);
        let mut found = match self.known(slice) {
            Some(found) => found,
            None => self.read(&name, slice.key, slice.limit).await?,
        };
        self.is_back();
        if found.is_late {
            let is_written = self.write(&name, slice.key, &found).await?;
            return Ok(if is_written { Look::Share } else { Look::Conflict });
        }
        if found.now < found.shared.hold {
            return Ok(Look::Share);
        }
        if let Some(share) = found.share {
            return self.come_back(&name, slice, found, share).await;
        }
        found.pay(slice.limit);
        if found.is_new {
            let is_written = self.write(&name, slice.key, &found).await?;
            return Ok(if is_written { Look::Again } else { Look::Conflict });
        }
        let grant = take_slice(&mut found.shared.bucket, found.now, slice);
        match grant {
            Grant::Wait(wait) if self.state().members > 1 => {
                // Not all at the same moment.
                Ok(Look::Grant(Grant::Wait(wait.saturating_add(self.throw() / 2))))
            }
            Grant::Tokens(_) if !self.write(&name, slice.key, &found).await? => Ok(Look::Conflict),
            _ => Ok(Look::Grant(grant)),
        }
    }

    /// Returns the bucket as it was seen last, if no other member seems to use it.
    fn known(&self, slice: &Slice) -> Option<Found> {
        let state = self.state();
        let bucket = state.buckets.get(&slice.key).filter(|bucket| bucket.is_mine)?;
        let now = state.reference.now();
        let is_known = |shared: &Shared| shared.limit == slice.limit && !shared.is_ahead(now);
        let (shared, revision) = bucket.seen.filter(|(shared, _)| is_known(shared))?;
        Some(Found {
            shared,
            expected: Some(revision),
            is_new: false,
            is_late: false,
            owed: bucket.owed,
            share: bucket.share,
            now,
        })
    }

    /// Reads a bucket from the store.
    async fn read(&self, name: &str, key: BucketKey, limit: Limit) -> Result<Found, BackendError> {
        let entry = self.store.read(name).await?;
        let mut state = self.state();
        let now = state.reference.now();
        let bucket = state.buckets.entry(key).or_default();
        let expected = entry.as_ref().map(|entry| entry.revision);
        let written_at = entry.as_ref().map_or(0, |entry| entry.written_at);
        let shared = entry.as_ref().and_then(|entry| {
            let shared = Shared::read(&entry.value, now, limit);
            match shared {
                None => {
                    tracing::warn!(bucket = %key, "a shared bucket cannot be read: it counts as empty");
                }
                Some(shared) if shared.is_ahead(now) => tracing::warn!(
                    bucket = %key,
                    "a shared bucket is of a time to come: it counts as empty, as the clock was set back"
                ),
                Some(_) => {}
            }
            shared.filter(|shared| !shared.is_ahead(now))
        });
        let seen = shared.zip(expected);
        let before = std::mem::replace(&mut bucket.seen, seen);
        let is_late =
            shared.is_some_and(|shared| written_at.saturating_sub(shared.at) > nanos(LATE));
        bucket.is_mine = !is_late
            && seen.zip(before).is_some_and(|((_, revision), (_, before))| revision == before);
        let shared_now = match shared {
            Some(shared) if !is_late => shared,
            None => Shared::empty(now, limit),
            Some(_) => {
                tracing::warn!(bucket = %key, "a write to a shared bucket was late: shares are taken");
                Shared::held(now.saturating_add(nanos(HOLD)), limit)
            }
        };
        Ok(Found {
            shared: shared_now,
            expected,
            is_new: shared.is_none(),
            is_late,
            owed: bucket.owed,
            share: bucket.share,
            now,
        })
    }

    /// Writes a bucket. False if another member did since it was read: nothing is written then.
    async fn write(&self, name: &str, key: BucketKey, found: &Found) -> Result<bool, BackendError> {
        let shared = Shared { at: found.now, ..found.shared };
        let write = self.store.write(name, shared.write(), found.expected).await?;
        let mut state = self.state();
        let bucket = state.buckets.entry(key).or_default();
        match write {
            KvWrite::Written(revision) => {
                bucket.seen = Some((shared, revision));
                bucket.owed = bucket.owed.saturating_sub(found.owed);
                Ok(true)
            }
            KvWrite::Conflict => {
                bucket.is_mine = false;
                Ok(false)
            }
        }
    }

    /// Takes up the common bucket again, after a time in which fixed shares were taken.
    async fn come_back(
        &self,
        name: &str,
        slice: &Slice,
        mut found: Found,
        share: Share,
    ) -> Result<Look, BackendError> {
        let (now, is_there) = (found.now, !found.is_new);
        if is_there && found.shared.hold >= share.since {
            // That time is over for all: the bucket began as an empty one.
            self.end_share(slice.key);
            return Ok(Look::Again);
        }
        if is_there && found.shared.at > share.since {
            // The others had the bucket all the time, or one of them that took no share is back first.
            found.pay(slice.limit);
            let before = found.shared.bucket.state();
            found.shared.bucket.take(now, share.taken.min(slice.limit.capacity()), slice.limit);
            // The exchange's is never less than empty, whatever was taken in shares.
            let empty = Gcra::empty(now, slice.limit).state();
            let after = found.shared.bucket.state().min(empty).max(before);
            found.shared.bucket = Gcra::from_state(after);
            if self.write(name, slice.key, &found).await? {
                self.end_share(slice.key);
                return Ok(Look::Again);
            }
            return Ok(Look::Conflict);
        }
        found.shared = Shared::held(now.saturating_add(nanos(HOLD)), slice.limit);
        if self.write(name, slice.key, &found).await? {
            return Ok(Look::Share);
        }
        Ok(Look::Conflict)
    }

    fn end_share(&self, key: BucketKey) {
        self.state().buckets.entry(key).or_default().share = None;
    }

    fn is_back(&self) {
        if self.state().away.take().is_some() {
            tracing::info!("the store of the shared budget answers again");
        }
    }

    /// Answers without the store, which has just not answered.
    fn take_without(&self, slice: &Slice, error: &BackendError) -> Grant {
        let now = Instant::now();
        let since = {
            let mut state = self.state();
            if let Some(bucket) = state.buckets.get_mut(&slice.key) {
                bucket.is_mine = false;
            }
            if state.away.is_none() {
                tracing::warn!(%error, "the store of the shared budget is away");
            }
            // Others may take their shares before this member does.
            state.share(slice);
            *state.away.get_or_insert(now)
        };
        if now.duration_since(since) < GRACE && !slice.is_urgent {
            return Grant::Wait(nanos(PAUSE));
        }
        self.take_share(slice)
    }

    /// Takes tokens from the fixed share of a bucket.
    fn take_share(&self, slice: &Slice) -> Grant {
        let mut state = self.state();
        let (now, members) = (state.reference.now(), state.members);
        let Some(share) = state.share(slice) else { return Grant::Wait(nanos(PAUSE)) };
        let grant = if slice.is_urgent {
            share.bucket.take(now, slice.least, share.limit);
            Grant::Tokens(slice.least)
        } else {
            let mut part = *slice;
            part.limit = share.limit;
            part.reserve /= members;
            part.most = part.least.max(part.most / members);
            take_slice(&mut share.bucket, now, &part)
        };
        if let Grant::Tokens(tokens) = grant {
            share.taken = share.taken.saturating_add(tokens);
        }
        grant
    }
}

impl State {
    /// Takes a count of the members. The greatest of the last minute counts: a store that lost its
    /// entries shows those only that have given a sign of life since.
    fn count(&mut self, count: u64) {
        let now = Instant::now();
        self.counts.retain(|(at, _)| now.duration_since(*at) < MEMBER);
        self.counts.push((now, count));
        self.members = self.counts.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    }

    /// Returns the share of a bucket, which begins as an empty one.
    fn share(&mut self, slice: &Slice) -> Option<&mut Share> {
        let (now, members) = (self.reference.now(), self.members);
        let part = |tokens: u64| (tokens / members).max(1);
        let limit = Limit::new(part(slice.limit.refill()), part(slice.limit.capacity())).ok()?;
        let bucket = self.buckets.entry(slice.key).or_default();
        let share = bucket.share.get_or_insert_with(|| Share {
            bucket: Gcra::empty(now, limit),
            limit,
            since: now,
            taken: 0,
        });
        share.bucket.rescale(now, share.limit, limit);
        share.limit = limit;
        Some(share)
    }
}
