//! Requests that make no sense, and the end of an exchange.

use kalshi_sim::{Exchange, Role};
use serde_json::Value;

#[tokio::test]
async fn everything_played_decodes() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    assert!(client.get_exchange_status().send().await.unwrap().trading_active);
    let schedule = client.get_exchange_schedule().send().await.unwrap().into_inner().schedule;
    assert_eq!(schedule.standard_hours[0].thursday.len(), 2);
    client.get_user_data_timestamp().send().await.unwrap();
    // No limit is shown as the highest there is.
    assert_eq!(client.get_account_api_limits().send().await.unwrap().usage_tier, "prestige");
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
    let client = exchange.client(Role::Trader).unwrap();
    client.get_exchange_status().send().await.unwrap();
    exchange.stop().await.unwrap();
    let error = client.get_exchange_status().send().await.unwrap_err();
    assert_eq!(error.effect(), kalshi_sdk::Effect::NotSent, "{error}");
}
