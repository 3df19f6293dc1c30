//! `kalshi event` and `kalshi series`.

use clap::Subcommand;
use kalshi_sdk::OperationId;

use super::{Interval, PageArgs, list, rows, show};
use crate::{
    api::Call,
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists events.
    List {
        /// Only events of a series.
        #[arg(long, value_name = "TICKER")]
        series: Option<String>,
        /// Only events with a market of this status.
        #[arg(long, value_parser = ["unopened", "open", "closed", "settled"])]
        status: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Shows one event with its markets.
    Get { ticker: String },
    /// Lists candles of every market of an event.
    Candles {
        ticker: String,
        #[command(flatten)]
        interval: Interval,
    },
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List { series, status, page } => {
                let call = Call::new(OperationId::GetEvents)
                    .with_optional("series_ticker", series)
                    .with_optional("status", status);
                let columns = ["event_ticker", "series_ticker", "category", "title", "sub_title"];
                list(context, call, &page, 200, &columns).await
            }
            Self::Get { ticker } => {
                let call = Call::new(OperationId::GetEvent)
                    .with("event_ticker", ticker)
                    .with("with_nested_markets", true);
                let columns = [
                    "event_ticker",
                    "series_ticker",
                    "category",
                    "title",
                    "sub_title",
                    "mutually_exclusive",
                    "strike_date",
                ];
                let mut answer = call.send(context).await?;
                let event = answer.take("event").unwrap_or(answer);
                if !context.output.is_table() {
                    return context.output.document(&event, &[]);
                }
                context.output.document(&event, &columns)?;
                let markets = event.get("markets").and_then(Json::as_list).unwrap_or_default();
                context.output.line("")?;
                context.output.rows(
                    "markets",
                    markets.to_vec(),
                    &["ticker", "status", "yes_bid_dollars", "yes_ask_dollars", "yes_sub_title"],
                )
            }
            Self::Candles { ticker, interval } => candles(context, &ticker, &interval).await,
        }
    }
}

/// Prints the candles of an event, one row for each market and period.
async fn candles(context: &Context, ticker: &str, interval: &Interval) -> Outcome {
    let event = Call::new(OperationId::GetEvent).with("event_ticker", ticker).send(context).await?;
    let Some(series) = event.at("event.series_ticker").and_then(Json::as_str) else {
        return Err(Failure::new(Category::Response, format!("the event {ticker} has no series")));
    };
    let call = Call::new(OperationId::GetMarketCandlesticksByEvent)
        .with("ticker", ticker)
        .with("series_ticker", series);
    let answer = interval.add_to(call, context)?.send(context).await?;
    let list = |name: &str| answer.get(name).and_then(Json::as_list).unwrap_or_default();
    let mut lines = Vec::new();
    for (market, candles) in list("market_tickers").iter().zip(list("market_candlesticks")) {
        for candle in candles.as_list().unwrap_or_default() {
            let mut members = vec![("market_ticker".to_owned(), market.clone())];
            if let Json::Object(own) = candle {
                members.extend(own.iter().cloned());
            }
            lines.push(Json::Object(members));
        }
    }
    let mut columns = vec!["market_ticker"];
    columns.extend(super::CANDLE_COLUMNS);
    context.output.rows("candlesticks", lines, &columns)
}

#[derive(Subcommand)]
pub(crate) enum SeriesCommand {
    /// Lists series.
    List {
        /// Only series of a category.
        #[arg(long)]
        category: Option<String>,
        /// Only series with one of these tags, joined by commas.
        #[arg(long)]
        tags: Option<String>,
    },
    /// Shows one series.
    Get { ticker: String },
}

impl SeriesCommand {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List { category, tags } => {
                let call = Call::new(OperationId::GetSeriesList)
                    .with_optional("category", category)
                    .with_optional("tags", tags);
                let columns =
                    ["ticker", "category", "frequency", "fee_type", "fee_multiplier", "title"];
                rows(context, call, "series", &columns).await
            }
            Self::Get { ticker } => {
                let call = Call::new(OperationId::GetSeries).with("series_ticker", ticker);
                show(context, call, Some("series"), &[]).await
            }
        }
    }
}
