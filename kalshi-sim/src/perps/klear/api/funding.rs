//! Funding payments, the hours of funding, and the prices of settlements.

use serde_json::{Map, Value, json};

use super::{Desk, centi_cents, desk, queried_class};
use crate::{
    engine::{amount::cost, types::Time},
    http::{
        paging::Paging,
        request::Call,
        response::{HandlerResult, Response},
    },
    perps::{
        engine::{amount::size, ledger::FundingPayment, markets::Market},
        klear::house::calendar,
    },
    state::State,
    wire::time,
};

/// Lists the funding of every position at one time.
pub(super) fn payments(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let at = call.query.moment("funding_time")?;
    let at = at.map(Time::from).ok_or_else(|| Response::bad_request("funding_time is required"))?;
    let ticker = call.query.get("market_ticker");
    // A funding is part of the settlement at its own time, or of the next one.
    let before = Time::from_millis(at.as_millis().saturating_sub(1));
    let settlement = calendar::next_settlement(before).ok_or_else(Response::unavailable)?;
    let rows = rows(&desk, |payment| payment.at == at).into_iter();
    let rows = rows.filter(|(market, _)| ticker.is_none_or(|ticker| market.ticker == ticker));
    let pages = Paging::new("klear_funding", 1_000, 10_000);
    let (page, cursor) = call.query.page_of_fixed(pages, rows)?;
    let page: Vec<Value> = page
        .into_iter()
        .map(|(_, mut row)| {
            row["settlement_execution_time"] = time(settlement);
            row
        })
        .collect();
    Ok(Response::ok(json!({"payments": page, "cursor": cursor})))
}

/// Returns the payments that are asked for, by the time, with their markets.
pub(super) fn rows<'a>(
    desk: &Desk<'a>,
    is_wanted: impl Fn(&FundingPayment) -> bool,
) -> Vec<(&'a Market, Value)> {
    let engine = desk.ledger.engine;
    let mut rows: Vec<(Time, &Market, Value)> = Vec::new();
    for (subtrader, id) in desk.ledger.parties(desk.own) {
        let Ok(account) = engine.account(id) else { continue };
        for (index, payment) in account.funding.iter().enumerate() {
            let Some(market) = engine.market(payment.market) else { continue };
            if !is_wanted(payment) {
                continue;
            }
            let row = json!({
                "id": format!("{id}-funding-{index}"),
                "market_ticker": market.ticker,
                "subtrader_id": subtrader,
                "funding_time": time(payment.at),
                "position_quantity_fp": payment.count,
                "notional_value_centicents": centi_cents(cost(payment.mark, size(payment.count))),
                "funding_amount_centicents": centi_cents(payment.amount),
            });
            rows.push((payment.at, market, row));
        }
    }
    rows.sort_by_key(|(at, ..)| *at);
    rows.into_iter().map(|(_, market, row)| (market, row)).collect()
}

/// Answers with the hours of funding, which all asset classes share.
pub(super) fn schedule(call: &Call<'_>) -> HandlerResult {
    call.caller()?;
    queried_class(call.query)?;
    Ok(Response::ok(json!({"schedule": calendar::FUNDING_SCHEDULE})))
}

/// Answers with the prices of one settlement; none at a time without one.
pub(super) fn settlement_prices(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let class = queried_class(call.query)?;
    let at = call.query.moment("settlement_time")?;
    let at =
        at.map(Time::from).ok_or_else(|| Response::bad_request("settlement_time is required"))?;
    let mut prices = Map::new();
    for settlement in desk.house.settlements().filter(|settlement| settlement.at == at) {
        for (_, ticker, price) in settlement.prices.iter().filter(|(of, ..)| Some(*of) == class) {
            prices.insert(ticker.clone(), json!(centi_cents(*price)));
        }
    }
    Ok(Response::ok(json!({"settlement_prices": prices})))
}
