//! Funding rates, premiums, and the funding of the caller.

use chrono::NaiveDate;
use serde_json::{Value, json};

use crate::{
    engine::types::Time,
    http::{
        query::Query,
        request::{self, Call},
        response::{HandlerResult, Response},
    },
    perps::{
        api::member,
        engine::{
            amount::Rate,
            funding::{last_funding, next_funding},
        },
        wire,
    },
    state::State,
    wire::time,
};

/// The longest window of premiums, in seconds.
const MAX_WINDOW: i64 = 3_600;

pub(super) fn estimate(state: &State, call: &Call<'_>) -> HandlerResult {
    let engine = &state.perps.engine;
    let market = engine.market_by_ticker(call.query.required("ticker")?)?;
    let now = call.time();
    let next = next_funding(now).ok_or_else(Response::unavailable)?;
    let mut row = json!({"next_funding_time": time(next)});
    // Without a premium there is no data.
    if let Some(premium) = market.estimated_premium() {
        let rate = market.funding_rate(last_funding(now).unwrap_or(now), now);
        row["market_ticker"] = json!(market.ticker);
        row["computed_time"] = time(now);
        row["funding_rate"] = wire::number(rate.parts(), 12);
        row["mark_price"] = json!(market.settlement_mark.price);
        row["premium_index"] = json!(premium.to_string());
        row["premium_index_ts"] = time(now);
    }
    Ok(Response::ok(row))
}

/// Lists the rates of the past, the newest first.
pub(super) fn historical(state: &State, call: &Call<'_>) -> HandlerResult {
    let engine = &state.perps.engine;
    let span = call.query.span("start_ts", "end_ts")?;
    let market = call.query.get("ticker").map(|ticker| engine.market_by_ticker(ticker));
    let market = market.transpose()?.map(|market| market.id);
    let rows: Vec<Value> = engine
        .funding_rates()
        .iter()
        .rev()
        .filter(|rate| market.is_none_or(|market| rate.market == market) && span.holds(rate.at))
        .map(|rate| {
            json!({
                "market_ticker": engine.market(rate.market).map_or("", |market| &market.ticker),
                "funding_time": time(rate.at),
                "funding_rate": wire::number(rate.rate.parts(), 12),
                "mark_price": rate.mark,
            })
        })
        .collect();
    Ok(Response::ok(json!({"funding_rates": rows})))
}

/// Lists the premium of each second of a window; 0 also where none could be measured.
pub(super) fn premium_index(state: &State, call: &Call<'_>) -> HandlerResult {
    let engine = &state.perps.engine;
    let market = engine.market_by_ticker(call.query.required("ticker")?)?;
    let start = call.query.required_integer("start_ts")?;
    let end = call.query.required_integer("end_ts")?;
    for (field, seconds) in [("start_ts", start), ("end_ts", end)] {
        request::time(field, seconds)?;
    }
    if !(0..=MAX_WINDOW).contains(&(end - start)) {
        return Err(Response::bad_request("the window must be an hour at most"));
    }
    let now = crate::wire::seconds(call.time());
    let first = market.premiums.keys().next().copied().unwrap_or(i64::MAX);
    let rows: Vec<Value> = (start.max(first)..=end.min(now))
        .map(|second| {
            let premium = market.premium_at(second).unwrap_or(Rate::ZERO);
            json!({
                "second_ts": time(Time::from_millis(second.saturating_mul(1_000))),
                "premium_index": premium.to_string(),
            })
        })
        .collect();
    Ok(Response::ok(json!({"points": rows})))
}

/// Lists the funding of the caller, the newest first.
pub(super) fn history(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let subaccount = call.any_subaccount()?;
    let (start, end) = (day(call.query, "start_date")?, day(call.query, "end_date")?);
    if start > end {
        return Err(Response::bad_request("start_date must not be after end_date"));
    }
    let view = state.perps_view();
    let ticker = call.query.get("ticker");
    let rows: Vec<Value> = view
        .account(caller.account)?
        .funding()
        .iter()
        .rev()
        .filter(|row| subaccount.is_none_or(|number| row.subaccount == number))
        .filter(|row| {
            // Days are those of UTC.
            let day = row.at.to_datetime().map(|at| at.date_naive());
            day.is_some_and(|day| start <= day && day <= end)
        })
        .filter(|row| ticker.is_none_or(|ticker| view.ticker(row.market) == ticker))
        .map(|row| {
            json!({
                "market_ticker": view.ticker(row.market),
                "funding_time": time(row.at),
                "funding_rate": wire::number(row.rate.parts(), 12),
                "mark_price": row.mark,
                "funding_amount": row.amount,
                "quantity": row.count,
                "subaccount_number": row.subaccount,
            })
        })
        .collect();
    Ok(Response::ok(json!({"funding_history": rows})))
}

/// Reads a day that must be there.
fn day(query: &Query, key: &str) -> Result<NaiveDate, Response> {
    query.required(key)?;
    query.day(key)?.ok_or_else(Response::not_found)
}
