//! `kalshi sim`: the exchange of `--env sim`, served until Ctrl-C.

use std::path::{Path, PathBuf};

use clap::Args;
use kalshi_auth::{KeyType, server::KeyPair};
#[cfg(feature = "klear")]
use kalshi_sim::KlearToken;
use kalshi_sim::{Exchange, Role, StartError};

#[cfg(feature = "klear")]
use crate::command::klear;
use crate::{
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
    profile::private_file,
};

/// Serves an exchange on this machine until Ctrl-C, for programs in any language.
///
/// It prints where it listens, and the variables with which `kalshi` and the SDK find it.
#[derive(Args)]
pub(crate) struct Command {
    /// The port on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Also serve the admin API (clock, results, pauses, deposits, faults) and the page on this
    /// port.
    #[arg(long, value_name = "PORT")]
    admin: Option<u16>,
    /// Open the page that shows the exchange in a browser; with the admin API on any free port
    /// unless one is given.
    #[arg(long)]
    open: bool,
    /// The seed of the markets: the same seed makes the same markets.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The number of markets that are open at the start, up to the next dozen.
    #[arg(long, default_value_t = 60)]
    markets: u32,
    /// The number of simulated traders that keep the markets going.
    #[arg(long, default_value_t = 0)]
    traders: usize,
    /// The new file for your token of the clearing house; each start has another one.
    #[cfg(feature = "klear")]
    #[arg(long, value_name = "FILE")]
    save_klear_token: Option<PathBuf>,
    /// The new file for the private key of the member that you are.
    #[arg(long, value_name = "FILE")]
    save_key: Option<PathBuf>,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let state = context.global.sim_state.as_ref();
        let mut builder = Exchange::builder()
            .with_port(self.port)
            .with_seed(self.seed)
            .with_markets(self.markets)
            .with_traders(self.traders);
        if let Some(port) = self.admin.or(self.open.then_some(0)) {
            builder = builder.with_admin_port(port);
        }
        if let Some(file) = state {
            builder = builder.with_state_file(file);
        }
        let key_id = Role::Trader.key_id();
        if let Some(file) = &self.save_key {
            let pair = KeyPair::generate(KeyType::Ed25519)
                .map_err(|error| Failure::local(format!("could not make a key: {error}")))?;
            private_file(file, pair.private_key_pem().as_bytes()).map_err(|error| {
                Failure::usage(format!("could not create {}: {error}", file.display()))
            })?;
            builder = builder.with_key(Role::Trader, &key_id, pair.public_key().clone());
        }
        let exchange = builder.start().await.map_err(|error| not_started(&error))?;
        let file = self.save_key.as_deref().map(shown);
        let is_known = file.is_some();
        let mut lines = vec![
            ("KALSHI_ENV", Json::text(exchange.base_url())),
            ("KALSHI_API_KEY_ID", Json::optional(is_known.then_some(key_id))),
            ("KALSHI_PRIVATE_KEY_PATH", Json::optional(file)),
        ];
        #[cfg(feature = "klear")]
        lines.extend(self.klear_token(&exchange)?);
        lines.extend([
            ("streams", Json::text(exchange.stream_url())),
            ("admin", Json::optional(exchange.admin_url())),
            ("page", Json::optional(exchange.ui_url())),
        ]);
        context.output.document(&Json::object(lines), &[])?;
        if !is_known {
            context
                .output
                .note("public operations only: --save-key FILE makes a key for the others");
        }
        context.output.note("Ctrl-C stops it");
        if self.open
            && let Err(error) = exchange.open_ui()
        {
            context.output.note(&format!("could not open a browser: {error}"));
        }
        tokio::signal::ctrl_c()
            .await
            .map_err(|error| Failure::local(format!("could not wait for Ctrl-C: {error}")))?;
        if let Some(file) = state {
            exchange.save(file).map_err(|error| {
                Failure::local(format!("could not write {}: {error}", file.display()))
            })?;
        }
        exchange
            .stop()
            .await
            .map_err(|error| Failure::local(format!("the exchange ended with an error: {error}")))
    }
}

#[cfg(feature = "klear")]
impl Command {
    /// Writes the token of the clearing house, and returns the variables with which it is found.
    fn klear_token(&self, exchange: &Exchange) -> Outcome<[(&'static str, Json); 2]> {
        let file = self.save_klear_token.as_deref();
        let token = file.and_then(|_| exchange.klear().token(Role::Trader));
        if let Some((file, token)) = file.zip(token) {
            private_file(file, token.access_token().as_bytes()).map_err(|error| {
                Failure::usage(format!("could not create {}: {error}", file.display()))
            })?;
        }
        Ok([
            (klear::USER_ID, Json::optional(token.map(KlearToken::admin_user_id))),
            (klear::TOKEN_FILE, Json::optional(file.map(shown))),
        ])
    }
}

/// Returns the whole path of a file.
fn shown(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

/// Returns the failure of an exchange that did not start.
pub(crate) fn not_started(error: &StartError) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Failure::local(format!("could not start the exchange: {error}{}", cause.unwrap_or_default()))
}
