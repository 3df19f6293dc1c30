//! Cancels the orders of a program that dies. See `kalshi_trade::watchdog`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its user")]

use std::{error::Error, process::ExitCode, time::Duration};

use clap::Parser;
use kalshi_sdk::{Client, Credentials, Environment};
use kalshi_trade::watchdog::{Patience, Scope, Watchdog};

const ENVIRONMENT: &str = "\
Environment:
  KALSHI_ENV               production, demo, or the URL of a service
  KALSHI_API_KEY_ID        the id of a key that may write
  KALSHI_PRIVATE_KEY_PATH  its PEM file, or KALSHI_PRIVATE_KEY with the text
  KALSHI_WATCHDOG_TOKEN    a long text that the programs have to know";

/// Cancels the orders of a program that dies.
///
/// Prints the address on which it listens. Stops at Ctrl-C, but not before the orders of every
/// program that it watches are canceled; at a second Ctrl-C at once.
#[derive(Parser)]
#[command(version, after_help = ENVIRONMENT)]
struct Arguments {
    /// The port on 127.0.0.1; 0 takes any that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Cancel the orders of this subaccount only.
    #[arg(long, value_name = "NUMBER", conflicts_with = "prefix", value_parser = clap::value_parser!(u8).range(0..=63))]
    subaccount: Option<u8>,
    /// Cancel only the orders whose client order id begins with this.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// The time for which nothing may rest until a cancellation is over.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    quiet: u64,
    /// The time between two looks at what rests.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(20..=60_000))]
    poll: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let token = std::env::var("KALSHI_WATCHDOG_TOKEN").map_err(
        |_| "KALSHI_WATCHDOG_TOKEN is not set: give it a long text, here and to the program",
    )?;
    let client = Client::builder()
        .with_environment(Environment::from_env()?)
        .with_credentials(Credentials::from_env()?)
        .build()?;
    // A watchdog with a wrong key would be found out when it is too late.
    client.get_orders().status("resting").limit(1).send().await?;
    let scope = match (arguments.subaccount, arguments.prefix) {
        (Some(number), _) => Scope::Subaccount(number),
        (None, Some(prefix)) => Scope::Prefix(prefix),
        (None, None) => Scope::All,
    };
    let patience = Patience::default()
        .with_quiet(Duration::from_secs(arguments.quiet))
        .with_poll(Duration::from_millis(arguments.poll));
    let watchdog = Watchdog::builder(client, token)
        .with_scope(scope)
        .with_patience(patience)
        .on_event(|event| eprintln!("{event:?}"))
        .bind(arguments.port)
        .await?;
    println!("{}", watchdog.address());
    let armed = watchdog.armed();
    let stopped = async {
        interrupted().await;
        // The programs that it watches die of the same Ctrl-C, or do not: they are waited for.
        while armed.get() > 0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
                () = interrupted() => break,
            }
        }
    };
    tokio::select! {
        () = watchdog.run() => {}
        () = stopped => {}
    }
    Ok(())
}

/// Waits for Ctrl-C, or for the signals by which a system ends a program.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let (Ok(mut terminated), Ok(mut hung_up)) =
            (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
        else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
            _ = hung_up.recv() => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}
