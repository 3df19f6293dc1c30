//! The answers to the operations. The modules of the families answer from the engine, [`seeded`]
//! from the fixtures.
//!
//! The trait has no default methods: an operation that the document gains does not compile until
//! it stands here.

mod account;
mod api_keys;
pub(crate) mod candles;
mod communications;
mod events;
mod exchange;
mod fcm;
mod historical;
#[cfg(test)]
mod lag_tests;
mod market;
pub(crate) mod order_groups;
pub(crate) mod orders;
pub(crate) mod portfolio;
mod seeded;
#[cfg(test)]
mod tests;
pub(crate) mod usage;

use kalshi_sdk::{
    Operation, OperationId,
    server::{Operations, dispatch},
};

use crate::{
    auth,
    engine::principal::Principal,
    fixtures::search,
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
    asked: OperationId,
    call: &mut Call<'_>,
    key_id: Option<&str>,
) -> HandlerResult {
    if let Some(id) = key_id {
        let operation = asked.operation();
        let caller = identify(state, call, id, operation)?;
        let now = call.time();
        if !state.limits.admit(caller.account, operation, call.query, call.body, now) {
            return Err(Response::too_many_requests());
        }
    }
    state.advance(call.time());
    dispatch(asked, state, &*call)
}

/// Tells a call whose key signed it, if the key may carry out the operation.
pub(crate) fn identify(
    state: &State,
    call: &mut Call<'_>,
    key_id: &str,
    operation: &'static Operation,
) -> Result<Principal, Response> {
    // The key may have been deleted since its signature was checked.
    let key = state.keys.get(key_id).ok_or_else(|| Response::unauthorized("NOT_FOUND"))?;
    auth::permit(key, operation, state.rules())?;
    let caller = key.principal();
    call.caller = Some(caller);
    call.subtrader.clone_from(&key.subtrader);
    Ok(caller)
}

/// Writes the methods of a product's `Operations`, each by its answer.
macro_rules! answers {
    ($state:ident, $call:ident: $($operation:ident => $answer:expr,)*) => {
        $(
            #[allow(unused_variables, reason = "not every answer needs both")]
            fn $operation(self, $call: &'a Call<'b>) -> HandlerResult {
                let $state = self;
                $answer
            }
        )*
    };
}

#[cfg(feature = "perps")]
pub(crate) use answers;

impl<'a, 'b> Operations<&'a Call<'b>> for &mut State {
    type Response = HandlerResult;

    answers! { state, call:
        get_account_endpoint_costs => Ok(account::endpoint_costs()),
        get_account_api_limits => usage::limits(state, call),
        get_account_api_usage_level_volume_progress => usage::progress(state, call),
        upgrade_account_api_usage_level => usage::upgrade(state, call),

        get_api_keys => api_keys::list(state, call),
        create_api_key => api_keys::create(state, call),
        generate_api_key => api_keys::generate(state, call),
        delete_api_key => api_keys::delete(state, call),

        get_communications_id => communications::id(call),
        create_rfq => communications::create_rfq(state, call),
        get_rfqs => communications::rfqs(state, call),
        get_rfq => communications::rfq(state, call),
        delete_rfq => communications::delete_rfq(state, call),
        create_quote => communications::create_quote(state, call),
        get_quotes => communications::quotes(state, call),
        get_quote => communications::quote(state, call),
        get_rfq_quote => communications::quote(state, call),
        delete_quote => communications::delete_quote(state, call),
        delete_rfq_quote => communications::delete_quote(state, call),
        accept_quote => communications::accept_quote(state, call),
        accept_rfq_quote => communications::accept_quote(state, call),
        confirm_quote => communications::confirm_quote(state, call),
        confirm_rfq_quote => communications::confirm_quote(state, call),
        create_rfq_batch => communications::create_batch(state, call),
        get_rfq_batches => communications::batches(state, call),
        get_rfq_batch => communications::batch(state, call),
        delete_rfq_batch => communications::delete_batch(state, call),
        accept_rfq_batch => communications::accept_batch(state, call),
        get_rfq_batch_best_quotes => communications::best_quotes(state, call),
        get_rfq_batch_quotes => communications::batch_quotes(state, call),
        create_rfq_batch_quote => communications::create_batch_quote(state, call),
        delete_rfq_batch_quote => communications::delete_batch_quote(state, call),
        confirm_rfq_batch_quote => communications::confirm_batch_quote(state, call),
        propose_block_trade => communications::propose_block(state, call),
        get_block_trade_proposals => communications::blocks(state, call),
        accept_block_trade_proposal => communications::accept_block(state, call),

        get_events => events::list(state, call.query),
        get_event => events::one(state, call),
        get_market_candlesticks_by_event => candles::of_event(state, call),

        get_exchange_status => Ok(exchange::status(state)),
        get_exchange_schedule => Ok(exchange::schedule(call.now)),
        get_user_data_timestamp => Ok(exchange::user_data_timestamp(state, call.now)),

        get_series_list => market::series_list(state, call.query),
        get_series => market::series(state, call),
        get_markets => market::markets(state, call.query),
        get_market => market::one(state, call),
        get_market_orderbook => market::order_book(state, call),
        get_market_orderbooks => market::order_books(state, call.query),
        get_trades => market::trades(state, call.query),
        get_market_candlesticks => candles::of_market(state, call),
        batch_get_market_candlesticks => candles::of_markets(state, call),

        get_order_groups => order_groups::list(state, call),
        get_order_group => order_groups::one(state, call),
        create_order_group => order_groups::create(state, call),
        update_order_group_limit => order_groups::limit(state, call),
        reset_order_group => order_groups::reset(state, call),
        trigger_order_group => order_groups::trigger(state, call),
        delete_order_group => order_groups::delete(state, call),

        create_order_v2 => orders::create(state, call),
        batch_create_orders_v2 => orders::create_batch(state, call),
        amend_order_v2 => orders::amend(state, call),
        decrease_order_v2 => orders::decrease(state, call),
        cancel_order_v2 => orders::cancel(state, call),
        batch_cancel_orders_v2 => orders::cancel_batch(state, call),
        cancel_all_orders => orders::cancel_all(state, call),
        get_orders => orders::list(state, call),
        get_order => orders::one(state, call),
        get_order_queue_positions => orders::queue_positions(state, call),
        get_order_queue_position => orders::queue_position(state, call),

        get_balance => portfolio::balance(state, call),
        get_fills => portfolio::fills(state, call),
        get_positions => portfolio::positions(state, call),
        get_settlements => portfolio::settlements(state, call),
        get_deposits => portfolio::deposits(state, call),
        get_withdrawals => portfolio::withdrawals(state, call),
        get_portfolio_resting_order_total_value => portfolio::resting_value(state, call),
        create_subaccount => portfolio::create_subaccount(state, call),
        get_subaccount_balances => portfolio::subaccount_balances(state, call),
        get_subaccount_netting => portfolio::netting(state, call),
        update_subaccount_netting => portfolio::update_netting(state, call),
        apply_subaccount_transfer => portfolio::transfer(state, call),
        get_subaccount_transfers => portfolio::transfers(state, call),
        intra_exchange_instance_transfer => portfolio::move_cash(state, call),
        get_intra_exchange_instance_transfers => portfolio::moves(state, call),
        get_intra_exchange_instance_transfer => portfolio::one_move(state, call),
        get_target_balance_allocation => portfolio::targets(state, call),
        set_target_balance_allocation => portfolio::set_targets(state, call),

        get_live_datas => seeded::live_datas(state, call),
        get_event_live_data => seeded::event_live_data(state, call),
        get_live_data_by_milestone => seeded::live_data_by_milestone(state, call),
        get_live_data => seeded::live_data(state, call),
        get_game_stats => seeded::game_stats(state, call),
        get_weather_index => seeded::weather_index(state, call),
        get_weather_index_calibrations => state.fixtures.weather.calibrations(call.first()),
        get_milestones => state.fixtures.milestones.list(call.query),
        get_milestone => state.fixtures.milestones.get(call.first()),
        get_structured_targets => state.fixtures.targets.list(call.query),
        get_structured_target => state.fixtures.targets.get(call.first()),
        get_tags_for_series_categories => Ok(seeded::tags_by_categories(state)),
        get_filters_for_sports => Ok(search::filters_by_sport()),
        get_incentive_programs => state.fixtures.incentives.list(call.query, call.now),
        get_series_fee_changes => state.fixtures.fees.of_series(call.query, call.now),
        get_event_fee_changes => state.fixtures.fees.of_events(call.query),
        get_event_metadata => seeded::event_metadata(state, call),
        get_event_forecast_percentiles_history => seeded::forecast_history(state, call),
        get_multivariate_events => seeded::combo_events(state, call),
        get_multivariate_event_collections => seeded::collections(state, call),
        get_multivariate_event_collection => state.fixtures.collections.get(call.first()),
        create_market_in_multivariate_event_collection => seeded::create_combo(state, call),
        get_historical_cutoff => Ok(historical::cutoff(state)),
        get_historical_markets => historical::markets(state, call.query),
        get_historical_market => historical::one(state, call),
        get_market_candlesticks_historical => historical::candlesticks(state, call),
        get_trades_historical => historical::trades(state, call.query),
        get_fills_historical => historical::fills(state, call),
        get_historical_orders => historical::orders(state, call),
        get_historical_positions => historical::positions(state, call),
        list_fcm_subtraders => fcm::subtraders(state, call),
        create_fcm_subtrader => fcm::create_subtrader(state, call),
        get_fcm_subtrader_blocked_categories => fcm::blocked_categories(state, call),
        update_fcm_subtrader_blocked_categories => fcm::block_category(state, call),
        get_fcm_event_contract_daily_cap => fcm::daily_cap(state, call),
        update_fcm_event_contract_daily_cap => fcm::set_daily_cap(state, call),
        delete_fcm_event_contract_daily_cap => fcm::delete_daily_cap(state, call),
        get_fcm_orders => fcm::orders(state, call),
        get_fcm_fills => fcm::fills(state, call),
        get_fcm_positions => fcm::positions(state, call),
        create_fcm_position_transfer => fcm::create_transfer(state, call),
    }
}
