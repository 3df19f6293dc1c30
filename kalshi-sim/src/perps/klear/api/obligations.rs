//! Obligations and the parts that they are made of.

use kalshi_types::Dollars;
use serde_json::{Value, json};

use super::{Desk, centi_cents, desk, funding};
use crate::{
    engine::ids::ClearingId,
    http::{
        paging::{Paging, newest},
        request::Call,
        response::{HandlerResult, Response},
    },
    perps::{
        api::actions,
        engine::{actions::Terms, ledger::ActionPayment},
        klear::house::{MarginRow, MarginUnit, Obligation, SettlementRow},
    },
    state::State,
    wire::time,
};

/// The rows of a list inside of an obligation.
const MOST_INLINE: usize = 1_000;

/// Lists the obligations that are not paid yet, the newest first.
pub(super) fn active(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let active = desk.member.obligations.iter().rev().filter(|one| one.is_active());
    let rows: Vec<Value> = active.map(|obligation| shown(&desk, obligation)).collect();
    Ok(Response::ok(json!({"obligations": rows})))
}

/// Lists the obligations that are paid, the newest first: each is in one of the two lists.
pub(super) fn history(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let paid = desk.member.obligations.iter().rev().filter(|one| !one.is_active());
    let pages = Paging::new("obligations", 20, 100);
    let (rows, cursor) = call.query.page(pages, paid, |obligation| newest(obligation.id.0))?;
    let rows: Vec<Value> = rows.into_iter().map(|obligation| shown(&desk, obligation)).collect();
    Ok(Response::ok(json!({"obligations": rows, "cursor": cursor})))
}

pub(super) fn settlement_details(state: &mut State, call: &Call<'_>) -> HandlerResult {
    part(state, call, "settlement_details", settlement_rows)
}

pub(super) fn margin_details(state: &mut State, call: &Call<'_>) -> HandlerResult {
    part(state, call, "maintenance_margin_details", margin_rows)
}

pub(super) fn funding_payments(state: &mut State, call: &Call<'_>) -> HandlerResult {
    part(state, call, "funding_payments", funding_rows)
}

pub(super) fn action_payments(state: &mut State, call: &Call<'_>) -> HandlerResult {
    part(state, call, "corporate_action_payments", action_rows)
}

/// Answers with a page of one part of an obligation.
fn part(
    state: &mut State,
    call: &Call<'_>,
    list: &'static str,
    rows: impl Fn(&Desk<'_>, &Obligation) -> Vec<Value>,
) -> HandlerResult {
    let desk = desk(state, call)?;
    let id = ClearingId::parse(call.first()).ok_or_else(Response::not_found)?;
    let found = desk.member.obligations.iter().find(|obligation| obligation.id == id);
    let obligation = found.ok_or_else(Response::not_found)?;
    let pages = Paging::new(list, MOST_INLINE, MOST_INLINE);
    let (page, cursor) = call.query.page_of_fixed(pages, rows(&desk, obligation))?;
    Ok(Response::ok(json!({list: page, "cursor": cursor})))
}

/// Returns an obligation with the parts that it is made of.
fn shown(desk: &Desk<'_>, obligation: &Obligation) -> Value {
    let receives: Vec<Value> = obligation
        .receives
        .iter()
        .map(|receive| {
            json!({
                "id": receive.id.to_string(),
                "type": "settlement_balance",
                "amount_centicents": centi_cents(receive.amount),
                "external_reference": obligation.id.to_string(),
                "created_ts": time(receive.at),
            })
        })
        .collect();
    let mut row = json!({
        "id": obligation.id.to_string(),
        "user_id": desk.own.to_string(),
        "amount_centicents": centi_cents(obligation.amount),
        "fees_centicents": centi_cents(obligation.fees),
        "maintenance_margin_centicents": centi_cents(obligation.margin),
        "pnl_centicents": centi_cents(obligation.pnl),
        "execution_time": time(obligation.at),
        "last_updated_ts": time(obligation.updated),
        "asset_class": obligation.class.as_str(),
        "receives": receives,
    });
    for (name, mut rows) in [
        ("settlement_details", settlement_rows(desk, obligation)),
        ("maintenance_margin_details", margin_rows(desk, obligation)),
        ("funding_payments", funding_rows(desk, obligation)),
        ("corporate_action_payments", action_rows(desk, obligation)),
    ] {
        row[format!("{name}_truncated")] = json!(rows.len() > MOST_INLINE);
        rows.truncate(MOST_INLINE);
        row[name] = rows.into();
    }
    row
}

pub(super) fn settlement_rows(desk: &Desk<'_>, obligation: &Obligation) -> Vec<Value> {
    let shown = |row: &SettlementRow| {
        json!({
            "id": row.id.to_string(),
            "market_ticker": desk.ledger.engine.market(row.market).map_or("", |m| &m.ticker),
            "subtrader_id": desk.ledger.subtrader_id(desk.own, row.account),
            "position_quantity_fp": row.position,
            "pnl_centicents": centi_cents(row.pnl),
            "total_fees_centicents": centi_cents(row.fees),
            "total_amount_centicents": centi_cents(row.pnl) - centi_cents(row.fees),
        })
    };
    obligation.rows.iter().map(shown).collect()
}

pub(super) fn margin_rows(desk: &Desk<'_>, obligation: &Obligation) -> Vec<Value> {
    let shown = |row: &MarginRow| {
        let subtrader = match row.unit {
            MarginUnit::Subtrader(account) => desk.ledger.subtrader_id(desk.own, account),
            MarginUnit::Own | MarginUnit::Group(_) => "",
        };
        let mut shown = json!({
            "id": row.id.to_string(),
            "subtrader_id": subtrader,
            "maintenance_margin_centicents": centi_cents(row.margin),
            "maintenance_margin_delta_centicents": centi_cents(row.change),
        });
        if let MarginUnit::Group(group) = row.unit {
            shown["margin_group_id"] = json!(group.to_string());
        }
        shown
    };
    obligation.margins.iter().map(shown).collect()
}

pub(super) fn funding_rows(desk: &Desk<'_>, obligation: &Obligation) -> Vec<Value> {
    let rows = funding::rows(desk, |payment| obligation.covers(payment.at));
    let of_class = rows.into_iter().filter(|(market, _)| market.class == obligation.class);
    of_class.map(|(_, row)| row).collect()
}

/// Returns what corporate actions did to the positions, by the time. The market is called as it is
/// now.
pub(super) fn action_rows(desk: &Desk<'_>, obligation: &Obligation) -> Vec<Value> {
    let engine = desk.ledger.engine;
    let mut rows: Vec<(&ActionPayment, Value)> = Vec::new();
    for (subtrader, id) in desk.ledger.parties(desk.own) {
        let Ok(account) = engine.account(id) else { continue };
        for (index, payment) in account.action_payments.iter().enumerate() {
            let Some(market) = engine.market(payment.market) else { continue };
            if !obligation.covers(payment.at) || market.class != obligation.class {
                continue;
            }
            let Some(action) = engine.actions().get(payment.action.index()) else { continue };
            let mut row = json!({
                "id": format!("{id}-action-{index}"),
                "type": actions::shown(engine, action)["type"],
                "ca_id": payment.action.to_string(),
                "market_id": payment.market.to_string(),
                "market_ticker": market.ticker,
                "asset_class": market.class.as_str(),
                "subtrader_id": subtrader,
                "position_quantity_fp": payment.before,
                "post_position_quantity_fp": payment.after,
                "payment_amount_centicents": centi_cents(payment.paid),
                "payment_time": time(payment.at),
                "settlement_execution_time": time(obligation.at),
                "exchange_ts": time(payment.at),
                "created_ts": time(payment.at),
            });
            if let (Terms::Split { .. }, Some((before, after))) = (&action.terms, action.marks) {
                let price = |price: Dollars| json!(centi_cents(price));
                row["pre_split_price_centicents"] = price(before);
                row["post_split_price_centicents"] = price(after);
            }
            rows.push((payment, row));
        }
    }
    rows.sort_by_key(|(payment, _)| payment.at);
    rows.into_iter().map(|(_, row)| row).collect()
}
