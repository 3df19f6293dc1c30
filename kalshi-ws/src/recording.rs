//! Recordings: every frame of a stream as a line of JSON, in files compressed with gzip.
//!
//! A [`Recorder`] is a [`Tap`]: it sees the frames as they go over the wire, before anything is made
//! of them. It never makes the stream wait; lines that a slow disk has no room for are counted in
//! the recording itself. A [`Player`] reads the files back and gives the events that the stream
//! would have given, holes included.
//!
//! A line has the time in milliseconds and one more field: `in` and `out` (a frame, as text), `up`
//! and `down` (the connection), `lost` (how many lines are missing here).

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
use kalshi_types::UnixMillis;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::{Instant, sleep_until};

use crate::{
    config::Tap,
    event::{DisconnectReason, Event},
    replay::Replay,
};

/// Lines that wait for the disk.
const WAITING: usize = 65_536;

/// The longest line that is read: a frame may have 64 MiB, and escapes make it longer.
const MAX_LINE: u64 = 256 << 20;

/// How long a line may wait in memory before it is in the file.
const FLUSH: Duration = Duration::from_secs(1);

/// Writes a recording. Give it to a stream with [`Config::with_tap`](crate::Config::with_tap).
#[derive(Debug)]
pub struct Recorder {
    lines: SyncSender<Line>,
    lost: u64,
}

/// The thread that writes a recording.
#[derive(Debug)]
pub struct Writer(JoinHandle<io::Result<()>>);

/// One line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When it happened.
    pub at: UnixMillis,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What a line of a recording says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum What {
    /// A frame arrived.
    #[serde(rename = "in")]
    In(String),
    /// A frame was sent.
    #[serde(rename = "out")]
    Out(String),
    /// There is a connection.
    #[serde(rename = "up")]
    Up(bool),
    /// The connection was lost, for this reason.
    #[serde(rename = "down")]
    Down(String),
    /// So many lines are missing here: the disk was too slow.
    #[serde(rename = "lost")]
    Lost(u64),
}

/// Why a recording cannot be read on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file cannot be read; or it ends in the middle, because the recorder was killed.
    #[error("the recording {file} cannot be read")]
    Io {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is none of a recording.
    #[error("line {line} of the recording {file} is malformed")]
    Malformed {
        /// The file.
        file: String,
        /// The line.
        line: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Recorder {
    /// Starts a thread that writes files `NAME-00001.jsonl.gz`, `NAME-00002.jsonl.gz`, … in a
    /// folder, each with about so many bytes of lines. Files that exist are left alone.
    ///
    /// The recording is complete when the stream is gone and [`Writer::finish`] has returned.
    ///
    /// # Errors
    ///
    /// The folder cannot be made, or the first file.
    pub fn start(
        folder: impl AsRef<Path>,
        name: &str,
        bytes_per_file: u64,
    ) -> io::Result<(Self, Writer)> {
        fs::create_dir_all(&folder)?;
        let mut files = Files {
            folder: folder.as_ref().to_owned(),
            name: name.to_owned(),
            number: 0,
            bytes_per_file,
            written: 0,
        };
        let first = files.next()?;
        let (lines, received) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("recorder".to_owned());
        let writer = thread.spawn(move || write(&received, first, files))?;
        Ok((Self { lines, lost: 0 }, Writer(writer)))
    }

    fn line(&mut self, at: UnixMillis, what: What) {
        if self.lost > 0 {
            if self.lines.try_send(Line { at, what: What::Lost(self.lost) }).is_err() {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.lines.try_send(Line { at, what })
        {
            self.lost += 1;
        }
    }
}

impl Tap for Recorder {
    fn received(&mut self, at: UnixMillis, text: &str) {
        self.line(at, What::In(text.to_owned()));
    }

    fn sent(&mut self, at: UnixMillis, text: &str) {
        self.line(at, What::Out(text.to_owned()));
    }

    fn connected(&mut self, at: UnixMillis) {
        self.line(at, What::Up(true));
    }

    fn disconnected(&mut self, at: UnixMillis, reason: &str) {
        self.line(at, What::Down(reason.to_owned()));
    }
}

impl Writer {
    /// Waits until everything is in the files. The stream must be gone before, since it holds the
    /// recorder.
    ///
    /// # Errors
    ///
    /// What went wrong with a file; the recording ends there.
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
}

type Encoder = GzEncoder<BufWriter<File>>;

impl Files {
    fn next(&mut self) -> io::Result<Encoder> {
        loop {
            self.number += 1;
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
}

fn write(lines: &Receiver<Line>, mut file: Encoder, mut files: Files) -> io::Result<()> {
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
        let mut text = serde_json::to_vec(&line).map_err(io::Error::other)?;
        text.push(b'\n');
        file.write_all(&text)?;
        dirty = true;
        files.written += text.len() as u64;
        if files.written >= files.bytes_per_file {
            finish(std::mem::replace(&mut file, files.next()?))?;
            dirty = false;
        }
    }
}

fn finish(file: Encoder) -> io::Result<()> {
    file.finish()?.into_inner()?.sync_all()
}

/// The lines of the files of a recording, one after the other.
pub struct Recording {
    files: std::vec::IntoIter<PathBuf>,
    /// The file that is being read, and how many lines of it have been.
    open: Option<(PathBuf, Lines, u64)>,
}

type Lines = BufReader<MultiGzDecoder<BufReader<File>>>;

impl Recording {
    /// The files of a recording, in the order of their numbers. They are opened when it is their
    /// turn.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn open(folder: impl AsRef<Path>, name: &str) -> io::Result<Self> {
        let prefix = format!("{name}-");
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            let number = file.strip_prefix(&prefix).and_then(|f| f.strip_suffix(".jsonl.gz"));
            if let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) {
                files.push((number, path));
            }
        }
        files.sort();
        let files: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).collect();
        Ok(Self { files: files.into_iter(), open: None })
    }

    fn read(&mut self) -> Option<Result<Line, RecordingError>> {
        loop {
            if self.open.is_none() {
                let path = self.files.next()?;
                match File::open(&path) {
                    Ok(file) => {
                        let decoder = MultiGzDecoder::new(BufReader::new(file));
                        self.open = Some((path, BufReader::new(decoder), 0));
                    }
                    Err(source) => return Some(Err(unreadable(&path, source))),
                }
            }
            let (path, reader, number) = self.open.as_mut()?;
            let mut text = String::new();
            match reader.by_ref().take(MAX_LINE).read_line(&mut text) {
                Ok(0) => self.open = None,
                Ok(_) => {
                    *number += 1;
                    let read = serde_json::from_str(&text).map_err(|source| {
                        let file = path.display().to_string();
                        RecordingError::Malformed { file, line: *number, source }
                    });
                    return Some(read);
                }
                Err(source) => {
                    let error = unreadable(path, source);
                    // The next file may be whole.
                    self.open = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Iterator for Recording {
    type Item = Result<Line, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read()
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("files", &self.files).finish_non_exhaustive()
    }
}

fn unreadable(path: &Path, source: io::Error) -> RecordingError {
    RecordingError::Io { file: path.display().to_string(), source }
}

/// How fast a recording is played back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Speed {
    /// Without waiting.
    #[default]
    Unbounded,
    /// So many times as fast as it was; 1 is as it was.
    Times(f64),
}

/// Plays back a recording: the events that the stream would have given.
#[derive(Debug)]
pub struct Player {
    recording: Recording,
    replay: Replay,
    events: VecDeque<Event>,
    speed: Speed,
    /// The time of the first line, and when it was played.
    began: Option<(UnixMillis, Instant)>,
}

impl Player {
    /// Plays it as fast as it is read.
    pub fn new(recording: Recording) -> Self {
        let (replay, events) = (Replay::new(), VecDeque::new());
        Self { recording, replay, events, speed: Speed::Unbounded, began: None }
    }

    /// Plays it at this speed.
    pub fn with_speed(self, speed: Speed) -> Self {
        Self { speed, ..self }
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or a line that is malformed. What follows can still be played,
    /// and has a gap where something is missing.
    ///
    /// # Cancellation
    ///
    /// A line that was read and not played yet is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Event, RecordingError>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            let line = match self.recording.next()? {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            self.wait_for(line.at).await;
            let events = &mut self.events;
            let reason = match line.what {
                What::In(text) => {
                    self.replay.frame(&text, line.at, |event| events.push_back(event));
                    continue;
                }
                What::Down(reason) => reason,
                // What they said is not known: nothing can be relied on.
                What::Lost(lines) => format!("{lines} lines of the recording are missing"),
                What::Out(_) | What::Up(_) => continue,
            };
            let reason = DisconnectReason::Failed(reason);
            self.replay.disconnected(reason, |event| events.push_back(event));
        }
    }

    async fn wait_for(&mut self, at: UnixMillis) {
        let Speed::Times(speed) = self.speed else { return };
        let (first, began) = *self.began.get_or_insert_with(|| (at, Instant::now()));
        let later = if at > first { at.abs_diff(first) } else { Duration::ZERO };
        let seconds = later.as_secs_f64() / speed;
        // A speed of zero, or below, is no speed.
        if let Ok(after) = Duration::try_from_secs_f64(seconds) {
            sleep_until(began + after).await;
        }
    }
}
