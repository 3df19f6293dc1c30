//! `kalshi klear`: the clearing house.

use std::{env, io::Read as _};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use crate::{
    api::{KLEAR, Request},
    context::Context,
    failure::{Failure, Outcome},
};

/// The variables that hold the bearer token.
pub(crate) const USER_ID: &str = "KALSHI_KLEAR_USER_ID";
const TOKEN: &str = "KALSHI_KLEAR_TOKEN";
pub(crate) const TOKEN_FILE: &str = "KALSHI_KLEAR_TOKEN_FILE";

/// The longest token that is read from a file, in bytes.
const MAX_TOKEN: u64 = 64 << 10;

#[derive(Subcommand)]
pub(crate) enum Command {
    Api(ApiCommand),
}

/// Calls an operation of the clearing house by its name, or by method and path.
///
/// The bearer token is that of the variables `KALSHI_KLEAR_USER_ID`, the id of the administrator, and
/// `KALSHI_KLEAR_TOKEN`, or `KALSHI_KLEAR_TOKEN_FILE` for a file that has the token. With `--env sim`
/// it is that of the exchange in this process.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        kalshi klear api list\n  \
        kalshi klear api get_settlement_balance\n  \
        kalshi klear api GET /margin/active_obligations"
)]
pub(crate) struct ApiCommand {
    #[command(flatten)]
    request: Request,
}

impl Command {
    /// Reports whether an operation is called by its name.
    pub(crate) fn is_plain_call(&self) -> bool {
        let Self::Api(command) = self;
        !command.request.is_table()
    }

    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let Self::Api(command) = self;
        command.request.run(context, &KLEAR).await
    }
}

/// Returns the id of the administrator and the token, from the variables.
pub(crate) fn token() -> Outcome<(String, Zeroizing<String>)> {
    let variable = |name: &str| {
        let value = env::var_os(name).filter(|value| !value.is_empty())?;
        Some(value.into_string().map_err(|_| {
            // Its value is not repeated.
            Failure::credentials(format!("the variable {name} is not text"))
        }))
    };
    let missing = || {
        Failure::credentials(format!("no token of the clearing house: set {USER_ID} and {TOKEN}"))
            .with_next(format!("{TOKEN_FILE} names a file that has the token"))
    };
    let id = variable(USER_ID).ok_or_else(missing)??;
    if let Some(token) = variable(TOKEN) {
        return Ok((id, Zeroizing::new(token?)));
    }
    let path = variable(TOKEN_FILE).ok_or_else(missing)??;
    let failed = |why: String| Failure::credentials(format!("{TOKEN_FILE}, {path}: {why}"));
    let file = std::fs::File::open(&path).map_err(|error| failed(error.to_string()))?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    let token = Zeroizing::new(text.trim().to_owned());
    if token.is_empty() {
        return Err(failed("the file is empty".to_owned()));
    }
    Ok((id, token))
}
