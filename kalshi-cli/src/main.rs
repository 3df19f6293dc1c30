//! The command line of the Kalshi exchange. The only entry; each module is one part.

mod api;
mod args;
mod chart;
mod command;
mod context;
mod docs;
mod doctor;
mod export;
mod failure;
#[cfg(feature = "fanout")]
mod fanout;
mod json;
#[cfg(feature = "mcp")]
mod mcp;
mod order;
mod output;
mod profile;
mod prompt;
mod setup;
mod sim;
mod stream;
#[cfg(test)]
mod test_folder;
#[cfg(feature = "tui")]
mod tui;
mod under_way;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    args::Arguments,
    context::Context,
    failure::{Category, Failure, Outcome},
};

fn main() -> ExitCode {
    let mut arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return args::refuse(&error),
    };
    if arguments.command.is_server() {
        // The standard output is for the protocol: a failure is told on the other one only.
        arguments.global.output = Some(args::Format::Table);
    }
    let format = arguments.global.output.unwrap_or(arguments.command.default_format());
    let result = Context::new(arguments.global, &arguments.command)
        .map_err(|failure| (failure, format))
        .and_then(|context| {
            let format = context.output.format;
            run(&context, arguments.command).map_err(|failure| (failure, format))
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((failure, format)) => {
            if failure.category != Category::ClosedPipe {
                // Where the output is gone as well, the exit code is all that is left.
                let _ = output::report(&failure, format);
            }
            ExitCode::from(failure.category.exit_code())
        }
    }
}

/// Runs a command until it ends or Ctrl-C comes.
fn run(context: &Context, command: args::Command) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("could not start the runtime: {error}")))?;
    let result = runtime.block_on(async {
        let ends_by_interrupt = command.ends_by_interrupt();
        let mut running = Box::pin(command.run(context));
        let result = tokio::select! {
            result = &mut running => result,
            // The command is not dropped yet: its writes are marked as under way.
            _ = tokio::signal::ctrl_c(), if !ends_by_interrupt => Err(under_way::interrupted()),
        };
        drop(running);
        // Also after a failure: what was done before it is done.
        let saved = context.save_exchange();
        match result {
            Err(failure) if failure.category == Category::ClosedPipe => {
                failure::ended(saved, Err(failure))
            }
            result => result.and(saved),
        }
    });
    // A read of the standard input that nothing ends is not waited for.
    runtime.shutdown_background();
    result
}
