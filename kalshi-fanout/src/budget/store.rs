//! The store that keeps shared buckets.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use kalshi_sdk::middleware::async_trait;
use kalshi_trade::budget::{BackendError, Nanos};
use tokio::time::{Instant, sleep};

/// A store of entries with compare-and-set, and a clock of its own.
///
/// It is trusted with the compare-and-set and with the times of its entries. It may be slow, fail, and
/// lose what it holds.
#[async_trait]
pub trait KvStore: fmt::Debug + Send + Sync {
    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`BackendError`]: there was no answer.
    async fn read(&self, key: &str) -> Result<Option<KvEntry>, BackendError>;

    /// Writes an entry if its revision is `expected` (`None`: if there is no entry).
    ///
    /// # Errors
    ///
    /// [`BackendError`]: there was no answer. The entry may have been written.
    async fn write(
        &self,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<KvWrite, BackendError>;

    /// Returns the keys that begin with `prefix`. Some may be of entries that are gone.
    ///
    /// # Errors
    ///
    /// [`BackendError`]: there was no answer.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>, BackendError>;
}

/// An entry of a [`KvStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// The value.
    pub value: Bytes,
    /// The revision: each write of the key has another one.
    pub revision: u64,
    /// The time of the write by the store's clock, in nanoseconds since 1970.
    pub written_at: Nanos,
}

/// The end of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvWrite {
    /// The entry was written and has this revision.
    Written(u64),
    /// The entry has another revision; nothing was written.
    Conflict,
}

/// A store in memory, for tests: clones share it. It answers after a delay, and not at all while it
/// is [away](Self::set_away).
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Mutex<Contents>>,
    start: Instant,
    delay: Duration,
    /// True if this clone is cut off, whatever the others are.
    is_cut_off: Arc<Mutex<bool>>,
}

#[derive(Debug, Default)]
struct Contents {
    entries: BTreeMap<String, KvEntry>,
    revision: u64,
    is_away: bool,
    /// True if writes that come while it is away are kept.
    is_late: bool,
    late: Vec<(String, Bytes, Option<u64>)>,
    /// The time by which its clock was set back.
    behind: Nanos,
}

/// The time at which its clock starts, in nanoseconds since 1970.
const EPOCH: Nanos = 1_795_000_000_000_000_000;

/// The late writes that are kept at most.
const MAX_LATE: usize = 1_024;

impl MemoryStore {
    /// Returns an empty store whose answers take `delay`.
    pub fn new(delay: Duration) -> Self {
        let (shared, is_cut_off) = (Arc::default(), Arc::default());
        Self { shared, start: Instant::now(), delay, is_cut_off }
    }

    /// Returns the same store as another client sees it, which can be cut off by itself.
    pub fn client(&self) -> Self {
        Self { is_cut_off: Arc::default(), ..self.clone() }
    }

    /// Lets the store answer nothing to anybody, or answer again.
    pub fn set_away(&self, is_away: bool) {
        self.contents().is_away = is_away;
        if !is_away {
            self.write_late();
        }
    }

    /// Sets the clock of the store back.
    #[cfg(test)]
    pub(super) fn set_back(&self, by: Duration) {
        let mut contents = self.contents();
        contents.behind = contents.behind.saturating_add(super::nanos(by));
    }

    /// Lets writes that come while the store is away be done, in their order, when it answers again, as
    /// a network may do; or lets them be lost, as they are unless set.
    pub fn set_late(&self, is_late: bool) {
        self.contents().is_late = is_late;
    }

    fn write_late(&self) {
        let late = std::mem::take(&mut self.contents().late);
        for (key, value, expected) in late {
            self.write_now(&key, value, expected);
        }
    }

    fn write_now(&self, key: &str, value: Bytes, expected: Option<u64>) -> KvWrite {
        let passed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut contents = self.contents();
        if contents.entries.get(key).map(|entry| entry.revision) != expected {
            return KvWrite::Conflict;
        }
        contents.revision += 1;
        let revision = contents.revision;
        let written_at = EPOCH.saturating_add(passed).saturating_sub(contents.behind);
        contents.entries.insert(key.to_owned(), KvEntry { value, revision, written_at });
        KvWrite::Written(revision)
    }

    /// Lets the store answer nothing to this client, or answer again.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        *self.is_cut_off.lock().unwrap_or_else(PoisonError::into_inner) = is_cut_off;
    }

    /// Loses all entries, and the late writes.
    pub fn wipe(&self) {
        let mut contents = self.contents();
        contents.entries.clear();
        contents.late.clear();
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // Every change is one step.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unreachable(&self) -> bool {
        let is_cut_off = *self.is_cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        is_cut_off || self.contents().is_away
    }

    /// Waits for half of the delay, and for ever while the store is away.
    async fn way(&self) {
        sleep(self.delay / 2).await;
        if self.is_unreachable() {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl KvStore for MemoryStore {
    async fn read(&self, key: &str) -> Result<Option<KvEntry>, BackendError> {
        self.way().await;
        let entry = self.contents().entries.get(key).cloned();
        self.way().await;
        Ok(entry)
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<KvWrite, BackendError> {
        sleep(self.delay / 2).await;
        if self.is_unreachable() {
            {
                let mut contents = self.contents();
                if contents.is_away && contents.is_late && contents.late.len() < MAX_LATE {
                    contents.late.push((key.to_owned(), value, expected));
                }
            }
            return std::future::pending().await;
        }
        let write = self.write_now(key, value, expected);
        self.way().await;
        Ok(write)
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, BackendError> {
        self.way().await;
        let keys = {
            let contents = self.contents();
            contents.entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
        };
        self.way().await;
        Ok(keys)
    }
}
