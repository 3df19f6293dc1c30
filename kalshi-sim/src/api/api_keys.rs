//! The keys of the caller's account.

use crate::{
    http::{
        request::Call,
        response::{HandlerResult, Response},
    },
    state::{State, keys},
};

pub(crate) fn list(state: &State, call: &Call<'_>) -> HandlerResult {
    Ok(state.keys.list(call.caller()?.account, call.query.get("fcm_subtrader_id")))
}

pub(crate) fn create(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let warning = check_subtrader(state, call)?;
    let response = state.keys.create(call.caller()?.account, call.body)?;
    Ok(with_warning(response, warning))
}

pub(crate) fn generate(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let account = call.caller()?.account;
    let pair = call.pair.ok_or_else(|| Response::bad_request("no key pair was made"))?;
    let warning = check_subtrader(state, call)?;
    Ok(with_warning(state.keys.generate(account, call.body, pair)?, warning))
}

pub(crate) fn delete(state: &mut State, call: &Call<'_>) -> HandlerResult {
    state.keys.delete(call.caller()?.account, call.first())
}

/// Checks the subtrader of a new key, if it names one. Returns what there is to warn of.
fn check_subtrader(state: &State, call: &Call<'_>) -> Result<Option<&'static str>, Response> {
    let Some(id) = keys::read(call.body)?.fcm_subtrader_id else { return Ok(None) };
    let caller = call.caller()?;
    if !caller.fcm_member {
        return Err(Response::forbidden("fcm_subtrader_id is for FCM members"));
    }
    let firm = state.fixtures.fcm.known(caller)?;
    let subtrader = firm
        .subtrader(&id)
        .ok_or_else(|| Response::bad_request("fcm_subtrader_id names no subtrader of the firm"))?;
    if subtrader.pending(call.now) {
        return Err(Response::conflict("propagation_pending", "the subtrader is too new"));
    }
    Ok(subtrader
        .cap()
        .is_none()
        .then_some("the subtrader has no daily cap: its orders are rejected"))
}

fn with_warning(mut response: Response, warning: Option<&str>) -> Response {
    if let (Some(body), Some(warning)) = (&mut response.body, warning) {
        body["warning"] = warning.into();
    }
    response
}
