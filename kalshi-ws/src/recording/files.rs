//! The thread that writes the files of a recording, and what it does when the disk does not.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use kalshi_types::UnixMillis;
use tokio::sync::watch;

use super::{
    line::{RecordedEvent, RecordedLine, RecordingHeader},
    recorder::WriterState,
};

/// The longest time that a line waits in memory before it is in the file.
const FLUSH: Duration = Duration::from_secs(1);

/// The pause before the first attempt to go on after a failure. It doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1_000 });

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The place of the files.
pub(super) trait Disk: Send + 'static {
    type File: Write + Send;

    /// Creates a file that does not exist yet.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Makes what was written last.
    fn sync(&self, file: Self::File) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The disk of this machine.
pub(super) struct Local;

impl Disk for Local {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn sync(&self, file: File) -> io::Result<()> {
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// The files of a recording.
pub(super) struct Files<D: Disk> {
    disk: D,
    folder: PathBuf,
    name: String,
    number: u32,
    bytes_per_file: u64,
    header: RecordingHeader,
    current: Option<Current<D>>,
    /// Lines that may not be in any file.
    lost: u64,
    /// The time of the last line.
    at: UnixMillis,
}

/// The file that is being written.
struct Current<D: Disk> {
    path: PathBuf,
    encoder: GzEncoder<BufWriter<D::File>>,
    /// The bytes of its lines.
    written: u64,
    /// Lines that may not be in the file yet.
    unflushed: u64,
    /// The time by which they are to be there.
    flush_at: Option<Instant>,
    was_flushed: bool,
}

impl<D: Disk> Files<D> {
    pub(super) fn new(
        disk: D,
        folder: PathBuf,
        name: String,
        bytes_per_file: u64,
        header: RecordingHeader,
    ) -> Self {
        Self {
            disk,
            folder,
            name,
            number: 0,
            bytes_per_file,
            header,
            current: None,
            lost: 0,
            at: UnixMillis::EPOCH,
        }
    }

    /// Begins the next file.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        loop {
            let number = self.number.checked_add(1).ok_or_else(|| {
                io::Error::other("there are no numbers left for the files of the recording")
            })?;
            let path = self.folder.join(format!("{}-{number:05}.jsonl.gz", self.name));
            let created = self.disk.create(&path);
            if let Err(error) = &created
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                // The number is free.
                return created.map(drop);
            }
            self.number = number;
            if let Ok(file) = created {
                self.current = Some(Current {
                    path,
                    encoder: GzEncoder::new(BufWriter::new(file), Compression::fast()),
                    written: 0,
                    unflushed: 0,
                    flush_at: None,
                    was_flushed: false,
                });
                return Ok(());
            }
        }
    }

    /// Writes a line, into the next file if this one is full.
    fn write(&mut self, line: &RecordedLine) -> io::Result<()> {
        if self.current.as_ref().is_some_and(|current| current.written >= self.bytes_per_file) {
            self.finish()?;
        }
        if self.current.is_none() {
            self.begin()?;
        }
        self.at = line.at;
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.written == 0 {
            if self.header.started == UnixMillis::EPOCH {
                self.header.started = line.at;
            }
            let header = RecordedEvent::Header(self.header.clone());
            current.append(&RecordedLine { at: line.at, event: header })?;
        }
        current.append(line)?;
        current.unflushed += 1;
        Ok(())
    }

    /// Goes on after a failure: in a new file, with the number of lines that are missing before the
    /// line that could not be written.
    fn resume(&mut self, line: Option<&RecordedLine>) -> io::Result<()> {
        if self.current.is_none() {
            self.begin()?;
        }
        if self.lost > 0 {
            let at = line.map_or(self.at, |line| line.at);
            self.write(&RecordedLine { at, event: RecordedEvent::Lost(self.lost) })?;
        }
        if let Some(line) = line {
            self.write(line)?;
        }
        // Only what is in the file shows that it can be written.
        if let Some(current) = &mut self.current {
            current.flush()?;
        }
        self.lost = 0;
        Ok(())
    }

    /// Returns the time until which the next line may be waited for.
    fn flush_at(&self) -> Option<Instant> {
        self.current.as_ref()?.flush_at
    }

    /// Writes what is in memory, if it is time for that.
    fn flush_if_due(&mut self) -> io::Result<()> {
        match &mut self.current {
            Some(current) if current.flush_at.is_some_and(|at| at <= Instant::now()) => {
                current.flush()
            }
            _ => Ok(()),
        }
    }

    /// Ends the file, and makes it last.
    fn finish(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        // It stays the current one until all of its lines are in the file.
        current.encoder.try_finish()?;
        current.encoder.get_mut().flush()?;
        let Some(Current { encoder, unflushed, .. }) = self.current.take() else { return Ok(()) };
        let buffer = encoder.finish()?;
        let synced = buffer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| self.disk.sync(file));
        if synced.is_err() {
            self.lost += unflushed;
        }
        synced
    }

    /// Gives up the file that is being written.
    fn abandon(&mut self) {
        let Some(current) = self.current.take() else { return };
        let Current { path, encoder, unflushed, was_flushed, .. } = current;
        self.lost += unflushed;
        // What it has in memory is tried once more, and does not count.
        drop(encoder);
        if !was_flushed && self.disk.remove(&path).is_ok() {
            // There is nothing in it that could be relied on.
            self.number -= 1;
        }
    }
}

impl<D: Disk> Current<D> {
    fn append(&mut self, line: &RecordedLine) -> io::Result<()> {
        let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
        text.push(b'\n');
        self.flush_at.get_or_insert_with(|| Instant::now() + FLUSH);
        self.encoder.write_all(&text)?;
        self.written += text.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()?;
        self.unflushed = 0;
        self.flush_at = None;
        self.was_flushed = true;
        Ok(())
    }
}

/// The lines that a recorder hands over.
pub(super) struct Incoming {
    pub(super) lines: Receiver<RecordedLine>,
    /// The bytes of those that are not written yet.
    pub(super) waiting: Arc<AtomicUsize>,
    /// Ends with the recorder.
    pub(super) alive: Receiver<std::convert::Infallible>,
}

/// Writes what comes until the recorder is gone.
///
/// What cannot be written stays in the queue meanwhile, and the recorder counts what there is no room
/// for.
pub(super) fn write<D: Disk>(
    incoming: &Incoming,
    mut files: Files<D>,
    state: &watch::Sender<WriterState>,
) -> io::Result<()> {
    loop {
        let received = match files.flush_at() {
            None => incoming.lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => incoming.lines.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let line = match received {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = files.flush_if_due() {
                    recover(incoming, &mut files, state, error, None)?;
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => match files.finish() {
                Ok(()) => return Ok(()),
                Err(error) => {
                    recover(incoming, &mut files, state, error, None)?;
                    continue;
                }
            },
        };
        if let Err(error) = files.write(&line) {
            recover(incoming, &mut files, state, error, Some(&line))?;
        } else if let Err(error) = files.flush_if_due() {
            recover(incoming, &mut files, state, error, None)?;
        }
        // The last marker was not counted.
        let bytes = line.event.bytes();
        let _ = incoming.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
            Some(waiting.saturating_sub(bytes))
        });
    }
}

/// Tries to go on in a new file, until that succeeds or the recorder is gone. The line is one that
/// was not written.
fn recover<D: Disk>(
    incoming: &Incoming,
    files: &mut Files<D>,
    state: &watch::Sender<WriterState>,
    mut error: io::Error,
    line: Option<&RecordedLine>,
) -> io::Result<()> {
    files.abandon();
    let lost = files.lost;
    let mut pause = FIRST_PAUSE;
    loop {
        tracing::error!(%error, folder = %files.folder.display(), "could not write a recording");
        state.send_replace(WriterState::Failing(Arc::new(error)));
        let waited = incoming.alive.recv_timeout(pause);
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        match files.resume(line) {
            Ok(()) => {
                tracing::info!(lost, "a recording is written again");
                state.send_replace(WriterState::Writing);
                return Ok(());
            }
            // The recorder is gone: that was the last attempt.
            Err(next) if waited == Err(RecvTimeoutError::Disconnected) => return Err(next),
            Err(next) => error = next,
        }
        files.abandon();
        // What the attempt has written is written again.
        files.lost = lost;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        io::Read as _,
        sync::{Mutex, MutexGuard},
        thread,
    };

    use flate2::read::MultiGzDecoder;

    use super::*;
    use crate::{
        Tap as _,
        recording::{Recorder, Writer},
    };

    /// A disk in memory that is full when a test says so.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        files: BTreeMap<PathBuf, Vec<u8>>,
        is_full: bool,
        /// No file can be created.
        is_gone: bool,
        /// What is written is not kept.
        forgets: bool,
        failures: u32,
    }

    struct InMemory(Memory, PathBuf);

    impl Memory {
        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap()
        }

        /// Returns the lines of the files as far as they can be read, and without their headers.
        fn lines(&self) -> Vec<RecordedEvent> {
            let mut lines = Vec::new();
            for bytes in self.state().files.values() {
                let mut text = Vec::new();
                // A file that was given up ends in the middle.
                let _ = MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text);
                let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let text = std::str::from_utf8(&text[..whole]).unwrap();
                lines.extend(text.lines().map(|line| line.parse::<RecordedLine>().unwrap().event));
            }
            lines.retain(|line| !matches!(line, RecordedEvent::Header(_)));
            lines
        }

        /// Waits until something holds, whatever time that takes.
        fn wait(&self, holds: impl Fn(&State) -> bool) {
            while !holds(&self.state()) {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    impl Write for InMemory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.state();
            if state.is_full {
                state.failures += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            // A file that was removed can be written, and is nowhere.
            if let Some(file) = state.files.get_mut(&self.1) {
                file.extend(bytes);
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Memory {
        type File = InMemory;

        fn create(&self, path: &Path) -> io::Result<InMemory> {
            let mut state = self.state();
            if state.is_gone {
                state.failures += 1;
                return Err(io::ErrorKind::NotFound.into());
            }
            if state.files.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.files.insert(path.to_owned(), Vec::new());
            Ok(InMemory(self.clone(), path.to_owned()))
        }

        fn sync(&self, file: InMemory) -> io::Result<()> {
            let mut state = self.state();
            if state.forgets {
                state.failures += 1;
                if let Some(bytes) = state.files.get_mut(&file.1) {
                    bytes.clear();
                }
                return Err(io::ErrorKind::Other.into());
            }
            Ok(())
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.state().files.remove(path);
            Ok(())
        }
    }

    fn start(disk: &Memory, bytes_per_file: u64, queue_bytes: usize) -> (Recorder, Writer) {
        Recorder::builder("folder", "x")
            .with_bytes_per_file(bytes_per_file)
            .with_queue_bytes(queue_bytes)
            .start_on(disk.clone())
            .unwrap()
    }

    fn receive(recorder: &mut Recorder, numbers: std::ops::Range<u32>) {
        for number in numbers {
            recorder.received(UnixMillis::from_millis(i64::from(number)), &number.to_string());
        }
    }

    /// Returns the numbers of the frames, and how many lines are said to be missing before each.
    fn played(disk: &Memory) -> (Vec<u32>, u64) {
        let (mut numbers, mut lost) = (Vec::new(), 0);
        for line in disk.lines() {
            match line {
                RecordedEvent::Received(text) => numbers.push(text.parse().unwrap()),
                RecordedEvent::Lost(lines) => lost += lines,
                other => panic!("{other:?}"),
            }
        }
        (numbers, lost)
    }

    #[tokio::test]
    async fn a_disk_that_is_full_for_a_while_ends_no_recording() {
        let disk = Memory::default();
        // There is room for some of the lines that come meanwhile.
        let (mut recorder, mut writer) = start(&disk, u64::MAX, 4_000);
        assert!(matches!(writer.state(), WriterState::Writing));
        receive(&mut recorder, 0..10);
        while played(&disk).0.len() < 10 {
            thread::sleep(Duration::from_millis(2));
        }
        // This one is in memory when the disk is found to be full.
        disk.state().is_full = true;
        receive(&mut recorder, 10..11);
        disk.wait(|state| state.failures > 2);
        assert!(matches!(writer.changed().await, WriterState::Failing(_)));
        assert!(!writer.is_finished());
        receive(&mut recorder, 11..200);
        disk.state().is_full = false;
        while !matches!(writer.changed().await, WriterState::Writing) {}
        receive(&mut recorder, 200..201);
        drop(recorder);
        while !matches!(writer.changed().await, WriterState::Finished) {}
        writer.finish().unwrap();
        let (numbers, lost) = played(&disk);
        assert!(numbers.is_sorted() && numbers.contains(&9) && numbers.contains(&11));
        // All that is not there is counted, and hardly anything twice.
        let missing = 201 - u64::try_from(numbers.len()).unwrap();
        assert!(missing > 50 && (missing..=missing + 1).contains(&lost), "{missing}, {lost}");
        // The first file, and the one in which it went on: what could not be written is gone.
        assert_eq!(disk.state().files.len(), 2);
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_for_a_while_loses_no_line() {
        let disk = Memory::default();
        let (mut recorder, mut writer) = start(&disk, 1, usize::MAX);
        receive(&mut recorder, 0..3);
        disk.wait(|state| state.files.len() == 3);
        disk.state().is_gone = true;
        receive(&mut recorder, 3..6);
        disk.wait(|state| state.failures > 2);
        disk.state().is_gone = false;
        while !matches!(writer.changed().await, WriterState::Writing) {}
        drop(recorder);
        writer.finish().unwrap();
        assert_eq!(played(&disk), ((0..6).collect(), 0));
    }

    #[test]
    fn lines_that_the_disk_forgets_are_counted() {
        let disk = Memory::default();
        let (mut recorder, writer) = start(&disk, 1, usize::MAX);
        disk.state().forgets = true;
        // With the second line the file of the first one ends.
        receive(&mut recorder, 0..2);
        disk.wait(|state| state.failures > 0);
        disk.state().forgets = false;
        drop(recorder);
        writer.finish().unwrap();
        assert_eq!(played(&disk), (vec![1], 1));
    }

    #[test]
    fn what_cannot_be_written_at_the_end_is_an_error() {
        let disk = Memory::default();
        let (mut recorder, writer) = start(&disk, u64::MAX, usize::MAX);
        disk.state().is_full = true;
        receive(&mut recorder, 0..5);
        drop(recorder);
        assert_eq!(writer.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(played(&disk), (Vec::new(), 0));
    }
}
