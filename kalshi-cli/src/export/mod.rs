//! `kalshi export`: lists as files, whole and exact.
//!
//! Rows are written as they come, so that a list may be of any length.

#[cfg(feature = "parquet")]
mod compact;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "parquet")]
mod recording;
#[cfg(feature = "parquet")]
mod rest;
mod target;

use std::path::PathBuf;

use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use kalshi_sdk::{
    Client, Dollars, OperationId, UnixSeconds,
    types::{Fill, Trade},
};
use kalshi_trade::{
    candles::{Candle, Period, Prices, candles},
    history::{self, History, Range},
};

use self::target::{Checkpoint, Format, Order, Shape, Target};
use crate::{
    args::Moment,
    command::market,
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
};

/// The operations of `trades`.
pub(crate) const TRADES: [OperationId; 3] =
    [OperationId::GetHistoricalCutoff, OperationId::GetTrades, OperationId::GetTradesHistorical];

/// The operations of `fills`.
pub(crate) const FILLS: [OperationId; 3] =
    [OperationId::GetHistoricalCutoff, OperationId::GetFills, OperationId::GetFillsHistorical];

/// The operations of `candles`.
pub(crate) const CANDLES: [OperationId; 5] = [
    OperationId::GetMarket,
    OperationId::GetHistoricalMarket,
    OperationId::GetEvent,
    OperationId::GetMarketCandlesticks,
    OperationId::GetMarketCandlesticksHistorical,
];

const TRADE_COLUMNS: &[&str] = &[
    "created_time",
    "ticker",
    "trade_id",
    "count_fp",
    "yes_price_dollars",
    "no_price_dollars",
    "taker_outcome_side",
    "taker_book_side",
    "is_block_trade",
];

const FILL_COLUMNS: &[&str] = &[
    "created_time",
    "ticker",
    "fill_id",
    "trade_id",
    "order_id",
    "outcome_side",
    "book_side",
    "count_fp",
    "yes_price_dollars",
    "no_price_dollars",
    "fee_cost",
    "is_taker",
    "subaccount_number",
    "exchange_index",
];

const CANDLE_COLUMNS: &[&str] = &[
    "ticker",
    "end_period_ts",
    "open_dollars",
    "high_dollars",
    "low_dollars",
    "close_dollars",
    "mean_dollars",
    "previous_dollars",
    "yes_bid_open_dollars",
    "yes_bid_high_dollars",
    "yes_bid_low_dollars",
    "yes_bid_close_dollars",
    "yes_ask_open_dollars",
    "yes_ask_high_dollars",
    "yes_ask_low_dollars",
    "yes_ask_close_dollars",
    "volume_fp",
    "open_interest_fp",
];

const BOOK_COLUMNS: &[&str] = &["at", "ticker", "side", "level", "yes_price_dollars", "count_fp"];

const TRADE_SHAPE: Shape = Shape {
    columns: TRADE_COLUMNS,
    order: Order::LatestFirst,
    #[cfg(feature = "parquet")]
    layout: &rest::TRADES,
};

const FILL_SHAPE: Shape = Shape {
    columns: FILL_COLUMNS,
    order: Order::LatestFirst,
    #[cfg(feature = "parquet")]
    layout: &rest::FILLS,
};

const CANDLE_SHAPE: Shape = Shape {
    columns: CANDLE_COLUMNS,
    order: Order::OldestFirst,
    #[cfg(feature = "parquet")]
    layout: &rest::CANDLES,
};

const BOOK_SHAPE: Shape = Shape {
    columns: BOOK_COLUMNS,
    order: Order::OldestFirst,
    #[cfg(feature = "parquet")]
    layout: &rest::BOOK,
};

/// Writes lists as CSV, NDJSON or Parquet, and recordings as Parquet, with every digit.
///
/// With --file an export that was interrupted goes on where it was when the same command is given
/// again.
#[derive(Subcommand)]
pub(crate) enum Export {
    /// Public trades, the latest first: live and archived, none twice.
    Trades {
        /// The market; all of them unless named.
        ticker: Option<String>,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        to: Destination,
    },
    /// Your fills, the latest first: live and archived, none twice.
    Fills {
        /// The market; all of them unless named.
        ticker: Option<String>,
        /// The subaccount; all of them unless set.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=63))]
        subaccount: Option<u8>,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        to: Destination,
    },
    /// Candles of a market, the oldest first, live or archived.
    Candles {
        ticker: String,
        /// The length of a candle.
        #[arg(long, short, value_parser = ["1m", "1h", "1d"], default_value = "1h")]
        period: String,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        to: Destination,
    },
    /// The order book of a market as it is now, a row for each price level.
    Book {
        ticker: String,
        #[command(flatten)]
        to: Destination,
    },
    #[cfg(feature = "parquet")]
    Recording(recording::Recording),
    #[cfg(feature = "parquet")]
    Compact(compact::Compact),
}

/// The time of the rows.
#[derive(Args)]
pub(crate) struct Span {
    /// From this time: seconds since 1970, 2026-11-23T14:00:00Z, or 2d for two days ago.
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Up to this time; now unless set.
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
}

impl Span {
    /// Returns the ends in seconds since 1970.
    fn seconds(&self, context: &Context) -> Outcome<(Option<i64>, i64)> {
        let now = context.now();
        let from = self.from.map(|at| at.seconds(now));
        let to = self.to.map_or_else(|| now.timestamp(), |at| at.seconds(now));
        if from.is_some_and(|from| from >= to) {
            return Err(Failure::usage("--from is not before --to"));
        }
        Ok((from, to))
    }
}

/// The destination of the rows, and their form.
#[derive(Args)]
pub(crate) struct Destination {
    /// The form.
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// The new file; the standard output unless given.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Export {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        match self {
            Self::Trades { ticker, span, to } => {
                let target = open(
                    context,
                    &format!("trades of {}", ticker.as_deref().unwrap_or("all markets")),
                    span,
                    to,
                    TRADE_SHAPE,
                )?;
                let client = context.public_client().await?;
                let range = range(target.checkpoint(), ticker.as_deref());
                let rows = history::trades(&client, &range);
                let time = |trade: &Trade| Some(trade.created_time.timestamp());
                let id = |trade: &Trade| trade.trade_id.clone();
                write(context, target, rows, id, time, OperationId::GetTrades).await
            }
            Self::Fills { ticker, subaccount, span, to } => {
                let which = subaccount.map(|number| format!(" of subaccount {number}"));
                let which = which.unwrap_or_default();
                let target = open(
                    context,
                    &format!("fills in {}{which}", ticker.as_deref().unwrap_or("all markets")),
                    span,
                    to,
                    FILL_SHAPE,
                )?;
                let client = context.client().await?;
                let mut range = range(target.checkpoint(), ticker.as_deref());
                if let Some(number) = subaccount {
                    range = range.with_subaccount(*number);
                }
                let rows = history::fills(&client, &range);
                let time = |fill: &Fill| fill.created_time.map(|at| at.timestamp());
                let id = |fill: &Fill| fill.fill_id.clone();
                write(context, target, rows, id, time, OperationId::GetFills).await
            }
            Self::Candles { ticker, period, span, to } => {
                write_candles(context, ticker, period, span, to).await
            }
            Self::Book { ticker, to } => write_book(context, ticker, to).await,
            #[cfg(feature = "parquet")]
            Self::Recording(recording) => recording.run(context).await,
            #[cfg(feature = "parquet")]
            Self::Compact(compact) => compact.run(context).await,
        }
    }
}

/// Opens the target of an export: a new one, or one that was interrupted.
fn open(
    context: &Context,
    what: &str,
    span: &Span,
    to: &Destination,
    shape: Shape,
) -> Outcome<Target> {
    let (from, until) = span.seconds(context)?;
    let typed = |at: Option<Moment>| match at {
        None => "unset".to_owned(),
        Some(Moment::At(seconds)) => seconds.to_string(),
        Some(Moment::FromNow(seconds)) => format!("now{seconds:+}"),
    };
    let export = format!(
        "{what} on {} as {:?}, from {} to {}",
        context.target.name(),
        to.format,
        typed(span.from),
        typed(span.to)
    );
    let checkpoint = Checkpoint::new(export, from, until);
    let is_quiet = context.output.is_quiet();
    Target::open(to.file.as_deref(), to.format, shape, checkpoint, is_quiet)
}

/// Returns the range that is left of a list with the latest first.
fn range(checkpoint: &Checkpoint, ticker: Option<&str>) -> Range {
    // The last second may have more rows, and the end of a range may leave out a part of its second.
    let until = checkpoint.last().map_or(checkpoint.to, |last| checkpoint.to.min(last + 1));
    let mut range = Range::all().with_until(UnixSeconds::from_seconds(until));
    if let Some(from) = checkpoint.from {
        range = range.with_since(UnixSeconds::from_seconds(from));
    }
    match ticker {
        Some(ticker) => range.with_ticker(ticker),
        None => range,
    }
}

/// Writes the rows of a history.
async fn write<T: serde::Serialize + Send + 'static>(
    context: &Context,
    mut target: Target,
    mut rows: History<'_, T>,
    id: impl Fn(&T) -> String,
    time: impl Fn(&T) -> Option<i64>,
    operation: OperationId,
) -> Outcome {
    let before = target.checkpoint().clone();
    let mut unreadable = 0_u64;
    while let Some(row) = rows.next().await {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                let is_row = error.is_row();
                let failure = Failure::of_call(&error, operation.operation());
                if !is_row {
                    return Err(interrupted(target, failure));
                }
                context.output.note(&format!("a row is left out: {}", failure.message));
                unreadable += 1;
                continue;
            }
        };
        let id = id(&row);
        if !before.has(&id) {
            target.row(&crate::order::json(&row)?, &id, time(&row))?;
        }
    }
    let rows = target.finish()?;
    context.output.note(&format!("{rows} rows"));
    if unreadable > 0 {
        let text = format!("{unreadable} rows cannot be read, and are left out");
        return Err(Failure::new(Category::Response, text));
    }
    Ok(())
}

/// Writes down what was done before a failure, and tells how to go on.
fn interrupted(mut target: Target, failure: Failure) -> Failure {
    let saved = target.save();
    let is_file = target.is_file();
    match saved {
        Err(error) => error,
        Ok(()) if is_file && failure.next.is_none() => {
            failure.with_next("the same command goes on where this one ended")
        }
        Ok(()) => failure,
    }
}

/// The candles of one request.
const PART: i64 = 5_000;

async fn write_candles(
    context: &Context,
    ticker: &str,
    period: &str,
    span: &Span,
    to: &Destination,
) -> Outcome {
    let what = format!("candles of {period} of {ticker}");
    let mut target = open(context, &what, span, to, CANDLE_SHAPE)?;
    let client = context.public_client().await?;
    let market = market::fetch(context, ticker).await?;
    let text = |name: &str| market.get(name).and_then(Json::as_str).unwrap_or_default();
    let series = series(&client, text("event_ticker")).await?;
    let period = match period {
        "1m" => Period::Minute,
        "1d" => Period::Day,
        _ => Period::Hour,
    };
    let opened = chrono::DateTime::parse_from_rfc3339(text("open_time")).map(|at| at.timestamp());
    let from = target.checkpoint().from.or(opened.ok()).unwrap_or_default();
    let until = target.checkpoint().to;
    let mut start = target.checkpoint().last().map_or(from, |last| last.max(from));
    while start <= until {
        // Few at a time, so that a long time takes no more memory than a short one.
        let end = until.min(start.saturating_add(PART * period.minutes() * 60));
        let (since, upto) = (UnixSeconds::from_seconds(start), UnixSeconds::from_seconds(end));
        let part = match candles(&client, &series, ticker, since, upto, period).await {
            Ok(part) => part,
            Err(error) => {
                let operation = OperationId::GetMarketCandlesticks.operation();
                return Err(interrupted(target, Failure::of_call(&error, operation)));
            }
        };
        for candle in part {
            let at = candle.end.as_seconds();
            // The end of a part is the start of the next.
            if target.checkpoint().last().is_none_or(|last| at > last) {
                target.row(&candle_row(ticker, &candle), "", Some(at))?;
            }
        }
        if end == until {
            break;
        }
        start = end;
    }
    let rows = target.finish()?;
    context.output.note(&format!("{rows} rows"));
    Ok(())
}

/// Returns the series of an event.
async fn series(client: &Client, event: &str) -> Outcome<String> {
    let event = client.get_event().event_ticker(event).send().await;
    let event =
        event.map_err(|error| Failure::of_call(&error, OperationId::GetEvent.operation()))?;
    Ok(event.into_inner().event.series_ticker)
}

fn candle_row(ticker: &str, candle: &Candle) -> Json {
    let dollars = |price: Option<Dollars>| Json::optional(price.map(|price| price.to_string()));
    let four = |prices: &Prices| [prices.open, prices.high, prices.low, prices.close].map(dollars);
    let values = [Json::text(ticker), Json::number(candle.end.as_seconds())]
        .into_iter()
        .chain(four(&candle.trades))
        .chain([dollars(candle.mean), dollars(candle.previous)])
        .chain(four(&candle.bid))
        .chain(four(&candle.ask))
        .chain([
            Json::text(candle.volume.to_string()),
            Json::text(candle.open_interest.to_string()),
        ]);
    Json::object(CANDLE_COLUMNS.iter().copied().zip(values))
}

async fn write_book(context: &Context, ticker: &str, to: &Destination) -> Outcome {
    let span = Span { from: None, to: None };
    let mut target = open(context, &format!("book of {ticker}"), &span, to, BOOK_SHAPE)?;
    let book = market::fetch_book(context, ticker, None).await?;
    let at = Json::text(context.now().to_rfc3339_opts(SecondsFormat::Micros, true));
    let levels = market::levels(ticker, &book)?;
    for (side, price, count) in [("bid", "yes_bid", "bid_count"), ("ask", "yes_ask", "ask_count")] {
        for (index, level) in levels.iter().enumerate() {
            let Some(price) = level.get(price).filter(|price| **price != Json::Null) else {
                continue;
            };
            let values = [
                at.clone(),
                Json::text(ticker),
                Json::text(side),
                Json::number(index + 1),
                price.clone(),
                level.get(count).cloned().unwrap_or(Json::Null),
            ];
            let row = Json::object(BOOK_COLUMNS.iter().copied().zip(values));
            target.row(&row, "", None)?;
        }
    }
    let rows = target.finish()?;
    context.output.note(&format!("{rows} rows"));
    Ok(())
}
