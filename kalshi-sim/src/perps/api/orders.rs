//! Orders: placing, changing, canceling, and reading them back.

use kalshi_types::Count;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    api::orders::{add_averages, ids_and_count, named},
    engine::{
        ids::{GroupId, MarketId, OrderId},
        types::{
            Amend, Decrease, Executed, NewOrder, OrderStatus, Refusal, Route, SelfTrade, Side,
            TimeInForce,
        },
    },
    http::{
        paging::{Paging, newest},
        request::{self, Call, given},
        response::{HandlerResult, Response},
    },
    perps::{api::member, engine::Perps, wire},
    state::State,
};

/// The body of a new order. Unknown fields are refused: a `reduce_only` with a slip in its name
/// would open a position.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    ticker: Option<String>,
    market_id: Option<String>,
    client_order_id: String,
    side: String,
    count: String,
    price: String,
    time_in_force: String,
    self_trade_prevention_type: String,
    expiration_time: Option<i64>,
    post_only: Option<bool>,
    cancel_order_on_pause: Option<bool>,
    reduce_only: Option<bool>,
    subaccount: Option<i64>,
    order_group_id: Option<String>,
    market_version: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    ticker: Option<String>,
    market_id: Option<String>,
    side: String,
    price: String,
    count: String,
    client_order_id: Option<String>,
    updated_client_order_id: Option<String>,
    expiration_time: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reduction {
    reduce_by: Option<String>,
    reduce_to: Option<String>,
}

/// Returns the ticker that a body names, by itself or by the id of the market; the ticker wins.
fn ticker(
    engine: &Perps,
    ticker: Option<String>,
    market_id: Option<String>,
) -> Result<Option<String>, Response> {
    let by_id = |id: String| {
        MarketId::parse(&id)
            .and_then(|id| engine.market(id))
            .map(|market| market.ticker.clone())
            .ok_or_else(|| Response::from(Refusal::not_found("market not found")))
    };
    match (given(ticker), given(market_id)) {
        (Some(ticker), _) => Ok(Some(ticker)),
        (None, Some(id)) => by_id(id).map(Some),
        (None, None) => Ok(None),
    }
}

pub(super) fn create(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let new: Create = call.read()?;
    let engine = &mut state.perps.engine;
    let ticker = ticker(engine, new.ticker, new.market_id)?
        .ok_or_else(|| Response::bad_request("ticker or market_id is required"))?;
    if new.client_order_id.is_empty() {
        return Err(Response::bad_request("client_order_id is required"));
    }
    let version = new.market_version.unwrap_or_default();
    if version < 0 {
        return Err(Response::bad_request("market_version must be 0 or more"));
    }
    let group = given(new.order_group_id)
        .map(|id| {
            GroupId::parse(&id)
                .ok_or_else(|| Response::from(Refusal::not_found("order group not found")))
        })
        .transpose()?;
    let order = NewOrder {
        account: caller.account,
        subaccount: caller.one(new.subaccount)?,
        ticker,
        side: request::word("side", &new.side, Side::parse)?,
        price: request::dollars("price", &new.price)?,
        count: request::count("count", &new.count)?,
        time_in_force: request::word("time_in_force", &new.time_in_force, TimeInForce::parse)?,
        self_trade: request::word(
            "self_trade_prevention_type",
            &new.self_trade_prevention_type,
            SelfTrade::parse,
        )?,
        client_order_id: Some(new.client_order_id),
        expires: new
            .expiration_time
            .map(|seconds| request::time("expiration_time", seconds))
            .transpose()?,
        post_only: new.post_only.unwrap_or_default(),
        reduce_only: new.reduce_only.unwrap_or_default(),
        cancel_on_pause: new.cancel_order_on_pause.unwrap_or_default(),
        group,
        route: Route::default(),
    };
    let done = engine.place_order(&order, version, call.time())?;
    Ok(Response::created(Value::Object(executed(engine, &done))))
}

pub(super) fn amend(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let change: Change = call.read()?;
    let subaccount = call.one_subaccount()?;
    let order = named(call.first())?;
    let engine = &mut state.perps.engine;
    let amend = Amend {
        account: caller.account,
        subaccount,
        order,
        ticker: ticker(engine, change.ticker, change.market_id)?.unwrap_or_default(),
        side: request::word("side", &change.side, Side::parse)?,
        price: request::dollars("price", &change.price)?,
        count: request::count("count", &change.count)?,
        client_order_id: given(change.client_order_id),
        updated_client_order_id: given(change.updated_client_order_id),
        expires: match change.expiration_time {
            None => None,
            Some(0) => Some(None),
            Some(seconds) => Some(Some(request::time("expiration_time", seconds)?)),
        },
        route: Route::default(),
    };
    let done = engine.amend(&amend, call.time())?;
    Ok(Response::ok(Value::Object(executed(engine, &done))))
}

pub(super) fn decrease(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let change: Reduction = call.read()?;
    let subaccount = call.one_subaccount()?;
    let decrease = match (given(change.reduce_by), given(change.reduce_to)) {
        (Some(by), None) => Decrease::By(request::count("reduce_by", &by)?),
        (None, Some(to)) => Decrease::To(request::count("reduce_to", &to)?),
        _ => return Err(Response::bad_request("either reduce_by or reduce_to is needed")),
    };
    let order = named(call.first())?;
    let engine = &mut state.perps.engine;
    let rests = engine.decrease(caller.account, subaccount, order, decrease, call.time())?;
    Ok(Response::ok(answered(engine, order, "remaining_count", rests).into()))
}

pub(super) fn cancel(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let subaccount = call.one_subaccount()?;
    let order = named(call.first())?;
    let engine = &mut state.perps.engine;
    let count = engine.cancel(caller.account, subaccount, order, call.time())?;
    Ok(Response::ok(answered(engine, order, "reduced_by", count).into()))
}

pub(super) fn cancel_all(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let subaccount = call.any_subaccount()?;
    state.perps.engine.cancel_all(caller.account, subaccount, call.time())?;
    Ok(Response::no_content())
}

/// Lists orders, the newest first.
pub(super) fn list(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let subaccount = call.any_subaccount()?;
    let status = call.query.word("status", &["resting", "canceled", "executed"])?;
    let span = call.query.span("min_ts", "max_ts")?;
    let engine = &state.perps.engine;
    let market = call.query.get("ticker").map(|ticker| engine.market_by_ticker(ticker));
    // An unknown ticker has no orders.
    let market = market.map(|found| found.ok().map(|market| market.id));
    let view = state.perps_view();
    let orders = view.account(caller.account)?.orders().iter().rev();
    let rows = orders
        .filter_map(|id| view.order(*id))
        .filter(|order| subaccount.is_none_or(|number| order.subaccount == number))
        .filter(|order| market.is_none_or(|market| Some(order.market) == market))
        .filter(|order| status.is_none_or(|word| order.status.as_str() == word))
        .filter(|order| span.holds(order.created));
    let pages = Paging::new("margin_orders", 10_000, 10_000);
    let (rows, cursor) = call.query.page(pages, rows, |order| newest(order.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|order| wire::order(view, order)).collect();
    Ok(Response::ok(json!({"orders": rows, "cursor": cursor})))
}

pub(super) fn one(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let view = state.perps_view();
    let order = view
        .order(named(call.first())?)
        .filter(|order| caller.owns(order.account, order.subaccount))
        .ok_or_else(|| Refusal::not_found("order not found"))?;
    Ok(Response::ok(json!({"order": wire::order(view, order)})))
}

/// Returns what a request has traded and what rests of the order.
fn executed(engine: &Perps, done: &Executed) -> Map<String, Value> {
    let mut row = answered(engine, done.order, "fill_count", done.filled);
    // Liquidations that it has set off may have traded with its rest.
    let rests = engine
        .order(done.order)
        .filter(|order| order.status == OrderStatus::Resting)
        .map_or(Count::ZERO, |order| order.remaining);
    row.insert("remaining_count".to_owned(), json!(rests));
    add_averages(&mut row, done);
    row
}

/// Returns the order's ids and a count.
fn answered(engine: &Perps, order: OrderId, field: &str, count: Count) -> Map<String, Value> {
    ids_and_count(engine.order(order), order, field, count)
}
