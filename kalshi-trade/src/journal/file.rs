//! A journal in a file.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kalshi_sdk::auth::{Clock, SystemClock};

use super::{
    Appended, History, Journal, JournalError, JournalErrorKind, OwnIds, Product, Record, Session,
    history::SettledCounts,
    record::{HEADER, MAX_LINE, frame, unframe},
};

/// The number of settled intents and changes from which on opening a journal compacts it.
const COMPACT_FROM: usize = 1_000;

/// The number of settled intents and changes that are not remembered from which on a journal that is
/// open is to be compacted: some ten megabytes.
const COMPACT_OPEN_FROM: usize = 20_000;

/// What a record of a journal survives, once it is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The death of the process: the operating system has it. An append is a write to the file by the
    /// thread that places: if the disk stalls so that it blocks (a frozen file system, a network file
    /// system without its server), that thread of the runtime stands still, cancels included.
    #[default]
    Process,
    /// A power loss, too: the disk has it. Each commit waits for the disk, on a thread of its own; those
    /// that wait at the same time share one write. Orders wait for it, and cancels no longer than a
    /// quarter of a second.
    Disk,
}

/// A journal in a file, which one process has open.
///
/// Opening it again after a crash finds every record that was committed. A last line that was not
/// written to its end is cut off: what it speaks of was not sent. Damage before that refuses to
/// open. A file beside it, with `.lock` behind the name, keeps other processes out; it stays.
///
/// # Examples
///
/// ```
/// # let path = std::env::temp_dir().join(format!("kalshi-trade-doc-{}", std::process::id()));
/// use kalshi_trade::journal::{FileJournal, Journal, JournalErrorKind};
///
/// let journal = FileJournal::builder(&path).open()?;
/// assert_eq!(journal.session().number, 1);
/// let second = FileJournal::builder(&path).open().unwrap_err();
/// assert_eq!(second.kind(), JournalErrorKind::Locked);
/// # drop(journal);
/// # std::fs::remove_file(&path)?;
/// # std::fs::remove_file(path.with_extension("lock")).or_else(|_| {
/// #     std::fs::remove_file(format!("{}.lock", path.display()))
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FileJournal {
    path: PathBuf,
    durability: Durability,
    session: Session,
    state: Mutex<State>,
    /// The sum of the records. Locked after `state`, and never while the file is written, so that
    /// reading it does not wait for the disk.
    history: Mutex<History>,
    /// The number of records that the disk has. Locked before `state`, by those who wait.
    synced: Mutex<u64>,
    /// The number of records that nothing needs any more from which on the file is rewritten.
    rewrite_from: usize,
    /// Holds the lock.
    _lock: File,
}

struct State {
    storage: Arc<dyn Storage>,
    written: u64,
    is_poisoned: bool,
    /// The line that is written: kept for its memory.
    line: Vec<u8>,
    /// While the file is rewritten, the lines that were written since that began.
    since: Option<Vec<u8>>,
    /// The number of records that nothing needs any more from which on the file is to be rewritten.
    compact_from: usize,
}

impl State {
    fn new(storage: Arc<dyn Storage>, compact_from: usize) -> Self {
        Self {
            storage,
            written: 0,
            is_poisoned: false,
            line: Vec::new(),
            since: None,
            compact_from,
        }
    }
}

/// A file that lines are appended to.
trait Storage: Send + Sync {
    fn write_all(&self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

impl Storage for File {
    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        Write::write_all(&mut file, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Builds a [`FileJournal`].
#[derive(Debug)]
#[must_use = "call `open`"]
pub struct FileJournalBuilder {
    path: PathBuf,
    durability: Durability,
    clock: Arc<dyn Clock>,
    rewrite_from: usize,
}

impl FileJournalBuilder {
    /// Sets what a committed record survives; the death of the process by default.
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Takes the time of the opening from this clock; by default from the machine's.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how many settled orders and changes that nothing needs any more make the file be
    /// [rewritten](Journal::rewrite) while it is open: 20,000 unless set, some ten megabytes, and at
    /// least 1. The last 2,000 orders are not among them.
    pub fn with_rewrite_from(mut self, settled: usize) -> Self {
        self.rewrite_from = settled.max(1);
        self
    }

    /// Opens the journal, or creates it. It blocks while the file is read.
    ///
    /// Where a thousand intents and changes or more are settled, it is compacted.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Locked`] if it is open elsewhere, [`JournalErrorKind::Corrupt`] or
    /// [`JournalErrorKind::Version`] if it cannot be trusted; the file is as it was then.
    /// [`JournalErrorKind::Io`] for any failure of the disk.
    pub fn open(self) -> Result<FileJournal, JournalError> {
        let Self { path, durability, clock, rewrite_from } = self;
        // Two names of one file must not make two locks, and a relative one must not name another file
        // once the process works in another directory. A file that is not there yet has no such name.
        drop(open_file(&path, &path)?);
        let path =
            fs::canonicalize(&path).map_err(|error| JournalError::io("open", &path, error))?;
        let lock = open_file(&beside(&path, ".lock"), &path)?;
        try_lock(&lock, &path)?;
        let file = open_file(&path, &path)?;
        try_lock(&file, &path)?;
        let Contents { history, tail } = read(&file, &path)?;
        check_products(&history, &path, Product::is_supported)?;
        prepare_tail(&file, tail).map_err(|error| JournalError::io("write", &path, error))?;

        let number = history.session().map_or(0, |session| session.number).checked_add(1);
        let number = number.ok_or_else(|| {
            JournalError::new(JournalErrorKind::Invalid, "the journal was opened too often")
        })?;
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(|error| {
            JournalError::new(JournalErrorKind::Io, format!("no random number: {error}"))
        })?;
        let session = Session { number, nonce: u64::from_ne_bytes(nonce), opened: clock.now() };
        let storage: Arc<dyn Storage> = Arc::new(file);
        let journal = FileJournal {
            path,
            durability,
            session,
            state: Mutex::new(State::new(storage, rewrite_from)),
            history: Mutex::new(history),
            synced: Mutex::new(0),
            rewrite_from,
            _lock: lock,
        };
        let opened = journal.append(&Record::Opened(session))?;
        if durability == Durability::Disk {
            let synced = sync_directory(&journal.path);
            synced.map_err(|error| JournalError::io("write", &journal.path, error))?;
        }
        journal.commit(opened)?;
        let settled = {
            let history = journal.lock_history();
            let triggers = history.settled_trigger_count();
            let others = history.settled_change_count().saturating_add(triggers);
            history.settled_count().saturating_add(others)
        };
        if settled >= COMPACT_FROM {
            journal.compact()?;
        }
        Ok(journal)
    }
}

impl FileJournal {
    /// Returns a builder of the journal in a file.
    pub fn builder(path: impl Into<PathBuf>) -> FileJournalBuilder {
        FileJournalBuilder {
            path: path.into(),
            durability: Durability::default(),
            clock: Arc::new(SystemClock),
            rewrite_from: COMPACT_OPEN_FROM,
        }
    }

    /// Rewrites the file without what is settled. It blocks while the file is written.
    ///
    /// The sessions that have placed orders stay in it, the last 10,000 of them: by their marks an
    /// order that still rests is known to be yours, see [`History::own_ids`].
    ///
    /// The new file takes the place of the old one when the disk has it, so a crash leaves one of
    /// the two.
    ///
    /// # Errors
    ///
    /// [`JournalErrorKind::Io`]; the old file goes on, unless it is not known which of the two a
    /// power loss would leave: then nothing more is taken until the journal is opened again.
    pub fn compact(&self) -> Result<(), JournalError> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        if state.is_poisoned {
            return Err(JournalError::poisoned());
        }
        let failed = |error| JournalError::io("compact", &self.path, error);
        let new_path = beside(&self.path, ".new");
        let records = self.lock_history().compacted();
        let written = write_new(&new_path, &records);
        let file = match written {
            Ok(file) => file,
            Err(error) => {
                // It may stay: the next attempt begins with an empty one.
                let _ = fs::remove_file(&new_path);
                return Err(failed(error));
            }
        };
        try_lock(&file, &self.path)?;
        fs::rename(&new_path, &self.path).map_err(failed)?;
        state.storage = Arc::new(file);
        self.lock_history().forget_settled();
        *synced = state.written;
        sync_directory(&self.path).map_err(|error| {
            state.is_poisoned = true;
            failed(error)
        })
    }

    /// Rewrites the file without what nothing needs any more, while appending goes on.
    fn rewrite(&self) -> Result<(), JournalError> {
        // Who waits for the disk waits for the new file, too; no other call rewrites it meanwhile.
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, before) = self.begin_rewrite()?;
        let new_path = beside(&self.path, ".new");
        let written = self.end_rewrite(&new_path, write_new(&new_path, &records), &before)?;
        sync_directory(&self.path).map_err(|error| {
            self.state().is_poisoned = true;
            JournalError::io("compact", &self.path, error)
        })?;
        *synced = written;
        Ok(())
    }

    /// Returns the records of the new file. From here on what is appended is kept for it, too.
    fn begin_rewrite(&self) -> Result<(Vec<Record>, SettledCounts), JournalError> {
        let mut state = self.state();
        if state.is_poisoned {
            return Err(JournalError::poisoned());
        }
        state.since = Some(Vec::new());
        let history = self.lock_history();
        let mut records = history.compacted();
        records.extend(history.remembered());
        Ok((records, history.settled_counts()))
    }

    /// Goes on with the new file, and returns the number of records that it has.
    fn end_rewrite(
        &self,
        new_path: &Path,
        file: io::Result<File>,
        before: &SettledCounts,
    ) -> Result<u64, JournalError> {
        let mut state = self.state();
        let since = state.since.take().unwrap_or_default();
        let replaced = file
            .map_err(|error| JournalError::io("compact", &self.path, error))
            .and_then(|file| self.replace(new_path, file, &since, &mut state));
        if let Err(error) = replaced {
            // It may stay: the next attempt begins with an empty one.
            let _ = fs::remove_file(new_path);
            state.compact_from = state.compact_from.saturating_add(self.rewrite_from);
            return Err(error);
        }
        self.lock_history().forget_records(before);
        state.compact_from = self.rewrite_from;
        Ok(state.written)
    }

    /// Puts a new file in the place of the old one, with the lines that were written since it was
    /// begun. After an error the old one goes on.
    fn replace(
        &self,
        new_path: &Path,
        file: File,
        since: &[u8],
        state: &mut State,
    ) -> Result<(), JournalError> {
        if state.is_poisoned {
            return Err(JournalError::poisoned());
        }
        let failed = |error| JournalError::io("compact", &self.path, error);
        Storage::write_all(&file, since).map_err(failed)?;
        if self.durability == Durability::Disk && !since.is_empty() {
            file.sync().map_err(failed)?;
        }
        try_lock(&file, &self.path)?;
        fs::rename(new_path, &self.path).map_err(failed)?;
        state.storage = Arc::new(file);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for FileJournal {
    fn append(&self, record: &Record) -> Result<Appended, JournalError> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.is_poisoned {
            return Err(JournalError::poisoned());
        }
        let invalid = |why: &str| JournalError::new(JournalErrorKind::Invalid, why);
        self.lock_history().check(record).map_err(invalid)?;
        state.line.clear();
        let line = record.append_line(&mut state.line);
        line.ok_or_else(|| invalid("the record is too long for a line"))?;
        if let Err(error) = state.storage.write_all(&state.line) {
            // A part of the line may be there. It is the last one, so that opening cuts it off.
            state.is_poisoned = true;
            return Err(JournalError::io("write", &self.path, error));
        }
        if let Some(since) = &mut state.since {
            since.extend_from_slice(&state.line);
        }
        let mut history = self.lock_history();
        history.add(record);
        history.forget_oldest();
        drop(history);
        state.written = state.written.saturating_add(1);
        Ok(Appended::new(state.written))
    }

    fn commit(&self, appended: Appended) -> Result<(), JournalError> {
        if self.durability == Durability::Process {
            return Ok(());
        }
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced >= appended.number() {
            return Ok(());
        }
        // Appending goes on meanwhile: what comes after this belongs to the next one.
        let (storage, written) = {
            let state = self.state();
            if state.is_poisoned {
                return Err(JournalError::poisoned());
            }
            (Arc::clone(&state.storage), state.written)
        };
        if let Err(error) = storage.sync() {
            // After a failure the next attempt may succeed without the data being there.
            self.state().is_poisoned = true;
            return Err(JournalError::io("write", &self.path, error));
        }
        *synced = written;
        Ok(())
    }

    fn commit_blocks(&self) -> bool {
        self.durability == Durability::Disk
    }

    fn session(&self) -> Session {
        self.session
    }

    fn history(&self) -> History {
        self.lock_history().clone()
    }

    fn own_ids(&self) -> OwnIds {
        self.lock_history().own_ids()
    }

    fn is_rewrite_due(&self) -> bool {
        // A disk that stalls while it is written to must not hold up who asks.
        let Ok(state) = self.state.try_lock() else { return false };
        let is_due = self.lock_history().settled_counts().stale() >= state.compact_from;
        is_due && state.since.is_none() && !state.is_poisoned
    }

    fn rewrite(&self) -> Result<(), JournalError> {
        Self::rewrite(self)
    }
}

impl fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileJournal")
            .field("path", &self.path)
            .field("durability", &self.durability)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// What a file holds.
#[derive(Debug)]
struct Contents {
    history: History,
    tail: Tail,
}

/// The end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// There is no header yet.
    Empty,
    /// Every line is complete.
    Complete,
    /// The last line lacks nothing but its line feed.
    Unended,
    /// The last line was not written to its end: it begins at this byte.
    Torn(u64),
}

/// Checks that what is not settled is of products that can be settled.
fn check_products(
    history: &History,
    path: &Path,
    is_supported: fn(Product) -> bool,
) -> Result<(), JournalError> {
    if !history.has_unsupported(is_supported) {
        return Ok(());
    }
    let text = format!(
        "the journal {} has orders or exit triggers of perpetual futures that are not settled: open it with a program \
         that was built with the feature `perps`",
        path.display()
    );
    Err(JournalError::new(JournalErrorKind::Version, text))
}

/// Reads a file, with bounded memory for a line.
fn read(file: &File, path: &Path) -> Result<Contents, JournalError> {
    let mut reader = BufReader::new(file);
    let mut contents = Contents { history: History::default(), tail: Tail::Empty };
    let (mut offset, mut line) = (0_u64, Vec::new());
    // A line and one byte more, by which a longer one shows.
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX).saturating_add(1);
    loop {
        line.clear();
        let read = (&mut reader).take(limit).read_until(b'\n', &mut line);
        let read = read.map_err(|error| JournalError::io("read", path, error))?;
        if read == 0 {
            contents.history.forget_oldest();
            return Ok(contents);
        }
        let corrupt = |why: &str| JournalError::corrupt(path, offset, why);
        if line.len() > MAX_LINE {
            return Err(corrupt("the line is too long"));
        }
        let is_ended = line.pop_if(|byte| *byte == b'\n').is_some();
        let json = unframe(&line);
        if offset == 0 {
            match json {
                Some(HEADER) => {}
                Some(_) => {
                    let text = format!("{} is no journal that this version reads", path.display());
                    return Err(JournalError::new(JournalErrorKind::Version, text));
                }
                None if !is_ended && header().as_bytes().starts_with(&line) => {
                    contents.tail = Tail::Empty;
                    return Ok(contents);
                }
                None => return Err(corrupt("its first line is not that of a journal")),
            }
        } else {
            match json {
                Some(json) => {
                    let record = Record::from_json(json).map_err(|why| corrupt(&why))?;
                    // Nothing is forgotten before the end: what was written in full may have been
                    // settled anew much later.
                    contents.history.check_line(&record).map_err(corrupt)?;
                    contents.history.add(&record);
                }
                // It was the last write, which never returned.
                None if !is_ended => {
                    contents.history.forget_oldest();
                    contents.tail = Tail::Torn(offset);
                    return Ok(contents);
                }
                None => return Err(corrupt("its checksum does not fit")),
            }
        }
        contents.tail = if is_ended { Tail::Complete } else { Tail::Unended };
        offset = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
}

/// Makes the file ready for the next line.
fn prepare_tail(mut file: &File, tail: Tail) -> io::Result<()> {
    match tail {
        Tail::Complete => file.seek(SeekFrom::End(0)).map(|_| ()),
        Tail::Unended => {
            file.seek(SeekFrom::End(0))?;
            file.write_all(b"\n")
        }
        Tail::Torn(offset) => {
            file.set_len(offset)?;
            file.seek(SeekFrom::Start(offset)).map(|_| ())
        }
        Tail::Empty => {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(header().as_bytes())
        }
    }
}

fn header() -> String {
    frame(HEADER)
}

/// Writes a new file of these records, and returns it when the disk has it.
fn write_new(path: &Path, records: &[Record]) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let mut text = header().into_bytes();
    for record in records {
        let line = record.append_line(&mut text);
        line.ok_or_else(|| io::Error::other("a record is too long for a line"))?;
    }
    Storage::write_all(&file, &text)?;
    file.sync_all()?;
    Ok(file)
}

/// Opens a file of a journal for reading and writing, and creates it if there is none.
fn open_file(path: &Path, journal: &Path) -> Result<File, JournalError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.map_err(|error| JournalError::io("open", journal, error))
}

fn try_lock(file: &File, journal: &Path) -> Result<(), JournalError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let text = format!("the journal {} is open elsewhere", journal.display());
            Err(JournalError::new(JournalErrorKind::Locked, text))
        }
        Err(TryLockError::Error(error)) => Err(JournalError::io("lock", journal, error)),
    }
}

/// Returns the path with an ending behind the whole name.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Makes the disk know the names in the directory of a file. Elsewhere than on Unix a directory
/// cannot be opened for that; the file system orders it.
fn sync_directory(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kalshi_types::UnixMillis;

    use super::*;
    use crate::journal::{
        ChangeIntent, ChangeSettlement, ClientOrderId, Intent, OrderChange, Settlement,
        TriggerIntent,
    };

    /// A disk that writes a part of what it is given, or does not sync.
    #[derive(Default)]
    struct Disk {
        room: Mutex<Option<usize>>,
        bytes: Mutex<Vec<u8>>,
        fails_sync: bool,
        syncs: AtomicUsize,
        /// Held while a write is to stall.
        stall: Mutex<()>,
        /// Writes that were begun.
        writes: AtomicUsize,
    }

    impl Storage for Arc<Disk> {
        fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
            self.writes.fetch_add(1, Ordering::SeqCst);
            drop(self.stall.lock().unwrap());
            let room = self.room.lock().unwrap().unwrap_or(usize::MAX).min(bytes.len());
            self.bytes.lock().unwrap().extend_from_slice(&bytes[..room]);
            if room < bytes.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            self.syncs.fetch_add(1, Ordering::SeqCst);
            if self.fails_sync { Err(io::Error::other("no disk")) } else { Ok(()) }
        }
    }

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("kalshi-trade-{name}-{}", std::process::id()))
    }

    fn on(disk: &Arc<Disk>, name: &str, durability: Durability) -> FileJournal {
        let session = Session { number: 1, nonce: 1, opened: UnixMillis::EPOCH };
        let mut history = History::default();
        history.apply(&Record::Opened(session)).unwrap();
        let path = temporary(name);
        let lock = open_file(&beside(&path, ".lock"), &path).unwrap();
        fs::remove_file(beside(&path, ".lock")).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(Arc::clone(disk));
        FileJournal {
            path,
            durability,
            session,
            state: Mutex::new(State::new(storage, COMPACT_OPEN_FROM)),
            history: Mutex::new(history),
            synced: Mutex::new(0),
            rewrite_from: COMPACT_OPEN_FROM,
            _lock: lock,
        }
    }

    fn intent(number: u32) -> Record {
        let body = format!(r#"{{"client_order_id":"a-{number}","ticker":"T","side":"bid"}}"#);
        Record::Intent { intent: Intent::new(body).unwrap(), at: UnixMillis::EPOCH }
    }

    #[test]
    fn a_full_disk_refuses_the_record_and_all_after_it() {
        let disk = Arc::new(Disk::default());
        let journal = on(&disk, "full", Durability::Process);
        let first = journal.append(&intent(1)).unwrap();
        journal.commit(first).unwrap();
        let whole = disk.bytes.lock().unwrap().len();
        *disk.room.lock().unwrap() = Some(5);
        assert_eq!(journal.append(&intent(2)).unwrap_err().kind(), JournalErrorKind::Io);
        *disk.room.lock().unwrap() = None;
        // There is room again, but a part of a line is in the file.
        assert_eq!(journal.append(&intent(3)).unwrap_err().kind(), JournalErrorKind::Poisoned);
        assert_eq!(journal.compact().unwrap_err().kind(), JournalErrorKind::Poisoned);
        assert_eq!(disk.bytes.lock().unwrap().len(), whole + 5);
        assert_eq!(journal.history().unsettled().len(), 1);
    }

    #[test]
    fn what_is_known_can_be_read_while_the_disk_stalls() {
        let disk = Arc::new(Disk::default());
        let journal = Arc::new(on(&disk, "stall", Durability::Disk));
        let _ = journal.append(&intent(1)).unwrap();
        let stall = disk.stall.lock().unwrap();
        let writing = Arc::clone(&journal);
        let writer = std::thread::spawn(move || writing.append(&intent(2)).is_ok());
        while disk.writes.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        let (said, read) = std::sync::mpsc::channel();
        let reading = Arc::clone(&journal);
        let reader = std::thread::spawn(move || {
            let known = reading.history().unsettled().len();
            let read = (known, reading.own_ids().contains("a-1"), reading.is_rewrite_due());
            said.send(read).unwrap();
        });
        // Far longer than it takes, and not for good.
        let read = read.recv_timeout(std::time::Duration::from_secs(60));
        drop(stall);
        assert_eq!(read, Ok((1, true, false)));
        reader.join().unwrap();
        assert!(writer.join().unwrap());
        assert_eq!(journal.history().unsettled().len(), 2);
    }

    #[test]
    fn after_a_failed_sync_nothing_is_taken() {
        let disk = Arc::new(Disk { fails_sync: true, ..Disk::default() });
        let journal = on(&disk, "sync", Durability::Disk);
        let first = journal.append(&intent(1)).unwrap();
        assert_eq!(journal.commit(first).unwrap_err().kind(), JournalErrorKind::Io);
        assert_eq!(journal.commit(first).unwrap_err().kind(), JournalErrorKind::Poisoned);
        assert_eq!(journal.append(&intent(2)).unwrap_err().kind(), JournalErrorKind::Poisoned);
        assert_eq!(disk.syncs.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn one_sync_serves_all_records_that_were_written_before_it() {
        let disk = Arc::new(Disk::default());
        let journal = on(&disk, "group", Durability::Disk);
        let appended: Vec<Appended> =
            (1..=5).map(|number| journal.append(&intent(number)).unwrap()).collect();
        for appended in appended {
            journal.commit(appended).unwrap();
        }
        assert_eq!(disk.syncs.load(Ordering::SeqCst), 1);
        let later = journal.append(&intent(6)).unwrap();
        journal.commit(later).unwrap();
        assert_eq!(disk.syncs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_record_that_does_not_follow_is_not_written() {
        let disk = Arc::new(Disk::default());
        let journal = on(&disk, "invalid", Durability::Process);
        journal.commit(journal.append(&intent(1)).unwrap()).unwrap();
        let whole = disk.bytes.lock().unwrap().len();
        let other = r#"{"client_order_id":"a-1","ticker":"U","side":"bid"}"#;
        let reused = Record::Intent { intent: Intent::new(other).unwrap(), at: UnixMillis::EPOCH };
        let error = journal.append(&reused).unwrap_err();
        assert_eq!(error.kind(), JournalErrorKind::Invalid);
        assert!(error.to_string().contains("another order"));
        assert_eq!(disk.bytes.lock().unwrap().len(), whole);
        journal.commit(journal.append(&intent(2)).unwrap()).unwrap();
    }

    /// A journal of its own in a directory that goes with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = temporary(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn path(&self) -> PathBuf {
            self.0.join("journal")
        }

        fn open(&self) -> FileJournal {
            FileJournal::builder(self.path()).open().unwrap()
        }

        /// Returns the orders that a crash now would leave open, by opening a copy of the files.
        fn left(&self) -> Vec<String> {
            let copy = self.0.join("copy");
            fs::copy(self.path(), &copy).unwrap();
            let _ = fs::copy(beside(&self.path(), ".new"), beside(&copy, ".new"));
            let journal = FileJournal::builder(&copy).open().unwrap();
            let open = ids(&journal);
            // What lay beside it is no hindrance.
            journal.rewrite().unwrap();
            journal.compact().unwrap();
            assert_eq!(ids(&journal), open);
            open
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn ids(journal: &FileJournal) -> Vec<String> {
        let history = journal.history();
        history.unsettled().map(|one| one.intent.id().to_string()).collect()
    }

    fn place(journal: &FileJournal, number: u32) {
        journal.commit(journal.append(&intent(number)).unwrap()).unwrap();
    }

    fn settle(journal: &FileJournal, number: u32) {
        let id = format!("a-{number}").parse().unwrap();
        let settlement = crate::journal::Settlement::Withdrawn;
        let record = Record::Settled { id, settlement, at: UnixMillis::EPOCH };
        journal.commit(journal.append(&record).unwrap()).unwrap();
    }

    #[test]
    fn a_rewrite_that_is_interrupted_at_any_step_loses_nothing() {
        let directory = Directory::new("interrupted");
        let journal = directory.open();
        let new_path = beside(&directory.path(), ".new");
        place(&journal, 1);
        place(&journal, 2);
        settle(&journal, 2);
        assert_eq!(directory.left(), ["a-1"]);
        let (records, before) = journal.begin_rewrite().unwrap();
        place(&journal, 3);
        assert_eq!(directory.left(), ["a-1", "a-3"]);
        // The new file is there, in part.
        let text: Vec<u8> = records.iter().fold(header().into_bytes(), |mut text, record| {
            record.append_line(&mut text).unwrap();
            text
        });
        for part in [0, 1, text.len() / 2, text.len() - 1] {
            fs::write(&new_path, &text[..part]).unwrap();
            assert_eq!(directory.left(), ["a-1", "a-3"]);
        }
        let file = write_new(&new_path, &records);
        assert_eq!(fs::read(&new_path).unwrap(), text);
        place(&journal, 4);
        settle(&journal, 1);
        assert_eq!(directory.left(), ["a-3", "a-4"]);
        journal.end_rewrite(&new_path, file, &before).unwrap();
        assert!(!new_path.exists());
        assert_eq!(directory.left(), ["a-3", "a-4"]);
        place(&journal, 5);
        assert_eq!(directory.left(), ["a-3", "a-4", "a-5"]);
        let history = journal.history();
        drop(journal);
        // Every line of it has its checksum: it opens to the same.
        let journal = directory.open();
        let session = journal.session();
        let mut expected = history;
        expected.apply(&Record::Opened(session)).unwrap();
        assert_eq!(journal.history().settlement("a-1"), expected.settlement("a-1"));
        assert_eq!(ids(&journal), ["a-3", "a-4", "a-5"]);
    }

    #[test]
    fn a_disk_that_is_full_during_a_rewrite_leaves_the_old_file() {
        let directory = Directory::new("full-rewrite");
        let journal = directory.open();
        let new_path = beside(&directory.path(), ".new");
        place(&journal, 1);
        let (records, before) = journal.begin_rewrite().unwrap();
        drop(write_new(&new_path, &records).unwrap());
        place(&journal, 2);
        // The lines that came meanwhile find no room.
        let file = File::open(&new_path);
        let failed = journal.end_rewrite(&new_path, file, &before).unwrap_err();
        assert_eq!(failed.kind(), JournalErrorKind::Io);
        assert!(!new_path.exists(), "its room is free again");
        place(&journal, 3);
        assert_eq!(directory.left(), ["a-1", "a-2", "a-3"]);
        journal.rewrite().unwrap();
        place(&journal, 4);
        assert_eq!(directory.left(), ["a-1", "a-2", "a-3", "a-4"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_new_file_that_finds_no_room_leaves_the_old_one() {
        let directory = Directory::new("no-room");
        let journal = directory.open();
        place(&journal, 1);
        std::os::unix::fs::symlink("/dev/full", beside(&directory.path(), ".new")).unwrap();
        assert_eq!(journal.rewrite().unwrap_err().kind(), JournalErrorKind::Io);
        place(&journal, 2);
        std::os::unix::fs::symlink("/dev/full", beside(&directory.path(), ".new")).unwrap();
        assert_eq!(journal.compact().unwrap_err().kind(), JournalErrorKind::Io);
        place(&journal, 3);
        assert_eq!(directory.left(), ["a-1", "a-2", "a-3"]);
    }

    #[test]
    fn the_lock_is_kept_over_a_rewrite() {
        let directory = Directory::new("locked");
        let journal = directory.open();
        place(&journal, 1);
        for compact in [FileJournal::rewrite, FileJournal::compact] {
            compact(&journal).unwrap();
            for _ in 0..2 {
                let second = FileJournal::builder(directory.path()).open().unwrap_err();
                assert_eq!(second.kind(), JournalErrorKind::Locked);
                // The new file is locked itself, too.
                let _ = fs::remove_file(beside(&directory.path(), ".lock"));
            }
        }
        drop(journal);
        assert_eq!(ids(&directory.open()), ["a-1"]);
    }

    #[test]
    fn what_is_committed_during_rewrites_is_in_the_file_at_every_moment() {
        let directory = Directory::new("rewrites");
        let builder = FileJournal::builder(directory.path());
        let journal = builder.with_durability(Durability::Disk).open().unwrap();
        let committed = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3_u32)
                .map(|writer| {
                    let (journal, committed) = (&journal, &committed);
                    scope.spawn(move || {
                        for number in 0..10 {
                            let number = writer * 1_000 + number;
                            place(journal, number);
                            committed.lock().unwrap().push(format!("a-{number}"));
                        }
                    })
                })
                .collect();
            while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                journal.rewrite().unwrap();
                let known = committed.lock().unwrap().clone();
                let left = directory.left();
                assert!(known.iter().all(|id| left.contains(id)), "{known:?} {left:?}");
            }
        });
        assert_eq!((ids(&journal).len(), committed.lock().unwrap().len()), (30, 30));
        assert_eq!(*journal.synced.lock().unwrap(), journal.state().written);
    }

    #[cfg(unix)]
    #[test]
    fn a_journal_that_is_created_by_another_name_is_the_same_file() {
        let directory = Directory::new("names");
        let link = directory.0.join("link");
        fs::create_dir(directory.0.join("elsewhere")).unwrap();
        let path = directory.0.join("elsewhere").join("journal");
        // It leads to a file that is not there yet.
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let journal = FileJournal::builder(&link).open().unwrap();
        let second = FileJournal::builder(&path).open().unwrap_err();
        assert_eq!(second.kind(), JournalErrorKind::Locked);
        place(&journal, 1);
        for compact in [FileJournal::rewrite, FileJournal::compact] {
            compact(&journal).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        drop(journal);
        assert_eq!(ids(&FileJournal::builder(&path).open().unwrap()), ["a-1"]);
    }

    #[test]
    fn a_relative_path_is_not_one_of_another_directory_later() {
        let directory = Directory::new("relative");
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let path = directory.path();
        let relative = up.join(path.components().skip(1).collect::<PathBuf>());
        assert!(relative.is_relative());
        // It is created by that name.
        let journal = FileJournal::builder(&relative).open().unwrap();
        assert_eq!(journal.path, path.canonicalize().unwrap());
    }

    #[test]
    fn an_id_that_was_forgotten_and_is_used_again_can_be_read_again() {
        let directory = Directory::new("again");
        let journal = directory.open();
        for number in 0..2_001 {
            let _ = journal.append(&intent(number)).unwrap();
            settle(&journal, number);
        }
        // One that is remembered is refused; the oldest is not known any more.
        assert_eq!(journal.append(&intent(1)).unwrap_err().kind(), JournalErrorKind::Invalid);
        place(&journal, 0);
        assert_eq!(directory.left(), ["a-0"]);
        settle(&journal, 0);
        for number in 3_000..4_000 {
            let _ = journal.append(&intent(number)).unwrap();
            settle(&journal, number);
        }
        // Its second outcome is not forgotten in place of the first, which was the oldest.
        let path = directory.path();
        let history = read(&File::open(&path).unwrap(), &path).unwrap().history;
        assert_eq!(history.unsettled().len(), 0);
        assert!(history.settlement("a-0").is_some() && history.settlement("a-500").is_none());
        assert_eq!(journal.history().settlement("a-0"), history.settlement("a-0"));
    }

    #[test]
    fn a_journal_with_an_open_order_of_a_product_that_is_left_out_is_refused_and_kept() {
        let path = temporary("products");
        let body = r#"{"client_order_id":"a-1","ticker":"T","side":"bid"}"#;
        let perps = Intent::of(Product::Perps, body).unwrap();
        let at = UnixMillis::EPOCH;
        let without: fn(Product) -> bool = |product| product == Product::EventContracts;
        let history = || {
            let Contents { history, .. } = read(&File::open(&path).unwrap(), &path).unwrap();
            history
        };
        let open = || FileJournal::builder(&path).open().unwrap();
        let _ = open().append(&Record::Intent { intent: perps.clone(), at }).unwrap();
        let error = check_products(&history(), &path, without).unwrap_err();
        assert_eq!(error.kind(), JournalErrorKind::Version);
        assert!(error.to_string().contains("the feature `perps`"), "{error}");
        assert!(check_products(&history(), &path, |_| true).is_ok());
        assert_eq!(history().unsettled().next().map(|open| open.intent.clone()), Some(perps));
        let id: ClientOrderId = "a-1".parse().unwrap();
        let settlement = Settlement::Withdrawn;
        // The id is taken, whatever the product: once it is settled, too.
        let intent = Intent::new(body).unwrap();
        let journal = open();
        assert!(journal.append(&Record::Intent { intent: intent.clone(), at }).is_err());
        let _ = journal.append(&Record::Settled { id, settlement, at }).unwrap();
        assert!(journal.append(&Record::Intent { intent, at }).is_err());
        drop(journal);
        assert!(check_products(&history(), &path, without).is_ok());
        let change = ChangeIntent::new(1, "o-1", "T", OrderChange::Cancel);
        let intent = ChangeIntent { product: Product::Perps, ..change };
        let _ = open().append(&Record::Change { intent: intent.clone(), at }).unwrap();
        assert!(check_products(&history(), &path, without).is_err());
        assert_eq!(history().unsettled_changes().next().map(|open| &open.intent), Some(&intent));
        // Compacting leaves it what it is.
        open().compact().unwrap();
        assert!(check_products(&history(), &path, without).is_err());
        let settlement = ChangeSettlement::Withdrawn;
        let _ = open().append(&Record::ChangeSettled { number: 1, settlement, at }).unwrap();
        assert!(check_products(&history(), &path, without).is_ok());
        // An exit trigger is of perpetual futures, whatever it is of.
        let intent = TriggerIntent::new("t-1", "T", None, "{}".to_owned());
        let _ = open().append(&Record::Trigger { intent, at }).unwrap();
        assert!(check_products(&history(), &path, without).is_err());
    }

    #[test]
    fn a_rewrite_is_due_when_much_is_settled_and_after_a_failure_when_twice_that_is() {
        let path = temporary("due");
        let journal = FileJournal::builder(&path).open().unwrap();
        let change = |number| {
            let intent = ChangeIntent::new(number, "o-1", "T", OrderChange::Cancel);
            let at = UnixMillis::EPOCH;
            let settlement = ChangeSettlement::Reached;
            let _ = journal.append(&Record::Change { intent, at }).unwrap();
            let _ = journal.append(&Record::ChangeSettled { number, settlement, at }).unwrap();
        };
        (1..COMPACT_OPEN_FROM as u64).for_each(change);
        assert!(!journal.is_rewrite_due());
        change(COMPACT_OPEN_FROM as u64);
        assert!(journal.is_rewrite_due());
        let before = fs::metadata(&path).unwrap().len();
        // The new file cannot be written.
        fs::create_dir(beside(&path, ".new")).unwrap();
        assert_eq!(journal.rewrite().unwrap_err().kind(), JournalErrorKind::Io);
        assert!(!journal.is_rewrite_due());
        change(1);
        fs::remove_dir(beside(&path, ".new")).unwrap();
        journal.rewrite().unwrap();
        assert!(fs::metadata(&path).unwrap().len() < before / 1_000);
        assert_eq!(journal.history().settled_change_count(), 0);
        drop(journal);
        assert!(FileJournal::builder(&path).open().is_ok());
        for path in [beside(&path, ".lock"), path] {
            fs::remove_file(path).unwrap();
        }
    }
}
