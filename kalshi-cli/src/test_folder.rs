//! A folder of a unit test.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder of one test, removed with it. It is not made: the code under test does that.
pub(crate) struct TestFolder(PathBuf);

impl TestFolder {
    /// Returns the folder of that name, which no two tests share.
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("kalshi-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
