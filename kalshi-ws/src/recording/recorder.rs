//! The writing half: a tap that never waits, and a thread that writes.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use kalshi_types::UnixMillis;

use super::line::{RecordedEvent, RecordedLine, RecordingHeader};
use crate::{PriceConvention, Tap};

/// The bytes that wait for the disk by default: there is room for the largest frame.
const QUEUE_BYTES: usize = 128 << 20;

/// The bytes of lines in one file by default.
const BYTES_PER_FILE: u64 = 256 << 20;

/// The longest time that a line waits in memory before it is in the file.
const FLUSH: Duration = Duration::from_secs(1);

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
#[derive(Debug)]
pub struct Writer(JoinHandle<io::Result<()>>);

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
        let mut files = Files {
            folder: self.folder,
            name: self.name,
            number: 0,
            bytes_per_file: self.bytes_per_file,
            written: 0,
            header: RecordingHeader {
                version: RecordingHeader::VERSION,
                prices: self.prices,
                host: self.host,
                started: UnixMillis::EPOCH,
            },
        };
        let first = files.next()?;
        let (lines, received) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let taken = Arc::clone(&waiting);
        let thread = std::thread::Builder::new().name("recorder".to_owned());
        let writer = thread.spawn(move || write(&received, &taken, first, files))?;
        let queue_bytes = self.queue_bytes;
        Ok((
            Recorder { lines, waiting, queue_bytes, lost: 0, at: UnixMillis::EPOCH },
            Writer(writer),
        ))
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
    /// Waits until everything is in the files. The connection must be gone before, since it holds
    /// the recorder.
    ///
    /// # Errors
    ///
    /// A file could not be written; the recording ends there.
    pub fn finish(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the recorder panicked")))
    }
}

struct Files {
    folder: PathBuf,
    name: String,
    number: u32,
    bytes_per_file: u64,
    written: u64,
    header: RecordingHeader,
}

type Encoder = GzEncoder<BufWriter<File>>;

impl Files {
    fn next(&mut self) -> io::Result<Encoder> {
        loop {
            self.number = self.number.checked_add(1).ok_or_else(|| {
                io::Error::other("there are no numbers left for the files of the recording")
            })?;
            let path = self.folder.join(format!("{}-{:05}.jsonl.gz", self.name, self.number));
            match File::create_new(path) {
                Ok(file) => {
                    self.written = 0;
                    return Ok(GzEncoder::new(BufWriter::new(file), Compression::fast()));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes a line, and before the first of a file its header.
    fn write(&mut self, file: &mut Encoder, line: &RecordedLine) -> io::Result<()> {
        if self.written == 0 {
            if self.header.started == UnixMillis::EPOCH {
                self.header.started = line.at;
            }
            let header = RecordedEvent::Header(self.header.clone());
            self.written += append(file, &RecordedLine { at: line.at, event: header })?;
        }
        self.written += append(file, line)?;
        Ok(())
    }
}

fn append(file: &mut Encoder, line: &RecordedLine) -> io::Result<u64> {
    let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
    text.push(b'\n');
    file.write_all(&text)?;
    Ok(text.len() as u64)
}

fn write(
    lines: &Receiver<RecordedLine>,
    waiting: &AtomicUsize,
    mut file: Encoder,
    mut files: Files,
) -> io::Result<()> {
    let mut dirty = false;
    loop {
        let line = match lines.recv_timeout(FLUSH) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                if std::mem::take(&mut dirty) {
                    file.flush()?;
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return finish(file),
        };
        if files.written >= files.bytes_per_file {
            finish(std::mem::replace(&mut file, files.next()?))?;
        }
        files.write(&mut file, &line)?;
        dirty = true;
        // The last marker was not counted.
        let bytes = line.event.bytes();
        let _ = waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
            Some(waiting.saturating_sub(bytes))
        });
    }
}

fn finish(file: Encoder) -> io::Result<()> {
    file.finish()?.into_inner()?.sync_all()
}
