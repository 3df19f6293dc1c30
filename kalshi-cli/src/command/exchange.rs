//! `kalshi exchange`.

use clap::Subcommand;
use kalshi_sdk::OperationId;

use super::show;
use crate::{api::Call, context::Context, failure::Outcome};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tells whether the exchange and its trading are active.
    Status,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Status => {
                let columns = [
                    "exchange_active",
                    "trading_active",
                    "exchange_estimated_resume_time",
                    "intra_exchange_transfers_active",
                ];
                show(context, Call::new(OperationId::GetExchangeStatus), None, &columns).await
            }
        }
    }
}
