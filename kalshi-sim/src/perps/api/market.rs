//! Markets, books, candles and trades.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars, PriceLevel};
use serde_json::{Value, json};

use crate::{
    api::{
        candles::{Range, candles},
        orders::average,
    },
    engine::{
        Bar, Minute,
        amount::{SaturatingArithmetic, cost},
        types::{Side, Trade},
    },
    http::{
        paging::{Paging, newest},
        request::{self, Call},
        response::{HandlerResult, Response},
    },
    perps::{
        engine::{
            Perps,
            markets::{LimitUnit, Market},
        },
        wire,
    },
    state::State,
    wire::time,
};

/// Notional values in dollars for which the highest leverage is shown. It is the same for all of
/// them here: margins do not grow with size.
const LEVERAGE_STEPS: [&str; 3] = ["10000", "100000", "1000000"];

/// Returns a market as it goes over the wire.
fn shown(engine: &Perps, market: &Market) -> Value {
    let leverage = wire::leverage(engine, market);
    let leverages: Value = LEVERAGE_STEPS
        .iter()
        .map(|step| ((*step).to_owned(), leverage.clone()))
        .collect::<serde_json::Map<String, Value>>()
        .into();
    let (volume, value) = market.traded_24h(engine.now());
    let mark = market.settlement_mark.price;
    let unit = match market.funding.unit {
        LimitUnit::Percentage => "percentage",
        LimitUnit::Dollar => "dollar",
    };
    let mut row = json!({
        "market_id": market.id.to_string(),
        "ticker": market.ticker,
        "title": market.title,
        "asset_class": market.class.as_str(),
        "status": market.status().as_str(),
        "market_version": market.version,
        "exchange_index": market.shard,
        "contract_size": wire::millionths(market.contract_size),
        "underlying_multiplier": wire::millionths(market.multiplier),
        "tick_size": market.tick,
        "fractional_trading_enabled": market.fractional,
        "leverage_estimate": leverage,
        "leverage_estimates": leverages,
        "long_leverage_estimates": leverages,
        "short_leverage_estimates": leverages,
        "volume": market.volume,
        "volume_notional_value_dollars": market.value,
        "open_interest": market.open_interest,
        "open_interest_notional_value_dollars": cost(mark, market.open_interest),
        "volume_24h": volume,
        "volume_24h_notional_value_dollars": value,
        "settlement_mark_price": wire::mark(market.settlement_mark),
        "liquidation_mark_price": wire::mark(market.liquidation_mark),
        // It never closes by the clock.
        "schedule": null,
        "funding_deadband": wire::number(market.funding.deadband.parts(), 12),
        "funding_cap": wire::number(market.funding.cap.parts(), 12),
        "funding_limit_unit": unit,
        "funding_invalid_premium_handling":
            if market.funding.excludes_invalid { "exclude" } else { "dampen" },
        "halt_sources": market.halt_sources(),
        "product_metadata": {},
    });
    if let Some(price) = market.last_price {
        row["price"] = json!(price);
    }
    if let Some(reference) = market.reference {
        row["reference_price"] = wire::mark(reference);
    }
    wire::best(&mut row, "bid", market.bid());
    wire::best(&mut row, "ask", market.ask());
    row
}

pub(super) fn list(state: &State, call: &Call<'_>) -> HandlerResult {
    let status = call.query.word("status", &["inactive", "active", "closed"])?;
    let engine = &state.perps.engine;
    let kept = |market: &&Market| status.is_none_or(|word| market.status().as_str() == word);
    let rows: Vec<Value> =
        engine.markets().iter().filter(kept).map(|market| shown(engine, market)).collect();
    Ok(Response::ok(json!({"markets": rows})))
}

pub(super) fn one(state: &State, call: &Call<'_>) -> HandlerResult {
    let engine = &state.perps.engine;
    let market = engine.market_by_ticker(call.first())?;
    Ok(Response::ok(json!({"market": shown(engine, market)})))
}

pub(super) fn order_book(state: &State, call: &Call<'_>) -> HandlerResult {
    let depth = match call.query.integer("depth")? {
        // 0 stands for all of it.
        None | Some(0) => usize::MAX,
        Some(depth) => {
            usize::try_from(depth).map_err(|_| Response::bad_request("depth must be 0 or more"))?
        }
    };
    let step = call
        .query
        .get("aggregation_tick_size")
        .map(|text| request::dollars("aggregation_tick_size", text))
        .transpose()?;
    if step.is_some_and(|step| !step.is_positive()) {
        return Err(Response::bad_request("aggregation_tick_size must be above zero"));
    }
    let market = state.perps.engine.market_by_ticker(call.first())?;
    Ok(Response::ok(json!({"orderbook": levels(market, depth, step)})))
}

/// Answers with the books of several markets; one that is unknown refuses all of them.
pub(super) fn order_books(state: &State, call: &Call<'_>) -> HandlerResult {
    let tickers = call
        .query
        .list_of("tickers", 100)?
        .ok_or_else(|| Response::bad_request("tickers must name 1 to 100 markets"))?;
    let mut books = Vec::new();
    for ticker in tickers {
        let market = state.perps.engine.market_by_ticker(ticker)?;
        books.push(json!({"ticker": market.ticker, "orderbook": levels(market, usize::MAX, None)}));
    }
    Ok(Response::ok(json!({"orderbooks": books})))
}

/// Returns both sides of a book, the worst level first: the document says the opposite, and this has
/// been seen. Levels are joined to those of a step: bids at the next lower multiple of it, asks at the
/// next higher one.
fn levels(market: &Market, depth: usize, step: Option<Dollars>) -> Value {
    let side = |side: Side| {
        let mut joined: BTreeMap<Dollars, Count> = BTreeMap::new();
        for PriceLevel { price, count } in market.book.levels(side) {
            let price = match (step, side) {
                (None, _) => Some(price),
                (Some(step), Side::Bid) => price.floor_to(step),
                (Some(step), Side::Ask) => price.ceil_to(step),
            };
            let sum = joined.entry(price.unwrap_or_default()).or_default();
            *sum = sum.saturating_add(count);
        }
        let rows = joined.into_iter().map(|(price, count)| PriceLevel { price, count });
        let mut rows: Vec<PriceLevel> = match side {
            Side::Bid => rows.rev().take(depth).collect(),
            Side::Ask => rows.take(depth).collect(),
        };
        rows.reverse();
        rows
    };
    json!({"bids": side(Side::Bid), "asks": side(Side::Ask)})
}

pub(super) fn candlesticks(state: &State, call: &Call<'_>) -> HandlerResult {
    let range = Range::read(call.query)?;
    let latest = call.query.flag("include_latest_before_start")?;
    let market = state.perps.engine.market_by_ticker(call.first())?;
    let mark = market.settlement_mark.price;
    let rows: Vec<Value> = candles(&market.minutes, range, latest)
        .iter()
        .map(|candle| {
            let Minute { bid, ask, price, volume, value, open_interest } = candle.minute;
            let mut prices = bar(price);
            prices["mean"] = json!(average(value, volume));
            prices["previous"] = json!(candle.previous);
            // What was open is worth what was traded last, or the mark before the first trade.
            let worth = price.map(|bar| bar.close).or(candle.previous).unwrap_or(mark);
            json!({
                "end_period_ts": candle.end,
                "bid": bar(Some(bid)),
                "ask": bar(Some(ask)),
                "price": prices,
                "volume": volume,
                "volume_notional_value_dollars": value,
                "open_interest": open_interest,
                "open_interest_notional_value_dollars": cost(worth, open_interest),
            })
        })
        .collect();
    Ok(Response::ok(json!({"ticker": market.ticker, "candlesticks": rows})))
}

fn bar(bar: Option<Bar>) -> Value {
    json!({
        "open": bar.map(|bar| bar.open),
        "low": bar.map(|bar| bar.low),
        "high": bar.map(|bar| bar.high),
        "close": bar.map(|bar| bar.close),
    })
}

/// Lists trades, the newest first.
pub(super) fn trades(state: &State, call: &Call<'_>) -> HandlerResult {
    let engine = &state.perps.engine;
    let span = call.query.span("min_ts", "max_ts")?;
    let all: Box<dyn Iterator<Item = &Trade>> = match call.query.get("ticker") {
        None => Box::new(engine.trades().iter().rev()),
        Some(ticker) => {
            // An unknown ticker has no trades.
            let trades = engine.market_by_ticker(ticker).map(|market| market.trades.iter());
            let trades = trades.into_iter().flatten();
            Box::new(trades.rev().filter_map(|id| engine.trade(*id)))
        }
    };
    let rows = all.filter(|trade| span.holds(trade.at));
    let pages = Paging::new("margin_trades", 100, 1_000);
    let (rows, cursor) = call.query.page(pages, rows, |trade| newest(trade.id.0))?;
    let rows: Vec<Value> = rows
        .into_iter()
        .map(|trade| {
            json!({
                "trade_id": trade.id.to_string(),
                "ticker": engine.market(trade.market).map_or("", |market| &market.ticker),
                "count": trade.count,
                "price": trade.price,
                "created_time": time(trade.at),
                "taker_side": trade.taker_side.as_str(),
            })
        })
        .collect();
    Ok(Response::ok(json!({"trades": rows, "cursor": cursor})))
}
