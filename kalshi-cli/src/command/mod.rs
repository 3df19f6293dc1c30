//! The curated commands: each is a few calls of the operation table.

pub(crate) mod event;
pub(crate) mod exchange;
pub(crate) mod group;
pub(crate) mod key;
#[cfg(feature = "klear")]
pub(crate) mod klear;
pub(crate) mod market;
#[cfg(feature = "perps")]
pub(crate) mod perps;
pub(crate) mod portfolio;
pub(crate) mod rfq;
pub(crate) mod transfer;

use std::fmt;

use clap::Args;
use kalshi_sdk::OperationId;

use crate::{
    api::{Call, Next},
    args::Moment,
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
    order,
};

/// The operations that each curated command may use. `api` uses any.
pub(crate) const OPERATIONS_USED: &[(&str, &[OperationId])] = &[
    ("chart", &crate::chart::OPERATIONS),
    ("doctor", &crate::doctor::OPERATIONS),
    ("event candles", &[OperationId::GetEvent, OperationId::GetMarketCandlesticksByEvent]),
    ("event get", &[OperationId::GetEvent]),
    ("event list", &[OperationId::GetEvents]),
    ("exchange costs", &[OperationId::GetAccountEndpointCosts]),
    ("exchange limits", &[OperationId::GetAccountApiLimits]),
    ("exchange schedule", &[OperationId::GetExchangeSchedule]),
    ("exchange status", &[OperationId::GetExchangeStatus]),
    ("export book", &[OperationId::GetMarketOrderbook]),
    ("export candles", &crate::export::CANDLES),
    ("export fills", &crate::export::FILLS),
    ("export trades", &crate::export::TRADES),
    ("group create", &[OperationId::CreateOrderGroup]),
    ("group delete", &[OperationId::DeleteOrderGroup]),
    ("group get", &[OperationId::GetOrderGroup]),
    ("group limit", &[OperationId::UpdateOrderGroupLimit]),
    ("group list", &[OperationId::GetOrderGroups]),
    ("group reset", &[OperationId::ResetOrderGroup]),
    ("group trigger", &[OperationId::TriggerOrderGroup]),
    ("key create", &[OperationId::GenerateApiKey]),
    ("key delete", &[OperationId::DeleteApiKey]),
    ("key list", &[OperationId::GetApiKeys]),
    (
        "key rotate",
        &[OperationId::GetApiKeys, OperationId::GenerateApiKey, OperationId::DeleteApiKey],
    ),
    ("market book", &[OperationId::GetMarketOrderbook]),
    ("market candles", &[OperationId::BatchGetMarketCandlesticks]),
    ("market find", &[OperationId::GetEvents]),
    ("market get", &[OperationId::GetMarket, OperationId::GetHistoricalMarket]),
    ("market list", &[OperationId::GetMarkets]),
    ("market trades", &[OperationId::GetTrades]),
    ("market watch", &crate::stream::watch::OPERATIONS),
    ("order amend", &order::AMENDS),
    ("order buy", &order::PLACES),
    ("order cancel", &[OperationId::CancelOrderV2, OperationId::GetOrder]),
    ("order cancel-all", &order::CANCELS_ALL),
    ("order decrease", &[OperationId::DecreaseOrderV2, OperationId::GetOrder]),
    ("order get", &[OperationId::GetOrder]),
    ("order list", &[OperationId::GetOrders]),
    ("order queue", &order::QUEUES),
    ("order sell", &order::PLACES),
    ("order settle", &order::SETTLES),
    ("portfolio balance", &[OperationId::GetBalance]),
    ("portfolio fills", &[OperationId::GetFills]),
    (
        "portfolio history fills",
        &[OperationId::GetHistoricalCutoff, OperationId::GetFills, OperationId::GetFillsHistorical],
    ),
    (
        "portfolio history orders",
        &[
            OperationId::GetHistoricalCutoff,
            OperationId::GetOrders,
            OperationId::GetHistoricalOrders,
        ],
    ),
    ("portfolio pnl", &[OperationId::GetPositions]),
    ("portfolio positions", &[OperationId::GetPositions]),
    ("portfolio settlements", &[OperationId::GetSettlements]),
    ("quote accept", &[OperationId::AcceptRfqQuote]),
    ("quote confirm", &[OperationId::ConfirmRfqQuote]),
    ("quote create", &[OperationId::CreateQuote]),
    ("quote delete", &[OperationId::DeleteRfqQuote]),
    ("quote get", &[OperationId::GetRfqQuote]),
    ("quote list", &[OperationId::GetQuotes]),
    ("rfq create", &[OperationId::CreateRfq]),
    ("rfq delete", &[OperationId::DeleteRfq]),
    ("rfq get", &[OperationId::GetRfq]),
    ("rfq list", &[OperationId::GetRfqs]),
    ("series get", &[OperationId::GetSeries]),
    ("series list", &[OperationId::GetSeriesList]),
    ("setup", &[OperationId::GetExchangeStatus, OperationId::GetApiKeys]),
    ("transfer balances", &[OperationId::GetSubaccountBalances]),
    ("transfer create", &[OperationId::IntraExchangeInstanceTransfer]),
    ("transfer get", &[OperationId::GetIntraExchangeInstanceTransfer]),
    ("transfer list", &[OperationId::GetIntraExchangeInstanceTransfers]),
    ("transfer subaccount", &[OperationId::ApplySubaccountTransfer]),
    ("transfer subaccount-list", &[OperationId::GetSubaccountTransfers]),
    #[cfg(feature = "tui")]
    ("tui", &crate::tui::OPERATIONS),
];

/// The columns of candles.
pub(crate) const CANDLE_COLUMNS: [&str; 7] = [
    "end_period_ts",
    "price.open_dollars",
    "price.high_dollars",
    "price.low_dollars",
    "price.close_dollars",
    "volume_fp",
    "open_interest_fp",
];

/// A span of time. TIME is a number of seconds since 1970, an RFC 3339 time, 2h for two hours ago, or
/// +2h for two hours from now.
#[derive(Args, Clone, Debug)]
pub(crate) struct SpanArgs {
    /// From this time: seconds since 1970, 2026-11-23T14:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Up to this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

impl SpanArgs {
    /// Returns the ends in seconds since 1970.
    pub(crate) fn seconds(&self, context: &Context) -> (Option<i64>, Option<i64>) {
        let now = context.now();
        (self.since.map(|at| at.seconds(now)), self.until.map(|at| at.seconds(now)))
    }

    /// Adds the span to a call.
    pub(crate) fn add_to(&self, call: Call, context: &Context) -> Call {
        let (since, until) = self.seconds(context);
        call.with_optional("min_ts", since).with_optional("max_ts", until)
    }
}

/// The candles that are asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Interval {
    /// The length of a candle.
    #[arg(long, short, value_parser = ["1m", "1h", "1d"], default_value = "1h")]
    period: String,
    /// From this time: seconds since 1970, 2026-11-23T14:00:00Z, or 2d for two days ago.
    #[arg(long, value_name = "TIME", default_value = "1d")]
    since: Moment,
    /// Up to this time; now unless set.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

impl Interval {
    /// Returns the interval of candles of 1m, 1h or 1d.
    #[cfg(feature = "mcp")]
    pub(crate) fn new(period: &str, since: Moment, until: Option<Moment>) -> Self {
        Self { period: period.to_owned(), since, until }
    }

    /// Adds the interval to a call.
    pub(crate) fn add_to(&self, call: Call, context: &Context) -> Outcome<Call> {
        let now = context.now();
        let since = self.since.seconds(now);
        let until = self.until.map_or_else(|| now.timestamp(), |at| at.seconds(now));
        if since >= until {
            return Err(Failure::usage("--since is not before --until"));
        }
        let minutes = match self.period.as_str() {
            "1m" => 1,
            "1d" => 1_440,
            _ => 60,
        };
        Ok(call.with("start_ts", since).with("end_ts", until).with("period_interval", minutes))
    }
}

/// The part of a list that is fetched.
#[derive(Args, Clone, Debug)]
pub(crate) struct PageArgs {
    /// The most rows to fetch.
    #[arg(long, short, default_value_t = 100, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Fetch every row.
    #[arg(long, short, conflicts_with = "limit")]
    all: bool,
    /// Go on after this cursor, which the JSON form of the page before has.
    #[arg(long)]
    cursor: Option<String>,
}

/// Prints the rows of a list, page after page; a page has at most `largest` rows.
pub(crate) async fn list(
    context: &Context,
    call: Call,
    page: &PageArgs,
    largest: u32,
    columns: &[&str],
) -> Outcome {
    let Some(pagination) = call.operation.pagination else {
        return Err(Failure::local(format!("{} has no pages", call.operation.id)));
    };
    let limit = if page.all { u32::MAX } else { page.limit };
    let has_limit = call.takes("limit");
    let mut call = call.with_optional("cursor", page.cursor.as_ref());
    if has_limit {
        call.set("limit", limit.min(largest));
    }
    let mut list = context.output.list(pagination.items, columns);
    let mut more = false;
    call.pages(context, |page| {
        let cursor = page.get(pagination.cursor).and_then(Json::as_str);
        let goes_on = cursor.is_some_and(|cursor| !cursor.is_empty());
        list.page(page)?;
        let count = u32::try_from(list.count()).unwrap_or(u32::MAX);
        let left = limit.saturating_sub(count);
        if left == 0 {
            more = goes_on;
            return Ok(Next::Stop);
        }
        Ok(Next::Page { limit: has_limit.then_some(left.min(largest)) })
    })
    .await?;
    list.finish()?;
    if more {
        context.output.note(&format!("{limit} rows; there are more: --limit or --all"));
    }
    Ok(())
}

/// Prints one object: the member of the answer with this name, or the answer itself.
pub(crate) async fn show(
    context: &Context,
    call: Call,
    member: Option<&str>,
    columns: &[&str],
) -> Outcome {
    let mut answer = call.send(context).await?;
    let inner = member.and_then(|name| answer.take(name));
    context.output.document(&inner.unwrap_or(answer), columns)
}

/// Prints the rows of an answer that has no pages.
pub(crate) async fn rows(context: &Context, call: Call, items: &str, columns: &[&str]) -> Outcome {
    let answer = call.send(context).await?;
    let mut list = context.output.list(items, columns);
    list.page(answer)?;
    list.finish()
}

/// Carries out a write and prints its answer. One without a body says `done` in words.
pub(crate) async fn write(context: &Context, call: Call, about: impl fmt::Display) -> Outcome {
    let about = about.to_string();
    let Some(answer) = call.write(context, &about).await? else { return Ok(()) };
    match answer {
        Json::Object(members) if members.is_empty() => {
            context.output.note(&format!("done: {about}"));
            if context.output.is_table() {
                return Ok(());
            }
            context.output.document(&Json::Object(Vec::new()), &[])
        }
        answer => context.output.document(&answer, &[]),
    }
}
