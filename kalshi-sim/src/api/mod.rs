//! Which part of the exchange answers which operation.
//!
//! The trait has no default methods: an operation that the document gains does not compile until
//! it stands here.

use kalshi_sdk::server::Operations;

use crate::{
    families::{
        account, api_keys, communications, events, exchange, market, order_groups, orders,
        portfolio,
    },
    reply::Outcome,
    state::{Call, State},
};

macro_rules! answered_by {
    ($($family:path: $($operation:ident)*;)*) => {
        $($(
            fn $operation(self, call: &'a Call<'b>) -> Outcome {
                $family(self, call)
            }
        )*)*
    };
}

impl<'a, 'b> Operations<&'a Call<'b>> for &mut State {
    type Response = Outcome;

    answered_by! {
        account::handle:
            get_account_endpoint_costs;
        api_keys::handle:
            get_api_keys create_api_key generate_api_key delete_api_key;
        communications::handle:
            get_communications_id create_rfq get_rfqs get_rfq delete_rfq create_quote get_quotes
            get_quote get_rfq_quote delete_quote delete_rfq_quote accept_quote accept_rfq_quote
            confirm_quote confirm_rfq_quote create_rfq_batch get_rfq_batches get_rfq_batch
            delete_rfq_batch accept_rfq_batch get_rfq_batch_best_quotes get_rfq_batch_quotes
            create_rfq_batch_quote delete_rfq_batch_quote confirm_rfq_batch_quote
            propose_block_trade get_block_trade_proposals accept_block_trade_proposal;
        events::handle:
            get_events get_event get_market_candlesticks_by_event;
        exchange::handle:
            get_exchange_status get_exchange_schedule get_user_data_timestamp;
        market::handle:
            get_series_list get_series get_markets get_market get_market_orderbook
            get_market_orderbooks get_trades get_market_candlesticks
            batch_get_market_candlesticks;
        order_groups::handle:
            get_order_groups get_order_group create_order_group update_order_group_limit
            reset_order_group trigger_order_group delete_order_group;
        orders::handle:
            create_order_v2 batch_create_orders_v2 amend_order_v2 decrease_order_v2
            cancel_order_v2 batch_cancel_orders_v2 cancel_all_orders get_orders get_order
            get_order_queue_positions get_order_queue_position;
        portfolio::handle:
            get_balance get_fills get_positions get_settlements get_deposits get_withdrawals
            get_portfolio_resting_order_total_value create_subaccount get_subaccount_balances
            get_subaccount_netting update_subaccount_netting apply_subaccount_transfer
            get_subaccount_transfers intra_exchange_instance_transfer
            get_intra_exchange_instance_transfers get_intra_exchange_instance_transfer
            get_target_balance_allocation set_target_balance_allocation;
        State::made_up:
            get_live_datas get_event_live_data get_live_data_by_milestone get_live_data
            get_game_stats get_weather_index get_weather_index_calibrations get_milestones
            get_milestone get_structured_targets get_structured_target
            get_tags_for_series_categories get_filters_for_sports get_incentive_programs
            upgrade_account_api_usage_level get_account_api_usage_level_volume_progress
            get_account_api_limits get_series_fee_changes get_event_fee_changes
            get_event_metadata get_event_forecast_percentiles_history get_multivariate_events
            get_multivariate_event_collections get_multivariate_event_collection
            create_market_in_multivariate_event_collection get_historical_cutoff
            get_historical_markets get_historical_market get_market_candlesticks_historical
            get_trades_historical get_fills_historical get_historical_orders
            get_historical_positions list_fcm_subtraders create_fcm_subtrader
            get_fcm_subtrader_blocked_categories update_fcm_subtrader_blocked_categories
            get_fcm_event_contract_daily_cap update_fcm_event_contract_daily_cap
            delete_fcm_event_contract_daily_cap get_fcm_orders get_fcm_fills get_fcm_positions
            create_fcm_position_transfer;
    }
}
