//! Cancels the orders of a program that dies. See `kalshi_trade::watchdog`.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use clap::Parser;
use kalshi_sdk::{Client, Credentials, Environment};
use kalshi_trade::watchdog::{Patience, Scope, Watchdog};

const ENVIRONMENT: &str = "\
Environment:
  KALSHI_ENV               production, demo, or the URL of a service
  KALSHI_API_KEY_ID        the id of a key that may write
  KALSHI_PRIVATE_KEY_PATH  its PEM file, or KALSHI_PRIVATE_KEY with the text
  KALSHI_WATCHDOG_TOKEN    a long text that the programs have to know";

/// Cancels the orders of a program that dies: those of event contracts, and with --perps those of
/// perpetual futures.
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
    /// Cancel the orders of perpetual futures as well (needs a build with the feature `perps`).
    #[arg(long)]
    perps: bool,
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
            let _ = writeln!(io::stderr(), "error: {error}");
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
    if arguments.perps {
        check_perps(&client).await?;
    }
    let scope = match (arguments.subaccount, arguments.prefix) {
        (Some(number), _) => Scope::Subaccount(number),
        (None, Some(prefix)) => Scope::Prefix(prefix),
        (None, None) => Scope::All,
    };
    let patience = Patience::default()
        .with_quiet(Duration::from_secs(arguments.quiet))
        .with_poll(Duration::from_millis(arguments.poll));
    let (said, written) = notices(io::stderr());
    let builder = Watchdog::builder(client, token)
        .with_scope(scope)
        .with_patience(patience)
        .on_event(move |event| said.say(format!("{event:?}")));
    #[cfg(feature = "perps")]
    let builder = if arguments.perps { builder.with_perps() } else { builder };
    let watchdog = builder.bind(arguments.port).await?;
    let mut out = io::stdout();
    match writeln!(out, "{}", watchdog.address()).and_then(|()| out.flush()) {
        // With --port it is known without.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
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
    written.wait(LAST_WORDS);
    Ok(())
}

/// Makes the reads of perpetual futures that a cancellation needs.
#[cfg(feature = "perps")]
async fn check_perps(client: &Client) -> Result<(), Box<dyn Error>> {
    client.perps().get_margin_orders().status("resting").limit(1).send().await?;
    client.perps().balance().await?;
    Ok(())
}

#[cfg(not(feature = "perps"))]
async fn check_perps(_: &Client) -> Result<(), Box<dyn Error>> {
    Err("--perps needs a build with it: cargo install kalshi-trade --features perps,watchdog"
        .into())
}

/// The events that wait to be written. Further ones are counted and dropped.
const MAX_WAITING: usize = 1_024;
/// The time that the last events have to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Takes events. It never waits and never fails: if the program that died read them, the pipe is full
/// or closed, and that is when its orders have to be canceled.
struct Notices {
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

impl Notices {
    fn say(&self, line: String) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Tells when all events are written.
struct Written(Receiver<()>);

impl Written {
    /// Waits until all events are written and the last [`Notices`] is gone, at most for a time.
    /// Returns whether they are.
    fn wait(self, time: Duration) -> bool {
        self.0.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Writes what is said, a line each, from a thread of its own.
fn notices(mut out: impl Write + Send + 'static) -> (Notices, Written) {
    let (lines, waiting) = sync_channel::<String>(MAX_WAITING);
    let (done, written) = channel();
    let dropped = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&dropped);
    thread::spawn(move || {
        // Dropped at the end, which is what the other side waits for.
        let _done: Sender<()> = done;
        for line in waiting {
            let _ = writeln!(out, "{line}");
            let count = counted.swap(0, Ordering::Relaxed);
            if count > 0 {
                let _ = writeln!(out, "{count} events were left out");
            }
        }
    });
    (Notices { lines, dropped }, Written(written))
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Writes when it is told so, as a pipe does that is full.
    #[derive(Clone)]
    struct Pipe(Arc<Mutex<Vec<u8>>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nothing_up() {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let full = text.lock().unwrap();
        let (notices, written) = notices(Pipe(Arc::clone(&text)));
        let said = MAX_WAITING + 10;
        for number in 0..said {
            notices.say(number.to_string());
        }
        drop(full);
        drop(notices);
        assert!(written.wait(Duration::from_secs(60)));
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        let left_out: usize = text
            .lines()
            .filter_map(|line| line.strip_suffix(" events were left out")?.parse::<usize>().ok())
            .sum();
        let lines = text.lines().filter(|line| line.parse::<usize>().is_ok()).count();
        assert!(left_out > 0, "{text}");
        assert_eq!(lines + left_out, said);
    }

    #[test]
    fn a_reader_that_never_reads_does_not_keep_the_program() {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let full = text.lock().unwrap();
        let (notices, written) = notices(Pipe(Arc::clone(&text)));
        notices.say("a line".to_owned());
        drop(notices);
        assert!(!written.wait(Duration::from_millis(20)));
        drop(full);
    }

    #[test]
    fn a_reader_that_is_gone_is_no_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (notices, written) = notices(Gone);
        notices.say("a line".to_owned());
        notices.say("another".to_owned());
        drop(notices);
        assert!(written.wait(Duration::from_secs(60)));
    }
}
