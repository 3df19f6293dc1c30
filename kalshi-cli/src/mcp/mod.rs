//! `kalshi mcp`: tools for a model, over the standard input and output.
//!
//! The standard output carries messages of the protocol and nothing else. The tools read: the method
//! of a request is that of the operation table, never one that a model names. With `--allow trade`
//! there are tools for orders, too, and each write waits for a person at a terminal; with
//! `--unattended` it is sent within ceilings instead.

mod answer;
mod arguments;
mod audit;
mod ceilings;
mod confirm;
mod orders;
mod reads;
mod server;
mod tickets;
mod tools;
mod writes;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use kalshi_sdk::Dollars;

use self::{
    audit::Audit,
    ceilings::{Ceilings, MAX_PER_MINUTE},
    server::Shared,
    writes::Unattended,
};
use crate::{
    args::duration,
    context::Context,
    failure::{Failure, Outcome},
    order::amount,
};

/// Serves tools for a model (MCP) on the standard input and output.
///
/// The tools read markets and the account, and cannot change anything. With `--allow trade` they
/// place, change and cancel orders, each after a person has confirmed it with `kalshi mcp confirm`,
/// or, with `--unattended`, within ceilings that a person set and without asking.
/// Keys, transfers, deposits, usage levels and FCM are out of their reach. A model that has a shell
/// of yours is not held back by this, nor by tickets: it can run `kalshi order` itself.
#[derive(Args)]
#[command(after_help = "A client starts it with: kalshi --env demo mcp")]
pub(crate) struct Command {
    /// The file that each call is written down in [default: mcp-audit.ndjson in the state folder].
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// The tools beside those that read.
    #[arg(long, value_name = "TOOLS", value_enum, value_delimiter = ',')]
    allow: Vec<Allowed>,
    /// The time to find out what became of an order if its answer is lost; a call with the same
    /// ticket goes on.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "20s")]
    settle_within: Duration,
    /// Sends what the model asks for without a person, within the four ceilings, which it needs.
    #[arg(
        long,
        requires_all = [
            "allow",
            "max_order_cost",
            "max_day_cost",
            "max_orders_per_minute",
            "markets",
        ],
    )]
    unattended: bool,
    /// Unattended: the most that one order may cost, fees included.
    #[arg(long, value_name = "DOLLARS", value_parser = amount, requires = "unattended")]
    max_order_cost: Option<Dollars>,
    /// Unattended: the most that the orders of 24 hours may cost together, those that were refused
    /// or canceled included.
    #[arg(long, value_name = "DOLLARS", value_parser = amount, requires = "unattended")]
    max_day_cost: Option<Dollars>,
    /// Unattended: the most orders and changes in 60 seconds, 1 to 60.
    #[arg(
        long,
        value_name = "ORDERS",
        value_parser = clap::value_parser!(u32).range(1..=MAX_PER_MINUTE),
        requires = "unattended",
    )]
    max_orders_per_minute: Option<u32>,
    /// Unattended: the tickers of the markets in which orders are placed, changed and canceled.
    #[arg(long, value_name = "TICKERS", value_delimiter = ',', requires = "unattended")]
    markets: Vec<String>,
    #[command(subcommand)]
    inner: Option<Inner>,
}

/// The tools that are there only if they are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Allowed {
    /// Orders: placed, changed and canceled, each confirmed by a person.
    Trade,
}

#[derive(Subcommand)]
enum Inner {
    Confirm(confirm::Confirm),
}

impl Command {
    /// Reports whether a client speaks to the command over its standard input and output.
    pub(crate) fn is_server(&self) -> bool {
        self.inner.is_none()
    }

    /// Returns the ceilings, if no person is to confirm.
    fn ceilings(&self) -> Outcome<Option<Ceilings>> {
        let all = (self.max_order_cost, self.max_day_cost, self.max_orders_per_minute);
        let (Some(order_cost), Some(day_cost), Some(orders_per_minute)) = all else {
            return Ok(None);
        };
        let markets: BTreeSet<String> = self.markets.iter().cloned().collect();
        if markets.contains("") {
            return Err(Failure::usage("a ticker of --markets is empty"));
        }
        Ok(Some(Ceilings { order_cost, day_cost, orders_per_minute, markets }))
    }

    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let may_trade = self.allow.contains(&Allowed::Trade);
        if let Some(Inner::Confirm(confirm)) = &self.inner {
            if may_trade {
                return Err(Failure::usage("--allow is for the server: kalshi mcp --allow trade"));
            }
            return confirm.run(context, &Audit::open(self.audit.as_deref(), false)?).await;
        }
        if may_trade && context.global.dry_run {
            return Err(Failure::usage("--allow trade and --dry-run exclude one another"));
        }
        let ceilings = self.ceilings()?;
        if ceilings.is_some() && context.global.ask {
            return Err(Failure::usage("--unattended and --ask exclude one another"));
        }
        let audit = Audit::open(self.audit.as_deref(), ceilings.is_some())?;
        let context = Arc::new(context.for_server());
        let trade = may_trade.then_some(self.settle_within);
        let unattended = match ceilings {
            None => None,
            Some(ceilings) => {
                context.output.note(&format!(
                    "{}: orders are sent without a person, {}",
                    context.target.in_words(),
                    ceilings.in_words()
                ));
                Some(Unattended::open(&context, ceilings).await?)
            }
        };
        let shared = Arc::new(Shared::new(Arc::clone(&context), audit, trade, unattended)?);
        let result = tokio::select! {
            result = server::serve(Arc::clone(&shared)) => result,
            ended = tokio::signal::ctrl_c() => ended.map_err(|error| {
                Failure::local(format!("could not wait for Ctrl-C: {error}"))
            }),
        };
        // A write that is on its way is followed to its end.
        shared.close().await;
        let saved = context.save_exchange();
        result.and(saved)
    }
}
