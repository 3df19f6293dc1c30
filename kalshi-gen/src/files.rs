//! The files of a workspace, read in an order that does not depend on the file system.

use std::{fs, io, path::Path};

use crate::overlay::Overlay;

/// Reads every `*.yaml` in and below a folder, in the order of their names.
///
/// # Errors
///
/// A folder or file that cannot be read, named in the message.
pub fn read_overlays(folder: &Path) -> io::Result<Vec<Overlay>> {
    let mut overlays = Vec::new();
    collect(folder, "", &mut overlays)?;
    overlays.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(overlays)
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

fn collect(folder: &Path, prefix: &str, overlays: &mut Vec<Overlay>) -> io::Result<()> {
    let entries = fs::read_dir(folder)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), overlays)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            overlays.push(Overlay { name, text: read(&path)? });
        }
    }
    Ok(())
}
