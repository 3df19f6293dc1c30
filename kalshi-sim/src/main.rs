//! The exchange as a program.

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
use kalshi_sim::{Exchange, Lag, Role, Rules, Tier};

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
    /// Open the page that shows the exchange in a browser; with the admin API on any free port
    /// unless one is given.
    #[arg(long)]
    open: bool,
    /// The seed of the markets: the same seed makes the same markets.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The number of markets that are open at the start, up to the next dozen.
    #[arg(long, default_value_t = 60)]
    markets: u32,
    /// The number of simulated traders that keep the markets going; each sends about a dozen orders and
    /// cancels a second.
    #[arg(long, default_value_t = 0)]
    traders: usize,
    /// The usage level of every account: how many requests it may send.
    #[arg(long, default_value = "unlimited", value_parser = PossibleValuesParser::new(Tier::ALL.map(Tier::as_str)))]
    tier: String,
    /// Delay of reads of your account: `realistic`, milliseconds like 300, or a range like 200-400
    /// from which the seed chooses. The delay of streams follows a slash: 300/1000.
    #[arg(long, default_value = "none", value_name = "LAG")]
    lag: Lag,
    /// The exchange's choices where its documents leave one, as JSON: `{"longest_salt": true}`.
    #[arg(long, value_name = "JSON", value_parser = read_rules)]
    rules: Option<Rules>,
    /// Load the state from this file if it is there, and save it there at the end.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The id of a key of the first member; goes with the --public-key of the same rank.
    #[arg(long = "key-id", value_name = "ID")]
    key_ids: Vec<String>,
    /// The PEM file of a public key of the first member, RSA or Ed25519.
    #[arg(long = "public-key", value_name = "FILE")]
    public_keys: Vec<PathBuf>,
    /// The id of a key of the second member, to trade with the first one.
    #[arg(long = "maker-key-id", value_name = "ID")]
    maker_key_ids: Vec<String>,
    /// The PEM file of a public key of the second member.
    #[arg(long = "maker-public-key", value_name = "FILE")]
    maker_public_keys: Vec<PathBuf>,
    /// The id of a key of the first member that may only read.
    #[arg(long = "reader-key-id", value_name = "ID")]
    reader_key_ids: Vec<String>,
    /// The PEM file of a public key of the first member that may only read.
    #[arg(long = "reader-public-key", value_name = "FILE")]
    reader_public_keys: Vec<PathBuf>,
    /// The id of a key of the first member as an FCM, for the operations of that family.
    #[arg(long = "fcm-key-id", value_name = "ID")]
    fcm_key_ids: Vec<String>,
    /// The PEM file of a public key of the first member as an FCM.
    #[arg(long = "fcm-public-key", value_name = "FILE")]
    fcm_public_keys: Vec<PathBuf>,
    /// Make a key pair for the first member, register it, and write its private half to this new
    /// file.
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
    /// The same for a second member, to trade with the first one.
    #[arg(long, value_name = "FILE")]
    new_maker_key: Option<PathBuf>,
    /// The same for a key of the first member that may only read.
    #[arg(long, value_name = "FILE")]
    new_reader_key: Option<PathBuf>,
    /// The same for the first member as an FCM.
    #[arg(long, value_name = "FILE")]
    new_fcm_key: Option<PathBuf>,
    /// Write the bearer token of the first member for the clearing house to this new file. Each start
    /// has other tokens.
    #[cfg(feature = "perps")]
    #[arg(long, value_name = "FILE")]
    new_klear_token: Option<PathBuf>,
    /// The same for the second member.
    #[cfg(feature = "perps")]
    #[arg(long, value_name = "FILE")]
    new_maker_klear_token: Option<PathBuf>,
    /// The same for an administrator of the first member who may only read.
    #[cfg(feature = "perps")]
    #[arg(long, value_name = "FILE")]
    new_reader_klear_token: Option<PathBuf>,
    /// The same for the first member as an FCM.
    #[cfg(feature = "perps")]
    #[arg(long, value_name = "FILE")]
    new_fcm_klear_token: Option<PathBuf>,
    /// The type of the key pairs that are made.
    #[arg(long, default_value = "ed25519", value_parser = ["ed25519", "rsa"])]
    new_key_type: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut source = error.source();
            while let Some(error) = source {
                text.push_str(": ");
                text.push_str(&error.to_string());
                source = error.source();
            }
            note(&text);
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let tier = Tier::ALL.into_iter().find(|tier| tier.as_str() == arguments.tier);
    let mut builder = Exchange::builder()
        .with_port(arguments.port)
        .with_seed(arguments.seed)
        .with_markets(arguments.markets)
        .with_traders(arguments.traders)
        .with_rules(arguments.rules.unwrap_or_default())
        .with_lag(arguments.lag.with_seed(arguments.seed))
        .with_tier(tier.unwrap_or_default());
    if let Some(file) = &arguments.state {
        builder = builder.with_state_file(file);
    }
    if let Some(port) = arguments.admin_port.or(arguments.open.then_some(0)) {
        builder = builder.with_admin_port(port);
    }
    let given = [
        (Role::Trader, "", &arguments.key_ids, &arguments.public_keys),
        (Role::Maker, "maker-", &arguments.maker_key_ids, &arguments.maker_public_keys),
        (Role::Reader, "reader-", &arguments.reader_key_ids, &arguments.reader_public_keys),
        (Role::FcmMember, "fcm-", &arguments.fcm_key_ids, &arguments.fcm_public_keys),
    ];
    for (role, prefix, ids, files) in given {
        if ids.len() != files.len() {
            let complaint = format!("each --{prefix}key-id goes with one --{prefix}public-key");
            return Err(complaint.into());
        }
        for (id, file) in ids.iter().zip(files) {
            let place = |error: &dyn Error| format!("{}: {error}", file.display());
            let pem = fs::read(file).map_err(|error| place(&error))?;
            let public_key = PublicKey::from_pem(pem).map_err(|error| place(&error))?;
            builder = builder.with_key(role, id, public_key);
        }
    }
    let key_type = if arguments.new_key_type == "rsa" { KeyType::Rsa } else { KeyType::Ed25519 };
    let new = [
        (Role::Trader, &arguments.new_key),
        (Role::Maker, &arguments.new_maker_key),
        (Role::Reader, &arguments.new_reader_key),
        (Role::FcmMember, &arguments.new_fcm_key),
    ];
    for (role, file) in new {
        let Some(file) = file else { continue };
        let id = role.key_id();
        let pair = KeyPair::generate(key_type)?;
        let written =
            private_file(file).and_then(|mut f| f.write_all(pair.private_key_pem().as_bytes()));
        written.map_err(|error| format!("{}: {error}", file.display()))?;
        note(&format!("key id {id}, private key in {}", file.display()));
        builder = builder.with_key(role, id, pair.public_key().clone());
    }
    let exchange = builder.start().await?;
    #[cfg(feature = "perps")]
    for (role, file) in [
        (Role::Trader, &arguments.new_klear_token),
        (Role::Maker, &arguments.new_maker_klear_token),
        (Role::Reader, &arguments.new_reader_klear_token),
        (Role::FcmMember, &arguments.new_fcm_klear_token),
    ] {
        let (Some(file), Some(token)) = (file, exchange.klear().token(role)) else { continue };
        let written =
            private_file(file).and_then(|mut f| f.write_all(token.access_token().as_bytes()));
        written.map_err(|error| format!("{}: {error}", file.display()))?;
        note(&format!("administrator {}, token in {}", token.admin_user_id(), file.display()));
    }
    let mut lines = vec![format!("listening on {}", exchange.base_url())];
    if let Some(url) = exchange.admin_url() {
        lines.push(format!("admin API on {url}"));
    }
    if let Some(url) = exchange.ui_url() {
        lines.push(format!("page at {url}"));
    }
    #[cfg(feature = "perps")]
    lines.push(format!("clearing house at {}", exchange.klear().base_url()));
    print(&lines)?;
    if arguments.open
        && let Err(error) = exchange.open_ui()
    {
        note(&format!("could not open a browser: {error}"));
    }
    tokio::signal::ctrl_c().await?;
    if let Some(file) = &arguments.state {
        exchange.save(file)?;
    }
    exchange.stop().await?;
    Ok(())
}

/// Prints lines at once. A reader that is gone by now, or goes when it has read the first, does not
/// end the exchange: its clients may know the address.
fn print(lines: &[String]) -> io::Result<()> {
    let text = format!("{}\n", lines.join("\n"));
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a line on the standard error output, or drops it if its reader is gone.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn read_rules(text: &str) -> Result<Rules, serde_json::Error> {
    serde_json::from_str(text)
}

/// Creates a file that only its owner can read and that must not exist yet.
fn private_file(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
