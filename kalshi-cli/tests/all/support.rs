//! The exchange that commands are run against, and the commands.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use kalshi_auth::{KeyType, server::KeyPair};
use kalshi_sim::{Exchange, ExchangeBuilder, Role};

/// The id of the key that the commands use.
pub(crate) const KEY_ID: &str = "00000000-0000-4000-8000-00000000c11a";

/// A folder that is removed when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kalshi-cli-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running exchange with a key in a file, and the environment of commands.
pub(crate) struct Setup {
    pub(crate) exchange: Exchange,
    pub(crate) folder: Folder,
    pub(crate) pem: String,
}

impl Setup {
    pub(crate) async fn new() -> Self {
        // Few markets: it starts in less time.
        Self::with(Exchange::builder().with_markets(12), Role::Trader).await
    }

    pub(crate) async fn with(builder: ExchangeBuilder, role: Role) -> Self {
        let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
        let builder = builder.with_key(role, KEY_ID, pair.public_key().clone());
        let exchange = builder.start().await.unwrap();
        let folder = Folder::new();
        let pem = pair.private_key_pem().to_owned();
        folder.file("key.pem", &pem);
        Self { exchange, folder, pem }
    }

    /// Returns a command that acts on the exchange, with the key.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.public(arguments);
        command
            .env("KALSHI_API_KEY_ID", KEY_ID)
            .env("KALSHI_PRIVATE_KEY_PATH", self.folder.path().join("key.pem"));
        command
    }

    /// Returns a command that acts on the exchange, without a key.
    pub(crate) fn public(&self, arguments: &[&str]) -> Command {
        let mut command = bare(&self.folder, arguments);
        command.env("KALSHI_ENV", self.exchange.base_url());
        command
    }

    /// Runs a command with the key.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments)).await
    }

    /// Returns the operations that the exchange was asked for since `from`.
    pub(crate) fn asked(&self, from: usize) -> Vec<&'static str> {
        let requests = self.exchange.requests();
        requests.iter().skip(from).map(|request| request.operation).collect()
    }
}

/// Returns a command whose surroundings are empty, with a folder of its own for settings.
pub(crate) fn bare(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kalshi"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", folder.path())
        .env("KALSHI_CONFIG", folder.path().join("config.toml"))
        .stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// The end of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Checks that the command succeeded, and returns its output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// Checks that the command succeeded, and reads its output.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Checks the exit code, and returns the failure that stands on the standard output.
    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> serde_json::Value {
        assert_eq!(self.code, code, "{self:#?}");
        let document: serde_json::Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        document["error"].clone()
    }
}

/// Runs a command to its end, while the exchange of the test goes on.
pub(crate) async fn run(mut command: Command) -> Ran {
    tokio::task::spawn_blocking(move || finish(&mut command)).await.unwrap()
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command to its end whose standard output no reader has.
pub(crate) async fn run_without_reader(mut command: Command) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(writer);
    run(command).await
}

/// Returns a terminal at which this text was typed: its other end, and the one for a command.
#[cfg(unix)]
pub(crate) fn terminal(text: &str) -> (File, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&main).unwrap();
    unlockpt(&main).unwrap();
    let name = ptsname(&main, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let mut main = File::from(main);
    main.write_all(text.as_bytes()).unwrap();
    (main, terminal)
}

/// Returns the standard input of a command at a terminal at which this text was typed.
#[cfg(unix)]
pub(crate) fn typing(text: &str) -> Stdio {
    let (main, terminal) = terminal(text);
    // The terminal lasts as long as its other end, which the test leaves open.
    std::mem::forget(main);
    Stdio::from(terminal)
}

/// Compares a text with a file of `tests/golden`. `UPDATE_GOLDEN=1` writes it anew.
#[track_caller]
pub(crate) fn pinned(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "{name} changed: UPDATE_GOLDEN=1 cargo test -p kalshi-cli, then review"
    );
}
