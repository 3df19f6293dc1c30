//! The subtraders of a futures commission merchant: reads of their orders, fills and positions, and
//! what their firm sets for them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::{orders, portfolio},
    engine::{
        Account,
        ids::TradeId,
        types::{Fill, Order},
    },
    fixtures::fcm::{Firm, Subtrader},
    http::{
        paging::{Paging, newest},
        query::Query,
        request::Call,
        response::{HandlerResult, Response},
    },
    state::State,
};

/// Rows of a page of fills, which cannot be set. The exchange's own number is not documented.
const FILLS: usize = 25;

pub(crate) fn subtraders(state: &State, call: &Call<'_>) -> HandlerResult {
    Ok(state.fixtures.fcm.known(call.caller()?)?.list(call.now))
}

pub(crate) fn create_subtrader(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let firm = state.fixtures.fcm.firm(caller)?;
    firm.create(caller.account, call.body, &mut state.engine, call.now)
}

pub(crate) fn blocked_categories(state: &State, call: &Call<'_>) -> HandlerResult {
    let firm = state.fixtures.fcm.known(call.caller()?)?;
    let (_, subtrader) = named(firm, call.query, None)?;
    Ok(Response::ok(json!({"categories": subtrader.blocked()})))
}

pub(crate) fn block_category(state: &mut State, call: &Call<'_>) -> HandlerResult {
    state.fixtures.fcm.firm(call.caller()?)?.block(call.body)
}

pub(crate) fn daily_cap(state: &State, call: &Call<'_>) -> HandlerResult {
    let firm = state.fixtures.fcm.known(call.caller()?)?;
    let (id, subtrader) = named(firm, call.query, call.subtrader.as_deref())?;
    let limit = subtrader.cap().ok_or_else(Response::not_found)?;
    let used = subtrader.utilization(&state.engine, call.now);
    Ok(Response::ok(json!({
        "subtrader_id": id,
        "limit": limit,
        "executed_utilization": used.executed,
        "resting_order_utilization": used.resting,
        // The engine acts at once: no order is under way.
        "pending_order_utilization": "0.0000",
        "cap_date": used.day.to_string(),
    })))
}

pub(crate) fn set_daily_cap(state: &mut State, call: &Call<'_>) -> HandlerResult {
    state.fixtures.fcm.firm(call.caller()?)?.set_cap(call.body)
}

pub(crate) fn delete_daily_cap(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let firm = state.fixtures.fcm.firm(call.caller()?)?;
    let id = named(firm, call.query, None)?.0.to_owned();
    firm.delete_cap(&id)
}

/// Returns the orders of one subtrader, or those with certain client order ids, the newest first.
pub(crate) fn orders(state: &State, call: &Call<'_>) -> HandlerResult {
    let query = call.query;
    let firm = state.fixtures.fcm.known(call.caller()?)?;
    let subtrader = match given(query, call.subtrader.as_deref())? {
        Some(id) if firm.subtrader(id).is_none() => return Err(Response::not_found()),
        id => id,
    };
    if subtrader.is_none() && query.get("client_order_ids").is_none() {
        return Err(Response::bad_request(
            "subtrader_id is required unless client_order_ids is given",
        ));
    }
    let status = query.word("status", &["resting", "canceled", "executed"])?;
    let (ticker, event) = (query.get("ticker"), query.get("event_ticker"));
    let client_ids = query.list("client_order_ids");
    let span = query.span("min_ts", "max_ts")?;
    let mut rows: Vec<(&str, &Order)> = Vec::new();
    for (id, account) in accounts(state, firm) {
        if subtrader.is_some_and(|subtrader| subtrader != id) {
            continue;
        }
        let orders = account.orders.iter().filter_map(|order| state.engine.order(*order));
        rows.extend(
            orders
                .filter(|order| status.is_none_or(|status| order.status.as_str() == status))
                .filter(|order| span.holds(order.created))
                .filter(|order| {
                    let client_id = order.extras().client_order_id.as_deref().unwrap_or_default();
                    client_ids.as_ref().is_none_or(|ids| ids.contains(&client_id))
                })
                .filter(|order| {
                    let Some(market) = state.engine.market(order.market) else { return false };
                    ticker.is_none_or(|ticker| market.ticker == ticker)
                        && event.is_none_or(|event| market.event_ticker == event)
                })
                .map(|order| (id, order)),
        );
    }
    rows.sort_by_key(|(_, order)| newest(order.id.0));
    let pages = Paging::new("fcm_orders", 100, 1_000);
    let (rows, cursor) = query.page(pages, rows, |(_, order)| newest(order.id.0))?;
    let rows: Vec<Value> = rows
        .into_iter()
        .map(|(id, order)| {
            let mut row = orders::shown(state, order);
            row["user_id"] = id.into();
            row
        })
        .collect();
    Ok(Response::ok(json!({"orders": rows, "cursor": cursor})))
}

/// One of the two sides of a trade, and the id of its subtrader.
type Party<'a> = (&'a str, &'a Fill);

/// Returns the trades of all subtraders, the newest first: each once, with the sides that are the
/// firm's.
pub(crate) fn fills(state: &State, call: &Call<'_>) -> HandlerResult {
    let query = call.query;
    let span = query.span("min_ts", "max_ts")?;
    let firm = state.fixtures.fcm.known(call.caller()?)?;
    let mut trades: BTreeMap<TradeId, (Option<Party<'_>>, Option<Party<'_>>)> = BTreeMap::new();
    for (id, account) in accounts(state, firm) {
        for fill in account.fills.iter().filter(|fill| span.holds(fill.at)) {
            let (maker, taker) = trades.entry(fill.trade).or_default();
            *(if fill.taker { taker } else { maker }) = Some((id, fill));
        }
    }
    let pages = Paging::new("fcm_fills", FILLS, FILLS).without_parameter();
    let rows = trades.into_iter().rev();
    let (rows, cursor) = query.page(pages, rows, |(trade, _)| newest(trade.0))?;
    let rows: Vec<Value> =
        rows.into_iter().filter_map(|(_, sides)| shown_trade(state, sides)).collect();
    Ok(Response::ok(json!({"fills": rows, "cursor": cursor})))
}

fn shown_trade(
    state: &State,
    (maker, taker): (Option<Party<'_>>, Option<Party<'_>>),
) -> Option<Value> {
    let (_, fill) = taker.or(maker)?;
    let trade = state.engine.trade(fill.trade)?;
    let market = state.engine.market(fill.market)?;
    let mut row = json!({
        "fill_id": trade.id.to_string(),
        "exchange_index": market.shard,
        "ticker": market.ticker,
        "taker_outcome_side": trade.taker_side.outcome(),
        "count_fp": trade.count,
        "yes_price_dollars": trade.price,
        "created_time": crate::wire::time(trade.at),
    });
    for (name, side) in [("maker", maker), ("taker", taker)] {
        if let Some((subtrader, fill)) = side {
            row[format!("{name}_order_id")] = fill.order.to_string().into();
            row[format!("{name}_subtrader_id")] = subtrader.into();
            row[format!("{name}_fee_cost")] = json!(fill.fee);
        }
    }
    Some(row)
}

pub(crate) fn positions(state: &State, call: &Call<'_>) -> HandlerResult {
    let firm = state.fixtures.fcm.known(call.caller()?)?;
    let account = named(firm, call.query, call.subtrader.as_deref())?.1.account;
    portfolio::positions_of(state, account, 0, call.query)
}

pub(crate) fn create_transfer(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let State { engine, fixtures, catalog, .. } = state;
    fixtures.fcm.transfer(call.caller()?, call.body, &catalog.series, engine, call.now)
}

/// Returns the subtraders of a firm with their accounts.
fn accounts<'a>(
    state: &'a State,
    firm: &'a Firm,
) -> impl Iterator<Item = (&'a str, &'a Account)> + 'a {
    let accounts =
        |(id, row): (&'a str, &'a Subtrader)| Some((id, state.engine.ledger.account(row.account)?));
    firm.subtraders().filter_map(accounts)
}

/// Returns the subtrader that a query has to name, unless the key acts for `own` only.
fn named<'a>(
    firm: &'a Firm,
    query: &'a Query,
    own: Option<&'a str>,
) -> Result<(&'a str, &'a Subtrader), Response> {
    let id = given(query, own)?.ok_or_else(|| Response::bad_request("subtrader_id is required"))?;
    Ok((id, firm.subtrader(id).ok_or_else(Response::not_found)?))
}

/// Returns the subtrader that a query names, or `own`, beside which it may name no other.
fn given<'a>(query: &'a Query, own: Option<&'a str>) -> Result<Option<&'a str>, Response> {
    match (query.get("subtrader_id"), own) {
        (Some(named), Some(own)) if named != own => {
            Err(Response::forbidden("the API key is restricted to another subtrader"))
        }
        (named, own) => Ok(named.or(own)),
    }
}
