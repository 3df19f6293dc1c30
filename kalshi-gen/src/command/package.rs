//! `cargo gen package`: the code that the published packages ship.

use std::path::{Path, PathBuf};

use kalshi_gen::{FAMILIES, shipped};

use super::update::write_all;
use crate::{Failure, from_root};

/// Writes the code of every document into the folder of its package, with the digest of what it was
/// made from: all of it or nothing.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let mut plan: Vec<(PathBuf, String)> = Vec::new();
    for family in FAMILIES {
        let Some(generated) = from_root(family, root)? else { continue };
        let folder = root.join(family.package).join(shipped::FOLDER);
        let files = generated.files().into_iter();
        plan.extend(files.map(|(name, text)| (folder.join(name), text)));
        let digest = shipped::digest(&root.join(family.file), &root.join(family.overlays))?;
        let name = format!("{}{}", family.surface.prefix, shipped::DIGEST);
        plan.push((folder.join(name), format!("{digest}\n")));
    }
    write_all(&plan)
}
