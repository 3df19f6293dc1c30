//! Buckets in a file that the processes of one machine share under a lock.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kalshi_sdk::{
    auth::{Clock, SystemClock},
    middleware::async_trait,
};
use tokio::time::{Instant, sleep};

use crate::budget::{
    backend::{Backend, BackendError, Grant, take_slice, wall_nanos},
    cost::BucketKey,
    gcra::{Gcra, Limit, Nanos},
    scheduler::Slice,
};

/// The first bytes: what the file is, and its version.
const MAGIC: [u8; 8] = *b"KTBUDG\x00\x01";

/// Magic, time of the last rebuilding, checksum of both, and four bytes of padding.
const HEADER: usize = 24;

/// Key, state, checksum of both, and four bytes of padding.
const SLOT: usize = 24;

/// The buckets that fit.
const SLOTS: usize = 128;

/// The size of the file.
const SIZE: usize = HEADER + SLOTS * SLOT;

/// The time in which the lock must be free: a process holds it for some microseconds.
const LOCK_TIME: Duration = Duration::from_secs(1);

/// The pause between two attempts.
const LOCK_PAUSE: Duration = Duration::from_micros(500);

/// Buckets that the processes of one machine share, in a file.
///
/// The file is made when it is not there, and has a fixed size of 3 KiB. It is locked for the
/// microseconds of each change by the operating system, which unlocks it when a process dies; what
/// that process had taken and not yet spent, at most one slice of each bucket, is lost. A bucket
/// whose checksum is wrong counts as empty, and another kind of file is replaced by one with empty
/// buckets: damage costs at most the time in which they fill.
///
/// All processes must be given the same file, on a local disk, and use the same account. Buckets are
/// kept by the wall clock, as nothing else is the same in all of them. When it is set back by more than
/// 5 s they begin as empty ones, by less they may be empty for that time, and when it is set forwards
/// they are full.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use kalshi_trade::budget::{Budget, LockFile};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir();
/// # let path = directory.join(format!("kalshi-budget-doc-{}", std::process::id()));
/// let file = LockFile::open(&path)?;
/// let budget = Budget::builder().with_backend(Arc::new(file)).build();
/// # let _ = budget;
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
pub struct LockFile {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// A lock of a file is one of its handle: threads that share the handle take turns here.
    file: Mutex<File>,
}

impl LockFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    ///
    /// [`BackendError`]: it could not be opened for reading and writing.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, BackendError> {
        let path = path.into();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(|error| failed("open", &path, error))?;
        Ok(Self { path, clock: Arc::new(SystemClock), file: Mutex::new(file) })
    }

    /// Sets the clock, the same for all processes: that of the machine unless set.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a slice if the lock is free; `None` if another process has it.
    ///
    /// # Errors
    ///
    /// [`BackendError`]: the file could not be read or written.
    pub fn try_take(&self, slice: &Slice) -> Result<Option<Grant>, BackendError> {
        self.try_change(slice.key, slice.limit, |bucket, now| take_slice(bucket, now, slice))
    }

    fn try_change<T>(
        &self,
        key: BucketKey,
        limit: Limit,
        change: impl FnOnce(&mut Gcra, Nanos) -> T,
    ) -> Result<Option<T>, BackendError> {
        // A panic in between would leave the file as it was, or whole.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &self.path, error)),
        }
        let now = wall_nanos(self.clock.as_ref());
        let changed = change_bucket(&mut file, key.to_u64(), limit, now, change);
        let unlocked = file.unlock();
        let changed = changed.map_err(|error| failed("change", &self.path, error))?;
        unlocked.map_err(|error| failed("unlock", &self.path, error))?;
        Ok(Some(changed))
    }

    async fn change<T>(
        &self,
        key: BucketKey,
        limit: Limit,
        change: impl Fn(&mut Gcra, Nanos) -> T + Send + Sync,
    ) -> Result<T, BackendError> {
        // By the clock: a sleep takes longer than what is asked for, by more than that again.
        let began = Instant::now();
        loop {
            if let Some(changed) = self.try_change(key, limit, &change)? {
                return Ok(changed);
            }
            let waited = began.elapsed();
            if waited >= LOCK_TIME {
                return Err(BackendError::new(format!(
                    "the budget file {} has been locked for {waited:?}: a process that holds it has \
                     stopped",
                    self.path.display()
                )));
            }
            sleep(LOCK_PAUSE).await;
        }
    }
}

impl fmt::Debug for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockFile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for LockFile {
    async fn take(&self, slice: &Slice) -> Result<Grant, BackendError> {
        self.change(slice.key, slice.limit, |bucket, now| take_slice(bucket, now, slice)).await
    }

    async fn drain(&self, key: BucketKey, limit: Limit) -> Result<(), BackendError> {
        self.change(key, limit, |bucket, now| *bucket = Gcra::empty(now, limit)).await
    }
}

fn failed(what: &str, path: &Path, error: io::Error) -> BackendError {
    let text = format!("could not {what} the budget file {}", path.display());
    BackendError::new(text).with_source(error)
}

/// Changes one bucket of a file that is locked.
fn change_bucket<T>(
    file: &mut File,
    key: u64,
    limit: Limit,
    now: Nanos,
    change: impl FnOnce(&mut Gcra, Nanos) -> T,
) -> io::Result<T> {
    let (mut image, mut is_rewritten) = match read(file)? {
        Contents::Valid(image) => (image, false),
        Contents::New => (Image::new(0), true),
        Contents::Damaged => {
            tracing::warn!("the budget file is damaged: its buckets count as empty");
            (Image::new(now), true)
        }
    };
    if image.drop_damaged(now) {
        tracing::warn!("a bucket of the budget file is damaged: it counts as empty");
        is_rewritten = true;
    }
    let (slot, mut bucket) = image.bucket(key, limit)?;
    let result = change(&mut bucket, now);
    image.set(slot, key, bucket.state());
    if is_rewritten {
        // A process that dies in between leaves a damaged file, whose buckets count as empty.
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&image.0)?;
        file.set_len(SIZE as u64)?;
    } else {
        let start = HEADER + slot * SLOT;
        let bytes = image.0.get(start..start + SLOT).unwrap_or_default();
        file.seek(SeekFrom::Start(start as u64))?;
        file.write_all(bytes)?;
    }
    Ok(result)
}

enum Contents {
    /// No byte has been written.
    New,
    Valid(Image),
    Damaged,
}

fn read(file: &mut File) -> io::Result<Contents> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::with_capacity(SIZE + 1);
    // One byte more shows that the file is longer, and no more of it is read.
    file.take(SIZE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(Contents::New);
    }
    let image = Image(bytes);
    Ok(if image.is_valid() { Contents::Valid(image) } else { Contents::Damaged })
}

/// The bytes of the file.
struct Image(Vec<u8>);

impl Image {
    fn new(rebuilt_at: Nanos) -> Self {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&rebuilt_at.to_le_bytes());
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.resize(SIZE, 0);
        Self(bytes)
    }

    fn is_valid(&self) -> bool {
        self.0.len() == SIZE
            && self.0.starts_with(&MAGIC)
            && self.0.get(..16).map(crc32fast::hash) == self.u32(16)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.0.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.0.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn slot(&self, slot: usize) -> &[u8] {
        let start = HEADER + slot * SLOT;
        self.0.get(start..start + SLOT).unwrap_or_default()
    }

    /// Clears the slots whose checksum is wrong, and notes that buckets that are not there were empty
    /// now. Which ones they were is not known.
    fn drop_damaged(&mut self, now: Nanos) -> bool {
        let is_damaged = |slot: &usize| {
            let bytes = self.slot(*slot);
            let (state, sum) = (bytes.get(..16), bytes.get(16..20));
            let is_unused = bytes.iter().all(|byte| *byte == 0);
            let computed = state.map(|state| crc32fast::hash(state).to_le_bytes());
            !is_unused && computed.as_ref().map(<[u8; 4]>::as_slice) != sum
        };
        let damaged: Vec<usize> = (0..SLOTS).filter(is_damaged).collect();
        if damaged.is_empty() {
            return false;
        }
        let rest = self.0.split_off(HEADER.min(self.0.len()));
        self.0 = Self::new(now).0;
        self.0.truncate(HEADER);
        self.0.extend(rest);
        for slot in damaged {
            let start = HEADER + slot * SLOT;
            if let Some(place) = self.0.get_mut(start..start + SLOT) {
                place.fill(0);
            }
        }
        true
    }

    /// Returns the place and the state of a bucket. One that is new is full; after a rebuilding it
    /// was empty at that time.
    ///
    /// # Errors
    ///
    /// There is no place left.
    fn bucket(&self, key: u64, limit: Limit) -> io::Result<(usize, Gcra)> {
        let at = |slot: usize| self.u64(HEADER + slot * SLOT);
        if let Some(slot) = (0..SLOTS).find(|slot| at(*slot) == Some(key)) {
            let state = self.u64(HEADER + slot * SLOT + 8).unwrap_or(u64::MAX);
            return Ok((slot, Gcra::from_state(state)));
        }
        let rebuilt_at = self.u64(8).unwrap_or(0);
        match (0..SLOTS).find(|slot| at(*slot) == Some(0)) {
            Some(slot) if rebuilt_at == 0 => Ok((slot, Gcra::full())),
            Some(slot) => Ok((slot, Gcra::empty(rebuilt_at, limit))),
            None => Err(io::Error::other(format!("it has no room for more than {SLOTS} buckets"))),
        }
    }

    fn set(&mut self, slot: usize, key: u64, state: Nanos) {
        let mut bytes = [0; SLOT];
        let (head, tail) = bytes.split_at_mut(8);
        head.copy_from_slice(&key.to_le_bytes());
        if let Some(place) = tail.get_mut(..8) {
            place.copy_from_slice(&state.to_le_bytes());
        }
        let sum = bytes.get(..16).map(crc32fast::hash).unwrap_or_default();
        if let Some(place) = bytes.get_mut(16..20) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        let start = HEADER + slot * SLOT;
        if let Some(place) = self.0.get_mut(start..start + SLOT) {
            place.copy_from_slice(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::{UnixMillis, auth::ManualClock, operation::Lane};

    use super::*;
    use crate::budget::Pool;

    const NOW: i64 = 1_795_000_000_000;

    /// A file that goes when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("kalshi-budget-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_file(&path);
            Self(path)
        }

        fn open(&self, clock: &Arc<ManualClock>) -> LockFile {
            LockFile::open(&self.0).unwrap().with_clock(clock.clone())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::at(UnixMillis::from_millis(NOW)))
    }

    fn slice(pool: Pool, tokens: u64) -> Slice {
        let key = BucketKey::new(Lane::EventContracts, pool);
        Slice::new(key, Limit::new(100, 100).unwrap(), tokens)
    }

    fn take(file: &LockFile, pool: Pool, tokens: u64) -> Grant {
        file.try_take(&slice(pool, tokens)).unwrap().unwrap()
    }

    #[test]
    fn handles_share_the_buckets_and_a_new_one_finds_them_as_they_were() {
        let (scratch, clock) = (Scratch::new("share"), clock());
        let (first, second) = (scratch.open(&clock), scratch.open(&clock));
        assert_eq!(take(&first, Pool::Write, 60), Grant::Tokens(60));
        assert_eq!(take(&second, Pool::Write, 60), Grant::Wait(200_000_000));
        assert_eq!(take(&second, Pool::Write, 40), Grant::Tokens(40));
        assert_eq!(take(&second, Pool::Read, 100), Grant::Tokens(100));
        drop((first, second));
        let third = scratch.open(&clock);
        assert_eq!(take(&third, Pool::Write, 10), Grant::Wait(100_000_000));
        clock.advance(Duration::from_millis(100));
        assert_eq!(take(&third, Pool::Write, 10), Grant::Tokens(10));
        assert_eq!(std::fs::metadata(third.path()).unwrap().len(), SIZE as u64);
    }

    #[tokio::test]
    async fn a_bucket_is_emptied_for_all_handles() {
        let (scratch, clock) = (Scratch::new("drain"), clock());
        let (first, second) = (scratch.open(&clock), scratch.open(&clock));
        assert_eq!(take(&first, Pool::Write, 10), Grant::Tokens(10));
        let Slice { key, limit, .. } = slice(Pool::Write, 10);
        first.drain(key, limit).await.unwrap();
        assert_eq!(take(&second, Pool::Write, 10), Grant::Wait(100_000_000));
    }

    #[test]
    fn a_damaged_time_of_rebuilding_fills_no_bucket() {
        let (scratch, clock) = (Scratch::new("rebuilt"), clock());
        std::fs::write(&scratch.0, "no budget").unwrap();
        let file = scratch.open(&clock);
        assert_eq!(take(&file, Pool::Write, 10), Grant::Wait(100_000_000));
        let mut bytes = std::fs::read(&scratch.0).unwrap();
        bytes[8..16].fill(0);
        std::fs::write(&scratch.0, bytes).unwrap();
        assert_eq!(take(&file, Pool::Read, 10), Grant::Wait(100_000_000));
    }

    #[test]
    fn a_lock_that_another_handle_has_is_not_waited_for() {
        let (scratch, clock) = (Scratch::new("lock"), clock());
        let (first, second) = (scratch.open(&clock), scratch.open(&clock));
        second.file.lock().unwrap().lock().unwrap();
        assert_eq!(first.try_take(&slice(Pool::Write, 10)).unwrap(), None);
        second.file.lock().unwrap().unlock().unwrap();
        assert!(first.try_take(&slice(Pool::Write, 10)).unwrap().is_some());
    }

    /// By the virtual clock, on which a sleep takes a millisecond at least, as on that of the machine.
    #[tokio::test(start_paused = true)]
    async fn a_lock_that_is_not_given_back_is_waited_for_no_longer_than_said() {
        let (scratch, clock) = (Scratch::new("held"), clock());
        let (first, second) = (scratch.open(&clock), scratch.open(&clock));
        second.file.lock().unwrap().lock().unwrap();
        let began = Instant::now();
        let error = first.take(&slice(Pool::Write, 10)).await.unwrap_err();
        assert!(error.to_string().contains("has been locked"), "{error}");
        let waited = began.elapsed();
        assert!(waited >= LOCK_TIME && waited < LOCK_TIME + LOCK_TIME / 100, "{waited:?}");
    }

    #[test]
    fn every_damage_is_noticed_and_never_fills_a_bucket() {
        let (scratch, clock) = (Scratch::new("damage"), clock());
        let file = scratch.open(&clock);
        assert_eq!(take(&file, Pool::Write, 100), Grant::Tokens(100));
        assert_eq!(take(&file, Pool::Read, 100), Grant::Tokens(100));
        let whole = std::fs::read(&scratch.0).unwrap();
        let empty = |what: &str| {
            for pool in [Pool::Write, Pool::Read] {
                let grant = take(&file, pool, 10);
                assert_eq!(grant, Grant::Wait(100_000_000), "{what}: {pool:?}");
            }
        };
        empty("whole");
        for at in 0..HEADER + 3 * SLOT {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                std::fs::write(&scratch.0, bytes).unwrap();
                empty(&format!("bit {bit} of byte {at}"));
            }
        }
        for length in (1..whole.len()).step_by(97).chain([1, HEADER, SIZE - 1]) {
            std::fs::write(&scratch.0, &whole[..length]).unwrap();
            empty(&format!("{length} bytes"));
        }
        let mut longer = whole.clone();
        longer.extend([0; 5_000]);
        for bytes in [longer, vec![0; SIZE], vec![0xff; SIZE], b"something else".to_vec()] {
            std::fs::write(&scratch.0, bytes).unwrap();
            empty("another file");
            assert_eq!(std::fs::metadata(&scratch.0).unwrap().len(), SIZE as u64);
        }
        // It fills as an empty one does.
        clock.advance(Duration::from_secs(1));
        assert_eq!(take(&file, Pool::Shard(7), 100), Grant::Tokens(100));
        assert_eq!(take(&file, Pool::Write, 100), Grant::Tokens(100));
    }

    #[test]
    fn a_clock_that_is_set_back_empties_the_bucket_and_no_more() {
        let (scratch, clock) = (Scratch::new("clock"), clock());
        let file = scratch.open(&clock);
        assert_eq!(take(&file, Pool::Write, 10), Grant::Tokens(10));
        clock.set(UnixMillis::from_millis(NOW - 86_400_000));
        assert_eq!(take(&file, Pool::Write, 10), Grant::Wait(100_000_000));
        clock.advance(Duration::from_millis(100));
        assert_eq!(take(&file, Pool::Write, 10), Grant::Tokens(10));
        clock.set(UnixMillis::from_millis(-5));
        assert_eq!(take(&file, Pool::Write, 10), Grant::Wait(100_000_000));
        clock.set(UnixMillis::from_millis(100));
        assert_eq!(take(&file, Pool::Write, 10), Grant::Tokens(10));
    }

    #[test]
    fn a_file_that_was_rebuilt_before_the_clock_was_set_back_fills_new_buckets() {
        let (scratch, clock) = (Scratch::new("rebuilt-back"), clock());
        std::fs::write(&scratch.0, "no budget").unwrap();
        let file = scratch.open(&clock);
        assert_eq!(take(&file, Pool::Write, 10), Grant::Wait(100_000_000));
        clock.set(UnixMillis::from_millis(NOW - 3_600_000));
        for pool in [Pool::Write, Pool::Read] {
            assert_eq!(take(&file, pool, 10), Grant::Wait(100_000_000));
        }
        clock.advance(Duration::from_millis(100));
        for pool in [Pool::Write, Pool::Read] {
            assert_eq!(take(&file, pool, 10), Grant::Tokens(10));
        }
    }

    #[test]
    fn a_file_that_is_full_is_an_error() {
        let (scratch, clock) = (Scratch::new("full"), clock());
        let file = scratch.open(&clock);
        for shard in 0..SLOTS {
            let shard = Pool::Shard(u32::try_from(shard).unwrap());
            assert_eq!(take(&file, shard, 1), Grant::Tokens(1));
        }
        let error = file.try_take(&slice(Pool::Read, 1)).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("no room"), "{source}");
        assert_eq!(take(&file, Pool::Shard(0), 1), Grant::Tokens(1));
    }

    #[test]
    fn a_path_that_cannot_be_opened_is_named() {
        let error = LockFile::open("/nowhere/at/all").unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
