//! Order groups. A group is bound to the market group that it was created for, which later requests
//! do not name.

use serde_json::json;

use crate::{
    api::order_groups::{Create, Limit, listed, missing, with_orders},
    engine::{
        Group, OrderGroups as _,
        ids::GroupId,
        types::{Shard, Subaccount},
    },
    http::{
        request::{self, Call},
        response::{HandlerResult, Response},
    },
    perps::api::member,
    state::State,
};

pub(super) fn create(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let new: Create = call.read()?;
    let subaccount = caller.one(new.subaccount)?;
    let shard = request::shard("exchange_index", new.exchange_index)?;
    let engine = &mut state.perps.engine;
    if engine.markets().iter().all(|market| market.shard != shard) {
        return Err(Response::bad_request("exchange_index names no market group"));
    }
    let limit = Limit::from(new).count()?;
    let group = engine.create_group(caller.account, subaccount, shard, limit, call.time())?;
    Ok(Response::created(json!({
        "order_group_id": group.to_string(),
        "subaccount": subaccount,
        "exchange_index": shard,
    })))
}

pub(super) fn limit(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let limit = call.read::<Limit>()?.count()?;
    let (group, subaccount, shard) = named(state, call)?;
    let account = call.caller()?.account;
    state.perps.engine.limit_group(account, group, subaccount, shard, limit, call.time())?;
    Ok(Response::ok(json!({})))
}

pub(super) fn reset(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (group, subaccount, shard) = named(state, call)?;
    let account = call.caller()?.account;
    state.perps.engine.reset_group(account, group, subaccount, shard, call.time())?;
    Ok(Response::ok(json!({})))
}

pub(super) fn trigger(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (group, subaccount, shard) = named(state, call)?;
    let account = call.caller()?.account;
    state.perps.engine.trigger_group(account, group, subaccount, shard, call.time())?;
    Ok(Response::ok(json!({})))
}

pub(super) fn delete(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (group, subaccount, shard) = named(state, call)?;
    let account = call.caller()?.account;
    state.perps.engine.delete_group(account, group, subaccount, shard, call.time())?;
    Ok(Response::ok(json!({})))
}

pub(super) fn list(state: &State, call: &Call<'_>) -> HandlerResult {
    let account = member(state, call)?.account;
    let subaccount = call.any_subaccount()?;
    Ok(listed(state.perps.engine.groups(), account, subaccount))
}

pub(super) fn one(state: &State, call: &Call<'_>) -> HandlerResult {
    member(state, call)?;
    let subaccount = call.any_subaccount()?;
    let group = found(state, call)?;
    if subaccount.is_some_and(|number| group.subaccount != number) {
        return Err(missing());
    }
    Ok(with_orders(group))
}

fn found<'a>(state: &'a State, call: &Call<'_>) -> Result<&'a Group, Response> {
    let account = call.caller()?.account;
    GroupId::parse(call.first())
        .and_then(|id| state.perps.engine.group(id))
        .filter(|group| group.account == account)
        .ok_or_else(missing)
}

/// Returns the path's group with the query's subaccount, and the market group that it is bound to.
fn named(state: &State, call: &Call<'_>) -> Result<(GroupId, Subaccount, Shard), Response> {
    member(state, call)?;
    let group = found(state, call)?;
    Ok((group.id, call.one_subaccount()?, group.shard))
}
