//! The keys of the caller's account.

use crate::{
    http::{
        request::Call,
        response::{HandlerResult, Response},
    },
    state::State,
};

pub(crate) fn list(state: &State, call: &Call<'_>) -> HandlerResult {
    Ok(state.keys.list(call.caller()?.account))
}

pub(crate) fn create(state: &mut State, call: &Call<'_>) -> HandlerResult {
    state.keys.create(call.caller()?.account, call.body)
}

pub(crate) fn generate(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let account = call.caller()?.account;
    let pair = call.pair.ok_or_else(|| Response::bad_request("no key pair was made"))?;
    state.keys.generate(account, call.body, pair)
}

pub(crate) fn delete(state: &mut State, call: &Call<'_>) -> HandlerResult {
    state.keys.delete(call.caller()?.account, call.first())
}
