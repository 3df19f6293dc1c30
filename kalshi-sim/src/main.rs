//! The exchange as a program.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its user")]

use std::{
    error::Error,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, builder::PossibleValuesParser};
use kalshi_auth::{
    KeyType,
    server::{KeyPair, PublicKey},
};
use kalshi_sim::{DEFAULT_KEY_ID, Exchange, Role, Tier};

/// The Kalshi exchange in a process, on this machine only. Stops at Ctrl-C.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The port on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Also serve the admin API (clock, results, pauses, deposits, faults) on this port; 0 takes
    /// any free one.
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// What the markets are made from: the same seed makes the same markets.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many markets are open at the start, up to the next dozen.
    #[arg(long, default_value_t = 60)]
    markets: u32,
    /// How many simulated traders keep the markets going; each sends about a dozen orders and
    /// cancels a second.
    #[arg(long, default_value_t = 0)]
    traders: usize,
    /// The usage level of every account: how many requests it may send.
    #[arg(long, default_value = "unlimited", value_parser = PossibleValuesParser::new(Tier::ALL.map(Tier::as_str)))]
    tier: String,
    /// Load the state from this file if it is there, and save it there at the end.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The id of a key of the first member; goes with the --public-key of the same rank.
    #[arg(long = "key-id", value_name = "ID")]
    key_ids: Vec<String>,
    /// The PEM file of a public key, RSA or Ed25519.
    #[arg(long = "public-key", value_name = "FILE")]
    public_keys: Vec<PathBuf>,
    /// Make an Ed25519 key pair for the first member, register it, and write its private half to
    /// this new file.
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
    /// The same for a second member, to trade with the first one.
    #[arg(long, value_name = "FILE")]
    new_maker_key: Option<PathBuf>,
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
    let tier = Tier::ALL.into_iter().find(|tier| tier.as_str() == arguments.tier);
    let mut builder = Exchange::builder()
        .with_port(arguments.port)
        .with_seed(arguments.seed)
        .with_markets(arguments.markets)
        .with_traders(arguments.traders)
        .with_tier(tier.unwrap_or_default());
    if let Some(file) = &arguments.state {
        builder = builder.with_state_file(file);
    }
    if let Some(port) = arguments.admin_port {
        builder = builder.with_admin_port(port);
    }
    for (id, file) in arguments.key_ids.iter().zip(&arguments.public_keys) {
        let place = |error: &dyn Error| format!("{}: {error}", file.display());
        let pem = fs::read(file).map_err(|error| place(&error))?;
        let public_key = PublicKey::from_pem(pem).map_err(|error| place(&error))?;
        builder = builder.with_key(Role::Trader, id, public_key);
    }
    let second_id = format!("{}1", &DEFAULT_KEY_ID[..DEFAULT_KEY_ID.len() - 1]);
    let new = [
        (Role::Trader, DEFAULT_KEY_ID, &arguments.new_key),
        (Role::Maker, &*second_id, &arguments.new_maker_key),
    ];
    for (role, id, file) in new {
        let Some(file) = file else { continue };
        let pair = KeyPair::generate(KeyType::Ed25519)?;
        let written =
            private_file(file).and_then(|mut f| f.write_all(pair.private_key_pem().as_bytes()));
        written.map_err(|error| format!("{}: {error}", file.display()))?;
        eprintln!("key id {id}, private key in {}", file.display());
        builder = builder.with_key(role, id, pair.public_key().clone());
    }
    let exchange = builder.start().await?;
    println!("listening on {}", exchange.base_url());
    if let Some(url) = exchange.admin_url() {
        println!("admin API on {url}");
    }
    io::stdout().flush()?;
    tokio::signal::ctrl_c().await?;
    if let Some(file) = &arguments.state {
        exchange.save(file)?;
    }
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
