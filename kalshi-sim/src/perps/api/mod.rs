//! The answers to the operations of perpetual futures.
//!
//! The trait has no default methods: an operation that the document gains does not compile until it
//! stands here.

pub(crate) mod actions;
mod fcm;
mod funding;
mod groups;
#[cfg(test)]
mod lag_tests;
mod market;
mod orders;
mod portfolio;
mod risk;
#[cfg(test)]
mod tests;
mod triggers;

use kalshi_sdk::perps::{
    OperationId,
    server::{Operations, dispatch},
};
use serde_json::json;

use crate::{
    api::{answers, identify, portfolio::move_cash},
    engine::{principal::Principal, types::Shard},
    http::{
        request::Call,
        response::{HandlerResult, Response},
    },
    state::State,
};

/// Carries out a request whose signature by `key_id` has been checked.
pub(crate) fn answer(
    state: &mut State,
    operation: OperationId,
    call: &mut Call<'_>,
    key_id: Option<&str>,
) -> Response {
    handle(state, operation, call, key_id).unwrap_or_else(|refusal| refusal)
}

fn handle(
    state: &mut State,
    operation: OperationId,
    call: &mut Call<'_>,
    key_id: Option<&str>,
) -> HandlerResult {
    if let Some(id) = key_id {
        let entry = operation.operation();
        let caller = identify(state, call, id, entry)?;
        let (now, tier) = (call.time(), state.limits.tier(caller.account));
        let group = market_group(state, operation, call);
        if !state.perps.limits.admit_perps((caller.account, tier), entry, call.query, group, now) {
            return Err(Response::too_many_requests());
        }
    }
    state.advance(call.time());
    dispatch(operation, state, &*call)
}

/// Returns the market group whose bucket pays for an order or its amendment; 0, the default, pays
/// for everything else.
fn market_group(state: &State, operation: OperationId, call: &Call<'_>) -> Shard {
    let engine = &state.perps.engine;
    let market = match operation {
        OperationId::CreateMarginOrder => {
            let ticker = call.body["ticker"].as_str().unwrap_or_default();
            engine.market_by_ticker(ticker).ok()
        }
        OperationId::AmendMarginOrder => crate::engine::ids::OrderId::parse(call.first())
            .and_then(|id| engine.order(id))
            .and_then(|order| engine.market(order.market)),
        _ => None,
    };
    market.map_or(0, |market| market.shard)
}

/// Returns the caller of an operation for members that may trade perpetual futures.
fn member(state: &State, call: &Call<'_>) -> Result<Principal, Response> {
    let caller = call.caller()?;
    if state.perps.engine.account(caller.account).is_ok_and(|account| account.enabled) {
        Ok(caller)
    } else {
        Err(Response::forbidden("the account is not enabled for margin trading"))
    }
}

impl<'a, 'b> Operations<&'a Call<'b>> for &mut State {
    type Response = HandlerResult;

    answers! { state, call:
        get_margin_exchange_status => Ok(Response::ok(json!({
            "exchange_active": true,
            "trading_active": state.perps.engine.is_trading(),
        }))),
        get_margin_enabled => Ok(Response::ok(json!({"enabled": member(state, call).is_ok()}))),
        get_perps_account_api_limits => portfolio::limits(state, call),

        get_margin_markets => market::list(state, call),
        get_margin_market => market::one(state, call),
        get_margin_market_orderbook => market::order_book(state, call),
        get_margin_market_orderbooks => market::order_books(state, call),
        get_margin_market_candlesticks => market::candlesticks(state, call),
        get_margin_trades => market::trades(state, call),
        get_margin_corporate_actions => actions::list(state, call),

        get_margin_funding_rate_estimate => funding::estimate(state, call),
        get_margin_historical_funding_rates => funding::historical(state, call),
        get_margin_premium_index => funding::premium_index(state, call),
        get_margin_funding_history => funding::history(state, call),

        create_margin_order => orders::create(state, call),
        get_margin_orders => orders::list(state, call),
        get_margin_order => orders::one(state, call),
        amend_margin_order => orders::amend(state, call),
        decrease_margin_order => orders::decrease(state, call),
        cancel_margin_order => orders::cancel(state, call),
        cancel_all_margin_orders => orders::cancel_all(state, call),

        create_margin_order_group => groups::create(state, call),
        get_margin_order_groups => groups::list(state, call),
        get_margin_order_group => groups::one(state, call),
        update_margin_order_group_limit => groups::limit(state, call),
        reset_margin_order_group => groups::reset(state, call),
        trigger_margin_order_group => groups::trigger(state, call),
        delete_margin_order_group => groups::delete(state, call),

        set_cross_margin_exit_trigger => triggers::set_cross(state, call),
        get_cross_margin_exit_triggers => triggers::list_cross(state, call),
        update_cross_margin_exit_trigger => triggers::update(state, call),
        delete_cross_margin_exit_trigger => triggers::delete_cross(state, call),
        delete_cross_margin_exit_trigger_by_id => triggers::delete_one(state, call),
        set_isolated_margin_exit_trigger => triggers::set_isolated(state, call),
        get_isolated_margin_exit_triggers => triggers::list_isolated(state, call),
        delete_isolated_margin_exit_trigger => triggers::delete_isolated(state, call),

        get_margin_balance => portfolio::balance(state, call),
        get_margin_positions => portfolio::positions(state, call),
        get_margin_fills => portfolio::fills(state, call),
        create_margin_subaccount => portfolio::create_subaccount(state, call),
        apply_margin_subaccount_transfer => portfolio::transfer(state, call),
        // The same operation of the same path, in either document.
        intra_exchange_instance_transfer => move_cash(state, call),

        get_margin_risk => risk::positions(state, call),
        get_margin_risk_parameters => Ok(risk::parameters(state)),
        get_margin_notional_risk_limit => risk::notional_limit(state, call),
        get_margin_fee_tiers => risk::fee_tiers(state, call),
        get_margin_fee_tier_rates => risk::fee_tier_rates(state, call),

        create_margin_fcm_subtrader => fcm::create_subtrader(state, call),
        get_fcm_subtrader_risk_controls => fcm::risk_controls(state, call),
        update_fcm_subtrader_risk_controls => fcm::set_risk_controls(state, call),
        delete_fcm_subtrader_risk_controls => fcm::delete_risk_controls(state, call),
        update_fcm_notional_risk_limit => fcm::set_notional_limit(state, call),
        delete_fcm_notional_risk_limit => fcm::delete_notional_limit(state, call),
    }
}
