//! Cash, positions and fills, and the limits of requests.

use kalshi_types::Dollars;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::usage::shown_limits,
    engine::{amount::cost, types::Refusal},
    http::{
        paging::{Paging, newest_at},
        request::{self, Call},
        response::{HandlerResult, Response},
    },
    perps::{
        api::member,
        engine::{amount::size, margin::Marks},
        wire,
    },
    state::{State, limits::Limits},
    wire::time,
};

/// The body of a transfer between subaccounts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    client_transfer_id: String,
    from_subaccount: i64,
    to_subaccount: i64,
    amount_cents: i64,
    exchange_index: Option<i64>,
}

/// Answers with the capacities and rates of the buckets of perpetual futures.
pub(super) fn limits(state: &State, call: &Call<'_>) -> HandlerResult {
    let tier = state.limits.tier(call.caller()?.account);
    Ok(shown_limits(tier, Limits::perps_capacities(tier), "margined"))
}

/// Answers with the equity and the margins of each subaccount. What is available is computed if it is
/// asked for, and 0 otherwise.
pub(super) fn balance(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let computes = call.query.flag("compute_available_balance")?;
    let view = state.perps_view();
    let account = view.account(caller.account)?;
    let rows: Vec<Value> = account
        .wallets()
        .iter()
        .filter(|(number, _)| caller.owns(caller.account, **number))
        .map(|(number, wallet)| {
            let standing = view.standing(wallet, Marks::Settlement);
            let available = standing.available().max(Dollars::ZERO);
            let (orders, available) =
                if computes { (standing.orders, available) } else { Default::default() };
            json!({
                "subaccount": number,
                "position_value": standing.notional,
                "account_equity": standing.equity,
                "maintenance_margin": standing.maintenance,
                "initial_margin": standing.initial,
                "resting_orders_margin": orders,
                "available_balance": available,
            })
        })
        .collect();
    // Cash leaves the primary only.
    let settled = view.withdrawable((caller.account, 0));
    Ok(Response::ok(json!({"subaccount_balances": rows, "settled_funds": settled})))
}

pub(super) fn positions(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let subaccount = call.any_subaccount()?;
    let ticker = call.query.get("ticker");
    let engine = &state.perps.engine;
    let mut rows: Vec<Value> = Vec::new();
    let view = state.perps_view();
    for (number, wallet) in view.account(caller.account)?.wallets() {
        for (id, position) in &wallet.positions {
            let Some(market) = engine.market(*id) else { continue };
            let named = view.ticker(*id);
            if subaccount.is_some_and(|subaccount| subaccount != *number)
                || ticker.is_some_and(|ticker| ticker != named)
            {
                continue;
            }
            let mark = view.mark(market, Marks::Settlement);
            let profit = position.profit(mark);
            let used = engine.parameters.margins(market, cost(mark, size(position.count))).1;
            rows.push(json!({
                "subaccount": number,
                "market_ticker": named,
                "position": position.count,
                "entry_price": position.entry_price(),
                "unrealized_pnl": profit,
                "margin_used": used,
                "fees": position.fees,
                "roe": wire::ratio(profit.as_micros(), used.as_micros()),
                "is_portfolio": false,
            }));
        }
    }
    Ok(Response::ok(json!({"positions": rows})))
}

/// Lists fills, the newest first.
pub(super) fn fills(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let subaccount = call.any_subaccount()?;
    let span = call.query.span("min_ts", "max_ts")?;
    let view = state.perps_view();
    let fills = view.account(caller.account)?.fills().iter().enumerate().rev();
    let rows = fills
        .filter(|(_, fill)| subaccount.is_none_or(|number| fill.subaccount == number))
        .filter(|(_, fill)| span.holds(fill.at));
    let pages = Paging::new("margin_fills", 100, 1_000);
    let (rows, cursor) = call.query.page(pages, rows, |(index, _)| newest_at(*index))?;
    let rows: Vec<Value> = rows
        .into_iter()
        .map(|(_, fill)| {
            json!({
                // A member is on one side of a trade only.
                "fill_id": fill.trade.to_string(),
                "order_id": fill.order.to_string(),
                "is_taker": fill.taker,
                "side": fill.side.as_str(),
                "count": fill.count,
                "created_time": time(fill.at),
                "ticker": view.ticker(fill.market),
                "price": fill.price,
                "entry_price": fill.entry_price,
                "fees": fill.fee,
                "realized_pnl": fill.realized,
                "order_source": fill.source.as_str(),
            })
        })
        .collect();
    Ok(Response::ok(json!({"fills": rows, "cursor": cursor})))
}

pub(super) fn create_subaccount(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?.require_unbound()?;
    let number = state.perps.engine.open_subaccount(caller.account)?;
    Ok(Response::created(json!({"subaccount_number": number})))
}

/// Moves cash between subaccounts; a transfer that is repeated with its id moves nothing again.
pub(super) fn transfer(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?.require_unbound()?;
    let new: Transfer = call.read()?;
    if !request::is_uuid(&new.client_transfer_id) {
        return Err(Response::bad_request("client_transfer_id must be a UUID"));
    }
    request::shard("exchange_index", new.exchange_index)?;
    let ends = (
        request::subaccount("from_subaccount", new.from_subaccount)?,
        request::subaccount("to_subaccount", new.to_subaccount)?,
    );
    let amount = Dollars::from_cents(new.amount_cents)
        .ok_or_else(|| Refusal::parameters("amount_cents is out of range"))?;
    let id = new.client_transfer_id.to_ascii_lowercase();
    state.perps.engine.transfer(caller.account, ends, amount, &id, call.time())?;
    Ok(Response::ok(json!({})))
}
