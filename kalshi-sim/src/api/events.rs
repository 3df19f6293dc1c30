//! Events: groups of markets that are settled together.

use serde_json::{Value, json};

use crate::{
    api::market,
    engine::Market,
    http::{
        paging::Paging,
        query::{Query, Span},
        request::Call,
        response::{HandlerResult, Response},
    },
    state::State,
};

pub(crate) fn list(state: &State, query: &Query) -> HandlerResult {
    let tickers = query.list("tickers");
    let status = query.word("status", &["unopened", "open", "closed", "settled"])?;
    let series = query.get("series_ticker");
    let nested = query.flag("with_nested_markets")?;
    let closes = Span::from(query.integer("min_close_ts")?);
    let updated = Span::from(query.integer("min_updated_ts")?);
    let rows = state
        .catalog
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| series.is_none_or(|series| event["series_ticker"] == series))
        .filter(|(_, event)| {
            tickers.as_ref().is_none_or(|list| list.iter().any(|t| event["event_ticker"] == *t))
        })
        // An event counts as open while any of its markets does.
        .filter(|(_, event)| {
            status.is_none_or(|s| markets_of(state, event).any(|m| m.status.filter() == s))
        })
        .filter(|(_, event)| {
            !closes.is_given() || markets_of(state, event).any(|m| closes.holds(m.closes))
        })
        .filter(|(_, event)| market::was_updated(event, updated));
    let pages = Paging::new("events", 200, 200);
    let (rows, cursor) =
        query.page(pages, rows, |(place, _)| u64::try_from(*place).unwrap_or(u64::MAX))?;
    let rows: Vec<Value> = rows.into_iter().map(|(_, event)| shown(state, event, nested)).collect();
    Ok(Response::ok(json!({"events": rows, "cursor": cursor})))
}

pub(crate) fn one(state: &State, call: &Call<'_>) -> HandlerResult {
    let nested = call.query.flag("with_nested_markets")?;
    let found = state.catalog.events.iter().find(|event| event["event_ticker"] == call.first());
    let found = found.or_else(|| state.fixtures.combo_event(call.first()));
    let event = found.ok_or_else(Response::not_found)?;
    let markets: Vec<Value> = if nested {
        Vec::new()
    } else {
        markets_of(state, event).map(|m| market::shown(state, m)).collect()
    };
    Ok(Response::ok(json!({"event": shown(state, event, nested), "markets": markets})))
}

fn markets_of<'a>(state: &'a State, event: &'a Value) -> impl Iterator<Item = &'a Market> {
    state.engine.markets().iter().filter(|market| event["event_ticker"] == *market.event_ticker)
}

fn shown(state: &State, event: &Value, nested: bool) -> Value {
    let mut event = event.clone();
    if nested {
        let markets: Vec<Value> =
            markets_of(state, &event).map(|m| market::shown(state, m)).collect();
        event["markets"] = json!(markets);
    }
    event
}
