//! Order groups: limits on what a set of orders may trade in 15 seconds.

use kalshi_types::Count;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    engine::{
        Group, OrderGroups,
        ids::{AccountId, GroupId},
        types::{Refusal, Shard, Subaccount},
    },
    http::{
        request::{self, Call},
        response::{HandlerResult, Response},
    },
    state::State,
};

/// Both limits may be sent if they agree. Unknown fields are refused: without its limit a group
/// would not protect anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    contracts_limit: Option<i64>,
    contracts_limit_fp: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    pub(crate) subaccount: Option<i64>,
    contracts_limit: Option<i64>,
    contracts_limit_fp: Option<String>,
    pub(crate) exchange_index: Option<i64>,
}

impl From<Create> for Limit {
    fn from(new: Create) -> Self {
        Self { contracts_limit: new.contracts_limit, contracts_limit_fp: new.contracts_limit_fp }
    }
}

impl Limit {
    pub(crate) fn count(&self) -> Result<Count, Response> {
        let whole = self
            .contracts_limit
            .map(|contracts| {
                Count::from_contracts(contracts)
                    .ok_or_else(|| Response::bad_request("contracts_limit is out of range"))
            })
            .transpose()?;
        let exact = self
            .contracts_limit_fp
            .as_deref()
            .map(|text| request::count("contracts_limit_fp", text))
            .transpose()?;
        match (whole, exact) {
            (Some(whole), Some(exact)) if whole != exact => {
                Err(Response::bad_request("contracts_limit and contracts_limit_fp differ"))
            }
            (Some(limit), _) | (None, Some(limit)) => Ok(limit),
            (None, None) => {
                Err(Response::bad_request("contracts_limit or contracts_limit_fp is needed"))
            }
        }
    }
}

pub(crate) fn create(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let caller = call.caller()?;
    let new: Create = call.read()?;
    let subaccount = caller.one(new.subaccount)?;
    let shard = request::existing_shard("exchange_index", new.exchange_index)?;
    let limit = Limit::from(new);
    let group = state.engine.create_group(
        caller.account,
        subaccount,
        shard,
        limit.count()?,
        call.time(),
    )?;
    Ok(Response::created(json!({
        "order_group_id": group.to_string(),
        "subaccount": subaccount,
        "exchange_index": shard,
    })))
}

pub(crate) fn limit(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let limit = call.read::<Limit>()?.count()?;
    let (group, subaccount, shard) = named(call)?;
    let account = call.caller()?.account;
    state.engine.limit_group(account, group, subaccount, shard, limit, call.time())?;
    Ok(Response::ok(json!({})))
}

pub(crate) fn reset(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (group, subaccount, shard) = named(call)?;
    let account = call.caller()?.account;
    state.engine.reset_group(account, group, subaccount, shard, call.time())?;
    Ok(Response::ok(json!({})))
}

pub(crate) fn trigger(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (group, subaccount, shard) = named(call)?;
    let account = call.caller()?.account;
    state.engine.trigger_group(account, group, subaccount, shard, call.time())?;
    Ok(Response::ok(json!({})))
}

pub(crate) fn delete(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (group, subaccount, shard) = named(call)?;
    let account = call.caller()?.account;
    state.engine.delete_group(account, group, subaccount, shard, call.time())?;
    Ok(Response::ok(json!({})))
}

pub(crate) fn list(state: &State, call: &Call<'_>) -> HandlerResult {
    let account = call.caller()?.account;
    let subaccount = call.any_subaccount()?;
    Ok(listed(state.engine.groups(), account, subaccount))
}

/// Returns the groups of an account, of all its subaccounts unless one is named.
pub(crate) fn listed<'a>(
    groups: impl Iterator<Item = &'a Group>,
    account: AccountId,
    subaccount: Option<Subaccount>,
) -> Response {
    let rows: Vec<Value> = groups
        .filter(|group| group.account == account)
        .filter(|group| subaccount.is_none_or(|number| group.subaccount == number))
        .map(|group| {
            let mut row = shown(group);
            row["id"] = json!(group.id.to_string());
            row
        })
        .collect();
    Response::ok(json!({"order_groups": rows}))
}

/// Returns a group on any shard, and in any subaccount unless one is named.
pub(crate) fn one(state: &State, call: &Call<'_>) -> HandlerResult {
    let account = call.caller()?.account;
    let subaccount = call.any_subaccount()?;
    let group = GroupId::parse(call.first())
        .and_then(|id| state.engine.group(id))
        .filter(|group| group.account == account)
        .filter(|group| subaccount.is_none_or(|number| group.subaccount == number))
        .ok_or_else(missing)?;
    Ok(with_orders(group))
}

/// Returns one group.
pub(crate) fn with_orders(group: &Group) -> Response {
    let mut row = shown(group);
    // Only those that rest: finished orders leave the group.
    row["orders"] = group.orders.iter().map(ToString::to_string).collect();
    Response::ok(row)
}

/// Returns what both reads show. Every group cancels its orders by itself, so the flag says nothing
/// about whether it has.
fn shown(group: &Group) -> Value {
    json!({
        "contracts_limit_fp": group.limit,
        "is_auto_cancel_enabled": true,
        "exchange_index": group.shard,
    })
}

/// Returns the path's group id, with the query's subaccount and shard.
fn named(call: &Call<'_>) -> Result<(GroupId, Subaccount, Shard), Response> {
    let group = GroupId::parse(call.first()).ok_or_else(missing)?;
    Ok((group, call.one_subaccount()?, call.query.shard()?.unwrap_or_default()))
}

pub(crate) fn missing() -> Response {
    Refusal::not_found("order group not found").into()
}
