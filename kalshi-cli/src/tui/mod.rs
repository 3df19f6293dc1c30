//! `kalshi tui`: markets and the account on a live screen. Only `--trade` makes it write.

mod ladder;
mod layout;
#[cfg(test)]
mod picture;
mod run;
#[cfg(test)]
mod shots;
mod state;
mod ticket;
mod trade;
mod view;

use clap::Args;
use kalshi_sdk::{Count, Dollars, OperationId};

use crate::{context::Context, failure::Outcome, order};

/// The operations that it uses; those that write with `--trade` only.
pub(crate) const OPERATIONS: [OperationId; 19] = [
    OperationId::GetMarkets,
    OperationId::GetMarket,
    OperationId::GetEvent,
    OperationId::GetSeries,
    OperationId::GetMarketCandlesticks,
    OperationId::GetMarketOrderbook,
    OperationId::GetTrades,
    OperationId::GetOrders,
    OperationId::GetOrder,
    OperationId::GetPositions,
    OperationId::GetOrderQueuePositions,
    OperationId::GetAccountApiLimits,
    OperationId::GetExchangeStatus,
    OperationId::GetUserDataTimestamp,
    OperationId::GetHistoricalCutoff,
    OperationId::GetHistoricalOrders,
    OperationId::CreateOrderV2,
    OperationId::CancelOrderV2,
    OperationId::CancelAllOrders,
];

/// Shows markets live: book with your orders, trades, candles, positions and orders.
///
/// With --trade, keys place and cancel orders at the price under the cursor, each after a preview.
#[derive(Args)]
pub(crate) struct Tui {
    /// The tickers of markets; the open ones with the most volume unless given.
    tickers: Vec<String>,
    /// Let keys place and cancel orders.
    #[arg(long)]
    trade: bool,
    /// The number of contracts that an order begins with.
    #[arg(long, value_name = "COUNT", value_parser = order::count, default_value = "1", requires = "trade")]
    count: Count,
    /// The most that an order may cost in dollars, with fees.
    #[arg(long, value_name = "DOLLARS", value_parser = order::amount, requires = "trade")]
    max_cost: Option<Dollars>,
}

impl Tui {
    /// Shows it until it is quit.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        run::run(context, self).await
    }
}
