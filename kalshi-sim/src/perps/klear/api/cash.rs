//! The settlement balance, withdrawals, and the guaranty fund.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{centi_cents, desk};
use crate::{
    engine::ids::ClearingId,
    http::{
        paging::{Paging, newest},
        request::{self, Call},
        response::{HandlerResult, Response},
    },
    state::State,
    wire::time,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWithdrawal {
    amount: String,
}

pub(super) fn balance(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    Ok(Response::ok(json!({
        "user_id": desk.own.to_string(),
        "balance_available_centicents": centi_cents(desk.member.available),
        "locked_balance_centicents": centi_cents(desk.member.locked),
    })))
}

/// Lists the changes of the balance, the newest first.
pub(super) fn history(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let pages = Paging::new("balance_history", 100, 500);
    let changes = desk.member.changes.iter().rev();
    let (changes, cursor) = call.query.page(pages, changes, |change| newest(change.number))?;
    let entries: Vec<Value> = changes
        .into_iter()
        .map(|change| {
            json!({
                "balance_delta_centicents": centi_cents(change.available),
                "locked_balance_delta_centicents": centi_cents(change.locked),
                "reason": change.reason.as_str(),
                "business_transaction_id": change.transaction.to_string(),
                "created_ts": time(change.at),
            })
        })
        .collect();
    Ok(Response::ok(json!({"entries": entries, "cursor": cursor})))
}

pub(super) fn guaranty_fund(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    Ok(Response::ok(json!({
        "user_id": desk.own.to_string(),
        "amount_centicents": centi_cents(desk.member.guaranty_fund),
        "updated_ts": time(desk.member.guaranty_updated),
    })))
}

/// Withdraws cash. There is no key against a second withdrawal, as the document has none.
pub(super) fn withdraw(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let own = desk(state, call)?.own;
    let new: NewWithdrawal = call.read()?;
    let amount = request::dollars("amount", &new.amount)?;
    let perps = &mut state.perps;
    let ledger = (&mut perps.engine, &perps.firms);
    let id = perps.house.withdraw(ledger, own, amount, call.time())?;
    Ok(Response::ok(json!({"id": id.to_string()})))
}

/// Answers with a withdrawal. The document has no 404 here, so that one that does not exist is a bad
/// request.
pub(super) fn withdrawal(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let text = call.query.required("id")?;
    let found = ClearingId::parse(text).and_then(|id| desk.house.withdrawal(desk.own, id));
    let found = found.ok_or_else(|| Response::bad_request("there is no such withdrawal"))?;
    Ok(Response::ok(json!({
        "id": text,
        "amount": found.amount,
        "status": found.status.as_str(),
        "created_ts": time(found.created),
    })))
}
