//! The reading half: the lines of the files.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use serde::de::Error as _;
use serde_json::Error;

use super::line::{RecordedLine, RecordingHeader, version};

/// The longest line that is read: a frame may have 64 MiB, and escapes make it longer.
const MAX_LINE: u64 = 256 << 20;

/// The reason for which a recording cannot be read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file cannot be read; or it ends in the middle, because the recorder was killed.
    #[error("the recording {file} cannot be read")]
    Io {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A line does not read as one of a recording.
    #[error("line {line} of the recording {file} is malformed")]
    Malformed {
        /// The file.
        file: String,
        /// The line.
        line: u64,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A file is of a later version of the format, and is left out.
    #[error("the recording {file} has version {version}, and this one reads up to {supported}", supported = RecordingHeader::VERSION)]
    Version {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
}

/// The lines of the files of a recording, one after the other.
pub struct Recording {
    files: std::vec::IntoIter<PathBuf>,
    /// The file that is being read, and the number of lines of it that have been.
    open: Option<(PathBuf, Lines, u64)>,
}

type Lines = BufReader<MultiGzDecoder<BufReader<File>>>;

impl Recording {
    /// Opens the files of a recording, in the order of their numbers, each when it is its turn.
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

    fn read(&mut self) -> Option<Result<RecordedLine, RecordingError>> {
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
            // As bytes: a line that is not text must not keep from those after it.
            let mut bytes = Vec::new();
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
                Ok(0) => self.open = None,
                Ok(_) => {
                    *number += 1;
                    let line = parse(path, *number, &bytes);
                    if *number == 1 && line.is_err() {
                        // Without its header, it would be read with the wrong prices.
                        self.open = None;
                    }
                    return Some(line);
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
    type Item = Result<RecordedLine, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read()
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("files", &self.files).finish_non_exhaustive()
    }
}

fn parse(path: &Path, number: u64, bytes: &[u8]) -> Result<RecordedLine, RecordingError> {
    let file = || path.display().to_string();
    let malformed = |source| RecordingError::Malformed { file: file(), line: number, source };
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(Error::custom(error)))?;
    if number == 1
        && let Some(version) = version(text)
        && version > RecordingHeader::VERSION
    {
        return Err(RecordingError::Version { file: file(), version });
    }
    text.parse().map_err(malformed)
}

fn unreadable(path: &Path, source: io::Error) -> RecordingError {
    RecordingError::Io { file: path.display().to_string(), source }
}
