//! `kalshi export recording`: the tables of a recording, hour by hour.
//!
//! The whole recording is read each time, since a book is made of all that came before; what is
//! written depends on nothing else. So an export that was killed and is run again gives the same
//! bytes, and so does one of a recording that has grown, for the hours that were over.

mod rows;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context as Digest, SHA256};
use clap::Args;
use kalshi_sdk::{
    UnixMillis,
    streams::{PriceConvention, SPEC_VERSION},
};
use kalshi_ws::recording::{RecordedEvent, RecordedLine, Recording as Lines};

pub(super) use self::rows::TABLES;
use self::rows::{Rows, Sink, hexadecimal};
use super::parquet::{SCHEMA_VERSION, Table, TableFile, Value, draft, sync_folder};
use crate::{
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
};

/// The milliseconds of an hour.
const HOUR: i64 = 3_600_000;

/// The lines between two looks at whether the command was interrupted.
const LINES_AT_ONCE: usize = 4_096;

/// Writes a recording of `kalshi record` as Parquet tables, a file for each hour.
///
/// The tables are trades, ticker, changes of books, whole books and gaps. A file has its name when it
/// is whole; the same command again writes the same bytes, and nothing if nothing has changed.
#[derive(Args)]
pub(crate) struct Recording {
    /// The folder of the recording.
    folder: PathBuf,
    /// The beginning of the names of its files.
    #[arg(long, default_value = "stream")]
    name: String,
    /// The folder of the tables, which is created. Several recordings may have the same one.
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
}

impl Recording {
    pub(super) async fn run(&self, context: &Context) -> Outcome {
        let input = self.input()?;
        let unreadable = |error: &dyn std::fmt::Display| {
            Failure::local(format!("could not read {}: {error}", self.folder.display()))
        };
        let open = || Lines::open(&self.folder, &self.name).map_err(|error| unreadable(&error));
        let Some(first) = open()?.next() else {
            return Err(unreadable(&format!(
                "there is no recording with the name {:?}",
                self.name
            )));
        };
        let (host, started) = origin(first.ok());
        let stem = format!("{}-{}", self.name, started.as_millis());
        let state = self.into.join(format!("{stem}.json"));
        if is_done(&state, &self.into, &input) {
            context.output.note("nothing has changed since the last export");
            return Ok(());
        }
        let mut rows = Rows::new(PriceConvention::Yes);
        let mut hours = Hours::new(&self.into, &host, stem);
        let mut hour = None;
        for (at, line) in open()?.enumerate() {
            if let Ok(line) = &line {
                let next = line.at.as_millis().div_euclid(HOUR);
                if hour.is_some_and(|hour| hour != next) {
                    rows.end_hour(line.at, &mut hours)?;
                    hours.end(&rows)?;
                }
                if hour != Some(next) {
                    hour = Some(next);
                    hours.begin(next)?;
                    rows.begin_hour(line.at, &mut hours)?;
                }
            }
            rows.line(line, &mut hours)?;
            if at % LINES_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        if hour.is_some() {
            rows.finish(&mut hours)?;
            hours.end(&rows)?;
        }
        write_state(&state, &input, &hours.files)?;
        let (rows, files) = (hours.rows, hours.files.len());
        context.output.note(&format!("{rows} rows in {files} files"));
        Ok(())
    }

    /// Returns a hash of all files of the recording, by name and contents.
    fn input(&self) -> Outcome<String> {
        let failed = |path: &Path, error: &io::Error| {
            Failure::local(format!("could not read {}: {error}", path.display()))
        };
        let mut files = Vec::new();
        let entries = fs::read_dir(&self.folder).map_err(|error| failed(&self.folder, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| failed(&self.folder, &error))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(&format!("{}-", self.name)) && name.ends_with(".jsonl.gz") {
                files.push((name.to_owned(), path));
            }
        }
        files.sort();
        let mut digest = Digest::new(&SHA256);
        for (name, path) in files {
            let contents = hash(&path).map_err(|error| failed(&path, &error))?;
            digest.update(format!("{name} {contents}\n").as_bytes());
        }
        Ok(hexadecimal(digest.finish().as_ref()))
    }
}

/// Returns the host of a recording, as it may stand in a path, and the time at which it began.
fn origin(first: Option<RecordedLine>) -> (String, UnixMillis) {
    let Some(line) = first else { return ("unknown".to_owned(), UnixMillis::EPOCH) };
    let RecordedEvent::Header(header) = line.event else { return ("unknown".to_owned(), line.at) };
    let safe = |letter: char| {
        let is_safe = letter.is_ascii_alphanumeric() || letter == '-' || letter == '.';
        if is_safe { letter } else { '_' }
    };
    let host: String = header.host.unwrap_or_default().chars().take(64).map(safe).collect();
    (if host.is_empty() { "unknown".to_owned() } else { host }, header.started)
}

/// Returns a hash of a file.
pub(super) fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Digest::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hexadecimal(digest.finish().as_ref()));
        }
        digest.update(buffer.get(..read).unwrap_or_default());
    }
}

/// Reports whether the same input was exported by the same version, and its files are there.
fn is_done(state: &Path, into: &Path, input: &str) -> bool {
    let Ok(text) = fs::read_to_string(state) else { return false };
    let Ok(json) = Json::parse(&text) else { return false };
    let is = |name: &str, value: &str| json.get(name).and_then(Json::as_str) == Some(value);
    let files = json.get("files").and_then(Json::as_list);
    is("input_sha256", input)
        && is("schema_version", SCHEMA_VERSION)
        && is("sdk_version", env!("CARGO_PKG_VERSION"))
        && files.is_some_and(|files| {
            files.iter().all(|file| file.as_str().is_some_and(|file| into.join(file).is_file()))
        })
}

fn write_state(state: &Path, input: &str, files: &[String]) -> Outcome {
    let json = Json::object([
        ("input_sha256", Json::text(input)),
        ("schema_version", Json::text(SCHEMA_VERSION)),
        ("sdk_version", Json::text(env!("CARGO_PKG_VERSION"))),
        ("files", Json::List(files.iter().map(Json::text).collect())),
    ]);
    let draft = draft(state);
    let write = || {
        let folder = state.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = File::create(&draft)?;
        file.write_all(format!("{}\n", json.pretty()).as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, state)?;
        sync_folder(state)
    };
    write().map_err(|error: io::Error| {
        Failure::local(format!("could not write {}: {error}", state.display()))
    })
}

/// The files of the hour that is being written.
struct Hours {
    into: PathBuf,
    environment: String,
    /// The beginning of the names of the files.
    stem: String,
    /// The date and the hour of the files.
    folder: String,
    /// The number of times that each hour began: more than once where the clock was set back.
    begun: BTreeMap<i64, u32>,
    part: u32,
    open: BTreeMap<&'static str, (String, TableFile)>,
    files: Vec<String>,
    rows: u64,
}

impl Hours {
    fn new(into: &Path, environment: &str, stem: String) -> Self {
        Self {
            into: into.to_owned(),
            environment: environment.to_owned(),
            stem,
            folder: String::new(),
            begun: BTreeMap::new(),
            part: 1,
            open: BTreeMap::new(),
            files: Vec::new(),
            rows: 0,
        }
    }

    fn begin(&mut self, hour: i64) -> Outcome {
        let time = hour.checked_mul(HOUR).and_then(chrono::DateTime::from_timestamp_millis);
        let Some(time) = time else {
            return Err(Failure::local(format!(
                "the hour {hour} of the recording is out of range"
            )));
        };
        let part = self.begun.entry(hour).or_default();
        *part += 1;
        self.part = *part;
        self.folder = time.format("date=%Y-%m-%d/hour=%H").to_string();
        Ok(())
    }

    /// Returns the file of a table in this hour, by its path in the folder of the tables.
    fn name(&self, table: &Table) -> String {
        let part = if self.part > 1 { format!("-{}", self.part) } else { String::new() };
        format!(
            "env={}/table={}/{}/{}{part}.parquet",
            self.environment, table.name, self.folder, self.stem
        )
    }

    /// Ends the files that are open, and removes those of tables that have no rows in this hour.
    fn end(&mut self, rows: &Rows) -> Outcome {
        for table in TABLES {
            if self.open.contains_key(table.name) {
                continue;
            }
            // One that was written when the recording ended earlier, or in the middle.
            let path = self.into.join(self.name(table));
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let path = path.display();
                    return Err(Failure::local(format!("could not remove {path}: {error}")));
                }
                _ => {}
            }
        }
        for (_, (name, file)) in std::mem::take(&mut self.open) {
            self.rows += file.finish(&[
                ("kalshi.document_version", SPEC_VERSION.to_owned()),
                ("kalshi.source", format!("recording {}", self.stem)),
                ("kalshi.source_sha256", rows.hash()),
            ])?;
            self.files.push(name);
        }
        Ok(())
    }
}

impl Sink for Hours {
    fn row(&mut self, table: &'static Table, row: &[Value<'_>]) -> Outcome {
        if let Some((_, file)) = self.open.get_mut(table.name) {
            return file.row(row);
        }
        let name = self.name(table);
        let path = self.into.join(&name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| {
                Failure::local(format!("could not make {}: {error}", folder.display()))
            })?;
        }
        let mut file = TableFile::create(path, table)?;
        file.row(row)?;
        self.open.insert(table.name, (name, file));
        Ok(())
    }
}
