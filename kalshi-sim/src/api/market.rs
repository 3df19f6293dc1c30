//! Markets, order books, trades, candlesticks and series.

use chrono::{DateTime, Utc};
use kalshi_types::{Count, PriceLevel};
use serde_json::{Value, json};

use crate::{
    engine::{
        Engine, Market,
        amount::{SaturatingArithmetic, other_leg},
        types::{Side, Trade},
    },
    http::{
        paging::{Paging, newest},
        query::{Query, Span},
        request::Call,
        response::{HandlerResult, Response},
    },
    state::State,
    wire::{self, time},
};

/// Returns a market as it goes over the wire: what the catalog says of it, and what the engine
/// knows.
pub(crate) fn shown(state: &State, market: &Market) -> Value {
    wire::market(&state.engine, state.catalog.about(&market.ticker), market)
}

/// Returns a trade of the public tape.
pub(crate) fn shown_trade(state: &State, trade: &Trade) -> Value {
    json!({
        "trade_id": trade.id.to_string(),
        "ticker": state.engine.market(trade.market).map_or("", |market| &market.ticker),
        "count_fp": trade.count,
        "yes_price_dollars": trade.price,
        "no_price_dollars": other_leg(trade.price),
        "taker_side": trade.taker_side.outcome(),
        "taker_outcome_side": trade.taker_side.outcome(),
        "taker_book_side": trade.taker_side.as_str(),
        "is_block_trade": trade.block,
        "created_time": time(trade.at),
    })
}

/// Returns the market of a ticker.
pub(crate) fn found<'a>(state: &'a State, ticker: &str) -> Result<&'a Market, Response> {
    state.engine.market_by_ticker(ticker).ok_or_else(Response::not_found)
}

/// Reports whether the metadata of a series or event has changed in a span of time.
pub(crate) fn was_updated(wire: &Value, span: Span) -> bool {
    !span.is_given()
        || wire["last_updated_ts"]
            .as_str()
            .and_then(|text| text.parse::<DateTime<Utc>>().ok())
            .is_some_and(|time| span.holds(time.into()))
}

/// Lists series. A series matches if it has any of the tags.
pub(crate) fn series_list(state: &State, query: &Query) -> HandlerResult {
    let category = query.get("category");
    let tags = query.list("tags");
    let updated = Span::from(query.integer("min_updated_ts")?);
    let metadata = query.flag("include_product_metadata")?;
    let volume = query.flag("include_volume")?;
    let tagged = |series: &Value, tags: &[&str]| {
        series["tags"]
            .as_array()
            .is_some_and(|has| tags.iter().any(|tag| has.contains(&json!(tag))))
    };
    let rows: Vec<Value> = state
        .catalog
        .series
        .iter()
        .filter(|series| category.is_none_or(|category| series["category"] == category))
        .filter(|series| tags.as_ref().is_none_or(|tags| tagged(series, tags)))
        .filter(|series| was_updated(series, updated))
        .map(|series| shown_series(state, series, metadata, volume))
        .collect();
    Ok(Response::ok(json!({"series": rows})))
}

pub(crate) fn series(state: &State, call: &Call<'_>) -> HandlerResult {
    let volume = call.query.flag("include_volume")?;
    let found = state.catalog.series.iter().find(|series| series["ticker"] == call.first());
    let series = found.ok_or_else(Response::not_found)?;
    Ok(Response::ok(json!({"series": shown_series(state, series, false, volume)})))
}

fn shown_series(state: &State, series: &Value, metadata: bool, volume: bool) -> Value {
    let mut wire = series.clone();
    if let Value::Object(wire) = &mut wire {
        if !metadata {
            wire.remove("product_metadata");
        }
        if volume {
            let markets = state.engine.markets().iter();
            let total = markets
                .filter(|market| series["ticker"] == *market.series_ticker)
                .fold(Count::ZERO, |sum, market| sum.saturating_add(market.volume));
            wire.insert("volume_fp".to_owned(), json!(total));
        }
    }
    wire
}

/// The spans of time that a list of markets may be asked for; one of them at most.
#[derive(Debug)]
struct Times {
    created: Span,
    closes: Span,
    settled: Span,
    updated: Span,
}

impl Times {
    fn read(query: &Query) -> Result<Self, Response> {
        let times = Self {
            created: query.span("min_created_ts", "max_created_ts")?,
            closes: query.span("min_close_ts", "max_close_ts")?,
            settled: query.span("min_settled_ts", "max_settled_ts")?,
            updated: query.span("min_updated_ts", "max_updated_ts")?,
        };
        times.check(query)?;
        Ok(times)
    }

    /// Refuses filters that exclude each other.
    fn check(&self, query: &Query) -> Result<(), Response> {
        let families: [(Span, &str, &[&str]); 4] = [
            (self.created, "creation", &["unopened", "open"]),
            (self.closes, "close", &["closed"]),
            (self.settled, "settlement", &["settled"]),
            (self.updated, "update", &[]),
        ];
        if families.iter().filter(|(span, ..)| span.is_given()).count() > 1 {
            return Err(Response::bad_request("time filters must be of one kind"));
        }
        let status = query.get("status");
        for (_, name, words) in families.iter().filter(|(span, ..)| span.is_given()) {
            if status.is_some_and(|status| !words.contains(&status)) {
                let message = format!("{name} time filters do not go with this status");
                return Err(Response::bad_request(&message));
            }
        }
        if !self.updated.is_given() {
            return Ok(());
        }
        let combos = query.get("mve_filter");
        let excluded = combos == Some("exclude");
        if query.get("tickers").is_some()
            || query.get("event_ticker").is_some()
            || (combos.is_some() && !excluded)
            || (query.get("series_ticker").is_some() && !excluded)
        {
            return Err(Response::bad_request(
                "update time filters go with mve_filter=exclude, and with series_ticker then",
            ));
        }
        Ok(())
    }

    fn hold(&self, market: &Market) -> bool {
        self.created.holds(market.created)
            && self.closes.holds(market.closes)
            && self.updated.holds(market.updated)
            && (!self.settled.is_given()
                || market.settled.is_some_and(|settled| self.settled.holds(settled)))
    }
}

pub(crate) fn markets(state: &State, query: &Query) -> HandlerResult {
    let status = query.word("status", &["unopened", "open", "paused", "closed", "settled"])?;
    let combos = query.word("mve_filter", &["only", "exclude"])?.map(|word| word == "only");
    let tickers = query.list("tickers");
    let event = query.get("event_ticker");
    let series = query.get("series_ticker");
    let times = Times::read(query)?;
    let rows = state
        .engine
        .markets()
        .iter()
        .filter(|m| status.is_none_or(|status| m.status.filter() == status))
        .filter(|m| tickers.as_ref().is_none_or(|list| list.contains(&m.ticker.as_str())))
        .filter(|m| event.is_none_or(|event| m.event_ticker == event))
        .filter(|m| series.is_none_or(|series| m.series_ticker == series))
        .filter(|m| combos.is_none_or(|wanted| is_combo(state, m) == wanted))
        .filter(|m| times.hold(m));
    let pages = Paging::new("markets", 100, 1_000).with_zero();
    let (rows, cursor) = query.page(pages, rows, |market| u64::from(market.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|market| shown(state, market)).collect();
    Ok(Response::ok(json!({"markets": rows, "cursor": cursor})))
}

/// Reports whether a market is a combination of others.
pub(crate) fn is_combo(state: &State, market: &Market) -> bool {
    let about = state.catalog.about(&market.ticker);
    about.is_some_and(|about| about["mve_collection_ticker"].is_string())
}

pub(crate) fn order_book(state: &State, call: &Call<'_>) -> HandlerResult {
    let depth = match call.query.integer("depth")? {
        // 0 stands for all of it.
        None | Some(0) => usize::MAX,
        Some(depth) => match usize::try_from(depth) {
            Ok(depth) if depth <= 100 => depth,
            _ => return Err(Response::bad_request("depth must be 0 to 100")),
        },
    };
    let market = found(state, call.first())?;
    Ok(Response::ok(json!({"orderbook_fp": levels(market, depth)})))
}

pub(crate) fn order_books(state: &State, query: &Query) -> HandlerResult {
    let tickers: Vec<&str> = query.all("tickers").collect();
    if tickers.is_empty() || tickers.len() > 100 {
        return Err(Response::bad_request("tickers must name 1 to 100 markets"));
    }
    let books: Vec<Value> = tickers
        .iter()
        .filter_map(|ticker| state.engine.market_by_ticker(ticker))
        .map(|m| json!({"ticker": m.ticker, "orderbook_fp": levels(m, usize::MAX)}))
        .collect();
    Ok(Response::ok(json!({"orderbooks": books})))
}

/// Answers with one market.
pub(crate) fn one(state: &State, call: &Call<'_>) -> HandlerResult {
    let market = found(state, call.first())?;
    Ok(Response::ok(json!({"market": shown(state, market)})))
}

/// Returns the best levels of both sides, bids of each leg, the best last.
fn levels(market: &Market, depth: usize) -> Value {
    let side = |side: Side| {
        let mut levels: Vec<PriceLevel> = market
            .levels(side)
            .take(depth)
            .map(|level| PriceLevel { price: side.leg_price(level.price), count: level.count })
            .collect();
        levels.reverse();
        levels
    };
    json!({"yes_dollars": side(Side::Bid), "no_dollars": side(Side::Ask)})
}

/// Lists the trades of the live tier, newest first.
pub(crate) fn trades(state: &State, query: &Query) -> HandlerResult {
    let engine = &state.engine;
    let since = engine.cutoffs().trades;
    let all: Box<dyn Iterator<Item = &Trade>> = match query.get("ticker") {
        None => Box::new(engine.trades().iter().rev()),
        Some(ticker) => {
            let trades = engine.market_by_ticker(ticker).into_iter().flat_map(|m| of(engine, m));
            Box::new(trades.take_while(move |trade| trade.at >= since))
        }
    };
    shown_trades(state, all, query, "trades")
}

/// Returns the trades of a market, the newest first.
pub(crate) fn of<'a>(
    engine: &'a Engine,
    market: &'a Market,
) -> impl Iterator<Item = &'a Trade> + 'a {
    market.trades.iter().rev().filter_map(|id| engine.trade(*id))
}

/// Answers with a page of trades, which come the newest first; `list` names it in cursors.
pub(crate) fn shown_trades<'a>(
    state: &State,
    trades: impl Iterator<Item = &'a Trade>,
    query: &Query,
    list: &'static str,
) -> HandlerResult {
    let span = query.span("min_ts", "max_ts")?;
    let block = query.get("is_block_trade").map(|_| query.flag("is_block_trade")).transpose()?;
    let rows = trades
        .filter(|trade| span.holds(trade.at))
        .filter(|trade| block.is_none_or(|block| trade.block == block));
    let pages = Paging::new(list, 100, 1_000).with_zero();
    let (rows, cursor) = query.page(pages, rows, |trade| newest(trade.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|trade| shown_trade(state, trade)).collect();
    Ok(Response::ok(json!({"trades": rows, "cursor": cursor})))
}
