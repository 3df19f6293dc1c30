//! Turns asyncapi.yaml into messages and commands. Every decision is kalshi-gen's.
//!
//! Without the feature `generate` it takes the code that the published package ships.

#[cfg(not(feature = "generate"))]
#[path = "build/shipped.rs"]
#[expect(unreachable_pub, reason = "a file of kalshi-gen, where it is public")]
mod shipped;

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=asyncapi.yaml");
    println!("cargo::rerun-if-changed=overlay");
    let out = env::var("OUT_DIR")?;
    for (name, text) in code(Path::new("asyncapi.yaml"), Path::new("overlay"))? {
        fs::write(Path::new(&out).join(name), text)?;
    }
    Ok(())
}

#[cfg(feature = "generate")]
fn code(document: &Path, overlays: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let overlays = kalshi_gen::read_overlays(overlays)?;
    let text = kalshi_gen::read(document)?;
    let generated = kalshi_gen::generate_streams(&text, &overlays, kalshi_gen::Unmatched::Refuse)
        .map_err(|error| format!("{}: {error}", document.display()))?;
    Ok(generated.files())
}

#[cfg(not(feature = "generate"))]
fn code(document: &Path, overlays: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", shipped::FOLDER);
    Ok(shipped::read(document, overlays, Path::new(shipped::FOLDER), "")?)
}
