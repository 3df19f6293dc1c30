//! Cases that the documents leave open: the safer way unless a rule says otherwise.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use kalshi_auth::{KeyType, server::KeyPair};
use kalshi_sdk::Client;
use kalshi_sim::{EventFee, Exchange, FeeFormula, MarketPlan, Role, Rules, Tier};
use kalshi_types::Decimal;
use rsa::{
    RsaPrivateKey,
    pkcs1::DecodeRsaPrivateKey as _,
    pkcs8::{EncodePublicKey as _, LineEnding},
    pss::SigningKey,
    rand_core::OsRng,
    signature::{RandomizedSigner as _, SignatureEncoding as _},
};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{status, streams::now};

const TICKER: &str = "KXRULES-26-A";

async fn exchange() -> (Exchange, Client) {
    let exchange = Exchange::builder().with_admin_port(0).start().await.unwrap();
    exchange.markets().list(MarketPlan::new(TICKER, 86_400)).unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    (exchange, client)
}

async fn send(client: &Client, method: Method, path: &str, body: Value) -> Result<Value, u16> {
    let answer = client.raw(method, path).json(&body).send::<Value>().await;
    answer.map(kalshi_sdk::ResponseValue::into_inner).map_err(|error| status(&error))
}

fn order(price: &str, count: &str) -> Value {
    json!({
        "ticker": TICKER, "side": "bid", "price": price, "count": count,
        "time_in_force": "good_till_canceled", "self_trade_prevention_type": "maker",
    })
}

fn rules(change: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = Rules::default();
    change(&mut rules);
    rules
}

#[tokio::test]
async fn s17_a_signature_with_the_longest_salt_passes_by_a_rule_only() {
    let (exchange, client) = exchange().await;
    let pair = KeyPair::generate(KeyType::Rsa).unwrap();
    let private = RsaPrivateKey::from_pkcs1_pem(pair.private_key_pem()).unwrap();
    let public = private.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    exchange.members().add_key(Role::Trader, "salted", &public).unwrap();
    // 2,048 bits, less the digest of 32 bytes and two more.
    for (salt, expected) in [(32, [200, 200]), (222, [401, 200]), (100, [401, 401])] {
        let key = SigningKey::<Sha256>::new_with_salt_len(private.clone(), salt);
        for (is_lenient, expected) in [false, true].into_iter().zip(expected) {
            exchange.set_rules(rules(|rules| rules.longest_salt = is_lenient));
            let at = now();
            let text = kalshi_auth::signing_text("GET", "/trade-api/v2/portfolio/balance", at);
            let signature = key.sign_with_rng(&mut OsRng, text.as_bytes()).to_vec();
            let answer = reqwest::Client::new()
                .get(format!("{}/portfolio/balance", exchange.base_url()))
                .header(kalshi_auth::ACCESS_KEY, "salted")
                .header(kalshi_auth::ACCESS_TIMESTAMP, at.as_millis().to_string())
                .header(kalshi_auth::ACCESS_SIGNATURE, STANDARD.encode(signature))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), expected, "{salt}, {is_lenient}");
        }
    }
    // Keys of the other type are as before.
    client.get_balance().send().await.unwrap();
}

#[tokio::test]
async fn s18_answers_without_a_documented_body_are_empty_or_objects() {
    let (exchange, client) = exchange().await;
    send(&client, Method::POST, "/portfolio/events/orders", order("0.10", "1")).await.unwrap();
    for (is_object, expected) in [(false, ""), (true, "{}")] {
        exchange.set_rules(rules(|rules| rules.empty_objects = is_object));
        let netting = json!({"subaccount_number": 0, "enabled": true});
        for (method, path, body, code) in [
            (Method::PUT, "/portfolio/subaccounts/netting", netting, 200),
            (Method::POST, "/account/api_usage_level/upgrade", json!({}), 201),
        ] {
            let signed = kalshi_auth::sign(
                exchange.credentials(Role::Trader).unwrap(),
                method.as_str(),
                &format!("/trade-api/v2{path}"),
                now(),
            );
            let mut headers = http::HeaderMap::new();
            signed.unwrap().insert_into(&mut headers);
            let answer = reqwest::Client::new()
                .request(method, format!("{}{path}", exchange.base_url()))
                .headers(headers)
                .header("content-type", "application/json")
                .body(body.to_string())
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), code, "{path}");
            assert_eq!(answer.text().await.unwrap(), expected, "{path}");
        }
    }
}

#[tokio::test]
async fn s19_s21_unknown_fields_and_other_forms_of_numbers_pass_by_rules_only() {
    let (exchange, client) = exchange().await;
    let path = "/portfolio/events/orders";
    let mut more = order("0.10", "1.00");
    more["type"] = json!("limit");
    let other = order(".1", "+1");
    let is_placed =
        async |body: &Value| send(&client, Method::POST, path, body.clone()).await.map(drop).err();
    for (set, expected) in [
        (Rules::default(), [Some(400), Some(400)]),
        (rules(|rules| rules.ignore_unknown_fields = true), [None, Some(400)]),
        (rules(|rules| rules.lenient_numbers = true), [Some(400), None]),
    ] {
        exchange.set_rules(set);
        assert_eq!([is_placed(&more).await, is_placed(&other).await], expected, "{set:?}");
    }
    // What is wrong stays wrong.
    exchange.set_rules(rules(|rules| rules.lenient_numbers = true));
    for wrong in [order("1.5", "1"), order("x", "1"), order("0.10", "1.005")] {
        assert_eq!(is_placed(&wrong).await, Some(400), "{wrong}");
    }
}

#[tokio::test]
async fn rules_are_set_over_the_admin_api_and_those_not_named_are_the_safer_ones() {
    let (exchange, _) = exchange().await;
    let url = format!("{}/rules", exchange.admin_url().unwrap());
    let http = reqwest::Client::new();
    let tell = async |body: Value| {
        let request = http.post(&url).header("content-type", "application/json");
        request.body(body.to_string()).send().await.unwrap().status().as_u16()
    };
    let body = json!({"lenient_numbers": true, "cancel_all_again_after_millis": 500});
    assert_eq!(tell(body).await, 200);
    let set = rules(|rules| {
        rules.lenient_numbers = true;
        rules.cancel_all_again_after = Some(std::time::Duration::from_millis(500));
    });
    assert_eq!(exchange.rules(), set);
    let there = http.get(&url).send().await.unwrap().text().await.unwrap();
    assert_eq!(serde_json::from_str::<Rules>(&there).unwrap(), set);
    assert_eq!(tell(json!({"longest_salt": true})).await, 200);
    assert_eq!(exchange.rules(), rules(|rules| rules.longest_salt = true));
    assert_eq!(tell(json!({"longer_salt": true})).await, 400);
}

#[tokio::test]
async fn what_is_passed_on_to_cf_benchmarks_answers() {
    let (exchange, client) = exchange().await;
    exchange.clock().freeze();
    let get = async |client: &Client, path: &str, query: &[(&str, &str)]| {
        let answer = client.raw(Method::GET, path).query(query).send::<Value>().await;
        answer.map(kalshi_sdk::ResponseValue::into_inner).map_err(|error| status(&error))
    };
    let path = "/cfbenchmarks/v1/values";
    let said = get(&client, path, &[("id", "BRTI")]).await.unwrap();
    let time: chrono::DateTime<chrono::Utc> =
        serde_json::from_value(said["data"]["serverTime"].clone()).unwrap();
    assert_eq!(time, exchange.clock().now());
    let row = &said["data"]["payload"][0];
    let decimals = row["value"].as_str().unwrap().split_once('.').unwrap().1;
    assert_eq!(decimals.len(), 8, "{row}");
    assert_eq!(row["time"], json!(time.timestamp_millis()));
    assert_eq!(get(&client, path, &[]).await, Err(400));
    assert_eq!(get(&client, path, &[("id", "NONE")]).await, Err(404));
    assert_eq!(get(&client, "/cfbenchmarks/v1/elsewhere", &[("id", "BRTI")]).await, Err(404));
    let unsigned = format!("{}{path}?id=BRTI", exchange.base_url());
    assert_eq!(reqwest::get(unsigned).await.unwrap().status(), 401);
    // Each costs 50 tokens: the bucket of the lowest tier holds those of a few.
    exchange.members().set_tier(Role::Trader, Tier::Basic).unwrap();
    let limits = client.get_account_api_limits().send().await.unwrap().into_inner();
    let capacity = limits.read.bucket_capacity;
    // Full again.
    exchange.members().set_tier(Role::Trader, Tier::Basic).unwrap();
    let mut passed = 0;
    while get(&client, path, &[("id", "BRTI")]).await.is_ok() {
        passed += 1;
    }
    assert_eq!(i64::from(passed), capacity / 50, "{capacity}");
}

#[tokio::test]
async fn the_fees_of_an_event_change_at_their_time_and_what_is_held_follows() {
    let (exchange, client) = exchange().await;
    exchange.clock().freeze();
    let maker = exchange.client(Role::Maker).unwrap();
    let market = client.get_market().ticker(TICKER).send().await.unwrap().into_inner().market;
    let event = &*market.event_ticker;
    let hour = std::time::Duration::from_secs(3_600);
    let double = EventFee::new(FeeFormula::QuadraticWithMakerFees, 2_000_000);
    exchange.markets().schedule_event_fee(event, Some(double), hour).unwrap();
    exchange.markets().schedule_event_fee(event, None, 2 * hour).unwrap();
    assert!(exchange.markets().schedule_event_fee("NONE", None, hour).is_err());
    let changes = client.get_event_fee_changes().event_ticker(event).send().await.unwrap();
    let two: Decimal = "2.0".parse().unwrap();
    let multipliers: Vec<Option<Decimal>> =
        changes.event_fee_changes.iter().map(|change| change.fee_multiplier_override).collect();
    assert_eq!(multipliers, [None, Some(two)], "the latest first");

    // The fee of a taker for a hundred contracts at 50 cents, before, meanwhile and afterwards.
    let mut fees = Vec::new();
    for moved in [0, 1, 1] {
        exchange.clock().advance(hour * moved).unwrap();
        let mut resting = order("0.50", "100");
        resting["side"] = json!("ask");
        send(&maker, Method::POST, "/portfolio/events/orders", resting).await.unwrap();
        send(&client, Method::POST, "/portfolio/events/orders", order("0.50", "100"))
            .await
            .unwrap();
        let fills = client.get_fills().ticker(TICKER).limit(1).send().await.unwrap();
        fees.push(fills.fills[0].fee_cost.to_string());
        let shown = client.get_event().event_ticker(event).send().await.unwrap().into_inner();
        assert_eq!(shown.event.fee_multiplier_override, (fees.len() == 2).then_some(two));
    }
    assert_eq!(fees, ["1.7500", "3.5000", "1.7500"]);

    // An order that rests over a change holds the money for the new fee, and gives back what it
    // held.
    let balance = async || client.get_balance().send().await.unwrap().balance_dollars;
    let before = balance().await;
    send(&client, Method::POST, "/portfolio/events/orders", order("0.10", "100")).await.unwrap();
    let cheap = balance().await;
    exchange.markets().schedule_event_fee(event, Some(double), hour).unwrap();
    exchange.clock().advance(hour).unwrap();
    assert!(balance().await < cheap, "makers pay now");
    client.cancel_all_orders().send().await.unwrap();
    assert_eq!(balance().await, before);
    exchange.audit().unwrap();

    // What is scheduled, and what has changed, is in the file of a saved exchange.
    exchange.markets().schedule_event_fee(event, None, hour).unwrap();
    let announced = client.get_event_fee_changes().event_ticker(event).send().await.unwrap();
    let file = std::env::temp_dir().join(format!("kalshi-sim-fees-{}", std::process::id()));
    exchange.save(&file).unwrap();
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let again = Exchange::builder()
        .with_state_file(&file)
        .with_key(Role::Reader, "another", pair.public_key().clone())
        .start()
        .await
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    again.clock().freeze();
    let client = crate::client_with(&again, exchange.credentials(Role::Trader).unwrap().clone());
    let there = client.get_event_fee_changes().event_ticker(event).send().await.unwrap();
    assert_eq!(there.event_fee_changes.len(), announced.event_fee_changes.len());
    let multiplier = async || {
        let shown = client.get_event().event_ticker(event).send().await.unwrap().into_inner();
        shown.event.fee_multiplier_override
    };
    assert_eq!(multiplier().await, Some(two));
    again.clock().advance(5 * hour).unwrap();
    assert_eq!(multiplier().await, None);
}
