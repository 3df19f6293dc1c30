//! The exchange as a program.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its user")]

use std::{
    error::Error,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use kalshi_auth::{
    KeyType,
    exchange::{KeyPair, PublicKey},
};
use kalshi_sim::{DEFAULT_KEY_ID, Exchange};

/// The Kalshi exchange in a process, on this machine only. Stops at Ctrl-C.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The port on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// What the markets are made from: the same seed makes the same markets.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The id of a key; goes with the --public-key of the same rank.
    #[arg(long = "key-id", value_name = "ID")]
    key_ids: Vec<String>,
    /// The PEM file of a public key, RSA or Ed25519.
    #[arg(long = "public-key", value_name = "FILE")]
    public_keys: Vec<PathBuf>,
    /// Make an Ed25519 key pair, register it, and write its private half to this new file.
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("error: {error}");
            let mut source = error.source();
            while let Some(error) = source {
                eprint!(": {error}");
                source = error.source();
            }
            eprintln!();
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.key_ids.len() != arguments.public_keys.len() {
        return Err("each --key-id goes with one --public-key".into());
    }
    let mut builder = Exchange::builder().with_port(arguments.port).with_seed(arguments.seed);
    for (id, file) in arguments.key_ids.iter().zip(&arguments.public_keys) {
        let place = |error: &dyn Error| format!("{}: {error}", file.display());
        let pem = fs::read(file).map_err(|error| place(&error))?;
        builder = builder.with_key(id, PublicKey::from_pem(pem).map_err(|error| place(&error))?);
    }
    if let Some(file) = &arguments.new_key {
        let pair = KeyPair::generate(KeyType::Ed25519)?;
        let written =
            private_file(file).and_then(|mut f| f.write_all(pair.private_key_pem().as_bytes()));
        written.map_err(|error| format!("{}: {error}", file.display()))?;
        eprintln!("key id {DEFAULT_KEY_ID}, private key in {}", file.display());
        builder = builder.with_key(DEFAULT_KEY_ID, pair.public_key().clone());
    }
    let exchange = builder.start().await?;
    println!("listening on {}", exchange.base_url());
    io::stdout().flush()?;
    tokio::signal::ctrl_c().await?;
    exchange.stop().await?;
    Ok(())
}

/// A file that did not exist and that only its owner can read.
fn private_file(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
