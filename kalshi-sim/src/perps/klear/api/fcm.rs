//! The operations that only futures commission merchants have: netting groups and keys of their
//! subtraders.

use std::{collections::BTreeSet, sync::Arc};

use kalshi_auth::server::PublicKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    engine::{
        ids::{AccountId, ClearingId},
        principal::Principal,
    },
    http::{
        request::Call,
        response::{HandlerResult, Response},
    },
    state::{State, keys::Key},
};

/// The subtraders that a group may have.
const MOST_MEMBERS: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupBody {
    subtrader_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: String,
    public_key: String,
    fcm_subtrader_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPair {
    name: String,
    fcm_subtrader_id: String,
}

fn firm(call: &Call<'_>) -> Result<Principal, Response> {
    let caller = call.caller()?;
    if caller.fcm_member {
        Ok(caller)
    } else {
        Err(Response::forbidden("this endpoint is for FCM members"))
    }
}

fn subtrader(state: &State, firm: AccountId, id: &str) -> Option<AccountId> {
    state.perps.firms.get(&firm)?.get(id).copied()
}

pub(super) fn groups(state: &State, call: &Call<'_>) -> HandlerResult {
    let firm = firm(call)?.account;
    let subtraders = state.perps.firms.get(&firm);
    let groups = state.perps.house.member(firm).into_iter().flat_map(|member| &member.groups);
    let rows: Vec<Value> = groups
        .map(|(id, accounts)| {
            let members = subtraders.into_iter().flatten();
            let members = members.filter(|(_, account)| accounts.contains(account));
            json!({
                "group_id": id.to_string(),
                "member_subtrader_ids": members.map(|(id, _)| id).collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(Response::ok(json!({"groups": rows})))
}

pub(super) fn create_group(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (firm, accounts) = members(state, call)?;
    let id = state.perps.house.create_group(firm, accounts)?;
    Ok(Response::ok(json!({"group_id": id.to_string()})))
}

pub(super) fn update_group(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let (firm, accounts) = members(state, call)?;
    let id = ClearingId::parse(call.first()).ok_or_else(Response::not_found)?;
    state.perps.house.update_group(firm, id, accounts)?;
    Ok(Response { status: 200, body: None })
}

/// Ends a group. The document has no 404 here, so that one that does not exist is a bad request.
pub(super) fn delete_group(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let firm = firm(call)?.account;
    let id = ClearingId::parse(call.first());
    if id.is_some_and(|id| state.perps.house.delete_group(firm, id)) {
        Ok(Response { status: 200, body: None })
    } else {
        Err(Response::bad_request("there is no such group"))
    }
}

/// Reads the subtraders of a body.
fn members(state: &State, call: &Call<'_>) -> Result<(AccountId, BTreeSet<AccountId>), Response> {
    let firm = firm(call)?.account;
    let body: GroupBody = call.read()?;
    if body.subtrader_ids.is_empty() || body.subtrader_ids.len() > MOST_MEMBERS {
        return Err(Response::bad_request("subtrader_ids must be 1 to 10,000"));
    }
    let found = |id: &String| subtrader(state, firm, id).ok_or_else(Response::not_found);
    let accounts = body.subtrader_ids.iter().map(found).collect::<Result<_, _>>()?;
    Ok((firm, accounts))
}

/// Lists the keys of the subtraders, or of one of them.
pub(super) fn keys(state: &State, call: &Call<'_>) -> HandlerResult {
    let firm = firm(call)?.account;
    let named = call.query.get("fcm_subtrader_id");
    let rows: Vec<Value> = state
        .keys
        .iter()
        .filter_map(|(id, key)| {
            let of = key.subtrader.as_deref()?;
            let is_of_firm = subtrader(state, firm, of) == Some(key.account);
            let is_shown = is_of_firm && named.is_none_or(|named| named == of);
            is_shown.then(|| json!({"api_key_id": id, "name": key.name, "fcm_subtrader_id": of}))
        })
        .collect();
    Ok(Response::ok(json!({"api_keys": rows})))
}

pub(super) fn create_key(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let firm = firm(call)?.account;
    let new: NewKey = call.read()?;
    let public_key = PublicKey::from_pem(&new.public_key)
        .map_err(|error| Response::bad_request(&error.to_string()))?;
    let added = add_key(state, firm, new.name, &new.fcm_subtrader_id, public_key)?;
    Ok(Response::created(added))
}

pub(super) fn generate_key(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let firm = firm(call)?.account;
    let pair = call.pair.ok_or_else(|| Response::bad_request("no key pair was made"))?;
    let new: NewPair = call.read()?;
    let public_key = pair.public_key().clone();
    let mut added = add_key(state, firm, new.name, &new.fcm_subtrader_id, public_key)?;
    added["private_key"] = json!(pair.private_key_pem());
    Ok(Response::created(added))
}

/// Adds a key that trades perpetual futures for a subtrader. Returns its id, and a warning if there
/// is something to look at.
fn add_key(
    state: &mut State,
    firm: AccountId,
    name: String,
    id: &str,
    public_key: PublicKey,
) -> Result<Value, Response> {
    let account = subtrader(state, firm, id)
        .ok_or_else(|| Response::bad_request("fcm_subtrader_id names no subtrader of the firm"))?;
    let caps = &state.perps.engine.account(account)?.caps;
    let warning = (caps.required && caps.by_market.is_empty() && caps.by_class.is_empty())
        .then_some("the subtrader has no cap: its orders are rejected");
    let key = Key {
        name,
        scopes: vec!["read".to_owned(), "write".to_owned()],
        account,
        subaccount: None,
        fcm_member: false,
        subtrader: Some(id.to_owned()),
        verifier: Arc::new(public_key),
    };
    let id = state.keys.add_key(key)?;
    Ok(json!({"api_key_id": id, "warning": warning}))
}

pub(super) fn delete_key(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let firm = firm(call)?.account;
    let key = state.keys.get(call.first()).ok_or_else(Response::not_found)?;
    let of = key.subtrader.as_deref().ok_or_else(Response::not_found)?;
    if subtrader(state, firm, of) != Some(key.account) {
        return Err(Response::not_found());
    }
    let account = key.account;
    state.keys.delete(account, call.first())
}
