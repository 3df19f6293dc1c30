//! `kalshi mcp`: tools for a model, over the standard input and output.
//!
//! The standard output carries messages of the protocol and nothing else. The tools read: the method
//! of a request is that of the operation table, never one that a model names.

mod answer;
mod arguments;
mod audit;
mod orders;
mod reads;
mod server;
mod tools;

use std::{path::PathBuf, sync::Arc};

use clap::Args;

use self::{audit::Audit, server::Server};
use crate::{
    context::Context,
    failure::{Failure, Outcome},
};

/// Serves tools for a model (MCP) on the standard input and output.
///
/// The tools read markets and the account, and cannot change anything. Keys, transfers, deposits,
/// usage levels and FCM are out of their reach. A model that has a shell of yours is not held back by
/// this: it can run `kalshi order` itself.
#[derive(Args)]
#[command(after_help = "A client starts it with: kalshi --env demo mcp")]
pub(crate) struct Command {
    /// The file that each call is written down in [default: mcp-audit.ndjson in the state folder].
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let audit = Audit::open(self.audit.as_deref())?;
        let context = Arc::new(context.for_server());
        let result = tokio::select! {
            result = server::serve(Server::new(Arc::clone(&context), audit)) => result,
            ended = tokio::signal::ctrl_c() => ended.map_err(|error| {
                Failure::local(format!("could not wait for Ctrl-C: {error}"))
            }),
        };
        let saved = context.save_exchange();
        result.and(saved)
    }
}
