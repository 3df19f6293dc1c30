//! A second process that cancels the orders of a first one when that dies.
//!
//! The exchange has no such switch over REST: the orders of a program that is gone rest until they
//! are filled. A watchdog holds a key of its own, listens on this machine, and cancels when a program
//! that introduced itself ends without saying so, or is silent for longer than agreed.
//!
//! It cancels orders of event contracts; with the feature `perps` and `WatchdogBuilder::with_perps`
//! (`--perps` of the program) those of perpetual futures as well. Requests for quotes, quotes and exit
//! triggers stay.
//!
//! | what happens | the orders |
//! |---|---|
//! | the program crashes, is killed, or hangs | are canceled |
//! | it is stopped with Ctrl-C together with the watchdog | are canceled: the watchdog ends last |
//! | both are stopped with Ctrl-Z in one terminal | stay until both go on: give the watchdog a terminal or a session of its own (`setsid`) |
//! | the watchdog dies | stay; [`Heartbeat::beat`] fails, and the program has to stop |
//! | the machine dies, or loses its network | stay: only an `expiration_time` on the orders survives that |
//!
//! ```text
//! cargo install kalshi-trade --features perps,watchdog
//! KALSHI_WATCHDOG_TOKEN=… KALSHI_ENV=demo kalshi-trade-watchdog --port 7070 --prefix mm1-
//! ```
//!
//! # Examples
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let exchange = kalshi_sim::Exchange::start().await?;
//! # let client = exchange.client(kalshi_sim::Role::Trader)?;
//! use std::time::Duration;
//!
//! use kalshi_trade::watchdog::{Heartbeat, Scope, Watchdog};
//!
//! // The watchdog: usually a process of its own, kalshi-trade-watchdog.
//! let token = "a-long-text-that-both-know";
//! let watchdog = Watchdog::builder(client, token).with_scope(Scope::All).bind(0).await?;
//! let address = watchdog.address();
//! tokio::spawn(watchdog.run());
//!
//! // The program: beats where it makes progress, not in a task of its own.
//! let mut heartbeat = Heartbeat::connect(address, token, Duration::from_secs(2)).await?;
//! for _round in 0..3 {
//!     heartbeat.beat().await?;
//! }
//! heartbeat.stop().await?;
//! # Ok(())
//! # }
//! ```

mod cancel;
mod events;
#[cfg(feature = "perps")]
mod perps;
mod protocol;
mod sweep;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kalshi_sdk::Client;
use kalshi_types::UnixMillis;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};

pub use self::{
    cancel::{CancelEvent, Patience, Products, Scope, cancel_until_quiet},
    protocol::Death,
};
use self::{
    protocol::{MAX_LINE, OK, Output, Watch},
    sweep::{Task, until_quiet},
};

/// The programs that are watched at once. Further ones are refused.
const MAX_CONNECTIONS: usize = 64;
/// The longest token, in bytes.
const MAX_TOKEN: usize = 256;
/// The time that the watchdog has to answer a beat.
const REPLY: Duration = Duration::from_secs(2);

/// What a watchdog reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum WatchdogEvent<'a> {
    /// A program introduced itself.
    Armed,
    /// A program said that it has ended its orders itself.
    Disarmed,
    /// A program is dead: its orders are canceled now.
    Tripped(Death),
    /// What canceling came to so far.
    Canceling(CancelEvent<'a>),
}

type Report = Arc<dyn Fn(WatchdogEvent<'_>) + Send + Sync>;

/// Collects the settings of a [`Watchdog`].
#[must_use = "call `bind`"]
pub struct WatchdogBuilder {
    client: Client,
    token: String,
    scope: Scope,
    products: Products,
    patience: Patience,
    report: Report,
}

impl fmt::Debug for WatchdogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchdogBuilder")
            .field("scope", &self.scope)
            .field("products", &self.products)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// Listens on this machine, and cancels the orders of programs that die. See the
/// [module](self).
#[must_use = "call `run`"]
pub struct Watchdog {
    settings: WatchdogBuilder,
    listener: TcpListener,
    address: SocketAddr,
    armed: Arc<AtomicUsize>,
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Tells how many programs are watched.
#[derive(Clone, Debug)]
pub struct ArmedCount(Arc<AtomicUsize>);

impl ArmedCount {
    /// Returns the number of programs that are watched, and of those whose orders are being
    /// canceled.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Watchdog {
    /// Returns a builder. The client needs a key that may write; programs have to know the token,
    /// which must not contain blanks.
    pub fn builder(client: Client, token: impl Into<String>) -> WatchdogBuilder {
        WatchdogBuilder {
            client,
            token: token.into(),
            scope: Scope::All,
            products: Products::default(),
            patience: Patience::default(),
            report: Arc::new(|_| {}),
        }
    }

    /// Returns the address on which it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a count of the programs that are watched. One that died is among them until its
    /// orders are canceled.
    pub fn armed(&self) -> ArmedCount {
        ArmedCount(Arc::clone(&self.armed))
    }

    /// Watches, until the future is dropped. That cancels nothing: drop it when
    /// [`armed`](Self::armed) is zero.
    pub async fn run(self) {
        let (trips, trip) = watch::channel(0_u64);
        let settings = Arc::new(self.settings);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accept = async {
            loop {
                let stream = match self.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Too many open files, or a connection that is gone already.
                        tracing::warn!(%error, "could not accept a connection");
                        sleep(REPLY / 10).await;
                        continue;
                    }
                };
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
                let (settings, trips, armed) =
                    (Arc::clone(&settings), trips.clone(), Arc::clone(&self.armed));
                tokio::spawn(async move {
                    attend(stream, &settings, &trips, &armed).await;
                    drop(slot);
                });
            }
        };
        tokio::select! {
            () = accept => {}
            () = cancel_at_each(trip, &settings, &self.armed) => {}
        }
    }
}

impl WatchdogBuilder {
    /// Sets the orders that are canceled; unless set all of the account, of event contracts.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Cancels the orders of perpetual futures, too, within the scope. The account has to be enabled
    /// for them: a cancellation ends only once nothing rests in either product.
    #[cfg(feature = "perps")]
    pub fn with_perps(mut self) -> Self {
        self.products = self.products.with_perps();
        self
    }

    /// Sets the times of a cancellation.
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Calls a function with everything that happens. It should return at once: the cancellation
    /// waits for it. If it panics, that is logged and the watch goes on.
    pub fn on_event(mut self, report: impl Fn(WatchdogEvent<'_>) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }

    /// Listens on a port of 127.0.0.1; 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// The port is taken, or the token is not 1 to 256 visible ASCII characters.
    pub async fn bind(self, port: u16) -> io::Result<Watchdog> {
        if !(1..=MAX_TOKEN).contains(&self.token.len())
            || !self.token.bytes().all(|byte| byte.is_ascii_graphic())
        {
            let reason = "the token has to be 1 to 256 visible ASCII characters, without blanks";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        Ok(Watchdog { settings: self, listener, address, armed: Arc::default() })
    }

    /// Reports an event. A function that panics must not leave orders.
    fn tell(&self, event: WatchdogEvent<'_>) {
        if catch_unwind(AssertUnwindSafe(|| (self.report)(event))).is_err() {
            tracing::error!("the function given to `on_event` panicked");
        }
    }
}

/// Cancels at once whenever a program has died, until nothing has rested for a time. A further death
/// meanwhile starts that over.
async fn cancel_at_each(
    mut trip: watch::Receiver<u64>,
    settings: &WatchdogBuilder,
    armed: &AtomicUsize,
) {
    let task = Task {
        client: &settings.client,
        scope: &settings.scope,
        products: settings.products,
        patience: settings.patience,
    };
    let mut handled = 0;
    while trip.wait_for(|deaths| *deaths > handled).await.is_ok() {
        let report = |event: CancelEvent<'_>| settings.tell(WatchdogEvent::Canceling(event));
        let deaths = until_quiet(&task, &trip, report).await;
        let ended = usize::try_from(deaths - handled).unwrap_or(usize::MAX);
        armed.fetch_sub(ended, Ordering::AcqRel);
        handled = deaths;
    }
}

/// Attends to one connection until it ends.
async fn attend(
    mut stream: TcpStream,
    settings: &WatchdogBuilder,
    trips: &watch::Sender<u64>,
    armed: &AtomicUsize,
) {
    let start = Instant::now();
    // By a clock that does not step.
    let now = || {
        let elapsed = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
        UnixMillis::from_millis(elapsed)
    };
    let mut connection = Watch::new(settings.token.clone(), now());
    let mut line = Vec::new();
    let mut chunk = [0; MAX_LINE];
    while let Some(deadline) = connection.deadline() {
        let left = deadline.abs_diff(now().min(deadline));
        let read = tokio::select! {
            read = stream.read(&mut chunk) => Some(read.unwrap_or(0)),
            () = sleep(left) => None,
        };
        let received = match read {
            Some(0) => {
                settle(connection.closed(), &mut stream, settings, trips).await;
                continue;
            }
            Some(length) => chunk.get(..length).unwrap_or_default(),
            None => {
                settle(connection.tick(now()), &mut stream, settings, trips).await;
                continue;
            }
        };
        for byte in received {
            let was_armed = connection.is_armed();
            let output = match byte {
                b'\n' => {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    line.clear();
                    connection.line(now(), &text)
                }
                _ if line.len() >= MAX_LINE => connection.overlong(),
                _ => {
                    line.push(*byte);
                    continue;
                }
            };
            if connection.is_armed() && !was_armed {
                armed.fetch_add(1, Ordering::AcqRel);
                settings.tell(WatchdogEvent::Armed);
            }
            if was_armed && matches!(output, Output::End(_)) {
                armed.fetch_sub(1, Ordering::AcqRel);
                settings.tell(WatchdogEvent::Disarmed);
            }
            if !settle(output, &mut stream, settings, trips).await {
                let output = connection.closed();
                settle(output, &mut stream, settings, trips).await;
            }
        }
    }
}

/// Does what an output asks for. Returns false if the connection cannot be written to.
async fn settle(
    output: Output,
    stream: &mut TcpStream,
    settings: &WatchdogBuilder,
    trips: &watch::Sender<u64>,
) -> bool {
    let reply = match output {
        Output::Nothing | Output::End(None) => return true,
        Output::Reply(reply) | Output::End(Some(reply)) => reply,
        Output::Trip(death) => {
            // First of all, so that no report delays it.
            trips.send_modify(|deaths| *deaths += 1);
            settings.tell(WatchdogEvent::Tripped(death));
            return true;
        }
    };
    let line = format!("{reply}\n");
    matches!(timeout(REPLY, stream.write_all(line.as_bytes())).await, Ok(Ok(())))
}

/// The connection of a program to its [`Watchdog`].
///
/// Dropping it without [`stop`](Self::stop) counts as the program's death: its orders are canceled.
#[derive(Debug)]
pub struct Heartbeat {
    stream: TcpStream,
}

impl Heartbeat {
    /// Connects to a watchdog and asks to be watched: from now on a silence of more than `silence`
    /// (100 ms to 10 minutes) counts as death.
    ///
    /// # Errors
    ///
    /// The watchdog cannot be reached, or refuses: another token, or a silence out of range. Make no
    /// orders then.
    pub async fn connect(address: SocketAddr, token: &str, silence: Duration) -> io::Result<Self> {
        let stream = timeout(REPLY, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let mut heartbeat = Self { stream };
        heartbeat.ask(&format!("hello {token} {}\n", silence.as_millis())).await?;
        Ok(heartbeat)
    }

    /// Tells the watchdog that the program is alive. Call it at least twice within the silence that
    /// was agreed on, **where the strategy makes progress**: a task of its own would go on beating
    /// for a strategy that hangs.
    ///
    /// # Errors
    ///
    /// The watchdog is gone, or does not answer within two seconds: nothing would cancel the orders
    /// any more. Cancel them, and stop.
    pub async fn beat(&mut self) -> io::Result<()> {
        self.ask("beat\n").await
    }

    /// Ends the watch in peace, after the program has ended its orders itself.
    ///
    /// # Errors
    ///
    /// The watchdog is gone, or does not answer within two seconds. It then cancels.
    pub async fn stop(mut self) -> io::Result<()> {
        self.ask("bye\n").await
    }

    async fn ask(&mut self, line: &str) -> io::Result<()> {
        let answer = async {
            self.stream.write_all(line.as_bytes()).await?;
            let mut answer = Vec::new();
            loop {
                match self.stream.read_u8().await? {
                    b'\n' => return Ok::<_, io::Error>(answer),
                    _ if answer.len() >= MAX_LINE => return Err(io::ErrorKind::InvalidData.into()),
                    byte => answer.push(byte),
                }
            }
        };
        let answer: Vec<u8> = timeout(REPLY, answer).await??;
        if answer == OK.as_bytes() {
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let reason = format!("the watchdog answered {answer:?}: check the token and the silence");
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, reason))
    }
}
