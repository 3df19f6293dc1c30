//! Notices of corporate actions.

use serde_json::{Value, json};

use crate::{
    engine::ids::MarketId,
    http::{
        request::Call,
        response::{HandlerResult, Response},
    },
    perps::engine::{
        Perps,
        actions::{Action, ActionStatus, Terms},
    },
    state::State,
    wire::time,
};

/// Lists notices by the time at which they are carried out.
pub(super) fn list(state: &State, call: &Call<'_>) -> HandlerResult {
    let engine = &state.perps.engine;
    let by_ticker = call.query.get("ticker").map(|ticker| engine.market_by_ticker(ticker));
    let by_ticker = by_ticker.transpose()?.map(|market| market.id);
    let by_id = match call.query.get("market_id") {
        None => None,
        Some(id) => Some(MarketId::parse(id).ok_or_else(Response::not_found)?),
    };
    let mut found: Vec<&Action> = engine
        .actions()
        .iter()
        .filter(|action| by_ticker.is_none_or(|market| action.market == market))
        .filter(|action| by_id.is_none_or(|market| action.market == market))
        .collect();
    found.sort_by_key(|action| (action.at, action.id));
    let rows: Vec<Value> = found.into_iter().map(|action| shown(engine, action)).collect();
    Ok(Response::ok(json!({"corporate_actions": rows})))
}

/// Returns a notice; the terms of one that was called off are left out.
pub(crate) fn shown(engine: &Perps, action: &Action) -> Value {
    let mut row = json!({
        "id": action.id.to_string(),
        "market_id": action.market.to_string(),
        "market_ticker": action.ticker,
        "status": action.status.as_str(),
        "updated_ts": time(action.updated),
        "execution_time": time(action.at),
    });
    // The price of a share is that of a contract over what it stands for.
    let size = engine.market(action.market).map_or(1_000_000, |market| market.contract_size);
    let per_share = |per_contract: kalshi_types::Dollars| {
        let micros = i128::from(per_contract.as_micros()) * 1_000_000 / i128::from(size.max(1));
        json!(kalshi_types::Dollars::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)))
    };
    let cash = |per_contract: &kalshi_types::Dollars, ex_date: &chrono::NaiveDate| {
        let terms = json!({
            "cash_per_contract": per_contract,
            "cash_per_share": per_share(*per_contract),
            "ex_date": ex_date.to_string(),
        });
        ("cash", terms)
    };
    let (kind, (name, terms)) = match &action.terms {
        Terms::CashDividend { per_contract, ex_date } => {
            ("cash_dividend", cash(per_contract, ex_date))
        }
        Terms::SpecialDividend { per_contract, ex_date } => {
            ("special_dividend", cash(per_contract, ex_date))
        }
        Terms::SpinOff { per_contract, ex_date } => ("spin_off", cash(per_contract, ex_date)),
        Terms::Split { old, new, ex_date } => {
            let terms = json!({
                "ratio_old": old.to_string(),
                "ratio_new": new.to_string(),
                "ex_date": ex_date.to_string(),
            });
            ("stock_split", ("split", terms))
        }
        Terms::FinalSettlement { per_contract, reason } => {
            let terms = json!({
                "reason": reason,
                "settlement_price_per_contract": per_contract,
                "settlement_price_per_share": per_share(*per_contract),
            });
            ("final_settlement", ("final_settlement", terms))
        }
        Terms::TickerChange { old, new } => {
            ("ticker_change", ("ticker_change", json!({"old_ticker": old, "new_ticker": new})))
        }
    };
    row["type"] = json!(kind);
    if action.status != ActionStatus::Cancelled {
        row[name] = terms;
    }
    row
}
