//! Estimates of the next settlement and of the next funding, by asset class and by the parts of a
//! member that are margined by themselves. A subtrader in a netting group is shown in the group.
//!
//! An estimate is what the settlement would make due if it were now: with the funding since the last
//! one in its total, as in an obligation.

use std::collections::BTreeMap;

use kalshi_types::{Count, Dollars};
use serde_json::{Map, Value, json};

use super::{Desk, centi_cents, desk};
use crate::{
    engine::{
        amount::{SaturatingArithmetic as _, cost},
        ids::MarketId,
        types::Time,
    },
    http::{
        request::Call,
        response::{HandlerResult, Response},
    },
    perps::{
        engine::{
            amount::{STEP, micros, size},
            funding::{funding_amount, last_funding, next_funding},
            markets::{AssetClass, Market},
        },
        klear::house::MarginUnit,
    },
    state::State,
    wire::time,
};

/// The subtraders, and the groups, that a breakdown shows.
const MOST_SHOWN: usize = 1_000;

/// The accruals of one market for one part of a member.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    position: Count,
    pnl: Dollars,
    fees: Dollars,
    funding: Dollars,
    traded: Count,
    value: Dollars,
}

/// The parts of an asset class, by unit and market.
type Parts = BTreeMap<MarginUnit, BTreeMap<MarketId, Part>>;

pub(super) fn settlement(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let next = desk.house.next_settlement().ok_or_else(Response::unavailable)?;
    let all = parts(&desk);
    let required = desk.house.required(desk.ledger, desk.own);
    let mut estimates = Map::new();
    for class in classes(&desk) {
        let mut of_class = all.get(&class).cloned().unwrap_or_default();
        let posted: BTreeMap<MarginUnit, Dollars> = desk.member.margins(class).collect();
        // A part that has nothing any more still gets its margin back.
        for unit in posted.keys() {
            of_class.entry(*unit).or_default();
        }
        of_class.entry(MarginUnit::Own).or_default();
        let shown = of_class.iter().map(|(unit, parts)| {
            let margin = required.get(&(class, *unit)).copied().unwrap_or_default();
            let before = posted.get(unit).copied().unwrap_or_default();
            (*unit, settlement_estimate(&desk, parts, margin, before))
        });
        let mut row = breakdown(&desk, shown.collect());
        row["next_runtime"] = time(next);
        estimates.insert(class.as_str().to_owned(), row);
    }
    Ok(Response::ok(json!({
        "estimates": estimates,
        "settlement_balance_centicents": centi_cents(desk.member.available),
    })))
}

pub(super) fn funding(state: &mut State, call: &Call<'_>) -> HandlerResult {
    let desk = desk(state, call)?;
    let now = call.time();
    let next = next_funding(now).ok_or_else(Response::unavailable)?;
    let all = parts(&desk);
    let mut estimates = Map::new();
    for class in classes(&desk) {
        let mut of_class = all.get(&class).cloned().unwrap_or_default();
        of_class.entry(MarginUnit::Own).or_default();
        let shown =
            of_class.iter().map(|(unit, parts)| (*unit, funding_estimate(&desk, parts, now)));
        let mut row = breakdown(&desk, shown.collect());
        row["next_funding_time"] = time(next);
        estimates.insert(class.as_str().to_owned(), row);
    }
    Ok(Response::ok(json!({"estimates": estimates})))
}

/// Returns the asset classes that there are markets in.
fn classes(desk: &Desk<'_>) -> Vec<AssetClass> {
    let markets = desk.ledger.engine.markets();
    let has_one = |class: &AssetClass| markets.iter().any(|market| market.class == *class);
    AssetClass::ALL.into_iter().filter(has_one).collect()
}

/// Returns what has accrued since the last settlement, by asset class.
fn parts(desk: &Desk<'_>) -> BTreeMap<AssetClass, Parts> {
    let mut all: BTreeMap<AssetClass, Parts> = BTreeMap::new();
    for ((account, market), row) in desk.member.accrued(desk.ledger, desk.own) {
        let Some(found) = desk.ledger.engine.market(market) else { continue };
        if !row.is_something() {
            continue;
        }
        let unit = desk.member.unit(desk.own, account);
        let of_unit = all.entry(found.class).or_default().entry(unit).or_default();
        let part = of_unit.entry(market).or_default();
        part.position = part.position.saturating_add(row.position);
        part.pnl = part.pnl.saturating_add(row.pnl());
        part.fees = part.fees.saturating_add(row.fees);
        part.funding = part.funding.saturating_add(row.funding);
        part.traded = part.traded.saturating_add(row.traded);
        part.value = part.value.saturating_add(row.value);
    }
    all
}

/// Puts the estimates of the parts of a member where the document has them.
fn breakdown(desk: &Desk<'_>, shown: Vec<(MarginUnit, Value)>) -> Value {
    let mut row = json!({});
    let (mut subtraders, mut groups) = (Map::new(), Map::new());
    let mut omitted = (0_u64, 0_u64);
    let put = |map: &mut Map<String, Value>, omitted: &mut u64, id: String, value| {
        if map.len() < MOST_SHOWN {
            map.insert(id, value);
        } else {
            *omitted += 1;
        }
    };
    for (unit, value) in shown {
        match unit {
            MarginUnit::Own => row["user_breakdown"] = value,
            MarginUnit::Subtrader(account) => {
                let id = desk.ledger.subtrader_id(desk.own, account).to_owned();
                put(&mut subtraders, &mut omitted.0, id, value);
            }
            MarginUnit::Group(id) => put(&mut groups, &mut omitted.1, id.to_string(), value),
        }
    }
    row["subtrader_breakdowns"] = subtraders.into();
    row["group_breakdowns"] = groups.into();
    row["omitted_subtrader_count"] = json!(omitted.0);
    row["omitted_group_count"] = json!(omitted.1);
    row
}

fn settlement_estimate(
    desk: &Desk<'_>,
    parts: &BTreeMap<MarketId, Part>,
    margin: Dollars,
    before: Dollars,
) -> Value {
    let mut positions = Map::new();
    let mut sum = Part::default();
    for (id, part) in parts {
        sum.pnl = sum.pnl.saturating_add(part.pnl);
        sum.fees = sum.fees.saturating_add(part.fees);
        sum.funding = sum.funding.saturating_add(part.funding);
        let Some(market) = desk.ledger.engine.market(*id) else { continue };
        let mut row = json!({
            "quantity_centicount": part.position.as_hundredths(),
            "variation_margin_centicents": centi_cents(part.pnl),
            "notional_value_centicents": centi_cents(value(market, part.position)),
        });
        if let Some(mean) = mean_price(part) {
            row["session_avg_price_fp"] = json!(mean);
        }
        positions.insert(market.ticker.clone(), row);
    }
    let change = margin.saturating_sub(before);
    let total = sum.pnl.saturating_sub(sum.fees).saturating_add(sum.funding).saturating_sub(change);
    json!({
        "variation_margin_centicents": centi_cents(sum.pnl),
        "total_fees_centicents": centi_cents(sum.fees),
        "maintenance_margin_delta_centicents": centi_cents(change),
        "maintenance_margin_required_centicents": centi_cents(margin),
        "total_amount_centicents": centi_cents(total),
        "positions": positions,
    })
}

/// Estimates the funding by the rate of now, as `get_margin_funding_rate_estimate` of perps has it.
fn funding_estimate(desk: &Desk<'_>, parts: &BTreeMap<MarketId, Part>, now: Time) -> Value {
    let mut positions = Map::new();
    let mut sum = Dollars::ZERO;
    for (id, part) in parts.iter().filter(|(_, part)| !part.position.is_zero()) {
        let Some(market) = desk.ledger.engine.market(*id) else { continue };
        let rate = market.funding_rate(last_funding(now).unwrap_or(now), now);
        let amount = funding_amount(part.position, market.settlement_mark.price, rate);
        sum = sum.saturating_add(amount);
        let row = json!({
            "quantity_centicount": part.position.as_hundredths(),
            "funding_amount_centicents": centi_cents(amount),
        });
        positions.insert(market.ticker.clone(), row);
    }
    json!({"funding_amount_centicents": centi_cents(sum), "positions": positions})
}

fn value(market: &Market, position: Count) -> Dollars {
    cost(market.settlement_mark.price, size(position))
}

/// Returns the mean price of what was traded, in whole 10⁻⁴ dollars, cut.
fn mean_price(part: &Part) -> Option<Dollars> {
    let count = i128::from(part.traded.as_hundredths());
    let paid = i128::from(part.value.as_micros());
    (count != 0).then(|| micros(paid * 100 / count / STEP * STEP))
}
