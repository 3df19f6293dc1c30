//! The keys of the caller's account.

use crate::{
    reply::{Outcome, Reply},
    state::{Call, State},
};

pub(crate) fn handle(state: &mut State, call: &Call<'_>) -> Outcome {
    let account = call.caller()?.account;
    match call.operation.id {
        "get_api_keys" => Ok(state.keys.list(account)),
        "create_api_key" => state.keys.create(account, call.body),
        "generate_api_key" => match call.pair {
            Some(pair) => state.keys.generate(account, call.body, pair),
            None => Err(Reply::bad_request("no key pair was made")),
        },
        "delete_api_key" => state.keys.delete(account, call.first()),
        other => Err(Reply::not_implemented(other)),
    }
}
