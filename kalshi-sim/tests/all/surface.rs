//! The rest of the table, and requests that make no sense.

use http::Method;
use kalshi_sdk::{OPERATIONS, operation::Access};
use kalshi_sim::Exchange;
use serde_json::{Value, json};

use crate::status;

/// What the first floor plays.
const PLAYED: [&str; 82] = [
    "amend_order_v2",
    "apply_subaccount_transfer",
    "batch_cancel_orders_v2",
    "batch_create_orders_v2",
    "cancel_all_orders",
    "cancel_order_v2",
    "create_api_key",
    "create_order_group",
    "create_order_v2",
    "create_subaccount",
    "decrease_order_v2",
    "delete_api_key",
    "delete_order_group",
    "generate_api_key",
    "get_account_api_limits",
    "get_account_endpoint_costs",
    "get_api_keys",
    "get_balance",
    "get_deposits",
    "get_event",
    "get_events",
    "get_exchange_schedule",
    "get_exchange_status",
    "get_fills",
    "get_intra_exchange_instance_transfer",
    "get_intra_exchange_instance_transfers",
    "get_market",
    "get_market_orderbook",
    "get_market_orderbooks",
    "get_markets",
    "get_order",
    "get_order_group",
    "get_order_groups",
    "get_order_queue_position",
    "get_order_queue_positions",
    "get_orders",
    "get_portfolio_resting_order_total_value",
    "get_positions",
    "get_series",
    "get_series_list",
    "get_settlements",
    "get_subaccount_balances",
    "get_subaccount_netting",
    "get_subaccount_transfers",
    "get_target_balance_allocation",
    "get_trades",
    "get_user_data_timestamp",
    "get_withdrawals",
    "intra_exchange_instance_transfer",
    "reset_order_group",
    "set_target_balance_allocation",
    "trigger_order_group",
    "update_order_group_limit",
    "update_subaccount_netting",
    "accept_block_trade_proposal",
    "accept_quote",
    "accept_rfq_batch",
    "accept_rfq_quote",
    "confirm_quote",
    "confirm_rfq_batch_quote",
    "confirm_rfq_quote",
    "create_quote",
    "create_rfq",
    "create_rfq_batch",
    "create_rfq_batch_quote",
    "delete_quote",
    "delete_rfq",
    "delete_rfq_batch",
    "delete_rfq_batch_quote",
    "delete_rfq_quote",
    "get_block_trade_proposals",
    "get_communications_id",
    "get_quote",
    "get_quotes",
    "get_rfq",
    "get_rfq_batch",
    "get_rfq_batch_best_quotes",
    "get_rfq_batch_quotes",
    "get_rfq_batches",
    "get_rfq_quote",
    "get_rfqs",
    "propose_block_trade",
];

#[tokio::test]
async fn every_operation_of_the_table_has_a_route_and_the_rest_answers_501() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client().unwrap();
    let mut left = 0;
    for operation in OPERATIONS.iter().filter(|operation| !PLAYED.contains(&operation.id)) {
        let mut path = String::new();
        for part in operation.path.split('/').skip(1) {
            path.push('/');
            path.push_str(if part.starts_with('{') { "x" } else { part });
        }
        let mut request = client.raw(operation.method.clone(), &path);
        if operation.method != Method::GET {
            request = request.json(&json!({}));
        }
        if operation.access == Access::Public {
            request = request.public();
        }
        let error = request.send::<Value>().await.unwrap_err();
        assert_eq!((status(&error), error.code()), (501, Some("not_implemented")), "{operation}");
        left += 1;
    }
    assert_eq!(left, OPERATIONS.len() - PLAYED.len());
}

#[tokio::test]
async fn everything_played_decodes() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client().unwrap();
    assert!(client.get_exchange_status().send().await.unwrap().trading_active);
    let schedule = client.get_exchange_schedule().send().await.unwrap().into_inner().schedule;
    assert_eq!(schedule.standard_hours[0].thursday.len(), 2);
    client.get_user_data_timestamp().send().await.unwrap();
    assert_eq!(client.get_account_api_limits().send().await.unwrap().usage_tier, "basic");
    let costs = client.get_account_endpoint_costs().send().await.unwrap().into_inner();
    assert_eq!(costs.default_cost, 10);
    assert!(costs.endpoint_costs.iter().any(|row| row.cost == 2 && row.method == "DELETE"));
}

#[tokio::test]
async fn requests_that_make_no_sense_get_an_answer_that_says_so() {
    let exchange = Exchange::start().await.unwrap();
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = |path: &str| format!("{}{path}", exchange.base_url());
    let code = async |request: reqwest::RequestBuilder| {
        let response = request.send().await.unwrap();
        let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let post = |body: &'static str| {
        http.post(url("/api_keys")).header("content-type", "application/json").body(body)
    };
    assert_eq!(code(http.get(url("/nothing"))).await, (404, "not_found".to_owned()));
    assert_eq!(code(http.put(url("/markets"))).await, (405, "method_not_allowed".to_owned()));
    assert_eq!(code(post("{")).await, (400, "invalid_parameters".to_owned()));
    assert_eq!(code(http.post(url("/api_keys"))).await, (400, "invalid_content_type".to_owned()));
    assert_eq!(code(http.post(url("/api_keys")).body("{}")).await.0, 400);
    let huge = http.post(url("/api_keys")).body(vec![b' '; 1024 * 1024 + 1]);
    assert_eq!(code(huge).await, (413, "request_too_large".to_owned()));
    let slash = http.get(url("/markets/")).send().await.unwrap();
    assert_eq!(slash.status(), 301);
    assert_eq!(slash.headers()["location"], "/trade-api/v2/markets");
    // It lives.
    assert_eq!(http.get(url("/exchange/status")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_dropped_exchange_is_gone() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client().unwrap();
    client.get_exchange_status().send().await.unwrap();
    exchange.stop().await.unwrap();
    let error = client.get_exchange_status().send().await.unwrap_err();
    assert_eq!(error.effect(), kalshi_sdk::Effect::NotSent, "{error}");
}
