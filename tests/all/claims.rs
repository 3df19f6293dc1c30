//! The verdicts of `cargo gen diff` about deployed clients, validated against this one: the document is
//! changed, the comparison says who breaks, and an answer or a refusal of the new kind is sent to
//! the client as it is.

use kalshi_gen::diff::{Change, WireImpact, diff};
use kalshi_sdk::{Effect, ErrorKind, types};
use serde_json::{Value, json};

use crate::support::{Answer, Document, Fill, Generator, always, builder, client, operation};

const OLD: &str = include_str!("../../openapi.yaml");
const MARKET: &str = "/components/schemas/Market";
const GET_MARKETS: &str = "/paths/~1markets/get";

/// Returns the changes that follow when the published document is edited.
#[track_caller]
fn changes(edit: impl FnOnce(&mut Value)) -> Vec<Change> {
    // Shared parameters in place, so that an edit is one of a single operation.
    let before = kalshi_gen::written_out(kalshi_gen::parse(OLD).unwrap());
    let mut document = before.clone();
    edit(&mut document);
    assert_ne!(document, before, "the edit does nothing");
    diff(&before.to_string(), &document.to_string()).unwrap().changes
}

fn at<'a>(document: &'a mut Value, pointer: &str) -> &'a mut Value {
    document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}: no such place"))
}

fn unrequire(document: &mut Value, pointer: &str, field: &str) {
    let names = at(document, &format!("{pointer}/required")).as_array_mut().unwrap();
    names.retain(|name| name != field);
}

/// Returns the verdict about one id, which must be among the changes.
#[track_caller]
fn wire(changes: &[Change], id: &str) -> WireImpact {
    let found = changes.iter().find(|change| change.id == id);
    found.unwrap_or_else(|| panic!("no {id} in {changes:#?}")).wire
}

/// Returns a page of markets with every field, as the document has it.
fn page() -> Value {
    let schema = Document::get().success(operation("get_markets")).1.unwrap();
    Generator::response(Document::get(), Fill::Most, 7).sample(schema).value
}

/// One claim about the markets: how the document changes, how the answers change with it.
struct Claim {
    id: &'static str,
    document: fn(&mut Value),
    answer: fn(&mut Value),
    verdict: WireImpact,
}

fn field<'a>(document: &'a mut Value, name: &str) -> &'a mut Value {
    at(document, &format!("{MARKET}/properties/{name}"))
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn claims() -> Vec<Claim> {
    let claim = |id, verdict, document, answer| Claim { id, document, answer, verdict };
    vec![
        claim(
            "response-required-property-removed",
            WireImpact::Breaks,
            |d| {
                unrequire(d, MARKET, "ticker");
                at(d, &format!("{MARKET}/properties")).as_object_mut().unwrap().remove("ticker");
            },
            |m| drop(m.as_object_mut().unwrap().remove("ticker")),
        ),
        claim(
            "response-required-property-removed",
            WireImpact::Works,
            |d| {
                unrequire(d, MARKET, "price_ranges");
                at(d, &format!("{MARKET}/properties"))
                    .as_object_mut()
                    .unwrap()
                    .remove("price_ranges");
            },
            |m| drop(m.as_object_mut().unwrap().remove("price_ranges")),
        ),
        claim(
            "response-optional-property-removed",
            WireImpact::Works,
            |d| {
                drop(
                    at(d, &format!("{MARKET}/properties"))
                        .as_object_mut()
                        .unwrap()
                        .remove("mve_collection_ticker"),
                );
            },
            |m| drop(m.as_object_mut().unwrap().remove("mve_collection_ticker")),
        ),
        claim(
            "response-optional-property-added",
            WireImpact::Works,
            |d| at(d, &format!("{MARKET}/properties"))["brand_new"] = json!({"type": "string"}),
            |m| m["brand_new"] = json!("x"),
        ),
        claim(
            "response-property-became-optional",
            WireImpact::Breaks,
            |d| unrequire(d, MARKET, "close_time"),
            |m| drop(m.as_object_mut().unwrap().remove("close_time")),
        ),
        claim(
            "response-property-became-optional",
            WireImpact::Works,
            |d| unrequire(d, MARKET, "price_ranges"),
            |m| drop(m.as_object_mut().unwrap().remove("price_ranges")),
        ),
        claim(
            "response-property-became-optional",
            WireImpact::Works,
            |d| unrequire(d, MARKET, "rules_primary"),
            |m| drop(m.as_object_mut().unwrap().remove("rules_primary")),
        ),
        claim(
            "response-property-became-nullable",
            WireImpact::Works,
            |d| field(d, "rules_primary")["nullable"] = json!(true),
            |m| m["rules_primary"] = Value::Null,
        ),
        claim(
            "response-property-became-nullable",
            WireImpact::Breaks,
            |d| field(d, "ticker")["nullable"] = json!(true),
            |m| m["ticker"] = Value::Null,
        ),
        claim(
            "response-property-became-nullable",
            WireImpact::Works,
            |d| field(d, "mve_collection_ticker")["nullable"] = json!(true),
            |m| m["mve_collection_ticker"] = Value::Null,
        ),
        claim(
            "response-property-became-nullable",
            WireImpact::Works,
            |d| field(d, "price_ranges")["nullable"] = json!(true),
            |m| m["price_ranges"] = Value::Null,
        ),
        claim(
            "response-property-became-not-nullable",
            WireImpact::Works,
            |d| drop(field(d, "cap_strike").as_object_mut().unwrap().remove("nullable")),
            |m| m["cap_strike"] = json!(1.5),
        ),
        claim(
            "response-property-became-required",
            WireImpact::Works,
            |d| {
                at(d, &format!("{MARKET}/required"))
                    .as_array_mut()
                    .unwrap()
                    .push(json!("is_provisional"));
            },
            |m| m["is_provisional"] = json!(true),
        ),
        claim(
            "response-property-enum-value-added",
            WireImpact::Works,
            |d| field(d, "status")["enum"].as_array_mut().unwrap().push(json!("brand_new")),
            |m| m["status"] = json!("brand_new"),
        ),
        claim(
            "response-property-became-not-enum",
            WireImpact::Works,
            |d| drop(field(d, "status").as_object_mut().unwrap().remove("enum")),
            |m| m["status"] = json!("anything at all"),
        ),
        claim(
            "response-property-type-changed",
            WireImpact::Breaks,
            |d| *field(d, "settlement_timer_seconds") = json!({"type": "string"}),
            |m| m["settlement_timer_seconds"] = json!("60"),
        ),
        claim(
            "response-property-type-changed",
            WireImpact::Breaks,
            |d| *field(d, "settlement_timer_seconds") = json!({"type": "number"}),
            |m| m["settlement_timer_seconds"] = json!(60.5),
        ),
        claim(
            "response-property-type-changed",
            WireImpact::Works,
            |d| field(d, "cap_strike")["type"] = json!("integer"),
            |m| m["cap_strike"] = json!(60),
        ),
        claim(
            "response-property-type-changed",
            WireImpact::Behaves,
            |d| *field(d, "yes_bid_dollars") = json!({"type": "integer"}),
            |m| m["yes_bid_dollars"] = json!(56),
        ),
        claim(
            "response-property-format-changed",
            WireImpact::Breaks,
            |d| drop(field(d, "close_time").as_object_mut().unwrap().remove("format")),
            |m| m["close_time"] = json!("soon"),
        ),
        claim(
            "response-property-format-changed",
            WireImpact::Breaks,
            |d| *field(d, "volume_fp") = json!({"$ref": "#/components/schemas/FixedPointDollars"}),
            |m| m["volume_fp"] = json!("1.2345"),
        ),
        claim(
            "response-property-format-changed",
            WireImpact::Works,
            |d| {
                *field(d, "yes_bid_dollars") =
                    json!({"$ref": "#/components/schemas/FixedPointCount"});
            },
            |m| m["yes_bid_dollars"] = json!("0.56"),
        ),
        claim(
            "response-property-max-length-set",
            WireImpact::Works,
            |d| field(d, "ticker")["maxLength"] = json!(3),
            |m| m["ticker"] = json!("a much longer ticker than that"),
        ),
    ]
}

#[tokio::test]
async fn an_answer_of_the_new_shape_decodes_exactly_where_the_verdict_says_so() {
    for (index, claim) in claims().into_iter().enumerate() {
        let verdict = wire(&changes(claim.document), claim.id);
        assert_eq!(verdict, claim.verdict, "claim {index}, {}", claim.id);
        let mut page = page();
        (claim.answer)(&mut page["markets"][0]);
        let server = always(Answer::json(&page)).await;
        let answer = client(&server.url()).get_markets().send().await;
        match verdict {
            WireImpact::Breaks => {
                let error = answer.expect_err(&format!("claim {index}, {} decoded", claim.id));
                assert_eq!(error.kind(), ErrorKind::Decode, "claim {index}, {}", claim.id);
            }
            _ => drop(answer.unwrap_or_else(|e| panic!("claim {index}, {}: {e}", claim.id))),
        }
    }
}

#[tokio::test]
async fn whole_numbers_for_dollars_are_read_as_whole_dollars() {
    let mut page = page();
    page["markets"][0]["yes_bid_dollars"] = json!(56);
    let server = always(Answer::json(&page)).await;
    let page = client(&server.url()).get_markets().send().await.unwrap();
    assert_eq!(
        page.markets[0].yes_bid_dollars.to_string(),
        "56.0000",
        "this is why it is not `works`"
    );
}

#[tokio::test]
async fn a_removed_operation_fails() {
    let found =
        changes(|d| drop(at(d, "/paths").as_object_mut().unwrap().remove("/exchange/status")));
    assert_eq!(wire(&found, "api-removed-without-deprecation"), WireImpact::Breaks);
    let server = always(Answer::new(404, r#"{"error":"not found"}"#)).await;
    let error = client(&server.url()).get_exchange_status().send().await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[tokio::test]
async fn a_public_operation_is_not_signed_when_the_exchange_asks_for_it() {
    let found = changes(|d| at(d, GET_MARKETS)["security"] = json!([{"kalshiAccessKey": []}]));
    assert_eq!(wire(&found, "api-security-added"), WireImpact::Breaks);
    let server = always(Answer::new(401, "{}")).await;
    let error = client(&server.url()).get_markets().send().await.unwrap_err();
    assert_eq!(error.effect(), Effect::Rejected);
    assert!(!server.request().is_signed(), "the deployed client thinks it public");
}

#[tokio::test]
async fn what_is_newly_required_is_not_sent() {
    let parameter =
        json!({"name": "shard", "in": "query", "required": true, "schema": {"type": "integer"}});
    let found = changes(|d| {
        at(d, &format!("{GET_MARKETS}/parameters")).as_array_mut().unwrap().push(parameter);
    });
    assert_eq!(wire(&found, "new-required-request-parameter"), WireImpact::Breaks);
    let found =
        changes(|d| at(d, &format!("{GET_MARKETS}/parameters/0"))["required"] = json!(true));
    assert_eq!(wire(&found, "request-parameter-became-required"), WireImpact::Breaks);
    let found = changes(|d| {
        let body = at(d, "/components/schemas/CreateOrderV2Request");
        body["properties"]["shard"] = json!({"type": "integer"});
        body["required"].as_array_mut().unwrap().push(json!("shard"));
    });
    assert_eq!(wire(&found, "new-required-request-property"), WireImpact::Breaks);

    let server = always(Answer::new(400, "{}")).await;
    let client = client(&server.url());
    assert_eq!(client.get_markets().send().await.unwrap_err().effect(), Effect::Rejected);
    assert_eq!(server.last().query(), [], "neither `shard` nor `limit`");
    let order = order();
    let error = client.create_order_v2().body(order).send().await.unwrap_err();
    assert_eq!(error.effect(), Effect::Rejected);
    let sent = server.last().json();
    assert!(sent.get("ticker").is_some() && sent.get("shard").is_none(), "{sent}");
}

/// Returns an order with whatever it must have.
fn order() -> types::CreateOrderV2Request {
    let (schema, _) = Document::get().body(operation("create_order_v2")).unwrap();
    let sample = Generator::request(Document::get(), Fill::Least, 7).sample(schema);
    serde_json::from_value(sample.value).unwrap()
}

#[tokio::test]
async fn what_was_removed_from_a_request_is_still_sent() {
    let found = changes(|d| {
        drop(at(d, &format!("{GET_MARKETS}/parameters")).as_array_mut().unwrap().remove(0));
    });
    assert_eq!(wire(&found, "request-parameter-removed"), WireImpact::Behaves);
    let server = always(Answer::json(&page())).await;
    client(&server.url()).get_markets().limit(5).send().await.unwrap();
    assert_eq!(server.request().query(), [("limit".to_owned(), "5".to_owned())]);

    let found = changes(|d| {
        let values = at(d, "/components/schemas/BookSide/enum").as_array_mut().unwrap();
        values.remove(0);
    });
    assert_eq!(wire(&found, "request-property-enum-value-removed"), WireImpact::Breaks);
    let gone =
        kalshi_gen::parse(OLD).unwrap().pointer("/components/schemas/BookSide/enum/0").cloned();
    let mut order = order();
    order.side = serde_json::from_value(gone.clone().unwrap()).unwrap();
    let server = always(Answer::new(400, "{}")).await;
    client(&server.url()).create_order_v2().body(order).send().await.unwrap_err();
    assert_eq!(server.request().json().get("side"), gone.as_ref());
}

#[tokio::test]
async fn defaults_are_left_to_the_exchange_and_bounds_are_not_checked() {
    let limit = format!("{GET_MARKETS}/parameters/0/schema");
    let found = changes(|d| at(d, &limit)["default"] = json!(7));
    assert_eq!(wire(&found, &found[0].id.clone()), WireImpact::Behaves);
    let found = changes(|d| at(d, &limit)["maximum"] = json!(1));
    assert_eq!(wire(&found, &found[0].id.clone()), WireImpact::Breaks);
    let server = always(Answer::json(&page())).await;
    let client = client(&server.url());
    client.get_markets().send().await.unwrap();
    assert_eq!(server.last().query(), [], "an omitted parameter stays omitted");
    client.get_markets().limit(1_000_000).send().await.unwrap();
    assert_eq!(server.last().query().len(), 1, "what is too large is sent all the same");
}

#[tokio::test]
async fn any_2xx_with_the_body_is_the_success_and_one_without_is_not() {
    let success = format!("{GET_MARKETS}/responses");
    let moved = changes(|d| {
        let responses = at(d, &success).as_object_mut().unwrap();
        let body = responses.remove("200").unwrap();
        responses.insert("202".to_owned(), body);
    });
    assert_eq!(wire(&moved, "response-success-status-removed"), WireImpact::Works);
    let server = always(Answer::new(202, page().to_string())).await;
    client(&server.url()).get_markets().send().await.unwrap();

    let emptied = changes(|d| {
        let responses = at(d, &success).as_object_mut().unwrap();
        responses.remove("200");
        responses.insert("204".to_owned(), json!({"description": "No Content"}));
    });
    assert_eq!(wire(&emptied, "response-media-type-removed"), WireImpact::Breaks);
    let server = always(Answer::new(204, "")).await;
    client(&server.url()).get_markets().send().await.unwrap_err();
}

#[tokio::test]
async fn a_body_where_none_was_expected_is_no_success() {
    let place = "/paths/~1api_keys~1{api_key}/delete/responses/204";
    let content = json!({"application/json": {"schema": {"type": "object"}}});
    let found = changes(|d| at(d, place)["content"] = content);
    assert_eq!(wire(&found, "response-media-type-added"), WireImpact::Breaks);
    let server = always(Answer::new(200, r#"{"anything":1}"#)).await;
    let error = client(&server.url()).delete_api_key().api_key("a").send().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Decode, Effect::Unknown));
    let server = always(Answer::new(200, "{}")).await;
    client(&server.url()).delete_api_key().api_key("a").send().await.unwrap();
}

#[tokio::test]
async fn calls_that_lack_something_required_compile_and_are_refused_before_sending() {
    // The source impact `refuses`: a builder checks when it runs.
    let server = always(Answer::new(500, "{}")).await;
    let error = client(&server.url()).create_order_v2().send().await.unwrap_err();
    assert_eq!(error.effect(), Effect::NotSent);
    let error = client(&server.url()).get_market().send().await.unwrap_err();
    assert_eq!(error.effect(), Effect::NotSent);
    let unsigned = builder(&server.url()).build().unwrap();
    assert_eq!(unsigned.get_balance().send().await.unwrap_err().effect(), Effect::NotSent);
    // A field of a body is another matter: without it the call does not compile, as the doctests of
    // `kalshi_sdk::request::Complete` hold.
    assert_eq!(server.requests().len(), 0);
}
