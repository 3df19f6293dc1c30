//! The code that a published package ships, for builds without the feature `generate`.
//!
//! One file for the command that writes the code and for the build scripts that read it. Beside the
//! code stands a digest of the document and the overlays that it was made from. It guards against a
//! mistake, such as a document that was changed without its code, and not against an attacker: who
//! can change the one file can change the other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The folder of the code, in the package that ships it.
pub const FOLDER: &str = "shipped";

/// The file in it that holds the digest of what the code was made from. Its name begins with the
/// prefix of the document.
pub const DIGEST: &str = "inputs.fnv1a64";

/// The names of the code of a document, each after its prefix: that of the client, and that of a
/// server if the document has operations.
pub const FILES: [&str; 2] = ["generated.rs", "handlers.rs"];

/// Returns the code of a document that the package ships, as names and texts, if it was made from
/// this document and these overlays. `prefix` is what the names of its files begin with.
///
/// # Errors
///
/// Code that is not there, as in a checkout of the repository, or that was made from something
/// else. The message says what to do.
pub fn read(
    document: &Path,
    overlays: &Path,
    folder: &Path,
    prefix: &str,
) -> Result<Vec<(String, String)>, String> {
    let of = |path: &Path, error: &io::Error| format!("{}: {error}", path.display());
    let path = folder.join(format!("{prefix}{DIGEST}"));
    let expected = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "{} is not here: only a published package ships generated code. Turn on the \
                 feature `generate`",
                path.display()
            ));
        }
        Err(error) => return Err(of(&path, &error)),
    };
    let found = digest(document, overlays).map_err(|error| of(document, &error))?;
    if expected.trim_end() != found {
        return Err(format!(
            "{} was not made from this {} and its overlays. Turn on the feature `generate`",
            folder.display(),
            document.display()
        ));
    }
    let mut files = Vec::new();
    for name in FILES {
        let name = format!("{prefix}{name}");
        let path = folder.join(&name);
        match fs::read_to_string(&path) {
            Ok(text) => files.push((name, text)),
            // A document without operations has no code for a server.
            Err(error) if error.kind() == io::ErrorKind::NotFound && name.ends_with(FILES[1]) => {}
            Err(error) => return Err(of(&path, &error)),
        }
    }
    Ok(files)
}

/// Returns a digest of the names and contents of a document and its overlays: FNV-1a, 64 bits.
///
/// # Errors
///
/// A file that cannot be read; the message names it if it is an overlay.
pub fn digest(document: &Path, overlays: &Path) -> io::Result<String> {
    let mut hash = Fnv1a::default();
    let mut add = |name: &str, path: &Path| -> io::Result<()> {
        let contents = fs::read(path)?;
        // The lengths keep a byte from moving between a name and a text, or between two files.
        for part in [name.as_bytes(), &contents] {
            hash.add(&(part.len() as u64).to_le_bytes());
            hash.add(part);
        }
        Ok(())
    };
    add("", document)?;
    for (name, path) in yaml_files(overlays)? {
        add(&name, &path)?;
    }
    Ok(format!("{:016x}", hash.0))
}

/// Returns every `*.yaml` in and below a folder with its name below it (`docs/market.yaml`), in the
/// order of the names.
///
/// # Errors
///
/// A folder that cannot be read, named in the message.
pub fn yaml_files(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
        let entries = fs::read_dir(folder).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
        })?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if path.is_dir() {
                collect(&path, &format!("{name}/"), files)?;
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                files.push((name, path));
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    collect(folder, "", &mut files)?;
    files.sort();
    Ok(files)
}

struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
