//! `kalshi doctor`: tells the causes of a set-up that fails apart, each with what to do about it.
//!
//! It reads, and changes nothing. Nothing secret is part of what it says.

mod certificate;
mod exchange;
mod key;
mod network;
mod report;
mod stream;

use std::time::Duration;

use clap::Args;
use kalshi_sdk::{
    Environment, OperationId,
    auth::{Service, is_loopback},
};

use self::{
    network::Place,
    report::{Check, Level},
};
use crate::{
    args::{Format, duration},
    context::{Context, Target},
    failure::{Category, Failure, Outcome},
    json::Json,
    output,
};

/// The operations that it uses.
pub(crate) const OPERATIONS: [OperationId; 5] = [
    OperationId::GetExchangeStatus,
    OperationId::GetExchangeSchedule,
    OperationId::GetMarkets,
    OperationId::GetAccountApiLimits,
    OperationId::GetApiKeys,
];

/// Checks key, clock, network, exchange and streams, and says what to do about each that fails.
#[derive(Args)]
pub(crate) struct Doctor {
    /// Print JSON, for a report of a problem. There is no secret in it.
    #[arg(long)]
    json: bool,
    /// The environment in which a refused key is tried, too [default: production for demo, and the
    /// other way around].
    #[arg(long, value_name = "ENV")]
    other: Option<Environment>,
    /// The time limit of each step of the network.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    step: Duration,
    /// The time within which the streams must ping, or answer a ping.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15s")]
    ping_within: Duration,
}

impl Doctor {
    /// Does it. A check that fails makes the command fail.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        if context.output.format != Format::Table {
            return Err(Failure::usage("its report has one form for programs: --json"));
        }
        let is_json = self.json;
        let mut printer = Printer {
            is_json,
            color: context.output.has_color(),
            checks: Vec::new(),
            printed: Ok(()),
        };
        self.check(context, &mut printer).await?;
        let failed: Vec<_> = printer
            .checks
            .iter()
            .filter(|check| check.level == Level::Fail)
            .map(|check| check.name)
            .collect();
        if is_json {
            let rows = printer.checks.iter().map(Check::to_json).collect();
            let report = Json::object([
                ("environment", Json::text(context.target.in_words())),
                ("version", Json::text(env!("CARGO_PKG_VERSION"))),
                ("ok", Json::Bool(failed.is_empty())),
                ("checks", Json::List(rows)),
            ]);
            printer.printed = output::print(&format!("{}\n", report.pretty()));
        }
        if failed.is_empty() {
            return printer.printed;
        }
        let is_key = failed.iter().all(|name| matches!(*name, "key" | "key file" | "signed call"));
        let category = if is_key { Category::Credentials } else { Category::Network };
        Err(Failure::new(category, format!("failed: {}", failed.join(", "))))
    }

    async fn check(&self, context: &Context, printer: &mut Printer) -> Outcome {
        printer.add(Check::ok("environment", context.target.in_words()));
        if let Some(check) = key::file(context) {
            printer.add(check);
        }
        let credentials = match context.credentials().await {
            Ok(credentials) => {
                let text = format!("{:?}, id {}", credentials.key_type(), credentials.key_id());
                printer.add(Check::ok("key", text));
                Some(credentials)
            }
            Err(failure) => {
                printer.add(key::unusable(&failure));
                None
            }
        };
        let environment = context.environment().await?;
        let place = match Place::of(&environment, Service::Rest) {
            Ok(place) => place,
            Err(error) => {
                printer.add(Check::fail("dns", error, "correct --env"));
                return Ok(());
            }
        };
        let proxies = network::proxies(network::variable);
        let has_proxy = proxies.level == Level::Warn && !is_loopback(&place.host);
        printer.add(proxies);
        self.network(&place, has_proxy, printer).await;
        for check in exchange::public(context).await? {
            printer.add(check);
        }
        let Some(credentials) = credentials else {
            for name in ["signed call", "scopes", "limits", "ws upgrade", "ws channel", "ws ping"] {
                printer.add(Check::skipped(name, "there is no key"));
            }
            return Ok(());
        };
        if exchange::is_failed(&printer.checks, "public call") {
            for name in ["signed call", "scopes", "limits", "ws upgrade", "ws channel", "ws ping"] {
                printer.add(Check::skipped(name, "the public call failed"));
            }
            return Ok(());
        }
        let other = self.other.clone().or(match context.target {
            Target::Demo => Some(Environment::Production),
            Target::Production => Some(Environment::Demo),
            _ => None,
        });
        for check in exchange::signed(context, &credentials, other.as_ref()).await? {
            printer.add(check);
        }
        if has_proxy {
            for name in ["ws upgrade", "ws channel", "ws ping"] {
                printer.add(Check::skipped(name, "by a proxy: try kalshi stream ticker"));
            }
            return Ok(());
        }
        for check in stream::check(&environment, &credentials, self.step, self.ping_within).await {
            printer.add(check);
        }
        Ok(())
    }

    /// Checks the way to the exchange. By a proxy it may be closed, and that does not matter.
    async fn network(&self, place: &Place, has_proxy: bool, printer: &mut Printer) {
        let soften = |check: Check| {
            if has_proxy && check.level == Level::Fail {
                let remedy = "requests go by the proxy: if the public call works, all is well";
                return Check::warn(check.name, check.text, remedy);
            }
            check
        };
        let (check, addresses) = network::dns(place, self.step).await;
        printer.add(soften(check));
        if addresses.is_empty() {
            printer.add(Check::skipped("tcp", "there is no address"));
            printer.add(Check::skipped("tls", "there is no connection"));
            return;
        }
        let (check, socket) = network::tcp(place, &addresses, self.step).await;
        printer.add(soften(check));
        let Some(socket) = socket else {
            printer.add(Check::skipped("tls", "there is no connection"));
            return;
        };
        if !place.is_tls {
            printer.add(Check::skipped("tls", "the URL is one without TLS"));
            return;
        }
        let (check, _) = network::tls(place, socket, self.step).await;
        printer.add(soften(check));
    }
}

/// Prints each check when it is made; JSON at the end.
struct Printer {
    is_json: bool,
    color: bool,
    checks: Vec<Check>,
    /// The failure of printing, after which nothing is printed. The checks go on: the exit code tells
    /// of them.
    printed: Outcome,
}

impl Printer {
    fn add(&mut self, check: Check) {
        if !self.is_json && self.printed.is_ok() {
            let text: Vec<_> = check.text(false).split('\n').map(output::safe).collect();
            // Colors are added to what is safe, and only to the level in front.
            let text = text.join("\n");
            let text = if self.color {
                let colored = check.text(true);
                let level_end = colored.find("\u{1b}[0m").map_or(0, |at| at + 4);
                let rest = text.get(5..).unwrap_or_default();
                format!("{}{rest}", colored.get(..level_end).unwrap_or_default())
            } else {
                text
            };
            self.printed = output::print(&format!("{text}\n"));
        }
        self.checks.push(check);
    }
}
