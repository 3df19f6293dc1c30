//! Turns openapi.yaml into the client and its types. Every decision is kalshi-gen's.
//!
//! Without the feature `generate` it takes the code that the published package ships.

#[cfg(not(feature = "generate"))]
#[path = "build/shipped.rs"]
mod shipped;

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=openapi.yaml");
    println!("cargo::rerun-if-changed=overlay");
    let out = env::var("OUT_DIR")?;
    for (name, text) in code(Path::new("openapi.yaml"), Path::new("overlay"))? {
        fs::write(Path::new(&out).join(name), text)?;
    }
    Ok(())
}

#[cfg(feature = "generate")]
fn code(document: &Path, overlays: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let overlays = kalshi_gen::read_overlays(overlays)?;
    let text = kalshi_gen::read(document)?;
    let generated = kalshi_gen::generate(&text, &overlays, kalshi_gen::Unmatched::Refuse)
        .map_err(|error| format!("{}: {error}", document.display()))?;
    let mut files = generated.files();
    // Only the tests of the workspace need it: it is not shipped.
    files.push(("dispatch.rs".to_owned(), generated.dispatch));
    Ok(files)
}

#[cfg(not(feature = "generate"))]
fn code(document: &Path, overlays: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", shipped::FOLDER);
    Ok(shipped::read(document, overlays, Path::new(shipped::FOLDER))?)
}
