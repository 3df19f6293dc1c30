//! The archive: markets, trades, orders, fills and positions that have left the live tier.

use serde_json::{Value, json};

use crate::{
    api::{candles, market, orders, portfolio},
    engine::{
        Market,
        types::{Order, Trade},
    },
    http::{
        paging::{Paging, newest, newest_at},
        query::Query,
        request::Call,
        response::{HandlerResult, Response},
    },
    state::State,
    wire,
};

pub(crate) fn cutoff(state: &State) -> Response {
    let cutoffs = state.engine.cutoffs();
    Response::ok(json!({
        "market_settled_ts": wire::time(cutoffs.markets),
        "trades_created_ts": wire::time(cutoffs.trades),
        "orders_updated_ts": wire::time(cutoffs.orders),
        "market_positions_last_updated_ts": wire::time(cutoffs.markets),
    }))
}

/// Lists archived markets. The filters exclude each other.
pub(crate) fn markets(state: &State, query: &Query) -> HandlerResult {
    let tickers = query.list("tickers");
    let (event, series) = (query.get("event_ticker"), query.get("series_ticker"));
    let mve = query.word("mve_filter", &["exclude"])?;
    let given = [tickers.is_some(), event.is_some(), series.is_some(), mve.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(Response::bad_request(
            "send one of tickers, event_ticker, series_ticker and mve_filter",
        ));
    }
    let rows = state
        .engine
        .archived_markets()
        .iter()
        .filter(|row| tickers.as_ref().is_none_or(|list| list.contains(&row.ticker.as_str())))
        .filter(|row| event.is_none_or(|event| row.event_ticker == event))
        .filter(|row| series.is_none_or(|series| row.series_ticker == series))
        .filter(|row| mve.is_none() || !market::is_combo(state, row));
    let pages = Paging::new("old_markets", 100, 1_000).with_zero();
    let (rows, cursor) = query.page(pages, rows, |market| u64::from(market.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|row| shown(state, row)).collect();
    Ok(Response::ok(json!({"markets": rows, "cursor": cursor})))
}

pub(crate) fn one(state: &State, call: &Call<'_>) -> HandlerResult {
    Ok(Response::ok(json!({"market": shown(state, found(state, call.first())?)})))
}

pub(crate) fn candlesticks(state: &State, call: &Call<'_>) -> HandlerResult {
    candles::of_archived(found(state, call.first())?, call.query)
}

/// Lists archived trades, newest first, whichever tier the market is in.
pub(crate) fn trades(state: &State, query: &Query) -> HandlerResult {
    let engine = &state.engine;
    let until = engine.cutoffs().trades;
    let all: Box<dyn Iterator<Item = &Trade>> = match query.get("ticker") {
        None => Box::new(engine.archived_trades().iter().rev()),
        Some(ticker) => {
            let found = engine.archived_market(ticker).or_else(|| engine.market_by_ticker(ticker));
            let trades = found.into_iter().flat_map(|found| market::of(engine, found));
            Box::new(trades.filter(move |trade| trade.at < until))
        }
    };
    market::shown_trades(state, all, query, "old_trades")
}

/// Lists archived orders, newest first, by the time of their last change.
pub(crate) fn orders(state: &State, call: &Call<'_>) -> HandlerResult {
    let query = call.query;
    let subaccount = call.any_subaccount()?;
    let span = query.span("min_ts", "max_ts")?;
    let ticker = query.get("ticker");
    let account = portfolio::account(state, call.caller()?)?;
    let rows = account
        .orders
        .iter()
        .rev()
        .filter_map(|id| state.engine.order(*id))
        .filter(|order| !state.engine.is_live(order))
        .filter(|order| subaccount.is_none_or(|number| order.subaccount == number))
        .filter(|order| span.holds(order.updated))
        .filter(|order| ticker.is_none_or(|ticker| is_of(state, order, ticker)));
    let pages = Paging::new("old_orders", 100, 1_000);
    let (rows, cursor) = query.page(pages, rows, |order| newest(order.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|order| orders::shown(state, order)).collect();
    Ok(Response::ok(json!({"orders": rows, "cursor": cursor})))
}

/// Lists archived fills, newest first.
pub(crate) fn fills(state: &State, call: &Call<'_>) -> HandlerResult {
    let query = call.query;
    let subaccount = call.any_subaccount()?;
    let span = query.span("min_ts", "max_ts")?;
    let ticker = query.get("ticker");
    let until = state.engine.cutoffs().trades;
    let rows = portfolio::account(state, call.caller()?)?
        .fills
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, fill)| fill.at < until)
        .filter(|(_, fill)| subaccount.is_none_or(|number| fill.subaccount == number))
        .filter(|(_, fill)| span.holds(fill.at))
        .filter(|(_, fill)| {
            let market = state.engine.market(fill.market);
            ticker.is_none_or(|ticker| market.is_some_and(|market| market.ticker == ticker))
        });
    let pages = Paging::new("old_fills", 100, 1_000);
    let (rows, cursor) = query.page(pages, rows, |(index, _)| newest_at(*index))?;
    let rows: Vec<Value> =
        rows.into_iter().map(|(_, fill)| portfolio::shown_fill(state, fill)).collect();
    Ok(Response::ok(json!({"fills": rows, "cursor": cursor})))
}

/// Lists archived positions. Unlike in other reads, no subaccount means the primary one alone.
pub(crate) fn positions(state: &State, call: &Call<'_>) -> HandlerResult {
    let query = call.query;
    let (ticker, event) = (query.get("ticker"), query.get("event_ticker"));
    let subaccount = call.one_subaccount()?;
    let rows = portfolio::traded(state, call.caller()?.account, subaccount)?
        .filter(|(market, _)| state.engine.is_archived(market.id))
        .filter(|(market, _)| {
            ticker.is_none_or(|ticker| market.ticker == ticker)
                && event.is_none_or(|event| market.event_ticker == event)
        })
        .collect();
    portfolio::shown_positions(rows, query, Paging::new("old_positions", 100, 1_000))
}

/// Returns an archived market as it goes over the wire: in the same form as a live one.
fn shown(state: &State, market: &Market) -> Value {
    let archive = &state.fixtures.archive;
    let about = archive.about(&market.ticker).or_else(|| state.catalog.about(&market.ticker));
    wire::market(&state.engine, about, market)
}

fn found<'a>(state: &'a State, ticker: &str) -> Result<&'a Market, Response> {
    state.engine.archived_market(ticker).ok_or_else(Response::not_found)
}

fn is_of(state: &State, order: &Order, ticker: &str) -> bool {
    state.engine.market(order.market).is_some_and(|market| market.ticker == ticker)
}
