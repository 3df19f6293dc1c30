//! The verdicts about requests: a server that goes by the changed document, to the letter, refuses
//! what the deployed client sends, and one that goes by the document as it was takes it.

use kalshi_gen::diff::{WireImpact, diff};
use kalshi_sdk::{Client, Effect, Error, types};
use serde_json::{Value, json};

use crate::support::{Answer, Document, Fill, Generator, Request, Server, client, operation};

const OLD: &str = include_str!("../../openapi.yaml");

/// Follows a reference, if there is one.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value.get("$ref").or_else(|| value.pointer("/allOf/0/$ref"));
    match reference.and_then(Value::as_str) {
        Some(reference) => resolved(document, document.pointer(&reference[1..]).unwrap()),
        None => value,
    }
}

/// Reports whether a value fits a schema, as far as the claims below need it.
fn fits(document: &Value, schema: &Value, value: &Value) -> bool {
    let schema = resolved(document, schema);
    let kind = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("object") => value.is_object(),
        _ => true,
    };
    let listed = schema["enum"].as_array().is_none_or(|values| values.contains(value));
    let number = value.as_i64();
    let low = schema["minimum"].as_i64().zip(number).is_none_or(|(least, is)| is >= least);
    let high = schema["maximum"].as_i64().zip(number).is_none_or(|(most, is)| is <= most);
    let text = value.as_str();
    let short =
        schema["maxLength"].as_u64().zip(text).is_none_or(|(most, is)| is.len() as u64 <= most);
    let matches = schema["pattern"].as_str().zip(text).is_none_or(|(pattern, is)| {
        assert_eq!(pattern, "^[0-9]*$", "the only pattern that is known here");
        is.bytes().all(|byte| byte.is_ascii_digit())
    });
    let required = schema["required"].as_array().into_iter().flatten();
    let complete = required.filter_map(Value::as_str).all(|name| value.get(name).is_some());
    let fields = schema["properties"].as_object().into_iter().flatten();
    let inner = fields
        .into_iter()
        .all(|(name, schema)| value.get(name).is_none_or(|value| fits(document, schema, value)));
    kind && listed && low && high && short && matches && complete && inner
}

/// Returns the status by the document: 404, 415, 400, or a success without contents.
fn status(document: &Value, request: &Request) -> u16 {
    let path = request.path().trim_start_matches("/trade-api/v2").to_owned();
    let path = if path.starts_with("/api_keys/") { "/api_keys/{api_key}".to_owned() } else { path };
    let Some(operation) =
        document["paths"].get(path).and_then(|p| p.get(request.method.to_lowercase()))
    else {
        return 404;
    };
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] != "query" {
            continue;
        }
        let sent = request.query().into_iter().find(|(name, _)| parameter["name"] == name.as_str());
        match sent {
            None if parameter["required"] == true => return 400,
            None => {}
            Some((_, text)) => {
                let schema = resolved(document, &parameter["schema"]);
                let value = match schema["type"].as_str() {
                    Some("integer") => text.parse::<i64>().map_or(json!(text), |n| json!(n)),
                    _ => json!(text),
                };
                if !fits(document, schema, &value) {
                    return 400;
                }
            }
        }
    }
    if let Some(body) = operation.get("requestBody") {
        if request.body.is_empty() {
            return if body["required"] == true { 400 } else { 204 };
        }
        let media = request.header("content-type").unwrap_or_default();
        let Some(content) = body["content"].get(media) else { return 415 };
        if !fits(document, &content["schema"], &request.json()) {
            return 400;
        }
    }
    204
}

async fn exchange(document: &Value) -> Server {
    let document = document.clone();
    Server::start(move |request| Answer::new(status(&document, request), "")).await
}

/// Reports whether the server refused; its successes have no body that could be decoded.
fn refused<T>(answer: Result<T, Error>) -> bool {
    match answer {
        Ok(_) => false,
        Err(error) => {
            assert_ne!(error.effect(), Effect::NotSent, "{error}");
            error.effect() == Effect::Rejected
        }
    }
}

async fn markets(client: Client) -> bool {
    refused(client.get_markets().limit(5).event_ticker("SOME-EVENT").send().await)
}

async fn upgrade(client: Client) -> bool {
    refused(client.delete_api_key().api_key("a").send().await)
}

async fn order(client: Client) -> bool {
    let (schema, _) = Document::get().body(operation("create_order_v2")).unwrap();
    let sample = Generator::request(Document::get(), Fill::Least, 7).sample(schema);
    let mut value = sample.value;
    value["expiration_time"] = json!(1_790_000_000);
    value["time_in_force"] = json!("fill_or_kill");
    let order: types::CreateOrderV2Request = serde_json::from_value(value).unwrap();
    refused(client.create_order_v2().body(order).send().await)
}

/// Runs one kind of call against the document before and after an edit.
async fn claim<F: Future<Output = bool>>(
    id: &str,
    call: impl Fn(Client) -> F,
    edit: impl FnOnce(&mut Value),
) {
    let old = kalshi_gen::written_out(kalshi_gen::parse(OLD).unwrap());
    let mut new = old.clone();
    edit(&mut new);
    let changes = diff(&old.to_string(), &new.to_string()).unwrap().changes;
    let change = changes.iter().find(|change| change.id == id);
    let change = change.unwrap_or_else(|| panic!("no {id} in {changes:#?}"));
    assert_eq!(change.wire, WireImpact::Breaks, "{id}");
    let before = exchange(&old).await;
    assert!(!call(client(&before.url())).await, "{id}: refused before");
    let after = exchange(&new).await;
    assert!(call(client(&after.url())).await, "{id}: taken afterwards");
}

fn at<'a>(document: &'a mut Value, pointer: &str) -> &'a mut Value {
    document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}: no such place"))
}

const GET_MARKETS: &str = "/paths/~1markets/get/parameters";
const ORDER: &str = "/components/schemas/CreateOrderV2Request";
const CREATE: &str = "/paths/~1portfolio~1events~1orders/post";

#[tokio::test]
async fn narrower_parameters_refuse_what_the_client_sends() {
    let limit = format!("{GET_MARKETS}/0/schema");
    let event = format!("{GET_MARKETS}/2/schema");
    claim("request-parameter-max-decreased", markets, |d| at(d, &limit)["maximum"] = json!(4))
        .await;
    claim("request-parameter-min-increased", markets, |d| at(d, &limit)["minimum"] = json!(6))
        .await;
    claim("request-parameter-became-enum", markets, |d| at(d, &event)["enum"] = json!(["OTHER"]))
        .await;
    claim("request-parameter-type-changed", markets, |d| at(d, &event)["type"] = json!("integer"))
        .await;
    claim("request-parameter-became-required", markets, |d| {
        at(d, &format!("{GET_MARKETS}/1"))["required"] = json!(true);
    })
    .await;
    claim("new-required-request-parameter", markets, |d| {
        let fresh = json!({"name": "shard", "in": "query", "required": true, "schema": {"type": "integer"}});
        at(d, GET_MARKETS).as_array_mut().unwrap().push(fresh);
    })
    .await;
}

/// Returns the impact that the comparison sees in an edit, for one id.
#[track_caller]
fn wire(edit: impl FnOnce(&mut Value), id: &str) -> (Value, WireImpact) {
    let old = kalshi_gen::written_out(kalshi_gen::parse(OLD).unwrap());
    let mut new = old.clone();
    edit(&mut new);
    let changes = diff(&old.to_string(), &new.to_string()).unwrap().changes;
    let change = changes.iter().find(|change| change.id == id);
    let change = change.unwrap_or_else(|| panic!("no {id} in {changes:#?}"));
    (new, change.wire)
}

#[tokio::test]
async fn d2_a_bound_that_was_never_published_refuses_some_values_of_the_caller() {
    let event = format!("{GET_MARKETS}/2/schema");
    let bounds = [
        ("request-parameter-max-length-set", "maxLength", json!(4)),
        ("request-parameter-pattern-added", "pattern", json!("^[0-9]*$")),
    ];
    for (id, bound, value) in bounds {
        let (new, impact) = wire(|d| at(d, &event)[bound] = value, id);
        assert_eq!(impact, WireImpact::Behaves, "{id}");
        let server = exchange(&new).await;
        let call = |event: &str| {
            let client = client(&server.url());
            let event = event.to_owned();
            async move { refused(client.get_markets().event_ticker(event).send().await) }
        };
        assert!(!call("1234").await, "{id}: what fits goes on as before");
        assert!(call("SOME-EVENT").await, "{id}: what does not is up to the caller");
    }
}

#[tokio::test]
async fn d2_a_bound_that_refuses_the_text_of_our_type_refuses_every_call() {
    claim("request-property-pattern-added", order, |d| {
        at(d, "/components/schemas/FixedPointDollars")["pattern"] = json!("^[0-9]*$");
    })
    .await;
}

#[tokio::test]
async fn narrower_bodies_refuse_what_the_client_sends() {
    let field = |name: &str| format!("{ORDER}/properties/{name}");
    claim("request-property-became-required", order, |d| {
        at(d, &format!("{ORDER}/required")).as_array_mut().unwrap().push(json!("client_order_id"));
    })
    .await;
    claim("request-property-type-changed", order, |d| {
        *at(d, &field("expiration_time")) = json!({"type": "string"});
    })
    .await;
    claim("request-property-enum-value-removed", order, |d| {
        at(d, &field("time_in_force"))["enum"] = json!(["good_till_canceled"]);
    })
    .await;
    claim("request-media-type-removed", order, |d| {
        let content = at(d, &format!("{CREATE}/requestBody/content")).as_object_mut().unwrap();
        let json = content.remove("application/json").unwrap();
        content.insert("application/cbor".to_owned(), json);
    })
    .await;
    claim("request-body-added-required", upgrade, |d| {
        let body = json!({"required": true, "content": {"application/json": {"schema": {"type": "object"}}}});
        at(d, "/paths/~1api_keys~1{api_key}/delete")["requestBody"] = body;
    })
    .await;
    claim("api-removed-without-deprecation", order, |d| {
        at(d, "/paths").as_object_mut().unwrap().remove("/portfolio/events/orders");
    })
    .await;
}

/// Checks that every id of the comparison's own corpus that breaks the wire of the Trade API is
/// claimed here or in `claims`, or says why not.
#[test]
fn every_breaking_id_is_validated_against_the_client() {
    const OTHERWISE: [(&str, &str); 4] = [
        ("api-removed-with-deprecation", "the wire is that of a removal without a warning"),
        ("request-parameter-max-length-decreased", "one rule for bounds, shown by `max-decreased`"),
        ("request-property-max-items-decreased", "one rule for bounds, shown by the parameters'"),
        ("request-property-became-not-nullable", "no request of the document sends null"),
    ];
    let claimed = concat!(include_str!("claims.rs"), include_str!("claims_requests.rs"));
    let corpus =
        kalshi_gen::parse(include_str!("../../kalshi-gen/tests/diff/corpus.yaml")).unwrap();
    let mut seen = 0;
    for case in corpus.as_array().unwrap() {
        if case.get("base").is_some() {
            continue;
        }
        for line in case["expect"].as_array().unwrap() {
            let words: Vec<&str> = line.as_str().unwrap().split(' ').collect();
            if words[2] != "breaks" {
                continue;
            }
            seen += 1;
            let quoted = format!("\"{}\"", words[0]);
            assert!(
                claimed.contains(&quoted) || OTHERWISE.iter().any(|(id, _)| *id == words[0]),
                "{} is claimed nowhere",
                words[0]
            );
        }
    }
    assert!(seen > 20, "{seen}");
}
