//! `kalshi perps`: perpetual futures.

mod market;
mod portfolio;
mod trigger;

use clap::{Args, Subcommand};
use kalshi_sdk::perps::OperationId;

use super::{group, show};
use crate::{
    api::{Call, PERPS, Request},
    context::Context,
    failure::Outcome,
    order::perps as order,
};

/// The operations that each command may use. `perps api` uses any.
pub(crate) const OPERATIONS_USED: &[(&str, &[OperationId])] = &[
    ("perps enabled", &[OperationId::GetMarginEnabled]),
    ("perps fee rates", &[OperationId::GetMarginFeeTierRates]),
    ("perps fee tiers", &[OperationId::GetMarginFeeTiers]),
    ("perps funding estimate", &[OperationId::GetMarginFundingRateEstimate]),
    ("perps funding history", &[OperationId::GetMarginFundingHistory]),
    ("perps funding premium", &[OperationId::GetMarginPremiumIndex]),
    ("perps funding rates", &[OperationId::GetMarginHistoricalFundingRates]),
    ("perps group create", &[OperationId::CreateMarginOrderGroup]),
    ("perps group delete", &[OperationId::DeleteMarginOrderGroup]),
    ("perps group get", &[OperationId::GetMarginOrderGroup]),
    ("perps group limit", &[OperationId::UpdateMarginOrderGroupLimit]),
    ("perps group list", &[OperationId::GetMarginOrderGroups]),
    ("perps group reset", &[OperationId::ResetMarginOrderGroup]),
    ("perps group trigger", &[OperationId::TriggerMarginOrderGroup]),
    ("perps limits", &[OperationId::GetPerpsAccountApiLimits]),
    ("perps market actions", &[OperationId::GetMarginCorporateActions]),
    ("perps market book", &[OperationId::GetMarginMarketOrderbook]),
    ("perps market candles", &[OperationId::GetMarginMarketCandlesticks]),
    ("perps market get", &[OperationId::GetMarginMarket]),
    ("perps market list", &[OperationId::GetMarginMarkets]),
    ("perps market trades", &[OperationId::GetMarginTrades]),
    ("perps order amend", &order::AMENDS),
    ("perps order ask", &order::PLACES),
    ("perps order bid", &order::PLACES),
    ("perps order cancel", &order::CANCELS),
    ("perps order cancel-all", &order::CANCELS_ALL),
    ("perps order decrease", &order::DECREASES),
    ("perps order get", &[OperationId::GetMarginOrder]),
    ("perps order list", &[OperationId::GetMarginOrders]),
    ("perps order settle", &order::SETTLES),
    ("perps portfolio balance", &[OperationId::GetMarginBalance]),
    ("perps portfolio fills", &[OperationId::GetMarginFills]),
    ("perps portfolio positions", &[OperationId::GetMarginPositions]),
    ("perps risk account", &[OperationId::GetMarginRisk]),
    ("perps risk limit", &[OperationId::GetMarginNotionalRiskLimit]),
    ("perps risk parameters", &[OperationId::GetMarginRiskParameters]),
    ("perps status", &[OperationId::GetMarginExchangeStatus]),
    (
        "perps trigger cancel",
        &[
            OperationId::DeleteCrossMarginExitTrigger,
            OperationId::DeleteCrossMarginExitTriggerById,
            OperationId::DeleteIsolatedMarginExitTrigger,
        ],
    ),
    (
        "perps trigger list",
        &[OperationId::GetCrossMarginExitTriggers, OperationId::GetIsolatedMarginExitTriggers],
    ),
    (
        "perps trigger set",
        &[OperationId::SetCrossMarginExitTrigger, OperationId::SetIsolatedMarginExitTrigger],
    ),
    ("perps trigger update", &[OperationId::UpdateCrossMarginExitTrigger]),
];

#[derive(Subcommand)]
pub(crate) enum Command {
    Api(ApiCommand),
    /// Shows whether your account may trade perpetual futures: members are enabled one by one.
    Enabled,
    /// Shows whether perpetual futures are traded now.
    Status,
    /// Shows your rate limits for perpetual futures.
    Limits,
    /// Markets: lists, books, trades, candles, corporate actions.
    #[command(subcommand)]
    Market(market::Command),
    /// Places, changes, cancels and reads orders.
    #[command(subcommand)]
    Order(portfolio::OrderCommand),
    /// Your money, positions and fills.
    #[command(subcommand)]
    Portfolio(portfolio::Command),
    /// Leverage, margin and limits.
    #[command(subcommand)]
    Risk(portfolio::RiskCommand),
    /// Funding: rates, and what you paid or received.
    #[command(subcommand)]
    Funding(market::FundingCommand),
    /// Fee rates.
    #[command(subcommand)]
    Fee(portfolio::FeeCommand),
    /// Exit triggers: stop losses, take profits, trailing stops.
    #[command(subcommand)]
    Trigger(trigger::Command),
    /// Order groups.
    #[command(subcommand)]
    Group(group::Command),
}

/// Calls an operation on perpetual futures by its name, or by method and path.
///
/// Parameters and bodies are checked by the exchange's document before anything is sent.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        kalshi perps api list --tag market\n  \
        kalshi perps api get_margin_market -p ticker=KXBTCPERP\n  \
        kalshi perps api GET /margin/risk_parameters"
)]
pub(crate) struct ApiCommand {
    #[command(flatten)]
    request: Request,
}

impl Command {
    /// Reports whether an operation is called by its name.
    pub(crate) fn is_plain_call(&self) -> bool {
        matches!(self, Self::Api(command) if !command.request.is_table())
    }

    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Api(command) => command.request.run(context, &PERPS).await,
            Self::Enabled => show(context, call(OperationId::GetMarginEnabled), None, &[]).await,
            Self::Status => {
                let columns = ["exchange_active", "trading_active"];
                show(context, call(OperationId::GetMarginExchangeStatus), None, &columns).await
            }
            Self::Limits => {
                show(context, call(OperationId::GetPerpsAccountApiLimits), None, &[]).await
            }
            Self::Market(command) => command.run(context).await,
            Self::Order(command) => command.run(context).await,
            Self::Portfolio(command) => command.run(context).await,
            Self::Risk(command) => command.run(context).await,
            Self::Funding(command) => command.run(context).await,
            Self::Fee(command) => command.run(context).await,
            Self::Trigger(command) => command.run(context).await,
            Self::Group(command) => {
                let groups = group::Operations {
                    list: OperationId::GetMarginOrderGroups.operation(),
                    get: OperationId::GetMarginOrderGroup.operation(),
                    create: OperationId::CreateMarginOrderGroup.operation(),
                    limit: OperationId::UpdateMarginOrderGroupLimit.operation(),
                    reset: OperationId::ResetMarginOrderGroup.operation(),
                    trigger: OperationId::TriggerMarginOrderGroup.operation(),
                    delete: OperationId::DeleteMarginOrderGroup.operation(),
                };
                command.run_on(context, groups).await
            }
        }
    }
}

/// Returns a call of an operation on perpetual futures.
fn call(operation: OperationId) -> Call {
    Call::of(operation.operation())
}
