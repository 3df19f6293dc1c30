//! `kalshi tui`: markets and the account on a live screen. It only looks.

mod layout;
mod run;
#[cfg(test)]
mod shots;
mod state;
mod view;

use clap::Args;
use kalshi_sdk::OperationId;

use crate::{context::Context, failure::Outcome};

/// The operations that it uses.
pub(crate) const OPERATIONS: [OperationId; 8] = [
    OperationId::GetMarkets,
    OperationId::GetMarket,
    OperationId::GetEvent,
    OperationId::GetMarketCandlesticks,
    OperationId::GetTrades,
    OperationId::GetOrderQueuePositions,
    OperationId::GetAccountApiLimits,
    OperationId::GetUserDataTimestamp,
];

/// Shows markets live: book with your orders, trades, candles, positions and orders.
#[derive(Args)]
pub(crate) struct Tui {
    /// The tickers of markets; the open ones with the most volume unless given.
    tickers: Vec<String>,
}

impl Tui {
    /// Shows it until it is quit.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        run::run(context, self).await
    }
}
