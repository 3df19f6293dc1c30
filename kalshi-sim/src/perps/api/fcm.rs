//! The risk controls of futures commission merchants over their subtraders.

use kalshi_types::Dollars;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    engine::{
        amount::SaturatingArithmetic as _,
        ids::{AccountId, MarketId},
        principal::Principal,
    },
    fixtures::fcm::is_suffix,
    http::{
        request::{self, Call, given},
        response::{HandlerResult, Response},
    },
    perps::engine::{Perps, markets::AssetClass},
    state::State,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSubtrader {
    subtrader_suffix: String,
    require_category_cap: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Controls {
    subtrader_id: String,
    im_cap: String,
    market_ticker: Option<String>,
    asset_class: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NotionalLimit {
    notional_value_risk_limit: String,
}

/// The part of the risk that a control is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Market(MarketId),
    Class(AssetClass),
}

fn firm(call: &Call<'_>) -> Result<Principal, Response> {
    let caller = call.caller()?;
    if caller.fcm_member {
        Ok(caller)
    } else {
        Err(Response::forbidden("this endpoint is for FCM members"))
    }
}

fn subtrader(state: &State, firm: AccountId, id: &str) -> Result<AccountId, Response> {
    let found = state.perps.firms.get(&firm).and_then(|subtraders| subtraders.get(id));
    found.copied().ok_or_else(Response::not_found)
}

/// Returns the scope that is named by a ticker or by an asset class; `None` if there is none.
fn scope(
    engine: &Perps,
    ticker: Option<&str>,
    class: Option<&str>,
) -> Result<Option<Scope>, Response> {
    match (ticker, class) {
        (Some(_), Some(_)) => {
            Err(Response::bad_request("market_ticker and asset_class exclude each other"))
        }
        (Some(ticker), None) => Ok(Some(Scope::Market(engine.market_by_ticker(ticker)?.id))),
        (None, Some(class)) => {
            request::word("asset_class", class, AssetClass::parse).map(Scope::Class).map(Some)
        }
        (None, None) => Ok(None),
    }
}

fn required(scope: Option<Scope>) -> Result<Scope, Response> {
    scope.ok_or_else(|| Response::bad_request("market_ticker or asset_class is needed"))
}

pub(super) fn create_subtrader(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = firm(call)?;
    let new: NewSubtrader = call.read()?;
    if !is_suffix(&new.subtrader_suffix) {
        return Err(Response::bad_request("subtrader_suffix has 1 to 16 letters and digits"));
    }
    let id = format!("{}_{}", caller.account, new.subtrader_suffix);
    if subtrader(state, caller.account, &id).is_ok() {
        return Err(Response::conflict("subtrader_exists", "there is a subtrader with this id"));
    }
    let account = state
        .perps
        .open_subtrader(caller.account, id.clone())
        .ok_or_else(|| Response::bad_request("there are too many subtraders"))?;
    state.perps.engine.account_mut(account)?.caps.required = new.require_category_cap;
    Ok(Response::created(json!({"subtrader_id": id})))
}

pub(super) fn risk_controls(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = firm(call)?;
    let engine = &state.perps.engine;
    let named = call.query.get("subtrader_id");
    if let Some(id) = named {
        subtrader(state, caller.account, id)?;
    }
    let scope = scope(engine, call.query.get("market_ticker"), call.query.get("asset_class"))?;
    let (mut controls, mut limits) = (Vec::new(), Vec::new());
    for (id, account) in state.perps.firms.get(&caller.account).into_iter().flatten() {
        if named.is_some_and(|named| named != id) {
            continue;
        }
        let (rows, limit) = shown(engine, id, *account, scope)?;
        controls.extend(rows);
        limits.extend(limit);
    }
    Ok(Response::ok(json!({"risk_controls": controls, "notional_limits": limits})))
}

/// Returns the caps of a subtrader in a scope, or all of them, and its limit of worth.
fn shown(
    engine: &Perps,
    id: &str,
    account: AccountId,
    scope: Option<Scope>,
) -> Result<(Vec<Value>, Option<Value>), Response> {
    let found = engine.account(account)?;
    let mut rows = Vec::new();
    for (market, cap) in &found.caps.by_market {
        if scope.is_none_or(|scope| scope == Scope::Market(*market)) {
            rows.push(json!({
                "subtrader_id": id,
                "market_ticker": engine.market(*market).map_or("", |market| &market.ticker),
                "im_cap": cap,
                "current_im": engine.initial_margin(account, *market),
            }));
        }
    }
    for (class, cap) in &found.caps.by_class {
        if scope.is_none_or(|scope| scope == Scope::Class(*class)) {
            let of_class = engine.markets().iter().filter(|market| market.class == *class);
            let used = of_class.fold(Dollars::ZERO, |sum, market| {
                sum.saturating_add(engine.initial_margin(account, market.id))
            });
            rows.push(json!({
                "subtrader_id": id,
                "asset_class": class.as_str(),
                "im_cap": cap,
                "current_im": used,
            }));
        }
    }
    let used = engine
        .markets()
        .iter()
        .fold(Dollars::ZERO, |sum, market| sum.saturating_add(engine.usage(account, market.id)));
    let limit = found.notional_limit.map(|limit| {
        json!({
            "subtrader_id": id,
            "notional_value_risk_limit": limit,
            "current_notional": used,
        })
    });
    Ok((rows, limit))
}

pub(super) fn set_risk_controls(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = firm(call)?;
    let body: Controls = call.read()?;
    let account = subtrader(state, caller.account, &body.subtrader_id)?;
    let cap = amount("im_cap", &body.im_cap)?;
    let (ticker, class) = (given(body.market_ticker), given(body.asset_class));
    let engine = &mut state.perps.engine;
    let scope = required(scope(engine, ticker.as_deref(), class.as_deref())?)?;
    let caps = &mut engine.account_mut(account)?.caps;
    match scope {
        Scope::Market(market) => caps.by_market.insert(market, cap),
        Scope::Class(class) => caps.by_class.insert(class, cap),
    };
    Ok(Response::ok(json!({})))
}

pub(super) fn delete_risk_controls(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = firm(call)?;
    let id = call
        .query
        .get("subtrader_id")
        .ok_or_else(|| Response::bad_request("subtrader_id is required"))?;
    let account = subtrader(state, caller.account, id)?;
    let engine = &mut state.perps.engine;
    let scope = scope(engine, call.query.get("market_ticker"), call.query.get("asset_class"))?;
    let scope = required(scope)?;
    let caps = &mut engine.account_mut(account)?.caps;
    let removed = match scope {
        Scope::Market(market) => caps.by_market.remove(&market),
        Scope::Class(class) => caps.by_class.remove(&class),
    };
    removed.ok_or_else(Response::not_found)?;
    Ok(Response::ok(json!({})))
}

/// Sets the limit of the firm and of its subtraders, and cancels orders that are above it.
pub(super) fn set_notional_limit(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let body: NotionalLimit = call.read()?;
    let limit = amount("notional_value_risk_limit", &body.notional_value_risk_limit)?;
    change_notional_limit(state, call, Some(limit))
}

pub(super) fn delete_notional_limit(state: &mut State, call: &Call<'_>) -> HandlerResult {
    change_notional_limit(state, call, None)
}

fn change_notional_limit(
    state: &mut State,
    call: &Call<'_>,
    limit: Option<Dollars>,
) -> HandlerResult {
    let caller = firm(call)?;
    let subtraders = state.perps.firms.get(&caller.account).into_iter().flatten();
    let mut accounts: Vec<AccountId> = subtraders.map(|(_, account)| *account).collect();
    accounts.push(caller.account);
    for account in accounts {
        state.perps.engine.set_notional_limit(account, limit, call.time())?;
    }
    Ok(Response::ok(json!({})))
}

fn amount(field: &str, text: &str) -> Result<Dollars, Response> {
    let amount = request::dollars(field, text)?;
    if amount.is_negative() {
        return Err(Response::bad_request(&format!("{field} must not be below zero")));
    }
    Ok(amount)
}
