//! The audit file: a line for each call, with the names of its arguments and not their values.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use kalshi_sdk::auth::{Clock as _, SystemClock};

use crate::{
    failure::{Failure, Outcome},
    json::Json,
    order::{create_private, state_folder},
};

/// The audit file, opened to be appended to.
pub(super) struct Audit {
    path: PathBuf,
    file: Mutex<File>,
    is_unattended: bool,
}

/// A call, as far as it is written down.
pub(super) struct Entry<'a> {
    pub(super) tool: &'a str,
    /// The operation that was asked for.
    pub(super) operation: Option<&'a str>,
    pub(super) arguments: &'a [String],
    /// `ok`, `ticket` where a person has to confirm, `sending` before a request is sent, or the
    /// category of the failure.
    pub(super) outcome: &'a str,
    pub(super) ticket: Option<&'a str>,
    pub(super) order_id: Option<&'a str>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(tool: &'a str, arguments: &'a [String], outcome: &'a str) -> Self {
        Self { tool, operation: None, arguments, outcome, ticket: None, order_id: None }
    }
}

impl Audit {
    /// Opens the file at a path, or at its usual place. Each line says whether the server sends
    /// without a person.
    ///
    /// # Errors
    ///
    /// It cannot be opened: nothing is served without it.
    pub(super) fn open(path: Option<&Path>, is_unattended: bool) -> Outcome<Self> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => state_folder()?.join("mcp-audit.ndjson"),
        };
        let open = || {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                create_private(folder)?;
            }
            let mut options = OpenOptions::new();
            options.append(true).create(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&path)
        };
        let file = open().map_err(|error| failed(&path, &error))?;
        Ok(Self { file: Mutex::new(file), path, is_unattended })
    }

    /// Writes a line.
    ///
    /// # Errors
    ///
    /// The disk failed: the result of the call is not given away.
    pub(super) fn write(&self, entry: &Entry<'_>) -> Outcome {
        /// A model names arguments and tools as it likes.
        const MAX_NAME: usize = 64;
        const MAX_NAMES: usize = 32;
        let short = |text: &str| {
            let text: String = text.chars().take(MAX_NAME).collect();
            Json::text(crate::output::redacted(&text))
        };
        let at = SystemClock.now().to_datetime().unwrap_or_default().to_rfc3339();
        let names = entry.arguments.iter().take(MAX_NAMES).map(|name| short(name)).collect();
        let line = Json::object([
            ("at", Json::text(at)),
            ("process", Json::number(std::process::id())),
            ("unattended", Json::Bool(self.is_unattended)),
            ("tool", short(entry.tool)),
            ("operation", entry.operation.map_or(Json::Null, short)),
            ("arguments", Json::List(names)),
            ("outcome", Json::text(entry.outcome)),
            ("ticket", entry.ticket.map_or(Json::Null, short)),
            ("order_id", entry.order_id.map_or(Json::Null, short)),
        ]);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // In one piece: other processes append to it, too.
        let written = file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| failed(&self.path, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("could not write the audit file {}: {error}", path.display()))
}
