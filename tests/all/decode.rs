//! Answers that are successes: what decodes although the document says otherwise, and what must
//! not decode because a guess would cost money.

use std::{
    error::Error as _,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use kalshi_sdk::{
    Client, Dollars, Effect, Error, ErrorKind, ResponseValue,
    types::{ApiKeyScope, GetApiKeysResponse, GetMarketsResponse, MarketStatus},
};
use serde_json::{Value, json};

use crate::support::{
    Answer, Document, Fill, Generator, always, assert_no_key, builder, client, credentials, keys,
    operation, whole_text,
};

async fn api_keys(body: impl Into<Vec<u8>>) -> Result<GetApiKeysResponse, Error> {
    let server = always(Answer::new(200, body)).await;
    client(&server.url()).get_api_keys().send().await.map(ResponseValue::into_inner)
}

async fn markets(body: impl Into<Vec<u8>>) -> Result<GetMarketsResponse, Error> {
    let server = always(Answer::new(200, body)).await;
    client(&server.url()).get_markets().send().await.map(ResponseValue::into_inner)
}

/// Returns a page of two markets with every field, as the document has it.
fn page() -> Value {
    let schema = Document::get().success(operation("get_markets")).1.unwrap();
    Generator::response(Document::get(), Fill::Most, 7).sample(schema).value
}

/// Sets a field of the first market, and fails if the page then decodes.
async fn refused(field: &str, value: Value) -> Error {
    let mut page = page();
    page["markets"][0][field] = value.clone();
    let error = markets(page.to_string()).await.expect_err(&format!("{field} = {value}"));
    assert_eq!(error.kind(), ErrorKind::Decode, "{error:?}");
    assert!(error.is_decode());
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(error.operation_id(), Some("get_markets"));
    assert_eq!(error.status().unwrap(), 200);
    assert_eq!(error.json_path(), Some(format!("markets[0].{field}").as_str()), "{error:?}");
    error
}

#[tokio::test]
async fn a_body_of_any_length_is_read_whole_announced_or_not_in_one_piece_or_many() {
    // Around the sizes at which the buffer is allocated anew.
    for size in [0, 16_400, 65_600, 263_000, 4_194_400] {
        let filler: String = ('a'..='z').cycle().take(size).collect();
        let body = json!({"api_keys": [], "filler": filler}).to_string();
        let mut chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        for piece in body.as_bytes().chunks(3_001) {
            let piece = std::str::from_utf8(piece).unwrap();
            write!(chunked, "{:x}\r\n{piece}\r\n", piece.len()).unwrap();
        }
        chunked.push_str("0\r\n\r\n");
        let open = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
        for answer in [
            Answer::new(200, body.clone()),
            Answer::Close(chunked.into()),
            Answer::Close(open.into()),
        ] {
            let server = always(answer).await;
            let read = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&read);
            let client = builder(&server.url())
                .with_credentials(credentials())
                .on_call(move |call| seen.store(call.bytes, Ordering::SeqCst))
                .build()
                .unwrap();
            // The second one with the length of the first in mind.
            for _ in 0..2 {
                read.store(0, Ordering::SeqCst);
                client.get_api_keys().send().await.unwrap();
                assert_eq!(read.load(Ordering::SeqCst), body.len());
            }
        }
    }
}

#[tokio::test]
async fn keys_without_scopes_decode() {
    let body = r#"{"api_keys":[{"api_key_id":"a952","name":"old"}]}"#;
    let keys = api_keys(body).await.unwrap();
    assert_eq!(keys.api_keys.len(), 1);
    assert_eq!(
        (keys.api_keys[0].api_key_id.as_str(), keys.api_keys[0].name.as_str()),
        ("a952", "old")
    );
    assert!(keys.api_keys[0].scopes.is_empty());
}

#[tokio::test]
async fn a3_null_is_an_empty_list_and_a_response_without_its_list_is_an_error() {
    for body in [r#"{"api_keys":null}"#, r#"{"api_keys":[]}"#] {
        assert!(api_keys(body).await.unwrap().api_keys.is_empty(), "{body}");
    }
    for body in ["{}", r#"{"something":1}"#] {
        let error = api_keys(body).await.unwrap_err();
        assert_eq!((error.kind(), error.json_path()), (ErrorKind::Decode, Some("api_keys")));
        assert_eq!(error.effect(), Effect::Unknown);
    }
    // Within a response, nothing is an empty list, too.
    let body = r#"{"api_keys":[{"api_key_id":"a","name":"n","scopes":null}]}"#;
    assert!(api_keys(body).await.unwrap().api_keys[0].scopes.is_empty());
}

#[tokio::test]
async fn an_unknown_scope_is_kept_and_printed_back_unchanged() {
    let body = json!({"api_keys": [
        {"api_key_id": "a", "name": "n", "scopes": ["read", "write::brand_new", "", "READ"]}
    ]});
    let keys = api_keys(body.to_string()).await.unwrap();
    let scopes = &keys.api_keys[0].scopes;
    assert_eq!(scopes[0], ApiKeyScope::Read);
    assert_eq!(scopes[1], ApiKeyScope::Unknown("write::brand_new".into()));
    assert_eq!(scopes[1].to_string(), "write::brand_new");
    assert!(scopes[2].is_unknown() && scopes[3].is_unknown());
    assert_eq!(serde_json::to_value(&keys).unwrap(), body);
}

#[tokio::test]
async fn unknown_fields_are_ignored_at_every_depth() {
    let body = r#"{"api_keys":[{"api_key_id":"a","name":"n","new":{"deep":[1,null,{}]}}],
                   "new_too":"x","":0}"#;
    assert_eq!(api_keys(body).await.unwrap().api_keys[0].name, "n");
}

#[tokio::test]
async fn a_page_with_an_unknown_enum_a_null_list_fine_prices_and_negative_counts_decodes() {
    let mut page = page();
    page["markets"][0]["status"] = json!("on_fire");
    page["markets"][0]["price_ranges"] = Value::Null;
    page["markets"][0]["yes_bid_dollars"] = json!("0.123456");
    page["markets"][0]["volume_fp"] = json!("-12.50");
    let decoded = markets(page.to_string()).await.unwrap();
    assert_eq!(decoded.markets.len(), 2);
    let market = &decoded.markets[0];
    assert_eq!(market.status, MarketStatus::Unknown("on_fire".into()));
    assert!(market.price_ranges.is_empty());
    assert_eq!(market.yes_bid_dollars, Dollars::from_micros(123_456));
    assert_eq!(market.volume_fp.as_hundredths(), -1_250);
    let again = serde_json::to_value(&decoded).unwrap();
    assert_eq!(again["markets"][0]["status"], "on_fire");
    assert_eq!(again["markets"][0]["yes_bid_dollars"], "0.123456");
    assert_eq!(again["markets"][0]["volume_fp"], "-12.50");
}

#[tokio::test]
async fn the_same_page_without_a_required_scalar_says_what_is_missing_and_where() {
    let mut page = page();
    page["markets"][0]["status"] = json!("on_fire");
    page["markets"][0]["price_ranges"] = Value::Null;
    page["markets"][0].as_object_mut().unwrap().remove("ticker").unwrap();
    let body = page.to_string();
    let error = markets(body.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(error.operation_id(), Some("get_markets"));
    assert_eq!(error.json_path(), Some("markets[0].ticker"));
    assert_eq!(error.status().unwrap(), 200);
    let excerpt = error.excerpt().unwrap();
    assert!(body.starts_with(excerpt.trim_end_matches('…')), "{excerpt}");
    assert!(excerpt.ends_with('…') && excerpt.chars().count() == 257, "{excerpt}");
    let shown = error.to_string();
    for part in ["get_markets", "200", "markets[0].ticker", &body[..40].replace('"', "\\\"")] {
        assert!(shown.contains(part), "{part} is not in: {shown}");
    }
    assert!(error.source().unwrap().to_string().starts_with("missing field `ticker`"));
}

#[tokio::test]
async fn wrong_types_are_refused_where_they_stand() {
    refused("ticker", json!(7)).await;
    refused("ticker", Value::Null).await;
    refused("status", json!(1)).await;
    refused("status", Value::Null).await;
    refused("can_close_early", json!("true")).await;
    refused("can_close_early", json!(1)).await;
    refused("settlement_timer_seconds", json!("7")).await;
    refused("settlement_timer_seconds", json!(7.5)).await;
    refused("open_time", json!("yesterday")).await;
    refused("open_time", json!("")).await;
    refused("open_time", json!(1_700_000_000)).await;
    refused("rules_primary", json!({})).await;
    refused("floor_strike", json!("seven")).await;
    refused("floor_strike", json!("")).await;
    refused("floor_strike", json!(true)).await;
    refused("floor_strike", json!(1e300)).await;
    refused("price_ranges", json!({})).await;
    refused("price_ranges", json!("none")).await;
}

#[tokio::test]
async fn strikes_are_exact_as_numbers_and_as_text() {
    for (value, text) in [
        (json!(99_999.99), "99999.99"),
        (json!(0.1), "0.1"),
        (json!(-3), "-3"),
        (json!("2450.125"), "2450.125"),
    ] {
        let mut page = page();
        page["markets"][0]["floor_strike"] = value;
        let page = markets(page.to_string()).await.unwrap();
        let strike = page.markets[0].floor_strike.unwrap();
        assert_eq!(strike.to_string(), text);
    }
}

#[tokio::test]
async fn a_place_within_lists_is_named_to_the_last_step() {
    let mut page = page();
    page["markets"][1]["price_ranges"][1]["step"] = json!("a cent");
    let error = markets(page.to_string()).await.unwrap_err();
    assert_eq!(error.json_path(), Some("markets[1].price_ranges[1].step"));
}

#[tokio::test]
async fn money_is_refused_rather_than_rounded_or_guessed() {
    refused("yes_bid_dollars", json!(0.56)).await;
    refused("yes_bid_dollars", json!("0.1234567")).await;
    refused("yes_bid_dollars", json!("")).await;
    refused("yes_bid_dollars", json!(" 0.5600")).await;
    refused("yes_bid_dollars", json!("0,56")).await;
    refused("yes_bid_dollars", json!("$0.56")).await;
    refused("yes_bid_dollars", json!("5.6e-1")).await;
    refused("yes_bid_dollars", json!("NaN")).await;
    refused("yes_bid_dollars", json!("9223372036855")).await;
    refused("yes_bid_dollars", Value::Null).await;
    refused("volume_fp", json!(1.5)).await;
    refused("volume_fp", json!("1.005")).await;
    refused("volume_fp", Value::Null).await;
}

#[tokio::test]
async fn integers_that_do_not_fit_are_refused() {
    let page = page().to_string();
    let timer = r#""settlement_timer_seconds":"#;
    for huge in ["9223372036854775808", "-9223372036854775809", "1e400", "18446744073709551616"] {
        let at = page.find(timer).unwrap() + timer.len();
        let end = at + page[at..].find([',', '}']).unwrap();
        let body = format!("{}{huge}{}", &page[..at], &page[end..]);
        let error = markets(body).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{huge}: {error:?}");
        assert_eq!(error.json_path(), Some("markets[0].settlement_timer_seconds"), "{huge}");
    }
}

#[tokio::test]
async fn what_stands_behind_the_value_is_refused() {
    let body = r#"{"api_keys":[{"api_key_id":"a","name":"n"}]}"#;
    for tail in ["x", "{}", "]", "\0", "<html>"] {
        let error = api_keys(format!("{body}{tail}")).await.expect_err(tail);
        assert_eq!(error.kind(), ErrorKind::Decode, "{tail}: {error:?}");
        assert!(error.source().unwrap().to_string().starts_with("trailing characters"), "{tail}");
    }
    for space in [" ", "\n", "\r\n\t "] {
        assert_eq!(api_keys(format!("{space}{body}{space}")).await.unwrap().api_keys.len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_a_decode_error() {
    let bom = "\u{feff}{\"api_keys\":[]}";
    let cut = r#"{"api_keys":[{"api_key_id":"a","na"#;
    let html = "<html><body>Welcome to the hotel's network</body></html>";
    for body in [bom, cut, html, "", " ", "null", "[]", "\"\"", "0", "OK", "{", "{\"api_keys\":[}"]
    {
        let error = api_keys(body).await.expect_err(body);
        assert_eq!(error.kind(), ErrorKind::Decode, "{body:?}: {error:?}");
        assert_eq!((error.status().unwrap().as_u16(), error.effect()), (200, Effect::Unknown));
        assert_eq!(error.excerpt().is_some(), !body.is_empty(), "{body:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_a_decode_error_and_never_a_panic() {
    let mut body = br#"{"api_keys":[{"api_key_id":"a","name":"x"}]}"#.to_vec();
    let at = body.iter().position(|byte| *byte == b'x').unwrap();
    for byte in [0x80, 0xc3, 0xff, 0xed] {
        body[at] = byte;
        let error = api_keys(body.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error:?}");
        assert_eq!(error.json_path(), Some("api_keys[0].name"), "{error:?}");
        assert!(error.excerpt().unwrap().contains('\u{fffd}'));
    }
    // Half of a surrogate pair is valid JSON and no text.
    let error = api_keys(r#"{"api_keys":[{"api_key_id":"a","name":"\ud800"}]}"#).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error:?}");
}

#[tokio::test]
async fn an_answer_nested_without_end_does_not_overflow_the_stack() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    // What is not in the document is skipped over, however deep.
    let body = format!(r#"{{"new":{deep},"api_keys":[]}}"#);
    assert!(api_keys(body).await.unwrap().api_keys.is_empty());
    let mut page = page();
    page["markets"][0]["custom_strike"] = json!({"x": "DEEP"});
    let error = markets(page.to_string().replace("\"DEEP\"", &deep)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error:?}");
    let error = api_keys(format!(r#"{{"api_keys":{deep}}}"#)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error:?}");
}

#[tokio::test]
async fn texts_that_are_escaped_decode_like_plain_ones() {
    let body = r#"{"\u0061pi_keys":[{"api_key_id":"\ud83c\udfb2\/\"","name":"\u0000\n"}]}"#;
    let keys = api_keys(body).await.unwrap();
    assert_eq!(
        (keys.api_keys[0].api_key_id.as_str(), keys.api_keys[0].name.as_str()),
        ("🎲/\"", "\0\n")
    );
}

/// Asks for a new key pair, and gives back the answer or the error.
async fn generated(client: &Client) -> Result<kalshi_sdk::types::GenerateApiKeyResponse, Error> {
    let body = kalshi_sdk::types::GenerateApiKeyRequest::builder().name("bot");
    client.generate_api_key().body(body).send().await.map(ResponseValue::into_inner)
}

#[tokio::test]
async fn a_new_private_key_is_handed_over_and_printed_nowhere() {
    let pem = keys().private_key_pem();
    let body = json!({"api_key_id": "a952", "private_key": pem});
    let server = always(Answer::new(201, body.to_string())).await;
    let answer = generated(&client(&server.url())).await.unwrap();
    assert_eq!(answer.private_key.expose(), pem);
    assert!(format!("{answer:?}").contains("private_key: ** redacted **"), "{answer:?}");
    assert_no_key(&format!("{answer:?} {answer:#?}"), pem);
    // To store it is what it is for.
    assert_eq!(serde_json::to_value(&answer).unwrap()["private_key"], *pem);
}

#[tokio::test]
async fn a_new_private_key_stands_in_no_error_however_the_answer_fails() {
    let pem = keys().private_key_pem();
    let text = serde_json::to_string(pem).unwrap();
    let bodies = [
        format!(r#"{{"private_key":{text}}}"#),
        format!(r#"{{"api_key_id":7,"private_key":{text}}}"#),
        format!(r#"{{"api_key_id":{text},"private_key":7}}"#),
        format!(r#"{{"api_key_id":"a","private_key":[{text}]}}"#),
        format!(r#"{{"api_key_id":"a","private_key":{text},"key_type":{{{text}:1}}}}"#),
        format!(r#"{{"api_key_id":"a","private_key":{text}}} {text}"#),
        format!(r#"{{"api_key_id":"a","private_key":{text}"#),
        format!(r#"{{"api_key_id":"a",{text}:1,{text}:2}}"#),
        text.clone(),
        pem.to_owned(),
    ];
    for body in bodies {
        for status in [201, 200, 302, 400, 500] {
            let server = always(Answer::new(status, body.clone())).await;
            let error = generated(&client(&server.url())).await.expect_err(&body);
            assert_eq!(error.excerpt(), None);
            assert_no_key(&whole_text(&error), pem);
            assert_no_key(
                &format!("{:?} {:?} {:?}", error.code(), error.message(), error.details()),
                pem,
            );
        }
    }
}

#[tokio::test]
async fn a_raw_answer_is_taken_for_a_secret() {
    let pem = keys().private_key_pem();
    let server = always(Answer::new(200, json!({"private_key": pem}).to_string())).await;
    let raw = client(&server.url()).raw(http::Method::POST, "/api_keys/generate");
    let error = raw.send::<Vec<u8>>().await.unwrap_err();
    assert_eq!((error.kind(), error.excerpt()), (ErrorKind::Decode, None));
    assert_no_key(&whole_text(&error), pem);
}
