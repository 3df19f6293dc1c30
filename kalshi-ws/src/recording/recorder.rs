//! The writing half: a tap that never waits, and a thread that writes.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

use kalshi_types::UnixMillis;
use tokio::sync::watch;

use super::{
    files::{self, Disk, Files, Incoming, Local},
    line::{RecordedEvent, RecordedLine, RecordingHeader},
};
use crate::{PriceConvention, Tap};

/// The bytes that wait for the disk by default: there is room for the largest frame.
const QUEUE_BYTES: usize = 128 << 20;

/// The bytes of lines in one file by default.
const BYTES_PER_FILE: u64 = 256 << 20;

/// Writes a recording. Give it to a connection with [`ConfigBuilder::with_tap`](crate::ConfigBuilder::with_tap).
///
/// # Examples
///
/// ```no_run
/// use kalshi_ws::{Config, recording::Recorder};
///
/// let (recorder, writer) = Recorder::builder("recordings", "books").start()?;
/// let config = Config::builder().with_tap(recorder);
/// // With the connection that is made of it, the recorder ends, and what it has is written.
/// # drop(config);
/// writer.finish()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Recorder {
    lines: Sender<RecordedLine>,
    /// The bytes that wait for the disk.
    waiting: Arc<AtomicUsize>,
    queue_bytes: usize,
    lost: u64,
    /// The time of the last line.
    at: UnixMillis,
    /// Ends with the recorder.
    _alive: Sender<Infallible>,
}

/// Sets up a [`Recorder`], from [`Recorder::builder`].
#[derive(Clone, Debug)]
pub struct RecorderBuilder {
    folder: PathBuf,
    name: String,
    host: Option<String>,
    prices: PriceConvention,
    bytes_per_file: u64,
    queue_bytes: usize,
}

/// The thread that writes a recording.
///
/// A disk that is full, or a folder that is gone, ends no recording: the thread goes on in a new file
/// once it can, and tries again every 30 seconds at the latest. Meanwhile lines wait in memory, as far
/// as there is [room](RecorderBuilder::with_queue_bytes). Those that are missing are counted in the
/// recording, where they would be. A line is in its file a second after it came.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<io::Result<()>>,
    state: watch::Receiver<WriterState>,
}

/// The state of the thread that writes a recording.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WriterState {
    /// It writes what comes.
    Writing,
    /// A file could not be written, for this reason. It tries again.
    Failing(Arc<io::Error>),
    /// It has ended: the recorder is gone. [`Writer::finish`] returns at once, and with an error if
    /// something could not be written at the end.
    Finished,
}

/// Reports the end of the thread, also of one that panics.
struct State(watch::Sender<WriterState>);

impl Drop for State {
    fn drop(&mut self) {
        self.0.send_replace(WriterState::Finished);
    }
}

impl Recorder {
    /// Returns a builder of a recorder that writes files `NAME-00001.jsonl.gz`,
    /// `NAME-00002.jsonl.gz`, … in the folder.
    pub fn builder(folder: impl AsRef<Path>, name: impl Into<String>) -> RecorderBuilder {
        RecorderBuilder {
            folder: folder.as_ref().to_owned(),
            name: name.into(),
            host: None,
            prices: PriceConvention::Yes,
            bytes_per_file: BYTES_PER_FILE,
            queue_bytes: QUEUE_BYTES,
        }
    }

    fn record(&mut self, at: UnixMillis, event: RecordedEvent) {
        self.at = at;
        if self.lost > 0 {
            if !self.send(RecordedEvent::Lost(self.lost)) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if !self.send(event) {
            self.lost += 1;
        }
    }

    /// Hands a line to the writer, if there is room.
    fn send(&self, event: RecordedEvent) -> bool {
        let bytes = event.bytes();
        let waiting = self.waiting.load(Ordering::Acquire);
        // A line that alone is too large has a queue of its own.
        if waiting > 0 && waiting.saturating_add(bytes) > self.queue_bytes {
            return false;
        }
        self.waiting.fetch_add(bytes, Ordering::AcqRel);
        self.lines.send(RecordedLine { at: self.at, event }).is_ok()
    }
}

impl RecorderBuilder {
    /// Names the host that is recorded, for the header.
    #[must_use]
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sets which prices the order books have, for the header. A connection of this crate always
    /// asks for those of YES, which is the default.
    #[must_use]
    pub fn with_price_convention(mut self, prices: PriceConvention) -> Self {
        self.prices = prices;
        self
    }

    /// Begins a new file after this number of bytes of lines, before compression; 256 MiB by
    /// default.
    #[must_use]
    pub fn with_bytes_per_file(mut self, bytes: u64) -> Self {
        self.bytes_per_file = bytes;
        self
    }

    /// Sets how many bytes may wait for the disk; 128 MiB by default. Lines beyond are dropped, and
    /// a line in their place says how many.
    #[must_use]
    pub fn with_queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Starts a thread that writes. Files that exist are left alone.
    ///
    /// The recording is complete when the connection is gone and [`Writer::finish`] has returned.
    ///
    /// # Errors
    ///
    /// The folder or the first file could not be made, or the thread could not be started.
    pub fn start(self) -> io::Result<(Recorder, Writer)> {
        fs::create_dir_all(&self.folder)?;
        self.start_on(Local)
    }

    /// Starts a thread that writes to this disk.
    pub(super) fn start_on(self, disk: impl Disk) -> io::Result<(Recorder, Writer)> {
        let header = RecordingHeader {
            version: RecordingHeader::VERSION,
            prices: self.prices,
            host: self.host,
            started: UnixMillis::EPOCH,
        };
        let mut files = Files::new(disk, self.folder, self.name, self.bytes_per_file, header);
        files.begin()?;
        let (lines, received) = channel();
        let (alive, recorder_alive) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let incoming =
            Incoming { lines: received, waiting: Arc::clone(&waiting), alive: recorder_alive };
        let (sender, state) = watch::channel(WriterState::Writing);
        let thread = std::thread::Builder::new().name("recorder".to_owned());
        let thread = thread.spawn(move || {
            let state = State(sender);
            files::write(&incoming, files, &state.0)
        })?;
        let recorder = Recorder {
            lines,
            waiting,
            queue_bytes: self.queue_bytes,
            lost: 0,
            at: UnixMillis::EPOCH,
            _alive: alive,
        };
        Ok((recorder, Writer { thread, state }))
    }
}

impl Tap for Recorder {
    fn received(&mut self, at: UnixMillis, text: &str) {
        self.record(at, RecordedEvent::Received(text.to_owned()));
    }

    fn sent(&mut self, at: UnixMillis, text: &str) {
        self.record(at, RecordedEvent::Sent(text.to_owned()));
    }

    fn connected(&mut self, at: UnixMillis) {
        self.record(at, RecordedEvent::Connected);
    }

    fn disconnected(&mut self, at: UnixMillis, reason: &str) {
        self.record(at, RecordedEvent::Disconnected(reason.to_owned()));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.lost > 0 {
            // It takes no room worth counting. Without a writer there is nothing to say it to.
            let event = RecordedEvent::Lost(self.lost);
            let _ = self.lines.send(RecordedLine { at: self.at, event });
        }
    }
}

impl Writer {
    /// Returns the state of the thread.
    pub fn state(&self) -> WriterState {
        self.state.borrow().clone()
    }

    /// Reports whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the state of the thread changes, and returns it. A failure is told for each
    /// attempt in vain. After [`WriterState::Finished`] nothing changes: the future waits forever.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost when the future is dropped. Of several changes the last is returned.
    pub async fn changed(&mut self) -> WriterState {
        if self.state.changed().await.is_err() {
            return std::future::pending().await;
        }
        self.state.borrow_and_update().clone()
    }

    /// Waits until everything is in the files. The connection must be gone before, since it holds
    /// the recorder.
    ///
    /// # Errors
    ///
    /// What was left could not be written; the recording ends before. Lines that were lost earlier
    /// are counted in the recording, and are no error.
    pub fn finish(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the recorder panicked")))
    }
}
