//! The browser that the tests of the page run in, those of the library and those over sockets.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
};

/// Returns the program; `None`, and says so, if there is none here. With `KALSHI_SIM_BROWSER=required`
/// that is a failure.
pub(crate) fn chromium() -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.exists());
    if found.is_none() {
        let is_required =
            env::var_os("KALSHI_SIM_BROWSER").is_some_and(|value| value == "required");
        assert!(!is_required, "there is no Chromium here");
        // Not by a macro: what those print is kept back while a test runs.
        let text = "SKIPPED a test of the simulator's page: there is no Chromium here\n";
        io::stderr().write_all(text.as_bytes()).unwrap();
    }
    found
}
