//! Turns the documents of streams into messages and commands: asyncapi.yaml always, the other by its
//! feature. Every decision is kalshi-gen's.
//!
//! Without the feature `generate` it takes the code that the published package ships.

#[cfg(not(feature = "generate"))]
#[path = "build/shipped.rs"]
#[expect(unreachable_pub, reason = "a file of kalshi-gen, where it is public")]
mod shipped;

use std::{env, error::Error, fs, path::Path};

/// A document that the features ask for.
struct Document {
    file: &'static str,
    overlays: &'static str,
    /// The prefix of the names of its files, in the code that the package ships.
    #[cfg_attr(feature = "generate", expect(dead_code, reason = "the generator knows it"))]
    prefix: &'static str,
}

/// Every document, with those whose feature is off left out.
const DOCUMENTS: &[Document] = &[
    Document { file: "asyncapi.yaml", overlays: "overlay", prefix: "" },
    #[cfg(feature = "perps")]
    Document { file: "perps_asyncapi.yaml", overlays: "perps_overlay", prefix: "perps_" },
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::var("OUT_DIR")?;
    for document in DOCUMENTS {
        println!("cargo::rerun-if-changed={}", document.file);
        println!("cargo::rerun-if-changed={}", document.overlays);
        for (name, text) in code(document)? {
            fs::write(Path::new(&out).join(name), text)?;
        }
    }
    Ok(())
}

#[cfg(feature = "generate")]
fn code(document: &Document) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let family = kalshi_gen::Family::of_file(document.file)
        .ok_or_else(|| format!("kalshi-gen does not know {}", document.file))?;
    let overlays = kalshi_gen::read_overlays(Path::new(document.overlays))?;
    let text = kalshi_gen::read(Path::new(document.file))?;
    let generated = family
        .generate(&text, &overlays, kalshi_gen::Unmatched::Refuse)
        .map_err(|error| format!("{}: {error}", document.file))?;
    Ok(generated.files())
}

#[cfg(not(feature = "generate"))]
fn code(document: &Document) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", shipped::FOLDER);
    let (file, overlays) = (Path::new(document.file), Path::new(document.overlays));
    Ok(shipped::read(file, overlays, Path::new(shipped::FOLDER), document.prefix)?)
}
