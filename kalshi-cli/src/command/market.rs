//! `kalshi market`.

use clap::{Args, Subcommand};
use kalshi_sdk::{Dollars, OperationId};

use super::{Interval, PageArgs, SpanArgs, list};
use crate::{
    api::{Call, Next},
    args::Moment,
    context::Context,
    failure::{Failure, Outcome},
    json::Json,
    stream::watch,
};

const COLUMNS: [&str; 8] = [
    "ticker",
    "status",
    "yes_bid_dollars",
    "yes_ask_dollars",
    "last_price_dollars",
    "volume_fp",
    "close_time",
    "yes_sub_title",
];

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists markets.
    List(ListArgs),
    /// Shows one market, also one that has moved to the archive.
    Get {
        ticker: String,
    },
    /// Shows the order book of a market: what YES is bought and sold for.
    Book {
        ticker: String,
        /// The most price levels on each side; all unless set.
        #[arg(long, short, value_name = "LEVELS")]
        depth: Option<u32>,
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
    Watch(watch::Watch),
    /// Finds open markets whose titles or tickers have all of these words.
    Find {
        #[arg(required = true)]
        words: Vec<String>,
        /// The most markets to print.
        #[arg(long, short, default_value_t = 20, value_name = "ROWS")]
        limit: usize,
    },
}

#[derive(Args)]
pub(crate) struct ListArgs {
    /// Only markets of a series.
    #[arg(long, value_name = "TICKER")]
    series: Option<String>,
    /// Only markets of an event.
    #[arg(long, value_name = "TICKER")]
    event: Option<String>,
    /// Only markets with this status.
    #[arg(long, value_parser = ["unopened", "open", "paused", "closed", "settled"])]
    status: Option<String>,
    /// Only these markets.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    tickers: Vec<String>,
    /// Only markets that close at this time or later.
    #[arg(long, value_name = "TIME")]
    closes_after: Option<Moment>,
    /// Only markets that close at this time or before.
    #[arg(long, value_name = "TIME")]
    closes_before: Option<Moment>,
    #[command(flatten)]
    page: PageArgs,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List(args) => {
                let now = context.now();
                let tickers = (!args.tickers.is_empty()).then(|| args.tickers.join(","));
                let call = Call::new(OperationId::GetMarkets)
                    .with_optional("series_ticker", args.series)
                    .with_optional("event_ticker", args.event)
                    .with_optional("status", args.status)
                    .with_optional("tickers", tickers)
                    .with_optional("min_close_ts", args.closes_after.map(|at| at.seconds(now)))
                    .with_optional("max_close_ts", args.closes_before.map(|at| at.seconds(now)));
                list(context, call, &args.page, 1_000, &COLUMNS).await
            }
            Self::Get { ticker } => context.output.document(&fetch(context, &ticker).await?, &[]),
            Self::Book { ticker, depth } => book(context, &ticker, depth).await,
            Self::Trades { ticker, span, page } => {
                let call = Call::new(OperationId::GetTrades).with_optional("ticker", ticker);
                let columns = [
                    "created_time",
                    "ticker",
                    "taker_outcome_side",
                    "count_fp",
                    "yes_price_dollars",
                    "no_price_dollars",
                ];
                list(context, span.add_to(call, context), &page, 1_000, &columns).await
            }
            Self::Candles { ticker, interval } => candles(context, &ticker, &interval).await,
            Self::Watch(watch) => watch.run(context).await,
            Self::Find { words, limit } => find(context, &words, limit).await,
        }
    }
}

/// Fetches a market, from the archive if it has moved there.
pub(crate) async fn fetch(context: &Context, ticker: &str) -> Outcome<Json> {
    let live = Call::new(OperationId::GetMarket).with("ticker", ticker).send(context).await;
    let mut answer = match live {
        Err(failure) if failure.status == Some(404) => {
            let archive = Call::new(OperationId::GetHistoricalMarket).with("ticker", ticker);
            archive.send(context).await?
        }
        live => live?,
    };
    Ok(answer.take("market").unwrap_or(answer))
}

/// Fetches a book as the exchange lists it: bids of YES and bids of NO.
pub(crate) async fn fetch_book(
    context: &Context,
    ticker: &str,
    depth: Option<u32>,
) -> Outcome<Json> {
    let call = Call::new(OperationId::GetMarketOrderbook)
        .with("ticker", ticker)
        .with_optional("depth", depth);
    let mut answer = call.send(context).await?;
    Ok(answer.take("orderbook_fp").unwrap_or(answer))
}

async fn book(context: &Context, ticker: &str, depth: Option<u32>) -> Outcome {
    let book = fetch_book(context, ticker, depth).await?;
    if !context.output.is_table() {
        return context.output.document(&book, &[]);
    }
    let columns = ["bid_count", "yes_bid", "yes_ask", "ask_count"];
    context.output.rows("levels", levels(ticker, &book)?, &columns)
}

/// Returns the levels of a book, the best first. Bids of NO are shown as what they are to a buyer of
/// YES: asks at one dollar less their price.
pub(crate) fn levels(ticker: &str, book: &Json) -> Outcome<Vec<Json>> {
    let unreadable =
        |what: &str| Failure::new(crate::failure::Category::Response, format!("{ticker}: {what}"));
    let side = |name: &str| -> Outcome<Vec<(Dollars, Json)>> {
        let levels = book.get(name).and_then(Json::as_list).unwrap_or_default();
        let mut side = Vec::new();
        for level in levels {
            let Some([price, count]) = level.as_list() else {
                return Err(unreadable("a level of the book is not a price and a count"));
            };
            let price: Dollars = price
                .cell()
                .parse()
                .map_err(|error| unreadable(&format!("the price {}: {error}", price.cell())))?;
            side.push((price, count.clone()));
        }
        // The best, which is the highest bid, first.
        side.sort_by_key(|(price, _)| std::cmp::Reverse(*price));
        Ok(side)
    };
    let (bids, no_bids) = (side("yes_dollars")?, side("no_dollars")?);
    let mut lines = Vec::new();
    for index in 0..bids.len().max(no_bids.len()) {
        let bid = bids.get(index);
        let ask = no_bids.get(index);
        let ask_price = ask
            .map(|(price, _)| {
                price.complement().ok_or_else(|| unreadable("a price of NO is out of range"))
            })
            .transpose()?;
        let price = |price: Option<Dollars>| Json::optional(price.map(|price| price.to_string()));
        let count =
            |level: Option<&(Dollars, Json)>| level.map_or(Json::Null, |(_, count)| count.clone());
        lines.push(Json::object([
            ("bid_count", count(bid)),
            ("yes_bid", price(bid.map(|(price, _)| *price))),
            ("yes_ask", price(ask_price)),
            ("ask_count", count(ask)),
        ]));
    }
    Ok(lines)
}

async fn candles(context: &Context, ticker: &str, interval: &Interval) -> Outcome {
    let candles = fetch_candles(context, ticker, interval).await?;
    context.output.rows("candlesticks", candles, &super::CANDLE_COLUMNS)
}

/// Fetches the candles of a market.
pub(crate) async fn fetch_candles(
    context: &Context,
    ticker: &str,
    interval: &Interval,
) -> Outcome<Vec<Json>> {
    let call = Call::new(OperationId::BatchGetMarketCandlesticks).with("market_tickers", ticker);
    let answer = interval.add_to(call, context)?.send(context).await?;
    let markets = answer.get("markets").and_then(Json::as_list).unwrap_or_default();
    let is_it = |market: &&Json| market.get("market_ticker").and_then(Json::as_str) == Some(ticker);
    let candles = markets.iter().find(is_it).and_then(|market| market.get("candlesticks"));
    Ok(candles.and_then(Json::as_list).unwrap_or_default().to_vec())
}

/// The call that walks the open events with their markets: the exchange has no search for texts.
pub(crate) fn search() -> Call {
    Call::new(OperationId::GetEvents)
        .with("status", "open")
        .with("with_nested_markets", true)
        .with("limit", 200)
}

/// Returns the words to look for.
pub(crate) fn search_words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}

/// Returns the markets of a page of [`search`] that have all of these words.
pub(crate) fn matches(page: &mut Json, words: &[String]) -> Vec<Json> {
    let list = |value: Option<Json>| match value {
        Some(Json::List(values)) => values,
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for mut event in list(page.take("events")) {
        let markets = list(event.take("markets"));
        let about = texts(&event, &["event_ticker", "title", "sub_title", "category"]);
        for market in markets {
            let own = texts(&market, &["ticker", "title", "yes_sub_title", "no_sub_title"]);
            let all = format!("{about} {own}");
            if words.iter().all(|word| all.contains(word.as_str())) {
                found.push(market);
            }
        }
    }
    found
}

async fn find(context: &Context, words: &[String], limit: usize) -> Outcome {
    let words = search_words(&words.join(" "));
    let mut list = context.output.list("markets", &COLUMNS);
    search()
        .pages(context, |mut page| {
            let mut found = matches(&mut page, &words);
            found.truncate(limit.saturating_sub(list.count()));
            list.page(Json::object([("markets", Json::List(found))]))?;
            Ok(if list.count() >= limit { Next::Stop } else { Next::Page { limit: None } })
        })
        .await?;
    list.finish()
}

fn texts(value: &Json, names: &[&str]) -> String {
    let texts: Vec<String> =
        names.iter().filter_map(|name| value.get(name)?.as_str()).map(str::to_lowercase).collect();
    texts.join(" ")
}
