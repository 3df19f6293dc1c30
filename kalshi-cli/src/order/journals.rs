//! The journals of orders that are on their way: a file for each, so that several commands place at
//! the same time, and a command that dies leaves what the next one needs to settle its order.
//!
//! A journal is removed when the outcome of its order is known. What is left speaks of orders that
//! may exist.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use kalshi_trade::journal::{
    ClientOrderId, Durability, FileJournal, Journal as _, JournalErrorKind,
};

use crate::failure::{Failure, Outcome};

/// The end of the name of a journal.
const SUFFIX: &str = ".journal";

/// The folder of the journals of one account.
#[derive(Clone, Debug)]
pub(crate) struct Journals {
    folder: PathBuf,
}

/// An order whose outcome is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) client_order_id: String,
    pub(crate) ticker: String,
}

impl Journals {
    /// Returns the journals of an account in a folder: those of other environments and keys are
    /// elsewhere.
    pub(crate) fn new(state: &Path, environment: &str, key_id: &str) -> Self {
        let hash = format!("{environment}\n{key_id}")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        Self { folder: state.join("orders").join(format!("{hash:016x}")) }
    }

    fn path(&self, id: &str) -> PathBuf {
        let mut name = String::new();
        for byte in id.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                name.push(char::from(byte));
            } else {
                name = format!("{name}%{byte:02X}");
            }
        }
        self.folder.join(name + SUFFIX)
    }

    /// Reports whether there is a journal of this order.
    pub(crate) fn has(&self, id: &ClientOrderId) -> bool {
        self.path(id.as_str()).exists()
    }

    /// Opens the journal of an order, or creates it.
    ///
    /// # Errors
    ///
    /// Another command has it open, or the disk failed. Nothing was sent.
    pub(crate) fn open(&self, id: &ClientOrderId) -> Outcome<FileJournal> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::local(format!(
                "could not open the journal of orders in {}: {error}; nothing was sent",
                self.folder.display()
            ))
        };
        create_private(&self.folder).map_err(|error| failed(&error))?;
        let path = self.path(id.as_str());
        // Another command looks into each for a moment, to find what is unsettled.
        let mut tries = 0;
        loop {
            let opened = FileJournal::builder(&path).with_durability(Durability::Disk).open();
            match opened {
                Ok(journal) => return Ok(journal),
                Err(error) if error.kind() == JournalErrorKind::Locked && tries < 20 => {
                    tries += 1;
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    /// Removes the journal of an order whose outcome is known.
    ///
    /// A file that cannot be removed now, as one that is open is on some systems, is removed by the
    /// next command that looks: what it says is settled, or is found again.
    pub(crate) fn remove(&self, id: &ClientOrderId) {
        Self::remove_path(&self.path(id.as_str()));
    }

    fn remove_path(path: &Path) {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        for path in [path, Path::new(&lock)] {
            let _ = fs::remove_file(path);
        }
    }

    /// Returns the orders whose outcome no command has found out. Those that another command is
    /// placing now are not among them.
    ///
    /// # Errors
    ///
    /// The folder or a journal in it cannot be read: an order may be missing then.
    pub(crate) fn unsettled(&self) -> Outcome<Vec<Open>> {
        let rows = match fs::read_dir(&self.folder) {
            Ok(rows) => rows,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.unreadable(&error)),
        };
        let mut open = Vec::new();
        for row in rows {
            let path = row.map_err(|error| self.unreadable(&error))?.path();
            if !path.to_string_lossy().ends_with(SUFFIX) {
                continue;
            }
            let journal = match FileJournal::builder(&path).open() {
                Ok(journal) => journal,
                Err(error) if error.kind() == JournalErrorKind::Locked => continue,
                Err(error) => return Err(self.unreadable(&error)),
            };
            let before = open.len();
            open.extend(journal.history().unsettled().map(|unsettled| Open {
                client_order_id: unsettled.intent.id().as_str().to_owned(),
                ticker: unsettled.intent.ticker().to_owned(),
            }));
            if open.len() == before {
                // Under its lock: a command that wants this place waits, and makes a new file.
                Self::remove_path(&path);
            }
            drop(journal);
        }
        open.sort_by(|a, b| a.client_order_id.cmp(&b.client_order_id));
        Ok(open)
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::local(format!(
            "could not read the journals of orders in {}: {error}; nothing was sent",
            self.folder.display()
        ))
    }
}

/// Returns the folder for what outlives a command: that of `XDG_STATE_HOME`.
///
/// # Errors
///
/// There is no home.
pub(crate) fn state_folder() -> Outcome<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_STATE_HOME")
        .or_else(|| if cfg!(windows) { set("LOCALAPPDATA") } else { None })
        .or_else(|| set("HOME").map(|home| home.join(".local").join("state")));
    folder.map(|folder| folder.join("kalshi")).ok_or_else(|| {
        Failure::usage(
            "neither HOME nor XDG_STATE_HOME is set, so there is no place for the journal of orders",
        )
    })
}

/// Creates a folder that only its owner can read, with those above it.
pub(crate) fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::UnixMillis;
    use kalshi_trade::journal::{Intent, Record, Settlement};

    use super::*;
    use crate::test_folder::TestFolder;

    fn write(journal: &FileJournal, record: &Record) {
        let appended = journal.append(record).unwrap();
        journal.commit(appended).unwrap();
    }

    #[test]
    fn an_order_is_unsettled_until_its_journal_says_otherwise() {
        let folder = TestFolder::new("journals");
        let journals = Journals::new(folder.path(), "demo", "key");
        assert_eq!(journals.unsettled().unwrap(), []);
        // A name that is no name of a file.
        let id: ClientOrderId = "../a/b".parse().unwrap();
        let journal = journals.open(&id).unwrap();
        let body = r#"{"client_order_id":"../a/b","ticker":"KXTEST","side":"bid"}"#;
        let at = UnixMillis::EPOCH;
        write(&journal, &Record::Intent { intent: Intent::new(body).unwrap(), at });
        assert_eq!(journals.unsettled().unwrap(), [], "another command is placing it");
        drop(journal);
        let open = Open { client_order_id: "../a/b".to_owned(), ticker: "KXTEST".to_owned() };
        assert_eq!(journals.unsettled().unwrap(), [open]);
        assert!(journals.has(&id));
        assert_eq!(Journals::new(folder.path(), "demo", "other").unsettled().unwrap(), []);
        assert_eq!(Journals::new(folder.path(), "production", "key").unsettled().unwrap(), []);

        let journal = journals.open(&id).unwrap();
        write(&journal, &Record::Settled { id: id.clone(), settlement: Settlement::GivenUp, at });
        drop(journal);
        assert_eq!(journals.unsettled().unwrap(), []);
        assert!(!journals.has(&id), "it is removed");
    }
}
