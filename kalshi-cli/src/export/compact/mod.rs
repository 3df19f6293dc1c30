//! `kalshi export compact`: the hours of a day as one file.
//!
//! It reads the folder of `kalshi export recording` and never changes it. What is written depends on
//! the files of the day alone, so that a run that was killed goes on with the next one, and a day that
//! is done is not written again.

mod source;

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use clap::Args;

use self::source::{Source, metadata};
use super::{
    parquet::{SCHEMA_VERSION, Table, TableFile},
    recording::TABLES,
};
use crate::{
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
};

/// The metadata of a day: its files with their hashes.
const COMPACTED: &str = "kalshi.compacted";

/// The name of the file that two commands cannot have at once.
const LOCK: &str = ".compact.lock";

/// Merges the hours of `kalshi export recording` into days, a file for each table, day and recording.
///
/// The rows, their order and their columns stay as they are. The hours are read only, and may be
/// removed when their day is over. The same command again writes only days whose hours have changed.
#[derive(Args)]
pub(crate) struct Compact {
    /// The folder of the hours.
    folder: PathBuf,
    /// The folder of the days, which is created: another one, not within that of the hours.
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
}

impl Compact {
    pub(super) async fn run(&self, context: &Context) -> Outcome {
        if !self.folder.is_dir() {
            return Err(Failure::usage(format!("{} is no folder", self.folder.display())));
        }
        fs::create_dir_all(&self.into).map_err(|error| failed("make", &self.into, &error))?;
        let _lock = self.lock()?;
        let (mut files, mut rows, mut same, mut found) = (0_u64, 0_u64, 0_u64, 0_usize);
        for table in TABLES {
            for day in self.days(table)? {
                for (stem, sources) in group(&self.folder, &day, table)? {
                    found += sources.len();
                    let target = self.into.join(&day).join(format!("{stem}.parquet"));
                    let is_dropped = |name: &str| is_dropped(&self.folder, &day, &stem, name);
                    match merge(&target, table, &sources, is_dropped)? {
                        Some(written) => {
                            files += 1;
                            rows = rows.saturating_add(written);
                        }
                        None => same += 1,
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        if found == 0 {
            let text = format!("{} has no hours of a recording", self.folder.display());
            return Err(Failure::local(text));
        }
        context.output.note(&format!("{rows} rows in {files} files; {same} files as before"));
        Ok(())
    }

    /// Takes the folder of the days for this command.
    fn lock(&self) -> Outcome<File> {
        let canonical =
            |path: &Path| path.canonicalize().map_err(|error| failed("open", path, &error));
        if canonical(&self.into)?.starts_with(canonical(&self.folder)?) {
            return Err(Failure::usage(
                "--into is within the folder of the hours: queries would count each row twice",
            ));
        }
        let path = self.into.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| failed("open", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err(Failure::usage(format!("another command writes into {}", self.into.display())))
            }
            Err(TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
        }
    }

    /// Returns the folders of the days of a table, by their paths in that of the hours.
    fn days(&self, table: &Table) -> Outcome<Vec<PathBuf>> {
        let mut days = Vec::new();
        for environment in entries(&self.folder, "env=")? {
            let of_table = PathBuf::from(&environment).join(format!("table={}", table.name));
            let path = self.folder.join(&of_table);
            if path.is_dir() {
                days.extend(entries(&path, "date=")?.into_iter().map(|day| of_table.join(day)));
            }
        }
        Ok(days)
    }
}

fn failed(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::local(format!("could not {what} {}: {error}", path.display()))
}

/// Returns the names in a folder that begin so, in their order.
fn entries(folder: &Path, begin: &str) -> Outcome<Vec<String>> {
    let unreadable = |error: io::Error| failed("read", folder, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        names.extend(name.to_str().filter(|name| name.starts_with(begin)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Returns the files of a day by their recordings, in the order of their rows.
fn group(
    folder: &Path,
    day: &Path,
    table: &'static Table,
) -> Outcome<BTreeMap<String, Vec<Source>>> {
    let mut groups: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for hour in entries(&folder.join(day), "hour=")? {
        for name in entries(&folder.join(day).join(&hour), "")? {
            // Those that are not whole have another ending.
            if name.ends_with(".parquet") {
                let source = Source::open(folder.join(day).join(&hour).join(&name), table)?;
                groups.entry(source.stem().to_owned()).or_default().push(source);
            }
        }
    }
    for sources in groups.values_mut() {
        // An hour that came twice, since the clock was set back, has its second part later.
        sources.sort_by_key(Source::first_line);
    }
    Ok(groups)
}

/// Returns the files of a day and their hashes.
fn list(sources: &[Source]) -> Json {
    let pair = |source: &Source| {
        Json::object([("file", Json::text(source.name())), ("sha256", Json::text(source.hash()))])
    };
    Json::List(sources.iter().map(pair).collect())
}

/// Reports whether a file is gone because the last export of its recording has no rows for it, by what
/// that export wrote down.
fn is_dropped(folder: &Path, day: &Path, stem: &str, name: &str) -> bool {
    let state = fs::read_to_string(folder.join(format!("{stem}.json")));
    let state = state.ok().and_then(|text| Json::parse(&text).ok());
    let files = state.as_ref().and_then(|state| state.get("files")?.as_list());
    let path = day.join(name);
    let is_it = |file: &Json| file.as_str().is_some_and(|file| Path::new(file) == path);
    files.is_some_and(|files| !files.iter().any(is_it))
}

/// Writes a day, unless it is there already. Returns its rows.
fn merge(
    target: &Path,
    table: &'static Table,
    sources: &[Source],
    is_dropped: impl Fn(&str) -> bool,
) -> Outcome<Option<u64>> {
    let compacted = list(sources).to_string();
    if target.exists() {
        let before = metadata(target)?;
        let is = |key: &str, value: &str| before.get(key).is_some_and(|found| found == value);
        if is(COMPACTED, &compacted)
            && is("kalshi.schema_version", SCHEMA_VERSION)
            && is("kalshi.sdk_version", env!("CARGO_PKG_VERSION"))
        {
            return Ok(None);
        }
        let files = before.get(COMPACTED).and_then(|text| Json::parse(text).ok());
        let Some(files) = files.as_ref().and_then(Json::as_list) else {
            let text = format!("{} was not written by this command", target.display());
            return Err(Failure::local(text).with_next("move it away"));
        };
        let mut files = files.iter().filter_map(|file| file.get("file").and_then(Json::as_str));
        let is_gone =
            |name: &&str| sources.iter().all(|it| it.name() != *name) && !is_dropped(name);
        if let Some(gone) = files.find(is_gone) {
            let text = format!(
                "{} has the rows of {gone}, which is not there any more: it stays as it is",
                target.display()
            );
            return Err(Failure::local(text)
                .with_next("remove the other hours of that day as well, or bring it back"));
        }
    }
    let Some(last) = sources.last() else { return Ok(None) };
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(|error| failed("make", folder, &error))?;
    }
    let mut file = TableFile::create(target.to_owned(), table)?;
    for source in sources {
        source.copy(&mut file)?;
    }
    let mut pairs = vec![(COMPACTED, compacted)];
    // Those of the last hour: the hash is that of the recording up to its end.
    for key in ["kalshi.document_version", "kalshi.source", "kalshi.source_sha256"] {
        pairs.extend(last.pair(key).map(|value| (key, value.to_owned())));
    }
    file.finish(&pairs).map(Some)
}
