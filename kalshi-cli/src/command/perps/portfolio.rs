//! `kalshi perps order`, `portfolio`, `risk` and `fee`: what is yours.

use clap::Subcommand;
use kalshi_sdk::perps::OperationId;

use super::call;
use crate::{
    args::Format,
    command::{PageArgs, SpanArgs, list, rows, show},
    context::Context,
    failure::Outcome,
    json::Json,
    order::perps as order,
};

/// The columns of orders. An order has no status: what remains and the reason of its last change say
/// what became of it.
const ORDER_COLUMNS: [&str; 8] = [
    "created_time",
    "ticker",
    "side",
    "price",
    "fill_count",
    "remaining_count",
    "last_update_reason",
    "order_id",
];

#[derive(Subcommand)]
pub(crate) enum OrderCommand {
    /// Lists your orders.
    List {
        /// Only orders in a market.
        #[arg(long, value_name = "TICKER")]
        ticker: Option<String>,
        /// Only orders with this status.
        #[arg(long, value_parser = ["resting", "canceled", "executed"])]
        status: Option<String>,
        /// The subaccount; all of them unless set.
        #[arg(long)]
        subaccount: Option<u32>,
        #[command(flatten)]
        span: SpanArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Shows one order.
    Get { id: String },
    /// Bids for contracts: `kalshi perps order bid KXBTCPERP 2 @ 30000.25`.
    Bid(Box<order::NewOrder>),
    /// Asks for contracts to be bought: `kalshi perps order ask KXBTCPERP 2 @ 30000.25`.
    Ask(Box<order::NewOrder>),
    /// Changes price, count or expiry of an order: `kalshi perps order amend ID --price 30001`.
    Amend(order::Amend),
    /// Takes contracts off what rests of an order.
    Decrease(order::Decrease),
    /// Cancels orders by their ids.
    Cancel(order::Cancel),
    /// Cancels all resting orders of perpetual futures: of the account, of a subaccount, of a market, or
    /// those placed with this program. It cancels no orders of event contracts: `kalshi order
    /// cancel-all` does.
    CancelAll(order::CancelAll),
    /// Goes on finding out whether an order exists whose answer was lost.
    Settle(order::Settle),
}

impl OrderCommand {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List { ticker, status, subaccount, span, page } => {
                let call = call(OperationId::GetMarginOrders)
                    .with_optional("ticker", ticker)
                    .with_optional("status", status)
                    .with_optional("subaccount", subaccount);
                list(context, span.add_to(call, context), &page, 10_000, &ORDER_COLUMNS).await
            }
            Self::Get { id } => {
                let call = call(OperationId::GetMarginOrder).with("order_id", id);
                show(context, call, Some("order"), &[]).await
            }
            Self::Bid(args) => Box::pin(order::place(context, order::Side::Bid, &args)).await,
            Self::Ask(args) => Box::pin(order::place(context, order::Side::Ask, &args)).await,
            Self::Amend(args) => Box::pin(order::amend(context, &args)).await,
            Self::Decrease(args) => order::decrease(context, &args).await,
            Self::Cancel(args) => order::cancel(context, &args).await,
            Self::CancelAll(args) => order::cancel_all(context, &args).await,
            Self::Settle(args) => order::settle(context, &args).await,
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Shows the balance of each subaccount, and the settled funds.
    Balance {
        /// Compute what is available, too: 50 tokens of the rate limit instead of 5.
        #[arg(long)]
        available: bool,
    },
    /// Lists your positions.
    Positions {
        /// Only the position in a market.
        #[arg(long, value_name = "TICKER")]
        ticker: Option<String>,
        /// The subaccount; all of them unless set.
        #[arg(long)]
        subaccount: Option<u32>,
    },
    /// Lists your fills, the latest first.
    Fills {
        /// The subaccount; all of them unless set.
        #[arg(long)]
        subaccount: Option<u32>,
        #[command(flatten)]
        span: SpanArgs,
        #[command(flatten)]
        page: PageArgs,
    },
}

impl Command {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Balance { available } => balance(context, available).await,
            Self::Positions { ticker, subaccount } => {
                let call = call(OperationId::GetMarginPositions)
                    .with_optional("ticker", ticker)
                    .with_optional("subaccount", subaccount);
                let columns = [
                    "market_ticker",
                    "position",
                    "entry_price",
                    "unrealized_pnl",
                    "fees",
                    "margin_used",
                    "subaccount",
                ];
                rows(context, call, "positions", &columns).await
            }
            Self::Fills { subaccount, span, page } => {
                let call =
                    call(OperationId::GetMarginFills).with_optional("subaccount", subaccount);
                let columns = [
                    "created_time",
                    "ticker",
                    "side",
                    "count",
                    "price",
                    "fees",
                    "realized_pnl",
                    "is_taker",
                ];
                list(context, span.add_to(call, context), &page, 1_000, &columns).await
            }
        }
    }
}

/// The members of a balance that are computed only on request, and are zeros otherwise.
const AVAILABLE: [&str; 2] = ["available_balance", "resting_orders_margin"];

async fn balance(context: &Context, available: bool) -> Outcome {
    let call = call(OperationId::GetMarginBalance).with("compute_available_balance", available);
    let mut answer = call.send(context).await?;
    if !available {
        leave_out_zeros(&mut answer);
    }
    if context.output.format == Format::Json {
        return context.output.document(&answer, &[]);
    }
    let settled = answer.get("settled_funds").map(Json::cell).unwrap_or_default();
    let columns = [
        "subaccount",
        "account_equity",
        "position_value",
        "initial_margin",
        "maintenance_margin",
        AVAILABLE[0],
        AVAILABLE[1],
    ];
    let shown = if available { columns.len() } else { columns.len() - AVAILABLE.len() };
    let mut list = context.output.list("subaccount_balances", &columns[..shown]);
    list.page(answer)?;
    list.finish()?;
    context.output.note(&format!("settled funds: {settled} dollars"));
    Ok(())
}

/// Removes what was not computed: a zero would be read as an empty account.
fn leave_out_zeros(answer: &mut Json) {
    let Json::Object(members) = answer else { return };
    for (name, balances) in members {
        if name == "subaccount_balances"
            && let Json::List(rows) = balances
        {
            for row in rows {
                for name in AVAILABLE {
                    row.take(name);
                }
            }
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum RiskCommand {
    /// Shows leverage, maintenance margin and estimated liquidation prices.
    Account,
    /// Shows the ratios at which the exchange liquidates, and the multipliers of initial margin.
    Parameters,
    /// Shows the most notional value that you may hold, and how much of it is used.
    Limit,
}

impl RiskCommand {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let operation = match self {
            Self::Account => {
                let call = call(OperationId::GetMarginRisk);
                if context.output.format == Format::Json {
                    return show(context, call, None, &[]).await;
                }
                let answer = call.send(context).await?;
                let total = |name| answer.get(name).map(Json::cell).unwrap_or_default();
                let note = format!(
                    "leverage {}, notional {}, maintenance margin {} dollars",
                    total("account_leverage"),
                    total("total_position_notional"),
                    total("total_maintenance_margin"),
                );
                let columns = [
                    "market_ticker",
                    "position",
                    "mark_price",
                    "position_notional",
                    "position_leverage",
                    "maintenance_margin_required",
                    "estimated_liquidation_price",
                    "subaccount",
                ];
                let mut list = context.output.list("positions", &columns);
                list.page(answer)?;
                list.finish()?;
                context.output.note(&note);
                return Ok(());
            }
            Self::Parameters => OperationId::GetMarginRiskParameters,
            Self::Limit => OperationId::GetMarginNotionalRiskLimit,
        };
        show(context, call(operation), None, &[]).await
    }
}

#[derive(Subcommand)]
pub(crate) enum FeeCommand {
    /// Shows your fee rates, by market: a fee is price × count × rate.
    Tiers,
    /// Lists the rates of every tier.
    Rates,
}

impl FeeCommand {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Tiers => show(context, call(OperationId::GetMarginFeeTiers), None, &[]).await,
            Self::Rates => {
                let columns = ["fee_schedule", "tier", "maker_fee_rate", "taker_fee_rate"];
                let call = call(OperationId::GetMarginFeeTierRates);
                rows(context, call, "fee_tier_rates", &columns).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_nothing_computed_are_left_out() {
        let text = r#"{"settled_funds":"1","subaccount_balances":[{"available_balance":"0",
            "account_equity":"9","resting_orders_margin":"0"}]}"#;
        let mut answer = Json::parse(text).unwrap();
        leave_out_zeros(&mut answer);
        let expected = r#"{"settled_funds":"1","subaccount_balances":[{"account_equity":"9"}]}"#;
        assert_eq!(answer.to_string(), expected);
    }
}
