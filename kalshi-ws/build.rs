//! Turns asyncapi.yaml into messages and commands. Every decision is kalshi-gen's.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=asyncapi.yaml");
    println!("cargo::rerun-if-changed=overlay");
    let overlays = kalshi_gen::read_overlays(Path::new("overlay"))?;
    let document = kalshi_gen::read(Path::new("asyncapi.yaml"))?;
    let generated =
        kalshi_gen::generate_streams(&document, &overlays, kalshi_gen::Unmatched::Refuse)
            .map_err(|error| format!("asyncapi.yaml: {error}"))?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("generated.rs"), generated.code)?;
    Ok(())
}
