//! The command line: global options and the tree of commands.

use std::{path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};

#[cfg(feature = "mcp")]
use crate::mcp;
#[cfg(feature = "tui")]
use crate::tui;
use crate::{
    api, chart, command,
    context::{Context, Target},
    docs, doctor, export,
    failure::{Category, Failure, Outcome},
    order, setup, sim, stream,
};

/// The Kalshi exchange on the command line.
///
/// Commands act on the demo environment unless --env says otherwise. `--env sim` needs no account:
/// it starts an exchange inside this process.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 declined, 4 credentials, 5 rate limit, 6 a write whose
/// outcome is unknown, 7 exchange paused, 130 interrupted.
#[derive(Parser)]
#[command(name = "kalshi", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The options of every command.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The environment: demo, production, sim, or the URL of an exchange [default: demo].
    #[arg(long, short = 'e', global = true, value_name = "ENV")]
    pub(crate) env: Option<Target>,
    /// The profile of the configuration file.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// The form of the output [default: table, and json for `api`].
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// The fields to print, such as `ticker,yes_bid_dollars`; a.b is a field inside another.
    #[arg(long, global = true, value_name = "A,B", value_delimiter = ',')]
    pub(crate) fields: Vec<String>,
    /// Do what would be asked about in a real environment without asking.
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,
    /// Ask before every write, also where no real money is at stake.
    #[arg(long, global = true, conflicts_with = "yes")]
    pub(crate) ask: bool,
    /// Print the request of a write and send nothing.
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// The time limit of a request, such as 500ms, 10s or 2m [default: 30s].
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// The id of the API key.
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) key_id: Option<String>,
    /// The PEM file of the private key.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// A shell command that prints the PEM text of the private key, such as that of a vault.
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with = "key_file")]
    pub(crate) key_command: Option<String>,
    /// The file in which the exchange of `--env sim` keeps its state between commands.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) sim_state: Option<PathBuf>,
    /// Print no hints on the standard error output.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Print each request with its status and time on the standard error output.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Markets: lists, books, trades, candles.
    #[command(subcommand)]
    Market(command::market::Command),
    /// Events, each with its markets.
    #[command(subcommand)]
    Event(command::event::Command),
    /// Series of events.
    #[command(subcommand)]
    Series(command::event::SeriesCommand),
    /// The status and schedule of the exchange, your rate limits, and what requests cost.
    #[command(subcommand)]
    Exchange(command::exchange::Command),
    /// Your money, positions, fills and settlements.
    #[command(subcommand)]
    Portfolio(command::portfolio::Command),
    /// Order groups.
    #[command(subcommand)]
    Group(command::group::Command),
    /// Requests for quotes.
    #[command(subcommand)]
    Rfq(command::rfq::Command),
    /// Quotes for requests.
    #[command(subcommand)]
    Quote(command::rfq::QuoteCommand),
    /// Money between subaccounts, shards and exchanges.
    #[command(subcommand)]
    Transfer(command::transfer::Command),
    /// Your API keys.
    #[command(subcommand)]
    Key(command::key::Command),
    Api(Box<api::Command>),
    /// Places, changes, cancels and reads orders.
    #[command(subcommand)]
    Order(Box<order::Command>),
    Doctor(Box<doctor::Doctor>),
    Stream(Box<stream::Stream>),
    Record(Box<stream::Record>),
    Replay(Box<stream::ReplayFiles>),
    #[command(subcommand)]
    Export(Box<export::Export>),
    Chart(Box<chart::Chart>),
    /// One connection to the streams for many processes, over a message broker.
    #[cfg(feature = "fanout")]
    #[command(subcommand)]
    Fanout(Box<crate::fanout::Command>),
    #[cfg(feature = "tui")]
    Tui(Box<tui::Tui>),
    #[cfg(feature = "mcp")]
    Mcp(Box<mcp::Command>),
    /// Perpetual futures, which the exchange also calls margin.
    #[cfg(feature = "perps")]
    #[command(subcommand)]
    Perps(Box<command::perps::Command>),
    /// The clearing house, for clearing members.
    #[cfg(feature = "klear")]
    #[command(subcommand)]
    Klear(Box<command::klear::Command>),
    Sim(sim::Command),
    Setup(setup::Command),
    /// The configuration file.
    #[command(subcommand)]
    Config(setup::ConfigCommand),
    Completions(docs::CompletionsCommand),
    Docs(docs::Command),
}

impl Command {
    /// Returns the form of the output unless another is asked for.
    pub(crate) fn default_format(&self) -> Format {
        match self {
            Self::Api(command) if !command.is_table() => Format::Json,
            #[cfg(feature = "perps")]
            Self::Perps(command) if command.is_plain_call() => Format::Json,
            #[cfg(feature = "klear")]
            Self::Klear(command) if command.is_plain_call() => Format::Json,
            _ => Format::Table,
        }
    }

    /// Reports whether the command may name a profile that does not exist yet.
    pub(crate) fn makes_profile(&self) -> bool {
        matches!(self, Self::Setup(_) | Self::Config(_))
    }

    /// Reports whether Ctrl-C is how the command ends, and not an interruption of it.
    pub(crate) fn ends_by_interrupt(&self) -> bool {
        match self {
            Self::Record(_) | Self::Sim(_) => true,
            #[cfg(feature = "fanout")]
            Self::Fanout(command) => command.ends_by_interrupt(),
            Self::Replay(command) => command.is_server(),
            _ => self.is_server(),
        }
    }

    /// Reports whether another program speaks to the command over its standard input and output.
    pub(crate) fn is_server(&self) -> bool {
        match self {
            #[cfg(feature = "mcp")]
            Self::Mcp(command) => command.is_server(),
            _ => false,
        }
    }

    /// Runs the command.
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Market(command) => command.run(context).await,
            Self::Event(command) => command.run(context).await,
            Self::Series(command) => command.run(context).await,
            Self::Exchange(command) => command.run(context).await,
            Self::Portfolio(command) => command.run(context).await,
            Self::Group(command) => command.run(context).await,
            Self::Rfq(command) => command.run(context).await,
            Self::Quote(command) => command.run(context).await,
            Self::Transfer(command) => command.run(context).await,
            Self::Key(command) => command.run(context).await,
            Self::Api(command) => command.run(context).await,
            Self::Order(command) => command.run(context).await,
            Self::Doctor(command) => command.run(context).await,
            Self::Stream(command) => command.run(context).await,
            Self::Record(command) => command.run(context).await,
            Self::Replay(command) => command.run(context).await,
            Self::Export(command) => command.run(context).await,
            Self::Chart(command) => command.run(context).await,
            #[cfg(feature = "fanout")]
            Self::Fanout(command) => Box::pin(command.run(context)).await,
            #[cfg(feature = "tui")]
            Self::Tui(command) => command.run(context).await,
            #[cfg(feature = "mcp")]
            Self::Mcp(command) => Box::pin(command.run(context)).await,
            #[cfg(feature = "perps")]
            Self::Perps(command) => Box::pin(command.run(context)).await,
            #[cfg(feature = "klear")]
            Self::Klear(command) => command.run(context).await,
            Self::Sim(command) => command.run(context).await,
            Self::Setup(command) => command.run(context).await,
            Self::Config(command) => command.run(context),
            Self::Completions(command) => command.run(),
            Self::Docs(command) => command.run(),
        }
    }
}

/// Prints what clap says of a command line: help and version on the standard output, the rest as a
/// failure. The form of the output is taken from the arguments as they stand, since they could not
/// be read as a whole.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Help for a reader that went away is no failure.
        return match error.print() {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        };
    }
    let rendered = error.render();
    let plain = rendered.to_string();
    if crate::output::redacted(&plain) == plain {
        let _ = error.print();
    } else {
        // What was given in place of something else may be a key.
        crate::output::error_line(&crate::output::redacted(&plain));
    }
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let wants = |name: &str| {
        let pairs = words.iter().zip(words.iter().skip(1));
        pairs.into_iter().any(|(a, b)| (a == "-o" || a == "--output") && b == name)
            || words.iter().any(|word| {
                [format!("-o{name}"), format!("-o={name}"), format!("--output={name}")]
                    .contains(word)
            })
    };
    let format = [(Format::Json, "json"), (Format::Ndjson, "ndjson")]
        .into_iter()
        .find(|(_, name)| wants(name))
        .map(|(format, _)| format);
    if let Some(format) = format {
        let first = plain.lines().next().unwrap_or_default();
        let failure = Failure::usage(first.strip_prefix("error: ").unwrap_or(first))
            .with_next("kalshi --help");
        let _ = crate::output::print_failure(&failure, format);
    }
    ExitCode::from(Category::Usage.exit_code())
}

/// A point in time, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Seconds since 1970.
    At(i64),
    /// Seconds from now; negative for the past.
    FromNow(i64),
}

impl Moment {
    /// Returns the seconds since 1970.
    pub(crate) fn seconds(self, now: DateTime<Utc>) -> i64 {
        match self {
            Self::At(seconds) => seconds,
            Self::FromNow(seconds) => now.timestamp().saturating_add(seconds),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse::<u32>() {
            return Ok(Self::At(seconds.into()));
        }
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(time.timestamp()));
        }
        let (length, is_ahead) = match text.strip_prefix('+') {
            Some(length) => (length, true),
            None => (text, false),
        };
        let length = duration(length).map_err(|_| {
            format!(
                "{text:?} is no time: write seconds since 1970, 2026-11-23T14:00:00Z, 2h for two \
                 hours ago, or +2h for two hours from now"
            )
        })?;
        let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
        Ok(Self::FromNow(if is_ahead { seconds } else { -seconds }))
    }
}

/// Reads a length of time: `500ms`, `10s`, `2m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is no time; write 500ms, 10s, 2m or 1h"))?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{text:?} has no unit; write 500ms, 10s, 2m, 1h or 1d")),
    };
    let total = number.checked_mul(millis).filter(|millis| *millis > 0);
    total.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_moment_is_absolute_or_counted_from_now() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        for (text, seconds) in [
            ("1790000000", 1_790_000_000),
            ("1970-01-01T00:01:00Z", 60),
            ("2h", 992_800),
            ("+1m", 1_000_060),
        ] {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.seconds(now), seconds, "{text}");
        }
        for text in ["", "yesterday", "-5", "2026-01-01", "+"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in
            ["", "5", "s", "-1s", "1.5s", "0s", "99999999999999999999s", "9999999999999999h"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
