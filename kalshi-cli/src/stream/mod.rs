//! Streams as lines: live, into files, and out of files.

mod lines;
mod serve;
pub(crate) mod watch;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Args;
use kalshi_sdk::{
    UnixMillis,
    streams::{self, Connection, Event, Subscription, Tap},
};
use kalshi_ws::recording::{RecordedEvent, Recorder, Recording, Writer, WriterState};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep_until},
};

use self::{lines::Lines, serve::Served};
use crate::{
    args::duration,
    context::Context,
    failure::{Category, Failure, Outcome},
    output,
};

/// The channels, for the help.
const CHANNELS: &str = "The channel: ticker, trade, orderbook_delta, fill, user_orders, \
                        market_positions, market_lifecycle_v2, multivariate_market_lifecycle, \
                        order_group_updates, communications, cfbenchmarks_value, \
                        cfbenchmarks_value_5hz or pyth_value";

/// The bytes of frames that wait to be printed: there is room for the largest frame.
const QUEUE_BYTES: usize = 128 << 20;

/// Prints a stream as NDJSON, with gaps as lines of their own.
#[derive(Args)]
pub(crate) struct Stream {
    #[command(flatten)]
    subject: Subject,
    /// End after this number of lines.
    #[arg(long, value_name = "LINES")]
    count: Option<u64>,
    /// End after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    span: Option<Duration>,
}

/// Records a stream into compressed files, for `kalshi replay`.
#[derive(Args)]
pub(crate) struct Record {
    /// The folder, which is created.
    folder: PathBuf,
    #[command(flatten)]
    subject: Subject,
    /// The beginning of the names of the files.
    #[arg(long, default_value = "stream")]
    name: String,
    /// End after this time, instead of with Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    span: Option<Duration>,
}

/// Prints a recording as `kalshi stream` printed the stream, or serves it to clients.
///
/// With `--serve` clients connect, subscribe and get messages as from the exchange: snapshots of the
/// books as they are at that moment, then what follows, with numbers of their own. Signatures are
/// not checked. The recording plays while a client is subscribed, and waits otherwise. A gap in it
/// cuts the connections, at its end they are closed, and the command ends.
#[derive(Args)]
pub(crate) struct ReplayFiles {
    /// The folder.
    folder: PathBuf,
    /// The beginning of the names of the files.
    #[arg(long, default_value = "stream")]
    name: String,
    /// The factor by which it is faster than it was; as fast as it is read unless given.
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    speed: Option<u32>,
    /// End before the first line after this time, such as 2026-12-31T23:59:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<UnixMillis>,
    /// Serve it to clients on this port of this machine instead, as the exchange would; 0 takes any
    /// free one.
    #[arg(long, value_name = "PORT")]
    serve: Option<u16>,
}

/// The subscription.
#[derive(Args)]
pub(crate) struct Subject {
    /// The channel.
    #[arg(value_parser = channel, help = CHANNELS)]
    channel: streams::Channel,
    /// Tickers of markets, or names of indices; all unless given, where the channel has all.
    tickers: Vec<String>,
}

fn channel(text: &str) -> Result<streams::Channel, String> {
    let channel = streams::Channel::from(text);
    if let streams::Channel::Unknown(_) = channel {
        return Err(format!("there is no such channel. {CHANNELS}"));
    }
    Ok(channel)
}

fn time(text: &str) -> Result<UnixMillis, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|time| UnixMillis::from_millis(time.timestamp_millis()))
        .map_err(|_| format!("{text:?} is no time; write 2026-12-31T23:59:00Z"))
}

impl Subject {
    fn subscription(&self) -> Outcome<Subscription> {
        if self.channel == streams::Channel::OrderbookDelta && self.tickers.is_empty() {
            return Err(Failure::usage("the channel of order books needs tickers"));
        }
        let subscription = Subscription::channel(self.channel.clone());
        let subscription = subscription.with_items(self.tickers.iter().cloned());
        Ok(if self.channel == streams::Channel::Ticker {
            subscription.with_initial_snapshot()
        } else {
            subscription
        })
    }
}

/// The traffic of a connection, in order.
enum Frame {
    Connected,
    Received(UnixMillis, String),
    Disconnected(String),
    /// There was no room for this number of frames.
    Dropped(u64),
}

/// Hands frames on, and never waits.
struct Frames {
    queue: UnboundedSender<Frame>,
    waiting: Arc<AtomicUsize>,
    dropped: u64,
}

impl Tap for Frames {
    fn received(&mut self, at: UnixMillis, text: &str) {
        let waiting = self.waiting.load(Ordering::Acquire);
        if waiting > 0 && waiting.saturating_add(text.len()) > QUEUE_BYTES {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        if self.dropped > 0 {
            let _ = self.queue.send(Frame::Dropped(std::mem::take(&mut self.dropped)));
        }
        self.waiting.fetch_add(text.len(), Ordering::AcqRel);
        // A queue without a reader: the command is ending.
        let _ = self.queue.send(Frame::Received(at, text.to_owned()));
    }

    fn connected(&mut self, _: UnixMillis) {
        let _ = self.queue.send(Frame::Connected);
    }

    fn disconnected(&mut self, _: UnixMillis, reason: &str) {
        let _ = self.queue.send(Frame::Disconnected(reason.to_owned()));
    }
}

impl Stream {
    /// Returns the stream of the prices of markets.
    pub(crate) fn tickers(tickers: Vec<String>, count: Option<u64>) -> Self {
        let subject = Subject { channel: streams::Channel::Ticker, tickers };
        Self { subject, count, span: None }
    }

    /// Prints until the count or the time is over, or Ctrl-C.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let subscription = self.subject.subscription()?;
        let (sender, mut frames) = unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let tap = Frames { queue: sender, waiting: Arc::clone(&waiting), dropped: 0 };
        let config = context.stream_config().await?.without_books().with_tap(tap);
        let mut connection = connect(config).await?;
        subscribe(&connection, subscription)?;
        let until = self.span.map(|span| Instant::now() + span);
        let mut lines = Lines::new();
        let mut left = self.count;
        loop {
            tokio::select! {
                frame = next(&mut frames, &waiting) => {
                    for line in print_lines(&mut lines, frame) {
                        if left == Some(0) {
                            return Ok(());
                        }
                        output::print(&format!("{line}\n"))?;
                        left = left.map(|left| left - 1);
                    }
                    if left == Some(0) {
                        return Ok(());
                    }
                }
                event = connection.next() => check(event)?,
                () = at(until) => return Ok(()),
            }
        }
    }
}

async fn next(frames: &mut UnboundedReceiver<Frame>, waiting: &AtomicUsize) -> Frame {
    match frames.recv().await {
        Some(frame) => {
            if let Frame::Received(_, text) = &frame {
                waiting.fetch_sub(text.len(), Ordering::AcqRel);
            }
            frame
        }
        // The connection is over, and says why by its last event.
        None => std::future::pending().await,
    }
}

fn print_lines(lines: &mut Lines, frame: Frame) -> Vec<String> {
    match frame {
        Frame::Connected => vec![lines::connected()],
        Frame::Received(at, text) => lines.frame(&text, at),
        Frame::Disconnected(reason) => lines.disconnected(&reason),
        Frame::Dropped(count) => vec![lines::lagged(count)],
    }
}

/// Waits for a time; forever without one.
pub(crate) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn connect(config: streams::ConfigBuilder) -> Outcome<Connection> {
    let config = config.build().map_err(|error| failed(&error))?;
    Connection::connect(config).await.map_err(|error| failed(&error))
}

pub(crate) fn failed(error: &streams::ConnectError) -> Failure {
    let category = if error.is_key_refused() { Category::Credentials } else { Category::Network };
    let mut text = format!("could not connect to the streams: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Failure::new(category, text).with_next("kalshi doctor tells the causes apart")
}

fn subscribe(connection: &Connection, subscription: Subscription) -> Outcome {
    connection
        .handle()
        .subscribe(subscription)
        .map_err(|error| Failure::usage(format!("the subscription cannot be made: {error}")))
}

/// Looks at an event of the connection for what ends the command.
pub(crate) fn check(event: Option<Event>) -> Outcome {
    match event {
        Some(Event::Refused { channel, items, reason }) => {
            let what = if items.is_empty() { String::new() } else { format!(" {items:?} of") };
            Err(Failure::new(
                Category::Rejected,
                format!("the exchange refused{what} the channel {channel}: {reason:?}"),
            ))
        }
        Some(Event::Closed { error: Some(error) }) => Err(failed(&error)),
        Some(Event::Closed { error: None }) | None => {
            Err(Failure::new(Category::Network, "the connection is closed"))
        }
        Some(_) => Ok(()),
    }
}

impl Record {
    /// Records until the time is over or Ctrl-C, and then writes what is left.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let subscription = self.subject.subscription()?;
        let io = |error: std::io::Error| {
            Failure::local(format!("could not write to {}: {error}", self.folder.display()))
        };
        std::fs::create_dir_all(&self.folder).map_err(io)?;
        let config = context.stream_config().await?.without_books();
        let recorder = Recorder::builder(&self.folder, &*self.name);
        let recorder = recorder.with_host(context.target.name());
        let (recorder, mut writer) = recorder.start().map_err(io)?;
        let config = config.with_tap(recorder);
        let result = self.record(context, config, subscription, &mut writer).await;
        // Whatever came: what was received is written.
        writer.finish().map_err(io)?;
        result
    }

    async fn record(
        &self,
        context: &Context,
        config: streams::ConfigBuilder,
        subscription: Subscription,
        writer: &mut Writer,
    ) -> Outcome {
        // From here on Ctrl-C ends the recording, also while it connects.
        let mut interrupt = tokio::spawn(tokio::signal::ctrl_c());
        let mut connection = connect(config).await?;
        subscribe(&connection, subscription)?;
        context.output.note(&format!(
            "recording to {} until {}",
            self.folder.display(),
            if self.span.is_some() { "the time is over" } else { "Ctrl-C" }
        ));
        let until = self.span.map(|span| Instant::now() + span);
        let mut messages: u64 = 0;
        let mut is_failing = false;
        let result = loop {
            tokio::select! {
                state = writer.changed() => match state {
                    WriterState::Failing(error) if !is_failing => {
                        is_failing = true;
                        output::error_line(&format!(
                            "could not write to {}: {error}; trying again, and what finds no room \
                             in memory meanwhile will be missing",
                            self.folder.display()
                        ));
                    }
                    WriterState::Writing if is_failing => {
                        is_failing = false;
                        output::error_line("the recording is written again");
                    }
                    _ => {}
                },
                event = connection.next() => {
                    messages += u64::from(matches!(event, Some(Event::Message(_))));
                    if let Err(failure) = check(event) {
                        break Err(failure);
                    }
                }
                () = at(until) => break Ok(()),
                _ = &mut interrupt => break Ok(()),
            }
        };
        connection.close().await;
        context.output.note(&format!("{messages} messages"));
        result
    }
}

impl ReplayFiles {
    /// Reports whether the command serves the recording.
    pub(crate) fn is_server(&self) -> bool {
        self.serve.is_some()
    }

    /// Prints the recording, or serves it.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        if let Some(port) = self.serve {
            let Self { folder, name, speed, until, .. } = self;
            let served = Served { folder, name, speed: *speed, until: *until };
            return serve::serve(context, served, port).await;
        }
        let failed = |error: &dyn std::fmt::Display| {
            Failure::local(format!("{}: {error}", self.folder.display()))
        };
        let recording =
            Recording::open(&self.folder, &self.name).map_err(|error| failed(&error))?;
        let mut lines = Lines::new();
        let mut first: Option<(UnixMillis, Instant)> = None;
        let mut count: u64 = 0;
        for line in recording {
            let line = match line {
                Ok(line) => line,
                Err(error) => {
                    // What follows can still be read, and something is missing here.
                    for line in lines.disconnected(&error.to_string()) {
                        output::print(&format!("{line}\n"))?;
                    }
                    continue;
                }
            };
            count += 1;
            if self.until.is_some_and(|until| line.at > until) {
                break;
            }
            if let Some(speed) = self.speed {
                let (start, began) = *first.get_or_insert((line.at, Instant::now()));
                if line.at > start {
                    sleep_until(began + line.at.abs_diff(start) / speed).await;
                }
            }
            let printed = match line.event {
                RecordedEvent::Header(header) => lines.header(&header),
                RecordedEvent::Received(text) => lines.frame(&text, line.at),
                RecordedEvent::Connected => vec![lines::connected()],
                RecordedEvent::Disconnected(reason) => lines.disconnected(&reason),
                RecordedEvent::Lost(missing) => vec![lines::lagged(missing)],
                _ => Vec::new(),
            };
            for line in printed {
                output::print(&format!("{line}\n"))?;
            }
        }
        if count == 0 {
            return Err(failed(&format!("there is no recording with the name {:?}", self.name)));
        }
        Ok(())
    }
}
