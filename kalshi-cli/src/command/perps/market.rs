//! `kalshi perps market` and `kalshi perps funding`.

use chrono::NaiveDate;
use clap::Subcommand;
use kalshi_sdk::{Dollars, perps::OperationId};

use super::call;
use crate::{
    args::Moment,
    command::{Interval, PageArgs, SpanArgs, list, rows, show},
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
};

const COLUMNS: [&str; 8] =
    ["ticker", "status", "bid", "ask", "price", "tick_size", "volume_24h", "market_version"];

const CANDLE_COLUMNS: [&str; 7] = [
    "end_period_ts",
    "price.open",
    "price.high",
    "price.low",
    "price.close",
    "volume",
    "open_interest",
];

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists markets.
    List {
        /// Only markets with this status.
        #[arg(long, value_parser = ["inactive", "active", "closed"])]
        status: Option<String>,
    },
    /// Shows one market.
    Get { ticker: String },
    /// Shows the order book of a market, the best prices first.
    Book {
        ticker: String,
        /// The most price levels on each side; all unless set.
        #[arg(long, short, value_name = "LEVELS")]
        depth: Option<u32>,
        /// Join the levels of prices to multiples of this, in dollars.
        #[arg(long, value_name = "DOLLARS")]
        tick: Option<Dollars>,
    },
    /// Lists trades, the latest first.
    Trades {
        /// The market; all of them unless named.
        ticker: Option<String>,
        #[command(flatten)]
        span: SpanArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Lists candles of a market: prices, volume and open interest of each period.
    Candles {
        ticker: String,
        #[command(flatten)]
        interval: Interval,
    },
    /// Lists corporate actions, by their date: splits, dividends, changes of a ticker.
    Actions {
        /// Only those of a market.
        #[arg(long, value_name = "TICKER")]
        ticker: Option<String>,
    },
}

impl Command {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List { status } => {
                let call = call(OperationId::GetMarginMarkets).with_optional("status", status);
                rows(context, call, "markets", &COLUMNS).await
            }
            Self::Get { ticker } => {
                let call = call(OperationId::GetMarginMarket).with("ticker", ticker);
                show(context, call, Some("market"), &[]).await
            }
            Self::Book { ticker, depth, tick } => {
                let call = call(OperationId::GetMarginMarketOrderbook)
                    .with("ticker", &ticker)
                    .with_optional("depth", depth)
                    .with_optional("aggregation_tick_size", tick);
                let mut answer = call.send(context).await?;
                let book = answer.take("orderbook").unwrap_or(answer);
                if !context.output.is_table() {
                    return context.output.document(&book, &[]);
                }
                let columns = ["bid_count", "bid", "ask", "ask_count"];
                context.output.rows("levels", levels(&ticker, &book)?, &columns)
            }
            Self::Trades { ticker, span, page } => {
                let call = call(OperationId::GetMarginTrades).with_optional("ticker", ticker);
                let columns = ["created_time", "ticker", "taker_side", "count", "price"];
                list(context, span.add_to(call, context), &page, 1_000, &columns).await
            }
            Self::Candles { ticker, interval } => {
                let call = call(OperationId::GetMarginMarketCandlesticks).with("ticker", ticker);
                let call = interval.add_to(call, context)?;
                rows(context, call, "candlesticks", &CANDLE_COLUMNS).await
            }
            Self::Actions { ticker } => {
                let call =
                    call(OperationId::GetMarginCorporateActions).with_optional("ticker", ticker);
                let columns = ["market_ticker", "type", "status", "execution_time", "updated_ts"];
                rows(context, call, "corporate_actions", &columns).await
            }
        }
    }
}

/// Returns the levels of a book, the best first: the exchange documents that order, and was seen to
/// send another.
fn levels(ticker: &str, book: &Json) -> Outcome<Vec<Json>> {
    let unreadable = |what: String| Failure::new(Category::Response, format!("{ticker}: {what}"));
    let side = |name: &str| -> Outcome<Vec<(Dollars, Json)>> {
        let mut side = Vec::new();
        for level in book.get(name).and_then(Json::as_list).unwrap_or_default() {
            let Some([price, count]) = level.as_list() else {
                return Err(unreadable(
                    "a level of the book is not a price and a count".to_owned(),
                ));
            };
            let text = price.cell();
            let price = text.parse();
            let price: Dollars =
                price.map_err(|error| unreadable(format!("the price {text}: {error}")))?;
            side.push((price, count.clone()));
        }
        side.sort_by_key(|(price, _)| *price);
        Ok(side)
    };
    let (mut bids, asks) = (side("bids")?, side("asks")?);
    bids.reverse();
    let price =
        |level: Option<&(Dollars, Json)>| Json::optional(level.map(|(price, _)| price.to_string()));
    let count =
        |level: Option<&(Dollars, Json)>| level.map_or(Json::Null, |(_, count)| count.clone());
    let lines = (0..bids.len().max(asks.len())).map(|index| {
        let (bid, ask) = (bids.get(index), asks.get(index));
        Json::object([
            ("bid_count", count(bid)),
            ("bid", price(bid)),
            ("ask", price(ask)),
            ("ask_count", count(ask)),
        ])
    });
    Ok(lines.collect())
}

#[derive(Subcommand)]
pub(crate) enum FundingCommand {
    /// Shows the estimate of the next funding rate. Longs pay while it is above zero.
    Estimate { ticker: String },
    /// Lists the funding that you received; below zero it was paid.
    History {
        /// Only that of a market.
        #[arg(long, value_name = "TICKER")]
        ticker: Option<String>,
        /// The first day, such as 2026-10-01.
        #[arg(long, value_name = "DAY")]
        from: NaiveDate,
        /// The last day.
        #[arg(long, value_name = "DAY")]
        to: NaiveDate,
        /// The subaccount; all of them unless set.
        #[arg(long)]
        subaccount: Option<u32>,
    },
    /// Lists the funding rates of the past.
    Rates {
        /// The market; all of them unless named.
        ticker: Option<String>,
        /// From this time: seconds since 1970, 2026-11-23T14:00:00Z, or 2d for two days ago.
        #[arg(long, value_name = "TIME")]
        since: Option<Moment>,
        /// Up to this time.
        #[arg(long, value_name = "TIME")]
        until: Option<Moment>,
    },
    /// Lists the premium index of each second. 0 also stands for an index that could not be measured.
    Premium {
        ticker: String,
        /// From this time: seconds since 1970, 2026-11-23T14:00:00Z, or 10m for ten minutes ago.
        #[arg(long, value_name = "TIME", default_value = "5m")]
        since: Moment,
        /// Up to this time, an hour later at most; now unless set.
        #[arg(long, value_name = "TIME")]
        until: Option<Moment>,
    },
}

impl FundingCommand {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let now = context.now();
        match self {
            Self::Estimate { ticker } => {
                let call = call(OperationId::GetMarginFundingRateEstimate).with("ticker", ticker);
                show(context, call, None, &[]).await
            }
            Self::History { ticker, from, to, subaccount } => {
                if from > to {
                    return Err(Failure::usage("--from is after --to"));
                }
                let call = call(OperationId::GetMarginFundingHistory)
                    .with_optional("ticker", ticker)
                    .with("start_date", from)
                    .with("end_date", to)
                    .with_optional("subaccount", subaccount);
                let columns = [
                    "funding_time",
                    "market_ticker",
                    "quantity",
                    "mark_price",
                    "funding_rate",
                    "funding_amount",
                ];
                rows(context, call, "funding_history", &columns).await
            }
            Self::Rates { ticker, since, until } => {
                let call = call(OperationId::GetMarginHistoricalFundingRates)
                    .with_optional("ticker", ticker)
                    .with_optional("start_ts", since.map(|at| at.seconds(now)))
                    .with_optional("end_ts", until.map(|at| at.seconds(now)));
                let columns = ["funding_time", "market_ticker", "funding_rate", "mark_price"];
                rows(context, call, "funding_rates", &columns).await
            }
            Self::Premium { ticker, since, until } => {
                let until = until.map_or_else(|| now.timestamp(), |at| at.seconds(now));
                let since = since.seconds(now);
                if since >= until {
                    return Err(Failure::usage("--since is not before --until"));
                }
                let call = call(OperationId::GetMarginPremiumIndex)
                    .with("ticker", ticker)
                    .with("start_ts", since)
                    .with("end_ts", until);
                rows(context, call, "points", &["second_ts", "premium_index"]).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_prices_come_first_whatever_order_they_were_sent_in() {
        for book in [
            r#"{"bids":[["1.5","2"],["1.4","1"]],"asks":[["1.6","3"],["1.7","4"]]}"#,
            r#"{"bids":[["1.4","1"],["1.5","2"]],"asks":[["1.7","4"],["1.6","3"]]}"#,
        ] {
            let levels = levels("T", &Json::parse(book).unwrap()).unwrap();
            let cells: Vec<String> = levels.iter().map(ToString::to_string).collect();
            assert_eq!(
                cells,
                [
                    r#"{"bid_count":"2","bid":"1.5","ask":"1.6","ask_count":"3"}"#,
                    r#"{"bid_count":"1","bid":"1.4","ask":"1.7","ask_count":"4"}"#,
                ]
                .map(|text| text.replace("1.5", &dollars("1.5")).replace("1.6", &dollars("1.6")))
                .map(|text| text.replace("1.4", &dollars("1.4")).replace("1.7", &dollars("1.7")))
            );
        }
        let one_sided = Json::parse(r#"{"asks":[["30000.25","1.00"]]}"#).unwrap();
        let levels = super::levels("T", &one_sided).unwrap();
        assert_eq!(levels[0].get("bid"), Some(&Json::Null));
        for book in [r#"{"bids":[["x","2"]]}"#, r#"{"bids":[["1"]]}"#] {
            assert!(super::levels("T", &Json::parse(book).unwrap()).is_err(), "{book}");
        }
    }

    fn dollars(text: &str) -> String {
        text.parse::<Dollars>().unwrap().to_string()
    }
}
