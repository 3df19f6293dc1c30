//! Behavior met by the clients of others: each test is named after the finding that it came from.

use http::Method;
use kalshi_auth::{Credentials, KeyType, server::KeyPair};
use kalshi_sdk::{Client, Error};
use kalshi_sim::{Exchange, MarketPlan, Role, Rules};
use serde_json::{Value, json};

use crate::{client_with, status};

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Value, Error> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query: Vec<(&str, &str)> =
        query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let request = client.raw(method, path).query(&query);
    let request = match &body {
        Some(body) => request.json(body),
        None => request,
    };
    Ok(request.send::<Value>().await?.into_inner())
}

#[tokio::test]
async fn s1_the_removed_writes_of_orders_answer_410() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let order = json!({
        "ticker": "X", "side": "yes", "action": "buy", "count": 1, "type": "limit", "yes_price": 1,
    });
    let id = "00000000-0000-4000-8000-000000000001";
    for (method, path) in [
        (Method::POST, "/portfolio/orders".to_owned()),
        (Method::DELETE, format!("/portfolio/orders/{id}")),
        (Method::POST, format!("/portfolio/orders/{id}/amend")),
        (Method::POST, format!("/portfolio/orders/{id}/decrease")),
        (Method::POST, "/portfolio/orders/batched".to_owned()),
        (Method::DELETE, "/portfolio/orders/batched".to_owned()),
    ] {
        let error = send(&client, method.clone(), &path, Some(order.clone())).await.unwrap_err();
        let told = (status(&error), error.code());
        assert_eq!(told, (410, Some("deprecated_v1_order_endpoint")), "{method} {path}");
        assert_eq!(error.effect(), kalshi_sdk::Effect::Rejected);
        let http = reqwest::Client::new();
        let unsigned = http.request(method, format!("{}{path}", exchange.base_url()));
        assert_eq!(unsigned.send().await.unwrap().status(), 401, "{path}");
    }
    // The reads on the same paths are still there.
    client.get_orders().send().await.unwrap();
    assert_eq!(status(&client.get_order().order_id(id).send().await.unwrap_err()), 404);
    let put = send(&client, Method::PUT, "/portfolio/orders", Some(order)).await.unwrap_err();
    assert_eq!(status(&put), 405);
}

#[tokio::test]
async fn s2_a_key_for_a_subtrader_of_the_firm_is_made_and_reaches_only_that_one() {
    let exchange = Exchange::start().await.unwrap();
    exchange.clock().freeze();
    let firm = exchange.client(Role::FcmMember).unwrap();
    let listed = firm.list_fcm_subtraders().send().await.unwrap().into_inner().subtraders;
    let own = listed[0].subtrader_id.clone();
    let other = listed[1].subtrader_id.clone();
    let generate = async |client: &Client, id: &str| {
        let body = json!({"name": "s", "key_type": "ed25519", "fcm_subtrader_id": id});
        send(client, Method::POST, "/api_keys/generate", Some(body)).await
    };
    let trader = exchange.client(Role::Trader).unwrap();
    assert_eq!(status(&generate(&trader, &own).await.unwrap_err()), 403, "no FCM member");
    assert_eq!(status(&generate(&firm, "another_firm_alpha").await.unwrap_err()), 400);
    let made = generate(&firm, &own).await.unwrap();
    assert_eq!(made.get("warning"), None, "it has a cap: {made}");

    // One that is new is not known everywhere yet, and has no cap.
    let body = json!({"subtrader_suffix": "new"});
    let new = send(&firm, Method::POST, "/fcm/subtraders", Some(body)).await.unwrap();
    let new = new["subtrader_id"].as_str().unwrap();
    assert_eq!(status(&generate(&firm, new).await.unwrap_err()), 409);
    exchange.clock().advance(std::time::Duration::from_secs(60)).unwrap();
    let warned = generate(&firm, new).await.unwrap();
    assert!(warned["warning"].as_str().is_some_and(|text| text.contains("cap")), "{warned}");
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let body = json!({
        "name": "c", "public_key": pair.public_key().to_pem(), "fcm_subtrader_id": own,
    });
    send(&firm, Method::POST, "/api_keys", Some(body)).await.unwrap();

    let listed = format!("/api_keys?fcm_subtrader_id={own}");
    let listed = send(&firm, Method::GET, &listed, None).await.unwrap();
    let rows = listed["api_keys"].as_array().unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| row["fcm_subtrader_id"] == *own), "{listed}");

    let (id, pem) = (made["api_key_id"].as_str(), made["private_key"].as_str());
    let credentials = Credentials::from_pem(id.unwrap(), pem.unwrap()).unwrap();
    let bound = client_with(&exchange, credentials);
    let get = async |path: String| send(&bound, Method::GET, &path, None).await;
    // The text on keys denies such a key everything; those of some operations do not.
    assert_eq!(status(&get("/fcm/orders".to_owned()).await.unwrap_err()), 403);
    let mut rules = Rules::default();
    rules.subtrader_keys_read = true;
    exchange.set_rules(rules);
    let mine = get("/fcm/orders".to_owned()).await.unwrap();
    let orders = mine["orders"].as_array().unwrap();
    assert!(!orders.is_empty() && orders.iter().all(|row| row["user_id"] == *own));
    get("/fcm/positions".to_owned()).await.unwrap();
    get(format!("/fcm/positions?subtrader_id={own}")).await.unwrap();
    for path in [
        format!("/fcm/orders?subtrader_id={other}"),
        format!("/fcm/positions?subtrader_id={other}"),
        "/fcm/fills".to_owned(),
        "/portfolio/balance".to_owned(),
        "/api_keys".to_owned(),
    ] {
        assert_eq!(status(&get(path.clone()).await.unwrap_err()), 403, "{path}");
    }
}

#[tokio::test]
async fn s13_a_path_that_is_not_utf_8_is_refused_in_json() {
    let exchange = Exchange::start().await.unwrap();
    let url = format!("{}/markets/%ff", exchange.base_url());
    let response = reqwest::get(url).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "invalid_parameters", "{body}");
}

#[tokio::test]
async fn s15_a_body_that_is_no_object_is_refused() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let body = Some(json!({"contracts_limit": 10}));
    let group = "/portfolio/order_groups/create";
    let group = send(&client, Method::POST, group, body).await.unwrap();
    let id = group["order_group_id"].as_str().unwrap();
    for action in ["trigger", "reset", "limit"] {
        let path = format!("/portfolio/order_groups/{id}/{action}");
        for body in [json!(546), json!(true), json!([null]), json!("text"), json!(null)] {
            let error = send(&client, Method::PUT, &path, Some(body.clone())).await.unwrap_err();
            assert_eq!(status(&error), 400, "{path} {body}");
        }
    }
    let path = format!("/portfolio/order_groups/{id}/trigger");
    send(&client, Method::PUT, &path, Some(json!({}))).await.unwrap();
}

#[tokio::test]
async fn s20_every_market_has_the_deprecated_expiration_time() {
    let exchange = Exchange::start().await.unwrap();
    exchange.markets().list(MarketPlan::new("KXS20-1", 3_600)).unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let mut rows = Vec::new();
    for path in ["/markets?limit=1000", "/historical/markets?limit=1000"] {
        let body = send(&client, Method::GET, path, None).await.unwrap();
        rows.extend(body["markets"].as_array().unwrap().clone());
    }
    assert!(rows.iter().any(|row| row["ticker"] == "KXS20-1") && rows.len() > 200);
    for row in rows {
        assert!(row["expiration_time"].is_string(), "{row}");
        assert_eq!(row["expiration_time"], row["latest_expiration_time"], "{row}");
    }
}
