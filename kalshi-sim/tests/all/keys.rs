//! Signatures, refusals, and the life of a key.

use std::{sync::Arc, time::Duration};

use kalshi_auth::{Credentials, KeyType, ManualClock, UnixMillis, server::KeyPair};
use kalshi_sdk::{
    Client, Effect,
    types::{ApiKeyScope, ApiKeyType, CreateApiKeyRequest, GenerateApiKeyRequest},
};
use kalshi_sim::{Exchange, Role};

use crate::{client_with, registered, status};

#[tokio::test]
async fn rsa_and_ed25519_signatures_are_accepted() {
    let exchange = Exchange::start().await.unwrap();
    for key_type in [KeyType::Rsa, KeyType::Ed25519] {
        let client = client_with(&exchange, registered(&exchange, "another", key_type));
        client.get_api_keys().send().await.unwrap();
        client.get_account_api_limits().send().await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_key_a_wrong_key_and_a_wrong_clock_are_told_apart() {
    let exchange = Exchange::start().await.unwrap();
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let call = async |id: &str, offset: i64| {
        let now = kalshi_auth::Clock::now(&kalshi_auth::SystemClock).as_millis();
        let time = UnixMillis::from_millis(now + offset);
        let client = Client::builder()
            .with_environment(exchange.environment())
            .with_credentials(Credentials::from_pem(id, pair.private_key_pem()).unwrap())
            .with_clock(Arc::new(ManualClock::at(time)))
            .build()
            .unwrap();
        client.get_api_keys().send().await.unwrap_err()
    };
    let unknown = call("nobody", 0).await;
    assert_eq!((status(&unknown), unknown.details()), (401, Some("NOT_FOUND")));
    let wrong = call(kalshi_sim::DEFAULT_KEY_ID, 0).await;
    assert_eq!((status(&wrong), wrong.details()), (401, Some("INCORRECT_API_KEY_SIGNATURE")));
    assert_eq!(wrong.code(), Some("authentication_error"));
    exchange.members().add_key(Role::Trader, "known", &pair.public_key().to_pem()).unwrap();
    for offset in [-120_000, 120_000] {
        let late = call("known", offset).await;
        assert_eq!((status(&late), late.code()), (401, Some("header_timestamp_expired")));
    }
}

#[tokio::test]
async fn a_private_operation_without_headers_is_refused_and_a_public_one_is_not() {
    let exchange = Exchange::start().await.unwrap();
    let client = Client::builder().with_environment(exchange.environment()).build().unwrap();
    client.get_exchange_status().send().await.unwrap();
    let error = client
        .raw(http::Method::GET, "/api_keys")
        .public()
        .send::<serde_json::Value>()
        .await
        .unwrap_err();
    assert_eq!((status(&error), error.code()), (401, Some("signature_is_missing_from_headers")));
}

#[tokio::test]
async fn a_generated_key_works_until_it_is_deleted() {
    let exchange = Exchange::start().await.unwrap();
    let owner = exchange.client(Role::Trader).unwrap();
    for key_type in [ApiKeyType::Rsa, ApiKeyType::Ed25519] {
        let label = if key_type == ApiKeyType::Rsa { "RSA PRIVATE KEY" } else { "PRIVATE KEY" };
        let request = GenerateApiKeyRequest::builder().name("made").key_type(key_type);
        let made = owner.generate_api_key().body(request).send().await.unwrap().into_inner();
        assert!(made.private_key.expose().starts_with(&format!("-----BEGIN {label}-----")));
        assert!(!format!("{made:?}").contains("BEGIN"));
        let pem = made.private_key.expose();
        let user = client_with(&exchange, Credentials::from_pem(&made.api_key_id, pem).unwrap());
        let keys = user.get_api_keys().send().await.unwrap().into_inner().api_keys;
        assert!(keys.iter().any(|key| key.api_key_id == made.api_key_id));
        owner.delete_api_key().api_key(&*made.api_key_id).send().await.unwrap();
        let error = user.get_api_keys().send().await.unwrap_err();
        assert_eq!((status(&error), error.details()), (401, Some("NOT_FOUND")));
        let error = owner.delete_api_key().api_key(&*made.api_key_id).send().await.unwrap_err();
        assert!(error.is_not_found());
    }
}

#[tokio::test]
async fn a_key_of_ones_own_is_registered_by_its_public_half() {
    let exchange = Exchange::start().await.unwrap();
    let owner = exchange.client(Role::Trader).unwrap();
    let pair = KeyPair::generate(KeyType::Ed25519).unwrap();
    let request = CreateApiKeyRequest::builder()
        .name("mine")
        .public_key(pair.public_key().to_pem())
        .scopes(vec![ApiKeyScope::Read]);
    let id = owner.create_api_key().body(request).send().await.unwrap().into_inner().api_key_id;
    let reader =
        client_with(&exchange, Credentials::from_pem(&id, pair.private_key_pem()).unwrap());
    let keys = reader.get_api_keys().send().await.unwrap().into_inner().api_keys;
    let mine = keys.iter().find(|key| key.api_key_id == id).unwrap();
    assert_eq!((mine.name.as_str(), &mine.scopes[..]), ("mine", &[ApiKeyScope::Read][..]));

    let error = reader.delete_api_key().api_key(&*id).send().await.unwrap_err();
    assert_eq!((status(&error), error.effect()), (403, Effect::Rejected));
}

#[tokio::test]
async fn keys_that_make_no_sense_are_refused() {
    let exchange = Exchange::start().await.unwrap();
    let owner = exchange.client(Role::Trader).unwrap();
    let new =
        |name: &str| GenerateApiKeyRequest::builder().name(name).key_type(ApiKeyType::Ed25519);
    for request in [
        new(""),
        new("a").scopes(vec![ApiKeyScope::Write]),
        new("a").scopes(vec![ApiKeyScope::Unknown("write::brand_new".into())]),
        new("a").subaccount(64),
        new("a").key_type(ApiKeyType::Unknown("dsa".into())),
    ] {
        let error = owner.generate_api_key().body(request).send().await.unwrap_err();
        assert_eq!((status(&error), error.code()), (400, Some("invalid_parameters")), "{error}");
    }
    let request = CreateApiKeyRequest::builder().name("a").public_key("not a key");
    assert_eq!(status(&owner.create_api_key().body(request).send().await.unwrap_err()), 400);
    let keys = owner.get_api_keys().send().await.unwrap().into_inner().api_keys;
    assert!(keys.iter().all(|key| key.name != "a"), "nothing was made");
}

#[tokio::test]
async fn a_key_bound_to_a_subaccount_cannot_manage_keys() {
    let exchange = Exchange::start().await.unwrap();
    let owner = exchange.client(Role::Trader).unwrap();
    let request =
        GenerateApiKeyRequest::builder().name("bound").key_type(ApiKeyType::Ed25519).subaccount(3);
    let made = owner.generate_api_key().body(request).send().await.unwrap().into_inner();
    let pem = made.private_key.expose();
    let bound = client_with(&exchange, Credentials::from_pem(&made.api_key_id, pem).unwrap());
    assert!(bound.get_api_keys().send().await.unwrap_err().is_forbidden());
}

#[tokio::test]
async fn the_exchange_goes_by_its_own_clock() {
    let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(1_700_000_000_000)));
    let exchange = Exchange::builder().with_clock(Arc::clone(&clock) as _).start().await.unwrap();
    let client = Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(exchange.credentials(Role::Trader).unwrap().clone())
        .with_clock(Arc::clone(&clock) as _)
        .build()
        .unwrap();
    client.get_api_keys().send().await.unwrap();
    clock.advance(Duration::from_secs(3_600));
    client.get_api_keys().send().await.unwrap();
    let time = client.get_user_data_timestamp().send().await.unwrap().as_of_time;
    assert_eq!(time.timestamp(), 1_700_003_600);
}
