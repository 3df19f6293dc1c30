//! `kalshi portfolio`.

use clap::Subcommand;
use kalshi_sdk::{Client, Dollars, OperationId};
use kalshi_trade::history::{self, History, Range};

use super::{PageArgs, SpanArgs, list, show};
use crate::{
    api::{Call, Next},
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
};

const FILL_COLUMNS: [&str; 8] = [
    "created_time",
    "ticker",
    "outcome_side",
    "book_side",
    "count_fp",
    "yes_price_dollars",
    "fee_cost",
    "is_taker",
];

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Shows your cash and the value of your positions.
    Balance {
        /// The subaccount; the primary unless set.
        #[arg(long)]
        subaccount: Option<u32>,
    },
    /// Lists your positions in markets that are not settled.
    Positions {
        /// Only the position in a market.
        #[arg(long, value_name = "TICKER")]
        ticker: Option<String>,
        /// Only positions in the markets of an event.
        #[arg(long, value_name = "TICKER")]
        event: Option<String>,
        /// The state of the markets.
        #[arg(long, value_parser = ["unsettled", "settled", "all"])]
        settlement: Option<String>,
        /// The subaccount; the primary unless set.
        #[arg(long)]
        subaccount: Option<u32>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Lists your fills of the live tier, the latest first.
    Fills {
        /// Only fills in a market.
        #[arg(long, value_name = "TICKER")]
        ticker: Option<String>,
        /// Only fills of an order.
        #[arg(long, value_name = "ID")]
        order: Option<String>,
        #[command(flatten)]
        span: SpanArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Lists your settlements, the latest first.
    Settlements {
        /// Only the settlement of a market.
        #[arg(long, value_name = "TICKER")]
        ticker: Option<String>,
        #[command(flatten)]
        span: SpanArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Lists all your fills or orders, live and archived, without gaps or duplicates.
    #[command(subcommand)]
    History(HistoryCommand),
    /// Shows what each market has brought, and the sums. Whether the exchange deducts fees from the
    /// profit is not documented, so they are not netted here.
    Pnl {
        /// The subaccount; the primary unless set.
        #[arg(long)]
        subaccount: Option<u32>,
    },
}

#[derive(Subcommand)]
pub(crate) enum HistoryCommand {
    /// Lists fills.
    Fills(HistoryArgs),
    /// Lists orders.
    Orders(HistoryArgs),
}

#[derive(clap::Args)]
pub(crate) struct HistoryArgs {
    /// Only those in a market.
    #[arg(long, value_name = "TICKER")]
    ticker: Option<String>,
    #[command(flatten)]
    span: SpanArgs,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Balance { subaccount } => {
                let call =
                    Call::new(OperationId::GetBalance).with_optional("subaccount", subaccount);
                let columns = ["balance_dollars", "portfolio_value", "updated_ts"];
                show(context, call, None, &columns).await
            }
            Self::Positions { ticker, event, settlement, subaccount, page } => {
                let call = Call::new(OperationId::GetPositions)
                    .with_optional("ticker", ticker)
                    .with_optional("event_ticker", event)
                    .with_optional("settlement_status", settlement)
                    .with_optional("subaccount", subaccount);
                let columns = [
                    "ticker",
                    "position_fp",
                    "market_exposure_dollars",
                    "realized_pnl_dollars",
                    "fees_paid_dollars",
                    "last_updated_ts",
                ];
                list(context, call, &page, 1_000, &columns).await
            }
            Self::Fills { ticker, order, span, page } => {
                let call = Call::new(OperationId::GetFills)
                    .with_optional("ticker", ticker)
                    .with_optional("order_id", order);
                list(context, span.add_to(call, context), &page, 1_000, &FILL_COLUMNS).await
            }
            Self::Settlements { ticker, span, page } => {
                let call = Call::new(OperationId::GetSettlements).with_optional("ticker", ticker);
                let columns = [
                    "settled_time",
                    "ticker",
                    "market_result",
                    "yes_count_fp",
                    "no_count_fp",
                    "revenue",
                    "fee_cost",
                ];
                list(context, span.add_to(call, context), &page, 1_000, &columns).await
            }
            Self::History(command) => command.run(context).await,
            Self::Pnl { subaccount } => pnl(context, subaccount).await,
        }
    }
}

impl HistoryCommand {
    async fn run(self, context: &Context) -> Outcome {
        let (Self::Fills(args) | Self::Orders(args)) = &self;
        let mut range = Range::all();
        if let Some(ticker) = &args.ticker {
            range = range.with_ticker(ticker);
        }
        let (since, until) = args.span.seconds(context);
        if let Some(since) = since {
            range = range.with_since(kalshi_sdk::UnixSeconds::from_seconds(since));
        }
        if let Some(until) = until {
            range = range.with_until(kalshi_sdk::UnixSeconds::from_seconds(until));
        }
        let client: Client = context.client().await?;
        match self {
            Self::Fills(_) => {
                let rows = history::fills(&client, &range);
                print_history(context, rows, "fills", &FILL_COLUMNS, OperationId::GetFills).await
            }
            Self::Orders(_) => {
                let columns = [
                    "created_time",
                    "ticker",
                    "status",
                    "outcome_side",
                    "book_side",
                    "yes_price_dollars",
                    "fill_count_fp",
                    "remaining_count_fp",
                    "order_id",
                ];
                let rows = history::orders(&client, &range);
                print_history(context, rows, "orders", &columns, OperationId::GetOrders).await
            }
        }
    }
}

async fn print_history<T: serde::Serialize + Send + 'static>(
    context: &Context,
    mut rows: History<'_, T>,
    items: &str,
    columns: &[&str],
    operation: OperationId,
) -> Outcome {
    let unreadable = |error: String| Failure::new(Category::Response, error);
    let mut list = context.output.list(items, columns);
    let mut batch = Vec::new();
    while let Some(row) = rows.next().await {
        let row = row.map_err(|error| Failure::of_call(&error, operation.operation()))?;
        let text = serde_json::to_string(&row).map_err(|error| unreadable(error.to_string()))?;
        batch.push(Json::parse(&text).map_err(|error| unreadable(error.to_string()))?);
        if batch.len() >= 1_000 {
            let rows = Json::List(std::mem::take(&mut batch));
            list.page(Json::object([(items, rows)]))?;
        }
    }
    list.page(Json::object([(items, Json::List(batch))]))?;
    list.finish()
}

/// The amounts that are summed over all markets.
const SUMS: [&str; 4] = [
    "realized_pnl_dollars",
    "fees_paid_dollars",
    "market_exposure_dollars",
    "total_traded_dollars",
];

async fn pnl(context: &Context, subaccount: Option<u32>) -> Outcome {
    let call = Call::new(OperationId::GetPositions)
        .with("settlement_status", "all")
        .with("limit", 1_000)
        .with_optional("subaccount", subaccount);
    let mut sums = [Dollars::default(); SUMS.len()];
    let mut markets = Vec::new();
    call.pages(context, |mut page| {
        let Some(Json::List(rows)) = page.take("market_positions") else {
            return Ok(Next::Page { limit: None });
        };
        for row in rows {
            let mut members = vec![("ticker", row.get("ticker").cloned().unwrap_or(Json::Null))];
            for (name, sum) in SUMS.iter().zip(&mut sums) {
                let text = row.get(name).map(Json::cell).unwrap_or_default();
                let amount: Dollars = text.parse().map_err(|error| {
                    Failure::new(Category::Response, format!("{name} {text:?}: {error}"))
                })?;
                *sum = sum.checked_add(amount).ok_or_else(|| {
                    Failure::new(Category::Response, format!("the sum of {name} is out of range"))
                })?;
                members.push((*name, Json::text(text)));
            }
            markets.push(Json::object(members));
        }
        Ok(Next::Page { limit: None })
    })
    .await?;
    let total = SUMS.iter().zip(sums).map(|(name, sum)| (*name, Json::text(sum.to_string())));
    if context.output.format == crate::args::Format::Json {
        return context.output.document(
            &Json::object([("markets", Json::List(markets)), ("total", Json::object(total))]),
            &[],
        );
    }
    let first = std::iter::once(("ticker", Json::text("total")));
    markets.push(Json::object(first.chain(total)));
    context.output.rows("markets", markets, &[])
}
