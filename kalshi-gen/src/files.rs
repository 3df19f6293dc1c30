//! The files of a workspace, read in an order that does not depend on the file system.

use std::{fs, io, path::Path};

use crate::{overlay::Overlay, shipped::yaml_files};

/// Reads every `*.yaml` in and below a folder, in the order of their names.
///
/// # Errors
///
/// A folder or file that cannot be read, named in the message.
pub fn read_overlays(folder: &Path) -> io::Result<Vec<Overlay>> {
    let files = yaml_files(folder)?.into_iter();
    files.map(|(name, path)| Ok(Overlay { text: read(&path)?, name })).collect()
}

/// Reads a text file; the message of a failure names it.
///
/// # Errors
///
/// A file that is missing, unreadable, or not UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
