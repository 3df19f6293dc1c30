//! The target of an export: the standard output, or a file in which an interrupted export goes on.
//!
//! Rows go to `FILE.part`. `FILE.part.json` says how many of its bytes are good and where the list
//! goes on after them; it is written after the disk has those bytes. At the end the file gets its name.
//!
//! A Parquet file cannot be gone on with: it is made of the rows at the end, which until then are
//! lines of JSON.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions, TryLockError},
    io::{self, IsTerminal as _, Seek as _, SeekFrom, Write as _, stderr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    failure::{Failure, Outcome},
    json::Json,
    output,
};

/// The bytes that are written at once.
const BUFFER: usize = 64 << 10;

/// The rows between two checkpoints.
const CHECKPOINT_ROWS: u64 = 2_000;

/// The time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(300);

/// The form of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON document a line.
    Ndjson,
    /// A table with exact decimals, for DuckDB, Polars and others; needs --file.
    #[cfg(feature = "parquet")]
    Parquet,
}

/// The rows of a list: their columns and how they go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// The columns of CSV.
    pub(super) columns: &'static [&'static str],
    pub(super) order: Order,
    /// The table of Parquet.
    #[cfg(feature = "parquet")]
    pub(super) layout: &'static super::rest::Layout,
}

/// The order of the times of the rows of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    LatestFirst,
    OldestFirst,
}

/// The state of an interrupted export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The export, so that no other one goes on in its file.
    pub(super) export: String,
    /// The ends of the time in seconds since 1970, as they were when it began.
    pub(super) from: Option<i64>,
    pub(super) to: i64,
    bytes: u64,
    rows: u64,
    /// The time of the last row in seconds since 1970, and the ids of those that are as late.
    last: Option<i64>,
    ids: VecDeque<(i64, String)>,
}

impl Checkpoint {
    /// Returns the checkpoint of an export that begins.
    pub(super) fn new(export: String, from: Option<i64>, to: i64) -> Self {
        Self { export, from, to, ..Self::default() }
    }

    /// Returns the time of the last row.
    pub(super) fn last(&self) -> Option<i64> {
        self.last
    }

    /// Reports whether a row was written before.
    pub(super) fn has(&self, id: &str) -> bool {
        self.ids.iter().any(|(_, known)| known == id)
    }

    fn to_json(&self) -> Json {
        let number = |number: Option<i64>| number.map_or(Json::Null, Json::number);
        let ids =
            self.ids.iter().map(|(at, id)| Json::List(vec![Json::number(at), Json::text(id)]));
        Json::object([
            ("export", Json::text(&self.export)),
            ("from", number(self.from)),
            ("to", Json::number(self.to)),
            ("bytes", Json::number(self.bytes)),
            ("rows", Json::number(self.rows)),
            ("last", number(self.last)),
            ("ids", Json::List(ids.collect())),
        ])
    }

    fn from_json(json: &Json) -> Option<Self> {
        let number = |name: &str| match json.get(name)? {
            Json::Number(text) => text.parse::<i64>().ok(),
            _ => None,
        };
        let ids = json.get("ids")?.as_list()?.iter().map(|pair| match pair.as_list()? {
            [Json::Number(at), Json::Text(id)] => Some((at.parse().ok()?, id.clone())),
            _ => None,
        });
        Some(Self {
            export: json.get("export")?.as_str()?.to_owned(),
            from: number("from"),
            to: number("to")?,
            bytes: number("bytes")?.try_into().ok()?,
            rows: number("rows")?.try_into().ok()?,
            last: number("last"),
            ids: ids.collect::<Option<_>>()?,
        })
    }
}

enum Out {
    Standard,
    File { file: File, path: PathBuf },
}

/// The target of an export.
pub(super) struct Target {
    out: Out,
    format: Format,
    shape: Shape,
    buffer: String,
    checkpoint: Checkpoint,
    /// False once a row came out of order: what comes after the last row is then not known by its time.
    is_ordered: bool,
    saved_rows: u64,
    progress: Option<Instant>,
    is_shown: bool,
}

impl Target {
    /// Opens the target. An export of the same name that was interrupted is gone on with.
    ///
    /// # Errors
    ///
    /// The file exists, another command writes it, it is of another export, or the disk failed.
    pub(super) fn open(
        path: Option<&Path>,
        format: Format,
        shape: Shape,
        checkpoint: Checkpoint,
        is_quiet: bool,
    ) -> Outcome<Self> {
        #[cfg(feature = "parquet")]
        if path.is_none() && format == Format::Parquet {
            return Err(Failure::usage("--format parquet needs --file FILE"));
        }
        let progress = (!is_quiet && stderr().is_terminal()).then(Instant::now);
        let (out, checkpoint) = match path {
            None => (Out::Standard, checkpoint),
            Some(path) => {
                let (file, checkpoint) = open(path, checkpoint)?;
                (Out::File { file, path: path.to_owned() }, checkpoint)
            }
        };
        let mut target = Self {
            out,
            format,
            shape,
            buffer: String::new(),
            saved_rows: checkpoint.rows,
            checkpoint,
            is_ordered: true,
            progress,
            is_shown: false,
        };
        if target.format == Format::Csv && target.checkpoint.bytes == 0 {
            target.buffer = output::csv_header(shape.columns);
        }
        Ok(target)
    }

    /// Returns what was done so far.
    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Reports whether the rows go to a file.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.out, Out::File { .. })
    }

    /// Writes a row with its id and its time in seconds since 1970.
    pub(super) fn row(&mut self, row: &Json, id: &str, at: Option<i64>) -> Outcome {
        if self.format == Format::Csv {
            self.buffer.push_str(&output::csv_row(row, self.shape.columns));
        } else {
            self.buffer.push_str(&row.to_string());
            self.buffer.push('\n');
        }
        self.checkpoint.rows += 1;
        self.note(id, at);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        if self.checkpoint.rows.saturating_sub(self.saved_rows) >= CHECKPOINT_ROWS {
            self.save()?;
        }
        self.show();
        Ok(())
    }

    /// Notes where the list goes on after a row.
    fn note(&mut self, id: &str, at: Option<i64>) {
        let Some(at) = at else {
            self.is_ordered = false;
            return;
        };
        let is_next = self.checkpoint.last.is_none_or(|last| match self.shape.order {
            Order::LatestFirst => at <= last,
            Order::OldestFirst => at >= last,
        });
        if !is_next {
            self.is_ordered = false;
            return;
        }
        self.checkpoint.last = Some(at);
        self.checkpoint.ids.push_back((at, id.to_owned()));
        // Rows of one second beside that of the last may come again.
        while self.checkpoint.ids.front().is_some_and(|(known, _)| known.abs_diff(at) > 1) {
            self.checkpoint.ids.pop_front();
        }
    }

    fn flush(&mut self) -> Outcome {
        match &mut self.out {
            Out::Standard => output::print(&self.buffer)?,
            Out::File { file, path } => {
                let written = file.write_all(self.buffer.as_bytes());
                written.map_err(|error| failed(path, &error))?;
            }
        }
        self.checkpoint.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes down what was done, so that the export can go on there.
    pub(super) fn save(&mut self) -> Outcome {
        self.flush()?;
        self.saved_rows = self.checkpoint.rows;
        let Out::File { file, path } = &mut self.out else { return Ok(()) };
        if !self.is_ordered {
            return Ok(());
        }
        let (_, state) = parts(path);
        let draft = state.with_extension("json.new");
        let write = || {
            file.sync_data()?;
            std::fs::write(&draft, format!("{}\n", self.checkpoint.to_json()))?;
            std::fs::rename(&draft, &state)
        };
        write().map_err(|error| failed(path, &error))
    }

    /// Ends the export: the file gets its name.
    pub(super) fn finish(mut self) -> Outcome<u64> {
        self.flush()?;
        self.clear();
        #[cfg(feature = "parquet")]
        if self.format == Format::Parquet {
            // What comes now takes a while: were it interrupted, the rows would be there.
            self.save()?;
            return self.convert();
        }
        if let Out::File { file, path } = &self.out {
            let (part, state) = parts(path);
            let end = || {
                file.sync_all()?;
                // Not over a file that came to be meanwhile.
                if path.exists() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                std::fs::rename(&part, path)?;
                match std::fs::remove_file(&state) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            };
            end().map_err(|error| failed(path, &error))?;
        }
        Ok(self.checkpoint.rows)
    }

    /// Makes the file of the rows that are there as lines.
    #[cfg(feature = "parquet")]
    fn convert(self) -> Outcome<u64> {
        let Out::File { path, .. } = &self.out else { return Ok(self.checkpoint.rows) };
        let (part, state) = parts(path);
        if path.exists() {
            return Err(failed(path, &io::ErrorKind::AlreadyExists.into()));
        }
        let rows = super::rest::write(&part, path, self.shape.layout, &self.checkpoint.export)?;
        for left in [part, state] {
            match std::fs::remove_file(&left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&left, &error));
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    /// Shows the progress to a person.
    fn show(&mut self) {
        let Some(shown) = &mut self.progress else { return };
        if shown.elapsed() < PROGRESS_EVERY {
            return;
        }
        *shown = Instant::now();
        self.is_shown = true;
        let at = self.checkpoint.last.and_then(|at| chrono::DateTime::from_timestamp(at, 0));
        let at = at.map(|at| format!(", at {}", at.format("%Y-%m-%d %H:%M"))).unwrap_or_default();
        let _ = write!(stderr(), "\r{} rows{at}   ", self.checkpoint.rows);
    }

    fn clear(&mut self) {
        if self.is_shown {
            let _ = writeln!(stderr());
            self.is_shown = false;
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.clear();
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("could not write {}: {error}", path.display()))
}

/// Returns the paths of the rows that are there, and of the checkpoint.
fn parts(path: &Path) -> (PathBuf, PathBuf) {
    let with = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    (with(".part"), with(".part.json"))
}

/// Opens the file of an export, cut to what its checkpoint says.
fn open(path: &Path, new: Checkpoint) -> Outcome<(File, Checkpoint)> {
    if path.exists() {
        return Err(Failure::usage(format!("{} exists; nothing was fetched", path.display())));
    }
    let (part, state) = parts(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&part).map_err(|error| failed(&part, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let text = format!("another command writes {}", part.display());
            return Err(Failure::usage(text));
        }
        Err(TryLockError::Error(error)) => return Err(failed(&part, &error)),
    }
    let checkpoint = match std::fs::read_to_string(&state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => new,
        Err(error) => return Err(failed(&state, &error)),
        Ok(text) => {
            let remove = format!("remove {} to begin anew", state.display());
            let found = Json::parse(&text).ok().and_then(|json| Checkpoint::from_json(&json));
            let length = file.metadata().map_err(|error| failed(&part, &error))?.len();
            match found {
                Some(found) if found.export != new.export => {
                    return Err(Failure::usage(format!(
                        "{} is of another export: {}",
                        part.display(),
                        found.export
                    ))
                    .with_next(remove));
                }
                Some(found) if found.bytes <= length => found,
                _ => {
                    let text = format!("{} does not fit {}", state.display(), part.display());
                    return Err(Failure::usage(text).with_next(remove));
                }
            }
        }
    };
    file.set_len(checkpoint.bytes)
        .and_then(|()| file.seek(SeekFrom::End(0)))
        .map_err(|error| failed(&part, &error))?;
    Ok((file, checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_back() {
        let mut checkpoint = Checkpoint::new("trades".to_owned(), Some(-5), 7);
        checkpoint.bytes = 12;
        checkpoint.rows = 3;
        checkpoint.last = Some(6);
        checkpoint.ids.push_back((6, "a\"b".to_owned()));
        let text = checkpoint.to_json().to_string();
        assert_eq!(Checkpoint::from_json(&Json::parse(&text).unwrap()), Some(checkpoint));
        for text in ["{}", "[]", r#"{"export":"a","to":1,"bytes":-1,"rows":0,"ids":[]}"#] {
            assert_eq!(Checkpoint::from_json(&Json::parse(text).unwrap()), None, "{text}");
        }
    }

    #[test]
    fn the_ids_of_the_last_second_are_kept_and_no_more() {
        let shape = Shape {
            columns: &[],
            order: Order::LatestFirst,
            #[cfg(feature = "parquet")]
            layout: &super::super::rest::TRADES,
        };
        let checkpoint = Checkpoint::default();
        let mut target = Target::open(None, Format::Ndjson, shape, checkpoint, true).unwrap();
        for (id, at) in [("a", 9), ("b", 9), ("c", 8), ("d", 5), ("e", 5), ("f", 4)] {
            target.note(id, Some(at));
        }
        let checkpoint = target.checkpoint();
        assert_eq!(checkpoint.last(), Some(4));
        let has = |id| checkpoint.has(id);
        assert!(has("d") && has("e") && has("f") && !has("c") && !has("a"));
        assert!(target.is_ordered);
        target.note("g", Some(6));
        assert!(!target.is_ordered, "a row that is later than the one before");
        assert_eq!(target.checkpoint().last(), Some(4));
    }
}
