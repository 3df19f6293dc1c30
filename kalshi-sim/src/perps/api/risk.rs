//! Risk and fees.

use kalshi_types::Dollars;
use serde_json::{Map, Value, json};

use crate::{
    engine::amount::{SaturatingArithmetic, cost},
    http::{
        request::Call,
        response::{HandlerResult, Response},
    },
    perps::{
        api::member,
        engine::{amount::size, margin::Marks},
        wire,
    },
    state::State,
};

/// The fee rates of the schedules by tier, of makers and takers, in millionths. Only the lowest tier
/// is charged here.
const FEE_TIERS: [(&str, [(i128, i128); 3]); 3] = [
    ("self_clearing_members", [(200, 500), (150, 450), (100, 400)]),
    ("kalshi_prime", [(200, 500), (150, 450), (100, 400)]),
    ("fcm", [(200, 500), (150, 450), (100, 400)]),
];

pub(super) fn positions(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let engine = &state.perps.engine;
    let view = state.perps_view();
    let mut rows: Vec<Value> = Vec::new();
    let (mut equity, mut notional, mut maintenance) = (Dollars::ZERO, Dollars::ZERO, Dollars::ZERO);
    for (number, wallet) in view.account(caller.account)?.wallets() {
        if !caller.owns(caller.account, *number) {
            continue;
        }
        let standing = view.standing(wallet, Marks::Liquidation);
        equity = equity.saturating_add(standing.equity);
        notional = notional.saturating_add(standing.notional);
        maintenance = maintenance.saturating_add(standing.maintenance);
        for (id, position) in &wallet.positions {
            let Some(market) = engine.market(*id) else { continue };
            let mark = view.mark(market, Marks::Liquidation);
            let value = cost(mark, size(position.count));
            let (needs, initial) = engine.parameters.margins(market, value);
            rows.push(json!({
                "subaccount": number,
                "market_ticker": view.ticker(*id),
                "position": position.count,
                "mark_price": mark,
                "position_notional": value,
                "maintenance_margin_required": needs,
                "position_leverage": wire::ratio(value.as_micros(), initial.as_micros()),
                "estimated_liquidation_price": view.liquidation_price(wallet, *id),
                "is_portfolio": false,
            }));
        }
    }
    let leverage = if rows.is_empty() {
        Value::Null
    } else {
        wire::ratio(notional.as_micros(), equity.as_micros())
    };
    Ok(Response::ok(json!({
        "account_leverage": leverage,
        "total_position_notional": notional,
        "total_maintenance_margin": maintenance,
        "positions": rows,
    })))
}

pub(super) fn parameters(state: &State) -> Response {
    let parameters = &state.perps.engine.parameters;
    let multipliers: Map<String, Value> = parameters
        .initial_multipliers
        .iter()
        .map(|(class, factor)| (class.as_str().to_owned(), wire::number((*factor).into(), 3)))
        .collect();
    Response::ok(json!({
        "liquidation_margin_ratio_threshold":
            wire::number(parameters.liquidation_ratio.into(), 3),
        "queue_entry_margin_ratio_threshold": wire::number(parameters.queue_ratio.into(), 3),
        "initial_margin_multiplier": multipliers,
    }))
}

pub(super) fn notional_limit(state: &State, call: &Call<'_>) -> HandlerResult {
    let caller = member(state, call)?;
    let engine = &state.perps.engine;
    let view = state.perps_view();
    let parameters = &engine.parameters;
    let own = engine.account(caller.account)?.notional_limit;
    let (mut limits, mut used) = (Map::new(), Map::new());
    let mut total = Dollars::ZERO;
    for market in engine.markets() {
        if let Some(limit) = parameters.notional_limits.get(&market.id) {
            limits.insert(market.ticker.clone(), json!(limit));
        }
        let usage = view.usage(caller.account, market);
        if !usage.is_zero() {
            used.insert(view.ticker(market.id).to_owned(), json!(usage));
        }
        total = total.saturating_add(usage);
    }
    let mut row = json!({
        "default_notional_value_risk_limit": parameters.notional_limit,
        "notional_value_risk_limits_by_market_ticker": limits,
        "total_current_usage": total,
        "current_usage_by_market_ticker": used,
        "effective_account_notional_value_risk_limit":
            own.map_or(parameters.notional_limit, |own| own.min(parameters.notional_limit)),
    });
    if let Some(own) = own {
        row["member_notional_value_risk_limit"] = json!(own);
    }
    Ok(Response::ok(row))
}

pub(super) fn fee_tiers(state: &State, call: &Call<'_>) -> HandlerResult {
    member(state, call)?;
    let rates = |taker: bool| {
        let rate = |fee: u32| wire::number(fee.into(), 6);
        state
            .perps
            .engine
            .markets()
            .iter()
            .map(|market| {
                let fee = if taker { market.taker_fee } else { market.maker_fee };
                (market.ticker.clone(), rate(fee))
            })
            .collect::<Map<String, Value>>()
    };
    Ok(Response::ok(json!({"maker_fee_rates": rates(false), "taker_fee_rates": rates(true)})))
}

pub(super) fn fee_tier_rates(state: &State, call: &Call<'_>) -> HandlerResult {
    member(state, call)?;
    let rows: Vec<Value> = FEE_TIERS
        .iter()
        .flat_map(|(schedule, tiers)| {
            tiers.iter().enumerate().map(move |(tier, (maker, taker))| {
                json!({
                    "fee_schedule": schedule,
                    "tier": tier,
                    "maker_fee_rate": wire::number(*maker, 6),
                    "taker_fee_rate": wire::number(*taker, 6),
                })
            })
        })
        .collect();
    Ok(Response::ok(json!({"fee_tier_rates": rows})))
}
