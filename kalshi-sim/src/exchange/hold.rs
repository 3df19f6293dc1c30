//! An exchange that stays open when its test fails, so that it can be looked at.

use std::{
    env,
    io::{self, Write as _},
    process::{Command, Stdio},
};

use tokio::runtime::{Builder, Runtime};

use crate::exchange::{Exchange, ExchangeBuilder, StartError};

/// The threads that serve an exchange while the test's own thread waits.
#[derive(Debug)]
pub(super) struct Held(Option<Runtime>);

impl Drop for Held {
    fn drop(&mut self) {
        // Waiting for it is not allowed on a thread of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Reports whether the environment asks for it: `KALSHI_SIM_HOLD=1`.
pub(super) fn is_wanted() -> bool {
    env::var_os("KALSHI_SIM_HOLD").is_some_and(|value| value == "1")
}

/// Starts an exchange with a page, on threads of its own.
pub(super) async fn start(builder: ExchangeBuilder) -> Result<Exchange, StartError> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|source| StartError::Listen { port: 0, source })?;
    let started = runtime.spawn(builder.with_ui().start_here()).await;
    let held = Held(Some(runtime));
    let failed = |error| StartError::Listen { port: 0, source: io::Error::other(error) };
    let mut exchange = started.map_err(failed)??;
    exchange.held = Some(held);
    Ok(exchange)
}

/// Says where the exchange of a failed test is, and waits for the user.
pub(super) fn wait(exchange: &Exchange) {
    let url = exchange.ui_url().unwrap_or_default();
    // Not by a macro: what those print is kept back while a test runs.
    let _ = writeln!(
        io::stderr(),
        "\nthe test failed; its exchange stays open until Enter is pressed: {url}"
    );
    let _ = io::stdin().read_line(&mut String::new());
}

/// Opens an address in a browser.
pub(super) fn open(url: &str) -> io::Result<()> {
    let mut command = match env::var_os("BROWSER") {
        Some(program) => Command::new(program),
        None if cfg!(target_os = "macos") => Command::new("open"),
        None if cfg!(windows) => {
            let mut command = Command::new("rundll32");
            command.arg("url.dll,FileProtocolHandler");
            command
        }
        None => Command::new("xdg-open"),
    };
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut browser = command.spawn()?;
    // It may run for long; when it ends, nothing of it is left.
    std::thread::spawn(move || browser.wait());
    Ok(())
}
