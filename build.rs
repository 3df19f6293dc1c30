//! Turns openapi.yaml into the client and its types. Every decision is kalshi-gen's.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=openapi.yaml");
    println!("cargo::rerun-if-changed=overlay");
    let overlays = kalshi_gen::read_overlays(Path::new("overlay"))?;
    let document = kalshi_gen::read(Path::new("openapi.yaml"))?;
    let generated = kalshi_gen::generate(&document, &overlays, kalshi_gen::Unmatched::Refuse)
        .map_err(|error| format!("openapi.yaml: {error}"))?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("generated.rs"), generated.code)?;
    fs::write(Path::new(&out).join("dispatch.rs"), generated.dispatch)?;
    fs::write(Path::new(&out).join("handlers.rs"), generated.handlers)?;
    Ok(())
}
