//! `kalshi fanout`: one connection to the streams for many processes, over NATS.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use clap::{Args, Subcommand};
use kalshi_fanout::{
    Follower, FollowerConfig, Lease, Publisher, PublisherConfig,
    bus::PublisherNode,
    live::{LiveFollower, LivePublisher},
    nats::{NatsBus, NatsConfig, NatsError, StreamSettings},
    subject::{Kind, SubjectError},
    write_frame,
};
use kalshi_sdk::streams::{Event, Subscription};
use tokio::{process::Child, time::Instant};

use crate::{
    args::duration,
    context::{Context, Target},
    failure::{Category, Failure, Outcome},
    json::Json,
    output, stream,
};

/// The variables with the credentials for the broker.
const USER: &str = "KALSHI_NATS_USER";
const PASSWORD: &str = "KALSHI_NATS_PASSWORD";
const TOKEN: &str = "KALSHI_NATS_TOKEN";

#[derive(Subcommand)]
pub(crate) enum Command {
    Up(Up),
    Publish(Publish),
    Follow(Follow),
}

/// Starts the installed `nats-server` on this machine until Ctrl-C.
///
/// It listens on 127.0.0.1 only and keeps its streams in a folder. For more than one machine write a
/// configuration of your own: the page on operations of the crate kalshi-fanout says what it needs.
#[derive(Args)]
pub(crate) struct Up {
    /// The folder of its configuration and streams, which is created.
    folder: PathBuf,
    /// The port on 127.0.0.1.
    #[arg(long, default_value_t = 4222, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The most storage for streams, in GiB.
    #[arg(long, default_value_t = 10, value_name = "GIB", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    storage: u32,
}

/// Publishes order books and trades from one connection to the broker, until Ctrl-C.
///
/// Start it twice, on two machines: one publishes, and the other takes over when it ends.
#[derive(Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    broker: Broker,
    /// The tickers of the markets.
    #[arg(required = true)]
    tickers: Vec<String>,
    /// Also publish your fills, orders and positions, under this name. Let only your own processes
    /// read the broker's subjects `kx.v1.*.own.>`.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// The most storage for the log, in MiB; with an account, a sixteenth of it more for that.
    #[arg(long, default_value_t = 8_192, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    log: u64,
}

/// Prints what a publisher publishes as NDJSON, with gaps as lines of their own.
#[derive(Args)]
pub(crate) struct Follow {
    #[command(flatten)]
    broker: Broker,
    /// The tickers of the markets.
    tickers: Vec<String>,
    /// Also print the fills, orders and positions of the account that is published under this name.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// End after this number of lines.
    #[arg(long, value_name = "LINES")]
    count: Option<u64>,
    /// End after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    span: Option<Duration>,
}

/// The broker.
///
/// Credentials for it are taken from `KALSHI_NATS_USER` and `KALSHI_NATS_PASSWORD`, or from
/// `KALSHI_NATS_TOKEN`.
#[derive(Args)]
pub(crate) struct Broker {
    /// The URL of the broker; repeat it for each server of a cluster.
    #[arg(long = "server", value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    servers: Vec<String>,
    /// The name of the environment in subjects, as publisher and followers share it; that of --env
    /// unless given.
    #[arg(long = "as", value_name = "NAME")]
    environment: Option<String>,
}

impl Command {
    pub(crate) const fn ends_by_interrupt(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Publish(_))
    }

    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Up(up) => up.run(context).await,
            Self::Publish(publish) => publish.run(context).await,
            Self::Follow(follow) => follow.run(context).await,
        }
    }
}

impl Broker {
    fn environment(&self, context: &Context) -> Outcome<String> {
        if let Some(name) = &self.environment {
            return Ok(name.clone());
        }
        match &context.target {
            Target::Custom(_) => Err(Failure::usage("an exchange by its URL has no name")
                .with_next("--as NAME gives it one")),
            named => Ok(named.name().to_owned()),
        }
    }

    fn config(&self, context: &Context) -> Outcome<NatsConfig> {
        let mut servers = self.servers.iter();
        let first = servers.next().ok_or_else(|| Failure::usage("--server is missing"))?;
        let mut config = NatsConfig::new(first, self.environment(context)?);
        for server in servers {
            config = config.with_server(server);
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Ok(match (variable(USER), variable(PASSWORD), variable(TOKEN)) {
            (Some(user), Some(password), None) => config.with_user(user, password),
            (None, None, Some(token)) => config.with_token(token),
            (None, None, None) => config,
            _ => {
                return Err(Failure::usage(format!(
                    "set {USER} and {PASSWORD}, or {TOKEN} alone, for the broker"
                )));
            }
        })
    }
}

fn of_broker(error: &NatsError) -> Failure {
    match error {
        NatsError::Config { .. } => Failure::usage(error.to_string()),
        NatsError::Connect { .. } => Failure::new(Category::Network, error.to_string())
            .with_next("kalshi fanout up FOLDER starts a broker on this machine"),
        other => Failure::new(Category::Rejected, other.to_string()),
    }
}

fn of_subject(error: &SubjectError) -> Failure {
    Failure::usage(error.to_string())
}

/// Returns an id that no other publisher has, and no earlier run of this one.
fn new_id() -> Outcome<String> {
    let random = getrandom::u64()
        .map_err(|error| Failure::local(format!("this machine has no random numbers: {error}")))?;
    Ok(format!("kalshi-{}-{random:016x}", std::process::id()))
}

impl Up {
    async fn run(self, context: &Context) -> Outcome {
        let failed = |what: &Path| {
            let what = what.display().to_string();
            move |error: std::io::Error| {
                Failure::local(format!("could not write to {what}: {error}"))
            }
        };
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        let folder = std::path::absolute(&self.folder).map_err(failed(&self.folder))?;
        let file = folder.join("nats-server.conf");
        fs::write(&file, self.configuration(&folder)?).map_err(failed(&file))?;
        let mut server = start(&file)?;
        context.output.document(
            &Json::object([
                ("server", Json::text(format!("nats://127.0.0.1:{}", self.port))),
                ("configuration", Json::text(file.display().to_string())),
            ]),
            &[],
        )?;
        context.output.note("Ctrl-C stops it");
        let ended = |status: std::io::Result<std::process::ExitStatus>| {
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let log = folder.join("nats-server.log");
            Failure::local(format!("nats-server has ended: {how}"))
                .with_next(format!("{} says why", log.display()))
        };
        tokio::select! {
            status = server.wait() => Err(ended(status)),
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(|error| {
                    Failure::local(format!("could not wait for Ctrl-C: {error}"))
                })?;
                // It has the same Ctrl-C from a terminal, and writes what it has.
                match tokio::time::timeout(Duration::from_secs(2), server.wait()).await {
                    Ok(_) => Ok(()),
                    Err(_) => server
                        .kill()
                        .await
                        .map_err(|error| Failure::local(format!("could not stop it: {error}"))),
                }
            }
        }
    }

    /// Returns the configuration: this machine only, streams in the folder, no unbounded storage.
    fn configuration(&self, folder: &Path) -> Outcome<String> {
        let text = |path: PathBuf| {
            let path = path.to_str().map(str::to_owned);
            path.filter(|path| !path.contains(['"', '\\', '\n']))
                .ok_or_else(|| Failure::usage("the name of the folder cannot be configured"))
        };
        let (store, log) = (text(folder.join("store"))?, text(folder.join("nats-server.log"))?);
        let Self { port, storage, .. } = self;
        Ok(format!(
            "# Written by `kalshi fanout up`.\n\
             listen: \"127.0.0.1:{port}\"\n\
             log_file: \"{log}\"\n\
             logfile_size_limit: 16MB\n\
             max_payload: 1MB\n\
             write_deadline: \"10s\"\n\
             jetstream {{\n  store_dir: \"{store}\"\n  max_memory_store: 256MB\n  max_file_store: {storage}GB\n}}\n"
        ))
    }
}

fn start(file: &Path) -> Outcome<Child> {
    let mut command = tokio::process::Command::new("nats-server");
    command.arg("-c").arg(file).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().map_err(|error| {
        Failure::local(format!("could not start nats-server: {error}"))
            .with_next("apt-get install nats-server, or nats.io, has it")
    })
}

impl Publish {
    async fn run(self, context: &Context) -> Outcome {
        let environment = self.broker.environment(context)?;
        let mut streams = StreamSettings::default();
        streams.max_bytes = self.log << 20;
        streams.account_max_bytes = streams.max_bytes / 16;
        streams.has_accounts = self.account.is_some();
        let bus = self.broker.config(context)?.with_streams(streams);
        let id = new_id()?;
        let mut config = PublisherConfig::new(environment, &id);
        config.account.clone_from(&self.account);
        let publisher = Publisher::new(config).map_err(|error| of_subject(&error))?;
        let bus = NatsBus::publisher(bus).await.map_err(|error| of_broker(&error))?;
        let node = PublisherNode::new(publisher, Lease::new(id), bus);
        // From here on Ctrl-C ends it gracefully, also while it connects.
        let mut interrupt = tokio::spawn(tokio::signal::ctrl_c());
        let config = context.stream_config().await?;
        let connected = LivePublisher::connect(node, config).await;
        let mut publisher = connected.map_err(|error| stream::failed(&error))?;
        let mut subscriptions = vec![
            Subscription::orderbook(self.tickers.iter().cloned()),
            Subscription::trades(self.tickers.iter().cloned()),
        ];
        if self.account.is_some() {
            subscriptions.extend([
                Subscription::fills(),
                Subscription::user_orders(),
                Subscription::market_positions(),
            ]);
        }
        for subscription in subscriptions {
            publisher.subscribe(subscription).map_err(|error| {
                Failure::usage(format!("the subscription cannot be made: {error}"))
            })?;
        }
        let mut leads = None;
        let result = loop {
            tokio::select! {
                event = publisher.next() => {
                    if let Err(failure) = stream::check(event) {
                        break Err(failure);
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
                _ = &mut interrupt => break Ok(()),
            }
            let now = publisher.leads();
            if leads.replace(now) != Some(now) {
                context.output.note(if now {
                    "publishing"
                } else {
                    "standing by: another publisher publishes, or the lease is being taken"
                });
            }
        };
        let metrics = publisher.metrics();
        publisher.close().await;
        context.output.note(&format!(
            "{} messages, {} changes conflated, {} lost",
            metrics.published, metrics.conflated, metrics.lost
        ));
        result
    }
}

impl Follow {
    async fn run(self, context: &Context) -> Outcome {
        if self.tickers.is_empty() && self.account.is_none() {
            return Err(Failure::usage("name markets, or an account with --account"));
        }
        let config = FollowerConfig::new(self.broker.environment(context)?);
        // So that many processes do not ask for everything at once.
        let jitter = || {
            Duration::from_millis(getrandom::u32().map_or(250, |random| u64::from(random % 500)))
        };
        let mut follower = Follower::new(config, jitter).map_err(|error| of_subject(&error))?;
        follower.follow(self.tickers.iter().cloned()).map_err(|error| of_subject(&error))?;
        let bus = NatsBus::follower(self.broker.config(context)?).await;
        let mut follower = LiveFollower::new(follower, bus.map_err(|error| of_broker(&error))?);
        let trades = self.tickers.iter().map(|ticker| (Kind::Trade, ticker));
        let own = self.account.iter().flat_map(|account| Kind::OWN.map(|kind| (kind, account)));
        for (kind, of) in trades.chain(own) {
            follower.follow_kind(kind, of).map_err(|error| of_subject(&error))?;
        }
        let until = self.span.map(|span| Instant::now() + span);
        let mut left = self.count;
        while left != Some(0) {
            tokio::select! {
                event = follower.next() => {
                    let Some(line) = event.as_ref().and_then(line) else { continue };
                    output::print(&format!("{line}\n"))?;
                    left = left.map(|left| left - 1);
                }
                () = stream::at(until) => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Returns the line of an event: a message as a frame of the exchange, and what is missing.
fn line(event: &Event) -> Option<String> {
    let object = |kind: &str, members: Vec<(&'static str, Json)>| {
        let kind = ("type", Json::text(kind));
        Some(Json::object(std::iter::once(kind).chain(members)).to_string())
    };
    let channel = |channel: &dyn ToString| ("channel", Json::text(channel.to_string()));
    let number = |number: Option<i64>| number.map_or(Json::Null, Json::number);
    match event {
        Event::Message(message) => write_frame(message),
        Event::Gap { channel: name, expected, received, .. } => object(
            "gap",
            vec![channel(name), ("expected", number(*expected)), ("received", number(*received))],
        ),
        Event::Uncovered { channel: name, items, .. } => {
            let items = Json::List(items.iter().map(Json::text).collect());
            object("gap", vec![channel(name), ("void", items)])
        }
        Event::Disconnected { reason } => {
            object("disconnected", vec![("reason", Json::text(reason.to_string()))])
        }
        Event::Reconnected { .. } => object("connected", Vec::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kalshi_sdk::streams::{Channel, DisconnectReason};

    use super::*;

    #[test]
    fn a_loss_is_a_line() {
        let gap = Event::Gap { channel: Channel::Fill, sid: 1, expected: Some(2), received: None };
        assert_eq!(
            line(&gap).unwrap(),
            r#"{"type":"gap","channel":"fill","expected":2,"received":null}"#
        );
        let reason = DisconnectReason::Silent;
        let lost = line(&Event::Disconnected { reason }).unwrap();
        assert!(lost.starts_with(r#"{"type":"disconnected","reason":"#), "{lost}");
    }

    #[test]
    fn the_broker_listens_on_this_machine_only_and_is_bounded() {
        let up = Up { folder: PathBuf::from("x"), port: 4_333, storage: 3 };
        let text = up.configuration(Path::new("/a b")).unwrap();
        assert!(text.contains("listen: \"127.0.0.1:4333\"\n"), "{text}");
        assert!(text.contains("store_dir: \"/a b/store\"") && text.contains("max_file_store: 3GB"));
        assert!(up.configuration(Path::new("/a\"b")).is_err());
    }
}
